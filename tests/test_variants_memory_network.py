"""The read of a memory network, by hand and beside a loop over the equations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from golden.errors import InputError
from golden.variants import Datapath, Hop, adjacent_hops, memory_read
from tests.variant_cases import arrays

EXACT = {"rtol": 1e-12, "atol": 1e-14}


def test_two_hops_by_hand():
    """One-hot items. The first hop scores them 0 and ln 3, and answers 1/4 * 4 + 3/4 * 8; the second sees 1 + 7."""
    items, state = np.eye(2), np.array([[1.0]])
    first = Hop(np.array([[0.0], [math.log(3)]]), np.array([[4.0], [8.0]]))
    assert np.allclose(memory_read(state, items, [first]), [[8.0]], **EXACT)
    second = Hop(np.array([[0.0], [math.log(2) / 8]]), np.array([[3.0], [6.0]]))
    assert np.allclose(memory_read(state, items, [first, second]), [[13.0]], **EXACT)
    doubled = memory_read(state, items, [first], transition=np.array([[2.0]]))
    assert np.allclose(doubled, [[9.0]], **EXACT)


def test_hops_follow_the_equations():
    states, items, *embeddings = arrays(1, (3, 4), (6, 5), (5, 4), (5, 4), (5, 4))
    hops = adjacent_hops(embeddings)
    assert [np.array_equal(hop.values, after.scores) for hop, after in pairwise(hops)] == [True]
    expected = states.copy()
    for a, c in pairwise(embeddings):
        weights = np.exp(expected @ (items @ a).T)
        expected += weights / weights.sum(axis=1, keepdims=True) @ (items @ c)
    assert np.allclose(memory_read(states, items, hops), expected, **EXACT)


def test_each_hop_is_a_layer_of_the_core_whose_queries_come_from_the_one_before():
    states, items, *embeddings = arrays(1, (3, 4), (6, 5), (5, 4), (5, 4), (5, 4))
    hops = adjacent_hops([embedding / 3 for embedding in embeddings])
    datapath = Datapath()
    memory_read(states, items, hops, datapath=datapath)
    first, second = (run.attended for run in datapath.runs)
    answered = states + first.real_output[0]
    after = second.attention.query[0] * second.attention.query_scale[0]
    assert np.abs(after - answered).max() <= 0.51 * second.attention.query_scale[0]


def test_memories_that_can_not_be_read_are_refused():
    states, items, embedding = arrays(1, (3, 4), (6, 5), (5, 4))
    hop = Hop(embedding, embedding)
    for hops, transition, message in (
        ([], None, "a memory is read in at least one hop"),
        (
            [hop._replace(values=embedding[1:])],
            None,
            r"the embedding for values must have shape \(5, 4\), not \(4, 4\)",
        ),
        ([hop], np.ones((4, 3)), r"the transition must have shape \(4, 4\), not \(4, 3\)"),
    ):
        with pytest.raises(InputError, match=message):
            memory_read(states, items, hops, transition=transition)
    with pytest.raises(InputError, match="adjacent hops need at least 2 embeddings, not 1"):
        adjacent_hops([embedding])
