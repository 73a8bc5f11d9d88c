"""The registers of a device: the one table from which RTL, SystemRDL, C header, driver and documentation are made."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from golden.device.config import Capability

IDENTITY = 0x4C41544E
"""Register ID: the letters LATN."""

MAJOR, MINOR = 1, 0
"""Version of this table: a new major one where software must change, a new minor one where it need not."""

WINDOW_BITS = 12
"""Width of a register's address: the device takes 4 KiB."""

DESCRIPTOR_BITS, RECORD_BITS = 8, 6
"""Logarithms of the bytes of a descriptor and of a record, and so the bits of their bases that are zero."""


class Access(enum.Enum):
    """How software and hardware meet in a field.

    Members
    -------
    CONSTANT
        Software reads what the device was built with.
    READ
        Software reads what the hardware says.
    WRITE
        Software writes, hardware and software read.
    PULSE
        Writing 1 starts something; reads 0.
    CLEAR
        The hardware sets it, writing 1 clears it. Set and cleared at once it is set.
    """

    CONSTANT = "constant"
    READ = "read only"
    WRITE = "read, write"
    PULSE = "write 1 to act"
    CLEAR = "write 1 to clear"


@dataclass(frozen=True)
class Field:
    """Bits of a register.

    Parameters
    ----------
    name : str
        Name; ``value`` if the register has no other field.
    low, bits : int
        Lowest bit and width.
    access : Access
        Who may do what.
    meaning : str
        A sentence.
    reset : int
        Value after reset, and that of a constant without a `capability`.
    capability : str
        Name of the parameter of `golden.device.config.Capability` that a constant tells.
    """

    name: str
    low: int
    bits: int
    access: Access
    meaning: str
    reset: int = 0
    capability: str = ""

    @property
    def mask(self) -> int:
        """The field's bits within the register."""
        return ((1 << self.bits) - 1) << self.low

    def of(self, word: int) -> int:
        """Return the field's value in a register's `word`."""
        return (word & self.mask) >> self.low


@dataclass(frozen=True)
class Register:
    """A register of 32 bits. Bits without a field read 0 and ignore writes.

    Parameters
    ----------
    name : str
        Name.
    offset : int
        Bytes from the device's base, a multiple of 4.
    meaning : str
        A sentence.
    fields : tuple of Field
        By rising bits.
    """

    name: str
    offset: int
    meaning: str
    fields: tuple[Field, ...]

    @property
    def writable(self) -> bool:
        """Whether a write is more than an error."""
        return any(field.access in (Access.WRITE, Access.PULSE, Access.CLEAR) for field in self.fields)

    def field(self, name: str) -> Field:
        """Return the field called `name`."""
        return next(field for field in self.fields if field.name == name)


@dataclass(frozen=True)
class Counter:
    """A counter of 64 bits, in two registers; reading the low one keeps the high word for the other.

    Parameters
    ----------
    name : str
        Name, to which the registers add ``_LO`` and ``_HI``.
    step_bits : int
        Width of what is added in a cycle.
    meaning : str
        A sentence.
    """

    name: str
    step_bits: int
    meaning: str


def _whole(access: Access, meaning: str, low: int = 0, bits: int = 32, reset: int = 0, capability: str = "") -> Field:
    return Field("value", low, bits, access, meaning, reset, capability)


def _constant(name: str, low: int, bits: int, meaning: str) -> Field:
    return Field(name, low, bits, Access.CONSTANT, meaning, capability=name)


C, R, RW, P, W1C = Access.CONSTANT, Access.READ, Access.WRITE, Access.PULSE, Access.CLEAR

