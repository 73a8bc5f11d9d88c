"""What other accelerators were published to do, from ``data/peers.yaml``, and their figures brought to one measure.

The measure is MACs a multiplier and cycle: it leaves out how many multipliers a design has and how fast they are
clocked. Above 1 it counts work that was skipped. A figure that the sources do not give stays None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from golden.errors import InputError
from golden.tables import text_table
from perf_model.settings import DATA, checked, read_yaml, required

EVIDENCE = ("simulated", "rtl", "modelled", "measured")


@dataclass(frozen=True)
class Case:
    """What a peer does with one workload.

    Parameters
    ----------
    workload : str
        The workload, in words.
    evidence : str
        One of `EVIDENCE`; ``peers.yaml`` says what they mean.
    source : str
        Where it was published.
    keys : int, optional
        Keys of a sequence in that workload, the fewest of several.
    macs, cycles : int, optional
        Multiply-accumulates needed, and the cycles that they took.
    utilisation : float, optional
        MACs a multiplier and cycle, as published.
    gops : float, optional
        10^9 operations a second, two a MAC.
    skips : bool
        Whether `gops` counts skipped operations as done.
    tops_per_watt : float, optional
        10^12 operations a second and watt.
    traffic : float, optional
        Bytes moved over the compulsory ones.
    speedup, efficiency : float, optional
        Times as fast, and times the operations a joule, as `over`.
    over : str, optional
        What these two compare with.
    multipliers, clock_mhz : int, float, optional
        Of this case, where its source scales the design.
    """

    workload: str
    evidence: str
    source: str
    keys: int | None = None
    macs: int | None = None
    cycles: int | None = None
    utilisation: float | None = None
    gops: float | None = None
    skips: bool = False
    tops_per_watt: float | None = None
    traffic: float | None = None
    speedup: float | None = None
    efficiency: float | None = None
    over: str | None = None
    multipliers: int | None = None
    clock_mhz: float | None = None


@dataclass(frozen=True)
class Peer:
    """An accelerator, or a kernel.

    Parameters
    ----------
    name, what : str
        Its name, and what it is.
    multipliers : int or None
        Multipliers of its arrays.
    clock_mhz : float or None
        Clock in MHz.
    technology : str or None
        Technology.
    power_w, area_mm2 : float or None
        Power in W and area in mm^2.
    cases : tuple of Case
        What it does.
    """

    name: str
    what: str
    multipliers: int | None
    clock_mhz: float | None
    technology: str | None
    power_w: float | None
    area_mm2: float | None
    cases: tuple[Case, ...]

    def macs_per_multiplier_cycle(self, case: Case) -> float | None:
        """Return the MACs a multiplier and cycle of a case: by cycles, as published, or by throughput and clock."""
        multipliers, clock = case.multipliers or self.multipliers, case.clock_mhz or self.clock_mhz
        if case.macs and case.cycles and multipliers:
            return case.macs / (case.cycles * multipliers)
        if case.utilisation is not None:
            return case.utilisation
        if case.gops is not None and multipliers and clock:
            return case.gops * 1e3 / (2 * multipliers * clock)
        return None

    def picojoules_per_mac(self, case: Case) -> float | None:
        """Return the energy of a MAC in pJ: two operations, from operations a second and watt."""
        return None if case.tops_per_watt is None else 2 / case.tops_per_watt


_CASE_KINDS: dict[str, type] = {
    "workload": str,
    "evidence": str,
    "source": str,
    "keys": int,
    "macs": int,
    "cycles": int,
    "utilisation": float,
    "gops": float,
    "skips": bool,
    "tops_per_watt": float,
    "traffic": float,
    "speedup": float,
    "efficiency": float,
    "over": str,
    "multipliers": int,
    "clock_mhz": float,
}
_PEER_KINDS: dict[str, type] = {
    "name": str,
    "what": str,
    "multipliers": int,
    "clock_mhz": float,
    "technology": str,
    "power_w": float,
    "area_mm2": float,
    "cases": list,
}


def _given(content: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """Return what is not null, checked by its type; numbers must be above 0."""
    unknown = dict.fromkeys((key for key in content if key not in kinds), 0)
    known = {key: value for key, value in content.items() if value is not None}
    values = checked(unknown | known, kinds, where)
    for key, value in values.items():
        if kinds[key] in (int, float) and not 0 < value < float("inf"):
            raise InputError(f"{key} in {where} must be above 0, not {value:g}")
    return values


def _case(content: object, sources: Mapping[str, Any], where: str) -> Case:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping")
    values = _given(content, _CASE_KINDS, where)
    for key in ("workload", "evidence", "source"):
        required(values, key, str, where)
    for key, allowed in (("evidence", EVIDENCE), ("source", tuple(sources))):
        if values[key] not in allowed:
            raise InputError(f"{key} in {where} must be one of {', '.join(allowed)}, not {values[key]!r}")
    if ("speedup" in values or "efficiency" in values) != ("over" in values):
        raise InputError(f"{where} must say over what its speedup or efficiency is, and only then")
    if ("macs" in values) != ("cycles" in values):
        raise InputError(f"{where} must have both macs and cycles, or none")
    return Case(**values | {"source": sources[values["source"]]})


def parse_peers(content: Mapping[str, Any], where: str) -> dict[str, Peer]:
    """Return the peers that the content of a YAML file describes, by their keys.

    Raises
    ------
    InputError
        If something is missing, unknown, of the wrong type, or has no source; the message names the key.
    """
    checked(content, {"sources": dict, "peers": dict}, where)
    sources = required(content, "sources", dict, where)
    return dict(_peers(required(content, "peers", dict, where), sources, where))


def _peers(content: Mapping[str, Any], sources: Mapping[str, Any], where: str) -> Iterator[tuple[str, Peer]]:
    for name, given in content.items():
        place = f"peers.{name} in {where}"
        if not isinstance(given, dict):
            raise InputError(f"{place} must be a mapping")
        for key in _PEER_KINDS:
            if key not in given:
                raise InputError(f"{place} lacks the key {key!r}, which may be null")
        values: dict[str, Any] = dict.fromkeys(_PEER_KINDS) | _given(given, _PEER_KINDS, place)
        for key in ("name", "what", "cases"):
            if not values[key]:
                raise InputError(f"{key} in {place} can't be null or empty")
        cases = enumerate(values["cases"])
        listed = tuple(_case(case, sources, f"peers.{name}.cases[{n}] in {where}") for n, case in cases)
        yield name, Peer(**values | {"cases": listed})


@cache
def load_peers() -> dict[str, Peer]:
    """Return the peers that the package knows."""
    path = DATA / "peers.yaml"
    return parse_peers(read_yaml(path), path.name)


def peers_table(peers: Mapping[str, Peer]) -> str:
    """Return the peers as text, a line a case."""

    def shown(value: float | str | None, form: str = "") -> str:
        return "-" if value is None else f"{value:{form}}"

    lines = []
    for peer in peers.values():
        for case in peer.cases:
            multipliers, clock = case.multipliers or peer.multipliers, case.clock_mhz or peer.clock_mhz
            measure = shown(peer.macs_per_multiplier_cycle(case), ".3f")
            times = (f"{value:g} x" for value in (case.speedup, case.efficiency) if value)
            versus = " and ".join(times) + f" {case.over}" if case.over else "-"
            lines.append(
                (
                    peer.name,
                    case.workload,
                    case.evidence,
                    shown(multipliers),
                    shown(clock, "g"),
                    shown(peer.technology),
                    measure + (" (skipped work counted)" if case.skips and measure != "-" else ""),
                    shown(peer.picojoules_per_mac(case), ".3f"),
                    shown(case.traffic, "g"),
                    versus,
                )
            )
    header = ("peer", "workload", "evidence", "multipliers", "MHz", "technology", "MACs a multiplier and cycle")
    return text_table((*header, "pJ a MAC", "traffic / compulsory", "speed and energy over"), lines)
