"""Bytes that a device moves on its bus for a descriptor: every beat of every burst."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from golden.device.bursts import Request, bursts
from golden.device.config import DeviceConfig
from golden.device.descriptor import WORD_BYTES, Descriptor, Flag
from golden.device.states import state_bytes
from golden.key_sequence import WORD_BLOCKS


@dataclass(frozen=True, eq=False)
class JobKeys:
    """What a job reads of keys and values.

    Parameters
    ----------
    kv_head, number : int
        Key and value head, and which block of its rows.
    rows : numpy.ndarray
        Numbers of the rows of the kv head.
    streamed, kept : numpy.ndarray
        Indices of the keys that it streams, and of those that survive.
    """

    kv_head: int
    number: int
    rows: np.ndarray
    streamed: np.ndarray
    kept: np.ndarray


class Traffic:
    """Counts the bytes of a descriptor that is done.

    Parameters
    ----------
    descriptor : Descriptor
        The descriptor.
    config : DeviceConfig
        The device.
    keys : tuple of int
        First and last key that some row may attend to by the mask.
    pages : dict of int to int
        Place in the pool of each page of them; none if they are not paged.
    jobs : sequence of JobKeys
        All jobs, in their order.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        config: DeviceConfig,
        keys: tuple[int, int],
        pages: dict[int, int],
        jobs: Sequence[JobKeys],
    ):
        self._descriptor, self._config, self._keys, self._pages, self._jobs = descriptor, config, keys, pages, jobs

    @property
    def resident(self) -> bool:
        """Whether keys and values go through the scratchpad: they fit, and more than one block of rows uses them."""
        d, core = self._descriptor, self._config.core
        first, last = self._keys
        words = [core.head_beats(d.head_dim)]
        if not d.flags & Flag.SHARED:
            words.append(core.value_beats(d.value_dim))
        half = self._config.scratchpad_bytes // 2 // core.lanes
        return d.queries * d.group > core.rows and (last - first + 1) * max(words) <= half

    @property
    def read_bytes(self) -> int:
        """Bytes of the beats read, with the descriptor's own."""
        # The queue's place does not matter: a descriptor is aligned to its size.
        beats = Descriptor.SIZE // self._config.beat_bytes
        for requests in (*self._control(), *self._queries(), *self._states(), *self._rows("key"), *self._rows("value")):
            beats += sum(burst.beats for burst in bursts(requests, self._config))
        return beats * self._config.beat_bytes

    @property
    def write_bytes(self) -> int:
        """Bytes of the beats written, without the record."""
        d, size = self._descriptor, self._config.beat_bytes
        blocks = max(job.number for job in self._jobs) + 1
        beats = 0
        for job in self._jobs:
            if d.flags & Flag.EMIT_STATE:
                packet = job.kv_head * blocks + job.number
                pieces = [(d.output_address + packet * d.state_stride, self._state_bytes(job))]
            else:
                pieces = [(address, 2 * d.value_dim) for address in self._row_addresses("output", job)]
            last = None
            for address, length in pieces:
                first, end = address // size, (address + length - 1) // size + 1
                # What follows in the beat before is written with it.
                beats += end - first - (first == last)
                last = end - 1
        return beats * size

    def _state_bytes(self, job: JobKeys) -> int:
        return state_bytes(len(job.rows), self._descriptor.value_dim, self._config.core.output_lanes)

    def _control(self) -> Iterator[list[Request]]:
        """Yield scales, page table and bitmaps, each read by itself."""
        d = self._descriptor
        first, last = self._keys
        for kv_head in range(d.kv_heads):
            yield [Request(d.scale_address + WORD_BYTES * kv_head, WORD_BYTES, False)]
        if self._pages:
            address = d.page_table_address + WORD_BYTES * min(self._pages)
            yield [Request(address, WORD_BYTES * len(self._pages), False)]
        if d.flags & Flag.BLOCK_MASK:
            low, high = (key >> d.block_shift for key in (first, last))
            words = range(low // WORD_BLOCKS, high // WORD_BLOCKS + 1)
            for job in self._jobs:
                place = d.mask_address + job.kv_head * d.mask_head_stride + job.number * d.mask_row_stride
                yield [Request(place + WORD_BYTES * words[0], WORD_BYTES * len(words), False)]

    def _row_addresses(self, name: str, job: JobKeys) -> list[int]:
        """Return where a job's rows of q or o lie."""
        d = self._descriptor
        row_stride, head_stride = getattr(d, f"{name}_row_stride"), getattr(d, f"{name}_head_stride")
        heads = job.kv_head * d.group + job.rows % d.group
        addresses = getattr(d, f"{name}_address") + heads * head_stride + job.rows // d.group * row_stride
        return [int(address) for address in addresses]

    def _row_bytes(self, dim: int) -> int:
        lanes = self._config.core.lanes
        return -(-dim // lanes) * lanes

    def _queries(self) -> Iterator[list[Request]]:
        """Yield the queries of each kv head, one after the other."""
        size = self._row_bytes(self._descriptor.head_dim)
        for kv_head in range(self._descriptor.kv_heads):
            jobs = [job for job in self._jobs if job.kv_head == kv_head]
            yield [Request(address, size, True) for job in jobs for address in self._row_addresses("query", job)]

    def _states(self) -> Iterator[list[Request]]:
        """Yield the state that each job starts from."""
        d = self._descriptor
        if not d.flags & Flag.FROM_STATE:
            return
        blocks = max(job.number for job in self._jobs) + 1
        for job in self._jobs:
            packet = job.kv_head * blocks + job.number
            yield [Request(d.state_address + packet * d.state_stride, self._state_bytes(job), False)]

    def _rows(self, name: str) -> Iterator[list[Request]]:
        """Yield keys or values: of each kv head if they are resident, else those of each job; values one by one."""
        d = self._descriptor
        if name == "value" and d.flags & Flag.SHARED:
            return
        size = self._row_bytes(d.head_dim if name == "key" else d.value_dim)

        def requests(kv_head: int, indices: Iterable[int], joined: bool) -> list[Request]:
            return [Request(self._key_address(name, kv_head, int(index)), size, joined) for index in indices]

        if self.resident:
            for kv_head in range(d.kv_heads):
                yield requests(kv_head, range(self._keys[0], self._keys[1] + 1), True)
        else:
            for job in self._jobs:
                yield requests(job.kv_head, job.streamed if name == "key" else job.kept, name == "key")

    def _key_address(self, name: str, kv_head: int, index: int) -> int:
        d = self._descriptor
        address = int(getattr(d, f"{name}_address") + kv_head * getattr(d, f"{name}_head_stride"))
        if self._pages:
            address += self._pages[index >> d.page_shift] * getattr(d, f"{name}_page_stride")
            index %= 1 << d.page_shift
        return address + index * int(getattr(d, f"{name}_row_stride"))
