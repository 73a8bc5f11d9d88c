"""The map of one head: its exact attention weights, beside what the core did with each pair of query and key."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from golden import formats
from golden.attended import Attended
from golden.errors import InputError
from golden.files import make_folder
from golden.masks import Mask
from golden.plan import Blocks
from golden.reference import softmax_weights
from golden.threshold import Threshold

MOST_PAIRS = 1 << 24
"""Pairs of query and key of the largest map, which takes some hundred megabytes."""

FAINTEST = 2.0**-16
"""Weights below this have one colour, however small they are."""

KINDS = ("png", "svg")


class Fate(enum.IntEnum):
    """What became of a pair of query and key."""

    BARRED = 0
    NOT_STREAMED = 1
    DROPPED = 2
    KEPT = 3


LABELS: Mapping[Fate, str] = {
    Fate.KEPT: "kept",
    Fate.DROPPED: "dropped",
    Fate.NOT_STREAMED: "not streamed",
    Fate.BARRED: "barred",
}

# After Okabe and Ito, so that most colour-blind readers can tell them apart, and by lightness as well.
COLOURS: Mapping[Fate, str] = {
    Fate.KEPT: "#0072b2",
    Fate.DROPPED: "#f2d28b",
    Fate.NOT_STREAMED: "#b9786f",
    Fate.BARRED: "#ededed",
}

_STYLE: dict[Any, Any] = {
    "figure.dpi": 90,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    # The same file for the same data, on any day.
    "svg.hashsalt": "lean-attention",
}


@dataclass(frozen=True, eq=False)
class _Edges:
    """Where the cells of a map lie: the edges of its keys, and of all of it as `imshow` takes them."""

    keys: np.ndarray
    extent: tuple[float, float, float, float]

    @classmethod
    def of(cls, positions: np.ndarray, indices: np.ndarray) -> _Edges:
        keys = np.append(indices - 0.5, indices[-1] + 0.5)
        return cls(keys, (float(keys[0]), float(keys[-1]), positions[-1] + 0.5, positions[0] - 0.5))


def _kept(attended: Attended) -> np.ndarray:
    """Return which keys each block kept, bool, shape (kv_heads, blocks, keys)."""
    if attended.kept is None:
        raise InputError("a map needs to know which keys were kept: attend with keep=True")
    return attended.kept


def _streamed(blocks: Blocks, kv_head: int, keys: int) -> np.ndarray:
    """Return which keys are streamed to each block, bool, shape (blocks, keys)."""
    if blocks.streamed is not None:
        return np.asarray(blocks.streamed[kv_head])
    streamed = np.zeros((len(blocks.rows), keys), dtype=bool)
    for row, visible in zip(streamed, blocks.visible, strict=True):
        row[visible] = True
    return streamed


def fates(attended: Attended, head: int, mask: Mask, blocks: Blocks) -> np.ndarray:
    """Return what became of every pair of a query head.

    Parameters
    ----------
    attended : Attended
        The layer, with `kept`.
    head : int
        Query head.
    mask, blocks : Mask, Blocks
        What the layer was run with.

    Returns
    -------
    numpy.ndarray
        `Fate`, uint8, shape (queries, keys).
    """
    attention = attended.attention
    kv_head, offset = divmod(head, attention.group)
    block = (np.arange(attention.queries) * attention.group + offset) // attended.rows
    streamed = _streamed(blocks, kv_head, attention.keys)
    fate = np.where(_kept(attended)[kv_head, block], Fate.KEPT, Fate.DROPPED).astype(np.uint8)
    fate[~streamed[block]] = Fate.NOT_STREAMED
    fate[~mask.allowed(attention.positions, attention.indices)] = Fate.BARRED
    return fate


def head_weights(attended: Attended, head: int, mask: Mask) -> np.ndarray:
    """Return the exact softmax of a query head over all keys that `mask` allows, float64, shape (queries, keys)."""
    attention = attended.attention
    kv_head = head // attention.group
    scale = float(attention.query_scale[kv_head] * attention.key_scale[kv_head]) * attention.softmax_scale
    weights = np.empty((attention.queries, attention.keys))
    for chunk, part in softmax_weights(attention.query[head], attention.key[kv_head], scale, mask, attention.positions):
        weights[chunk] = part
    return weights


def _threshold_text(threshold: Threshold) -> str:
    """Return the threshold in words."""
    if threshold.target:
        text = f"a target of {threshold.target / (1 << formats.TARGET_BITS):.0%}"
    elif threshold.epsilon_shift and threshold.tau == formats.TAU_MIN:
        return f"epsilon {threshold.largest_loss:.2g}"
    else:
        text = f"tau {threshold.tau / (1 << formats.FRACTION_BITS):g}"
    return text + (f" and epsilon {threshold.largest_loss:.2g}" if threshold.epsilon_shift else "")


def _title(attended: Attended, head: int, blocks: Blocks) -> str:
    kv_head = head // attended.attention.group
    parts = []
    if blocks.streamed is not None:
        visible = sum(keys.stop - keys.start for keys in blocks.visible)
        parts.append(f"the block mask streams {attended.streamed[kv_head].sum() / visible:.1%}")
    if attended.threshold.keeps_all:
        parts.append("nothing is dropped")
    else:
        text = _threshold_text(attended.threshold)
        keys = "of that" if parts else "of the keys"
        parts.append(f"{attended.survivor_share[kv_head]:.1%} {keys} survive at {text}")
        parts.append(f"certified loss at most {attended.dropped_share[head].max():.2%}")
    return f"Head {head}: {', '.join(parts)}"


def _subtitle(attended: Attended, head: int, fate: np.ndarray, weights: np.ndarray, name: str) -> str:
    attention = attended.attention
    text = f"{name}: queries {attention.queries}, keys {attention.keys}; blocks of {attended.rows} rows decide together"
    if attention.group > 1:
        text += f", which {attention.group} query heads share"
    if attended.threshold.target:
        tau = attended.tau[head // attention.group] / (1 << formats.FRACTION_BITS)
        text += f"; tau went from {tau[0]:.3g} to {tau[-1]:.3g}, within {tau.min():.3g} to {tau.max():.3g}"
    losses = []
    for what, cause in ((Fate.NOT_STREAMED, "the block mask"), (Fate.DROPPED, "the threshold")):
        if (fate == what).any():
            lost = np.where(fate == what, weights, 0).sum(axis=1)
            losses.append(f"{cause} {lost.mean():.2%} ({lost.max():.2%} in the worst query)")
    return text + (f"\nweight lost in truth to {', to '.join(losses)}" if losses else "")


def _draw_weights(left: Axes, bar: Axes, below: Axes, weights: np.ndarray, fate: np.ndarray, edges: _Edges) -> None:
    """Draw the weights with their colours' scale, and their means by key."""
    smallest = float(weights[weights > 0].min(initial=0.5))
    faintest = 2.0 ** np.floor(np.log2(max(smallest, FAINTEST)))
    image = left.imshow(
        np.ma.array(np.maximum(weights, np.finfo(float).tiny), mask=fate == Fate.BARRED),
        aspect="auto",
        extent=edges.extent,
        cmap=matplotlib.colormaps["magma"].with_extremes(bad=COLOURS[Fate.BARRED]),
        norm=LogNorm(faintest, 1),
        interpolation="nearest",
    )
    colourbar = bar.figure.colorbar(image, cax=bar, extend="min" if smallest < faintest else "neither")
    colourbar.locator = LogLocator(base=2, numticks=10)
    colourbar.formatter = FuncFormatter(lambda weight, _: f"$2^{{{round(np.log2(weight))}}}$")
    colourbar.minorlocator = NullLocator()
    colourbar.update_ticks()
    colourbar.set_label("share of the query's softmax")
    left.set_title("exact attention weights")

    mean = np.divide(weights.sum(axis=0), np.maximum((fate != Fate.BARRED).sum(axis=0), 1))
    below.stairs(np.maximum(mean, faintest), edges.keys, baseline=faintest, fill=True, color="#8c2981")
    below.set_yscale("log", base=2)
    below.yaxis.set_major_locator(LogLocator(base=2, numticks=4))
    below.set_ylim(faintest, 1)
    below.set_ylabel("mean weight\nof the key")


