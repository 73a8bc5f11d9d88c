"""Records of jobs: every count against golden, cycles by use, statuses, and when a record is offered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from job_pieces import JobPieces, bits, padded, random_pieces, verdict
from rtl_bench import Bench, context, job_context, simulate
from stream_rules import Sink, Stall, at_random, flowing, until

from golden.config import CoreConfig
from rtl.interfaces import ArrayUse, Status
from rtl.statistics import Statistics
from rtl.target_control import TAU_LATENCY

CONFIG = CoreConfig(rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=3)
RECORD_LATENCY = 2


def expected_record(pieces: JobPieces) -> dict[str, Any]:
    """Return all of a job's record but the cycles."""
    result = pieces.result
    counts = {
        "keys": pieces.job.keys,
        "survivors": int(result.survivors.sum()),
        "packs": result.packs,
        "saturated": result.saturated,
        "dropped": padded(result.dropped, CONFIG),
    }
    tau = pieces.job.threshold.tau
    return {"tag": pieces.job.tag, "status": 0, "tau": tau, "counts": counts, "empty": bits(result.empty)}


@pytest.mark.parametrize(
    "stall", [flowing, at_random(1), at_random(2, 0.95), until(500)], ids=["flowing", "half", "slow", "late"]
)
def test_records_of_random_jobs(stall: Stall):
    """Keys of a job are counted while the record of the one before is offered; no cycle is lost or counted twice."""
    jobs = random_pieces(41, CONFIG, 40, max_keys=30)
    rng = np.random.default_rng(0)
    finished: list[int] = []
    cycle_uses: list[ArrayUse] = []
    freed: list[tuple[int, int]] = []
    sinks = []

    async def process(bench: Bench) -> None:
        sink = Sink(bench, "stats", stall)
        sinks.append(sink)
        contexts, totals, taus = [{}, {}], [[], []], [0, 0]
        job = key = held = ended = 0
        finishing: list[int] = []
        started = -1
        while len(sink.words) < len(jobs):
            inputs: dict[str, Any] = {"use": ArrayUse(int(rng.integers(len(ArrayUse))))}
            cycle_uses.append(inputs["use"])
            if job < len(jobs) and started < job and len(sink.words) >= job - 1:
                # The context's record has been taken: the next job moves in.
                started, ctx = job, job % 2
                contexts[ctx] = job_context(jobs[job].job, CONFIG)
                totals[ctx] = padded(jobs[job].result.state.total, CONFIG)
                # The tau of a job stays until `TAU_LATENCY` cycles after its last key; its record may come much later.
                taus[ctx] = jobs[job].job.threshold.tau
                if bench.cycle >= ended + TAU_LATENCY:
                    taus[1 - ctx] = int(rng.integers(1 << 16))
                bench.set({"contexts": list(contexts), "totals": list(totals), "taus": list(taus)})
                inputs["clear"] = 1 << ctx
            elif job == started and rng.random() < 0.8:
                pieces = jobs[job]
                kept, last = bool(pieces.result.survivors[key]), key == pieces.job.keys - 1
                held += kept
                closes = held == CONFIG.lanes or last
                inputs |= {"valid": 1, "verdict": verdict(pieces, job % 2, key, CONFIG)}
                inputs["closing"] = int(closes and held > 0)
                held = 0 if closes else held
                key += 1
                if last:
                    ended = bench.cycle
                    finishing.append(bench.cycle + 1 + int(rng.integers(3)))
                    job, key = job + 1, 0
            elif rng.random() < 0.5:
                # What is not valid must not count, in either context.
                unseen = verdict(jobs[0], int(rng.integers(2)), 0, CONFIG)
                inputs["verdict"] = unseen | {"keep": int(rng.integers(2)), "allowed": 7, "saturated": 7}
            if finishing and finishing[0] <= bench.cycle:
                inputs["finished"] = 1 << len(finished) % 2
                finished.append(bench.cycle)
                finishing.pop(0)
            bench.pulse(inputs)
            taken = sink.step()
            freed.append((int(taken), bench.get("context_free")))
            await bench.tick()

    simulate(Statistics(CONFIG), process)
    (sink,) = sinks
    taken_before = [-1, *sink.taken]
    assert sink.offered == [max(pair) + RECORD_LATENCY for pair in zip(finished, taken_before, strict=False)]
    # A record holds the uses up to two cycles before it is offered, counted from the last cycle of the reset; the rest
    # is in the next.
    uses = [ArrayUse.WAIT_QUERY, *cycle_uses]
    start = 0
    for record, offered, pieces in zip(sink.words, sink.offered, jobs, strict=True):
        end = offered - RECORD_LATENCY + 1
        counted = Counter(uses[start:end])
        start = end
        assert record.pop("cycles") == [counted[use] for use in ArrayUse]
        assert record == expected_record(pieces)
    frees = [free for taken, free in freed if taken]
    assert frees == [1 << n % 2 for n in range(len(jobs))]
    assert not any(free for taken, free in freed if not taken)
    assert any(pieces.result.saturated for pieces in jobs)
    assert any(pieces.result.empty.any() for pieces in jobs)


