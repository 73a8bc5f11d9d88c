"""Rows for the core from memory and from the scratchpad: every word, in the order asked for, without a gap."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from read_client_model import PageTableModel, ReadClientModel
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing
from test_rtl_row_address import place

from golden.config import CoreConfig
from golden.device.bursts import Request
from golden.device.config import DeviceConfig
from rtl.axi.read_master import Client
from rtl.axi.row_address import ROW_ADDRESS_LATENCY
from rtl.axi.row_source import RowSource
from rtl.axi.scratchpad import READ_LATENCY

CORE = CoreConfig(rows=1, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=1)
CONFIG = DeviceConfig(
    CORE, data_bits=64, address_bits=32, burst_beats=4, buffer_beats=32, scratchpad_bytes=1024, page_entries=16
)
WIDE = DeviceConfig(
    CORE, data_bits=512, address_bits=32, burst_beats=64, buffer_beats=64, scratchpad_bytes=1024, page_entries=16
)
PLAIN = DeviceConfig(
    CORE, data_bits=64, address_bits=32, burst_beats=4, buffer_beats=32, scratchpad_bytes=0, page_entries=0
)
WORD = CORE.lanes
HALF_WORDS = 1024 // WORD // 2
OFFSETS = [(7 * n % 16) * 0x10000 for n in range(16)]


def content(address: int) -> int:
    """Return the word at an address."""
    return address * 0x9E3779B1 % (1 << 32)


@dataclass
class Head:
    """A kv head: where its rows lie, and the keys of each of its jobs; whether it goes to the scratchpad."""

    place: dict[str, int]
    jobs: list[list[int]]
    resident: bool
    wanted: bool = True
    """Whether the last key of each job is; if not, the job ends without a row for it, which only values do."""

    @property
    def first(self) -> int:
        return min(key for job in self.jobs for key in job)

    @property
    def last(self) -> int:
        return max(key for job in self.jobs for key in job)

    def address(self, key: int) -> int:
        """Return where a row lies."""
        where, index, offset = self.place, key, 0
        if where["paged"]:
            page, index = divmod(key, 1 << where["page_shift"])
            offset = OFFSETS[page]
        return where["base"] + offset + index * where["row_stride"]

    def fill(self) -> dict[str, Any]:
        return {"place": self.place, "first": self.first, "last": self.last}

    def job_words(self) -> list[dict[str, Any]]:
        jobs = len(self.jobs)
        common = {"place": self.place, "resident": int(self.resident), "first": self.first}
        return [common | {"release": int(n == jobs - 1)} for n in range(jobs)]

    def wants(self) -> list[dict[str, int]]:
        return [
            {"index": key, "wanted": int(self.wanted or n < len(job) - 1), "last": int(n == len(job) - 1)}
            for job in self.jobs
            for n, key in enumerate(job)
        ]

    def expected(self) -> list[dict[str, int]]:
        beats = self.place["last_beat"] + 1
        return [
            {
                "data": content(self.address(want["index"]) + WORD * beat),
                "index": want["index"],
                "last": int(want["last"] and beat == beats - 1),
            }
            for want in self.wants()
            if want["wanted"]
            for beat in range(beats)
        ]

    def requests(self, client: Client) -> list[Request]:
        """Return what is to be read: of a fill all rows, otherwise those that are wanted."""
        size = WORD * (self.place["last_beat"] + 1)
        if self.resident:
            keys = range(self.first, self.last + 1)
            return [Request(self.address(key), size, key != self.last) for key in keys]
        return [
            Request(self.address(want["index"]), size, client is Client.KEY and not want["last"])
            for want in self.wants()
            if want["wanted"]
        ]


def run(
    heads: list[Head],
    config: DeviceConfig = CONFIG,
    client: Client = Client.KEY,
    stalls: tuple[Stall, ...] = (flowing,) * 5,
    latency: int = 10,
) -> tuple[ReadClientModel, Source, Sink]:
    """Bring the rows of all jobs; a fill is offered before the rows of its jobs are wanted."""
    sides: list[Any] = []
    expected = [word for head in heads for word in head.expected()]
    wants = [(want, n) for n, head in enumerate(heads) for want in head.wants()]
    filled = [n for n, head in enumerate(heads) if head.resident]

    async def process(bench: Bench) -> None:
        sink, source = Sink(bench, "rows", stalls[0]), Source(bench, "wants", [want for want, _ in wants], stalls[1])
        jobs = Source(bench, "job", [job for head in heads for job in head.job_words()])
        fills = Source(bench, "fill", [heads[n].fill() for n in filled], stalls[4]) if filled else None
        memory = ReadClientModel(bench, config, WORD, content, latency, *stalls[2:4])
        table = PageTableModel(bench, OFFSETS, lambda cycle: min(16, cycle // 8)) if config.page_entries else None
        source.limit = 0
        while len(sink.words) < len(expected) or source.left or (fills and fills.left):
            offered = len(fills.offered) if fills else 0
            due = filled[offered] if offered < len(filled) else len(heads)
            source.limit = sum(n < due for _, n in wants)
            # Words and rows pass in the cycle in which they come.
            bench.set({"rows.ready": not stalls[0](bench.cycle)})
            if table:
                bench.set({"lookup.loaded": min(16, bench.cycle // 8)})
            memory.step()
            sink.step()
            for side in filter(None, (table, jobs, fills, source)):
                side.step()
            await bench.tick()
        for _ in range(10):
            assert not bench.get("rows.valid")
            assert not config.scratchpad_bytes or not bench.get("filling")
            await bench.tick()
        sides.extend([memory, source, sink])

    simulate(RowSource(config, client), process)
    memory, source, sink = sides
    assert sink.words == expected
    fill_requests = [request for n in filled for request in heads[n].requests(client)]
    job_requests = [request for head in heads if not head.resident for request in head.requests(client)]
    # Fills go before, and each kind keeps its order.
    left = list(memory.requests)
    for request in fill_requests:
        left.remove(request)
    assert left == job_requests
    return memory, source, sink


def random_head(rng: random.Random, config: DeviceConfig, number: int, client: Client = Client.KEY) -> Head:
    beats = rng.choice((1, 1, 2, 4))
    paged = bool(config.page_entries) and rng.random() < 0.5
    stride = WORD * (beats + rng.choice((0, 0, 3)))
    where = place(0x1000000 * (number + 1), stride, 4 if paged else None, beats - 1)
    resident = bool(config.scratchpad_bytes) and rng.random() < 0.6
    most = min(200, HALF_WORDS // beats if resident else 200)
    first = rng.randrange(CORE.max_keys - most)
    keys = range(first, first + most)
    jobs = [sorted(rng.sample(keys, rng.randint(1, 12))) for _ in range(rng.randint(1, 3))]
    return Head(where, jobs, resident, client is Client.KEY or rng.random() < 0.5)


@pytest.mark.parametrize(("config", "client"), [(CONFIG, Client.KEY), (WIDE, Client.KEY), (CONFIG, Client.VALUE)])
@pytest.mark.parametrize(
    "stalls",
    [(flowing,) * 5, tuple(at_random(n) for n in range(5)), (at_random(6, 0.7), *(flowing,) * 4)],
    ids=["flowing", "stalling", "slow core"],
)
def test_rows_from_memory_and_scratchpad(config: DeviceConfig, client: Client, stalls: tuple[Stall, ...]):
    rng = random.Random(21)
    run([random_head(rng, config, n, client) for n in range(6)], config, client, stalls)


def test_without_scratchpad_and_pages():
    rng = random.Random(22)
    heads = [random_head(rng, PLAIN, n) for n in range(6)]
    run(heads, PLAIN, Client.KEY, tuple(at_random(n) for n in range(5)))


def streamed(beats: int, keys: int, jobs: int = 2) -> Head:
    return Head(place(0, WORD * beats, None, beats - 1), [list(range(keys))] * jobs, False)


@pytest.mark.parametrize("beats", [1, 4])
def test_a_word_from_memory_every_cycle(beats: int):
    """Through rows and jobs, however short; a request a cycle in front."""
    memory, source, sink = run([streamed(beats, 24)] * 3)
    assert sink.taken == list(range(sink.taken[0], sink.taken[0] + 3 * 2 * 24 * beats))
    assert memory.asked[0] == source.taken[0] + ROW_ADDRESS_LATENCY
    assert memory.asked[:20] == list(range(memory.asked[0], memory.asked[0] + 20))


@pytest.mark.parametrize("beats", [1, 4])
def test_a_word_from_the_scratchpad_every_cycle(beats: int):
    """Through jobs and heads: the next head's rows come while this one's are read."""
    count = HALF_WORDS // beats
    heads = [Head(place(0x10000 * n, WORD * beats, None, beats - 1), [list(range(count))] * 2, True) for n in range(2)]
    memory, _, sink = run(heads)
    assert sink.taken[-1] - sink.taken[0] == 2 * 2 * HALF_WORDS - 1
    # Both halves are filled at once, with a cycle between them if rows have a word; the first is read as it comes.
    assert memory.sent[2 * HALF_WORDS - 1] - memory.sent[0] == 2 * HALF_WORDS - 1 + (beats == 1)
    assert sink.taken[0] < memory.sent[8]


def test_a_row_from_the_scratchpad():
    """Long after it was filled."""
    head = Head(place(0, WORD, None, 0), [[0], [3]], True)
    _, source, sink = run([head], stalls=(flowing, lambda cycle: cycle < 100, *(flowing,) * 3))
    assert source.taken[0] == 100
    assert sink.taken[0] == 100 + READ_LATENCY


def test_more_rows_in_a_burst_than_are_under_way_at_a_time():
    """A burst of 4 KiB has 1024 rows of a word: there must be room for all of them, or it never begins."""
    _, _, sink = run([Head(place(0, WORD, None, 0), [list(range(CORE.max_keys))], False)], WIDE)
    assert len(sink.words) == CORE.max_keys


def test_a_job_in_memory_behind_one_in_the_scratchpad_that_waits_for_its_fill():
    """Its rows may not come first: the fill's would be behind them, or they would leave between the others."""
    resident = [Head(place(0x10000 * n, WORD, None, 0), [list(range(12))] * 2, True) for n in range(3)]
    run([*resident, streamed(1, 40), *resident, streamed(2, 10)], stalls=(at_random(3, 0.5), *(flowing,) * 4))
    short = [Head(place(0x10000 * n, WORD * 4, None, 3), [[5, 7]], True) for n in range(4)]
    slow = at_random(4, 0.85)
    run(
        [head for resident in short for head in (resident, streamed(1, 4, 1))],
        stalls=(slow, *(flowing,) * 4),
        latency=1,
    )
