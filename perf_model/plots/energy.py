"""Energy by part: for each threshold, and against length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.energy import PARTS, Energy
from perf_model.estimate import Estimate, estimate
from perf_model.hardware import Hardware
from perf_model.measured import Summary
from perf_model.plots.series import Series, all_series, describe_panel
from perf_model.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    canvas,
    core_text,
    tau_text,
)

_COLOURS = {"qk": BLUE, "softmax": GREEN, "pv": SKY, "memory": ORANGE, "dram": GREY}
_SPREAD = "all, by other sources"


def _surroundings(hardware: Hardware) -> str:
    return (
        f"{core_text(hardware.core)} in {hardware.technology}; DRAM {hardware.dram}; "
        f"{hardware.scratchpad_kib} KiB for K and V"
    )


def energy_by_threshold(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of energy by part, a bar for each threshold at its survivors: of the core, and with DRAM."""
    summary = summaries[0]
    hardware = Hardware(summary.core)
    runs = sorted(summary.points, key=lambda run: float("-inf") if run.tau is None else -run.tau)
    bars = [estimate(run.workload, hardware, run.survivors, follow=False) for run in runs]
    labels = [f"{'all' if run.tau is None else f'{run.tau:g}'}\n{run.survivors:.0%}" for run in runs]
    dense, fewest = bars[0].energy, bars[-1].energy
    title = (
        f"Dropping {1 - runs[-1].survivors:.0%} of the keys saves {1 - fewest.core / dense.core:.0%} of the core's "
        f"energy, {1 - fewest.total / dense.total:.0%} of all with the DRAM"
    )
    workload = runs[0].workload
    subtitle = (
        f"model at the measured survivors: {workload.name}, {workload.heads} heads x {workload.length} tokens;\n"
        f"{_surroundings(hardware)}"
    )
    with canvas(title, subtitle, (10, 4.8), (1, 2)) as (figure, panels):
        for axes, parts in zip(panels, ([part for part in PARTS if part != "dram"], list(PARTS)), strict=True):
            _bars(axes, bars, labels, parts)
        panels[0].set_ylabel("energy of the core (µJ a layer)")
        panels[1].set_ylabel("energy with DRAM (µJ a layer)")
        handles, names = panels[1].get_legend_handles_labels()
        panels[1].legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _sums(energies: Sequence[Energy], parts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the sum of some parts of each energy, in µJ."""
    return np.array([sum(getattr(energy, part) for part in parts) for energy in energies]) * 1e-6


def _bars(axes: Axes, bars: Sequence[Estimate], labels: Sequence[str], parts: Sequence[str]) -> None:
    places, bottom = range(len(bars)), np.zeros(len(bars))
    for part in parts:
        heights = _sums([bar.energy for bar in bars], [part])
        drawn = axes.bar(places, heights, 0.72, bottom, color=_COLOURS[part], label=PARTS[part])
        for patch in drawn.patches:
            patch.set(edgecolor="white", linewidth=0.6)
        bottom += heights
    least, most = (_sums([getattr(bar.energies, name) for bar in bars], parts) for name in ("least", "most"))
    reach = [bottom - least, most - bottom]
    axes.errorbar(places, bottom, reach, linestyle="", color=BLACK, elinewidth=1, capsize=3, label=_SPREAD)
    axes.set_xticks(
        places, [f"{label}\n{height:#.3g}" for label, height in zip(labels, bottom, strict=True)], fontsize=8
    )
    axes.set_ylim(0, most.max() * 1.04)
    axes.set_xlabel("threshold tau (bits); keys that survive; energy (µJ)")
    axes.grid(axis="x", visible=False)


def energy_by_length(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of energy by part against length, a panel each for prefill and decode.

    Energy is that of a multiply-accumulate of dense attention, so that lengths compare. Parts are of runs in which
    nothing is dropped, totals of each threshold.
    """
    summary = summaries[0]
    hardware = Hardware(summary.core)
    panels = all_series(summary)
    modelled = {
        phase: [[one.estimate(n, follow=False) for n in one.lengths] for one in series]
        for phase, series in panels.items()
    }
    least = {
        phase: f"{min(e.energy.dram / e.energy.total for e in estimates[0]):.0%} of the energy of {phase}"
        for phase, estimates in modelled.items()
    }
    title = "The DRAM takes " + " and ".join(least.values()) + " at least"
    subtitle = f"model at the survivors of the measured runs; {_surroundings(hardware)}"
    with canvas(title, subtitle, (10, 4.6), (1, len(panels)), sharey=True) as (figure, all_axes):
        for axes, (phase, series) in zip(all_axes, panels.items(), strict=True):
            _lines(axes, series, modelled[phase])
        all_axes[0].set_ylabel("energy (pJ a MAC of dense attention)")
        all_axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _lines(axes: Axes, series: Sequence[Series], modelled: Sequence[Sequence[Estimate]]) -> None:
    for n, (one, estimates) in enumerate(zip(series, modelled, strict=True)):
        totals = [e.energy.total / e.dense_macs for e in estimates]
        style = ("-", "--", ":")[n % 3]
        axes.plot(one.lengths, totals, style, color=BLACK, linewidth=2.4, label=f"all: {tau_text(one.tau)}")
        if one.tau is None:
            least, most = (
                [getattr(e.energies, name).total / e.dense_macs for e in estimates] for name in ("least", "most")
            )
            axes.fill_between(one.lengths, least, most, color=BLACK, alpha=0.12, linewidth=0, label=_SPREAD)
    for part, name in reversed(PARTS.items()):
        shares = [getattr(e.energy, part) / e.dense_macs for e in modelled[0]]
        axes.plot(series[0].lengths, shares, color=_COLOURS[part], linewidth=1.6, label=name)
    describe_panel(axes, series)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
