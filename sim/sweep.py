"""The runs of a sweep: an input at each threshold, cut short, in decode, and with a memory that stalls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from golden.config import CoreConfig
from golden.masks import Mask
from golden.memory import Memory
from golden.quantise import QuantisedAttention
from golden.threshold import Threshold
from sim.report import mask_fields, point, shape_fields
from sim.simulate import LayerWork, simulate_layers

SHORTEST = 16
"""Keys of the shortest run; each longer one has twice as many, up to those of the input."""

TAUS = (None, 6.0)
"""Thresholds, in bits, of the runs at other lengths, in decode and with a memory; None drops nothing."""

MEMORY = Memory(bandwidth=8, latency=40, outstanding=32)
"""Half of what a row of 16 multipliers can take, so that prefill and decode wait for it."""

MEMORY_PREFILL = 64
"""Queries and keys of prefill with a memory, at most: enough to see what it does, as it takes long."""


@dataclass(frozen=True, eq=False)
class SweepInput:
    """A layer to sweep.

    Parameters
    ----------
    name : str
        Of its file.
    attention : QuantisedAttention
        The layer.
    mask : Mask
        Its mask.
    """

    name: str
    attention: QuantisedAttention
    mask: Mask

    @property
    def fields(self) -> dict[str, Any]:
        """Name, shape and mask, ready for JSON."""
        return {"input": self.name, **shape_fields(self.attention), **mask_fields(self.mask)}

    def first(self, length: int) -> SweepInput:
        """Return the layer of the first `length` queries and keys."""
        return replace(self, attention=self.attention.first(length))

    def decode_step(self, length: int) -> SweepInput:
        """Return the layer of the last of the first `length` queries alone, and as many keys."""
        return replace(self, attention=self.attention.first(length).last_query())


def _lengths(longest: int) -> list[int]:
    doubled = [SHORTEST << n for n in range(longest.bit_length()) if SHORTEST << n < longest]
    return [*doubled, longest]


def sweep(
    prefill: SweepInput, decode: SweepInput, thresholds: Sequence[float | None], config: CoreConfig
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Simulate all the runs of a sweep.

    Parameters
    ----------
    prefill : SweepInput
        Run whole at each threshold; then cut short at those of `TAUS`, and with `MEMORY`.
    decode : SweepInput
        Of which one query a head is run, over more and more keys, at those of `TAUS`, and with `MEMORY`.
    thresholds : sequence of float or None
        Thresholds in bits; None drops nothing.
    config : CoreConfig
        The core.

    Returns
    -------
    tuple of list
        Figures of the whole input at each threshold, and those of all the other runs, none of which is one of those.
        Each is what `sim.report.point` returns; the latter say as well what was run.

    Raises
    ------
    InputError
        If the core can't hold a layer, or a threshold is not possible.
    SimulationError
        If the core and golden differ.
    """
    free = Memory()
    whole = [(prefill, tau, free) for tau in thresholds]
    further = [(prefill, tau, free) for tau in TAUS if tau not in thresholds]
    shorter = [prefill.first(length) for length in _lengths(prefill.attention.keys)[:-1]]
    steps = [decode.decode_step(length) for length in _lengths(decode.attention.keys)]
    further += [(run, tau, free) for run in (*shorter, *steps) for tau in TAUS]
    further += [(run, tau, MEMORY) for run in (prefill.first(MEMORY_PREFILL), steps[-1]) for tau in TAUS]
    runs = [*whole, *further]
    work = [LayerWork(run.attention, Threshold.of(tau), run.mask, memory) for run, tau, memory in runs]
    figures = [point(tau, result) for (_, tau, _), result in zip(runs, simulate_layers(work, config), strict=True)]
    described = [
        {
            **run.fields,
            "memory": None if memory == free else asdict(memory),
            **measured,
        }
        for (run, _, memory), measured in zip(further, figures[len(whole) :], strict=True)
    ]
    return figures[: len(whole)], described
