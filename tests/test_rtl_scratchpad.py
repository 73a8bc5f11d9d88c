"""The scratchpad: every row of both halves, when it can be read, when a half is free again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import CoreConfig
from golden.device.config import DeviceConfig
from rtl.axi.scratchpad import READ_LATENCY, Scratchpad

CORE = CoreConfig(rows=1, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=1)
CONFIG = DeviceConfig(CORE, data_bits=64, scratchpad_bytes=1024)
HALF_WORDS = 1024 // 4 // 2


@dataclass
class Head:
    """Rows of a head from key `first` on, the words of each, and the keys that its jobs read, job by job."""

    first: int
    words: list[list[int]]
    jobs: list[list[int]]
    wanted: bool = True
    """Whether the last key of the last job is."""

    def reads(self) -> list[dict[str, int]]:
        common = {"first": self.first, "last_beat": len(self.words[0]) - 1}
        keys = [
            (key, n == len(job) - 1, number == len(self.jobs) - 1)
            for number, job in enumerate(self.jobs)
            for n, key in enumerate(job)
        ]
        return [
            common
            | {"index": key, "last": int(last), "release": int(last and final)}
            | {"wanted": int(self.wanted or not (last and final))}
            for key, last, final in keys
        ]

    def expected(self) -> list[dict[str, int]]:
        return [
            {"data": word, "index": read["index"], "last": int(bool(read["last"]) and n == read["last_beat"])}
            for read in self.reads()
            if read["wanted"]
            for n, word in enumerate(self.words[read["index"] - self.first])
        ]

    def writes(self) -> list[dict[str, int]]:
        return [
            {"enable": 1, "data": word, "row_end": int(n == len(row) - 1), "head_end": int(row is self.words[-1])}
            for row in self.words
            for n, word in enumerate(row)
        ]


def random_head(rng: random.Random) -> Head:
    beats = rng.choice((1, 2, 3, 4))
    count = rng.choice((1, 5, HALF_WORDS // beats))
    first = rng.randrange(CORE.max_keys - count + 1)
    words = [[rng.getrandbits(32) for _ in range(beats)] for _ in range(count)]
    keys = range(first, first + count)
    jobs = [sorted(rng.sample(keys, rng.randint(1, min(count, 20)))) for _ in range(rng.randint(1, 3))]
    return Head(first, words, jobs, rng.random() < 0.7)


def run(
    heads: list[Head], comes: Stall = flowing, asks: Stall = flowing, taken: Stall = flowing
) -> tuple[Source, Sink, dict[str, list[int]]]:
    """Fill and read the heads; return both sides of the reads, and when halves were claimed and words written."""
    when: dict[str, list[int]] = {"claimed": [], "written": []}
    sides: list[Any] = []
    expected = [word for head in heads for word in head.expected()]

    async def process(bench: Bench) -> None:
        source = Source(bench, "read", [read for head in heads for read in head.reads()], asks)
        sink = Sink(bench, "rows", taken)
        waiting: list[dict[str, int]] = []
        while len(sink.words) < len(expected) or source.left or bench.get("busy"):
            claims = len(when["claimed"]) < len(heads) and bench.get("free")
            writes = bool(waiting) and not comes(bench.cycle)
            bench.pulse({"claim": int(claims)} | ({"write": waiting.pop(0)} if writes else {}))
            if claims:
                waiting += heads[len(when["claimed"])].writes()
                when["claimed"].append(bench.cycle)
            if writes:
                when["written"].append(bench.cycle)
            sink.step()
            source.step()
            await bench.tick()
        assert bench.get("free")
        sides.extend([source, sink])

    simulate(Scratchpad(CONFIG), process)
    source, sink = sides
    assert sink.words == expected
    return source, sink, when


@pytest.mark.parametrize(
    ("comes", "asks", "taken"),
    [
        (flowing, flowing, flowing),
        (at_random(1), at_random(2), at_random(3)),
        (at_random(1, 0.7), flowing, flowing),
        (flowing, flowing, at_random(2, 0.7)),
    ],
    ids=["flowing", "stalling", "slow fill", "slow core"],
)
def test_every_row_of_many_heads(comes: Stall, asks: Stall, taken: Stall):
    rng = random.Random(11)
    run([random_head(rng) for _ in range(9)], comes, asks, taken)


@pytest.mark.parametrize("beats", [1, 2, 4])
def test_a_word_is_read_and_written_every_cycle(beats: int):
    """Through rows, jobs and heads, once the first head is there."""
    rng = random.Random(beats)
    count = HALF_WORDS // beats
    heads = [
        Head(0, [[rng.getrandbits(32) for _ in range(beats)] for _ in range(count)], [list(range(count))] * 2)
        for _ in range(3)
    ]
    written = HALF_WORDS + 1
    source, sink, when = run(heads, asks=lambda cycle: cycle < written)
    assert sink.taken == list(range(written + READ_LATENCY, written + READ_LATENCY + 3 * 2 * HALF_WORDS))
    assert when["written"][: 2 * HALF_WORDS] == list(range(1, 1 + 2 * HALF_WORDS))
    # The third head's half is free when the last word of the first one is read.
    assert when["claimed"] == [0, 1, sink.taken[2 * HALF_WORDS - 1]]
    assert source.offered[0] == written


def test_a_row_is_read_as_soon_as_it_is_there():
    """Words come every fifth cycle: the row's first word is out 3 cycles after its last was written."""
    head = Head(3, [[1, 2], [3, 4]], [[3, 4]])
    _, sink, when = run([head], lambda cycle: cycle % 5 != 0)
    assert [sink.offered[0], sink.offered[2]] == [when["written"][1] + 3, when["written"][3] + 3]


@pytest.mark.parametrize(("before", "wanted"), [(0, True), (2, True), (2, False)])
def test_a_half_is_not_free_before_it_was_filled(before: int, wanted: bool):
    """Its jobs need only the first row, or none: words that still come must not fall into the next head's half.

    So it is when the half has been in use before.
    """
    short = [Head(0, [[n]], [[0]]) for n in range(before + 2)]
    _, _, when = run([*short[2:], Head(0, [[n] for n in range(20)], [[0]], wanted), *short[:2]])
    assert when["claimed"][before + 2] > when["written"][before + 19]
