"""``python -m golden.experiments models``: trained models side by side, by what their files say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from golden.experiments.weights import Weights
from golden.tables import text_table

_RESULTS = {"held_out_loss": "loss", "held_out_accuracy": "accuracy"}
"""Notes on a training that are results, and what they are called in the table."""

_OF_ATTENTION = ("self_attn.", "attention.")
"""What names of weights of attention hold."""


def _length(training: dict[str, Any]) -> str:
    """Return the steps or epochs of a training, after those of what it started from."""
    plan = training.get("plan", {})
    before = f"{_length(training['start'])} + " if "start" in training else ""
    return f"{before}{plan.get('steps', plan.get('epochs', '-'))}"


def _models(options: argparse.Namespace) -> None:
    """Print a line for each model: its attention, its weights, and how good it was after its training, in float32."""
    columns = ["model", "attention", "weights", "of attention", "steps or epochs", *_RESULTS.values(), "target"]
    rows = []
    for path in options.weights:
        weights = Weights.read(path, "trained model")
        sizes = {name: array.size for name, array in weights.arrays.items()}
        of_attention = sum(size for name, size in sizes.items() if any(part in name for part in _OF_ATTENTION))
        training: dict[str, Any] = weights.training
        targets = training.get("sparsity", [])
        target = "; ".join(f"{each['share']:g} at tau {each['tau']:g}, {each['rows']} rows" for each in targets)
        rows.append(
            [
                path.stem,
                str(weights.shape.get("attention", "standard")),
                f"{sum(sizes.values()):,}",
                f"{of_attention:,}",
                _length(training),
                *(f"{training[name]:.4f}" if name in training else "-" for name in _RESULTS),
                target or "-",
            ]
        )
    print(text_table(columns, rows))


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``models``."""
    command = commands.add_parser(
        "models", help="print trained models side by side: weights, and results after training"
    )
    command.add_argument("weights", type=Path, nargs="+", metavar="FILE", help="weights that a training wrote")
    command.set_defaults(run=_models)
