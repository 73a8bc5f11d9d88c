"""The Pareto front of a sweep: which configurations are on it, how they are named, and how it is drawn."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from perf_model.__main__ import main
from perf_model.pareto import OBJECTIVES, Configuration, _best, pareto
from perf_model.plots.pareto import pareto_front
from perf_model.sweep_folder import POINTS, Sweep, load_sweep

AXES = {
    "hardware": ["tiny"],
    "workload": ["bert-base"],
    "length": [8, 64],
    "rows": [2, 4],
    "lanes": [4, 8],
    "clock_mhz": [100.0, 200.0],
}


def sweep_of(figures: dict[tuple[int, int, float], tuple[float, float] | None]) -> Sweep:
    """Return a sweep whose points of length 64 have these figures, seconds and energy_pj, by rows, lanes and clock."""
    points = []
    for length, *key in product(*(AXES[name] for name in ("length", "rows", "lanes", "clock_mhz"))):
        seconds, energy = figures.get(tuple(key), (9, 9)) or ("", "") if length == 64 else (0.001, 0.001)
        values = dict(zip(("length", "rows", "lanes", "clock_mhz"), (length, *key), strict=True))
        cells = {name: f"{value:g}" for name, value in values.items()} | {"hardware": "tiny", "workload": "bert-base"}
        problem = "too small" if seconds == "" else ""
        points.append(cells | {"seconds": str(seconds), "energy_pj": str(energy), "problem": problem})
    return Sweep(AXES, points)


FIGURES = {
    (2, 4, 100.0): (4, 1),
    (2, 4, 200.0): (2, 1),
    (2, 8, 100.0): (2, 1),
    (2, 8, 200.0): (1, 5),
    (4, 4, 100.0): None,
    (4, 4, 200.0): (1, 6),
    (4, 8, 100.0): (0.5, 5),
    (4, 8, 200.0): (3, 0.5),
}


def test_the_front_has_what_none_beats_in_both_figures():
    front = pareto(sweep_of(FIGURES), "seconds", "energy_pj", {"length": 64})
    assert front.best == [
        Configuration("rows 4, lanes 8, clock_mhz 100", 500, 5e-9),
        Configuration("rows 2, lanes 4, clock_mhz 200", 2000, 1e-9, alike=1),
        Configuration("rows 4, lanes 8, clock_mhz 200", 3000, 0.5e-9),
    ]
    assert len(front.every) == 6, "what is not possible is no configuration, and two are alike"
    assert front.scenario == "hardware tiny, workload bert-base, length 64"


def test_more_is_better_of_some_figures():
    sweep = sweep_of(FIGURES)
    for point in sweep.points:
        point["tokens_per_second"] = point["seconds"]
    front = pareto(sweep, "energy_pj", "tokens_per_second", {"length": 64})
    assert [(each.x, each.y) for each in front.best] == [(0.5e-9, 3), (1e-9, 4)]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30, unique=True),
    st.sampled_from([-1, 1]),
    st.sampled_from([-1, 1]),
)
def test_a_point_is_on_the_front_if_and_only_if_no_other_is_as_good_in_both(figures, best_x, best_y):
    every = [Configuration(f"{number}", *pair) for number, pair in enumerate(figures)]
    front = _best(every, best_x, best_y)

    def as_good(a: Configuration, b: Configuration) -> bool:
        return best_x * a.x >= best_x * b.x and best_y * a.y >= best_y * b.y

    assert set(front) == {b for b in every if not any(as_good(a, b) for a in every if a is not b)}
    assert [each.x for each in front] == sorted(each.x for each in front)


@pytest.mark.parametrize(
    ("x", "y", "where", "message"),
    [
        ("seconds", "energy_pj", {}, r"of several workloads.* choose by --where length \(8, 64\)"),
        ("seconds", "energy_pj", {"length": 5}, "length of the sweep is 8, 64, not 5"),
        ("seconds", "energy_pj", {"batch": 1}, "has no axis 'batch'; its axes are hardware, workload, length, "),
        ("seconds", "beauty", {"length": 64}, "a front is of seconds, cycles, .*, not of 'beauty'"),
        ("seconds", "seconds", {"length": 64}, "a front is of two figures, not of seconds twice"),
        ("seconds", "energy_pj", {"length": 64, "rows": 4, "lanes": 4, "clock_mhz": 100.0}, "no point .* is possible"),
    ],
)
def test_a_question_without_an_answer_is_named(x, y, where, message):
    with pytest.raises(InputError, match=message):
        pareto(sweep_of(FIGURES), x, y, where)


def test_the_plot_shows_every_configuration_and_names_the_best():
    figure = pareto_front(pareto(sweep_of(FIGURES), "seconds", "energy_pj", {"length": 64}))
    axes, names = figure.axes
    (dots,) = axes.collections
    assert len(dots.get_offsets()) == 6
    line, marks = axes.lines
    assert np.allclose(marks.get_xdata(), [500, 2000, 3000])
    assert np.allclose(line.get_ydata(), [5e-9, 1e-9, 0.5e-9])
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    (listed,) = names.texts
    assert listed.get_text().splitlines() == [
        " 1  rows 4, lanes 8, clock_mhz 100",
        " 2  rows 2, lanes 4, clock_mhz 200 (and 1 alike)",
        " 3  rows 4, lanes 8, clock_mhz 200",
    ]
    assert axes.get_xlabel() == "time (ms); less is better"
    assert axes.get_ylabel() == "energy with DRAM (mJ); less is better"
    assert any(
        "3 of 7 configurations are not beaten in time and energy with DRAM" in t.get_text() for t in figure.texts
    )


def test_the_command_draws_the_front_of_a_sweep(tmp_path: Path, capsys):
    axes = ["--vary", "rows", "2", "4", "--vary", "lanes", "4", "8", "--vary", "length", "8", "16"]
    assert main(["sweep", "--hardware", "tiny", *axes, "-o", str(tmp_path / "sweep")]) == 0
    capsys.readouterr()
    options = [str(tmp_path / "sweep"), "--x", "multipliers", "--y", "cycles", "-o", str(tmp_path / "plots")]
    assert main(["pareto", *options, "--where", "length", "16"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("workload bert-base, hardware tiny, length 16\n")
    with (tmp_path / "sweep" / POINTS).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["length"] == "16"]
    least = min(rows, key=lambda row: int(row["multipliers"]))
    assert f"\n1  rows {least['rows']}, lanes {least['lanes']}" in text
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"pareto.svg", "pareto.png"}
    for path in (tmp_path / "plots").iterdir():
        assert str(path) in text
        assert len(path.read_bytes()) > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/none"], "none/manifest.json can't be read: No such file"),
        (["{folder}/unfinished"], "is not finished; the command that began it goes on with it"),
        (["{folder}/empty"], "does not hold a sweep as this command writes it"),
        (["{folder}/bad"], "bad/manifest.json is not valid JSON in line 1"),
        (["{folder}/bad", "--where", "rows", "1", "--where", "rows", "2"], "--where gives the axis rows once more"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys, arguments: list[str], message: str):
    for name, text in (("unfinished", '{"complete": false}'), ("empty", '{"complete": true}'), ("bad", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    assert main(["pareto", *(a.format(folder=tmp_path) for a in arguments), "-o", str(tmp_path / "plots")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_columns_of_a_front_are_columns_of_a_sweep(tmp_path: Path):
    assert main(["sweep", "--hardware", "tiny", "--vary", "length", "8", "-o", str(tmp_path)]) == 0
    (point,) = load_sweep(tmp_path).points
    for column in OBJECTIVES:
        assert float(point[column]) > 0
