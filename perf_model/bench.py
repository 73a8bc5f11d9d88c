"""Benchmark: design points a second of the closed form."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from perf_model.cycles import JobShape, uniform_cycles
from perf_model.latency import CoreArrays

POINTS = 200_000
REPEATS = 3
SEED = 1


@dataclass(frozen=True)
class Benchmark:
    """Result of the benchmark.

    Parameters
    ----------
    points : int
        Design points evaluated at once.
    seconds : float
        Time of the fastest repetition.
    """

    points: int
    seconds: float

    @property
    def points_per_second(self) -> float:
        """Design points a second."""
        return self.points / self.seconds


def run_benchmark(points: int = POINTS) -> Benchmark:
    """Time the cycles of `points` random pairs of a core and a list of equal jobs, by one call, on one processor."""
    rng = np.random.default_rng(SEED)
    rows = 2 ** rng.integers(0, 7, points)
    keys = rng.integers(1, 65536, points)
    core = CoreArrays(
        rows=rows,
        lanes=2 ** rng.integers(2, 7, points),
        output_lanes=2 ** rng.integers(0, 3, points),
        rows_per_scaler=np.minimum(rows, 2 ** rng.integers(0, 4, points)),
    )
    job = JobShape(
        rows=rows,
        keys=keys,
        head_dim=rng.integers(16, 257, points),
        value_dim=rng.integers(16, 257, points),
        survivors=np.maximum(1, (keys * rng.random(points)).astype(np.int64)),
    )
    jobs = rng.integers(1, 10_000, points)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        uniform_cycles(core, job, jobs)
        seconds.append(time.perf_counter() - begin)
    return Benchmark(points, min(seconds))
