"""Commands about a device: `python -m sim device`, `device-bench`, `device-soak`, and `python -m rtl --top axi`."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import rtl.__main__
import rtl.lint
import sim.device
import sim.device_commands
from golden.config import PRESETS, CoreConfig
from golden.device.config import DEVICE_PRESETS, SIZES, device_preset
from golden.device.status import DeviceStatus
from golden.layer import run_layer
from golden.masks import Mask
from golden.tensors import load_attention
from golden.threshold import Threshold
from rtl.axi.axi_ports import axi_lite_signature, axi_read_signature, axi_write_signature
from rtl.verilog import TOPS, describe
from sim.__main__ import main
from sim.device import DEVICES
from sim.runner import SimulationError

ROOT = Path(__file__).resolve().parent.parent
TINY = DEVICES["tiny"]
AS_TINY = ["--preset", "tiny", "--key-timeout", str(TINY.core.key_timeout)]
AS_TINY += ["--scratchpad-bytes", str(TINY.scratchpad_bytes), "--page-entries", str(TINY.page_entries)]


def write(path: Path, queries: int = 9, keys: int = 21, head_dim: int = 13, value_dim: int = 7) -> Path:
    """Write random tensors of 6 query heads and 2 kv heads."""
    rng = np.random.default_rng(queries + keys)
    np.savez(
        path,
        q=rng.normal(0, 2, (6, queries, head_dim)),
        k=rng.normal(size=(2, keys, head_dim)),
        v=rng.normal(size=(2, keys, value_dim)),
    )
    return path


# python -m sim


def test_anybodys_tensors_go_through_a_device_and_the_figures_are_those_of_golden(tmp_path, capsys):
    file, output = write(tmp_path / "x.npz"), tmp_path / "x.json"
    arguments = ["--causal", "--tau", "3", "--target", "0.6", "--latency", "7", "--stall", "0.2", "--seed", "4"]
    assert main(["device", *AS_TINY, "--input", str(file), *arguments, "--json", str(output)]) == 0
    attention = load_attention(file).quantise()
    expected = run_layer(attention, TINY.core, Mask.of(causal=True), Threshold.of(tau=3, target=0.6))
    figures = json.loads(output.read_text())
    assert figures["config"] == TINY.to_dict()
    assert (figures["heads"], figures["keys"], figures["causal"]) == (6, 21, True)
    assert {name: figures[name] for name in ("tau", "epsilon", "target", "latency", "stall", "seed")} == {
        "tau": 3.0, "epsilon": None, "target": 0.6, "latency": 7, "stall": 0.2, "seed": 4
    }  # fmt: skip
    assert figures["jobs"] == len(expected.plan)
    survivors = expected.attended.survivors.sum() / expected.attended.streamed.sum()
    assert figures["survivors"] == pytest.approx(survivors)
    assert 0 < figures["utilisation"] < 1
    assert figures["read_bytes"] % TINY.beat_bytes == 0
    text = capsys.readouterr().out
    assert text.startswith(f"x.npz: {figures['cycles']} cycles, {figures['jobs']} jobs, {survivors:.1%} of the keys")
    assert f"\n  {figures['read_bytes']} bytes read, " in text


@pytest.fixture
def refused(monkeypatch, capsys) -> Callable[..., str]:
    """Return a function that expects a command to refuse its input with one sentence, before anything is simulated."""

    def run_bench(*arguments: object) -> None:
        raise AssertionError("this input was simulated")

    monkeypatch.setattr(sim.device, "run_bench", run_bench)

    def check(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert re.fullmatch(r"error: [^\n]+\n", captured.err), captured.err
        return captured.err.removeprefix("error: ").rstrip()

    return check


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stall", "1"], "stall must be a probability from 0 to below 1, not 1.0"),
        (["--tau", "0.5"], "tau must be from 1.0 to 1023.96875 bits, not 0.5"),
        (["--epsilon", "1"], "epsilon must be from 3.1e-05 to below 1, not 1.0"),
        (["--preset", "huge"], "there is no preset 'huge'; presets are tiny, small, default, wide"),
        (["--data-bits", "48"], "data_bits must be a power of two from 64 to 512, not 48"),
        (["--buffer-beats", "8"], "buffer_beats must be a power of two from 16 to 4096, not 8"),
        (["--scratchpad-bytes", "1000"], "scratchpad_bytes must be 0 or a power of two from 1024 to 4194304, not 1000"),
        (["--max-keys", "16"], "the device would end this descriptor with LENGTH: no query, no key, or a position"),
        (["--max-value-dim", "4"], "the device would end this descriptor with DIMENSION: a dimension or a number of"),
        (
            ["--epsilon", "0.1", "--rows-per-budget", "0"],
            "the device would end this descriptor with UNSUPPORTED: the device was built without what is asked for",
        ),
    ],
)
def test_bad_tensors_and_values_are_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, refused):
    output = tmp_path / "x.json"
    output.write_text("precious")
    file = write(tmp_path / "x.npz")
    message = refused("device", "--preset", "tiny", "--input", file, "--json", output, *arguments)
    assert message.startswith(sentence)
    assert output.read_text() == "precious"


def test_bad_files_are_one_sentence_and_exit_code_2(tmp_path, refused):
    missing, text = tmp_path / "missing.npz", tmp_path / "text.npz"
    text.write_text("1 2 3\n")
    assert refused("device", "--input", missing) == f"{missing} can't be read: No such file or directory"
    assert refused("device", "--input", text) == f"{text} is not a NumPy .npz file"
    file = write(tmp_path / "x.npz")
    assert refused("device", "--input", file, "--json", tmp_path) == f"{tmp_path} can't be written: Is a directory"


def test_a_benchmark_that_the_device_cannot_hold_is_refused(refused):
    assert refused("device-bench", "--max-head-dim", "32").startswith("the device would end this descriptor with DIMEN")
    assert refused("device-bench", "--output-lanes", "3").startswith("output_lanes must be a power of two from 1 to")


def test_tensors_that_need_more_memory_get_it(tmp_path, monkeypatch):
    """Memory is a power of two that holds all of a request, and the usual size for a small one."""
    seen = []

    def run_bench(module: str, config: object, work: sim.device.DeviceWork, *rest: object) -> list[object]:
        seen.append(work.memory_bytes)
        raise SimulationError("enough")

    monkeypatch.setattr(sim.device, "run_bench", run_bench)
    for keys in (21, 40000):
        file = write(tmp_path / "x.npz", queries=1, keys=keys, head_dim=64, value_dim=64)
        assert main(["device", "--input", str(file)]) == 1
    # 2 heads of 40000 keys and as many values, 64 bytes each.
    assert seen == [1 << 22, 1 << 24]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["device"], "the following arguments are required: --input"),
        (["device", "--input", "x", "--latency=-1"], "argument --latency: it must be a whole number from 0 on, not -1"),
        (["device", "--input", "x", "--data-bits", "many"], "argument --data-bits: invalid int value: 'many'"),
        (["device-bench", "--latency", "1.5"], "argument --latency: it must be a whole number from 0 on, not 1.5"),
        (["device-soak", "--runs", "0"], "argument --runs: it must be a whole number from 1 on, not 0"),
        (["device-soak", "--seed=-5"], "argument --seed: it must be a whole number from 0 on, not -5"),
        (["device-soak", "--device", "huge"], "argument --device: invalid choice: 'huge' (choose from"),
    ],
)
def test_bad_options_are_exit_code_2(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    line = capsys.readouterr().err.rstrip().rsplit("\n", 1)[1]
    assert line.startswith(f"python -m sim {arguments[0]}: error: {sentence}")


def test_soak_says_what_it_drew_and_saw_and_fails_with_exit_code_1(monkeypatch, capsys):
    requests: list[object] = []
    faults: list[object] = []

    def simulate_device(config, runs):
        requests.extend(runs)
        return [sim.device.DeviceOutcome([None] * len(run.requests)) for run in runs]

    def simulate_faults(config, runs):
        faults.extend(runs)
        if len(faults) > 8:
            raise SimulationError("seed 7: wrong")
        return Counter((run.kind, "PAGE") for run in runs)

    monkeypatch.setattr(sim.device_commands, "simulate_device", simulate_device)
    monkeypatch.setattr(sim.device_commands, "simulate_faults", simulate_faults)
    assert main(["device-soak", "--runs", "8", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs of seeds 7 to 14; repeat one with: device-soak --runs 1 --seed SEED --device DEVICE"
    assert sum("every byte and statistic as the model's" in line for line in lines) == len(DEVICES)
    assert len(requests) == len(faults) == 8
    assert {run.label.split("'")[1] for run in faults} == set(DEVICES)
    found = dict(re.findall(r"^  (\w[\w %]+?) +(\d+)$", "\n".join(lines), re.MULTILINE))
    drawn = [request for run in requests for request in run.requests]
    assert int(found["window"]) == sum(request.mask.window > 0 for request in drawn)
    assert int(found["to states"]) == sum(request.emit_state for request in drawn)
    assert sum(int(count) for name, count in found.items() if name.startswith("a latency of")) == len(drawn)
    assert lines[-1].startswith("by status: OK 0, DESCRIPTOR 0, ")
    assert "PAGE 8, " in lines[-1]
    assert [status.name for status in DeviceStatus] == re.findall(r"[A-Z]+", lines[-1])
    assert main(["device-soak", "--only-faults", "--runs", "1", "--device", "tiny"]) == 1
    assert capsys.readouterr().err == "simulation failed: seed 7: wrong\n"
    assert len(requests) == 8


# python -m rtl


def test_the_instantiation_of_the_docs_has_every_port_of_a_device():
    page = (ROOT / "docs" / "integration.md").read_text()
    (example,) = re.findall(r"```verilog\n(.*?)```", page, re.DOTALL)
    assert sorted(re.findall(r"\.(\w+)\(", example)) == sorted(describe(device_preset("default"), "axi")["ports"])


def test_the_core_file_has_the_version_of_the_project():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nname: ::lean_attention:{version}\n" in (ROOT / "lean_attention.core").read_text()


@pytest.mark.parametrize("name", ["tiny", "bare"])
def test_the_lint_of_a_device_is_clean(name: str, tmp_path):
    """No signal is left without bits, even of the fewest reads under way."""
    assert rtl.lint.lint(DEVICES[name], tmp_path, "axi") == ""


def test_a_device_is_generated_and_described(tmp_path, capsys):
    output = tmp_path / "x.v"
    assert rtl.__main__.main(["--top", "axi", *AS_TINY, "--address-bits", "33", "-o", str(output)]) == 0
    config = TINY.override(address_bits=33)
    assert capsys.readouterr().out.startswith(f"{output}: {config.size}; ")
    content, verilog = json.loads(output.with_suffix(".json").read_text()), output.read_text()
    assert (content["top"], content["clock"]) == ("lean_attention_axi", "aclk")
    assert content["reset"] == "aresetn (synchronous, active low)"
    assert content["config"] == config.to_dict()
    assert content["status_codes"] == {status.name: status.value for status in DeviceStatus}
    text = re.search(r"^module lean_attention_axi\((.*?)^endmodule", verilog, re.MULTILINE | re.DOTALL)[1]
    listed = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+) *;$", text, re.MULTILINE)
    ports = {name: {"direction": way, "width": int(high or 0) + 1} for way, high, name in listed}
    assert {name: ports.pop(name)["width"] for name in ("aclk", "aresetn", "irq")} == dict.fromkeys(
        ("aclk", "aresetn", "irq"), 1
    )
    described = {name: port for name, port in content["ports"].items() if name not in ("aclk", "aresetn", "irq")}
    assert described == ports
    masters = {**axi_read_signature(config).members, **axi_write_signature(config).members}
    assert set(ports) == {f"m_axi_{name}" for name in masters} | {
        f"s_axil_{name}" for name in axi_lite_signature(12).members
    }
    assert ports["m_axi_araddr"] == ports["m_axi_awaddr"] == {"direction": "output", "width": 33}
    assert ports["m_axi_rdata"] == {"direction": "input", "width": 64}
    assert ports["s_axil_wstrb"] == {"direction": "input", "width": 4}
    assert ports["s_axil_rdata"] == {"direction": "output", "width": 32}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--top", "axi", "--data-bits", "1024"], "data_bits must be a power of two from 64 to 512, not 1024"),
        (["--top", "axi", "--address-bits", "31"], "address_bits must be from 32 to 64, not 31"),
        (["--top", "axi", "--burst-beats", "24"], "burst_beats must be a power of two from 1 to 256, not 24"),
        (["--top", "axi", "--outstanding-reads", "1"], "outstanding_reads must be from 2 to 256, not 1"),
        (["--top", "axi", "--page-entries", "8"], "page_entries must be 0 or a power of two from 16 to 65536, not 8"),
        (["--top", "axi", "--id-bits", "17"], "id_bits must be from 1 to 16, not 17"),
        (["--top", "axi", "--lanes", "5"], "lanes must be a power of two from 4 to 64, not 5"),
        (["--top", "stream", "--rows", "65"], "rows must be from 1 to 64, not 65"),
        (["--top", "stream", "--data-bits", "64"], "--data-bits is a size of a device, for --top axi or registers"),
        (["--page-entries", "16"], "--page-entries is a size of a device, for --top axi or registers"),
        (["synth", "--id-bits", "1"], "--id-bits is a size of a device, for --top axi or registers"),
        (["--cores", "4"], "--cores is a size of a cluster, for --top cluster"),
        (["registers", "--queue-jobs", "4"], "--queue-jobs is a size of a cluster, for --top cluster"),
        (
            ["synth", "--top", "axi", "--options"],
            "--options counts what each option adds to a core, not to --top axi",
        ),
    ],
)
def test_a_bad_size_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path, capsys):
    output, folder = tmp_path / "x.v", tmp_path / "build"
    command = ["--preset", "tiny", "-o", str(output), "--build", str(folder), *arguments]
    assert rtl.__main__.main(command) == 2
    assert capsys.readouterr() == ("", f"error: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_there_is_no_other_top(capsys):
    with pytest.raises(SystemExit) as exit_:
        rtl.__main__.main(["--top", "apb"])
    assert exit_.value.code == 2
    assert "argument --top: invalid choice: 'apb' (choose from" in capsys.readouterr().err


def test_every_parameter_of_a_device_is_an_option():
    options = {action.dest for action in rtl.__main__._parser()._actions}
    assert options >= {*SIZES, *(field.name for field in fields(CoreConfig)), "top"}
    assert set(DEVICE_PRESETS) == set(PRESETS)
    assert TOPS["axi"].module == "lean_attention_axi"


def test_synth_of_a_device_places_the_whole_top(tmp_path, monkeypatch, capsys):
    seen = []

    def synthesise(config, folder, freq, seed, top):
        seen.append((config, folder, freq, seed, top))
        return rtl.synth.Figures(43.21, {"LUT4": (7, 9)}, ["a step"], 23.1, False)

    monkeypatch.setattr(rtl.__main__, "synthesise", synthesise)
    command = ["synth", "--top", "axi", "--preset", "tiny", "--freq", "50", "--build", str(tmp_path)]
    assert rtl.__main__.main([*command, "--data-bits", "128"]) == 0
    assert seen == [(DEVICE_PRESETS["tiny"].override(data_bits=128), tmp_path / "4x4-axi", 50, 1, "axi")]
    assert capsys.readouterr().out.splitlines() == [
        "4 x 4 core, top axi, on ECP5-85, seed 1: 43.2 MHz",
        "  LUT4                  7 of 9",
        "critical path, 23.10 ns, NOT in a multiplier:",
        "  a step",
    ]
