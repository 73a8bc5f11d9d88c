"""Simulates lists of jobs on a cluster, and measures how busy its cores were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.cluster import ClusterJob, heads_of, run_list
from golden.config import ClusterConfig
from golden.decode_batch import DecodeBatch
from golden.job import JobResult
from rtl.interfaces import ANY_CORE, ArrayUse
from sim.cluster_bench import ClusterRecording
from sim.cluster_testbench import ClusterBatch, ClusterWork
from sim.runner import run_bench
from sim.scoreboard import Expectation
from sim.stimulus import Stimulus, stats_record, stimulus


def cluster_stimulus(entry: ClusterJob, config: ClusterConfig) -> Stimulus:
    """Return the words that carry a job of a cluster's list; InputError if a core can't hold it."""
    words = stimulus(entry.job, config.core)
    words.fields |= {"core": ANY_CORE if entry.core is None else entry.core, "more": int(entry.more)}
    return words


def list_batch(
    config: ClusterConfig,
    listed: Sequence[ClusterJob],
    label: str,
    results: tuple[list[JobResult], list[JobResult]] | None = None,
    **options: Any,
) -> ClusterBatch:
    """Return the batch that streams a list and expects golden's results.

    Parameters
    ----------
    config : ClusterConfig
        The cluster.
    listed : sequence of ClusterJob
        The list.
    label : str
        Names the batch; jobs and heads are named by their numbers.
    results : tuple of list of JobResult, optional
        What golden says of jobs and heads, computed by default.
    **options
        ``stall``, ``latency`` and ``seed`` of `ClusterBatch`.
    """
    of_jobs, of_heads = results or run_list(listed, config.core.lanes)
    return ClusterBatch(
        label,
        [cluster_stimulus(entry, config) for entry in listed],
        [Expectation(f"job {n}", entry.job, of_jobs[n]) for n, entry in enumerate(listed)],
        [Expectation(f"head {n}", head[-1].job, of_heads[n]) for n, head in enumerate(heads_of(listed))],
        **options,
    )


def simulate_lists(config: ClusterConfig, batches: list[ClusterBatch], waves: bool = False) -> list[ClusterRecording]:
    """Run `batches` on the simulated cluster, one after the other, each from reset.

    Returns
    -------
    list of ClusterRecording
        One a batch.

    Raises
    ------
    SimulationError
        If anything differs from what a batch expects, or a stream breaks its rules.
    """
    steps = sum(len(batch.stimuli) for batch in batches)
    return run_bench("sim.cluster_testbench", config, ClusterWork(config, batches), steps, waves, "cluster")


@dataclass(frozen=True)
class ClusterMeasurement:
    """How long a list took on the simulated cluster.

    Parameters
    ----------
    cycles : int
        From the first beat of q to the last beat of o.
    worked : list of int
        Of each core, cycles in which its array worked: uses `QK` and `PV`.
    merges : int
        Times that two states were merged.
    """

    cycles: int
    worked: list[int]
    merges: int

    @property
    def busy(self) -> float:
        """Share of the cores' cycles in which an array worked."""
        return sum(self.worked) / (len(self.worked) * self.cycles)

    @classmethod
    def of(cls, config: ClusterConfig, listed: Sequence[ClusterJob], recording: ClusterRecording) -> ClusterMeasurement:
        """Measure a recorded run of a list."""
        uses = np.array([stats_record(word, config.core)["cycles"] for word in recording.records])
        worked = uses[:, [ArrayUse.QK, ArrayUse.PV]].sum(axis=1)
        return cls(
            recording.traffic["o"].last_cycle - recording.traffic["q"].first_cycle + 1,
            np.bincount(recording.cores, weights=worked, minlength=config.cores).astype(int).tolist(),
            sum(entry.more for entry in listed),
        )


def measure_batch(config: ClusterConfig, batch: DecodeBatch, stall: float = 0.0) -> dict[str, ClusterMeasurement]:
    """Simulate a batch by each rule of `golden.partition`, held to golden bit for bit; return what each took.

    Parameters
    ----------
    config : ClusterConfig
        The cluster.
    batch : DecodeBatch
        The batch.
    stall : float
        Probability that a port is stalled in a cycle.

    Raises
    ------
    InputError
        If a core can't hold a job.
    SimulationError
        If the cluster and golden differ.
    """
    lists = batch.lists(config)
    batches = [list_batch(config, listed, name, stall=stall, seed=batch.seed) for name, listed in lists.items()]
    recordings = simulate_lists(config, batches)
    return {
        name: ClusterMeasurement.of(config, listed, recording)
        for (name, listed), recording in zip(lists.items(), recordings, strict=True)
    }
