"""Joins a client's requests that follow each other in memory, and cuts what they come to into bursts."""

from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig

WORDS_BITS = 17
"""Width of a request's number of words."""


class ReadPort(NamedTuple):
    """How a client reads.

    Parameters
    ----------
    word_bytes : int
        Bytes of a word, a power of two.
    buffer_beats : int
        Beats of the bus that are held for it, so many as may be under way.
    """

    word_bytes: int
    buffer_beats: int


def read_request_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of a client's requests: so many words from an address, which is a multiple of the word's bytes.

    With `more` the next request may share a burst with this one if it follows in memory. It has to come whether or not
    the words of this one do: what doesn't fill a burst is read when it has come.
    """
    return data.StructLayout({"address": config.address_bits, "words": WORDS_BITS, "more": 1})


def burst_layout(config: DeviceConfig, port: ReadPort) -> data.StructLayout:
    """Payload of bursts: the number of the first beat in memory, that of the last one from it on.

    Of words narrower than a beat also their number, and the place of the first one in its beat.
    """
    fields = {"beat": config.address_bits - exact_log2(config.beat_bytes), "last_beat": 8}
    if port.word_bytes < config.beat_bytes:
        fields |= {
            "first": exact_log2(config.beat_bytes // port.word_bytes),
            "words": range(config.burst_bytes // port.word_bytes + 1),
        }
    return data.StructLayout(fields)


class RequestJoiner(wiring.Component):
    """From requests to bursts, which depend on the requests alone, not on when these come or bursts are taken.

    A run of requests, each with `more` and followed in memory by the next, is cut at multiples of the longest burst.
    One request is taken and one burst offered every cycle: 3 cycles after its last request was taken, or 2 after the
    one that shows its end. Back-pressure holds the requests.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    port : ReadPort
        How the client reads.

    Members
    -------
    request : In
        What to read.
    burst : Out
        The bursts that read it.
    """

    def __init__(self, config: DeviceConfig, port: ReadPort):
        self.config = config
        self.port = port
        super().__init__(
            {
                "request": In(stream.Signature(read_request_layout(config))),
                "burst": Out(stream.Signature(burst_layout(config, port))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Counted in words, or in beats where a word has several.
        unit_bytes = min(self.port.word_bytes, config.beat_bytes)
        unit_bits = exact_log2(unit_bytes)
        beat_bits = exact_log2(config.beat_bytes // unit_bytes)
        per_word = exact_log2(self.port.word_bytes // unit_bytes)
        burst_units = config.burst_bytes // unit_bytes

        # Two places in front and two behind, so that a client's `valid` and the arbiter's `ready` end here.
        layout = read_request_layout(config)
        m.submodules.waiting = waiting = SyncFIFO(width=layout.size, depth=2)
        request = data.View(layout, waiting.r_data)
        place = request.address[unit_bits:]
        count = request.words << per_word
        m.d.comb += [
            waiting.w_en.eq(self.request.valid),
            waiting.w_data.eq(self.request.payload),
            self.request.ready.eq(waiting.w_rdy),
        ]
        burst = Signal(burst_layout(config, self.port))
        m.submodules.bursts = bursts = SyncFIFO(width=len(burst.as_value()), depth=2)
        m.d.comb += [
            bursts.w_data.eq(burst),
            self.burst.valid.eq(bursts.r_rdy),
            self.burst.payload.eq(bursts.r_data),
            bursts.r_en.eq(self.burst.ready),
        ]

        # What is left of a run: `left` units from `start`, up to `end`. While `open`, the next request may go on.
        start, end = Signal.like(place), Signal.like(place)
        left = Signal(WORDS_BITS + per_word + 1)
        rest = Signal.like(left)
        open_ = Signal()
        to_boundary = Signal(range(burst_units + 1))
        cut = Signal.like(to_boundary)
        follows, breaks, cuts, done, takes = Signal(), Signal(), Signal(), Signal(), Signal()
        within = left <= to_boundary
        m.d.comb += [
            to_boundary.eq(burst_units - start[: exact_log2(burst_units)]),
            cut.eq(Mux(within, left, to_boundary)),
            follows.eq(open_ & (place == end) & ~left[-1]),
            breaks.eq(~open_ | (waiting.r_rdy & ~follows)),
            cuts.eq((left != 0) & ((left >= to_boundary) | breaks) & bursts.w_rdy),
            rest.eq(Mux(cuts, left - cut, left)),
            # The same as `rest == 0`, without waiting for the difference.
            done.eq((left == 0) | (cuts & within)),
            takes.eq(waiting.r_rdy & (follows | done)),
            waiting.r_en.eq(takes),
        ]
        m.d.sync += left.eq(rest + Mux(takes, count, 0))
        with m.If(takes):
            m.d.sync += [end.eq(place + count), open_.eq(request.more)]
        with m.If(takes & done):
            m.d.sync += start.eq(place)
        with m.Elif(cuts):
            m.d.sync += start.eq(start + cut)

        first = start[:beat_bits]
        m.d.comb += [
            bursts.w_en.eq(cuts),
            burst.beat.eq(start[beat_bits:]),
            burst.last_beat.eq((cut + first - 1) >> beat_bits),
        ]
        if beat_bits:
            m.d.comb += [burst.first.eq(first), burst.words.eq(cut)]
        return m
