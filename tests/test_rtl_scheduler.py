"""What the array does in each cycle: its two modes, what holds either back, and the ends of jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, Ports, context, simulate
from stream_rules import Source, Stall, at_random, flowing, until

from golden.config import CoreConfig
from rtl.error_bound import bound_latency
from rtl.interfaces import ArrayUse, Status
from rtl.scheduler import ENDS_PENDING_MAX, TAU_SPACING, Scheduler

CONFIG = CoreConfig(rows=4, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=64, rows_per_scaler=1)
KEY_FIELDS = ("key_ctx", "key_word", "key_first", "key_last")
ENDS = ("key_early", "key_late", "key_timeout")
OUTPUTS = (*KEY_FIELDS, *ENDS, "key_beat", "column", "pack_take", "value_beat", "values_release", "use")
Inputs = Callable[[int, list[dict[str, Any]]], Ports]


def key_words(keys: int, beats: int, first: int = 0, last_beat: int | None = None) -> list[dict[str, Any]]:
    """Return the beats of a job's keys; `last` is on the last one, or where it is said to be."""
    words = [{"data": [key, beat, 0, 0], "index": first + 2 * key} for key in range(keys) for beat in range(beats)]
    end = len(words) - 1 if last_beat is None else last_beat
    return [word | {"last": int(n == end)} for n, word in enumerate(words)]


def run(
    contexts: list[dict[str, int]],
    words: list[dict[str, Any]],
    cycles: int,
    inputs: Inputs = lambda cycle, log: {},
    stall: Stall = flowing,
    config: CoreConfig = CONFIG,
) -> list[dict[str, Any]]:
    """Run some cycles and return what was seen in each; `taken` tells whether a beat of k was.

    `inputs` says what else to drive in a cycle, given what was seen so far.
    """
    log: list[dict[str, Any]] = []

    async def process(bench: Bench) -> None:
        bench.set({"contexts": contexts})
        source = Source(bench, "k", words, stall)
        for cycle in range(cycles):
            bench.pulse(inputs(cycle, log))
            taken = source.step()
            log.append({name: bench.get(name) for name in OUTPUTS} | {"taken": taken})
            await bench.tick()

    simulate(Scheduler(config), process)
    return log


def key_cycles(log: list[dict[str, Any]]) -> list[int]:
    return [cycle for cycle, seen in enumerate(log) if seen["key_beat"]]


