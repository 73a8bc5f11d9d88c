"""Merges the partial states of a head's parts, one after the other, and divides at the end."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import part_layout
from rtl.divider import DIVIDER_LATENCY, Divider
from rtl.interfaces import PIECE_BITS, STATE_PIECES, output_layout
from rtl.state_merger import MERGE_STAGES, StateMerger
from rtl.state_walk import StateWalk

DIVIDER_PASSES = 3
"""Of the divider, which is smaller and slower than those of a core: heads that are merged are few."""

MERGE_FIFO_DEPTH = 16
"""Beats of output that are under way or wait."""

DRAIN = MERGE_STAGES + DIVIDER_LATENCY + 1
"""From a word until what comes of it has left for the FIFO, whichever way it takes."""


def merge_unit_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Return the streams of a merge unit for cores of `config`, by name."""
    return {
        "part": In(stream.Signature(part_layout(config))),
        "packet": In(stream.Signature(output_layout(config))),
        "o": Out(stream.Signature(output_layout(config))),
    }


class MergeUnit(wiring.Component):
    """Takes packets of state as cores write them on o, merges those of each head, and writes the head's packet.

    A head's parts come one after the other, one or more. The state of the first is stored, every further one is merged
    into it as `golden.state.merge` says, and while the last one is, the result is written: normalised, or as a state.
    There may be any number of parts: the widths depend on their keys alone, and `Divider` is exact for any state.

    A beat of words takes `STATE_PIECES` transfers, and a cycle more for each word after its first: a word a cycle.
    Words to divide wait for the divider, which takes one in `DIVIDER_PASSES` cycles, and the header of a row to divide
    until the row before is through. From a word's last piece it takes `MERGE_STAGES` cycles to the merged word,
    `DIVIDER_LATENCY` more to its quotient, and 2 from a beat's last word to its first transfer on o. The next part is
    taken no sooner than `DRAIN` + 2 cycles after a packet's last word.

    A head is void if a part of it is marked so, or if the packet of a part ends earlier or later than a state of so
    many rows and elements, as that of a rejected job does. Then the head's packet is a single zero beat, or ends with
    one if the last part's packet turned out to be wrong when something was written already. Back-pressure on o holds
    back the packets; up to `MERGE_FIFO_DEPTH` beats wait or are under way.

    Parameters
    ----------
    config : CoreConfig
        Size of the cores.

    Members
    -------
    part : In
        What the next packet is.
    packet : In
        Packets.
    o : Out
        The head's packet, with the tag of its last part.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(merge_unit_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.merger = merger = StateMerger(config)
        m.submodules.divider = divider = Divider(config, DIVIDER_PASSES, MERGE_STAGES)
        m.submodules.fifo = fifo = SyncFIFO(width=output_layout(config).size, depth=MERGE_FIFO_DEPTH)

        part = Signal(part_layout(config))
        void = Signal()
        tag = Signal(config.tag_bits)
        starts, merges, ends = Signal(), Signal(), Signal()
        taken = Signal()
        # Room for all that a beat of words can give.
        room = Signal()
        m.d.comb += taken.eq(self.packet.valid & self.packet.ready)
        last = self.packet.payload.last
        drain = Signal(range(DRAIN + 1))
        drained = drain == 0
        fits, complete, reserved = self._read_words(m, part, starts, merges, room, drained, merger.word, divider)
        with m.If(merger.word.valid):
            m.d.sync += drain.eq(DRAIN)
        with m.Elif(~drained):
            m.d.sync += drain.eq(drain - 1)
        with m.If(taken):
            m.d.sync += tag.eq(self.packet.payload.tag)
        m.d.sync += starts.eq(0)

        with m.FSM():
            with m.State("PART"):
                m.d.comb += self.part.ready.eq(1)
                with m.If(self.part.valid):
                    m.d.sync += [
                        starts.eq(1),
                        part.eq(self.part.payload),
                        merger.fresh.eq(~part.more),
                        void.eq(self.part.payload.void | (void & part.more)),
                    ]
                    m.next = "MERGE"

            with m.State("MERGE"):
                m.d.comb += [self.packet.ready.eq(void | fits), merges.eq(self.packet.valid & ~void)]
                with m.If(taken):
                    with m.If(last != complete):
                        m.d.sync += void.eq(1)
                    with m.If(last):
                        m.next = "DRAIN"

            with m.State("DRAIN"):
                writes_end = void & ~part.more
                with m.If(drained & (room | ~writes_end)):
                    m.d.comb += ends.eq(writes_end)
                    m.next = "PART"

        written = self._write_words(m, part, starts, ends, merger.merged, divider)
        # Beats that are sure to be written, and not yet taken.
        level = Signal(range(MERGE_FIFO_DEPTH + 1))
        m.d.sync += level.eq(level + (reserved + ends) - (self.o.valid & self.o.ready))
        m.d.comb += [
            room.eq(level <= MERGE_FIFO_DEPTH - STATE_PIECES),
            fifo.w_en.eq(written.valid),
            fifo.w_data.eq(written.payload),
            written.payload.tag.eq(tag),
            self.o.valid.eq(fifo.r_rdy),
            self.o.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.o.ready),
        ]
        return m

    def _read_words(self, m, part, starts, merges, room, drained, word, divider):
        """Drive `word` from the pieces of the packet on the port, while it `merges`.

        Return whether the beat on the port fits now, whether it completes the state, and the beats of output that come
        of this cycle's word.
        """
        config = self.config
        m.submodules.read = at = StateWalk(config)
        piece = Signal(range(STATE_PIECES))
        held = [Signal(PIECE_BITS * (STATE_PIECES - 1), name=f"held{lane}") for lane in range(config.output_lanes)]
        pieces = [Cat(held[lane], self.packet.payload.data[lane]) for lane in range(config.output_lanes)]
        bits = Signal(formats.STATE_WORD_BITS)

        writes = ~part.more & (part.emit_state | ~at.header)
        divides = writes & ~part.emit_state
        # The sum of a row stays until its last quotient is done.
        awaits = ~part.more & ~part.emit_state & at.header
        whole = piece == STATE_PIECES - 1
        clear = (~writes | room) & (~divides | divider.free) & (~awaits | drained)
        fits = ~whole | (clear & at.beat_end)
        # What should end the packet and doesn't is not written, so that the end is still to come.
        overlong = at.last & ~self.packet.payload.last
        m.d.comb += [
            at.part.eq(part),
            at.headers.eq(1),
            at.start.eq(starts),
            at.step.eq(word.valid),
            bits.eq(Cat(pieces).word_select(at.lane, formats.STATE_WORD_BITS)),
            word.valid.eq(merges & whole & clear & ~overlong),
            word.header.eq(at.header),
            word.row.eq(at.row),
            word.word.eq(at.word),
            word.lane.eq(at.lane),
            word.maximum.eq(bits[formats.STATE_SUM_BITS :]),
            word.value.eq(Mux(at.header, bits[: config.sum_bits], bits)),
            divider.announced.eq(word.valid & divides),
        ]
        with m.If(merges & fits):
            m.d.sync += piece.eq(Mux(whole | self.packet.payload.last, 0, piece + 1))
            for lane in range(config.output_lanes):
                m.d.sync += held[lane].eq(pieces[lane][PIECE_BITS:])
        reserved = Mux(word.valid & writes & at.beat_end, Mux(part.emit_state, STATE_PIECES, 1), 0)
        return fits, whole & at.last, reserved

    def _write_words(self, m, part, starts, ends, merged, divider):
        """Return a stream, never stalled, of the beats that the last part's merged words or their quotients make.

        `ends` adds a zero beat that ends the packet.
        """
        config = self.config
        m.submodules.write = at = StateWalk(config)
        total = Signal(config.sum_bits)
        with m.If(merged.valid & merged.header):
            m.d.sync += total.eq(merged.value)
        m.d.comb += [divider.accumulator.eq(merged.value), divider.total.eq(total)]

        # Quotients take the low bits of a word; nothing reads the others then.
        low = Mux(part.emit_state, merged.value[: formats.OUTPUT_BITS], divider.quotient[: formats.OUTPUT_BITS])
        element = Cat(low, merged.value[formats.OUTPUT_BITS :]).as_signed()
        sum_padding = Const(0, formats.STATE_SUM_BITS - config.sum_bits)
        header = Cat(merged.value[: config.sum_bits], sum_padding, merged.maximum).as_signed()
        value = Signal(signed(formats.STATE_WORD_BITS))
        valid = Signal()
        m.d.comb += [
            valid.eq(Mux(part.emit_state, merged.valid & ~part.more, divider.done)),
            value.eq(Mux(at.header, header, element)),
        ]
        m.d.comb += [at.part.eq(part), at.headers.eq(part.emit_state), at.start.eq(starts), at.step.eq(valid)]

        words = Signal(data.ArrayLayout(formats.STATE_WORD_BITS, config.output_lanes))
        sends = Signal()
        last = Signal()
        piece = Signal(range(STATE_PIECES))
        last_piece = ~part.emit_state | (piece == STATE_PIECES - 1)
        with m.If(valid):
            for lane in range(config.output_lanes):
                with m.If(at.lane == lane):
                    m.d.sync += words[lane].eq(value)
                with m.Elif(at.lane == 0):
                    m.d.sync += words[lane].eq(0)
        with m.If(sends):
            m.d.sync += [piece.eq(Mux(last_piece, 0, piece + 1)), sends.eq(~last_piece)]
        with m.If(valid & at.beat_end):
            m.d.sync += [sends.eq(1), last.eq(at.last)]
        with m.If(ends):
            m.d.sync += [words.eq(0), sends.eq(1), last.eq(1), piece.eq(STATE_PIECES - 1)]

        beats = stream.Signature(output_layout(config)).create()
        m.d.comb += [beats.valid.eq(sends), beats.payload.last.eq(last & last_piece)]
        for lane in range(config.output_lanes):
            m.d.comb += beats.payload.data[lane].eq(words[lane].word_select(piece, PIECE_BITS))
        return beats
