"""Accuracy against cycles: what a threshold saves, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.measured import Run, Summary
from perf_model.plots.style import SERIES_COLOURS, canvas, core_text, write

CLEAN_DB = 40.0
"""Signal to noise that the title asks for: an error of a hundredth of the signal."""

_CROWDED = 0.04
"""Share of the line's width below which two names would touch."""


def accuracy(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of signal to noise against cycles, a point a threshold and a line a core, as measured.

    The cores of `summaries` are compared that ran the same layer as the first, as far as name and shape tell.
    """
    first = summaries[0].points[0]
    compared = [summary for summary in summaries if _layer(summary.points[0]) == _layer(first)]
    subtitle = (
        f"simulated RTL on {first.input}: {first.heads} heads, {first.queries} queries, {first.keys} keys, "
        f"d = {first.head_dim}; at each point tau in bits;\nsignal to noise of the output is against float64 attention "
        "on the same int8 tensors"
    )
    with canvas(_title(compared), subtitle) as (figure, (axes,)):
        for summary, colour in zip(compared, SERIES_COLOURS * len(compared), strict=False):
            _line(axes, summary, colour)
        axes.set_xlabel("cycles of the layer (thousands)")
        axes.set_ylabel("signal to noise (dB)")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08, y=0.1)
        axes.legend(loc="lower right")
        return figure


def _layer(run: Run) -> tuple[object, ...]:
    return run.input, run.heads, run.queries, run.keys, run.head_dim, run.value_dim, run.causal, run.window


def cleanest(summary: Summary) -> Run | None:
    """Return the run of the fewest cycles with `CLEAN_DB` at least, None if there is none."""
    clean = (run for run in summary.points if run.snr_db >= CLEAN_DB)
    return min(clean, default=None, key=lambda run: run.cycles)


def _title(compared: Sequence[Summary]) -> str:
    """Return how many cycles a clean output saves, by core."""
    savings = []
    for summary in compared:
        clean, dense = cleanest(summary), next((run for run in summary.points if run.tau is None), None)
        if clean and dense:
            rows = f" by {summary.core.rows} rows" if len(compared) > 1 else ""
            savings.append(f"{1 - clean.cycles / dense.cycles:.0%}{rows}")
    if not savings:
        return "What a threshold saves, and what it costs"
    return f"With {CLEAN_DB:.0f} dB of signal to noise, dropping keys saves {' and '.join(savings)} of the cycles"


def _line(axes: Axes, summary: Summary, colour: str) -> None:
    runs = sorted(summary.points, key=lambda run: float("inf") if run.tau is None else run.tau)
    places = [(run.cycles / 1000, run.snr_db) for run in runs]
    axes.plot(*zip(*places, strict=True), "o-", markersize=5, color=colour, label=core_text(summary.core))
    crowded = False
    for n, (run, (x, y)) in enumerate(zip(runs, places, strict=True)):
        # Where thresholds end up close together their names go above and below by turns.
        crowded = n > 0 and not crowded and x - places[n - 1][0] < _CROWDED * (places[-1][0] - places[0][0])
        name, offset, side = (
            "all" if run.tau is None else f"{run.tau:g}",
            -5 if crowded else 4,
            "top" if crowded else "bottom",
        )
        write(axes, name, (x, y), (0, offset), ha="center", va=side, color=colour)
