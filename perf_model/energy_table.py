"""The energy table: what published sources say of an operation, a memory access, a technology, a DRAM.

The table is ``data/energy.yaml``. A quantity has an entry for each source. `EnergyTable.rates` makes of them the
figures of one technology and DRAM: by the first source of each quantity, and by those that say the least and the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np

from golden.errors import InputError
from perf_model.settings import DATA, checked, read_yaml, required

BASE = "45 nm"
"""The technology from which figures are scaled to others."""

_CHOICES: dict[str, Callable[[Sequence[float]], float]] = {"nominal": itemgetter(0), "least": min, "most": max}
"""Which of the sources to believe: the first, or all those that say the least, or the most."""


@dataclass(frozen=True)
class Entry:
    """One published figure.

    Parameters
    ----------
    name : str
        Key of its quantity in the table.
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
class Rates:
    """Energies in one technology and with one DRAM, by one choice of sources.

    Parameters
    ----------
    operations : dict of str to float
        pJ an operation.
    capacities : numpy.ndarray
        Bytes of on-chip memories, rising, float64.
    sram : numpy.ndarray
        pJ a bit at these capacities, float64.
    dram : float
        pJ a bit.
    """

    operations: dict[str, float]
    capacities: np.ndarray
    sram: np.ndarray
    dram: float

    def sram_bit(self, capacity: float) -> float:
        """Return the energy of a bit's access in a memory of `capacity` bytes, in pJ.

        The capacities are joined by straight lines over the logarithms of capacity and energy; below the smallest and
        above the largest theirs are taken.
        """
        return _between(self.capacities, self.sram, max(capacity, 1))


