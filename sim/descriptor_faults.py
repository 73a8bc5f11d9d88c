"""Ways to spoil a descriptor, each of which a device has to tell from the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from golden import formats
from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor, Flag

Spoil = Callable[[random.Random, Descriptor, DeviceConfig], Descriptor]


def _version(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    return replace(d, version=d.version + rng.randint(1, 1000))


def _flags(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    return replace(d, flags=d.flags | 1 << rng.randint(8, 15))


def _dimension(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    name = rng.choice(["head_dim", "value_dim", "kv_heads", "group"])
    too_large = {"head_dim": config.core.max_head_dim + 1, "value_dim": config.core.max_value_dim + 1}
    return replace(d, **{name: rng.choice([0, too_large.get(name, 0)])})


def _length(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    limit = config.core.max_keys
    return replace(
        d,
        **rng.choice(
            [
                {"queries": 0},
                {"end_key": d.first_key},
                {"end_key": limit + rng.randint(1, 1 << 20)},
                {"end_key": (1 << 32) - 1},
                {"queries": limit - d.first_position + 1},
                {"first_position": limit},
                {"queries": (1 << 32) - 1},
            ]
        ),
    )


def _address(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    aligned = [
        part.name for part in Descriptor.layout() if config.capability.alignment(part.alignment) > 1 and part.bits > 16
    ]
    if rng.random() < 0.3:
        return replace(d, output_address=d.output_address | 1 << rng.randint(config.address_bits, 63))
    name = rng.choice(aligned)
    return replace(d, **{name: getattr(d, name) | 1})


def _mask(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    return replace(d, **rng.choice([{"mask": 3}, {"mask": 2, "window": 0}, {"mask": 2, "window": 1 << 31}]))


def _threshold(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    spoilt = [{"tau": rng.randint(0, formats.TAU_MIN - 1)}]
    if config.capability.error_bound:
        spoilt.append({"epsilon_shift": formats.EPSILON_SHIFT_MAX + 1})
    if config.capability.target_control:
        spoilt.append({"flags": d.flags | Flag.CONTINUE_TAU, "target": 0})
    return replace(d, **rng.choice(spoilt))


def _unsupported(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    return replace(d, **rng.choice(beyond(d, config)))


def beyond(d: Descriptor, config: DeviceConfig) -> list[dict[str, int]]:
    """Return ways to ask for what a device was built without."""
    capability = config.capability
    ways = (
        (capability.shared_values, {"flags": d.flags | Flag.SHARED}),
        (capability.error_bound, {"epsilon_shift": 1}),
        (capability.target_control, {"target": 1}),
        (capability.page_entries, {"flags": d.flags | Flag.PAGED}),
    )
    return [changes for there, changes in ways if not there]


def _page_shift(rng: random.Random, d: Descriptor, config: DeviceConfig) -> Descriptor:
    return replace(d, flags=d.flags | Flag.PAGED, page_shift=rng.choice([0, 3, 31, 255]))


DESCRIPTORS: dict[str, Spoil] = {
    "version": _version,
    "flags": _flags,
    "unsupported": _unsupported,
    "dimension": _dimension,
    "length": _length,
    "address": _address,
    "mask": _mask,
    "threshold": _threshold,
    "page shift": _page_shift,
}
"""Ways to spoil a descriptor."""
