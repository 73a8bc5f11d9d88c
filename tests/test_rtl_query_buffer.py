"""The query registers: every word of both contexts, and when it can be read."""

from __future__ import annotations

import numpy as np
import pytest
from rtl_bench import trace

from golden.config import CoreConfig
from rtl.query_buffer import QueryBuffer

WATCH = ("elements", "positions")


def config_of(rows: int, max_head_dim: int) -> CoreConfig:
    return CoreConfig(rows=rows, lanes=4, max_head_dim=max_head_dim, max_value_dim=4, max_keys=64, rows_per_scaler=1)


@pytest.mark.parametrize(("rows", "max_head_dim"), [(3, 16), (1, 4), (2, 12)])
def test_random_writes_and_reads(rows: int, max_head_dim: int):
    """A read shows, one cycle later, all that was written before its cycle; positions show it at once."""
    rng = np.random.default_rng(rows)
    config = config_of(rows, max_head_dim)
    beats = config.head_beats(max_head_dim)
    words = np.zeros((2, beats, rows, config.lanes), dtype=np.int64)
    positions = np.zeros((2, rows), dtype=np.int64)
    stimulus, elements, seen_positions = [], [], []
    for _ in range(400):
        ctx, beat, row = int(rng.integers(2)), int(rng.integers(beats)), int(rng.integers(rows))
        # Often what is read is just being written, or has just been.
        read_ctx, read_beat = (ctx, beat) if rng.random() < 0.5 else (int(rng.integers(2)), int(rng.integers(beats)))
        enable = int(rng.random() < 0.7)
        write = {"enable": enable, "ctx": ctx, "row": row, "beat": beat, "position": int(rng.integers(64))}
        write["elements"] = rng.integers(0, 256, config.lanes).tolist()
        stimulus.append({"write": write, "ctx": read_ctx, "beat": read_beat})
        elements.append(words[read_ctx, read_beat].tolist())
        seen_positions.append(positions.tolist())
        if enable:
            words[ctx, beat, row] = write["elements"]
            positions[ctx, row] = write["position"]
    seen = trace(QueryBuffer(config), [*stimulus, {}], WATCH)
    assert [after for after, _ in seen[1:]] == elements
    assert [now for _, now in seen[:-1]] == seen_positions


def test_a_beat_written_is_read_in_the_next_cycle_and_not_in_the_same():
    write = {"enable": 1, "ctx": 1, "row": 2, "beat": 3, "elements": [1, 2, 3, 255], "position": 63}
    read = {"ctx": 1, "beat": 3}
    seen = trace(QueryBuffer(config_of(3, 16)), [{"write": write} | read, read, {}], WATCH)
    nothing, row = [[0] * 4] * 3, [1, 2, 3, 255]
    assert [elements for elements, _ in seen[1:]] == [nothing, [*nothing[:2], row]]
    assert [positions for _, positions in seen] == [[[0] * 3, [0] * 3], *[[[0] * 3, [0, 0, 63]]] * 2]
