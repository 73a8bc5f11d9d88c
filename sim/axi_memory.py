"""Memory behind a device's AXI master: cocotbext-axi's, with latency, pauses, errors, and a guard on what is written."""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.queue import Queue
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiRam, AxiResp

from golden.device.config import Capability
from golden.device.descriptor import Descriptor, Flag
from golden.device.states import state_bytes

CLOCK_NS = 10

PAUSES = (1, 1, 2, 8, 30)
"""Lengths of pauses, and of the times between them, to choose from."""


def pauses(rng: random.Random, share: float) -> Iterator[bool]:
    """Yield whether a channel pauses in a cycle, which it does in a `share` of them."""
    while True:
        paused = rng.random() < share
        for _ in range(rng.choice(PAUSES)):
            yield paused


class DelayLine:
    """Hands on what comes, in order, so many cycles after it came.

    Parameters
    ----------
    clock
        The clock.
    latency : callable
        Returns the cycles.
    """

    def __init__(self, clock: Any, latency: Callable[[], int]):
        self._clock, self._latency = clock, latency
        self._queue: Queue[tuple[int, Any]] = Queue()

    @staticmethod
    def _now() -> int:
        return round(get_sim_time("ns")) // CLOCK_NS

    def put(self, item: Any) -> None:
        """Take an item in this cycle."""
        self._queue.put_nowait((self._now() + self._latency(), item))

    async def get(self) -> Any:
        """Return the next item when it is due."""
        due, item = await self._queue.get()
        if due > self._now():
            await ClockCycles(self._clock, due - self._now())
        return item

    def clear(self) -> None:
        """Forget all that came."""
        while not self._queue.empty():
            self._queue.get_nowait()


class LateRequests:
    """A channel of addresses, each of which the memory sees after a delay; many may be on their way."""

    def __init__(self, channel: Any, delay: DelayLine):
        self._channel, self._delay = channel, delay
        self.recv = delay.get
        cocotb.start_soon(self._pump())

    async def _pump(self) -> None:
        while True:
            self._delay.put(await self._channel.recv())

    def clear(self) -> None:
        """Forget all that came."""
        self._channel.clear()
        self._delay.clear()


class SpoiltAnswers:
    """A channel of answers, some of which become errors; those of writes come after a delay."""

    def __init__(self, channel: Any, response: str, fails: Callable[[], bool], delay: DelayLine | None = None):
        self._channel, self._response, self._fails, self._delay = channel, response, fails, delay
        self._transaction_obj = channel._transaction_obj
        if delay is not None:
            cocotb.start_soon(self._pump(delay))

    async def _pump(self, delay: DelayLine) -> None:
        while True:
            await self._channel.send(await delay.get())

    async def send(self, answer: Any) -> None:
        """Answer, now or later."""
        if self._fails():
            setattr(answer, self._response, random.choice((AxiResp.SLVERR, AxiResp.DECERR)))
        if self._delay is None:
            await self._channel.send(answer)
        else:
            self._delay.put(answer)

    def clear(self) -> None:
        """Forget all that came."""
        self._channel.clear()
        if self._delay is not None:
            self._delay.clear()


class GuardedMemory:
    """Memory that a device and the host see, and that notes every byte written that is not to be.

    Parameters
    ----------
    dut
        The simulated device, in reset.
    size : int
        Bytes, a power of two.
    base : int
        Address of the first byte, a multiple of `size`.

    Attributes
    ----------
    content : mmap.mmap
        The bytes.
    latency : int
        Cycles from an address of a read to its first beat, and from a write's last beat to its answer.
    fail_read, fail_write : callable
        Whether the next beat read, or the next answer to a write, is an error.
    violations : list of str
        Writes outside what `allow` allowed.
    """

    def __init__(self, dut: Any, size: int, base: int):
        self.size, self.base = size, base
        self.content = mmap.mmap(-1, size)
        self.latency = 0
        self.fail_read: Callable[[], bool] = bool
        self.fail_write: Callable[[], bool] = bool
        self.violations: list[str] = []
        self._allowed = np.zeros(size, dtype=bool)
        bus = AxiBus.from_prefix(dut, "m_axi")
        ram = AxiRam(bus, dut.aclk, dut.aresetn, reset_active_level=False, mem=self.content)
        reads, writes = ram.read_if, ram.write_if
        self._channels = [reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel]

        def latency() -> int:
            return self.latency

        reads.ar_channel = LateRequests(reads.ar_channel, DelayLine(dut.aclk, latency))
        reads.r_channel = SpoiltAnswers(reads.r_channel, "rresp", lambda: self.fail_read())
        delay = DelayLine(dut.aclk, latency)
        writes.b_channel = SpoiltAnswers(writes.b_channel, "bresp", lambda: self.fail_write(), delay)
        writes._write = self._write

    async def _write(self, address: int, data: bytes) -> None:
        """Write what a beat writes, in place of the RAM's own way."""
        first = address - self.base
        if not 0 <= first <= self.size - len(data) or not self._allowed[first : first + len(data)].all():
            self.violations.append(f"{len(data)} bytes at {address:#x}")
            return
        self.content[first : first + len(data)] = data

    def pause(self, share: float, seed: int) -> None:
        """Pause every channel in a share of the cycles."""
        for n, channel in enumerate(self._channels):
            channel.clear_pause_generator()
            channel.pause = False
            if share:
                channel.set_pause_generator(pauses(random.Random(f"{seed} {n}"), share))

    def forbid_all(self) -> None:
        """Allow no writes, and forget those that were not."""
        self._allowed[:] = False
        self.violations.clear()

    def allow(self, address: int, size: int) -> None:
        """Allow writes to so many bytes."""
        self._allowed[address - self.base : address - self.base + size] = True

    def allow_output(self, descriptor: Descriptor, capability: Capability) -> None:
        """Allow writes to the output of a good descriptor: to the elements of its rows, or to its states."""
        d = descriptor
        rows = d.queries * d.group
        if d.flags & Flag.EMIT_STATE:
            blocks = [min(capability.rows, rows - first) for first in range(0, rows, capability.rows)] * d.kv_heads
            for number, block in enumerate(blocks):
                size = state_bytes(block, d.value_dim, capability.output_lanes)
                self.allow(d.output_address + number * d.state_stride, size)
            return
        for head in range(d.kv_heads * d.group):
            for query in range(d.queries):
                row = d.output_address + head * d.output_head_stride + query * d.output_row_stride
                self.allow(row, 2 * d.value_dim)
