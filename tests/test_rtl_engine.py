"""The queue, interrupts, records and faults of the engine, to the cycle; the test stands for what runs a descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from rtl_bench import Bench, simulate
from stream_rules import Sink, Stall, at_random, flowing
from test_rtl_totals import CONFIG, CORE, random_stats

from golden.device.descriptor import Descriptor, Flag
from golden.device.record import Record
from golden.device.status import DeviceStatus
from rtl.axi import engine
from rtl.axi.datapath import Datapath
from rtl.axi.engine import Engine

QUEUE, RECORDS = 0x12_0000_0000, 0x34_5678_9A40
SHIFT = 2
BEATS = Record.SIZE // CONFIG.beat_bytes
TO_RECORD, FROM_RESET = 2, 3


class Ports(Datapath):
    """The ports of a datapath, for the test to drive. `alive` falls for the cycle after a reset."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.alive = Signal()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.sync += self.alive.eq(1)
        return m


@dataclass(frozen=True)
class Plan:
    """What the datapath does with a descriptor, in cycles from its start."""

    known: int = 3
    ends: int = 8
    fails: int | None = None
    status: DeviceStatus = DeviceStatus.READ
    drains: int = 4
    """Cycles of the flush until it is idle."""
    flags: int = 0
    tag: int = 0xCAFE0001
    answer: int = 5
    """Cycles from a record's last beat until it is written."""
    silent: bool = False
    """Whether nothing moves, which is no progress."""


class DatapathModel:
    """Drives the engine's datapath by plans, and notes what the engine does."""

    def __init__(self, bench: Bench, plan: Plan | None = None, stall: Stall = flowing):
        self.plan = plan or Plan()
        self.begun: list[tuple[int, int]] = []
        """Cycle and address of each start."""
        self.records: list[tuple[int, Record]] = []
        """Address and content of those that are written."""
        self.first_beats: list[int] = []
        self.pulses: dict[str, list[int]] = {"done": [], "fault": [], "restart": []}
        self.ended: list[int] = []
        """Cycles in which a descriptor ended, or was idle after a fault."""
        self.written: list[int] = []
        """First cycles in which a record's write is no longer pending."""
        self.resets: list[int] = []
        self._bench = bench
        self._sink = Sink(bench, "datapath.beats", stall)
        self._start: int | None = None
        self._flushed = 0
        self._answers: int | None = None
        bench.set(
            {"run": 1, "queue_base": QUEUE, "record_base": RECORDS, "queue_shift": SHIFT, "datapath.pending": 0},
        )

    @property
    def cycle(self) -> int:
        return self._bench.cycle

    def step(self, extra: dict[str, Any] | None = None) -> None:
        """Drive this cycle, with more ports of the test's own for just that cycle, and look at it."""
        bench, plan = self._bench, self.plan
        age = None if self._start is None else self.cycle - self._start
        ports: dict[str, Any] = dict(extra or {})
        if age == plan.known:
            fields = {"tag": plan.tag, "flags": plan.flags}
            ports |= {"datapath.known": 1, "datapath.descriptor": _descriptor(**fields)}
        if age is not None and age == plan.fails:
            ports |= {"datapath.fault": 1, "datapath.status": plan.status}
        if not plan.silent:
            ports["datapath.progress"] = 1
        bench.pulse(ports)
        ended = age is not None and plan.fails is None and age >= plan.ends
        bench.set({"datapath.ended": ended})
        if ended and age == plan.ends:
            self.ended.append(self.cycle)
        if bench.get("datapath.flush"):
            bench.set({"datapath.idle": self._flushed >= plan.drains})
            if self._flushed == plan.drains:
                self.ended.append(self.cycle)
            self._flushed += 1
        if not bench.get("datapath.alive") and self.cycle:
            self.resets.append(self.cycle)
            self._start = None
        if self._answers == self.cycle:
            bench.set({"datapath.pending": 0})
            self.written.append(self.cycle)
            self._answers = None
        if self._sink.step():
            self._take()
        if bench.get("datapath.start"):
            self.begun.append((self.cycle, bench.get("datapath.address")))
            self._start, self._flushed = self.cycle, 0
        for name, cycles in self.pulses.items():
            if bench.get(name):
                cycles.append(self.cycle)

    def _take(self) -> None:
        """Note a beat of a record."""
        beats = self._sink.words[-BEATS:]
        number = (len(self._sink.words) - 1) % BEATS
        if number == 0:
            self.first_beats.append(self._sink.offered[-1])
        if number == BEATS - 1:
            assert [beat["address"] - beats[0]["address"] for beat in beats] == [8 * n for n in range(BEATS)]
            content = b"".join(beat["data"].to_bytes(CONFIG.beat_bytes, "little") for beat in beats)
            self.records.append((beats[0]["address"], Record.parse(content)))
            self._answers = self.cycle + self.plan.answer
        self._bench.set({"datapath.pending": 1})


