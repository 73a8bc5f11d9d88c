"""Jobs that are wrong in one way each, and what the core must answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import CoreConfig
from golden.job import Job, JobResult
from golden.state import PartialState, normalise
from rtl import interfaces
from rtl.interfaces import Status
from sim.random_jobs import random_job
from sim.scoreboard import Expectation
from sim.stimulus import Stimulus, stimulus

Fault = tuple[Stimulus, Expectation]


def _field(name: str, status: Status, values: Callable[[CoreConfig], list[int]]) -> Callable[..., Fault]:
    """Return a fault that gives a field of the job a value that it can't have."""

    def fault(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
        stimuli = stimulus(job, config)
        value = int(rng.choice(values(config)))
        stimuli.fields[name] = value
        if name == "window":
            stimuli.fields["mask"] = 2
        return stimuli, Expectation(f"{name} {value}", job, None, status)

    return fault


def _beyond_key(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    stimuli = stimulus(job, config)
    value_dim = job.head_dim + int(rng.integers(1, 20))
    stimuli.fields |= {"shared": 1, "value_dim": value_dim}
    return stimuli, Expectation(f"{value_dim} of {job.head_dim} elements shared", job, None, Status.VALUE_DIM)


def _with_end(words: list[int], last_bit: int, length: int) -> list[int]:
    """Return the first `length` words, repeated as far as needed, with `last` on the last one alone."""
    end = 1 << last_bit
    body = [words[n % len(words)] & ~end for n in range(length)]
    body[-1] |= end
    return body


def _wrong_length(rng: np.random.Generator, length: int) -> int:
    """Return a packet length that is not `length`."""
    shorter = [int(rng.integers(1, length))] if length > 1 else []
    return int(rng.choice([*shorter, length + 1, length + int(rng.integers(2, 20))]))


def _query_length(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    stimuli = stimulus(job, config)
    length = _wrong_length(rng, len(stimuli.query))
    label = f"{length} beats of q, not {len(stimuli.query)}"
    stimuli.query = _with_end(stimuli.query, interfaces.query_layout(config)["last"].offset, length)
    return stimuli, Expectation(label, job, None, Status.QUERY_LENGTH)


def _state_length(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    job = replace(job, state=PartialState.empty(job.rows, job.value_dim))
    stimuli = stimulus(job, config)
    length = _wrong_length(rng, len(stimuli.state))
    label = f"{length} beats of state, not {len(stimuli.state)}"
    stimuli.state = _with_end(stimuli.state, interfaces.state_layout(config)["last"].offset, length)
    return stimuli, Expectation(label, job, None, Status.STATE_LENGTH)


def _of_first_keys(job: Job, keys: int, config: CoreConfig) -> JobResult:
    """Return what `job` gives when only its first `keys` keys arrive, perhaps none."""
    if keys:
        return run_job(
            replace(job, key=job.key[:keys], indices=job.indices[:keys], value=job.value[:keys]), config.lanes
        )
    state = job.state or PartialState.empty(job.rows, job.value_dim)
    return JobResult(normalise(state), state, np.zeros(0, dtype=bool), 0, np.zeros(job.rows, dtype=np.int64), 0)


def _key_early(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    stimuli = stimulus(job, config)
    beats = config.head_beats(job.head_dim)
    length = int(rng.integers(1, max(2, len(stimuli.key))))
    if length == len(stimuli.key):
        # A job of a single beat can't end early; announce one key more than is sent.
        stimuli.fields["keys"] = job.keys + 1
    label = f"{length} beats of k, not {stimuli.fields['keys'] * beats}"
    stimuli.key = _with_end(stimuli.key, interfaces.key_layout(config)["last"].offset, length)
    return stimuli, Expectation(label, job, _of_first_keys(job, length // beats, config), Status.KEY_EARLY)


def _key_late(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    stimuli = stimulus(job, config)
    extra = int(rng.integers(1, 40))
    label = f"{extra} beats of k too many"
    stimuli.key = _with_end(stimuli.key, interfaces.key_layout(config)["last"].offset, len(stimuli.key) + extra)
    return stimuli, Expectation(label, job, run_job(job, config.lanes), Status.KEY_LATE)


def _key_timeout(rng: np.random.Generator, config: CoreConfig, job: Job) -> Fault:
    stimuli = stimulus(job, config)
    length = int(rng.integers(0, len(stimuli.key)))
    label = f"silence after {length} beats of k"
    stimuli.key = [*stimuli.key[:length], None]
    keys = length // config.head_beats(job.head_dim)
    return stimuli, Expectation(label, job, _of_first_keys(job, keys, config), Status.KEY_TIMEOUT)


FAULTS: dict[str, Callable[[np.random.Generator, CoreConfig, Job], Fault]] = {
    "head_dim": _field("head_dim", Status.HEAD_DIM, lambda c: [0, c.max_head_dim + 1, 0xFFFF]),
    "value_dim": _field("value_dim", Status.VALUE_DIM, lambda c: [0, c.max_value_dim + 1, 0xFFFF]),
    "rows": _field("rows", Status.ROWS, lambda c: [0, c.rows + 1, 0xFF]),
    "keys": _field("keys", Status.KEYS, lambda c: [0, c.max_keys + 1, 0xFFFFFF]),
    "mask": _field("mask", Status.MASK, lambda _: [3]),
    "window": _field("window", Status.MASK, lambda _: [0]),
    "tau": _field("tau", Status.TAU, lambda _: [0, formats.TAU_MIN - 1]),
    "epsilon_shift": _field("epsilon_shift", Status.EPSILON, lambda _: [1, formats.EPSILON_SHIFT_MAX]),
    "target": _field("target", Status.TARGET, lambda _: [1, (1 << formats.TARGET_BITS) - 1]),
    "continue_tau": _field("continue_tau", Status.TARGET, lambda _: [1]),
    "shared": _field("shared", Status.SHARED, lambda _: [1]),
    "beyond_key": _beyond_key,
    "query_length": _query_length,
    "state_length": _state_length,
    "key_early": _key_early,
    "key_late": _key_late,
    "key_timeout": _key_timeout,
}
"""Each way in which a job can be wrong."""


def faults_of(config: CoreConfig) -> list[str]:
    """Return the kinds of `FAULTS` that there are on `config`: what an option allows is no fault."""
    impossible = {
        "key_timeout": config.key_timeout == 0,
        "epsilon_shift": config.rows_per_budget > 0,
        "target": config.target_control == 1,
        "continue_tau": config.target_control == 1,
        "shared": config.shared_values == 1,
        "beyond_key": config.shared_values == 0,
    }
    return [kind for kind in FAULTS if not impossible.get(kind)]


def faulty_job(
    rng: np.random.Generator, config: CoreConfig, kind: str, max_keys: int = 60, tau: int | None = None
) -> Fault:
    """Return a job with the fault `kind` of `FAULTS`, and what must come of it; `tau` is as in `random_job`."""
    return FAULTS[kind](rng, config, random_job(rng, config, max_keys, tau=tau))
