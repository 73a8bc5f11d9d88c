"""Multi-head, multi-query and grouped-query attention against PyTorch's modules, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from golden.errors import InputError
from golden.variants import Linear, multi_head_attention
from golden.variants.multi_head import join_heads, split_heads
from tests.variant_cases import CAUSAL, arrays, linears

EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")


def tensor(torch, array):
    return torch.from_numpy(np.ascontiguousarray(array))


def test_one_head_by_hand():
    """Two keys whose scores differ by ln 3 after the division by sqrt(4), so that they weigh 1/4 and 3/4."""
    x = np.array([[1.0, 0.0, 0.0, 0.0]])
    memory = np.array([[0.0, 0.0, 0.0, 5.0], [2 * math.log(3), 0.0, 0.0, 9.0]])
    same = Linear(np.eye(4))
    last = Linear(np.eye(4)[:, 3:])
    output = multi_head_attention(x, same, same, last, Linear(np.array([[1.0, 10.0]])), 1, memory=memory)
    assert np.allclose(output, [[8.0, 80.0]], **EXACT)


def test_heads_are_slices_of_columns_and_come_back_in_place():
    x = np.arange(12.0).reshape(2, 6)
    heads = split_heads("x", x, 3)
    assert np.array_equal(heads[1], [[2, 3], [8, 9]])
    assert np.array_equal(join_heads(heads), x)


@pytest.mark.parametrize(("memory", "causal"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_pytorchs_multihead_attention(torch, memory, causal, bias):
    dim, heads = 12, 3
    module = torch.nn.MultiheadAttention(dim, heads, bias=bias, batch_first=True, dtype=torch.float64)
    if bias:
        # PyTorch begins with biases of 0.
        torch.nn.init.normal_(module.in_proj_bias)
        torch.nn.init.normal_(module.out_proj.bias)
    weights = module.in_proj_weight.detach().numpy().reshape(3, dim, dim)
    biases = module.in_proj_bias.detach().numpy().reshape(3, dim) if bias else [None] * 3
    projections = [Linear(weight.T, part) for weight, part in zip(weights, biases, strict=True)]
    output = Linear(module.out_proj.weight.detach().numpy().T, module.out_proj.bias.detach().numpy() if bias else None)
    x, other = arrays(1, (7, dim), (9, dim))
    keys = tensor(torch, other if memory else x)[None]
    barred = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    expected, _ = module(tensor(torch, x)[None], keys, keys, attn_mask=barred)
    measured = multi_head_attention(
        x, *projections, output, heads, memory=other if memory else None, mask=CAUSAL if causal else None
    )
    assert np.allclose(measured, expected[0].detach().numpy(), **EXACT)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_are_those_of_pytorchs_scaled_dot_product_attention(torch, kv_heads):
    dim, heads, head_dim, value_dim = 16, 4, 6, 5
    maps = linears(2, (dim, heads * head_dim), (dim, kv_heads * head_dim), (dim, kv_heads * value_dim), bias=True)
    (output,) = linears(3, (heads * value_dim, dim))
    (x,) = arrays(4, (11, dim))
    q, k, v = (
        tensor(torch, split_heads("x", linear(x), count))[None]
        for linear, count in zip(maps, (heads, kv_heads, kv_heads), strict=True)
    )
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    expected = output(join_heads(attended[0].numpy()))
    measured = multi_head_attention(x, *maps, output, heads, kv_heads=kv_heads, mask=CAUSAL)
    assert np.allclose(measured, expected, **EXACT)


def test_the_last_token_of_a_causal_layer_is_a_decode_step():
    maps = linears(2, *[(8, 8)] * 4)
    (x,) = arrays(4, (11, 8))
    whole = multi_head_attention(x, *maps, 2, mask=CAUSAL)
    step = multi_head_attention(x[-1:], *maps, 2, memory=x, mask=CAUSAL)
    assert np.allclose(step, whole[-1:], **EXACT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "the query has 8 columns, which can't be cut into 3 heads"),
        ({"kv_heads": 0}, "the key has 8 columns, which can't be cut into 0 heads"),
        ({"kv_heads": 3}, "the key has 8 columns, which can't be cut into 3 heads"),
        ({"kv_heads": 8}, "the heads of q must be a multiple of those of k, not 2 and 8"),
        ({"kv_heads": 1}, "q and k must have the same dimension, not 4 and 8"),
        ({"memory": np.ones((3, 7))}, r"the input of a linear map must have shape \(any, 8\), not \(3, 7\)"),
        ({"output": Linear(np.ones((6, 8)))}, r"the input of a linear map must have shape \(any, 6\), not \(5, 8\)"),
    ],
)
def test_shapes_that_do_not_agree_are_refused(change, message):
    query, key, value, output = linears(2, *[(8, 8)] * 4)
    arguments = {"x": np.ones((5, 8)), "query": query, "key": key, "value": value, "output": output, "heads": 2}
    with pytest.raises(InputError, match=message):
        multi_head_attention(**arguments | change)
