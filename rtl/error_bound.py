"""Budgets of the rows under an error bound: what each may still drop, and which keys do not fit into that."""

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import delayed, index_shape

DISTANCE_BITS = formats.SCORE_BITS + 1
GROWTH_BITS = formats.DELTA_MAX.bit_length()
CHORD_ONE = 1 << formats.CHORD_BITS
MASS_PLACES = formats.MASS_FRACTION_BITS - formats.CHORD_BITS
GUARD_BITS = formats.CHORD_BITS + 1
"""Bits of a chord, so many that one shifted right by all of them is nothing but a remainder."""

ABOVE_BITS = formats.MASS_FRACTION_BITS + formats.EPSILON_SHIFT_MAX
"""Bits of the largest mass that may be dropped: a key less than a bit below the maximum survives in any case."""


def weighed_layout() -> data.StructLayout:
    """Return the layout of a key in a row: is it allowed, its distance below the maximum, the growth of that."""
    return data.StructLayout({"allowed": 1, "distance": DISTANCE_BITS, "growth": GROWTH_BITS})


def bound_latency(config: CoreConfig) -> int:
    """Cycles that the verdict on a key of a job with an error bound comes later."""
    return max(config.rows_per_budget - 1, 0)


class Budgets(wiring.Component):
    """Budgets of `rows_per_budget` rows, of which one goes by in each cycle with `step`.

    The budgets go round in a ring of as many places, so the unit can stand still between keys. Until the verdict is
    known, each is held twice, for a key that is kept and for one that is dropped. Growth of the maximum scales only the
    first, and no comparison waits for that: a key that sets a maximum is kept anyway.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    step : In
        Masses and growth are those of the next row.
    fresh : In
        The key is its job's first: budgets are empty.
    kept : In
        Whether the key before was kept.
    growth : In
        How much the row's maximum has grown.
    above, remainder : In
        Upper bound of the key's weight, rounded down, and whether that took anything away.
    below : In
        Lower bound of the key's weight.
    over : Out
        The key does not fit into the row's budget. Combinational.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "step": In(1),
                "fresh": In(1),
                "kept": In(1),
                "growth": In(GROWTH_BITS),
                "above": In(ABOVE_BITS),
                "remainder": In(1),
                "below": In(formats.MASS_FRACTION_BITS),
                "over": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = self.config.budget_bits
        outcomes = data.StructLayout({"kept": bits, "dropped": bits})
        ring = [Signal(outcomes, name=f"outcomes{n}") for n in range(self.config.rows_per_budget - 1)]

        # First step: what is left if the key is dropped. The remainder makes the subtraction take one more.
        budget = Signal(bits)
        difference = Signal(signed(max(bits, ABOVE_BITS) + 2))
        m.d.comb += [
            budget.eq(Mux(self.fresh, 0, Mux(self.kept, ring[-1].kept, ring[-1].dropped))),
            difference.eq(Cat(Const(1), budget) + Cat(~self.remainder, ~self.above, Const(1)).as_signed()),
            self.over.eq(difference < 0),
        ]
        scaled, dropped = Signal(bits), Signal(bits)
        growth, below = Signal(GROWTH_BITS), Signal(formats.MASS_FRACTION_BITS)

        # Second step: what is left if it is kept. Further ones do nothing but bring the row round.
        with m.If(self.step):
            m.d.sync += [
                scaled.eq(budget),
                dropped.eq(difference >> 1),
                growth.eq(self.growth),
                below.eq(self.below),
                ring[0].kept.eq((scaled >> growth) + below),
                ring[0].dropped.eq(dropped),
            ]
            m.d.sync += [after.eq(before) for before, after in pairwise(ring)]
        return m


class ErrorBound(wiring.Component):
    """Says of a key whether some row can't afford to drop it.

    A key takes `rows_per_budget` cycles from `start` on, in which its inputs must stay as they are: so many rows share
    a unit, which takes one after the other. The answer comes with `done`, a cycle after the last of them. Keys may
    follow each other without a gap, and can't be held up.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    start : In
        A key is there.
    first : In
        It is its job's first.
    epsilon_shift : In
        Of its job, not 0.
    rows : In
        The key in each row.
    coming : In
        In the cycle before `start`, what `rows` are with it: so a unit has its first row in a register by then.
    near : In
        In the cycle of `done`: the key is kept for its distance.
    done : Out
        A pulse: the key is judged.
    keep : Out
        Whether it is kept, in the cycle of `done`.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "first": In(1),
                "epsilon_shift": In(formats.EPSILON_SHIFT_BITS),
                "rows": In(data.ArrayLayout(weighed_layout(), config.rows)),
                "coming": In(data.ArrayLayout(weighed_layout(), config.rows)),
                "near": In(1),
                "done": Out(1),
                "keep": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        share = self.config.rows_per_budget
        row = Signal(index_shape(share))
        running = self.start | (row != 0)
        last = row == share - 1
        next_row = Signal.like(row)
        m.d.comb += next_row.eq(Mux(running & ~last, row + 1, 0))
        m.d.sync += row.eq(next_row)
        step = delayed(m, running, 1, "step")
        m.d.comb += self.done.eq(delayed(m, running & last, 1, "done"))
        fresh = delayed(m, self.first, 1, "fresh")

        kept, spent = Signal(), Signal()
        overs = Signal(-(-self.config.rows // share))
        for n in range(len(overs)):
            budgets = Budgets(self.config)
            m.submodules[f"budgets{n}"] = budgets
            first, *others = range(self.config.rows)[n * share : (n + 1) * share]
            weighed = Signal(weighed_layout(), name=f"weighed{n}")
            with m.Switch(next_row):
                with m.Case(0):
                    m.d.sync += weighed.eq(self.coming[first])
                for place, other in enumerate(others, start=1):
                    with m.Case(place):
                        m.d.sync += weighed.eq(self.rows[other])
                with m.Default():
                    m.d.sync += weighed.allowed.eq(0)
            self._weigh(m, budgets, weighed)
            m.d.comb += [
                budgets.step.eq(step),
                budgets.fresh.eq(fresh),
                budgets.kept.eq(kept),
                overs[n].eq(budgets.over),
            ]
        over = spent | overs.any()
        m.d.comb += self.keep.eq(over | self.near)
        with m.If(self.done):
            m.d.sync += [kept.eq(self.keep), spent.eq(0)]
        with m.Elif(step):
            m.d.sync += spent.eq(over)
        return m

    def _weigh(self, m, budgets, weighed):
        """Bound the weight of a key in a row; `golden.block.mass_above` and `mass_below` are the same."""
        fraction = weighed.distance[: formats.FRACTION_BITS]
        places = weighed.distance[formats.FRACTION_BITS :]

        # Shifted left, so that what is below the unit stands in the lowest bits. A key without places survives, so what
        # the largest shift loses does not matter.
        shift = Signal(signed(len(places) + 1))
        shifted = Signal(GUARD_BITS + ABOVE_BITS)
        left = Mux(shift < 0, 0, shift[: ABOVE_BITS.bit_length()])
        m.d.comb += [
            shift.eq(self.epsilon_shift + (MASS_PLACES + GUARD_BITS) - places),
            shifted.eq(Mux(weighed.allowed, CHORD_ONE - fraction, 0) << left),
        ]
        highest = (CHORD_ONE - formats.CHORD_GAP - fraction)[: formats.CHORD_BITS] << MASS_PLACES
        vanishes = ~weighed.allowed | (places >= formats.MASS_FRACTION_BITS)
        m.d.sync += [
            budgets.growth.eq(weighed.growth),
            budgets.above.eq(shifted[GUARD_BITS:]),
            budgets.remainder.eq(shifted[:GUARD_BITS].any()),
            budgets.below.eq(Mux(vanishes, 0, highest >> places[: (formats.MASS_FRACTION_BITS - 1).bit_length()])),
        ]
