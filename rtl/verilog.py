"""Verilog of a core, and the JSON that describes its ports to other tools."""

import os
from typing import Any

from amaranth.back import verilog
from amaranth.lib import data, wiring

import golden.formats
from golden.config import CoreConfig
from rtl.core import LeanAttentionCore, core_ports
from rtl.interfaces import ArrayUse, Status

TOP = "lean_attention"


def generate(config: CoreConfig) -> str:
    """Return the Verilog of the core, its top module named `TOP`."""
    # The wheel of Yosys that is installed with the project, whatever else is on the PATH.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    return verilog.convert(LeanAttentionCore(config), name=TOP, emit_src=False, strip_internal_attrs=True)


def _fields(layout: data.Layout, offset: int = 0, prefix: str = "") -> dict[str, list[int]]:
    """Return the lowest bit and the width of each leaf of `layout`; elements of an array stand under one name."""
    leaves: dict[str, list[int]] = {}
    for key, field in layout:
        name = f"{prefix}{key}"
        if isinstance(field.shape, data.StructLayout):
            leaves |= _fields(field.shape, offset + field.offset, f"{name}.")
        else:
            leaves[name] = [offset + field.offset, field.width]
    return leaves


def describe(config: CoreConfig) -> dict[str, Any]:
    """Return what a user of the Verilog must know: configuration, number formats, ports and bit layouts.

    Returns
    -------
    dict
        ``ports`` maps each stream to its direction, payload width and ``fields``, which give the lowest bit and the
        width of each field; arrays give the whole array, lowest element first. Every stream also has ``__valid`` and
        ``__ready``.
    """
    ports = {}
    for name, member in core_ports(config).items():
        layout = member.signature.members["payload"].shape
        ports[name] = {
            "direction": "input" if member.flow is wiring.In else "output",
            "signals": [f"{name}__payload", f"{name}__valid", f"{name}__ready"],
            "width": layout.size,
            "fields": _fields(layout),
        }
    constants = {name: value for name, value in vars(golden.formats).items() if name.isupper()}
    return {
        "top": TOP,
        "clock": "clk",
        "reset": "rst (synchronous, active high)",
        "config": config.to_dict(),
        "formats": constants,
        "ports": ports,
        "status_codes": {status.name: status.value for status in Status},
        "array_use": {use.name: use.value for use in ArrayUse},
    }
