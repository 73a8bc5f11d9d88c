"""The quantiser: float attention tensors to symmetric int8 with one scale per head."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from golden import formats
from golden.errors import InputError
from golden.job import ScoreScale
from golden.masks import query_positions

INT8_SCALE = 1 / 32
"""Scale of an int8 tensor that brings none: 5 fraction bits, range -4 to just below 4.

This is close to what the quantiser gives to values of standard deviation 1, so that scores of random int8 tensors
spread over a few units as those of a trained model do. A scale of 1 would make every softmax a one-hot choice.
"""

_LEVELS = 127
_ROWS_AT_A_TIME = 4096
_FLOATS = (np.float16, np.float32, np.float64)


def check_shapes(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    """Raise InputError unless q, k and v have the shapes of a layer: see `quantise`."""
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.ndim != 3:
            raise InputError(f"{name} must have three axes, heads x length x dimension, not shape {tensor.shape}")
        if tensor.size == 0:
            raise InputError(f"{name} must have at least one head, row and element, not shape {tensor.shape}")
    if len(k) != len(v):
        raise InputError(f"k and v must have the same number of heads, not {len(k)} and {len(v)}")
    if len(q) % len(k):
        raise InputError(f"the heads of q must be a multiple of those of k, not {len(q)} and {len(k)}")
    if k.shape[1] != v.shape[1]:
        raise InputError(f"k and v must have the same length, not {k.shape[1]} and {v.shape[1]}")
    if q.shape[2] != k.shape[2]:
        raise InputError(f"q and k must have the same dimension, not {q.shape[2]} and {k.shape[2]}")


@dataclass(frozen=True, eq=False)
class QuantisedAttention:
    """The int8 tensors of one attention layer, grouped query heads allowed.

    Query head h attends with key and value head ``h // group``. The query heads of a group share a scale, because
    they share the score multiplier of a job.

    Parameters
    ----------
    query : numpy.ndarray
        int8, shape (query_heads, queries, head_dim).
    key : numpy.ndarray
        int8, shape (kv_heads, keys, head_dim).
    value : numpy.ndarray
        int8, shape (kv_heads, keys, value_dim).
    query_scale, key_scale, value_scale : numpy.ndarray
        Real value of one unit of each tensor, float64, shape (kv_heads,), above 0.
    softmax_scale : float
        Factor from a real score ``q . k`` to the exponent of e.
    shared : bool
        The values are the first `value_dim` elements of the keys, under the keys' scale.
    row_positions : numpy.ndarray, optional
        Position of every query for the mask, int64, shape (queries,); `golden.masks.query_positions` by default.
    key_indices : numpy.ndarray, optional
        Index of every key for the mask, int64, shape (keys,), rising; counted from 0 by default.

    Raises
    ------
    InputError
        If shapes, dtypes or scales do not agree with this description or a score scale doesn't fit the hardware.
    """

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    query_scale: np.ndarray
    key_scale: np.ndarray
    value_scale: np.ndarray
    softmax_scale: float
    shared: bool = False
    row_positions: np.ndarray | None = None
    key_indices: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shapes(self.query, self.key, self.value)
        for name, places, length in (
            ("row_positions", self.row_positions, self.queries),
            ("key_indices", self.key_indices, self.keys),
        ):
            if places is not None and (places.shape != (length,) or places.dtype != np.int64):
                raise InputError(f"{name} must be int64 of shape {(length,)}, not {places.dtype} {places.shape}")
        if np.any(np.diff(self.indices) <= 0):
            raise InputError("key_indices must rise")
        for name, tensor in (("q", self.query), ("k", self.key), ("v", self.value)):
            if tensor.dtype != np.int8:
                raise InputError(f"{name} must be int8 once quantised, not {tensor.dtype}")
        for name, scale in (("q", self.query_scale), ("k", self.key_scale), ("v", self.value_scale)):
            if scale.shape != (self.kv_heads,):
                raise InputError(f"{name} needs one scale per kv head, shape {(self.kv_heads,)}, not {scale.shape}")
            if not np.all(np.isfinite(scale) & (scale > 0)):
                raise InputError(f"the scales of {name} must be finite and above 0")
        if self.shared and not (
            np.array_equal(self.value, self.key[:, :, : self.value_dim])
            and np.array_equal(self.value_scale, self.key_scale)
        ):
            raise InputError("shared values must be the first elements of the keys, under their scale")
        for kv_head in range(self.kv_heads):
            self.score_scale(kv_head)

    @property
    def query_heads(self) -> int:
        """Heads of q, and of the output."""
        return len(self.query)

    @property
    def kv_heads(self) -> int:
        """Heads of k and v."""
        return len(self.key)

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.query_heads // self.kv_heads

    @property
    def queries(self) -> int:
        """Query rows of a head."""
        return int(self.query.shape[1])

    @property
    def keys(self) -> int:
        """Keys of a head."""
        return int(self.key.shape[1])

    @property
    def head_dim(self) -> int:
        """Elements of a query or key row."""
        return int(self.query.shape[2])

    @property
    def value_dim(self) -> int:
        """Elements of a value row."""
        return int(self.value.shape[2])

    @property
    def positions(self) -> np.ndarray:
        """Position of every query for the mask, int64, shape (queries,)."""
        return query_positions(self.queries, self.keys) if self.row_positions is None else self.row_positions

    @property
    def indices(self) -> np.ndarray:
        """Index of every key for the mask, int64, shape (keys,), rising."""
        return np.arange(self.keys, dtype=np.int64) if self.key_indices is None else self.key_indices

    def first(self, length: int) -> QuantisedAttention:
        """Return the layer of the first `length` queries and keys, quantised as they are."""
        return replace(
            self,
            query=self.query[:, :length],
            key=self.key[:, :length],
            value=self.value[:, :length],
            row_positions=None if self.row_positions is None else self.row_positions[:length],
            key_indices=None if self.key_indices is None else self.key_indices[:length],
        )

    def last_query(self) -> QuantisedAttention:
        """Return the layer of its last query alone and of all its keys, quantised as they are: a step of decode."""
        return replace(self, query=self.query[:, -1:], row_positions=self.positions[-1:])

    def score_scale(self, kv_head: int) -> ScoreScale:
        """Return the factor from an integer score of `kv_head` to a base-2 logit in units of ``2**-FRACTION_BITS``."""
        real = float(self.query_scale[kv_head]) * float(self.key_scale[kv_head]) * self.softmax_scale
        return ScoreScale.of(real * math.log2(math.e) * 2**formats.FRACTION_BITS)


def _as_tensor(name: str, tensor: np.ndarray) -> np.ndarray:
    array = np.asarray(tensor)
    if array.dtype.type not in (np.int8, *_FLOATS):
        raise InputError(f"{name} must be float16, float32, float64 or int8, not {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name} holds values that are not finite")
    return array


def _quantise_tensor(
    name: str,
    tensor: np.ndarray,
    kv_heads: int,
    given_scale: np.ndarray | float | None,
    mean: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `tensor` less `mean` as int8, and its scale per kv head; a float tensor is taken to float64 in chunks."""
    if tensor.dtype == np.int8:
        scale = np.asarray(INT8_SCALE if given_scale is None else given_scale, dtype=np.float64)
        if scale.shape not in ((), (1,), (kv_heads,)):
            raise InputError(
                f"the scale of {name} must be one number or one per kv head ({kv_heads}), not {scale.shape}"
            )
        return np.ascontiguousarray(tensor), np.broadcast_to(scale, (kv_heads,)).copy()
    if given_scale is not None:
        raise InputError(f"a scale was given for {name}, which is {tensor.dtype}; only int8 tensors bring their scale")
    chunks = [slice(first, first + _ROWS_AT_A_TIME) for first in range(0, tensor.shape[1], _ROWS_AT_A_TIME)]

    def real(rows: slice) -> np.ndarray:
        return tensor[:, rows].astype(np.float64) - mean

    peak = np.zeros(kv_heads)
    for rows in chunks:
        np.maximum(peak, np.abs(real(rows)).reshape(kv_heads, -1).max(axis=1), out=peak)
    # A head of zeros, or of numbers so small that products of scales could underflow, is a head of zeros.
    scale = np.where(peak < np.finfo(np.float32).tiny, 1.0, peak) / _LEVELS
    per_head = np.repeat(scale, len(tensor) // kv_heads)[:, None, None]
    quantised = np.empty(tensor.shape, dtype=np.int8)
    for rows in chunks:
        quantised[:, rows] = np.clip(np.rint(real(rows) / per_head), -_LEVELS, _LEVELS)
    return quantised, scale


def shared_values(k: np.ndarray, value_dim: int | None) -> np.ndarray:
    """Return the first `value_dim` elements of keys, all if it is None, as their values.

    Raises
    ------
    InputError
        If keys do not have so many elements.
    """
    if value_dim is None:
        return k
    if not 1 <= value_dim <= k.shape[-1]:
        raise InputError(f"value_dim must be from 1 to the {k.shape[-1]} elements of a key, not {value_dim}")
    return k[..., :value_dim]


def quantise(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray | None,
    softmax_scale: float | None = None,
    subtract_key_mean: bool = False,
    q_scale: np.ndarray | float | None = None,
    k_scale: np.ndarray | float | None = None,
    v_scale: np.ndarray | float | None = None,
    value_dim: int | None = None,
) -> QuantisedAttention:
    """Quantise attention tensors to symmetric int8, one scale per head.

    The scale of a head is its largest magnitude over 127; values are rounded half to even. int8 tensors are taken as
    they are.

    Parameters
    ----------
    q : numpy.ndarray
        float16, float32, float64 or int8, shape (query_heads, queries, head_dim). Query heads of a group share a scale.
    k, v : numpy.ndarray
        Likewise, shapes (kv_heads, keys, head_dim) and (kv_heads, keys, value_dim). Without `v` the values are shared:
        the first elements of the keys once these are quantised.
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e, above 0; ``1 / sqrt(head_dim)`` by default.
    subtract_key_mean : bool
        Take the mean over keys out of every head of `k` first. It adds the same number to all logits of a row, which
        no softmax sees, and leaves a smaller range to quantise (smoothing of K in SageAttention, arXiv 2410.02367).
    q_scale, k_scale, v_scale : numpy.ndarray or float, optional
        Scale of an int8 tensor, one number or shape (kv_heads,); `INT8_SCALE` by default.
    value_dim : int, optional
        Elements of a shared value, at most those of a key; all by default.

    Returns
    -------
    QuantisedAttention

    Raises
    ------
    InputError
        If a tensor has the wrong shape or dtype or holds NaN or infinity, if a scale is out of range or given for a
        float tensor, if the mean of an int8 `k` or of shared values should be subtracted, or if `value_dim` is out of
        range or given beside `v`.
    """
    q, k = _as_tensor("q", q), _as_tensor("k", k)
    v = None if v is None else _as_tensor("v", v)
    check_shapes(q, k, k if v is None else v)
    if v is not None and value_dim is not None:
        raise InputError("value_dim says how much of k the values are, so it can't be given beside v")
    if v is None and v_scale is not None:
        raise InputError("a scale was given for v, but the values are part of k and have its scale")
    if v is None and subtract_key_mean:
        raise InputError("the mean over keys can't be subtracted from keys that are values too")
    key_mean: np.ndarray | float = 0.0
    if subtract_key_mean:
        if k.dtype == np.int8:
            raise InputError("the mean over keys can only be subtracted before quantising, and k is int8 already")
        key_mean = k.mean(axis=1, keepdims=True, dtype=np.float64)
    kv_heads = len(k)
    query, query_scale = _quantise_tensor("q", q, kv_heads, q_scale)
    key, key_scale = _quantise_tensor("k", k, kv_heads, k_scale, key_mean)
    if v is None:
        value, value_scale = np.ascontiguousarray(shared_values(key, value_dim)), key_scale
    else:
        value, value_scale = _quantise_tensor("v", v, kv_heads, v_scale)
    scale = 1 / math.sqrt(q.shape[2]) if softmax_scale is None else float(softmax_scale)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"softmax_scale must be finite and above 0, not {scale:g}")
    return QuantisedAttention(query, key, value, query_scale, key_scale, value_scale, scale, v is None)
