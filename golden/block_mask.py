"""Static masks by block: which blocks of keys a block of query positions may attend to, found from data or given.

This is how data-informed sparsity reaches the core (Attention Pruning, arXiv 2012.02030): keys outside the mask are
not streamed at all. The core sees a mask through its jobs. A job streams every block of keys that the mask allows to
any of the job's rows, and each of its rows may attend to what is streamed. So a mask acts exactly where a job's rows
lie in one block of positions, and otherwise keeps more.

A job without any key is refused. A single row may still be left without one, where the mask by position bars what its
job streams: it gives zeros, and `golden.attended.Attended.empty` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.errors import InputError
from golden.files import read_npz, write_npz


@dataclass(frozen=True, eq=False)
class BlockMask:
    """A mask of blocks for every key and value head of a layer.

    Parameters
    ----------
    allowed : numpy.ndarray
        bool, shape (kv_heads, query_blocks, key_blocks).
    query_block, key_block : int
        Positions of a block of queries, and key indices of a block of keys.

    Raises
    ------
    InputError
        If shapes, dtypes or sizes do not agree with this description.
    """

    allowed: np.ndarray
    query_block: int
    key_block: int

    def __post_init__(self) -> None:
        if self.allowed.dtype != np.bool_ or self.allowed.ndim != 3 or not self.allowed.size:
            found = f"{self.allowed.dtype} {self.allowed.shape}"
            raise InputError(f"a block mask holds bool of shape (kv_heads, query_blocks, key_blocks), not {found}")
        for name in ("query_block", "key_block"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def density(self) -> float:
        """Share of the blocks that are allowed."""
        return float(self.allowed.mean())

    def check(self, kv_heads: int, positions: np.ndarray, indices: np.ndarray) -> None:
        """Raise InputError unless the mask is for so many heads and reaches all `positions` and key `indices`."""
        heads, query_blocks, key_blocks = self.allowed.shape
        if heads != kv_heads:
            raise InputError(f"the block mask is for {heads} kv heads, the layer has {kv_heads}")
        for name, largest, end in (
            ("query position", int(positions.max()), query_blocks * self.query_block),
            ("key index", int(indices.max()), key_blocks * self.key_block),
        ):
            if largest >= end:
                raise InputError(f"the block mask ends before {name} {end}, the layer goes up to {largest}")

    def of_rows(self, positions: np.ndarray) -> np.ndarray:
        """Return which blocks of keys are streamed to a job with rows at `positions`: bool, (kv_heads, key_blocks)."""
        return np.asarray(self.allowed[:, np.unique(positions // self.query_block)].any(axis=1))

    def streamed(self, positions: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return which keys are streamed to a job.

        Parameters
        ----------
        positions : numpy.ndarray
            Positions of the job's rows, int64, shape (rows,).
        indices : numpy.ndarray
            Key indices, int64, shape (keys,).

        Returns
        -------
        numpy.ndarray
            bool, shape (kv_heads, keys).
        """
        return np.asarray(np.take(self.of_rows(positions), indices // self.key_block, axis=1))


def save_block_masks(path: Path, masks: dict[int, BlockMask], **metadata: str | float) -> None:
    """Write the masks of a model's layers, by layer number, to an .npz file; InputError if that can't be done."""
    arrays = {f"layer_{layer}": mask.allowed for layer, mask in masks.items()}
    sizes = {f"blocks_{layer}": np.array([mask.query_block, mask.key_block]) for layer, mask in masks.items()}
    write_npz(path, arrays | sizes | {name: np.asarray(value) for name, value in metadata.items()})


def load_block_masks(path: Path) -> dict[int, BlockMask]:
    """Return the masks that `save_block_masks` wrote, by layer; InputError if `path` holds none."""
    arrays = read_npz(path, "block masks")
    masks = {}
    for name, allowed in arrays.items():
        prefix, _, number = name.partition("_")
        if prefix != "layer" or not number.isdecimal():
            continue
        sizes = arrays.get(f"blocks_{number}")
        if sizes is None or sizes.shape != (2,) or sizes.dtype.kind not in "iu":
            raise InputError(f"{path} has no block sizes blocks_{number} beside {name}")
        masks[int(number)] = BlockMask(allowed, int(sizes[0]), int(sizes[1]))
    if not masks:
        raise InputError(f"{path} holds no block mask: an array layer_0, say, with its sizes in blocks_0")
    return dict(sorted(masks.items()))
