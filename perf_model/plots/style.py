"""What all plots share: colours, fonts, the place of title and subtitle, axes of lengths, and how a plot is saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from golden.config import CoreConfig
from golden.errors import InputError

# Okabe and Ito's colours, which most colour-blind readers can tell apart.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE, YELLOW = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#f0e442",
)
GREY, NOTE = "#999999", "#555555"

SERIES_COLOURS = (BLACK, RED, BLUE, GREEN, ORANGE, SKY, PURPLE)
"""Of thresholds, the first being that at which nothing is dropped."""

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    # The same file for the same data, on any day.
    "svg.hashsalt": "lean-attention",
}
_TITLE_INCHES, _LINE_INCHES, _EDGE_INCHES = 0.3, 0.18, 0.1


@contextmanager
def canvas(
    title: str, subtitle: str, size: tuple[float, float] = (8.2, 4.8), panels: tuple[int, int] = (1, 1), **options: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure and its panels, for drawing in the plots' style.

    Parameters
    ----------
    title : str
        The finding.
    subtitle : str
        What is shown, on what data; may have several lines.
    size : tuple of float
        Width and height in inches.
    panels : tuple of int
        Rows and columns of panels.
    **options
        More for `matplotlib.figure.Figure.subplots`.
    """
    width, height = size
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        left, below = _EDGE_INCHES / width, 1 - (_TITLE_INCHES + _EDGE_INCHES / 2) / height
        figure.text(left, 1 - _EDGE_INCHES / height, title, fontsize=12, fontweight="bold", va="top")
        figure.text(left, below, subtitle, fontsize=9, color=NOTE, va="top", linespacing=1.25)
        top = below - (_LINE_INCHES * (subtitle.count("\n") + 1) + _EDGE_INCHES / 2) / height
        figure.get_layout_engine().set(rect=(0, 0, 1, top))  # type: ignore[union-attr, call-arg]
        yield figure, figure.subplots(*panels, squeeze=False, **options).flatten().tolist()


def core_text(core: CoreConfig) -> str:
    """Return the size of a core in words."""
    return f"core of {core.size} multipliers"


def tau_text(tau: float | None) -> str:
    """Return a threshold in words."""
    return "nothing dropped" if tau is None else f"tau {tau:g}"


def write(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **options: Any) -> None:
    """Write a small note `offset` points from a place of the data; options are those of `Axes.annotate`."""
    axes.annotate(text, place, offset, textcoords="offset points", **({"fontsize": 9} | options))


def length_axis(axes: Axes, lengths: Sequence[int], label: str) -> None:
    """Make the horizontal axis one of lengths, by powers of two."""
    axes.set_xscale("log", base=2)
    ticks = [2**n for n in range(21) if min(lengths) <= 2**n <= max(lengths)]
    ticks = ticks[:: 1 + len(ticks) // 12]
    axes.set_xticks(ticks, [f"{tick // 1024}k" if tick >= 1024 else f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `figure` to `folder` as SVG and PNG and return the two paths.

    Raises
    ------
    InputError
        If it can't be written.
    """
    paths = [folder / f"{name}.{kind}" for kind in ("svg", "png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE):
            for path in paths:
                kind = path.suffix.removeprefix(".")
                options = {"metadata": {"Date": None}} if kind == "svg" else {"pil_kwargs": {"optimize": True}}
                figure.savefig(path, format=kind, **options)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror}") from error
    return paths
