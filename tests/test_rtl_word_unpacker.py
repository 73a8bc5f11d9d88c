"""Beats become words of every width, without a gap, and never more are taken than there is room for."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import PRESETS
from golden.device.config import DeviceConfig
from rtl.axi.request_joiner import ReadPort
from rtl.axi.word_unpacker import WordUnpacker

CONFIG = DeviceConfig(PRESETS["default"], data_bits=128, outstanding_reads=8)
DEPTH = 12
LATENCY = 2
GATHER_LATENCY = 3


def words_of(beats: list[int], word_bytes: int) -> list[int]:
    """Return the words of `beats` in memory order."""
    memory = b"".join(beat.to_bytes(CONFIG.beat_bytes, "little") for beat in beats)
    return [int.from_bytes(memory[n : n + word_bytes], "little") for n in range(0, len(memory), word_bytes)]


def random_bursts(rng: random.Random, word_bytes: int, count: int) -> tuple[list[dict[str, int]], list[int], list[int]]:
    """Return bursts of narrow words, their beats, and the words."""
    per_beat = CONFIG.beat_bytes // word_bytes
    described, beats, words = [], [], []
    for _ in range(count):
        first, number = rng.randrange(per_beat), rng.randint(1, 3 * per_beat)
        last_beat = (first + number - 1) // per_beat
        new = [rng.getrandbits(CONFIG.data_bits) for _ in range(last_beat + 1)]
        described.append({"beat": 0, "last_beat": last_beat, "first": first, "words": number})
        beats += new
        words += words_of(new, word_bytes)[first : first + number]
    return described, beats, words


def run(
    word_bytes: int, beats: list[int], words: list[int], bursts: list[dict[str, int]], comes: Stall, taken: Stall
) -> tuple[list[int], Sink]:
    """Send beats as soon as there is room; return their cycles, and the sink when all words have come."""
    sent: list[int] = []
    answer: list[Any] = []

    async def process(bench: Bench) -> None:
        room = DEPTH
        sink = Sink(bench, "words", taken)
        source = Source(bench, "burst", bursts) if bursts else None
        while len(sink.words) < len(words):
            comes_now = len(sent) < len(beats) and room > 0 and not comes(bench.cycle)
            # A beat comes some cycles after its burst was announced.
            comes_now &= source is None or sum(b["last_beat"] + 1 for b in bursts[: len(source.taken)]) > len(sent)
            bench.set({"enable": comes_now} | ({"beat": beats[len(sent)]} if comes_now else {}))
            if source:
                source.step()
            sink.step()
            room += bench.get("freed") - comes_now
            if comes_now:
                sent.append(bench.cycle)
            await bench.tick()
        answer.append(sink)

    simulate(WordUnpacker(CONFIG, ReadPort(word_bytes, DEPTH)), process)
    assert [word["data"] for word in answer[0].words] == words
    assert len(sent) == len(beats)
    return sent, answer[0]


@pytest.mark.parametrize("word_bytes", [4, 8, 16, 32, 64])
@pytest.mark.parametrize(
    ("comes", "taken"),
    [(flowing, at_random(2, 0.7)), (at_random(3), at_random(4))],
    ids=["slow words", "stalling"],
)
def test_words_of_every_width(word_bytes: int, comes: Stall, taken: Stall):
    rng = random.Random(word_bytes)
    bursts: list[dict[str, int]] = []
    if word_bytes < CONFIG.beat_bytes:
        bursts, beats, words = random_bursts(rng, word_bytes, 16)
    else:
        beats = [rng.getrandbits(CONFIG.data_bits) for _ in range(32)]
        words = words_of(beats, word_bytes)
    run(word_bytes, beats, words, bursts, comes, taken)


@pytest.mark.parametrize("word_bytes", [16, 32, 64])
def test_a_beat_every_cycle(word_bytes: int):
    beats = list(range(1, 33))
    parts = word_bytes // CONFIG.beat_bytes
    sent, sink = run(word_bytes, beats, words_of(beats, word_bytes), [], flowing, flowing)
    assert sent == list(range(32))
    last_beats = sent[parts - 1 :: parts]
    assert sink.taken == [cycle + (LATENCY if parts == 1 else GATHER_LATENCY) for cycle in last_beats]


def test_a_narrow_word_every_cycle():
    bursts = [{"beat": 0, "last_beat": 1, "first": 1, "words": 2}] * 20
    beats = list(range(40))
    words = [word for n in range(20) for word in (words_of(beats, 8)[4 * n + 1], words_of(beats, 8)[4 * n + 2])]
    sent, sink = run(8, beats, words, bursts, flowing, flowing)
    assert sink.taken == list(range(sent[0] + LATENCY, sent[0] + LATENCY + 40))
