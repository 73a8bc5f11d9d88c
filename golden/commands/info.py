"""``python -m golden info``: say what a file of tensors holds and how well it quantises."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from golden.options import Commands
from golden.reference import float_attention, max_abs_error, quantised_attention, snr_db
from golden.tensors import AttentionTensors, load_attention


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("info", help="say what an .npz file holds and how well it quantises")
    command.add_argument("file", type=Path, help=".npz file with arrays q, k and v")
    command.set_defaults(run=run)


def print_tensors(tensors: AttentionTensors) -> None:
    """Print shapes, scales, mask and metadata."""
    for name in ("q", "k", "v"):
        tensor, scale = getattr(tensors, name), getattr(tensors, f"{name}_scale")
        if tensor is None:
            print(f"{name:14}the first {tensors.values.shape[-1]} elements of k")
            continue
        scales = "" if scale is None else f", scale {np.min(scale):.4g} to {np.max(scale):.4g}"
        print(f"{name:14}{tensor.dtype} {' x '.join(map(str, tensor.shape))}{scales}")
    print(f"{'softmax_scale':14}{'1 / sqrt(head_dim)' if tensors.softmax_scale is None else tensors.softmax_scale}")
    print(f"{'mask':14}{tensors.mask}")
    for name, value in tensors.metadata.items():
        print(f"{name:14}{value}")


def run(options: argparse.Namespace) -> None:
    """Print what the file holds and, of float tensors, what int8 costs."""
    tensors = load_attention(options.file)
    # Quantising checks shapes and dtypes, so a file that prints is a file that runs.
    attention = tensors.quantise()
    print_tensors(tensors)
    if not tensors.is_float:
        return
    exact = float_attention(tensors.q, tensors.k, tensors.values, tensors.softmax_scale, tensors.mask)
    print("\nint8 against float, both in float64 arithmetic:")
    print(f"{'key mean':12}{'SNR dB':>10}{'worst head':>12}{'max error':>12}")
    quantised_by = {"kept": attention}
    if not attention.shared:
        quantised_by["subtracted"] = tensors.quantise(subtract_key_mean=True)
    for label, quantised in quantised_by.items():
        measured = quantised_attention(quantised, tensors.mask)
        worst = min(map(snr_db, exact, measured))
        print(f"{label:12}{snr_db(exact, measured):10.1f}{worst:12.1f}{max_abs_error(exact, measured):12.2e}")
