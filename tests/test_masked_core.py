"""A core behind a key sequencer, on Verilator: the keys that masks leave are fetched, to the bit and to the cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from sequence_cases import random_sequence

from golden.block import run_job
from golden.config import PRESETS
from golden.errors import InputError
from golden.job import Job
from golden.key_sequence import KeySequence, SequenceStatus
from golden.masks import Mask
from golden.memory import Memory
from perf_model import latency
from perf_model.exact import JobList, core_cycles
from rtl.interfaces import Status
from sim.bench import Recording
from sim.core_testbench import Batch
from sim.faults import FAULTS
from sim.random_jobs import random_job
from sim.runner import SimulationError
from sim.scoreboard import Expectation
from sim.simulate import simulate
from sim.stimulus import masked_stimulus, sequence_words, stats_record

CORE = PRESETS["tiny"]
RUNS = {0.0: 1, 0.3: 1, 0.6: 1}
MEMORIES = (Memory(), Memory(latency=40), Memory(bandwidth=3.0, latency=12, outstanding=3))
LISTS = 9


def small_job(rng: np.random.Generator, keys: np.ndarray) -> Job:
    """Return a random job of these keys, of few beats each."""
    job = random_job(rng, CORE, 60)
    drawn = rng.integers(job.keys, size=len(keys))
    dim = min(job.head_dim, 10)
    return replace(
        job, query=job.query[:, :dim], key=job.key[drawn, :dim], value=job.value[drawn], indices=keys, mask=Mask()
    )


def masked_job(rng: np.random.Generator, most: int) -> tuple[Job, KeySequence]:
    """Return a random job with the keys of a random command."""
    while True:
        sequence = random_sequence(rng, CORE, most)
        status, keys = sequence.run(CORE.max_keys)
        if status == SequenceStatus.OK:
            break
    job = small_job(rng, keys)
    positions = np.sort(rng.integers(sequence.positions[0], sequence.positions[1] + 1, job.rows))
    return replace(job, positions=positions, mask=sequence.mask), sequence


def good_batch(jobs: list[tuple[Job, KeySequence]], label: str, **options: object) -> Batch:
    expectations = [Expectation(f"job {n}", job, run_job(job, CORE.lanes)) for n, (job, _) in enumerate(jobs)]
    return Batch(label, [masked_stimulus(*pair, CORE) for pair in jobs], expectations, **options)


WRONG = {"range": {"end": CORE.max_keys + 1}, "mask": {"mask": 3}, "empty": {"end": 0}, "block": {"block_shift": 31}}


def spoilt_batch(seed: int, stall: float) -> Batch:
    """Return jobs every third of which has a wrong command or a fault of its own, of each kind in turn."""
    rng = np.random.default_rng(seed)
    stimuli, expectations = [], []
    faults = [*WRONG, "short bitmap", "rows", "query_length", "tau"]
    for n in range(3 * len(faults)):
        job, sequence = masked_job(rng, 50)
        fault = faults[n // 3] if n % 3 == 1 else None
        words = masked_stimulus(job, sequence, CORE)
        expectation = Expectation(f"job {n}", job, run_job(job, CORE.lanes))
        if fault in FAULTS:
            other, expectation = FAULTS[fault](rng, CORE, job)
            words = replace(other, fields=other.fields | {"keys": 0}, sequence=words.sequence)
        elif fault is not None:
            command, bitmap = sequence_words(sequence, CORE, **WRONG.get(fault, {}))
            if fault == "short bitmap":
                command, bitmap = sequence_words(KeySequence(0, 999, 0, np.ones(40, dtype=bool)), CORE)
            words.sequence = command, bitmap
            expectation = Expectation(f"job {n} ({fault})", job, None, Status.KEYS)
        stimuli.append(words)
        expectations.append(expectation)
    return Batch(f"seed {seed}, stall {stall}", stimuli, expectations, stall=stall, seed=seed)


def test_random_masks_are_bit_exact_and_wrong_commands_cost_their_job_alone():
    batches = [spoilt_batch(100 * n + int(10 * stall), stall) for stall, runs in RUNS.items() for n in range(runs)]
    simulate(CORE, batches, masked=True)


@dataclass(frozen=True)
class Case:
    """Jobs that the core has run, with a memory."""

    jobs: list[tuple[Job, KeySequence]]
    memory: Memory
    recording: Recording

    @property
    def listed(self) -> JobList:
        plain = [job for job, _ in self.jobs]
        survivors = [run_job(job, CORE.lanes).survivors for job in plain]
        return replace(JobList.of_jobs(plain, survivors, CORE.lanes), sequences=tuple(s for _, s in self.jobs))

    def differences(self) -> tuple[int, int]:
        """Return how far off the model is: cycles, uses in any record."""
        model = core_cycles(CORE, self.listed, self.memory)
        traffic = self.recording.traffic
        cycles = traffic["o"].last_cycle - traffic["q"].first_cycle + 1
        uses = np.array([stats_record(word, CORE)["cycles"] for word in self.recording.records])
        return abs(model.total - cycles), int(np.abs(model.uses - uses).max())


def sparse_job(rng: np.random.Generator) -> tuple[Job, KeySequence]:
    """Return a job of a few keys far apart, whose bitmap has words without a block."""
    bitmap = np.zeros(40 * 32, dtype=bool)
    bitmap[rng.choice(len(bitmap), 5, replace=False)] = True
    return small_job(rng, np.flatnonzero(bitmap)), KeySequence(0, len(bitmap), 0, bitmap)


@cache
def cases() -> list[Case]:
    rng = np.random.default_rng(8)
    lists = [
        [masked_job(rng, int(rng.choice([20, 120]))) for _ in range(int(rng.integers(1, 8)))] for _ in range(LISTS)
    ]
    lists += [[sparse_job(rng) for _ in range(6)] for _ in MEMORIES]
    memories = [MEMORIES[n % len(MEMORIES)] for n in range(len(lists))]
    batches = [
        good_batch(jobs, f"list {n}", memory=memory)
        for n, (jobs, memory) in enumerate(zip(lists, memories, strict=True))
    ]
    return [Case(*triple) for triple in zip(lists, memories, simulate(CORE, batches, masked=True), strict=True)]


def test_the_model_is_the_core_behind_its_sequencer(figure):
    worst = [case.differences() for case in cases()]
    jobs, keys = sum(len(case.jobs) for case in cases()), sum(int(case.listed.shape.keys.sum()) for case in cases())
    figure(
        f"key sequencer: {len(worst)} lists of {jobs} jobs, {keys} keys; the model is off by at most "
        f"{max(cycles for cycles, _ in worst)} cycles, and {max(uses for _, uses in worst)} in a record's uses"
    )
    assert worst == [(0, 0)] * len(worst)


@pytest.mark.parametrize("name", ["COMMAND_LATENCY", "COUNT_LATENCY"])
def test_a_wrong_constant_is_seen(name: str, monkeypatch):
    monkeypatch.setattr(latency, name, getattr(latency, name) + 1)
    assert any(case.differences()[0] for case in cases())


def test_keys_outside_the_mask_are_never_fetched():
    """A key is asked for once, and its beats are all that moves."""
    for case in cases():
        traffic = case.recording.traffic
        assert traffic["k_req"].transfers == sum(job.keys for job, _ in case.jobs)
        assert traffic["k"].transfers == sum(job.keys * CORE.head_beats(job.head_dim) for job, _ in case.jobs)


def test_another_key_is_seen():
    job, _ = sparse_job(np.random.default_rng(3))
    bitmap = np.zeros(40 * 32, dtype=bool)
    bitmap[job.indices + 1] = True
    other = KeySequence(0, len(bitmap), 0, bitmap)
    words = masked_stimulus(job, other, CORE)
    wrong = Batch("wrong", [words], [Expectation("job", job, run_job(job, CORE.lanes))])
    with pytest.raises(SimulationError, match="was asked for, which the job does not stream"):
        simulate(CORE, [wrong], masked=True)


def test_commands_that_do_not_fit_the_jobs_are_refused():
    listed = cases()[0].listed
    with pytest.raises(InputError, match="commands, one a job"):
        replace(listed, sequences=listed.sequences * 2)
    empty = replace(listed.sequences[0], bitmap=np.zeros(1, dtype=bool))
    with pytest.raises(InputError, match="the command of job 0 gives it 0 keys"):
        core_cycles(CORE, replace(listed, sequences=(empty, *listed.sequences[1:])))
