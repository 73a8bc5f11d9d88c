"""``python -m perf_model trade-off``: each model's best point within a bound, and the plot of all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from golden.errors import InputError
from perf_model.__main__ import main
from perf_model.plots.trade_off import trade_off
from perf_model.trade_off import Curve, best_within, load_curve, worst_allowed

DENSE = {
    "all": (2.0, 1.0, 1000),
    "tau 8": (2.004, 0.6, 700),
    "tau 4": (2.03, 0.4, 500),
    "epsilon 0.1": (2.009, 0.5, 600),
}
SPARSE = {"all": (2.008, 1.0, 1000), "tau 8": (2.008, 0.2, 400), "tau 4": (2.0099, 0.15, 350), "tau 2": (2.2, 0.1, 300)}
WORSE = {"all": (2.02, 1.0, 1000), "tau 4": (2.03, 0.1, 300)}


def run(
    model: str, threshold: str, measure: float, survivors: float, cycles: int, name: str = "loss"
) -> dict[str, Any]:
    return {
        "notes": {"model": model, "threshold": threshold, name: measure},
        "survivor_share": survivors,
        "cycles": cycles,
        "bytes": {"v": 4 * cycles},
        "dram_bytes": 10 * cycles,
        "energy_pj": {"nominal": {"total": 2e6 * cycles}},
    }


def write(path: Path, model: str, points: dict[str, tuple[float, float, int]], name: str = "loss") -> Path:
    runs = [run(model, label, *values, name) for label, values in points.items()]
    path.write_text(json.dumps({"runs": runs}))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    models = {"dense": DENSE, "sparse": SPARSE, "worse": WORSE}
    return [str(write(tmp_path / f"{model}.json", model, points)) for model, points in models.items()]


@pytest.fixture
def curves(files: list[str]) -> list[Curve]:
    return [load_curve(Path(file), "loss") for file in files]


def test_the_best_point_has_the_fewest_survivors_of_those_within_the_bound(curves: list[Curve]):
    bound = worst_allowed(curves[0], "loss", 0.005)
    assert bound == pytest.approx(2.01)
    found = [best_within(curve, "loss", bound) for curve in curves]
    assert [point and point.threshold for point in found] == ["epsilon 0.1", "tau 4", None]


def test_of_an_accuracy_more_is_better(tmp_path: Path):
    points = {"all": (0.9, 1.0, 1000), "tau 8": (0.92, 0.5, 800), "tau 4": (0.8, 0.2, 500)}
    curve = load_curve(write(tmp_path / "x.json", "digits", points, "accuracy"), "accuracy")
    assert worst_allowed(curve, "accuracy", 0.1) == pytest.approx(0.81)
    best = best_within(curve, "accuracy", 0.81)
    assert best is not None
    assert best.threshold == "tau 8"
    best = best_within(curve, "accuracy", worst_allowed(curve, "accuracy", 0.2))
    assert best is not None
    assert best.threshold == "tau 4"


def test_the_table_compares_with_the_first_model_s_best(files: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["trade-off", *files]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "Fewest survivors with loss no worse than 2.0100, within 0.50% of dense's with nothing dropped:"
    assert header.split()[:4] == ["model", "threshold", "loss", "survivors"]
    dense = "dense epsilon 0.1 2.0090 (+0.45%) 50.0% 1.00 600 1.00 6,000 1.00 1,200.0"
    sparse = "sparse tau 4 2.0099 (+0.50%) 15.0% 0.30 350 0.58 3,500 0.58 700.0"
    assert [" ".join(row.split()) for row in rows] == [dense, sparse, "worse none 1.00% off at best"]


def test_the_plot_has_a_line_a_model_and_names_what_each_needs(curves: list[Curve]):
    figure = trade_off(curves, "loss", 0.005)
    assert isinstance(figure, Figure)
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == "Survivors needed for loss within 0.5%: dense 50%, sparse 15%, worse misses it"
    left, _, right = figure.axes
    (labels,) = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (right,)]
    assert labels == ["dense", "sparse", "worse"]
    (sparse,) = [line for line in left.lines if line.get_label() == "sparse"]
    assert [tuple(pair) for pair in sparse.get_xydata()] == [(0.3, 2.2), (0.35, 2.0099), (0.4, 2.008)]
    dense = [line for line in left.lines if tuple(line.get_color()) == tuple(left.lines[0].get_color())]
    assert [line.get_linestyle() for line in dense if len(line.get_xdata())] == ["None", "-", "None"]
    assert {text.get_text() for text in left.texts} == {"8", "4", "2", "0.5% off"}
    assert left.get_ylabel() == "loss (nats a byte); less is better"


def test_a_plot_is_written_as_two_pictures(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["trade-off", *files, "-o", str(tmp_path / "new" / "front")]) == 0
    for kind in ("svg", "png"):
        path = tmp_path / "new" / f"front.{kind}"
        assert path.stat().st_size > 5000
        assert str(path) in capsys.readouterr().out or kind == "png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "beauty"], "measure must be one of loss, accuracy, not 'beauty'"),
        (["--within", "1"], "within must be a share from 0 to below 1, not 1"),
    ],
)
def test_bad_options_are_named(
    files: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["trade-off", *files, *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs.clear(), "x.json must be of one model, not of 0"),
        (lambda runs: runs.append(run("other", "tau 1", 1.0, 0.5, 9)), "x.json must be of one model, not of 2"),
        (lambda runs: runs.pop(0), "x.json has no run with threshold 'all', in which nothing is dropped"),
        (lambda runs: runs[1]["notes"].pop("loss"), "loss"),
        (lambda runs: runs[1].update(cycles="many"), "cycles"),
        (lambda runs: runs[1].update(energy_pj={}), "nominal"),
        (lambda runs: runs[1].update(bytes={}), "v"),
        (lambda runs: runs[0]["notes"].update(loss=math.nan), "run 1 of x.json must have a loss of 0 or more"),
        (lambda runs: runs[1]["notes"].update(loss=-1.0), "run 2 of x.json must have a loss of 0 or more"),
        (lambda runs: runs[1].update(cycles=0), "and what it takes above 0"),
    ],
)
def test_a_file_that_lacks_something_is_an_error_that_names_it(tmp_path: Path, change, message: str):
    path = write(tmp_path / "x.json", "dense", DENSE)
    content = json.loads(path.read_text())
    change(content["runs"])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load_curve(path, "loss")
