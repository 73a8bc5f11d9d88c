"""Boolean masks as the core runs them: parts by position, padding, and what they do to scales."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from golden_cases import SEEDS, THRESHOLDS
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from golden.block_mask import BlockMask
from golden.config import preset
from golden.errors import InputError
from golden.fast import attend
from golden.layer import run_layer
from golden.masked import MaskedRows, attend_masked, split_mask
from golden.masks import Mask, MaskKind
from golden.quantise import quantise
from golden.reference import snr_db
from golden.threshold import Threshold

CORE = preset("default")
NARROW = preset("tiny")


def causal(rows: int, keys: int, offset: int = 0) -> np.ndarray:
    return np.arange(rows)[:, None] + offset >= np.arange(keys)


def window(rows: int, keys: int, size: int) -> np.ndarray:
    behind = np.arange(rows)[:, None] + keys - rows - np.arange(keys)
    return (behind >= 0) & (behind < size)


def near(rows: int, size: int) -> np.ndarray:
    """Return a window to both sides."""
    return np.abs(np.arange(rows)[:, None] - np.arange(rows)) <= size


def packed(*lengths: int) -> np.ndarray:
    """Return the mask of causal sequences one behind the other."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return causal(len(which), len(which)) & (which[:, None] == which)


def padded(mask: np.ndarray, left: int, right: int) -> np.ndarray:
    keys = np.arange(mask.shape[1])
    return mask & (keys >= left) & (keys < mask.shape[1] - right)


