"""The control of the core, cycle by cycle: a machine with the state of the RTL that says when, and none of its data.

`run` steps the parts in an order in which each sees what the others held when the cycle began, or is told what they do
in it. What a pipeline delays is kept as the cycle in which it comes out. All is compiled by Numba. Latencies come
with the core, as data: compiled code would not notice when a constant changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.compiled import compiled, forget_stale_code
from golden.memory import CHANNEL_ORDER

forget_stale_code(Path(__file__).parent)

Records = npt.NDArray[Any]

USES = ("qk", "pv", "wait_query", "wait_key", "wait_value", "wait_output", "wait_score")
"""Uses of the array in a cycle, in the order in which a statistics record counts them."""

QK, PV, WAIT_QUERY, WAIT_KEY, WAIT_VALUE, WAIT_OUTPUT, WAIT_SCORE = range(len(USES))
_V, _O, _Q, _STATE, _K = range(len(CHANNEL_ORDER))
_JOB, _QUERY, _CLAIM, _LOAD_STATE, _LOADED = range(5)
_NEVER = 1 << 62
_CONTEXTS = 2


def integers(*names: str) -> np.dtype[Any]:
    """Return the dtype of a record of integers."""
    return np.dtype([(name, np.int64) for name in names])


CORE = integers(
    "lanes",
    "score_slots",
    # From a key's last beat to the next one's, at least: of any job, of one with an error bound.
    *("rows_per_scaler", "bound_spacing"),
    # Beats of keys with shared values that are held until their verdict, and survivors' until they are values.
    "capture_beats",
    # Of v_req: ends of jobs that may be pending. Packs of values; beats in the output FIFO.
    *("ends", "value_packs", "output_fifo"),
    # Latencies: job to q; key beat to verdict, to its rows' release; verdict to exponentials, and through them; through
    # a FIFO; last P V beat to read of the output; output's last entry to record. What an error bound adds to a verdict;
    # last key of a job to the first of one that goes on from its tau.
    *("loader_entry", "verdict", "queries_free", "pack", "exponentials", "fifo", "finish", "record"),
    *("bound_latency", "tau_spacing"),
)

JOB = integers(
    "keys",
    # Beats of a key and of a value row; elements of a value row; whether the values are shared with the keys.
    *("head_beats", "value_beats", "value_dim", "shared"),
    # Whether it has an error bound, and goes on from the tau of the job before.
    *("bounded", "continues"),
    # Beats on q, state and o; from the read of a beat of o to its entry in the FIFO.
    *("query_beats", "state_beats", "output_beats", "output_latency"),
)

MEMORY = np.dtype(
    # Whether bandwidth is limited; then `golden.memory.Memory` and `golden.memory.Channel`.
    [(name, np.int64) for name in ("limited", "latency", "outstanding", "buffer", "income", "savings")]
    + [("prices", np.int64, (len(CHANNEL_ORDER),))]
)

RINGS = integers(
    *("judged", "closed", "count", "last", "requested", "kind", "due", "beats", "pushed"),
    # Of survivors in the key capture: the beats captured before theirs, and theirs.
    *("place", "place_beats"),
)
RING = 2048
"""Entries of a ring, `RINGS`: a power of two that holds more than any queue of the largest core."""

_SLOT = RING - 1
_WANTED, _END = 1, 2

REGISTERS = np.dtype(
    [
        (name, np.int64)
        for name in (
            # Job loader: what it does and since when; its job; beats to come; jobs that wait at the port.
            *("phase", "since", "loading", "beats", "jobs"),
            # Q K: job, key and beat in the key; score multipliers and budgets are free from; the tau of the job before
            # is there from; free slots; ends pending on v_req.
            *("key_job", "key", "word", "scaler_free", "tau_there", "slots", "ends"),
            # P V: job, beats of the pack to come; its keys, whether it ends the job, whether its values are done with.
            *("value_job", "value_beats", "pack_count", "pack_last", "released"),
            # Keys entered and judged, of all jobs; job judged, its keys judged, survivors in the open pack.
            *("entered", "judged", "judging", "judged_keys", "held"),
            # Packs closed, and taken by the exponentials; those are free from, took a pack in, have it ready from.
            *("closed", "taken", "exponentials_free", "exponentials_took", "probabilities"),
            # Value lanes: job; packs filled; rows and beats of the one being filled; packs that are full.
            *("lane_job", "filled", "rows", "beat", "full"),
            # Key capture: beats that were given a place, were judged, and have left; the verdict of the cycle before:
            # the beats that it is on, and whether they are kept; survivors noted, and gone; beats read of the oldest;
            # whether the value lanes are offered one.
            *("captured", "capture_judged", "capture_left", "verdict_beats", "verdict_keep"),
            *("noted", "gone", "capture_beat", "capture_offers"),
            # Requests written and taken; job of the next; rows asked for, come to the channel, moved by it.
            *("requested", "answered", "request_job", "asked", "due", "moved"),
            # Channel: savings; beats moved of the row after those.
            *("credit", "row_beats"),
            # Writer: job; free from; beats to read, read and taken from the core; end of its packet in the FIFO.
            *("writing", "writer_free", "reads", "read", "sent", "finish"),
            # Records: taken, and counted; the next is on the port from; the last was taken in.
            *("records", "recording", "record_from", "record_taken"),
            # First beat of q, last of o.
            *("first", "end"),
        )
    ]
    # Of each context: queries are free from; free from; loaded; accumulators are final for the writer from;
    # its output was written in.
    + [(name, np.int64, (_CONTEXTS,)) for name in ("queries_free", "context_free", "loaded", "done", "finished")]
    # Of each port: words that the channel may move; words that wait at the port.
    + [(name, np.int64, (len(CHANNEL_ORDER),)) for name in ("waiting", "offered")]
)


@compiled
def _move_words(s: Any, memory: Any, rings: Records, t: int, output: bool) -> bool:
    """Let the memory move words to the ports; return whether it takes the word of o, if there is an `output`."""
    while s.due < s.asked and rings[s.due & _SLOT].due <= t:
        s.waiting[_V] += rings[s.due & _SLOT].beats
        s.due += 1
    if not memory.limited:
        s.offered[_V] += s.waiting[_V]
        s.waiting[_V] = 0
        s.moved = s.due
        return output
    s.credit = min(s.credit, memory.savings) + memory.income
    taken = False
    for port in range(len(CHANNEL_ORDER)):
        price = memory.prices[port]
        if port == _O:
            wanted = int(output)
            n = min(wanted, s.credit // price)
            taken = n > 0
        else:
            wanted = min(s.waiting[port], memory.buffer - s.offered[port])
            n = min(wanted, s.credit // price)
            s.waiting[port] -= n
            s.offered[port] += n
            s.row_beats += n * (port == _V)
        s.credit -= n * price
        if n < wanted:
            break
    while s.moved < s.due and s.row_beats >= rings[s.moved & _SLOT].beats:
        s.row_beats -= rings[s.moved & _SLOT].beats
        s.moved += 1
    return taken


@compiled
def _load_job(s: Any, core: Any, jobs: Records, t: int) -> None:
    """Step the job loader."""
    ctx = s.loading & 1
    if s.phase == _JOB:
        # The first cycle after reset has no source driven yet.
        if t > 0 and s.jobs and s.queries_free[ctx] <= t:
            s.jobs -= 1
            s.queries_free[ctx] = _NEVER
            s.beats = jobs[s.loading].query_beats
            s.phase, s.since = _QUERY, t + core.loader_entry
    elif s.phase == _QUERY:
        if s.since <= t and s.offered[_Q]:
            if s.first < 0:
                s.first = t
            s.offered[_Q] -= 1
            s.beats -= 1
            if not s.beats:
                s.phase = _CLAIM
    elif s.phase == _CLAIM:
        if s.context_free[ctx] <= t:
            s.context_free[ctx] = _NEVER
            s.beats = jobs[s.loading].state_beats
            # A cycle clears the context.
            s.phase, s.since = _LOAD_STATE if s.beats else _LOADED, t + 2
    elif s.phase == _LOAD_STATE:
        if s.since <= t and s.offered[_STATE]:
            s.offered[_STATE] -= 1
            s.beats -= 1
            if not s.beats:
                s.phase = _LOADED
    elif s.since <= t:
        s.loaded[ctx] = t + 1
        s.loading += 1
        s.phase = _JOB


@compiled
def _use_array(s: Any, core: Any, jobs: Records, rings: Records, t: int, output_waiting: bool) -> int:
    """Step the scheduler and return what the array does."""
    waits = s.probabilities <= t
    if not s.value_beats and waits:
        pack = rings[(s.taken - 1) & _SLOT]
        if not pack.count or s.full:
            s.value_beats = jobs[s.value_job].value_dim if pack.count else 1
            s.probabilities = _NEVER
            s.exponentials_free = t + 1
            s.pack_count, s.pack_last = pack.count, pack.last
    if s.value_beats:
        s.value_beats -= 1
        if not s.value_beats:
            s.released = s.pack_count > 0
            if s.pack_last:
                s.done[s.value_job & 1] = t + core.finish - 1
                s.value_job += 1
        return PV

    ctx = s.key_job & 1
    if s.loaded[ctx] > t:
        return WAIT_OUTPUT if output_waiting else WAIT_QUERY
    job = jobs[s.key_job]
    row_end = s.word == job.head_beats - 1
    full = job.shared and s.captured - s.capture_left + job.value_beats > core.capture_beats
    settled = s.scaler_free <= t and (not job.continues or s.tau_there <= t)
    if (s.word or (s.slots and not full)) and s.ends < core.ends and (not row_end or settled):
        if not s.offered[_K]:
            return WAIT_KEY
        s.offered[_K] -= 1
        s.slots -= s.word == 0
        s.word += 1
        if row_end:
            late = core.bound_latency if job.bounded else 0
            rings[s.entered & _SLOT].judged = t + core.verdict + late
            s.entered += 1
            s.captured += job.value_beats * job.shared
            s.scaler_free = t + (core.bound_spacing if job.bounded else core.rows_per_scaler)
            s.word = 0
            s.key += 1
            if s.key == job.keys:
                s.key = 0
                s.ends += 1
                s.queries_free[ctx] = t + core.queries_free
                s.tau_there = t + core.tau_spacing + late
                s.loaded[ctx] = _NEVER
                s.key_job += 1
        return QK
    return WAIT_VALUE if waits else WAIT_SCORE


@compiled
def _judge_key(s: Any, core: Any, jobs: Records, survivors: npt.NDArray[np.bool_], rings: Records, t: int) -> None:
    """Give the verdict on the key that has come so far: its slot, the pack it closes, its request."""
    if s.judged == s.entered or rings[s.judged & _SLOT].judged != t:
        return
    keep = survivors[s.judged]
    s.judged += 1
    s.judged_keys += 1
    job = jobs[s.judging]
    last = s.judged_keys == job.keys
    if keep:
        s.held += 1
    else:
        s.slots += 1
    if job.shared:
        s.verdict_beats, s.verdict_keep = job.value_beats, keep
    wanted = keep and not job.shared
    if wanted or last:
        request = rings[s.requested & _SLOT]
        request.requested = t
        request.kind = _WANTED * wanted + _END * last
        s.requested += 1
    if s.held == core.lanes or last:
        pack = rings[s.closed & _SLOT]
        pack.closed, pack.count, pack.last = t, s.held, last
        s.closed += 1
        s.held = 0
    if last:
        s.judged_keys = 0
        s.judging += 1


@compiled
def _take_pack(s: Any, core: Any, rings: Records, t: int) -> None:
    """Step the exponentials, which give back a slot for each key they read."""
    if s.taken and s.exponentials_took < t <= s.exponentials_took + rings[(s.taken - 1) & _SLOT].count:
        s.slots += 1
    if s.exponentials_free <= t and s.taken < s.closed:
        pack = rings[s.taken & _SLOT]
        if pack.closed + core.pack <= t:
            s.exponentials_free = _NEVER
            s.exponentials_took = t
            s.probabilities = t + (core.lanes + core.exponentials if pack.count else 1)
            s.taken += 1


@compiled
def _fill_lanes(s: Any, core: Any, jobs: Records, rings: Records, t: int) -> bool:
    """Step the value lanes; return whether a pack is complete."""
    pack = rings[s.filled & _SLOT]
    known = s.filled < s.closed and pack.closed + core.fifo <= t
    if known and s.rows == pack.count:
        s.rows = 0
        s.lane_job += pack.last
        s.filled += 1
        return bool(pack.count)
    shared = s.lane_job < len(jobs) and jobs[s.lane_job].shared
    offered = s.capture_offers if shared else s.offered[_V]
    if offered and s.full < core.value_packs and s.rows < core.lanes:
        if shared:
            s.capture_offers = 0
        else:
            s.offered[_V] -= 1
        s.beat += 1
        if s.beat == jobs[s.lane_job].value_beats:
            s.beat = 0
            s.rows += 1
    return False


@compiled
def _pass_captured(s: Any, rings: Records) -> None:
    """Step the key capture: the oldest survivor's next beat goes to the value lanes; a verdict is noted."""
    s.capture_left = s.capture_judged
    if s.gone < s.noted:
        survivor = rings[s.gone & _SLOT]
        if not s.capture_offers:
            s.capture_offers = 1
            s.capture_beat += 1
        s.capture_left = survivor.place + s.capture_beat
        if s.capture_beat == survivor.place_beats:
            s.capture_beat = 0
            s.gone += 1
    if s.verdict_keep:
        noted = rings[s.noted & _SLOT]
        noted.place, noted.place_beats = s.capture_judged, s.verdict_beats
        s.noted += 1
    s.capture_judged += s.verdict_beats
    s.verdict_beats = s.verdict_keep = 0


