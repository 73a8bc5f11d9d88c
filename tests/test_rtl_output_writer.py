"""The output port: packets of both kinds against golden, under any back-pressure, and when they appear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from golden_cases import states
from job_pieces import padded
from rtl_bench import Bench, context, simulate
from stream_rules import Sink, Stall, at_random, flowing, until

from golden import formats
from golden.config import CoreConfig
from golden.state import PartialState, normalise
from rtl.divider import DIVIDER_LATENCY
from rtl.interfaces import STATE_PIECES, Status
from rtl.output_accumulator import READ_LATENCY
from rtl.output_writer import OUTPUT_FIFO_DEPTH, OutputWriter
from sim.stimulus import state_words

FIFO_LATENCY = 2
BEGIN_LATENCY = 2
"""From `done` to the first read: a cycle to note it, a cycle to start."""
ELEMENT_LATENCY = READ_LATENCY + DIVIDER_LATENCY + 1 + FIFO_LATENCY
"""From a read to the element on the port: with a register in front of the FIFO."""
PIECE_LATENCY = READ_LATENCY + 1 + FIFO_LATENCY


def config_of(output_lanes: int) -> CoreConfig:
    return CoreConfig(
        rows=3, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, output_lanes=output_lanes, rows_per_scaler=3
    )


@dataclass(frozen=True)
class Written:
    """A job as the writer sees it."""

    state: PartialState
    emit_state: bool
    rejected: bool
    tag: int

    def context(self, config: CoreConfig) -> dict[str, int]:
        rows, value_dim = self.state.accumulator.shape
        status = int(Status.STATE_LENGTH if self.rejected else Status.OK)
        return context(config, 1, value_dim, rows, status=status, emit_state=int(self.emit_state), tag=self.tag)

    def packet(self, config: CoreConfig) -> list[dict[str, Any]]:
        """Return the beats of the packet."""
        lanes = config.output_lanes
        if self.rejected:
            beats = [[0] * lanes]
        elif self.emit_state:
            beats = [[word >> 16 * lane & 0xFFFF for lane in range(lanes)] for word in state_words(self.state, config)]
        else:
            beats = []
            for row in normalise(self.state).tolist():
                row += [0] * (-len(row) % lanes)
                beats += [[x & 0xFFFF for x in row[start : start + lanes]] for start in range(0, len(row), lanes)]
        return [{"data": beat, "tag": self.tag, "last": int(n == len(beats) - 1)} for n, beat in enumerate(beats)]


class Accumulators:
    """Answers the writer's reads `READ_LATENCY` cycles later, as the accumulator memory does."""

    def __init__(self, bench: Bench, config: CoreConfig):
        self.bench, self.config = bench, config
        self.jobs: list[Written | None] = [None, None]
        self._pipeline: list[list[int]] = [[0] * config.output_lanes] * READ_LATENCY

    def answer(self) -> list[int]:
        """Return what is read now; call once a cycle."""
        lanes = self.config.output_lanes
        ctx, row, word = (self.bench.get(f"read_{name}") for name in ("ctx", "row", "word"))
        job = self.jobs[ctx]
        elements: list[int] = []
        if job is not None and row < len(job.state.accumulator):
            elements = job.state.accumulator[row, word * lanes : (word + 1) * lanes].tolist()
        # Past the last element the memory holds anything.
        self._pipeline.append(elements + [-1] * (lanes - len(elements)))
        return self._pipeline.pop(0)


def run(
    config: CoreConfig, jobs: list[Written], stall: Stall, wait: Callable[[int], int]
) -> tuple[Sink, list[int], dict[int, int]]:
    """Write jobs, job n done `wait(n)` cycles after it may be; return the sink and the cycles of done and finished."""
    finished: dict[int, int] = {}
    done: list[int] = []
    answer: list[Sink] = []
    beats = sum(len(job.packet(config)) for job in jobs)

    async def process(bench: Bench) -> None:
        sink = Sink(bench, "o", stall)
        memory = Accumulators(bench, config)
        due = wait(0)
        contexts, maxima, totals = [{}, {}], [[], []], [[], []]
        while len(sink.words) < beats or len(finished) < len(jobs):
            inputs: dict[str, Any] = {"elements": memory.answer()}
            n = len(done)
            # A context takes its next job when the one in it has been written.
            if n < len(jobs) and bench.cycle >= due and len(finished) >= n - 1:
                ctx, job = n % 2, jobs[n]
                memory.jobs[ctx] = job
                replaced = [
                    (contexts, job.context(config)),
                    (maxima, padded(job.state.maximum, config)),
                    (totals, padded(job.state.total, config)),
                ]
                for old, new in replaced:
                    old[ctx] = new
                bench.set({"contexts": list(contexts), "maxima": list(maxima), "totals": list(totals)})
                inputs["done"] = 1 << ctx
                done.append(bench.cycle)
                due = bench.cycle + 1 + wait(n + 1)
            bench.pulse(inputs)
            sink.step()
            pulse = bench.get("finished")
            if pulse:
                assert pulse == 1 << len(finished) % 2
                finished[len(finished)] = bench.cycle
            await bench.tick()
        for _ in range(ELEMENT_LATENCY + 5):
            bench.pulse({})
            assert not sink.step()
            await bench.tick()
        answer.append(sink)

    simulate(OutputWriter(config), process)
    return answer[0], done, finished


