"""A whole layer job by job, with the plain loop of `golden.block`: what the core is driven with and compared to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from golden.attended import Attended
from golden.block import run_job
from golden.block_mask import BlockMask
from golden.config import CoreConfig
from golden.job import JobResult
from golden.masks import Mask
from golden.plan import PlannedJob, assemble, plan_jobs
from golden.quantise import QuantisedAttention
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class LayerJobs:
    """The jobs of a layer, and what each returned.

    Parameters
    ----------
    plan : list of PlannedJob
        The jobs, with the threshold that each had.
    results : list of JobResult
        The result of every job.
    attended : Attended
        The same, put together to arrays over the layer.
    """

    plan: list[PlannedJob]
    results: list[JobResult]
    attended: Attended


def run_layer(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
) -> LayerJobs:
    """Run a layer job by job.

    This is the readable specification. `golden.fast.attend` gives the same bits many times as fast, without jobs.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    config : CoreConfig
        The core.
    mask : Mask, optional
        Every query sees every key by default.
    threshold : Threshold, optional
        Nothing is dropped by default. A target is followed from block to block, in each kv head by itself.
    block_mask : BlockMask, optional
        Keys outside it are not streamed.

    Returns
    -------
    LayerJobs

    Raises
    ------
    InputError
        If `config` can't hold a job, or `block_mask` does not fit.
    """
    mask, first = mask or Mask(), threshold or Threshold()
    plan: list[PlannedJob] = []
    results: list[JobResult] = []
    current = first
    for planned in plan_jobs(attention, config, mask, first, block_mask):
        if not plan or plan[-1].kv_head != planned.kv_head:
            current = first
        job = replace(planned.job, threshold=current)
        plan.append(replace(planned, job=job))
        results.append(run_job(job, config.lanes))
        current = current.after(int(results[-1].survivors.sum()), job.keys)
    return LayerJobs(plan, results, _attended(attention, config, mask, block_mask, first, plan, results))


def _attended(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask,
    block_mask: BlockMask | None,
    threshold: Threshold,
    plan: list[PlannedJob],
    results: list[JobResult],
) -> Attended:
    jobs = [planned.job for planned in plan]

    def by_block(counts: list[int]) -> np.ndarray:
        return np.array(counts, dtype=np.int64).reshape(attention.kv_heads, -1)

    kept = np.zeros((len(plan), attention.keys), dtype=bool)
    for row, job, result in zip(kept, jobs, results, strict=True):
        row[np.searchsorted(attention.indices, job.indices)] = result.survivors
    attendable = [job.mask.allowed(job.positions, job.indices).sum(axis=1) for job in jobs]
    return Attended(
        attention=attention,
        mask=mask,
        block_mask=block_mask,
        threshold=threshold,
        rows=config.rows,
        output=assemble(plan, [result.output for result in results]),
        maximum=assemble(plan, [result.state.maximum for result in results]),
        total=assemble(plan, [result.state.total for result in results]),
        attendable=assemble(plan, attendable),
        dropped=assemble(plan, [result.dropped for result in results]),
        streamed=by_block([job.keys for job in jobs]),
        survivors=by_block([int(result.survivors.sum()) for result in results]),
        packs=by_block([result.packs for result in results]),
        saturated=by_block([result.saturated for result in results]),
        tau=by_block([job.threshold.tau for job in jobs]),
        kept=kept.reshape(attention.kv_heads, -1, attention.keys),
    )
