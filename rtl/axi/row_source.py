"""Brings the core the rows that its jobs ask for, of keys or of values, from memory or from the scratchpad."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import fill_layout, last_beat_shape, row_job_layout, row_word_layout
from rtl.axi.page_table import page_lookup_signature
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.row_address import RowAddress
from rtl.axi.scratchpad import Scratchpad
from rtl.axi.word_unpacker import read_word_layout
from rtl.interfaces import value_request_layout

JOBS_WAITING = 4
"""Jobs that are taken before their first request comes."""


def arrival_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of what is known of a row that is to come from memory.

    Whether it goes to the scratchpad; otherwise its index. `last` is on the last row of a fill or of a job.
    """
    return data.StructLayout(
        {"fills": 1, "index": config.core.position_bits, "last": 1, "last_beat": last_beat_shape(config)}
    )


class RowSource(wiring.Component):
    """Rows of keys for port k, or of values for port v, word after word; one such component for each.

    Each job says where its rows come from. Its requests follow, one a row, up to `last`: a row is read from memory, or
    from the scratchpad, where it waits until a fill has brought it. A fill reads the rows of a kv head into the half
    that is free; two heads can be there or on their way. Fills go before the rows of jobs that read from memory, and
    run beside jobs that read from the scratchpad.

    A row is asked for every cycle; a word a cycle leaves, without a gap between rows and between jobs that read from
    the same place. From a row on `wants` to its request are 4 cycles, to its first word from the scratchpad 4 too.

    Order that the engine keeps: a fill is offered (not necessarily taken) before the first request of a job that reads
    from it, and before any of a later job. Jobs of both kinds release halves in the order in which they were filled.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    client : Client
        KEY or VALUE.

    Members
    -------
    fill : In
        Rows to bring into the scratchpad; taken when a half is free and the fill before is asked for. Not there without
        a scratchpad.
    filling : Out
        A fill was taken whose rows have not all come, or a job's. Not there without a scratchpad.
    job : In
        Where the rows of the next job come from; up to `JOBS_WAITING` are taken ahead.
    wants : In
        Rows of the oldest job, by rising index: those of the key sequencer, or of the core's port v_req. `last` ends
        the job; without `wanted` no row comes. Of keys the last row that is wanted has `last`.
    rows : Out
        Their words. `last` is on the last word of a row that was wanted with `last`.
    request, words : Out, In
        To and from the client of the read master.
    lookup : Out
        Of the page table. Not there without paging.
    """

    def __init__(self, config: DeviceConfig, client: Client):
        self.config = config
        self.client = client
        members = {
            "job": In(stream.Signature(row_job_layout(config))),
            "wants": In(stream.Signature(value_request_layout(config.core))),
            "rows": Out(stream.Signature(row_word_layout(config))),
            "request": Out(stream.Signature(read_request_layout(config))),
            "words": In(stream.Signature(read_word_layout(read_ports(config)[client]))),
        }
        if config.scratchpad_bytes:
            members |= {"fill": In(stream.Signature(fill_layout(config))), "filling": Out(1)}
        if config.page_entries:
            members["lookup"] = Out(page_lookup_signature(config))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.addresses = addresses = RowAddress(config)
        wiring.connect(m, addresses.request, wiring.flipped(self.request))
        if config.page_entries:
            wiring.connect(m, addresses.lookup, wiring.flipped(self.lookup))

        layout = row_job_layout(config)
        m.submodules.jobs = jobs = SyncFIFOBuffered(width=layout.size, depth=JOBS_WAITING)
        job = data.View(layout, jobs.r_data)
        m.d.comb += [
            jobs.w_en.eq(self.job.valid),
            jobs.w_data.eq(self.job.payload),
            self.job.ready.eq(jobs.w_rdy),
        ]

        # What is known of the rows that memory sends. There is room for more of them than a burst has, so that requests
        # that may share a burst are never held up for one of their own words.
        expected = arrival_layout(config)
        depth = max(config.buffer_beats, config.burst_bytes // config.core.lanes)
        m.submodules.arrivals = arrivals = SyncFIFOBuffered(width=expected.size, depth=depth)
        expects, arrival = data.View(expected, arrivals.w_data), data.View(expected, arrivals.r_data)
        fills, fill, index = Signal(), Signal(fill_layout(config)), Signal(config.core.position_bits)
        resident, reading = Signal(), Signal()
        streamed = Signal(range(depth + 1))

        # A row a cycle to memory: of the fill if there is one, else of the job, whose rows leave in their order.
        wanted = self.wants.payload
        row = addresses.index.payload
        free = jobs.r_rdy & ~resident & ~fills & ~reading & arrivals.w_rdy
        asks = Signal()
        m.d.comb += [
            addresses.index.valid.eq((fills & arrivals.w_rdy) | (free & self.wants.valid & wanted.wanted)),
            asks.eq(addresses.index.valid & addresses.index.ready),
            row.index.eq(Mux(fills, index, wanted.index)),
            row.place.eq(Mux(fills, fill.place, job.place)),
            # The next key comes anyhow. The next value may depend on this one; so each is read by itself.
            row.more.eq(Mux(fills, index != fill.last, ~wanted.last if self.client == Client.KEY else 0)),
            arrivals.w_en.eq(asks),
            expects.fills.eq(fills),
            expects.index.eq(row.index),
            expects.last.eq(Mux(fills, index == fill.last, wanted.last)),
            expects.last_beat.eq(row.place.last_beat),
            self.wants.ready.eq(free & addresses.index.ready),
            jobs.r_en.eq(self.wants.valid & self.wants.ready & wanted.last),
        ]

        # Words from memory: to the scratchpad, or to the core.
        beat = Signal.like(arrival.last_beat)
        row_end = beat == arrival.last_beat
        came = self.words.valid & self.words.ready
        leaves = arrivals.r_rdy & self.words.valid & ~arrival.fills
        m.d.comb += [
            self.words.ready.eq(arrivals.r_rdy & (arrival.fills | self.rows.ready)),
            arrivals.r_en.eq(came & row_end),
            self.rows.valid.eq(leaves),
            self.rows.payload.data.eq(self.words.payload.data),
            self.rows.payload.index.eq(arrival.index),
            self.rows.payload.last.eq(arrival.last & row_end),
        ]
        with m.If(came):
            m.d.sync += beat.eq(Mux(row_end, 0, beat + 1))
        m.d.sync += streamed.eq(streamed + (asks & ~fills) - (came & row_end & ~arrival.fills))
        if not config.scratchpad_bytes:
            return m

        # The scratchpad. Jobs that read from it and jobs that read from memory wait for each other's rows to leave.
        m.submodules.scratchpad = scratchpad = Scratchpad(config)
        read = scratchpad.read.payload
        reads = jobs.r_rdy & (streamed == 0)
        m.d.comb += [
            resident.eq(job.resident),
            reading.eq(scratchpad.busy),
            scratchpad.read.valid.eq(resident & reads & self.wants.valid),
            read.index.eq(wanted.index),
            read.first.eq(job.first),
            read.last_beat.eq(job.place.last_beat),
            read.wanted.eq(wanted.wanted),
            read.last.eq(wanted.last),
            read.release.eq(wanted.last & job.release),
            scratchpad.write.enable.eq(came & arrival.fills),
            scratchpad.write.data.eq(self.words.payload.data),
            scratchpad.write.row_end.eq(row_end),
            scratchpad.write.head_end.eq(arrival.last),
            scratchpad.rows.ready.eq(self.rows.ready),
            scratchpad.claim.eq(self.fill.valid & self.fill.ready),
            self.fill.ready.eq(scratchpad.free & ~fills),
            self.filling.eq(fills | (arrivals.level != 0)),
        ]
        with m.If(resident):
            m.d.comb += self.wants.ready.eq(reads & scratchpad.read.ready)
        with m.If(scratchpad.rows.valid):
            m.d.comb += [self.rows.valid.eq(1), self.rows.payload.eq(scratchpad.rows.payload)]
        with m.If(scratchpad.claim):
            m.d.sync += [fills.eq(1), fill.eq(self.fill.payload), index.eq(self.fill.payload.first)]
        with m.Elif(fills & asks):
            m.d.sync += [index.eq(index + 1), fills.eq(index != fill.last)]
        return m
