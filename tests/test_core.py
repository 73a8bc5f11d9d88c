"""The whole core on Verilator, bit for bit against golden."""

import re
from dataclasses import replace

import numpy as np
import pytest
from golden_cases import ADVERSARIAL, job_of_logits, lost_share

from golden import formats
from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.job import Job, ScoreScale
from golden.masks import Mask, MaskKind
from golden.memory import Memory
from golden.state import PartialState, merge
from golden.threshold import Threshold
from rtl.interfaces import ArrayUse
from sim.core_testbench import Batch
from sim.faults import FAULTS, faults_of, faulty_job
from sim.random_jobs import left_tau, random_job
from sim.runner import SimulationError
from sim.scoreboard import Expectation
from sim.simulate import Measurement, batch_of, simulate
from sim.soak import CONFIGS, random_run, soak
from sim.stimulus import stats_record, stimulus

TINY = PRESETS["tiny"]
RUNS_A_CORE = 30


def int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, size=shape).astype(np.int8)


def plain_job(rng: np.random.Generator, rows: int, keys: int, head_dim: int, value_dim: int, **changes) -> Job:
    job = Job(
        query=int8(rng, rows, head_dim),
        positions=np.arange(rows, dtype=np.int64),
        key=int8(rng, keys, head_dim),
        indices=np.arange(keys, dtype=np.int64),
        value=int8(rng, keys, value_dim),
        scale=ScoreScale.of(2.0**-9),
    )
    return replace(job, **changes)


@pytest.mark.parametrize("core", CONFIGS)
def test_random_runs_are_bit_exact(core):
    assert soak(range(1000, 1000 + RUNS_A_CORE), core) == {core: RUNS_A_CORE}


def test_a_seed_gives_the_same_run_again():
    (name, first), (other, second) = random_run(7), random_run(7)
    assert (name, first.stimuli, first.stall, first.memory) == (other, second.stimuli, second.stall, second.memory)
    assert first.stimuli != random_run(8)[1].stimuli


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_answered_and_the_next_job_is_right(kind):
    rng = np.random.default_rng(3)
    cores = (CONFIGS["few rows"], CONFIGS["one row"])
    config = next(core for core in cores if kind in faults_of(core))
    stimuli, expectations = [], []
    tau = formats.TAU_KEEP_ALL
    for _ in range(6):
        words, expectation = faulty_job(rng, config, kind, 60, tau)
        # A job that was rejected leaves no tau; one that was cut leaves that of the keys that came.
        tau = tau if expectation.result is None else left_tau(expectation.job, expectation.result)
        good = random_job(rng, config, 30, tau=tau)
        result = run_job(good, config.lanes)
        tau = left_tau(good, result)
        stimuli += [words, stimulus(good, config)]
        expectations += [expectation, Expectation("good job", good, result)]
    simulate(config, [Batch(f"{kind}, stall {stall}", stimuli, expectations, stall=stall) for stall in (0.0, 0.4)])


def sharing(job: Job, value_dim: int | None = None) -> Job:
    """Return `job` with values that are the first elements of its keys."""
    return replace(job, value=job.key[:, :value_dim], shared=True)


def test_faults_of_jobs_that_share_their_values():
    """A key cut short, none at all, or a state that does not end leaves nothing behind in the key capture."""
    rng = np.random.default_rng(4)
    config = CONFIGS["one row"]
    stimuli, expectations = [], []
    for kind in ("key_early", "state_length", "beyond_key", "key_late", "key_timeout", "key_early", "state_length"):
        words, expectation = faulty_job(rng, config, kind, 30)
        while not expectation.job.shared:
            words, expectation = faulty_job(rng, config, kind, 30)
        good = sharing(plain_job(rng, config.rows, 40, config.max_head_dim, 1, threshold=Threshold(300)))
        stimuli += [words, stimulus(good, config)]
        expectations += [expectation, Expectation("good job", good, run_job(good, config.lanes))]
    batches = [Batch(f"shared, stall {stall}", stimuli, expectations, stall=stall) for stall in (0.0, 0.4)]
    simulate(config, batches)