def _descriptor(**fields: int) -> dict[str, int]:
    return {part.name: fields.get(part.name, 0) for part in Descriptor.layout()}


def run(monkeypatch: pytest.MonkeyPatch, process: Any) -> None:
    """Simulate an engine whose datapath the test drives."""
    ports = Ports()
    monkeypatch.setattr(engine, "Datapath", lambda config: ports)
    component = Engine(CONFIG)
    component.datapath = ports  # type: ignore[attr-defined]
    simulate(component, process)


async def until_head(bench: Bench, model: DatapathModel, head: int, extra: dict[int, dict[str, Any]] | None = None):
    """Go on until so many descriptors are finished; `extra` ports are driven in the cycles that they are for."""
    while bench.get("head") != head or bench.get("busy"):
        model.step((extra or {}).get(bench.cycle))
        await bench.tick()


async def some_cycles(bench: Bench, model: DatapathModel, count: int) -> None:
    for _ in range(count):
        model.step()
        await bench.tick()


def error(bench: Bench) -> tuple[int, int, int]:
    """Return what register ERROR shows."""
    return tuple(bench.get(f"error_{name}") for name in ("status", "core_status", "slot"))


@pytest.mark.parametrize("stall", [flowing, at_random(2, 0.6)], ids=["flowing", "stalled"])
def test_descriptors_follow_each_other_through_the_queue(monkeypatch: pytest.MonkeyPatch, stall: Stall):
    """Slot by slot and round again; each record is written before the next descriptor is begun."""
    count = 7

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(flags=Flag.INTERRUPT), stall)
        bench.set({"tail": count})
        await until_head(bench, model, count)
        await some_cycles(bench, model, 10)
        slots = [n % (1 << SHIFT) for n in range(count)]
        assert [address for _, address in model.begun] == [QUEUE + Descriptor.SIZE * slot for slot in slots]
        assert [address for address, _ in model.records] == [RECORDS + Record.SIZE * slot for slot in slots]
        assert [record.sequence for _, record in model.records] == list(range(1, count + 1))
        assert {(record.tag, record.status, record.core_status) for _, record in model.records} == {(0xCAFE0001, 0, 0)}
        # The latencies of the docstring; each descriptor is begun when the one before is done.
        starts = [cycle for cycle, _ in model.begun]
        assert starts == [0, *(cycle + 1 for cycle in model.pulses["done"][:-1])]
        assert model.pulses["done"] == [cycle + 1 for cycle in model.written]
        assert model.ended == [start + model.plan.ends for start in starts]
        assert model.first_beats == [cycle + TO_RECORD for cycle in model.ended]
        assert model.pulses["fault"] == model.pulses["restart"] == model.resets == []
        assert error(bench) == (0, 0, 0)

    run(monkeypatch, process)


