"""``python -m golden map``: draw a head's attention beside what the core keeps of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import InputError
from golden.fast import attend
from golden.options import (
    Commands,
    add_block_mask_option,
    add_config_options,
    add_mask_options,
    add_threshold_options,
    block_mask_of,
    config_of,
    mask_of,
    natural,
    threshold_of,
)
from golden.plan import Blocks
from golden.tensors import load_attention


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("map", help="draw a head's attention beside what is kept of it")
    command.add_argument("file", type=Path, help=".npz file with arrays q, k and v")
    command.add_argument("--head", type=natural, required=True, metavar="H", help="query head, counted from 0")
    add_threshold_options(command)
    add_mask_options(command)
    add_block_mask_option(command)
    add_config_options(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".png or .svg to write")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the layer, draw the head and say where the picture is."""
    # Matplotlib takes half a second to import, which the other commands need not wait for.
    from golden.map_plot import head_map, require_kind, save_map

    require_kind(options.output)
    config, threshold = config_of(options), threshold_of(options)
    tensors = load_attention(options.file)
    attention = tensors.quantise()
    if options.head >= attention.query_heads:
        raise InputError(f"--head must be from 0 to {attention.query_heads - 1}, not {options.head}")
    mask, block_mask = mask_of(options, tensors.mask), block_mask_of(options, tensors)
    attended = attend(attention, config, mask, threshold, block_mask, keep=True)
    blocks = Blocks.of(attention, config, mask, block_mask)
    save_map(head_map(attended, options.head, mask, blocks, options.file.name), options.output)
    print(options.output)
