"""What surrounds the core in a layer of attention: products with weights, the cache, and the bytes of both.

The core computes the softmax attention of a layer and nothing else. Its projections, which make q, k and v and take up
the result, are for a matrix unit beside it. How many there are is what variants of attention differ in: this module
counts them as the function of `golden.variants` that it names computes them, for the model dimension of a workload,
which is heads times head_dim.

Weights and activations have 8 bits, the core's outputs 16. Every tensor is counted where it is made and where it is
taken up: a layer's input once for all its projections, weights once for all sequences of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from golden import formats
from golden.errors import InputError
from golden.variants import AttentionKind
from perf_model.workload import Workload

_OUTPUT_BYTES = formats.OUTPUT_BITS // formats.DATA_BITS


@dataclass(frozen=True)
class Projection:
    """A product of activations with weights, of one layer and all sequences.

    Parameters
    ----------
    name : str
        What it makes.
    parameters : int
        Weights that the model holds for it.
    macs : int
        Multiply-accumulates.
    weights : int
        Bytes of weights that are read.
    read, written : int
        Bytes of activations that are read beside the layer's input, and written.
    """

    name: str
    parameters: int
    macs: int
    weights: int
    read: int
    written: int


@dataclass(frozen=True)
class AttentionLayer:
    """A layer of a variant of attention: what the core computes, and the products around it.

    Parameters
    ----------
    name : str
        The variant.
    workload : Workload
        What of it the core computes, in all layers of the model.
    input_bytes : int
        Bytes of the input of one layer, all sequences.
    projections : tuple of Projection
        The products of one layer.
    cache : int
        Bytes a token that one layer keeps for later queries.
    """

    name: str
    workload: Workload
    input_bytes: int
    projections: tuple[Projection, ...]
    cache: int

    @property
    def parameters(self) -> int:
        """Weights of one layer."""
        return sum(projection.parameters for projection in self.projections)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the projections of all layers."""
        return self.workload.layers * sum(projection.macs for projection in self.projections)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that all layers read."""
        return self.workload.layers * sum(projection.weights for projection in self.projections)

    @property
    def activation_bytes(self) -> int:
        """Bytes of activations that the projections of all layers read and write."""
        tensors = sum(projection.read + projection.written for projection in self.projections)
        return self.workload.layers * (self.input_bytes + tensors)


def _dimension(workload: Workload) -> int:
    return workload.heads * workload.head_dim


def _length(workload: Workload) -> int:
    (length,) = workload.lengths
    return length


def _tokens(workload: Workload) -> int:
    """Return the tokens that a layer takes in, of all sequences."""
    return workload.queries * workload.batch


def _dense(name: str, tokens: int, inputs: int, outputs: int, read: int = 0) -> Projection:
    """Return the product of so many tokens with a whole matrix."""
    weights = inputs * outputs
    return Projection(name, weights, tokens * weights, weights, read, tokens * outputs)


def _mixing(workload: Workload) -> Projection:
    """Return the product of W_A with the tokens.

    Under a causal mask W_A is lower triangular, and one token more takes one row of it, over all tokens before.
    """
    length, width = _length(workload), workload.batch * _dimension(workload)
    triangle = length * (length + 1) // 2
    if workload.phase == "decode":
        return Projection("values", triangle, length * width, length, length * width, width)
    pairs = triangle if workload.causal else length**2
    return Projection("values", pairs, pairs * width, pairs, 0, length * width)


def multi_head_layer(name: str, kind: AttentionKind, workload: Workload, kv_heads: int | None = None) -> AttentionLayer:
    """Return a layer of standard, Optimised, Efficient or Super Attention.

    Parameters
    ----------
    name : str
        The variant's.
    kind : AttentionKind
        Which projections there are.
    workload : Workload
        Its dimension, heads and length.
    kv_heads : int, optional
        Key and value heads of a standard layer; as many as query heads by default.

    Raises
    ------
    InputError
        If `kv_heads` does not divide the heads, or one more token is to mix values that no mask keeps from changing.
    """
    if kind.mixes_tokens and workload.phase == "decode" and not workload.causal:
        raise InputError("Super Attention decodes only under a causal mask: without one a token changes all values")
    inner = replace(workload, kv_heads=kv_heads, value_dim=None, shared_values=kind == AttentionKind.EFFICIENT)
    tokens, dimension, width = _tokens(inner), _dimension(inner), inner.key_heads * inner.head_dim
    projections = [_dense("query", tokens, dimension, dimension)]
    if kind.projects_keys:
        projections.append(_dense("keys", tokens, dimension, width))
    if kind.projects_values:
        projections.append(_dense("values", tokens, dimension, width))
    if kind.mixes_tokens:
        projections.append(_mixing(inner))
    projections.append(_dense("output", tokens, dimension, dimension, read=_OUTPUT_BYTES * tokens * dimension))
    cache = width if inner.shared_values else 2 * width
    return AttentionLayer(name, inner, tokens * dimension, tuple(projections), cache)


def latent_layer(name: str, workload: Workload, absorbed: bool) -> AttentionLayer:
    """Return a layer of latent attention, plain or absorbed, in the proportions of DeepSeek-V2 (arXiv 2405.04434).

    A latent row has four times the elements of a head, and a rotated key half of them. The plain form makes keys and
    values of all the tokens that are attended to, in decode at every step; the absorbed form works on the cache.
    """
    tokens, dimension, heads, plain = _tokens(workload), _dimension(workload), workload.heads, workload.head_dim
    latent, rotated = 4 * plain, plain // 2
    joined, up = heads * plain, 2 * heads * latent * plain
    query = _dense("query", tokens, dimension, heads * (plain + rotated))
    down = _dense("latent rows and rotated keys", tokens, dimension, latent + rotated)
    if absorbed:
        # A query is turned into the latent space and joins its rotated part, and the core's result is turned out of it.
        written = tokens * heads * (latent + rotated) + tokens * joined
        read = query.written + _OUTPUT_BYTES * tokens * heads * latent
        between = Projection("turned queries and results", up, tokens * up, up, read, written)
        output = _dense("output", tokens, joined, dimension, read=tokens * joined)
        inner = replace(workload, kv_heads=1, head_dim=latent + rotated, value_dim=latent, shared_values=True)
    else:
        seen = _length(workload) * workload.batch
        written = seen * heads * (2 * plain + rotated)
        between = Projection("keys and values", up, seen * up, up, seen * (latent + rotated), written)
        output = _dense("output", tokens, joined, dimension, read=_OUTPUT_BYTES * tokens * joined)
        inner = replace(workload, kv_heads=None, head_dim=plain + rotated, value_dim=plain, shared_values=False)
    projections = (query, down, between, output)
    return AttentionLayer(name, inner, tokens * dimension, projections, latent + rotated)


def _one_head(workload: Workload, shared_values: bool = False) -> Workload:
    """Return the workload with one head of its whole dimension."""
    dimension = _dimension(workload)
    return replace(workload, heads=1, kv_heads=None, head_dim=dimension, value_dim=None, shared_values=shared_values)


def luong_layer(name: str, workload: Workload, general: bool) -> AttentionLayer:
    """Return Luong's attention with dot or general scores: the encoder's states are keys and values alike."""
    inner = _one_head(workload, shared_values=True)
    tokens, dimension = _tokens(inner), inner.head_dim
    width = tokens * dimension
    projections = [_dense("query", tokens, dimension, dimension)] if general else []
    projections.append(_dense("attentional state", tokens, 2 * dimension, dimension, read=_OUTPUT_BYTES * width))
    return AttentionLayer(name, inner, width, tuple(projections), dimension)


def memory_network_layer(name: str, workload: Workload) -> AttentionLayer:
    """Return a memory network whose hops are the layers, each with embeddings of all items for keys and for values."""
    inner = _one_head(workload)
    items = _length(inner) * inner.batch
    projections = tuple(_dense(made, items, inner.head_dim, inner.head_dim) for made in ("keys", "values"))
    return AttentionLayer(name, inner, items * inner.head_dim, projections, 2 * inner.head_dim)


def snail_layer(name: str, workload: Workload) -> AttentionLayer:
    """Return SNAIL's attention block, one causal head; its convolutions are not counted."""
    inner = replace(_one_head(workload), causal=True)
    tokens, dimension = _tokens(inner), inner.head_dim
    projections = tuple(_dense(made, tokens, dimension, dimension) for made in ("query", "keys", "values"))
    return AttentionLayer(name, inner, tokens * dimension, projections, 2 * dimension)


