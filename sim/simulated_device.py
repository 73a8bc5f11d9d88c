"""A device in simulation: its driver on one side, memory on the other, and the model of it beside."""

from __future__ import annotations

import math
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from golden.device.boards import MappedMemory, Memory
from golden.device.config import Capability, DeviceConfig
from golden.device.descriptor import Descriptor
from golden.device.driver import Device
from golden.device.layout import Placement, Request
from golden.device.model import DeviceModel
from golden.device.record import Record
from golden.device.registers import DESCRIPTOR_BITS, RECORD_BITS
from rtl.axi.axi_ports import RESP_OKAY
from sim.axi_memory import CLOCK_NS, GuardedMemory, pauses
from sim.axi_rules import AxiRules

MEMORY_BYTES = 1 << 22
"""Of the memory, unless more is needed; a power of two."""

SLOTS = 4
CYCLES_MAX = 10_000_000
"""Cycles that a descriptor may take before it is taken to hang."""


def memory_base(config: DeviceConfig) -> int:
    """Return the address of the memory: where addresses need all the bits that the bus has, but for NumPy's int64."""
    return 3 << min(config.address_bits, 62) - 2


class SimulatedWindow:
    """Registers of a device in simulation, for a driver in a thread of its own."""

    def __init__(self, master: AxiLiteMaster):
        self._master = master

    def read32(self, offset: int) -> int:
        """Return the register at `offset` bytes."""
        answer = resume(self._master.read)(offset, 4)
        assert int(answer.resp) == RESP_OKAY, f"a read of register {offset:#x} was refused"
        return int.from_bytes(answer.data, "little")

    def write32(self, offset: int, value: int) -> None:
        """Write the register at `offset` bytes."""
        answer = resume(self._master.write)(offset, value.to_bytes(4, "little"))
        assert int(answer.resp) == RESP_OKAY, f"a write to register {offset:#x} was refused"


