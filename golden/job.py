"""A job of the core: one block of query rows over one list of keys, and what comes back of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from golden import formats
from golden.config import CoreConfig
from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold


@dataclass(frozen=True)
class ScoreScale:
    """The factor ``M / 2**s`` from an integer score to a base-2 logit in units of ``2**-FRACTION_BITS``.

    Parameters
    ----------
    multiplier : int
        M, unsigned `formats.MULTIPLIER_BITS` wide.
    shift : int
        s, unsigned `formats.SHIFT_BITS` wide.
    """

    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        for name, bits in (("multiplier", formats.MULTIPLIER_BITS), ("shift", formats.SHIFT_BITS)):
            value = getattr(self, name)
            if not 0 <= value < 1 << bits:
                raise InputError(f"the score {name} must be from 0 to {(1 << bits) - 1}, not {value}")

    @classmethod
    def of(cls, factor: float) -> ScoreScale:
        """Return the nearest scale to `factor` logit units per unit of score.

        Raises
        ------
        InputError
            If `factor` is not positive and finite, or too large for the format.
        """
        largest = (1 << formats.MULTIPLIER_BITS) - 1
        if not (np.isfinite(factor) and 0 < factor <= largest):
            raise InputError(f"the score factor must be above 0 and at most {largest}, not {factor}")
        _, exponent = np.frexp(factor)
        shift = min(formats.MULTIPLIER_BITS - int(exponent), (1 << formats.SHIFT_BITS) - 1)
        multiplier = round(factor * 2.0**shift)
        if multiplier > largest:
            multiplier, shift = multiplier >> 1, shift - 1
        return cls(multiplier, shift)

    @property
    def factor(self) -> float:
        """The exact value ``M / 2**s``."""
        return self.multiplier / 2.0**self.shift


def _require(array: np.ndarray, name: str, shape: tuple[int, ...], dtype: type) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{name} must be {np.dtype(dtype).name} of shape {shape}, not {found}")


@dataclass(frozen=True, eq=False)
class Job:
    """One block of query rows over one list of keys.

    Parameters
    ----------
    query : numpy.ndarray
        int8, shape (rows, head_dim).
    positions : numpy.ndarray
        Position of each row for the mask, int64, shape (rows,).
    key : numpy.ndarray
        int8, shape (keys, head_dim).
    indices : numpy.ndarray
        Index of each key, int64, shape (keys,), rising.
    value : numpy.ndarray
        int8, shape (keys, value_dim).
    scale : ScoreScale
        From score to logit.
    threshold : Threshold
        Which keys are dropped; none by default. A job's tau is fixed: moving it towards a target, from job to job, is
        for whoever makes the jobs.
    mask : Mask
        Which keys a row may attend to.
    state : PartialState, optional
        Where to start from; nothing seen by default.
    emit_state : bool
        Return the partial state rather than the normalised output.
    shared : bool
        The values are the first elements of the keys, and not fetched on their own.
    continue_tau : bool
        A core goes on from the tau that the job before left (`Threshold.after`); `threshold` has it already.
    tag : int
        Travels with outputs and statistics.

    Raises
    ------
    InputError
        If shapes, dtypes or values do not agree with this description.
    """

    query: np.ndarray
    positions: np.ndarray
    key: np.ndarray
    indices: np.ndarray
    value: np.ndarray
    scale: ScoreScale
    threshold: Threshold = field(default_factory=Threshold)
    mask: Mask = field(default_factory=Mask)
    state: PartialState | None = None
    emit_state: bool = False
    shared: bool = False
    continue_tau: bool = False
    tag: int = 0

    def __post_init__(self) -> None:
        if self.query.ndim != 2 or self.key.ndim != 2 or self.value.ndim != 2:
            raise InputError("query, key and value of a job must have two axes")
        rows, head_dim = self.query.shape
        keys, value_dim = self.value.shape
        _require(self.query, "query", (rows, head_dim), np.int8)
        _require(self.key, "key", (keys, head_dim), np.int8)
        _require(self.value, "value", (keys, value_dim), np.int8)
        _require(self.positions, "positions", (rows,), np.int64)
        _require(self.indices, "indices", (keys,), np.int64)
        if min(rows, head_dim, keys, value_dim) < 1:
            raise InputError(f"a job needs at least one row, key and element, not {(rows, keys, head_dim, value_dim)}")
        if np.any(np.diff(self.indices) <= 0):
            raise InputError("key indices must rise")
        if self.shared and not np.array_equal(self.value, self.key[:, :value_dim]):
            raise InputError("a job can only share values that are the first elements of its keys")
        if self.state is not None and self.state.accumulator.shape != (rows, value_dim):
            shape = self.state.accumulator.shape
            raise InputError(f"a state for this job has accumulators of shape {(rows, value_dim)}, not {shape}")

    @property
    def rows(self) -> int:
        """Query rows."""
        return len(self.query)

    @property
    def keys(self) -> int:
        """Keys streamed."""
        return len(self.key)

    @property
    def head_dim(self) -> int:
        """Elements of a query or key row."""
        return int(self.query.shape[1])

    @property
    def value_dim(self) -> int:
        """Elements of a value row."""
        return int(self.value.shape[1])

    def check(self, config: CoreConfig) -> None:
        """Raise InputError if `config` can't hold this job."""
        bounds = (
            ("rows", self.rows, config.rows),
            ("head_dim", self.head_dim, config.max_head_dim),
            ("value_dim", self.value_dim, config.max_value_dim),
            ("keys", self.keys, config.max_keys),
            ("largest key index", int(self.indices[-1]), config.max_keys - 1),
            ("largest row position", int(self.positions.max()), config.max_keys - 1),
            ("tag", self.tag, (1 << config.tag_bits) - 1),
        )
        for name, value, largest in bounds:
            if value > largest:
                raise InputError(f"{name} is {value}; this configuration holds at most {largest}")
        if min(int(self.indices[0]), int(self.positions.min()), self.tag) < 0:
            raise InputError("key indices, row positions and tags can't be negative")
        if self.mask.kind == MaskKind.WINDOW and self.mask.window > config.max_keys:
            raise InputError(f"window is {self.mask.window}; this configuration holds at most {config.max_keys}")
        if self.shared and not config.shared_values:
            raise InputError("this configuration has no shared_values: a job's values must come on their own")
        self.threshold.check(config)
        if self.continue_tau and not config.target_control:
            raise InputError("this configuration has no target control, so no job can go on from another's tau")


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job returns.

    Parameters
    ----------
    output : numpy.ndarray
        Normalised output, int16 with `formats.OUTPUT_FRACTION_BITS` fraction bits, shape (rows, value_dim).
    state : PartialState
        The state after the last key; `output` is its normalisation.
    survivors : numpy.ndarray
        bool, shape (keys,): the keys that were kept, whose values are fetched.
    packs : int
        Packs of survivors that went through the array.
    dropped : numpy.ndarray
        int64, shape (rows,): keys that the row may attend to and that were dropped.
    saturated : int
        (row, key) pairs, not masked, whose logit saturated.
    """

    output: np.ndarray
    state: PartialState
    survivors: np.ndarray
    packs: int
    dropped: np.ndarray
    saturated: int

    @property
    def empty(self) -> np.ndarray:
        """bool, shape (rows,): rows that no key may attend to, whose output is zero."""
        empty: np.ndarray = self.state.total == 0
        return empty
