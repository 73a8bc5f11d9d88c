"""A whole layer through the core's arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden import formats
from golden.block import run_job
from golden.certificate import Certificate
from golden.config import CoreConfig
from golden.job import JobResult
from golden.masks import Mask
from golden.plan import PlannedJob, assemble, plan_jobs
from golden.quantise import QuantisedAttention


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """What the jobs of a layer returned.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    plan : list of PlannedJob
        Its jobs.
    results : list of JobResult
        The result of every job.
    """

    attention: QuantisedAttention
    plan: list[PlannedJob]
    results: list[JobResult]

    @cached_property
    def output(self) -> np.ndarray:
        """Outputs of the core, int16, shape (query_heads, queries, value_dim).

        They have `formats.OUTPUT_FRACTION_BITS` fraction bits, in units of the int8 values.
        """
        return assemble(self.plan, [result.output for result in self.results])

    @property
    def real_output(self) -> np.ndarray:
        """Outputs in units of the float tensors, float64, shape (query_heads, queries, value_dim)."""
        unit = self._value_unit / (1 << formats.OUTPUT_FRACTION_BITS)
        real: np.ndarray = self.output * unit[:, None, None]
        return real

    @cached_property
    def survivor_share(self) -> np.ndarray:
        """Share of the streamed keys of each kv head whose values were fetched, float64, shape (kv_heads,)."""
        kept = self._per_kv_head(lambda result: int(result.survivors.sum()))
        share: np.ndarray = kept / self._per_kv_head(lambda result: len(result.survivors))
        return share

    @property
    def saturated(self) -> np.ndarray:
        """Scores of each kv head that saturated, int64, shape (kv_heads,)."""
        return self._per_kv_head(lambda result: result.saturated)

    @cached_property
    def dropped(self) -> np.ndarray:
        """Keys that each row may attend to and that were dropped, int64, shape (query_heads, queries)."""
        return assemble(self.plan, [result.dropped for result in self.results])

    @cached_property
    def dropped_share(self) -> np.ndarray:
        """Certified bound of the dropped share of each row's softmax, float64, shape (query_heads, queries)."""
        pairs = zip(self.plan, self.results, strict=True)
        return assemble(
            self.plan,
            [Certificate.of(planned.job, result).dropped_share(result.state.total) for planned, result in pairs],
        )

    @property
    def output_error(self) -> np.ndarray:
        """Certified bound of what dropping changes in `real_output`, float64, shape (query_heads, queries)."""
        peak = np.abs(self.attention.value.astype(np.int64)).max(axis=(1, 2))
        bound: np.ndarray = 2 * self.dropped_share * (np.repeat(peak, self.attention.group) * self._value_unit)[:, None]
        return bound

    @property
    def _value_unit(self) -> np.ndarray:
        """Real value of one unit of v for each query head, shape (query_heads,)."""
        return np.repeat(self.attention.value_scale, self.attention.group)

    def _per_kv_head(self, count: Callable[[JobResult], int]) -> np.ndarray:
        total = np.zeros(self.attention.kv_heads, dtype=np.int64)
        for planned, result in zip(self.plan, self.results, strict=True):
            total[planned.kv_head] += count(result)
        return total


def attend(
    attention: QuantisedAttention,
    config: CoreConfig,
    mask: Mask | None = None,
    tau: int = formats.TAU_KEEP_ALL,
) -> AttentionResult:
    """Run a layer job by job.

    Parameters
    ----------
    attention : QuantisedAttention
        The layer.
    config : CoreConfig
        The core.
    mask : Mask, optional
        Every query sees every key by default.
    tau : int
        Threshold in logit units; see `golden.job.threshold_from_bits`.

    Returns
    -------
    AttentionResult

    Raises
    ------
    InputError
        If `config` can't hold a job.
    """
    plan = plan_jobs(attention, config, mask, tau)
    return AttentionResult(attention, plan, [run_job(planned.job, config.lanes) for planned in plan])
