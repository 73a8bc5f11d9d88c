"""The cocotb side of a device's simulation: has a driver do requests, and holds all of memory to the model's."""

from __future__ import annotations

from dataclasses import dataclass, field

import cocotb
from cocotb.task import bridge

from golden.device.config import DeviceConfig
from golden.device.layout import Placement, Request
from golden.device.record import Record
from sim.core_testbench import raise_problems
from sim.runner import load_work, report_progress, save_result
from sim.simulated_device import Session, SimulatedDevice, SpreadPlacement


@dataclass(frozen=True)
class DeviceRun:
    """Requests that a device gets one after the other, after a reset.

    Parameters
    ----------
    label : str
        Names the run in messages.
    requests : list of Request
        What is asked for.
    latency : int
        Cycles of the memory.
    pause : float
        Share of the cycles in which a channel pauses.
    seed : int
        Of the pauses.
    spread : bool
        Whether rows lie apart in memory, with noise in between and behind their elements.
    """

    label: str
    requests: list[Request]
    latency: int = 0
    pause: float = 0.0
    seed: int = 0
    spread: bool = False


@dataclass(frozen=True)
class DeviceWork:
    """What a simulation has to do; whether it watches the rules of AXI, and what memory there is."""

    config: DeviceConfig
    runs: list[DeviceRun]
    rules: bool
    memory_bytes: int


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


def run_requests(device: SimulatedDevice, config: DeviceConfig, run: DeviceRun) -> DeviceOutcome:
    """Do a run's requests."""
    session = Session(device, config, placement=SpreadPlacement if run.spread else Placement)
    outcome = DeviceOutcome()
    for n, request in enumerate(run.requests):
        record, problems = session.run(request)
        raise_problems(f"{run.label}, request {n}", problems)
        outcome.records.append(record)
    outcome.counters = session.driver.counters()
    session.driver.close()
    return outcome


@cocotb.test()
async def replay(dut):
    """Every byte that is written and every statistic is as the model says, and nothing else is written."""
    work: DeviceWork = load_work()
    device = SimulatedDevice(dut, work.config, work.rules, work.memory_bytes)
    outcomes = []
    for run in work.runs:
        await device.reset(run.latency, run.pause, run.seed)
        outcomes.append(await bridge(run_requests)(device, work.config, run))
        report_progress()
    save_result(outcomes)
