"""``python -m perf_model estimate``: cycles, bytes and energy of a workload, or of captured tensors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from golden.block_mask import BlockMask, load_block_masks
from golden.config import PRESETS
from golden.errors import InputError
from golden.files import write_text
from golden.options import (
    Commands,
    add_block_mask_option,
    add_mask_options,
    add_threshold_options,
    block_mask_of,
    count,
    mask_of,
    natural,
    threshold_of,
)
from golden.partition import RULES
from golden.tensors import load_attention
from perf_model.baselines import all_of, dense, flat, static_mask, unfused
from perf_model.energy_table import load_energy_table
from perf_model.estimate import Estimate, estimate
from perf_model.hardware import Hardware, brought_hardware, load_hardware
from perf_model.report import comparison, describe, table
from perf_model.settings import DATA
from perf_model.trace import estimate_trace, trace
from perf_model.workload import PHASES, Workload, load_workload

DEFAULT_WORKLOAD = "bert-base"
DEFAULT_HARDWARE = "default"
DEFAULT_SURVIVAL = (1.0, 0.7, 0.4)
DEFAULT_STREAMED = 0.5
STDOUT = Path("-")

_HARDWARE = (
    *("clock_mhz", "technology", "dram", "dram_bandwidth", "scratchpad_kib", "cores", "partition"),
    *("bandwidth", "latency", "outstanding"),
)
_OF_TRACES = ("tau", "epsilon", "target", "causal", "window")
_OF_WORKLOADS = ("workload", "survival", "length", "phase", "batch", "chunk", "streamed")


def add(commands: Commands) -> argparse.ArgumentParser:
    """Add the command and its options, and return its parser."""
    parser = commands.add_parser("estimate", help="print cycles, bytes and energy of a workload, or of a capture")
    _add_workload_options(parser)
    _add_trace_options(parser)
    _add_hardware_options(parser)
    parser.add_argument(
        "--baselines", action="store_true", help="a line for each way to compute it: unfused, FLAT, and the core's own"
    )
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="write the estimates there too; without FILE print them as JSON instead",
    )
    parser.set_defaults(run=run)
    return parser


def _add_workload_options(parser: argparse.ArgumentParser) -> None:
    workloads = ", ".join(sorted(path.stem for path in (DATA / "workloads").glob("*.yaml")))
    parser.add_argument(
        "--workload", metavar="NAME", help=f"{workloads}, or a .yaml file ({DEFAULT_WORKLOAD} if not given)"
    )
    parser.add_argument(
        "--survival",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="shares of the keys that survive, a column each (1, 0.7 and 0.4 if not given)",
    )
    parser.add_argument(
        "--length", type=count, nargs="+", metavar="N", help="tokens of each sequence, in place of the workload's"
    )
    parser.add_argument("--phase", metavar="NAME", help=f"{' or '.join(PHASES)}, in place of the workload's")
    parser.add_argument("--batch", type=count, metavar="N", help="sequences of each length, in place of the workload's")
    parser.add_argument("--chunk", type=count, metavar="N", help="queries of a sequence, at its last positions")
    parser.add_argument(
        "--streamed",
        type=float,
        metavar="SHARE",
        help=f"of --baselines: share of the keys that a static mask streams ({DEFAULT_STREAMED} if not given)",
    )


def _add_trace_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help=".npz file with arrays q, k and v, in place of a workload: golden says which keys survive",
    )
    parser.add_argument("--subtract-key-mean", action="store_true", help="take the mean out of k before quantising")
    add_threshold_options(parser)
    add_mask_options(parser)
    # Static masks go with workloads as well.
    add_block_mask_option(parser)


def _add_hardware_options(parser: argparse.ArgumentParser) -> None:
    energies = load_energy_table()
    hardware = parser.add_mutually_exclusive_group()
    hardware.add_argument(
        "--preset",
        default=DEFAULT_HARDWARE,
        metavar="NAME",
        help=f"core: {', '.join(PRESETS)} ({DEFAULT_HARDWARE} if not given)",
    )
    hardware.add_argument(
        "--hardware", metavar="NAME", help=f"{', '.join(brought_hardware())}, a preset, or a .yaml file"
    )
    parser.add_argument("--cores", type=count, metavar="N", help="cores that share the work")
    parser.add_argument("--partition", metavar="RULE", help=f"how they do: {', '.join(RULES)}")
    parser.add_argument("--clock-mhz", type=float, metavar="MHZ", help="clock")
    parser.add_argument("--technology", metavar="NAME", help=f"one of {', '.join(energies.scaling)}")
    parser.add_argument("--dram", metavar="NAME", help=f"energy of the DRAM: {', '.join(energies.dram)}")
    parser.add_argument(
        "--dram-bandwidth", type=float, metavar="BYTES", help="bytes a cycle that the DRAM moves for all cores"
    )
    parser.add_argument(
        "--scratchpad-kib", type=natural, metavar="N", help="on-chip memory for K and V beside each core; 0 for none"
    )
    parser.add_argument(
        "--bandwidth", type=float, metavar="BYTES", help="bytes a cycle that the streams share; any by default"
    )
    parser.add_argument(
        "--latency", type=count, metavar="N", help="cycles from a value request to its row; 1 by default"
    )
    parser.add_argument("--outstanding", type=count, metavar="N", help="value rows asked for at a time; any by default")


def _hardware(options: argparse.Namespace) -> Hardware:
    return load_hardware(options.hardware or options.preset, **{name: getattr(options, name) for name in _HARDWARE})


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Raise InputError if any of these options was given."""
    for name in names:
        if getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} {reason}")


