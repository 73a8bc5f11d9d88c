"""Read and write master together against cocotbext-axi's memory."""

from __future__ import annotations

from pathlib import Path

from bus_masters import CONFIG, BusMasters
from cocotb_component import run_component


def test_masters_with_a_memory(tmp_path: Path):
    """Random traffic, errors, flushes, and how busy the bus is: all the tests of the bench."""
    run_component(BusMasters(CONFIG), "bus_masters", "bus_masters_testbench", tmp_path)
