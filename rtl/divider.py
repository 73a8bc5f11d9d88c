"""Pipelined division of an accumulator by its row's sum, exact to the last bit."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import delayed

INTEGER_BITS = formats.DATA_BITS + 1
QUOTIENT_BITS = INTEGER_BITS + formats.OUTPUT_FRACTION_BITS + 1
OFFSET = (1 << (formats.DATA_BITS - 1)) + 1
OFFSET_STAGES = 2
DIVIDER_LATENCY = OFFSET_STAGES + QUOTIENT_BITS + 1


def _work_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of what is under division; `above` says that the quotient is too large to be of use."""
    return data.StructLayout({"remainder": config.sum_bits, "tail": QUOTIENT_BITS, "above": 1})


class Divider(wiring.Component):
    """``saturate(round_half_up(accumulator * 2**8 / total))``, a quotient every cycle.

    Exact for every accumulator and sum. A row's quotient lies between -128 and 127, but for what rescaling truncates,
    so adding `OFFSET` times the sum leaves `QUOTIENT_BITS` of it: restoring division, one bit a stage. What is below
    that range or above it saturates anyway. Latency `DIVIDER_LATENCY`, no stalls.

    A smaller divider has a part of the stages and sends each operand through them `passes` times. Latency and quotients
    are the same, but it takes no more than one operand in `passes` cycles, on average, they have to be announced, and
    their sum must stay until the last quotient by it is done.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.
    passes : int
        A divisor of `QUOTIENT_BITS`.
    notice : int
        Cycles from the announcement of operands until they come, where there are several passes.

    Members
    -------
    announced : In
        Operands come `notice` cycles later; only where there are several passes, and only when `free`.
    free : Out
        Operands may be announced.
    done : Out
        The quotient is that of operands that were announced.
    accumulator : In
        An element of O.
    total : In
        Its row's sum; the quotient by 0 is 0.
    quotient : Out
        The output element.
    """

    def __init__(self, config: CoreConfig, passes: int = 1, notice: int = 0):
        self.config = config
        self.passes = passes
        self.notice = notice
        super().__init__(
            {
                "announced": In(1),
                "free": Out(1),
                "done": Out(1),
                "accumulator": In(signed(config.accumulator_bits)),
                "total": In(config.sum_bits),
                "quotient": Out(signed(formats.OUTPUT_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config

        offset = Signal(config.sum_bits + formats.DATA_BITS)
        accumulator = Signal.like(self.accumulator)
        m.d.sync += [
            offset.eq((self.total << (formats.DATA_BITS - 1)) + self.total),
            accumulator.eq(self.accumulator),
        ]
        dividend = Signal(config.sum_bits + INTEGER_BITS)
        shifted = accumulator + offset
        m.d.sync += dividend.eq(Mux(shifted < 0, 0, shifted))

        # What is not yet used of the dividend leaves at the top of `tail` while the quotient enters below.
        divisor = self._travelling(m, self.total, OFFSET_STAGES)
        work = Signal(_work_layout(config), name="work_0")
        m.d.comb += [
            work.remainder.eq(dividend[INTEGER_BITS:]),
            work.tail.eq(dividend[:INTEGER_BITS] << (QUOTIENT_BITS - INTEGER_BITS)),
            work.above.eq(dividend[INTEGER_BITS:] >= divisor),
        ]
        stages = QUOTIENT_BITS // self.passes
        returned = Signal.like(work)
        returns = self._follow_operands(m, stages)
        if self.passes > 1:
            work = data.View(_work_layout(config), Mux(returns, returned.as_value(), work.as_value()))
        for stage in range(stages):
            work = self._divide_bit(m, work, divisor, stage)
            divisor = self._travelling(m, divisor, 1, stage)
        m.d.comb += returned.eq(work)

        rounded = Signal(signed(QUOTIENT_BITS + 1))
        m.d.comb += rounded.eq(((work.tail + 1) >> 1) - (OFFSET << formats.OUTPUT_FRACTION_BITS))
        with m.If(divisor == 0):
            m.d.sync += self.quotient.eq(0)
        with m.Elif(work.above | (rounded > formats.OUTPUT_MAX)):
            m.d.sync += self.quotient.eq(formats.OUTPUT_MAX)
        with m.Elif(rounded < formats.OUTPUT_MIN):
            m.d.sync += self.quotient.eq(formats.OUTPUT_MIN)
        with m.Else():
            m.d.sync += self.quotient.eq(rounded)
        return m

    def _travelling(self, m, divisor, cycles, stage=""):
        """Return the divisor that belongs to an operand so many cycles later."""
        return delayed(m, divisor, cycles, f"divisor{stage}") if self.passes == 1 else divisor

    def _divide_bit(self, m, work, divisor, stage):
        """Return what is under division after another bit of the quotient, in a register."""
        trial = Signal(self.config.sum_bits + 1, name=f"trial_{stage}")
        difference = Signal(signed(self.config.sum_bits + 2), name=f"difference_{stage}")
        fits = ~difference[-1]
        m.d.comb += [trial.eq(Cat(work.tail[-1], work.remainder)), difference.eq(trial - divisor)]
        register = Signal(_work_layout(self.config), name=f"work_{stage + 1}")
        m.d.sync += [
            register.remainder.eq(Mux(fits, difference, trial)),
            register.tail.eq(Cat(fits, work.tail)),
            register.above.eq(work.above),
        ]
        return register

    def _follow_operands(self, m, stages):
        """Drive `free` and `done`; return the signal that what leaves the last stage goes to the first one again."""
        # From the announcement to the first stage.
        ahead = self.notice + OFFSET_STAGES
        announced = [self.announced]
        for cycle in range(self.notice + DIVIDER_LATENCY):
            announced.append(delayed(m, announced[-1], 1, f"announced_{cycle}"))
        again = [stages * n for n in range(1, self.passes)]
        m.d.comb += [
            self.free.eq(~Cat(announced[cycles] for cycles in again).any()),
            self.done.eq(announced[-1]),
        ]
        return Cat(announced[ahead + cycles] for cycles in again).any()
