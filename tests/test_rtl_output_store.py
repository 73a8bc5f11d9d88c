"""Output packets in memory: every byte of the rows or states, none besides, and a word a cycle."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing
from test_rtl_row_walk import rows_of, walk

from golden.config import CoreConfig
from golden.device.config import DeviceConfig
from rtl.axi.output_store import OutputStore
from rtl.interfaces import STATE_PIECES

Head = dict[str, Any]


def config_of(output_lanes: int, data_bits: int) -> DeviceConfig:
    core = CoreConfig(
        rows=3, lanes=16, max_head_dim=16, max_value_dim=32, max_keys=64, output_lanes=output_lanes, rows_per_scaler=1
    )
    return DeviceConfig(core, data_bits=data_bits, address_bits=32)


CONFIGS = {
    "four words a beat": config_of(2, 128),
    "a lane a word": config_of(1, 64),
    "a word a beat": config_of(4, 64),
    "two beats a word": config_of(8, 64),
    "four beats a word": config_of(16, 64),
}


def output(walked: dict[str, int], value_dim: int) -> Head:
    return {"walk": walked, "state": 0, "last_element": value_dim - 1}


def states(base: int, stride: int, blocks: int, value_dim: int) -> Head:
    return {"walk": walk(base, stride, 0, 1, blocks, 0), "state": 1, "last_element": value_dim - 1}


def packets_of(rng: random.Random, config: DeviceConfig, head: Head) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Return words of port o for the jobs of a head, and what bytes must be in memory after them."""
    core, rows = config.core, rows_of(head["walk"], config.core.rows)
    value_dim = head["last_element"] + 1
    beats = core.output_beats(value_dim)
    words: list[dict[str, Any]] = []
    memory: dict[int, int] = {}
    for n, row in enumerate(rows):
        if head["state"]:
            block_rows = 1 + n % core.rows
            count, kept, packet_end = STATE_PIECES * block_rows * (1 + beats), 1 << 30, True
        else:
            count, kept, packet_end = beats, value_dim, row["block_end"]
        for word in range(count):
            elements = [rng.randrange(1 << 16) for _ in range(core.output_lanes)]
            last = int(packet_end and word == count - 1)
            words.append({"data": elements, "tag": 5, "last": last})
            for lane, element in enumerate(elements):
                number = word * core.output_lanes + lane
                if number < kept:
                    address = row["address"] + 2 * number
                    memory |= {address: element & 255, address + 1: element >> 8}
    return words, memory


def run(
    config: DeviceConfig, heads: list[Head], stalls: tuple[Stall, ...] = (flowing,) * 3, seed: int = 1
) -> tuple[Source, Sink]:
    """Store the output of heads; return both sides once nothing is left."""
    rng = random.Random(seed)
    words: list[dict[str, Any]] = []
    memory: dict[int, int] = {}
    for head in heads:
        more_words, more_bytes = packets_of(rng, config, head)
        assert not memory.keys() & more_bytes.keys()
        words += more_words
        memory |= more_bytes
    sides: list[Any] = []

    async def process(bench: Bench) -> None:
        sink = Sink(bench, "beats", stalls[0])
        source, commands = Source(bench, "o", words, stalls[1]), Source(bench, "head", heads, stalls[2])
        while source.left or commands.left or bench.get("busy"):
            sink.step()
            source.step()
            commands.step()
            await bench.tick()
        assert not bench.get("beats.valid")
        sides.extend([source, sink])

    simulate(OutputStore(config), process)
    source, sink = sides
    seen: dict[int, int] = {}
    for beat in sink.words:
        assert beat["address"] % config.beat_bytes == 0
        assert beat["strobe"], "a beat writes nothing"
        for n in range(config.beat_bytes):
            if beat["strobe"] >> n & 1:
                assert beat["address"] + n not in seen
                seen[beat["address"] + n] = beat["data"] >> 8 * n & 255
    assert seen == memory
    # A burst ends with each packet, so that none waits for the next one.
    assert sum(beat["end"] for beat in sink.words) == sum(word["last"] for word in words)
    assert sink.words[-1]["end"]
    return source, sink


def mixed_heads(config: DeviceConfig) -> list[Head]:
    """Return heads with rows that share beats, rows apart, tails, states."""
    word = 2 * config.core.output_lanes
    tight = 2 * config.core.output_lanes * config.core.output_beats(13)
    return [
        output(walk(0x1000, tight, 0, 1, 7, 0), 13),
        output(walk(0x2000 + word, 0x100, 0x40, 3, 4, 0), 32),
        states(0x10000 + word, 0x1000, 4, 13),
        output(walk(0x4000, 4 * word, word, 4, 2, 0), 1),
        states(0x20000, 0x1000, 1, 32),
        output(walk(0x5000, 64, 0, 1, 1, 0), 16),
    ]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(
    "stalls",
    [(flowing,) * 3, tuple(at_random(n) for n in range(3))],
    ids=["flowing", "stalling"],
)
def test_every_byte_and_none_besides(config: DeviceConfig, stalls: tuple[Stall, ...]):
    run(config, mixed_heads(config), stalls)


def test_a_word_every_cycle():
    """Rows that follow each other in memory: whole beats only."""
    config = CONFIGS["four words a beat"]
    source, sink = run(config, [output(walk(0, 64, 0, 1, 12, 0), 32)])
    assert source.taken == list(range(1, 1 + 12 * 16))
    assert len(sink.words) == 12 * 64 // 16
    assert all(beat["strobe"] == 0xFFFF for beat in sink.words)


def test_a_beat_every_cycle_of_wide_words():
    config = CONFIGS["four beats a word"]
    _, sink = run(config, [output(walk(0, 64, 0, 1, 12, 0), 32)])
    assert sink.taken == list(range(sink.taken[0], sink.taken[0] + 12 * 8))


def test_small_rows_share_beats():
    """Four rows a beat, within a packet."""
    config = CONFIGS["four words a beat"]
    _, sink = run(config, [output(walk(0, 4, 0, 1, 9, 0), 2)])
    assert [(beat["address"], beat["strobe"]) for beat in sink.words] == [
        (0, 0x0FFF), (0, 0xF000), (16, 0x00FF), (16, 0xFF00), (32, 0x000F)
    ]  # fmt: skip
