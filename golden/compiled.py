"""Numba's decorator as every compiled function here has it, and a cache that follows all the sources.

Numba keeps compiled code beside a source file, and compiles anew when that file has changed. It doesn't see a change of
a function or a constant from another module, which the compiled code holds as well. So what is older than any source of
its package or of this one goes before Numba looks for it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from numba import njit

compiled = njit(nogil=True, cache=True)
"""Compile a function at its first call, to run without the interpreter's lock, and keep the code for later runs."""

_HERE = Path(__file__).parent


def forget_stale_code(folder: Path) -> None:
    """Remove Numba's cached code of the modules in `folder` that is older than a module there or in this folder."""
    newest = max(source.stat().st_mtime for place in {folder, _HERE} for source in place.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        # Another process may be faster at any moment.
        with suppress(FileNotFoundError):
            if index.stat().st_mtime < newest:
                index.unlink()


forget_stale_code(_HERE)
