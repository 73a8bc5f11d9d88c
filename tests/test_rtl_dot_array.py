"""The dot-product array: sums of products, when they appear, and which stationary operand they are of."""

from __future__ import annotations

import numpy as np
import pytest
from rtl_bench import idle, trace

from golden import formats
from golden.config import CoreConfig
from rtl.dot_array import DotArray, DotRow, sum_bits, tree_stages

ENDS = np.array([-128, -127, 0, 127])
PROBABILITY_ENDS = np.array([0, 1, formats.PROBABILITY_ONE - 1])


def latency(lanes: int) -> int:
    return 2 + tree_stages(lanes)


def config_of(lanes: int, rows: int = 2) -> CoreConfig:
    return CoreConfig(rows=rows, lanes=lanes, max_head_dim=64, max_value_dim=64, rows_per_scaler=1, score_slots=128)


def unsigned(elements: np.ndarray) -> list:
    return (elements & 0xFF).tolist()


@pytest.mark.parametrize(("lanes", "stages"), [(4, 1), (8, 2), (16, 2), (32, 3), (64, 3)])
def test_the_tree_has_a_stage_every_two_levels(lanes: int, stages: int):
    assert tree_stages(lanes) == stages


@pytest.mark.parametrize("lanes", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("extreme", [False, True])
def test_a_sum_of_products_every_cycle(lanes: int, extreme: bool):
    rng = np.random.default_rng(lanes)
    config = config_of(lanes)
    stationary = np.zeros((config.rows, lanes), dtype=np.int64)
    stimulus, expected = [], []
    for _ in range(100):
        shape = (config.rows, lanes)
        query = rng.choice(ENDS, shape) if extreme else rng.integers(-128, 128, shape)
        probability = rng.choice(PROBABILITY_ENDS, shape) if extreme else rng.integers(0, 4096, shape)
        streaming = rng.choice(ENDS, lanes) if extreme else rng.integers(-128, 128, lanes)
        load = rng.integers(3)
        stationary = (stationary, query, probability)[load]
        stimulus.append(
            {
                "load_query": int(load == 1),
                "load_probability": int(load == 2),
                "query": unsigned(query),
                "probability": probability.tolist(),
                "streaming": unsigned(streaming),
            }
        )
        expected.append((stationary @ streaming).tolist())
    seen = trace(DotArray(config), stimulus + idle(latency(lanes)), ("totals",))
    assert [totals for (totals,) in seen[latency(lanes) :]] == expected


@pytest.mark.parametrize("lanes", [4, 64])
def test_the_largest_sums_fit(lanes: int):
    one = formats.PROBABILITY_ONE - 1
    stimulus = [
        {"load_query": 1, "query": [-128] * lanes, "streaming": [-128] * lanes},
        {"load_probability": 1, "probability": [one] * lanes, "streaming": [-128] * lanes},
        {"streaming": [127] * lanes},
    ]
    seen = trace(DotRow(lanes), stimulus + idle(latency(lanes)), ("total",))
    assert [total for (total,) in seen[latency(lanes) :]] == [128 * 128 * lanes, -128 * one * lanes, 127 * one * lanes]
    assert 128 * one * lanes < 1 << (sum_bits(lanes) - 1)
