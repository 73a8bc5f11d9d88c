"""Several cores behind one queue of jobs, and in front of one queue of results."""

from collections.abc import Callable

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.config import ClusterConfig, CoreConfig
from rtl import interfaces
from rtl.collector import Collector
from rtl.core import LeanAttentionCore, core_ports
from rtl.dispatcher import Dispatcher
from rtl.merge_unit import MergeUnit

CORE_PORTS = ("k", "v_req", "v")
"""Streams that each core has of its own."""


def cluster_ports(config: ClusterConfig) -> dict[str, wiring.Member]:
    """Return the streams of a cluster of `config`, by name; those of a core end with its number."""
    core = core_ports(config.core)
    shared = {
        "job": In(stream.Signature(interfaces.cluster_job_layout(config.core))),
        "q": core["q"],
        "state": core["state"],
        "route": Out(stream.Signature(interfaces.route_layout(config.core))),
    }
    of_cores = {f"{name}{n}": core[name] for n in range(config.cores) for name in CORE_PORTS}
    return {**shared, **of_cores, "o": core["o"], "stats": core["stats"]}


class Cluster(wiring.Component):
    """Cores that share a list of jobs; the heads of the list leave in its order, merged where they are of several jobs.

    Jobs wait with their queries in a queue in front of each core, and what a core has done waits in the core until it
    is its turn to leave. So a list is done whatever its order; in which order it is done without waiting is what
    `golden.partition.Partition.listed` is about. Every port may be stalled at any time, which changes no bit.

    Parameters
    ----------
    config : ClusterConfig
        Size of the cluster.
    core : callable
        Returns a component with the ports of a core.

    Members
    -------
    job : In
        Jobs, `interfaces.cluster_job_layout`.
    q, state : In
        As of a core, for one job after the other.
    route : Out
        Which core has been given a job, in the order of the list.
    k0, v_req0, v0, ... : In, Out, In
        As of a core, for the jobs that it has been given.
    o : Out
        A packet a head: its output, or its state.
    stats : Out
        A record a job.
    """

    def __init__(self, config: ClusterConfig, core: Callable[[CoreConfig], wiring.Component] = LeanAttentionCore):
        self.config = config
        self._core = core
        super().__init__(cluster_ports(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher = dispatcher = Dispatcher(self.config)
        m.submodules.collector = collector = Collector(self.config)
        m.submodules.merge_unit = merge_unit = MergeUnit(self.config.core)
        for name in ("job", "q", "state"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(dispatcher, name))
        wiring.connect(m, dispatcher.route, wiring.flipped(self.route))
        wiring.connect(m, dispatcher.turns, collector.turns)
        wiring.connect(m, dispatcher.record_turns, collector.record_turns)
        wiring.connect(m, collector.part, merge_unit.part)
        wiring.connect(m, collector.packet, merge_unit.packet)
        wiring.connect(m, merge_unit.o, collector.merged)
        wiring.connect(m, collector.o, wiring.flipped(self.o))
        wiring.connect(m, collector.stats, wiring.flipped(self.stats))
        for n in range(self.config.cores):
            core = self._core(self.config.core)
            m.submodules[f"core{n}"] = core
            k, v_req, v = (getattr(self, f"{name}{n}") for name in CORE_PORTS)
            wiring.connect(m, dispatcher.jobs[n], core.job)
            wiring.connect(m, dispatcher.queries[n], core.q)
            wiring.connect(m, dispatcher.states[n], core.state)
            wiring.connect(m, wiring.flipped(k), core.k)
            wiring.connect(m, core.v_req, wiring.flipped(v_req))
            wiring.connect(m, wiring.flipped(v), core.v)
            wiring.connect(m, core.o, collector.packets[n])
            wiring.connect(m, core.stats, collector.records[n])
            m.d.comb += dispatcher.ended[n].eq(v_req.valid & v_req.ready & v_req.payload.last)
        return m
