"""A grid of design points: axes over hardware and workload, and every combination of their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from golden.config import CoreConfig
from golden.errors import InputError
from golden.memory import Memory
from perf_model.hardware import Hardware, load_hardware
from perf_model.settings import typed
from perf_model.workload import Workload, load_workload

Value = int | float | str | bool | None

BASES = ("hardware", "workload")
"""Axes whose values are what the others change: names or files, as `load_hardware` and `load_workload` take them."""

SURVIVAL = "survival"
"""Axis of the share of the keys streamed that survive."""

MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Kind:
    """What an axis may hold.

    Parameters
    ----------
    type : type
        Of its values.
    optional : bool
        Whether None is a value too.
    """

    type: type
    optional: bool = False


def _kinds(owner: type, leave_out: Iterable[str] = ()) -> dict[str, Kind]:
    """Return the fields of a data class that hold one number, text or truth value, with what they hold."""
    hints = get_type_hints(owner)
    found = {}
    for field in fields(owner):
        parts = get_args(hints[field.name]) or (hints[field.name],)
        single = [part for part in parts if part in (int, float, str, bool)]
        if single and field.name not in leave_out:
            found[field.name] = Kind(single[0], NoneType in parts)
    return found


_CORE, _AROUND, _MEMORY = _kinds(CoreConfig), _kinds(Hardware, ["name"]), _kinds(Memory)
HARDWARE_AXES = {"hardware": Kind(str)} | _CORE | _AROUND | _MEMORY

# A key that both have, as shared_values, is the hardware's: what a core can do is a choice, what a model is is not.
_WORKLOAD = _kinds(Workload, ["name", *HARDWARE_AXES])
WORKLOAD_AXES = {"workload": Kind(str)} | _WORKLOAD | {SURVIVAL: Kind(float)}
AXES = HARDWARE_AXES | WORKLOAD_AXES
"""What a grid may vary, by name."""


def _checked(value: object, name: str, where: str) -> Value:
    """Return a value of axis `name` if it is of the axis's kind; raise InputError otherwise."""
    kind = AXES[name]
    if value is None and kind.optional:
        return None
    checked: Value = typed(value, kind.type, name, where)
    if isinstance(checked, float) and not math.isfinite(checked):
        raise InputError(f"{name} in {where} must be a finite number, not {checked}")
    return checked


def scalar(text: str) -> Value:
    """Return the value that one word of a command line is, read as YAML."""
    try:
        value: Value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value


@dataclass(frozen=True)
class DesignPoint:
    """One combination of the values of a grid.

    Parameters
    ----------
    workload : Workload
        What is computed.
    hardware : Hardware
        On what.
    survival : float
        Share of the keys streamed that survive.
    """

    workload: Workload
    hardware: Hardware
    survival: float


@dataclass(frozen=True)
class Grid:
    """Axes, and all combinations of their values, the last axis changing first.

    Parameters
    ----------
    axes : mapping of str to sequence
        Values by name of the axis; each of `AXES`. ``hardware`` and ``workload`` must be among them, `SURVIVAL` is 1
        where it is not.

    Raises
    ------
    InputError
        If there is no such axis, a value is of the wrong type or there twice, text that stands for nothing, or the
        points are too many. A number that is possible only beside others is not judged here.
    """

    axes: Mapping[str, Sequence[Value]]

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if not values:
                raise InputError(f"axis {name} has no value")
            if len(set(values)) < len(values):
                raise InputError(f"axis {name} has a value twice: {', '.join(map(cell, values))}")
        if self.points > MOST_POINTS:
            raise InputError(f"the grid has {self.points:,} points; it may have at most {MOST_POINTS:,}")
        for name, values in self.axes.items():
            # A misspelt name is no design point.
            if AXES[name].type is str:
                for value in values:
                    self.at({axis: self.axes[axis][0] for axis in BASES} | {name: value})

    @classmethod
    def of(cls, sources: Iterable[tuple[str, Mapping[str, Any]]]) -> Grid:
        """Return the grid whose axes come from several places.

        Parameters
        ----------
        sources : iterable of (str, mapping)
            Where axes come from, for messages, and the values of each, unchecked.

        Raises
        ------
        InputError
            As of the class; also if an axis comes from two places.
        """
        axes: dict[str, tuple[Value, ...]] = {}
        for where, given in sources:
            for name, values in given.items():
                if name not in AXES:
                    raise InputError(f"{where} has an unknown axis {name!r}; axes are {', '.join(AXES)}")
                if name in axes:
                    raise InputError(f"{where} gives the axis {name} once more")
                axes[name] = tuple(_checked(value, name, where) for value in typed(values, list, name, where))
        return cls(axes)

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(map(len, self.axes.values()))

    @cached_property
    def _hardware(self) -> dict[Value, Hardware]:
        return {name: load_hardware(str(name)) for name in self.axes["hardware"]}

    @cached_property
    def _workloads(self) -> dict[Value, Workload]:
        return {name: load_workload(str(name)) for name in self.axes["workload"]}

    def bases(self) -> dict[str, Any]:
        """Return what the values of ``hardware`` and ``workload`` stand for, ready for JSON."""
        return {
            "hardware": {str(name): asdict(base) for name, base in self._hardware.items()},
            "workload": {str(name): asdict(base) for name, base in self._workloads.items()},
        }

    def values(self, index: int) -> dict[str, Value]:
        """Return the values of point `index`, from 0, by axis."""
        found: dict[str, Value] = {}
        for name, values in reversed(list(self.axes.items())):
            index, place = divmod(index, len(values))
            found[name] = values[place]
        return {name: found[name] for name in self.axes}

    def at(self, values: Mapping[str, Value]) -> DesignPoint:
        """Return the design point at these values.

        Raises
        ------
        InputError
            If they are not possible together.
        """

        def chosen(kinds: Mapping[str, Kind]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if name in kinds}

        hardware, survival = self._hardware[values["hardware"]], values.get(SURVIVAL, 1.0)
        assert isinstance(survival, float)
        memory = replace(hardware.memory, **chosen(_MEMORY))
        core = hardware.core.override(**chosen(_CORE))
        return DesignPoint(
            workload=replace(self._workloads[values["workload"]], **chosen(_WORKLOAD)),
            hardware=replace(hardware, core=core, memory=memory, **chosen(_AROUND)),
            survival=survival,
        )


def cell(value: Value) -> str:
    """Return a value as tables and CSV files show it: nothing for None, a float by nine digits.

    Nine digits hide in what order a processor adds, so that a sweep's file is the same wherever it ran.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9g}" if isinstance(value, float) else str(value)
