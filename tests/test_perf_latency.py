"""The model's constants are the RTL's: they are written twice, and these tests keep the two from drifting.

What the RTL has no constant for (the loader's states, the way to the first output) `test_perf_rtl.py` measures.
"""

import numpy as np
import pytest

from golden.config import PRESETS, CoreConfig
from perf_model import latency
from rtl import (
    dispatcher,
    divider,
    dot_array,
    error_bound,
    exponential,
    interfaces,
    key_sequencer,
    merge_unit,
    output_writer,
    position_mask,
    scheduler,
    state_merger,
    threshold,
    value_lanes,
)
from rtl.score_scaler import scaler_latency

CORES = [
    *PRESETS.values(),
    CoreConfig(lanes=64, score_slots=128),
    CoreConfig(rows=3, rows_per_scaler=3, rows_per_budget=0),
]


@pytest.mark.parametrize("core", CORES)
def test_latencies_that_depend_on_the_core(core: CoreConfig):
    assert latency.tree_stages(core) == dot_array.tree_stages(core.lanes)
    assert latency.scaler_latency(core) == scaler_latency(core)
    assert latency.bound_latency(core) == error_bound.bound_latency(core)
    assert latency.array_latency(core) == 3 + dot_array.tree_stages(core.lanes)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (latency.MASK_LATENCY, position_mask.MASK_LATENCY),
        (latency.THRESHOLD_LATENCY, threshold.THRESHOLD_LATENCY),
        (latency.TAU_SPACING, scheduler.TAU_SPACING),
        (latency.EXPONENTIAL_STAGES, exponential.EXPONENTIAL_STAGES),
        (latency.READ_LATENCY, output_writer.READ_LATENCY),
        (latency.DIVIDER_LATENCY, divider.DIVIDER_LATENCY),
        (latency.STATE_PIECES, interfaces.STATE_PIECES),
        (latency.ENDS_PENDING_MAX, scheduler.ENDS_PENDING_MAX),
        (latency.VALUE_PACKS, value_lanes.BUFFERS),
        (latency.OUTPUT_FIFO_DEPTH, output_writer.OUTPUT_FIFO_DEPTH),
        (latency.COMMAND_LATENCY, key_sequencer.COMMAND_CYCLES),
        (latency.COUNT_LATENCY, key_sequencer.COUNT_CYCLES),
        (latency.IN_CORE, dispatcher.IN_CORE),
        (latency.MERGE_STAGES, state_merger.MERGE_STAGES),
        (latency.QUOTIENT_BITS, divider.QUOTIENT_BITS),
        (latency.DIVIDER_PASSES, merge_unit.DIVIDER_PASSES),
        (latency.MERGE_FIFO_DEPTH, merge_unit.MERGE_FIFO_DEPTH),
    ],
)
def test_constant(ours: int, theirs: int):
    assert ours == theirs


def test_arrays_of_cores_have_the_latencies_of_each():
    arrays = latency.CoreArrays(
        **{
            name: np.array([getattr(core, name) for core in CORES])
            for name in ("rows", "lanes", "output_lanes", "rows_per_scaler", "rows_per_budget")
        }
    )
    functions = (latency.pack_latency, latency.empty_pack_latency, latency.finish_latency)
    for function in (*functions, latency.bound_latency, latency.bound_spacing):
        assert function(arrays).tolist() == [function(core) for core in CORES]
