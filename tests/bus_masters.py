"""Both masters of the bus as one component with conventional port names, and what a test bench has to know of it."""

from __future__ import annotations

from dataclasses import replace

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.config import PRESETS
from golden.device.config import DeviceConfig
from rtl.axi.axi_ports import flat_ports, join_flat
from rtl.axi.read_master import ReadMaster
from rtl.axi.write_master import WriteMaster

CONFIG = DeviceConfig(replace(PRESETS["default"], output_lanes=16), outstanding_reads=64, id_bits=3)
"""Four words of control a beat, two beats a word of state, a beat a word of queries, keys and values."""


class BusMasters(wiring.Component):
    """A read and a write master on one bus."""

    def __init__(self, config: DeviceConfig):
        self.reads = ReadMaster(config)
        self.writes = WriteMaster(config)
        members = flat_ports("m_axi", self.reads.axi.signature) | flat_ports("m_axi", self.writes.axi.signature)
        for prefix, master in (("read", self.reads), ("write", self.writes)):
            for name, member in master.signature.members.items():
                if name != "axi":
                    members[f"{prefix}_{name}"] = member
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.reads, m.submodules.writes = self.reads, self.writes
        for prefix, master in (("read", self.reads), ("write", self.writes)):
            join_flat(m, self, "m_axi", master.axi)
            for name, member in master.signature.members.items():
                if name == "axi":
                    continue
                inner, outer = getattr(master, name), getattr(self, f"{prefix}_{name}")
                if member.is_signature:
                    sides = (wiring.flipped(outer), inner)
                    wiring.connect(m, *(sides if member.flow is In else reversed(sides)))
                else:
                    m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m
