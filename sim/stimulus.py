"""From a golden job to the words its streams carry, and back from words to numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from amaranth.lib import data

from golden import formats
from golden.config import CoreConfig
from golden.job import Job
from golden.key_sequence import KeySequence
from golden.state import PartialState
from rtl import interfaces


@dataclass
class Stimulus:
    """What is sent for one job, word for word, so that a test can also send what is wrong.

    Parameters
    ----------
    fields : dict of str to int
        Fields of the job port.
    query, state : list of int
        Payloads of the q and state ports.
    key : list of int or None
        Payloads of the k port; None is silence until the job's record has been taken.
    values : dict of int to list of int
        For each key index, the payloads of its value row; none of a job that shares its values with its keys.
    sequence : tuple of int and list of int, optional
        Payloads of the key sequencer's command and bitmap ports; only for a core behind one, to which the words of
        `key` are then sent as it asks for them.
    """

    fields: dict[str, int]
    query: list[int]
    key: list[int | None]
    state: list[int]
    values: dict[int, list[int]] = field(repr=False)
    sequence: tuple[int, list[int]] | None = None


def _row_words(rows: np.ndarray, lanes: int) -> list[list[int]]:
    """Cut int8 rows in beats of `lanes` elements, zero padded; return each row's beats as integers."""
    beats = -(-rows.shape[1] // lanes)
    padded = np.zeros((len(rows), beats * lanes), dtype=np.int8)
    padded[:, : rows.shape[1]] = rows
    return [
        [int.from_bytes(row[start : start + lanes].tobytes(), "little") for start in range(0, len(row), lanes)]
        for row in padded
    ]


def _pack(layout: data.StructLayout, **fields: int) -> int:
    """Return the payload of `layout` with these integer fields; others are 0."""
    word = 0
    for name, value in fields.items():
        member = layout[name]
        word |= (value & ((1 << member.width) - 1)) << member.offset
    return word


def state_words(state: PartialState, config: CoreConfig) -> list[int]:
    """Return the packet that carries `state` on the state port, or on o."""
    lanes = config.output_lanes
    words = []
    mask = (1 << formats.STATE_WORD_BITS) - 1
    for maximum, total, accumulator in zip(state.maximum, state.total, state.accumulator, strict=True):
        header = (int(maximum) << formats.STATE_SUM_BITS | int(total)) & mask
        beats = [[header]]
        beats += [[int(x) & mask for x in accumulator[u : u + lanes]] for u in range(0, len(accumulator), lanes)]
        for beat in beats:
            for piece in range(interfaces.STATE_PIECES):
                word = 0
                for lane, element in enumerate(beat):
                    bits = element >> piece * interfaces.PIECE_BITS & ((1 << interfaces.PIECE_BITS) - 1)
                    word |= bits << lane * interfaces.PIECE_BITS
                words.append(word)
    return words


def state_from_words(words: list[int], rows: int, value_dim: int, config: CoreConfig) -> PartialState:
    """Return the state that a packet of `state_words` carries."""
    lanes, pieces, bits = config.output_lanes, interfaces.STATE_PIECES, interfaces.PIECE_BITS
    beats = config.output_beats(value_dim)
    elements = []
    for start in range(0, len(words), pieces):
        group = words[start : start + pieces]
        for lane in range(lanes):
            value = sum((word >> lane * bits & ((1 << bits) - 1)) << n * bits for n, word in enumerate(group))
            elements.append(value - (value >> formats.STATE_WORD_BITS - 1 << formats.STATE_WORD_BITS))
    table = np.array(elements, dtype=np.int64).reshape(rows, (1 + beats) * lanes)
    return PartialState(
        table[:, 0] >> formats.STATE_SUM_BITS,
        table[:, 0] & ((1 << formats.STATE_SUM_BITS) - 1),
        table[:, lanes : lanes + value_dim],
    )


def output_from_words(words: list[int], rows: int, value_dim: int, config: CoreConfig) -> np.ndarray:
    """Return the normalised output that a packet of the o port carries, int16 of shape (rows, value_dim)."""
    width = interfaces.PIECE_BITS // 8 * config.output_lanes
    table = np.frombuffer(b"".join(word.to_bytes(width, "little") for word in words), dtype="<i2")
    return table.reshape(rows, -1)[:, :value_dim].astype(np.int16)


def stimulus(job: Job, config: CoreConfig) -> Stimulus:
    """Return the words that carry `job`.

    Raises
    ------
    InputError
        If `config` can't hold the job.
    """
    job.check(config)
    query_layout, key_layout = interfaces.query_layout(config), interfaces.key_layout(config)
    query = [
        _pack(query_layout, data=beat, position=int(position))
        for row, position in zip(_row_words(job.query, config.lanes), job.positions, strict=True)
        for beat in row
    ]
    key = [
        _pack(key_layout, data=beat, index=int(index))
        for row, index in zip(_row_words(job.key, config.lanes), job.indices, strict=True)
        for beat in row
    ]
    state = [] if job.state is None else state_words(job.state, config)
    query[-1] |= 1 << query_layout["last"].offset
    key[-1] |= 1 << key_layout["last"].offset
    if state:
        state[-1] |= 1 << interfaces.state_layout(config)["last"].offset
    fields = {
        "head_dim": job.head_dim,
        "value_dim": job.value_dim,
        "rows": job.rows,
        "keys": job.keys,
        "multiplier": job.scale.multiplier,
        "shift": job.scale.shift,
        # A job that goes on from another's tau has no use for its own; this one would drop nothing.
        "tau": formats.TAU_KEEP_ALL if job.continue_tau else job.threshold.tau,
        "epsilon_shift": job.threshold.epsilon_shift,
        "target": job.threshold.target,
        "continue_tau": int(job.continue_tau),
        "mask": int(job.mask.kind),
        "window": job.mask.window,
        "from_state": int(job.state is not None),
        "emit_state": int(job.emit_state),
        "shared": int(job.shared),
        "tag": job.tag,
    }
    values = {}
    if not job.shared:
        values = dict(zip(map(int, job.indices), _row_words(job.value, config.lanes), strict=True))
    return Stimulus(fields, query, key, state, values)


def sequence_words(sequence: KeySequence, config: CoreConfig, **wrong: int) -> tuple[int, list[int]]:
    """Return the payloads of a command of the key sequencer, `wrong` fields put in, and of its bitmap."""
    fields = {
        "first": sequence.first,
        "end": sequence.end,
        "block_shift": sequence.block_shift,
        "mask": int(sequence.mask.kind),
        "window": sequence.mask.window,
        "first_position": sequence.positions[0],
        "last_position": sequence.positions[1],
    }
    layout = interfaces.bitmap_layout(config)
    bitmap = [_pack(layout, blocks=word) for word in sequence.words]
    bitmap[-1] |= 1 << layout["last"].offset
    return _pack(interfaces.sequence_layout(config), **fields | wrong), bitmap


def masked_stimulus(job: Job, sequence: KeySequence, config: CoreConfig) -> Stimulus:
    """Return the words that carry `job` to a core behind a key sequencer, which finds its keys by `sequence`.

    The job does not say how many they are. InputError as of `stimulus`.
    """
    words = stimulus(job, config)
    words.fields["keys"] = 0
    words.sequence = sequence_words(sequence, config)
    return words


def job_word(fields: dict[str, int], config: CoreConfig) -> int:
    """Return the payload of the job port."""
    return _pack(interfaces.job_layout(config), **fields)


def cluster_job_word(fields: dict[str, int], config: CoreConfig) -> int:
    """Return the payload of the job port of a cluster of such cores."""
    return _pack(interfaces.cluster_job_layout(config), **fields)


def stats_record(word: int, config: CoreConfig) -> dict[str, int | list[int]]:
    """Return the fields of a payload of the stats port; counts by name, arrays as lists."""
    constant = interfaces.stats_layout(config).from_bits(word)
    counts = constant.counts
    record: dict[str, int | list[int]] = {name: int(constant[name]) for name in ("tag", "status", "tau", "empty")}
    record |= {name: int(counts[name]) for name in ("keys", "survivors", "packs", "saturated")}
    record["dropped"] = [int(counts.dropped[i]) for i in range(config.rows)]
    record["cycles"] = [int(constant.cycles[use]) for use in interfaces.ArrayUse]
    return record
