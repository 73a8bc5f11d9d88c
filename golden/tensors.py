"""Attention tensors in .npz files: anybody's `q`, `k` and `v`, and what is known about them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from golden.errors import InputError
from golden.files import read_npz, write_npz
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention, quantise

_TENSORS = ("q", "k", "v")
_SCALES = ("q_scale", "k_scale", "v_scale")
_NAMES = (*_TENSORS, *_SCALES, "softmax_scale", "causal", "window")


@dataclass(frozen=True, eq=False)
class AttentionTensors:
    """The tensors of one attention layer as a file holds them, float or int8.

    Parameters
    ----------
    q : numpy.ndarray
        Shape (query_heads, queries, head_dim).
    k, v : numpy.ndarray
        Shapes (kv_heads, keys, head_dim) and (kv_heads, keys, value_dim).
    q_scale, k_scale, v_scale : numpy.ndarray, optional
        Scales of int8 tensors, one number or shape (kv_heads,); `golden.quantise.INT8_SCALE` when absent.
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` when absent.
    mask : Mask
        The mask that the layer applies, by `golden.masks.query_positions`.
    metadata : dict
        Any further text, numbers and truth values by name.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    q_scale: np.ndarray | None = None
    k_scale: np.ndarray | None = None
    v_scale: np.ndarray | None = None
    softmax_scale: float | None = None
    mask: Mask = field(default_factory=Mask)
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def of(
        cls, attention: QuantisedAttention, mask: Mask, metadata: dict[str, str | int | float | bool]
    ) -> AttentionTensors:
        """Return the tensors and scales of `attention`."""
        return cls(
            attention.query,
            attention.key,
            attention.value,
            attention.query_scale,
            attention.key_scale,
            attention.value_scale,
            attention.softmax_scale,
            mask,
            metadata,
        )

    @property
    def is_float(self) -> bool:
        """Whether none of q, k and v is quantised already."""
        return all(tensor.dtype.kind == "f" for tensor in (self.q, self.k, self.v))

    @property
    def layer(self) -> int | None:
        """The layer of the model that the tensors are from, by their metadata; None if these do not say."""
        layer = self.metadata.get("layer")
        return layer if isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 else None

    def quantise(self, subtract_key_mean: bool = False) -> QuantisedAttention:
        """Return the tensors in int8: see `golden.quantise.quantise`, which also checks them."""
        return quantise(
            self.q,
            self.k,
            self.v,
            self.softmax_scale,
            subtract_key_mean,
            self.q_scale,
            self.k_scale,
            self.v_scale,
        )


def _numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise InputError(f"array {name} of {path} must hold numbers, not {array.dtype}")
    return array.astype(np.float64)


def _scalar(path: Path, arrays: dict[str, np.ndarray], name: str) -> float | None:
    if name not in arrays:
        return None
    array = _numbers(path, name, arrays[name])
    if array.size != 1:
        raise InputError(f"array {name} of {path} must be one number, not shape {array.shape}")
    return float(array.item())


def _mask(path: Path, arrays: dict[str, np.ndarray]) -> Mask:
    causal, window = _scalar(path, arrays, "causal"), _scalar(path, arrays, "window")
    if window is not None and not (window >= 0 and window.is_integer()):
        raise InputError(f"array window of {path} must be a whole number, not {window}")
    return Mask.of(bool(causal), int(window) if window else None)


def load_attention(path: str | os.PathLike[str]) -> AttentionTensors:
    """Read the tensors of one attention layer.

    The file is an .npz with arrays `q`, `k` and `v` (heads x length x dimension, float or int8; grouped queries when q
    has more heads) and, if wanted, `q_scale`, `k_scale` and `v_scale` (of int8 tensors, one number or one per kv head),
    `softmax_scale`, `causal` and `window`. Other arrays that hold a single value are taken as metadata, the rest is
    ignored. Nothing in the file is ever unpickled.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    AttentionTensors
        As read; shapes and dtypes of q, k and v are checked by `AttentionTensors.quantise`.

    Raises
    ------
    InputError
        If there is no such file, it is not an .npz, an array is missing or damaged, or a number is not one.
    """
    path = Path(path)
    arrays = read_npz(path, "arrays q, k and v", _NAMES)
    for name in _TENSORS:
        if name not in arrays:
            raise InputError(f"{path} has no array {name}; it has {', '.join(arrays) or 'none'}")
    scales = {name: _numbers(path, name, arrays[name]) for name in _SCALES if name in arrays}
    metadata = {
        name: array.item()
        for name, array in arrays.items()
        if name not in _NAMES and array.ndim == 0 and array.dtype.kind in "fiubU"
    }
    return AttentionTensors(
        q=arrays["q"],
        k=arrays["k"],
        v=arrays["v"],
        q_scale=scales.get("q_scale"),
        k_scale=scales.get("k_scale"),
        v_scale=scales.get("v_scale"),
        softmax_scale=_scalar(path, arrays, "softmax_scale"),
        mask=_mask(path, arrays),
        metadata=metadata,
    )


def save_attention(path: str | os.PathLike[str], tensors: AttentionTensors) -> None:
    """Write `tensors` so that `load_attention` returns them again.

    Raises
    ------
    InputError
        If the file can't be written.
    """
    arrays: dict[str, Any] = {name: getattr(tensors, name) for name in (*_TENSORS, *_SCALES, "softmax_scale")}
    arrays = {name: value for name, value in arrays.items() if value is not None}
    arrays |= {"causal": tensors.mask.kind != MaskKind.NONE, "window": tensors.mask.window} | tensors.metadata
    write_npz(Path(path), arrays)
