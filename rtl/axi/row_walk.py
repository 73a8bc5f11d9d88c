"""The rows of a kv head's group in the order in which blocks take them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import walk_layout
from rtl.bundles import index_shape


def walk_row_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the rows: address, position, and whether a block or the head ends."""
    return data.StructLayout(
        {"address": config.address_bits, "position": config.core.position_bits, "block_end": 1, "end": 1}
    )


class RowWalk(wiring.Component):
    """Counts through queries and, within each, the query heads of the group: a row every cycle.

    The first row is offered in the cycle after the head was taken. A head is taken when the last row of the one before
    was. Back-pressure holds the rows.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    head : In
        Which rows.
    rows : Out
        The rows; every `core.rows` of them are a block, the last one of what is left.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(walk_layout(config))),
                "rows": Out(stream.Signature(walk_row_layout(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        rows = self.config.core.rows
        counted = Signal(walk_layout(self.config))
        # The first head's row of the query.
        query_address = Signal.like(counted.base)
        head, query = Signal.like(counted.last_head), Signal.like(counted.last_query)
        block_row = Signal(index_shape(rows))
        row = self.rows.payload
        query_end = head == counted.last_head
        m.d.comb += [
            self.head.ready.eq(~self.rows.valid),
            row.end.eq(query_end & (query == counted.last_query)),
            row.block_end.eq(row.end | (block_row == rows - 1)),
        ]
        with m.If(self.head.valid & self.head.ready):
            m.d.sync += [
                self.rows.valid.eq(1),
                counted.eq(self.head.payload),
                row.address.eq(self.head.payload.base),
                row.position.eq(self.head.payload.position),
                query_address.eq(self.head.payload.base),
                head.eq(0),
                query.eq(0),
                block_row.eq(0),
            ]
        with m.If(self.rows.valid & self.rows.ready):
            next_query = (query_address + counted.row_stride)[: len(query_address)]
            m.d.sync += [
                self.rows.valid.eq(~row.end),
                row.address.eq(Mux(query_end, next_query, row.address + counted.head_stride)),
                head.eq(Mux(query_end, 0, head + 1)),
                block_row.eq(Mux(row.block_end, 0, block_row + 1)),
            ]
            with m.If(query_end):
                m.d.sync += [query_address.eq(next_query), query.eq(query + 1), row.position.eq(row.position + 1)]
        return m
