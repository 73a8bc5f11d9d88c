"""Packs of kept keys added to the states of rows, many at a time: the arithmetic of `golden.block` in whole products.

What makes matrix products exact:

* a row's sums of probability times value are below 2**24 over `SAFE_KEYS` keys, and over as many more as the
  probabilities are small: their sum bounds them. So P V is a float32 product over as many keys as that allows;
* rescaling changes nothing while a row's maximum stays where it is;
* where maxima move, one float64 product holds the fractions as well;
* logits have 16 bits, their distances from a maximum 17, and an accumulator at most 40, which float64 holds.

Logits are float32, key by key (keys x rows), `FAR` where the row may not attend to the key.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from golden import formats
from golden.compiled import compiled

KEYS_A_CHUNK = 128
"""Keys whose scores are computed at a time: a multiple of any number of lanes."""

SAFE_KEYS = 32
"""Keys over which sums of any 12-bit probabilities times 8-bit values stay below 2**24."""

FAR = np.float32(-(2**22))
"""Stands for the logit of a masked pair: further below any maximum than a logit can be."""

UNIT = np.float32(1 << formats.FRACTION_BITS)
PER_UNIT = np.float32(1 / (1 << formats.FRACTION_BITS))

_BUFFERED_KEYS = 4 * KEYS_A_CHUNK
_SAFE_SUM = ((1 << 24) - 1) >> (formats.DATA_BITS - 1)
_OUTPUT_MAX = float(formats.OUTPUT_MAX)
_OUTPUT_MIN = float(formats.OUTPUT_MIN)
_OUTPUT_DOUBLED = float(1 << (formats.OUTPUT_FRACTION_BITS + 1))
_DELTA_MAX = formats.DELTA_MAX

_MOVING_SHARE = 0.25
"""Share of the keys before last moves, above which the float64 product is faster than catching up one by one."""

_WIDEST_GROWTH = 20
_POWERS = np.exp2(-np.arange(_WIDEST_GROWTH + 1.0))

_NOTHING = np.float32((formats.PROBABILITY_BITS + 1) << formats.FRACTION_BITS)
"""Distance from which on a probability is zero."""

_TABLE = np.array([formats.probability(distance) for distance in range(int(_NOTHING) + 1)], dtype=np.float32)


class Workspace(NamedTuple):
    """Room for what `attend_rows` computes on the way, used again from tile to tile: fresh memory costs page faults.

    Flat but for the last two, which have shapes (keys, head_dim) and (keys, value_dim).
    """

    scores: np.ndarray
    logits: np.ndarray
    packed: np.ndarray
    probabilities: np.ndarray
    wide_probabilities: np.ndarray
    wide_values: np.ndarray
    product: np.ndarray
    wide_product: np.ndarray
    accumulator: np.ndarray
    streaming: np.ndarray
    values: np.ndarray


def workspace(rows: int, keys: int, head_dim: int, value_dim: int, lanes: int, buffered: bool) -> Workspace:
    """Return a workspace for tiles of up to `rows` rows and `keys` keys, whose kept keys are buffered or not."""
    chunk = KEYS_A_CHUNK * rows
    waiting = waiting_keys(keys, lanes) if buffered else 0
    batch = max(KEYS_A_CHUNK, waiting)
    return Workspace(
        scores=np.empty(chunk, dtype=np.float32),
        logits=np.empty(chunk, dtype=np.float32),
        packed=np.empty(waiting * rows, dtype=np.float32),
        probabilities=np.empty(batch * rows, dtype=np.float32),
        wide_probabilities=np.empty(batch * rows),
        wide_values=np.empty(batch * value_dim),
        product=np.empty(rows * value_dim, dtype=np.float32),
        wide_product=np.empty(rows * value_dim),
        accumulator=np.empty(rows * value_dim),
        streaming=np.empty((KEYS_A_CHUNK, head_dim), dtype=np.float32),
        values=np.empty((batch, value_dim), dtype=np.float32),
    )


@compiled
def waiting_keys(keys: int, lanes: int) -> int:
    """Return the keys of a block that may wait: those of an open pack, a chunk, and the filling of the last pack."""
    return min(_BUFFERED_KEYS, (keys // lanes + 2) * lanes)


@compiled
def _place(base: np.float32, logit: np.float32) -> np.int32:
    """Return the place in `_TABLE` of the probability of `logit`, `base` being the maximum in the logit's unit."""
    return np.int32(min(base - logit, _NOTHING))


