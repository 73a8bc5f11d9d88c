"""Lays the tensors of an attention layer out in memory, describes them to the device, and reads the results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from golden import formats
from golden.block_mask import BlockMask
from golden.device.boards import Buffer, Memory
from golden.device.config import Capability
from golden.device.descriptor import PAGE_SHIFT_MIN, Descriptor, Flag
from golden.device.states import pack_state, parse_state, state_bytes
from golden.errors import InputError
from golden.key_sequence import WORD_BLOCKS
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention
from golden.state import PartialState
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of the device for a layer.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer. Positions of its queries follow each other, and its keys' indices count up from 0.
    mask : Mask, optional
        Every query sees every key by default.
    threshold : Threshold, optional
        Nothing is dropped by default.
    block_mask : BlockMask, optional
        Keys outside it are not streamed.
    keys : slice, optional
        Only these keys, from start to stop, without a step; all by default.
    pages : numpy.ndarray, optional
        Lay keys and values in pages: the place in the pool of each page of `page_keys` keys, whole numbers, all
        different.
    page_keys : int
        Keys of a page, a power of two from 16.
    states : sequence of PartialState, optional
        Where the blocks start from, those of the first kv head first, each of as many rows as the array has.
    emit_state : bool
        Return partial states, not outputs.
    continue_tau : bool
        Go on from the tau that the descriptor before left; see the flag CONTINUE_TAU.

    Raises
    ------
    InputError
        If positions, keys or pages are not as described.
    """

    attention: QuantisedAttention
    mask: Mask = field(default_factory=Mask)
    threshold: Threshold = field(default_factory=Threshold)
    block_mask: BlockMask | None = None
    keys: slice | None = None
    pages: np.ndarray | None = None
    page_keys: int = 1 << PAGE_SHIFT_MIN
    states: Sequence[PartialState] | None = None
    emit_state: bool = False
    continue_tau: bool = False

    def __post_init__(self) -> None:
        attention = self.attention
        if np.any(np.diff(attention.positions) != 1):
            raise InputError("a device needs queries whose positions follow each other")
        if attention.indices[0] != 0 or np.any(np.diff(attention.indices) != 1):
            raise InputError("a device needs keys whose indices count up from 0")
        if self.keys is not None:
            whole = isinstance(self.keys, slice) and all(
                part is None or hasattr(part, "__index__") for part in (self.keys.start, self.keys.stop)
            )
            if not whole or self.keys.step not in (None, 1):
                raise InputError(f"keys must be a slice of whole numbers without a step, not {self.keys!r}")
        if not 0 <= self.first_key < self.end_key <= attention.keys:
            raise InputError(
                f"keys must be a part of the layer's {attention.keys}, not {self.first_key}:{self.end_key}"
            )
        if self.pages is not None:
            least = 1 << PAGE_SHIFT_MIN
            if not isinstance(self.page_keys, int) or self.page_keys < least or self.page_keys & (self.page_keys - 1):
                raise InputError(f"page_keys must be a power of two from {least}, not {self.page_keys!r}")
            needed = -(-attention.keys // self.page_keys)
            pages = np.asarray(self.pages)
            if pages.shape != (needed,) or pages.dtype.kind not in "iu" or len(np.unique(pages)) != needed:
                raise InputError(f"pages must be {needed} different whole numbers, one a page of {self.page_keys} keys")
            if pages.min() < 0:
                raise InputError("pages can't be negative")

    @property
    def first_key(self) -> int:
        """Index of the first key."""
        return 0 if self.keys is None or self.keys.start is None else int(self.keys.start)

    @property
    def end_key(self) -> int:
        """Index after the last key."""
        return self.attention.keys if self.keys is None or self.keys.stop is None else int(self.keys.stop)

    def block_rows(self, rows: int) -> list[slice]:
        """Return the rows of each block of a kv head."""
        total = self.attention.queries * self.attention.group
        return [slice(first, min(first + rows, total)) for first in range(0, total, rows)]

    def row_positions(self) -> np.ndarray:
        """Return the position of each row of a kv head, int64."""
        return np.repeat(self.attention.positions, self.attention.group)


def allocate_within(memory: Memory, size: int, capability: Capability) -> Buffer:
    """Return a buffer that the device can address.

    Raises
    ------
    InputError
        If memory has no room, or none that the bus of the device reaches.
    """
    buffer = memory.allocate(size)
    if (buffer.address + size - 1) >> capability.address_bits:
        buffer.free()
        raise InputError(
            f"{size} bytes of memory at {buffer.address:#x} are not within the device's {capability.address_bits} "
            "bits of address"
        )
    return buffer


class Placement:
    """A request in memory.

    Parameters
    ----------
    request : Request
        What is asked for.
    capability : Capability
        Of the device.
    memory : Memory
        Where to lay it.
    tag : int
        Of the descriptor.

    Raises
    ------
    InputError
        If a block would have no key, states do not fit, or there is no room.
    """

    def __init__(self, request: Request, capability: Capability, memory: Memory, tag: int = 0):
        self.request = request
        self._capability = capability
        self._memory = memory
        self._buffers: list[Buffer] = []
        try:
            self.descriptor = self._place(tag)
        except BaseException:
            self.free()
            raise
        for buffer in self._buffers:
            buffer.flush()

    def _buffer(self, array: np.ndarray) -> Buffer:
        """Return a buffer that holds the bytes of `array`."""
        buffer = self._allocate(array.nbytes)
        buffer.array[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return buffer

    def _allocate(self, size: int) -> Buffer:
        """Return a buffer of `size` bytes, of one if that is 0."""
        buffer = allocate_within(self._memory, max(size, 1), self._capability)
        self._buffers.append(buffer)
        return buffer

    def _rows(self, tensor: np.ndarray) -> np.ndarray:
        """Return int8 rows, zero-padded to whole beats."""
        lanes = self._capability.lanes
        padding = -tensor.shape[-1] % lanes
        return np.ascontiguousarray(np.pad(tensor, [(0, 0)] * (tensor.ndim - 1) + [(0, padding)]))

    def _place(self, tag: int) -> Descriptor:
        request, attention = self.request, self.request.attention
        threshold, capability = request.threshold, self._capability
        flags = Flag(0)
        shared = bool(capability.shared_values) and attention.shared
        fields: dict[str, int] = {}
        fields |= self._tensor("query", attention.query)
        for name, tensor in (("key", attention.key), ("value", attention.value)):
            if name == "value" and shared:
                flags |= Flag.SHARED
            elif request.pages is None:
                fields |= self._tensor(name, tensor)
            else:
                flags |= Flag.PAGED
                fields |= self._paged(name, self._rows(tensor), request.pages)
        if request.pages is not None:
            fields["page_table_address"] = self._buffer(np.asarray(request.pages).astype("<u4")).address
            fields["page_count"] = int(np.max(request.pages)) + 1
            fields["page_shift"] = request.page_keys.bit_length() - 1
        scales = [attention.score_scale(kv_head) for kv_head in range(attention.kv_heads)]
        words = [scale.multiplier | scale.shift << formats.MULTIPLIER_BITS for scale in scales]
        fields["scale_address"] = self._buffer(np.array(words, dtype="<u4")).address
        visible = self._visible()
        if request.block_mask is not None:
            flags |= Flag.BLOCK_MASK
            fields |= self._bitmaps(request.block_mask, visible)
        if request.states is not None:
            flags |= Flag.FROM_STATE
            fields |= self._states(request.states)
        if request.emit_state:
            flags |= Flag.EMIT_STATE
        if request.continue_tau:
            flags |= Flag.CONTINUE_TAU
        fields |= self._output()
        return Descriptor(
            flags=flags,
            tag=tag,
            queries=attention.queries,
            first_key=request.first_key,
            end_key=request.end_key,
            first_position=int(attention.positions[0]),
            window=request.mask.window,
            head_dim=attention.head_dim,
            value_dim=attention.value_dim,
            kv_heads=attention.kv_heads,
            group=attention.group,
            mask=int(request.mask.kind),
            tau=threshold.tau,
            epsilon_shift=threshold.epsilon_shift,
            target=threshold.target,
            **fields,
        )

    def _tensor(self, name: str, tensor: np.ndarray) -> dict[str, int]:
        """Lay out the rows of a tensor head by head, and return their fields."""
        rows = self._rows(tensor)
        head, row, _ = rows.strides
        return {
            f"{name}_address": self._buffer(rows).address,
            f"{name}_head_stride": head,
            f"{name}_row_stride": row,
        }

    def _paged(self, name: str, rows: np.ndarray, pages: np.ndarray) -> dict[str, int]:
        """Lay keys or values out in the pages of a pool, and return their fields."""
        heads, keys, row_bytes = rows.shape
        size = self.request.page_keys
        whole = np.pad(rows, [(0, 0), (0, -keys % size), (0, 0)])
        shape = (int(np.max(pages)) + 1, heads, size, row_bytes)
        # Pages of the pool that are not this layer's hold anything, and may be many.
        buffer = self._allocate(math.prod(shape))
        pool = buffer.array[: math.prod(shape)].view(np.int8).reshape(shape)
        pool[pages] = whole.reshape(heads, -1, size, row_bytes).swapaxes(0, 1)
        page, head, row, _ = pool.strides
        return {
            f"{name}_address": buffer.address,
            f"{name}_head_stride": head,
            f"{name}_row_stride": row,
            f"{name}_page_stride": page,
        }

    def _visible(self) -> list[range]:
        """Return the keys that each block may see by position."""
        request = self.request
        positions = request.row_positions()
        visible = []
        for rows in request.block_rows(self._capability.rows):
            first, last = (int(position) for position in positions[rows][[0, -1]])
            low, end = request.first_key, request.end_key
            if request.mask.kind != MaskKind.NONE:
                end = min(end, last + 1)
            if request.mask.kind == MaskKind.WINDOW:
                low = max(low, first - request.mask.window + 1)
            if low >= end:
                keys = f"{request.first_key} to {request.end_key - 1}"
                raise InputError(f"positions {first} to {last} may attend to none of the keys {keys}")
            visible.append(range(low, end))
        return visible

    def _bitmaps(self, block_mask: BlockMask, visible: list[range]) -> dict[str, int]:
        """Lay out a bitmap for each block of rows, and return the fields. Blocks of keys are cut to powers of two."""
        request = self.request
        block_mask.check(request.attention.kv_heads, request.attention.positions, request.attention.indices)
        shift = (block_mask.key_block & -block_mask.key_block).bit_length() - 1
        shift = min(shift, self._capability.position_bits)
        first_keys = np.arange(0, request.attention.keys, 1 << shift)
        positions = request.row_positions()
        allowed = np.stack(
            [block_mask.streamed(positions[rows], first_keys) for rows in request.block_rows(self._capability.rows)],
            axis=1,
        )
        for number, keys in enumerate(visible):
            seen = allowed[:, number, keys.start >> shift : ((keys.stop - 1) >> shift) + 1].any(axis=1)
            for kv_head in np.flatnonzero(~seen):
                raise InputError(f"the block mask leaves kv head {kv_head}, block {number} of rows, without a key")
        padded = np.pad(allowed, [(0, 0), (0, 0), (0, -allowed.shape[2] % WORD_BLOCKS)])
        bitmaps = np.packbits(padded, axis=2, bitorder="little")
        head, row, _ = bitmaps.strides
        address = self._buffer(bitmaps).address
        return {"mask_address": address, "mask_head_stride": head, "mask_row_stride": row, "block_shift": shift}

    @property
    def _state_stride(self) -> int:
        """Bytes from a block's state to the next."""
        capability = self._capability
        return state_bytes(capability.rows, self.request.attention.value_dim, capability.output_lanes)

    def _states(self, states: Sequence[PartialState]) -> dict[str, int]:
        """Lay out the states to start from, and return their fields."""
        attention = self.request.attention
        blocks = self.request.block_rows(self._capability.rows)
        shapes = [(rows.stop - rows.start, attention.value_dim) for rows in blocks] * attention.kv_heads
        if [state.accumulator.shape for state in states] != shapes:
            raise InputError(
                f"states must be {len(shapes)}, one a block, of the blocks' rows and {attention.value_dim}"
            )
        table = np.zeros((len(shapes), self._state_stride), dtype=np.uint8)
        for row, state in zip(table, states, strict=True):
            content = pack_state(state, self._capability.output_lanes)
            row[: len(content)] = content
        return {"state_address": self._buffer(table).address, "state_stride": self._state_stride}

    def _output(self) -> dict[str, int]:
        """Make room for the results, and return the fields."""
        attention = self.request.attention
        if self.request.emit_state:
            blocks = len(self.request.block_rows(self._capability.rows)) * attention.kv_heads
            self._results = self._buffer(np.zeros(blocks * self._state_stride, dtype=np.uint8))
            return {"output_address": self._results.address, "state_stride": self._state_stride}
        lanes = self._capability.output_lanes
        self._row = -(-attention.value_dim // lanes) * lanes
        rows = np.zeros((attention.query_heads, attention.queries, self._row), dtype="<i2")
        self._results = self._buffer(rows)
        head, row, _ = rows.strides
        return {"output_address": self._results.address, "output_head_stride": head, "output_row_stride": row}

    def output(self) -> np.ndarray:
        """Return the outputs, int16, shape (query_heads, queries, value_dim)."""
        attention = self.request.attention
        self._results.invalidate()
        rows = self._results.array.view("<i2").reshape(attention.query_heads, attention.queries, -1)
        return rows[:, :, : attention.value_dim].astype(np.int16)

    def states(self) -> list[PartialState]:
        """Return the states of a request that emits them: those of the first kv head's blocks first."""
        attention, lanes = self.request.attention, self._capability.output_lanes
        self._results.invalidate()
        table = self._results.array.reshape(-1, self._state_stride)
        blocks = self.request.block_rows(self._capability.rows) * attention.kv_heads
        states = []
        for row, block in zip(table, blocks, strict=True):
            rows = block.stop - block.start
            content = row[: state_bytes(rows, attention.value_dim, lanes)]
            states.append(parse_state(content, rows, attention.value_dim, lanes))
        return states

    def free(self) -> None:
        """Give the memory back."""
        while self._buffers:
            self._buffers.pop().free()
