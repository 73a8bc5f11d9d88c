"""Records of jobs: what the core was given, through a file and back, and what the performance model makes of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from golden.block_mask import BlockMask
from golden.config import preset
from golden.errors import InputError
from golden.fast import attend
from golden.job_record import JobLog, JobRecord
from golden.layer import run_layer
from golden.masks import Mask
from golden.quantise import quantise
from golden.threshold import Threshold
from perf_model.__main__ import main
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.recorded import job_list, recorded_cost
from perf_model.traffic import job_bytes
from tests.variant_cases import arrays

CORE = preset("small")


def layers(threshold: Threshold) -> list:
    """Return two layers of one sequence, of other sizes, that have run."""
    made = []
    for seed, shapes in ((0, ((4, 20, 8), (2, 20, 8), (2, 20, 8))), (1, ((2, 9, 16), (2, 30, 16), (2, 30, 8)))):
        q, k, v = arrays(seed, *shapes)
        made.append(attend(quantise(3 * q, k, v), CORE, Mask.of(seed == 0), threshold, keep=True))
    return made


def record(rule: Threshold | None = None, **notes) -> JobRecord:
    log = JobLog(CORE)
    for layer in layers(rule or Threshold.of(tau=2)):
        log.add([layer])
    return log.record(**notes)


@pytest.mark.parametrize(
    "rule", [Threshold.of(tau=2), Threshold.of(epsilon=0.3), Threshold.of(epsilon=0.3, target=0.4)]
)
def test_a_record_holds_every_job_and_what_became_of_its_keys(rule, tmp_path):
    made = record(rule, threshold="tau 2", loss=1.25)
    made.save(tmp_path / "new" / "x.npz")
    read = JobRecord.load(tmp_path / "new" / "x.npz")
    assert (read.config, read.notes) == (CORE, {"threshold": "tau 2", "loss": 1.25})
    assert read.head.tolist() == [0] * 5 + [1] * 5 + [2] * 2 + [3] * 2
    assert read.first.tolist() == [0] * 14
    jobs, survivors = [], []
    for layer in layers(rule):
        ran = run_layer(layer.attention, CORE, layer.mask, layer.threshold)
        jobs += [planned.job for planned in ran.plan]
        survivors += [result.survivors for result in ran.results]
    for name in ("rows", "keys", "head_dim", "value_dim"):
        assert getattr(read, name).tolist() == [getattr(job, name) for job in jobs]
    assert np.array_equal(read.survivors, np.concatenate(survivors))
    assert 0.2 < read.survivor_share < 0.9
    expected = core_cycles(CORE, JobList.of_jobs(jobs, survivors, CORE.lanes))
    measured = core_cycles(CORE, job_list(read))
    assert measured.total == expected.total
    assert np.array_equal(measured.uses, expected.uses)
    cost = recorded_cost(read, Hardware(CORE))
    assert (cost.cycles, cost.jobs, cost.streamed) == (expected.total, len(jobs), sum(job.keys for job in jobs))
    by_job = [job_bytes(CORE, *pair) for pair in zip(jobs, survivors, strict=True)]
    assert cost.traffic.ports == {port: sum(part[port] for part in by_job) for port in by_job[0]}


def test_a_scratchpad_saves_what_the_blocks_of_a_head_stream_again():
    made = record(Threshold())
    with_room, without = recorded_cost(made, Hardware(CORE)), recorded_cost(made, Hardware(CORE, scratchpad_kib=0))
    assert without.traffic.dram == sum(without.traffic.ports.values()) - without.traffic.ports["v_req"]
    # Of the first layer, two heads of 20 keys and values of 8 bytes, once; of the second 30 of 16 and of 8.
    keys_and_values = 2 * 20 * 16 + 2 * 30 * 24
    others = with_room.traffic.ports["q"] + with_room.traffic.ports["o"]
    assert with_room.traffic.dram == keys_and_values + others
    assert with_room.energies.nominal.dram < without.energies.nominal.dram
    assert with_room.energies.nominal.core > without.energies.nominal.core


def test_the_command_prints_a_line_for_each_record(tmp_path, capsys):
    for name, threshold in (("all", Threshold()), ("tau 2", Threshold.of(tau=2))):
        record(threshold, model="small", threshold=name, loss=1.5).save(tmp_path / f"{name}.npz")
    files = [str(tmp_path / name) for name in ("all.npz", "tau 2.npz")]
    assert main(["recorded", *files, "--json", str(tmp_path / "x.json")]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["model", "threshold", "loss", "survivors"]
    assert first.split()[:4] == ["small", "all", "1.5000", "100.0%"]
    costs = json.loads((tmp_path / "x.json").read_text())["runs"]
    assert f"{costs[1]['cycles']:,}" in second
    assert f"{costs[1]['cycles'] / costs[0]['cycles']:.3f}" in second
    assert costs[1]["cycles"] < costs[0]["cycles"]
    # And the table of trade-offs reads it.
    assert main(["trade-off", str(tmp_path / "x.json")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == [
        "small",
        "tau",
        "2",
        "1.5000",
        "(+0.00%)",
        f"{costs[1]['survivor_share']:.1%}",
        "1.00",
        *line.split()[7:],
    ]
    assert f"{costs[1]['dram_bytes']:,}" in line


def test_one_layer_of_a_record_is_that_layer(tmp_path, capsys):
    """The first of `layers` has two key and value heads, the second two more."""
    made = record(Threshold.of(tau=2), model="small", threshold="tau 2", loss=1.5)
    parts = [made.of_heads(0, 2), made.of_heads(2, 4)]
    for name in ("rows", "keys", "head_dim", "survivors"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(made, name))
    (layer, _) = layers(Threshold.of(tau=2))
    ran = run_layer(layer.attention, CORE, layer.mask, layer.threshold)
    assert np.array_equal(parts[0].survivors, np.concatenate([result.survivors for result in ran.results]))

    made.save(tmp_path / "x.npz")
    assert main(["recorded", str(tmp_path / "x.npz"), "--heads", "0", "2"]) == 0
    assert f" {parts[0].survivor_share:.1%} " in capsys.readouterr().out
    for heads in ("4", "9"), ("1", "1"):
        assert main(["recorded", str(tmp_path / "x.npz"), "--heads", *heads]) == 2
        assert "the record has heads 0 to 3, so none from" in capsys.readouterr().err


def test_only_layers_that_ran_with_keep_on_the_logs_core_can_be_recorded():
    log = JobLog(CORE)
    with pytest.raises(InputError, match="no layer ran, so there are no jobs to record"):
        log.record()
    (layer, _) = layers(Threshold())
    with pytest.raises(InputError, match="the layer ran without keep=True"):
        log.add([replace(layer, kept=None)])
    with pytest.raises(InputError, match="the layer ran in blocks of 8 rows, not of 16"):
        JobLog(preset("default")).add([layer])
    blocks = BlockMask(np.ones((2, 2, 2), dtype=bool), 16, 16)
    with pytest.raises(InputError, match="a record of jobs can't hold those of a block mask"):
        log.add([attend(layer.attention, CORE, layer.mask, block_mask=blocks, keep=True)])
    with pytest.raises(InputError, match="recorded jobs ran on one core, not on 2"):
        recorded_cost(record(), Hardware(CORE, cores=2))


def test_a_window_is_recorded_where_it_begins():
    q, k, v = arrays(0, (1, 24, 8), (1, 24, 8), (1, 24, 8))
    log = JobLog(CORE)
    log.add([attend(quantise(q, k, v), CORE, Mask.of(window=4), keep=True)])
    made = log.record()
    assert (made.first.tolist(), made.keys.tolist()) == ([0, 5, 13], [8, 11, 11])
    # Three keys of each block but the first are those of the one before, and are there already.
    cost = recorded_cost(made, Hardware(CORE))
    assert cost.traffic.dram - cost.traffic.ports["q"] - cost.traffic.ports["o"] == 24 * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("head"), "holds no job record: it has no head"),
        (lambda arrays: arrays.update(config=np.array("{")), "holds no job record that can be used"),
        (lambda arrays: arrays.update(config=np.array('{"lanes": 3}')), "lanes must be a power of two"),
        (lambda arrays: arrays.update(rows=arrays["rows"] * 0), "rows of a job record must hold at least one number"),
        (lambda arrays: arrays.update(first=arrays["first"][:-1]), "first of a job record must be int64, one a job"),
        (lambda arrays: arrays.update(rows=arrays["rows"] + CORE.rows), f"must have at most the {CORE.rows} rows"),
        (lambda arrays: arrays.update(bounded=arrays["bounded"] + 2), "and flags 0 or 1"),
        (lambda arrays: arrays.update(head=arrays["head"][::-1]), "the heads of a job record must rise"),
        (lambda arrays: arrays.update(survivors=arrays["survivors"] * 1.0), "holds no job record that can be used"),
        (lambda arrays: arrays.update(survivors=arrays["survivors"][:-1]), "bytes of survivors for [0-9]+ keys"),
        (lambda arrays: arrays.update(keys=arrays["keys"] + (1 << 45)), "bytes of survivors for [0-9]+ keys"),
        (lambda arrays: arrays.update(notes=np.array("[1]")), r"and notes \[1\]"),
    ],
)
def test_files_without_a_record_are_refused(change, message, tmp_path, capsys):
    path = tmp_path / "x.npz"
    record().save(path)
    arrays = dict(np.load(path))
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        JobRecord.load(path)
    assert main(["recorded", str(path)]) == 2
    assert "x.npz" in capsys.readouterr().err
