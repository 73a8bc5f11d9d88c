"""The jobs of a layer that has run, each with which of its keys were kept: what the cycles of a core depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden.attended import Attended
from golden.config import CoreConfig
from golden.errors import InputError
from golden.job import Job
from golden.plan import plan_jobs


def require_kept(attended: Attended, config: CoreConfig) -> np.ndarray:
    """Return which keys each block kept; InputError if the layer ran without ``keep`` or on a core of other rows."""
    if attended.kept is None:
        raise InputError("the layer ran without keep=True, so nobody knows which keys it kept")
    if attended.rows != config.rows:
        raise InputError(f"the layer ran in blocks of {attended.rows} rows, not of {config.rows}")
    return attended.kept


def kept_jobs(attended: Attended, config: CoreConfig) -> list[tuple[Job, np.ndarray]]:
    """Return the jobs of a layer in their order, with which of their keys were kept.

    Parameters
    ----------
    attended : Attended
        The layer, run by `golden.fast.attend` with ``keep=True``.
    config : CoreConfig
        The core that it ran on.

    Returns
    -------
    list of tuple
        Each job, with the threshold that it had, and the survivors of it: bool, shape (keys,).

    Raises
    ------
    InputError
        If the layer was run without ``keep`` or on a core of other rows.
    """
    kept = require_kept(attended, config)
    attention = attended.attention
    plan = plan_jobs(attention, config, attended.mask, attended.threshold, attended.block_mask)
    kept, taus = kept.reshape(len(plan), -1), attended.tau.reshape(-1)
    pairs = []
    for planned, row, tau in zip(plan, kept, taus, strict=True):
        job = replace(planned.job, threshold=replace(planned.job.threshold, tau=int(tau)))
        pairs.append((job, row[np.searchsorted(attention.indices, job.indices)]))
    return pairs