def _of_workload(options: argparse.Namespace, hardware: Hardware) -> tuple[Workload, list[Estimate]]:
    _refuse(options, _OF_TRACES, "goes with --trace")
    if options.subtract_key_mean:
        raise InputError("--subtract-key-mean goes with --trace")
    lengths = options.length and (options.length[0] if len(options.length) == 1 else tuple(options.length))
    workload = load_workload(
        options.workload or DEFAULT_WORKLOAD,
        length=lengths,
        phase=options.phase,
        batch=options.batch,
        chunk=options.chunk,
    )
    rates = DEFAULT_SURVIVAL if options.survival is None else options.survival
    mask = None if options.block_mask is None else _only_mask(options.block_mask)
    if options.streamed is not None and not (options.baselines and mask is None):
        raise InputError("--streamed goes with --baselines and without --block-mask")
    if options.baselines:
        share = DEFAULT_STREAMED if options.streamed is None else options.streamed
        return workload, all_of(workload, hardware, rates, share if mask is None else mask)
    if mask is not None:
        return workload, [static_mask(workload, hardware, mask, rate) for rate in rates]
    return workload, [estimate(workload, hardware, rate) for rate in rates]


def _only_mask(path: Path) -> BlockMask:
    """Return the mask of a file that has one layer's."""
    masks = load_block_masks(path)
    if len(masks) != 1:
        raise InputError(f"{path} has masks of layer {', '.join(map(str, masks))}; a workload takes a file with one")
    return next(iter(masks.values()))


def _of_trace(options: argparse.Namespace, hardware: Hardware) -> tuple[Workload, list[Estimate]]:
    _refuse(options, _OF_WORKLOADS, "does not go with --trace")
    threshold = threshold_of(options)
    tensors = load_attention(options.trace)
    attention, mask = tensors.quantise(options.subtract_key_mean), mask_of(options, tensors.mask)
    layer = trace(options.trace.stem, attention, hardware, mask, threshold, block_mask_of(options, tensors))
    method = f"golden, {layer.survival:.1%} survive"
    found = [estimate_trace(layer, hardware, method)]
    if options.baselines:
        found = [way(layer.workload, hardware) for way in (unfused, flat, dense)] + found
    return layer.workload, found


def run(options: argparse.Namespace) -> None:
    """Print the estimates, and write them if that is wanted."""
    hardware = _hardware(options)
    workload, found = (_of_workload if options.trace is None else _of_trace)(options, hardware)
    text = json.dumps([each.to_dict() for each in found], indent=2) + "\n"
    if options.json == STDOUT:
        print(text, end="")
        return
    print(describe(workload, hardware))
    print()
    print(comparison(found) if options.baselines else table(found))
    if options.json:
        write_text(options.json, text)
