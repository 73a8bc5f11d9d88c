"""Energy of jobs: counts of operations and bytes times the figures of a table of cited entries.

What is counted follows the RTL: every row of the array works in every beat, also those that no query uses. Not counted,
because no public figure fits: pipeline registers, clock tree, wires, control and leakage. On the other hand the
published operators and memories are general ones, larger than a core's own. So a result is good for comparing designs
and for shares; it is no data sheet. How far the sources disagree comes with every result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from golden import formats
from golden.config import CoreConfig
from perf_model.cycles import JobShape, job_cost
from perf_model.energy_table import Rates, load_rates
from perf_model.latency import ceil_div

QUOTIENT_STEPS = formats.DATA_BITS + formats.OUTPUT_FRACTION_BITS + 2
"""Subtractions of a division: one a bit of the quotient."""


@dataclass(frozen=True)
class Energy:
    """Energy by what it is spent on, in pJ.

    Parameters
    ----------
    qk, pv : float
        Multipliers and adders of the array in Q K, and in P V with the accumulation of O.
    softmax : float
        Scaling, maximum, threshold, exponentials, sums, and the division at the end.
    memory : float
        On-chip memories: queries, waiting scores, values, accumulators, and the scratchpad for K and V.
    dram : float
        Off-chip memory.
    """

    qk: float
    softmax: float
    pv: float
    memory: float
    dram: float

    @property
    def core(self) -> float:
        """All but the DRAM, in pJ."""
        return self.qk + self.softmax + self.pv + self.memory

    @property
    def total(self) -> float:
        """All of it, in pJ."""
        return self.core + self.dram

    def to_dict(self) -> dict[str, float]:
        """Return the parts and their total by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"total": self.total}


@dataclass(frozen=True)
class EnergyRange:
    """Energy by the first source of each figure, and by those that say the least and the most.

    Parameters
    ----------
    nominal, least, most : Energy
        In pJ.
    """

    nominal: Energy
    least: Energy
    most: Energy


PARTS = {
    "qk": "Q·K array",
    "softmax": "softmax",
    "pv": "P·V array",
    "memory": "on-chip memory",
    "dram": "DRAM",
}
"""Parts of `Energy` with their names in tables and plots."""


def operation_counts(core: CoreConfig, jobs: JobShape) -> dict[str, dict[str, float]]:
    """Return how many operations of each entry the parts of jobs take, all jobs of the arrays together.

    A multiplier of another width than its entry counts in proportion to the product of its widths, an adder as the next
    wider entry.

    Parameters
    ----------
    core : CoreConfig
        The core.
    jobs : JobShape
        The jobs.

    Returns
    -------
    dict
        For ``qk``, ``softmax`` and ``pv``: operations by the name of their entry.
    """
    cost = job_cost(core, jobs)
    rows, lanes = core.rows, core.lanes
    qk_beats, pv_beats = float(np.sum(cost.qk)), float(np.sum(cost.pv))
    keys, survivors = (float(np.sum(n)) * rows for n in np.broadcast_arrays(jobs.keys, jobs.survivors))
    outputs = float(np.sum(jobs.rows * jobs.value_dim * (1 - np.asarray(jobs.emit_state))))
    merged = float(np.sum(jobs.rows * (jobs.value_dim + 1) * np.asarray(jobs.emit_state)))
    # Probabilities are unsigned: 12 bits and a sign bit of 0.
    wide_product = (formats.PROBABILITY_BITS + 1) * formats.DATA_BITS / 8**2
    score_product = core.dot_bits * formats.MULTIPLIER_BITS / 32**2
    return {
        "qk": {
            "multiply_int8": qk_beats * rows * lanes,
            # The adder tree, and the sum over a key's beats.
            "add_int16": qk_beats * rows * (lanes - 1),
            "add_int32": qk_beats * rows,
        },
        "softmax": {
            "multiply_int32": keys * score_product,
            # Maximum, distance and comparison of each score; distance and shift of each exponential.
            "add_int16": 3 * keys + 2 * survivors,
            # The sum of each row, and the steps of the divisions.
            "add_int32": survivors + QUOTIENT_STEPS * outputs,
        },
        "pv": {
            "multiply_int8": pv_beats * rows * lanes * wide_product,
            # The adder tree, the rescaling shift and addition of each accumulator, and those of a state's merging.
            "add_int32": pv_beats * rows * (lanes - 1 + 2) + 2 * merged,
        },
    }


