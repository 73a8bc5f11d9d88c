"""Energy by part: for each threshold, and against length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.energy import PARTS
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
    write,
)

_COLOURS = {"qk": BLUE, "softmax": GREEN, "pv": SKY, "memory": ORANGE, "dram": GREY}


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
    bars = [estimate(run.workload, hardware, run.survivors) for run in runs]
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


def _bars(axes: Axes, bars: Sequence[Estimate], labels: Sequence[str], parts: Sequence[str]) -> None:
    bottom = np.zeros(len(bars))
    for part in parts:
        heights = np.array([getattr(bar.energy, part) for bar in bars]) * 1e-6
        drawn = axes.bar(labels, heights, 0.72, bottom, color=_COLOURS[part], label=PARTS[part])
        for bar in drawn.patches:
            bar.set(edgecolor="white", linewidth=0.6)
        bottom += heights
    for x, height in enumerate(bottom):
        write(axes, f"{height:.3g}", (x, height), (0, 2), ha="center", va="bottom", fontsize=8)
    axes.set_ylim(0, bottom.max() * 1.08)
    axes.set_xlabel("threshold tau (bits), and keys that survive")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", visible=False)


def energy_by_length(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of energy by part against length, a panel each for prefill and decode.

    Energy is that of a multiply-accumulate of dense attention, so that lengths compare. Parts are of runs in which
    nothing is dropped, totals of each threshold.
    """
    summary = summaries[0]
    hardware = Hardware(summary.core)
    panels = all_series(summary)
    modelled = {phase: [[one.estimate(n) for n in one.lengths] for one in series] for phase, series in panels.items()}
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
    for part, name in reversed(PARTS.items()):
        shares = [getattr(e.energy, part) / e.dense_macs for e in modelled[0]]
        axes.plot(series[0].lengths, shares, color=_COLOURS[part], linewidth=1.6, label=name)
    describe_panel(axes, series)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
