"""Simulates jobs and whole layers, and measures what they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golden.block import run_job
from golden.block_mask import BlockMask
from golden.cluster import ClusterJob
from golden.config import ClusterConfig, CoreConfig
from golden.errors import InputError
from golden.job import Job, JobResult
from golden.key_sequence import job_sequence
from golden.layer import LayerJobs, run_layer
from golden.masks import Mask
from golden.memory import Memory
from golden.plan import PlannedJob
from golden.quantise import QuantisedAttention
from golden.reference import max_abs_error, quantised_attention, snr_db
from golden.threshold import Threshold
from rtl.interfaces import ArrayUse
from sim.bench import Recording
from sim.cluster import cluster_stimulus, simulate_lists
from sim.cluster_testbench import ClusterBatch
from sim.core_testbench import Batch, Work
from sim.runner import run_bench
from sim.scoreboard import Expectation
from sim.stimulus import Stimulus, masked_stimulus, stats_record, stimulus

DATA_PORTS = ("q", "state", "k", "v_req", "v", "o")


def simulate(config: CoreConfig, batches: list[Batch], waves: bool = False, masked: bool = False) -> list[Recording]:
    """Run `batches` on the simulated core, one after the other, each from reset.

    Parameters
    ----------
    config : CoreConfig
        The core.
    batches : list of Batch
        What to run.
    waves : bool
        Trace all signals.
    masked : bool
        Put the core behind a key sequencer: the batches are of `sim.stimulus.masked_stimulus`.

    Returns
    -------
    list of Recording
        One a batch.

    Raises
    ------
    SimulationError
        If anything differs from what a batch expects, or a stream breaks its rules.
    """
    steps = sum(len(batch.stimuli) for batch in batches)
    top = "masked-core" if masked else "core"
    return run_bench("sim.core_testbench", config, Work(config, batches, masked), steps, waves, top)


def batch_of(
    config: CoreConfig,
    jobs: Sequence[Job],
    label: str,
    results: Sequence[JobResult] | None = None,
    **options: Any,
) -> Batch:
    """Return the batch that streams `jobs` and expects golden's results.

    Parameters
    ----------
    config : CoreConfig
        The core.
    jobs : sequence of Job
        The jobs.
    label : str
        Names the batch; its jobs are named by their number.
    results : sequence of JobResult, optional
        What golden says of them, computed by default.
    **options
        ``stall``, ``memory`` and ``seed`` of `Batch`.
    """
    results = results or [run_job(job, config.lanes) for job in jobs]
    expectations = [Expectation(f"job {n}", *pair) for n, pair in enumerate(zip(jobs, results, strict=True))]
    return Batch(label, [stimulus(job, config) for job in jobs], expectations, **options)


@dataclass(frozen=True)
class Measurement:
    """What a run of jobs took.

    Parameters
    ----------
    cycles : int
        From the first input beat to the last output beat.
    uses : dict of ArrayUse to int
        Cycles of each use of the array, summed over the records.
    macs : int
        Multiply-accumulates that the jobs need: rows in use times keys times head_dim, and times survivors times
        value_dim.
    utilisation : float
        `macs` as a share of what the array, or those of all cores, could do in `cycles`.
    bytes : dict of str to int
        Bytes moved on each port, of all cores.
    taus : list of int
        Threshold that each job was held to, as its record says, in units of a logit.
    """

    cycles: int
    uses: dict[ArrayUse, int]
    macs: int
    utilisation: float
    bytes: dict[str, int]
    taus: list[int]

    @classmethod
    def of(
        cls, config: CoreConfig, jobs: Sequence[Job], results: Sequence[JobResult], recording: Recording, cores: int = 1
    ) -> Measurement:
        """Measure a recorded run of `jobs`, whose results are `results`, on so many cores."""
        moved = [traffic for name, traffic in recording.traffic.items() if name in DATA_PORTS and traffic.transfers]
        cycles = max(traffic.last_cycle for traffic in moved) - min(traffic.first_cycle for traffic in moved) + 1
        macs = sum(
            job.rows * (job.keys * job.head_dim + int(result.survivors.sum()) * job.value_dim)
            for job, result in zip(jobs, results, strict=True)
        )
        records = [stats_record(word, config) for word in recording.records]
        uses = np.sum([record["cycles"] for record in records], axis=0)
        return cls(
            cycles=cycles,
            uses=dict(zip(ArrayUse, uses.tolist(), strict=True)),
            macs=macs,
            utilisation=macs / (cycles * config.rows * config.lanes * cores),
            bytes={name: recording.traffic[name].transfers * config.beat_bytes(name) for name in DATA_PORTS},
            taus=[record["tau"] for record in records],
        )


@dataclass(frozen=True, eq=False)
class LayerWork:
    """A layer to simulate.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    threshold : Threshold
        Of all its jobs.
    mask : Mask
        Its mask.
    memory : Memory
        The memory beside the core; by default it never stalls a stream.
    block_mask : BlockMask, optional
        Keys outside it are not streamed: the core is put behind a key sequencer.
    """

    attention: QuantisedAttention
    threshold: Threshold
    mask: Mask
    memory: Memory = field(default_factory=Memory)
    block_mask: BlockMask | None = None


@dataclass(frozen=True)
class LayerRun:
    """A layer simulated, and held to golden and float64.

    Parameters
    ----------
    golden : LayerJobs
        What golden says, which the core has equalled bit for bit.
    measurement : Measurement
        What it took.
    snr_db, max_error : float
        Output against float64 attention on the same int8 tensors.
    """

    golden: LayerJobs
    measurement: Measurement
    snr_db: float
    max_error: float


def _expectation(planned: PlannedJob, result: JobResult) -> Expectation:
    """Return what a job of a layer must give, it and its rows named by head and query."""
    heads = ", ".join(map(str, np.unique(planned.query_head)))
    label = f"head {heads} queries {planned.query_index.min()} to {planned.query_index.max()}"
    rows = [f"head {h}, query {q}" for h, q in zip(planned.query_head, planned.query_index, strict=True)]
    return Expectation(label, planned.job, result, rows=rows)


def simulate_layers(
    layers: Sequence[LayerWork],
    config: CoreConfig,
    *,
    stall: float = 0.0,
    seed: int = 0,
    waves: bool = False,
) -> list[LayerRun]:
    """Stream whole layers through the simulated core, each from reset; all have a block mask, or none.

    Parameters
    ----------
    layers : sequence of LayerWork
        The layers.
    config : CoreConfig
        The core.
    stall, seed : float, int
        Probability that a port is stalled in a cycle, and the seed of the stalls.
    waves : bool
        Trace all signals.

    Returns
    -------
    list of LayerRun
        One a layer.

    Raises
    ------
    InputError
        If the core can't hold a layer.
    SimulationError
        If the core and golden differ.
    """
    attended = [run_layer(layer.attention, config, layer.mask, layer.threshold, layer.block_mask) for layer in layers]
    batches = []
    for n, (layer, result) in enumerate(zip(layers, attended, strict=True)):
        words = [_stimulus(layer, planned, config) for planned in result.plan]
        expectations = [_expectation(*pair) for pair in zip(result.plan, result.results, strict=True)]
        label = f"layer {n}" if len(layers) > 1 else "layer"
        batches.append(Batch(label, words, expectations, stall=stall, memory=layer.memory, seed=seed))
    recordings = simulate(config, batches, waves, masked=any(layer.block_mask for layer in layers))
    return [_layer_run(config, *triple) for triple in zip(layers, attended, recordings, strict=True)]


def _stimulus(layer: LayerWork, planned: PlannedJob, config: CoreConfig) -> Stimulus:
    """Return the words of a job of a layer."""
    if layer.block_mask is None:
        return stimulus(planned.job, config)
    sequence = job_sequence(
        planned.job.positions, layer.attention.indices, layer.mask, layer.block_mask, planned.kv_head
    )
    return masked_stimulus(planned.job, sequence, config)


def simulate_layer_on_cluster(
    layer: LayerWork, config: ClusterConfig, *, stall: float = 0.0, seed: int = 0, waves: bool = False
) -> LayerRun:
    """Stream a layer through the simulated cluster, each of its jobs on whichever core is free.

    Parameters
    ----------
    layer : LayerWork
        The layer. Its memory is one that never stalls a stream.
    config : ClusterConfig
        The cluster.
    stall, seed, waves
        As of `simulate_layers`.

    Returns
    -------
    LayerRun
        Its bits are those of one core.

    Raises
    ------
    InputError
        If a core can't hold the layer, or its threshold is a target: tau goes from job to job of one core.
    SimulationError
        If the cluster and golden differ.
    """
    if layer.threshold.target:
        raise InputError("a target is followed from job to job on one core: give a tau, or a single core")
    result = run_layer(layer.attention, config.core, layer.mask, layer.threshold, layer.block_mask)
    expectations = [_expectation(*pair) for pair in zip(result.plan, result.results, strict=True)]
    words = [cluster_stimulus(ClusterJob(planned.job), config) for planned in result.plan]
    batch = ClusterBatch("layer", words, expectations, expectations, stall=stall, seed=seed)
    (recording,) = simulate_lists(config, [batch], waves)
    return _layer_run(config.core, layer, result, recording.as_one_core(), config.cores)


def _layer_run(
    config: CoreConfig, layer: LayerWork, result: LayerJobs, recording: Recording, cores: int = 1
) -> LayerRun:
    exact = quantised_attention(layer.attention, layer.mask)
    return LayerRun(
        result,
        Measurement.of(config, [planned.job for planned in result.plan], result.results, recording, cores),
        snr_db(exact, result.attended.real_output),
        max_abs_error(exact, result.attended.real_output),
    )
