"""Accumulators of both contexts: against golden, at the closest beats there can be, and when they can be read."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from job_pieces import JobPieces, random_pieces
from rtl_bench import context, trace

from golden import formats
from golden.config import CoreConfig
from rtl.dot_array import sum_bits, tree_stages
from rtl.exponential import EXPONENTIAL_STAGES
from rtl.output_accumulator import READ_LATENCY, OutputAccumulator

EMPTY_PACK_CYCLES = 2
"""From taking one pack to an empty one that is ready: a cycle to accept it, a cycle to present it."""


def config_of(lanes: int, output_lanes: int = 2) -> CoreConfig:
    return CoreConfig(
        rows=3,
        lanes=lanes,
        max_head_dim=32,
        max_value_dim=32,
        max_keys=64,
        output_lanes=output_lanes,
        rows_per_scaler=3,
        score_slots=64,
    )


def sum_latency(config: CoreConfig) -> int:
    """Cycles from the issue of a beat to its sums."""
    return 3 + tree_stages(config.lanes)


def done_latency(config: CoreConfig) -> int:
    """Cycles from the issue of a job's last beat to `done`: a cycle to write, one more until it can be read."""
    return sum_latency(config) + 2


class Schedule:
    """Inputs by cycle, and what is to be seen when."""

    def __init__(self, config: CoreConfig):
        self.config = config
        self.inputs: dict[int, dict[str, Any]] = defaultdict(dict)
        self.expected: dict[int, tuple[int, list[int]]] = {}
        """What a read issued in a cycle must give: how many lanes count, and all lanes."""
        self.done: dict[int, int] = {}
        self.contexts = [context(config), context(config)]
        self.next_beat = 0
        self.next_read = 0
        self._last_full: int | None = None

    def clear(self, cycle: int, ctx: int, from_state: bool) -> None:
        """Start a job."""
        self.contexts = [dict(fields) for fields in self.contexts]
        self.contexts[ctx]["from_state"] = int(from_state)
        self.inputs[cycle] |= {"clear": 1 << ctx, "contexts": self.contexts}

    def load(self, cycle: int, ctx: int, accumulator: np.ndarray) -> int:
        """Write a state; return the cycle after it."""
        lanes = self.config.output_lanes
        for row, elements in enumerate(accumulator.tolist()):
            for word, start in enumerate(range(0, len(elements), lanes)):
                part = {"enable": 1, "ctx": ctx, "row": row, "word": word, "elements": elements[start : start + lanes]}
                self.inputs[cycle]["state_word"] = part
                cycle += 1
        return cycle

    def pack(self, cycle: int, ctx: int, deltas: list[int], sums: np.ndarray, last: bool) -> int:
        """Issue a pack, an empty one if `sums` has no column, not before `cycle`; return the cycle of its last beat."""
        cycle = max(cycle, self.next_beat)
        empty = sums.shape[1] == 0
        if not empty and self._last_full is not None:
            cycle = max(cycle, self._last_full + self.config.lanes + EXPONENTIAL_STAGES + 1)
        beats = max(1, sums.shape[1])
        for u in range(beats):
            beat = {"valid": 1, "ctx": ctx, "element": u, "first": int(u == 0), "null": int(empty)}
            self.inputs[cycle + u]["beat"] = beat | {"final": int(last and u == beats - 1)}
            if not empty:
                rows = sums[:, u].tolist() + [12345] * (self.config.rows - len(sums))
                self.inputs[cycle + u + sum_latency(self.config)]["sums"] = rows
        self.inputs[cycle]["deltas"] = deltas + [1] * (self.config.rows - len(deltas))
        self.next_beat = cycle + max(beats, EMPTY_PACK_CYCLES)
        if not empty:
            self._last_full = cycle
        if last:
            self.done[cycle + beats - 1 + done_latency(self.config)] = 1 << ctx
        return cycle + beats - 1

    def read(self, cycle: int, ctx: int, accumulator: np.ndarray) -> int:
        """Read every word from a cycle on, what was written last at first; return the cycle in which all are out."""
        lanes = self.config.output_lanes
        cycle = max(cycle, self.next_read)
        words = [(row, word) for row in range(len(accumulator)) for word in range(-(-accumulator.shape[1] // lanes))]
        for row, word in reversed(words):
            self.inputs[cycle] |= {"read_ctx": ctx, "read_row": row, "read_word": word}
            part = accumulator[row, word * lanes : (word + 1) * lanes].tolist()
            self.expected[cycle + READ_LATENCY] = (len(part), part)
            cycle += 1
        self.next_read = cycle
        return cycle + READ_LATENCY

    def check(self) -> None:
        """Run it all."""
        stimulus, contexts = [], [context(self.config)] * 2
        for cycle in range(max(self.inputs) + READ_LATENCY + done_latency(self.config) + 2):
            inputs = self.inputs.get(cycle, {})
            contexts = inputs.get("contexts", contexts)
            stimulus.append(inputs | {"contexts": contexts})
        seen = trace(OutputAccumulator(self.config), stimulus, ("done", "elements"))
        for cycle, (lanes, part) in self.expected.items():
            assert seen[cycle][1][:lanes] == part, f"in cycle {cycle}"
        assert {cycle: done for cycle, (done, _) in enumerate(seen) if done} == self.done


def run_jobs(config: CoreConfig, jobs: list[JobPieces], gap: int) -> None:
    """Run jobs in both contexts in turn, their packs `gap` cycles later than they could be."""
    schedule = Schedule(config)
    free = [0, 0]
    ready = 0
    for n, pieces in enumerate(jobs):
        ctx = n % 2
        # One loader fills both contexts, one after the other.
        start = max(free[ctx], ready)
        schedule.clear(start, ctx, pieces.job.state is not None)
        ready = start + 1
        if pieces.job.state is not None:
            ready = schedule.load(ready, ctx, pieces.start.accumulator)
        for pack in pieces.packs:
            sums = pieces.sums(pack) if pack.keys else np.zeros((pieces.job.rows, 0), dtype=np.int64)
            end = schedule.pack(max(ready, schedule.next_beat + gap), ctx, pack.deltas, sums, pack.last)
        free[ctx] = schedule.read(end + done_latency(config), ctx, pieces.result.state.accumulator)
    schedule.check()


@pytest.mark.parametrize("output_lanes", [1, 2, 4])
@pytest.mark.parametrize("gap", [0, 3])
def test_random_jobs(output_lanes: int, gap: int):
    config = config_of(4, output_lanes)
    jobs = random_pieces(31, config, 16, max_keys=30)
    run_jobs(config, jobs, gap)
    assert any(pieces.job.state is not None for pieces in jobs)
    assert any(not pieces.result.packs for pieces in jobs)


@pytest.mark.parametrize("lanes", [8, 16, 32])
def test_random_jobs_of_longer_trees(lanes: int):
    config = config_of(lanes)
    run_jobs(config, random_pieces(lanes, config, 10, max_keys=60), 0)


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
@pytest.mark.parametrize("value_dim", [1, 2, 3])
def test_the_closest_packs_on_the_same_element(lanes: int, value_dim: int):
    """Packs as close as the exponentials let them be, and the empty one that ends the job right behind."""
    config = config_of(lanes)
    rng = np.random.default_rng(value_dim)
    schedule = Schedule(config)
    schedule.clear(0, 0, False)
    accumulator = np.zeros((3, value_dim), dtype=np.int64)
    for deltas in ([63, 0, 5], [3, 0, 9], [2, 1, 8]):
        sums = rng.integers(-(1 << 17), 1 << 17, (3, value_dim))
        accumulator = (accumulator >> np.array(deltas)[:, None]) + sums
        schedule.pack(1, 0, deltas, sums, False)
    end = schedule.pack(1, 0, [0, 0, 0], np.zeros((3, 0), dtype=np.int64), True)
    schedule.read(end + done_latency(config), 0, accumulator)
    schedule.check()


def test_every_delta_shifts_the_extreme_accumulators():
    """Rounding down, to -1 at last for what is negative."""
    config = config_of(4)
    schedule = Schedule(config)
    largest = (1 << (config.accumulator_bits - 1)) - 1
    start = np.array([[largest, -largest - 1], [-1, 1], [4095 * -128, 12345]])
    cycle = 0
    for n, delta in enumerate(range(formats.DELTA_MAX + 1)):
        schedule.clear(cycle, n % 2, True)
        ready = schedule.load(cycle + 1, n % 2, start)
        end = schedule.pack(ready, n % 2, [delta] * 3, np.zeros((3, 2), dtype=np.int64), True)
        cycle = schedule.read(end + done_latency(config), n % 2, start >> delta)
    schedule.check()


def test_the_largest_sum_and_accumulator_fit():
    config = config_of(4)
    full_pack = config.lanes * (formats.PROBABILITY_ONE - 1)
    packs = config.max_keys // config.lanes
    schedule = Schedule(config)
    schedule.clear(0, 1, False)
    for n in range(packs):
        sums = np.array([[-128 * full_pack], [127 * full_pack], [0]])
        end = schedule.pack(1, 1, [0] * 3, sums, n == packs - 1)
    schedule.read(end + done_latency(config), 1, sums * packs)
    schedule.check()
    assert 128 * full_pack <= 1 << (sum_bits(config.lanes) - 1)
    assert 128 * full_pack * packs <= 1 << (config.accumulator_bits - 1)


def test_a_job_that_adds_nothing_reads_as_zero_whatever_was_there():
    """Unless it came with a state, which then stays as it is."""
    config = config_of(4)
    schedule = Schedule(config)
    nothing = np.zeros((3, 0), dtype=np.int64)
    state = np.arange(12).reshape(3, 4) - 5
    cycle = 0
    for from_state, accumulator in ((True, state), (False, 0 * state), (True, 7 * state), (False, 0 * state)):
        schedule.clear(cycle, 0, from_state)
        ready = schedule.load(cycle + 1, 0, accumulator) if from_state else cycle + 1
        end = schedule.pack(ready, 0, [0] * 3, nothing, True)
        cycle = schedule.read(end + done_latency(config), 0, accumulator)
    schedule.check()
