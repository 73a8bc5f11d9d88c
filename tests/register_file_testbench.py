"""The cocotb side of the register file's random test."""

from __future__ import annotations

import random
from collections.abc import Iterator

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster
from register_model import AT, COUNTER_HALVES, RegisterModel

from golden.device.config import DEVICE_PRESETS
from golden.device.registers import REGISTERS, Access
from rtl.axi.register_file import port_name

ACCESSES = 600
DRIVEN = {
    port_name(register, part): part.bits
    for register in REGISTERS
    for part in register.fields
    if part.access is Access.READ and register.name not in COUNTER_HALVES
}
PULSES = ("control_soft_reset", "control_clear_counters")


def pauses(rng: random.Random, share: float) -> Iterator[bool]:
    """Yield whether a channel pauses in a cycle: often for long, often not at all."""
    while True:
        paused = rng.random() < share
        for _ in range(rng.choice((1, 1, 2, 8))):
            yield paused


@cocotb.test()
async def random_accesses(dut):
    """Hold data and responses, and the ports after each access, to the model's."""
    rng = random.Random(20)
    Clock(dut.clk, 10, unit="ns").start()
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    for name in [*DRIVEN, "steps", "restart", "irq_status_done", "irq_status_fault"]:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    channels = [master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel]
    channels += [master.read_if.ar_channel, master.read_if.r_channel]
    for channel in channels:
        channel.set_pause_generator(pauses(rng, 0.5))

    pulsed = []

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            pulsed.extend(name for name in PULSES if int(getattr(dut, name).value))

    cocotb.start_soon(watch())
    model = RegisterModel(DEVICE_PRESETS["tiny"])
    for _ in range(ACCESSES):
        if rng.random() < 0.2:
            name = rng.choice(list(DRIVEN))
            # Heads near the tail, or no doorbell would ever be taken.
            value = (model.ports.get("tail", 0) - rng.randrange(4)) % (1 << 32) if name == "head" else None
            model.ports[name] = rng.getrandbits(DRIVEN[name]) if value is None else value
            getattr(dut, name).value = model.ports[name]
        if rng.random() < 0.1:
            name = rng.choice(("done", "fault"))
            port = getattr(dut, f"irq_status_{name}")
            port.value = 1
            await RisingEdge(dut.clk)
            port.value = 0
            model.pending.add(name)
            await RisingEdge(dut.clk)
        address = rng.choice(list(AT)) if rng.random() < 0.9 else rng.randrange(0, 4096, 4)
        if address in AT and AT[address].name in COUNTER_HALVES:
            continue
        if rng.random() < 0.5:
            first = rng.randrange(4)
            length = rng.randint(1, 4 - first)
            data = rng.randbytes(length)
            if address in AT and AT[address].name == "TAIL" and rng.random() < 0.7:
                first, length = 0, 4
                data = ((model.ports.get("head", 0) + rng.randrange(8)) % (1 << 32)).to_bytes(4, "little")
            strobe = ((1 << length) - 1) << first
            expected, pulses_expected = model.write(address, int.from_bytes(data, "little") << 8 * first, strobe)
            answer = await master.write(address + first, data)
            assert int(answer.resp) == expected, f"write of {address:#x}"
            await ClockCycles(dut.clk, 2)
            assert set(pulsed) == pulses_expected, f"write of {address:#x}"
            assert len(pulsed) == len(pulses_expected)
            pulsed.clear()
        else:
            word, expected = model.read(address)
            answer = await master.read(address, 4)
            assert int(answer.resp) == expected, f"read of {address:#x}"
            assert answer.data == word.to_bytes(4, "little"), f"read of {address:#x}"
        enabled = {name for name in ("done", "fault") if model.ports.get(f"irq_enable_{name}", 0)}
        await ClockCycles(dut.clk, 2)
        assert int(dut.irq.value) == bool(enabled & model.pending)
    for name, value in model.ports.items():
        if name not in DRIVEN:
            assert int(getattr(dut, name).value) == value, name