def decode_of(rng: np.random.Generator, config: CoreConfig, tau: int) -> list[Job]:
    """Return decode steps of one query over keys of their own, which are their values as well."""
    dim = min(config.max_head_dim, config.max_value_dim)
    scale = ScoreScale.of(2.0**-7 / dim**0.5)
    jobs = [plain_job(rng, 1, 24 * config.lanes, dim, dim, scale=scale, threshold=Threshold(tau)) for _ in range(3)]
    return [sharing(job) for job in jobs]


@pytest.mark.parametrize("core", ["one row", "unequal"])
def test_shared_values_halve_the_traffic_of_decode_and_cost_no_cycle(capsys, core):
    config = CONFIGS[core]
    rng = np.random.default_rng(17)
    lists = {}
    for tau in (formats.TAU_KEEP_ALL, 2 << formats.FRACTION_BITS):
        shared = decode_of(rng, config, tau)
        lists[tau, "fetched"], lists[tau, "shared"] = [replace(job, shared=False) for job in shared], shared
    results = {key: [run_job(job, config.lanes) for job in jobs] for key, jobs in lists.items()}
    recordings = simulate(config, [batch_of(config, jobs, f"{key}", results[key]) for key, jobs in lists.items()])
    table = {}
    for (key, jobs), recording in zip(lists.items(), recordings, strict=True):
        kept = np.mean([result.survivors.mean() for result in results[key]])
        table[kept, key[1]] = Measurement.of(config, jobs, results[key], recording)
    with capsys.disabled():
        print(f"\n  decode on core '{core}'")
        print("  values   survivors  cycles  bytes of k       v  v_req     all")
        for (kept, name), measured in table.items():
            moved = measured.bytes
            figures = f"{moved['k']:12}{moved['v']:8}{moved['v_req']:7}{sum(moved.values()):8}"
            print(f"  {name:8}{kept:10.1%}{measured.cycles:8}{figures}")
    (dense, dropping) = sorted({kept for kept, _ in table}, reverse=True)
    assert dense == 1 > dropping
    for kept in (dense, dropping):
        shared, fetched = table[kept, "shared"], table[kept, "fetched"]
        assert (shared.bytes["v"], shared.bytes["v_req"]) == (0, 3 * 4)
        assert shared.cycles == fetched.cycles
        assert shared.uses == fetched.uses
    assert sum(table[1, "shared"].bytes.values()) <= 0.5 * sum(table[1, "fetched"].bytes.values())


def test_no_row_loses_more_than_its_bound(figure):
    """Thousands of keys in rows that attack alone, and in some that do so together, by the values asked for."""
    logits = {name: [row] for name, row in ADVERSARIAL.items()}
    logits["maxima in turn"] = [[900] * n + [1000] + [890 - n] * (1499 - n) for n in (0, 3, 30, 300)]
    shifts = (1, 3, 7, 1, 5, 2, 2)
    jobs = [
        job_of_logits(rows, tau=formats.TAU_MIN, epsilon_shift=shift)
        for rows, shift in zip(logits.values(), shifts, strict=True)
    ]
    (recording,) = simulate(TINY, [batch_of(TINY, jobs, "adversarial")])
    for name, job, requests in zip(logits, jobs, recording.requests, strict=True):
        kept, bound = np.isin(job.indices, requests), job.threshold.largest_loss
        lost = lost_share(job, kept)
        assert np.all(lost <= bound), name
        figure(
            f"error bound {bound:.4f}, {name}: {kept.mean():.1%} of {len(kept)} keys kept, "
            f"the worst row loses {lost.max():.4f}"
        )
        # The bound is used, not just kept, where there is anything to drop.
        assert kept.all() == (name == "rising")
        assert lost.max() > 0.85 * bound or name == "rising"


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (4, 1, 64, 64), (4, 300, 1, 1), (2, 9, 5, 3), (3, 64, 64, 1)])
def test_extreme_shapes(shape):
    rng = np.random.default_rng(sum(shape))
    jobs = [
        plain_job(rng, *shape),
        plain_job(rng, *shape, threshold=Threshold(formats.TAU_MIN)),
        plain_job(rng, *shape, emit_state=True),
    ]
    simulate(TINY, [batch_of(TINY, jobs, f"shape {shape}"), batch_of(TINY, jobs, f"shape {shape}", stall=0.5)])


