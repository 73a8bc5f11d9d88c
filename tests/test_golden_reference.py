"""Exact attention against its equation, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from golden_cases import layers, masks
from hypothesis import given

from golden import reference
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention
from golden.reference import float_attention, max_abs_error, quantised_attention, snr_db


def equation(attention: QuantisedAttention, mask: Mask) -> np.ndarray:
    """Return the attention of `attention`, one query and one key after another."""
    output = np.zeros((attention.query_heads, attention.queries, attention.value_dim))
    for head, query in np.ndindex(output.shape[:2]):
        kv = head // attention.group
        q = attention.query[head, query] * attention.query_scale[kv]
        position = int(attention.positions[query])
        first = {MaskKind.WINDOW: position - mask.window + 1}.get(mask.kind, 0)
        last = attention.keys - 1 if mask.kind == MaskKind.NONE else position
        total = 0.0
        for key in range(max(first, 0), min(last, attention.keys - 1) + 1):
            k = attention.key[kv, key] * attention.key_scale[kv]
            weight = math.exp(attention.softmax_scale * sum(a * b for a, b in zip(q, k, strict=True)))
            total += weight
            output[head, query] += weight * attention.value[kv, key] * attention.value_scale[kv]
        if total:
            output[head, query] /= total
    return output


@given(layers(), masks())
def test_equals_the_equation(attention, mask):
    expected = equation(attention, mask)
    assert np.allclose(quantised_attention(attention, mask), expected, rtol=1e-9, atol=1e-12)
    q, k, v = (
        attention.query * np.repeat(attention.query_scale, attention.group)[:, None, None],
        attention.key * attention.key_scale[:, None, None],
        attention.value * attention.value_scale[:, None, None],
    )
    assert np.allclose(float_attention(q, k, v, None, mask), expected, rtol=1e-9, atol=1e-12)


def test_chunks_of_queries_do_not_change_it(monkeypatch):
    random = np.random.default_rng(0)
    q, k, v = (random.normal(0, 1, (2, 9, 4)) for _ in range(3))
    whole = float_attention(q, k, v, mask=Mask.of(causal=True))
    monkeypatch.setattr(reference, "_CHUNK_LOGITS", 20)
    assert np.allclose(float_attention(q, k, v, mask=Mask.of(causal=True)), whole, rtol=1e-14)


def test_large_scores_do_not_overflow():
    q = np.full((1, 1, 1), 1e4)
    assert float_attention(q, np.array([[[1.0], [-1.0]]]), np.array([[[3.0], [5.0]]])).tolist() == [[[3.0]]]


def test_snr_and_error():
    exact = np.array([3.0, 4.0])
    assert snr_db(exact, exact) == math.inf
    assert snr_db(exact, np.array([3.5, 4])) == pytest.approx(20)
    assert snr_db(np.zeros(2), np.ones(2)) == -math.inf
    assert max_abs_error(exact, np.array([3.5, 2])) == 2
