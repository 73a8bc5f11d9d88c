"""Holds what came out of a core to the golden model, number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.config import CoreConfig
from golden.job import Job, JobResult
from rtl.interfaces import STATE_PIECES, Status
from sim.bench import Recording
from sim.stimulus import output_from_words, state_from_words, stats_record


@dataclass(frozen=True)
class Expectation:
    """What a job must return.

    Parameters
    ----------
    label : str
        Names the job in messages.
    job : Job
        The job.
    result : JobResult or None
        What golden says of the keys that count; None for a job that must be rejected.
    status : Status
        What the statistics must report.
    rows : sequence of str, optional
        Names of the job's rows in messages, their numbers alone by default.
    """

    label: str
    job: Job
    result: JobResult | None
    status: Status = Status.OK
    rows: Sequence[str] = ()


def _differences(name: str, expected: np.ndarray, seen: np.ndarray, rows: Sequence[str]) -> list[str]:
    """Return a line for the first element in which two arrays differ, and how many do."""
    where = np.argwhere(expected != seen)
    if not len(where):
        return []
    first = tuple(int(n) for n in where[0])
    place = f"row {first[0]}" + (f" ({rows[first[0]]})" if rows else "")
    place += f", element {first[1]}" if len(first) > 1 else ""
    return [f"{name} {place}: expected {expected[first]}, saw {seen[first]} ({len(where)} differ)"]


def check_packet(expectation: Expectation, words: list[int], config: CoreConfig) -> list[str]:
    """Return a line for each thing in which a packet of o differs from what is expected."""
    job, result = expectation.job, expectation.result
    tag_mask = (1 << config.tag_bits) - 1
    data_bits = 16 * config.output_lanes
    tags = {word >> data_bits & tag_mask for word in words}
    if tags != {job.tag}:
        return [f"o carries tags {sorted(tags)}, expected {job.tag}"]
    words = [word & ((1 << data_bits) - 1) for word in words]
    if result is None:
        return [] if words == [0] else [f"a rejected job wrote {len(words)} beats, expected a single zero"]
    beats = config.output_beats(job.value_dim)
    length = job.rows * ((1 + beats) * STATE_PIECES if job.emit_state else beats)
    if len(words) != length:
        return [f"the packet has {len(words)} beats, expected {length}"]
    if not job.emit_state:
        output = output_from_words(words, job.rows, job.value_dim, config)
        return _differences("output", result.output, output, expectation.rows)
    state = state_from_words(words, job.rows, job.value_dim, config)
    return [
        line
        for name in ("maximum", "total", "accumulator")
        for line in _differences(name, getattr(result.state, name), getattr(state, name), expectation.rows)
    ]


def check_record(expectation: Expectation, word: int, config: CoreConfig) -> list[str]:
    """Return a line for each field in which a record of statistics differs from what is expected."""
    job, result = expectation.job, expectation.result
    expected: dict[str, object] = {"tag": job.tag, "status": int(expectation.status)}
    if result is None:
        names = ("tau", "keys", "survivors", "packs", "saturated", "empty")
        expected |= dict.fromkeys(names, 0) | {"dropped": [0] * config.rows}
    else:
        spare = [0] * (config.rows - job.rows)
        expected |= {
            "tau": job.threshold.tau,
            "keys": len(result.survivors),
            "survivors": int(result.survivors.sum()),
            "packs": result.packs,
            "saturated": result.saturated,
            "dropped": [int(n) for n in result.dropped] + spare,
            "empty": sum(1 << i for i, empty in enumerate(result.empty) if empty),
        }
    seen = stats_record(word, config)
    return [
        f"stats field {name}: expected {value}, saw {seen[name]}"
        for name, value in expected.items()
        if seen[name] != value
    ]


def check_requests(expectation: Expectation, asked: list[int]) -> list[str]:
    """Return a line if the values asked for are not those of the expected survivors."""
    result, job = expectation.result, expectation.job
    fetched = [] if result is None or job.shared else np.flatnonzero(result.survivors)
    wanted = [int(job.indices[j]) for j in fetched]
    if len(asked) != len(wanted):
        return [f"values of {len(asked)} keys were asked for, expected {len(wanted)}"]
    wrong = [pair for pair in zip(asked, wanted, strict=True) if pair[0] != pair[1]]
    return ["the value of key {} was asked for in the place of that of key {}".format(*wrong[0])] if wrong else []


def check(expectations: list[Expectation], recording: Recording, config: CoreConfig) -> list[str]:
    """Return a line for each thing that differs from what golden says; an empty list if the core is right."""
    counts = {
        "output packets": len(recording.packets),
        "statistics records": len(recording.records),
        "ends on v_req": len(recording.requests),
    }
    problems = [
        f"{len(expectations)} jobs gave {count} {name}" for name, count in counts.items() if count != len(expectations)
    ]
    if problems:
        return problems
    for n, expectation in enumerate(expectations):
        found = check_packet(expectation, recording.packets[n], config)
        found += check_record(expectation, recording.records[n], config)
        found += check_requests(expectation, recording.requests[n])
        problems += [f"{expectation.label}: {line}" for line in found]
    return problems
