"""Cycles of a list of jobs, equal to the RTL's: the core's control followed cycle by cycle.

`core_cycles` takes the jobs with the fate of each of their keys: as golden decided it (`JobList.of_jobs`), or spread
evenly for a number of survivors or a survival rate (`JobList.of_shape`). It answers with the cycles from the first beat
of q to the last beat of o, and with what the array does in each, as the jobs' statistics records count it.

The core is taken to come from reset, and the words of all jobs to be there; job and stats are never stalled. Without a
`golden.memory.Memory` no other stream is either, and a value's first beat comes the cycle after its request. Jobs must
be good ones, and no memory so slow that a job's keys time out. Where static masks leave some keys, a key sequencer asks
for the others (`perf_model.sequencer_timing`). `tests/test_perf_exact.py` holds all of it to the
simulated core, with no difference allowed. `perf_model.cycles` is the closed form, for many design points a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from golden.config import CoreConfig
from golden.errors import InputError
from golden.job import Job
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS, KeySequence
from golden.memory import CHANNEL_ORDER, Memory
from perf_model import latency
from perf_model.core_timing import CORE, JOB, MEMORY, PV, QK, Records, run
from perf_model.cycles import JobShape, survivors_at
from perf_model.latency import Ints
from perf_model.sequencer_timing import SEQUENCE, SEQUENCER, run_masked
from perf_model.traffic import port_transfers

Bools = npt.NDArray[np.bool_]
_ANY_NUMBER = 1 << 40


def spread_survivors(keys: Ints, survivors: Ints, last_survives: Ints) -> Bools:
    """Return which keys of jobs survive if each job's survivors are spread evenly.

    Of n survivors among a job's m keys, key j (from 0) is one if ``(j + 1) * n // m > j * n // m``, so that the last
    key survives. Where it does not, the others are spread among the keys before.

    Parameters
    ----------
    keys, survivors, last_survives : numpy.ndarray
        Of each job: its keys, how many survive, and whether the last one does; int64.

    Returns
    -------
    numpy.ndarray
        bool, an element a key, job after job.
    """
    key = np.arange(keys.sum()) - np.repeat(np.cumsum(keys) - keys, keys)
    among = np.maximum(keys - (last_survives == 0), 1)
    among, kept = np.repeat(among, keys), np.repeat(survivors, keys)
    spread: Bools = ((key + 1) * kept // among > key * kept // among) & (key < among)
    return spread


@dataclass(frozen=True, eq=False)
class JobList:
    """Jobs back to back.

    Parameters
    ----------
    shape : JobShape
        The jobs, as int64 arrays of one axis.
    survivors : numpy.ndarray
        Whether each key survives, job after job; bool.
    sequences : tuple of KeySequence, optional
        The commands by which a key sequencer finds each job's keys. Without them keys are there from the start.

    Raises
    ------
    InputError
        If `survivors` is not a truth value for each key, or `sequences` are not a command for each job.
    """

    shape: JobShape
    survivors: Bools
    sequences: tuple[KeySequence, ...] | None = None

    def __post_init__(self) -> None:
        keys = int(np.sum(self.shape.keys))
        if self.sequences is not None and len(self.sequences) != (jobs := np.size(self.shape.keys)):
            raise InputError(f"sequences must be {jobs} commands, one a job, not {len(self.sequences)}")
        if self.survivors.shape != (keys,) or self.survivors.dtype != np.bool_:
            found = f"{self.survivors.dtype} {self.survivors.shape}"
            raise InputError(f"survivors must be {keys} truth values, one a key, not {found}")

    @classmethod
    def of_jobs(cls, jobs: Sequence[Job], survivors: Sequence[Bools], lanes: int) -> JobList:
        """Return golden's jobs, whose keys survive as `survivors` says (`golden.job.JobResult`), on so many lanes."""
        shapes = [JobShape.of_job(*pair, lanes) for pair in zip(jobs, survivors, strict=True)]
        return cls(JobShape.concatenate(shapes), np.concatenate(list(survivors)))

    @classmethod
    def of_shape(cls, jobs: JobShape, rate: float | None = None) -> JobList:
        """Return jobs whose survivors are spread evenly over their keys (`spread_survivors`).

        Parameters
        ----------
        jobs : JobShape
            The jobs. `last_keys` does not matter.
        rate : float, optional
            Share of each job's keys that survive (`perf_model.cycles.survivors_at`), in place of the jobs' survivors.
        """
        shape = JobShape.concatenate([jobs])
        if rate is not None:
            kept = survivors_at(shape.keys, rate)
            shape = replace(shape, survivors=kept, last_survives=np.ones_like(kept), last_keys=np.zeros_like(kept))
        columns = (np.asarray(column) for column in (shape.keys, shape.survivors, shape.last_survives))
        return cls(shape, spread_survivors(*columns))

    def repeated(self, times: int) -> JobList:
        """Return the list `times` over."""
        sequences = self.sequences and self.sequences * times
        return JobList(JobShape.concatenate([self.shape] * times), np.tile(self.survivors, times), sequences)

    def table(self, core: CoreConfig) -> Records:
        """Return the jobs as the machine takes them, dtype `perf_model.core_timing.JOB`."""
        shape, beats = self.shape, port_transfers(core, self.shape)
        table = np.empty(np.size(shape.keys), dtype=JOB)
        table["keys"] = shape.keys
        table["value_dim"] = shape.value_dim
        table["shared"] = shape.shared
        table["bounded"] = shape.bounded
        table["continues"] = shape.continues
        table["head_beats"] = latency.ceil_div(shape.head_dim, core.lanes)
        table["value_beats"] = latency.ceil_div(shape.value_dim, core.lanes)
        for field, port in (("query_beats", "q"), ("state_beats", "state"), ("output_beats", "o")):
            table[field] = beats[port]
        table["output_latency"] = latency.output_latency(shape.emit_state)
        return table


