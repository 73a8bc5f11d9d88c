"""Capture of attention tensors from a Hugging Face model on disk.

The model runs with an attention function of ours, registered through transformers' `AttentionInterface`. It sees what
the attention proper sees: queries and keys after rotary embeddings, key and value heads not yet repeated for grouped
queries, the scaling and the mask. So nothing here depends on the kind of model. PyTorch and transformers are imported
when a capture is made, and only then.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError
from golden.masks import Mask, MaskKind, query_positions
from golden.tensors import AttentionTensors

if TYPE_CHECKING:
    import torch

_INTERFACE = "lean_attention_capture"
_UNSUPPORTED = {"position_bias": "a position bias", "softcap": "capped scores", "s_aux": "attention sinks"}
"""Arguments of an attention function that change the softmax in ways the core does not know."""

_BARRED = -1e4
"""A float mask adds at most this where a key is barred; models use anything from here to minus infinity."""


def _mask_of(attention_mask: torch.Tensor | None, is_causal: bool, queries: int, keys: int) -> Mask:
    """Return the mask by position that equals what the model applies."""
    if attention_mask is None:
        return Mask.of(causal=is_causal and queries > 1)
    array = attention_mask[0].expand(-1, queries, -1)[:, :, :keys].cpu().numpy()
    allowed = array if array.dtype == bool else array == 0
    exact = array.dtype == bool or np.all(allowed | (array <= _BARRED))
    positions, indices = query_positions(queries, keys), np.arange(keys)
    window = max(int(allowed.sum(axis=-1).max()), 1)
    for mask in (Mask(), Mask(MaskKind.CAUSAL), Mask(MaskKind.WINDOW, window)):
        if exact and np.all(allowed == mask.allowed(positions, indices)):
            return mask
    raise InputError("the layer's mask is neither causal nor a sliding window, so the core can't apply it")


class _Recorder:
    """An attention function that keeps the inputs of its `layer`-th call and leaves the work to PyTorch."""

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.calls = 0
        self.tensors: AttentionTensors | None = None

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        # Of the layers before, too: their outputs, and so the inputs of this one, might be wrong.
        for name, what in _UNSUPPORTED.items():
            if options.get(name) is not None:
                raise InputError(f"the model's attention uses {what}, which the core does not compute")
        if self.calls == self.layer:
            is_causal = options.get("is_causal")
            if is_causal is None:
                is_causal = getattr(module, "is_causal", True)
            q, k, v = (tensor[0].float().cpu().numpy() for tensor in (query, key, value))
            mask = _mask_of(attention_mask, is_causal, q.shape[1], k.shape[1])
            self.tensors = AttentionTensors(q, k, v, softmax_scale=options.get("scaling"), mask=mask)
        self.calls += 1
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output


def capture(
    model: str | os.PathLike[str], text: str, layer: int, tokens: int | None = None, name: str | None = None
) -> AttentionTensors:
    """Run a model over a text and return the tensors of one attention layer.

    Parameters
    ----------
    model : str or os.PathLike
        Directory of a Hugging Face encoder or decoder with its tokenizer. Of an encoder-decoder, the encoder is run.
    text : str
        What the model reads.
    layer : int
        Which attention to record, counted from 0 in the order they run.
    tokens : int, optional
        Cut the text after so many tokens; by default where the model's positions end.
    name : str, optional
        The model's name for the metadata; the directory's by default.

    Returns
    -------
    AttentionTensors
        float32, with the softmax scale, the mask and metadata `model`, `layer` and `tokens`.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing, the directory holds no model that can be captured, the layer doesn't
        exist, more tokens are wanted than the model takes, or the layer's attention is not the core's.
    """
    try:
        import torch
        from transformers import AttentionInterface, AttentionMaskInterface, AutoModel, AutoTokenizer
        from transformers.masking_utils import sdpa_mask
        from transformers.utils import logging
    except ImportError as error:
        raise InputError("a capture needs PyTorch and transformers: pip install lean-attention[models]") from error

    directory = Path(model)
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} is not the directory of a Hugging Face model: it has no config.json")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    recorder = _Recorder(layer)
    AttentionInterface.register(_INTERFACE, recorder)
    AttentionMaskInterface.register(_INTERFACE, sdpa_mask)
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **local)
        network = AutoModel.from_pretrained(directory, attn_implementation=_INTERFACE, dtype=torch.float32, **local)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{directory} can't be loaded as a Hugging Face model: {reason}") from error
    if network.config.is_encoder_decoder:
        network = network.get_encoder()
    network.config.use_cache = False
    longest = getattr(network.config, "max_position_embeddings", None)
    if tokens is not None and longest is not None and tokens > longest:
        raise InputError(f"the model takes at most {longest} tokens, not {tokens}")
    limit = tokens or longest
    encoded = tokenizer(text, return_tensors="pt", truncation=limit is not None, max_length=limit)
    length = encoded["input_ids"].shape[1]
    if length == 0:
        raise InputError("the text has no tokens")
    if limit is not None and length > limit:
        raise InputError(f"the tokenizer adds tokens of its own, so it can't cut the text to {limit}")
    with torch.inference_mode():
        network(input_ids=encoded["input_ids"])
    if recorder.calls == 0:
        raise InputError("the model does not run its attention through transformers' AttentionInterface")
    if recorder.tensors is None:
        raise InputError(f"the model ran {recorder.calls} attention layers, so layer must be below that, not {layer}")
    metadata: dict[str, str | int | float | bool] = {
        "model": name or directory.resolve().name,
        "layer": layer,
        "tokens": length,
    }
    return replace(recorder.tensors, metadata=metadata)
