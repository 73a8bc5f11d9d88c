"""Decides what the array does in each cycle: a beat of P V, else a beat of Q K, else nothing."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, column_layout, contexts_layout, index_shape, pack_layout
from rtl.error_bound import bound_latency
from rtl.interfaces import ArrayUse, Status, key_layout
from rtl.output_accumulator import value_beat_layout
from rtl.target_control import TAU_LATENCY
from rtl.threshold import TAU_SAMPLE, THRESHOLD_LATENCY

ENDS_PENDING_MAX = 2
"""Ends of jobs that v_req may still have to tell; bounds the FIFO in front of it."""

TAU_SPACING = THRESHOLD_LATENCY + TAU_LATENCY - TAU_SAMPLE
"""From a job's last key to the first key of a job that goes on from its tau."""


class Scheduler(wiring.Component):
    """Issues at most one beat a cycle to the array.

    P V goes first: once a pack's probabilities and values are complete, its beats run without a gap, one for each
    element of the value dimension. Otherwise the next beat of k is taken, if its key is sure of a score slot, and of
    room in the key capture if its job shares its values. A job's first key follows the last key of the job before in
    the next cycle; the last beat of a key waits until the rows that share a score multiplier or a unit of budgets are
    through with the key before, and for the tau that its job goes on from. Nothing but `k.ready`, which never depends
    on `k.valid`, and the beats of this cycle are combinational.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    k : In
        Key rows.
    contexts, loaded : In
        Both contexts; a pulse when one may run.
    key_beat : Out
        A beat of k goes to the array.
    key_ctx, key_word, key_first, key_last : Out
        Its context and number in the row; whether it is the row's first or last.
    column : Out
        The key, at its last beat.
    key_early, key_late, key_timeout : Out
        For each context, a pulse: its keys ended too early, did not end, stopped coming.
    capture_full : In
        A key of a job with shared values may not begin.
    slot_returned : In
        Slots given back in this cycle: by a dropped key, by the exponentials.
    end_taken : In
        The end of a job has left on v_req.
    pack_ready, pack, values_ready : In
        A pack waits for the array; the pack; its values are complete.
    pack_take : Out
        That pack's first beat is issued.
    value_beat : Out
        A beat of P V.
    values_release : Out
        It is the last that needs the oldest pack's values.
    output_waiting : In
        The next job waits for outputs or statistics to be taken.
    use : Out
        What this cycle is used for.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "k": In(stream.Signature(key_layout(config))),
                "contexts": In(contexts_layout(config)),
                "loaded": In(CONTEXTS),
                "key_beat": Out(1),
                "key_ctx": Out(1),
                "key_word": Out(index_shape(config.head_beats(config.max_head_dim))),
                "key_first": Out(1),
                "key_last": Out(1),
                "column": Out(column_layout(config)),
                "key_early": Out(CONTEXTS),
                "key_late": Out(CONTEXTS),
                "key_timeout": Out(CONTEXTS),
                "capture_full": In(1),
                "slot_returned": In(2),
                "end_taken": In(1),
                "pack_ready": In(1),
                "pack": In(pack_layout(config)),
                "values_ready": In(1),
                "pack_take": Out(1),
                "value_beat": Out(value_beat_layout(config)),
                "values_release": Out(1),
                "output_waiting": In(1),
                "use": Out(ArrayUse),
            }
        )

    def elaborate(self, platform):
        m = Module()
        values_first = self._value_beats(m)
        self._key_beats(m, values_first)
        return m

    def _value_beats(self, m):
        """Issue packs; return the signal that a beat of P V takes this cycle."""
        running = Signal()
        element = Signal(range(self.config.max_value_dim))
        beat = self.value_beat
        null = self.pack.count == 0
        start = ~running & self.pack_ready & (null | self.values_ready)
        # The exponentials may take the next pack while this one's beats run.
        ctx, last = Signal(), Signal()
        with m.If(start):
            m.d.sync += [ctx.eq(self.pack.ctx), last.eq(self.pack.last)]
        beat_ctx = Mux(running, ctx, self.pack.ctx)
        end = (running | ~null) & (element == by_context(self.contexts, beat_ctx, "last_element"))
        m.d.comb += [
            self.pack_take.eq(start),
            self.values_release.eq(beat.valid & end),
            beat.valid.eq(running | start),
            beat.ctx.eq(beat_ctx),
            beat.element.eq(element),
            beat.first.eq(start),
            beat.null.eq(start & null),
            beat.final.eq(Mux(running, last, self.pack.last) & (end | beat.null)),
        ]
        with m.If(beat.valid):
            m.d.sync += [running.eq(~(end | beat.null)), element.eq(Mux(end | beat.null, 0, element + 1))]
        return beat.valid

    def _key_beats(self, m, values_first):
        config = self.config
        ctx = self.key_ctx
        ready = Signal(CONTEXTS)
        discard = Signal()
        keys = Signal(config.position_bits)
        word = self.key_word
        slots = Signal(range(config.score_slots + 1), init=config.score_slots)
        ends_pending = Signal(range(ENDS_PENDING_MAX + 1))
        spacing = Signal(range(max(config.rows_per_scaler, config.rows_per_budget, 2)))
        settling = Signal(range(TAU_SPACING + bound_latency(config)))
        cut = Signal()

        rejected = by_context(self.contexts, ctx, "status") != Status.OK
        row_end = word == by_context(self.contexts, ctx, "last_head_beat")
        active = ready.bit_select(ctx, 1) & ~discard
        clear_ahead = Signal()
        room = (slots != 0) & ~self.capture_full
        continues = by_context(self.contexts, ctx, "continue_tau") if config.target_control else Const(0)
        tau_there = ~continues | (settling == 0)
        m.d.comb += clear_ahead.eq(
            ((word != 0) | room) & (ends_pending != ENDS_PENDING_MAX) & (~row_end | ((spacing == 0) & tau_there)) & ~cut
        )
        permitted = active & clear_ahead & ~values_first
        expired = self._watch_keys(m, discard | permitted)
        m.d.comb += self.k.ready.eq((discard | permitted) & ~expired)
        taken = self.k.valid & permitted & ~expired
        given_up = permitted & expired

        last = self.k.payload.last
        announced_end = row_end & (keys == by_context(self.contexts, ctx, "last_key"))
        whole = row_end & ~rejected & ~given_up
        keys_end = given_up | (taken & (last | (announced_end & ~rejected)))
        ending = given_up | (taken & Mux(rejected, last, row_end | last))
        # A column without a key, as ends a job whose keys were cut, can come at any time. Budgets need their distance.
        postponed = ending & ~whole & (spacing != 0) if config.rows_per_budget else Const(0)
        closing = cut & (spacing == 0)
        job_end = (keys_end & ~postponed) | closing
        column_end = (ending & ~postponed) | closing
        m.d.comb += [
            self.key_beat.eq(given_up | (taken & (~rejected | last))),
            self.key_first.eq(word == 0),
            self.key_last.eq(column_end),
            self.column.ctx.eq(ctx),
            self.column.index.eq(self.k.payload.index),
            self.column.first.eq(keys == 0),
            self.column.last.eq(job_end),
            self.column.void.eq(~whole | cut),
        ]
        with m.If(taken & ~rejected):
            m.d.sync += word.eq(word + 1)
        with m.If(column_end):
            m.d.sync += [word.eq(0), keys.eq(keys + 1)]
        with m.If(job_end):
            m.d.sync += [
                keys.eq(0),
                ready.bit_select(ctx, 1).eq(0),
                ctx.eq(~ctx),
                discard.eq(keys_end & ~given_up & ~last),
            ]
        with m.If(keys_end):
            m.d.comb += [
                self.key_early.bit_select(ctx, 1).eq(~rejected & ~given_up & ~announced_end),
                self.key_late.bit_select(ctx, 1).eq(~rejected & ~given_up & ~last),
                self.key_timeout.bit_select(ctx, 1).eq(~rejected & given_up),
            ]
        with m.If(discard & (expired | (self.k.valid & last))):
            m.d.sync += discard.eq(0)
        for n in range(CONTEXTS):
            with m.If(self.loaded[n]):
                m.d.sync += ready[n].eq(1)

        slot_reserved = self.key_beat & self.key_first
        m.d.sync += [
            cut.eq(postponed | (cut & ~closing)),
            slots.eq(slots + self.slot_returned[0] + self.slot_returned[1] - slot_reserved),
            ends_pending.eq(ends_pending + job_end - self.end_taken),
        ]
        bounded = by_context(self.contexts, ctx, "epsilon_shift") != 0 if config.rows_per_budget else Const(0)
        with m.If(column_end):
            shared = max(config.rows_per_scaler, config.rows_per_budget)
            m.d.sync += spacing.eq(Mux(bounded, shared - 1, config.rows_per_scaler - 1))
        with m.Elif(spacing != 0):
            m.d.sync += spacing.eq(spacing - 1)
        with m.If(job_end):
            m.d.sync += settling.eq(TAU_SPACING - 1 + Mux(bounded, bound_latency(config), 0))
        with m.Elif(settling != 0):
            m.d.sync += settling.eq(settling - 1)

        with m.If(values_first):
            m.d.comb += self.use.eq(ArrayUse.PV)
        with m.Elif(self.key_beat):
            m.d.comb += self.use.eq(ArrayUse.QK)
        with m.Elif(~active & ~discard):
            m.d.comb += self.use.eq(Mux(self.output_waiting, ArrayUse.WAIT_OUTPUT, ArrayUse.WAIT_QUERY))
        with m.Elif(discard | clear_ahead):
            m.d.comb += self.use.eq(ArrayUse.WAIT_KEY)
        with m.Elif(self.pack_ready):
            m.d.comb += self.use.eq(ArrayUse.WAIT_VALUE)
        with m.Else():
            m.d.comb += self.use.eq(ArrayUse.WAIT_SCORE)

    def _watch_keys(self, m, ready):
        """Return the signal that no key has come for `key_timeout` cycles in which one could have; `ready` ends it."""
        timeout = self.config.key_timeout
        expired = Signal()
        if timeout:
            waited = Signal(range(timeout))
            starved = ready & ~self.k.valid & ~expired
            m.d.sync += expired.eq(starved & (waited == timeout - 1))
            with m.If(starved):
                m.d.sync += waited.eq(waited + 1)
            with m.Elif(ready):
                m.d.sync += waited.eq(0)
            with m.If(expired & ~ready):
                m.d.sync += expired.eq(1)
        return expired