def joined(parts: list[MaskedRows], shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask that parts stand for, having checked that no row is in two of them."""
    mask = np.zeros(shape, dtype=bool)
    rows = np.concatenate([part.rows for part in parts]) if parts else np.empty(0)
    assert len(set(rows)) == len(rows)
    for part in parts:
        mask[np.ix_(part.rows, part.keys)] = part.mask.allowed(part.positions, part.keys)
    return mask


KNOWN = {
    "nothing barred": (np.ones((5, 9), bool), [MaskKind.NONE]),
    "everything barred": (np.zeros((5, 9), bool), []),
    "causal from the start": (causal(6, 9), [MaskKind.CAUSAL]),
    "causal to the end": (causal(6, 9, 3), [MaskKind.CAUSAL]),
    "causal in an unfilled cache": (causal(4, 16, 3), [MaskKind.CAUSAL]),
    "a window": (window(9, 12, 4), [MaskKind.WINDOW]),
    "padding": (padded(np.ones((9, 9), bool), 0, 3), [MaskKind.NONE]),
    "causal, padding before": (padded(causal(9, 9), 3, 0), [MaskKind.CAUSAL]),
    "causal, padding behind": (padded(causal(9, 9), 0, 3), [MaskKind.CAUSAL]),
    "a window, padding before": (padded(window(9, 9, 3), 3, 0), [MaskKind.WINDOW]),
    "packed sequences": (packed(3, 5, 2), [MaskKind.CAUSAL] * 3),
    "a window to both sides": (near(5, 2), [MaskKind.NONE] * 4),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_mask_becomes_as_few_parts_as_it_can(name):
    mask, kinds = KNOWN[name]
    parts = list(split_mask(mask))
    assert np.array_equal(joined(parts, mask.shape), mask)
    if name != "a window to both sides":
        assert [part.mask.kind for part in parts] == kinds


@st.composite
def boolean_masks(draw: st.DrawFn) -> np.ndarray:
    """Draw masks of every kind, some with a few pairs turned over."""
    random = np.random.default_rng(draw(SEEDS))
    rows, keys = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    offset, size = draw(st.integers(-3, 6)), draw(st.integers(1, 6))
    masks = [
        causal(rows, keys, offset),
        window(rows, keys, size),
        random.random((rows, keys)) < draw(st.sampled_from([0.1, 0.5, 0.9])),
        random.random((2, keys))[random.integers(0, 2, rows)] < 0.5,
    ]
    mask = padded(masks[draw(st.integers(0, 3))], draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    if draw(st.booleans()):
        mask = mask ^ (random.random(mask.shape) < 0.05)
    return mask


@given(boolean_masks())
def test_the_parts_of_any_mask_are_the_mask(mask):
    assert np.array_equal(joined(list(split_mask(mask)), mask.shape), mask)


@given(boolean_masks(), st.data())
def test_only_the_wanted_rows_are_given(mask, data):
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(mask) - 1)))), dtype=np.int64)
    wanted = np.zeros_like(mask)
    wanted[rows] = mask[rows]
    assert np.array_equal(joined(list(split_mask(mask, rows)), mask.shape), wanted)


def tensors(seed: int, heads: int, kv_heads: int, queries: int, keys: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    return (
        random.normal(0, 1, (heads, queries, 16)),
        random.normal(0, 1, (kv_heads, keys, 16)),
        random.normal(0, 1, (kv_heads, keys, 8)),
    )


def plain(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return float64 attention under a boolean mask, row by row."""
    output = np.zeros((*q.shape[:2], v.shape[2]))
    allowed = np.broadcast_to(allowed, (*q.shape[:2], k.shape[1]))
    for head, row in np.ndindex(*q.shape[:2]):
        seen = allowed[head, row]
        kv_head = head // (len(q) // len(k))
        if seen.any():
            weights = np.exp(k[kv_head, seen] @ q[head, row] / math.sqrt(q.shape[2]))
            output[head, row] = weights @ v[kv_head, seen] / weights.sum()
    return output


@settings(max_examples=60)
@given(boolean_masks(), st.sampled_from([(1, 1), (4, 2), (3, 3)]), SEEDS, THRESHOLDS)
def test_every_part_is_what_the_plain_loop_gives(mask, heads, seed, threshold):
    layer = quantise(*tensors(seed, *heads, *mask.shape))
    for part in split_mask(mask):
        attention = replace(
            layer,
            query=layer.query[:, part.rows],
            key=layer.key[:, part.keys],
            value=layer.value[:, part.keys],
            row_positions=part.positions,
            key_indices=part.keys,
        )
        attended = attend(attention, NARROW, part.mask, threshold, keep=True)
        assert attended.differences(run_layer(attention, NARROW, part.mask, threshold).attended) == []


# int8 tensors leave 36 to 40 dB on such tensors. A key too many or too few shows as 15 dB or less.
LEAST_SNR = 30


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("heads", [(1, 1), (4, 2), (3, 3)])
def test_outputs_are_those_of_float_attention(name, heads):
    mask, _ = KNOWN[name]
    q, k, v = tensors(1, *heads, *mask.shape)
    result = attend_masked(q, k, v, mask[None], CORE)
    expected = plain(q, k, v, mask[None])
    assert np.array_equal(result.output[expected == 0], expected[expected == 0])
    assert not expected.any() or snr_db(expected, result.output) > LEAST_SNR


def test_every_head_has_its_own_mask():
    random = np.random.default_rng(2)
    q, k, v = tensors(2, 6, 3, 40, 40)
    allowed = random.random((6, 40, 40)) < 0.4
    allowed[2:4] = causal(40, 40)
    allowed[5] = allowed[4]
    result = attend_masked(q, k, v, allowed, CORE)
    assert snr_db(plain(q, k, v, allowed), result.output) > LEAST_SNR
    # Heads of one group that see the same are one layer, those of another one are two.
    assert {part.attention.query_heads for part in result.parts} == {1, 2}


@pytest.mark.parametrize("threshold", [Threshold(), Threshold.of(tau=2), Threshold.of(epsilon=0.1, target=0.5)])
@pytest.mark.parametrize("kind", [Mask(), Mask(MaskKind.CAUSAL), Mask(MaskKind.WINDOW, 7)])
def test_padding_leaves_no_trace(kind, threshold):
    q, k, v = tensors(3, 4, 2, 50, 50)
    allowed = kind.allowed(np.arange(50), np.arange(50))
    for left, right in ((0, 0), (0, 11), (12, 0), (5, 9)):
        real = slice(left, 50 - right)
        unpadded = golden.attention(q[:, real], k[:, real], v[:, real], mask=kind, threshold=threshold)
        garbage = [tensor.copy() for tensor in (q, k, v)]
        for tensor in garbage:
            tensor[:, :left] = tensor[:, 50 - right :] = 1000.0
        result = attend_masked(*garbage, padded(allowed, left, right)[None], CORE, threshold=threshold)
        assert np.array_equal(result.output[:, real].astype(np.float32), unpadded.output)


def test_a_block_mask_goes_with_its_heads():
    q, k, v = tensors(4, 4, 4, 32, 32)
    blocks = BlockMask(np.random.default_rng(4).random((4, 2, 4)) < 0.5, 16, 8)
    blocks.allowed[:, :, 0] = True
    allowed = np.ones((4, 32, 32), bool)
    allowed[0] = causal(32, 32)
    result = attend_masked(q, k, v, allowed, CORE, block_mask=blocks)
    whole = golden.attention(q, k, v, block_mask=blocks).output
    first = golden.attention(q, k, v, block_mask=blocks, mask=Mask(MaskKind.CAUSAL)).output
    assert np.array_equal(result.output[1:].astype(np.float32), whole[1:])
    assert np.array_equal(result.output[:1].astype(np.float32), first[:1])
    with pytest.raises(InputError, match="the block mask is for 4 kv heads, the layer has 2"):
        attend_masked(q, k[:2], v[:2], allowed, CORE, block_mask=blocks)
