"""``python -m perf_model sweep``: the estimate of every point of a grid, as CSV."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from golden.errors import InputError
from golden.options import Commands, count
from perf_model.grid import AXES, BASES, Grid, scalar
from perf_model.settings import read_yaml
from perf_model.sweep import run_sweep
from perf_model.sweep_folder import POINTS, PROBLEM, load_sweep

DEFAULTS = {"hardware": "default", "workload": "bert-base"}
REASONS = 10
"""Reasons why points are not possible that are printed at most; all are in the CSV file."""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("sweep", help="evaluate every point of a grid over hardware and workload")
    command.add_argument("--grid", type=Path, metavar="FILE", help="a .yaml file with a list of values for each axis")
    command.add_argument(
        "--vary",
        nargs="+",
        action="append",
        default=[],
        metavar=("AXIS", "VALUE"),
        help=f"one more axis and its values; axes are {', '.join(name for name in AXES if name not in BASES)}",
    )
    for name, default in DEFAULTS.items():
        command.add_argument(
            f"--{name}", nargs="+", metavar="NAME", help=f"as of `estimate`, one or more ({default} if not given)"
        )
    command.add_argument(
        "--exact", action="store_true", help="follow jobs cycle by cycle where they are short, as `estimate` does"
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=count, default=1, metavar="N", help="processes on this machine (1)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do the work instead")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help=f"folder for {POINTS} and a manifest"
    )
    command.set_defaults(run=run)


def grid_of(options: argparse.Namespace) -> Grid:
    """Return the grid that the options ask for, the options' axes before the file's."""
    sources = [(f"--{name}", {name: getattr(options, name)}) for name in BASES if getattr(options, name)]
    for name, *values in options.vary:
        if not values:
            raise InputError(f"--vary {name} needs values after the name of the axis")
        sources.append(("--vary", {name: [scalar(value) for value in values]}))
    if options.grid:
        sources.append((options.grid.name, read_yaml(options.grid)))
    given = {name for _, axes in sources for name in axes}
    defaults = {name: [default] for name, default in DEFAULTS.items() if name not in given}
    return Grid.of([("the default", defaults), *sources])


def run(options: argparse.Namespace) -> int:
    """Sweep, and say how many points are not possible and why; 130 if it was interrupted."""
    grid = grid_of(options)
    asked = ("hardware", "workload", "vary", "grid", "exact", "jobs", "scheduler")
    arguments = {name: getattr(options, name) for name in asked}
    try:
        run_sweep(grid, options.output, options.exact, options.jobs, options.scheduler, arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is done", file=sys.stderr)
        return 130
    reasons = Counter(point[PROBLEM] for point in load_sweep(options.output).points)
    possible = reasons.pop("", 0)
    print(f"{options.output / POINTS}: {grid.points:,} points, {grid.points - possible:,} of them not possible")
    if not possible:
        raise InputError(f"no point of the grid is possible: {reasons.most_common(1)[0][0]}")
    for reason, points in reasons.most_common(REASONS):
        print(f"{points:10,}  {reason}")
    if len(reasons) > REASONS:
        print(f"{'':10}  {len(reasons) - REASONS} more reasons in column {PROBLEM}")
    return 0
