"""Runs a cocotb test bench on a component by itself, with AXI models on the other side that Amaranth has not."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from amaranth.back import verilog
from amaranth.lib import wiring
from cocotb_tools.runner import get_runner

from sim.runner import _first_failure, _tools

BUILD_OPTIONS = ["-Wno-fatal", "-Wno-lint", "-CFLAGS", "-O0"]
"""Compiling takes longer than these simulations, so it is not asked to optimise."""


def run_component(component: wiring.Component, name: str, module: str, folder: Path) -> None:
    """Build `component` under `name` in `folder`, and run the tests of `module` on it.

    Raises
    ------
    AssertionError
        If one of them fails, with its message.
    """
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    source, results = folder / f"{name}.v", folder / "results.xml"
    source.write_text(verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True))
    with _tools(), suppress(SystemExit):
        runner = get_runner("verilator")
        runner.build(
            sources=[source],
            hdl_toplevel=name,
            build_dir=folder,
            build_args=BUILD_OPTIONS,
            log_file=folder / "build.log",
        )
        runner.test(
            test_module=module,
            hdl_toplevel=name,
            build_dir=folder,
            hdl_toplevel_lang="verilog",
            test_dir=folder,
            results_xml=str(results),
            extra_env={"COCOTB_LOG_LEVEL": "WARNING"},
            log_file=folder / "run.log",
        )
    failure = _first_failure(results)
    assert failure is None, failure
