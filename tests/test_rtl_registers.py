"""What is written from the tables of the device: SystemRDL, a C header, and the page of the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from systemrdl import RDLCompiler
from systemrdl.node import RegNode
from systemrdl.rdltypes import OnWriteType

from golden.device.config import DEVICE_PRESETS, DeviceConfig
from golden.device.descriptor import Descriptor, Flag
from golden.device.packed import Packed
from golden.device.record import Record
from golden.device.registers import REGISTERS, Access, constant
from golden.device.status import DeviceStatus
from golden.masks import MaskKind
from rtl.__main__ import main
from rtl.axi.c_header import c_header
from rtl.axi.register_page import register_page
from rtl.interfaces import Status

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = DEVICE_PRESETS["default"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Give the files of the default preset with another bus, without their suffix."""
    path = tmp_path_factory.mktemp("registers") / "device"
    assert main(["registers", "--preset", "default", "--data-bits", "512", "-o", str(path)]) == 0
    return path


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    path = tmp_path / "new" / "x"
    assert main(["registers", "-o", str(path)]) == 0
    files = ", ".join(f"{path}{suffix}" for suffix in (".rdl", ".h", ".md"))
    assert capsys.readouterr().out == f"{files}: the registers, descriptors and records of a device\n"
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.h", "x.md", "x.rdl"]


