"""Budgets under an error bound: every verdict against golden's masses, whatever the gaps, and when it appears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rtl_bench import idle, trace

from golden import formats
from golden.block import mass_above, mass_below
from golden.config import CoreConfig
from rtl.error_bound import ErrorBound, bound_latency

BIT = 1 << formats.FRACTION_BITS
FURTHEST = 1 << formats.SCORE_BITS
Key = dict[str, Any]


def config_of(rows: int, share: int, max_keys: int = 1 << 16) -> CoreConfig:
    return CoreConfig(rows=rows, lanes=4, max_keys=max_keys, rows_per_scaler=1, rows_per_budget=share)


def random_keys(rng: np.random.Generator, rows: int, count: int) -> list[Key]:
    """Return keys of one job. A key that raises a maximum lies within a bit of it, and one that does so is kept."""
    keys: list[Key] = []
    scale = float(rng.choice([2, 6, 20]))
    for n in range(count):
        growth = np.zeros(rows, dtype=np.int64)
        distance = np.minimum(rng.exponential(scale * BIT, rows).astype(np.int64) + BIT, FURTHEST)
        if n == 0 or rng.random() < 0.1:
            grown = rng.random(rows) < 0.6
            growth[grown] = rng.choice([0, 1, 2, 5, 31, 32, 33, 63], int(grown.sum()))
            distance[grown] = rng.integers(0, BIT, int(grown.sum()))
        allowed = rng.random(rows) < 0.9
        distance = np.where(rng.random(rows) < 0.05, FURTHEST, distance)
        near = bool((distance[allowed] < BIT).any() or rng.random() < 0.05)
        # What a masked row carries must not count; its maximum does not grow.
        distance[~allowed], growth[~allowed] = rng.integers(0, 2 * FURTHEST, int((~allowed).sum())), 0
        keys.append({"distances": distance.tolist(), "growths": growth.tolist(), "allowed": allowed, "near": near})
    return keys


def verdicts(keys: list[Key], epsilon_shift: int) -> list[bool]:
    """Return whether golden keeps each key."""
    budget = [0] * len(keys[0]["distances"])
    kept = []
    for key in keys:
        rows = np.flatnonzero(key["allowed"]).tolist()
        keep = key["near"]
        for i in rows:
            budget[i] >>= key["growths"][i]
            keep |= mass_above(key["distances"][i], epsilon_shift) > budget[i]
        for i in rows:
            distance = key["distances"][i]
            budget[i] += mass_below(distance) if keep else -mass_above(distance, epsilon_shift)
        assert min(budget) >= 0
        kept.append(bool(keep))
    return kept


def judge(jobs: list[tuple[list[Key], int]], config: CoreConfig, gaps: list[int]) -> dict[int, int]:
    """Return the verdicts by their cycle, from the first start on; `gaps` are idle cycles between keys."""
    share = config.rows_per_budget
    noise_rows = [{"allowed": 1, "distance": FURTHEST, "growth": 0}] * config.rows
    stimulus: list[dict[str, Any]] = [{"coming": noise_rows}]
    near: dict[int, int] = {}
    waits = iter(gaps)
    for keys, epsilon_shift in jobs:
        for n, key in enumerate(keys):
            fields = zip(key["allowed"], key["distances"], key["growths"], strict=True)
            rows = [{"allowed": int(allowed), "distance": far, "growth": growth} for allowed, far, growth in fields]
            held = {"rows": rows, "first": int(n == 0), "epsilon_shift": epsilon_shift}
            near[len(stimulus) + share] = int(key["near"])
            stimulus[-1] = stimulus[-1] | {"coming": rows}
            stimulus += [held | {"start": int(cycle == 0), "coming": noise_rows} for cycle in range(share)]
            noise = {"rows": noise_rows, "first": 1, "epsilon_shift": 15, "near": 1, "coming": noise_rows}
            stimulus += [noise] * next(waits)
    stimulus += idle(1)
    stimulus = [ports | {"near": near.get(cycle, 1)} for cycle, ports in enumerate(stimulus)]
    seen = trace(ErrorBound(config), stimulus, ("done", "keep"))
    return {cycle: keep for cycle, (done, keep) in enumerate(seen, start=-1) if done}


@pytest.mark.parametrize("gaps", ["none", "random"])
@pytest.mark.parametrize(("rows", "share", "max_keys"), [(3, 2, 1 << 16), (5, 3, 16), (2, 5, 1 << 20)])
def test_every_verdict_is_golden_s_so_many_cycles_later(rows: int, share: int, max_keys: int, gaps: str):
    config, rng = config_of(rows, share, max_keys), np.random.default_rng([rows, share])
    jobs = [
        (random_keys(rng, rows, int(rng.integers(1, min(50, max_keys)))), int(rng.integers(1, 16))) for _ in range(12)
    ]
    count = sum(len(keys) for keys, _ in jobs)
    waits = rng.integers(0, 5, count).tolist() if gaps == "random" else [0] * count
    expected = [keep for job in jobs for keep in verdicts(*job)]
    assert {True, False} == set(expected)
    seen = judge(jobs, config, waits)
    assert list(seen.values()) == [int(keep) for keep in expected]
    starts = np.cumsum([0, *(share + wait for wait in waits[:-1])])
    # The verdict is at its register a cycle later, so this is `bound_latency` later than without a bound.
    assert list(seen) == (starts + share).tolist()
    assert bound_latency(config) == share - 1


def test_every_weight_is_golden_s_under_every_bound():
    """A budget of one key, and then keys at one distance for as long as they fit, or longer."""
    config = config_of(1, 2)
    row = {"growths": [0], "allowed": np.array([True])}
    jobs = []
    for epsilon_shift in range(1, formats.EPSILON_SHIFT_MAX + 1):
        for distance in [*range(BIT + epsilon_shift, 20 * BIT, 111), 31 * BIT, 40 * BIT + 63, FURTHEST - 1, FURTHEST]:
            ample = {**row, "distances": [0], "near": True}
            jobs.append(([ample, *[{**row, "distances": [distance], "near": False}] * 4], epsilon_shift))
    seen = judge(jobs, config, [0] * sum(len(keys) for keys, _ in jobs))
    assert list(seen.values()) == [int(keep) for job in jobs for keep in verdicts(*job)]


@pytest.mark.parametrize("growth", [0, 1, 31, 32, 63])
def test_a_budget_shrinks_with_the_growth_of_its_row_alone(growth: int):
    config, both = config_of(2, 2), np.array([True, True])
    rich = [{"distances": [0, 0], "growths": [0, 0], "allowed": both, "near": True}] * 4
    grows = {"distances": [5, 2000], "growths": [growth, 0], "allowed": both, "near": True}
    # Only row 0 is asked, then only row 1.
    asks = [
        {"distances": [100, 100], "growths": [0, 0], "allowed": np.array(allowed), "near": False}
        for allowed in ([True, False], [False, True], [True, False])
    ]
    keys = [*rich, grows, *asks]
    for epsilon_shift in (1, 2, 3):
        expected = verdicts(keys, epsilon_shift)
        assert list(judge([(keys, epsilon_shift)], config, [0] * len(keys)).values()) == [int(k) for k in expected]
