"""The quantiser."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from golden_cases import SEEDS
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from golden.quantise import INT8_SCALE, QuantisedAttention, quantise
from golden.reference import float_attention, quantised_attention, snr_db


def tensors(seed: int = 0, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return four query heads over two kv heads; every head has a range of its own."""
    random = np.random.default_rng(seed)
    q = random.normal(0, [[[0.1]], [[1]], [[2]], [[3]]], (4, 5, 8))
    k = random.normal(0, [[[1]], [[0.2]]], (2, 7, 8))
    v = random.normal(0, [[[5]], [[0.01]]], (2, 7, 3))
    return q.astype(dtype), k.astype(dtype), v.astype(dtype)


@given(SEEDS, st.sampled_from([np.float16, np.float32, np.float64]))
def test_values_are_within_half_a_step_and_the_peak_is_127(seed, dtype):
    q, k, v = tensors(seed, dtype)
    attention = quantise(q, k, v)
    for real, integer, scale in (
        (q, attention.query, np.repeat(attention.query_scale, 2)),
        (k, attention.key, attention.key_scale),
        (v, attention.value, attention.value_scale),
    ):
        step = scale[:, None, None]
        assert np.all(np.abs(integer * step - real.astype(np.float64)) <= step / 2 * (1 + 1e-12))
        assert np.abs(integer.astype(int)).max() == 127
    assert np.array_equal(np.abs(attention.key.astype(int)).max(axis=(1, 2)), [127, 127])


def test_query_heads_of_a_group_share_the_scale_of_the_larger():
    q, k, v = tensors()
    attention = quantise(q, k, v)
    assert attention.group == 2
    assert attention.query_scale.tolist() == [np.abs(q[:2]).max() / 127, np.abs(q[2:]).max() / 127]


def test_halves_round_to_even():
    row = np.array([[[127.0, 0.5, 1.5, -0.5, -2.5]]])
    assert quantise(row, row, row).query.tolist() == [[[127, 0, 2, 0, -2]]]


def test_the_score_scale_is_the_product_of_all_factors():
    attention = quantise(*tensors())
    for head in range(2):
        product = attention.query_scale[head] * attention.key_scale[head] / math.sqrt(8) * math.log2(math.e) * 64
        assert attention.score_scale(head).factor == pytest.approx(product, rel=2**-16)


def test_the_softmax_scale_can_be_given():
    assert quantise(*tensors()).softmax_scale == 1 / math.sqrt(8)
    assert quantise(*tensors(), softmax_scale=0.7).softmax_scale == 0.7


def test_subtracting_the_mean_key_changes_no_softmax_and_narrows_the_range():
    q, k, v = tensors()
    k = k + 40 * np.random.default_rng(1).normal(0, 1, (2, 1, 8))
    kept, subtracted = quantise(q, k, v), quantise(q, k, v, subtract_key_mean=True)
    assert np.all(subtracted.key_scale < kept.key_scale / 4)
    exact = float_attention(q, k, v)
    assert snr_db(exact, quantised_attention(subtracted)) > snr_db(exact, quantised_attention(kept)) + 6
    assert snr_db(exact, quantised_attention(subtracted)) > 30


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 5e-324])
def test_a_head_of_nothing_quantises_to_zeros(tiny):
    attention = quantise(np.full((2, 1, 4), tiny), np.full((1, 2, 4), tiny), np.full((1, 2, 4), tiny))
    assert not attention.query.any()
    assert not attention.value.any()
    assert attention.query_scale.tolist() == [1 / 127]
    assert attention.score_scale(0).factor > 0


def test_int8_is_taken_as_it_is():
    q, k, v = (np.arange(-128, -104, dtype=np.int8).reshape(2, 3, 4) for _ in range(3))
    attention = quantise(q, k, v, q_scale=[0.5, 0.25], k_scale=2.0, v_scale=np.array([3.0]))
    assert np.array_equal(attention.query, q)
    assert attention.query_scale.tolist() == [0.5, 0.25]
    assert attention.key_scale.tolist() == [2, 2]
    assert attention.value_scale.tolist() == [3, 3]


