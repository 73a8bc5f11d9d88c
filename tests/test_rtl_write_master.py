"""The write master's bursts, and when they come, on a bus that is always ready or now and then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Source, Stall, at_random, flowing, until

from golden.config import PRESETS
from golden.device.bursts import Burst, Request, bursts
from golden.device.config import DeviceConfig
from rtl.axi.write_master import UNANSWERED_MAX, WriteMaster

LATENCY = 3
CONFIGS = {
    "default": DeviceConfig(PRESETS["tiny"], data_bits=64, burst_beats=4),
    "bursts of one beat": DeviceConfig(PRESETS["tiny"], data_bits=64, burst_beats=1),
    "bursts of 4 KiB": DeviceConfig(PRESETS["tiny"], data_bits=512, burst_beats=128, buffer_beats=128),
}


def okay(burst: int) -> int:
    """Answer every burst well."""
    return 0


class Bus:
    """The other side: takes addresses and data, and answers each burst some cycles after its last beat.

    Between answers it shows that of an error, which means nothing.
    """

    def __init__(self, bench: Bench, stall: Stall, latency: int, response: Callable[[int], int] = okay):
        self.bursts: list[Burst] = []
        self.beats: list[tuple[int, int]] = []
        self.addressed: list[int] = []
        self.moved: list[int] = []
        self.answered: list[int] = []
        self.told: dict[str, list[int]] = {"bus_error": [], "beat": []}
        """Cycles of the master's pulses."""
        self._bench, self._stall, self._latency, self._response = bench, stall, latency, response
        self._left: list[int] = []
        self._answers: list[int] = []

    def step(self) -> None:
        """Drive this cycle, after all else."""
        bench = self._bench
        ready = [not self._stall(3 * bench.cycle + n) for n in range(2)]
        number = len(self.answered)
        answers = bool(self._answers) and self._answers[0] <= bench.cycle and number < len(self.bursts)
        bench.set({"axi.awready": ready[0], "axi.wready": ready[1], "axi.bvalid": answers})
        bench.set({"axi.bresp": self._response(number) if answers else 2})
        assert bench.get("axi.bready")
        for name, cycles in self.told.items():
            if bench.get(name):
                cycles.append(bench.cycle)
        if answers:
            self._answers.pop(0)
            self.answered.append(bench.cycle)
        if bench.get("axi.awvalid") and ready[0]:
            self.bursts.append(Burst(bench.get("axi.awaddr"), bench.get("axi.awlen") + 1))
            self.addressed.append(bench.cycle)
        if bench.get("axi.wvalid") and ready[1]:
            self.beats.append((bench.get("axi.wdata"), bench.get("axi.wstrb")))
            self.moved.append(bench.cycle)
            if bench.get("axi.wlast"):
                self._answers.append(bench.cycle + self._latency)


def beat(address: int, data: int, strobe: int, end: bool) -> dict[str, int]:
    return {"address": address, "data": data, "strobe": strobe, "end": int(end)}


def random_beats(rng: random.Random, config: DeviceConfig, count: int) -> list[dict[str, int]]:
    size = config.beat_bytes
    beats: list[dict[str, int]] = []
    address = 0
    for n in range(count):
        if rng.random() < 0.1:
            # Often just below a boundary that no burst may cross.
            address = rng.randrange(1, 1 << 20) * 4096 - size * rng.randrange(4)
        end = n == count - 1 or rng.random() < 0.1
        beats.append(beat(address, rng.getrandbits(8 * size), rng.getrandbits(size), end))
        address += size
    return beats


def run(
    config: DeviceConfig,
    beats: list[dict[str, int]],
    comes: Stall = flowing,
    stall: Stall = flowing,
    latency: int = 1,
    response: Callable[[int], int] = okay,
) -> tuple[Source, Bus]:
    """Write `beats`; return both sides when nothing is pending."""
    sides: list[Any] = []

    async def process(bench: Bench) -> None:
        source, bus = Source(bench, "beats", beats, comes), Bus(bench, stall, latency, response)
        while source.left or bench.get("pending"):
            source.step()
            bus.step()
            await bench.tick()
        assert bench.get("idle")
        # What is told of the last answer comes in this cycle.
        assert bench.cycle == bus.answered[-1] + 1
        bus.step()
        sides.extend([source, bus])

    simulate(WriteMaster(config), process)
    source, bus = sides
    requests = [Request(beat["address"], config.beat_bytes, not beat["end"]) for beat in beats]
    assert bus.bursts == bursts(requests, config)
    assert bus.beats == [(beat["data"], beat["strobe"]) for beat in beats]
    assert bus.told["beat"] == [cycle + 1 for cycle in bus.moved]
    assert bus.told["bus_error"] == [cycle + 1 for n, cycle in enumerate(bus.answered) if response(n) >= 2]
    return source, bus


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(
    ("comes", "stall", "latency"),
    [(flowing, flowing, 1), (at_random(1, 0.7), flowing, 30), (flowing, at_random(2, 0.7), 3)],
    ids=["flowing", "slow beats", "slow bus"],
)
def test_bursts_are_those_of_golden(config: DeviceConfig, comes: Stall, stall: Stall, latency: int):
    run(config, random_beats(random.Random(3), config, 100), comes, stall, latency)


