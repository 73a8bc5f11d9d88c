"""What models lose to thresholds, against the cycles and the bytes that these leave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from matplotlib.figure import Figure

from perf_model.plots.style import GREY, SERIES_COLOURS, canvas, write
from perf_model.trade_off import MEASURES, Curve, best_within, worst_allowed

_MARKERS = {"all": "s", "tau": "o", "epsilon": "^", "target": "D"}
"""Of each kind of threshold, by the first word of its label."""

_AXES = (("cycles", "cycles of the core"), ("value_bytes", "bytes of values fetched"), ("dram_bytes", "DRAM bytes"))


def trade_off(curves: Sequence[Curve], measure: str, within: float) -> Figure:
    """Return the plot of a measure against cycles and bytes, a line a model; both are 1 for the first undropped."""
    reference, bound = curves[0].undropped, worst_allowed(curves[0], measure, within)
    subtitle = (
        f"under the core's exact arithmetic; cycles and bytes of {curves[0].model} with nothing dropped are 1\n"
        "circles: tau in bits at each; triangles: epsilon; diamonds: target; squares: nothing dropped"
    )
    with canvas(_title(curves, measure, within), subtitle, (13, 5), (1, len(_AXES)), sharey=True) as (figure, panels):
        for axes, (name, label) in zip(panels, _AXES, strict=True):
            whole = getattr(reference, name)
            for curve, colour in zip(curves, cycle(SERIES_COLOURS), strict=False):
                for kind, marker in _MARKERS.items():
                    points = [point for point in curve.points if point.threshold.partition(" ")[0] == kind]
                    points.sort(key=lambda point: point.survivors)
                    x, y = [getattr(point, name) / whole for point in points], [point.measure for point in points]
                    line = "solid" if kind == "tau" else "none"
                    title = curve.model if kind == "tau" else None
                    axes.plot(
                        x, y, marker=marker, markersize=5, color=colour, label=title, linewidth=1.2, linestyle=line
                    )
                    if kind == "tau":
                        for point, place in zip(points, zip(x, y, strict=True), strict=True):
                            value = point.threshold.partition(" ")[2]
                            write(axes, value, place, (0, 5), ha="center", color=colour, fontsize=8)
            axes.axhline(bound, color=GREY, linewidth=1, linestyle="--")
            axes.set_xlabel(f"{label}, of {curves[0].model}'s")
            axes.set_xlim(left=0)
        write(panels[0], f"{within:.1%} off", (0, bound), (4, 3), color=GREY)
        unit = " (nats a byte)" if measure == "loss" else ""
        panels[0].set_ylabel(f"{measure}{unit}; {'more' if MEASURES[measure] > 0 else 'less'} is better")
        panels[-1].legend()
        return figure


def _title(curves: Sequence[Curve], measure: str, within: float) -> str:
    """Return how few survivors each model needs for a measure within the bound."""
    bound = worst_allowed(curves[0], measure, within)
    needed = []
    for curve in curves:
        point = best_within(curve, measure, bound)
        needed.append(f"{curve.model} {'misses it' if point is None else f'{point.survivors:.0%}'}")
    return f"Survivors needed for {measure} within {within:.1%}: {', '.join(needed)}"
