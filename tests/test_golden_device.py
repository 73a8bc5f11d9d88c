"""The tables of the device: configuration, registers, descriptor and record, and the checks of a descriptor."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from golden import formats
from golden.config import PRESETS
from golden.device.config import DEVICE_PRESETS, Capability, DeviceConfig, device_preset
from golden.device.descriptor import FLAGS, Descriptor, Flag, check
from golden.device.packed import Alignment, Packed
from golden.device.record import Record
from golden.device.registers import COUNTER_BASE, COUNTERS, REGISTERS, WINDOW_BITS, Access, constant
from golden.device.states import pack_state, parse_state, state_bytes
from golden.device.status import DeviceStatus
from golden.errors import InputError
from golden.state import PartialState
from rtl.interfaces import ArrayUse

CAPABILITY = replace(DEVICE_PRESETS["default"].capability, shared_values=1, error_bound=1, target_control=1)
GOOD = Descriptor(queries=5, end_key=100, head_dim=64, value_dim=32, kv_heads=2, group=3)


# Configuration


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_of_the_core_has_a_device(name: str):
    config = device_preset(name)
    assert config.core == PRESETS[name]
    assert config.beat_bytes >= config.core.lanes, "a beat of keys a cycle"
    assert config.to_dict()["core"] == PRESETS[name].to_dict()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_bits": 32}, "data_bits must be a power of two from 64 to 512, not 32"),
        ({"data_bits": 96}, "data_bits must be a power of two from 64 to 512, not 96"),
        ({"address_bits": 31}, "address_bits must be from 32 to 64, not 31"),
        ({"burst_beats": 512}, "burst_beats must be a power of two from 1 to 256, not 512"),
        ({"burst_beats": 64, "buffer_beats": 32}, "buffer_beats must be a power of two from 64 to 4096, not 32"),
        ({"outstanding_reads": 1}, "outstanding_reads must be from 2 to 256, not 1"),
        ({"scratchpad_bytes": 512}, "scratchpad_bytes must be 0 or a power of two from 1024 to 4194304, not 512"),
        ({"page_entries": 17}, "page_entries must be 0 or a power of two from 16 to 65536, not 17"),
        ({"id_bits": 0}, "id_bits must be from 1 to 16, not 0"),
        ({"pages": 1}, "the device has no parameter pages"),
    ],
)
def test_an_impossible_device_is_one_sentence(changes: dict[str, int], sentence: str):
    with pytest.raises(InputError, match=f"^{sentence}$"):
        DEVICE_PRESETS["default"].override(**changes)


def test_a_parameter_that_is_no_integer_is_refused():
    with pytest.raises(InputError, match=r"page_entries is True; it must be an integer"):
        DeviceConfig(PRESETS["tiny"], page_entries=True)
    with pytest.raises(InputError, match="there is no preset 'huge'; presets are tiny"):
        device_preset("huge")


def test_zero_leaves_scratchpad_and_paging_out():
    capability = DEVICE_PRESETS["tiny"].override(scratchpad_bytes=0, page_entries=0).capability
    assert (capability.scratchpad_bytes, capability.page_entries) == (0, 0)


# Registers


def test_registers_do_not_overlap_and_fit_the_window():
    offsets = [register.offset for register in REGISTERS]
    assert offsets == sorted(set(offsets))
    assert all(offset % 4 == 0 for offset in offsets)
    assert offsets[-1] < 1 << WINDOW_BITS
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)
    for register in REGISTERS:
        used = 0
        for field in register.fields:
            assert field.mask >> 32 == 0
            assert not used & field.mask, f"{register.name}.{field.name}"
            used |= field.mask
            assert field.reset >> field.bits == 0
            assert field.bits == 1 or field.access is not Access.PULSE
        assert (register.fields[0].name == "value") == (len(register.fields) == 1)


def test_what_a_device_was_built_with_is_in_its_registers():
    names = [field.capability for register in REGISTERS for field in register.fields if field.capability]
    assert sorted(names) == sorted(Capability.__dataclass_fields__)
    for config in DEVICE_PRESETS.values():
        # The largest values fit as well.
        for extreme in (config, config.override(data_bits=512, address_bits=64, scratchpad_bytes=1 << 22)):
            for register in REGISTERS:
                for field in register.fields:
                    if field.access is Access.CONSTANT:
                        assert constant(field, extreme.capability) >> field.bits == 0


def test_counters_are_the_uses_of_the_array_and_more():
    names = [counter.name for counter in COUNTERS]
    first = names.index("QK")
    assert names[first : first + len(ArrayUse)] == [use.name for use in ArrayUse]
    halves = [register for register in REGISTERS if register.offset >= COUNTER_BASE]
    assert [register.name for register in halves] == [f"{name}_{half}" for name in names for half in ("LO", "HI")]


# Structures in memory


@pytest.mark.parametrize(("structure", "size"), [(Descriptor, 256), (Record, 64)])
def test_fields_lie_naturally_and_apart(structure: type[Packed], size: int):
    end = 0
    for field in structure.layout():
        assert field.offset >= end
        assert field.offset % (field.bits // 8) == 0
        end = field.offset + field.bits // 8
    assert end <= structure.SIZE == size


def test_a_descriptor_is_little_endian_at_its_offsets():
    content = replace(GOOD, tag=0x01020304, key_address=0x1122334455667788, tau=640, mask_head_stride=77).pack()
    assert content[0:2] == b"\x01\x00"
    assert content[4:8] == b"\x04\x03\x02\x01"
    assert struct.unpack_from("<Q", content, 16) == (0x1122334455667788,)
    assert struct.unpack_from("<IHHHH", content, 80)[0] == 100
    assert struct.unpack_from("<HHHH", content, 96) == (64, 32, 2, 3)
    assert struct.unpack_from("<H", content, 108) == (640,)
    assert struct.unpack_from("<I", content, 160) == (77,)
    assert not any(content[164:])


@pytest.mark.parametrize("structure", [Descriptor, Record])
def test_structures_come_back_from_their_bytes(structure: type[Packed]):
    values = {
        field.name: (0x9E3779B97F4A7C15 * (n + 1)) % (1 << field.bits) for n, field in enumerate(structure.layout())
    }
    assert structure.parse(structure(**values).pack()) == structure(**values)
    with pytest.raises(InputError, match=f"has {structure.SIZE} bytes, not 3"):
        structure.parse(b"abc")


def test_a_value_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="kv_heads must be from 0 to 65535, not 65536"):
        replace(GOOD, kv_heads=65536)
    with pytest.raises(InputError, match="tag must be from 0 to 4294967295, not -1"):
        replace(GOOD, tag=-1)
    with pytest.raises(InputError, match=r"queries is 2\.0; it must be an integer"):
        replace(GOOD, queries=2.0)
    assert replace(GOOD, queries=np.int64(2)).pack() == replace(GOOD, queries=2).pack()


@pytest.mark.parametrize("lanes", [1, 4, 8])
@pytest.mark.parametrize("value_dim", [1, 8, 13])
def test_states_come_back_from_their_bytes(lanes: int, value_dim: int):
    rng = np.random.default_rng(1)
    state = PartialState(
        np.array([formats.NO_MAXIMUM, -3, 511]),
        np.array([0, 1, (1 << 32) - 1]),
        rng.integers(-(1 << 39), 1 << 39, (3, value_dim)),
    )
    content = pack_state(state, lanes)
    assert len(content) == state_bytes(3, value_dim, lanes)
    assert parse_state(content, 3, value_dim, lanes) == state


# Checks


def expectations() -> list[tuple[dict[str, int], DeviceStatus]]:
    """Return changes of a good descriptor, and how the device must end it."""
    s = DeviceStatus
    paged = {"flags": Flag.PAGED, "page_shift": 4}
    cases = [
        ({}, s.OK),
        ({"version": 0}, s.DESCRIPTOR),
        ({"version": 2}, s.DESCRIPTOR),
        *(({"flags": 1 << bit}, s.DESCRIPTOR) for bit in range(16) if not FLAGS >> bit & 1),
        ({"flags": Flag.EMIT_STATE | Flag.FROM_STATE | Flag.SHARED | Flag.INTERRUPT}, s.OK),
        *(({name: value}, s.DIMENSION) for name in ("head_dim", "value_dim") for value in (0, 65, 0xFFFF)),
        ({"head_dim": 1, "value_dim": 64}, s.OK),
        ({"head_dim": 31, "flags": Flag.SHARED}, s.DIMENSION),
        ({"head_dim": 32, "flags": Flag.SHARED}, s.OK),
        ({"kv_heads": 0}, s.DIMENSION),
        ({"group": 0}, s.DIMENSION),
        ({"queries": 0}, s.LENGTH),
        ({"end_key": 0}, s.LENGTH),
        ({"first_key": 100}, s.LENGTH),
        ({"first_key": 99}, s.OK),
        ({"end_key": 65536}, s.OK),
        ({"end_key": 65537}, s.LENGTH),
        ({"end_key": 0xFFFFFFFF}, s.LENGTH),
        ({"first_position": 65531}, s.OK),
        ({"first_position": 65532}, s.LENGTH),
        ({"first_position": 0xFFFFFFFF, "queries": 0xFFFFFFFF}, s.LENGTH),
        ({"mask": 3}, s.MASK),
        ({"mask": 1}, s.OK),
        ({"mask": 2}, s.MASK),
        ({"mask": 2, "window": 1}, s.OK),
        ({"mask": 2, "window": 65536}, s.OK),
        ({"mask": 2, "window": 65537}, s.MASK),
        ({"mask": 1, "window": 0xFFFFFFFF}, s.OK),
        ({"flags": Flag.BLOCK_MASK, "block_shift": 16}, s.OK),
        ({"flags": Flag.BLOCK_MASK, "block_shift": 17}, s.MASK),
        ({"block_shift": 255, "page_shift": 255, "page_count": 0}, s.OK),
        ({"tau": 63}, s.THRESHOLD),
        ({"tau": 64, "epsilon_shift": 15, "target": 65535}, s.OK),
        ({"epsilon_shift": 16}, s.THRESHOLD),
        ({"flags": Flag.CONTINUE_TAU}, s.THRESHOLD),
        ({"flags": Flag.CONTINUE_TAU, "target": 1}, s.OK),
        (paged, s.OK),
        (paged | {"page_shift": 3}, s.PAGE),
        (paged | {"page_shift": 16}, s.OK),
        (paged | {"page_shift": 17}, s.PAGE),
        (paged | {"end_key": 65536}, s.OK),
    ]
    alignments = {Alignment.WORD: 4, Alignment.ROW: 16, Alignment.OUTPUT: 8}
    for field in Descriptor.layout():
        if field.alignment is not Alignment.NONE:
            aligned = alignments[field.alignment]
            cases += [({field.name: aligned}, s.OK), ({field.name: aligned // 2}, s.ADDRESS)]
        if field.bits == 64:
            cases += [({field.name: (1 << 40) - 64}, s.OK), ({field.name: 1 << 40}, s.ADDRESS)]
            cases += [({field.name: 1 << 63}, s.ADDRESS)]
    return cases


@pytest.mark.parametrize(("changes", "status"), expectations())
def test_a_descriptor_is_checked(changes: dict[str, int], status: DeviceStatus):
    assert check(replace(GOOD, **changes), CAPABILITY) is status


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("shared_values", {"flags": Flag.SHARED}),
        ("error_bound", {"epsilon_shift": 4}),
        ("target_control", {"target": 1}),
        ("target_control", {"flags": Flag.CONTINUE_TAU}),
        ("page_entries", {"flags": Flag.PAGED, "page_shift": 4}),
    ],
)
def test_what_a_device_lacks_is_unsupported(option: str, changes: dict[str, int]):
    descriptor = replace(GOOD, **changes)
    assert check(descriptor, CAPABILITY) is not DeviceStatus.UNSUPPORTED
    assert check(descriptor, replace(CAPABILITY, **{option: 0})) is DeviceStatus.UNSUPPORTED


def test_pages_are_counted_from_key_0():
    few = replace(CAPABILITY, page_entries=16)
    descriptor = replace(GOOD, flags=Flag.PAGED, page_shift=4, first_key=250, end_key=256)
    assert check(descriptor, few) is DeviceStatus.OK
    assert check(replace(descriptor, end_key=257), few) is DeviceStatus.PAGE


def test_of_several_faults_the_lowest_code_is_reported():
    wrong = {
        DeviceStatus.PAGE: {"flags": Flag.PAGED, "page_shift": 0},
        DeviceStatus.THRESHOLD: {"tau": 0},
        DeviceStatus.MASK: {"mask": 3},
        DeviceStatus.ADDRESS: {"scale_address": 2},
        DeviceStatus.LENGTH: {"queries": 0},
        DeviceStatus.DIMENSION: {"group": 0},
        DeviceStatus.UNSUPPORTED: {"epsilon_shift": 16},
        DeviceStatus.DESCRIPTOR: {"version": 9},
    }
    capability = replace(CAPABILITY, error_bound=0)
    descriptor = GOOD
    for status, changes in wrong.items():
        descriptor = replace(descriptor, **changes)
        assert check(descriptor, capability) is status


def test_every_code_and_flag_says_what_it_means():
    assert [status.value for status in DeviceStatus] == list(range(len(DeviceStatus)))
    assert all(status.meaning for status in DeviceStatus)
    assert all(flag.meaning for flag in Flag)
    assert Flag.PAGED | Flag.SHARED == 12
