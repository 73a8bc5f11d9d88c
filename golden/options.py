"""What the commands share: options for the core and the mask, and how a command ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Protocol

from golden.block_mask import BlockMask, load_block_masks
from golden.config import PRESETS, ClusterConfig, CoreConfig, preset
from golden.device.config import SIZES, DeviceConfig, device_preset
from golden.errors import InputError
from golden.masks import Mask
from golden.tensors import AttentionTensors
from golden.threshold import Threshold


class Commands(Protocol):
    """What `argparse` adds the parsers of commands to; its own class has no public name."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """Add the parser of one command."""


CLUSTER_SIZES = {field.name: field.default for field in fields(ClusterConfig) if field.name != "core"}
"""Parameters of a cluster beside its cores, and their defaults."""

THRESHOLD_OPTIONS = (
    ("tau", "BITS", "drop keys whose weight is below 2^-BITS of the largest of each row"),
    ("epsilon", "SHARE", "lose at most this share of any row's softmax"),
    ("target", "SHARE", "move tau so that this share of the streamed keys survives"),
)
"""Option, placeholder and help of each number that `Threshold.of` takes, in its order."""


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


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter of a device beside those of its core, which overrides the preset."""
    for name in SIZES:
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, metavar="N", help=f"override {name} of the preset's device")


def device_config_of(options: argparse.Namespace) -> DeviceConfig:
    """Return the device that the options of `add_config_options` and `add_device_options` ask for.

    Raises
    ------
    InputError
        If there is no such preset, configuration or device.
    """
    device = replace(device_preset(options.preset), core=config_of(options))
    return device.override(**{name: getattr(options, name) for name in SIZES})


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter of a cluster beside those of its cores."""
    for name, default in CLUSTER_SIZES.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=int, metavar="N", help=f"{name} of a cluster ({default})")


def cluster_config_of(options: argparse.Namespace) -> ClusterConfig:
    """Return the cluster that the options of `add_config_options` and `add_cluster_options` ask for.

    Raises
    ------
    InputError
        If there is no such preset, configuration or cluster.
    """
    given = {name: getattr(options, name) for name in CLUSTER_SIZES if getattr(options, name) is not None}
    return ClusterConfig(config_of(options), **given)


def count(text: str) -> int:
    """Return the whole number, 1 or more, that an option's value is; for ``type`` of `argparse`."""
    return _whole_number(text, 1)


def natural(text: str) -> int:
    """Return the whole number, 0 or more, that an option's value is; for ``type`` of `argparse`."""
    return _whole_number(text, 0)


def seed(text: str) -> int:
    """Return the whole number, 0 or more and of 63 bits, that an option's value is: a seed that PyTorch takes too."""
    if (value := natural(text)) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"it must be below 2^63, not {text}")
    return value


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


def add_threshold_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--tau``, ``--epsilon`` and ``--target``, which make up one threshold."""
    for name, metavar, text in THRESHOLD_OPTIONS:
        parser.add_argument(f"--{name}", type=float, metavar=metavar, help=text)


def threshold_of(options: argparse.Namespace) -> Threshold:
    """Return the threshold that the options of `add_threshold_options` ask for; nothing is dropped by default.

    Raises
    ------
    InputError
        If a number is outside the range of its format.
    """
    return Threshold.of(options.tau, options.epsilon, options.target)


def add_block_mask_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--block-mask``."""
    parser.add_argument(
        "--block-mask", type=Path, metavar="FILE", help="static masks, as `calibrate` writes them; none by default"
    )


def block_mask_of(options: argparse.Namespace, tensors: AttentionTensors) -> BlockMask | None:
    """Return the mask of the layer of `tensors` from the file that the option of `add_block_mask_option` names.

    Tensors that do not say their layer get the only mask of a file that has one.

    Raises
    ------
    InputError
        If the file can't be read or has no such mask.
    """
    path = options.block_mask
    if path is None:
        return None
    masks = load_block_masks(path)
    if tensors.layer in masks:
        return masks[tensors.layer]
    if tensors.layer is None and len(masks) == 1:
        return next(iter(masks.values()))
    found = "layer " + ", ".join(map(str, masks))
    wanted = "and the tensors do not say theirs" if tensors.layer is None else f"not of {tensors.layer}"
    raise InputError(f"{path} has masks of {found}, {wanted}")


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
