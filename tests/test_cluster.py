"""A cluster on Verilator: lists of heads in order and bit for bit, whatever core runs what, and whatever stalls."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import pytest
from cluster_cases import CLUSTER

from golden.cluster import ClusterJob, list_jobs, run_list
from golden.decode_batch import decode_jobs
from golden.partition import RULES, batch
from golden.threshold import Threshold
from perf_model.__main__ import main as perf_main
from rtl.interfaces import Status
from sim.__main__ import main as sim_main
from sim.cluster import list_batch, simulate_lists
from sim.cluster_bench import ClusterRecording
from sim.cluster_testbench import ClusterBatch, check
from sim.faults import faults_of
from sim.random_lists import random_list
from sim.runner import SimulationError

CORE = CLUSTER.core
STALLS = (0.0, 0.0, 0.3, 0.3, 0.6)
HEADS = 16


def partition_list(rule: str, lengths: list[int], **changes: object) -> list[ClusterJob]:
    keys = batch(lengths, 2)
    jobs = decode_jobs(keys, CORE, 2, 11, Threshold.of(tau=5), 3)
    jobs = {head: replace(job, **changes) for head, job in jobs.items()}
    return list_jobs(RULES[rule](keys, CLUSTER.cores, 8), jobs)


def random_lists() -> list[ClusterBatch]:
    """Return jobs that name their core and jobs that don't, heads of one to three jobs; some are wrong in each way."""
    faults = faults_of(CORE)
    return [
        random_list(n, CLUSTER, HEADS, faults[n :: len(STALLS)], stall=stall, latency=1 + 5 * n)
        for n, stall in enumerate(STALLS)
    ]


def partition_lists() -> list[ClusterBatch]:
    """Return heads split over all cores by each rule, their parts done in any order, as outputs and as states."""
    batches = []
    for rule in RULES:
        lists = [partition_list(rule, [120, 9, 31]), partition_list(rule, [77], emit_state=True)]
        split = sum(entry.more for listed in lists for entry in listed)
        assert split >= (4 if rule != "whole" else 0)
        batches += [
            list_batch(CLUSTER, listed, f"{rule}, list {n}, stall {stall}", stall=stall, seed=n)
            for (n, listed), stall in zip(enumerate(lists), (0.0, 0.4), strict=True)
        ]
    return batches


def ordered_lists() -> dict[str, ClusterBatch]:
    """Return one list on several cores: all parts on one, left to the cluster, the cores in the other order."""
    heads = partition_list("lean", [90, 9, 9, 40])
    orders = {
        "one core": [replace(entry, core=0) for entry in heads],
        "any core": [replace(entry, core=None) for entry in heads],
        "the last core first": [replace(entry, core=CLUSTER.cores - 1 - entry.core) for entry in heads],
    }
    return {label: list_batch(CLUSTER, listed, label) for label, listed in orders.items()}


def one_long_job() -> ClusterBatch:
    """Return short jobs that are to go round a core that a long one keeps busy."""
    jobs = decode_jobs(batch([400, *[6] * 8], 1), CORE, 1, 8, Threshold(), 4)
    return list_batch(CLUSTER, [ClusterJob(job) for job in jobs.values()], "one long job")


@cache
def runs() -> dict[str, tuple[ClusterBatch, ClusterRecording]]:
    """Return all good lists, each with what came of it, by label: one simulation, held to golden bit for bit."""
    batches = [*random_lists(), *partition_lists(), *ordered_lists().values(), one_long_job()]
    return {
        case.label: (case, recording) for case, recording in zip(batches, simulate_lists(CLUSTER, batches), strict=True)
    }


def test_random_lists_are_bit_exact_and_in_order():
    found = [runs()[case.label] for case in random_lists()]
    statuses = {expectation.status for case, _ in found for expectation in case.jobs}
    assert statuses == set(Status)
    for case, recording in found:
        assert set(recording.cores) == set(range(CLUSTER.cores)), case.label


def test_a_partition_gives_golden_s_bits():
    for case in partition_lists():
        assert len(runs()[case.label][1].packets) == len(case.heads), case.label


def test_any_order_of_a_list_and_any_cores_give_the_same_results():
    recordings = [runs()[label][1] for label in ordered_lists()]
    packets = [recording.packets for recording in recordings]
    assert packets[0] == packets[1] == packets[2]
    assert set(recordings[0].cores) == {0}
    assert len(set(recordings[1].cores)) == CLUSTER.cores


