"""The read master as one of its clients sees it, and a page table as who looks up sees it."""

from __future__ import annotations

from collections.abc import Callable

from rtl_bench import Bench
from stream_rules import Sink, Source, Stall, flowing

from golden.device.bursts import Request
from golden.device.config import DeviceConfig


class ReadClientModel:
    """Takes requests from the port ``request`` and sends their words to the port ``words``.

    Words come in order, some cycles after their burst is known to be whole: what doesn't fill one waits for the next
    request, as golden.device.bursts says.

    Parameters
    ----------
    bench : Bench
        The client.
    config : DeviceConfig
        The device.
    word_bytes : int
        Of the client's words.
    content : callable
        Returns the word at an address.
    latency : int
        Cycles from a request to its words.
    asks, sends : callable
        Stalls of both ports.
    """

    def __init__(
        self,
        bench: Bench,
        config: DeviceConfig,
        word_bytes: int,
        content: Callable[[int], int],
        latency: int = 5,
        asks: Stall = flowing,
        sends: Stall = flowing,
    ):
        self.requests: list[Request] = []
        self._bench, self._config, self._word_bytes, self._content = bench, config, word_bytes, content
        self._latency = latency
        self._sink, self._source = Sink(bench, "request", asks), Source(bench, "words", stall=sends)
        self._source.limit = 0
        self._run: tuple[int, int] = (0, 0)
        self._due: list[tuple[int, int]] = []

    @property
    def asked(self) -> list[int]:
        """Cycles in which requests were taken."""
        return self._sink.taken

    @property
    def sent(self) -> list[int]:
        """Cycles in which words were taken."""
        return self._source.taken

    def step(self) -> None:
        """Drive this cycle."""
        while self._due and self._due[0][0] <= self._bench.cycle:
            self._source.limit = self._due.pop(0)[1]
        self._source.step()
        if self._sink.step():
            word = self._sink.words[-1]
            size = word["words"] * self._word_bytes
            self._take(Request(word["address"], size, bool(word["more"])))

    def _take(self, request: Request) -> None:
        """Note the words that a request brings, and when those that are whole bursts may come."""
        start, end = self._run
        before = len(self._source.words)
        if not (self.requests and self.requests[-1].more and request.address == end):
            start = request.address
            # The run before has ended.
            self._due.append((self._bench.cycle + self._latency, before))
        self.requests.append(request)
        end = request.address + request.size
        self._run = (start, end)
        addresses = range(request.address, end, self._word_bytes)
        self._source.words += [{"data": self._content(address)} for address in addresses]
        whole = end if not request.more else end // self._config.burst_bytes * self._config.burst_bytes
        held = (end - max(whole, start)) // self._word_bytes
        self._due.append((self._bench.cycle + self._latency, len(self._source.words) - held))


class PageTableModel:
    """Answers the port ``lookup``: the page's offset in the cycle after it was asked for, pages as they are loaded."""

    def __init__(self, bench: Bench, offsets: list[int], loaded: Callable[[int], int]):
        self._bench, self._offsets, self._loaded = bench, offsets, loaded
        self._offset = 0

    def step(self) -> None:
        """Drive this cycle, after all else."""
        self._bench.set({"lookup.loaded": self._loaded(self._bench.cycle), "lookup.offset": self._offset})
        if self._bench.get("lookup.enable"):
            page = self._bench.get("lookup.page")
            self._offset = self._offsets[page] if page < self._loaded(self._bench.cycle) else 0
