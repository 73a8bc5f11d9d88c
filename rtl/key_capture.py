"""Values that are the first elements of their keys: key rows wait here for their verdict, survivors go on as values."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import by_context, contexts_layout, delayed, index_shape
from rtl.interfaces import value_layout


class KeyCapture(wiring.Component):
    """A ring of beats of key rows, of which only the survivors' leave it.

    Of each key of a job with shared values, the beats that are its value are written as they go to the array. Their
    room is theirs from the key's first beat on; a key may only begin while `full` is low. A dropped key's room is free
    3 cycles after its verdict, unless a survivor before it has still to leave. The beats of survivors leave in order,
    one a cycle, the first of them 3 cycles after its verdict at the earliest; the room of each is free in the cycle in
    which it is offered.

    Other jobs take no room. Verdicts are taken every cycle, one for each key, in order.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts : In
        Whether the jobs of both contexts share their values, and the beats of these.
    key_beat, key_ctx, key_word, key_last : In
        A beat of k goes to the array; its context and number in the row; whether it is the last of its key.
    data : In
        That beat.
    full : Out
        There is no room for another key of the context `key_ctx`.
    valid, keep, ctx : In
        The oldest key without a verdict is judged: kept or dropped; its context.
    rows : Out
        Beats of survivors' values.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "key_beat": In(1),
                "key_ctx": In(1),
                "key_word": In(index_shape(config.head_beats(config.max_head_dim))),
                "key_last": In(1),
                "data": In(config.lanes * formats.DATA_BITS),
                "full": Out(1),
                "valid": In(1),
                "keep": In(1),
                "ctx": In(1),
                "rows": Out(stream.Signature(value_layout(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.config.capture_beats
        # A place in the ring, and above it a bit that tells a full ring from an empty one.
        place = range(2 * depth)

        storage = Memory(shape=self.config.lanes * formats.DATA_BITS, depth=depth, init=[])
        m.submodules.storage = storage
        write, read = storage.write_port(), storage.read_port()

        # Keys come: `base` is the place of the row that is coming, or of the next.
        base, next_base, next_tail = Signal(place), Signal(place), Signal(place)
        used = Signal(range(depth + 1))
        shared = by_context(self.contexts, self.key_ctx, "shared")
        last_beat = by_context(self.contexts, self.key_ctx, "last_value_beat")
        m.d.comb += [
            write.en.eq(self.key_beat & shared & (self.key_word <= last_beat)),
            write.addr.eq(base + self.key_word),
            write.data.eq(self.data),
            next_base.eq(Mux(self.key_last & shared, base + last_beat + 1, base)),
            self.full.eq(shared & (used + last_beat >= depth)),
        ]
        m.d.sync += [base.eq(next_base), used.eq((next_base - next_tail)[: len(used)])]

        # Keys are judged. Of a survivor the place is noted; of a dropped key nothing is. The register makes values come
        # when the fastest memory would send them, so that a job takes as long as one that fetches its values there.
        judged = Signal(place)
        m.submodules.survivors = survivors = SyncFIFO(width=len(judged) + 1, depth=depth)
        ctx = delayed(m, self.ctx, 1, "judged_ctx")
        valid = delayed(m, self.valid & by_context(self.contexts, self.ctx, "shared"), 1, "judged_valid")
        m.d.comb += [
            survivors.w_en.eq(valid & delayed(m, self.keep, 1, "judged_keep")),
            survivors.w_data.eq(Cat(judged, ctx)),
        ]
        with m.If(valid):
            m.d.sync += judged.eq(judged + by_context(self.contexts, ctx, "last_value_beat") + 1)

        # Survivors leave: `word` is the next beat of the oldest, which goes to the memory's output register.
        word = Signal.like(self.contexts[0].last_value_beat)
        step = Signal()
        row_end = word == by_context(self.contexts, survivors.r_data[-1], "last_value_beat")
        m.d.comb += [
            step.eq(survivors.r_rdy & (~self.rows.valid | self.rows.ready)),
            read.en.eq(step),
            read.addr.eq(survivors.r_data[:-1] + word),
            survivors.r_en.eq(step & row_end),
            self.rows.payload.eq(read.data),
            # What lies before the next beat to be read is free; without survivors, what lies before the next verdict.
            next_tail.eq(Mux(survivors.r_rdy, survivors.r_data[:-1] + word + step, judged)),
        ]
        with m.If(step):
            m.d.sync += [self.rows.valid.eq(1), word.eq(Mux(row_end, 0, word + 1))]
        with m.Elif(self.rows.ready):
            m.d.sync += self.rows.valid.eq(0)
        return m
