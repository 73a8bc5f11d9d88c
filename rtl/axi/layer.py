"""A descriptor on its way through the device: what it says, what follows from that, and the blocks it is cut into."""

from amaranth.hdl import Value
from amaranth.lib import data

from golden.device.config import DeviceConfig
from golden.device.descriptor import Descriptor, Flag
from golden.device.record import Record
from golden.key_sequence import WORD_BLOCKS
from rtl.axi.bundles import HEAD_BITS, last_beat_shape
from rtl.axi.read_master import Client
from rtl.bundles import index_shape


def descriptor_layout() -> data.StructLayout:
    """Return the layout of a descriptor's fields, each where it lies in memory."""
    return data.StructLayout({field.name: field.bits for field in Descriptor.layout()})


def record_layout() -> data.StructLayout:
    """Return the layout of a completion record, as it lies in memory."""
    return data.StructLayout({field.name: field.bits for field in Record.layout()})


def flag(descriptor: data.View, which: Flag) -> Value:
    """Return a flag of a descriptor."""
    return descriptor.flags[which.bit_length() - 1]


def layer_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of what a descriptor that passed the checks asks for.

    Some row may attend, by its position, to the keys from `first` to `last`. Rows of keys and of values have words up
    to `last_key_word` and `last_value_word`. They go through the scratchpad if they are `resident`. `last_position` is
    that of the last query. Of the page table the entries from `first_page` to `last_page` are needed, of a bitmap the
    words from `first_bitmap` to `last_bitmap`.
    """
    core = config.core
    page = index_shape(config.page_entries)
    bitmap = range(max(core.max_keys // WORD_BLOCKS, 2))
    return data.StructLayout(
        {
            "descriptor": descriptor_layout(),
            "first": core.position_bits,
            "last": core.position_bits,
            "last_position": core.position_bits,
            "last_key_word": last_beat_shape(config),
            "last_value_word": last_beat_shape(config),
            "resident": 1,
            "first_page": page,
            "last_page": page,
            "first_bitmap": bitmap,
            "last_bitmap": bitmap,
        }
    )


def block_layout(config: DeviceConfig) -> data.StructLayout:
    """Return the layout of a block of rows, a job to be.

    It has `last_row` + 1 rows at positions from `first_position` to `last_position`. It is the first or the last block
    of kv head `head`, and the last one of all is the `end`. `query`, `key` and `value` are where the kv head's rows
    begin; `output` is where its outputs do, or where this block's state goes; `state` is where its starting state is.
    """
    core = config.core
    addresses = dict.fromkeys(("query", "key", "value", "output", "state"), config.address_bits)
    return data.StructLayout(
        {
            "first_position": core.position_bits,
            "last_position": core.position_bits,
            "last_row": index_shape(core.rows),
            "head": HEAD_BITS,
            "first": 1,
            "last": 1,
            "end": 1,
            **addresses,
        }
    )


def place_rows(place: data.View, layer: data.View, client: Client, base: Value) -> list[Value]:
    """Return the assignments that say where rows lie, of keys or of values, of a kv head whose rows begin at `base`."""
    d = layer.descriptor
    stride, last_word = {
        Client.KEY: (d.key_row_stride, layer.last_key_word),
        Client.VALUE: (d.value_row_stride, layer.last_value_word),
    }[client]
    return [
        place.base.eq(base),
        place.row_stride.eq(stride),
        place.paged.eq(flag(d, Flag.PAGED)),
        place.page_shift.eq(d.page_shift),
        place.last_beat.eq(last_word),
    ]
