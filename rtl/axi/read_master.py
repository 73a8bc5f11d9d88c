"""The reading half of the bus master: requests of several clients become bursts, their beats become words again."""

import enum
from typing import NamedTuple

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.axi_ports import axi_read_signature

WORDS_BITS = 16
"""Width of a request's number of words."""


class Client(enum.IntEnum):
    """Who reads, the most urgent first.

    CONTROL reads descriptors, scales, page tables and block masks.
    """

    CONTROL = 0
    STATE = 1
    QUERY = 2
    VALUE = 3
    KEY = 4


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


def read_ports(config: DeviceConfig) -> dict[Client, ReadPort]:
    """Return how each client of a device reads."""
    few = max(32, config.burst_beats)
    row = config.core.lanes
    return {
        Client.CONTROL: ReadPort(4, few),
        Client.STATE: ReadPort(2 * config.core.output_lanes, few),
        Client.QUERY: ReadPort(row, few),
        Client.VALUE: ReadPort(row, config.buffer_beats),
        Client.KEY: ReadPort(row, config.buffer_beats),
    }


def read_request_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of a client's requests: so many words from an address, which is a multiple of the word's bytes.

    With `more` the next request may share a burst with this one if it follows in memory. It has to come whether or not
    the words of this one do; only what fills a burst is read before.
    """
    return data.StructLayout({"address": config.address_bits, "words": WORDS_BITS, "more": 1})


def read_word_layout(port: ReadPort) -> data.StructLayout:
    """Payload of a client's words."""
    return data.StructLayout({"data": 8 * port.word_bytes})


class ReadMaster(wiring.Component):
    """Reads for several clients, each with words of its own width, in the order of its requests.

    Requests of a client that follow each other in memory, all but the last with `more`, are read in bursts as long as
    can be: up to `burst_beats` beats, and never across a multiple of so many, so not across 4 KiB. What is read, in
    which bursts, depends on a client's requests alone, not on when they come. Of two bursts with words in one beat
    each reads it.

    A burst is only asked for when its client's buffer has room for all its beats: the bus is never stalled. Of several
    clients the first in the order of `Client` goes first. A request can be taken every cycle and an address offered
    every cycle, the first 3 cycles after its request was taken (if nothing is to be waited for). A word is offered 3
    cycles after its last beat came; each client takes a word a cycle, and if its word has more bytes than a beat, a
    beat a cycle.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    axi : Out
        The read channels.
    control_request, state_request, query_request, value_request, key_request : In
        What to read for each client, at least one word.
    control_words, state_words, query_words, value_words, key_words : Out
        The words, in order. Words of a beat that came with an error come as they are.
    flush : In
        Ask for nothing more. To be held until `idle`; then a reset, together with the clients, forgets what was asked
        for and what is in buffers.
    idle : Out
        Nothing is asked for or on its way.
    bus_error : Out
        A pulse: a beat came with an error. It precedes the first word of that beat by 2 cycles at least.
    beat : Out
        A pulse: a beat came.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        self.clients = read_ports(config)
        members: dict[str, wiring.Member] = {"axi": Out(axi_read_signature(config))}
        for client, port in self.clients.items():
            name = client.name.lower()
            members[f"{name}_request"] = In(stream.Signature(read_request_layout(config)))
            members[f"{name}_words"] = Out(stream.Signature(read_word_layout(port)))
        super().__init__(members | {"flush": In(1), "idle": Out(1), "bus_error": Out(1), "beat": Out(1)})