def record_after(pulses: list[dict[str, Any]], status: Status = Status.OK) -> dict[str, Any]:
    """Return the record of a job of two rows, tag 9, that these inputs make."""
    records: list[Any] = []

    async def process(bench: Bench) -> None:
        contexts = [context(CONFIG, rows=2, tag=9, status=int(status)), context(CONFIG, tag=5)]
        bench.set({"contexts": contexts, "totals": [[0, 4095, 0], [1, 1, 1]], "taus": [300, 400]})
        sink = Sink(bench, "stats")
        for inputs in [{"clear": 1}, *pulses, {}, {"finished": 1}, *[{}] * RECORD_LATENCY]:
            bench.pulse(inputs)
            sink.step()
            await bench.tick()
        records.extend(sink.words)

    simulate(Statistics(CONFIG), process)
    (record,) = records
    return record


VOID = {"column": {"first": 1, "last": 1, "void": 1}}


@pytest.mark.parametrize(
    ("pulse", "status"),
    [
        ({}, Status.OK),
        ({"key_early": 1}, Status.KEY_EARLY),
        ({"key_late": 1}, Status.KEY_LATE),
        ({"key_timeout": 1}, Status.KEY_TIMEOUT),
        ({"key_early": 2}, Status.OK),
        ({"key_late": 2}, Status.OK),
        ({"key_timeout": 2}, Status.OK),
    ],
    ids=str,
)
def test_the_status_tells_how_the_keys_ended(pulse: dict[str, int], status: Status):
    record = record_after([pulse])
    assert (record["tag"], record["status"]) == (9, status)
    # Row 0 saw nothing; row 2, which is not in use, does not count.
    assert record["empty"] == 0b001


def test_the_status_of_the_job_before_is_forgotten():
    assert record_after([{"key_late": 1}, {"clear": 1}])["status"] == Status.OK


def test_a_rejected_job_reports_its_reason_and_no_keys():
    record = record_after([{"valid": 1, "verdict": VOID}, {"key_early": 1}], Status.QUERY_LENGTH)
    assert (record["tag"], record["status"], record["empty"]) == (9, Status.QUERY_LENGTH, 0)
    assert record["tau"] == 0
    assert record["counts"] == {"keys": 0, "survivors": 0, "packs": 0, "saturated": 0, "dropped": [0] * 3}


def test_a_void_column_is_no_key():
    keys = [{"valid": 1, "verdict": {"keep": 1, "allowed": 3}}, {"valid": 1, "verdict": VOID, "closing": 1}]
    counts = record_after(keys)["counts"]
    assert (counts["keys"], counts["survivors"], counts["packs"]) == (1, 1, 1)


@pytest.mark.parametrize("control", [0, 1])
def test_tau_is_that_of_the_first_key(control: int, monkeypatch):
    """Without target control it can't change, and is not kept a second time."""
    monkeypatch.setattr("test_rtl_statistics.CONFIG", replace(CONFIG, target_control=control))
    first = {"valid": 1, "verdict": {"keep": 1, "allowed": 3, "column": {"first": 1}}}
    later = {"valid": 1, "verdict": {"keep": 1, "allowed": 3}}
    other = {"valid": 1, "verdict": {"keep": 1, "allowed": 3, "column": {"first": 1, "ctx": 1}}}
    changed = {"taus": [500, 600]} if control else {}
    assert record_after([first, later, changed | other, changed | later])["tau"] == 300


def test_every_row_saturated_in_every_key():
    """The largest count there can be: all rows of as many keys as a context can hold."""
    key = {"valid": 1, "verdict": {"keep": 0, "allowed": 7, "saturated": 7}}
    counts = record_after([key] * CONFIG.max_keys)["counts"]
    assert counts["saturated"] == CONFIG.rows * CONFIG.max_keys
    assert counts["dropped"] == [CONFIG.max_keys] * 3
    assert counts["keys"] == CONFIG.max_keys
