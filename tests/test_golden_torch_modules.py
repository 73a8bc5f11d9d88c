"""The four attentions as PyTorch modules: the numbers of golden's variants, and any softmax attention inside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from golden.collector import Collector
from golden.errors import InputError
from golden.masks import Mask
from golden.reference import snr_db
from golden.torch_functional import torch_attention
from golden.variants import (
    AttentionKind,
    Linear,
    efficient_attention,
    multi_head_attention,
    optimised_attention,
    super_attention,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
from golden.torch_modules import ProjectedAttention, TokenMixing  # noqa: E402 (it imports PyTorch)

DIM, HEADS, LENGTH = 12, 3, 10


def module_of(kind: AttentionKind, seed: int = 0, **options) -> ProjectedAttention:
    """Return a module in float64 with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ProjectedAttention(kind, DIM, HEADS, length=LENGTH, **options).double()
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return module


def linear_of(module) -> Linear:
    return Linear(module.weight.detach().numpy().T, None if module.bias is None else module.bias.detach().numpy())


def in_numpy(module: ProjectedAttention, x: np.ndarray, memory: np.ndarray | None) -> np.ndarray:
    """Return what golden's variant gives for the module's weights."""
    options = {"heads": HEADS, "mask": Mask.of(module.causal), "memory": memory}
    query, output = linear_of(module.q_proj), linear_of(module.o_proj)
    if module.kind == AttentionKind.STANDARD:
        key, value = linear_of(module.k_proj), linear_of(module.v_proj)
        return multi_head_attention(x, query, key, value, output, **options)
    if module.kind == AttentionKind.OPTIMISED:
        return optimised_attention(x, query, linear_of(module.k_proj), output, **options)
    if module.kind == AttentionKind.EFFICIENT:
        return efficient_attention(x, query, output, **options)
    mixing = module.v_proj.matrix(LENGTH).detach().numpy()
    return super_attention(x, query, mixing, output, **options)


@pytest.mark.parametrize("kind", AttentionKind)
@pytest.mark.parametrize(("causal", "cross"), [(False, False), (True, False), (False, True)])
def test_a_module_computes_goldens_variant(kind, causal, cross):
    module = module_of(kind, causal=causal, bias=not causal)
    random = np.random.default_rng(1)
    x, memory = random.normal(size=(2, 7, DIM)), random.normal(size=(2, 9, DIM)) if cross else None
    output = module(torch.from_numpy(x), None if memory is None else torch.from_numpy(memory)).detach().numpy()
    for n in range(2):
        expected = in_numpy(module, x[n], None if memory is None else memory[n])
        assert np.allclose(output[n], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_parameters_are_those_of_the_paper(causal):
    counts = {
        kind.value: sum(weight.numel() for weight in module_of(kind, causal=causal, bias=False).parameters())
        for kind in AttentionKind
    }
    mixing = LENGTH * (LENGTH + 1) // 2 if causal else LENGTH**2
    square = DIM**2
    assert counts == {
        "standard": 4 * square,
        "optimised": 3 * square,
        "efficient": 2 * square,
        "super": 2 * square + mixing,
    }


@pytest.mark.parametrize("kind", AttentionKind)
def test_every_weight_is_trained(kind):
    module = module_of(kind, causal=True)
    module(torch.randn(2, LENGTH, DIM, dtype=torch.float64)).square().sum().backward()
    gradients = {name: weight.grad for name, weight in module.named_parameters()}
    # The bias of keys adds the same to all scores of a row, which no softmax sees.
    assert {name for name, gradient in gradients.items() if float(gradient.abs().max()) < 1e-9} <= {"k_proj.bias"}


def test_a_causal_mixing_is_a_triangle_whose_first_rows_are_those_of_a_shorter_input():
    mixing = TokenMixing(5, causal=True)
    assert torch.equal(mixing.matrix(5), torch.eye(5))
    with torch.no_grad():
        mixing.weight.copy_(torch.arange(1.0, 16.0))
    assert mixing.matrix(3).tolist() == [[1, 0, 0], [2, 3, 0], [4, 5, 6]]
    assert torch.equal(mixing.matrix(5)[:3, :3], mixing.matrix(3))
    assert torch.equal(TokenMixing(5, causal=False).matrix(3), torch.eye(3))
    with pytest.raises(InputError, match="the mixing matrix is for at most 5 keys, not 6"):
        mixing(torch.ones(1, 6, 2))


@pytest.mark.parametrize("kind", AttentionKind)
def test_the_cores_arithmetic_takes_the_place_of_pytorchs(kind):
    module, collector = module_of(kind, causal=True), Collector()
    x = torch.randn(2, LENGTH, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        exact = module(x)
        module.attend = partial(torch_attention, collector=collector, layer=3)
        measured = module(x)
    assert snr_db(exact.numpy(), measured.numpy()) > 25
    # Ten rows are one block of the core, which streams ten keys for each head of both sequences.
    assert collector.layers[3].streamed == 2 * HEADS * LENGTH


def test_a_causal_module_refuses_a_memory_of_another_length():
    module = module_of(AttentionKind.STANDARD, causal=True)
    x = torch.zeros(1, 6, DIM, dtype=torch.float64)
    with pytest.raises(InputError, match="causal attention needs as many keys as queries, not 6 and 4"):
        module(x[:, :4], x)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="the dimension 12 can't be cut into 5 heads"):
        ProjectedAttention(AttentionKind.STANDARD, 12, 5)
    with pytest.raises(InputError, match="Super Attention needs the length of its longest input"):
        ProjectedAttention(AttentionKind.SUPER, 12, 3)
