"""Exponentials of packs and the rows' sums: against golden, and the cycles that they take."""

from __future__ import annotations

from typing import Any

import pytest
from job_pieces import random_pieces
from rtl_bench import Bench, idle, simulate, trace
from stream_rules import Source, Stall, at_random, flowing

from golden import formats
from golden.config import CoreConfig
from rtl.exponential import EXPONENTIAL_STAGES, Exp2, Exponentials

CONFIG = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=3)
PACK_LATENCY = CONFIG.lanes + EXPONENTIAL_STAGES
UNIT = 1 << formats.FRACTION_BITS
LARGEST_TOTAL = (1 << CONFIG.sum_bits) - 1


def test_every_distance():
    """Each step to where probabilities end, and the powers of two beyond; the table's entry appears a cycle later."""
    distances = [*range(16 * UNIT + 1), *range(17 * UNIT, (1 << 16) + 1, UNIT - 1), 1 << 16, (1 << 17) - 1]
    seen = trace(Exp2(), [{"enable": 1, "distance": d} for d in distances] + idle(1), ("probability",))
    assert [p for (p,) in seen[1:]] == [formats.probability(d) for d in distances]
    assert formats.probability(0) == formats.PROBABILITY_ONE - 1
    assert (formats.probability(13 * UNIT - 1), formats.probability(13 * UNIT)) == (1, 0)


def test_a_row_that_takes_no_part_has_probability_zero():
    stimulus = [{"enable": n % 2, "distance": 0} for n in range(4)]
    assert [p for (p,) in trace(Exp2(), [*stimulus, {}], ("probability",))] == [0, 0, 4095, 0, 4095]


class Exponential:
    """Feeds packs and their scores to the component, and takes the probabilities as the scheduler would."""

    def __init__(
        self, bench: Bench, packs: list[dict[str, Any]], slots: list[dict[str, Any]], offer: Stall, take: Stall
    ):
        self.bench = bench
        self.slots = slots
        self.source = Source(bench, "packs", packs, offer)
        self.take = take
        self.popped = 0
        self.ready: list[int] = []
        """Cycles in which each pack was ready first."""
        self.taken: list[int] = []
        """Cycles in which it was taken."""
        self.pops: list[int] = []
        self.probabilities: list[list[list[int]]] = []
        self._pulses: dict[str, Any] = {}

    async def cycle(self, **pulses: Any) -> None:
        """Run one cycle."""
        bench = self.bench
        waiting = len(self.ready) > len(self.taken)
        ready = bool(bench.get("ready_pack"))
        assert ready or not waiting, "a pack was withdrawn"
        if ready and not waiting:
            self.ready.append(bench.cycle)
        takes = ready and not self.take(bench.cycle)
        if ready:
            pack = bench.get("pack")
            assert pack == self.source.words[len(self.taken)]
        # The array's register takes the probabilities at the end of the cycle after the take.
        if self.taken and self.taken[-1] == bench.cycle - 1:
            self.probabilities.append(bench.get("probabilities"))
        inputs = dict(pulses)
        if takes:
            inputs["take"] = 1
            self.taken.append(bench.cycle)
        if self.pops and self.pops[-1] == bench.cycle - 1:
            inputs["slot"] = self.slots[self.popped - 1]
        bench.pulse(inputs)
        self.source.step()
        if bench.get("pop"):
            self.pops.append(bench.cycle)
            self.popped += 1
        await bench.tick()


