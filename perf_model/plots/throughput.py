"""Throughput against length: what dropping keys makes of the multipliers, in prefill and in decode."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.measured import Summary
from perf_model.plots.series import FOLLOWED, Series, all_series, dense_macs, describe_panel
from perf_model.plots.style import NOTE, canvas, core_text, write


def throughput(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of effective MACs a cycle against length, a panel each for prefill and decode.

    Work of dropped keys counts as done, so that what dropping saves shows. Lines are the model's at the survivors of
    the runs (`perf_model.plots.series.Series.survival`), points what the simulated core was measured to do.
    """
    summary = summaries[0]
    panels = all_series(summary)
    findings = [finding for phase, series in panels.items() if (finding := _finding(phase, series))]
    dropped = f"Dropping keys makes {' and '.join(findings)} as fast"
    title = dropped if findings else "Long inputs keep all multipliers busy"
    subtitle = (
        f"{core_text(summary.core)}, streams never stalled; lines: model at the survivors of the runs, "
        f"exact up to {FOLLOWED} tokens"
    )
    with canvas(title, subtitle, (10, 4.6), (1, len(panels))) as (figure, all_axes):
        for axes, series in zip(all_axes, panels.values(), strict=True):
            _panel(axes, series)
        return figure


def _finding(phase: str, series: Sequence[Series]) -> str:
    """Return how much faster dropping made the longest run."""
    dense, *thresholded = series
    if dense.tau is not None or not thresholded:
        return ""
    last = max((one.runs[-1] for one in thresholded), key=lambda run: run.keys)
    other = next((run for run in dense.runs if run.keys == last.keys), None)
    return f"{phase} of {last.keys} tokens {other.cycles / last.cycles:.2f} x" if other else ""


def _panel(axes: Axes, series: Sequence[Series]) -> None:
    core, rows, roof = series[0].core, series[0].rows_in_use, series[0].multipliers_in_use
    axes.axhline(roof, color=NOTE, linestyle=":", linewidth=1.2)
    text = f"{roof} multipliers" + ("" if rows == core.rows else f" of the {rows} rows in use")
    write(axes, text, (1, roof), (0, 3), xycoords=("axes fraction", "data"), ha="right", color=NOTE)
    for one in series:
        modelled = [one.estimate(n).effective_macs_per_cycle for n in one.lengths]
        axes.plot(one.lengths, modelled, color=one.colour, label=f"model: {one.label}")
        one.mark(axes, [dense_macs(core, run) / run.cycles for run in one.runs])
    describe_panel(axes, series)
    axes.set_ylim(0, 1.08 * axes.dataLim.ymax)
    axes.set_ylabel("effective MACs a cycle (dropped ones count)")
    axes.legend(loc="lower right")
