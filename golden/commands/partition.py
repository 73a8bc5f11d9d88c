"""``python -m golden partition``: how evenly the heads of a ragged batch are spread over workers, by three rules."""

from __future__ import annotations

import argparse

import numpy as np

from golden.errors import InputError
from golden.options import Commands, count, natural
from golden.partition import RULES, batch

SHORTEST, LONGEST = 64, 8192


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("partition", help="spread the keys of a ragged batch over workers, by three rules")
    lengths = command.add_mutually_exclusive_group(required=True)
    lengths.add_argument("--lengths", type=count, nargs="+", metavar="KEYS", help="keys of each request")
    lengths.add_argument("--random", type=count, metavar="N", help="so many requests of random lengths instead")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="of --random (0)")
    command.add_argument(
        "--min", type=count, default=SHORTEST, metavar="KEYS", help=f"shortest of --random ({SHORTEST})"
    )
    command.add_argument("--max", type=count, default=LONGEST, metavar="KEYS", help=f"longest of --random ({LONGEST})")
    command.add_argument("--heads", type=count, required=True, metavar="H", help="key and value heads")
    command.add_argument("--blocks", type=count, default=1, metavar="N", help="blocks of query rows of each head (1)")
    command.add_argument("--workers", type=count, required=True, metavar="G", help="cores to spread the work over")
    command.add_argument("--tile", type=count, default=64, metavar="KEYS", help="keys of a tile (64)")
    command.set_defaults(run=run)


def _lengths(options: argparse.Namespace) -> list[int]:
    """Return the lengths given, or random ones whose logarithms are uniform."""
    if options.random is None:
        given: list[int] = options.lengths
        return given
    if options.min > options.max:
        raise InputError(f"--min must be at most --max, {options.max}, not {options.min}")
    random = np.random.default_rng(options.seed)
    drawn = np.exp(random.uniform(np.log(options.min), np.log(options.max + 1), options.random))
    return [int(length) for length in np.clip(drawn, options.min, options.max)]


def run(options: argparse.Namespace) -> None:
    """Print what each rule makes of the batch."""
    lengths = _lengths(options)
    keys = batch(lengths, options.heads, options.blocks)
    tiles = sum(-(-length // options.tile) for length in keys.values())
    seed = "" if options.random is None else f" (seed {options.seed})"
    print(f"{len(lengths)} requests of {min(lengths)} to {max(lengths)} keys{seed}: {len(keys)} heads, {tiles} tiles.")
    print(f"{'rule':12}{'most splits':>12}{'makespan':>10}{'of ideal':>10}{'busy':>8}{'merges':>8}")
    for name, rule in RULES.items():
        partition = rule(keys, options.workers, options.tile)
        ideal = -(-tiles // options.workers)
        print(
            f"{name:12}{max(map(len, partition.parts.values())):>12}{partition.makespan:>10}"
            f"{partition.makespan / ideal:>10.2f}{partition.busy:>8.1%}{partition.merges:>8}"
        )
