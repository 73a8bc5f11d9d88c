"""Which keys survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_cases import ADVERSARIAL, LANES, TAUS, exact_logits, job_of_logits, jobs, lost_share
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.errors import InputError
from golden.threshold import Threshold


@given(jobs(), LANES, TAUS)
def test_a_larger_threshold_keeps_every_key_that_a_smaller_one_keeps(job, lanes, other):
    smaller, larger = (
        run_job(replace(job, threshold=Threshold(tau)), lanes) for tau in sorted((job.threshold.tau, other))
    )
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
    assert Threshold.of(None).tau == formats.TAU_KEEP_ALL
    assert Threshold.of(1).tau == formats.TAU_MIN
    assert Threshold.of(4.5).tau == 288


@pytest.mark.parametrize("tau", [0.9, -3.0, float("nan"), float("inf"), 1024.0])
def test_thresholds_out_of_range_are_refused(tau):
    with pytest.raises(InputError, match="tau must be from 1"):
        Threshold.of(tau)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 63}, "tau must be from 64 to 65535, not 63"),
        ({"tau": 65536}, "tau must be from 64 to 65535, not 65536"),
        ({"epsilon_shift": 16}, "epsilon_shift must be from 0 to 15, not 16"),
        ({"target": 65536}, "target must be from 0 to 65535, not 65536"),
    ],
)
def test_thresholds_outside_their_format_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Threshold(**changes)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epsilon": 1.0}, "epsilon must be from 3.1e-05 to below 1, not 1.0"),
        ({"epsilon": 0.0}, "epsilon must be from 3.1e-05 to below 1, not 0.0"),
        ({"epsilon": float("nan")}, "epsilon must be from"),
        ({"target": 0.0}, "target must be above 0 and below 1, not 0.0"),
        ({"target": 1.0}, "target must be above 0 and below 1, not 1.0"),
        ({"target": float("nan")}, "target must be above 0 and below 1, not nan"),
    ],
)
def test_real_thresholds_out_of_range_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        Threshold.of(**asked)


@given(st.floats(1 / 32769, 0.99))
def test_epsilon_is_rounded_down_by_no_more_than_it_has_to_be(epsilon):
    threshold = Threshold.of(epsilon=epsilon)
    assert threshold.tau == formats.TAU_MIN
    assert threshold.largest_loss <= epsilon
    assert threshold.epsilon_shift == 1 or Threshold(epsilon_shift=threshold.epsilon_shift - 1).largest_loss > epsilon


@settings(max_examples=300)
@given(jobs(taus=st.just(formats.TAU_MIN), with_state=False), LANES, st.sampled_from([1, 2, 3, 5, 8, 15]))
def test_no_row_loses_more_than_epsilon(job, lanes, epsilon_shift):
    threshold = Threshold(job.threshold.tau, epsilon_shift)
    result = run_job(replace(job, threshold=threshold), lanes)
    assert np.all(lost_share(job, result.survivors) <= threshold.largest_loss)


@pytest.mark.parametrize("epsilon_shift", [1, 3, 7, 12])
@pytest.mark.parametrize("logits", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_adversarial_rows_lose_at_most_epsilon(logits, epsilon_shift):
    job = job_of_logits([logits], tau=formats.TAU_MIN, epsilon_shift=epsilon_shift)
    survivors = run_job(job, 16).survivors
    lost = lost_share(job, survivors)[0]
    assert lost <= job.threshold.largest_loss
    # The bound is used, not just kept, where there is enough to drop.
    if logits[:3] == [1000, 900, 900]:
        assert lost > 0.8 * job.threshold.largest_loss


def test_a_threshold_without_a_target_stays():
    threshold = Threshold(100, 3)
    assert threshold.after(5, 10) is threshold


def test_the_controller_moves_against_the_error_and_stays_in_its_range():
    half = Threshold(512, target=1 << 15)
    # 256 keys, all kept: half too many, a gain of 128 units.
    assert half.after(256, 256).tau == 512 - 64
    assert half.after(0, 256).tau == 512 + 64
    assert half.after(128, 256) == half
    # 257 keys count as 512 in the divisor. An error that is not a whole step is rounded down.
    assert half.after(257, 257).tau == 512 - 32
    assert half.after(128, 257).tau == 513
    assert Threshold(70, target=1 << 15).after(256, 256).tau == formats.TAU_MIN
    assert Threshold(890, target=1 << 15).after(0, 256).tau == formats.TAU_MAX_CONTROLLED


@pytest.mark.parametrize("target", [0.3, 0.6])
def test_the_controller_finds_its_target(target):
    # Distances are spread evenly over 0 to 14 bits, so the share that survives rises with tau.
    threshold = Threshold.of(target=target)
    distances = np.random.default_rng(0).uniform(0, 14 * 64, size=(200, 256))
    shares = []
    for block in distances:
        shares.append((block <= threshold.tau).mean())
        threshold = threshold.after(int((block <= threshold.tau).sum()), 256)
    assert abs(np.mean(shares[50:]) - target) < 0.01
