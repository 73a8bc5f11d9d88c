"""``python -m perf_model tools``: other performance models' answers for one head beside this one's."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from golden.options import Commands
from perf_model.tools import ask, load_comparison


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("tools", help="print what ZigZag and SCALE-Sim say of one head, beside this model")
    command.add_argument(
        "--rerun",
        type=Path,
        metavar="PYTHON",
        help="run the tools in the environment of this Python, and compare with the stored answers",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table, and rerun the tools if that is wanted; 1 if one answers something else than what is stored."""
    comparison = load_comparison()
    hardware = comparison.hardware
    print(f"{comparison.workload.name}, {hardware.core.size} multipliers, streams never stalled\n")
    print(comparison.table())
    print("\nSources:")
    for source in dict.fromkeys(tool.source for tool in comparison.tools):
        print(f"  {source}")
    if options.rerun is None:
        return 0
    print("\nRun again:")
    differ = False
    for number, tool in enumerate(comparison.tools, 1):
        print(f"{number} of {len(comparison.tools)}: {tool.name}, {tool.setting}", file=sys.stderr)
        begin = time.perf_counter()
        answer = ask(tool, options.rerun)
        seconds = time.perf_counter() - begin
        verdict = "as stored" if answer == tool else f"stored are {tool.cycles:,} of {tool.version}"
        differ |= answer != tool
        print(f"  {tool.name} {answer.version}, {tool.setting}: {answer.cycles:,} in {seconds:.0f} s, {verdict}")
    return int(differ)
