"""Hardware as YAML: one or more cores and what they stand in."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from golden.config import PRESETS, CoreConfig, preset
from golden.errors import InputError
from golden.memory import Memory, check_bandwidth
from golden.partition import RULES
from perf_model.energy_table import load_energy_table
from perf_model.settings import DATA, checked, find, read_yaml

MOST_CORES = 4096
LEAST_MHZ, MOST_MHZ = 1e-3, 1e6


@dataclass(frozen=True)
class Hardware:
    """Cores in their surroundings.

    Parameters
    ----------
    core : CoreConfig
        Each of the cores.
    name : str
        For titles.
    clock_mhz : float
        Clock in MHz. The default is an assumption, not a result of synthesis.
    technology : str
        Key of the energy table's scaling factors.
    dram : str
        Key of the energy table's DRAM entries.
    scratchpad_kib : int
        KiB of on-chip memory for K and V beside each core; 0 for none.
    memory : Memory
        What the streams of all cores come from and go to: scratchpads, or the DRAM itself where there are none. By
        default it never stalls one.
    dram_bandwidth : float, optional
        Bytes a cycle that the DRAM moves for all cores; None for any number. What a schedule needs of it is a bound of
        its cycles.
    cores : int
        Cores, each with streams of its own and an equal share of the memory's bandwidth.
    partition : str
        How several cores share the work: a rule of `golden.partition.RULES`.
    tile : int
        Keys of a tile of the partition.
    merge_units : int
        Units that merge partial states.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    core: CoreConfig
    name: str = "core"
    clock_mhz: float = 500.0
    technology: str = "22 nm"
    dram: str = "lpddr4"
    scratchpad_kib: int = 128
    memory: Memory = Memory()  # noqa: RUF009 (immutable)
    dram_bandwidth: float | None = None
    cores: int = 1
    partition: str = "whole"
    tile: int = 64
    merge_units: int = 1

    def __post_init__(self) -> None:
        if not LEAST_MHZ <= self.clock_mhz <= MOST_MHZ:
            raise InputError(f"clock_mhz must be from {LEAST_MHZ:g} to {MOST_MHZ:g}, not {self.clock_mhz:g}")
        for key, least, most in (
            ("scratchpad_kib", 0, 1 << 30),
            ("cores", 1, MOST_CORES),
            ("tile", 1, 1 << 20),
            ("merge_units", 1, MOST_CORES),
        ):
            if not least <= getattr(self, key) <= most:
                raise InputError(f"{key} must be from {least} to {most}, not {getattr(self, key)}")
        check_bandwidth(self.dram_bandwidth, "dram_bandwidth")
        if self.partition not in RULES:
            raise InputError(f"partition must be one of {', '.join(RULES)}, not {self.partition!r}")
        load_energy_table().check(self.technology, self.dram)

    @property
    def multipliers(self) -> int:
        """Multipliers of all arrays, which is the MACs a cycle at most."""
        return self.cores * self.core.rows * self.core.lanes

    @property
    def scratchpad_bytes(self) -> int:
        """Size of a core's scratchpad in bytes."""
        return self.scratchpad_kib * 1024

    @property
    def core_memory(self) -> Memory:
        """A core's share of the memory."""
        bandwidth = self.memory.bandwidth
        return self.memory if bandwidth is None else replace(self.memory, bandwidth=bandwidth / self.cores)

    def dram_cycles(self, dram_bytes: float) -> int:
        """Return the cycles that the DRAM takes to move so many bytes, 0 if it is never a limit."""
        return 0 if self.dram_bandwidth is None else math.ceil(dram_bytes / self.dram_bandwidth)


_SURROUNDINGS: dict[str, type] = {
    "name": str,
    "clock_mhz": float,
    "technology": str,
    "dram": str,
    "scratchpad_kib": int,
    "dram_bandwidth": float,
    "cores": int,
    "partition": str,
    "tile": int,
    "merge_units": int,
}
_MEMORY: dict[str, type] = {"bandwidth": float, "latency": int, "outstanding": int, "buffer": int}


def brought_hardware() -> list[str]:
    """Return the names of the hardware that the package brings, presets of the core left out."""
    return sorted(path.stem for path in (DATA / "hardware").glob("*.yaml"))


def load_hardware(name: str, **changes: float | str | None) -> Hardware:
    """Return a preset core in default surroundings, or the hardware that a .yaml file describes.

    Parameters
    ----------
    name : str
        A preset, the name of a file that the package brings, or the path of one with the keys ``preset``, those of
        `CoreConfig`, which override the preset, those of `Hardware` and those of `golden.memory.Memory`.
    **changes
        Surroundings and properties of the memory that replace the file's, where they are not None.

    Raises
    ------
    InputError
        If there is no such hardware, or it is not possible; the message names the key.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if name in PRESETS:
        return _hardware(preset(name), {"name": name} | given)
    if Path(name).suffix not in (".yaml", ".yml") and name not in brought_hardware():
        known = f"there are {', '.join(brought_hardware())} and the presets {', '.join(PRESETS)}"
        raise InputError(f"there is no hardware {name!r}; {known}, or give a .yaml file")
    path = find(name, "hardware")
    parameters = {field.name for field in fields(CoreConfig)}
    kinds = {"preset": str} | _SURROUNDINGS | _MEMORY | dict.fromkeys(parameters, int)
    settings = checked(read_yaml(path), kinds, path.name)
    around = {"name": path.stem} | {key: settings[key] for key in settings if key in _SURROUNDINGS or key in _MEMORY}
    try:
        core = preset(settings.get("preset", "default"))
        core = core.override(**{key: value for key, value in settings.items() if key in parameters})
        _hardware(core, around)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    return _hardware(core, around | given)


def _hardware(core: CoreConfig, settings: dict[str, Any]) -> Hardware:
    """Return the hardware around `core` that surroundings and properties of the memory make, by name."""
    memory = Memory(**{key: value for key, value in settings.items() if key in _MEMORY})
    return Hardware(core, memory=memory, **{key: value for key, value in settings.items() if key not in _MEMORY})
