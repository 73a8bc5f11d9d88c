"""A ragged batch of decode steps on random tensors: what a cluster is measured and modelled on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from golden import formats
from golden.cluster import ClusterJob, list_jobs
from golden.config import ClusterConfig, CoreConfig
from golden.job import Job, ScoreScale
from golden.masks import Mask, MaskKind
from golden.partition import RULES, Head, Partition, batch
from golden.threshold import Threshold

SPREAD_BITS = 2.5
"""Standard deviation of the logits, in bits."""

DEVIATION = 30
"""Standard deviation of the elements."""


def decode_jobs(
    keys: Mapping[Head, int], config: CoreConfig, rows: int, head_dim: int, threshold: Threshold, seed: int
) -> dict[Head, Job]:
    """Return the job of each head: one step of a group of query heads, over keys of its own.

    Parameters
    ----------
    keys : Mapping
        Keys of each head.
    config : CoreConfig
        The core that is to run the jobs.
    rows : int
        Query heads of a group.
    head_dim : int
        Elements of all rows.
    threshold : Threshold
        Of every job.
    seed : int
        Of the tensors, whose elements are normally distributed.

    Returns
    -------
    dict of Head to Job
        Tags count up in the order of the heads.

    Raises
    ------
    InputError
        If `config` can't hold a job.
    """
    random = np.random.default_rng(seed)

    def int8(*shape: int) -> np.ndarray:
        drawn: np.ndarray = np.clip(np.rint(random.normal(0, DEVIATION, shape)), -127, 127).astype(np.int8)
        return drawn

    factor = 2.0**formats.FRACTION_BITS * SPREAD_BITS / (DEVIATION**2 * head_dim**0.5)
    jobs = {}
    for number, (head, length) in enumerate(keys.items()):
        jobs[head] = Job(
            query=int8(rows, head_dim),
            positions=np.full(rows, length - 1, dtype=np.int64),
            key=int8(length, head_dim),
            indices=np.arange(length, dtype=np.int64),
            value=int8(length, head_dim),
            scale=ScoreScale.of(factor),
            threshold=threshold,
            mask=Mask(MaskKind.CAUSAL),
            tag=number % (1 << config.tag_bits),
        )
        jobs[head].check(config)
    return jobs


@dataclass(frozen=True)
class DecodeBatch:
    """A batch, and the tiles in which its keys are spread over the cores of a cluster.

    Parameters
    ----------
    lengths : tuple of int
        Keys of each request.
    heads : int
        Key and value heads.
    rows, head_dim : int
        As of `decode_jobs`.
    tau : float, optional
        Threshold in bits; nothing is dropped by default.
    tile : int
        Keys of a tile.
    seed : int
        Of the tensors.
    """

    lengths: tuple[int, ...]
    heads: int
    rows: int
    head_dim: int
    tau: float | None
    tile: int
    seed: int

    @property
    def keys(self) -> dict[Head, int]:
        """Keys of every head."""
        return batch(self.lengths, self.heads)

    def partitions(self, cores: int) -> dict[str, Partition]:
        """Return what each core does by each of the rules of `golden.partition`."""
        return {name: rule(self.keys, cores, self.tile) for name, rule in RULES.items()}

    def lists(self, config: ClusterConfig) -> dict[str, list[ClusterJob]]:
        """Return the list of jobs by each of the rules; InputError if a core can't hold one."""
        jobs = decode_jobs(self.keys, config.core, self.rows, self.head_dim, Threshold.of(self.tau), self.seed)
        return {name: list_jobs(partition, jobs) for name, partition in self.partitions(config.cores).items()}

    def describe(self, config: ClusterConfig) -> str:
        """Return a line that says what is run on what."""
        keys = self.keys
        dropping = "nothing dropped" if self.tau is None else f"tau {self.tau:g}"
        return (
            f"{len(self.lengths)} requests of {min(self.lengths)} to {max(self.lengths)} keys, {len(keys)} heads, "
            f"{sum(keys.values())} keys; rows {self.rows}, d = {self.head_dim}, {dropping}; "
            f"{config.cores} cores of {config.core.size}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return asdict(self)
