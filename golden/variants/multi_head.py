"""Multi-head attention with projections; with fewer key and value heads grouped-query and multi-query attention.

For inputs X and a memory M that keys and values are made from (Vaswani et al., "Attention Is All You Need", arXiv
1706.03762, section 3.2.2)::

    Q = X W_Q    K = M W_K    V = M W_V
    H_h = softmax(Q_h K_g^T / sqrt(d_k)) V_g,    g = h // (heads / kv_heads)
    output = concat(H_0, ..., H_heads-1) W_O

Q_h is the h-th slice of Q's columns, K_g and V_g the g-th of K's and V's; the softmax is over the keys, which are the
rows of M. With M = X it is self-attention, otherwise cross-attention. One key and value head for all query heads is
multi-query attention (Shazeer, arXiv 1911.02150), one for each group of them grouped-query attention (Ainslie et al.,
arXiv 2305.13245).
"""

from __future__ import annotations

import numpy as np

from golden.errors import InputError
from golden.masks import Mask
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.linear import Linear, checked


def split_heads(name: str, x: np.ndarray, heads: int) -> np.ndarray:
    """Return the heads of `x`, slices of its columns: shape (heads, length, columns / heads).

    Raises
    ------
    InputError
        If `heads` does not divide the columns, naming `name`.
    """
    if heads < 1 or x.shape[1] % heads:
        raise InputError(f"{name} has {x.shape[1]} columns, which can't be cut into {heads} heads")
    return np.swapaxes(x.reshape(len(x), heads, -1), 0, 1)


def join_heads(heads: np.ndarray) -> np.ndarray:
    """Return heads side by side, the inverse of `split_heads`: shape (length, heads * dimension)."""
    return np.swapaxes(heads, 0, 1).reshape(heads.shape[1], -1)


def attend_heads(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    output: Linear,
    heads: int,
    kv_heads: int,
    mask: Mask | None,
    datapath: Datapath | None,
    shared: bool = False,
) -> np.ndarray:
    """Return the attention of heads that are slices of columns, and the output's projection.

    Parameters
    ----------
    q : numpy.ndarray
        Shape (queries, heads * head_dim).
    k, v : numpy.ndarray
        Shapes (keys, kv_heads * head_dim) and (keys, kv_heads * value_dim).
    output : Linear
        From ``heads * value_dim`` elements.
    heads, kv_heads : int
        Query heads, and key and value heads.
    mask, datapath, shared
        As in `golden.variants.datapath.softmax_attention`.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, output.outputs).
    """
    q, k, v = (
        split_heads("the query", q, heads),
        split_heads("the key", k, kv_heads),
        split_heads("the value", v, kv_heads),
    )
    return output(join_heads(softmax_attention(q, k, v, mask=mask, shared=shared, datapath=datapath)))


def multi_head_attention(
    x: np.ndarray,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: int,
    *,
    kv_heads: int | None = None,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return multi-head attention, by the equations of the module.

    Parameters
    ----------
    x : numpy.ndarray
        Shape (queries, dimension).
    query, key, value, output : Linear
        The projections W_Q, W_K, W_V and W_O.
    heads : int
        Query heads.
    kv_heads : int, optional
        Key and value heads, a divisor of `heads`: 1 for multi-query attention; `heads` by default.
    memory : numpy.ndarray, optional
        What keys and values are made from, shape (keys, memory dimension); `x` by default.
    mask : Mask, optional
        By `golden.masks.query_positions`; every query sees every key by default.
    datapath : Datapath, optional
        The core to run the attention on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, output.outputs).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or the core can't hold the layer.
    """
    memory = x if memory is None else memory
    kv_heads = heads if kv_heads is None else kv_heads
    return attend_heads(query(x), key(memory), value(memory), output, heads, kv_heads, mask, datapath)


def inputs(x: np.ndarray, memory: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and memory of an attention that uses them as they are, as float64; the memory is `x` by default."""
    x = checked("the input", x, None, None)
    return x, x if memory is None else checked("the memory", memory, None, None)
