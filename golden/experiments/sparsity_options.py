"""Options of the commands that train: a target for the keys that survive, and how it is told in a weights file."""

from __future__ import annotations

import argparse
from dataclasses import fields

from golden.options import count
from golden.sparsity_target import SCOPES, SparsityTarget

_DEFAULTS = {field.name: field.default for field in fields(SparsityTarget)}


def add_sparsity_options(command: argparse.ArgumentParser) -> None:
    """Add ``--survive`` and the options that say more about it."""
    group = command.add_argument_group("sparsity-targeted training", "of no effect without --survive")
    group.add_argument(
        "--survive", type=float, metavar="SHARE", help="share of the keys that should survive; no target if not given"
    )
    for name, metavar, kind, text in (
        ("tau", "BITS", float, "threshold in bits by which keys survive"),
        ("rows", "N", count, "rows of a block of the core"),
        ("temperature", "BITS", float, "width of the soft threshold"),
        ("weight", "X", float, "of the squared deviation from the target, beside the loss"),
    ):
        group.add_argument(
            f"--{name}",
            type=kind,
            default=_DEFAULTS[name],
            metavar=metavar,
            help=f"{text}; {_DEFAULTS[name]} if not given",
        )
    group.add_argument(
        "--scope", choices=SCOPES, default=_DEFAULTS["scope"], help="what has to reach the target; layer if not given"
    )
    group.add_argument("--drop", action="store_true", help="give dropped keys no weight in training either")


def sparsity_target_of(options: argparse.Namespace) -> SparsityTarget | None:
    """Return the target that the options of `add_sparsity_options` ask for, if they do.

    Raises
    ------
    InputError
        If a number is outside its range.
    """
    if options.survive is None:
        return None
    return SparsityTarget(options.survive, **{name: getattr(options, name) for name in _DEFAULTS if name != "share"})
