"""Writing results, with an answer in place of a traceback where that can't be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from golden.errors import InputError


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def make_folder(path: Path) -> None:
    """Create the folder `path` unless it is there, or raise InputError if that can't be done."""
    with _writing(path):
        if path.is_file():
            raise InputError(f"{path} is a file; a folder is needed")
        path.mkdir(parents=True, exist_ok=True)


def require_writable(*paths: Path) -> None:
    """Raise InputError if one of `paths` can't be written, which is better known before an hour's work than after.

    Files that are there keep their content, others are not created; folders are.
    """
    for path in paths:
        make_folder(path.parent)
        with _writing(path):
            new = not path.exists()
            path.open("ab").close()
            if new:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, or raise InputError if that can't be done."""
    make_folder(path.parent)
    with _writing(path):
        path.write_text(text)
