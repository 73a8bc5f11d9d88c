"""The register file: every register of the table, the bus's rules to the cycle, counters, interrupt and doorbell."""

from __future__ import annotations

import pytest
from amaranth.lib import wiring
from cocotb_component import run_component
from register_model import AT, COUNTER_HALVES, OKAY, SLVERR, RegisterModel, port
from rtl_bench import Bench, simulate
from test_rtl_structure import combinational_paths, netlist

from golden.device.config import DEVICE_PRESETS, DeviceConfig
from golden.device.registers import BY_NAME, COUNTERS, REGISTERS, Access
from rtl.axi.register_file import RegisterFile

TINY = DEVICE_PRESETS["tiny"]
ODD = DeviceConfig(
    DEVICE_PRESETS["wide"].core, data_bits=512, address_bits=33, scratchpad_bytes=0, page_entries=0, id_bits=3
)
WRITE_CYCLES, READ_CYCLES = 3, 2
"""From the cycle in which address and data are taken to that in which the answer shows."""


async def write(bench: Bench, offset: int, data: int, strobe: int = 15) -> int:
    """Write and return the response."""
    bench.set({"bus.awaddr": offset, "bus.awvalid": 1, "bus.wdata": data, "bus.wstrb": strobe, "bus.wvalid": 1})
    while not (bench.get("bus.awready") and bench.get("bus.wready")):
        await bench.tick()
    await bench.tick()
    bench.set({"bus.awvalid": 0, "bus.wvalid": 0, "bus.bready": 1})
    while not bench.get("bus.bvalid"):
        await bench.tick()
    response = bench.get("bus.bresp")
    await bench.tick()
    bench.set({"bus.bready": 0})
    return response


async def read(bench: Bench, offset: int) -> tuple[int, int]:
    """Read and return data and response."""
    bench.set({"bus.araddr": offset, "bus.arvalid": 1})
    while not bench.get("bus.arready"):
        await bench.tick()
    await bench.tick()
    bench.set({"bus.arvalid": 0, "bus.rready": 1})
    while not bench.get("bus.rvalid"):
        await bench.tick()
    answer = bench.get("bus.rdata"), bench.get("bus.rresp")
    await bench.tick()
    bench.set({"bus.rready": 0})
    return answer


def offset(name: str) -> int:
    return BY_NAME[name].offset


@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_every_word_of_the_window_reads_as_the_table_says(config: DeviceConfig):
    model = RegisterModel(config)

    async def process(bench: Bench) -> None:
        for register in REGISTERS:
            for part in register.fields:
                if part.access is Access.READ and register.name not in COUNTER_HALVES:
                    value = 0x9E3779B9 * (register.offset + part.low + 1) % (1 << part.bits)
                    model.ports[port(register, part.name)] = value
        bench.set(model.ports)
        for address in [*range(0, 0x140, 4), 0xFFC]:
            expected = model.read(address)
            if address in AT and AT[address].name in COUNTER_HALVES:
                expected = (0, OKAY)
            assert await read(bench, address) == expected, hex(address)

    simulate(RegisterFile(config), process)


def test_what_the_identity_of_a_device_reads():
    async def process(bench: Bench) -> None:
        assert await read(bench, 0x000) == (0x4C41544E, OKAY)
        assert await read(bench, 0x004) == (0x00010000, OKAY)
        # 32 rows, 32 lanes, 8 output lanes, 64 bytes.
        assert await read(bench, 0x008) == (0x40082020, OKAY)
        assert await read(bench, 0x00C) == (0x00800080, OKAY)
        assert await read(bench, 0x010) == (65536, OKAY)
        assert (await read(bench, 0x014))[0] >> 8 == 33
        assert await read(bench, 0x018) == await read(bench, 0x01C) == (0, OKAY)

    simulate(RegisterFile(ODD), process)


def test_strobes_and_fields_of_every_register():
    """Writes of ones and of zeros, byte by byte: what changes is what the strobe and the field let through."""
    model = RegisterModel(TINY)

    async def process(bench: Bench) -> None:
        # Room for any doorbell that is written here.
        model.ports["head"] = 0
        for data in (0xFFFFFFFF, 0x5A5A5A5A, 0):
            for register in REGISTERS:
                if register.name == "TAIL":
                    continue
                for strobe in (1, 8, 6, 0, 15):
                    response, _ = model.write(register.offset, data, strobe)
                    assert await write(bench, register.offset, data, strobe) == response, register.name
                    if register.name not in COUNTER_HALVES:
                        assert await read(bench, register.offset) == model.read(register.offset), register.name
            for name, value in model.ports.items():
                if name != "head":
                    assert bench.get(name) == value, name

    simulate(RegisterFile(TINY), process)


