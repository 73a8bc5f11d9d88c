"""Command line of the golden model: ``python -m golden capture``, ``info`` and ``attend``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from golden.capture import capture
from golden.errors import InputError
from golden.fast import attend
from golden.options import add_config_options, add_mask_options, config_of, count, mask_of, natural, run_command
from golden.reference import float_attention, max_abs_error, quantised_attention, snr_db
from golden.tensors import AttentionTensors, load_attention, save_attention
from golden.threshold import Threshold


def _capture(options: argparse.Namespace) -> None:
    try:
        text = options.text.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{options.text} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{options.text} is not a text in UTF-8") from error
    tensors = capture(options.model, text, options.layer, options.tokens, options.name)
    if options.int8:
        tensors = AttentionTensors.of(tensors.quantise(), tensors.mask, tensors.metadata)
    save_attention(options.output, tensors)
    _print_tensors(tensors)


def _print_tensors(tensors: AttentionTensors) -> None:
    for name in ("q", "k", "v"):
        tensor, scale = getattr(tensors, name), getattr(tensors, f"{name}_scale")
        scales = "" if scale is None else f", scale {np.min(scale):.4g} to {np.max(scale):.4g}"
        print(f"{name:14}{tensor.dtype} {' x '.join(map(str, tensor.shape))}{scales}")
    print(f"{'softmax_scale':14}{'1 / sqrt(head_dim)' if tensors.softmax_scale is None else tensors.softmax_scale}")
    window = f" of {tensors.mask.window} keys" if tensors.mask.window else ""
    print(f"{'mask':14}{tensors.mask.kind.name.lower()}{window}")
    for name, value in tensors.metadata.items():
        print(f"{name:14}{value}")


def _info(options: argparse.Namespace) -> None:
    tensors = load_attention(options.file)
    # Quantising checks shapes and dtypes, so a file that prints is a file that runs.
    attention = tensors.quantise()
    _print_tensors(tensors)
    if not tensors.is_float:
        return
    exact = float_attention(tensors.q, tensors.k, tensors.v, tensors.softmax_scale, tensors.mask)
    print("\nint8 against float, both in float64 arithmetic:")
    print(f"{'key mean':12}{'SNR dB':>10}{'worst head':>12}{'max error':>12}")
    for label, quantised in (("kept", attention), ("subtracted", tensors.quantise(subtract_key_mean=True))):
        measured = quantised_attention(quantised, tensors.mask)
        worst = min(map(snr_db, exact, measured))
        print(f"{label:12}{snr_db(exact, measured):10.1f}{worst:12.1f}{max_abs_error(exact, measured):12.2e}")


def _attend(options: argparse.Namespace) -> None:
    thresholds = [None, *options.tau]
    units = [Threshold.of(tau) for tau in thresholds]
    config = config_of(options)
    tensors = load_attention(options.file)
    attention = tensors.quantise(options.subtract_key_mean)
    mask = mask_of(options, tensors.mask)
    exact = quantised_attention(attention, mask)
    print(
        "Output of the core against float64 on the same int8 tensors; dropped share and bound are certified, worst row."
    )
    header = f"{'tau':>8}{'SNR dB':>10}{'max error':>12}{'survivors':>12}{'saturated':>12}{'dropped':>12}{'bound':>12}"
    print(header)
    for tau, unit in zip(thresholds, units, strict=True):
        result = attend(attention, config, mask, unit)
        print(
            f"{'all' if tau is None else f'{tau:g}':>8}"
            f"{snr_db(exact, result.real_output):10.1f}"
            f"{max_abs_error(exact, result.real_output):12.2e}"
            f"{result.survivor_share.mean():12.1%}"
            f"{result.saturated.sum():12d}"
            f"{result.dropped_share.max():12.1%}"
            f"{result.output_error.max():12.2e}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m golden", description="The core's arithmetic, bit for bit.")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("capture", help="take the tensors of one attention layer from a model on disk")
    command.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face encoder or decoder")
    command.add_argument("--text", type=Path, required=True, metavar="FILE", help="UTF-8 text for the model to read")
    command.add_argument("--layer", type=natural, required=True, metavar="N", help="attention layer, counted from 0")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument("--tokens", type=count, metavar="N", help="cut the text after so many tokens")
    command.add_argument("--int8", action="store_true", help="write int8 and scales rather than float32")
    command.add_argument("--name", help="name of the model to note in the file; the directory's by default")
    command.set_defaults(run=_capture)

    command = commands.add_parser("info", help="say what an .npz file holds and how well it quantises")
    command.add_argument("file", type=Path, help=".npz file with arrays q, k and v")
    command.set_defaults(run=_info)

    command = commands.add_parser("attend", help="run an .npz file through the core's arithmetic, a row per threshold")
    command.add_argument("file", type=Path, help=".npz file with arrays q, k and v")
    add_config_options(command)
    add_mask_options(command)
    command.add_argument("--subtract-key-mean", action="store_true", help="take the mean out of k before quantising")
    command.add_argument(
        "--tau", type=float, nargs="+", metavar="BITS", default=[4, 6, 8, 10, 12], help="thresholds, beside keeping all"
    )
    command.set_defaults(run=_attend)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after one sentence on what was wrong with the input."""
    return run_command(_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
