"""Reads what the simulated core was measured to do: the summary that ``python -m sim sweep`` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from golden.config import CoreConfig
from golden.errors import InputError
from golden.memory import Memory
from perf_model.settings import checked, read_json, required, typed
from perf_model.traffic import PORTS
from perf_model.workload import Workload


@dataclass(frozen=True)
class Run:
    """One layer on the simulated core, its jobs back to back.

    Parameters
    ----------
    input : str
        Name of the file that its tensors are from.
    heads, kv_heads, queries, keys, head_dim, value_dim : int
        Its shape.
    causal : bool
        Whether its mask is causal.
    window : int or None
        Keys that a query sees at most, if its mask is a window.
    memory : Memory
        The memory beside the core.
    tau : float or None
        Threshold in bits; None dropped nothing.
    survivors : float
        Share of the keys streamed that survived.
    snr_db : float
        Output against float64 attention on the same int8 tensors, in dB; infinite if there is no difference.
    cycles : int
        From the first input beat to the last output beat.
    macs : int
        Multiply-accumulates needed: of Q K for the keys streamed, of P V for the survivors.
    bytes : Mapping of str to int
        Bytes on each of `perf_model.traffic.PORTS`.
    """

    input: str
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int
    causal: bool
    window: int | None
    memory: Memory
    tau: float | None
    survivors: float
    snr_db: float
    cycles: int
    macs: int
    bytes: Mapping[str, int]

    @property
    def phase(self) -> str | None:
        """The phase of `perf_model.workload.Workload` that this is, None if it is neither."""
        return "prefill" if self.queries == self.keys else "decode" if self.queries == 1 else None

    @property
    def never_stalled(self) -> bool:
        """Whether no stream waited for the memory."""
        return self.memory == Memory()

    @property
    def workload(self) -> Workload:
        """What was run as a workload of one layer.

        Raises
        ------
        InputError
            If it is neither prefill nor decode.
        """
        if self.phase is None:
            raise InputError(f"{self.queries} queries and {self.keys} keys are neither prefill nor decode")
        return Workload(
            name=Path(self.input).stem,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            value_dim=self.value_dim,
            layers=1,
            length=self.keys,
            phase=self.phase,
            causal=self.causal,
            window=self.window,
        )


@dataclass(frozen=True)
class Summary:
    """The measurements that plots show beside the model.

    Parameters
    ----------
    core : CoreConfig
        The core.
    points : tuple of Run
        The whole input at each threshold.
    runs : tuple of Run
        Further runs: at other lengths, in decode, with a memory; may be empty.
    """

    core: CoreConfig
    points: tuple[Run, ...]
    runs: tuple[Run, ...]

    def select(self, phase: str, tau: float | None, never_stalled: bool = True) -> list[Run]:
        """Return the runs of a phase and a threshold, with or without a memory that stalls, by rising length."""
        chosen = [
            run
            for run in (*self.points, *self.runs)
            if (run.phase, run.tau, run.never_stalled) == (phase, tau, never_stalled)
        ]
        return sorted(chosen, key=lambda run: run.keys)

    def thresholds(self, phase: str) -> list[float | None]:
        """Return the thresholds at which a phase ran at several lengths, never stalled, None first, then rising."""
        found = {run.tau for run in self.runs if run.never_stalled} or {self.points[0].tau}
        found = {tau for tau in found if self.select(phase, tau)}
        return sorted(found, key=lambda tau: -math.inf if tau is None else tau)


_SHAPE = ("heads", "kv_heads", "queries", "keys", "head_dim", "value_dim")
_MEMORY: dict[str, type] = {"bandwidth": float, "latency": int, "outstanding": int, "buffer": int}


def _memory(content: object, where: str) -> Memory:
    """Return the memory of a run: null stands for one that never stalls, and so does a null within."""
    if content is None:
        return Memory()
    given = typed(content, dict, "memory", where)
    return Memory(**checked({k: v for k, v in given.items() if v is not None}, _MEMORY, f"memory of {where}"))


def _run(content: object, defaults: dict[str, Any], where: str) -> Run:
    """Return one run; what it does not say is as in `defaults`."""
    if not isinstance(content, dict):
        raise InputError(f"{where} must be an object")
    content = defaults | content
    tau, window, snr = content.get("tau"), content.get("window"), content.get("snr_db")
    moved = required(content, "bytes", dict, where)
    counts = {name: required(content, name, int, where) for name in (*_SHAPE, "cycles", "macs")}
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} in {where} must be at least 1, not {value}")
    survivors = required(content, "survivors", float, where)
    if not 0 < survivors <= 1:
        raise InputError(f"survivors in {where} must be a share above 0 and at most 1, not {survivors:g}")
    return Run(
        input=required(content, "input", str, where),
        causal=required(content, "causal", bool, where),
        window=None if window is None else typed(window, int, "window", where),
        memory=_memory(content.get("memory"), where),
        tau=None if tau is None else typed(tau, float, "tau", where),
        survivors=survivors,
        # JSON has no infinite numbers.
        snr_db=math.inf if snr is None else typed(snr, float, "snr_db", where),
        bytes={port: required(moved, port, int, f"bytes of {where}") for port in PORTS},
        **counts,
    )


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
    shared = {name: content[name] for name in (*_SHAPE, "input", "causal", "window") if name in content}
    points, runs = (
        tuple(
            _run(run, shared, f"{name}[{number}] in {where}")
            for number, run in enumerate(required(content, name, list, where))
        )
        for name in ("points", "runs")
    )
    if not points:
        raise InputError(f"{where} has no points")
    if points[0].phase is None:
        shape = f"{points[0].queries} queries and {points[0].keys} keys"
        raise InputError(f"{where} measured {shape}; plots need as many queries as keys, or one query")
    return Summary(core, points, runs)
