"""Command line of the simulation: ``python -m sim`` runs the test benches; see ``--help`` for the rest."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from golden.batch_options import add_decode_options, decode_of
from golden.config import ClusterConfig, CoreConfig
from golden.errors import InputError
from golden.files import require_writable
from golden.options import (
    add_block_mask_option,
    add_config_options,
    add_mask_options,
    add_threshold_options,
    block_mask_of,
    config_of,
    count,
    mask_of,
    natural,
    run_command,
    threshold_of,
)
from golden.tensors import load_attention
from golden.threshold import Threshold
from sim.benchmark import run_benchmarks
from sim.cluster import measure_batch
from sim.device_commands import add_device_commands
from sim.report import (
    cluster_table,
    mask_fields,
    point,
    print_run,
    shape_fields,
    summary_files,
    write_json,
    write_summary,
)
from sim.runner import SimulationError
from sim.simulate import LayerWork, simulate_layer_on_cluster, simulate_layers
from sim.soak import CONFIGS, soak
from sim.sweep import SweepInput, sweep

BENCH_CORES = ("tiny", "small")
BENCH_RUNS = 40


def _benches(options: argparse.Namespace) -> None:
    for name in BENCH_CORES:
        soak(range(BENCH_RUNS), name)
        print(f"{BENCH_RUNS} random runs on core '{name}', faults and stalls among them: equal to golden, bit for bit")


def _stall_of(options: argparse.Namespace) -> float:
    """Return the probability that ``--stall`` names; InputError if it is none."""
    if not 0 <= options.stall < 1:
        raise InputError(f"stall must be a probability from 0 to below 1, not {options.stall}")
    stall: float = options.stall
    return stall


def _run(options: argparse.Namespace) -> None:
    stall = _stall_of(options)
    threshold = threshold_of(options)
    config = config_of(options)
    tensors = load_attention(options.input)
    attention, mask = tensors.quantise(options.subtract_key_mean), mask_of(options, tensors.mask)
    if options.json:
        require_writable(options.json)
    work = LayerWork(attention, threshold, mask, block_mask=block_mask_of(options, tensors))
    playing = {"stall": stall, "seed": options.seed, "waves": options.waves}
    simulated: CoreConfig | ClusterConfig = config
    if options.cores:
        simulated = ClusterConfig(config, options.cores)
        run = simulate_layer_on_cluster(work, simulated, **playing)
    else:
        (run,) = simulate_layers([work], config, **playing)
    figures = point(options.tau, run)
    print_run(options.input.name, simulated, figures)
    if options.json:
        origin = {
            "config": simulated.to_dict(),
            "input": options.input.name,
            **shape_fields(attention),
            **mask_fields(mask),
            "epsilon": options.epsilon,
            "target": options.target,
            "subtract_key_mean": options.subtract_key_mean,
            "block_mask": options.block_mask and options.block_mask.name,
            "stall": options.stall,
            "seed": options.seed,
        }
        write_json(options.json, {**origin, **figures})


def _sweep(options: argparse.Namespace) -> None:
    thresholds = list(dict.fromkeys([None, *options.tau]))
    for tau in thresholds:
        Threshold.of(tau)
    config = config_of(options)
    tensors = load_attention(options.input)
    prefill = decode = SweepInput(options.input.name, tensors.quantise(), mask_of(options, tensors.mask))
    if options.decode:
        other = load_attention(options.decode)
        decode = SweepInput(options.decode.name, other.quantise(), other.mask)
    require_writable(*summary_files(options.output))
    points, runs = sweep(prefill, decode, thresholds, config)
    summary = {"config": config.to_dict(), **prefill.fields, "points": points, "runs": runs}
    print(write_summary(options.output, summary, points))


def _bench(options: argparse.Namespace) -> None:
    run_benchmarks(config_of(options))


def _cluster(options: argparse.Namespace) -> None:
    config, batch = decode_of(options)
    if options.json:
        require_writable(options.json)
    measured = measure_batch(config, batch, _stall_of(options))
    print(f"{batch.describe(config)}: equal to golden, bit for bit")
    print(cluster_table(measured))
    if options.json:
        rules = {name: {**asdict(found), "busy": found.busy} for name, found in measured.items()}
        origin = {"config": config.to_dict(), "batch": batch.to_dict(), "stall": options.stall}
        write_json(options.json, {**origin, "rules": rules})


def _soak(options: argparse.Namespace) -> None:
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    repeat = f" --core {options.core!r}" if options.core else ""
    print(f"runs of seeds {seed} to {seed + options.runs - 1}; repeat one with: soak --runs 1 --seed SEED{repeat}")
    for name, runs in soak(range(seed, seed + options.runs), options.core).items():
        print(f"{runs} runs on core '{name}': equal to golden, bit for bit")


def _add_input(command: argparse.ArgumentParser) -> None:
    add_config_options(command)
    command.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="FILE",
        help=".npz file with arrays q, k and v (or the number value_dim): heads x length x dimension, float or int8",
    )
    add_mask_options(command)


def _add_stall(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--stall",
        type=float,
        default=0.0,
        metavar="P",
        help="share of cycles in which a port is stalled; 0 if not given",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim", description="Simulate the core with cocotb on Verilator, held to golden bit for bit."
    )
    parser.set_defaults(run=_benches)
    commands = parser.add_subparsers(metavar="command", help="the test benches if none is given")

    command = commands.add_parser("run", help="stream anybody's tensors through the core")
    _add_input(command)
    add_block_mask_option(command)
    command.add_argument("--subtract-key-mean", action="store_true", help="take the mean out of k before quantising")
    add_threshold_options(command)
    _add_stall(command)
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="of the stalls; 0 if not given")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    command.add_argument(
        "--cores", type=count, metavar="N", help="spread the jobs over a cluster; else one core runs them"
    )
    command.add_argument("--waves", action="store_true", help="trace all signals into a .vcd, whose path is printed")
    command.set_defaults(run=_run)

    command = commands.add_parser("sweep", help="run an input at each threshold, cut short, in decode, with a memory")
    _add_input(command)
    command.add_argument(
        "--tau",
        type=float,
        nargs="+",
        metavar="BITS",
        default=[4, 6, 8, 10, 12],
        help="thresholds, beside keeping all; 4 6 8 10 12 if not given",
    )
    command.add_argument(
        "--decode",
        type=Path,
        metavar="FILE",
        help=".npz file of a decoder, of which one query a head is run; the input by default",
    )
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="STEM", help="files to write, without .md, .csv and .json"
    )
    command.set_defaults(run=_sweep)

    command = commands.add_parser("bench", help="measure utilisation of prefill and decode")
    add_config_options(command)
    command.set_defaults(run=_bench)

    command = commands.add_parser("cluster", help="measure a ragged decode batch on a cluster, by three rules")
    add_decode_options(command)
    _add_stall(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    command.set_defaults(run=_cluster)

    command = commands.add_parser("soak", help="compare random runs, of jobs good and bad, with golden")
    command.add_argument("--runs", type=count, default=100, metavar="N", help="how many; 100 if not given")
    command.add_argument("--seed", type=natural, metavar="N", help="of the first run; a new one by default")
    command.add_argument("--core", choices=CONFIGS, help="only this core")
    command.set_defaults(run=_soak)
    add_device_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 when a simulation fails, 2 when the input is wrong."""
    try:
        return run_command(_parser(), arguments)
    except SimulationError as error:
        print(f"simulation failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
