"""Cycles of a schedule: followed cycle by cycle where it is short, by closed form or on a sample where it is not."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from golden.config import CoreConfig
from golden.memory import Memory
from perf_model.cycles import JobShape, StreamCycles, stream_cycles, stream_runs
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.latency import STATE_PIECES
from perf_model.schedule import Schedule

FOLLOWED_BEATS = 10_000_000
"""Array beats that are followed cycle by cycle; longer lists go by closed form or sample. About a second."""

SAMPLED_BEATS = 1_000_000
"""Array beats that are followed of a list too long, if its memory has no closed form."""

DIVISION_CYCLES = 3
"""Of a merge unit for an element. Few blocks are merged, so its divider is taken to be a third of a core's."""

EXACT, CLOSED_FORM, SAMPLE = "exact", "closed form", "exact on a sample"


def settled_lists(jobs: int, times: int) -> tuple[int, int] | None:
    """Return how many runs of a list of `jobs` jobs settle what a further one takes, and how many runs to see it.

    None stands for lists run so few times that all can be followed.
    """
    # A start depends on the two jobs before it, so a few runs settle what every further one takes. Jobs that wait for a
    # context may come in pairs, so two are followed.
    settled = 2 + 6 // jobs
    return (settled, settled + 2) if times > settled + 2 else None


def followed_exactly(core: CoreConfig, blocks: JobShape, times: int) -> bool:
    """Return whether a list run `times` over is to be followed cycle by cycle: whether it is short."""
    lists = sum(settled_lists(np.size(blocks.rows), times) or (times,))
    return stream_cycles(core, blocks).array * lists <= FOLLOWED_BEATS


def repeated_cycles(
    core: CoreConfig,
    blocks: JobShape,
    times: int,
    memory: Memory | None = None,
    listed: JobList | None = None,
) -> StreamCycles:
    """Return the cycles of the same list of jobs run `times` over, back to back.

    The first few runs are followed; the others take as long as the last of these.

    Parameters
    ----------
    core : CoreConfig
        The core.
    blocks : JobShape
        The list of jobs, say those of one head.
    times : int
        How often, 1 or more.
    memory : Memory, optional
        The memory, only with `listed`.
    listed : JobList, optional
        The jobs of `blocks`: follow the runs cycle by cycle (`perf_model.exact`), rather than job by job.
    """
    settled = settled_lists(np.size(blocks.rows), times)
    closed = stream_runs(core, blocks, 1 if listed is not None else settled[1] if settled else times)

    def cycles(runs: int) -> int:
        if listed is not None:
            return core_cycles(core, listed.repeated(runs), memory).total
        return closed[runs - 1].total

    if settled is None:
        total = cycles(times)
    else:
        some, more = map(cycles, settled)
        total = some + (times - settled[0]) * (more - some) // (settled[1] - settled[0])
    return StreamCycles(total, closed[0].qk * times, closed[0].pv * times)


def sampled_cycles(core: CoreConfig, jobs: JobShape, memory: Memory) -> int:
    """Return about the cycles of a long list of jobs with a memory.

    Jobs evenly picked from the list, cut short if they are very long, are followed. The whole list is taken to need as
    much more as the array works more in it.
    """
    table = JobShape.concatenate([jobs])
    every = stream_cycles(core, table).array
    count = len(np.asarray(table.keys))
    wanted = min(count, max(4, count * SAMPLED_BEATS // every))
    picked = np.linspace(0, count - 1, wanted).round().astype(np.int64)
    sample = JobShape(**{field.name: np.asarray(getattr(table, field.name))[picked] for field in fields(table)})
    share = min(1.0, SAMPLED_BEATS / stream_cycles(core, sample).array)
    keys = np.ceil(np.asarray(sample.keys) * share).astype(np.int64)
    survivors = np.minimum(keys, np.ceil(np.asarray(sample.survivors) * share).astype(np.int64))
    sample = replace(sample, keys=keys, survivors=survivors, last_survives=np.minimum(survivors, 1), last_keys=0 * keys)
    followed = core_cycles(core, JobList.of_shape(sample), memory)
    return followed.total * every // (followed.qk + followed.pv)


def schedule_cycles(
    hardware: Hardware, schedule: Schedule, value_dim: int, follow: bool | None
) -> tuple[StreamCycles, str]:
    """Return the cycles of a schedule, and how they were found: `EXACT`, `CLOSED_FORM` or `SAMPLE`.

    Parameters
    ----------
    hardware : Hardware
        The hardware.
    schedule : Schedule
        What its cores run.
    value_dim : int
        Elements of a value row.
    follow : bool or None
        Whether to follow jobs cycle by cycle if they are short enough; with a memory they are anyway. None follows them
        however long they are.
    """
    core, memory = hardware.core, hardware.core_memory
    short = follow or memory != Memory()
    if hardware.cores == 1:
        (stream,), times = schedule.streams, schedule.times
        if follow is None or (short and followed_exactly(core, stream.jobs, times)):
            return repeated_cycles(core, stream.jobs, times, memory, stream.listed), EXACT
        if memory == Memory():
            return repeated_cycles(core, stream.jobs, times), CLOSED_FORM
        once = stream_cycles(core, stream.jobs)
        total = sampled_cycles(core, stream.jobs, memory) * times
        return StreamCycles(total, once.qk * times, once.pv * times), SAMPLE

    closed = [stream_cycles(core, stream.jobs) for stream in schedule.streams]
    qk, pv = (sum(getattr(cycles, name) for cycles in closed) for name in ("qk", "pv"))
    if follow is None or (short and qk + pv <= FOLLOWED_BEATS):
        found = EXACT
        longest = max(core_cycles(core, stream.listed, memory).total for stream in schedule.streams)
    elif memory == Memory():
        found = CLOSED_FORM
        longest = max(cycles.total for cycles in closed)
    else:
        found = SAMPLE
        longest = sampled_cycles(
            core, schedule.streams[int(np.argmax([cycles.array for cycles in closed]))].jobs, memory
        )
    layer = longest + merge_cycles(core, schedule, value_dim, hardware.merge_units)
    return StreamCycles(layer * schedule.times, qk * schedule.times, pv * schedule.times), found


def merge_cycles(core: CoreConfig, schedule: Schedule, value_dim: int, units: int) -> int:
    """Return the cycles from the end of the last core's jobs to the last merged output.

    The parts with which cores end their jobs are taken to come in the same cycle; others are merged while the cores
    work. A unit merges the parts of a block one after the other. A beat of states takes its transfers, and a cycle more
    for each word after its first. While the last part comes it divides, an element in `DIVISION_CYCLES`.
    """
    if not schedule.late:
        return 0
    # The maximum and the sum are a word of their own, in a beat of its own.
    part = STATE_PIECES + core.output_beats(value_dim) * (STATE_PIECES - 1) + value_dim
    last = max(part, DIVISION_CYCLES * value_dim)
    merging = [rows * ((parts - 1) * part + last) for rows, parts in schedule.late]
    return max(*merging, -(-sum(merging) // units))
