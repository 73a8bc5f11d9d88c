"""Plots: what is drawn, and that it is written."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.config import PRESETS
from golden.errors import InputError
from perf_model.energy import PARTS
from perf_model.estimate import estimate
from perf_model.hardware import Hardware
from perf_model.measured import Summary, load_summary
from perf_model.plots import PLOTS, accuracy, energy_breakdown, throughput, write_plots
from perf_model.workload import Workload

SHAPE = {"heads": 2, "queries": 64, "keys": 64, "head_dim": 32, "value_dim": 32}


def run(tau: float | None, survivors: float, cycles: int, **more) -> dict:
    return {"tau": tau, "snr_db": 20.0 + 30 * survivors, "survivors": survivors, "cycles": cycles, "jobs": 8, **more}


CONTENT = {
    "config": PRESETS["default"].to_dict(),
    "input": "some.npz",
    **SHAPE,
    "causal": False,
    "points": [run(None, 1.0, 2200), run(4.0, 0.25, 1500), run(8, 0.75, 2000)],
    "lengths": [
        run(None, 1.0, 2200, **SHAPE),
        run(6.0, 0.5, 1600, **SHAPE),
        run(6.0, 0.9, 1000, **SHAPE | {"queries": 32, "keys": 32}),
        run(None, 1.0, 700, **SHAPE | {"queries": 1}),
    ],
}


def summary_of(folder: Path, content: dict) -> Summary:
    path = folder / "summary.json"
    path.write_text(json.dumps(content))
    return load_summary(path)


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summary_of(tmp_path, CONTENT)


def test_throughput_draws_lines_of_the_model_and_marks_of_the_rtl(summary: Summary):
    (axes,) = throughput(summary).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert "tokens" in axes.get_xlabel()
    assert "MACs a cycle" in axes.get_ylabel()

    workload = Workload("some", heads=2, head_dim=32, value_dim=32, layers=1, length=64)
    for label, rate in (("model: nothing dropped", 1.0), ("model: tau 6 (50% survive)", 0.5)):
        x, y = (np.asarray(data) for data in lines[label].get_data())
        assert 64 in x
        assert len(x) > 20
        expected = estimate(workload, Hardware(summary.core), rate).effective_macs_per_cycle
        assert y[x.tolist().index(64)] == pytest.approx(expected)

    dense, thresholded = lines["simulated RTL: nothing dropped"], lines["simulated RTL: tau 6"]
    assert dense.get_xdata().tolist() == [64], "a decode run is on no line, so it is not drawn"
    assert dense.get_ydata()[0] == pytest.approx(2 * 64 * 64 * 64 / 2200)
    assert thresholded.get_xdata().tolist() == [64, 32]
    assert "tau 6" in " ".join(text.get_text() for text in axes.get_legend().get_texts())


def test_throughput_without_measured_lengths_shows_two_survival_rates(tmp_path: Path):
    (axes,) = throughput(summary_of(tmp_path, {**CONTENT, "lengths": []})).axes
    labels = [line.get_label() for line in axes.lines]
    assert [label for label in labels if label.startswith("model")] == [
        "model: nothing dropped",
        "model: 70% survive",
        "model: 40% survive",
    ]


def test_energy_stacks_the_parts_for_each_threshold(summary: Summary):
    core, whole = energy_breakdown(summary).axes
    assert "µJ" in core.get_ylabel()
    assert "µJ" in whole.get_ylabel()
    assert [tick.get_text() for tick in whole.get_xticklabels()] == ["all\n100%", "8\n75%", "4\n25%"]
    assert {text.get_text() for text in whole.get_legend().get_texts()} == set(PARTS.values())

    workload = Workload("some", heads=2, head_dim=32, value_dim=32, layers=1, length=64)
    for n, rate in enumerate((1.0, 0.75, 0.25)):
        energy = estimate(workload, Hardware(summary.core), rate).energy
        drawn = sum(container[n].get_height() for container in whole.containers)
        assert drawn == pytest.approx(energy.total * 1e-6)
        assert sum(container[n].get_height() for container in core.containers) == pytest.approx(energy.core * 1e-6)


def test_accuracy_and_survivors_against_the_threshold(summary: Summary):
    left, right = accuracy(summary).axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["4", "8", "all"]
    assert list(left.lines[0].get_ydata()) == [27.5, 42.5, 50.0]
    assert list(right.lines[0].get_ydata()) == [25.0, 75.0, 100.0]
    assert "dB" in left.get_ylabel()
    assert "%" in right.get_ylabel()
    assert "tau" in left.get_xlabel()


def test_plots_are_written_as_pictures(summary: Summary, tmp_path: Path):
    written = write_plots(summary, tmp_path / "new" / "plots")
    assert {path.name for path in written} == {f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")}
    for path in written:
        content = path.read_bytes()
        assert len(content) > 10_000
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_the_same_data_gives_the_same_file(summary: Summary, tmp_path: Path):
    first, second = (write_plots(summary, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_one_point_is_enough(tmp_path: Path):
    summary = summary_of(tmp_path, {**CONTENT, "points": CONTENT["points"][:1]})
    assert len(write_plots(summary, tmp_path)) == 2 * len(PLOTS)
    assert len(write_plots(replace(summary, causal=True), tmp_path)) == 2 * len(PLOTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("config"), "summary.json lacks the key 'config'"),
        (lambda content: content["config"].update(wings=2), "config in summary.json has an unknown key 'wings'"),
        (lambda content: content["config"].update(rows="two"), "rows in config in summary.json must be a whole number"),
        (lambda content: content["config"].update(rows=0), "rows must be from 1 to 64"),
        (lambda content: content.update(points=[]), "summary.json has no points"),
        (lambda content: content.update(points=3), "points in summary.json must be a list"),
        (lambda content: content["points"][1].pop("cycles"), r"points\[1\] in summary.json lacks the key 'cycles'"),
        (lambda content: content["points"][1].update(survivors=2), r"survivors in points\[1\] .* at most 1, not 2"),
        (lambda content: content["points"][1].update(tau="low"), r"tau in points\[1\] .* must be a number"),
        (lambda content: content["points"].append(7), r"points\[3\] in summary.json must be an object"),
        (lambda content: content["lengths"][0].update(keys=0), r"keys in lengths\[0\] .* at least 1"),
        (lambda content: content.update(heads=0), "heads in summary.json must be at least 1"),
        (lambda content: content.update(causal="no"), "causal in summary.json must be true or false"),
    ],
)
def test_a_bad_summary_is_named_by_its_key(tmp_path: Path, change, message: str):
    content = deepcopy(CONTENT)
    change(content)
    with pytest.raises(InputError, match=message):
        summary_of(tmp_path, content)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON in line 1"), ("[]", "must hold a JSON object")])
def test_a_summary_that_is_none(tmp_path: Path, text: str, message: str):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_summary(tmp_path / "summary.json")
