"""Sources and sinks for stream ports of components, which hold every port to the rules of a stream.

* An output offers without waiting for `ready`: neither its valid nor its payload follows `ready` within a cycle.
* What was offered stays, unchanged, until it is taken.
* An input's ready follows neither valid nor payload within a cycle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from rtl_bench import Bench

Stall = Callable[[int], bool]
"""Says whether a port is stalled in a cycle."""


def flowing(cycle: int) -> bool:
    """Never stall."""
    return False


def until(end: int) -> Stall:
    """Stall before cycle `end`."""

    def stalled(cycle: int) -> bool:
        return cycle < end

    stalled.__name__ = f"until {end}"
    return stalled


def at_random(seed: int, probability: float = 0.5) -> Stall:
    """Stall in a share of the cycles, the same ones whenever asked."""

    def stalled(cycle: int) -> bool:
        return random.Random(seed << 32 | cycle).random() < probability

    stalled.__name__ = f"{probability:.0%} of cycles"
    return stalled


class Source:
    """Offers words on an input stream of the component, in order.

    Call `step` once a cycle, after all else that the cycle drives.
    """

    def __init__(self, bench: Bench, name: str, words: Iterable[Any] = (), stall: Stall = flowing):
        self.words = list(words)
        self.limit: int | None = None
        """Words to offer for now; all by default."""
        self.taken: list[int] = []
        """Cycles in which a word was taken."""
        self.offered: list[int] = []
        """Cycles in which each word was offered first."""
        self._bench = bench
        self._name = name
        self._stall = stall
        self._holding = False

    @property
    def left(self) -> int:
        """Words to offer that are not yet taken."""
        return len(self.words[: self.limit]) - len(self.taken)

    def step(self) -> bool:
        """Drive this cycle; return whether a word is taken in it."""
        offers = self._holding or (self.left > 0 and not self._stall(self._bench.cycle))
        valid, ready = f"{self._name}.valid", f"{self._name}.ready"
        self._bench.set({valid: not offers})
        other = self._bench.get(ready)
        self._bench.set({valid: offers} | ({f"{self._name}.payload": self.words[len(self.taken)]} if offers else {}))
        if offers and not self._holding:
            self.offered.append(self._bench.cycle)
        taken = self._bench.get(ready)
        assert taken == other, f"{ready} follows valid or payload within a cycle"
        self._holding = offers and not taken
        if offers and taken:
            self.taken.append(self._bench.cycle)
        return bool(offers and taken)


class Sink:
    """Takes words from an output stream of the component.

    Call `step` once a cycle, after all else that the cycle drives.
    """

    def __init__(self, bench: Bench, name: str, stall: Stall = flowing):
        self.words: list[Any] = []
        self.taken: list[int] = []
        """Cycles in which a word was taken."""
        self.offered: list[int] = []
        """Cycles in which each word was offered first."""
        self._bench = bench
        self._name = name
        self._stall = stall
        self._pending: Any = None

    def _look(self, ready: bool) -> Any:
        self._bench.set({f"{self._name}.ready": ready})
        return self._bench.get(f"{self._name}.payload") if self._bench.get(f"{self._name}.valid") else None

    def step(self) -> bool:
        """Drive this cycle; return whether a word is taken in it."""
        accepts = not self._stall(self._bench.cycle)
        other, word = self._look(not accepts), self._look(accepts)
        assert word == other, f"{self._name} follows its ready within a cycle"
        assert self._pending in (None, word), f"{self._name} withdrew or changed a word before it was taken"
        if word is not None and self._pending is None:
            self.offered.append(self._bench.cycle)
        self._pending = None if accepts else word
        if word is None or not accepts:
            return False
        self.words.append(word)
        self.taken.append(self._bench.cycle)
        return True
