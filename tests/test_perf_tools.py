"""Other performance models' answers beside this one's: the table, the inputs, and running the tools again."""

import csv
import sys
from pathlib import Path

import yaml

from perf_model.__main__ import main
from perf_model.tools import FOLDER, load_comparison

STUB = f"""#!{sys.executable} -IS
# Stands in for the Python of the tools' environment.
import os, pathlib, sys

arguments = sys.argv[1:]
if "importlib.metadata" in arguments[1] and "version" in arguments[1]:
    print({{"zigzag-dse": "3.9.1", "scalesim": "3.0.0"}}[arguments[2]])
elif arguments[0] == "-c":
    if FAILS:
        sys.exit("ValueError: no mapping")
    if SILENT:
        sys.exit()
    assert all(pathlib.Path(path).exists() for path in arguments[2:5])
    print("a log line")
    print('{{"cycles": 131184.0}}')
else:
    options = dict(zip(arguments[2::2], arguments[3::2]))
    config = pathlib.Path(options["-c"]).read_text()
    (dataflow,) = (line.split(" = ")[1] for line in config.splitlines() if line.startswith("Dataflow"))
    assert pathlib.Path(options["-t"]).exists()
    folder = pathlib.Path(options["-p"]) / "head"
    folder.mkdir(parents=True)
    half = CYCLES[dataflow] // 2
    rest = CYCLES[dataflow] - half
    (folder / "COMPUTE_REPORT.csv").write_text(
        "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles,\\n"
        f"0, 99999, {{half}}, 0,\\n1, 99999, {{rest}}, 0,\\n"
    )
"""


def stub(folder: Path, fails: bool = False, silent: bool = False, **changes: int) -> str:
    """Write a Python that answers as the tools are stored to, but for the dataflows in `changes`."""
    stored = {tool.dataflow: tool.cycles for tool in load_comparison().tools if tool.dataflow}
    path = folder / "python"
    text = STUB
    for name, value in {"FAILS": fails, "SILENT": silent, "CYCLES": stored | changes}.items():
        text = text.replace(name, str(value))
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_the_inputs_are_of_the_shape_that_the_answers_are_for():
    comparison = load_comparison()
    keys, head_dim = comparison.workload.length, comparison.workload.head_dim
    rows, lanes = comparison.hardware.core.rows, comparison.hardware.core.lanes
    layers = yaml.safe_load((FOLDER / "zigzag_workload.yaml").read_text())
    sizes = [dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True)) for layer in layers]
    assert sizes == [{"B": keys, "C": head_dim, "K": keys}, {"B": keys, "C": keys, "K": head_dim}]
    accelerator = yaml.safe_load((FOLDER / "zigzag_accelerator.yaml").read_text())
    assert accelerator["operational_array"]["sizes"] == [rows, lanes]
    (mapping,) = yaml.safe_load((FOLDER / "zigzag_mapping.yaml").read_text())
    assert mapping["spatial_mapping"] == {"D1": [f"B, {rows}"], "D2": [f"C, {lanes}"]}
    with (FOLDER / "scalesim_topology.csv").open(newline="") as file:
        layers = [tuple(int(layer[name]) for name in "MNK") for layer in csv.DictReader(file, skipinitialspace=True)]
    assert layers == [(keys, keys, head_dim), (keys, head_dim, keys)]
    config = (FOLDER / "scalesim.cfg").read_text()
    assert f"ArrayHeight = {rows}\nArrayWidth = {lanes}\n" in config
    pins = (FOLDER / "requirements.txt").read_text().splitlines()
    assert {f"{tool.package}=={tool.version}" for tool in comparison.tools} <= set(pins)


def test_the_table_has_the_ideal_this_model_and_the_tools(capsys):
    assert main(["tools"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("one head, 512 keys, d = 64, 16 x 16 multipliers, streams never stalled\n")
    cells = {line.split(":")[0]: line.split() for line in text.splitlines() if line.endswith("%")}
    cycles = {name: int(words[-4].replace(",", "")) for name, words in cells.items()}
    assert cycles["ideal"] == 2 * 512 * 512 * 64 // 256
    assert cycles["perf_model, exact"] == cycles["perf_model, closed form"] == 131_470
    assert cycles["ZigZag 3.9.1"] == 131_184
    assert "142,846" in text
    assert text.count("SCALE-Sim 3.0.0") == 3
    assert cells["perf_model, exact"][-1] == "99.70%"
    assert "arXiv 2504.15377" in text


def test_tools_run_again_give_what_is_stored(tmp_path: Path, capsys):
    assert main(["tools", "--rerun", stub(tmp_path)]) == 0
    text, progress = capsys.readouterr()
    assert text.count("as stored") == 4
    assert progress.startswith("1 of 4: ZigZag, ")


def test_another_answer_is_told_and_fails(tmp_path: Path, capsys):
    assert main(["tools", "--rerun", stub(tmp_path, ws=142_847)]) == 1
    text = capsys.readouterr().out
    assert text.count("as stored") == 3
    assert "weight stationary: 142,847 in" in text
    assert "stored are 142,846 of 3.0.0" in text


def test_tools_that_fail_are_one_sentence(tmp_path: Path, capsys):
    assert main(["tools", "--rerun", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith(f"error: {tmp_path / 'none'} can't be run: No such file or directory\n")
    python = stub(tmp_path, fails=True)
    assert main(["tools", "--rerun", python]) == 2
    assert capsys.readouterr().err.endswith(f"error: ZigZag fails with {python}: ValueError: no mapping\n")
    python = stub(tmp_path, silent=True)
    assert main(["tools", "--rerun", python]) == 2
    expected = f"error: ZigZag runs with {python}, but its answer can't be read: list index out of range\n"
    assert capsys.readouterr().err.endswith(expected)
