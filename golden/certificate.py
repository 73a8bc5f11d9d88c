"""The certificate: how much the dropped keys can have changed an output, from the core's own counts.

Notation, for one row and in units of a probability's ``2**-PROBABILITY_BITS``: a key's weight is
``w = 2**(x - m) * 2**PROBABILITY_BITS`` for its logit x and the row's final maximum m.

* A dropped key has a weight below ``2**(PROBABILITY_BITS - tau)``, because the running maximum it was judged by only
  grows. D, the sum of that over the dropped keys, bounds their weights from above.
* The probability that a kept key adds to the sum l exceeds its weight by at most `formats.probability_excess`, about
  0.75: half a unit from rounding the shifted value and up to a quarter from rounding the table. Rescaling and merging
  shift right, which shrinks an excess and rounds down. So l less that much for each kept key bounds the kept weights
  from below. So does ``2**(PROBABILITY_BITS - 1)``: m is the ceiling of the largest logit, whose key is never dropped
  since tau is at least 1.

With l' the larger of the two, the dropped share of all the weight is at most ``D / (l' + D)``. Exact softmax over all
keys is the mean of the dropped keys' values and the kept keys' values in these shares, so dropping moves no element of
the output by more than twice the share times the largest magnitude in V. Rounding of probabilities and outputs comes
on top: it is there without dropping as well.

An error-bounded threshold (`golden.threshold`) bounds the share by itself, and the smaller of the two bounds holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden import formats
from golden.errors import InputError
from golden.job import Job, JobResult

_EXCESS = formats.probability_excess()


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known about the keys that each row of a block kept and dropped.

    Certificates of the same rows over disjoint keys add up, whether their states were chained or merged.

    Parameters
    ----------
    dropped_weight : numpy.ndarray
        Upper bound D of the weight of the dropped keys, float64, shape (rows,).
    kept : numpy.ndarray
        Kept keys that the row may attend to, int64, shape (rows,).
    largest_loss : float
        Bound of the dropped share that an error-bounded threshold gives, 1 without one.
    """

    dropped_weight: np.ndarray
    kept: np.ndarray
    largest_loss: float = 1.0

    @classmethod
    def counted(
        cls, dropped: np.ndarray, attendable: np.ndarray, tau: np.ndarray | int, largest_loss: float
    ) -> Certificate:
        """Return the certificate of rows that dropped `dropped` of `attendable` keys at `tau`, arrays of any shape."""
        lightest = np.exp2(formats.PROBABILITY_BITS - np.asarray(tau) / (1 << formats.FRACTION_BITS))
        return cls(dropped * lightest, attendable - dropped, largest_loss)

    @classmethod
    def of(cls, job: Job, result: JobResult, before: Certificate | None = None) -> Certificate:
        """Return the certificate of `result`, all keys in its state included.

        Parameters
        ----------
        job : Job
            The job.
        result : JobResult
            What it returned.
        before : Certificate, optional
            Of the state that the job starts from.

        Raises
        ------
        InputError
            If the job starts from a state that has seen keys and nothing is known about what it dropped.
        """
        if before is None and job.state is not None and job.state.total.any():
            raise InputError("the job starts from a state, so its certificate needs the one of that state")
        attendable = job.mask.allowed(job.positions, job.indices).sum(axis=1)
        own = cls.counted(result.dropped, attendable, job.threshold.tau, job.threshold.largest_loss)
        return own if before is None else before + own

    def __add__(self, other: Certificate) -> Certificate:
        """Return the certificate over the keys of both."""
        # Shares of disjoint keys that are each at most so much of their own sum are so together.
        largest_loss = max(self.largest_loss, other.largest_loss)
        return Certificate(self.dropped_weight + other.dropped_weight, self.kept + other.kept, largest_loss)

    def dropped_share(self, total: np.ndarray) -> np.ndarray:
        """Return the bound of the share of the exact softmax that was dropped.

        Parameters
        ----------
        total : numpy.ndarray
            The rows' final sums l, shape (rows,).

        Returns
        -------
        numpy.ndarray
            float64, shape (rows,), from 0 (nothing was dropped) to below 1.
        """
        kept_weight = np.maximum(total - _EXCESS * self.kept, formats.PROBABILITY_ONE / 2)
        share: np.ndarray = self.dropped_weight / (kept_weight + self.dropped_weight)
        return np.asarray(np.minimum(share, np.where(self.dropped_weight > 0, self.largest_loss, 0)))

    def output_error(self, total: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return the bound of what dropping changes in any output element.

        Parameters
        ----------
        total : numpy.ndarray
            The rows' final sums l, shape (rows,).
        value : numpy.ndarray
            The values of all the keys, any shape.

        Returns
        -------
        numpy.ndarray
            float64, shape (rows,), in units of `value`.
        """
        return 2 * self.dropped_share(total) * float(np.abs(value.astype(np.float64)).max())
