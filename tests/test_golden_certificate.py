"""The certified bounds against exact softmax over the same logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_cases import EPSILON_SHIFTS, LANES, exact_weights, jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.certificate import Certificate
from golden.errors import InputError
from golden.job import Job, JobResult, ScoreScale
from golden.split import run_split
from golden.state import PartialState
from golden.threshold import Threshold

ROUNDING = 1 + 1e-12
"""What float64 may be off by."""

DROPPING = st.integers(formats.TAU_MIN, 12 << formats.FRACTION_BITS)


def check(job: Job, result: JobResult, certificate: Certificate) -> None:
    """Compare the bounds with softmax over all keys and over the kept ones, in float64."""
    share_bound = certificate.dropped_share(result.state.total)
    error_bound = certificate.output_error(result.state.total, job.value)
    assert not share_bound[result.empty].any()
    seen = ~result.empty
    value = job.value.astype(np.float64)
    weights = exact_weights(job)[seen]
    kept = weights * result.survivors
    total, kept_total = weights.sum(axis=1, keepdims=True), kept.sum(axis=1, keepdims=True)
    share = (weights * ~result.survivors).sum(axis=1) / total[:, 0]
    assert np.all(share <= share_bound[seen] * ROUNDING)
    error = np.abs(weights @ value / total - kept @ value / kept_total).max(axis=1, initial=0)
    assert np.all(error <= error_bound[seen] * ROUNDING + 1e-10)


@settings(max_examples=300)
@given(jobs(taus=DROPPING, with_state=False), LANES)
def test_no_row_loses_more_than_certified(job, lanes):
    result = run_job(job, lanes)
    check(job, result, Certificate.of(job, result))


@given(jobs(taus=DROPPING, with_state=False).filter(lambda job: job.keys > 1), LANES, st.data())
def test_certificates_of_merged_parts_hold(job, lanes, data):
    result = run_split(job, lanes, [data.draw(st.integers(1, job.keys - 1))])
    check(job, result, Certificate.of(job, result))


@given(jobs(taus=DROPPING, with_state=False).filter(lambda job: job.keys > 1), LANES, st.data())
def test_certificates_of_chained_jobs_add_up(job, lanes, data):
    cut = data.draw(st.integers(1, job.keys - 1))
    parts = [
        replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys])
        for keys in (slice(0, cut), slice(cut, None))
    ]
    first = run_job(parts[0], lanes)
    last = replace(parts[1], state=first.state, threshold=Threshold(data.draw(DROPPING), data.draw(EPSILON_SHIFTS)))
    second = run_job(last, lanes)
    certificate = Certificate.of(last, second, before=Certificate.of(parts[0], first))
    survivors = np.concatenate([first.survivors, second.survivors])
    check(job, replace(second, survivors=survivors), certificate)


def job_of_logits(logits: list[list[int]], tau: int) -> Job:
    """Return a job with these logits, in units of 4 * ``2**-FRACTION_BITS``, up to 254 above or below zero."""
    query = np.array(logits)
    rows, keys = query.shape
    halves = np.concatenate([query // 2, query - query // 2], axis=1).astype(np.int8)
    unit = np.eye(keys, dtype=np.int8)
    return Job(
        query=halves,
        positions=np.zeros(rows, dtype=np.int64),
        key=np.concatenate([unit, unit], axis=1),
        indices=np.arange(keys, dtype=np.int64),
        value=np.where(np.arange(keys) == keys - 1, 127, -127).astype(np.int8)[:, None],
        scale=ScoreScale(4, 0),
        threshold=Threshold(tau),
    )


def test_rounding_of_many_small_weights_does_not_break_it():
    # Row 1 keeps 400 keys to which row 0 gives just over half a unit each, rounded to a whole one, so that row 0's sum
    # is too large by 4 %. The last key is dropped just below the threshold.
    job = job_of_logits([[128, *[-79] * 400, 63], [128, *[128] * 400, 63]], tau=4 * (128 - 63) - 1)
    result = run_job(job, 16)
    assert result.survivors.tolist() == [True] * 401 + [False]
    weights = 4096 * exact_weights(job)[0]
    certificate = Certificate.of(job, result)
    unaware = certificate.dropped_weight[0] / (result.state.total[0] + certificate.dropped_weight[0])
    assert unaware < weights[-1] / weights.sum()
    check(job, result, certificate)


def test_a_kept_key_is_allowed_its_largest_excess():
    distances = range(14 << formats.FRACTION_BITS)
    excess = [formats.probability(d) - 4096 * 2 ** (-d / (1 << formats.FRACTION_BITS)) for d in distances]
    assert 0.5 < max(excess) < 0.75
    certificate = Certificate(np.array([256.0]), np.array([1000]))
    kept_weight = 6000 - 1000 * max(excess)
    assert certificate.dropped_share(np.array([6000])) == pytest.approx(256 / (kept_weight + 256), rel=1e-12)


def test_the_key_of_the_maximum_alone_bounds_the_kept_weight():
    certificate = Certificate(np.array([256.0]), np.array([100000]))
    assert certificate.dropped_share(np.array([2100])).tolist() == [256 / (2048 + 256)]


@given(jobs(taus=st.just(formats.TAU_KEEP_ALL), with_state=False), LANES)
def test_keeping_all_certifies_that_nothing_is_lost(job, lanes):
    result = run_job(job, lanes)
    certificate = Certificate.of(job, result)
    assert not certificate.dropped_share(result.state.total).any()
    assert not certificate.output_error(result.state.total, job.value).any()


def test_a_state_of_unknown_history_is_not_certified():
    job = job_of_logits([[1, 2]], tau=formats.TAU_MIN)
    seen = replace(job, state=PartialState(np.array([3]), np.array([4000]), np.array([[7]])))
    with pytest.raises(InputError, match="needs the one of that state"):
        Certificate.of(seen, run_job(seen, 4))
    # A state that has seen no key has dropped none.
    fresh = replace(job, state=PartialState.empty(1, 1))
    assert Certificate.of(fresh, run_job(fresh, 4)).kept.tolist() == [2]
