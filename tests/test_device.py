"""A device, from memory to memory: random requests against its model, and a fault of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from golden.device.status import DeviceStatus
from sim.device import DEVICES, fault_run, random_device_run, simulate_device, simulate_faults
from sim.device_faults_testbench import KINDS

RUNS = 12
DEVICE = "tiny"


def test_requests_give_what_the_model_says(figure: Callable[[str], None]):
    """Every byte of memory, every statistic, every byte on the bus; nothing else is written."""
    runs = [random_device_run(seed, DEVICE) for seed in range(RUNS)]
    requests = [request for run in runs for request in run.requests]
    for has in ("pages", "states", "block_mask", "emit_state"):
        assert any(getattr(request, has) is not None and getattr(request, has) is not False for request in requests)
    assert any(request.attention.group > 1 and request.attention.kv_heads > 1 for request in requests)
    outcomes = simulate_device(DEVICES[DEVICE], runs)
    records = [record for outcome in outcomes for record in outcome.records]
    assert len(records) == len(requests)
    for outcome in outcomes:
        # What lies between requests is counted too.
        assert outcome.counters["BUSY"] >= sum(record.cycles for record in outcome.records)
        assert outcome.counters["JOBS"] == sum(record.jobs for record in outcome.records)
        assert outcome.counters["READ_BYTES"] == sum(record.read_bytes for record in outcome.records)
        assert outcome.counters["WRITE_BYTES"] == sum(record.write_bytes + 64 for record in outcome.records)
    figure(f"device: {len(records)} random requests, {sum(record.jobs for record in records)} jobs, equal to the model")


def test_every_kind_of_fault_is_told_and_left_behind():
    ended = simulate_faults(DEVICES[DEVICE], [fault_run(len(DEVICES) * n, DEVICE) for n in range(len(KINDS))])
    assert {kind for kind, _ in ended} == set(KINDS)
    assert sum(status != DeviceStatus.OK.name for _, status in ended) >= len(KINDS) - 3


@pytest.mark.parametrize("name", DEVICES)
def test_any_run_can_be_repeated(name: str):
    """A run is a function of its seed."""
    for make in (random_device_run, fault_run):
        first, again = (make(5, name) for _ in range(2))
        assert first.label == again.label
        requests = [
            run.requests if hasattr(run, "requests") else [run.request, run.following] for run in (first, again)
        ]
        for one, other in zip(*requests, strict=True):
            assert (one.attention.key == other.attention.key).all()
            assert one.mask == other.mask
        assert re.match(rf"seed 5 .*on device '{name}'", first.label)
