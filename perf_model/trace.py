"""Estimates from captured tensors: golden says which keys survive, and the model follows exactly these.

The jobs are those of `golden.plan.plan_jobs`, in their order, so that on one core the cycles are those that
``python -m sim run`` measures on the same file. Static masks without tensors are traces as well: the mask says which
keys are streamed, a rate how many of them survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from golden.block_mask import BlockMask
from golden.errors import InputError
from golden.fast import attend
from golden.key_sequence import KeySequence, job_sequence
from golden.masks import Mask, query_positions
from golden.partition import Head
from golden.plan import plan_jobs
from golden.quantise import QuantisedAttention
from golden.threshold import Threshold
from perf_model.cycles import JobShape
from perf_model.estimate import Estimate, estimate_schedule
from perf_model.exact import JobList
from perf_model.hardware import Hardware
from perf_model.schedule import Bools, JobStream, Schedule, split_line
from perf_model.workload import Workload


@dataclass(frozen=True, eq=False)
class TracedJob:
    """One job of a layer, and what became of its keys.

    Parameters
    ----------
    shape : JobShape
        The job.
    head : Head
        Its sequence, key and value head, and number there.
    streamed : numpy.ndarray
        Which keys of the layer it streams; bool, shape (keys,).
    survivors : numpy.ndarray
        Which of those survive; bool, shape (keys streamed,).
    sequence : KeySequence, optional
        By which a key sequencer finds its keys; only under a static mask.
    """

    shape: JobShape
    head: Head
    streamed: Bools
    survivors: Bools
    sequence: KeySequence | None = None


@dataclass(frozen=True, eq=False)
class Trace:
    """A layer under a threshold, as a core runs it.

    Parameters
    ----------
    workload : Workload
        Its shape.
    jobs : list of TracedJob
        Of one layer, by sequence, key and value head, then by position.
    """

    workload: Workload
    jobs: list[TracedJob]

    @property
    def survival(self) -> float:
        """Share of the keys streamed that survive."""
        return sum(int(job.survivors.sum()) for job in self.jobs) / sum(len(job.survivors) for job in self.jobs)


def workload_of(name: str, attention: QuantisedAttention, mask: Mask) -> Workload:
    """Return a layer's tensors as a workload of one layer; queries are taken to be at its last positions."""
    same = attention.queries == attention.keys
    return Workload(
        name=name,
        heads=attention.query_heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        value_dim=attention.value_dim,
        layers=1,
        length=attention.keys,
        phase="decode" if attention.queries == 1 else "prefill",
        chunk=None if same or attention.queries == 1 else attention.queries,
        causal=bool(mask.kind),
        window=mask.window or None,
        shared_values=attention.shared,
    )


def trace(
    name: str,
    attention: QuantisedAttention,
    hardware: Hardware,
    mask: Mask | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
) -> Trace:
    """Run a layer through golden and return its jobs with their survivors.

    Parameters
    ----------
    name : str
        For titles.
    attention : QuantisedAttention
        The layer.
    hardware : Hardware
        Whose cores run it.
    mask, threshold, block_mask : optional
        As of `golden.fast.attend`.

    Raises
    ------
    InputError
        If the core can't hold the layer, or `block_mask` does not fit.
    """
    core, mask = hardware.core, mask or Mask()
    attended = attend(attention, core, mask, threshold, block_mask, keep=True)
    assert attended.kept is not None, "golden was asked to keep them"
    jobs = []
    plan = plan_jobs(attention, core, mask, threshold, block_mask)
    for number, planned in enumerate(plan):
        head = Head(0, planned.kv_head, number % attended.kept.shape[1])
        streamed = np.zeros(attention.keys, dtype=bool)
        streamed[np.searchsorted(attention.indices, planned.job.indices)] = True
        survivors = attended.kept[head.kv_head, head.block][streamed]
        shape = JobShape.of_job(planned.job, survivors, core.lanes)
        sequence = None
        if block_mask is not None:
            rows = planned.job.positions
            sequence = job_sequence(rows, attention.indices, mask, block_mask, planned.kv_head)
        jobs.append(TracedJob(shape, head, streamed, survivors, sequence))
    return Trace(workload_of(name, attention, mask), jobs)


