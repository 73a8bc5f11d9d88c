"""How a descriptor ended."""

import enum


class DeviceStatus(enum.IntEnum):
    """How a descriptor ended, as its completion record and the register ERROR say it.

    DESCRIPTOR to PAGE are found before anything else is read; of several the lowest is reported. After any other than
    OK the output is not complete.

    Members
    -------
    DESCRIPTOR
        Another version, or a flag that there is not.
    UNSUPPORTED
        The device was built without what is asked for.
    DIMENSION
        A dimension or a number of heads that is zero or too large, or shared values longer than their keys.
    LENGTH
        No query, no key, or a position or key index that is too large.
    ADDRESS
        An address or a stride that is not aligned, or an address wider than the bus.
    MASK
        No such mask, a window that is empty or too large, or blocks too large.
    THRESHOLD
        A tau or an error bound outside its format.
    PAGE
        A page of an impossible size, more pages than there is room for, or an entry of the page table past the pool.
    EMPTY
        A block of rows without a key to stream.
    READ, WRITE
        The bus answered a read or a write with an error.
    TIMEOUT
        No progress for the cycles of the register TIMEOUT.
    CORE
        The core reported a status of its own, which the record holds.
    RESET
        A soft reset came while it ran.
    """

    OK = 0
    DESCRIPTOR = 1
    UNSUPPORTED = 2
    DIMENSION = 3
    LENGTH = 4
    ADDRESS = 5
    MASK = 6
    THRESHOLD = 7
    PAGE = 8
    EMPTY = 9
    READ = 10
    WRITE = 11
    TIMEOUT = 12
    CORE = 13
    RESET = 14
