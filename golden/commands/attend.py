"""``python -m golden attend``: run a file of tensors through the core's arithmetic, a row for each threshold."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from golden.errors import InputError
from golden.fast import attend
from golden.options import (
    THRESHOLD_OPTIONS,
    Commands,
    add_block_mask_option,
    add_config_options,
    add_mask_options,
    block_mask_of,
    config_of,
    mask_of,
)
from golden.plan import Blocks
from golden.reference import max_abs_error, quantised_attention, snr_db
from golden.tensors import load_attention
from golden.threshold import Threshold

DEFAULT_TAUS = (4, 6, 8, 10, 12)


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("attend", help="run an .npz file through the core's arithmetic, a row per threshold")
    command.add_argument("file", type=Path, help=".npz file with arrays q, k and v")
    add_config_options(command)
    add_mask_options(command)
    add_block_mask_option(command)
    command.add_argument("--subtract-key-mean", action="store_true", help="take the mean out of k before quantising")
    for name, metavar, text in THRESHOLD_OPTIONS:
        command.add_argument(
            f"--{name}", type=float, nargs="+", metavar=metavar, default=[], help=f"{text}; a row each"
        )
    command.add_argument(
        "--with-tau",
        type=float,
        metavar="BITS",
        help="drop by epsilon only what tau drops as well, and start a target from there",
    )
    command.epilog = f"Without any threshold: --tau {' '.join(map(str, DEFAULT_TAUS))}. Keeping all is always shown."
    command.set_defaults(run=run)


def _thresholds(options: argparse.Namespace) -> Iterator[tuple[str, Threshold]]:
    """Give the label and the threshold of each row."""
    yield "all", Threshold()
    given = {name: getattr(options, name) for name, _, _ in THRESHOLD_OPTIONS}
    if options.with_tau is not None and not (given["epsilon"] or given["target"]):
        raise InputError("--with-tau goes with --epsilon or --target")
    for name, values in (given if any(given.values()) else {"tau": DEFAULT_TAUS}).items():
        for value in values:
            also = {} if name == "tau" else {"tau": options.with_tau}
            yield f"{name} {value:g}", Threshold.of(**{name: value}, **also)


def run(options: argparse.Namespace) -> None:
    """Print accuracy, survivors and certificates of each threshold."""
    thresholds = list(_thresholds(options))
    config = config_of(options)
    tensors = load_attention(options.file)
    attention = tensors.quantise(options.subtract_key_mean)
    mask, block_mask = mask_of(options, tensors.mask), block_mask_of(options, tensors)
    results = [attend(attention, config, mask, threshold, block_mask) for _, threshold in thresholds]
    exact = quantised_attention(attention, mask)
    print(
        "Output of the core against float64 on the same int8 tensors; dropped share and bound are certified, worst row."
    )
    if options.with_tau is not None:
        print(f"Rows of epsilon have tau {options.with_tau:g}, rows of target start from it.")
    if block_mask is not None:
        visible = Blocks.of(attention, config, mask).visible
        whole = attention.kv_heads * sum(keys.stop - keys.start for keys in visible)
        print(
            f"The block mask streams {results[0].streamed.sum() / whole:.1%} of the keys; survivors, dropped share and "
            "bound are of these, float64 attends to all."
        )
    print(
        f"{'threshold':14}{'SNR dB':>10}{'max error':>12}{'survivors':>12}{'saturated':>12}{'dropped':>12}{'bound':>12}"
    )
    for (label, _), result in zip(thresholds, results, strict=True):
        print(
            f"{label:14}"
            f"{snr_db(exact, result.real_output):10.1f}"
            f"{max_abs_error(exact, result.real_output):12.2e}"
            f"{result.survivor_share.mean():12.1%}"
            f"{result.saturated.sum():12d}"
            f"{result.dropped_share.max():12.1%}"
            f"{result.output_error.max():12.2e}"
        )
