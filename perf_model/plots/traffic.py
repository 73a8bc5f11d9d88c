"""Traffic against length, as a multiple of the least that dense attention must move."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perf_model.baselines import unfused
from perf_model.estimate import estimate
from perf_model.hardware import Hardware
from perf_model.measured import Run, Summary
from perf_model.plots.series import Series, all_series, describe_panel
from perf_model.plots.style import GREY, NOTE, canvas, core_text


def compulsory(series: Series, run: Run) -> int:
    """Return the least bytes that dense attention of a run's shape must move."""
    return estimate(run.workload, Hardware(series.core), follow=False).traffic.compulsory


def traffic(summaries: Sequence[Summary]) -> Figure:
    """Return the plot of bytes over the least that must be moved, a panel each for prefill and decode.

    Points are bytes on the ports of the simulated core, and lines the model's, which are equal at a run's survivors;
    with them what the DRAM moves if a scratchpad holds K and V, and what it would for unfused attention.
    """
    summary = summaries[0]
    panels = all_series(summary)
    hardware = Hardware(summary.core)
    subtitle = (
        f"bytes of q, k, v, o and value requests over q, k, v and o moved once; {core_text(summary.core)}\n"
        "unfused: scores and probabilities go to memory and back as well, 2 bytes each"
    )
    with canvas(_title(panels), subtitle, (10, 4.8), (1, len(panels))) as (figure, all_axes):
        for axes, (phase, series) in zip(all_axes, panels.items(), strict=True):
            _panel(axes, phase, series, hardware)
        return figure


def _title(panels: dict[str, list[Series]]) -> str:
    for phase, series in panels.items():
        if phase == "decode" and len(series) > 1:
            run = series[-1].runs[-1]
            ratio = sum(run.bytes.values()) / compulsory(series[-1], run)
            return f"Values of dropped keys stay in memory: decode moves {ratio:.2f} x what dense attention must"
    return "What the core moves, and what it must"


def _panel(axes: Axes, phase: str, series: Sequence[Series], hardware: Hardware) -> None:
    for one in series:
        lengths = one.lengths
        modelled = [one.estimate(n, follow=False) for n in lengths]
        ratios = [sum(m.traffic.ports.values()) / m.traffic.compulsory for m in modelled]
        axes.plot(lengths, ratios, color=one.colour, label=f"core's ports: {one.label}")
        one.mark(axes, [sum(run.bytes.values()) / compulsory(one, run) for run in one.runs])
        if one.tau is None:
            if phase == "prefill":
                axes.plot(
                    lengths,
                    [m.traffic.dram / m.traffic.compulsory for m in modelled],
                    color=one.colour,
                    linestyle="--",
                    label=f"DRAM, {hardware.scratchpad_kib} KiB hold K and V",
                )
            through = [unfused(m.workload, m.hardware).traffic.dram / m.traffic.compulsory for m in modelled]
            axes.plot(lengths, through, color=GREY, linewidth=2.4, label="DRAM, unfused")
    axes.axhline(1, color=NOTE, linestyle=":", linewidth=1.2)
    describe_panel(axes, series)
    if phase == "prefill":
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("bytes moved (multiple of the least)")
    axes.legend(loc="best")
