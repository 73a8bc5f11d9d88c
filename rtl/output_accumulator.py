"""The output accumulators O of both contexts: rescaled and added to in one pass, then read row by row."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, contexts_layout, delayed, index_shape, state_word_layout
from rtl.dot_array import sum_bits, tree_stages

READ_LATENCY = 3
"""From the address of an accumulator to its output."""

ACCUMULATE_STAGES = 5
"""From the read of an accumulator to the register in front of its write."""


def value_beat_layout(config: CoreConfig) -> data.StructLayout:
    """One array beat of P V.

    `element` is the output column; `first` and `final` mark the first beat of a pack and the last of a job. A `null`
    beat adds nothing: it stands for the empty pack that ends a job.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "ctx": 1,
            "element": range(config.max_value_dim),
            "first": 1,
            "final": 1,
            "null": 1,
        }
    )


class OutputAccumulator(wiring.Component):
    """``O = (O >> delta) + sum`` for every row in each P V beat, a beat a cycle.

    The sum of a beat arrives ``3 + tree_stages`` cycles after the beat was issued, its accumulator is written a cycle
    later, and can be read, as `done` then says, in the next. Two beats on the same element must be more than
    `ACCUMULATE_STAGES` cycles apart; the exponentials keep packs ``lanes + EXPONENTIAL_STAGES + 1`` apart. No stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    beat : In
        The beat issued to the array in this cycle.
    deltas : In
        Growth of each row's maximum, in the cycle of a pack's first beat.
    sums : In
        Sums from the array.
    clear : In
        For each context: a job starts there, its accumulators are zero.
    state_word : In
        Accumulators of a job that starts from a partial state.
    contexts : In
        Whether a context starts from a state.
    done : Out
        For each context, a pulse: its accumulators are final.
    read_ctx, read_row, read_word : In
        Accumulators to read for output.
    elements : Out
        Those accumulators, `READ_LATENCY` cycles later; zero where the job has added nothing.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "beat": In(value_beat_layout(config)),
                "deltas": In(data.ArrayLayout(range(formats.DELTA_MAX + 1), config.rows)),
                "sums": In(data.ArrayLayout(signed(sum_bits(config.lanes)), config.rows)),
                "clear": In(CONTEXTS),
                "state_word": In(state_word_layout(config)),
                "contexts": In(contexts_layout(config)),
                "done": Out(CONTEXTS),
                "read_ctx": In(1),
                "read_row": In(index_shape(config.rows)),
                "read_word": In(index_shape(config.output_beats(config.max_value_dim))),
                "elements": Out(data.ArrayLayout(signed(config.accumulator_bits), config.output_lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lane_bits = config.output_lanes.bit_length() - 1
        word_shape = data.ArrayLayout(signed(config.accumulator_bits), config.output_lanes)

        pack_deltas = Signal.like(self.deltas)
        # An empty pack may follow before the beats of the one before have read theirs.
        with m.If(self.beat.valid & self.beat.first & ~self.beat.null):
            m.d.sync += pack_deltas.eq(self.deltas)

        # The read is issued so that the shifted accumulator meets its sum.
        reading = delayed(m, self.beat, 3 + tree_stages(config.lanes) - (ACCUMULATE_STAGES - 1), "reading")
        selecting = delayed(m, reading, 1, "selecting")
        writing = delayed(m, selecting, ACCUMULATE_STAGES - 1, "writing")

        # A job's first pack finds nothing to add to, unless the job came with a state.
        touched = Signal(CONTEXTS)
        fresh = Signal()
        deltas = Signal.like(self.deltas)
        with m.If(selecting.valid & selecting.first & ~selecting.null):
            m.d.sync += [
                deltas.eq(pack_deltas),
                fresh.eq(~touched.bit_select(selecting.ctx, 1)),
                touched.bit_select(selecting.ctx, 1).eq(1),
            ]
        # The shift takes two steps.
        coarse = Signal(data.ArrayLayout(3, config.rows))
        m.d.sync += [coarse[i].eq(deltas[i][3:]) for i in range(config.rows)]
        for ctx in range(CONTEXTS):
            with m.If(self.clear[ctx]):
                m.d.sync += touched[ctx].eq(self.contexts[ctx].from_state)
            m.d.sync += self.done[ctx].eq(writing.valid & writing.final & (writing.ctx == ctx))

        read_ctx = delayed(m, self.read_ctx, 1, "read_ctx")
        select_ctx = delayed(m, read_ctx, 1, "select_ctx")
        select_row = delayed(m, self.read_row, 2, "select_row")
        row_words = []
        for i in range(config.rows):
            words = []
            written = Signal(signed(config.accumulator_bits), name=f"written{i}")
            for ctx in range(CONTEXTS):
                storage = Memory(shape=word_shape, depth=1 << len(self.read_word), init=[])
                m.submodules[f"row{i}_{ctx}"] = storage
                write, read = storage.write_port(granularity=1), storage.read_port()
                words.append(read.data)
                from_state = self.state_word.enable & (self.state_word.ctx == ctx) & (self.state_word.row == i)
                accumulate = writing.valid & ~writing.null & (writing.ctx == ctx)
                accumulating = reading.valid & (reading.ctx == ctx)
                m.d.comb += [
                    read.addr.eq(Mux(accumulating, reading.element >> lane_bits, self.read_word)),
                    write.addr.eq(writing.element >> lane_bits),
                ]
                for lane in range(config.output_lanes):
                    m.d.comb += [
                        write.data[lane].eq(written),
                        write.en[lane].eq(accumulate & (writing.element[:lane_bits] == lane)),
                    ]
                with m.If(from_state):
                    m.d.comb += [
                        write.addr.eq(self.state_word.word),
                        write.data.eq(self.state_word.elements),
                        write.en.eq((1 << config.output_lanes) - 1),
                    ]
            old = Signal(signed(config.accumulator_bits), name=f"old{i}")
            shifting = Signal(signed(config.accumulator_bits), name=f"shifting{i}")
            shifted = Signal(signed(config.accumulator_bits), name=f"shifted{i}")
            word = Mux(selecting.ctx, words[1].as_value(), words[0].as_value())
            m.d.sync += [
                old.eq(word.word_select(selecting.element[:lane_bits], config.accumulator_bits)),
                shifting.eq(Mux(fresh, 0, old >> deltas[i][:3])),
                shifted.eq(shifting >> (coarse[i] << 3)),
                written.eq(shifted + self.sums[i]),
            ]
            # A block RAM's output is late, so choosing among the rows has a cycle of its own.
            row_word = Signal(word_shape, name=f"row_word{i}")
            m.d.sync += row_word.eq(Mux(read_ctx, words[1].as_value(), words[0].as_value()))
            row_words.append(row_word.as_value())

        selected = Signal(word_shape)
        with m.If(touched.bit_select(select_ctx, 1)):
            m.d.sync += selected.eq(Cat(row_words).word_select(select_row, word_shape.size))
        with m.Else():
            m.d.sync += selected.eq(0)
        m.d.comb += self.elements.eq(selected)
        return m
