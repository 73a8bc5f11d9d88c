"""Key capture: which beats leave it and when, what a dropped key, a short one and another job's do, and its room."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, context, simulate
from stream_rules import Sink, Stall, at_random, flowing, until

from golden.config import CoreConfig
from rtl.key_capture import KeyCapture

CONFIG = CoreConfig(rows=1, lanes=4, max_head_dim=20, max_value_dim=16, max_keys=64, rows_per_scaler=1, shared_values=1)
DEPTH = CONFIG.capture_beats
VERDICT = 17
"""Cycles from a key's last beat to its verdict."""

VALUES_AFTER_VERDICT = 3
ROOM_AFTER_VERDICT = 3


@dataclass(frozen=True)
class Key:
    """A key: its job's context, its beats as they come, and its verdict."""

    ctx: int
    beats: list[int]
    keep: bool


@dataclass(frozen=True)
class Shape:
    """Beats of a job's key and value rows, and whether it shares its values."""

    head_beats: int
    value_beats: int
    shared: bool = True

    def context(self) -> dict[str, int]:
        lanes = CONFIG.lanes
        return context(CONFIG, self.head_beats * lanes, self.value_beats * lanes, shared=int(self.shared))


@dataclass
class Seen:
    """What became of the keys."""

    begun: list[int]
    """Cycle of each key's first beat."""
    judged: list[int]
    sink: Sink


def run(
    shapes: list[Shape], keys: list[Key], stall: Stall = flowing, pause: Stall = flowing, cycles: int | None = None
) -> Seen:
    """Send keys as the scheduler does, judge each `VERDICT` cycles after its last beat, and take what comes out.

    Runs until the survivors have left, or for so many `cycles`.
    """
    kept = [key for key in keys if key.keep and shapes[key.ctx].shared]
    expected = [beat for key in kept for beat in key.beats[: shapes[key.ctx].value_beats]]
    answer: list[Seen] = []

    async def process(bench: Bench) -> None:
        bench.set({"contexts": [shape.context() for shape in shapes]})
        seen = Seen([], [], Sink(bench, "rows", stall))
        verdicts: deque[tuple[int, Key]] = deque()
        number = word = 0
        while bench.cycle < cycles if cycles else len(seen.judged) < len(keys) or len(seen.sink.words) < len(expected):
            inputs: dict[str, Any] = {}
            if verdicts and verdicts[0][0] == bench.cycle:
                key = verdicts.popleft()[1]
                inputs |= {"valid": 1, "keep": int(key.keep), "ctx": key.ctx}
                seen.judged.append(bench.cycle)
            if number < len(keys):
                key = keys[number]
                bench.set({"key_ctx": key.ctx})
                if not pause(bench.cycle) and (word or not bench.get("full")):
                    last = word == len(key.beats) - 1
                    inputs |= {"key_beat": 1, "key_word": word, "key_last": int(last), "data": key.beats[word]}
                    if not word:
                        seen.begun.append(bench.cycle)
                    word += 1
                    if last:
                        verdicts.append((bench.cycle + VERDICT, key))
                        number, word = number + 1, 0
            bench.pulse(inputs)
            seen.sink.step()
            await bench.tick()
        answer.append(seen)

    simulate(KeyCapture(CONFIG), process)
    (seen,) = answer
    words = [int.from_bytes(bytes(word["data"]), "little") for word in seen.sink.words]
    assert words == (expected if cycles is None else expected[: len(words)])
    return seen


def keys_of(shape: Shape, ctx: int, kept: list[bool], rng: np.random.Generator) -> list[Key]:
    return [Key(ctx, rng.integers(0, 1 << 32, shape.head_beats).tolist(), keep) for keep in kept]


@pytest.mark.parametrize(
    ("stall", "pause"),
    [(flowing, flowing), (at_random(1), flowing), (at_random(2, 0.9), at_random(3)), (until(300), flowing)],
    ids=["flowing", "slow values", "both slow", "late values"],
)
def test_survivors_of_random_jobs_leave_in_order(stall: Stall, pause: Stall):
    """Contexts of any shape in turn, some without shared values; keys that end too early are never kept."""
    rng = np.random.default_rng(5)
    for _ in range(4):
        beats = rng.integers(1, 6, 2)
        shapes = [Shape(int(n), int(rng.integers(1, min(n, 4) + 1)), bool(rng.random() < 0.8)) for n in beats]
        keys: list[Key] = []
        for job in range(8):
            rate = rng.choice([0.1, 0.5, 1.0])
            keys += keys_of(shapes[job % 2], job % 2, (rng.random(rng.integers(1, 16)) < rate).tolist(), rng)
            if rng.random() < 0.5:
                short = int(rng.integers(1, shapes[job % 2].head_beats + 1))
                keys.append(Key(job % 2, keys[-1].beats[:short], False))
        run(shapes, keys, stall, pause)


