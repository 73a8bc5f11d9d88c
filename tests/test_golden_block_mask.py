"""Static block masks: the fast path against the plain loop, what rows may attend to, files."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from golden_cases import SEEDS, THRESHOLDS, layers, masks
from hypothesis import given
from hypothesis import strategies as st

from golden.block_mask import BlockMask, load_block_masks, save_block_masks
from golden.config import preset
from golden.errors import InputError
from golden.fast import attend
from golden.layer import run_layer
from golden.masks import Mask
from golden.plan import Blocks, plan_jobs
from golden.quantise import QuantisedAttention, quantise

TINY = preset("tiny").override(max_head_dim=8, max_value_dim=8)


@st.composite
def block_masks(draw: st.DrawFn, attention: QuantisedAttention) -> BlockMask:
    """Draw a mask that reaches all positions of `attention`, from nearly empty to full."""
    random = np.random.default_rng(draw(SEEDS))
    query_block, key_block = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    shape = (
        attention.kv_heads,
        int(attention.positions.max()) // query_block + 1 + draw(st.integers(0, 1)),
        int(attention.indices.max()) // key_block + 1 + draw(st.integers(0, 1)),
    )
    return BlockMask(random.random(shape) < draw(st.sampled_from([0.2, 0.6, 0.9, 1.0])), query_block, key_block)


def with_gaps(attention: QuantisedAttention, random: np.random.Generator) -> QuantisedAttention:
    """Return the layer with some of its keys missing from their places, and its queries anywhere."""
    indices = np.sort(random.choice(2 * attention.keys, attention.keys, replace=False))
    positions = np.sort(random.integers(0, 2 * attention.keys, attention.queries))
    return replace(attention, key_indices=indices.astype(np.int64), row_positions=positions.astype(np.int64))


@given(layers(), masks(), THRESHOLDS, st.integers(1, 5), SEEDS, st.booleans(), st.data())
def test_the_fast_path_equals_the_plain_loop_to_the_bit(attention, mask, threshold, rows, seed, gaps, data):
    if gaps:
        attention = with_gaps(attention, np.random.default_rng(seed))
    config = TINY.override(rows=rows, rows_per_scaler=1)
    block_mask = data.draw(block_masks(attention))
    try:
        expected = run_layer(attention, config, mask, threshold, block_mask).attended
    except InputError as error:
        with pytest.raises(InputError, match=f"^{re.escape(str(error))}$"):
            attend(attention, config, mask, threshold, block_mask)
        return
    found = attend(attention, config, mask, threshold, block_mask, keep=True)
    assert found.differences(expected) == []
    assert np.array_equal(found.dropped_share, expected.dropped_share)


@pytest.mark.parametrize("mask", [Mask(), Mask.of(causal=True), Mask.of(window=150)])
def test_long_layers_with_grouped_heads_are_equal_as_well(mask):
    """Several chunks of keys and tiles of rows, in which blocks begin and end at different keys."""
    random = np.random.default_rng(1)
    attention = quantise(*(random.normal(0, 2, shape) for shape in ((4, 600, 8), (2, 600, 8), (2, 600, 8))))
    allowed = random.random((2, 19, 19)) < 0.3
    allowed |= np.eye(19, dtype=bool)
    block_mask = BlockMask(allowed, 32, 32)
    config = TINY.override(rows=16)
    expected = run_layer(attention, config, mask, block_mask=block_mask).attended
    assert 0.1 < expected.streamed.sum() / run_layer(attention, config, mask).attended.streamed.sum() < 0.9
    assert attend(attention, config, mask, block_mask=block_mask, keep=True).differences(expected) == []


@given(layers(), masks(), st.data())
def test_a_job_streams_what_the_mask_allows_any_of_its_rows(attention, mask, data):
    block_mask = data.draw(block_masks(attention))
    try:
        plan = plan_jobs(attention, TINY, mask, block_mask=block_mask)
    except InputError:
        return
    for planned in plan:
        blocks = planned.job.positions // block_mask.query_block
        wanted = [
            key
            for key in attention.indices
            if any(block_mask.allowed[planned.kv_head, block, key // block_mask.key_block] for block in blocks)
        ]
        # From the first to the last key that some row may attend to by position; the first key if there is none.
        seen = attention.indices[mask.allowed(planned.job.positions, attention.indices).any(axis=0)]
        first, last = seen[[0, -1]] if len(seen) else attention.indices[[0, 0]]
        assert planned.job.indices.tolist() == [key for key in wanted if first <= key <= last]


def test_masks_that_do_not_fit_are_named():
    attention = quantise(np.ones((1, 6, 4)), np.ones((1, 6, 4)), np.ones((1, 6, 4)))
    full = np.ones((1, 3, 3), dtype=bool)
    for block_mask, message in (
        (BlockMask(np.ones((2, 3, 3), dtype=bool), 2, 2), "is for 2 kv heads, the layer has 1"),
        (BlockMask(full, 1, 2), "ends before query position 3, the layer goes up to 5"),
        (BlockMask(full, 2, 1), "ends before key index 3, the layer goes up to 5"),
        (BlockMask(~full, 2, 2), "leaves kv head 0, positions 0 to 3 without a key"),
    ):
        with pytest.raises(InputError, match=message):
            Blocks.of(attention, TINY, Mask(), block_mask)
    with pytest.raises(InputError, match="holds bool of shape"):
        BlockMask(np.ones((1, 3, 3)), 2, 2)
    with pytest.raises(InputError, match="key_block must be at least 1, not 0"):
        BlockMask(full, 2, 0)


def test_masks_come_back_from_their_file(tmp_path):
    random = np.random.default_rng(0)
    masks_of = {layer: BlockMask(random.random((2, layer + 1, 3)) < 0.5, layer + 4, 8) for layer in (11, 2)}
    save_block_masks(tmp_path / "x.npz", masks_of, percentile=90.0, rule="mean")
    found = load_block_masks(tmp_path / "x.npz")
    assert list(found) == [2, 11]
    for layer, block_mask in masks_of.items():
        assert np.array_equal(found[layer].allowed, block_mask.allowed)
        assert (found[layer].query_block, found[layer].key_block) == (layer + 4, 8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"q": np.ones(3)}, "holds no block mask"),
        ({"layer_1": np.ones((1, 1, 1), dtype=bool)}, "has no block sizes blocks_1 beside layer_1"),
        ({"layer_1": np.ones((1, 1, 1)), "blocks_1": np.array([1, 1])}, "a block mask holds bool"),
        ({"layer_1": np.ones((1, 1, 1), dtype=bool), "blocks_1": np.array([1, 0])}, "key_block must be at least 1"),
    ],
)
def test_files_without_masks_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_block_masks(tmp_path / "x.npz")
