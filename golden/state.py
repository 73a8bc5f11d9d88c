"""Partial states of an online softmax, and how two of them merge (Lean Attention, arXiv 2405.10480)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden import formats
from golden.errors import InputError


@dataclass(frozen=True, eq=False)
class PartialState:
    """What a block of rows knows after some of its keys.

    Parameters
    ----------
    maximum : numpy.ndarray
        Integer running maximum m of each row, int64, shape (rows,); `formats.NO_MAXIMUM` where no key was seen.
    total : numpy.ndarray
        Sum l of probabilities in units of ``2**-PROBABILITY_BITS`` of ``2**m``, int64, shape (rows,).
    accumulator : numpy.ndarray
        Sum O of probability times value, int64, shape (rows, value_dim).
    """

    maximum: np.ndarray
    total: np.ndarray
    accumulator: np.ndarray

    def __post_init__(self) -> None:
        rows = len(self.maximum)
        if self.total.shape != (rows,) or self.accumulator.ndim != 2 or len(self.accumulator) != rows:
            shapes = f"{self.maximum.shape}, {self.total.shape}, {self.accumulator.shape}"
            raise InputError(f"a state's maximum, total and accumulator have shapes {shapes}; rows must agree")

    @classmethod
    def empty(cls, rows: int, value_dim: int) -> PartialState:
        """Return the state of `rows` rows that have seen no key: the identity of `merge`."""
        return cls(
            np.full(rows, formats.NO_MAXIMUM, dtype=np.int64),
            np.zeros(rows, dtype=np.int64),
            np.zeros((rows, value_dim), dtype=np.int64),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartialState):
            return NotImplemented
        return (
            np.array_equal(self.maximum, other.maximum)
            and np.array_equal(self.total, other.total)
            and np.array_equal(self.accumulator, other.accumulator)
        )


def merge(a: PartialState, b: PartialState) -> PartialState:
    """Merge the states of the same rows over two disjoint sets of keys.

    Both sides are shifted right to the larger maximum and added. Commutative; associative over the reals but not
    to the last bit, so the order of merging is part of a job list.

    Parameters
    ----------
    a, b : PartialState
        States of the same rows and value dimension.

    Returns
    -------
    PartialState

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if a.accumulator.shape != b.accumulator.shape:
        raise InputError(f"states of shapes {a.accumulator.shape} and {b.accumulator.shape} can't be merged")
    maximum = np.maximum(a.maximum, b.maximum)
    total = np.zeros_like(a.total)
    accumulator = np.zeros_like(a.accumulator)
    for side in (a, b):
        delta = np.minimum(maximum - side.maximum, formats.DELTA_MAX)
        total += side.total >> delta
        accumulator += side.accumulator >> delta[:, None]
    return PartialState(maximum, total, accumulator)


def normalise(state: PartialState) -> np.ndarray:
    """Return O / l with `formats.OUTPUT_FRACTION_BITS` fraction bits, rounded half up and saturated.

    Returns
    -------
    numpy.ndarray
        int16, shape (rows, value_dim); zeros in rows that have seen no key.
    """
    total = np.where(state.total == 0, 1, state.total)[:, None]
    doubled = (state.accumulator << (formats.OUTPUT_FRACTION_BITS + 1)) // total
    rounded = np.clip((doubled + 1) >> 1, formats.OUTPUT_MIN, formats.OUTPUT_MAX)
    return np.where(state.total[:, None] == 0, 0, rounded).astype(np.int16)
