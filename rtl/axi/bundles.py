"""Bundles between the components of the memory side."""

from amaranth.lib import data

from golden import formats
from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor
from rtl.bundles import index_shape

_BITS = {part.name: part.bits for part in Descriptor.layout()}
STRIDE_BITS = _BITS["key_row_stride"]
GROUP_BITS = _BITS["group"]
QUERY_BITS = _BITS["queries"]
HEAD_BITS = _BITS["kv_heads"]
PAGE_SHIFT_BITS = 5


def rows_place_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of where the rows of keys, or of values, of a kv head lie in memory.

    `base` is the address of row 0, of the pool's page 0 if `paged`, the head's part included. A page has
    ``2**page_shift`` rows; where it lies, the page table says, as an offset to `base`. `last_beat` counts the words
    of a row from 0.
    """
    return data.StructLayout(
        {
            "base": config.address_bits,
            "row_stride": STRIDE_BITS,
            "paged": 1,
            "page_shift": PAGE_SHIFT_BITS,
            "last_beat": last_beat_shape(config),
        }
    )


def fill_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of a command to bring rows into the scratchpad: those of keys `first` to `last`."""
    core = config.core
    return data.StructLayout(
        {
            "place": rows_place_layout(config),
            "first": core.position_bits,
            "last": core.position_bits,
        }
    )


def row_job_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of where a job's rows come from.

    If `resident`, from the scratchpad, whose oldest half begins with key `first`; `release` frees that half after the
    job. Otherwise from memory, by `place`.
    """
    core = config.core
    return data.StructLayout(
        {
            "place": rows_place_layout(config),
            "resident": 1,
            "first": core.position_bits,
            "release": 1,
        }
    )


def row_word_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of a word of a row on its way to the core: `last` is on the last word of a job's last row."""
    core = config.core
    return data.StructLayout({"data": core.lanes * formats.DATA_BITS, "index": core.position_bits, "last": 1})


def last_beat_shape(config: DeviceConfig) -> range:
    """Return the shape of the number of a row's last word, of keys or of values."""
    core = config.core
    longest = max(core.max_head_dim, core.max_value_dim)
    return index_shape(core.head_beats(longest))


def walk_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of the rows of a kv head: for each query in turn those of all query heads of the group.

    Row n is at ``base + (n // group) * row_stride + (n % group) * head_stride``, at position
    ``position + n // group``. `last_head` and `last_query` count from 0.
    """
    return data.StructLayout(
        {
            "base": config.address_bits,
            "row_stride": STRIDE_BITS,
            "head_stride": STRIDE_BITS,
            "last_head": GROUP_BITS,
            "last_query": QUERY_BITS,
            "position": config.core.position_bits,
        }
    )