def test_a_job_without_a_core_goes_to_one_that_is_idle():
    _, recording = runs()["one long job"]
    assert recording.cores[:3] == [0, 1, 2]
    assert recording.cores.count(0) <= 2


def test_a_wrong_merge_is_seen():
    listed = partition_list("lean", [90])
    results, heads = run_list(listed, CORE.lanes)
    output = heads[0].output.copy()
    output[1, 2] ^= 1
    wrong = list_batch(CLUSTER, listed, "wrong", (results, [replace(heads[0], output=output), *heads[1:]]))
    with pytest.raises(SimulationError, match=re.escape("wrong: head 0: output row 1, element 2: expected")):
        simulate_lists(CLUSTER, [wrong])


def test_what_a_recording_lacks_or_swaps_is_seen():
    listed = partition_list("whole", [120, 9, 31])
    good, recording = runs()["whole, list 0, stall 0.0"]
    assert check(good, recording, CLUSTER) == []
    assert recording.cores == [entry.core for entry in listed]
    other = (recording.cores[1] + 1) % CLUSTER.cores
    moved = replace(recording, cores=[recording.cores[0], other, *recording.cores[2:]])
    named = f"job 1: it names core {recording.cores[1]} and was given to core {other}"
    assert check(good, moved, CLUSTER) == [named]
    assert check(good, replace(recording, packets=recording.packets[1:]), CLUSTER) == [
        f"{len(listed)} heads gave {len(listed) - 1} output packets"
    ]
    swapped = [recording.packets[1], recording.packets[0], *recording.packets[2:]]
    assert [line[:22] for line in check(good, replace(recording, packets=swapped), CLUSTER)] == [
        "head 0: o carries tags",
        "head 1: o carries tags",
    ]


def options_of_cluster() -> list[str]:
    """Return the options by which commands take `CLUSTER`."""
    values = {**CLUSTER.to_dict(), **CORE.to_dict()}
    del values["core"]
    return [text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def test_the_command_prints_what_a_batch_takes_and_the_model_says_the_same(tmp_path, capsys):
    output = tmp_path / "cluster.json"
    batch_options = ["--lengths", "300", "20", "--tile", "8", "--group", "2", "--head-dim", "12", "--tau", "5"]
    assert sim_main(["cluster", *options_of_cluster(), *batch_options, "--json", str(output)]) == 0
    printed = capsys.readouterr().out.splitlines()
    content = json.loads(output.read_text())
    assert printed[0] == (
        "2 requests of 20 to 300 keys, 2 heads, 320 keys; rows 2, d = 12, tau 5; 3 cores of 2 x 4: "
        "equal to golden, bit for bit"
    )
    assert content["config"] == CLUSTER.to_dict()
    assert (content["batch"]["lengths"], content["batch"]["tau"], content["stall"]) == ([300, 20], 5.0, 0.0)
    for line, (rule, found) in zip(printed[3:], content["rules"].items(), strict=True):
        each = ", ".join(f"{worked / found['cycles']:.1%}" for worked in found["worked"])
        assert line == f"| {rule} | {found['cycles']} | {found['busy']:.1%} | {each} | {found['merges']} |"
    assert content["rules"]["lean"]["cycles"] < content["rules"]["whole"]["cycles"]

    assert perf_main(["cluster", "--measured", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == printed[0].removesuffix(" equal to golden, bit for bit")
    for line, (rule, found) in zip(lines[3:], content["rules"].items(), strict=True):
        assert line == f"| {rule} | {found['cycles']} | {found['cycles']} | +0 | {found['busy']:.1%} |"

    output.write_text(json.dumps(content | {"stall": 0.5}))
    assert perf_main(["cluster", "--measured", str(output)]) == 2
    assert "the ports of cluster.json were stalled, which the model does not follow" in capsys.readouterr().err
    del content["rules"]["lean"]
    output.write_text(json.dumps(content))
    assert perf_main(["cluster", "--measured", str(output)]) == 2
    assert "lean" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cores", "0"], "cores must be an integer from 1 to 64, not 0"),
        (["--head-dim", "999"], "head_dim is 999; this configuration holds at most 64"),
        (["--group", "5"], "rows is 5; this configuration holds at most 4"),
        (["--min", "9", "--max", "5"], "lengths must rise from a shortest of at least 1, not from 9 to 5"),
        (["--tau", "0.5"], "tau"),
    ],
)
@pytest.mark.parametrize("main", [sim_main, perf_main], ids=["sim", "perf_model"])
def test_impossible_batches_are_one_sentence(main, arguments: list[str], sentence: str, capsys):
    assert main(["cluster", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
