"""Sweeps: what their files hold, and that neither an interruption nor who does the work changes a byte of it."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import perf_model.dask_cluster
import perf_model.sweep
import perf_model.sweep_folder
from golden.errors import InputError
from perf_model.__main__ import main
from perf_model.dask_cluster import on_cluster
from perf_model.estimate import estimate
from perf_model.grid import Grid
from perf_model.hardware import load_hardware
from perf_model.sweep import CHUNK, FIGURES, columns, evaluate, run_sweep
from perf_model.sweep_folder import MANIFEST, PART, POINTS, SweepFolder, load_sweep, new_manifest
from perf_model.workload import load_workload

ROOT = Path(__file__).resolve().parent.parent

AXES = {
    "hardware": ["tiny"],
    "workload": ["bert-base"],
    "rows": [2, 4, 8],
    "lanes": [4, 8, 128],
    "length": [8, 20],
    "survival": [1.0, 0.5, 0.25],
    "clock_mhz": [100.0, 200.0, 300.0],
}
"""162 points: more than two chunks, a third of them not possible."""


@pytest.fixture
def grid() -> Grid:
    return Grid(AXES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the file of all points, made in one go by one process."""
    folder = tmp_path_factory.mktemp("whole")
    run_sweep(Grid(AXES), folder)
    return (folder / POINTS).read_bytes()


