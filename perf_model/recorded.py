"""What the jobs of a recorded run take: cycles of the core, bytes and energy, its survivors being those that it had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from golden.errors import InputError
from golden.job_record import JobRecord
from golden.tables import text_table
from perf_model.cycles import JobShape
from perf_model.energy import EnergyRange
from perf_model.estimate import jobs_activity
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.memory_traffic import Traffic, schedule_traffic
from perf_model.schedule import JobStream, Schedule, overlap
from perf_model.workload import Workload


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
    traffic : Traffic
        Bytes of all jobs.
    energies : EnergyRange
        Energy in pJ, and its spread over the sources of the figures.
    """

    notes: dict[str, str | int | float]
    hardware: Hardware
    jobs: int
    streamed: int
    survivors: int
    cycles: int
    array_cycles: int
    traffic: Traffic
    energies: EnergyRange

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
            "scratchpad_bytes": self.traffic.scratchpad,
            "dram_bytes": self.traffic.dram,
            "compulsory_bytes": self.traffic.compulsory,
            "energy_pj": {field.name: getattr(self.energies, field.name).to_dict() for field in fields(EnergyRange)},
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
        bounded=record.bounded,
        continues=record.continues,
    )
    return JobList(JobShape.concatenate([shape]), record.survivors)


def _traffic(record: JobRecord, jobs: JobShape, scratchpad: int) -> Traffic:
    """Return the bytes of all heads, by the rules of `perf_model.memory_traffic`: head after head on one core."""
    starts = np.flatnonzero(np.diff(record.head, prepend=-1))
    found = []
    for start, end in zip(starts, [*starts[1:], len(record.head)], strict=True):
        part = JobShape(**{name: np.asarray(column)[start:end] for name, column in vars(jobs).items()})
        first, keys = record.first[start:end], record.keys[start:end]
        stream = JobStream(part, overlap(first, first + keys, record.head[start:end]), np.ones(end - start, dtype=bool))
        # As many queries as its jobs have rows, at the last positions of its keys.
        head = Workload(
            name="recorded",
            heads=1,
            head_dim=int(record.head_dim[start]),
            value_dim=int(record.value_dim[start]),
            layers=1,
            length=int((first + keys).max()),
            chunk=int(record.rows[start:end].sum()),
        )
        found.append(schedule_traffic(record.config, head, Schedule((stream,), 1), scratchpad))
    return Traffic(
        ports={port: sum(part.ports[port] for part in found) for port in found[0].ports},
        **{name: sum(getattr(part, name) for part in found) for name in ("scratchpad", "dram", "compulsory")},
    )


def recorded_cost(record: JobRecord, hardware: Hardware) -> RecordedCost:
    """Return what a recorded run takes.

    Parameters
    ----------
    record : JobRecord
        The run.
    hardware : Hardware
        What stands around the core; the core itself is the record's.

    Raises
    ------
    InputError
        If the hardware has several cores, to which a record's jobs do not belong.
    """
    if hardware.cores > 1:
        raise InputError(f"recorded jobs ran on one core, not on {hardware.cores}")
    hardware = replace(hardware, core=record.config)
    jobs = job_list(record)
    traffic = _traffic(record, jobs.shape, hardware.scratchpad_bytes)
    cycles = core_cycles(record.config, jobs, hardware.core_memory)
    activity = jobs_activity(record.config, jobs.shape, traffic, hardware.scratchpad_bytes)
    return RecordedCost(
        notes=record.notes,
        hardware=hardware,
        jobs=len(record.rows),
        streamed=int(record.keys.sum()),
        survivors=int(record.survivors.sum()),
        cycles=cycles.total,
        array_cycles=cycles.qk + cycles.pv,
        traffic=traffic,
        energies=activity.energies(hardware.technology, hardware.dram),
    )


def recorded_table(costs: Sequence[RecordedCost]) -> str:
    """Return runs below each other: their notes, and cycles, bytes and energy beside those of the first."""
    names = list(dict.fromkeys(name for cost in costs for name in cost.notes))
    of_each = ("survivors", "cycles", "of first", "value bytes", "of first", "DRAM bytes", "energy uJ", "of first")
    first = costs[0]
    lines = []
    for cost in costs:
        notes = [cost.notes.get(name, "-") for name in names]
        value, energy = cost.traffic.ports["v"], cost.energies.nominal.total
        lines.append(
            [
                *(f"{note:.4f}" if isinstance(note, float) else str(note) for note in notes),
                f"{cost.survivor_share:.1%}",
                f"{cost.cycles:,}",
                f"{cost.cycles / first.cycles:.3f}",
                f"{value:,}",
                f"{value / first.traffic.ports['v']:.3f}",
                f"{cost.traffic.dram:,}",
                f"{energy * 1e-6:,.1f}",
                f"{energy / first.energies.nominal.total:.3f}",
            ]
        )
    return text_table([*names, *of_each], lines)
