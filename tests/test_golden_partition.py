"""Split and merge: every key once, the bounds of each rule, and the bits of what a partition computes."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from golden_cases import LANES, jobs
from hypothesis import given
from hypothesis import strategies as st

from golden.__main__ import main
from golden.errors import InputError
from golden.partition import RULES, Head, Partition, batch, heuristic, lean, splits, whole
from golden.split import run_split

BATCHES = st.builds(batch, st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 2))
WORKERS = st.integers(1, 40)
TILES = st.integers(1, 70)


def check(partition: Partition) -> None:
    """Every key is computed once, spans begin at tiles, and the counts are those of the spans."""
    for head, length in partition.keys.items():
        spans = [span for _, span in partition.parts[head]]
        assert [0, *(span.end for span in spans[:-1])] == [span.first for span in spans]
        assert (spans[-1].end, {span.head for span in spans}) == (length, {head})
        assert all(span.first % partition.tile == 0 and span.keys > 0 for span in spans)
        assert partition.cuts(head) == [span.first for span in spans[1:]]
        for worker, span in partition.parts[head]:
            assert span in partition.workers[worker]
    spans = [span for worker in partition.workers for span in worker]
    assert len(spans) == len(set(spans)) == len(partition.keys) + partition.merges
    for worker, tiles, keys in zip(partition.workers, partition.tiles, partition.worker_keys, strict=True):
        assert keys == sum(span.keys for span in worker)
        assert tiles == sum(-(-span.keys // partition.tile) for span in worker)
    assert partition.worker_keys.sum() == sum(partition.keys.values())
    assert partition.makespan == max(partition.tiles)
    assert partition.busy == pytest.approx(np.mean(partition.tiles) / partition.makespan)


@given(BATCHES, WORKERS, TILES)
def test_lean_gives_every_worker_its_share_of_one_line(keys, workers, tile):
    partition = lean(keys, workers, tile)
    check(partition)
    total = sum(-(-length // tile) for length in keys.values())
    most = -(-total // workers)
    assert len(partition.workers) == workers
    assert set(partition.tiles) <= {most, most - 1}
    assert sorted(partition.tiles, reverse=True) == list(partition.tiles)
    line = [(list(keys).index(span.head), span.first) for spans in partition.workers for span in spans]
    assert line == sorted(line)
    for of_head in partition.parts.values():
        numbers = [worker for worker, _ in of_head]
        assert numbers == sorted(set(numbers)), "a worker has at most one span of a head"


@given(BATCHES, WORKERS, TILES)
def test_the_other_rules_hand_out_equal_splits_to_who_is_free(keys, workers, tile):
    count = splits(len(keys), workers, -(-max(keys.values()) // tile))
    for rule, expected in ((heuristic, count), (whole, 1)):
        partition = rule(keys, workers, tile)
        check(partition)
        line = []
        for head, length in keys.items():
            tiles = -(-length // tile)
            of_head = [-(-span.keys // tile) for _, span in partition.parts[head]]
            step = -(-tiles // expected)
            assert of_head == [step] * (tiles // step) + [tiles % step] * (tiles % step > 0)
            line += [(worker, tiles) for (worker, _), tiles in zip(partition.parts[head], of_head, strict=True)]
        busy_until = [0] * workers
        for worker, tiles in line:
            assert worker == min(range(workers), key=lambda n: (busy_until[n], n))
            busy_until[worker] += tiles
        assert partition.makespan == max(busy_until)


@given(BATCHES, WORKERS, TILES)
def test_no_rule_is_faster_than_lean(keys, workers, tile):
    fastest = lean(keys, workers, tile).makespan
    assert fastest <= heuristic(keys, workers, tile).makespan
    assert fastest <= whole(keys, workers, tile).makespan


def reference_splits(heads: int, workers: int, tiles: int) -> int:
    """FlashAttention-2's `num_splits_heuristic`, statement by statement."""
    if heads >= 0.8 * workers:
        return 1
    most = min(128, workers, tiles)

    def eligible(count: int) -> bool:
        return count == 1 or -(-tiles // count) != -(-tiles // (count - 1))

    best, efficiency = 0.0, []
    for count in range(1, most + 1):
        reached = 0.0
        if eligible(count):
            waves = heads * count / workers
            reached = waves / np.ceil(waves)
            best = max(best, reached)
        efficiency.append(reached)
    for count in range(1, most + 1):
        if eligible(count) and efficiency[count - 1] >= 0.85 * best:
            return count
    return 1


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 500))
def test_splits_are_those_of_flash_attention_2(heads, workers, tiles):
    assert splits(heads, workers, tiles) == reference_splits(heads, workers, tiles)


@pytest.mark.parametrize(
    ("heads", "workers", "tiles", "expected"),
    [
        (8, 10, 100, 1),  # 0.8 heads a worker fill enough
        (7, 10, 100, 4),  # 28 splits fill 2.8 of 3 waves: 93 %; 7, 14 and 21 fill 70 %
        (1, 64, 1000, 56),  # 54 of 64 would do, but splits get no shorter from 53 to 55
        (1, 64, 3, 3),
        (4, 100, 64, 22),  # 88 %; of 22, splits are shorter than of 21
    ],
)
def test_splits_of_some_batches(heads, workers, tiles, expected):
    assert splits(heads, workers, tiles) == expected


