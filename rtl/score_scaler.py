"""From partial dot products to logits: accumulate over a key's beats, scale, round and saturate."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import by_context, contexts_layout, delayed
from rtl.dot_array import sum_bits

LOW_BITS = 16
SCALE_STAGES = 6


def scaler_latency(config: CoreConfig) -> int:
    """Cycles from the last partial sum of a column to its logits."""
    return 2 + config.rows_per_scaler + SCALE_STAGES - 1


class Scaler(wiring.Component):
    """One score multiplier: ``saturate(round_half_up(score * M / 2**s))``.

    A score every cycle, `SCALE_STAGES` cycles of latency, the last of which is the caller's register.

    Parameters
    ----------
    score_bits : int
        Signed width of a score.

    Members
    -------
    score, multiplier, shift : In
        The score and its job's scale.
    logit : Out
        The logit, saturated, ``SCALE_STAGES - 1`` cycles later.
    saturated : Out
        Whether saturation changed it.
    """

    def __init__(self, score_bits: int):
        self.score_bits = score_bits
        super().__init__(
            {
                "score": In(signed(score_bits)),
                "multiplier": In(formats.MULTIPLIER_BITS),
                "shift": In(formats.SHIFT_BITS),
                "logit": Out(signed(formats.SCORE_BITS)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Two products that fit an FPGA's multiplier each, added a cycle later.
        low = Signal(signed(LOW_BITS + formats.MULTIPLIER_BITS + 1))
        high = Signal(signed(self.score_bits - LOW_BITS + formats.MULTIPLIER_BITS + 1))
        m.d.sync += [
            low.eq(self.score[:LOW_BITS] * self.multiplier),
            high.eq(self.score[LOW_BITS:].as_signed() * self.multiplier),
        ]
        product = Signal(signed(self.score_bits + formats.MULTIPLIER_BITS + 1))
        m.d.sync += product.eq(low + (high << LOW_BITS))

        # Shift the doubled product in two steps; the bit below the point then rounds half up.
        shift = delayed(m, self.shift, 2, "shift")
        fine = Signal(3)
        coarse_shifted = Signal(signed(len(product) + 1))
        m.d.sync += [
            coarse_shifted.eq((product << 1) >> (shift[3:] << 3)),
            fine.eq(shift[:3]),
        ]
        shifted = Signal.like(coarse_shifted)
        m.d.sync += shifted.eq(coarse_shifted >> fine)

        # Two guard bits above a logit are enough to see that rounding leaves its range.
        guarded = Signal(signed(formats.SCORE_BITS + 2))
        largest = (1 << (formats.SCORE_BITS + 1)) - 1
        fits = shifted[formats.SCORE_BITS + 1 :].all() | ~shifted[formats.SCORE_BITS + 1 :].any()
        m.d.sync += guarded.eq(Mux(fits, shifted, Mux(shifted[-1], -largest - 1, largest)))

        rounded = Signal(signed(formats.SCORE_BITS + 2))
        m.d.comb += rounded.eq((guarded + 1) >> 1)
        with m.If(rounded > formats.SCORE_MAX):
            m.d.comb += [self.logit.eq(formats.SCORE_MAX), self.saturated.eq(1)]
        with m.Elif(rounded < formats.SCORE_MIN):
            m.d.comb += [self.logit.eq(formats.SCORE_MIN), self.saturated.eq(1)]
        with m.Else():
            m.d.comb += self.logit.eq(rounded)
        return m


class ScoreScaler(wiring.Component):
    """Scores of all rows, each scaler serving `rows_per_scaler` rows in turn.

    Columns may end no closer than `rows_per_scaler` cycles; the scheduler sees to that. Logits appear
    `scaler_latency` cycles after the last partial sum and stay for one cycle. No stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts : In
        The jobs' scales.
    partial : In
        Sum of each row for one beat of a key.
    valid, first, last, ctx : In
        There is such a beat; it is the key's first, its last; its context.
    logits, saturated : Out
        Logit of each row, and whether saturation changed it.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "partial": In(data.ArrayLayout(signed(sum_bits(config.lanes)), config.rows)),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "ctx": In(1),
                "logits": Out(data.ArrayLayout(signed(formats.SCORE_BITS), config.rows)),
                "saturated": Out(config.rows),
            }
        )

    def elaborate(self, platform):
        m = Module()
        share = self.config.rows_per_scaler
        score_bits = self.config.dot_bits

        complete = Signal()
        ctx = Signal()
        multiplier = Signal(formats.MULTIPLIER_BITS)
        shift = Signal(formats.SHIFT_BITS)
        m.d.sync += [complete.eq(self.valid & self.last), ctx.eq(self.ctx)]
        with m.If(complete):
            m.d.sync += [
                multiplier.eq(by_context(self.contexts, ctx, "multiplier")),
                shift.eq(by_context(self.contexts, ctx, "shift")),
            ]

        for n in range(self.config.scalers):
            scaler = Scaler(score_bits)
            m.submodules[f"scaler{n}"] = scaler
            held = Signal(data.ArrayLayout(signed(score_bits), share), name=f"held{n}")
            done = Signal(data.ArrayLayout(signed(formats.SCORE_BITS), share), name=f"done{n}")
            done_saturated = Signal(share, name=f"done_saturated{n}")
            m.d.sync += [
                done.as_value().eq(Cat(done.as_value(), scaler.logit)[formats.SCORE_BITS :]),
                done_saturated.eq(Cat(done_saturated, scaler.saturated)[1:]),
            ]
            with m.If(~complete):
                m.d.sync += held.as_value().eq(held.as_value()[score_bits:])
            for r in range(share):
                i = n * share + r
                score = Signal(signed(score_bits), name=f"score{i}")
                with m.If(self.valid):
                    m.d.sync += score.eq(Mux(self.first, 0, score) + self.partial[i])
                with m.If(complete):
                    m.d.sync += held[r].eq(score)
                m.d.comb += self.logits[i].eq(done[r])
            m.d.comb += [
                scaler.score.eq(held[0]),
                scaler.multiplier.eq(multiplier),
                scaler.shift.eq(shift),
                self.saturated[n * share : (n + 1) * share].eq(done_saturated),
            ]
        return m