@dataclass(frozen=True)
class EnergyTable:
    """The figures of ``energy.yaml``, each section by name of the quantity, the first source first.

    Parameters
    ----------
    operations : dict
        pJ an operation.
    sram : dict
        pJ a 64-bit access, by capacity.
    scaling : dict
        Factors from `BASE`.
    dram : dict
        pJ a bit.
    """

    operations: dict[str, tuple[Entry, ...]]
    sram: dict[str, tuple[Entry, ...]]
    scaling: dict[str, tuple[Entry, ...]]
    dram: dict[str, tuple[Entry, ...]]

    def check(self, technology: str, dram: str) -> None:
        """Raise InputError, naming those there are, if the table has no such technology or DRAM."""
        for key, value, allowed in (("technology", technology, self.scaling), ("dram", dram, self.dram)):
            if value not in allowed:
                raise InputError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")

    def rates(self, technology: str, dram: str, choice: str = "nominal") -> Rates:
        """Return the energies in a technology and with a DRAM.

        Parameters
        ----------
        technology, dram : str
            Keys of `scaling` and `dram`.
        choice : str
            ``nominal``, the first source of each quantity; ``least`` or ``most``, the sources that say so.

        Raises
        ------
        InputError
            If there is no such technology or DRAM.
        """
        self.check(technology, dram)
        factors = [entry.value for entry in self.scaling[technology]]
        chosen = _CHOICES[choice]

        def published(entries: Sequence[Entry]) -> list[float]:
            scaled = [entry.value * factor for entry in entries if entry.technology == BASE for factor in factors]
            direct = [entry.value for entry in entries if entry.technology == technology != BASE]
            return scaled + direct

        return Rates(
            {name: chosen(published(entries)) for name, entries in self.operations.items()},
            *self._sram(technology, factors, chosen),
            dram=chosen([entry.value for entry in self.dram[dram]]),
        )

    def _sram(
        self, technology: str, factors: Sequence[float], chosen: Callable[[Sequence[float]], float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return capacities, and the energy of a bit by the choice of sources at each of them."""
        base = _curve(self.sram, BASE)
        sizes = base[0]
        direct = _curve(self.sram, technology) if technology != BASE else None
        energies = []
        for size, energy in zip(sizes, base[1], strict=True):
            candidates = [energy * factor for factor in factors]
            if direct is not None and len(direct[0]):
                # Beyond its own capacities a source is as far off as at the nearest.
                near = float(np.clip(size, direct[0][0], direct[0][-1]))
                candidates.append(_between(*direct, near) * energy / _between(*base, near))
            energies.append(chosen(candidates) / 64)
        return sizes, np.array(energies)


def _curve(sram: Mapping[str, Sequence[Entry]], technology: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the capacities for which a technology has figures, rising, and the figures."""
    entries = (entry for alike in sram.values() for entry in alike if entry.technology == technology)
    points = sorted((entry.bytes, entry.value) for entry in entries)
    return np.array([size for size, _ in points], dtype=np.float64), np.array([value for _, value in points])


def _between(sizes: np.ndarray, values: np.ndarray, size: float) -> float:
    """Return the value at a size, on straight lines through the logarithms of both."""
    return float(np.exp(np.interp(np.log(size), np.log(sizes), np.log(values))))


_ENTRY_KINDS: dict[str, type] = {"value": float, "unit": str, "technology": str, "source": str, "bytes": int}
_SECTIONS = tuple(field.name for field in fields(EnergyTable))


def _entries(name: str, given: object, section: str, sources: Mapping[str, Any], where: str) -> Iterator[Entry]:
    if not isinstance(given, list) or not given:
        raise InputError(f"{section}.{name} in {where} must be a list with an entry for each source")
    for number, item in enumerate(given):
        place = f"{section}.{name}[{number}] in {where}"
        if not isinstance(item, dict):
            raise InputError(f"{place} must be a mapping")
        entry = checked(item, _ENTRY_KINDS, place)
        for key in ("value", "unit", "technology", "source", *(("bytes",) if section == "sram" else ())):
            required(entry, key, _ENTRY_KINDS[key], place)
        if entry["source"] not in sources:
            raise InputError(f"the source of {place} must be one of {', '.join(sources)}, not {entry['source']!r}")
        if not 0 < entry["value"] < float("inf"):
            raise InputError(f"the value of {place} must be above 0, not {entry['value']:g}")
        if entry.get("bytes", 1) < 1:
            raise InputError(f"the bytes of {place} must be at least 1, not {entry['bytes']}")
        yield Entry(name, **entry | {"source": sources[entry["source"]]})


def parse_energy_table(content: Mapping[str, Any], where: str) -> EnergyTable:
    """Return the table that the content of a YAML file describes.

    Raises
    ------
    InputError
        If an entry lacks a value, unit, technology or source, has a key that it should not have, or is of a technology
        that the table does not scale to; or if an operation or the memories have no figure for 45 nm.
    """
    checked(content, dict.fromkeys(("sources", *_SECTIONS), dict), where)
    sources = required(content, "sources", dict, where)
    sections = {
        section: {
            name: tuple(_entries(name, given, section, sources, where))
            for name, given in required(content, section, dict, where).items()
        }
        for section in _SECTIONS
    }
    for section in ("operations", "sram"):
        for name, entries in sections[section].items():
            for entry in entries:
                if entry.technology not in sections["scaling"]:
                    known = ", ".join(sections["scaling"])
                    place = f"{section}.{name} in {where}"
                    raise InputError(f"a technology of {place} must be one of {known}, not {entry.technology!r}")
            if entries[0].technology != BASE:
                raise InputError(f"the first entry of {section}.{name} in {where} must be for {BASE}")
    return EnergyTable(**sections)


@cache
def load_energy_table() -> EnergyTable:
    """Return the table that the package brings."""
    path = DATA / "energy.yaml"
    return parse_energy_table(read_yaml(path), path.name)


@cache
def load_rates(technology: str, dram: str, choice: str = "nominal") -> Rates:
    """Return `EnergyTable.rates` of the table that the package brings."""
    return load_energy_table().rates(technology, dram, choice)
