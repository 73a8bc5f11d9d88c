"""Drives a cluster's streams in cocotb: one queue of jobs, and the keys and values of each core."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cocotb.triggers import FallingEdge

from golden.config import ClusterConfig
from golden.memory import Memory
from rtl import interfaces
from sim.bench import INPUTS, OUTPUTS, Recording, StreamBench, Traffic
from sim.memory import PlayedMemory
from sim.stimulus import Stimulus, cluster_job_word


@dataclass
class ClusterRecording(Recording):
    """What came out of a run: a packet a head, and of each core the transfers of its own ports.

    Parameters
    ----------
    cores : list of int
        For each job, the core that it was given to.
    """

    cores: list[int] = field(default_factory=list)

    def as_one_core(self) -> Recording:
        """Return the same with the transfers of all cores on the ports of one."""
        traffic = {}
        for name in INPUTS + OUTPUTS:
            moved = [port for of_core, port in self.traffic.items() if of_core.rstrip("0123456789") == name]
            first = [port.first_cycle for port in moved if port.transfers]
            traffic[name] = Traffic(
                sum(port.transfers for port in moved), min(first, default=0), max(port.last_cycle for port in moved)
            )
        return Recording(self.packets, self.records, self.requests, traffic)


class ClusterBench(StreamBench):
    """One cluster in simulation, with a memory at each core that never limits the rate of a stream.

    A core is given the keys of a job when the cluster has told its route.

    Parameters
    ----------
    dut
        The simulated top.
    config : ClusterConfig
        Its configuration.
    stall : float
        Probability that a port is stalled in a cycle, 0 to 1.
    latency : int
        Cycles from a value request to the row's first beat, at least 1.
    seed : int
        Of the stalls.
    """

    def __init__(self, dut, config: ClusterConfig, stall: float = 0.0, latency: int = 1, seed: int = 0):
        cores = range(config.cores)
        inputs = ["job", "q", "state", *(f"{name}{n}" for name in "kv" for n in cores)]
        outputs = ["route", *(f"v_req{n}" for n in cores), "o", "stats"]
        super().__init__(dut, inputs, outputs, stall, seed)
        self.config = config
        self.latency = latency

    async def run(self, stimuli: list[Stimulus], heads: int, progress: Callable[[], None]) -> ClusterRecording:
        """Send `stimuli` back to back and return all that came out, once every job has its record and every head left.

        Parameters
        ----------
        stimuli : list of Stimulus
            The jobs, in the order of the list.
        heads : int
            Packets to wait for.
        progress : callable
            Called at each job's end.

        Raises
        ------
        AssertionError
            If an output breaks the stream rules, asks for a value that does not exist, or nothing moves for
            `IDLE_CYCLES_MAX` cycles.
        """
        core_config = self.config.core
        queues = {name: source.queue for name, source in self.sources.items()}
        for stimulus in stimuli:
            queues["job"].append(cluster_job_word(stimulus.fields, core_config))
            queues["q"].extend(stimulus.query)
            queues["state"].extend(stimulus.state)
        traffic = {name: Traffic() for name in (*self.sources, *self.sinks)}
        recording = ClusterRecording(requests=[[] for _ in stimuli], traffic=traffic)
        cores = range(self.config.cores)
        memories = [PlayedMemory(Memory(latency=self.latency), core_config, {"v": queues[f"v{n}"]}) for n in cores]
        # Jobs of each core whose keys have not ended on v_req.
        running: list[deque[int]] = [deque() for _ in cores]
        route_layout = interfaces.route_layout(core_config)
        request_layout = interfaces.value_request_layout(core_config)
        wanted, job_end = (1 << request_layout[name].offset for name in ("wanted", "last"))
        index_mask = (1 << core_config.position_bits) - 1
        packet_end = 1 << interfaces.output_layout(core_config)["last"].offset
        numbers = {f"v_req{n}": n for n in cores}
        packet: list[int] = []
        ended = 0
        cycle = last_move = 0
        chance = self.random.random

        while (
            len(recording.records) < len(stimuli)
            or len(recording.packets) < heads
            or ended < len(stimuli)
            or any(queues.values())
            or any(memory.busy for memory in memories)
        ):
            await FallingEdge(self.dut.clk)
            cycle += 1
            for memory in memories:
                memory.step(cycle, False)
            for name, source in self.sources.items():
                if source.step(self.stall > 0 and chance() < self.stall):
                    traffic[name].count(cycle)
                    last_move = cycle
            for name, sink in self.sinks.items():
                word = sink.step(self.stall > 0 and chance() < self.stall)
                if word is None:
                    continue
                traffic[name].count(cycle)
                last_move = cycle
                if name == "route":
                    job, core = len(recording.cores), word >> route_layout["core"].offset
                    assert core < self.config.cores, f"job {job} was given to core {core}, which there is not"
                    tag, sent = word & (1 << core_config.tag_bits) - 1, stimuli[job].fields["tag"]
                    assert tag == sent, f"the route of job {job} has tag {tag}, expected {sent}"
                    recording.cores.append(core)
                    queues[f"k{core}"].extend(stimuli[job].key)
                    running[core].append(job)
                elif name in numbers:
                    core = numbers[name]
                    job = running[core][0]
                    if word & wanted:
                        index = word & index_mask
                        values = stimuli[job].values
                        assert index in values, f"the value of key {index} was asked for, which job {job} does not have"
                        recording.requests[job].append(index)
                        memories[core].ask(cycle, values[index])
                    if word & job_end:
                        running[core].popleft()
                        ended += 1
                elif name == "o":
                    packet.append(word)
                    if word & packet_end:
                        recording.packets.append(packet)
                        packet = []
                else:
                    job = len(recording.records)
                    recording.records.append(word)
                    if None in stimuli[job].key:
                        queues[f"k{recording.cores[job]}"].popleft()
                    progress()
            self.check_moving(cycle - last_move)
        return recording
