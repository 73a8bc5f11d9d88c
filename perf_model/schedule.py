"""Which jobs each core runs, in which order, and what they share: from a workload, or from jobs that are given.

One core runs key and value head after head, layer after layer, without a pause. Several cores share the blocks of a
layer, of all its heads and sequences, by a rule of `golden.partition`, and the next layer begins when the last of them
is done. Where a rule splits the keys of a block, its parts return partial states, which are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from golden.key_sequence import KeySequence
from golden.partition import RULES, Head, Partition
from perf_model.cycles import JobShape
from perf_model.exact import JobList
from perf_model.hardware import Hardware
from perf_model.latency import Ints
from perf_model.workload import RowBlocks, Workload

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class JobStream:
    """The jobs of one core, in their order.

    Parameters
    ----------
    jobs : JobShape
        The jobs, as arrays of one axis.
    shared : numpy.ndarray
        Keys that each job streams, and the job before it as well; int64, 0 where that was of another head or sequence.
    opens : numpy.ndarray
        Whether a job is the first part of its block's keys, or all of it; bool.
    seen, distinct : numpy.ndarray, optional
        Keys of each job that some earlier job of its head streamed, and keys that this core streams of the head in
        all; int64. Only where static masks let a key come back after a job that skips it.
    survivors : numpy.ndarray, optional
        Whether each key survives, job after job; bool. Spread evenly if not given.
    sequences : tuple of KeySequence, optional
        By which a key sequencer finds the keys of each job, where a static mask leaves some of them.
    """

    jobs: JobShape
    shared: Ints
    opens: Bools
    seen: Ints | None = None
    distinct: Ints | None = None
    survivors: Bools | None = None
    sequences: tuple[KeySequence, ...] | None = None

    def __len__(self) -> int:
        return len(self.shared)

    @property
    def listed(self) -> JobList:
        """The jobs with the fate of each key."""
        if self.survivors is None:
            return JobList.of_shape(self.jobs)
        return JobList(JobShape.concatenate([self.jobs]), self.survivors, self.sequences)

    def fetched(self, capacity: int) -> Ints:
        """Return the keys of each job that come from the memory, if a scratchpad holds `capacity` keys with values.

        A key that the next job streams as well stays if there is room. Of a head that fits as a whole every key stays.
        """
        kept = np.minimum(self.shared, capacity)
        if self.seen is not None and self.distinct is not None:
            kept = np.where(self.distinct <= capacity, self.seen, kept)
        return np.asarray(self.jobs.keys - kept)


@dataclass(frozen=True, eq=False)
class Schedule:
    """What every core runs.

    Parameters
    ----------
    streams : tuple of JobStream
        The jobs of each core that has any.
    times : int
        How often all of it is run.
    late : tuple of tuple of int
        Of each block that cores end with parts of: its rows, and how many parts.
    """

    streams: tuple[JobStream, ...]
    times: int
    late: tuple[tuple[int, int], ...] = ()

    @cached_property
    def jobs(self) -> JobShape:
        """The jobs of all cores, run once."""
        return JobShape.concatenate([stream.jobs for stream in self.streams])


def overlap(first: Ints, end: Ints, head: Ints) -> Ints:
    """Return of each range of keys how many are in the range before it as well, if that is of the same head."""
    shared = np.zeros_like(first)
    common = np.minimum(end[1:], end[:-1]) - np.maximum(first[1:], first[:-1])
    shared[1:] = np.where(head[1:] == head[:-1], np.maximum(common, 0), 0)
    return shared


def schedule(workload: Workload, hardware: Hardware, survival: float = 1.0) -> Schedule:
    """Return what the cores of `hardware` run of `workload`, of whose keys a share survives.

    Raises
    ------
    InputError
        If a core can't hold the workload, or it has too many blocks of rows.
    """
    workload.check(hardware.core)
    blocks = [workload.row_blocks(hardware.core, length) for length in workload.lengths]
    if hardware.cores == 1:
        heads = np.repeat(np.arange(len(blocks)), [len(part.rows) for part in blocks])
        rows, first, end = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        jobs = JobShape.concatenate([workload.jobs(hardware.core, rows, end - first, survival)])
        stream = JobStream(jobs, overlap(first, end, heads), np.ones(len(rows), dtype=bool))
        return Schedule((stream,), workload.streams)

    workload.check_blocks(hardware.core, workload.key_heads * workload.batch)
    line = {
        Head(sequence, kv_head, block): int(keys)
        for sequence, part in enumerate(blocks * workload.batch)
        for kv_head in range(workload.key_heads)
        for block, keys in enumerate(part.end - part.first)
    }
    partition = split_line(line, hardware)
    streams = []
    for rows, first, end, head, opens, split in _spans(partition, blocks):
        jobs = JobShape.concatenate([workload.jobs(hardware.core, rows, end - first, survival)])
        jobs = replace(jobs, emit_state=split)
        streams.append(JobStream(jobs, overlap(first, end, head), opens))
    ends = Counter(spans[-1].head for spans in partition.workers if spans and len(partition.parts[spans[-1].head]) > 1)
    late = tuple((int(blocks[head.request % len(blocks)].rows[head.block]), parts) for head, parts in ends.items())
    return Schedule(tuple(streams), workload.layers, late)


def split_line(line: dict[Head, int], hardware: Hardware) -> Partition:
    """Return how the cores of `hardware` share a line of heads with so many keys each."""
    return RULES[hardware.partition](line, hardware.cores, hardware.tile)


def _spans(partition: Partition, blocks: Sequence[RowBlocks]) -> Iterator[tuple[Ints, Ints, Ints, Ints, Bools, Ints]]:
    """Give of each core that has work: rows, keys from and to, head, whether first parts, whether split."""
    parts = {head: len(spans) for head, spans in partition.parts.items()}
    numbers: dict[tuple[int, int], int] = {}
    for spans in partition.workers:
        if not spans:
            continue
        table = []
        for span in spans:
            rows, first, _ = blocks[span.head.request % len(blocks)]
            number = numbers.setdefault((span.head.request, span.head.kv_head), len(numbers))
            start, block = int(first[span.head.block]), span.head.block
            split = parts[span.head] > 1
            table.append((rows[block], start + span.first, start + span.end, number, span.first == 0, split))
        columns = np.array(table, dtype=np.int64).T
        yield columns[0], columns[1], columns[2], columns[3], columns[4].astype(bool), columns[5]
