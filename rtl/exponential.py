"""Exponentials of a pack, and the running sum of each row."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, delayed, pack_layout, state_row_layout
from rtl.pack_buffer import slot_layout

EXPONENTIAL_STAGES = 4
PLACES_MAX = formats.PROBABILITY_BITS + 1


class Exp2(wiring.Component):
    """``2**-distance`` by table and shift, rounded to nearest.

    One distance a cycle; the probability appears 2 cycles later, the second half of which is the caller's register.

    Members
    -------
    enable : In
        The row takes part; the probability is 0 otherwise.
    distance : In
        How far the logit lies below the maximum.
    probability : Out
        One cycle later: the power of two, in units of ``2**-PROBABILITY_BITS``.
    """

    enable: In(1)
    distance: In(formats.SCORE_BITS + 1)
    probability: Out(formats.PROBABILITY_BITS)

    def elaborate(self, platform):
        m = Module()
        table = Array(Const(int(entry), formats.PROBABILITY_BITS) for entry in formats.exp2_table())
        whole = self.distance[formats.FRACTION_BITS :]
        entry = Signal(formats.PROBABILITY_BITS)
        places = Signal(range(PLACES_MAX + 1))
        m.d.sync += [
            entry.eq(table[self.distance[: formats.FRACTION_BITS]]),
            places.eq(Mux((whole > PLACES_MAX) | ~self.enable, PLACES_MAX, whole)),
        ]
        m.d.comb += self.probability.eq((((entry << 1) >> places) + 1) >> 1)
        return m


class Exponentials(wiring.Component):
    """Turns closed packs into the stationary operand of P V, and keeps the rows' sums.

    A pack takes ``lanes + EXPONENTIAL_STAGES`` cycles from being taken to `ready_pack`, an empty one a single cycle.
    The next pack is taken when the array has taken this one's probabilities.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    packs : In
        Closed packs in order.
    pop, slot : Out, In
        Reads the scores of the pack's keys, in order, one a cycle.
    clear : In
        For each context: a job starts there, its sums are zero.
    state_row : In
        Sums of a job that starts from a partial state.
    ready_pack : Out
        A pack's probabilities are complete and wait for the array.
    pack : Out
        That pack.
    probabilities : Out
        Its probabilities, lane by lane for every row.
    take : In
        The array takes them at the end of the next cycle.
    totals : Out
        Sums of both contexts.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        lanes = data.ArrayLayout(formats.PROBABILITY_BITS, config.lanes)
        totals = data.ArrayLayout(config.sum_bits, config.rows)
        super().__init__(
            {
                "packs": In(stream.Signature(pack_layout(config))),
                "pop": Out(1),
                "slot": In(slot_layout(config)),
                "clear": In(CONTEXTS),
                "state_row": In(state_row_layout(config)),
                "ready_pack": Out(1),
                "pack": Out(pack_layout(config)),
                "probabilities": Out(data.ArrayLayout(lanes, config.rows)),
                "take": In(1),
                "totals": Out(data.ArrayLayout(totals, CONTEXTS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        running = Signal()
        busy = Signal()
        lane = Signal(range(config.lanes))
        accept = Signal()
        filled = Signal()
        m.d.comb += [
            self.packs.ready.eq(~busy),
            accept.eq(self.packs.valid & ~busy),
            filled.eq(self.packs.payload.count != 0),
            self.pop.eq(running & (lane < self.pack.count)),
        ]
        finish = delayed(m, running & (lane == config.lanes - 1), EXPONENTIAL_STAGES - 1, "finish")
        with m.If(accept):
            m.d.sync += [
                busy.eq(1),
                self.pack.eq(self.packs.payload),
                running.eq(filled),
                self.ready_pack.eq(~filled),
                lane.eq(0),
            ]
        with m.Elif(running):
            m.d.sync += [lane.eq(lane + 1), running.eq(lane != config.lanes - 1)]
        with m.If(finish):
            m.d.sync += self.ready_pack.eq(1)
        with m.If(self.take):
            m.d.sync += [self.ready_pack.eq(0), busy.eq(0)]

        # The sums are rescaled in two steps, well before the first probability is added.
        rescale_fine = delayed(m, accept, 1, "rescale_fine")
        rescale_coarse = delayed(m, rescale_fine, 1, "rescale_coarse")

        # Stages: slot read, distance, table, shift into the lanes.
        shifting = delayed(m, running, EXPONENTIAL_STAGES - 1, "shifting")
        summing = delayed(m, shifting, 1, "summing")
        popped = delayed(m, self.pop, 1, "popped")
        for i in range(config.rows):
            exp2 = Exp2()
            m.submodules[f"exp2_{i}"] = exp2
            distance = Signal(formats.SCORE_BITS + 1, name=f"distance{i}")
            enable = Signal(name=f"enable{i}")
            m.d.sync += [
                distance.eq((self.pack.maxima[i] << formats.FRACTION_BITS) - self.slot.logits[i]),
                enable.eq(popped & self.slot.allowed[i]),
            ]
            m.d.comb += [exp2.distance.eq(distance), exp2.enable.eq(enable)]
            chain = self.probabilities[i].as_value()
            with m.If(shifting):
                m.d.sync += chain.eq(Cat(chain[formats.PROBABILITY_BITS :], exp2.probability))

            for ctx in range(CONTEXTS):
                total = self.totals[ctx][i]
                from_state = self.state_row.enable & (self.state_row.ctx == ctx) & (self.state_row.row == i)
                with m.If(self.clear[ctx]):
                    m.d.sync += total.eq(0)
                with m.Elif(from_state):
                    m.d.sync += total.eq(self.state_row.total)
                with m.Elif(rescale_fine & (self.pack.ctx == ctx)):
                    m.d.sync += total.eq(total >> self.pack.deltas[i][:3])
                with m.Elif(rescale_coarse & (self.pack.ctx == ctx)):
                    m.d.sync += total.eq(total >> (self.pack.deltas[i][3:] << 3))
                with m.Elif(summing & (self.pack.ctx == ctx)):
                    m.d.sync += total.eq(total + self.probabilities[i][config.lanes - 1])
        return m
