"""What follows from a descriptor before its first job."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from device_cases import random_descriptor
from rtl_bench import Bench, simulate

from golden.device.config import DEVICE_PRESETS, DeviceConfig
from golden.device.descriptor import Descriptor
from golden.key_sequence import WORD_BLOCKS
from golden.masks import MaskKind
from rtl.axi.layer_setup import SETUP_CYCLES, LayerSetup

TINY = replace(DEVICE_PRESETS["tiny"], core=DEVICE_PRESETS["tiny"].core.override(shared_values=1))
CONFIGS = {"small scratchpad": TINY.override(scratchpad_bytes=4096), "none": TINY.override(scratchpad_bytes=0)}


def expected_layer(d: Descriptor, config: DeviceConfig) -> dict[str, int] | None:
    """Return what the layer says, None of one without keys."""
    core = config.core
    last_position = d.first_position + d.queries - 1
    first, last = d.first_key, d.end_key - 1
    if d.mask != MaskKind.NONE:
        last = min(last, last_position)
    if d.mask == MaskKind.WINDOW:
        first = max(first, d.first_position - d.window + 1)
    if first > last:
        return None
    words = core.head_beats(d.head_dim), core.value_beats(d.value_dim)
    half = config.scratchpad_bytes // 2 // core.lanes
    fits = all((last - first + 1) * count <= half for count in words)
    return {
        "first": first,
        "last": last,
        "last_position": last_position,
        "last_key_word": words[0] - 1,
        "last_value_word": words[1] - 1,
        "resident": int(fits and d.queries * d.group > core.rows),
        "first_page": (first >> d.page_shift) % config.page_entries,
        "last_page": (last >> d.page_shift) % config.page_entries,
        "first_bitmap": (first >> d.block_shift) // WORD_BLOCKS,
        "last_bitmap": (last >> d.block_shift) // WORD_BLOCKS,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_of_random_descriptors(name: str):
    config = CONFIGS[name]
    rng = np.random.default_rng(5)
    cases = [random_descriptor(rng, config, int(rng.choice([6, 40]))) for _ in range(150)]
    # A head that just fits, and one that does not; and rows that only the group makes more than a block.
    base = Descriptor(queries=1, end_key=64, head_dim=5, value_dim=32, kv_heads=1, group=9)
    cases += [replace(base, **changes) for changes in ({}, {"end_key": 65}, {"head_dim": 32, "value_dim": 5})]
    cases += [replace(base, head_dim=32, end_key=65, value_dim=4), replace(base, group=4), replace(base, group=12)]
    # As many queries, or heads of a group, as would be none if their upper bits were cut off.
    cases += [replace(base, queries=1 << 12, group=1), replace(base, queries=1, group=1 << 12)]
    # The last key that is seen is the one before the first, and the first itself.
    cases[:0] = [replace(base, mask=int(MaskKind.CAUSAL), first_key=10, first_position=n) for n in (9, 10)]
    expected = [expected_layer(case, config) for case in cases]
    if config.scratchpad_bytes:
        assert [layer["resident"] for layer in expected[-8:]] == [1, 0, 1, 0, 0, 1, 1, 1]
    resident = {layer["resident"] for layer in expected if layer is not None}
    assert resident == ({0, 1} if config.scratchpad_bytes else {0})
    assert [layer is None for layer in expected[:2]] == [True, False]

    async def process(bench: Bench) -> None:
        for case, layer in zip(cases, expected, strict=True):
            bench.pulse({"descriptor": asdict(case), "start": 1})
            await bench.tick()
            bench.pulse({"descriptor": asdict(case)})
            for _ in range(SETUP_CYCLES - 1):
                assert not bench.get("done")
                await bench.tick()
            assert bench.get("done")
            assert bench.get("empty") == (layer is None)
            seen = bench.get("layer")
            assert seen.pop("descriptor") == asdict(case)
            if layer is not None:
                assert seen == layer
            await bench.tick()

    simulate(LayerSetup(config), process)
