"""The commands of ``python -m sim`` that simulate a device."""

from __future__ import annotations

import argparse
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

from golden.device.config import DeviceConfig
from golden.device.layout import Request
from golden.device.status import DeviceStatus
from golden.errors import InputError
from golden.files import require_writable
from golden.options import (
    add_config_options,
    add_device_options,
    add_mask_options,
    add_threshold_options,
    count,
    device_config_of,
    mask_of,
    natural,
    threshold_of,
)
from golden.tensors import load_attention
from sim.device import DEVICES, fault_run, random_device_run, simulate_device, simulate_faults
from sim.device_benchmark import LATENCY, figures, report, run_device_benchmarks
from sim.device_testbench import DeviceRun
from sim.random_requests import features
from sim.report import mask_fields, shape_fields, write_json


def _device(options: argparse.Namespace) -> None:
    if not 0 <= options.stall < 1:
        raise InputError(f"stall must be a probability from 0 to below 1, not {options.stall}")
    threshold = threshold_of(options)
    config = device_config_of(options)
    tensors = load_attention(options.input)
    request = Request(tensors.quantise(), mask_of(options, tensors.mask), threshold)
    if options.json:
        require_writable(options.json)
    run = DeviceRun(options.input.name, [request], options.latency, options.stall, options.seed)
    (outcome,) = simulate_device(config, [run], options.waves)
    print(report(options.input.name, request, outcome, config))
    if options.json:
        origin = {
            "config": config.to_dict(),
            "input": options.input.name,
            **shape_fields(request.attention),
            **mask_fields(request.mask),
            "tau": options.tau,
            "epsilon": options.epsilon,
            "target": options.target,
            "latency": options.latency,
            "stall": options.stall,
            "seed": options.seed,
        }
        write_json(options.json, {**origin, **figures(request, outcome, config)})


def _bench(options: argparse.Namespace) -> None:
    run_device_benchmarks(device_config_of(options), options.latency)


def _soak(options: argparse.Namespace) -> None:
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    seeds = range(seed, seed + options.runs)
    repeat = "device-soak --runs 1 --seed SEED --device DEVICE"
    print(f"runs of seeds {seed} to {seed + options.runs - 1}; repeat one with: {repeat}")
    names = [options.device] if options.device else list(DEVICES)
    drawn: Counter[str] = Counter()
    ended: Counter[tuple[str, str]] = Counter()
    for n, name in enumerate(names):
        # Each device takes its turn.
        mine = [number for number in seeds if number % len(names) == (seed + n) % len(names)]
        if not mine:
            continue
        if not options.only_faults:
            runs = [random_device_run(number, name) for number in mine]
            done = sum(len(outcome.records) for outcome in simulate_device(DEVICES[name], runs))
            print(f"{done} requests in {len(runs)} runs on device '{name}': every byte and statistic as the model's")
            drawn += _drawn(runs, DEVICES[name])
        ended += simulate_faults(DEVICES[name], [fault_run(number, name) for number in mine])
    if drawn:
        print("requests that had")
        print("\n".join(f"  {what:24}{number:5}" for what, number in sorted(drawn.items())))
    statuses = Counter({status.name: 0 for status in DeviceStatus})
    for (_, status), number in ended.items():
        statuses[status] += number
    print(f"{sum(ended.values())} faults, after each the next request right, nothing written outside the output:")
    for (kind, status), number in sorted(ended.items()):
        print(f"  {kind:12} ended with {status:12}{number:5}")
    print(f"by status: {', '.join(f'{status} {number}' for status, number in statuses.items())}")


def _drawn(runs: list[DeviceRun], config: DeviceConfig) -> Counter[str]:
    """Return how many requests of `runs` had what, and met what memory."""
    found: Counter[str] = Counter()
    for run in runs:
        for request in run.requests:
            found.update(features(request, config))
            found[f"a latency of {run.latency:3}"] += 1
            found[f"pauses in {run.pause:.0%} of cycles"] += 1
    return found


def _add_latency(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--latency", type=natural, default=LATENCY, metavar="N", help=f"cycles of the memory; {LATENCY} if not given"
    )


def add_device_commands(commands: Any) -> None:
    """Add the commands to the parser of ``python -m sim``."""
    command = commands.add_parser("device", help="run anybody's tensors on a device, memory to memory")
    add_config_options(command)
    add_device_options(command)
    command.add_argument("--input", type=Path, required=True, metavar="FILE", help=".npz file with arrays q, k and v")
    add_mask_options(command)
    add_threshold_options(command)
    _add_latency(command)
    command.add_argument(
        "--stall", type=float, default=0.0, metavar="P", help="share of cycles in which a channel pauses; 0 by default"
    )
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="of the pauses; 0 if not given")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    command.add_argument("--waves", action="store_true", help="trace all signals into a .vcd, whose path is printed")
    command.set_defaults(run=_device)

    command = commands.add_parser("device-bench", help="measure prefill and decode of a device, memory to memory")
    add_config_options(command)
    add_device_options(command)
    _add_latency(command)
    command.set_defaults(run=_bench)

    command = commands.add_parser("device-soak", help="compare random requests to devices with their model, and faults")
    command.add_argument("--runs", type=count, default=100, metavar="N", help="of either kind; 100 if not given")
    command.add_argument("--seed", type=natural, metavar="N", help="of the first run; a new one by default")
    command.add_argument("--device", choices=DEVICES, help="only this device")
    command.add_argument("--only-faults", action="store_true", help="only the runs with faults")
    command.set_defaults(run=_soak)
