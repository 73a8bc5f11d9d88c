"""Brings the rows of one kv head after the other into the scratchpad."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import HEAD_BITS, fill_layout
from rtl.axi.layer import layer_layout, place_rows
from rtl.axi.read_master import Client


class FillSequence(wiring.Component):
    """Offers the fills of a layer's kv heads, of keys or of values, each as soon as the one before is taken.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    client : Client
        KEY or VALUE.

    Members
    -------
    start, layer : In
        A pulse, and the layer; it stays while its jobs run.
    fill : Out
        To the source of the rows.
    heads : Out
        Fills taken since `start`. The next one is offered if there is any.
    """

    def __init__(self, config: DeviceConfig, client: Client):
        self.config = config
        self.client = client
        super().__init__(
            {
                "start": In(1),
                "layer": In(layer_layout(config)),
                "fill": Out(stream.Signature(fill_layout(config))),
                "heads": Out(HEAD_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layer, d, fill = self.layer, self.layer.descriptor, self.fill.payload
        address, head_stride = {
            Client.KEY: (d.key_address, d.key_head_stride),
            Client.VALUE: (d.value_address, d.value_head_stride),
        }[self.client]
        base = Signal(self.config.address_bits)
        m.d.comb += [
            *place_rows(fill.place, layer, self.client, base),
            fill.first.eq(layer.first),
            fill.last.eq(layer.last),
        ]
        with m.If(self.start):
            m.d.sync += [self.fill.valid.eq(1), self.heads.eq(0), base.eq(address)]
        with m.Elif(self.fill.valid & self.fill.ready):
            m.d.sync += [
                self.heads.eq(self.heads + 1),
                base.eq(base + head_stride),
                self.fill.valid.eq(self.heads + 1 != d.kv_heads),
            ]
        return m
