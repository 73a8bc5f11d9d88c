"""Workloads and hardware from YAML: what they become, and what is said of bad ones."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from golden.config import PRESETS
from golden.errors import InputError
from golden.masks import Mask
from golden.memory import Memory
from golden.plan import plan_jobs
from golden.quantise import quantise
from perf_model.estimate import estimate, repeated_cycles
from perf_model.exact import JobList, core_cycles
from perf_model.settings import DATA
from perf_model.workload import Hardware, Workload, load_hardware, load_workload

DEFAULT = PRESETS["default"]
GOOD = "name: x\nheads: 4\nhead_dim: 8\nlayers: 2\nlength: 32\n"


def workload_file(folder: Path, text: str) -> str:
    path = folder / "w.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("path", sorted((DATA / "workloads").glob("*.yaml")), ids=lambda path: path.stem)
def test_workloads_that_the_package_brings(path: Path):
    workload = load_workload(path.stem)
    assert "Source: " in path.read_text() or "see llama-3-8b.yaml" in path.read_text()
    assert estimate(workload, load_hardware("wide"), 0.5).cycles.total > 0


def test_what_the_models_are():
    bert, llama = load_workload("bert-base"), load_workload("llama-3-8b", length=1000, phase="decode", batch=3)
    assert (bert.key_heads, bert.group, bert.values, bert.queries, bert.streams) == (12, 1, 64, 512, 144)
    assert (llama.key_heads, llama.group, llama.values, llama.queries, llama.streams) == (8, 4, 128, 1, 8 * 32 * 3)
    assert load_workload("gpt2").causal


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 10)])
@pytest.mark.parametrize(("heads", "length"), [(2, 37), (6, 50)])
def test_blocks_are_those_of_golden_s_plan(phase, causal, window, heads, length):
    workload = Workload("x", heads, 8, 1, length, phase, kv_heads=2, value_dim=5, causal=causal, window=window)
    rng = np.random.default_rng(0)
    shapes = ((heads, workload.queries, 8), (2, length, 8), (2, length, 5))
    plan = plan_jobs(quantise(*(rng.normal(size=shape) for shape in shapes)), DEFAULT, Mask.of(causal, window))
    jobs = [planned.job for planned in plan if planned.kv_head == 0]
    blocks = workload.blocks(DEFAULT)
    assert blocks.rows.tolist() == [job.rows for job in jobs]
    assert blocks.keys.tolist() == [job.keys for job in jobs]
    assert blocks.survivors.tolist() == blocks.keys.tolist()
    assert (blocks.head_dim, blocks.value_dim) == (8, 5)
    half = workload.blocks(DEFAULT, 0.5).survivors
    assert np.all(np.abs(half - (blocks.keys + 1) // 2) <= DEFAULT.lanes // 2)
    assert np.all((half >= 1) & (half <= blocks.keys))


def test_survivors_spread_over_a_pack_about_their_rate():
    blocks = load_workload("bert-base", length=4096).blocks(DEFAULT, 0.3)
    assert blocks.survivors.mean() == pytest.approx(0.3 * 4096, abs=0.5)
    counts = np.bincount(blocks.survivors % DEFAULT.lanes, minlength=DEFAULT.lanes)
    assert counts.min() >= 0.5 * counts.mean(), "last packs are filled to every degree"
    assert blocks.survivors[0] == round(0.3 * 4096), "a single job has the rate's own"


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
    low, high = results[0].dram_energy_range()
    assert low <= results[0].energy.dram <= high


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "colour: red\n", "unknown key 'colour'"),
        (GOOD + "causal: 1\n", "causal in w.yaml must be true or false, not 1"),
        (GOOD.replace("heads: 4", "heads: four"), "heads in w.yaml must be a whole number, not 'four'"),
        (GOOD.replace("heads: 4", "heads: true"), "heads in w.yaml must be a whole number, not True"),
        (GOOD.replace("heads: 4", "heads: 4.0"), "heads in w.yaml must be a whole number"),
        (GOOD.replace("heads: 4", "heads: 0"), "heads of workload 'x' must be at least 1"),
        (GOOD.replace("layers: 2\n", ""), "lacks the key 'layers'"),
        (GOOD + "kv_heads: 3\n", "kv_heads of workload 'x' must divide 4 heads, not 3"),
        (GOOD + "phase: train\n", "phase of workload 'x' must be prefill or decode, not 'train'"),
        (GOOD + "window: -1\n", "window of workload 'x' must be at least 1"),
        ("- 1\n", "must hold a mapping"),
        ("1: 2\n", "must hold a mapping"),
        ("name: [\n", "not valid YAML in line 2"),
        ("name: \x00\n", "not valid YAML"),
    ],
)
def test_a_bad_workload_is_named_by_its_key(tmp_path: Path, text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        load_workload(workload_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_can_t_be_read(tmp_path: Path):
    with pytest.raises(InputError, match="there is no workload 'bart'; there are bert-base, "):
        load_workload("bart")
    with pytest.raises(InputError, match=r"none.yaml can't be read: No such file"):
        load_workload(str(tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(InputError, match="not a text in UTF-8"):
        load_workload(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(("key", "changes"), [("head_dim", {"head_dim": 65}), ("length", {"length": 65537})])
def test_a_core_too_small_is_said_by_what_it_holds(key: str, changes: dict[str, int]):
    workload = replace(load_workload("bert-base"), **changes)
    with pytest.raises(InputError, match=f"^{key} of workload 'BERT-base' is .*; this core holds at most"):
        workload.blocks(DEFAULT)


def test_hardware_from_a_file(tmp_path: Path):
    path = tmp_path / "edge.yaml"
    extra = "bandwidth: 25.5\nlatency: 40\noutstanding: 4\n"
    path.write_text("preset: small\nrows: 4\nlanes: 64\nclock_mhz: 250\ntechnology: 7 nm\nscratchpad_kib: 0\n" + extra)
    hardware = load_hardware(str(path), dram="hbm3", latency=50)
    core, memory = PRESETS["small"].override(rows=4, lanes=64), Memory(bandwidth=25.5, latency=50, outstanding=4)
    assert hardware == Hardware(core, "edge", 250.0, "7 nm", "hbm3", 0, memory)
    assert hardware.multipliers == 256
    assert load_hardware("tiny", clock_mhz=100.0) == Hardware(PRESETS["tiny"], "tiny", 100.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: huge\n", "there is no preset 'huge'"),
        ("cores: 4\n", "unknown key 'cores'"),
        ("lanes: 5\n", "lanes must be a power of two"),
        ("lanes: wide\n", "lanes in h.yaml must be a whole number, not 'wide'"),
        ("clock_mhz: fast\n", "clock_mhz in h.yaml must be a number, not 'fast'"),
        ("clock_mhz: 0\n", "clock_mhz must be above 0"),
        ("clock_mhz: .nan\n", "clock_mhz must be above 0"),
        ("technology: 3 nm\n", "technology must be one of 45 nm, "),
        ("dram: tape\n", "dram must be one of hbm2, "),
        ("scratchpad_kib: -1\n", "scratchpad_kib must be 0 or more"),
        ("bandwidth: none\n", "bandwidth in h.yaml must be a number, not 'none'"),
        ("buffer: 0\n", "buffer of a memory must be at least 1, not 0"),
    ],
)
def test_bad_hardware_is_named_by_its_key(tmp_path: Path, text: str, message: str):
    path = tmp_path / "h.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_hardware(str(path))


def test_no_such_preset():
    with pytest.raises(InputError, match="there is no preset 'huge'; presets are tiny, "):
        load_hardware("huge")
