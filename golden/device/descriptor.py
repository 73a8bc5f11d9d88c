"""The descriptor: what the host queues in memory, one for the attention of a layer or a part of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from golden import formats
from golden.device.config import Capability
from golden.device.packed import Alignment, Packed, packed
from golden.device.status import DeviceStatus
from golden.errors import InputError
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS
from golden.masks import MaskKind

VERSION = 1
"""Version of the layout below."""

WORD_BYTES = 4
"""Bytes of a word of a descriptor or a bitmap, and of an entry of a page table or a table of scales."""

PAGE_SHIFT_MIN = 4
"""Logarithm of the keys of the smallest page."""


class Flag(enum.IntFlag):
    """Bits of a descriptor's `flags`; each has a `meaning`."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Self:
        """Return the member of a bit and what it means, or one of several bits."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    EMIT_STATE = 1 << 0, "write partial states, not outputs"
    FROM_STATE = 1 << 1, "start each block from a partial state"
    SHARED = 1 << 2, "the values are the first elements of the keys"
    PAGED = 1 << 3, "keys and values lie in pages, which a page table names"
    BLOCK_MASK = 1 << 4, "only blocks of keys whose bit is set are streamed"
    CONTINUE_TAU = (
        1 << 5,
        "also the first block goes on from the tau that the job before left, not only a kv head's further ones;"
        " after a reset or a descriptor that failed, that drops nothing",
    )
    INTERRUPT = 1 << 6, "raise the interrupt done at the end"


FLAGS = sum(Flag)
"""All of them."""

ROW, OUTPUT, WORD = Alignment.ROW, Alignment.OUTPUT, Alignment.WORD


@dataclass(frozen=True)
class Descriptor(Packed):
    """The attention of `kv_heads` heads over a range of keys; 256 bytes, aligned.

    Rows of a kv head are numbered over its group: row n is query ``n // group`` of query head
    ``kv_head * group + n % group``, at position ``first_position + n // group``. Blocks are of the core's rows, each of
    them a job; the last may be smaller. Addresses wrap at the bus's width.

    A row of q, k or v takes whole beats of `lanes` bytes; those past its dimension may hold anything. A row of o is
    int16, and nothing past its dimension is written. A bitmap is of u32, the block of key 0 lowest in the first, and
    reaches to the block of the last key. A state is what the core's o port writes in a job that emits it, without gaps.

    Bytes of the structure that no field has are for later versions: write zero. This one does not look at them.
    """

    SIZE: ClassVar[int] = 256

    version: int = packed(0, 16, "Version of this layout, 1.", default=VERSION)
    flags: int = packed(2, 16, "See the flags.")
    tag: int = packed(4, 32, "Comes back in the record.")
    query_address: int = packed(8, 64, "Row of query 0 of query head 0.", ROW)
    key_address: int = packed(16, 64, "Key 0 of kv head 0; with PAGED the pool's first page.", ROW)
    value_address: int = packed(24, 64, "Its value, likewise.", ROW)
    output_address: int = packed(32, 64, "Output row of query 0 of query head 0; or the first state.", OUTPUT)
    state_address: int = packed(40, 64, "With FROM_STATE: the state of block 0 of kv head 0.", OUTPUT)
    mask_address: int = packed(48, 64, "With BLOCK_MASK: the bitmap of block 0 of kv head 0.", WORD)
    page_table_address: int = packed(56, 64, "With PAGED: u32 numbers of pages in the pool, page of key 0 first.", WORD)
    scale_address: int = packed(64, 64, "For each kv head a u32: score multiplier in bits 15:0, shift in 21:16.", WORD)
    queries: int = packed(72, 32, "Queries of each query head, at least 1.")
    first_key: int = packed(76, 32, "Index of the first key.")
    end_key: int = packed(80, 32, "Index after the last key, above first_key and up to MAX_KEYS.")
    first_position: int = packed(84, 32, "Position of query 0; that of the last is below MAX_KEYS.")
    window: int = packed(88, 32, "Keys that a row sees, its own position included: 1 to MAX_KEYS with mask 2.")
    page_count: int = packed(92, 32, "With PAGED: pages of the pool; every entry of the page table is below.")
    head_dim: int = packed(96, 16, "Elements of a row of q and k.")
    value_dim: int = packed(98, 16, "Elements of a row of v and o; with SHARED up to head_dim.")
    kv_heads: int = packed(100, 16, "Heads of k and v, at least 1.")
    group: int = packed(102, 16, "Query heads of a kv head, at least 1.")
    mask: int = packed(104, 8, "0 none, 1 causal, 2 sliding window.")
    block_shift: int = packed(105, 8, "With BLOCK_MASK: logarithm of the keys of a block of the bitmap.")
    page_shift: int = packed(106, 8, "With PAGED: logarithm of the keys of a page, at least 4.")
    epsilon_shift: int = packed(107, 8, "e of the error bound 2^-e, 1 to 15; 0 for none.")
    tau: int = packed(108, 16, "Threshold in 1/64 bit, at least 64; 65535 drops nothing.", default=formats.TAU_KEEP_ALL)
    target: int = packed(110, 16, "Share of keys to keep, in 1/65536; 0 leaves tau as it is.")
    query_row_stride: int = packed(112, 32, "Bytes from a query to the next of its head.", ROW)
    query_head_stride: int = packed(116, 32, "Bytes from a query head to the next.", ROW)
    key_row_stride: int = packed(120, 32, "Bytes from a key to the next, within a page with PAGED.", ROW)
    key_head_stride: int = packed(124, 32, "Bytes from a kv head's keys to the next's, within a page with PAGED.", ROW)
    value_row_stride: int = packed(128, 32, "As for keys.", ROW)
    value_head_stride: int = packed(132, 32, "As for keys.", ROW)
    output_row_stride: int = packed(136, 32, "Bytes from an output row to the next of its head.", OUTPUT)
    output_head_stride: int = packed(140, 32, "Bytes from an output head to the next.", OUTPUT)
    state_stride: int = packed(144, 32, "Bytes from a block's state to the next's, on through all kv heads.", OUTPUT)
    key_page_stride: int = packed(148, 32, "With PAGED: bytes from a page of keys to the next of the pool.", ROW)
    value_page_stride: int = packed(152, 32, "With PAGED: the same of values.", ROW)
    mask_row_stride: int = packed(156, 32, "Bytes from a block's bitmap to the next's.", WORD)
    mask_head_stride: int = packed(160, 32, "Bytes from a kv head's bitmaps to the next's.", WORD)


def _has_long_bitmap(d: Descriptor) -> bool:
    """Return whether the bitmap of a range of keys has more words than a device takes."""
    first, last = (key >> d.block_shift for key in (d.first_key, d.end_key - 1))
    return last // WORD_BLOCKS - first // WORD_BLOCKS >= BITMAP_WORDS


def _faults(descriptor: Descriptor, capability: Capability) -> Iterator[tuple[DeviceStatus, bool]]:
    """Yield each check's status, and whether the descriptor fails it."""
    d, flags = descriptor, descriptor.flags
    yield DeviceStatus.DESCRIPTOR, d.version != VERSION or bool(flags & ~FLAGS)
    yield (
        DeviceStatus.UNSUPPORTED,
        bool(
            (flags & Flag.SHARED and not capability.shared_values)
            or (d.epsilon_shift and not capability.error_bound)
            or ((d.target or flags & Flag.CONTINUE_TAU) and not capability.target_control)
            or (flags & Flag.PAGED and not capability.page_entries)
        ),
    )
    yield (
        DeviceStatus.DIMENSION,
        (
            not 1 <= d.head_dim <= capability.max_head_dim
            or not 1 <= d.value_dim <= capability.max_value_dim
            or bool(flags & Flag.SHARED and d.value_dim > d.head_dim)
            or d.kv_heads == 0
            or d.group == 0
        ),
    )
    yield (
        DeviceStatus.LENGTH,
        (
            d.queries == 0
            or not d.first_key < d.end_key <= capability.max_keys
            or d.first_position + d.queries > capability.max_keys
        ),
    )
    yield (
        DeviceStatus.ADDRESS,
        any(
            getattr(d, field.name) % capability.alignment(field.alignment)
            or (field.bits == 64 and getattr(d, field.name) >> capability.address_bits)
            for field in d.layout()
        ),
    )
    yield (
        DeviceStatus.MASK,
        (
            d.mask > MaskKind.WINDOW
            or (d.mask == MaskKind.WINDOW and not 1 <= d.window <= capability.max_keys)
            or bool(flags & Flag.BLOCK_MASK and (d.block_shift > capability.position_bits or _has_long_bitmap(d)))
        ),
    )
    yield (
        DeviceStatus.THRESHOLD,
        (
            d.tau < formats.TAU_MIN
            or d.epsilon_shift > formats.EPSILON_SHIFT_MAX
            or bool(flags & Flag.CONTINUE_TAU and d.target == 0)
        ),
    )
    yield (
        DeviceStatus.PAGE,
        bool(
            flags & Flag.PAGED
            and (
                not PAGE_SHIFT_MIN <= d.page_shift <= capability.position_bits
                or (d.end_key - 1) >> d.page_shift >= capability.page_entries
            )
        ),
    )


def check(descriptor: Descriptor, capability: Capability) -> DeviceStatus:
    """Return how a device ends a descriptor before it reads more, OK if it goes on. The RTL checks the same.

    Fields that the flags leave unused are not checked, but for the alignment of addresses and strides; zero always
    passes that.

    Parameters
    ----------
    descriptor : Descriptor
        As it lies in memory.
    capability : Capability
        Of the device.
    """
    return next((status for status, failed in _faults(descriptor, capability) if failed), DeviceStatus.OK)


def require_good(descriptor: Descriptor, capability: Capability) -> None:
    """Raise InputError if a device would end this descriptor before it reads more."""
    status = check(descriptor, capability)
    if status is not DeviceStatus.OK:
        raise InputError(f"the device would end this descriptor with {status.name}: {status.meaning}")
