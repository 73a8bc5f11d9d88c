"""Rows of one head over its keys, a chunk at a time: scores, which keys are kept, and packs of these.

A score is a sum of at most 1024 products of two 8-bit numbers, so a float32 product gives it exactly, in whatever order
it adds. `golden.packs` says how the rest is exact.
"""

from __future__ import annotations

import numpy as np

from golden import formats
from golden.block import mass_above, mass_below
from golden.compiled import compiled
from golden.masks import MaskKind
from golden.packs import FAR, KEYS_A_CHUNK, PER_UNIT, UNIT, Workspace, absorb, normalise_rows, waiting_keys

_FAR_DISTANCE = np.float32(2**20)
_SCORE_MAX = float(formats.SCORE_MAX)
_SCORE_MIN = float(formats.SCORE_MIN)
_DELTA_MAX = formats.DELTA_MAX
_NO_MASK = int(MaskKind.NONE)
_WINDOW = int(MaskKind.WINDOW)


@compiled
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


@compiled
def _mask(logits: np.ndarray, positions: np.ndarray, indices: np.ndarray, mask_kind: int, window: int) -> bool:
    """Set the logits of pairs that the mask bars to `FAR`; return whether there may be any."""
    if mask_kind == _NO_MASK:
        return False
    nearest, furthest = positions.min() - indices[-1], positions.max() - indices[0]
    if nearest >= 0 and (mask_kind != _WINDOW or furthest < window):
        return False
    for j in range(len(indices)):
        for i in range(len(positions)):
            behind = positions[i] - indices[j]
            if behind < 0 or (mask_kind == _WINDOW and behind >= window):
                logits[j, i] = FAR
    return True


@compiled
def _count_saturated(scores: np.ndarray, logits: np.ndarray, factor: float, saturated: np.ndarray) -> None:
    """Add to each row the pairs that are not masked and whose logit saturated."""
    for j in range(len(scores)):
        for i in range(scores.shape[1]):
            rounded = np.floor(scores[j, i] * factor + 0.5)
            saturated[i] += logits[j, i] != FAR and (rounded < _SCORE_MIN or rounded > _SCORE_MAX)


@compiled
def _judge(
    logits: np.ndarray,
    running: np.ndarray,
    growth: np.ndarray,
    distance: np.ndarray,
    wants: np.ndarray,
    reach: np.float32,
) -> None:
    """Move the running maxima to a key, and say which rows want it for its distance."""
    for i in range(len(logits)):
        after = max(running[i], np.ceil(logits[i] * PER_UNIT))
        growth[i] = after - running[i]
        running[i] = after
        distance[i] = after * UNIT - logits[i]
        wants[i] = distance[i] <= reach


@compiled
def _over_budget(
    logits: np.ndarray,
    growth: np.ndarray,
    distance: np.ndarray,
    epsilon_shift: int,
    budget: np.ndarray,
    wants: np.ndarray,
) -> None:
    """Rescale the budgets of rows whose maximum has grown, and say which rows can't afford to drop the key."""
    for i in range(len(logits)):
        if logits[i] == FAR:
            continue
        budget[i] >>= min(int(growth[i]), _DELTA_MAX)
        wants[i] |= mass_above(int(distance[i]), epsilon_shift) > budget[i]


@compiled
def _spend(
    logits: np.ndarray,
    distance: np.ndarray,
    epsilon_shift: int,
    keep: bool,
    budget: np.ndarray,
) -> None:
    """Add a key that was kept to the budgets of the rows of a block, or take one that was dropped from them."""
    for i in range(len(logits)):
        if logits[i] == FAR:
            continue
        if keep:
            budget[i] += mass_below(int(distance[i]))
        else:
            budget[i] -= mass_above(int(distance[i]), epsilon_shift)


