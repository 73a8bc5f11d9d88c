"""Takes descriptors from the queue, one after the other, has them run, and writes how each ended."""

from amaranth.hdl import Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.device.descriptor import Flag
from golden.device.registers import BY_NAME, DESCRIPTOR_BITS, RECORD_BITS
from golden.device.status import DeviceStatus
from rtl.axi.axi_ports import axi_read_signature, axi_write_signature
from rtl.axi.datapath import Datapath
from rtl.axi.layer import flag
from rtl.axi.record_writer import RecordWriter
from rtl.axi.register_file import steps_layout
from rtl.axi.totals import Totals
from rtl.interfaces import ArrayUse

SHIFT_BITS = BY_NAME["QUEUE_SHIFT"].field("value").bits
SLOT_BITS = BY_NAME["ERROR"].field("slot").bits


class Engine(wiring.Component):
    """The queue, and what happens when a descriptor fails.

    Whatever the fault, the same follows: the interrupt, a flush of the bus masters, a cycle of reset of all that the
    descriptor ran through, and its record. Nothing of the next descriptor is begun before the record is written. Of
    several faults the first is told; of those in one cycle the datapath's, then the core's, a timeout, a soft reset. A
    soft reset ends what is begun in the same way, and resets the datapath when all is idle too.

    A descriptor is begun in the cycle in which there is one. The first beat of a record is offered 2 cycles after the
    datapath has ended, or 3 after it was idle if it failed; later while a job's record is still being added. `done`
    comes in the cycle after the record is written, the next descriptor is begun in the one after that.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    axi_read, axi_write : Out
        The bus.
    run, soft_reset, tail, queue_base, record_base, queue_shift, timeout : In
        What software wrote; soft_reset is a pulse.
    head, busy, draining, resetting, error_status, error_core_status, error_slot : Out
        What software reads.
    done, fault : Out
        Pulses: interrupts.
    restart : Out
        A pulse: a soft reset is done.
    steps : Out
        What is added to the counters.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "axi_read": Out(axi_read_signature(config)),
                "axi_write": Out(axi_write_signature(config)),
                "run": In(1),
                "soft_reset": In(1),
                "tail": In(32),
                "queue_base": In(config.address_bits),
                "record_base": In(config.address_bits),
                "queue_shift": In(SHIFT_BITS),
                "timeout": In(32),
                "head": Out(32),
                "busy": Out(1),
                "draining": Out(1),
                "resetting": Out(1),
                "error_status": Out(8),
                "error_core_status": Out(8),
                "error_slot": Out(SLOT_BITS),
                "done": Out(1),
                "fault": Out(1),
                "restart": Out(1),
                "steps": Out(steps_layout()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        datapath = Datapath(config)
        clear = Signal()
        m.submodules.datapath = ResetInserter(clear)(datapath)
        m.submodules.totals = totals = Totals(config)
        m.submodules.recorder = recorder = RecordWriter(config)
        wiring.connect(m, datapath.axi_read, wiring.flipped(self.axi_read))
        wiring.connect(m, datapath.axi_write, wiring.flipped(self.axi_write))
        wiring.connect(m, datapath.stats, totals.stats)
        wiring.connect(m, recorder.beats, datapath.beats)

        slot = Signal(SLOT_BITS)
        tag, interrupt = Signal(32), Signal()
        status, core_status = Signal(DeviceStatus), Signal(8)
        m.d.comb += [
            slot.eq(self.head & ((Const(1) << self.queue_shift) - 1)),
            datapath.address.eq(self.queue_base + (slot << DESCRIPTOR_BITS)),
            recorder.address.eq(self.record_base + (slot << RECORD_BITS)),
            recorder.record.eq(totals.record),
            recorder.record.sequence.eq(self.head + 1),
            recorder.record.tag.eq(tag),
            recorder.record.status.eq(status),
            recorder.record.core_status.eq(core_status),
            totals.read_beat.eq(datapath.read_beat),
            totals.write_beat.eq(datapath.write_beat),
        ]
        self._count(m, totals, datapath)

        silent = Signal(32)
        m.d.sync += silent.eq(Mux(datapath.progress | ~self.busy, 0, silent + 1))
        timed_out = (self.timeout != 0) & (silent >= self.timeout)
        why, fails = Signal(DeviceStatus), Signal()
        for happens, reason in (
            (self.resetting, DeviceStatus.RESET),
            (timed_out, DeviceStatus.TIMEOUT),
            (totals.fault, DeviceStatus.CORE),
            (datapath.fault, datapath.status),
        ):
            with m.If(happens):
                m.d.comb += [fails.eq(1), why.eq(reason)]

        with m.If(self.soft_reset):
            m.d.sync += self.resetting.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.resetting):
                    # The bus is quiet; of what was done before, nothing is to be left.
                    m.d.comb += [self.restart.eq(1), clear.eq(1)]
                    m.d.sync += [
                        self.resetting.eq(self.soft_reset),
                        self.head.eq(0),
                        self.error_status.eq(DeviceStatus.OK),
                        self.error_core_status.eq(0),
                        self.error_slot.eq(0),
                    ]
                with m.Elif(self.run & (self.head != self.tail) & ~self.soft_reset):
                    m.d.comb += [datapath.start.eq(1), totals.clear.eq(1)]
                    m.d.sync += [
                        status.eq(DeviceStatus.OK),
                        core_status.eq(0),
                        tag.eq(0),
                        self.busy.eq(1),
                    ]
                    m.next = "RUN"

            with m.State("RUN"):
                m.d.comb += totals.counting.eq(1)
                with m.If(datapath.known):
                    m.d.sync += [
                        tag.eq(datapath.descriptor.tag),
                        interrupt.eq(flag(datapath.descriptor, Flag.INTERRUPT)),
                    ]
                with m.If(fails):
                    # Of the core's status the one that is told: another job may fail while the bus is drained.
                    told = Mux(why == DeviceStatus.CORE, totals.core_status, 0)
                    m.d.comb += self.fault.eq(1)
                    m.d.sync += [
                        status.eq(why),
                        core_status.eq(told),
                        self.error_status.eq(why),
                        self.error_core_status.eq(told),
                        self.error_slot.eq(slot),
                        self.draining.eq(1),
                    ]
                    m.next = "DRAIN"
                with m.Elif(datapath.ended):
                    m.next = "RECORD"

            with m.State("DRAIN"):
                m.d.comb += [datapath.flush.eq(1), totals.counting.eq(1)]
                with m.If(datapath.idle):
                    m.next = "CLEAR"

            with m.State("CLEAR"):
                m.d.comb += clear.eq(1)
                m.d.sync += self.draining.eq(0)
                m.next = "RECORD"

            with m.State("RECORD"):
                # A job may have ended in the cycle of the reset.
                m.d.comb += recorder.start.eq(~totals.busy)
                with m.If(~totals.busy):
                    m.next = "WRITE"

            with m.State("WRITE"):
                # A record that can't be written is told by the registers alone.
                dead = (self.timeout != 0) & (silent == self.timeout)
                with m.If(datapath.write_error | dead):
                    m.d.comb += self.fault.eq(1)
                    m.d.sync += [
                        self.error_status.eq(Mux(dead, DeviceStatus.TIMEOUT, DeviceStatus.WRITE)),
                        self.error_core_status.eq(0),
                        self.error_slot.eq(slot),
                    ]
                with m.If(~recorder.busy & ~datapath.pending):
                    m.next = "END"

            with m.State("END"):
                m.d.comb += self.done.eq(interrupt | (status != DeviceStatus.OK))
                m.d.sync += [self.head.eq(self.head + 1), self.busy.eq(0)]
                m.next = "IDLE"
        return m

    def _count(self, m, totals, datapath):
        """Feed the counters."""
        size = self.config.beat_bytes
        m.d.comb += [
            self.steps.cycles.eq(1),
            self.steps.busy.eq(self.busy),
            self.steps.read_bytes.eq(Mux(datapath.read_beat, size, 0)),
            self.steps.write_bytes.eq(Mux(datapath.write_beat, size, 0)),
            self.steps.jobs.eq(totals.job),
        ]
        for use in ArrayUse:
            m.d.comb += self.steps[use.name.lower()].eq(Mux(totals.job, totals.uses[use], 0))
