"""What attention over a layer gave: outputs, what each block kept, and the certificate of what was dropped."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from golden import formats
from golden.block_mask import BlockMask
from golden.certificate import Certificate
from golden.masks import Mask
from golden.quantise import QuantisedAttention
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class Attended:
    """A layer under the core's arithmetic.

    Arrays over *blocks* have an element for every kv head and block of rows, which is a job of the core: see
    `golden.plan.Blocks`.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    mask : Mask
        Its mask by position.
    block_mask : BlockMask, optional
        Its static mask, if it has one.
    threshold : Threshold
        Of the first block; of all, unless it has a target.
    rows : int
        Rows of a full block.
    output : numpy.ndarray
        Outputs of the core, int16, shape (query_heads, queries, value_dim), with `formats.OUTPUT_FRACTION_BITS`
        fraction bits, in units of the int8 values.
    maximum, total : numpy.ndarray
        The rows' final m and l, int64, shape (query_heads, queries).
    attendable, dropped : numpy.ndarray
        Keys streamed that the row may attend to, and those of them that were dropped, likewise.
    streamed, survivors, packs : numpy.ndarray
        Keys streamed to each block, keys kept, and packs of these, int64, shape (kv_heads, blocks).
    saturated : numpy.ndarray
        Pairs of row and key, not masked, whose logit saturated, likewise.
    tau : numpy.ndarray
        Threshold that the block used, likewise.
    kept : numpy.ndarray, optional
        Which keys each block kept, bool, shape (kv_heads, blocks, keys), if that was asked for.
    """

    attention: QuantisedAttention
    mask: Mask
    block_mask: BlockMask | None
    threshold: Threshold
    rows: int
    output: np.ndarray
    maximum: np.ndarray
    total: np.ndarray
    attendable: np.ndarray
    dropped: np.ndarray
    streamed: np.ndarray
    survivors: np.ndarray
    packs: np.ndarray
    saturated: np.ndarray
    tau: np.ndarray
    kept: np.ndarray | None = None

    def differences(self, other: Attended) -> list[str]:
        """Return the names of the arrays in which `other` differs in any bit."""
        names = [field.name for field in fields(self) if isinstance(getattr(self, field.name), np.ndarray)]
        return [name for name in names if not np.array_equal(getattr(self, name), getattr(other, name))]

    @property
    def real_output(self) -> np.ndarray:
        """Outputs in units of the float tensors, float64, shape (query_heads, queries, value_dim)."""
        real: np.ndarray = self.output * (self._value_unit / (1 << formats.OUTPUT_FRACTION_BITS))[:, None, None]
        return real

    @property
    def survivor_share(self) -> np.ndarray:
        """Share of the streamed keys of each kv head whose values were fetched, float64, shape (kv_heads,)."""
        share: np.ndarray = self.survivors.sum(axis=1) / self.streamed.sum(axis=1)
        return share

    @property
    def empty(self) -> np.ndarray:
        """bool, shape (query_heads, queries): rows that no key may attend to, whose output is zero."""
        empty: np.ndarray = self.total == 0
        return empty

    @property
    def dropped_share(self) -> np.ndarray:
        """Certified bound of the dropped share of each row's softmax, float64, shape (query_heads, queries)."""
        block = np.arange(self.attention.queries * self.attention.group) // self.rows
        by_row = self.tau[:, block].reshape(self.attention.kv_heads, self.attention.queries, self.attention.group)
        tau = np.swapaxes(by_row, 1, 2).reshape(self.dropped.shape)
        certificate = Certificate.counted(self.dropped, self.attendable, tau, self.threshold.largest_loss)
        return certificate.dropped_share(self.total)

    @property
    def output_error(self) -> np.ndarray:
        """Certified bound of what dropping changes in `real_output`, float64, shape (query_heads, queries)."""
        peak = np.abs(self.attention.value.astype(np.int64)).max(axis=(1, 2))
        bound: np.ndarray = 2 * self.dropped_share * (np.repeat(peak, self.attention.group) * self._value_unit)[:, None]
        return bound

    @property
    def _value_unit(self) -> np.ndarray:
        """Real value of one unit of v for each query head, shape (query_heads,)."""
        return np.repeat(self.attention.value_scale, self.attention.group)
