"""Turns ranges of keys, bounds by position and bitmaps of blocks into the keys that jobs stream."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS, SequenceStatus
from golden.masks import MaskKind
from rtl.interfaces import bitmap_layout, key_count_layout, key_request_layout, sequence_layout

SETTLE_CYCLES = 4
"""From a bitmap's last word until its keys are counted."""

WORD_BITS = WORD_BLOCKS.bit_length() - 1


def sequencer_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Return the streams of a key sequencer for a core of `config`, by name."""
    return {
        "command": In(stream.Signature(sequence_layout(config))),
        "bitmap": In(stream.Signature(bitmap_layout(config))),
        "count": Out(stream.Signature(key_count_layout(config))),
        "k_req": Out(stream.Signature(key_request_layout(config))),
    }


def run_layout(config: CoreConfig) -> data.StructLayout:
    """Return the layout of keys that are counted and to be requested.

    They lie between `low` and `last_key`, and `word` is the number of the bitmap word that holds the block of `low`. If
    there are none, the words up to the end are passed over.
    """
    return data.StructLayout(
        {
            "low": config.position_bits,
            "last_key": config.position_bits,
            "block_shift": range(config.position_bits + 1),
            "word": config.position_bits,
            "keys": config.count_bits,
        }
    )


def bitmap_word_layout() -> data.StructLayout:
    """Return the layout of a word of a bitmap within the bounds, and whether it is the last one."""
    return data.StructLayout({"blocks": WORD_BLOCKS, "end": 1})


class KeySequencer(wiring.Component):
    """Counts the keys of each command, and then requests them one by one, in rising order.

    What a command means is said by `golden.key_sequence`. Its bitmap is taken in, a word a cycle, and counted as it
    comes, so that the number of keys is known before the first is requested: the job announces it. The keys follow when
    the count has been taken. One is requested every cycle, wherever its block is: runs of blocks that are not streamed
    cost a cycle for each word of `WORD_BLOCKS` of them. Meanwhile the next command is counted, as far as the words of
    both bitmaps that are within the bounds find room.

    Every command gets one count and, on k_req, one transfer with `last`. If it has an error it has no keys, and that
    transfer is the only one and not `wanted`. Back-pressure of an output holds the inputs, and loses nothing.

    A command takes 5 cycles and one for each word of its bitmap; the count is offered `SETTLE_CYCLES` + 1 cycles after
    the last word was taken, the first key, if all before is done, 7 after the count was.

    Parameters
    ----------
    config : CoreConfig
        The core that the keys are for.

    Members
    -------
    command : In
        Range, bounds and blocks.
    bitmap : In
        A packet for each command.
    count : Out
        The command's number of keys, and how it ended.
    k_req : Out
        Its keys. `last` is on the last one; without `wanted` there is none.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(sequencer_ports(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        word = Signal(bitmap_word_layout())
        m.submodules.words = words = SyncFIFOBuffered(width=len(word.as_value()), depth=BITMAP_WORDS + 1)
        run = Signal(run_layout(config))
        start = Signal()
        idle = Signal()
        self._count(m, words, run, start, idle)
        self._request(m, words, run, start, idle)
        return m

    def _count(self, m, words, run, start, idle):
        """Take commands and their bitmaps; describe in `run`, at `start`, what is to be requested when `idle`."""
        config = self.config
        command = Signal(sequence_layout(config))
        status = Signal(SequenceStatus)
        low, end = Signal(24), Signal(24)
        first_block, last_block = Signal(config.position_bits), Signal(config.position_bits)
        number = Signal(config.position_bits)
        first_word, last_word = first_block >> WORD_BITS, last_block >> WORD_BITS

        # Of the word on the port: the blocks within the bounds.
        starts, ends = number == first_word, number == last_word
        ones = (1 << WORD_BLOCKS) - 1
        above = Mux(starts, ones << first_block[:WORD_BITS], ones)[:WORD_BLOCKS]
        below = Mux(ends, (2 << last_block[:WORD_BITS]) - 1, ones)[:WORD_BLOCKS]
        within = (number >= first_word) & (number <= last_word)
        good = status == SequenceStatus.OK
        short = self.bitmap.payload.last & (number < last_word)
        spoilt = ~good | short
        word, stored = Signal(bitmap_word_layout()), Signal()
        taken = self.bitmap.valid & self.bitmap.ready
        m.d.sync += [
            word.blocks.eq(Mux(spoilt | ~within, 0, self.bitmap.payload.blocks & above & below)),
            word.end.eq(Mux(good, ends | short, self.bitmap.payload.last)),
            stored.eq(taken & Mux(good, within | short, self.bitmap.payload.last)),
        ]
        m.d.comb += [words.w_en.eq(stored), words.w_data.eq(word)]

        # Blocks of the first and the last word whose keys are not all within the bounds.
        size_mask = Signal(config.position_bits)
        m.d.comb += size_mask.eq((1 << command.block_shift) - 1)
        cut_low, cut_high = Signal(config.position_bits), Signal(config.position_bits)
        population = Signal(range(WORD_BLOCKS + 1))
        blocks = Signal(config.count_bits)
        keys = Signal(config.count_bits)
        m.d.sync += population.eq(Mux(stored, sum(word.blocks[bit] for bit in range(WORD_BLOCKS)), 0))
        m.d.sync += blocks.eq(blocks + population)
        first_seen, last_seen = Signal(), Signal()
        m.d.sync += [
            first_seen.eq(taken & good & starts & self.bitmap.payload.blocks.bit_select(first_block[:WORD_BITS], 1)),
            last_seen.eq(taken & good & ends & self.bitmap.payload.blocks.bit_select(last_block[:WORD_BITS], 1)),
        ]
        with m.If(first_seen):
            m.d.sync += cut_low.eq(low & size_mask)
        with m.If(last_seen):
            m.d.sync += cut_high.eq(~(end - 1) & size_mask)
        settle = Signal(range(SETTLE_CYCLES))
        m.d.sync += keys.eq((blocks << command.block_shift) - (cut_low + cut_high))

        shifted = Signal(config.position_bits)
        to_shift = Signal(config.position_bits)
        m.d.comb += shifted.eq(to_shift >> command.block_shift)
        none = Mux(good, keys == 0, 1)
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += [command.eq(self.command.payload), blocks.eq(0), cut_low.eq(0), cut_high.eq(0)]
                with m.If(self.command.valid):
                    m.next = "BOUNDS"

            with m.State("BOUNDS"):
                windowed = command.mask == MaskKind.WINDOW
                reach = Signal(signed(26))
                m.d.comb += reach.eq(command.first_position + 1 - command.window)
                behind = command.last_position + 1
                m.d.sync += [
                    low.eq(Mux(windowed & (reach > command.first), reach, command.first)),
                    end.eq(Mux((command.mask != MaskKind.NONE) & (behind < command.end), behind, command.end)),
                    status.eq(SequenceStatus.OK),
                ]
                with m.If((command.end > config.max_keys) | (command.block_shift > config.position_bits)):
                    m.d.sync += status.eq(SequenceStatus.RANGE)
                with m.Elif((command.mask > MaskKind.WINDOW) | (windowed & (command.window == 0))):
                    m.d.sync += status.eq(SequenceStatus.MASK)
                m.next = "FIRST"

            with m.State("FIRST"):
                m.d.comb += to_shift.eq(low)
                m.d.sync += first_block.eq(shifted)
                with m.If(good & (low >= end)):
                    m.d.sync += status.eq(SequenceStatus.EMPTY)
                m.next = "LAST"

            with m.State("LAST"):
                m.d.comb += to_shift.eq(end - 1)
                m.d.sync += last_block.eq(shifted)
                m.next = "ORIGIN"

            with m.State("ORIGIN"):
                m.d.comb += to_shift.eq(command.first)
                m.d.sync += number.eq(shifted >> WORD_BITS)
                with m.If(good & (last_word - first_word >= BITMAP_WORDS)):
                    m.d.sync += status.eq(SequenceStatus.BITMAP_LONG)
                m.next = "BITMAP"

            with m.State("BITMAP"):
                # A word may be on its way to the FIFO.
                m.d.comb += self.bitmap.ready.eq(words.w_level < BITMAP_WORDS)
                with m.If(taken):
                    with m.If(number <= last_word):
                        m.d.sync += number.eq(number + 1)
                    with m.If(self.bitmap.payload.last):
                        with m.If(good & short):
                            m.d.sync += status.eq(SequenceStatus.BITMAP_SHORT)
                        m.next = "SETTLE"

            with m.State("SETTLE"):
                m.d.sync += settle.eq(settle + 1)
                with m.If(settle == SETTLE_CYCLES - 1):
                    m.d.sync += settle.eq(0)
                    with m.If(good & none):
                        m.d.sync += status.eq(SequenceStatus.EMPTY)
                    m.next = "COUNT"

            with m.State("COUNT"):
                m.d.comb += self.count.valid.eq(1)
                with m.If(self.count.ready):
                    m.next = "START"

            with m.State("START"):
                m.d.comb += start.eq(idle)
                with m.If(idle):
                    m.next = "COMMAND"
        m.d.comb += [
            self.count.payload.keys.eq(Mux(none, 0, keys)),
            self.count.payload.status.eq(status),
            run.low.eq(low),
            run.last_key.eq(end - 1),
            run.block_shift.eq(command.block_shift),
            run.word.eq(first_word),
            run.keys.eq(Mux(none, 0, keys)),
        ]

    def _request(self, m, words, new_run, start, idle):
        """Request the keys of a run: find the next block of the word, its first and last key; count through them."""
        config = self.config
        run = Signal(run_layout(config))
        active = Signal()
        ended = Signal()
        left = Signal.like(run.keys)
        bits = Signal(WORD_BLOCKS)
        word = Signal(config.position_bits)
        next_word = Signal(config.position_bits)

        # A stage moves on when the one after it is free or moves on.
        numbered, placed, clipped, valid = Signal(), Signal(), Signal(), Signal()
        block, placed_first = Signal(config.position_bits), Signal(config.position_bits)
        first, last = Signal(config.position_bits), Signal(config.position_bits)
        key, end = Signal(config.position_bits), Signal(config.position_bits)
        taken = valid & self.k_req.ready
        emit_free = ~valid | (taken & (key == end))
        clip_free = ~clipped | emit_free
        place_free = ~placed | clip_free
        number_free = ~numbered | place_free

        lowest = bits & -bits
        rest = bits & ~lowest
        index = Cat(Cat(lowest[n] for n in range(WORD_BLOCKS) if n >> bit & 1).any() for bit in range(WORD_BITS))
        with m.If(number_free):
            m.d.sync += [numbered.eq(bits != 0), block.eq(Cat(index, word)), bits.eq(rest)]
        with m.If(place_free):
            m.d.sync += [placed.eq(numbered), placed_first.eq(block << run.block_shift)]
        with m.If(clip_free):
            size_mask = ((1 << run.block_shift) - 1)[: config.position_bits]
            placed_last = placed_first | size_mask
            m.d.sync += [
                clipped.eq(placed),
                first.eq(Mux(placed_first < run.low, run.low, placed_first)),
                last.eq(Mux(placed_last > run.last_key, run.last_key, placed_last)),
            ]
        with m.If(taken):
            m.d.sync += [key.eq(key + 1), left.eq(left - 1)]
        with m.If(emit_free):
            m.d.sync += valid.eq(clipped)
        # The index on the port stays as it is where nothing is wanted.
        with m.If(emit_free & clipped):
            m.d.sync += [key.eq(first), end.eq(last)]

        loads = active & ~ended & words.r_rdy & (rest == 0) & ((bits == 0) | number_free)
        loaded = data.View(bitmap_word_layout(), words.r_data)
        m.d.comb += words.r_en.eq(loads)
        with m.If(loads):
            m.d.sync += [
                bits.eq(Mux(run.keys == 0, 0, loaded.blocks)),
                ended.eq(loaded.end),
                word.eq(next_word),
                next_word.eq(next_word + 1),
            ]

        ends_only = active & ended & (run.keys == 0)
        m.d.comb += [
            idle.eq(~active),
            self.k_req.valid.eq(valid | ends_only),
            self.k_req.payload.index.eq(key),
            self.k_req.payload.wanted.eq(valid),
            self.k_req.payload.last.eq(ends_only | (left == 1)),
        ]
        with m.If(start):
            m.d.sync += [
                run.eq(new_run),
                left.eq(new_run.keys),
                next_word.eq(new_run.word),
                active.eq(1),
                ended.eq(0),
            ]
        # After the last key there may still be words without blocks.
        done = active & ended & (left == 0)
        with m.If(done & Mux(ends_only, self.k_req.ready, 1)):
            m.d.sync += active.eq(0)
