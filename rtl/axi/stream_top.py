"""The core with AXI4-Stream ports, for those who bring their own memory system."""

from typing import NamedTuple

from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from rtl.axi.axi_ports import CLOCK_PORTS, add_clock
from rtl.core import LeanAttentionCore, core_ports

BYTE_BITS = 8


class AxiStream(NamedTuple):
    """How a stream of the core lies on AXI4-Stream.

    A field ``last`` of its payload is TLAST. Where there is a field ``data`` it is TDATA and the others are TUSER, else
    TDATA is all of them. They lie as in the payload, the first lowest, under zeros up to a whole byte.

    Parameters
    ----------
    prefix : str
        Of its signals.
    flow : wiring.Flow
        In if the core takes it.
    fields : dict of str to list of str
        Of the signals ``tdata``, ``tuser`` and ``tlast`` that there are: the payload's fields that each carries.
    layout : data.StructLayout
        The payload.
    """

    prefix: str
    flow: wiring.Flow
    fields: dict[str, list[str]]
    layout: data.StructLayout

    @classmethod
    def of(cls, name: str, member: wiring.Member) -> "AxiStream":
        """Return what becomes of the core's stream `name`."""
        layout = member.signature.members["payload"].shape
        names = [field for field, _ in layout]
        others = [field for field in names if field not in ("data", "last")]
        fields = {"tdata": ["data"], "tuser": others} if "data" in names else {"tdata": others}
        fields["tlast"] = ["last"] if "last" in names else []
        prefix = f"{'s' if member.flow is In else 'm'}_axis_{name}"
        return cls(prefix, member.flow, {signal: parts for signal, parts in fields.items() if parts}, layout)

    def width(self, signal: str) -> int:
        """Return the width of ``tdata``, ``tuser`` or ``tlast``."""
        bits = sum(self.layout[field].width for field in self.fields[signal])
        return bits if signal == "tlast" else -(-bits // BYTE_BITS) * BYTE_BITS

    @property
    def ports(self) -> dict[str, wiring.Member]:
        """The signals as ports of a top level."""
        there, back = (In, Out) if self.flow is In else (Out, In)
        ports = {f"{self.prefix}_{signal}": there(self.width(signal)) for signal in self.fields}
        return ports | {f"{self.prefix}_tvalid": there(1), f"{self.prefix}_tready": back(1)}


def axi_streams(config: CoreConfig) -> dict[str, AxiStream]:
    """Return the streams of a core of `config` on AXI4-Stream, by name."""
    return {name: AxiStream.of(name, member) for name, member in core_ports(config).items()}


class StreamTop(wiring.Component):
    """The core, its streams under the names and rules of AXI4-Stream.

    Nothing is added to the core: latency, buffering and back-pressure are its own.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    aclk, aresetn : In
        Clock, and reset while low.
    s_axis_STREAM_tdata, ...
        For job, q, state, k and v: the signals of `AxiStream`.
    m_axis_STREAM_tdata, ...
        For v_req, o and stats.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        ports = dict(CLOCK_PORTS)
        for axis in axi_streams(config).values():
            ports |= axis.ports
        super().__init__(ports)

    def elaborate(self, platform):
        m = Module()
        add_clock(m, self)
        m.submodules.core = core = LeanAttentionCore(self.config)
        for name, axis in axi_streams(self.config).items():
            stream = getattr(core, name)
            pairs = [
                (getattr(self, f"{axis.prefix}_{signal}"), Cat(stream.payload[field] for field in fields))
                for signal, fields in axis.fields.items()
            ]
            pairs.append((getattr(self, f"{axis.prefix}_tvalid"), stream.valid))
            m.d.comb += [inner.eq(port) if axis.flow is In else port.eq(inner) for port, inner in pairs]
            ready = getattr(self, f"{axis.prefix}_tready")
            m.d.comb += ready.eq(stream.ready) if axis.flow is In else stream.ready.eq(ready)
        return m