def random_written(seed: int, count: int) -> list[Written]:
    rng = np.random.default_rng(seed)
    jobs = []
    for tag in range(count):
        state = states(rng, int(rng.integers(1, 4)), int(rng.integers(1, 17)))
        if tag % 2:
            # The first row is then one that saw keys.
            state = PartialState(state.maximum[::-1], state.total[::-1], state.accumulator[::-1])
        jobs.append(Written(state, tag % 3 == 1, tag % 5 == 3, 1000 + tag))
    return jobs


@pytest.mark.parametrize("output_lanes", [1, 2, 4])
@pytest.mark.parametrize(
    "stall", [flowing, at_random(1), at_random(2, 0.9), until(300)], ids=["flowing", "half", "slow", "late"]
)
def test_packets_of_random_jobs(output_lanes: int, stall: Stall):
    config = config_of(output_lanes)
    jobs = random_written(output_lanes, 20)
    sink, _, _ = run(config, jobs, stall, lambda n: (0, 0, 7, 60)[n % 4])
    assert sink.words == [beat for job in jobs for beat in job.packet(config)]
    assert {(job.emit_state, job.rejected) for job in jobs} == {(a, b) for a in (False, True) for b in (False, True)}


def full_job(config: CoreConfig, emit_state: bool, rejected: bool = False) -> Written:
    """Return a job of the most beats there can be."""
    return Written(states(np.random.default_rng(3), config.rows, config.max_value_dim), emit_state, rejected, 77)


@pytest.mark.parametrize(
    ("emit_state", "rejected", "latency"),
    [
        (False, False, BEGIN_LATENCY + ELEMENT_LATENCY),
        (True, False, BEGIN_LATENCY + PIECE_LATENCY),
        (False, True, BEGIN_LATENCY + ELEMENT_LATENCY),
        (True, True, BEGIN_LATENCY + ELEMENT_LATENCY),
    ],
)
def test_a_beat_every_cycle_after_the_latency(emit_state: bool, rejected: bool, latency: int):
    """Longer than the FIFO, so that beats under way are covered by it; `finished` is when the last one enters."""
    config = config_of(1)
    job = full_job(config, emit_state, rejected)
    packet = job.packet(config)
    sink, (done,), finished = run(config, [job], flowing, lambda n: 5)
    assert sink.words == packet
    assert sink.taken == [done + latency + n for n in range(len(packet))]
    assert finished == {0: sink.taken[-1] - FIFO_LATENCY}
    if not rejected:
        assert len(packet) == config.rows * (17 * STATE_PIECES if emit_state else 16) > OUTPUT_FIFO_DEPTH


def test_a_job_begins_when_the_last_beat_of_the_one_before_is_in_the_fifo():
    config = config_of(2)
    jobs = [full_job(config, emit_state) for emit_state in (False, True, False)]
    sink, _, finished = run(config, jobs, flowing, lambda n: 0)
    lengths = [len(job.packet(config)) for job in jobs]
    first = [sum(lengths[:n]) for n in range(3)]
    assert sink.taken[first[1]] == finished[0] + BEGIN_LATENCY + PIECE_LATENCY
    assert sink.taken[first[2]] == finished[1] + BEGIN_LATENCY + ELEMENT_LATENCY


@pytest.mark.parametrize("emit_state", [False, True])
def test_a_blocked_port_is_offered_the_first_beat_in_time_and_loses_none(emit_state: bool):
    """Offering waits for nothing, and what is under way when the port blocks waits in the FIFO."""
    config = config_of(1)
    job = full_job(config, emit_state)
    latency = BEGIN_LATENCY + (PIECE_LATENCY if emit_state else ELEMENT_LATENCY)
    sink, (done,), _ = run(config, [job], until(200), lambda n: 0)
    assert sink.offered[0] == done + latency
    assert sink.taken[:OUTPUT_FIFO_DEPTH] == list(range(200, 200 + OUTPUT_FIFO_DEPTH))
    assert sink.words == job.packet(config)


@pytest.mark.parametrize("emit_state", [False, True])
def test_extreme_states(emit_state: bool):
    """The widest sums, maxima and accumulators, a row that saw nothing, and rows at both ends of the output."""
    config = config_of(4)
    largest = (1 << config.sum_bits) - 1
    total = np.array([largest, 0, 2070])
    edge = np.array([-128, 127, 0, -1])
    accumulator = edge * total[:, None]
    maximum = np.array([512, formats.NO_MAXIMUM, -512])
    job = Written(PartialState(maximum, total, accumulator), emit_state, False, (1 << config.tag_bits) - 1)
    sink, _, _ = run(config, [job], flowing, lambda n: 0)
    assert sink.words == job.packet(config)
    if not emit_state:
        assert sink.words[0]["data"] == [(int(x) << formats.OUTPUT_FRACTION_BITS) & 0xFFFF for x in edge]
