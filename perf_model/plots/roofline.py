"""Roofline: whether array or memory holds prefill and decode back, and what dropping keys does about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golden.memory import CHANNEL_ORDER
from perf_model.estimate import estimate
from perf_model.hardware import Hardware
from perf_model.measured import Run, Summary
from perf_model.plots.series import dense_macs, rows_in_use
from perf_model.plots.style import BLUE, NOTE, RED, canvas, core_text, tau_text, write

_COLOURS = {"prefill": BLUE, "decode": RED}
_MARKERS = {"prefill": "o", "decode": "s"}


class Point(NamedTuple):
    """A run as a point of the plot."""

    run: Run
    intensity: float
    rate: float


def point_of(summary: Summary, run: Run) -> Point:
    """Return a run's effective MACs a byte, and a cycle.

    Work of dropped keys counts as done. Bytes are those that the memory's channel moves: requests are left out.
    """
    macs = dense_macs(summary.core, run)
    return Point(run, macs / sum(run.bytes[port] for port in CHANNEL_ORDER), macs / run.cycles)


def points(summary: Summary) -> list[Point]:
    """Return the longest run of each phase at each of its thresholds, never stalled, and with a memory."""
    chosen = []
    for phase in _COLOURS:
        for tau in summary.thresholds(phase):
            for never_stalled in (True, False):
                chosen += summary.select(phase, tau, never_stalled)[-1:]
    return [point_of(summary, run) for run in chosen]


def scratchpad_intensity(summary: Summary, run: Run) -> float:
    """Return the effective MACs a byte of DRAM, if K and V wait in the default hardware's scratchpad."""
    modelled = estimate(run.workload, Hardware(summary.core), run.survivors, follow=False)
    return modelled.dense_macs / modelled.traffic.dram


def roofline(summaries: Sequence[Summary]) -> Figure:
    """Return the roofline with the measured runs: of each phase the longest, never stalled and with a memory."""
    summary = summaries[0]
    core, shown = summary.core, points(summary)
    subtitle = (
        f"simulated RTL, {core_text(core)}; work of dropped keys counts as done; bytes of q, k, v and o;\n"
        + ", ".join(dict.fromkeys(f"{point.run.phase} of {point.run.workload.name}" for point in shown))
    )
    with canvas(_title(shown), subtitle, (8.2, 5.4)) as (figure, (axes,)):
        peak = core.rows * core.lanes
        lowest, highest = (factor * limit(p.intensity for p in shown) for factor, limit in ((0.4, min), (10, max)))
        for bandwidth in sorted({p.run.memory.bandwidth for p in shown if p.run.memory.bandwidth}):
            ridge = peak / bandwidth
            axes.plot([lowest, ridge], [bandwidth * lowest, peak], color=NOTE, linewidth=1.6)
            axes.text(
                lowest * 5.3,
                bandwidth * lowest * 5.3,
                f"memory: {bandwidth:g} bytes a cycle",
                fontsize=9,
                color=NOTE,
                ha="left",
                va="top",
                rotation=np.degrees(np.arctan(bandwidth)),
                rotation_mode="anchor",
                transform_rotates_text=True,
            )
        for rows in sorted({core.rows, *(rows_in_use(core, p.run) for p in shown)}):
            roof, full = rows * core.lanes, rows == core.rows
            axes.axhline(roof, color=NOTE, linewidth=1.6, linestyle="-" if full else ":")
            text = f"array: {roof} multipliers" + ("" if full else f" of the {rows} rows in use")
            write(axes, text, (highest, roof), (-2, 3), ha="right", va="bottom", color=NOTE)
        _mark(axes, shown)
        _move_to_scratchpad(axes, summary, shown)
        for axis, set_scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            set_scale("log", base=2)
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(lowest, highest)
        axes.set_ylim(min(p.rate for p in shown) / 2, peak * 2)
        axes.set_xlabel("intensity (effective MACs a byte moved)")
        axes.set_ylabel("effective MACs a cycle")
        axes.legend(loc="lower right")
        return figure


def _title(shown: Sequence[Point]) -> str:
    """Return what dropping keys made of decode with the memory, or, where that was not run, of prefill."""
    slow = [point for point in shown if not point.run.never_stalled]
    for phase in ("decode", "prefill"):
        rates = {point.run.tau: point.rate for point in slow if point.run.phase == phase}
        if None in rates and len(rates) > 1:
            gain = max(rates.values()) / rates[None]
            return f"Dropping keys lifts {phase} along the memory's roof, to {gain:.2f} x the rate"
    return "Which roof holds the core back: array or memory"


def _mark(axes: Axes, shown: Sequence[Point]) -> None:
    named = set()
    for point in shown:
        run, colour = point.run, _COLOURS[point.run.phase or ""]
        name = f"{run.phase}, {'never stalled' if run.never_stalled else 'with the memory'}"
        axes.plot(
            point.intensity,
            point.rate,
            linestyle="",
            marker=_MARKERS[run.phase or ""],
            markersize=9,
            color=colour,
            markerfacecolor=colour if run.never_stalled else "white",
            markeredgewidth=1.6,
            label=None if name in named else name,
            zorder=3,
        )
        named.add(name)
        text = "dense" if run.tau is None else tau_text(run.tau)
        # Out of each other's way: never stalled to the left, dense below.
        side, x = ("right", -8) if run.never_stalled else ("left", 8)
        above, y = ("top", -4) if run.tau is None else ("bottom", 2) if run.never_stalled else ("center", 0)
        place = (point.intensity, point.rate)
        write(axes, f"{text}, {run.keys} tokens", place, (x, y), ha=side, va=above, fontsize=8, color=colour)


def _move_to_scratchpad(axes: Axes, summary: Summary, shown: Sequence[Point]) -> None:
    """Draw how far a scratchpad for K and V moves dense prefill away from the memory's roof."""
    for point in shown:
        if (point.run.phase, point.run.tau, point.run.never_stalled) != ("prefill", None, True):
            continue
        intensity = scratchpad_intensity(summary, point.run)
        arrow = {"arrowstyle": "->", "color": BLUE, "shrinkA": 8, "shrinkB": 0}
        axes.annotate("", (intensity, point.rate), (point.intensity, point.rate), arrowprops=arrow)
        text = f"bytes of DRAM,\n{Hardware(summary.core).scratchpad_kib} KiB for K and V"
        write(axes, text, (intensity, point.rate), (0, -6), ha="center", va="top", fontsize=8, color=BLUE)
