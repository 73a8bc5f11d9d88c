"""Value lanes: which byte of which row comes when, and how rows of the next packs are taken meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, context, simulate
from stream_rules import Source, Stall, at_random, flowing

from golden.config import CoreConfig
from rtl.value_lanes import ValueLanes

CONFIG = CoreConfig(rows=2, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=64, shared_values=1)
FULL_AFTER_LAST_BEAT = 2
FULL_AFTER_CLOSING = 3
REQUEST_LATENCY = 2
"""Cycles from a verdict to its request on v_req, and so to the first beat of the fastest memory there can be.

Those of captured keys come no sooner.
"""


def packs_of(rng: np.random.Generator, counts: list[int], value_dim: int) -> list[np.ndarray]:
    """Return the value rows of packs, uint8, padded with what must not matter to whole beats."""
    width = CONFIG.value_beats(value_dim) * CONFIG.lanes
    return [rng.integers(0, 256, (count, width)) for count in counts]


def words_of(packs: list[np.ndarray]) -> list[dict[str, Any]]:
    lanes = CONFIG.lanes
    rows = [row for pack in packs for row in pack.tolist()]
    return [{"data": row[start : start + lanes]} for row in rows for start in range(0, len(row), lanes)]


class Reader:
    """Reads full packs as the scheduler does: an element a cycle, a word fetched with its first byte."""

    def __init__(self, bench: Bench, dims: list[int], pause: Stall):
        self.bench, self.dims, self.pause = bench, dims, pause
        self.element = 0
        self.seen: list[list[list[int]]] = []
        """Elements of each pack released, [element][lane]."""
        self.full: list[int] = []
        """Cycles in which each pack was full first."""
        self.released: list[int] = []
        self._now: list[list[int]] = []
        self._reads = self._releases = False
        self._due = (False, False)

    def inputs(self) -> dict[str, Any]:
        """Return what to drive in this cycle."""
        self._reads, self._releases = False, False
        full = self.bench.get("full")
        if full and len(self.full) == len(self.released):
            self.full.append(self.bench.cycle)
        # Once begun, a pack is read without a gap.
        if not full or (self.element == 0 and self.pause(self.bench.cycle)):
            return {}
        word, byte = divmod(self.element, CONFIG.lanes)
        self._reads = True
        self.element += 1
        inputs = {"byte": byte}
        inputs |= {"fetch": 1, "word": word} if byte == 0 else {}
        if self.element == self.dims[len(self.released)]:
            self._releases, self.element = True, 0
            self.released.append(self.bench.cycle)
            inputs["release"] = 1
        return inputs

    async def tick(self) -> None:
        """Look at what the cycle before asked for, with all of this cycle's inputs in place, and end the cycle."""
        read, released = self._due
        if read:
            self._now.append(self.bench.get("elements"))
        if released:
            self.seen.append(self._now)
            self._now = []
        self._due = (self._reads, self._releases)
        await self.bench.tick()


@dataclass(frozen=True)
class Judged:
    """A key's verdict: of which job, whether its values are wanted, and whether it is the job's last key."""

    ctx: int
    keep: bool
    last: bool


def random_verdicts(rng: np.random.Generator, jobs: int) -> list[Judged]:
    """Return the verdicts of jobs that alternate between the contexts; half of them have only a key or two."""
    verdicts = []
    for n in range(jobs):
        keys = int(rng.integers(1, 3 if rng.random() < 0.5 else 14))
        verdicts += [Judged(n % 2, bool(rng.random() < 0.5), key == keys - 1) for key in range(keys)]
    return verdicts


def closings_of(verdicts: list[Judged]) -> list[int | None]:
    """Return, for each verdict, the keys of the pack that it closes; None if it closes none."""
    closings: list[int | None] = []
    held = 0
    for verdict in verdicts:
        held += verdict.keep
        closes = held == CONFIG.lanes or verdict.last
        closings.append(held if closes else None)
        held = 0 if closes else held
    return closings


