"""Structures in memory: dataclasses whose fields say where they lie, which is all that packs, parses and documents."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from golden.errors import InputError

FORMATS = {8: "B", 16: "H", 32: "I", 64: "Q"}


class Alignment(enum.Enum):
    """What an address or a stride is a multiple of, in bytes (`golden.device.config.Capability.alignment`)."""

    NONE = "any"
    WORD = "4"
    ROW = "lanes"
    OUTPUT = "2 * output_lanes"


@dataclass(frozen=True)
class PackedField:
    """A field of a structure: an unsigned little-endian integer.

    Parameters
    ----------
    name : str
        Name.
    offset : int
        Of its first byte in the structure.
    bits : int
        8, 16, 32 or 64.
    meaning : str
        What it says, a sentence.
    alignment : Alignment
        What it is a multiple of.
    """

    name: str
    offset: int
    bits: int
    meaning: str
    alignment: Alignment


def packed(offset: int, bits: int, meaning: str, alignment: Alignment = Alignment.NONE, default: int = 0) -> Any:
    """Return the dataclass field of a `PackedField`."""
    return field(default=default, metadata={"packed": (offset, bits, meaning, alignment)})


@dataclass(frozen=True)
class Packed:
    """A structure in memory; subclasses have fields made by `packed` and set `SIZE`.

    Raises
    ------
    InputError
        If a value is not an integer, or does not fit its field.
    """

    SIZE: ClassVar[int] = 0

    def __post_init__(self) -> None:
        for part in self.layout():
            value = getattr(self, part.name)
            if not hasattr(value, "__index__"):
                raise InputError(f"{part.name} is {value!r}; it must be an integer")
            if not 0 <= value < 1 << part.bits:
                raise InputError(f"{part.name} must be from 0 to {(1 << part.bits) - 1}, not {value}")

    @classmethod
    def layout(cls) -> tuple[PackedField, ...]:
        """Return the fields in the order of their offsets."""
        return tuple(PackedField(part.name, *part.metadata["packed"]) for part in fields(cls))

    def pack(self) -> bytes:
        """Return the structure as it lies in memory, `SIZE` bytes."""
        content = bytearray(self.SIZE)
        for part in self.layout():
            struct.pack_into("<" + FORMATS[part.bits], content, part.offset, getattr(self, part.name))
        return bytes(content)

    @classmethod
    def parse(cls, content: bytes | memoryview) -> Self:
        """Return the structure that lies in `content`.

        Raises
        ------
        InputError
            If `content` is not `SIZE` bytes.
        """
        if len(content) != cls.SIZE:
            raise InputError(f"a {cls.__name__.lower()} has {cls.SIZE} bytes, not {len(content)}")
        values: Mapping[str, int] = {
            part.name: struct.unpack_from("<" + FORMATS[part.bits], content, part.offset)[0] for part in cls.layout()
        }
        return cls(**values)
