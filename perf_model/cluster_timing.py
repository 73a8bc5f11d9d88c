"""The control of a cluster, cycle by cycle: its cores' (`perf_model.core_timing`), and that of what they share.

As there, every part sees what the others held when the cycle began. The host takes all that is offered, and its words
are there: jobs from the first cycle on, a core's keys when it is given the job.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.compiled import compiled, forget_stale_code
from golden.memory import CHANNEL_ORDER
from perf_model.core_timing import JOB, REGISTERS, RING, RINGS, USES, Records, integers, offers_output, start, step
from perf_model.fifo_timing import FIFO_RECORD, fifo_takes, step_fifo
from perf_model.latency import Ints

forget_stale_code(Path(__file__).parent)


CLUSTER = integers(
    "cores",
    # Places of the queues in front of a core, and of those of turns.
    *("queue_jobs", "queue_beats", "turns"),
    # Merge unit: lanes of a beat; transfers of a beat of words; latencies of merging and division; passes and stages of
    # the divider; beats that may be reserved when a word comes.
    *("output_lanes", "pieces", "merge", "divider", "passes", "stages", "room"),
)

LISTED = integers(
    # Core, or -1 for any; whether the head goes on; whether it gives a state.
    *("core", "more", "emit_state"),
    # Rows and elements of the state.
    *("rows", "value_dim"),
)

_Q, _STATE_PORT, _K = (CHANNEL_ORDER.index(port) for port in ("q", "state", "k"))
_JOB, _CHOOSE, _SEND, _QUERY, _STATE = range(5)
_TURN, _PASS, _PART, _MERGE, _END = range(5)
_IDLE, _MERGING, _DRAINING = range(3)

_REGISTERS = integers(
    # Dispatcher: what it does; job of the list, its core, beats of its packet to come.
    *("dispatching", "sending", "core", "beats"),
    # Collector: what it does; job of the list, beats of its packet to come; jobs whose records were taken.
    *("collecting", "turn", "left", "recorded"),
    # Merge unit: what it does; piece, header, lane, word and row of the word to come; cycles to drain; beats reserved;
    # announcements to the divider, a bit a cycle; beats that were given a cycle to leave in, and that left.
    *("merging", "piece", "header", "lane", "word", "row", "drain", "level", "announced", "written", "gone"),
    # First beat of q, last of o.
    *("first", "end"),
)

_HISTORY = (1 << 62) - 1
"""The announcements to the divider that count: more than an operand's passes take."""

_LEAVING = 64
"""Places for the cycles in which beats leave the merge unit: a power of two above the beats that can be reserved."""


@compiled
def _chosen_core(pending: Ints) -> int:
    """Return the core that a job goes to which names none, -1 if it waits."""
    for most in range(2):
        for core in range(len(pending)):
            if pending[core] <= most:
                return core
    return -1


@compiled
def _merge_takes(c: Any, cluster: Any, part: Any, leaving: Ints, offered: bool, t: int) -> bool:
    """Step the merge unit while it merges; return whether it takes the beat that its packet has, if it is `offered`."""
    writes = not part.more and (part.emit_state or not c.header)
    divides = writes and not part.emit_state
    awaits = not part.more and not part.emit_state and c.header
    # What was announced goes through the divider's stages again.
    free = True
    for again in range(1, cluster.passes):
        free = free and not (c.announced >> (again * cluster.stages - 1)) & 1
    clear = (not writes or c.level <= cluster.room) and (not divides or free) and (not awaits or not c.drain)
    words = (part.value_dim + cluster.output_lanes - 1) // cluster.output_lanes
    last_word = c.word == words - 1
    lanes = part.value_dim - (words - 1) * cluster.output_lanes if last_word else cluster.output_lanes
    beat_end = c.header or c.lane == lanes - 1
    whole = c.piece == cluster.pieces - 1
    word = offered and whole and clear
    takes = offered and (not whole or (clear and beat_end))

    c.announced = (c.announced << 1 | int(word and divides)) & _HISTORY
    c.drain = cluster.merge + cluster.divider + 1 if word else max(c.drain - 1, 0)
    if word and writes and beat_end:
        entry = t + cluster.merge + 2 + (0 if part.emit_state else cluster.divider)
        for n in range(cluster.pieces if part.emit_state else 1):
            leaving[c.written % _LEAVING] = entry + n
            c.written += 1
            c.level += 1
    if takes:
        c.piece = 0 if whole else c.piece + 1
    if word:
        if not beat_end:
            c.lane += 1
        elif c.header:
            c.header = c.lane = c.word = 0
        else:
            c.lane = 0
            c.word += 1
            if last_word:
                c.word = 0
                c.row += 1
                c.header = 1
    return bool(takes)


