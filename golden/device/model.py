"""What a device does with a descriptor, from memory to memory: the specification of what runs jobs from a queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from golden import formats
from golden.block import run_job
from golden.device.config import DeviceConfig
from golden.device.descriptor import WORD_BYTES, Descriptor, Flag, check
from golden.device.record import Record
from golden.device.states import pack_state, parse_state, state_bytes
from golden.device.status import DeviceStatus
from golden.device.traffic import JobKeys, Traffic
from golden.job import Job, JobResult, ScoreScale
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold


class BusError(Exception):
    """The bus answers with an error."""


class Bus(Protocol):
    """Memory by bus addresses. Both raise BusError where there is none."""

    def read(self, address: int, size: int) -> np.ndarray:
        """Return `size` bytes, uint8."""

    def write(self, address: int, content: np.ndarray) -> None:
        """Write bytes, uint8."""


class _Fault(Exception):
    """A descriptor can't go on."""

    def __init__(self, status: DeviceStatus):
        self.status = status


class DeviceModel:
    """Runs descriptors one by one.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    bus : Bus
        Its memory.
    """

    def __init__(self, config: DeviceConfig, bus: Bus):
        self._config = config
        self._bus = bus
        self._left = Threshold()
        self._tau = 0

    def run(self, descriptor: Descriptor, sequence: int) -> Record:
        """Do what a descriptor says, and return its record, with zeros for cycles, and for bytes of one that failed.

        Parameters
        ----------
        descriptor : Descriptor
            As it lies in memory.
        sequence : int
            Its number since reset, from 1.
        """
        results: list[JobResult] = []
        self._tau = 0
        status = check(descriptor, self._config.capability)
        moved = {}
        if status is DeviceStatus.OK:
            try:
                traffic = self._run(descriptor, results)
                moved = {"read_bytes": traffic.read_bytes, "write_bytes": traffic.write_bytes}
            except _Fault as fault:
                status = fault.status
        if status is not DeviceStatus.OK:
            # A fault resets the core.
            self._left = Threshold()
        return Record(
            sequence=sequence,
            tag=descriptor.tag,
            status=status,
            tau=self._tau,
            jobs=len(results),
            keys=sum(len(result.survivors) for result in results),
            survivors=sum(int(result.survivors.sum()) for result in results),
            packs=sum(result.packs for result in results),
            saturated=sum(result.saturated for result in results),
            dropped=max((int(result.dropped.max()) for result in results), default=0),
            **moved,
        )

    def _read(self, address: int, size: int) -> np.ndarray:
        try:
            return self._bus.read(address % (1 << self._config.address_bits), size)
        except BusError as error:
            raise _Fault(DeviceStatus.READ) from error

    def _write(self, address: int, content: np.ndarray) -> None:
        try:
            self._bus.write(address % (1 << self._config.address_bits), content)
        except BusError as error:
            raise _Fault(DeviceStatus.WRITE) from error

    def _word(self, address: int) -> int:
        return int(self._read(address, WORD_BYTES).view("<u4")[0])

    def _run(self, d: Descriptor, results: list[JobResult]) -> Traffic:
        """Run the jobs of a good descriptor, add to `results`, and return what they move on the bus."""
        core = self._config.core
        first = Threshold(d.tau, d.epsilon_shift, d.target)
        mask = Mask(MaskKind(d.mask), d.window if d.mask == MaskKind.WINDOW else 0)
        visible = self._visible(d, mask, np.array([d.first_position, d.first_position + d.queries - 1]))
        pages = self._pages(d, visible)
        jobs = []
        rows = np.arange(d.queries * d.group)
        blocks = [rows[start : start + core.rows] for start in range(0, len(rows), core.rows)]
        for kv_head in range(d.kv_heads):
            word = self._word(d.scale_address + WORD_BYTES * kv_head)
            multiplier_bits, shift_bits = formats.MULTIPLIER_BITS, formats.SHIFT_BITS
            scale = ScoreScale(word % (1 << multiplier_bits), word >> multiplier_bits & ((1 << shift_bits) - 1))
            for number, block in enumerate(blocks):
                continues = d.target and (number or d.flags & Flag.CONTINUE_TAU)
                threshold = replace(first, tau=self._left.tau) if continues else first
                queries, heads = block // d.group, kv_head * d.group + block % d.group
                positions = d.first_position + queries
                indices = self._indices(d, mask, kv_head, number, positions)
                keys = self._key_rows(d, d.key_address, "key", kv_head, indices, d.head_dim, pages)
                packet = kv_head * len(blocks) + number
                job = Job(
                    query=np.stack([self._query(d, int(h), int(q)) for h, q in zip(heads, queries, strict=True)]),
                    positions=positions.astype(np.int64),
                    key=keys,
                    indices=indices,
                    value=keys[:, : d.value_dim]
                    if d.flags & Flag.SHARED
                    else self._key_rows(d, d.value_address, "value", kv_head, indices, d.value_dim, pages),
                    scale=scale,
                    threshold=threshold,
                    mask=mask,
                    state=self._state(d, packet, len(block)) if d.flags & Flag.FROM_STATE else None,
                    emit_state=bool(d.flags & Flag.EMIT_STATE),
                    shared=bool(d.flags & Flag.SHARED),
                    continue_tau=bool(continues),
                )
                result = run_job(job, core.lanes)
                if d.flags & Flag.EMIT_STATE:
                    content = pack_state(result.state, core.output_lanes)
                    self._write(d.output_address + packet * d.state_stride, content)
                else:
                    for row, head, query in zip(result.output, heads, queries, strict=True):
                        address = d.output_address + int(head) * d.output_head_stride + int(query) * d.output_row_stride
                        self._write(address, row.astype("<i2").view(np.uint8))
                results.append(result)
                jobs.append(JobKeys(kv_head, number, block, indices, indices[result.survivors]))
                self._tau = threshold.tau
                self._left = threshold.after(int(result.survivors.sum()), len(indices))
        return Traffic(d, self._config, (int(visible[0]), int(visible[-1])), pages, jobs)

    def _pages(self, d: Descriptor, keys: np.ndarray) -> dict[int, int]:
        """Return the place in the pool of each page of `keys`, none if they are not paged."""
        if not d.flags & Flag.PAGED or not len(keys):
            return {}
        numbers = range(int(keys[0]) >> d.page_shift, (int(keys[-1]) >> d.page_shift) + 1)
        pages = {number: self._word(d.page_table_address + WORD_BYTES * number) for number in numbers}
        if max(pages.values()) >= d.page_count:
            raise _Fault(DeviceStatus.PAGE)
        return pages

    def _visible(self, d: Descriptor, mask: Mask, positions: np.ndarray) -> np.ndarray:
        """Return the keys from the first that the lowest position may see to the last that the highest may."""
        keys = np.arange(d.first_key, d.end_key, dtype=np.int64)
        first, end = mask.bounds(positions[[0, -1]], keys)
        return keys[first[0] : end[1]]

    def _indices(self, d: Descriptor, mask: Mask, kv_head: int, number: int, positions: np.ndarray) -> np.ndarray:
        """Return the keys that a block streams."""
        keys = self._visible(d, mask, positions)
        if d.flags & Flag.BLOCK_MASK and len(keys):
            blocks = keys >> d.block_shift
            words = range(int(blocks[0]) // 32, int(blocks[-1]) // 32 + 1)
            address = d.mask_address + kv_head * d.mask_head_stride + number * d.mask_row_stride
            bitmap = {word: self._word(address + WORD_BYTES * word) for word in words}
            keys = keys[[bool(bitmap[int(block) // 32] >> int(block) % 32 & 1) for block in blocks]]
        if not len(keys):
            raise _Fault(DeviceStatus.EMPTY)
        return keys

    def _query(self, d: Descriptor, head: int, query: int) -> np.ndarray:
        address = d.query_address + head * d.query_head_stride + query * d.query_row_stride
        return self._read(address, d.head_dim).view(np.int8)

    def _key_rows(
        self, d: Descriptor, base: int, name: str, kv_head: int, indices: np.ndarray, dim: int, pages: dict[int, int]
    ) -> np.ndarray:
        """Return the rows of these keys, or of their values, int8."""
        row_stride, head_stride = getattr(d, f"{name}_row_stride"), getattr(d, f"{name}_head_stride")
        rows = []
        for index in map(int, indices):
            address = base + kv_head * head_stride
            if d.flags & Flag.PAGED:
                within = index % (1 << d.page_shift)
                address += pages[index >> d.page_shift] * getattr(d, f"{name}_page_stride") + within * row_stride
            else:
                address += index * row_stride
            rows.append(self._read(address, dim).view(np.int8))
        return np.stack(rows)

    def _state(self, d: Descriptor, packet: int, rows: int) -> PartialState:
        lanes = self._config.core.output_lanes
        content = self._read(d.state_address + packet * d.state_stride, state_bytes(rows, d.value_dim, lanes))
        return parse_state(content, rows, d.value_dim, lanes)
