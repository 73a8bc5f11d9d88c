"""The page table: numbers of pages in memory become offsets to the pools of keys and of values."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import STRIDE_BITS
from rtl.bundles import index_shape

ENTRY_BITS = 32


def page_load_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the load port: entries `first` to `last` are to come; the pool's pages and their strides in bytes."""
    page = index_shape(config.page_entries)
    return data.StructLayout(
        {
            "first": page,
            "last": page,
            "page_count": ENTRY_BITS,
            "key_stride": STRIDE_BITS,
            "value_stride": STRIDE_BITS,
        }
    )


def page_lookup_signature(config: DeviceConfig) -> wiring.Signature:
    """Return the signals of a lookup, seen from who looks up.

    While `enable` is high, `offset` is that of page `page` in the next cycle; otherwise it keeps. Pages below `loaded`
    (and not below the first that was loaded) can be looked up.
    """
    page = index_shape(config.page_entries)
    return wiring.Signature(
        {
            "enable": Out(1),
            "page": Out(page),
            "offset": In(config.address_bits),
            "loaded": In(range(config.page_entries + 1)),
        }
    )


class PageTable(wiring.Component):
    """Offsets of pages of keys and of values, ``number * stride``, multiplied once when the table is loaded.

    An entry is taken every second cycle, and can be looked up 6 cycles later, while the others are still coming. A new
    load forgets the table before: it may only come when nothing is looked up any more.

    Parameters
    ----------
    config : DeviceConfig
        The device; its `page_entries` are not 0.

    Members
    -------
    load : In
        Which entries come. Taken when those of the load before have come.
    entries : In
        Page numbers, of 32 bits.
    key, value : In
        Lookups of keys and values.
    fault : Out
        A pulse: an entry is not below `page_count`.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "load": In(stream.Signature(page_load_layout(config))),
                "entries": In(stream.Signature(data.StructLayout({"data": ENTRY_BITS}))),
                "key": In(page_lookup_signature(config)),
                "value": In(page_lookup_signature(config)),
                "fault": Out(1),
            }
        )
