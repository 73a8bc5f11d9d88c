"""Verilog of a core, or of what stands around cores, and the JSON that describes its ports to other tools."""

import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Shape
from amaranth.lib import data, wiring

import golden.formats
from golden.config import ClusterConfig, CoreConfig
from golden.device.config import DeviceConfig
from golden.device.status import DeviceStatus
from golden.key_sequence import SequenceStatus
from rtl.axi.stream_top import AxiStream, StreamTop
from rtl.axi.top import LeanAttentionAxi, device_ports
from rtl.cluster import Cluster, cluster_ports
from rtl.core import LeanAttentionCore, core_ports
from rtl.interfaces import ArrayUse, Status
from rtl.key_sequencer import KeySequencer, sequencer_ports
from rtl.masked_core import MaskedCore, masked_core_ports
from rtl.merge_unit import MergeUnit, merge_unit_ports

Config = CoreConfig | ClusterConfig | DeviceConfig


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


def _stream(name: str, member: wiring.Member) -> dict[str, Any]:
    """Return what `describe` says of a ready/valid stream."""
    layout = member.signature.members["payload"].shape
    return {
        "direction": "input" if member.flow is wiring.In else "output",
        "signals": [f"{name}__payload", f"{name}__valid", f"{name}__ready"],
        "width": layout.size,
        "fields": _fields(layout),
    }


def _axi_stream(name: str, member: wiring.Member) -> dict[str, Any]:
    """Return what `describe` says of an AXI4-Stream."""
    axis = AxiStream.of(name, member)
    return {
        "direction": "input" if axis.flow is wiring.In else "output",
        "signals": list(axis.ports),
        **{
            signal: {
                "width": axis.width(signal),
                "fields": _fields(data.StructLayout({field: axis.layout[field].shape for field in fields})),
            }
            for signal, fields in axis.fields.items()
        },
    }


def _signal(name: str, member: wiring.Member) -> dict[str, Any]:
    """Return what `describe` says of a signal."""
    return {"direction": "input" if member.flow is wiring.In else "output", "width": Shape.cast(member.shape).width}


class Top(NamedTuple):
    """What Verilog is generated of.

    Parameters
    ----------
    module : str
        Name of the top module.
    component, ports : callable
        Return the component and its ports, by name, of a configuration: a `ClusterConfig` for the cluster, a
        `DeviceConfig` for the device, else a `CoreConfig`.
    statuses : type
        The status codes that it gives.
    port : callable
        Returns what `describe` says of a port, of its name and member. Ports that are not streams of Amaranth come with
        the clock and reset of AXI.
    """

    module: str
    component: Callable[[Any], wiring.Component]
    ports: Callable[[Any], dict[str, wiring.Member]]
    statuses: type[IntEnum] = Status
    port: Callable[[str, wiring.Member], dict[str, Any]] = _stream


TOPS = {
    "core": Top("lean_attention", LeanAttentionCore, core_ports),
    "masked-core": Top("lean_attention_masked_core", MaskedCore, masked_core_ports),
    "cluster": Top("lean_attention_cluster", Cluster, cluster_ports),
    "key-sequencer": Top("lean_attention_key_sequencer", KeySequencer, sequencer_ports, SequenceStatus),
    "merge-unit": Top("lean_attention_merge_unit", MergeUnit, merge_unit_ports),
    "stream": Top("lean_attention_axis", StreamTop, core_ports, port=_axi_stream),
    "axi": Top("lean_attention_axi", LeanAttentionAxi, device_ports, DeviceStatus, _signal),
}

TOP = TOPS["core"].module


class CoreModule(wiring.Component):
    """An instance of the core's module, whose Verilog stands beside: all cores of a cluster are of one module."""

    def __init__(self, config: CoreConfig):
        super().__init__(core_ports(config))

    def elaborate(self, platform):
        m = Module()
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for name, member in self.signature.members.items():
            stream = getattr(self, name)
            there, back = ("i", "o") if member.flow is wiring.In else ("o", "i")
            ports |= {
                f"{there}_{name}__payload": stream.payload.as_value(),
                f"{there}_{name}__valid": stream.valid,
                f"{back}_{name}__ready": stream.ready,
            }
        m.submodules.core = Instance(TOP, **ports)
        return m


def generate(config: Config, top: str = "core") -> str:
    """Return the Verilog of a configuration, its top module named as `TOPS` says of `top`."""
    # The wheel of Yosys that is installed with the project, whatever else is on the PATH.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    component = Cluster(config, CoreModule) if top == "cluster" else TOPS[top].component(config)
    text = verilog.convert(component, name=TOPS[top].module, emit_src=False, strip_internal_attrs=True)
    return text + generate(config.core) if top == "cluster" else text


def describe(config: Config, top: str = "core") -> dict[str, Any]:
    """Return what a user of the Verilog must know: configuration, number formats, ports and bit layouts.

    Returns
    -------
    dict
        ``ports`` maps each stream to its direction, payload width and ``fields``, which give the lowest bit and the
        width of each field; arrays give the whole array, lowest element first. Every stream also has ``__valid`` and
        ``__ready``. With AXI4-Stream, ``tdata``, ``tuser`` and ``tlast`` have a width and fields each. A device's ports
        are signals.
    """
    port = TOPS[top].port
    is_axi = port is not _stream
    constants = {name: value for name, value in vars(golden.formats).items() if name.isupper()}
    return {
        "top": TOPS[top].module,
        "clock": "aclk" if is_axi else "clk",
        "reset": "aresetn (synchronous, active low)" if is_axi else "rst (synchronous, active high)",
        "config": config.to_dict(),
        "formats": constants,
        "ports": {name: port(name, member) for name, member in TOPS[top].ports(config).items()},
        "status_codes": {status.name: status.value for status in TOPS[top].statuses},
        "array_use": {use.name: use.value for use in ArrayUse},
    }