@pytest.mark.parametrize(
    ("name", "stem"), [("v1.2", "v1.2"), ("x.h", "x"), ("x.rdl", "x"), ("x.v", "x"), ("a.b.c", "a.b.c")]
)
def test_a_name_with_dots_is_kept(name: str, stem: str, tmp_path):
    assert main(["registers", "-o", str(tmp_path / name)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{stem}.h", f"{stem}.md", f"{stem}.rdl"]


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys):
    assert main(["registers", "--data-bits", "48", "-o", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == "error: data_bits must be a power of two from 64 to 512, not 48\n"
    assert main(["registers", "-o", "/"]) == 2
    assert capsys.readouterr().err == "error: / is a folder; the files need a name\n"
    assert main(["registers", "-o", str(tmp_path / "..")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/.. is a folder; the files need a name\n"
    assert main(["registers", "--top", "axi", "-o", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == "error: --top is for generate, lint and synth, not for registers\n"
    (tmp_path / "y.md").mkdir()
    assert main(["registers", "-o", str(tmp_path / "y")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/y.md can't be written: Is a directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["y.md"]


# SystemRDL


def test_the_systemrdl_compiles_to_the_table(written: Path):
    config: DeviceConfig = DEFAULT.override(data_bits=512)
    compiler = RDLCompiler()
    compiler.compile_file(str(written.with_suffix(".rdl")))
    top = compiler.elaborate().top
    found = {node.inst_name: node for node in top.children() if isinstance(node, RegNode)}
    assert list(found) == [register.name for register in REGISTERS]
    for register in REGISTERS:
        node = found[register.name]
        assert node.absolute_address == register.offset
        assert node.size == 4
        fields = {field.inst_name: field for field in node.fields()}
        assert list(fields) == [field.name for field in register.fields]
        for field in register.fields:
            compiled = fields[field.name]
            assert (compiled.low, compiled.width) == (field.low, field.bits)
            assert compiled.is_sw_writable == (field.access in (Access.WRITE, Access.PULSE, Access.CLEAR))
            assert compiled.is_sw_readable == (field.access is not Access.PULSE)
            assert compiled.is_hw_writable == (field.access in (Access.READ, Access.CLEAR))
            assert compiled.get_property("singlepulse") == (field.access is Access.PULSE)
            assert (compiled.get_property("onwrite") is OnWriteType.woclr) == (field.access is Access.CLEAR)
            assert compiled.get_property("hwset") == (field.access is Access.CLEAR)
            if field.access is Access.CONSTANT:
                assert compiled.get_property("reset") == constant(field, config.capability)
    assert fields_value(found["CAPABILITY"], "data_bytes") == 64


def fields_value(node: RegNode, name: str) -> int:
    return next(field.get_property("reset") for field in node.fields() if field.inst_name == name)


def test_what_peakrdl_makes_of_it_agrees_with_the_c_header(written: Path, tmp_path):
    """Offsets of registers, masks of fields: those of PeakRDL's own C header."""
    command = [sys.executable, "-m", "peakrdl", "c-header", f"{written}.rdl", "-o", str(tmp_path / "peakrdl.h")]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    checks = []
    for register in REGISTERS:
        name = f"LEAN_ATTENTION_{register.name}"
        checks.append(f"offsetof(lean_attention_t, {register.name}) == {name}")
        for field in register.fields:
            theirs = f"LEAN_ATTENTION__{register.name}__{field.name.upper()}_bm"
            checks.append(
                f"{theirs} == " + (f"{name}_{field.name.upper()}_MASK" if field.name != "value" else hex(field.mask))
            )
    lines = [f'_Static_assert({check}, "");' for check in checks]
    source = tmp_path / "both.c"
    source.write_text("\n".join(['#include "device.h"', '#include "peakrdl.h"', *lines, ""]))
    command = ["gcc", "-std=c11", "-fsyntax-only", f"-I{written.parent}", f"-I{tmp_path}", str(source)]
    compiled = subprocess.run(command, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


# C header


CODES = {"STATUS": DeviceStatus, "CORE": Status, "MASK": MaskKind, "FLAG": Flag}
CONSTANTS = {"IDENTITY": 0x4C41544E, "MAJOR": 1, "DESCRIPTOR_VERSION": 1, "TAU_ALL": 65535}


def c_program(structures: tuple[type[Packed], ...]) -> str:
    """Return a program that prints what the header says, as JSON."""
    lines = ['#include "device.h"', "#include <stdio.h>", "int main(void) {", 'printf("{");']
    for structure in structures:
        name = f"struct lean_attention_{structure.__name__.lower()}"
        for field in structure.layout():
            where = f"offsetof({name}, {field.name}), 8 * sizeof((({name} *)0)->{field.name})"
            lines.append(f'printf("\\"{structure.__name__}.{field.name}\\": [%zu, %zu], ", {where});')
        lines.append(f'printf("\\"{structure.__name__}\\": %zu, ", sizeof({name}));')
    for register in REGISTERS:
        lines.append(f'printf("\\"{register.name}\\": %u, ", LEAN_ATTENTION_{register.name});')
        for field in register.fields:
            if field.name != "value":
                name = f"LEAN_ATTENTION_{register.name}_{field.name.upper()}"
                lines.append(f'printf("\\"{register.name}.{field.name}\\": [%d, %u], ", {name}_SHIFT, {name}_MASK);')
    for prefix, codes in CODES.items():
        for code in codes:
            lines.append(f'printf("\\"{prefix}.{code.name}\\": %d, ", (int)LEAN_ATTENTION_{prefix}_{code.name});')
    lines += [f'printf("\\"{name}\\": %u, ", LEAN_ATTENTION_{name});' for name in CONSTANTS]
    lines += ['printf("\\"end\\": 0}");', "return 0; }"]
    return "\n".join(lines)


COMPILERS = {"C99": ("gcc", "-std=c99"), "C11": ("gcc", "-std=c11"), "C++": ("g++", "-x", "c++", "-std=c++11")}


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_the_c_header_compiles_and_says_what_the_tables_say(compiler: tuple[str, ...], written: Path, tmp_path):
    source, program = tmp_path / "print.c", tmp_path / "print"
    source.write_text(c_program((Descriptor, Record)))
    options = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{written.parent}", str(source), "-o", str(program)]
    compiled = subprocess.run([*compiler, *options], capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    said = json.loads(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)
    expected: dict[str, object] = {**CONSTANTS, "end": 0}
    for structure in (Descriptor, Record):
        expected[structure.__name__] = structure.SIZE
        expected |= {f"{structure.__name__}.{field.name}": [field.offset, field.bits] for field in structure.layout()}
    for register in REGISTERS:
        expected[register.name] = register.offset
        for field in register.fields:
            if field.name != "value":
                expected[f"{register.name}.{field.name}"] = [field.low, field.mask]
    for prefix, codes in CODES.items():
        expected |= {f"{prefix}.{code.name}": code.value for code in codes}
    assert said == expected


@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_a_structure_of_another_layout_does_not_compile(standard: str, tmp_path):
    """The header's own assertions hold the compiler to the layout."""
    text = c_header().replace("    uint32_t tag; /* 4:", "    uint64_t tag; /* 4:")
    (tmp_path / "device.h").write_text(text)
    command = ["gcc", f"-std={standard}", "-fsyntax-only", "-x", "c", str(tmp_path / "device.h")]
    compiled = subprocess.run(command, capture_output=True, text=True)
    assert compiled.returncode
    assert "lean_attention_descriptor, tag" in compiled.stderr or "offset of tag" in compiled.stderr


# Page


def test_the_page_of_the_docs_is_up_to_date(written: Path):
    assert (ROOT / "docs" / "registers.md").read_text() == register_page(), (
        "write it anew: python -m rtl registers -o docs/registers, and remove .h and .rdl"
    )
    assert written.with_suffix(".md").read_text() == register_page()


def test_the_page_names_everything():
    page = register_page()
    for register in REGISTERS:
        assert f"**{re.sub('_(LO|HI)$', '', register.name)}" in page
    for structure in (Descriptor, Record):
        assert all(f"| {field.offset} | `{field.name}` | u{field.bits} |" in page for field in structure.layout())
    assert all(f"| {status.value} | `{status.name}` |" in page for status in DeviceStatus)
