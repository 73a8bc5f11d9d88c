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
from golden.quantise import QuantisedAttention, quantise, shared_values

_TENSORS = ("q", "k", "v")
_SCALES = ("q_scale", "k_scale", "v_scale")
_NAMES = (*_TENSORS, *_SCALES, "softmax_scale", "causal", "window", "value_dim")


@dataclass(frozen=True, eq=False)
class AttentionTensors:
    """The tensors of one attention layer as a file holds them, float or int8.

    Parameters
    ----------
    q : numpy.ndarray
        Shape (query_heads, queries, head_dim).
    k, v : numpy.ndarray
        Shapes (kv_heads, keys, head_dim) and (kv_heads, keys, value_dim). Without `v` the values are part of `k`.
    q_scale, k_scale, v_scale : numpy.ndarray, optional
        Scales of int8 tensors, one number or shape (kv_heads,); `golden.quantise.INT8_SCALE` when absent.
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` when absent.
    mask : Mask
        The mask that the layer applies, by `golden.masks.query_positions`.
    value_dim : int, optional
        Without `v`: the values are so many of the first elements of `k`, all when absent.
    metadata : dict
        Any further text, numbers and truth values by name.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray | None
    q_scale: np.ndarray | None = None
    k_scale: np.ndarray | None = None
    v_scale: np.ndarray | None = None
    softmax_scale: float | None = None
    mask: Mask = field(default_factory=Mask)
    value_dim: int | None = None
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict)

    @classmethod
    def of(
        cls, attention: QuantisedAttention, mask: Mask, metadata: dict[str, str | int | float | bool]
    ) -> AttentionTensors:
        """Return the tensors and scales of `attention`."""
        return cls(
            attention.query,
            attention.key,
            None if attention.shared else attention.value,
            attention.query_scale,
            attention.key_scale,
            None if attention.shared else attention.value_scale,
            attention.softmax_scale,
            mask,
            attention.value_dim if attention.shared else None,
            metadata,
        )

    @property
    def is_float(self) -> bool:
        """Whether none of q, k and v is quantised already."""
        return all(tensor.dtype.kind == "f" for tensor in (self.q, self.k, self.values))

    @property
    def values(self) -> np.ndarray:
        """The values, be they `v` or part of `k`."""
        return shared_values(self.k, self.value_dim) if self.v is None else self.v

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
            self.value_dim,
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


def _whole(path: Path, arrays: dict[str, np.ndarray], name: str) -> int | None:
    number = _scalar(path, arrays, name)
    if number is not None and not (number >= 0 and number.is_integer()):
        raise InputError(f"array {name} of {path} must be a whole number, not {number}")
    return None if number is None else int(number)


def _mask(path: Path, arrays: dict[str, np.ndarray]) -> Mask:
    return Mask.of(bool(_scalar(path, arrays, "causal")), _whole(path, arrays, "window") or None)


def load_attention(path: str | os.PathLike[str]) -> AttentionTensors:
    """Read the tensors of one attention layer.

    The file is an .npz with arrays `q`, `k` and `v` (heads x length x dimension, float or int8; grouped queries when q
    has more heads) and, if wanted, `q_scale`, `k_scale` and `v_scale` (of int8 tensors, one number or one per kv head),
    `softmax_scale`, `causal` and `window`. In the place of `v` it may have the number `value_dim`: the values then are
    so many of the first elements of `k`. Other arrays that hold a single value are taken as metadata, the rest is
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
        if name not in arrays and not (name == "v" and "value_dim" in arrays):
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
        v=arrays.get("v"),
        q_scale=scales.get("q_scale"),
        k_scale=scales.get("k_scale"),
        v_scale=scales.get("v_scale"),
        softmax_scale=_scalar(path, arrays, "softmax_scale"),
        mask=_mask(path, arrays),
        value_dim=_whole(path, arrays, "value_dim"),
        metadata=metadata,
    )


def save_attention(path: str | os.PathLike[str], tensors: AttentionTensors) -> None:
    """Write `tensors` so that `load_attention` returns them again.

    Raises
    ------
    InputError
        If metadata has the name of a tensor or of an option, or the file can't be written.
    """
    taken = sorted(tensors.metadata.keys() & set(_NAMES))
    if taken:
        raise InputError(f"metadata can't be called {', '.join(taken)}, which {path} has for the attention itself")
    names = (*_TENSORS, *_SCALES, "softmax_scale", "value_dim")
    arrays: dict[str, Any] = {name: getattr(tensors, name) for name in names}
    arrays = {name: value for name, value in arrays.items() if value is not None}
    arrays |= {"causal": tensors.mask.kind != MaskKind.NONE, "window": tensors.mask.window} | tensors.metadata
    write_npz(Path(path), arrays)
