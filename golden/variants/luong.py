"""Global attention with its three scores (Luong, Pham and Manning, arXiv 1508.04025, section 3.1).

A decoder's state h_t scores each state s_j of the encoder, and the context makes a new state::

    dot        e_tj = h_t . s_j
    general    e_tj = h_t . (W s_j)
    concat     e_tj = v . tanh(W [h_t; s_j])

    c_t = sum_j softmax_j(e_tj) s_j
    attentional state = tanh(W_c [c_t; h_t])

The scores are not divided by a root of the dimension. On the core `dot` is a job whose keys and values are both the
encoder's states; so is `general`, its query being ``W^T h_t``, because the score is ``(W^T h_t) . s_j`` as well.
`concat` is additive attention, and its reasons not to map are those of `golden.variants.additive`.
"""

from __future__ import annotations

import numpy as np

from golden.variants.additive import additive_attention
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.linear import checked


def dot_attention(states: np.ndarray, source: np.ndarray, *, datapath: Datapath | None = None) -> np.ndarray:
    """Return the contexts by dot scores.

    Parameters
    ----------
    states : numpy.ndarray
        The decoder's, shape (queries, dimension).
    source : numpy.ndarray
        The encoder's states, shape (keys, dimension).
    datapath : Datapath, optional
        The core to run the attention on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, dimension).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or the core can't hold the layer.
    """
    source = checked("source states", source, None, None)
    states = checked("states", states, None, source.shape[1])
    keys = source[None]
    contexts = softmax_attention(states[None], keys, keys, softmax_scale=1.0, shared=True, datapath=datapath)
    return contexts.squeeze(0)


def general_attention(
    states: np.ndarray, source: np.ndarray, weight: np.ndarray, *, datapath: Datapath | None = None
) -> np.ndarray:
    """Return the contexts by general scores.

    Parameters
    ----------
    states, source, datapath
        As in `dot_attention`; `states` may have another dimension.
    weight : numpy.ndarray
        W, shape (dimension of states, dimension of source states).

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, dimension of source states).

    Raises
    ------
    InputError
        As `dot_attention`.
    """
    source = checked("source states", source, None, None)
    weight = checked("the weight of scores", weight, None, source.shape[1])
    return dot_attention(checked("states", states, None, len(weight)) @ weight, source, datapath=datapath)


def concat_attention(
    states: np.ndarray,
    source: np.ndarray,
    weight: np.ndarray,
    vector: np.ndarray,
    *,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return the contexts by concat scores, which do not run on the core.

    Parameters
    ----------
    states, source
        As in `dot_attention`; `states` may have another dimension.
    weight : numpy.ndarray
        W, applied from the right: shape (dimension of states + dimension of source states, hidden).
    vector : numpy.ndarray
        v, shape (hidden,).
    datapath : Datapath, optional
        Must be None.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, dimension of source states).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or there is a `datapath`.
    """
    states, source = checked("states", states, None, None), checked("source states", source, None, None)
    columns = states.shape[1]
    weight = checked("the weight of scores", weight, columns + source.shape[1], None)
    return additive_attention(states, source, weight[:columns], weight[columns:], vector, datapath=datapath)


def attentional_state(contexts: np.ndarray, states: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return ``tanh(W_c [c_t; h_t])``: float64, shape (queries, outputs).

    Parameters
    ----------
    contexts, states : numpy.ndarray
        Shapes (queries, context dimension) and (queries, state dimension).
    weight : numpy.ndarray
        W_c, applied from the right: shape (context dimension + state dimension, outputs).

    Raises
    ------
    InputError
        If shapes do not agree or a number is not finite.
    """
    contexts = checked("contexts", contexts, None, None)
    both = np.concatenate([contexts, checked("states", states, len(contexts), None)], axis=1)
    state: np.ndarray = np.tanh(both @ checked("the weight of contexts and states", weight, both.shape[1], None))
    return state
