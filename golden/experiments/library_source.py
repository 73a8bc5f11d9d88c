"""The source of Python's standard library as bytes to train a model on and to measure it with.

It is on every machine that runs this. Files are held out by their name.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.errors import InputError

START = 0
"""The byte before each file of the corpus. Python source has no byte 0."""

HELD_OUT_OF_16 = 1
"""How many sixteenths of the files no training sees."""

_LEFT_OUT_FOLDERS = {"test", "tests", "idle_test"}
_LEFT_OUT_PACKAGES = {"encodings", "pydoc_data"}
"""Written by programs: tables of characters, and the language reference as one file of half the held-out bytes."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Source files as two streams of bytes, `START` before each file.

    Parameters
    ----------
    train, held_out : numpy.ndarray
        uint8.
    """

    train: np.ndarray
    held_out: np.ndarray

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes to train on."""
        return hashlib.sha256(self.train.tobytes()).hexdigest()


def is_held_out(name: str) -> bool:
    """Whether the file of that name is for measuring, not for training.

    The name decides, not the content: a file that a later Python has changed stays on its side, so weights trained with
    one version of Python have not seen what another version measures them on.

    Parameters
    ----------
    name : str
        Path below the folder of the standard library, with ``/``.
    """
    return hashlib.sha256(name.encode()).digest()[0] % 16 < HELD_OUT_OF_16


def library_files(root: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the source files of the standard library, in the order of their names.

    Tests, packages installed beside the library and what programs wrote (`encodings`, `pydoc_data`) are left out.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder of a standard library; by default that of the Python that runs.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(_sources(root), key=lambda path: path.relative_to(root).as_posix()):
        yield path.relative_to(root).as_posix(), path


def _sources(root: Path) -> Iterator[Path]:
    for top in root.glob("*"):
        name = top.name.removesuffix(".py")
        if name not in sys.stdlib_module_names or name in _LEFT_OUT_PACKAGES:
            continue
        if top.suffix == ".py":
            yield top
        else:
            for path in top.rglob("*.py"):
                if not _LEFT_OUT_FOLDERS.intersection(path.relative_to(root).parts):
                    yield path


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the source of the standard library.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder of a standard library; by default that of the Python that runs.

    Raises
    ------
    InputError
        If there are no source files to train on or none to measure on, or one can't be read.
    """
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for name, path in library_files(root):
        try:
            sides[is_held_out(name)].append(bytes([START]) + path.read_bytes())
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from error
    if not all(sides):
        folder = root or sysconfig.get_path("stdlib")
        raise InputError(f"{folder} holds too little of the source of Python's library to train and measure on")
    train, held_out = (np.frombuffer(b"".join(side), dtype=np.uint8) for side in sides)
    return Corpus(train, held_out)


def even_windows(stream: np.ndarray, length: int, number: int) -> np.ndarray:
    """Return windows of `stream` at even distances, the first at its start, shape (number, length).

    Raises
    ------
    InputError
        If the stream is shorter than a window, or does not have so many.
    """
    if length > len(stream):
        raise InputError(f"a window of {length} bytes is longer than the {len(stream)} bytes there are")
    if number > len(stream) - length + 1:
        raise InputError(f"{len(stream)} bytes have {len(stream) - length + 1} windows of {length} bytes, not {number}")
    starts = np.arange(number) * (len(stream) - length) // max(number - 1, 1)
    windows: np.ndarray = stream[starts[:, None] + np.arange(length)]
    return windows
