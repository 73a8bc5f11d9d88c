"""The arithmetic of `golden.block`, many keys at a time: the inner loops of `golden.fast`.

What makes whole matrix products, and float32 for logits, exact:

* a score is a sum of at most 1024 products of two 8-bit numbers, so float32 holds it and every partial sum;
* a row's sums of probability times value are below 2**24 over `SAFE_KEYS` keys, and over as many more as the
  probabilities are small: their sum bounds them. So P V is one float32 product over as many keys as that allows;
* rescaling changes nothing while a row's maximum stays where it is. Only the packs before the last move of a maximum
  are gone through one by one;
* logits have 16 bits, their distances from a maximum 17, and an accumulator at most 40, which float64 holds.

Logits are kept key by key (keys x rows), `FAR` where the row may not attend to the key.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from golden import formats
from golden.block import mass_above, mass_below
from golden.masks import MaskKind

KEYS_A_CHUNK = 256
"""Keys whose scores are computed at a time: a multiple of any number of lanes."""

SAFE_KEYS = 32
"""Keys over which sums of any 12-bit probabilities times 8-bit values stay below 2**24."""

FAR = np.float32(-(2**22))
"""Stands for the logit of a masked pair: further below any maximum than a logit can be."""

_SAFE_SUM = ((1 << 24) - 1) >> (formats.DATA_BITS - 1)
_FAR_DISTANCE = np.float32(2**20)
_BUFFERED_KEYS = 4 * KEYS_A_CHUNK
_UNIT = np.float32(1 << formats.FRACTION_BITS)
_PER_UNIT = np.float32(1 / (1 << formats.FRACTION_BITS))
_SCORE_MAX = float(formats.SCORE_MAX)
_SCORE_MIN = float(formats.SCORE_MIN)
_DELTA_MAX = formats.DELTA_MAX
_NO_MASK = int(MaskKind.NONE)
_WINDOW = int(MaskKind.WINDOW)

_NOTHING = (formats.PROBABILITY_BITS + 1) << formats.FRACTION_BITS
"""Distance from which on a probability is zero."""

_TABLE = np.array([formats.probability(distance) for distance in range(_NOTHING + 1)], dtype=np.float32)


@njit(nogil=True, cache=True)
def _scale(scores: np.ndarray, factor: float, logits: np.ndarray) -> bool:
    """Scale, round and saturate scores; return whether any logit saturated.

    The product with ``M / 2**s`` is exact in float64. Adding a half is exact too, or stays within 0 to 1 as it should.
    """
    flat, out = scores.reshape(-1), logits.reshape(-1)
    saturated = 0
    for n in range(len(flat)):
        rounded = np.floor(flat[n] * factor + 0.5)
        clipped = min(max(rounded, _SCORE_MIN), _SCORE_MAX)
        saturated |= rounded != clipped
        out[n] = clipped
    return saturated != 0


@njit(nogil=True, cache=True)
def _mask(logits: np.ndarray, positions: np.ndarray, indices: np.ndarray, mask_kind: int, window: int) -> None:
    """Set the logits of pairs that the mask bars to `FAR`."""
    if mask_kind == _NO_MASK:
        return
    nearest, furthest = positions.min() - indices[-1], positions.max() - indices[0]
    if nearest >= 0 and (mask_kind != _WINDOW or furthest < window):
        return
    for j in range(len(indices)):
        for i in range(len(positions)):
            behind = positions[i] - indices[j]
            if behind < 0 or (mask_kind == _WINDOW and behind >= window):
                logits[j, i] = FAR


@njit(nogil=True, cache=True)
def _count_saturated(scores: np.ndarray, logits: np.ndarray, factor: float, saturated: np.ndarray) -> None:
    """Add to each row the pairs that are not masked and whose logit saturated."""
    for j in range(len(scores)):
        for i in range(scores.shape[1]):
            rounded = np.floor(scores[j, i] * factor + 0.5)
            saturated[i] += logits[j, i] != FAR and (rounded < _SCORE_MIN or rounded > _SCORE_MAX)


@njit(nogil=True, cache=True)
def _over_budget(
    logits: np.ndarray,
    growth: np.ndarray,
    distance: np.ndarray,
    epsilon_shift: int,
    kept_mass: np.ndarray,
    dropped_mass: np.ndarray,
    over: np.ndarray,
) -> None:
    """Rescale the masses of rows whose maximum has grown, and say which rows can't afford to drop a key."""
    for i in range(len(logits)):
        over[i] = False
        if logits[i] == FAR:
            continue
        places = min(int(growth[i]), _DELTA_MAX)
        kept_mass[i] >>= places
        dropped_mass[i] = -(-dropped_mass[i] >> places)
        over[i] = dropped_mass[i] + mass_above(int(distance[i]), epsilon_shift) > kept_mass[i]


