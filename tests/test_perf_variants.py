"""The account of what surrounds the core: by hand, and against the layers that golden's variants really run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from golden.config import preset
from golden.errors import InputError
from golden.kept_jobs import kept_jobs
from golden.variants import Datapath
from perf_model.__main__ import main
from perf_model.cycles import JobShape
from perf_model.energy_table import load_rates
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.projections import VARIANTS, variant_layer
from perf_model.variants import variant_cost
from perf_model.workload import Workload
from tests.variant_cases import DIM, HEADS, LENGTH
from tests.variant_cases import VARIANTS as GOLDEN

WORKLOAD = Workload("small", heads=HEADS, head_dim=DIM // HEADS, layers=1, length=LENGTH)
D, N = DIM, LENGTH


@pytest.mark.parametrize(
    ("name", "golden_name", "causal", "same_dims"),
    [
        ("standard", "self", False, True),
        ("standard", "causal", True, True),
        ("optimised", "optimised", False, True),
        ("efficient", "efficient", False, True),
        ("super", "super", True, True),
        ("multi-query", "multi-query", False, True),
        ("latent", "latent", True, False),
        ("absorbed-latent", "absorbed latent", True, False),
    ],
)
def test_the_core_is_given_the_jobs_that_golden_runs(name, golden_name, causal, same_dims):
    core = preset("small")
    layer = variant_layer(name, replace(WORKLOAD, causal=causal))
    datapath = Datapath()
    GOLDEN[golden_name](datapath)
    (run,) = datapath.runs
    attention = run.attended.attention
    assert layer.workload.key_heads == attention.kv_heads
    assert layer.workload.shared_values == attention.shared
    workload = layer.workload
    if not same_dims:
        # The random latent weights of the golden case are of other proportions than DeepSeek's.
        workload = replace(workload, head_dim=attention.head_dim, value_dim=attention.value_dim)
    blocks = workload.blocks(core)
    on_core = Datapath(core)
    GOLDEN[golden_name](on_core)
    shapes = [JobShape.of_job(*pair, core.lanes) for pair in kept_jobs(on_core.runs[0].attended, core)]
    jobs = JobShape.concatenate(shapes)
    for field in ("rows", "keys", "head_dim", "value_dim", "survivors"):
        expected = np.tile(np.broadcast_to(getattr(blocks, field), np.shape(blocks.rows)), workload.key_heads)
        assert np.array_equal(getattr(jobs, field), expected), field
    cost = variant_cost(replace(layer, workload=workload), Hardware(core))
    followed = JobList.of_jobs(*zip(*kept_jobs(on_core.runs[0].attended, core), strict=True), core.lanes)
    assert cost.core.cycles.total == core_cycles(core, followed).total


# Parameters of a layer, its MACs, cache and activations over 40 tokens of 32 elements in 4 heads.
BY_HAND = {
    "standard": (4 * D * D, 4 * N * D * D, 2 * D, N * D * (1 + 3 + 2 + 1)),
    "optimised": (3 * D * D, 3 * N * D * D, 2 * D, N * D * (1 + 2 + 2 + 1)),
    "efficient": (2 * D * D, 2 * N * D * D, D, N * D * (1 + 1 + 2 + 1)),
    "super": (2 * D * D + N * N, 2 * N * D * D + N * N * D, 2 * D, N * D * (1 + 2 + 2 + 1)),
    "grouped": (D * (2 * D + 2 * 8), N * D * (2 * D + 2 * 8), 2 * 8, N * (D * 2 + 2 * 8 + D * 3)),
    "multi-query": (D * (2 * D + 2 * 8), N * D * (2 * D + 2 * 8), 2 * 8, N * (D * 2 + 2 * 8 + D * 3)),
    # 32 latent elements, 4 rotated ones.
    "latent": (
        D * 48 + D * 36 + 2 * 4 * 32 * 8 + D * D,
        N * (D * 48 + D * 36 + 2 * 4 * 32 * 8 + D * D),
        36,
        N * (D + 48 + 36 + 36 + 4 * (8 + 4 + 8) + 2 * D + D),
    ),
    "absorbed-latent": (
        D * 48 + D * 36 + 2 * 4 * 32 * 8 + D * D,
        N * (D * 48 + D * 36 + 2 * 4 * 32 * 8 + D * D),
        36,
        N * (D + 48 + 36 + 48 + 2 * 4 * 32 + 4 * 36 + D + D + D),
    ),
    "luong-dot": (2 * D * D, 2 * N * D * D, D, N * D * (1 + 2 + 1)),
    "luong-general": (3 * D * D, 3 * N * D * D, D, N * D * (1 + 1 + 2 + 1)),
    "memory-network": (2 * D * D, 2 * N * D * D, 2 * D, N * D * (1 + 2)),
    "snail": (3 * D * D, 3 * N * D * D, 2 * D, N * D * (1 + 3)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_parameters_macs_and_bytes_by_hand(name):
    parameters, macs, cache, activations = BY_HAND[name]
    layer = variant_layer(name, replace(WORKLOAD, layers=3))
    assert (layer.parameters, layer.macs, layer.cache) == (parameters, 3 * macs, cache)
    assert layer.activation_bytes == 3 * activations
    assert layer.weight_bytes == 3 * parameters
    batch = variant_layer(name, replace(WORKLOAD, batch=2))
    assert (batch.macs, batch.activation_bytes, batch.weight_bytes) == (2 * macs, 2 * activations, parameters)


def test_every_variant_is_counted_by_hand_or_refused():
    assert set(BY_HAND) | {"luong-concat", "bahdanau"} == set(VARIANTS)
    for name in ("luong-concat", "bahdanau"):
        with pytest.raises(InputError, match=f"{name} attention has additive scores"):
            variant_layer(name, WORKLOAD)
    with pytest.raises(InputError, match="there is no variant 'linear'; there are standard, optimised"):
        variant_layer("linear", WORKLOAD)


def test_a_token_more_takes_a_row_of_the_mixing_matrix_and_the_latent_form_all_keys_and_values():
    step = replace(WORKLOAD, phase="decode", causal=True)
    layer = variant_layer("super", step)
    assert layer.parameters == 2 * D * D + N * (N + 1) // 2
    assert (layer.macs, layer.weight_bytes) == (2 * D * D + N * D, 2 * D * D + N)
    with pytest.raises(InputError, match="Super Attention decodes only under a causal mask"):
        variant_layer("super", replace(step, causal=False))
    plain, absorbed = (variant_layer(name, step) for name in ("latent", "absorbed-latent"))
    assert plain.macs - absorbed.macs == (N - 1) * 2 * 4 * 32 * 8


def test_shared_values_are_in_memory_once():
    """Of 128 keys of 8 bytes all stay beside the core; queries are 8 bytes and outputs 16."""
    hardware = Hardware(preset("small"), scratchpad_kib=4)
    longer = replace(WORKLOAD, length=128)
    shared, own = (variant_cost(variant_layer(name, longer), hardware) for name in ("efficient", "standard"))
    assert shared.core.traffic.dram == 4 * 128 * (8 + 8 + 16)
    assert own.core.traffic.dram == 4 * 128 * (8 + 8 + 8 + 16)
    assert shared.core.cycles == own.core.cycles
    saved = own.core.energy.dram - shared.core.energy.dram
    assert saved == pytest.approx(8 * 4 * 128 * 8 * 8.0)


def test_energy_of_projections_is_of_their_products_and_bytes():
    cost = variant_cost(variant_layer("efficient", WORKLOAD), Hardware(preset("small")))
    rates = load_rates("22 nm", "lpddr4")
    arithmetic = 2 * N * D * D * (rates.operations["multiply_int8"] + rates.operations["add_int32"])
    assert cost.projection_energy == pytest.approx(arithmetic + 8 * (2 * D * D + N * D * 5) * rates.dram)
    assert cost.projection_cycles == 2 * N * D * D // 64


def test_workloads_of_several_lengths_are_refused():
    for change in ({"length": (40, 50)}, {"chunk": 4}):
        with pytest.raises(InputError, match="variants are compared on sequences of one length"):
            variant_layer("standard", replace(WORKLOAD, **change))


def test_the_command_prints_a_column_for_each_variant(tmp_path, capsys):
    path = tmp_path / "out" / "costs.json"
    options = ["--workload", "gpt2", "--length", "64", "--variants", "standard", "super", "--json", str(path)]
    assert main(["variants", *options]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("parameters"))
    assert line.split()[3:] == [f"{4 * 768**2:,}", f"{2 * 768**2 + 64 * 65 // 2:,}"]
    costs = json.loads(path.read_text())
    assert [cost["variant"] for cost in costs] == ["standard", "super"]
    assert costs[0]["core"]["cycles"] == costs[1]["core"]["cycles"]
    assert main(["variants", "--variants", "bahdanau"]) == 2
    assert "additive scores" in capsys.readouterr().err
    assert main(["variants", "--workload", "llama-3-8b", "--length", "64", "--variants", "luong-dot"]) == 2
    assert "max_head_dim must be" in capsys.readouterr().err
