"""The cocotb side of the bus masters' tests: clients with requests, a memory behind the bus, and its rules watched."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from axi_memory_model import AxiMemory
from bus_masters import CONFIG
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from golden.device.bursts import Request, bursts
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import WORDS_BITS
from sim.axi_rules import AxiRules

REGION = 1 << 16
"""Bytes of memory that each client reads; the last such region is written."""

WRITTEN = len(Client) * REGION

Pause = Callable[[], bool]


def never() -> bool:
    """Don't pause."""
    return False


def pauses(rng: random.Random, share: float) -> Iterator[bool]:
    """Yield whether to pause, in so large a share of cycles, for shorter and longer times."""
    while True:
        paused = rng.random() < share
        for _ in range(rng.choice((1, 1, 2, 8))):
            yield paused


class Reader:
    """A client: sends requests, takes words."""

    def __init__(self, dut: Any, client: Client, asks: Pause = never, takes: Pause = never):
        name = f"read_{client.name.lower()}"
        self.word_bytes = read_ports(CONFIG)[client].word_bytes
        self.words: list[int] = []
        self.asked = 0
        self._asks, self._takes = asks, takes
        self._clock = dut.clk
        self._request, self._words = (
            [getattr(dut, f"{name}_{port}__{part}") for part in ("payload", "valid", "ready")]
            for port in ("request", "words")
        )
        self._request[1].value = self._words[2].value = 0

    async def send(self, requests: list[Request]) -> None:
        """Send the requests."""
        payload, valid, ready = self._request
        for request in requests:
            while self._asks():
                await RisingEdge(self._clock)
            words = request.size // self.word_bytes
            fields = request.address | words << CONFIG.address_bits
            payload.value = fields | request.more << CONFIG.address_bits + WORDS_BITS
            valid.value = 1
            await RisingEdge(self._clock)
            while not ready.value:
                await RisingEdge(self._clock)
            self.asked += 1
            valid.value = 0

    async def take(self) -> None:
        """Take words for ever."""
        payload, valid, ready = self._words
        while True:
            ready.value = not self._takes()
            await RisingEdge(self._clock)
            if valid.value and ready.value:
                self.words.append(int(payload.value))


