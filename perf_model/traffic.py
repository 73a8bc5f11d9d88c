"""Bytes that a job moves on each port of the core, exactly.

A port's bytes are its transfers times the bytes of data that a transfer holds (`golden.config.CoreConfig.beat_bytes`):
whole beats, so the zeros that fill the last beat of a row count. Positions, indices, flags and tags beside the data do
not. A value request counts as the 4 bytes of an index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from golden.config import CoreConfig
from golden.job import Job
from perf_model.cycles import JobShape
from perf_model.latency import STATE_PIECES, ceil_div

PORTS = ("q", "state", "k", "v_req", "v", "o")
"""Ports whose bytes are counted, in the order that data takes."""


def port_transfers(core: CoreConfig, job: JobShape) -> dict[str, Any]:
    """Return the transfers of a job on each port.

    Parameters
    ----------
    core : CoreConfig
        The core.
    job : JobShape
        The job, or arrays of jobs.

    Returns
    -------
    dict of str to int or numpy.ndarray
        Transfers by name of the port. On v_req, a job's end takes a transfer of its own if its last key is dropped, or
        if its values are shared with its keys: then there is no other, and none on v.
    """
    head_beats, value_beats = ceil_div(job.head_dim, core.lanes), ceil_div(job.value_dim, core.lanes)
    output_beats = ceil_div(job.value_dim, core.output_lanes)
    state = job.rows * (1 + output_beats) * STATE_PIECES
    return {
        "q": job.rows * head_beats,
        "state": state * job.from_state,
        "k": job.keys * head_beats,
        "v_req": np.where(job.shared, 1, job.survivors + 1 - job.last_survives),
        "v": job.survivors * value_beats * (1 - np.asarray(job.shared)),
        "o": np.where(job.emit_state, state, job.rows * output_beats),
    }


def port_bytes(core: CoreConfig, job: JobShape) -> dict[str, int]:
    """Return the bytes of a job, or of all the jobs of an array together, on each port of `PORTS`."""
    shape = np.broadcast(job.rows, job.keys, job.survivors, job.emit_state).shape
    return {
        name: int(np.broadcast_to(transfers, shape).sum()) * core.beat_bytes(name)
        for name, transfers in port_transfers(core, job).items()
    }


def job_bytes(core: CoreConfig, job: Job, survivors: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Return the bytes on each port of `job`, whose keys survive as `survivors` says.

    Raises
    ------
    InputError
        If `survivors` is not a truth value for each key.
    """
    return port_bytes(core, JobShape.of_job(job, survivors, core.lanes))
