"""``python -m perf_model compare``: design points side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from golden.errors import InputError
from golden.files import write_text
from golden.options import Commands
from perf_model.baselines import all_of
from perf_model.commands.estimate import DEFAULT_WORKLOAD, STDOUT
from perf_model.compare import compared, to_dict
from perf_model.estimate import Estimate, estimate
from perf_model.hardware import Hardware, brought_hardware, load_hardware
from perf_model.report import tokens
from perf_model.workload import Workload, load_workload


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("compare", help="print design points side by side, with ratios to the first")
    command.add_argument(
        "--hardware",
        nargs="+",
        required=True,
        metavar="NAME",
        help=f"{', '.join(brought_hardware())}, presets, or .yaml files",
    )
    command.add_argument(
        "--workload",
        nargs="+",
        default=[DEFAULT_WORKLOAD],
        metavar="NAME",
        help=f"as of `estimate`, a table each ({DEFAULT_WORKLOAD} if not given)",
    )
    command.add_argument(
        "--survival", nargs="+", type=float, default=[1.0], metavar="SHARE", help="shares of the keys that survive (1)"
    )
    command.add_argument(
        "--baselines", action="store_true", help="unfused attention, FLAT and the core's own ways on each hardware too"
    )
    command.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="write the estimates there too; without FILE print them as JSON instead",
    )
    command.set_defaults(run=run)


def _points(workload: Workload, hardware: Hardware, options: argparse.Namespace) -> list[Estimate]:
    """Return the estimates of a workload on one hardware."""
    try:
        if options.baselines:
            return all_of(workload, hardware, options.survival)
        return [estimate(workload, hardware, rate) for rate in options.survival]
    except InputError as error:
        raise InputError(f"{hardware.name}: {error}") from error


def run(options: argparse.Namespace) -> None:
    """Print a table for each workload, and write the estimates if that is wanted."""
    hardware = [load_hardware(name) for name in options.hardware]
    workloads = [load_workload(name) for name in options.workload]
    tables = [
        (workload, [point for each in hardware for point in _points(workload, each, options)]) for workload in workloads
    ]
    text = json.dumps([{"workload": w.name, "points": to_dict(points)} for w, points in tables], indent=2) + "\n"
    if options.json == STDOUT:
        print(text, end="")
        return
    parts = [f"{w.name}: {tokens(w)}, batch {w.batch}\n\n{compared(points)}" for w, points in tables]
    print("\n\n".join(parts))
    if options.json:
        write_text(options.json, text)
