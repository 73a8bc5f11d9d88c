"""Read and write master against cocotbext-axi's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from bus_masters import CONFIGS, BusMasters
from cocotb_component import run_component

from golden.device.config import DeviceConfig


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_masters_with_a_memory(config: DeviceConfig, tmp_path: Path):
    """The tests of the bench, each one."""
    run_component(BusMasters(config), "bus_masters", "bus_masters_testbench", tmp_path)
