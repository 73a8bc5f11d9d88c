"""Gantt chart of cores that share a ragged batch of decode, by three rules of splitting its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from golden.config import CoreConfig
from golden.partition import RULES, Head, Partition, Span, batch
from perf_model.cycles import JobShape
from perf_model.exact import JobList, core_cycles
from perf_model.measured import Summary
from perf_model.plots.style import BLUE, GREEN, ORANGE, PURPLE, SKY, canvas, core_text

CORES = 16
TILE = 64
LENGTHS = (64, 900, 8192, 300, 2000)
KV_HEADS = 2
ROWS = 4
HEAD_DIM = 64
TITLES = {"whole": "heads not split", "heuristic": "FlashAttention-2's splits", "lean": "lean"}
_COLOURS = (ORANGE, GREEN, BLUE, PURPLE, SKY)
_IDLE = "#e4e4e4"


@dataclass(frozen=True, eq=False)
class Schedule:
    """When which core computes what.

    Parameters
    ----------
    partition : Partition
        What each core computes.
    spans : list of list of tuple
        Of each core, by time: a span, and the cycles in which its job begins and ends.
    """

    partition: Partition
    spans: list[list[tuple[Span, int, int]]]

    @property
    def makespan(self) -> int:
        """Cycles until the last core is done."""
        return max((core[-1][2] for core in self.spans if core), default=0)

    @property
    def busy(self) -> float:
        """Share of that time in which a core has a job, on average."""
        return sum(end - begin for core in self.spans for _, begin, end in core) / (len(self.spans) * self.makespan)


def schedule(core: CoreConfig, partition: Partition, rows: int, head_dim: int) -> Schedule:
    """Return when each span of a partition of dense decode is computed, by the exact model.

    A span is a job. One of several of a head returns a state. A job ends with its statistics record, and the core's
    next begins there; what merging the states takes is left out, as nothing in a core does it.

    Parameters
    ----------
    core : CoreConfig
        Each of the cores, with streams that never stall.
    partition : Partition
        Which core computes what.
    rows : int
        Queries of a head, those of its group.
    head_dim : int
        Elements of a row of q, k and v.
    """
    spans: list[list[tuple[Span, int, int]]] = []
    for worker in partition.workers:
        if not worker:
            spans.append([])
            continue
        keys = np.array([span.keys for span in worker], dtype=np.int64)
        states = np.array([len(partition.parts[span.head]) > 1 for span in worker], dtype=np.int64)
        jobs = JobShape(rows=rows, keys=keys, head_dim=head_dim, value_dim=head_dim, survivors=keys, emit_state=states)
        ends = core_cycles(core, JobList.of_shape(jobs)).uses.sum(axis=1).cumsum().tolist()
        spans.append(list(zip(worker, [0, *ends[:-1]], ends, strict=True)))
    return Schedule(partition, spans)


def _batch(core: CoreConfig) -> Mapping[Head, int]:
    return batch([min(length, core.max_keys) for length in LENGTHS], KV_HEADS)


def gantt(summaries: Sequence[Summary]) -> Figure:
    """Return the Gantt chart of a ragged batch of decode on `CORES` cores, a panel a rule."""
    core = summaries[0].core
    keys, rows, head_dim = _batch(core), min(ROWS, core.rows), min(HEAD_DIM, core.max_head_dim, core.max_value_dim)
    schedules = {name: schedule(core, RULES[name](keys, CORES, TILE), rows, head_dim) for name in TITLES}
    lean, other, whole = (schedules[name].makespan for name in ("lean", "heuristic", "whole"))
    title = (
        f"Lean splits finish a ragged batch {other / lean:.2f} x as fast as FlashAttention-2's, "
        f"{whole / lean:.1f} x as fast as whole heads"
    )
    subtitle = (
        f"decode of {len(LENGTHS)} requests on {KV_HEADS} heads of K and V, {rows} queries each, d = {head_dim}, "
        f"nothing dropped, on {CORES} cores ({core_text(core)});\njobs by the exact model, streams never stalled; "
        "merging of states not included; grey is idle"
    )
    with canvas(title, subtitle, (10, 7), (3, 1), sharex=True) as (figure, panels):
        for axes, (name, planned) in zip(panels, schedules.items(), strict=True):
            _panel(axes, TITLES[name], planned)
        panels[-1].set_xlabel("time (thousand cycles)")
        handles = [Patch(color=colour, label=f"{keys[Head(n, 0)]} keys") for n, colour in enumerate(_COLOURS)]
        panels[-1].legend(handles=handles, title="request of", loc="center right")
        return figure


def _panel(axes: Axes, title: str, planned: Schedule) -> None:
    for number, spans in enumerate(planned.spans):
        axes.barh(number, planned.makespan / 1000, 0.86, color=_IDLE)
        for span, begin, end in spans:
            axes.barh(
                number,
                (end - begin) / 1000,
                0.86,
                begin / 1000,
                color=_COLOURS[span.head.request],
                edgecolor="white",
                linewidth=0.6,
            )
    axes.axvline(planned.makespan / 1000, color="#000000", linestyle=":", linewidth=1.2)
    axes.set_title(
        f"{title}: {planned.makespan / 1000:.1f} thousand cycles, cores busy {planned.busy:.1%} of them, "
        f"{planned.partition.merges} merges"
    )
    axes.set_ylim(len(planned.spans) - 0.4, -0.6)
    axes.set_yticks(range(0, len(planned.spans), 5))
    axes.set_ylabel("core")
    axes.grid(axis="y", visible=False)