def test_saturating_scores():
    rng = np.random.default_rng(5)
    jobs = [
        plain_job(rng, 4, 40, 64, 8, scale=ScoreScale((1 << 16) - 1, shift), threshold=Threshold(tau))
        for shift in (0, 5, 12)
        for tau in (formats.TAU_MIN, 400, formats.TAU_KEEP_ALL)
    ]
    assert min(run_job(job, TINY.lanes).saturated for job in jobs) > 0
    simulate(TINY, [batch_of(TINY, jobs, "saturating")])


def test_rows_that_may_attend_to_nothing_are_zero_and_flagged():
    rng = np.random.default_rng(6)
    partly = plain_job(
        rng,
        4,
        12,
        8,
        8,
        mask=Mask(MaskKind.CAUSAL),
        indices=np.arange(2, 14, dtype=np.int64),
        threshold=Threshold(formats.TAU_MIN),
    )
    wholly = replace(partly, indices=partly.indices + 10)
    jobs = [partly, wholly, replace(wholly, emit_state=True), partly]
    (recording,) = simulate(TINY, [batch_of(TINY, jobs, "masked")])
    empty = [stats_record(word, TINY)["empty"] for word in recording.records]
    assert empty == [0b0011, 0b1111, 0b1111, 0b0011]


def test_a_split_job_chains_and_merges_through_the_core():
    rng = np.random.default_rng(7)
    whole = plain_job(rng, 4, 90, 32, 20, threshold=Threshold(300))
    cuts = [slice(0, 31), slice(31, 64), slice(64, 90)]
    parts = [
        replace(whole, key=whole.key[c], indices=whole.indices[c], value=whole.value[c], emit_state=True) for c in cuts
    ]
    states = [run_job(part, TINY.lanes).state for part in parts]
    continued = replace(parts[1], state=states[0])
    merged = merge(merge(states[0], states[1]), states[2])
    finished = replace(parts[2], state=merged, emit_state=False)
    simulate(TINY, [batch_of(TINY, [*parts, continued, finished], "chain", stall=stall) for stall in (0.0, 0.3)])


def test_grouped_decode_with_all_rows_at_one_position():
    rng = np.random.default_rng(8)
    job = plain_job(
        rng,
        4,
        70,
        64,
        64,
        positions=np.full(4, 60, dtype=np.int64),
        mask=Mask(MaskKind.WINDOW, 33),
        threshold=Threshold(256),
    )
    simulate(TINY, [batch_of(TINY, [job, job], "decode")])


def test_key_lanes_past_the_head_dimension_do_not_count():
    rng = np.random.default_rng(9)
    job = plain_job(rng, 4, 20, 5, 7)
    words = stimulus(job, TINY)
    # Beat 1 of each row holds one element; the other three lanes carry anything.
    words.key = [word | 0x5A5A5A00 if n % 2 else word for n, word in enumerate(words.key)]
    words.query = [word | 0xA5A5A500 if n % 2 else word for n, word in enumerate(words.query)]
    simulate(TINY, [Batch("stray lanes", [words], [Expectation("job", job, run_job(job, TINY.lanes))])])


def test_stalls_change_timing_only():
    rng = np.random.default_rng(10)
    jobs = [random_job(rng, TINY, 60) for _ in range(12)]
    recordings = simulate(
        TINY, [batch_of(TINY, jobs, f"stall {s}", stall=s, memory=Memory(latency=9), seed=4) for s in (0.0, 0.2, 0.7)]
    )
    assert recordings[0].packets == recordings[1].packets == recordings[2].packets
    assert recordings[0].requests == recordings[1].requests == recordings[2].requests
    assert recordings[0].traffic["o"].last_cycle < recordings[1].traffic["o"].last_cycle


