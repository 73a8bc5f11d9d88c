"""Writes completion records."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from golden.device.record import Record
from rtl.axi.layer import record_layout
from rtl.axi.write_master import write_beat_layout
from rtl.bundles import index_shape


class RecordWriter(wiring.Component):
    """Offers a record to the write master, beat by beat, from the cycle after `start` on.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    start : In
        A pulse.
    record, address : In
        The record and its place, a multiple of its bytes; they stay while `busy`.
    beats : Out
        To the write master.
    busy : Out
        Not all beats have been taken.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "record": In(record_layout()),
                "address": In(config.address_bits),
                "beats": Out(stream.Signature(write_beat_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size = self.config.beat_bytes
        count = Record.SIZE // size
        number = Signal(index_shape(count))
        beat = self.beats.payload
        last = number == count - 1
        m.d.comb += [
            self.beats.valid.eq(self.busy),
            beat.address.eq(
                Cat(Const(0, exact_log2(size)), number[: exact_log2(count)], self.address[exact_log2(Record.SIZE) :])
            ),
            beat.data.eq(self.record.as_value().word_select(number, self.config.data_bits)),
            beat.strobe.eq(-1),
            beat.end.eq(last),
        ]
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), number.eq(0)]
        with m.Elif(self.beats.ready):
            m.d.sync += number.eq(number + 1)
            with m.If(last):
                m.d.sync += self.busy.eq(0)
        return m
