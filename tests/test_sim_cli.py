"""``python -m sim``: what it prints and writes, what it says to bad input and to a core that is wrong."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perf_model.__main__
import sim
import sim.__main__
import sim.runner
import sim.simulate
import sim.sweep
from golden.block_mask import BlockMask, save_block_masks
from golden.cluster import ClusterJob
from golden.config import PRESETS, ClusterConfig
from golden.layer import LayerJobs, run_layer
from golden.masks import Mask, MaskKind
from golden.memory import Memory
from golden.quantise import QuantisedAttention
from golden.tensors import load_attention
from golden.threshold import Threshold
from perf_model.cluster import cluster_cycles
from rtl.interfaces import ArrayUse
from sim.__main__ import main
from sim.report import COLUMNS
from sim.runner import SimulationError
from sim.simulate import LayerRun, LayerWork, Measurement
from sim.soak import CONFIGS
from sim.sweep import MEMORY

ROOT = Path(sim.__file__).parent.parent
TINY = PRESETS["tiny"]


def write(path: Path, shape: tuple[int, ...] = (6, 2, 9, 21, 13, 7), **arrays: object) -> Path:
    """Write random float32 tensors: query heads, kv heads, queries, keys, head_dim and value_dim as `shape` says."""
    heads, kv_heads, queries, keys, head_dim, value_dim = shape
    rng = np.random.default_rng(sum(shape))
    tensors = {
        "q": rng.normal(0, 2, (heads, queries, head_dim)).astype(np.float32),
        "k": rng.normal(0.4, 1, (kv_heads, keys, head_dim)).astype(np.float32),
        "v": rng.normal(0, 1, (kv_heads, keys, value_dim)).astype(np.float32),
    }
    np.savez(path, **(tensors | arrays))
    return path


def int8(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape).astype(np.int8)


def softmax_attention(attention: QuantisedAttention, mask: Mask) -> np.ndarray:
    """Return attention in float64, written here once more, over the real values of int8 tensors."""
    q, k, v = (
        tensor * np.repeat(scale, len(tensor) // attention.kv_heads)[:, None, None]
        for tensor, scale in (
            (attention.query, attention.query_scale),
            (attention.key, attention.key_scale),
            (attention.value, attention.value_scale),
        )
    )
    k, v = (np.repeat(tensor, attention.group, axis=0) for tensor in (k, v))
    position = np.arange(attention.queries)[:, None] + max(attention.keys - attention.queries, 0)
    behind = position - np.arange(attention.keys)[None, :]
    hidden = np.zeros(behind.shape, dtype=bool) if mask.kind == MaskKind.NONE else behind < 0
    if mask.kind == MaskKind.WINDOW:
        hidden |= behind >= mask.window
    logits = np.where(hidden, -np.inf, q @ k.transpose(0, 2, 1) * attention.softmax_scale)
    peak = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(peak), peak, 0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


def beats(elements: int) -> int:
    """Return the beats of four elements that a row takes on preset tiny."""
    return -(-elements // 4)


def expected_figures(result: LayerJobs, mask: Mask) -> dict[str, Any]:
    """Return what the JSON must say of a layer on preset tiny, by the numbers of its jobs alone."""
    attention = result.attended.attention
    head_dim, value_dim = attention.head_dim, attention.value_dim
    pairs = [(planned.job, job_result) for planned, job_result in zip(result.plan, result.results, strict=True)]
    rows = sum(job.rows for job, _ in pairs)
    keys = sum(job.keys for job, _ in pairs)
    kept = sum(int(r.survivors.sum()) for _, r in pairs)
    # A request for each survivor, and one that only ends the job where the last key is not among them.
    requests = kept + sum(not r.survivors[-1] for _, r in pairs)
    exact = softmax_attention(attention, mask)
    error = result.attended.real_output - exact
    packs = sum(-(-int(r.survivors.sum()) // 4) for _, r in pairs)
    # Where the last key is not kept and the packs are full, an empty one ends the job, in one cycle.
    empty_packs = sum(not r.survivors[-1] and r.survivors.sum() % 4 == 0 for _, r in pairs)
    pv_cycles = packs * value_dim + int(empty_packs)
    taus = [job.threshold.tau for job, _ in pairs]
    return {
        "taus_used": [None if tau == 65535 else tau / 64 for tau in (min(taus), max(taus))],
        "survivors": kept / keys,
        "saturated": int(result.attended.saturated.sum()),
        "jobs": attention.kv_heads * -(-attention.queries * attention.group // 4),
        "qk_cycles": keys * beats(head_dim),
        "pv_cycles": pv_cycles,
        "array_cycles": keys * beats(head_dim) + pv_cycles,
        "macs": sum(job.rows * (job.keys * head_dim + int(r.survivors.sum()) * value_dim) for job, r in pairs),
        "bytes": {
            "q": 4 * rows * beats(head_dim),
            "state": 0,
            "k": 4 * keys * beats(head_dim),
            "v_req": 4 * requests,
            "v": 4 * kept * beats(value_dim),
            "o": 2 * rows * value_dim,
        },
        "snr_db": pytest.approx(10 * np.log10(np.sum(exact**2) / np.sum(error**2)), abs=1e-6),
        "max_error": pytest.approx(np.abs(error).max(), rel=1e-6),
    }


CASES = {
    "grouped queries, fewer than keys, causal, thresholded": (
        (6, 2, 9, 21, 13, 7),
        {},
        ["--causal", "--tau", "3", "--subtract-key-mean"],
        {"mask": Mask(MaskKind.CAUSAL), "tau": 3.0, "subtract_key_mean": True},
    ),
    "more queries than keys, a window, stalls": (
        (3, 1, 11, 6, 13, 13),
        {"causal": True},
        ["--window", "4", "--stall", "0.4", "--seed", "3"],
        {"mask": Mask(MaskKind.WINDOW, 4), "stall": 0.4, "seed": 3},
    ),
    "a bound on what is lost, thresholded": (
        (4, 2, 6, 40, 8, 6),
        {},
        ["--epsilon", "0.2"],
        {"mask": Mask(), "epsilon": 0.2},
    ),
    "a target, thresholded block by block": (
        (4, 2, 21, 40, 8, 6),
        {},
        ["--target", "0.4", "--tau", "5", "--epsilon", "0.3", "--stall", "0.2"],
        {"mask": Mask(), "target": 0.4, "tau": 5.0, "epsilon": 0.3, "stall": 0.2},
    ),
    "int8 with scales that saturate, the mask of the file": (
        (4, 2, 7, 10, 5, 9),
        {
            "q": int8(4, 7, 5),
            "k": int8(2, 10, 5),
            "v": int8(2, 10, 9),
            "q_scale": np.array([0.6, 0.4]),
            "k_scale": 0.5,
            "v_scale": np.array([0.03, 0.01]),
            "causal": True,
        },
        [],
        {"mask": Mask(MaskKind.CAUSAL)},
    ),
    "static masks of blocks of 3 keys": (
        (4, 2, 10, 24, 8, 8),
        {},
        ["--causal"],
        {"mask": Mask(MaskKind.CAUSAL), "block_mask": BlockMask(np.arange(2 * 6 * 8).reshape(2, 6, 8) % 5 > 1, 4, 3)},
    ),
}


def estimate_of(file: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what the performance model says of a file that `main` has run on the tiny core with such options."""
    ours = arguments[: arguments.index("--stall")] if "--stall" in arguments else arguments
    assert perf_model.__main__.main(["estimate", "--preset", "tiny", "--trace", str(file), "--json", *ours]) == 0
    (estimate,) = json.loads(capsys.readouterr().out)
    return estimate