def test_dense_jobs_leave_no_bubble():
    """Between the first key and the last score the array is used in every cycle, whatever the job boundaries."""
    rng = np.random.default_rng(11)
    config = CONFIGS["unequal"]
    jobs = [plain_job(rng, 6, 64, 24, 56) for _ in range(6)]
    results = [run_job(job, config.lanes) for job in jobs]
    (recording,) = simulate(config, [batch_of(config, jobs, "dense", results=results)])
    measurement = Measurement.of(config, jobs, results, recording)
    assert measurement.uses[ArrayUse.QK] == 6 * 64 * 3
    assert measurement.uses[ArrayUse.PV] == 6 * 8 * 56
    stalled = sum(measurement.uses[use] for use in (ArrayUse.WAIT_KEY, ArrayUse.WAIT_VALUE, ArrayUse.WAIT_SCORE))
    assert stalled == 0


def test_a_wrong_expectation_fails_and_says_where():
    rng = np.random.default_rng(12)
    job = plain_job(rng, 2, 10, 8, 8)
    result = run_job(job, TINY.lanes)
    output = result.output.copy()
    output[1, 3] += 1
    wrong = Expectation("head 5", job, replace(result, output=output))
    seen = re.escape(f"head 5: output row 1, element 3: expected {output[1, 3]}, saw {result.output[1, 3]} (1 differ)")
    with pytest.raises(SimulationError, match=seen):
        simulate(TINY, [Batch("wrong", [stimulus(job, TINY)], [wrong])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packs": 77}, "stats field packs: expected 77, saw 3"),
        ({"saturated": 5}, "stats field saturated: expected 5, saw 0"),
        ({"dropped": np.array([9, 9])}, r"stats field dropped: expected \[9, 9, 0, 0\]"),
        ({"survivors": np.zeros(10, dtype=bool)}, "values of 10 keys were asked for, expected 0"),
    ],
)
def test_wrong_statistics_fail(change, message):
    rng = np.random.default_rng(13)
    job = plain_job(rng, 2, 10, 8, 8)
    wrong = Expectation("job", job, replace(run_job(job, TINY.lanes), **change))
    with pytest.raises(SimulationError, match=message):
        simulate(TINY, [Batch("wrong", [stimulus(job, TINY)], [wrong])])


def test_a_missing_key_beat_is_a_hang_that_is_reported():
    rng = np.random.default_rng(14)
    job = plain_job(rng, 2, 10, 8, 8)
    words = stimulus(job, TINY)
    words.key = words.key[:-1]
    with pytest.raises(SimulationError, match="nothing moved for"):
        simulate(TINY, [Batch("hang", [words], [Expectation("job", job, run_job(job, TINY.lanes))])])


def test_an_empty_state_to_start_from_changes_nothing():
    rng = np.random.default_rng(15)
    job = plain_job(rng, 3, 21, 16, 9, threshold=Threshold(200))
    started = replace(job, state=PartialState.empty(3, 9))
    recording = simulate(TINY, [batch_of(TINY, [job, started], "identity")])[0]
    assert recording.packets[0] == recording.packets[1]


def test_reset_between_batches_recovers_the_core():
    """A core reset in the middle of jobs starts the next batch as if nothing had been."""
    rng = np.random.default_rng(16)
    job = plain_job(rng, 4, 30, 64, 64)
    good = batch_of(TINY, [job], "good")
    words = stimulus(job, TINY)
    first, second = simulate(TINY, [good, Batch("again", [words], good.expectations)])
    assert first.packets == second.packets


def test_core_configs_differ_in_every_parameter():
    for name in CoreConfig.__dataclass_fields__:
        values = {getattr(config, name) for config in CONFIGS.values()}
        assert len(values) > 1, f"{name} is the same in every core of the random runs"
