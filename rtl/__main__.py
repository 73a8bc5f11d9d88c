"""Command line of the hardware: Verilog of a core, its lint, and its synthesis."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from golden.config import PRESETS
from golden.errors import InputError
from golden.options import add_config_options, config_of, count
from rtl.lint import lint
from rtl.synth import synthesise
from rtl.verilog import describe, generate


def _generate(options: argparse.Namespace) -> int:
    config = config_of(options)
    description = options.output.with_suffix(".json")
    if options.output == description:
        raise InputError(f"the Verilog can't be called {options.output}: the description beside it is")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(generate(config))
        description.write_text(json.dumps(describe(config), indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{options.output} can't be written: {error.strerror}") from error
    print(f"{options.output}: {config.rows} x {config.lanes}; {description}: configuration, ports and bit layouts")
    return 0


def _lint(options: argparse.Namespace) -> int:
    clean = True
    for name, config in PRESETS.items():
        complaints = lint(config, options.build / name)
        clean = clean and not complaints
        print(f"lint of {name}: {complaints or 'clean'}", flush=True)
    return 0 if clean else 1


def _synth(options: argparse.Namespace) -> int:
    config = config_of(options)
    figures = synthesise(config, options.build / f"{config.rows}x{config.lanes}", options.freq, options.pnr_seed)
    print(f"{config.rows} x {config.lanes} core on ECP5-85, seed {options.pnr_seed}: {figures.fmax:.1f} MHz")
    for kind, (used, available) in figures.area.items():
        print(f"  {kind:16}{used:7} of {available}")
    where = "in a multiplier or its routing" if figures.in_multiplier else "NOT in a multiplier"
    print(f"critical path, {figures.delay:.2f} ns, {where}:")
    print("\n".join(f"  {step}" for step in figures.path))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rtl", description="Write the Verilog of a core, and a JSON beside it."
    )
    add_config_options(parser)
    parser.add_argument(
        "command",
        nargs="?",
        choices=("generate", "lint", "synth"),
        default="generate",
        help="generate (the default); lint the Verilog of every preset; place and route for an ECP5",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("build/lean_attention.v"), metavar="FILE")
    parser.add_argument("--build", type=Path, metavar="DIR", help="folder of lint and synth")
    parser.add_argument("--freq", type=count, default=100, metavar="MHZ", help="clock that synth aims at")
    parser.add_argument("--pnr-seed", type=int, default=1, metavar="N", help="seed of synth's placement")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 when a check fails, 2 when the input is wrong."""
    options = _parser().parse_args(arguments)
    options.build = options.build or Path("build") / options.command
    commands = {"generate": _generate, "lint": _lint, "synth": _synth}
    try:
        return commands[options.command](options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