@pytest.mark.parametrize(
    ("offer", "pause"),
    [(flowing, flowing), (at_random(1), flowing), (flowing, at_random(2, 0.95)), (at_random(3), at_random(4, 0.9))],
    ids=["flowing", "slow values", "slow array", "both"],
)
@pytest.mark.parametrize("pace", [0.3, 1.0])
@pytest.mark.parametrize("ports", [("v", "v"), ("v", "captured"), ("captured", "captured")], ids=", ".join)
def test_packs_of_two_contexts(ports: tuple[str, str], offer: Stall, pause: Stall, pace: float):
    """Full, partial and empty packs; each value comes as soon after its key's verdict as v_req lets it, or later."""
    rng = np.random.default_rng(7)
    dims = [5, 16]
    verdicts = random_verdicts(rng, 40)
    closings = closings_of(verdicts)
    closed = [(verdict.ctx, count) for verdict, count in zip(verdicts, closings, strict=True) if count]
    packs = [packs_of(rng, [count], dims[ctx])[0] for ctx, count in closed]

    async def process(bench: Bench) -> None:
        shared = [int(port == "captured") for port in ports]
        bench.set({"contexts": [context(CONFIG, value_dim=dims[ctx], shared=shared[ctx]) for ctx in (0, 1)]})
        sent = {
            port: [pack for pack, (ctx, _) in zip(packs, closed, strict=True) if ports[ctx] == port] for port in ports
        }
        sources = {port: Source(bench, port, words_of(sent[port]), offer) for port in ports}
        reader = Reader(bench, [dims[ctx] for ctx, _ in closed], pause)
        requested: list[tuple[str, int, int]] = []
        judged = ahead = 0
        while len(reader.seen) < len(packs):
            inputs = reader.inputs()
            if judged < len(verdicts) and ahead - len(reader.released) < 6 and rng.random() < pace:
                verdict, count = verdicts[judged], closings[judged]
                if verdict.keep:
                    port = ports[verdict.ctx]
                    requested.append((port, bench.cycle + REQUEST_LATENCY, CONFIG.value_beats(dims[verdict.ctx])))
                if count is not None:
                    inputs |= {"expect": 1, "expect_count": count, "expect_last": int(verdict.last)}
                    ahead += count != 0
                judged += 1
            bench.pulse(inputs)
            for name, source in sources.items():
                source.limit = sum(beats for port, cycle, beats in requested if port == name and cycle <= bench.cycle)
                source.step()
            await reader.tick()
        for elements, pack, (ctx, count) in zip(reader.seen, packs, closed, strict=True):
            assert [element[:count] for element in elements] == pack.T[: dims[ctx]].tolist()

    simulate(ValueLanes(CONFIG), process)
    assert closings.count(0) > 5
    assert any(verdict.last and count == CONFIG.lanes for verdict, count in zip(verdicts, closings, strict=True))


def run(counts: list[int], expect: list[int], read_from: int = 0, cycles: int = 80) -> tuple[Source, Reader]:
    """Send packs of `counts` rows of two beats without stalls, closed in cycles `expect`; read from a cycle on."""
    packs = packs_of(np.random.default_rng(0), counts, 8)
    answer: list[Any] = []

    async def process(bench: Bench) -> None:
        bench.set({"contexts": [context(CONFIG, value_dim=8)] * 2})
        source = Source(bench, "v", words_of(packs))
        reader = Reader(bench, [8] * len(counts), lambda cycle: cycle < read_from)
        while bench.cycle < cycles:
            inputs = reader.inputs()
            if bench.cycle in expect:
                count = counts[expect.index(bench.cycle)]
                inputs |= {"expect": 1, "expect_count": count, "expect_last": 1}
            bench.pulse(inputs)
            source.step()
            await reader.tick()
        answer.extend([source, reader])

    simulate(ValueLanes(CONFIG), process)
    source, reader = answer
    assert reader.seen == [pack.T.tolist() for pack in packs]
    return source, reader


def test_a_beat_every_cycle_less_one_a_pack():
    """While the array keeps up, and the packs are known to close."""
    source, reader = run([4, 4, 4, 4], [0, 1, 2, 3])
    expected = [pack * 9 + beat for pack in range(4) for beat in range(8)]
    assert source.taken == expected
    assert reader.full == [expected[7 + 8 * pack] + FULL_AFTER_LAST_BEAT for pack in range(4)]


def test_values_may_come_before_their_pack_closes():
    """But those of the next pack only then."""
    source, reader = run([4, 4], [20, 40])
    assert source.taken == [*range(8), *range(20 + FULL_AFTER_CLOSING, 20 + FULL_AFTER_CLOSING + 8)]
    assert reader.full == [20 + FULL_AFTER_CLOSING, 40 + FULL_AFTER_CLOSING]


def test_two_packs_are_held_while_the_array_reads_none():
    """Not a beat of the third is taken until the first is released."""
    source, reader = run([4, 4, 4], [0, 1, 2], read_from=40)
    assert source.taken[:16] == [*range(8), *range(9, 17)]
    assert reader.released[0] == 40 + 7
    assert source.taken[16] == 48


def test_a_released_pack_is_read_to_its_end_while_the_next_one_overwrites_it():
    """The bytes of the last word come from the lane's register."""
    source, reader = run([4, 4, 4], [0, 1, 2], read_from=40)
    assert source.taken[16] == reader.released[0] + 1