def _draw_fates(
    right: Axes, below: Axes, fate: np.ndarray, streamed: np.ndarray, kept: np.ndarray, edges: _Edges
) -> None:
    """Draw what became of each pair, and by key the blocks that stream it and those that keep it."""
    palette = np.array([to_rgb(COLOURS[kind]) for kind in Fate])
    right.imshow(palette[fate], aspect="auto", extent=edges.extent, interpolation="nearest")
    right.set_title("fate of each pair")
    right.legend(
        handles=[Patch(color=COLOURS[kind], label=text) for kind, text in LABELS.items() if (fate == kind).any()],
        loc="lower right",
        bbox_to_anchor=(1.01, 1.0),
        ncols=len(Fate),
        borderpad=0,
        columnspacing=1,
        handlelength=1,
        handletextpad=0.5,
        fontsize=9,
    )
    below.stairs(streamed, edges.keys, fill=True, color=COLOURS[Fate.DROPPED])
    below.stairs(kept, edges.keys, fill=True, color=COLOURS[Fate.KEPT])
    below.set_ylim(0, max(int(streamed.max()), 1) * 1.05)
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    below.set_ylabel("blocks that\nkeep the key")


def head_map(attended: Attended, head: int, mask: Mask, blocks: Blocks, name: str) -> Figure:
    """Return the map of a query head.

    On the left are its exact softmax weights over all keys that the mask allows, from the int8 tensors in float64. On
    the right is what the core did with each pair. Below are, for each key, its mean weight and how many blocks of rows
    keep it, before those that stream it.

    Parameters
    ----------
    attended : Attended
        The layer, with `kept`.
    head : int
        Query head.
    mask, blocks : Mask, Blocks
        What the layer was run with.
    name : str
        Of the tensors, for the title.

    Raises
    ------
    InputError
        If there is no such head, the map would be too large, or `attended` has no `kept`.
    """
    attention = attended.attention
    if not 0 <= head < attention.query_heads:
        raise InputError(f"head must be from 0 to {attention.query_heads - 1}, not {head}")
    if attention.queries * attention.keys > MOST_PAIRS:
        size = f"{attention.queries} x {attention.keys}"
        raise InputError(f"a map has at most {MOST_PAIRS} pairs of query and key, not {size}")
    fate, weights = fates(attended, head, mask, blocks), head_weights(attended, head, mask)
    kv_head = head // attention.group
    streamed = _streamed(blocks, kv_head, attention.keys).sum(axis=0)
    edges = _Edges.of(attention.positions, attention.indices)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 6.6))
        grid = figure.add_gridspec(
            nrows=2,
            ncols=4,
            left=0.07,
            right=0.985,
            top=0.815,
            bottom=0.085,
            width_ratios=(1, 0.025, 0.25, 1),
            height_ratios=(4, 1),
            hspace=0.09,
            wspace=0.05,
        )
        left = figure.add_subplot(grid[0, 0])
        right = figure.add_subplot(grid[0, 3], sharex=left, sharey=left)
        below_left = figure.add_subplot(grid[1, 0], sharex=left)
        below_right = figure.add_subplot(grid[1, 3], sharex=left)
        figure.text(0.012, 0.963, _title(attended, head, blocks), fontsize=11, fontweight="bold", va="center")
        figure.text(0.012, 0.94, _subtitle(attended, head, fate, weights, name), color="#444444", va="top")
        _draw_weights(left, figure.add_subplot(grid[0, 1]), below_left, weights, fate, edges)
        _draw_fates(right, below_right, fate, streamed, _kept(attended)[kv_head].sum(axis=0), edges)
        for axes in (left, right):
            axes.set_ylabel("query position (tokens)")
            axes.tick_params(axis="x", labelbottom=False)
            axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        for axes in (below_left, below_right):
            axes.set_xlabel("key index (tokens)")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
            axes.set_xlim(edges.keys[0], edges.keys[-1])
    return figure


def require_kind(path: Path) -> str:
    """Return the kind of picture that `path` ends in, or raise InputError if there is no such kind."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise InputError(f"a map is written as {' or '.join(f'.{known}' for known in KINDS)}, not {path.name}")
    return kind


def save_map(figure: Figure, path: Path) -> None:
    """Write a map as PNG or SVG, by the ending of `path`.

    Raises
    ------
    InputError
        If the ending is another or the file can't be written.
    """
    kind = require_kind(path)
    make_folder(path.parent)
    try:
        with matplotlib.rc_context(_STYLE):
            if kind == "svg":
                figure.savefig(path, format=kind, metadata={"Date": None})
            else:
                figure.savefig(path, format=kind, pil_kwargs={"optimize": True})
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
