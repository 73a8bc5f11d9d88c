"""The exact model against the simulated core: no cycle, no use of the array and no byte of difference, on any list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.job import Job
from golden.memory import Memory
from golden.threshold import Threshold
from perf_model import exact
from perf_model.core_timing import CORE, USES
from perf_model.cycles import JobShape, stream_cycles
from perf_model.exact import CoreCycles, JobList, core_cycles, spread_survivors
from perf_model.traffic import port_bytes
from rtl.interfaces import ArrayUse
from sim.random_jobs import random_job, random_jobs
from sim.simulate import Measurement, batch_of, simulate
from sim.soak import CONFIGS
from sim.stimulus import stats_record

SEED = 20
LISTS = 10
MEMORIES = 4
DEFAULT = PRESETS["default"]


@dataclass(frozen=True)
class Case:
    """A list of jobs that the core has run, and what it took: by record each use of the array, and bytes by port."""

    core: CoreConfig
    jobs: JobList
    memory: Memory
    cycles: int
    uses: np.ndarray
    bytes: dict[str, int]

    def differences(self) -> tuple[float, int, int, int]:
        """Return how far off the model is: share of the cycles, cycles, uses in any record, bytes on any port."""
        model = core_cycles(self.core, self.jobs, self.memory)
        moved = port_bytes(self.core, self.jobs.shape)
        cycles = abs(model.total - self.cycles)
        return (
            cycles / self.cycles,
            cycles,
            int(np.abs(model.uses - self.uses).max()),
            max(abs(moved[port] - count) for port, count in self.bytes.items()),
        )


def plain_jobs(rng: np.random.Generator, config: CoreConfig, count: int, keys: int, rows: int, tau: int) -> list[Job]:
    """Return jobs of the largest dimensions on keys that differ, about a third of which a tau of 4 bits drops."""
    jobs = []
    for _ in range(count):
        job = random_job(rng, config)
        shape = (rows, keys, config.max_head_dim, config.max_value_dim)
        query, key, value = (
            np.clip(np.rint(rng.normal(0, 30, size)), -128, 127).astype(np.int8)
            for size in ((shape[0], shape[2]), (shape[1], shape[2]), (shape[1], shape[3]))
        )
        scale = replace(job.scale, multiplier=(1 << 15) // int(config.max_head_dim**0.5), shift=18)
        positions, indices = np.full(rows, keys, dtype=np.int64), np.arange(keys, dtype=np.int64)
        jobs.append(Job(query, positions, key, indices, value, scale, Threshold(tau), tag=job.tag))
    return jobs


def shared(jobs: list[Job]) -> list[Job]:
    """Return the jobs with values that are the first elements of their keys, as many as there are."""
    return [replace(job, value=job.key[:, : job.value_dim], shared=True) for job in jobs]


def shared_lists(rng: np.random.Generator, config: CoreConfig) -> list[list[Job]]:
    """Return decode of shared values, alone and between jobs that fetch theirs; none for a core that can't share."""
    if not config.shared_values:
        return []
    dense = shared(plain_jobs(rng, config, 3, 9 * config.lanes, 1, formats.TAU_KEEP_ALL))
    dropping = shared(plain_jobs(rng, config, 3, 9 * config.lanes, 1, 4 << formats.FRACTION_BITS))
    fetching = plain_jobs(rng, config, 3, 3 * config.lanes, 1, formats.TAU_KEEP_ALL)
    return [dense, [job for three in zip(fetching, dropping, dense, strict=True) for job in three]]


def regular_lists(rng: np.random.Generator, config: CoreConfig) -> list[list[Job]]:
    """Return lists of blocks, of decode steps, of the shortest jobs, of states passed on, of shared values."""
    keep_all, four_bits = formats.TAU_KEEP_ALL, 4 << formats.FRACTION_BITS
    parts = plain_jobs(rng, config, 4, 3 * config.lanes, config.rows, four_bits)
    chained = [replace(parts[0], emit_state=True)]
    for part in parts[1:]:
        chained.append(replace(part, state=run_job(chained[-1], config.lanes).state, emit_state=part is not parts[-1]))
    return [
        plain_jobs(rng, config, 3, 4 * config.lanes, config.rows, keep_all),
        plain_jobs(rng, config, 6, 5 * config.lanes + 1, 1, formats.TAU_MIN),
        plain_jobs(rng, config, 6, 5 * config.lanes + 1, 1, four_bits),
        plain_jobs(rng, config, 8, 1, 1, keep_all),
        chained,
        *shared_lists(rng, config),
    ]


