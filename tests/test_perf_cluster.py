"""The exact model of a cluster against the simulated one: no cycle of difference, nor any use of an array."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cluster_cases import CLUSTER

from golden.cluster import ClusterJob, list_jobs, run_list
from golden.config import PRESETS, ClusterConfig
from golden.decode_batch import decode_jobs
from golden.job import Job
from golden.partition import RULES, batch, random_lengths
from golden.threshold import Threshold
from perf_model import latency
from perf_model.cluster import ClusterCycles, cluster_cycles
from perf_model.exact import JobList, core_cycles
from sim.cluster import list_batch, simulate_lists
from sim.cluster_bench import ClusterRecording
from sim.random_jobs import random_job
from sim.stimulus import stats_record

CORE = CLUSTER.core


def random_list(rng: np.random.Generator, heads: int) -> list[ClusterJob]:
    """Return a list of good jobs: heads of one to four parts of all shapes, some that give their state."""
    listed = []
    for _ in range(heads):
        job = replace(random_job(rng, CORE, int(rng.choice([10, 60]))), mask=random_job(rng, CORE).mask)
        parts = min(int(rng.choice([1, 1, 2, 4])), job.keys)
        for n, keys in enumerate(np.array_split(np.arange(job.keys), parts)):
            part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys])
            core = None if rng.random() < 0.4 else int(rng.integers(CLUSTER.cores))
            listed.append(ClusterJob(replace(part, state=job.state if n == 0 else None), core, more=n < parts - 1))
    return listed


def decode_list(rule: str, lengths: list[int], rows: int, emit_state: bool = False) -> list[ClusterJob]:
    keys = batch(lengths, 2)
    jobs = decode_jobs(keys, CORE, rows, CORE.max_value_dim, Threshold.of(tau=5), 1)
    return list_jobs(
        RULES[rule](keys, CLUSTER.cores, 8), {head: replace(job, emit_state=emit_state) for head, job in jobs.items()}
    )


def blocking_list() -> list[ClusterJob]:
    """Return one job more for a core than it and its queue hold, the first one long; then one for another core."""
    in_core = 2
    keys = batch([150, *[5] * (in_core + CLUSTER.queue_jobs), 150], 1)
    # A beat of queries each, of which the queue holds more than jobs.
    jobs = list(decode_jobs(keys, CORE, 1, CORE.lanes, Threshold(), 1).values())
    return [ClusterJob(job, int(n == len(jobs) - 1)) for n, job in enumerate(jobs)]


@cache
def cases() -> list[tuple[list[ClusterJob], list[np.ndarray], ClusterRecording]]:
    rng = np.random.default_rng(21)
    lists = [random_list(rng, 10) for _ in range(5)]
    lists += [decode_list(rule, lengths, 2) for rule in RULES for lengths in ([150, 20, 9], [60])]
    lists += [decode_list("lean", [100], rows, emit_state=True) for rows in (1, 2)]
    # Short jobs, so that queues fill up, and a long one in front of them, so that their heads wait.
    lists += [decode_list("whole", [3] * 9, 2), [replace(e, core=0) for e in decode_list("lean", [200, 5, 5, 5, 5], 2)]]
    lists.append(blocking_list())
    results = [run_list(listed, CORE.lanes) for listed in lists]
    batches = [list_batch(CLUSTER, listed, f"list {n}", results[n]) for n, listed in enumerate(lists)]
    recordings = simulate_lists(CLUSTER, batches)
    survivors = [[result.survivors for result in of_jobs] for of_jobs, _ in results]
    return list(zip(lists, survivors, recordings, strict=True))


def differences(model: ClusterCycles, recording: ClusterRecording) -> tuple[int, int, int]:
    """Return how far off the model is: cycles, uses in any record, jobs on another core."""
    cycles = recording.traffic["o"].last_cycle - recording.traffic["q"].first_cycle + 1
    uses = np.array([stats_record(word, CORE)["cycles"] for word in recording.records])
    other = sum(given != core for given, core in zip(recording.cores, model.cores.tolist(), strict=True))
    return abs(model.total - cycles), int(np.abs(model.uses - uses).max()), other


def test_the_model_is_the_cluster(figure):
    worst = [differences(cluster_cycles(CLUSTER, *case[:2]), case[2]) for case in cases()]
    jobs = sum(len(listed) for listed, _, _ in cases())
    merged = sum(sum(entry.more for entry in listed) for listed, _, _ in cases())
    figure(
        f"cluster of {CLUSTER.cores}: {len(worst)} lists of {jobs} jobs, {merged} merges; the model is off by at most "
        f"{max(cycles for cycles, _, _ in worst)} cycles, and {max(uses for _, uses, _ in worst)} in a record's uses"
    )
    assert worst == [(0, 0, 0)] * len(worst)


@pytest.mark.parametrize("name", ["MERGE_STAGES", "DIVIDER_PASSES", "DIVIDER_LATENCY", "LOADER_ENTRY"])
def test_a_wrong_constant_is_seen(name: str, monkeypatch):
    monkeypatch.setattr(latency, name, getattr(latency, name) - 1)
    assert any(differences(cluster_cycles(CLUSTER, *case[:2]), case[2])[0] for case in cases())


@pytest.mark.parametrize("change", [{"queue_jobs": 4}, {"queue_beats": 7}])
def test_another_queue_is_seen(change: dict[str, int]):
    other = replace(CLUSTER, **change)
    assert any(differences(cluster_cycles(other, *case[:2]), case[2])[0] for case in cases())


def test_a_cluster_of_one_takes_what_its_core_takes_and_a_little_more():
    core = PRESETS["small"]
    keys = batch([300, 200, 250], 1)
    jobs: list[Job] = list(decode_jobs(keys, core, 4, 64, Threshold(), 2).values())
    survivors = [np.ones(job.keys, dtype=bool) for job in jobs]
    alone = core_cycles(core, JobList.of_jobs(jobs, survivors, core.lanes)).total
    cluster = cluster_cycles(ClusterConfig(core, cores=1), [ClusterJob(job, 0) for job in jobs], survivors)
    assert alone < cluster.total < alone + 20
    assert cluster.left[-1] == cluster.total


def test_four_cores_are_busy_on_a_ragged_batch():
    """What the bench measures in simulation, on a batch of its own: the lean rule, and the two others."""
    core = PRESETS["tiny"]
    keys = batch(random_lengths(10, 7, 64, 8192), 2)
    jobs = decode_jobs(keys, core, 1, 32, Threshold(), 0)
    busy = {}
    for rule, divide in RULES.items():
        listed = list_jobs(divide(keys, 4, 16), jobs)
        survivors = [np.ones(entry.job.keys, dtype=bool) for entry in listed]
        busy[rule] = cluster_cycles(ClusterConfig(core, cores=4), listed, survivors).busy(4)
    assert busy["lean"] > 0.95
    assert busy["lean"] > busy["heuristic"]
