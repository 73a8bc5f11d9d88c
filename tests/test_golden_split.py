"""A job in parts against the whole job."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_cases import LANES, jobs
from hypothesis import given
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.certificate import Certificate
from golden.errors import InputError
from golden.job import Job, JobResult, ScoreScale
from golden.split import run_split
from golden.state import merge

KEEP_ALL = st.just(formats.TAU_KEEP_ALL)


def draw_cuts(data: st.DataObject, job: Job) -> list[int]:
    cuts = st.integers(1, max(job.keys - 1, 1))
    return sorted(data.draw(st.sets(cuts, max_size=5 if job.keys > 1 else 0)))


def rounding_bound(job: Job, whole: JobResult, split: JobResult, parts: int) -> np.ndarray:
    """Return the bound in the documentation of golden.split, shape (rows,)."""
    kept = (job.mask.allowed(job.positions, job.indices) & split.survivors).sum(axis=1)
    peak = max(int(np.abs(job.value.astype(np.int64)).max()), 1)
    total = np.maximum(np.minimum(whole.state.total, split.state.total), 1)
    return (4 * kept + 4 + 6 * parts) * peak / total + 2.0**-formats.OUTPUT_FRACTION_BITS


def difference(whole: JobResult, split: JobResult) -> np.ndarray:
    apart = np.abs(whole.output.astype(np.int64) - split.output).max(axis=1)
    return apart / 2.0**formats.OUTPUT_FRACTION_BITS


@given(jobs(taus=KEEP_ALL), LANES, st.data())
def test_parts_equal_the_whole_within_their_rounding(job, lanes, data):
    cuts = draw_cuts(data, job)
    whole, split = run_job(job, lanes), run_split(job, lanes, cuts)
    assert np.array_equal(split.state.maximum, whole.state.maximum)
    assert np.array_equal(split.empty, whole.empty)
    assert np.all(difference(whole, split) < rounding_bound(job, whole, split, len(cuts) + 1))


@given(jobs(with_state=False), LANES, st.data())
def test_with_a_threshold_both_certificates_bound_the_rest(job, lanes, data):
    cuts = draw_cuts(data, job)
    whole, split = run_job(job, lanes), run_split(job, lanes, cuts)
    bound = rounding_bound(job, whole, split, len(cuts) + 1)
    for result in (whole, split):
        bound += Certificate.of(job, result).output_error(result.state.total, job.value)
    assert np.all(difference(whole, split) < bound)


@given(jobs(with_state=False), LANES, st.data())
def test_parts_keep_every_key_that_the_whole_keeps(job, lanes, data):
    split = run_split(job, lanes, draw_cuts(data, job))
    whole = run_job(job, lanes)
    assert not np.any(whole.survivors & ~split.survivors)
    assert np.all(split.dropped <= whole.dropped)


@given(jobs(with_state=False), LANES)
def test_without_a_cut_it_is_the_whole_to_the_bit(job, lanes):
    whole, split = run_job(job, lanes), run_split(job, lanes, [])
    assert split.state == whole.state
    for name in ("output", "survivors", "packs", "dropped", "saturated"):
        assert np.array_equal(getattr(split, name), getattr(whole, name)), name


@given(jobs(max_keys=30).filter(lambda job: job.keys > 2), LANES)
def test_parts_are_jobs_of_their_own_merged_in_order(job, lanes):
    def part(keys: slice) -> JobResult:
        own = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys], state=None)
        return run_job(own, lanes)

    first, second, third = part(slice(0, 1)), part(slice(1, 2)), part(slice(2, None))
    state = first.state if job.state is None else merge(job.state, first.state)
    split = run_split(job, lanes, [1, 2])
    assert split.state == merge(merge(state, second.state), third.state)
    assert split.packs == first.packs + second.packs + third.packs
    assert split.saturated == first.saturated + second.saturated + third.saturated
    assert np.array_equal(split.dropped, first.dropped + second.dropped + third.dropped)


@pytest.mark.parametrize("cuts", [[0], [4], [2, 2], [3, 1], [-1]])
def test_cuts_that_do_not_rise_inside_the_job_are_refused(cuts):
    job = Job(
        query=np.ones((1, 1), dtype=np.int8),
        positions=np.zeros(1, dtype=np.int64),
        key=np.ones((4, 1), dtype=np.int8),
        indices=np.arange(4, dtype=np.int64),
        value=np.ones((4, 1), dtype=np.int8),
        scale=ScoreScale(1, 0),
    )
    with pytest.raises(InputError, match="cuts must rise from 1 to 3"):
        run_split(job, 4, cuts)
