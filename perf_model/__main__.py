"""Command line of the performance model: ``python -m perf_model`` prints a table; see ``--help`` for the rest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from golden.config import PRESETS
from golden.errors import InputError
from golden.options import count, run_command
from perf_model.bench import run_benchmark, run_exact_benchmark
from perf_model.energy import load_energy_table
from perf_model.estimate import describe, estimate, table
from perf_model.measured import load_summary
from perf_model.settings import DATA
from perf_model.workload import PHASES, load_hardware, load_workload

DEFAULT_WORKLOAD = "bert-base"
DEFAULT_HARDWARE = "default"
DEFAULT_SURVIVAL = (1.0, 0.7, 0.4)


def _estimate(options: argparse.Namespace) -> None:
    workload = load_workload(options.workload, length=options.length, phase=options.phase, batch=options.batch)
    hardware = load_hardware(
        options.hardware or options.preset,
        clock_mhz=options.clock_mhz,
        technology=options.technology,
        dram=options.dram,
        scratchpad_kib=options.scratchpad_kib,
        bandwidth=options.bandwidth,
        latency=options.latency,
        outstanding=options.outstanding,
    )
    estimates = [estimate(workload, hardware, survival) for survival in options.survival]
    print(describe(workload, hardware))
    print()
    print(table(estimates))
    if options.json:
        text = json.dumps([e.to_dict() for e in estimates], indent=2) + "\n"
        try:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(text)
        except OSError as error:
            raise InputError(f"{options.json} can't be written: {error.strerror}") from error


def _plot(options: argparse.Namespace) -> None:
    summary = load_summary(options.measured)
    # Matplotlib takes a second to import, and only this command needs it.
    from perf_model.plots import write_plots

    for path in write_plots(summary, options.output):
        print(path)


def _bench(options: argparse.Namespace) -> None:
    result = run_benchmark()
    print("Cycles by closed form, random cores and jobs, one call on NumPy arrays:")
    print(f"  {result.points_per_second:,.0f} design points a second ({result.points:,} in {result.seconds:.3f} s)")
    print("Cycles followed one by one, default core, 512 queries and keys, d = 64:")
    for title, followed in run_exact_benchmark().items():
        print(f"  {title}: {followed.points_per_second / 1e6:.1f} million core cycles a second ({followed.points:,})")


def _scratchpad(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it must be a whole number from 0 on, not {text}")
    return int(text)


def _add_estimate_options(parser: argparse.ArgumentParser) -> None:
    workloads = ", ".join(sorted(path.stem for path in (DATA / "workloads").glob("*.yaml")))
    energies = load_energy_table()
    parser.add_argument(
        "--workload",
        default=DEFAULT_WORKLOAD,
        metavar="NAME",
        help=f"{workloads}, or a .yaml file ({DEFAULT_WORKLOAD} if not given)",
    )
    hardware = parser.add_mutually_exclusive_group()
    hardware.add_argument(
        "--preset",
        default=DEFAULT_HARDWARE,
        metavar="NAME",
        help=f"core: {', '.join(PRESETS)} ({DEFAULT_HARDWARE} if not given)",
    )
    hardware.add_argument("--hardware", metavar="FILE", help="a .yaml file with the core and its surroundings")
    parser.add_argument(
        "--survival",
        type=float,
        nargs="+",
        default=DEFAULT_SURVIVAL,
        metavar="SHARE",
        help="shares of the keys that survive, a column each (1, 0.7 and 0.4 if not given)",
    )
    parser.add_argument("--length", type=count, metavar="N", help="tokens, in place of the workload's")
    parser.add_argument("--phase", metavar="NAME", help=f"{' or '.join(PHASES)}, in place of the workload's")
    parser.add_argument("--batch", type=count, metavar="N", help="sequences, in place of the workload's")
    parser.add_argument("--clock-mhz", type=float, metavar="MHZ", help="clock")
    parser.add_argument("--technology", metavar="NAME", help=f"one of {', '.join(energies.scaling)}")
    parser.add_argument("--dram", metavar="NAME", help=f"energy of the DRAM: {', '.join(energies.dram)}")
    parser.add_argument(
        "--scratchpad-kib", type=_scratchpad, metavar="N", help="on-chip memory for K and V beside the core; 0 for none"
    )
    parser.add_argument(
        "--bandwidth",
        type=float,
        metavar="BYTES",
        help="bytes a cycle that the streams share; any by default",
    )
    parser.add_argument(
        "--latency", type=count, metavar="N", help="cycles from a value request to its row; 1 by default"
    )
    parser.add_argument("--outstanding", type=count, metavar="N", help="value rows asked for at a time; any by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the estimates there too")
    parser.set_defaults(run=_estimate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf_model",
        description="Cycles, traffic and energy of attention on the core.",
    )
    commands = parser.add_subparsers(metavar="command", help="estimate of a default workload if none is given")
    command = commands.add_parser("estimate", help="print cycles, bytes and energy of a workload")
    _add_estimate_options(command)
    parser.set_defaults(**vars(command.parse_args([])))

    command = commands.add_parser("plot", help="draw the model beside what the simulated core was measured to do")
    command.add_argument(
        "--measured", type=Path, required=True, metavar="FILE", help="summary that python -m sim sweep wrote, JSON"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for SVG and PNG")
    command.set_defaults(run=_plot)

    command = commands.add_parser("bench", help="print how fast the closed form and the exact model are")
    command.set_defaults(run=_bench)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after one sentence on what was wrong with the input."""
    return run_command(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