def masked_trace(workload: Workload, hardware: Hardware, block_mask: BlockMask, survival: float = 1.0) -> Trace:
    """Return a layer of a workload under a static mask, a share of the keys streamed surviving, evenly spread.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        Whose cores run it.
    block_mask : BlockMask
        For every sequence.
    survival : float
        Share of the keys streamed that survive.

    Raises
    ------
    InputError
        If the core can't hold the workload, or `block_mask` does not fit it.
    """
    core = hardware.core
    workload.check(core)
    workload.check_blocks(core, workload.key_heads * workload.batch)
    jobs = []
    for sequence, length in enumerate(workload.lengths * workload.batch):
        indices, positions = np.arange(length), query_positions(workload.queries_of(length), length)
        block_mask.check(workload.key_heads, positions, indices)
        rows, first, end = workload.row_blocks(core, length)
        starts = np.cumsum(rows) - rows
        visible = (indices >= first[:, None]) & (indices < end[:, None])
        of_rows = [
            positions[np.arange(start, start + count) // workload.group]
            for start, count in zip(starts, rows, strict=True)
        ]
        streamed = [block_mask.streamed(at, indices) & seen for at, seen in zip(of_rows, visible, strict=True)]
        for kv_head in range(workload.key_heads):
            keys = np.array([part[kv_head].sum() for part in streamed])
            if not keys.all():
                block = int(np.argmin(keys))
                raise InputError(f"the block mask leaves block {block} of kv head {kv_head} without a key")
            listed = JobList.of_shape(workload.jobs(core, rows, keys, survival))
            fates = np.split(listed.survivors, np.cumsum(keys)[:-1])
            for block, (part, fate) in enumerate(zip(streamed, fates, strict=True)):
                shape = JobShape(
                    rows=int(rows[block]),
                    keys=int(keys[block]),
                    head_dim=workload.head_dim,
                    value_dim=workload.values,
                    survivors=int(fate.sum()),
                    shared=workload.captured(core),
                )
                command = job_sequence(of_rows[block], indices, workload.mask, block_mask, kv_head)
                jobs.append(TracedJob(shape, Head(sequence, kv_head, block), part[kv_head], fate, command))
    return Trace(workload, jobs)


def _stream(jobs: list[TracedJob]) -> JobStream:
    """Return what one core runs."""
    shared, seen, distinct = [], [], []
    sequences = tuple(job.sequence for job in jobs if job.sequence is not None)
    for _, alike in groupby(jobs, key=lambda job: (job.head.request, job.head.kv_head)):
        streamed = np.array([job.streamed for job in alike])
        ever = np.logical_or.accumulate(streamed, axis=0)
        shared += [0, *(streamed[1:] & streamed[:-1]).sum(axis=1)]
        seen += [0, *(streamed[1:] & ever[:-1]).sum(axis=1)]
        distinct += [ever[-1].sum()] * len(streamed)
    return JobStream(
        jobs=JobShape.concatenate([job.shape for job in jobs]),
        shared=np.array(shared, dtype=np.int64),
        opens=np.ones(len(jobs), dtype=bool),
        seen=np.array(seen, dtype=np.int64),
        distinct=np.array(distinct, dtype=np.int64),
        survivors=np.concatenate([job.survivors for job in jobs]),
        sequences=sequences if len(sequences) == len(jobs) else None,
    )


def estimate_trace(layer: Trace, hardware: Hardware, method: str = "core", follow: bool | None = None) -> Estimate:
    """Estimate a traced layer, run as often as its workload has layers.

    Parameters
    ----------
    layer : Trace
        The layer, traced for the core of this hardware.
    hardware : Hardware
        The hardware.
    method : str
        Of the result.
    follow : bool or None
        As of `perf_model.estimate.estimate`; None stands for following the jobs however long that takes.

    Raises
    ------
    InputError
        If several cores would split the keys of a job, whose parts keep other keys than the whole, or if tau moves from
        job to job by a target.
    """
    streams = [layer.jobs]
    if hardware.cores > 1:
        line = {job.head: len(job.survivors) for job in layer.jobs}
        partition = split_line(line, hardware)
        if partition.merges:
            raise InputError(f"a trace says nothing of split keys; partition must be whole, not {hardware.partition}")
        of_head = {job.head: job for job in layer.jobs}
        streams = [[of_head[span.head] for span in spans] for spans in partition.workers if spans]
        if any(job.shape.continues for job in layer.jobs):
            raise InputError(
                f"a target moves tau from block to block on one core; cores must be 1, not {hardware.cores}"
            )
    run = Schedule(tuple(map(_stream, streams)), layer.workload.layers)
    return estimate_schedule(layer.workload, hardware, run, layer.survival, method, follow)
