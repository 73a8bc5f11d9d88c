"""Command line of the golden model, ``python -m golden``: see `golden.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from golden.commands import attend, bench, calibrate, capture, info, map, partition
from golden.options import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m golden", description="The core's arithmetic, bit for bit.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (capture, info, attend, calibrate, map, partition, bench):
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after one sentence on what was wrong with the input."""
    return run_command(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
