"""Sparsity-targeted attention: what it counts is what the core keeps, and training it lowers that."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from golden.config import CoreConfig, preset
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask
from golden.quantise import QuantisedAttention, quantise
from golden.reference import snr_db
from golden.sparsity_target import SparsityTarget, SparsityTargetedAttention, survivors
from golden.threshold import Threshold

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")

TARGET = SparsityTarget(0.5, tau=3, rows=8)


@pytest.fixture(autouse=True)
def _one_thread():
    """So little work is not worth sharing out, and threads that wait for each other take many times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def core_of(rows: int) -> CoreConfig:
    return preset("small").override(rows=rows)


def logits_of(attention: QuantisedAttention) -> object:
    """Return the base-2 logits of the int8 tensors in float64, (1, query_heads, queries, keys)."""
    factor = attention.query_scale * attention.key_scale * attention.softmax_scale * math.log2(math.e)
    query = attention.query * np.repeat(factor, attention.group)[:, None, None]
    return torch.from_numpy(query @ np.repeat(attention.key, attention.group, axis=0).swapaxes(1, 2).astype(float))[
        None
    ]


@pytest.mark.parametrize("tau", [1, 3, 3.015625, 7])
@pytest.mark.parametrize(("rows", "group", "queries"), [(1, 1, 20), (8, 1, 20), (6, 2, 20), (16, 4, 9), (3, 3, 30)])
@pytest.mark.parametrize("causal", [False, True])
def test_the_hard_count_is_the_cores_key_by_key(causal, rows, group, queries, tau):
    """Scales are powers of two, so that logits are multiples of the core's unit and nothing is rounded."""
    random = np.random.default_rng(rows + queries)
    q, k = (random.integers(-20, 21, (heads, queries, 8)).astype(np.int8) for heads in (2 * group, 2))
    attention = quantise(q, k, k, math.log(2), q_scale=1 / 8, k_scale=1 / 8)
    assert attention.score_scale(0).factor == 1
    attended = attend(attention, core_of(rows), Mask.of(causal), Threshold.of(tau=tau), keep=True)
    target = replace(TARGET, tau=tau, rows=rows, temperature=1e-4)
    found = survivors(logits_of(attention), causal, group, target)
    assert np.array_equal(found.kept[0].numpy(), attended.kept)
    assert found.streamed == attended.streamed.sum()
    assert 0 < attended.survivors.sum() < attended.streamed.sum()
    # As the temperature goes to 0 the soft count becomes the hard one.
    assert np.allclose(found.soft[0].numpy(), attended.kept, atol=1e-12)


def test_on_real_scales_only_rounding_makes_a_difference():
    random = np.random.default_rng(5)
    q, k = (random.normal(0, 1.5, (4, 96, 16)) for _ in range(2))
    attention = quantise(q, k, k)
    attended = attend(attention, core_of(8), Mask.of(True), Threshold.of(tau=3), keep=True)
    # The core's own logits give its own survivors.
    scores = attention.query.astype(np.int64) @ attention.key.astype(np.int64).swapaxes(1, 2)
    scale = np.array([attention.score_scale(head).factor for head in range(4)])[:, None, None]
    rounded = torch.from_numpy(np.floor(scores * scale + 0.5) / 64)[None]
    assert np.array_equal(survivors(rounded, True, 1, TARGET).kept[0].numpy(), attended.kept)
    # In the logits of the same int8 tensors the factor has all its bits, so that a few are rounded to the next unit.
    differ = survivors(logits_of(attention), True, 1, TARGET).kept[0].numpy() != attended.kept
    assert differ.sum() <= 0.002 * attended.streamed.sum()
    # In those of the float tensors, as in training, all are off by what int8 leaves of them.
    logits = torch.from_numpy(q @ k.swapaxes(1, 2) / 4 * math.log2(math.e))[None]
    differ = survivors(logits, True, 1, TARGET).kept[0].numpy() != attended.kept
    assert differ.sum() <= 0.03 * attended.streamed.sum()