@pytest.mark.parametrize("shift", [0, 2, 15])
def test_head_and_sequence_wrap(monkeypatch: pytest.MonkeyPatch, shift: int):
    """With a slot, some, and as many as there can be."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench)
        bench.set({"head": (1 << 32) - 1, "tail": 1, "queue_shift": shift})
        await until_head(bench, model, 1)
        last = (1 << shift) - 1
        assert [address for _, address in model.begun] == [QUEUE + last * Descriptor.SIZE, QUEUE]
        assert [address for address, _ in model.records] == [RECORDS + last * Record.SIZE, RECORDS]
        assert [record.sequence for _, record in model.records] == [0, 1]
        await some_cycles(bench, model, 5)
        assert len(model.begun) == 2

    run(monkeypatch, process)


def test_only_a_descriptor_that_asks_for_it_interrupts(monkeypatch: pytest.MonkeyPatch):
    async def process(bench: Bench) -> None:
        model = DatapathModel(bench)
        for head, flags in enumerate((0, Flag.INTERRUPT, Flag.EMIT_STATE, Flag.INTERRUPT | Flag.PAGED), 1):
            model.plan = Plan(flags=int(flags), tag=head)
            bench.set({"tail": head})
            await until_head(bench, model, head)
        await some_cycles(bench, model, 5)
        assert [record.tag for _, record in model.records] == [1, 2, 3, 4]
        assert model.pulses["done"] == [model.written[1] + 1, model.written[3] + 1]

    run(monkeypatch, process)


def test_what_is_begun_is_finished_when_run_is_cleared(monkeypatch: pytest.MonkeyPatch):
    async def process(bench: Bench) -> None:
        model = DatapathModel(bench)
        bench.set({"tail": 2})
        model.step()
        await bench.tick()
        bench.set({"run": 0})
        await until_head(bench, model, 1)
        await some_cycles(bench, model, 20)
        assert len(model.begun) == len(model.records) == 1
        bench.set({"run": 1})
        await until_head(bench, model, 2)
        assert model.records[1][1].status == DeviceStatus.OK

    run(monkeypatch, process)


FAULTS = [DeviceStatus.DESCRIPTOR, DeviceStatus.PAGE, DeviceStatus.EMPTY, DeviceStatus.READ, DeviceStatus.WRITE]


def test_a_fault_is_told_drained_and_left_behind(monkeypatch: pytest.MonkeyPatch):
    """Each kind of the datapath's, at several times, however long the bus takes; the descriptor after it is right."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench)
        head = 0
        for number, status in enumerate(FAULTS):
            # Before, with and after the descriptor is known.
            fails = model.plan.known - 1 + number % 3
            model.plan = Plan(fails=fails, status=status, drains=7 * number)
            for cycles in (model.begun, model.ended, model.first_beats, model.written, model.resets, model.records):
                cycles.clear()
            for cycles in model.pulses.values():
                cycles.clear()
            bench.set({"tail": head + 1})
            while not bench.get("draining"):
                model.step()
                await bench.tick()
            while not model.resets:
                assert bench.get("datapath.flush") == (model.ended == [])
                model.step()
                await bench.tick()
            assert not bench.get("draining")
            await until_head(bench, model, head + 1)
            (start, _), (fault,), (idle,) = *model.begun, model.pulses["fault"], model.ended
            assert fault == start + fails
            assert idle == fault + 1 + 7 * number
            assert model.resets == [idle + 2]
            assert model.first_beats == [idle + FROM_RESET]
            assert model.pulses["done"] == [model.written[0] + 1]
            ((_, record),) = model.records
            tag = model.plan.tag if fails >= model.plan.known else 0
            assert (record.status, record.core_status, record.tag) == (status, 0, tag)
            # Through DRAIN; a cycle each for the start and the reset does not count.
            assert record.cycles == idle - start
            assert error(bench) == (status, 0, head % (1 << SHIFT))
            head += 1

            model.plan = Plan()
            bench.set({"tail": head + 1})
            await until_head(bench, model, head + 1)
            assert model.records[-1][1].status == DeviceStatus.OK
            assert model.pulses["fault"] == [fault]
            assert len(model.pulses["done"]) == 1
            # It stays: of the last that failed.
            assert error(bench) == (status, 0, (head - 1) % (1 << SHIFT))
            head += 1

    run(monkeypatch, process)


def test_faults_of_a_device_that_is_idle_or_has_one_already_are_not_told(monkeypatch: pytest.MonkeyPatch):
    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(fails=5, drains=10))
        fault = {"datapath.fault": 1, "datapath.status": DeviceStatus.PAGE}
        for _ in range(3):
            model.step(fault)
            await bench.tick()
        begins = bench.cycle
        bench.set({"tail": 1})
        await until_head(bench, model, 1, {cycle: fault for cycle in range(begins + 6, begins + 40)})
        assert model.pulses["fault"] == [begins + 5]
        assert model.records[0][1].status == DeviceStatus.READ
        assert error(bench) == (DeviceStatus.READ, 0, 0)

    run(monkeypatch, process)


def stats(status: int, seed: int = 1) -> dict[str, Any]:
    return {
        "datapath.stats.valid": 1,
        "datapath.stats.payload": random_stats(np.random.default_rng(seed), status),
    }


