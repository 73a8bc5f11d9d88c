"""Follows a target share of survivors: the threshold that each job leaves to the next."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, contexts_layout, delayed, verdict_layout
from rtl.interfaces import Status

TAU_LATENCY = 3


class TargetControl(wiring.Component):
    """Moves tau at the end of each job, by how far its share of surviving keys was from its target.

    What a job leaves is there `TAU_LATENCY` cycles after the verdict on its last key, and stays until the next job that
    was not rejected leaves its own. A job without a target leaves the tau that it had. No stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts : In
        Targets of both contexts, and whether they go on from what the job before left.
    valid, verdict : In
        A judged key.
    taus : Out
        Threshold of both contexts. Of one that goes on, it is right from the end of the job before to that of its own.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "valid": In(1),
                "verdict": In(verdict_layout(config)),
                "taus": Out(data.ArrayLayout(formats.TAU_BITS, CONTEXTS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, column = self.config, self.verdict.column
        left = Signal(formats.TAU_BITS, init=formats.TAU_KEEP_ALL)
        for context, tau in zip(self.contexts, self.taus, strict=True):
            m.d.comb += tau.eq(Mux(context.continue_tau, left, context.tau))

        # Survivors less the target's share of the keys; and the bits of the last key's number, counted from 0, by which
        # that is shifted. A key adds to both, so nothing is to be multiplied or searched at the end.
        error = Signal(signed(formats.TARGET_BITS + config.count_bits + 1))
        number = Signal(config.position_bits)
        places = Signal(range(config.count_bits))
        target = by_context(self.contexts, column.ctx, "target")
        with m.If(self.valid & column.first):
            m.d.sync += [error.eq(0), number.eq(0), places.eq(0)]
        with m.If(self.valid & ~column.void):
            change = Mux(self.verdict.keep, (1 << formats.TARGET_BITS) - target, -target)
            m.d.sync += [
                error.eq(Mux(column.first, 0, error) + change),
                number.eq(Mux(column.first, 1, number + 1)),
            ]
            with m.If(~column.first):
                m.d.sync += places.eq(places + number.bit_select(places, 1))

        status = by_context(self.contexts, column.ctx, "status")
        ended = delayed(m, self.valid & column.last & (status == Status.OK), 2, "ended")
        ctx = delayed(m, column.ctx, 2, "ended_ctx")
        step = Signal(signed(formats.GAIN_BITS + 2))
        m.d.sync += step.eq(error[formats.TARGET_BITS - formats.GAIN_BITS :].as_signed() >> places)
        tau = Mux(ctx, self.taus[1], self.taus[0])
        moved = Signal(signed(formats.TAU_BITS + 2))
        m.d.comb += moved.eq(tau - step)
        with m.If(ended):
            with m.If(by_context(self.contexts, ctx, "target") == 0):
                m.d.sync += left.eq(tau)
            with m.Elif(moved < formats.TAU_MIN):
                m.d.sync += left.eq(formats.TAU_MIN)
            with m.Elif(moved > formats.TAU_MAX_CONTROLLED):
                m.d.sync += left.eq(formats.TAU_MAX_CONTROLLED)
            with m.Else():
                m.d.sync += left.eq(moved)
        return m
