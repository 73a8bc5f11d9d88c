"""Random runs: each a function of its seed alone, so that any can be repeated."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.memory import Memory
from sim.core_testbench import Batch
from sim.faults import Fault, faults_of, faulty_job
from sim.random_jobs import left_tau, random_job
from sim.scoreboard import Expectation
from sim.simulate import simulate
from sim.stimulus import stimulus

CONFIGS: dict[str, CoreConfig] = {
    "tiny": PRESETS["tiny"],
    "one row": CoreConfig(
        rows=1,
        lanes=8,
        max_head_dim=8,
        max_value_dim=40,
        max_keys=512,
        output_lanes=8,
        rows_per_scaler=1,
        key_timeout=4000,
        shared_values=1,
        rows_per_budget=2,
    ),
    "few rows": CoreConfig(
        rows=3,
        lanes=4,
        max_head_dim=20,
        max_value_dim=8,
        max_keys=1024,
        output_lanes=2,
        rows_per_scaler=1,
        tag_bits=3,
        key_timeout=3000,
        rows_per_budget=0,
        target_control=0,
    ),
    "unequal": CoreConfig(
        rows=6,
        lanes=8,
        max_head_dim=24,
        max_value_dim=56,
        max_keys=4096,
        output_lanes=4,
        rows_per_scaler=3,
        score_slots=64,
        key_timeout=0,
        shared_values=1,
        rows_per_budget=5,
    ),
    "long rows": CoreConfig(
        rows=2,
        lanes=32,
        max_value_dim=32,
        output_lanes=16,
        score_slots=128,
        target_control=0,
    ),
    "small": PRESETS["small"],
    "default": PRESETS["default"],
}
"""Cores that random runs choose from: presets, and others whose every parameter differs."""

FAULT_SHARE = 0.15
STALLS = (0.0, 0.1, 0.5, 0.8)
TIMEOUT_MAX = 5000
"""Longest timeout that a run waits for."""

MAX_BEATS = 1500
"""Beats of keys of a job that is not stalled; the more stalls, the shorter the jobs."""


def _random_fault_or_job(rng: np.random.Generator, config: CoreConfig, stall: float, tau: int) -> Fault:
    if rng.random() < FAULT_SHARE:
        kinds = [kind for kind in faults_of(config) if kind != "key_timeout" or config.key_timeout <= TIMEOUT_MAX]
        return faulty_job(rng, config, str(rng.choice(kinds)), tau=tau)
    job = random_job(rng, config, int(rng.choice([20, 100, 400])), int(MAX_BEATS * (1 - stall)), tau)
    return stimulus(job, config), Expectation("job", job, run_job(job, config.lanes))


def random_run(seed: int, only: str | None = None) -> tuple[str, Batch]:
    """Return the run that `seed` stands for.

    Parameters
    ----------
    seed : int
        Decides the core, the jobs and the stalls.
    only : str, optional
        Choose this core of `CONFIGS` instead.

    Returns
    -------
    str
        Name of the core.
    Batch
        Up to 8 jobs back to back, some of them faulty, with random stalls and latency.
    """
    rng = np.random.default_rng(seed)
    chosen = str(rng.choice(list(CONFIGS)))
    name = only or chosen
    config = CONFIGS[name]
    stall = float(rng.choice(STALLS))
    stimuli, expectations = [], []
    tau = formats.TAU_KEEP_ALL
    for n in range(int(rng.integers(1, 9))):
        words, expectation = _random_fault_or_job(rng, config, stall, tau)
        if expectation.result is not None:
            tau = left_tau(expectation.job, expectation.result)
        stimuli.append(words)
        expectations.append(
            Expectation(f"job {n} ({expectation.label})", expectation.job, expectation.result, expectation.status)
        )
    batch = Batch(
        f"seed {seed} on core '{name}'",
        stimuli,
        expectations,
        stall=stall,
        memory=Memory(latency=int(rng.choice([1, 2, 7, 60]))),
        seed=seed,
    )
    return name, batch


def soak(seeds: range, only: str | None = None) -> dict[str, int]:
    """Simulate the runs of `seeds`, grouped by core.

    Returns
    -------
    dict of str to int
        Runs of each core.

    Raises
    ------
    SimulationError
        At the first run that fails; its message names the seed.
    """
    runs: dict[str, list[Batch]] = defaultdict(list)
    for seed in seeds:
        name, batch = random_run(seed, only)
        runs[name].append(batch)
    for name, batches in runs.items():
        simulate(CONFIGS[name], batches)
    return {name: len(batches) for name, batches in runs.items()}
