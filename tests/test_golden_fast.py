"""The fast model against the plain loop, to the bit, where it works in chunks, packs and tiles; and its memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from golden_cases import SEEDS, THRESHOLDS, int8_matrix, masks
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import formats, packs
from golden.config import CoreConfig, preset
from golden.errors import InputError
from golden.fast import TILE_ROWS, attend
from golden.layer import run_layer
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention, quantise
from golden.threshold import Threshold


@st.composite
def cores(draw: st.DrawFn) -> CoreConfig:
    """Draw cores of every width, from one row to more than a few tiles hold."""
    rows, lanes = draw(st.sampled_from([1, 2, 3, 4, 7, 16, 32, 64])), draw(st.sampled_from([4, 8, 16, 32, 64]))
    return CoreConfig().override(rows=rows, lanes=lanes, rows_per_scaler=1)


@st.composite
def long_layers(draw: st.DrawFn) -> QuantisedAttention:
    """Draw layers of more keys than a chunk and than wait for their packs, whose maxima rest, rise or saturate."""
    random = np.random.default_rng(draw(SEEDS))
    group, kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    queries = draw(st.sampled_from([1, 2, 5, 40, 130]))
    edges = (1, packs.KEYS_A_CHUNK, 2 * packs.KEYS_A_CHUNK, 5 * packs.KEYS_A_CHUNK)
    keys = max(1, draw(st.sampled_from(edges)) + draw(st.integers(-3, 70)))
    head_dim, value_dim = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    extreme = draw(st.booleans())
    query, key, value = (
        np.stack([int8_matrix(random, shape, extreme) for _ in range(heads)])
        for heads, shape in (
            (group * kv_heads, (queries, head_dim)),
            (kv_heads, (keys, head_dim)),
            (kv_heads, (keys, value_dim)),
        )
    )
    if draw(st.booleans()):
        # Keys that grow along the list move the maxima again and again.
        key = np.rint(key * np.linspace(0.05, 1, keys)[:, None]).astype(np.int8)
    # Logits from nearly flat to saturated.
    scale = float(draw(st.sampled_from([1e-5, 1e-3, 1e-2, 0.3]))) / head_dim**0.5
    ones = np.ones(kv_heads)
    attention = QuantisedAttention(query, key, value, ones * scale, ones, ones, softmax_scale=1.0)
    if draw(st.booleans()):
        span = 2 * max(keys, queries)
        indices = np.sort(random.choice(span, keys, replace=False)).astype(np.int64)
        # Positions in any order.
        attention = replace(attention, key_indices=indices, row_positions=random.integers(0, span, queries))
    return attention


@settings(max_examples=200)
@given(long_layers(), cores(), st.one_of(masks(), st.builds(Mask)), st.one_of(THRESHOLDS, st.builds(Threshold)))
def test_long_layers_equal_the_plain_loop(attention, core, mask, threshold):
    expected = run_layer(attention, core, mask, threshold).attended
    assert attend(attention, core, mask, threshold, keep=True).differences(expected) == []


@pytest.mark.parametrize("kind", [MaskKind.NONE, MaskKind.CAUSAL, MaskKind.WINDOW])
@pytest.mark.parametrize("limits", [{}, {"tau": 3}, {"tau": 4, "epsilon": 0.01}, {"target": 0.5}])
def test_several_tiles_of_a_head_equal_the_plain_loop(kind, limits):
    random = np.random.default_rng(1)
    length = TILE_ROWS + 77
    attention = quantise(*(3 * random.standard_normal((2, length, 16)) for _ in range(3)))
    mask = Mask(kind, 100 if kind == MaskKind.WINDOW else 0)
    threshold = Threshold.of(**limits)
    expected = run_layer(attention, preset("default"), mask, threshold).attended
    assert attend(attention, preset("default"), mask, threshold, keep=True).differences(expected) == []


@pytest.mark.parametrize("kept", [384, 385, 390, 399, 400, 511, 512])
def test_kept_keys_that_nearly_fill_their_buffer_lose_nothing(kept):
    """Of four chunks so many are kept, and all of what follows."""
    random = np.random.default_rng(kept)
    key = np.full((1, 6 * packs.KEYS_A_CHUNK, 4), 1, dtype=np.int8)
    key[0, 1 + random.choice(4 * packs.KEYS_A_CHUNK - 1, 4 * packs.KEYS_A_CHUNK - kept, replace=False)] = -100
    value = int8_matrix(random, key.shape[1:], False)[None]
    one = np.ones(1)
    attention = QuantisedAttention(np.full((1, 2, 4), 100, dtype=np.int8), key, value, one, one / 100, one, 1.0)
    expected = run_layer(attention, preset("default"), threshold=Threshold.of(4)).attended
    assert expected.survivors.tolist() == [[kept + 2 * packs.KEYS_A_CHUNK]]
    found = attend(attention, preset("default"), threshold=Threshold.of(4), keep=True)
    assert found.differences(expected) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact(sign):
    """Flat rows of thousands of the largest values: every probability is 4095, in products of float32."""
    keys = 5000
    query, key = np.zeros((1, 3, 4), dtype=np.int8), np.zeros((1, keys, 4), dtype=np.int8)
    value = np.full((1, keys, 4), 127 if sign > 0 else -128, dtype=np.int8)
    one = np.ones(1)
    attention = QuantisedAttention(query, key, value, one, one, one, softmax_scale=1.0)
    found = attend(attention, preset("default"))
    assert found.differences(replace(run_layer(attention, preset("default")).attended, kept=None)) == []
    assert found.total.tolist() == [[keys * formats.probability(0)] * 3]
    assert np.all(found.output == int(value[0, 0, 0]) << formats.OUTPUT_FRACTION_BITS)


@pytest.mark.parametrize("threshold", [Threshold(), Threshold.of(2), Threshold.of(target=0.3)])
def test_the_number_of_threads_changes_no_bit(threshold):
    random = np.random.default_rng(2)
    attention = quantise(*(random.standard_normal((3, 200, 8)) for _ in range(3)))
    one, several = (attend(attention, preset("tiny"), threshold=threshold, keep=True, threads=n) for n in (1, 5))
    assert one.differences(several) == []


def test_no_threads_are_refused():
    ones = np.ones((1, 2, 4))
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        attend(quantise(ones, ones, ones), preset("tiny"), threads=0)


MEASURE_MEMORY = """
from golden.commands.bench import long_head_memory
print(*long_head_memory())
"""


def test_a_long_head_takes_at_most_twice_its_inputs(figure):
    """In a process of its own, because a process never shrinks below what it once took."""
    run = subprocess.run([sys.executable, "-c", MEASURE_MEMORY], capture_output=True, text=True, check=True)
    inputs, peak = map(int, run.stdout.split())
    figure(f"golden.attention, one head of 65,536 keys: peak memory {peak / inputs:.2f} times the inputs")
    assert inputs == 2 * 65536 * 128 * 4 + 16 * 128 * 4
    assert inputs < peak <= 2 * inputs
