"""What golden says of a request to a device: results and the statistics of its completion record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.block import run_job
from golden.config import CoreConfig
from golden.device.layout import Request
from golden.job import Job, JobResult
from golden.masks import MaskKind


@dataclass(frozen=True, eq=False)
class DeviceExpectation:
    """What a request must return.

    Parameters
    ----------
    jobs : list of Job
        Its jobs, those of the first kv head first.
    results : list of JobResult
        What each gives.
    kv_heads, group : int
        Of the layer.
    """

    jobs: list[Job]
    results: list[JobResult]
    kv_heads: int
    group: int

    @classmethod
    def of(cls, request: Request, config: CoreConfig) -> DeviceExpectation:
        """Run the golden model on a request, cut into blocks as the device does."""
        attention = request.attention
        positions = request.row_positions()
        group = attention.group
        jobs, results = [], []
        states = iter(request.states) if request.states is not None else None
        for kv_head in range(attention.kv_heads):
            threshold = request.threshold
            for rows in request.block_rows(config.rows):
                keys = streamed_keys(request, kv_head, positions[rows])
                numbers = np.arange(rows.start, rows.stop)
                job = Job(
                    query=attention.query[kv_head * group + numbers % group, numbers // group],
                    positions=positions[rows],
                    key=attention.key[kv_head, keys],
                    indices=keys,
                    value=attention.value[kv_head, keys],
                    scale=attention.score_scale(kv_head),
                    threshold=threshold,
                    mask=request.mask,
                    state=None if states is None else next(states),
                    emit_state=request.emit_state,
                    shared=attention.shared,
                )
                jobs.append(job)
                results.append(run_job(job, config.lanes))
        return cls(jobs, results, attention.kv_heads, group)

    @property
    def output(self) -> np.ndarray:
        """The layer's outputs, int16, shape (query_heads, queries, value_dim)."""
        rows = np.concatenate([result.output for result in self.results])
        by_head = rows.reshape(self.kv_heads, -1, self.group, rows.shape[1]).swapaxes(1, 2)
        return np.ascontiguousarray(by_head.reshape(self.kv_heads * self.group, -1, rows.shape[1]))

    @property
    def record(self) -> dict[str, int]:
        """What of the completion record follows from the data."""
        return {
            "jobs": len(self.jobs),
            "keys": sum(job.keys for job in self.jobs),
            "survivors": sum(int(result.survivors.sum()) for result in self.results),
            "packs": sum(result.packs for result in self.results),
            "saturated": sum(result.saturated for result in self.results),
            "dropped": max(int(result.dropped.max()) for result in self.results),
        }


def visible_keys(request: Request, positions: np.ndarray) -> np.ndarray:
    """Return the keys from the first to the last that some row of a block at `positions` may attend to by position."""
    low, end = request.first_key, request.end_key
    if request.mask.kind != MaskKind.NONE:
        end = min(end, int(positions[-1]) + 1)
    if request.mask.kind == MaskKind.WINDOW:
        low = max(low, int(positions[0]) - request.mask.window + 1)
    return np.arange(low, end)


def streamed_keys(request: Request, kv_head: int, positions: np.ndarray) -> np.ndarray:
    """Return the keys that a block with rows at `positions` streams."""
    keys = visible_keys(request, positions)
    if request.block_mask is None:
        return keys
    return keys[request.block_mask.streamed(positions, keys)[kv_head]]
