"""Packs added in whole matrix products against the plain loop, to the last bit of every accumulator.

Outputs alone would not show a lost bit of an accumulator, so its exact value is compared.
"""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import LANES, SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import formats
from golden.block import _close_pack
from golden.packs import _BUFFERED_KEYS, FAR, absorb, normalise_rows, workspace
from golden.state import PartialState, normalise


def assert_equal_to_the_loop(logits: np.ndarray, values: np.ndarray, lanes: int, state: PartialState) -> None:
    """Add the keys to a copy of `state` both ways; masked pairs have the logit `FAR`."""
    keys, rows = logits.shape
    value_dim = values.shape[1]
    maximum, total = state.maximum.astype(np.float32), state.total.copy()
    accumulator = state.accumulator.astype(np.float64)
    work = workspace(rows, keys, 1, value_dim, lanes, buffered=True)
    absorb(logits.astype(np.float32), values.astype(np.float32), lanes, maximum, total, accumulator, work)

    running = state.maximum.copy()
    expected = PartialState(state.maximum.copy(), state.total.copy(), state.accumulator.copy())
    for first in range(0, keys, lanes):
        pack = logits[first : first + lanes].T.astype(np.int64)
        allowed = pack != int(FAR)
        peaks = np.where(allowed, -(-pack >> formats.FRACTION_BITS), formats.NO_MAXIMUM).max(axis=1)
        running = np.maximum(running, peaks)
        slots = np.arange(first, first + lanes)
        _close_pack(slots, pack, allowed, values, running, expected.maximum, expected.total, expected.accumulator)
    assert np.array_equal(maximum, expected.maximum)
    assert np.array_equal(total, expected.total)
    assert np.array_equal(accumulator, expected.accumulator)
    output = np.empty(accumulator.shape, dtype=np.int16)
    normalise_rows(total, accumulator, output)
    assert np.array_equal(output, normalise(expected))


def a_state(random: np.random.Generator, rows: int, value_dim: int) -> PartialState:
    """Return the states of rows of which some have seen nothing and some many keys."""
    total = random.integers(2070, 1 << 28, rows)
    accumulator = random.integers(-128, 128, (rows, value_dim)) * total[:, None] + random.integers(-99, 99)
    maximum = random.integers(-40, 40, rows)
    fresh = random.random(rows) < 0.3
    maximum[fresh], total[fresh], accumulator[fresh] = formats.NO_MAXIMUM, 0, 0
    return PartialState(maximum, total, accumulator)


@settings(max_examples=300)
@given(SEEDS, LANES, st.integers(1, 9), st.integers(1, 5), st.data())
def test_any_packs_are_added_exactly(seed, lanes, rows, value_dim, data):
    random = np.random.default_rng(seed)
    keys = lanes * data.draw(st.integers(1, _BUFFERED_KEYS // lanes))
    near = random.normal(0, data.draw(st.sampled_from([5, 60, 300, 3000])), (keys, rows))
    rise = np.linspace(0, data.draw(st.sampled_from([0, 64, 900, 1400, 9000])), keys)[:, None]
    # Rows whose maxima move early, late, in steps, or not at all.
    logits = near + np.where(random.random(rows) < 0.7, rise, 0) * random.choice([1, -1], rows)
    logits[random.integers(keys), random.integers(rows)] += data.draw(st.sampled_from([0, 200, 5000]))
    logits = np.clip(np.rint(logits), formats.SCORE_MIN, formats.SCORE_MAX)
    masked = random.random((keys, rows)) < data.draw(st.sampled_from([0, 0.2, 0.98]))
    values = random.integers(-128, 128, (keys, value_dim)).astype(np.int8)
    state = a_state(random, rows, value_dim)
    assert_equal_to_the_loop(np.where(masked, FAR, logits), values, lanes, state)


@pytest.mark.parametrize("lanes", [4, 16, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_added_exactly(lanes, sign):
    """Flat rows: all probabilities are 4095, so a float32 sum over too many keys loses bits."""
    random = np.random.default_rng(lanes)
    values = sign * random.integers(119, 128, (_BUFFERED_KEYS, 8)).astype(np.int8)
    logits = np.zeros((_BUFFERED_KEYS, 3))
    assert_equal_to_the_loop(logits, values, lanes, PartialState.empty(3, 8))
    assert_equal_to_the_loop(logits, values, lanes, a_state(random, 3, 8))


@given(SEEDS, st.sampled_from([2070, 2071, 4095 * 65536, (1 << 32) - 5]))
def test_quotients_just_below_a_rounding_edge_are_not_rounded_up(seed, total):
    outputs = np.random.default_rng(seed).integers(formats.OUTPUT_MIN, formats.OUTPUT_MAX, 50)
    # The least accumulators that give more than these outputs, half a unit above them, and the ones below.
    edges = -(-(2 * outputs + 1) * total >> (formats.OUTPUT_FRACTION_BITS + 1))
    accumulator = np.stack([edges - 1, edges], axis=1)
    totals = np.full(len(edges), total)
    found = np.empty(accumulator.shape, dtype=np.int16)
    normalise_rows(totals, accumulator.astype(np.float64), found)
    assert np.array_equal(found, np.stack([outputs, outputs + 1], axis=1))
    assert np.array_equal(found, normalise(PartialState(np.zeros_like(totals), totals, accumulator)))
