"""Masks by row position: none, causal, sliding window."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from golden.masks import MaskKind
from rtl.bundles import CONTEXTS, by_context, column_layout, contexts_layout

MASK_LATENCY = 2


class PositionMask(wiring.Component):
    """Which rows may attend to a key: those in use whose mask lets them.

    A column every cycle, `MASK_LATENCY` cycles of latency, no stalls.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    contexts, positions : In
        Mask and rows in use of both contexts; positions of their rows.
    column : In
        The key.
    allowed : Out
        A bit a row. Nothing is allowed in a void column.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        positions = data.ArrayLayout(config.position_bits, config.rows)
        super().__init__(
            {
                "contexts": In(contexts_layout(config)),
                "positions": In(data.ArrayLayout(positions, CONTEXTS)),
                "column": In(column_layout(config)),
                "allowed": Out(config.rows),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ctx = self.column.ctx
        in_use = Signal(self.config.rows)
        kind = Signal(2)
        window = Signal(self.config.count_bits)
        m.d.sync += [
            in_use.eq(by_context(self.contexts, ctx, "row_mask") & ~self.column.void.replicate(self.config.rows)),
            kind.eq(by_context(self.contexts, ctx, "mask")),
            window.eq(by_context(self.contexts, ctx, "window")),
        ]
        attends = []
        for i in range(self.config.rows):
            behind = Signal(signed(self.config.position_bits + 1), name=f"behind{i}")
            position = by_context(self.positions, ctx, i)
            m.d.sync += behind.eq(position - self.column.index)
            in_window = (kind == MaskKind.CAUSAL) | (behind < window)
            attends.append((kind == MaskKind.NONE) | ((behind >= 0) & in_window))
        m.d.sync += self.allowed.eq(Cat(attends) & in_use)
        return m
