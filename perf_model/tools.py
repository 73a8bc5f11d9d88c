"""What other performance models say of the same head on the same array: their answers, and how to get them again.

``data/tools/`` holds the answers, the inputs that they are for, and the releases that gave them.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from golden.config import preset
from golden.errors import InputError
from golden.tables import text_table
from perf_model.estimate import estimate
from perf_model.hardware import Hardware
from perf_model.settings import DATA, checked, read_yaml, required
from perf_model.workload import Workload

FOLDER = DATA / "tools"

_ZIGZAG = """
import json, sys
from zigzag.api import get_hardware_performance_zigzag
cycles = get_hardware_performance_zigzag(
    *sys.argv[1:], opt="latency", dump_folder="out", loma_show_progress_bar=False
)[1]
print(json.dumps({"cycles": cycles}))
"""
_VERSION = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"


@dataclass(frozen=True)
class Tool:
    """One answer of a tool.

    Parameters
    ----------
    name, package, version : str
        The tool, its package and the release that answered.
    setting : str
        What machine it was given.
    cycles : int
        Its answer.
    source : str
        Where it is described.
    dataflow : str, optional
        Of SCALE-Sim: its name of the operand that stays, ``ws``, ``is`` or ``os``.
    """

    name: str
    package: str
    version: str
    setting: str
    cycles: int
    source: str
    dataflow: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The answers to one question.

    Parameters
    ----------
    workload : Workload
        One head.
    hardware : Hardware
        The core whose array the tools were given.
    tools : tuple of Tool
        Their answers.
    """

    workload: Workload
    hardware: Hardware
    tools: tuple[Tool, ...]

    def table(self) -> str:
        """Return all answers line by line, the ideal and this project's models first."""
        dense = estimate(self.workload, self.hardware)
        ideal = dense.dense_macs // self.hardware.multipliers
        closed = estimate(self.workload, self.hardware, follow=False)
        rows = [
            ("ideal: every multiplier busy in every cycle", "", ideal),
            ("perf_model, exact: this core", "yes", dense.cycles.total),
            ("perf_model, closed form: this core", "yes", closed.cycles.total),
            *((f"{tool.name} {tool.version}: {tool.setting}", "no", tool.cycles) for tool in self.tools),
        ]
        lines = [(*text, f"{n:,}", f"{n / ideal:.4f} x", f"{ideal / n:.2%}") for *text, n in rows]
        return text_table(("model: machine", "softmax", "cycles", "of ideal", "utilisation"), lines)


_KINDS: dict[str, type] = dict.fromkeys(("name", "package", "version", "setting", "source", "dataflow"), str) | {
    "cycles": int
}
_SHAPE = ("keys", "head_dim", "rows", "lanes")


def load_comparison() -> Comparison:
    """Return the comparison that the package brings."""
    content = read_yaml(FOLDER / "tools.yaml")
    shape = checked(required(content, "shape", dict, "tools.yaml"), dict.fromkeys(_SHAPE, int), "shape in tools.yaml")
    keys, head_dim = shape["keys"], shape["head_dim"]
    core = preset("default").override(rows=shape["rows"], lanes=shape["lanes"])
    tools = (checked(tool, _KINDS, "tools in tools.yaml") for tool in required(content, "tools", list, "tools.yaml"))
    return Comparison(
        workload=Workload(f"one head, {keys} keys, d = {head_dim}", heads=1, head_dim=head_dim, layers=1, length=keys),
        hardware=Hardware(core),
        tools=tuple(Tool(**tool) for tool in tools),
    )


def ask(tool: Tool, python: Path) -> Tool:
    """Return what a tool answers today.

    Parameters
    ----------
    tool : Tool
        The tool and what it was asked.
    python : pathlib.Path
        The Python of an environment that holds it.

    Raises
    ------
    InputError
        If it can't be run, fails, or its answer can't be read.
    """
    version = _output(tool, python, "-c", _VERSION, tool.package).strip()
    with tempfile.TemporaryDirectory() as folder:
        answer = _zigzag if tool.dataflow is None else _scalesim
        try:
            return replace(tool, version=version, cycles=answer(tool, python, Path(folder)))
        except InputError:
            raise
        except (OSError, ValueError, LookupError) as error:
            raise InputError(f"{tool.name} runs with {python}, but its answer can't be read: {error}") from error


def _output(tool: Tool, python: Path, *arguments: object, cwd: Path | None = None) -> str:
    """Return what a run of `python` prints."""
    try:
        command = [str(python.absolute()), *map(str, arguments)]
        ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"{python} can't be run: {error.strerror}") from error
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise InputError(f"{tool.name} fails with {python}: {last}")
    return ran.stdout


def _zigzag(tool: Tool, python: Path, folder: Path) -> int:
    inputs = [FOLDER / f"zigzag_{name}.yaml" for name in ("workload", "accelerator", "mapping")]
    printed = _output(tool, python, "-c", _ZIGZAG, *inputs, cwd=folder)
    return int(json.loads(printed.splitlines()[-1])["cycles"])


def _scalesim(tool: Tool, python: Path, folder: Path) -> int:
    config, topology = folder / "scalesim.cfg", FOLDER / "scalesim_topology.csv"
    config.write_text((FOLDER / "scalesim.cfg").read_text().replace("{dataflow}", str(tool.dataflow)))
    files = ("-c", config, "-t", topology, "-l", topology)
    _output(tool, python, "-m", "scalesim.scale", *files, "-i", "gemm", "-s", "N", "-p", folder / "out", cwd=folder)
    with (folder / "out" / "head" / "COMPUTE_REPORT.csv").open(newline="") as report:
        return sum(int(float(layer["Total Cycles"])) for layer in csv.DictReader(report, skipinitialspace=True))