@dataclass(frozen=True, eq=False)
class CoreCycles:
    """What a list of jobs takes.

    Parameters
    ----------
    total : int
        Cycles from the first beat of q to the last beat of o.
    uses : numpy.ndarray
        Cycles of each use of the array (`perf_model.core_timing.USES`) in each job's statistics record, int64, shape
        (jobs, uses). A record counts from the one before, the first from reset.
    """

    total: int
    uses: Ints

    @property
    def qk(self) -> int:
        """Array beats of Q K."""
        return int(self.uses[:, QK].sum())

    @property
    def pv(self) -> int:
        """Array beats of P V."""
        return int(self.uses[:, PV].sum())


def core_cycles(core: CoreConfig, jobs: JobList, memory: Memory | None = None) -> CoreCycles:
    """Return the cycles of `jobs` back to back on a core that comes from reset.

    Parameters
    ----------
    core : CoreConfig
        The core.
    jobs : JobList
        The jobs, which the core must be able to hold.
    memory : Memory, optional
        The memory; by default no stream ever stalls.
    """
    records = core_record(core), memory_record(core, memory or Memory())
    if jobs.sequences is None:
        return CoreCycles(*run(*records, jobs.table(core), jobs.survivors))
    sequencer = record(
        SEQUENCER,
        bitmap_words=BITMAP_WORDS,
        command=latency.COMMAND_LATENCY,
        count=latency.COUNT_LATENCY,
    )
    commands = _sequence_table(core, jobs)
    return CoreCycles(*run_masked(*records, sequencer, jobs.table(core), jobs.survivors, *commands))


def _sequence_table(core: CoreConfig, jobs: JobList) -> tuple[Records, Ints, Ints]:
    """Return the commands of `jobs` as `perf_model.sequencer_timing.run_masked` takes them.

    Raises
    ------
    InputError
        If a command gives a job another number of keys than it has.
    """
    assert jobs.sequences is not None, "the jobs have none"
    table = np.empty(len(jobs.sequences), dtype=SEQUENCE)
    of_words, of_blocks = [], []
    for n, (sequence, expected) in enumerate(zip(jobs.sequences, np.atleast_1d(jobs.shape.keys), strict=True)):
        _, keys = sequence.run(core.max_keys)
        if len(keys) != expected:
            raise InputError(f"the command of job {n} gives it {len(keys)} keys, not {expected}")
        origin, first, _ = sequence.span
        blocks, counts = np.unique(keys >> sequence.block_shift, return_counts=True)
        of_words.append(np.bincount(blocks // WORD_BLOCKS - first, minlength=sequence.words_within))
        of_blocks.append(counts)
        table[n] = (sequence.block_shift, len(sequence.words), first - origin, sequence.words_within, len(keys))
    return table, np.concatenate(of_words), np.concatenate(of_blocks)


def record(kind: np.dtype[np.void], **fields: object) -> Records:
    """Return an array of one record, every field of which is given."""
    one = np.empty(1, dtype=kind)
    for name in one.dtype.names or ():
        one[name] = fields.pop(name)
    assert not fields, f"the machine does not know {', '.join(fields)}"
    return one


def core_record(core: CoreConfig) -> Records:
    """Return what the machine knows of a core, dtype `perf_model.core_timing.CORE`."""
    return record(
        CORE,
        lanes=core.lanes,
        score_slots=core.score_slots,
        rows_per_scaler=core.rows_per_scaler,
        capture_beats=core.capture_beats,
        bound_spacing=latency.bound_spacing(core),
        ends=latency.ENDS_PENDING_MAX,
        value_packs=latency.VALUE_PACKS,
        output_fifo=latency.OUTPUT_FIFO_DEPTH,
        loader_entry=latency.LOADER_ENTRY,
        verdict=latency.verdict_latency(core),
        queries_free=latency.release_latency(core),
        pack=latency.PACK_LATENCY,
        exponentials=latency.EXPONENTIAL_STAGES,
        fifo=latency.FIFO_LATENCY,
        finish=latency.finish_latency(core),
        record=latency.RECORD_LATENCY,
        bound_latency=latency.bound_latency(core),
        tau_spacing=latency.TAU_SPACING,
    )


def memory_record(core: CoreConfig, memory: Memory) -> Records:
    """Return what the machine knows of the memory beside a core, dtype `perf_model.core_timing.MEMORY`."""
    channel = memory.channel(core)
    return record(
        MEMORY,
        limited=channel is not None,
        latency=memory.latency,
        outstanding=memory.outstanding or _ANY_NUMBER,
        buffer=memory.buffer,
        income=channel.income if channel else 0,
        savings=channel.savings if channel else 0,
        prices=[channel.prices[port] if channel else 0 for port in CHANNEL_ORDER],
    )
