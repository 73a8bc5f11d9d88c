"""Counts of each job, and the record in which they leave."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, contexts_layout, delayed, verdict_layout
from rtl.interfaces import CYCLE_BITS, ArrayUse, Status, counts_layout, stats_layout


class Statistics(wiring.Component):
    """Counts keys, survivors, packs, saturations and dropped keys a job, and array cycles between records.

    A record is offered 2 cycles after the last beat of its job's output packet entered the output FIFO. Until it is
    taken its context is held, so that at most the job after the next is kept waiting; counting goes on.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts, taus, totals : In
        The jobs, their thresholds and their rows' sums. A threshold counts as it is when the job's first key is judged.
    clear : In
        For each context, a pulse: a job starts there.
    valid, verdict : In
        A judged key.
    closing : In
        It closes a pack that has keys.
    key_early, key_late, key_timeout : In
        For each context, a pulse: its keys ended too early, did not end, stopped coming.
    use : In
        What the array does in this cycle.
    finished : In
        For each context, a pulse: its outputs are written.
    stats : Out
        Records, in the order of the jobs.
    context_free : Out
        For each context, a pulse: its record has been taken.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        totals = data.ArrayLayout(config.sum_bits, config.rows)
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "taus": In(data.ArrayLayout(formats.TAU_BITS, CONTEXTS)),
                "totals": In(data.ArrayLayout(totals, CONTEXTS)),
                "clear": In(CONTEXTS),
                "valid": In(1),
                "verdict": In(verdict_layout(config)),
                "closing": In(1),
                "key_early": In(CONTEXTS),
                "key_late": In(CONTEXTS),
                "key_timeout": In(CONTEXTS),
                "use": In(ArrayUse),
                "finished": In(CONTEXTS),
                "stats": Out(stream.Signature(stats_layout(config))),
                "context_free": Out(CONTEXTS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        counts = Signal(data.ArrayLayout(counts_layout(config), CONTEXTS))
        statuses = Signal(data.ArrayLayout(8, CONTEXTS))
        taus = Signal.like(self.taus)

        # A register between the verdict and the counters keeps their adders short.
        column = self.verdict.column
        dropped = delayed(
            m, self.verdict.allowed & (self.valid & ~self.verdict.keep).replicate(config.rows), 1, "dropped"
        )
        saturated = Signal(range(config.rows + 1))
        m.d.sync += saturated.eq(Mux(self.valid, sum(self.verdict.saturated[i] for i in range(config.rows)), 0))
        is_key = delayed(m, self.valid & ~column.void, 1, "is_key")
        survives = delayed(m, self.valid & self.verdict.keep, 1, "survives")
        closing = delayed(m, self.closing, 1, "closes")
        ctx = delayed(m, column.ctx, 1, "count_ctx")
        for n in range(CONTEXTS):
            count = counts[n]
            with m.If(self.clear[n]):
                m.d.sync += [count.eq(0), statuses[n].eq(Status.OK)]
            with m.Elif(ctx == n):
                m.d.sync += [
                    count.keys.eq(count.keys + is_key),
                    count.survivors.eq(count.survivors + survives),
                    count.packs.eq(count.packs + closing),
                    count.saturated.eq(count.saturated + saturated),
                ]
                m.d.sync += [count.dropped[i].eq(count.dropped[i] + dropped[i]) for i in range(config.rows)]
            with m.If(self.key_early[n]):
                m.d.sync += statuses[n].eq(Status.KEY_EARLY)
            with m.If(self.key_late[n]):
                m.d.sync += statuses[n].eq(Status.KEY_LATE)
            with m.If(self.key_timeout[n]):
                m.d.sync += statuses[n].eq(Status.KEY_TIMEOUT)

        if config.target_control:
            begins = delayed(m, self.valid & column.first, 1, "begins")
            for n in range(CONTEXTS):
                with m.If(begins & (ctx == n)):
                    m.d.sync += taus[n].eq(self.taus[n])
        else:
            m.d.comb += taus.eq(self.taus)

        cycles = Signal(data.ArrayLayout(CYCLE_BITS, len(ArrayUse)))
        reported = Signal.like(cycles)
        use = Signal(ArrayUse, init=ArrayUse.WAIT_QUERY)
        m.d.sync += use.eq(self.use)
        pending = Signal(CONTEXTS)
        offered = Signal()
        out_ctx = Signal()
        offer = pending.bit_select(out_ctx, 1) & ~offered
        m.d.sync += pending.eq(pending | self.finished)
        for kind in ArrayUse:
            m.d.sync += cycles[kind].eq(Mux(offer, 0, cycles[kind]) + (use == kind))
        with m.If(offer):
            m.d.sync += [offered.eq(1), pending.bit_select(out_ctx, 1).eq(0), reported.eq(cycles)]
        with m.If(offered & self.stats.ready):
            m.d.sync += [offered.eq(0), out_ctx.eq(~out_ctx)]
            m.d.comb += self.context_free.bit_select(out_ctx, 1).eq(1)

        record = self.stats.payload
        job_status = by_context(self.contexts, out_ctx, "status")
        unseen = Cat(Mux(out_ctx, self.totals[1][i], self.totals[0][i]) == 0 for i in range(config.rows))
        in_use = by_context(self.contexts, out_ctx, "row_mask")
        m.d.comb += [
            self.stats.valid.eq(offered),
            record.tag.eq(by_context(self.contexts, out_ctx, "tag")),
            record.status.eq(Mux(job_status == Status.OK, Mux(out_ctx, statuses[1], statuses[0]), job_status)),
            record.tau.eq(Mux(job_status == Status.OK, Mux(out_ctx, taus[1], taus[0]), 0)),
            record.counts.eq(Mux(out_ctx, counts[1].as_value(), counts[0].as_value())),
            record.empty.eq(Mux(job_status == Status.OK, unseen & in_use, 0)),
            record.cycles.eq(reported),
        ]
        return m
