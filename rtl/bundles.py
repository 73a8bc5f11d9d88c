"""Bundles between the components of the core, and the few idioms that they share."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data

from golden import formats
from golden.config import ClusterConfig, CoreConfig

CONTEXTS = 2
"""Jobs that the core holds at once: one streams its keys while the one before finishes and drains."""


def index_shape(count: int) -> range:
    """Return the shape of an index below `count`: at least a bit wide, since Verilog has no signals without bits."""
    return range(max(count, 2))


def context_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of a job's context: its fields as the loader checked them, kept until its statistics are taken.

    Fields called last count from 0: the last beat of a key row or a value row, the last element of an output row, its
    last word of `output_lanes` elements, the last row, the last key. `shared`, that the values are captured from the
    keys, is only set of a good job.
    """
    return data.StructLayout(
        {
            "status": 8,
            "last_head_beat": index_shape(config.head_beats(config.max_head_dim)),
            "last_value_beat": index_shape(config.value_beats(config.max_value_dim)),
            "last_element": range(config.max_value_dim),
            "last_output_word": index_shape(config.output_beats(config.max_value_dim)),
            "last_row": index_shape(config.rows),
            "row_mask": config.rows,
            "last_key": config.position_bits,
            "multiplier": formats.MULTIPLIER_BITS,
            "shift": formats.SHIFT_BITS,
            "tau": formats.TAU_BITS,
            "epsilon_shift": formats.EPSILON_SHIFT_BITS,
            "target": formats.TARGET_BITS,
            "continue_tau": 1,
            "mask": 2,
            "window": config.count_bits,
            "from_state": 1,
            "emit_state": 1,
            "shared": 1,
            "tag": config.tag_bits,
        }
    )


def contexts_layout(config: CoreConfig) -> data.ArrayLayout:
    """Return the layout of both contexts."""
    return data.ArrayLayout(context_layout(config), CONTEXTS)


def column_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of what travels with a key's scores.

    A `void` column stands for no key: it only ends a job whose keys ended too early or were discarded.
    """
    return data.StructLayout({"ctx": 1, "index": config.position_bits, "first": 1, "last": 1, "void": 1})


def verdict_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of a judged key: whether it is kept; each row's logit, permission and running maximum."""
    return data.StructLayout(
        {
            "column": column_layout(config),
            "keep": 1,
            "allowed": config.rows,
            "saturated": config.rows,
            "logits": data.ArrayLayout(signed(formats.SCORE_BITS), config.rows),
            "maxima": data.ArrayLayout(signed(formats.MAXIMUM_BITS), config.rows),
        }
    )


def pack_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of a closed pack: its keys, each row's maximum at closing and its growth since the last."""
    return data.StructLayout(
        {
            "ctx": 1,
            "count": range(config.lanes + 1),
            "last": 1,
            "maxima": data.ArrayLayout(signed(formats.MAXIMUM_BITS), config.rows),
            "deltas": data.ArrayLayout(range(formats.DELTA_MAX + 1), config.rows),
        }
    )


def state_row_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of the write port of a context's maxima and sums, for jobs that start from a partial state."""
    return data.StructLayout(
        {
            "enable": 1,
            "ctx": 1,
            "row": index_shape(config.rows),
            "maximum": signed(formats.MAXIMUM_BITS),
            "total": config.sum_bits,
        }
    )


def state_word_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of the write port of a context's accumulators, for jobs that start from a partial state."""
    return data.StructLayout(
        {
            "enable": 1,
            "ctx": 1,
            "row": index_shape(config.rows),
            "word": index_shape(config.output_beats(config.max_value_dim)),
            "elements": data.ArrayLayout(signed(config.accumulator_bits), config.output_lanes),
        }
    )


def part_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of what the merge unit is told of a packet of state: a head goes on while there is `more`.

    `emit_state` counts in a head's last part, and `void` spoils the head.
    """
    return data.StructLayout(
        {
            "more": 1,
            "emit_state": 1,
            "void": 1,
            "last_row": index_shape(config.rows),
            "last_element": range(config.max_value_dim),
        }
    )


def turn_layout(config: ClusterConfig) -> data.StructLayout:
    """Return the layout of whose packet is next to leave a cluster: its core, and its part of a head.

    A packet that is a whole head is `single`: nothing is merged.
    """
    return data.StructLayout({"core": index_shape(config.cores), "single": 1, "part": part_layout(config.core)})


def record_turn_layout(config: ClusterConfig) -> data.StructLayout:
    """Return the layout of whose record is next to leave a cluster; `void` if the job spoilt its head."""
    return data.StructLayout({"core": index_shape(config.cores), "void": 1})


def merge_word_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of a word of a state under merging: a row's `header`, maximum and sum, or an element of its O.

    `word` and `lane` are the element's place in the row. The sum of a header is its `value`.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "header": 1,
            "row": index_shape(config.rows),
            "word": index_shape(config.output_beats(config.max_value_dim)),
            "lane": index_shape(config.output_lanes),
            "maximum": signed(formats.MAXIMUM_BITS),
            "value": signed(config.accumulator_bits),
        }
    )


def by_context(contexts: data.View, ctx: Value, name: str) -> Value:
    """Return field `name` of the context that `ctx` selects."""
    return Mux(ctx, contexts[1][name], contexts[0][name])


def delayed(m: Module, value: Value | data.View, cycles: int, name: str) -> Value | data.View:
    """Return `value` as it was `cycles` ago."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{stage + 1}")
        m.d.sync += register.eq(value)
        value = register
    return value
