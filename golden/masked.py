"""Attention under any boolean mask: how a host gives the core pairs that no mask by position describes.

The core masks by position and streams whatever list of keys it is given. With these two any mask can be had:

* rows whose keys some mask by position picks, of the keys that any of them sees, are jobs with that mask. So padding is
  a shorter list of keys, and a causal mask or a window stays one, also when sequences are packed behind each other;
* the other rows are jobs of their own, together with those that see the same keys.

What nobody sees is not streamed, and does not move the scale that a head is quantised with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from golden.attended import Attended
from golden.block_mask import BlockMask
from golden.config import CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask, MaskKind, query_positions
from golden.quantise import QuantisedAttention, quantise
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class MaskedRows:
    """Rows whose part of a boolean mask is a list of keys and a mask by position.

    Parameters
    ----------
    rows, keys : numpy.ndarray
        Numbers of the rows, and of the keys to stream to them, of the boolean mask; int64, rising.
    mask : Mask
        What each of these rows sees of these keys.
    positions : numpy.ndarray
        Position of each row for `mask` and for block masks, int64.
    """

    rows: np.ndarray
    keys: np.ndarray
    mask: Mask
    positions: np.ndarray


def _fitted(allowed: np.ndarray, rows: np.ndarray) -> MaskedRows | None:
    """Return `rows` as one `MaskedRows` if a mask by position is what they see, None otherwise."""
    part = allowed[rows]
    keys = np.flatnonzero(part.any(axis=0))
    part = part[:, keys]
    natural = query_positions(*allowed.shape)[rows]
    if part.all():
        return MaskedRows(rows, keys, Mask(), natural)
    first = keys[part.argmax(axis=1)]
    last = keys[-1 - part[:, ::-1].argmax(axis=1)]
    for positions in (natural, rows, last):
        window = int((positions - first).max()) + 1
        for mask in (Mask(MaskKind.CAUSAL), Mask(MaskKind.WINDOW, window) if window > 0 else None):
            if mask is not None and np.array_equal(part, mask.allowed(positions, keys)):
                return MaskedRows(rows, keys, mask, positions)
    return None


def split_mask(allowed: np.ndarray, rows: np.ndarray | None = None) -> Iterator[MaskedRows]:
    """Give the rows of a boolean mask in parts that the core can run.

    Parameters
    ----------
    allowed : numpy.ndarray
        bool, shape (rows, keys).
    rows : numpy.ndarray, optional
        The rows that are wanted, int64, rising; all by default.

    Yields
    ------
    MaskedRows
        Every wanted row that sees a key is in exactly one of them.
    """
    live = np.arange(len(allowed)) if rows is None else rows
    live = live[allowed[live].any(axis=1)]
    if not live.size:
        return
    whole = _fitted(allowed, live)
    if whole is not None:
        yield whole
        return
    first = allowed[live].argmax(axis=1)
    for key in np.unique(first):
        same_first = live[first == key]
        part = _fitted(allowed, same_first)
        if part is not None:
            yield part
            continue
        _, kind = np.unique(np.packbits(allowed[same_first], axis=1), axis=0, return_inverse=True)
        for number in range(int(kind.max()) + 1):
            same = same_first[kind.reshape(-1) == number]
            yield MaskedRows(same, np.flatnonzero(allowed[same[0]]), Mask(), query_positions(*allowed.shape)[same])


def _without_padding(allowed: np.ndarray) -> list[np.ndarray]:
    """Return the rows that see a key, those apart that look like padding.

    With as many rows as keys a row whose own key nobody sees is taken for padding of a self-attention. It is computed
    as any other, but must not move the scale of the others.
    """
    live = allowed.any(axis=(0, 2))
    if allowed.shape[1] != allowed.shape[2]:
        return [np.flatnonzero(live)]
    own = allowed.any(axis=(0, 1))
    return [np.flatnonzero(live & own), np.flatnonzero(live & ~own)]


@dataclass(frozen=True, eq=False)
class MaskedAttended:
    """Attention under a boolean mask.

    Parameters
    ----------
    output : numpy.ndarray
        Real outputs, float64, shape (query_heads, queries, value_dim); zeros in the rows that see no key.
    parts : list of Attended
        What the core was given, one after the other.
    """

    output: np.ndarray
    parts: list[Attended]


def attend_masked(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    allowed: np.ndarray,
    config: CoreConfig,
    softmax_scale: float | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
    keep: bool = False,
) -> MaskedAttended:
    """Run a layer under a boolean mask.

    Parameters
    ----------
    q, k, v : numpy.ndarray
        Float tensors of one sequence, as `golden.quantise.quantise` takes them.
    allowed : numpy.ndarray
        bool, shape (query_heads or 1, queries, keys): which keys each row may attend to.
    config : CoreConfig
        The core.
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` by default.
    threshold : Threshold, optional
        Nothing is dropped by default. A target is followed within each part of the layer by itself.
    block_mask : BlockMask, optional
        Keys outside it are not streamed.
    keep : bool
        Return which keys each block kept.

    Returns
    -------
    MaskedAttended

    Raises
    ------
    InputError
        If `golden.quantise.quantise` or `golden.fast.attend` refuse what they are given.
    """
    if block_mask is not None and len(block_mask.allowed) != len(k):
        raise InputError(f"the block mask is for {len(block_mask.allowed)} kv heads, the layer has {len(k)}")
    group = len(q) // len(k)
    output = np.zeros((*q.shape[:2], v.shape[2]))
    parts: list[Attended] = []
    by_kv_head = allowed.reshape(-1, 1 if len(allowed) == 1 else group, *allowed.shape[1:])
    for numbers, masks in _alike(by_kv_head):
        kv_heads = np.arange(len(k)) if len(allowed) == 1 else numbers
        heads = kv_heads[:, None] * group + np.arange(group)
        blocks = None
        if block_mask is not None:
            blocks = BlockMask(block_mask.allowed[kv_heads], block_mask.query_block, block_mask.key_block)
        keys = np.flatnonzero(masks.any(axis=(0, 1)))
        for rows in _without_padding(masks):
            if not rows.size:
                continue
            queries = q[np.ix_(heads.reshape(-1), rows)]
            layer = quantise(queries, k[np.ix_(kv_heads, keys)], v[np.ix_(kv_heads, keys)], softmax_scale)
            for offsets, mask in _alike(masks):
                in_group = np.arange(group) if len(masks) == 1 else offsets
                for part in split_mask(mask, rows):
                    attention = _part_of(layer, in_group, rows, keys, part)
                    attended = attend(attention, config, part.mask, threshold, blocks, keep=keep)
                    output[np.ix_(heads[:, in_group].reshape(-1), part.rows)] = attended.real_output
                    parts.append(attended)
    return MaskedAttended(output, parts)


def _alike(arrays: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give each distinct array of a stack, after the numbers that it has there."""
    found: dict[bytes, list[int]] = {}
    for number, array in enumerate(arrays):
        found.setdefault(np.packbits(array).tobytes(), []).append(number)
    for numbers in found.values():
        yield np.array(numbers), arrays[numbers[0]]


def _part_of(
    layer: QuantisedAttention, in_group: np.ndarray, rows: np.ndarray, keys: np.ndarray, part: MaskedRows
) -> QuantisedAttention:
    """Return a part of a layer that holds `rows` and `keys`, for some query heads of every group."""
    heads = (np.arange(layer.kv_heads)[:, None] * layer.group + in_group).reshape(-1)
    chosen = np.searchsorted(keys, part.keys)
    return QuantisedAttention(
        query=layer.query[np.ix_(heads, np.searchsorted(rows, part.rows))],
        key=layer.key[:, chosen],
        value=layer.value[:, chosen],
        query_scale=layer.query_scale,
        key_scale=layer.key_scale,
        value_scale=layer.value_scale,
        softmax_scale=layer.softmax_scale,
        row_positions=part.positions,
        key_indices=part.keys,
    )