def test_a_small_batch_by_hand():
    """Heads of 5, 5, 1 and 1 tiles over 3 workers."""
    keys = batch([40, 3], 2)
    partition = lean(keys, 3, 8)
    first, second, third, fourth = keys
    assert [[(span.head, span.first, span.end) for span in spans] for spans in partition.workers] == [
        [(first, 0, 32)],
        [(first, 32, 40), (second, 0, 24)],
        [(second, 24, 40), (third, 0, 3), (fourth, 0, 3)],
    ]
    assert (partition.makespan, partition.busy, partition.merges) == (4, 1, 2)
    assert partition.worker_keys.tolist() == [32, 32, 22]
    assert whole(keys, 3, 8).tiles.tolist() == [5, 5, 2]
    assert lean(keys, 20, 8).tiles.tolist() == [1] * 12 + [0] * 8


def test_heads_go_by_request_then_head_then_block():
    keys = batch([5, 9], 2, 2)
    assert list(keys) == sorted(keys)
    assert len(keys) == 8
    assert Counter(keys.values()) == {5: 4, 9: 4}
    assert list(keys)[:3] == [Head(0, 0, 0), Head(0, 0, 1), Head(0, 1, 0)]


@given(st.lists(jobs(), min_size=1, max_size=4), LANES, st.integers(1, 9), st.integers(1, 20), st.data())
def test_what_a_partition_computes_is_the_split_job_to_the_bit(batch_jobs, lanes, workers, tile, data):
    by_head = {Head(request, 0): job for request, job in enumerate(batch_jobs)}
    keys = {head: job.keys for head, job in by_head.items()}
    partition = RULES[data.draw(st.sampled_from(sorted(RULES)))](keys, workers, tile)
    results = partition.run(by_head, lanes)
    assert list(results) == list(by_head)
    for head, job in by_head.items():
        expected = run_split(job, lanes, partition.cuts(head))
        assert results[head].state == expected.state
        for name in ("output", "survivors", "packs", "dropped", "saturated"):
            assert np.array_equal(getattr(results[head], name), getattr(expected, name)), name


@given(jobs(), LANES)
def test_jobs_that_are_not_the_partition_s_are_refused(job, lanes):
    partition = lean({Head(0, 0): job.keys + 1}, 2, 4)
    for wrong in ({Head(0, 0): job}, {}, {Head(0, 1): job}):
        with pytest.raises(InputError, match=r"Head\(.*\) has .* keys in the partition, .* in the jobs"):
            partition.run(wrong, lanes)
    with pytest.raises(InputError, match="the partition has no Head"):
        partition.cuts(Head(7, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: batch([], 1), "a batch needs at least one request"),
        (lambda: batch([3, 0], 1), "lengths must be at least 1, not 0"),
        (lambda: batch([3], 0), "heads must be at least 1, not 0"),
        (lambda: batch([3], 1, 0), "blocks must be at least 1, not 0"),
        (lambda: lean({}, 1, 1), "needs at least one head"),
        (lambda: whole({Head(0, 0): 0}, 1, 1), "needs at least one head"),
        (lambda: lean(batch([3], 1), 0, 1), "workers and tile must be at least 1, not 0 and 1"),
        (lambda: heuristic(batch([3], 1), 1, 0), "workers and tile must be at least 1, not 1 and 0"),
    ],
)
def test_impossible_batches_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def table(capsys, *options: object) -> dict[str, list[str]]:
    assert main(["partition", *map(str, options)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[2:]} | {"": lines[:1]}


def test_the_command_prints_the_three_rules(capsys):
    found = table(capsys, "--lengths", 40, 3, "--heads", 2, "--workers", 3, "--tile", 8)
    assert found == {
        "": ["2 requests of 3 to 40 keys: 4 heads, 12 tiles."],
        "lean": ["2", "4", "1.00", "100.0%", "2"],
        "heuristic": ["1", "5", "1.25", "80.0%", "0"],
        "whole": ["1", "5", "1.25", "80.0%", "0"],
    }


def test_random_lengths_repeat_from_their_seed(capsys):
    options = ["--random", 9, "--heads", 2, "--workers", 30, "--min", 70, "--max", 900]
    first, same, other = (table(capsys, *options, "--seed", seed) for seed in (5, 5, 6))
    assert first == same != other
    low, high, seed = map(int, re.search(r"requests of (\d+) to (\d+) keys \(seed (\d+)\)", first[""][0]).groups())
    assert (70 <= low < high <= 900, seed) == (True, 5)
    assert float(first["lean"][1]) < float(first["whole"][1])
    assert "requests of 7 to 7 keys" in table(capsys, *options[:6], "--min", 7, "--max", 7)[""][0]


def test_bad_options_of_the_command(capsys):
    assert main(["partition", "--random", "3", "--min", "9", "--max", "8", "--heads", "1", "--workers", "1"]) == 2
    assert capsys.readouterr().err == "error: lengths must rise from a shortest of at least 1, not from 9 to 8\n"
    for options in (["--heads", "1", "--workers", "2"], ["--lengths", "0", "--heads", "1", "--workers", "2"]):
        with pytest.raises(SystemExit) as exit_:
            main(["partition", *options])
        assert exit_.value.code == 2
        assert "error: " in capsys.readouterr().err
