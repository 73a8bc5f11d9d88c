"""Runs requests on a simulated device."""

from __future__ import annotations

from typing import cast

from golden.device.config import DeviceConfig
from sim.device_testbench import DeviceOutcome, DeviceRun, DeviceWork
from sim.runner import run_bench


def simulate_device(config: DeviceConfig, runs: list[DeviceRun], waves: bool = False) -> list[DeviceOutcome]:
    """Simulate `runs` on a device, each after a reset.

    Raises
    ------
    SimulationError
        If a result is not golden's, or a byte outside the outputs is written.
    """
    work = DeviceWork(config, runs)
    return cast(list[DeviceOutcome], run_bench("sim.device_testbench", config, work, len(runs), waves, "axi"))
