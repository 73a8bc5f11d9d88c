"""Running maxima and verdicts: against golden's survivors, at the edges of tau, and when they appear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from job_pieces import JobPieces, bits, column, padded, random_pieces
from rtl_bench import context, idle, job_context, trace

from golden import formats
from golden.config import CoreConfig
from rtl.error_bound import bound_latency
from rtl.threshold import TAU_SAMPLE, THRESHOLD_LATENCY, Threshold

CONFIG = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=3)
WATCH = ("verdict_valid", "verdict")
UNIT = 1 << formats.FRACTION_BITS
KEEP_ALL = formats.TAU_KEEP_ALL
NONE = formats.NO_MAXIMUM


def inputs(pieces: JobPieces, ctx: int, key: int) -> dict[str, Any]:
    """Return what the component gets for a key; what a masked row carries must not count."""
    return {
        "valid": 1,
        "column": column(ctx, pieces.job, key),
        "logits": padded(np.where(pieces.allowed[:, key], pieces.logits[:, key], formats.SCORE_MAX), CONFIG),
        "allowed": bits(pieces.allowed[:, key]),
        "saturated": bits(pieces.saturated[:, key] | ~pieces.allowed[:, key]),
    }


def check_verdict(verdict: dict[str, Any], pieces: JobPieces, ctx: int, key: int) -> None:
    rows = pieces.job.rows
    assert verdict["column"] == column(ctx, pieces.job, key)
    assert verdict["keep"] == pieces.result.survivors[key]
    assert verdict["allowed"] == bits(pieces.allowed[:, key])
    assert verdict["saturated"] == bits(pieces.saturated[:, key])
    assert verdict["maxima"][:rows] == pieces.maxima[:, key].tolist()
    for i in np.flatnonzero(pieces.allowed[:, key]):
        assert verdict["logits"][i] == pieces.logits[i, key]


@pytest.mark.parametrize("gap", [0, 2])
def test_jobs_back_to_back(gap: int):
    """Every key of random jobs is judged as golden judges it, `THRESHOLD_LATENCY` cycles later and in no other.

    With an error bound it is `bound_latency` cycles more, and the next key comes no sooner than budgets can take it.
    """
    jobs = random_pieces(5, CONFIG, 60)
    bounded = [pieces.job.threshold.epsilon_shift > 0 for pieces in jobs]
    assert 10 < sum(bounded) < 50
    stimulus: list[dict[str, Any]] = []
    expected = {}
    contexts = [context(CONFIG), context(CONFIG)]
    starts = [[0] * CONFIG.rows, [0] * CONFIG.rows]
    taus = [0, 0]
    for n, pieces in enumerate(jobs):
        ctx = n % 2
        # The other context's last key may still be on its way through the component, so only this one changes.
        contexts = [job_context(pieces.job, CONFIG) if c == ctx else contexts[c] for c in range(2)]
        starts = [padded(pieces.start.maximum, CONFIG, NONE) if c == ctx else starts[c] for c in range(2)]
        taus = [pieces.job.threshold.tau if c == ctx else taus[c] for c in range(2)]
        held = {"contexts": contexts, "taus": taus, "start_maxima": starts}
        if pieces.job.keys < THRESHOLD_LATENCY:
            stimulus += [held] * THRESHOLD_LATENCY
        latency = THRESHOLD_LATENCY + bound_latency(CONFIG) * bounded[n]
        for key in range(pieces.job.keys):
            expected[len(stimulus) + latency] = (pieces, ctx, key)
            stimulus.append(held | inputs(pieces, ctx, key))
            wait = max(gap, CONFIG.rows_per_budget - 1) if bounded[n] else gap
            stimulus += [held | {"allowed": 7}] * wait
    stimulus += [held] * (latency + 1)
    seen = trace(Threshold(CONFIG), stimulus, WATCH)
    assert {cycle for cycle, (valid, _) in enumerate(seen) if valid} == set(expected)
    for cycle, (pieces, ctx, key) in expected.items():
        check_verdict(seen[cycle][1], pieces, ctx, key)


def judge(keys: list[tuple[list[int], int]], tau: int, start: int = NONE) -> list[dict[str, Any]]:
    """Return the verdicts on (logits, allowed) of a job that starts from the same maximum in every row."""
    stimulus = [
        {"valid": 1, "column": {"first": int(n == 0)}, "logits": logits, "allowed": allowed}
        for n, (logits, allowed) in enumerate(keys)
    ]
    constant = {"contexts": [context(CONFIG, rows=3)] * 2, "taus": [tau] * 2, "start_maxima": [[start] * 3] * 2}
    seen = trace(Threshold(CONFIG), stimulus + idle(THRESHOLD_LATENCY), WATCH, constant)
    return [verdict for _, verdict in seen[THRESHOLD_LATENCY:]]


@pytest.mark.parametrize(
    ("logit", "maximum"),
    [
        (0, 0),
        (1, 1),
        (UNIT, 1),
        (UNIT + 1, 2),
        (-1, 0),
        (-UNIT, -1),
        (-UNIT - 1, -1),
        (-2 * UNIT + 1, -1),
        (formats.SCORE_MAX, 512),
        (formats.SCORE_MIN, -512),
    ],
)
def test_the_maximum_is_the_ceiling_of_the_logit(logit: int, maximum: int):
    (verdict,) = judge([([logit] * 3, 7)], formats.TAU_MIN)
    assert verdict["maxima"] == [maximum] * 3
    assert verdict["keep"] == 1


@pytest.mark.parametrize("tau", [formats.TAU_MIN, formats.TAU_MIN + 1, 500, 65000])
def test_a_key_at_tau_below_the_maximum_stays_and_one_below_it_goes(tau: int):
    top = formats.SCORE_MAX - formats.SCORE_MAX % UNIT  # an integer in logits
    keys = [([top] * 3, 7), ([top - tau] * 3, 7), ([top - tau - 1] * 3, 7)]
    assert [verdict["keep"] for verdict in judge(keys, tau)] == [1, 1, 0]


def test_the_largest_distance_there_is():
    """A logit of -2**15 below a maximum of 2**15 is 65536 units away: kept by nothing but the special value."""
    keys = [([formats.SCORE_MAX] * 3, 7), ([formats.SCORE_MIN] * 3, 7)]
    assert [verdict["keep"] for verdict in judge(keys, KEEP_ALL - 1)] == [1, 0]
    assert [verdict["keep"] for verdict in judge(keys, KEEP_ALL)] == [1, 1]


def test_one_row_is_enough_to_keep_a_key_but_a_masked_one_is_not():
    low, high = -50 * UNIT, 0
    keys = [([high] * 3, 7), ([low, high, low], 7), ([low, high, low], 5), ([high] * 3, 0)]
    for tau, expected in ((4 * UNIT, [1, 1, 0, 0]), (KEEP_ALL, [1, 1, 1, 0])):
        assert [verdict["keep"] for verdict in judge(keys, tau)] == expected


def test_a_masked_row_keeps_its_maximum():
    keys = [([0, 0, 0], 0b101), ([9 * UNIT, 9 * UNIT, -UNIT], 0b110), ([UNIT] * 3, 0)]
    maxima = [verdict["maxima"] for verdict in judge(keys, KEEP_ALL)]
    assert maxima == [[0, NONE, 0], [0, 9, 0], [0, 9, 0]]


def test_a_job_starts_from_its_own_maxima():
    """The key is judged against the maximum of the state, and the maximum of the job before is forgotten."""
    keys = [([0] * 3, 7), ([6 * UNIT] * 3, 7)]
    verdicts = judge(keys, 4 * UNIT, start=5)
    assert [verdict["maxima"] for verdict in verdicts] == [[5] * 3, [6] * 3]
    assert [verdict["keep"] for verdict in verdicts] == [0, 1]
    stimulus = [
        {"valid": 1, "column": {"first": 1, "ctx": ctx}, "logits": [logit] * 3, "allowed": 7}
        for ctx, logit in ((0, 9 * UNIT), (1, 0), (0, 0))
    ]
    constant = {"contexts": [context(CONFIG, rows=3)] * 2, "taus": [UNIT] * 2, "start_maxima": [[NONE] * 3, [2] * 3]}
    seen = trace(Threshold(CONFIG), stimulus + idle(THRESHOLD_LATENCY), WATCH, constant)
    assert [verdict["maxima"] for _, verdict in seen[THRESHOLD_LATENCY:]] == [[9] * 3, [2] * 3, [0] * 3]
    assert [verdict["keep"] for _, verdict in seen[THRESHOLD_LATENCY:]] == [1, 0, 1]


def test_tau_is_read_two_cycles_after_a_key_and_then_held():
    """Of its own context, in that cycle alone: what a job goes on from may still move before."""
    near, far = 2 * UNIT, 9 * UNIT
    keys = [([0] * 3, 7), ([-5 * UNIT] * 3, 7)]
    for cycle, keep in ((TAU_SAMPLE - 1, 0), (TAU_SAMPLE, 1), (TAU_SAMPLE + 1, 0)):
        stimulus: list[dict[str, Any]] = [{"taus": [near, far]} for _ in range(3 + THRESHOLD_LATENCY)]
        for n, (logits, allowed) in enumerate(keys):
            stimulus[2 * n] |= {"valid": 1, "column": {"first": int(n == 0)}, "logits": logits, "allowed": allowed}
        stimulus[2 + cycle]["taus"] = [far, near]
        constant = {"contexts": [context(CONFIG, rows=3)] * 2, "start_maxima": [[NONE] * 3] * 2}
        seen = trace(Threshold(CONFIG), stimulus, WATCH, constant)
        assert [seen[n + THRESHOLD_LATENCY][1]["keep"] for n in (0, 2)] == [1, keep]


@pytest.mark.parametrize(("growth", "keep"), [(6, 0), (63, 1), (64, 1), (70, 1), (500, 1)])
def test_a_maximum_that_grows_far_leaves_nothing_of_a_budget(growth: int, keep: int):
    """Four keys make a budget, one raises the maximum, and one just out of the reach of tau asks what is left."""
    share = CONFIG.rows_per_budget
    logits = [0] * 4 + [growth * UNIT, (growth - 1) * UNIT - 1]
    stimulus: list[dict[str, Any]] = []
    for n, logit in enumerate(logits):
        stimulus += [{"valid": 1, "column": {"first": int(n == 0)}, "logits": [logit] * 3, "allowed": 7}]
        stimulus += idle(share - 1)
    stimulus += idle(THRESHOLD_LATENCY)
    constant = {
        "contexts": [context(CONFIG, rows=3, epsilon_shift=1)] * 2,
        "taus": [formats.TAU_MIN] * 2,
        "start_maxima": [[NONE] * 3] * 2,
    }
    seen = trace(Threshold(CONFIG), stimulus, WATCH, constant)
    assert [verdict["keep"] for valid, verdict in seen if valid] == [1] * 5 + [keep]


def test_a_void_first_column_leaves_the_start():
    stimulus = [{"valid": 1, "column": {"first": 1, "last": 1, "void": 1}, "logits": [UNIT] * 3, "allowed": 0}]
    constant = {"contexts": [context(CONFIG, rows=3)] * 2, "start_maxima": [[-7] * 3] * 2}
    valid, verdict = trace(Threshold(CONFIG), stimulus + idle(THRESHOLD_LATENCY), WATCH, constant)[-1]
    assert (valid, verdict["keep"], verdict["maxima"]) == (1, 0, [-7] * 3)
    assert verdict["column"] == {"ctx": 0, "index": 0, "first": 1, "last": 1, "void": 1}
