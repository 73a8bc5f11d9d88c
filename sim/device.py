"""Runs requests and faults on a simulated device."""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import replace
from typing import cast

import numpy as np

from golden import formats
from golden.config import PRESETS, CoreConfig
from golden.device.boards import MappedMemory
from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor, require_good
from golden.device.layout import Placement, Request
from golden.device.record import Record
from golden.threshold import Threshold
from sim.device_faults_testbench import MEMORY, FaultRun, FaultWork, kinds_of
from sim.device_testbench import DeviceOutcome, DeviceRun, DeviceWork
from sim.random_requests import random_request
from sim.runner import run_bench
from sim.simulated_device import MEMORY_BYTES, SLOTS, memory_base

LATENCIES = (0, 1, 10, 50, 200)
PAUSES = (0.0, 0.1, 0.5)

MEMORY_MAX = 1 << 28
"""Bytes that a request may take, with queue and records."""

KEY_TIMEOUT = 1200
"""Of cores that keys are kept from: longer than the memory pauses, and not long to wait for.

With few reads under way keys wait longer than that for the values of those before.
"""


def _core(**sizes: int) -> CoreConfig:
    return replace(PRESETS["tiny"], **sizes)


DEVICES: dict[str, DeviceConfig] = {
    "tiny": DeviceConfig(_core(key_timeout=KEY_TIMEOUT), data_bits=64, scratchpad_bytes=4096, page_entries=64),
    "wide bus": DeviceConfig(
        _core(rows=6, output_lanes=1, rows_per_scaler=3, shared_values=1, key_timeout=KEY_TIMEOUT),
        data_bits=256,
        burst_beats=4,
        buffer_beats=16,
        scratchpad_bytes=8192,
        page_entries=16,
    ),
    "narrow bus": DeviceConfig(
        _core(rows=3, lanes=16, output_lanes=16, rows_per_scaler=1),
        data_bits=64,
        address_bits=36,
        burst_beats=32,
        outstanding_reads=4,
        buffer_beats=32,
        scratchpad_bytes=4096,
    ),
    "bare": DeviceConfig(
        _core(rows_per_budget=0, target_control=0),
        data_bits=128,
        burst_beats=1,
        outstanding_reads=2,
        buffer_beats=16,
        scratchpad_bytes=0,
        page_entries=0,
    ),
}
"""Devices that random runs choose from: buses as wide as a beat of keys, wider, narrower; with and without options."""


def _memory_of(request: Request, config: DeviceConfig) -> int:
    """Return the bytes of memory that a request takes, with queue and records, if it fits the device."""
    memory = MappedMemory(mmap.mmap(-1, MEMORY_MAX), memory_base(config))
    for size in (Descriptor.SIZE, Record.SIZE):
        memory.allocate(SLOTS * size)
    require_good(Placement(request, config.capability, memory).descriptor, config.capability)
    return memory.end


def simulate_device(
    config: DeviceConfig, runs: list[DeviceRun], waves: bool = False, rules: bool = True
) -> list[DeviceOutcome]:
    """Simulate `runs` on a device, each after a reset; without `rules` nobody watches those of AXI, which is quicker.

    Raises
    ------
    InputError
        If a request does not fit the device.
    SimulationError
        If a byte or a statistic is not the model's, or a byte outside the outputs is written.
    """
    needed = max(_memory_of(request, config) for run in runs for request in run.requests)
    work = DeviceWork(config, runs, rules, max(MEMORY_BYTES, 1 << (needed - 1).bit_length()))
    return cast(list[DeviceOutcome], run_bench("sim.device_testbench", config, work, len(runs), waves, "axi"))


def random_device_run(seed: int, name: str) -> DeviceRun:
    """Return the run of a device of `DEVICES` that `seed` stands for: requests with any latency and pauses."""
    config = DEVICES[name]
    rng = np.random.default_rng(seed)
    requests = [random_request(rng, config) for _ in range(int(rng.integers(1, 4)))]
    return DeviceRun(
        f"seed {seed} on device '{name}'",
        requests,
        int(rng.choice(LATENCIES)),
        float(rng.choice(PAUSES)),
        seed,
        spread=bool(rng.random() < 0.5),
    )


def fault_run(seed: int, name: str) -> FaultRun:
    """Return the fault in a device of `DEVICES` that `seed` stands for: every kind in turn, the rest at random.

    The kind is another one every so many seeds as there are devices, so that runs which take turns with the devices
    have every kind on each.
    """
    config = DEVICES[name]
    rng = np.random.default_rng(seed)
    kinds = kinds_of(config)
    kind = kinds[seed // len(DEVICES) % len(kinds)]

    def suits(request: Request) -> bool:
        if kind == "silent keys":
            # More than wait in the buffer.
            row_bytes = config.core.head_beats(request.attention.head_dim) * config.core.lanes
            return 2 * request.attention.keys * row_bytes > 3 * config.buffer_beats * config.beat_bytes
        return kind not in MEMORY or getattr(request, MEMORY[kind]) is not None

    def suitable() -> Request:
        while not suits(request := random_request(rng, config)):
            pass
        if kind == "silent keys":
            # Few keys survive, or it would be values that the core waits for.
            request = replace(request, threshold=Threshold(formats.TAU_MIN), continue_tau=False)
        return request

    return FaultRun(
        f"seed {seed} ({kind}) on device '{name}'",
        kind,
        suitable(),
        random_request(rng, config),
        int(rng.choice(LATENCIES)),
        float(rng.choice(PAUSES)),
        seed,
        replace(random_request(rng, config), continue_tau=False) if rng.random() < 0.5 else None,
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
