"""How a driver reaches a device: a window of registers and memory that both see, and the adapters for some boards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from golden.errors import InputError

ALIGNMENT = 256
"""Alignment of what is allocated: that of a queue of descriptors, the largest that there is."""


class Window(Protocol):
    """Registers of a device, as the driver wants them."""

    def read32(self, offset: int) -> int:
        """Return the register at `offset` bytes."""

    def write32(self, offset: int, value: int) -> None:
        """Write the register at `offset` bytes."""


class Buffer(Protocol):
    """Memory that host and device see."""

    @property
    def array(self) -> np.ndarray:
        """The bytes, uint8, shape (size,)."""

    @property
    def address(self) -> int:
        """Where the device finds them."""

    def flush(self) -> None:
        """Let the device see what the host wrote."""

    def invalidate(self) -> None:
        """Let the host see what the device wrote."""

    def free(self) -> None:
        """Give the memory back."""


class Memory(Protocol):
    """Where buffers come from."""

    def allocate(self, size: int) -> Buffer:
        """Return a buffer of `size` bytes, at least 1, whose address is a multiple of `ALIGNMENT`."""


@dataclass(frozen=True)
class CallWindow:
    """Registers that two functions reach.

    On PYNQ: ``CallWindow(mmio.read, mmio.write)`` of a ``pynq.MMIO``. Over a LiteX bridge:
    ``CallWindow(client.read, client.write, base)`` of a ``litex.RemoteClient``.

    Parameters
    ----------
    read, write : callable
        Take an address; an address and a value.
    base : int
        Address of the device's first register.
    """

    read: Callable[[int], int]
    write: Callable[[int, int], Any]
    base: int = 0

    def read32(self, offset: int) -> int:
        """Return the register at `offset` bytes."""
        return int(self.read(self.base + offset))

    def write32(self, offset: int, value: int) -> None:
        """Write the register at `offset` bytes."""
        self.write(self.base + offset, value)


class MappedWindow:
    """Registers that are mapped into the process, by ``mmap`` of ``/dev/mem`` or of a UIO device.

    Parameters
    ----------
    mapping : buffer
        From the device's first register on, writable.
    """

    def __init__(self, mapping: Any):
        self._words = np.frombuffer(mapping, dtype="<u4")

    def read32(self, offset: int) -> int:
        """Return the register at `offset` bytes."""
        return int(self._words[offset // 4])

    def write32(self, offset: int, value: int) -> None:
        """Write the register at `offset` bytes."""
        self._words[offset // 4] = value


@dataclass(frozen=True, eq=False)
class PynqBuffer:
    """A buffer of `PynqMemory`."""

    memory: PynqMemory
    array: np.ndarray

    @property
    def address(self) -> int:
        """Where the device finds it."""
        return int(self.array.device_address)  # type: ignore[attr-defined]

    def flush(self) -> None:
        """Write the host's caches back."""
        self.array.flush()  # type: ignore[attr-defined]

    def invalidate(self) -> None:
        """Drop what the host's caches hold."""
        self.array.invalidate()  # type: ignore[attr-defined]

    def free(self) -> None:
        """Give the memory back."""
        self.memory.release(self)


class PynqMemory:
    """Memory from PYNQ.

    PYNQ takes memory back when its array is forgotten, though a device that could not be reset may still write there.
    So buffers are held here until they are freed: keep this object as long as the device may run.

    Parameters
    ----------
    pynq_allocate : callable
        ``pynq.allocate``.
    """

    def __init__(self, pynq_allocate: Callable[..., Any]):
        self._pynq_allocate = pynq_allocate
        self._held: set[PynqBuffer] = set()

    def allocate(self, size: int) -> PynqBuffer:
        """Return a buffer of `size` bytes.

        Raises
        ------
        InputError
            If there is no room.
        """
        try:
            array = self._pynq_allocate(shape=(size,), dtype=np.uint8)
        except (MemoryError, RuntimeError) as error:
            raise InputError(f"PYNQ has no room for {size} bytes of memory: {error}") from error
        buffer = PynqBuffer(self, array)
        self._held.add(buffer)
        return buffer

    def release(self, buffer: PynqBuffer) -> None:
        """Take back a buffer."""
        self._held.remove(buffer)
        buffer.array.freebuffer()  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class MappedBuffer:
    """A buffer of `MappedMemory`."""

    memory: MappedMemory
    array: np.ndarray
    address: int

    def flush(self) -> None:
        """Do nothing: the mapping is not cached, or coherent."""

    def invalidate(self) -> None:
        """Do nothing, as above."""

    def free(self) -> None:
        """Give the memory back."""
        self.memory.release(self)


class MappedMemory:
    """Memory that was set aside for the device and is mapped into the process, uncached or coherent with the device.

    Parameters
    ----------
    mapping : buffer
        The memory, writable.
    address : int
        Where the device finds its first byte, a multiple of `ALIGNMENT`.

    Raises
    ------
    InputError
        If `address` is not aligned.
    """

    def __init__(self, mapping: Any, address: int):
        if address % ALIGNMENT:
            raise InputError(f"the address of a device's memory must be a multiple of {ALIGNMENT}, not {address:#x}")
        self._bytes = np.frombuffer(mapping, dtype=np.uint8)
        self._address = address
        self._used: dict[int, int] = {}

    def allocate(self, size: int) -> MappedBuffer:
        """Return a buffer of `size` bytes in the first gap that holds it.

        Raises
        ------
        InputError
            If there is none.
        """
        start = 0
        for first, length in sorted(self._used.items()):
            if start + size <= first:
                break
            start = first + -(-length // ALIGNMENT) * ALIGNMENT
        if start + size > len(self._bytes):
            held = sum(self._used.values())
            raise InputError(
                f"no room for {size} bytes in the {len(self._bytes)} of the device's memory, {held} in use"
            )
        self._used[start] = size
        return MappedBuffer(self, self._bytes[start : start + size], self._address + start)

    @property
    def end(self) -> int:
        """Bytes from the first one of the memory to the last one in use."""
        return max((first + size for first, size in self._used.items()), default=0)

    def release(self, buffer: MappedBuffer) -> None:
        """Take back a buffer."""
        del self._used[buffer.address - self._address]
