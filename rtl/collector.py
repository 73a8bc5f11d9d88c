"""Lets packets and records leave a cluster in the order of its list, those of merged heads by way of the merge unit."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.config import ClusterConfig
from rtl import interfaces
from rtl.bundles import part_layout, record_turn_layout, turn_layout


class Collector(wiring.Component):
    """Takes one packet after the other from the core whose turn it is, and likewise the records.

    A packet that is a whole head is passed on, with a cycle in front of it. Those of a head of several jobs go to the
    merge unit, with 2 cycles in front of each, and the merge unit's packet is the head's; the next head waits for its
    last beat. Records go their own way, one a cycle. Nothing is stored: a packet whose turn it
    is not waits in its core.

    Parameters
    ----------
    config : ClusterConfig
        Size of the cluster.

    Members
    -------
    turns, record_turns : In
        Whose packet, and whose record, is next.
    packets, records : In
        Those of each core.
    part, packet : Out
        To the merge unit.
    merged : In
        From the merge unit.
    o, stats : Out
        What leaves the cluster.
    """

    def __init__(self, config: ClusterConfig):
        self.config = config
        output = stream.Signature(interfaces.output_layout(config.core))
        record = stream.Signature(interfaces.stats_layout(config.core))
        super().__init__(
            {
                "turns": In(stream.Signature(turn_layout(config))),
                "record_turns": In(stream.Signature(record_turn_layout(config))),
                "packets": In(output).array(config.cores),
                "records": In(record).array(config.cores),
                "part": Out(stream.Signature(part_layout(config.core))),
                "packet": Out(output),
                "merged": In(output),
                "o": Out(output),
                "stats": Out(record),
            }
        )

    def elaborate(self, platform):
        m = Module()
        turn = Signal(turn_layout(self.config))
        valid, payload, ready = self._select(m, self.packets, turn.core, "packet")
        passes = Signal()
        m.d.comb += [self.part.payload.eq(turn.part), self.packet.payload.eq(payload)]
        with m.If(passes):
            m.d.comb += [self.o.valid.eq(valid), self.o.payload.eq(payload)]
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(self.merged.valid),
                self.o.payload.eq(self.merged.payload),
                self.merged.ready.eq(self.o.ready),
            ]
        left = self.o.valid & self.o.ready & self.o.payload.last
        with m.FSM():
            with m.State("TURN"):
                m.d.comb += self.turns.ready.eq(1)
                m.d.sync += turn.eq(self.turns.payload)
                with m.If(self.turns.valid):
                    m.next = "PART"
                    with m.If(self.turns.payload.single):
                        m.next = "PASS"

            with m.State("PASS"):
                m.d.comb += [passes.eq(1), ready.eq(self.o.ready)]
                with m.If(left):
                    m.next = "TURN"

            with m.State("PART"):
                m.d.comb += self.part.valid.eq(1)
                with m.If(self.part.ready):
                    m.next = "MERGE"

            with m.State("MERGE"):
                m.d.comb += [self.packet.valid.eq(valid), ready.eq(self.packet.ready)]
                with m.If(valid & ready & payload.last):
                    m.next = "END"
                    with m.If(turn.part.more):
                        m.next = "TURN"

            with m.State("END"):
                with m.If(left):
                    m.next = "TURN"

        record_turn = self.record_turns.payload
        valid, record, ready = self._select(m, self.records, record_turn.core, "record")
        m.d.comb += [
            self.stats.valid.eq(self.record_turns.valid & valid),
            self.stats.payload.eq(record),
            ready.eq(self.record_turns.valid & self.stats.ready),
            self.record_turns.ready.eq(valid & self.stats.ready),
        ]
        with m.If(record_turn.void & (record.status == interfaces.Status.OK)):
            m.d.comb += self.stats.payload.status.eq(interfaces.Status.PART)
        return m

    def _select(self, m, streams, core, name):
        """Return valid, payload and ready of the stream of `core`; the others are not ready."""
        valid, ready = Signal(name=f"{name}_valid"), Signal(name=f"{name}_ready")
        payload = Signal(streams[0].payload.shape(), name=f"{name}_payload")
        m.d.comb += [
            valid.eq(Array(source.valid for source in streams)[core]),
            payload.as_value().eq(Array(source.payload.as_value() for source in streams)[core]),
        ]
        m.d.comb += [source.ready.eq(ready & (core == n)) for n, source in enumerate(streams)]
        return valid, payload, ready
