"""Requests become the bursts that golden says, whenever they come and whenever bursts are taken."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import PRESETS
from golden.device.bursts import Burst, Request, bursts
from golden.device.config import DeviceConfig
from rtl.axi.request_joiner import ReadPort, RequestJoiner

LATENCY = 3
CONFIGS = {
    "narrow words": DeviceConfig(PRESETS["tiny"], data_bits=256, burst_beats=4),
    "words of a beat": DeviceConfig(PRESETS["default"], data_bits=128, burst_beats=8),
    "wide words": DeviceConfig(PRESETS["wide"], data_bits=64, burst_beats=2),
    "bursts of one beat": DeviceConfig(PRESETS["default"], data_bits=64, burst_beats=1),
    "bursts of 4 KiB": DeviceConfig(PRESETS["tiny"], data_bits=512, burst_beats=256, buffer_beats=256),
}


def random_requests(rng: random.Random, config: DeviceConfig, count: int) -> list[Request]:
    """Return requests that often follow each other; the last one ends its run."""
    word = config.core.lanes
    requests: list[Request] = []
    address = 0
    for _ in range(count):
        if rng.random() < 0.3:
            # Often just below a boundary that no burst may cross.
            address = rng.randrange(1, 1 << 20) * 4096 - word * rng.randrange(5)
        words = rng.choice([1, 1, 2, 3, 4, 8, rng.randrange(1, 40)])
        requests.append(Request(address, words * word, rng.random() < 0.8))
        address += words * word
    return [*requests[:-1], Request(requests[-1].address, requests[-1].size, False)]


def payload(request: Request, config: DeviceConfig) -> dict[str, int]:
    return {"address": request.address, "words": request.size // config.core.lanes, "more": int(request.more)}


def run(
    config: DeviceConfig, requests: list[Request], comes: Stall = flowing, taken: Stall = flowing
) -> tuple[Source, Sink]:
    """Return source and sink when all expected bursts have come, and no more did."""
    expected = bursts(requests, config)
    ports: list[Any] = []

    async def process(bench: Bench) -> None:
        source = Source(bench, "request", [payload(request, config) for request in requests], comes)
        sink = Sink(bench, "burst", taken)
        while len(sink.words) < len(expected) or source.left:
            source.step()
            sink.step()
            await bench.tick()
        for _ in range(10):
            sink.step()
            await bench.tick()
        ports.extend([source, sink])

    simulate(RequestJoiner(config, ReadPort(config.core.lanes, 64)), process)
    source, sink = ports
    seen = [Burst(word["beat"] * config.beat_bytes, word["last_beat"] + 1) for word in sink.words]
    assert seen == expected
    return source, sink


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(
    ("comes", "taken"),
    [(flowing, flowing), (at_random(3), at_random(4, 0.7))],
    ids=["flowing", "stalling"],
)
def test_bursts_are_those_of_golden(config: DeviceConfig, comes: Stall, taken: Stall):
    requests = random_requests(random.Random(5), config, 30)
    _, sink = run(config, requests, comes, taken)
    assert all(burst["last_beat"] < config.burst_beats for burst in sink.words)
    if config.core.lanes < config.beat_bytes:
        spans = [request.size // config.core.lanes for request in requests]
        assert sum(burst["words"] for burst in sink.words) == sum(spans)


@pytest.mark.parametrize("more", [False, True])
def test_a_request_and_a_burst_every_cycle(more: bool):
    """Rows that don't follow each other, whether they say so or it shows with the next."""
    config = CONFIGS["words of a beat"]
    requests = [Request(4096 * n, 4 * 16, more and n < 19) for n in range(20)]
    source, sink = run(config, requests)
    assert source.taken == list(range(20))
    assert sink.offered[:-1] == [LATENCY + n for n in range(19)]


def test_short_requests_fill_bursts_as_they_come():
    """Eight beats a burst: each is offered when its last request has come."""
    config = CONFIGS["words of a beat"]
    source, sink = run(config, [Request(16 * n, 16, n < 31) for n in range(32)])
    assert source.taken == list(range(32))
    assert sink.offered == [7 + LATENCY + 8 * n for n in range(4)]


def test_a_long_request_is_cut_without_a_gap():
    config = CONFIGS["words of a beat"]
    _, sink = run(config, [Request(48, 600 * 16, True), Request(48 + 600 * 16, 32, False)])
    assert sink.taken == list(range(LATENCY, LATENCY + len(sink.words)))


def test_what_does_not_fill_a_burst_waits_for_the_next_request():
    """It is not for the joiner to guess: the client has said that more comes."""
    config = CONFIGS["words of a beat"]
    requests = [Request(0, 32, True), Request(32, 32, False)]
    source, sink = run(config, requests, lambda cycle: 1 <= cycle < 30)
    assert source.taken == [0, 30]
    assert sink.offered == [30 + LATENCY]


def test_requests_that_may_not_share_a_burst_do_not():
    """However long they wait side by side."""
    config = CONFIGS["words of a beat"]
    requests = [Request(16 * n, 16, n % 3 == 1) for n in range(6)]
    run(config, requests, taken=lambda cycle: cycle % 20 != 19)


def test_words_that_lie_across_two_beats():
    """Two words of four bytes, the last of one beat and the first of the next."""
    config = CONFIGS["narrow words"]
    _, sink = run(config, [Request(28, 8, False)])
    assert [(burst["first"], burst["words"], burst["last_beat"]) for burst in sink.words] == [(7, 2, 1)]
