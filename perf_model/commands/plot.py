"""``python -m perf_model plot``: pictures of what the simulated core was measured to do, beside the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.options import Commands
from perf_model.measured import load_summary


def add(commands: Commands) -> None:
    """Add the command and its options."""
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
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write all plots and print their paths."""
    summaries = [load_summary(path) for path in options.measured]
    # Matplotlib takes a second to import, and only this command needs it.
    from perf_model.plots import write_plots

    for path in write_plots(summaries, options.output):
        print(path)