def random_lists(rng: np.random.Generator, config: CoreConfig, count: int, max_beats: int) -> list[list[Job]]:
    """Return lists of one job, and of up to 6."""
    return [
        random_jobs(rng, config, int(rng.choice([1, 1, 2, 3, 6])), int(rng.choice([5, 60, 300])), max_beats)
        for _ in range(count)
    ]


def random_memory(rng: np.random.Generator, config: CoreConfig) -> Memory:
    """Return a memory that is slow in one or more ways."""
    bandwidth = float(config.lanes * rng.uniform(0.4, 3)) if rng.random() < 0.8 else None
    return Memory(
        bandwidth=bandwidth,
        latency=int(rng.choice([1, 6, 40, 120])),
        outstanding=int(rng.choice([1, 4, 16])) if bandwidth is None or rng.random() < 0.7 else None,
        buffer=int(rng.choice([1, 3, 16, 64])),
    )


def measure(config: CoreConfig, lists: list[list[Job]], memories: list[Memory]) -> list[Case]:
    """Run every list on the simulated core, each from reset."""
    results = [[run_job(job, config.lanes) for job in jobs] for jobs in lists]
    batches = [
        batch_of(config, jobs, f"list {n}", results=results[n], memory=memories[n]) for n, jobs in enumerate(lists)
    ]
    cases = []
    for n, recording in enumerate(simulate(config, batches)):
        measurement = Measurement.of(config, lists[n], results[n], recording)
        listed = JobList.of_jobs(lists[n], [result.survivors for result in results[n]], config.lanes)
        uses = np.array([stats_record(word, config)["cycles"] for word in recording.records])
        cases.append(Case(config, listed, memories[n], measurement.cycles, uses, measurement.bytes))
    return cases


@cache
def cases_of(name: str) -> tuple[list[Case], list[Case]]:
    """Return the cases of a core: those in which no stream stalls, and those with a memory."""
    config, rng = CONFIGS[name], np.random.default_rng([SEED, list(CONFIGS).index(name)])
    free = regular_lists(rng, config) + random_lists(rng, config, LISTS, 1200)
    slow = regular_lists(rng, config)[1:] + random_lists(rng, config, MEMORIES, 600)
    memories = [Memory()] * len(free) + [random_memory(rng, config) for _ in slow]
    # Values that come one at a time hold up the jobs behind theirs, until the key capture is full.
    crowded = shared_lists(rng, config)[1:]
    memories += [Memory(latency=40, outstanding=1)] * len(crowded)
    cases = measure(config, free + slow + crowded, memories)
    return cases[: len(free)], cases[len(free) :]


@pytest.mark.parametrize("stalled", [False, True], ids=["never stalled", "with a memory"])
def test_cycles_uses_and_bytes_are_those_of_the_core(figure, stalled: bool):
    seen = {}
    for name in CONFIGS:
        cases = cases_of(name)[stalled]
        seen[name] = np.array([case.differences() for case in cases]).max(axis=0)
        share, cycles, uses, bytes_ = seen[name]
        total = sum(case.cycles for case in cases)
        figure(
            f"exact model, {'with a memory' if stalled else 'never stalled'}: {name:10}{len(cases):4} lists, {total:7} "
            f"cycles; worst difference {cycles:.0f} cycles ({share:.2%}), {uses:.0f} in a use of the array, "
            f"{bytes_:.0f} bytes"
        )
    assert sum(len(cases_of(name)[stalled]) for name in CONFIGS) >= (60 if stalled else 100)
    assert all(not worst.any() for worst in seen.values())


