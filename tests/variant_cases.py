"""Every variant whose scores are dot products, as a function of the datapath alone, on small random arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from golden.masks import Mask, MaskKind
from golden.variants import (
    Datapath,
    Hop,
    LatentWeights,
    Linear,
    absorbed_latent_attention,
    attention_block,
    dot_attention,
    efficient_attention,
    general_attention,
    latent_attention,
    memory_read,
    multi_head_attention,
    optimised_attention,
    super_attention,
)

CAUSAL = Mask(MaskKind.CAUSAL)
LENGTH, DIM, HEADS = 40, 32, 4


def arrays(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Return normal numbers of each shape, matrices scaled so that a product keeps the size of its input."""
    random = np.random.default_rng(seed)
    return [random.normal(0, 1, shape) for shape in shapes]


def linears(seed: int, *shapes: tuple[int, int], bias: bool = False) -> list[Linear]:
    """Return random maps that keep the size of their input."""
    random = np.random.default_rng(seed)
    return [
        Linear(random.normal(0, inputs**-0.5, (inputs, outputs)), random.normal(0, 0.2, outputs) if bias else None)
        for inputs, outputs in shapes
    ]


def latent_weights(
    seed: int,
    dim: int = DIM,
    heads: int = HEADS,
    plain: int = 8,
    rotated: int = 4,
    latent: int = 12,
    value_dim: int = 6,
) -> LatentWeights:
    """Return random weights of latent attention."""
    random = np.random.default_rng(seed)
    return LatentWeights(
        query=random.normal(0, dim**-0.5, (dim, heads * (plain + rotated))),
        down=random.normal(0, dim**-0.5, (dim, latent)),
        rotated_key=random.normal(0, dim**-0.5, (dim, rotated)),
        up_key=random.normal(0, latent**-0.5, (heads, latent, plain)),
        up_value=random.normal(0, latent**-0.5, (heads, latent, value_dim)),
        output=random.normal(0, (heads * value_dim) ** -0.5, (heads * value_dim, dim)),
    )


def variants() -> dict[str, Callable[[Datapath | None], np.ndarray]]:
    """Return the variants by name."""
    x, memory = arrays(1, (LENGTH, DIM), (50, DIM))
    query, key, value, output = linears(2, *[(DIM, DIM)] * 4)
    small_key, small_value = linears(3, (DIM, DIM // 2), (DIM, DIM // 2))
    one_key, one_value = linears(3, (DIM, DIM // HEADS), (DIM, DIM // HEADS))
    mixing = np.tril(np.eye(LENGTH) + np.random.default_rng(4).normal(0, 0.1, (LENGTH, LENGTH)))
    latent = latent_weights(5)
    features, first, second, third = arrays(6, (30, 10), (10, 8), (10, 8), (10, 8))
    hops = [Hop(first / 3, second / 3), Hop(second / 3, third / 3)]
    states, source, weight = arrays(7, (9, 8), (30, 8), (8, 8))
    return {
        "self": lambda datapath: multi_head_attention(x, query, key, value, output, HEADS, datapath=datapath),
        "cross": lambda datapath: multi_head_attention(
            x, query, key, value, output, HEADS, memory=memory, datapath=datapath
        ),
        "causal": lambda datapath: multi_head_attention(
            x, query, key, value, output, HEADS, mask=CAUSAL, datapath=datapath
        ),
        "grouped": lambda datapath: multi_head_attention(
            x, query, small_key, small_value, output, HEADS, kv_heads=2, mask=CAUSAL, datapath=datapath
        ),
        "multi-query": lambda datapath: multi_head_attention(
            x, query, one_key, one_value, output, HEADS, kv_heads=1, datapath=datapath
        ),
        "optimised": lambda datapath: optimised_attention(x, query, key, output, HEADS, datapath=datapath),
        "efficient": lambda datapath: efficient_attention(x, query, output, HEADS, datapath=datapath),
        "super": lambda datapath: super_attention(x, query, mixing, output, HEADS, mask=CAUSAL, datapath=datapath),
        "latent": lambda datapath: latent_attention(x, latent, mask=CAUSAL, datapath=datapath),
        "absorbed latent": lambda datapath: absorbed_latent_attention(x, latent, mask=CAUSAL, datapath=datapath),
        "luong dot": lambda datapath: dot_attention(states, source, datapath=datapath),
        "luong general": lambda datapath: general_attention(states, source, weight / 3, datapath=datapath),
        "memory network": lambda datapath: memory_read(states, features, hops, datapath=datapath),
        "snail": lambda datapath: attention_block(x, query, key, value, datapath=datapath),
    }


VARIANTS = variants()
SHARED = {"efficient", "absorbed latent", "luong dot", "luong general"}
"""Variants whose values are bytes of their keys."""
