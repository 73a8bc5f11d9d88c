"""Drives the core's streams in cocotb: a source or sink a port, and the memory behind them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cocotb.triggers import FallingEdge

from golden.config import CoreConfig
from golden.memory import Memory
from rtl import interfaces
from sim.memory import PlayedMemory
from sim.stimulus import Stimulus, job_word

MEMORY_PORTS = ("q", "state", "k", "v")
INPUTS = ("job", *MEMORY_PORTS)
OUTPUTS = ("v_req", "o", "stats")
SEQUENCER_INPUTS, SEQUENCER_OUTPUTS = ("command", "bitmap"), ("k_req",)
"""Ports that a core behind a key sequencer has as well."""

IDLE_CYCLES_MAX = 20_000


@dataclass
class Traffic:
    """When a port moved, and how often."""

    transfers: int = 0
    first_cycle: int = 0
    last_cycle: int = 0

    def count(self, cycle: int) -> None:
        """Note a transfer in `cycle`."""
        if not self.transfers:
            self.first_cycle = cycle
        self.transfers += 1
        self.last_cycle = cycle


@dataclass
class Recording:
    """What came out of a run.

    Parameters
    ----------
    packets : list of list of int
        Payloads of each job's output packet.
    records : list of int
        Payloads of the stats port.
    requests : list of list of int
        For each job, the key indices whose values were wanted.
    traffic : dict of str to Traffic
        Transfers of each port.
    """

    packets: list[list[int]] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    requests: list[list[int]] = field(default_factory=list)
    traffic: dict[str, Traffic] = field(default_factory=lambda: {name: Traffic() for name in INPUTS + OUTPUTS})


class Source:
    """Offers the words of a queue on an input port."""

    def __init__(self, dut, name: str):
        self.name = name
        self.queue: deque[int | None] = deque()
        self._valid, self._ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self._valid.value = 0
        self._payload.value = 0
        self._driving = False
        self._holding = False

    def step(self, stalled: bool) -> bool:
        """Drive one cycle; return whether a word is taken in it. A word once offered stays until it is taken."""
        if not self._holding:
            offer = bool(self.queue) and self.queue[0] is not None and not stalled
            if offer != self._driving:
                self._valid.value = offer
                self._driving = offer
            if not offer:
                return False
            self._payload.value = self.queue[0]
        self._holding = not self._ready.value
        if not self._holding:
            self.queue.popleft()
        return not self._holding


class Sink:
    """Takes words from an output port, and holds it to the stream rules."""

    def __init__(self, dut, name: str):
        self.name = name
        self._valid, self._ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self._ready.value = 0
        self._accepting = False
        self._pending: int | None = None

    @property
    def waits(self) -> bool:
        """Whether the port offers a word in this cycle."""
        return bool(self._valid.value)

    def step(self, stalled: bool) -> int | None:
        """Drive one cycle; return the word taken in it, if any."""
        accept = not stalled
        if accept != self._accepting:
            self._ready.value = accept
            self._accepting = accept
        if not self._valid.value:
            assert self._pending is None, f"{self.name} withdrew a payload before it was taken"
            return None
        word = self._payload.value.to_unsigned()
        assert self._pending in (None, word), f"{self.name} changed a payload before it was taken"
        self._pending = None if accept else word
        return word if accept else None


class StreamBench:
    """The streams of a simulated top, stalled at random.

    Everything happens at the falling edge: the top's outputs, none of which depends on an input of the same cycle, have
    settled, and what is driven then is what the next rising edge sees. So one wait a cycle tells which words move.

    Parameters
    ----------
    dut
        The simulated top.
    inputs, outputs : sequence of str
        Its streams.
    stall : float
        Probability that a port is stalled in a cycle, 0 to 1.
    seed : int
        Of the stalls.
    """

    def __init__(self, dut, inputs: Sequence[str], outputs: Sequence[str], stall: float, seed: int):
        self.dut = dut
        self._inputs, self._outputs = inputs, outputs
        self.stall = stall
        self.random = random.Random(seed)

    async def reset(self) -> None:
        """Reset the top."""
        self.sources = {name: Source(self.dut, name) for name in self._inputs}
        self.sinks = {name: Sink(self.dut, name) for name in self._outputs}
        self.dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    def check_moving(self, idle_cycles: int) -> None:
        """Raise AssertionError, with what is still waiting to be sent, if nothing has moved for too many cycles."""
        if idle_cycles < IDLE_CYCLES_MAX:
            return
        waiting = {name: len(source.queue) for name, source in self.sources.items() if source.queue}
        standing = ", ".join(f"{count} words wait on {name}" for name, count in waiting.items()) or "no word waits"
        raise AssertionError(f"nothing moved for {IDLE_CYCLES_MAX} cycles; {standing}")


class Bench(StreamBench):
    """One core in simulation, with a memory beside it.

    Parameters
    ----------
    dut
        The simulated top.
    config : CoreConfig
        Its configuration.
    stall : float
        Probability that a port is stalled in a cycle, 0 to 1.
    memory : Memory
        The memory beside the core; by default it never stalls a stream.
    seed : int
        Of the stalls.
    masked : bool
        The core is behind a key sequencer, which asks the memory for keys.
    """

    def __init__(
        self,
        dut,
        config: CoreConfig,
        stall: float = 0.0,
        memory: Memory | None = None,
        seed: int = 0,
        masked: bool = False,
    ):
        inputs, outputs = INPUTS, OUTPUTS
        if masked:
            inputs, outputs = INPUTS + SEQUENCER_INPUTS, OUTPUTS + SEQUENCER_OUTPUTS
        super().__init__(dut, inputs, outputs, stall, seed)
        self.config = config
        self.memory = memory or Memory()
        self.masked = masked

    async def run(self, stimuli: list[Stimulus], progress: Callable[[], None]) -> Recording:
        """Send `stimuli` back to back and return all that came out, once every job has its record.

        Parameters
        ----------
        stimuli : list of Stimulus
            The jobs.
        progress : callable
            Called at each job's end.

        Raises
        ------
        AssertionError
            If an output breaks the stream rules, asks for a value that does not exist, or nothing moves for
            `IDLE_CYCLES_MAX` cycles.
        """
        recording = Recording(traffic={name: Traffic() for name in (*self.sources, *self.sinks)})
        queues = {name: source.queue for name, source in self.sources.items()}
        memory = PlayedMemory(self.memory, self.config, {name: queues[name] for name in MEMORY_PORTS})
        for stimulus in stimuli:
            queues["job"].append(job_word(stimulus.fields, self.config))
            memory.store("q", stimulus.query)
            memory.store("state", stimulus.state)
            if stimulus.sequence:
                queues["command"].append(stimulus.sequence[0])
                queues["bitmap"].extend(stimulus.sequence[1])
            else:
                memory.store("k", stimulus.key)
        key_rows = deque(map(self._key_rows, stimuli)) if self.masked else deque()
        silences = deque(n for n, stimulus in enumerate(stimuli) if None in stimulus.key)
        request_layout = interfaces.value_request_layout(self.config)
        wanted = 1 << request_layout["wanted"].offset
        job_end = 1 << request_layout["last"].offset
        index_mask = (1 << self.config.position_bits) - 1
        key_end = 1 << interfaces.key_layout(self.config)["last"].offset
        packet_end = 1 << interfaces.output_layout(self.config)["last"].offset
        sources, sinks = tuple(self.sources.values()), tuple(self.sinks.values())
        packet: list[int] = []
        requests: list[int] = []
        cycle = last_move = 0
        chance = self.random.random

        returned = (recording.packets, recording.records, recording.requests)
        while any(len(things) < len(stimuli) for things in returned) or any(queues.values()) or memory.busy:
            await FallingEdge(self.dut.clk)
            cycle += 1
            stalled = {name: self.stall > 0 and chance() < self.stall for name in recording.traffic}
            output_waits = self.sinks["o"].waits and not stalled["o"]
            stalled["o"] |= not memory.step(cycle, output_waits)
            stalled["v_req"] |= not memory.takes_requests
            for source in sources:
                if source.step(stalled[source.name]):
                    recording.traffic[source.name].count(cycle)
                    last_move = cycle
            for sink in sinks:
                word = sink.step(stalled[sink.name])
                if word is None:
                    continue
                recording.traffic[sink.name].count(cycle)
                last_move = cycle
                if sink.name == "o":
                    packet.append(word)
                    if word & packet_end:
                        recording.packets.append(packet)
                        packet = []
                elif sink.name == "v_req":
                    if word & wanted:
                        index = word & index_mask
                        values = stimuli[len(recording.requests)].values
                        assert index in values, f"the value of key {index} was asked for, which the job does not have"
                        requests.append(index)
                        memory.ask(cycle, values[index])
                    if word & job_end:
                        recording.requests.append(requests)
                        requests = []
                elif sink.name == "k_req":
                    index = word & index_mask if word & wanted else None
                    assert index in key_rows[0], f"key {index} was asked for, which the job does not stream"
                    row = key_rows[0][index]
                    if word & job_end:
                        key_rows.popleft()
                        row = [*row[:-1], row[-1] | key_end]
                    memory.ask_key(cycle, row)
                else:
                    recording.records.append(word)
                    if silences and silences[0] < len(recording.records):
                        silences.popleft()
                        queues["k"].popleft()
                    progress()
            self.check_moving(cycle - last_move)
        return recording

    def _key_rows(self, stimulus: Stimulus) -> dict[int | None, list[int]]:
        """Return the beats of each key of a job, by index, none of them the packet's last; None is no key."""
        layout = interfaces.key_layout(self.config)
        index, last = layout["index"], 1 << layout["last"].offset
        rows: dict[int | None, list[int]] = {None: [0]}
        for word in stimulus.key:
            rows.setdefault(word >> index.offset & (1 << index.width) - 1, []).append(word & ~last)
        return rows
