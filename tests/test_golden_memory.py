"""The memory beside a core: its parameters, and how simulation plays it."""

from collections import deque

import pytest

from golden.config import CoreConfig
from golden.errors import InputError
from golden.memory import CHANNEL_ORDER, Channel, Memory
from sim.bench import MEMORY_PORTS
from sim.memory import PlayedMemory

CORE = CoreConfig(lanes=16, output_lanes=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth must be from 1/256 to 1048576 bytes a cycle, not 0"),
        ({"bandwidth": float("nan")}, "bandwidth must be"),
        ({"bandwidth": float("inf")}, "bandwidth must be"),
        ({"latency": 0}, "latency of a memory must be from 1 to 1048576, not 0"),
        ({"outstanding": 0}, "outstanding of a memory must be from 1 to 1048576, not 0"),
        ({"buffer": 0}, "buffer of a memory must be from 1 to 1048576, not 0"),
        ({"latency": 10**30}, "latency of a memory must be from 1 to 1048576, not 1"),
    ],
)
def test_an_impossible_memory_is_refused(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        Memory(**change)


def test_a_channel_counts_in_parts_of_a_byte():
    assert Memory().channel(CORE) is None
    expected = Channel(3 * 128, 16 * 256, {"v": 4096, "o": 2048, "q": 4096, "state": 2048, "k": 4096})
    assert Memory(bandwidth=1.5).channel(CORE) == expected


def played(**options) -> tuple[PlayedMemory, dict[str, deque]]:
    ports: dict[str, deque] = {name: deque() for name in MEMORY_PORTS}
    return PlayedMemory(Memory(**options), CORE, ports), ports


def test_without_a_bandwidth_words_are_there_at_once_and_values_after_their_latency():
    memory, ports = played(latency=3)
    memory.store("k", range(100))
    assert (len(ports["k"]), memory.busy) == (100, False)
    memory.ask(5, [7, 8])
    arrived = {cycle: (memory.step(cycle, False), list(ports["v"])) for cycle in (6, 7, 8)}
    assert arrived == {6: (True, []), 7: (True, []), 8: (True, [7, 8])}


def test_a_channel_serves_values_and_outputs_before_queries_states_and_keys():
    assert sorted(CHANNEL_ORDER) == sorted([*MEMORY_PORTS, "o"])
    memory, ports = played(bandwidth=8, buffer=1)
    for name in ("k", "state", "q"):
        memory.store(name, [1, 2])
    memory.ask(0, [9])
    seen = []
    for cycle in range(1, 9):
        ready = memory.step(cycle, cycle in (3, 4))
        seen.append(("o " if ready else "") + " ".join(name for name in CHANNEL_ORDER if ports.get(name)))
    # 8 bytes a cycle: half a beat of v, q or k, a whole one of o or state.
    assert seen == ["", "v", "o v", "o v", "v", "v q", "v q state", "v q state"]
    memory.step(9, False)
    assert list(ports["k"]) == [1]
    assert memory.busy


def test_a_full_buffer_takes_no_more_and_savings_are_bounded():
    memory, ports = played(bandwidth=64, buffer=3)
    memory.store("k", range(10))
    for cycle in range(1, 4):
        memory.step(cycle, False)
    assert list(ports["k"]) == [0, 1, 2]
    memory.store("q", range(10))
    ports["k"].clear()
    memory.step(4, False)
    # One beat saved, four earned.
    assert (len(ports["q"]), len(ports["k"])) == (3, 2)


def test_no_request_is_taken_while_as_many_rows_are_outstanding():
    memory, ports = played(bandwidth=16, latency=2, outstanding=2)
    memory.ask(1, [1, 2])
    assert memory.takes_requests
    memory.ask(2, [3])
    taken = []
    for cycle in range(3, 6):
        memory.step(cycle, False)
        taken.append((list(ports["v"]), memory.takes_requests))
    assert taken == [([1], False), ([1, 2], True), ([1, 2, 3], True)]
    assert not memory.busy
