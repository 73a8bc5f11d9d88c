"""Split and merge: which worker computes which keys of a batch whose requests are of unequal lengths.

The work of a batch is a line of *heads*: for every request its key and value heads, and for each of those its blocks of
query rows, each with as many *tiles* of keys as its keys fill. A worker, a core say, computes *spans*: some keys of one
head each. Where a head's keys are in several spans, their partial states are merged (`golden.state`), always by rising
key, whoever computed them: merging is not associative to the last bit.

Three ways to cut the line:

* `lean`: all tiles in one line, cut into as many equal parts as there are workers; a part may end within a head and
  begin within another request (Lean Attention, arXiv 2405.10480, after Stream-K). No worker has more than
  ``ceil(tiles / workers)`` tiles, and none has fewer than one less.
* `heuristic`: every head in the same number of splits, which is what FlashAttention-2 chooses for decode (`splits`).
* `whole`: no head is split.

The spans of the last two go, in the order of the line, each to the worker that is free first, as a GPU hands out its
thread blocks. Time is counted in tiles; what merging costs comes on top, so merges are counted as well.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from golden.block import run_job
from golden.errors import InputError
from golden.job import Job, JobResult
from golden.split import merge_parts

FULL_ENOUGH = 0.8
"""Share of the workers from which on as many heads are not split by FlashAttention-2."""

GOOD_ENOUGH = 0.85
"""Share of the best wave efficiency that FlashAttention-2 is content with."""

MOST_SPLITS = 128
"""Splits of a head that FlashAttention-2 considers at most."""


@dataclass(frozen=True, order=True)
class Head:
    """One block of query rows of one key and value head of one request.

    Parameters
    ----------
    request, kv_head, block : int
        Numbers from 0.
    """

    request: int
    kv_head: int
    block: int = 0


@dataclass(frozen=True)
class Span:
    """Some keys of a head, which one worker computes without a pause.

    Parameters
    ----------
    head : Head
        The head.
    first, end : int
        Its first key, and the one after its last, counted within the head.
    """

    head: Head
    first: int
    end: int

    @property
    def keys(self) -> int:
        """Keys of the span."""
        return self.end - self.first


@dataclass(frozen=True, eq=False)
class Partition:
    """What every worker does, and in which order its results are merged.

    Parameters
    ----------
    keys : Mapping
        Keys of every head, in the order of the line.
    tile : int
        Keys of a tile; spans begin at a multiple of it.
    workers : tuple of tuple of Span
        The spans of each worker, in the order in which it computes them.
    """

    keys: Mapping[Head, int]
    tile: int
    workers: tuple[tuple[Span, ...], ...]

    @cached_property
    def parts(self) -> dict[Head, list[tuple[int, Span]]]:
        """The spans of each head by rising key, which is the order of merging, each after its worker's number."""
        parts: dict[Head, list[tuple[int, Span]]] = {head: [] for head in self.keys}
        for worker, spans in enumerate(self.workers):
            for span in spans:
                parts[span.head].append((worker, span))
        for of_head in parts.values():
            of_head.sort(key=lambda part: part[1].first)
        return parts

    def cuts(self, head: Head) -> list[int]:
        """Return the keys at which the head's spans begin, without the first: the `cuts` of `golden.split.run_split`.

        Raises
        ------
        InputError
            If there is no such head.
        """
        if head not in self.parts:
            raise InputError(f"the partition has no {head}")
        return [span.first for _, span in self.parts[head][1:]]

    @property
    def tiles(self) -> np.ndarray:
        """Tiles of each worker, int64, shape (workers,)."""
        return np.array([sum(-(-span.keys // self.tile) for span in spans) for spans in self.workers], dtype=np.int64)

    @property
    def worker_keys(self) -> np.ndarray:
        """Keys of each worker, int64, shape (workers,)."""
        return np.array([sum(span.keys for span in spans) for spans in self.workers], dtype=np.int64)

    @property
    def makespan(self) -> int:
        """Tiles of the worker that is done last."""
        return int(self.tiles.max())

    @property
    def busy(self) -> float:
        """Share of the time until the last worker is done in which a worker computes, on average."""
        return float(self.tiles.mean() / self.tiles.max())

    @property
    def merges(self) -> int:
        """Times that two partial states are merged."""
        return sum(len(spans) for spans in self.workers) - len(self.keys)

    def listed(self) -> list[tuple[int, Span]]:
        """Return the spans, each after its worker's number, in an order in which a cluster can take and return them.

        A cluster takes one list of jobs and returns the heads in the order of the list (`golden.cluster`), so the heads
        are listed in the order in which they are done: always the one that is done first if it comes next on its
        workers. The spans of a head follow each other by rising key. A worker may do its spans in another order than
        in `workers`, which changes no result.
        """
        time = [0] * len(self.workers)
        # Of the heads of one and the same worker only the shortest can be next.
        alone: dict[int, list[tuple[int, Head]]] = {}
        shared: list[Head] = []
        for head, parts in self.parts.items():
            if len(parts) == 1:
                alone.setdefault(parts[0][0], []).append((parts[0][1].keys, head))
            else:
                shared.append(head)
        for heads in alone.values():
            heads.sort(reverse=True)
        order: list[tuple[int, Span]] = []
        for _ in self.parts:
            next_alone = [(time[worker] + heads[-1][0], heads[-1][1]) for worker, heads in alone.items() if heads]
            next_shared = [
                (max(time[worker] + span.keys for worker, span in self.parts[head]), head) for head in shared
            ]
            _, head = min(next_alone + next_shared)
            parts = self.parts[head]
            if len(parts) == 1:
                alone[parts[0][0]].pop()
            else:
                shared.remove(head)
            for worker, span in parts:
                time[worker] += span.keys
            order += parts
        return order

    def check(self, jobs: Mapping[Head, Job]) -> None:
        """Raise InputError unless heads and numbers of keys of `jobs` are those of the partition."""
        if (found := {head: job.keys for head, job in jobs.items()}) != dict(self.keys):
            wrong = next(head for head in [*self.keys, *found] if self.keys.get(head) != found.get(head))
            raise InputError(
                f"{wrong} has {self.keys.get(wrong)} keys in the partition, {found.get(wrong)} in the jobs"
            )

    def run(self, jobs: Mapping[Head, Job], lanes: int) -> dict[Head, JobResult]:
        """Compute every span as a job of its own, worker by worker, and merge the states of each head.

        Parameters
        ----------
        jobs : Mapping
            The whole job of each head.
        lanes : int
            Keys of a full pack, `CoreConfig.lanes`.

        Returns
        -------
        dict of Head to JobResult
            Equal in every bit to `golden.split.run_split` of the head's job at the same cuts.

        Raises
        ------
        InputError
            If heads or numbers of keys are not those of the partition.
        """
        self.check(jobs)
        results: dict[Span, JobResult] = {}
        for spans in self.workers:
            for span in spans:
                job, keys = jobs[span.head], slice(span.first, span.end)
                part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys], state=None)
                results[span] = run_job(part, lanes)
        return {
            head: merge_parts(jobs[head], [results[span] for _, span in parts]) for head, parts in self.parts.items()
        }


def batch(lengths: Sequence[int], kv_heads: int, blocks: int = 1) -> dict[Head, int]:
    """Return the line of heads of a batch and the keys of each.

    Parameters
    ----------
    lengths : sequence of int
        Keys of every request.
    kv_heads, blocks : int
        Key and value heads of a layer, and blocks of query rows that each of them serves: 1 in decode.

    Raises
    ------
    InputError
        If there is no request, or a number is below 1.
    """
    if not lengths:
        raise InputError("a batch needs at least one request")
    for name, least in (("lengths", min(lengths)), ("heads", kv_heads), ("blocks", blocks)):
        if least < 1:
            raise InputError(f"{name} must be at least 1, not {least}")
    return {
        Head(request, kv_head, block): length
        for request, length in enumerate(lengths)
        for kv_head in range(kv_heads)
        for block in range(blocks)
    }


def random_lengths(count: int, seed: int, shortest: int, longest: int) -> list[int]:
    """Return the keys of so many requests, numbers whose logarithms are uniform.

    Raises
    ------
    InputError
        If `shortest` is below 1 or above `longest`.
    """
    if not 1 <= shortest <= longest:
        raise InputError(f"lengths must rise from a shortest of at least 1, not from {shortest} to {longest}")
    random = np.random.default_rng(seed)
    drawn = np.exp(random.uniform(np.log(shortest), np.log(longest + 1), count))
    return [int(length) for length in np.clip(drawn, shortest, longest)]


def _check(keys: Mapping[Head, int], workers: int, tile: int) -> None:
    if not keys or min(keys.values()) < 1:
        raise InputError("a partition needs at least one head, and a head at least one key")
    if min(workers, tile) < 1:
        raise InputError(f"workers and tile must be at least 1, not {workers} and {tile}")


def lean(keys: Mapping[Head, int], workers: int, tile: int) -> Partition:
    """Cut the line of all tiles into `workers` parts of equal length, or one tile less for the last of them.

    Parameters
    ----------
    keys : Mapping
        Keys of each head, in the order of the line.
    workers : int
        Workers. Those for which no tile is left get nothing.
    tile : int
        Keys of a tile.

    Raises
    ------
    InputError
        If there is no head, or a number is below 1.
    """
    _check(keys, workers, tile)
    total = sum(-(-length // tile) for length in keys.values())
    share, longer = divmod(total, workers)
    plan: list[list[Span]] = [[] for _ in range(workers)]
    worker, room = 0, share + (longer > 0)
    for head, length in keys.items():
        first = 0
        while first < length:
            if room == 0:
                worker += 1
                room = share + (worker < longer)
            end = min(length, first + room * tile)
            plan[worker].append(Span(head, first, end))
            room -= -(-(end - first) // tile)
            first = end
    return Partition(keys, tile, tuple(map(tuple, plan)))


def splits(heads: int, workers: int, tiles: int) -> int:
    """Return in how many splits FlashAttention-2 computes each head (`num_splits_heuristic` of its decode kernel).

    One if there are at least `FULL_ENOUGH` heads a worker. Otherwise the fewest whose efficiency is `GOOD_ENOUGH` of
    the best. All workers computing a split each are a wave, and the efficiency is the waves that the splits fill over
    the whole waves that they take. Numbers that make no split shorter than fewer splits do are left out.

    Parameters
    ----------
    heads : int
        Requests times key and value heads times blocks of rows.
    workers : int
        Workers.
    tiles : int
        Tiles of the longest head.
    """
    if heads >= FULL_ENOUGH * workers:
        return 1
    efficiency = {}
    for count in range(1, min(MOST_SPLITS, workers, tiles) + 1):
        if count == 1 or -(-tiles // count) != -(-tiles // (count - 1)):
            waves = heads * count / workers
            efficiency[count] = waves / -(-heads * count // workers)
    best = max(efficiency.values())
    return next(count for count, reached in efficiency.items() if reached >= GOOD_ENOUGH * best)


def _split(keys: Mapping[Head, int], count: int, tile: int) -> Iterator[Span]:
    for head, length in keys.items():
        tiles = -(-length // tile)
        step = -(-tiles // count) * tile
        for first in range(0, length, step):
            yield Span(head, first, min(length, first + step))


def _handed_out(keys: Mapping[Head, int], count: int, workers: int, tile: int) -> Partition:
    """Give each span to the worker that is free first, to the one of the lowest number if several are."""
    plan: list[list[Span]] = [[] for _ in range(workers)]
    free = [(0, worker) for worker in range(workers)]
    for span in _split(keys, count, tile):
        time, worker = free[0]
        plan[worker].append(span)
        heapq.heapreplace(free, (time + -(-span.keys // tile), worker))
    return Partition(keys, tile, tuple(map(tuple, plan)))


def heuristic(keys: Mapping[Head, int], workers: int, tile: int) -> Partition:
    """Cut every head into the same number of splits, as FlashAttention-2 does: see `splits`. Arguments as of `lean`."""
    _check(keys, workers, tile)
    longest = -(-max(keys.values()) // tile)
    return _handed_out(keys, splits(len(keys), workers, longest), workers, tile)


def whole(keys: Mapping[Head, int], workers: int, tile: int) -> Partition:
    """Leave every head whole. Arguments as of `lean`."""
    _check(keys, workers, tile)
    return _handed_out(keys, 1, workers, tile)


RULES = {"lean": lean, "heuristic": heuristic, "whole": whole}
"""The three ways by name."""
