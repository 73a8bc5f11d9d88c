"""Jobs of a layer: their words, where their data comes from, and what waits for what."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from device_cases import random_descriptor
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing
from test_rtl_block_sequence import expected_blocks
from test_rtl_layer_setup import expected_layer

from golden.device.config import DEVICE_PRESETS
from golden.device.descriptor import Descriptor, Flag
from golden.key_sequence import SequenceStatus
from rtl.axi.job_sequence import JobSequence

CONFIG = replace(DEVICE_PRESETS["tiny"], core=DEVICE_PRESETS["tiny"].core.override(shared_values=1))
CORE = CONFIG.core


def layers(seed: int, count: int) -> list[tuple[Descriptor, dict[str, Any]]]:
    """Return random descriptors of few blocks that have keys, and their layers."""
    rng = np.random.default_rng(seed)
    cases: list[tuple[Descriptor, dict[str, Any]]] = []
    while len(cases) < count:
        d = random_descriptor(rng, CONFIG, 3 * CORE.rows)
        layer = expected_layer(d, CONFIG)
        if layer is not None:
            cases.append((d, {**layer, "descriptor": asdict(d)}))
    return cases


def place(d: Descriptor, layer: dict[str, Any], block: dict[str, int], name: str) -> dict[str, int]:
    """Return where the rows of a job lie."""
    return {
        "base": block[name],
        "row_stride": getattr(d, f"{name}_row_stride"),
        "paged": int(bool(d.flags & Flag.PAGED)),
        "page_shift": d.page_shift % 32,
        "last_beat": layer[f"last_{name}_word"],
    }


def expected_words(d: Descriptor, layer: dict[str, Any], scales: list[int], counts: list[int]) -> dict[str, list[Any]]:
    """Return the payloads of every output."""
    emits, starts = (bool(d.flags & flag) for flag in (Flag.EMIT_STATE, Flag.FROM_STATE))
    words: dict[str, list[Any]] = {name: [] for name in OUTPUTS}
    masked, shared = bool(d.flags & Flag.BLOCK_MASK), bool(d.flags & Flag.SHARED)
    for block, keys in zip(expected_blocks(d), counts, strict=True):
        scale = scales[block["head"]]
        if block["first"]:
            walk = {
                "base": block["query"],
                "row_stride": d.query_row_stride,
                "head_stride": d.query_head_stride,
                "last_head": d.group - 1,
                "last_query": d.queries - 1,
                "position": d.first_position,
            }
            words["query"].append({"walk": walk, "last_beat": layer["last_key_word"]})
        if block["first"] or emits:
            walk = {
                "base": block["output"],
                "row_stride": d.output_row_stride,
                "head_stride": d.output_head_stride,
                "last_head": 0 if emits else d.group - 1,
                "last_query": 0 if emits else d.queries - 1,
                "position": d.first_position,
            }
            words["output"].append({"walk": walk, "state": int(emits), "last_element": d.value_dim - 1})
        words["command"].append(
            {
                "first": layer["first"],
                "end": layer["last"] + 1,
                "block_shift": d.block_shift if masked else CORE.position_bits,
                "mask": d.mask,
                "window": d.window,
                "first_position": block["first_position"],
                "last_position": block["last_position"],
            }
        )
        fields = {
            "head_dim": d.head_dim,
            "value_dim": d.value_dim,
            "rows": block["last_row"] + 1,
            "keys": keys,
            "multiplier": scale & 0xFFFF,
            "shift": scale >> 16 & 63,
            "tau": d.tau,
            "epsilon_shift": d.epsilon_shift,
            "target": d.target,
            "continue_tau": int(d.target > 0 and (bool(d.flags & Flag.CONTINUE_TAU) or not block["first"])),
            "mask": d.mask,
            "window": d.window,
            "from_state": int(starts),
            "emit_state": int(emits),
            "shared": int(shared),
            "tag": 0,
        }
        words["job"].append(fields)
        for port, name in (("keys", "key"), ("values", "value")):
            words[port].append(
                {
                    "place": place(d, layer, block, name),
                    "resident": int(layer["resident"] and not (shared and name == "value")),
                    "first": layer["first"],
                    "release": block["last"],
                }
            )
        if starts:
            last_word = (d.value_dim - 1) // CORE.output_lanes
            words["state"].append({"address": block["state"], "last_row": block["last_row"], "last_word": last_word})
    return words


OUTPUTS = ("command", "query", "output", "job", "keys", "values", "state")


@pytest.mark.parametrize("stall", [flowing, at_random(1), at_random(2, 0.9)], ids=["flowing", "half", "slow"])
def test_jobs_of_random_layers(stall: Stall):
    rng = np.random.default_rng(4)
    cases = layers(38, 8)
    for flag in (Flag.SHARED, Flag.EMIT_STATE, Flag.FROM_STATE, Flag.BLOCK_MASK):
        assert {(layer["resident"], bool(d.flags & flag)) for d, layer in cases} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {bool(d.flags & Flag.SHARED) for d, layer in cases if layer["resident"] and d.kv_heads > 1} == {False, True}

    async def process(bench: Bench) -> None:
        for d, layer in cases:
            blocks = expected_blocks(d)
            scales = [int(rng.integers(1 << 22)) for _ in range(d.kv_heads)]
            counts = [int(rng.integers(1, CORE.max_keys + 1)) for _ in blocks]
            # Nobody counts fills that there are not.
            key_fills = d.kv_heads if layer["resident"] else 0
            value_fills = 0 if d.flags & Flag.SHARED else key_fills
            bench.set({"layer": layer, "key_fills": key_fills, "value_fills": value_fills})
            sources = [
                Source(bench, "blocks", blocks, stall),
                Source(bench, "scales", [{"data": scale, "last": 1} for scale in scales], stall),
            ]
            answers = Source(bench, "count", [{"keys": keys, "status": 0} for keys in counts], stall)
            sinks = {name: Sink(bench, name, at_random(n, 0.5) if stall else stall) for n, name in enumerate(OUTPUTS)}
            expected = expected_words(d, layer, scales, counts)
            ends: list[int] = []
            while any(len(sink.words) < len(expected[name]) for name, sink in sinks.items()) or len(ends) < len(blocks):
                answers.limit = len(sinks["command"].words)
                for source in [*sources, answers]:
                    source.step()
                for sink in sinks.values():
                    sink.step()
                if bench.get("offered"):
                    ends.append(bench.get("last"))
                assert not bench.get("empty")
                await bench.tick()
            assert {name: sink.words for name, sink in sinks.items()} == expected
            assert ends == [block["end"] for block in blocks]
            bench.set({f"{name}.ready": 0 for name in OUTPUTS})

    simulate(JobSequence(CONFIG), process)


@pytest.mark.parametrize("late", ["key_fills", "value_fills"])
def test_a_job_is_not_known_before_its_fills_are_offered(late: str):
    """The head's fill is offered when that of the head before was taken."""
    d, layer = next(
        (d, layer)
        for d, layer in layers(9, 8)
        if layer["resident"] and d.kv_heads > 1 and not d.flags & (Flag.SHARED | Flag.BLOCK_MASK)
    )
    blocks = [block for block in expected_blocks(d) if block["head"] == 1]

    async def process(bench: Bench) -> None:
        bench.set({"layer": layer, "key_fills": 2, "value_fills": 2})
        bench.set({late: 0})
        bench.set({"blocks.valid": 1, "blocks.payload": blocks[0], "scales.valid": 1})
        bench.set({f"{name}.ready": 1 for name in OUTPUTS})
        bench.set({"count.valid": 1, "count.payload": {"keys": 1, "status": 0}})
        for _ in range(30):
            assert not bench.get("count.ready")
            assert not bench.get("job.valid")
            await bench.tick()
        bench.set({late: 1})
        assert bench.get("count.ready")

    simulate(JobSequence(CONFIG), process)


