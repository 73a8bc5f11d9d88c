"""The page table: offsets of keys and of values, when they can be looked up, and pages that there are not."""

from __future__ import annotations

import random

from rtl_bench import Bench, simulate
from stream_rules import Source, Stall, at_random, flowing

from golden.config import PRESETS
from golden.device.config import DeviceConfig
from rtl.axi.page_table import ENTRY_LATENCY, STEPS, PageTable

CONFIG = DeviceConfig(PRESETS["default"], address_bits=36, page_entries=64)
WORD = CONFIG.core.lanes


def load(first: int, last: int, pages: int, key_stride: int, value_stride: int) -> dict[str, int]:
    strides = {"key_stride": key_stride, "value_stride": value_stride}
    return {"first": first, "last": last, "page_count": pages} | strides


def run(
    loads: list[dict[str, int]], tables: list[list[int]], comes: Stall = flowing
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Load each table, and look up every entry once it is there; return when entries came, were there, and faults."""
    taken: list[int] = []
    found: list[tuple[int, int]] = []
    faults: list[int] = []

    async def process(bench: Bench) -> None:
        for command, entries in zip(loads, tables, strict=True):
            source = Source(bench, "load", [command])
            words = Source(bench, "entries", [{"data": entry} for entry in entries], comes)
            asked: int | None = None
            page = command["first"]
            while source.left:
                source.step()
                await bench.tick()
            while page <= command["last"] or asked is not None:
                source.step()
                words.step()
                if bench.get("fault"):
                    faults.append(bench.cycle)
                if asked is not None:
                    for kind in ("key", "value"):
                        expected = entries[asked - command["first"]] * command[f"{kind}_stride"]
                        assert bench.get(f"{kind}.offset") == expected % (1 << CONFIG.address_bits)
                there = page < bench.get("key.loaded") and page <= command["last"]
                assert bench.get("value.loaded") == bench.get("key.loaded")
                for kind in ("key", "value"):
                    bench.set({f"{kind}.enable": there, f"{kind}.page": page})
                asked = page if there else None
                if there:
                    found.append((page, bench.cycle))
                    page += 1
                await bench.tick()
            taken.extend(words.taken)

    simulate(PageTable(CONFIG), process)
    return taken, found, faults


def test_offsets_of_tables():
    """Whole and partial tables, one after the other; strides of any size wrap as addresses do."""
    rng = random.Random(4)
    loads: list[dict[str, int]] = []
    tables: list[list[int]] = []
    for first, last in ((0, 63), (5, 5), (60, 63), (0, 20)):
        strides = [rng.getrandbits(32) // WORD * WORD for _ in range(2)]
        loads.append(load(first, last, 1 << 31, *strides))
        tables.append([rng.getrandbits(31) for _ in range(first, last + 1)])
    taken, found, faults = run(loads, tables, at_random(1, 0.4))
    assert len(taken) == len(found) == 64 + 1 + 4 + 21
    assert faults == []


def test_when_an_entry_can_be_looked_up():
    taken, found, _ = run([load(3, 9, 100, 64, 128)], [[7, 6, 5, 4, 3, 2, 1]])
    assert taken == [taken[0] + STEPS * n for n in range(7)]
    assert found == [(3 + n, cycle + ENTRY_LATENCY) for n, cycle in enumerate(taken)]


def test_a_page_outside_the_pool():
    """Each entry that is not below the number of pages is told."""
    taken, _, faults = run([load(0, 4, 10, 64, 64)], [[9, 10, 0, (1 << 32) - 1, 9]])
    assert faults == [taken[1] + 2, taken[3] + 2]


def test_a_load_waits_for_the_last_entry_of_the_one_before():
    """Its command is there early; the first table stays as it is where the second has nothing."""

    async def process(bench: Bench) -> None:
        loads = Source(bench, "load", [load(0, 3, 100, 64, 128), load(0, 1, 100, 256, 512)])
        entries = Source(bench, "entries", [{"data": number} for number in (11, 12, 13, 14, 15, 16)])
        for _ in range(60):
            loads.step()
            entries.step()
            await bench.tick()
        assert loads.taken[1] == entries.taken[3] + ENTRY_LATENCY
        assert bench.get("key.loaded") == 2
        for page, (key, value) in enumerate([(15 * 256, 15 * 512), (16 * 256, 16 * 512), (13 * 64, 13 * 128)]):
            for kind in ("key", "value"):
                bench.set({f"{kind}.enable": 1, f"{kind}.page": page})
            await bench.tick()
            assert (bench.get("key.offset"), bench.get("value.offset")) == (key, value)

    simulate(PageTable(CONFIG), process)