def test_a_job_that_fails_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch):
    """Another one that fails while the bus is drained counts, but its status is not told; nor in the next record."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(ends=1000, drains=CORE.rows + 9))
        bench.set({"tail": 1})
        await until_head(bench, model, 1, {6: stats(11), 8 + CORE.rows: stats(12)})
        ((_, record),) = model.records
        assert (record.status, record.core_status, record.jobs) == (DeviceStatus.CORE, 11, 2)
        assert error(bench) == (DeviceStatus.CORE, 11, 0)
        assert model.pulses["fault"] == [6]

        for head, fails in ((2, None), (3, 5)):
            start = bench.cycle
            model.plan = Plan(fails=fails, drains=CORE.rows + 9)
            bench.set({"tail": head})
            await until_head(bench, model, head, {} if fails is None else {start + 8: stats(12)})
            record = model.records[-1][1]
            assert (record.status, record.core_status) == (DeviceStatus.OK if fails is None else DeviceStatus.READ, 0)
        assert error(bench) == (DeviceStatus.READ, 0, 2)

    run(monkeypatch, process)


def test_a_job_that_ends_with_the_drain_is_in_the_record(monkeypatch: pytest.MonkeyPatch):
    """In its last cycles and that of the reset: the record waits until the job's rows are looked at."""
    drains = 6

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(fails=5, drains=drains))
        for number, at in enumerate(range(5, 5 + drains + 3)):
            # Cycle 5 is the fault, then the flush; it is idle in the last cycle but one, and then reset.
            bench.set({"tail": number + 1})
            one = stats(0, seed=at)
            job = one["datapath.stats.payload"]
            await until_head(bench, model, number + 1, {bench.cycle + at: one})
            record = model.records[-1][1]
            assert record.jobs == 1
            assert record.keys == job["counts"]["keys"]
            assert record.dropped == max(job["counts"]["dropped"])
            assert record.tau == job["tau"]
            waits = max(0, at + CORE.rows + 1 - (5 + drains + 3))
            assert model.first_beats[-1] == model.ended[-1] + FROM_RESET + waits

    run(monkeypatch, process)


def test_of_faults_in_one_cycle_the_bus_is_told(monkeypatch: pytest.MonkeyPatch):
    """Then the core, the timeout, the soft reset."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(fails=9, silent=True))
        bench.set({"timeout": 8})
        expected = [DeviceStatus.READ, DeviceStatus.CORE, DeviceStatus.TIMEOUT, DeviceStatus.RESET]
        for number, status in enumerate(expected):
            silent = number < 3
            model.plan = Plan(fails=9 if number < 1 else None, ends=50, silent=silent)
            bench.set({"tail": 1})
            start = bench.cycle
            extra: dict[int, dict[str, Any]] = {start + 8: {"soft_reset": 1}}
            if number < 2:
                extra[start + 9] = stats(7)
            while not bench.get("draining"):
                model.step(extra.get(bench.cycle))
                await bench.tick()
            assert bench.cycle == start + 10
            model.plan = Plan()
            await until_head(bench, model, 1)
            model.step()
            assert model.pulses["restart"][-1] == bench.cycle
            bench.set({"tail": 0})
            await bench.tick()
            record = model.records[-1][1]
            assert (record.status, record.core_status) == (status, 7 if status is DeviceStatus.CORE else 0)

    run(monkeypatch, process)


@pytest.mark.parametrize("cycles", [0, 1, 20])
def test_a_timeout(monkeypatch: pytest.MonkeyPatch, cycles: int):
    """So many cycles after the last progress, 0 for never; waiting in the queue is no part of it."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(silent=True, ends=300))
        bench.set({"timeout": cycles})
        await some_cycles(bench, model, 50)
        bench.set({"tail": 1})
        start = bench.cycle
        last = start + 25
        progress = {cycle: {"datapath.progress": 1} for cycle in range(start + 1, last + 1)}
        if cycles:
            while not bench.get("draining"):
                model.step(progress.get(bench.cycle))
                await bench.tick()
            assert model.pulses["fault"] == [last + 1 + cycles]
            assert error(bench) == (DeviceStatus.TIMEOUT, 0, 0)
            model.plan = Plan()
        await until_head(bench, model, 1, progress)
        status = DeviceStatus.TIMEOUT if cycles else DeviceStatus.OK
        assert model.records[0][1].status == status

    run(monkeypatch, process)


