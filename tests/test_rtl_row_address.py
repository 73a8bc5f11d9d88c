"""Addresses of rows, plain and in pages, one a cycle; rows of pages that are not loaded wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from read_client_model import PageTableModel
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.config import PRESETS
from golden.device.config import DeviceConfig
from rtl.axi.row_address import ROW_ADDRESS_LATENCY, RowAddress

CONFIG = DeviceConfig(PRESETS["default"], address_bits=36, page_entries=64)
WORD = CONFIG.core.lanes


def place(base: int, row_stride: int, page_shift: int | None = None, last_beat: int = 3) -> dict[str, int]:
    fields = {"base": base, "row_stride": row_stride, "last_beat": last_beat}
    return fields | {"paged": int(page_shift is not None), "page_shift": page_shift or 0}


def address_of(row: dict[str, Any], offsets: list[int]) -> int:
    """Return the address of a row, from the definition."""
    where, index = row["place"], row["index"]
    if where["paged"]:
        page, index = divmod(index, 1 << where["page_shift"])
        index = index * where["row_stride"] + offsets[page]
    else:
        index *= where["row_stride"]
    return (where["base"] + index) % (1 << CONFIG.address_bits)


def random_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    rows = []
    for _ in range(count):
        shift = rng.choice([None, 4, 7, 16])
        base = rng.getrandbits(CONFIG.address_bits) // WORD * WORD
        stride = rng.choice([64, 80, rng.getrandbits(32) // WORD * WORD])
        index = rng.randrange(min(CONFIG.core.max_keys, CONFIG.page_entries << (shift or 16)))
        where = place(base, stride, shift, rng.randrange(4))
        rows.append({"index": index, "place": where, "more": rng.randrange(2)})
    return rows


def run(
    config: DeviceConfig,
    rows: list[dict[str, Any]],
    offsets: list[int],
    comes: Stall = flowing,
    taken: Stall = flowing,
    loaded: Callable[[int], int] = lambda cycle: 64,
) -> tuple[Source, Sink]:
    sides: list[Any] = []

    async def process(bench: Bench) -> None:
        source, sink = Source(bench, "index", rows, comes), Sink(bench, "request", taken)
        table = PageTableModel(bench, offsets, loaded) if config.page_entries else None
        while len(sink.words) < len(rows):
            if table:
                bench.set({"lookup.loaded": loaded(bench.cycle)})
            # Room for a row follows from the request's leaving.
            sink.step()
            source.step()
            if table:
                table.step()
            await bench.tick()
        sides.extend([source, sink])

    simulate(RowAddress(config), process)
    source, sink = sides
    assert sink.words == [
        {"address": address_of(row, offsets), "words": row["place"]["last_beat"] + 1, "more": row["more"]}
        for row in rows
    ]
    return source, sink


@pytest.mark.parametrize(
    ("comes", "taken"),
    [(flowing, flowing), (at_random(1, 0.5), at_random(2, 0.6))],
    ids=["flowing", "stalling"],
)
def test_addresses(comes: Stall, taken: Stall):
    rng = random.Random(9)
    offsets = [rng.getrandbits(CONFIG.address_bits) // WORD * WORD for _ in range(CONFIG.page_entries)]
    run(CONFIG, random_rows(rng, 120), offsets, comes, taken, lambda cycle: min(64, cycle))


def test_a_row_every_cycle():
    rows = random_rows(random.Random(1), 40)
    source, sink = run(CONFIG, rows, [64 * n for n in range(64)])
    assert source.taken == list(range(40))
    assert sink.offered == [cycle + ROW_ADDRESS_LATENCY for cycle in source.taken]


def test_a_row_waits_for_its_page_and_those_behind_it_too():
    rows = [{"index": 16 * n, "place": place(0, 64, 4), "more": 0} for n in (0, 1, 2, 0)]
    _, sink = run(CONFIG, rows, [4096 * n for n in range(64)], loaded=lambda cycle: 2 if cycle < 30 else 3)
    assert sink.offered == [4, 5, 33, 34]


def test_without_paging():
    config = DeviceConfig(PRESETS["default"], address_bits=36, page_entries=0)
    rows = [row for row in random_rows(random.Random(2), 60) if not row["place"]["paged"]]
    run(config, rows, [])
