"""Which core runs what: one core, several under each rule, and the cycles that these take."""

from dataclasses import replace

import numpy as np
import pytest

from golden.config import PRESETS
from golden.memory import Memory
from golden.partition import RULES, batch
from perf_model.cycles import JobShape
from perf_model.estimate import estimate
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.schedule import overlap, schedule
from perf_model.schedule_cycles import merge_cycles
from perf_model.workload import load_workload

DEFAULT = PRESETS["default"]
DECODE = load_workload("gpt2", phase="decode", length=(64, 900, 3000, 300))


def test_one_core_runs_a_head_of_each_sequence_over_and_over():
    ragged = replace(load_workload("gpt2"), length=(40, 7), batch=3)
    run = schedule(ragged, Hardware(DEFAULT))
    assert run.times == 12 * 12 * 3
    (stream,) = run.streams
    assert stream.jobs.keys.tolist() == [16, 32, 40, 7]
    assert stream.shared.tolist() == [0, 16, 32, 0]
    assert stream.opens.all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cores", [2, 5, 64])
def test_several_cores_run_what_golden_s_rule_says(rule: str, cores: int):
    run = schedule(DECODE, Hardware(DEFAULT, cores=cores, partition=rule))
    partition = RULES[rule](batch(DECODE.lengths, 12), cores, 64)
    assert run.times == 12
    assert [stream.jobs.keys.tolist() for stream in run.streams] == [
        [span.keys for span in spans] for spans in partition.workers if spans
    ]
    parts = {head: len(spans) for head, spans in partition.parts.items()}
    assert [stream.jobs.emit_state.tolist() for stream in run.streams] == [
        [int(parts[span.head] > 1) for span in spans] for spans in partition.workers if spans
    ]
    assert sum(int(stream.opens.sum()) for stream in run.streams) == 4 * 12
    late = [spans[-1].head for spans in partition.workers if spans and parts[spans[-1].head] > 1]
    assert sum(count for _, count in run.late) == len(late)


def test_blocks_of_a_prefill_are_shared_as_well():
    prefill = load_workload("gpt2", length=100)
    run = schedule(prefill, Hardware(DEFAULT, cores=3, partition="lean", tile=16))
    assert sum(int(stream.jobs.rows[stream.opens].sum()) for stream in run.streams) == 12 * 100
    assert sum(int((stream.jobs.rows * stream.jobs.keys).sum()) for stream in run.streams) == 12 * (
        sum(16 * 16 * n for n in range(1, 7)) + 4 * 100
    )


def test_a_rule_s_line_holds_the_whole_batch():
    twice = replace(DECODE, batch=2)
    streams = schedule(twice, Hardware(DEFAULT, cores=3)).streams
    assert sum(len(stream) for stream in streams) == 2 * 4 * 12


def test_cycles_are_those_of_the_busiest_core_and_the_merges():
    hardware = Hardware(DEFAULT, cores=5, partition="lean")
    run = schedule(DECODE, hardware, 0.5)
    longest = max(core_cycles(DEFAULT, JobList.of_shape(stream.jobs)).total for stream in run.streams)
    merging = merge_cycles(DEFAULT, run, 64, 1)
    # Four cores end with a part, and dividing its 64 elements takes longer than its words.
    assert run.late == ((1, 1),) * 4
    assert merging == 4 * 3 * 64
    assert merge_cycles(DEFAULT, run, 64, 2) == merging // 2
    assert merge_cycles(DEFAULT, run, 64, 9) == merging // 4
    assert estimate(DECODE, hardware, 0.5).cycles.total == 12 * (longest + merging)
    assert estimate(DECODE, replace(hardware, merge_units=4), 0.5).cycles.total == 12 * (longest + merging // 4)


def test_parts_of_one_head_are_merged_one_after_the_other():
    one = load_workload("gpt2", phase="decode", length=4096)
    run = schedule(replace(one, heads=1), Hardware(DEFAULT, cores=8, partition="lean"))
    assert run.late == ((1, 8),)
    # Each part is a header in three pieces, and 16 beats of four words, in three pieces and three cycles more.
    assert merge_cycles(DEFAULT, run, 64, 8) == 7 * (3 + 16 * 6) + 3 * 64


def test_splitting_helps_a_ragged_batch_and_cores_share_the_memory():
    hardware = Hardware(DEFAULT, cores=16, merge_units=4)
    whole, lean = (estimate(DECODE, replace(hardware, partition=rule)) for rule in ("whole", "lean"))
    assert lean.cycles.total < 0.85 * whole.cycles.total
    assert (lean.cycles.qk, lean.macs, lean.dense_macs) == (whole.cycles.qk, whole.macs, whole.dense_macs)
    assert lean.utilisation <= 1
    slow = estimate(DECODE, replace(hardware, memory=Memory(bandwidth=128.0)))
    alone = estimate(DECODE, Hardware(DEFAULT, memory=Memory(bandwidth=8.0)))
    assert slow.cycles.total > 1.5 * whole.cycles.total
    assert slow.cycles.total > alone.cycles.total / 16, "no core is faster than with its share"


@pytest.mark.parametrize("memory", [Memory(), Memory(bandwidth=64.0)])
def test_long_work_of_several_cores_is_not_followed(memory: Memory):
    hardware = Hardware(DEFAULT, cores=4, memory=memory)
    result = estimate(load_workload("bert-base", length=4096), hardware)
    assert result.cycles_by == ("closed form" if memory == Memory() else "exact on a sample")
    array = result.cycles.array / 4
    assert array <= result.cycles.total <= (1.01 if memory == Memory() else 2.2) * array


def test_overlaps_are_of_neighbours_of_one_head():
    first, end = np.array([0, 0, 4, 4, 0]), np.array([4, 8, 9, 9, 9])
    assert overlap(first, end, np.array([0, 0, 0, 1, 1])).tolist() == [0, 4, 4, 0, 5]


def test_a_schedule_s_jobs_are_those_of_all_cores():
    run = schedule(DECODE, Hardware(DEFAULT, cores=2))
    assert isinstance(run.jobs, JobShape)
    assert run.jobs.keys.sum() == 12 * (64 + 900 + 3000 + 300)