def test_a_beat_every_cycle():
    """Rows that follow each other: whole bursts, each address when its last beat was taken, its data at once."""
    config = CONFIGS["default"]
    beats = [beat(8 * n, n, 255, n == 31) for n in range(32)]
    source, bus = run(config, beats)
    assert source.taken == list(range(32))
    assert bus.addressed == [3 + LATENCY + 4 * n for n in range(8)]
    assert bus.moved == list(range(bus.addressed[0], bus.addressed[0] + 32))


def test_short_bursts_every_cycle():
    """Single beats: an address and a beat each cycle."""
    config = CONFIGS["default"]
    source, bus = run(config, [beat(64 * n, n, 255, True) for n in range(32)])
    assert source.taken == list(range(32))
    assert bus.addressed == bus.moved == list(range(LATENCY, LATENCY + 32))


def test_the_end_of_a_run_shows_with_the_next_beat():
    config = CONFIGS["default"]
    source, bus = run(config, [beat(0, 1, 255, False), beat(64, 2, 255, True)], lambda cycle: 1 <= cycle < 20)
    assert source.taken == [0, 20]
    assert bus.addressed == [20 + LATENCY - 1, 20 + LATENCY]


def test_so_many_bursts_have_no_answer():
    """After that no address is offered until one comes."""
    config = CONFIGS["default"]
    _, bus = run(config, [beat(64 * n, n, 255, True) for n in range(24)], latency=60)
    assert bus.addressed[UNANSWERED_MAX - 1] == LATENCY + UNANSWERED_MAX - 1
    assert bus.addressed[UNANSWERED_MAX] == LATENCY + 60 + 2
    assert bus.addressed[UNANSWERED_MAX] > bus.moved[UNANSWERED_MAX - 1] + 40


def test_no_more_bursts_wait_than_can_be_described():
    """Short ones, long before the beats fill their buffer."""
    config = CONFIGS["default"]
    source, bus = run(config, [beat(64 * n, n, 255, True) for n in range(40)], stall=until(3 * 80))
    assert sum(cycle < 80 for cycle in source.taken) < 32
    assert bus.addressed[0] == 80


def test_no_data_is_offered_before_all_of_its_burst_is_there():
    """So the bus is never held: a burst whose beats come slowly is written in one go."""
    config = CONFIGS["default"]
    _, bus = run(config, [beat(8 * n, n, 255, n == 11) for n in range(12)], lambda cycle: cycle % 7 != 0)
    for first in range(0, 12, 4):
        assert bus.moved[first : first + 4] == list(range(bus.moved[first], bus.moved[first] + 4))


def test_answers_that_are_errors_are_told():
    """SLVERR and DECERR, not EXOKAY, of bursts that follow each other too."""
    responses = [0, 2, 3, 0, 1, 2]
    beats = [beat(64 * n, n, 255, True) for n in range(6)]
    _, bus = run(CONFIGS["default"], beats, latency=5, response=lambda n: responses[n])
    assert len(bus.told["bus_error"]) == 3


@pytest.mark.parametrize("stall", [flowing, at_random(1, 0.8)], ids=["ready bus", "slow bus"])
@pytest.mark.parametrize("after", [1, 6, 9, 12])
def test_a_flush_begins_no_burst_and_ends_all(after: int, stall: Stall):
    """An address that is offered stays, its data follows; `idle` comes when the last burst is answered."""

    async def process(bench: Bench) -> None:
        source = Source(bench, "beats", [beat(64 * (n // 2) + 8 * (n % 2), n, 255, n % 2 == 1) for n in range(60)])
        bus = Bus(bench, stall, 8)
        begun = 0
        for _ in range(after + 150):
            bench.set({"flush": bench.cycle >= after})
            source.step()
            bus.step()
            if bench.cycle == after:
                begun = len(bus.bursts) + int(bench.get("axi.awvalid") and not bench.get("axi.awready"))
            if bench.cycle >= after:
                assert bench.get("idle") == (sum(cycle < bench.cycle for cycle in bus.answered) == begun)
                assert bench.get("pending")
            await bench.tick()
        assert bench.get("idle")
        assert len(bus.bursts) == len(bus.answered) == begun
        assert len(bus.beats) == sum(burst.beats for burst in bus.bursts)

    simulate(WriteMaster(CONFIGS["default"]), process)