@compiled
def _peaks(logits: np.ndarray, lanes: int, maximum: np.ndarray) -> np.ndarray:
    """Return the running maximum of each row at the closing of each pack, float32, shape (packs, rows)."""
    rows = logits.shape[1]
    peaks = np.empty((len(logits) // lanes, rows), dtype=np.float32)
    folded = np.empty(lanes // 2 * rows, dtype=np.float32)
    for pack in range(len(peaks)):
        whole = logits[pack * lanes : (pack + 1) * lanes].reshape(-1)
        half = len(folded)
        for n in range(half):
            folded[n] = max(whole[n], whole[n + half])
        while half > rows:
            half //= 2
            for n in range(half):
                folded[n] = max(folded[n], folded[n + half])
        before = peaks[pack - 1] if pack else maximum
        for i in range(rows):
            peaks[pack, i] = max(before[i], np.ceil(folded[i] * PER_UNIT))
    return peaks


@compiled
def _rescale(row: int, growth: float, total: np.ndarray, accumulator: np.ndarray) -> None:
    """Shift the sums of a row right by what its maximum has grown."""
    places = min(int(growth), _DELTA_MAX)
    total[row] >>= places
    shrink = 2.0**-places
    for u in range(accumulator.shape[1]):
        accumulator[row, u] = np.floor(accumulator[row, u] * shrink)


@compiled
def _catch_up(
    row: int,
    last: int,
    peaks: np.ndarray,
    logits: np.ndarray,
    values: np.ndarray,
    lanes: int,
    total: np.ndarray,
    accumulator: np.ndarray,
) -> None:
    """Go through the packs of a row before `last`, the last at which its maximum moves, and rescale it there."""
    for pack in range(last):
        base = peaks[pack, row] * UNIT
        # Four keys at a time: a number of lanes is a multiple of that.
        for start in range(pack * lanes, (pack + 1) * lanes, 4):
            a = _TABLE[_place(base, logits[start, row])]
            b = _TABLE[_place(base, logits[start + 1, row])]
            c = _TABLE[_place(base, logits[start + 2, row])]
            d = _TABLE[_place(base, logits[start + 3, row])]
            total[row] += np.int64(a + b + c + d)
            for u in range(accumulator.shape[1]):
                early = a * values[start, u] + b * values[start + 1, u]
                late = c * values[start + 2, u] + d * values[start + 3, u]
                accumulator[row, u] += np.float64(early + late)
        growth = peaks[pack + 1, row] - peaks[pack, row]
        if growth > 0:
            _rescale(row, growth, total, accumulator)


@compiled
def _add_settled(
    logits: np.ndarray,
    values: np.ndarray,
    lanes: int,
    begin: np.ndarray,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
    work: Workspace,
) -> None:
    """Add the keys from `begin` on, during which a row's maximum does not move: a float32 product."""
    keys, rows = logits.shape
    segment = min(lanes, SAFE_KEYS)
    folded = np.empty(segment // 2 * rows, dtype=np.float32)
    base = np.empty((segment, rows), dtype=np.float32)
    base[:] = maximum * UNIT
    bases = base.reshape(-1)
    places = np.empty(segment * rows, dtype=np.uint16)
    probabilities = work.probabilities[: keys * rows].reshape(keys, rows)
    product = work.product[: accumulator.size].reshape(accumulator.shape)
    latest = begin.max()
    first, bound = 0, np.float32(0)
    for start in range(0, keys, segment):
        end = start + segment
        distances = logits[start:end].reshape(-1)
        flat = probabilities[start:end].reshape(-1)
        for n in range(len(flat)):
            places[n] = _place(bases[n], distances[n])
        for n in range(len(flat)):
            flat[n] = _TABLE[places[n]]
        if start < latest:
            for i in range(rows):
                if start < begin[i]:
                    probabilities[start:end, i] = 0
        half = len(folded)
        for n in range(half):
            folded[n] = flat[n] + flat[n + half]
        while half > rows:
            half //= 2
            for n in range(half):
                folded[n] += folded[n + half]
        largest = np.float32(0)
        for i in range(rows):
            total[i] += np.int64(folded[i])
            largest = max(largest, folded[i])
        if bound + largest > _SAFE_SUM:
            np.dot(probabilities[first:start].T, values[first:start], product)
            accumulator += product
            first, bound = start, np.float32(0)
        bound += largest
    np.dot(probabilities[first:].T, values[first:], product)
    accumulator += product


@compiled
def _add_moving(
    logits: np.ndarray,
    values: np.ndarray,
    lanes: int,
    peaks: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
    work: Workspace,
) -> None:
    """Add keys during which maxima move: a float64 product.

    Rescalings telescope, ``floor((floor(a) + b) / n) = floor((a + b) / n)`` for whole b and n. So each probability may
    be divided by what its row's maximum grows from its pack to the end, and only the sum be rounded down. It has up to
    `_WIDEST_GROWTH` fraction bits and 29 others. What was there before is divided first; its fraction takes part.
    """
    keys, rows = logits.shape
    packs = len(peaks)
    probabilities = work.wide_probabilities[: keys * rows].reshape(keys, rows)
    wide_values = work.wide_values[: values.size].reshape(values.shape)
    product = work.wide_product[: accumulator.size].reshape(accumulator.shape)
    places = np.empty(rows, dtype=np.uint16)
    shrinks = np.empty(rows)
    sums = np.zeros(rows)
    for pack in range(packs):
        bases = peaks[pack] * UNIT
        for i in range(rows):
            shrinks[i] = _POWERS[int(peaks[packs - 1, i] - peaks[pack, i])]
        for j in range(pack * lanes, (pack + 1) * lanes):
            for i in range(rows):
                places[i] = _place(bases[i], logits[j, i])
            for i in range(rows):
                probabilities[j, i] = _TABLE[places[i]] * shrinks[i]
            for i in range(rows):
                sums[i] += probabilities[j, i]
    wide_values[:] = values
    np.dot(probabilities.T, wide_values, product)
    for i in range(rows):
        shrink = _POWERS[int(peaks[packs - 1, i] - peaks[0, i])]
        divided = total[i] * shrink
        whole = np.floor(divided)
        total[i] = np.int64(whole + np.floor(divided - whole + sums[i]))
        for u in range(accumulator.shape[1]):
            divided = accumulator[i, u] * shrink
            whole = np.floor(divided)
            accumulator[i, u] = whole + np.floor(divided - whole + product[i, u])


@compiled
def absorb(
    logits: np.ndarray,
    values: np.ndarray,
    lanes: int,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
    work: Workspace,
) -> None:
    """Add packs of kept keys to the state of a group of rows, in place.

    Parameters
    ----------
    logits : numpy.ndarray
        float32, shape (keys, rows): whole packs of `lanes` keys, a job's last one filled up with `FAR`, and at most
        `_BUFFERED_KEYS`.
    values : numpy.ndarray
        float32, shape (keys, value_dim).
    lanes : int
        Keys of a pack.
    maximum, total, accumulator : numpy.ndarray
        float32 and int64, shape (rows,), and float64, shape (rows, value_dim).
    work : Workspace
        Room.
    """
    keys, rows = logits.shape
    peaks = _peaks(logits, lanes, maximum)
    last = len(peaks) - 1
    moves = np.empty(rows, dtype=np.int64)
    widest = np.float32(0)
    for i in range(rows):
        if peaks[0, i] > maximum[i]:
            _rescale(i, peaks[0, i] - maximum[i], total, accumulator)
        maximum[i] = peaks[last, i]
        widest = max(widest, peaks[last, i] - peaks[0, i])
        moves[i] = last
        while moves[i] and peaks[moves[i] - 1, i] == peaks[last, i]:
            moves[i] -= 1
    if widest <= _WIDEST_GROWTH and moves.sum() * lanes > _MOVING_SHARE * keys * rows:
        _add_moving(logits, values, lanes, peaks, total, accumulator, work)
        return
    for i in range(rows):
        _catch_up(i, moves[i], peaks, logits, values, lanes, total, accumulator)
    _add_settled(logits, values, lanes, moves * lanes, maximum, total, accumulator, work)


@compiled
def normalise_rows(total: np.ndarray, accumulator: np.ndarray, output: np.ndarray) -> None:
    """Divide as `golden.state.normalise` does.

    A quotient of integers whose divisor is below 2**32 is either whole or at least 2**-32 away from a whole number.
    Where it does not saturate it is below 2**17, and float64 rounds it by less than that.
    """
    for i in range(len(total)):
        divisor = float(max(total[i], 1))
        for u in range(accumulator.shape[1]):
            doubled = np.floor(accumulator[i, u] * _OUTPUT_DOUBLED / divisor)
            output[i, u] = np.int16(min(max(np.floor((doubled + 1) * 0.5), _OUTPUT_MIN), _OUTPUT_MAX))
