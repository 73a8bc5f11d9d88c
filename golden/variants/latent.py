"""Multi-head latent attention, plain and absorbed (DeepSeek-V2, arXiv 2405.04434, section 2.1).

Keys and values of all heads are made from one latent row c a token, beside which each token has one rotated key k_R::

    c = X W_down    k_R = rotary(X W_R)    [q_C,h ; q_R,h] = X W_Q,h,  q_R,h rotated
    k_C,h = c W_UK,h    v_h = c W_UV,h
    score_h = (q_C,h . k_C,h + q_R,h . k_R) / sqrt(d_C + d_R)
    output = concat_h(softmax(score_h) v_h) W_O

So a cache holds [c ; k_R] alone. The plain form makes k_C and v of every cached token. The absorbed form does not:
``q_C . (c W_UK) = (q_C W_UK^T) . c`` moves W_UK to the query, and W_UV goes behind the softmax. That leaves multi-query
attention over the cache itself: keys [c ; k_R], and as values their first elements, c. Both are the same function. On
the core the absorbed form is one key and value head of large dimension that all query heads share, its values bytes of
its keys. There the two differ in rounding, since each quantises its own tensors.

A query that is made from a latent row of its own is covered: W_Q is the product of its two matrices then, which changes
no score. The rotation is by pairs of neighbouring elements (RoFormer, arXiv 2104.09864).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.errors import InputError
from golden.masks import Mask, query_positions
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.linear import Linear, checked
from golden.variants.multi_head import inputs, join_heads, split_heads

_ROTARY_BASE = 10000.0
_NORM_EPSILON = 1e-6


def rotary(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return rows turned by their positions: elements 2i and 2i + 1 by ``position * 10000**(-2i / dimension)``.

    Parameters
    ----------
    x : numpy.ndarray
        float64, shape (..., length, dimension), an even dimension.
    positions : numpy.ndarray
        Shape (length,).
    """
    frequency = _ROTARY_BASE ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])
    angle = positions[:, None] * frequency
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return turned


@dataclass(frozen=True, eq=False)
class LatentWeights:
    """Weights of latent attention, applied from the right.

    Parameters
    ----------
    query : numpy.ndarray
        W_Q, shape (dimension, heads * (plain + rotated)); of each head first the plain elements.
    down : numpy.ndarray
        W_down, shape (dimension, latent).
    rotated_key : numpy.ndarray
        W_R, shape (dimension, rotated); `rotated` is even.
    up_key : numpy.ndarray
        W_UK, shape (heads, latent, plain).
    up_value : numpy.ndarray
        W_UV, shape (heads, latent, value_dim).
    output : numpy.ndarray
        W_O, shape (heads * value_dim, outputs).
    gain : numpy.ndarray, optional
        c is divided by its root mean square and multiplied by this, shape (latent,); not by default.

    Raises
    ------
    InputError
        If shapes do not agree or a number is not finite.
    """

    query: np.ndarray
    down: np.ndarray
    rotated_key: np.ndarray
    up_key: np.ndarray
    up_value: np.ndarray
    output: np.ndarray
    gain: np.ndarray | None = None

    def __post_init__(self) -> None:
        up_key = checked("up_key", self.up_key, None, None, None)
        heads, latent, plain = up_key.shape
        down = checked("down", self.down, None, latent)
        rotated_key = checked("rotated_key", self.rotated_key, len(down), None)
        if rotated_key.shape[1] % 2:
            raise InputError(f"the rotated elements of a key must be even in number, not {rotated_key.shape[1]}")
        up_value = checked("up_value", self.up_value, heads, latent, None)
        arrays = {
            "query": checked("query", self.query, len(down), heads * (plain + rotated_key.shape[1])),
            "down": down,
            "rotated_key": rotated_key,
            "up_key": up_key,
            "up_value": up_value,
            "output": checked("output", self.output, heads * up_value.shape[2], None),
        }
        if self.gain is not None:
            arrays["gain"] = checked("gain", self.gain, latent)
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    @property
    def heads(self) -> int:
        """Query heads."""
        return len(self.up_key)

    @property
    def plain(self) -> int:
        """Elements of a head's query and key that are not rotated."""
        return int(self.up_key.shape[2])

    @property
    def softmax_scale(self) -> float:
        """Factor from a score to the exponent of e."""
        return float((self.plain + self.rotated_key.shape[1]) ** -0.5)

    def cache(self, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return c and k_R of every token of `memory`: shapes (keys, latent) and (keys, rotated)."""
        latent: np.ndarray = Linear(self.down)(memory)
        if self.gain is not None:
            latent = latent / np.sqrt((latent**2).mean(axis=1, keepdims=True) + _NORM_EPSILON) * self.gain
        return latent, rotary(Linear(self.rotated_key)(memory), np.arange(len(memory)))

    def queries(self, x: np.ndarray, keys: int) -> tuple[np.ndarray, np.ndarray]:
        """Return q_C and q_R of `x`, the last of `keys` tokens: shapes (heads, queries, plain) and (..., rotated)."""
        heads = split_heads("the query", Linear(self.query)(x), self.heads)
        return heads[..., : self.plain], rotary(heads[..., self.plain :], query_positions(len(x), keys))


def latent_attention(
    x: np.ndarray,
    weights: LatentWeights,
    *,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return latent attention in the plain form: every head has keys and values of its own, made from the latent rows.

    Parameters
    ----------
    x : numpy.ndarray
        Shape (queries, dimension).
    weights : LatentWeights
        The weights.
    memory : numpy.ndarray, optional
        The tokens that are attended to, of which `x` are the last, shape (keys, dimension); `x` by default.
    mask : Mask, optional
        By `golden.masks.query_positions`; every query sees every key by default.
    datapath : Datapath, optional
        The core to run the attention on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (queries, outputs).

    Raises
    ------
    InputError
        If shapes do not agree, a number is not finite, or the core can't hold the layer.
    """
    x, memory = inputs(x, memory)
    latent, rotated = weights.cache(memory)
    q = np.concatenate(weights.queries(x, len(memory)), axis=2)
    shared_by_all = np.broadcast_to(rotated, (weights.heads, *rotated.shape))
    k = np.concatenate([latent @ weights.up_key, shared_by_all], axis=2)
    v = latent @ weights.up_value
    heads = softmax_attention(q, k, v, mask=mask, softmax_scale=weights.softmax_scale, datapath=datapath)
    return Linear(weights.output)(join_heads(heads))


def absorbed_latent_attention(
    x: np.ndarray,
    weights: LatentWeights,
    *,
    memory: np.ndarray | None = None,
    mask: Mask | None = None,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return latent attention in the absorbed form: multi-query attention over the cache.

    Parameters, result and errors are those of `latent_attention`, which it equals but for rounding.
    """
    x, memory = inputs(x, memory)
    latent, rotated = weights.cache(memory)
    plain, turned = weights.queries(x, len(memory))
    q = np.concatenate([plain @ np.swapaxes(weights.up_key, 1, 2), turned], axis=2)
    k = np.concatenate([latent, rotated], axis=1)[None]
    scale = weights.softmax_scale
    read = softmax_attention(q, k, latent[None], mask=mask, softmax_scale=scale, shared=True, datapath=datapath)
    return Linear(weights.output)(join_heads(read @ weights.up_value))