@pytest.mark.parametrize("case", CASES)
def test_anybodys_tensors_run_and_the_figures_are_those_of_golden(case, tmp_path, capsys):
    shape, arrays, arguments, asked = CASES[case]
    file, output = write(tmp_path / "x.npz", shape, **arrays), tmp_path / "new folder" / "out.json"
    if "block_mask" in asked:
        save_block_masks(tmp_path / "masks.npz", {0: asked["block_mask"]})
        arguments = [*arguments, "--block-mask", str(tmp_path / "masks.npz")]
    assert main(["run", "--preset", "tiny", "--input", str(file), "--json", str(output), *arguments]) == 0
    figures, printed = json.loads(output.read_text()), capsys.readouterr().out

    mask, tau, epsilon, target = asked["mask"], asked.get("tau"), asked.get("epsilon"), asked.get("target")
    attention = load_attention(file).quantise(asked.get("subtract_key_mean", False))
    result = run_layer(attention, TINY, mask, Threshold.of(tau, epsilon, target), asked.get("block_mask"))
    expected = expected_figures(result, mask) | {
        "config": TINY.to_dict(),
        "input": "x.npz",
        **dict(zip(("heads", "kv_heads", "queries", "keys", "head_dim", "value_dim"), shape, strict=True)),
        "causal": mask.kind != MaskKind.NONE,
        "window": mask.window or None,
        "tau": tau,
        "epsilon": epsilon,
        "target": target,
        "subtract_key_mean": asked.get("subtract_key_mean", False),
        "block_mask": "masks.npz" if "block_mask" in asked else None,
        "stall": asked.get("stall", 0.0),
        "seed": asked.get("seed", 0),
    }
    assert {name: figures[name] for name in expected} == expected
    assert set(figures) - set(expected) == {"cycles", "uses", "utilisation"}
    assert (figures["uses"]["qk"], figures["uses"]["pv"]) == (expected["qk_cycles"], expected["pv_cycles"])
    assert set(figures["uses"]) == {use.name.lower() for use in ArrayUse}
    assert figures["cycles"] > figures["array_cycles"]
    assert figures["utilisation"] == pytest.approx(figures["macs"] / (16 * figures["cycles"]))
    modelled = estimate_of(file, arguments, capsys)
    assert {name: modelled[name] for name in ("bytes", "macs")} == {name: figures[name] for name in ("bytes", "macs")}
    if "stall" not in asked:
        assert (modelled["cycles"], modelled["cycles_by"]) == (figures["cycles"], "exact")
    # The cases are what they say.
    assert (figures["saturated"] > 0) == ("saturate" in case)
    assert result.attended.dropped.any() == ("thresholded" in case)
    assert (len(set(figures["taus_used"])) > 1) == ("target" in case)
    whole = run_layer(attention, TINY, mask, Threshold.of(tau, epsilon, target)).attended.streamed.sum()
    assert (result.attended.streamed.sum() < whole) == ("static masks" in case)

    taus = dict.fromkeys("all" if used is None else f"{used:g}" for used in figures["taus_used"])
    assert printed.startswith("x.npz: equal to golden, bit for bit\n")
    for text in (
        f"core        4 x 4\n  jobs        {expected['jobs']}\n",
        f"SNR {figures['snr_db']:.1f} dB",
        f"saturated   {figures['saturated']} scores",
        f"tau         {' to '.join(taus)}, as the records say",
        f"survivors   {100 * figures['survivors']:.1f}% of the keys",
        f"cycles      {figures['cycles']}, first input beat",
        f"utilisation {100 * figures['utilisation']:.2f}%",
        f"q {expected['bytes']['q']}, k {expected['bytes']['k']}, v_req {expected['bytes']['v_req']}, ",
    ):
        assert text in printed


