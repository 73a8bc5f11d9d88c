"""Random jobs that reach the corners: every dimension, mask, threshold and state; saturating and masked rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import CoreConfig
from golden.job import Job, ScoreScale
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold


def _scale(rng: np.random.Generator) -> ScoreScale:
    """Return a scale that gives anything from flat rows to saturation."""
    kind = rng.integers(6)
    if kind == 0:
        return ScoreScale(int(rng.integers(1 << formats.MULTIPLIER_BITS)), int(rng.integers(1 << formats.SHIFT_BITS)))
    if kind == 1:
        return ScoreScale.of(float(2.0 ** rng.uniform(-2, 6)))
    return ScoreScale.of(float(2.0 ** rng.uniform(-12, -3)))


def _int8(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if rng.random() < 0.15:
        return rng.choice(np.array([-128, 127], dtype=np.int8), size=shape)
    return np.clip(np.rint(rng.normal(0, rng.uniform(5, 60), size=shape)), -128, 127).astype(np.int8)


def random_job(rng: np.random.Generator, config: CoreConfig, max_keys: int = 300, max_beats: int = 2000) -> Job:
    """Return a random job that `config` can hold, of at most `max_keys` keys and `max_beats` beats of keys."""
    rows = int(rng.integers(1, config.rows + 1))
    head_dim = int(rng.integers(1, config.max_head_dim + 1))
    value_dim = int(rng.integers(1, config.max_value_dim + 1))
    if rng.random() < 0.4:
        head_dim, value_dim = min(config.lanes, config.max_head_dim), int(rng.integers(1, config.lanes + 1))
    shared = bool(config.shared_values) and rng.random() < 0.5
    if shared:
        value_dim = min(value_dim, head_dim)
    limit = min(max_keys, config.max_keys, max(1, max_beats // config.head_beats(head_dim)))
    keys = int(min(limit, 1 + rng.geometric(1 / rng.choice([3, 30, 150]))))
    span = int(rng.integers(keys, config.max_keys + 1)) if rng.random() < 0.3 else keys
    first = int(rng.integers(0, config.max_keys - span + 1)) if rng.random() < 0.3 else 0
    indices = first + np.sort(rng.choice(span, size=keys, replace=False)).astype(np.int64)
    kind = MaskKind(int(rng.integers(3)))
    window = int(rng.integers(1, min(2 * keys + 1, config.max_keys) + 1))
    mask = Mask(kind, window if kind == MaskKind.WINDOW else 0)
    low, high = max(0, first - 10), min(config.max_keys, first + span + 10)
    positions = rng.integers(low, high, size=rows).astype(np.int64)
    tau = (
        formats.TAU_KEEP_ALL if rng.random() < 0.3 else int(rng.integers(formats.TAU_MIN, 13 << formats.FRACTION_BITS))
    )
    query, key = _int8(rng, (rows, head_dim)), _int8(rng, (keys, head_dim))
    job = Job(
        query=query,
        positions=positions,
        key=key,
        indices=indices,
        value=key[:, :value_dim] if shared else _int8(rng, (keys, value_dim)),
        scale=_scale(rng),
        threshold=Threshold(tau),
        mask=mask,
        emit_state=bool(rng.random() < 0.3),
        shared=shared,
        tag=int(rng.integers(1 << config.tag_bits)),
    )
    if rng.random() < 0.3:
        return _continued(rng, config, job)
    return job


def _continued(rng: np.random.Generator, config: CoreConfig, job: Job) -> Job:
    """Return `job` as the continuation of its own first keys, or of nothing at all."""
    if job.keys < 2 or rng.random() < 0.1:
        return _replace(job, 0, PartialState.empty(job.rows, job.value_dim))
    cut = int(rng.integers(1, job.keys))
    head = Job(
        job.query, job.positions, job.key[:cut], job.indices[:cut], job.value[:cut], job.scale, job.threshold, job.mask
    )
    return _replace(job, cut, run_job(head, config.lanes).state)


def _replace(job: Job, cut: int, state: PartialState) -> Job:
    """Return the keys of `job` from `cut` on, starting from `state`."""
    return replace(job, key=job.key[cut:], indices=job.indices[cut:], value=job.value[cut:], state=state)
