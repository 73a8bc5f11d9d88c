"""The bit-exact loop against a slow restatement of its text, against float64, and in its extremes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from golden_cases import LANES, exact_weights, jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import formats
from golden.block import run_job
from golden.job import Job, JobResult, ScoreScale
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold

ONE = 1 << formats.FRACTION_BITS
HALF = Fraction(1, 2)


def restate(job: Job, lanes: int) -> dict[str, object]:
    """State the arithmetic once more, in exact fractions and whole lists rather than in shifts and one pass."""
    rows, keys = range(job.rows), range(job.keys)
    allowed = job.mask.allowed(job.positions, job.indices).tolist()
    query, key, value = job.query.tolist(), job.key.tolist(), job.value.tolist()
    factor = Fraction(job.scale.multiplier, 2**job.scale.shift)
    rounded = [[floor(sum(a * b for a, b in zip(q, k, strict=True)) * factor + HALF) for k in key] for q in query]
    logits = [[min(max(x, -(2**15)), 2**15 - 1) for x in row] for row in rounded]

    start = job.state or PartialState.empty(job.rows, job.value_dim)
    maximum, total = start.maximum.tolist(), start.total.tolist()
    accumulator = start.accumulator.tolist()
    ceilings = [
        [max([maximum[i]] + [ceil(Fraction(logits[i][n], ONE)) for n in range(j + 1) if allowed[i][n]]) for j in keys]
        for i in rows
    ]
    kept, tau = [], job.threshold.tau
    # In units of 2^-(16 + e) of the maximum at the time, so that a budget shrinks as that grows.
    finest = 2 ** (16 + job.threshold.epsilon_shift)
    budget, reference = [0 for _ in rows], list(maximum)
    for j in keys:
        seen = [i for i in rows if allowed[i][j]]
        keep = any(tau == formats.TAU_KEEP_ALL or logits[i][j] >= ceilings[i][j] * ONE - tau for i in seen)
        above, below = {}, {}
        for i in seen:
            shrink = Fraction(1, 2 ** (ceilings[i][j] - reference[i]))
            reference[i] = ceilings[i][j]
            budget[i] = floor(budget[i] * shrink)
            whole, fraction = divmod(ceilings[i][j] * ONE - logits[i][j], ONE)
            above[i] = ceil(Fraction(2 * ONE - fraction, 2 * ONE * 2**whole) * finest)
            below[i] = floor(Fraction(2 * ONE - 6 - fraction, 2 * ONE * 2**whole) * 2**16)
            keep |= job.threshold.epsilon_shift > 0 and above[i] > budget[i]
        for i in seen:
            # A kept weight counts 2^-e times.
            budget[i] += below[i] if keep else -above[i]
        if keep:
            kept.append(j)
    packs = [kept[n : n + lanes] for n in range(0, len(kept), lanes)]
    for pack in packs:
        for i in rows:
            # The running maximum only grows at keys that are kept, so at the last of a pack it is the closing one.
            grown = ceilings[i][pack[-1]]
            shrink = Fraction(1, 2 ** (grown - maximum[i]))
            maximum[i] = grown
            total[i] = floor(total[i] * shrink)
            accumulator[i] = [floor(o * shrink) for o in accumulator[i]]
            for j in pack:
                if allowed[i][j]:
                    whole, fraction = divmod(grown * ONE - logits[i][j], ONE)
                    entry = min(round(4096 * 2 ** (-fraction / ONE)), 4095)
                    p = floor(Fraction(entry, 2**whole) + HALF)
                    total[i] += p
                    accumulator[i] = [o + p * v for o, v in zip(accumulator[i], value[j], strict=True)]
    output = [
        [min(max(floor(Fraction(256 * o, total[i]) + HALF), -(2**15)), 2**15 - 1) if total[i] else 0 for o in row]
        for i, row in enumerate(accumulator)
    ]
    return {
        "output": output,
        "maximum": maximum,
        "total": total,
        "accumulator": accumulator,
        "survivors": [j in kept for j in keys],
        "packs": len(packs),
        "dropped": [sum(allowed[i][j] and j not in kept for j in keys) for i in rows],
        "saturated": sum(allowed[i][j] and rounded[i][j] != logits[i][j] for i in rows for j in keys),
    }


def as_lists(result: JobResult) -> dict[str, object]:
    state = result.state
    return {
        "output": result.output.tolist(),
        "maximum": state.maximum.tolist(),
        "total": state.total.tolist(),
        "accumulator": state.accumulator.tolist(),
        "survivors": result.survivors.tolist(),
        "packs": result.packs,
        "dropped": result.dropped.tolist(),
        "saturated": result.saturated,
    }


def job_of_scores(scores: list[list[int]], tau: int = formats.TAU_KEEP_ALL, mask: Mask | None = None) -> Job:
    """Return a job whose logits are `scores` (its keys are a unit matrix) and whose values count the keys."""
    query = np.array(scores, dtype=np.int8)
    rows, keys = query.shape
    return Job(
        query=query,
        positions=np.arange(rows, dtype=np.int64),
        key=np.eye(keys, dtype=np.int8),
        indices=np.arange(keys, dtype=np.int64),
        value=np.arange(keys, dtype=np.int8)[:, None],
        scale=ScoreScale(1, 0),
        threshold=Threshold(tau),
        mask=mask or Mask(),
    )


@settings(max_examples=400)
@given(jobs(), LANES)
def test_every_bit_equals_the_restatement(job, lanes):
    assert as_lists(run_job(job, lanes)) == restate(job, lanes)


@given(jobs(taus=st.just(formats.TAU_KEEP_ALL), with_state=False), LANES)
def test_output_is_within_its_rounding_of_float64(job, lanes):
    result = run_job(job, lanes)
    weights = exact_weights(job)
    total = weights.sum(axis=1, keepdims=True)
    exact = weights @ job.value.astype(np.float64) / np.where(total == 0, 1, total)
    seen = ~result.empty
    kept = job.mask.allowed(job.positions, job.indices).sum(axis=1)
    peak = np.abs(job.value.astype(np.int64)).max()
    # One side of the bound that golden.split derives.
    bound = 2 * (kept + 2) * max(peak, 1) / np.maximum(result.state.total, 1) + 2.0 ** -(
        formats.OUTPUT_FRACTION_BITS + 1
    )
    error = np.abs(result.output / 2.0**formats.OUTPUT_FRACTION_BITS - exact).max(axis=1)
    assert np.all(error[seen] <= bound[seen])
    assert not result.output[~seen].any()


def test_one_key_gives_its_value():
    result = run_job(job_of_scores([[5]]), 4)
    assert result.output.tolist() == [[0]]
    job = replace(job_of_scores([[5]]), value=np.array([[-128, 127, 1]], dtype=np.int8))
    assert run_job(job, 4).output.tolist() == [[-32768, 32512, 256]]


def test_maximum_is_the_ceiling_and_weights_are_relative_to_it():
    # Logits 1.0 and 0.5: the maximum is 1, the weights 1 (just below, in 12 bits) and 2**-0.5.
    state = run_job(job_of_scores([[64, 32]]), 4).state
    assert state.maximum.tolist() == [1]
    assert state.total.tolist() == [4095 + 2896]
    assert state.accumulator.tolist() == [[2896]]


def test_a_pack_is_rescaled_by_what_the_maximum_grew_since_the_last():
    # The first pack closes at a maximum of 0, the second at 1, which halves the sum of the first.
    state = run_job(job_of_scores([[0, 0, 0, 0, 64]]), 4).state
    assert state.maximum.tolist() == [1]
    assert state.total.tolist() == [(4 * 4095 >> 1) + 4095]


@pytest.mark.parametrize(("scores", "dropped"), [([64, 0], 0), ([64, -1], 1)])
def test_a_key_exactly_at_the_threshold_survives(scores, dropped):
    assert run_job(job_of_scores([scores], tau=formats.TAU_MIN), 4).dropped.tolist() == [dropped]


def test_a_key_that_one_row_wants_is_kept_for_all():
    result = run_job(job_of_scores([[64, -64], [-64, 64]], tau=formats.TAU_MIN), 4)
    assert result.survivors.all()
    assert result.state.total.tolist() == [4095 + 1024] * 2


def test_survivors_fill_packs_wherever_they_came_from():
    scores = [[127] + [-128, 127] * 8]
    result = run_job(job_of_scores(scores, tau=formats.TAU_MIN), 4)
    assert result.survivors.tolist() == [True] + [False, True] * 8
    assert result.packs == 3
    assert result.dropped.tolist() == [8]


def test_saturated_scores_are_counted_and_clipped():
    job = replace(job_of_scores([[127, -128, 1]]), scale=ScoreScale(65535, 0))
    result = run_job(job, 4)
    assert result.saturated == 3
    assert result.state.maximum.tolist() == [512]
    # 127 and 1 both saturate to 32767, 1/64 below 512; -128 has no weight left.
    assert result.state.total.tolist() == [2 * 4052]


def test_masked_scores_are_not_counted_as_saturated():
    job = job_of_scores([[127, 127, 127]], mask=Mask(MaskKind.CAUSAL))
    assert run_job(replace(job, scale=ScoreScale(65535, 0)), 4).saturated == 1


def test_the_largest_dot_products_do_not_overflow():
    query = np.full((1, 1024), -128, dtype=np.int8)
    key = np.stack([np.full(1024, -128, dtype=np.int8), np.full(1024, 127, dtype=np.int8)])
    value = np.array([[100], [-100]], dtype=np.int8)
    # 2**24 * 2**-9 = 2**15 saturates by one; the other key is hopeless.
    scale = ScoreScale(1, 9)
    job = Job(query, np.zeros(1, dtype=np.int64), key, np.arange(2, dtype=np.int64), value, scale)
    result = run_job(job, 4)
    assert result.saturated == 1
    assert result.output.tolist() == [[25600]]


def test_rows_that_see_no_key_give_zeros_and_are_flagged():
    job = replace(job_of_scores([[9, 9], [9, 9]]), mask=Mask(MaskKind.CAUSAL), indices=np.array([1, 5]))
    result = run_job(job, 4)
    assert result.empty.tolist() == [True, False]
    assert result.output.tolist() == [[0], [0]]
    assert result.state.maximum.tolist() == [formats.NO_MAXIMUM, 1]
    assert result.survivors.tolist() == [True, False]


def test_a_job_whose_rows_all_see_nothing_closes_no_pack():
    job = replace(job_of_scores([[9, 9]]), mask=Mask(MaskKind.CAUSAL), indices=np.array([3, 5]))
    result = run_job(job, 4)
    assert result.packs == 0
    assert not result.survivors.any()
    assert result.state == PartialState.empty(1, 1)


@given(jobs(taus=st.just(formats.TAU_KEEP_ALL)), LANES, st.data())
def test_a_chain_cut_between_packs_is_the_whole_job_to_the_bit(job, lanes, data):
    job = replace(job, mask=Mask())
    whole = run_job(job, lanes)
    cut = lanes * data.draw(st.integers(0, (job.keys - 1) // lanes))
    state, packs = job.state, 0
    for keys in (slice(0, cut), slice(cut, None)):
        if len(job.key[keys]):
            part = replace(job, key=job.key[keys], indices=job.indices[keys], value=job.value[keys], state=state)
            result = run_job(part, lanes)
            state, packs = result.state, packs + result.packs
    assert state == whole.state
    assert packs == whole.packs
    assert np.array_equal(result.output, whole.output)


def test_running_a_job_leaves_its_state_alone():
    start = PartialState(np.array([3]), np.array([5000]), np.array([[70000]]))
    job = replace(job_of_scores([[1, 2]]), state=start)
    run_job(job, 4)
    assert start == PartialState(np.array([3]), np.array([5000]), np.array([[70000]]))
