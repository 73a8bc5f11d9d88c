"""What the stages of the core must make of a job on the way to golden's result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import CoreConfig
from golden.job import Job, JobResult
from golden.state import PartialState
from sim.random_jobs import random_job


def round_half_up(value: Fraction) -> int:
    """Return the nearest integer, the upper one of two."""
    return math.floor(value + Fraction(1, 2))


@dataclass(frozen=True)
class PackPieces:
    """A pack: its keys, and each row's maximum at its closing and growth since the one before."""

    keys: list[int]
    last: bool
    maxima: list[int]
    deltas: list[int]


@dataclass(frozen=True)
class JobPieces:
    """A job cut into what passes between components.

    Parameters
    ----------
    job : Job
        The job.
    result : JobResult
        Golden's result.
    logits : numpy.ndarray
        Saturated logits, int64, shape (rows, keys).
    saturated, allowed : numpy.ndarray
        Which logits saturated; which the mask allows; bool, shape (rows, keys).
    maxima : numpy.ndarray
        Each row's running maximum including a key, int64, shape (rows, keys).
    packs : list of PackPieces
        The packs in order; the last may be empty.
    """

    job: Job
    result: JobResult
    logits: np.ndarray
    saturated: np.ndarray
    allowed: np.ndarray
    maxima: np.ndarray
    packs: list[PackPieces]

    @property
    def start(self) -> PartialState:
        """The state that the job starts from."""
        return self.job.state or PartialState.empty(self.job.rows, self.job.value_dim)

    def probabilities(self, pack: PackPieces) -> np.ndarray:
        """Return the probabilities of a pack's keys, int64, shape (rows, keys of the pack)."""
        weights = np.zeros((self.job.rows, len(pack.keys)), dtype=np.int64)
        for i, slot in np.argwhere(self.allowed[:, pack.keys]):
            distance = (pack.maxima[i] << formats.FRACTION_BITS) - int(self.logits[i, pack.keys[slot]])
            weights[i, slot] = formats.probability(distance)
        return weights

    def sums(self, pack: PackPieces) -> np.ndarray:
        """Return what the array adds to O for a pack, int64, shape (rows, value_dim)."""
        return self.probabilities(pack) @ self.job.value[pack.keys].astype(np.int64)


def dissect(job: Job, lanes: int) -> JobPieces:
    """Return the pieces of `job`, which must add up to golden's result."""
    result = run_job(job, lanes)
    factor = Fraction(job.scale.multiplier, 1 << job.scale.shift)
    scores = job.query.astype(np.int64) @ job.key.T.astype(np.int64)
    rounded = np.array([[round_half_up(int(score) * factor) for score in row] for row in scores], dtype=object)
    logits = np.clip(rounded, formats.SCORE_MIN, formats.SCORE_MAX).astype(np.int64)
    allowed = job.mask.allowed(job.positions, job.indices)
    start = job.state or PartialState.empty(job.rows, job.value_dim)
    ceilings = np.where(allowed, -(-logits >> formats.FRACTION_BITS), formats.NO_MAXIMUM)
    maxima = np.maximum(np.maximum.accumulate(ceilings, axis=1), start.maximum[:, None])

    packs = []
    keys, before = [], start.maximum
    for j in range(job.keys):
        keys += [j] if result.survivors[j] else []
        if len(keys) == lanes or j == job.keys - 1:
            deltas = np.minimum(maxima[:, j] - before, formats.DELTA_MAX)
            packs.append(PackPieces(keys, j == job.keys - 1, maxima[:, j].tolist(), deltas.tolist()))
            keys, before = [], maxima[:, j]
    pieces = JobPieces(job, result, logits, (logits != rounded) & allowed, allowed, maxima, packs)
    _check(pieces)
    return pieces


def _check(pieces: JobPieces) -> None:
    total, accumulator = pieces.start.total, pieces.start.accumulator
    for pack in pieces.packs:
        deltas = np.array(pack.deltas)
        total = (total >> deltas) + pieces.probabilities(pack).sum(axis=1)
        accumulator = (accumulator >> deltas[:, None]) + pieces.sums(pack)
    result = pieces.result
    assert PartialState(pieces.maxima[:, -1], total, accumulator) == result.state
    assert int(pieces.saturated.sum()) == result.saturated
    assert sum(bool(pack.keys) for pack in pieces.packs) == result.packs


def random_pieces(seed: int, config: CoreConfig, count: int, max_keys: int = 60) -> list[JobPieces]:
    """Return the pieces of `count` random jobs."""
    rng = np.random.default_rng(seed)
    return [dissect(random_job(rng, config, max_keys), config.lanes) for _ in range(count)]


def column(ctx: int, job: Job, key: int) -> dict[str, int]:
    """Return the fields of the column of a job's key."""
    return {
        "ctx": ctx,
        "index": int(job.indices[key]),
        "first": int(key == 0),
        "last": int(key == job.keys - 1),
        "void": 0,
    }


def bits(flags: np.ndarray) -> int:
    """Return flags as the bits of an integer, the first lowest."""
    return sum(1 << n for n, flag in enumerate(flags) if flag)


def padded(values: np.ndarray | list[int], config: CoreConfig, filler: int = 0) -> list[int]:
    """Return a value for each row of the core, `filler` for the rows that the job doesn't use."""
    values = [int(value) for value in values]
    return values + [filler] * (config.rows - len(values))


def verdict(pieces: JobPieces, ctx: int, key: int, config: CoreConfig) -> dict[str, Any]:
    """Return the fields of the verdict on a job's key."""
    return {
        "column": column(ctx, pieces.job, key),
        "keep": int(pieces.result.survivors[key]),
        "allowed": bits(pieces.allowed[:, key]),
        "saturated": bits(pieces.saturated[:, key]),
        "logits": padded(pieces.logits[:, key], config),
        "maxima": padded(pieces.maxima[:, key], config, formats.NO_MAXIMUM),
    }