@compiled
def _take_request(s: Any, core: Any, jobs: Records, memory: Any, rings: Records, t: int) -> None:
    """Let the memory take a value request."""
    request = rings[s.answered & _SLOT]
    if s.answered == s.requested or request.requested + core.fifo > t or s.asked - s.moved >= memory.outstanding:
        return
    s.answered += 1
    if request.kind & _WANTED:
        row = rings[s.asked & _SLOT]
        row.due, row.beats = t + memory.latency, jobs[s.request_job].value_beats
        s.asked += 1
    if request.kind & _END:
        s.ends -= 1
        s.request_job += 1


@compiled
def _write_output(s: Any, core: Any, jobs: Records, rings: Records, t: int) -> None:
    """Step the output writer, as far as the entry of beats in their FIFO."""
    if s.reads and s.read - s.sent < core.output_fifo:
        entry = t + jobs[s.writing].output_latency
        rings[s.read & _SLOT].pushed = entry
        s.read += 1
        s.reads -= 1
        if not s.reads:
            s.finish = entry
    elif s.writer_free <= t and s.writing < len(jobs) and s.done[s.writing & 1] <= t:
        s.done[s.writing & 1] = _NEVER
        s.writer_free = _NEVER
        s.reads = jobs[s.writing].output_beats


@compiled
def _offer_record(s: Any, core: Any, t: int, takes_record: bool) -> None:
    """Step the record on the stats port, which is taken or not if there is one."""
    if s.record_from <= t and takes_record:
        s.context_free[s.records & 1] = t + 1
        s.records += 1
        s.record_taken = t
        s.record_from = _NEVER
    if s.record_from == _NEVER and s.records < s.writing:
        s.record_from = max(s.finished[s.records & 1] + core.record, s.record_taken + 2)
    # What the record counts ends when it is offered, and the counter is a cycle behind.
    if t == s.record_from - 2:
        s.recording += 1


