"""Tables of text, as commands print them and as documents show them."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table with its first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" if n == 0 else f"{cell:>{width}}" for n, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in (header, *lines))
    )


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Return a table in Markdown with the columns `left` to the left and the others to the right."""
    sides = ["---" if name in left else "---:" for name in header]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, sides, *lines))
