"""The cocotb side of a cluster simulation: streams lists of jobs and holds the cluster to what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass

import cocotb
from cocotb.clock import Clock

from golden.config import ClusterConfig
from sim.cluster_bench import ClusterBench, ClusterRecording
from sim.core_testbench import raise_problems
from sim.runner import load_work, report_progress, save_result
from sim.scoreboard import Expectation, check_packet, check_record, check_requests
from sim.stimulus import Stimulus


@dataclass(frozen=True)
class ClusterBatch:
    """A list of jobs streamed after a reset, how, and what must come of it.

    Parameters
    ----------
    label : str
        Names the batch in messages.
    stimuli : list of Stimulus
        The jobs as words, their fields with `core` and `more`.
    jobs : list of Expectation
        What each job's record must say, and which values it must ask for.
    heads : list of Expectation
        What each head must return; their jobs give tag, shape and whether it is a state.
    stall : float
        Probability that a port is stalled in a cycle.
    latency : int
        Cycles from a value request to its row.
    seed : int
        Of the stalls.
    """

    label: str
    stimuli: list[Stimulus]
    jobs: list[Expectation]
    heads: list[Expectation]
    stall: float = 0.0
    latency: int = 1
    seed: int = 0


@dataclass(frozen=True)
class ClusterWork:
    """What a simulation has to do."""

    config: ClusterConfig
    batches: list[ClusterBatch]


def check(batch: ClusterBatch, recording: ClusterRecording, config: ClusterConfig) -> list[str]:
    """Return a line for each thing that differs from what golden says; an empty list if the cluster is right."""
    if len(recording.packets) != len(batch.heads):
        return [f"{len(batch.heads)} heads gave {len(recording.packets)} output packets"]
    problems = []
    for expectation, packet in zip(batch.heads, recording.packets, strict=True):
        problems += [f"{expectation.label}: {line}" for line in check_packet(expectation, packet, config.core)]
    for n, expectation in enumerate(batch.jobs):
        named, given = batch.stimuli[n].fields["core"], recording.cores[n]
        found = check_record(expectation, recording.records[n], config.core)
        found += check_requests(expectation, recording.requests[n])
        if named < config.cores and named != given:
            found.append(f"it names core {named} and was given to core {given}")
        problems += [f"{expectation.label}: {line}" for line in found]
    return problems


@cocotb.test()
async def replay(dut):
    """Every head, record and request is as expected and in the order of the list, and the streams obey their rules."""
    work: ClusterWork = load_work()
    Clock(dut.clk, 10, unit="ns").start()
    recordings = []
    for batch in work.batches:
        bench = ClusterBench(dut, work.config, batch.stall, batch.latency, batch.seed)
        await bench.reset()
        try:
            recording = await bench.run(batch.stimuli, len(batch.heads), report_progress)
        except AssertionError as error:
            raise AssertionError(f"{batch.label}: {error}") from error
        recordings.append(recording)
        raise_problems(batch.label, check(batch, recording, work.config))
    save_result(recordings)
