"""FuseSoC's generator: the Verilog of a device, and a memory before and after a descriptor, for the testbench.

FuseSoC calls it with a YAML file that holds the parameters of the core file, in the folder where the files are to be.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import yaml  # noqa: E402

from golden.device.boards import MappedMemory  # noqa: E402
from golden.device.config import DeviceConfig, device_preset  # noqa: E402
from golden.device.descriptor import Descriptor, Flag  # noqa: E402
from golden.device.layout import Placement, Request  # noqa: E402
from golden.device.model import DeviceModel  # noqa: E402
from golden.device.record import Record  # noqa: E402
from golden.device.registers import BY_NAME, IDENTITY  # noqa: E402
from golden.errors import InputError  # noqa: E402
from golden.masks import Mask  # noqa: E402
from golden.quantise import quantise  # noqa: E402
from golden.threshold import Threshold  # noqa: E402
from rtl.verilog import TOPS, generate  # noqa: E402

MEMORY_BYTES = 1 << 16
HEADS, LENGTH, DIMENSION, TAU = 2, 40, 24, 5.0

CORE = """CAPI=2:
name: {name}
filesets:
  rtl:
    files:
      - {module}.v: {{file_type: verilogSource}}
      - parameters.vh: {{file_type: verilogSource, is_include_file: true}}
      - before.hex: {{file_type: user, copyto: before.hex}}
      - after.hex: {{file_type: user, copyto: after.hex}}
targets:
  default:
    filesets: [rtl]
"""


class Bus:
    """A memory from address 0 on."""

    def __init__(self, content: np.ndarray):
        self.content = content

    def read(self, address: int, size: int) -> np.ndarray:
        """Return bytes."""
        return self.content[address : address + size].copy()

    def write(self, address: int, content: np.ndarray) -> None:
        """Write bytes."""
        self.content[address : address + len(content)] = content


def hex_words(content: np.ndarray, size: int) -> str:
    """Return a memory's words of `size` bytes as ``$readmemh`` reads them."""
    words = content.reshape(-1, size)[:, ::-1]
    return "".join(word.tobytes().hex() + "\n" for word in words)


def write_images(config: DeviceConfig, folder: Path) -> dict[str, int]:
    """Write a memory with a descriptor, and what a device makes of it; return where queue and records are."""
    before = np.zeros(MEMORY_BYTES, dtype=np.uint8)
    memory = MappedMemory(before, 0)
    queue, records = memory.allocate(Descriptor.SIZE), memory.allocate(Record.SIZE)
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(HEADS, LENGTH, DIMENSION)) for _ in range(3))
    request = Request(quantise(q, k, v), Mask.of(causal=True), Threshold.of(TAU))
    placed = Placement(request, config.capability, memory, tag=1).descriptor
    descriptor = replace(placed, flags=placed.flags | Flag.INTERRUPT)
    queue.array[:] = np.frombuffer(descriptor.pack(), dtype=np.uint8)
    after = before.copy()
    DeviceModel(config, Bus(after)).run(descriptor, 1)
    for name, content in (("before", before), ("after", after)):
        (folder / f"{name}.hex").write_text(hex_words(content, config.beat_bytes))
    return {"QUEUE": queue.address, "RECORDS": records.address}


def device_of(parameters: dict[str, Any]) -> DeviceConfig:
    """Return the device that a core file's parameters ask for."""
    kinds = {"preset": (str, "a preset's name"), "device": (dict, "parameters of a device and their values")}
    for name, value in parameters.items():
        if name not in kinds:
            raise InputError(f"the generator has no parameter {name}; parameters are {', '.join(kinds)}")
        kind, what = kinds[name]
        if not isinstance(value, kind):
            raise InputError(f"{name} must be {what}, not {value!r}")
    return device_preset(parameters.get("preset", "small")).override(**parameters.get("device", {}))


def main() -> None:
    """Do what the YAML file of the first argument asks for."""
    asked = yaml.safe_load(Path(sys.argv[1]).read_text())
    config = device_of(asked.get("parameters") or {})
    folder, module = Path.cwd(), TOPS["axi"].module
    (folder / f"{module}.v").write_text(generate(config, "axi"))
    places = write_images(config, folder)
    numbers = {
        "DATA_BITS": config.data_bits,
        "ADDRESS_BITS": config.address_bits,
        "ID_BITS": config.id_bits,
        "MEMORY_WORDS": MEMORY_BYTES // config.beat_bytes,
        "RECORD_BYTES": Record.SIZE,
        "IDENTITY": IDENTITY,
        **places,
    }
    numbers |= {f"REGISTER_{name}": register.offset for name, register in BY_NAME.items()}
    lines = [f"localparam integer {name} = {value};\n" for name, value in numbers.items()]
    (folder / "parameters.vh").write_text("".join(lines))
    (folder / f"{asked['vlnv'].split(':')[-2]}.core").write_text(CORE.format(name=asked["vlnv"], module=module))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
