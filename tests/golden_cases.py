"""Random jobs and layers for the tests of the golden model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from golden import formats
from golden.job import Job, ScoreScale
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention, quantise
from golden.state import PartialState
from golden.threshold import Threshold

LANES = st.sampled_from([4, 8, 16])
TAUS = st.one_of(st.just(formats.TAU_KEEP_ALL), st.integers(formats.TAU_MIN, 14 << formats.FRACTION_BITS))
EPSILON_SHIFTS = st.sampled_from([0, 0, 1, 4, 9, formats.EPSILON_SHIFT_MAX])
THRESHOLDS = st.builds(Threshold, TAUS, EPSILON_SHIFTS, st.sampled_from([0, 0, 1 << 14, 3 << 14]))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Draw any kind of mask; windows are short, so that they matter."""
    kind = draw(st.sampled_from(MaskKind))
    return Mask(kind, draw(st.integers(1, 12)) if kind == MaskKind.WINDOW else 0)


def int8_matrix(random: np.random.Generator, shape: tuple[int, int], extreme: bool) -> np.ndarray:
    """Return either values spread over the int8 range, or its two ends only."""
    if extreme:
        return random.choice(np.array([-128, 127], dtype=np.int8), shape)
    return np.clip(np.rint(random.normal(0, 40, shape)), -128, 127).astype(np.int8)


def states(random: np.random.Generator, rows: int, value_dim: int) -> PartialState:
    """Return states as a job could have left them; the first row has seen nothing."""
    maximum = random.integers(-40, 40, rows)
    total = random.integers(2070, 1 << 18, rows)
    accumulator = random.integers(-128, 128, (rows, value_dim)) * total[:, None]
    maximum[0], total[0], accumulator[0] = formats.NO_MAXIMUM, 0, 0
    return PartialState(maximum, total, accumulator)


@st.composite
def jobs(
    draw: st.DrawFn,
    taus: st.SearchStrategy[int] = TAUS,
    with_state: bool = True,
    max_keys: int = 60,
) -> Job:
    """Draw jobs of every shape, mask and range of logits, from nearly equal weights to saturated scores."""
    random = np.random.default_rng(draw(SEEDS))
    rows, head_dim, value_dim = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    keys = draw(st.integers(1, max_keys))
    extreme = draw(st.booleans())
    query = int8_matrix(random, (rows, head_dim), extreme)
    key = int8_matrix(random, (keys, head_dim), extreme)
    spread = draw(st.sampled_from([0.3, 2.0, 6.0, 20.0, 2000.0]))
    deviation = np.std(query.astype(np.float64) @ key.T.astype(np.float64)) + 1
    return Job(
        query=query,
        positions=random.integers(0, 2 * keys, rows),
        key=key,
        indices=np.sort(random.choice(2 * keys, keys, replace=False)),
        value=int8_matrix(random, (keys, value_dim), extreme),
        scale=ScoreScale.of(min(spread * (1 << formats.FRACTION_BITS) / deviation, 65535.0)),
        threshold=Threshold(draw(taus), draw(EPSILON_SHIFTS)),
        mask=draw(masks()),
        state=states(random, rows, value_dim) if with_state and draw(st.booleans()) else None,
    )


@st.composite
def layers(draw: st.DrawFn) -> QuantisedAttention:
    """Draw small layers: grouped heads, decode, prefill and cross attention."""
    random = np.random.default_rng(draw(SEEDS))
    group, kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    queries, keys = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    head_dim, value_dim = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    return quantise(
        random.normal(0, 2, (group * kv_heads, queries, head_dim)),
        random.normal(0, 2, (kv_heads, keys, head_dim)),
        random.normal(0, 2, (kv_heads, keys, value_dim)),
    )


def exact_logits(job: Job) -> np.ndarray:
    """Return the quantised logits in base-2 units, -inf where masked: float64, shape (rows, keys)."""
    scores = job.query.astype(object) @ job.key.T.astype(object)
    scaled = np.floor(scores * job.scale.multiplier / 2.0**job.scale.shift + 0.5).astype(np.float64)
    logits = np.clip(scaled, formats.SCORE_MIN, formats.SCORE_MAX) / (1 << formats.FRACTION_BITS)
    return np.where(job.mask.allowed(job.positions, job.indices), logits, -np.inf)


def exact_weights(job: Job) -> np.ndarray:
    """Return the weights relative to the row's largest, float64, shape (rows, keys); zeros in rows that see no key."""
    logits = exact_logits(job)
    peak = logits.max(axis=1, keepdims=True)
    return np.exp2(logits - np.where(np.isfinite(peak), peak, 0))


def lost_share(job: Job, survivors: np.ndarray) -> np.ndarray:
    """Return the share of each row's exact softmax that `survivors` leave out; 0 in rows that see no key."""
    weights = exact_weights(job)
    total = weights.sum(axis=1)
    return weights[:, ~survivors].sum(axis=1) / np.where(total == 0, 1, total)


ADVERSARIAL = {
    # Just far enough below the first key that all of them may be dropped.
    "flat": [1000] + [900] * 5000,
    "flat, late maximum": [900] * 1500 + [1000] + [899] * 1500,
    # Thousands of keys whose weight is next to nothing.
    "far": [0] + [-700] * 3000,
    # Every key is the largest so far: what was kept before is worth nothing.
    "rising": [10 * n for n in range(500)],
    "falling": [*range(1000, 0, -1)],
    "two levels, late maximum": [1000, 930] * 400 + [3000, 2930] * 400,
}
"""Logits of rows that try to lose more than an error bound allows, in units of ``2**-FRACTION_BITS``."""


def job_of_logits(logits: Sequence[Sequence[int]], **threshold: int) -> Job:
    """Return a job whose rows have these logits, in units of ``2**-FRACTION_BITS``, from -16256 to 16129."""
    parts = np.divmod(np.array(logits), 128)
    rows, keys = parts[0].shape
    # Three elements of every key are one row's, and the other rows' queries are zero there.
    digits = np.stack([parts[0], parts[0], parts[1]], axis=2)
    return Job(
        query=np.kron(np.eye(rows), [[127, 1, 1]]).astype(np.int8),
        positions=np.zeros(rows, dtype=np.int64),
        key=digits.transpose(1, 0, 2).reshape(keys, 3 * rows).astype(np.int8),
        indices=np.arange(keys, dtype=np.int64),
        value=np.ones((keys, 1), dtype=np.int8),
        scale=ScoreScale(1, 0),
        threshold=Threshold(**threshold),
    )
