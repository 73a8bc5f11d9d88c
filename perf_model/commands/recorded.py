"""``python -m perf_model recorded``: what runs of models cost whose jobs ``python -m golden.experiments`` recorded."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from golden.files import require_writable, write_text
from golden.job_record import JobRecord
from golden.options import Commands, natural
from perf_model.hardware import load_hardware
from perf_model.recorded import recorded_cost, recorded_table


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("recorded", help="print cycles, bytes and energy of runs whose jobs were recorded")
    command.add_argument(
        "records", type=Path, nargs="+", metavar="FILE", help="records of jobs; the others are compared to the first"
    )
    command.add_argument(
        "--hardware", default="default", metavar="NAME", help="what stands around the core, as for estimate"
    )
    command.add_argument(
        "--scratchpad-kib", type=natural, metavar="N", help="on-chip memory for K and V beside the core; 0 for none"
    )
    command.add_argument(
        "--heads",
        type=natural,
        nargs=2,
        metavar=("FIRST", "END"),
        help="only jobs of these key and value heads, END not included: they are numbered layer after layer",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the costs there too")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a line for each record, and write the JSON if that is wanted."""
    if options.json:
        require_writable(options.json)
    hardware = load_hardware(options.hardware, scratchpad_kib=options.scratchpad_kib)
    costs = []
    for number, path in enumerate(options.records, 1):
        print(f"{number} of {len(options.records)}: {path}", file=sys.stderr, flush=True)
        record = JobRecord.load(path)
        costs.append(recorded_cost(record.of_heads(*options.heads) if options.heads else record, hardware))
    print(recorded_table(costs))
    if options.json:
        write_text(options.json, json.dumps({"runs": [cost.to_dict() for cost in costs]}, indent=2) + "\n")
