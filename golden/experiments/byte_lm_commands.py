"""Commands that train the byte language model, print its loss and export it."""

from __future__ import annotations

import argparse
import math
import platform
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from golden.config import CoreConfig
from golden.experiments import byte_language_model as byte_lm
from golden.experiments.thresholds import DEFAULTS, add_threshold_rows, any_threshold, threshold_rows
from golden.files import require_writable
from golden.options import add_config_options, config_of, count, natural
from golden.torch_functional import register_torch_attention

_WINDOWS, _WINDOWS_A_ROW = 256, 16
"""Held-out windows that a loss is measured on by default: by itself, and for each row of a table."""

_INTERFACE = "lean_attention_byte_lm"
_PRESET = "default"


def _use_threads(number: int) -> None:
    torch, _ = byte_lm.libraries()
    torch.set_num_threads(number)


def _say(line: str) -> None:
    print(line, flush=True)


def _print_loss(loss: float, windows: int, length: int) -> None:
    _say(
        f"held-out loss {loss:.4f} nats a byte ({loss / math.log(2):.4f} bits), "
        f"{windows} windows of {length} bytes, Python {platform.python_version()}"
    )


def _train(options: argparse.Namespace) -> None:
    _use_threads(options.threads)
    checkpoint = options.output.with_name(options.output.name + ".checkpoint")
    require_writable(options.output, checkpoint)
    corpus = byte_lm.read_corpus()
    plan = byte_lm.TrainingPlan(steps=options.steps, seed=options.seed)
    model = byte_lm.build_model(byte_lm.ModelShape(), plan.seed)
    weights = sum(weight.numel() for weight in model.parameters())
    _say(f"{weights} weights; {len(corpus.train)} bytes to train on, {len(corpus.held_out)} held out")
    byte_lm.train(model, corpus.train, plan, checkpoint, _say)
    length = byte_lm.shape_of(model).context
    windows = byte_lm.even_windows(corpus.held_out, length, options.windows or _WINDOWS)
    loss = byte_lm.held_out_loss(model, windows)
    _print_loss(loss, len(windows), length)
    notes = {
        "plan": asdict(plan),
        "corpus_sha256": corpus.digest,
        "python": platform.python_version(),
        "held_out_windows": len(windows),
        "held_out_loss": round(loss, 4),
    }
    byte_lm.save_model(options.output, model, notes)
    checkpoint.unlink(missing_ok=True)


def _asks_for_core(options: argparse.Namespace) -> bool:
    """Return whether a threshold or an option of the core was given."""
    names = ["preset", *(field.name for field in fields(CoreConfig))]
    return any_threshold(options) or any(getattr(options, name) is not None for name in names)


def _windows(options: argparse.Namespace, length: int, default: int) -> np.ndarray:
    return byte_lm.even_windows(byte_lm.read_corpus().held_out, length, options.windows or default)


def _evaluate(options: argparse.Namespace) -> None:
    if _asks_for_core(options):
        _evaluate_on_core(options)
        return
    _use_threads(options.threads)
    model = byte_lm.load_model(options.weights)
    length = byte_lm.shape_of(model).context
    windows = _windows(options, length, _WINDOWS)
    _print_loss(byte_lm.held_out_loss(model, windows), len(windows), length)
    notes = byte_lm.read_training(options.weights)
    if "held_out_loss" in notes:
        _say(
            f"after its training {notes['held_out_loss']}, "
            f"{notes['held_out_windows']} windows, Python {notes['python']}"
        )


def _evaluate_on_core(options: argparse.Namespace) -> None:
    """Print the loss in float32, and under the core's arithmetic a row for each threshold."""
    thresholds = threshold_rows(options)
    options.preset = options.preset or _PRESET
    config = config_of(options)
    _use_threads(options.threads)
    reference = byte_lm.load_model(options.weights)
    length = byte_lm.shape_of(reference).context
    windows = _windows(options, length, _WINDOWS_A_ROW)
    steps = len(thresholds) + 1

    def progress(step: int, label: str) -> None:
        print(f"{step} of {steps}: {label}", file=sys.stderr, flush=True)

    progress(1, "float32")
    exact = byte_lm.held_out_loss(reference, windows)
    register_torch_attention(name=_INTERFACE)
    model = byte_lm.load_model(options.weights, _INTERFACE)
    _say(
        f"Held-out loss in nats a byte, {len(windows)} windows of {length} bytes, Python {platform.python_version()}; "
        "dropped share certified, worst row."
    )
    _say(f"{'threshold':14}{'loss':>10}{'change':>11}{'survivors':>11}{'saturated':>11}{'dropped':>10}")
    _say(f"{'float32':14}{exact:10.4f}")
    for step, (label, threshold) in enumerate(thresholds, 2):
        progress(step, label)
        collector = register_torch_attention(config=config, threshold=threshold, name=_INTERFACE)
        loss = byte_lm.held_out_loss(model, windows)
        total = collector.total
        _say(
            f"{label:14}{loss:10.4f}{loss / exact - 1:+11.3%}{total.survivor_share:11.1%}{total.saturated:11d}"
            f"{total.dropped_share:10.1%}"
        )


def _export(options: argparse.Namespace) -> None:
    byte_lm.export_model(options.weights, options.output)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train-byte-lm``, ``evaluate-byte-lm`` and ``export-byte-lm``."""
    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--threads", type=count, default=1, metavar="N", help="of PyTorch; 1 if not given")
    running.add_argument(
        "--windows",
        type=count,
        metavar="N",
        help=f"held-out windows; {_WINDOWS} if not given, {_WINDOWS_A_ROW} for each row of a table",
    )
    weights = argparse.ArgumentParser(add_help=False)
    weights.add_argument(
        "--weights",
        type=Path,
        default=byte_lm.SHIPPED_WEIGHTS,
        metavar="FILE",
        help="weights that train-byte-lm wrote; those that come with the project by default",
    )

    plan = byte_lm.TrainingPlan()
    command = commands.add_parser(
        "train-byte-lm",
        parents=[running],
        help="train a byte-level language model on the source of Python's standard library",
        description="An interrupted training goes on from FILE.checkpoint when the command is repeated.",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument(
        "--steps", type=count, default=plan.steps, metavar="N", help=f"updates of the weights; {plan.steps} by default"
    )
    command.add_argument(
        "--seed", type=natural, default=plan.seed, metavar="N", help="of weights and data; 0 by default"
    )
    command.set_defaults(run=_train)

    command = commands.add_parser(
        "evaluate-byte-lm",
        parents=[weights, running],
        help="print a model's held-out loss, in float32 and under the core's arithmetic",
        description="Given a threshold or an option of the core, a table: the loss in float32, with nothing dropped, "
        f"and for each threshold; without any, {DEFAULTS}.",
    )
    add_threshold_rows(command)
    add_config_options(command, _PRESET)
    # Not given is told apart from the default: any option of the core asks for the table.
    command.set_defaults(preset=None)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser(
        "export-byte-lm", parents=[weights], help="write a model as a Hugging Face directory, for golden capture"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write")
    command.set_defaults(run=_export)
