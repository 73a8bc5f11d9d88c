"""Takes the core's output packets to memory."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from rtl.axi.bundles import walk_layout
from rtl.axi.row_walk import RowWalk
from rtl.axi.write_master import write_beat_layout
from rtl.interfaces import PIECE_BITS, STATE_PIECES, output_layout


def output_head_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the head port: where the output of a kv head's jobs goes.

    Outputs go to the rows of `walk`, of `last_element` + 1 elements each. With `state` a packet goes to the one row
    of the walk, whatever its length.
    """
    return data.StructLayout(
        {"walk": walk_layout(config), "state": 1, "last_element": range(config.core.max_value_dim)}
    )


class OutputStore(wiring.Component):
    """Writes the output packets of a kv head's jobs: rows where the walk says, or states each in one piece.

    Words that follow each other in one beat of the bus are written together. Bytes past the last element of a row are
    not written. A word is taken every cycle, if it is no wider than a beat, otherwise a beat is written every cycle. A
    beat is offered once the next word lies in another one, or the packet ends; with a packet ends a burst.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    head : In
        Where the packets of a kv head go; taken when the last word of the head before was.
    o : In
        The core's port. Nothing is taken before its head.
    beats : Out
        To the write master.
    busy : Out
        A head was taken whose output has not all gone to `beats`.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(output_head_layout(config))),
                "o": In(stream.Signature(output_layout(config.core))),
                "beats": Out(stream.Signature(write_beat_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lanes = config.core.output_lanes
        part_lanes = min(lanes, config.data_bits // PIECE_BITS)
        parts, slots = lanes // part_lanes, config.data_bits // PIECE_BITS // part_lanes
        word_bits, beat_bits = exact_log2(lanes * PIECE_BITS // 8), exact_log2(config.beat_bytes)

        m.submodules.walk = walk = RowWalk(config)
        head = Signal(self.head.payload.shape())
        m.d.comb += [
            walk.head.valid.eq(self.head.valid),
            walk.head.payload.eq(self.head.payload.walk),
            self.head.ready.eq(walk.head.ready),
        ]
        with m.If(self.head.valid & self.head.ready):
            m.d.sync += head.eq(self.head.payload)

        # Where the next word goes, and its lanes that count.
        core = config.core
        packet_words = STATE_PIECES * core.rows * (1 + core.output_beats(core.max_value_dim))
        number = Signal(range(packet_words))
        word = Signal(data.StructLayout({"address": config.address_bits, "data": lanes * PIECE_BITS, "end": 1}))
        counts = Signal(lanes)
        word_valid, word_done, row_tail, row_end = Signal(), Signal(), Signal(), Signal()
        taken = self.o.valid & self.o.ready
        m.d.comb += [
            row_tail.eq(~head.state & (number == head.last_element >> exact_log2(lanes))),
            row_end.eq(row_tail | self.o.payload.last),
            self.o.ready.eq(walk.rows.valid & (~word_valid | word_done)),
            walk.rows.ready.eq(taken & row_end),
        ]
        with m.If(taken):
            tail = (2 << head.last_element[: exact_log2(lanes)]) - 1
            m.d.sync += [
                word_valid.eq(1),
                word.address.eq(walk.rows.payload.address + (number << word_bits)),
                word.data.eq(self.o.payload.data),
                word.end.eq(self.o.payload.last),
                counts.eq(Mux(row_tail, tail, (1 << lanes) - 1)),
                number.eq(Mux(row_end, 0, number + 1)),
            ]
        with m.Elif(word_done):
            m.d.sync += word_valid.eq(0)

        # Words wider than a beat go in parts, up to the last one with a lane that counts.
        part = Signal(range(parts)) if parts > 1 else Const(0, 0)
        beat = Cat(part, word.address[max(word_bits, beat_bits) :])
        slot = word.address[min(word_bits, beat_bits) : beat_bits]
        part_end = ~Cat(counts[part_lanes:], Const(0, part_lanes)).bit_select(part * part_lanes, 1)
        part_data = word.data.word_select(part, part_lanes * PIECE_BITS)
        part_counts = counts.word_select(part, part_lanes)
        part_strobe = Cat(bit.replicate(PIECE_BITS // 8) for bit in part_counts)

        # The beat that it goes to.
        gathered = Signal(self.beats.payload.shape())
        gathered_valid, same, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            same.eq(gathered_valid & ~gathered.end & (gathered.address[beat_bits:] == beat)),
            moves.eq(word_valid & (~gathered_valid | same | self.beats.ready)),
            word_done.eq(moves & part_end),
            self.beats.valid.eq(gathered_valid & (gathered.end | (word_valid & ~same))),
            self.beats.payload.eq(gathered),
            self.busy.eq(walk.rows.valid | word_valid | gathered_valid),
        ]
        with m.If(moves):
            if parts > 1:
                m.d.sync += part.eq(Mux(part_end, 0, part + 1))
            m.d.sync += [
                gathered_valid.eq(1),
                gathered.end.eq(word.end & part_end),
                gathered.address.eq(Cat(Const(0, beat_bits), beat)),
            ]
            for n in range(slots):
                here = slot == n
                strobe = gathered.strobe.word_select(n, len(part_strobe))
                m.d.sync += strobe.eq(Mux(same, strobe, 0) | Mux(here, part_strobe, 0))
                with m.If(here):
                    m.d.sync += gathered.data.word_select(n, len(part_data)).eq(part_data)
        with m.Elif(self.beats.valid & self.beats.ready):
            m.d.sync += gathered_valid.eq(0)
        return m
