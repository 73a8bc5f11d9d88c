"""Static masks found from data: what no input attends to is not streamed (Attention Pruning, arXiv 2012.02030).

Over any number of inputs, the attention probability of every pair of positions is averaged, for each layer and head by
itself. One percentile over all the pairs of a layer's heads is its threshold, and pairs at or below it are pruned.

The core streams keys by blocks, so pairs become blocks. There are two rules for which blocks stay:

* ``mean``: the block's mean average is above the threshold. At equal density this leaves more attention, because
  the blocks of the largest means are those that hold the most of it; docs/arithmetic.md has figures.
* ``any``: some pair of it is above the threshold, so that no pair is lost which pair by pair would have stayed.

Query heads that share a key and value head stream the same keys: what one of them keeps, all of them keep.

What is not known is not pruned: a block that the mask lets through, but of which no input had a pair, stays. And every
query keeps a key in every input that was calibrated on: a query that would be left without one gets the strongest block
that it may attend to, and that the shortest input with such a query has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from golden.block_mask import BlockMask
from golden.errors import InputError
from golden.masks import Mask, query_positions
from golden.reference import softmax_weights
from golden.tensors import AttentionTensors, load_attention

RULES = ("mean", "any")
"""Which blocks stay: those whose mean is above the threshold, or those with any pair above it."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """A static mask and what it was cut with.

    Parameters
    ----------
    block_mask : BlockMask
        The mask.
    threshold : float
        Average attention probability at or below which a pair, or the mean of a block, was pruned.
    density : float
        Share of the blocks that stay, of those in which the layer's own mask lets some pair through.
    rescued : int
        Blocks of queries, counted in each kv head, that were given a block because some query had no key left.
    """

    block_mask: BlockMask
    threshold: float
    density: float
    rescued: int


class LayerAverage:
    """The average attention of one layer over its inputs, which are added one at a time.

    Memory is a float64 for each query head, position and key, and a count for each position and key, up to the longest
    input. Shapes below are in ``positions`` and ``keys`` of that.

    Parameters
    ----------
    query_heads, kv_heads : int
        Heads of the layer.
    mask : Mask
        The mask that the layer applies.

    Attributes
    ----------
    total : numpy.ndarray
        Sum of the probabilities of each pair, float64, shape (query_heads, positions, keys).
    count : numpy.ndarray
        Inputs that had both positions of the pair, none where the mask bars it, int64, shape (positions, keys).
    fewest_keys : numpy.ndarray
        Keys of the shortest input in which a query at the position attends to any, int64, shape (positions,); 0 if
        there was none.
    inputs : int
        Inputs added.
    """

    def __init__(self, query_heads: int, kv_heads: int, mask: Mask) -> None:
        self.query_heads = query_heads
        self.kv_heads = kv_heads
        self.mask = mask
        self.total = np.zeros((query_heads, 0, 0))
        self.count = np.zeros((0, 0), dtype=np.int64)
        self.fewest_keys = np.zeros(0, dtype=np.int64)
        self.inputs = 0

    def add(self, tensors: AttentionTensors, mask: Mask | None = None) -> None:
        """Add one input's tensors of the layer: exact softmax in float64, of int8 tensors by what they stand for.

        Parameters
        ----------
        tensors : AttentionTensors
            The tensors. Queries are the last positions of the keys, `golden.masks.query_positions`.
        mask : Mask, optional
            In place of that of `tensors`.

        Raises
        ------
        InputError
            If the tensors are not valid, or heads or mask are not the layer's.
        """
        quantised = tensors.quantise()
        group = quantised.group
        for name, found, expected in (
            ("query heads", quantised.query_heads, self.query_heads),
            ("kv heads", quantised.kv_heads, self.kv_heads),
            ("mask", mask or tensors.mask, self.mask),
        ):
            if found != expected:
                raise InputError(f"the inputs of a layer must agree: {name} {found} after {expected}")
        query, key = tensors.q, tensors.k
        if not tensors.is_float:
            query = quantised.query * np.repeat(quantised.query_scale, group)[:, None, None]
            key = quantised.key * quantised.key_scale[:, None, None]
        positions = query_positions(quantised.queries, quantised.keys)
        self._reach(int(positions[-1]) + 1, quantised.keys)
        first, end = int(positions[0]), int(positions[-1]) + 1
        for head in range(self.query_heads):
            for chunk, weights in softmax_weights(
                query[head], key[head // group], quantised.softmax_scale, self.mask, positions
            ):
                self.total[head, first + chunk.start : first + chunk.stop, : quantised.keys] += weights
        allowed = self.mask.allowed(positions, np.arange(quantised.keys))
        self.count[first:end, : quantised.keys] += allowed
        fewest = self.fewest_keys[first:end]
        fewer = allowed.any(axis=1) & ((fewest == 0) | (fewest > quantised.keys))
        fewest[fewer] = quantised.keys
        self.inputs += 1

    def _reach(self, positions: int, keys: int) -> None:
        """Make room for so many positions and keys."""
        more = max(positions - self.count.shape[0], 0), max(keys - self.count.shape[1], 0)
        if any(more):
            self.total = np.pad(self.total, ((0, 0), (0, more[0]), (0, more[1])))
            self.count = np.pad(self.count, ((0, more[0]), (0, more[1])))
            self.fewest_keys = np.pad(self.fewest_keys, (0, more[0]))

    @property
    def average(self) -> np.ndarray:
        """Average probability of each pair over the inputs that had it, 0 where there was none; shape of `total`."""
        average: np.ndarray = self.total / np.maximum(self.count, 1)
        return average

    def threshold(self, percentile: float) -> float:
        """Return the percentile of the averages of all heads, over pairs that some input had and the mask allows.

        Raises
        ------
        InputError
            If `percentile` is not from 0 to 100, or there is no pair.
        """
        if not 0 <= percentile <= 100:
            raise InputError(f"percentile must be from 0 to 100, not {percentile}")
        seen = self.count > 0
        if not seen.any():
            raise InputError("there is no attention to calibrate on")
        return float(np.percentile(self.average[:, seen], percentile))

    def prune(self, percentile: float, query_block: int = 16, key_block: int = 16, rule: str = "mean") -> Pruned:
        """Return the static mask of the blocks that stay.

        Parameters
        ----------
        percentile : float
            Of the pairs, 0 to 100: see `threshold`.
        query_block, key_block : int
            Positions of a block of queries, key indices of a block of keys.
        rule : str
            One of `RULES`.

        Raises
        ------
        InputError
            If a value is not possible, or nothing was added.
        """
        if rule not in RULES:
            raise InputError(f"rule must be {' or '.join(RULES)}, not {rule}")
        if min(query_block, key_block) < 1:
            raise InputError(f"blocks must have at least 1 position, not {query_block} x {key_block}")
        threshold = self.threshold(percentile)
        rows = np.arange(0, self.count.shape[0], query_block)
        columns = np.arange(0, self.count.shape[1], key_block)
        average, seen = self.average, self.count > 0

        def sums(pairs: np.ndarray) -> np.ndarray:
            by_row = np.add.reduceat(pairs, rows, axis=-2, dtype=np.float64)
            return np.add.reduceat(by_row, columns, axis=-1)

        means = sums(average) / np.maximum(sums(seen), 1)
        keep = means > threshold if rule == "mean" else sums((average > threshold) & seen) > 0
        grouped = (self.kv_heads, -1, *means.shape[1:])
        strength = means.reshape(grouped).max(axis=1)
        allowed = self.mask.allowed(np.arange(self.count.shape[0]), np.arange(self.count.shape[1]))
        possible = sums(allowed) > 0
        kept = (keep.reshape(grouped).any(axis=1) | (sums(seen) == 0)) & possible
        rescued = self._rescue(kept, strength, allowed, query_block, columns)
        density = float(kept.sum() / (self.kv_heads * possible.sum()))
        return Pruned(BlockMask(kept, query_block, key_block), threshold, density, rescued)

    def _rescue(
        self, kept: np.ndarray, strength: np.ndarray, allowed: np.ndarray, query_block: int, columns: np.ndarray
    ) -> int:
        """Give every query a key, in place, and return how many blocks of queries needed one."""
        shortest = np.where(self.fewest_keys == 0, allowed.shape[1], self.fewest_keys)
        there = np.arange(allowed.shape[1]) < shortest[:, None]
        # Which blocks of keys have one that a position may attend to, in every input with that position.
        reach = np.logical_or.reduceat(allowed & there, columns, axis=1)
        rescued = 0
        for kv_head, block in product(range(kept.shape[0]), range(kept.shape[1])):
            row, needed = kept[kv_head, block], False
            for position in range(block * query_block, min((block + 1) * query_block, len(reach))):
                candidates = reach[position]
                if candidates.any() and not (row & candidates).any():
                    row[np.argmax(np.where(candidates, strength[kv_head, block], -1))] = True
                    needed = True
            rescued += needed
        return rescued

    def kept_mass(self, block_mask: BlockMask) -> np.ndarray:
        """Return the share of the attention that `block_mask` leaves to each query, averaged over the inputs.

        The inputs need not be those that the mask was calibrated on.

        Returns
        -------
        numpy.ndarray
            float64, shape (query_heads, positions); NaN where no input had a query that attends to a key.

        Raises
        ------
        InputError
            If the mask is for another number of kv heads, or too short.
        """
        positions, keys = (np.arange(size) for size in self.count.shape)
        block_mask.check(self.kv_heads, positions, keys)
        by_block = np.add.reduceat(self.total, np.arange(0, len(keys), block_mask.key_block), axis=2)
        allowed = block_mask.allowed[:, positions // block_mask.query_block, : by_block.shape[2]]
        kept = (by_block * np.repeat(allowed, self.query_heads // self.kv_heads, axis=0)).sum(axis=2)
        whole = by_block.sum(axis=2)
        return np.asarray(np.divide(kept, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def average_files(paths: Iterable[Path], mask: Mask | None = None) -> dict[int, LayerAverage]:
    """Return the average attention of every layer in files of tensors, one file in memory at a time.

    Parameters
    ----------
    paths : iterable of pathlib.Path
        Files of `golden.tensors.load_attention`, each of one layer and one input, whose metadata say which `layer`.
    mask : Mask, optional
        In place of the files' own.

    Returns
    -------
    dict of int to LayerAverage
        By rising layer.

    Raises
    ------
    InputError
        If a file can't be read or does not say its layer, or files of a layer do not agree.
    """
    layers: dict[int, LayerAverage] = {}
    for path in paths:
        tensors = load_attention(path)
        layer = tensors.layer
        if layer is None:
            raise InputError(f"{path} does not say which layer it is from: it needs a whole number `layer`")
        try:
            if layer not in layers:
                quantised = tensors.quantise()
                layers[layer] = LayerAverage(quantised.query_heads, quantised.kv_heads, mask or tensors.mask)
            layers[layer].add(tensors, mask)
        except InputError as error:
            raise InputError(f"{path}, layer {layer}: {error}") from error
    return dict(sorted(layers.items()))
