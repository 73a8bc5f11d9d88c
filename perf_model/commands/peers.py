"""``python -m perf_model peers``: what other accelerators were published to do, on one measure."""

from __future__ import annotations

import argparse

from golden.options import Commands
from perf_model.peers import load_peers, peers_table


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("peers", help="print what other accelerators were published to do")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print a line for each case of each peer, and the sources."""
    peers = load_peers()
    print(peers_table(peers))
    print("\nSources:")
    for source in dict.fromkeys(case.source for peer in peers.values() for case in peer.cases):
        print(f"  {source}")
