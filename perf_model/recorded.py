"""What the jobs of a recorded run take: cycles of the core, bytes and energy, its survivors being those that it had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from golden.job_record import JobRecord
from perf_model.cycles import JobShape
from perf_model.energy import Energy, jobs_energy
from perf_model.exact import JobList, core_cycles
from perf_model.traffic import HeadTraffic, head_traffic
from perf_model.workload import Hardware


@dataclass(frozen=True)
class RecordedCost:
    """What a recorded run takes.

    Parameters
    ----------
    notes : dict
        What the run was.
    hardware : Hardware
        The core that it ran on, in its surroundings.
    jobs, streamed, survivors : int
        Jobs, their keys, and how many of these survived.
    cycles : int
        Cycles, all jobs back to back, as the RTL has them.
    array_cycles : int
        Cycles in which the array works.
    traffic : HeadTraffic
        Bytes of all jobs.
    energy : Energy
        In pJ.
    """

    notes: dict[str, str | int | float]
    hardware: Hardware
    jobs: int
    streamed: int
    survivors: int
    cycles: int
    array_cycles: int
    traffic: HeadTraffic
    energy: Energy

    @property
    def survivor_share(self) -> float:
        """Share of the streamed keys that survived."""
        return self.survivors / self.streamed

    def to_dict(self) -> dict[str, Any]:
        """Return all of it ready for JSON."""
        return {
            "notes": self.notes,
            "hardware": asdict(self.hardware),
            "jobs": self.jobs,
            "streamed": self.streamed,
            "survivors": self.survivors,
            "survivor_share": self.survivor_share,
            "cycles": self.cycles,
            "array_cycles": self.array_cycles,
            "bytes": self.traffic.ports,
            "dram_bytes": self.traffic.dram,
            "scratchpad_bytes": self.traffic.scratchpad,
            "compulsory_bytes": self.traffic.compulsory,
            "energy_pj": asdict(self.energy) | {"total": self.energy.total},
        }


def job_list(record: JobRecord) -> JobList:
    """Return the jobs of a record with the fate of their keys."""
    ends = np.cumsum(record.keys)
    shape = JobShape(
        rows=record.rows,
        keys=record.keys,
        head_dim=record.head_dim,
        value_dim=record.value_dim,
        survivors=np.add.reduceat(record.survivors.astype(np.int64), ends - record.keys),
        last_survives=record.survivors[ends - 1].astype(np.int64),
    )
    return JobList(JobShape.concatenate([shape]), record.survivors)


def _traffic(record: JobRecord, jobs: JobShape, scratchpad_bytes: int) -> HeadTraffic:
    """Return the bytes of all heads, the keys and values of each read once if they fit in the scratchpad."""
    starts = np.flatnonzero(np.diff(record.head, prepend=-1))
    heads = []
    for first, end in zip(starts, [*starts[1:], len(record.head)], strict=True):
        part = JobShape(*(np.asarray(column)[first:end] for column in vars(jobs).values()))
        # Every job streams the keys from the first on, or a window of them; of a head the longest list is taken.
        rows, keys = int(np.sum(part.rows)), int(np.max(part.keys))
        heads.append(head_traffic(record.config, part, rows, keys, scratchpad_bytes))
    return HeadTraffic(
        {port: sum(head.ports[port] for head in heads) for port in heads[0].ports},
        **{name: sum(getattr(head, name) for head in heads) for name in ("dram", "scratchpad", "compulsory")},
    )


def recorded_cost(record: JobRecord, scratchpad_kib: int | None = None) -> RecordedCost:
    """Return what a recorded run takes, in default surroundings.

    Parameters
    ----------
    record : JobRecord
        The run.
    scratchpad_kib : int, optional
        On-chip memory for K and V beside the core, that of `Hardware` by default.
    """
    hardware = (
        Hardware(record.config) if scratchpad_kib is None else Hardware(record.config, scratchpad_kib=scratchpad_kib)
    )
    jobs = job_list(record)
    capacity = hardware.scratchpad_kib * 1024
    traffic = _traffic(record, jobs.shape, capacity)
    cycles = core_cycles(record.config, jobs)
    surroundings = capacity, hardware.technology, hardware.dram
    return RecordedCost(
        notes=record.notes,
        hardware=hardware,
        jobs=len(record.rows),
        streamed=int(record.keys.sum()),
        survivors=int(record.survivors.sum()),
        cycles=cycles.total,
        array_cycles=cycles.qk + cycles.pv,
        traffic=traffic,
        energy=jobs_energy(record.config, jobs.shape, traffic.dram, traffic.scratchpad, *surroundings),
    )


def recorded_table(costs: Sequence[RecordedCost]) -> str:
    """Return runs below each other: their notes, and cycles, bytes and energy beside those of the first."""
    names = list(dict.fromkeys(name for cost in costs for name in cost.notes))
    header = [
        *names,
        "survivors",
        "cycles",
        "of first",
        "value bytes",
        "of first",
        "DRAM bytes",
        "energy uJ",
        "of first",
    ]
    first = costs[0]
    lines = [header]
    for cost in costs:
        notes = [cost.notes.get(name, "-") for name in names]
        value, least = cost.traffic.ports["v"], first.traffic.ports["v"]
        lines.append(
            [
                *(f"{note:.4f}" if isinstance(note, float) else str(note) for note in notes),
                f"{cost.survivor_share:.1%}",
                f"{cost.cycles:,}",
                f"{cost.cycles / first.cycles:.3f}",
                f"{value:,}",
                f"{value / least:.3f}",
                f"{cost.traffic.dram:,}",
                f"{cost.energy.total * 1e-6:,.1f}",
                f"{cost.energy.total / first.energy.total:.3f}",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = len(names)
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column < texts else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
