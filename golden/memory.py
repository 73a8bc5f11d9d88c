"""The memory beside a core, as simulation and performance model both play it.

One channel carries the words of q, state, k, v and o, each with the bytes of its beat
(`golden.config.CoreConfig.beat_bytes`). Every cycle the channel earns `bandwidth` bytes; of those from before it keeps
at most one beat of the widest port. With them it moves whole beats of one port after the other: v, o, q, state, k. A
port that has a word and room, and can't pay for it, keeps those after it waiting, so that it comes first in the next
cycle. Inputs go to a buffer at their port, from which the core may take one in this very cycle and one in each further
one; o is taken from the core, one a cycle.

The words of q, state and k are asked for ahead of time, so no latency is seen on them. A value row is asked for when
its request is taken from v_req, comes to the channel `latency` cycles later, and rows come in the order of their
requests. While `outstanding` rows are asked for and not wholly moved, no further request is taken. Jobs and statistics
never wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from golden.config import CoreConfig
from golden.errors import InputError

CHANNEL_ORDER = ("v", "o", "q", "state", "k")
"""Ports in the order in which the channel serves them: what frees the core first."""

UNITS = 256
"""Parts of a byte in which bandwidth is counted, so that it is exact."""

LARGEST = 1 << 20
"""Of every property of a memory: far above any that is built, and sums of them fit 64 bits."""


class Channel(NamedTuple):
    """A memory's channel on a core, in whole numbers.

    Parameters
    ----------
    income : int
        Earned each cycle, in parts of a byte.
    savings : int
        Kept at most before a cycle's income.
    prices : dict of str to int
        Price of a beat of each port.
    """

    income: int
    savings: int
    prices: dict[str, int]


def check_bandwidth(bandwidth: float | None, name: str) -> None:
    """Raise InputError, with `name`, if a memory can't move so many bytes a cycle; None is any number of them."""
    if bandwidth is not None and not 1 / UNITS <= bandwidth <= LARGEST:
        raise InputError(f"{name} must be from 1/{UNITS} to {LARGEST} bytes a cycle, not {bandwidth:g}")


@dataclass(frozen=True)
class Memory:
    """What of the memory a core's cycles depend on. The default never stalls a stream.

    Parameters
    ----------
    bandwidth : float, optional
        Bytes a cycle that all ports share, counted in steps of 1/256; None for any number.
    latency : int
        Cycles from the taking of a value request to the first cycle in which its row may be moved, 1 to `LARGEST`.
    outstanding : int, optional
        Value rows asked for at a time, 1 to `LARGEST`; None for any number.
    buffer : int
        Beats that wait at an input port, 1 to `LARGEST`. Only counts where `bandwidth` is given.

    Raises
    ------
    InputError
        If a value is not possible.
    """

    bandwidth: float | None = None
    latency: int = 1
    outstanding: int | None = None
    buffer: int = 16

    def __post_init__(self) -> None:
        check_bandwidth(self.bandwidth, "bandwidth")
        for name in ("latency", "outstanding", "buffer"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= LARGEST:
                raise InputError(f"{name} of a memory must be from 1 to {LARGEST}, not {value}")

    def channel(self, config: CoreConfig) -> Channel | None:
        """Return the channel to a core of `config`, None where it never limits."""
        if self.bandwidth is None:
            return None
        prices = {port: UNITS * config.beat_bytes(port) for port in CHANNEL_ORDER}
        return Channel(round(UNITS * self.bandwidth), max(prices.values()), prices)
