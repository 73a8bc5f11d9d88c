"""Where a variant computes its softmax attention: in float64, or under the core's arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from golden.attended import Attended
from golden.batch import core_for
from golden.config import CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask
from golden.quantise import QuantisedAttention, check_shapes, quantise
from golden.reference import float_attention
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class LayerRun:
    """A layer of attention that the datapath ran for a variant.

    Parameters
    ----------
    attended : Attended
        The layer and its results, with which keys each block kept.
    config : CoreConfig
        The core that it ran on.
    """

    attended: Attended
    config: CoreConfig


@dataclass
class Datapath:
    """The core's arithmetic for variants, and what ran on it.

    Parameters
    ----------
    config : CoreConfig, optional
        The core; the preset `default` if not given, with dimensions as large as a layer needs.
    threshold : Threshold
        Which keys are dropped; none by default.
    runs : list of LayerRun
        The layers that ran, in their order. `golden.kept_jobs.kept_jobs` has the jobs of each.
    """

    config: CoreConfig | None = None
    threshold: Threshold = field(default_factory=Threshold)
    runs: list[LayerRun] = field(default_factory=list)

    def run(self, attention: QuantisedAttention, mask: Mask) -> np.ndarray:
        """Run a layer, note it, and return its real outputs: float64, shape (query_heads, queries, value_dim)."""
        config = self.config or core_for(attention.head_dim, attention.value_dim)
        attended = attend(attention, config, mask, self.threshold, keep=True)
        self.runs.append(LayerRun(attended, config))
        return attended.real_output


def softmax_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    mask: Mask | None = None,
    softmax_scale: float | None = None,
    shared: bool = False,
    datapath: Datapath | None = None,
) -> np.ndarray:
    """Return attention by dot products, ``softmax_j(softmax_scale * q_i . k_j)`` times the values.

    Parameters
    ----------
    q : numpy.ndarray
        Shape (query_heads, queries, head_dim); query head h uses key and value head ``h // (query_heads // kv_heads)``.
    k, v : numpy.ndarray
        Shapes (kv_heads, keys, head_dim) and (kv_heads, keys, value_dim).
    mask : Mask, optional
        By `golden.masks.query_positions`; every query sees every key by default.
    softmax_scale : float, optional
        ``1 / sqrt(head_dim)`` by default.
    shared : bool
        The values are the first `value_dim` elements of the keys. On the datapath they are the same int8 numbers then,
        with the scale of the keys, so that memory holds them once, and a core with ``shared_values`` fetches none.
    datapath : Datapath, optional
        The core to run it on; float64 without one.

    Returns
    -------
    numpy.ndarray
        float64, shape (query_heads, queries, value_dim).

    Raises
    ------
    InputError
        If shapes do not agree, the values of a `shared` layer are not the keys', or the core can't hold the layer.
    """
    check_shapes(q, k, v)
    if shared and not np.array_equal(v, k[..., : v.shape[2]]):
        raise InputError("shared values must be the first elements of the keys")
    if datapath is None:
        return float_attention(q, k, v, softmax_scale, mask)
    attention = (
        quantise(q, k, None, softmax_scale, value_dim=v.shape[2]) if shared else quantise(q, k, v, softmax_scale)
    )
    return datapath.run(attention, mask or Mask())