class SimulatedDevice:
    """A device in simulation, with its memory.

    Parameters
    ----------
    dut
        The simulated top.
    config : DeviceConfig
        Its configuration.
    rules : bool
        Hold the master to the rules of AXI in every cycle, which takes time.
    memory_bytes : int
        Of the memory, a power of two.
    """

    def __init__(self, dut: Any, config: DeviceConfig, rules: bool = True, memory_bytes: int = MEMORY_BYTES):
        self.dut = dut
        dut.aresetn.value = 0
        Clock(dut.aclk, CLOCK_NS, unit="ns").start()
        self.memory = GuardedMemory(dut, memory_bytes, memory_base(config))
        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        if rules:
            cocotb.start_soon(AxiRules(dut, "m_axi", dut.aclk, config.beat_bytes, dut.aresetn).watch())
        write, read = self.master.write_if, self.master.read_if
        self._channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]

    async def reset(self, latency: int = 0, pause: float = 0.0, seed: int = 0) -> None:
        """Reset the device, and set how memory and host behave."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 2)
        self.memory.latency = latency
        self.memory.pause(pause, seed)
        for n, channel in enumerate(self._channels):
            channel.clear_pause_generator()
            channel.pause = False
            if pause:
                channel.set_pause_generator(pauses(random.Random(f"{seed} host {n}"), pause))

    async def interrupt(self) -> None:
        """Wait for the interrupt."""
        if not self.dut.irq.value:
            fired = await First(RisingEdge(self.dut.irq), ClockCycles(self.dut.aclk, CYCLES_MAX))
            assert isinstance(fired, RisingEdge), f"no interrupt for {CYCLES_MAX} cycles"

    def driver(self, timeout_cycles: int) -> Device:
        """Return a driver for a thread that `bridge` made."""
        wait = resume(self.interrupt)
        memory = MappedMemory(self.memory.content, self.memory.base)
        return Device(SimulatedWindow(self.master), memory, lambda seconds: wait(), SLOTS, timeout_cycles, math.inf)


def record_differences(expected: Record, seen: Record) -> list[str]:
    """Return a line for each field of a record that is not as the model says; it does not know of cycles."""
    return [
        f"record field {part.name}: expected {getattr(expected, part.name)}, saw {getattr(seen, part.name)}"
        for part in Record.layout()
        if part.name != "cycles" and getattr(expected, part.name) != getattr(seen, part.name)
    ]


class SpreadPlacement(Placement):
    """A request in memory whose rows of queries, keys and values lie apart: what is beside their elements is noise."""

    def __init__(self, request: Request, capability: Capability, memory: Memory, tag: int):
        self._random = np.random.default_rng(tag)
        super().__init__(request, capability, memory, tag)

    def _rows(self, tensor: np.ndarray) -> np.ndarray:
        *shape, length = super()._rows(tensor).shape
        length += int(self._random.integers(3)) * self._capability.lanes
        rows = self._random.integers(-128, 128, size=(*shape, length), dtype=np.int8)
        rows[..., : tensor.shape[-1]] = tensor
        return rows


class Session:
    """A driver and what it does, held to the model; for a thread that `bridge` made.

    Parameters
    ----------
    device : SimulatedDevice
        The device.
    config : DeviceConfig
        Its configuration.
    timeout_cycles : int
        As for the driver.
    placement : type
        `Placement`, or `SpreadPlacement`: how requests are laid out.
    """

    def __init__(
        self,
        device: SimulatedDevice,
        config: DeviceConfig,
        timeout_cycles: int = 0,
        placement: type[Placement] = Placement,
    ):
        self.device, self.config, self._placement = device, config, placement
        self.memory, self.twin = device.memory, device.memory.twin
        self.driver = device.driver(timeout_cycles)
        self.restarted()
        self._queue, self._records = (
            self.driver.read(f"{name}_BASE_HI") << 32 | self.driver.read(f"{name}_BASE_LO") << bits
            for name, bits in (("QUEUE", DESCRIPTOR_BITS), ("RECORD", RECORD_BITS))
        )

    def forget(self) -> None:
        """Know that nothing is left of what was done before."""
        self._model = DeviceModel(self.config, self.twin)

    def restarted(self) -> None:
        """Know that the queue begins anew."""
        self.forget()
        self._done = 0

    def place(self, request: Request) -> Placement:
        """Lay a request out in memory."""
        return self._placement(request, self.driver.capability, self.driver.memory, tag=self._done + 1)

    def expect(self, descriptor: Descriptor, ahead: int = 0) -> Record:
        """Have the model do a descriptor that has so many ahead of it; what it writes may be written."""
        if not ahead:
            self.twin.renew()
        expected = self._model.run(descriptor, self._done + ahead + 1)
        self.twin.allow(self._record_place(ahead), Record.SIZE)
        return expected

    def _record_place(self, ahead: int = 0) -> int:
        return self._records + (self._done + ahead) % SLOTS * Record.SIZE

    def finished(self) -> Record:
        """Return the record of the next descriptor, which is done, and go on to the one after it."""
        self.twin.accept(self._queue + self._done % SLOTS * Descriptor.SIZE, Descriptor.SIZE)
        self.twin.accept(self._record_place(), Record.SIZE)
        record = Record.parse(self.twin.read(self._record_place(), Record.SIZE).tobytes())
        self._done += 1
        return record

    def disregard(self, output: np.ndarray) -> None:
        """Take what a descriptor that failed has written of its output, bool of each byte, as it is."""
        self.twin.content[output] = np.frombuffer(self.memory.content, dtype=np.uint8)[output]

    def run(self, request: Request) -> tuple[Record, list[str]]:
        """Do a request; return its record, and a line for each thing that is not as the model says."""
        placement = self.place(request)
        expected = self.expect(placement.descriptor)
        self.driver.wait(self.driver.submit(placement.descriptor))
        record = self.finished()
        placement.free()
        return record, record_differences(expected, record) + self.memory.violations + self.twin.differences()
