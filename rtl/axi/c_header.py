"""C header of a device: register offsets and fields, descriptors, completion records and their codes."""

import enum

from golden.device.descriptor import VERSION, Descriptor, Flag
from golden.device.packed import Packed
from golden.device.record import Record
from golden.device.registers import IDENTITY, MAJOR, REGISTERS
from golden.device.status import DeviceStatus
from golden.formats import TAU_KEEP_ALL
from golden.masks import MaskKind
from rtl.interfaces import Status

PREFIX = "LEAN_ATTENTION"

HEAD = f"""\
/* The lean-attention device as software sees it: registers, descriptors, completion records.
 * Written by python -m rtl registers, for every configuration: what a device was built with is in its registers.
 * All integers are little-endian. C99 or C++11, or later.
 */
#ifndef {PREFIX}_H
#define {PREFIX}_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
#define {PREFIX}_ASSERT static_assert
#elif __STDC_VERSION__ >= 201112L
#define {PREFIX}_ASSERT _Static_assert
#else
/* A condition that does not hold declares an array of a negative size. */
#define {PREFIX}_JOIN(a, b) a##b
#define {PREFIX}_NAME(line) {PREFIX}_JOIN(lean_attention_assertion_, line)
#define {PREFIX}_ASSERT(condition, text) typedef char {PREFIX}_NAME(__LINE__)[(condition) ? 1 : -1]
#endif
"""


def _registers() -> list[str]:
    lines = ["", "/* Registers: bytes from the device's base; of each field the lowest bit and the mask in place. */"]
    for register in REGISTERS:
        name = f"{PREFIX}_{register.name}"
        lines.append(f"#define {name} 0x{register.offset:03x}u /* {register.meaning} */")
        for field in register.fields:
            if field.name != "value":
                lines.append(f"#define {name}_{field.name.upper()}_SHIFT {field.low} /* {field.meaning} */")
                lines.append(f"#define {name}_{field.name.upper()}_MASK 0x{field.mask:08x}u")
    return [
        *lines,
        f"#define {PREFIX}_IDENTITY 0x{IDENTITY:08x}u /* what {PREFIX}_ID reads */",
        f"#define {PREFIX}_MAJOR {MAJOR}u /* major of {PREFIX}_VERSION that this header is for */",
    ]


def _enum(name: str, codes: type[enum.IntEnum], comment: str) -> list[str]:
    lines = [f"    {PREFIX}_{name}_{code.name} = {code.value}," for code in codes]
    return ["", f"/* {comment} */", f"enum lean_attention_{name.lower()} {{", *lines, "};"]


def _structure(cls: type[Packed]) -> list[str]:
    name = f"lean_attention_{cls.__name__.lower()}"
    lines, asserts, end = [], [], 0
    for field in cls.layout():
        if field.offset > end:
            lines.append(f"    uint8_t reserved_{end}[{field.offset - end}];")
        lines.append(f"    uint{field.bits}_t {field.name}; /* {field.offset}: {field.meaning} */")
        asserts.append(
            f'{PREFIX}_ASSERT(offsetof(struct {name}, {field.name}) == {field.offset}, "offset of {field.name}");'
        )
        end = field.offset + field.bits // 8
    if end < cls.SIZE:
        lines.append(f"    uint8_t reserved_{end}[{cls.SIZE - end}]; /* zero */")
    asserts.append(f'{PREFIX}_ASSERT(sizeof(struct {name}) == {cls.SIZE}, "size of a {cls.__name__.lower()}");')
    return ["", f"struct {name} {{", *lines, "};", *asserts]


def c_header() -> str:
    """Return the text of the header."""
    lines = [
        *_registers(),
        *_enum("STATUS", DeviceStatus, "How a descriptor ended: status of a record."),
        *_enum("CORE", Status, "Status of the core: core_status of a record."),
        *_enum("MASK", MaskKind, "Mask of a descriptor, by position."),
        "",
        "/* Flags of a descriptor. */",
        *(f"#define {PREFIX}_FLAG_{flag.name} 0x{flag.value:04x}u /* {flag.meaning} */" for flag in Flag),
        f"#define {PREFIX}_DESCRIPTOR_VERSION {VERSION}u",
        f"#define {PREFIX}_TAU_ALL {TAU_KEEP_ALL}u /* tau of a descriptor that drops nothing */",
        *_structure(Descriptor),
        *_structure(Record),
        "",
        f"#endif /* {PREFIX}_H */",
        "",
    ]
    return HEAD + "\n".join(lines)
