"""A whole layer at full speed, bit-identical to `golden.layer.run_layer`.

The rows of every kv head are cut into tiles of some blocks, and tiles run in parallel. Memory beside the inputs is a
few chunks of keys for each thread, and the results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from queue import SimpleQueue

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401
from threadpoolctl import ThreadpoolController

from golden import formats
from golden.attended import Attended
from golden.block_mask import BlockMask
from golden.config import CoreConfig
from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.packs import Workspace, workspace
from golden.plan import Blocks, check_layer
from golden.quantise import QuantisedAttention
from golden.rows import attend_rows
from golden.threshold import Threshold

TILE_ROWS = 512
"""Rows of a tile. What is done once a tile and key, widening it to float32 say, is shared by so many rows."""

# What Numba multiplies matrices with is scipy's BLAS, which has to be loaded for its threads to be found.
_BLAS = ThreadpoolController()

_NO_BLOCKS = np.empty((0, 0), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class _Arrays:
    """The results of a layer while they are computed: by kv head and row, or by kv head and block."""

    output: np.ndarray
    maximum: np.ndarray
    total: np.ndarray
    dropped: np.ndarray
    saturated: np.ndarray
    survivors: np.ndarray
    tau: np.ndarray
    kept: np.ndarray | None

    @classmethod
    def of(cls, attention: QuantisedAttention, blocks: int, keep: bool) -> _Arrays:
        rows = (attention.kv_heads, attention.queries * attention.group)
        by_block = (attention.kv_heads, blocks)
        return cls(
            output=np.empty((*rows, attention.value_dim), dtype=np.int16),
            maximum=np.empty(rows, dtype=np.int64),
            total=np.zeros(rows, dtype=np.int64),
            dropped=np.zeros(rows, dtype=np.int64),
            saturated=np.zeros(rows, dtype=np.int64),
            survivors=np.zeros(by_block, dtype=np.int64),
            tau=np.empty(by_block, dtype=np.int64),
            kept=np.zeros((*by_block, attention.keys), dtype=bool) if keep else None,
        )


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer to run, and where its results go."""

    attention: QuantisedAttention
    config: CoreConfig
    mask: Mask
    threshold: Threshold
    blocks: Blocks
    streamed: np.ndarray
    arrays: _Arrays

    def tiles(self) -> Iterator[tuple[int, slice]]:
        """Give every kv head and the blocks of each of its tiles; with a target a head is one tile."""
        count = len(self.blocks.rows)
        step = count if self.threshold.target else max(1, TILE_ROWS // self.config.rows)
        for kv_head in range(self.attention.kv_heads):
            for first in range(0, count, step):
                yield kv_head, slice(first, min(count, first + step))

    @property
    def keep_all(self) -> bool:
        """Whether every block keeps the first keys of the layer, all that it sees: see `attend_rows`."""
        # A window begins elsewhere for each block, so its packs do as well.
        return self.threshold.keeps_all and self.blocks.streamed is None and self.mask.kind != MaskKind.WINDOW

    def run(self, tile: tuple[int, slice], rooms: SimpleQueue[Workspace]) -> None:
        """Run the blocks of one tile in one of `rooms`."""
        kv_head, blocks = tile
        work = rooms.get()
        if not self.threshold.target:
            self._run_blocks(kv_head, blocks, self.threshold, work)
            rooms.put(work)
            return
        threshold = self.threshold
        for block in range(blocks.start, blocks.stop):
            self._run_blocks(kv_head, slice(block, block + 1), threshold, work)
            survivors = int(self.arrays.survivors[kv_head, block])
            threshold = threshold.after(survivors, int(self.streamed[kv_head, block]))
        rooms.put(work)

    def _run_blocks(self, kv_head: int, blocks: slice, threshold: Threshold, work: Workspace) -> None:
        attention, arrays = self.attention, self.arrays
        rows = slice(self.blocks.rows[blocks.start].start, self.blocks.rows[blocks.stop - 1].stop)
        positions = self.blocks.positions[rows]
        heads = kv_head * attention.group + self.blocks.head_offset[rows]
        visible = [self.blocks.visible[block] for block in range(blocks.start, blocks.stop)]
        keys = slice(min(part.start for part in visible), max(part.stop for part in visible))
        streamed = _NO_BLOCKS
        if self.blocks.streamed is not None:
            streamed = self.blocks.streamed[kv_head, blocks, keys]
        maximum = np.full(len(positions), formats.NO_MAXIMUM, dtype=np.float32)
        attend_rows(
            attention.query[heads, self.blocks.query_index[rows]],
            positions,
            attention.key[kv_head, keys],
            attention.indices[keys],
            attention.value[kv_head, keys],
            attention.score_scale(kv_head).factor,
            threshold.tau,
            threshold.epsilon_shift,
            int(self.mask.kind),
            self.mask.window,
            self.config.lanes,
            len(positions) if self.keep_all else self.config.rows,
            self.keep_all,
            streamed,
            maximum,
            arrays.total[kv_head, rows],
            arrays.output[kv_head, rows],
            arrays.dropped[kv_head, rows],
            arrays.saturated[kv_head, rows],
            arrays.survivors[kv_head, blocks],
            _NO_BLOCKS if arrays.kept is None else arrays.kept[kv_head, blocks, keys],
            work,
        )
        arrays.maximum[kv_head, rows] = maximum
        arrays.tau[kv_head, blocks] = threshold.tau
        if self.keep_all:
            # Every key that some row of a block may attend to: all up to the last visible one, if there is any.
            for block, part in enumerate(visible, blocks.start):
                seen = part.stop if self.blocks.seen[block] else 0
                arrays.survivors[kv_head, block] = seen
                if arrays.kept is not None:
                    arrays.kept[kv_head, block, :seen] = True

    def attendable(self) -> np.ndarray:
        """Return the keys streamed that each row may attend to, int64, shape (kv_heads, rows)."""
        first, end = self.mask.bounds(self.blocks.positions, self.attention.indices)
        if self.blocks.streamed is None:
            return np.broadcast_to(end - first, (self.attention.kv_heads, len(first)))
        before = np.zeros((*self.blocks.streamed.shape[:2], self.attention.keys + 1), dtype=np.int64)
        np.cumsum(self.blocks.streamed, axis=2, out=before[:, :, 1:])
        block = np.arange(len(first)) // self.config.rows
        counted: np.ndarray = before[:, block, end] - before[:, block, first]
        return counted

    def by_query(self, by_row: np.ndarray) -> np.ndarray:
        """Return an array over kv heads and rows as one over query heads and queries."""
        attention = self.attention
        shape = (attention.kv_heads, attention.queries, attention.group, *by_row.shape[2:])
        grouped = np.swapaxes(by_row.reshape(shape), 1, 2)
        return grouped.reshape(attention.query_heads, attention.queries, *by_row.shape[2:])


def attend(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
    *,
    keep: bool = False,
    threads: int | None = None,
) -> Attended:
    """Run a layer.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    config : CoreConfig
        The core whose bits are wanted: its rows decide together what is kept, its lanes are the keys of a pack.
    mask : Mask, optional
        Every query sees every key by default.
    threshold : Threshold, optional
        Nothing is dropped by default. A target is followed from block to block, in each kv head by itself.
    block_mask : BlockMask, optional
        Keys outside it are not streamed.
    keep : bool
        Return which keys each block kept, which takes a byte a key and block.
    threads : int, optional
        Threads to run on; as many as the process may use by default.

    Returns
    -------
    Attended
        Equal to that of `golden.layer.run_layer` in every bit.

    Raises
    ------
    InputError
        If `config` can't hold the layer, or `block_mask` does not fit.
    """
    mask, threshold = mask or Mask(), threshold or Threshold()
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    check_layer(attention, config, mask)
    threshold.check(config)
    blocks = Blocks.of(attention, config, mask, block_mask)
    arrays = _Arrays.of(attention, len(blocks.rows), keep)
    if blocks.streamed is None:
        streamed = np.array([[part.stop - part.start for part in blocks.visible]] * attention.kv_heads, dtype=np.int64)
    else:
        streamed = blocks.streamed.sum(axis=2, dtype=np.int64)
    layer = _Layer(attention, config, mask, threshold, blocks, streamed, arrays)
    tiles = list(layer.tiles())
    workers = min(len(tiles), threads or len(os.sched_getaffinity(0)))
    # Tiles run side by side, so the products inside them must not start threads of their own.
    rows = max(blocks.rows[part.stop - 1].stop - blocks.rows[part.start].start for _, part in tiles)
    rooms: SimpleQueue[Workspace] = SimpleQueue()
    for _ in range(workers):
        room = (rows, attention.keys, attention.head_dim, attention.value_dim, config.lanes)
        rooms.put(workspace(*room, buffered=not layer.keep_all))
    with _BLAS.limit(limits=1), ThreadPoolExecutor(workers) as pool:
        list(pool.map(layer.run, tiles, repeat(rooms)))
    first_rows = [rows.start for rows in blocks.rows]
    return Attended(
        attention=attention,
        mask=mask,
        block_mask=block_mask,
        threshold=threshold,
        rows=config.rows,
        output=layer.by_query(arrays.output),
        maximum=layer.by_query(arrays.maximum),
        total=layer.by_query(arrays.total),
        attendable=layer.by_query(layer.attendable()),
        dropped=layer.by_query(arrays.dropped),
        streamed=streamed,
        survivors=arrays.survivors,
        packs=-(-arrays.survivors // config.lanes),
        saturated=np.add.reduceat(arrays.saturated, first_rows, axis=1),
        tau=arrays.tau,
        kept=arrays.kept,
    )