@njit(nogil=True, cache=True)
def _absorb(
    logits: np.ndarray,
    values: np.ndarray,
    lanes: int,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
) -> None:
    """Add packs of kept keys to the state of a group of rows, in place.

    Parameters
    ----------
    logits : numpy.ndarray
        float32, shape (keys, rows): whole packs of `lanes` keys, or the job's last ones.
    values : numpy.ndarray
        float32, shape (keys, value_dim).
    lanes : int
        Keys of a pack.
    maximum, total, accumulator : numpy.ndarray
        float32 and int64, shape (rows,), and float64, shape (rows, value_dim).
    """
    keys, rows = logits.shape
    packs = -(-keys // lanes)
    peaks = np.empty((packs, rows), dtype=np.float32)
    moved = np.zeros(rows, dtype=np.int64)
    final = maximum.copy()
    for pack in range(packs):
        peak = peaks[pack]
        peak[:] = FAR
        for j in range(pack * lanes, min(keys, (pack + 1) * lanes)):
            for i in range(rows):
                peak[i] = max(peak[i], logits[j, i])
        for i in range(rows):
            peak[i] = max(final[i], np.ceil(peak[i] * _PER_UNIT))
            if peak[i] > final[i]:
                moved[i] = pack
                final[i] = peak[i]

    # A row's packs before its last move, one by one; at the move it is rescaled, and what follows is one product.
    for i in range(rows):
        for pack in range(moved[i] + 1):
            growth = peaks[pack, i] - maximum[i]
            if growth > 0:
                places = min(int(growth), _DELTA_MAX)
                maximum[i] = peaks[pack, i]
                total[i] >>= places
                shrink = 2.0**-places
                for u in range(accumulator.shape[1]):
                    accumulator[i, u] = np.floor(accumulator[i, u] * shrink)
            if pack == moved[i]:
                break
            for j in range(pack * lanes, (pack + 1) * lanes):
                probability = _TABLE[min(int(maximum[i] * _UNIT - logits[j, i]), _NOTHING)]
                total[i] += int(probability)
                for u in range(accumulator.shape[1]):
                    accumulator[i, u] += np.float64(probability * values[j, u])

    probabilities = np.empty((keys, rows), dtype=np.float32)
    base = final * _UNIT
    begin = moved * lanes
    earliest = begin.min()
    latest = begin.max()
    product = np.empty((rows, accumulator.shape[1]), dtype=np.float32)
    sums = np.empty(rows, dtype=np.float32)
    segment = min(lanes, SAFE_KEYS)
    first, bound = earliest, 0.0
    for start in range(earliest, keys, segment):
        end = min(keys, start + segment)
        sums[:] = 0
        for j in range(start, end):
            for i in range(rows):
                place = np.int32(base[i] - logits[j, i])
                probability = _TABLE[place if place < _NOTHING else _NOTHING]
                if j < latest and j < begin[i]:
                    probability = np.float32(0)
                probabilities[j, i] = probability
                sums[i] += probability
        for i in range(rows):
            total[i] += np.int64(sums[i])
        peak_sum = sums.max()
        if bound + peak_sum > _SAFE_SUM:
            np.dot(probabilities[first:start].T, values[first:start], product)
            accumulator += product
            first, bound = start, 0.0
        bound += peak_sum
    if first < keys:
        np.dot(probabilities[first:].T, values[first:], product)
        accumulator += product


@njit(nogil=True, cache=True)
def attend_rows(
    query: np.ndarray,
    positions: np.ndarray,
    key: np.ndarray,
    indices: np.ndarray,
    value: np.ndarray,
    factor: float,
    tau: int,
    epsilon_shift: int,
    mask_kind: int,
    window: int,
    lanes: int,
    group: int,
    keep_all: bool,
    streamed: np.ndarray,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
    dropped: np.ndarray,
    saturated: np.ndarray,
    survivors: np.ndarray,
    kept: np.ndarray,
) -> None:
    """Run the blocks of some rows of one head over its keys.

    Parameters
    ----------
    query, positions : numpy.ndarray
        int8, shape (rows, head_dim), and int64, shape (rows,).
    key, indices, value : numpy.ndarray
        int8, shape (keys, head_dim); int64, shape (keys,); int8, shape (keys, value_dim).
    factor : float
        From a score to a logit.
    tau, epsilon_shift, mask_kind, window, lanes : int
        As in `golden.block`.
    group : int
        Rows of a block, which decide together what is kept.
    keep_all : bool
        Every key is in every row's packs, masked or not. That is so when nothing is dropped and each block's keys are
        the first ones of the list; rows then have nothing to do with each other, and `group` may be all of them.
    streamed : numpy.ndarray
        bool, shape (blocks, keys): the keys that each block streams. Shape (0, 0) for all.
    maximum, total, accumulator : numpy.ndarray
        The rows' state, in place: float32 and int64, shape (rows,), and float64, shape (rows, value_dim).
    dropped, saturated : numpy.ndarray
        int64, shape (rows,), added to.
    survivors : numpy.ndarray
        int64, shape (blocks,), added to unless `keep_all`.
    kept : numpy.ndarray
        bool, shape (blocks, keys), set where a key is kept unless `keep_all`. Shape (0, 0) if nobody asks.
    """
    rows, head_dim = query.shape
    keys, value_dim = value.shape
    blocks = -(-rows // group)
    stationary = np.ascontiguousarray(query.T).astype(np.float32)
    streaming = np.empty((KEYS_A_CHUNK, head_dim), dtype=np.float32)
    scores = np.empty((KEYS_A_CHUNK, rows), dtype=np.float32)
    logits = np.empty((KEYS_A_CHUNK, rows), dtype=np.float32)
    room = 0 if keep_all else min(_BUFFERED_KEYS, keys + lanes)
    values = np.empty((KEYS_A_CHUNK if keep_all else room, value_dim), dtype=np.float32)
    packed = np.empty((blocks, room, group), dtype=np.float32)
    slots = np.empty((blocks, room), dtype=np.int64)
    filled = np.zeros(blocks, dtype=np.int64)
    running = maximum.copy()
    growth = np.empty(rows, dtype=np.float32)
    distance = np.empty(rows, dtype=np.float32)
    over = np.zeros(rows, dtype=np.bool_)
    kept_mass = np.zeros(rows, dtype=np.int64)
    dropped_mass = np.zeros(rows, dtype=np.int64)
    reach = np.float32(tau) if tau != formats.TAU_KEEP_ALL else _FAR_DISTANCE

    for start in range(0, keys, KEYS_A_CHUNK):
        size = min(KEYS_A_CHUNK, keys - start)
        streaming[:size] = key[start : start + size]
        np.dot(streaming[:size], stationary, scores[:size])
        any_saturated = _scale(scores[:size], factor, logits[:size])
        _mask(logits[:size], positions, indices[start : start + size], mask_kind, window)
        if streamed.size:
            for b in range(blocks):
                for j in range(size):
                    if not streamed[b, start + j]:
                        logits[j, b * group : (b + 1) * group] = FAR
        if any_saturated:
            _count_saturated(scores[:size], logits[:size], factor, saturated)
        if keep_all:
            values[:size] = value[start : start + size]
            _absorb(logits[:size], values[:size], lanes, maximum, total, accumulator)
            continue
        for j in range(size):
            for i in range(rows):
                after = max(running[i], np.ceil(logits[j, i] * _PER_UNIT))
                growth[i] = after - running[i]
                running[i] = after
                distance[i] = after * _UNIT - logits[j, i]
            if epsilon_shift:
                _over_budget(logits[j], growth, distance, epsilon_shift, kept_mass, dropped_mass, over)
            for b in range(blocks):
                first, end = b * group, min(rows, (b + 1) * group)
                keep = np.min(distance[first:end]) <= reach
                if epsilon_shift:
                    keep |= np.any(over[first:end])
                    for i in range(first, end):
                        if logits[j, i] != FAR:
                            if keep:
                                kept_mass[i] += mass_below(int(distance[i]))
                            else:
                                dropped_mass[i] += mass_above(int(distance[i]), epsilon_shift)
                if keep:
                    packed[b, filled[b], : end - first] = logits[j, first:end]
                    slots[b, filled[b]] = start + j
                    filled[b] += 1
                    if kept.size:
                        kept[b, start + j] = True
                else:
                    for i in range(first, end):
                        dropped[i] += distance[i] < _FAR_DISTANCE
        last = start + size == keys
        for b in range(blocks):
            if not last and filled[b] + KEYS_A_CHUNK <= room:
                continue
            whole = filled[b] if last else filled[b] - filled[b] % lanes
            for n in range(whole):
                values[n] = value[slots[b, n]]
            first, end = b * group, min(rows, (b + 1) * group)
            if whole:
                taken = packed[b, :whole]
                if end - first < group:
                    taken = np.ascontiguousarray(taken[:, : end - first])
                _absorb(taken, values[:whole], lanes, maximum[first:end], total[first:end], accumulator[first:end])
            survivors[b] += whole
            rest = filled[b] - whole
            packed[b, :rest] = packed[b, whole : filled[b]].copy()
            slots[b, :rest] = slots[b, whole : filled[b]].copy()
            filled[b] = rest