def test_int8_without_scales_spreads_the_softmax():
    random = np.random.default_rng(3)
    q, k = (random.integers(-127, 128, (1, 64, 64)).astype(np.int8) for _ in range(2))
    attention = quantise(q, k, k)
    assert attention.query_scale.tolist() == attention.key_scale.tolist() == [INT8_SCALE]
    logits = attention.softmax_scale * INT8_SCALE**2 * (q[0].astype(int) @ k[0].T.astype(int))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    assert 0.05 < np.median(weights.max(axis=1)) < 0.95


@pytest.mark.parametrize(
    ("queries", "keys", "positions"),
    [(3, 3, [0, 1, 2]), (1, 4, [3]), (2, 4, [2, 3]), (4, 2, [0, 1, 2, 3])],
)
def test_queries_are_the_last_positions_of_the_keys(queries, keys, positions):
    attention = quantise(np.ones((1, queries, 2)), np.ones((1, keys, 2)), np.ones((1, keys, 2)))
    assert attention.positions.tolist() == positions


def good() -> dict[str, object]:
    q, k, v = tensors()
    return {"q": q, "k": k, "v": v}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": np.ones((5, 8))}, "q must have three axes, heads x length x dimension, not shape"),
        ({"v": np.ones((1, 2, 7, 3))}, "v must have three axes"),
        ({"k": np.ones((2, 0, 8))}, "k must have at least one head, row and element"),
        ({"q": np.ones((4, 5, 8), dtype=np.int32)}, "q must be float16, float32, float64 or int8, not int32"),
        ({"v": np.ones((2, 7, 3), dtype=complex)}, "v must be float16, float32, float64 or int8, not complex128"),
        ({"k": np.full((2, 7, 8), "x")}, "k must be float16"),
        ({"k": np.full((2, 7, 8), np.nan)}, "k holds values that are not finite"),
        ({"q": np.full((4, 5, 8), np.inf)}, "q holds values that are not finite"),
        ({"v": np.ones((1, 7, 3))}, "k and v must have the same number of heads, not 2 and 1"),
        ({"q": np.ones((3, 5, 8))}, "the heads of q must be a multiple of those of k, not 3 and 2"),
        ({"q": np.ones((1, 5, 8))}, "the heads of q must be a multiple"),
        ({"q": np.ones((4, 5, 6))}, "q and k must have the same dimension, not 6 and 8"),
        ({"v": np.ones((2, 6, 3))}, "k and v must have the same length, not 7 and 6"),
        ({"q_scale": 1.0}, "a scale was given for q, which is float64"),
        ({"k": np.ones((2, 7, 8), dtype=np.int8), "k_scale": [1.0, 2.0, 3.0]}, "the scale of k must be one number"),
        ({"k": np.ones((2, 7, 8), dtype=np.int8), "k_scale": 0.0}, "the scales of k must be finite and above 0"),
        ({"v": np.ones((2, 7, 3), dtype=np.int8), "v_scale": np.nan}, "the scales of v must be finite and above 0"),
        (
            {"k": np.ones((2, 7, 8), dtype=np.int8), "subtract_key_mean": True},
            "the mean over keys can only be subtracted before quantising",
        ),
        ({"softmax_scale": 0.0}, "softmax_scale must be finite and above 0, not 0"),
        ({"softmax_scale": np.nan}, "softmax_scale must be finite and above 0, not nan"),
        ({"q": np.full((4, 5, 8), 1e200), "k": np.full((2, 7, 8), 1e200)}, "the score factor must be above 0"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError, match="^" + message):
        quantise(**(good() | change))


def test_a_quantised_layer_holds_int8_and_one_scale_a_head():
    attention = quantise(*tensors())
    with pytest.raises(InputError, match="k must be int8 once quantised, not int16"):
        replace(attention, key=attention.key.astype(np.int16))
    with pytest.raises(InputError, match=r"v needs one scale per kv head, shape \(2,\), not \(1,\)"):
        replace(attention, value_scale=np.ones(1))
    assert isinstance(attention, QuantisedAttention)


def test_the_last_query_of_a_layer_is_at_its_place():
    rng = np.random.default_rng(0)
    layer = quantise(rng.normal(size=(4, 6, 8)), rng.normal(size=(2, 9, 8)), rng.normal(size=(2, 9, 4)))
    for whole, position in ((layer, 8), (layer.first(3), 2)):
        step = whole.last_query()
        assert np.array_equal(step.query, whole.query[:, -1:])
        assert np.array_equal(step.key, whole.key)
        assert step.positions.tolist() == [position]
