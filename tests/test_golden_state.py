"""Partial states: merging, its order, and normalising."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from golden_cases import SEEDS, states
from hypothesis import given

from golden import formats
from golden.errors import InputError
from golden.state import PartialState, merge, normalise


def random_states(seed: int, count: int) -> list[PartialState]:
    random = np.random.default_rng(seed)
    return [states(random, 3, 2) for _ in range(count)]


@given(SEEDS)
def test_merge_is_commutative(seed):
    a, b = random_states(seed, 2)
    assert merge(a, b) == merge(b, a)


@given(SEEDS)
def test_the_empty_state_is_the_identity_of_merge(seed):
    (a,) = random_states(seed, 1)
    assert merge(a, PartialState.empty(3, 2)) == a
    assert merge(PartialState.empty(3, 2), a) == a


@given(SEEDS)
def test_merge_is_associative_where_maxima_agree(seed):
    a, b, c = (PartialState(np.full(3, 7), s.total, s.accumulator) for s in random_states(seed, 3))
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(SEEDS)
def test_every_order_of_merging_loses_less_than_one_unit_a_merge(seed):
    parts = random_states(seed, 3)
    for a, b, c in permutations(parts):
        merged = merge(merge(a, b), c)
        for row in range(1, 3):
            peak = max(int(s.maximum[row]) for s in parts)
            assert merged.maximum[row] == peak
            shares = [Fraction(1, 2 ** (peak - int(s.maximum[row]))) for s in parts]
            total = sum(int(s.total[row]) * share for s, share in zip(parts, shares, strict=True))
            assert 0 <= total - int(merged.total[row]) < 2
            element = sum(int(s.accumulator[row, 0]) * share for s, share in zip(parts, shares, strict=True))
            assert 0 <= element - int(merged.accumulator[row, 0]) < 2


def test_merge_shifts_the_smaller_side_and_rounds_down():
    a = PartialState(np.array([4]), np.array([100]), np.array([[7, -7]]))
    b = PartialState(np.array([6]), np.array([50]), np.array([[1, 1]]))
    assert merge(a, b) == PartialState(np.array([6]), np.array([75]), np.array([[2, -1]]))


def test_a_state_far_below_the_other_adds_nothing_but_the_sign_of_rounding_down():
    a = PartialState(np.array([-500]), np.array([4095]), np.array([[9, -9]]))
    b = PartialState(np.array([500]), np.array([4095]), np.array([[0, 0]]))
    assert merge(a, b) == PartialState(np.array([500]), np.array([4095]), np.array([[0, -1]]))


def test_states_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="can't be merged"):
        merge(PartialState.empty(2, 3), PartialState.empty(3, 3))
    with pytest.raises(InputError, match="rows must agree"):
        PartialState(np.zeros(2), np.zeros(3), np.zeros((2, 2)))


def test_a_state_equals_only_states():
    assert PartialState.empty(1, 1) != "a state"
    assert PartialState.empty(1, 1) != PartialState(np.array([0]), np.array([0]), np.array([[0]]))


@pytest.mark.parametrize(
    ("total", "element", "output"),
    [
        (512, 1, 1),  # half a unit rounds up
        (512, -1, 0),  # also below zero
        (512, -3, -1),
        (4095, 4095 * 127, 127 * 256),
        (1, 128, formats.OUTPUT_MAX),
        (1, -129, formats.OUTPUT_MIN),
        (0, 0, 0),
    ],
)
def test_normalise_rounds_half_up_and_saturates(total, element, output):
    state = PartialState(np.array([0]), np.array([total]), np.array([[element]]))
    assert normalise(state).tolist() == [[output]]
    assert normalise(state).dtype == np.int16
