"""Energy: the table and its spread, and counts by hand."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from golden.config import PRESETS
from golden.errors import InputError
from perf_model.cycles import JobShape
from perf_model.energy import PARTS, Activity, EnergyRange, MemoryUse, memory_uses, operation_counts
from perf_model.energy_table import load_energy_table
from perf_model.energy_table import parse_energy_table as parse
from perf_model.settings import DATA, read_yaml

DEFAULT = PRESETS["default"]
JOB = JobShape(rows=16, keys=64, head_dim=64, value_dim=64, survivors=32)
TABLE = load_energy_table()
CONTENT = read_yaml(DATA / "energy.yaml")


def energies(job: JobShape = JOB, technology: str = "45 nm", dram: str = "lpddr4", times: int = 1) -> EnergyRange:
    activity = Activity(operation_counts(DEFAULT, job), memory_uses(DEFAULT, job), 1000.0)
    return activity.energies(technology, dram, times)


@pytest.mark.parametrize("section", ["operations", "sram", "scaling", "dram"])
def test_every_entry_has_a_unit_a_technology_and_a_source(section: str):
    quantities = getattr(TABLE, section)
    assert len(quantities) >= 5
    for name, entries in quantities.items():
        for entry in entries:
            assert entry.name == name
            assert entry.value > 0
            assert entry.unit
            assert entry.technology
            assert len(entry.source) > 20, f"the source of {name} says where it was published"


def test_there_are_tables_for_four_technologies_and_several_drams():
    assert {"45 nm", "22 nm", "16 nm", "7 nm"} <= set(TABLE.scaling)
    assert {"hbm2", "hbm3", "lpddr4", "lpddr5", "ddr3", "ddr4", "gddr6"} <= set(TABLE.dram)
    values = [entry.value for entries in TABLE.dram.values() for entry in entries]
    assert max(values) / min(values) > 10, "sources differ tenfold"


def test_rates_are_those_of_the_first_source_scaled():
    rates = TABLE.rates("22 nm", "hbm2")
    assert rates.operations["multiply_int8"] == pytest.approx(0.2 * 0.294)
    assert rates.sram_bit(8192) == pytest.approx(0.294 * 10 / 64)
    assert rates.dram == 3.9


def test_the_spread_is_that_of_the_sources():
    least, most = (TABLE.rates("22 nm", "hbm2", choice) for choice in ("least", "most"))
    # Two more scalings, and two sources of a multiplication of 32 bits.
    assert least.operations["multiply_int32"] == pytest.approx(3.1 * 0.227)
    assert most.operations["multiply_int32"] == pytest.approx(12.68 * 0.437)
    assert (least.dram, most.dram) == (3.9, 7.03125)
    assert (least.sram_bit(8192), most.sram_bit(8192)) == pytest.approx((0.227 * 10 / 64, 0.437 * 10 / 64))


def test_a_figure_for_a_technology_counts_there_alone():
    seven, sixteen = (TABLE.rates(technology, "hbm2", "most") for technology in ("7 nm", "16 nm"))
    assert seven.operations["multiply_int8"] == 0.07
    assert TABLE.rates("7 nm", "hbm2").operations["multiply_int8"] == pytest.approx(0.2 * 0.094)
    assert sixteen.operations["multiply_int8"] == pytest.approx(0.2 * 0.312)
    assert seven.sram_bit(32768) == pytest.approx(8.5 / 64)
    # Below 8 KiB Jouppi has nothing: as far off as there, 7.5 to the scaled 10.
    assert seven.sram_bit(512) == pytest.approx(2.12 * 7.5 / 10 / 64)


def test_memories_between_the_table_s_capacities_cost_something_between():
    rates = TABLE.rates("45 nm", "ddr3")
    assert rates.sram_bit(16384) == pytest.approx(10 * 2**0.5 / 64)
    assert rates.sram_bit(0) == rates.sram_bit(128)
    assert rates.sram_bit(1 << 30) == rates.sram_bit(1 << 20) == pytest.approx(100 / 64)


def test_operations_of_the_array_by_hand():
    counts = operation_counts(DEFAULT, JOB)
    assert counts["qk"] == {"multiply_int8": 64 * 4 * 256, "add_int16": 64 * 4 * 16 * 15, "add_int32": 64 * 4 * 16}
    assert counts["pv"]["multiply_int8"] == 2 * 64 * 256 * 13 / 8
    assert energies().nominal.qk == pytest.approx(256 * (256 * 0.2 + 240 * 0.05 + 16 * 0.1))
    merged = operation_counts(DEFAULT, replace(JOB, emit_state=1))["pv"]["add_int32"]
    assert merged - counts["pv"]["add_int32"] == 2 * 16 * 65


def test_queries_are_read_in_every_beat():
    uses = memory_uses(DEFAULT, JOB)
    assert uses["queries"].bits == (16 * 4 + 64 * 4 * 16) * 128
    assert uses["queries"].capacity == 2 * 64
    assert set(uses) == {"queries", "scores", "values", "captured", "accumulators"}


def test_captured_keys_are_written_and_survivors_read():
    uses = memory_uses(DEFAULT, replace(JOB, shared=1))
    assert memory_uses(DEFAULT, JOB)["captured"].bits == 0
    assert uses["captured"].bits == (JOB.keys + JOB.survivors) * 4 * 128
    assert uses["captured"].capacity == 64 * 16
    assert uses["values"] == memory_uses(DEFAULT, JOB)["values"]


def test_an_activity_by_hand():
    counts = {"qk": {"add_int8": 100.0}, "softmax": {"multiply_int32": 2.0}, "pv": {"add_int32": 10.0}}
    activity = Activity(counts, {"x": MemoryUse(64.0, 8192), "y": MemoryUse(128.0, 1 << 20)}, 10)
    both = activity.energies("45 nm", "hbm2", 3)
    expected = {"qk": 3.0, "softmax": 6.2, "pv": 1.0, "memory": 10 + 200, "dram": 10 * 8 * 3.9}
    assert both.nominal.to_dict() == pytest.approx(
        {name: 3 * value for name, value in expected.items()} | {"total": 3 * sum(expected.values())}
    )
    assert both.most.softmax == pytest.approx(3 * 2 * 12.68)
    assert both.most.pv == pytest.approx(3 * 10 * 0.21)
    assert both.least == replace(both.nominal)


def test_dram_and_technology():
    base = energies()
    assert base.nominal.dram == 1000 * 8 * 8
    assert base.most.dram == 1000 * 8 * 14
    assert energies(dram="ddr3").nominal.dram == 1000 * 8 * 70
    assert energies(dram="ddr3").least.dram == 1000 * 8 * 20.3125
    small = energies(technology="7 nm")
    assert small.nominal.core == pytest.approx(0.094 * base.nominal.core)
    assert small.nominal.dram == base.nominal.dram
    assert base.nominal.total == pytest.approx(sum(getattr(base.nominal, part) for part in PARTS))
    for part in PARTS:
        assert getattr(small.least, part) <= getattr(small.nominal, part) <= getattr(small.most, part)
    assert energies(times=3).nominal.total == pytest.approx(3 * base.nominal.total)


def test_dropping_saves_softmax_values_and_memory_but_not_scores():
    more, less = energies().nominal, energies(replace(JOB, survivors=16)).nominal
    assert less.qk == more.qk
    assert less.softmax < more.softmax
    assert less.pv < more.pv
    assert less.memory < more.memory


@pytest.mark.parametrize(("option", "value"), [("technology", "3 nm"), ("dram", "core memory")])
def test_unknown_names_are_said_with_those_there_are(option: str, value: str):
    with pytest.raises(InputError, match=f"{option} must be one of .*, not '{value}'"):
        energies(**{option: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["dram"]["ddr3"][1].pop("source"), r"dram.ddr3\[1\] in x lacks the key 'source'"),
        (lambda content: content["dram"]["ddr3"][0].update(source="hearsay"), r"source of dram.ddr3\[0\] .*hearsay"),
        (lambda content: content["dram"]["ddr3"][0].update(value="much"), r"value in dram.ddr3\[0\] .*a number"),
        (lambda content: content["dram"]["ddr3"][0].update(value=-1), "above 0"),
        (lambda content: content["dram"]["ddr3"][0].update(value=float("nan")), "above 0"),
        (lambda content: content["dram"]["ddr3"][0].update(colour="red"), "unknown key 'colour'"),
        (
            lambda content: content["dram"].update(tape=[]),
            "dram.tape in x must be a list with an entry",
        ),
        (lambda content: content["dram"].update(tape={"value": 3}), "dram.tape in x must be a list"),
        (lambda content: content["dram"].update(tape=[3]), r"dram.tape\[0\] in x must be a mapping"),
        (
            lambda content: content["sram"]["sram_8kib"][0].pop("bytes"),
            r"sram_8kib\[0\] in x lacks the key 'bytes'",
        ),
        (lambda content: content["sram"]["sram_8kib"][0].update(bytes=0), r"bytes of sram.sram_8kib\[0\] in x must be"),
        (
            lambda content: content["operations"]["add_int8"][1].update(technology="3 nm"),
            "a technology of operations.add_int8 in x must be one of 45 nm, .*, not '3 nm'",
        ),
        (
            lambda content: content["operations"]["add_int8"].pop(0),
            "the first entry of operations.add_int8 in x must be for 45 nm",
        ),
        (lambda content: content.pop("scaling"), "lacks the key 'scaling'"),
        (lambda content: content.update(extra={}), "unknown key 'extra'"),
    ],
)
def test_a_bad_table_is_refused(change, message: str):
    content = deepcopy(CONTENT)
    change(content)
    with pytest.raises(InputError, match=message):
        parse(content, "x")


def test_a_table_of_one_s_own_is_parsed_as_ours():
    assert parse(deepcopy(CONTENT), "x").rates("16 nm", "hbm3").operations == TABLE.rates("16 nm", "hbm3").operations
    assert np.all(np.diff(TABLE.rates("7 nm", "hbm2", "most").sram) > 0)
