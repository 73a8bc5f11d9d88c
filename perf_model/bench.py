"""Benchmarks: design points a second of the closed form, core cycles a second of the exact model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from golden.config import preset
from golden.memory import Memory
from perf_model.cycles import JobShape, uniform_cycles
from perf_model.exact import JobList, core_cycles
from perf_model.latency import CoreArrays, Ints

POINTS = 200_000
SINGLE_POINTS = 2_000
REPEATS = 3
SEED = 1


@dataclass(frozen=True)
class Benchmark:
    """Result of a benchmark.

    Parameters
    ----------
    points : int
        Design points evaluated at once, or core cycles followed.
    seconds : float
        Time of the fastest repetition.
    """

    points: int
    seconds: float

    @property
    def points_per_second(self) -> float:
        """Design points, or core cycles, a second."""
        return self.points / self.seconds


def random_points(points: int) -> tuple[CoreArrays, JobShape, Ints]:
    """Return as many random cores, jobs, and how many of each job."""
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
    return core, job, rng.integers(1, 10_000, points)


def run_benchmark(points: int = POINTS) -> Benchmark:
    """Time the cycles of `points` random pairs of a core and a list of equal jobs, by one call, on one processor."""
    core, job, jobs = random_points(points)
    return Benchmark(points, _fastest(lambda: uniform_cycles(core, job, jobs)))


def run_single_benchmark(points: int = SINGLE_POINTS) -> Benchmark:
    """Time the same function on such points when it is called for each of them, on plain Python numbers."""
    singles = one_by_one(random_points(points))
    return Benchmark(points, _fastest(lambda: [uniform_cycles(*point) for point in singles]))


def one_by_one(points: tuple[CoreArrays, JobShape, Ints]) -> list[tuple[Any, ...]]:
    """Return what `random_points` makes as a tuple a point, of plain numbers."""
    core, job, jobs = points
    return list(zip(_split(core), _split(job), jobs.tolist(), strict=True))


def _split(arrays: CoreArrays | JobShape) -> list[CoreArrays | JobShape]:
    """Return a data class of arrays as one of numbers for each of their elements."""
    columns = np.broadcast_arrays(*(getattr(arrays, field.name) for field in fields(arrays)))
    return [type(arrays)(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def run_exact_benchmark(keys: int = 512) -> dict[str, Benchmark]:
    """Time the exact cycles of a head of 512 queries, never stalled and with a memory, compiling left out."""
    blocks = JobShape(rows=np.full(32, 16), keys=keys, head_dim=64, value_dim=64, survivors=keys)
    results = {}
    for title, rate, memory in (
        ("nothing dropped", 1.0, None),
        ("40 % survive", 0.4, None),
        ("40 % survive, 16 bytes a cycle", 0.4, Memory(bandwidth=16, latency=40, outstanding=32)),
    ):
        core, jobs = preset("default"), JobList.of_shape(blocks, rate)
        cycles = core_cycles(core, jobs, memory)
        results[title] = Benchmark(cycles.total, _fastest(partial(core_cycles, core, jobs, memory)))
    return results


def _fastest(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
