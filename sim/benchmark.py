"""Benchmarks of the simulated core: array utilisation of prefill, and what decode makes of the K port."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden import formats
from golden.block import run_job
from golden.config import CoreConfig
from golden.job import Job, ScoreScale
from golden.plan import plan_jobs
from golden.quantise import quantise
from golden.threshold import Threshold
from rtl.interfaces import ArrayUse
from sim.bench import Recording
from sim.simulate import Measurement, batch_of, simulate
from sim.stimulus import stats_record

HEAD_DIM = 64
DECODE_KEYS = 512
DECODE_JOBS = 8
DECODE_TAU = 6.0
SEED = 1


def _prefill_jobs(config: CoreConfig, queries: int, keys: int) -> list[Job]:
    """Return the jobs of one head of normally distributed tensors, with nothing dropped."""
    rng = np.random.default_rng(SEED)
    q, k, v = (rng.normal(size=(1, length, HEAD_DIM)) for length in (queries, keys, keys))
    return [planned.job for planned in plan_jobs(quantise(q, k, v), config)]


def _decode_jobs(config: CoreConfig, rows: int, threshold: Threshold) -> list[Job]:
    """Return decode steps of `rows` grouped queries each over keys of their own; logits spread over about 10 bits."""
    rng = np.random.default_rng(SEED)

    def int8(*shape: int) -> np.ndarray:
        return np.clip(np.rint(rng.normal(0, 30, shape)), -127, 127).astype(np.int8)

    return [
        Job(
            query=int8(rows, HEAD_DIM),
            positions=np.full(rows, DECODE_KEYS - 1, dtype=np.int64),
            key=int8(DECODE_KEYS, HEAD_DIM),
            indices=np.arange(DECODE_KEYS, dtype=np.int64),
            value=int8(DECODE_KEYS, HEAD_DIM),
            scale=ScoreScale.of(2.0**formats.FRACTION_BITS * 2.5 / (900 * HEAD_DIM**0.5)),
            threshold=threshold,
            tag=n,
        )
        for n in range(DECODE_JOBS)
    ]


def _steady_utilisation(config: CoreConfig, recording: Recording) -> float:
    """Return the share of array cycles in use between the first and the last record, ends excluded."""
    cycles = np.array([stats_record(word, config)["cycles"] for word in recording.records[2:-2]])
    busy = cycles[:, [ArrayUse.QK, ArrayUse.PV]].sum()
    return float(busy / cycles.sum())


def run_benchmarks(config: CoreConfig) -> None:
    """Run all benchmarks on `config` and print what they measured; data is random, stated with each figure."""
    whole, short = _prefill_jobs(config, 512, 512), _prefill_jobs(config, 512, 64)
    decodes = {
        (rows, tau, False): _decode_jobs(config, rows, Threshold.of(tau))
        for rows in sorted({1, min(8, config.rows)})
        for tau in (None, DECODE_TAU)
    }
    if config.shared_values:
        for (rows, tau, _), jobs in list(decodes.items()):
            decodes[rows, tau, True] = [replace(job, value=job.key, shared=True) for job in jobs]
    lists = [whole, short, *decodes.values()]
    batches = [batch_of(config, jobs, f"benchmark {n}") for n, jobs in enumerate(lists)]
    recordings = simulate(config, batches)
    results = [[run_job(job, config.lanes) for job in jobs] for jobs in lists]
    measured = [Measurement.of(config, *triple) for triple in zip(lists, results, recordings, strict=True)]

    print(f"Core of {config.size}, streams never stalled, d = {HEAD_DIM}, normally distributed tensors.")
    ideal = measured[0].macs // (config.rows * config.lanes)
    print("Prefill, one head, 512 queries and keys, nothing dropped, first input beat to last output beat:")
    print(f"  {measured[0].cycles} cycles, ideal {ideal}: utilisation {measured[0].utilisation:.2%}")
    print("Prefill, 512 queries, 64 keys a block, steady state:")
    print(f"  utilisation {_steady_utilisation(config, recordings[1]):.2%}")
    print(f"Decode, {DECODE_KEYS} keys a step, {DECODE_JOBS} steps of different keys:")
    for n, (rows, tau, shared) in enumerate(decodes, start=2):
        kept = sum(int(result.survivors.sum()) for result in results[n]) / (DECODE_JOBS * DECODE_KEYS)
        share = recordings[n].traffic["k"].transfers / measured[n].cycles
        dropping = "nothing dropped" if tau is None else f"tau {tau:g}"
        cycles, moved = measured[n].cycles, sum(measured[n].bytes.values())
        values = f", values shared, {measured[n].bytes['v']} bytes of v" if shared else ""
        print(
            f"  {rows} rows in use, {dropping}{values}: {kept:.1%} survive, "
            f"K port busy {share:.1%} of {cycles} cycles, {moved} bytes on all ports"
        )
