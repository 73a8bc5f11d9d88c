"""Loading of jobs: contexts, queries and states of good ones, the answer to bad ones, order and cycles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, context, job_context, plain, simulate
from stream_rules import Source, Stall, at_random, flowing, until

from golden import formats
from golden.config import CoreConfig
from golden.job import Job
from golden.masks import MaskKind
from rtl.interfaces import Status, query_layout, state_layout
from rtl.job_loader import JobLoader
from sim.random_jobs import random_job
from sim.stimulus import stimulus

CONFIG = CoreConfig(
    rows=3,
    lanes=4,
    max_head_dim=16,
    max_value_dim=16,
    max_keys=64,
    output_lanes=2,
    rows_per_scaler=3,
    tag_bits=5,
    shared_values=1,
)
UNSHARED = replace(CONFIG, shared_values=0)
FIXED = replace(CONFIG, rows_per_budget=0, target_control=0)
CYCLES_BESIDE_QUERIES = 6


@dataclass(frozen=True)
class Sent:
    """What is sent for a job, and what must come of it."""

    fields: dict[str, int]
    query: list[dict[str, Any]]
    state: list[dict[str, Any]]
    status: Status = Status.OK
    expected: dict[str, int] = field(default_factory=dict)
    """Fields of the context."""
    query_writes: list[dict[str, Any]] = field(default_factory=list)
    state_writes: list[tuple[int, int, int]] = field(default_factory=list)
    """Row, maximum and sum."""
    word_writes: list[tuple[int, int, list[int]]] = field(default_factory=list)
    """Row, word and elements."""

    @property
    def beats(self) -> int:
        return len(self.query) + len(self.state)


def words(layout: Any, payloads: list[int]) -> list[dict[str, Any]]:
    return [plain(layout.from_bits(payload)) for payload in payloads]


def sent(job: Job) -> Sent:
    """Return a good job; lanes past its head dimension carry what must not get through."""
    lanes = CONFIG.lanes
    stimuli = stimulus(job, CONFIG)
    query = words(query_layout(CONFIG), stimuli.query)
    beats = CONFIG.head_beats(job.head_dim)
    writes = []
    for n, word in enumerate(query):
        row, beat = divmod(n, beats)
        write = {"row": row, "beat": beat, "elements": list(word["data"]), "position": int(job.positions[row])}
        writes.append(write)
        if beat == beats - 1:
            unused = -job.head_dim % lanes
            word["data"] = word["data"][: lanes - unused] + [0xA5] * unused
    maxima, states = [], []
    if job.state is not None:
        width = CONFIG.output_lanes
        for row, elements in enumerate(job.state.accumulator.tolist()):
            maxima.append((row, int(job.state.maximum[row]), int(job.state.total[row])))
            elements += [0] * (-len(elements) % width)
            states += [(row, n // width, elements[n : n + width]) for n in range(0, len(elements), width)]
    state = words(state_layout(CONFIG), stimuli.state)
    fields = job_context(job, CONFIG)
    return Sent(stimuli.fields, query, state, Status.OK, fields, writes, maxima, states)


def good(seed: int, with_state: bool | None = None, least_beats: int = 1, config: CoreConfig = CONFIG) -> Sent:
    """Return a random good job, with a state or without if that is said, of so many beats of q at least."""
    rng = np.random.default_rng(seed)
    while True:
        job = sent(random_job(rng, config, 20))
        if with_state in (None, bool(job.state)) and len(job.query) >= least_beats:
            return job


def rejected(base: Sent, status: Status, **changes: Any) -> Sent:
    """Return a job with something wrong in it, of which only the status and the tag will be seen."""
    return replace(base, status=status, expected={}, query_writes=[], state_writes=[], word_writes=[], **changes)


def with_fields(base: Sent, status: Status, **fields: int) -> Sent:
    return rejected(base, status, fields=base.fields | fields)


def cut(packet: list[dict[str, Any]], length: int) -> list[dict[str, Any]]:
    """Return the packet with another length: cut off, or its last beat repeated."""
    beats = [*packet, *packet[-1:] * max(0, length - len(packet))][:length]
    return [beat | {"last": int(n == length - 1)} for n, beat in enumerate(beats)]


@dataclass
class Loaded:
    """What was seen of a job."""

    taken: int = -1
    clear: int = -1
    loaded: int = -1
    waited: int = 0
    context: dict[str, int] = field(default_factory=dict)
    query_writes: list[dict[str, Any]] = field(default_factory=list)
    state_writes: list[tuple[int, int, int]] = field(default_factory=list)
    word_writes: list[tuple[int, int, list[int]]] = field(default_factory=list)
    queries_free: int = -1
    context_free: int = -1


def load(
    jobs: list[Sent],
    stall: Stall = flowing,
    queries_busy: Stall = flowing,
    context_busy: Stall = flowing,
    config: CoreConfig = CONFIG,
) -> list[Loaded]:
    """Send jobs; free a job's queries and then its context in the first cycles after loading that are not busy."""
    seen = [Loaded() for _ in jobs]

    async def process(bench: Bench) -> None:
        sources = {
            "job": Source(bench, "job", [job.fields for job in jobs], stall),
            "q": Source(bench, "q", [word for job in jobs for word in job.query], stall),
            "state": Source(bench, "state", [word for job in jobs for word in job.state], stall),
        }
        cleared = loaded = queries = contexts = 0
        before: list[dict[str, int]] = [{}, {}]
        while contexts < len(jobs):
            if loaded and seen[loaded - 1].loaded == bench.cycle - 1:
                now = bench.get("contexts")
                seen[loaded - 1].context = now[(loaded - 1) % 2]
                if loaded > 1:
                    assert now[loaded % 2] == before[loaded % 2], "a context changed while another was loaded"
                before = now
            inputs: dict[str, Any] = {}
            if contexts < queries and not context_busy(bench.cycle):
                inputs["context_free"] = 1 << contexts % 2
                seen[contexts].context_free = bench.cycle
                contexts += 1
            if queries < loaded and seen[queries].loaded < bench.cycle and not queries_busy(bench.cycle):
                inputs["queries_free"] = 1 << queries % 2
                seen[queries].queries_free = bench.cycle
                queries += 1
            bench.pulse(inputs)
            moved = {name: source.step() for name, source in sources.items()}
            taking = len(sources["job"].taken) - 1
            if moved["job"]:
                seen[taking].taken = bench.cycle
            ctx = taking % 2
            write = bench.get("query")
            if write.pop("enable"):
                assert moved["q"]
                assert write.pop("ctx") == ctx
                seen[taking].query_writes.append(write)
            row = bench.get("state_row")
            if row["enable"]:
                assert moved["state"]
                assert row["ctx"] == ctx
                seen[taking].state_writes.append((row["row"], row["maximum"], row["total"]))
            word = bench.get("state_word")
            if word["enable"]:
                assert moved["state"]
                assert word["ctx"] == ctx
                seen[taking].word_writes.append((word["row"], word["word"], word["elements"]))
            if bench.get("waiting"):
                seen[taking].waited += 1
            for name, index in (("clear", cleared), ("loaded", loaded)):
                pulse = bench.get(name)
                assert pulse in (0, 1 << index % 2)
                if pulse:
                    setattr(seen[index], name, bench.cycle)
                    cleared, loaded = cleared + (name == "clear"), loaded + (name == "loaded")
            await bench.tick()
        assert all(source.left == 0 for source in sources.values())

    simulate(JobLoader(config), process)
    return seen


