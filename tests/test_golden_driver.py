"""The driver on a board without hardware: bit for bit the layer, whatever its shape, and an answer to each failure."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_board import BASE, FakeBoard

from golden import formats
from golden.block_mask import BlockMask
from golden.device.boards import MappedMemory
from golden.device.config import DEVICE_PRESETS, DeviceConfig
from golden.device.descriptor import Descriptor, Flag
from golden.device.driver import DescriptorError, Device, DeviceError
from golden.device.layout import Placement, Request
from golden.device.registers import BY_NAME
from golden.device.status import DeviceStatus
from golden.errors import InputError
from golden.layer import run_layer
from golden.masks import Mask
from golden.quantise import QuantisedAttention, quantise
from golden.state import merge, normalise
from golden.threshold import Threshold

ROOT = Path(__file__).resolve().parent.parent
TINY = DEVICE_PRESETS["tiny"]


def layer(
    queries: int = 9, keys: int = 37, heads: tuple[int, int] = (4, 2), dims: tuple[int, int] = (13, 6), seed: int = 0
) -> QuantisedAttention:
    """Return a random layer: query heads and kv heads, dimensions of keys and of values."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(heads[0], queries, dims[0]))
    k = rng.normal(size=(heads[1], keys, dims[0]))
    return quantise(q, k, rng.normal(size=(heads[1], keys, dims[1])))


def board(config: DeviceConfig = TINY) -> tuple[FakeBoard, Device]:
    made = FakeBoard(config)
    return made, Device(made, made.memory, seconds=5.0)


