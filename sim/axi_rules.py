"""The rules that a master keeps on AXI."""

from __future__ import annotations

from typing import Any

from cocotb.triggers import RisingEdge

from golden.device.config import PAGE_BYTES


class AxiRules:
    """Watches a master: what it offers stays, bursts keep within 4 KiB, data comes with its address or later.

    A reset ends whatever was begun.

    Raises AssertionError in the simulation if it doesn't.

    Attributes
    ----------
    read_cycles : list of int
        Cycles, counted from the first that was watched, in which a beat was read.
    addresses : int
        Addresses that were taken of both channels.
    """

    def __init__(self, dut: Any, prefix: str, clock: Any, beat_bytes: int, reset: Any = None):
        self.read_cycles: list[int] = []
        self.addresses = 0
        self._beat_bytes = beat_bytes
        self._clock, self._reset = clock, reset
        self._signals = {
            channel: [getattr(dut, f"{prefix}_{channel}{name}") for name in ("valid", "ready", *payload)]
            for channel, payload in (
                ("ar", ("addr", "len", "size", "burst", "id")),
                ("aw", ("addr", "len", "size", "burst", "id")),
                ("w", ("data", "strb", "last")),
                ("r", ("last",)),
                ("b", ()),
            )
        }

    async def watch(self) -> None:
        """Watch for ever."""
        held: dict[str, list[int]] = {}
        lengths: list[int] = []
        beat = cycle = 0
        counted = False
        while True:
            await RisingEdge(self._clock)
            if self._reset is not None and not int(self._reset.value):
                held.clear()
                lengths.clear()
                beat, counted = 0, False
                continue
            seen = {
                name: [int(signal.value) for signal in signals[: None if int(signals[0].value) else 2]]
                for name, signals in self._signals.items()
            }
            for name in ("ar", "aw", "w"):
                if name in held:
                    assert seen[name][2:] == held[name], f"{name} changed or went before it was taken"
                held.pop(name, None)
                if seen[name][0] and not seen[name][1]:
                    held[name] = seen[name][2:]
            for name in ("ar", "aw"):
                if seen[name][0]:
                    address, length, size, burst, ident = seen[name][2:]
                    assert (1 << size, burst, ident) == (self._beat_bytes, 1, 0), name
                    assert address % self._beat_bytes == 0, f"{name} {address:#x} is not a beat's"
                    last = address + (length + 1) * self._beat_bytes - 1
                    assert address // PAGE_BYTES == last // PAGE_BYTES, f"{name} {address:#x} crosses 4 KiB"
                    self.addresses += seen[name][1]
            if seen["aw"][0] and not counted:
                lengths.append(seen["aw"][3])
            counted = bool(seen["aw"][0] and not seen["aw"][1])
            if seen["w"][0]:
                assert lengths, "data before its address"
                assert seen["w"][4] == (beat == lengths[0]), "the last beat is elsewhere"
                if seen["w"][1]:
                    beat += 1
                    if seen["w"][4]:
                        beat = 0
                        lengths.pop(0)
            if seen["r"][0]:
                assert seen["r"][1], "a read beat was not taken"
                self.read_cycles.append(cycle)
            assert seen["b"][1], "responses are not taken"
            cycle += 1
