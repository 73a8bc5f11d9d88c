"""Command line of the hardware: Verilog of a core, its lint, and its synthesis."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from golden.config import PRESETS, ClusterConfig, CoreConfig
from golden.errors import InputError
from golden.files import require_writable, write_text
from golden.options import (
    add_cluster_options,
    add_config_options,
    cluster_config_of,
    config_of,
    count,
    natural,
    run_command,
)
from golden.tables import markdown_table
from rtl.lint import lint
from rtl.synth import SynthesisError, option_cells, synthesise
from rtl.verilog import TOPS, Config, describe, generate


def _config_of(options: argparse.Namespace) -> Config:
    """Return the configuration of the top that the options ask for."""
    return cluster_config_of(options) if options.top == "cluster" else config_of(options)


def _generate(options: argparse.Namespace) -> int:
    config = _config_of(options)
    if not options.output.name:
        raise InputError(f"{options.output} is a folder; the Verilog needs the name of a file")
    description = options.output.with_suffix(".json")
    if options.output == description:
        raise InputError(f"the Verilog can't be called {options.output}: the description beside it is")
    require_writable(options.output, description)
    write_text(options.output, generate(config, options.top))
    write_text(description, json.dumps(describe(config, options.top), indent=2) + "\n")
    print(f"{options.output}: {config.size}; {description}: configuration, ports and bit layouts")
    return 0


def _lint(options: argparse.Namespace) -> int:
    clean = True
    beside = {top: PRESETS["small"] for top in TOPS if top != "core"}
    beside["cluster"] = ClusterConfig(PRESETS["small"])
    for name, (top, config) in {
        **{name: ("core", config) for name, config in PRESETS.items()},
        **{f"{top} of small": (top, config) for top, config in beside.items()},
    }.items():
        complaints = lint(config, options.build / name, top)
        clean = clean and not complaints
        print(f"lint of {name}: {complaints or 'clean'}", flush=True)
    return 0 if clean else 1


def _print_options(config: CoreConfig, folder: Path) -> None:
    """Print a table of the cells of a core without options, and of what its options and the parts beside it add."""
    cells = option_cells(config, folder)
    core = cells.pop("core")
    lines = [["without options", *(f"{used}" for used in core.values()), "", ""]]
    for name, added in cells.items():
        shares = (f"{added[kind] / core[kind]:+.1%}" for kind in ("LUT4", "FF"))
        lines.append([name, *(f"{more:+}" for more in added.values()), *shares])
    title = f"{config.size} core on ECP5, not placed"
    print(markdown_table([title, *core, "of its LUTs", "of its FFs"], lines, left=[title]))


def _synth(options: argparse.Namespace) -> int:
    config = config_of(options)
    folder = options.build / f"{config.rows}x{config.lanes}"
    if options.options:
        _print_options(config, folder)
        return 0
    figures = synthesise(config, folder, options.freq, options.pnr_seed)
    print(f"{config.size} core on ECP5-85, seed {options.pnr_seed}: {figures.fmax:.1f} MHz")
    for kind, (used, available) in figures.area.items():
        print(f"  {kind:16}{used:7} of {available}")
    where = "in a multiplier or its routing" if figures.in_multiplier else "NOT in a multiplier"
    print(f"critical path, {figures.delay:.2f} ns, {where}:")
    print("\n".join(f"  {step}" for step in figures.path))
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.top != "core" and options.command != "generate":
        raise InputError(f"--top is for the Verilog that is written, not for {options.command}")
    options.build = options.build or Path("build") / options.command
    commands = {"generate": _generate, "lint": _lint, "synth": _synth}
    return commands[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rtl", description="Write the Verilog of a core, and a JSON beside it."
    )
    parser.set_defaults(run=_run)
    add_config_options(parser)
    add_cluster_options(parser)
    parser.add_argument(
        "--top",
        choices=TOPS,
        default="core",
        help="a core (the default), or what stands around cores",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("generate", "lint", "synth"),
        default="generate",
        help="generate (the default); lint, of every preset; synth, which places and routes for an ECP5",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/lean_attention.v"),
        metavar="FILE",
        help="Verilog to write, the JSON beside it; build/lean_attention.v if not given",
    )
    parser.add_argument(
        "--build", type=Path, metavar="DIR", help="folder of lint and synth; build/ and the command if not given"
    )
    parser.add_argument(
        "--freq", type=count, default=100, metavar="MHZ", help="clock that synth aims at; 100 if not given"
    )
    parser.add_argument(
        "--options",
        action="store_true",
        help="synth does not place, but counts what each option of the core adds, and each part beside it",
    )
    parser.add_argument(
        "--pnr-seed", type=natural, default=1, metavar="N", help="seed of synth's placement; 1 if not given"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 when a check fails, 2 when the input is wrong."""
    try:
        return run_command(_parser(), arguments)
    except SynthesisError as error:
        print(f"synthesis failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
