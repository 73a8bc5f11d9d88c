"""Plays the memory beside a core: words reach its ports no earlier than `golden.memory.Memory` lets them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from golden.config import CoreConfig
from golden.memory import CHANNEL_ORDER, Memory

Words = deque[int | None]


class PlayedMemory:
    """A memory, stepped once a cycle before the ports.

    Parameters
    ----------
    memory : Memory
        What it can do.
    config : CoreConfig
        The core.
    ports : dict of str to deque
        Words that wait at the ports, of q, state, k and v.
    """

    def __init__(self, memory: Memory, config: CoreConfig, ports: dict[str, Words]):
        self._memory = memory
        self._channel = memory.channel(config)
        self._ports = ports
        self._stored: dict[str, Words] = {name: deque() for name in ports}
        self._rows: deque[tuple[int, list[int]]] = deque()
        self._key_rows: deque[tuple[int, list[int]]] = deque()
        self._row_ends: deque[int] = deque()
        self._credit = 0
        self._asked_beats = self._moved_beats = 0

    def store(self, port: str, words: Iterable[int | None]) -> None:
        """Add words that `port` will stream in order."""
        (self._stored if self._channel else self._ports)[port].extend(words)

    def ask(self, cycle: int, row: list[int]) -> None:
        """Ask for a value row, whose request was taken in `cycle`."""
        self._rows.append((cycle + self._memory.latency, row))
        self._asked_beats += len(row)
        self._row_ends.append(self._asked_beats)

    def ask_key(self, cycle: int, row: list[int]) -> None:
        """Ask for a key row, whose request was taken in `cycle`. Any number may be asked for at a time."""
        self._key_rows.append((cycle + self._memory.latency, row))

    @property
    def takes_requests(self) -> bool:
        """Whether a value request may be taken in this cycle."""
        return self._memory.outstanding is None or len(self._row_ends) < self._memory.outstanding

    @property
    def busy(self) -> bool:
        """Whether words have not reached their port."""
        return bool(self._rows or self._key_rows) or any(self._stored.values())

    def step(self, cycle: int, output_waits: bool) -> bool:
        """Move what may be moved in `cycle`, in which o has a word for the memory or not; return whether o is ready."""
        for port, rows in (("v", self._rows), ("k", self._key_rows)):
            while rows and rows[0][0] <= cycle:
                self._stored[port].extend(rows.popleft()[1])
        output_ready = self._channel is None
        if self._channel is None:
            for port, stored in self._stored.items():
                self._move(port, len(stored))
        else:
            self._credit = min(self._credit, self._channel.savings) + self._channel.income
            for port in CHANNEL_ORDER:
                price = self._channel.prices[port]
                if port == "o":
                    wanted = int(output_waits)
                    moved = min(wanted, self._credit // price)
                    output_ready = moved > 0
                else:
                    wanted = min(len(self._stored[port]), self._memory.buffer - len(self._ports[port]))
                    moved = self._move(port, min(wanted, self._credit // price))
                self._credit -= price * moved
                if moved < wanted:
                    break
        while self._row_ends and self._row_ends[0] <= self._moved_beats:
            self._row_ends.popleft()
        return output_ready

    def _move(self, port: str, most: int) -> int:
        """Move up to so many words to `port`; return how many."""
        stored = self._stored[port]
        count = min(most, len(stored))
        for _ in range(count):
            self._ports[port].append(stored.popleft())
        if port == "v":
            self._moved_beats += count
        return count
