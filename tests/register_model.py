"""The registers of a device as their table means them, written apart from the RTL."""

from __future__ import annotations

from dataclasses import dataclass, field

from golden.device.config import DeviceConfig
from golden.device.registers import COUNTERS, REGISTERS, Access, Register, constant

OKAY, SLVERR = 0, 2
AT = {register.offset: register for register in REGISTERS}
COUNTER_HALVES = {f"{counter.name}_{half}" for counter in COUNTERS for half in ("LO", "HI")}


def port(register: Register, name: str) -> str:
    """Return the name of a field's port."""
    return register.name.lower() if name == "value" else f"{register.name}_{name}".lower()


@dataclass
class RegisterModel:
    """What software finds.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    ports : dict of str to int
        What fields that software writes hold, by port; what hardware drives on those that software reads.
    pending : set of str
        Fields of IRQ_STATUS that are set.
    """

    config: DeviceConfig
    ports: dict[str, int] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    def read(self, address: int) -> tuple[int, int]:
        """Return data and response of a read that is not of a counter."""
        register = AT.get(address & ~3)
        if register is None:
            return 0, SLVERR
        word = 0
        for part in register.fields:
            if part.access is Access.CONSTANT:
                value = constant(part, self.config.capability)
            elif part.access is Access.CLEAR:
                value = int(part.name in self.pending)
            elif part.access is Access.PULSE:
                value = 0
            else:
                value = self.ports.get(port(register, part.name), part.reset)
            word |= value << part.low
        return word, OKAY

    def write(self, address: int, data: int, strobe: int = 15) -> tuple[int, set[str]]:
        """Write, and return the response and the ports that pulse."""
        register = AT.get(address & ~3)
        if register is None or not register.writable:
            return SLVERR, set()
        enable = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
        if register.name == "TAIL":
            before, head = self.read(address)[0], self.ports.get("head", 0)
            waiting, queued = ((tail - head) % (1 << 32) for tail in (before, before & ~enable | data & enable))
            if not waiting <= queued <= 1 << self.ports.get("queue_shift", 0):
                return SLVERR, set()
        pulses = set()
        for part in register.fields:
            name = port(register, part.name)
            mask = part.of(enable)
            if part.access is Access.WRITE:
                old = self.ports.get(name, part.reset)
                self.ports[name] = old & ~mask | part.of(data) & mask
            elif part.access is Access.PULSE and part.of(data) & mask:
                pulses.add(name)
            elif part.access is Access.CLEAR and part.of(data) & mask:
                self.pending.discard(part.name)
        return OKAY, pulses
