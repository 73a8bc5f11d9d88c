"""Reads what the simulated core was measured to do: the summary that ``python -m sim sweep`` writes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from golden.config import CoreConfig
from golden.errors import InputError
from perf_model.settings import checked, read_json, required, typed


@dataclass(frozen=True)
class ThresholdPoint:
    """One run of the whole input.

    Parameters
    ----------
    tau : float or None
        Threshold in bits; None dropped nothing.
    snr_db : float
        Output against float64 attention on the same int8 tensors, in dB.
    survivors : float
        Share of the keys streamed that survived.
    cycles : int
        From the first input beat to the last output beat.
    """

    tau: float | None
    snr_db: float
    survivors: float
    cycles: int


@dataclass(frozen=True)
class LengthPoint:
    """One run at one sequence length.

    Parameters
    ----------
    queries, keys, heads, head_dim, value_dim : int
        What was computed.
    tau : float or None
        As of `ThresholdPoint`.
    survivors : float
        As of `ThresholdPoint`.
    cycles : int
        As of `ThresholdPoint`.
    """

    queries: int
    keys: int
    heads: int
    head_dim: int
    value_dim: int
    tau: float | None
    survivors: float
    cycles: int


@dataclass(frozen=True)
class Summary:
    """The measurements that plots show beside the model.

    Parameters
    ----------
    core : CoreConfig
        The core.
    name : str
        Name of the input.
    heads, queries, keys, head_dim, value_dim : int
        Its shape.
    causal : bool
        Whether its mask is causal.
    points : tuple of ThresholdPoint
        One a threshold, as simulated.
    lengths : tuple of LengthPoint
        Runs at other lengths; may be empty.
    """

    core: CoreConfig
    name: str
    heads: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int
    causal: bool
    points: tuple[ThresholdPoint, ...]
    lengths: tuple[LengthPoint, ...]


_SHAPE = ("heads", "queries", "keys", "head_dim", "value_dim")


def _run(content: object, defaults: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the checked figures of one run, shapes from `defaults` where it doesn't say."""
    if not isinstance(content, dict):
        raise InputError(f"{where} must be an object")
    tau = content.get("tau")
    figures: dict[str, Any] = {"tau": None if tau is None else typed(tau, float, "tau", where)}
    figures["survivors"] = required(content, "survivors", float, where)
    figures["cycles"] = required(content, "cycles", int, where)
    if not 0 < figures["survivors"] <= 1:
        raise InputError(f"survivors in {where} must be a share above 0 and at most 1, not {figures['survivors']:g}")
    shape = {name: required(defaults | content, name, int, where) for name in _SHAPE}
    for name, value in (shape | {"cycles": figures["cycles"]}).items():
        if value < 1:
            raise InputError(f"{name} in {where} must be at least 1, not {value}")
    return figures | shape


def load_summary(path: Path) -> Summary:
    """Return the measurements in the JSON file `path`.

    Raises
    ------
    InputError
        If it can't be read, or lacks something or has something of the wrong type; the message names the key.
    """
    content, where = read_json(path), path.name
    parameters = required(content, "config", dict, where)
    place = f"config in {where}"
    core = CoreConfig(**checked(parameters, {field.name: int for field in fields(CoreConfig)}, place))
    shape: dict[str, int] = {}
    for name in _SHAPE:
        shape[name] = required(content, name, int, where)
        if shape[name] < 1:
            raise InputError(f"{name} in {where} must be at least 1, not {shape[name]}")
    points = []
    for number, run in enumerate(required(content, "points", list, where)):
        place = f"points[{number}] in {where}"
        figures = _run(run, shape, place)
        snr = required(run, "snr_db", float, place)
        points.append(ThresholdPoint(figures["tau"], snr, figures["survivors"], figures["cycles"]))
    if not points:
        raise InputError(f"{where} has no points")
    lengths = [
        LengthPoint(**_run(run, shape, f"lengths[{number}] in {where}"))
        for number, run in enumerate(typed(content.get("lengths", []), list, "lengths", where))
    ]
    return Summary(
        core=core,
        name=required(content, "input", str, where),
        causal=required(content, "causal", bool, where),
        points=tuple(points),
        lengths=tuple(lengths),
        **shape,
    )
