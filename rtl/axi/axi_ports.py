"""Signals of AXI4 and AXI4-Lite, under the names that tools know them by, and the clock and reset that go with them."""

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig

INCR = 1
"""Burst type of rising addresses."""

NORMAL_MEMORY = 0b0011
"""AxCACHE of memory whose transfers may be merged and buffered on their way."""

RESP_OKAY, RESP_SLVERR = 0, 2
"""Responses that the register file gives. Of a memory's, bit 1 says that it is an error."""


def axi_lite_signature(address_bits: int) -> wiring.Signature:
    """Return the signals of AXI4-Lite with data of 32 bits, seen from the master."""
    return wiring.Signature(
        {
            "awaddr": Out(address_bits),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_bits),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def _address_channel(prefix: str, config: DeviceConfig) -> dict[str, wiring.Member]:
    """Return an address channel. What nobody drives keeps its value: one ID, whole beats, rising addresses."""
    return {
        f"{prefix}id": Out(config.id_bits),
        f"{prefix}addr": Out(config.address_bits),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3, init=config.beat_bytes.bit_length() - 1),
        f"{prefix}burst": Out(2, init=INCR),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4, init=NORMAL_MEMORY),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


def axi_read_signature(config: DeviceConfig) -> wiring.Signature:
    """Return the read channels of AXI4, seen from the master."""
    return wiring.Signature(
        _address_channel("ar", config)
        | {
            "rid": In(config.id_bits),
            "rdata": In(config.data_bits),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def axi_write_signature(config: DeviceConfig) -> wiring.Signature:
    """Return the write channels of AXI4, seen from the master."""
    return wiring.Signature(
        _address_channel("aw", config)
        | {
            "wdata": Out(config.data_bits),
            "wstrb": Out(config.beat_bytes),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bid": In(config.id_bits),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def flat_ports(prefix: str, signature: wiring.Signature, flow: wiring.Flow = Out) -> dict[str, wiring.Member]:
    """Return the signals as ports of a top level, ``{prefix}_araddr`` and so on; `flow` In makes it a slave."""
    members = signature.members if flow is Out else signature.flip().members
    return {
        f"{prefix}_{name}": (Out if member.flow is Out else In)(member.shape, init=member.init)
        for name, member in members.items()
    }


def join_flat(m: Module, top: wiring.Component, prefix: str, interface: object) -> None:
    """Connect the ports that `flat_ports` made of a top level to an interface of a component within it.

    Of a master's interface its outputs drive the ports of the same flow; so too of a slave's.
    """
    for name, member in interface.signature.members.items():
        port, signal = getattr(top, f"{prefix}_{name}"), getattr(interface, name)
        m.d.comb += port.eq(signal) if member.flow is Out else signal.eq(port)


CLOCK_PORTS = {"aclk": In(1), "aresetn": In(1)}
"""Clock and reset of a top level with AXI. The reset is low, and taken at rising edges of the clock."""


def add_clock(m: Module, top: wiring.Component) -> None:
    """Make the domain ``sync`` of `CLOCK_PORTS`."""
    m.domains.sync = ClockDomain()
    m.d.comb += [ClockSignal().eq(top.aclk), ResetSignal().eq(~top.aresetn)]
