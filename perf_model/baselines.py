"""Other ways to compute the same attention on the same array and memory, and the core's own ways beside each other.

Every function returns an `Estimate` of one way, so that cycles, bytes of each level and energy stand side by side:

* `unfused`: scores and probabilities go to memory and come back.
* `flat`: FLAT at the granularity of rows (S.-C. Kao et al., ASPLOS 2023, arXiv 2107.06419).
* `dense`: FlashAttention (T. Dao et al., arXiv 2205.14135), which is this core with nothing dropped.
* `thresholded`: this core, a share of the keys surviving.
* `static_mask`: this core, a share of the keys streamed, or those of a block mask.
* `split_keys`: this core several times, keys shared out by the lean rule (arXiv 2405.10480), and the merges.

The first two have no RTL here, so they are modelled in their favour: their arrays never wait for a pipeline to fill,
nor for a memory's latency; only the array's own beats, the softmax at a score a row and cycle, and the bandwidths of
the streams and of the DRAM count. Both leave the division to the end, as the core does. Every value is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden import formats
from golden.block_mask import BlockMask
from golden.errors import InputError
from perf_model.cycles import JobShape, StreamCycles, job_cost
from perf_model.estimate import Estimate, dense_macs, estimate, estimate_schedule, jobs_activity
from perf_model.hardware import Hardware
from perf_model.memory_traffic import KeyBytes, Traffic, compulsory_bytes
from perf_model.schedule import JobStream, Schedule, schedule
from perf_model.trace import estimate_trace, masked_trace
from perf_model.traffic import port_bytes
from perf_model.workload import Workload

SCORE_BYTES = formats.SCORE_BITS // 8
"""Of a score, and of a probability, in memory."""


@dataclass(frozen=True)
class _Use:
    """What one core does of a way that has no RTL, all its jobs together.

    Parameters
    ----------
    cycles : int
        Cycles, the DRAM's bandwidth left out where phases overlap.
    scores : int
        Bytes of scores and probabilities that leave the array or come back to it.
    scratchpad, dram : int
        Bytes of these levels.
    """

    cycles: int
    scores: int
    scratchpad: int
    dram: int


@dataclass(frozen=True)
class _Work:
    """What every way does with a core's jobs: array beats, cycles of a pass of the softmax, bytes on the ports."""

    qk: int
    pv: int
    softmax: int
    ports: dict[str, int]
    scores: int

    @classmethod
    def of(cls, stream: JobStream, hardware: Hardware) -> _Work:
        """Return the work of the dense jobs of `stream`. The softmax takes a score a row and cycle."""
        cost = job_cost(hardware.core, stream.jobs)
        qk, pv, keys = (int(np.sum(count)) for count in (cost.qk, cost.pv, stream.jobs.keys))
        scores = SCORE_BYTES * int(np.sum(stream.jobs.rows * stream.jobs.keys))
        return cls(qk, pv, keys, port_bytes(hardware.core, stream.jobs), scores)


def _moving(bytes_: float, bandwidth: float | None) -> int:
    """Return the cycles that a memory takes to move bytes."""
    return 0 if bandwidth is None else math.ceil(bytes_ / bandwidth)


