"""Command line of the performance model: ``python -m perf_model`` prints a table; see ``--help`` for the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from golden.options import run_command
from perf_model.bench import run_benchmark, run_exact_benchmark
from perf_model.commands import estimate, peers
from perf_model.measured import load_summary


def _plot(options: argparse.Namespace) -> None:
    summaries = [load_summary(path) for path in options.measured]
    # Matplotlib takes a second to import, and only this command needs it.
    from perf_model.plots import write_plots

    for path in write_plots(summaries, options.output):
        print(path)


def _bench(options: argparse.Namespace) -> None:
    result = run_benchmark()
    print("Cycles by closed form, random cores and jobs, one call on NumPy arrays:")
    print(f"  {result.points_per_second:,.0f} design points a second ({result.points:,} in {result.seconds:.3f} s)")
    print("Cycles followed one by one, default core, 512 queries and keys, d = 64:")
    for title, followed in run_exact_benchmark().items():
        print(f"  {title}: {followed.points_per_second / 1e6:.1f} million core cycles a second ({followed.points:,})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf_model",
        description="Cycles, traffic and energy of attention on the core.",
    )
    commands = parser.add_subparsers(metavar="command", help="estimate of a default workload if none is given")
    command = estimate.add(commands)
    parser.set_defaults(**vars(command.parse_args([])))
    peers.add(commands)

    command = commands.add_parser("plot", help="draw the model beside what the simulated core was measured to do")
    command.add_argument(
        "--measured",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="summary that python -m sim sweep wrote, JSON; more of them, of other cores, are compared for accuracy",
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