@pytest.mark.parametrize("late", [False, True], ids=["answered with an error", "not answered in time"])
def test_a_record_that_can_not_be_written_is_told_by_the_registers(monkeypatch: pytest.MonkeyPatch, late: bool):
    """The error comes when the write is no longer pending. The descriptor after it is right."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(answer=40, silent=late))
        bench.set({"timeout": 30, "tail": 2})
        while not model.first_beats:
            model.step({"datapath.progress": 1})
            await bench.tick()
        written = model.first_beats[0] + BEATS - 1 + 40
        await until_head(bench, model, 1, {} if late else {written: {"datapath.write_error": 1}})
        # The last progress is that of the cycle of the first beat.
        assert model.pulses["fault"] == [model.first_beats[0] + 1 + 30 if late else written]
        assert error(bench) == (DeviceStatus.TIMEOUT if late else DeviceStatus.WRITE, 0, 0)
        assert model.written == [written]
        model.plan = Plan()
        await until_head(bench, model, 2)
        assert [record.status for _, record in model.records] == [0, 0]
        assert len(model.pulses["fault"]) == 1
        assert model.resets == []

    run(monkeypatch, process)


@pytest.mark.parametrize("fails", [None, 5], ids=["good", "with a fault"])
def test_a_soft_reset_in_every_cycle(monkeypatch: pytest.MonkeyPatch, fails: int | None):
    """What is begun ends with a record; then all is as after a reset, and a descriptor runs."""

    async def process(bench: Bench) -> None:
        plan = Plan(fails=fails, flags=Flag.INTERRUPT)
        model = DatapathModel(bench, plan)
        seen = set()
        together = False
        for at in range(30):
            model = DatapathModel(bench, plan)
            bench.set({"tail": 3})
            start = bench.cycle
            while not bench.get("resetting"):
                model.step({"soft_reset": 1} if bench.cycle == start + at else None)
                assert bench.get("restart") == 0
                await bench.tick()
            # That one counts which comes while another is under way.
            again = bench.cycle + 1
            while not model.pulses["restart"]:
                assert bench.get("resetting")
                model.step({"soft_reset": 1} if bench.cycle == again else None)
                await bench.tick()
            assert (bench.get("head"), bench.get("busy"), bench.get("draining")) == (0, 0, 0)
            assert error(bench) == (0, 0, 0)
            # The registers clear what software wrote; nothing is begun before.
            bench.set({"run": 0, "tail": 0})
            begun = len(model.begun)
            assert (begun > 0) == (at > 0)
            await some_cycles(bench, model, 4)
            assert not bench.get("resetting")
            # One that comes when the other is done is another.
            restarts = model.pulses["restart"]
            assert len(restarts) == 1 + (restarts[0] == again)
            together |= restarts[0] == again
            # All that ran is reset, also if nothing did.
            assert model.resets[-1] == model.pulses["restart"][-1] + 1
            assert len(model.records) == len(model.written) == begun
            statuses = [record.status for _, record in model.records]
            seen |= set(statuses)
            assert statuses[:-1] == [DeviceStatus.OK if fails is None else plan.status] * (begun - 1)
            # A fault in the cycle after it is told before it.
            if statuses and at < (plan.ends if fails is None else fails - 1):
                assert statuses == [DeviceStatus.RESET]
            assert len(model.pulses["done"]) == begun

            model.plan = Plan()
            bench.set({"run": 1, "tail": 1})
            await until_head(bench, model, 1)
            assert model.records[-1][1].status == DeviceStatus.OK
            assert model.records[-1][1].sequence == 1
            assert model.begun[-1][1] == QUEUE
            bench.set({"run": 0, "tail": 0, "head": 0})
            await bench.tick()
        assert seen == {DeviceStatus.RESET, DeviceStatus.OK if fails is None else plan.status}
        assert together

    run(monkeypatch, process)


def test_what_moves_is_counted(monkeypatch: pytest.MonkeyPatch):
    """Cycles always, busy ones from the start on, bytes whenever a beat moves, a job's uses when its record comes."""

    async def process(bench: Bench) -> None:
        model = DatapathModel(bench, Plan(ends=20))
        bench.set({"tail": 1})
        one = stats(0)
        beats = {5: (1, 0), 6: (1, 1), 30: (0, 1)}
        extra: dict[int, dict[str, Any]] = {7: one}
        for cycle, (read, write) in beats.items():
            extra[cycle] = {"datapath.read_beat": read, "datapath.write_beat": write}
        sums: dict[str, int] = {}
        while bench.get("head") != 1:
            model.step(extra.get(bench.cycle))
            for name, step in bench.get("steps").items():
                sums[name] = sums.get(name, 0) + step
            await bench.tick()
        size = CONFIG.beat_bytes
        uses = one["datapath.stats.payload"]["cycles"]
        assert sums == {
            "cycles": bench.cycle,
            "busy": bench.cycle - 1,
            "read_bytes": 2 * size,
            "write_bytes": 2 * size,
            "jobs": 1,
            **dict(zip(("qk", "pv", *(f"wait_{name}" for name in WAITS)), uses, strict=True)),
        }
        record = model.records[0][1]
        # Those of a record are no part of it.
        assert (record.read_bytes, record.write_bytes, record.cycles) == (2 * size, size, 20)

    run(monkeypatch, process)


WAITS = ("query", "key", "value", "output", "score")
