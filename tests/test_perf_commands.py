"""The command line of the performance model: what it prints and writes, and what it says of bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_perf_plots import CONTENT

from perf_model.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


def test_without_arguments_it_prints_the_table_of_a_default_workload(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "BERT-base" in text
    assert "256 multipliers" in text
    for row in ("cycles", "utilisation", "bytes on v", "DRAM traffic", "energy: softmax", "energy: all"):
        assert f"\n{row}" in text
    (rates,) = (line.split() for line in text.splitlines() if line.startswith("keys that survive"))
    assert rates[-3:] == ["100%", "70%", "40%"]


def test_it_runs_as_a_module():
    ran = subprocess.run([sys.executable, "-m", "perf_model"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "BERT-base" in ran.stdout


def test_estimate_writes_json(tmp_path: Path, capsys):
    out = tmp_path / "new" / "out.json"
    options = ["--workload", "gpt2", "--preset", "small", "--survival", "0.5", "--length", "100", "--batch", "2"]
    options += ["--clock-mhz", "100", "--technology", "7 nm", "--dram", "ddr3", "--scratchpad-kib", "0"]
    assert main(["estimate", *options, "--json", str(out)]) == 0
    (result,) = json.loads(out.read_text())
    assert result["workload"]["length"] == 100
    assert result["hardware"]["core"]["rows"] == 8
    assert result["seconds"] == pytest.approx(result["cycles"] / 100e6)
    assert result["bytes"]["q"] == 2 * 12 * 12 * 100 * 64
    assert result["energy_pj"]["dram"] == pytest.approx(result["dram_bytes"] * 8 * 70)
    assert result["energy_sources"]["dram"]["source"]
    assert f"{result['cycles']:,}" in capsys.readouterr().out


def test_estimate_takes_a_memory(capsys):
    assert main(["estimate", "--length", "64"]) == 0
    free = capsys.readouterr().out
    assert main(["estimate", "--length", "64", "--bandwidth", "12.5", "--latency", "30", "--outstanding", "8"]) == 0
    slow = capsys.readouterr().out
    assert "never stalled" in free
    assert "12.5 bytes a cycle, values after 30 cycles, 8 rows outstanding" in slow
    cycles = [
        next(int(line.split()[1].replace(",", "")) for line in text.splitlines() if line.startswith("cycles"))
        for text in (free, slow)
    ]
    assert cycles[1] > 1.2 * cycles[0]


def test_estimate_takes_files(tmp_path: Path, capsys):
    (tmp_path / "w.yaml").write_text("name: mine\nheads: 1\nhead_dim: 16\nlayers: 1\nlength: 8\n")
    (tmp_path / "h.yaml").write_text("name: edge\npreset: tiny\nclock_mhz: 20\n")
    assert main(["estimate", "--workload", str(tmp_path / "w.yaml"), "--hardware", str(tmp_path / "h.yaml")]) == 0
    text = capsys.readouterr().out
    assert "mine: 1 layers" in text
    assert "edge: 4 x 4 = 16 multipliers, 20 MHz" in text


def test_plot_writes_and_names_its_files(tmp_path: Path, capsys):
    (tmp_path / "summary.json").write_text(json.dumps(CONTENT))
    assert main(["plot", "--measured", str(tmp_path / "summary.json"), "-o", str(tmp_path / "plots")]) == 0
    named = capsys.readouterr().out.splitlines()
    assert sorted(named) == sorted(str(path) for path in (tmp_path / "plots").iterdir())
    assert len(named) == 6


def test_bench_prints_a_rate(capsys):
    assert main(["bench"]) == 0
    text = capsys.readouterr().out
    assert "design points a second" in text
    assert text.count("million core cycles a second") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "--workload", "bart"], "there is no workload 'bart'"),
        (["estimate", "--workload", "none.yaml"], "none.yaml can't be read"),
        (["estimate", "--preset", "huge"], "there is no preset 'huge'"),
        (["estimate", "--hardware", "none.yaml"], "none.yaml can't be read"),
        (["estimate", "--survival", "0"], "the survival rate must be above 0"),
        (["estimate", "--survival", "nan"], "the survival rate must be above 0"),
        (["estimate", "--phase", "training"], "phase of workload 'BERT-base' must be prefill or decode"),
        (["estimate", "--clock-mhz", "-3"], "clock_mhz must be above 0"),
        (["estimate", "--technology", "3 nm"], "technology must be one of"),
        (["estimate", "--dram", "tape"], "dram must be one of"),
        (
            ["estimate", "--workload", "llama-3-8b"],
            "head_dim of workload 'Llama-3-8B' is 128; this core holds at most 64",
        ),
        (["estimate", "--length", "100000"], "length of workload 'BERT-base' is 100000"),
        (["estimate", "--bandwidth", "0"], "bandwidth must be from 1/256"),
        (["estimate", "--length", "40000", "--latency", "2"], "too long to be followed with a memory"),
        (["estimate", "--json", "{blocked}/out.json"], "can't be written"),
        (["plot", "--measured", "none.json", "-o", "plots"], "none.json can't be read"),
        (["plot", "--measured", "{summary}", "-o", "{blocked}/plots"], "can't be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys, arguments: list[str], message: str):
    (tmp_path / "blocked").write_text("a file, so no folder can be made of it")
    (tmp_path / "summary.json").write_text(json.dumps(CONTENT))
    places = {"blocked": tmp_path / "blocked", "summary": tmp_path / "summary.json"}
    assert main([argument.format(**places) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["plot"],
        ["estimate", "--length", "0"],
        ["estimate", "--scratchpad-kib", "x"],
        ["estimate", "--survival", "x"],
    ],
)
def test_options_that_don_t_parse_end_with_exit_code_2(capsys, arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
