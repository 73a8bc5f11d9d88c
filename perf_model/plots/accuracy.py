"""Accuracy against cycles: what a threshold saves, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.measured import Run, Summary
from perf_model.plots.style import SERIES_COLOURS, canvas, core_text, write

CLEAN_DB = 40.0
"""Signal to noise that the title asks for: an error of a hundredth of the signal."""

_MOST_DB = 200.0
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
        for n, (summary, colour) in enumerate(zip(compared, cycle(SERIES_COLOURS), strict=False)):
            _line(axes, summary, colour, below=n > 0)
        axes.set_xlabel("cycles of the layer (thousands)")
        axes.set_ylabel("signal to noise (dB)")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.08, y=0.1)
        axes.legend(loc="lower right")
        return figure


def _layer(run: Run) -> tuple[object, ...]:
    return run.input, run.heads, run.queries, run.keys, run.head_dim, run.value_dim, run.causal, run.window


def clean_cycles(summary: Summary) -> float:
    """Return the cycles at which the output has `CLEAN_DB`, on straight lines between the measured points."""
    runs = sorted(summary.points, key=lambda run: run.snr_db)
    return float(np.interp(CLEAN_DB, [min(run.snr_db, _MOST_DB) for run in runs], [run.cycles for run in runs]))


def _title(compared: Sequence[Summary]) -> str:
    """Return what share of its cycles each core saves at `CLEAN_DB`."""
    savings = {}
    for summary in compared:
        dense = next((run for run in summary.points if run.tau is None), None)
        if dense and dense.snr_db >= CLEAN_DB:
            savings[f"{summary.core.rows} rows"] = f"{1 - clean_cycles(summary) / dense.cycles:.0%}"
    if not savings:
        return "What a threshold saves, and what it costs"
    shares = ", ".join(f"{rows} {share}" for rows, share in savings.items())
    return f"At {CLEAN_DB:.0f} dB, dropping keys saves {shares} of the cycles"


def _line(axes: Axes, summary: Summary, colour: str, below: bool) -> None:
    runs = sorted(summary.points, key=lambda run: float("inf") if run.tau is None else run.tau)
    places = [(run.cycles / 1000, run.snr_db) for run in runs]
    axes.plot(*zip(*places, strict=True), "o-", markersize=5, color=colour, label=core_text(summary.core))
    turned = False
    for n, (run, (x, y)) in enumerate(zip(runs, places, strict=True)):
        # Where thresholds end up close together the names of the first core go above and below by turns.
        crowded = n > 0 and x - places[n - 1][0] < _CROWDED * (places[-1][0] - places[0][0])
        turned = crowded and not turned
        if crowded and below:
            continue
        offset, side = (-5, "top") if turned != below else (4, "bottom")
        name = "all" if run.tau is None else f"{run.tau:g}"
        write(axes, name, (x, y), (0, offset), ha="center", va=side, color=colour)
