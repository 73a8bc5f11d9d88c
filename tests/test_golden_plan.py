"""Cutting a layer into jobs, and a whole layer through the core's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden_cases import THRESHOLDS, layers, masks
from hypothesis import given
from hypothesis import strategies as st

import golden
from golden.block import run_job
from golden.certificate import Certificate
from golden.config import PRESETS, CoreConfig, preset
from golden.errors import InputError
from golden.layer import run_layer
from golden.masks import Mask, MaskKind
from golden.plan import assemble, plan_jobs
from golden.quantise import QuantisedAttention, quantise
from golden.reference import quantised_attention, snr_db
from golden.tensors import load_attention
from golden.threshold import Threshold

TINY = preset("tiny").override(max_head_dim=8, max_value_dim=8)
MINILM = Path(golden.__file__).parent / "data" / "minilm_l3_128.npz"


def ones(query_heads: int = 1, queries: int = 6, keys: int = 6, dim: int = 4) -> QuantisedAttention:
    return quantise(np.ones((query_heads, queries, dim)), np.ones((1, keys, dim)), np.ones((1, keys, dim)))


@given(layers(), masks(), THRESHOLDS)
def test_every_row_is_computed_once_with_its_own_tensors(attention, mask, threshold):
    plan = plan_jobs(attention, TINY, mask, threshold)
    rows = []
    for planned in plan:
        job = planned.job
        assert 1 <= job.rows <= TINY.rows
        assert (job.mask, job.threshold) == (mask, threshold)
        assert job.scale == attention.score_scale(planned.kv_head)
        assert np.array_equal(job.key, attention.key[planned.kv_head, job.indices])
        assert np.array_equal(job.value, attention.value[planned.kv_head, job.indices])
        assert np.array_equal(job.query, attention.query[planned.query_head, planned.query_index])
        assert np.array_equal(job.positions, attention.positions[planned.query_index])
        assert np.all(planned.query_head // attention.group == planned.kv_head)
        rows += zip(planned.query_head.tolist(), planned.query_index.tolist(), strict=True)
    assert sorted(rows) == list(np.ndindex(attention.query_heads, attention.queries))
    blocks = -(-attention.group * attention.queries // TINY.rows)
    assert len(plan) == blocks * attention.kv_heads


@given(layers(), masks(), THRESHOLDS)
def test_keys_that_no_row_sees_are_not_missed(attention, mask, threshold):
    for planned in plan_jobs(attention, TINY, mask, threshold):
        every_key = replace(
            planned.job,
            key=attention.key[planned.kv_head],
            value=attention.value[planned.kv_head],
            indices=np.arange(attention.keys),
        )
        result, expected = run_job(planned.job, TINY.lanes), run_job(every_key, TINY.lanes)
        assert result.state == expected.state
        assert np.array_equal(result.output, expected.output)
        seen = mask.allowed(planned.job.positions, planned.job.indices).any(axis=0)
        assert seen[[0, -1]].all() or (not seen.any() and planned.job.keys == 1)


def test_rows_go_position_by_position_over_the_group():
    first, second = plan_jobs(ones(query_heads=3, queries=2), TINY)
    assert first.query_head.tolist() == [0, 1, 2, 0]
    assert first.query_index.tolist() == [0, 0, 0, 1]
    assert first.job.positions.tolist() == [4, 4, 4, 5]
    assert second.query_head.tolist() == [1, 2]


def test_causal_and_window_blocks_stream_only_what_they_see():
    def streamed(mask: Mask) -> list[list[int]]:
        return [planned.job.indices[[0, -1]].tolist() for planned in plan_jobs(ones(queries=12, keys=12), TINY, mask)]

    assert streamed(Mask()) == [[0, 11]] * 3
    assert streamed(Mask(MaskKind.CAUSAL)) == [[0, 3], [0, 7], [0, 11]]
    assert streamed(Mask(MaskKind.WINDOW, 3)) == [[0, 3], [2, 7], [6, 11]]


def test_a_block_that_sees_no_key_still_gets_one():
    plan = plan_jobs(ones(queries=12, keys=2), TINY, Mask(MaskKind.WINDOW, 1))
    assert [planned.job.indices.tolist() for planned in plan] == [[0, 1], [0], [0]]
    result = run_layer(ones(queries=12, keys=2), TINY, Mask(MaskKind.WINDOW, 1)).attended
    assert not result.output[0, 2:].any()
    assert result.output[0, :2].all()


@pytest.mark.parametrize("target", [None, 0.5])
def test_with_a_target_each_block_of_a_head_but_its_first_goes_on_from_the_one_before(target):
    rng = np.random.default_rng(0)
    attention = quantise(*(rng.normal(size=shape) for shape in ((4, 6, 4), (2, 6, 4), (2, 6, 4))))
    plan = plan_jobs(attention, TINY, threshold=Threshold.of(tau=6, target=target))
    assert [planned.job.continue_tau for planned in plan] == [
        target is not None and block > 0 for block in range(3)
    ] * 2


def test_tags_count_up_and_wrap():
    config = TINY.override(tag_bits=2)
    plan = plan_jobs(ones(queries=20), config, first_tag=3)
    assert [planned.job.tag for planned in plan] == [3, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("attention", "change", "message"),
    [
        (ones(dim=9), {}, "head_dim is 9; this configuration holds at most 8"),
        (ones(keys=17, queries=1), {"max_keys": 16}, "keys is 17; this configuration holds at most 16"),
        (ones(keys=2, queries=17), {"max_keys": 16}, "largest row position is 16"),
    ],
)
def test_a_layer_that_the_configuration_cannot_hold_is_refused(attention, change, message):
    with pytest.raises(InputError, match=message):
        plan_jobs(attention, TINY.override(**change))


@given(layers(), st.integers(1, 5))
def test_assemble_undoes_the_plan(attention, rows):
    plan = plan_jobs(attention, CoreConfig(rows=rows, rows_per_scaler=1))
    layer = assemble(plan, [attention.query[planned.query_head, planned.query_index] for planned in plan])
    assert layer.dtype == np.int8
    assert np.array_equal(layer, attention.query)


@given(layers(), masks())
def test_a_layer_is_near_float64(attention, mask):
    result = run_layer(attention, TINY, mask).attended
    exact = quantised_attention(attention, mask)
    assert result.output.dtype == np.int16
    # 12-bit probabilities and logits of 6 fraction bits: about 1 % of V's range at worst.
    unit = np.repeat(attention.value_scale, attention.group)[:, None, None]
    assert np.abs(result.real_output - exact).max() <= (2.5 * unit).max()
    assert not result.dropped.any()
    assert not result.dropped_share.any()


@given(layers(), masks(), THRESHOLDS)
def test_statistics_are_those_of_the_jobs(attention, mask, threshold):
    layer = run_layer(attention, TINY, mask, threshold)
    result = layer.attended
    streamed, kept = np.zeros(attention.kv_heads), np.zeros(attention.kv_heads)
    for planned in layer.plan:
        job, own = planned.job, run_job(planned.job, TINY.lanes)
        streamed[planned.kv_head] += job.keys
        kept[planned.kv_head] += own.survivors.sum()
        rows = planned.query_head, planned.query_index
        assert np.array_equal(result.dropped[rows], own.dropped)
        certificate = Certificate.of(job, own)
        assert np.array_equal(result.dropped_share[rows], certificate.dropped_share(own.state.total))
        bound = certificate.output_error(own.state.total, attention.value[planned.kv_head])
        assert np.allclose(result.output_error[rows], bound * attention.value_scale[planned.kv_head])
    assert np.array_equal(result.survivor_share, kept / streamed)


def test_saturated_scores_are_counted_by_head():
    huge = np.full((1, 1, 4), 1e3)
    attention = quantise(np.concatenate([huge, huge / 1e3]), np.ones((2, 3, 4)), np.ones((2, 3, 4)))
    assert run_layer(attention, TINY).attended.saturated.sum(axis=1).tolist() == [3, 0]


@pytest.mark.parametrize("name", PRESETS)
def test_the_datapath_reaches_48_db_on_a_real_layer(name):
    attention = load_attention(MINILM).quantise()
    exact = quantised_attention(attention)
    assert snr_db(exact, run_layer(attention, preset(name)).attended.real_output) >= 48


def test_fewer_keys_survive_on_a_real_layer_as_the_threshold_falls():
    attention = load_attention(MINILM).quantise()
    exact = quantised_attention(attention)
    results = [run_layer(attention, preset("default"), threshold=Threshold.of(tau)).attended for tau in (4, 8, 12)]
    shares = [result.survivor_share.mean() for result in results]
    assert shares[0] < 0.5 < shares[1] < shares[2] < 1
    errors = [snr_db(exact, result.real_output) for result in results]
    assert errors[0] < errors[1] < errors[2]
    for result in results:
        unit = attention.value_scale[:, None] / 2
        assert np.all(np.abs(result.real_output - exact).max(axis=2) <= result.output_error + unit)
