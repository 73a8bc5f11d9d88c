"""Plots: what is drawn, and that it is written."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from golden.config import PRESETS
from golden.errors import InputError
from golden.memory import Memory
from golden.partition import RULES, batch
from perf_model.cycles import JobShape
from perf_model.energy import PARTS
from perf_model.estimate import estimate
from perf_model.exact import JobList, core_cycles
from perf_model.hardware import Hardware
from perf_model.measured import Summary, load_summary
from perf_model.plots import PLOTS, write_plots
from perf_model.plots.accuracy import accuracy
from perf_model.plots.energy import energy_by_length, energy_by_threshold
from perf_model.plots.gantt import gantt, timetable
from perf_model.plots.roofline import roofline
from perf_model.plots.series import all_series
from perf_model.plots.style import save
from perf_model.plots.throughput import throughput
from perf_model.plots.traffic import traffic
from perf_model.plots.utilisation import utilisation
from perf_model.workload import Workload

CORE = PRESETS["default"]
PREFILL = {"input": "some.npz", "heads": 2, "kv_heads": 2, "queries": 64, "keys": 64, "head_dim": 32, "value_dim": 32}
DECODE = PREFILL | {"input": "other.npz", "kv_heads": 1, "queries": 1, "keys": 256}
SLOW = {"memory": {"bandwidth": 8, "latency": 40, "outstanding": 32, "buffer": 16}}
BYTES = {"q": 4096, "state": 0, "k": 16384, "v_req": 2048, "v": 16384, "o": 8192}


def run(tau: float | None, survivors: float, cycles: int, **more) -> dict:
    """Return a run as `python -m sim sweep` writes it."""
    figures = {"tau": tau, "survivors": survivors, "snr_db": 20.0 + 30 * survivors, "cycles": cycles, "jobs": 8}
    moved = {port: count // (1 if port != "v" else 1 + (survivors < 1)) for port, count in BYTES.items()}
    return figures | {"macs": 250 * cycles, "bytes": moved} | more


CONTENT = {
    "config": CORE.to_dict(),
    **PREFILL,
    "causal": False,
    "window": None,
    "points": [run(None, 1.0, 2200), run(4.0, 0.25, 1500), run(8, 0.75, 2000)],
    "runs": [
        run(6.0, 0.5, 1800),
        run(None, 1.0, 700, **PREFILL | {"queries": 32, "keys": 32}),
        run(6.0, 0.9, 650, **PREFILL | {"queries": 32, "keys": 32}),
        run(None, 1.0, 600, **DECODE, macs=15000),
        run(6.0, 0.4, 400, **DECODE, macs=9000),
        run(None, 1.0, 5000, **SLOW),
        run(6.0, 0.5, 4000, **SLOW),
        run(None, 1.0, 2400, **DECODE, **SLOW),
        run(6.0, 0.4, 1600, **DECODE, **SLOW),
    ],
}


def summary_of(folder: Path, content: dict) -> Summary:
    path = folder / "summary.json"
    path.write_text(json.dumps(content))
    return load_summary(path)


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summary_of(tmp_path, CONTENT)


def workload(length: int, phase: str = "prefill") -> Workload:
    kv_heads = 2 if phase == "prefill" else 1
    return Workload("w", heads=2, kv_heads=kv_heads, head_dim=32, layers=1, length=length, phase=phase)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def title_of(figure: Figure) -> str:
    return figure.texts[0].get_text()


def lines(axes: Axes) -> dict[tuple[str, str], dict[float, float]]:
    """Return the lines of a panel by label and colour, each as heights by place."""
    return {
        (str(line.get_label()), str(line.get_color())): dict(zip(*map(np.ndarray.tolist, line.get_data()), strict=True))
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def by_label(axes: Axes, label: str) -> list[dict[float, float]]:
    return [data for (name, _), data in lines(axes).items() if name.startswith(label)]


def assert_titles_fit(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.x1, text.get_text()


def test_a_summary_is_its_runs(summary: Summary):
    assert summary.core == CORE
    assert [point.tau for point in summary.points] == [None, 4.0, 8.0]
    decode = summary.runs[-1]
    assert (decode.input, decode.phase, decode.kv_heads, decode.tau) == ("other.npz", "decode", 1, 6.0)
    assert decode.memory == Memory(bandwidth=8, latency=40, outstanding=32)
    assert decode.workload == replace(workload(256, "decode"), name="other", value_dim=32)
    assert summary.thresholds("prefill") == [None, 6.0]
    assert [one.cycles for one in summary.select("prefill", None)] == [700, 2200]
    assert [one.cycles for one in summary.select("prefill", None, never_stalled=False)] == [5000]


def test_a_run_without_error_and_an_unlimited_memory_are_read(tmp_path: Path):
    content = json.loads(json.dumps(CONTENT))
    content["points"][0]["snr_db"] = None
    content["runs"][-1]["memory"]["bandwidth"] = None
    summary = summary_of(tmp_path, content)
    assert summary.points[0].snr_db == math.inf
    assert summary.runs[-1].memory == Memory(latency=40, outstanding=32)
    assert accuracy([summary]).axes[0].lines[0].get_ydata().tolist() == [27.5, 42.5, math.inf]
    assert roofline([summary]).axes


def test_series_interpolate_survivors_between_runs(summary: Summary):
    _, series = all_series(summary)["prefill"]
    assert series.survival(64) == 0.5
    assert series.survival(16) == 0.9
    assert series.survival(4096) == 0.5
    assert series.survival(45) == pytest.approx(0.9 - 0.4 * math.log2(45 / 32))


def test_throughput_draws_lines_of_the_model_and_marks_of_the_rtl(summary: Summary):
    figure = throughput([summary])
    prefill, decode = figure.axes
    assert "prefill of 64 tokens 1.22 x and decode of 256 tokens 1.50 x" in title_of(figure)
    assert "tokens" in prefill.get_xlabel()
    assert "MACs a cycle" in prefill.get_ylabel()
    for axes, phase, length, rates in ((prefill, "prefill", 64, (1.0, 0.5)), (decode, "decode", 256, (1.0, 0.4))):
        modelled = by_label(axes, "model: ")
        assert len(modelled) == 2
        for line, rate in zip(modelled, rates, strict=True):
            assert len(line) > 15
            assert line[length] == estimate(workload(length, phase), Hardware(CORE), rate).effective_macs_per_cycle
    assert len(by_label(prefill, "model: tau 6 (at 64: 50% survive, 35 dB)")) == 1
    assert by_label(prefill, "simulated RTL") == [
        pytest.approx({32: 2 * 32 * 32 * 64 / 700, 64: 2 * 64 * 64 * 64 / 2200}),
        pytest.approx({32: 2 * 32 * 32 * 64 / 650, 64: 2 * 64 * 64 * 64 / 1800}),
    ]
    assert by_label(decode, "simulated RTL") == [{256: 2 * 256 * 64 / 600}, {256: 2 * 256 * 64 / 400}]
    assert texts(prefill) == ["256 multipliers"]
    assert texts(decode) == ["32 multipliers of the 2 rows in use"]


def test_utilisation_has_both_models_and_the_rtl(summary: Summary):
    figure = utilisation([summary])
    prefill, decode = figure.axes
    assert f"{250 / 256:.1%} in prefill of 64 tokens, {25 / 32:.1%} in decode of 256 tokens" in title_of(figure)
    for axes, phase, length, rate, multipliers in (
        (prefill, "prefill", 64, 0.5, 256),
        (decode, "decode", 256, 0.4, 32),
    ):
        for label, follow in (("exact model", True), ("closed form", False)):
            _, line = by_label(axes, label)
            wanted = estimate(workload(length, phase), Hardware(CORE), rate, follow)
            assert wanted.exact == follow
            assert line[length] == pytest.approx(100 * wanted.macs / wanted.cycles.total / multipliers)
        assert max(by_label(axes, "closed form")[0]) == 8192
        assert max(by_label(axes, "exact model")[0]) <= 1024
    peers = [
        (*line.get_xydata()[0].tolist(), line.get_markerfacecolor() == "white")
        for line in prefill.lines
        if line.get_marker() == "D"
    ]
    assert pytest.approx((512, 100 * 33554432 / 32769 / 1024, False)) in peers
    assert pytest.approx((16384, 98.56, True)) in peers
    assert {"ITA", "FuseMax", "FLAT", "404mario"} <= set(texts(prefill))
    assert not texts(decode)
    # The closed form takes survivors as evenly spread, which short jobs show.
    exact, closed = (by_label(prefill, label)[1] for label in ("exact model", "closed form"))
    assert exact != {length: closed[length] for length in exact}
    assert by_label(prefill, "simulated RTL") == [pytest.approx({32: 25000 / 256, 64: 25000 / 256})] * 2
    assert by_label(decode, "simulated RTL") == [pytest.approx({256: 100 * macs / 32}) for macs in (25, 22.5)]


def test_traffic_is_over_the_compulsory_least(summary: Summary):
    figure = traffic([summary])
    prefill, decode = figure.axes
    least = 2 * 64 * (32 + 2 * 32 + 32 + 32), 2 * (32 + 2 * 32) + 256 * (32 + 32)
    dense, dropped = sum(BYTES.values()), sum(BYTES.values()) - BYTES["v"] // 2
    measured = by_label(prefill, "simulated RTL")
    assert [line[64] for line in measured] == [pytest.approx(moved / least[0]) for moved in (dense, dropped)]
    assert by_label(decode, "simulated RTL") == [pytest.approx({256: moved / least[1]}) for moved in (dense, dropped)]
    assert f"decode moves {dropped / least[1]:.2f} x" in title_of(figure)

    # K and V fit in the scratchpad, so the DRAM moves the least; unfused, each score and probability twice, in 2 bytes.
    (dram,) = by_label(prefill, "DRAM, 128 KiB")
    assert dram[64] == 1
    (unfused,) = by_label(prefill, "DRAM, unfused")
    assert unfused[64] == pytest.approx(1 + 4 * 2 * 2 * 64 * 64 / least[0])
    for axes, phase, length, rates in ((prefill, "prefill", 64, (1.0, 0.5)), (decode, "decode", 256, (1.0, 0.4))):
        for line, rate in zip(by_label(axes, "core's ports"), rates, strict=True):
            modelled = estimate(workload(length, phase), Hardware(CORE), rate).traffic
            assert line[length] == pytest.approx(sum(modelled.ports.values()) / modelled.compulsory)


def test_roofline_has_measured_points_under_their_roofs(summary: Summary):
    figure = roofline([summary])
    (axes,) = figure.axes
    assert f"lifts decode along the memory's roof, to {2400 / 1600:.2f} x" in title_of(figure)
    marks = {(line.get_marker(), line.get_markerfacecolor() == "white"): [] for line in axes.lines}
    for line in axes.lines:
        if line.get_marker() != "None":
            ((x,), (y,)) = line.get_data()
            marks[line.get_marker(), line.get_markerfacecolor() == "white"].append((x, y))
    # Requests do not pass the memory's channel.
    dense, dropped = (sum(BYTES.values()) - BYTES["v_req"] - saved for saved in (0, BYTES["v"] // 2))
    for key, macs, cycles in (
        (("o", False), 2 * 64 * 64 * 64, (2200, 1800)),
        (("o", True), 2 * 64 * 64 * 64, (5000, 4000)),
        (("s", False), 2 * 256 * 64, (600, 400)),
        (("s", True), 2 * 256 * 64, (2400, 1600)),
    ):
        wanted = [(macs / moved, macs / count) for moved, count in zip((dense, dropped), cycles, strict=True)]
        assert marks[key] == [pytest.approx(point) for point in wanted]
    (memory,) = (
        line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] != line.get_ydata()[1]
    )
    assert memory.get_ydata() == pytest.approx(8 * np.asarray(memory.get_xdata()))
    assert memory.get_ydata()[1] == 256
    flat = {
        line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2
    }
    assert flat == {256, 32}
    (arrow,) = (text for text in axes.texts if isinstance(text, Annotation) and text.arrow_patch)
    traffic = estimate(workload(64), Hardware(CORE)).traffic
    assert arrow.xy == pytest.approx((2 * 64 * 64 * 64 / traffic.dram, 2 * 64 * 64 * 64 / 2200))
    for text in ("memory: 8 bytes a cycle", "array: 256 multipliers", "array: 32 multipliers of the 2 rows in use"):
        assert text in texts(axes)


def test_accuracy_is_over_cycles_with_thresholds_named(summary: Summary):
    figure = accuracy([summary])
    (axes,) = figure.axes
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [[1.5, 27.5], [2.0, 42.5], [2.2, 50.0]]
    assert texts(axes) == ["4", "8", "all"]
    # 40 dB are 5/6 of the way from 27.5 dB, 1500 cycles, to 42.5 dB, 2000 cycles.
    assert title_of(figure).endswith(f"saves 16 rows {1 - (1500 + 500 * 5 / 6) / 2200:.0%} of the cycles")
    assert "dB" in axes.get_ylabel()
    assert "cycles" in axes.get_xlabel()


def test_accuracy_compares_cores_on_the_same_input(summary: Summary):
    few = replace(summary, core=CORE.override(rows=4, lanes=64))
    few = replace(few, points=tuple(replace(point, cycles=point.cycles // 2) for point in summary.points))
    other = replace(summary, points=tuple(replace(point, input="third.npz") for point in summary.points))
    figure = accuracy([summary, few, other])
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["core of 16 x 16 multipliers", "core of 4 x 64 multipliers"]
    assert axes.lines[1].get_xdata().tolist() == [0.75, 1.0, 1.1]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert title_of(figure).endswith("saves 16 rows 13%, 4 rows 13% of the cycles")
    assert_titles_fit(figure)


def test_energy_stacks_the_parts_for_each_threshold(summary: Summary):
    figure = energy_by_threshold([summary])
    core, whole = figure.axes
    assert "µJ" in core.get_ylabel()
    assert "µJ" in whole.get_ylabel()
    assert {text.get_text() for text in whole.get_legend().get_texts()} == {*PARTS.values(), "all, by other sources"}
    spreads = [estimate(workload(64), Hardware(CORE), rate).energies for rate in (1.0, 0.75, 0.25)]
    energies = [spread.nominal for spread in spreads]
    for n, energy in enumerate(energies):
        drawn = sum(container[n].get_height() for container in whole.containers if isinstance(container, BarContainer))
        assert drawn == pytest.approx(energy.total * 1e-6)
        drawn = sum(container[n].get_height() for container in core.containers if isinstance(container, BarContainer))
        assert drawn == pytest.approx(energy.core * 1e-6)
    for axes, part in ((core, "core"), (whole, "total")):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [
            f"{label}\n{getattr(energy, part) * 1e-6:#.3g}"
            for label, energy in zip(("all\n100%", "8\n75%", "4\n25%"), energies, strict=True)
        ]
    for axes, part in ((core, "core"), (whole, "total")):
        (reach,) = axes.containers[-1].lines[2]
        wanted = [[getattr(end, part) * 1e-6 for end in (spread.least, spread.most)] for spread in spreads]
        assert [bar[:, 1].tolist() for bar in reach.get_segments()] == list(map(pytest.approx, wanted))
    saved = f"saves {1 - energies[-1].core / energies[0].core:.0%} of the core's energy"
    assert saved in title_of(figure)


def test_energy_by_length_has_a_line_a_part_and_a_total_a_threshold(summary: Summary):
    figure = energy_by_length([summary])
    prefill, decode = figure.axes
    assert "pJ" in prefill.get_ylabel()
    for axes, phase, length, rate in ((prefill, "prefill", 64, 0.5), (decode, "decode", 256, 0.4)):
        dense, dropped = (estimate(workload(length, phase), Hardware(CORE), share) for share in (1.0, rate))
        for part, name in PARTS.items():
            (line,) = by_label(axes, name)
            assert line[length] == pytest.approx(getattr(dense.energy, part) / dense.dense_macs)
        for label, modelled in (("all: nothing dropped", dense), ("all: tau 6", dropped)):
            (line,) = by_label(axes, label)
            assert line[length] == pytest.approx(modelled.energy.total / dense.dense_macs)
        (band,) = axes.collections
        ends = sorted(y for x, y in band.get_paths()[0].vertices if x == length)
        spread = (dense.energies.least.total, dense.energies.most.total)
        assert (ends[0], ends[-1]) == pytest.approx(tuple(end / dense.dense_macs for end in spread))
        (dram,), (total,) = by_label(axes, PARTS["dram"]), by_label(axes, "all: nothing dropped")
        assert f"{min(dram[n] / total[n] for n in total):.0%} of the energy of {phase}" in title_of(figure)


RAGGED = Workload("r", heads=6, kv_heads=2, head_dim=32, layers=1, length=(40, 500, 130), phase="decode")


@pytest.mark.parametrize("rule", RULES)
def test_a_timetable_follows_each_core_by_the_exact_model(rule: str):
    hardware = Hardware(CORE, cores=4, partition=rule)
    partition = RULES[rule](batch([40, 500, 130], 2), 4, 64)
    table = timetable(RAGGED, hardware)
    for jobs, worker in zip(table.cores, partition.workers, strict=True):
        assert [span for span, _, _ in jobs] == list(worker)
        assert [begin for _, begin, _ in jobs] == [0, *(end for _, _, end in jobs)][:-1]
        keys = np.array([span.keys for span in worker])
        split = np.array([span.keys < partition.keys[span.head] for span in worker], dtype=np.int64)
        shape = JobShape(rows=3, keys=keys, head_dim=32, value_dim=32, survivors=keys, emit_state=split)
        # A record counts from reset, and comes shortly after the last output.
        assert 0 <= jobs[-1][2] - core_cycles(CORE, JobList.of_shape(shape)).total < 10
    assert table.makespan == max(jobs[-1][2] for jobs in table.cores)
    assert table.busy == pytest.approx(np.mean([jobs[-1][2] for jobs in table.cores]) / table.makespan)
    assert (table.merging > 0) == (partition.merges > 0)
    assert 0 <= table.total - estimate(RAGGED, hardware).cycles.total < 10


def test_a_core_without_work_is_idle():
    lone = replace(RAGGED, heads=3, kv_heads=1, length=(64,))
    table = timetable(lone, Hardware(CORE, cores=2, partition="whole"))
    assert [len(jobs) for jobs in table.cores] == [1, 0]
    assert table.busy == 0.5


def test_gantt_draws_every_part_and_what_is_idle(summary: Summary):
    figure = gantt([summary])
    assert len(figure.axes) == 3
    lengths = (64, 900, 8192, 300, 2000)
    workload = replace(RAGGED, heads=8, head_dim=64, length=lengths)
    handles = figure.axes[-1].get_legend().get_patches()
    requests = {handle.get_facecolor(): n for n, handle in enumerate(handles)}
    assert [handle.get_label() for handle in handles] == [f"{length} keys" for length in lengths]
    totals = []
    for axes, (name, label) in zip(
        figure.axes, (("whole", "heads not split"), ("heuristic", "FlashAttention-2"), ("lean", "lean")), strict=True
    ):
        table = timetable(workload, Hardware(CORE, cores=16, partition=name))
        totals.append(table.total)
        wanted = {
            (core, begin / 1000, end / 1000, span.head.request)
            for core, jobs in enumerate(table.cores)
            for span, begin, end in jobs
        }
        drawn, idle, merging = set(), 0, []
        for bar in axes.patches:
            core, left, right = round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_x() + bar.get_width()
            if bar.get_hatch():
                merging.append((left, right))
            elif bar.get_facecolor() in requests:
                drawn.add((core, left, right, requests[bar.get_facecolor()]))
            else:
                idle += 1
                assert (left, right) == (0, pytest.approx(table.makespan / 1000))
        assert idle == 16
        assert sorted(drawn) == [pytest.approx(part) for part in sorted(wanted)]
        expected = [(table.makespan / 1000, table.total / 1000)] if name != "whole" else []
        assert merging == [pytest.approx(part) for part in expected]
        title = axes.get_title(loc="left")
        assert title.startswith(f"{label}")
        for text in (f"{table.total / 1000:.1f} thousand", f"{table.busy:.1%}", f"{table.partition.merges} merges"):
            assert text in title
    whole, splits, lean = totals
    assert f"{splits / lean:.2f} x as fast as FlashAttention-2's, {whole / lean:.1f} x" in title_of(figure)


def test_gantt_fits_a_small_core(summary: Summary):
    small = replace(summary, core=PRESETS["tiny"].override(rows=1, max_keys=1024, max_head_dim=16, max_value_dim=16))
    assert "1 queries each, d = 16" in gantt([small]).texts[1].get_text()


@pytest.mark.parametrize("name", PLOTS)
def test_titles_fit_and_axes_are_labelled(summary: Summary, name: str):
    figure = PLOTS[name]([summary])
    assert_titles_fit(figure)
    # The panels begin below the title.
    assert min(text.get_window_extent().y0 for text in figure.texts) > max(a.get_tightbbox().y1 for a in figure.axes)
    assert figure.axes[-1].get_xlabel()
    assert figure.axes[0].get_ylabel()


def test_plots_are_written_as_pictures(summary: Summary, tmp_path: Path):
    written = write_plots([summary], tmp_path / "new" / "plots")
    assert {path.name for path in written} == {f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")}
    for path in written:
        content = path.read_bytes()
        assert len(content) > 10_000
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_the_same_data_gives_the_same_file(summary: Summary, tmp_path: Path):
    first, second = (save(roofline([summary]), tmp_path / name, "roofline") for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(
    "change",
    [
        {"points": CONTENT["points"][:1], "runs": []},
        {"points": CONTENT["points"][1:2], "runs": []},
        {"runs": CONTENT["runs"][3:4]},
        {"causal": True},
        {"window": 8, "causal": True},
        DECODE | {"points": [run(None, 1.0, 700)], "runs": []},
    ],
)
def test_few_points_are_enough(tmp_path: Path, change: dict):
    summary = summary_of(tmp_path, CONTENT | change)
    for draw in PLOTS.values():
        assert draw([summary]).axes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("config"), "summary.json lacks the key 'config'"),
        (lambda content: content["config"].update(wings=2), "config in summary.json has an unknown key 'wings'"),
        (lambda content: content["config"].update(rows="two"), "rows in config in summary.json must be a whole number"),
        (lambda content: content["config"].update(rows=0), "rows must be from 1 to 64"),
        (lambda content: content.update(points=[]), "summary.json has no points"),
        (lambda content: content.update(points=3), "points in summary.json must be a list"),
        (lambda content: content["points"][1].pop("cycles"), r"points\[1\] in summary.json lacks the key 'cycles'"),
        (lambda content: content["points"][1].update(survivors=2), r"survivors in points\[1\] .* at most 1, not 2"),
        (lambda content: content["points"][1].update(tau="low"), r"tau in points\[1\] .* must be a number"),
        (lambda content: content["points"].append(7), r"points\[3\] in summary.json must be an object"),
        (lambda content: content["runs"][1].update(keys=0), r"keys in runs\[1\] .* at least 1"),
        (lambda content: content.pop("runs"), "summary.json lacks the key 'runs'"),
        (lambda content: content.update(heads=0), r"heads in points\[0\] in summary.json must be at least 1"),
        (lambda content: content.update(causal="no"), r"causal in points\[0\] in summary.json must be true or false"),
        (lambda content: content.update(queries=3), "measured 3 queries and 64 keys; plots need as many queries"),
        (lambda content: content["runs"][1].pop("bytes"), r"runs\[1\] in summary.json lacks the key 'bytes'"),
        (lambda content: content["runs"][1]["bytes"].pop("o"), r"bytes of runs\[1\] .* lacks the key 'o'"),
        (lambda content: content["runs"][-1].update(memory=8), r"memory in runs\[8\] .* must be a mapping"),
        (lambda content: content["runs"][-1]["memory"].update(size=8), r"memory of runs\[8\] .* unknown key 'size'"),
        (lambda content: content["runs"][-1]["memory"].update(latency=0), "latency of a memory must be from 1 to"),
    ],
)
def test_a_bad_summary_is_named_by_its_key(tmp_path: Path, change, message: str):
    content = json.loads(json.dumps(CONTENT))
    change(content)
    with pytest.raises(InputError, match=message):
        summary_of(tmp_path, content)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON in line 1"), ("[]", "must hold a JSON object")])
def test_a_summary_that_is_none(tmp_path: Path, text: str, message: str):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_summary(tmp_path / "summary.json")
