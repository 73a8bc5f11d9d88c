"""Brings the core the query rows of its jobs."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import last_beat_shape, walk_layout
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.word_unpacker import read_word_layout
from rtl.interfaces import query_layout


def query_head_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the head port: the rows of a kv head's queries, and the number of a row's last word from 0."""
    return data.StructLayout({"walk": walk_layout(config), "last_beat": last_beat_shape(config)})


class QuerySource(wiring.Component):
    """Streams the queries of all blocks of a kv head: packets of `core.rows` rows, the last one of what is left.

    Asks for a row every cycle, and ahead as far as buffers reach; a word a cycle leaves. The walk of the next head
    begins 2 cycles after the last row of this one was asked for.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    head : In
        The rows of a kv head; taken when all of those before are asked for.
    request, words : Out, In
        To and from the client of the read master.
    q : Out
        The core's port.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(query_head_layout(config))),
                "request": Out(stream.Signature(read_request_layout(config))),
                "words": In(stream.Signature(read_word_layout(read_ports(config)[Client.QUERY]))),
                "q": Out(stream.Signature(query_layout(config.core))),
            }
        )
