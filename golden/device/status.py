"""How a descriptor ended."""

from __future__ import annotations

import enum
from typing import Self


class DeviceStatus(enum.IntEnum):
    """How a descriptor ended, as its completion record and the register ERROR say it; each has a `meaning`.

    DESCRIPTOR to PAGE are found before anything else is read; of several the lowest is reported. After any other than
    OK the output is not complete.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Self:
        """Return the member of a code and what it means."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done"
    DESCRIPTOR = 1, "another version, or a flag that there is not"
    UNSUPPORTED = 2, "the device was built without what is asked for"
    DIMENSION = 3, "a dimension or a number of heads that is zero or too large, or shared values longer than their keys"
    LENGTH = 4, "no query, no key, or a position or key index that is too large"
    ADDRESS = 5, "an address or a stride that is not aligned, or an address wider than the bus"
    MASK = 6, "no such mask, a window that is empty or too large, or blocks too large or too many"
    THRESHOLD = 7, "a tau or an error bound outside its format, or CONTINUE_TAU without a target"
    PAGE = (
        8,
        "a page of an impossible size, more pages than there is room for, or an entry of the page table past the pool",
    )
    EMPTY = 9, "a block of rows without a key to stream"
    READ = 10, "the bus answered a read with an error"
    WRITE = 11, "the bus answered a write with an error"
    TIMEOUT = 12, "no beat has moved on the bus or at the core for the cycles of the register TIMEOUT"
    CORE = 13, "the core reported a status of its own, which the record holds"
    RESET = 14, "a soft reset came while it ran"
