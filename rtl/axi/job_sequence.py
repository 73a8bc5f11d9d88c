"""From blocks of rows to jobs of the core, and to all that brings their data."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from golden import formats
from golden.device.config import DeviceConfig
from golden.device.descriptor import Flag
from golden.key_sequence import SequenceStatus
from rtl.axi.bundles import HEAD_BITS, row_job_layout
from rtl.axi.control_reader import control_word_layout
from rtl.axi.layer import block_layout, flag, layer_layout, place_rows
from rtl.axi.output_store import output_head_layout
from rtl.axi.query_source import query_head_layout
from rtl.axi.read_master import Client
from rtl.axi.state_source import state_job_layout
from rtl.interfaces import bitmap_layout, job_layout, key_count_layout, sequence_layout

OUTPUTS_WAITING = 4
"""Kv heads, or states, whose place is known before those of the head before are written: jobs begin before that."""


class JobSequence(wiring.Component):
    """Starts the jobs of a layer, each as soon as the core and the sources of its data take it.

    For each kv head it takes the scale, for each block the number of keys that the key sequencer counts. A job is
    offered 6 cycles after its command if the sequencer takes 5 (and those of a bitmap); the next block is taken when
    all have taken this one.

    Parameters
    ----------
    config : DeviceConfig
        The device.

    Members
    -------
    layer : In
        The layer; it stays while its jobs run.
    blocks : In
        Its blocks.
    scales, bitmaps : In
        From the control reader.
    key_fills, value_fills : In
        Kv heads whose fill was taken, of a layer that is resident. The head after them has been offered.
    command, bitmap, count : Out, Out, In
        To and from the key sequencer.
    query, output : Out
        Where the rows of a kv head lie; with EMIT_STATE of `output`, where the state of a block goes.
    job, keys, values, state : Out
        The job, to the core and to the sources of its keys, values and starting state.
    offered, last : Out
        A pulse: a job has been taken everywhere, and whether it is the layer's last.
    empty : Out
        A pulse: the key sequencer found no keys. No job follows.
    """

    def __init__(self, config: DeviceConfig):
        self.config = config
        core = config.core
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "blocks": In(stream.Signature(block_layout(config))),
                "scales": In(stream.Signature(control_word_layout())),
                "bitmaps": In(stream.Signature(control_word_layout())),
                "key_fills": In(HEAD_BITS),
                "value_fills": In(HEAD_BITS),
                "command": Out(stream.Signature(sequence_layout(core))),
                "bitmap": Out(stream.Signature(bitmap_layout(core))),
                "count": In(stream.Signature(key_count_layout(core))),
                "query": Out(stream.Signature(query_head_layout(config))),
                "output": Out(stream.Signature(output_head_layout(config))),
                "job": Out(stream.Signature(job_layout(core))),
                "keys": Out(stream.Signature(row_job_layout(config))),
                "values": Out(stream.Signature(row_job_layout(config))),
                "state": Out(stream.Signature(state_job_layout(config))),
                "offered": Out(1),
                "last": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        layer, d = self.layer, self.layer.descriptor
        block = Signal(block_layout(self.config))
        scale = Signal(32)
        keys = Signal(24)
        m.submodules.outputs = outputs = SyncFIFOBuffered(width=self.config.address_bits, depth=OUTPUTS_WAITING)
        self._describe(m, block, scale, keys, outputs)

        emits = flag(d, Flag.EMIT_STATE)
        filled = (self.key_fills >= block.head) & (flag(d, Flag.SHARED) | (self.value_fills >= block.head))
        with m.FSM():
            with m.State("BLOCK"):
                m.d.comb += self.blocks.ready.eq(1)
                m.d.sync += block.eq(self.blocks.payload)
                with m.If(self.blocks.valid):
                    m.next = "COMMAND"
                    with m.If(self.blocks.payload.first):
                        m.next = "HEAD"

            with m.State("HEAD"):
                taken = self._offer(m, "head", [(self.query, 1), (outputs, ~emits)])
                with m.If(taken):
                    m.next = "SCALE"

            with m.State("SCALE"):
                m.d.comb += self.scales.ready.eq(1)
                m.d.sync += scale.eq(self.scales.payload.data)
                with m.If(self.scales.valid):
                    m.next = "COMMAND"

            with m.State("COMMAND"):
                m.d.comb += self.command.valid.eq(1)
                with m.If(self.command.ready):
                    m.next = "COUNT"

            with m.State("COUNT"):
                # What a job reads from the scratchpad must be on its way before the job is known.
                m.d.comb += self.count.ready.eq(filled | ~layer.resident)
                m.d.sync += keys.eq(self.count.payload.keys)
                with m.If(self.count.valid & self.count.ready):
                    m.next = "JOB"
                    with m.If(self.count.payload.status != SequenceStatus.OK):
                        m.d.comb += self.empty.eq(1)
                        m.next = "STOPPED"

            with m.State("JOB"):
                ports = [(self.job, 1), (self.keys, 1), (self.values, 1), (self.state, flag(d, Flag.FROM_STATE))]
                taken = self._offer(m, "job", [*ports, (outputs, emits)])
                with m.If(taken):
                    m.d.comb += self.offered.eq(1)
                    m.next = "BLOCK"

            with m.State("STOPPED"):
                pass
        m.d.comb += self.last.eq(block.end)
        return m

    def _offer(self, m, name, ports):
        """Offer to each port that is wanted until it has taken; return whether all have, in this cycle or before."""
        sent = Signal(len(ports), name=f"{name}_sent")
        done = []
        for n, (port, wanted) in enumerate(ports):
            offers = wanted & ~sent[n]
            valid, ready = (port.w_en, port.w_rdy) if isinstance(port, SyncFIFOBuffered) else (port.valid, port.ready)
            m.d.comb += valid.eq(offers)
            done.append(~offers | ready)
        everywhere = Cat(done).all()
        with m.If(everywhere):
            m.d.sync += sent.eq(0)
        with m.Else():
            m.d.sync += sent.eq(sent | Cat(done))
        return everywhere

    def _describe(self, m, block, scale, keys, outputs):
        """Fill the payloads of all ports."""
        layer, d = self.layer, self.layer.descriptor
        core = self.config.core
        masked, emits = flag(d, Flag.BLOCK_MASK), flag(d, Flag.EMIT_STATE)

        # Without a block mask all keys are of one block.
        command = self.command.payload
        m.d.comb += [
            command.first.eq(layer.first),
            command.end.eq(layer.last + 1),
            command.block_shift.eq(core.position_bits),
            command.mask.eq(d.mask),
            command.window.eq(d.window),
            command.first_position.eq(block.first_position),
            command.last_position.eq(block.last_position),
            self.bitmap.valid.eq(1),
            self.bitmap.payload.blocks.eq(-1),
            self.bitmap.payload.last.eq(1),
        ]
        with m.If(masked):
            m.d.comb += [
                command.block_shift.eq(d.block_shift),
                self.bitmap.valid.eq(self.bitmaps.valid),
                self.bitmap.payload.blocks.eq(self.bitmaps.payload.data),
                self.bitmap.payload.last.eq(self.bitmaps.payload.last),
                self.bitmaps.ready.eq(self.bitmap.ready),
            ]

        query, output = self.query.payload, self.output.payload
        m.d.comb += [
            query.walk.base.eq(block.query),
            query.walk.row_stride.eq(d.query_row_stride),
            query.walk.head_stride.eq(d.query_head_stride),
            query.last_beat.eq(layer.last_key_word),
            outputs.w_data.eq(block.output),
            outputs.r_en.eq(self.output.ready),
            self.output.valid.eq(outputs.r_rdy),
            output.walk.base.eq(outputs.r_data),
            output.walk.row_stride.eq(d.output_row_stride),
            output.walk.head_stride.eq(d.output_head_stride),
            output.state.eq(emits),
            output.last_element.eq(d.value_dim - 1),
        ]
        for walk in (query.walk, output.walk):
            m.d.comb += [
                walk.last_head.eq(d.group - 1),
                walk.last_query.eq(d.queries - 1),
                walk.position.eq(d.first_position),
            ]
        with m.If(emits):
            m.d.comb += [output.walk.last_head.eq(0), output.walk.last_query.eq(0)]

        job = self.job.payload
        fields = {
            "head_dim": d.head_dim,
            "value_dim": d.value_dim,
            "rows": block.last_row + 1,
            "keys": keys,
            "multiplier": scale[: formats.MULTIPLIER_BITS],
            "shift": scale[formats.MULTIPLIER_BITS :],
            "tau": d.tau,
            "epsilon_shift": d.epsilon_shift,
            "target": d.target,
            "continue_tau": (d.target != 0) & (flag(d, Flag.CONTINUE_TAU) | ~block.first),
            "mask": d.mask,
            "window": d.window,
            "from_state": flag(d, Flag.FROM_STATE),
            "emit_state": emits,
            "shared": flag(d, Flag.SHARED),
        }
        m.d.comb += [job[name].eq(value) for name, value in fields.items()]

        for port, client, base in (
            (self.keys.payload, Client.KEY, block.key),
            (self.values.payload, Client.VALUE, block.value),
        ):
            resident = layer.resident if client is Client.KEY else layer.resident & ~flag(d, Flag.SHARED)
            m.d.comb += [
                *place_rows(port.place, layer, client, base),
                port.resident.eq(resident),
                port.first.eq(layer.first),
                port.release.eq(block.last),
            ]
        state = self.state.payload
        m.d.comb += [
            state.address.eq(block.state),
            state.last_row.eq(block.last_row),
            state.last_word.eq((d.value_dim - 1) >> (core.output_lanes.bit_length() - 1)),
        ]
