"""Energy of jobs: counts of operations and bytes times a table of named, cited entries.

The table is ``data/energy.yaml``. What is counted follows the RTL: every row of the array works in every beat, also
those that no query uses. Not counted, because no public figure fits: pipeline registers, clock tree, wires, control and
leakage. On the other hand the published operators and memories are general ones, larger than a core's own. So a result
is good for comparing designs and for shares; it is no data sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from golden import formats
from golden.config import CoreConfig
from golden.errors import InputError
from perf_model.cycles import JobShape, job_cost
from perf_model.latency import ceil_div
from perf_model.settings import DATA, checked, read_yaml, required

QUOTIENT_STEPS = formats.DATA_BITS + formats.OUTPUT_FRACTION_BITS + 2
"""Subtractions of a division: one a bit of the quotient."""


@dataclass(frozen=True)
class Entry:
    """One published figure.

    Parameters
    ----------
    name : str
        Key in the table.
    value : float
        The figure, in `unit`.
    unit, technology, source : str
        Its unit, the technology that it holds for, and where it was published.
    bytes : int
        Capacity in bytes, of a memory's entry.
    """

    name: str
    value: float
    unit: str
    technology: str
    source: str
    bytes: int = 0


@dataclass(frozen=True)
class EnergyTable:
    """The figures of ``energy.yaml``, each section by name.

    Parameters
    ----------
    operations : dict of str to Entry
        pJ an operation.
    sram : dict of str to Entry
        pJ a 64-bit access, by capacity, rising.
    scaling : dict of str to Entry
        Factors from 45 nm.
    dram : dict of str to Entry
        pJ a bit.
    """

    operations: dict[str, Entry]
    sram: dict[str, Entry]
    scaling: dict[str, Entry]
    dram: dict[str, Entry]

    def sram_bit(self, capacity: float) -> float:
        """Return the energy of a bit's access in a memory of `capacity` bytes, in pJ at 45 nm.

        The entries are joined by straight lines over the logarithms of capacity and energy.
        """
        entries = sorted(self.sram.values(), key=lambda entry: entry.bytes)
        sizes, values = np.log([entry.bytes for entry in entries]), np.log([entry.value for entry in entries])
        return float(np.exp(np.interp(np.log(max(capacity, 1)), sizes, values))) / 64


_ENTRY_KINDS: dict[str, type] = {"value": float, "unit": str, "technology": str, "source": str, "bytes": int}
_SECTIONS = tuple(field.name for field in fields(EnergyTable))


def parse_energy_table(content: Mapping[str, Any], where: str) -> EnergyTable:
    """Return the table that the content of a YAML file describes.

    Raises
    ------
    InputError
        If an entry lacks a value, unit, technology or source, or has a key that it should not have.
    """
    checked(content, dict.fromkeys(("sources", *_SECTIONS), dict), where)
    sources = required(content, "sources", dict, where)
    sections: dict[str, dict[str, Entry]] = {}
    for section in _SECTIONS:
        sections[section] = {}
        for name, given in required(content, section, dict, where).items():
            place = f"{section}.{name} in {where}"
            if not isinstance(given, dict):
                raise InputError(f"{place} must be a mapping")
            entry = checked(given, _ENTRY_KINDS, place)
            for key in ("value", "unit", "technology", "source"):
                required(entry, key, _ENTRY_KINDS[key], place)
            if entry["source"] not in sources:
                raise InputError(f"the source of {place} must be one of {', '.join(sources)}, not {entry['source']!r}")
            if not 0 < entry["value"] < float("inf"):
                raise InputError(f"the value of {place} must be above 0, not {entry['value']:g}")
            sections[section][name] = Entry(name, **entry | {"source": sources[entry["source"]]})
    return EnergyTable(**sections)


@cache
def load_energy_table() -> EnergyTable:
    """Return the table that the package brings."""
    path = DATA / "energy.yaml"
    return parse_energy_table(read_yaml(path), path.name)


@dataclass(frozen=True)
class Energy:
    """Energy by what it is spent on, in pJ.

    Parameters
    ----------
    qk, pv : float
        Multipliers and adders of the array in Q K, and in P V with the accumulation of O.
    softmax : float
        Scaling, maximum, threshold, exponentials, sums, and the division at the end.
    memory : float
        On-chip memories: queries, waiting scores, values, accumulators, and the scratchpad for K and V.
    dram : float
        Off-chip memory.
    """

    qk: float
    softmax: float
    pv: float
    memory: float
    dram: float

    @property
    def core(self) -> float:
        """All but the DRAM, in pJ."""
        return self.qk + self.softmax + self.pv + self.memory

    @property
    def total(self) -> float:
        """All of it, in pJ."""
        return self.core + self.dram

    def scaled(self, factor: float) -> Energy:
        """Return `factor` times this energy."""
        return Energy(**{field.name: getattr(self, field.name) * factor for field in fields(self)})


PARTS = {
    "qk": "Q·K array",
    "softmax": "softmax",
    "pv": "P·V array",
    "memory": "on-chip memory",
    "dram": "DRAM",
}
"""Parts of `Energy` with their names in tables and plots."""


def operation_counts(core: CoreConfig, jobs: JobShape) -> dict[str, dict[str, float]]:
    """Return how many operations of each entry the parts of jobs take, all jobs of the arrays together.

    A multiplier of another width than its entry counts in proportion to the product of its widths, an adder as the next
    wider entry.

    Parameters
    ----------
    core : CoreConfig
        The core.
    jobs : JobShape
        The jobs.

    Returns
    -------
    dict
        For ``qk``, ``softmax`` and ``pv``: operations by the name of their entry.
    """
    cost = job_cost(core, jobs)
    rows, lanes = core.rows, core.lanes
    qk_beats, pv_beats = float(np.sum(cost.qk)), float(np.sum(cost.pv))
    keys, survivors = (float(np.sum(n)) * rows for n in np.broadcast_arrays(jobs.keys, jobs.survivors))
    outputs = float(np.sum(jobs.rows * jobs.value_dim * (1 - np.asarray(jobs.emit_state))))
    # Probabilities are unsigned: 12 bits and a sign bit of 0.
    wide_product = (formats.PROBABILITY_BITS + 1) * formats.DATA_BITS / 8**2
    score_product = core.dot_bits * formats.MULTIPLIER_BITS / 32**2
    return {
        "qk": {
            "multiply_int8": qk_beats * rows * lanes,
            # The adder tree, and the sum over a key's beats.
            "add_int16": qk_beats * rows * (lanes - 1),
            "add_int32": qk_beats * rows,
        },
        "softmax": {
            "multiply_int32": keys * score_product,
            # Maximum, distance and comparison of each score; distance and shift of each exponential.
            "add_int16": 3 * keys + 2 * survivors,
            # The sum of each row, and the steps of the divisions.
            "add_int32": survivors + QUOTIENT_STEPS * outputs,
        },
        "pv": {
            "multiply_int8": pv_beats * rows * lanes * wide_product,
            # The adder tree, and the rescaling shift and addition of each accumulator.
            "add_int32": pv_beats * rows * (lanes - 1 + 2),
        },
    }


@dataclass(frozen=True)
class MemoryUse:
    """Accesses of one kind of memory in the core.

    Parameters
    ----------
    bits : float
        Bits written and read.
    capacity : float
        Bytes of one such memory, which sets the energy of a bit.
    """

    bits: float
    capacity: float


def memory_uses(core: CoreConfig, jobs: JobShape) -> dict[str, MemoryUse]:
    """Return the accesses of the core's own memories, all jobs of the arrays together.

    Queries are written once and every row's beat is read in each beat of Q K. The scores of a survivor are written and
    read once. Values are written once and read once a word. In each beat of P V every row reads a word of
    `output_lanes` accumulators and writes one of them; a word is read for each beat of output.
    """
    cost = job_cost(core, jobs)
    beat = core.lanes * formats.DATA_BITS
    scores = core.rows * (formats.SCORE_BITS + 1)
    value_beats = ceil_div(jobs.value_dim, core.lanes)
    accumulators = core.output_lanes * core.accumulator_bits
    output_reads = jobs.rows * ceil_div(jobs.value_dim, core.output_lanes)
    uses = {
        "queries": (
            (cost.query_load + cost.qk * core.rows) * beat,
            2 * core.head_beats(core.max_head_dim) * beat / 8,
        ),
        "scores": (2 * jobs.survivors * scores, core.score_slots * scores / 8),
        "values": (
            (jobs.survivors + cost.packs * core.lanes) * value_beats * beat,
            2 * core.value_beats(core.max_value_dim) * beat / 8,
        ),
        "accumulators": (
            cost.pv * core.rows * (accumulators + core.accumulator_bits) + output_reads * accumulators,
            core.max_value_dim * core.accumulator_bits / 8,
        ),
    }
    return {name: MemoryUse(float(np.sum(bits)), capacity) for name, (bits, capacity) in uses.items()}


def jobs_energy(
    core: CoreConfig,
    jobs: JobShape,
    dram_bytes: float,
    scratchpad_bytes: float,
    scratchpad_capacity: float,
    technology: str,
    dram: str,
    table: EnergyTable | None = None,
) -> Energy:
    """Return the energy of jobs.

    Parameters
    ----------
    core : CoreConfig
        The core.
    jobs : JobShape
        The jobs.
    dram_bytes, scratchpad_bytes : float
        Bytes that move to and from the DRAM, and to and from the scratchpad.
    scratchpad_capacity : float
        Size of the scratchpad in bytes.
    technology, dram : str
        Names of a scaling factor and of a DRAM entry.
    table : EnergyTable, optional
        The figures; those that the package brings by default.

    Returns
    -------
    Energy
        In pJ.

    Raises
    ------
    InputError
        If the table has no such technology or DRAM.
    """
    table = table or load_energy_table()
    for name, section, value in (("technology", table.scaling, technology), ("DRAM", table.dram, dram)):
        if value not in section:
            raise InputError(f"there is no {name} {value!r}; there are {', '.join(section)}")
    factor = table.scaling[technology].value
    counts = operation_counts(core, jobs)
    logic = {
        part: factor * sum(count * table.operations[name].value for name, count in operations.items())
        for part, operations in counts.items()
    }
    own = sum(use.bits * table.sram_bit(use.capacity) for use in memory_uses(core, jobs).values())
    scratchpad = 8 * scratchpad_bytes * table.sram_bit(scratchpad_capacity)
    return Energy(
        **logic,
        memory=factor * (own + scratchpad),
        dram=8 * dram_bytes * table.dram[dram].value,
    )
