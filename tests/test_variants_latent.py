"""Latent attention: the plain and the absorbed form are equal, and both are the attention of DeepSeek-V2's module."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from golden.errors import InputError
from golden.reference import snr_db
from golden.variants import Datapath, LatentWeights, absorbed_latent_attention, latent_attention
from golden.variants.latent import rotary
from tests.variant_cases import CAUSAL, DIM, arrays, latent_weights

EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("mask", [None, CAUSAL])
@pytest.mark.parametrize("gain", [False, True])
def test_both_forms_are_equal_in_float64(mask, gain):
    weights = latent_weights(1)
    if gain:
        weights = replace(weights, gain=arrays(2, (12,))[0])
    x, memory = arrays(3, (9, DIM), (15, DIM))
    for tokens in (None, memory):
        plain = latent_attention(x, weights, memory=tokens, mask=mask)
        absorbed = absorbed_latent_attention(x, weights, memory=tokens, mask=mask)
        assert np.abs(plain).max() > 0.1
        assert np.allclose(absorbed, plain, **EXACT)


def test_a_score_by_hand():
    """One head, everything 1 but the rotated parts: the second query turns by a radian against the first key."""
    one = np.ones((1, 1, 1))
    weights = LatentWeights(
        query=np.array([[1.0, 1.0, 0.0]]),
        down=np.array([[1.0]]),
        rotated_key=np.array([[1.0, 0.0]]),
        up_key=one,
        up_value=one,
        output=np.array([[1.0]]),
    )
    x = np.array([[1.0], [2.0]])
    # Of the second query, 2 and 2 (cos 1, sin 1); of the keys 1 and (1, 0), and 2 and 2 (cos 1, sin 1).
    scores = np.array([2 + 2 * np.cos(1), 4 + 4]) / np.sqrt(3)
    shares = np.exp(scores) / np.exp(scores).sum()
    for form in (latent_attention, absorbed_latent_attention):
        assert np.allclose(form(x, weights, mask=CAUSAL), [[1.0], [shares @ [1, 2]]], **EXACT)


def test_rotated_scores_depend_on_distance_alone():
    q, k = arrays(4, (1, 6), (1, 6))
    scores = [float((rotary(q, np.array([at + 3])) @ rotary(k, np.array([at])).T).item()) for at in (0, 5, 90)]
    assert np.ptp(scores) < 1e-12
    assert abs(float((q @ k.T).item()) - scores[0]) > 0.1


def test_it_is_the_attention_of_deepseek_v2():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
    reason = "this transformers has no DeepSeek-V2"
    model = pytest.importorskip("transformers.models.deepseek_v2.modeling_deepseek_v2", reason=reason)
    from transformers import DeepseekV2Config

    heads, plain, rotated, latent, value_dim, length = 4, 8, 4, 12, 6, 10
    config = DeepseekV2Config(
        hidden_size=DIM,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        q_lora_rank=None,
        kv_lora_rank=latent,
        qk_nope_head_dim=plain,
        qk_rope_head_dim=rotated,
        v_head_dim=value_dim,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.DeepseekV2Attention(config, 0)
        torch.nn.init.normal_(module.kv_a_layernorm.weight)
    weight = {name: array.detach().double().numpy().T for name, array in module.named_parameters()}
    down, rotated_key = np.split(weight["kv_a_proj_with_mqa.weight"], [latent], axis=1)
    up = weight["kv_b_proj.weight"].reshape(latent, heads, plain + value_dim).transpose(1, 0, 2)
    weights = LatentWeights(
        query=weight["q_proj.weight"],
        down=down,
        rotated_key=rotated_key,
        up_key=up[..., :plain],
        up_value=up[..., plain:],
        output=weight["o_proj.weight"],
        gain=weight["kv_a_layernorm.weight"],
    )
    (x,) = arrays(5, (length, DIM))
    tokens = torch.from_numpy(x).float()[None]
    positions = model.DeepseekV2RotaryEmbedding(config)(tokens, torch.arange(length)[None])
    barred = torch.full((length, length), -torch.inf).triu(1)[None, None]
    with torch.inference_mode():
        expected = module(tokens, attention_mask=barred, position_embeddings=positions)[0][0].numpy()
    for form in (latent_attention, absorbed_latent_attention):
        assert snr_db(expected, form(x, weights, mask=CAUSAL)) > 110  # of float32


def test_the_core_sees_one_head_of_keys_that_hold_their_values():
    weights, (x,) = latent_weights(1), arrays(3, (9, DIM))
    plain, absorbed = Datapath(), Datapath()
    latent_attention(x, weights, mask=CAUSAL, datapath=plain)
    absorbed_latent_attention(x, weights, mask=CAUSAL, datapath=absorbed)
    layer = plain.runs[0].attended.attention
    assert (layer.query_heads, layer.kv_heads, layer.head_dim, layer.value_dim) == (4, 4, 12, 6)
    layer = absorbed.runs[0].attended.attention
    assert (layer.query_heads, layer.kv_heads, layer.head_dim, layer.value_dim) == (4, 1, 16, 12)
    assert layer.softmax_scale == plain.runs[0].attended.attention.softmax_scale == pytest.approx(12**-0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotated_key": np.ones((DIM, 3))}, "the rotated elements of a key must be even in number, not 3"),
        ({"query": np.ones((DIM, 40))}, r"query must have shape \(32, 48\), not \(32, 40\)"),
        ({"down": np.ones((DIM, 11))}, r"down must have shape \(any, 12\), not \(32, 11\)"),
        ({"up_value": np.ones((3, 12, 6))}, r"up_value must have shape \(4, 12, any\), not \(3, 12, 6\)"),
        ({"output": np.ones((20, DIM))}, r"output must have shape \(24, any\), not \(20, 32\)"),
        ({"gain": np.ones(11)}, r"gain must have shape \(12\), not \(11,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(latent_weights(1), **change)
