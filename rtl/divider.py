"""Pipelined division of an accumulator by its row's sum, exact to the last bit."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import delayed

INTEGER_BITS = formats.DATA_BITS + 1
QUOTIENT_BITS = INTEGER_BITS + formats.OUTPUT_FRACTION_BITS + 1
OFFSET = (1 << (formats.DATA_BITS - 1)) + 1
DIVIDER_LATENCY = 2 + QUOTIENT_BITS + 1


class Divider(wiring.Component):
    """``saturate(round_half_up(accumulator * 2**8 / total))``, a quotient every cycle.

    Exact for every accumulator and sum. A row's quotient lies between -128 and 127, but for what rescaling truncates,
    so adding `OFFSET` times the sum leaves `QUOTIENT_BITS` of it: restoring division, one bit a stage. What is below
    that range or above it saturates anyway. Latency `DIVIDER_LATENCY`, no stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    accumulator : In
        An element of O.
    total : In
        Its row's sum; the quotient by 0 is 0.
    quotient : Out
        The output element.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
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
        divisor = Signal(config.sum_bits, name="divisor_offset")
        m.d.sync += [
            offset.eq((self.total << (formats.DATA_BITS - 1)) + self.total),
            accumulator.eq(self.accumulator),
            divisor.eq(self.total),
        ]
        dividend = Signal(config.sum_bits + INTEGER_BITS)
        shifted = accumulator + offset
        m.d.sync += dividend.eq(Mux(shifted < 0, 0, shifted))

        # What is not yet used of the dividend leaves at the top of `tail` while the quotient enters below.
        remainder = Signal(config.sum_bits, name="remainder_0")
        tail = Signal(QUOTIENT_BITS, name="tail_0")
        m.d.comb += [
            remainder.eq(dividend[INTEGER_BITS:]),
            tail.eq(dividend[:INTEGER_BITS] << (QUOTIENT_BITS - INTEGER_BITS)),
        ]
        previous_divisor, divisor = divisor, Signal(config.sum_bits, name="divisor_0")
        m.d.sync += divisor.eq(previous_divisor)
        above = delayed(m, remainder >= divisor, QUOTIENT_BITS, "above")
        for bit in range(QUOTIENT_BITS):
            trial = Signal(config.sum_bits + 1, name=f"trial_{bit}")
            difference = Signal(signed(config.sum_bits + 2), name=f"difference_{bit}")
            fits = ~difference[-1]
            m.d.comb += [trial.eq(Cat(tail[-1], remainder)), difference.eq(trial - divisor)]
            remainder = Signal(config.sum_bits, name=f"remainder_{bit + 1}")
            next_tail = Signal(QUOTIENT_BITS, name=f"tail_{bit + 1}")
            next_divisor = Signal(config.sum_bits, name=f"divisor_{bit + 1}")
            m.d.sync += [
                remainder.eq(Mux(fits, difference, trial)),
                next_tail.eq(Cat(fits, tail)),
                next_divisor.eq(divisor),
            ]
            tail, divisor = next_tail, next_divisor

        rounded = Signal(signed(QUOTIENT_BITS + 1))
        m.d.comb += rounded.eq(((tail + 1) >> 1) - (OFFSET << formats.OUTPUT_FRACTION_BITS))
        with m.If(divisor == 0):
            m.d.sync += self.quotient.eq(0)
        with m.Elif(above | (rounded > formats.OUTPUT_MAX)):
            m.d.sync += self.quotient.eq(formats.OUTPUT_MAX)
        with m.Elif(rounded < formats.OUTPUT_MIN):
            m.d.sync += self.quotient.eq(formats.OUTPUT_MIN)
        with m.Else():
            m.d.sync += self.quotient.eq(rounded)
        return m
