"""The streaming lean-attention core."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from rtl import interfaces
from rtl.bundles import by_context, delayed
from rtl.dot_array import DotArray, tree_stages
from rtl.exponential import Exponentials
from rtl.job_loader import JobLoader
from rtl.key_capture import KeyCapture
from rtl.output_accumulator import OutputAccumulator
from rtl.output_writer import OutputWriter
from rtl.pack_buffer import PackBuffer
from rtl.position_mask import MASK_LATENCY, PositionMask
from rtl.query_buffer import QueryBuffer
from rtl.scheduler import ENDS_PENDING_MAX, Scheduler
from rtl.score_scaler import ScoreScaler, scaler_latency
from rtl.statistics import Statistics
from rtl.target_control import TargetControl
from rtl.threshold import Threshold
from rtl.value_lanes import ValueLanes


def core_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Return the streams of a core of `config`, by name."""
    return {
        "job": In(stream.Signature(interfaces.job_layout(config))),
        "q": In(stream.Signature(interfaces.query_layout(config))),
        "state": In(stream.Signature(interfaces.state_layout(config))),
        "k": In(stream.Signature(interfaces.key_layout(config))),
        "v_req": Out(stream.Signature(interfaces.value_request_layout(config))),
        "v": In(stream.Signature(interfaces.value_layout(config))),
        "o": Out(stream.Signature(interfaces.output_layout(config))),
        "stats": Out(stream.Signature(interfaces.stats_layout(config))),
    }


