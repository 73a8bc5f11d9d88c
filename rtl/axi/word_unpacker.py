"""Turns the beats of a client's bursts into its words."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.request_joiner import ReadPort, burst_layout


def read_word_layout(port: ReadPort) -> data.StructLayout:
    """Payload of a client's words."""
    return data.StructLayout({"data": 8 * port.word_bytes})


class WordUnpacker(wiring.Component):
    """Holds the beats of a client, and takes words from them: part of a beat, or several.

    A beat is taken every cycle; there must be room, which `freed` tells. A word is offered 2 cycles after its last beat
    came, or 3 if it has several; one every cycle, or as soon as its beats are there.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    port : ReadPort
        How the client reads.

    Members
    -------
    burst : In
        The bursts whose beats will come, in order. Only there for words narrower than a beat, of which
        `outstanding_reads` bursts can be under way or in the buffer.
    enable, beat : In
        The next beat comes.
    freed : Out
        A beat has left the buffer.
    words : Out
        The words.
    """

    def __init__(self, config: DeviceConfig, port: ReadPort):
        self.config = config
        self.port = port
        members = {
            "enable": In(1),
            "beat": In(config.data_bits),
            "freed": Out(1),
            "words": Out(stream.Signature(read_word_layout(port))),
        }
        if port.word_bytes < config.beat_bytes:
            members["burst"] = In(stream.Signature(burst_layout(config, port)))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.beats = beats = SyncFIFOBuffered(width=config.data_bits, depth=self.port.buffer_beats)
        m.d.comb += [
            beats.w_en.eq(self.enable),
            beats.w_data.eq(self.beat),
            self.freed.eq(beats.r_rdy & beats.r_en),
        ]
        if self.port.word_bytes < config.beat_bytes:
            self._split(m, beats)
        elif self.port.word_bytes > config.beat_bytes:
            self._gather(m, beats)
        else:
            m.d.comb += [
                self.words.valid.eq(beats.r_rdy),
                self.words.payload.eq(beats.r_data),
                beats.r_en.eq(self.words.ready),
            ]
        return m

    def _split(self, m, beats):
        """Offer the words of the oldest beat that its burst is to bring."""
        layout = data.StructLayout({name: self.burst.payload[name].shape() for name in ("first", "words")})
        m.submodules.bursts = bursts = SyncFIFO(width=layout.size, depth=self.config.outstanding_reads)
        burst, new = data.View(layout, bursts.r_data), data.View(layout, bursts.w_data)
        m.d.comb += [
            new.first.eq(self.burst.payload.first),
            new.words.eq(self.burst.payload.words),
            bursts.w_en.eq(self.burst.valid),
            self.burst.ready.eq(bursts.w_rdy),
        ]
        done = Signal.like(burst.words)
        place = Signal.like(burst.first)
        burst_end, taken = Signal(), Signal()
        m.d.comb += [
            place.eq(burst.first + done),
            burst_end.eq(done + 1 == burst.words),
            self.words.valid.eq(beats.r_rdy & bursts.r_rdy),
            self.words.payload.eq(beats.r_data.word_select(place, 8 * self.port.word_bytes)),
            taken.eq(self.words.valid & self.words.ready),
            beats.r_en.eq(taken & (burst_end | place.all())),
            bursts.r_en.eq(taken & burst_end),
        ]
        with m.If(taken):
            m.d.sync += done.eq(Mux(burst_end, 0, done + 1))

    def _gather(self, m, beats):
        """Put a word together, the first beat lowest."""
        count = self.port.word_bytes // self.config.beat_bytes
        part = Signal(range(count))
        step = Signal()
        m.d.comb += [step.eq(beats.r_rdy & (~self.words.valid | self.words.ready)), beats.r_en.eq(step)]
        with m.If(step):
            parts = self.words.payload.as_value()
            m.d.sync += [
                parts.word_select(part, self.config.data_bits).eq(beats.r_data),
                part.eq(part + 1),
                self.words.valid.eq(part == count - 1),
            ]
        with m.Elif(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
