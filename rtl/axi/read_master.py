"""The reading half of the bus master: requests of several clients become bursts, their beats become words again."""

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.axi_ports import axi_read_signature
from rtl.axi.request_joiner import ReadPort, RequestJoiner, read_request_layout
from rtl.axi.word_unpacker import WordUnpacker, read_word_layout


class Client(enum.IntEnum):
    """Who reads, the most urgent first.

    CONTROL reads descriptors, scales, page tables and block masks.
    """

    CONTROL = 0
    STATE = 1
    QUERY = 2
    VALUE = 3
    KEY = 4


def read_ports(config: DeviceConfig) -> dict[Client, ReadPort]:
    """Return how each client of a device reads."""
    core = config.core
    few = max(32, config.burst_bytes // config.beat_bytes)
    row = core.lanes
    # The queries of the next block wait here, or a fill of the scratchpad would hold up the block. With room for them
    # and no more, those of the block after come too late: 0.4 % of the cycles of a causal prefill.
    block = core.rows * core.max_head_dim // config.beat_bytes
    return {
        Client.CONTROL: ReadPort(4, few),
        Client.STATE: ReadPort(2 * core.output_lanes, few),
        Client.QUERY: ReadPort(row, max(few, 1 << block.bit_length())),
        Client.VALUE: ReadPort(row, config.buffer_beats),
        Client.KEY: ReadPort(row, config.buffer_beats),
    }


class ReadMaster(wiring.Component):
    """Reads for several clients, each with words of its own width, in the order of its requests.

    Requests of a client that follow each other in memory, all but the last with `more`, are read in bursts as long as
    can be: up to `burst_beats` beats, and never across a multiple of so many, so not across 4 KiB. What is read, in
    which bursts, depends on a client's requests alone, not on when they come. Of two bursts with words in one beat
    each reads it.

    A burst is only asked for when its client's buffer has room for all its beats: the bus is never stalled. Of several
    clients the first in the order of `Client` goes first. A request can be taken every cycle and an address offered
    every cycle, the first 4 cycles after its request was taken (if nothing is to be waited for). A word is offered 3
    cycles after its last beat came, or 4 if it has several; each client takes a word a cycle, and if its word has more
    bytes than a beat, a beat a cycle.

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
        self.ports = read_ports(config)
        members: dict[str, wiring.Member] = {"axi": Out(axi_read_signature(config))}
        for client, port in self.ports.items():
            name = client.name.lower()
            members[f"{name}_request"] = In(stream.Signature(read_request_layout(config)))
            members[f"{name}_words"] = Out(stream.Signature(read_word_layout(port)))
        super().__init__(members | {"flush": In(1), "idle": Out(1), "bus_error": Out(1), "beat": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config, axi = self.config, self.axi

        # Whose beats come next, burst by burst: all reads have one ID, so they come in the order of their addresses.
        m.submodules.order = order = SyncFIFO(width=len(Const(max(Client))), depth=config.outstanding_reads)
        came, last, error = Signal(), Signal(), Signal()
        beat = Signal(config.data_bits)
        m.d.sync += [
            came.eq(axi.rvalid),
            last.eq(axi.rlast),
            error.eq(axi.rresp[1]),
            beat.eq(axi.rdata),
        ]
        m.d.comb += [
            axi.rready.eq(1),
            order.r_en.eq(came & last),
            self.idle.eq(order.level == 0),
            self.bus_error.eq(came & error),
            self.beat.eq(came),
        ]

        may_ask = Signal()
        m.d.comb += may_ask.eq(order.w_rdy & (~axi.arvalid | axi.arready) & ~self.flush)
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        earlier = Const(0)
        for client, port in self.ports.items():
            name = client.name.lower()
            m.submodules[f"{name}_joiner"] = joiner = RequestJoiner(config, port)
            m.submodules[f"{name}_unpacker"] = unpacker = WordUnpacker(config, port)
            wiring.connect(m, wiring.flipped(getattr(self, f"{name}_request")), joiner.request)
            wiring.connect(m, unpacker.words, wiring.flipped(getattr(self, f"{name}_words")))
            m.d.comb += [unpacker.enable.eq(came & (order.r_data == client)), unpacker.beat.eq(beat)]

            burst = joiner.burst.payload
            room = Signal(range(port.buffer_beats + 1), init=port.buffer_beats, name=f"{name}_room")
            asks, granted = Signal(name=f"{name}_asks"), Signal(name=f"{name}_granted")
            fits = room > burst.last_beat
            if port.word_bytes < config.beat_bytes:
                fits &= unpacker.burst.ready
                m.d.comb += [unpacker.burst.valid.eq(granted), unpacker.burst.payload.eq(burst)]
            m.d.comb += [
                asks.eq(joiner.burst.valid & fits),
                granted.eq(asks & ~earlier & may_ask),
                joiner.burst.ready.eq(granted),
            ]
            m.d.sync += room.eq(room + unpacker.freed - Mux(granted, burst.last_beat + 1, 0))
            with m.If(granted):
                m.d.comb += [order.w_en.eq(1), order.w_data.eq(client)]
                m.d.sync += [
                    axi.arvalid.eq(1),
                    axi.araddr.eq(Cat(Const(0, config.address_bits - len(burst.beat)), burst.beat)),
                    axi.arlen.eq(burst.last_beat),
                ]
            earlier = earlier | asks
        return m
