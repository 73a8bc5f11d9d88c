"""Which keys a job streams under a static mask, as the key sequencer is told it: a range, bounds by position, a bitmap.

This is what the hardware in front of a core does with a row of a block mask (`golden.block_mask`). It knows keys by
their indices, which follow each other without a gap, and blocks of a power of two of keys. Blocks of any other size are
cut into blocks that are one (`bitmap_of`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from golden.block_mask import BlockMask
from golden.errors import InputError
from golden.masks import Mask, MaskKind

WORD_BLOCKS = 32
"""Blocks of a word of a bitmap."""

BITMAP_WORDS = 64
"""Words of a bitmap within the bounds that there is room for."""


class SequenceStatus(enum.IntEnum):
    """How a command of the key sequencer ended. After any other than OK it has no keys.

    Members
    -------
    RANGE
        The range ends past the last key that there can be, or the block's size is not possible.
    MASK
        There is no such mask, or its window is empty.
    EMPTY
        No key of the range is within the bounds by position, or the bitmap has none of them.
    BITMAP_SHORT, BITMAP_LONG
        The bitmap ends before the bounds do; it has more words between them than there is room for.
    """

    OK = 0
    RANGE = 1
    MASK = 2
    EMPTY = 3
    BITMAP_SHORT = 4
    BITMAP_LONG = 5


@dataclass(frozen=True, eq=False)
class KeySequence:
    """A command of the key sequencer.

    Parameters
    ----------
    first, end : int
        Index of the range's first key, and the one after its last.
    block_shift : int
        Keys of a block of the bitmap, as a power of two.
    bitmap : numpy.ndarray
        bool: whether each block of keys is streamed. The first one is the block of `first` rounded down to a multiple
        of `WORD_BLOCKS`. Blocks past the bounds do not count.
    mask : Mask
        The job's mask by position.
    positions : tuple of int
        Lowest and highest position of the job's rows, of those that see any key.
    """

    first: int
    end: int
    block_shift: int
    bitmap: np.ndarray
    mask: Mask = field(default_factory=Mask)
    positions: tuple[int, int] = (0, 0)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first key of the range that some row may attend to by the mask, and the one after the last."""
        first, end = self.first, self.end
        if self.mask.kind != MaskKind.NONE:
            end = min(end, self.positions[1] + 1)
        if self.mask.kind == MaskKind.WINDOW:
            first = max(first, self.positions[0] - self.mask.window + 1)
        return first, end

    @property
    def words(self) -> list[int]:
        """The bitmap as words of `WORD_BLOCKS` bits, the first block lowest; one of zeros if there is none."""
        padded = np.zeros(max(-(-len(self.bitmap) // WORD_BLOCKS), 1) * WORD_BLOCKS, dtype=bool)
        padded[: len(self.bitmap)] = self.bitmap
        return [int(word) for word in np.packbits(padded, bitorder="little").view(f"<u{WORD_BLOCKS // 8}")]

    @property
    def span(self) -> tuple[int, int, int]:
        """The words, counted from key 0, of the block of `first` and of those of the bounds' first and last key."""
        first, end = self.bounds
        word = [(key >> self.block_shift) // WORD_BLOCKS for key in (self.first, first, end - 1)]
        return word[0], word[1], word[2]

    @property
    def words_within(self) -> int:
        """Words of the bitmap within the bounds."""
        _, first, last = self.span
        return last - first + 1

    def run(self, max_keys: int) -> tuple[SequenceStatus, np.ndarray]:
        """Return how the command ends, and the indices of its keys.

        Parameters
        ----------
        max_keys : int
            Keys that there can be, `golden.config.CoreConfig.max_keys`.

        Returns
        -------
        SequenceStatus
        numpy.ndarray
            int64, rising; empty unless the status is OK.
        """
        none = np.zeros(0, dtype=np.int64)
        first, end = self.bounds
        if self.end > max_keys or 1 << self.block_shift > max_keys:
            return SequenceStatus.RANGE, none
        if first >= end:
            return SequenceStatus.EMPTY, none
        if self.words_within > BITMAP_WORDS:
            return SequenceStatus.BITMAP_LONG, none
        origin, _, last_word = self.span
        words = -(-len(self.bitmap) // WORD_BLOCKS)
        if last_word - origin >= words:
            return SequenceStatus.BITMAP_SHORT, none
        padded = np.zeros(words * WORD_BLOCKS, dtype=bool)
        padded[: len(self.bitmap)] = self.bitmap
        keys = np.arange(first, end, dtype=np.int64)
        keys = keys[padded[(keys >> self.block_shift) - origin * WORD_BLOCKS]]
        return (SequenceStatus.OK if len(keys) else SequenceStatus.EMPTY), keys


def bitmap_of(allowed: np.ndarray, key_block: int) -> tuple[int, np.ndarray]:
    """Return blocks of any size as blocks of a power of two.

    Parameters
    ----------
    allowed : numpy.ndarray
        bool, shape (key_blocks,).
    key_block : int
        Keys of a block.

    Returns
    -------
    int
        The power of two: the largest that divides `key_block`.
    numpy.ndarray
        bool: each block as often as it holds such smaller ones.
    """
    shift = (key_block & -key_block).bit_length() - 1
    return shift, np.repeat(allowed, key_block >> shift)


def job_sequence(
    positions: np.ndarray, indices: np.ndarray, mask: Mask, block_mask: BlockMask, kv_head: int
) -> KeySequence:
    """Return the command that gives a job of a layer its keys, those of `golden.plan.plan_jobs`.

    Parameters
    ----------
    positions : numpy.ndarray
        Positions of the job's rows.
    indices : numpy.ndarray
        Indices of the layer's keys.
    mask, block_mask : Mask, BlockMask
        The layer's masks.
    kv_head : int
        The job's key and value head.

    Raises
    ------
    InputError
        If rows or keys are not in an order that the key sequencer can follow, or there are too many blocks.
    """
    keys = len(indices)
    if int(indices[0]) or int(indices[-1]) != keys - 1:
        raise InputError(f"the key sequencer needs keys 0 to {keys - 1}, not {indices[0]} to {indices[-1]} with gaps")
    if np.any(np.diff(positions) < 0):
        raise InputError("the key sequencer needs rows in the order of their positions")
    shift, bitmap = bitmap_of(block_mask.of_rows(positions)[kv_head], block_mask.key_block)
    first, end = mask.bounds(positions, indices)
    seeing = positions[first < end]
    if not len(seeing):
        # Such a job streams the first key, which its rows do not attend to.
        return KeySequence(0, 1, shift, bitmap)
    sequence = KeySequence(0, keys, shift, bitmap, mask, (int(seeing[0]), int(seeing[-1])))
    if sequence.words_within > BITMAP_WORDS:
        raise InputError(
            f"the key sequencer has room for {BITMAP_WORDS * WORD_BLOCKS} blocks a job, and blocks of "
            f"{block_mask.key_block} keys are blocks of {1 << shift} to it, too many for {keys} keys"
        )
    return sequence
