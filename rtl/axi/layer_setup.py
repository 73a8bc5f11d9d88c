"""What follows from a descriptor before its first job: which keys count, and whether they go through the scratchpad."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from golden.key_sequence import WORD_BLOCKS
from golden.masks import MaskKind
from rtl.axi.layer import descriptor_layout, layer_layout

SETUP_CYCLES = 5


class LayerSetup(wiring.Component):
    """Bounds by position, words of a row, and what the scratchpad holds; `SETUP_CYCLES` cycles after `start`.

    Keys and values go through the scratchpad if those within the bounds fit in a half of it each, and more than one
    block of rows uses them. Values shared with their keys need no room, and are no longer than these.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    start, descriptor : In
        A pulse, and a descriptor that passed the checks and stays.
    layer : Out
        What follows, from `done` on.
    done, empty : Out
        A pulse; whether there is no key that a row may attend to.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "descriptor": In(descriptor_layout()),
                "layer": Out(layer_layout(config)),
                "done": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, core, d, layer = self.config, self.config.core, self.descriptor, self.layer
        bits = core.position_bits
        lane_bits = core.lanes.bit_length() - 1
        word_bits = WORD_BLOCKS.bit_length() - 1
        half_words = config.scratchpad_bytes // 2 // core.lanes

        # The checks have bounded what these take.
        reach = Signal(signed(bits + 2))
        position_end = Signal(bits + 1)
        last_position = Signal(bits + 1)
        low, end, keys = Signal(bits + 1), Signal(bits + 1), Signal(bits + 1)
        last = Signal(bits + 1)
        windowed = d.mask == MaskKind.WINDOW
        m.d.sync += [
            position_end.eq(d.first_position + d.queries),
            reach.eq(d.first_position[:bits] + 1 - d.window[: bits + 1]),
            low.eq(Mux(windowed & (reach > d.first_key), reach, d.first_key)),
            end.eq(Mux((d.mask != MaskKind.NONE) & (position_end < d.end_key), position_end, d.end_key)),
            keys.eq(end - low),
            last.eq(end - 1),
            self.empty.eq(low >= end),
        ]
        m.d.comb += [
            layer.descriptor.eq(d),
            layer.first.eq(low),
            layer.last.eq(last),
            last_position.eq(position_end - 1),
            layer.last_position.eq(last_position),
        ]
        m.d.sync += [
            layer.last_key_word.eq((d.head_dim - 1) >> lane_bits),
            layer.last_value_word.eq((d.value_dim - 1) >> lane_bits),
            layer.first_page.eq(low >> d.page_shift),
            layer.last_page.eq(last >> d.page_shift),
            layer.first_bitmap.eq(low >> d.block_shift >> word_bits),
            layer.last_bitmap.eq(last >> d.block_shift >> word_bits),
        ]
        if config.scratchpad_bytes:
            rows = core.rows.bit_length()
            key_words = Signal(bits + 1 + len(layer.last_key_word))
            value_words = Signal.like(key_words)
            several = Signal()
            small = d.queries[:rows] * d.group[:rows] > core.rows
            m.d.sync += [
                key_words.eq(keys * (layer.last_key_word + 1)),
                value_words.eq(keys * (layer.last_value_word + 1)),
                several.eq((d.queries > core.rows) | (d.group > core.rows) | small),
                layer.resident.eq(several & (key_words <= half_words) & (value_words <= half_words)),
            ]
        passed = Signal(SETUP_CYCLES - 1)
        m.d.sync += [passed.eq(passed << 1 | self.start), self.done.eq(passed[-1])]
        return m
