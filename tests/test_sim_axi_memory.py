"""The guard of a simulated device's memory: it sees each access that is not to be."""

from __future__ import annotations

import asyncio
import mmap

import pytest

from golden.device.model import BusError
from sim.axi_memory import Guard, Twin

BASE, SIZE = 3 << 38, 1 << 12


@pytest.fixture
def memory() -> mmap.mmap:
    content = mmap.mmap(-1, SIZE)
    content[:] = bytes(n % 251 for n in range(SIZE))
    return content


@pytest.fixture
def twin(memory: mmap.mmap) -> Twin:
    return Twin(memory, BASE)


@pytest.fixture
def guard(memory: mmap.mmap, twin: Twin) -> Guard:
    return Guard(memory, twin)


def test_what_is_there_is_read(guard, memory):
    for address in (BASE, BASE + 64, BASE + SIZE - 8):
        assert asyncio.run(guard.read(address, 8)) == memory[address - BASE :][:8]
    assert guard.violations == []


# Addresses that lost their upper bits would be within the memory modulo its size.
OUTSIDE = (64, BASE & 0xFFFFFF, BASE - 8, BASE - 4, BASE + SIZE - 4, BASE + SIZE, (1 << 40) - 8)


@pytest.mark.parametrize("address", OUTSIDE)
def test_outside_the_memory_nothing_is_read_or_written(address, guard, memory):
    before = memory[:]
    with pytest.raises(BusError):
        asyncio.run(guard.read(address, 8))
    with pytest.raises(BusError):
        asyncio.run(guard.write(address, bytes(8)))
    assert guard.violations == [f"8 bytes at {address:#x} are {way}, outside the memory" for way in ("read", "written")]
    assert memory[:] == before


def test_only_outputs_are_written(guard, twin, memory):
    twin.allow(BASE + 64, 16)
    asyncio.run(guard.write(BASE + 72, b"an outpt"))
    assert (guard.violations, memory[72:80]) == ([], b"an outpt")
    asyncio.run(guard.write(BASE + 76, b"too far."))
    assert guard.violations == [f"8 bytes at {BASE + 76:#x} are written that are no output"]
