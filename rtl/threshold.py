"""The running maximum of each row, and the verdict on each key: kept or dropped."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, column_layout, contexts_layout, delayed, verdict_layout

THRESHOLD_LATENCY = 5


class Threshold(wiring.Component):
    """Online maximum and thresholding.

    A key is kept when some row that may attend to it gives it a logit at most tau below the row's running maximum,
    this key included. A column every cycle, `THRESHOLD_LATENCY` cycles of latency, no stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts : In
        Thresholds of both contexts.
    start_maxima : In
        Maxima that the rows of each context start from.
    valid, column, logits, saturated, allowed : In
        A key's scores.
    verdict_valid, verdict : Out
        The same key, judged.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        maxima = data.ArrayLayout(signed(formats.MAXIMUM_BITS), config.rows)
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "start_maxima": In(data.ArrayLayout(maxima, CONTEXTS)),
                "valid": In(1),
                "column": In(column_layout(config)),
                "logits": In(data.ArrayLayout(signed(formats.SCORE_BITS), config.rows)),
                "saturated": In(config.rows),
                "allowed": In(config.rows),
                "verdict_valid": Out(1),
                "verdict": Out(verdict_layout(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows = self.config.rows
        fraction = formats.FRACTION_BITS

        # Stage 1: round every logit up to an integer, and fetch what the job starts from.
        update = delayed(m, self.valid, 1, "update")
        column = delayed(m, self.column, 1, "column")
        allowed = delayed(m, self.allowed, 1, "allowed")
        saturated = delayed(m, self.saturated & self.allowed, 1, "saturated")
        logits = delayed(m, self.logits, 1, "logits")
        ceilings = Signal(data.ArrayLayout(signed(formats.MAXIMUM_BITS), rows))
        starts = Signal.like(ceilings)
        for i in range(rows):
            m.d.sync += [
                ceilings[i].eq((self.logits[i] + (1 << fraction) - 1) >> fraction),
                starts[i].eq(by_context(self.start_maxima, self.column.ctx, i)),
            ]

        # Stage 2: the running maxima.
        maxima = Signal.like(ceilings)
        for i in range(rows):
            before = Mux(column.first, starts[i], maxima[i])
            with m.If(update):
                m.d.sync += maxima[i].eq(Mux(allowed[i] & (ceilings[i] > before), ceilings[i], before))
        logits = delayed(m, logits, 1, "judged_logits")
        ctx = delayed(m, column.ctx, 1, "judged_ctx")

        # Stages 3 and 4: each row's distance from its maximum, against the job's threshold.
        tau = Signal(formats.TAU_BITS)
        keep_all = Signal()
        job_tau = by_context(self.contexts, ctx, "tau")
        m.d.sync += [tau.eq(job_tau), keep_all.eq(job_tau == formats.TAU_KEEP_ALL)]
        hits = Signal(rows)
        for i in range(rows):
            distance = Signal(formats.SCORE_BITS + 1, name=f"distance{i}")
            m.d.sync += [
                distance.eq((maxima[i] << fraction) - logits[i]),
                hits[i].eq((distance <= tau) | keep_all),
            ]

        # Stage 5: one verdict for all rows.
        verdict = self.verdict
        allowed = delayed(m, allowed, 3, "verdict_allowed")
        m.d.sync += [
            self.verdict_valid.eq(delayed(m, update, 3, "verdict_update")),
            verdict.column.eq(delayed(m, column, 3, "verdict_column")),
            verdict.keep.eq((hits & allowed).any()),
            verdict.allowed.eq(allowed),
            verdict.saturated.eq(delayed(m, saturated, 3, "verdict_saturated")),
            verdict.logits.eq(delayed(m, logits, 2, "verdict_logits")),
            verdict.maxima.eq(delayed(m, maxima, 2, "verdict_maxima")),
        ]
        return m
