"""A cluster: cores that share one list of jobs, and return the heads of the list in its order.

A *head* is one job, or several that follow each other in the list: all but the last say that there is `more`. The jobs
of a head compute the same rows over different keys, on any cores, and their partial states are merged in the order of
the list. So which core runs a job, and when, changes no result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from golden.block import run_job
from golden.errors import InputError
from golden.job import Job, JobResult
from golden.partition import Head, Partition
from golden.split import merge_parts


@dataclass(frozen=True, eq=False)
class ClusterJob:
    """A job of a cluster's list.

    Parameters
    ----------
    job : Job
        The job. Whether its head gives a state or an output is for the head's last job to say.
    core : int, optional
        The core that runs it; one that is free by default.
    more : bool
        The next job of the list belongs to the same head.
    """

    job: Job
    core: int | None = None
    more: bool = False


def heads_of(listed: Iterable[ClusterJob]) -> list[list[ClusterJob]]:
    """Return the jobs of each head of a list.

    Raises
    ------
    InputError
        If the list ends within a head, or the jobs of a head differ in rows or value dimension.
    """
    heads: list[list[ClusterJob]] = []
    more = False
    for number, entry in enumerate(listed):
        if not more:
            heads.append([])
        heads[-1].append(entry)
        more = entry.more
        shapes = {(part.job.rows, part.job.value_dim) for part in heads[-1]}
        if len(shapes) > 1:
            raise InputError(f"job {number} has another number of rows or value dimension than its head's job before")
    if more:
        raise InputError("the list ends within a head: its last job says that there is more")
    return heads


def run_list(listed: Sequence[ClusterJob], lanes: int) -> tuple[list[JobResult], list[JobResult]]:
    """Run a list of jobs.

    Parameters
    ----------
    listed : sequence of ClusterJob
        The list.
    lanes : int
        Keys of a full pack, `CoreConfig.lanes`.

    Returns
    -------
    list of JobResult
        Of every job, as the statistics report it.
    list of JobResult
        Of every head: state and output after the last merge, the other fields over all its jobs.

    Raises
    ------
    InputError
        If the list is not one of whole heads.
    """
    heads = heads_of(listed)
    results = [run_job(entry.job, lanes) for entry in listed]
    following = iter(results)
    merged = []
    for head in heads:
        parts = [next(following) for _ in head]
        whole = replace(head[0].job, state=None)
        merged.append(merge_parts(whole, parts) if len(parts) > 1 else parts[0])
    return results, merged


def list_jobs(partition: Partition, jobs: Mapping[Head, Job]) -> list[ClusterJob]:
    """Return the list of jobs that computes a partition, its workers being the cores.

    Parameters
    ----------
    partition : Partition
        What each core does.
    jobs : Mapping
        The whole job of each head.

    Returns
    -------
    list of ClusterJob
        In the order of `Partition.listed`. `run_list` gives the bits of `Partition.run`.

    Raises
    ------
    InputError
        If heads or numbers of keys are not those of the partition, or a head starts from a state.
    """
    partition.check(jobs)
    if started := [head for head, job in jobs.items() if job.state is not None]:
        raise InputError(f"{started[0]} starts from a state, which a partition can't")
    listed = []
    for core, span in partition.listed():
        job, keys = jobs[span.head], slice(span.first, span.end)
        part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys])
        listed.append(ClusterJob(part, core, more=span.end < job.keys))
    return listed
