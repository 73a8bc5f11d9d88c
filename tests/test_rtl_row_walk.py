"""Rows of a kv head's group, block by block, as golden cuts them."""

from __future__ import annotations

from typing import Any

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import CoreConfig
from golden.device.config import DeviceConfig
from rtl.axi.row_walk import RowWalk


def config_of(rows: int) -> DeviceConfig:
    core = CoreConfig(rows=rows, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=64, rows_per_scaler=1)
    return DeviceConfig(core, data_bits=64, address_bits=32)


def walk(base: int, row_stride: int, head_stride: int, group: int, queries: int, position: int) -> dict[str, int]:
    strides = {"row_stride": row_stride, "head_stride": head_stride}
    return {"base": base, "last_head": group - 1, "last_query": queries - 1, "position": position} | strides


def rows_of(head: dict[str, int], block: int) -> list[dict[str, int]]:
    """Return the rows of a head from the definition."""
    group = head["last_head"] + 1
    count = group * (head["last_query"] + 1)
    rows = []
    for n in range(count):
        address = head["base"] + n // group * head["row_stride"] + n % group * head["head_stride"]
        row = {"address": address % (1 << 32), "position": head["position"] + n // group}
        rows.append(row | {"block_end": int(n == count - 1 or n % block == block - 1), "end": int(n == count - 1)})
    return rows


HEADS = [
    walk(0, 64, 1024, 1, 1, 0),
    walk(0xFFFF_FF00, 128, 0x1000, 3, 5, 7),
    walk(0x1000, 0x1234_5678, 0xFFFF_FFF0, 4, 4, 60),
    walk(0x2000, 8, 16, 1, 13, 0),
    walk(0x3000, 8, 0, 7, 1, 63),
]


@pytest.mark.parametrize("block", [1, 4, 5])
@pytest.mark.parametrize(
    ("comes", "taken"), [(flowing, flowing), (at_random(1), at_random(2))], ids=["flowing", "stalling"]
)
def test_rows_of_heads(block: int, comes: Stall, taken: Stall):
    sides: list[Any] = []
    expected = [row for head in HEADS for row in rows_of(head, block)]

    async def process(bench: Bench) -> None:
        source, sink = Source(bench, "head", HEADS, comes), Sink(bench, "rows", taken)
        while len(sink.words) < len(expected):
            source.step()
            sink.step()
            await bench.tick()
        sides.extend([source, sink])

    simulate(RowWalk(config_of(block)), process)
    source, sink = sides
    assert sink.words == expected
    if comes is flowing:
        # A row every cycle; the next head is taken after the last one.
        ends = [cycle for cycle, row in zip(sink.taken, expected, strict=True) if row["end"]]
        assert source.taken == [0, *(cycle + 1 for cycle in ends[:-1])]
        firsts = [0, *(n + 1 for n, row in enumerate(expected[:-1]) if row["end"])]
        assert [sink.taken[n] for n in firsts] == [cycle + 1 for cycle in source.taken]
        assert sink.taken[-1] == len(expected) + len(HEADS) - 1
