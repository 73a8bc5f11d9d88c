"""Bytes by level of the memory: ports of the cores, scratchpads for K and V, DRAM; and the least there could be.

The rules, which docs/performance.md explains: Q comes from the DRAM once, as the jobs stream it, and outputs go there
once. K comes from there for each job that streams it, unless the core's scratchpad holds it since the job before. V
comes for the survivors alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from golden import formats
from golden.config import CoreConfig
from perf_model.latency import VALUE_PACKS
from perf_model.schedule import JobStream, Schedule
from perf_model.traffic import port_bytes
from perf_model.workload import Workload


@dataclass(frozen=True)
class Traffic:
    """Bytes by level of the memory.

    Parameters
    ----------
    ports : dict of str to int
        Bytes on the ports of the cores.
    scratchpad : int
        Bytes written to and read from the scratchpads for K and V beside the cores.
    dram : int
        Bytes read from and written to the DRAM.
    compulsory : int
        The least that dense attention must move, however it is computed: q, k and v once, 8 bits an element, and the
        outputs once. Values that share the memory of their keys count once.
    """

    ports: dict[str, int]
    scratchpad: int
    dram: int
    compulsory: int

    def times(self, count: int) -> Traffic:
        """Return `count` times this traffic."""
        ports = {name: bytes_ * count for name, bytes_ in self.ports.items()}
        return Traffic(ports, self.scratchpad * count, self.dram * count, self.compulsory * count)


class KeyBytes(NamedTuple):
    """Bytes of a key and of its value as the core streams them, in whole beats, and of the two in a scratchpad."""

    key: int
    value: int
    both: int

    @classmethod
    def of(cls, core: CoreConfig, workload: Workload) -> KeyBytes:
        """Return the bytes of a key of `workload`."""
        key, value = core.head_beats(workload.head_dim) * core.lanes, core.value_beats(workload.values) * core.lanes
        return cls(key, value, key if workload.shared_values else key + value)


def key_value_fetches(core: CoreConfig, workload: Workload, stream: JobStream, scratchpad: int) -> tuple[int, int]:
    """Return the bytes of K and of V that one core gets from the DRAM.

    Parameters
    ----------
    core : CoreConfig
        The core.
    workload : Workload
        What it works on.
    stream : JobStream
        Its jobs.
    scratchpad : int
        Bytes of its scratchpad. It holds keys with their values that the next job streams again (`JobStream.fetched`).

    Returns
    -------
    tuple of int
        Bytes of K: of each job's keys that the scratchpad does not hold. Bytes of V: of all survivors that jobs ask
        for, but at most one value a fetch of its key, since the two stay for as long. Values that are part of their
        keys come with these if the core captures them, or if the scratchpad has room for the keys whose fate is open;
        if not, those of survivors that the scratchpad does not hold come again.
    """
    captured = workload.captured(core)
    row = KeyBytes.of(core, workload)
    keys, survivors = (np.asarray(column) for column in (stream.jobs.keys, stream.jobs.survivors))
    waiting = core.score_slots + VALUE_PACKS * core.lanes if workload.shared_values and not captured else 0
    capacity = scratchpad // row.both
    fetched = stream.fetched(max(0, capacity - waiting))
    if not workload.shared_values:
        values = min(int(survivors.sum()), int(fetched.sum()))
    elif captured or capacity >= waiting:
        values = 0
    else:
        values = int((survivors * np.maximum(0, keys - capacity) // keys).sum())
    return int(fetched.sum()) * row.key, values * row.value


def compulsory_bytes(workload: Workload, core: CoreConfig) -> int:
    """Return the least bytes of one key and value head of a sequence of each length."""
    output_bytes = formats.OUTPUT_BITS // 8
    value = 0 if workload.shared_values else workload.values
    total = 0
    for length in workload.lengths:
        rows, first, end = workload.row_blocks(core, length)
        total += int(rows.sum()) * (workload.head_dim + output_bytes * workload.values)
        # Blocks go up with the positions, so together they see all the keys between.
        total += int(end.max() - first.min()) * (workload.head_dim + value)
    return total


def schedule_traffic(core: CoreConfig, workload: Workload, schedule: Schedule, scratchpad: int) -> Traffic:
    """Return the traffic of a schedule run once.

    Parameters
    ----------
    core : CoreConfig
        Each core.
    workload : Workload
        What the cores work on.
    schedule : Schedule
        What each of them runs.
    scratchpad : int
        Bytes of each core's scratchpad; 0 for none.

    Returns
    -------
    Traffic
        K and V go through a scratchpad if jobs share keys, and from the DRAM to the core past it if none do (decode).
        Partial states stay on the chip; of a block in parts the merged output goes to the DRAM.
    """
    ports = port_bytes(core, schedule.jobs)
    dram = scratched = 0
    for stream in schedule.streams:
        key, value = key_value_fetches(core, workload, stream, scratchpad)
        opening = np.asarray(stream.jobs.rows)[stream.opens]
        dram += key + value + int(opening.sum()) * core.output_beats(workload.values) * core.beat_bytes("o")
        if scratchpad >= KeyBytes.of(core, workload).both and np.any(stream.shared):
            own = port_bytes(core, stream.jobs)
            scratched += key + value + own["k"] + own["v"]
    streams = workload.key_heads * workload.batch * workload.layers
    return Traffic(
        ports=ports,
        scratchpad=scratched,
        dram=dram + ports["q"],
        compulsory=compulsory_bytes(workload, core) * streams // schedule.times,
    )
