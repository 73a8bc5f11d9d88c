"""The Pareto front of a sweep: every configuration, and by name those than which none is better in both figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.pareto import Front, Objective
from perf_model.plots.style import GREY, NOTE, RED, canvas

_NAMES = 30
"""Names that fit beside the plot."""

_LISTED: dict[str, Any] = {"fontsize": 8, "family": "monospace", "va": "top", "linespacing": 1.5}


def pareto_front(front: Front) -> Figure:
    """Return the plot of a front, its configurations numbered by rising x and named beside it."""
    count = len(front.every) + sum(each.alike for each in front.every)
    best = len(front.best)
    figures = " and ".join(objective.label.partition(" (")[0] for objective in (front.x, front.y))
    title = f"{best} of {count:,} configurations {'are' if best > 1 else 'is'} not beaten in {figures} at once"
    with canvas(title, front.scenario, (11, 5.2), (1, 2), width_ratios=(1.55, 1)) as (figure, (axes, names)):
        axes.scatter([c.x for c in front.every], [c.y for c in front.every], s=14, color=GREY, label="beaten", zorder=2)
        x, y = [c.x for c in front.best], [c.y for c in front.best]
        axes.plot(x, y, color=RED, linewidth=1, drawstyle=_steps(front), zorder=3)
        axes.plot(x, y, "o", color=RED, markersize=6, label="not beaten", zorder=4)
        for number, each in enumerate(front.best[:_NAMES], 1):
            axes.annotate(
                f"{number}",
                (each.x, each.y),
                (5 * front.x.best, 5 * front.y.best),
                textcoords="offset points",
                ha="left" if front.x.best > 0 else "right",
                va="bottom" if front.y.best > 0 else "top",
                fontsize=8,
                color=RED,
            )
        _axis(axes, "x", front.x, [c.x for c in front.every])
        _axis(axes, "y", front.y, [c.y for c in front.every])
        axes.legend()
        names.axis("off")
        names.text(0, 1, "\n".join(_lines(front)), transform=names.transAxes, **_LISTED)
        return figure


def _lines(front: Front) -> list[str]:
    lines = [
        f"{number:2}  {each.name}" + (f" (and {each.alike} alike)" if each.alike else "")
        for number, each in enumerate(front.best[:_NAMES], 1)
    ]
    return lines + ([f"and {len(front.best) - _NAMES} more"] if len(front.best) > _NAMES else [])


def _steps(front: Front) -> str:
    """Return how the front's line goes from point to point: around what no configuration reaches."""
    return "steps-post" if front.x.best < 0 else "steps-pre"


def _axis(axes: Axes, which: str, objective: Objective, values: Sequence[float]) -> None:
    """Label an axis and say which way is better; logarithmic for figures of very different size."""
    better = "more" if objective.best > 0 else "less"
    axes.set(**{f"{which}label": f"{objective.label}; {better} is better"})
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set(**{f"{which}scale": "log"})
        axes.tick_params(which="minor", colors=NOTE)
