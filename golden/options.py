"""What the commands share: options for the core and the mask, and how a command ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from golden.config import PRESETS, CoreConfig, preset
from golden.errors import InputError
from golden.masks import Mask


def add_config_options(parser: argparse.ArgumentParser, default: str = "default") -> None:
    """Add ``--preset`` and an option for each parameter of the configuration, which overrides the preset."""
    parser.add_argument(
        "--preset", default=default, metavar="NAME", help=f"one of {', '.join(PRESETS)} ({default} if not given)"
    )
    for field in fields(CoreConfig):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=int, metavar="N", help=f"override {field.name} of the preset")


def config_of(options: argparse.Namespace) -> CoreConfig:
    """Return the configuration that the options of `add_config_options` ask for.

    Raises
    ------
    InputError
        If there is no such preset or configuration.
    """
    return preset(options.preset).override(**{field.name: getattr(options, field.name) for field in fields(CoreConfig)})


def count(text: str) -> int:
    """Return the whole number, 1 or more, that an option's value is; for ``type`` of `argparse`."""
    return _whole_number(text, 1)


def natural(text: str) -> int:
    """Return the whole number, 0 or more, that an option's value is; for ``type`` of `argparse`."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"it must be a whole number from {least} on, not {text}")
    return int(text)


def add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--causal`` and ``--window``, which replace the mask that a file of tensors names."""
    parser.add_argument("--causal", action=argparse.BooleanOptionalAction, help="the mask; the file's by default")
    parser.add_argument("--window", type=count, metavar="N", help="a sliding window of so many keys")


def mask_of(options: argparse.Namespace, default: Mask) -> Mask:
    """Return the mask that the options of `add_mask_options` ask for, `default` if they ask for none."""
    if options.causal is None and options.window is None:
        return default
    return Mask.of(bool(options.causal), options.window)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the command that `arguments` choose, the ``run`` of its parser's defaults, and return its exit code.

    The code is what ``run`` returns, 0 if that is nothing, and 2 after one sentence on what was wrong with the input.
    """
    try:
        options = parser.parse_args(arguments)
        return options.run(options) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
