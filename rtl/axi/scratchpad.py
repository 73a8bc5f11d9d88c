"""Rows of keys, or of values, of two heads: one is read by the core's jobs while the next one comes."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.device.config import DeviceConfig
from rtl.axi.bundles import last_beat_shape, row_word_layout

HALVES = 2

READ_LATENCY = 4
"""From a row that is asked for to its first word."""


def scratchpad_write_layout(config: DeviceConfig) -> data.StructLayout:
    """Write port: the next word, whether it is its row's last one, and whether that is the head's last row."""
    return data.StructLayout({"enable": 1, "data": config.core.lanes * formats.DATA_BITS, "row_end": 1, "head_end": 1})


def scratchpad_read_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the read port: the row of a key in the half that begins with key `first`.

    Without `wanted` no row is read. With `last` the job ends, and with `release` the half is free after it.
    """
    core = config.core
    return data.StructLayout(
        {
            "index": core.position_bits,
            "first": core.position_bits,
            "last_beat": last_beat_shape(config),
            "wanted": 1,
            "last": 1,
            "release": 1,
        }
    )


class Scratchpad(wiring.Component):
    """A memory of words in two halves, which are claimed, filled, read and released in turn.

    In each cycle a word is written and a word is read. A row is read when all of it has been written; until then it and
    the rows behind it wait. A row's first word is offered `READ_LATENCY` cycles after the row was asked for, rows
    follow each other without a gap. Back-pressure holds reads, never writes.

    Parameters
    ----------
    config : DeviceConfig
        The device; its `scratchpad_bytes` are not 0.

    Members
    -------
    free : Out
        A half is free.
    claim : In
        A pulse, when `free`: take a half to fill.
    write : In
        The words of the heads that were claimed, in order.
    read : In
        Rows of the oldest head.
    rows : Out
        Their words. `last` is on the last word of a row that was read with `last`.
    busy : Out
        Rows are asked for that have not left.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "free": Out(1),
                "claim": In(1),
                "write": In(scratchpad_write_layout(config)),
                "read": In(stream.Signature(scratchpad_read_layout(config))),
                "rows": Out(stream.Signature(row_word_layout(config))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        words = config.scratchpad_bytes // config.core.lanes // HALVES
        m.submodules.storage = storage = Memory(shape=self.write.data.shape(), depth=HALVES * words, init=[])
        write, read = storage.write_port(), storage.read_port()

        # The halves: how many are in use, how many rows of each are there, and whether all are.
        claims = Signal(range(HALVES + 1))
        written = [Signal(range(words + 1), name=f"written{half}") for half in range(HALVES)]
        complete = Signal(HALVES)
        write_word, write_half = Signal(range(words)), Signal()
        release, half_read = Signal(), Signal()
        m.d.comb += [
            self.free.eq(claims != HALVES),
            write.en.eq(self.write.enable),
            write.addr.eq(Cat(write_word, write_half)),
            write.data.eq(self.write.data),
        ]
        m.d.sync += claims.eq(claims + self.claim - release)
        row_end = self.write.enable & self.write.row_end
        head_end = row_end & self.write.head_end
        with m.If(self.write.enable):
            m.d.sync += write_word.eq(Mux(head_end, 0, write_word + 1))
        with m.If(head_end):
            m.d.sync += write_half.eq(~write_half)
        for half in range(HALVES):
            with m.If(row_end & (write_half == half)):
                m.d.sync += [written[half].eq(written[half] + 1), complete[half].eq(head_end)]
            with m.If(release & (half_read == half)):
                m.d.sync += [written[half].eq(0), complete[half].eq(0)]

        # The row's number, its place, the words: a stage moves on when the one after it is free or moves on.
        asked, asked_valid, asked_row = Signal(self.read.payload.shape()), Signal(), Signal(range(words))
        placed, placed_valid, placed_row = Signal.like(asked), Signal(), Signal(range(words))
        placed_word, placed_half = Signal(range(words)), Signal()
        current, current_valid = Signal.like(asked), Signal()
        word, beat = Signal(range(words)), Signal.like(asked.last_beat)
        step, row_done, move, place = Signal(), Signal(), Signal(), Signal()
        there = ~placed.wanted | (Array(written)[placed_half] > placed_row)
        # A half that is released before its last row came would be claimed while that is still to come.
        releasable = ~placed.release | complete.bit_select(placed_half, 1)
        m.d.comb += [
            step.eq(current_valid & current.wanted & (~self.rows.valid | self.rows.ready)),
            row_done.eq(current_valid & Mux(current.wanted, step & (beat == current.last_beat), 1)),
            move.eq(placed_valid & there & releasable & (~current_valid | row_done)),
            place.eq(asked_valid & (~placed_valid | move)),
            self.read.ready.eq(~asked_valid | place),
            self.busy.eq(asked_valid | placed_valid | current_valid | self.rows.valid),
        ]
        with m.If(self.read.ready):
            m.d.sync += [
                asked_valid.eq(self.read.valid),
                asked.eq(self.read.payload),
                asked_row.eq(self.read.payload.index - self.read.payload.first),
            ]
        with m.If(place):
            m.d.sync += [
                placed_valid.eq(1),
                placed.eq(asked),
                placed_row.eq(asked_row),
                placed_word.eq(asked_row * (asked.last_beat + 1)),
            ]
        with m.Elif(move):
            m.d.sync += placed_valid.eq(0)
        with m.If(move):
            m.d.sync += [
                current_valid.eq(1),
                current.eq(placed),
                half_read.eq(placed_half),
                word.eq(placed_word),
                beat.eq(0),
                placed_half.eq(placed_half ^ placed.release),
            ]
        with m.Else():
            with m.If(row_done):
                m.d.sync += current_valid.eq(0)
            with m.If(step):
                m.d.sync += [word.eq(word + 1), beat.eq(beat + 1)]

        m.d.comb += [
            release.eq(row_done & current.release),
            read.en.eq(step),
            read.addr.eq(Cat(word, half_read)),
            self.rows.payload.data.eq(read.data),
        ]
        with m.If(step):
            m.d.sync += [
                self.rows.valid.eq(1),
                self.rows.payload.index.eq(current.index),
                self.rows.payload.last.eq(current.last & row_done),
            ]
        with m.Elif(self.rows.ready):
            m.d.sync += self.rows.valid.eq(0)
        return m
