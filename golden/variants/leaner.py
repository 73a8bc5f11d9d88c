"""Optimised, Efficient and Super Attention: multi-head attention with fewer projections (arXiv 2403.01643).

With inputs X of dimension d, a memory M (X in self-attention), and heads that are slices of columns::

    standard      Q = X W_Q    K = M W_K    V = M W_V        4 d^2 weights with W_O
    Optimised     Q = X W_Q    K = M W_K    V = M            3 d^2
    Efficient     Q = X W_Q    K = M        V = M            2 d^2
    Super         Q = X W_Q    K = M        V = W_A M        2 d^2 + keys^2

    H_h = softmax(Q_h K_h^T / sqrt(d_k)) V_h                 over the keys
    output = concat(H_h) W_O

W_A is keys x keys, one for all heads, and mixes tokens; with a causal mask it is lower triangular, since otherwise a
value would tell of later tokens. An input of fewer keys uses its first rows and columns. With one head W_O can do
behind the sum what W_V does before it, and W_Q what W_K does, so nothing is lost without them. Heads that are slices of
columns see less of M then; docs/experiments.md has what that costs.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.variants.datapath import Datapath
from golden.variants.linear import Linear, checked
from golden.variants.multi_head import attend_heads, inputs


class AttentionKind(StrEnum):
    """Which projections a multi-head attention has."""

    STANDARD = "standard"
    OPTIMISED = "optimised"
    EFFICIENT = "efficient"
    SUPER = "super"

    @property
    def projects_keys(self) -> bool:
        """Whether there is a W_K."""
        return self in (AttentionKind.STANDARD, AttentionKind.OPTIMISED)

    @property
    def projects_values(self) -> bool:
        """Whether there is a W_V."""
        return self == AttentionKind.STANDARD

    @property
    def mixes_tokens(self) -> bool:
        """Whether there is a W_A."""
        return self == AttentionKind.SUPER


def optimised_attention(
    x: np.ndarray,
    query: Linear,
    key: Linear,
    output: Linear,
    heads: int,
    *,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return Optimised Attention: values are slices of the memory.

    Parameters and errors are those of `golden.variants.multi_head.multi_head_attention`, without the projection of
    values.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, output.outputs).
    """
    x, memory = inputs(x, memory)
    return attend_heads(query(x), key(memory), memory, output, heads, heads, mask, datapath)


def efficient_attention(
    x: np.ndarray,
    query: Linear,
    output: Linear,
    heads: int,
    *,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return Efficient Attention: keys and values are the same slices of the memory, which the core fetches them from.

    Parameters and errors are those of `golden.variants.multi_head.multi_head_attention`, without the projections of
    keys and values.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, output.outputs).
    """
    x, memory = inputs(x, memory)
    return attend_heads(query(x), memory, memory, output, heads, heads, mask, datapath, shared=True)


def mix_tokens(mixing: np.ndarray, memory: np.ndarray, mask: Mask | None) -> np.ndarray:
    """Return ``W_A M``, the values of Super Attention.

    Parameters
    ----------
    mixing : numpy.ndarray
        W_A, shape (longest, longest); its first rows and columns are used.
    memory : numpy.ndarray
        M, shape (keys, dimension).
    mask : Mask, optional
        The mask of the attention.

    Returns
    -------
    numpy.ndarray
        float64, shape (keys, dimension).

    Raises
    ------
    InputError
        If W_A is not square, smaller than the memory is long, or not lower triangular under a mask.
    """
    mixing = checked("the mixing matrix", mixing, None, len(np.asarray(mixing)))
    keys = len(memory)
    if len(mixing) < keys:
        raise InputError(f"the mixing matrix is for at most {len(mixing)} keys, not {keys}")
    if mask is not None and mask.kind != MaskKind.NONE and np.any(np.triu(mixing, 1)):
        raise InputError(f"the mixing matrix must be lower triangular under a {mask} mask")
    mixed: np.ndarray = mixing[:keys, :keys] @ memory
    return mixed


def super_attention(
    x: np.ndarray,
    query: Linear,
    mixing: np.ndarray,
    output: Linear,
    heads: int,
    *,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return Super Attention: keys are slices of the memory, values of its tokens mixed by W_A.

    Parameters and errors are those of `golden.variants.multi_head.multi_head_attention` and `mix_tokens`.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, output.outputs).
    """
    x, memory = inputs(x, memory)
    return attend_heads(query(x), memory, mix_tokens(mixing, memory, mask), output, heads, heads, mask, datapath)