def test_cases_reach_every_use_of_the_array_and_every_kind_of_memory():
    free, slow = ([case for name in CONFIGS for case in cases_of(name)[stalled]] for stalled in (False, True))
    assert [use.name.lower() for use in ArrayUse] == list(USES)
    waits = sum(case.uses.sum(axis=0) for case in slow)
    assert np.all(waits > 0), dict(zip(USES, waits, strict=True))
    assert sum(case.uses.sum(axis=0)[ArrayUse.WAIT_KEY] for case in free) == 0
    shapes = JobShape.concatenate([case.jobs.shape for case in free])
    rates = shapes.survivors / shapes.keys
    names = ("from_state", "emit_state", "shared", "bounded", "continues")
    kinds = [shapes.rows == 1, *(getattr(shapes, name) == 1 for name in names)]
    for things in (rates == 1, rates < 0.3, *kinds):
        assert np.count_nonzero(things) > 20
    assert any(case.memory.bandwidth is None for case in slow)
    assert any(case.memory.outstanding is None for case in slow)


@pytest.mark.parametrize("field", [*CORE.names])
def test_a_core_that_is_a_cycle_or_a_place_off_is_seen(monkeypatch, field: str):
    """Each number that the machine is given matters to some case."""
    right = exact.core_record

    def wrong(core: CoreConfig):
        record = right(core)
        record[field] -= 1
        return record

    monkeypatch.setattr(exact, "core_record", wrong)
    names = ("tiny", "one row", "few rows", "default")
    worst = (case.differences() for name in names for cases in cases_of(name) for case in cases)
    assert any(cycles or uses for _, cycles, uses, _ in worst)


def test_one_dense_job_by_hand():
    """The parts of `test_perf_cycles`, and what the array does: 3 cycles before q is taken, and one after reset."""
    model = core_cycles(DEFAULT, JobList.of_shape(JobShape(rows=16, keys=16, head_dim=64, value_dim=64, survivors=16)))
    assert model.total == 526
    # Waiting for the query: reset, the first job, its 3 cycles, 64 beats of q, 3 more; and from the last beat of P V to
    # the entry of the last output beat, 9 + 256 + 3 + 21, less the cycle of the entry itself and one of the record.
    before, after = 2 + 3 + 64 + 3, 9 + 256 + 3 + 21 - 1
    assert dict(zip(USES, model.uses[0].tolist(), strict=True)) == {
        "qk": 64,
        "pv": 64,
        "wait_query": before + after + 40,
        "wait_key": 0,
        "wait_value": 0,
        "wait_output": 0,
        "wait_score": 0,
    }
    assert (model.qk, model.pv) == (64, 64)


