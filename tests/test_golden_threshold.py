"""Which keys survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_cases import LANES, TAUS, exact_logits, jobs
from hypothesis import given
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.errors import InputError
from golden.job import threshold_from_bits


@given(jobs(), LANES, TAUS)
def test_a_larger_threshold_keeps_every_key_that_a_smaller_one_keeps(job, lanes, other):
    smaller, larger = (run_job(replace(job, tau=tau), lanes) for tau in sorted((job.tau, other)))
    assert not np.any(smaller.survivors & ~larger.survivors)
    assert np.all(smaller.dropped >= larger.dropped)
    assert np.array_equal(smaller.state.maximum, larger.state.maximum)


@given(jobs(taus=st.just(formats.TAU_KEEP_ALL)), LANES)
def test_keep_all_keeps_the_keys_that_some_row_may_attend_to_and_no_other(job, lanes):
    result = run_job(job, lanes)
    assert np.array_equal(result.survivors, job.mask.allowed(job.positions, job.indices).any(axis=0))
    assert not result.dropped.any()


@given(jobs(), LANES)
def test_the_largest_logit_of_every_row_survives(job, lanes):
    result = run_job(job, lanes)
    logits = exact_logits(job)
    seen = np.isfinite(logits.max(axis=1))
    # Under a starting maximum that no key reaches, any of them may go.
    reached = np.ceil(logits.max(axis=1)) >= (formats.NO_MAXIMUM if job.state is None else job.state.maximum)
    assert result.survivors[logits.argmax(axis=1)[seen & reached]].all()


@given(jobs(), st.sampled_from([4, 16]))
def test_survivors_do_not_depend_on_the_lanes(job, lanes):
    assert np.array_equal(run_job(job, lanes).survivors, run_job(job, 8).survivors)


@given(jobs(), LANES)
def test_packs_and_dropped_count_the_survivors(job, lanes):
    result = run_job(job, lanes)
    assert result.packs == -(-int(result.survivors.sum()) // lanes)
    allowed = job.mask.allowed(job.positions, job.indices)
    assert np.array_equal(result.dropped, (allowed & ~result.survivors).sum(axis=1))


def test_thresholds_in_bits():
    assert threshold_from_bits(None) == formats.TAU_KEEP_ALL
    assert threshold_from_bits(1) == formats.TAU_MIN
    assert threshold_from_bits(4.5) == 288


@pytest.mark.parametrize("tau", [0.9, -3.0, float("nan"), float("inf"), 1024.0])
def test_thresholds_out_of_range_are_refused(tau):
    with pytest.raises(InputError, match="tau must be from 1"):
        threshold_from_bits(tau)
