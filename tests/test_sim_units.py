"""The parts of the simulation that need no simulator: words, scoreboard, random jobs, faults, measurement, runner."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
import rtl
from golden import formats
from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.job import Job, JobResult, ScoreScale
from golden.masks import Mask, MaskKind
from golden.state import PartialState
from golden.threshold import Threshold
from rtl import interfaces
from rtl.interfaces import ArrayUse, Status
from sim import runner
from sim.bench import Recording, Traffic
from sim.faults import FAULTS, faults_of, faulty_job
from sim.random_jobs import left_tau, random_job, random_jobs
from sim.report import summary_files, write_summary
from sim.runner import SimulationError
from sim.scoreboard import Expectation, check
from sim.simulate import Measurement
from sim.soak import CONFIGS, FAULT_SHARE, random_run
from sim.stimulus import (
    Stimulus,
    job_word,
    output_from_words,
    state_from_words,
    state_words,
    stats_record,
    stimulus,
)

TINY = PRESETS["tiny"]
SEEDS = st.integers(0, 2**32 - 1)
ANY_CONFIG = st.sampled_from([*CONFIGS.values(), PRESETS["wide"]])


def bits(word: int, low: int, width: int) -> int:
    return word >> low & ((1 << width) - 1)


def lanes_of(words: list[int], config: CoreConfig, elements: int) -> np.ndarray:
    """Return the int8 elements of one row, lowest lane and first beat first."""
    data = b"".join(bits(word, 0, 8 * config.lanes).to_bytes(config.lanes, "little") for word in words)
    row = np.frombuffer(data, dtype=np.int8)
    assert not row[elements:].any()
    return row[:elements]


# Words


@given(SEEDS, ANY_CONFIG, st.integers(1, 64), st.integers(1, 40))
def test_a_state_survives_its_words(seed, config, rows, value_dim):
    rng = np.random.default_rng(seed)
    largest = 1 << formats.STATE_WORD_BITS - 1
    state = PartialState(
        rng.choice([formats.NO_MAXIMUM, -1, 0, -formats.NO_MAXIMUM - 1, int(rng.integers(-1000, 1000))], rows),
        rng.choice([0, 1, (1 << formats.STATE_SUM_BITS) - 1, int(rng.integers(1 << 32))], rows),
        rng.choice([-largest, -1, 0, 1, largest - 1, int(rng.integers(-largest, largest))], (rows, value_dim)),
    )
    words = state_words(state, config)
    assert len(words) == rows * (1 + config.output_beats(value_dim)) * interfaces.STATE_PIECES
    assert max(words) < 1 << 16 * config.output_lanes
    assert state_from_words(words, rows, value_dim, config) == state


def test_the_words_of_a_state_are_those_of_the_interface():
    """A header with the maximum above the sum, then accumulators, in pieces of 16 bits, the lowest first."""
    state = PartialState(
        np.array([-2], dtype=np.int64), np.array([0x12345678], dtype=np.int64), np.array([[-1, 0x0A0B0C0D0E, 3]])
    )
    config = CoreConfig(output_lanes=2)
    assert state_words(state, config) == [
        *(0x5678, 0x1234, 0xFFFE),
        *(0x0D0E_FFFF, 0x0B0C_FFFF, 0x000A_FFFF),
        *(0x0003, 0, 0),
    ]


@given(SEEDS, ANY_CONFIG, st.integers(1, 64), st.integers(1, 40))
def test_an_output_survives_its_words(seed, config, rows, value_dim):
    rng = np.random.default_rng(seed)
    output = rng.choice([-(1 << 15), -1, 0, (1 << 15) - 1, int(rng.integers(-3000, 3000))], (rows, value_dim))
    output = output.astype(np.int16)
    words = []
    for row in output.tolist():
        for start in range(0, value_dim, config.output_lanes):
            beat = row[start : start + config.output_lanes]
            words.append(sum((element & 0xFFFF) << 16 * lane for lane, element in enumerate(beat)))
    seen = output_from_words(words, rows, value_dim, config)
    assert seen.dtype == np.int16
    assert np.array_equal(seen, output)


@given(SEEDS, st.sampled_from(list(CONFIGS.values())))
@settings(max_examples=60)
def test_the_words_of_a_job_are_its_tensors_and_fields(seed, config):
    job = random_job(np.random.default_rng(seed), config, 30, tau=777)
    words = stimulus(job, config)
    beats = -(-job.head_dim // config.lanes)
    for sent, rows, names, numbers in (
        (words.query, job.query, interfaces.query_layout(config), ("position", job.positions)),
        (words.key, job.key, interfaces.key_layout(config), ("index", job.indices)),
    ):
        number, expected = numbers
        assert len(sent) == len(rows) * beats
        for n, row in enumerate(rows):
            mine = sent[n * beats : (n + 1) * beats]
            assert np.array_equal(lanes_of(mine, config, job.head_dim), row)
            assert {bits(word, names[number].offset, config.position_bits) for word in mine} == {int(expected[n])}
        assert [bits(word, names["last"].offset, 1) for word in sent] == [0] * (len(sent) - 1) + [1]
        assert max(sent) < 1 << names.size
    assert list(words.values) == ([] if job.shared else job.indices.tolist())
    for index, row in zip(words.values, job.value, strict=not job.shared):
        assert np.array_equal(lanes_of(words.values[index], config, job.value_dim), row)
    end = 1 << 16 * config.output_lanes
    if job.state is None:
        assert words.state == []
    else:
        assert [word >= end for word in words.state] == [False] * (len(words.state) - 1) + [True]
        plain = [word % end for word in words.state]
        assert state_from_words(plain, job.rows, job.value_dim, config) == job.state

    payload, layout = job_word(words.fields, config), interfaces.job_layout(config)
    assert set(words.fields) == {name for name, _ in layout}
    assert {name: bits(payload, field.offset, field.width) for name, field in layout} == {
        "head_dim": job.head_dim,
        "value_dim": job.value_dim,
        "rows": job.rows,
        "keys": job.keys,
        "multiplier": job.scale.multiplier,
        "shift": job.scale.shift,
        "tau": formats.TAU_KEEP_ALL if job.continue_tau else job.threshold.tau,
        "epsilon_shift": job.threshold.epsilon_shift,
        "target": job.threshold.target,
        "continue_tau": int(job.continue_tau),
        "mask": {MaskKind.NONE: 0, MaskKind.CAUSAL: 1, MaskKind.WINDOW: 2}[job.mask.kind],
        "window": job.mask.window,
        "from_state": int(job.state is not None),
        "emit_state": int(job.emit_state),
        "shared": int(job.shared),
        "tag": job.tag,
    }


def record_word(config: CoreConfig, **record: int | list[int]) -> int:
    """Return the payload of the stats port with these fields, put together field by field in the order of the port."""
    count, wide = config.max_keys.bit_length(), config.max_keys.bit_length() + config.rows.bit_length()
    word = offset = 0
    for name, width, many in (
        ("tag", config.tag_bits, 0),
        ("status", 8, 0),
        ("tau", 16, 0),
        ("keys", count, 0),
        ("survivors", count, 0),
        ("packs", count, 0),
        ("saturated", wide, 0),
        ("dropped", count, config.rows),
        ("empty", config.rows, 0),
        ("cycles", 32, 7),
    ):
        values = record[name] if many else [record[name]]
        assert len(values) == (many or 1)
        for value in values:
            assert 0 <= value < 1 << width
            word |= value << offset
            offset += width
    return word


@given(SEEDS, ANY_CONFIG)
def test_a_record_gives_back_every_field(seed, config):
    rng = np.random.default_rng(seed)

    def value(width: int) -> int:
        return int(rng.choice([0, 1, (1 << width) - 1, int(rng.integers(1 << width))]))

    count = config.max_keys.bit_length()
    record = {
        "tag": value(config.tag_bits),
        "status": value(8),
        "tau": value(16),
        "keys": value(count),
        "survivors": value(count),
        "packs": value(count),
        "saturated": value(count + config.rows.bit_length()),
        "dropped": [value(count) for _ in range(config.rows)],
        "empty": value(config.rows) if config.rows < 63 else 0,
        "cycles": [value(32) for _ in ArrayUse],
    }
    assert stats_record(record_word(config, **record), config) == record


# Scoreboard


def plain_job(rows: int = 3, keys: int = 9, head_dim: int = 6, value_dim: int = 5, **changes: object) -> Job:
    rng = np.random.default_rng(rows + keys)
    job = Job(
        query=rng.integers(-128, 128, (rows, head_dim)).astype(np.int8),
        positions=np.arange(rows, dtype=np.int64) * 8,
        key=rng.integers(-128, 128, (keys, head_dim)).astype(np.int8),
        indices=np.arange(keys, dtype=np.int64) * 2,
        value=rng.integers(-128, 128, (keys, value_dim)).astype(np.int8),
        scale=ScoreScale.of(2.0**-6),
        threshold=Threshold(100),
        mask=Mask(MaskKind.CAUSAL),
        tag=77,
    )
    return replace(job, **changes)


def packet(job: Job, result: JobResult, config: CoreConfig = TINY) -> list[int]:
    """Return what a right core writes to o, for one output lane."""
    assert config.output_lanes == 1
    if job.emit_state:
        words = state_words(result.state, config)
    else:
        words = [int(element) & 0xFFFF for element in result.output.ravel()]
    return [word | job.tag << 16 for word in words]


def record_of(job: Job, result: JobResult, **changes: object) -> dict:
    spare = [0] * (TINY.rows - job.rows)
    return {
        "tag": job.tag,
        "status": 0,
        "tau": job.threshold.tau,
        "keys": job.keys,
        "survivors": int(result.survivors.sum()),
        "packs": result.packs,
        "saturated": result.saturated,
        "dropped": result.dropped.tolist() + spare,
        "empty": int(sum(1 << n for n in range(job.rows) if result.empty[n])),
        "cycles": [5] * 7,
    } | changes


def seen(
    job: Job, result: JobResult, words: list[int] | None = None, asked: list[int] | None = None, **changes: object
) -> Recording:
    """Return the recording of a right core, but for what is given."""
    return Recording(
        [packet(job, result) if words is None else words],
        [record_word(TINY, **record_of(job, result, **changes))],
        [job.indices[result.survivors].tolist() if asked is None else asked],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"emit_state": True},
        {"rows": 1, "keys": 1},
        {"mask": Mask(), "threshold": Threshold()},
        {"indices": np.arange(9, dtype=np.int64) + 2},
        {"state": PartialState.empty(3, 5)},
    ],
)
def test_a_right_core_has_no_problems(changes):
    job = plain_job(**changes)
    result = run_job(job, TINY.lanes)
    assert check([Expectation("job", job, result)], seen(job, result), TINY) == []


def test_the_sample_job_drops_keys_and_has_an_empty_row():
    """Or else the tests around it would not see much."""
    result = run_job(plain_job(), TINY.lanes)
    assert result.dropped.any()
    assert not result.survivors.all()
    assert result.survivors.sum() > 2
    late = plain_job(indices=np.arange(9, dtype=np.int64) + 2)
    assert run_job(late, TINY.lanes).empty.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("tag", 78, "stats field tag: expected 77, saw 78"),
        ("status", 9, "stats field status: expected 0, saw 9"),
        ("tau", 101, "stats field tau: expected 100, saw 101"),
        ("keys", 10, "stats field keys: expected 9, saw 10"),
        ("survivors", 0, r"stats field survivors: expected \d, saw 0"),
        ("packs", 100, r"stats field packs: expected \d, saw 100"),
        ("saturated", 100, r"stats field saturated: expected \d+, saw 100"),
        ("dropped", [0, 0, 0, 1], r"stats field dropped: expected \[\d, \d, \d, 0\], saw \[0, 0, 0, 1\]"),
        ("empty", 8, "stats field empty: expected 0, saw 8"),
    ],
)
def test_each_wrong_statistic_is_a_line(name, value, line):
    job = plain_job()
    result = run_job(job, TINY.lanes)
    (found,) = check([Expectation("head 3", job, result)], seen(job, result, **{name: value}), TINY)
    assert re.fullmatch(f"head 3: {line}", found)


def test_cycles_are_not_golden_s_to_say():
    job = plain_job()
    result = run_job(job, TINY.lanes)
    assert check([Expectation("job", job, result)], seen(job, result, cycles=[9] * 7), TINY) == []


@pytest.mark.parametrize("rows", [(), ("head 4, query 0", "head 4, query 1", "head 5, query 0")])
def test_a_wrong_output_says_row_and_element_and_how_many(rows):
    job = plain_job()
    result = run_job(job, TINY.lanes)
    words = packet(job, result)
    words[1 * 5 + 3] ^= 4
    words[2 * 5 + 1] ^= 1
    saw = int(np.int16((words[8] & 0xFFFF) - ((words[8] & 0x8000) << 1)))
    (found,) = check([Expectation("job", job, result, rows=rows)], seen(job, result, words), TINY)
    place = "row 1 (head 4, query 1)" if rows else "row 1"
    assert found == f"job: output {place}, element 3: expected {result.output[1, 3]}, saw {saw} (2 differ)"


@pytest.mark.parametrize(
    ("word", "bit", "line"),
    [
        (0, 1 << 3, r"total row 0: expected \d+, saw \d+ \(1 differ\)"),
        (2, 1 << 4, r"maximum row 0: expected -?\d+, saw -?\d+ \(1 differ\)"),
        (2 * 18 + 3 + 4 * 3, 1, r"accumulator row 2, element 4: expected -?\d+, saw -?\d+ \(1 differ\)"),
    ],
)
def test_a_wrong_state_says_which_part(word, bit, line):
    job = plain_job(emit_state=True)
    result = run_job(job, TINY.lanes)
    words = packet(job, result)
    words[word] ^= bit
    (found,) = check([Expectation("job", job, result)], seen(job, result, words), TINY)
    assert re.fullmatch(f"job: {line}", found)


def test_wrong_tags_lengths_and_requests_are_lines():
    job = plain_job()
    result = run_job(job, TINY.lanes)
    expectation, words = Expectation("job", job, result), packet(job, result)
    wanted = job.indices[result.survivors].tolist()

    def problems(words: list[int] | None = None, asked: list[int] | None = None) -> list[str]:
        return check([expectation], seen(job, result, words, asked), TINY)

    other = [words[0] ^ 1 << 16, *words[1:]]
    assert problems(other) == ["job: o carries tags [76, 77], expected 77"]
    assert problems(words[:-1]) == ["job: the packet has 14 beats, expected 15"]
    assert problems([*words, words[-1]]) == ["job: the packet has 16 beats, expected 15"]
    (line,) = problems(asked=wanted[1:])
    assert line == f"job: values of {len(wanted) - 1} keys were asked for, expected {len(wanted)}"
    # The right number of the wrong keys, and the right keys in another order.
    (line,) = problems(asked=[wanted[0], 5, *wanted[2:]])
    assert line == f"job: the value of key 5 was asked for in the place of that of key {wanted[1]}"
    (line,) = problems(asked=wanted[::-1])
    assert line == f"job: the value of key {wanted[-1]} was asked for in the place of that of key {wanted[0]}"


def test_missing_and_spare_packets_records_and_ends_are_lines():
    job = plain_job()
    result = run_job(job, TINY.lanes)
    expectations = [Expectation("job", job, result)] * 2
    one = seen(job, result)
    assert check(expectations, one, TINY) == [
        "2 jobs gave 1 output packets",
        "2 jobs gave 1 statistics records",
        "2 jobs gave 1 ends on v_req",
    ]
    both = Recording(one.packets * 2, one.records * 3, one.requests * 2)
    assert check(expectations, both, TINY) == ["2 jobs gave 3 statistics records"]


def test_problems_of_every_job_are_found():
    job = plain_job()
    result = run_job(job, TINY.lanes)
    bad, good = seen(job, result, asked=[], keys=3), seen(job, result)
    recording = Recording(
        bad.packets + good.packets + bad.packets,
        bad.records + good.records + bad.records,
        bad.requests + good.requests + bad.requests,
    )
    problems = check([Expectation(f"job {n}", job, result) for n in range(3)], recording, TINY)
    assert [line.partition(":")[0] for line in problems] == ["job 0", "job 0", "job 2", "job 2"]


def test_shared_values_are_asked_for_by_no_request():
    job = plain_job()
    job = replace(job, value=job.key[:, :5], shared=True)
    result = run_job(job, TINY.lanes)
    expectation = Expectation("latent", job, result)
    assert check([expectation], seen(job, result, asked=[]), TINY) == []
    lines = check([expectation], seen(job, result, asked=[4]), TINY)
    assert lines == ["latent: values of 1 keys were asked for, expected 0"]


def test_a_rejected_job_is_a_zero_beat_an_empty_record_and_no_request():
    job = plain_job()
    nothing = {"tau": 0, "keys": 0, "survivors": 0, "packs": 0, "saturated": 0, "dropped": [0] * 4, "empty": 0}
    expectation = Expectation("bad", job, None, Status.TAU)
    result = run_job(job, TINY.lanes)

    def problems(words: list[int], asked: list[int], **changes: object) -> list[str]:
        return check([expectation], seen(job, result, words, asked, **(nothing | {"status": 6} | changes)), TINY)

    zero = job.tag << 16
    assert problems([zero], []) == []
    assert problems([zero, zero], []) == ["bad: a rejected job wrote 2 beats, expected a single zero"]
    assert problems([zero + 1], []) == ["bad: a rejected job wrote 1 beats, expected a single zero"]
    assert problems([0], []) == ["bad: o carries tags [0], expected 77"]
    assert problems([zero], [4]) == ["bad: values of 1 keys were asked for, expected 0"]
    assert problems([zero], [], status=0) == ["bad: stats field status: expected 6, saw 0"]
    assert problems([zero], [], keys=1) == ["bad: stats field keys: expected 0, saw 1"]


# Random jobs and faults


@given(SEEDS, st.sampled_from(list(CONFIGS)), st.sampled_from([1, 2, 20, 400]))
@settings(max_examples=150)
def test_a_random_job_is_one_that_its_core_holds(seed, core, max_keys):
    config = CONFIGS[core]
    job = random_job(np.random.default_rng(seed), config, max_keys)
    job.check(config)
    assert 1 <= job.keys <= max_keys
    again = random_job(np.random.default_rng(seed), config, max_keys)
    assert stimulus(again, config) == stimulus(job, config)


def test_random_jobs_reach_the_corners():
    rng = np.random.default_rng(0)
    jobs = [random_job(rng, TINY, 100) for _ in range(300)]
    results = [run_job(job, TINY.lanes) for job in jobs]
    unbound = [run_job(replace(job, threshold=Threshold(job.threshold.tau)), TINY.lanes) for job in jobs]
    assert {job.rows for job in jobs} == {1, 2, 3, 4}
    assert {job.mask.kind for job in jobs} == set(MaskKind)
    assert {job.emit_state for job in jobs} == {job.state is None for job in jobs} == {True, False}
    assert min(job.keys for job in jobs) == 1
    assert max(job.keys for job in jobs) == 100
    assert any(job.head_dim == TINY.max_head_dim or job.value_dim == TINY.max_value_dim for job in jobs)
    assert any(job.head_dim != job.value_dim for job in jobs)
    assert any(int(job.indices[-1]) > 1000 for job in jobs)
    for wanted in (
        [result.saturated > 0 for result in results],
        [result.dropped.any() for result in results],
        [result.empty.any() and not result.empty.all() for result in results],
        [result.empty.all() for result in results],
        [not result.survivors[-1] for result in results],
        [job.threshold.tau == formats.TAU_KEEP_ALL for job in jobs],
        [job.threshold.target > 0 for job in jobs],
        # The bound decides, and keeps some keys that tau alone would not.
        [
            job.threshold.epsilon_shift > 0
            and result.survivors.sum() > bare.survivors.sum() > 0
            and result.dropped.any()
            for job, result, bare in zip(jobs, results, unbound, strict=True)
        ],
        [job.state is not None and (job.state.total == 0).all() for job in jobs],
    ):
        assert 3 <= sum(wanted) < len(jobs)


def test_random_jobs_share_values_where_the_core_can():
    rng = np.random.default_rng(0)
    for config in CONFIGS.values():
        jobs = [random_job(rng, config, 20) for _ in range(60)]
        share = sum(job.shared for job in jobs) / len(jobs)
        assert 0.3 < share < 0.7 if config.shared_values else share == 0
    assert any(config.shared_values for config in CONFIGS.values())


def test_random_jobs_go_on_from_each_other_s_tau():
    rng = np.random.default_rng(5)
    continued = 0
    for _ in range(30):
        jobs = random_jobs(rng, TINY, 5, 30)
        tau = formats.TAU_KEEP_ALL
        for job in jobs:
            continued += job.continue_tau
            assert not job.continue_tau or job.threshold.tau == tau
            tau = left_tau(job, run_job(job, TINY.lanes))
    assert 30 < continued < 120
    bare = replace(TINY, rows_per_budget=0, target_control=0)
    for job in random_jobs(rng, bare, 40, 30):
        assert (job.continue_tau, job.threshold.target, job.threshold.epsilon_shift) == (False, 0, 0)


def test_faults_cover_every_status_but_ok():
    """On every core, however small, a fault of each kind is answered by the status that is named for it."""
    rng = np.random.default_rng(1)
    for config in CONFIGS.values():
        expected = {kind: {faulty_job(rng, config, kind)[1].status for _ in range(5)} for kind in faults_of(config)}
        assert all(len(found) == 1 for found in expected.values())
        impossible = {
            Status.OK: True,
            Status.EPSILON: config.rows_per_budget > 0,
            Status.TARGET: config.target_control == 1,
            Status.SHARED: config.shared_values == 1,
            Status.KEY_TIMEOUT: config.key_timeout == 0,
            # Not said by a core.
            Status.PART: True,
        }
        assert set().union(*expected.values()) == {status for status in Status if not impossible.get(status)}
    assert set().union(*map(faults_of, CONFIGS.values())) == set(FAULTS)


@given(SEEDS, st.sampled_from([(core, kind) for core, config in CONFIGS.items() for kind in faults_of(config)]))
@settings(max_examples=150)
def test_a_faulty_job_is_wrong_in_the_way_it_says(seed, fault):
    core, kind = fault
    config = CONFIGS[core]
    words, expectation = faulty_job(np.random.default_rng(seed), config, kind, tau=500)
    job = expectation.job
    right = stimulus(job, config)
    status = expectation.status
    queries, keys, states = len(right.query), len(right.key), len(right.state)
    key_beats = [word for word in words.key if word is not None]
    whole_keys = len(key_beats) // config.head_beats(job.head_dim)
    # Only the last word of a stream says that it is: framing stays intact.
    for sent, layout, ends in (
        (words.query, interfaces.query_layout(config), 1),
        (key_beats, interfaces.key_layout(config), 0 if status == Status.KEY_TIMEOUT else 1),
        (words.state, interfaces.state_layout(config), bool(words.state)),
    ):
        flags = [word >> layout["last"].offset & 1 for word in sent]
        assert (sum(flags), sum(flags[-1:])) == (ends, ends)
    wrong = {name: value for name, value in words.fields.items() if value != right.fields[name]}
    limits = {
        Status.HEAD_DIM: ("head_dim", config.max_head_dim),
        Status.VALUE_DIM: ("value_dim", config.max_value_dim),
        Status.ROWS: ("rows", config.rows),
        Status.KEYS: ("keys", config.max_keys),
    }
    if kind == "beyond_key":
        assert set(wrong) <= {"shared", "value_dim"}
        assert words.fields["shared"] == 1
        assert words.fields["value_dim"] > words.fields["head_dim"]
    elif status in limits:
        name, largest = limits[status]
        assert set(wrong) == {name}
        assert wrong[name] == 0 or wrong[name] > largest
        assert job_word(words.fields, config) != job_word(right.fields, config)
    elif status == Status.MASK:
        assert words.fields["mask"] == 3 or (words.fields["mask"] == 2 and words.fields["window"] == 0)
    elif status == Status.TAU:
        assert words.fields["tau"] < formats.TAU_MIN
    elif status in (Status.EPSILON, Status.TARGET):
        assert set(wrong) == {kind}
        assert wrong[kind] > 0
    elif status == Status.SHARED:
        assert (wrong, config.shared_values) == ({"shared": 1}, 0)
    elif status == Status.QUERY_LENGTH:
        assert (len(words.query) != queries, wrong) == (True, {})
    elif status == Status.STATE_LENGTH:
        assert (len(words.state) != states, wrong) == (True, {})
        assert words.fields["from_state"] == 1
    elif status == Status.KEY_EARLY:
        announced = words.fields["keys"] * config.head_beats(job.head_dim)
        assert len(words.key) < announced
        assert len(expectation.result.survivors) == whole_keys
    elif status == Status.KEY_TIMEOUT:
        # Silence in the place of the first beat that doesn't come.
        assert words.key == [*right.key[: len(key_beats)], None]
        assert len(expectation.result.survivors) == whole_keys
    else:
        assert status == Status.KEY_LATE
        assert len(words.key) > keys
        assert len(expectation.result.survivors) == job.keys
    assert (expectation.result is None) == (Status.HEAD_DIM <= status <= Status.STATE_LENGTH)


def test_random_runs_mix_cores_stalls_and_faults():
    runs = [random_run(seed) for seed in range(60)]
    assert {name for name, _ in runs} == set(CONFIGS)
    assert {batch.stall for _, batch in runs} == {0.0, 0.1, 0.5, 0.8}
    assert {batch.memory.latency for _, batch in runs} == {1, 2, 7, 60}
    statuses = [expectation.status for _, batch in runs for expectation in batch.expectations]
    assert 0.5 * FAULT_SHARE < np.mean([status != Status.OK for status in statuses]) < 2 * FAULT_SHARE
    assert all(1 <= len(batch.stimuli) == len(batch.expectations) <= 8 for _, batch in runs)
    assert {name for name, _ in (random_run(seed, "one row") for seed in range(9))} == {"one row"}


# Measurement


def test_a_measurement_is_arithmetic_on_what_moved():
    jobs = [plain_job(), plain_job(rows=2, keys=4)]
    results = [run_job(job, TINY.lanes) for job in jobs]
    records = [
        record_word(TINY, **record_of(job, result, cycles=[10 * n + use for use in range(7)]))
        for n, (job, result) in enumerate(zip(jobs, results, strict=True), start=1)
    ]
    traffic = {
        "job": Traffic(2, 1, 3),  # Neither the job's arrival nor its record's departure counts.
        "q": Traffic(10, 7, 40),
        "state": Traffic(),
        "k": Traffic(26, 9, 95),
        "v_req": Traffic(12, 12, 99),
        "v": Traffic(20, 13, 100),
        "o": Traffic(25, 60, 206),
        "stats": Traffic(2, 61, 300),
    }
    measurement = Measurement.of(TINY, jobs, results, Recording([], records, [], traffic))
    kept = [int(result.survivors.sum()) for result in results]
    assert measurement.cycles == 200
    assert measurement.uses == {use: 30 + 2 * use for use in ArrayUse}
    assert measurement.macs == 3 * (9 * 6 + kept[0] * 5) + 2 * (4 * 6 + kept[1] * 5)
    assert measurement.utilisation == measurement.macs / 3200
    assert measurement.taus == [100, 100]
    assert measurement.bytes == {"q": 40, "state": 0, "k": 104, "v_req": 48, "v": 80, "o": 50}


def test_bytes_of_a_beat_follow_the_lanes():
    config = CoreConfig(lanes=32, output_lanes=8, score_slots=64)
    assert {port: config.beat_bytes(port) for port in ("q", "k", "v", "v_req", "o", "state")} == {
        "q": 32,
        "k": 32,
        "v": 32,
        "v_req": 4,
        "o": 16,
        "state": 16,
    }


def test_traffic_notes_the_first_and_the_last_transfer():
    traffic = Traffic()
    for cycle in (5, 6, 11):
        traffic.count(cycle)
    assert traffic == Traffic(3, 5, 11)


# Report


def figures(tau: float | None, **changes: object) -> dict:
    return {
        "tau": tau,
        "snr_db": 49.26,
        "max_error": 0.0012345,
        "survivors": 0.98765,
        "cycles": 12345,
        "utilisation": 0.87654,
        "bytes": {"v": 678},
    } | changes


def test_a_summary_is_a_table_in_three_formats(tmp_path):
    points = [figures(None), figures(4.5, survivors=0.5, bytes={"v": 9}), figures(12.0, snr_db=float("inf"))]
    text = write_summary(tmp_path / "new" / "x", {"points": points, "name": "Ω"}, points)
    assert text.splitlines() == [
        "| tau (bits) | SNR (dB) | largest error | survivors | cycles | utilisation | value bytes |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| all | 49.3 | 0.00123 | 98.8% | 12345 | 87.7% | 678 |",
        "| 4.5 | 49.3 | 0.00123 | 50.0% | 12345 | 87.7% | 9 |",
        "| 12 | inf | 0.00123 | 98.8% | 12345 | 87.7% | 678 |",
    ]
    assert (tmp_path / "new" / "x.md").read_text() == text + "\n"
    assert (tmp_path / "new" / "x.csv").read_bytes().decode().split("\n") == [
        "tau,snr_db,max_error,survivors,cycles,utilisation,value_bytes",
        ",49.26,0.0012345,0.98765,12345,0.87654,678",
        "4.5,49.26,0.0012345,0.5,12345,0.87654,9",
        "12.0,inf,0.0012345,0.98765,12345,0.87654,678",
        "",
    ]
    written = (tmp_path / "new" / "x.json").read_text()
    assert '"snr_db": null' in written
    assert "Infinity" not in written


def test_a_summary_that_cannot_be_written_is_refused(tmp_path):
    for suffix in (".md", ".csv", ".json"):
        stem = tmp_path / suffix[1:]
        stem.with_suffix(suffix).mkdir()
        with pytest.raises(InputError, match=rf"\{suffix} can't be written: Is a directory"):
            write_summary(stem, {}, [])


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("a/x", ("a/x.md", "a/x.csv", "a/x.json")),
        ("x.csv", ("x.md", "x.csv", "x.json")),
        ("tau4.5", ("tau4.5.md", "tau4.5.csv", "tau4.5.json")),
        (".x", (".x.md", ".x.csv", ".x.json")),
    ],
)
def test_a_summary_is_called_what_the_stem_says(stem, names):
    assert summary_files(Path(stem)) == tuple(map(Path, names))


# Runner


def test_a_simulator_is_known_by_configuration_sources_tools_and_tracing(tmp_path, monkeypatch):
    changes = {
        "rows": 8,
        "lanes": 8,
        "max_head_dim": 60,
        "max_value_dim": 60,
        "max_keys": 32,
        "output_lanes": 2,
        "rows_per_scaler": 1,
        "score_slots": 64,
        "tag_bits": 15,
        "key_timeout": 99,
        "shared_values": 1,
        "rows_per_budget": 2,
        "target_control": 0,
    }
    prints = {runner._fingerprint(TINY, waves) for waves in (False, True)}
    for name in TINY.to_dict():
        prints.add(runner._fingerprint(replace(TINY, **{name: changes[name]}), False))
    assert len(prints) == 2 + len(TINY.to_dict())
    assert runner._fingerprint(TINY, False) == runner._fingerprint(replace(TINY), False)

    sources = {}
    for package in (golden, rtl):
        folder = tmp_path / package.__name__
        folder.mkdir()
        sources[package] = folder / "source.py"
        sources[package].write_text("1")
        monkeypatch.setattr(package, "__file__", str(folder / "__init__.py"))
    prints = [runner._fingerprint(TINY, False)]
    for source in sources.values():
        source.write_text("2")
        prints.append(runner._fingerprint(TINY, False))
    monkeypatch.setattr(runner, "version", lambda name: f"{name} 99")
    prints.append(runner._fingerprint(TINY, False))
    assert len(set(prints)) == 4


def test_a_simulator_is_built_once(tmp_path, monkeypatch):
    built = []

    def build(config: CoreConfig, folder: Path, waves: bool, top: str) -> None:
        built.append((config, waves))
        if len(built) == 1:
            raise SimulationError("no")

    monkeypatch.setattr(runner, "BUILD_ROOT", tmp_path / "sim")
    monkeypatch.setattr(runner, "_build", build)
    with pytest.raises(SimulationError, match="no"):
        runner.build(TINY)
    folder = runner.build(TINY)
    assert runner.build(TINY) == folder
    assert folder.parent == tmp_path / "sim"
    assert built == [(TINY, False), (TINY, False)]
    assert runner.build(TINY, waves=True) != folder


def test_a_build_folder_that_cannot_be_made_is_bad_input(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(runner, "BUILD_ROOT", tmp_path / "file" / "sim")
    with pytest.raises(InputError, match="can't be written: Not a directory"):
        runner.build(TINY)


PASSED = '<testcase name="a" />'
FAILED = '<testcase name="b"><failure error_type="AssertionError" error_msg="row 3 &amp; more" /></testcase>'
PLAIN = '<testcase name="c"><failure message="stopped" /></testcase>'
BARE = '<testcase name="d"><failure /></testcase>'


@pytest.mark.parametrize(
    ("cases", "failure"),
    [
        (PASSED, None),
        (PASSED * 3, None),
        ("", "no test ran"),
        (PASSED + FAILED + PLAIN, "row 3 & more"),
        (PASSED + PLAIN + FAILED, "stopped"),
        (BARE, "failed"),
    ],
)
def test_the_first_failure_of_a_results_file_is_the_message(cases, failure, tmp_path):
    results = tmp_path / "results.xml"
    results.write_text(f'<testsuites name="results"><testsuite name="all">{cases}</testsuite></testsuites>')
    assert runner._first_failure(results) == failure


def test_no_results_file_is_a_failure(tmp_path):
    assert runner._first_failure(tmp_path / "results.xml") == "the simulator stopped before its tests were done"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_while(file: Path, stream: io.StringIO, wait: float, monkeypatch) -> str:
    """Return what the progress of a simulation of 7 jobs, 3 of them done, shows on `stream`, its waits cut short."""
    monkeypatch.setattr(sys, "stderr", stream)
    intervals = []

    class Quick(runner.Event):
        def wait(self, timeout: float | None = None) -> bool:
            intervals.append(timeout)
            return super().wait(0.01)

    monkeypatch.setattr(runner, "Event", Quick)
    monkeypatch.setenv(runner.WORK_VARIABLE, str(file.parent))
    with runner._progress(file, 7):
        for _ in range(3):
            runner.report_progress()
        deadline = time.monotonic() + 10
        while "3 of 7" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert set(intervals) == {wait}
    return stream.getvalue()


def test_progress_is_a_running_count_on_a_terminal(tmp_path, monkeypatch):
    text = shown_while(tmp_path / "progress", Terminal(), 1, monkeypatch)
    assert re.fullmatch(r"(\rsimulating: \d of 7 jobs)+\r\033\[K", text)
    assert "3 of 7" in text


def test_progress_is_lines_now_and_then_elsewhere(tmp_path, monkeypatch):
    text = shown_while(tmp_path / "progress", io.StringIO(), 30, monkeypatch)
    assert re.fullmatch(r"(simulating: \d of 7 jobs\n)+", text)
    assert "3 of 7" in text


def test_progress_ends_with_what_it_is_shown_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    before = time.monotonic()
    with pytest.raises(KeyError), runner._progress(tmp_path / "progress", 7):
        raise KeyError
    assert time.monotonic() - before < 5
    assert sys.stderr.getvalue() == ""


def test_the_tools_environment_is_left_as_it_was(monkeypatch, capsys):
    monkeypatch.setenv("VERILATOR_ROOT", "elsewhere")
    before = dict(os.environ)

    def fail() -> None:
        with runner._tools():
            assert "VERILATOR_ROOT" not in os.environ
            print("the runner's chatter")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert dict(os.environ) == before
    assert capsys.readouterr().out == ""


def test_stimuli_compare_by_their_words():
    job = plain_job()
    assert stimulus(job, TINY) == stimulus(job, TINY) != stimulus(replace(job, tag=1), TINY)
    assert isinstance(stimulus(job, TINY), Stimulus)


def test_a_job_that_the_core_cannot_hold_has_no_words():
    with pytest.raises(InputError, match="rows is 5; this configuration holds at most 4"):
        stimulus(plain_job(rows=5), TINY)
