"""Energy: the table, and counts by hand."""

from copy import deepcopy
from dataclasses import replace

import pytest

from golden.config import PRESETS
from golden.errors import InputError
from perf_model.cycles import JobShape
from perf_model.energy import PARTS, Energy, jobs_energy, load_energy_table, memory_uses, operation_counts
from perf_model.energy import parse_energy_table as parse
from perf_model.settings import DATA, read_yaml

DEFAULT = PRESETS["default"]
JOB = JobShape(rows=16, keys=64, head_dim=64, value_dim=64, survivors=32)
TABLE = load_energy_table()
CONTENT = read_yaml(DATA / "energy.yaml")


def energy(job: JobShape = JOB, **changes) -> Energy:
    options = {"dram_bytes": 1000.0, "scratchpad_bytes": 0.0, "scratchpad_capacity": 0.0}
    return jobs_energy(DEFAULT, job, **options | {"technology": "45 nm", "dram": "lpddr4"} | changes)


@pytest.mark.parametrize("section", ["operations", "sram", "scaling", "dram"])
def test_every_entry_has_a_unit_a_technology_and_a_source(section: str):
    entries = getattr(TABLE, section)
    assert len(entries) >= 5
    for name, entry in entries.items():
        assert entry.name == name
        assert entry.value > 0
        assert entry.unit
        assert entry.technology
        assert len(entry.source) > 20, f"the source of {name} says where it was published"


def test_figures_of_the_table():
    assert TABLE.operations["multiply_int8"].value == 0.2
    assert TABLE.scaling["7 nm"].value == 0.094
    rates = [entry.value for entry in TABLE.dram.values()]
    assert max(rates) / min(rates) > 10, "sources differ tenfold"


def test_memories_between_the_table_s_capacities_cost_something_between():
    assert TABLE.sram_bit(8192) == pytest.approx(10 / 64)
    assert TABLE.sram_bit(16384) == pytest.approx(10 * 2**0.5 / 64)
    assert TABLE.sram_bit(0) == TABLE.sram_bit(128)
    assert TABLE.sram_bit(1 << 30) == TABLE.sram_bit(1 << 20) == pytest.approx(100 / 64)


def test_operations_of_the_array_by_hand():
    counts = operation_counts(DEFAULT, JOB)
    assert counts["qk"] == {"multiply_int8": 64 * 4 * 256, "add_int16": 64 * 4 * 16 * 15, "add_int32": 64 * 4 * 16}
    assert counts["pv"]["multiply_int8"] == 2 * 64 * 256 * 13 / 8
    assert energy().qk == pytest.approx(256 * (256 * 0.2 + 240 * 0.05 + 16 * 0.1))


def test_queries_are_read_in_every_beat():
    uses = memory_uses(DEFAULT, JOB)
    assert uses["queries"].bits == (16 * 4 + 64 * 4 * 16) * 128
    assert uses["queries"].capacity == 2 * 64
    assert set(uses) == {"queries", "scores", "values", "accumulators"}


def test_dram_and_technology():
    base = energy()
    assert base.dram == 1000 * 8 * 8
    assert energy(dram="ddr3").dram == 1000 * 8 * 70
    small = energy(technology="7 nm")
    assert small.core == pytest.approx(0.094 * base.core)
    assert small.dram == base.dram
    assert base.total == pytest.approx(sum(getattr(base, part) for part in PARTS))
    assert base.scaled(3).total == pytest.approx(3 * base.total)


def test_dropping_saves_softmax_values_and_memory_but_not_scores():
    more, less = energy(), energy(replace(JOB, survivors=16))
    assert less.qk == more.qk
    assert less.softmax < more.softmax
    assert less.pv < more.pv
    assert less.memory < more.memory


@pytest.mark.parametrize(("option", "value"), [("technology", "3 nm"), ("dram", "core memory")])
def test_unknown_names_are_said_with_those_there_are(option: str, value: str):
    with pytest.raises(InputError, match=f"there is no .*{value}.*; there are "):
        energy(**{option: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["dram"]["ddr3"].pop("source"), r"dram.ddr3 in x lacks the key 'source'"),
        (lambda content: content["dram"]["ddr3"].update(source="hearsay"), "the source of dram.ddr3 .*hearsay"),
        (lambda content: content["dram"]["ddr3"].update(value="much"), "value in dram.ddr3 .*a number"),
        (lambda content: content["dram"]["ddr3"].update(value=-1), "above 0"),
        (lambda content: content["dram"]["ddr3"].update(colour="red"), "unknown key 'colour'"),
        (lambda content: content["dram"].update(tape=3), "dram.tape .* must be a mapping"),
        (lambda content: content.pop("scaling"), "lacks the key 'scaling'"),
        (lambda content: content.update(extra={}), "unknown key 'extra'"),
    ],
)
def test_a_bad_table_is_refused(change, message: str):
    content = deepcopy(CONTENT)
    change(content)
    with pytest.raises(InputError, match=message):
        parse(content, "x")
