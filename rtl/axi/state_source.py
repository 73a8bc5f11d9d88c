"""Brings the core the partial states that its jobs start from."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.word_unpacker import read_word_layout
from rtl.bundles import index_shape
from rtl.interfaces import STATE_PIECES, state_layout


def state_job_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the job port: where a packet lies; its last row and the last word of a row's accumulators, from 0."""
    core = config.core
    return data.StructLayout(
        {
            "address": config.address_bits,
            "last_row": index_shape(core.rows),
            "last_word": index_shape(core.output_beats(core.max_value_dim)),
        }
    )


class StateSource(wiring.Component):
    """Streams packets of state, which lie in memory as the words of the core's ports state and o.

    Asks for a row's words every cycle, the first ones in the cycle after its job was taken. A word a cycle leaves, in
    the cycle in which it comes. Back-pressure of state holds the words.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    job : In
        A packet; taken when the one before is asked for, and at most one is still to leave.
    request, words : Out, In
        To and from the client of the read master.
    state : Out
        The core's port.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(state_job_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "words": In(stream.Signature(read_word_layout(read_ports(config)[Client.STATE]))),
                "state": Out(stream.Signature(state_layout(config.core))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        layout = state_job_layout(config)

        # Requests, row by row.
        asked, asking = Signal(layout), Signal()
        row = Signal.like(asked.last_row)
        words = _row_words(asked)
        row_end = row == asked.last_row
        most_words = STATE_PIECES * (1 + config.core.output_beats(config.core.max_value_dim))
        expected = Signal(data.StructLayout({"last_row": row.shape(), "last_row_word": range(most_words)}))
        m.submodules.arrivals = arrivals = SyncFIFO(width=len(expected.as_value()), depth=2)
        taken = self.job.valid & self.job.ready
        m.d.comb += [
            self.job.ready.eq(~asking & arrivals.w_rdy),
            arrivals.w_en.eq(taken),
            expected.last_row.eq(self.job.payload.last_row),
            expected.last_row_word.eq(_row_words(self.job.payload) - 1),
            arrivals.w_data.eq(expected),
            self.request.valid.eq(asking),
            self.request.payload.address.eq(asked.address),
            self.request.payload.words.eq(words),
            self.request.payload.more.eq(~row_end),
        ]
        with m.If(taken):
            m.d.sync += [asked.eq(self.job.payload), asking.eq(1), row.eq(0)]
        with m.If(self.request.valid & self.request.ready):
            word_bits = exact_log2(2 * config.core.output_lanes)
            m.d.sync += [
                asked.address.eq(asked.address + (words << word_bits)),
                row.eq(row + 1),
                asking.eq(~row_end),
            ]

        # Words.
        arrival = data.View(expected.shape(), arrivals.r_data)
        word, leaving_row = Signal(range(most_words)), Signal.like(row)
        leaves = self.state.valid & self.state.ready
        word_end = word == arrival.last_row_word
        m.d.comb += [
            self.state.valid.eq(arrivals.r_rdy & self.words.valid),
            self.state.payload.data.eq(self.words.payload.data),
            self.state.payload.last.eq(word_end & (leaving_row == arrival.last_row)),
            self.words.ready.eq(arrivals.r_rdy & self.state.ready),
            arrivals.r_en.eq(leaves & self.state.payload.last),
        ]
        with m.If(leaves):
            m.d.sync += word.eq(Mux(word_end, 0, word + 1))
            with m.If(word_end):
                m.d.sync += leaving_row.eq(Mux(self.state.payload.last, 0, leaving_row + 1))
        return m


def _row_words(job):
    """Return the words of a row: the pieces of its header, and those of its accumulators."""
    return STATE_PIECES * (job.last_word + 2)
