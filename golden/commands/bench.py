"""``python -m golden bench``: the time of the fast model beside PyTorch's float32 attention, in the same run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from golden.batch import attention as attend_batch
from golden.config import CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask
from golden.options import Commands, add_config_options, config_of, count
from golden.quantise import quantise
from golden.threshold import Threshold

SHAPES = ((12, 512, 64), (8, 4096, 128))
"""Heads, length and dimension."""

TAUS = (None, 4.0, 3.0, 2.0)
LONG_HEAD = (16, 65536, 128)
"""Queries, keys and dimension of the head whose memory is measured."""

PEAKED = 3.0
"""Factor on random queries: scores of a standard deviation of 3, so that there is something to drop."""


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("bench", help="compare the time of the fast model with PyTorch's float32 attention")
    add_config_options(command)
    command.add_argument("--threads", type=count, default=2, metavar="N", help="of both; 2 if not given")
    command.add_argument(
        "--seconds", type=count, default=10, metavar="N", help="for each shape and mask; 10 if not given"
    )
    command.set_defaults(run=run)


def _fastest(functions: list[Callable[[], object]], seconds: int) -> list[float]:
    """Return the shortest time of each function in seconds, run in turns so that all see the same machine."""
    times = np.full(len(functions), np.inf)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for n, function in enumerate(functions):
            # Threads of the one before go on spinning for a while.
            time.sleep(0.02)
            begin = time.perf_counter()
            function()
            times[n] = min(times[n], time.perf_counter() - begin)
    return [float(seconds) for seconds in times]


def _memory(field: str) -> int:
    """Return a figure of ``/proc/self/status`` in bytes: VmRSS, what this process holds, or VmHWM, the most it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise InputError(f"/proc/self/status does not tell {field}")


def long_head_memory() -> tuple[int, int]:
    """Return the bytes of the float32 inputs of `LONG_HEAD`, and the most that were held with them while they were run.

    To be called before anything else took memory that this could be given again. Linux only.
    """
    queries, keys, dim = LONG_HEAD
    random = np.random.default_rng(0)
    few = np.ones((1, queries, dim), dtype=np.float32)
    attend_batch(few, few, few)
    before = _memory("VmRSS")
    # Forgets the peak so far, that of compiling.
    Path("/proc/self/clear_refs").write_text("5")
    q, k, v = (random.standard_normal((1, length, dim), dtype=np.float32) for length in (queries, keys, keys))
    attend_batch(q, k, v)
    return q.nbytes + k.nbytes + v.nbytes, _memory("VmHWM") - before


def _core(config: CoreConfig) -> CoreConfig:
    """Return `config`, made to hold the shapes."""
    largest = max(dim for _, _, dim in SHAPES)
    return config.override(
        max_head_dim=max(config.max_head_dim, largest), max_value_dim=max(config.max_value_dim, largest)
    )


def run(options: argparse.Namespace) -> None:
    """Print a line for each shape, mask and threshold."""
    try:
        import torch
    except ImportError as error:
        raise InputError("this needs PyTorch: pip install lean-attention[models]") from error
    inputs, peak = long_head_memory()
    print(
        f"Memory of one head of {LONG_HEAD[1]:,} keys x {LONG_HEAD[2]}, {LONG_HEAD[0]} queries: "
        f"{peak / 1e6:.0f} MB with its float32 inputs of {inputs / 1e6:.0f} MB: {peak / inputs:.2f} times.\n"
    )
    torch.set_num_threads(options.threads)
    config = _core(config_of(options))
    print(
        f"Random normal tensors, queries times {PEAKED:g}; {options.threads} threads; "
        f"fastest run of {options.seconds} s.\nCore of {config.rows} rows and {config.lanes} lanes. "
        "The model runs int8 tensors to exact outputs; PyTorch its float32 scaled_dot_product_attention on the same.\n"
    )
    columns = ("mask", 8), ("tau", 5), ("survivors", 11), ("PyTorch ms", 12), ("golden ms", 11), ("ratio", 7)
    print(f"{'heads x length x dim':22}" + "".join(f"{name:>{width}}" for name, width in columns))
    for heads, length, dim in SHAPES:
        random = np.random.default_rng(length)
        q, k, v = (random.standard_normal((heads, length, dim)).astype(np.float32) for _ in range(3))
        q *= PEAKED
        attention = quantise(q, k, v)
        tensors = [torch.from_numpy(tensor)[None] for tensor in (q, k, v)]
        for causal in (False, True):
            mask = Mask.of(causal)

            runs: list[Callable[[], object]] = [
                partial(torch.nn.functional.scaled_dot_product_attention, *tensors, is_causal=causal)
            ]
            for tau in TAUS:
                arguments = attention, config, mask, Threshold.of(tau)
                runs.append(partial(attend, *arguments, threads=options.threads))
            peer, *ours = _fastest(runs, options.seconds)
            for tau, seconds in zip(TAUS, ours, strict=True):
                attended = attend(attention, config, mask, Threshold.of(tau), threads=options.threads)
                share = attended.survivors.sum() / attended.streamed.sum()
                print(
                    f"{f'{heads} x {length} x {dim}':22}{mask.kind.name.lower():>8}"
                    f"{'all' if tau is None else f'{tau:g}':>5}{share:11.1%}"
                    f"{1e3 * peer:12.1f}{1e3 * seconds:11.1f}{seconds / peer:7.2f}",
                    flush=True,
                )
