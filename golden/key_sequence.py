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
from golden.plan import Blocks

WORD_BLOCKS = 32
"""Blocks of a word of a bitmap."""


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

    def run(self, max_keys: int, bitmap_words: int) -> tuple[SequenceStatus, np.ndarray]:
        """Return how the command ends, and the indices of its keys.

        Parameters
        ----------
        max_keys : int
            Keys that there can be, `golden.config.CoreConfig.max_keys`.
        bitmap_words : int
            Words of `WORD_BLOCKS` blocks that there is room for.

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
        origin = (self.first >> self.block_shift) // WORD_BLOCKS * WORD_BLOCKS
        first_word, last_word = ((key >> self.block_shift) // WORD_BLOCKS for key in (first, end - 1))
        if last_word - first_word >= bitmap_words:
            return SequenceStatus.BITMAP_LONG, none
        words = -(-len(self.bitmap) // WORD_BLOCKS)
        if last_word - origin // WORD_BLOCKS >= words:
            return SequenceStatus.BITMAP_SHORT, none
        padded = np.zeros(words * WORD_BLOCKS, dtype=bool)
        padded[: len(self.bitmap)] = self.bitmap
        keys = np.arange(first, end, dtype=np.int64)
        keys = keys[padded[(keys >> self.block_shift) - origin]]
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


def layer_sequences(blocks: Blocks, mask: Mask, block_mask: BlockMask, kv_head: int, keys: int) -> list[KeySequence]:
    """Return the commands that give the jobs of a kv head their keys, block of rows by block of rows.

    Parameters
    ----------
    blocks : Blocks
        How the layer's rows are cut.
    mask, block_mask : Mask, BlockMask
        The layer's masks.
    kv_head : int
        Key and value head.
    keys : int
        Keys of the layer, whose indices count up from 0.

    Returns
    -------
    list of KeySequence
        Their keys are those of `golden.plan.plan_jobs`.

    Raises
    ------
    InputError
        If the rows of a block are not in the order of their positions.
    """
    first, end = mask.bounds(blocks.positions, np.arange(keys))
    sequences = []
    for rows in blocks.rows:
        positions = blocks.positions[rows]
        if np.any(np.diff(positions) < 0):
            raise InputError("the key sequencer needs rows in the order of their positions")
        shift, bitmap = bitmap_of(block_mask.of_rows(positions)[kv_head], block_mask.key_block)
        seeing = positions[first[rows] < end[rows]]
        if len(seeing):
            ends = (int(seeing[0]), int(seeing[-1]))
            sequences.append(KeySequence(0, keys, shift, bitmap, mask, ends))
        else:
            # Such a block streams the first key, which its rows do not attend to.
            sequences.append(KeySequence(0, 1, shift, bitmap))
    return sequences
