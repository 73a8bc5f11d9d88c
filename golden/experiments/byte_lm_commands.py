"""Commands of the byte language model: train it, print its loss, capture a layer, and export it."""

from __future__ import annotations

import argparse
import math
import platform
import sys
from dataclasses import asdict, fields, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from golden.capture import LayerRecorder
from golden.commands.info import print_tensors
from golden.config import CoreConfig
from golden.errors import InputError
from golden.experiments import byte_language_model as byte_lm
from golden.experiments import library_source
from golden.experiments.sparsity_options import add_sparsity_options, sparsity_targets_of
from golden.experiments.thresholds import (
    DEFAULTS,
    add_record_option,
    add_threshold_rows,
    any_threshold,
    record_path,
    threshold_rows,
)
from golden.files import require_writable
from golden.hugging_face import register_attention
from golden.job_record import JobLog
from golden.options import add_config_options, config_of, count, natural, seed
from golden.sparsity_target import SparsityTargetedAttention, register_sparsity_target
from golden.tensors import AttentionTensors, save_attention
from golden.torch_functional import register_torch_attention
from golden.variants import AttentionKind

_WINDOWS, _WINDOWS_A_ROW = 256, 16
"""Held-out windows that a loss is measured on by default: by itself, and for each row of a table."""

_INTERFACE = "lean_attention_byte_lm"
_TRAINED_INTERFACE = "sparsity_targeted_byte_lm"
_COMPARED = byte_lm.ModelShape(query_heads=3, kv_heads=3)
"""Of the models that the four attentions are compared in: heads are slices of the width."""

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
    targets = sparsity_targets_of(options)
    corpus = library_source.read_corpus()
    plan = byte_lm.TrainingPlan(steps=options.steps, seed=options.seed, rate=options.rate)
    sparsity = SparsityTargetedAttention(*targets) if targets else None
    interface = "sdpa"
    if sparsity is not None:
        interface = _TRAINED_INTERFACE
        register_sparsity_target(sparsity, interface)
    if options.start is None:
        model, start = byte_lm.build_model(_shape(options.attention), plan.seed, interface), ""
    else:
        model, start = byte_lm.load_model(options.start, interface), sha256(options.start.read_bytes()).hexdigest()
    weights = sum(weight.numel() for weight in model.parameters())
    _say(f"{weights} weights; {len(corpus.train)} bytes to train on, {len(corpus.held_out)} held out")
    byte_lm.train(model, corpus.train, plan, checkpoint, _say, sparsity=sparsity, start=start)
    model.set_attn_implementation("sdpa")
    length = byte_lm.shape_of(model).context
    windows = library_source.even_windows(corpus.held_out, length, options.windows or _WINDOWS)
    loss = byte_lm.held_out_loss(model, windows)
    _print_loss(loss, len(windows), length)
    notes = {
        "plan": asdict(plan),
        "corpus_sha256": corpus.digest,
        "python": platform.python_version(),
        "held_out_windows": len(windows),
        "held_out_loss": round(loss, 4),
    }
    if targets:
        notes["sparsity"] = [asdict(target) for target in targets]
    if options.start is not None:
        notes["start"] = {"file": options.start.name} | byte_lm.read_training(options.start)
    byte_lm.save_model(options.output, model, notes)
    checkpoint.unlink(missing_ok=True)


def _shape(attention: str | None) -> byte_lm.ModelShape:
    """Return the shape of a model with that attention, that of the model that comes with the project if it is None."""
    return byte_lm.ModelShape() if attention is None else replace(_COMPARED, attention=AttentionKind(attention))


def _asks_for_core(options: argparse.Namespace) -> bool:
    """Return whether a threshold or an option of the core was given."""
    names = ["preset", *(field.name for field in fields(CoreConfig))]
    return (
        any_threshold(options)
        or options.record is not None
        or any(getattr(options, name) is not None for name in names)
    )


