"""Packets of state: every word in order, the last one marked, a word a cycle."""

from __future__ import annotations

from typing import Any

import pytest
from read_client_model import ReadClientModel
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import CoreConfig
from golden.device.config import DeviceConfig
from rtl.axi.state_source import StateSource
from rtl.interfaces import STATE_PIECES

CORE = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, output_lanes=2, rows_per_scaler=1)
CONFIG = DeviceConfig(CORE, data_bits=64, address_bits=32, burst_beats=4)
WORD = 2 * CORE.output_lanes


def content(address: int) -> int:
    """Return the word at an address."""
    return address * 0x9E3779B1 % (1 << 32)


def packet_words(rows: int, value_dim: int) -> int:
    return STATE_PIECES * rows * (1 + CORE.output_beats(value_dim))


def run(
    packets: list[tuple[int, int, int]], stalls: tuple[Stall, ...] = (flowing,) * 4, latency: int = 5
) -> tuple[ReadClientModel, Source, Sink]:
    """Read packets, each an address, rows and a value dimension."""
    sides: list[Any] = []
    expected = []
    for address, rows, value_dim in packets:
        count = packet_words(rows, value_dim)
        for n in range(count):
            word = content(address + WORD * n)
            expected.append({"data": [word & 0xFFFF, word >> 16], "last": int(n == count - 1)})
    jobs = [
        {"address": address, "last_row": rows - 1, "last_word": CORE.output_beats(value_dim) - 1}
        for address, rows, value_dim in packets
    ]

    async def process(bench: Bench) -> None:
        sink, source = Sink(bench, "state", stalls[0]), Source(bench, "job", jobs, stalls[1])
        memory = ReadClientModel(bench, CONFIG, WORD, content, latency, *stalls[2:])
        while len(sink.words) < len(expected):
            # Words pass in the cycle in which they come.
            bench.set({"state.ready": not stalls[0](bench.cycle)})
            memory.step()
            sink.step()
            source.step()
            await bench.tick()
        sides.extend([memory, source, sink])

    simulate(StateSource(CONFIG), process)
    memory, source, sink = sides
    assert sink.words == expected
    return memory, source, sink


@pytest.mark.parametrize("stalls", [(flowing,) * 4, tuple(at_random(n) for n in range(4))], ids=["flowing", "stalling"])
def test_packets(stalls: tuple[Stall, ...]):
    memory, _, _ = run([(0x1000, 3, 16), (0x2004, 1, 1), (0x3000, 2, 7), (0x4000, 3, 2)], stalls)
    assert [request.more for request in memory.requests] == [True, True, False, False, True, False, True, True, False]


def test_a_word_every_cycle_through_packets():
    """The next packet is asked for while the one before leaves."""
    count = packet_words(3, 16)
    memory, source, sink = run([(0x1000 * n, 3, 16) for n in range(1, 4)], latency=20)
    assert source.taken[:2] == [0, 4]
    assert memory.asked[:3] == [1, 2, 3]
    assert sink.taken == list(range(sink.taken[0], sink.taken[0] + 3 * count))
    assert sink.taken == memory.sent
