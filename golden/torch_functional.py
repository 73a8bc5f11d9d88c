"""PyTorch's attention under the hardware's exact arithmetic, by itself and for Hugging Face models.

`torch_attention` takes the place of `torch.nn.functional.scaled_dot_product_attention`. `register_torch_attention`
makes it an attention implementation of transformers, so that a model runs unchanged:

    collector = register_torch_attention(threshold=Threshold.of(tau=8))
    model = AutoModel.from_pretrained(directory, attn_implementation="lean_attention")

PyTorch and transformers are imported when one of these is called, and only then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from golden.attended import Attended
from golden.batch import core_for
from golden.block_mask import BlockMask
from golden.collector import Collector
from golden.config import CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.hugging_face import allowed_pairs, check_options, register_attention, runs_causal
from golden.job_record import JobLog
from golden.masked import MaskedAttended, attend_masked
from golden.masks import Mask
from golden.quantise import quantise
from golden.threshold import Threshold

if TYPE_CHECKING:
    import torch


def _array(name: str, tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor that attention can be computed of as an array, bfloat16 as float32."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{name} must be a tensor, not {type(tensor).__name__}")
    if tensor.device.type != "cpu":
        raise InputError(f"{name} is on {tensor.device}; the core's arithmetic runs on the CPU")
    if tensor.is_nested or tensor.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise InputError(
            f"{name} requires a gradient and this attention has none: detach it, or run in torch.no_grad()"
        )
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: np.ndarray = tensor.detach().numpy()
    return array


def _operands(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, enable_gqa: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tensors as arrays (..., heads, length, dimension) with equal axes before the heads."""
    q, k, v = _array("query", query), _array("key", key), _array("value", value)
    if not query.dtype == key.dtype == value.dtype:
        raise InputError(f"query, key and value must have one dtype, not {query.dtype}, {key.dtype} and {value.dtype}")
    for name, array in (("query", q), ("key", k), ("value", v)):
        if array.dtype not in (np.float16, np.float32, np.float64):
            raise InputError(f"{name} must be float16, bfloat16, float32 or float64, not {query.dtype}")
        if array.ndim < 2:
            raise InputError(f"{name} must have axes length x dimension, or more before these, not {array.shape}")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds values that are not finite")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or not q.shape[-1] * v.shape[-1]:
        raise InputError(
            "query and key must have the same dimension, key and value the same length, and no dimension may be 0, "
            f"not {q.shape}, {k.shape} and {v.shape}"
        )
    axes = max(3, q.ndim, k.ndim, v.ndim)
    q, k, v = (array.reshape((1,) * (axes - array.ndim) + array.shape) for array in (q, k, v))
    own = 2
    if enable_gqa:
        own = 3
        heads, of_key, of_value = (array.shape[-3] for array in (q, k, v))
        kv_heads = max(of_key, of_value)
        if not of_key * of_value or heads % kv_heads or kv_heads % of_key or kv_heads % of_value:
            raise InputError(
                f"query has {heads} heads, which those of key and value, {of_key} and {of_value}, must divide"
            )
        k, v = (np.repeat(array, kv_heads // array.shape[-3], axis=-3) for array in (k, v))
    try:
        leading = np.broadcast_shapes(*(array.shape[:-own] for array in (q, k, v)))
    except ValueError as error:
        shapes = f"{q.shape}, {k.shape} and {v.shape}"
        raise InputError(
            f"the axes of query, key and value before {own} last must be the same, not {shapes}"
        ) from error
    q, k, v = (np.broadcast_to(array, leading + array.shape[-own:]) for array in (q, k, v))
    return q, k, v


def _pairs(mask: torch.Tensor, scores: tuple[int, ...]) -> np.ndarray:
    """Return which of `scores`, (..., heads, queries, keys), a mask lets through; one head stands for equal heads."""
    array = _array("attn_mask", mask)
    if array.dtype.kind not in "bf":
        raise InputError(f"attn_mask must be bool or float, not {mask.dtype}")
    shape = (1,) * (len(scores) - array.ndim) + array.shape
    fits = len(shape) == len(scores) and all(size in (1, wanted) for size, wanted in zip(shape, scores, strict=True))
    if array.ndim < 2 or not fits:
        raise InputError(f"attn_mask must be broadcastable to {scores}, not {array.shape}")
    return np.broadcast_to(allowed_pairs(array).reshape(shape), (*scores[:-3], shape[-3], *scores[-2:]))


def _attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    allowed: np.ndarray | None,
    causal: bool,
    scale: float | None,
    config: CoreConfig,
    threshold: Threshold | None,
    block_mask: BlockMask | None,
    keep: bool,
) -> MaskedAttended:
    """Run one sequence, under a boolean mask, or a causal one that counts queries and keys from 0, or none."""
    if allowed is not None:
        return attend_masked(q, k, v, allowed, config, scale, threshold, block_mask, keep)
    if causal:
        k, v = k[:, : q.shape[1]], v[:, : q.shape[1]]
    attended = attend(quantise(q, k, v, scale), config, Mask.of(causal), threshold, block_mask, keep=keep)
    return MaskedAttended(attended.real_output, [attended])


def torch_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    config: CoreConfig | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
    collector: Collector | None = None,
    layer: int = 0,
    log: JobLog | None = None,
) -> torch.Tensor:
    """Return attention under the hardware's arithmetic, called as `torch.nn.functional` has it.

    Every sequence and head is quantised by itself, to int8. A key that no query of a head may attend to is left out
    before that, and so is a query that may attend to nothing. With as many queries as keys and a mask, queries whose
    own key is barred to all are taken for padding and quantised apart. So padding does not change what is real.

    Parameters
    ----------
    query : torch.Tensor
        float16, bfloat16, float32 or float64, on the CPU, shape (..., heads, queries, head_dim). The axes in front are
        optional and broadcast against those of `key` and `value`, as that of the heads is without `enable_gqa`.
    key, value : torch.Tensor
        Likewise, shapes (..., kv_heads, keys, head_dim) and (..., kv_heads, keys, value_dim).
    attn_mask : torch.Tensor, optional
        Broadcastable to (..., heads, queries, keys): bool, True where a query may attend to a key, or float, 0 there
        and -1e4 or less elsewhere. Masks by position and padding take the fewest jobs, see `golden.masked`.
    dropout_p : float
        Must be 0.
    is_causal : bool
        Query i attends to keys 0 to i, also where there are more keys than queries; `attn_mask` must be None.
    scale : float, optional
        Factor from ``q . k`` to the exponent of e, above 0; ``1 / sqrt(head_dim)`` by default.
    enable_gqa : bool
        Query head h uses key and value head ``h // (heads // kv_heads)``, and the heads of such a group share a block
        of the core. The number of heads need not be the same for `key` and `value`, as long as both divide `heads`.
    config : CoreConfig, optional
        The core; the preset `default` if not given, with dimensions as large as the tensors need.
    threshold : Threshold, optional
        Which keys are dropped; none by default.
    block_mask : BlockMask, optional
        Static mask of blocks, for every sequence; keys outside it are not streamed.
    collector : Collector, optional
        Takes the call's statistics, under the number `layer`.
    layer : int
        See `collector`.
    log : JobLog, optional
        Takes the call's jobs; it is for the same core, so `config` must be given.

    Returns
    -------
    torch.Tensor
        Shape (..., heads, queries, value_dim), dtype that of `query`. A query that may attend to nothing gives zeros.

    Raises
    ------
    InputError
        If shapes, dtypes or values are not as described, or a tensor holds NaN or infinity, requires a gradient while
        gradients are recorded, or is not on the CPU.
    """
    import torch

    if dropout_p != 0:
        raise InputError(f"dropout_p must be 0, not {dropout_p}: the core has no dropout")
    if attn_mask is not None and is_causal:
        raise InputError("attn_mask and is_causal exclude each other")
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale must be a finite number above 0, not {scale}")
    q, k, v = _operands(query, key, value, enable_gqa)
    allowed = None if attn_mask is None else _pairs(attn_mask, (*q.shape[:-1], k.shape[-2]))
    core = config or core_for(q.shape[-1], v.shape[-1])
    if log is not None and log.config != core:
        raise InputError("a log of jobs must be for the core that they run on")
    output = np.zeros((*q.shape[:-1], v.shape[-1]))
    parts: list[Attended] = []
    for sequence in np.ndindex(q.shape[:-3] if output.size and k.shape[-2] else 0):
        pairs = None if allowed is None else allowed[sequence]
        attended = _attend(
            q[sequence],
            k[sequence],
            v[sequence],
            pairs,
            is_causal,
            scale,
            core,
            threshold,
            block_mask,
            keep=log is not None,
        )
        output[sequence] = attended.output
        parts += attended.parts
    if collector is not None:
        collector.add(layer, parts)
    if log is not None:
        log.add(parts)
    axes = max(2, query.ndim, key.ndim, value.ndim)
    result: torch.Tensor = torch.from_numpy(output).to(query.dtype)
    return result.reshape(result.shape[result.ndim - axes :])


