"""``python -m golden partition``: how evenly the heads of a ragged batch are spread over workers, by three rules."""

from __future__ import annotations

import argparse

from golden.batch_options import add_batch_options, lengths_of
from golden.options import Commands, count
from golden.partition import RULES, batch


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("partition", help="spread the keys of a ragged batch over workers, by three rules")
    add_batch_options(command)
    command.add_argument("--heads", type=count, required=True, metavar="H", help="key and value heads")
    command.add_argument("--blocks", type=count, default=1, metavar="N", help="blocks of query rows of each head (1)")
    command.add_argument("--workers", type=count, required=True, metavar="G", help="cores to spread the work over")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print what each rule makes of the batch."""
    lengths = lengths_of(options)
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
