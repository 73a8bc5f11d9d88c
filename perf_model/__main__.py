"""Command line of the performance model: ``python -m perf_model`` prints a table; see ``--help`` for the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from golden.options import run_command
from perf_model.bench import run_benchmark, run_exact_benchmark, run_single_benchmark
from perf_model.commands import (
    cluster,
    compare,
    estimate,
    pareto,
    peers,
    plot,
    recorded,
    sweep,
    tools,
    trade_off,
    variants,
)


def _bench(options: argparse.Namespace) -> None:
    print("Cycles by closed form, random cores and jobs, on one processor:")
    result, single = run_benchmark(), run_single_benchmark()
    for title, timed in (("one call on NumPy arrays", result), ("a call a point", single)):
        rate = f"{timed.points_per_second:,.0f} design points a second"
        print(f"  {title}: {rate} ({timed.points:,} in {timed.seconds:.3f} s)")
    print(f"  arrays are {result.points_per_second / single.points_per_second:.0f} times as fast")
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
    for part in (compare, sweep, pareto, plot, peers, recorded, trade_off, variants, cluster, tools):
        part.add(commands)

    command = commands.add_parser("bench", help="print how fast the closed form and the exact model are")
    command.set_defaults(run=_bench)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after one sentence on what was wrong with the input."""
    return run_command(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
