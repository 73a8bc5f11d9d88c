"""How deep the core's pipelines are: the constants that the cycle model counts with.

They are facts of the RTL, written once more here because the model must not need the RTL to run.
`tests/test_perf_latency.py` holds every one of them to the RTL's own. All latencies are in cycles. Functions take a
`golden.config.CoreConfig`, or `CoreArrays`, which holds many cores at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from golden import formats

Ints = npt.NDArray[np.int64]
IntLike = int | Ints
"""One number, or an array of them that broadcasts against the others."""


class CoreShape(Protocol):
    """What of a core its cycles depend on; `golden.config.CoreConfig` is one."""

    @property
    def rows(self) -> Any:
        """Query rows R."""

    @property
    def lanes(self) -> Any:
        """Multipliers of a row, W."""

    @property
    def output_lanes(self) -> Any:
        """Elements of a beat of o."""

    @property
    def rows_per_scaler(self) -> Any:
        """Rows that share a score multiplier."""

    @property
    def rows_per_budget(self) -> Any:
        """Rows that share a unit of budgets, 0 without an error bound."""


@dataclass(frozen=True, eq=False)
class CoreArrays:
    """Many cores, one an element, for sweeps. Each field is an int64 array or one integer for all.

    Parameters
    ----------
    rows, lanes, output_lanes, rows_per_scaler, rows_per_budget : int or numpy.ndarray
        As in `golden.config.CoreConfig`. By default there is no error bound.
    """

    rows: IntLike
    lanes: IntLike
    output_lanes: IntLike
    rows_per_scaler: IntLike
    rows_per_budget: IntLike = 0


SCALER_STAGES = 7
"""Of the score multiplier, its rows taken one after the other."""

MASK_LATENCY = 2
THRESHOLD_LATENCY = 5
TAU_SPACING = 6
"""From a job's last key to the first key of a job that goes on from its tau, without an error bound."""

PACK_LATENCY = 2
"""From the verdict that closes a pack to the pack at the exponentials."""

EXPONENTIAL_STAGES = 4
WRITE_LATENCY = 1
"""From the sums of a beat of P V to the write of the accumulators."""

DONE_LATENCY = 3
"""From the write of a job's last accumulators to the read of its first output."""

READ_LATENCY = 3
QUOTIENT_BITS = formats.DATA_BITS + formats.OUTPUT_FRACTION_BITS + 2
DIVIDER_LATENCY = formats.DATA_BITS + formats.OUTPUT_FRACTION_BITS + 5
"""A stage a bit of the quotient (the integer bits of v and one more, the fraction bits, one to round), and three."""

PUSH_LATENCY = 1
FIFO_LATENCY = 2
LOADER_ENTRY = 3
"""From the acceptance of a job to its first beat of q: take, check, judge."""

LOADER_EXIT = 3
"""From a job's last beat of q to its first key, beside the beats of state: claim, clear, loaded."""

RECORD_LATENCY = 2
"""From the last output beat's entry in its FIFO to the job's record on the stats port."""

STATE_PIECES = formats.STATE_WORD_BITS // formats.OUTPUT_BITS
"""Transfers of a beat of state words."""


ENDS_PENDING_MAX = 2
"""Ends of jobs that v_req may still have to tell when the next key enters."""

COMMAND_LATENCY = 5
"""Of the key sequencer, from a command to the first word of its bitmap, for blocks of a single key; else longer."""

COUNT_LATENCY = 6
"""From the last word of a bitmap to the count of its keys, likewise."""

IN_CORE = 3
"""Jobs that a core of a cluster can have taken whose packets have not left."""

MERGE_STAGES = 4
"""Of the merge unit, from a word to its merged word."""

DIVIDER_PASSES = 3
"""Of an operand through the stages of the merge unit's divider."""

MERGE_FIFO_DEPTH = 16
"""Beats of output that the merge unit reserves."""

VALUE_PACKS = 2
"""Packs whose values the value lanes hold."""

OUTPUT_FIFO_DEPTH = 32
"""Beats of o that are read, divided or waiting."""


def ceil_div(dividend: Any, divisor: Any) -> Any:
    """Return the quotient rounded up, of integers or integer arrays."""
    return -(-dividend // divisor)


def tree_stages(core: CoreShape) -> Any:
    """Return the pipeline stages of a row's adder tree, two levels a stage."""
    if isinstance(core.lanes, int):
        return ceil_div((core.lanes - 1).bit_length(), 2)
    # Lanes are a power of two, whose logarithm is exact.
    return ceil_div(np.log2(core.lanes).astype(np.int64), 2)


def array_latency(core: CoreShape) -> Any:
    """Return the latency from a beat at the k port (or a beat of P V) to its sums."""
    return 3 + tree_stages(core)


def scaler_latency(core: CoreShape) -> Any:
    """Return the latency from a key's last sums to its logits."""
    return SCALER_STAGES + core.rows_per_scaler


def score_latency(core: CoreShape) -> Any:
    """Return the latency from a key's last beat to its logits."""
    return array_latency(core) + scaler_latency(core)


def verdict_latency(core: CoreShape) -> Any:
    """Return the latency from a key's last beat to the verdict whether it survives."""
    return score_latency(core) + THRESHOLD_LATENCY


def bound_latency(core: CoreShape) -> Any:
    """Return what an error bound adds to the latency of a verdict."""
    return np.maximum(core.rows_per_budget - 1, 0)


def bound_spacing(core: CoreShape) -> Any:
    """Return the cycles between the last beats of two keys, at least, in a job with an error bound."""
    return np.maximum(core.rows_per_scaler, core.rows_per_budget)


def release_latency(core: CoreShape) -> Any:
    """Return the latency from a job's last key beat to the acceptance of the job after the next."""
    return score_latency(core) - MASK_LATENCY + 1


def pack_latency(core: CoreShape) -> Any:
    """Return the latency from the last beat of the key that closes a pack to the pack's first beat of P V."""
    return verdict_latency(core) + PACK_LATENCY + core.lanes + EXPONENTIAL_STAGES


def empty_pack_latency(core: CoreShape) -> Any:
    """Return the latency from a job's last key beat to the beat of the empty pack that ends it."""
    return verdict_latency(core) + PACK_LATENCY + 1


def finish_latency(core: CoreShape) -> Any:
    """Return the latency from a job's last beat of P V to the read of its first output."""
    return array_latency(core) + WRITE_LATENCY + DONE_LATENCY


def output_latency(emit_state: Any) -> Any:
    """Return the latency from an accumulator's read to its entry in the output FIFO; a state is not divided."""
    return READ_LATENCY + DIVIDER_LATENCY * (1 - np.asarray(emit_state, dtype=np.int64)) + PUSH_LATENCY
