"""Takes the core's output packets to memory."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.device.config import DeviceConfig
from rtl.axi.bundles import walk_layout
from rtl.axi.write_master import write_beat_layout
from rtl.interfaces import output_layout


def output_head_layout(config: DeviceConfig) -> data.StructLayout:
    """Payload of the head port: where the output of a kv head's jobs goes.

    Outputs go to the rows of `walk`, of `last_element` + 1 elements each. With `state` each packet goes to a row of the
    walk, whatever its length: a walk of states has one head and a query a block.
    """
    return data.StructLayout(
        {"walk": walk_layout(config), "state": 1, "last_element": range(config.core.max_value_dim)}
    )


class OutputStore(wiring.Component):
    """Writes the output packets of a kv head's jobs: rows where the walk says, or states each in one piece.

    Words that follow each other in one beat of the bus are written together. Bytes past the last element of a row are
    not written. A word is taken every cycle, if it is no wider than a beat, otherwise a beat is written every cycle. A
    beat is offered once the next word lies in another one, or the packet ends; with a packet ends a burst.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    head : In
        Where the packets of a kv head go; taken when the last word of the head before was.
    o : In
        The core's port. Nothing is taken before its head.
    beats : Out
        To the write master.
    busy : Out
        A head was taken whose output has not all gone to `beats`.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        super().__init__(
            {
                "head": In(stream.Signature(output_head_layout(config))),
                "o": In(stream.Signature(output_layout(config.core))),
                "beats": Out(stream.Signature(write_beat_layout(config))),
                "busy": Out(1),
            }
        )