@compiled
def start(s: Any, core: Any, uses: npt.NDArray[np.int64]) -> None:
    """Reset a core whose registers are all zero."""
    s.first = -1
    s.finish = s.probabilities = s.record_from = _NEVER
    s.record_taken = -_NEVER
    s.slots = core.score_slots
    for ctx in range(_CONTEXTS):
        s.loaded[ctx] = s.done[ctx] = _NEVER
    # The counter of uses is a cycle behind, and waits for a query when reset ends.
    uses[0, WAIT_QUERY] = 1


@compiled
def offers_output(s: Any, core: Any, rings: Records, t: int) -> bool:
    """Return whether there is a word on o."""
    return bool(s.sent < s.read and rings[s.sent & _SLOT].pushed + core.fifo <= t)


@compiled
def step(
    s: Any,
    core: Any,
    memory: Any,
    jobs: Records,
    survivors: npt.NDArray[np.bool_],
    rings: Records,
    uses: npt.NDArray[np.int64],
    t: int,
    takes_output: bool,
    takes_record: bool,
) -> None:
    """Step a core by a cycle, in which the word on o and the record on stats are taken or not, if there are any."""
    if t == s.finish:
        s.finished[s.writing & 1] = t
        s.writer_free = t + 1
        s.finish = _NEVER
        s.writing += 1
    output = t > 0 and _move_words(s, memory, rings, t, takes_output and offers_output(s, core, rings, t))
    completed = _fill_lanes(s, core, jobs, rings, t)
    output_waiting = s.phase == _CLAIM and s.context_free[s.loading & 1] > t
    _offer_record(s, core, t, takes_record)
    use = _use_array(s, core, jobs, rings, t, output_waiting)
    if s.recording < len(uses):
        uses[s.recording, use] += 1
    s.full += completed - s.released
    s.released = 0
    _pass_captured(s, rings)
    _load_job(s, core, jobs, t)
    _judge_key(s, core, jobs, survivors, rings, t)
    _take_pack(s, core, rings, t)
    _take_request(s, core, jobs, memory, rings, t)
    _write_output(s, core, jobs, rings, t)
    if output:
        s.sent += 1
        s.end = t


