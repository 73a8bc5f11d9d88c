"""Fetches a descriptor and checks it."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.device.config import DeviceConfig
from golden.device.descriptor import FLAGS, PAGE_SHIFT_MIN, VERSION, WORD_BYTES, Descriptor, Flag
from golden.device.status import DeviceStatus
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS
from golden.masks import MaskKind
from rtl.axi.control_reader import Target, control_request_layout, control_word_layout
from rtl.axi.layer import descriptor_layout, flag

WORD_BITS = WORD_BLOCKS.bit_length() - 1
DESCRIPTOR_WORDS = Descriptor.SIZE // WORD_BYTES
CHECK_CYCLES = 3


class DescriptorReader(wiring.Component):
    """Reads a descriptor, and says what `golden.device.descriptor.check` says of it.

    The request is offered in the cycle after `start`, `done` comes `CHECK_CYCLES` cycles after the last word was taken,
    one a cycle.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    start, address : In
        A pulse: read the descriptor that is there.
    request, words : Out, In
        To and from the control reader.
    descriptor : Out
        What was read. Keeps from `done` to the next `start`.
    done, status : Out
        A pulse: it is read, and this is wrong with it, or OK.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "address": In(config.address_bits),
                "request": Out(stream.Signature(control_request_layout(config))),
                "words": In(stream.Signature(control_word_layout())),
                "descriptor": Out(descriptor_layout()),
                "done": Out(1),
                "status": Out(DeviceStatus),
            }
        )

    def elaborate(self, platform):
        m = Module()
        content = self.descriptor.as_value()
        number = Signal(range(DESCRIPTOR_WORDS))
        taken = self.words.valid & self.words.ready
        m.d.comb += [
            self.words.ready.eq(1),
            self.request.payload.address.eq(self.address),
            self.request.payload.words.eq(DESCRIPTOR_WORDS),
            self.request.payload.target.eq(Target.DESCRIPTOR),
        ]
        with m.If(self.start):
            m.d.sync += self.request.valid.eq(1)
        with m.Elif(self.request.ready):
            m.d.sync += self.request.valid.eq(0)
        with m.If(taken):
            m.d.sync += number.eq(number + 1)
            with m.Switch(number):
                for word in range(len(content) // (8 * WORD_BYTES)):
                    with m.Case(word):
                        m.d.sync += content.word_select(word, 8 * WORD_BYTES).eq(self.words.payload.data)

        # Sums, then checks, then the first check that fails: a cycle each.
        d = self.descriptor
        positions_end = Signal(33)
        first_block, last_block, last_page = (Signal.like(d.end_key) for _ in range(3))
        last_key = (d.end_key - 1)[: len(d.end_key)]
        m.d.sync += [
            positions_end.eq(d.first_position + d.queries),
            first_block.eq(d.first_key >> d.block_shift),
            last_block.eq(last_key >> d.block_shift),
            last_page.eq(last_key >> d.page_shift),
        ]
        checks = self._checks(positions_end, first_block, last_block, last_page)
        failed = Signal(len(checks))
        ended = Signal(CHECK_CYCLES - 1)
        m.d.sync += [
            failed.eq(Cat(fails for _, fails in checks)),
            self.status.eq(DeviceStatus.OK),
            ended.eq(Cat(taken & self.words.payload.last, ended)),
            self.done.eq(ended[-1]),
        ]
        for n, (status, _) in reversed(list(enumerate(checks))):
            with m.If(failed[n]):
                m.d.sync += self.status.eq(status)
        return m

    def _checks(self, positions_end, first_block, last_block, last_page):
        """Return statuses and when they apply, in the order of `golden.device.descriptor.check`."""
        d, capability = self.descriptor, self.config.capability
        largest = capability.max_keys
        unsupported = [
            (flag(d, Flag.SHARED), capability.shared_values),
            (d.epsilon_shift != 0, capability.error_bound),
            ((d.target != 0) | flag(d, Flag.CONTINUE_TAU), capability.target_control),
            (flag(d, Flag.PAGED), capability.page_entries),
        ]
        misplaced = []
        for field in Descriptor.layout():
            value = d[field.name]
            misplaced.append(value[: capability.alignment(field.alignment).bit_length() - 1].any())
            if field.bits == 64:
                misplaced.append(value[capability.address_bits :].any())
        long = (last_block >> WORD_BITS) - (first_block >> WORD_BITS) >= BITMAP_WORDS
        return [
            (DeviceStatus.DESCRIPTOR, (d.version != VERSION) | (d.flags & ~FLAGS & 0xFFFF).any()),
            (DeviceStatus.UNSUPPORTED, Cat(asked for asked, there in unsupported if not there).any()),
            (
                DeviceStatus.DIMENSION,
                (d.head_dim == 0)
                | (d.head_dim > capability.max_head_dim)
                | (d.value_dim == 0)
                | (d.value_dim > capability.max_value_dim)
                | (flag(d, Flag.SHARED) & (d.value_dim > d.head_dim))
                | (d.kv_heads == 0)
                | (d.group == 0),
            ),
            (
                DeviceStatus.LENGTH,
                (d.queries == 0) | (d.first_key >= d.end_key) | (d.end_key > largest) | (positions_end > largest),
            ),
            (DeviceStatus.ADDRESS, Cat(misplaced).any()),
            (
                DeviceStatus.MASK,
                (d.mask > MaskKind.WINDOW)
                | ((d.mask == MaskKind.WINDOW) & ((d.window == 0) | (d.window > largest)))
                | (flag(d, Flag.BLOCK_MASK) & ((d.block_shift > capability.position_bits) | long)),
            ),
            (
                DeviceStatus.THRESHOLD,
                (d.tau < formats.TAU_MIN)
                | (d.epsilon_shift > formats.EPSILON_SHIFT_MAX)
                | (flag(d, Flag.CONTINUE_TAU) & (d.target == 0)),
            ),
            (
                DeviceStatus.PAGE,
                flag(d, Flag.PAGED)
                & (
                    (d.page_shift < PAGE_SHIFT_MIN)
                    | (d.page_shift > capability.position_bits)
                    | (last_page >= max(capability.page_entries, 1))
                ),
            ),
        ]
