"""Workloads as YAML: what attention is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from golden.config import CoreConfig
from golden.errors import InputError
from golden.masks import Mask, query_positions
from perf_model.cycles import JobShape, survivors_at
from perf_model.latency import Ints
from perf_model.settings import checked, find, read_yaml, typed

PHASES = ("prefill", "decode")
LARGEST = 1 << 20
"""Of any number of a workload."""
MOST_BLOCKS = 1 << 20
"""Blocks of rows that may be listed."""


class RowBlocks(NamedTuple):
    """The blocks of query rows of one key and value head of one sequence, each of which is a job.

    Parameters
    ----------
    rows : numpy.ndarray
        Rows of each block, int64.
    first, end : numpy.ndarray
        The keys that it streams: the first, and the one after the last; int64.
    """

    rows: Ints
    first: Ints
    end: Ints


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
    length : int or tuple of int
        Keys of a sequence, in tokens; of several, in a ragged batch.
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
        Sequences of each length.
    chunk : int, optional
        Queries of a sequence, at its last positions, in place of the phase's: a chunk of a prefill, or tokens of
        speculative decoding.
    shared_values : bool
        Whether a value is the first elements of its key, and so not in memory a second time: latent attention. A core
        that can then captures it from there.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    name: str
    heads: int
    head_dim: int
    layers: int
    length: int | tuple[int, ...]
    phase: str = "prefill"
    kv_heads: int | None = None
    value_dim: int | None = None
    causal: bool = False
    window: int | None = None
    batch: int = 1
    chunk: int | None = None
    shared_values: bool = False

    def __post_init__(self) -> None:
        if not self.lengths:
            raise InputError(f"length of workload {self.name!r} must have at least one number")
        numbers = {key: getattr(self, key) for key in ("heads", "head_dim", "layers", "kv_heads", "value_dim")}
        numbers |= {key: getattr(self, key) for key in ("window", "batch", "chunk")}
        for key, value in (*numbers.items(), *(("length", length) for length in self.lengths)):
            if value is not None and not 1 <= value <= LARGEST:
                bound = "at least 1" if value < 1 else f"at most {LARGEST}"
                raise InputError(f"{key} of workload {self.name!r} must be {bound}, not {value}")
        if self.phase not in PHASES:
            raise InputError(f"phase of workload {self.name!r} must be {' or '.join(PHASES)}, not {self.phase!r}")
        if self.heads % self.key_heads:
            raise InputError(f"kv_heads of workload {self.name!r} must divide {self.heads} heads, not {self.kv_heads}")
        if self.shared_values and self.values > self.head_dim:
            raise InputError(
                f"value_dim of workload {self.name!r} must be at most its head_dim {self.head_dim}, of which "
                f"shared_values makes it a part, not {self.values}"
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Keys of each sequence, one of each length."""
        return (self.length,) if isinstance(self.length, int) else tuple(self.length)

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
        """Queries of a query head, of one sequence of each length together."""
        return sum(map(self.queries_of, self.lengths))

    @property
    def streams(self) -> int:
        """Key and value heads to compute for each length: of every layer and sequence."""
        return self.key_heads * self.layers * self.batch

    @property
    def mask(self) -> Mask:
        """Which keys a query sees."""
        return Mask.of(self.causal, self.window)

    def queries_of(self, length: int) -> int:
        """Return the queries of a query head of a sequence of so many keys."""
        return self.chunk or (length if self.phase == "prefill" else 1)

    def check(self, core: CoreConfig) -> None:
        """Raise InputError if `core` can't hold the workload's jobs."""
        for key, value, largest in (
            ("head_dim", self.head_dim, core.max_head_dim),
            ("value_dim", self.values, core.max_value_dim),
            ("length", max(self.lengths), core.max_keys),
        ):
            if value > largest:
                raise InputError(f"{key} of workload {self.name!r} is {value}; this core holds at most {largest}")
        self.check_blocks(core)

    def check_blocks(self, core: CoreConfig, heads: int = 1) -> None:
        """Raise InputError if so many heads of each length have more blocks of rows than can be listed."""
        blocks = heads * sum(-(-self.queries_of(length) * self.group // core.rows) for length in self.lengths)
        if blocks > MOST_BLOCKS:
            raise InputError(
                f"workload {self.name!r} has {blocks} blocks of rows to list; at most {MOST_BLOCKS} can be"
            )

    def row_blocks(self, core: CoreConfig, length: int) -> RowBlocks:
        """Return the blocks of one key and value head of a sequence, as `golden.plan.plan_jobs` cuts them."""
        queries = self.queries_of(length)
        positions = query_positions(queries, length)
        starts = np.arange(0, queries * self.group, core.rows, dtype=np.int64)
        ends = np.minimum(starts + core.rows, queries * self.group)
        first, last = positions[starts // self.group], positions[(ends - 1) // self.group]
        mask = self.mask
        low = np.maximum(first - mask.window + 1, 0) if mask.window else np.zeros_like(first)
        high = np.minimum(last + 1, length) if mask.kind else np.full_like(last, length)
        # Where no row sees a key the first one is streamed.
        seen = low < high
        return RowBlocks(ends - starts, np.where(seen, low, 0), np.where(seen, high, 1))

    def blocks(self, core: CoreConfig, survival: float = 1.0) -> JobShape:
        """Return the jobs of one key and value head of a sequence of each length.

        Parameters
        ----------
        core : CoreConfig
            The core.
        survival : float
            Share of the keys streamed that survive, on average: jobs differ by up to half a pack.

        Returns
        -------
        JobShape
            Arrays with an element a job, length after length.

        Raises
        ------
        InputError
            If the core can't hold the jobs.
        """
        self.check(core)
        blocks = [self.row_blocks(core, length) for length in self.lengths]
        rows, first, end = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return self.jobs(core, rows, end - first, survival)

    def jobs(self, core: CoreConfig, rows: Ints, keys: Ints, survival: float) -> JobShape:
        """Return jobs of so many rows and keys, of which a share survives."""
        return JobShape(
            rows=rows,
            keys=keys,
            head_dim=self.head_dim,
            value_dim=self.values,
            survivors=_spread_survivors(keys, survival, core.lanes),
            shared=self.captured(core),
        )

    def captured(self, core: CoreConfig) -> int:
        """Return 1 if `core` captures the values from their keys, 0 if it fetches them."""
        return int(self.shared_values and core.shared_values)


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
    "chunk": int,
    "shared_values": bool,
}


def load_workload(name: str, **changes: int | tuple[int, ...] | str | None) -> Workload:
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
    content = read_yaml(path)
    lengths: dict[str, Any] = {}
    if isinstance(content.get("length"), list):
        lengths["length"] = tuple(typed(length, int, "length", path.name) for length in content.pop("length"))
    settings = lengths | checked(content, _WORKLOAD_KINDS, path.name)
    for field in ("name", "heads", "head_dim", "layers", "length"):
        if field not in settings:
            raise InputError(f"{path.name} lacks the key {field!r}")
    return Workload(**settings | {key: value for key, value in changes.items() if value is not None})
