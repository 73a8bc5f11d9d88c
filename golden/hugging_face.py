"""What capturing and running Hugging Face models share: loading them, and what of their attention the core does not do.

PyTorch and transformers are imported when a model is loaded or an attention registered, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError

if TYPE_CHECKING:
    import torch

_UNSUPPORTED = {
    "position_bias": "a position bias",
    "softcap": "capped scores",
    "s_aux": "attention sinks",
    "cache": "a paged cache",
}
"""Arguments of an attention function that change the attention in ways the core does not know."""

_BARRED = -1e4
"""A float mask adds at most this where a key is barred; models use anything from here to minus infinity."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InputError if an attention function was called with something that the core does not compute."""
    for name, what in _UNSUPPORTED.items():
        if options.get(name) is not None:
            raise InputError(f"the model's attention uses {what}, which the core does not compute")


def runs_causal(module: torch.nn.Module, options: Mapping[str, Any]) -> bool:
    """Return whether an attention that was called without a mask is causal, its queries being more than one."""
    causal = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if causal is None else causal)


def allowed_pairs(mask: np.ndarray) -> np.ndarray:
    """Return which pairs of row and key a boolean or additive mask lets through, bool.

    Raises
    ------
    InputError
        If a number that the mask adds is neither 0 nor as good as minus infinity.
    """
    if mask.dtype == np.bool_:
        return mask
    allowed: np.ndarray = mask == 0
    if not np.all(allowed | (mask <= _BARRED)):
        raise InputError(f"a mask may only add 0, or {_BARRED:g} and less where it bars a key: the core adds no bias")
    return allowed


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Make `function` what models with ``attn_implementation=name`` call, with masks as for PyTorch's attention.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        raise InputError("this needs PyTorch and transformers: pip install lean-attention[models]") from error
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)


def load_model(directory: Path, attention: str) -> tuple[Any, Any]:
    """Return the tokenizer and the network, float32, of a model on disk, with an attention by its registered name.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing, or the directory holds no model that they can load.
    """
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise InputError("this needs PyTorch and transformers: pip install lean-attention[models]") from error

    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} is not the directory of a Hugging Face model: it has no config.json")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **local)
        network = AutoModel.from_pretrained(directory, attn_implementation=attention, dtype=torch.float32, **local)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{directory} can't be loaded as a Hugging Face model: {reason}") from error
    return tokenizer, network
