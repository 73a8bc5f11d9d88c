"""Cycles of jobs by closed form: what the array does, and what can't be hidden behind it.

The streams are taken to run at one beat a cycle and port, and never to stall; values come `value_latency` cycles after
their request. A core then spends ``keys * ceil(head_dim / lanes)`` cycles on Q K, and on P V `value_dim` cycles for
each pack of `lanes` survivors. Everything else runs beside it, but for the ends of a list of jobs (the first queries,
the last pack and its output) and for jobs so short that one of these limits becomes longer than the array's work:

* the job loader, which takes a job's queries and state one after the other;
* the output port, which is drained between jobs;
* the two contexts: job n + 2 starts once job n has left the core.

`job_cost` gives these parts for one job, or for arrays of jobs and cores. `uniform_cycles` is the closed form for equal
jobs back to back and takes arrays too. `stream_cycles` follows any list of jobs, one step a job.

`perf_model.exact` follows the core cycle by cycle instead: slower, with no difference from the RTL, and with a memory.

Array beats are exact. What is approximated in the rest: survivors are taken as evenly spread over a job's keys, except
that the keys after a job's last-but-one pack may be given (`JobShape.of_job` does), and the score slots are taken not
to run out. `tests/test_perf_rtl.py` holds the forms to the simulated core and says how far off they may be.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.compiled import compiled
from golden.errors import InputError
from golden.job import Job
from perf_model.latency import (
    EXPONENTIAL_STAGES,
    FIFO_LATENCY,
    LOADER_ENTRY,
    LOADER_EXIT,
    RECORD_LATENCY,
    STATE_PIECES,
    TAU_SPACING,
    CoreShape,
    IntLike,
    Ints,
    bound_latency,
    bound_spacing,
    ceil_div,
    empty_pack_latency,
    finish_latency,
    output_latency,
    pack_latency,
    release_latency,
    verdict_latency,
)

VALUE_LATENCY = 1
"""Cycles from a value request to the first beat of the value: a memory beside the core."""


@dataclass(frozen=True, eq=False)
class JobShape:
    """What of a job its cycles depend on. Every field is one integer, or an int64 array that broadcasts.

    Parameters
    ----------
    rows : int or numpy.ndarray
        Query rows in use.
    keys : int or numpy.ndarray
        Keys streamed.
    head_dim, value_dim : int or numpy.ndarray
        Elements of a row of q and k, and of v.
    survivors : int or numpy.ndarray
        Keys kept.
    last_survives : int or numpy.ndarray
        Whether the last key is kept. If it is not and the survivors fill their packs, an empty pack ends the job.
    last_keys : int or numpy.ndarray
        Keys after the one that closed the last-but-one pack, or all if there is none; 0 stands for evenly spread.
    from_state, emit_state : int or numpy.ndarray
        Whether the job starts from a partial state, and returns one.
    shared : int or numpy.ndarray
        Whether the values are the first elements of the keys, and captured from them.
    bounded, continues : int or numpy.ndarray
        Whether the job has an error bound, and whether it goes on from the tau of the job before.
    """

    rows: IntLike
    keys: IntLike
    head_dim: IntLike
    value_dim: IntLike
    survivors: IntLike
    last_survives: IntLike = 1
    last_keys: IntLike = 0
    from_state: IntLike = 0
    emit_state: IntLike = 0
    shared: IntLike = 0
    bounded: IntLike = 0
    continues: IntLike = 0

    @classmethod
    def of_job(cls, job: Job, survivors: npt.NDArray[np.bool_], lanes: int) -> JobShape:
        """Return the shape of `job`, whose keys survive as `survivors` says, on a core of so many lanes.

        Raises
        ------
        InputError
            If `survivors` is not a truth value for each key.
        """
        if survivors.shape != (job.keys,) or survivors.dtype != np.bool_:
            raise InputError(f"survivors must be {job.keys} truth values, one a key, not {survivors.dtype}")
        kept = np.flatnonzero(survivors)
        last = bool(survivors[-1])
        # The pack that ends the job is closed by the last key; the one before by the last key that filled one.
        full = len(kept) // lanes - (last and len(kept) % lanes == 0)
        last_keys = job.keys - 1 - int(kept[full * lanes - 1]) if full > 0 else job.keys
        return cls(
            rows=job.rows,
            keys=job.keys,
            head_dim=job.head_dim,
            value_dim=job.value_dim,
            survivors=len(kept),
            last_survives=int(last),
            last_keys=last_keys,
            from_state=int(job.state is not None),
            emit_state=int(job.emit_state),
            shared=int(job.shared),
            bounded=int(job.threshold.epsilon_shift > 0),
            continues=int(job.continue_tau),
        )

    @classmethod
    def concatenate(cls, shapes: list[JobShape]) -> JobShape:
        """Return one shape whose fields are the arrays of all `shapes`, in order."""
        columns: dict[str, Any] = {}
        names = [field.name for field in fields(cls)]
        sizes = [np.broadcast(*(getattr(shape, name) for name in names)).shape or (1,) for shape in shapes]
        for name in names:
            parts = [np.broadcast_to(getattr(shape, name), size) for shape, size in zip(shapes, sizes, strict=True)]
            columns[name] = np.concatenate(parts).astype(np.int64)
        return cls(**columns)


def survivors_at(keys: IntLike, rate: float | npt.NDArray[np.float64]) -> IntLike:
    """Return the survivors of `keys` keys at a survival rate: the nearest number, but at least one.

    Parameters
    ----------
    keys : int or numpy.ndarray
        Keys streamed.
    rate : float or numpy.ndarray
        Share of them that survive, above 0 to 1. A job always keeps a key: the one that holds its maximum.

    Raises
    ------
    InputError
        If `rate` is outside 0 to 1.
    """
    if not np.all((np.asarray(rate) > 0) & (np.asarray(rate) <= 1)):
        raise InputError(f"the survival rate must be above 0 and at most 1, not {rate}")
    kept = np.maximum(1, np.floor(np.asarray(keys) * rate + 0.5).astype(np.int64))
    return int(kept) if kept.ndim == 0 else kept


@dataclass(frozen=True, eq=False)
class JobCost:
    """Cycles of the parts of a job. Every field is an int64 array, or one integer.

    Parameters
    ----------
    qk, pv : int or numpy.ndarray
        Array beats of Q K and of P V, the beat of an empty last pack among the latter.
    packs : int or numpy.ndarray
        Packs of survivors.
    array : int or numpy.ndarray
        Cycles that the job takes from the array when others follow: its beats, and the cycles in which Q K waits for a
        shared score multiplier or P V for the exponentials.
    query_load, state_load, output : int or numpy.ndarray
        Beats of q, state and o.
    keys_alone : int or numpy.ndarray
        From a job's first key beat to its last, with no P V of the job before in between.
    carried : int or numpy.ndarray
        Array cycles of the packs that are still to come when the job's last key has gone in.
    lead : int or numpy.ndarray
        From the last key beat to the first beat of P V of these packs.
    drain : int or numpy.ndarray
        From the last key beat to the job's last beat of P V.
    finish : int or numpy.ndarray
        From there to the entry of the last output beat in its FIFO, when no other packet is in the way.
    output_step : int or numpy.ndarray
        From one packet's last entry to the next one's, at least.
    spacing, first_key : int or numpy.ndarray
        Cycles between two keys at least; beats of a key.
    query_latency : int or numpy.ndarray
        From a job's last key beat to the acceptance of the job after the next.
    continues, tau_spacing : int or numpy.ndarray
        Whether the job goes on from the tau of the one before; from its own last key to the first key of one that does.
    """

    qk: Any
    pv: Any
    packs: Any
    array: Any
    query_load: Any
    state_load: Any
    output: Any
    keys_alone: Any
    carried: Any
    lead: Any
    drain: Any
    finish: Any
    output_step: Any
    spacing: Any
    first_key: Any
    query_latency: Any
    continues: Any
    tau_spacing: Any


def job_cost(core: CoreShape, job: JobShape, value_latency: int = VALUE_LATENCY) -> JobCost:
    """Return the cycles of the parts of a job.

    Parameters
    ----------
    core : CoreShape
        The core: a `CoreConfig`, or `CoreArrays`.
    job : JobShape
        The job or jobs.
    value_latency : int
        Cycles from a value request to the first beat of the value.

    Returns
    -------
    JobCost
        In cycles.
    """
    lanes = core.lanes
    share = np.where(job.bounded, bound_spacing(core), core.rows_per_scaler)
    bound = np.where(job.bounded, bound_latency(core), 0)
    beats = ceil_div(job.head_dim, lanes)
    value_beats = ceil_div(job.value_dim, lanes)
    output_beats = ceil_div(job.value_dim, core.output_lanes)
    packs = ceil_div(job.survivors, lanes)
    empty_end = (np.asarray(job.survivors) % lanes == 0) & (np.asarray(job.last_survives) == 0)
    closings = packs + empty_end
    spacing = np.maximum(beats, share)
    keys, value_dim = job.keys, job.value_dim
    latency = pack_latency(core) + bound
    exponentials = lanes + EXPONENTIAL_STAGES + 1

    # A pack can begin once its probabilities are there and its values have come, whichever is later.
    survivors_kept = np.maximum(job.survivors, 1)
    key_period = np.maximum(spacing, keys * spacing // survivors_kept)
    # Of a key that closes a pack: verdict, request, memory, its beats, 2 to see that the pack is full.
    values_latency = verdict_latency(core) + bound + 2 + value_latency + value_beats + 1
    behind = value_beats - key_period
    full_ready = np.maximum(latency, values_latency + np.maximum(0, (lanes - 1) * behind - value_dim))

    # P V starts in the gap that a shared score multiplier leaves between two keys, and uses the rest of it.
    gap = (full_ready - 1) % share + 1
    pack_step = np.where(beats >= share, value_dim, np.maximum(0, value_dim + np.maximum(gap, beats) - share))
    empty_step = np.where(beats >= share, empty_end, 0)

    # Packs that are closed but not begun when the last key goes in: the last one, and those closed shortly before.
    pack_keys = np.maximum(1, keys * lanes // survivors_kept)
    last_count = np.where(empty_end, 0, job.survivors - (packs - 1) * lanes)
    even = np.where(closings > 1, np.maximum(1, last_count * keys // survivors_kept), keys)
    last_keys = np.where(np.asarray(job.last_keys) > 0, job.last_keys, even)
    late = np.maximum(0, ceil_div(full_ready - last_keys * spacing, pack_keys * spacing))
    earlier = np.minimum(late, closings - 1)
    pack_period = np.maximum(value_dim, exponentials)

    caught_up = np.where((closings > 1) & (earlier == 0), value_dim, 0)
    last_values = values_latency + np.maximum(0, (last_count - 1) * behind - caught_up)
    last_ready = np.where(empty_end, empty_pack_latency(core) + bound, np.maximum(latency, last_values))
    oldest = full_ready - (last_keys + (earlier - 1) * pack_keys) * spacing
    newest = full_ready - last_keys * spacing
    last_start = np.where(
        earlier > 0,
        np.maximum(
            last_ready,
            np.maximum(np.maximum(oldest, 1) + (earlier - 1) * pack_period, newest)
            + np.where(empty_end, value_dim, pack_period),
        ),
        last_ready,
    )
    lead = np.where(earlier > 0, np.maximum(oldest, 1), last_ready)
    last_step = np.where(empty_end, empty_step, pack_step)
    drain = last_start + np.where(empty_end, 1, value_dim) - 1
    carried = earlier * pack_step + last_step

    output = job.rows * np.where(job.emit_state, (1 + output_beats) * STATE_PIECES, output_beats)
    write = output_latency(job.emit_state)
    work = keys * spacing + packs * pack_step + empty_step
    own = (closings - 1 - earlier) * pack_step
    return JobCost(
        qk=keys * beats,
        pv=packs * value_dim + empty_end,
        packs=packs,
        array=np.maximum(work, packs * exponentials),
        query_load=job.rows * beats,
        state_load=job.rows * np.where(job.from_state, (1 + output_beats) * STATE_PIECES, 0),
        output=output,
        keys_alone=beats + (keys - 1) * spacing + own,
        carried=carried,
        lead=lead,
        drain=drain,
        finish=finish_latency(core) + output - 1 + write,
        output_step=output + write + 1,
        spacing=spacing,
        first_key=beats,
        query_latency=release_latency(core),
        continues=job.continues,
        tau_spacing=TAU_SPACING + bound,
    )


def job_period(cost: JobCost) -> Any:
    """Return the cycles a job takes in a long line of equal ones: the longest of what limits it.

    Jobs that wait for a context are taken to be evenly spaced. They may come in pairs instead, which only
    `stream_cycles` follows.
    """
    load = LOADER_ENTRY + cost.query_load + LOADER_EXIT + cost.state_load
    record = RECORD_LATENCY + 1 + LOADER_EXIT + cost.state_load
    floor = np.maximum(np.maximum(cost.array, load), cost.output_step)
    floor = np.maximum(floor, np.where(cost.continues, cost.keys_alone - cost.first_key + cost.tau_spacing, 0))
    # How far the packs of the job before fall among this job's keys depends on when these start, and that on the packs.
    left = np.where(cost.lead < cost.keys_alone, cost.carried, 0)
    period = floor
    for _ in range(2):
        keys = cost.keys_alone + left
        through = keys - 1 + cost.drain + cost.finish + record
        queries = keys - 1 + cost.query_latency + load
        period = np.maximum(floor, ceil_div(np.maximum(through, queries), 2))
        start = period - keys + 1
        left = np.clip(cost.lead + cost.carried - start, 0, cost.carried)
        left = np.where(cost.lead < start + cost.keys_alone, left, 0)
    return period


def uniform_cycles(core: CoreShape, job: JobShape, jobs: IntLike = 1, value_latency: int = VALUE_LATENCY) -> Any:
    """Return the cycles of equal jobs back to back, from the first beat of q to the last beat of o.

    Parameters
    ----------
    core : CoreShape
        The core or cores.
    job : JobShape
        The job; with arrays, one design point an element.
    jobs : int or numpy.ndarray
        How many of it.
    value_latency : int
        As in `job_cost`.

    Returns
    -------
    int or numpy.ndarray
        Cycles.
    """
    cost = job_cost(core, job, value_latency)
    head = cost.query_load + LOADER_EXIT + cost.state_load
    alone = cost.keys_alone - 1 + cost.drain + cost.finish + FIFO_LATENCY + 1
    total = head + (np.asarray(jobs) - 1) * job_period(cost) + alone
    return int(total) if np.ndim(total) == 0 else total


@dataclass(frozen=True)
class StreamCycles:
    """Cycles of a list of jobs.

    Parameters
    ----------
    total : int
        From the first beat of q to the last beat of o.
    qk, pv : int
        Array beats of Q K and P V.
    """

    total: int
    qk: int
    pv: int

    @property
    def array(self) -> int:
        """Cycles in which the array works."""
        return self.qk + self.pv

    @property
    def busy(self) -> float:
        """Share of the cycles in which the array works."""
        return self.array / self.total


def stream_cycles(core: CoreShape, jobs: JobShape, value_latency: int = VALUE_LATENCY) -> StreamCycles:
    """Return the cycles of a list of jobs back to back.

    Parameters
    ----------
    core : CoreShape
        The core.
    jobs : JobShape
        The jobs, as arrays of one axis; a shape of integers is a single job.
    value_latency : int
        As in `job_cost`.

    Returns
    -------
    StreamCycles
    """
    return stream_runs(core, jobs, 1, value_latency)[0]


def stream_runs(
    core: CoreShape, jobs: JobShape, runs: int, value_latency: int = VALUE_LATENCY
) -> tuple[StreamCycles, ...]:
    """Return the cycles of a list of jobs that is run over and over, back to back, after each of the first `runs` runs.

    Other parameters are those of `stream_cycles`.
    """
    cost = job_cost(core, jobs, value_latency)
    size = np.broadcast(*(getattr(cost, field.name) for field in fields(cost))).shape or (1,)
    table = np.empty(size, dtype=_FOLLOWED)
    for name in _FOLLOWED.names or ():
        table[name] = getattr(cost, name)
    qk, pv = (int(np.broadcast_to(beats, size).sum()) for beats in (cost.qk, cost.pv))
    finished = _follow(table, runs, LOADER_ENTRY, LOADER_EXIT, RECORD_LATENCY)
    totals = (finished + FIFO_LATENCY - LOADER_ENTRY + 1).tolist()
    return tuple(StreamCycles(total, qk * n, pv * n) for n, total in enumerate(totals, 1))


_FOLLOWED = np.dtype(
    [
        (name, np.int64)
        for name in (
            "query_load",
            "state_load",
            "spacing",
            "first_key",
            "keys_alone",
            "carried",
            "lead",
            "drain",
            "finish",
            "output_step",
            "query_latency",
            "continues",
            "tau_spacing",
        )
    ]
)
"""Fields of `JobCost` that decide when a job starts and ends."""


@compiled
def _follow(jobs: npt.NDArray[Any], runs: int, loader_entry: int, loader_exit: int, record_latency: int) -> Ints:
    """Return the cycle of each run in which the last entry of its last output is made, cycle 0 accepting the first job.

    Latencies come as data, because compiled code would not notice when a constant changes.

    Parameters
    ----------
    jobs : numpy.ndarray
        Dtype `_FOLLOWED`, shape (jobs,).
    runs : int
        How often the list is run.
    loader_entry, loader_exit, record_latency : int
        As in `perf_model.latency`.
    """
    # Of the job before: its loading, its last key, its packs still to come, its output.
    loaded = -1
    last_key = last_key_before = -(1 << 40)
    packs_from = packs_left = 0
    values_end = finished = finished_before = -(1 << 40)
    last_query_latency = query_latency_before = tau_spacing_before = 0
    ends = np.empty(runs, dtype=np.int64)
    for n in range(len(jobs) * runs):
        job = jobs[n % len(jobs)]
        accepted = max(loaded + 1, last_key_before + query_latency_before)
        claimed = max(accepted + loader_entry + job.query_load, finished_before + record_latency + 1)
        loaded = claimed + loader_exit - 1 + job.state_load
        start = max(loaded + 1, last_key + 1)
        gap = max(job.spacing, tau_spacing_before) if job.continues else job.spacing
        end = max(start + job.keys_alone - 1, last_key + gap + job.keys_alone - job.first_key)
        tau_spacing_before = job.tau_spacing
        left = packs_left - min(max(start - packs_from, 0), packs_left)
        if left and packs_from <= end:
            end += left
        last_key_before, last_key = last_key, end
        query_latency_before, last_query_latency = last_query_latency, job.query_latency
        packs_from, packs_left = max(end + job.lead, values_end + 1), job.carried
        values_end = max(end + job.drain, values_end + job.carried)
        finished_before, finished = finished, max(values_end + job.finish, finished + job.output_step)
        ends[n // len(jobs)] = finished
    return ends
