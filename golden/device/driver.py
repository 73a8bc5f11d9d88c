"""Drives a device: finds out what it is, queues descriptors, waits for them and reads their records."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from golden import formats
from golden.device.boards import Buffer, Memory, Window
from golden.device.config import Capability
from golden.device.descriptor import Descriptor, Flag, require_good
from golden.device.layout import Placement, Request, allocate_within
from golden.device.record import Record
from golden.device.registers import BY_NAME, COUNTERS, IDENTITY, MAJOR, REGISTERS
from golden.device.status import DeviceStatus
from golden.errors import InputError
from golden.state import PartialState

WORD = 1 << 32
SLOTS_MAX = 1 << (1 << BY_NAME["QUEUE_SHIFT"].field("value").bits) - 1
POLLS = 100
"""Looks at HEAD before the driver sleeps between them."""

POLL_SECONDS = 1e-4


class DeviceError(RuntimeError):
    """The device is not what it should be, does not answer, or failed; the message says which."""


class DescriptorError(DeviceError):
    """A descriptor failed.

    Parameters
    ----------
    record : Record
        Its completion record.
    """

    def __init__(self, record: Record):
        self.record = record
        status = DeviceStatus(record.status)
        core = f", core status {record.core_status}" if status is DeviceStatus.CORE else ""
        super().__init__(f"descriptor {record.sequence} ended with {status.name}: {status.meaning}{core}")


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """What a request returned.

    Parameters
    ----------
    request : Request
        What was asked for.
    record : Record
        Statistics.
    output : numpy.ndarray, optional
        int16 with `golden.formats.OUTPUT_FRACTION_BITS` fraction bits, shape (query_heads, queries, value_dim). None of
        a request that emits states.
    states : list of PartialState, optional
        Of each block, those of the first kv head first, for such a request.
    """

    request: Request
    record: Record
    output: np.ndarray | None
    states: list[PartialState] | None

    @property
    def real_output(self) -> np.ndarray:
        """Outputs in units of the float tensors, float64, shape (query_heads, queries, value_dim)."""
        if self.output is None:
            raise InputError("a request that emits states has no output")
        attention = self.request.attention
        unit = np.repeat(attention.value_scale, attention.group) / (1 << formats.OUTPUT_FRACTION_BITS)
        real: np.ndarray = self.output * unit[:, None, None]
        return real


def read_capability(window: Window) -> Capability:
    """Return what a device can do.

    Raises
    ------
    DeviceError
        If there is no device, or one of another version.
    """
    identity = window.read32(BY_NAME["ID"].offset)
    if identity != IDENTITY:
        raise DeviceError(
            f"there is no lean-attention device: register ID reads {identity:#010x}, not {IDENTITY:#010x}"
        )
    version = BY_NAME["VERSION"]
    major = version.field("major").of(window.read32(version.offset))
    if major != MAJOR:
        raise DeviceError(f"the device has registers of version {major}; this driver is for {MAJOR}")
    values: dict[str, int] = {}
    for register in REGISTERS:
        names = [field for field in register.fields if field.capability]
        if names:
            word = window.read32(register.offset)
            values |= {field.capability: field.of(word) for field in names}
    return Capability(**values)


class Device:
    """A device, reset and with an empty queue.

    Parameters
    ----------
    window : Window
        Its registers.
    memory : Memory
        That it and the host see.
    interrupt : callable, optional
        Takes the seconds to wait at most and returns when the device's interrupt is high, or time is up. Without it the
        driver polls.
    slots : int
        Descriptors that can wait, a power of two up to 32768.
    timeout_cycles : int
        What the register TIMEOUT is to hold; 0: never.
    seconds : float
        How long `reset` and `wait` wait.

    Raises
    ------
    InputError
        If `slots` or `timeout_cycles` are out of range, or memory has no room or lies where the device can't reach.
    DeviceError
        If there is no such device, or it can't be reset.
    """

    def __init__(
        self,
        window: Window,
        memory: Memory,
        interrupt: Callable[[float], object] | None = None,
        slots: int = 16,
        timeout_cycles: int = 1 << 26,
        seconds: float = 60.0,
    ):
        if not isinstance(slots, int) or not 1 <= slots <= SLOTS_MAX or slots & (slots - 1):
            raise InputError(f"slots must be a power of two from 1 to {SLOTS_MAX}, not {slots!r}")
        if not isinstance(timeout_cycles, int) or not 0 <= timeout_cycles < WORD:
            raise InputError(f"timeout_cycles must be a whole number from 0 to {WORD - 1}, not {timeout_cycles!r}")
        self._window, self.memory, self._interrupt = window, memory, interrupt
        self._slots, self._timeout_cycles, self._seconds = slots, timeout_cycles, seconds
        self.capability = read_capability(window)
        self._buffers: list[Buffer] = []
        try:
            self._queue = self._allocate(slots * Descriptor.SIZE)
            self._records = self._allocate(slots * Record.SIZE)
            self.reset()
        except BaseException:
            self._free()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the device and give the memory of its queue back."""
        self._restart()
        self._free()

    def _allocate(self, size: int) -> Buffer:
        buffer = allocate_within(self.memory, size, self.capability)
        self._buffers.append(buffer)
        return buffer

    def _free(self) -> None:
        for buffer in self._buffers:
            buffer.free()

    def read(self, register: str, field: str = "value") -> int:
        """Return a field of a register."""
        entry = BY_NAME[register]
        return entry.field(field).of(self._window.read32(entry.offset))

    def write(self, register: str, **fields: int) -> None:
        """Write fields of a register, the others as 0."""
        entry = BY_NAME[register]
        word = sum(value << entry.field(name).low for name, value in fields.items())
        self._window.write32(entry.offset, word)

    def _restart(self) -> None:
        """Ask for a soft reset and wait for its end."""
        self.write("IRQ_ENABLE")
        self.write("CONTROL", soft_reset=1)
        end = time.monotonic() + self._seconds
        status = BY_NAME["STATUS"]
        while word := self._window.read32(status.offset):
            if time.monotonic() > end:
                names = [field.name for field in status.fields if field.of(word)]
                raise DeviceError(f"a soft reset has not ended in {self._seconds} s, the device is {', '.join(names)}")

    def reset(self) -> None:
        """End what the device does, clear its counters, and set up an empty queue.

        Raises
        ------
        DeviceError
            If a reset does not end: the memory bus does not answer, and only the device's reset pin helps.
        """
        self._restart()
        # Descriptors count from 1 again: a record of before must not pass for one that could not be written.
        self._records.array[:] = 0
        self._records.flush()
        self.write("CONTROL", clear_counters=1)
        self._window.write32(BY_NAME["IRQ_STATUS"].offset, WORD - 1)
        for name, buffer in (("QUEUE_BASE", self._queue), ("RECORD_BASE", self._records)):
            self._window.write32(BY_NAME[f"{name}_LO"].offset, buffer.address % WORD)
            self._window.write32(BY_NAME[f"{name}_HI"].offset, buffer.address // WORD)
        self.write("QUEUE_SHIFT", value=self._slots.bit_length() - 1)
        self.write("TIMEOUT", value=self._timeout_cycles)
        if self._interrupt is not None:
            self.write("IRQ_ENABLE", done=1)
        self.write("CONTROL", run=1)
        self._submitted = 0

    def submit(self, descriptor: Descriptor, checked: bool = True) -> int:
        """Queue a descriptor and return its number, counted from 1 since the reset.

        Parameters
        ----------
        descriptor : Descriptor
            What to do; the flag INTERRUPT is added for a driver that waits for interrupts.
        checked : bool
            Refuse what the device would.

        Raises
        ------
        InputError
            If the device would refuse it, or the queue is full.
        """
        if checked:
            require_good(descriptor, self.capability)
        if (self._submitted - self.read("HEAD")) % WORD >= self._slots:
            raise InputError(f"all {self._slots} slots of the queue are taken; wait for one")
        if self._interrupt is not None:
            descriptor = replace(descriptor, flags=descriptor.flags | Flag.INTERRUPT)
        first = self._submitted % self._slots * Descriptor.SIZE
        self._queue.array[first : first + Descriptor.SIZE] = np.frombuffer(descriptor.pack(), dtype=np.uint8)
        self._queue.flush()
        self._submitted += 1
        self.write("TAIL", value=self._submitted % WORD)
        return self._submitted

    def _finished(self, number: int) -> bool:
        # Modulo 2^32 a number that HEAD has reached is not far behind it.
        return (self.read("HEAD") - number) % WORD < WORD // 2

    def wait(self, number: int) -> Record:
        """Wait for the descriptor `number`, and return its record, whatever its status.

        Ask before its slot is used again, that is before `slots` more are submitted.

        Raises
        ------
        InputError
            If it is not one of the last `slots` that were submitted since the reset.
        DeviceError
            If it does not end in time, or its record could not be written.
        """
        if not max(0, self._submitted - self._slots) < number <= self._submitted:
            raise InputError(
                f"descriptor {number} is not one of the last {self._slots} that were submitted, up to {self._submitted}"
            )
        end = time.monotonic() + self._seconds
        polls = 0
        while True:
            if self._interrupt is not None:
                # Cleared before HEAD is read, so that one which comes now is not lost.
                self.write("IRQ_STATUS", done=1)
            if self._finished(number):
                break
            left = end - time.monotonic()
            if left <= 0:
                names = [field.name for field in BY_NAME["STATUS"].fields if self.read("STATUS", field.name)]
                state = " and ".join(names) or "idle"
                raise DeviceError(f"descriptor {number} has not ended in {self._seconds} s, the device is {state}")
            if self._interrupt is not None:
                self._interrupt(left)
            elif polls >= POLLS:
                time.sleep(POLL_SECONDS)
            polls += 1
        self._records.invalidate()
        first = (number - 1) % self._slots * Record.SIZE
        record = Record.parse(self._records.array[first : first + Record.SIZE].tobytes())
        if record.sequence != number % WORD:
            code = self.read("ERROR", "status")
            known = DeviceStatus(code).name if code in list(DeviceStatus) else code
            raise DeviceError(f"descriptor {number} has ended without a record; the last error is {known}")
        return record

    def run(self, request: Request) -> DeviceResult:
        """Lay out a request, have it done, and return the results.

        If the wait for it fails the device is reset, which ends all that is queued.

        Raises
        ------
        InputError
            If the request does not fit the device or its memory.
        DescriptorError
            If the device failed.
        """
        placement = Placement(request, self.capability, self.memory)
        try:
            record = self.wait(self.submit(placement.descriptor))
        except InputError:
            placement.free()
            raise
        except BaseException:
            # Nothing may be written any more to memory that is given back.
            self.reset()
            placement.free()
            raise
        try:
            if record.status != DeviceStatus.OK:
                raise DescriptorError(record)
            states = placement.states() if request.emit_state else None
            return DeviceResult(request, record, None if states is not None else placement.output(), states)
        finally:
            placement.free()

    def counters(self) -> dict[str, int]:
        """Return the device's counters by name, since the reset."""
        counts = {}
        for counter in COUNTERS:
            low, high = (self._window.read32(BY_NAME[f"{counter.name}_{half}"].offset) for half in ("LO", "HI"))
            counts[counter.name] = high * WORD + low
        return counts
