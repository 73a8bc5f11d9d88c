"""Masks by position: which keys a query row may attend to."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from golden.errors import InputError


class MaskKind(enum.IntEnum):
    """Kind of a mask, as the job port encodes it."""

    NONE = 0
    CAUSAL = 1
    WINDOW = 2


@dataclass(frozen=True)
class Mask:
    """A mask by row position.

    Parameters
    ----------
    kind : MaskKind
        NONE lets a row see every key, CAUSAL the keys up to its own position, WINDOW the last `window` of those.
    window : int
        Keys that a row sees, its own position included; at least 1 for WINDOW and 0 otherwise.

    Raises
    ------
    InputError
        If `window` does not fit `kind`.
    """

    kind: MaskKind = MaskKind.NONE
    window: int = 0

    def __post_init__(self) -> None:
        if self.kind == MaskKind.WINDOW and self.window < 1:
            raise InputError(f"a window mask needs a window of at least 1 key, not {self.window}")
        if self.kind != MaskKind.WINDOW and self.window != 0:
            raise InputError(f"only a window mask has a window; {self.kind.name.lower()} was given {self.window}")

    def __str__(self) -> str:
        return f"window of {self.window} keys" if self.window else self.kind.name.lower()

    @classmethod
    def of(cls, causal: bool = False, window: int | None = None) -> Mask:
        """Return the mask that the options ``--causal`` and ``--window`` ask for; a window is always causal."""
        if window is not None:
            return cls(MaskKind.WINDOW, window)
        return cls(MaskKind.CAUSAL) if causal else cls()

    def allowed(self, positions: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return which keys each row may attend to.

        Parameters
        ----------
        positions : numpy.ndarray
            Row positions, shape (rows,).
        indices : numpy.ndarray
            Key indices, shape (keys,).

        Returns
        -------
        numpy.ndarray
            bool, shape (rows, keys).
        """
        behind = np.asarray(positions)[:, None].astype(np.int64) - np.asarray(indices)[None, :].astype(np.int64)
        if self.kind == MaskKind.NONE:
            return np.ones(behind.shape, dtype=bool)
        if self.kind == MaskKind.CAUSAL:
            return behind >= 0
        return (behind >= 0) & (behind < self.window)

    def bounds(self, positions: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of keys that each row may attend to, as numbers within rising `indices`.

        Returns
        -------
        tuple of numpy.ndarray
            First key, and the one after the last; int64, shape (rows,). They are equal where there is none.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if self.kind == MaskKind.NONE:
            return np.zeros(len(positions), np.int64), np.full(len(positions), len(indices), np.int64)
        last = np.searchsorted(indices, positions, side="right")
        if self.kind == MaskKind.CAUSAL:
            return np.zeros(len(positions), np.int64), last
        return np.searchsorted(indices, positions - self.window, side="right"), last


def query_positions(queries: int, keys: int) -> np.ndarray:
    """Return the positions of a head's query rows when nothing else is said.

    The queries are the last positions of the keys, which is prefill when there are as many queries as keys and decode
    when there are fewer. With more queries than keys (cross attention) the positions are counted from 0.

    Returns
    -------
    numpy.ndarray
        int64, shape (queries,).
    """
    return np.arange(queries, dtype=np.int64) + max(keys - queries, 0)
