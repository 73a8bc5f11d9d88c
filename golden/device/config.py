"""The configuration of a device, and what of it software can ask for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from golden.config import PRESETS, CoreConfig
from golden.device.packed import Alignment
from golden.errors import InputError

PAGE_BYTES = 4096
"""Bytes that an AXI burst may not cross a multiple of."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class Capability:
    """What a device can do: all that a descriptor is checked by. The registers from CAPABILITY on tell it.

    Parameters
    ----------
    rows, lanes, output_lanes : int
        Of the core's array, and of its o port.
    data_bytes, address_bits : int
        Of the memory bus.
    max_head_dim, max_value_dim, max_keys : int
        Largest sizes, as in `golden.config.CoreConfig`.
    shared_values, error_bound, target_control : int
        1 if there is the option.
    scratchpad_bytes : int
        Of K and of V each; 0 if there is none.
    page_entries : int
        Entries of the page table; 0 if there is no paging.
    """

    rows: int
    lanes: int
    output_lanes: int
    data_bytes: int
    address_bits: int
    max_head_dim: int
    max_value_dim: int
    max_keys: int
    shared_values: int
    error_bound: int
    target_control: int
    scratchpad_bytes: int
    page_entries: int

    @property
    def position_bits(self) -> int:
        """Width of a key index and of a row position."""
        return (self.max_keys - 1).bit_length()

    def alignment(self, alignment: Alignment) -> int:
        """Return the bytes that `alignment` stands for, a power of two."""
        return {
            Alignment.NONE: 1,
            Alignment.WORD: 4,
            Alignment.ROW: self.lanes,
            Alignment.OUTPUT: 2 * self.output_lanes,
        }[alignment]


@dataclass(frozen=True)
class DeviceConfig:
    """Size of a device: a core with its memory master, scratchpad and page table.

    Parameters
    ----------
    core : CoreConfig
        The core.
    data_bits : int
        Width of the memory bus. A power of two from 64 to 512; ``8 * core.lanes`` brings the core a beat of keys a
        cycle.
    address_bits : int
        Width of its addresses, 32 to 64.
    burst_beats : int
        Longest burst. A power of two from 1 to 256; no burst crosses 4 KiB.
    outstanding_reads : int
        Read bursts under way at a time, 2 to 256.
    buffer_beats : int
        Beats of the bus that the read buffers of K and of V hold, each. A power of two from `burst_beats` to 4096, at
        least 16.
    scratchpad_bytes : int
        Of K and of V, each, both halves of the double buffer together. A power of two from 1024 to 2**22, or 0 for
        none.
    page_entries : int
        Pages of keys that a descriptor may have. A power of two from 16 to 65536, or 0 for a device without paging.
    id_bits : int
        Width of the bus's IDs, 1 to 16. Every transfer has ID 0.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    core: CoreConfig
    data_bits: int = 128
    address_bits: int = 40
    burst_beats: int = 16
    outstanding_reads: int = 64
    buffer_beats: int = 256
    scratchpad_bytes: int = 65536
    page_entries: int = 4096
    id_bits: int = 1

    def __post_init__(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} is {value!r}; it must be an integer")
        checks: list[tuple[bool, str, str]] = [
            (32 <= self.address_bits <= 64, "address_bits", "from 32 to 64"),
            (2 <= self.outstanding_reads <= 256, "outstanding_reads", "from 2 to 256"),
            (1 <= self.id_bits <= 16, "id_bits", "from 1 to 16"),
        ]
        for name, least, most, none in (
            ("data_bits", 64, 512, False),
            ("burst_beats", 1, 256, False),
            ("buffer_beats", max(16, self.burst_beats), 4096, False),
            ("scratchpad_bytes", 1024, 1 << 22, True),
            ("page_entries", 16, 65536, True),
        ):
            value = getattr(self, name)
            holds = (_is_power_of_two(value) and least <= value <= most) or (none and value == 0)
            checks.append((holds, name, f"{'0 or ' if none else ''}a power of two from {least} to {most}"))
        for holds, name, allowed in checks:
            if not holds:
                raise InputError(f"{name} must be {allowed}, not {getattr(self, name)}")

    @property
    def beat_bytes(self) -> int:
        """Bytes B of a beat of the memory bus."""
        return self.data_bits // 8

    @property
    def burst_bytes(self) -> int:
        """Bytes of the longest burst, a power of two; no burst crosses a multiple of them."""
        return min(self.burst_beats * self.beat_bytes, PAGE_BYTES)

    @property
    def size(self) -> str:
        """What tells one device from another, in a few words."""
        return f"{self.core.size} core on a bus of {self.data_bits} bits"

    @property
    def capability(self) -> Capability:
        """What software can ask of it."""
        core = self.core
        return Capability(
            rows=core.rows,
            lanes=core.lanes,
            output_lanes=core.output_lanes,
            data_bytes=self.beat_bytes,
            address_bits=self.address_bits,
            max_head_dim=core.max_head_dim,
            max_value_dim=core.max_value_dim,
            max_keys=core.max_keys,
            shared_values=core.shared_values,
            error_bound=int(core.rows_per_budget != 0),
            target_control=core.target_control,
            scratchpad_bytes=self.scratchpad_bytes,
            page_entries=self.page_entries,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters by name, those of the core in ``core``."""
        return asdict(self)

    def override(self, **changes: int | None) -> DeviceConfig:
        """Return a copy in which every change that is not None replaces the parameter of its name, not of the core."""
        given = {name: value for name, value in changes.items() if value is not None}
        unknown = set(given) - set(SIZES)
        if unknown:
            raise InputError(f"the device has no parameter {sorted(unknown)[0]}")
        sizes = {name: getattr(self, name) for name in SIZES} | given
        return replace(self, **sizes)


SIZES = tuple(field.name for field in fields(DeviceConfig) if field.name != "core")
"""Parameters of a device beside its core."""

DEVICE_PRESETS: dict[str, DeviceConfig] = {
    name: DeviceConfig(core, data_bits=max(64, 8 * core.lanes), scratchpad_bytes=max(1 << 16, core.lanes << 12))
    for name, core in PRESETS.items()
}
"""Named configurations, one for each preset of the core.

The bus is as wide as a beat of keys, or 64 bits. Half of a scratchpad holds 512 keys of 64 elements (tiny, small,
default) or of 128 (wide); latent streams its keys.
"""


def device_preset(name: str) -> DeviceConfig:
    """Return the preset called `name`, or raise InputError with the names there are."""
    if name not in DEVICE_PRESETS:
        raise InputError(f"there is no preset {name!r}; presets are {', '.join(DEVICE_PRESETS)}")
    return DEVICE_PRESETS[name]
