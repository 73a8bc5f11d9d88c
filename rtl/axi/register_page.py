"""The documentation page of registers, descriptors and records, from their tables."""

import enum
from collections.abc import Iterable
from typing import Any

from golden.device.descriptor import VERSION, Descriptor, Flag
from golden.device.packed import Alignment, Packed
from golden.device.record import Record
from golden.device.registers import COUNTER_BASE, COUNTERS, MAJOR, MINOR, REGISTERS, Access, Field, Register
from golden.device.status import DeviceStatus
from rtl.interfaces import Status

INTRODUCTION = f"""\
# Registers

What software sees of the device: registers of version {MAJOR}.{MINOR}, descriptors of version {VERSION}, completion
records. This page is written from the tables of `golden/device/`; RTL and driver are made of them too, and so are a C
header and a SystemRDL file:

    python -m rtl registers -o build/lean_attention        # build/lean_attention.h, .rdl and .md

[integration.md](integration.md) says how to use them.

## Register map

Registers are 32 bits wide and lie in a window of 4 KiB. Bits without a field read 0 and ignore writes. A write strobe
says which bytes count. An address without a register, and a write to a register that can only be read, are answered
with SLVERR and change nothing.
"""

COUNTER_TEXT = """\
## Counters

64 bits each: the low word at the offset, the high word 4 bytes above it. Reading a low word keeps the counter's high
word of that moment for the read after it, until another low word is read.
"""

DESCRIPTOR_TEXT = f"""\
## Descriptor

{Descriptor.SIZE} bytes, little-endian; that of slot n lies {Descriptor.SIZE} n bytes behind the queue's base. Bytes
without a field are zero. Fields that the flags leave unused are not looked at, but for the alignment of addresses and
strides, which zero always has.
"""

RECORD_TEXT = f"""\
## Completion record

{Record.SIZE} bytes, little-endian; that of slot n lies {Record.SIZE} n bytes behind the records' base. Sums are over
the jobs that were done, also those of a descriptor that failed. Counts of 32 bits wrap.
"""

STATUS_TEXT = """\
### Status

DESCRIPTOR to PAGE are found before anything else is read, but for entries of the page table; of several the lowest is
reported. After any other than OK the output is not complete.
"""

ALIGNMENTS = {
    Alignment.NONE: "",
    Alignment.WORD: "4 bytes",
    Alignment.ROW: "`lanes` bytes",
    Alignment.OUTPUT: "2 `output_lanes` bytes",
}


def _table(header: Iterable[str], alignments: str, rows: Iterable[Iterable[Any]]) -> list[str]:
    marks = {"l": "---", "r": "---:"}
    lines = [header, (marks[mark] for mark in alignments), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines] + [""]


def _reset(field: Field) -> str:
    if field.access is Access.CONSTANT:
        return "" if field.capability else f"0x{field.reset:x}"
    return "" if field.access is Access.READ else str(field.reset)


def _bits(field: Field) -> str:
    return str(field.low) if field.bits == 1 else f"{field.low + field.bits - 1}:{field.low}"


def _register_rows(register: Register) -> Iterable[list[str]]:
    """Yield a row for the register, and one for each of its fields."""
    whole = register.fields[0] if register.fields[0].name == "value" else None
    if whole is None:
        yield [f"0x{register.offset:03x}", f"**{register.name}**", "", "", "", register.meaning]
    for field in register.fields:
        place = f"0x{register.offset:03x}" if field is whole else ""
        name = f"**{register.name}**" if field is whole else f"`{field.name}`"
        meaning = f"{register.meaning} {field.meaning}" if field is whole else field.meaning
        yield [place, name, _bits(field), field.access.value, _reset(field), meaning]


def _structure(cls: type[Packed]) -> list[str]:
    rows = ([f.offset, f"`{f.name}`", f"u{f.bits}", ALIGNMENTS[f.alignment], f.meaning] for f in cls.layout())
    return _table(["offset", "field", "type", "multiple of", "meaning"], "rllll", rows)


def _codes(codes: type[enum.IntEnum]) -> str:
    return ", ".join(f"{code.value} {code.name}" for code in codes)


def register_page() -> str:
    """Return the Markdown of the page."""
    registers = [row for register in REGISTERS if register.offset < COUNTER_BASE for row in _register_rows(register)]
    counters = (
        [f"0x{COUNTER_BASE + 8 * n:03x}", f"**{counter.name}**", counter.meaning] for n, counter in enumerate(COUNTERS)
    )
    flags = ([flag.value.bit_length() - 1, f"`{flag.name}`", flag.meaning] for flag in Flag)
    statuses = ([status.value, f"`{status.name}`", status.meaning] for status in DeviceStatus)
    lines = [
        INTRODUCTION,
        *_table(["offset", "register, field", "bits", "access", "reset", "meaning"], "llrlll", registers),
        COUNTER_TEXT,
        *_table(["offset", "counter", "counts"], "lll", counters),
        DESCRIPTOR_TEXT,
        *_structure(Descriptor),
        "### Flags",
        "",
        *_table(["bit", "flag", "meaning"], "rll", flags),
        RECORD_TEXT,
        *_structure(Record),
        STATUS_TEXT,
        *_table(["code", "status", "meaning"], "rll", statuses),
        f"The core's own, with CORE, are [those of its jobs](interfaces.md#errors): {_codes(Status)}.",
        "",
    ]
    return "\n".join(lines)
