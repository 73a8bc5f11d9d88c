"""The cocotb side of a device's simulation: its driver on one side, memory on the other, and golden beside."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from golden.device.boards import MappedMemory
from golden.device.config import DeviceConfig
from golden.device.driver import Device, DeviceResult
from golden.device.layout import Placement, Request
from golden.device.record import Record
from golden.device.registers import RECORD_BITS
from golden.device.status import DeviceStatus
from rtl.axi.axi_ports import RESP_OKAY
from sim.axi_memory import CLOCK_NS, GuardedMemory, pauses
from sim.core_testbench import raise_problems
from sim.device_expectation import DeviceExpectation
from sim.runner import load_work, report_progress, save_result

MEMORY_BYTES = 1 << 24
MEMORY_BASE = 1 << 24
CYCLES_MAX = 10_000_000
"""Cycles that a descriptor may take before it is taken to hang."""


@dataclass(frozen=True)
class DeviceRun:
    """Requests that a device gets one after the other, after a reset.

    Parameters
    ----------
    label : str
        Names the run in messages.
    requests : list of Request
        What is asked for.
    expectations : list of DeviceExpectation
        What each must return.
    latency : int
        Cycles of the memory.
    pause : float
        Share of the cycles in which a channel pauses.
    seed : int
        Of the pauses.
    """

    label: str
    requests: list[Request]
    expectations: list[DeviceExpectation]
    latency: int = 0
    pause: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class DeviceWork:
    """What a simulation has to do."""

    config: DeviceConfig
    runs: list[DeviceRun]


@dataclass
class DeviceOutcome:
    """What is measured of a run.

    Parameters
    ----------
    records : list of Record
        Of each request.
    counters : dict of str to int
        Of the device, from its reset to the end.
    """

    records: list[Record] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


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
    """

    def __init__(self, dut: Any):
        self.dut = dut
        dut.aresetn.value = 0
        Clock(dut.aclk, CLOCK_NS, unit="ns").start()
        self.memory = GuardedMemory(dut, MEMORY_BYTES, MEMORY_BASE)
        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        write, read = self.master.write_if, self.master.read_if
        self._channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]

    async def reset(self, latency: int = 0, pause: float = 0.0, seed: int = 0) -> None:
        """Reset the device, and set how memory and host behave."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 2)
        self.memory.forbid_all()
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

    def driver(self) -> Device:
        """Return a driver, whose records the device may write; for a thread that `bridge` made."""
        wait = resume(self.interrupt)
        memory = MappedMemory(self.memory.content, self.memory.base)
        driver = Device(SimulatedWindow(self.master), memory, lambda seconds: wait(), seconds=3600.0)
        records = driver.read("RECORD_BASE_HI") << 32 | driver.read("RECORD_BASE_LO") << RECORD_BITS
        self.memory.allow(records, Record.SIZE << driver.read("QUEUE_SHIFT"))
        return driver


def differences(expectation: DeviceExpectation, result: DeviceResult) -> list[str]:
    """Return a line for each thing that is not as golden says."""
    record = result.record
    problems = [
        f"record field {name}: expected {value}, saw {getattr(record, name)}"
        for name, value in expectation.record.items()
        if getattr(record, name) != value
    ]
    if result.output is not None:
        wrong = np.argwhere(expectation.output != result.output)
        if len(wrong):
            place = tuple(int(n) for n in wrong[0])
            seen = f"expected {expectation.output[place]}, saw {result.output[place]}"
            problems.append(f"output {place}: {seen} ({len(wrong)} differ)")
    if result.states is not None:
        for n, (golden, seen) in enumerate(zip(expectation.results, result.states, strict=True)):
            if golden.state != seen:
                problems.append(f"state of block {n} differs")
    return problems


def run_requests(device: SimulatedDevice, run: DeviceRun) -> DeviceOutcome:
    """Have a driver do a run's requests, and hold the results to what is expected."""
    outcome = DeviceOutcome()
    with device.driver() as driver:
        for n, (request, expectation) in enumerate(zip(run.requests, run.expectations, strict=True)):
            label = f"{run.label}, request {n}"
            placement = Placement(request, driver.capability, driver.memory, tag=n)
            device.memory.allow_output(placement.descriptor, driver.capability)
            record = driver.wait(driver.submit(placement.descriptor))
            outcome.records.append(record)
            assert record.status == DeviceStatus.OK, f"{label}: ended with {DeviceStatus(record.status).name}"
            assert record.tag == n, f"{label}: the record has tag {record.tag}"
            emits = request.emit_state
            output, states = (None, placement.states()) if emits else (placement.output(), None)
            raise_problems(label, differences(expectation, DeviceResult(request, record, output, states)))
            raise_problems(label, [f"written outside the output: {line}" for line in device.memory.violations])
            placement.free()
        outcome.counters = driver.counters()
    return outcome


@cocotb.test()
async def replay(dut):
    """Every output, state and statistic is as golden says, and nothing else is written."""
    work: DeviceWork = load_work()
    device = SimulatedDevice(dut)
    outcomes = []
    for run in work.runs:
        await device.reset(run.latency, run.pause, run.seed)
        outcomes.append(await bridge(run_requests)(device, run))
        report_progress()
    save_result(outcomes)
