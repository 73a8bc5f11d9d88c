"""The writing half of the bus master: beats with their addresses become bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from rtl.axi.axi_ports import axi_write_signature

BURSTS_WAITING = 16
"""Bursts that are whole and not yet begun."""

UNANSWERED_MAX = 16
"""Bursts that were begun and have no response."""


def write_beat_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the beats to write: an address, a multiple of the beat's bytes; data; which bytes count.

    With `end` a burst ends with this beat. Without it another beat has to come.
    """
    return data.StructLayout(
        {"address": config.address_bits, "data": config.data_bits, "strobe": config.beat_bytes, "end": 1}
    )


class WriteMaster(wiring.Component):
    """Writes beats in bursts whose data is all there before they are asked for, so that the core never holds the bus.

    Beats that follow each other in memory are joined to a burst, up to its `end`, to `burst_beats` beats, or to the
    next multiple of so many, so never across 4 KiB. A beat is taken every cycle and written every cycle. A burst's
    address is offered 3 cycles after its last beat was taken, or after the next one was if only that shows its end; its
    data in the same cycle. The buffer holds two of the longest bursts; while it is full none is taken.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    axi : Out
        The write channels. Data of a burst is never before its address, and does not wait for it to be taken.
    beats : In
        What to write.
    pending : Out
        A beat that was taken is not yet written, or its response has not come.
    flush : In
        Begin no more bursts. To be held until `idle`; then a reset forgets the beats that are left.
    idle : Out
        Nothing is being written: all bursts that were begun have their response.
    bus_error : Out
        A pulse: a burst was answered with an error. It comes when `pending` and `idle` count the answer.
    beat : Out
        A pulse: a beat was taken by the bus.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "axi": Out(axi_write_signature(config)),
                "beats": In(stream.Signature(write_beat_layout(config))),
                "pending": Out(1),
                "flush": In(1),
                "idle": Out(1),
                "bus_error": Out(1),
                "beat": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, axi = self.config, self.axi
        beat_bits = exact_log2(config.beat_bytes)
        burst_beats = config.burst_bytes // config.beat_bytes

        # Beats wait for their burst to be whole.
        stored = data.StructLayout({"data": config.data_bits, "strobe": config.beat_bytes})
        m.submodules.store = store = SyncFIFOBuffered(width=stored.size, depth=max(32, 2 * burst_beats))
        number = self.beats.payload.address[beat_bits:]
        described = data.StructLayout({"beat": len(number), "last_beat": 8})
        m.submodules.bursts = bursts = SyncFIFO(width=described.size, depth=BURSTS_WAITING)
        taken = Signal()
        m.d.comb += [
            self.beats.ready.eq(store.w_rdy & bursts.w_rdy),
            taken.eq(self.beats.valid & self.beats.ready),
            store.w_en.eq(taken),
            store.w_data.eq(Cat(self.beats.payload.data, self.beats.payload.strobe)),
        ]

        # The burst that the next beat may belong to, and the number of that beat if it does.
        run, begun, whole = Signal(described), Signal(), Signal()
        next_number = Signal.like(number)
        follows, ends = Signal(), Signal()
        m.d.comb += [
            follows.eq(begun & ~whole & (number == next_number)),
            ends.eq(begun & (whole | (taken & ~follows))),
            bursts.w_en.eq(ends),
            bursts.w_data.eq(run),
        ]
        with m.If(ends & bursts.w_rdy):
            m.d.sync += begun.eq(0)
        with m.If(taken):
            m.d.sync += [
                begun.eq(1),
                whole.eq(self.beats.payload.end | number[: exact_log2(burst_beats)].all()),
                next_number.eq(number + 1),
            ]
            with m.If(follows):
                m.d.sync += run.last_beat.eq(run.last_beat + 1)
            with m.Else():
                m.d.sync += [run.beat.eq(number), run.last_beat.eq(0)]

        # Addresses. The length of each burst goes on to the data.
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=4)
        unanswered = Signal(range(UNANSWERED_MAX + 1))
        begins = Signal()
        burst = data.View(described, bursts.r_data)
        m.d.comb += [
            begins.eq(
                bursts.r_rdy
                & lengths.w_rdy
                & (~axi.awvalid | axi.awready)
                & (unanswered != UNANSWERED_MAX)
                & ~self.flush
            ),
            bursts.r_en.eq(begins),
            lengths.w_en.eq(begins),
            lengths.w_data.eq(burst.last_beat),
        ]
        with m.If(begins):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(Cat(Const(0, beat_bits), burst.beat)),
                axi.awlen.eq(burst.last_beat),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)

        # Data.
        beat = Signal(8)
        moved = Signal()
        m.d.comb += [
            axi.wvalid.eq(lengths.r_rdy & store.r_rdy),
            axi.wlast.eq(beat == lengths.r_data),
            Cat(axi.wdata, axi.wstrb).eq(store.r_data),
            moved.eq(axi.wvalid & axi.wready),
            store.r_en.eq(moved),
            lengths.r_en.eq(moved & axi.wlast),
        ]
        with m.If(moved):
            m.d.sync += beat.eq(Mux(axi.wlast, 0, beat + 1))

        # Responses.
        answered = axi.bvalid & axi.bready
        m.d.comb += [
            axi.bready.eq(1),
            self.idle.eq(unanswered == 0),
            self.pending.eq(begun | bursts.r_rdy | (unanswered != 0)),
        ]
        m.d.sync += [
            unanswered.eq(unanswered + begins - answered),
            self.bus_error.eq(answered & axi.bresp[1]),
            self.beat.eq(moved),
        ]
        return m
