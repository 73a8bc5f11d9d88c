"""Plots of what the simulated core was measured to do, beside the model. `PLOTS` lists them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from perf_model.measured import Summary
from perf_model.plots.accuracy import accuracy
from perf_model.plots.energy import energy_by_length, energy_by_threshold
from perf_model.plots.gantt import gantt
from perf_model.plots.roofline import roofline
from perf_model.plots.style import save
from perf_model.plots.throughput import throughput
from perf_model.plots.traffic import traffic
from perf_model.plots.utilisation import utilisation

PLOTS: Mapping[str, Callable[[Sequence[Summary]], Figure]] = {
    "roofline": roofline,
    "throughput": throughput,
    "utilisation": utilisation,
    "traffic": traffic,
    "accuracy": accuracy,
    "energy": energy_by_threshold,
    "energy_by_length": energy_by_length,
    "gantt": gantt,
}
"""Plots by the name of their files. Each is drawn of the first summary; one that compares cores, of all of them."""


def write_plots(summaries: Sequence[Summary], folder: Path) -> list[Path]:
    """Draw all plots into `folder` as SVG and PNG and return the files written.

    Parameters
    ----------
    summaries : sequence of Summary
        What was measured: of the core that the plots are of, and of others to compare it with.
    folder : pathlib.Path
        Where the files go; it is made if need be.

    Raises
    ------
    InputError
        If a file can't be written.
    """
    return [path for name, draw in PLOTS.items() for path in save(draw(summaries), folder, name)]
