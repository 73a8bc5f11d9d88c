"""cocotbext-axi's memory with what a system has besides: latency, pauses and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiResp, AxiSlaveRead, AxiSlaveWrite
from cocotbext.axi.sparse_memory import SparseMemory

from golden.device.bursts import Burst


class AxiMemory:
    """Answers the master of a device, burst after burst, each no earlier than a latency after its address came.

    Parameters
    ----------
    dut : cocotb handle
        The device.
    prefix : str
        Of the master's ports.
    clock : cocotb handle
        Its clock, of `period` nanoseconds.
    latency : callable
        Returns the cycles of the next burst from its address to its first beat, or of a write to its response.
    pauses : callable, optional
        Returns what says, cycle by cycle, whether a channel pauses. Never by default.

    Attributes
    ----------
    fault : callable
        Returns the response to the next beat that is read, or to the next burst that was written. OKAY by default.
    reads, writes : list of Burst
        What it asked for, in the order of answers.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        clock: Any,
        latency: Callable[[], int] = lambda: 0,
        pauses: Callable[[], Iterator[bool]] | None = None,
        period: int = 10,
    ):
        self.fault: Callable[[], int] = lambda: AxiResp.OKAY
        self.reads: list[Burst] = []
        self.writes: list[Burst] = []
        self.latency = latency
        self._clock, self._period = clock, period
        self._bytes = SparseMemory(1 << 64)
        bus = AxiBus.from_prefix(dut, prefix)
        reader = AxiSlaveRead(bus.read, clock, target=self)
        writer = AxiSlaveWrite(bus.write, clock, target=self)
        self._delay(reader.ar_channel, "ar", self.reads)
        self._delay(writer.aw_channel, "aw", self.writes)
        self._answer(reader.r_channel, "rresp")
        self._answer(writer.b_channel, "bresp")
        channels = (reader.ar_channel, reader.r_channel, writer.aw_channel, writer.w_channel, writer.b_channel)
        for channel in channels if pauses else ():
            channel.set_pause_generator(pauses())

    def load(self, address: int, content: bytes) -> None:
        """Put bytes into the memory."""
        self._bytes.write(address, content)

    def dump(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        return self._bytes.read(address, size)

    async def read(self, address: int, size: int) -> bytes:
        """Answer a beat."""
        return self._bytes.read(address, size)

    async def write(self, address: int, content: bytes) -> None:
        """Take the bytes of a beat that are to be written, or part of them."""
        self._bytes.write(address, content)

    def _cycle(self) -> int:
        return int(get_sim_time("ns")) // self._period

    def _delay(self, channel: Any, prefix: str, bursts: list[Burst]) -> None:
        """Let addresses of `channel` wait for their latency, any number of them at a time."""
        channel.queue_occupancy_limit = -1
        put, take = channel.queue.put_nowait, channel.recv

        def arrive(address: Any) -> None:
            address.due = self._cycle() + self.latency()
            put(address)

        async def recv() -> Any:
            address = await take()
            if address.due > self._cycle():
                await ClockCycles(self._clock, address.due - self._cycle())
            beats = int(getattr(address, f"{prefix}len")) + 1
            bursts.append(Burst(int(getattr(address, f"{prefix}addr")), beats))
            return address

        channel.queue.put_nowait, channel.recv = arrive, recv

    def _answer(self, channel: Any, field: str) -> None:
        """Give beats, or bursts written, the response that was found for them."""
        send = channel.send

        async def answer(beat: Any) -> None:
            setattr(beat, field, self.fault())
            await send(beat)

        channel.send = answer
