"""Brings the core the query rows of its jobs."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import last_beat_shape, walk_layout
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.row_walk import RowWalk
from rtl.axi.word_unpacker import read_word_layout
from rtl.interfaces import query_layout


def query_head_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the head port: the rows of a kv head's queries, and the number of a row's last word from 0."""
    return data.StructLayout({"walk": walk_layout(config), "last_beat": last_beat_shape(config)})


class QuerySource(wiring.Component):
    """Streams the queries of all blocks of a kv head: packets of `core.rows` rows, the last one of what is left.

    Asks for a row every cycle, the first one in the cycle after its head was taken, and ahead as far as buffers reach.
    A word a cycle leaves, in the cycle in which it comes. Back-pressure of q holds the words.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    head : In
        The rows of a kv head; taken when all of those before are asked for.
    request, words : Out, In
        To and from the client of the read master.
    q : Out
        The core's port.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(query_head_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "words": In(stream.Signature(read_word_layout(read_ports(config)[Client.QUERY]))),
                "q": Out(stream.Signature(query_layout(config.core))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        core = config.core
        m.submodules.walk = walk = RowWalk(config)
        last_beat = Signal.like(self.head.payload.last_beat)
        m.d.comb += [
            walk.head.valid.eq(self.head.valid),
            walk.head.payload.eq(self.head.payload.walk),
            self.head.ready.eq(walk.head.ready),
        ]
        with m.If(self.head.valid & self.head.ready):
            m.d.sync += last_beat.eq(self.head.payload.last_beat)

        # What goes with the words of the rows that are asked for. There is room for more of them than a burst has, so
        # that requests which may share a burst are never held up for one of their own words.
        expected = data.StructLayout({"position": core.position_bits, "last": 1, "last_beat": last_beat.shape()})
        depth = max(2 * core.rows, config.burst_bytes // core.lanes)
        m.submodules.arrivals = arrivals = SyncFIFOBuffered(width=expected.size, depth=depth)
        expects, arrival = data.View(expected, arrivals.w_data), data.View(expected, arrivals.r_data)
        row = walk.rows.payload
        m.d.comb += [
            self.request.valid.eq(walk.rows.valid & arrivals.w_rdy),
            self.request.payload.address.eq(row.address),
            self.request.payload.words.eq(last_beat + 1),
            self.request.payload.more.eq(~row.end),
            walk.rows.ready.eq(self.request.ready & arrivals.w_rdy),
            arrivals.w_en.eq(self.request.valid & self.request.ready),
            expects.position.eq(row.position),
            expects.last.eq(row.block_end),
            expects.last_beat.eq(last_beat),
        ]

        beat = Signal.like(last_beat)
        row_end = beat == arrival.last_beat
        taken = self.q.valid & self.q.ready
        m.d.comb += [
            self.q.valid.eq(arrivals.r_rdy & self.words.valid),
            self.q.payload.data.eq(self.words.payload.data),
            self.q.payload.position.eq(arrival.position),
            self.q.payload.last.eq(arrival.last & row_end),
            self.words.ready.eq(arrivals.r_rdy & self.q.ready),
            arrivals.r_en.eq(taken & row_end),
        ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(row_end, 0, beat + 1))
        return m
