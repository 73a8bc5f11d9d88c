"""Command line of the experiments on whole models: ``python -m golden.experiments --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from golden.experiments import byte_lm_commands, digits_commands, models_command, sentences
from golden.options import run_command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m golden.experiments", description="Models to try the core on.")
    commands = parser.add_subparsers(required=True, metavar="command")
    sentences.add_command(commands)
    byte_lm_commands.add_commands(commands)
    digits_commands.add_commands(commands)
    models_command.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after one sentence on what was wrong with the input."""
    return run_command(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
