"""The FuseSoC core file and its generator; `fusesoc run` itself is not needed for these."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import rtl.verilog
from golden.device.config import DEVICE_PRESETS
from golden.device.descriptor import Descriptor
from golden.device.registers import BY_NAME, IDENTITY

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "lean_attention.core"


def test_the_core_file_names_files_that_are_there_and_two_ways_to_run_them():
    first, text = CORE.read_text().split("\n", 1)
    assert first == "CAPI=2:"
    core = yaml.safe_load(text)
    named = [name for fileset in core["filesets"].values() for file in fileset["files"] for name in file]
    named += [generator["command"] for generator in core["generators"].values()]
    assert named == [name for name in named if (ROOT / name).is_file()]
    for target in ("lint", "sim"):
        assert core["targets"][target]["flow_options"]["tool"] == "verilator"
        assert core["targets"][target]["generate"] == ["device"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"prest": "tiny"}, "the generator has no parameter prest; parameters are preset, device"),
        ({"preset": ["tiny"]}, "preset must be a preset's name, not ['tiny']"),
        ({"device": None}, "device must be parameters of a device and their values, not None"),
        ({"device": 5}, "device must be parameters of a device and their values, not 5"),
        ({"device": {"data_bit": 64}}, "the device has no parameter data_bit"),
    ],
)
def test_bad_parameters_of_the_generator_are_one_sentence_and_exit_code_2(parameters, sentence, tmp_path):
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"vlnv": "::x:1", "parameters": parameters}))
    command = [sys.executable, str(ROOT / "fusesoc" / "generator.py"), "asked.yml"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"error: {sentence}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["asked.yml"]


def test_the_generator_writes_a_device_and_a_memory_before_and_after(tmp_path, monkeypatch):
    asked = {"vlnv": "::lean_attention-device:0.1.0", "parameters": {"preset": "tiny", "device": {"data_bits": 128}}}
    (tmp_path / "asked.yml").write_text(yaml.safe_dump(asked))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["generator.py", "asked.yml"])
    monkeypatch.setattr(rtl.verilog, "generate", lambda config, top: f"{top} on {config.data_bits} bits")
    runpy.run_path(str(ROOT / "fusesoc" / "generator.py"), run_name="__main__")
    assert (tmp_path / "lean_attention_axi.v").read_text() == "axi on 128 bits"
    core = yaml.safe_load((tmp_path / "lean_attention-device.core").read_text().split("\n", 1)[1])
    assert core["name"] == asked["vlnv"]
    files = [name for file in core["filesets"]["rtl"]["files"] for name in file]
    assert all((tmp_path / name).is_file() for name in files)

    found = re.findall(r"localparam integer (\w+) = (\d+);", (tmp_path / "parameters.vh").read_text())
    numbers = {name: int(value) for name, value in found}
    config = DEVICE_PRESETS["tiny"].override(data_bits=128)
    assert (numbers["DATA_BITS"], numbers["ADDRESS_BITS"], numbers["IDENTITY"]) == (128, config.address_bits, IDENTITY)
    assert all(numbers[f"REGISTER_{name}"] == register.offset for name, register in BY_NAME.items())
    before, after = (
        np.frombuffer(
            b"".join(bytes.fromhex(word)[::-1] for word in (tmp_path / f"{name}.hex").read_text().split()), "u1"
        )
        for name in ("before", "after")
    )
    assert len(before) == len(after) == 16 * numbers["MEMORY_WORDS"]
    place = numbers["QUEUE"]
    descriptor = Descriptor.parse(before[place : place + Descriptor.SIZE].tobytes())
    changed = np.flatnonzero(before != after)
    assert len(changed), "nothing is expected"
    # Nothing but outputs: the testbench leaves the record aside.
    end = descriptor.output_address + descriptor.kv_heads * descriptor.group * descriptor.output_head_stride
    assert descriptor.output_address <= changed[0]
    assert changed[-1] < end
