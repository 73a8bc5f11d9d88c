"""Accepts jobs, checks them, and loads their queries and starting states while the job before is running."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from golden.masks import MaskKind
from rtl.bundles import CONTEXTS, by_context, contexts_layout, index_shape, state_row_layout, state_word_layout
from rtl.interfaces import PIECE_BITS, STATE_PIECES, Status, job_layout, query_layout, state_layout
from rtl.query_buffer import query_write_layout


class JobLoader(wiring.Component):
    """Turns jobs into contexts, which it fills in turn.

    A job is taken as soon as the queries of the job before the last are no longer needed, and its state (or the mark
    that there is none) goes in once that job's statistics have been taken. Queries take their beats and 6 cycles more.
    A job that the configuration can't hold, or whose queries or state do not end where they should, is rejected: its
    packets are discarded up to their last beat and the context only carries the reason.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    job, q, state : In
        Jobs; a packet of queries for each; a packet of state for each that starts from one.
    contexts : Out
        Both contexts.
    query : Out
        Write port of the query buffer.
    state_row, state_word : Out
        Write ports of maxima and sums, and of accumulators.
    clear : Out
        For each context, a pulse: nothing of the job before is needed any more, begin empty.
    loaded : Out
        For each context, a pulse: its job may run.
    queries_free, context_free : In
        For each context, a pulse: its queries have seen their last key; its statistics have been taken.
    waiting : Out
        A loaded job waits for its context's last outputs or statistics to be taken.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "q": In(stream.Signature(query_layout(config))),
                "state": In(stream.Signature(state_layout(config))),
                "contexts": Out(contexts_layout(config)),
                "query": Out(query_write_layout(config)),
                "state_row": Out(state_row_layout(config)),
                "state_word": Out(state_word_layout(config)),
                "clear": Out(CONTEXTS),
                "loaded": Out(CONTEXTS),
                "queries_free": In(CONTEXTS),
                "context_free": In(CONTEXTS),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lane_bits = _log2(config.lanes)
        ctx = Signal()
        job = Signal(job_layout(config))
        status = Signal(Status)
        queries_busy = Signal(CONTEXTS)
        context_busy = Signal(CONTEXTS)
        m.d.sync += [
            queries_busy.eq(queries_busy & ~self.queries_free),
            context_busy.eq(context_busy & ~self.context_free),
        ]

        row = Signal(index_shape(config.rows))
        beat = Signal(index_shape(config.head_beats(config.max_head_dim)))
        last_beat = Signal(index_shape(config.head_beats(config.max_head_dim)))
        last_row = Signal(index_shape(config.rows))
        tail_lanes = Signal(config.lanes)
        faults = Signal(len(self._faults(job)))
        row_end = beat == last_beat
        block_end = row_end & (row == last_row)
        m.d.comb += [
            self.query.ctx.eq(ctx),
            self.query.row.eq(row),
            self.query.beat.eq(beat),
            self.query.position.eq(self.q.payload.position),
        ]
        # Lanes past the head dimension are zeroed here, so that whatever k carries there does not count.
        for c in range(config.lanes):
            unused = row_end & ~tail_lanes[c]
            m.d.comb += self.query.elements[c].eq(Mux(unused, 0, self.q.payload.data[c]))

        with m.FSM():
            with m.State("JOB"):
                m.d.comb += self.job.ready.eq(~queries_busy.bit_select(ctx, 1))
                m.d.sync += job.eq(self.job.payload)
                with m.If(self.job.valid & self.job.ready):
                    m.d.sync += queries_busy.bit_select(ctx, 1).eq(1)
                    m.next = "CHECK"

            with m.State("CHECK"):
                rest = job.head_dim[:lane_bits]
                m.d.sync += [
                    faults.eq(Cat(holds for _, holds in self._faults(job))),
                    last_beat.eq((job.head_dim - 1) >> lane_bits),
                    last_row.eq(job.rows - 1),
                    tail_lanes.eq(Mux(rest == 0, (1 << config.lanes) - 1, (1 << rest) - 1)),
                    row.eq(0),
                    beat.eq(0),
                ]
                m.next = "JUDGE"

            with m.State("JUDGE"):
                m.d.sync += status.eq(Status.OK)
                for n, (reason, _) in reversed(list(enumerate(self._faults(job)))):
                    with m.If(faults[n]):
                        m.d.sync += status.eq(reason)
                m.next = "QUERY"

            with m.State("QUERY"):
                m.d.comb += [
                    self.q.ready.eq(1),
                    self.query.enable.eq(self.q.valid & (status == Status.OK)),
                ]
                with m.If(self.q.valid):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(row_end):
                        m.d.sync += [beat.eq(0), row.eq(row + 1)]
                    with m.If((status == Status.OK) & (self.q.payload.last != block_end)):
                        m.d.sync += status.eq(Status.QUERY_LENGTH)
                    with m.If(self.q.payload.last):
                        m.next = "CLAIM"

            with m.State("CLAIM"):
                busy = context_busy.bit_select(ctx, 1)
                m.d.comb += self.waiting.eq(busy)
                with m.If(~busy):
                    m.d.sync += context_busy.bit_select(ctx, 1).eq(1)
                    for n in range(CONTEXTS):
                        with m.If(ctx == n):
                            m.d.sync += self._context_fields(self.contexts[n], job, status, last_beat, last_row)
                    m.next = "CLEAR"

            with m.State("CLEAR"):
                m.d.comb += self.clear.bit_select(ctx, 1).eq(1)
                with m.If(job.from_state):
                    m.next = "STATE"
                with m.Else():
                    m.next = "LOADED"

            with m.State("STATE"):
                self._load_state(m, ctx, job, status)

            with m.State("LOADED"):
                for n in range(CONTEXTS):
                    with m.If(ctx == n):
                        m.d.sync += self.contexts[n].status.eq(status)
                m.d.comb += self.loaded.bit_select(ctx, 1).eq(1)
                m.d.sync += ctx.eq(~ctx)
                m.next = "JOB"
        return m

    def _faults(self, job):
        """Return what may be wrong with the fields of a job: statuses and conditions, in order of precedence."""
        config = self.config
        unknown_mask = job.mask > MaskKind.WINDOW
        empty_window = (job.mask == MaskKind.WINDOW) & (job.window == 0)
        beyond_key = job.shared & (job.value_dim > job.head_dim) if config.shared_values else Const(0)
        return [
            (Status.HEAD_DIM, (job.head_dim == 0) | (job.head_dim > config.max_head_dim)),
            (Status.VALUE_DIM, (job.value_dim == 0) | (job.value_dim > config.max_value_dim) | beyond_key),
            (Status.ROWS, (job.rows == 0) | (job.rows > config.rows)),
            (Status.KEYS, (job.keys == 0) | (job.keys > config.max_keys)),
            (Status.MASK, unknown_mask | empty_window),
            (Status.TAU, job.tau < formats.TAU_MIN),
            (Status.SHARED, Const(0) if config.shared_values else job.shared),
            (Status.EPSILON, Const(0) if config.rows_per_budget else job.epsilon_shift != 0),
            (Status.TARGET, Const(0) if config.target_control else (job.target != 0) | job.continue_tau),
        ]

    def _context_fields(self, context, job, status, last_beat, last_row):
        """Return the assignments that fill `context`."""
        config = self.config
        last_element = job.value_dim - 1
        return [
            context.status.eq(status),
            context.last_head_beat.eq(last_beat),
            context.last_value_beat.eq(last_element >> _log2(config.lanes)),
            context.last_element.eq(last_element),
            context.last_output_word.eq(last_element >> _log2(config.output_lanes)),
            context.last_row.eq(last_row),
            context.row_mask.eq(Cat(Const(1), *(last_row >= i for i in range(1, config.rows)))),
            context.last_key.eq(job.keys - 1),
            context.multiplier.eq(job.multiplier),
            context.shift.eq(job.shift),
            context.tau.eq(job.tau),
            context.epsilon_shift.eq(job.epsilon_shift),
            context.target.eq(job.target),
            context.continue_tau.eq(job.continue_tau),
            context.mask.eq(job.mask),
            context.window.eq(Mux(job.window > config.max_keys, config.max_keys, job.window)),
            context.from_state.eq(job.from_state),
            context.emit_state.eq(job.emit_state),
            # A constant without the option, so that what depends on it takes no area.
            context.shared.eq(job.shared & (status == Status.OK) if config.shared_values else 0),
            context.tag.eq(job.tag),
        ]

    def _load_state(self, m, ctx, job, status):
        """Take a packet of state: for each row its header word, then its accumulators, in pieces."""
        config = self.config
        row = Signal(index_shape(config.rows), name="state_load_row")
        word = Signal(index_shape(config.output_beats(config.max_value_dim)))
        header = Signal(init=1)
        piece = Signal(range(STATE_PIECES))
        held = [Signal(PIECE_BITS * (STATE_PIECES - 1), name=f"held{lane}") for lane in range(config.output_lanes)]
        words = [Cat(held[lane], self.state.payload.data[lane]) for lane in range(config.output_lanes)]

        word_end = piece == STATE_PIECES - 1
        row_end = word_end & ~header & (word == by_context(self.contexts, ctx, "last_output_word"))
        packet_end = row_end & (row == by_context(self.contexts, ctx, "last_row"))
        write = self.state.valid & word_end & (status == Status.OK)
        m.d.comb += [
            self.state.ready.eq(1),
            self.state_row.enable.eq(write & header),
            self.state_row.ctx.eq(ctx),
            self.state_row.row.eq(row),
            self.state_row.maximum.eq(words[0][formats.STATE_SUM_BITS :]),
            self.state_row.total.eq(words[0][: formats.STATE_SUM_BITS]),
            self.state_word.enable.eq(write & ~header),
            self.state_word.ctx.eq(ctx),
            self.state_word.row.eq(row),
            self.state_word.word.eq(word),
        ]
        for lane in range(config.output_lanes):
            m.d.comb += self.state_word.elements[lane].eq(words[lane][: config.accumulator_bits])
        with m.If(self.state.valid):
            m.d.sync += piece.eq(Mux(word_end, 0, piece + 1))
            for lane in range(config.output_lanes):
                m.d.sync += held[lane].eq(words[lane][PIECE_BITS:])
            with m.If(word_end):
                m.d.sync += header.eq(0)
                with m.If(~header):
                    m.d.sync += word.eq(word + 1)
            with m.If(row_end):
                m.d.sync += [word.eq(0), row.eq(row + 1), header.eq(1)]
            with m.If((status == Status.OK) & (self.state.payload.last != packet_end)):
                m.d.sync += status.eq(Status.STATE_LENGTH)
            with m.If(self.state.payload.last):
                m.d.sync += [piece.eq(0), word.eq(0), row.eq(0), header.eq(1)]
                m.next = "LOADED"


def _log2(power_of_two: int) -> int:
    """Return the logarithm of a power of two."""
    return power_of_two.bit_length() - 1
