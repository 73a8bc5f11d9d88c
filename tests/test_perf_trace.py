"""Estimates from captured tensors: the cycles of the simulated core, and bytes from which keys are really streamed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.block_mask import BlockMask
from golden.config import PRESETS
from golden.errors import InputError
from golden.layer import run_layer
from golden.masks import Mask
from golden.quantise import QuantisedAttention, quantise
from golden.tensors import load_attention
from golden.threshold import Threshold
from perf_model.estimate import estimate
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.trace import estimate_trace, masked_trace, trace, workload_of
from perf_model.traffic import PORTS, job_bytes

ROOT = Path(__file__).resolve().parent.parent
CAPTURE = ROOT / "golden" / "data" / "minilm_l3_128.npz"
SMALL = PRESETS["small"]


def layer(heads: int = 4, kv_heads: int = 2, queries: int = 37, keys: int = 37) -> QuantisedAttention:
    rng = np.random.default_rng(3)
    shapes = ((heads, queries, 24), (kv_heads, keys, 24), (kv_heads, keys, 16))
    return quantise(*(rng.normal(0, 2, size=shape) for shape in shapes))


def readme_rows() -> list[tuple[float | None, int, float, int]]:
    """Return tau, cycles, utilisation and value bytes of each row of the README's table of the simulated core."""
    row = re.compile(r"^\| (all|\d+) \|[^|]*\|[^|]*\|[^|]*\| (\d+) \| ([\d.]+)% \| (\d+) \|$", re.MULTILINE)
    found = row.findall((ROOT / "README.md").read_text())
    return [(None if tau == "all" else float(tau), int(n), float(share), int(b)) for tau, n, share, b in found]


def test_a_capture_takes_the_cycles_and_bytes_that_the_readme_says_were_simulated():
    tensors = load_attention(CAPTURE)
    attention, hardware = tensors.quantise(), Hardware(PRESETS["default"])
    rows = readme_rows()
    assert len(rows) == 10
    assert rows[0][:2] == (None, 49358)
    for tau, cycles, utilisation, value_bytes in rows:
        result = estimate_trace(trace("x", attention, hardware, tensors.mask, Threshold.of(tau)), hardware)
        assert (result.cycles.total, result.traffic.ports["v"], result.cycles_by) == (cycles, value_bytes, "exact")
        assert 100 * result.utilisation == pytest.approx(utilisation, abs=0.05)


@pytest.mark.parametrize("mask", [Mask(), Mask.of(causal=True), Mask.of(window=9)])
@pytest.mark.parametrize(
    "threshold", [Threshold(), Threshold.of(tau=3), Threshold.of(epsilon=0.1), Threshold.of(target=0.4)]
)
@pytest.mark.parametrize(("queries", "blocks"), [(37, False), (37, True), (1, False), (5, False), (60, False)])
def test_jobs_are_golden_s_with_their_own_survivors(mask: Mask, threshold: Threshold, queries: int, blocks: bool):
    attention, hardware = layer(queries=queries), Hardware(SMALL)
    block_mask = None
    if blocks:
        allowed = np.random.default_rng(1).random((2, 5, 5)) < 0.5
        allowed[:, range(5), range(5)] = allowed[:, range(1, 5), range(4)] = True
        block_mask = BlockMask(allowed, 8, 8)
    result = run_layer(attention, SMALL, mask, threshold, block_mask)
    jobs, fates = [planned.job for planned in result.plan], [each.survivors for each in result.results]
    traced = trace("x", attention, hardware, mask, threshold, block_mask)
    for job, own, fate in zip(jobs, traced.jobs, fates, strict=True):
        assert np.array_equal(own.survivors, fate)
        assert np.array_equal(np.flatnonzero(own.streamed), job.indices)
    found = estimate_trace(traced, hardware)
    assert found.cycles.total == core_cycles(SMALL, JobList.of_jobs(jobs, fates, SMALL.lanes)).total
    moved = [job_bytes(SMALL, *pair) for pair in zip(jobs, fates, strict=True)]
    assert found.traffic.ports == {port: sum(bytes_[port] for bytes_ in moved) for port in PORTS}
    kept = sum(int(fate.sum()) for fate in fates)
    assert found.survival == kept / sum(job.keys for job in jobs)
    assert found.macs == sum(
        job.rows * (job.keys * 24 + int(fate.sum()) * 16) for job, fate in zip(jobs, fates, strict=True)
    )


