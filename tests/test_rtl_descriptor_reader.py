"""Descriptors as the device reads and checks them, against golden."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from device_cases import random_descriptor, spoilt_descriptor
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, at_random, flowing

from golden.device.config import DEVICE_PRESETS, DeviceConfig
from golden.device.descriptor import Descriptor, Flag, check
from golden.device.status import DeviceStatus
from rtl.axi.control_reader import Target
from rtl.axi.descriptor_reader import CHECK_CYCLES, DESCRIPTOR_WORDS, DescriptorReader

TINY = replace(DEVICE_PRESETS["tiny"], core=DEVICE_PRESETS["tiny"].core.override(shared_values=1))
BARE = replace(
    TINY.override(page_entries=0, scratchpad_bytes=0, address_bits=64, data_bits=512),
    core=TINY.core.override(rows_per_budget=0, target_control=0, shared_values=0),
)


def words_of(descriptor: Descriptor) -> list[dict[str, int]]:
    """Return the words as the control reader gives them."""
    words = np.frombuffer(descriptor.pack(), dtype="<u4")
    return [{"data": int(word), "last": int(n == len(words) - 1)} for n, word in enumerate(words)]


@pytest.mark.parametrize("config", [TINY, BARE], ids=["tiny", "bare"])
@pytest.mark.parametrize("stall", [flowing, at_random(3)], ids=["flowing", "stalled"])
def test_every_descriptor_is_judged_as_golden_does(config, stall):
    rng = np.random.default_rng(11)
    cases = [random_descriptor(rng, config, 100) for _ in range(70)]
    cases = [spoilt_descriptor(rng, case, int(rng.choice([0, 1, 1, 2]))) for case in cases]
    if stall is not flowing:
        cases = cases[:20]
    expected = [check(case, config.capability) for case in cases]
    if stall is flowing:
        assert len(set(expected)) >= 7, "the cases are too much alike"
    seen = []

    async def process(bench: Bench) -> None:
        source = Source(bench, "words", stall=stall)
        sink = Sink(bench, "request", stall)
        for n, case in enumerate(cases):
            bench.pulse({"start": 1, "address": 64 * n})
            await bench.tick()
            bench.pulse({"address": 64 * n})
            while len(sink.words) <= n:
                sink.step()
                await bench.tick()
            bench.set({"request.ready": 0})
            source.words += words_of(case)
            while source.left:
                source.step()
                await bench.tick()
            bench.set({"words.valid": 0})
            waited = 1
            while not bench.get("done"):
                await bench.tick()
                waited += 1
            assert waited == CHECK_CYCLES
            seen.append((DeviceStatus(bench.get("status")), bench.get("descriptor")))
            await bench.tick()
            assert not bench.get("done")
        assert sink.words == [
            {"address": 64 * n, "words": DESCRIPTOR_WORDS, "target": Target.DESCRIPTOR} for n in range(len(cases))
        ]

    simulate(DescriptorReader(config), process)
    assert [status for status, _ in seen] == expected
    assert [descriptor for _, descriptor in seen] == [asdict(case) for case in cases]


def judged(config: DeviceConfig, cases: list[Descriptor]) -> list[DeviceStatus]:
    """Return what the device says of each."""
    seen: list[DeviceStatus] = []

    async def process(bench: Bench) -> None:
        source = Source(bench, "words")
        for case in cases:
            source.words += words_of(case)
            while source.left:
                source.step()
                await bench.tick()
            bench.set({"words.valid": 0})
            while not bench.get("done"):
                await bench.tick()
            seen.append(DeviceStatus(bench.get("status")))

    simulate(DescriptorReader(config), process)
    return seen


CORNERS = [
    ({"queries": 1 << 31, "first_position": 1 << 31}, DeviceStatus.LENGTH),
    ({"first_position": (1 << 16) - 5}, DeviceStatus.OK),
    ({"first_position": (1 << 16) - 4}, DeviceStatus.LENGTH),
    ({"end_key": 0, "first_key": 0}, DeviceStatus.LENGTH),
    ({"end_key": 1 << 16}, DeviceStatus.OK),
    ({"end_key": (1 << 16) + 1}, DeviceStatus.LENGTH),
    ({"first_key": 99}, DeviceStatus.OK),
    ({"first_key": 100}, DeviceStatus.LENGTH),
    ({"head_dim": 64, "value_dim": 64}, DeviceStatus.OK),
    ({"head_dim": 65}, DeviceStatus.DIMENSION),
    ({"value_dim": 65}, DeviceStatus.DIMENSION),
    ({"flags": Flag.SHARED}, DeviceStatus.OK),
    ({"flags": Flag.SHARED, "value_dim": 9}, DeviceStatus.DIMENSION),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 0, "end_key": 2048}, DeviceStatus.OK),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 0, "end_key": 2049}, DeviceStatus.MASK),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 0, "first_key": 31, "end_key": 2049}, DeviceStatus.MASK),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 0, "first_key": 32, "end_key": 2080}, DeviceStatus.OK),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 16}, DeviceStatus.OK),
    ({"flags": Flag.BLOCK_MASK, "block_shift": 17}, DeviceStatus.MASK),
    ({"block_shift": 17}, DeviceStatus.OK),
    ({"mask": 2, "window": 1 << 16}, DeviceStatus.OK),
    ({"mask": 2, "window": (1 << 16) + 1}, DeviceStatus.MASK),
    ({"mask": 2, "window": 0}, DeviceStatus.MASK),
    ({"mask": 3, "window": 1}, DeviceStatus.MASK),
    ({"flags": Flag.CONTINUE_TAU, "target": 0}, DeviceStatus.THRESHOLD),
    ({"flags": Flag.CONTINUE_TAU, "target": 1}, DeviceStatus.OK),
    ({"tau": 63}, DeviceStatus.THRESHOLD),
    ({"tau": 64}, DeviceStatus.OK),
    ({"epsilon_shift": 15}, DeviceStatus.OK),
    ({"epsilon_shift": 16}, DeviceStatus.THRESHOLD),
    ({"output_address": 1 << 40}, DeviceStatus.ADDRESS),
    ({"output_address": 1 << 39}, DeviceStatus.OK),
    ({"flags": Flag.PAGED, "page_shift": 3}, DeviceStatus.PAGE),
    ({"flags": Flag.PAGED, "page_shift": 4, "end_key": 1 << 10}, DeviceStatus.OK),
    ({"flags": Flag.PAGED, "page_shift": 4, "end_key": (1 << 10) + 1}, DeviceStatus.PAGE),
    ({"flags": Flag.PAGED, "page_shift": 16}, DeviceStatus.OK),
    ({"flags": Flag.PAGED, "page_shift": 17}, DeviceStatus.PAGE),
    ({"version": 2, "queries": 0}, DeviceStatus.DESCRIPTOR),
    ({"flags": 1 << 7}, DeviceStatus.DESCRIPTOR),
    ({"flags": 1 << 15}, DeviceStatus.DESCRIPTOR),
]
GOOD = Descriptor(queries=5, end_key=100, head_dim=8, value_dim=8, kv_heads=1, group=1)


def test_corners():
    """Each bound, and the number on its other side."""
    config = TINY.override(page_entries=64)
    cases = [replace(GOOD, **{name: int(value) for name, value in changes.items()}) for changes, _ in CORNERS]
    expected = [status for _, status in CORNERS]
    assert [check(case, config.capability) for case in cases] == expected
    assert judged(config, cases) == expected


def test_what_a_device_lacks():
    """Each option by itself, on a device without any."""
    target = {"flags": Flag.CONTINUE_TAU, "target": 1}
    options = [
        {"flags": Flag.SHARED},
        {"flags": Flag.PAGED, "page_shift": 4},
        {"epsilon_shift": 1},
        {"target": 1},
        target,
    ]
    cases = [replace(GOOD, **{name: int(value) for name, value in changes.items()}) for changes in options]
    lacks = [DeviceStatus.UNSUPPORTED] * len(options)
    assert judged(BARE, [*cases, GOOD]) == [*lacks, DeviceStatus.OK]
    assert judged(TINY, cases) == [DeviceStatus.OK] * len(options)


def test_every_address_and_stride_is_looked_at():
    """Half of what it is to be a multiple of; an address also at the width of the bus."""
    capability = TINY.capability
    cases = [
        replace(GOOD, **{part.name: capability.alignment(part.alignment) // 2})
        for part in Descriptor.layout()
        if capability.alignment(part.alignment) > 1
    ]
    cases += [replace(GOOD, **{part.name: 1 << 40}) for part in Descriptor.layout() if part.bits == 64]
    assert len(cases) == 21 + 8
    assert judged(TINY, cases) == [DeviceStatus.ADDRESS] * len(cases)
