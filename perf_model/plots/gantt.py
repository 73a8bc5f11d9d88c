"""Gantt chart of cores that share a ragged batch of decode, by three rules of splitting its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from golden.config import CoreConfig
from golden.partition import Partition, Span, batch
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.measured import Summary
from perf_model.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, canvas, core_text
from perf_model.schedule import schedule, split_line
from perf_model.schedule_cycles import merge_cycles
from perf_model.workload import Workload

CORES = 16
LENGTHS = (64, 900, 8192, 300, 2000)
KV_HEADS = 2
ROWS = 4
HEAD_DIM = 64
TITLES = {"whole": "heads not split", "heuristic": "FlashAttention-2's splits", "lean": "lean"}
_COLOURS = (ORANGE, GREEN, BLUE, PURPLE, SKY)
_IDLE = "#e4e4e4"


@dataclass(frozen=True, eq=False)
class Timetable:
    """When which core computes what.

    Parameters
    ----------
    partition : Partition
        What each core computes.
    cores : list of list of tuple
        Of each core, by time: a span, and the cycles in which its job begins and ends.
    merging : int
        Cycles from the end of the last job to the last merged output.
    """

    partition: Partition
    cores: list[list[tuple[Span, int, int]]]
    merging: int

    @property
    def makespan(self) -> int:
        """Cycles until the last core is done with its jobs."""
        return max(jobs[-1][2] for jobs in self.cores if jobs)

    @property
    def total(self) -> int:
        """Cycles until the last output."""
        return self.makespan + self.merging

    @property
    def busy(self) -> float:
        """Share of `makespan` in which a core has a job, on average."""
        return sum(end - begin for jobs in self.cores for _, begin, end in jobs) / (len(self.cores) * self.makespan)


def timetable(workload: Workload, hardware: Hardware) -> Timetable:
    """Return when the cores of `hardware`, two or more, compute the parts of a layer of decode in which nothing drops.

    Each part is a job, which the exact model follows; a job ends with its statistics record, and its core's next one
    begins there.
    """
    partition = split_line(batch(workload.lengths, workload.key_heads), hardware)
    run = schedule(workload, hardware)
    streams = iter(run.streams)
    cores: list[list[tuple[Span, int, int]]] = []
    for spans in partition.workers:
        ends: list[int] = []
        if spans:
            followed = core_cycles(hardware.core, JobList.of_shape(next(streams).jobs), hardware.core_memory)
            ends = np.cumsum(followed.uses.sum(axis=1)).tolist()
        cores.append(list(zip(spans, [0, *ends][:-1], ends, strict=True)))
    return Timetable(partition, cores, merge_cycles(hardware.core, run, workload.values, hardware.merge_units))


def _workload(core: CoreConfig) -> Workload:
    """Return the batch as far as `core` can hold it."""
    return Workload(
        "ragged decode",
        heads=KV_HEADS * min(ROWS, core.rows),
        kv_heads=KV_HEADS,
        head_dim=min(HEAD_DIM, core.max_head_dim, core.max_value_dim),
        layers=1,
        length=tuple(min(length, core.max_keys) for length in LENGTHS),
        phase="decode",
    )


def gantt(summaries: Sequence[Summary]) -> Figure:
    """Return the Gantt chart of a ragged batch of decode on `CORES` cores, a panel a rule."""
    core = summaries[0].core
    workload = _workload(core)
    tables = {name: timetable(workload, Hardware(core, cores=CORES, partition=name)) for name in TITLES}
    lean, other, whole = (tables[name].total for name in ("lean", "heuristic", "whole"))
    title = (
        f"Lean splits finish a ragged batch {other / lean:.2f} x as fast as FlashAttention-2's, "
        f"{whole / lean:.1f} x as fast as whole heads"
    )
    subtitle = (
        f"decode of {len(LENGTHS)} requests on {KV_HEADS} heads of K and V, {workload.group} queries each, "
        f"d = {workload.head_dim}, nothing dropped; {CORES} cores, each a {core_text(core)};\n"
        "jobs by the exact model, streams never stalled; grey: idle; hatched: one merge unit, all last parts at once"
    )
    with canvas(title, subtitle, (10, 7), (3, 1), sharex=True) as (figure, panels):
        for axes, (name, table) in zip(panels, tables.items(), strict=True):
            _panel(axes, TITLES[name], table)
        panels[-1].set_xlabel("time (thousand cycles)")
        names = zip(_COLOURS, workload.lengths, strict=True)
        handles = [Patch(color=colour, label=f"{length} keys") for colour, length in names]
        panels[-1].legend(handles=handles, title="request of", loc="center right")
        return figure


def _panel(axes: Axes, title: str, table: Timetable) -> None:
    for number, jobs in enumerate(table.cores):
        axes.barh(number, table.makespan / 1000, 0.86, color=_IDLE)
        for span, begin, end in jobs:
            axes.barh(
                number,
                (end - begin) / 1000,
                0.86,
                begin / 1000,
                color=_COLOURS[span.head.request],
                edgecolor="white",
                linewidth=0.6,
            )
    if table.merging:
        axes.axvspan(
            table.makespan / 1000, table.total / 1000, facecolor="white", hatch="////", edgecolor=GREY, linewidth=0
        )
    axes.axvline(table.total / 1000, color="#000000", linestyle=":", linewidth=1.2)
    axes.set_title(
        f"{title}: done after {table.total / 1000:.1f} thousand cycles; cores busy {table.busy:.1%} of the "
        f"{table.makespan / 1000:.1f} thousand before the last job ends; {table.partition.merges} merges"
    )
    axes.set_ylim(len(table.cores) - 0.4, -0.6)
    axes.set_yticks(range(0, len(table.cores), 5))
    axes.set_ylabel("core")
    axes.grid(axis="y", visible=False)
