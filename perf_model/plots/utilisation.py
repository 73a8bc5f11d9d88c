"""Utilisation against length: how many of its multipliers the core keeps at needed work, beside peers."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.measured import Summary
from perf_model.plots.series import FOLLOWED, Series, all_series, describe_panel
from perf_model.plots.style import canvas, core_text


def utilisation(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of utilisation against length, a panel each for prefill and decode.

    Utilisation is the share of what the multipliers of the rows in use could do that is needed: dropped keys do not
    count. The line is the exact model's as far as that is followed, the closed form's throughout; points are measured.
    """
    summary = summaries[0]
    panels = all_series(summary)
    title = "Multipliers at needed work: " + ", ".join(_finding(phase, series[0]) for phase, series in panels.items())
    subtitle = (
        f"share of the MACs of the rows in use that are needed; {core_text(summary.core)}, streams never stalled;\n"
        "measured on the simulated core, and modelled at the survivors of those runs"
    )
    with canvas(title, subtitle, (10, 4.8), (1, len(panels)), sharey=True) as (figure, all_axes):
        for axes, series in zip(all_axes, panels.values(), strict=True):
            _panel(axes, series)
        all_axes[0].set_ylabel("needed MACs (% of what the rows in use can do)")
        return figure


def _finding(phase: str, series: Series) -> str:
    """Return the utilisation of the longest run."""
    run = series.runs[-1]
    return f"{run.macs / (run.cycles * series.multipliers_in_use):.1%} in {phase} of {run.keys} tokens"


def _panel(axes: Axes, series: Sequence[Series]) -> None:
    for one in series:
        share = 100 / one.multipliers_in_use
        lengths, followed = one.lengths, [n for n in one.lengths if n <= FOLLOWED]
        for chosen, exact, style in ((followed, True, "-"), (lengths, False, "--")):
            modelled = [one.estimate(n, exact) for n in chosen]
            axes.plot(
                chosen,
                [share * estimate.macs / estimate.cycles.total for estimate in modelled],
                color=one.colour,
                linestyle=style,
                linewidth=2.4 if exact else 1.0,
                label=f"exact model: {one.label}" if exact else "closed form",
            )
        one.mark(axes, [share * run.macs / run.cycles for run in one.runs])
    describe_panel(axes, series)
    axes.set_ylim(0, 104)
    axes.legend(loc="lower right")
