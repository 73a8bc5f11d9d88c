"""All that a descriptor runs through: the core, what brings its data, and the bus masters."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.device.descriptor import Flag
from golden.device.status import DeviceStatus
from rtl.axi.axi_ports import axi_read_signature, axi_write_signature
from rtl.axi.block_sequence import BlockSequence
from rtl.axi.control_reader import ControlReader, control_request_layout
from rtl.axi.descriptor_reader import DescriptorReader
from rtl.axi.fill_sequence import FillSequence
from rtl.axi.job_sequence import JobSequence
from rtl.axi.layer import descriptor_layout, flag
from rtl.axi.layer_setup import LayerSetup
from rtl.axi.output_store import OutputStore
from rtl.axi.page_table import PageTable
from rtl.axi.query_source import QuerySource
from rtl.axi.read_master import Client, ReadMaster
from rtl.axi.row_source import RowSource
from rtl.axi.state_source import StateSource
from rtl.axi.write_master import WriteMaster, write_beat_layout
from rtl.core import LeanAttentionCore
from rtl.interfaces import stats_layout
from rtl.key_sequencer import KeySequencer

QUIET_CYCLES = 16
"""Cycles without anything under way after which nothing more comes of a descriptor."""

JOBS_BITS = 3
"""Width of a count of jobs that the core was offered and whose record was not taken."""


class Datapath(wiring.Component):
    """Runs descriptors, one after the other. After a fault it waits to be reset as a whole.

    The masters keep what the bus is owed: hold `flush` until `idle`, then reset for a cycle.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    axi_read, axi_write : Out
        The bus.
    start, address : In
        A pulse: run the descriptor that is there.
    known, descriptor : Out
        A pulse: the descriptor is read, and stays.
    ended : Out
        All its output is in memory. Low from `start` on.
    fault, status : Out
        A pulse: the descriptor can't be finished, and why.
    stats : Out
        The core's port.
    beats : In
        To be written beside the output; nothing of which is under way then.
    pending : Out
        Something is being written.
    write_error : Out
        A pulse: the bus answered a write with an error.
    flush, idle : In, Out
        Of both masters.
    read_beat, write_beat : Out
        A beat moved on the bus.
    progress : Out
        A beat moved on the bus or at a port of the core.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "axi_read": Out(axi_read_signature(config)),
                "axi_write": Out(axi_write_signature(config)),
                "start": In(1),
                "address": In(config.address_bits),
                "known": Out(1),
                "descriptor": Out(descriptor_layout()),
                "ended": Out(1),
                "fault": Out(1),
                "status": Out(DeviceStatus),
                "stats": Out(stream.Signature(stats_layout(config.core))),
                "beats": In(stream.Signature(write_beat_layout(config))),
                "pending": Out(1),
                "write_error": Out(1),
                "flush": In(1),
                "idle": Out(1),
                "read_beat": Out(1),
                "write_beat": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.reads = reads = ReadMaster(config)
        m.submodules.writes = writes = WriteMaster(config)
        m.submodules.control = control = ControlReader(config)
        m.submodules.reader = reader = DescriptorReader(config)
        m.submodules.setup = setup = LayerSetup(config)
        m.submodules.blocks = blocks = BlockSequence(config)
        m.submodules.jobs = jobs = JobSequence(config)
        m.submodules.sequencer = sequencer = KeySequencer(config.core)
        m.submodules.core = core = LeanAttentionCore(config.core)
        m.submodules.store = store = OutputStore(config)

        # Masters.
        wiring.connect(m, reads.axi, wiring.flipped(self.axi_read))
        wiring.connect(m, writes.axi, wiring.flipped(self.axi_write))
        self._share(m, self.beats, store.beats, writes.beats)
        m.d.comb += [
            reads.flush.eq(self.flush),
            writes.flush.eq(self.flush),
            self.idle.eq(reads.idle & writes.idle),
            self.pending.eq(writes.pending),
            self.write_error.eq(writes.bus_error),
            self.read_beat.eq(reads.beat),
            self.write_beat.eq(writes.beat),
        ]

        # From the descriptor to jobs.
        go = Signal()
        self._control(m, reads, control, reader, blocks, jobs)
        wiring.connect(m, blocks.blocks, jobs.blocks)
        wiring.connect(m, jobs.command, sequencer.command)
        wiring.connect(m, jobs.bitmap, sequencer.bitmap)
        wiring.connect(m, sequencer.count, jobs.count)
        wiring.connect(m, jobs.job, core.job)
        m.d.comb += [
            reader.start.eq(self.start),
            reader.address.eq(self.address),
            self.descriptor.eq(reader.descriptor),
            self.known.eq(reader.done),
            setup.start.eq(reader.done & (reader.status == DeviceStatus.OK)),
            setup.descriptor.eq(reader.descriptor),
            go.eq(setup.done & ~setup.empty),
            blocks.start.eq(go),
            blocks.layer.eq(setup.layer),
            jobs.layer.eq(setup.layer),
        ]

        # Data of the core.
        self._queries_and_states(m, reads, jobs, core)
        filling, fault_page = self._rows(m, reads, control, jobs, sequencer, core, setup.layer, go)
        wiring.connect(m, core.o, store.o)
        wiring.connect(m, jobs.output, store.head)
        wiring.connect(m, core.stats, wiring.flipped(self.stats))

        working = store.busy | jobs.output.valid | filling | writes.pending | ~reads.idle
        self._end(m, jobs, working)
        for fails, status in (
            (fault_page, DeviceStatus.PAGE),
            (jobs.empty | (setup.done & setup.empty), DeviceStatus.EMPTY),
            (reader.done & (reader.status != DeviceStatus.OK), reader.status),
            (writes.bus_error, DeviceStatus.WRITE),
            (reads.bus_error, DeviceStatus.READ),
        ):
            with m.If(fails):
                m.d.comb += [self.fault.eq(1), self.status.eq(status)]
        ports = (core.q, core.state, core.k, core.v, core.o)
        moves = Signal(len(ports))
        m.d.comb += [moves[n].eq(port.valid & port.ready) for n, port in enumerate(ports)]
        m.d.comb += self.progress.eq(moves.any() | reads.beat | writes.beat)
        return m

    def _share(self, m, records, outputs, beats):
        """Write records beside outputs: never at once, so a record goes first."""
        m.d.comb += [
            beats.valid.eq(records.valid | outputs.valid),
            beats.payload.eq(Mux(records.valid, records.payload.as_value(), outputs.payload.as_value())),
            records.ready.eq(beats.ready),
            outputs.ready.eq(beats.ready & ~records.valid),
        ]

    def _control(self, m, reads, control, reader, blocks, jobs):
        """Connect who reads by the control reader, the descriptor before all else."""
        wiring.connect(m, control.request, reads.control_request)
        wiring.connect(m, reads.control_words, control.words)
        wiring.connect(m, control.descriptor, reader.words)
        wiring.connect(m, control.scale, jobs.scales)
        wiring.connect(m, control.bitmap, jobs.bitmaps)
        chosen = Signal(control_request_layout(self.config))
        m.d.comb += [
            chosen.eq(Mux(reader.request.valid, reader.request.payload.as_value(), blocks.requests.payload.as_value())),
            control.requests.valid.eq(reader.request.valid | blocks.requests.valid),
            control.requests.payload.eq(chosen),
            reader.request.ready.eq(control.requests.ready),
            blocks.requests.ready.eq(control.requests.ready),
        ]

    def _queries_and_states(self, m, reads, jobs, core):
        """Connect the sources of queries and of starting states."""
        m.submodules.queries = queries = QuerySource(self.config)
        m.submodules.states = states = StateSource(self.config)
        for source, start, client in ((queries, jobs.query, Client.QUERY), (states, jobs.state, Client.STATE)):
            name = client.name.lower()
            wiring.connect(m, source.request, getattr(reads, f"{name}_request"))
            wiring.connect(m, getattr(reads, f"{name}_words"), source.words)
            wiring.connect(m, start, source.head if source is queries else source.job)
        wiring.connect(m, queries.q, core.q)
        self._hold(m, states.state, core.state, Client.STATE)

    def _rows(self, m, reads, control, jobs, sequencer, core, layer, go):
        """Connect the sources of keys and values; return whether a fill is under way, and a pulse for a bad page."""
        config, d = self.config, layer.descriptor
        filling, fault = [], Signal(name="fault_page")
        m.submodules.keys = keys = RowSource(config, Client.KEY)
        m.submodules.values = values = RowSource(config, Client.VALUE)
        if config.page_entries:
            m.submodules.pages = pages = PageTable(config)
            paged = flag(d, Flag.PAGED)
            load = pages.load.payload
            with m.If(go & paged):
                m.d.sync += pages.load.valid.eq(1)
            with m.Elif(pages.load.ready):
                m.d.sync += pages.load.valid.eq(0)
            m.d.comb += [
                load.first.eq(layer.first_page),
                load.last.eq(layer.last_page),
                load.page_count.eq(d.page_count),
                load.key_stride.eq(d.key_page_stride),
                load.value_stride.eq(d.value_page_stride),
                pages.entries.valid.eq(control.page.valid),
                pages.entries.payload.data.eq(control.page.payload.data),
                control.page.ready.eq(pages.entries.ready),
                fault.eq(pages.fault),
            ]
            wiring.connect(m, keys.lookup, pages.key)
            wiring.connect(m, values.lookup, pages.value)
        # The first queries are asked for before the first fills, which take long.
        waits, starts = Signal(), Signal()
        m.d.comb += starts.eq(waits & jobs.query.valid & jobs.query.ready)
        with m.If(go):
            m.d.sync += waits.eq(layer.resident)
        with m.Elif(starts):
            m.d.sync += waits.eq(0)
        shared = flag(d, Flag.SHARED)
        for source, client, job, wants, fills, filled in (
            (keys, Client.KEY, jobs.keys, sequencer.k_req, jobs.key_fills, 1),
            (values, Client.VALUE, jobs.values, core.v_req, jobs.value_fills, ~shared),
        ):
            name = client.name.lower()
            wiring.connect(m, source.request, getattr(reads, f"{name}_request"))
            wiring.connect(m, getattr(reads, f"{name}_words"), source.words)
            wiring.connect(m, job, source.job)
            wiring.connect(m, wants, source.wants)
            if config.scratchpad_bytes:
                m.submodules[f"{name}_fills"] = sequence = FillSequence(config, client)
                wiring.connect(m, sequence.fill, source.fill)
                m.d.comb += [sequence.start.eq(starts & filled), sequence.layer.eq(layer), fills.eq(sequence.heads)]
                filling += [source.filling, sequence.fill.valid]
        m.d.comb += [
            core.v.valid.eq(values.rows.valid),
            core.v.payload.data.eq(values.rows.payload.data),
            values.rows.ready.eq(core.v.ready),
        ]
        self._hold(m, keys.rows, core.k, Client.KEY)
        return Cat(filling).any(), fault

    def _hold(self, m, source, port, client):
        """Bring the core its words by two places, so that its `ready` does not reach back to who asks for them."""
        m.submodules[f"{client.name.lower()}_words"] = words = SyncFIFO(width=source.payload.shape().size, depth=2)
        m.d.comb += [
            words.w_en.eq(source.valid),
            words.w_data.eq(source.payload),
            source.ready.eq(words.w_rdy),
            port.valid.eq(words.r_rdy),
            port.payload.eq(words.r_data),
            words.r_en.eq(port.ready),
        ]

    def _end(self, m, jobs, working):
        """Tell when the last job's record was taken, and all that it wrote is written."""
        all_offered = Signal()
        running = Signal(JOBS_BITS)
        quiet = Signal(range(QUIET_CYCLES))
        m.d.sync += [
            running.eq(running + jobs.offered - (self.stats.valid & self.stats.ready)),
            quiet.eq(Mux(all_offered & (running == 0) & ~working, quiet + 1, 0)),
        ]
        with m.If(jobs.offered & jobs.last):
            m.d.sync += all_offered.eq(1)
        with m.If(quiet == QUIET_CYCLES - 1):
            m.d.sync += self.ended.eq(1)
        with m.If(self.start):
            m.d.sync += [all_offered.eq(0), quiet.eq(0), self.ended.eq(0)]
