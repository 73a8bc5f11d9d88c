"""Descriptors as the device reads and checks them, against golden."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from device_cases import random_descriptor, spoilt_descriptor
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, at_random, flowing

from golden.device.config import DEVICE_PRESETS
from golden.device.descriptor import Descriptor, check
from golden.device.status import DeviceStatus
from rtl.axi.control_reader import Target
from rtl.axi.descriptor_reader import CHECK_CYCLES, DESCRIPTOR_WORDS, DescriptorReader

TINY = DEVICE_PRESETS["tiny"]
BARE = replace(
    TINY.override(page_entries=0, scratchpad_bytes=0, address_bits=64, data_bits=512),
    core=TINY.core.override(rows_per_budget=0, target_control=0),
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


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"queries": 1 << 31, "first_position": 1 << 31}, DeviceStatus.LENGTH),
        ({"first_position": (1 << 16) - 5}, DeviceStatus.OK),
        ({"first_position": (1 << 16) - 4}, DeviceStatus.LENGTH),
        ({"end_key": 0, "first_key": 0}, DeviceStatus.LENGTH),
        ({"flags": 16, "block_shift": 0, "first_key": 0, "end_key": 2048}, DeviceStatus.OK),
        ({"flags": 16, "block_shift": 0, "first_key": 0, "end_key": 2049}, DeviceStatus.MASK),
        ({"flags": 32, "target": 0}, DeviceStatus.THRESHOLD),
        ({"flags": 32, "target": 1}, DeviceStatus.OK),
        ({"flags": 4}, DeviceStatus.UNSUPPORTED),
        ({"output_address": 1 << 40}, DeviceStatus.ADDRESS),
        ({"epsilon_shift": 15}, DeviceStatus.OK),
        ({"epsilon_shift": 16}, DeviceStatus.THRESHOLD),
    ],
)
def test_corners(changes: dict[str, int], status: DeviceStatus):
    good = Descriptor(queries=5, end_key=100, head_dim=8, value_dim=8, kv_heads=1, group=1)
    case = replace(good, **changes)
    config = TINY.override()
    assert check(case, config.capability) is status

    async def process(bench: Bench) -> None:
        source = Source(bench, "words", words_of(case))
        while source.left:
            source.step()
            await bench.tick()
        while not bench.get("done"):
            await bench.tick()
        assert bench.get("status") == status

    simulate(DescriptorReader(config), process)