def random_core(rng: np.random.Generator) -> CoreConfig:
    """Return a core with shared values of any size, its rows short or long."""
    lanes, rows = int(rng.choice([4, 8, 16, 32])), int(rng.integers(1, 9))
    dim = lanes * min(int(rng.choice([1, 2, 3, 5, 9, 18, 36, 72])), 1024 // lanes)
    return CoreConfig(
        rows=rows,
        lanes=lanes,
        max_head_dim=dim,
        max_value_dim=dim,
        rows_per_scaler=int(rng.choice([n for n in range(1, rows + 1) if rows % n == 0])),
        output_lanes=lanes,
        score_slots=max(32, 2 * lanes),
        shared_values=1,
        rows_per_budget=int(rng.choice([0, 2, 4, 16])),
    )


def test_shared_values_cost_no_cycle(monkeypatch, capsys):
    """On any core, of any number of survivors, where no stream stalls; but they do if the key capture is too small."""
    rng = np.random.default_rng(SEED)
    cases = []
    for _ in range(250):
        core, jobs = random_core(rng), int(rng.integers(1, 5))
        head_dim = int(rng.integers(1, core.max_head_dim + 1))
        keys, rate = rng.integers(1, 300, jobs), float(rng.choice([1, 0.9, 0.5, 0.1]))
        value_dim = int(rng.integers(1, min(head_dim, core.lanes) + 1)) if rng.random() < 0.4 else head_dim
        bounded = int(core.rows_per_budget > 0 and rng.random() < 0.5)
        fetched = JobShape(np.full(jobs, core.rows), keys, head_dim, value_dim, survivors=1, bounded=bounded)
        survivors = rng.random(keys.sum()) < rate
        cases.append((core, fetched, JobList(replace(fetched, shared=1), survivors), survivors))

    def longer() -> list[float]:
        shares = []
        for core, fetched, shared_jobs, survivors in cases:
            total = core_cycles(core, JobList(fetched, survivors)).total
            shares.append(core_cycles(core, shared_jobs).total / total - 1)
        return shares

    assert set(longer()) == {0.0}
    right = CoreConfig.capture_beats
    monkeypatch.setattr(CoreConfig, "capture_beats", property(lambda core: right.fget(core) // 2))
    shares = np.array(longer())
    with capsys.disabled():
        count, worst = np.count_nonzero(shares > 0), shares.max()
        print(f"\n  {len(cases)} lists: no cycle longer; with half the key capture {count} are, by up to {worst:.0%}")
    assert np.count_nonzero(shares > 0) > 5


def test_survivors_are_spread_evenly():
    def spread(keys: int, survivors: int, last: int = 1) -> list[int]:
        return np.flatnonzero(spread_survivors(*(np.array([n]) for n in (keys, survivors, last)))).tolist()

    assert spread(8, 8) == list(range(8))
    assert spread(8, 2) == [3, 7]
    assert spread(10, 3) == [3, 6, 9]
    assert spread(9, 2, last=0) == [3, 7]
    assert spread(1, 0, last=0) == []
    both = spread_survivors(np.array([8, 3]), np.array([2, 1]), np.array([1, 1]))
    assert np.flatnonzero(both).tolist() == [3, 7, 10]


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0.001, 1)), min_size=1, max_size=5))
def test_a_rate_gives_so_many_survivors_evenly(jobs: list[tuple[int, float]]):
    for keys, rate in jobs:
        listed = JobList.of_shape(JobShape(rows=1, keys=keys, head_dim=1, value_dim=1, survivors=1), rate)
        kept = np.flatnonzero(listed.survivors)
        assert len(kept) == listed.shape.survivors[0] == max(1, int(keys * rate + 0.5))
        assert kept[-1] == keys - 1
        gaps = np.diff(np.concatenate([[-1], kept]))
        assert gaps.max() - gaps.min() <= 1
    several = JobShape(rows=1, keys=np.array([keys for keys, _ in jobs]), head_dim=1, value_dim=1, survivors=1)
    alone = [JobList.of_shape(replace(several, keys=keys), jobs[0][1]).survivors for keys, _ in jobs]
    assert JobList.of_shape(several, jobs[0][1]).survivors.tolist() == np.concatenate(alone).tolist()


def test_dense_blocks_are_the_closed_form_s():
    blocks = JobShape(rows=np.full(8, 16), keys=128, head_dim=64, value_dim=64, survivors=128)
    closed, model = stream_cycles(DEFAULT, blocks), core_cycles(DEFAULT, JobList.of_shape(blocks))
    assert (model.total, model.qk, model.pv) == (closed.total, closed.qk, closed.pv)


def test_a_list_repeated_is_that_list_again_and_again():
    listed = JobList.of_shape(JobShape(rows=np.array([3, 4]), keys=20, head_dim=8, value_dim=8, survivors=7))
    thrice = listed.repeated(3)
    assert thrice.shape.rows.tolist() == [3, 4] * 3
    assert thrice.survivors.tolist() == listed.survivors.tolist() * 3


def test_a_memory_of_a_core_s_own_width_is_no_limit_and_half_of_it_takes_twice_the_time():
    def cycles(memory: Memory | None) -> CoreCycles:
        return core_cycles(DEFAULT, JobList.of_shape(decode), memory)

    decode = JobShape(rows=np.ones(4, np.int64), keys=512, head_dim=64, value_dim=64, survivors=512)
    free, ample, scarce = cycles(None), cycles(Memory(bandwidth=1024)), cycles(Memory(bandwidth=8, buffer=64))
    assert ample.total == free.total
    beats = 4 * (64 + 2 * 512 * 64 + 2 * 64)
    assert beats / 8 <= scarce.total <= 1.01 * beats / 8
    # A row every 1 + 40 cycles, one at a time; the array's own work is hidden behind that.
    lonely = cycles(Memory(latency=40, outstanding=1))
    assert 4 * 512 * 40 <= lonely.total <= 4 * (512 * 42 + 300)


def test_a_list_with_other_survivors_is_refused():
    shape = JobShape(rows=np.array([1, 1]), keys=np.array([3, 3]), head_dim=4, value_dim=4, survivors=1)
    with pytest.raises(InputError, match="survivors must be 6 truth values, one a key"):
        JobList(shape, np.ones(5, dtype=bool))
