"""The device: registers behind AXI4-Lite, an AXI4 master, an interrupt."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.device.registers import DESCRIPTOR_BITS, RECORD_BITS, WINDOW_BITS
from rtl.axi.axi_ports import (
    CLOCK_PORTS,
    add_clock,
    axi_lite_signature,
    axi_read_signature,
    axi_write_signature,
    flat_ports,
    join_flat,
)
from rtl.axi.engine import Engine
from rtl.axi.register_file import RegisterFile


def device_ports(config: DeviceConfig) -> dict[str, wiring.Member]:
    """Return the ports of a device, by name."""
    return {
        **CLOCK_PORTS,
        **flat_ports("s_axil", axi_lite_signature(WINDOW_BITS), In),
        **flat_ports("m_axi", axi_write_signature(config)),
        **flat_ports("m_axi", axi_read_signature(config)),
        "irq": Out(1),
    }


class LeanAttentionAxi(wiring.Component):
    """A core with all that runs it from memory.

    Software queues descriptors (`golden.device.descriptor`) and writes the register TAIL; the device reads them, runs
    their jobs, writes outputs and a completion record each (`golden.device.record`), and raises the interrupt. Of the
    bus it uses one ID. No output depends on an input of the same cycle, but for what `RegisterFile` and the masters
    say.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    aclk, aresetn : In
        Clock and reset of everything.
    s_axil_* : In
        The registers (`golden.device.registers`).
    m_axi_* : Out
        The memory.
    irq : Out
        High while an enabled interrupt is not cleared.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(device_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        add_clock(m, self)
        m.submodules.registers = registers = RegisterFile(config)
        m.submodules.engine = engine = Engine(config)
        join_flat(m, self, "s_axil", registers.bus)
        join_flat(m, self, "m_axi", engine.axi_write)
        join_flat(m, self, "m_axi", engine.axi_read)

        def base(zeros: int, low, high):
            """Return an address from its registers, of which software writes no zeros."""
            return Cat(Const(0, zeros), low, high)

        m.d.comb += [
            self.irq.eq(registers.irq),
            engine.run.eq(registers.control_run),
            engine.soft_reset.eq(registers.control_soft_reset),
            engine.tail.eq(registers.tail),
            engine.queue_base.eq(base(DESCRIPTOR_BITS, registers.queue_base_lo, registers.queue_base_hi)),
            engine.record_base.eq(base(RECORD_BITS, registers.record_base_lo, registers.record_base_hi)),
            engine.queue_shift.eq(registers.queue_shift),
            engine.timeout.eq(registers.timeout),
            registers.head.eq(engine.head),
            registers.status_busy.eq(engine.busy),
            registers.status_draining.eq(engine.draining),
            registers.status_resetting.eq(engine.resetting),
            registers.error_status.eq(engine.error_status),
            registers.error_core_status.eq(engine.error_core_status),
            registers.error_slot.eq(engine.error_slot),
            registers.irq_status_done.eq(engine.done),
            registers.irq_status_fault.eq(engine.fault),
            registers.restart.eq(engine.restart),
            registers.steps.eq(engine.steps),
        ]
        return m