class _ModelAttention:
    """The attention function of transformers' models, in `torch_attention`."""

    def __init__(
        self,
        config: CoreConfig | None,
        threshold: Threshold | None,
        block_masks: Mapping[int, BlockMask],
        log: JobLog | None,
    ) -> None:
        self.config = config
        self.threshold = threshold
        self.block_masks = block_masks
        self.log = log
        self.collector = Collector()
        self._layers: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        check_options(options)
        layer = self._layers.setdefault(module, len(self._layers))
        output = torch_attention(
            query,
            key,
            value,
            None if attention_mask is None else attention_mask[..., : key.shape[-2]],
            dropout,
            attention_mask is None and query.shape[-2] > 1 and runs_causal(module, options),
            scaling,
            enable_gqa=True,
            config=self.config,
            threshold=self.threshold,
            block_mask=self.block_masks.get(layer),
            collector=self.collector,
            layer=layer,
            log=self.log,
        )
        return output.transpose(1, 2).contiguous(), None


def register_torch_attention(
    *,
    config: CoreConfig | None = None,
    threshold: Threshold | None = None,
    block_masks: Mapping[int, BlockMask] | None = None,
    name: str = "lean_attention",
    log: JobLog | None = None,
) -> Collector:
    """Make the hardware's arithmetic an attention implementation of Hugging Face models.

    Models loaded with ``attn_implementation=name`` run it from then on, in evaluation and without gradients.
    Registering the name again changes what such models do from their next call, and counts from zero.

    Parameters
    ----------
    config : CoreConfig, optional
        The core; the preset `default` if not given, with dimensions as large as a layer needs.
    threshold : Threshold, optional
        Of every layer; nothing is dropped by default.
    block_masks : mapping of int to BlockMask, optional
        Static masks by layer, as `golden.block_mask.load_block_masks` returns them. Layers are counted from 0 in the
        order in which they first run; a layer without one has every block.
    name : str
        The implementation's name for transformers.
    log : JobLog, optional
        Takes the jobs of all layers; it is for the same core, so `config` must be given.

    Returns
    -------
    Collector
        Gathers the statistics of the calls. All queries that see a key count, those of padding too.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing. A model raises it when it runs if its attention is not the core's.
    """
    attention = _ModelAttention(config, threshold, dict(block_masks or {}), log)
    register_attention(name, attention)
    return attention.collector