def test_a_count_by_hand():
    """Two rows and three keys: maxima 0, 2, 2 and 1, 1, 3, so distances 0, 0, 5 and 0.5, 1, 0."""
    logits = torch.tensor([[[[0.0, 2.0, -3.0], [0.5, 0.0, 3.0]]]], dtype=torch.float64)
    apart = survivors(logits, False, 1, replace(TARGET, tau=1, rows=1))
    assert apart.distance[0, 0].tolist() == [[0, 0, 5], [0.5, 1, 0]]
    assert apart.kept[0, 0].tolist() == [[True, True, False], [True, True, True]]
    together = survivors(logits, False, 1, replace(TARGET, tau=1, rows=2))
    assert together.distance[0, 0].tolist() == [[0, 0, 0]]
    assert (apart.streamed, together.streamed) == (6, 3)
    half = 1 / 128
    soft = torch.sigmoid(torch.tensor([1.0, 1.0, -4.0], dtype=torch.float64) + half)
    assert torch.allclose(apart.soft[0, 0, 0], soft)


def test_the_gradient_pulls_the_nearest_row_and_pushes_the_maximum():
    logits = torch.tensor([[[[4.0, 0.0], [3.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    survivors(logits, False, 1, replace(TARGET, tau=2, rows=2)).soft[0, 0, 0, 1].backward()
    # The second key is nearest to the second row, 1 bit below its maximum; the first row, 4 below, does not matter.
    slope = logits.grad[0, 0, 1, 1]
    assert slope > 0
    assert torch.allclose(logits.grad[0, 0], torch.tensor([[0.0, 0.0], [-slope, slope]], dtype=torch.float64))


def tensors(seed: int, *shapes) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("gqa", [False, True])
def test_its_output_is_pytorchs_where_nothing_is_dropped(causal, gqa):
    q, k, v = tensors(1, (2, 4, 12, 8), (2, 2 if gqa else 4, 12, 8), (2, 2 if gqa else 4, 12, 6))
    attention = SparsityTargetedAttention(TARGET)
    options = {"is_causal": causal, "scale": 0.4, "enable_gqa": gqa}
    output = attention(q, k, v, **options)
    assert torch.allclose(output, torch.nn.functional.scaled_dot_product_attention(q, k, v, **options), atol=1e-6)
    assert len(attention.shares) == 1


@pytest.mark.parametrize(("heads", "rows"), [(2, 5), (4, 6)])
def test_with_drop_its_output_is_close_to_the_cores(heads, rows):
    q, k, v = tensors(2, (1, heads, 30, 8), (1, 2, 30, 8), (1, 2, 30, 6))
    layer = quantise(3 * q[0].numpy(), k[0].numpy(), v[0].numpy())
    group = layer.group
    exact = [
        torch.from_numpy(part * np.repeat(scale, len(part) // 2)[:, None, None])[None]
        for part, scale in zip(
            (layer.query, layer.key, layer.value), (layer.query_scale, layer.key_scale, layer.value_scale), strict=True
        )
    ]
    target = SparsityTarget(0.5, tau=2, rows=rows, drop=True)
    attended = attend(layer, core_of(rows), Mask.of(True), Threshold.of(tau=2), keep=True)
    assert attended.survivors.sum() < 0.8 * attended.streamed.sum()
    dropped = SparsityTargetedAttention(target)(*exact, is_causal=True, enable_gqa=group > 1)
    whole = SparsityTargetedAttention(replace(target, drop=False))(*exact, is_causal=True, enable_gqa=group > 1)
    # What rounding leaves, against what dropping changes.
    assert snr_db(attended.real_output, dropped[0].numpy()) > 40
    assert snr_db(attended.real_output, whole[0].numpy()) < 25


def test_the_penalty_is_of_each_layer_or_of_all_by_what_they_stream():
    q, k = tensors(3, (1, 1, 16, 8), (1, 1, 48, 8))
    for scope in ("layer", "model"):
        attention = SparsityTargetedAttention(replace(TARGET, scope=scope, weight=3))
        attention(q, q, q)
        attention(9 * q, k, k)
        short, long = (float(share) for share in attention.shares)
        assert abs(short - long) > 0.05
        together = (2 * 16 * short + 2 * 48 * long) / (2 * 16 + 2 * 48)
        by_scope = {
            "layer": 3 * ((short - 0.5) ** 2 + (long - 0.5) ** 2) / 2,
            "model": 3 * (together - 0.5) ** 2,
        }
        assert float(attention.penalty()) == pytest.approx(by_scope[scope], rel=1e-5)
        assert not attention.shares
        with pytest.raises(InputError, match="no attention was computed"):
            attention.penalty()


def test_steps_have_their_targets_in_turn():
    q, k = tensors(3, (1, 2, 16, 8), (1, 2, 48, 8))
    targets = [SparsityTarget(0.5, tau=2, rows=1, drop=True), SparsityTarget(0.3, tau=5, rows=8)]
    both = SparsityTargetedAttention(*targets)
    for step in range(4):
        both.step = step
        alone = SparsityTargetedAttention(targets[step % 2])
        assert both.target == targets[step % 2]
        assert torch.equal(both(step * q, k, k), alone(step * q, k, k))
        assert both.penalty() == alone.penalty()
        assert both.reached[step % 2] == alone.reached[0]
    assert both.describe() == f"{both.reached[0]:.1%} and {both.reached[1]:.1%} of the keys survive"
    with pytest.raises(InputError, match="needs a target"):
        SparsityTargetedAttention()


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_training_reaches_the_target_on_the_core(scope):
    """Projections of fixed tokens, trained for the penalty alone: the core then keeps about the target's share."""
    x, *weights = tensors(4, (1, 2, 64, 8), (8, 8), (8, 8))
    for weight in weights:
        weight.requires_grad_()
    attention = SparsityTargetedAttention(SparsityTarget(0.3, tau=4, rows=8, scope=scope, temperature=0.5))

    def share_on_core() -> float:
        q, k = (x[0] @ weight.detach() / math.sqrt(8) for weight in weights)
        attended = attend(quantise(q.numpy(), k.numpy(), k.numpy()), core_of(8), Mask.of(True), Threshold.of(tau=4))
        return float(attended.survivors.sum() / attended.streamed.sum())

    optimiser = torch.optim.Adam(weights, lr=0.1)
    before = share_on_core()
    for _ in range(80):
        q, k = (x @ weight / math.sqrt(8) for weight in weights)
        attention(q, k, k, is_causal=True)
        attention.penalty().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert before > 0.9
    assert share_on_core() == pytest.approx(0.3, abs=0.06)


def test_what_the_core_does_not_do_is_refused():
    q, k = tensors(1, (1, 4, 6, 8), (1, 2, 6, 8))
    attention = SparsityTargetedAttention(TARGET)
    for arguments, options in (((q, q, q, torch.zeros(6, 6)), {}), ((q, q, q), {"dropout_p": 0.1})):
        with pytest.raises(InputError, match="has a causal mask or none, and no dropout"):
            attention(*arguments, **options)
    with pytest.raises(InputError, match="4 query heads can't share 2 key and value heads"):
        attention(q, k, k)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("share", 1.0, "share of a sparsity target must be above 0 and below 1, not 1.0"),
        ("tau", 0.5, "tau of a sparsity target must be from 1.0 to 1023.96875 bits, not 0.5"),
        ("rows", 65, "rows of a sparsity target must be from 1 to 64, not 65"),
        ("temperature", 0.0, "temperature of a sparsity target must be above 0, not 0.0"),
        ("weight", -1.0, "weight of a sparsity target must be 0 or more, not -1.0"),
        ("scope", "head", "scope of a sparsity target must be layer or model, not head"),
    ],
)
def test_targets_that_can_not_be_are_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        replace(TARGET, **{name: value})
