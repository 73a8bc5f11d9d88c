"""A core behind a key sequencer: its jobs stream the keys that static masks leave."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from golden.config import CoreConfig
from rtl.core import LeanAttentionCore, core_ports
from rtl.key_sequencer import KeySequencer, sequencer_ports

SEQUENCER_PORTS = ("command", "bitmap", "k_req")
"""Streams of the sequencer that the core does not take itself."""


def masked_core_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """Return the streams of a core of `config` behind a key sequencer, by name."""
    sequencer = sequencer_ports(config)
    return core_ports(config) | {name: sequencer[name] for name in SEQUENCER_PORTS}


class MaskedCore(wiring.Component):
    """A core whose jobs have as many keys as the key sequencer counts, whatever they say themselves.

    A job is taken together with the count of its command, so that its first key is requested 7 cycles later. All else
    is that of the two components. A command with an error counts no keys, and its job is rejected.

    Parameters
    ----------
    config : CoreConfig
        Size of the core.

    Members
    -------
    job, q, state, k, v_req, v, o, stats
        As of the core; `keys` of a job does not matter.
    command, bitmap : In
        As of the sequencer: a command, and a packet of bitmap, a job.
    k_req : Out
        Keys that are to come on k. One that is not `wanted` asks for a beat of anything, with `last`.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__(masked_core_ports(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = KeySequencer(self.config)
        m.submodules.core = core = LeanAttentionCore(self.config)
        for component, names in ((core, core_ports(self.config)), (sequencer, SEQUENCER_PORTS)):
            for name in names:
                inner, outer = getattr(component, name), wiring.flipped(getattr(self, name))
                if name != "job":
                    wiring.connect(m, inner, outer)
        count = sequencer.count
        m.d.comb += [
            core.job.payload.eq(self.job.payload),
            core.job.payload.keys.eq(count.payload.keys),
            core.job.valid.eq(self.job.valid & count.valid),
            self.job.ready.eq(core.job.ready & count.valid),
            count.ready.eq(core.job.ready & self.job.valid),
        ]
        return m
