"""A board without hardware: memory, registers as their table means them, and the device's specification behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from register_model import OKAY, RegisterModel

from golden.device.boards import MappedMemory
from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor
from golden.device.model import BusError, DeviceModel
from golden.device.record import Record
from golden.device.registers import BY_NAME
from golden.device.status import DeviceStatus

BASE = 0x1_2000_0000
"""Where the device finds its memory: above 32 bits."""


class FakeBus:
    """Memory that notes what the device touches."""

    def __init__(self, size: int = 1 << 22):
        self.content = np.zeros(size, dtype=np.uint8)
        self.written = np.zeros(size, dtype=bool)

    def _place(self, address: int, size: int) -> slice:
        if not BASE <= address <= BASE + len(self.content) - size:
            raise BusError
        return slice(address - BASE, address - BASE + size)

    def read(self, address: int, size: int) -> np.ndarray:
        return self.content[self._place(address, size)].copy()

    def write(self, address: int, content: np.ndarray) -> None:
        place = self._place(address, len(content))
        self.content[place] = content
        self.written[place] = True


class FakeBoard:
    """A window of registers whose device works on its queue as soon as it may.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    """

    def __init__(self, config: DeviceConfig):
        self.bus = FakeBus()
        self.memory = MappedMemory(self.bus.content, BASE)
        self.registers = RegisterModel(config)
        self._config = config
        self._model = DeviceModel(config, self.bus)
        self.stuck = False
        self.before: Callable[[], None] = lambda: None

    @property
    def irq(self) -> bool:
        """The interrupt."""
        return any(self.registers.ports.get(f"irq_enable_{name}", 0) for name in self.registers.pending)

    def read32(self, offset: int) -> int:
        """Return a register."""
        value, response = self.registers.read(offset)
        assert response == OKAY, f"the driver reads {offset:#x}"
        return value

    def write32(self, offset: int, value: int) -> None:
        """Write a register, and work."""
        response, pulses = self.registers.write(offset, value)
        assert response == OKAY, f"the driver writes {value:#x} to {offset:#x}"
        ports = self.registers.ports
        if "control_soft_reset" in pulses:
            if self.stuck:
                ports["status_draining"] = ports["status_resetting"] = 1
            ports |= {"control_run": 0, "head": 0, "tail": 0}
            self._model = DeviceModel(self._config, self.bus)
        while ports.get("control_run") and not self.stuck and ports.get("head", 0) != ports.get("tail", 0):
            self._work()

    def _address(self, base: str, low_bits: int) -> int:
        ports = self.registers.ports
        return (ports[f"{base}_hi"] << 32) + (ports[f"{base}_lo"] << low_bits)

    def _work(self) -> None:
        """Do the next descriptor, as it lies in memory now."""
        self.before()
        ports = self.registers.ports
        head = ports.get("head", 0)
        slot = head % (1 << ports["queue_shift"])
        try:
            content = self.bus.read(self._address("queue_base", 8) + slot * Descriptor.SIZE, Descriptor.SIZE)
            record = self._model.run(Descriptor.parse(content.tobytes()), (head + 1) % (1 << 32))
        except BusError:
            record = Record(sequence=head + 1, status=DeviceStatus.READ)
            self._model = DeviceModel(self._config, self.bus)
        ports["head"] = (head + 1) % (1 << 32)
        try:
            packed = np.frombuffer(record.pack(), dtype=np.uint8)
            self.bus.write(self._address("record_base", 6) + slot * Record.SIZE, packed)
        except BusError:
            record = Record(status=DeviceStatus.WRITE)
        if record.status:
            ports["error_status"] = record.status
            self.registers.pending |= {"fault", "done"}
        self.registers.pending.add("done")


def counter_offsets(name: str) -> tuple[int, int]:
    """Return the offsets of a counter's halves."""
    return BY_NAME[f"{name}_LO"].offset, BY_NAME[f"{name}_HI"].offset