@pytest.mark.parametrize(("address_cycle", "data_cycle"), [(0, 0), (0, 5), (4, 0), (1, 0), (0, 1)])
def test_a_write_takes_address_and_data_in_any_order(address_cycle: int, data_cycle: int):
    async def process(bench: Bench) -> None:
        both = max(address_cycle, data_cycle)
        bench.set({"bus.awaddr": offset("TIMEOUT"), "bus.wdata": 0x12345678, "bus.wstrb": 15})
        for cycle in range(both + WRITE_CYCLES + 4):
            bench.set({"bus.awvalid": cycle == address_cycle, "bus.wvalid": cycle == data_cycle})
            assert bench.get("bus.awready") == (cycle <= address_cycle)
            assert bench.get("bus.wready") == (cycle <= data_cycle)
            # The answer waits for ready.
            done = cycle >= both + WRITE_CYCLES
            assert bench.get("bus.bvalid") == done
            assert bench.get("timeout") == (0x12345678 if done else 0)
            await bench.tick()
        bench.set({"bus.bready": 1})
        assert bench.get("bus.bvalid")
        await bench.tick()
        assert not bench.get("bus.bvalid")
        assert bench.get("bus.awready")
        assert bench.get("bus.wready")

    simulate(RegisterFile(TINY), process)


def test_a_read_is_answered_and_held():
    async def process(bench: Bench) -> None:
        bench.set({"bus.araddr": offset("HEAD"), "bus.arvalid": 1, "head": 7})
        for cycle in range(6):
            assert bench.get("bus.arready") == (cycle == 0)
            assert bench.get("bus.rvalid") == (cycle >= READ_CYCLES)
            if cycle >= READ_CYCLES:
                # What has been offered stays, though the register goes on.
                bench.set({"head": 8 + cycle})
                assert bench.get("bus.rdata") == 7
            await bench.tick()
        bench.set({"bus.rready": 1})
        await bench.tick()
        assert not bench.get("bus.rvalid")
        assert bench.get("bus.arready")

    simulate(RegisterFile(TINY), process)


def test_pulses_last_a_cycle_and_only_where_a_one_is_written():
    async def process(bench: Bench) -> None:
        for data, strobe, pulses in (
            (2, 15, (1, 0)),
            (4, 1, (0, 1)),
            (7, 15, (1, 1)),
            (6, 14, (0, 0)),
            (1, 15, (0, 0)),
        ):
            seen = []
            bench.set({"bus.awaddr": offset("CONTROL"), "bus.awvalid": 1, "bus.bready": 1})
            bench.set({"bus.wdata": data, "bus.wstrb": strobe, "bus.wvalid": 1})
            for _ in range(10):
                await bench.tick()
                bench.set({"bus.awvalid": 0, "bus.wvalid": 0})
                seen.append((bench.get("control_soft_reset"), bench.get("control_clear_counters")))
            assert [pair for pair in seen if any(pair)] == ([pulses] if any(pulses) else [])

    simulate(RegisterFile(TINY), process)


def test_an_interrupt_is_a_level_until_it_is_cleared():
    async def process(bench: Bench) -> None:
        bench.pulse({"irq_status_fault": 1})
        await bench.tick()
        bench.pulse({})
        await bench.tick()
        await bench.tick()
        assert await read(bench, offset("IRQ_STATUS")) == (2, OKAY)
        assert not bench.get("irq"), "it is not enabled"
        await write(bench, offset("IRQ_ENABLE"), 2)
        await bench.tick()
        assert bench.get("irq")
        await write(bench, offset("IRQ_STATUS"), 1)
        await bench.tick()
        assert bench.get("irq"), "another one was cleared"
        await write(bench, offset("IRQ_STATUS"), 2)
        await bench.tick()
        assert not bench.get("irq")
        assert await read(bench, offset("IRQ_STATUS")) == (0, OKAY)

    simulate(RegisterFile(TINY), process)


def test_an_interrupt_that_comes_while_it_is_cleared_is_not_lost():
    async def process(bench: Bench) -> None:
        await write(bench, offset("IRQ_ENABLE"), 1)
        bench.pulse({"irq_status_done": 1})
        await bench.tick()
        bench.pulse({})
        bench.set({"bus.awaddr": offset("IRQ_STATUS"), "bus.awvalid": 1, "bus.bready": 1})
        bench.set({"bus.wdata": 1, "bus.wstrb": 15, "bus.wvalid": 1})
        await bench.tick()
        bench.set({"bus.awvalid": 0, "bus.wvalid": 0})
        await bench.tick()
        # The cycle in which the write clears it.
        bench.pulse({"irq_status_done": 1})
        await bench.tick()
        bench.pulse({})
        assert bench.get("bus.bvalid")
        for _ in range(3):
            await bench.tick()
            assert bench.get("irq")

    simulate(RegisterFile(TINY), process)


