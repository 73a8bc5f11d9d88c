"""The registers as software reaches them: an AXI4-Lite slave made from the table of `golden.device.registers`."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.device.registers import BY_NAME, COUNTERS, REGISTERS, WINDOW_BITS, Access, Field, Register, constant
from rtl.axi.axi_ports import RESP_OKAY, RESP_SLVERR, axi_lite_signature

COUNTER_HALVES = {f"{counter.name}_{half}": counter.name for counter in COUNTERS for half in ("LO", "HI")}
"""Registers that are halves of counters, with the counter's name."""


def port_name(register: Register, field: Field) -> str:
    """Return the name of a field's port."""
    return register.name.lower() if field.name == "value" else f"{register.name}_{field.name}".lower()


def steps_layout() -> data.StructLayout:
    """Return the layout of what is added to each counter in a cycle."""
    return data.StructLayout({counter.name.lower(): counter.step_bits for counter in COUNTERS})


def _field_ports() -> dict[str, wiring.Member]:
    """Return the ports of the fields that hardware reads or drives."""
    ports: dict[str, wiring.Member] = {}
    for register in REGISTERS:
        if register.name in COUNTER_HALVES:
            continue
        for field in register.fields:
            name = port_name(register, field)
            if field.access is Access.WRITE:
                ports[name] = Out(field.bits, init=field.reset)
            elif field.access is Access.PULSE:
                ports[name] = Out(field.bits)
            elif field.access in (Access.READ, Access.CLEAR):
                ports[name] = In(field.bits)
    return ports


