"""Commands of the model that reads digits: train it, print its accuracy, and capture a layer."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from golden.collector import Collector
from golden.commands.info import print_tensors
from golden.errors import InputError
from golden.experiments import digits
from golden.experiments.sparsity_options import add_sparsity_options, sparsity_targets_of
from golden.experiments.thresholds import (
    DEFAULTS,
    add_record_option,
    add_threshold_rows,
    record_path,
    threshold_rows,
)
from golden.files import require_writable
from golden.job_record import JobLog
from golden.options import add_config_options, config_of, count, natural, seed
from golden.sparsity_target import SparsityTargetedAttention
from golden.tensors import AttentionTensors, save_attention
from golden.torch_functional import torch_attention
from golden.variants import AttentionKind

if TYPE_CHECKING:
    import torch


def _use_threads(number: int) -> None:
    digits.libraries().set_num_threads(number)


def _say(line: str) -> None:
    print(line, flush=True)


def _train(options: argparse.Namespace) -> None:
    _use_threads(options.threads)
    require_writable(options.output)
    targets = sparsity_targets_of(options)
    plan = digits.DigitsPlan(epochs=options.epochs, seed=options.seed)
    to_train, held_out = digits.read_digits()
    shape = digits.DigitsShape(patch=options.patch, attention=AttentionKind(options.attention))
    model = digits.build_model(shape, plan.seed)
    weights = sum(weight.numel() for weight in model.parameters())
    _say(f"{weights} weights; {len(to_train.labels)} images to train on, {len(held_out.labels)} held out")
    digits.train(model, to_train, plan, _say, SparsityTargetedAttention(*targets) if targets else None)
    accuracy, loss = digits.accuracy_and_loss(digits.predictions(model, held_out), held_out)
    _say(f"held-out accuracy {accuracy:.2%}, loss {loss:.4f} nats, {len(held_out.labels)} images")
    notes: dict[str, Any] = {
        "plan": asdict(plan),
        "held_out_accuracy": round(accuracy, 4),
        "held_out_loss": round(loss, 4),
    }
    if targets:
        notes["sparsity"] = [asdict(target) for target in targets]
    digits.save_model(options.output, model, notes)


def _held_out(images: int | None) -> digits.Digits:
    """Return so many of the images that are held out, all by default."""
    _, held_out = digits.read_digits()
    return digits.Digits(held_out.images[:images], held_out.labels[:images])


def _evaluate(options: argparse.Namespace) -> None:
    thresholds = threshold_rows(options)
    config = config_of(options)
    _use_threads(options.threads)
    model, held_out = digits.load_model(options.weights), _held_out(options.images)
    exact = digits.predictions(model, held_out)
    accuracy, loss = digits.accuracy_and_loss(exact, held_out)
    _say(f"{len(held_out.labels)} held-out images; dropped share certified, worst row.")
    columns = {"accuracy": 10, "loss": 10, "as float32": 12, "survivors": 11, "saturated": 11, "dropped": 10}
    _say(f"{'threshold':14}" + "".join(f"{name:>{width}}" for name, width in columns.items()))
    _say(f"{'float32':14}{accuracy:10.2%}{loss:10.4f}")
    for step, (label, threshold) in enumerate(thresholds, 1):
        print(f"{step} of {len(thresholds)}: {label}", file=sys.stderr, flush=True)
        collector = Collector()
        log = None if options.record is None else JobLog(config)
        for number, layer in enumerate(model.layers):
            layer.attention.attend = partial(
                torch_attention,
                config=config,
                threshold=threshold,
                collector=collector,
                layer=number,
                log=log,
            )
        found = digits.predictions(model, held_out)
        accuracy, loss = digits.accuracy_and_loss(found, held_out)
        same = float((found.argmax(axis=1) == exact.argmax(axis=1)).mean())
        total = collector.total
        _say(
            f"{label:14}{accuracy:10.2%}{loss:10.4f}{same:12.2%}{total.survivor_share:11.1%}{total.saturated:11d}"
            f"{total.dropped_share:10.1%}"
        )
        if log is not None:
            notes = {"model": options.weights.stem, "threshold": label, "accuracy": accuracy, "loss": loss}
            log.record(**notes).save(record_path(options, label))


def _capture(options: argparse.Namespace) -> None:
    """Write the tensors of one layer on one held-out image, for golden attend and sim run."""
    require_writable(options.output)
    functional = digits.libraries().nn.functional
    model, held_out = digits.load_model(options.weights), _held_out(None)
    for name, value, bound in (
        ("layer", options.layer, len(model.layers)),
        ("image", options.image, len(held_out.labels)),
    ):
        if value >= bound:
            raise InputError(f"{name} must be below {bound}, not {value}")
    seen: list[AttentionTensors] = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
        seen.append(AttentionTensors(*(tensor[0].numpy() for tensor in (q, k, v))))
        output: torch.Tensor = functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return output

    model.layers[options.layer].attention.attend = attend
    one = slice(options.image, options.image + 1)
    digits.predictions(model, digits.Digits(held_out.images[one], held_out.labels[one]))
    metadata: dict[str, str | int | float | bool] = {
        "model": options.weights.stem,
        "layer": options.layer,
        "image": options.image,
    }
    tensors = AttentionTensors.of(seen[0].quantise(), seen[0].mask, metadata)
    save_attention(options.output, tensors)
    print_tensors(tensors)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train-digits``, ``evaluate-digits`` and ``capture-digits``."""
    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--threads", type=count, default=1, metavar="N", help="of PyTorch; 1 if not given")
    weights = argparse.ArgumentParser(add_help=False)
    weights.add_argument("--weights", type=Path, required=True, metavar="FILE", help="weights that train-digits wrote")

    plan, shape = digits.DigitsPlan(), digits.DigitsShape()
    command = commands.add_parser(
        "train-digits", parents=[running], help="train a small vision transformer on scikit-learn's images of digits"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument(
        "--attention",
        choices=[str(kind) for kind in AttentionKind],
        default=str(shape.attention),
        help=f"{shape.attention} if not given",
    )
    command.add_argument(
        "--epochs",
        type=count,
        default=plan.epochs,
        metavar="N",
        help=f"passes over the images; {plan.epochs} by default",
    )
    command.add_argument("--patch", type=count, default=shape.patch, metavar="N", help="pixels of a side of a token; 1")
    command.add_argument("--seed", type=seed, default=plan.seed, metavar="N", help="of weights and order; 0 by default")
    add_sparsity_options(command)
    command.set_defaults(run=_train)

    command = commands.add_parser(
        "evaluate-digits",
        parents=[weights, running],
        help="print a model's held-out accuracy, in float32 and under the core's arithmetic",
        description="A row in float32, one where nothing is dropped, and one for each threshold; without any, "
        f"{DEFAULTS}.",
    )
    command.add_argument("--images", type=count, metavar="N", help="held-out images; all if not given")
    add_threshold_rows(command)
    add_record_option(command)
    add_config_options(command)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser(
        "capture-digits",
        parents=[weights],
        help="write what one layer attends with on a held-out image, int8, for golden attend and sim run",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument("--layer", type=natural, required=True, metavar="N", help="layer, counted from 0")
    command.add_argument("--image", type=natural, default=0, metavar="N", help="which image; 0 if not given")
    command.set_defaults(run=_capture)
