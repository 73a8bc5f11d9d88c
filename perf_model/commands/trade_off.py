"""``python -m perf_model trade-off``: what thresholds cost models and what they save them, in a table and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import InputError
from golden.options import Commands
from golden.tables import text_table
from perf_model.trade_off import COLUMNS, MEASURES, load_curve, trade_off_rows, worst_allowed


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("trade-off", help="draw what models lose to thresholds, and what these save them")
    command.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="what `recorded --json` wrote, a file a model; the first is the one that others are compared to",
    )
    command.add_argument("--measure", default="loss", metavar="NOTE", help=f"one of {', '.join(MEASURES)} (loss)")
    command.add_argument(
        "--within",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="how much worse than the first model with nothing dropped still counts as equal (0.005)",
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="STEM", help="also draw it: path of SVG and PNG without their endings"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table, and draw the plot if that is wanted."""
    if options.measure not in MEASURES:
        raise InputError(f"measure must be one of {', '.join(MEASURES)}, not {options.measure!r}")
    if not 0 <= options.within < 1:
        raise InputError(f"within must be a share from 0 to below 1, not {options.within:g}")
    curves = [load_curve(path, options.measure) for path in options.runs]
    bound = worst_allowed(curves[0], options.measure, options.within)
    allowed = f"{bound:.4f}, within {options.within:.2%} of {curves[0].model}'s with nothing dropped"
    print(f"Fewest survivors with {options.measure} no worse than {allowed}:")
    print(
        text_table(
            [column.format(measure=options.measure) for column in COLUMNS],
            trade_off_rows(curves, options.measure, options.within),
        )
    )
    if options.output:
        # Matplotlib takes a second to import.
        from perf_model.plots.style import save
        from perf_model.plots.trade_off import trade_off

        for path in save(
            trade_off(curves, options.measure, options.within), options.output.parent, options.output.name
        ):
            print(path)
