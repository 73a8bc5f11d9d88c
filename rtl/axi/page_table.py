"""The page table: numbers of pages in memory become offsets to the pools of keys and of values."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from rtl.axi.bundles import STRIDE_BITS
from rtl.bundles import delayed, index_shape

ENTRY_BITS = 32

FACTOR_BITS = 16
"""Bits of a stride that a multiplier takes."""

STEPS = 2 * STRIDE_BITS // FACTOR_BITS
"""Cycles of an entry: both strides, a part after the other."""

ENTRY_LATENCY = STEPS + 3
"""From an entry's cycle to that in which it can be looked up."""


def page_load_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the load port: entries `first` to `last` are to come; the pool's pages and their strides in bytes."""
    page = index_shape(config.page_entries)
    return data.StructLayout(
        {
            "first": page,
            "last": page,
            "page_count": ENTRY_BITS,
            "key_stride": STRIDE_BITS,
            "value_stride": STRIDE_BITS,
        }
    )


def page_lookup_signature(config: DeviceConfig) -> wiring.Signature:
    """Return the signals of a lookup, seen from who looks up.

    While `enable` is high, `offset` is that of page `page` in the next cycle; otherwise it keeps. Pages from the first
    one that was loaded to the one before `loaded` can be looked up.
    """
    page = index_shape(config.page_entries)
    return wiring.Signature(
        {
            "enable": Out(1),
            "page": Out(page),
            "offset": In(config.address_bits),
            "loaded": In(range(config.page_entries + 1)),
        }
    )


class PageTable(wiring.Component):
    """Offsets of pages of keys and of values, ``number * stride``, multiplied once when the table is loaded.

    An entry is taken every `STEPS` cycles, and can be looked up `ENTRY_LATENCY` cycles later, while others still come.
    A load forgets the table before: it may only come when nothing is looked up any more. Offsets wrap as addresses do.

    Parameters
    ----------
    config : DeviceConfig
        The device; its `page_entries` are not 0.

    Members
    -------
    load : In
        Which entries come. Taken when those of the load before have come.
    entries : In
        Page numbers, of 32 bits.
    key, value : In
        Lookups of keys and values.
    fault : Out
        A pulse: an entry is not below `page_count`.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "load": In(stream.Signature(page_load_layout(config))),
                "entries": In(stream.Signature(data.StructLayout({"data": ENTRY_BITS}))),
                "key": In(page_lookup_signature(config)),
                "value": In(page_lookup_signature(config)),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        # Strides are whole words of the core; their bits below are not kept.
        word_bits = exact_log2(config.core.lanes)
        offset_bits = config.address_bits - word_bits

        load = Signal(page_load_layout(config))
        active, coming, working = Signal(), Signal(), Signal()
        page = Signal.like(load.last)
        entry = Signal(ENTRY_BITS)
        step = Signal(range(STEPS))
        taken = self.entries.valid & self.entries.ready
        m.d.comb += [
            self.load.ready.eq(~active),
            self.entries.ready.eq(coming & (~working | (step == STEPS - 1))),
        ]
        loaded = Signal.like(self.key.loaded)
        with m.If(self.load.valid & self.load.ready):
            first = self.load.payload.first
            m.d.sync += [load.eq(self.load.payload), active.eq(1), coming.eq(1), page.eq(first - 1), loaded.eq(first)]
        m.d.sync += step.eq(step + 1)
        with m.If(taken):
            m.d.sync += [working.eq(1), step.eq(0), page.eq(page + 1), entry.eq(self.entries.payload.data)]
            m.d.sync += coming.eq((page + 1)[: len(page)] != load.last)
        with m.Elif(step == STEPS - 1):
            m.d.sync += working.eq(0)
        m.d.sync += self.fault.eq(working & (step == 0) & (entry >= load.page_count))

        # Low and high part of the stride of keys, then of that of values.
        strides = [load.key_stride[word_bits:], load.value_stride[word_bits:]]
        parts = Array(part for stride in strides for part in (stride[:FACTOR_BITS], stride[FACTOR_BITS:]))
        product = Signal(ENTRY_BITS + FACTOR_BITS)
        offset = Signal(offset_bits)
        high = Signal()
        writes = Signal(2)
        m.d.sync += [
            product.eq(entry * parts[step]),
            high.eq(step[0]),
            offset.eq(Mux(high, offset + (product << FACTOR_BITS), product)),
            writes.eq(
                Cat(delayed(m, working & (step == 1), 1, "key_done"), delayed(m, working & (step == 3), 1, "done"))
            ),
        ]
        number = delayed(m, page, 2, "number")
        for kind, (name, lookup) in enumerate((("keys", self.key), ("values", self.value))):
            m.submodules[name] = storage = Memory(shape=offset_bits, depth=config.page_entries, init=[])
            write, read = storage.write_port(), storage.read_port()
            m.d.comb += [
                write.en.eq(writes[kind]),
                write.addr.eq(number),
                write.data.eq(offset),
                read.en.eq(lookup.enable),
                read.addr.eq(lookup.page),
                lookup.offset.eq(Cat(Const(0, word_bits), read.data)),
                lookup.loaded.eq(loaded),
            ]
        with m.If(writes[1]):
            m.d.sync += [loaded.eq(number + 1), active.eq(number != load.last)]
        return m
