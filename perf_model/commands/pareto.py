"""``python -m perf_model pareto``: the best configurations of a sweep, named in a table and in a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import InputError
from golden.options import Commands
from golden.tables import text_table
from perf_model.grid import Value, scalar
from perf_model.pareto import OBJECTIVES, pareto
from perf_model.sweep_folder import load_sweep


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("pareto", help="draw and name the configurations of a sweep that none beats")
    command.add_argument("sweep", type=Path, metavar="DIR", help="folder that `sweep` wrote")
    figures = ", ".join(OBJECTIVES)
    command.add_argument("--x", default="seconds", metavar="COLUMN", help=f"one of {figures} (seconds)")
    command.add_argument("--y", default="energy_pj", metavar="COLUMN", help="another one of these (energy_pj)")
    command.add_argument(
        "--where",
        nargs=2,
        action="append",
        default=[],
        metavar=("AXIS", "VALUE"),
        help="take only these points; once for each axis of the workload that has several values",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for SVG and PNG")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the front, draw it and print the paths."""
    where: dict[str, Value] = {}
    for name, value in options.where:
        if name in where:
            raise InputError(f"--where gives the axis {name} once more")
        where[name] = scalar(value)
    front = pareto(load_sweep(options.sweep), options.x, options.y, where)
    lines = [
        (f"{number}  {each.name}", f"{each.x:.4g}", f"{each.y:.4g}", f"{each.alike or ''}")
        for number, each in enumerate(front.best, 1)
    ]
    print(front.scenario, end="\n\n")
    print(text_table(("configuration", front.x.label, front.y.label, "more alike"), lines), end="\n\n")
    # Matplotlib takes a second to import.
    from perf_model.plots.pareto import pareto_front
    from perf_model.plots.style import save

    for path in save(pareto_front(front), options.output, "pareto"):
        print(path)