def columns(log: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """Return the columns as (context, index, first, last, void)."""
    return [tuple(seen["column"].values()) for seen in log if seen["key_last"]]


def uses(log: list[dict[str, Any]]) -> list[ArrayUse]:
    return [ArrayUse(seen["use"]) for seen in log]


def returning(cycle: int, log: list[dict[str, Any]]) -> Ports:
    """Load both contexts at first; return each slot and each end as soon as its column has gone."""
    returned = bool(log) and log[-1]["key_last"]
    end = returned and log[-1]["column"]["last"]
    return {"loaded": 3 if cycle == 0 else 0, "slot_returned": int(returned), "end_taken": int(end)}


@pytest.mark.parametrize("beats", [1, 3, 4])
def test_a_beat_of_k_every_cycle_across_jobs(beats: int):
    """The first key of a job follows the last of the one before; both contexts are used in turn."""
    contexts = [context(CONFIG, 4 * beats, 1, 4, keys) for keys in (5, 3)]
    words = key_words(5, beats) + key_words(3, beats, first=1)
    log = run(contexts, words, 8 * beats + 4, returning)
    assert key_cycles(log) == list(range(1, 8 * beats + 1))
    seen = [tuple(entry[name] for name in KEY_FIELDS) for entry in log if entry["key_beat"]]
    assert seen == [
        (ctx, beat, int(beat == 0), int(beat == beats - 1))
        for ctx, keys in ((0, 5), (1, 3))
        for _ in range(keys)
        for beat in range(beats)
    ]
    expected = [(0, 2 * key, int(key == 0), int(key == 4), 0) for key in range(5)]
    expected += [(1, 1 + 2 * key, int(key == 0), int(key == 2), 0) for key in range(3)]
    assert columns(log) == expected
    assert all(entry[name] == 0 for entry in log for name in ENDS)


def test_a_context_is_used_again_once_it_is_loaded_again():
    contexts = [context(CONFIG, 4, 1, 4, 2)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"loaded": {0: 3, 10: 1, 15: 2}.get(cycle, 0)}

    log = run(contexts, key_words(2, 1) * 4, 20, inputs)
    assert key_cycles(log) == [1, 2, 3, 4, 11, 12, 16, 17]
    assert [ctx for ctx, *_ in columns(log)] == [0, 0, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("stall", [at_random(1), at_random(2, 0.9)])
def test_a_stalled_k_changes_the_cycles_and_nothing_else(stall: Stall):
    contexts = [context(CONFIG, 12, 1, 4, 6), context(CONFIG, 8, 1, 4, 4)]
    words = key_words(6, 3) + key_words(4, 2)
    log = run(contexts, words, 600, returning, stall)
    flow = run(contexts, words, 30, returning)
    assert columns(log) == columns(flow)
    assert len(key_cycles(log)) == len(words)
    assert set(uses(log[1:])) == {ArrayUse.QK, ArrayUse.WAIT_KEY, ArrayUse.WAIT_QUERY}


@pytest.mark.parametrize(("share", "beats"), [(4, 1), (4, 3), (2, 1), (2, 2), (4, 4)])
def test_columns_end_as_far_apart_as_a_shared_multiplier_needs(share: int, beats: int):
    config = CoreConfig(rows=4, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=64, rows_per_scaler=share)
    contexts = [context(config, 4 * beats, 1, 4, 4)] * 2
    log = run(contexts, key_words(4, beats) * 2, 60, returning, config=config)
    ends = [cycle for cycle, entry in enumerate(log) if entry["key_last"]]
    assert len(ends) == 8
    assert {after - before for before, after in pairwise(ends)} == {max(share, beats)}
    between = uses(log[1 : ends[-1] + 1])
    assert set(between) == ({ArrayUse.QK, ArrayUse.WAIT_SCORE} if share > beats else {ArrayUse.QK})


@pytest.mark.parametrize(("share", "beats"), [(2, 1), (5, 1), (5, 3), (3, 4)])
def test_keys_of_a_job_with_an_error_bound_are_as_far_apart_as_budgets_need(share: int, beats: int):
    """So is the first key of the job behind it; a job without a bound is not held back."""
    config = replace(CONFIG, rows_per_budget=share)
    contexts = [context(config, 4 * beats, 1, 4, 4, epsilon_shift=3), context(config, 4 * beats, 1, 4, 4)]
    log = run(contexts, key_words(4, beats) * 2, 60, returning, config=config)
    ends = [cycle for cycle, entry in enumerate(log) if entry["key_last"]]
    distances = [after - before for before, after in pairwise(ends)]
    assert distances == [max(share, beats)] * 4 + [beats] * 3
    between = uses(log[1 : ends[4] + 1])
    assert set(between) == ({ArrayUse.QK, ArrayUse.WAIT_SCORE} if share > beats else {ArrayUse.QK})


@pytest.mark.parametrize("last_beat", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("rejected", [False, True])
def test_a_column_without_a_key_keeps_that_distance_too(last_beat: int, rejected: bool):
    """The job behind one with an error bound is cut or rejected: nothing is taken in between, nor counted twice."""
    share, beats = 5, 3
    config = replace(CONFIG, rows_per_budget=share)
    bad = context(config, 4 * beats, 1, 4, 5, status=int(Status.KEYS if rejected else Status.OK))
    contexts = [context(config, 4, 1, 4, 1, epsilon_shift=1), bad]
    words = key_words(1, 1) + key_words(5, beats, last_beat=last_beat)[: last_beat + 1] + key_words(1, 1, first=9)

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"loaded": {0: 3, 4: 1}.get(cycle, 0)}

    log = run(contexts, words, 40, inputs, config=config)
    ends = [cycle for cycle, entry in enumerate(log) if entry["key_last"]]
    seen = columns(log)
    # A whole key waits at its last beat, a column without one in its place.
    whole = 0 if rejected else (last_beat + 1) // beats
    assert len(seen) == 1 + whole + (rejected or (last_beat + 1) % beats > 0) + 1
    assert ends[0] == 1
    assert ends[1] == max(1 + share, 2 + (last_beat if rejected or not whole else beats - 1))
    assert [ctx for ctx, *_ in seen] == [0, *[1] * (len(seen) - 2), 0]
    assert [void for *_, void in seen[1:-1]] == [0] * whole + [1] * (len(seen) - 2 - whole)
    assert [last for *_, last, _ in seen] == [1, *[0] * (len(seen) - 3), 1, 1]
    assert [first for _, _, first, *_ in seen] == [1, 1, *[0] * (len(seen) - 3), 1]
    assert sum(entry["key_early"] for entry in log) == (0 if rejected else 2)
    assert not any(entry["key_late"] or entry["key_timeout"] for entry in log)
    assert seen[-1][1] == 9
    waiting = uses(log)[ends[0] + 1 : ends[1]]
    assert ArrayUse.WAIT_QUERY not in waiting


@pytest.mark.parametrize("bound", [0, 7])
@pytest.mark.parametrize("beats", [1, 4, 12])
def test_a_job_that_goes_on_from_a_tau_waits_for_it_with_its_first_key(beats: int, bound: int):
    """Its other keys follow each other, and so do jobs that have their own tau."""
    config = replace(CONFIG, max_head_dim=48, rows_per_budget=4)
    shape = (4 * beats, 1, 4, 3)
    contexts = [context(config, *shape, epsilon_shift=bound), context(config, *shape, continue_tau=1)]
    spaced = max(beats, 4 if bound else 1)

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"loaded": {0: 3, 3 + 3 * spaced: 1}.get(cycle, 0)}

    log = run(contexts, key_words(3, beats) * 3, 140, inputs, config=config)
    ends = [cycle for cycle, entry in enumerate(log) if entry["key_last"]]
    distances = [after - before for before, after in pairwise(ends)]
    waited = max(beats, TAU_SPACING + (bound_latency(config) if bound else 0))
    assert distances == [spaced] * 2 + [waited] + [beats] * 3 + [spaced] * 2
    begun = [cycle for cycle, entry in enumerate(log) if entry["key_beat"] and entry["key_first"]]
    # Only the last beat of a key waits.
    assert begun[3] == (ends[2] + 1 if beats > 1 else ends[3])
    assert set(uses(log)[ends[2] + 1 : ends[3]]) <= {ArrayUse.QK, ArrayUse.WAIT_SCORE}


def test_a_key_needs_a_slot_and_a_row_begun_is_finished():
    """As many keys as slots, then one for each slot given back, in the cycle after, also two at a time."""
    slots, beats = CONFIG.score_slots, 2
    contexts = [context(CONFIG, 4 * beats, 1, 4, 60)] * 2
    full = 1 + slots * beats

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        returned = {full + 5: 1, full + 15: 2, full + 25: 3, full + 26: 1}.get(cycle, 0)
        return {"loaded": int(cycle == 0), "slot_returned": returned}

    log = run(contexts, key_words(60, beats), full + 50, inputs)
    expected = [*range(1, full)]
    for start, count in ((full + 6, 1), (full + 16, 1), (full + 26, 3)):
        expected += range(start, start + count * beats)
    assert key_cycles(log) == expected
    assert uses(log)[full : full + 5] == [ArrayUse.WAIT_SCORE] * 5


def test_a_key_waits_for_room_in_the_key_capture_and_a_row_begun_does_not():
    beats = 3
    contexts = [context(CONFIG, 4 * beats, 1, 4, 8)] * 2
    full = [*range(2, 9), *range(14, 20)]

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"loaded": int(cycle == 0), "capture_full": int(cycle in full)}

    log = run(contexts, key_words(8, beats), 24, inputs)
    assert key_cycles(log) == [1, 2, 3, *range(9, 15), *range(20, 24)]
    assert uses(log)[4:9] == [ArrayUse.WAIT_SCORE] * 5


