"""A buffered FIFO, cycle by cycle: entries behind an output register, which is filled a cycle after they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golden.compiled import compiled, forget_stale_code
from perf_model.core_timing import integers

forget_stale_code(Path(__file__).parent)

FIFO = ("stored", "out")
"""Registers of a FIFO: entries behind the output register, and whether there is one in it."""

FIFO_RECORD = integers(*FIFO)


@compiled
def fifo_takes(fifo: Any, depth: int) -> bool:
    """Return whether a FIFO of so many entries has room."""
    return bool(fifo.stored != depth - 1)


@compiled
def step_fifo(fifo: Any, write: bool, read: bool) -> None:
    """Step a record that has the registers `FIFO`: an entry comes or not, and the one in `out` is read or not."""
    moves = fifo.stored > 0 and (read or not fifo.out)
    fifo.stored += int(write) - int(moves)
    fifo.out = int(moves) if moves or read else fifo.out
