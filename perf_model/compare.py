"""Design points side by side: a line each, with ratios to the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from golden.tables import text_table
from perf_model.estimate import Estimate
from perf_model.report import quantity

FIGURES: Mapping[str, tuple[Callable[[Estimate], float], Callable[[float], str]]] = {
    "cycles": (lambda e: e.cycles.total, lambda value: f"{value:,}"),
    "time": (lambda e: e.seconds, lambda value: quantity(value, "s")),
    "DRAM": (lambda e: e.traffic.dram, lambda value: quantity(value, "B")),
    "energy": (lambda e: e.energy.total * 1e-12, lambda value: quantity(value, "J")),
}
"""Figures whose ratios are told: what they are of an estimate, and how they are written. Less is better in each."""


def title(estimate: Estimate) -> str:
    """Return the name of a design point: its hardware, and how it computes there."""
    how = f"{estimate.survival:.0%} survive" if estimate.method == "core" else estimate.method
    return f"{estimate.hardware.name}, {how}"


def ratios(estimate: Estimate, first: Estimate) -> dict[str, float]:
    """Return the figures of `FIGURES` over those of the first point."""
    return {name: figure(estimate) / figure(first) for name, (figure, _) in FIGURES.items()}


def compared(estimates: Sequence[Estimate]) -> str:
    """Return a table of estimates of one workload, each figure with its ratio to the first line's."""
    header = ["design point", "multipliers", "MHz", *(cell for name in FIGURES for cell in (name, "")), "utilisation"]
    lines = []
    for estimate in estimates:
        line = [title(estimate), f"{estimate.hardware.multipliers:,}", f"{estimate.hardware.clock_mhz:g}"]
        for name, ratio in ratios(estimate, estimates[0]).items():
            figure, text = FIGURES[name]
            line += [text(figure(estimate)), f"{ratio:.3g} x"]
        lines.append([*line, f"{estimate.utilisation:.1%}"])
    return text_table(header, lines)


def to_dict(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    """Return estimates of one workload with their names and ratios, ready for JSON."""
    return [
        {"name": title(estimate), "ratios": ratios(estimate, estimates[0])} | estimate.to_dict()
        for estimate in estimates
    ]
