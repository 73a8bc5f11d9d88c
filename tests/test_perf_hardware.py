"""Hardware from YAML: what it becomes, and what is said of bad ones."""

from pathlib import Path

import pytest

from golden.config import PRESETS
from golden.errors import InputError
from golden.memory import Memory
from perf_model.hardware import Hardware, load_hardware
from perf_model.settings import DATA


def test_hardware_from_a_file(tmp_path: Path):
    path = tmp_path / "edge.yaml"
    extra = "bandwidth: 25.5\nlatency: 40\noutstanding: 4\n"
    path.write_text("preset: small\nrows: 4\nlanes: 64\nclock_mhz: 250\ntechnology: 7 nm\nscratchpad_kib: 0\n" + extra)
    hardware = load_hardware(str(path), dram="hbm3", latency=50)
    core, memory = PRESETS["small"].override(rows=4, lanes=64), Memory(bandwidth=25.5, latency=50, outstanding=4)
    assert hardware == Hardware(core, "edge", 250.0, "7 nm", "hbm3", 0, memory)
    assert hardware.multipliers == 256
    assert load_hardware("tiny", clock_mhz=100.0) == Hardware(PRESETS["tiny"], "tiny", 100.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: huge\n", "there is no preset 'huge'"),
        ("corse: 4\n", "unknown key 'corse'"),
        ("cores: 0\n", "h.yaml: cores must be from 1 to 4096, not 0"),
        ("partition: fair\n", "partition must be one of lean, heuristic, whole, not 'fair'"),
        ("dram_bandwidth: -1\n", "dram_bandwidth must be from 1/256 to 1048576 bytes a cycle, not -1"),
        ("lanes: 8\nlanes: 16\n", "h.yaml is not valid YAML in line 2: the key 'lanes' is given twice"),
        ("lanes: 5\n", "lanes must be a power of two"),
        ("lanes: wide\n", "lanes in h.yaml must be a whole number, not 'wide'"),
        ("clock_mhz: fast\n", "clock_mhz in h.yaml must be a number, not 'fast'"),
        ("clock_mhz: 0\n", "clock_mhz must be from 0.001 to 1e"),
        ("clock_mhz: .nan\n", "clock_mhz must be from 0.001 to 1e"),
        ("technology: 3 nm\n", "technology must be one of 45 nm, "),
        ("dram: tape\n", "h.yaml: dram must be one of hbm2, "),
        ("scratchpad_kib: -1\n", "scratchpad_kib must be from 0 to"),
        ("bandwidth: none\n", "bandwidth in h.yaml must be a number, not 'none'"),
        ("buffer: 0\n", "buffer of a memory must be from 1 to 1048576, not 0"),
    ],
)
def test_bad_hardware_is_named_by_its_key(tmp_path: Path, text: str, message: str):
    path = tmp_path / "h.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_hardware(str(path))


@pytest.mark.parametrize("path", sorted((DATA / "hardware").glob("*.yaml")), ids=lambda path: path.stem)
def test_hardware_that_the_package_brings(path: Path):
    hardware = load_hardware(path.stem)
    assert hardware.name == path.stem
    assert path.read_text().count("#") >= 4, "assumptions are stated"
    assert load_hardware(path.stem, clock_mhz=1.0).clock_mhz == 1.0


def test_latent_attention_fits_on_the_server():
    core, preset = load_hardware("server-7nm").core, PRESETS["latent"]
    assert (core.max_head_dim, core.max_value_dim) == (preset.max_head_dim, preset.max_value_dim) == (576, 512)


def test_cores_share_the_bandwidth():
    hardware = Hardware(PRESETS["tiny"], memory=Memory(bandwidth=10, latency=7), cores=4, dram_bandwidth=3.0)
    assert hardware.core_memory == Memory(bandwidth=2.5, latency=7)
    assert hardware.multipliers == 64
    assert hardware.dram_cycles(10) == 4
    assert Hardware(PRESETS["tiny"]).dram_cycles(10) == 0


def test_no_such_hardware():
    with pytest.raises(InputError, match=r"there is no hardware 'huge'; there are edge-22nm, .* the presets tiny, "):
        load_hardware("huge")


def test_a_change_is_not_the_file_s_fault():
    with pytest.raises(InputError, match=r"^clock_mhz must be from 0.001 to 1e"):
        load_hardware("edge-22nm", clock_mhz=-1.0)