@compiled
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
    output: np.ndarray,
    dropped: np.ndarray,
    saturated: np.ndarray,
    survivors: np.ndarray,
    kept: np.ndarray,
    work: Workspace,
) -> None:
    """Run the blocks of some rows of one head over its keys.

    Parameters
    ----------
    query, positions : numpy.ndarray
        int8, shape (rows, head_dim), and int64, shape (rows,), rising.
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
    maximum, total : numpy.ndarray
        The rows' m and l, in place: float32 and int64, shape (rows,).
    output : numpy.ndarray
        int16, shape (rows, value_dim), set.
    dropped, saturated : numpy.ndarray
        int64, shape (rows,), added to.
    survivors : numpy.ndarray
        int64, shape (blocks,), added to unless `keep_all`.
    kept : numpy.ndarray
        bool, shape (blocks, keys), set where a key is kept unless `keep_all`. Shape (0, 0) if nobody asks.
    work : Workspace
        Room, from `workspace`.
    """
    rows = len(query)
    keys, value_dim = value.shape
    blocks = -(-rows // group)
    stationary = query.astype(np.float32)
    accumulator = work.accumulator[: rows * value_dim].reshape(rows, value_dim)
    accumulator[:] = 0
    streaming, values = work.streaming, work.values
    room = 0 if keep_all else waiting_keys(keys, lanes)
    packed = work.packed[: blocks * room * group].reshape(blocks, room, group)
    slots = np.empty((blocks, room), dtype=np.int64)
    filled = np.zeros(blocks, dtype=np.int64)
    dropped_by_all = np.zeros(blocks, dtype=np.int64)
    running = maximum.copy()
    growth = np.empty(rows, dtype=np.float32)
    distance = np.empty(rows, dtype=np.float32)
    wants = np.empty(rows, dtype=np.uint8)
    budget = np.zeros(rows, dtype=np.int64)
    reach = np.float32(tau) if tau != formats.TAU_KEEP_ALL else _FAR_DISTANCE

    for start in range(0, keys, KEYS_A_CHUNK):
        size = min(KEYS_A_CHUNK, keys - start)
        # Rows before `late` see none of the keys from here on. Without `keep_all` they are whole blocks.
        late = 0
        if mask_kind != _NO_MASK:
            while late < rows and positions[late] < indices[start]:
                late += 1
            if keep_all and late == rows:
                break
            if not keep_all:
                late = min(late, rows - 1) // group * group
        streaming[:size] = key[start : start + size]
        scores = work.scores[: size * (rows - late)].reshape(size, rows - late)
        whole = -(-size // lanes) * lanes
        logits = work.logits[: whole * (rows - late)].reshape(whole, rows - late)
        np.dot(streaming[:size], stationary[late:].T, scores)
        any_saturated = _scale(scores, factor, logits[:size])
        masked = _mask(logits[:size], positions[late:], indices[start : start + size], mask_kind, window)
        if streamed.size:
            masked = True
            for b in range(late // group, blocks):
                first = b * group - late
                for j in range(size):
                    if not streamed[b, start + j]:
                        logits[j, first : first + group] = FAR
        if any_saturated:
            _count_saturated(scores, logits, factor, saturated[late:])
        if keep_all:
            logits[size:] = FAR
            values[:size] = value[start : start + size]
            values[size:whole] = 0
            absorb(logits, values[:whole], lanes, maximum[late:], total[late:], accumulator[late:], work)
            continue
        for j in range(size):
            _judge(logits[j], running[late:], growth, distance, wants, reach)
            if epsilon_shift:
                _over_budget(logits[j], growth, distance, epsilon_shift, budget[late:], wants)
            for b in range(late // group, blocks):
                first, end = b * group - late, min(rows, (b + 1) * group) - late
                keep = np.uint8(0)
                for i in range(first, end):
                    keep |= wants[i]
                if keep:
                    for i in range(first, end):
                        packed[b, filled[b], i - first] = logits[j, i]
                    slots[b, filled[b]] = start + j
                    filled[b] += 1
                    if kept.size:
                        kept[b, start + j] = True
                elif masked:
                    for i in range(first, end):
                        dropped[late + i] += logits[j, i] != FAR
                else:
                    dropped_by_all[b] += 1
                if epsilon_shift:
                    budget_of = budget[late + first : late + end]
                    _spend(logits[j, first:end], distance[first:end], epsilon_shift, keep != 0, budget_of)
        for b in range(blocks):
            dropped[b * group : (b + 1) * group] += dropped_by_all[b]
            dropped_by_all[b] = 0
        last = start + size == keys
        for b in range(blocks):
            if not last and filled[b] + KEYS_A_CHUNK <= room:
                continue
            whole = filled[b] // lanes * lanes
            taken = whole
            if last and filled[b] > whole:
                taken = filled[b]
                whole += lanes
                packed[b, taken:whole] = FAR
                values[taken:whole] = 0
            for n in range(taken):
                slot = slots[b, n]
                for u in range(value_dim):
                    values[n, u] = value[slot, u]
            first, end = b * group, min(rows, (b + 1) * group)
            logits_kept = packed[b, :whole]
            if end - first < group:
                logits_kept = np.ascontiguousarray(logits_kept[:, : end - first])
            if whole:
                rows_of_block = slice(first, end)
                absorb(
                    logits_kept,
                    values[:whole],
                    lanes,
                    maximum[rows_of_block],
                    total[rows_of_block],
                    accumulator[rows_of_block],
                    work,
                )
            survivors[b] += taken
            rest = filled[b] - taken
            packed[b, :rest] = packed[b, taken : filled[b]].copy()
            slots[b, :rest] = slots[b, taken : filled[b]].copy()
            filled[b] = rest
    normalise_rows(total, accumulator, output)
