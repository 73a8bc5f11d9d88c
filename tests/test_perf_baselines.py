"""Other ways to compute the same attention: by hand, and in the order that theory has them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.block_mask import BlockMask
from golden.config import PRESETS
from golden.errors import InputError
from golden.memory import Memory
from perf_model import baselines
from perf_model.baselines import all_of, dense, flat, split_keys, static_mask, thresholded, unfused
from perf_model.estimate import estimate
from perf_model.hardware import Hardware, load_hardware
from perf_model.report import comparison
from perf_model.workload import Workload, load_workload

DEFAULT = PRESETS["default"]
HEAD = Workload("x", heads=1, head_dim=64, layers=1, length=64)
PAIRS, KV = 64 * 64, 64 * 64
"""Scores of `HEAD`, and bytes of its K or V."""

HARDWARE = Hardware(DEFAULT)
BARE = Hardware(DEFAULT, scratchpad_kib=0)


def test_unfused_by_hand():
    # Q K: 4 blocks x 64 keys x 4 beats; softmax: a cycle a key and block; P V: 4 blocks x 4 packs x 64.
    result = unfused(HEAD, HARDWARE)
    assert (result.cycles.qk, result.cycles.pv) == (1024, 1024)
    assert result.cycles.total == 1024 + 256 + 1024
    assert result.traffic.ports["scores"] == 4 * 2 * PAIRS
    assert result.traffic.dram == KV + 2 * KV + 2 * KV + 8 * PAIRS
    assert unfused(HEAD, BARE).traffic.dram == KV + 4 * 2 * KV + 2 * KV + 8 * PAIRS
    assert result.traffic.scratchpad == 2 * KV + 4 * 2 * KV


def test_unfused_phases_wait_for_the_memory_one_by_one():
    # Bytes of the streams: q, k and the scores; twice the scores; scores, v and o.
    near = Hardware(DEFAULT, memory=Memory(bandwidth=16.0))
    phases = (max(1024, (KV + 4 * KV + 8192) / 16), 2 * 8192 / 16, max(1024, (8192 + 4 * KV + 8192) / 16))
    assert unfused(HEAD, near).cycles.total == sum(phases)
    far = Hardware(DEFAULT, dram_bandwidth=8.0)
    phases = (max(1024, (2 * KV + 8192) / 8), 2 * 8192 / 8, max(1024, (8192 + KV + 8192) / 8))
    assert unfused(HEAD, far).cycles.total == sum(phases)


def test_flat_by_hand():
    # A block's scores, 16 x 64 x 2 bytes, and K and V fit.
    result = flat(HEAD, HARDWARE)
    assert result.cycles.total == 2048
    assert result.traffic.dram == result.traffic.compulsory == 5 * KV
    assert result.traffic.scratchpad == 8 * PAIRS + 2 * KV + 4 * 2 * KV


@pytest.mark.parametrize(
    ("kib", "dram"),
    [
        # Nothing: scores to memory and back as unfused, K and V for each block.
        (0, 3 * KV + 8 * KV + 8 * PAIRS),
        # Half of a block's scores of 2 KiB spill, and nothing else is held.
        (1, 3 * KV + 8 * KV + 4 * PAIRS),
        # 2 KiB beside the scores: 16 keys with their values.
        (4, 3 * KV + 2 * KV + 3 * 2 * 64 * (64 - 16)),
    ],
)
def test_flat_spills_scores_before_it_gives_up_keys(kib: int, dram: int):
    assert flat(HEAD, replace(HARDWARE, scratchpad_kib=kib)).traffic.dram == dram


def test_flat_waits_for_the_slowest():
    assert flat(HEAD, replace(BARE, dram_bandwidth=1.0)).cycles.total == 3 * KV + 8 * KV + 8 * PAIRS
    near = flat(HEAD, Hardware(DEFAULT, memory=Memory(bandwidth=4.0)))
    assert near.cycles.total == (3 * KV + 8 * KV + 8 * PAIRS) / 4
    # With one element a key the softmax is what takes longest.
    thin = replace(HEAD, head_dim=1, value_dim=1)
    assert flat(thin, HARDWARE).cycles.total == 4 * 64 + 4 * 4


def test_latent_values_are_fetched_with_their_keys_or_again():
    latent = replace(HEAD, heads=8, kv_heads=1, value_dim=48, shared_values=True, phase="decode", chunk=8)
    keys, queries, outputs = 64 * 64, 64 * 64, 64 * 48 * 2
    assert flat(latent, HARDWARE).traffic.dram == queries + outputs + keys
    assert unfused(latent, HARDWARE).traffic.dram == queries + outputs + keys + 64 * 48 + 8 * PAIRS
    scores = 16 * 64 * 2 // 1024
    held = flat(latent, replace(HARDWARE, scratchpad_kib=scores + 1)).traffic.dram
    assert held == queries + outputs + keys + 3 * 48 * 64 + 4 * 48 * 48


def test_other_ways_capture_no_values():
    latent = replace(HEAD, heads=8, kv_heads=1, value_dim=48, shared_values=True, phase="decode", chunk=8)
    capturing = replace(HARDWARE, core=replace(HARDWARE.core, shared_values=1))
    for way in (unfused, flat):
        assert way(latent, capturing).traffic == way(latent, HARDWARE).traffic
    assert dense(latent, capturing).traffic.ports["v"] == 0 < dense(latent, HARDWARE).traffic.ports["v"]


def test_the_core_s_own_ways_are_its_estimates():
    bert = load_workload("bert-base", length=128)
    assert dense(bert, HARDWARE).cycles == estimate(bert, HARDWARE).cycles
    assert thresholded(bert, HARDWARE, 0.4).traffic == estimate(bert, HARDWARE, 0.4).traffic
    cores = replace(HARDWARE, cores=4)
    assert split_keys(bert, cores, 0.4).cycles == estimate(bert, replace(cores, partition="lean"), 0.4).cycles
    assert split_keys(bert, cores).hardware.partition == "lean"


def test_a_static_mask_streams_a_share_of_the_keys():
    bert = load_workload("bert-base", length=256)
    whole, half = dense(bert, HARDWARE), static_mask(bert, HARDWARE, 0.5)
    assert half.traffic.ports["k"] == whole.traffic.ports["k"] / 2
    assert half.traffic.ports["v"] == whole.traffic.ports["v"] / 2
    assert (half.dense_macs, half.macs) == (whole.dense_macs, whole.macs / 2)
    assert half.traffic.compulsory == whole.traffic.compulsory
    kept = whole.traffic.dram - half.traffic.dram
    assert kept == 144 * 256 * 128 / 2, "neighbouring blocks stream the same keys"
    assert static_mask(bert, HARDWARE, 1.0).cycles == whole.cycles
    both = static_mask(bert, HARDWARE, 0.5, 0.5)
    assert both.traffic.ports["v"] == pytest.approx(whole.traffic.ports["v"] / 4, rel=0.02)


def test_a_mask_s_own_blocks_are_streamed():
    bert = load_workload("bert-base", length=128)
    rng = np.random.default_rng(0)
    allowed = rng.random((12, 8, 8)) < 0.4
    allowed[:, :, 0] = True
    result = static_mask(bert, HARDWARE, BlockMask(allowed, 16, 16))
    assert result.traffic.ports["k"] == 12 * allowed.sum() * 16 * 64
    assert result.macs == 12 * allowed.sum() * 16 * 16 * 128
    assert result.survival == 1
    half = static_mask(bert, HARDWARE, BlockMask(allowed, 16, 16), 0.5)
    assert half.survival == pytest.approx(0.5, abs=0.02)
    # All of a head that fits is fetched once, also where a key pauses.
    streamed = allowed.any(axis=1).sum() * 16
    queries_outputs = 12 * 12 * 128 * 64 * 3
    assert result.traffic.dram == queries_outputs + 12 * streamed * 128
    ones = static_mask(bert, HARDWARE, BlockMask(np.ones((12, 8, 8), dtype=bool), 16, 16))
    assert ones.traffic == dense(bert, HARDWARE).traffic
    assert ones.cycles.total == pytest.approx(dense(bert, HARDWARE).cycles.total, rel=1e-4)


def test_every_way_in_one_list():
    bert = load_workload("bert-base", length=256)
    found = {e.method: e for e in all_of(bert, HARDWARE, 0.4)}
    assert list(found) == [
        "unfused",
        "FLAT, by rows",
        "FlashAttention, dense",
        "threshold, 40% survive",
        "static mask, 50% streamed",
    ]
    scores, rows, flash, thresholds, _ = found.values()
    assert scores.traffic.dram > 5 * rows.traffic.dram
    assert rows.traffic.dram == flash.traffic.dram
    assert rows.traffic.scratchpad > 1.5 * flash.traffic.scratchpad
    assert scores.cycles.total > flash.cycles.total > thresholds.cycles.total
    assert scores.energy.total > rows.energy.total > flash.energy.total > thresholds.energy.total
    assert scores.energy.qk == flash.energy.qk
    assert flash.cycles.total == pytest.approx(rows.cycles.total, rel=0.01)
    for result in found.values():
        assert result.traffic.compulsory == flash.traffic.compulsory
        assert result.energies.least.total < result.energy.total < result.energies.most.total
    cores = [e.method for e in all_of(bert, replace(HARDWARE, cores=2), (1.0, 0.4), None)]
    assert cores[2:] == [
        "FlashAttention, dense",
        "threshold, 40% survive",
        "lean on 2 cores, 100% survive",
        "lean on 2 cores, 40% survive",
    ]


def test_flat_moves_more_than_the_core_where_a_row_s_scores_do_not_fit():
    llama = load_workload("llama-3-8b")
    hardware = load_hardware("wide")
    assert flat(llama, hardware).traffic.dram > 1.5 * dense(llama, hardware).traffic.dram


def test_several_cores_share_the_blocks_of_the_modelled_ways():
    bert = load_workload("bert-base", length=256)
    one, four = (unfused(bert, replace(HARDWARE, cores=n, partition="lean")) for n in (1, 4))
    assert four.cycles.total == pytest.approx(one.cycles.total / 4, rel=0.01)
    assert four.hardware.partition == "whole"
    assert four.utilisation == pytest.approx(one.utilisation, rel=0.01)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (0.0, "the share of the keys streamed must be above 0 and at most 1, not 0.0"),
        (1.5, "at most 1, not 1.5"),
        (BlockMask(np.ones((3, 8, 8), dtype=bool), 16, 16), "the block mask is for 3 kv heads, the layer has 12"),
        (BlockMask(np.ones((12, 2, 8), dtype=bool), 16, 16), "the block mask ends before query position 32"),
        (BlockMask(np.zeros((12, 8, 8), dtype=bool), 16, 16), "leaves block 0 of kv head 0 without a key"),
    ],
)
def test_a_bad_mask_is_refused(mask, message: str):
    with pytest.raises(InputError, match=message):
        static_mask(load_workload("bert-base", length=128), HARDWARE, mask)


def test_a_score_has_the_bytes_of_its_format():
    assert baselines.SCORE_BYTES == 2


def test_documents_show_what_the_command_prints():
    root = Path(__file__).resolve().parent.parent
    found = comparison(all_of(load_workload("gpt2"), load_hardware("edge-22nm"), (1.0, 0.7, 0.4)))
    header, *lines = (re.split(r"\s{2,}", line) for line in found.splitlines())
    ways = [dict(zip(header, line, strict=True)) for line in lines]
    ranges = [re.search(r"\((.*)\)", way["energy"]) for way in ways]
    spreads = [range_[1] if range_ else "" for range_ in ranges]

    page = (root / "docs" / "performance.md").read_text().replace(" %", "%")
    for way, spread in zip(ways, spreads, strict=True):
        cells = [way[name] for name in ("method", "cycles", "utilisation", "DRAM", "compulsory")]
        assert f"| {' | '.join([*cells, way['energy'].split(' (')[0], spread])} |" in page
    readme = (root / "README.md").read_text()
    for number in (0, 1, 2, 4):
        low, high = spreads[number].split(" to ")
        spread = f"{low.removesuffix(' mJ')} to {high}"
        assert f"| {ways[number]['cycles']} | {ways[number]['DRAM']} | {spread} |" in readme


def test_only_split_keys_splits_keys():
    decode, hardware = load_workload("bert-base", phase="decode"), replace(HARDWARE, cores=5)
    lean = replace(hardware, partition="lean")
    ways = all_of(decode, hardware, 0.4)
    assert [way.cycles for way in all_of(decode, lean, 0.4)] == [way.cycles for way in ways]
    assert {way.hardware.partition for way in ways[:-2]} == {"whole"}
    assert ways[2].cycles.total > split_keys(decode, lean).cycles.total
