"""Attention in its forms: each in float64, and on the core's datapath where its scores are dot products.

A variant is a function of one sequence's arrays. Given a `Datapath`, it computes its softmax attention under the core's
arithmetic, and the datapath notes the layers that ran; without one, in float64. Everything around the attention
(projections, convolutions, embeddings) is float64 either way, because the core does none of it.
"""

from golden.variants.additive import additive_attention
from golden.variants.datapath import Datapath, softmax_attention
from golden.variants.latent import LatentWeights, absorbed_latent_attention, latent_attention
from golden.variants.leaner import AttentionKind, efficient_attention, optimised_attention, super_attention
from golden.variants.linear import Linear
from golden.variants.luong import attentional_state, concat_attention, dot_attention, general_attention
from golden.variants.memory_network import Hop, adjacent_hops, memory_read
from golden.variants.multi_head import multi_head_attention
from golden.variants.snail import DenseWeights, attention_block, causal_convolution, dense_block, tc_block

__all__ = [
    "AttentionKind",
    "Datapath",
    "DenseWeights",
    "Hop",
    "LatentWeights",
    "Linear",
    "absorbed_latent_attention",
    "additive_attention",
    "adjacent_hops",
    "attention_block",
    "attentional_state",
    "causal_convolution",
    "concat_attention",
    "dense_block",
    "dot_attention",
    "efficient_attention",
    "general_attention",
    "latent_attention",
    "memory_read",
    "multi_head_attention",
    "optimised_attention",
    "softmax_attention",
    "super_attention",
    "tc_block",
]
