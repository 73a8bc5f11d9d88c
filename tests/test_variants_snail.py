"""SNAIL's blocks, against PyTorch's convolutions and attention, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from golden.errors import InputError
from golden.variants import DenseWeights, Linear, attention_block, causal_convolution, dense_block, tc_block
from tests.variant_cases import arrays, linears

EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")


def dense_weights(seed: int, inputs: int, outputs: int) -> DenseWeights:
    return DenseWeights(*arrays(seed, (2, inputs, outputs), (outputs,), (2, inputs, outputs), (outputs,)))


def tc_weights(inputs: int, outputs: int, blocks: int) -> list[DenseWeights]:
    return [dense_weights(level, inputs + level * outputs, outputs) for level in range(blocks)]


def test_a_convolution_by_hand():
    x = np.array([[1.0], [2.0], [4.0], [8.0]])
    weight, bias = np.array([[[10.0]], [[1.0]]]), np.array([0.5])
    assert np.array_equal(causal_convolution(x, weight, bias, 1), [[1.5], [12.5], [24.5], [48.5]])
    assert np.array_equal(causal_convolution(x, weight, bias, 2), [[1.5], [2.5], [14.5], [28.5]])
    assert np.array_equal(causal_convolution(x, weight, bias, 9), x + 0.5)


@pytest.mark.parametrize("dilation", [1, 2, 4, 16])
def test_a_convolution_is_pytorchs_with_padding_in_front(torch, dilation):
    x, weight, bias = arrays(1, (9, 3), (2, 3, 5), (5,))
    padded = torch.nn.functional.pad(torch.from_numpy(x.T.copy()), (dilation, 0))[None]
    kernel = torch.from_numpy(weight.transpose(2, 1, 0).copy())
    expected = torch.nn.functional.conv1d(padded, kernel, torch.from_numpy(bias), dilation=dilation)
    assert np.allclose(causal_convolution(x, weight, bias, dilation), expected[0].numpy().T, **EXACT)


def test_a_dense_block_appends_a_gated_convolution():
    (x,) = arrays(1, (6, 3))
    weights = dense_weights(2, 3, 4)
    out = dense_block(x, weights, 2)
    filtered = causal_convolution(x, weights.filter_weight, weights.filter_bias, 2)
    gate = causal_convolution(x, weights.gate_weight, weights.gate_bias, 2)
    assert np.array_equal(out[:, :3], x)
    assert np.allclose(out[:, 3:], np.tanh(filtered) / (1 + np.exp(-gate)), **EXACT)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9])
def test_a_tc_block_reaches_every_step_before_and_none_after(length):
    (x,) = arrays(3, (length, 3))
    blocks = tc_weights(3, 2, (length - 1).bit_length())
    before = tc_block(x, blocks)
    assert before.shape == (length, 3 + 2 * len(blocks))
    for step in range(length):
        changed = x.copy()
        changed[step] += 0.5
        moved = np.any(tc_block(changed, blocks) != before, axis=1)
        assert np.array_equal(moved, np.arange(length) >= step)


def test_an_attention_block_is_pytorchs_causal_attention_beside_the_input(torch):
    (x,) = arrays(1, (9, 6))
    maps = linears(2, (6, 4), (6, 4), (6, 5), bias=True)
    q, k, v = (torch.from_numpy(linear(x))[None, None] for linear in maps)
    read = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0, 0].numpy()
    assert np.allclose(attention_block(x, *maps), np.concatenate([x, read], axis=1), **EXACT)


def test_blocks_interleave():
    (x,) = arrays(1, (5, 3))
    after = tc_block(attention_block(x, *linears(2, (3, 4), (3, 4), (3, 2))), tc_weights(5, 2, 3))
    last = attention_block(after, *linears(3, (11, 4), (11, 4), (11, 6)))
    assert last.shape == (5, 17)
    assert np.array_equal(last[:, :3], x)


def test_blocks_that_do_not_fit_are_refused():
    x = np.ones((5, 3))
    weights = dense_weights(1, 3, 2)
    with pytest.raises(InputError, match="a TC block over 5 steps has 3 dense blocks, not 2"):
        tc_block(x, tc_weights(3, 2, 2))
    with pytest.raises(InputError, match="a dilation must be at least 1, not 0"):
        dense_block(x, weights, 0)
    with pytest.raises(InputError, match=r"the weight of a convolution must have shape \(2, 4, any\), not \(2, 3, 2\)"):
        dense_block(np.ones((5, 4)), weights, 1)
    wider = DenseWeights(weights.filter_weight, weights.filter_bias, np.ones((2, 3, 1)), np.ones(1))
    with pytest.raises(InputError, match="filter and gate of a dense block must have as many outputs, not 2 and 1"):
        dense_block(x, wider, 1)
    with pytest.raises(InputError, match="q and k must have the same dimension, not 2 and 3"):
        attention_block(x, Linear(np.ones((3, 2))), Linear(np.ones((3, 3))), Linear(np.ones((3, 2))))
