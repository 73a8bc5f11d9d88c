"""Query registers: the stationary operand of both contexts, and the rows' positions."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig
from rtl.bundles import CONTEXTS, index_shape


def query_write_layout(config: CoreConfig) -> data.StructLayout:
    """Write port of the query buffer: one beat of one row."""
    return data.StructLayout(
        {
            "enable": 1,
            "ctx": 1,
            "row": index_shape(config.rows),
            "beat": index_shape(config.head_beats(config.max_head_dim)),
            "elements": data.ArrayLayout(formats.DATA_BITS, config.lanes),
            "position": config.position_bits,
        }
    )


class QueryBuffer(wiring.Component):
    """Query rows of two contexts, one memory a row.

    A beat written is readable in the next cycle. Reading has a latency of one cycle and never stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    write : In
        A beat to store, and its row's position.
    ctx, beat : In
        What to read of every row.
    elements : Out
        That beat of every row, one cycle later.
    positions : Out
        Positions of the rows of both contexts, readable from the cycle after their last write.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        beats = config.head_beats(config.max_head_dim)
        row = data.ArrayLayout(formats.DATA_BITS, config.lanes)
        positions = data.ArrayLayout(config.position_bits, config.rows)
        super().__init__(
            {
                "write": In(query_write_layout(config)),
                "ctx": In(1),
                "beat": In(index_shape(beats)),
                "elements": Out(data.ArrayLayout(row, config.rows)),
                "positions": Out(data.ArrayLayout(positions, CONTEXTS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        row_shape = data.ArrayLayout(formats.DATA_BITS, self.config.lanes)
        depth = CONTEXTS << len(self.beat)
        for i in range(self.config.rows):
            storage = Memory(shape=row_shape, depth=depth, init=[])
            m.submodules[f"row{i}"] = storage
            write, read = storage.write_port(), storage.read_port()
            selected = Signal(name=f"selected{i}")
            m.d.comb += [
                selected.eq(self.write.enable & (self.write.row == i)),
                write.en.eq(selected),
                write.addr.eq(Cat(self.write.beat, self.write.ctx)),
                write.data.eq(self.write.elements),
                read.addr.eq(Cat(self.beat, self.ctx)),
                self.elements[i].eq(read.data),
            ]
            for ctx in range(CONTEXTS):
                with m.If(selected & (self.write.ctx == ctx)):
                    m.d.sync += self.positions[ctx][i].eq(self.write.position)
        return m
