"""From final accumulators to the output stream: normalised elements, or the partial state."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, contexts_layout, delayed, index_shape
from rtl.divider import DIVIDER_LATENCY, Divider
from rtl.interfaces import PIECE_BITS, STATE_PIECES, Status, output_layout
from rtl.output_accumulator import READ_LATENCY

OUTPUT_FIFO_DEPTH = 32
"""Covers the beats under way through the dividers, so that a ready consumer sees a beat every cycle."""


class OutputWriter(wiring.Component):
    """Writes each job's output packet: rows in order, `output_lanes` elements a beat.

    A job that emits its state writes, for each row, the header word and then the accumulators, each beat of words in
    `STATE_PIECES` pieces. A rejected job writes one zero beat. Lanes past the last element are zero. A beat every
    cycle, the first read 2 cycles after `done`; an element takes ``READ_LATENCY + DIVIDER_LATENCY`` cycles, a piece of
    a state ``READ_LATENCY``, then one to the FIFO and the FIFO's two. Beats are only begun when the FIFO has room for
    them, so back-pressure holds everything without loss.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts, maxima, totals : In
        The jobs, and their rows' final maxima and sums.
    done : In
        For each context, a pulse: its job's accumulators are final.
    read_ctx, read_row, read_word : Out
        Accumulators to read.
    elements : In
        Those accumulators, `READ_LATENCY` cycles later.
    o : Out
        Output packets.
    finished : Out
        For each context, a pulse: the last beat of its packet is in the FIFO.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        maxima = data.ArrayLayout(signed(formats.MAXIMUM_BITS), config.rows)
        totals = data.ArrayLayout(config.sum_bits, config.rows)
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "maxima": In(data.ArrayLayout(maxima, CONTEXTS)),
                "totals": In(data.ArrayLayout(totals, CONTEXTS)),
                "done": In(CONTEXTS),
                "read_ctx": Out(1),
                "read_row": Out(index_shape(config.rows)),
                "read_word": Out(index_shape(config.output_beats(config.max_value_dim))),
                "elements": In(data.ArrayLayout(signed(config.accumulator_bits), config.output_lanes)),
                "o": Out(stream.Signature(output_layout(config))),
                "finished": Out(CONTEXTS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        ctx = self.read_ctx

        # Which contexts wait to be written; they finish, and are written, in turn.
        waiting = Signal(CONTEXTS)
        writing = Signal()
        rejected = Signal()
        emit_state = Signal()
        last_row = Signal(index_shape(config.rows))
        last_word = Signal(index_shape(config.output_beats(config.max_value_dim)))
        m.d.sync += waiting.eq(waiting | self.done)

        last_lane = Signal(index_shape(config.output_lanes))
        credits = Signal(range(OUTPUT_FIFO_DEPTH + 1), init=OUTPUT_FIFO_DEPTH)
        header = Signal()
        piece = Signal(range(STATE_PIECES))
        begin = Signal()
        word_end = Signal()
        row_end = Signal()
        last = Signal()
        m.d.comb += [
            begin.eq(writing & (credits != 0)),
            word_end.eq(~emit_state | (piece == STATE_PIECES - 1)),
            row_end.eq(word_end & ~header & (self.read_word == last_word)),
            last.eq(rejected | (row_end & (self.read_row == last_row))),
        ]
        with m.If(begin):
            m.d.sync += piece.eq(Mux(word_end, 0, piece + 1))
            with m.If(word_end):
                m.d.sync += header.eq(0)
                with m.If(~header):
                    m.d.sync += self.read_word.eq(self.read_word + 1)
            with m.If(row_end):
                m.d.sync += [self.read_word.eq(0), self.read_row.eq(self.read_row + 1), header.eq(emit_state)]
            with m.If(last):
                m.d.sync += writing.eq(0)

        # A job begins when the one before has left the pipeline, so the two ways to the FIFO never meet.
        idle = Signal(init=1)
        refuse = by_context(self.contexts, ctx, "status") != Status.OK
        states = by_context(self.contexts, ctx, "emit_state") & ~refuse
        with m.If(idle & waiting.bit_select(ctx, 1)):
            m.d.sync += [
                idle.eq(0),
                waiting.bit_select(ctx, 1).eq(0),
                writing.eq(1),
                rejected.eq(refuse),
                emit_state.eq(states),
                header.eq(states),
                last_row.eq(by_context(self.contexts, ctx, "last_row")),
                last_word.eq(by_context(self.contexts, ctx, "last_output_word")),
                last_lane.eq(by_context(self.contexts, ctx, "last_element") % config.output_lanes),
                piece.eq(0),
                self.read_row.eq(0),
                self.read_word.eq(0),
            ]

        # Lanes that hold an element, of the word being read.
        within = [Const(1), *(last_lane >= lane for lane in range(1, config.output_lanes))]
        lanes = Cat(within) | (self.read_word != last_word).replicate(config.output_lanes)

        read_begin = delayed(m, begin, READ_LATENCY, "read_begin")
        read_last = delayed(m, last, READ_LATENCY, "read_last")
        read_lanes = delayed(m, Mux(rejected, 0, lanes), READ_LATENCY, "read_lanes")
        read_header = delayed(m, header, READ_LATENCY, "read_header")
        read_piece = delayed(m, piece, READ_LATENCY, "read_piece")
        row_total = delayed(
            m, Mux(ctx, self._row(self.totals[1]), self._row(self.totals[0])), READ_LATENCY, "row_total"
        )
        row_maximum = delayed(
            m, Mux(ctx, self._row(self.maxima[1]), self._row(self.maxima[0])).as_signed(), READ_LATENCY, "row_maximum"
        )

        m.submodules.fifo = fifo = SyncFIFOBuffered(width=output_layout(config).size, depth=OUTPUT_FIFO_DEPTH)
        pushed = Signal(output_layout(config))
        push = Signal()
        divided = delayed(m, read_begin & ~emit_state, DIVIDER_LATENCY, "divided")
        divided_last = delayed(m, read_last, DIVIDER_LATENCY, "divided_last")
        divided_lanes = delayed(m, read_lanes, DIVIDER_LATENCY, "divided_lanes")
        piece_valid = read_begin & emit_state
        m.d.sync += [
            push.eq(divided | piece_valid),
            pushed.last.eq(Mux(emit_state, read_last, divided_last)),
            pushed.tag.eq(by_context(self.contexts, ctx, "tag")),
        ]
        for lane in range(config.output_lanes):
            divider = Divider(config)
            m.submodules[f"divider{lane}"] = divider
            m.d.comb += [divider.accumulator.eq(self.elements[lane]), divider.total.eq(row_total)]
            word = Signal(signed(formats.STATE_WORD_BITS), name=f"word{lane}")
            if lane == 0:
                header_word = Cat(row_total, Const(0, formats.STATE_SUM_BITS - len(row_total)), row_maximum)
                padded = Signal(signed(formats.STATE_WORD_BITS), name="header_word")
                m.d.comb += padded.eq(header_word.as_signed())
            else:
                padded = Const(0, formats.STATE_WORD_BITS)
            m.d.comb += word.eq(Mux(read_header, padded, Mux(read_lanes[lane], self.elements[lane], 0)))
            quotient = Mux(divided_lanes[lane], divider.quotient, 0)
            m.d.sync += pushed.data[lane].eq(Mux(emit_state, word.word_select(read_piece, PIECE_BITS), quotient))

        m.d.comb += [
            fifo.w_en.eq(push),
            fifo.w_data.eq(pushed),
            self.o.valid.eq(fifo.r_rdy),
            self.o.payload.eq(fifo.r_data),
            fifo.r_en.eq(self.o.ready),
        ]
        taken = self.o.valid & self.o.ready
        m.d.sync += credits.eq(credits + taken - begin)
        with m.If(push & pushed.last):
            m.d.comb += self.finished.bit_select(ctx, 1).eq(1)
            m.d.sync += [idle.eq(1), ctx.eq(~ctx)]
        return m

    def _row(self, values):
        """Return the value of the row being read."""
        return values.as_value().word_select(self.read_row, values[0].shape().width)
