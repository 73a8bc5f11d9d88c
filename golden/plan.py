"""From the tensors of a layer to a list of jobs, and from their results back to a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.block_mask import BlockMask
from golden.config import CoreConfig
from golden.errors import InputError
from golden.job import Job
from golden.masks import Mask
from golden.quantise import QuantisedAttention
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class Blocks:
    """How the rows of a kv head are cut into blocks, which is the same for every kv head of a layer.

    The rows of a kv head are the queries of all the query heads of its group, position by position, so that rows which
    share a block see nearly the same keys.

    Parameters
    ----------
    query_index, head_offset : numpy.ndarray
        Query and query head within the group of every row, int64, shape (rows,).
    positions : numpy.ndarray
        Position of every row, int64, shape (rows,).
    rows : list of slice
        The rows of each block.
    visible : list of slice
        Of the layer's keys, each block's from the first to the last that some row may attend to by the mask; the first
        key if there is none.
    seen : list of bool
        Whether there is any key that some row of the block may attend to.
    streamed : numpy.ndarray, optional
        bool, shape (kv_heads, blocks, keys): which keys a block mask lets through. None without one: all of `visible`.
    """

    query_index: np.ndarray
    head_offset: np.ndarray
    positions: np.ndarray
    rows: list[slice]
    visible: list[slice]
    seen: list[bool]
    streamed: np.ndarray | None

    @classmethod
    def of(
        cls, attention: QuantisedAttention, config: CoreConfig, mask: Mask, block_mask: BlockMask | None = None
    ) -> Blocks:
        """Cut the rows of `attention` into blocks of ``config.rows``.

        Raises
        ------
        InputError
            If `block_mask` is not for such a layer, or leaves a block without a key.
        """
        group = attention.group
        query_index = np.repeat(np.arange(attention.queries, dtype=np.int64), group)
        head_offset = np.tile(np.arange(group, dtype=np.int64), attention.queries)
        positions = attention.positions[query_index]
        rows = [slice(first, first + config.rows) for first in range(0, len(positions), config.rows)]
        first, end = mask.bounds(positions, attention.indices)
        visible, seen = [], []
        for block in rows:
            sees = first[block] < end[block]
            seen.append(bool(sees.any()))
            bounds = (first[block][sees].min(), end[block][sees].max()) if seen[-1] else (0, 1)
            visible.append(slice(int(bounds[0]), int(bounds[1])))
        streamed = None
        if block_mask is not None:
            block_mask.check(attention.kv_heads, attention.positions, attention.indices)
            streamed = np.stack([block_mask.streamed(positions[block], attention.indices) for block in rows], axis=1)
            for block, keys in zip(rows, visible, strict=True):
                within = streamed[:, block.start // config.rows]
                within[:, : keys.start] = within[:, keys.stop :] = False
                for kv_head in np.flatnonzero(~within.any(axis=1)):
                    first, last = positions[block][[0, -1]]
                    where = f"kv head {kv_head}, positions {first} to {last}"
                    raise InputError(f"the block mask leaves {where} without a key that they may attend to")
        return cls(query_index, head_offset, positions, rows, visible, seen, streamed)


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


def check_layer(attention: QuantisedAttention, config: CoreConfig, mask: Mask) -> None:
    """Raise InputError if `config` can't hold the jobs of `attention`."""
    bounds = (
        ("head_dim", attention.head_dim, config.max_head_dim),
        ("value_dim", attention.value_dim, config.max_value_dim),
        ("keys", attention.keys, config.max_keys),
        ("largest key index", int(attention.indices[-1]), config.max_keys - 1),
        ("largest row position", int(attention.positions.max()), config.max_keys - 1),
        ("window", mask.window, config.max_keys),
    )
    for name, value, largest in bounds:
        if value > largest:
            raise InputError(f"{name} is {value}; this configuration holds at most {largest}")
    if min(int(attention.indices[0]), int(attention.positions.min())) < 0:
        raise InputError("key indices and row positions can't be negative")


def plan_jobs(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
    first_tag: int = 0,
) -> list[PlannedJob]:
    """Cut a layer into jobs, as `Blocks` cuts rows. Keys that no row of a job may attend to are not streamed.

    Jobs of a layer with shared values share them where the core can; on other cores they fetch them.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    config : CoreConfig
        The core that is to run the jobs.
    mask : Mask, optional
        Every query sees every key by default.
    threshold : Threshold, optional
        Of every job; nothing is dropped by default. With a target, the jobs of a kv head after its first go on from the
        tau of the one before, which is not known yet.
    block_mask : BlockMask, optional
        Keys outside it are not streamed.
    first_tag : int
        Tag of the first job; tags count up and wrap at ``2**tag_bits``.

    Returns
    -------
    list of PlannedJob
        By kv head, then by position.

    Raises
    ------
    InputError
        If `config` can't hold a job, or `block_mask` does not fit.
    """
    mask, threshold = mask or Mask(), threshold or Threshold()
    blocks = Blocks.of(attention, config, mask, block_mask)
    plan: list[PlannedJob] = []
    for kv_head in range(attention.kv_heads):
        query_head = kv_head * attention.group + blocks.head_offset
        scale = attention.score_scale(kv_head)
        for number, (rows, visible) in enumerate(zip(blocks.rows, blocks.visible, strict=True)):
            keys: slice | np.ndarray = visible
            if blocks.streamed is not None:
                keys = np.flatnonzero(blocks.streamed[kv_head, number])
            job = Job(
                query=attention.query[query_head[rows], blocks.query_index[rows]],
                positions=blocks.positions[rows],
                key=attention.key[kv_head, keys],
                indices=attention.indices[keys],
                value=attention.value[kv_head, keys],
                scale=scale,
                threshold=threshold,
                mask=mask,
                shared=attention.shared and bool(config.shared_values),
                continue_tau=bool(threshold.target) and number > 0,
                tag=(first_tag + len(plan)) % (1 << config.tag_bits),
            )
            job.check(config)
            plan.append(PlannedJob(job, kv_head, query_head[rows], blocks.query_index[rows]))
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
