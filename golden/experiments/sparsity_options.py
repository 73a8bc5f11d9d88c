"""Options of the commands that train: targets for the keys that survive."""

from __future__ import annotations

import argparse
from dataclasses import fields

from golden.errors import InputError
from golden.options import count
from golden.sparsity_target import SCOPES, SparsityTarget

_DEFAULTS = {field.name: field.default for field in fields(SparsityTarget)}

_OF_EACH = ("tau", "rows")
"""What each of several targets has for itself, beside its share."""


def add_sparsity_options(command: argparse.ArgumentParser) -> None:
    """Add ``--survive`` and the options that say more about it."""
    group = command.add_argument_group("sparsity-targeted training", "of no effect without --survive")
    group.add_argument(
        "--survive",
        type=float,
        nargs="+",
        default=[],
        metavar="SHARE",
        help="share of the keys that should survive; no target if not given, and of several the steps have one in turn",
    )
    for name, metavar, kind, text in (
        ("tau", "BITS", float, "threshold in bits by which keys survive, of each target or of all"),
        ("rows", "N", count, "rows of a block of the core, of each target or of all"),
        ("temperature", "BITS", float, "width of the soft threshold"),
        ("weight", "X", float, "of the squared deviation from the target, beside the loss"),
    ):
        several = name in _OF_EACH
        group.add_argument(
            f"--{name}",
            type=kind,
            nargs="+" if several else None,
            default=[_DEFAULTS[name]] if several else _DEFAULTS[name],
            metavar=metavar,
            help=f"{text}; {_DEFAULTS[name]} if not given",
        )
    group.add_argument(
        "--scope", choices=SCOPES, default=_DEFAULTS["scope"], help="what has to reach the target; layer if not given"
    )
    group.add_argument("--drop", action="store_true", help="give dropped keys no weight in training either")


def sparsity_targets_of(options: argparse.Namespace) -> tuple[SparsityTarget, ...]:
    """Return the targets that the options of `add_sparsity_options` ask for, none if they ask for none.

    Raises
    ------
    InputError
        If a number is outside its range, or there are neither one nor as many as there are targets.
    """
    targets = len(options.survive)
    columns = {"share": options.survive}
    for name in _OF_EACH:
        values = getattr(options, name)
        if targets and len(values) not in (1, targets):
            raise InputError(f"--{name} needs one value, or one for each of the {targets} shares, not {len(values)}")
        columns[name] = values * targets if len(values) == 1 else values
    common = {name: getattr(options, name) for name in _DEFAULTS if name not in columns}
    return tuple(
        SparsityTarget(**{name: values[number] for name, values in columns.items()}, **common)
        for number in range(targets)
    )
