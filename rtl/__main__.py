"""Command line of the hardware: Verilog of a core, its lint, its synthesis, and the registers of a device."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import joblib

from golden.config import PRESETS, ClusterConfig, CoreConfig
from golden.device.config import DEVICE_PRESETS, SIZES, DeviceConfig
from golden.errors import InputError
from golden.files import require_writable, with_suffixes, write_text
from golden.options import (
    CLUSTER_SIZES,
    add_cluster_options,
    add_config_options,
    add_device_options,
    cluster_config_of,
    config_of,
    count,
    device_config_of,
    natural,
    run_command,
)
from golden.tables import markdown_table
from rtl.axi.c_header import c_header
from rtl.axi.register_page import register_page
from rtl.axi.systemrdl import system_rdl
from rtl.lint import lint
from rtl.synth import SynthesisError, option_cells, synthesise
from rtl.verilog import TOPS, Config, describe, generate

CONFIGURATION = (*(field.name for field in fields(CoreConfig)), *CLUSTER_SIZES, *SIZES)
"""Options that are sizes of a configuration."""


def _config_of(options: argparse.Namespace) -> Config:
    """Return the configuration of the top that the options ask for."""
    of_device = options.top == "axi" or options.command == "registers"
    of_cluster = options.top == "cluster"
    for name in [*([] if of_device else SIZES), *([] if of_cluster else CLUSTER_SIZES)]:
        if getattr(options, name) is not None:
            what = "a device, for --top axi or registers" if name in SIZES else "a cluster, for --top cluster"
            raise InputError(f"--{name.replace('_', '-')} is a size of {what}")
    if of_device:
        return device_config_of(options)
    return cluster_config_of(options) if of_cluster else config_of(options)


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


def _every_top() -> dict[str, tuple[str, Config]]:
    """Return every preset of a core, and the other tops of one of them, by name."""
    small = PRESETS["small"]
    beside: dict[str, Config] = {top: small for top in TOPS if top != "core"}
    beside |= {"cluster": ClusterConfig(small), "axi": DEVICE_PRESETS["small"]}
    cores: dict[str, tuple[str, Config]] = {name: ("core", config) for name, config in PRESETS.items()}
    return cores | {f"{top} of small": (top, config) for top, config in beside.items()}


def _lint(options: argparse.Namespace) -> int:
    if options.asks:
        config = _config_of(options)
        linted = {f"{options.top} of {config.size}": (options.top, config)}
    else:
        linted = _every_top()
    clean = True
    calls = (joblib.delayed(lint)(config, options.build / name, top) for name, (top, config) in linted.items())
    for name, complaints in zip(linted, joblib.Parallel(n_jobs=-1, return_as="generator")(calls), strict=True):
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
    config, top = _config_of(options), options.top
    if options.options:
        if top != "core":
            raise InputError(f"--options counts what each option adds to a core, not to --top {top}")
        _print_options(config, options.build / f"{config.rows}x{config.lanes}")
        return 0
    core = config if isinstance(config, CoreConfig) else config.core
    folder = options.build / (f"{core.rows}x{core.lanes}" + ("" if top == "core" else f"-{top}"))
    figures = synthesise(config, folder, options.freq, options.pnr_seed, top)
    what = f"{core.size} core" + ("" if top == "core" else f", top {top},")
    print(f"{what} on ECP5-85, seed {options.pnr_seed}: {figures.fmax:.1f} MHz")
    for kind, (used, available) in figures.area.items():
        print(f"  {kind:16}{used:7} of {available}")
    where = "in a multiplier or its routing" if figures.in_multiplier else "NOT in a multiplier"
    print(f"critical path, {figures.delay:.2f} ns, {where}:")
    print("\n".join(f"  {step}" for step in figures.path))
    return 0


def _registers(options: argparse.Namespace) -> int:
    config = _config_of(options)
    assert isinstance(config, DeviceConfig), "registers are a device's"
    texts = {".rdl": system_rdl(config), ".h": c_header(), ".md": register_page()}
    # What is written if no name is given is that of the Verilog.
    output = options.output.with_suffix("") if options.output.suffix == ".v" else options.output
    files = dict(zip(with_suffixes(output, list(texts), "the files need a name"), texts.values(), strict=True))
    require_writable(*files)
    for path, text in files.items():
        write_text(path, text)
    print(f"{', '.join(map(str, files))}: the registers, descriptors and records of a device")
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.top is not None and options.command == "registers":
        raise InputError("--top is for generate, lint and synth, not for registers")
    # Lint goes through everything unless something is asked for.
    options.asks = any(getattr(options, name) is not None for name in ("preset", "top", *CONFIGURATION))
    options.preset, options.top = options.preset or "default", options.top or "core"
    options.build = options.build or Path("build") / options.command
    commands = {"generate": _generate, "lint": _lint, "synth": _synth, "registers": _registers}
    return commands[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rtl", description="Write the Verilog of a core, and a JSON beside it."
    )
    parser.set_defaults(run=_run)
    add_config_options(parser)
    add_cluster_options(parser)
    add_device_options(parser)
    parser.set_defaults(preset=None)
    parser.add_argument(
        "--top",
        choices=TOPS,
        help="of generate, lint and synth: a core (the default), what stands around cores, a core with AXI4-Stream "
        "ports, or a device that runs it from memory",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("generate", "lint", "synth", "registers"),
        default="generate",
        help="generate (the default); lint, of the preset, sizes or top that are given, or else of every preset and "
        "top; synth, which places and routes for an ECP5; registers, which writes SystemRDL, a C header and a page of "
        "the registers of a device",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/lean_attention.v"),
        metavar="FILE",
        help="Verilog to write, the JSON beside it; build/lean_attention.v if not given. registers writes .rdl, .h and "
        ".md of this name",
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
