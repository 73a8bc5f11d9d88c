"""Attention over a batch: heads, grouped queries, ragged lengths, from real or int8 tensors to the core's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.attended import Attended
from golden.block_mask import BlockMask
from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask
from golden.quantise import quantise, shared_values
from golden.threshold import Threshold


@dataclass(frozen=True, eq=False)
class BatchAttended:
    """Attention over a batch.

    Parameters
    ----------
    output : numpy.ndarray
        Real outputs, float32, shape (batch, query_heads, queries, value_dim); zeros in the rows of padding.
    sequences : list of Attended
        Of each sequence, without its padding: the core's integer outputs, states, survivors and certificates.
    """

    output: np.ndarray
    sequences: list[Attended]

    @property
    def survivor_share(self) -> float:
        """Share of all streamed keys whose values were fetched."""
        kept = sum(int(sequence.survivors.sum()) for sequence in self.sequences)
        return kept / sum(int(sequence.streamed.sum()) for sequence in self.sequences)


def _lengths(name: str, given: Sequence[int] | np.ndarray | None, batch: int, longest: int) -> list[int]:
    if given is None:
        return [longest] * batch
    lengths = np.asarray(given)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise InputError(f"{name} must be {batch} whole numbers, one a sequence, not {lengths.dtype} {lengths.shape}")
    if lengths.min() < 1 or lengths.max() > longest:
        raise InputError(f"{name} must be from 1 to {longest}, not {lengths.min()} to {lengths.max()}")
    return [int(length) for length in lengths]


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray | None,
    *,
    mask: Mask | None = None,
    threshold: Threshold | None = None,
    block_mask: BlockMask | None = None,
    query_lengths: Sequence[int] | np.ndarray | None = None,
    key_lengths: Sequence[int] | np.ndarray | None = None,
    softmax_scale: float | None = None,
    subtract_key_mean: bool = False,
    q_scale: np.ndarray | float | None = None,
    k_scale: np.ndarray | float | None = None,
    v_scale: np.ndarray | float | None = None,
    value_dim: int | None = None,
    config: CoreConfig | None = None,
    keep: bool = False,
    threads: int | None = None,
) -> BatchAttended:
    """Return attention under the hardware's exact arithmetic.

    Every sequence of the batch is quantised by itself, as it would be for a job list of its own. Memory is linear in
    the lengths: no score matrix is held.

    Parameters
    ----------
    q : numpy.ndarray
        float16, float32, float64 or int8, shape (batch, query_heads, queries, head_dim), or without the first axis for
        one sequence. Query head h uses key and value head ``h // (query_heads // kv_heads)``.
    k, v : numpy.ndarray
        Likewise, shapes (batch, kv_heads, keys, head_dim) and (batch, kv_heads, keys, value_dim). Without `v` the
        values are the first elements of the keys once these are quantised.
    mask : Mask, optional
        By position; the queries of a sequence are at the last positions of its keys, see
        `golden.masks.query_positions`. Every query sees every key by default.
    threshold : Threshold, optional
        Which keys are dropped, `Threshold.of`; none by default.
    block_mask : BlockMask, optional
        Static mask of blocks; keys outside it are not streamed.
    query_lengths, key_lengths : sequence of int, optional
        Rows of each sequence that are not padding, shape (batch,), at least 1; all of them by default.
    softmax_scale : float, optional
        Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` by default.
    subtract_key_mean : bool
        See `golden.quantise.quantise`.
    q_scale, k_scale, v_scale : numpy.ndarray or float, optional
        Scale of an int8 tensor, one number or shape (kv_heads,).
    value_dim : int, optional
        Elements of a value that is part of its key; all of the key's by default.
    config : CoreConfig, optional
        The core; the preset `default` if not given, with dimensions as large as the tensors need.
    keep : bool
        Return which keys each block kept.
    threads : int, optional
        Threads to run on; as many as the process may use by default.

    Returns
    -------
    BatchAttended
        Bit-identical to `golden.layer.run_layer` of each sequence.

    Raises
    ------
    InputError
        If shapes, dtypes, lengths or values are not as described, a tensor holds NaN or infinity, or `config` can't
        hold a sequence.
    """
    batches = [np.asarray(tensor) for tensor in (q, k, k if v is None else v)]
    if any(tensor.ndim not in (3, 4) or tensor.ndim != batches[0].ndim for tensor in batches):
        shapes = ", ".join(str(tensor.shape) for tensor in batches)
        raise InputError(f"q, k and v must have axes heads x length x dimension, or batch before these, not {shapes}")
    single = batches[0].ndim == 3
    if single:
        batches = [tensor[None] for tensor in batches]
    q, k, values = batches
    if not len(q) == len(k) == len(values) >= 1:
        found = f"{len(q)}, {len(k)} and {len(values)}"
        raise InputError(f"q, k and v must have the same number of sequences, not {found}")
    if k.shape[2] != values.shape[2]:
        raise InputError(f"k and v must have the same length, not {k.shape[2]} and {values.shape[2]}")
    if v is None:
        values = shared_values(k, value_dim)
    queries = _lengths("query_lengths", query_lengths, len(q), q.shape[2])
    keys = _lengths("key_lengths", key_lengths, len(k), k.shape[2])
    core = config or core_for(q.shape[3], values.shape[3])
    output = np.zeros((*q.shape[:3], values.shape[3]), dtype=np.float32)
    sequences = []
    for n in range(len(q)):
        tensors = q[n, :, : queries[n]], k[n, :, : keys[n]], None if v is None else values[n, :, : keys[n]]
        quantised = quantise(*tensors, softmax_scale, subtract_key_mean, q_scale, k_scale, v_scale, value_dim)
        sequence = attend(quantised, core, mask, threshold, block_mask, keep=keep, threads=threads)
        output[n, :, : queries[n]] = sequence.real_output
        sequences.append(sequence)
    return BatchAttended(output[0] if single else output, sequences)


def core_for(head_dim: int, value_dim: int) -> CoreConfig:
    """Return the preset `default`, made to hold these dimensions."""
    core = PRESETS["default"]
    whole = [-(-dimension // core.lanes) * core.lanes for dimension in (head_dim, value_dim)]
    return core.override(max_head_dim=max(core.max_head_dim, whole[0]), max_value_dim=max(core.max_value_dim, whole[1]))
