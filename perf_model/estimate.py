"""What attention takes: cycles, time, bytes and energy, of one workload on one piece of hardware."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from golden.config import CoreConfig
from perf_model.cycles import JobShape, StreamCycles
from perf_model.energy import Activity, Energy, EnergyRange, MemoryUse, memory_uses, operation_counts
from perf_model.energy_table import load_energy_table
from perf_model.hardware import Hardware
from perf_model.memory_traffic import Traffic, schedule_traffic
from perf_model.schedule import Schedule, schedule
from perf_model.schedule_cycles import EXACT, schedule_cycles
from perf_model.workload import Workload

DRAM_BOUND = "DRAM bound"


@dataclass(frozen=True)
class Estimate:
    """What a workload takes, all layers and sequences.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware.
    method : str
        How attention is computed, for titles: by the core, or as `perf_model.baselines` says.
    survival : float
        Share of the keys streamed that survive.
    jobs : int
        Jobs of the cores.
    cycles : StreamCycles
        Cycles from the first input to the last output, and beats of all arrays.
    cycles_by : str
        How they were found: ``exact`` stands for followed cycle by cycle; `DRAM_BOUND` for cycles in which the DRAM can
        just move its bytes, which are more than the cores need.
    dense_macs : int
        Multiply-accumulates of all rows and of the keys that they see by position, if nothing were dropped.
    macs : int
        Those that are needed: Q K for the keys streamed, P V for the survivors.
    traffic : Traffic
        Bytes by level of the memory.
    energies : EnergyRange
        Energy in pJ, and its spread over the sources of the figures.
    """

    workload: Workload
    hardware: Hardware
    method: str
    survival: float
    jobs: int
    cycles: StreamCycles
    cycles_by: str
    dense_macs: int
    macs: int
    traffic: Traffic
    energies: EnergyRange

    @property
    def exact(self) -> bool:
        """Whether the cycles were followed one by one."""
        return self.cycles_by == EXACT

    @property
    def energy(self) -> Energy:
        """Energy by the first source of each figure, in pJ."""
        return self.energies.nominal

    @property
    def seconds(self) -> float:
        """Time in seconds."""
        return self.cycles.total / (self.hardware.clock_mhz * 1e6)

    @property
    def tokens_per_second(self) -> float:
        """Tokens whose attention is computed in all layers, a second."""
        return self.workload.queries * self.workload.batch / self.seconds

    @property
    def utilisation(self) -> float:
        """Share of the arrays' MACs that the workload needs."""
        return self.macs / (self.cycles.total * self.hardware.multipliers)

    @property
    def effective_macs_per_cycle(self) -> float:
        """MACs a cycle, those that dropping saves counted as done."""
        return self.dense_macs / self.cycles.total

    @property
    def core_tops_per_watt(self) -> float:
        """Tera-operations (two a MAC, dropped ones not counted) a second and watt of the cores, DRAM left out."""
        return 2 * self.macs / self.energy.core

    def to_dict(self) -> dict[str, Any]:
        """Return all of it ready for JSON."""
        table, hardware = load_energy_table(), self.hardware
        return {
            "workload": asdict(self.workload),
            "hardware": asdict(hardware),
            "method": self.method,
            "survival": self.survival,
            "jobs": self.jobs,
            "cycles": self.cycles.total,
            "cycles_by": self.cycles_by,
            "qk_cycles": self.cycles.qk,
            "pv_cycles": self.cycles.pv,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "macs": self.macs,
            "dense_macs": self.dense_macs,
            "utilisation": self.utilisation,
            "effective_macs_per_cycle": self.effective_macs_per_cycle,
            "bytes": self.traffic.ports,
            "scratchpad_bytes": self.traffic.scratchpad,
            "dram_bytes": self.traffic.dram,
            "compulsory_bytes": self.traffic.compulsory,
            "energy_pj": self.energy.to_dict()
            | {name: getattr(self.energies, name).to_dict() for name in ("least", "most")},
            "energy_sources": {
                "technology": [asdict(entry) for entry in table.scaling[hardware.technology]],
                "dram": [asdict(entry) for entry in table.dram[hardware.dram]],
            },
        }


def estimate(workload: Workload, hardware: Hardware, survival: float = 1.0, follow: bool = True) -> Estimate:
    """Estimate a workload.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware.
    survival : float
        Share of the keys streamed that survive, above 0 to 1.
    follow : bool
        Follow the jobs cycle by cycle where they are short enough; if not, only with a memory.

    Raises
    ------
    InputError
        If the hardware can't hold the workload or `survival` is not possible.
    """
    return estimate_schedule(workload, hardware, schedule(workload, hardware, survival), survival, follow=follow)


def estimate_schedule(
    workload: Workload,
    hardware: Hardware,
    run: Schedule,
    survival: float,
    method: str = "core",
    follow: bool | None = True,
) -> Estimate:
    """Estimate a schedule of jobs.

    Parameters
    ----------
    workload : Workload
        What the jobs compute.
    hardware : Hardware
        The hardware.
    run : Schedule
        The jobs of each core.
    survival : float
        Share of the keys streamed that survive, of which the result tells.
    method : str
        Of the result.
    follow : bool or None
        As of `estimate`; None stands for following the jobs however long that takes.
    """
    core, jobs = hardware.core, run.jobs
    traffic = schedule_traffic(core, workload, run, hardware.scratchpad_bytes)
    cycles, cycles_by = schedule_cycles(hardware, run, workload.values, follow)
    bound = hardware.dram_cycles(traffic.dram) * run.times
    if bound > cycles.total:
        cycles, cycles_by = replace(cycles, total=bound), DRAM_BOUND
    activity = jobs_activity(core, jobs, traffic, hardware.scratchpad_bytes)
    qk = int(np.sum(jobs.rows * jobs.keys)) * workload.head_dim
    return Estimate(
        workload=workload,
        hardware=hardware,
        method=method,
        survival=survival,
        jobs=np.size(jobs.rows) * run.times,
        cycles=cycles,
        cycles_by=cycles_by,
        dense_macs=dense_macs(workload, core),
        macs=(qk + int(np.sum(jobs.rows * jobs.survivors)) * workload.values) * run.times,
        traffic=traffic.times(run.times),
        energies=activity.energies(hardware.technology, hardware.dram, run.times),
    )


def jobs_activity(core: CoreConfig, jobs: JobShape, traffic: Traffic, scratchpad_bytes: int) -> Activity:
    """Return what jobs with such a traffic do that takes energy, on a core with a scratchpad of so many bytes."""
    memories = memory_uses(core, jobs) | {"scratchpad": MemoryUse(8.0 * traffic.scratchpad, scratchpad_bytes)}
    return Activity(operation_counts(core, jobs), memories, traffic.dram)


def dense_macs(workload: Workload, core: CoreConfig) -> int:
    """Return the multiply-accumulates of a workload in blocks of the core's rows, if nothing were dropped."""
    blocks = [workload.row_blocks(core, length) for length in workload.lengths]
    pairs = sum(int((part.rows * (part.end - part.first)).sum()) for part in blocks)
    return pairs * (workload.head_dim + workload.values) * workload.streams
