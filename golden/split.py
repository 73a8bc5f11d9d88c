"""One job as several parts: what many cores, or one core after another, make of a list of keys.

Every part streams its own keys and starts from nothing; the partial states are merged in the order of the parts (Lean
Attention, arXiv 2405.10480). Over the reals that is the same softmax. In the core's arithmetic it is not to the last
bit, because probabilities are rounded relative to the running maximum of their own part and every rescaling rounds
down. How far can outputs drift apart? In units of a probability, for n kept keys in P parts:

* a key's probability is at most 1 from its weight, and later shifts only shrink that: n in all;
* the rescalings of a part lose less than 1/2 + 1/4 + ... + 1, below 2, of the sum l, and each merge less than 1. The
  same holds for an element of O.

So l is off by less than ``n + f`` and O by less than ``(n + f) * vmax``, with f = 2 for the whole and 3 P for the parts
and vmax the largest magnitude in V, at least 1. The quotient of two numbers that are off by that is off by less than
``2 * (n + f) * vmax / l``, and both outputs are rounded to ``2**-OUTPUT_FRACTION_BITS``. With nothing dropped, the
outputs of the whole and of the parts therefore differ by less than::

    (4 * n + 4 + 6 * P) * vmax / min(l_whole, l_parts) + 2**-OUTPUT_FRACTION_BITS

A part's running maximum is never above that of the whole, so the parts keep every key that the whole keeps. Where a
threshold does drop keys, the difference grows by at most `golden.certificate.Certificate.output_error` of both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from golden.block import run_job
from golden.errors import InputError
from golden.job import Job, JobResult
from golden.state import PartialState, merge, normalise


def run_split(job: Job, lanes: int, cuts: Sequence[int]) -> JobResult:
    """Run the keys of a job as separate parts and merge their states in order.

    Parameters
    ----------
    job : Job
        The job; a state that it starts from is merged before the first part.
    lanes : int
        Keys of a full pack, `CoreConfig.lanes`.
    cuts : sequence of int
        Where a new part begins: rising, from 1 to ``job.keys - 1``. None at all makes one part.

    Returns
    -------
    JobResult
        State and output after the last merge, the other fields over all parts.

    Raises
    ------
    InputError
        If the cuts do not rise within that range.
    """
    bounds = [0, *cuts, job.keys]
    if any(after <= before for before, after in pairwise(bounds)):
        raise InputError(f"cuts must rise from 1 to {job.keys - 1}, not {list(cuts)}")
    results = []
    for first, end in pairwise(bounds):
        keys = slice(first, end)
        part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys], state=None)
        results.append(run_job(part, lanes))
    return merge_parts(job, results)


def merge_parts(job: Job, results: Sequence[JobResult]) -> JobResult:
    """Merge what the parts of a job returned, in their order.

    Parameters
    ----------
    job : Job
        The whole job; a state that it starts from is merged before the first part.
    results : sequence of JobResult
        Of the parts, by rising key.

    Returns
    -------
    JobResult
        State and output after the last merge, the other fields over all parts.
    """
    state = job.state or PartialState.empty(job.rows, job.value_dim)
    for result in results:
        state = merge(state, result.state)
    return JobResult(
        output=normalise(state),
        state=state,
        survivors=np.concatenate([result.survivors for result in results]),
        packs=sum(result.packs for result in results),
        dropped=np.sum([result.dropped for result in results], axis=0),
        saturated=sum(result.saturated for result in results),
    )