class RegisterFile(wiring.Component):
    """The registers of a device, behind AXI4-Lite.

    Address and data of a write may come in any order and any number of cycles apart. A write takes effect, and is
    answered, 3 cycles after the later of them was taken; a read is answered 2 cycles after its address was. One write
    and one read are under way at a time: the next address and data are taken when the answer has been. No output of the
    bus depends on an input of the same cycle, and answers hold until they are taken.

    A write strobe says which bytes count. An address without a register, a write to a register that software can only
    read, and a TAIL of more descriptors than the queue has slots, or of fewer than before, are answered with SLVERR and
    change nothing. Address bits 1:0 are ignored.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    bus : In
        AXI4-Lite.
    REGISTER, REGISTER_FIELD : Out, In
        A port for each field, in small letters, without the field's name if it is ``value``. Fields that software
        writes come out, and change with the write's answer. A field that starts something is a pulse
        of one cycle. What software reads goes in; a pulse on a field of IRQ_STATUS sets it.
    steps : In
        What is added to each counter in this cycle.
    restart : In
        A pulse: a soft reset is done. Clears CONTROL.run and TAIL.
    irq : Out
        High while an enabled field of IRQ_STATUS is set, a cycle later.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "bus": In(axi_lite_signature(WINDOW_BITS)),
                **_field_ports(),
                "steps": In(steps_layout()),
                "restart": In(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pending = {field.name: Signal(name=f"pending_{field.name}") for field in BY_NAME["IRQ_STATUS"].fields}
        counters = {counter.name: Signal(64, name=f"counter_{counter.name.lower()}") for counter in COUNTERS}
        for name, counter in counters.items():
            m.d.sync += counter.eq(Mux(self.control_clear_counters, 0, counter + self.steps[name.lower()]))
        self._write(m, pending)
        self._read(m, pending, counters)
        enabled = [
            pending[field.name] & getattr(self, f"irq_enable_{field.name}") for field in BY_NAME["IRQ_ENABLE"].fields
        ]
        m.d.sync += self.irq.eq(Cat(enabled).any())
        return m

    def _write(self, m, pending):
        """Take an address and data, write, answer."""
        bus = self.bus
        got_address, got_data = Signal(), Signal()
        index = Signal(WINDOW_BITS - 2, name="write_index")
        word, strobe = Signal(32), Signal(4)
        act = Signal()
        error = Signal()
        queued, waiting = Signal(32), Signal(32)

        def merged(field: Field, old):
            """Return a field after the write: of each byte the old bits or the written ones."""
            bits = range(field.low, field.low + field.bits)
            return Cat(Mux(strobe[bit // 8], word[bit], old[bit - field.low]) for bit in bits)

        def ones(field: Field):
            """Return the bits of a field that are written as 1."""
            return Cat(word[bit] & strobe[bit // 8] for bit in range(field.low, field.low + field.bits))

        (tail,) = BY_NAME["TAIL"].fields
        m.d.sync += [queued.eq(merged(tail, self.tail) - self.head), waiting.eq(self.tail - self.head)]
        # One that was told of may be begun by now, and can't be taken back.
        fits = (queued <= (1 << self.queue_shift)) & (queued >= waiting)

        with m.FSM(name="write"):
            with m.State("COLLECT"):
                m.d.comb += [bus.awready.eq(~got_address), bus.wready.eq(~got_data)]
                with m.If(bus.awvalid & bus.awready):
                    m.d.sync += [got_address.eq(1), index.eq(bus.awaddr[2:])]
                with m.If(bus.wvalid & bus.wready):
                    m.d.sync += [got_data.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
                with m.If(got_address & got_data):
                    m.next = "ACT"

            with m.State("ACT"):
                m.d.comb += act.eq(1)
                m.d.sync += [bus.bvalid.eq(1), bus.bresp.eq(Mux(error, RESP_SLVERR, RESP_OKAY))]
                m.next = "ANSWER"

            with m.State("ANSWER"):
                with m.If(bus.bready):
                    m.d.sync += [bus.bvalid.eq(0), got_address.eq(0), got_data.eq(0)]
                    m.next = "COLLECT"

        m.d.comb += error.eq(1)
        # A pulse lasts a cycle, and what the hardware sets counts over what software clears.
        for register in REGISTERS:
            for field in register.fields:
                if field.access is Access.PULSE:
                    m.d.sync += getattr(self, port_name(register, field)).eq(0)
        with m.Switch(index):
            for register in REGISTERS:
                if not register.writable:
                    continue
                with m.Case(register.offset // 4):
                    m.d.comb += error.eq(~fits if register.name == "TAIL" else 0)
                    with m.If(act & ~error):
                        for field in register.fields:
                            port = getattr(self, port_name(register, field))
                            if field.access is Access.WRITE:
                                m.d.sync += port.eq(merged(field, port))
                            elif field.access is Access.PULSE:
                                m.d.sync += port.eq(ones(field))
                            elif field.access is Access.CLEAR:
                                m.d.sync += pending[field.name].eq(pending[field.name] & ~ones(field))
        for name, flag in pending.items():
            with m.If(getattr(self, f"irq_status_{name}")):
                m.d.sync += flag.eq(1)
        with m.If(self.restart):
            m.d.sync += [self.control_run.eq(0), self.tail.eq(0)]

    def _read(self, m, pending, counters):
        """Take an address, read, answer."""
        bus = self.bus
        index = Signal(WINDOW_BITS - 2, name="read_index")
        high = Signal(32)

        def source(register: Register, field: Field):
            """Return what a field reads."""
            match field.access:
                case Access.CONSTANT:
                    return constant(field, self.config.capability)
                case Access.PULSE:
                    return 0
                case Access.CLEAR:
                    return pending[field.name]
                case _:
                    return getattr(self, port_name(register, field))

        with m.FSM(name="read"):
            with m.State("ADDRESS"):
                m.d.comb += bus.arready.eq(1)
                with m.If(bus.arvalid):
                    m.d.sync += index.eq(bus.araddr[2:])
                    m.next = "READ"

            with m.State("READ"):
                m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0), bus.rresp.eq(RESP_SLVERR)]
                with m.Switch(index):
                    for register in REGISTERS:
                        with m.Case(register.offset // 4):
                            m.d.sync += bus.rresp.eq(RESP_OKAY)
                            if register.name not in COUNTER_HALVES:
                                for field in register.fields:
                                    m.d.sync += bus.rdata[field.low : field.low + field.bits].eq(
                                        source(register, field)
                                    )
                            elif register.name.endswith("_LO"):
                                counter = counters[COUNTER_HALVES[register.name]]
                                m.d.sync += [bus.rdata.eq(counter[:32]), high.eq(counter[32:])]
                            else:
                                m.d.sync += bus.rdata.eq(high)
                m.next = "ANSWER"

            with m.State("ANSWER"):
                with m.If(bus.rready):
                    m.d.sync += bus.rvalid.eq(0)
                    m.next = "ADDRESS"
