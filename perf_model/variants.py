"""Variants of attention side by side in hardware: cycles, bytes and energy of the core and of what surrounds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from perf_model.energy_table import load_rates
from perf_model.estimate import Estimate, estimate
from perf_model.hardware import Hardware
from perf_model.latency import ceil_div
from perf_model.projections import AttentionLayer
from perf_model.workload import Workload


@dataclass(frozen=True)
class VariantCost:
    """What a variant takes, all layers of a model and all sequences.

    Parameters
    ----------
    layer : AttentionLayer
        The variant.
    core : Estimate
        The core's part.
    """

    layer: AttentionLayer
    core: Estimate

    @property
    def projection_cycles(self) -> int:
        """Cycles of a matrix unit with as many multipliers as the core's array, all of them busy in each."""
        return int(ceil_div(self.layer.macs, self.core.hardware.multipliers))

    @property
    def projection_bytes(self) -> int:
        """Bytes of weights and activations that the projections read and write."""
        return self.layer.weight_bytes + self.layer.activation_bytes

    @property
    def projection_energy(self) -> float:
        """Energy of the projections' multipliers and adders and of their bytes in the DRAM, in pJ.

        The memories of a matrix unit are not in it.
        """
        hardware = self.core.hardware
        rates = load_rates(hardware.technology, hardware.dram)
        mac = rates.operations["multiply_int8"] + rates.operations["add_int32"]
        return self.layer.macs * mac + 8 * self.projection_bytes * rates.dram

    def to_dict(self) -> dict[str, Any]:
        """Return all of it ready for JSON."""
        return {
            "variant": self.layer.name,
            "parameters": self.layer.parameters,
            "cache_bytes": self.layer.cache,
            "projections": [asdict(projection) for projection in self.layer.projections],
            "projection_macs": self.layer.macs,
            "projection_cycles": self.projection_cycles,
            "weight_bytes": self.layer.weight_bytes,
            "activation_bytes": self.layer.activation_bytes,
            "projection_energy_pj": self.projection_energy,
            "core": self.core.to_dict(),
        }


def _fitted(hardware: Hardware, workload: Workload) -> Hardware:
    """Return the hardware with a core whose dimensions are as large as the workload needs."""
    core = hardware.core
    head_dim, value_dim = (ceil_div(size, core.lanes) * core.lanes for size in (workload.head_dim, workload.values))
    wide = core.override(
        max_head_dim=max(core.max_head_dim, head_dim), max_value_dim=max(core.max_value_dim, value_dim)
    )
    return replace(hardware, core=wide)


def variant_cost(layer: AttentionLayer, hardware: Hardware, survival: float = 1.0) -> VariantCost:
    """Return what a variant takes.

    Parameters
    ----------
    layer : AttentionLayer
        The variant.
    hardware : Hardware
        The hardware; its core is given dimensions as large as the variant needs.
    survival : float
        Share of the keys streamed that survive, above 0 to 1.

    Raises
    ------
    InputError
        If no core holds the variant's jobs, or `survival` is not possible.
    """
    fitted = _fitted(hardware, layer.workload)
    return VariantCost(layer, estimate(layer.workload, fitted, survival))


def table(costs: Sequence[VariantCost]) -> str:
    """Return variants side by side, a column each; the model of the first is the one that others are compared to."""
    first = costs[0]

    def ratio(cost: float, least: float) -> str:
        return f"{cost / least:.2f}" if least else "-"

    rows: list[tuple[str, list[str]]] = [
        ("", [cost.layer.name for cost in costs]),
        ("parameters a layer", [f"{cost.layer.parameters:,}" for cost in costs]),
        ("cache, bytes a token and layer", [f"{cost.layer.cache:,}" for cost in costs]),
        ("projections: MACs", [f"{cost.layer.macs:,}" for cost in costs]),
        ("  cycles, as many multipliers", [f"{cost.projection_cycles:,}" for cost in costs]),
        ("  bytes of weights", [f"{cost.layer.weight_bytes:,}" for cost in costs]),
        ("  bytes of activations", [f"{cost.layer.activation_bytes:,}" for cost in costs]),
        ("  energy, uJ", [f"{cost.projection_energy * 1e-6:,.1f}" for cost in costs]),
        ("core: jobs", [f"{cost.core.jobs:,}" for cost in costs]),
        ("  cycles", [f"{cost.core.cycles.total:,}" for cost in costs]),
        ("  bytes from and to the DRAM", [f"{cost.core.traffic.dram:,}" for cost in costs]),
        ("  energy, uJ", [f"{cost.core.energy.total * 1e-6:,.1f}" for cost in costs]),
    ]
    totals: dict[str, list[float]] = {
        "cycles": [cost.projection_cycles + cost.core.cycles.total for cost in costs],
        "bytes": [cost.projection_bytes + cost.core.traffic.dram for cost in costs],
        "energy": [cost.projection_energy + cost.core.energy.total for cost in costs],
    }
    for name, numbers in totals.items():
        rows.append((f"both: {name}, of {first.layer.name}'s", [ratio(number, numbers[0]) for number in numbers]))
    width = 2 + max(len(cell) for _, cells in rows for cell in cells)
    return "\n".join(f"{name:33}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows)
