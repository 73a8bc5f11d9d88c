"""Scaling of scores: rounding, saturation, the sharing of multipliers, and when logits appear."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from job_pieces import round_half_up
from rtl_bench import context, idle, trace

from golden import formats
from golden.config import CoreConfig
from rtl.score_scaler import SCALE_STAGES, Scaler, ScoreScaler, scaler_latency

M_MAX = (1 << formats.MULTIPLIER_BITS) - 1
S_MAX = (1 << formats.SHIFT_BITS) - 1


def logit(score: int, multiplier: int, shift: int) -> tuple[int, int]:
    """Return the logit, and whether it saturated."""
    rounded = round_half_up(Fraction(score * multiplier, 1 << shift))
    saturated = min(max(rounded, formats.SCORE_MIN), formats.SCORE_MAX)
    return saturated, int(saturated != rounded)


def check_scaler(score_bits: int, cases: list[tuple[int, int, int]]) -> None:
    """Hold a scaler to `logit` for a case every cycle, each `SCALE_STAGES` - 1 cycles later."""
    stimulus = [dict(zip(("score", "multiplier", "shift"), case, strict=True)) for case in cases]
    seen = trace(Scaler(score_bits), stimulus + idle(SCALE_STAGES - 1), ("logit", "saturated"))
    assert seen[SCALE_STAGES - 1 :] == [logit(*case) for case in cases]


@pytest.mark.parametrize("score_bits", [18, 26])
def test_every_shift_of_extreme_scores_and_multipliers(score_bits: int):
    largest = (1 << (score_bits - 1)) - 1
    # The two products that a score is cut into meet at bit 16.
    scores = [0, 1, -1, 3, -3, 32767, 32768, 65535, 65536, -32768, -65536, -65537, largest, -largest - 1]
    multipliers = [0, 1, 3, 32768, M_MAX - 1, M_MAX]
    check_scaler(score_bits, list(product(scores, multipliers, range(S_MAX + 1))))


def test_halves_round_up_and_the_ends_of_the_range_saturate():
    cases = {
        (1, 1, 1): (1, 0),
        (-1, 1, 1): (0, 0),
        (-3, 1, 1): (-1, 0),
        (3, 1, 2): (1, 0),
        (-2, 1, 2): (0, 0),
        (-6, 1, 2): (-1, 0),
        (-7, 1, 2): (-2, 0),
        (32767, 1, 0): (32767, 0),
        (32768, 1, 0): (32767, 1),
        (65534, 1, 1): (32767, 0),
        (65535, 1, 1): (32767, 1),  # 32767.5 rounds out of the range
        (-32768, 1, 0): (-32768, 0),
        (-32769, 1, 0): (-32768, 1),
        (-65537, 1, 1): (-32768, 0),  # -32768.5 rounds into it
        (-65538, 1, 1): (-32768, 1),
        (131071, M_MAX, S_MAX): (0, 0),
        (-131072, M_MAX, 0): (-32768, 1),
        (131071, 0, 0): (0, 0),
    }
    assert {case: logit(*case) for case in cases} == cases
    check_scaler(18, list(cases))


def test_random_scales():
    rng = np.random.default_rng(0)
    scores = rng.integers(-(1 << 21), 1 << 21, 2000) >> rng.integers(0, 20, 2000)
    multipliers, shifts = rng.integers(0, M_MAX + 1, 2000), rng.integers(0, 34, 2000)
    check_scaler(22, [tuple(map(int, case)) for case in zip(scores, multipliers, shifts, strict=True)])


def config_of(rows_per_scaler: int, rows: int = 4) -> CoreConfig:
    return CoreConfig(rows=rows, lanes=4, max_head_dim=16, max_value_dim=16, rows_per_scaler=rows_per_scaler)


@pytest.mark.parametrize("rows_per_scaler", [1, 2, 4])
@pytest.mark.parametrize("gaps", [False, True])
def test_columns_of_every_length(rows_per_scaler: int, gaps: bool):
    """Each column appears in its cycle and no other; columns end as close as they may, or farther apart."""
    rng = np.random.default_rng(rows_per_scaler)
    config = config_of(rows_per_scaler)
    scales = [(45000, 20), (M_MAX, 27)]
    contexts = [context(config, multiplier=multiplier, shift=shift) for multiplier, shift in scales]
    limit = 1 << (config.dot_bits - 3)
    garbage = {"partial": [-1] * config.rows, "first": 1, "last": 1}
    stimulus, expected = [], {}
    since_end = rows_per_scaler
    for _ in range(80):
        beats, ctx = int(rng.integers(1, 5)), int(rng.integers(2))
        score = np.zeros(config.rows, dtype=np.int64)
        for beat in range(beats):
            last = beat == beats - 1
            wait = max(0, rows_per_scaler - 1 - since_end) if last else 0
            wait += int(rng.integers(3)) if gaps else 0
            stimulus += [garbage | {"ctx": 1 - ctx}] * wait
            partial = rng.integers(-limit, limit, config.rows)
            score += partial
            stimulus.append(
                {"valid": 1, "first": int(beat == 0), "last": int(last), "ctx": ctx, "partial": partial.tolist()}
            )
            since_end = 0 if last else since_end + wait + 1
        expected[len(stimulus) - 1 + scaler_latency(config)] = [logit(int(s), *scales[ctx]) for s in score]
    stimulus += idle(scaler_latency(config) + 1)
    seen = trace(ScoreScaler(config), stimulus, ("logits", "saturated"), {"contexts": contexts})
    columns = [[(x, saturated >> i & 1) for i, x in enumerate(logits)] for logits, saturated in seen]
    assert {cycle: columns[cycle] for cycle in expected} == expected
    for cycle, column in expected.items():
        assert columns[cycle - 1] != column
        assert columns[cycle + 1] != column
    if not gaps:
        ends = list(expected)
        assert min(after - before for before, after in pairwise(ends)) == rows_per_scaler


def test_the_largest_scores_fit():
    config = config_of(2)
    most = 128 * 128 * config.lanes
    beats = config.head_beats(config.max_head_dim)
    stimulus = [
        {"valid": 1, "first": int(beat == 0), "last": int(beat == beats - 1), "partial": [most, -most, most - 1, 0]}
        for beat in range(beats)
    ]
    contexts = [context(config, multiplier=1, shift=3), context(config)]
    latency = scaler_latency(config)
    seen = trace(ScoreScaler(config), stimulus + idle(latency), ("logits", "saturated"), {"contexts": contexts})
    # 2**15 is one too many, -2**15 is not.
    assert seen[beats - 1 + latency] == ([32767, -32768, 32767, 0], 0b0101)
