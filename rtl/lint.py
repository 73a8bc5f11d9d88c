"""Lint of the generated Verilog: Verilator with every warning, less the waivers of ``lint.vlt``."""

import subprocess
from pathlib import Path

from golden.files import write_text
from rtl.tools import VERILATOR, verilator_environment
from rtl.verilog import TOPS, Config, generate

WAIVERS = Path(__file__).parent / "lint.vlt"


def lint(config: Config, folder: Path, top: str = "core") -> str:
    """Write the Verilog of `config` into `folder` and lint it; return Verilator's complaints, empty if it is clean."""
    module = TOPS[top].module
    source = folder / f"{module}.v"
    write_text(source, generate(config, top))
    command = [VERILATOR, "--lint-only", "-Wall", "--top-module", module, WAIVERS, source]
    run = subprocess.run(command, env=verilator_environment(), capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stderr or f"verilator exited with {run.returncode}"
