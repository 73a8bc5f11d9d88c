"""``python -m perf_model cluster``: cycles of a ragged decode batch on a cluster, beside what was simulated."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from golden.batch_options import add_decode_options, decode_of
from golden.block import run_job
from golden.config import ClusterConfig, CoreConfig
from golden.decode_batch import DecodeBatch
from golden.errors import InputError
from golden.options import Commands
from golden.partition import RULES
from golden.tables import markdown_table
from perf_model.cluster import ClusterCycles, cluster_cycles
from perf_model.settings import checked, read_json, required, typed


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("cluster", help="print what a ragged decode batch takes on a cluster, by three rules")
    add_decode_options(command)
    command.add_argument(
        "--measured",
        type=Path,
        metavar="FILE",
        help="what python -m sim cluster --json wrote: the same cluster and batch, beside what they took there",
    )
    command.set_defaults(run=run)


def modelled(config: ClusterConfig, batch: DecodeBatch) -> dict[str, ClusterCycles]:
    """Return what a batch takes by each rule of `golden.partition`; InputError if a core can't hold a job."""
    return {
        name: cluster_cycles(config, listed, [run_job(entry.job, config.core.lanes).survivors for entry in listed])
        for name, listed in batch.lists(config).items()
    }


def load_measured(path: Path) -> tuple[ClusterConfig, DecodeBatch, dict[str, int]]:
    """Return the cluster, the batch and the cycles by each rule that a simulation wrote.

    Raises
    ------
    InputError
        If the file can't be read, lacks something or has something of the wrong type, or its ports were stalled.
    """
    content, where = read_json(path), path.name
    if content.get("stall"):
        raise InputError(f"the ports of {where} were stalled, which the model does not follow")
    parameters = dict(required(content, "config", dict, where))
    core = required(parameters, "core", dict, where)
    del parameters["core"]
    integers = {field.name: int for field in fields(CoreConfig)}
    sizes = {field.name: int for field in fields(ClusterConfig) if field.name != "core"}
    config = ClusterConfig(
        CoreConfig(**checked(core, integers, f"config in {where}")), **checked(parameters, sizes, f"config in {where}")
    )
    found = required(content, "batch", dict, where)
    tau = found.get("tau")
    lengths = required(found, "lengths", list, where)
    batch = DecodeBatch(
        lengths=tuple(typed(length, int, "lengths", where) for length in lengths),
        tau=None if tau is None else typed(tau, float, "tau", where),
        **{name: required(found, name, int, where) for name in ("heads", "rows", "head_dim", "tile", "seed")},
    )
    rules = required(content, "rules", dict, where)
    cycles = {name: required(required(rules, name, dict, where), "cycles", int, f"{name} in {where}") for name in RULES}
    return config, batch, cycles


def run(options: argparse.Namespace) -> None:
    """Print cycles and busy shares by each rule."""
    measured: dict[str, int] = {}
    if options.measured:
        config, batch, measured = load_measured(options.measured)
    else:
        config, batch = decode_of(options)
    rules = modelled(config, batch)
    print(f"{batch.describe(config)}:")
    columns = ["rule", "cycles", *(["simulated", "difference"] if measured else []), "cores busy"]
    rows = []
    for name, found in rules.items():
        beside = [f"{measured[name]}", f"{found.total - measured[name]:+d}"] if measured else []
        rows.append([name, f"{found.total}", *beside, f"{found.busy(config.cores):.1%}"])
    print(markdown_table(columns, rows, left=["rule"]))
