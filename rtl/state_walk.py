"""Goes through the words of a state in the order in which they cross a port."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from rtl.bundles import index_shape, part_layout


class StateWalk(wiring.Component):
    """The place of one word after the other: a row's header, then its elements, `output_lanes` of them a beat.

    `start` goes to the first place and `step` to the next one, in a cycle each.

    Parameters
    ----------
    config : CoreConfig
        Size of the cores.

    Members
    -------
    part : In
        Rows and elements.
    headers : In
        Whether rows have headers; else they are elements alone.
    start, step : In
        Pulses.
    header, row, word, lane : Out
        The place.
    beat_end, last : Out
        Whether it is the last of its beat; of the last row.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "part": In(part_layout(config)),
                "headers": In(1),
                "start": In(1),
                "step": In(1),
                "header": Out(1),
                "row": Out(index_shape(config.rows)),
                "word": Out(index_shape(config.output_beats(config.max_value_dim))),
                "lane": Out(index_shape(config.output_lanes)),
                "beat_end": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self.config.output_lanes
        last_element = self.part.last_element
        last_word = self.word == last_element >> (lanes.bit_length() - 1)
        row_end = self.beat_end & ~self.header & last_word
        m.d.comb += [
            self.beat_end.eq(self.header | (self.lane == Mux(last_word, last_element % lanes, lanes - 1))),
            self.last.eq(row_end & (self.row == self.part.last_row)),
        ]
        with m.If(self.step):
            m.d.sync += [self.lane.eq(self.lane + 1), self.header.eq(0)]
        with m.If(self.step & self.beat_end):
            m.d.sync += self.word.eq(self.word + 1)
        with m.If(self.step & row_end):
            m.d.sync += [self.row.eq(self.row + 1), self.header.eq(self.headers)]
        with m.If(self.start | (self.step & self.beat_end)):
            m.d.sync += self.lane.eq(0)
        with m.If(self.start | (self.step & (self.header | row_end))):
            m.d.sync += self.word.eq(0)
        with m.If(self.start):
            m.d.sync += [self.row.eq(0), self.header.eq(self.headers)]
        return m
