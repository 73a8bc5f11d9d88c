"""Options of commands about ragged batches: their lengths, and the cluster and the tensors of a decode step."""

from __future__ import annotations

import argparse

from golden.config import ClusterConfig
from golden.decode_batch import DecodeBatch
from golden.options import add_cluster_options, add_config_options, cluster_config_of, count, natural
from golden.partition import random_lengths

SHORTEST, LONGEST = 64, 8192
REQUESTS = 12
TILE = 16


def add_batch_options(parser: argparse.ArgumentParser, random: int | None = None, tile: int = 64) -> None:
    """Add the options of a ragged batch: its lengths or ``--random`` ones, so many by default, and ``--tile``."""
    lengths = parser.add_mutually_exclusive_group(required=random is None)
    lengths.add_argument("--lengths", type=count, nargs="+", metavar="KEYS", help="keys of each request")
    default = "" if random is None else f" ({random})"
    lengths.add_argument(
        "--random", type=count, default=random, metavar="N", help=f"so many requests of random lengths instead{default}"
    )
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="of what is random (0)")
    parser.add_argument(
        "--min", type=count, default=SHORTEST, metavar="KEYS", help=f"shortest of --random ({SHORTEST})"
    )
    parser.add_argument("--max", type=count, default=LONGEST, metavar="KEYS", help=f"longest of --random ({LONGEST})")
    parser.add_argument("--tile", type=count, default=tile, metavar="KEYS", help=f"keys of a tile ({tile})")


def lengths_of(options: argparse.Namespace) -> list[int]:
    """Return the keys of each request that the options of `add_batch_options` ask for.

    Raises
    ------
    InputError
        If ``--min`` is above ``--max``.
    """
    given: list[int] | None = options.lengths
    return given or random_lengths(options.random, options.seed, options.min, options.max)


def add_decode_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a cluster, of a small core by default, and of a batch."""
    add_config_options(parser, "tiny")
    add_cluster_options(parser)
    add_batch_options(parser, REQUESTS, TILE)
    parser.add_argument("--heads", type=count, default=1, metavar="H", help="key and value heads (1)")
    parser.add_argument("--group", type=count, default=1, metavar="R", help="query heads of each of them (1)")
    parser.add_argument("--head-dim", type=count, default=32, metavar="D", help="elements of all rows (32)")
    parser.add_argument("--tau", type=float, metavar="BITS", help="threshold, 1 or more; nothing is dropped by default")


def decode_of(options: argparse.Namespace) -> tuple[ClusterConfig, DecodeBatch]:
    """Return what the options of `add_decode_options` ask for; InputError if that is not possible."""
    config = cluster_config_of(options)
    made = DecodeBatch(
        tuple(lengths_of(options)),
        options.heads,
        options.group,
        options.head_dim,
        options.tau,
        options.tile,
        options.seed,
    )
    return config, made
