"""Luong's and Bahdanau's attention, by hand and beside plain loops over the equations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from golden.errors import InputError
from golden.variants import (
    Datapath,
    additive_attention,
    attentional_state,
    concat_attention,
    dot_attention,
    general_attention,
)
from tests.variant_cases import arrays

EXACT = {"rtol": 1e-12, "atol": 1e-14}


def contexts(scores: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the contexts that a matrix of scores makes, one number at a time."""
    out = np.zeros((len(scores), source.shape[1]))
    for t, row in enumerate(scores):
        total = sum(math.exp(score) for score in row)
        for j, score in enumerate(row):
            out[t] += math.exp(score) / total * source[j]
    return out


def test_dot_scores_by_hand():
    """Scores 0 and ln 3, not divided by sqrt(2): weights 1/4 and 3/4."""
    source = np.array([[0.0, 4.0], [math.log(3), 8.0]])
    assert np.allclose(dot_attention(np.array([[1.0, 0.0]]), source), [[0.75 * math.log(3), 7.0]], **EXACT)


def test_general_scores_are_a_bilinear_form():
    states, source, weight = arrays(1, (3, 5), (6, 4), (5, 4))
    scores = np.array([[state @ weight @ key for key in source] for state in states])
    assert np.allclose(general_attention(states, source, weight), contexts(scores, source), **EXACT)


def test_concat_scores_are_a_layer_over_both_states():
    states, source, weight, vector = arrays(1, (3, 5), (6, 4), (9, 7), (7,))
    scores = np.array([[np.tanh(np.concatenate([state, key]) @ weight) @ vector for key in source] for state in states])
    assert np.allclose(concat_attention(states, source, weight, vector), contexts(scores, source), **EXACT)


def test_additive_scores_by_hand():
    """One hidden element: scores 2 tanh(1 + 0) and 2 tanh(1 + 1)."""
    annotations = np.array([[0.0], [1.0]])
    one = np.array([[1.0]])
    odds = math.exp(2 * math.tanh(2) - 2 * math.tanh(1))
    context = additive_attention(np.array([[1.0]]), annotations, one, one, np.array([2.0]))
    assert np.allclose(context, [[odds / (1 + odds)]], **EXACT)


def test_additive_scores_add_the_two_projections():
    states, annotations, w, u, vector = arrays(2, (3, 5), (6, 4), (5, 7), (4, 7), (7,))
    scores = np.array([[np.tanh(state @ w + key @ u) @ vector for key in annotations] for state in states])
    assert np.allclose(additive_attention(states, annotations, w, u, vector), contexts(scores, annotations), **EXACT)


def test_the_attentional_state_is_of_context_and_state_in_this_order():
    state = attentional_state(np.array([[1.0]]), np.array([[2.0]]), np.array([[0.3, 0.0], [0.0, 0.2]]))
    assert np.allclose(state, np.tanh([[0.3, 0.4]]), **EXACT)


def test_additive_scores_are_refused_by_the_core():
    states, source, weight, vector = arrays(1, (3, 5), (6, 4), (9, 7), (7,))
    datapath = Datapath()
    message = r"additive scores v \. tanh\(W s \+ U h\) are no dot products of a query and a key"
    with pytest.raises(InputError, match=message):
        concat_attention(states, source, weight, vector, datapath=datapath)
    with pytest.raises(InputError, match=message):
        additive_attention(states, source, weight[:5], weight[5:], vector, datapath=datapath)
    assert not datapath.runs


def test_shapes_that_do_not_agree_are_refused():
    states, source, weight, vector = arrays(1, (3, 5), (6, 4), (9, 7), (7,))
    with pytest.raises(InputError, match=r"states must have shape \(any, 4\), not \(3, 5\)"):
        dot_attention(states, source)
    with pytest.raises(InputError, match=r"the weight of scores must have shape \(any, 4\), not \(9, 7\)"):
        general_attention(states, source, weight)
    with pytest.raises(InputError, match=r"the weight of scores must have shape \(9, any\), not \(8, 7\)"):
        concat_attention(states, source, weight[1:], vector)
    with pytest.raises(InputError, match=r"the weight of states must have shape \(any, 7\), not \(5, 6\)"):
        additive_attention(states, source, weight[:5, 1:], weight[5:], vector)
    with pytest.raises(InputError, match=r"states must have shape \(6, any\), not \(3, 5\)"):
        attentional_state(source, states, np.ones((9, 2)))
