"""Random lists of jobs for a cluster: heads of one or several jobs on any cores, good ones and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from golden.block import run_job
from golden.config import ClusterConfig
from golden.job import Job, JobResult
from golden.split import merge_parts
from rtl.interfaces import Status
from sim.cluster_testbench import ClusterBatch
from sim.faults import FAULTS
from sim.random_jobs import random_job
from sim.scoreboard import Expectation
from sim.stimulus import Stimulus, stimulus

PARTS = (1, 1, 1, 2, 3)
"""Numbers of jobs of a head, to choose from."""

STRANGER_SHARE = 0.1
"""Share of the parts that are of another shape than their head."""

NAMED_SHARE = 0.7
"""Share of the jobs that name their core."""


def _parts(rng: np.random.Generator, config: ClusterConfig, max_keys: int, max_beats: int) -> list[Job]:
    """Return the jobs of a head, which share its keys."""
    job = random_job(rng, config.core, max_keys, max_beats)
    cuts = np.sort(rng.choice(np.arange(1, job.keys), min(int(rng.choice(PARTS)), job.keys) - 1, replace=False))
    parts = []
    for keys in np.split(np.arange(job.keys), cuts):
        part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys])
        parts.append(replace(part, tag=int(rng.integers(1 << config.core.tag_bits))))
    # Only the first one starts from the job's state.
    return [parts[0], *(replace(part, state=None) for part in parts[1:])]


def _head(rng: np.random.Generator, parts: list[Expectation], emit_state: bool, label: str) -> Expectation:
    """Return what a head must give whose jobs must give `parts`."""
    last = replace(parts[-1].job, emit_state=emit_state)
    results = [part.result for part in parts if part.result is not None and part.status != Status.PART]
    if len(results) < len(parts):
        return Expectation(label, last, None)
    merged: JobResult = results[0] if len(parts) == 1 else merge_parts(replace(parts[0].job, state=None), results)
    return Expectation(label, last, merged)


def random_list(
    seed: int,
    config: ClusterConfig,
    heads: int,
    faults: Sequence[str] = (),
    max_keys: int = 60,
    max_beats: int = 400,
    **options: float,
) -> ClusterBatch:
    """Return a list of so many heads.

    Parameters
    ----------
    seed : int
        Decides all of it.
    config : ClusterConfig
        The cluster, whose cores give up a job without keys in not too many cycles.
    heads : int
        How many.
    faults : sequence of str
        Kinds of `sim.faults.FAULTS`, no more than heads: of each one job is wrong.
    max_keys, max_beats : int
        How long each head is at most.
    **options
        ``stall`` and ``latency`` of `ClusterBatch`.
    """
    rng = np.random.default_rng(seed)
    stimuli: list[Stimulus] = []
    jobs: list[Expectation] = []
    of_heads: list[Expectation] = []
    fault_of = dict(zip(rng.permutation(heads).tolist(), faults, strict=False))
    for number in range(heads):
        parts = _parts(rng, config, max_keys, max_beats)
        wrong = int(rng.integers(len(parts))) if number in fault_of else None
        before: tuple[int, int] | None = None
        for n, job in enumerate(parts):
            if n and rng.random() < STRANGER_SHARE:
                job = replace(random_job(rng, config.core, max_keys, max_beats), state=None)
            if n == wrong:
                words, expectation = FAULTS[fault_of[number]](rng, config.core, job)
            else:
                words = stimulus(job, config.core)
                expectation = Expectation("good", job, run_job(job, config.core.lanes))
            shape = (words.fields["rows"], words.fields["value_dim"])
            status = expectation.status
            if before not in (None, shape) and status == Status.OK:
                status = Status.PART
            before = shape
            named = rng.random() < NAMED_SHARE
            core = int(rng.integers(0 if named else config.cores, config.cores if named else 256))
            words.fields |= {"core": core, "more": int(n < len(parts) - 1)}
            stimuli.append(words)
            label = f"head {number} job {n} ({expectation.label})"
            jobs.append(Expectation(label, expectation.job, expectation.result, status))
        own = jobs[-len(parts) :]
        of_heads.append(_head(rng, own, bool(stimuli[-1].fields["emit_state"]), f"head {number}"))
    return ClusterBatch(f"seed {seed}", stimuli, jobs, of_heads, seed=seed, **options)
