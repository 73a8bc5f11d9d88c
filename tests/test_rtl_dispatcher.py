"""The dispatcher: jobs, queries and states reach the right core in order, and when; which core is free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing, until

from golden.config import ClusterConfig, CoreConfig
from rtl.dispatcher import Dispatcher

CORE = CoreConfig(rows=2, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=64, output_lanes=2, tag_bits=4)
CONFIG = ClusterConfig(CORE, cores=3, queue_jobs=3, queue_beats=6)
FIFO_LATENCY = 2


@dataclass
class Run:
    """What went over the ports of the dispatcher."""

    sources: dict[str, Source]
    sinks: dict[str, Sink] = field(default_factory=dict)

    def tags(self, core: int) -> list[int]:
        return [word["tag"] for word in self.sinks[f"jobs.{core}"].words]


def job(tag: int, core: int, more: int = 0, **changes: int) -> dict[str, int]:
    fields = {"head_dim": 8, "value_dim": 5, "rows": 2, "keys": 9, "multiplier": 77, "shift": 3, "tau": 640}
    fields |= {"mask": 1, "window": 0, "from_state": 0, "emit_state": 0, "shared": 0}
    fields |= {"epsilon_shift": 0, "target": 0, "continue_tau": 0}
    return fields | {"tag": tag, "core": core, "more": more} | changes


def query(tag: int, beats: int) -> list[dict[str, Any]]:
    return [{"data": [tag, n, 0, 0], "position": n, "last": int(n == beats - 1)} for n in range(beats)]


def run(
    jobs: list[dict[str, int]],
    queries: list[list[dict[str, Any]]],
    states: list[list[dict[str, Any]]] | None = None,
    stalls: dict[str, Stall] | None = None,
    ended: dict[int, int] | None = None,
    cycles: int = 150,
) -> Run:
    """Send jobs for so many cycles; `ended` gives the bits of that port by cycle."""
    answer: list[Run] = []
    stalls, ended = stalls or {}, ended or {}

    async def process(bench: Bench) -> None:
        words: dict[str, list[Any]] = {
            "job": jobs,
            "q": [beat for packet in queries for beat in packet],
            "state": [beat for packet in states or [] for beat in packet],
        }
        sources = {name: Source(bench, name, given, stalls.get(name, flowing)) for name, given in words.items()}
        names = ["route", "turns", "record_turns"]
        names += [f"{name}.{core}" for name in ("jobs", "queries", "states") for core in range(CONFIG.cores)]
        sinks = {name: Sink(bench, name, stalls.get(name, flowing)) for name in names}
        answer.append(Run(sources, sinks))
        for cycle in range(cycles):
            bench.set({"ended": ended.get(cycle, 0)})
            for port in (*sources.values(), *sinks.values()):
                port.step()
            await bench.tick()

    simulate(Dispatcher(CONFIG), process)
    return answer[0]


@pytest.mark.parametrize("stall", [flowing, at_random(1)], ids=["flowing", "half"])
def test_jobs_queries_and_states_reach_their_core_in_order(stall: Stall):
    jobs = [job(n, core, from_state=n % 3 == 1) for n, core in enumerate([0, 2, 2, 1, 0, 2, 0, 1, 1])]
    queries = [query(n, 1 + n % 4) for n in range(len(jobs))]
    states = [[{"data": [n, k], "last": int(k == 2)} for k in range(3)] for n in range(len(jobs)) if n % 3 == 1]
    names = ["job", "q", "state", "route", "turns", "record_turns"]
    # States are passed on in their cycle, so that a sink of theirs would stall the source after that has moved.
    names += [f"{name}.{core}" for name in ("jobs", "queries") for core in range(CONFIG.cores)]
    seen = run(jobs, queries, states, dict.fromkeys(names, stall), cycles=400)
    for core in range(CONFIG.cores):
        own = [n for n, sent in enumerate(jobs) if sent["core"] == core]
        expected = [{name: value for name, value in jobs[n].items() if name not in ("core", "more")} for n in own]
        assert seen.sinks[f"jobs.{core}"].words == expected
        assert seen.sinks[f"queries.{core}"].words == [beat for n in own for beat in queries[n]]
        assert seen.sinks[f"states.{core}"].words == [beat for n in own if n % 3 == 1 for beat in states[n // 3]]
    assert seen.sinks["route"].words == [{"tag": n, "core": sent["core"]} for n, sent in enumerate(jobs)]
    assert [turn["core"] for turn in seen.sinks["turns"].words] == [sent["core"] for sent in jobs]
    assert seen.sinks["record_turns"].words == [{"core": sent["core"], "void": 0} for sent in jobs]


def test_a_job_takes_three_cycles_and_its_beats():
    jobs = [job(0, 1), job(1, 2), job(2, 0)]
    seen = run(jobs, [query(0, 4), query(1, 1), query(2, 2)])
    first = seen.sources["job"].taken[0]
    assert seen.sources["job"].taken == [first, first + 3 + 4, first + 6 + 5]
    assert seen.sources["q"].taken == [first + 3 + n for n in range(4)] + [first + 10, first + 14, first + 15]
    assert seen.sinks["jobs.1"].taken == [first + 2 + FIFO_LATENCY]
    assert seen.sinks["queries.1"].taken == [first + 3 + n + FIFO_LATENCY for n in range(4)]
    assert seen.sinks["route"].taken[0] == first + 3
    assert seen.sinks["turns"].taken[0] == seen.sinks["record_turns"].taken[0] == first + 2 + FIFO_LATENCY


def test_parts_of_a_head_give_states_and_are_marked():
    """Only a whole head writes what its `emit_state` says; a part of another shape spoils its head."""
    jobs = [
        job(0, 0),
        job(1, 0, emit_state=1),
        job(2, 1, more=1),
        job(3, 2, more=1, emit_state=1),
        job(4, 0),
        job(5, 1, more=1),
        job(6, 2, rows=1, more=1),
        job(7, 2, rows=1),
        job(8, 1, more=1),
        job(9, 0, value_dim=6),
        job(10, 0, value_dim=7),
    ]
    seen = run(jobs, [query(n, 1) for n in range(len(jobs))])
    emitted = {word["tag"]: word["emit_state"] for core in range(3) for word in seen.sinks[f"jobs.{core}"].words}
    assert emitted == {n: int(n not in (0, 10)) for n in range(11)}
    turns = seen.sinks["turns"].words
    assert [turn["single"] for turn in turns] == [int(n in (0, 1, 10)) for n in range(11)]
    parts = [turn["part"] for turn in turns]
    assert [part["more"] for part in parts] == [sent["more"] for sent in jobs]
    assert [part["emit_state"] for part in parts] == [sent["emit_state"] for sent in jobs]
    voids = [int(n in (6, 9)) for n in range(11)]
    assert [part["void"] for part in parts] == voids
    assert [turn["void"] for turn in seen.sinks["record_turns"].words] == voids
    assert [(part["last_row"], part["last_element"]) for part in parts[:1]] == [(1, 4)]


def test_a_full_queue_holds_the_list_and_no_other_core_s_jobs_that_are_queued():
    jobs = [job(n, 0) for n in range(5)] + [job(5, 1)]
    seen = run(jobs, [query(n, 1) for n in range(6)], stalls={"jobs.0": until(100)})
    # Three wait in the queue; the fourth is held, and the list with it.
    assert sum(cycle < 100 for cycle in seen.sources["job"].taken) == CONFIG.queue_jobs + 1
    assert seen.tags(0) == [0, 1, 2, 3, 4]
    assert seen.sinks["jobs.1"].taken[0] > 100


def test_queries_that_find_no_room_wait():
    seen = run([job(0, 2), job(1, 0)], [query(0, 9), query(1, 1)], stalls={"queries.2": until(60)})
    assert sum(cycle < 60 for cycle in seen.sources["q"].taken) == CONFIG.queue_beats
    assert seen.sinks["queries.2"].words == query(0, 9)
    assert seen.sinks["jobs.0"].taken[0] > 60


def test_a_route_that_is_not_taken_holds_the_next_job():
    seen = run([job(0, 0), job(1, 1), job(2, 2)], [query(n, 1) for n in range(3)], stalls={"route": until(50)})
    assert seen.sinks["jobs.0"].taken[0] < 10
    assert seen.sinks["jobs.1"].taken[0] > 50
    assert [word["core"] for word in seen.sinks["route"].words] == [0, 1, 2]


def test_a_job_without_a_core_goes_to_one_with_nothing_to_run_then_to_one_with_one_job():
    """Cores 0, 1, 2 get a job each, then a second one; the seventh waits until core 1 and later core 2 are done."""
    jobs = [job(n % 16, 255 - n) for n in range(9)]
    ended = {60: 0b010, 70: 0b100, 71: 0b100, 72: 0b100}
    seen = run(jobs, [query(n % 16, 1) for n in range(9)], ended=ended)
    given = [word["core"] for word in seen.sinks["route"].words]
    assert given[:6] == [0, 1, 2, 0, 1, 2]
    assert given[6] == 1
    assert [cycle > 60 for cycle in seen.sinks["route"].taken] == [False] * 6 + [True] * 3
    assert given[7:] == [2, 2]
