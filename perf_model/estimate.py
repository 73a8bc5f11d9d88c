"""One workload on one piece of hardware: cycles, time, bytes and energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from golden.config import CoreConfig
from golden.errors import InputError
from golden.memory import Memory
from perf_model.cycles import JobShape, StreamCycles, stream_cycles
from perf_model.energy import PARTS, Energy, jobs_energy, load_energy_table
from perf_model.exact import JobList, core_cycles
from perf_model.traffic import HeadTraffic, head_traffic
from perf_model.workload import Hardware, Workload

FOLLOWED_BEATS = 10_000_000
"""Array beats that an estimate follows cycle by cycle; longer lists go by the closed form. About a second."""


def _settled_lists(jobs: int, times: int) -> tuple[int, int] | None:
    """Return how many runs of a list of `jobs` jobs settle what a further one takes, and how many runs to see it.

    None stands for lists run so few times that all can be followed.
    """
    # A start depends on the two jobs before it, so a few runs settle what every further one takes. Jobs that wait for a
    # context may come in pairs, so two are followed.
    settled = 2 + 6 // jobs
    return (settled, settled + 2) if times > settled + 2 else None


def followed_exactly(core: CoreConfig, blocks: JobShape, times: int) -> bool:
    """Return whether `repeated_cycles` is to follow a list run `times` over cycle by cycle: whether it is short."""
    lists = sum(_settled_lists(np.size(blocks.rows), times) or (times,))
    return stream_cycles(core, blocks).array * lists <= FOLLOWED_BEATS


def repeated_cycles(
    core: CoreConfig, blocks: JobShape, times: int, memory: Memory | None = None, exact: bool = False
) -> StreamCycles:
    """Return the cycles of the same list of jobs run `times` over, back to back.

    The first few are followed; the others take as long as the last of these.

    Parameters
    ----------
    core : CoreConfig
        The core.
    blocks : JobShape
        The list of jobs, say those of one head.
    times : int
        How often, 1 or more.
    memory : Memory, optional
        The memory, only for `exact`.
    exact : bool
        Follow the lists cycle by cycle, their survivors evenly spread (`perf_model.exact`), rather than job by job.
    """

    def cycles(runs: int) -> int:
        if exact:
            return core_cycles(core, JobList.of_shape(blocks).repeated(runs), memory).total
        return stream_cycles(core, JobShape.concatenate([blocks] * runs)).total

    once = stream_cycles(core, blocks)
    settled = _settled_lists(np.size(blocks.rows), times)
    if settled is None:
        total = cycles(times)
    else:
        some, more = map(cycles, settled)
        total = some + (times - settled[0]) * (more - some) // (settled[1] - settled[0])
    return StreamCycles(total, once.qk * times, once.pv * times)


@dataclass(frozen=True)
class Estimate:
    """What a workload takes.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware.
    survival : float
        Share of the keys streamed that survive.
    jobs : int
        Jobs of the core.
    cycles : StreamCycles
        Cycles, all layers and sequences.
    exact : bool
        Whether they were followed cycle by cycle, not by closed form: `followed_exactly`.
    dense_macs : int
        Multiply-accumulates for all rows in use and keys streamed, if nothing were dropped.
    macs : int
        Those that are needed: Q K for the keys streamed, P V for the survivors.
    traffic : HeadTraffic
        Bytes, all layers and sequences.
    energy : Energy
        In pJ.
    """

    workload: Workload
    hardware: Hardware
    survival: float
    jobs: int
    cycles: StreamCycles
    exact: bool
    dense_macs: int
    macs: int
    traffic: HeadTraffic
    energy: Energy

    @property
    def cycles_by(self) -> str:
        """How the cycles were found."""
        return "exact" if self.exact else "closed form"

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
        """Share of the array's MACs that the workload needs."""
        return self.macs / (self.cycles.total * self.hardware.multipliers)

    @property
    def effective_macs_per_cycle(self) -> float:
        """MACs a cycle, those that dropping saves counted as done."""
        return self.dense_macs / self.cycles.total

    @property
    def core_tops_per_watt(self) -> float:
        """Tera-operations (two a MAC, dropped ones not counted) a second and watt of the core, DRAM left out."""
        return 2 * self.macs / self.energy.core

    def dram_energy_range(self) -> tuple[float, float]:
        """Return the least and the most DRAM energy, in pJ, over the table's sources."""
        rates = [entry.value for entry in load_energy_table().dram.values()]
        return 8 * self.traffic.dram * min(rates), 8 * self.traffic.dram * max(rates)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it ready for JSON."""
        table = load_energy_table()
        low, high = self.dram_energy_range()
        return {
            "workload": asdict(self.workload),
            "hardware": asdict(self.hardware),
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
            "dram_bytes": self.traffic.dram,
            "scratchpad_bytes": self.traffic.scratchpad,
            "compulsory_bytes": self.traffic.compulsory,
            "energy_pj": asdict(self.energy) | {"total": self.energy.total, "dram_least": low, "dram_most": high},
            "energy_sources": {
                "technology": asdict(table.scaling[self.hardware.technology]),
                "dram": asdict(table.dram[self.hardware.dram]),
            },
        }


def estimate(workload: Workload, hardware: Hardware, survival: float = 1.0) -> Estimate:
    """Estimate a workload.

    Parameters
    ----------
    workload : Workload
        The workload.
    hardware : Hardware
        The hardware.
    survival : float
        Share of the keys streamed that survive, above 0 to 1.

    Raises
    ------
    InputError
        If the hardware can't hold the workload, `survival` is not possible, or the workload is too long to be followed
        with a memory.
    """
    core, streams = hardware.core, workload.streams
    blocks = workload.blocks(core, survival)
    head = head_traffic(
        core, blocks, workload.queries * workload.group, workload.length, hardware.scratchpad_kib * 1024
    )
    traffic = HeadTraffic(
        {name: count * streams for name, count in head.ports.items()},
        **{name: getattr(head, name) * streams for name in ("dram", "scratchpad", "compulsory")},
    )
    energy = jobs_energy(
        core, blocks, head.dram, head.scratchpad, hardware.scratchpad_kib * 1024, hardware.technology, hardware.dram
    )
    exact = followed_exactly(core, blocks, streams)
    if not exact and hardware.memory != Memory():
        raise InputError(
            f"workload {workload.name!r} is too long to be followed with a memory; a shorter length may do, or no "
            "bandwidth, latency and outstanding requests"
        )
    qk_macs = int(np.sum(blocks.rows * blocks.keys)) * workload.head_dim
    return Estimate(
        workload=workload,
        hardware=hardware,
        survival=survival,
        jobs=np.size(blocks.rows) * streams,
        cycles=repeated_cycles(core, blocks, streams, hardware.memory, exact),
        exact=exact,
        dense_macs=(qk_macs + int(np.sum(blocks.rows * blocks.keys)) * workload.values) * streams,
        macs=(qk_macs + int(np.sum(blocks.rows * blocks.survivors)) * workload.values) * streams,
        traffic=traffic,
        energy=energy.scaled(streams),
    )


def _quantity(value: float, unit: str) -> str:
    """Return a number with three digits and a prefix of the SI."""
    if not value:
        return f"0 {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3), -4), 4)
    return f"{value / 1000.0**power:.3g} {'pnµm kMGT'[power + 4].strip()}{unit}"


def _describe_memory(memory: Memory) -> str:
    """Return how a memory limits the streams of a core."""
    if memory == Memory():
        return "never stalled"
    bandwidth = "any bandwidth" if memory.bandwidth is None else f"{memory.bandwidth:g} bytes a cycle"
    outstanding = "any number of" if memory.outstanding is None else f"{memory.outstanding}"
    return f"{bandwidth}, values after {memory.latency} cycles, {outstanding} rows outstanding"


def describe(workload: Workload, hardware: Hardware) -> str:
    """Return a paragraph that says what an estimate is of."""
    core = hardware.core
    mask = f"window of {workload.window}" if workload.window else "causal" if workload.causal else "no mask"
    scratchpad = f"{hardware.scratchpad_kib} KiB for K and V" if hardware.scratchpad_kib else "none for K and V"
    rate = load_energy_table().dram[hardware.dram].value
    lines = {
        "workload": f"{workload.name}: {workload.layers} layers, {workload.heads} heads "
        f"on {workload.key_heads} of K and V, head dimension {workload.head_dim}",
        "": f"{workload.phase} of {workload.length} tokens, {mask}, batch {workload.batch}",
        "core": f"{hardware.name}: {core.rows} x {core.lanes} = {hardware.multipliers} multipliers, "
        f"{hardware.clock_mhz:g} MHz, {hardware.technology}",
        "memory": f"{hardware.dram} at {rate:g} pJ/bit; scratchpad: {scratchpad}",
        "streams": _describe_memory(hardware.memory),
    }
    return "\n".join(f"{name:10}{text}" for name, text in lines.items())


def table(estimates: Sequence[Estimate]) -> str:
    """Return estimates of one workload side by side, a column for each survival rate."""
    rows: list[tuple[str, list[str]]] = [
        ("keys that survive", [f"{e.survival:.0%}" for e in estimates]),
        ("cycles", [f"{e.cycles.total:,}" for e in estimates]),
        ("  found by", [e.cycles_by for e in estimates]),
        ("time", [_quantity(e.seconds, "s") for e in estimates]),
        ("tokens a second", [f"{e.tokens_per_second:,.0f}" for e in estimates]),
        ("utilisation", [f"{e.utilisation:.2%}" for e in estimates]),
        ("effective MACs a cycle", [f"{e.effective_macs_per_cycle:.1f}" for e in estimates]),
    ]
    for port in estimates[0].traffic.ports:
        rows.append((f"bytes on {port}", [_quantity(e.traffic.ports[port], "B") for e in estimates]))
    rows += [
        ("DRAM traffic", [_quantity(e.traffic.dram, "B") for e in estimates]),
        ("  of the compulsory least", [f"{e.traffic.dram / e.traffic.compulsory:.2f} x" for e in estimates]),
    ]
    for part in fields(Energy):
        rows.append(
            (f"energy: {PARTS[part.name]}", [_quantity(getattr(e.energy, part.name) * 1e-12, "J") for e in estimates])
        )
    rows += [
        ("energy: all", [_quantity(e.energy.total * 1e-12, "J") for e in estimates]),
        (
            "  DRAM by source",
            [" to ".join(_quantity(x * 1e-12, "J") for x in e.dram_energy_range()) for e in estimates],
        ),
        ("core without DRAM", [f"{e.core_tops_per_watt:.2f} TOPS/W" for e in estimates]),
    ]
    width = 2 + max(len(cell) for _, cells in rows for cell in cells)
    return "\n".join(f"{name:27}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows)
