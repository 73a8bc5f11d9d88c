"""Packs: which keys they hold and with which maxima, the ring of scores, the queue, and when packs appear."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from job_pieces import JobPieces, padded, random_pieces, verdict
from rtl_bench import Bench, simulate
from stream_rules import Sink, Stall, at_random, flowing, until

from golden import formats
from golden.config import CoreConfig
from rtl.pack_buffer import PackBuffer, pack_queue_depth

CONFIG = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=3)
PACK_LATENCY = 2
NONE = formats.NO_MAXIMUM


def expected_pack(pieces: JobPieces, ctx: int, n: int) -> dict[str, Any]:
    pack = pieces.packs[n]
    return {
        "ctx": ctx,
        "count": len(pack.keys),
        "last": int(pack.last),
        "maxima": padded(pack.maxima, CONFIG, NONE),
        "deltas": padded(pack.deltas, CONFIG),
    }


def start_pulses(pieces: JobPieces, ctx: int) -> deque[dict[str, Any]]:
    """Return the inputs, cycle by cycle, that prepare a context for a job."""
    pulses = deque([{"clear": 1 << ctx}])
    if pieces.job.state is not None:
        for row, maximum in enumerate(pieces.start.maximum):
            pulses.append({"state_row": {"enable": 1, "ctx": ctx, "row": row, "maximum": int(maximum)}})
    return pulses


@pytest.mark.parametrize(
    ("stall", "pops"),
    [(flowing, flowing), (at_random(1), at_random(2)), (at_random(3, 0.9), flowing), (until(400), at_random(4, 0.2))],
    ids=["flowing", "half", "slow queue", "late queue"],
)
def test_packs_of_random_jobs(stall: Stall, pops: Stall):
    """Jobs alternate between the contexts; keys come while there is a slot for them, as the scheduler sends them."""
    jobs = random_pieces(11, CONFIG, 50)
    packs = [expected_pack(pieces, n % 2, p) for n, pieces in enumerate(jobs) for p in range(len(pieces.packs))]
    kept = [(pieces, key) for pieces in jobs for key in range(pieces.job.keys) if pieces.result.survivors[key]]
    closings: list[int] = []

    async def process(bench: Bench) -> None:
        sink = Sink(bench, "packs", stall)
        job = key = used = held = to_pop = popped = finished = 0
        preparing, prepared = start_pulses(jobs[0], 0), 0
        fresh = False
        while len(sink.words) < len(packs) or popped < len(kept) or fresh:
            inputs: dict[str, Any] = {}
            if fresh:
                pieces, survivor = kept[popped - 1]
                slot = bench.get("slot")
                column = verdict(pieces, 0, survivor, CONFIG)
                assert (slot["allowed"], slot["logits"]) == (column["allowed"], column["logits"])
            judged = None
            if job < prepared and used < CONFIG.score_slots:
                judged = jobs[job], job % 2, key
                inputs |= {"valid": 1, "verdict": verdict(*judged, CONFIG)}
            # The context of the next job is prepared beside the keys of this one.
            if preparing:
                inputs |= preparing.popleft()
                prepared += not preparing
            elif prepared <= job + 1 and prepared < len(jobs) and finished >= prepared - 1:
                preparing = start_pulses(jobs[prepared], prepared % 2)
            if to_pop and not pops(bench.cycle):
                inputs["pop"] = 1
            bench.pulse(inputs)

            closed, dropped = False, False
            if judged:
                pieces = jobs[job]
                keep = pieces.result.survivors[key]
                held, used, dropped = held + keep, used + keep, not keep
                closed = held == CONFIG.lanes or key == pieces.job.keys - 1
                assert bench.get("closed_count") == held
                key += 1
                if closed:
                    closings.append(bench.cycle)
                    held = 0
                if key == pieces.job.keys:
                    job, key = job + 1, 0
            assert (bench.get("closed"), bench.get("dropped")) == (closed, dropped)
            fresh = "pop" in inputs
            if fresh:
                popped, to_pop, used = popped + 1, to_pop - 1, used - 1
            if sink.step():
                to_pop += sink.words[-1]["count"]
                finished += sink.words[-1]["last"]
            await bench.tick()
            if closed:
                rows = slice(0, pieces.job.rows)
                assert bench.get("maxima")[judged[1]][rows] == pieces.maxima[:, judged[2]].tolist()
        assert sink.words == packs
        earliest = [closing + PACK_LATENCY for closing in closings]
        previous = [-1, *sink.taken]
        assert sink.offered == [max(pair) for pair in zip(earliest, (t + 1 for t in previous), strict=False)]
        if stall is flowing:
            assert sink.offered == earliest

    simulate(PackBuffer(CONFIG), process)
    assert any(not pack["count"] for pack in packs)
    assert max(max(pack["deltas"]) for pack in packs) == formats.DELTA_MAX


def key_verdict(keep: int, last: int = 0, ctx: int = 0, maximum: int = 0, logit: int = 0) -> dict[str, Any]:
    column = {"ctx": ctx, "last": last}
    return {
        "valid": 1,
        "verdict": {
            "column": column,
            "keep": keep,
            "allowed": 7,
            "logits": [logit, logit + 1, logit + 2],
            "maxima": [maximum] * 3,
        },
    }


def packs_of(verdicts: list[dict[str, Any]], before: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
    """Return the packs that close, once all verdicts have been given, and the maxima after them."""
    answer = []

    async def process(bench: Bench) -> None:
        sink = Sink(bench, "packs", until(len(before) + len(verdicts) + PACK_LATENCY))
        for inputs in [*before, *verdicts]:
            bench.pulse(inputs)
            sink.step()
            await bench.tick()
        bench.pulse({})
        answer.append(bench.get("maxima"))
        for _ in range(PACK_LATENCY + pack_queue_depth(CONFIG) + 1):
            sink.step()
            await bench.tick()
        answer.append(sink.words)

    simulate(PackBuffer(CONFIG), process)
    maxima, packs = answer
    return packs, maxima


def test_the_queue_holds_every_pack_that_the_slots_allow():
    """All slots full, and an empty last pack of each context: nothing is lost while no pack is taken."""
    assert pack_queue_depth(CONFIG) == CONFIG.score_slots // CONFIG.lanes + 2
    half = [key_verdict(1) for _ in range(CONFIG.score_slots // 2)]
    verdicts = [*half, key_verdict(0, last=1), *half, key_verdict(0, last=1)]
    packs, _ = packs_of(verdicts, [{"clear": 3}])
    full = [CONFIG.lanes] * (CONFIG.score_slots // CONFIG.lanes // 2)
    assert [pack["count"] for pack in packs] == [*full, 0, *full, 0]


def test_a_pack_of_exactly_w_keys_that_ends_its_job_is_one_pack():
    packs, _ = packs_of([key_verdict(1, last=int(n == 3)) for n in range(4)] + [key_verdict(1, last=1)], [{"clear": 3}])
    assert [(pack["count"], pack["last"]) for pack in packs] == [(4, 1), (1, 1)]


@pytest.mark.parametrize(
    ("start", "maximum", "delta"),
    [(None, 512, 63), (None, -512, 63), (0, 62, 62), (0, 63, 63), (0, 64, 63), (-512, 512, 63), (5, 5, 0), (5, 6, 1)],
)
def test_the_growth_of_a_maximum_is_clamped(start: int | None, maximum: int, delta: int):
    """From nothing at all, or from the maximum of a state."""
    before: list[dict[str, Any]] = [{"clear": 3}]
    if start is not None:
        state = {"enable": 1, "ctx": 1, "maximum": start}
        before += [{"state_row": state | {"row": row}} for row in range(3)]
    # A key of the other context closes a pack in between and must leave these maxima alone.
    verdicts = [key_verdict(1, 1, 0, 99), key_verdict(1, 0, 1, maximum), key_verdict(0, 1, 1, maximum)]
    packs, maxima = packs_of(verdicts, before)
    assert [pack["deltas"] for pack in packs] == [[63] * 3, [delta] * 3]
    assert maxima == [[99] * 3, [maximum] * 3]


def test_a_state_sets_the_maximum_of_its_row_and_context_alone():
    before = [
        {"clear": 3},
        {"state_row": {"enable": 1, "ctx": 0, "row": 1, "maximum": -17}},
        {"state_row": {"enable": 0, "ctx": 0, "row": 0, "maximum": 4}},
        {"state_row": {"enable": 1, "ctx": 1, "row": 2, "maximum": 30}},
    ]
    assert packs_of([], before) == ([], [[NONE, -17, NONE], [NONE, NONE, 30]])
    assert packs_of([], [*before, {"clear": 2}]) == ([], [[NONE, -17, NONE], [NONE] * 3])
