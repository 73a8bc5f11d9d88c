"""The drop-in for PyTorch's attention: bit for bit golden.attention, and close to what PyTorch gives."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest

import golden
from golden.block_mask import BlockMask
from golden.collector import Collector
from golden.config import preset
from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.reference import snr_db
from golden.threshold import Threshold
from golden.torch_functional import torch_attention

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")

# On tensors like these int8 leaves 35 to 47 dB of PyTorch's output, and a wrong mask, scale or head less than 20.
LEAST_SNR = 30


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def exactly(output, expected: np.ndarray) -> bool:
    return output.dtype == torch.float32 and np.array_equal(output.numpy(), expected)


def assert_close_to_torch(q, k, v, **options):
    output = torch_attention(q, k, v, **options)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)
    assert output.shape == expected.shape
    assert output.dtype == expected.dtype
    assert snr_db(expected.double().numpy(), output.double().numpy()) > LEAST_SNR


def test_the_signature_is_pytorchs_with_keywords_behind():
    ours = list(inspect.signature(torch_attention).parameters.values())
    # PyTorch's function is built in; this is the signature that its documentation gives, in which nothing is marked as
    # by keyword only.
    expected = "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False"
    positional = [parameter for parameter in ours if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    assert [str(parameter.replace(annotation=parameter.empty)) for parameter in positional] == expected.split(", ")
    assert all(parameter.default is None or parameter.name == "layer" for parameter in ours[len(positional) :])
    q, k, v = tensors((1, 2, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8))
    torch.nn.functional.scaled_dot_product_attention(q, k, v, None, 0.0, True, scale=0.5, enable_gqa=False)
    torch_attention(q, k, v, None, 0.0, True, 0.5, False)


def test_golden_imports_no_torch():
    code = "import sys, golden, golden.experiments.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


THRESHOLDS = [Threshold(), Threshold.of(tau=3), Threshold.of(epsilon=0.05), Threshold.of(target=0.6)]


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("queries", "keys"), [(40, 40), (1, 50), (20, 50), (50, 20)])
def test_bits_are_those_of_golden_attention(queries, keys, threshold):
    q, k, v = tensors((2, 4, queries, 16), (2, 2, keys, 16), (2, 2, keys, 8))
    core = preset("small")
    options = {"enable_gqa": True, "threshold": threshold, "config": core}
    arrays = q.numpy(), k.numpy(), v.numpy()

    expected = golden.attention(*arrays, threshold=threshold, config=core, softmax_scale=0.3).output
    assert exactly(torch_attention(q, k, v, scale=0.3, **options), expected)
    # Against the diagonal of a square from the first query and key on, as PyTorch has it.
    first = arrays[0], arrays[1][:, :, :queries], arrays[2][:, :, :queries]
    causal = Mask(MaskKind.CAUSAL)
    expected = golden.attention(*first, mask=causal, threshold=threshold, config=core).output
    assert exactly(torch_attention(q, k, v, is_causal=True, **options), expected)
    if queries <= keys:
        behind = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
        for mask, allowed in ((causal, behind >= 0), (Mask(MaskKind.WINDOW, 9), (behind >= 0) & (behind < 9))):
            seen = allowed.any(dim=0).nonzero()[0, 0]
            part = arrays[0], arrays[1][:, :, seen:], arrays[2][:, :, seen:]
            expected = golden.attention(*part, mask=mask, threshold=threshold, config=core).output
            assert exactly(torch_attention(q, k, v, allowed, **options), expected)
            barred = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
            assert exactly(torch_attention(q, k, v, barred, **options), expected)


def test_padding_is_what_golden_attention_has_lengths_for():
    q, k, v = tensors((3, 4, 30, 16), (3, 4, 30, 16), (3, 4, 30, 16))
    lengths = [30, 17, 5]
    real = torch.arange(30) < torch.tensor(lengths)[:, None]
    expected = golden.attention(q.numpy(), k.numpy(), v.numpy(), query_lengths=lengths, key_lengths=lengths).output
    output = torch_attention(q, k, v, real[:, None, None])
    for n, length in enumerate(lengths):
        assert exactly(output[n, :, :length], expected[n, :, :length])
    assert exactly(torch_attention(q, k, v, (real[:, None] & real[:, :, None])[:, None]), expected)


def test_a_block_mask_and_a_configuration_reach_the_core():
    q, k, v = tensors((1, 2, 32, 8), (1, 2, 32, 8), (1, 2, 32, 8))
    blocks = BlockMask(np.array([[[True, False], [True, True]], [[True, True], [False, True]]]), 16, 16)
    arrays = q.numpy(), k.numpy(), v.numpy()
    whole = torch_attention(q, k, v)
    output = torch_attention(q, k, v, block_mask=blocks)
    assert exactly(output, golden.attention(*arrays, block_mask=blocks).output)
    assert not torch.equal(output, whole)
    every = torch.ones(32, 32, dtype=torch.bool)
    assert torch.equal(torch_attention(q, k, v, every, block_mask=blocks), output)
    with pytest.raises(InputError, match="head_dim is 8; this configuration holds at most 4"):
        torch_attention(q, k, v, config=preset("tiny").override(max_head_dim=4))


SHAPES = [
    ((9, 8), (11, 8), (11, 6)),
    ((3, 9, 8), (3, 11, 8), (3, 11, 6)),
    ((1, 9, 8), (3, 11, 8), (3, 11, 6)),
    ((9, 8), (3, 11, 8), (3, 11, 6)),
    ((2, 3, 9, 8), (2, 3, 11, 8), (2, 3, 11, 6)),
    ((2, 3, 9, 8), (1, 3, 11, 8), (2, 1, 11, 6)),
    ((2, 3, 9, 8), (3, 11, 8), (3, 11, 6)),
    ((2, 2, 3, 9, 8), (2, 2, 3, 11, 8), (2, 2, 3, 11, 6)),
    ((2, 1, 3, 9, 8), (1, 2, 3, 11, 8), (3, 11, 6)),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_shapes_are_those_that_pytorch_takes(shapes):
    q, k, v = tensors(*shapes)
    assert_close_to_torch(q, k, v)
    assert_close_to_torch(q, k, v, is_causal=True, scale=1.0)
    allowed = torch.rand(9, 11, generator=torch.Generator().manual_seed(1)) < 0.5
    assert_close_to_torch(q, k, v, attn_mask=allowed)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 6, 9, 8), (2, 3, 11, 8), (2, 3, 11, 6)),
        ((6, 9, 8), (2, 11, 8), (2, 11, 6)),
        ((2, 6, 9, 8), (2, 1, 11, 8), (2, 3, 11, 6)),
        ((2, 6, 9, 8), (1, 2, 11, 8), (1, 6, 11, 6)),
    ],
)
def test_grouped_queries(shapes):
    q, k, v = tensors(*shapes)
    assert_close_to_torch(q, k, v, enable_gqa=True)
    generator = torch.Generator().manual_seed(2)
    for mask in ((9, 11), (6, 9, 11), (1, 9, 11)):
        assert_close_to_torch(q, k, v, enable_gqa=True, attn_mask=torch.rand(mask, generator=generator) < 0.5)


MASKS = {
    "padding": (2, 1, 1, 24),
    "one for all": (20, 24),
    "one row of heads": (4, 1, 24),
    "one for each head": (4, 20, 24),
    "one for each sequence": (2, 1, 20, 24),
    "one for each pair": (2, 4, 20, 24),
    "rows only": (2, 1, 20, 1),
}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", MASKS)
def test_any_mask(name, share):
    q, k, v = tensors((2, 4, 20, 16), (2, 4, 24, 16), (2, 4, 24, 16))
    allowed = torch.rand(MASKS[name], generator=torch.Generator().manual_seed(3)) < share
    # Rows that may attend to nothing give zeros, here as there.
    assert_close_to_torch(q, k, v, attn_mask=allowed)
    output = torch_attention(q, k, v, allowed)
    for barred in (-torch.inf, -1e4, torch.finfo(torch.float32).min):
        assert torch.equal(torch_attention(q, k, v, torch.where(allowed, 0.0, barred)), output)
    empty = ~allowed.any(dim=-1, keepdim=True).expand(*output.shape[:-1], 1)
    assert not output[empty.expand_as(output)].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_query(dtype):
    q, k, v = (tensor.to(dtype) for tensor in tensors((1, 2, 9, 8), (1, 2, 9, 8), (1, 2, 9, 8)))
    output = torch_attention(q, k, v)
    assert output.dtype == dtype
    exact = golden.attention(*(tensor.double().numpy() for tensor in (q, k, v))).sequences[0].real_output
    assert torch.equal(output[0], torch.from_numpy(exact).to(dtype))
    assert_close_to_torch(q, k, v, attn_mask=torch.eye(9, dtype=torch.bool).logical_not())


def test_views_are_read_as_what_they_show():
    q, k, v = tensors((2, 9, 4, 8), (2, 9, 4, 8), (2, 9, 4, 8))
    views = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    assert torch.equal(torch_attention(*views), torch_attention(*map(torch.clone, views)))


@pytest.mark.parametrize(
    "shapes", [((2, 3, 0, 8), (2, 3, 5, 8)), ((2, 3, 4, 8), (2, 3, 0, 8)), ((0, 3, 4, 8), (0, 3, 5, 8))]
)
def test_nothing_gives_nothing(shapes):
    q, k = tensors(*shapes)
    collector = Collector()
    for mask in (None, torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)):
        output = torch_attention(q, k, k, mask, collector=collector)
        assert torch.equal(output, torch.zeros(q.shape))
    assert collector.total.streamed == 0
    assert "100.0%" in collector.table()


def test_statistics_are_the_sums_of_what_the_core_reports():
    q, k, v = tensors((2, 4, 40, 16), (2, 2, 40, 16), (2, 2, 40, 16))
    threshold = Threshold.of(tau=3)
    collector = Collector()
    expected = golden.attention((4 * q).numpy(), k.numpy(), v.numpy(), threshold=threshold).sequences
    for layer in (5, 2, 5):
        torch_attention(4 * q, k, v, enable_gqa=True, threshold=threshold, collector=collector, layer=layer)
    torch_attention(q, k, v, enable_gqa=True, collector=collector, layer=2)
    twice, other = collector.layers[5], collector.layers[2]
    assert (twice.calls, other.calls, collector.total.calls) == (2, 2, 4)
    assert twice.rows == 2 * 2 * 4 * 40
    assert twice.streamed == 2 * sum(int(part.streamed.sum()) for part in expected)
    assert twice.survivors == 2 * sum(int(part.survivors.sum()) for part in expected) < twice.streamed
    assert twice.dropped_share == max(part.dropped_share.max() for part in expected) > 0
    assert twice.output_error == max(part.output_error.max() for part in expected) > 0
    assert (twice.tau, other.tau) == ("3", "3 to all")
    # A call in which nothing was dropped leaves the worst as it is.
    assert (other.dropped_share, other.output_error) == (twice.dropped_share, twice.output_error)
    assert (collector.total.dropped_share, collector.total.tau) == (twice.dropped_share, "3 to all")
    assert collector.total.survivors == twice.survivors + other.survivors
    lines = collector.table().splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "2", "5", "all"]
    assert f"{twice.survivor_share:.1%}" in lines[2]
    assert twice.saturated == 0
    torch_attention(q, k, v, enable_gqa=True, scale=1000.0, collector=collector, layer=5)
    saturated = golden.attention(q.numpy(), k.numpy(), v.numpy(), softmax_scale=1000.0).sequences
    assert twice.saturated == sum(int(part.saturated.sum()) for part in saturated) > 0
    collector.reset()
    assert collector.layers == {}


GOOD = dict(zip("qkv", tensors((1, 2, 3, 8), (1, 2, 4, 8), (1, 2, 4, 6)), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout_p": 0.1}, "dropout_p must be 0, not 0.1: the core has no dropout"),
        ({"is_causal": True, "attn_mask": torch.ones(3, 4, dtype=torch.bool)}, "attn_mask and is_causal exclude"),
        ({"scale": -1.0}, r"scale must be a finite number above 0, not -1\.0"),
        ({"scale": float("nan")}, "scale must be a finite number above 0, not nan"),
        ({"attn_mask": torch.full((3, 4), 0.5)}, "a mask may only add 0, or -10000 and less where it bars a key"),
        ({"attn_mask": torch.full((3, 4), torch.nan)}, "a mask may only add 0"),
        ({"attn_mask": torch.zeros(3, 4, dtype=torch.int32)}, r"attn_mask must be bool or float, not torch\.int32"),
        ({"attn_mask": torch.zeros(4)}, r"attn_mask must be broadcastable to \(1, 2, 3, 4\), not \(4,\)"),
        ({"attn_mask": torch.zeros(3, 3, 4)}, r"attn_mask must be broadcastable to \(1, 2, 3, 4\), not \(3, 3, 4\)"),
        ({"attn_mask": torch.zeros(5, 1, 3, 4)}, r"attn_mask must be broadcastable to"),
        ({"attn_mask": torch.zeros(1, 1, 2, 3, 4)}, r"attn_mask must be broadcastable to"),
        ({"attn_mask": torch.zeros(3, 4, requires_grad=True)}, "attn_mask requires a gradient"),
        ({"q": [1.0]}, "query must be a tensor, not list"),
        ({"q": torch.zeros(8)}, r"query must have axes length x dimension, or more before these, not \(8,\)"),
        ({"k": torch.zeros(1, 2, 4, 8).half()}, "query, key and value must have one dtype"),
        ({name: torch.zeros(1, 1, 1, 4, dtype=torch.int8) for name in "qkv"}, r"query must be float16, .*torch\.int8"),
        ({"k": torch.zeros(1, 2, 4, 7)}, "query and key must have the same dimension"),
        ({"v": torch.zeros(1, 2, 5, 6)}, "key and value the same length"),
        ({"v": torch.zeros(1, 2, 4, 0)}, "no dimension may be 0"),
        ({"k": torch.zeros(1, 3, 4, 8)}, r"the axes of query, key and value before 2 last must be the same"),
        (
            {"k": torch.zeros(1, 3, 4, 8), "enable_gqa": True},
            "query has 2 heads, which those of key and value, 3 and 2,",
        ),
        ({"k": torch.zeros(1, 0, 4, 8), "enable_gqa": True}, "query has 2 heads"),
        ({"v": torch.full((1, 2, 4, 6), torch.inf)}, "value holds values that are not finite"),
        ({"q": torch.full((1, 2, 3, 8), torch.nan)}, "query holds values that are not finite"),
        ({"k": torch.zeros(1, 2, 4, 8, device="meta")}, "key is on meta; the core's arithmetic runs on the CPU"),
        ({"v": torch.zeros(1, 2, 4, 6).to_sparse()}, "value must be a dense tensor"),
        ({"q": torch.zeros(1, 2, 3, 8, requires_grad=True)}, "query requires a gradient and this attention has none"),
    ],
)
def test_what_the_core_cannot_do_is_said(changes, message):
    options = GOOD | changes
    with pytest.raises(InputError, match=message):
        torch_attention(options.pop("q"), options.pop("k"), options.pop("v"), **options)


def test_a_parameter_will_do_where_no_gradient_is_recorded():
    q = torch.nn.Parameter(GOOD["q"])
    with torch.no_grad():
        output = torch_attention(q, GOOD["k"], GOOD["v"])
    assert torch.equal(output, torch_attention(GOOD["q"], GOOD["k"], GOOD["v"]))
