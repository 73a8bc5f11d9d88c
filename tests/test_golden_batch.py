"""`golden.attention`: batches, ragged lengths, float and int8 tensors, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import SEEDS, THRESHOLDS, masks
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from golden.batch import core_for
from golden.block_mask import BlockMask
from golden.config import CoreConfig, preset
from golden.errors import InputError
from golden.layer import run_layer
from golden.masks import Mask, MaskKind
from golden.quantise import INT8_SCALE, quantise
from golden.reference import float_attention, snr_db
from golden.threshold import Threshold

TINY = preset("tiny")


def tensors(random: np.random.Generator, shape: tuple[int, int, int, int, int, int, int], dtype: str = "float32"):
    """Return q, k and v of batch, query heads, kv heads, queries, keys, head_dim and value_dim."""
    batch, query_heads, kv_heads, queries, keys, head_dim, value_dim = shape
    shapes = (query_heads, queries, head_dim), (kv_heads, keys, head_dim), (kv_heads, keys, value_dim)
    drawn = (random.standard_normal((batch, *of_one)) for of_one in shapes)
    if dtype == "int8":
        return tuple(np.clip(np.rint(40 * tensor), -128, 127).astype(np.int8) for tensor in drawn)
    return tuple(tensor.astype(dtype) for tensor in drawn)


@settings(max_examples=60)
@given(SEEDS, masks(), THRESHOLDS, st.sampled_from(["float16", "float32", "float64", "int8"]), st.booleans())
def test_every_sequence_is_the_plain_loop_on_its_real_rows(seed, mask, threshold, dtype, single):
    random = np.random.default_rng(seed)
    batch, group, kv_heads = 1 if single else int(random.integers(1, 4)), *random.integers(1, 4, 2).tolist()
    queries, keys, head_dim, value_dim = random.integers(1, [20, 40, 9, 7]).tolist()
    q, k, v = tensors(random, (batch, group * kv_heads, kv_heads, queries, keys, head_dim, value_dim), dtype)
    lengths = {
        "query_lengths": random.integers(1, queries + 1, batch),
        "key_lengths": random.integers(1, keys + 1, batch),
    }
    given_tensors = [tensor[0] for tensor in (q, k, v)] if single else [q, k, v]
    found = golden.attention(*given_tensors, mask=mask, threshold=threshold, config=TINY, keep=True, **lengths)
    output = found.output[None] if single else found.output
    assert output.shape == (batch, group * kv_heads, queries, value_dim)
    assert output.dtype == np.float32
    survivors = streamed = 0
    for n in range(batch):
        rows, length = int(lengths["query_lengths"][n]), int(lengths["key_lengths"][n])
        expected = run_layer(
            quantise(q[n, :, :rows], k[n, :, :length], v[n, :, :length]), TINY, mask, threshold
        ).attended
        assert found.sequences[n].differences(expected) == []
        assert np.array_equal(output[n, :, :rows], expected.real_output.astype(np.float32))
        assert not output[n, :, rows:].any()
        survivors, streamed = survivors + expected.survivors.sum(), streamed + expected.streamed.sum()
    assert found.survivor_share == survivors / streamed


def test_outputs_are_near_exact_attention():
    q, k, v = tensors(np.random.default_rng(3), (2, 4, 2, 60, 80, 16, 12))
    found = golden.attention(q, k, v, mask=Mask(MaskKind.CAUSAL))
    for n in range(2):
        exact = float_attention(q[n], k[n], v[n], mask=Mask(MaskKind.CAUSAL))
        # Most of the error is int8's.
        assert snr_db(exact, found.output[n]) > 30


def test_what_padding_holds_does_not_matter():
    q, k, v = tensors(np.random.default_rng(4), (2, 2, 1, 6, 9, 4, 4))
    lengths = {"query_lengths": [6, 2], "key_lengths": [4, 9]}
    before = golden.attention(q, k, v, **lengths).output
    k[0, :, 4:], v[0, :, 4:], q[1, :, 2:] = 1e6, -1e6, 1e6
    assert np.array_equal(golden.attention(q, k, v, **lengths).output, before)


def test_options_of_the_quantiser_and_the_mask_of_blocks_arrive():
    random = np.random.default_rng(5)
    q, k, v = tensors(random, (1, 1, 1, 4, 8, 4, 4), "int8")
    block_mask = BlockMask(np.array([[[True, False]]]), 4 * 2, 4)
    found = golden.attention(q, k, v, block_mask=block_mask, softmax_scale=0.1, q_scale=0.5, k_scale=0.25, v_scale=2.0)
    attention = quantise(q[0], k[0], v[0], 0.1, False, 0.5, 0.25, 2.0)
    expected = run_layer(attention, CoreConfig(), block_mask=block_mask).attended
    assert np.array_equal(found.output[0], expected.real_output.astype(np.float32))
    assert found.sequences[0].streamed.tolist() == [[4]]
    real = tensors(random, (1, 1, 1, 4, 8, 4, 4))
    smooth = golden.attention(*real, subtract_key_mean=True).sequences[0].attention
    assert np.array_equal(smooth.key, quantise(*(tensor[0] for tensor in real), subtract_key_mean=True).key)
    assert np.all(golden.attention(q, k, v).sequences[0].attention.key_scale == INT8_SCALE)


def test_the_core_that_is_not_given_holds_the_tensors():
    assert core_for(64, 64) == preset("default")
    core = core_for(65, 200)
    assert (core.max_head_dim, core.max_value_dim) == (80, 208)
    assert (core.rows, core.lanes) == (16, 16)


ONES = np.ones((2, 2, 3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"q": ONES[0, 0]},
            r"must have axes heads x length x dimension, or batch before these, not \(3, 4\)",
        ),
        ({"q": ONES[0]}, "must have axes heads x length x dimension"),
        ({"q": ONES[:1]}, "the same number of sequences, not 1, 2 and 2"),
        ({"q": ONES[:0], "k": ONES[:0], "v": ONES[:0]}, "the same number of sequences, not 0, 0 and 0"),
        ({"v": np.ones((2, 2, 5, 4))}, "k and v must have the same length, not 3 and 5"),
        ({"k": np.ones((2, 2, 3, 5))}, "q and k must have the same dimension, not 4 and 5"),
        ({"q": np.ones((2, 3, 3, 4))}, "heads of q must be a multiple of those of k, not 3 and 2"),
        ({"k": np.ones((2, 2, 0, 4)), "v": np.ones((2, 2, 0, 4))}, "k must have at least one head, row and element"),
        ({"q": ONES.astype(np.int32)}, "q must be float16, float32, float64 or int8, not int32"),
        ({"k": np.where(ONES.cumsum().reshape(ONES.shape) == 30, np.nan, 1)}, "k holds values that are not finite"),
        ({"v": np.where(ONES.cumsum().reshape(ONES.shape) == 3, np.inf, 1)}, "v holds values that are not finite"),
        ({"key_lengths": [3]}, r"key_lengths must be 2 whole numbers, one a sequence, not int64 \(1,\)"),
        ({"key_lengths": [3.0, 2.0]}, "key_lengths must be 2 whole numbers, one a sequence, not float64"),
        ({"key_lengths": [0, 3]}, "key_lengths must be from 1 to 3, not 0 to 3"),
        ({"query_lengths": [1, 4]}, "query_lengths must be from 1 to 3, not 1 to 4"),
        ({"config": TINY.override(max_head_dim=4, max_keys=16), "q": np.ones((2, 2, 17, 4))}, "row position is 16"),
        ({"config": TINY, **dict.fromkeys("qkv", np.ones((1, 1, 3, 68)))}, "head_dim is 68; .* at most 64"),
        ({"mask": Mask(MaskKind.WINDOW, 1 << 20)}, "window is 1048576; this configuration holds at most 65536"),
        ({"q_scale": 0.5}, "a scale was given for q, which is float64; only int8 tensors bring their scale"),
        ({"softmax_scale": float("nan")}, "softmax_scale must be finite and above 0, not nan"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, message):
    arguments = {"q": ONES, "k": ONES, "v": ONES} | change
    with pytest.raises(InputError, match=message):
        golden.attention(**arguments)


def test_more_keys_than_the_sums_hold_are_refused():
    many = np.zeros((1, 65537, 4), dtype=np.int8)
    with pytest.raises(InputError, match="keys is 65537; this configuration holds at most 65536"):
        golden.attention(many[:, :1], many, many)
    held = golden.attention(many[:, :1], many, many, config=CoreConfig(max_keys=1 << 17), threshold=Threshold())
    assert not held.output.any()
