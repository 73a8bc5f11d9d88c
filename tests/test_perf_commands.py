"""The command line of the performance model: what it prints and writes, and what it says of bad input."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_perf_plots import CONTENT

import perf_model.plots
from golden.block_mask import BlockMask, save_block_masks
from perf_model.__main__ import main
from perf_model.hardware import brought_hardware
from perf_model.plots.accuracy import accuracy

ROOT = Path(__file__).resolve().parent.parent
CAPTURE = str(ROOT / "golden" / "data" / "minilm_l3_128.npz")


def estimated(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Return what `estimate` prints as JSON with these options."""
    assert main(["estimate", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Return a file with a block mask of one layer: two heads, four blocks of eight tokens, half of them open."""
    allowed = np.zeros((2, 4, 4), dtype=bool)
    allowed[:, :, :2] = True
    return save_masks(tmp_path / "masks.npz", {0: BlockMask(allowed, 8, 8)})


def save_masks(path: Path, masks: dict[int, BlockMask]) -> Path:
    save_block_masks(path, masks)
    return path


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
    assert {part: result["energy_pj"][part]["dram"] for part in ("least", "most")} == {
        part: pytest.approx(value * 8 * result["dram_bytes"]) for part, value in (("least", 20.3125), ("most", 70))
    }
    assert [source["value"] for source in result["energy_sources"]["dram"]] == [70, 20.3125, 40.625]
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


@pytest.mark.parametrize("name", brought_hardware())
def test_hardware_goes_by_its_name(capsys, name: str):
    (result,) = estimated(capsys, "--hardware", name, "--length", "100", "--survival", "0.5")
    assert result["hardware"]["name"] == name
    (other,) = estimated(capsys, "--hardware", name, "--length", "100", "--survival", "0.5", "--technology", "16 nm")
    assert other["cycles"] == result["cycles"]
    assert other["energy_pj"]["qk"] != result["energy_pj"]["qk"]


def test_lengths_may_be_ragged_and_queries_a_chunk(capsys):
    (ragged,) = estimated(capsys, "--length", "64", "900", "200", "--phase", "decode", "--survival", "1")
    assert ragged["workload"]["length"] == [64, 900, 200]
    assert ragged["bytes"]["k"] == 12 * 12 * (64 + 900 + 200) * 64
    single = [estimated(capsys, "--length", n, "--phase", "decode", "--survival", "1")[0] for n in ("64", "900", "200")]
    assert ragged["macs"] == sum(each["macs"] for each in single)
    assert main(["estimate", "--length", "64", "900", "200", "--phase", "decode"]) == 0
    assert "decode of 3 sequences of 64 to 900 tokens, no mask" in capsys.readouterr().out
    (chunk,) = estimated(capsys, "--length", "100", "--chunk", "7", "--survival", "1")
    assert chunk["macs"] == 12 * 12 * 7 * 100 * 2 * 64


def test_cores_share_the_work_by_a_rule(capsys):
    options = ["--workload", "llama-3-8b", "--hardware", "server-7nm", "--phase", "decode", "--survival", "1"]
    options += ["--length", "8000", "--cores", "11"]
    (whole,) = estimated(capsys, *options, "--partition", "whole")
    (lean,) = estimated(capsys, *options, "--partition", "lean")
    assert lean["cycles"] < 0.9 * whole["cycles"]
    assert lean["macs"] == whole["macs"]
    assert main(["estimate", *options, "--partition", "lean"]) == 0
    assert "partition lean, tiles of 64 keys" in capsys.readouterr().out


def test_a_trace_drives_the_model_with_golden_s_survivors(capsys):
    (dense,) = estimated(capsys, "--trace", CAPTURE)
    assert (dense["cycles"], dense["cycles_by"], dense["survival"]) == (49358, "exact", 1)
    (kept,) = estimated(capsys, "--trace", CAPTURE, "--tau", "4")
    assert kept["cycles"] < dense["cycles"]
    assert (kept["bytes"]["k"], kept["dense_macs"]) == (dense["bytes"]["k"], dense["dense_macs"])
    assert kept["bytes"]["v"] < 0.5 * dense["bytes"]["v"]
    (causal,) = estimated(capsys, "--trace", CAPTURE, "--causal", "--tau", "4")
    assert causal["dense_macs"] < 0.6 * dense["dense_macs"]
    (window,) = estimated(capsys, "--trace", CAPTURE, "--window", "16", "--target", "0.3")
    assert window["dense_macs"] < 0.3 * dense["dense_macs"]
    assert window["survival"] < 1
    ways = estimated(capsys, "--trace", CAPTURE, "--epsilon", "0.01", "--baselines")
    assert [way["method"].split(",")[0] for way in ways] == ["unfused", "FLAT", "FlashAttention", "golden"]
    assert ways[2]["cycles"] == dense["cycles"]


def test_a_trace_takes_block_masks(tmp_path: Path, capsys):
    blocks = BlockMask(np.tri(8, dtype=bool)[None].repeat(12, axis=0), 16, 16)
    masks = save_masks(tmp_path / "masks.npz", {3: blocks})
    (dense,), (masked,) = (
        estimated(capsys, "--trace", CAPTURE, *options) for options in ((), ("--block-mask", str(masks)))
    )
    assert masked["bytes"]["k"] == dense["bytes"]["k"] * np.tri(8).mean()


def test_baselines_are_lines_of_a_table(masks: Path, capsys):
    options = ["--workload", "gpt2", "--length", "128", "--hardware", "edge-22nm", "--baselines", "--survival", "0.4"]
    assert main(["estimate", *options, "--cores", "4"]) == 0
    head, *lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert head.startswith("method")
    names = ["unfused", "FLAT", "FlashAttention", "threshold", "static mask", "lean on 4 cores", "lean on 4 cores"]
    assert [line.startswith(name) for line, name in zip(lines, names, strict=True)] == [True] * 7
    dense, _, static = estimated(capsys, *options, "--streamed", "0.25")[2:]
    assert (dense["method"], static["method"]) == ("FlashAttention, dense", "static mask, 25% streamed")
    assert static["bytes"]["k"] == pytest.approx(0.25 * dense["bytes"]["k"], rel=0.1)


def test_a_workload_takes_a_block_mask(tmp_path: Path, masks: Path, capsys):
    (tmp_path / "w.yaml").write_text("name: mine\nheads: 2\nhead_dim: 16\nlayers: 3\nlength: 32\n")
    options = ["--workload", str(tmp_path / "w.yaml"), "--preset", "small", "--survival", "1", "0.5"]
    free = estimated(capsys, *options)
    masked = estimated(capsys, *options, "--block-mask", str(masks))
    assert [each["bytes"]["k"] for each in masked] == [each["bytes"]["k"] / 2 for each in free]
    ways = estimated(capsys, *options, "--block-mask", str(masks), "--baselines")
    assert [way["bytes"]["k"] for way in ways if way["method"].startswith("static")] == [masked[0]["bytes"]["k"]]


def test_peers_prints_a_line_a_case_and_the_sources(capsys):
    assert main(["peers"]) == 0
    table, sources = capsys.readouterr().out.split("\nSources:\n")
    assert {line.split()[0] for line in table.splitlines()[1:]} >= {"ITA", "FuseMax", "SpAtten", "Sanger", "PADE"}
    assert "arXiv 2307.03493" in sources


def test_plot_writes_and_names_its_files(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(perf_model.plots, "PLOTS", {"first": accuracy, "second": accuracy})
    (tmp_path / "summary.json").write_text(json.dumps(CONTENT))
    summary = str(tmp_path / "summary.json")
    assert main(["plot", "--measured", summary, summary, "-o", str(tmp_path / "plots")]) == 0
    named = capsys.readouterr().out.splitlines()
    assert sorted(named) == sorted(str(path) for path in (tmp_path / "plots").iterdir())
    assert len(named) == 4


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
        (["estimate", "--preset", "huge"], "there is no hardware 'huge'"),
        (["estimate", "--hardware", "huge"], "there is no hardware 'huge'"),
        (["estimate", "--hardware", "none.yaml"], "none.yaml can't be read"),
        (["estimate", "--survival", "0"], "the survival rate must be above 0"),
        (["estimate", "--survival", "nan"], "the survival rate must be above 0"),
        (["estimate", "--phase", "training"], "phase of workload 'BERT-base' must be prefill or decode"),
        (["estimate", "--clock-mhz", "-3"], "clock_mhz must be from 0.001"),
        (["estimate", "--technology", "3 nm"], "technology must be one of"),
        (["estimate", "--dram", "tape"], "dram must be one of"),
        (
            ["estimate", "--workload", "llama-3-8b"],
            "head_dim of workload 'Llama-3-8B' is 128; this core holds at most 64",
        ),
        (["estimate", "--length", "100000"], "length of workload 'BERT-base' is 100000"),
        (["estimate", "--bandwidth", "0"], "bandwidth must be from 1/256"),
        (["estimate", "--json", "{blocked}/out.json"], "blocked is a file; a folder is needed"),
        (["estimate", "--trace", "none.npz"], "none.npz can't be read"),
        (["estimate", "--tau", "3"], "--tau goes with --trace"),
        (["estimate", "--causal"], "--causal goes with --trace"),
        (["estimate", "--subtract-key-mean"], "--subtract-key-mean goes with --trace"),
        (["estimate", "--trace", CAPTURE, "--survival", "1"], "--survival does not go with --trace"),
        (["estimate", "--trace", CAPTURE, "--workload", "gpt2"], "--workload does not go with --trace"),
        (["estimate", "--trace", CAPTURE, "--subtract-key-mean"], "k is int8 already"),
        (["estimate", "--trace", CAPTURE, "--tau", "-1"], "tau must be from 1.0"),
        (["estimate", "--trace", CAPTURE, "--block-mask", "{masks}"], "has masks of layer 0, not of 3"),
        (["estimate", "--block-mask", "{masks}"], "block mask"),
        (["estimate", "--block-mask", "{two}"], "has masks of layer 0, 1; a workload takes a file with one"),
        (["estimate", "--streamed", "0.5"], "--streamed goes with --baselines and without --block-mask"),
        (["estimate", "--baselines", "--streamed", "1.5"], "share of the keys streamed must be"),
        (["estimate", "--partition", "fair"], "partition must be one of lean"),
        (["estimate", "--dram-bandwidth", "0"], "dram_bandwidth must be from 1/256"),
        (["estimate", "--cores", "4097"], "cores must be from 1 to 4096"),
        (["estimate", "--cores", "2", "--batch", "3000"], "has 1152000 blocks of rows to list; at most 1048576 can be"),
        (["estimate", "--block-mask", "{masks}", "--batch", "3000"], "has 1152000 blocks of rows to list"),
        (["estimate", "--scratchpad-kib", "99999999999"], "scratchpad_kib"),
        (["plot", "--measured", "none.json", "-o", "plots"], "none.json can't be read"),
        (["plot", "--measured", "{summary}", "-o", "{blocked}/plots"], "can't be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, masks: Path, capsys, arguments: list[str], message: str
):
    (tmp_path / "blocked").write_text("a file, so no folder can be made of it")
    (tmp_path / "summary.json").write_text(json.dumps(CONTENT))
    blocks = BlockMask(np.ones((1, 2, 2), dtype=bool), 8, 8)
    places = {"blocked": tmp_path / "blocked", "summary": tmp_path / "summary.json", "masks": masks}
    places["two"] = save_masks(tmp_path / "two.npz", {0: blocks, 1: blocks})
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
        ["estimate", "--cores", "0"],
        ["estimate", "--preset", "tiny", "--hardware", "server-7nm"],
    ],
)
def test_options_that_don_t_parse_end_with_exit_code_2(capsys, arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
