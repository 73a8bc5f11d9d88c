"""The jobs that a model gave the core, with which keys survived, in a file: what a performance model needs of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from golden.attended import Attended
from golden.config import CoreConfig
from golden.errors import InputError
from golden.files import make_folder, read_npz, write_npz
from golden.kept_jobs import require_kept
from golden.plan import Blocks

_COUNTS = ("rows", "first", "keys", "head_dim", "value_dim", "head", "bounded", "continues")
_FROM_ZERO = ("first", "head", "bounded", "continues")
_FLAGS = ("bounded", "continues")


@dataclass(frozen=True, eq=False)
class JobRecord:
    """Jobs in their order.

    Parameters
    ----------
    config : CoreConfig
        The core that they are for.
    rows, keys, head_dim, value_dim : numpy.ndarray
        Of each job, int64.
    first : numpy.ndarray
        The first key of each job, by its number within its head, int64; further ones follow it.
    head : numpy.ndarray
        Which key and value head, of which layer and sequence, a job is of: rising, int64. Jobs of one share its keys.
    bounded, continues : numpy.ndarray
        Whether it has an error bound, and whether it goes on from the tau of the job before: 0 or 1, int64.
    survivors : numpy.ndarray
        Whether each key survived, job after job, bool.
    notes : dict
        What the run was: numbers and text, for a table.

    Raises
    ------
    InputError
        If the arrays do not agree with this description.
    """

    config: CoreConfig
    rows: np.ndarray
    first: np.ndarray
    keys: np.ndarray
    head_dim: np.ndarray
    value_dim: np.ndarray
    head: np.ndarray
    bounded: np.ndarray
    continues: np.ndarray
    survivors: np.ndarray
    notes: dict[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _COUNTS:
            array = getattr(self, name)
            if array.dtype != np.int64 or array.shape != self.rows.shape or array.ndim != 1:
                raise InputError(f"{name} of a job record must be int64, one a job, not {array.dtype} {array.shape}")
            if not len(array) or array.min() < (name not in _FROM_ZERO):
                raise InputError(f"{name} of a job record must hold at least one number, and only possible ones")
        if self.rows.max() > self.config.rows or max(getattr(self, name).max() for name in _FLAGS) > 1:
            raise InputError(
                f"jobs of a record must have at most the {self.config.rows} rows of its core, and flags 0 or 1"
            )
        if np.any(np.diff(self.head) < 0):
            raise InputError("the heads of a job record must rise")
        if self.survivors.dtype != np.bool_ or self.survivors.shape != (self.keys.sum(),):
            found = f"{self.survivors.dtype} {self.survivors.shape}"
            raise InputError(f"a job record must say of {self.keys.sum()} keys whether they survived, not {found}")

    @property
    def survivor_share(self) -> float:
        """Share of the streamed keys that survived."""
        return float(self.survivors.mean())

    def of_heads(self, first: int, end: int) -> JobRecord:
        """Return the jobs of heads `first` to `end` - 1 alone, say of one layer; InputError if there are none."""
        jobs = (self.head >= first) & (self.head < end)
        if not jobs.any():
            raise InputError(f"the record has heads 0 to {self.head[-1]}, so none from {first} to {end - 1}")
        counts = {name: getattr(self, name)[jobs] for name in _COUNTS}
        return replace(self, **counts, survivors=self.survivors[np.repeat(jobs, self.keys)])

    def save(self, path: Path) -> None:
        """Write the record so that `load` returns it again; InputError if that can't be done."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        arrays["survivors"] = np.packbits(self.survivors)
        texts = {"config": self.config.to_dict(), "notes": self.notes}
        make_folder(path.parent)
        write_npz(path, arrays | {name: np.array(json.dumps(text)) for name, text in texts.items()})

    @classmethod
    def load(cls, path: Path) -> JobRecord:
        """Read a record.

        Raises
        ------
        InputError
            If the file can't be read or holds no record.
        """
        arrays = read_npz(path, "a job record")
        missing = {*_COUNTS, "survivors", "config", "notes"} - set(arrays)
        if missing:
            raise InputError(f"{path} holds no job record: it has no {min(missing)}")
        try:
            config, notes = (json.loads(str(arrays[name])) for name in ("config", "notes"))
            core = CoreConfig(**config)
            counts = {name: arrays[name] for name in _COUNTS}
            keys, packed = int(counts["keys"].sum()), arrays["survivors"]
            if packed.size != -(-keys // 8) or not isinstance(notes, dict):
                raise InputError(f"it has {packed.size} bytes of survivors for {keys} keys, and notes {notes!r}")
            bits = np.unpackbits(packed, count=keys).astype(bool)
            return cls(core, **counts, survivors=bits, notes=notes)
        except (TypeError, ValueError) as error:
            reason = f": {error}" if isinstance(error, InputError) else ""
            raise InputError(f"{path} holds no job record that can be used{reason}") from error


class JobLog:
    """Gathers the jobs of layers that run one after the other.

    Parameters
    ----------
    config : CoreConfig
        The core that they run on.
    """

    def __init__(self, config: CoreConfig) -> None:
        self.config = config
        self._counts: list[tuple[int, ...]] = []
        self._survivors: list[np.ndarray] = []
        self._heads = 0

    def add(self, parts: Sequence[Attended]) -> None:
        """Add a call of a layer that the core ran as `parts`, with ``keep=True``.

        Raises
        ------
        InputError
            If it was without, on a core of other rows, or with a block mask: that leaves gaps between a job's keys.
        """
        for part in parts:
            if part.block_mask is not None:
                raise InputError("a record of jobs can't hold those of a block mask")
            kept, attention = require_kept(part, self.config), part.attention
            # As `golden.plan.plan_jobs` cuts the layer, without the tensors of its jobs.
            blocks = Blocks.of(attention, self.config, part.mask)
            bounded, follows = int(part.threshold.epsilon_shift > 0), int(bool(part.threshold.target))
            for kv_head in range(attention.kv_heads):
                for number, (rows, keys) in enumerate(zip(blocks.rows, blocks.visible, strict=True)):
                    size = len(blocks.positions[rows]), keys.start, keys.stop - keys.start
                    flags = bounded, follows if number else 0
                    self._counts.append((*size, attention.head_dim, attention.value_dim, self._heads + kv_head, *flags))
                    self._survivors.append(kept[kv_head, number, keys])
            self._heads += attention.kv_heads

    def record(self, **notes: str | int | float) -> JobRecord:
        """Return what was gathered, with notes on the run.

        Raises
        ------
        InputError
            If nothing was.
        """
        if not self._counts:
            raise InputError("no layer ran, so there are no jobs to record")
        columns = np.array(self._counts, dtype=np.int64).T
        counts = dict(zip(_COUNTS, columns, strict=True))
        return JobRecord(self.config, **counts, survivors=np.concatenate(self._survivors), notes=notes)
