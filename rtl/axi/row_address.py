"""From the index of a row of keys or of values to a read request."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from golden.device.config import DeviceConfig
from rtl.axi.bundles import rows_place_layout
from rtl.axi.page_table import FACTOR_BITS, page_lookup_signature
from rtl.axi.request_joiner import read_request_layout

ROW_ADDRESS_LATENCY = 4


def row_index_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the index port: which row to read, where rows lie, and the request's `more`."""
    return data.StructLayout({"index": config.core.position_bits, "place": rows_place_layout(config), "more": 1})


class RowAddress(wiring.Component):
    """Finds rows: ``base + index * row_stride``, or with pages the page's offset and the index within the page.

    A row is taken every cycle, its request offered `ROW_ADDRESS_LATENCY` cycles later; where its page isn't loaded yet,
    it waits, and those behind it too. Back-pressure of the requests holds the rows in the same cycle.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    index : In
        The rows.
    request : Out
        What to read.
    lookup : Out
        Of the page table. Not there without paging.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        members = {
            "index": In(stream.Signature(row_index_layout(config))),
            "request": Out(stream.Signature(read_request_layout(config))),
        }
        if config.page_entries:
            members["lookup"] = Out(page_lookup_signature(config))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        word_bits = exact_log2(config.core.lanes)
        address = Signal(config.address_bits - word_bits)
        step = Signal()
        m.d.comb += step.eq(~self.request.valid | self.request.ready)

        # The page, and the row within it.
        new = self.index.payload
        row, row_valid = Signal(new.shape()), Signal()
        page, within = Signal.like(new.index), Signal.like(new.index)
        waits = Signal()
        m.d.comb += self.index.ready.eq(~row_valid | (step & ~waits))
        with m.If(self.index.ready):
            page_mask = ((1 << new.place.page_shift) - 1)[: len(within)]
            m.d.sync += [
                row_valid.eq(self.index.valid),
                row.eq(new),
                page.eq(new.index >> new.place.page_shift),
                within.eq(Mux(new.place.paged, new.index & page_mask, new.index)),
            ]

        # Products with both parts of the stride, of which whole words count; meanwhile the page table is read.
        stride = row.place.row_stride[word_bits:]
        low, high = Signal(len(within) + FACTOR_BITS), Signal(len(within) + len(stride) - FACTOR_BITS)
        product, base = Signal.like(address), Signal.like(address)
        page_base = Const(0)
        if config.page_entries:
            m.d.comb += [
                waits.eq(row.place.paged & (page >= self.lookup.loaded)),
                self.lookup.enable.eq(step),
                self.lookup.page.eq(page),
            ]
            page_base = Mux(_held(m, step, row.place.paged, "paged"), self.lookup.offset[word_bits:], 0)
        valids = [row_valid & ~waits]
        for stage in range(2, ROW_ADDRESS_LATENCY + 1):
            valids.append(_held(m, step, valids[-1], f"valid{stage}"))
        first_base = _held(m, step, row.place.base[word_bits:], "first_base")
        last_beat = _held(m, step, _held(m, step, row.place.last_beat, "last_beat2"), "last_beat3")
        more = _held(m, step, _held(m, step, row.more, "more2"), "more3")
        m.d.comb += self.request.valid.eq(valids[-1])
        with m.If(step):
            m.d.sync += [
                low.eq(within * stride[:FACTOR_BITS]),
                high.eq(within * stride[FACTOR_BITS:]),
                product.eq(low + (high << FACTOR_BITS)),
                base.eq(first_base + page_base),
                address.eq(base + product),
                self.request.payload.words.eq(last_beat + 1),
                self.request.payload.more.eq(more),
            ]
        m.d.comb += self.request.payload.address.eq(Cat(Const(0, word_bits), address))
        return m


def _held(m: Module, step: Value, value: Value, name: str) -> Signal:
    """Return `value` as it was a step ago."""
    register = Signal(value.shape(), name=name)
    with m.If(step):
        m.d.sync += register.eq(value)
    return register
