"""Additive attention (Bahdanau, Cho and Bengio, arXiv 1409.0473, appendix A.1.2).

A decoder's state before step i, s_i-1, scores each annotation h_j of the encoder by a small network::

    e_ij = v . tanh(W s_i-1 + U h_j)
    context_i = sum_j softmax_j(e_ij) h_j

This does not map onto the core. Its array multiplies a query with a key and adds; here every pair of row and key passes
a tanh of all `hidden` elements before any sum over them. The tanh of a sum is no finite sum of products of something
of the row with something of the key, so no vectors of a fixed dimension have ``e_ij = q_i . k_j`` for all states and
annotations. And the core has one exponential for a pair that survives, not `hidden` hyperbolic tangents for each.
"""

from __future__ import annotations

import numpy as np

from golden.errors import InputError
from golden.variants.datapath import Datapath
from golden.variants.linear import checked


def additive_attention(
    states: np.ndarray,
    annotations: np.ndarray,
    state_weight: np.ndarray,
    annotation_weight: np.ndarray,
    vector: np.ndarray,
    *,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return the contexts of decoder states, by the equations of the module.

    Parameters
    ----------
    states : numpy.ndarray
        s, shape (queries, state dimension).
    annotations : numpy.ndarray
        h, shape (keys, annotation dimension).
    state_weight, annotation_weight : numpy.ndarray
        W and U, applied from the right: shapes (state dimension, hidden) and (annotation dimension, hidden).
    vector : numpy.ndarray
        v, shape (hidden,).
    datapath : Datapath, optional
        Must be None; it is here so that all variants are called alike.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, annotation dimension).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or there is a `datapath`.
    """
    if datapath is not None:
        raise InputError(
            "additive scores v . tanh(W s + U h) are no dot products of a query and a key, so the core can't compute "
            "them; run them without a datapath"
        )
    vector = checked("the score vector", vector, None)
    hidden = len(vector)
    state_weight = checked("the weight of states", state_weight, None, hidden)
    annotation_weight = checked("the weight of annotations", annotation_weight, None, hidden)
    states = checked("states", states, None, len(state_weight))
    annotations = checked("annotations", annotations, None, len(annotation_weight))
    scores = np.tanh((states @ state_weight)[:, None] + annotations @ annotation_weight) @ vector
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    contexts: np.ndarray = weights / weights.sum(axis=1, keepdims=True) @ annotations
    return contexts