def check(jobs: list[Sent], seen: list[Loaded]) -> None:
    for job, result in zip(jobs, seen, strict=True):
        assert result.context["status"] == job.status
        assert result.context["tag"] == job.fields["tag"]
        if job.status == Status.OK:
            assert result.context == job.expected
            assert result.query_writes == job.query_writes
            assert result.state_writes == job.state_writes
            assert result.word_writes == job.word_writes
        elif job.status < Status.QUERY_LENGTH:
            assert result.query_writes == result.state_writes == result.word_writes == []
    # Nothing is written over what the job before the last still needs.
    for before, after in zip(seen, seen[2:], strict=False):
        assert after.taken > before.queries_free
        assert after.clear > before.context_free


@pytest.mark.parametrize(
    ("stall", "queries_busy", "context_busy"),
    [
        (flowing, flowing, flowing),
        (at_random(1), at_random(2, 0.9), at_random(3, 0.9)),
        (flowing, at_random(4, 0.98), flowing),
        (flowing, flowing, at_random(5, 0.99)),
    ],
    ids=["flowing", "slow", "slow queries", "slow output"],
)
def test_good_jobs_in_turn(stall: Stall, queries_busy: Stall, context_busy: Stall):
    jobs = [good(seed) for seed in range(25)]
    check(jobs, load(jobs, stall, queries_busy, context_busy))
    assert sum(bool(job.state) for job in jobs) > 3
    assert 5 < sum(job.expected["shared"] for job in jobs) < 20


