"""The completion record: what the device writes to memory when a descriptor has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from golden.device.packed import Packed, packed


@dataclass(frozen=True)
class Record(Packed):
    """How a descriptor ended, and its statistics; 64 bytes at ``RECORD_BASE + 64 * slot``, aligned.

    The slot is the descriptor's in the queue. Sums are over the jobs that were done, also those of a descriptor that
    failed. Counts of 32 bits wrap.
    """

    SIZE: ClassVar[int] = 64

    sequence: int = packed(0, 32, "Number of the descriptor since reset, counted from 1: what HEAD is from then on.")
    tag: int = packed(4, 32, "The descriptor's; 0 if it could not be read.")
    status: int = packed(8, 8, "How it ended, see the codes.")
    core_status: int = packed(9, 8, "The core's status of the job that failed, with status CORE; else 0.")
    tau: int = packed(10, 16, "Threshold of the last job, in 1/64 bit.")
    jobs: int = packed(12, 32, "Jobs done: blocks of rows, over all kv heads.")
    keys: int = packed(16, 64, "Keys streamed.")
    survivors: int = packed(24, 64, "Keys kept.")
    cycles: int = packed(32, 64, "Clock cycles from the first read for the descriptor to this record.")
    read_bytes: int = packed(40, 64, "Bytes of the beats read, with the descriptor's own.")
    write_bytes: int = packed(48, 32, "Bytes of the beats written, without this record.")
    packs: int = packed(52, 32, "Packs of surviving keys.")
    saturated: int = packed(56, 32, "Pairs of row and key, not masked, whose logit saturated.")
    dropped: int = packed(60, 32, "Most keys that any row may attend to and that were dropped.")
