"""What models lose to thresholds against what these save: points of recorded runs, and the best within a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golden.errors import InputError
from perf_model.settings import read_json, required, typed

UNDROPPED = "all"
"""Label of the row in which nothing is dropped, as the experiments write it."""

MEASURES = {"loss": -1, "accuracy": 1}
"""Notes of a run that tell how good the model is in it, and 1 if more is better, -1 if less is."""

COLUMNS = (
    "model",
    "threshold",
    "{measure}",
    "survivors",
    "of first",
    "cycles",
    "of first",
    "DRAM bytes",
    "of first",
    "energy uJ",
)
"""Of the table, `{measure}` standing for its name."""


@dataclass(frozen=True)
class Point:
    """A model at one threshold.

    Parameters
    ----------
    threshold : str
        Its label.
    measure : float
        How good the model is.
    survivors : float
        Share of the streamed keys.
    cycles, value_bytes, dram_bytes : int
        What its jobs take: cycles of the core, values that it fetches, and all that comes from or goes to the DRAM.
    energy_pj : float
        Their energy, DRAM included.
    """

    threshold: str
    measure: float
    survivors: float
    cycles: int
    value_bytes: int
    dram_bytes: int
    energy_pj: float


@dataclass(frozen=True)
class Curve:
    """A model over its thresholds.

    Parameters
    ----------
    model : str
        Its name.
    points : tuple of Point
        In the order of the file.
    """

    model: str
    points: tuple[Point, ...]

    @property
    def undropped(self) -> Point:
        """The point at which nothing is dropped."""
        return next(point for point in self.points if point.threshold == UNDROPPED)


def load_curve(path: Path, measure: str) -> Curve:
    """Return what ``python -m perf_model recorded --json`` wrote of one model.

    Parameters
    ----------
    path : pathlib.Path
        The JSON file.
    measure : str
        One of `MEASURES`.

    Raises
    ------
    InputError
        If the file is not such a one, a number in it is impossible, its runs are of several models or lack `measure`,
        or none drops nothing.
    """
    models, points = set(), []
    for number, run in enumerate(required(read_json(path), "runs", list, path.name), 1):
        where = f"run {number} of {path.name}"
        run = typed(run, dict, "it", where)
        notes = required(run, "notes", dict, where)
        energy = required(required(run, "energy_pj", dict, where), "nominal", dict, where)
        ports = required(run, "bytes", dict, where)
        models.add(required(notes, "model", str, where))
        point = Point(
            threshold=required(notes, "threshold", str, where),
            measure=required(notes, measure, float, where),
            survivors=required(run, "survivor_share", float, where),
            cycles=required(run, "cycles", int, where),
            value_bytes=required(ports, "v", int, where),
            dram_bytes=required(run, "dram_bytes", int, where),
            energy_pj=required(energy, "total", float, where),
        )
        least = min(point.survivors, point.cycles, point.value_bytes, point.dram_bytes, point.energy_pj)
        if not (0 <= point.measure < math.inf and least > 0):
            raise InputError(f"{where} must have a {measure} of 0 or more, and what it takes above 0, not {point}")
        points.append(point)
    if len(models) != 1:
        raise InputError(f"{path.name} must be of one model, not of {len(models)}")
    if UNDROPPED not in {point.threshold for point in points}:
        raise InputError(f"{path.name} has no run with threshold {UNDROPPED!r}, in which nothing is dropped")
    return Curve(models.pop(), tuple(points))


def worst_allowed(reference: Curve, measure: str, within: float) -> float:
    """Return the measure of the reference with nothing dropped, worse by the share `within` of it."""
    return reference.undropped.measure * (1 + within * -MEASURES[measure])


def best_within(curve: Curve, measure: str, bound: float) -> Point | None:
    """Return the point with the fewest survivors whose measure is not worse than `bound`, None if there is none."""
    sign = MEASURES[measure]
    allowed = [point for point in curve.points if sign * point.measure >= sign * bound]
    return min(allowed, key=lambda point: (point.survivors, point.cycles), default=None)


def trade_off_rows(curves: Sequence[Curve], measure: str, within: float) -> list[list[str]]:
    """Return a row for each model: its best point within the bound, beside that of the first model, the reference.

    Columns are those of `COLUMNS`.
    """
    bound = worst_allowed(curves[0], measure, within)
    start = curves[0].undropped.measure
    reference = best_within(curves[0], measure, bound)
    assert reference is not None, "the reference with nothing dropped is within its own bound"

    def change(point: Point) -> float:
        return point.measure / start - 1 if start else math.nan

    rows = []
    for curve in curves:
        point = best_within(curve, measure, bound)
        if point is None:
            least = min(abs(change(each)) for each in curve.points)
            rows.append([curve.model, "none", f"{least:.2%} off at best", *[""] * (len(COLUMNS) - 3)])
            continue
        rows.append(
            [
                curve.model,
                point.threshold,
                f"{point.measure:.4f} ({change(point):+.2%})",
                f"{point.survivors:.1%}",
                f"{point.survivors / reference.survivors:.2f}",
                f"{point.cycles:,}",
                f"{point.cycles / reference.cycles:.2f}",
                f"{point.dram_bytes:,}",
                f"{point.dram_bytes / reference.dram_bytes:.2f}",
                f"{point.energy_pj * 1e-6:,.1f}",
            ]
        )
    return rows