def test_a_doorbell_for_more_than_the_queue_holds_or_less_than_before_is_refused():
    async def process(bench: Bench) -> None:
        await write(bench, offset("QUEUE_SHIFT"), 3)
        # HEAD, and how many beyond it are asked for in turn, the last ones modulo 2^32.
        for head, doorbells in (
            (0, ((3, OKAY), (9, SLVERR), (2, SLVERR), (3, OKAY), (8, OKAY), (7, SLVERR), (0xFFFFFFFF, SLVERR))),
            (2, ((6, OKAY), (5, SLVERR), (8, OKAY))),
            (10, ((0, OKAY), (8, OKAY), (0, SLVERR))),
        ):
            bench.set({"head": head})
            for queued, response in doorbells:
                before = bench.get("tail")
                tail = (head + queued) % (1 << 32)
                assert await write(bench, offset("TAIL"), tail) == response, (head, queued)
                assert bench.get("tail") == (tail if response == OKAY else before)
        bench.pulse({"restart": 1})
        await bench.tick()
        bench.pulse({})
        bench.set({"head": 0xFFFFFFFC})
        for tail, response in ((5, SLVERR), (4, OKAY), (3, SLVERR)):
            assert await write(bench, offset("TAIL"), tail) == response, tail

    simulate(RegisterFile(TINY), process)


def test_the_end_of_a_soft_reset_clears_run_and_tail_alone():
    async def process(bench: Bench) -> None:
        for name, value in (("CONTROL", 1), ("QUEUE_SHIFT", 2), ("TAIL", 3), ("TIMEOUT", 99), ("IRQ_ENABLE", 3)):
            assert await write(bench, offset(name), value) == OKAY
        bench.pulse({"restart": 1})
        await bench.tick()
        bench.pulse({})
        found = {name: bench.get(name) for name in ("control_run", "tail", "timeout", "queue_shift", "irq_enable_done")}
        assert found == {"control_run": 0, "tail": 0, "timeout": 99, "queue_shift": 2, "irq_enable_done": 1}

    simulate(RegisterFile(TINY), process)


def test_counters_add_up_and_are_read_in_one_piece():
    async def process(bench: Bench) -> None:
        sums = dict.fromkeys((counter.name for counter in COUNTERS), 0)

        async def tick(steps: dict[str, int], times: int = 1) -> None:
            bench.set({"steps": {name.lower(): step for name, step in steps.items()}})
            for _ in range(times):
                await bench.tick()
                for name, step in steps.items():
                    sums[name] += step
            bench.set({"steps": {}})

        await tick({counter.name: (1 << counter.step_bits) - 1 for counter in COUNTERS}, 3)
        await tick({counter.name: n % 2 for n, counter in enumerate(COUNTERS)}, 5)
        for name, total in sums.items():
            low, _ = await read(bench, offset(f"{name}_LO"))
            high, _ = await read(bench, offset(f"{name}_HI"))
            assert low + (high << 32) == total, name
        # A carry between the two reads does not tear the number.
        await tick({"QK": (1 << 32) - 1 - sums["QK"] % (1 << 32)})
        low, _ = await read(bench, offset("QK_LO"))
        await tick({"QK": 1})
        high, _ = await read(bench, offset("QK_HI"))
        assert low + (high << 32) == sums["QK"] - 1
        assert low == 0xFFFFFFFF
        await write(bench, offset("CONTROL"), 4)
        await bench.tick()
        for name in sums:
            assert await read(bench, offset(f"{name}_LO")) == (0, OKAY)
            assert await read(bench, offset(f"{name}_HI")) == (0, OKAY)

    simulate(RegisterFile(TINY), process)


def test_no_answer_depends_on_an_input_of_its_cycle():
    component = RegisterFile(TINY)
    assert isinstance(component, wiring.Component)
    assert combinational_paths(netlist(component)) == set()


def test_random_accesses_with_pauses_are_as_the_table_says(tmp_path):
    """The other side is the AXI4-Lite master of cocotbext-axi."""
    run_component(RegisterFile(TINY), "register_file", "register_file_testbench", tmp_path)
