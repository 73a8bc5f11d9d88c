"""Reading and writing files, with an answer in place of a traceback where that can't be done."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from golden.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Answer what fails in the block, which writes `path`, with InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def make_folder(path: Path) -> None:
    """Create the folder `path` unless it is there, or raise InputError if that can't be done."""
    with writing(path):
        if path.is_file():
            raise InputError(f"{path} is a file; a folder is needed")
        path.mkdir(parents=True, exist_ok=True)


def with_suffixes(path: Path, suffixes: Sequence[str], needs: str) -> list[Path]:
    """Return the files of one name with each of `suffixes`; `path` may be one of them, and hold other dots.

    Raises
    ------
    InputError
        If `path` is a folder and no name; it goes on with what is needed, `needs`.
    """
    if path.name in ("", ".."):
        raise InputError(f"{path} is a folder; {needs}")
    name = path.stem if path.suffix in suffixes else path.name
    return [path.with_name(name + suffix) for suffix in suffixes]


def require_writable(*paths: Path) -> None:
    """Raise InputError if one of `paths` can't be written, which is better known before an hour's work than after.

    Files that are there keep their content, others are not created; folders are.
    """
    for path in paths:
        make_folder(path.parent)
        with writing(path):
            new = not path.exists()
            path.open("ab").close()
            if new:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, or raise InputError if that can't be done."""
    make_folder(path.parent)
    with writing(path):
        path.write_text(text)


def read_npz(path: Path, holding: str, needed: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Return every array of a file that can be read without running code from it.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    holding : str
        What such a file holds, for the message about one that is no .npz file.
    needed : container of str, optional
        The arrays that must be readable if they are there; all by default.

    Raises
    ------
    InputError
        If there is no such file, it is not an .npz, or an array that is needed is damaged.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a NumPy .npz file") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is a single array; an .npz file with {holding} is needed")
    arrays: dict[str, np.ndarray] = {}
    with archive:
        for name in archive.files:
            try:
                member = archive[name]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                # A stranger's metadata may be a pickled object; only what is needed has to be readable.
                if needed is None or name in needed:
                    raise InputError(f"array {name} of {path} holds Python objects or is damaged") from error
                continue
            # A member of the archive that isn't an array comes back as its bytes.
            if isinstance(member, np.ndarray):
                arrays[name] = member
    return arrays


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write `arrays` to a compressed .npz file, or raise InputError if that can't be done.

    The file is complete or not there at all: it is written beside `path` and moved over it.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            with partial.open("wb") as file:
                np.savez_compressed(file, **arrays)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