@pytest.mark.parametrize("masked", [False, True], ids=["", "block mask"])
def test_a_layer_on_a_cluster_has_the_bits_of_one_core_and_the_cycles_of_the_model(masked, tmp_path, capsys):
    """A causal prefill, whose jobs are of unequal lengths, on as many cores as take three of them each."""
    file = write(tmp_path / "x.npz", (4, 2, 10, 24, 9, 6))
    attention, mask, threshold = load_attention(file).quantise(), Mask(MaskKind.CAUSAL), Threshold.of(3)
    arguments = ["run", "--preset", "tiny", "--input", str(file), "--causal", "--tau", "3"]
    block_mask = None
    if masked:
        block_mask = CASES["static masks of blocks of 3 keys"][3]["block_mask"]
        save_block_masks(tmp_path / "masks.npz", {0: block_mask})
        arguments += ["--block-mask", str(tmp_path / "masks.npz")]
    output = tmp_path / "out.json"
    assert main([*arguments, "--cores", "3", "--json", str(output)]) == 0
    figures, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert "core        3-core 4 x 4\n" in printed

    config, result = ClusterConfig(TINY, 3), run_layer(attention, TINY, mask, threshold, block_mask)
    expected = expected_figures(result, mask) | {"config": config.to_dict()}
    assert {name: figures[name] for name in expected} == expected
    listed = [ClusterJob(planned.job) for planned in result.plan]
    cycles = cluster_cycles(config, listed, [found.survivors for found in result.results]).total
    assert figures["cycles"] == cycles < 0.5 * estimate_of(file, arguments[5:], capsys)["cycles"]
    assert figures["utilisation"] == pytest.approx(figures["macs"] / (16 * 3 * cycles))


def test_a_target_is_not_followed_from_core_to_core(tmp_path, capsys):
    file, output = write(tmp_path / "x.npz", (2, 1, 9, 20, 4, 4)), tmp_path / "out.json"
    output.write_text("precious")
    arguments = ["run", "--preset", "tiny", "--target", "0.5", "--cores", "2"]
    assert main([*arguments, "--input", str(file), "--json", str(output)]) == 2
    said = "error: a target is followed from job to job on one core: give a tau, or a single core\n"
    assert capsys.readouterr().err == said
    assert output.read_text() == "precious"


