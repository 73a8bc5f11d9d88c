"""Optimised, Efficient and Super Attention: by hand, and as standard attention with identities for what they lack."""

from __future__ import annotations

import numpy as np
import pytest

from golden.errors import InputError
from golden.variants import (
    AttentionKind,
    Linear,
    efficient_attention,
    multi_head_attention,
    optimised_attention,
    super_attention,
)
from golden.variants.leaner import mix_tokens
from tests.variant_cases import CAUSAL, arrays, linears

EXACT = {"rtol": 1e-10, "atol": 1e-12}
DIM, HEADS, LENGTH = 12, 3, 7
SAME = Linear(np.eye(DIM))


def test_efficient_attention_by_hand():
    """One head of one element: a score is a product of inputs, so the second row weighs the keys 1 to 2**ln 2."""
    x = np.array([[0.0], [np.log(2)]])
    one = Linear(np.array([[1.0]]))
    second = 2 ** np.log(2) / (1 + 2 ** np.log(2)) * np.log(2)
    assert np.allclose(efficient_attention(x, one, one, 1), [[np.log(2) / 2], [second]], **EXACT)


def test_super_attention_by_hand():
    """Without a query all keys weigh the same, so the output is the mean of the mixed tokens."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    nothing, same = Linear(np.zeros((2, 2))), Linear(np.eye(2))
    mixing = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert np.allclose(super_attention(x, nothing, mixing, same, 2), [[2.0, 3.0], [2.0, 3.0]], **EXACT)
    lower = np.tril(mixing)
    causal = super_attention(x, nothing, lower, same, 2, mask=CAUSAL)
    assert np.allclose(causal, [[1.0, 0.0], [2.0, 2.0]], **EXACT)


@pytest.mark.parametrize("mask", [None, CAUSAL])
@pytest.mark.parametrize("with_memory", [False, True])
def test_each_is_standard_attention_with_identities_for_what_it_lacks(mask, with_memory):
    query, key, output = linears(1, *[(DIM, DIM)] * 3, bias=True)
    x, memory, mixing = arrays(2, (LENGTH, DIM), (9, DIM), (12, 12))
    options = {"mask": mask, "memory": memory if with_memory else None}
    tokens = memory if with_memory else x
    mixing = mixing if mask is None else np.tril(mixing)
    expected = multi_head_attention(x, query, key, SAME, output, HEADS, **options)
    assert np.allclose(optimised_attention(x, query, key, output, HEADS, **options), expected, **EXACT)
    expected = multi_head_attention(x, query, SAME, SAME, output, HEADS, **options)
    assert np.allclose(efficient_attention(x, query, output, HEADS, **options), expected, **EXACT)
    assert np.allclose(super_attention(x, query, np.eye(12), output, HEADS, **options), expected, **EXACT)
    # Mixed tokens are the only difference that Super Attention makes, and queries do not see it.
    assert np.array_equal(mix_tokens(mixing, tokens, mask), mixing[: len(tokens), : len(tokens)] @ tokens)
    assert not np.allclose(super_attention(x, query, mixing, output, HEADS, **options), expected, atol=0.1)


def test_no_output_of_causal_super_attention_depends_on_a_later_token():
    query, output = linears(1, *[(DIM, DIM)] * 2)
    x, mixing = arrays(2, (LENGTH, DIM), (LENGTH, LENGTH))
    mixing = np.tril(mixing)
    changed = x.copy()
    changed[4:] += 1
    before, after = (super_attention(part, query, mixing, output, HEADS, mask=CAUSAL) for part in (x, changed))
    assert np.array_equal(before[:4], after[:4])
    assert not np.any(np.isclose(before[4:], after[4:]).all(axis=1))
    short = super_attention(x[:4], query, mixing, output, HEADS, mask=CAUSAL)
    assert np.allclose(short, before[:4], **EXACT)


def test_mixing_matrices_that_do_not_fit_are_refused():
    query, output = linears(1, *[(DIM, DIM)] * 2)
    x = np.ones((LENGTH, DIM))
    for mixing, mask, message in (
        (np.ones((6, 6)), None, "the mixing matrix is for at most 6 keys, not 7"),
        (np.ones((8, 9)), None, r"the mixing matrix must have shape \(any, 8\), not \(8, 9\)"),
        (np.ones((7, 7)), CAUSAL, "the mixing matrix must be lower triangular under a causal mask"),
    ):
        with pytest.raises(InputError, match=message):
            super_attention(x, query, mixing, output, HEADS, mask=mask)


def test_kinds_say_which_projections_there_are():
    by_kind = {str(kind): (kind.projects_keys, kind.projects_values, kind.mixes_tokens) for kind in AttentionKind}
    assert by_kind == {
        "standard": (True, True, False),
        "optimised": (True, False, False),
        "efficient": (False, False, False),
        "super": (False, False, True),
    }
