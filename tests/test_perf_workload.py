"""Workloads from YAML: what they become, and what is said of bad ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.config import PRESETS
from golden.errors import InputError
from golden.masks import Mask
from golden.plan import plan_jobs
from golden.quantise import quantise
from perf_model.estimate import estimate
from perf_model.hardware import Hardware, load_hardware
from perf_model.settings import DATA
from perf_model.workload import Workload, load_workload

DEFAULT = PRESETS["default"]
GOOD = "name: x\nheads: 4\nhead_dim: 8\nlayers: 2\nlength: 32\n"


def workload_file(folder: Path, text: str) -> str:
    path = folder / "w.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("path", sorted((DATA / "workloads").glob("*.yaml")), ids=lambda path: path.stem)
def test_workloads_that_the_package_brings(path: Path):
    workload = load_workload(path.stem)
    comment = " ".join(line.strip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    assert "Source: " in comment or any(f"see {other.name}" in comment for other in path.parent.iterdir())
    assert estimate(workload, load_hardware("server-7nm"), 0.5, follow=False).cycles.total > 0


def test_what_the_models_are():
    bert, llama = load_workload("bert-base"), load_workload("llama-3-8b", length=1000, phase="decode", batch=3)
    assert (bert.key_heads, bert.group, bert.values, bert.queries, bert.streams) == (12, 1, 64, 512, 144)
    assert (llama.key_heads, llama.group, llama.values, llama.queries, llama.streams) == (8, 4, 128, 1, 8 * 32 * 3)
    assert load_workload("gpt2").causal
    latent = load_workload("deepseek-v3-decode")
    assert (latent.group, latent.head_dim, latent.values, latent.shared_values) == (128, 576, 512, True)
    assert load_workload("vit-b-16").queries == 197
    assert load_workload("llama-3-70b").streams == 8 * 80


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


def test_shared_values_are_captured_where_the_core_can():
    latent = Workload("x", 128, 576, 1, 300, "decode", kv_heads=1, value_dim=512, shared_values=True)
    capturing, fetching = (load_hardware("latent").core.override(shared_values=option) for option in (1, 0))
    assert (latent.blocks(capturing).shared, latent.blocks(fetching).shared) == (1, 0)
    bytes_ = {core.shared_values: estimate(latent, Hardware(core)).traffic.ports for core in (capturing, fetching)}
    assert bytes_[1] == bytes_[0] | {"v": 0, "v_req": 4 * 4}
    assert bytes_[0]["v"] == 4 * 300 * 512
    with pytest.raises(InputError, match="value_dim of workload 'x' must be at most its head_dim 576, of which"):
        replace(latent, value_dim=577)


def test_survivors_spread_over_a_pack_about_their_rate():
    blocks = load_workload("bert-base", length=4096).blocks(DEFAULT, 0.3)
    assert blocks.survivors.mean() == pytest.approx(0.3 * 4096, abs=0.5)
    counts = np.bincount(blocks.survivors % DEFAULT.lanes, minlength=DEFAULT.lanes)
    assert counts.min() >= 0.5 * counts.mean(), "last packs are filled to every degree"
    assert blocks.survivors[0] == round(0.3 * 4096), "a single job has the rate's own"


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
        (GOOD.replace("heads: 4", "heads: 2000000"), "heads of workload 'x' must be at most 1048576, not 2000000"),
        (GOOD.replace("length: 32", "length: []"), "length of workload 'x' must have at least one number"),
        (GOOD.replace("length: 32", "length: [3, 0]"), "length of workload 'x' must be at least 1, not 0"),
        (GOOD.replace("length: 32", "length: [3, 4.5]"), "length in w.yaml must be a whole number, not 4.5"),
        (GOOD + "value_dim: 9\nshared_values: true\n", "value_dim of workload 'x' must be at most its head_dim 8, "),
        (GOOD + "heads: 4\n", "not valid YAML in line 6: the key 'heads' is given twice"),
        (GOOD + "day: 2001-99-99\n", "w.yaml is not valid YAML$"),
        (GOOD + "{a: 1}: 2\n", "not valid YAML in line 6"),
        ("name: " + 500 * "[", "not valid YAML"),
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


def test_ragged_lengths_are_sequences_behind_each_other():
    ragged = replace(load_workload("llama-3-8b"), length=(40, 7, 100))
    alone = [replace(ragged, length=length).blocks(load_hardware("wide").core) for length in (40, 7, 100)]
    blocks = ragged.blocks(load_hardware("wide").core)
    assert blocks.keys.tolist() == [keys for part in alone for keys in part.keys]
    assert blocks.rows.tolist() == [rows for part in alone for rows in part.rows]
    assert (ragged.queries, ragged.lengths) == (147, (40, 7, 100))
    assert replace(ragged, phase="decode").queries == 3
    with pytest.raises(InputError, match="length of workload 'Llama-3-8B' is 70000"):
        replace(ragged, length=(5, 70000)).blocks(load_hardware("wide").core)


def test_a_decode_step_sees_all_keys_before_it_or_its_window():
    decode = load_workload("gpt2", phase="decode", length=100)
    assert decode.row_blocks(DEFAULT, 100).end.tolist() == [100]
    windowed = replace(decode, window=30)
    assert (windowed.row_blocks(DEFAULT, 100).first[0], windowed.row_blocks(DEFAULT, 100).end[0]) == (70, 100)


def test_a_chunk_is_the_last_positions():
    chunked = replace(load_workload("gpt2", length=100), chunk=20)
    rows, first, end = chunked.row_blocks(DEFAULT, 100)
    assert (rows.tolist(), first.tolist(), end.tolist()) == ([16, 4], [0, 0], [96, 100])
    # More queries than keys: positions count from 0, and those past the keys see all of them.
    rows, first, end = replace(chunked, chunk=40).row_blocks(DEFAULT, 20)
    assert end.tolist() == [16, 20, 20]
    # Far behind the keys a window has none, and a job streams the first.
    rows, first, end = replace(chunked, chunk=40, window=4).row_blocks(DEFAULT, 10)
    assert (first.tolist(), end.tolist()) == ([0, 0, 0], [10, 1, 1])


def test_more_blocks_than_can_be_listed_are_refused():
    workload = Workload("x", heads=1 << 20, kv_heads=1, head_dim=8, layers=1, length=16)
    workload.check(DEFAULT)
    with pytest.raises(InputError, match="workload 'x' has 1114112 blocks of rows to list; at most 1048576 can be"):
        replace(workload, length=17).check(DEFAULT)
