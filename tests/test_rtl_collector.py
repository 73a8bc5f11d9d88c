"""The collector: packets and records leave in the order of the list, parts by way of the merge unit, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Stall, at_random, flowing, until

from golden.config import ClusterConfig, CoreConfig
from rtl.collector import Collector
from rtl.interfaces import Status

CORE = CoreConfig(rows=2, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=64, output_lanes=2, tag_bits=4)
CORES = 3
OF_CORES = [f"{name}.{n}" for name in ("packets", "records") for n in range(CORES)]
INPUTS = ("turns", "record_turns", "merged", *OF_CORES)
OUTPUTS = ("part", "packet", "o", "stats")


def turn(core: int, single: int = 1, **part: int) -> dict[str, Any]:
    fields = {"more": 0, "emit_state": 0, "void": 0, "last_row": 1, "last_element": 4} | part
    return {"core": core, "single": single, "part": fields}


def packet(tag: int, beats: int) -> list[dict[str, Any]]:
    return [{"data": [tag, n], "tag": tag, "last": int(n == beats - 1)} for n in range(beats)]


@dataclass
class Run:
    """Words that moved on each port, and the cycles in which they did."""

    words: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in (*INPUTS, *OUTPUTS)})
    cycles: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in (*INPUTS, *OUTPUTS)})


def run(words: dict[str, list[Any]], stalls: dict[str, Stall], cycles: int = 120) -> Run:
    """Offer the words of each input for so many cycles.

    Words are passed on within their cycle. So all ports are driven before it is seen which words move.
    """
    seen = Run()

    async def process(bench: Bench) -> None:
        held: set[str] = set()
        for cycle in range(cycles):
            for name in INPUTS:
                left = words.get(name, [])[len(seen.words[name]) :]
                offers = bool(left) and (name in held or not stalls.get(name, flowing)(cycle))
                bench.set({f"{name}.valid": offers} | ({f"{name}.payload": left[0]} if offers else {}))
                held = held | {name} if offers else held - {name}
            for name in OUTPUTS:
                bench.set({f"{name}.ready": not stalls.get(name, flowing)(cycle)})
            for name in (*INPUTS, *OUTPUTS):
                if bench.get(f"{name}.valid") and bench.get(f"{name}.ready"):
                    seen.words[name].append(bench.get(f"{name}.payload"))
                    seen.cycles[name].append(cycle)
                    held.discard(name)
            await bench.tick()

    simulate(Collector(ClusterConfig(CORE, cores=CORES)), process)
    return seen


def split(order: list[int], packets: list[list[Any]], name: str) -> dict[str, list[Any]]:
    """Return what each core offers of packets that are of the cores in `order`."""
    cores: dict[str, list[Any]] = {f"{name}.{core}": [] for core in range(CORES)}
    for core, beats in zip(order, packets, strict=True):
        cores[f"{name}.{core}"] += beats
    return cores


STALLS = pytest.mark.parametrize(
    "stalls",
    [{}, {name: at_random(n) for n, name in enumerate((*INPUTS, *OUTPUTS))}, {"packets.2": until(40)}],
    ids=["flowing", "half", "late"],
)


@STALLS
def test_whole_heads_leave_in_the_order_of_their_turns(stalls: dict[str, Stall]):
    """Whichever core has its packet first."""
    order = [2, 0, 0, 1, 2]
    packets = [packet(tag, 1 + tag) for tag in range(len(order))]
    seen = run(split(order, packets, "packets") | {"turns": [turn(core) for core in order]}, stalls)
    assert seen.words["o"] == [beat for beats in packets for beat in beats]
    assert not seen.words["part"]


@STALLS
def test_parts_go_to_the_merge_unit_and_the_next_head_waits_for_its_packet(stalls: dict[str, Stall]):
    order = [0, 2, 1, 1]
    turns = [turn(0, 0, more=1, void=1), turn(2, 0, more=1), turn(1, 0, emit_state=1), turn(1)]
    packets = [packet(tag, 2 + tag) for tag in range(len(order))]
    merged = packet(9, 3)
    # The merge unit has something to say only when it has got all.
    late = stalls | {"merged": until(60)}
    seen = run(split(order, packets, "packets") | {"turns": turns, "merged": merged}, late)
    assert seen.words["part"] == [sent["part"] for sent in turns[:3]]
    assert seen.words["packet"] == [beat for beats in packets[:3] for beat in beats]
    assert seen.words["o"] == [*merged, *packets[3]]
    assert seen.cycles["packets.1"][4] > seen.cycles["merged"][-1]


def test_a_packet_takes_a_cycle_before_its_first_beat_and_a_part_two():
    turns = [turn(0), turn(1), turn(2, 0, more=1), turn(0, 0)]
    packets = [packet(tag, 3) for tag in range(4)]
    seen = run(
        split([0, 1, 2, 0], packets, "packets") | {"turns": turns, "merged": packet(9, 1)}, {"merged": until(30)}
    )
    first = seen.cycles["turns"][0]
    assert seen.cycles["o"][:6] == [first + n for n in (1, 2, 3, 5, 6, 7)]
    assert seen.cycles["part"] == [first + 9, first + 14]
    assert seen.cycles["packet"] == [first + n for n in (10, 11, 12, 15, 16, 17)]


@STALLS
def test_records_leave_in_order_and_tell_of_parts_that_do_not_fit(stalls: dict[str, Stall]):
    """Unless the job has an error of its own."""
    order, voids = [1, 1, 0, 2, 0], [0, 1, 1, 0, 1]
    statuses = [Status.OK, Status.OK, Status.ROWS, Status.KEY_LATE, Status.OK]
    records = [[{"tag": tag, "status": int(status)}] for tag, status in enumerate(statuses)]
    turns = [{"core": core, "void": void} for core, void in zip(order, voids, strict=True)]
    seen = run(split(order, records, "records") | {"record_turns": turns}, stalls)
    expected = [Status.OK, Status.PART, Status.ROWS, Status.KEY_LATE, Status.PART]
    assert [(word["tag"], word["status"]) for word in seen.words["stats"]] == list(enumerate(expected))
    if not stalls:
        assert seen.cycles["stats"] == [seen.cycles["stats"][0] + n for n in range(5)]
