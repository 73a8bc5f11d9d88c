"""When the read master asks and answers, whose turn it is, and that it never asks for more than there is room for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import PRESETS
from golden.device.bursts import Burst
from golden.device.config import DeviceConfig
from rtl.axi.read_master import Client, ReadMaster, read_ports

CONFIG = DeviceConfig(
    replace(PRESETS["tiny"], output_lanes=4), data_bits=64, burst_beats=4, buffer_beats=16, outstanding_reads=8
)
ADDRESS_LATENCY = 4
WORD_LATENCY = 3


class Memory:
    """The other side of the read channels: a beat a cycle, each burst so many cycles after its address at least.

    A beat holds its own number in memory.
    """

    def __init__(self, bench: Bench, latency: int, stall: Stall = flowing):
        self.bursts: list[Burst] = []
        self.addressed: list[int] = []
        self.came: list[int] = []
        self.responses: dict[int, int] = {}
        """Of beats by their number; the others are read well."""
        self._bench, self._latency, self._stall = bench, latency, stall
        self._beats: list[tuple[int, int, bool]] = []

    def step(self) -> None:
        """Drive this cycle, after all else."""
        bench = self._bench
        valid = bool(self._beats) and self._beats[0][0] <= bench.cycle
        bench.set({"axi.arready": not self._stall(bench.cycle), "axi.rvalid": valid})
        # Where nothing comes an error means nothing.
        bench.set({"axi.rresp": self.responses.get(self._beats[0][1], 0) if valid else 3})
        if valid:
            _, number, last = self._beats.pop(0)
            bench.set({"axi.rdata": number, "axi.rlast": last})
            self.came.append(bench.cycle)
        assert bench.get("axi.rready")
        if bench.get("axi.arvalid") and bench.get("axi.arready"):
            burst = Burst(bench.get("axi.araddr"), bench.get("axi.arlen") + 1)
            self.bursts.append(burst)
            self.addressed.append(bench.cycle)
            for n in range(burst.beats):
                number = burst.address // CONFIG.beat_bytes + n
                self._beats.append((bench.cycle + self._latency, number, n == burst.beats - 1))

    @property
    def waiting(self) -> int:
        """Beats that are asked for and have not come."""
        return len(self._beats)


def request(client: Client, beat: int, beats: int, more: bool = False) -> dict[str, int]:
    words = beats * CONFIG.beat_bytes // read_ports(CONFIG)[client].word_bytes
    return {"address": beat * CONFIG.beat_bytes, "words": words, "more": int(more)}


def run(
    requests: dict[Client, list[dict[str, int]]], cycles: int, latency: int = 10, taken: Stall = flowing
) -> tuple[Memory, dict[Client, Source], dict[Client, Sink]]:
    sides: list[Any] = []

    async def process(bench: Bench) -> None:
        names = {client: client.name.lower() for client in Client}
        sources = {c: Source(bench, f"{names[c]}_request", requests.get(c, [])) for c in requests}
        sinks = {c: Sink(bench, f"{names[c]}_words", taken) for c in requests}
        memory = Memory(bench, latency)
        while bench.cycle < cycles:
            for side in (*sources.values(), *sinks.values(), memory):
                side.step()
            await bench.tick()
        sides.extend([memory, sources, sinks])

    simulate(ReadMaster(CONFIG), process)
    return tuple(sides)


@pytest.mark.parametrize("client", [Client.STATE, Client.KEY, Client.CONTROL])
def test_a_request_and_its_words(client: Client):
    """Words of a beat, two a beat, two of them again (of 4 bytes)."""
    memory, sources, sinks = run({client: [request(client, 5, 1)]}, 40)
    assert sources[client].taken == [0]
    assert memory.addressed == [ADDRESS_LATENCY]
    per_beat = CONFIG.beat_bytes // read_ports(CONFIG)[client].word_bytes
    first = memory.came[0] + WORD_LATENCY
    assert sinks[client].taken == list(range(first, first + per_beat))
    assert sinks[client].words == [{"data": 5}, {"data": 0}][:per_beat]


def test_an_address_every_cycle():
    """While less than `outstanding_reads` are under way: 4 beats here, one burst each."""
    memory, _, _ = run({Client.STATE: [request(Client.STATE, 8 * n, 1) for n in range(20)]}, 60, latency=3)
    assert memory.addressed == list(range(ADDRESS_LATENCY, ADDRESS_LATENCY + 20))
    assert memory.came == [cycle + 3 for cycle in memory.addressed]


def test_so_many_bursts_are_under_way():
    memory, _, _ = run({Client.STATE: [request(Client.STATE, 8 * n, 1) for n in range(20)]}, 120, latency=30)
    assert memory.addressed[CONFIG.outstanding_reads - 1] == ADDRESS_LATENCY + CONFIG.outstanding_reads - 1
    assert memory.addressed[CONFIG.outstanding_reads] > memory.came[0]


def test_the_most_urgent_client_goes_first():
    """All ask at once, four bursts each; nothing is left to chance."""
    requests = {client: [request(client, 1024 * client + 8 * n, 1) for n in range(4)] for client in Client}
    memory, _, _ = run(requests, 60, latency=3)
    assert [burst.address // CONFIG.beat_bytes // 1024 for burst in memory.bursts] == [
        client for client in Client for _ in range(4)
    ]


def test_no_more_is_asked_for_than_there_is_room_for():
    """Keys that nobody takes fill their buffer of 16 beats; the next burst is asked for when it fits."""
    taken_from = 60
    requests = [request(Client.KEY, 4 * n, 4, True) for n in range(20)]
    memory, _, sinks = run({Client.KEY: requests}, 200, taken=lambda cycle: cycle < taken_from)
    before = [burst for burst, cycle in zip(memory.bursts, memory.addressed, strict=True) if cycle < taken_from]
    assert sum(burst.beats for burst in before) == CONFIG.buffer_beats
    numbers = [word["data"] for word in sinks[Client.KEY].words][::2]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 40


def test_no_more_bursts_of_narrow_words_than_can_be_described():
    """Single words that nobody takes, each a burst: `outstanding_reads` of them, though there is room for 32 beats."""
    taken_from = 60
    requests = [request(Client.CONTROL, 3 * n, 1) | {"words": 1} for n in range(20)]
    memory, _, sinks = run({Client.CONTROL: requests}, 160, taken=lambda cycle: cycle < taken_from)
    assert sum(cycle < taken_from for cycle in memory.addressed) == CONFIG.outstanding_reads
    assert [word["data"] for word in sinks[Client.CONTROL].words] == [3 * n for n in range(20)]


def test_a_client_that_takes_nothing_holds_up_no_other():
    requests = {
        Client.VALUE: [request(Client.VALUE, 1024 + 4 * n, 4, True) for n in range(20)],
        Client.KEY: [request(Client.KEY, 4 * n, 4, True) for n in range(20)],
    }
    sides: list[Any] = []

    async def process(bench: Bench) -> None:
        sources = [Source(bench, f"{c.name.lower()}_request", requests[c]) for c in requests]
        sink = Sink(bench, "key_words")
        memory = Memory(bench, 10)
        while len(sink.words) < 150:
            for side in (*sources, sink, memory):
                side.step()
            await bench.tick()
        sides.append(bench.cycle)

    simulate(ReadMaster(CONFIG), process)
    assert sides[0] < 150 + 100


@pytest.mark.parametrize("stall", [flowing, at_random(1, 0.9)], ids=["ready bus", "slow bus"])
@pytest.mark.parametrize("after", range(2, 9, 2))
def test_a_flush_begins_no_burst_and_ends_all(after: int, stall: Stall):
    """An address that is offered stays; `idle` comes when the last beat of the last burst has."""

    async def process(bench: Bench) -> None:
        source = Source(bench, "key_request", [request(Client.KEY, 8 * n, 2) for n in range(30)])
        memory = Memory(bench, 10, stall)
        pending = 0
        for _ in range(100):
            flushed = bench.cycle >= after
            bench.set({"flush": flushed})
            if bench.cycle < after:
                source.step()
            memory.step()
            if bench.cycle == after:
                pending = len(memory.bursts) + (bench.get("axi.arvalid") and not bench.get("axi.arready"))
            if flushed:
                assert len(memory.bursts) <= pending
                busy = memory.waiting or bench.get("axi.arvalid") or bench.cycle in memory.came[-1:]
                idle = bench.get("idle")
                assert not (idle and busy)
                # The last beat is counted a cycle after it came.
                last = max([-1, *memory.came])
                assert idle == (not busy and len(memory.bursts) == pending and bench.cycle >= last + 2)
            await bench.tick()
        assert bench.get("idle")
        assert len(memory.bursts) == pending

    simulate(ReadMaster(CONFIG), process)


def test_beats_and_errors_are_told():
    """SLVERR and DECERR, not EXOKAY; each in time to keep the beat's words from being used."""
    seen: dict[str, list[int]] = {"bus_error": [], "beat": []}

    async def process(bench: Bench) -> None:
        source = Source(bench, "key_request", [request(Client.KEY, n, 1) for n in range(0, 12, 2)])
        sink = Sink(bench, "key_words")
        memory = Memory(bench, 10)
        memory.responses = {2: 2, 6: 1, 8: 3}
        while bench.cycle < 40:
            for side in (source, sink, memory):
                side.step()
            for name, cycles in seen.items():
                if bench.get(name):
                    cycles.append(bench.cycle)
            await bench.tick()
        assert len(memory.came) == 6
        assert seen["beat"] == [cycle + 1 for cycle in memory.came]
        assert seen["bus_error"] == [memory.came[1] + 1, memory.came[4] + 1]
        # Two words a beat.
        assert [sink.offered[2] - seen["bus_error"][0], sink.offered[8] - seen["bus_error"][1]] >= [2, 2]

    simulate(ReadMaster(CONFIG), process)
