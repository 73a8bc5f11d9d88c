"""Turns ranges of keys, bounds by position and bitmaps of blocks into the keys that jobs stream."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden.config import CoreConfig
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS, SequenceStatus
from golden.masks import MaskKind
from rtl.interfaces import bitmap_layout, key_count_layout, key_request_layout, sequence_layout

COMMAND_CYCLES = 5
"""From a command to the first word of its bitmap, and as many more as its blocks have bits of keys."""

COUNT_CYCLES = 6
"""From the last word of a bitmap to the count, and as many more."""

REQUEST_CYCLES = 7
"""From a count to the first key, if all before is done."""

WORD_BITS = WORD_BLOCKS.bit_length() - 1


def sequencer_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Return the streams of a key sequencer for a core of `config`, by name."""
    return {
        "command": In(stream.Signature(sequence_layout(config))),
        "bitmap": In(stream.Signature(bitmap_layout(config))),
        "count": Out(stream.Signature(key_count_layout(config))),
        "k_req": Out(stream.Signature(key_request_layout(config))),
    }


def word_number_bits(config: CoreConfig) -> int:
    """Return the width of the number of a bitmap's word, counted from key 0."""
    return max(config.position_bits - WORD_BITS, 1)


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
            "word": word_number_bits(config),
            "keys": config.count_bits,
        }
    )


def bitmap_word_layout() -> data.StructLayout:
    """Return the layout of a word of a bitmap within the bounds, and whether it is the last one."""
    return data.StructLayout({"blocks": WORD_BLOCKS, "end": 1})


