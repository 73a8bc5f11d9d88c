"""Hands a cluster's jobs to its cores, and says in which order their packets and records leave."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.config import ClusterConfig
from rtl import interfaces
from rtl.bundles import index_shape, record_turn_layout, turn_layout

IN_CORE = 3
"""Jobs that a core can have taken whose packets and records have not left: one a context, and one in the loader."""


class Dispatcher(wiring.Component):
    """Takes jobs in the order of the list and queues each, with its queries, in front of a core.

    A job takes 3 cycles and one for each beat of its queries and state, unless its core's queue is full. Queues are
    FIFOs of 2 cycles. A job that names no core goes to the first one that has no job left to run, or else to the first
    that has one; with two or more everywhere it waits. A job counts until the end of its keys has left on v_req.

    Parameters
    ----------
    config : ClusterConfig
        Size of the cluster.

    Members
    -------
    job, q, state : In
        Jobs, a packet of queries for each, a packet of state for each that starts from one.
    route : Out
        Every job's core, told when the job is queued. While it is not taken the next job waits.
    jobs, queries, states : Out
        The same for each core.
    ended : In
        For each core, a pulse: all keys of a job have been judged.
    turns, record_turns : Out
        Whose packet, and whose record, is next, in the order of the list.
    """

    def __init__(self, config: ClusterConfig):
        self.config = config
        core = config.core
        super().__init__(
            {
                "job": In(stream.Signature(interfaces.cluster_job_layout(core))),
                "q": In(stream.Signature(interfaces.query_layout(core))),
                "state": In(stream.Signature(interfaces.state_layout(core))),
                "route": Out(stream.Signature(interfaces.route_layout(core))),
                "jobs": Out(stream.Signature(interfaces.job_layout(core))).array(config.cores),
                "queries": Out(stream.Signature(interfaces.query_layout(core))).array(config.cores),
                "states": Out(stream.Signature(interfaces.state_layout(core))).array(config.cores),
                "ended": In(config.cores),
                "turns": Out(stream.Signature(turn_layout(config))),
                "record_turns": Out(stream.Signature(record_turn_layout(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        job = Signal(interfaces.cluster_job_layout(config.core))
        core = Signal(index_shape(config.cores))
        send = Signal()

        jobs, queries = [], []
        for n in range(config.cores):
            jobs.append(self._queue(m, f"jobs{n}", self.jobs[n], config.queue_jobs))
            queries.append(self._queue(m, f"queries{n}", self.queries[n], config.queue_beats))
        depth = config.cores * (config.queue_jobs + IN_CORE)
        turns = self._queue(m, "turns", self.turns, depth)
        record_turns = self._queue(m, "record_turns", self.record_turns, depth)
        with m.If(self.route.ready):
            m.d.sync += self.route.valid.eq(0)

        # Of the head so far: whether it goes on in this job, and what its jobs agree on.
        continues = Signal()
        rows, value_dim = Signal.like(job.rows), Signal.like(job.value_dim)
        void = continues & ((job.rows != rows) | (job.value_dim != value_dim))
        single = ~continues & ~job.more
        turn, record_turn = Signal(turn_layout(config)), Signal(record_turn_layout(config))
        passed_on = Signal(interfaces.job_layout(config.core))
        m.d.comb += [
            turn.core.eq(core),
            turn.single.eq(single),
            turn.part.more.eq(job.more),
            turn.part.emit_state.eq(job.emit_state),
            turn.part.void.eq(void),
            turn.part.last_row.eq(job.rows - 1),
            turn.part.last_element.eq(job.value_dim - 1),
            record_turn.core.eq(core),
            record_turn.void.eq(void),
            turns.w_data.eq(turn),
            turns.w_en.eq(send),
            record_turns.w_data.eq(record_turn),
            record_turns.w_en.eq(send),
        ]
        m.d.comb += [passed_on[name].eq(job[name]) for name, _ in passed_on.shape() if name != "emit_state"]
        m.d.comb += passed_on.emit_state.eq(job.emit_state | ~single)

        pending = self._count_pending(m, core, send)
        with m.FSM():
            with m.State("JOB"):
                m.d.comb += self.job.ready.eq(1)
                m.d.sync += job.eq(self.job.payload)
                with m.If(self.job.valid):
                    m.next = "CHOOSE"

            with m.State("CHOOSE"):
                with m.If(job.core < config.cores):
                    m.d.sync += core.eq(job.core)
                    m.next = "SEND"
                with m.Else():
                    for most in (1, 0):
                        for n in reversed(range(config.cores)):
                            with m.If(pending[n] <= most):
                                m.d.sync += core.eq(n)
                                m.next = "SEND"

            with m.State("SEND"):
                for n in range(config.cores):
                    m.d.comb += [jobs[n].w_data.eq(passed_on), jobs[n].w_en.eq(send & (core == n))]
                    with m.If((core == n) & jobs[n].w_rdy & turns.w_rdy & record_turns.w_rdy & ~self.route.valid):
                        m.d.comb += send.eq(1)
                with m.If(send):
                    m.d.sync += [
                        self.route.valid.eq(1),
                        self.route.payload.tag.eq(job.tag),
                        self.route.payload.core.eq(core),
                        continues.eq(job.more),
                        rows.eq(job.rows),
                        value_dim.eq(job.value_dim),
                    ]
                    m.next = "QUERY"

            with m.State("QUERY"):
                for n in range(config.cores):
                    with m.If(core == n):
                        m.d.comb += [self.q.ready.eq(queries[n].w_rdy), queries[n].w_en.eq(self.q.valid)]
                with m.If(self.q.valid & self.q.ready & self.q.payload.last):
                    m.next = "JOB"
                    with m.If(job.from_state):
                        m.next = "STATE"

            with m.State("STATE"):
                for n in range(config.cores):
                    with m.If(core == n):
                        m.d.comb += [
                            self.state.ready.eq(self.states[n].ready),
                            self.states[n].valid.eq(self.state.valid),
                        ]
                with m.If(self.state.valid & self.state.ready & self.state.payload.last):
                    m.next = "JOB"

        for n in range(config.cores):
            m.d.comb += [queries[n].w_data.eq(self.q.payload), self.states[n].payload.eq(self.state.payload)]
        return m

    def _queue(self, m, name, output, depth):
        """Return a FIFO in front of the stream `output`."""
        fifo = SyncFIFOBuffered(width=output.payload.shape().size, depth=depth)
        m.submodules[name] = fifo
        m.d.comb += [output.valid.eq(fifo.r_rdy), output.payload.eq(fifo.r_data), fifo.r_en.eq(output.ready)]
        return fifo

    def _count_pending(self, m, core, send):
        """Return the jobs of each core that have been sent and whose keys have not ended."""
        pending = []
        for n in range(self.config.cores):
            count = Signal(range(self.config.queue_jobs + IN_CORE + 1), name=f"pending{n}")
            m.d.sync += count.eq(count + (send & (core == n)) - self.ended[n])
            pending.append(count)
        return pending
