"""The thresholds that an experiment runs a model with: options for them, and a label for each row of its table."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.files import require_writable
from golden.options import THRESHOLD_OPTIONS
from golden.threshold import Threshold

_NAMES = [name for name, _, _ in THRESHOLD_OPTIONS]
_DEFAULTS: dict[str, list[float]] = {"tau": [4, 6, 8, 10], "epsilon": [0.1, 0.05, 0.01]}

DEFAULTS = " and ".join(f"{name} {' '.join(map(str, numbers))}" for name, numbers in _DEFAULTS.items())
"""What a table shows beside keeping all if no threshold is given, for the help of a command."""


def add_threshold_rows(command: argparse.ArgumentParser) -> None:
    """Add ``--tau``, ``--epsilon`` and ``--target``, each of any number of values."""
    for name, metavar, text in THRESHOLD_OPTIONS:
        command.add_argument(f"--{name}", type=float, nargs="+", metavar=metavar, help=f"{text}; a row each")


def add_record_option(command: argparse.ArgumentParser) -> None:
    """Add ``--record``."""
    command.add_argument(
        "--record", type=Path, metavar="DIR", help="write the jobs of each row there, for python -m perf_model recorded"
    )


def record_path(options: argparse.Namespace, label: str) -> Path:
    """Return the file in the folder of `add_record_option` for the jobs of the row `label`."""
    folder: Path = options.record
    return folder / f"{label.replace(' ', '-')}.npz"


def any_threshold(options: argparse.Namespace) -> bool:
    """Return whether the options of `add_threshold_rows` ask for a threshold."""
    return any(getattr(options, name) is not None for name in _NAMES)


def threshold_rows(options: argparse.Namespace) -> list[tuple[str, Threshold]]:
    """Return label and threshold of each row: keeping all, and what was asked for, or `DEFAULTS` if nothing was.

    Raises
    ------
    InputError
        If a number is outside the range of its format, or the folder of `add_record_option` can't be written.
    """
    if options.record is not None:
        require_writable(record_path(options, "all"))
    given = {name: getattr(options, name) for name in _NAMES} if any_threshold(options) else _DEFAULTS
    rows = [("all", Threshold())]
    for name, numbers in given.items():
        rows += [(f"{name} {number:.12g}", Threshold.of(**{name: number})) for number in numbers or []]
    return rows
