"""The cocotb side of the device's fault injection: each fault once, then the next request, which has to be right."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import cocotb
import numpy as np
from cocotb.task import Task, bridge, resume
from cocotb.triggers import ClockCycles

from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor
from golden.device.layout import Request
from golden.device.registers import BY_NAME
from golden.device.status import DeviceStatus
from golden.masks import MaskKind
from sim.core_testbench import raise_problems
from sim.descriptor_faults import DESCRIPTORS, beyond
from sim.runner import load_work, report_progress, save_result
from sim.simulated_device import Session, SimulatedDevice, record_differences

TIMEOUT_CYCLES = 600
STALL_CYCLES = 4000
DEAD_CYCLES = 2000
CHANNELS = range(5)
READ_CHANNELS = CHANNELS[:2]


@dataclass(frozen=True)
class FaultRun:
    """A fault in the middle of a request, and a request after it.

    Parameters
    ----------
    label : str
        Names the run in messages.
    kind : str
        Which fault, of `KINDS`.
    request, following : Request
        What is asked for.
    behind : Request, optional
        What is queued with the request, and done when it has failed; it does not go on from its tau.
    latency : int
        Cycles of the memory.
    pause : float
        Share of the cycles in which a channel pauses.
    seed : int
        Of the pauses, and of where and when the fault is.
    """

    label: str
    kind: str
    request: Request
    following: Request
    latency: int
    pause: float
    seed: int
    behind: Request | None = None


@dataclass(frozen=True)
class FaultWork:
    """What a simulation has to do."""

    config: DeviceConfig
    runs: list[FaultRun]


MEMORY = {"page entry": "pages", "no key": "block_mask"}
"""Ways to spoil what a descriptor points to, and what the request must have."""

BUS = ("read error", "write error", "stall", "silent keys", "soft reset", "dead bus")
"""What happens at a random time."""

TOLD = {
    "read error": ({DeviceStatus.READ}, {DeviceStatus.READ}),
    # That of the record itself only the register can tell.
    "write error": ({DeviceStatus.WRITE, DeviceStatus.OK}, {DeviceStatus.WRITE}),
    "stall": ({DeviceStatus.TIMEOUT, DeviceStatus.OK}, {DeviceStatus.TIMEOUT, DeviceStatus.OK}),
    "silent keys": ({DeviceStatus.CORE, DeviceStatus.OK}, {DeviceStatus.CORE, DeviceStatus.OK}),
}
"""What may be in the record and in register ERROR once a fault of the bus has happened."""

KINDS = (*DESCRIPTORS, *MEMORY, *BUS)


def kinds_of(config: DeviceConfig) -> list[str]:
    """Return the kinds of faults that a device can have."""
    absent = set()
    if not config.page_entries:
        absent.add("page entry")
    if not beyond(Descriptor(), config):
        absent.add("unsupported")
    if config.core.key_timeout >= STALL_CYCLES:
        absent.add("silent keys")
    return [kind for kind in KINDS if kind not in absent]


class FaultSession:
    """A run of one fault.

    Parameters
    ----------
    device : SimulatedDevice
        The device.
    config : DeviceConfig
        Its configuration.
    run : FaultRun
        What to do.
    """

    def __init__(self, device: SimulatedDevice, config: DeviceConfig, run: FaultRun):
        self._device, self._config, self._run = device, config, run
        self._random = random.Random(run.seed)
        self._fired = False
        self._disturbance: Task[None] | None = None

    def go(self) -> DeviceStatus:
        """Do the request as it is, then with the fault, then another; return how the one with the fault ended."""
        run = self._run
        self._begin()
        record, problems = self._session.run(run.request)
        raise_problems(f"{run.label}, without it", problems)
        assert self._told() is DeviceStatus.OK, f"{run.label}: an error without a fault"
        meet = {"soft reset": self._soft_reset, "dead bus": self._dead_bus}.get(run.kind, self._fault)
        ended = meet(record.cycles)
        _, problems = self._session.run(run.following)
        raise_problems(f"{run.label}, which ended with {ended.name}, the request after it", problems)
        self._driver.close()
        return ended

    def _begin(self) -> None:
        """Set the device up."""
        timeout = TIMEOUT_CYCLES if self._run.kind in ("stall", "dead bus") else 0
        self._session = Session(self._device, self._config, timeout)
        self._driver = self._session.driver

    def _told(self) -> DeviceStatus:
        """Return what register ERROR says, after which the interrupt is cleared."""
        status = DeviceStatus(self._driver.read("ERROR", "status"))
        pending = self._driver.read("IRQ_STATUS", "fault")
        self._driver.write("IRQ_STATUS", fault=1)
        assert pending == (status is not DeviceStatus.OK), (
            f"{self._run.label}: interrupt {pending}, ERROR {status.name}"
        )
        return status

    def _fault(self, cycles: int) -> DeviceStatus:
        """Do the request with the fault, which may come too late to matter, and what is queued behind it."""
        session, kind, label = self._session, self._run.kind, self._run.label
        twin = session.twin
        requests = [self._run.request] + ([self._run.behind] if self._run.behind is not None else [])
        placements = [session.place(request) for request in requests]
        descriptors = [placement.descriptor for placement in placements]
        expected = [session.expect(descriptors[0])]
        if kind in DESCRIPTORS:
            descriptors[0] = DESCRIPTORS[kind](self._random, descriptors[0], self._config)
            expected = [session.expect(descriptors[0])]
        elif kind in MEMORY:
            # What the good one writes may be written before the fault is found.
            written = twin.written
            self._spoil_memory(descriptors[0])
            expected = [session.expect(descriptors[0])]
            twin.written |= written
        else:
            resume(self._arm)(self._random.randrange(cycles))
        foreseen = DeviceStatus(expected[0].status)
        assert (foreseen is DeviceStatus.OK) == (kind in BUS), f"{label}: the model ends with {foreseen.name}"
        outputs = [twin.written.copy()]
        for descriptor in descriptors[1:]:
            expected.append(session.expect(descriptor, ahead=1))
            outputs.append(twin.written & ~outputs[0])

        numbers = [self._driver.submit(descriptor, checked=False) for descriptor in descriptors]
        for number in numbers:
            self._driver.wait(number)
        records = [session.finished() for _ in numbers]
        resume(self._calm)()
        for placement in placements:
            placement.free()
        error, statuses = self._told(), [DeviceStatus(record.status) for record in records]
        seen = f"{label}: records say {' and '.join(status.name for status in statuses)}, register ERROR {error.name}"
        in_record, in_register = TOLD[kind] if self._fired else ({foreseen}, {foreseen})
        assert statuses[0] in in_record | ({DeviceStatus.OK} if len(statuses) > 1 else set()), seen
        assert error in in_register, seen
        failed = [status for status in statuses if status is not DeviceStatus.OK]
        assert len(failed) <= 1, seen
        assert all(status is error for status in failed), seen
        problems = list(session.memory.violations)
        for record, known, output in zip(records, expected, outputs, strict=True):
            if record.status == DeviceStatus.OK:
                problems += record_differences(known, record)
            else:
                session.disregard(output)
        raise_problems(f"{seen}; descriptors that are done", problems + twin.differences())
        if statuses[-1] is not DeviceStatus.OK:
            session.forget()
        return error

    def _spoil_memory(self, d: Descriptor) -> None:
        """Spoil an entry of the page table, or take all keys from a block."""
        content = self._session.memory.content
        if self._run.kind == "page entry":
            end = d.end_key if d.mask == MaskKind.NONE else min(d.end_key, d.first_position + d.queries)
            key = self._random.randrange(max(d.first_key, end - self._config.core.lanes), end)
            place = d.page_table_address + 4 * (key >> d.page_shift)
            spoilt = np.uint32(d.page_count + self._random.choice([0, 1, 1000, (1 << 32) - 1 - d.page_count])).tobytes()
        else:
            blocks = -(-d.queries * d.group // self._config.core.rows)
            head, block = self._random.randrange(d.kv_heads), self._random.randrange(blocks)
            place = d.mask_address + head * d.mask_head_stride + block * d.mask_row_stride
            spoilt = bytes(d.mask_row_stride)
        first = place - self._device.memory.base
        content[first : first + len(spoilt)] = spoilt

    async def _arm(self, delay: int) -> None:
        """Have the fault of a bus happen so many cycles from now."""
        self._disturbance = cocotb.start_soon(self._disturb(delay))

    async def _calm(self) -> None:
        """Have it happen no more, and end."""
        if self._disturbance is not None:
            self._disturbance.cancel()
            await ClockCycles(self._device.dut.aclk, 1)
        self._device.memory.calm()

    async def _disturb(self, delay: int) -> None:
        memory = self._device.memory
        await ClockCycles(self._device.dut.aclk, delay)

        def once() -> bool:
            """Fail the first that asks."""
            fails, self._fired = not self._fired, True
            return fails

        if self._run.kind == "read error":
            memory.fail_read = once
        elif self._run.kind == "write error":
            memory.fail_write = once
        else:
            self._fired = True
            memory.stall(self._random.choice(CHANNELS if self._run.kind == "stall" else READ_CHANNELS))
            await ClockCycles(self._device.dut.aclk, STALL_CYCLES)
            memory.calm()

    def _soft_reset(self, cycles: int) -> DeviceStatus:
        """Reset in the middle of the request; return how it ended, which is with OK if it was not begun."""
        session, label = self._session, self._run.label
        placement = session.place(self._run.request)
        session.expect(placement.descriptor)
        number = self._driver.submit(placement.descriptor)
        resume(self._wait)(self._random.randrange(cycles))
        self._driver.write("CONTROL", soft_reset=1)
        while self._driver.read("STATUS", "resetting"):
            pass
        record = session.finished()
        self._driver.reset()
        placement.free()
        raise_problems(label, session.memory.violations)
        self._told()
        session.restarted()
        if record.sequence != number:
            return DeviceStatus.OK
        assert record.status in (DeviceStatus.OK, DeviceStatus.RESET), f"{label}: the record says {record.status}"
        return DeviceStatus(record.status)

    def _dead_bus(self, cycles: int) -> DeviceStatus:
        """Have the bus answer no more: the device says so, and can be used again after a reset of both."""
        session, driver, label = self._session, self._driver, self._run.label
        placement = session.place(self._run.request)
        session.expect(placement.descriptor)
        driver.write("IRQ_ENABLE", done=1, fault=1)
        number = driver.submit(placement.descriptor)
        resume(self._wait)(self._random.randrange(cycles))
        session.memory.stall(*CHANNELS)
        resume(self._device.interrupt)()
        finished = driver.read("HEAD") == number
        if not finished:
            resume(self._wait)(DEAD_CYCLES)
            driver.write("CONTROL", soft_reset=1)
            resume(self._wait)(DEAD_CYCLES)
            held = {name: driver.read("STATUS", name) for name in ("busy", "draining", "resetting")}
            told = {name: driver.read("IRQ_STATUS", name) for name in ("done", "fault")}
            assert driver.read("HEAD") == number - 1, f"{label}: the descriptor has ended"
            assert (held["busy"], held["resetting"]) == (1, 1), f"{label}: STATUS {held}"
            assert told == {"done": 0, "fault": 1}, f"{label}: IRQ_STATUS {told}"
            assert driver.read("ERROR", "status") == DeviceStatus.TIMEOUT, f"{label}: register ERROR has another status"
        raise_problems(label, session.memory.violations)
        resume(self._device.reset)(self._run.latency, self._run.pause, self._run.seed)
        names = ("HEAD", "TAIL", "ERROR", "IRQ_STATUS", "STATUS")
        left = [name for name in names if any(driver.read(name, field.name) for field in BY_NAME[name].fields)]
        assert not left, f"{label}: a reset leaves {' and '.join(left)}"
        self._begin()
        return DeviceStatus.OK if finished else DeviceStatus.TIMEOUT

    async def _wait(self, cycles: int) -> None:
        await ClockCycles(self._device.dut.aclk, cycles + 1)


@cocotb.test()
async def replay(dut):
    """Every fault is told as it should be, writes nothing outside the output, and leaves the next request right."""
    work: FaultWork = load_work()
    device = SimulatedDevice(dut, work.config)
    ended: Counter[tuple[str, str]] = Counter()
    for run in work.runs:
        await device.reset(run.latency, run.pause, run.seed)
        status = await bridge(FaultSession(device, work.config, run).go)()
        ended[run.kind, status.name] += 1
        report_progress()
    save_result(ended)
