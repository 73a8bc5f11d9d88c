"""Configurations, presets, masks, formats and the checks of a job."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import formats
from golden.block import mass_below
from golden.config import PRESETS, CoreConfig, preset
from golden.errors import InputError
from golden.job import Job, ScoreScale
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows must be from 1 to 64, not 0"),
        ({"rows": 65}, "rows must be from 1 to 64"),
        ({"rows": True}, "rows is True; it must be an integer"),
        ({"lanes": 16.0}, "lanes is 16.0; it must be an integer"),
        ({"lanes": 12}, "lanes must be a power of two from 4 to 64, not 12"),
        ({"lanes": 0}, "lanes must be a power of two"),
        ({"lanes": 128}, "lanes must be a power of two"),
        ({"max_head_dim": 24}, r"max_head_dim must be a multiple of lanes \(16\) from 16 to 1024, not 24"),
        ({"max_value_dim": 1040}, "max_value_dim must be a multiple of lanes"),
        ({"max_keys": 1000}, "max_keys must be a power of two from 16"),
        ({"max_keys": 1 << 21}, "max_keys must be a power of two"),
        ({"output_lanes": 32}, r"output_lanes must be a power of two from 1 to lanes \(16\), not 32"),
        ({"rows_per_scaler": 3}, r"rows_per_scaler must be a divisor of rows \(16\), not 3"),
        ({"rows_per_scaler": 0}, "rows_per_scaler must be a divisor"),
        ({"score_slots": 16}, "score_slots must be a power of two from 32 to 1024, not 16"),
        ({"score_slots": 2048}, "score_slots must be a power of two from 32 to 1024, not 2048"),
        ({"tag_bits": 33}, "tag_bits must be from 1 to 32, not 33"),
        ({"rows_per_budget": 1}, "rows_per_budget must be 0 or from 2 to 16, not 1"),
        ({"rows_per_budget": 17}, "rows_per_budget must be 0 or from 2 to 16, not 17"),
        ({"target_control": 2}, "target_control must be 0 or 1, not 2"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(InputError, match=message):
        CoreConfig(**change)


def test_there_are_the_five_presets():
    sizes = {name: (config.rows, config.lanes, config.max_head_dim) for name, config in PRESETS.items()}
    assert sizes == {
        "tiny": (4, 4, 64),
        "small": (8, 8, 64),
        "default": (16, 16, 64),
        "wide": (32, 32, 128),
        "latent": (32, 16, 576),
    }
    assert preset("default") == CoreConfig()
    with pytest.raises(InputError, match="there is no preset 'huge'; presets are tiny, small, default, wide, latent"):
        preset("huge")


def test_derived_widths_hold_the_largest_values():
    config = CoreConfig(max_keys=1024, max_head_dim=64)
    assert 1 << config.position_bits == config.max_keys
    assert (1 << config.count_bits) - 1 >= config.max_keys
    largest_sum = config.max_keys * (formats.PROBABILITY_ONE - 1)
    assert largest_sum < 1 << config.sum_bits
    assert largest_sum * 128 <= 1 << (config.accumulator_bits - 1)
    assert config.max_head_dim * 128 * 128 < 1 << (config.dot_bits - 1)
    assert config.accumulator_bits <= formats.STATE_WORD_BITS
    assert config.sum_bits <= formats.STATE_SUM_BITS
    assert config.max_keys * mass_below(0) < 1 << config.budget_bits


def test_beats_round_up():
    config = CoreConfig()
    assert [config.head_beats(dim) for dim in (1, 16, 17, 64)] == [1, 1, 2, 4]
    assert [config.value_beats(dim) for dim in (16, 17)] == [1, 2]
    assert [config.output_beats(dim) for dim in (4, 5)] == [1, 2]
    assert config.scalers == 8


def test_override_replaces_what_is_given_and_mends_what_follows():
    config = CoreConfig()
    assert config.override(rows=None) == config
    wide = config.override(lanes=64)
    assert (wide.lanes, wide.score_slots) == (64, 128)
    assert config.override(rows=5).rows_per_scaler == 1
    assert preset("wide").override(lanes=4).output_lanes == 4
    with pytest.raises(InputError, match="rows_per_scaler must be a divisor"):
        config.override(rows=5, rows_per_scaler=2)
    with pytest.raises(InputError, match="the configuration has no parameter columns"):
        config.override(columns=4)


def test_a_dictionary_makes_the_configuration_again():
    assert CoreConfig(**preset("wide").to_dict()) == preset("wide")


@given(st.floats(1e-9, 65535))
def test_score_scales_are_the_nearest_of_sixteen_bits(factor):
    scale = ScoreScale.of(factor)
    assert 0 <= scale.multiplier < 1 << 16
    assert 0 <= scale.shift < 1 << 6
    assert abs(scale.factor - factor) <= factor * 2.0**-16


def test_a_score_factor_that_rounds_up_to_seventeen_bits_fits():
    assert ScoreScale.of(1 - 2.0**-18) == ScoreScale(1 << 15, 15)


@pytest.mark.parametrize("factor", [0.0, -1.0, 65536.0, float("nan"), float("inf")])
def test_score_factors_out_of_range_are_refused(factor):
    with pytest.raises(InputError, match="the score factor must be above 0"):
        ScoreScale.of(factor)


def test_tiny_score_factors_lose_bits_but_fit():
    assert ScoreScale.of(2.0**-60) == ScoreScale(8, 63)
    assert ScoreScale.of(1e-300) == ScoreScale(0, 63)


@pytest.mark.parametrize(("multiplier", "shift"), [(65536, 0), (-1, 0), (1, 64)])
def test_score_scales_out_of_range_are_refused(multiplier, shift):
    with pytest.raises(InputError, match=r"the score (multiplier|shift) must be from 0"):
        ScoreScale(multiplier, shift)


def test_masks():
    positions, indices = np.array([0, 2]), np.array([0, 1, 2, 3])
    assert Mask().allowed(positions, indices).all()
    assert Mask.of(causal=True).allowed(positions, indices).astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]
    assert Mask.of(window=2).allowed(positions, indices).astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    assert Mask.of() == Mask()
    with pytest.raises(InputError, match="a window of at least 1 key, not 0"):
        Mask.of(window=0)
    with pytest.raises(InputError, match="only a window mask has a window; causal was given 3"):
        Mask(MaskKind.CAUSAL, 3)


def test_probabilities_fall_and_end_at_nothing():
    values = [formats.probability(distance) for distance in range(14 << formats.FRACTION_BITS)]
    assert values[0] == formats.PROBABILITY_ONE - 1
    assert values == sorted(values, reverse=True)
    assert values[13 << formats.FRACTION_BITS] == 0


JOB = Job(
    query=np.ones((2, 4), dtype=np.int8),
    positions=np.array([5, 6]),
    key=np.ones((3, 4), dtype=np.int8),
    indices=np.array([0, 2, 9]),
    value=np.ones((3, 2), dtype=np.int8),
    scale=ScoreScale(1, 0),
)
NARROW = CoreConfig(
    rows=2,
    lanes=4,
    max_head_dim=4,
    max_value_dim=4,
    max_keys=16,
    output_lanes=1,
    tag_bits=4,
    rows_per_budget=0,
    target_control=0,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": JOB.query[0]}, "must have two axes"),
        ({"query": JOB.query.astype(np.int16)}, "query must be int8"),
        ({"key": JOB.key[:2]}, r"key must be int8 of shape \(3, 4\), not int8 \(2, 4\)"),
        ({"positions": [5, 6]}, r"positions must be int64 of shape \(2,\), not list"),
        ({"indices": np.array([0, 2, 2])}, "key indices must rise"),
        ({"state": PartialState.empty(2, 3)}, r"accumulators of shape \(2, 2\), not \(2, 3\)"),
        (
            {"key": JOB.key[:0], "value": JOB.value[:0], "indices": JOB.indices[:0]},
            r"at least one row, key and element, not \(2, 0, 4, 2\)",
        ),
    ],
)
def test_a_job_agrees_with_itself(change, message):
    with pytest.raises(InputError, match=message):
        replace(JOB, **change)


def test_a_job_that_fits_passes():
    JOB.check(NARROW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query": np.ones((3, 4), dtype=np.int8), "positions": np.arange(3)},
            "rows is 3; this configuration holds at most 2",
        ),
        ({"query": np.ones((2, 5), dtype=np.int8), "key": np.ones((3, 5), dtype=np.int8)}, "head_dim is 5"),
        ({"value": np.ones((3, 5), dtype=np.int8)}, "value_dim is 5"),
        ({"indices": np.array([0, 2, 16])}, "largest key index is 16; this configuration holds at most 15"),
        ({"positions": np.array([0, 16])}, "largest row position is 16"),
        ({"tag": 16}, "tag is 16"),
        ({"tag": -1}, "can't be negative"),
        ({"indices": np.array([-1, 2, 3])}, "can't be negative"),
        ({"mask": Mask(MaskKind.WINDOW, 17)}, "window is 17; this configuration holds at most 16"),
        ({"threshold": Threshold(epsilon_shift=1)}, "this configuration has no error bound: rows_per_budget is 0"),
        ({"threshold": Threshold(target=1)}, "this configuration can't follow a target: target_control is 0"),
        ({"continue_tau": True}, "no job can go on from another's tau"),
    ],
)
def test_a_job_that_a_configuration_cannot_hold_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(JOB, **change).check(NARROW)
