"""The cocotb side of a core simulation: streams the work's jobs and holds the core to what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cocotb
from cocotb.clock import Clock

from golden.config import CoreConfig
from golden.memory import Memory
from sim.bench import Bench
from sim.runner import load_work, report_progress, save_result
from sim.scoreboard import Expectation, check
from sim.stimulus import Stimulus

PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Batch:
    """Jobs streamed back to back after a reset, how, and what must come of them.

    Parameters
    ----------
    label : str
        Names the batch in messages.
    stimuli : list of Stimulus
        The jobs as words.
    expectations : list of Expectation
        What each must return.
    stall : float
        Probability that a port is stalled in a cycle.
    memory : Memory
        The memory beside the core; by default it never stalls a stream.
    seed : int
        Of the stalls.
    """

    label: str
    stimuli: list[Stimulus]
    expectations: list[Expectation]
    stall: float = 0.0
    memory: Memory = field(default_factory=Memory)
    seed: int = 0


@dataclass(frozen=True)
class Work:
    """What a simulation has to do; whether the core is behind a key sequencer."""

    config: CoreConfig
    batches: list[Batch]
    masked: bool = False


def raise_problems(label: str, problems: list[str]) -> None:
    """Raise AssertionError with the first of `problems`, if there are any."""
    if problems:
        shown = "; ".join(problems[:PROBLEMS_SHOWN])
        more = f"; {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise AssertionError(f"{label}: {shown}{more}")


@cocotb.test()
async def replay(dut):
    """Every output, state, request and statistic is as expected, and the streams obey their rules."""
    work: Work = load_work()
    Clock(dut.clk, 10, unit="ns").start()
    recordings = []
    for batch in work.batches:
        bench = Bench(dut, work.config, batch.stall, batch.memory, batch.seed, work.masked)
        await bench.reset()
        try:
            recording = await bench.run(batch.stimuli, report_progress)
        except AssertionError as error:
            raise AssertionError(f"{batch.label}: {error}") from error
        recordings.append(recording)
        raise_problems(batch.label, check(batch.expectations, recording, work.config))
    save_result(recordings)
