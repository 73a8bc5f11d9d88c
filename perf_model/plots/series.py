"""Runs of one kind at several lengths, and the model's answer at any length in between and beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from golden.config import CoreConfig
from perf_model.estimate import Estimate, estimate
from perf_model.hardware import Hardware
from perf_model.measured import Run, Summary
from perf_model.plots.style import SERIES_COLOURS, length_axis, tau_text
from perf_model.workload import PHASES, Workload

LONGEST = 8192
FOLLOWED = 1024
"""Keys up to which a line is the exact model's; it is the closed form's beyond."""

_LENGTHS = 28

_estimate = cache(estimate)
"""Several plots are of the same estimates, some of which take a tenth of a second."""


@dataclass(frozen=True)
class Series:
    """Runs of one phase and one threshold, never stalled.

    Parameters
    ----------
    core : CoreConfig
        The core.
    tau : float or None
        The threshold.
    colour : str
        For drawing.
    runs : sequence of Run
        At least one, by rising length.
    """

    core: CoreConfig
    tau: float | None
    colour: str
    runs: Sequence[Run]

    @classmethod
    def all_of(cls, summary: Summary, phase: str) -> list[Series]:
        """Return the series of a phase, the one in which nothing was dropped first."""
        colours = cycle(SERIES_COLOURS)
        return [cls(summary.core, tau, next(colours), summary.select(phase, tau)) for tau in summary.thresholds(phase)]

    @property
    def label(self) -> str:
        """The threshold, and for the longest run what survived and how close the output came to float64."""
        text, run = tau_text(self.tau), self.runs[-1]
        return text if self.tau is None else f"{text} (at {run.keys}: {run.survivors:.0%} survive, {run.snr_db:.0f} dB)"

    @property
    def rows_in_use(self) -> int:
        """Rows of the array that the longest run has queries for, at most."""
        return rows_in_use(self.core, self.runs[-1])

    @property
    def multipliers_in_use(self) -> int:
        """Multipliers of these rows."""
        return self.rows_in_use * self.core.lanes

    @property
    def lengths(self) -> list[int]:
        """Lengths about evenly spaced on a logarithmic axis, all full blocks of rows, from the shortest run's on."""
        rows = self.core.rows
        first = max(-(-self.runs[0].keys // rows), 1)
        last = max(min(LONGEST, self.core.max_keys) // rows, first)
        return [int(n) * rows for n in np.unique(np.geomspace(first, last, _LENGTHS).round().astype(int))]

    def survival(self, length: int) -> float:
        """Return the survival rate at a length: between runs by the logarithm of length, beyond them as in the last."""
        logs = np.log([run.keys for run in self.runs])
        return float(np.interp(np.log(length), logs, [run.survivors for run in self.runs]))

    def workload(self, length: int) -> Workload:
        """Return what the runs compute at another length."""
        return replace(self.runs[-1].workload, length=length)

    def estimate(self, length: int, follow: bool | None = None) -> Estimate:
        """Return what the runs take at a length; by default, cycles are followed up to `FOLLOWED` keys."""
        follow = length <= FOLLOWED if follow is None else follow
        return _estimate(self.workload(length), Hardware(self.core), self.survival(length), follow)

    def mark(self, axes: Axes, values: Sequence[float]) -> None:
        """Draw a value of each run as measured."""
        keys = [run.keys for run in self.runs]
        axes.plot(
            keys,
            values,
            "o",
            markersize=8,
            markerfacecolor="none",
            markeredgewidth=1.6,
            color=self.colour,
            label="simulated RTL",
        )


def describe_panel(axes: Axes, series: Sequence[Series]) -> None:
    """Give a panel of series of one phase its title and its axis of lengths."""
    run = series[0].runs[-1]
    on = f" on {run.kv_heads} of K and V" if run.kv_heads < run.heads else ""
    axes.set_title(f"{run.phase}: {run.workload.name}, {run.heads} heads{on}, d = {run.head_dim}")
    length_axis(axes, series[0].lengths, "keys (tokens)" if run.phase == "decode" else "queries and keys (tokens)")


def all_series(summary: Summary) -> dict[str, list[Series]]:
    """Return the series of each phase that was measured, prefill first."""
    return {phase: series for phase in PHASES if (series := Series.all_of(summary, phase))}


def dense_macs(core: CoreConfig, run: Run) -> int:
    """Return the multiply-accumulates of a run if nothing were dropped."""
    return estimate(run.workload, Hardware(core), follow=False).dense_macs


def rows_in_use(core: CoreConfig, run: Run) -> int:
    """Return the rows of the array that a run has queries for, at most."""
    return min(run.queries * run.heads // run.kv_heads, core.rows)
