"""Queries of heads: every word with its row's position, packets of blocks, a word a cycle."""

from __future__ import annotations

from typing import Any

import pytest
from read_client_model import ReadClientModel
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing
from test_rtl_row_walk import rows_of, walk

from golden.config import CoreConfig
from golden.device.config import DeviceConfig
from rtl.axi.query_source import QuerySource

CORE = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=1)
CONFIG = DeviceConfig(CORE, data_bits=64, address_bits=32, burst_beats=4)
WIDE = DeviceConfig(CORE, data_bits=512, address_bits=32, burst_beats=64, buffer_beats=64)


def content(address: int) -> int:
    """Return the word at an address."""
    return address * 0x9E3779B1 % (1 << 32)


def words_of(walks: list[tuple[dict[str, int], int]]) -> list[dict[str, Any]]:
    """Return what port q must get of heads, each with the words of its rows."""
    words = []
    for head, beats in walks:
        for row in rows_of(head, CORE.rows):
            for beat in range(beats):
                data = list(content(row["address"] + 4 * beat).to_bytes(4, "little"))
                last = int(row["block_end"] and beat == beats - 1)
                words.append({"data": data, "position": row["position"], "last": last})
    return words


def run(
    config: DeviceConfig, walks: list[tuple[dict[str, int], int]], stalls: tuple[Stall, ...] = (flowing,) * 4
) -> tuple[ReadClientModel, Sink]:
    sides: list[Any] = []
    expected = words_of(walks)

    async def process(bench: Bench) -> None:
        heads = [{"walk": head, "last_beat": beats - 1} for head, beats in walks]
        sink, source = Sink(bench, "q", stalls[0]), Source(bench, "head", heads, stalls[1])
        memory = ReadClientModel(bench, config, 4, content, 5, *stalls[2:])
        while len(sink.words) < len(expected):
            # Words pass in the cycle in which they come.
            bench.set({"q.ready": not stalls[0](bench.cycle)})
            memory.step()
            sink.step()
            source.step()
            await bench.tick()
        sides.extend([memory, sink])

    simulate(QuerySource(config), process)
    memory, sink = sides
    assert sink.words == expected
    return memory, sink


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    "stalls",
    [(flowing,) * 4, tuple(at_random(n) for n in range(4)), (at_random(1, 0.9), *(flowing,) * 3)],
    ids=["flowing", "stalling", "slow core"],
)
def test_queries_of_heads(config: DeviceConfig, stalls: tuple[Stall, ...]):
    walks = [
        (walk(0x1000, 16, 256, 1, 20, 5), 4),
        (walk(0x2000, 8, 0x400, 2, 7, 0), 1),
        (walk(0x4000, 12, 0, 1, 1, 255), 3),
        (walk(0x5000, 64, 16, 4, 3, 9), 4),
    ]
    run(config, walks, stalls)


def test_a_word_every_cycle():
    memory, sink = run(CONFIG, [(walk(0, 32, 16, 2, 12, 0), 4)])
    assert sink.taken == list(range(sink.taken[0], sink.taken[0] + 96))
    assert sink.taken == memory.sent
    assert memory.asked[:8] == list(range(1, 9))


def test_rows_that_follow_each_other_are_joined():
    """More rows than may be under way, in bursts of 4 KiB: none waits for the end of its own burst."""
    memory, _ = run(WIDE, [(walk(0, 4, 0, 1, 250, 0), 1)])
    assert [request.more for request in memory.requests] == [True] * 249 + [False]


def test_the_core_waits_for_no_head():
    """Two heads: between their words no more than a walk takes to begin."""
    _, sink = run(CONFIG, [(walk(0, 16, 0, 1, 6, 0), 4), (walk(4096, 16, 0, 1, 6, 0), 4)])
    assert sink.taken[-1] - sink.taken[0] == 47
