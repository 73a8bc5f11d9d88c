"""The control of a core behind a key sequencer, cycle by cycle: the sequencer's, and the core's (`core_timing`).

As there, every part sees what the others held when the cycle began. Commands and bitmaps are there from the start, and
the memory takes every request; a key's beats are there `golden.memory.Memory.latency` cycles after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.compiled import compiled, forget_stale_code
from golden.memory import CHANNEL_ORDER
from perf_model.core_timing import REGISTERS, RING, RINGS, USES, Records, integers, start, step
from perf_model.fifo_timing import FIFO, step_fifo
from perf_model.latency import Ints

forget_stale_code(Path(__file__).parent)


SEQUENCER = integers(
    # Words of bitmap that there is room for; from a command to its first word, from the last one to the count, both for
    # blocks of a single key.
    *("bitmap_words", "command", "count"),
)

SEQUENCE = integers(
    # Bits of a key within its block; words of a bitmap, those before the bounds, those within them; keys.
    *("shift", "words", "skipped", "within", "keys"),
)

_Q, _STATE, _K = (CHANNEL_ORDER.index(port) for port in ("q", "state", "k"))
_COMMAND, _BITMAP, _COUNT, _START = range(4)

_REGISTERS = integers(
    # Counting: what it does and since when; its command, words of its bitmap taken; whether a word enters the FIFO.
    *("phase", "since", "counting", "taken", "enters"),
    # FIFO of words.
    *FIFO,
    # Requests: whether keys are under way; words of theirs to come, keys to come; words taken from the FIFO in all.
    *("active", "words", "left", "loaded"),
    # Blocks left in the word; blocks taken from words in all; block in each stage plus one, or none; keys of the last.
    *("blocks", "found", "numbered", "placed", "clipped", "keys"),
)


@compiled
def _count(q: Any, sequencer: Any, sequences: Records, t: int, counted: bool) -> bool:
    """Step what counts the keys of commands, whose count is taken or not; return whether a run of keys is to start."""
    starts = False
    enters = False
    if q.phase == _COMMAND:
        # The first cycle after reset has no source driven yet.
        if t > 0 and q.counting < len(sequences):
            q.taken = 0
            q.phase, q.since = _BITMAP, t + sequencer.command + sequences[q.counting].shift
    elif q.phase == _BITMAP:
        sequence = sequences[q.counting]
        if q.since <= t and q.stored + q.out < sequencer.bitmap_words:
            enters = sequence.skipped <= q.taken < sequence.skipped + sequence.within
            q.taken += 1
            if q.taken == sequence.words:
                q.phase, q.since = _COUNT, t + sequencer.count + sequence.shift
    elif q.phase == _COUNT:
        if counted:
            q.phase = _START
    elif not q.active:
        starts = True
        q.phase = _COMMAND
    q.enters = enters
    return starts


@compiled
def _request(q: Any, word_blocks: Ints, block_keys: Ints) -> tuple[bool, bool]:
    """Step what requests keys; return whether one is requested, and whether a word leaves the FIFO."""
    requests = q.keys > 0
    emit_free = q.keys <= 1
    clip_free = not q.clipped or emit_free
    place_free = not q.placed or clip_free
    number_free = not q.numbered or place_free
    loads = q.active and q.words and q.out and q.blocks <= 1 and (not q.blocks or number_free)
    # After the last key there may still be words without blocks.
    if q.active and not q.words and not q.left:
        q.active = 0
    q.left -= requests
    q.keys -= requests
    if emit_free:
        q.keys = block_keys[q.clipped - 1] if q.clipped else 0
    if clip_free:
        q.clipped = q.placed
    if place_free:
        q.placed = q.numbered
    if number_free:
        q.numbered = 0
        if q.blocks:
            q.blocks -= 1
            q.found += 1
            q.numbered = q.found
    if loads:
        q.blocks = word_blocks[q.loaded]
        q.loaded += 1
        q.words -= 1
    return requests, loads


@compiled
def run_masked(
    core_record: Records,
    memory_record: Records,
    sequencer_record: Records,
    jobs: Records,
    survivors: npt.NDArray[np.bool_],
    sequences: Records,
    word_blocks: Ints,
    block_keys: Ints,
) -> tuple[int, Ints]:
    """Run jobs back to back on a core behind a key sequencer that have just been reset.

    Parameters
    ----------
    core_record, memory_record, sequencer_record : numpy.ndarray
        One record each of dtype `perf_model.core_timing.CORE` and `MEMORY`, and `SEQUENCER`.
    jobs, survivors : numpy.ndarray
        As of `perf_model.core_timing.run`.
    sequences : numpy.ndarray
        The jobs' commands, dtype `SEQUENCE`.
    word_blocks, block_keys : numpy.ndarray
        Of all bitmaps, blocks that are streamed in each word within the bounds; keys of each of these blocks. int64.

    Returns
    -------
    tuple of int and numpy.ndarray
        As of `perf_model.core_timing.run`.
    """
    core, memory, sequencer = core_record[0], memory_record[0], sequencer_record[0]
    uses = np.zeros((len(jobs), len(USES)), dtype=np.int64)
    rings = np.zeros(RING, dtype=RINGS)
    registers, own = np.zeros(1, dtype=REGISTERS), np.zeros(1, dtype=_REGISTERS)
    s = registers[0]
    start(s, core, uses)
    words = s.waiting if memory.limited else s.offered
    for n in range(len(jobs)):
        words[_Q] += jobs[n].query_beats
        words[_STATE] += jobs[n].state_beats
    # Beats of keys on their way, by the cycle in which they come.
    places = memory.latency + 1
    arriving = np.zeros(places, dtype=np.int64)
    requesting = requested = 0
    t = 0
    while s.writing < len(jobs) or s.sent < s.read:
        # Taken anew each cycle, for a record does not keep its array alive.
        q = own[0]
        words[_K] += arriving[t % places]
        arriving[t % places] = 0
        offered = q.phase == _COUNT and q.since <= t
        s.jobs = int(offered)
        step(s, core, memory, jobs, survivors, rings, uses, t, True, True)
        enters = q.enters
        running = q.counting
        starts = _count(q, sequencer, sequences, t, offered and not s.jobs)
        requests, loads = _request(q, word_blocks, block_keys)
        step_fifo(q, enters, loads)
        if starts:
            q.active, q.words, q.left = 1, sequences[running].within, sequences[running].keys
            q.counting += 1
        if requests:
            arriving[(t + memory.latency) % places] += jobs[requesting].head_beats
            requested += 1
            if requested == jobs[requesting].keys:
                requested = 0
                requesting += 1
        t += 1
    # Not `s`, which does not keep its array alive.
    return registers[0].end - registers[0].first + 1, uses
