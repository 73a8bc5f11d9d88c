"""Bundles between the components of the core, and the few idioms that they share."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data

from golden import formats
from golden.config import CoreConfig

CONTEXTS = 2
"""Jobs that the core holds at once: one streams its keys while the one before finishes and drains."""


def context_layout(config: CoreConfig) -> data.StructLayout:
    """What a job's context holds: its fields as the loader checked them, kept until its statistics are taken."""
    return data.StructLayout(
        {
            "status": 8,
            "head_beats": range(config.head_beats(config.max_head_dim) + 1),
            "value_dim": range(config.max_value_dim + 1),
            "value_beats": range(config.value_beats(config.max_value_dim) + 1),
            "output_beats": range(config.output_beats(config.max_value_dim) + 1),
            "rows": range(config.rows + 1),
            "row_mask": config.rows,
            "keys": config.count_bits,
            "multiplier": formats.MULTIPLIER_BITS,
            "shift": formats.SHIFT_BITS,
            "tau": formats.TAU_BITS,
            "mask": 2,
            "window": config.count_bits,
            "from_state": 1,
            "emit_state": 1,
            "tag": config.tag_bits,
        }
    )


def contexts_layout(config: CoreConfig) -> data.ArrayLayout:
    """Both contexts."""
    return data.ArrayLayout(context_layout(config), CONTEXTS)


def column_layout(config: CoreConfig) -> data.StructLayout:
    """What travels with a key's scores.

    A `void` column stands for no key: it only ends a job whose keys ended too early or were discarded.
    """
    return data.StructLayout({"ctx": 1, "index": config.position_bits, "first": 1, "last": 1, "void": 1})


def verdict_layout(config: CoreConfig) -> data.StructLayout:
    """A column after the threshold: whether the key is kept, and each row's logit, permission and running maximum."""
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
    """A closed pack: its keys, whether it ends its job, each row's maximum at closing and growth since the last."""
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
    """Write port of a context's maxima and sums, for jobs that start from a partial state."""
    return data.StructLayout(
        {
            "enable": 1,
            "ctx": 1,
            "row": range(config.rows),
            "maximum": signed(formats.MAXIMUM_BITS),
            "total": config.sum_bits,
        }
    )


def state_word_layout(config: CoreConfig) -> data.StructLayout:
    """Write port of a context's output accumulators, for jobs that start from a partial state."""
    return data.StructLayout(
        {
            "enable": 1,
            "ctx": 1,
            "row": range(config.rows),
            "word": range(config.output_beats(config.max_value_dim)),
            "elements": data.ArrayLayout(signed(config.accumulator_bits), config.output_lanes),
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
