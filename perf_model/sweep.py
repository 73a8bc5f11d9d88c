"""A sweep: the estimate of every point of a grid, by processes on one machine or by a Dask cluster.

Points are evaluated by closed form, unless a memory or the caller asks for the exact model. They go out in chunks and
come back in any order; `perf_model.sweep_folder` keeps them.
"""

from __future__ import annotations

import csv
import io
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import joblib
from tqdm import tqdm

from golden.errors import InputError
from perf_model.dask_cluster import on_cluster
from perf_model.energy import Energy
from perf_model.estimate import Estimate, estimate
from perf_model.grid import Grid, Value, cell
from perf_model.sweep_folder import PROBLEM, SweepFolder, model_hash, new_manifest
from perf_model.traffic import PORTS

CHUNK, FOLLOWED_CHUNK = 64, 4
"""Points that a worker gets at a time: by closed form some milliseconds each, followed exactly up to a second."""

MOST_JOBS = 1024

FIGURES: Mapping[str, Callable[[Estimate], Value]] = {
    "multipliers": lambda e: e.hardware.multipliers,
    "jobs": lambda e: e.jobs,
    "cycles": lambda e: e.cycles.total,
    "cycles_by": lambda e: e.cycles_by,
    "seconds": lambda e: e.seconds,
    "tokens_per_second": lambda e: e.tokens_per_second,
    "utilisation": lambda e: e.utilisation,
    "effective_macs_per_cycle": lambda e: e.effective_macs_per_cycle,
    **{f"{port}_bytes": lambda e, port=port: e.traffic.ports[port] for port in PORTS},  # type: ignore[misc]
    "dram_bytes": lambda e: e.traffic.dram,
    "scratchpad_bytes": lambda e: e.traffic.scratchpad,
    "compulsory_bytes": lambda e: e.traffic.compulsory,
    **{f"{part.name}_pj": lambda e, part=part.name: getattr(e.energy, part) for part in fields(Energy)},  # type: ignore[misc]
    "core_pj": lambda e: e.energy.core,
    "energy_pj": lambda e: e.energy.total,
    "core_tops_per_watt": lambda e: e.core_tops_per_watt,
}
"""Columns of a possible point after those of its axes: names, with units where they have one, and what they hold."""


def columns(grid: Grid) -> list[str]:
    """Return the columns of a sweep of `grid`."""
    return [*grid.axes, *FIGURES, PROBLEM]


def evaluate(grid: Grid, places: Sequence[int], exact: bool, model: str) -> dict[int, bytes]:
    """Return the lines of some points of a grid, CSV without an end of line.

    Parameters
    ----------
    grid : Grid
        The grid.
    places : sequence of int
        Which of its points.
    exact : bool
        Whether short lists are followed by the exact model.
    model : str
        What `model_hash` must be here: a worker on another machine may have another version.

    Raises
    ------
    InputError
        If it has. A point that is not possible raises nothing; its line says why.
    """
    if model_hash() != model:
        raise InputError("a worker has another version of lean-attention than this machine")
    lines = {}
    for place in places:
        values = grid.values(place)
        try:
            point = grid.at(values)
            result = estimate(point.workload, point.hardware, point.survival, follow=exact)
            figures, problem = [cell(figure(result)) for figure in FIGURES.values()], ""
        except InputError as error:
            figures, problem = [""] * len(FIGURES), " ".join(str(error).split())
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([*map(cell, values.values()), *figures, problem])
        lines[place] = text.getvalue().encode()
    return lines


Task = tuple[Grid, Sequence[int], bool, str]
"""Arguments of `evaluate`."""


def on_this_machine(tasks: Sequence[Task], jobs: int) -> Generator[dict[int, bytes], None, None]:
    """Yield what `evaluate` makes of the tasks, in any order, by as many processes as `jobs` says."""
    calls = (joblib.delayed(_evaluate_for)(os.getpid(), *task) for task in tasks)
    yield from joblib.Parallel(jobs, return_as="generator_unordered")(calls)


def _evaluate_for(parent: int, *task: Any) -> dict[int, bytes]:
    """Return what `evaluate` makes of a task, in a process that ends when its parent does."""
    if os.getpid() != parent:
        _end_with(parent)
    return evaluate(*task)


@cache
def _end_with(parent: int) -> None:
    """Watch the parent of this process, and end when it has: one that is killed takes nobody with it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_sweep(
    grid: Grid,
    path: Path,
    exact: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Evaluate all points of a grid that `path` does not hold yet, and write its files.

    Parameters
    ----------
    grid : Grid
        The grid.
    path : pathlib.Path
        The folder: `perf_model.sweep_folder`.
    exact : bool
        Follow lists of jobs by the exact model where they are short enough (`perf_model.estimate`).
    jobs : int
        Processes on this machine, 1 to `MOST_JOBS`.
    scheduler : str, optional
        Address of a Dask scheduler whose workers do the work instead.
    arguments : mapping, optional
        How the sweep was asked for; goes to the manifest.

    Raises
    ------
    InputError
        If there are too many processes, or the folder (`SweepFolder`) or the cluster (`on_cluster`) can't be used.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise InputError(f"jobs must be from 1 to {MOST_JOBS}, not {jobs}")
    with SweepFolder(path, new_manifest(grid, exact, columns(grid), arguments or {})) as folder:
        places = [place for place in range(grid.points) if place not in folder.done]
        size = FOLLOWED_CHUNK if exact else CHUNK
        tasks = [(grid, places[n : n + size], exact, model_hash()) for n in range(0, len(places), size)]
        if tasks:
            chunks = on_this_machine(tasks, jobs) if scheduler is None else on_cluster(evaluate, tasks, scheduler)
            with closing(chunks), tqdm(total=grid.points, initial=len(folder.done), unit="point") as bar:
                for lines in chunks:
                    folder.add(lines)
                    bar.update(len(lines))
        folder.finish()