class LeanAttentionCore(wiring.Component):
    """``softmax(Q K^T * scale) V`` for a block of query rows, in one pass over the keys.

    Every port is a ready/valid stream and may be stalled at any time, which changes when results come but no bit of
    them. Two jobs are in the core at once, so that a job's last pack, normalisation and output run beside the next
    job's keys.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    job : In
        What to do, `interfaces.job_layout`.
    q : In
        The job's query rows, one after the other, each in ``ceil(head_dim / lanes)`` beats; `last` on the block's last
        beat.
    state : In
        Only for a job that starts from a partial state: that state, as `interfaces.state_layout` describes.
    k : In
        The job's key rows in rising order of their index; `last` on the last beat of the last key.
    v_req : Out
        Keys whose values are wanted, as soon as they are known; of a job with shared values only its end.
    v : In
        Value rows in the order requested, each in ``ceil(value_dim / lanes)`` beats.
    o : Out
        Output packet of each job: row-major elements, or its partial state.
    stats : Out
        One record a job, offered once its output is in the output FIFO.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(core_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.loader = loader = JobLoader(config)
        m.submodules.queries = queries = QueryBuffer(config)
        m.submodules.scheduler = scheduler = Scheduler(config)
        m.submodules.array = array = DotArray(config)
        m.submodules.scaler = scaler = ScoreScaler(config)
        m.submodules.mask = mask = PositionMask(config)
        m.submodules.threshold = threshold = Threshold(config)
        m.submodules.packs = packs = PackBuffer(config)
        m.submodules.exponentials = exponentials = Exponentials(config)
        m.submodules.values = values = ValueLanes(config)
        m.submodules.accumulator = accumulator = OutputAccumulator(config)
        m.submodules.writer = writer = OutputWriter(config)
        m.submodules.statistics = statistics = Statistics(config)

        wiring.connect(m, wiring.flipped(self.job), loader.job)
        wiring.connect(m, wiring.flipped(self.q), loader.q)
        wiring.connect(m, wiring.flipped(self.state), loader.state)
        wiring.connect(m, wiring.flipped(self.k), scheduler.k)
        wiring.connect(m, wiring.flipped(self.v), values.v)
        wiring.connect(m, writer.o, wiring.flipped(self.o))
        wiring.connect(m, statistics.stats, wiring.flipped(self.stats))

        # Jobs and their contexts.
        users = (scheduler, scaler, mask, threshold, values, accumulator, writer, statistics)
        m.d.comb += [user.contexts.eq(loader.contexts) for user in users]
        m.d.comb += [user.clear.eq(loader.clear) for user in (packs, exponentials, accumulator, statistics)]
        m.d.comb += [user.state_row.eq(loader.state_row) for user in (packs, exponentials)]
        m.d.comb += [
            queries.write.eq(loader.query),
            accumulator.state_word.eq(loader.state_word),
            scheduler.loaded.eq(loader.loaded),
            scheduler.output_waiting.eq(loader.waiting),
            loader.context_free.eq(statistics.context_free),
        ]

        self._connect_array(m, scheduler, queries, exponentials, values, array)
        self._connect_scores(m, scheduler, loader, array, scaler, mask, queries, threshold)
        self._connect_packs(m, scheduler, threshold, packs, exponentials, values)
        self._connect_requests(m, loader, scheduler, threshold)
        self._connect_taus(m, loader, threshold, statistics)
        if config.shared_values:
            self._connect_capture(m, loader, scheduler, threshold, values)
        m.d.comb += [
            threshold.start_maxima.eq(packs.maxima),
            accumulator.beat.eq(scheduler.value_beat),
            accumulator.deltas.eq(exponentials.pack.deltas),
            accumulator.sums.eq(array.totals),
            accumulator.read_ctx.eq(writer.read_ctx),
            accumulator.read_row.eq(writer.read_row),
            accumulator.read_word.eq(writer.read_word),
            writer.elements.eq(accumulator.elements),
            writer.done.eq(accumulator.done),
            writer.maxima.eq(packs.maxima),
            writer.totals.eq(exponentials.totals),
            statistics.totals.eq(exponentials.totals),
            statistics.valid.eq(threshold.verdict_valid),
            statistics.verdict.eq(threshold.verdict),
            statistics.closing.eq(packs.closed & (packs.closed_count != 0)),
            statistics.key_early.eq(scheduler.key_early),
            statistics.key_late.eq(scheduler.key_late),
            statistics.key_timeout.eq(scheduler.key_timeout),
            statistics.use.eq(scheduler.use),
            statistics.finished.eq(writer.finished),
        ]
        return m

    def _connect_array(self, m, scheduler, queries, exponentials, values, array):
        """Choose the operands: a beat of k with its query words, or value bytes with the pack's probabilities."""
        keys = Signal.like(self.k.payload.data)
        streams_key = delayed(m, scheduler.key_beat, 1, "streams_key")
        m.d.sync += keys.eq(self.k.payload.data)
        lane_bits = self.config.lanes.bit_length() - 1
        beat = scheduler.value_beat
        m.d.comb += [
            queries.ctx.eq(scheduler.key_ctx),
            queries.beat.eq(scheduler.key_word),
            values.fetch.eq(beat.valid & ~beat.null & (beat.element[:lane_bits] == 0)),
            values.word.eq(beat.element >> lane_bits),
            values.byte.eq(beat.element),
            values.release.eq(scheduler.values_release),
            array.load_query.eq(streams_key),
            array.load_probability.eq(delayed(m, scheduler.pack_take, 1, "loads_probability")),
            array.query.eq(queries.elements),
            array.probability.eq(exponentials.probabilities),
        ]
        with m.If(streams_key):
            m.d.comb += array.streaming.eq(keys)
        with m.Else():
            m.d.comb += array.streaming.eq(values.elements)

    def _connect_scores(self, m, scheduler, loader, array, scaler, mask, queries, threshold):
        """From the array's sums to verdicts; a column's description travels beside its scores."""
        array_latency = 3 + tree_stages(self.config.lanes)
        score_latency = array_latency + scaler_latency(self.config)
        masked_valid = delayed(m, scheduler.key_last, score_latency - MASK_LATENCY, "masked_valid")
        masked_column = delayed(m, scheduler.column, score_latency - MASK_LATENCY, "masked_column")
        has_score = scheduler.key_last & ~scheduler.column.void
        m.d.comb += [
            scaler.partial.eq(array.totals),
            scaler.valid.eq(delayed(m, scheduler.key_beat, array_latency, "score_valid")),
            scaler.first.eq(delayed(m, scheduler.key_first, array_latency, "score_first")),
            scaler.last.eq(delayed(m, has_score, array_latency, "score_last")),
            scaler.ctx.eq(delayed(m, scheduler.key_ctx, array_latency, "score_ctx")),
            mask.positions.eq(queries.positions),
            mask.column.eq(masked_column),
            threshold.valid.eq(delayed(m, masked_valid, MASK_LATENCY, "column_valid")),
            threshold.column.eq(delayed(m, masked_column, MASK_LATENCY, "column")),
            threshold.logits.eq(scaler.logits),
            threshold.saturated.eq(scaler.saturated),
            threshold.allowed.eq(mask.allowed),
        ]
        # The mask is the last to look at a job's rows; then their registers can take the job after the next.
        ends = masked_valid & masked_column.last
        m.d.comb += loader.queries_free.bit_select(masked_column.ctx, 1).eq(ends)

    def _connect_packs(self, m, scheduler, threshold, packs, exponentials, values):
        """From verdicts to packs, their probabilities and their values."""
        wiring.connect(m, packs.packs, exponentials.packs)
        m.d.comb += [
            packs.valid.eq(threshold.verdict_valid),
            packs.verdict.eq(threshold.verdict),
            packs.pop.eq(exponentials.pop),
            exponentials.slot.eq(packs.slot),
            exponentials.take.eq(scheduler.pack_take),
            values.expect.eq(packs.closed),
            values.expect_count.eq(packs.closed_count),
            values.expect_last.eq(threshold.verdict.column.last),
            scheduler.slot_returned.eq(Cat(packs.dropped, exponentials.pop)),
            scheduler.pack_ready.eq(exponentials.ready_pack),
            scheduler.pack.eq(exponentials.pack),
            scheduler.values_ready.eq(values.full),
        ]

    def _connect_taus(self, m, loader, threshold, statistics):
        """Hold each job to its own tau, or to the one that the job before left."""
        taus = Signal.like(threshold.taus)
        if self.config.target_control:
            m.submodules.control = control = TargetControl(self.config)
            m.d.comb += [
                control.contexts.eq(loader.contexts),
                control.valid.eq(threshold.verdict_valid),
                control.verdict.eq(threshold.verdict),
                taus.eq(control.taus),
            ]
        else:
            m.d.comb += [tau.eq(context.tau) for tau, context in zip(taus, loader.contexts, strict=True)]
        m.d.comb += [threshold.taus.eq(taus), statistics.taus.eq(taus)]

    def _connect_capture(self, m, loader, scheduler, threshold, values):
        """Take the values of jobs that share them from their keys."""
        m.submodules.capture = capture = KeyCapture(self.config)
        wiring.connect(m, capture.rows, values.captured)
        m.d.comb += [
            capture.contexts.eq(loader.contexts),
            capture.key_beat.eq(scheduler.key_beat),
            capture.key_ctx.eq(scheduler.key_ctx),
            capture.key_word.eq(scheduler.key_word),
            capture.key_last.eq(scheduler.key_last),
            capture.data.eq(self.k.payload.data),
            capture.valid.eq(threshold.verdict_valid),
            capture.keep.eq(threshold.verdict.keep),
            capture.ctx.eq(threshold.verdict.column.ctx),
            scheduler.capture_full.eq(capture.full),
        ]

    def _connect_requests(self, m, loader, scheduler, threshold):
        """Ask for a value the moment its key survives, unless the key was captured.

        The FIFO holds every key that can be waiting for its value (in score slots, in exponentials) and the ends of
        jobs.
        """
        layout = interfaces.value_request_layout(self.config)
        depth = self.config.score_slots + self.config.lanes + ENDS_PENDING_MAX + 1
        m.submodules.requests = requests = SyncFIFOBuffered(width=layout.size, depth=depth)
        request = Signal(layout)
        verdict = threshold.verdict
        m.d.comb += [
            request.index.eq(verdict.column.index),
            request.wanted.eq(verdict.keep & ~by_context(loader.contexts, verdict.column.ctx, "shared")),
            request.last.eq(verdict.column.last),
            requests.w_en.eq(threshold.verdict_valid & (request.wanted | request.last)),
            requests.w_data.eq(request),
            self.v_req.valid.eq(requests.r_rdy),
            self.v_req.payload.eq(requests.r_data),
            requests.r_en.eq(self.v_req.ready),
            scheduler.end_taken.eq(self.v_req.valid & self.v_req.ready & self.v_req.payload.last),
        ]
