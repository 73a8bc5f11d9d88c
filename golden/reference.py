"""Exact attention in float64, against which every approximation is measured.

For query i and the keys j that the mask lets it attend to (Vaswani et al., "Attention Is All You Need", arXiv
1706.03762, equation 1)::

    o_i = sum_j softmax_j(softmax_scale * q_i . k_j) v_j

A query that may attend to no key gives zeros, as the core does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from golden.masks import Mask, query_positions
from golden.quantise import QuantisedAttention

_CHUNK_LOGITS = 1 << 22


def softmax_weights(
    query: np.ndarray, key: np.ndarray, softmax_scale: float, mask: Mask, positions: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the exact softmax of one head, a chunk of queries at a time.

    Parameters
    ----------
    query, key : numpy.ndarray
        Any numbers, shapes (queries, head_dim) and (keys, head_dim).
    softmax_scale : float
        Factor from ``q . k`` to the exponent of e.
    mask : Mask
        Which keys a query may attend to.
    positions : numpy.ndarray
        Position of every query, shape (queries,). Keys are counted from 0.

    Yields
    ------
    tuple of slice and numpy.ndarray
        The queries of the chunk, and their weights: float64, shape (chunk, keys). A row sums to 1, or to 0 if it may
        attend to no key.
    """
    query, key = query.astype(np.float64), key.astype(np.float64)
    indices = np.arange(len(key))
    step = max(1, _CHUNK_LOGITS // len(key))
    for first in range(0, len(query), step):
        chunk = slice(first, min(first + step, len(query)))
        allowed = mask.allowed(positions[chunk], indices)
        logits = np.where(allowed, softmax_scale * (query[chunk] @ key.T), -np.inf)
        peak = logits.max(axis=1, keepdims=True)
        weights = np.exp(logits - np.where(np.isfinite(peak), peak, 0))
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total == 0, 1, total)
        yield chunk, weights


def _head(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, softmax_scale: float, mask: Mask, positions: np.ndarray
) -> np.ndarray:
    output = np.empty((len(query), value.shape[1]))
    for chunk, weights in softmax_weights(query, key, softmax_scale, mask, positions):
        output[chunk] = weights @ value.astype(np.float64)
    return output


def float_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    softmax_scale: float | None = None,
    mask: Mask | None = None,
) -> np.ndarray:
    """Return exact attention over float tensors.

    Parameters
    ----------
    q : numpy.ndarray
        Shape (query_heads, queries, head_dim); query head h uses key and value head ``h // (query_heads // kv_heads)``.
    k, v : numpy.ndarray
        Shapes (kv_heads, keys, head_dim) and (kv_heads, keys, value_dim).
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` by default.
    mask : Mask, optional
        By `golden.masks.query_positions`; every query sees every key by default.

    Returns
    -------
    numpy.ndarray
        float64, shape (query_heads, queries, value_dim).
    """
    scale = 1 / math.sqrt(q.shape[2]) if softmax_scale is None else softmax_scale
    group = len(q) // len(k)
    positions = query_positions(q.shape[1], k.shape[1])
    heads = (_head(q[h], k[h // group], v[h // group], scale, mask or Mask(), positions) for h in range(len(q)))
    return np.stack(list(heads))


def quantised_attention(attention: QuantisedAttention, mask: Mask | None = None) -> np.ndarray:
    """Return exact attention over the real values that the int8 tensors of `attention` stand for.

    Returns
    -------
    numpy.ndarray
        float64, shape (query_heads, queries, value_dim), in units of the float tensors.
    """
    positions = attention.positions
    output = np.empty((attention.query_heads, attention.queries, attention.value_dim))
    for head in range(attention.query_heads):
        kv_head = head // attention.group
        scale = attention.query_scale[kv_head] * attention.key_scale[kv_head] * attention.softmax_scale
        integer = _head(
            attention.query[head],
            attention.key[kv_head],
            attention.value[kv_head],
            float(scale),
            mask or Mask(),
            positions,
        )
        output[head] = integer * attention.value_scale[kv_head]
    return output


def snr_db(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the power of `reference` over the power of the error of `measured`, in dB; infinite without error."""
    error = float(np.sum((np.asarray(measured, dtype=np.float64) - reference) ** 2))
    if error == 0:
        return math.inf
    signal = float(np.sum(np.asarray(reference, dtype=np.float64) ** 2))
    return 10 * math.log10(signal / error) if signal else -math.inf


def max_abs_error(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the largest magnitude of the error of `measured`, in its own units."""
    return float(np.max(np.abs(np.asarray(measured, dtype=np.float64) - reference)))
