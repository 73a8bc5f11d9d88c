"""Sums of the statistics of a descriptor's jobs."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.layer import record_layout
from rtl.bundles import index_shape
from rtl.interfaces import Status, stats_layout


class Totals(wiring.Component):
    """Takes the record of each job, and adds it up; counts cycles and the bytes on the bus.

    A record is taken as soon as the one before has been added: its rows are looked at one a cycle, after 1 cycle. Sums
    begin anew with `clear`.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    clear : In
        A pulse: a descriptor begins.
    counting : In
        Cycles and bytes count for the descriptor.
    read_beat, write_beat : In
        A beat moved on the bus.
    stats : In
        The core's port.
    record : Out
        What of the completion record is counted here; other fields are 0.
    busy : Out
        A record is being added.
    job : Out
        A pulse: a job's record was taken.
    uses : Out
        With `job`, the array's cycles since the job before, by `ArrayUse`.
    fault, core_status : Out
        With `job`: it did not end well, and how.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        layout = stats_layout(config.core)
        super().__init__(
            {
                "clear": In(1),
                "counting": In(1),
                "read_beat": In(1),
                "write_beat": In(1),
                "stats": In(stream.Signature(layout)),
                "record": Out(record_layout()),
                "busy": Out(1),
                "job": Out(1),
                "uses": Out(layout["cycles"].shape),
                "fault": Out(1),
                "core_status": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, stats, sums = self.config, self.stats.payload, self.record
        rows = config.core.rows
        counts = Signal.like(stats.counts)
        row = Signal(index_shape(rows))
        fresh = Signal()
        m.d.comb += [
            self.stats.ready.eq(~self.busy),
            self.job.eq(self.stats.valid & self.stats.ready),
            self.uses.eq(stats.cycles),
            self.core_status.eq(stats.status),
            self.fault.eq(self.job & (stats.status != Status.OK)),
        ]
        m.d.sync += fresh.eq(self.job)
        with m.If(self.job):
            m.d.sync += [self.busy.eq(1), row.eq(0), counts.eq(stats.counts)]
            m.d.sync += [sums.jobs.eq(sums.jobs + 1), sums.tau.eq(stats.tau)]
        with m.If(fresh):
            m.d.sync += [
                sums.keys.eq(sums.keys + counts.keys),
                sums.survivors.eq(sums.survivors + counts.survivors),
                sums.packs.eq(sums.packs + counts.packs),
                sums.saturated.eq(sums.saturated + counts.saturated),
            ]
        with m.If(self.busy):
            m.d.sync += [counts.dropped.eq(Cat(*list(counts.dropped)[1:])), row.eq(row + 1)]
            m.d.sync += sums.dropped.eq(Mux(counts.dropped[0] > sums.dropped, counts.dropped[0], sums.dropped))
            with m.If(row == rows - 1):
                m.d.sync += self.busy.eq(0)

        with m.If(self.counting):
            m.d.sync += [
                sums.cycles.eq(sums.cycles + 1),
                sums.read_bytes.eq(sums.read_bytes + Mux(self.read_beat, config.beat_bytes, 0)),
                sums.write_bytes.eq(sums.write_bytes + Mux(self.write_beat, config.beat_bytes, 0)),
            ]
        with m.If(self.clear):
            m.d.sync += sums.eq(0)
        return m
