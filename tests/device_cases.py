"""Random descriptors for the components of a device, good ones and wrong ones; what they point to is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden import formats
from golden.device.config import DeviceConfig
from golden.device.descriptor import FLAGS, Descriptor, Flag, check
from golden.device.status import DeviceStatus
from golden.masks import MaskKind


def random_descriptor(rng: np.random.Generator, config: DeviceConfig, rows_max: int) -> Descriptor:
    """Return a good descriptor of at most so many rows a kv head."""
    capability = config.capability

    def multiple(alignment: int, bits: int) -> int:
        return int(rng.integers(1 << bits - 1)) // alignment * alignment

    addresses = {
        part.name: multiple(capability.alignment(part.alignment), min(part.bits, capability.address_bits))
        for part in Descriptor.layout()
        if part.name.endswith(("_address", "_stride"))
    }
    group = int(rng.choice([1, 2, 3, 4, 9, 16]))
    queries = int(rng.integers(1, max(rows_max // group, 1) + 1))
    first_key = int(rng.integers(0, capability.max_keys - 1))
    mask = MaskKind(int(rng.integers(3)))
    end_key = int(rng.integers(first_key + 1, min(capability.max_keys, first_key + 500) + 1))
    first_position = int(rng.integers(0, capability.max_keys - queries + 1))
    window = int(rng.integers(1, capability.max_keys + 1))
    if rng.random() < 0.7:
        # Where the mask cuts the keys.
        first_position = min(int(rng.integers(first_key, end_key)), capability.max_keys - queries)
        window = int(rng.integers(1, 300))
    absent = [] if capability.shared_values else [Flag.SHARED]
    absent += [] if config.page_entries else [Flag.PAGED]
    target = int(rng.integers(1, 1 << formats.TARGET_BITS)) if capability.target_control and rng.random() < 0.5 else 0
    absent += [] if target else [Flag.CONTINUE_TAU]
    flags = int(rng.integers(FLAGS + 1)) & ~sum(absent)
    head_dim, value_dim = (
        int(rng.integers(1, largest + 1)) for largest in (capability.max_head_dim, capability.max_value_dim)
    )
    descriptor = Descriptor(
        flags=flags,
        tag=int(rng.integers(1 << 32)),
        queries=queries,
        first_key=first_key,
        end_key=end_key,
        first_position=first_position,
        window=window if mask == MaskKind.WINDOW else 0,
        head_dim=head_dim,
        value_dim=min(head_dim, value_dim) if flags & Flag.SHARED else value_dim,
        kv_heads=int(rng.integers(1, 4)),
        group=group,
        mask=int(mask),
        block_shift=int(rng.integers(0, capability.position_bits + 1)),
        page_shift=int(rng.integers(4, capability.position_bits + 1)),
        page_count=int(rng.integers(1, 1000)),
        target=target,
        epsilon_shift=int(rng.integers(formats.EPSILON_SHIFT_MAX + 1)) if capability.error_bound else 0,
        tau=int(rng.integers(formats.TAU_MIN, formats.TAU_KEEP_ALL + 1)),
        **addresses,
    )
    if check(descriptor, capability) is not DeviceStatus.OK:
        # Too many pages or blocks: larger ones do.
        shift = capability.position_bits
        descriptor = replace(descriptor, block_shift=shift, page_shift=shift)
    assert check(descriptor, capability) is DeviceStatus.OK
    return descriptor


def spoilt_descriptor(rng: np.random.Generator, descriptor: Descriptor, faults: int) -> Descriptor:
    """Return a descriptor with so many fields that hold anything, often a number at a corner."""
    for part in rng.permutation(np.array(Descriptor.layout(), dtype=object))[:faults]:
        corners = [0, 1, 3, 1 << part.bits - 1, (1 << part.bits) - 1, getattr(descriptor, part.name) + 1]
        anything = int(rng.integers(1 << min(part.bits, 62)))
        value = int(corners[rng.integers(len(corners))]) if rng.random() < 0.7 else anything
        descriptor = replace(descriptor, **{part.name: value % (1 << part.bits)})
    return descriptor
