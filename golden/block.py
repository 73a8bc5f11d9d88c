"""The arithmetic of the core, bit for bit: one block of query rows over one list of keys.

This loop is the specification. It reads like the text of docs/arithmetic.md, key by key, and is compiled by Numba.
"""

from __future__ import annotations

import numpy as np

from golden import formats
from golden.compiled import compiled
from golden.job import Job, JobResult
from golden.masks import MaskKind
from golden.state import PartialState, normalise

_EXP2 = formats.exp2_table()
_FRACTION_BITS = formats.FRACTION_BITS
_FRACTION_MASK = (1 << formats.FRACTION_BITS) - 1
_SCORE_MAX = formats.SCORE_MAX
_SCORE_MIN = formats.SCORE_MIN
_KEEP_ALL = formats.TAU_KEEP_ALL
_DELTA_MAX = formats.DELTA_MAX
_PLACES_MAX = formats.PROBABILITY_BITS + 1
_SHIFT_MAX = formats.DELTA_MAX
_MASS_PLACES = formats.MASS_FRACTION_BITS - formats.CHORD_BITS
_CHORD_ONE = 1 << formats.CHORD_BITS
_CHORD_GAP = formats.CHORD_GAP
_NONE = int(MaskKind.NONE)
_WINDOW = int(MaskKind.WINDOW)


@compiled
def _close_pack(
    pack: np.ndarray,
    logits: np.ndarray,
    allowed: np.ndarray,
    value: np.ndarray,
    running: np.ndarray,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
) -> None:
    """Rescale a block's state to the running maximum and add the keys `pack`, in place."""
    for i in range(len(running)):
        delta = min(running[i] - maximum[i], _DELTA_MAX)
        maximum[i] = running[i]
        total[i] >>= delta
        for u in range(accumulator.shape[1]):
            accumulator[i, u] >>= delta
        for slot in range(len(pack)):
            if not allowed[i, slot]:
                continue
            distance = (running[i] << _FRACTION_BITS) - logits[i, slot]
            places = min(distance >> _FRACTION_BITS, _PLACES_MAX)
            p = ((_EXP2[distance & _FRACTION_MASK] << 1 >> places) + 1) >> 1
            total[i] += p
            for u in range(accumulator.shape[1]):
                accumulator[i, u] += p * value[pack[slot], u]


@compiled
def mass_above(distance: int, epsilon_shift: int) -> int:
    """Return an upper bound of a weight, in units of ``2**-(MASS_FRACTION_BITS + epsilon_shift)``."""
    chord = (_CHORD_ONE - (distance & _FRACTION_MASK)) << (_MASS_PLACES + epsilon_shift)
    return -(-chord >> min(distance >> _FRACTION_BITS, _SHIFT_MAX))


@compiled
def mass_below(distance: int) -> int:
    """Return a lower bound of a weight, in units of ``2**-MASS_FRACTION_BITS``."""
    chord = (_CHORD_ONE - _CHORD_GAP - (distance & _FRACTION_MASK)) << _MASS_PLACES
    return chord >> min(distance >> _FRACTION_BITS, _SHIFT_MAX)


@compiled
def _stream_keys(
    query: np.ndarray,
    positions: np.ndarray,
    key: np.ndarray,
    indices: np.ndarray,
    value: np.ndarray,
    multiplier: int,
    shift: int,
    tau: int,
    epsilon_shift: int,
    mask_kind: int,
    window: int,
    lanes: int,
    maximum: np.ndarray,
    total: np.ndarray,
    accumulator: np.ndarray,
    survivors: np.ndarray,
    dropped: np.ndarray,
) -> tuple[int, int]:
    """Stream every key past the block; return the packs and the saturated logits."""
    rows, head_dim = query.shape
    running = maximum.copy()
    pack = np.empty(lanes, dtype=np.int64)
    pack_logits = np.empty((rows, lanes), dtype=np.int64)
    pack_allowed = np.empty((rows, lanes), dtype=np.bool_)
    x = np.empty(rows, dtype=np.int64)
    distance = np.empty(rows, dtype=np.int64)
    allowed = np.empty(rows, dtype=np.bool_)
    budget = np.zeros(rows, dtype=np.int64)
    filled = packs = saturated = 0
    for j in range(len(key)):
        keep = False
        for i in range(rows):
            behind = positions[i] - indices[j]
            allowed[i] = mask_kind == _NONE or (behind >= 0 and (mask_kind != _WINDOW or behind < window))
            if not allowed[i]:
                continue
            score = 0
            for c in range(head_dim):
                score += int(query[i, c]) * int(key[j, c])
            rounded = ((2 * score * multiplier >> shift) + 1) >> 1
            x[i] = min(max(rounded, _SCORE_MIN), _SCORE_MAX)
            saturated += x[i] != rounded
            before = running[i]
            running[i] = max(before, (x[i] + _FRACTION_MASK) >> _FRACTION_BITS)
            distance[i] = (running[i] << _FRACTION_BITS) - x[i]
            keep |= tau == _KEEP_ALL or distance[i] <= tau
            if epsilon_shift:
                budget[i] >>= min(running[i] - before, _SHIFT_MAX)
                keep |= mass_above(distance[i], epsilon_shift) > budget[i]
        if epsilon_shift:
            for i in range(rows):
                if not allowed[i]:
                    continue
                if keep:
                    budget[i] += mass_below(distance[i])
                else:
                    budget[i] -= mass_above(distance[i], epsilon_shift)
        survivors[j] = keep
        if not keep:
            dropped += allowed
            continue
        pack[filled] = j
        pack_logits[:, filled] = x
        pack_allowed[:, filled] = allowed
        filled += 1
        if filled == lanes:
            _close_pack(pack, pack_logits, pack_allowed, value, running, maximum, total, accumulator)
            filled = 0
            packs += 1
    if filled:
        _close_pack(pack[:filled], pack_logits, pack_allowed, value, running, maximum, total, accumulator)
        packs += 1
    return packs, saturated


def run_job(job: Job, lanes: int) -> JobResult:
    """Run one job under the hardware's arithmetic.

    Parameters
    ----------
    job : Job
        The job.
    lanes : int
        Keys of a full pack, `CoreConfig.lanes`. Rescaling happens once a pack, so the last bits depend on it.

    Returns
    -------
    JobResult
    """
    start = job.state or PartialState.empty(job.rows, job.value_dim)
    maximum, total, accumulator = start.maximum.copy(), start.total.copy(), start.accumulator.copy()
    survivors = np.zeros(job.keys, dtype=np.bool_)
    dropped = np.zeros(job.rows, dtype=np.int64)
    packs, saturated = _stream_keys(
        job.query,
        job.positions,
        job.key,
        job.indices,
        job.value,
        job.scale.multiplier,
        job.scale.shift,
        job.threshold.tau,
        job.threshold.epsilon_shift,
        int(job.mask.kind),
        job.mask.window,
        lanes,
        maximum,
        total,
        accumulator,
        survivors,
        dropped,
    )
    state = PartialState(maximum, total, accumulator)
    return JobResult(normalise(state), state, survivors, packs, dropped, int(saturated))