class Bench:
    """The masters with their clients and the memory."""

    def __init__(self, dut: Any, rng: random.Random, latency: Callable[[], int], share: float):
        self.dut, self.rng, self.share = dut, rng, share
        self.content = rng.randbytes(WRITTEN)
        self.memory = AxiMemory(dut, "m_axi", dut.clk, latency, (lambda: pauses(rng, share)) if share else None)
        self.memory.load(0, self.content)
        self.rules = AxiRules(dut, "m_axi", dut.clk, CONFIG.beat_bytes)
        self.bus_errors = {"read": 0, "write": 0}
        self.beats = {"read": 0, "write": 0}
        self.running: list[Any] = []

    async def reset(self) -> None:
        """Reset the masters, with no clients; the memory goes on."""
        for task in self.running:
            task.cancel()
        self.running = []
        self.readers = {client: Reader(self.dut, client, self._pause(), self._pause()) for client in Client}
        for name in ("read_flush", "write_flush", "write_beats__valid"):
            getattr(self.dut, name).value = 0
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 1)
        self.dut.rst.value = 0
        self.running.append(cocotb.start_soon(self._count()))
        self.running += [cocotb.start_soon(reader.take()) for reader in self.readers.values()]

    def _pause(self) -> Pause:
        generator = pauses(self.rng, self.share)
        return lambda: next(generator) if self.share else False

    async def _count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            for name in ("read", "write"):
                self.bus_errors[name] += int(getattr(self.dut, f"{name}_bus_error").value)
                self.beats[name] += int(getattr(self.dut, f"{name}_beat").value)

    async def write(self, beats: list[tuple[Request, int, int]]) -> None:
        """Send beats to write, each with data and strobe."""
        pause = self._pause()
        valid, ready = self.dut.write_beats__valid, self.dut.write_beats__ready
        for request, data, strobe in beats:
            while pause():
                await RisingEdge(self.dut.clk)
            fields = request.address | data << CONFIG.address_bits | strobe << CONFIG.address_bits + CONFIG.data_bits
            end = (not request.more) << CONFIG.address_bits + CONFIG.data_bits + CONFIG.beat_bytes
            self.dut.write_beats__payload.value = fields | end
            valid.value = 1
            await RisingEdge(self.dut.clk)
            while not ready.value:
                await RisingEdge(self.dut.clk)
            valid.value = 0

    def random_requests(self, client: Client, count: int) -> list[Request]:
        """Return requests in the client's region, many of which follow each other."""
        rng, word = self.rng, read_ports(CONFIG)[client].word_bytes
        requests = []
        address = 0
        for n in range(count):
            words = rng.choice((1, 2, 4, 4, 8, 13))
            if rng.random() < 0.3 or address + words * word > REGION:
                address = rng.randrange(REGION // word - words) * word
            requests.append(Request(client * REGION + address, words * word, n < count - 1 and rng.random() < 0.8))
            address += words * word
        return requests

    def random_beats(self, count: int) -> list[tuple[Request, int, int]]:
        """Return beats to write in the last region."""
        rng, size = self.rng, CONFIG.beat_bytes
        beats = []
        address = 0
        for n in range(count):
            if rng.random() < 0.1 or address == REGION:
                address = rng.randrange(REGION // size) * size
            request = Request(WRITTEN + address, size, n < count - 1 and rng.random() < 0.9)
            beats.append((request, rng.getrandbits(8 * size), rng.choice((0, (1 << size) - 1, rng.getrandbits(size)))))
            address += size
        return beats

    def words(self, client: Client, requests: list[Request]) -> list[int]:
        """Return the words that a client must get."""
        word = self.readers[client].word_bytes
        return [
            int.from_bytes(self.content[address : address + word], "little")
            for request in requests
            for address in range(request.address, request.address + request.size, word)
        ]

    async def traffic(self, requests: int, beats: int) -> None:
        """Read and write at random; hold data and bursts to what they must be."""
        self.memory.reads.clear()
        self.memory.writes.clear()
        asked = {client: self.random_requests(client, requests) for client in Client}
        written = self.random_beats(beats)
        before = dict(self.beats)
        tasks = [cocotb.start_soon(self.readers[client].send(asked[client])) for client in Client]
        tasks.append(cocotb.start_soon(self.write(written)))
        for task in tasks:
            await task
        expected = {client: self.words(client, asked[client]) for client in Client}
        while any(len(self.readers[client].words) < len(expected[client]) for client in Client):
            await RisingEdge(self.dut.clk)
        while self.dut.write_pending.value:
            await RisingEdge(self.dut.clk)
        await ClockCycles(self.dut.clk, 20)
        assert self.dut.read_idle.value
        assert self.dut.write_idle.value
        for client in Client:
            assert self.readers[client].words == expected[client], client.name
            seen = [burst for burst in self.memory.reads if burst.address // REGION == client]
            assert seen == bursts(asked[client], CONFIG), client.name
        self._check_written(written)
        assert self.beats["read"] - before["read"] == sum(burst.beats for burst in self.memory.reads)
        assert self.beats["write"] - before["write"] == len(written)

    def _check_written(self, written: list[tuple[Request, int, int]]) -> None:
        assert self.memory.writes == bursts([request for request, _, _ in written], CONFIG)
        content: dict[int, int] = {}
        for request, data, strobe in written:
            for n in range(CONFIG.beat_bytes):
                if strobe >> n & 1:
                    content[request.address + n] = data >> 8 * n & 255
        seen = self.memory.dump(WRITTEN, REGION)
        assert {address: seen[address - WRITTEN] for address in content} == content
        untouched = [byte for n, byte in enumerate(seen) if WRITTEN + n not in content]
        assert not any(untouched), "a byte was written that its strobe leaves out"
        self.memory.load(WRITTEN, bytes(REGION))


async def start(dut: Any, seed: int, latency: Callable[[], int], share: float) -> Bench:
    """Return a bench after reset."""
    Clock(dut.clk, 10, unit="ns").start()
    bench = Bench(dut, random.Random(seed), latency, share)
    await bench.reset()
    cocotb.start_soon(bench.rules.watch())
    return bench


@cocotb.test()
@cocotb.parametrize((("latency", "share"), [(0, 0.0), (0, 0.3), (1, 0.5), (50, 0.3), (200, 0.3)]))
async def random_traffic(dut, latency: int, share: float):
    """Every word and every byte is right, and every burst is the one that golden says."""
    rng = random.Random(latency)
    bench = await start(dut, latency + 1, lambda: rng.randint(latency // 2, latency), share)
    await bench.traffic(16, 120)
    assert bench.bus_errors == {"read": 0, "write": 0}


@cocotb.test()
async def errors_are_told(dut):
    """Each beat and each write that is answered with an error is a pulse, and all goes on."""
    rng = random.Random(7)
    bench = await start(dut, 8, lambda: rng.randint(0, 30), 0.2)
    given = 0

    def fault() -> int:
        nonlocal given
        response = rng.choice((AxiResp.OKAY, AxiResp.OKAY, AxiResp.SLVERR, AxiResp.DECERR))
        given += response != AxiResp.OKAY
        return response

    bench.memory.fault = fault
    await bench.traffic(16, 120)
    assert given > 20
    assert sum(bench.bus_errors.values()) == given
    assert bench.bus_errors["read"] > 0
    assert bench.bus_errors["write"] > 0


@cocotb.test()
@cocotb.parametrize(after=[3, 40, 90, 150, 222, 301])
async def flush(dut, after: int):
    """From a flush on no burst is begun, those that were are ended, and after a reset all is as new."""
    rng = random.Random(after)
    latency = rng.choice((5, 60))
    bench = await start(dut, after, lambda: latency, rng.choice((0, 0.3)))
    running = [cocotb.start_soon(bench.readers[client].send(bench.random_requests(client, 200))) for client in Client]
    running.append(cocotb.start_soon(bench.write(bench.random_beats(2000))))
    await ClockCycles(dut.clk, after)
    dut.read_flush.value = dut.write_flush.value = 1
    # The address that may be begun in the flush's own cycle is not.
    await RisingEdge(dut.clk)
    offered = {name: bool(getattr(dut, f"m_axi_{name}valid").value) for name in ("ar", "aw")}
    addresses = bench.rules.addresses + sum(offered.values())
    while not (dut.read_idle.value and dut.write_idle.value):
        await RisingEdge(dut.clk)
    for task in running:
        task.cancel()
    beats = sum(burst.beats for burst in bench.memory.reads)
    for _ in range(100):
        await RisingEdge(dut.clk)
        assert not any(int(getattr(dut, f"m_axi_{name}valid").value) for name in ("ar", "aw", "w", "r", "b"))
    assert addresses - sum(offered.values()) <= bench.rules.addresses <= addresses
    assert len(bench.rules.read_cycles) == beats == sum(burst.beats for burst in bench.memory.reads)
    assert len(bench.memory.reads) + len(bench.memory.writes) == bench.rules.addresses
    await bench.reset()
    bench.memory.load(WRITTEN, bytes(REGION))
    await bench.traffic(5, 30)


def rows(client: Client, row_bytes: int, count: int, joined: bool) -> list[Request]:
    """Return rows: every one, that follow each other; or each by itself, some way from the others."""
    step = row_bytes if joined else 4 * row_bytes
    return [Request(client * REGION + (step * n) % REGION, row_bytes, joined and n < count - 1) for n in range(count)]


@cocotb.test()
async def the_bus_is_busy(dut):
    """Rows of keys in a stream and single rows of values, 50 cycles away: a beat a cycle, none more than needed."""
    bench = await start(dut, 1, lambda: 50, 0.0)
    row_bytes, keys, values = 64, 512, 128
    asked = {
        Client.KEY: rows(Client.KEY, row_bytes, keys, True),
        Client.VALUE: rows(Client.VALUE, row_bytes, values, False),
    }
    for client, requests in asked.items():
        cocotb.start_soon(bench.readers[client].send(requests))
    needed = (keys + values) * row_bytes // CONFIG.beat_bytes
    while len(bench.rules.read_cycles) < needed:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 100)
    cycles = bench.rules.read_cycles
    assert len(cycles) == needed
    share = needed / (cycles[-1] - cycles[0] + 1)
    assert share >= 0.95
    for client, requests in asked.items():
        assert bench.readers[client].words == bench.words(client, requests)


@cocotb.test()
async def a_far_memory_keeps_the_bus_busy(dut):
    """Latency of 200 cycles: the read buffer covers it."""
    bench = await start(dut, 1, lambda: 200, 0.0)
    requests = rows(Client.KEY, 64, 512, True)
    cocotb.start_soon(bench.readers[Client.KEY].send(requests))
    needed = 512 * 64 // CONFIG.beat_bytes
    while len(bench.rules.read_cycles) < needed:
        await RisingEdge(dut.clk)
    cycles = bench.rules.read_cycles
    assert needed / (cycles[-1] - cycles[0] + 1) >= 0.95
