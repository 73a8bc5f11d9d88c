"""Partial states as they lie in memory: the beats of the core's o and state ports, one after the other."""

from __future__ import annotations

import numpy as np

from golden import formats
from golden.state import PartialState

PIECE_BITS = 16
PIECES = formats.STATE_WORD_BITS // PIECE_BITS
"""A beat carries a piece of `output_lanes` words; the pieces of a word come in successive beats, the lowest first."""


def state_bytes(rows: int, value_dim: int, output_lanes: int) -> int:
    """Return the bytes of a state of `rows` rows."""
    return rows * (1 + -(-value_dim // output_lanes)) * PIECES * output_lanes * PIECE_BITS // 8


def pack_state(state: PartialState, output_lanes: int) -> np.ndarray:
    """Return the bytes of `state`, uint8, of shape (`state_bytes`,)."""
    rows, value_dim = state.accumulator.shape
    words = np.zeros((rows, 1 + -(-value_dim // output_lanes), output_lanes), dtype=np.int64)
    words[:, 0, 0] = (state.maximum << formats.STATE_SUM_BITS) | state.total
    words[:, 1:].reshape(rows, -1)[:, :value_dim] = state.accumulator
    pieces = np.stack([words >> piece * PIECE_BITS for piece in range(PIECES)], axis=2)
    return pieces.astype("<u2").reshape(-1).view(np.uint8)


def parse_state(content: np.ndarray, rows: int, value_dim: int, output_lanes: int) -> PartialState:
    """Return the state that lies in `content`, uint8 of shape (`state_bytes`,)."""
    pieces = content.view("<u2").astype(np.int64).reshape(rows, -1, PIECES, output_lanes)
    words = (pieces << PIECE_BITS * np.arange(PIECES)[:, None]).sum(axis=2)
    spare = 64 - formats.STATE_WORD_BITS
    words = (words << spare >> spare).reshape(rows, -1)
    return PartialState(
        words[:, 0] >> formats.STATE_SUM_BITS,
        words[:, 0] & ((1 << formats.STATE_SUM_BITS) - 1),
        words[:, output_lanes : output_lanes + value_dim],
    )
