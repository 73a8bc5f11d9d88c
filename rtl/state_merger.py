"""Stores the state of a head's parts so far, and merges a further one into it, word by word."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import merge_word_layout

MERGE_STAGES = 4
"""From a word to its merged word."""


class StateMerger(wiring.Component):
    """``(a >> delta_a) + (b >> delta_b)`` for each word of two states, and the maximum of each row.

    One of the shifts is zero: only the side with the lower maximum is shifted. A word every cycle, `MERGE_STAGES`
    cycles of latency, no stalls. A row's header must come at least 3 cycles before its first element and after the last
    element of the row before. A word is readable for the next part `MERGE_STAGES` + 1 cycles after it came.

    Parameters
    ----------
    config : CoreConfig
        Size of the cores.

    Members
    -------
    fresh : In
        Nothing is stored yet: words are those of a head's first part. May change when no words are under way.
    word : In
        A word of the state that comes.
    merged : Out
        The same word of the merged state.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "fresh": In(1),
                "word": In(merge_word_layout(config)),
                "merged": Out(merge_word_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        value_shape = signed(config.accumulator_bits)
        row_shape = data.StructLayout({"maximum": signed(formats.MAXIMUM_BITS), "total": config.sum_bits})
        lane_bits = config.output_lanes.bit_length() - 1
        element_bits = lane_bits + len(self.word.word)
        m.submodules.rows = rows = Memory(shape=row_shape, depth=config.rows, init=[])
        m.submodules.elements = elements = Memory(shape=value_shape, depth=config.rows << element_bits, init=[])
        old_row, old_element = rows.read_port(), elements.read_port()

        def address(word):
            return Cat(word.lane[:lane_bits], word.word, word.row)

        stored, chosen, shifting, merged = (
            Signal(merge_word_layout(config), name=name) for name in ("stored", "chosen", "shifting", "merged")
        )
        m.d.comb += [old_row.addr.eq(self.word.row), old_element.addr.eq(address(self.word))]
        m.d.sync += stored.eq(self.word)

        # A row's header decides for the elements after it; it is itself a word to merge, with the sum as its value.
        maximum = Signal(signed(formats.MAXIMUM_BITS))
        comes_lower = Signal()
        delta = Signal(range(formats.DELTA_MAX + 1))
        above = Signal(signed(formats.MAXIMUM_BITS + 1))
        distance = Signal(formats.MAXIMUM_BITS)
        m.d.comb += [
            above.eq(stored.maximum - old_row.data.maximum),
            distance.eq(Mux(above < 0, old_row.data.maximum - stored.maximum, above)),
        ]
        with m.If(stored.valid & stored.header):
            m.d.sync += [
                comes_lower.eq(~self.fresh & (above < 0)),
                maximum.eq(Mux(~self.fresh & (above < 0), old_row.data.maximum, stored.maximum)),
                delta.eq(Mux(distance > formats.DELTA_MAX, formats.DELTA_MAX, distance)),
            ]
        old = Signal(value_shape)
        with m.If(self.fresh):
            m.d.sync += old.eq(0)
        with m.Elif(stored.header):
            m.d.sync += old.eq(old_row.data.total)
        with m.Else():
            m.d.sync += old.eq(old_element.data)
        m.d.sync += chosen.eq(stored)

        # The side with the lower maximum is shifted in two steps. Of a first part, that is the zero in `old`.
        kept = Signal(value_shape)
        m.d.sync += [
            shifting.eq(chosen),
            shifting.value.eq(Mux(comes_lower, chosen.value, old) >> delta[:3]),
            kept.eq(Mux(comes_lower, old, chosen.value)),
            merged.eq(shifting),
            merged.value.eq((shifting.value >> (delta[3:] << 3)) + kept),
        ]

        write_row, write_element = rows.write_port(), elements.write_port()
        m.d.comb += [
            self.merged.eq(merged),
            # Another header comes no sooner than 3 cycles after one.
            self.merged.maximum.eq(maximum),
            write_row.addr.eq(merged.row),
            write_row.data.maximum.eq(maximum),
            write_row.data.total.eq(merged.value),
            write_row.en.eq(merged.valid & merged.header),
            write_element.addr.eq(address(merged)),
            write_element.data.eq(merged.value),
            write_element.en.eq(merged.valid & ~merged.header),
        ]
        return m
