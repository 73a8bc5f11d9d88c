"""The folder of a sweep: every point that was evaluated, kept so that it survives an interruption at any moment.

While a sweep runs, ``points.csv.part`` grows by whole lines, in the order in which points were done; a line that was
cut off by an interruption is dropped when the sweep goes on. Once all points are there, ``points.csv`` appears in one
step, with a row a point in the order of the grid. ``manifest.json`` says of what grid and by what model.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import golden
import perf_model
from golden.errors import InputError
from golden.files import make_folder, writing
from perf_model.grid import Grid
from perf_model.settings import DATA, read_json

MANIFEST, POINTS, PART = "manifest.json", "points.csv", "points.csv.part"

PROBLEM = "problem"
"""Last column, which says why a point is not possible; its figures are then empty."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def model_hash() -> str:
    """Return a hash of the model's code and figures: rows of two models do not belong in one file."""
    roots = [Path(str(package.__file__)).parent for package in (golden, perf_model)]
    files = [path for root in roots for path in sorted(root.rglob("*.py"))] + sorted(DATA.glob("*.yaml"))
    return _digest(b"".join(path.read_bytes() for path in files))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def new_manifest(grid: Grid, exact: bool, columns: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a sweep that is to begin.

    Parameters
    ----------
    grid : Grid
        What is swept.
    exact : bool
        Whether short lists are followed by the exact model.
    columns : sequence of str
        Of the CSV file.
    arguments : mapping
        How it was asked for.
    """
    swept = {"axes": {name: list(values) for name, values in grid.axes.items()}, "exact": exact, **grid.bases()}
    return {
        "complete": False,
        "points": grid.points,
        "impossible": None,
        "columns": list(columns),
        "grid": swept,
        "grid_hash": _digest(json.dumps(swept).encode()),
        "model_hash": model_hash(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("lean-attention", "numpy", "numba", "joblib", "distributed")},
        },
        "arguments": dict(arguments),
    }


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees all of the old one or all of the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


class SweepFolder:
    """The folder, while a sweep writes to it; a context manager.

    Parameters
    ----------
    path : pathlib.Path
        The folder, made if it is not there.
    manifest : mapping
        As `new_manifest` makes it.

    Attributes
    ----------
    done : dict of int to bytes
        Lines of the points that are there, by their place in the grid.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]):
        self.path = path
        self.done: dict[int, bytes] = {}
        self._manifest = dict(manifest)
        self._lock = -1
        self._part: BinaryIO | None = None

    def __enter__(self) -> SweepFolder:
        """Take the folder, and what an interrupted run of this sweep left in it.

        Raises
        ------
        InputError
            If it holds another sweep, or one by another version of the model, is in use, or can't be written.
        """
        make_folder(self.path)
        with writing(self.path):
            self._lock = os.open(self.path, os.O_RDONLY)
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give the folder free."""
        if self._part:
            self._part.close()
        os.close(self._lock)

    def _begin(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another sweep is writing to {self.path}") from error
        points, part = self.path / POINTS, self.path / PART
        begun = points.exists() or (part.exists() and part.stat().st_size > 0)
        if begun and (self.path / MANIFEST).exists():
            found = read_json(self.path / MANIFEST)
            self._check(found)
            if found.get("complete") and points.exists():
                _, *lines = points.read_bytes().splitlines()
                self.done = dict(enumerate(lines))
                part.unlink(missing_ok=True)
                return
        elif begun:
            raise InputError(f"{self.path} has a {POINTS} but no {MANIFEST}; choose another folder")
        with writing(self.path):
            self._write_manifest()
            self._part = part.open("ab+")
            self._read_part(self._part)

    def _write_manifest(self) -> None:
        # Paths among the arguments become text.
        _replace(self.path / MANIFEST, json.dumps(self._manifest, indent=2, default=str).encode() + b"\n")

    def _check(self, found: Mapping[str, Any]) -> None:
        if found.get("grid_hash") != self._manifest["grid_hash"]:
            difference = self._difference(found)
            raise InputError(f"{self.path} holds a sweep of another grid{difference}; choose another folder")
        if found.get("model_hash") != self._manifest["model_hash"]:
            raise InputError(f"{self.path} holds a sweep by another version of the model; choose another folder")

    def _difference(self, found: Mapping[str, Any]) -> str:
        """Return the first axis in which the grid of the folder differs, in words."""
        try:
            theirs, ours = found["grid"]["axes"], self._manifest["grid"]["axes"]
            name = next(name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name))
            return f": its {name} is {theirs.get(name)}, not {ours.get(name)}"
        except (KeyError, TypeError, AttributeError, StopIteration):
            return ""

    def _read_part(self, part: BinaryIO) -> None:
        part.seek(0)
        content = part.read()
        whole = content.rfind(b"\n") + 1
        part.truncate(whole)
        for line in content[:whole].split(b"\n"):
            place, _, text = line.partition(b",")
            if place.isdigit():
                self.done[int(place)] = text

    def add(self, lines: Mapping[int, bytes]) -> None:
        """Keep the lines of some points, by their places in the grid."""
        assert self._part, "the sweep is complete"
        with writing(self.path):
            self._part.write(b"".join(b"%d,%b\n" % item for item in lines.items()))
            self._part.flush()
        self.done.update(lines)

    def finish(self) -> None:
        """Write the file of all points, all of which must be there, and mark the sweep complete."""
        if not self._part:
            return
        header = ",".join(self._manifest["columns"]).encode()
        lines = [self.done[place] for place in range(self._manifest["points"])]
        impossible = sum(bool(cells[-1]) for cells in csv.reader(line.decode() for line in lines))
        self._manifest |= {"complete": True, "impossible": impossible}
        with writing(self.path):
            _replace(self.path / POINTS, b"\n".join([header, *lines]) + b"\n")
            self._write_manifest()
            (self.path / PART).unlink()


@dataclass(frozen=True)
class Sweep:
    """A complete sweep.

    Parameters
    ----------
    axes : dict of str to list
        Values by axis.
    points : list of dict
        Cells of each point by column, as text.
    """

    axes: dict[str, list[Any]]
    points: list[dict[str, str]]


def load_sweep(path: Path) -> Sweep:
    """Return the sweep that a folder holds.

    Raises
    ------
    InputError
        If there is none, or an unfinished one.
    """
    manifest = read_json(path / MANIFEST)
    if not manifest.get("complete"):
        raise InputError(f"the sweep in {path} is not finished; the command that began it goes on with it")
    try:
        with (path / POINTS).open(newline="", encoding="utf-8") as file:
            return Sweep(manifest["grid"]["axes"], list(csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path} does not hold a sweep as this command writes it: {error}") from error