def test_a_third_end_waits_until_one_has_left():
    contexts = [context(CONFIG, 4, 1, 4, 2)] * 2
    assert ENDS_PENDING_MAX == 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return {"loaded": {0: 3, 5: 3}.get(cycle, 0), "end_taken": int(cycle in (20, 30))}

    log = run(contexts, key_words(2, 1) * 4, 40, inputs)
    assert key_cycles(log) == [1, 2, 3, 4, 21, 22, 31, 32]
    assert uses(log)[6:20] == [ArrayUse.WAIT_SCORE] * 14


def pack(count: int, ctx: int = 0, last: int = 0) -> dict[str, Any]:
    return {"ctx": ctx, "count": count, "last": last}


def value_beats(log: list[dict[str, Any]]) -> dict[int, tuple[int, ...]]:
    """Return each beat of P V by its cycle, as (context, element, first, final, null, taken, released)."""
    names = ("ctx", "element", "first", "final", "null")
    return {
        cycle: (*(entry["value_beat"][name] for name in names), entry["pack_take"], entry["values_release"])
        for cycle, entry in enumerate(log)
        if entry["value_beat"]["valid"]
    }


def test_values_go_first_and_without_a_gap():
    """A pack stops the keys for as many cycles as the value dimension has, and what comes behind it does not matter."""
    contexts = [context(CONFIG, 8, 5, 4, 20), context(CONFIG, 8, 3, 4, 20)]
    start = 6

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        ports = dict(returning(cycle, log)) | {"loaded": int(cycle == 0)}
        if cycle == start:
            return ports | {"pack_ready": 1, "pack": pack(2, 0, 1), "values_ready": 1}
        # The exponentials may present the next pack at once.
        return ports | {"pack": pack(0, 1), "values_ready": 1}

    log = run(contexts, key_words(20, 2), 20, inputs)
    assert value_beats(log) == {
        start + u: (0, u, int(u == 0), int(u == 4), 0, int(u == 0), int(u == 4)) for u in range(5)
    }
    assert key_cycles(log) == [*range(1, start), *range(start + 5, 20)]
    assert uses(log) == [ArrayUse.WAIT_QUERY] + [ArrayUse.QK] * 5 + [ArrayUse.PV] * 5 + [ArrayUse.QK] * 9
    words = [entry["key_word"] for entry in log if entry["key_beat"]]
    assert words == [n % 2 for n in range(len(words))]