BAD_FIELDS = [
    (Status.HEAD_DIM, {"head_dim": 0}),
    (Status.HEAD_DIM, {"head_dim": CONFIG.max_head_dim + 1}),
    (Status.HEAD_DIM, {"head_dim": 0xFFFF}),
    (Status.VALUE_DIM, {"value_dim": 0}),
    (Status.VALUE_DIM, {"value_dim": CONFIG.max_value_dim + 1}),
    (Status.VALUE_DIM, {"value_dim": 0x8000}),
    (Status.VALUE_DIM, {"shared": 1, "head_dim": 8, "value_dim": 9}),
    (Status.ROWS, {"rows": 0}),
    (Status.ROWS, {"rows": CONFIG.rows + 1}),
    (Status.ROWS, {"rows": 255}),
    (Status.KEYS, {"keys": 0}),
    (Status.KEYS, {"keys": CONFIG.max_keys + 1}),
    (Status.KEYS, {"keys": 0xFFFFFF}),
    (Status.MASK, {"mask": 3}),
    (Status.MASK, {"mask": int(MaskKind.WINDOW), "window": 0}),
    (Status.TAU, {"tau": formats.TAU_MIN - 1}),
    (Status.TAU, {"tau": 0}),
    # The first of several faults is the one reported.
    (Status.HEAD_DIM, {"head_dim": 0, "rows": 0, "tau": 0}),
    (Status.ROWS, {"rows": 0, "keys": 0, "mask": 3}),
    (Status.MASK, {"mask": 3, "tau": 0}),
]


@pytest.mark.parametrize(("status", "fields"), BAD_FIELDS, ids=str)
@pytest.mark.parametrize("with_state", [False, True])
def test_a_job_that_can_not_be_held_is_discarded_and_the_next_is_good(
    status: Status, fields: dict[str, int], with_state: bool
):
    """Its packets may be of any length: they end where they say."""
    bad = with_fields(good(3, with_state), status, **fields)
    bad = replace(bad, query=cut(bad.query, 17), state=cut(bad.state, 23) if with_state else [])
    short = replace(bad, query=cut(bad.query, 1), state=cut(bad.state, 1) if with_state else [])
    jobs = [bad, good(4, True), short, good(5, True), good(6, False)]
    check(jobs, load(jobs))


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (Status.EPSILON, {"epsilon_shift": 1}),
        (Status.EPSILON, {"epsilon_shift": 15, "target": 1}),
        (Status.TARGET, {"target": 1}),
        (Status.TARGET, {"target": 1 << 15}),
        (Status.TARGET, {"continue_tau": 1}),
        (Status.TAU, {"tau": 0, "epsilon_shift": 1, "target": 1}),
    ],
    ids=str,
)
def test_a_core_without_an_option_rejects_jobs_that_ask_for_it(status: Status, fields: dict[str, int]):
    base = good(2, False, config=FIXED)
    jobs = [with_fields(base, status, **fields), good(4, True, config=FIXED)]
    check(jobs, load(jobs, config=FIXED))


def test_shared_values_need_a_core_with_them():
    shared = next(job for job in map(good, range(20)) if job.fields["shared"])
    jobs = [
        replace(rejected(shared, Status.SHARED), query=cut(shared.query, 17)),
        with_fields(shared, Status.TAU, tau=0),
    ]
    seen = load(jobs, config=UNSHARED)
    check(jobs, seen)
    assert all(job.context["shared"] == 0 for job in seen)


def test_a_rejected_job_shares_nothing():
    """What its fields say may be of any size, and must not hold up the key capture."""
    shared = next(job for job in map(good, range(20)) if job.fields["shared"])
    jobs = [with_fields(shared, Status.VALUE_DIM, value_dim=0xFFFF), with_fields(shared, Status.MASK, mask=3)]
    assert all(job.context["shared"] == 0 for job in load(jobs))


