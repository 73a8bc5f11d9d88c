"""Plots: throughput against length, energy by part, accuracy against the threshold. Written as SVG and PNG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golden.config import CoreConfig
from golden.errors import InputError
from perf_model.energy import PARTS
from perf_model.estimate import estimate
from perf_model.hardware import Hardware
from perf_model.measured import LengthPoint, Summary
from perf_model.workload import Workload

SURVIVAL_RATES = (0.7, 0.4)
"""Shown where nothing was measured."""

LONGEST = 8192

# Okabe and Ito's colours, which most colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, RED = "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00"
PART_COLOURS = {"qk": BLUE, "softmax": GREEN, "pv": SKY, "memory": ORANGE, "dram": "#999999"}

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    # The same file for the same data, on any day.
    "svg.hashsalt": "lean-attention",
}


@contextmanager
def _canvas(
    title: str, subtitle: str, size: tuple[float, float] = (8.2, 4.8), panels: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of panels, with a title that tells the finding and a subtitle that tells what is shown."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(1, panels, n + 1) for n in range(panels)]
        axes[0].set_title(f"{title}\n", fontweight="bold").set_in_layout(False)
        note = axes[0].text(0, 1.02, subtitle, transform=axes[0].transAxes, fontsize=9, color="#444444", va="bottom")
        note.set_in_layout(False)
        yield figure, axes


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `figure` to `folder` as SVG and PNG and return the two paths.

    Raises
    ------
    InputError
        If it can't be written.
    """
    paths = [folder / f"{name}.{kind}" for kind in ("svg", "png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE):
            for path in paths:
                figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error
    return paths


def _core(core: CoreConfig) -> str:
    return f"core of {core.rows} x {core.lanes} multipliers"


def _workload(summary: Summary) -> Workload:
    """Return the measured input as a workload of one layer."""
    return Workload(
        name=Path(summary.name).stem,
        heads=summary.heads,
        head_dim=summary.head_dim,
        value_dim=summary.value_dim,
        layers=1,
        length=summary.keys,
        phase="prefill",
        causal=summary.causal,
    )


def _label(tau: float | None) -> str:
    return "nothing dropped" if tau is None else f"tau {tau:g}"


def _measured_rates(points: Sequence[LengthPoint]) -> dict[str, float]:
    """Return a survival rate for each threshold measured: that of its longest run."""
    longest = {_label(point.tau): point.survivors for point in sorted(points, key=lambda point: point.keys)}
    return {label: 1.0 if label == _label(None) else rate for label, rate in longest.items()}


def _lengths(core: CoreConfig) -> list[int]:
    """Return sequence lengths about evenly spaced on a logarithmic axis, all of them full blocks of rows."""
    longest = min(LONGEST, core.max_keys)
    blocks = np.unique(np.geomspace(1, max(longest // core.rows, 1), 40).round().astype(int))
    return [int(n) * core.rows for n in blocks]


def throughput(summary: Summary) -> Figure:
    """Return the plot of throughput against sequence length: the model's lines, and what the RTL was measured to do.

    A line is drawn for each threshold that was measured, at the survival rate of its longest run; where none was, at
    those of `SURVIVAL_RATES`. Only runs with as many queries as keys are comparable, so only these are drawn.
    """
    hardware = Hardware(summary.core)
    workload = _workload(summary)
    points = [point for point in summary.lengths if point.queries == point.keys]
    rates = {_label(None): 1.0} | _measured_rates(points)
    spare = {f"{rate:.0%} survive": rate for rate in SURVIVAL_RATES}
    rates |= spare if len(rates) == 1 else {}
    lengths = _lengths(summary.core)

    def modelled(length: int, rate: float) -> float:
        return estimate(replace(workload, length=length), hardware, rate).effective_macs_per_cycle

    best = max(modelled(lengths[-1], rate) for rate in rates.values()) / hardware.multipliers
    title = (
        f"Dropping keys makes the array worth up to {best:.2f} times its multipliers"
        if best > 1.005
        else "Long sequences keep every multiplier busy"
    )
    subtitle = (
        f"{_core(summary.core)}; {workload.name}: {summary.heads} heads back to back, head dimension {summary.head_dim}"
        f"{', causal' if summary.causal else ''}"
    )
    with _canvas(title, subtitle) as (figure, (axes,)):
        axes.axhline(hardware.multipliers, color="#777777", linestyle=":", linewidth=1.2)
        axes.annotate(
            f"{hardware.multipliers}\nmultipliers",
            (lengths[-1], hardware.multipliers),
            xytext=(4, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=9,
            color="#555555",
        )
        for (label, rate), colour in zip(
            rates.items(), (BLACK, RED, BLUE, GREEN, ORANGE, SKY) * len(rates), strict=False
        ):
            name = label if label in (_label(None), *spare) else f"{label} ({rate:.0%} survive)"
            axes.plot(lengths, [modelled(n, rate) for n in lengths], color=colour, label=f"model: {name}")
            chosen = [point for point in points if _label(point.tau) == label]
            if not chosen:
                continue
            sizes = [point.keys for point in chosen]
            dense = [estimate(replace(workload, length=n), hardware).dense_macs for n in sizes]
            if rate < 1:
                own = [modelled(point.keys, point.survivors) for point in chosen]
                axes.plot(sizes, own, "x", markersize=8, color=colour, label=f"model: {label}, at each run's survivors")
            axes.plot(
                sizes,
                [macs / point.cycles for macs, point in zip(dense, chosen, strict=True)],
                "o",
                markersize=8,
                markerfacecolor="none",
                markeredgewidth=1.6,
                color=colour,
                label=f"simulated RTL: {label}",
            )
        axes.set_xscale("log", base=2)
        ticks = [2**n for n in range(14) if lengths[0] <= 2**n <= lengths[-1]]
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"sequence length (tokens; queries = keys; line through multiples of {summary.core.rows})")
        axes.set_ylabel("effective MACs a cycle\n(work of dropped keys counted as done)")
        axes.legend(loc="lower right")
        return figure


def energy_breakdown(summary: Summary, hardware: Hardware | None = None) -> Figure:
    """Return the plot of energy by part, a bar for each threshold at its survivors: of the core, and with DRAM."""
    hardware = hardware or Hardware(summary.core)
    workload = _workload(summary)
    points = sorted(summary.points, key=lambda point: -1e9 if point.tau is None else -point.tau)
    bars = [estimate(workload, hardware, point.survivors) for point in points]
    labels = [f"{_tau(point.tau)}\n{point.survivors:.0%}" for point in points]
    saved = 1 - bars[-1].energy.core / bars[0].energy.core
    whole = 1 - bars[-1].energy.total / bars[0].energy.total
    title = (
        f"Dropping {1 - points[-1].survivors:.0%} of the keys saves {saved:.0%} of the core's energy, "
        f"{whole:.0%} of all with the DRAM"
    )
    subtitle = (
        f"{workload.name}: {workload.heads} heads x {workload.length} tokens; {_core(summary.core)} in "
        f"{hardware.technology}; DRAM {hardware.dram}; scratchpad {hardware.scratchpad_kib} KiB"
    )
    with _canvas(title, subtitle, (10.5, 4.8), panels=2) as (figure, panels):
        for axes, parts in zip(panels, ([part for part in PARTS if part != "dram"], list(PARTS)), strict=True):
            bottom = np.zeros(len(bars))
            for part in parts:
                heights = np.array([getattr(bar.energy, part) for bar in bars]) * 1e-6
                axes.bar(
                    labels,
                    heights,
                    0.72,
                    bottom,
                    color=PART_COLOURS[part],
                    label=PARTS[part],
                    edgecolor="white",
                    linewidth=0.6,
                )
                bottom += heights
            for x, height in enumerate(bottom):
                axes.annotate(
                    f"{height:.3g}",
                    (x, height),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
            axes.set_ylim(0, bottom.max() * 1.08)
            axes.set_xlabel("threshold tau (bits), and keys that survive")
            axes.tick_params(axis="x", labelsize=8)
            axes.grid(axis="x", visible=False)
        panels[0].set_ylabel("energy of the core (µJ a layer)")
        panels[1].set_ylabel("energy with DRAM (µJ a layer)")
        handles, names = panels[1].get_legend_handles_labels()
        panels[1].legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


def _tau(tau: float | None) -> str:
    return "all" if tau is None else f"{tau:g}"


def accuracy(summary: Summary) -> Figure:
    """Return the plot of accuracy and of survivors against the threshold, as measured; "all" keeps every key."""
    points = sorted(summary.points, key=lambda point: 1e9 if point.tau is None else point.tau)
    labels = [_tau(point.tau) for point in points]
    places = range(len(points))
    lowest = points[0]
    title = f"At tau {_tau(lowest.tau)}, {lowest.survivors:.0%} of the keys give {lowest.snr_db:.0f} dB"
    full = points[-1]
    if full.tau is None and len(points) > 1:
        title += f"; all of them {full.snr_db:.0f} dB"
    subtitle = f"simulated RTL on {summary.name}, {_core(summary.core)}; against float64 on the same int8 tensors"
    with _canvas(title, subtitle) as (figure, (axes,)):
        snr = axes.plot(places, [point.snr_db for point in points], color=BLUE, marker="o", label="accuracy (left)")
        axes.set_xticks(places, labels)
        axes.set_xlabel("threshold tau (bits): a key is dropped when each row gives it less than 2^-tau of its largest")
        axes.set_ylabel("signal to noise (dB)", color=BLUE)
        axes.set_ylim(0, max(point.snr_db for point in points) * 1.1)
        other = axes.twinx()
        other.spines["right"].set_visible(True)
        other.grid(False)
        kept = other.plot(
            places,
            [100 * point.survivors for point in points],
            color=RED,
            marker="s",
            linestyle="--",
            label="survivors (right)",
        )
        other.set_ylim(0, 110)
        other.set_ylabel("keys that survive (%)", color=RED)
        axes.legend(handles=[*snr, *kept], loc="lower right")
        return figure


PLOTS = {"throughput": throughput, "energy": energy_breakdown, "accuracy": accuracy}
"""Plots of a summary by the name of their files."""


def write_plots(summary: Summary, folder: Path) -> list[Path]:
    """Draw all plots of `summary` into `folder` and return the files written."""
    return [path for name, draw in PLOTS.items() for path in save(draw(summary), folder, name)]
