"""Payloads of the core's streams: the only place where their bit layouts are written."""

import enum

from amaranth.lib import data

from golden import formats
from golden.config import CoreConfig
from golden.key_sequence import WORD_BLOCKS

PIECE_BITS = formats.OUTPUT_BITS
"""Width of one lane of the o and state ports; a state word crosses them in `STATE_PIECES` pieces, lowest first."""

STATE_PIECES = formats.STATE_WORD_BITS // PIECE_BITS

CYCLE_BITS = 32
"""Width of a cycle counter in a statistics record; it wraps."""


class Status(enum.IntEnum):
    """How a job ended, as its statistics record reports it.

    From HEAD_DIM to STATE_LENGTH the job was rejected: its keys were discarded and its output is a single zero beat.
    After the others the output is that of the whole keys received, at most the number announced. KEY_EARLY means that
    they ended before that number, KEY_LATE that they did not end there and were discarded up to their end, KEY_TIMEOUT
    that they stopped coming, after which the next beat is taken for the next job's. PART is said by a cluster of a good
    job whose head has none the less no result: its rows or value dimension are not those of the head's job before.
    """

    OK = 0
    HEAD_DIM = 1
    VALUE_DIM = 2
    ROWS = 3
    KEYS = 4
    MASK = 5
    TAU = 6
    SHARED = 7
    EPSILON = 8
    TARGET = 9
    QUERY_LENGTH = 10
    STATE_LENGTH = 11
    KEY_EARLY = 12
    KEY_LATE = 13
    KEY_TIMEOUT = 14
    PART = 15


class ArrayUse(enum.IntEnum):
    """What the array did in a cycle; a statistics record counts each.

    Members
    -------
    QK, PV
        One beat of scores, or of probability times value; also the one beat of discarded keys, or of an empty last
        pack.
    WAIT_QUERY
        No job with complete queries (and state) to work on.
    WAIT_KEY
        Ready for a beat of k that was not offered, or discarding one.
    WAIT_VALUE
        No score can be begun while a pack waits for its values.
    WAIT_OUTPUT
        The next job is ready but for the outputs or statistics of the job before the last, not yet taken.
    WAIT_SCORE
        Internal: score slots, what rows share, the exponentials or the tau of the job before are the limit.
    """

    QK = 0
    PV = 1
    WAIT_QUERY = 2
    WAIT_KEY = 3
    WAIT_VALUE = 4
    WAIT_OUTPUT = 5
    WAIT_SCORE = 6


ANY_CORE = 255
"""Number of a core, in a cluster's job, that stands for whichever is free."""


def job_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the job port. Fields are wider than the configuration needs, so that what it can't hold is seen."""
    return data.StructLayout(
        {
            "head_dim": 16,
            "value_dim": 16,
            "rows": 8,
            "keys": 24,
            "multiplier": formats.MULTIPLIER_BITS,
            "shift": formats.SHIFT_BITS,
            "tau": formats.TAU_BITS,
            "epsilon_shift": formats.EPSILON_SHIFT_BITS,
            "target": formats.TARGET_BITS,
            "continue_tau": 1,
            "mask": 2,
            "window": 24,
            "from_state": 1,
            "emit_state": 1,
            "shared": 1,
            "tag": config.tag_bits,
        }
    )


def _elements(config: CoreConfig) -> data.ArrayLayout:
    return data.ArrayLayout(formats.DATA_BITS, config.lanes)


def query_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the q port: a beat of a row, the row's position, and whether the block ends."""
    return data.StructLayout({"data": _elements(config), "position": config.position_bits, "last": 1})


def key_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the k port: a beat of a key row, the key's index, and whether the job's keys end."""
    return data.StructLayout({"data": _elements(config), "index": config.position_bits, "last": 1})


def value_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the v port: a beat of a value row."""
    return data.StructLayout({"data": _elements(config)})


def value_request_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the v_req port.

    A transfer with `wanted` asks for the value row of key `index`. The transfer of a job's last key has `last`, and
    comes whether that key is wanted or not. Nothing is wanted for a job whose values are shared with its keys.
    """
    return data.StructLayout({"index": config.position_bits, "wanted": 1, "last": 1})


def state_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the state port, the same as of o in a job that emits its state.

    A row is a header word, in lane 0 (sum l in its low `formats.STATE_SUM_BITS` bits, maximum m above), then its
    accumulators, `output_lanes` words a beat. Each beat of words takes `STATE_PIECES` transfers.
    """
    return data.StructLayout({"data": data.ArrayLayout(PIECE_BITS, config.output_lanes), "last": 1})


def output_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the o port: row-major output elements or pieces of state words, the job's tag, and its end."""
    return data.StructLayout(
        {"data": data.ArrayLayout(PIECE_BITS, config.output_lanes), "tag": config.tag_bits, "last": 1}
    )


def counts_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of what is counted key by key for one job: the data-dependent part of its statistics."""
    return data.StructLayout(
        {
            "keys": config.count_bits,
            "survivors": config.count_bits,
            "packs": config.count_bits,
            "saturated": config.count_bits + config.rows.bit_length(),
            "dropped": data.ArrayLayout(config.count_bits, config.rows),
        }
    )


def stats_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the stats port: one record a job.

    `tau` is the threshold that the job's keys were held to. `empty` has a bit for each row in use that no key may
    attend to. `cycles` holds, for each `ArrayUse`, the cycles since the record before was offered (or since reset), so
    that sums over records are exact.
    """
    return data.StructLayout(
        {
            "tag": config.tag_bits,
            "status": 8,
            "tau": formats.TAU_BITS,
            "counts": counts_layout(config),
            "empty": config.rows,
            "cycles": data.ArrayLayout(CYCLE_BITS, len(ArrayUse)),
        }
    )


def cluster_job_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of a cluster's job port: a job, the core that runs it, and whether the head goes on in the next job.

    Any number that is not that of a core leaves it to the cluster, as `ANY_CORE` does. Whether a head gives its state
    or its output is `emit_state` of its last job.
    """
    return data.StructLayout({**{name: field.shape for name, field in job_layout(config)}, "core": 8, "more": 1})


def route_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of a cluster's route port: a job's tag, and the core that has been given it."""
    return data.StructLayout({"tag": config.tag_bits, "core": 8})


def sequence_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the key sequencer's command port, as `golden.key_sequence.KeySequence` describes it.

    Range, window and block have more bits than the configuration needs, so that what it can't hold is seen.
    """
    return data.StructLayout(
        {
            "first": 24,
            "end": 24,
            "block_shift": 5,
            "mask": 2,
            "window": 24,
            "first_position": config.position_bits,
            "last_position": config.position_bits,
        }
    )


def bitmap_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the key sequencer's bitmap port: a bit a block of keys, the first one lowest."""
    return data.StructLayout({"blocks": WORD_BLOCKS, "last": 1})


def key_count_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the key sequencer's count port: keys of a command, as its job announces them; how it ended."""
    return data.StructLayout({"keys": 24, "status": 8})


def key_request_layout(config: CoreConfig) -> data.StructLayout:
    """Payload of the key sequencer's k_req port, with the meaning of `value_request_layout`."""
    return value_request_layout(config)