@pytest.mark.parametrize("mask", [Mask(), Mask.of(causal=True), Mask.of(window=9)])
@pytest.mark.parametrize("queries", [37, 1, 5, 60])
def test_a_trace_that_drops_nothing_is_its_workload(mask: Mask, queries: int):
    attention, hardware = layer(queries=queries), Hardware(SMALL, scratchpad_kib=1)
    traced = estimate_trace(trace("x", attention, hardware, mask), hardware)
    modelled = estimate(workload_of("x", attention, mask), hardware)
    assert traced.cycles == modelled.cycles or mask.kind, "under masks a block drops keys that none of its rows sees"
    for name in ("jobs", "dense_macs"):
        assert getattr(traced, name) == getattr(modelled, name)
    for name in ("q", "k", "o"):
        assert traced.traffic.ports[name] == modelled.traffic.ports[name]
    assert traced.traffic.compulsory == modelled.traffic.compulsory
    if not mask.kind:
        assert traced.traffic == modelled.traffic
        assert traced.energies == modelled.energies


def test_shared_values_are_traced_as_the_core_takes_them():
    rng = np.random.default_rng(3)
    attention = quantise(rng.normal(size=(2, 1, 24)), rng.normal(size=(1, 90, 24)), None, value_dim=16)
    hardware = Hardware(replace(SMALL, shared_values=1))
    traced = estimate_trace(trace("x", attention, hardware), hardware)
    modelled = estimate(workload_of("x", attention, Mask()), hardware)
    assert (traced.cycles, traced.traffic) == (modelled.cycles, modelled.traffic)
    assert (traced.traffic.ports["v"], traced.traffic.ports["v_req"]) == (0, 4)
    half = BlockMask((np.arange(12) % 2 == 0)[None, None], 96, 8)
    masked = estimate_trace(masked_trace(workload_of("x", attention, Mask()), hardware, half), hardware)
    assert 0 == masked.traffic.ports["v"] < masked.traffic.ports["k"] < traced.traffic.ports["k"]


def test_keys_that_pause_are_held_only_if_the_head_fits():
    # One kv head, six blocks of eight rows; block masks let the even ones see other keys than the odd ones.
    attention = layer(heads=1, kv_heads=1, queries=48, keys=48)
    allowed = np.zeros((1, 6, 6), dtype=bool)
    allowed[0, ::2, :3] = allowed[0, 1::2, 2:] = True
    keys = [24, 32] * 3
    rest = 48 * (24 + 2 * 16)
    for kib in (4, 1):
        hardware = Hardware(SMALL, scratchpad_kib=kib)
        traced = trace("x", attention, hardware, block_mask=BlockMask(allowed, 8, 8))
        assert [len(job.survivors) for job in traced.jobs] == keys
        capacity = kib * 1024 // 40
        # All 48 keys, or of each block those that the block before did not stream: 8 are common.
        fetched = 48 if capacity >= 48 else sum(keys) - 5 * 8
        assert estimate_trace(traced, hardware).traffic.dram == rest + fetched * 40


def test_several_cores_share_whole_jobs_and_can_t_split_them():
    attention = layer()
    hardware = Hardware(SMALL, cores=3)
    traced = trace("x", attention, hardware, Mask.of(causal=True), Threshold.of(tau=3))
    one, three = (estimate_trace(traced, replace(hardware, cores=cores)) for cores in (1, 3))
    assert one.traffic.ports == three.traffic.ports
    assert one.cycles.total / 3 < three.cycles.total < one.cycles.total / 2
    with pytest.raises(InputError, match="a trace says nothing of split keys; partition must be whole, not lean"):
        estimate_trace(traced, Hardware(SMALL, cores=3, partition="lean", tile=4))


def test_tau_that_moves_from_job_to_job_stays_on_one_core():
    hardware = Hardware(SMALL, cores=3)
    traced = trace("x", layer(), hardware, threshold=Threshold.of(target=0.5))
    with pytest.raises(InputError, match="a target moves tau from block to block on one core; cores must be 1, not 3"):
        estimate_trace(traced, hardware)


def test_a_core_without_what_a_threshold_needs_is_refused():
    bare = Hardware(replace(SMALL, rows_per_budget=0, target_control=0))
    for threshold, missing in (
        (Threshold.of(epsilon=0.1), "rows_per_budget"),
        (Threshold.of(target=0.5), "target_control"),
    ):
        with pytest.raises(InputError, match=f"{missing} is 0"):
            trace("x", layer(), bare, threshold=threshold)


def test_a_capture_as_a_workload():
    tensors = load_attention(CAPTURE)
    workload = workload_of("minilm", tensors.quantise(), tensors.mask)
    assert (workload.heads, workload.head_dim, workload.length, workload.phase) == (12, 32, 128, "prefill")
    decode = workload_of("x", layer(queries=1), Mask.of(window=9))
    assert (decode.phase, decode.queries, decode.key_heads, decode.window, decode.causal) == ("decode", 1, 2, 9, True)
    chunk = workload_of("x", layer(queries=5), Mask())
    assert (chunk.phase, chunk.queries, chunk.window, chunk.causal) == ("prefill", 5, None, False)
