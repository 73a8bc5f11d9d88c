"""Masks by position: every pair of a small range, the edges of a large one, and when permissions appear."""

from __future__ import annotations

import numpy as np
import pytest
from job_pieces import bits
from rtl_bench import context, idle, trace

from golden.config import CoreConfig
from golden.masks import Mask, MaskKind
from rtl.position_mask import MASK_LATENCY, PositionMask

SMALL = CoreConfig(rows=4, lanes=4, max_keys=16, rows_per_scaler=1)
LARGE = CoreConfig(rows=3, lanes=4, max_keys=1 << 20, rows_per_scaler=1)

MASKS = [Mask(), Mask(MaskKind.CAUSAL), *(Mask(MaskKind.WINDOW, window) for window in (1, 2, 5, 15, 16))]


def check(config: CoreConfig, cases: list[tuple[Mask, list[int], int, int, int]]) -> None:
    """Hold the component to golden for (mask, row positions, key index, rows in use, void), one a cycle.

    Contexts, masks and positions change every cycle too: all that counts is what they are with the column.
    """
    stimulus, expected = [], []
    for n, (mask, positions, index, rows, void) in enumerate(cases):
        ctx = n % 3 % 2
        other = {"mask": n % 3, "window": n % 7, "row_mask": n % 8}, [n % 16] * config.rows
        mine = context(config, rows=rows, mask=int(mask.kind), window=mask.window), positions
        contexts, all_positions = zip(*((mine, other) if ctx == 0 else (other, mine)), strict=True)
        column = {"ctx": ctx, "index": index, "void": void}
        stimulus.append({"contexts": list(contexts), "positions": list(all_positions), "column": column})
        allowed = mask.allowed(np.array(positions), np.array([index]))[:, 0]
        expected.append(0 if void else bits(allowed[:rows]))
    seen = trace(PositionMask(config), stimulus + idle(MASK_LATENCY), ("allowed",))
    assert [allowed for (allowed,) in seen[MASK_LATENCY:]] == expected


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_every_pair_of_position_and_key(mask: Mask):
    groups = [[first, first + 1, first + 2, first + 3] for first in range(0, 16, 4)]
    check(SMALL, [(mask, positions, index, 4, 0) for positions in groups for index in range(16)])


@pytest.mark.parametrize("window", [1, 2, 4096, (1 << 20) - 1, 1 << 20])
def test_edges_of_windows_over_the_largest_range(window: int):
    last = LARGE.max_keys - 1
    cases = []
    for position in (0, 1, window - 1, min(window, last), last - 1, last):
        for index in {position - window, position - window + 1, position - 1, position, position + 1, 0, last}:
            if 0 <= index <= last:
                rows = [position, max(position - 1, 0), min(position + 1, last)]
                cases.append((Mask(MaskKind.WINDOW, window), rows, index, 3, 0))
    check(LARGE, cases)


def test_rows_not_in_use_and_void_columns_see_nothing():
    cases = [
        (mask, [3, 7, 0, 15], index, rows, void)
        for mask in MASKS
        for index in (0, 3, 8)
        for rows in (1, 2, 3, 4)
        for void in (0, 1)
    ]
    check(SMALL, cases)
