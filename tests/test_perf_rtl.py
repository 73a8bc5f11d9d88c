"""The model against the simulated core: bytes and array beats equal, cycles equal on regular work and close on any."""

from dataclasses import replace

import numpy as np
import pytest

from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.job import Job
from golden.masks import Mask
from golden.plan import plan_jobs
from golden.quantise import quantise
from golden.threshold import Threshold
from perf_model.cycles import JobShape, StreamCycles, stream_cycles
from perf_model.traffic import port_bytes
from rtl.interfaces import ArrayUse
from sim.random_jobs import random_jobs
from sim.simulate import Measurement, batch_of, simulate

TINY = PRESETS["tiny"]
RANDOM_LISTS = 40
SEED = 2


def compare(core: CoreConfig, lists: dict[str, list[Job]]) -> dict[str, tuple[StreamCycles, Measurement]]:
    """Simulate lists of jobs; check bytes and array beats; return the model's and the measured cycles."""
    results = {name: [run_job(job, core.lanes) for job in jobs] for name, jobs in lists.items()}
    recordings = simulate(core, [batch_of(core, jobs, name, results=results[name]) for name, jobs in lists.items()])
    pairs = {}
    for (name, jobs), recording in zip(lists.items(), recordings, strict=True):
        measured = Measurement.of(core, jobs, results[name], recording)
        shapes = [
            JobShape.of_job(job, result.survivors, core.lanes) for job, result in zip(jobs, results[name], strict=True)
        ]
        listed = JobShape.concatenate(shapes)
        modelled = stream_cycles(core, listed)
        assert port_bytes(core, listed) == measured.bytes, name
        assert (modelled.qk, modelled.pv) == (measured.uses[ArrayUse.QK], measured.uses[ArrayUse.PV]), name
        pairs[name] = (modelled, measured)
    return pairs


def layer(
    queries: int, keys: int, dim: int, tau: float | None = None, causal: bool = False, group: int = 1
) -> list[Job]:
    rng = np.random.default_rng(SEED)
    tensors = (3 * rng.normal(size=(heads, n, dim)) for heads, n in ((2 * group, queries), (2, keys), (2, keys)))
    return [planned.job for planned in plan_jobs(quantise(*tensors), TINY, Mask.of(causal), Threshold.of(tau))]


def stateful(from_state: bool, emit_state: bool) -> list[Job]:
    jobs = layer(8, 24, 16)
    states = [run_job(job, TINY.lanes).state if from_state else None for job in jobs]
    return [replace(job, state=state, emit_state=emit_state) for job, state in zip(jobs, states, strict=True)]


def test_regular_work_takes_exactly_the_cycles_of_the_model(figure):
    lists = {
        "one job": layer(4, 16, 16)[:1],
        "shorter than the pipeline": layer(16, 4, 16),
        "dense": layer(24, 48, 16),
        "dense, long rows": layer(16, 32, 64),
        "thresholded": layer(16, 64, 16, tau=4.0),
        "grouped decode": layer(1, 40, 32, group=4),
        "decode": layer(1, 40, 32),
        "to a state": stateful(False, True),
        "from a state": stateful(True, False),
    }
    pairs = compare(TINY, lists)
    for name, (modelled, measured) in pairs.items():
        figure(f"closed form: {name:28}{measured.cycles:8} cycles, model {modelled.total - measured.cycles:+}")
    assert {name: modelled.total for name, (modelled, _) in pairs.items()} == {
        name: measured.cycles for name, (_, measured) in pairs.items()
    }


def test_causal_work_takes_about_the_cycles_of_the_model(figure):
    """In short blocks several packs wait at once, which the model takes in a row although keys may come between."""
    ((modelled, measured),) = compare(TINY, {"causal": layer(32, 32, 16, causal=True)}).values()
    figure(f"closed form: {'causal':28}{measured.cycles:8} cycles, model {modelled.total - measured.cycles:+}")
    assert modelled.total == pytest.approx(measured.cycles, rel=0.02)


@pytest.mark.parametrize("length", [1, 6])
def test_random_jobs_take_about_the_cycles_of_the_model(figure, length: int):
    """Any dimensions, masks, thresholds and states: what the model leaves out is below 8 %, on average 1 %."""
    rng = np.random.default_rng(SEED)
    lists = {f"{n}": random_jobs(rng, TINY, length) for n in range(RANDOM_LISTS)}
    pairs = compare(TINY, lists).values()
    errors = np.array([modelled.total / measured.cycles - 1 for modelled, measured in pairs])
    figure(
        f"closed form: {RANDOM_LISTS} random lists of {length}: {np.mean(errors == 0):.0%} exact, "
        f"mean {np.abs(errors).mean():.2%}, worst {np.abs(errors).max():.2%}"
    )
    assert np.abs(errors).max() < 0.08
    assert np.abs(errors).mean() < 0.01
