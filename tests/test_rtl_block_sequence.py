"""Blocks of rows as the device cuts them, and what it asks for on their way."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from device_cases import random_descriptor
from rtl_bench import Bench, simulate
from stream_rules import Sink, Stall, at_random, flowing
from test_rtl_layer_setup import expected_layer

from golden.device.config import DEVICE_PRESETS
from golden.device.descriptor import Descriptor, Flag
from rtl.axi.block_sequence import BlockSequence
from rtl.axi.control_reader import Target

CONFIG = DEVICE_PRESETS["tiny"]
ROWS = CONFIG.core.rows
MODULUS = 1 << CONFIG.address_bits


def expected_blocks(d: Descriptor) -> list[dict[str, int]]:
    """Return the payloads of a descriptor's blocks."""
    rows = np.arange(d.queries * d.group)
    blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    emits = bool(d.flags & Flag.EMIT_STATE)
    payloads = []
    for head in range(d.kv_heads):
        for n, block in enumerate(blocks):
            packet = head * len(blocks) + n
            output = packet * d.state_stride if emits else head * d.group * d.output_head_stride
            addresses = {
                "query": d.query_address + head * d.group * d.query_head_stride,
                "key": d.key_address + head * d.key_head_stride,
                "value": d.value_address + head * d.value_head_stride,
                "output": d.output_address + output,
                "state": d.state_address + packet * d.state_stride,
            }
            payloads.append(
                {
                    "first_position": d.first_position + int(block[0]) // d.group,
                    "last_position": d.first_position + int(block[-1]) // d.group,
                    "last_row": len(block) - 1,
                    "head": head,
                    "first": int(n == 0),
                    "last": int(n == len(blocks) - 1),
                    "end": int(n == len(blocks) - 1 and head == d.kv_heads - 1),
                    **{name: address % MODULUS for name, address in addresses.items()},
                }
            )
    return payloads


def expected_requests(d: Descriptor, layer: dict[str, int]) -> list[dict[str, int]]:
    """Return the payloads of a descriptor's requests."""
    requests = []

    def add(address: int, words: int, target: Target) -> None:
        requests.append({"address": address % MODULUS, "words": words, "target": target})

    blocks = -(-d.queries * d.group // ROWS)
    for head in range(d.kv_heads):
        add(d.scale_address + 4 * head, 1, Target.SCALE)
        if head == 0 and d.flags & Flag.PAGED:
            pages = layer["last_page"] - layer["first_page"] + 1
            add(d.page_table_address + 4 * layer["first_page"], pages, Target.PAGE)
        if d.flags & Flag.BLOCK_MASK:
            for n in range(blocks):
                place = d.mask_address + head * d.mask_head_stride + n * d.mask_row_stride
                words = layer["last_bitmap"] - layer["first_bitmap"] + 1
                add(place + 4 * layer["first_bitmap"], words, Target.BITMAP)
    return requests


@pytest.mark.parametrize("stall", [flowing, at_random(1), at_random(2, 0.9)], ids=["flowing", "half", "slow"])
def test_blocks_and_requests_of_random_descriptors(stall: Stall):
    rng = np.random.default_rng(8)
    cases: list[tuple[Descriptor, dict[str, int]]] = []
    while len(cases) < 12:
        d = random_descriptor(rng, CONFIG, int(rng.choice([2, 6])) * ROWS)
        layer = expected_layer(d, CONFIG)
        if layer is not None:
            cases.append((d, layer))
    expected: list[Any] = [expected_blocks(d) for d, _ in cases]
    requests = [expected_requests(d, layer) for d, layer in cases]
    counts = {len(blocks) // d.kv_heads for blocks, (d, _) in zip(expected, cases, strict=True)}
    assert min(counts) == 1
    assert max(counts) >= 5

    async def process(bench: Bench) -> None:
        for (d, layer), blocks, asked in zip(cases, expected, requests, strict=True):
            bench.pulse({"start": 1})
            bench.set({"layer": {**layer, "descriptor": asdict(d)}})
            await bench.tick()
            bench.pulse({})
            taken, wanted = Sink(bench, "blocks", stall), Sink(bench, "requests", stall)
            start = bench.cycle
            while len(taken.words) < len(blocks):
                wanted.step()
                if taken.step():
                    words = len(wanted.words)
                    # All that a block needs has been asked for before it is offered.
                    block = taken.words[-1]
                    masked = bool(d.flags & Flag.BLOCK_MASK)
                    before = block["head"] + 1 + bool(d.flags & Flag.PAGED) + masked * len(taken.words)
                    assert words >= before
                await bench.tick()
            assert taken.words == blocks
            assert wanted.words == asked
            if stall is flowing:
                rows = d.queries * d.group
                assert bench.cycle - start == len(asked) + d.kv_heads * rows + len(blocks)
            bench.set({"blocks.ready": 0, "requests.ready": 0})

    simulate(BlockSequence(CONFIG), process)


def test_a_group_of_more_heads_than_rows():
    d = Descriptor(queries=2, end_key=9, head_dim=4, value_dim=4, kv_heads=2, group=2 * ROWS + 1, query_head_stride=64)
    d = replace(d, output_head_stride=128)
    layer = expected_layer(d, CONFIG)

    async def process(bench: Bench) -> None:
        bench.pulse({"start": 1})
        bench.set({"layer": {**layer, "descriptor": asdict(d)}})
        await bench.tick()
        bench.pulse({})
        taken, wanted = Sink(bench, "blocks"), Sink(bench, "requests")
        while len(taken.words) < len(expected_blocks(d)):
            wanted.step()
            taken.step()
            await bench.tick()
        assert taken.words == expected_blocks(d)

    simulate(BlockSequence(CONFIG), process)