def test_values_come_three_cycles_after_their_verdict_and_then_a_beat_a_cycle():
    shape = Shape(5, 4)
    seen = run([shape, shape], keys_of(shape, 0, [True, False, True], np.random.default_rng(0)))
    assert seen.begun == [0, 5, 10]
    first, third = seen.judged[0] + VALUES_AFTER_VERDICT, seen.judged[2] + VALUES_AFTER_VERDICT
    assert seen.sink.taken == [*range(first, first + 4), *range(third, third + 4)]


def test_survivors_of_one_beat_leave_without_a_gap():
    shape = Shape(1, 1)
    seen = run([shape, shape], keys_of(shape, 1, [True] * 100, np.random.default_rng(0)))
    first = seen.judged[0] + VALUES_AFTER_VERDICT
    assert seen.begun == list(range(100))
    assert seen.sink.taken == list(range(first, first + 100))


@pytest.mark.parametrize("value_beats", [1, 3, 4])
def test_as_many_survivors_wait_as_there_is_room_for(value_beats: int):
    """A key begins when the beats of its value have room, whatever of it the array takes beyond these."""
    shape, fit = Shape(4, value_beats), DEPTH // value_beats
    # The output holds a beat, so its room is free; no key begins before the first survivor has left but for that.
    more = (DEPTH + 1) // value_beats - fit
    late = 4 * fit + 60
    keys = keys_of(shape, 0, [True] * (fit + 10), np.random.default_rng(0))
    seen = run([shape, shape], keys, until(late))
    begun = [cycle for cycle in seen.begun if cycle < late]
    assert begun == [4 * n for n in range(fit)] + begun[fit:]
    assert len(begun) == fit + more
    # Then a beat a cycle is read, and the room of each is free in the next.
    assert seen.begun[fit + more] == late + (fit + more + 1) * value_beats - 1 - DEPTH


def test_a_dropped_key_gives_its_room_back_with_its_verdict():
    """All keys are dropped: those that wait for their verdict fill the ring no further than the latency."""
    shape = Shape(4, 4)
    seen = run([shape, shape], keys_of(shape, 0, [False] * 60, np.random.default_rng(0)))
    assert seen.begun == [4 * n for n in range(60)]
    # A survivor at the head keeps the room of those behind it.
    keys = keys_of(shape, 0, [True] + [False] * 40, np.random.default_rng(1))
    late = 200
    seen = run([shape, shape], keys, until(late))
    fit = DEPTH // 4
    assert len([cycle for cycle in seen.begun if cycle < late]) == fit


def test_room_comes_back_three_cycles_after_the_verdict():
    """Verdicts are late, so that the ring is full when the first comes."""
    shape = Shape(1, 1)
    keys = keys_of(shape, 0, [False] * (DEPTH + 1), np.random.default_rng(0))
    begun: list[int] = []

    async def process(bench: Bench) -> None:
        bench.set({"contexts": [shape.context()] * 2})
        verdict = DEPTH + 5
        while bench.cycle < DEPTH + 20:
            full = bench.get("full")
            assert full == (DEPTH <= bench.cycle < verdict + ROOM_AFTER_VERDICT or len(begun) > DEPTH)
            inputs = {"valid": int(bench.cycle == verdict)}
            if not full:
                begun.append(bench.cycle)
                inputs |= {"key_beat": 1, "key_last": 1, "data": keys[len(begun) - 1].beats[0]}
            bench.pulse(inputs)
            await bench.tick()

    simulate(KeyCapture(CONFIG), process)
    assert begun == [*range(DEPTH), DEPTH + 5 + ROOM_AFTER_VERDICT]


def test_keys_of_other_jobs_take_no_room():
    shapes = [Shape(2, 2, shared=False), Shape(2, 2)]
    rng = np.random.default_rng(0)
    shared = keys_of(shapes[1], 1, [True] * (DEPTH // 2), rng)
    keys = [*shared, *keys_of(shapes[0], 0, [True] * 50, rng)]
    late = 2 * len(keys) + 60
    seen = run(shapes, keys, until(late))
    assert seen.begun == [2 * n for n in range(len(keys))]