def test_packs_that_wait_follow_each_other():
    contexts = [context(CONFIG, 4, 3), context(CONFIG, 4, 1)]
    packs = [pack(4, 0), pack(4, 0, 1), pack(1, 1, 1), pack(4, 0)]

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        taken = sum(entry["pack_take"] for entry in log)
        return {"pack_ready": 1, "pack": packs[taken], "values_ready": 1} if taken < len(packs) else {}

    log = run(contexts, [], 14, inputs)
    beats = [(0, u, int(u == 0), 0, 0, int(u == 0), int(u == 2)) for u in range(3)]
    last = [(0, u, int(u == 0), int(u == 2), 0, int(u == 0), int(u == 2)) for u in range(3)]
    assert value_beats(log) == dict(enumerate([*beats, *last, (1, 0, 1, 1, 0, 1, 1), *beats]))


def test_an_empty_pack_takes_one_beat_and_no_values():
    contexts = [context(CONFIG, 4, 3)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return {"pack_ready": int(cycle in (2, 3)), "pack": pack(0, int(cycle == 3), 1)}

    log = run(contexts, [], 6, inputs)
    assert value_beats(log) == {2: (0, 0, 1, 1, 1, 1, 0), 3: (1, 0, 1, 1, 1, 1, 0)}


def test_a_pack_waits_for_its_values_and_keys_go_on():
    contexts = [context(CONFIG, 4, 2, 4, 60)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        ports = returning(cycle, log) if cycle < 10 else {}
        return dict(ports) | {"pack_ready": int(3 <= cycle <= 50), "pack": pack(4), "values_ready": int(cycle == 50)}

    log = run(contexts, key_words(60, 1), 54, inputs)
    assert sorted(value_beats(log)) == [50, 51]
    # Without slots, what the scores wait for is the pack that waits for values.
    full = key_cycles(log)[-1] + 1
    assert uses(log)[1:50] == [ArrayUse.QK] * (full - 1) + [ArrayUse.WAIT_VALUE] * (50 - full)
    assert uses(log)[52:] == [ArrayUse.WAIT_SCORE] * 2


def test_what_the_array_waits_for():
    contexts = [context(CONFIG, 4, 2, 4, 3)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return {"loaded": int(cycle == 10), "output_waiting": int(5 <= cycle < 12)}

    log = run(contexts, key_words(3, 1), 24, inputs, until(15))
    expected = [ArrayUse.WAIT_QUERY] * 5 + [ArrayUse.WAIT_OUTPUT] * 6 + [ArrayUse.WAIT_KEY] * 4
    assert uses(log) == expected + [ArrayUse.QK] * 3 + [ArrayUse.WAIT_QUERY] * 6


@pytest.mark.parametrize(
    ("last_beat", "end", "void"),
    [(0, 0, 1), (2, 0, 0), (4, 1, 1), (8, 2, 0), (13, 4, 1)],
)
def test_keys_that_end_too_early(last_beat: int, end: int, void: int):
    """The job ends with the last whole key, or with a void column if a row was cut; the next job is not touched."""
    beats = 3
    contexts = [context(CONFIG, 4 * beats, 1, 4, 5), context(CONFIG, 4, 1, 4, 2)]
    words = key_words(5, beats, last_beat=last_beat)[: last_beat + 1]
    log = run(contexts, words + key_words(2, 1, first=7), 30, returning)
    keys = [(0, 2 * key, int(key == 0), int(key == end), void if key == end else 0) for key in range(end + 1)]
    assert columns(log) == [*keys, (1, 7, 1, 0, 0), (1, 9, 0, 1, 0)]
    assert key_cycles(log) == list(range(1, last_beat + 4))
    assert [entry["key_early"] for entry in log] == [int(cycle == last_beat + 1) for cycle in range(30)]
    assert not any(entry["key_late"] for entry in log)


@pytest.mark.parametrize("extra", [1, 2, 7])
@pytest.mark.parametrize("stall", [flowing, at_random(3)])
def test_keys_that_do_not_end(extra: int, stall: Stall):
    """The job ends with the last key announced, the rest is discarded, and the next job is not touched."""
    beats = 2
    contexts = [context(CONFIG, 4 * beats, 1, 4, 3), context(CONFIG, 4, 1, 4, 2)]
    words = key_words(3 + extra, beats)[: 3 * beats + extra]
    words[-1]["last"] = 1
    log = run(contexts, words + key_words(2, 1, first=7), 80, returning, stall)
    keys = [(0, 2 * key, int(key == 0), int(key == 2), 0) for key in range(3)]
    assert columns(log) == [*keys, (1, 7, 1, 0, 0), (1, 9, 0, 1, 0)]
    taken = [cycle for cycle, entry in enumerate(log) if entry["taken"]]
    late = taken[3 * beats - 1]
    assert [cycle for cycle, entry in enumerate(log) if entry["key_late"]] == [late]
    assert log[late]["key_late"] == 1
    assert not any(entry["key_early"] for entry in log)
    discarded = uses(log)[late + 1 : taken[3 * beats + extra - 1] + 1]
    assert set(discarded) == {ArrayUse.WAIT_KEY}
    assert len(key_cycles(log)) == 3 * beats + 2
    if stall is flowing:
        assert taken == list(range(1, len(words) + 3))


def test_values_go_on_while_keys_are_discarded():
    contexts = [context(CONFIG, 4, 4, 4, 1)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        ports = dict(returning(cycle, log))
        return ports | {"pack_ready": int(cycle == 4), "pack": pack(1, 0, 1), "values_ready": 1}

    log = run(contexts, key_words(12, 1), 16, inputs)
    assert sorted(value_beats(log)) == [4, 5, 6, 7]
    assert [cycle for cycle, entry in enumerate(log) if entry["taken"]] == list(range(1, 13))


def test_discarding_waits_for_keys_whatever_else_is_short():
    """Here two ends have not left yet, so no new key could be begun."""
    contexts = [context(CONFIG, 4, 1, 4, 1)] * 2
    words = key_words(2, 1) + key_words(4, 1)
    log = run(contexts, words, 8, lambda cycle, log: {"loaded": 3 if cycle == 0 else 0})
    discarding = [ArrayUse.WAIT_KEY]
    assert uses(log) == (
        [ArrayUse.WAIT_QUERY, ArrayUse.QK, *discarding, ArrayUse.QK, *discarding * 3, ArrayUse.WAIT_QUERY]
    )


@pytest.mark.parametrize("last_head_beat", [0, 3])
def test_the_keys_of_a_rejected_job_are_discarded(last_head_beat: int):
    """They are taken up to their last beat, which gives a single void column, however many were announced."""
    bad = context(CONFIG, 4, 1, 4, 2, status=int(Status.KEYS), last_head_beat=last_head_beat)
    contexts = [bad, context(CONFIG, 8, 1, 4, 2)]
    log = run(contexts, key_words(6, 1, first=20) + key_words(2, 2), 20, returning)
    assert columns(log) == [(0, 30, 1, 1, 1), (1, 0, 1, 0, 0), (1, 2, 0, 1, 0)]
    assert key_cycles(log) == list(range(6, 11))
    assert uses(log) == (
        [ArrayUse.WAIT_QUERY] + [ArrayUse.WAIT_KEY] * 5 + [ArrayUse.QK] * 5 + [ArrayUse.WAIT_QUERY] * 9
    )
    assert not any(entry["key_early"] or entry["key_late"] for entry in log)


TIMEOUT = 20
IMPATIENT = CoreConfig(rows=4, lanes=4, max_head_dim=16, max_keys=64, rows_per_scaler=1, key_timeout=TIMEOUT)


def ends(log: list[dict[str, Any]]) -> dict[int, tuple[int, ...]]:
    """Return how keys were said to have ended, by cycle, as (early, late, timeout)."""
    return {cycle: end for cycle, entry in enumerate(log) if any(end := tuple(entry[name] for name in ENDS))}


@pytest.mark.parametrize(("sent", "column"), [(0, (0, 0, 1, 1, 1)), (1, (0, 0, 1, 1, 1)), (3, (0, 2, 0, 1, 1))])
@pytest.mark.parametrize("pause", [0, 10])
def test_keys_that_stop_coming(sent: int, column: tuple[int, ...], pause: int):
    """After as many cycles without a beat as the core was ready for, a void column ends the job; the next is good.

    A beat that comes in just that cycle is the next job's.
    """
    beats = 2
    contexts = [context(IMPATIENT, 4 * beats, 1, 4, 5), context(IMPATIENT, 4, 1, 4, 2)]
    words = key_words(5, beats)[:sent]
    silent = 1 + sent if sent else 0
    given_up = 1 + sent + TIMEOUT

    def stall(cycle: int) -> bool:
        return silent <= cycle < given_up + pause

    log = run(contexts, words + key_words(2, 1, first=7), given_up + 20, returning, stall, IMPATIENT)
    assert ends(log) == {given_up: (0, 0, 1)}
    seen = columns(log)
    # The index of a void column is whatever k carries.
    assert [(*entry[:1], *entry[2:]) for entry in seen[sent // beats : -2]] == [(column[0], *column[2:])]
    assert seen[-2:] == [(1, 7, 1, 0, 0), (1, 9, 0, 1, 0)]
    following = given_up + max(pause, 1)
    assert key_cycles(log) == [*range(1, 1 + sent), given_up, following, following + 1]
    taken = [cycle for cycle, entry in enumerate(log) if entry["taken"]]
    assert taken == [*range(1, 1 + sent), following, following + 1]


@pytest.mark.parametrize("late", [0, 1])
def test_a_key_in_the_last_cycle_of_the_timeout_is_in_time(late: int):
    contexts = [context(IMPATIENT, 4, 1, 4, 3)] * 2
    period = TIMEOUT + late
    log = run(contexts, key_words(3, 1), 60, returning, lambda cycle: (cycle - 1) % period != 0, IMPATIENT)
    assert bool(ends(log)) == bool(late)


def test_cycles_in_which_no_key_could_be_taken_do_not_count():
    """Here those of P V, which go on for longer than the timeout."""
    contexts = [context(IMPATIENT, 4, 16, 4, 3)] * 2

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"pack_ready": int(cycle < 40), "pack": pack(4), "values_ready": 1}

    log = run(contexts, [], 80, inputs, config=IMPATIENT)
    busy = len(value_beats(log))
    assert busy == 48
    assert ends(log) == {busy + TIMEOUT: (0, 0, 1)}


def test_giving_up_waits_for_the_array():
    contexts = [context(IMPATIENT, 4, 4, 4, 3)] * 2
    expired = 1 + TIMEOUT

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"pack_ready": int(cycle == expired), "pack": pack(4), "values_ready": 1}

    log = run(contexts, [], 40, inputs, config=IMPATIENT)
    assert sorted(value_beats(log)) == [expired + u for u in range(4)]
    assert ends(log) == {expired + 4: (0, 0, 1)}


def test_a_core_without_timeout_waits():
    config = CoreConfig(rows=4, lanes=4, max_head_dim=16, max_keys=64, rows_per_scaler=1, key_timeout=0)
    contexts = [context(config, 4, 1, 4, 1)] * 2
    log = run(contexts, key_words(1, 1) * 2, 120, returning, until(100), config)
    assert key_cycles(log) == [100, 101]
    assert ends(log) == {}


def test_discarding_ends_with_the_timeout_too():
    """Of a job whose keys did not end, and of a rejected one, which gives its single void column then."""
    contexts = [context(IMPATIENT, 4, 1, 4, 2), context(IMPATIENT, 4, 1, 4, 2, status=int(Status.KEYS))]
    words = [word | {"last": 0} for word in key_words(4, 1)]

    def inputs(cycle: int, log: list[dict[str, Any]]) -> Ports:
        return dict(returning(cycle, log)) | {"loaded": {0: 3, 60: 1}.get(cycle, 0)}

    def stall(cycle: int) -> bool:
        return 5 <= cycle < 61

    log = run(contexts, words + key_words(2, 1), 70, inputs, stall, IMPATIENT)
    # The last beat discarded is in cycle 4; the rejected job begins when discarding has been given up.
    given_up = 5 + TIMEOUT + 1 + TIMEOUT
    assert ends(log) == {2: (0, 1, 0)}
    assert key_cycles(log) == [1, 2, given_up, 61, 62]
    assert [entry[-2:] for entry in columns(log)] == [(0, 0), (1, 0), (1, 1), (0, 0), (1, 0)]


def test_slots_and_ends_are_counted_over_every_kind_of_end():
    """Random jobs, good, cut, overlong and rejected; after them every slot is free, and no more than there are."""
    rng = np.random.default_rng(0)
    jobs = [(int(rng.integers(1, 9)), int(rng.integers(4)), int(rng.integers(1, 9))) for _ in range(60)]
    beats = 2
    words: list[dict[str, Any]] = []
    for keys, kind, change in jobs:
        length = keys * beats + (0, -min(change, keys * beats - 1), change, change)[kind]
        words += key_words(keys + change, beats, last_beat=length - 1)[:length]
    answer: list[int] = []

    async def process(bench: Bench) -> None:
        source = Source(bench, "k", words)
        contexts = [{}, {}]
        returned = loaded = ended = void = 0
        while ended < len(jobs):
            inputs = {"slot_returned": returned & 1 and 1 + int(rng.integers(2)), "end_taken": returned >> 1}
            if loaded < len(jobs) and loaded - ended < 2:
                keys, kind, _ = jobs[loaded]
                status = int(Status.TAU if kind == 3 else Status.OK)
                contexts[loaded % 2] = context(CONFIG, 4 * beats, 1, 4, keys, status=status)
                bench.set({"contexts": list(contexts)})
                inputs["loaded"] = 1 << loaded % 2
                loaded += 1
            bench.pulse(inputs)
            source.step()
            column = bench.get("column")
            returned = bench.get("key_last") + 2 * (bench.get("key_last") and column["last"])
            ended += returned >> 1
            void += bench.get("key_last") and column["void"]
            await bench.tick()
        contexts[ended % 2] = context(CONFIG, 4 * beats, 1, 4, 60)
        bench.set({"contexts": list(contexts)})
        source.words += key_words(60, beats)
        begun = 0
        for cycle in range(300):
            returning_last = {"slot_returned": 1, "end_taken": 1, "loaded": 1 << ended % 2}
            bench.pulse(returning_last if cycle == 0 else {})
            source.step()
            begun += bench.get("key_beat") and bench.get("key_first")
            await bench.tick()
        answer.extend([void, begun])

    simulate(Scheduler(CONFIG), process)
    void, begun = answer
    assert void > 15
    assert begun == CONFIG.score_slots
