"""Packs: surviving keys gathered W at a time, wherever they came from."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, pack_layout, state_row_layout, verdict_layout


def pack_queue_depth(config: CoreConfig) -> int:
    """Return how many closed packs can wait: as many full ones as there are slots for, and the end of each job."""
    return config.score_slots // config.lanes + CONTEXTS


def slot_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of a surviving key's scores."""
    return data.StructLayout(
        {"allowed": config.rows, "logits": data.ArrayLayout(signed(formats.SCORE_BITS), config.rows)}
    )


class PackBuffer(wiring.Component):
    """Scores of surviving keys, in a ring of slots, and the queue of packs closed over them.

    A pack closes when it holds W keys or its job's keys end, with the running maxima of that moment; a job's last
    pack may be empty. A verdict is taken every cycle: the scheduler only lets a key into the array while a slot is
    free for it, so the ring can't overflow, nor can the queue. A pack appears 2 cycles after the verdict that closed
    it.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    valid, verdict : In
        A judged key.
    clear : In
        For each context: a job starts there, no key has been seen.
    state_row : In
        Maxima of a job that starts from a partial state.
    maxima : Out
        For each context, the rows' maxima at the last closed pack.
    closed, closed_count : Out
        The key of this cycle closes a pack of so many keys.
    dropped : Out
        The key of this cycle gives back its slot.
    packs : Out
        Closed packs in order.
    pop : In
        Read the oldest slot, and give it back.
    slot : Out
        The scores popped, one cycle later.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        maxima = data.ArrayLayout(signed(formats.MAXIMUM_BITS), config.rows)
        super().__init__(
            {
                "valid": In(1),
                "verdict": In(verdict_layout(config)),
                "clear": In(CONTEXTS),
                "state_row": In(state_row_layout(config)),
                "maxima": Out(data.ArrayLayout(maxima, CONTEXTS)),
                "closed": Out(1),
                "closed_count": Out(range(config.lanes + 1)),
                "dropped": Out(1),
                "packs": Out(stream.Signature(pack_layout(config))),
                "pop": In(1),
                "slot": Out(slot_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, verdict = self.config, self.verdict

        m.submodules.ring = ring = Memory(shape=slot_layout(config), depth=config.score_slots, init=[])
        write, read = ring.write_port(), ring.read_port()
        keep = self.valid & verdict.keep
        m.d.comb += [
            write.en.eq(keep),
            write.data.allowed.eq(verdict.allowed),
            write.data.logits.eq(verdict.logits),
            read.en.eq(self.pop),
            self.slot.eq(read.data),
            self.dropped.eq(self.valid & ~verdict.keep),
        ]
        with m.If(keep):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(self.pop):
            m.d.sync += read.addr.eq(read.addr + 1)

        held = Signal(range(config.lanes))
        count, close = self.closed_count, self.closed
        m.d.comb += [
            count.eq(held + verdict.keep),
            close.eq(self.valid & ((count == config.lanes) | verdict.column.last)),
        ]
        with m.If(self.valid):
            m.d.sync += held.eq(Mux(close, 0, count))

        m.submodules.queue = queue = SyncFIFO(width=pack_layout(config).size, depth=pack_queue_depth(config))
        closed = Signal(pack_layout(config))
        closed_valid = Signal()
        m.d.sync += [
            closed_valid.eq(close),
            closed.ctx.eq(verdict.column.ctx),
            closed.count.eq(count),
            closed.last.eq(verdict.column.last),
            closed.maxima.eq(verdict.maxima),
        ]
        m.d.comb += [
            queue.w_en.eq(closed_valid),
            queue.w_data.eq(closed),
            self.packs.valid.eq(queue.r_rdy),
            self.packs.payload.eq(queue.r_data),
            queue.r_en.eq(self.packs.ready),
        ]

        for i in range(config.rows):
            now = verdict.maxima[i]
            before = Mux(verdict.column.ctx, self.maxima[1][i], self.maxima[0][i])
            growth = Signal(formats.MAXIMUM_BITS, name=f"growth{i}")
            m.d.comb += growth.eq(now - before)
            m.d.sync += closed.deltas[i].eq(Mux(growth > formats.DELTA_MAX, formats.DELTA_MAX, growth))
            for ctx in range(CONTEXTS):
                from_state = self.state_row.enable & (self.state_row.ctx == ctx) & (self.state_row.row == i)
                with m.If(self.clear[ctx]):
                    m.d.sync += self.maxima[ctx][i].eq(formats.NO_MAXIMUM)
                with m.Elif(from_state):
                    m.d.sync += self.maxima[ctx][i].eq(self.state_row.maximum)
                with m.Elif(close & (verdict.column.ctx == ctx)):
                    m.d.sync += self.maxima[ctx][i].eq(now)
        return m
