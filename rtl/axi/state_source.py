"""Brings the core the partial states that its jobs start from."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.word_unpacker import read_word_layout
from rtl.bundles import index_shape
from rtl.interfaces import state_layout


def state_job_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the job port: where a packet lies; its last row and the last word of a row's accumulators, from 0."""
    core = config.core
    return data.StructLayout(
        {
            "address": config.address_bits,
            "last_row": index_shape(core.rows),
            "last_word": index_shape(core.output_beats(core.max_value_dim)),
        }
    )


class StateSource(wiring.Component):
    """Streams packets of state, which lie in memory as the words of the core's ports state and o.

    Asks for a row's words every cycle; a word a cycle leaves.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    job : In
        A packet; taken when the one before is asked for, up to 2 ahead of what has left.
    request, words : Out, In
        To and from the client of the read master.
    state : Out
        The core's port.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(state_job_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "words": In(stream.Signature(read_word_layout(read_ports(config)[Client.STATE]))),
                "state": Out(stream.Signature(state_layout(config.core))),
            }
        )
