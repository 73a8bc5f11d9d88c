"""Bytes by level of the memory: what a scratchpad saves, by hand and by a scratchpad played key by key."""

from dataclasses import replace

import pytest

from golden.config import PRESETS
from perf_model.hardware import Hardware
from perf_model.memory_traffic import Traffic, schedule_traffic
from perf_model.schedule import JobStream, schedule
from perf_model.workload import Workload, load_workload

DEFAULT = PRESETS["default"]
HEAD = Workload("x", heads=1, head_dim=64, layers=1, length=64)
LATENT = Workload(
    "x", heads=8, kv_heads=1, head_dim=64, value_dim=48, layers=1, length=256, shared_values=True, chunk=6
)


def traffic_of(workload: Workload, scratchpad: int, survival: float = 1.0, cores: int = 1) -> Traffic:
    run = schedule(workload, Hardware(DEFAULT, cores=cores), survival)
    return schedule_traffic(DEFAULT, workload, run, scratchpad)


def test_a_core_that_captures_values_needs_no_room_for_them():
    core = replace(DEFAULT, shared_values=1)
    run = schedule(LATENT, Hardware(core))
    for scratchpad in (0, 64 * 16, 64 * 256):
        traffic = schedule_traffic(core, LATENT, run, scratchpad)
        assert traffic.ports["v"] == 0
        keys = traffic.dram - traffic.ports["q"] - traffic.ports["o"]
        # Three blocks of rows: what the scratchpad holds of the keys is not read again.
        assert keys == 64 * (256 + 2 * (256 - scratchpad // 64))
    assert traffic.dram == traffic.compulsory


def played(stream: JobStream, ranges: list[range], capacity: int) -> list[int]:
    """Return the keys that each job fetches, if of those that the next one streams as well so many are kept."""
    held: set[int] = set()
    fetched = []
    for n, keys in enumerate(ranges):
        fetched.append(len(set(keys) - held))
        after = set(ranges[n + 1]) if n + 1 < len(ranges) else set()
        held = set(sorted(set(keys) & after)[:capacity])
    return fetched


def test_a_head_without_a_scratchpad_is_streamed_from_the_dram_by_each_block():
    traffic = traffic_of(HEAD, 0, 0.5)
    kept = schedule(HEAD, Hardware(DEFAULT), 0.5).jobs.survivors.sum()
    assert traffic.dram == 64 * 64 + 4 * 64 * 64 + kept * 64 + 64 * 64 * 2
    assert traffic.dram == sum(traffic.ports[name] for name in ("q", "k", "v", "o"))
    assert traffic.scratchpad == 0
    assert traffic.compulsory == 64 * 64 * 5


def test_a_head_that_fits_is_read_once():
    traffic = traffic_of(HEAD, 64 * 128, 0.5)
    assert traffic.dram == traffic.compulsory, "each value is wanted by some block: at most all of them are fetched"
    assert traffic.scratchpad == 2 * 64 * 64 + traffic.ports["k"] + traffic.ports["v"]
    few = traffic_of(HEAD, 64 * 128, 0.05)
    assert few.dram == few.compulsory - 64 * 64 + few.ports["v"], "few survivors are fetched when they are wanted"


def test_part_of_a_head_is_held_where_not_all_of_it_fits():
    # 24 of 64 keys with their values; a byte less, and it is one fewer.
    partly = traffic_of(HEAD, 24 * 128)
    assert partly.dram == 64 * 64 * 3 + 128 * (64 + 3 * (64 - 24))
    assert traffic_of(HEAD, 24 * 128 - 1).dram == partly.dram + 3 * 128
    assert traffic_of(HEAD, 127).scratchpad == 0


@pytest.mark.parametrize("capacity", [0, 5, 20, 50, 1000])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 30)])
def test_fetches_are_those_of_a_scratchpad_played_key_by_key(capacity: int, causal: bool, window: int | None):
    workload = replace(HEAD, length=150, causal=causal, window=window)
    (stream,) = schedule(workload, Hardware(DEFAULT)).streams
    _, first, end = workload.row_blocks(DEFAULT, 150)
    ranges = [range(*pair) for pair in zip(first, end, strict=True)]
    assert stream.fetched(capacity).tolist() == played(stream, ranges, capacity)


def test_decode_streams_past_the_scratchpad_and_leaves_dropped_values_in_the_dram():
    decode = replace(HEAD, length=1000, phase="decode", heads=4, kv_heads=1)
    traffic = traffic_of(decode, 1 << 20, 0.1)
    assert traffic.dram == 4 * 64 * 3 + 1000 * 64 + 100 * 64
    assert traffic.dram < traffic.compulsory
    assert traffic.scratchpad == 0


def test_sequences_do_not_share_their_keys():
    ragged = replace(HEAD, length=(20, 40, 20))
    traffic = traffic_of(ragged, 1 << 20)
    assert traffic.compulsory == sum(traffic_of(replace(HEAD, length=n), 0).compulsory for n in (20, 40, 20))
    assert traffic.dram == traffic.compulsory


def test_values_that_are_part_of_keys_come_with_them_if_there_is_room_for_those_that_wait():
    # 48 rows in three blocks over 256 keys of 64 bytes; 32 score slots and two packs of 16 may wait.
    queries, outputs, keys = 48 * 64, 48 * 48 * 2, 256 * 64
    assert traffic_of(LATENT, 1 << 20).dram == traffic_of(LATENT, 0).compulsory == queries + outputs + keys
    waiting = 64 * 64
    assert traffic_of(LATENT, waiting).dram == queries + outputs + 3 * keys
    assert traffic_of(LATENT, waiting + 100 * 64).dram == queries + outputs + 3 * keys - 2 * 100 * 64
    # Without that room values of survivors are fetched again.
    assert traffic_of(LATENT, 0).dram == queries + outputs + 3 * keys + 3 * 256 * 48
    assert traffic_of(LATENT, 64 * 64 - 1).dram == queries + outputs + 3 * keys + 3 * (256 - 63) * 48


def test_a_window_s_head_needs_room_for_the_window_only():
    windowed = replace(HEAD, length=500, window=30)
    assert (
        traffic_of(windowed, 45 * 128).dram == traffic_of(windowed, 1 << 20).dram == traffic_of(windowed, 0).compulsory
    )
    decode = replace(windowed, phase="decode")
    assert traffic_of(decode, 0).compulsory == 64 * 3 + 30 * 128


def test_partial_states_stay_on_the_chip():
    decode = replace(HEAD, length=2048, phase="decode")
    whole = traffic_of(decode, 0)
    run = schedule(decode, Hardware(DEFAULT, cores=4, partition="lean"))
    split = schedule_traffic(DEFAULT, decode, run, 0)
    assert split.ports["o"] == 4 * (1 + 16) * 3 * 8
    assert split.ports["q"] == 4 * whole.ports["q"] == 4 * 64
    # Of the queries each core gets its own copy, from the DRAM as well.
    assert whole.dram - whole.ports["q"] == split.dram - split.ports["q"]


def test_traffic_of_a_model_is_that_of_its_heads():
    bert = load_workload("bert-base")
    one, many = (traffic_of(bert, 128 * 1024, cores=cores) for cores in (1, 3))
    assert one.times(144).compulsory == many.times(12).compulsory
    assert one.times(144).ports == many.times(12).ports
    # Three cores get every head's K and V each.
    assert many.times(12).dram - one.times(144).dram == 144 * 2 * 2 * 512 * 64