def test_a_row_is_the_estimate_of_its_point(grid: Grid, tmp_path: Path):
    run_sweep(grid, tmp_path)
    with (tmp_path / POINTS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == grid.points == 162
    assert list(rows[0]) == columns(grid)
    for number, row in enumerate(rows):
        values = grid.values(number)
        assert [row[name] for name in AXES] == [f"{v:g}" if isinstance(v, float) else str(v) for v in values.values()]
        if values["lanes"] == 128:
            assert row["problem"] == "lanes must be a power of two from 4 to 64, not 128"
            assert not any(row[name] for name in FIGURES)
    row = rows[-54 - 1]
    assert (row["rows"], row["lanes"], row["clock_mhz"]) == ("4", "128", "300")
    row = next(row for row in rows if (row["rows"], row["lanes"], row["survival"]) == ("8", "8", "0.25"))
    hardware = load_hardware("tiny", clock_mhz=100.0)
    core = hardware.core.override(rows=8, lanes=8)
    expected = estimate(
        load_workload("bert-base", length=8), type(hardware)(core, "tiny", 100.0), survival=0.25, follow=False
    )
    assert row["problem"] == ""
    assert row["cycles_by"] == "closed form"
    assert int(row["cycles"]) == expected.cycles.total
    assert float(row["seconds"]) == pytest.approx(expected.seconds, rel=1e-8)
    assert int(row["dram_bytes"]) == expected.traffic.dram
    assert int(row["v_bytes"]) == expected.traffic.ports["v"]
    assert float(row["energy_pj"]) == pytest.approx(expected.energy.total, rel=1e-8)
    assert float(row["memory_pj"]) == pytest.approx(expected.energy.memory, rel=1e-8)


def test_exact_cycles_are_followed_where_asked_for_or_with_a_memory(tmp_path: Path):
    axes = {"hardware": ["default"], "workload": ["bert-base"], "length": [40], "bandwidth": [None, 12.0]}
    workload = load_workload("bert-base", length=40)
    free, limited = (estimate(workload, load_hardware("default", bandwidth=width)) for width in (None, 12.0))
    for exact, by in ((False, ["closed form", "exact"]), (True, ["exact", "exact"])):
        run_sweep(Grid(axes), tmp_path / str(exact), exact=exact)
        points = load_sweep(tmp_path / str(exact)).points
        assert [point["cycles_by"] for point in points] == by
        assert int(points[1]["cycles"]) == limited.cycles.total
    assert int(points[0]["cycles"]) == free.cycles.total


def test_the_manifest_says_what_was_swept_by_what(grid: Grid, tmp_path: Path):
    run_sweep(grid, tmp_path, arguments={"jobs": 1})
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["complete"] is True
    assert (manifest["points"], manifest["impossible"]) == (162, 54)
    assert manifest["grid"]["axes"] == AXES
    assert manifest["grid"]["workload"]["bert-base"]["heads"] == 12
    assert manifest["grid"]["hardware"]["tiny"]["core"]["rows"] == 4
    assert manifest["columns"] == columns(grid)
    assert {"python", "numpy", "lean-attention"} <= set(manifest["versions"])
    assert manifest["arguments"] == {"jobs": 1}
    assert len(manifest["grid_hash"]) == len(manifest["model_hash"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([MANIFEST, POINTS])


def lives(process: str) -> bool:
    """Return whether a process runs; one that waits to be asked for its exit code does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def long(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], int, bytes]:
    """Return the options of a longer sweep, its points, and its file, made in one go by one process."""
    clocks = pytestconfig.getoption("sweep_points") // 80
    options = ["sweep", "--hardware", "tiny", "--vary", "length", *map(str, range(20, 40))]
    options += ["--vary", "clock_mhz", *map(str, range(100, 100 + clocks)), "--vary", "lanes", "4", "8", "16", "128"]
    folder = tmp_path_factory.mktemp("long")
    assert main([*options, "-o", str(folder)]) == 0
    return options, 80 * clocks, (folder / POINTS).read_bytes()


def test_a_sweep_killed_halfway_goes_on_and_ends_with_the_same_file(
    long: tuple[list[str], int, bytes], tmp_path: Path, figure
):
    """With SIGKILL, which no process can answer; then without a byte of the last line, as if cut off while written.

    Its processes end too.
    """
    options, points, whole = long
    command = [sys.executable, "-m", "perf_model", *options, "-o", str(tmp_path)]
    part = tmp_path / PART
    process = subprocess.Popen([*command, "--jobs", "2"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not part.exists() or part.read_bytes().count(b"\n") < points // 2:
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while any(map(lives, workers)):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.1)
    assert len(workers) >= 2
    content = part.read_bytes()
    kept = content.count(b"\n") - 1
    assert points // 2 - 1 <= kept < points - CHUNK, "it was killed somewhere in the middle"
    assert not (tmp_path / POINTS).exists()
    part.write_bytes(content[:-1])

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{points:,} points, {points // 4:,} of them not possible" in ran.stdout
    assert f"{kept}/{points}" in ran.stderr, "the bar begins at what was kept"
    assert (tmp_path / POINTS).read_bytes() == whole
    assert not part.exists()
    figure(f"a sweep of {points:,} points, killed after {kept:,}, went on and ended with the same file")


def test_a_sweep_that_goes_on_evaluates_only_what_is_not_there(grid: Grid, whole: bytes, tmp_path: Path, monkeypatch):
    evaluated: list[int] = []

    def counted(grid: Grid, places: list[int], *rest: object) -> dict[int, bytes]:
        evaluated.extend(places)
        return evaluate(grid, places, *rest)

    def interrupted(tasks, jobs):
        yield from (counted(*task) for task in islice(tasks, 1))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(perf_model.sweep, "on_this_machine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(grid, tmp_path)
    assert evaluated == list(range(CHUNK))
    monkeypatch.setattr(perf_model.sweep, "evaluate", counted)
    for _ in range(2):
        run_sweep(grid, tmp_path)
        assert evaluated == list(range(162)), "and once it is complete, nothing"
    assert (tmp_path / POINTS).read_bytes() == whole


def test_lines_cut_off_by_two_interruptions_leave_no_trace(grid: Grid, whole: bytes, tmp_path: Path, monkeypatch):
    """What comes after a cut line is a line of its own, or the third run would read the two as one."""

    def interrupted(tasks, jobs):
        yield evaluate(*next(iter(tasks)))
        raise KeyboardInterrupt

    part = tmp_path / PART
    for runs in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(perf_model.sweep, "on_this_machine", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_sweep(grid, tmp_path)
        assert part.read_bytes().count(b"\n") == CHUNK * runs - (runs - 1)
        part.write_bytes(part.read_bytes()[:-9])
    run_sweep(grid, tmp_path)
    assert (tmp_path / POINTS).read_bytes() == whole


@pytest.mark.parametrize("left", [[MANIFEST, POINTS, PART], [MANIFEST, PART]])
def test_an_end_that_was_cut_off_is_done_again(grid: Grid, whole: bytes, tmp_path: Path, left: list[str]):
    """Killed between the steps of the end: all files are there, or the manifest is complete and points are not."""
    run_sweep(grid, tmp_path)
    lines = (tmp_path / POINTS).read_bytes().splitlines()[1:]
    (tmp_path / PART).write_bytes(b"".join(b"%d,%b\n" % pair for pair in enumerate(lines)))
    if POINTS not in left:
        (tmp_path / POINTS).unlink()
    run_sweep(grid, tmp_path)
    assert (tmp_path / POINTS).read_bytes() == whole
    assert not (tmp_path / PART).exists()


def test_more_processes_give_the_same_file(grid: Grid, whole: bytes, tmp_path: Path):
    run_sweep(grid, tmp_path, jobs=2)
    assert (tmp_path / POINTS).read_bytes() == whole


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Return the address of a Dask scheduler with two workers, three processes as a user starts them."""
    pytest.importorskip("distributed", reason="Dask is an extra: pip install 'lean-attention[dask]'")
    file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [["dask_scheduler", "--host", "127.0.0.1", "--port", "0"], *[["dask_worker", "--nthreads", "1"]] * 2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command}", *more, *options], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        for command, *more in commands
    ]
    try:
        deadline = time.monotonic() + 120
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(60)


def test_a_dask_cluster_gives_the_same_file(long: tuple[list[str], int, bytes], cluster: str, tmp_path: Path, figure):
    import distributed

    options, points, whole = long
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)
        assert main([*options, "--scheduler", cluster, "-o", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / POINTS).read_bytes() == whole
        done = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(done) == 2
    assert all(done.values()), "both workers worked"
    figure(f"a sweep of {points:,} points on two Dask workers ended with the same file as on one process")


def test_a_cluster_that_can_t_do_the_work_is_named(tmp_path: Path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is an extra: pip install 'lean-attention[dask]'")
    monkeypatch.setattr(perf_model.dask_cluster, "WORKER_SECONDS", 0.5)

    def refused(address: str, function=evaluate, *task: object) -> str:
        with pytest.raises(InputError) as caught:
            list(on_cluster(function, [task], address))
        return str(caught.value)

    assert (
        refused("here")
        == "a scheduler's address is like tcp://host:8786, not 'here': missing port number in address 'here'"
    )
    assert refused("tcp://127.0.0.1:1") == "no Dask scheduler answers at tcp://127.0.0.1:1"
    local = distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None
    )
    with local as cluster, distributed.Client(cluster) as client:
        address = cluster.scheduler_address
        assert refused(address) == f"the Dask scheduler at {address} has no workers"
        cluster.scale(1)
        client.wait_for_workers(1)
        gone = f"the workers at {address} are gone; they and the scheduler need this version of lean-attention"
        assert refused(address, __import__, "perf_model_of_old") == gone
        assert refused(address, evaluate, Grid(AXES), [0], False, "?").startswith("a worker has another version")
        with pytest.raises(RuntimeError, match="cannot set the recursion limit"):
            list(on_cluster(sys.setrecursionlimit, [[1]], address))
        results = on_cluster(abs, [[n] for n in range(40)], address)
        assert next(results) in range(40)
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        with pytest.raises(InputError, match=f"^{gone}$"):
            list(results)


def test_without_dask_a_sentence_says_how_to_get_it(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sweep", "-o", str(tmp_path), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.endswith("pip install 'lean-attention[dask]'\n")


def test_another_grid_in_the_folder_is_refused(tmp_path: Path, capsys):
    def sweep(*options: str) -> tuple[int, str]:
        code = main(["sweep", "--hardware", "tiny", "-o", str(tmp_path), *options])
        return code, capsys.readouterr().err.splitlines()[-1]

    assert sweep("--vary", "length", "8", "16")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    held = f"error: {tmp_path} holds a sweep of another grid"
    assert sweep("--vary", "length", "8", "32") == (
        2,
        f"{held}: its length is [8, 16], not [8, 32]; choose another folder",
    )
    assert sweep("--vary", "batch", "2") == (2, f"{held}: its batch is None, not [2]; choose another folder")
    assert sweep("--vary", "length", "8", "16", "--exact") == (2, f"{held}; choose another folder")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_changed_file_of_the_same_name_is_another_grid(tmp_path: Path):
    hardware = tmp_path / "h.yaml"
    hardware.write_text("preset: tiny\n")
    axes = AXES | {"hardware": [str(hardware)]}
    run_sweep(Grid(axes), tmp_path / "out")
    hardware.write_text("preset: tiny\noutput_lanes: 2\n")
    with pytest.raises(InputError, match="holds a sweep of another grid; choose another folder"):
        run_sweep(Grid(axes), tmp_path / "out")


def test_rows_of_two_models_are_not_mixed(grid: Grid, tmp_path: Path, monkeypatch):
    run_sweep(grid, tmp_path)
    monkeypatch.setattr(perf_model.sweep_folder, "model_hash", lambda: "another")
    with pytest.raises(InputError, match="holds a sweep by another version of the model; choose another folder"):
        run_sweep(grid, tmp_path)


def test_a_folder_in_use_is_refused(grid: Grid, tmp_path: Path):
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another sweep is writing to"):
        run_sweep(grid, tmp_path)
    os.close(lock)
    run_sweep(grid, tmp_path)


def test_files_of_others_are_not_touched(grid: Grid, whole: bytes, tmp_path: Path):
    (tmp_path / POINTS).write_text("mine")
    with pytest.raises(InputError, match=r"has a points.csv but no manifest.json; choose another folder"):
        run_sweep(grid, tmp_path)
    assert (tmp_path / POINTS).read_text() == "mine"


def test_a_sweep_that_did_nothing_gives_its_folder_to_another(grid: Grid, whole: bytes, tmp_path: Path):
    with SweepFolder(tmp_path, new_manifest(Grid(AXES | {"rows": [1]}), False, columns(grid), {})):
        pass
    run_sweep(grid, tmp_path)
    assert (tmp_path / POINTS).read_bytes() == whole


def test_an_interrupted_sweep_says_so_and_is_no_result(tmp_path: Path, capsys, monkeypatch):
    def interrupted(*_: object):
        yield {0: b"x"}
        raise KeyboardInterrupt

    monkeypatch.setattr(perf_model.sweep, "on_this_machine", interrupted)
    assert main(["sweep", "--vary", "length", "8", "16", "-o", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command goes on with what is done\n")
    with pytest.raises(InputError, match="is not finished"):
        load_sweep(tmp_path)


def test_the_command_reads_a_grid_and_tells_reasons(tmp_path: Path, capsys):
    (tmp_path / "grid.yaml").write_text("lanes: [8, 12, 16]\nlength: [100000, 16]\n")
    options = ["--grid", str(tmp_path / "grid.yaml"), "--vary", "survival", "1", "0.5", "--vary", "technology", "7 nm"]
    assert main(["sweep", *options, "-o", str(tmp_path / "out")]) == 0
    text, bar = capsys.readouterr()
    assert text.splitlines() == [
        f"{tmp_path / 'out' / POINTS}: 12 points, 8 of them not possible",
        "         4  length of workload 'BERT-base' is 100000; this core holds at most 65536",
        "         4  lanes must be a power of two from 4 to 64, not 12",
    ]
    assert "12/12" in bar
    assert list(load_sweep(tmp_path / "out").axes) == [
        "hardware",
        "workload",
        "survival",
        "technology",
        "lanes",
        "length",
    ]


def test_a_grid_of_which_nothing_is_possible_exits_with_2(tmp_path: Path, capsys):
    assert main(["sweep", "--vary", "lanes", "7", "12", "--vary", "length", "8", "-o", str(tmp_path)]) == 2
    text, error = capsys.readouterr()
    assert "2 points, 2 of them not possible" in text
    last = error.splitlines()[-1]
    assert last == "error: no point of the grid is possible: lanes must be a power of two from 4 to 64, not 7"
    assert (tmp_path / POINTS).read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grid", "{folder}/none.yaml"], "none.yaml can't be read: No such file"),
        (["--grid", "{folder}/bad.yaml"], "bad.yaml is not valid YAML in line 2"),
        (["--grid", "{folder}/list.yaml"], "list.yaml must hold a mapping"),
        (["--grid", "{folder}/axis.yaml"], "axis.yaml has an unknown axis 'wings'"),
        (["--grid", "{folder}/good.yaml", "--vary", "rows", "4"], "good.yaml gives the axis rows once more"),
        (["--hardware", "tiny", "--vary", "hardware", "small"], "--vary gives the axis hardware once more"),
        (["--vary", "rows"], "--vary rows needs values after the name of the axis"),
        (["--vary", "rows", "four"], "rows in --vary must be a whole number, not 'four'"),
        (["--vary", "wings", "2"], "--vary has an unknown axis 'wings'"),
        (["--hardware", "huge"], "there is no hardware 'huge'"),
        (["--workload", "bart"], "there is no workload 'bart'"),
        (["--jobs", "1025"], "jobs must be from 1 to 1024, not 1025"),
        (["-o", "{folder}/good.yaml/out"], "can't be written: Not a directory"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys, options: list[str], message: str):
    for name, text in (
        ("bad", "rows: [4]\nlanes: ]\n"),
        ("list", "- rows"),
        ("axis", "wings: [2]"),
        ("good", "rows: [4]"),
    ):
        (tmp_path / f"{name}.yaml").write_text(text)
    arguments = ["sweep", "-o", str(tmp_path / "out"), *options]
    assert main([argument.format(folder=tmp_path) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