def holes(kv_heads: int, keys: int, key_block: int) -> BlockMask:
    """Return a block mask of every third block and the last ones."""
    allowed = np.zeros((kv_heads, -(-keys // 4), -(-keys // key_block)), dtype=bool)
    allowed[:, :, ::3] = allowed[:, ::2, -1] = True
    return BlockMask(allowed, 4, key_block)


WHOLE = layer()
CASES = {
    "plain": Request(WHOLE),
    "causal": Request(WHOLE, Mask.of(causal=True)),
    "window": Request(WHOLE, Mask.of(window=5), Threshold.of(tau=2)),
    "one row": Request(layer(queries=1, heads=(1, 1)), Mask.of(causal=True), Threshold.of(tau=1)),
    "whole beats": Request(layer(dims=(16, 8)), threshold=Threshold.of(tau=3)),
    "more queries than keys": Request(layer(queries=40, keys=7), Mask.of(causal=True)),
    "paged": Request(WHOLE, Mask.of(causal=True), pages=np.array([4, 0, 2]), page_keys=16),
    "block mask": Request(WHOLE, Mask.of(causal=True), block_mask=holes(2, 37, 6)),
    "block mask of many words": Request(layer(keys=300), block_mask=holes(2, 300, 3)),
    "paged block mask": Request(
        layer(keys=80),
        block_mask=holes(2, 80, 8),
        pages=np.array([1, 3, 0]),
        page_keys=32,
        threshold=Threshold.of(tau=4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_gives_what_the_layer_gives(name: str):
    request = CASES[name]
    _, device = board()
    result = device.run(request)
    expected = run_layer(request.attention, TINY.core, request.mask, request.threshold, request.block_mask)
    assert np.array_equal(result.output, expected.attended.output)
    assert np.array_equal(result.real_output, expected.attended.real_output)
    record = result.record
    assert record.jobs == len(expected.plan)
    assert record.keys == expected.attended.streamed.sum()
    assert record.survivors == expected.attended.survivors.sum()
    assert record.packs == expected.attended.packs.sum()
    assert record.saturated == expected.attended.saturated.sum()
    assert record.dropped == expected.attended.dropped.max()
    assert record.tau == request.threshold.tau


@pytest.mark.parametrize("heads", [(4, 2), (4, 1)])
def test_tensors_may_lie_in_memory_in_any_order(heads: tuple[int, int]):
    """Keys that are kept transposed, say, are a view or an array in Fortran's order."""
    attention = layer(heads=heads)
    turned = replace(
        attention,
        query=np.asfortranarray(attention.query),
        key=attention.key.transpose(0, 2, 1).copy().transpose(0, 2, 1),
        value=attention.value[:, ::-1][:, ::-1],
    )
    _, device = board()
    assert np.array_equal(device.run(Request(turned)).output, device.run(Request(attention)).output)


def test_shared_values_are_not_laid_out():
    config = DeviceConfig(TINY.core.override(shared_values=1), data_bits=64)
    rng = np.random.default_rng(3)
    attention = quantise(rng.normal(size=(4, 5, 16)), rng.normal(size=(1, 30, 16)), None, value_dim=6)
    made, device = board(config)
    request = Request(attention, Mask.of(causal=True), pages=np.array([1, 0]))
    assert Placement(request, device.capability, made.memory).descriptor.value_address == 0
    result = device.run(request)
    expected = run_layer(attention, config.core, request.mask)
    assert np.array_equal(result.output, expected.attended.output)
    # A device without the option gets them like any others.
    _, plain = board()
    assert np.array_equal(plain.run(request).output, expected.attended.output)


def test_split_keys_are_merged_or_chained_to_the_same_bits():
    _, device = board()
    parts = [slice(0, 16), slice(16, 37)]
    partial = [device.run(Request(WHOLE, keys=part, emit_state=True)).states for part in parts]
    assert [len(states) for states in partial] == [10, 10], "two kv heads of 18 rows, 4 a block"
    chained = device.run(Request(WHOLE, keys=parts[1], states=partial[0], emit_state=True)).states
    whole = device.run(Request(WHOLE, keys=parts[1], states=partial[0]))
    for n, state in enumerate(chained):
        # The rows of block n, of two heads each: query by query.
        rows = np.arange(16)[n % 5 * 4 :][:4] if n % 5 < 4 else np.arange(16, 18)
        heads, queries = n // 5 * 2 + rows % 2, rows // 2
        assert np.array_equal(whole.output[heads, queries], normalise(state))
    merged = [merge(a, b) for a, b in zip(*partial, strict=True)]
    assert all(state.accumulator.shape[1] == 6 for state in merged)
    with pytest.raises(InputError, match="a request that emits states has no output"):
        _ = device.run(Request(WHOLE, emit_state=True)).real_output
    with pytest.raises(InputError, match="states must be 10, one a block"):
        device.run(Request(WHOLE, states=merged[:9]))


def test_a_target_is_followed_within_a_head_and_from_one_descriptor_to_the_next():
    _, device = board()
    target = Threshold.of(target=0.3, epsilon=0.2)
    result = device.run(Request(WHOLE, threshold=target))
    expected = run_layer(WHOLE, TINY.core, threshold=target).attended
    assert len(set(expected.tau.flat)) > 2
    assert np.array_equal(result.output, expected.output)
    assert result.record.tau == expected.tau[-1, -1]
    # The same head cut into two descriptors.
    single = layer(queries=8, heads=(1, 1))
    expected = run_layer(single, TINY.core, threshold=target).attended
    parts = [
        replace(single, query=single.query[:, rows], row_positions=single.positions[rows])
        for rows in (slice(0, 4), slice(4, 8))
    ]
    device.run(Request(parts[0], threshold=target))
    result = device.run(Request(parts[1], threshold=target, continue_tau=True))
    assert np.array_equal(result.output, expected.output[:, 4:])
    assert result.record.tau == expected.tau[0, 1] != target.tau

    # What failed, and a reset, leave nothing to go on from.
    bad = replace(Placement(Request(parts[1]), device.capability, device.memory).descriptor, tau=0)
    for spoil in (lambda: device.wait(device.submit(bad, checked=False)), device.reset):
        device.run(Request(parts[0], threshold=target))
        spoil()
        result = device.run(Request(parts[1], threshold=target, continue_tau=True))
        assert result.record.tau == formats.TAU_KEEP_ALL


def test_nothing_but_outputs_and_records_is_written():
    made, device = board()
    request = Request(WHOLE)
    placement = Placement(request, device.capability, made.memory)
    made.bus.written[:] = False
    device.wait(device.submit(placement.descriptor))
    d = placement.descriptor
    starts = [
        d.output_address - BASE + head * d.output_head_stride + query * d.output_row_stride
        for head in range(4)
        for query in range(9)
    ]
    allowed = np.zeros_like(made.bus.written)
    for start in starts:
        allowed[start : start + 12] = True
    record = device.read("RECORD_BASE_LO") * 64 - BASE % (1 << 32)
    allowed[record : record + 64] = True
    assert np.array_equal(made.bus.written, allowed)


# The queue


def test_descriptors_queue_and_their_slots_come_round():
    made = FakeBoard(TINY)
    device = Device(made, made.memory, slots=2, seconds=0.05)
    placement = Placement(Request(WHOLE), device.capability, made.memory, tag=5)
    for number in range(1, 6):
        assert device.submit(replace(placement.descriptor, tag=number)) == number
        record = device.wait(number)
        assert (record.sequence, record.tag, record.status) == (number, number, 0)
    made.stuck = True
    numbers = [device.submit(placement.descriptor) for _ in range(2)]
    assert numbers == [6, 7]
    with pytest.raises(InputError, match="all 2 slots of the queue are taken; wait for one"):
        device.submit(placement.descriptor)
    made.registers.ports["status_busy"] = 1
    with pytest.raises(DeviceError, match=r"descriptor 6 has not ended in 0\.05 s, the device is busy"):
        device.wait(6)
    made.stuck = False
    made.registers.ports["status_busy"] = 0
    device.write("CONTROL", run=1)
    assert [device.wait(number).sequence for number in numbers] == numbers


def test_an_interrupt_is_waited_for_and_cleared():
    made = FakeBoard(TINY)
    waits = []

    def interrupt(seconds: float) -> None:
        assert 0 < seconds <= 5
        waits.append(made.irq)
        made.stuck = False
        # Any write lets the board work.
        made.write32(BY_NAME["CONTROL"].offset, 1)
        assert made.irq

    device = Device(made, made.memory, interrupt, seconds=5.0)
    placement = Placement(Request(WHOLE), device.capability, made.memory)
    made.stuck = True
    number = device.submit(placement.descriptor)
    assert device.wait(number).status == DeviceStatus.OK
    assert waits == [False]
    assert not made.irq
    queue = device.read("QUEUE_BASE_LO") * 256 - BASE % (1 << 32)
    found = Descriptor.parse(made.bus.content[queue : queue + 256].tobytes())
    assert found == replace(placement.descriptor, flags=placement.descriptor.flags | Flag.INTERRUPT)


def test_closing_stops_the_device_and_gives_all_memory_back():
    made = FakeBoard(TINY)
    with Device(made, made.memory) as device:
        device.run(Request(WHOLE))
        assert device.read("CONTROL", "run") == 1
    assert made.registers.ports["control_run"] == 0
    assert made.memory._used == {}


def test_counters_are_put_together():
    made, device = board()
    reads = {f"{name}_{half}": n for n, name in enumerate(("CYCLES", "JOBS"), 3) for half in ("LO", "HI")}
    for name, value in reads.items():
        made.registers.ports[name.lower()] = value
    counts = device.counters()
    assert counts["CYCLES"] == 3 + (3 << 32)
    assert counts["JOBS"] == 4 + (4 << 32)
    assert counts["QK"] == 0


# Failures


def test_a_descriptor_that_fails_says_so_and_the_next_is_right():
    made, device = board()

    def lose_the_scales() -> None:
        queue = device.read("QUEUE_BASE_LO") * 256 - BASE % (1 << 32)
        made.bus.content[queue + 64 : queue + 72] = np.frombuffer((1 << 39).to_bytes(8, "little"), dtype=np.uint8)

    made.before = lose_the_scales
    with pytest.raises(
        DescriptorError, match="descriptor 1 ended with READ: the bus answered a read with an error"
    ) as e:
        device.run(Request(WHOLE))
    assert e.value.record.status == DeviceStatus.READ
    used = dict(made.memory._used)
    made.before = lambda: None
    expected = run_layer(WHOLE, TINY.core).attended.output
    assert np.array_equal(device.run(Request(WHOLE)).output, expected)
    assert made.memory._used == used, "memory is lost"


def test_what_the_device_would_refuse_is_refused_before():
    made, device = board(replace(TINY, core=replace(TINY.core, target_control=0)))
    placement = Placement(Request(WHOLE), device.capability, made.memory)
    bad = replace(placement.descriptor, key_address=BASE + 2)
    with pytest.raises(InputError, match="the device would end this descriptor with ADDRESS: an address or a stride"):
        device.submit(bad)
    record = device.wait(device.submit(bad, checked=False))
    assert record.status == DeviceStatus.ADDRESS
    used = dict(made.memory._used)
    with pytest.raises(InputError, match="UNSUPPORTED"):
        device.run(Request(WHOLE, threshold=Threshold(target=30000), continue_tau=True))
    assert made.memory._used == used


def test_a_device_that_hangs_is_reset_before_memory_is_given_back():
    made = FakeBoard(TINY)
    device = Device(made, made.memory, seconds=0.02)
    made.stuck = True
    made.before = lambda: None
    used = dict(made.memory._used)
    # The reset hangs as well, so the memory stays where it is.
    with pytest.raises(DeviceError, match=r"a soft reset has not ended in 0\.02 s, the device is draining, resetting"):
        device.run(Request(WHOLE))
    assert len(made.memory._used) > len(used)


def test_a_record_that_was_not_written_is_noticed():
    made, device = board()
    placement = Placement(Request(WHOLE), device.capability, made.memory)
    for name in ("RECORD_BASE_LO", "RECORD_BASE_HI"):
        device.write(name, value=0)
    with pytest.raises(DeviceError, match="descriptor 1 has ended without a record; the last error is WRITE"):
        device.wait(device.submit(placement.descriptor))


def test_a_record_of_before_a_reset_is_not_taken_for_one_that_was_not_written():
    made, device = board()
    placement = Placement(Request(WHOLE), device.capability, made.memory)
    assert device.wait(device.submit(placement.descriptor)).sequence == 1
    device.reset()
    for name in ("RECORD_BASE_LO", "RECORD_BASE_HI"):
        device.write(name, value=0)
    with pytest.raises(DeviceError, match="descriptor 1 has ended without a record; the last error is WRITE"):
        device.wait(device.submit(placement.descriptor))


def test_another_device_or_version_is_refused():
    class Other(FakeBoard):
        def read32(self, offset: int) -> int:
            return {BY_NAME["ID"].offset: 0, BY_NAME["VERSION"].offset: 0x20000}.get(offset, super().read32(offset))

    made = Other(TINY)
    with pytest.raises(
        DeviceError, match="there is no lean-attention device: register ID reads 0x00000000, not 0x4c41544e"
    ):
        Device(made, made.memory)
    made.registers.config = TINY
    Other.read32 = lambda self, offset: 0x20000 if offset == 4 else FakeBoard.read32(self, offset)
    with pytest.raises(DeviceError, match="the device has registers of version 2; this driver is for 1"):
        Device(made, made.memory)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"slots": 3}, "slots must be a power of two from 1 to 32768, not 3"),
        ({"slots": 0}, "slots must be a power of two from 1 to 32768, not 0"),
        ({"slots": 4.0}, "slots must be a power of two from 1 to 32768, not 4.0"),
        ({"timeout_cycles": -1}, "timeout_cycles must be a whole number from 0 to 4294967295, not -1"),
        ({"timeout_cycles": 1e6}, "timeout_cycles must be a whole number from 0 to 4294967295, not 1000000.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str):
    made = FakeBoard(TINY)
    with pytest.raises(InputError, match=sentence):
        Device(made, made.memory, **options)


def test_memory_that_the_device_cannot_reach_is_refused():
    made = FakeBoard(TINY.override(address_bits=32))
    with pytest.raises(InputError, match="4096 bytes of memory at 0x120000000 are not within the device's 32 bits"):
        Device(made, made.memory)
    assert made.memory._used == {}


def test_a_buffer_that_ends_where_the_device_cannot_reach_is_refused():
    capability = TINY.override(address_bits=32).capability
    for address, reached in ((0xFFFF_0000, True), (0xFFFF_F800, False)):
        memory = MappedMemory(np.zeros(1 << 14, dtype=np.uint8), address)
        if reached:
            assert Placement(Request(WHOLE), capability, memory).descriptor.output_address > address
        else:
            with pytest.raises(InputError, match="are not within the device's 32 bits of address"):
                Placement(Request(WHOLE), capability, memory)
            assert memory._used == {}


def test_memory_with_room_for_half_of_the_queues_is_given_back():
    made = FakeBoard(TINY)
    memory = MappedMemory(made.bus.content[:4096], BASE)
    with pytest.raises(InputError, match="no room for 1024 bytes"):
        Device(made, memory)
    assert memory._used == {}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keys": slice(5, 5)}, "keys must be a part of the layer's 37, not 5:5"),
        ({"keys": slice(0, 38)}, "keys must be a part of the layer's 37, not 0:38"),
        ({"keys": slice(0, 37, 2)}, re.escape("a slice of whole numbers without a step, not slice(0, 37, 2)")),
        ({"keys": slice(0.5, 37)}, re.escape("a slice of whole numbers without a step, not slice(0.5, 37, None)")),
        ({"keys": (0, 37)}, re.escape("keys must be a slice of whole numbers without a step, not (0, 37)")),
        ({"pages": np.arange(3), "page_keys": 12}, "page_keys must be a power of two from 16, not 12"),
        ({"pages": np.arange(5), "page_keys": 8}, "page_keys must be a power of two from 16, not 8"),
        ({"pages": np.arange(3), "page_keys": 16.0}, "page_keys must be a power of two from 16, not 16.0"),
        ({"pages": np.arange(4)}, "pages must be 3 different whole numbers, one a page of 16 keys"),
        ({"pages": np.array([0, 1, 1])}, "pages must be 3 different whole numbers"),
        ({"pages": np.array([0, -1, 1])}, "pages can't be negative"),
        ({"pages": np.array([0.0, 2.0, 1.0])}, "pages must be 3 different whole numbers"),
        (
            {"attention": replace(WHOLE, row_positions=np.arange(9) * 2)},
            "a device needs queries whose positions follow each other",
        ),
        (
            {"attention": replace(WHOLE, key_indices=np.arange(37) + 1)},
            "a device needs keys whose indices count up from 0",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(changes: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        replace(CASES["plain"], **changes)


def test_a_pool_that_memory_does_not_hold_is_refused():
    """However large: it is not built first."""
    made, device = board()
    used = dict(made.memory._used)
    with pytest.raises(InputError, match="no room for"):
        device.run(Request(WHOLE, pages=np.array([0, 1, (1 << 32) - 1])))
    assert made.memory._used == used, "memory is lost"


def test_only_what_is_queued_is_waited_for():
    made = FakeBoard(TINY)
    device = Device(made, made.memory, slots=2, seconds=5.0)
    placement = Placement(Request(WHOLE), device.capability, made.memory)
    numbers = [device.submit(placement.descriptor) for _ in range(3)]
    assert device.wait(2).sequence == 2
    for number in (1, 4, 0, -1):
        with pytest.raises(InputError, match=f"descriptor {number} is not one of the last 2 that were submitted"):
            device.wait(number)
    assert device.wait(numbers[-1]).sequence == 3
    device.reset()
    for number in (0, 1):
        with pytest.raises(InputError, match=f"descriptor {number} is not one of the last 2 that were submitted"):
            device.wait(number)


def test_a_block_without_a_key_is_refused():
    made, device = board()
    used = dict(made.memory._used)
    early = Request(WHOLE, Mask.of(causal=True), keys=slice(32, 37))
    with pytest.raises(InputError, match="positions 28 to 29 may attend to none of the keys 32 to 36"):
        device.run(early)
    mask = holes(2, 37, 8)
    mask.allowed[1, 7] = False  # the positions of the first block of rows
    with pytest.raises(InputError, match="the block mask leaves kv head 1, block 0 of rows, without a key"):
        device.run(Request(WHOLE, block_mask=mask))
    assert made.memory._used == used, "memory is lost"
