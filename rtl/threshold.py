"""The running maximum of each row, and the verdict on each key: kept or dropped."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, by_context, column_layout, contexts_layout, delayed, verdict_layout
from rtl.error_bound import DISTANCE_BITS, GROWTH_BITS, ErrorBound

THRESHOLD_LATENCY = 5
TAU_SAMPLE = 2
"""From the arrival of a key to the cycle in which its job's tau is read."""


class Threshold(wiring.Component):
    """Online maximum and thresholding.

    A key is kept when some row that may attend to it gives it a logit at most tau below the row's running maximum,
    this key included, or when its job has an error bound and some row can't afford to drop it. A column every cycle,
    `THRESHOLD_LATENCY` cycles of latency, no stalls. With an error bound the latency is `bound_latency` cycles more,
    and the next column, of whatever job, has to come at least `rows_per_budget` cycles later.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts : In
        Error bounds of both contexts.
    taus : In
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
                "taus": In(data.ArrayLayout(formats.TAU_BITS, CONTEXTS)),
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
        judged = delayed(m, update, 1, "judged")
        maxima = Signal.like(ceilings)
        growths = Signal(data.ArrayLayout(GROWTH_BITS, rows))
        for i in range(rows):
            before = Mux(column.first, starts[i], maxima[i])
            growth = Signal(signed(formats.MAXIMUM_BITS + 1), name=f"growth{i}")
            grows = allowed[i] & ~growth[-1]
            m.d.comb += growth.eq(ceilings[i] - before)
            with m.If(update):
                m.d.sync += [
                    maxima[i].eq(Mux(grows, ceilings[i], before)),
                    growths[i].eq(Mux(grows, Mux(growth > formats.DELTA_MAX, formats.DELTA_MAX, growth), 0)),
                ]
        column = delayed(m, column, 1, "judged_column")
        allowed = delayed(m, allowed, 1, "judged_allowed")
        saturated = delayed(m, saturated, 1, "judged_saturated")
        logits = delayed(m, logits, 1, "judged_logits")

        # Stage 3: each row's distance from its maximum. A key stays until the next one comes, as an error bound needs.
        arrived = delayed(m, judged, 1, "arrived")
        key = Signal(verdict_layout(self.config))
        distances = Signal(data.ArrayLayout(DISTANCE_BITS, rows))
        next_distances = Signal.like(distances)
        key_growths = Signal.like(growths)
        tau = Signal(formats.TAU_BITS)
        keep_all = Signal()
        epsilon_shift = Signal(formats.EPSILON_SHIFT_BITS)
        job_tau = Mux(column.ctx, self.taus[1], self.taus[0])
        m.d.comb += [next_distances[i].eq((maxima[i] << fraction) - logits[i]) for i in range(rows)]
        with m.If(judged):
            m.d.sync += [
                distances.eq(next_distances),
                key.column.eq(column),
                key.allowed.eq(allowed),
                key.saturated.eq(saturated),
                key.logits.eq(logits),
                key.maxima.eq(maxima),
                key_growths.eq(growths),
                tau.eq(job_tau),
                keep_all.eq(job_tau == formats.TAU_KEEP_ALL),
                epsilon_shift.eq(by_context(self.contexts, column.ctx, "epsilon_shift")),
            ]

        # Stage 4: the distances against the job's threshold.
        hits = Signal(rows)
        m.d.sync += hits.eq(Cat((distances[i] <= tau) | keep_all for i in range(rows)) & key.allowed)

        # Stage 5: one verdict for all rows.
        decided, keep = Signal(), Signal()
        m.d.comb += [decided.eq(delayed(m, arrived, 1, "compared")), keep.eq(hits.any())]
        if self.config.rows_per_budget:
            m.submodules.bound = bound = ErrorBound(self.config)
            bounded = epsilon_shift != 0
            m.d.comb += [
                bound.start.eq(arrived & bounded),
                bound.first.eq(key.column.first),
                bound.epsilon_shift.eq(epsilon_shift),
                bound.near.eq(hits.any()),
            ]
            for i in range(rows):
                m.d.comb += [
                    bound.rows[i].eq(Cat(key.allowed[i], distances[i], key_growths[i])),
                    bound.coming[i].eq(Cat(allowed[i], next_distances[i], growths[i])),
                ]
            with m.If(delayed(m, bounded, 1, "bounded")):
                m.d.comb += [decided.eq(bound.done), keep.eq(bound.keep)]
        verdict = self.verdict
        m.d.sync += [
            verdict.eq(delayed(m, key, 1, "compared_key")),
            verdict.keep.eq(keep),
            self.verdict_valid.eq(decided),
        ]
        return m
