"""Utilisation against length: how many of its multipliers the core keeps at needed work, beside peers."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.measured import Summary
from perf_model.peers import load_peers
from perf_model.plots.series import FOLLOWED, Series, all_series, describe_panel
from perf_model.plots.style import PURPLE, canvas, core_text, length_axis, tau_text, write


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
        "measured on the simulated core, and modelled at the survivors of those runs; peers: python -m perf_model peers"
    )
    with canvas(title, subtitle, (10, 4.8), (1, len(panels)), sharey=True) as (figure, all_axes):
        for axes, (phase, series) in zip(all_axes, panels.items(), strict=True):
            _panel(axes, series)
            if phase == "prefill":
                _peers(axes)
        all_axes[0].set_ylabel("needed MACs (% of what the rows in use can do)")
        names = {
            name: handle for axes in all_axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        all_axes[-1].legend(names.values(), names.keys(), loc="lower right")
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
                label=f"{'exact model' if exact else 'closed form'}: {tau_text(one.tau)}",
            )
        one.mark(axes, [share * run.macs / run.cycles for run in one.runs])
    describe_panel(axes, series)
    axes.set_ylim(0, 104)


def _peers(axes: Axes) -> None:
    """Draw the dense prefill of other accelerators at its length: of RTL filled, of a model hollow."""
    for peer in load_peers().values():
        measures = [(case, peer.macs_per_multiplier_cycle(case)) for case in peer.cases if case.keys]
        places = [(case.keys or 0, 100 * share, case) for case, share in measures if share is not None]
        if not places:
            continue
        axes.plot(
            [keys for keys, _, _ in places], [share for _, share, _ in places], color=PURPLE, linewidth=1, zorder=1
        )
        for keys, share, case in places:
            hollow = case.evidence == "modelled"
            axes.plot(
                keys,
                share,
                linestyle="",
                marker="D",
                color=PURPLE,
                markerfacecolor="white" if hollow else PURPLE,
                label="peers, as modelled" if hollow else "peers, simulated RTL",
                zorder=2,
            )
        # High ones have our own lines beside them, low ones each other above and below.
        if places[0][1] > 50:
            write(axes, peer.name, places[-1][:2], (0, -6), ha="center", va="top", color=PURPLE)
        else:
            write(axes, peer.name, places[0][:2], (-7, 0), ha="right", va="center", color=PURPLE)
    length_axis(axes, [int(keys) for keys in axes.dataLim.intervalx], axes.get_xlabel())
