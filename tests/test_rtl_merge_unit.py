"""Merging: any number of states to golden's bits, parts that are wrong, and when each beat appears."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing, until

from golden import formats
from golden.config import CoreConfig
from golden.state import PartialState, merge, normalise
from rtl.divider import DIVIDER_LATENCY
from rtl.interfaces import STATE_PIECES
from rtl.merge_unit import DRAIN, MERGE_FIFO_DEPTH, MergeUnit
from rtl.state_merger import MERGE_STAGES
from sim.stimulus import state_words

WRITE_LATENCY = 2
"""From a beat's last word to the beat on the port: the beat's register, and the FIFO."""

Beats = list[dict[str, Any]]
Stalls = tuple[Stall, Stall, Stall]
NO_STALLS = (flowing, flowing, flowing)


def config_of(output_lanes: int, **changes: int) -> CoreConfig:
    return CoreConfig(
        **{
            "rows": 2,
            "lanes": 8,
            "max_head_dim": 16,
            "max_value_dim": 8,
            "max_keys": 256,
            "output_lanes": output_lanes,
            "rows_per_scaler": 2,
        }
        | changes
    )


def beats_of(words: list[int], tag: int, config: CoreConfig) -> Beats:
    """Return a packet of the o port."""
    lanes = config.output_lanes
    data = [[word >> 16 * lane & 0xFFFF for lane in range(lanes)] for word in words]
    return [{"data": beat, "tag": tag, "last": int(n == len(data) - 1)} for n, beat in enumerate(data)]


def output_beats(output: np.ndarray, tag: int, config: CoreConfig) -> Beats:
    """Return the packet of a normalised output."""
    lanes = config.output_lanes
    words = []
    for row in output.tolist():
        row += [0] * (-len(row) % lanes)
        for start in range(0, len(row), lanes):
            words.append(sum((x & 0xFFFF) << 16 * lane for lane, x in enumerate(row[start : start + lanes])))
    return beats_of(words, tag, config)


@dataclass(frozen=True)
class Head:
    """States to merge."""

    states: list[PartialState]
    emit_state: bool
    tags: list[int]

    def parts(self) -> list[dict[str, int]]:
        rows, value_dim = self.states[0].accumulator.shape
        return [
            {
                "more": int(n < len(self.states) - 1),
                "emit_state": int(self.emit_state),
                "void": 0,
                "last_row": rows - 1,
                "last_element": value_dim - 1,
            }
            for n in range(len(self.states))
        ]

    def packets(self, config: CoreConfig) -> list[Beats]:
        return [
            beats_of(state_words(state, config), tag, config) for state, tag in zip(self.states, self.tags, strict=True)
        ]

    def result(self, config: CoreConfig) -> Beats:
        state = reduce(merge, self.states)
        if self.emit_state:
            return beats_of(state_words(state, config), self.tags[-1], config)
        return output_beats(normalise(state), self.tags[-1], config)


@dataclass
class Run:
    """What went over the ports, and when."""

    part: Source
    packet: Source
    o: Sink


def run(
    config: CoreConfig,
    parts: list[dict[str, int]],
    packets: list[Beats],
    beats: int,
    stalls: Stalls = NO_STALLS,
) -> Run:
    """Send parts and their packets until so many beats have come, and then a while longer."""
    answer: list[Run] = []

    async def process(bench: Bench) -> None:
        part = Source(bench, "part", parts, stalls[0])
        packet = Source(bench, "packet", [beat for beats in packets for beat in beats], stalls[1])
        sink = Sink(bench, "o", stalls[2])
        answer.append(Run(part, packet, sink))
        late = 0
        while late < DRAIN + 10:
            part.step()
            packet.step()
            sink.step()
            late = late + 1 if len(sink.words) >= beats and not part.left and not packet.left else 0
            await bench.tick()

    simulate(MergeUnit(config), process)
    return answer[0]


def check(config: CoreConfig, heads: list[Head], stalls: Stalls = NO_STALLS) -> Run:
    """Hold what comes of heads to golden."""
    expected = [beat for head in heads for beat in head.result(config)]
    parts = [part for head in heads for part in head.parts()]
    packets = [packet for head in heads for packet in head.packets(config)]
    seen = run(config, parts, packets, len(expected), stalls)
    assert seen.o.words == expected
    return seen


def random_state(random: np.random.Generator, config: CoreConfig, rows: int, value_dim: int, keys: int) -> PartialState:
    """Return the state of rows that saw up to so many keys, some of them none."""
    maximum = random.integers(-20, 20, rows) * int(random.choice([1, 1, 25]))
    total = random.integers(2070, 4095 * keys, rows)
    seen = random.random(rows) < 0.85
    accumulator = np.floor(random.uniform(-128, 127, (rows, value_dim)) * total[:, None]).astype(np.int64)
    return PartialState(np.where(seen, maximum, formats.NO_MAXIMUM), total * seen, accumulator * seen[:, None])


def random_heads(random: np.random.Generator, config: CoreConfig) -> list[Head]:
    """Return heads of 1 to 4 parts, giving states and outputs, in a random order."""
    heads = []
    for number in (1, 2, 4):
        for emit_state in (False, True):
            rows, value_dim = (
                int(random.integers(1, config.rows + 1)),
                int(random.integers(1, config.max_value_dim + 1)),
            )
            states = [random_state(random, config, rows, value_dim, config.max_keys // number) for _ in range(number)]
            tags = random.integers(0, 1 << config.tag_bits, number).tolist()
            heads.append(Head(states, emit_state, tags))
    return [heads[n] for n in random.permutation(len(heads))]


@pytest.mark.parametrize("output_lanes", [1, 4])
@pytest.mark.parametrize(
    "stalls",
    [
        (flowing, flowing, flowing),
        (at_random(1), at_random(2), at_random(3)),
        (flowing, flowing, at_random(4, 0.8)),
        (until(50), flowing, until(400)),
    ],
    ids=["flowing", "half", "slow output", "late"],
)
def test_random_heads_are_merged_as_golden_says(output_lanes: int, stalls: Stalls):
    config = config_of(output_lanes)
    heads = random_heads(np.random.default_rng(5), config)
    check(config, heads, stalls)


@pytest.mark.parametrize("emit_state", [False, True])
def test_many_parts(emit_state: bool):
    """Far more than the 16 up to which no quotient leaves the divider's range; each rounds its row down."""
    config = config_of(2, rows=1, rows_per_scaler=1, max_value_dim=8)
    random = np.random.default_rng(6)
    states = []
    for n in range(40):
        total = np.array([2070 + int(random.integers(5))])
        states.append(PartialState(np.array([n % 7 - n // 9]), total, -128 * total[:, None] - np.arange(4)))
    head = Head(states, emit_state, [9] * 40)
    if not emit_state:
        assert (normalise(reduce(merge, states)) == formats.OUTPUT_MIN).any()
    check(config, [head])


@pytest.mark.parametrize("max_keys", [16, 1 << 20])
@pytest.mark.parametrize("emit_state", [False, True])
def test_the_widest_states(max_keys: int, emit_state: bool):
    """The largest sums and accumulators that two parts can have, maxima as far apart as can be, rows without a key."""
    config = config_of(4, max_keys=max_keys, rows=4, rows_per_scaler=4)
    total = np.full(4, 4095 * max_keys // 2)
    accumulator = np.array([-128, 127, 0, 64]) * total[:, None]
    none = np.array([0, 1, 1, 0])
    far = PartialState(np.array([512, -512, 512, -1]), total, accumulator)
    other = PartialState(
        np.where(none, formats.NO_MAXIMUM, [512, 0, 0, -512]), total * (1 - none), accumulator * (1 - none)[:, None]
    )
    empty = PartialState.empty(4, 4)
    for states in ([far, other], [other, far], [empty, far, other], [empty, empty]):
        check(config, [Head(states, emit_state, [1] * len(states))])


def only_zero(tag: int, config: CoreConfig) -> Beats:
    return beats_of([0], tag, config)


@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("fault", ["rejected", "short", "long", "a word longer", "marked"])
@pytest.mark.parametrize("emit_state", [False, True])
def test_a_wrong_part_makes_its_head_void_and_no_other(wrong: int, fault: str, emit_state: bool):
    config = config_of(2)
    random = np.random.default_rng(7)
    states = [random_state(random, config, 2, 5, 80) for _ in range(3)]
    bad, good = Head(states, emit_state, [4, 5, 6]), Head(states, emit_state, [7, 8, 9])
    parts, packets = bad.parts(), bad.packets(config)
    packet = packets[wrong]
    if fault == "rejected":
        packets[wrong] = only_zero(packet[0]["tag"], config)
    elif fault == "short":
        packets[wrong] = [*packet[:9], packet[9] | {"last": 1}]
    elif fault in ("long", "a word longer"):
        more = [packet[0]] * (1 if fault == "long" else STATE_PIECES - 1)
        packets[wrong] = [*packet[:-1], packet[-1] | {"last": 0}, *more, packet[0] | {"last": 1}]
    else:
        parts[wrong]["void"] = 1
    written = 0
    if wrong == 2 and fault in ("short", "long", "a word longer"):
        # What was right of the last part has been written: a row of the state is 4 beats of words, 3 of them elements.
        words = 3 if fault == "short" else 7
        written = words * STATE_PIECES if emit_state else words - (1 if words < 4 else 2)
    right = [beat | {"last": 0} for beat in bad.result(config)[:written]]
    expected = [*right, *only_zero(6, config), *good.result(config)]
    stalls = (flowing, at_random(8, 0.2), at_random(9, 0.2))
    seen = run(config, [*parts, *good.parts()], [*packets, *good.packets(config)], len(expected), stalls)
    assert seen.o.words == expected


def whole_head(config: CoreConfig, parts: int, emit_state: bool) -> Head:
    """Return a head of the largest size."""
    random = np.random.default_rng(3)
    states = [random_state(random, config, config.rows, config.max_value_dim, 100) for _ in range(parts)]
    return Head(states, emit_state, [3] * parts)


@pytest.mark.parametrize("output_lanes", [1, 4])
def test_a_word_a_cycle(output_lanes: int):
    """Pieces of a beat of words, a cycle more for each further word; nothing else holds a state that is stored."""
    config = config_of(output_lanes)
    head = whole_head(config, 2, True)
    seen = check(config, [head])
    beats = len(head.packets(config)[0]) // STATE_PIECES
    ends = seen.packet.taken[STATE_PIECES - 1 : STATE_PIECES * beats : STATE_PIECES]
    headers = range(0, beats, beats // config.rows)
    steps = [STATE_PIECES if n in headers else STATE_PIECES + output_lanes - 1 for n in range(1, beats)]
    assert np.diff(ends).tolist() == steps
    assert seen.packet.taken[0] == seen.part.taken[0] + 1
    # The next part comes when the longest way is through, and the state leaves as fast as it comes.
    assert seen.part.taken[1] == ends[-1] + DRAIN + 2
    first = seen.packet.taken[beats * STATE_PIECES + STATE_PIECES - 1]
    assert seen.o.taken[0] == first + MERGE_STAGES + WRITE_LATENCY
    last = seen.packet.taken[-1]
    assert seen.o.taken[-1] == last + MERGE_STAGES + WRITE_LATENCY + STATE_PIECES - 1


def test_quotients_come_after_the_divider_and_one_in_three_cycles():
    config = config_of(4, max_value_dim=32)
    head = whole_head(config, 1, False)
    seen = check(config, [head])
    row_pieces = STATE_PIECES * (1 + config.output_beats(config.max_value_dim))
    # The first beat of elements: three words follow its first.
    first = seen.packet.taken[2 * STATE_PIECES - 1]
    assert first == seen.packet.taken[STATE_PIECES - 1] + STATE_PIECES + config.output_lanes - 1
    assert seen.o.taken[0] == first + MERGE_STAGES + DIVIDER_LATENCY + WRITE_LATENCY
    # The next row's header comes when this row's last quotient has left.
    words = config.max_value_dim
    last = seen.packet.taken[row_pieces - 1]
    assert 3 * (words - config.output_lanes) <= last - first <= 3.6 * (words - config.output_lanes) + STATE_PIECES
    assert seen.packet.taken[row_pieces + STATE_PIECES - 1] == last + DRAIN + 1


@pytest.mark.parametrize("emit_state", [False, True])
def test_a_blocked_output_holds_the_input_and_loses_nothing(emit_state: bool):
    config = config_of(1, rows=3, rows_per_scaler=3)
    head = whole_head(config, 1, emit_state)
    seen = check(config, [head], (flowing, flowing, until(300)))
    assert seen.o.taken[0] == 300
    assert seen.o.offered[0] < 60
    waited = sum(cycle < 300 for cycle in seen.packet.taken)
    assert waited < len(seen.packet.words)
    assert len(head.result(config)) > MERGE_FIFO_DEPTH
