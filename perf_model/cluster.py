"""Cycles of a list of jobs on a cluster, equal to the RTL's, if the host and the cores' memories never stall.

What is followed is the control of all the cores and of what they share (`perf_model.cluster_timing`): a job waits for
the jobs before it in the list and for room in front of its core, and what a core has done waits for its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden.cluster import ClusterJob, heads_of
from golden.config import ClusterConfig
from golden.memory import Memory
from perf_model import latency
from perf_model.cluster_timing import CLUSTER, LISTED, run_cluster
from perf_model.core_timing import PV, QK
from perf_model.exact import Bools, JobList, core_record, memory_record, record
from perf_model.latency import Ints


@dataclass(frozen=True, eq=False)
class ClusterCycles:
    """What a list of jobs takes on a cluster.

    Parameters
    ----------
    total : int
        Cycles from the first beat of q to the last beat of o.
    uses : numpy.ndarray
        Cycles of each use of the array (`perf_model.core_timing.USES`) in each job's statistics record, in the order of
        the list, int64, shape (jobs, uses). A record counts from the one before of the same core.
    cores : numpy.ndarray
        The core that ran each job, int64, shape (jobs,).
    left : numpy.ndarray
        The cycle in which the last beat of each job's packet left its core, the first beat of q being in cycle 1;
        int64, shape (jobs,).
    """

    total: int
    uses: Ints
    cores: Ints
    left: Ints

    def busy(self, cores: int) -> float:
        """Return the share of the cycles of so many cores, from first to last, in which an array worked."""
        return float(self.uses[:, [QK, PV]].sum() / (cores * self.total))


def cluster_cycles(config: ClusterConfig, listed: Sequence[ClusterJob], survivors: Sequence[Bools]) -> ClusterCycles:
    """Return the cycles of a list of jobs on a cluster that comes from reset.

    Parameters
    ----------
    config : ClusterConfig
        The cluster, whose cores must be able to hold the jobs.
    listed : sequence of ClusterJob
        The list.
    survivors : sequence of numpy.ndarray
        Which keys of each job survive (`golden.job.JobResult`), bool.

    Raises
    ------
    InputError
        If the list is not one of whole heads.
    """
    core = config.core
    within = [part for head in heads_of(listed) for part in [len(head) > 1] * len(head)]
    jobs = [
        replace(entry.job, emit_state=entry.job.emit_state or part) for entry, part in zip(listed, within, strict=True)
    ]
    job_list = JobList.of_jobs(jobs, survivors, core.lanes)
    table = np.empty(len(listed), dtype=LISTED)
    for name, values in (
        ("core", [-1 if entry.core is None else entry.core for entry in listed]),
        ("more", [entry.more for entry in listed]),
        ("emit_state", [entry.job.emit_state for entry in listed]),
        ("rows", [entry.job.rows for entry in listed]),
        ("value_dim", [entry.job.value_dim for entry in listed]),
    ):
        table[name] = values
    cluster = record(
        CLUSTER,
        cores=config.cores,
        queue_jobs=config.queue_jobs,
        queue_beats=config.queue_beats,
        turns=config.cores * (config.queue_jobs + latency.IN_CORE),
        output_lanes=core.output_lanes,
        pieces=latency.STATE_PIECES,
        merge=latency.MERGE_STAGES,
        divider=latency.DIVIDER_LATENCY,
        passes=latency.DIVIDER_PASSES,
        stages=latency.QUOTIENT_BITS // latency.DIVIDER_PASSES,
        room=latency.MERGE_FIFO_DEPTH - latency.STATE_PIECES,
    )
    return ClusterCycles(
        *run_cluster(
            core_record(core), memory_record(core, Memory()), cluster, table, job_list.table(core), job_list.survivors
        )
    )