@dataclass(frozen=True)
class MemoryUse:
    """Accesses of one kind of memory in the core.

    Parameters
    ----------
    bits : float
        Bits written and read.
    capacity : float
        Bytes of one such memory, which sets the energy of a bit.
    """

    bits: float
    capacity: float


def memory_uses(core: CoreConfig, jobs: JobShape) -> dict[str, MemoryUse]:
    """Return the accesses of the core's own memories, all jobs of the arrays together.

    Queries are written once and every row's beat is read in each beat of Q K. The scores of a survivor are written and
    read once. Values are written once and read once a word; where they are shared, those of all keys are written and
    those of survivors read in the key capture before. In each beat of P V every row reads a word of
    `output_lanes` accumulators and writes one of them; a word is read for each beat of output.
    """
    cost = job_cost(core, jobs)
    beat = core.lanes * formats.DATA_BITS
    scores = core.rows * (formats.SCORE_BITS + 1)
    value_beats = ceil_div(jobs.value_dim, core.lanes)
    accumulators = core.output_lanes * core.accumulator_bits
    output_reads = jobs.rows * ceil_div(jobs.value_dim, core.output_lanes)
    uses = {
        "queries": (
            (cost.query_load + cost.qk * core.rows) * beat,
            2 * core.head_beats(core.max_head_dim) * beat / 8,
        ),
        "scores": (2 * jobs.survivors * scores, core.score_slots * scores / 8),
        "values": (
            (jobs.survivors + cost.packs * core.lanes) * value_beats * beat,
            2 * core.value_beats(core.max_value_dim) * beat / 8,
        ),
        "captured": (
            (jobs.keys + jobs.survivors) * value_beats * beat * jobs.shared,
            core.capture_beats * beat / 8,
        ),
        "accumulators": (
            cost.pv * core.rows * (accumulators + core.accumulator_bits) + output_reads * accumulators,
            core.max_value_dim * core.accumulator_bits / 8,
        ),
    }
    return {name: MemoryUse(float(np.sum(bits)), capacity) for name, (bits, capacity) in uses.items()}


@dataclass(frozen=True)
class Activity:
    """What is done, as far as it takes energy.

    Parameters
    ----------
    operations : Mapping
        For ``qk``, ``softmax`` and ``pv``: operations by the name of their entry.
    memories : Mapping
        Accesses of on-chip memories, by any name.
    dram_bytes : float
        Bytes that move to and from the DRAM.
    """

    operations: Mapping[str, Mapping[str, float]]
    memories: Mapping[str, MemoryUse]
    dram_bytes: float

    def energy(self, rates: Rates, times: int = 1) -> Energy:
        """Return the energy of `times` times this activity."""
        parts = {
            part: sum(count * rates.operations[name] for name, count in counts.items())
            for part, counts in self.operations.items()
        }
        parts["memory"] = sum(use.bits * rates.sram_bit(use.capacity) for use in self.memories.values())
        parts["dram"] = 8 * self.dram_bytes * rates.dram
        return Energy(**{name: times * value for name, value in parts.items()})

    def energies(self, technology: str, dram: str, times: int = 1) -> EnergyRange:
        """Return the energy of `times` times this activity, and how far the sources of the energy table disagree on it.

        Parameters
        ----------
        technology, dram : str
            Names of a scaling factor and of a DRAM.
        times : int
            How often.

        Raises
        ------
        InputError
            If the table has no such technology or DRAM.
        """
        choices = (field.name for field in fields(EnergyRange))
        return EnergyRange(**{name: self.energy(load_rates(technology, dram, name), times) for name in choices})