def _windows(options: argparse.Namespace, length: int, default: int) -> np.ndarray:
    return library_source.even_windows(library_source.read_corpus().held_out, length, options.windows or default)


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
        log = None if options.record is None else JobLog(config)
        collector = register_torch_attention(config=config, threshold=threshold, name=_INTERFACE, log=log)
        loss = byte_lm.held_out_loss(model, windows)
        total = collector.total
        if log is not None:
            notes = {"model": options.weights.stem, "threshold": label, "loss": loss, "float loss": exact}
            log.record(**notes).save(record_path(options, label))
        _say(
            f"{label:14}{loss:10.4f}{loss / exact - 1:+11.3%}{total.survivor_share:11.1%}{total.saturated:11d}"
            f"{total.dropped_share:10.1%}"
        )


def _capture(options: argparse.Namespace) -> None:
    """Write the tensors of one layer on one held-out window, for golden attend and sim run."""
    require_writable(options.output)
    recorder = LayerRecorder(options.layer)
    register_attention(_INTERFACE, recorder)
    model = byte_lm.load_model(options.weights, _INTERFACE)
    length = byte_lm.shape_of(model).context
    windows = _windows(options, length, _WINDOWS_A_ROW)
    if options.window >= len(windows):
        raise InputError(f"there are {len(windows)} windows, so window must be below that, not {options.window}")
    byte_lm.held_out_loss(model, windows[options.window : options.window + 1])
    if recorder.tensors is None:
        raise InputError(f"the model has {recorder.calls} layers, so layer must be below that, not {options.layer}")
    metadata: dict[str, str | int | float | bool] = {
        "model": options.weights.stem,
        "layer": options.layer,
        "tokens": length,
        "held_out_window": options.window,
    }
    attention = recorder.tensors.quantise()
    tensors = AttentionTensors.of(attention, recorder.tensors.mask, metadata)
    save_attention(options.output, tensors)
    print_tensors(tensors)


def _export(options: argparse.Namespace) -> None:
    byte_lm.export_model(options.weights, options.output)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train-byte-lm``, ``evaluate-byte-lm``, ``capture-byte-lm`` and ``export-byte-lm``."""
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
    command.add_argument("--seed", type=seed, default=plan.seed, metavar="N", help="of weights and data; 0 by default")
    command.add_argument(
        "--rate", type=float, default=plan.rate, metavar="X", help=f"largest learning rate; {plan.rate} by default"
    )
    made = command.add_mutually_exclusive_group()
    made.add_argument(
        "--attention",
        choices=[str(kind) for kind in AttentionKind],
        help="train a model of 3 heads of 64 with this attention, rather than one with grouped heads",
    )
    made.add_argument("--start", type=Path, metavar="FILE", help="go on from these weights, with a training of its own")
    add_sparsity_options(command)
    command.set_defaults(run=_train)

    command = commands.add_parser(
        "evaluate-byte-lm",
        parents=[weights, running],
        help="print a model's held-out loss, in float32 and under the core's arithmetic",
        description="Given a threshold or an option of the core, a table: the loss in float32, with nothing dropped, "
        f"and for each threshold; without any, {DEFAULTS}.",
    )
    add_threshold_rows(command)
    add_record_option(command)
    add_config_options(command, _PRESET)
    # Not given is told apart from the default: any option of the core asks for the table.
    command.set_defaults(preset=None)
    command.set_defaults(run=_evaluate)

    command = commands.add_parser(
        "capture-byte-lm",
        parents=[weights],
        help="write what one layer attends with on a held-out window, int8, for golden attend and sim run",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument("--layer", type=natural, required=True, metavar="N", help="layer, counted from 0")
    command.add_argument(
        "--window", type=natural, default=0, metavar="N", help="which window of evaluate-byte-lm's; 0 if not given"
    )
    command.add_argument(
        "--windows", type=count, metavar="N", help=f"how many windows there are; {_WINDOWS_A_ROW} if not given"
    )
    command.set_defaults(run=_capture)

    command = commands.add_parser(
        "export-byte-lm", parents=[weights], help="write a model as a Hugging Face directory, for golden capture"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write")
    command.set_defaults(run=_export)
