"""The writing half of the bus master: beats with their addresses become bursts."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.axi_ports import axi_write_signature


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
    next multiple of so many, so never across 4 KiB. A beat is taken every cycle and written every cycle, at a burst's
    end 4 cycles after it was taken. While the buffer is full none is taken.

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
        A pulse: a burst was answered with an error.
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
