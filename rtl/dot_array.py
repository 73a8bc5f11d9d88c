"""The R x W multiply-accumulate array: dot products of a stationary with a streaming operand."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.config import CoreConfig

STATIONARY_BITS = formats.PROBABILITY_BITS + 1
PRODUCT_BITS = STATIONARY_BITS + formats.DATA_BITS
LEVELS_A_STAGE = 2


def tree_stages(lanes: int) -> int:
    """Pipeline stages of a row's adder tree: one every `LEVELS_A_STAGE` levels."""
    levels = (lanes - 1).bit_length()
    return -(-levels // LEVELS_A_STAGE)


def sum_bits(lanes: int) -> int:
    """Signed width of a row's sum of products."""
    return PRODUCT_BITS + (lanes - 1).bit_length()


class DotRow(wiring.Component):
    """One row: W multipliers and a pipelined adder tree.

    A new pair of operands every cycle; the sum appears ``2 + tree_stages(lanes)`` cycles after its operands. No
    stalls, no buffering. The streaming operand is registered in every row, so that its fan-out stays local.

    Parameters
    ----------
    lanes : int
        Multipliers W.

    Members
    -------
    load_query, load_probability : In
        Replace the stationary operand by `query` or `probability`; it stays while neither is high.
    query, probability : In
        Candidates for the stationary operand: signed data, or unsigned probabilities.
    streaming : In
        The streaming operand.
    total : Out
        Sum of the products.
    """

    def __init__(self, lanes: int):
        self.lanes = lanes
        super().__init__(
            {
                "load_query": In(1),
                "load_probability": In(1),
                "query": In(data.ArrayLayout(signed(formats.DATA_BITS), lanes)),
                "probability": In(data.ArrayLayout(formats.PROBABILITY_BITS, lanes)),
                "streaming": In(data.ArrayLayout(signed(formats.DATA_BITS), lanes)),
                "total": Out(signed(sum_bits(lanes))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        stationary = Signal(data.ArrayLayout(signed(STATIONARY_BITS), self.lanes))
        streaming = Signal.like(self.streaming)
        m.d.sync += streaming.eq(self.streaming)
        for c in range(self.lanes):
            with m.If(self.load_query):
                m.d.sync += stationary[c].eq(self.query[c])
            with m.Elif(self.load_probability):
                m.d.sync += stationary[c].eq(self.probability[c])

        terms = []
        for c in range(self.lanes):
            product = Signal(signed(PRODUCT_BITS), name=f"product{c}")
            m.d.sync += product.eq(stationary[c] * streaming[c])
            terms.append(product)
        for stage in range(tree_stages(self.lanes)):
            for _ in range(LEVELS_A_STAGE):
                if len(terms) > 1:
                    terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
            registers = [Signal(term.shape(), name=f"sum{stage}_{n}") for n, term in enumerate(terms)]
            m.d.sync += [register.eq(term) for register, term in zip(registers, terms, strict=True)]
            terms = registers
        m.d.comb += self.total.eq(terms[0])
        return m


class DotArray(wiring.Component):
    """R rows that share the streaming operand.

    Latency and throughput are those of `DotRow`.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    load_query, load_probability, streaming : In
        As of `DotRow`, for all rows.
    query, probability : In
        As of `DotRow`, one a row.
    totals : Out
        The sum of each row.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        lanes, rows = config.lanes, config.rows
        query = data.ArrayLayout(formats.DATA_BITS, lanes)
        probability = data.ArrayLayout(formats.PROBABILITY_BITS, lanes)
        super().__init__(
            {
                "load_query": In(1),
                "load_probability": In(1),
                "query": In(data.ArrayLayout(query, rows)),
                "probability": In(data.ArrayLayout(probability, rows)),
                "streaming": In(data.ArrayLayout(formats.DATA_BITS, lanes)),
                "totals": Out(data.ArrayLayout(signed(sum_bits(lanes)), rows)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for i in range(self.config.rows):
            row = DotRow(self.config.lanes)
            m.submodules[f"row{i}"] = row
            m.d.comb += [
                row.load_query.eq(self.load_query),
                row.load_probability.eq(self.load_probability),
                row.query.as_value().eq(self.query[i].as_value()),
                row.probability.as_value().eq(self.probability[i].as_value()),
                row.streaming.as_value().eq(self.streaming.as_value()),
                self.totals[i].eq(row.total),
            ]
        return m