def _refuse(name: str, workload: Workload) -> AttentionLayer:
    raise InputError(f"{name} attention has additive scores, which are no dot products: none of it runs on the core")


_STANDARD = AttentionKind.STANDARD
_MAKERS: dict[str, Callable[[str, Workload], AttentionLayer]] = {
    **{
        str(kind): lambda name, workload: multi_head_layer(name, AttentionKind(name), workload)
        for kind in AttentionKind
    },
    "grouped": lambda name, workload: multi_head_layer(name, _STANDARD, workload, max(workload.heads // 4, 1)),
    "multi-query": lambda name, workload: multi_head_layer(name, _STANDARD, workload, 1),
    "latent": partial(latent_layer, absorbed=False),
    "absorbed-latent": partial(latent_layer, absorbed=True),
    "luong-dot": partial(luong_layer, general=False),
    "luong-general": partial(luong_layer, general=True),
    "luong-concat": _refuse,
    "bahdanau": _refuse,
    "memory-network": memory_network_layer,
    "snail": snail_layer,
}

VARIANTS = tuple(_MAKERS)
"""Names of the variants that `variant_layer` knows."""


def variant_layer(name: str, workload: Workload) -> AttentionLayer:
    """Return a layer of a variant, of the dimension, heads, length and phase of a workload.

    Parameters
    ----------
    name : str
        One of `VARIANTS`. Grouped attention has a quarter of the heads for keys and values.
    workload : Workload
        Its key and value heads, value dimension and shared values do not matter.

    Raises
    ------
    InputError
        If there is no such variant, the core computes none of it, it is not possible for the workload, or that has
        several lengths or a chunk of queries.
    """
    if len(workload.lengths) > 1 or workload.chunk is not None:
        raise InputError("variants are compared on sequences of one length, in prefill or decode as a whole")
    if name not in _MAKERS:
        raise InputError(f"there is no variant {name!r}; there are {', '.join(VARIANTS)}")
    return _MAKERS[name](name, workload)
