"""Variants on the core's datapath: the bits of golden, close to float64, and the jobs that they are for the core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import golden
from golden.block_mask import BlockMask
from golden.config import preset
from golden.errors import InputError
from golden.fast import attend
from golden.kept_jobs import kept_jobs
from golden.layer import run_layer
from golden.masks import Mask, MaskKind
from golden.quantise import quantise
from golden.reference import float_attention, snr_db
from golden.threshold import Threshold
from golden.variants import Datapath, Linear, softmax_attention
from golden.variants.linear import checked
from tests.variant_cases import SHARED, VARIANTS, arrays

# int8 leaves 30 to 50 dB of a variant's output; a wrong scale, mask or head less than 15.
LEAST_SNR = 27


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_on_the_datapath_is_close_to_float64(name):
    datapath = Datapath()
    exact, measured = VARIANTS[name](None), VARIANTS[name](datapath)
    assert exact.dtype == measured.dtype == np.float64
    assert snr_db(exact, measured) > LEAST_SNR
    assert len(datapath.runs) == (2 if name == "memory network" else 1)
    assert [run.attended.attention.shared for run in datapath.runs] == [name in SHARED] * len(datapath.runs)


@pytest.mark.parametrize("core", [preset("small"), replace(preset("small"), shared_values=1)], ids=["plain", "shared"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_jobs_of_a_variant_are_those_the_core_would_run(name, core):
    """The rows, keys and survivors that golden's loop gives, from the quantised tensors that the variant made."""
    datapath = Datapath(core, Threshold.of(tau=2))
    VARIANTS[name](datapath)
    kept = streamed = 0
    for run in datapath.runs:
        attended = run.attended
        layer = run_layer(attended.attention, run.config, attended.mask, datapath.threshold)
        assert attended.differences(replace(layer.attended, kept=attended.kept)) == []
        jobs = kept_jobs(attended, run.config)
        assert len(jobs) == len(layer.plan)
        for (job, survivors), planned, result in zip(jobs, layer.plan, layer.results, strict=True):
            assert np.array_equal(job.key, planned.job.key)
            assert np.array_equal(job.query, planned.job.query)
            assert job.shared == planned.job.shared == bool(name in SHARED and core.shared_values)
            assert np.array_equal(survivors, result.survivors)
            kept, streamed = kept + survivors.sum(), streamed + job.keys
        if attended.attention.shared:
            assert np.array_equal(attended.attention.value, attended.attention.key[..., : attended.attention.value_dim])
            assert np.array_equal(attended.attention.value_scale, attended.attention.key_scale)
    assert kept < streamed


@pytest.mark.parametrize("threshold", [Threshold(), Threshold.of(tau=3), Threshold.of(epsilon=0.1)])
def test_softmax_attention_is_golden_attention_or_the_reference(threshold):
    q, k, v = arrays(0, (4, 20, 8), (2, 30, 8), (2, 30, 6))
    mask, core = Mask(MaskKind.WINDOW, 7), preset("small")
    measured = softmax_attention(q, k, v, mask=mask, softmax_scale=0.4, datapath=Datapath(core, threshold))
    expected = golden.attention(q, k, v, mask=mask, softmax_scale=0.4, config=core, threshold=threshold)
    assert np.array_equal(measured.astype(np.float32), expected.output)
    exact = softmax_attention(q, k, v, mask=mask, softmax_scale=0.4)
    assert np.array_equal(exact, float_attention(q, k, v, 0.4, mask))


def test_a_datapath_without_a_core_takes_one_that_fits():
    q, k = arrays(0, (1, 5, 100), (1, 9, 100))
    datapath = Datapath()
    softmax_attention(q, k, k[..., :70], shared=True, datapath=datapath)
    (run,) = datapath.runs
    assert (run.config.max_head_dim, run.config.max_value_dim) == (112, 80)
    with pytest.raises(InputError, match="head_dim is 100; this configuration holds at most 64"):
        softmax_attention(q, k, k, datapath=Datapath(preset("default")))


def test_shared_values_have_one_scale_with_the_keys():
    q, k = arrays(0, (1, 5, 8), (1, 9, 8))
    k[0, 0, 7] = 9.0
    shared, own = Datapath(), Datapath()
    softmax_attention(q, k, k[..., :4], shared=True, datapath=shared)
    softmax_attention(q, k, k[..., :4], datapath=own)
    assert shared.runs[0].attended.attention.value_scale[0] == pytest.approx(9 / 127)
    assert own.runs[0].attended.attention.value_scale[0] < 4 / 127
    for datapath in (None, shared):
        with pytest.raises(InputError, match="shared values must be the first elements of the keys"):
            softmax_attention(q, k, k[..., 1:5], shared=True, datapath=datapath)


def test_kept_jobs_know_block_masks_and_thresholds_that_move():
    q, k, v = arrays(3, (2, 64, 8), (2, 64, 8), (2, 64, 8))
    core = preset("small")
    blocks = BlockMask(np.random.default_rng(0).random((2, 4, 4)) < 0.5, 16, 16)
    blocks.allowed[:, :, 0] = True
    options = Mask(MaskKind.CAUSAL), Threshold.of(target=0.3), blocks
    attention = quantise(4 * q, k, v)
    layer = run_layer(attention, core, *options)
    jobs = kept_jobs(attend(attention, core, *options, keep=True), core)
    assert len({job.threshold.tau for job, _ in jobs}) > 2
    for (job, survivors), planned, result in zip(jobs, layer.plan, layer.results, strict=True):
        assert np.array_equal(job.indices, planned.job.indices)
        assert job.threshold == planned.job.threshold
        assert np.array_equal(survivors, result.survivors)


def test_kept_jobs_need_what_was_kept_and_the_core_of_the_run():
    attention = quantise(*arrays(3, (1, 4, 8), (1, 4, 8), (1, 4, 8)))
    with pytest.raises(InputError, match="the layer ran without keep=True"):
        kept_jobs(attend(attention, preset("small")), preset("small"))
    with pytest.raises(InputError, match="the layer ran in blocks of 8 rows, not of 16"):
        kept_jobs(attend(attention, preset("small"), keep=True), preset("default"))


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (np.ones(3), (None, 3), r"x must have shape \(any, 3\), not \(3,\)"),
        (np.ones((0, 3)), (None, 3), r"x must have shape \(any, 3\), not \(0, 3\)"),
        (np.ones((2, 4)), (2, 3), r"x must have shape \(2, 3\), not \(2, 4\)"),
        (np.array([[1.0, np.nan]]), (1, 2), "x must hold finite numbers"),
        (np.array([["a"]]), (1, 1), "x must hold finite numbers"),
    ],
)
def test_arrays_of_other_shapes_and_contents_are_refused(array, shape, message):
    with pytest.raises(InputError, match=message):
        checked("x", array, *shape)


def test_a_linear_map_checks_what_it_is_made_of_and_given():
    assert np.array_equal(Linear(np.array([[1, 2]]), np.array([3, 4]))(np.array([[5]])), [[8, 14]])
    with pytest.raises(InputError, match=r"a bias must have shape \(2\), not \(3,\)"):
        Linear(np.ones((4, 2)), np.ones(3))
    with pytest.raises(InputError, match=r"the input of a linear map must have shape \(any, 4\), not \(5, 3\)"):
        Linear(np.ones((4, 2)))(np.ones((5, 3)))
