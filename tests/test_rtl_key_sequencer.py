"""The key sequencer against golden: every key list, one key a cycle, counts in time, and commands that are wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, simulate
from sequence_cases import random_sequence
from stream_rules import Sink, Source, Stall, at_random, flowing, until

from golden.config import CoreConfig
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS, KeySequence, SequenceStatus
from golden.masks import Mask, MaskKind
from rtl.key_sequencer import COMMAND_CYCLES, COUNT_CYCLES, REQUEST_CYCLES, KeySequencer

CONFIG = CoreConfig(lanes=4, max_head_dim=4, max_value_dim=4, max_keys=1024)
LARGE = CoreConfig(lanes=4, max_head_dim=4, max_value_dim=4, max_keys=1 << 16)


def command(sequence: KeySequence, **changes: int) -> dict[str, int]:
    return {
        "first": sequence.first,
        "end": sequence.end,
        "block_shift": sequence.block_shift,
        "mask": int(sequence.mask.kind),
        "window": sequence.mask.window,
        "first_position": sequence.positions[0],
        "last_position": sequence.positions[1],
    } | changes


def packet(sequence: KeySequence) -> list[dict[str, int]]:
    words = sequence.words
    return [{"blocks": word, "last": int(n == len(words) - 1)} for n, word in enumerate(words)]


def requests(keys: list[int]) -> list[tuple[int | None, int, int]]:
    """Return index, `wanted` and `last` of each transfer for these keys; a transfer that is not wanted has no index."""
    if not keys:
        return [(None, 0, 1)]
    return [(key, 1, int(n == len(keys) - 1)) for n, key in enumerate(keys)]


@dataclass
class Run:
    """What went over the ports, and when."""

    command: Source
    bitmap: Source
    count: Sink
    k_req: Sink

    def transfers(self) -> list[tuple[int | None, int, int]]:
        return [(word["index"] if word["wanted"] else None, word["wanted"], word["last"]) for word in self.k_req.words]


def run(
    config: CoreConfig,
    commands: list[dict[str, int]],
    packets: list[list[dict[str, int]]],
    stalls: tuple[Stall, Stall, Stall, Stall] = (flowing,) * 4,
) -> Run:
    """Send commands and bitmaps, until each has its end on k_req and a while longer."""
    answer: list[Run] = []

    async def process(bench: Bench) -> None:
        ports = Run(
            Source(bench, "command", commands, stalls[0]),
            Source(bench, "bitmap", [word for words in packets for word in words], stalls[1]),
            Sink(bench, "count", stalls[2]),
            Sink(bench, "k_req", stalls[3]),
        )
        answer.append(ports)
        late = 0
        while late < 20:
            for port in (ports.command, ports.bitmap, ports.count, ports.k_req):
                port.step()
            ends = sum(word["last"] for word in ports.k_req.words)
            late = late + 1 if ends == len(commands) else 0
            await bench.tick()

    simulate(KeySequencer(config), process)
    return answer[0]


def check(config: CoreConfig, sequences: list[KeySequence], stalls: Any = (flowing,) * 4) -> Run:
    """Hold counts and keys to golden."""
    seen = run(config, [command(s) for s in sequences], [packet(s) for s in sequences], stalls)
    expected = [sequence.run(config.max_keys) for sequence in sequences]
    assert seen.count.words == [{"keys": len(keys), "status": int(status)} for status, keys in expected]
    assert seen.transfers() == [transfer for _, keys in expected for transfer in requests(keys.tolist())]
    return seen


@pytest.mark.parametrize(
    "stalls",
    [
        (flowing,) * 4,
        (at_random(1), at_random(2), at_random(3), at_random(4)),
        (flowing, flowing, at_random(5, 0.9), flowing),
        (flowing, flowing, flowing, until(1500)),
    ],
    ids=["flowing", "half", "late counts", "late keys"],
)
def test_random_commands(stalls: Any):
    random = np.random.default_rng(1)
    sequences = [random_sequence(random, CONFIG, 150) for _ in range(40)]
    kinds = Counter(sequence.run(CONFIG.max_keys)[0] for sequence in sequences)
    assert kinds[SequenceStatus.OK] > 15
    assert {SequenceStatus.EMPTY, SequenceStatus.BITMAP_SHORT} <= set(kinds)
    check(CONFIG, sequences, stalls)


def test_a_wide_core():
    random = np.random.default_rng(2)
    check(LARGE, [random_sequence(random, LARGE, 400) for _ in range(12)])


def test_a_key_every_cycle_across_blocks_and_words():
    """Single keys and runs in blocks of one key; words that follow each other; a word without a block costs a cycle."""
    bitmap = np.zeros(6 * WORD_BLOCKS, dtype=bool)
    bitmap[[0, 1, 5, 31, 32, 40, 63, 64]] = True
    bitmap[5 * WORD_BLOCKS + 7] = True
    seen = check(CONFIG, [KeySequence(0, len(bitmap), 0, bitmap)])
    assert seen.k_req.offered[0] == seen.count.taken[0] + REQUEST_CYCLES
    # Two empty words lie before the last key, whose own word is loaded as the first one's was.
    assert np.diff(seen.k_req.taken).tolist() == [1] * 7 + [3]


def test_a_run_of_blocks_that_are_not_streamed_costs_a_cycle_a_word():
    shift, words = 4, 40
    bitmap = np.zeros(words * WORD_BLOCKS, dtype=bool)
    bitmap[[0, -1]] = True
    seen = check(LARGE, [KeySequence(0, len(bitmap) << shift, shift, bitmap)])
    gaps = np.diff(seen.k_req.taken)
    block = 1 << shift
    # The words are looked through while the first block's keys are requested.
    assert gaps[: block - 1].tolist() == [1] * (block - 1)
    assert gaps[block - 1] <= words - block + 3
    assert gaps[block:].tolist() == [1] * (block - 1)


@pytest.mark.parametrize("shift", [0, 3])
def test_a_count_comes_when_the_bitmap_has_come(shift: int):
    words = 3
    sequence = KeySequence(0, 90 << shift, shift, np.ones(words * WORD_BLOCKS, dtype=bool))
    seen = check(CONFIG, [sequence])
    assert seen.bitmap.taken == [seen.command.taken[0] + COMMAND_CYCLES + shift + n for n in range(words)]
    assert seen.count.offered[0] == seen.bitmap.taken[-1] + COUNT_CYCLES + shift


def test_the_next_command_is_counted_while_keys_wait():
    """Keys that are not taken hold neither the next command nor its count, nor the bitmap of the one after that."""
    sequence = KeySequence(0, 64, 0, np.ones(64, dtype=bool))
    seen = check(CONFIG, [sequence] * 3, (flowing, flowing, flowing, until(200)))
    assert seen.count.taken[1] < 60
    assert seen.count.taken[2] > 200


def test_words_that_find_no_room_wait():
    """The words of a bitmap that come while the keys before wait, more than there is room for."""
    blocks = 40 * WORD_BLOCKS
    index = np.arange(blocks)
    sequences = [KeySequence(0, blocks, 0, (index < 20) | (index % 90 == n)) for n in range(3)]
    seen = check(LARGE, sequences, (flowing, flowing, flowing, until(400)))
    assert sum(cycle < 400 for cycle in seen.bitmap.taken) <= BITMAP_WORDS + 3


def test_bounds_cut_single_keys():
    """Windows and ranges that begin and end within a key of each other."""
    bitmap = np.ones(WORD_BLOCKS, dtype=bool)
    check(
        CONFIG,
        [
            KeySequence(first, 30 + late, 2, bitmap, Mask(MaskKind.WINDOW, 5), (14, 30))
            for first in (9, 10, 11)
            for late in (0, 1, 2)
        ],
    )


def test_bounds_do_not_count_blocks_twice():
    """A range within a single block, and one that begins in a block and ends in the next."""
    bitmap = np.ones(WORD_BLOCKS, dtype=bool)
    check(CONFIG, [KeySequence(5, 9, 4, bitmap), KeySequence(15, 17, 4, bitmap), KeySequence(31, 32, 5, bitmap)])


def test_the_largest_bitmap_there_is_room_for_and_one_word_more():
    blocks = BITMAP_WORDS * WORD_BLOCKS
    bitmap = np.zeros(blocks + WORD_BLOCKS, dtype=bool)
    bitmap[[3, blocks - 1, blocks]] = True
    fits, long = KeySequence(0, blocks, 0, bitmap), KeySequence(0, blocks + 1, 0, bitmap)
    inner = KeySequence(0, 1 << 16, 0, bitmap, Mask(MaskKind.WINDOW, 40), (blocks, blocks))
    seen = check(LARGE, [fits, long, fits, inner])
    assert [word["status"] for word in seen.count.words] == [0, SequenceStatus.BITMAP_LONG, 0, 0]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"mask": 3}, SequenceStatus.MASK),
        ({"mask": 2, "window": 0}, SequenceStatus.MASK),
        ({"end": 1025}, SequenceStatus.RANGE),
        ({"end": 0xFFFFFF}, SequenceStatus.RANGE),
        ({"block_shift": 11}, SequenceStatus.RANGE),
        ({"block_shift": 31}, SequenceStatus.RANGE),
        ({"first": 70}, SequenceStatus.EMPTY),
        ({"first": 0xFFFFFF}, SequenceStatus.EMPTY),
        ({"mask": 1, "first": 40, "last_position": 39}, SequenceStatus.EMPTY),
        ({"mask": 2, "window": 0xFFFFFF, "last_position": 63}, SequenceStatus.OK),
    ],
)
def test_wrong_fields_are_an_error_and_the_next_command_is_right(changes: dict[str, int], status: SequenceStatus):
    good = KeySequence(0, 64, 0, np.arange(64) % 3 == 0)
    keys = np.arange(0, 64, 3).tolist()
    seen = run(CONFIG, [command(good, **changes), command(good)], [packet(good)] * 2)
    first = keys if status == SequenceStatus.OK else []
    assert seen.count.words == [{"keys": len(first), "status": int(status)}, {"keys": len(keys), "status": 0}]
    assert seen.transfers() == [*requests(first), *requests(keys)]