def _count_ones(bits):
    """Return how many bits are one."""
    if len(bits) == 1:
        return bits
    return _count_ones(bits[: len(bits) // 2]) + _count_ones(bits[len(bits) // 2 :])


class KeySequencer(wiring.Component):
    """Counts the keys of each command, and then requests them one by one, in rising order.

    What a command means is said by `golden.key_sequence`. Its bitmap is taken in, a word a cycle, and counted as it
    comes, so that the number of keys is known before the first is requested: the job announces it. The keys follow when
    the count has been taken. One is requested every cycle, wherever its block is: runs of blocks that are not streamed
    cost a cycle for each word of `WORD_BLOCKS` of them. Meanwhile the next command is counted, as far as the words of
    both bitmaps that are within the bounds find room.

    Every command gets one count and, on k_req, one transfer with `last`. If it has an error it has no keys, and that
    transfer is the only one and not `wanted`. Back-pressure of an output holds the inputs, and loses nothing.

    A command takes `COMMAND_CYCLES` and `block_shift` cycles until its bitmap is taken, a word a cycle; the count is
    offered `COUNT_CYCLES` and `block_shift` after the last word, the first key, if all before is done, `REQUEST_CYCLES`
    after the count was taken.

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
        good = status == SequenceStatus.OK
        # What is in the other bits of these fields is an error, or past all keys.
        first, window = command.first[: config.count_bits], command.window[: config.count_bits]
        far, wide = command.first[config.count_bits :].any(), command.window[config.count_bits :].any()
        low, end = Signal(config.count_bits), Signal(config.count_bits)
        last_key = (end - 1)[: config.position_bits]
        # Keys become blocks, and blocks keys, a place a cycle.
        steps = Signal.like(command.block_shift)
        origin, first_block, last_block = (
            Signal(config.position_bits, name=name) for name in ("origin", "first_block", "last_block")
        )
        keys = Signal(config.count_bits)

        # Words of the bitmap before the bounds, and then those within them after this one; that all have come.
        before, after = Signal(word_number_bits(config)), Signal(word_number_bits(config))
        begun, past = Signal(), Signal()
        inside = (before == 0) & ~past
        starts, ends = inside & ~begun, inside & (after == 0)
        every = Const((1 << WORD_BLOCKS) - 1)
        above = (every << Mux(starts, first_block[:WORD_BITS], 0))[:WORD_BLOCKS]
        below = every >> Mux(ends, ~last_block[:WORD_BITS], 0)
        short = self.bitmap.payload.last & ~past & ~ends
        word, stored = Signal(bitmap_word_layout()), Signal()
        taken = self.bitmap.valid & self.bitmap.ready
        m.d.sync += [
            word.blocks.eq(self.bitmap.payload.blocks & above & below),
            word.end.eq(Mux(good, ends | short, self.bitmap.payload.last)),
            stored.eq(taken & Mux(good, inside | short, self.bitmap.payload.last)),
        ]
        m.d.comb += [words.w_en.eq(stored), words.w_data.eq(word)]

        # Of the first and the last block, if they are streamed, keys outside the bounds are not.
        population = Signal(range(WORD_BLOCKS + 1))
        first_seen, last_seen = Signal(), Signal()
        size_mask = self._size_mask(command.block_shift)
        cut = Signal(config.position_bits)
        m.d.sync += population.eq(Mux(stored, _count_ones(word.blocks), 0))
        with m.If(taken & starts):
            m.d.sync += first_seen.eq(self.bitmap.payload.blocks.bit_select(first_block[:WORD_BITS], 1))
        with m.If(taken & ends):
            m.d.sync += last_seen.eq(self.bitmap.payload.blocks.bit_select(last_block[:WORD_BITS], 1))

        settle = Signal()
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += [command.eq(self.command.payload), status.eq(SequenceStatus.OK)]
                with m.If(self.command.valid):
                    m.next = "BOUNDS"

            with m.State("BOUNDS"):
                windowed = command.mask == MaskKind.WINDOW
                reach = Signal(signed(config.count_bits + 2))
                m.d.comb += reach.eq(command.first_position + 1 - window)
                behind = command.last_position + 1
                m.d.sync += [
                    low.eq(Mux(windowed & ~wide & (reach > first), reach, first)),
                    end.eq(Mux((command.mask != MaskKind.NONE) & (behind < command.end), behind, command.end)),
                ]
                with m.If((command.end > config.max_keys) | (command.block_shift > config.position_bits)):
                    m.d.sync += status.eq(SequenceStatus.RANGE)
                with m.Elif((command.mask > MaskKind.WINDOW) | (windowed & (command.window == 0))):
                    m.d.sync += status.eq(SequenceStatus.MASK)
                m.next = "KEYS"

            with m.State("KEYS"):
                m.d.sync += [origin.eq(first), first_block.eq(low), last_block.eq(last_key)]
                m.d.sync += steps.eq(command.block_shift)
                with m.If(good & (far | (low >= end))):
                    m.d.sync += status.eq(SequenceStatus.EMPTY)
                m.next = "BLOCKS"

            with m.State("BLOCKS"):
                m.d.sync += steps.eq(steps - 1)
                with m.If(steps == 0):
                    m.next = "WORDS"
                with m.Else():
                    m.d.sync += [block.eq(block >> 1) for block in (origin, first_block, last_block)]

            with m.State("WORDS"):
                words_before = (first_block >> WORD_BITS) - (origin >> WORD_BITS)
                words_after = (last_block >> WORD_BITS) - (first_block >> WORD_BITS)
                m.d.sync += [before.eq(words_before), after.eq(words_after)]
                m.d.sync += [signal.eq(0) for signal in (begun, past, first_seen, last_seen, keys)]
                with m.If(good & (words_after >= BITMAP_WORDS)):
                    m.d.sync += status.eq(SequenceStatus.BITMAP_LONG)
                m.next = "BITMAP"

            with m.State("BITMAP"):
                # A word may be on its way to the FIFO.
                m.d.comb += self.bitmap.ready.eq(words.w_level < BITMAP_WORDS)
                m.d.sync += [keys.eq(keys + population), steps.eq(command.block_shift)]
                with m.If(taken):
                    with m.If(before != 0):
                        m.d.sync += before.eq(before - 1)
                    with m.Else():
                        m.d.sync += [begun.eq(1), after.eq(after - 1), past.eq(past | ends)]
                    with m.If(self.bitmap.payload.last):
                        with m.If(good & short):
                            m.d.sync += status.eq(SequenceStatus.BITMAP_SHORT)
                        m.next = "SETTLE"

            with m.State("SETTLE"):
                m.d.sync += [keys.eq(keys + population), settle.eq(~settle)]
                with m.If(settle):
                    m.next = "SCALE"

            with m.State("SCALE"):
                m.d.sync += steps.eq(steps - 1)
                with m.If(steps == 0):
                    m.next = "CUT LOW"
                with m.Else():
                    m.d.sync += keys.eq(keys << 1)

            with m.State("CUT LOW"):
                m.d.comb += cut.eq(Mux(first_seen, low & size_mask, 0))
                m.d.sync += keys.eq(keys - cut)
                m.next = "CUT HIGH"

            with m.State("CUT HIGH"):
                m.d.comb += cut.eq(Mux(last_seen, ~last_key & size_mask, 0))
                m.d.sync += keys.eq(keys - cut)
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
            run.low.eq(low),
            run.last_key.eq(last_key),
            run.block_shift.eq(command.block_shift),
            run.word.eq(first_block >> WORD_BITS),
            run.keys.eq(Mux(good, keys, 0)),
            self.count.payload.keys.eq(run.keys),
            self.count.payload.status.eq(Mux(good & (keys == 0), SequenceStatus.EMPTY, status)),
        ]

    def _size_mask(self, block_shift):
        """Return the places of a key's index that are within its block."""
        return Cat(block_shift > place for place in range(self.config.position_bits))

    def _request(self, m, words, new_run, start, idle):
        """Request the keys of a run: find the next block of the word, its first and last key; count through them."""
        config = self.config
        run = Signal(run_layout(config))
        active, ended = Signal(), Signal()
        left = Signal.like(run.keys)
        bits = Signal(WORD_BLOCKS)
        word, next_word = Signal.like(run.word), Signal.like(run.word)

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
            m.d.sync += [numbered.eq((bits != 0) & (run.keys != 0)), block.eq(Cat(index, word)), bits.eq(rest)]
        with m.If(place_free):
            m.d.sync += [placed.eq(numbered), placed_first.eq(block << run.block_shift)]
        with m.If(clip_free):
            placed_last = placed_first | self._size_mask(run.block_shift)
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
                bits.eq(loaded.blocks),
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
