"""Reads what the engine itself needs from memory: descriptors, score scales, page tables and bitmaps of block masks."""

import enum

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import WORDS_BITS, read_request_layout
from rtl.axi.word_unpacker import read_word_layout

REQUESTS_WAITING = 16
"""Requests whose words have not all come."""


class Target(enum.IntEnum):
    """Whom the words of a request are for."""

    DESCRIPTOR = 0
    SCALE = 1
    PAGE = 2
    BITMAP = 3


def control_request_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the requests port: so many words of 32 bits, at least one, and whom they are for."""
    return data.StructLayout({"address": config.address_bits, "words": WORDS_BITS, "target": Target})


def control_word_layout() -> data.StructLayout:
    """Payload of the words of a target; `last` is on the last one of a request."""
    return data.StructLayout({"data": 32, "last": 1})


class ControlReader(wiring.Component):
    """Words of 32 bits for several targets, in the order of all requests; a target that waits holds up those behind it.

    A request is passed on in the cycle in which it is taken, a word in the cycle in which it comes. A request's first
    word can pass 2 cycles after the request.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    requests : In
        What to read.
    request, words : Out, In
        To and from the client of the read master.
    descriptor, scale, page, bitmap : Out
        Words of each target.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        targets = {target.name.lower(): Out(stream.Signature(control_word_layout())) for target in Target}
        super().__init__(
            {
                "requests": In(stream.Signature(control_request_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "words": In(stream.Signature(read_word_layout(read_ports(config)[Client.CONTROL]))),
                **targets,
            }
        )

    def elaborate(self, platform):
        m = Module()
        route = Signal(data.StructLayout({"last_word": WORDS_BITS, "target": Target}))
        m.submodules.routes = routes = SyncFIFOBuffered(width=len(route.as_value()), depth=REQUESTS_WAITING)
        asked = self.requests.payload
        m.d.comb += [
            self.request.valid.eq(self.requests.valid & routes.w_rdy),
            self.request.payload.address.eq(asked.address),
            self.request.payload.words.eq(asked.words),
            self.requests.ready.eq(self.request.ready & routes.w_rdy),
            routes.w_en.eq(self.requests.valid & self.request.ready),
            route.last_word.eq(asked.words - 1),
            route.target.eq(asked.target),
            routes.w_data.eq(route),
        ]

        current = data.View(route.shape(), routes.r_data)
        word = Signal(WORDS_BITS)
        last = word == current.last_word
        taken = self.words.valid & self.words.ready
        for target in Target:
            port = getattr(self, target.name.lower())
            chosen = routes.r_rdy & (current.target == target)
            m.d.comb += [
                port.valid.eq(self.words.valid & chosen),
                port.payload.data.eq(self.words.payload.data),
                port.payload.last.eq(last),
            ]
            with m.If(chosen):
                m.d.comb += self.words.ready.eq(port.ready)
        m.d.comb += routes.r_en.eq(taken & last)
        with m.If(taken):
            m.d.sync += word.eq(word + 1)
            with m.If(last):
                m.d.sync += word.eq(0)
        return m
