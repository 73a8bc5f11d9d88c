"""``python -m golden calibrate``: static masks of a model's layers from captured attention."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from golden.block_mask import BlockMask, save_block_masks
from golden.calibrate import RULES, LayerAverage, average_files
from golden.errors import InputError
from golden.files import require_writable
from golden.masks import Mask
from golden.options import Commands, add_mask_options, count, mask_of


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("calibrate", help="find static block masks from the average attention over inputs")
    command.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help=".npz files of one layer and input each, in any order"
    )
    command.add_argument(
        "--percentile", type=float, required=True, metavar="P", help="prune pairs at or below it, 0 to 100"
    )
    command.add_argument("--query-block", type=count, default=16, metavar="N", help="positions of a block (16)")
    command.add_argument("--key-block", type=count, default=16, metavar="N", help="keys of a block (16)")
    command.add_argument(
        "--rule", choices=RULES, default=RULES[0], help="keep blocks whose mean, or any pair, is above (mean)"
    )
    command.add_argument(
        "--held-out", type=Path, nargs="+", metavar="FILE", default=[], help="measure on these inputs as well"
    )
    add_mask_options(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.set_defaults(run=run)


def _mass(layer: LayerAverage | None, block_mask: BlockMask) -> str:
    """Return the columns of the attention that a layer keeps: the mean row and the worst."""
    if layer is None:
        return f"{'-':>11}{'-':>11}"
    kept = layer.kept_mass(block_mask)
    return f"{np.nanmean(kept):11.2%}{np.nanmin(kept):11.2%}"


def run(options: argparse.Namespace) -> None:
    """Average, prune, write the masks and print what they leave."""
    require_writable(options.output)
    asked = options.causal is not None or options.window is not None
    mask = mask_of(options, Mask()) if asked else None
    layers = average_files(options.files, mask)
    others = average_files(options.held_out, mask)
    if unknown := set(others) - set(layers):
        raise InputError(f"--held-out has layer {min(unknown)}, which no file calibrates")
    pruned = {
        number: layer.prune(options.percentile, options.query_block, options.key_block, options.rule)
        for number, layer in layers.items()
    }
    masses = {
        number: _mass(layers[number], cut.block_mask)
        + (_mass(others.get(number), cut.block_mask) if options.held_out else "")
        for number, cut in pruned.items()
    }
    save_block_masks(
        options.output,
        {number: cut.block_mask for number, cut in pruned.items()},
        percentile=options.percentile,
        rule=options.rule,
    )
    print("Share of the blocks that stay, and of each query's attention that they hold: mean and worst query.")
    header = f"{'layer':>5}{'inputs':>8}{'longest':>9}{'threshold':>11}{'blocks':>9}{'rescued':>9}"
    header += f"{'mass':>11}{'worst':>11}"
    print(header + (f"{'held out':>11}{'worst':>11}" if options.held_out else ""))
    for number, cut in pruned.items():
        layer = layers[number]
        print(
            f"{number:>5}{layer.inputs:>8}{max(layer.count.shape):>9}{cut.threshold:>11.2e}{cut.density:>9.1%}"
            f"{cut.rescued:>9}{masses[number]}"
        )
