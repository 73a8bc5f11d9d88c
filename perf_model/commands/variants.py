"""``python -m perf_model variants``: variants of attention at the same model size, side by side in hardware cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from golden.files import write_text
from golden.options import Commands, count, natural
from perf_model.hardware import load_hardware
from perf_model.projections import VARIANTS, variant_layer
from perf_model.report import describe
from perf_model.variants import table, variant_cost
from perf_model.workload import PHASES, load_workload

_COMPARED = ("standard", "optimised", "efficient", "super")


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "variants", help="compare variants of attention, with the projections around the core, at the same model size"
    )
    command.add_argument(
        "--workload", default="bert-base", metavar="NAME", help="as for estimate; bert-base if not given"
    )
    command.add_argument(
        "--hardware", default="default", metavar="NAME", help="a preset or a .yaml file; default if not given"
    )
    command.add_argument(
        "--variants",
        nargs="+",
        default=_COMPARED,
        metavar="NAME",
        help=f"of {', '.join(VARIANTS)}; {', '.join(_COMPARED)} if not given",
    )
    command.add_argument(
        "--survival", type=float, default=1.0, metavar="SHARE", help="share of the keys that survive; 1 if not given"
    )
    command.add_argument("--length", type=count, metavar="N", help="tokens, in place of the workload's")
    command.add_argument("--phase", metavar="NAME", help=f"{' or '.join(PHASES)}, in place of the workload's")
    command.add_argument("--batch", type=count, metavar="N", help="sequences, in place of the workload's")
    command.add_argument(
        "--scratchpad-kib", type=natural, metavar="N", help="on-chip memory for K and V beside the core; 0 for none"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the costs there too")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table, and write the JSON if that is wanted."""
    workload = load_workload(options.workload, length=options.length, phase=options.phase, batch=options.batch)
    hardware = load_hardware(options.hardware, scratchpad_kib=options.scratchpad_kib)
    layers = [variant_layer(name, workload) for name in options.variants]
    costs = [variant_cost(layer, hardware, options.survival) for layer in layers]
    print(describe(workload, hardware))
    print(f"{'survivors':10}{options.survival:.0%} of the keys")
    print()
    print(table(costs))
    if options.json:
        write_text(options.json, json.dumps([cost.to_dict() for cost in costs], indent=2) + "\n")
