"""SystemRDL 2.0 of the registers of a device, for tools that make documentation, models or checks of it."""

from golden.device.config import DeviceConfig
from golden.device.registers import REGISTERS, Access, Field, constant

PROPERTIES = {
    Access.CONSTANT: "sw = r; hw = na;",
    Access.READ: "sw = r; hw = w;",
    Access.WRITE: "sw = rw; hw = r;",
    Access.PULSE: "sw = w; hw = r; singlepulse;",
    Access.CLEAR: "sw = rw; hw = w; onwrite = woclr; hwset;",
}


def _field(field: Field, config: DeviceConfig) -> str:
    value = constant(field, config.capability) if field.access is Access.CONSTANT else field.reset
    # The hardware drives what is only read; there is nothing to reset.
    reset = "" if field.access is Access.READ else f" reset = 0x{value:x};"
    bits = f"{field.name}[{field.low + field.bits - 1}:{field.low}]"
    return f'        field {{ desc = "{field.meaning}"; {PROPERTIES[field.access]}{reset} }} {bits};'


def system_rdl(config: DeviceConfig) -> str:
    """Return the SystemRDL of a device of `config`; what it was built with are the values of constants."""
    lines = [
        "// Registers of the lean-attention device. Written by python -m rtl registers.",
        "addrmap lean_attention {",
        '    name = "lean-attention device";',
        "    default regwidth = 32;",
        "    default accesswidth = 32;",
    ]
    for register in REGISTERS:
        lines += [
            "    reg {",
            f'        desc = "{register.meaning}";',
            *(_field(field, config) for field in register.fields),
            f"    }} {register.name} @ 0x{register.offset:03x};",
        ]
    return "\n".join([*lines, "};", ""])
