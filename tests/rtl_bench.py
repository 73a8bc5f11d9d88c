"""Drives components of the core cycle by cycle in Amaranth's simulator.

What a cycle means here: its inputs are set, everything combinational settles, outputs are read, and the clock ticks. A
register that takes an input of cycle t shows it in cycle t + 1, which is a latency of one cycle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from amaranth.lib import data, wiring
from amaranth.sim import Simulator

from golden import formats
from golden.config import CoreConfig
from golden.job import Job
from golden.masks import MaskKind

Ports = Mapping[str, Any]

CYCLES_MAX = 8_000
"""Cycles after which a simulation is taken to hang."""


def plain(value: Any) -> Any:
    """Return what the simulator read as integers, lists and dictionaries."""
    if not isinstance(value, data.Const):
        return int(value)
    if isinstance(value.shape(), data.ArrayLayout):
        return [plain(value[n]) for n in range(len(value))]
    return {name: plain(value[name]) for name, _ in value.shape()}


def _zero(shape: Any) -> Any:
    return {} if isinstance(shape, data.StructLayout) else [] if isinstance(shape, data.ArrayLayout) else 0


class Bench:
    """A component in simulation, stepped by the coroutine that `simulate` was given.

    Ports go by their name, those of a stream by the name of the stream as well, or its number: ``jobs.0.ready``.
    """

    def __init__(self, ctx: Any, component: wiring.Component):
        self._ctx = ctx
        self._component = component
        self._driven: dict[str, Any] = {}
        self._pulsed: set[str] = set()
        self.cycle = 0

    def _port(self, name: str) -> Any:
        port = self._component
        for part in name.split("."):
            port = port[int(part)] if part.isdigit() else getattr(port, part)
        return port

    def set(self, ports: Ports) -> None:
        """Drive these input ports until they are driven otherwise."""
        for name, value in ports.items():
            if self._driven.get(name) != value:
                self._ctx.set(self._port(name), value)
                self._driven[name] = value

    def pulse(self, ports: Ports) -> None:
        """Drive these input ports in this cycle; those of the pulse before return to zero."""
        self.set({name: _zero(self._port(name).shape()) for name in self._pulsed - ports.keys()})
        self.set(ports)
        self._pulsed = set(ports)

    def get(self, name: str) -> Any:
        """Return what an output port shows in this cycle."""
        return plain(self._ctx.get(self._port(name)))

    async def tick(self) -> None:
        """End this cycle."""
        await self._ctx.tick()
        self.cycle += 1
        assert self.cycle < CYCLES_MAX, "the simulation does not come to its end"


def simulate(component: wiring.Component, process: Callable[[Bench], Awaitable[None]]) -> None:
    """Run `process` on a component that has just been reset."""

    async def testbench(ctx: Any) -> None:
        await process(Bench(ctx, component))

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def trace(
    component: wiring.Component, stimulus: Iterable[Ports], watch: tuple[str, ...], constant: Ports | None = None
) -> list[tuple[Any, ...]]:
    """Drive `stimulus`, its inputs of one cycle after the other, and return the ports `watch` in each of these cycles.

    An input that a cycle does not name is zero there, unless it is one of the `constant` ones.
    """
    seen: list[tuple[Any, ...]] = []

    async def process(bench: Bench) -> None:
        bench.set(constant or {})
        for ports in stimulus:
            bench.pulse(ports)
            seen.append(tuple(bench.get(name) for name in watch))
            await bench.tick()

    simulate(component, process)
    return seen


def idle(cycles: int) -> list[dict[str, Any]]:
    """Return a stimulus in which nothing comes."""
    return [{} for _ in range(cycles)]


def context(
    config: CoreConfig,
    head_dim: int = 1,
    value_dim: int = 1,
    rows: int = 1,
    keys: int = 1,
    **fields: int,
) -> dict[str, int]:
    """Return the fields of the context of a good job."""
    return {
        "status": 0,
        "last_head_beat": config.head_beats(head_dim) - 1,
        "last_value_beat": config.value_beats(value_dim) - 1,
        "last_element": value_dim - 1,
        "last_output_word": config.output_beats(value_dim) - 1,
        "last_row": rows - 1,
        "row_mask": (1 << rows) - 1,
        "last_key": keys - 1,
        "multiplier": 0,
        "shift": 0,
        "tau": formats.TAU_KEEP_ALL,
        "epsilon_shift": 0,
        "target": 0,
        "continue_tau": 0,
        "mask": int(MaskKind.NONE),
        "window": 0,
        "from_state": 0,
        "emit_state": 0,
        "shared": 0,
        "tag": 0,
    } | fields


def job_context(job: Job, config: CoreConfig) -> dict[str, int]:
    """Return the fields of the context of `job`."""
    return context(
        config,
        job.head_dim,
        job.value_dim,
        job.rows,
        job.keys,
        multiplier=job.scale.multiplier,
        shift=job.scale.shift,
        tau=job.threshold.tau,
        epsilon_shift=job.threshold.epsilon_shift,
        target=job.threshold.target,
        continue_tau=int(job.continue_tau),
        mask=int(job.mask.kind),
        window=job.mask.window,
        from_state=int(job.state is not None),
        emit_state=int(job.emit_state),
        shared=int(job.shared),
        tag=job.tag,
    )
