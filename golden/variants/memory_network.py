"""The read of an end-to-end memory network, in several hops (Sukhbaatar et al., arXiv 1503.08895, section 2).

Every hop k embeds the items x_j of the memory twice, for scores and for the answer, and reads with the state u::

    m_j = x_j A_k    c_j = x_j C_k
    o = sum_j softmax_j(u . m_j) c_j
    next u = u + o             or  u H + o  with the same A and C in all hops

Scores are not divided by a root of the dimension. On the core each hop is a layer of its own, because its queries are
the results of the one before; questions to the same memory share its stream of keys as rows of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from golden.errors import InputError
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.linear import checked


class Hop(NamedTuple):
    """The embeddings A and C of a hop, shape (features, dimension)."""

    scores: np.ndarray
    values: np.ndarray


def adjacent_hops(embeddings: Sequence[np.ndarray]) -> list[Hop]:
    """Return the hops that `embeddings` make, one fewer, if what one answers with is what the next scores with.

    Raises
    ------
    InputError
        If there are fewer than 2.
    """
    if len(embeddings) < 2:
        raise InputError(f"adjacent hops need at least 2 embeddings, not {len(embeddings)}")
    return [Hop(*pair) for pair in pairwise(embeddings)]


def memory_read(
    states: np.ndarray,
    items: np.ndarray,
    hops: Sequence[Hop],
    *,
    transition: np.ndarray | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return the states after all hops, by the equations of the module.

    Parameters
    ----------
    states : numpy.ndarray
        u, the embedded questions, shape (queries, dimension).
    items : numpy.ndarray
        x, what is in the memory, shape (items, features): counts of words, say.
    hops : sequence of Hop
        At least one.
    transition : numpy.ndarray, optional
        H, applied from the right, shape (dimension, dimension); the identity by default.
    datapath : Datapath, optional
        The core to run the attention on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, dimension).

    Raises
    ------
    InputError
        If there is no hop, shapes do not agree, a number is not finite, or the core can't hold a layer.
    """
    if not hops:
        raise InputError("a memory is read in at least one hop")
    states, items = checked("states", states, None, None), checked("items", items, None, None)
    shape = items.shape[1], states.shape[1]
    if transition is not None:
        transition = checked("the transition", transition, shape[1], shape[1])
    for hop in hops:
        keys = items @ checked("the embedding for scores", hop.scores, *shape)
        values = items @ checked("the embedding for values", hop.values, *shape)
        read = softmax_attention(states[None], keys[None], values[None], softmax_scale=1.0, datapath=datapath)[0]
        states = (states if transition is None else states @ transition) + read
    return states
