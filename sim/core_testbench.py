"""The cocotb side of a core simulation: streams the work's jobs and holds the core to what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass

import cocotb

from golden.config import CoreConfig
from sim.bench import Bench
from sim.runner import load_work, save_result
from sim.scoreboard import Expectation, check
from sim.stimulus import Stimulus

PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Work:
    """What a run streams, how, and what must come of it."""

    config: CoreConfig
    stimuli: list[Stimulus]
    expectations: list[Expectation]
    stall: float = 0.0
    latency: int = 1
    seed: int = 0


@cocotb.test()
async def replay(dut):
    """Every output, state, request and statistic is golden's, and the streams obey their rules."""
    work = load_work()
    bench = Bench(dut, work.config, work.stall, work.latency, work.seed)
    await bench.reset()
    recording = await bench.run(work.stimuli)
    save_result(recording)
    problems = check(work.expectations, recording, work.config)
    assert not problems, "; ".join(problems[:PROBLEMS_SHOWN])
