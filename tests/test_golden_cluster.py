"""Lists of a cluster's jobs: whole heads, golden's bits of a partition, and an order in which cores don't wait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_cases import LANES, jobs
from hypothesis import given
from hypothesis import strategies as st

from golden.block import run_job
from golden.cluster import ClusterJob, heads_of, list_jobs, run_list
from golden.config import PRESETS, ClusterConfig
from golden.decode_batch import decode_jobs
from golden.errors import InputError
from golden.job import Job
from golden.partition import RULES, Head, Partition, Span, batch, lean, random_lengths
from golden.state import PartialState
from golden.threshold import Threshold

TINY = PRESETS["tiny"]
BATCHES = st.builds(batch, st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 3))


@given(
    st.lists(jobs(with_state=False), min_size=1, max_size=3), LANES, st.integers(1, 5), st.integers(1, 20), st.data()
)
def test_a_partition_s_list_gives_its_bits(
    batch_jobs: list[Job], lanes: int, workers: int, tile: int, data: st.DataObject
):
    by_head = {Head(request, 0): job for request, job in enumerate(batch_jobs)}
    keys = {head: job.keys for head, job in by_head.items()}
    partition = RULES[data.draw(st.sampled_from(sorted(RULES)))](keys, workers, tile)
    listed = list_jobs(partition, by_head)
    expected = partition.run(by_head, lanes)
    results, heads = run_list(listed, lanes)
    assert len(results) == sum(map(len, partition.workers))
    order = list(dict.fromkeys(span.head for _, span in partition.listed()))
    for head, result in zip(order, heads, strict=True):
        assert result.state == expected[head].state
        for name in ("output", "survivors", "packs", "dropped", "saturated"):
            assert np.array_equal(getattr(result, name), getattr(expected[head], name)), name


@given(BATCHES, st.integers(1, 6), st.integers(1, 40), st.sampled_from(sorted(RULES)))
def test_a_list_holds_every_span_and_heads_in_the_order_in_which_they_are_done(keys, workers, tile, rule):
    partition = RULES[rule](keys, workers, tile)
    listed = partition.listed()
    spans = {(n, span) for n, spans in enumerate(partition.workers) for span in spans}
    assert len(listed) == len(spans)
    assert set(listed) == spans
    time = [0] * workers
    done = {}
    for worker, span in listed:
        time[worker] += span.keys
        done[span.head] = max(done.get(span.head, 0), time[worker])
    assert list(done.values()) == sorted(done.values())
    for head, parts in partition.parts.items():
        first = listed.index(parts[0])
        assert listed[first : first + len(parts)] == parts, head


def coarse_busy(partition: Partition, listed: list[tuple[int, Span]], queue: int) -> float:
    """Return how busy workers are that take jobs from a list through queues, and return their heads in its order."""
    ends: list[list[int]] = [[] for _ in partition.workers]
    leaves: list[list[int]] = [[] for _ in partition.workers]
    sent = left = 0
    for worker, span in listed:
        n = len(ends[worker])
        # Two jobs are in a worker, the next ones in its queue; a job needs the place of the one before the last.
        sent = max([sent, *ends[worker][max(n - 2 - queue, 0) : max(n - 1 - queue, 0)]])
        start = max([sent, *ends[worker][-1:], *leaves[worker][max(n - 2, 0) : n - 1]])
        ends[worker].append(start + span.keys)
        left = max(left, ends[worker][-1])
        leaves[worker].append(left)
    return sum(partition.keys.values()) / (len(partition.workers) * left)


def test_workers_seldom_wait_where_heads_are_listed_as_they_are_done():
    """Against the order of the line: what waits for its turn, or for a queue, keeps a worker idle."""
    listed, line = [], []
    for seed in range(20):
        partition = lean(batch(random_lengths(12, seed, 64, 8192), 2), 4, 16)
        listed.append(coarse_busy(partition, partition.listed(), 16))
        line.append(coarse_busy(partition, [part for parts in partition.parts.values() for part in parts], 16))
    assert np.mean(listed) > 0.99
    assert min(listed) > 0.95
    assert np.mean(line) < 0.5


def decode_list() -> list[ClusterJob]:
    keys = batch([30, 12], 1)
    return list_jobs(lean(keys, 2, 4), decode_jobs(keys, TINY, 2, 8, Threshold(), 0))


def test_decode_jobs_are_one_step_over_random_keys():
    keys = batch([30, 12], 2)
    made = decode_jobs(keys, TINY, 3, 10, Threshold.of(tau=4), 5)
    assert [job.keys for job in made.values()] == [30, 30, 12, 12]
    assert [job.tag for job in made.values()] == [0, 1, 2, 3]
    for job in made.values():
        assert (job.rows, job.head_dim, job.value_dim) == (3, 10, 10)
        assert run_job(job, 4).dropped.sum() >= 0
        assert job.mask.allowed(job.positions, job.indices).all()
    again, other = (decode_jobs(keys, TINY, 3, 10, Threshold.of(tau=4), seed)[Head(0, 0)] for seed in (5, 6))
    assert np.array_equal(again.key, made[Head(0, 0)].key)
    assert not np.array_equal(other.key, again.key)
    with pytest.raises(InputError, match="rows is 9; this configuration holds at most 4"):
        decode_jobs(keys, TINY, 9, 10, Threshold(), 5)


def test_wrong_lists_are_refused():
    listed = decode_list()
    assert [len(head) for head in heads_of(listed)] == [1, 2] or [len(head) for head in heads_of(listed)] == [2, 1]
    with pytest.raises(InputError, match="the list ends within a head"):
        heads_of([*listed, replace(listed[0], more=True)])
    taller = replace(listed[0].job, query=listed[0].job.query[:1], positions=listed[0].job.positions[:1])
    with pytest.raises(InputError, match="job 1 has another number of rows or value dimension"):
        heads_of([replace(listed[0], more=True), ClusterJob(taller)])


def test_a_head_that_starts_from_a_state_is_refused():
    keys = batch([30], 1)
    (head, job), *_ = decode_jobs(keys, TINY, 2, 8, Threshold(), 0).items()
    with pytest.raises(InputError, match="starts from a state, which a partition can't"):
        list_jobs(lean(keys, 2, 4), {head: replace(job, state=PartialState.empty(2, 8))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cores": 0}, "cores must be an integer from 1 to 64, not 0"),
        ({"cores": 65}, "cores must be an integer from 1 to 64, not 65"),
        ({"queue_jobs": 2}, "queue_jobs must be an integer from 3 to 256, not 2"),
        ({"queue_beats": 5000}, "queue_beats must be an integer from 3 to 4096, not 5000"),
        ({"cores": True}, "cores must be an integer from 1 to 64, not True"),
    ],
)
def test_impossible_clusters_are_refused(change: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        ClusterConfig(TINY, **change)
    assert ClusterConfig(TINY).to_dict()["core"] == TINY.to_dict()
