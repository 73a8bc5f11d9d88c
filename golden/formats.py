"""Number formats of the datapath: the only place where their widths and special values are written.

Every format is an integer with an implied binary point. The golden model, the RTL and all reports take them from here.
"""

import numpy as np

DATA_BITS = 8
"""Signed width of an element of q, k and v."""

FRACTION_BITS = 6
"""Fraction bits of a base-2 logit ``x``: its unit is ``2**-6``."""

SCORE_BITS = 16
"""Signed width of a base-2 logit after saturation."""

MULTIPLIER_BITS = 16
"""Unsigned width of a job's score multiplier ``M``."""

SHIFT_BITS = 6
"""Unsigned width of a job's score shift ``s``; every value from 0 to 63 is allowed."""

PROBABILITY_BITS = 12
"""Unsigned width of an unnormalised probability; ``2**12`` stands for 1, so the largest value is just below."""

OUTPUT_BITS = 16
"""Signed width of a normalised output element."""

OUTPUT_FRACTION_BITS = 8
"""Fraction bits of a normalised output element, in units of v."""

TAU_BITS = 16
"""Unsigned width of the threshold ``tau``, in units of a logit's ``2**-6``."""

TAU_MIN = 1 << FRACTION_BITS
"""The smallest threshold, 1.0: the key that holds a row's maximum then always survives."""

TAU_KEEP_ALL = (1 << TAU_BITS) - 1
"""The threshold that drops no key which some row may attend to."""

TAU_START = 8 << FRACTION_BITS
"""Threshold of the first block when only a target share is given."""

TAU_MAX_CONTROLLED = (PROBABILITY_BITS + 2) << FRACTION_BITS
"""Largest threshold that the controller goes to: a key further away has no weight in any row."""

TARGET_BITS = 16
"""Fraction bits of a target share of surviving keys."""

GAIN_BITS = 7
"""Gain of the controller: a share that is off by 1 moves tau by up to ``2**7`` units."""

EPSILON_SHIFT_BITS = 4
EPSILON_SHIFT_MAX = (1 << EPSILON_SHIFT_BITS) - 1
"""Largest e of the error bound ``2**-e``; 0 stands for no bound."""

MASS_FRACTION_BITS = 16
"""Fraction bits of a kept mass, in units of ``2**m``; dropped masses and the row's budget have e more."""

CHORD_BITS = FRACTION_BITS + 1
"""Fraction bits of the chord ``1 - f / 2`` that bounds ``2**-f`` from above for 0 <= f <= 1."""

CHORD_GAP = 6
"""In units of ``2**-CHORD_BITS``, more than the chord is ever above ``2**-f``: chord less gap bounds it from below."""

MAXIMUM_BITS = SCORE_BITS - FRACTION_BITS + 1
"""Signed width of a running integer maximum: the ceiling of any logit, and `NO_MAXIMUM`."""

NO_MAXIMUM = -(1 << (MAXIMUM_BITS - 1))
"""The running maximum of a row that has seen no key: below the ceiling of every logit."""

DELTA_MAX = 63
"""Largest rescaling shift; every accumulator is narrower, so a larger one changes nothing."""

STATE_WORD_BITS = 48
"""Width of one word of a partial state on a port: an element of O, or a row's maximum above its sum."""

STATE_SUM_BITS = 32
"""Width of the sum l in a row's state word; the running maximum stands above it."""

SCORE_MAX = (1 << (SCORE_BITS - 1)) - 1
SCORE_MIN = -(1 << (SCORE_BITS - 1))
OUTPUT_MAX = (1 << (OUTPUT_BITS - 1)) - 1
OUTPUT_MIN = -(1 << (OUTPUT_BITS - 1))
PROBABILITY_ONE = 1 << PROBABILITY_BITS


def exp2_table() -> np.ndarray:
    """Return the table of ``2**-f`` for every logit fraction ``f``.

    Returns
    -------
    numpy.ndarray
        ``2**FRACTION_BITS`` entries of int64; entry ``i`` is ``2**(-i / 2**FRACTION_BITS)`` in units of
        ``2**-PROBABILITY_BITS``, rounded to nearest and kept below 1.
    """
    steps = 1 << FRACTION_BITS
    exact = PROBABILITY_ONE * np.exp2(-np.arange(steps) / steps)
    entries: np.ndarray = np.minimum(np.rint(exact), PROBABILITY_ONE - 1).astype(np.int64)
    return entries


def probability(distance: int) -> int:
    """Return the probability of a logit that lies `distance` below the running maximum.

    Parameters
    ----------
    distance : int
        ``(m << FRACTION_BITS) - x``, zero or more, in units of ``2**-FRACTION_BITS``.

    Returns
    -------
    int
        ``2**-distance`` in units of ``2**-PROBABILITY_BITS``: the table's entry shifted right, rounded to nearest.
    """
    entry = int(exp2_table()[distance % (1 << FRACTION_BITS)])
    places = distance >> FRACTION_BITS
    return ((entry << 1 >> places) + 1) >> 1


def probability_excess() -> float:
    """Return the largest amount by which `probability` exceeds the exact power of two, in its own units.

    A kept key's contribution to the row sum is at most this much above its true weight, which is what the
    certificate of `golden.certificate` has to allow for.
    """
    distances = np.arange((PROBABILITY_BITS + 2) << FRACTION_BITS)
    exact = PROBABILITY_ONE * np.exp2(-distances / (1 << FRACTION_BITS))
    rounded = np.array([probability(int(distance)) for distance in distances])
    return float(np.max(rounded - exact))
