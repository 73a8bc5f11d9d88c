"""Sums of the statistics of a descriptor's jobs, and the record that they leave in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Source, Stall, at_random, flowing

from golden.device.config import DEVICE_PRESETS
from golden.device.record import Record
from rtl.axi.record_writer import RecordWriter
from rtl.axi.totals import Totals
from rtl.interfaces import ArrayUse

CONFIG = replace(DEVICE_PRESETS["tiny"], core=replace(DEVICE_PRESETS["tiny"].core, rows=6, rows_per_scaler=3))
CORE = CONFIG.core


def random_stats(rng: np.random.Generator, status: int = 0) -> dict[str, Any]:
    """Return the payload of a job's record."""
    count = 1 << CORE.count_bits
    return {
        "tag": 0,
        "status": status,
        "tau": int(rng.integers(1 << 16)),
        "counts": {
            "keys": int(rng.integers(count)),
            "survivors": int(rng.integers(count)),
            "packs": int(rng.integers(count)),
            "saturated": int(rng.integers(count << 3)),
            "dropped": rng.integers(count, size=CORE.rows).tolist(),
        },
        "empty": int(rng.integers(1 << CORE.rows)),
        "cycles": rng.integers(1 << 32, size=len(ArrayUse)).tolist(),
    }


@pytest.mark.parametrize("stall", [flowing, at_random(1)], ids=["flowing", "stalled"])
def test_sums_of_random_jobs(stall: Stall):
    rng = np.random.default_rng(2)

    async def process(bench: Bench) -> None:
        for _ in range(3):
            bench.pulse({"clear": 1})
            await bench.tick()
            bench.pulse({})
            jobs = [random_stats(rng) for _ in range(12)]
            source = Source(bench, "stats", jobs, stall)
            cycles = reads = writes = 0
            uses = []
            while source.left or bench.get("busy"):
                moves = {name: int(rng.integers(2)) for name in ("counting", "read_beat", "write_beat")}
                bench.set(moves)
                cycles += moves["counting"]
                reads += moves["counting"] & moves["read_beat"]
                writes += moves["counting"] & moves["write_beat"]
                taken = source.step()
                assert bench.get("job") == taken
                assert not bench.get("fault")
                if taken:
                    uses.append(bench.get("uses"))
                await bench.tick()
            if stall is flowing:
                gaps = np.diff(source.taken)
                assert set(gaps.tolist()) == {CORE.rows + 1}
            counts = [job["counts"] for job in jobs]
            record = bench.get("record")
            expected = {
                name: sum(count[name] for count in counts) for name in ("keys", "survivors", "packs", "saturated")
            }
            expected |= {
                "jobs": len(jobs),
                "tau": jobs[-1]["tau"],
                "dropped": max(max(count["dropped"]) for count in counts),
                "cycles": cycles,
                "read_bytes": reads * CONFIG.beat_bytes,
                "write_bytes": writes * CONFIG.beat_bytes,
            }
            assert {name: record[name] for name in expected} == expected
            assert not any(value for name, value in record.items() if name not in expected)
            assert uses == [job["cycles"] for job in jobs]
            bench.set({"counting": 0})

    simulate(Totals(CONFIG), process)


def test_a_job_that_failed_is_told_at_once():
    rng = np.random.default_rng(2)

    async def process(bench: Bench) -> None:
        bench.set({"stats.valid": 1, "stats.payload": random_stats(rng, status=11)})
        assert bench.get("fault")
        assert bench.get("core_status") == 11
        await bench.tick()
        bench.set({"stats.valid": 0})
        assert bench.get("record")["jobs"] == 1
        assert not bench.get("fault")

    simulate(Totals(CONFIG), process)


@pytest.mark.parametrize("data_bits", [64, 128, 512])
@pytest.mark.parametrize("stall", [flowing, at_random(1)], ids=["flowing", "stalled"])
def test_a_record_is_written_as_it_lies_in_memory(data_bits: int, stall: Stall):
    config = CONFIG.override(data_bits=data_bits)
    size = config.beat_bytes
    rng = np.random.default_rng(1)
    record = Record(**{part.name: int(rng.integers(1 << min(part.bits, 62))) for part in Record.layout()})
    content = record.pack()

    async def process(bench: Bench) -> None:
        for address in (0x1000, 0xFFFFFFFFC0):
            fields = {part.name: getattr(record, part.name) for part in Record.layout()}
            bench.set({"record": fields, "address": address})
            bench.pulse({"start": 1})
            await bench.tick()
            bench.pulse({})
            sink = Sink(bench, "beats", stall)
            start = bench.cycle
            while bench.get("busy"):
                sink.step()
                await bench.tick()
            if stall is flowing:
                assert bench.cycle - start == Record.SIZE // size
            assert sink.words == [
                {
                    "address": address + first,
                    "data": int.from_bytes(content[first : first + size], "little"),
                    "strobe": (1 << size) - 1,
                    "end": int(first + size == Record.SIZE),
                }
                for first in range(0, Record.SIZE, size)
            ]

    simulate(RecordWriter(config), process)
