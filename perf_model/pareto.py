"""The Pareto front of a sweep: the configurations than which no other is better in both of two figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from golden.errors import InputError
from perf_model.grid import HARDWARE_AXES, WORKLOAD_AXES, Value, cell
from perf_model.sweep_folder import PROBLEM, Sweep


@dataclass(frozen=True)
class Objective:
    """A figure of a sweep, as a front may be about it.

    Parameters
    ----------
    label : str
        Its name with the unit.
    best : int
        1 if more is better, -1 if less is.
    scale : float
        From the column's unit to the label's.
    """

    label: str
    best: int
    scale: float = 1.0


OBJECTIVES: Mapping[str, Objective] = {
    "seconds": Objective("time (ms)", -1, 1e3),
    "cycles": Objective("cycles", -1),
    "tokens_per_second": Objective("tokens a second", 1),
    "effective_macs_per_cycle": Objective("effective MACs a cycle (work of dropped keys counted as done)", 1),
    "multipliers": Objective("multipliers", -1),
    "utilisation": Objective("utilisation of the multipliers (%)", 1, 100),
    "energy_pj": Objective("energy with DRAM (mJ)", -1, 1e-9),
    "core_pj": Objective("energy without DRAM (mJ)", -1, 1e-9),
    "core_tops_per_watt": Objective("TOPS/W without DRAM", 1),
    "dram_bytes": Objective("DRAM traffic (MB)", -1, 1e-6),
}
"""Columns that a front may be about."""


@dataclass(frozen=True)
class Configuration:
    """One point of a sweep, or several that are the same in both figures.

    Parameters
    ----------
    name : str
        The values of the axes in which configurations differ.
    x, y : float
        The figures, in the units of their labels.
    alike : int
        How many more have these figures.
    """

    name: str
    x: float
    y: float
    alike: int = 0


@dataclass(frozen=True)
class Front:
    """What is best of the configurations of a sweep for one workload.

    Parameters
    ----------
    scenario : str
        What all configurations have in common: axes of the workload, and those of the hardware that have one value.
    x, y : Objective
        The figures.
    every : list of Configuration
        All configurations that are possible.
    best : list of Configuration
        Those of the front, by rising x.
    """

    scenario: str
    x: Objective
    y: Objective
    every: list[Configuration]
    best: list[Configuration]


def _select(sweep: Sweep, where: Mapping[str, Value]) -> tuple[str, list[dict[str, str]]]:
    """Return what the points that `where` leaves have in common, in words, and the points.

    Raises
    ------
    InputError
        If `where` names no axis or value of the sweep, or leaves several workloads.
    """
    for name, value in where.items():
        values = [cell(known) for known in sweep.axes.get(name, [])]
        if not values:
            raise InputError(f"the sweep has no axis {name!r}; its axes are {', '.join(sweep.axes)}")
        if cell(value) not in values:
            raise InputError(f"{name} of the sweep is {', '.join(values)}, not {cell(value)}")
    chosen = [point for point in sweep.points if all(point[name] == cell(value) for name, value in where.items())]
    open_axes = [
        f"{name} ({', '.join(map(cell, values))})"
        for name, values in sweep.axes.items()
        if name in WORKLOAD_AXES and name not in where and len(values) > 1
    ]
    if open_axes:
        raise InputError(f"the sweep is of several workloads, and a front of one; choose by --where {open_axes[0]}")
    common = [name for name in sweep.axes if name in WORKLOAD_AXES or len({point[name] for point in chosen}) == 1]
    return ", ".join(f"{name} {chosen[0][name] or 'any'}" for name in common), chosen


def pareto(sweep: Sweep, x: str, y: str, where: Mapping[str, Value] | None = None) -> Front:
    """Return the front of a sweep's configurations for one workload.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    x, y : str
        Columns, of `OBJECTIVES`.
    where : mapping of str to value, optional
        Values of axes, to which points are restricted; for every axis of the workload that has several.

    Raises
    ------
    InputError
        If there is no such column, axis or value, `where` leaves several workloads, or no point is possible.
    """
    for column in (x, y):
        if column not in OBJECTIVES:
            raise InputError(f"a front is of {', '.join(OBJECTIVES)}, not of {column!r}")
    if x == y:
        raise InputError(f"a front is of two figures, not of {x} twice")
    scenario, points = _select(sweep, where or {})
    points = [point for point in points if not point[PROBLEM]]
    if not points:
        raise InputError("no point of the sweep is possible there")
    axes = [name for name in sweep.axes if name in HARDWARE_AXES and len({point[name] for point in points}) > 1]
    found: dict[tuple[float, float], list[str]] = {}
    for point in points:
        figures = (float(point[x]) * OBJECTIVES[x].scale, float(point[y]) * OBJECTIVES[y].scale)
        found.setdefault(figures, []).append(_name(point, axes))
    every = [Configuration(names[0], *figures, len(names) - 1) for figures, names in found.items()]
    best = _best(every, OBJECTIVES[x].best, OBJECTIVES[y].best)
    return Front(scenario, OBJECTIVES[x], OBJECTIVES[y], every, best)


def _name(point: Mapping[str, str], axes: Sequence[str]) -> str:
    """Return what tells a point from the others."""
    parts = [point[name] if name == "hardware" else f"{name} {point[name] or 'any'}" for name in axes]
    return ", ".join(parts) or point["hardware"]


def _best(every: Sequence[Configuration], best_x: int, best_y: int) -> list[Configuration]:
    """Return the configurations than which no other is as good in both figures, by rising x."""
    front: list[Configuration] = []
    for each in sorted(every, key=lambda each: (-best_x * each.x, -best_y * each.y)):
        if not front or best_y * each.y > best_y * front[-1].y:
            front.append(each)
    return sorted(front, key=lambda each: each.x)
