"""From the tensors of a layer to a list of jobs, and from their results back to a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden import formats
from golden.config import CoreConfig
from golden.job import Job
from golden.masks import Mask
from golden.quantise import QuantisedAttention


@dataclass(frozen=True, eq=False)
class PlannedJob:
    """A job, and which rows of the layer it computes.

    Parameters
    ----------
    job : Job
        The job.
    kv_head : int
        Key and value head.
    query_head, query_index : numpy.ndarray
        Query head and query of every row, int64, shape (rows,).
    """

    job: Job
    kv_head: int
    query_head: np.ndarray
    query_index: np.ndarray


def _visible_keys(mask: Mask, positions: np.ndarray, indices: np.ndarray) -> slice:
    """Return the range from the first to the last key that any row sees; the first key when there is none."""
    seen = np.flatnonzero(mask.allowed(positions, indices).any(axis=0))
    return slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 1)


def plan_jobs(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask | None = None,
    tau: int = formats.TAU_KEEP_ALL,
    first_tag: int = 0,
) -> list[PlannedJob]:
    """Cut a layer into jobs.

    The rows of a kv head are the queries of all the query heads of its group, position by position, so that rows which
    share a block see nearly the same keys. They are cut into blocks of `config.rows`. Keys that no row of a block may
    attend to are not streamed.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    config : CoreConfig
        The core that is to run the jobs.
    mask : Mask, optional
        Every query sees every key by default.
    tau : int
        Threshold of every job, in logit units.
    first_tag : int
        Tag of the first job; tags count up and wrap at ``2**tag_bits``.

    Returns
    -------
    list of PlannedJob
        By kv head, then by position.

    Raises
    ------
    InputError
        If `config` can't hold a job.
    """
    mask = mask or Mask()
    group = attention.group
    offsets = np.tile(np.arange(group, dtype=np.int64), attention.queries)
    query_index = np.repeat(np.arange(attention.queries, dtype=np.int64), group)
    positions = attention.positions[query_index]
    indices = np.arange(attention.keys, dtype=np.int64)
    blocks = [slice(first, first + config.rows) for first in range(0, len(offsets), config.rows)]
    visible = [_visible_keys(mask, positions[rows], indices) for rows in blocks]
    plan: list[PlannedJob] = []
    for kv_head in range(attention.kv_heads):
        query_head = kv_head * group + offsets
        scale = attention.score_scale(kv_head)
        for rows, keys in zip(blocks, visible, strict=True):
            job = Job(
                query=attention.query[query_head[rows], query_index[rows]],
                positions=positions[rows],
                key=attention.key[kv_head, keys],
                indices=indices[keys],
                value=attention.value[kv_head, keys],
                scale=scale,
                tau=tau,
                mask=mask,
                tag=(first_tag + len(plan)) % (1 << config.tag_bits),
            )
            job.check(config)
            plan.append(PlannedJob(job, kv_head, query_head[rows], query_index[rows]))
    return plan


def assemble(plan: Sequence[PlannedJob], blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Put what every job says of its rows back in the order of the layer.

    Parameters
    ----------
    plan : sequence of PlannedJob
        All the jobs of a layer.
    blocks : sequence of numpy.ndarray
        An array for every job, the same dtype and trailing axes everywhere, shape (rows, ...): outputs, say.

    Returns
    -------
    numpy.ndarray
        Shape (query_heads, queries, ...).
    """
    heads = np.concatenate([planned.query_head for planned in plan])
    queries = np.concatenate([planned.query_index for planned in plan])
    rows = np.concatenate(blocks)
    layer = np.empty((heads.max() + 1, queries.max() + 1, *rows.shape[1:]), dtype=rows.dtype)
    layer[heads, queries] = rows
    return layer
