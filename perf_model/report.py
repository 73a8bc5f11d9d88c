"""Estimates as text: what one is of, several columns side by side, methods line by line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from golden.memory import Memory
from golden.tables import text_table
from perf_model.energy import PARTS
from perf_model.energy_table import load_energy_table
from perf_model.estimate import Estimate
from perf_model.hardware import Hardware
from perf_model.workload import Workload


def quantity(value: float, unit: str) -> str:
    """Return a number with three digits and a prefix of the SI."""
    if not value:
        return f"0 {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3), -4), 5)
    return f"{value / 1000.0**power:.3g} {'pnµm kMGTP'[power + 4].strip()}{unit}"


def _memory(memory: Memory, cores: int) -> str:
    """Return how a memory limits the streams of cores."""
    if memory == Memory():
        return "never stalled"
    bandwidth = "any bandwidth" if memory.bandwidth is None else f"{memory.bandwidth:g} bytes a cycle"
    outstanding = "any number of" if memory.outstanding is None else f"{memory.outstanding}"
    shared = " for all cores" if cores > 1 and memory.bandwidth is not None else ""
    return f"{bandwidth}{shared}, values after {memory.latency} cycles, {outstanding} rows outstanding"


def tokens(workload: Workload) -> str:
    """Return the phase of a workload and the lengths of its sequences."""
    lengths = workload.lengths
    if len(lengths) == 1:
        tokens = f"{lengths[0]} tokens"
    else:
        tokens = f"{len(lengths)} sequences of {min(lengths)} to {max(lengths)} tokens"
    chunk = f", {workload.chunk} queries" if workload.chunk else ""
    return f"{workload.phase} of {tokens}{chunk}"


def describe(workload: Workload, hardware: Hardware) -> str:
    """Return a paragraph that says what an estimate is of."""
    core = hardware.core
    mask = f"window of {workload.window}" if workload.window else "causal" if workload.causal else "no mask"
    scratchpad = f"{hardware.scratchpad_kib} KiB for K and V" if hardware.scratchpad_kib else "none for K and V"
    dram = "any bandwidth" if hardware.dram_bandwidth is None else f"{hardware.dram_bandwidth:g} bytes a cycle"
    rate = load_energy_table().dram[hardware.dram][0].value
    dimensions = f"head dimension {workload.head_dim}"
    if workload.shared_values:
        dimensions += f", values the first {workload.values} elements of the keys"
    elif workload.values != workload.head_dim:
        dimensions += f", value dimension {workload.values}"
    array = f"{core.size} = {core.rows * core.lanes} multipliers"
    if hardware.cores > 1:
        array = f"{hardware.cores} cores of {array}"
    lines = {
        "workload": f"{workload.name}: {workload.layers} layers, {workload.heads} heads "
        f"on {workload.key_heads} of K and V, {dimensions}",
        "": f"{tokens(workload)}, {mask}, batch {workload.batch}",
        "core": f"{hardware.name}: {array}, {hardware.clock_mhz:g} MHz, {hardware.technology}",
        "memory": f"{hardware.dram} at {rate:g} pJ/bit, {dram}; scratchpad: {scratchpad}",
        "streams": _memory(hardware.memory, hardware.cores),
    }
    if hardware.cores > 1:
        lines["partition"] = f"{hardware.partition}, tiles of {hardware.tile} keys"
    return "\n".join(f"{name:10}{text}" for name, text in lines.items())


def _range(estimate: Estimate, part: str) -> str:
    """Return what a part of the energy is, by the first sources, and by those that say the least and the most."""
    energies = (estimate.energies.nominal, estimate.energies.least, estimate.energies.most)
    value, least, most = (quantity(getattr(energy, part) * 1e-12, "J") for energy in energies)
    return value if least == most else f"{value} ({least} to {most})"


def table(estimates: Sequence[Estimate]) -> str:
    """Return estimates of one workload side by side, a column for each survival rate."""
    first = estimates[0]
    rows: list[tuple[str, list[str]]] = [
        ("keys that survive", [f"{e.survival:.1%}".replace(".0%", "%") for e in estimates]),
        ("cycles", [f"{e.cycles.total:,}" for e in estimates]),
        ("  found by", [e.cycles_by for e in estimates]),
        ("time", [quantity(e.seconds, "s") for e in estimates]),
        ("tokens a second", [f"{e.tokens_per_second:,.0f}" for e in estimates]),
        ("utilisation", [f"{e.utilisation:.2%}" for e in estimates]),
        ("effective MACs a cycle", [f"{e.effective_macs_per_cycle:.1f}" for e in estimates]),
    ]
    for port in first.traffic.ports:
        rows.append((f"bytes on {port}", [quantity(e.traffic.ports[port], "B") for e in estimates]))
    rows += [
        ("scratchpad traffic", [quantity(e.traffic.scratchpad, "B") for e in estimates]),
        ("DRAM traffic", [quantity(e.traffic.dram, "B") for e in estimates]),
        ("  compulsory, dense", [quantity(e.traffic.compulsory, "B") for e in estimates]),
        ("  of the compulsory", [f"{e.traffic.dram / e.traffic.compulsory:.2f} x" for e in estimates]),
    ]
    for part, name in PARTS.items():
        rows.append((f"energy: {name}", [_range(e, part) for e in estimates]))
    rows += [
        ("energy: all", [_range(e, "total") for e in estimates]),
        ("core without DRAM", [f"{e.core_tops_per_watt:.2f} TOPS/W" for e in estimates]),
    ]
    width = 2 + max(len(cell) for _, cells in rows for cell in cells)
    lines = [f"{name:27}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows]
    return "\n".join([*lines, "", "In brackets: least and most by the sources of the figures."])


def comparison(estimates: Sequence[Estimate]) -> str:
    """Return estimates of one workload line by line, one for each method."""
    header = (
        "method",
        "cycles",
        "utilisation",
        "on ports",
        "scratchpad",
        "DRAM",
        "compulsory",
        "energy",
        "DRAM's share",
    )
    lines = [
        (
            e.method,
            f"{e.cycles.total:,}",
            f"{e.utilisation:.1%}",
            quantity(sum(e.traffic.ports.values()), "B"),
            quantity(e.traffic.scratchpad, "B"),
            quantity(e.traffic.dram, "B"),
            f"{e.traffic.dram / e.traffic.compulsory:.2f} x",
            _range(e, "total"),
            f"{e.energy.dram / e.energy.total:.0%}",
        )
        for e in estimates
    ]
    return text_table(header, lines)
