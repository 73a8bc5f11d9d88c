"""Estimates of workloads: cycles, bytes and energy put together, by hand and in proportion."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from golden.config import PRESETS
from golden.memory import Memory
from perf_model import schedule_cycles
from perf_model.cycles import JobShape
from perf_model.energy import PARTS
from perf_model.estimate import estimate
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware, load_hardware
from perf_model.schedule_cycles import repeated_cycles
from perf_model.workload import Workload, load_workload

DEFAULT = PRESETS["default"]


def test_an_estimate_by_hand():
    workload = Workload("x", heads=4, head_dim=64, layers=2, length=512, kv_heads=2)
    result = estimate(workload, Hardware(DEFAULT, clock_mhz=1000.0))
    assert result.jobs == 4 * 64
    assert result.cycles.array == 4 * 2 * 131_072
    assert result.macs == result.dense_macs == 8 * 512 * 512 * 128
    assert result.seconds == pytest.approx(result.cycles.total * 1e-9)
    assert result.utilisation == pytest.approx(1, abs=0.001)
    assert result.traffic.ports["q"] == 8 * 512 * 64
    assert result.traffic.compulsory == 8 * 512 * 64 * 3 + 4 * 512 * 128
    assert result.traffic.dram == result.traffic.compulsory, "a head fits in the scratchpad"


def test_long_workloads_are_estimated_by_closed_form():
    """Both ways agree on what the array does, and where it is the limit, on the cycles."""
    workload = load_workload("bert-base")
    short, long = (estimate(replace(workload, length=n), load_hardware("default"), 0.5) for n in (512, 8192))
    assert (short.exact, long.exact) == (True, False)
    assert (short.cycles_by, long.cycles_by) == ("exact", "closed form")
    assert short.to_dict()["cycles_by"] == "exact"
    assert estimate(workload, load_hardware("default"), 0.5, follow=False).cycles_by == "closed form"
    blocks = workload.blocks(DEFAULT, 0.5)
    closed = repeated_cycles(DEFAULT, blocks, workload.streams)
    assert (closed.qk, closed.pv) == (short.cycles.qk, short.cycles.pv)
    assert closed.total == short.cycles.total


@pytest.mark.parametrize("length", [5, 33])
def test_exact_cycles_of_a_list_repeated_are_those_of_all_of_it(length: int):
    workload = replace(load_workload("bert-base"), length=length, layers=2)
    blocks = workload.blocks(DEFAULT, 0.6)
    every = core_cycles(DEFAULT, JobList.of_shape(blocks).repeated(workload.streams))
    assert estimate(workload, Hardware(DEFAULT), 0.6).cycles.total == every.total


def test_dropping_and_batches():
    workload, hardware = load_workload("bert-base", length=256), load_hardware("default")
    results = [estimate(workload, hardware, rate) for rate in (1.0, 0.75, 0.5, 0.25)]
    for more, less in pairwise(results):
        assert less.cycles.total < more.cycles.total
        assert less.energy.total < more.energy.total
        assert less.traffic.ports["v"] < more.traffic.ports["v"]
        assert less.traffic.ports["k"] == more.traffic.ports["k"]
        assert less.effective_macs_per_cycle > more.effective_macs_per_cycle
    twice = estimate(replace(workload, batch=2), hardware)
    assert twice.traffic.ports["k"] == 2 * results[0].traffic.ports["k"]
    assert twice.cycles.total == pytest.approx(2 * results[0].cycles.total, rel=0.001)
    for name in PARTS:
        low, middle, high = (getattr(getattr(results[0].energies, c), name) for c in ("least", "nominal", "most"))
        assert low <= middle <= high
    assert results[0].energies.most.dram == pytest.approx(14 / 8 * results[0].energy.dram), "LPDDR4's two sources"


def test_a_memory_below_the_followed_length_is_exact_and_above_it_a_sample_tells():
    workload, hardware = (
        load_workload("bert-base"),
        load_hardware("default", bandwidth=12.0, latency=60, outstanding=16),
    )
    short = estimate(replace(workload, length=256), hardware, 0.5)
    assert short.cycles_by == "exact"
    assert estimate(replace(workload, length=256), hardware, 0.5, follow=False).cycles == short.cycles
    assert estimate(replace(workload, length=4096), hardware, 0.5).cycles_by == "exact on a sample"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("survival", [1.0, 0.3])
def test_a_sample_is_close_to_all_of_it(monkeypatch, causal: bool, survival: float):
    monkeypatch.setattr(schedule_cycles, "SAMPLED_BEATS", 60_000)
    workload = replace(load_workload("bert-base"), length=1024, causal=causal)
    memory = Memory(bandwidth=10, latency=80, outstanding=12)
    blocks = JobShape.concatenate([workload.blocks(DEFAULT, survival)])
    every = core_cycles(DEFAULT, JobList.of_shape(blocks), memory)
    assert every.qk + every.pv > 2 * 60_000
    sample = schedule_cycles.sampled_cycles(DEFAULT, blocks, memory)
    assert sample == pytest.approx(every.total, rel=0.05)
    assert sample > 1.1 * core_cycles(DEFAULT, JobList.of_shape(blocks)).total, "the memory is what limits"


def test_a_job_longer_than_a_sample_is_cut(monkeypatch):
    monkeypatch.setattr(schedule_cycles, "SAMPLED_BEATS", 30_000)
    job = JobShape(rows=1, keys=50_000, head_dim=64, value_dim=64, survivors=25_000)
    memory = Memory(bandwidth=8, latency=30, outstanding=4)
    every = core_cycles(DEFAULT, JobList.of_shape(job), memory)
    assert schedule_cycles.sampled_cycles(DEFAULT, job, memory) == pytest.approx(every.total, rel=0.03)


def test_the_dram_s_bandwidth_is_a_bound():
    workload = load_workload("bert-base", length=128)
    free = estimate(workload, load_hardware("default"))
    ample = estimate(workload, load_hardware("default", dram_bandwidth=100.0))
    assert ample.cycles == free.cycles
    scarce = estimate(workload, load_hardware("default", dram_bandwidth=0.5))
    assert scarce.cycles.total == 2 * scarce.traffic.dram
    assert (scarce.cycles_by, scarce.cycles.qk) == ("DRAM bound", free.cycles.qk)


def test_an_estimate_as_json_has_its_spread_and_sources():
    result = estimate(load_workload("vit-b-16"), load_hardware("edge-22nm"), 0.5).to_dict()
    energy = json.loads(json.dumps(result))["energy_pj"]
    parts = sum(energy[name] for name in PARTS)
    assert energy["total"] == pytest.approx(parts)
    assert energy["least"]["total"] < energy["total"] < energy["most"]["total"]
    technology, dram = result["energy_sources"]["technology"], result["energy_sources"]["dram"]
    assert [entry["value"] for entry in technology] == [0.294, 0.227, 0.437]
    assert len(dram) == 2
    assert all(len(entry["source"]) > 20 for entry in technology + dram)
