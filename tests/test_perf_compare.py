"""Design points side by side: their ratios, the ways of computing, and JSON."""

import json
from pathlib import Path

import pytest

from perf_model.__main__ import main
from perf_model.baselines import all_of
from perf_model.compare import compared, ratios, title
from perf_model.estimate import estimate
from perf_model.hardware import load_hardware
from perf_model.workload import load_workload

WORKLOAD = load_workload("bert-base", length=32)
OPTIONS = ["--hardware", "tiny", "small"]


@pytest.fixture
def short(tmp_path: Path) -> str:
    """Return a small workload's file."""
    path = tmp_path / "short.yaml"
    path.write_text("name: short\nheads: 2\nhead_dim: 16\nlayers: 3\nlength: 32\n")
    return str(path)


def test_ratios_are_to_the_first_line():
    first, second = (estimate(WORKLOAD, load_hardware(name)) for name in ("tiny", "small"))
    assert ratios(first, first) == dict.fromkeys(("cycles", "time", "DRAM", "energy"), 1)
    found = ratios(second, first)
    assert found["cycles"] == second.cycles.total / first.cycles.total
    assert found["time"] == pytest.approx(found["cycles"]), "the clocks are the same"
    assert found["DRAM"] == second.traffic.dram / first.traffic.dram
    assert found["energy"] == pytest.approx(second.energy.total / first.energy.total)
    header, *lines = compared([first, second]).splitlines()
    assert header.split()[:4] == ["design", "point", "multipliers", "MHz"]
    assert lines[0].count(" 1 x") == 4
    assert f"{second.cycles.total:,}  {found['cycles']:.3g} x" in lines[1]


def test_a_table_for_each_workload_and_a_line_for_each_point(short: str, capsys):
    assert main(["compare", *OPTIONS, "--workload", short, "vit-b-16", "--survival", "1", "0.5"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [tables[0], tables[2]] == [
        "short: prefill of 32 tokens, batch 1",
        "ViT-B/16: prefill of 197 tokens, batch 1",
    ]
    for table in (tables[1], tables[3]):
        names = [line.split("  ")[0] for line in table.splitlines()[1:]]
        assert names == ["tiny, 100% survive", "tiny, 50% survive", "small, 100% survive", "small, 50% survive"]


def test_baselines_are_lines_too(short: str, capsys):
    assert main(["compare", *OPTIONS, "--workload", short, "--baselines", "--survival", "0.5"]) == 0
    _, table = capsys.readouterr().out.split("\n\n")
    expected = [
        title(each) for name in ("tiny", "small") for each in all_of(load_workload(short), load_hardware(name), 0.5)
    ]
    assert [line.split("  ")[0] for line in table.splitlines()[1:]] == expected
    assert expected[0] == "tiny, unfused"
    assert len(expected) >= 10


def test_json_goes_to_a_file_or_to_stdout(short: str, tmp_path: Path, capsys):
    options = ["compare", *OPTIONS, "--workload", short, "--json"]
    assert main(options) == 0
    printed = capsys.readouterr().out
    assert main([*options, str(tmp_path / "new" / "out.json")]) == 0
    assert (tmp_path / "new" / "out.json").read_text() == printed
    (part,) = json.loads(printed)
    assert part["workload"] == "short"
    first, second = part["points"]
    assert (first["name"], second["name"]) == ("tiny, 100% survive", "small, 100% survive")
    assert second["ratios"]["cycles"] == second["cycles"] / first["cycles"]
    assert second["hardware"]["core"]["rows"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hardware", "huge"], "there is no hardware 'huge'"),
        (["--hardware", "tiny", "--workload", "bart"], "there is no workload 'bart'"),
        (["--hardware", "wide", "tiny", "--workload", "llama-3-8b"], "tiny: head_dim of workload 'Llama-3-8B' is 128"),
        (["--hardware", "tiny", "--survival", "2"], "the survival rate must be above 0 and at most 1, not 2"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, options: list[str], message: str):
    assert main(["compare", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