@compiled
def run_cluster(
    core_record: Records,
    memory_record: Records,
    cluster_record: Records,
    listed: Records,
    jobs: Records,
    survivors: npt.NDArray[np.bool_],
) -> tuple[int, Ints, Ints, Ints]:
    """Run a list of jobs on a cluster that has just been reset.

    Parameters
    ----------
    core_record, memory_record, cluster_record : numpy.ndarray
        One record each of dtype `perf_model.core_timing.CORE` and `MEMORY`, and `CLUSTER`.
    listed, jobs : numpy.ndarray
        The list, dtype `LISTED`, and the same jobs as their cores see them, dtype `JOB`.
    survivors : numpy.ndarray
        For each key of all jobs, whether it survives; bool.

    Returns
    -------
    int
        Cycles from the first beat of q to the last beat of o.
    numpy.ndarray
        Uses of the array in each job's record, int64, shape (jobs, uses).
    numpy.ndarray
        The core that ran each job, int64, shape (jobs,).
    numpy.ndarray
        The cycle in which each job's packet had left its core, counted as the total is; int64, shape (jobs,).
    """
    core, memory, cluster = core_record[0], memory_record[0], cluster_record[0]
    count, cores = len(jobs), cluster.cores
    first_key = np.zeros(count + 1, dtype=np.int64)
    for n in range(count):
        first_key[n + 1] = first_key[n] + jobs[n].keys

    # What each core has been given, in its order.
    given = np.zeros(cores, dtype=np.int64)
    given_keys = np.zeros(cores, dtype=np.int64)
    its_jobs = np.zeros((cores, count), dtype=JOB)
    its_survivors = np.zeros((cores, len(survivors)), dtype=np.bool_)
    its_uses = np.zeros((cores, count, len(USES)), dtype=np.int64)
    number = np.zeros(count, dtype=np.int64)
    ran_on = np.zeros(count, dtype=np.int64)
    left_in = np.zeros(count, dtype=np.int64)

    registers = np.zeros(cores, dtype=REGISTERS)
    rings = np.zeros((cores, RING), dtype=RINGS)
    job_queues, query_queues = np.zeros(cores, dtype=FIFO_RECORD), np.zeros(cores, dtype=FIFO_RECORD)
    turns, record_turns = np.zeros(1, dtype=FIFO_RECORD), np.zeros(1, dtype=FIFO_RECORD)
    pending = np.zeros(cores, dtype=np.int64)
    leaving = np.zeros(_LEAVING, dtype=np.int64)
    own = np.zeros(1, dtype=_REGISTERS)
    c = own[0]
    c.first = -1
    for n in range(cores):
        start(registers[n], core, its_uses[n])

    t = 0
    while c.recorded < count or c.turn < count:
        # What the dispatcher does, and sees of the queues.
        sends = queries = states = False
        chosen = -1
        if c.dispatching == _CHOOSE:
            named = listed[c.sending].core
            chosen = named if named >= 0 else _chosen_core(pending)
        elif c.dispatching == _SEND:
            sends = (
                fifo_takes(job_queues[c.core], cluster.queue_jobs)
                and fifo_takes(turns[0], cluster.turns)
                and fifo_takes(record_turns[0], cluster.turns)
            )
        elif c.dispatching == _QUERY:
            queries = fifo_takes(query_queues[c.core], cluster.queue_beats)
        elif c.dispatching == _STATE:
            states = True

        # What leaves.
        turn_core = ran_on[c.turn] if c.turn < count else 0
        offered = c.collecting in (_PASS, _MERGE) and offers_output(registers[turn_core], core, rings[turn_core], t)
        pops = c.gone < c.written and leaving[c.gone % _LEAVING] == t
        drained = not c.drain
        merging = c.merging
        takes_output = offered
        if merging == _MERGING:
            takes_output = _merge_takes(c, cluster, listed[c.turn], leaving, offered, t)
        else:
            c.announced = c.announced << 1 & _HISTORY
            c.drain = max(c.drain - 1, 0)
        record_core = ran_on[c.recorded] if record_turns[0].out else -1
        takes_record = record_core >= 0 and registers[record_core].record_from <= t

        took_state = False
        for n in range(cores):
            s = registers[n]
            s.jobs = job_queues[n].out
            s.offered[_Q] = query_queues[n].out
            s.offered[_STATE_PORT] = states and n == c.core
            ended = s.request_job
            at_turn, at_record = takes_output and n == turn_core, takes_record and n == record_core
            step(s, core, memory, its_jobs[n], its_survivors[n], rings[n], its_uses[n], t, at_turn, at_record)
            sent_here = n == c.core
            step_fifo(job_queues[n], sends and sent_here, job_queues[n].out and not s.jobs)
            step_fifo(query_queues[n], queries and sent_here, query_queues[n].out and not s.offered[_Q])
            took_state = took_state or (states and sent_here and not s.offered[_STATE_PORT])
            pending[n] += int(sends and sent_here) - (s.request_job - ended)
        takes_turn = c.collecting == _TURN and turns[0].out
        step_fifo(turns[0], sends, takes_turn)
        step_fifo(record_turns[0], sends, takes_record)
        c.recorded += int(takes_record)

        if pops:
            c.gone += 1
            c.level -= 1
            c.end = t
        if merging == _DRAINING and drained:
            c.merging = _IDLE
        if takes_turn:
            part = listed[c.turn]
            single = not part.more and (c.turn == 0 or not listed[c.turn - 1].more)
            c.left = jobs[c.turn].output_beats
            c.collecting = _PASS if single else _PART
        elif c.collecting == _PART and merging == _IDLE:
            c.piece = c.lane = c.word = c.row = 0
            c.header = 1
            c.merging = _MERGING
            c.collecting = _MERGE
        elif takes_output:
            c.left -= 1
            if c.collecting == _PASS:
                c.end = t
            if not c.left:
                left_in[c.turn] = t
                if c.collecting == _MERGE:
                    c.merging = _DRAINING
                if c.collecting == _MERGE and not listed[c.turn].more:
                    c.collecting = _END
                else:
                    c.collecting = _TURN
                    c.turn += 1
        elif c.collecting == _END and pops and c.gone == c.written:
            c.collecting = _TURN
            c.turn += 1

        if c.dispatching == _JOB:
            # The first cycle after reset has no source driven yet.
            if t > 0 and c.sending < count:
                c.dispatching = _CHOOSE
        elif c.dispatching == _CHOOSE:
            if chosen >= 0:
                c.core = chosen
                c.dispatching = _SEND
        elif sends:
            n, job = c.core, c.sending
            its_jobs[n, given[n]] = jobs[job]
            for key in range(jobs[job].keys):
                its_survivors[n, given_keys[n] + key] = survivors[first_key[job] + key]
            registers[n].offered[_K] += jobs[job].keys * jobs[job].head_beats
            ran_on[job], number[job] = n, given[n]
            given[n] += 1
            given_keys[n] += jobs[job].keys
            c.beats = jobs[job].query_beats
            c.dispatching = _QUERY
        elif queries or took_state:
            if c.first < 0:
                c.first = t
            c.beats -= 1
            if not c.beats:
                c.beats = jobs[c.sending].state_beats if queries else 0
                c.dispatching = _STATE if c.beats else _JOB
                c.sending += int(not c.beats)
        t += 1

    # Not `c`, which does not keep its array alive.
    first, end = own[0].first, own[0].end
    uses = np.zeros((count, len(USES)), dtype=np.int64)
    for job in range(count):
        uses[job] = its_uses[ran_on[job], number[job]]
        left_in[job] -= first - 1
    return end - first + 1, uses, ran_on, left_in
