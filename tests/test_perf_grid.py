"""Grids of design points: their order, what they hold, and what is said of bad ones."""

from dataclasses import fields
from itertools import product

import pytest

from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.memory import Memory
from perf_model.grid import AXES, HARDWARE_AXES, MOST_POINTS, WORKLOAD_AXES, Grid, cell, scalar
from perf_model.hardware import Hardware
from perf_model.workload import Workload, load_workload

BASE = {"hardware": ["default"], "workload": ["bert-base"]}


def grid(**axes: object) -> Grid:
    return Grid.of([("the test", BASE | axes)])


def test_points_are_the_product_of_the_axes_in_their_order():
    axes = {"rows": [4, 8], "survival": [1.0, 0.4, 0.2], "batch": [1, 3]}
    points = grid(**axes)
    assert points.points == 12
    found = [tuple(points.values(n).values()) for n in range(12)]
    assert found == [("default", "bert-base", *values) for values in product(*axes.values())]
    assert list(points.values(0)) == ["hardware", "workload", "rows", "survival", "batch"]


def test_a_point_is_its_bases_with_the_values_changed():
    axes = {"lanes": [64], "clock_mhz": [250], "latency": [7], "bandwidth": [None, 12.5], "length": [100]}
    points = grid(**axes, workload=["gpt2"], survival=[0.5])
    free, limited = (points.at(points.values(n)) for n in range(2))
    core = PRESETS["default"].override(lanes=64)
    assert core.score_slots == 128, "parameters that were not given follow"
    assert free.hardware == Hardware(core, "default", 250.0, memory=Memory(latency=7))
    assert limited.hardware.memory == Memory(bandwidth=12.5, latency=7)
    assert limited.workload == load_workload("gpt2", length=100)
    assert limited.survival == 0.5
    assert grid().at(grid().values(0)).survival == 1


def test_every_number_of_hardware_and_workload_can_be_varied():
    for owner in (CoreConfig, Memory, Hardware, Workload):
        names = {field.name for field in fields(owner)} - {"name", "core", "memory"}
        assert names <= set(AXES), f"{names - set(AXES)} of {owner.__name__}"
    assert "name" not in AXES


def test_a_name_of_both_is_the_hardware_s():
    points = grid(hardware=["latent"], workload=["deepseek-v3"], shared_values=[0, 1])
    found = [points.at(points.values(n)) for n in range(2)]
    assert [point.hardware.core.shared_values for point in found] == [0, 1]
    assert all(point.workload.shared_values is True for point in found)
    assert "shared_values" in HARDWARE_AXES
    assert not set(HARDWARE_AXES) & set(WORKLOAD_AXES)


def test_values_that_are_not_possible_together_are_judged_point_by_point():
    points = grid(rows=[3, 16], rows_per_scaler=[2])
    with pytest.raises(InputError, match="rows_per_scaler must be a divisor of rows"):
        points.at(points.values(0))
    assert points.at(points.values(1)).hardware.core == PRESETS["default"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"wings": [2]}, "the test has an unknown axis 'wings'; axes are hardware, rows, lanes, "),
        ({"rows": 4}, "rows in the test must be a list, not 4"),
        ({"rows": []}, "axis rows has no value"),
        ({"rows": [4, "many"]}, "rows in the test must be a whole number, not 'many'"),
        ({"rows": [4, None]}, "rows in the test must be a whole number, not None"),
        ({"rows": [[4]]}, r"rows in the test must be a whole number, not \[4\]"),
        ({"rows": [4, 8, 4]}, "axis rows has a value twice: 4, 8, 4"),
        ({"survival": [True]}, "survival in the test must be a number, not True"),
        ({"survival": [float("nan")]}, "survival in the test must be a finite number, not nan"),
        ({"causal": [1]}, "causal in the test must be true or false, not 1"),
        ({"technology": ["7 nm", "3 nm"]}, "technology must be one of .*, not '3 nm'"),
        ({"phase": ["training"]}, "phase of workload 'BERT-base' must be prefill or decode, not 'training'"),
        ({"workload": ["bart"]}, "there is no workload 'bart'"),
        ({"hardware": ["none.yaml"]}, "none.yaml can't be read"),
        ({"length": list(range(1, 1002)), "batch": list(range(1, 1001))}, f"it may have at most {MOST_POINTS:,}"),
    ],
)
def test_a_bad_axis_is_named(axes: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        grid(**axes)


def test_an_axis_comes_from_one_place():
    with pytest.raises(InputError, match=r"grid.yaml gives the axis rows once more"):
        Grid.of([("--vary", BASE | {"rows": [4]}), ("grid.yaml", {"rows": [8]})])


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("0.5", 0.5), ("null", None), ("true", True), ("22 nm", "22 nm"), ("[", "["), ("hbm2", "hbm2")],
)
def test_words_of_a_command_line_are_yaml(text: str, value: object):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (12, "12"), (1.0, "1"), (0.1 + 0.2, "0.3"), (1 / 3e9, "3.33333333e-10"), ("x", "x")],
)
def test_cells(value: object, text: str):
    assert cell(value) == text