@pytest.mark.parametrize(
    ("offer", "take"),
    [(flowing, flowing), (at_random(1), flowing), (flowing, at_random(2, 0.8)), (at_random(3), at_random(4))],
    ids=["flowing", "slow packs", "slow array", "both"],
)
def test_packs_of_random_jobs(offer: Stall, take: Stall):
    """Probabilities, the order of pops, sums after every job, and the exact cycles of every pack."""
    jobs = random_pieces(21, CONFIG, 30, max_keys=40)
    packs, slots, expected = [], [], []
    for n, pieces in enumerate(jobs):
        rows = pieces.job.rows
        for pack in pieces.packs:
            maxima = pack.maxima + [0] * (CONFIG.rows - rows)
            deltas = pack.deltas + [0] * (CONFIG.rows - rows)
            packs.append(
                {"ctx": n % 2, "count": len(pack.keys), "last": int(pack.last), "maxima": maxima, "deltas": deltas}
            )
            for key in pack.keys:
                allowed = sum(1 << i for i in range(rows) if pieces.allowed[i, key])
                logits = [*pieces.logits[:, key].tolist(), *[0] * (CONFIG.rows - rows)]
                slots.append({"allowed": allowed, "logits": logits})
            expected.append((pieces, pack))

    async def process(bench: Bench) -> None:
        unit = Exponential(bench, packs, slots, offer, take)
        done = 0
        for n, pieces in enumerate(jobs):
            await unit.cycle(clear=1 << n % 2)
            start = enumerate(map(int, pieces.start.total)) if pieces.job.state is not None else ()
            for row, total in start:
                await unit.cycle(state_row={"enable": 1, "ctx": n % 2, "row": row, "total": total})
            done += len(pieces.packs)
            unit.source.limit = done
            while len(unit.taken) < done:
                await unit.cycle()
            await unit.cycle()
            assert bench.get("totals")[n % 2] == [
                *pieces.result.state.total.tolist(),
                *[0] * (CONFIG.rows - pieces.job.rows),
            ]

        assert unit.popped == len(slots)
        first_pop = 0
        for (pieces, pack), probabilities, accepted, ready in zip(
            expected, unit.probabilities, unit.source.taken, unit.ready, strict=True
        ):
            count = len(pack.keys)
            assert ready == accepted + (PACK_LATENCY if count else 1)
            assert unit.pops[first_pop : first_pop + count] == [accepted + 1 + n for n in range(count)]
            first_pop += count
            if count:
                weights = pieces.probabilities(pack)
                for i in range(CONFIG.rows):
                    seen = weights[i].tolist() if i < pieces.job.rows else [0] * count
                    assert probabilities[i] == seen + [0] * (CONFIG.lanes - count)
        # A pack is taken in the cycle after the array took the one before, if it is there.
        for before, accepted, offered in zip(unit.taken, unit.source.taken[1:], unit.source.offered[1:], strict=False):
            assert accepted == max(before + 1, offered)

    simulate(Exponentials(CONFIG), process)
    assert any(pieces.job.state is not None for pieces in jobs)
    assert any(not pack["count"] for pack in packs)


def test_every_delta_shifts_the_largest_sum():
    """Each pack of one key that weighs nothing rescales a sum of all ones in every row of a context."""
    deltas = list(range(formats.DELTA_MAX + 1))
    packs = [{"ctx": 1, "count": 1, "last": 1, "maxima": [0] * 3, "deltas": [delta] * 3} for delta in deltas]
    slots = [{"allowed": 7, "logits": [-20 * UNIT] * 3}] * len(packs)

    async def process(bench: Bench) -> None:
        unit = Exponential(bench, packs, slots, flowing, flowing)
        unit.source.limit = 0
        for n, delta in enumerate(deltas):
            for row in range(3):
                await unit.cycle(state_row={"enable": 1, "ctx": 1, "row": row, "total": LARGEST_TOTAL})
            unit.source.limit = n + 1
            while len(unit.taken) <= n:
                await unit.cycle()
            await unit.cycle()
            assert bench.get("totals") == [[0] * 3, [LARGEST_TOTAL >> delta] * 3]

    simulate(Exponentials(CONFIG), process)


def test_back_to_back_packs_of_both_contexts_add_to_their_own_sums():
    """The last probability of a pack is added before the next pack rescales, also when nothing ever waits."""
    packs = [
        {"ctx": n % 2, "count": CONFIG.lanes, "last": 0, "maxima": [0] * 3, "deltas": [n % 3] * 3} for n in range(8)
    ]
    slots = [{"allowed": 7, "logits": [-(slot % 5) * UNIT] * 3} for slot in range(8 * CONFIG.lanes)]
    totals = [0, 0]
    for n in range(8):
        weights = [formats.probability(slot % 5 * UNIT) for slot in range(n * CONFIG.lanes, (n + 1) * CONFIG.lanes)]
        totals[n % 2] = (totals[n % 2] >> n % 3) + sum(weights)

    async def process(bench: Bench) -> None:
        unit = Exponential(bench, packs, slots, flowing, flowing)
        while len(unit.taken) < len(packs):
            await unit.cycle()
        await unit.cycle()
        assert bench.get("totals") == [[totals[0]] * 3, [totals[1]] * 3]
        periods = {after - before for before, after in zip(unit.taken, unit.taken[1:], strict=False)}
        assert periods == {PACK_LATENCY + 1}

    simulate(Exponentials(CONFIG), process)