def test_an_output_without_error_has_no_snr_in_json(tmp_path, monkeypatch, capsys):
    """JSON has no infinity: of one key, whose value comes out exactly, the SNR is null."""
    stub_simulation(monkeypatch)
    file, output = write(tmp_path / "x.npz", (1, 1, 1, 1, 4, 4)), tmp_path / "x.json"
    assert main(["run", "--preset", "tiny", "--input", str(file), "--json", str(output)]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    figures = json.loads(output.read_text(), parse_constant=refuse)
    assert (figures["snr_db"], figures["max_error"]) == (None, 0)
    assert "SNR inf dB" in capsys.readouterr().out


def stub_simulation(monkeypatch) -> list[LayerWork]:
    """Put golden in the place of the simulator; return the list of the layers that it is to run."""
    layers = []

    def simulate_layers(wanted, config, **options):
        runs = []
        for layer in wanted:
            layers.append(layer)
            result = run_layer(layer.attention, config, layer.mask, layer.threshold)
            exact = softmax_attention(layer.attention, layer.mask)
            error = float(np.abs(result.attended.real_output - exact).max())
            moved = dict.fromkeys(("q", "state", "k", "v_req", "v", "o"), 8)
            measurement = Measurement(1000 + len(layers), dict.fromkeys(ArrayUse, 1), 100, 0.5, moved, [65535])
            runs.append(LayerRun(result, measurement, 30.0 if error else float("inf"), error))
        return runs

    for module in (sim.__main__, sim.sweep):
        monkeypatch.setattr(module, "simulate_layers", simulate_layers)
    return layers


def waves_of(printed: str) -> Path:
    """Return the path of the waves that a command printed."""
    found = re.search(r"^waves: (.+\.vcd)$", printed, re.MULTILINE)
    assert found, printed
    return Path(found[1])


def test_waves_are_written_and_their_path_is_printed(tmp_path, capsys):
    file = write(tmp_path / "x.npz", (1, 1, 2, 3, 4, 4))
    assert main(["run", "--preset", "tiny", "--input", str(file), "--waves"]) == 0
    waves = waves_of(capsys.readouterr().out)
    try:
        with waves.open() as content:
            header = content.read(100_000)
        assert "$enddefinitions" in header or "$var" in header
        assert "k__payload" in header
        assert waves.stat().st_size > 10_000
    finally:
        shutil.rmtree(waves.parent)


def test_a_core_that_differs_is_exit_code_1_and_says_where(tmp_path, monkeypatch, capsys):
    """Golden is made to expect something else, of query 1 of head 1: row 3 of a job of two heads."""

    def wrong(attention, config, mask, threshold, block_mask):
        result = run_layer(attention, config, mask, threshold, block_mask)
        output = result.results[0].output.copy()
        output[3, 2] += 5
        return replace(result, results=[replace(result.results[0], output=output), *result.results[1:]])

    monkeypatch.setattr(sim.simulate, "run_layer", wrong)
    file, output = write(tmp_path / "x.npz", (2, 1, 2, 3, 4, 4)), tmp_path / "x.json"
    output.write_text("precious")
    right = run_layer(load_attention(file).quantise(), TINY).results[0].output[3, 2]
    arguments = ["run", "--preset", "tiny", "--input", str(file), "--json", str(output), "--waves"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    # Waves are wanted most when something is wrong.
    waves = waves_of(captured.out)
    assert waves.stat().st_size > 0
    message = (
        "simulation failed: layer: head 0, 1 queries 0 to 1: output row 3 (head 1, query 1), element 2: "
        f"expected {right + 5}, saw {right} (1 differ) (log: {waves.parent / 'run.log'})"
    )
    assert captured.err.splitlines()[-1] == message
    assert "Traceback" not in captured.err
    assert "equal to golden" not in captured.out
    assert output.read_text() == "precious"
    shutil.rmtree(waves.parent)


def test_a_simulator_that_cannot_be_built_is_exit_code_1_and_names_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sim.runner, "BUILD_ROOT", tmp_path / "sim")
    monkeypatch.setattr(sim.runner, "generate", lambda config, top: "module lean_attention(; endmodule")
    file = write(tmp_path / "x.npz")
    for _ in range(2):  # A failed build is not taken for a simulator the next time.
        assert main(["run", "--preset", "tiny", "--input", str(file)]) == 1
        error = capsys.readouterr().err.splitlines()
        assert error[0] == "building the simulator of a 4 x 4 core"
        found = re.fullmatch(r"simulation failed: the simulator can't be built, see (.+/build\.log)", error[1])
        assert found, error
        assert "syntax error" in Path(found[1]).read_text()


def table_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a Markdown table by the names of its columns."""
    header, line, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.strip().splitlines()]
    assert set(line) == {"---:"}
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_values_without_an_array_are_captured_from_the_keys_where_the_core_can(tmp_path, capsys):
    rng = np.random.default_rng(8)
    file, output = tmp_path / "x.npz", tmp_path / "x.json"
    np.savez(file, q=rng.normal(size=(2, 3, 8)), k=rng.normal(size=(1, 21, 8)), value_dim=5)
    moved = {}
    for config in (CONFIGS["one row"], TINY):
        options = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_dict().items()]
        assert main(["run", *options, "--input", str(file), "--json", str(output)]) == 0
        assert "x.npz: equal to golden, bit for bit\n" in capsys.readouterr().out
        figures = json.loads(output.read_text())
        moved[config] = (figures["jobs"], figures["bytes"]["v_req"], figures["bytes"]["v"])
    assert moved == {CONFIGS["one row"]: (6, 6 * 4, 0), TINY: (2, 2 * 21 * 4, 2 * 21 * 8)}


def test_a_sweep_writes_three_files_that_agree(tmp_path, capsys):
    file = write(tmp_path / "x.npz", (3, 1, 2, 12, 13, 7))
    # The dot is no suffix; another file of that name stays.
    stem, other = tmp_path / "folder" / "up to 2.5", tmp_path / "folder" / "up to 2.json"
    other.parent.mkdir()
    other.write_text("precious")
    assert main(["sweep", "--preset", "tiny", "--input", str(file), "--causal", "--tau", "2.5", "-o", str(stem)]) == 0
    captured = capsys.readouterr()
    assert other.read_text() == "precious"

    summary = json.loads(Path(f"{stem}.json").read_text())
    markdown = Path(f"{stem}.md").read_text()
    with Path(f"{stem}.csv").open(newline="") as lines:
        table = list(csv.DictReader(lines))
    assert captured.out.rstrip() == markdown.rstrip()

    attention, mask = load_attention(file).quantise(), Mask(MaskKind.CAUSAL)
    for tau, point in zip((None, 2.5), summary["points"], strict=True):
        expected = expected_figures(run_layer(attention, TINY, mask, Threshold.of(tau)), mask)
        assert {name: point[name] for name in ("tau", *expected)} == {"tau": tau, **expected}
    assert summary["points"][1]["survivors"] < 1
    for name, value in {
        "config": TINY.to_dict(),
        "input": "x.npz",
        "heads": 3,
        "kv_heads": 1,
        "queries": 2,
        "keys": 12,
        "head_dim": 13,
        "value_dim": 7,
        "causal": True,
        "window": None,
    }.items():
        assert summary[name] == value
    fastest = {(2, None): summary["points"][0]["cycles"]}
    for run, (queries, tau, memory) in zip(
        summary["runs"],
        [(2, 6.0, None), (1, None, None), (1, 6.0, None)]
        + [(queries, tau, asdict(MEMORY)) for queries in (2, 1) for tau in (None, 6.0)],
        strict=True,
    ):
        layer = replace(attention, query=attention.query[:, -queries:])
        expected = expected_figures(run_layer(layer, TINY, mask, Threshold.of(tau)), mask)
        expected |= {"input": "x.npz", "heads": 3, "kv_heads": 1, "queries": queries, "keys": 12, "causal": True}
        expected |= {"tau": tau, "memory": memory}
        assert {name: run[name] for name in expected} == expected
        assert (run["cycles"] > fastest.setdefault((queries, tau), run["cycles"])) == (memory is not None)

    rows = table_rows(markdown)
    assert len(rows) == len(table) == len(summary["points"])
    for point, row, line in zip(summary["points"], rows, table, strict=True):
        assert list(line) == list(COLUMNS)
        assert list(row) == list(COLUMNS.values())
        values = {**point, "value_bytes": point["bytes"]["v"]}
        assert line == {name: "" if values[name] is None else str(values[name]) for name in COLUMNS}
        assert row == {
            "tau (bits)": "all" if point["tau"] is None else "2.5",
            "SNR (dB)": f"{point['snr_db']:.1f}",
            "largest error": f"{point['max_error']:.3g}",
            "survivors": f"{100 * point['survivors']:.1f}%",
            "cycles": str(point["cycles"]),
            "utilisation": f"{100 * point['utilisation']:.1f}%",
            "value bytes": str(point["bytes"]["v"]),
        }


def test_a_sweep_also_runs_the_input_cut_short_and_a_decoder_with_one_query(tmp_path, monkeypatch):
    layers = stub_simulation(monkeypatch)
    file = write(tmp_path / "x.npz", (2, 1, 20, 40, 4, 4))
    decoder = write(tmp_path / "y.npz", (4, 2, 20, 20, 8, 8), window=6)
    arguments = ["--input", str(file), "--decode", str(decoder), "--tau", "6", "4"]
    for output in ("summary", "summary.md"):
        layers.clear()
        assert main(["sweep", "--preset", "tiny", *arguments, "-o", str(tmp_path / output)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = ["summary.csv", "summary.json", "summary.md", "x.npz", "y.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [point["tau"] for point in summary["points"]] == [None, 6.0, 4.0]
    free = [("x.npz", 16, 16), ("x.npz", 20, 32), ("y.npz", 1, 16), ("y.npz", 1, 20)]
    slow = [("x.npz", 20, 40), ("y.npz", 1, 20)]
    wanted = [(*shape, tau, None) for shape in free for tau in (None, 6.0)]
    wanted += [(*shape, tau, asdict(MEMORY)) for shape in slow for tau in (None, 6.0)]
    described = [tuple(run[name] for name in ("input", "queries", "keys", "tau", "memory")) for run in summary["runs"]]
    assert described == wanted
    assert [(run["causal"], run["window"]) for run in summary["runs"][3:5]] == [(False, None), (True, 6)]

    assert [layer.memory for layer in layers] == [Memory()] * 11 + [MEMORY] * 4
    assert [layer.threshold for layer in layers[:3]] == [Threshold.of(tau) for tau in (None, 6.0, 4.0)]
    whole, cut, step = (layers[n].attention for n in (0, 3, 7))
    assert (cut.queries, cut.keys) == (16, 16)
    assert np.array_equal(cut.key, whole.key[:, :16])
    assert np.array_equal(cut.value, whole.value[:, :16])
    expected = load_attention(decoder).quantise()
    assert np.array_equal(step.query, expected.query[:, 15:16])
    assert step.positions.tolist() == [15]
    assert np.array_equal(step.key, expected.key[:, :16])
    assert layers[7].mask == Mask(MaskKind.WINDOW, 6)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function that expects a command to refuse its input with one sentence, before anything is simulated."""

    def run_bench(*arguments: object) -> None:
        raise AssertionError("this input was simulated")

    monkeypatch.setattr(sim.simulate, "run_bench", run_bench)

    def check(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        # One sentence; no Traceback, whose lines are many.
        assert re.fullmatch(r"error: [^\n]+\n", captured.err), captured.err
        return captured.err.removeprefix("error: ").rstrip()

    return check


NAN = np.full((2, 21, 7), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("arguments", "arrays", "sentence"),
    [
        ([], {"q": np.ones((6, 13))}, "q must have three axes, heads x length x dimension, not shape (6, 13)"),
        ([], {"q": np.ones((6, 9, 12))}, "q and k must have the same dimension, not 12 and 13"),
        ([], {"q": np.ones((5, 9, 13))}, "the heads of q must be a multiple of those of k, not 5 and 2"),
        ([], {"v": np.ones((3, 21, 7))}, "k and v must have the same number of heads, not 2 and 3"),
        ([], {"v": np.ones((2, 20, 7))}, "k and v must have the same length, not 21 and 20"),
        ([], {"v": np.ones((2, 21, 0))}, "v must have at least one head, row and element, not shape (2, 21, 0)"),
        ([], {"v": NAN}, "v holds values that are not finite"),
        ([], {"v": np.where(np.isnan(NAN), np.inf, 0)}, "v holds values that are not finite"),
        ([], {"q": np.ones((6, 9, 13), dtype=int)}, "q must be float16, float32, float64 or int8, not int64"),
        ([], {"q": np.array([{}])}, "array q of {file} holds Python objects or is damaged"),
        ([], {"q_scale": 0.5}, "a scale was given for q, which is float32; only int8 tensors bring their scale"),
        ([], {"v": int8(2, 21, 7), "v_scale": 0.0}, "the scales of v must be finite and above 0"),
        (
            [],
            {"v": int8(2, 21, 7), "v_scale": np.ones(3)},
            "the scale of v must be one number or one per kv head (2), not (3,)",
        ),
        ([], {"softmax_scale": -1.0}, "softmax_scale must be finite and above 0, not -1"),
        ([], {"window": 2.5}, "array window of {file} must be a whole number, not 2.5"),
        (
            ["--subtract-key-mean"],
            {"k": int8(2, 21, 13)},
            "the mean over keys can only be subtracted before quantising",
        ),
        (["--tau", "0.99"], {}, "tau must be from 1.0 to 1023.96875 bits, not 0.99"),
        (["--tau", "1024"], {}, "tau must be from 1.0 to 1023.96875 bits, not 1024.0"),
        (["--tau=-4"], {}, "tau must be from 1.0 to 1023.96875 bits, not -4.0"),
        (["--tau", "nan"], {}, "tau must be from 1.0 to 1023.96875 bits, not nan"),
        (["--tau", "inf"], {}, "tau must be from 1.0 to 1023.96875 bits, not inf"),
        (["--stall=-0.1"], {}, "stall must be a probability from 0 to below 1, not -0.1"),
        (["--stall", "1"], {}, "stall must be a probability from 0 to below 1, not 1.0"),
        (["--stall", "nan"], {}, "stall must be a probability from 0 to below 1, not nan"),
        (["--preset", "huge"], {}, "there is no preset 'huge'; presets are tiny, small, default, wide"),
        (["--lanes", "5"], {}, "lanes must be a power of two from 4 to 64, not 5"),
        (["--rows", "0"], {}, "rows must be from 1 to 64, not 0"),
        (["--rows", "3", "--rows-per-scaler", "2"], {}, "rows_per_scaler must be a divisor of rows (3), not 2"),
        (
            [],
            {"q": np.ones((6, 9, 65)), "k": np.ones((2, 21, 65))},
            "head_dim is 65; this configuration holds at most 64",
        ),
        ([], {"v": np.ones((2, 21, 65))}, "value_dim is 65; this configuration holds at most 64"),
        (["--max-keys", "16"], {}, "keys is 21; this configuration holds at most 16"),
        (["--window", "70000"], {}, "window is 70000; this configuration holds at most 65536"),
        (["--epsilon", "1"], {}, "epsilon must be from 3.1e-05 to below 1, not 1.0"),
        (["--target", "0"], {}, "target must be above 0 and below 1, not 0.0"),
        (
            ["--epsilon", "0.1", "--rows-per-budget", "0"],
            {},
            "this configuration has no error bound: rows_per_budget is 0",
        ),
        (
            ["--target", "0.5", "--target-control", "0"],
            {},
            "this configuration can't follow a target: target_control is 0",
        ),
    ],
)
def test_bad_tensors_and_values_are_one_sentence_and_exit_code_2(arguments, arrays, sentence, tmp_path, refused):
    file, output = write(tmp_path / "x.npz", **arrays), tmp_path / "x.json"
    output.write_text("precious")
    message = refused("run", "--preset", "tiny", "--input", file, "--json", output, *arguments)
    assert message.startswith(sentence.format(file=file))
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.npz", None, "{file} can't be read: No such file or directory"),
        ("text.npz", b"1 2 3\n", "{file} is not a NumPy .npz file"),
        ("empty.npz", b"", "{file} is not a NumPy .npz file"),
        ("array.npy", np.ones(3), "{file} is a single array; an .npz file with arrays q, k and v is needed"),
        ("partial.npz", {"q": np.ones((1, 2, 4)), "k": np.ones((1, 2, 4))}, "{file} has no array v; it has q, k"),
        ("folder", "folder", "{file} can't be read: Is a directory"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_bad_file_is_one_sentence_and_exit_code_2(command, name, content, sentence, tmp_path, refused):
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(file, content)
    elif isinstance(content, dict):
        np.savez(file, **content)
    elif content == "folder":
        file.mkdir()
    output = {"run": [], "sweep": ["-o", tmp_path / "summary"]}[command]
    assert refused(command, "--preset", "tiny", "--input", file, *output) == sentence.format(file=file)
    assert not list(tmp_path.glob("summary*"))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/x", "is a file; a folder is needed"),
        ("file/folder/x", "can't be written: Not a directory"),
        ("folder", "can't be written: Is a directory"),
        ("long" * 80, "can't be written: File name too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_simulation(place, reason, tmp_path, refused):
    file = write(tmp_path / "x.npz")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    for suffix in (".md", ".csv", ".json"):
        (tmp_path / f"folder{suffix}").mkdir()
    for command, option in (("run", "--json"), ("sweep", "-o")):
        message = refused(command, "--preset", "tiny", "--input", file, option, tmp_path / place)
        assert re.fullmatch(rf"{re.escape(str(tmp_path))}/[\w/.]+ {reason}", message)
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file",
        "folder",
        "folder.csv",
        "folder.json",
        "folder.md",
        "x.npz",
    ]


@pytest.mark.parametrize("blocked", [".md", ".csv", ".json"])
def test_a_sweep_writes_all_three_files_or_none(blocked, tmp_path, refused):
    file = write(tmp_path / "x.npz")
    (tmp_path / f"summary{blocked}").mkdir()
    message = refused("sweep", "--preset", "tiny", "--input", file, "-o", tmp_path / "summary")
    assert message == f"{tmp_path / 'summary'}{blocked} can't be written: Is a directory"
    assert [path.name for path in tmp_path.glob("summary*")] == [f"summary{blocked}"]


def test_a_sweep_needs_a_name_for_its_files(tmp_path, refused):
    file = write(tmp_path / "x.npz")
    message = refused("sweep", "--preset", "tiny", "--input", file, "-o", "")
    assert message == ". is a folder; a summary needs the name of its files, without .md, .csv and .json"


def test_a_sweep_checks_every_threshold_first(tmp_path, refused):
    file = write(tmp_path / "x.npz")
    message = refused(
        "sweep", "--preset", "tiny", "--input", file, "--tau", "4", "8", "0.5", "-o", tmp_path / "summary"
    )
    assert message == "tau must be from 1.0 to 1023.96875 bits, not 0.5"


def test_a_bench_that_the_core_cannot_hold_is_refused(refused):
    assert refused("bench", "--max-head-dim", "32") == "head_dim is 64; this configuration holds at most 32"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "the following arguments are required: --input"),
        (["run", "--input", "x", "--window", "0"], "argument --window: it must be a whole number from 1 on, not 0"),
        (["run", "--input", "x", "--window", "1.5"], "argument --window: it must be a whole number from 1 on, not 1.5"),
        (["run", "--input", "x", "--tau", "four"], "argument --tau: invalid float value: 'four'"),
        (["run", "--input", "x", "--rows", "four"], "argument --rows: invalid int value: 'four'"),
        (["run", "--input", "x", "--seed=-1"], "argument --seed: it must be a whole number from 0 on, not -1"),
        (["run", "--input", "x", "--fast"], "unrecognized arguments: --fast"),
        (["sweep", "--input", "x"], "the following arguments are required: -o/--output"),
        (["soak", "--runs", "0"], "argument --runs: it must be a whole number from 1 on, not 0"),
        (["soak", "--seed=-5"], "argument --seed: it must be a whole number from 0 on, not -5"),
        (["soak", "--core", "huge"], "argument --core: invalid choice: 'huge' (choose from"),
        (["simulate"], "argument command: invalid choice: 'simulate' (choose from"),
    ],
)
def test_bad_options_are_exit_code_2(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    usage, line = capsys.readouterr().err.rstrip().rsplit("\n", 1)
    assert usage.startswith("usage: python -m sim")
    assert re.fullmatch(rf"python -m sim( \w+)?: error: {re.escape(sentence)}.*", line)


def test_soak_says_how_to_repeat_it_and_fails_with_exit_code_1(monkeypatch, capsys):
    seen = []

    def soak(seeds: range, core: str | None) -> dict[str, int]:
        seen.append((seeds, core))
        if len(seen) == 2:
            raise SimulationError("seed 8 on core 'few rows': wrong")
        return {"few rows": len(seeds)}

    monkeypatch.setattr(sim.__main__, "soak", soak)
    assert main(["soak", "--runs", "5", "--seed", "7", "--core", "few rows"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "runs of seeds 7 to 11; repeat one with: soak --runs 1 --seed SEED --core 'few rows'",
        "5 runs on core 'few rows': equal to golden, bit for bit",
    ]
    assert main(["soak", "--runs", "2"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "simulation failed: seed 8 on core 'few rows': wrong\n"
    first = int(re.match(r"runs of seeds (\d+) to ", captured.out)[1])
    assert seen == [(range(7, 12), "few rows"), (range(first, first + 2), None)]


def test_the_benches_are_random_runs_of_small_cores(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sim.__main__, "soak", lambda seeds, core: seen.append((len(seeds), core)))
    assert main([]) == 0
    assert seen == [(40, "tiny"), (40, "small")]
    assert capsys.readouterr().out.count("equal to golden, bit for bit") == 2


def test_help_explains_every_option(capsys):
    parser = sim.__main__._parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert set(commands.choices) == {
        *("run", "sweep", "bench", "cluster", "soak"),
        *("device", "device-bench", "device-soak"),
    }
    for command in (parser, *commands.choices.values()):
        for action in command._actions:
            assert action.help, f"{command.prog} {action.dest} has no help"
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for option in ("input", "preset", "causal", "window", "tau", "stall", "seed", "json", "waves", "lanes", "max-keys"):
        assert f"  --{option}" in text


def test_the_module_runs_without_a_traceback(tmp_path):
    missing = tmp_path / "missing.npz"
    command = [sys.executable, "-m", "sim", "run", "--input", str(missing)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"error: {missing} can't be read: No such file or directory\n"
