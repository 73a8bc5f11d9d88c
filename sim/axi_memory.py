"""Memory behind a device's AXI master: cocotbext-axi's, with latency, pauses, errors, and a guard on writes."""

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

from golden.device.model import BusError

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
        self._cleared = 0

    @staticmethod
    def _now() -> int:
        return round(get_sim_time("ns")) // CLOCK_NS

    def put(self, item: Any) -> None:
        """Take an item in this cycle."""
        self._queue.put_nowait((self._now() + self._latency(), item))

    async def get(self) -> Any:
        """Return the next item when it is due."""
        while True:
            due, item = await self._queue.get()
            cleared = self._cleared
            if due > self._now():
                await ClockCycles(self._clock, due - self._now())
            if cleared == self._cleared:
                return item

    def clear(self) -> None:
        """Forget all that came."""
        self._cleared += 1
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


class Twin:
    """What memory should become: the bus of a `golden.device.model.DeviceModel`.

    Parameters
    ----------
    memory : mmap.mmap
        Memory that this is a copy of.
    base : int
        Address of its first byte.

    Attributes
    ----------
    content : numpy.ndarray
        The bytes, uint8.
    written : numpy.ndarray
        bool: which of them were written.
    """

    def __init__(self, memory: mmap.mmap, base: int):
        self._memory, self._base = np.frombuffer(memory, dtype=np.uint8), base
        self.renew()

    def renew(self) -> None:
        """Copy the memory as it is now, of which nothing is written."""
        self.content = self._memory.copy()
        self.written = np.zeros(len(self.content), dtype=bool)

    def place(self, address: int, size: int) -> slice:
        """Return where so many bytes are.

        Raises
        ------
        BusError
            If they are not within the memory.
        """
        if not self._base <= address <= self._base + len(self.content) - size:
            raise BusError(f"{size} bytes at {address:#x}")
        return slice(address - self._base, address - self._base + size)

    def read(self, address: int, size: int) -> np.ndarray:
        """Return bytes, uint8."""
        return self.content[self.place(address, size)].copy()

    def write(self, address: int, content: np.ndarray) -> None:
        """Write bytes, uint8."""
        place = self.place(address, len(content))
        self.content[place] = content
        self.written[place] = True

    def allow(self, address: int, size: int) -> None:
        """Let bytes be written, whatever they become."""
        self.written[self.place(address, size)] = True

    def accept(self, address: int, size: int) -> None:
        """Take bytes as they are in the memory."""
        place = self.place(address, size)
        self.content[place] = self._memory[place]

    def differences(self) -> list[str]:
        """Return a line for the first byte in which the memory is not this, and how many there are."""
        wrong = np.flatnonzero(self._memory != self.content)
        if not len(wrong):
            return []
        first = int(wrong[0])
        seen = f"expected {self.content[first]:#x}, saw {self._memory[first]:#x}"
        return [f"byte at {self._base + first:#x}: {seen} ({len(wrong)} differ)"]


class Guard:
    """What a device's reads and writes do to memory; notes those that are not to be.

    Parameters
    ----------
    memory : mmap.mmap
        The bytes.
    twin : Twin
        Where they are, and which may be written.

    Attributes
    ----------
    violations : list of str
        Writes of other bytes, and whatever is outside the memory, which is also answered with an error.
    """

    def __init__(self, memory: mmap.mmap, twin: Twin):
        self._memory, self._twin = memory, twin
        self.violations: list[str] = []

    def _place(self, address: int, size: int, way: str) -> slice:
        try:
            return self._twin.place(address, size)
        except BusError as error:
            self.violations.append(f"{error} are {way}, outside the memory")
            raise

    async def read(self, address: int, length: int) -> bytes:
        """Return what a beat reads."""
        return self._memory[self._place(address, length, "read")]

    async def write(self, address: int, data: bytes) -> None:
        """Write what a beat writes."""
        place = self._place(address, len(data), "written")
        if not self._twin.written[place].all():
            self.violations.append(f"{len(data)} bytes at {address:#x} are written that are no output")
        self._memory[place] = data


class GuardedMemory:
    """Memory that a device and the host see, and that notes every access of the device that is not to be.

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
    twin : Twin
        A copy, in which bytes have to be written before they may be here.
    violations : list of str
        Those of a `Guard`.
    """

    def __init__(self, dut: Any, size: int, base: int):
        self.base = base
        self.content = mmap.mmap(-1, size)
        self.latency = 0
        self.fail_read: Callable[[], bool] = bool
        self.fail_write: Callable[[], bool] = bool
        self.twin = Twin(self.content, base)
        guard = Guard(self.content, self.twin)
        self.violations = guard.violations
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
        # In place of the RAM's own ways, which take addresses modulo its size.
        reads._read, writes._write = guard.read, guard.write

    def pause(self, share: float, seed: int) -> None:
        """Pause every channel in a share of the cycles."""
        for n, channel in enumerate(self._channels):
            channel.clear_pause_generator()
            channel.pause = False
            if share:
                channel.set_pause_generator(pauses(random.Random(f"{seed} {n}"), share))

    def stall(self, *channels: int) -> None:
        """Pause some of the five channels until `calm`, after which they do not until `pause`."""
        for number in channels:
            self._channels[number].clear_pause_generator()
            self._channels[number].pause = True

    def calm(self) -> None:
        """End a stall, and give no more errors."""
        self.fail_read = self.fail_write = bool
        for channel in self._channels:
            if channel._pause_generator is None:
                channel.pause = False
