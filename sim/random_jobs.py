"""Random jobs that reach the corners: every dimension, mask, threshold and state; saturating and masked rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import CoreConfig
from golden.job import Job, JobResult, ScoreScale
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


def _threshold(rng: np.random.Generator, config: CoreConfig) -> Threshold:
    """Return a threshold of any kind that `config` has."""
    tau, shift, target = formats.TAU_KEEP_ALL, 0, 0
    if rng.random() < 0.7:
        tau = int(rng.integers(formats.TAU_MIN, 13 << formats.FRACTION_BITS))
    if config.rows_per_budget and rng.random() < 0.4:
        # The smaller tau is, the more is up to the bound.
        shift = int(rng.integers(1, formats.EPSILON_SHIFT_MAX + 1))
        tau = tau if rng.random() < 0.3 else formats.TAU_MIN
    if config.target_control and rng.random() < 0.4:
        target = int(rng.integers(1, 1 << formats.TARGET_BITS))
    return Threshold(tau, shift, target)


def left_tau(job: Job, result: JobResult) -> int:
    """Return the tau that `job`, of which `result` is what came, leaves to the next."""
    return job.threshold.after(int(result.survivors.sum()), len(result.survivors)).tau


def random_job(
    rng: np.random.Generator,
    config: CoreConfig,
    max_keys: int = 300,
    max_beats: int = 2000,
    tau: int | None = None,
) -> Job:
    """Return a random job that `config` can hold.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides all.
    config : CoreConfig
        The core.
    max_keys, max_beats : int
        Keys and beats of keys that it has at most.
    tau : int, optional
        What the job before leaves, from which this one may go on; by default it does not.
    """
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
    threshold = _threshold(rng, config)
    continues = tau is not None and config.target_control == 1 and rng.random() < 0.4
    query, key = _int8(rng, (rows, head_dim)), _int8(rng, (keys, head_dim))
    job = Job(
        query=query,
        positions=positions,
        key=key,
        indices=indices,
        value=key[:, :value_dim] if shared else _int8(rng, (keys, value_dim)),
        scale=_scale(rng),
        threshold=replace(threshold, tau=tau) if continues else threshold,
        mask=mask,
        emit_state=bool(rng.random() < 0.3),
        shared=shared,
        continue_tau=continues,
        tag=int(rng.integers(1 << config.tag_bits)),
    )
    if rng.random() < 0.3:
        return _continued(rng, config, job)
    return job


def random_jobs(
    rng: np.random.Generator, config: CoreConfig, count: int, max_keys: int = 300, max_beats: int = 2000
) -> list[Job]:
    """Return random jobs for a core that has just been reset, some of which go on from the tau of the one before."""
    jobs: list[Job] = []
    tau = formats.TAU_KEEP_ALL
    for _ in range(count):
        jobs.append(random_job(rng, config, max_keys, max_beats, tau))
        tau = left_tau(jobs[-1], run_job(jobs[-1], config.lanes))
    return jobs


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
