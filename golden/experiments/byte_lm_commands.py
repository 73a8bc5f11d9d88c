"""Commands that train the byte language model, print its loss and export it."""

from __future__ import annotations

import argparse
import math
import platform
from dataclasses import asdict
from pathlib import Path

from golden.experiments import byte_language_model as byte_lm
from golden.files import require_writable
from golden.options import count, natural


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
    loss = byte_lm.held_out_loss(model, byte_lm.even_windows(corpus.held_out, length, options.windows))
    _print_loss(loss, options.windows, length)
    notes = {
        "plan": asdict(plan),
        "corpus_sha256": corpus.digest,
        "python": platform.python_version(),
        "held_out_windows": options.windows,
        "held_out_loss": round(loss, 4),
    }
    byte_lm.save_model(options.output, model, notes)
    checkpoint.unlink(missing_ok=True)


def _evaluate(options: argparse.Namespace) -> None:
    _use_threads(options.threads)
    model = byte_lm.load_model(options.weights)
    length = byte_lm.shape_of(model).context
    windows = byte_lm.even_windows(byte_lm.read_corpus().held_out, length, options.windows)
    _print_loss(byte_lm.held_out_loss(model, windows), options.windows, length)
    notes = byte_lm.read_training(options.weights)
    if "held_out_loss" in notes:
        _say(
            f"after its training {notes['held_out_loss']}, "
            f"{notes['held_out_windows']} windows, Python {notes['python']}"
        )


def _export(options: argparse.Namespace) -> None:
    byte_lm.export_model(options.weights, options.output)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train-byte-lm``, ``evaluate-byte-lm`` and ``export-byte-lm``."""
    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--threads", type=count, default=1, metavar="N", help="of PyTorch; 1 if not given")
    running.add_argument("--windows", type=count, default=256, metavar="N", help="held-out windows; 256 if not given")
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

    command = commands.add_parser("evaluate-byte-lm", parents=[weights, running], help="print a model's held-out loss")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser(
        "export-byte-lm", parents=[weights], help="write a model as a Hugging Face directory, for golden capture"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write")
    command.set_defaults(run=_export)
