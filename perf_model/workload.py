"""Workloads and hardware as YAML: what attention is computed, and on what."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from golden.config import PRESETS, CoreConfig, preset
from golden.errors import InputError
from golden.masks import Mask, query_positions
from golden.memory import Memory
from perf_model.cycles import JobShape, survivors_at
from perf_model.energy import load_energy_table
from perf_model.latency import Ints
from perf_model.settings import checked, find, read_yaml

PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Workload:
    """The attention of a model.

    Parameters
    ----------
    name : str
        For titles.
    heads : int
        Query heads of a layer.
    head_dim : int
        Elements of a query and key row.
    layers : int
        Layers that compute attention.
    length : int
        Keys of a sequence, in tokens.
    phase : str
        ``prefill`` has as many queries as keys; ``decode`` one, for the last position.
    kv_heads : int, optional
        Key and value heads, as many as `heads` by default; a divisor of `heads`.
    value_dim : int, optional
        Elements of a value row, `head_dim` by default.
    causal : bool
        Whether a query sees no later keys.
    window : int, optional
        Keys that a query sees at most, its own included; such a mask is causal.
    batch : int
        Sequences.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    name: str
    heads: int
    head_dim: int
    layers: int
    length: int
    phase: str = "prefill"
    kv_heads: int | None = None
    value_dim: int | None = None
    causal: bool = False
    window: int | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        for key in ("heads", "head_dim", "layers", "length", "kv_heads", "value_dim", "window", "batch"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key} of workload {self.name!r} must be at least 1, not {value}")
        if self.phase not in PHASES:
            raise InputError(f"phase of workload {self.name!r} must be {' or '.join(PHASES)}, not {self.phase!r}")
        if self.heads % self.key_heads:
            raise InputError(f"kv_heads of workload {self.name!r} must divide {self.heads} heads, not {self.kv_heads}")

    @property
    def key_heads(self) -> int:
        """Key and value heads of a layer."""
        return self.kv_heads or self.heads

    @property
    def group(self) -> int:
        """Query heads that share a key and value head."""
        return self.heads // self.key_heads

    @property
    def values(self) -> int:
        """Elements of a value row."""
        return self.value_dim or self.head_dim

    @property
    def queries(self) -> int:
        """Queries of a query head."""
        return self.length if self.phase == "prefill" else 1

    @property
    def streams(self) -> int:
        """Key and value heads to compute in all: of every layer and sequence."""
        return self.key_heads * self.layers * self.batch

    def blocks(self, core: CoreConfig, survival: float = 1.0) -> JobShape:
        """Return the jobs of one key and value head on `core`, as `golden.plan.plan_jobs` cuts them.

        Parameters
        ----------
        core : CoreConfig
            The core.
        survival : float
            Share of the keys streamed that survive, on average: jobs differ by up to half a pack.

        Returns
        -------
        JobShape
            Arrays with an element a job.

        Raises
        ------
        InputError
            If the core can't hold the jobs.
        """
        for key, value, largest in (
            ("head_dim", self.head_dim, core.max_head_dim),
            ("value_dim", self.values, core.max_value_dim),
            ("length", self.length, core.max_keys),
        ):
            if value > largest:
                raise InputError(f"{key} of workload {self.name!r} is {value}; this core holds at most {largest}")
        mask = Mask.of(self.causal, self.window)
        positions = query_positions(self.queries, self.length)
        starts = np.arange(0, self.queries * self.group, core.rows, dtype=np.int64)
        ends = np.minimum(starts + core.rows, self.queries * self.group)
        first, last = positions[starts // self.group], positions[(ends - 1) // self.group]
        low = np.maximum(first - mask.window + 1, 0) if mask.window else np.zeros_like(first)
        high = last + 1 if mask.kind else np.full_like(last, self.length)
        keys = high - low
        return JobShape(
            rows=ends - starts,
            keys=keys,
            head_dim=self.head_dim,
            value_dim=self.values,
            survivors=_spread_survivors(keys, survival, core.lanes),
        )


def _spread_survivors(keys: Ints, rate: float, lanes: int) -> Ints:
    """Return survivors of jobs about a survival rate, spread over the width of a pack.

    Real jobs differ in their survivors, so that on average half of a job's last pack is empty. Were all jobs to have
    the same number, its rounding up to whole packs would decide, and a small change of the rate could make a large one
    of the cycles.
    """
    mean = np.asarray(survivors_at(keys, rate))
    width = np.minimum(lanes, 2 * np.minimum(keys - mean, mean - 1))
    # Steps of the golden ratio fill the interval evenly, however many jobs there are; the first is in its middle.
    place = (np.arange(len(keys)) * (5**0.5 - 1) / 2 + 0.5) % 1 - 0.5
    spread: Ints = mean + np.rint(width * place).astype(np.int64)
    return spread


_WORKLOAD_KINDS: dict[str, type] = {
    "name": str,
    "heads": int,
    "head_dim": int,
    "layers": int,
    "length": int,
    "phase": str,
    "kv_heads": int,
    "value_dim": int,
    "causal": bool,
    "window": int,
    "batch": int,
}


def load_workload(name: str, **changes: int | str | None) -> Workload:
    """Return a workload that the package brings, or that a .yaml file describes.

    Parameters
    ----------
    name : str
        Its name, or the path of the file.
    **changes
        Values that replace the file's, where they are not None.

    Raises
    ------
    InputError
        If there is no such workload, or it is not a possible one; the message names the key.
    """
    path = find(name, "workloads")
    settings = checked(read_yaml(path), _WORKLOAD_KINDS, path.name)
    for field in ("name", "heads", "head_dim", "layers", "length"):
        if field not in settings:
            raise InputError(f"{path.name} lacks the key {field!r}")
    return Workload(**settings | {key: value for key, value in changes.items() if value is not None})


@dataclass(frozen=True)
class Hardware:
    """A core in its surroundings.

    Parameters
    ----------
    core : CoreConfig
        The core.
    name : str
        For titles.
    clock_mhz : float
        Clock in MHz. The default is an assumption, not a result of synthesis.
    technology : str
        Key of the energy table's scaling factors.
    dram : str
        Key of the energy table's DRAM entries.
    scratchpad_kib : int
        KiB of on-chip memory for K and V beside the core; 0 for none.
    memory : Memory
        What the core's streams come from and go to; by default it never stalls one.

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

    def __post_init__(self) -> None:
        if not 0 < self.clock_mhz < float("inf"):
            raise InputError(f"clock_mhz must be above 0, not {self.clock_mhz:g}")
        if self.scratchpad_kib < 0:
            raise InputError(f"scratchpad_kib must be 0 or more, not {self.scratchpad_kib}")
        table = load_energy_table()
        for key, value, allowed in (
            ("technology", self.technology, table.scaling),
            ("dram", self.dram, table.dram),
        ):
            if value not in allowed:
                raise InputError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")

    @property
    def multipliers(self) -> int:
        """Multipliers of the array, which is its MACs a cycle at most."""
        return self.core.rows * self.core.lanes


_SURROUNDINGS: dict[str, type] = {
    "name": str,
    "clock_mhz": float,
    "technology": str,
    "dram": str,
    "scratchpad_kib": int,
}
_MEMORY: dict[str, type] = {"bandwidth": float, "latency": int, "outstanding": int, "buffer": int}


def load_hardware(name: str, **changes: float | str | None) -> Hardware:
    """Return a preset core in default surroundings, or the hardware that a .yaml file describes.

    Parameters
    ----------
    name : str
        A preset, or the path of a file with the keys ``preset``, those of `CoreConfig`, which override the preset,
        those of `Hardware` and those of `golden.memory.Memory`.
    **changes
        Surroundings and properties of the memory that replace the file's, where they are not None.

    Raises
    ------
    InputError
        If there is no such hardware, or it is not possible; the message names the key.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if Path(name).suffix not in (".yaml", ".yml"):
        if name not in PRESETS:
            raise InputError(f"there is no preset {name!r}; presets are {', '.join(PRESETS)}, or give a .yaml file")
        return _hardware(preset(name), {"name": name} | given)
    path = Path(name)
    parameters = {field.name for field in fields(CoreConfig)}
    kinds = {"preset": str} | _SURROUNDINGS | _MEMORY | dict.fromkeys(parameters, int)
    settings = checked(read_yaml(path), kinds, path.name)
    core = preset(settings.get("preset", "default")).override(**{k: v for k, v in settings.items() if k in parameters})
    around = {key: value for key, value in settings.items() if key in _SURROUNDINGS or key in _MEMORY}
    return _hardware(core, {"name": path.stem} | around | given)


def _hardware(core: CoreConfig, settings: dict[str, Any]) -> Hardware:
    """Return the hardware around `core` that surroundings and properties of the memory make, by name."""
    memory = Memory(**{key: value for key, value in settings.items() if key in _MEMORY})
    return Hardware(core, memory=memory, **{key: value for key, value in settings.items() if key not in _MEMORY})