def _unfused_use(stream: JobStream, workload: Workload, hardware: Hardware) -> _Use:
    row, scratchpad, work = KeyBytes.of(hardware.core, workload), hardware.scratchpad_bytes, _Work.of(stream, hardware)
    ports, scores = work.ports, work.scores
    # K alone has the scratchpad in the first phase, and V in the last.
    keys = int(stream.fetched(scratchpad // row.key).sum()) * row.key
    values = int(stream.fetched(scratchpad // row.value).sum()) * row.value
    held = scratchpad >= row.key and bool(np.any(stream.shared))
    # Of each phase: cycles of the array or the softmax, bytes to and from the array, and of these to and from the DRAM.
    phases = (
        (work.qk, ports["q"] + ports["k"] + scores, ports["q"] + keys + scores),
        (work.softmax, 2 * scores, 2 * scores),
        (work.pv, scores + ports["v"] + ports["o"], scores + values + ports["o"]),
    )
    streams = hardware.core_memory.bandwidth
    dram = None if hardware.dram_bandwidth is None else hardware.dram_bandwidth / hardware.cores
    return _Use(
        cycles=sum(max(busy, _moving(near, streams), _moving(far, dram)) for busy, near, far in phases),
        scores=4 * scores,
        scratchpad=keys + values + ports["k"] + ports["v"] if held else 0,
        dram=sum(far for _, _, far in phases),
    )


def _flat_use(stream: JobStream, workload: Workload, hardware: Hardware) -> _Use:
    row, scratchpad, work = KeyBytes.of(hardware.core, workload), hardware.scratchpad_bytes, _Work.of(stream, hardware)
    ports = work.ports
    buffer = SCORE_BYTES * np.asarray(stream.jobs.rows * stream.jobs.keys)
    # Written and read as scores, written and read as probabilities.
    spilled = 4 * int(np.maximum(0, buffer - scratchpad).sum())
    room = max(0, scratchpad - int(buffer.max())) // row.both
    fetched = stream.fetched(room)
    # When P V begins, all keys of the block have gone by; values that are part of them come again, unless held.
    again = np.maximum(0, stream.jobs.keys - room) if workload.shared_values else fetched
    moved = int(fetched.sum()) * row.key + int(np.sum(again)) * row.value
    held = room > 0 and bool(np.any(stream.shared))
    near = sum(ports[name] for name in ("q", "k", "v", "o")) + 4 * work.scores
    return _Use(
        cycles=max(work.qk + work.pv, work.softmax, _moving(near, hardware.core_memory.bandwidth)),
        scores=4 * work.scores,
        scratchpad=4 * work.scores - spilled + (moved + ports["k"] + ports["v"] if held else 0),
        dram=ports["q"] + moved + spilled + ports["o"],
    )


def _modelled(workload: Workload, hardware: Hardware, method: str, uses: Sequence[_Use], run: Schedule) -> Estimate:
    """Return the estimate of a way that takes so much on each core."""
    core, jobs = hardware.core, run.jobs
    traffic = Traffic(
        ports=port_bytes(core, jobs) | {"scores": sum(use.scores for use in uses)},
        scratchpad=sum(use.scratchpad for use in uses),
        dram=sum(use.dram for use in uses),
        compulsory=compulsory_bytes(workload, core) * workload.streams // run.times,
    )
    cost = job_cost(core, jobs)
    qk, pv = (int(np.sum(beats)) * run.times for beats in (cost.qk, cost.pv))
    macs = dense_macs(workload, core)
    total = max(max(use.cycles for use in uses), hardware.dram_cycles(traffic.dram))
    activity = jobs_activity(core, jobs, traffic, hardware.scratchpad_bytes)
    return Estimate(
        workload=workload,
        hardware=hardware,
        method=method,
        survival=1.0,
        jobs=np.size(jobs.rows) * run.times,
        cycles=StreamCycles(total * run.times, qk, pv),
        cycles_by="bounds",
        dense_macs=macs,
        macs=macs,
        traffic=traffic.times(run.times),
        energies=activity.energies(hardware.technology, hardware.dram, run.times),
    )


def _fetching(hardware: Hardware) -> Hardware:
    """Return the hardware with whole blocks on each core, and cores that fetch all values."""
    return replace(hardware, core=replace(hardware.core, shared_values=0), partition="whole")


def unfused(workload: Workload, hardware: Hardware) -> Estimate:
    """Estimate attention in three phases, whose scores and probabilities go to the DRAM and come back.

    Q K writes all scores, 2 bytes each; the softmax reads them and writes probabilities of 2 bytes; P V reads these. A
    phase takes as long as its array beats (or a cycle a column of scores), or as the memory takes to move its bytes.
    Phases follow one another. This is the usual baseline, that of FuseMax (arXiv 2406.10491) for instance, but for the
    softmax: it reads a row once, as if each row's maximum had been found on the way out.
    """
    hardware = _fetching(hardware)
    run = schedule(workload, hardware)
    uses = [_unfused_use(stream, workload, hardware) for stream in run.streams]
    return _modelled(workload, hardware, "unfused", uses, run)


def flat(workload: Workload, hardware: Hardware) -> Estimate:
    """Estimate FLAT at the granularity of rows, as many as the array has.

    The scores of a block of rows over all keys stay on the chip: Q K, softmax and P V of a block follow one another on
    the whole array, and blocks overlap, so that the slowest of array, softmax and memory decides (FLAT, section 5; that
    blocks overlap without loss follows FuseMax's model of it). The scratchpad holds first the block's scores, 2 bytes
    for each row and key, in place of which come the probabilities; what does not fit is spilled to the DRAM, written
    and read twice. The rest of it holds K and V under the same rule as the core's.
    """
    hardware = _fetching(hardware)
    run = schedule(workload, hardware)
    uses = [_flat_use(stream, workload, hardware) for stream in run.streams]
    return _modelled(workload, hardware, "FLAT, by rows", uses, run)


def dense(workload: Workload, hardware: Hardware) -> Estimate:
    """Estimate FlashAttention: this core with nothing dropped, so that the value of every key is fetched."""
    whole = replace(hardware, partition="whole")
    return replace(estimate(workload, whole), method="FlashAttention, dense")


def thresholded(workload: Workload, hardware: Hardware, survival: float) -> Estimate:
    """Estimate this core under a threshold that a share of the keys survives."""
    whole = replace(hardware, partition="whole")
    return replace(estimate(workload, whole, survival), method=f"threshold, {survival:.0%} survive")


def static_mask(workload: Workload, hardware: Hardware, mask: float | BlockMask, survival: float = 1.0) -> Estimate:
    """Estimate this core with a static mask, whose keys are not streamed.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware.
    mask : float or BlockMask
        Share of the keys that is streamed, above 0 to 1; or the mask, taken for every layer. Under a share, blocks of
        rows that follow one another are taken to stream the same keys as far as they see them.
    survival : float
        Share of the keys streamed that survive.

    Raises
    ------
    InputError
        If a share is not possible, or the mask does not fit the workload.
    """
    hardware = replace(hardware, partition="whole")
    if isinstance(mask, BlockMask):
        return estimate_trace(masked_trace(workload, hardware, mask, survival), hardware, "static mask", follow=True)
    if not 0 < mask <= 1:
        raise InputError(f"the share of the keys streamed must be above 0 and at most 1, not {mask}")
    run = schedule(workload, hardware)
    streams = []
    for stream in run.streams:
        keys = np.maximum(1, np.rint(mask * stream.jobs.keys)).astype(np.int64)
        shared = np.minimum(keys, np.rint(mask * stream.shared).astype(np.int64))
        masked = workload.jobs(hardware.core, np.asarray(stream.jobs.rows), keys, survival)
        streams.append(replace(stream, jobs=JobShape.concatenate([masked]), shared=shared))
    method = f"static mask, {mask:.0%} streamed"
    return estimate_schedule(workload, hardware, Schedule(tuple(streams), run.times), survival, method)


def split_keys(workload: Workload, hardware: Hardware, survival: float = 1.0) -> Estimate:
    """Estimate the cores of `hardware` with keys shared out by the lean rule, so that all work as long, and the merges.

    The partial states of a block whose keys are split stay on the chip. See `perf_model.schedule_cycles.merge_cycles`
    for the cycles of merging.
    """
    lean = replace(hardware, partition="lean")
    return replace(estimate(workload, lean, survival), method=f"lean on {hardware.cores} cores, {survival:.0%} survive")


def all_of(
    workload: Workload,
    hardware: Hardware,
    survival: float | Sequence[float] = (0.7, 0.4),
    mask: float | BlockMask | None = 0.5,
) -> list[Estimate]:
    """Estimate every way.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware. Several cores share whole blocks, but in `split_keys`.
    survival : float or sequence of float
        Shares of the keys that survive a threshold; 1 is always there, as `dense`.
    mask : float or BlockMask, optional
        Of `static_mask`, which None leaves out.

    Returns
    -------
    list of Estimate
        Each with its `method`.

    Raises
    ------
    InputError
        If the hardware can't hold the workload, or a share or a mask is not possible.
    """
    rates = [survival] if isinstance(survival, (int, float)) else survival
    found = [unfused(workload, hardware), flat(workload, hardware), dense(workload, hardware)]
    found += [thresholded(workload, hardware, rate) for rate in rates if rate != 1]
    if mask is not None:
        found.append(static_mask(workload, hardware, mask))
    if hardware.cores > 1:
        found += [split_keys(workload, hardware, rate) for rate in dict.fromkeys([1.0, *rates])]
    return found