@compiled
def run(
    core_record: Records, memory_record: Records, jobs: Records, survivors: npt.NDArray[np.bool_]
) -> tuple[int, npt.NDArray[np.int64]]:
    """Run jobs back to back on a core that has just been reset.

    Parameters
    ----------
    core_record, memory_record : numpy.ndarray
        One record each of dtype `CORE` and `MEMORY`.
    jobs : numpy.ndarray
        Jobs, dtype `JOB`.
    survivors : numpy.ndarray
        For each key of all jobs, whether it survives; bool.

    Returns
    -------
    int
        Cycles from the first beat of q to the last beat of o.
    numpy.ndarray
        Uses of the array in each job's record, int64, shape (jobs, uses).
    """
    core, memory = core_record[0], memory_record[0]
    uses = np.zeros((len(jobs), len(USES)), dtype=np.int64)
    rings = np.zeros(RING, dtype=RINGS)
    registers = np.zeros(1, dtype=REGISTERS)
    s = registers[0]
    start(s, core, uses)
    s.jobs = len(jobs)
    words = s.waiting if memory.limited else s.offered
    for n in range(len(jobs)):
        words[_Q] += jobs[n].query_beats
        words[_STATE] += jobs[n].state_beats
        words[_K] += jobs[n].keys * jobs[n].head_beats
    t = 0
    while s.writing < len(jobs) or s.sent < s.read:
        step(s, core, memory, jobs, survivors, rings, uses, t, True, True)
        t += 1
    # Not `s`: a record does not keep its array alive, which Numba would have freed before the loop.
    return registers[0].end - registers[0].first + 1, uses
