"""The loops over kv heads and blocks of rows."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.device.descriptor import WORD_BYTES, Flag
from rtl.axi.control_reader import Target, control_request_layout
from rtl.axi.layer import block_layout, flag, layer_layout


class BlockSequence(wiring.Component):
    """Cuts the rows of each kv head into blocks, one after the other, and asks for what a block needs from memory.

    A block takes a cycle for each of its rows, and 1 more; a kv head takes 1 more, or as long as its requests are not
    taken. Requests are those of the scale of each kv head, followed at the first one by the page table, and of the
    bitmap of each block; they are offered before the block is, in the order in which their words are used.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    start, layer : In
        A pulse, and the layer; it stays while its jobs run.
    requests : Out
        To the control reader.
    blocks : Out
        Blocks of all kv heads.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "layer": In(layer_layout(config)),
                "requests": Out(stream.Signature(control_request_layout(config))),
                "blocks": Out(stream.Signature(block_layout(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, layer, block, request = self.config, self.layer, self.blocks.payload, self.requests.payload
        d = layer.descriptor
        position = Signal(config.core.position_bits)
        member = Signal(len(d.group))
        first_query = Signal()
        next_query, next_output = Signal(config.address_bits), Signal(config.address_bits)
        scale, bitmap, bitmaps = (Signal(config.address_bits) for _ in range(3))
        emits, masked = flag(d, Flag.EMIT_STATE), flag(d, Flag.BLOCK_MASK)
        query_ends = member == d.group - 1
        rows_end = query_ends & (position == layer.last_position)
        block_ends = block.last_row == config.core.rows - 1
        last_head = block.head == d.kv_heads - 1

        m.d.comb += [block.end.eq(block.last & last_head), block.last_position.eq(position)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    block.head.eq(0),
                    block.query.eq(d.query_address),
                    block.key.eq(d.key_address),
                    block.value.eq(d.value_address),
                    block.output.eq(d.output_address),
                    block.state.eq(d.state_address),
                    next_query.eq(d.query_address),
                    next_output.eq(d.output_address),
                    scale.eq(d.scale_address),
                    bitmaps.eq(d.mask_address),
                ]
                with m.If(self.start):
                    m.next = "HEAD"

            with m.State("HEAD"):
                m.d.comb += [
                    self.requests.valid.eq(1),
                    request.address.eq(scale),
                    request.words.eq(1),
                    request.target.eq(Target.SCALE),
                ]
                m.d.sync += [
                    position.eq(d.first_position),
                    block.first_position.eq(d.first_position),
                    first_query.eq(1),
                    block.first.eq(1),
                    bitmap.eq(bitmaps),
                ]
                with m.If(self.requests.ready):
                    m.next = "BLOCK"
                    if config.page_entries:
                        with m.If((block.head == 0) & flag(d, Flag.PAGED)):
                            m.next = "PAGES"

            if config.page_entries:
                with m.State("PAGES"):
                    m.d.comb += [
                        self.requests.valid.eq(1),
                        request.address.eq(d.page_table_address + (layer.first_page * WORD_BYTES)),
                        request.words.eq(layer.last_page - layer.first_page + 1),
                        request.target.eq(Target.PAGE),
                    ]
                    with m.If(self.requests.ready):
                        m.next = "BLOCK"

            with m.State("BLOCK"):
                # A query's rows are those of all heads of its group; the first query leads to the next group.
                with m.If(first_query):
                    m.d.sync += next_query.eq(next_query + d.query_head_stride)
                    with m.If(~emits):
                        m.d.sync += next_output.eq(next_output + d.output_head_stride)
                m.d.sync += block.last.eq(rows_end)
                with m.If(block_ends | rows_end):
                    with m.If(masked):
                        m.next = "BITMAP"
                    with m.Else():
                        m.next = "OFFER"
                with m.Else():
                    self._step(m, position, member, first_query, query_ends)
                    m.d.sync += block.last_row.eq(block.last_row + 1)

            with m.State("BITMAP"):
                m.d.comb += [
                    self.requests.valid.eq(1),
                    request.address.eq(bitmap + (layer.first_bitmap * WORD_BYTES)),
                    request.words.eq(layer.last_bitmap - layer.first_bitmap + 1),
                    request.target.eq(Target.BITMAP),
                ]
                with m.If(self.requests.ready):
                    m.d.sync += bitmap.eq(bitmap + d.mask_row_stride)
                    m.next = "OFFER"

            with m.State("OFFER"):
                m.d.comb += self.blocks.valid.eq(1)
                with m.If(self.blocks.ready):
                    self._step(m, position, member, first_query, query_ends)
                    m.d.sync += [
                        block.first.eq(0),
                        block.last_row.eq(0),
                        block.first_position.eq(Mux(query_ends, position + 1, position)),
                        block.state.eq(block.state + d.state_stride),
                    ]
                    with m.If(emits):
                        m.d.sync += block.output.eq(block.output + d.state_stride)
                    m.next = "BLOCK"
                    with m.If(block.last):
                        m.d.sync += [
                            block.head.eq(block.head + 1),
                            block.query.eq(next_query),
                            block.key.eq(block.key + d.key_head_stride),
                            block.value.eq(block.value + d.value_head_stride),
                            scale.eq(scale + WORD_BYTES),
                            bitmaps.eq(bitmaps + d.mask_head_stride),
                        ]
                        with m.If(~emits):
                            m.d.sync += block.output.eq(next_output)
                        m.next = "HEAD"
                        with m.If(last_head):
                            m.next = "IDLE"
        return m

    def _step(self, m, position, member, first_query, query_ends):
        """Go to the next row."""
        m.d.sync += member.eq(Mux(query_ends, 0, member + 1))
        with m.If(query_ends):
            m.d.sync += [position.eq(position + 1), first_query.eq(0)]
