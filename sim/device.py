"""Runs requests and faults on a simulated device."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import cast

import numpy as np

from golden.device.config import DeviceConfig
from golden.device.layout import Request
from sim.device_faults_testbench import KINDS, MEMORY, FaultRun, FaultWork
from sim.device_testbench import DeviceOutcome, DeviceRun, DeviceWork
from sim.random_requests import random_request
from sim.runner import run_bench

LATENCIES = (0, 1, 10, 50, 200)
PAUSES = (0.0, 0.1, 0.5)

KEY_TIMEOUT = 1200
"""Of the core of a device for faults: longer than the memory pauses, and not long to wait for."""


def simulate_device(config: DeviceConfig, runs: list[DeviceRun], waves: bool = False) -> list[DeviceOutcome]:
    """Simulate `runs` on a device, each after a reset.

    Raises
    ------
    SimulationError
        If a byte or a statistic is not the model's, or a byte outside the outputs is written.
    """
    work = DeviceWork(config, runs)
    return cast(list[DeviceOutcome], run_bench("sim.device_testbench", config, work, len(runs), waves, "axi"))


def random_device_run(seed: int, config: DeviceConfig) -> DeviceRun:
    """Return the run that `seed` stands for: a request or a few, with any latency and pauses."""
    rng = np.random.default_rng(seed)
    requests = [random_request(rng, config) for _ in range(int(rng.integers(1, 4)))]
    return DeviceRun(f"seed {seed}", requests, int(rng.choice(LATENCIES)), float(rng.choice(PAUSES)), seed)


def fault_config(config: DeviceConfig) -> DeviceConfig:
    """Return a device whose core gives up a job without keys in not too many cycles."""
    return replace(config, core=replace(config.core, key_timeout=KEY_TIMEOUT))


def fault_run(seed: int, config: DeviceConfig) -> FaultRun:
    """Return the fault that `seed` stands for: every kind in turn, the rest at random."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]

    def suitable() -> Request:
        while True:
            request = random_request(rng, config)
            if kind not in MEMORY or getattr(request, MEMORY[kind]) is not None:
                return request

    return FaultRun(
        f"seed {seed} ({kind})",
        kind,
        suitable(),
        random_request(rng, config),
        int(rng.choice(LATENCIES)),
        float(rng.choice(PAUSES)),
        seed,
    )


def simulate_faults(config: DeviceConfig, runs: list[FaultRun], waves: bool = False) -> Counter[tuple[str, str]]:
    """Simulate `runs`, each after a reset; return how many of each kind ended with which status.

    Raises
    ------
    SimulationError
        If a fault is not told as it should be, a byte outside the output is written, or the request after it is wrong.
    """
    work = FaultWork(config, runs)
    return cast(
        Counter[tuple[str, str]],
        run_bench("sim.device_faults_testbench", config, work, len(runs), waves, "axi"),
    )