def test_a_block_without_keys_stops_it():
    d, layer = layers(9, 1)[0]

    async def process(bench: Bench) -> None:
        bench.set({"layer": {**layer, "resident": 0}, "blocks.valid": 1, "blocks.payload": expected_blocks(d)[0]})
        bench.set({"scales.valid": 1, **{f"{name}.ready": 1 for name in OUTPUTS}})
        bench.set({"count.valid": 1, "count.payload": {"keys": 0, "status": SequenceStatus.EMPTY}})
        while not bench.get("empty"):
            await bench.tick()
        for _ in range(20):
            await bench.tick()
            assert not bench.get("empty")
            assert not bench.get("job.valid")
            assert not bench.get("blocks.ready")

    simulate(JobSequence(CONFIG), process)


def test_bitmaps_pass_only_with_a_block_mask():
    d, layer = layers(9, 1)[0]

    async def process(bench: Bench) -> None:
        bench.set({"bitmap.ready": 1, "bitmaps.payload": {"data": 0xABCD, "last": 0}})
        for flags, valid in ((0, 0), (0, 1), (Flag.BLOCK_MASK, 0), (Flag.BLOCK_MASK, 1)):
            masked = bool(flags)
            bench.set({"layer": {**layer, "descriptor": asdict(replace(d, flags=int(flags)))}, "bitmaps.valid": valid})
            assert bench.get("bitmaps.ready") == masked
            assert bench.get("bitmap.valid") == (valid or not masked)
            blocks = {"blocks": 0xABCD, "last": 0} if masked else {"blocks": (1 << 32) - 1, "last": 1}
            assert bench.get("bitmap.payload") == blocks
            await bench.tick()

    simulate(JobSequence(CONFIG), process)