def test_the_limits_themselves_are_good():
    rng = np.random.default_rng(0)
    shape = (CONFIG.rows, CONFIG.max_head_dim)
    query = rng.integers(-128, 128, shape).astype(np.int8)
    base = good(1, False)
    fields = {
        "head_dim": shape[1],
        "value_dim": CONFIG.max_value_dim,
        "rows": shape[0],
        "keys": CONFIG.max_keys,
        "tau": formats.TAU_MIN,
        "mask": int(MaskKind.WINDOW),
        "multiplier": 0xFFFF,
        "shift": 63,
        "tag": 31,
        "emit_state": 1,
        "from_state": 0,
        "epsilon_shift": 15,
        "target": 0xFFFF,
        "continue_tau": 1,
    }
    packet = [
        {"data": (query[row, 4 * beat : 4 * beat + 4].astype(int) & 0xFF).tolist(), "position": 63 - row}
        for row in range(3)
        for beat in range(4)
    ]
    writes = [
        {"row": n // 4, "beat": n % 4, "elements": word["data"], "position": word["position"]}
        for n, word in enumerate(packet)
    ]
    jobs = []
    # A window beyond the largest range sees no more than that.
    for window, kept in ((1, 1), (64, 64), (65, 64), (0xFFFFFF, 64)):
        unchanged = (
            "multiplier",
            "shift",
            "tau",
            "epsilon_shift",
            "target",
            "continue_tau",
            "mask",
            "emit_state",
            "tag",
        )
        expected = context(CONFIG, 16, 16, 3, 64, **{name: fields[name] for name in unchanged}, window=kept)
        sending = fields | {"window": window}
        jobs.append(replace(base, fields=sending, query=cut(packet, 12), expected=expected, query_writes=writes))
    check(jobs, load(jobs))


@pytest.mark.parametrize("change", [-100, -1, 1, 5])
@pytest.mark.parametrize("with_state", [False, True])
def test_queries_that_do_not_end_where_they_should(change: int, with_state: bool):
    base = good(12, with_state, least_beats=2)
    length = max(1, len(base.query) + change)
    bad = rejected(base, Status.QUERY_LENGTH, query=cut(base.query, length))
    jobs = [bad, good(13, True), good(14), bad, good(15, True)]
    seen = load(jobs)
    check(jobs, seen)
    assert seen[0].state_writes == seen[0].word_writes == []


@pytest.mark.parametrize("change", [-100, -1, 1, 7])
def test_states_that_do_not_end_where_they_should(change: int):
    base = good(12, True)
    length = max(1, len(base.state) + change)
    bad = rejected(base, Status.STATE_LENGTH, state=cut(base.state, length))
    jobs = [bad, good(13, True), good(14), bad, good(15, True)]
    check(jobs, load(jobs))


def test_queries_take_their_beats_and_six_cycles_more():
    """A state takes its beats beside that; `loaded` is the last of these cycles, and the next job is taken after it."""
    jobs = [good(seed, with_state) for seed, with_state in ((1, False), (2, True), (3, False), (4, True))]
    seen = load(jobs)
    for n, (job, result) in enumerate(zip(jobs, seen, strict=True)):
        assert result.loaded == result.taken + job.beats + CYCLES_BESIDE_QUERIES - 1
        assert result.clear == result.loaded - len(job.state) - 1
        if n:
            assert result.taken == seen[n - 1].loaded + 1
        assert result.waited == 0


def test_a_context_that_is_held_keeps_the_next_but_one_waiting():
    """With its queries already in place, from its turn until the cycle in which the context comes free."""
    jobs = [good(seed, False) for seed in range(3)]
    free = 300
    seen = load(jobs, flowing, flowing, until(free))
    ready = seen[2].taken + jobs[2].beats + 3
    assert seen[0].context_free == free
    assert seen[2].taken == max(seen[1].loaded, seen[0].queries_free) + 1
    assert seen[2].clear == free + 2
    assert seen[2].waited == free + 1 - ready
    assert [result.waited for result in seen[:2]] == [0, 0]


def test_queries_still_needed_keep_the_next_but_one_job_out():
    jobs = [good(seed, False) for seed in range(4)]
    seen = load(jobs, flowing, until(200))
    assert seen[1].taken == seen[0].loaded + 1
    assert seen[2].taken == seen[0].queries_free + 1 == 201
