"""Value rows of two packs: lane c holds the row of a pack's c-th key and hands it out a byte a cycle."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import by_context, contexts_layout, index_shape
from rtl.interfaces import value_layout
from rtl.pack_buffer import pack_queue_depth

BUFFERS = 2


class ValueLanes(wiring.Component):
    """Collects value rows in the order they were requested, one pack a buffer.

    Rows of jobs that share their values come from the key capture, if the core has one, the others from v. Takes a beat
    every cycle while a buffer is free, less one cycle a pack. A pack is full 2 cycles after its last beat, or 3 after
    it was closed if that is later. The bytes of a read appear one cycle later.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    v : In
        Value rows.
    captured : In
        Those of keys that were captured. Only in a core with shared values.
    contexts : In
        Beats of a value row in both contexts, and where they come from.
    expect, expect_count, expect_last : In
        A pack of so many keys was closed, perhaps empty; it ends its job.
    full : Out
        All rows of the oldest pack are here.
    fetch, word : In
        Read this word of every lane of the oldest pack.
    byte : In
        The byte wanted of the word last fetched, at the same time as `fetch` or later.
    release : In
        The oldest pack is done with.
    elements : Out
        That byte of each lane, one cycle later.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        captured = {"captured": In(stream.Signature(value_layout(config)))} if config.shared_values else {}
        super().__init__(
            {
                "v": In(stream.Signature(value_layout(config))),
                **captured,
                "contexts": In(contexts_layout(config)),
                "expect": In(1),
                "expect_count": In(range(config.lanes + 1)),
                "expect_last": In(1),
                "full": Out(1),
                "fetch": In(1),
                "word": In(index_shape(config.value_beats(config.max_value_dim))),
                "byte": In(range(config.lanes)),
                "release": In(1),
                "elements": Out(data.ArrayLayout(formats.DATA_BITS, config.lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        ctx = Signal()
        rows = Signal(range(config.lanes + 1))
        beat = Signal.like(self.word)
        filling = Signal()
        draining = Signal()
        full = Signal(BUFFERS)

        # Packs whose values may be under way: those that wait for exponentials, and the one in them. An entry is out
        # within 2 cycles, as a request on v_req is, so the end of a job is known before a value of the next can come.
        depth = pack_queue_depth(config) + 1
        m.submodules.expected = expected = SyncFIFOBuffered(width=len(self.expect_count) + 1, depth=depth)
        count = expected.r_data[:-1]
        last = expected.r_data[-1]
        complete = Signal()
        room = Signal()
        accept = Signal()
        # Which stream the rows come from is as settled as the beats of a row are: both are of the job being filled.
        shared = by_context(self.contexts, ctx, "shared") if config.shared_values else Const(0)
        row_beat = Signal(config.lanes * formats.DATA_BITS)
        m.d.comb += [
            row_beat.eq(self.v.payload),
            accept.eq(self.v.valid & self.v.ready),
            self.v.ready.eq(room & ~shared),
        ]
        if config.shared_values:
            m.d.comb += self.captured.ready.eq(room & shared)
            with m.If(shared):
                m.d.comb += [
                    row_beat.eq(self.captured.payload),
                    accept.eq(self.captured.valid & self.captured.ready),
                ]
        m.d.comb += [
            expected.w_en.eq(self.expect),
            expected.w_data.eq(Cat(self.expect_count, self.expect_last)),
            complete.eq(expected.r_rdy & (rows == count)),
            expected.r_en.eq(complete),
            room.eq(~full.bit_select(filling, 1) & ~complete & (rows != config.lanes)),
            self.full.eq(full.bit_select(draining, 1)),
        ]
        with m.If(complete):
            m.d.sync += [rows.eq(0), ctx.eq(ctx ^ last)]
            with m.If(count != 0):
                m.d.sync += [full.bit_select(filling, 1).eq(1), filling.eq(~filling)]
        with m.If(accept):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == by_context(self.contexts, ctx, "last_value_beat")):
                m.d.sync += [beat.eq(0), rows.eq(rows + 1)]
        with m.If(self.release):
            m.d.sync += [full.bit_select(draining, 1).eq(0), draining.eq(~draining)]

        byte = Signal.like(self.byte)
        m.d.sync += byte.eq(self.byte)
        for c in range(config.lanes):
            storage = Memory(shape=config.lanes * formats.DATA_BITS, depth=BUFFERS << len(beat), init=[])
            m.submodules[f"lane{c}"] = storage
            write, read = storage.write_port(), storage.read_port()
            m.d.comb += [
                write.en.eq(accept & (rows == c)),
                write.addr.eq(Cat(beat, filling)),
                write.data.eq(row_beat),
                read.en.eq(self.fetch),
                read.addr.eq(Cat(self.word, draining)),
                self.elements[c].eq(read.data.word_select(byte, formats.DATA_BITS)),
            ]
        return m
