"""Which bursts a device reads or writes: what its traffic is counted by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from golden.device.config import DeviceConfig


@dataclass(frozen=True)
class Request:
    """What a client of the read master asks for, or a beat that is to be written.

    Parameters
    ----------
    address : int
        Of the first byte.
    size : int
        Bytes, at least 1.
    more : bool
        Whether the next one may share a burst with this one, if it follows in memory.
    """

    address: int
    size: int
    more: bool


@dataclass(frozen=True)
class Burst:
    """A burst on the bus: address of the first beat, and how many beats."""

    address: int
    beats: int


def bursts(requests: Iterable[Request], config: DeviceConfig) -> list[Burst]:
    """Return the bursts of one client's requests, in order, as long as can be but none across `burst_bytes`."""
    found = []
    for start, end in _runs(requests):
        cuts = range((start // config.burst_bytes + 1) * config.burst_bytes, end, config.burst_bytes)
        edges = [start, *cuts, end]
        for first, behind in pairwise(edges):
            beat, last_beat = first // config.beat_bytes, (behind - 1) // config.beat_bytes
            found.append(Burst(beat * config.beat_bytes, last_beat - beat + 1))
    return found


def _runs(requests: Iterable[Request]) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of what requests that are joined come to."""
    run: tuple[int, int] | None = None
    goes_on = False
    for request in requests:
        end = request.address + request.size
        if run is not None and goes_on and request.address == run[1]:
            run = run[0], end
        else:
            if run is not None:
                yield run
            run = request.address, end
        goes_on = request.more
    if run is not None:
        yield run
