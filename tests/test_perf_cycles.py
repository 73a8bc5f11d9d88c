"""Cycles by closed form: cases worked out by hand, and properties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.job import Job, ScoreScale
from perf_model.bench import one_by_one, random_points, run_benchmark, run_single_benchmark
from perf_model.cycles import JobShape, job_cost, job_period, stream_cycles, survivors_at, uniform_cycles
from perf_model.latency import CoreArrays
from perf_model.schedule_cycles import repeated_cycles

DEFAULT = PRESETS["default"]
DENSE = JobShape(rows=16, keys=16, head_dim=64, value_dim=64, survivors=16)


def test_one_dense_job_by_hand():
    load = 16 * 4 + 3  # beats of q; claim, clear, loaded
    keys = 16 * 4
    pack = 5 + 9 + 5 + 2 + 16 + 4  # array, scaler, threshold, pack, its 16 exponentials, their stages
    values = 64
    output = 9 + 256 + 3 + 21 + 1 + 2  # the last accumulator's write; 16 x 16 beats; read, divide, push, FIFO
    # Each of these but the first begins a cycle after the one before ends, and the pack's latency counts its last key.
    assert uniform_cycles(DEFAULT, DENSE) == load + keys + (pack - 1) + values + (output - 1) == 526
    assert stream_cycles(DEFAULT, DENSE).total == 526


def test_dense_array_cycles_are_those_of_the_architecture():
    blocks = JobShape(rows=np.full(32, 16), keys=512, head_dim=64, value_dim=64, survivors=512)
    cycles = stream_cycles(DEFAULT, blocks)
    assert (cycles.qk, cycles.pv) == (32 * 512 * 4, 32 * 32 * 64)
    assert cycles.array == 131_072
    assert cycles.total == 131_072 + 67 + 40 + (9 + 256 + 3 + 21 + 1 + 2 - 1)
    assert cycles.busy >= 0.995


def test_a_survivor_more_than_a_full_pack_takes_another_pack():
    full, more = (job_cost(DEFAULT, replace(DENSE, keys=40, survivors=n)) for n in (32, 33))
    assert (full.packs, more.packs) == (2, 3)
    assert more.pv - full.pv == 64


@pytest.mark.parametrize(("survivors", "last_survives", "beats"), [(16, 1, 64), (16, 0, 65), (15, 0, 64), (17, 0, 128)])
def test_an_empty_pack_ends_a_job_whose_last_key_is_dropped_after_a_full_one(survivors, last_survives, beats):
    job = replace(DENSE, keys=40, survivors=survivors, last_survives=last_survives)
    assert job_cost(DEFAULT, job).pv == beats


def test_a_shared_score_multiplier_spaces_short_keys():
    tiny = PRESETS["tiny"]
    job = JobShape(rows=4, keys=100, head_dim=4, value_dim=8, survivors=100)
    cost = job_cost(tiny, job)
    assert (cost.qk, cost.pv) == (100, 25 * 8)
    # A key every 4 cycles; a pack's 8 beats use up to 3 idle ones.
    assert 400 + 25 * (8 - 3) <= cost.array <= 400 + 25 * 8
    assert job_cost(replace(tiny, rows_per_scaler=1), job).array == 300


def test_a_state_is_loaded_and_written_in_pieces():
    plain = job_cost(DEFAULT, DENSE)
    stateful = job_cost(DEFAULT, replace(DENSE, from_state=1, emit_state=1))
    assert (plain.state_load, stateful.state_load) == (0, 16 * (1 + 16) * 3)
    assert (plain.output, stateful.output) == (256, 16 * 17 * 3)


def test_short_jobs_are_limited_by_the_two_contexts_and_long_ones_by_the_array():
    short, long = (job_cost(DEFAULT, replace(DENSE, keys=n, survivors=n)) for n in (16, 512))
    assert job_period(long) == long.array == 512 * 4 + 32 * 64
    assert job_period(short) > short.array


def test_jobs_of_a_mask_follow_their_survivors():
    survivors = np.zeros(40, dtype=bool)
    survivors[[0, 3, 4, 5, 9, 20, 21, 39]] = True
    job = Job(
        query=np.zeros((2, 8), np.int8),
        positions=np.zeros(2, np.int64),
        key=np.zeros((40, 8), np.int8),
        indices=np.arange(40, dtype=np.int64),
        value=np.zeros((40, 12), np.int8),
        scale=ScoreScale(1, 0),
        emit_state=True,
    )
    shape = JobShape.of_job(job, survivors, lanes=4)
    assert (shape.rows, shape.keys, shape.head_dim, shape.value_dim) == (2, 40, 8, 12)
    assert (shape.survivors, shape.last_survives, shape.from_state, shape.emit_state) == (8, 1, 0, 1)
    assert shape.last_keys == 40 - 6, "the last-but-one pack was closed by key 5"
    survivors[39] = False
    assert JobShape.of_job(job, survivors, lanes=4).last_keys == 40 - 6
    survivors[30] = True
    shape = JobShape.of_job(job, survivors, lanes=4)
    assert (shape.last_keys, shape.last_survives) == (40 - 31, 0), (
        "the last pack is empty, and key 30 filled the one before"
    )
    with pytest.raises(InputError, match="40 truth values"):
        JobShape.of_job(job, survivors[:39], lanes=4)


shapes = st.builds(
    JobShape,
    rows=st.integers(1, 16),
    keys=st.integers(1, 400),
    head_dim=st.integers(1, 64),
    value_dim=st.integers(1, 64),
    survivors=st.integers(1, 400),
    from_state=st.integers(0, 1),
    emit_state=st.integers(0, 1),
).map(lambda shape: replace(shape, survivors=min(shape.keys, shape.survivors)))
cores = st.sampled_from(
    [DEFAULT, CoreConfig(rows=16, lanes=4), CoreConfig(rows=16, lanes=32, rows_per_scaler=1, score_slots=64)]
)


@given(cores, shapes)
def test_a_job_takes_at_least_its_beats(core: CoreConfig, job: JobShape):
    cost = job_cost(core, job)
    assert cost.array >= cost.qk + (cost.pv if cost.spacing == cost.first_key else 0)
    assert uniform_cycles(core, job) >= cost.query_load + cost.state_load + cost.qk + cost.pv + cost.output


@given(cores, shapes, st.integers(1, 64))
def test_the_array_never_does_less_for_more(core: CoreConfig, job: JobShape, more: int):
    array = job_cost(core, job).array
    assert job_cost(core, replace(job, keys=job.keys + more)).array >= array
    assert job_cost(core, replace(job, survivors=min(job.keys, job.survivors + more))).array >= array
    assert job_cost(core, replace(job, head_dim=job.head_dim + more)).array >= array
    assert job_cost(core, replace(job, value_dim=job.value_dim + more)).array >= array


@given(cores, shapes, st.integers(1, 6))
def test_more_jobs_take_longer(core: CoreConfig, job: JobShape, jobs: int):
    assert uniform_cycles(core, job, jobs + 1) > uniform_cycles(core, job, jobs)
    listed = [stream_cycles(core, JobShape.concatenate([job] * n)).total for n in (jobs, jobs + 1)]
    assert listed[0] < listed[1]


@given(cores, shapes)
def test_both_forms_agree_on_one_job(core: CoreConfig, job: JobShape):
    assert uniform_cycles(core, job) == stream_cycles(core, job).total


@given(cores, shapes, st.integers(2, 12))
def test_both_forms_agree_on_equal_jobs(core: CoreConfig, job: JobShape, jobs: int):
    """To the cycle where the array is the limit; only one form follows jobs that come in pairs."""
    closed = uniform_cycles(core, job, jobs + 20) - uniform_cycles(core, job, jobs)
    followed, less = (stream_cycles(core, JobShape.concatenate([job] * n)).total for n in (jobs + 20, jobs))
    cost = job_cost(core, job)
    if job_period(cost) == cost.array > 2 * cost.drain and job.value_dim > core.lanes + 5:
        assert closed == followed - less
    assert closed == pytest.approx(followed - less, rel=0.25)


@given(cores, st.lists(shapes, min_size=1, max_size=4), st.integers(1, 6))
def test_a_list_run_over_and_over_is_followed_only_twice(core: CoreConfig, jobs: list[JobShape], times: int):
    blocks = JobShape.concatenate(jobs)
    exact = stream_cycles(core, JobShape.concatenate([blocks] * times))
    repeated = repeated_cycles(core, blocks, times)
    assert (repeated.qk, repeated.pv) == (exact.qk, exact.pv)
    assert repeated.total == pytest.approx(exact.total, rel=0.01)


def test_arrays_give_what_their_elements_give():
    rng = np.random.default_rng(5)
    cores_, jobs, counts = [], [], rng.integers(1, 50, 60)
    for _ in counts:
        cores_.append(list(PRESETS.values())[rng.integers(4)])
        keys = int(rng.integers(1, 2000))
        jobs.append(
            JobShape(
                rows=int(rng.integers(1, cores_[-1].rows + 1)),
                keys=keys,
                head_dim=int(rng.integers(1, 65)),
                value_dim=int(rng.integers(1, 65)),
                survivors=int(rng.integers(1, keys + 1)),
                emit_state=int(rng.integers(2)),
            )
        )
    names = ("rows", "lanes", "output_lanes", "rows_per_scaler")
    arrays = CoreArrays(**{name: np.array([getattr(core, name) for core in cores_]) for name in names})
    together = uniform_cycles(arrays, JobShape.concatenate(jobs), counts)
    assert together.tolist() == [uniform_cycles(*point) for point in zip(cores_, jobs, counts.tolist(), strict=True)]


def test_survivors_at_a_rate():
    assert survivors_at(10, 0.25) == 3
    assert survivors_at(10, 0.01) == 1
    assert survivors_at(np.array([10, 1000]), 0.5).tolist() == [5, 500]
    for rate in (0, 1.1, float("nan")):
        with pytest.raises(InputError, match="survival rate"):
            survivors_at(10, rate)


@pytest.mark.parametrize("run", [run_benchmark, run_single_benchmark])
def test_benchmark_counts_points(run):
    result = run(points=1000)
    assert result.points == 1000
    assert result.points_per_second == 1000 / result.seconds > 0


def test_the_two_benchmarks_do_the_same_work():
    points = random_points(100)
    assert [uniform_cycles(*point) for point in one_by_one(points)] == uniform_cycles(*points).tolist()