_CONTROL: tuple[Register, ...] = (
    Register("ID", 0x000, "What this is.", (_whole(C, "0x4C41544E, the letters LATN.", reset=IDENTITY),)),
    Register(
        "VERSION",
        0x004,
        "Version of the registers, descriptors and records.",
        (
            Field("minor", 0, 16, C, "Grows where software need not change.", MINOR),
            Field("major", 16, 16, C, "Grows where it must.", MAJOR),
        ),
    ),
    Register(
        "CAPABILITY",
        0x008,
        "Size of the array and of the bus.",
        (
            _constant("rows", 0, 8, "Query rows of a block."),
            _constant("lanes", 8, 8, "Elements of a beat of q, k and v; alignment of their rows in bytes."),
            _constant("output_lanes", 16, 8, "Elements of a beat of o; twice as many bytes align its rows."),
            _constant("data_bytes", 24, 8, "Bytes of a beat of the memory bus."),
        ),
    ),
    Register(
        "DIMENSIONS",
        0x00C,
        "Largest dimensions.",
        (
            _constant("max_head_dim", 0, 16, "Elements of a row of q and k."),
            _constant("max_value_dim", 16, 16, "Elements of a row of v and o."),
        ),
    ),
    Register(
        "MAX_KEYS",
        0x010,
        "Bound of key indices and positions.",
        (_whole(C, "A power of two.", capability="max_keys"),),
    ),
    Register(
        "OPTIONS",
        0x014,
        "What the device was built with.",
        (
            _constant("shared_values", 0, 1, "Values that are part of the keys."),
            _constant("error_bound", 1, 1, "Descriptors with an epsilon_shift."),
            _constant("target_control", 2, 1, "Descriptors with a target."),
            _constant("address_bits", 8, 8, "Width of an address on the memory bus."),
        ),
    ),
    Register(
        "SCRATCHPAD",
        0x018,
        "Memory beside the core.",
        (_whole(C, "Bytes of K and of V, each, of two heads at a time; 0: none.", capability="scratchpad_bytes"),),
    ),
    Register(
        "PAGE_ENTRIES",
        0x01C,
        "Room for a page table.",
        (_whole(C, "Pages of keys that a descriptor may have; 0: no paging.", capability="page_entries"),),
    ),
    Register(
        "CONTROL",
        0x020,
        "What the device does.",
        (
            Field("run", 0, 1, RW, "Work on descriptors while HEAD is not TAIL. Cleared, the one begun is finished."),
            Field(
                "soft_reset",
                1,
                1,
                P,
                "End the descriptor begun with status RESET; then clear run, HEAD, TAIL, ERROR and the tau left.",
            ),
            Field("clear_counters", 2, 1, P, "Set all counters to 0."),
        ),
    ),
    Register(
        "STATUS",
        0x024,
        "What it is at.",
        (
            Field("busy", 0, 1, R, "A descriptor is begun and its record not yet written."),
            Field("draining", 1, 1, R, "After a fault: what is under way on the bus is waited for."),
            Field("resetting", 2, 1, R, "A soft reset was asked for and is not yet done."),
        ),
    ),
    Register(
        "IRQ_ENABLE",
        0x028,
        "Which of IRQ_STATUS raise the interrupt.",
        (Field("done", 0, 1, RW, "Enables done."), Field("fault", 1, 1, RW, "Enables fault.")),
    ),
    Register(
        "IRQ_STATUS",
        0x02C,
        "Why there is an interrupt.",
        (
            Field("done", 0, 1, W1C, "A descriptor with the flag INTERRUPT, or that failed, has ended."),
            Field("fault", 1, 1, W1C, "A descriptor has failed; its record follows when the bus is quiet."),
        ),
    ),
    Register(
        "QUEUE_BASE_LO",
        0x030,
        "Address of the queue of descriptors, bits 31:0. Write it while HEAD is TAIL.",
        (_whole(RW, "Bits 31:8; it is a multiple of 256.", DESCRIPTOR_BITS, 32 - DESCRIPTOR_BITS),),
    ),
    Register("QUEUE_BASE_HI", 0x034, "Address of the queue, bits 63:32.", (_whole(RW, "Those that the bus has."),)),
    Register(
        "RECORD_BASE_LO",
        0x038,
        "Address of the completion records, bits 31:0. Write it while HEAD is TAIL.",
        (_whole(RW, "Bits 31:6; it is a multiple of 64.", RECORD_BITS, 32 - RECORD_BITS),),
    ),
    Register("RECORD_BASE_HI", 0x03C, "Address of the records, bits 63:32.", (_whole(RW, "Those that the bus has."),)),
    Register(
        "QUEUE_SHIFT",
        0x040,
        "Size of the queue. Write it while HEAD is TAIL.",
        (_whole(RW, "Logarithm of the slots for descriptors, and for records.", 0, 4),),
    ),
    Register(
        "HEAD",
        0x044,
        "Descriptors finished since reset. The next one is in slot HEAD modulo the slots.",
        (_whole(R, "Modulo 2^32."),),
    ),
    Register(
        "TAIL",
        0x048,
        "Doorbell: descriptors queued since reset. More than HEAD and the slots, or less than before, is an error.",
        (_whole(RW, "Modulo 2^32."),),
    ),
    Register(
        "TIMEOUT",
        0x04C,
        "Cycles without a beat on the memory bus or at a stream of the core, after which a descriptor is given up.",
        (_whole(RW, "0: never. Else more than memory takes to answer, or the core from its last input to an output."),),
    ),
    Register(
        "ERROR",
        0x050,
        "How the last descriptor that failed did.",
        (
            Field("status", 0, 8, R, "Its status; 0 since reset."),
            Field("core_status", 8, 8, R, "The core's, with status CORE."),
            Field("slot", 16, 16, R, "Its slot in the queue."),
        ),
    ),
)

COUNTERS = (
    Counter("CYCLES", 1, "Clock cycles."),
    Counter("BUSY", 1, "Cycles with a descriptor begun."),
    Counter("QK", 32, "Cycles of the array with a beat of scores; this and the next six are of jobs done."),
    Counter("PV", 32, "With a beat of probability times value."),
    Counter("WAIT_QUERY", 32, "Without a job whose queries and state are there."),
    Counter("WAIT_KEY", 32, "Waiting for keys."),
    Counter("WAIT_VALUE", 32, "Waiting for values."),
    Counter("WAIT_OUTPUT", 32, "Waiting until outputs or statistics are taken."),
    Counter("WAIT_SCORE", 32, "Waiting for scores, exponentials or what rows share."),
    Counter("READ_BYTES", 7, "Bytes of the beats read."),
    Counter("WRITE_BYTES", 7, "Bytes of the beats written, records too."),
    Counter("JOBS", 1, "Jobs done: blocks of rows."),
)
"""From offset `COUNTER_BASE` on, 8 bytes each. Those from QK to WAIT_SCORE are the core's array uses."""

COUNTER_BASE = 0x080


def _counter_registers() -> tuple[Register, ...]:
    registers = []
    for number, counter in enumerate(COUNTERS):
        offset = COUNTER_BASE + 8 * number
        low = _whole(R, "Bits 31:0. Reading it keeps bits 63:32 as they are now.")
        high = _whole(R, "Bits 63:32, of when the low word was read.")
        registers.append(Register(f"{counter.name}_LO", offset, counter.meaning, (low,)))
        registers.append(Register(f"{counter.name}_HI", offset + 4, counter.meaning, (high,)))
    return tuple(registers)


REGISTERS = _CONTROL + _counter_registers()
"""All of them, by rising offset."""

BY_NAME = {register.name: register for register in REGISTERS}


def constant(field: Field, capability: Capability) -> int:
    """Return what a constant field reads in a device of this capability."""
    return int(getattr(capability, field.capability)) if field.capability else field.reset
