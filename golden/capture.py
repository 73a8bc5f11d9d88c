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
from golden.hugging_face import allowed_pairs, check_options, load_model, register_attention, runs_causal
from golden.masks import Mask, MaskKind, query_positions
from golden.tensors import AttentionTensors

if TYPE_CHECKING:
    import torch

_INTERFACE = "lean_attention_capture"


def _mask_of(attention_mask: torch.Tensor | None, causal: bool, queries: int, keys: int) -> Mask:
    """Return the mask by position that equals what the model applies."""
    if attention_mask is None:
        return Mask.of(causal=causal and queries > 1)
    allowed = allowed_pairs(attention_mask[0].expand(-1, queries, -1)[:, :, :keys].cpu().numpy())
    positions, indices = query_positions(queries, keys), np.arange(keys)
    window = max(int(allowed.sum(axis=-1).max()), 1)
    for mask in (Mask(), Mask(MaskKind.CAUSAL), Mask(MaskKind.WINDOW, window)):
        if np.all(allowed == mask.allowed(positions, indices)):
            return mask
    raise InputError("the layer's mask is neither causal nor a sliding window, so the core can't apply it")


class LayerRecorder:
    """An attention function for transformers that keeps the inputs of its `layer`-th call; PyTorch does the work.

    Parameters
    ----------
    layer : int
        Which call, counted from 0.

    Attributes
    ----------
    calls : int
        Calls so far.
    tensors : AttentionTensors or None
        The tensors of the wanted call once it was made, float32, without metadata.
    """

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
        """Return PyTorch's attention, called as transformers calls an attention function."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        # Of the layers before, too: their outputs, and so the inputs of this one, might be wrong.
        check_options(options)
        if self.calls == self.layer:
            q, k, v = (tensor[0].float().cpu().numpy() for tensor in (query, key, value))
            mask = _mask_of(attention_mask, runs_causal(module, options), q.shape[1], k.shape[1])
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
    recorder = LayerRecorder(layer)
    register_attention(_INTERFACE, recorder)
    directory = Path(model)
    tokenizer, network = load_model(directory, _INTERFACE)
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
    import torch

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
