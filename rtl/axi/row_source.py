"""Brings the core the rows that its jobs ask for, of keys or of values, from memory or from the scratchpad."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import fill_layout, row_job_layout, row_word_layout
from rtl.axi.page_table import page_lookup_signature
from rtl.axi.read_master import Client, read_ports
from rtl.axi.request_joiner import read_request_layout
from rtl.axi.word_unpacker import read_word_layout
from rtl.interfaces import value_request_layout

JOBS_WAITING = 4
"""Jobs that are taken before their first request comes."""


class RowSource(wiring.Component):
    """Rows of keys for port k, or of values for port v, word after word; one such component for each.

    Each job says where its rows come from. Its requests follow, one a row, up to `last`: a row is read from memory, or
    from the scratchpad, where it waits until a fill has brought it. A fill reads the rows of a kv head into the half
    that is free; two heads can be there or on their way. Fills go before the rows of jobs that read from memory, and
    run beside jobs that read from the scratchpad.

    A row is asked for every cycle; a word a cycle leaves, without a gap between rows and between jobs that read from
    the same place. From a request on `wants` to one on `request` are 6 cycles; to a word of the scratchpad 5.

    Order that the engine keeps: a fill is offered (not necessarily taken) before the first request of a job that reads
    from it, and before any of a later job. Jobs of both kinds release halves in the order in which they were filled.

    Parameters
    ----------
    config : DeviceConfig
        The device.
    client : Client
        KEY or VALUE.

    Members
    -------
    fill : In
        Rows to bring into the scratchpad; taken when a half is free and the fill before is asked for. Not there without
        a scratchpad.
    filling : Out
        A fill was taken whose rows are not all asked for. Not there without a scratchpad.
    job : In
        Where the rows of the next job come from; up to `JOBS_WAITING` are taken ahead.
    wants : In
        Rows of the oldest job, by rising index: those of the key sequencer, or of the core's port v_req. `last` ends
        the job; without `wanted` no row comes.
    rows : Out
        Their words. `last` is on the last word of a row that was wanted with `last`.
    request, words : Out, In
        To and from the client of the read master.
    lookup : Out
        Of the page table. Not there without paging.
    """

    def __init__(self, config: DeviceConfig, client: Client):
        self.config = config
        self.client = client
        members = {
            "job": In(stream.Signature(row_job_layout(config))),
            "wants": In(stream.Signature(value_request_layout(config.core))),
            "rows": Out(stream.Signature(row_word_layout(config))),
            "request": Out(stream.Signature(read_request_layout(config))),
            "words": In(stream.Signature(read_word_layout(read_ports(config)[client]))),
        }
        if config.scratchpad_bytes:
            members |= {"fill": In(stream.Signature(fill_layout(config))), "filling": Out(1)}
        if config.page_entries:
            members["lookup"] = Out(page_lookup_signature(config))
        super().__init__(members)
