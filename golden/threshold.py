"""Which keys a block of rows drops: a fixed threshold, a bound on what is lost, a target share, or all three.

A key's *distance* from a row is how far its logit lies below the row's running maximum, ``z = (m << 6) - x``.

* **Fixed**: a key is dropped if its distance is above tau in every row that may attend to it (BLASST, arXiv 2512.12087,
  at key instead of tile granularity).
* **Error-bounded**: it also has to fit each row's budget, an integer that is never more than ``2**-e`` of the mass that
  was kept less the mass that was dropped. A key that may weigh more than what is left of some row's budget is kept. So
  whatever the data, a row loses at most ``1 / (2**e + 1)`` of its softmax.
* **Target share**: tau moves from block to block, by how far the last block's share of surviving keys was from the
  target. The state of the controller is tau itself.

docs/arithmetic.md has the rules to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from golden import formats
from golden.config import CoreConfig
from golden.errors import InputError


@dataclass(frozen=True)
class Threshold:
    """What of a job or a layer decides about dropping.

    Parameters
    ----------
    tau : int
        Distance, in units of ``2**-FRACTION_BITS``, up to which a key survives; `formats.TAU_KEEP_ALL` drops nothing.
        The first block's if there is a target.
    epsilon_shift : int
        The e of the error bound: a row's dropped mass is at most ``2**-e`` of what it keeps. 0 stands for no bound.
    target : int
        Share of the streamed keys that should survive, in units of ``2**-TARGET_BITS``. 0 leaves tau as it is.

    Raises
    ------
    InputError
        If a value is outside its format.
    """

    tau: int = formats.TAU_KEEP_ALL
    epsilon_shift: int = 0
    target: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("tau", formats.TAU_MIN, formats.TAU_KEEP_ALL),
            ("epsilon_shift", 0, formats.EPSILON_SHIFT_MAX),
            ("target", 0, (1 << formats.TARGET_BITS) - 1),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} must be from {least} to {most}, not {getattr(self, name)}")

    @classmethod
    def of(cls, tau: float | None = None, epsilon: float | None = None, target: float | None = None) -> Threshold:
        """Return the threshold that these real numbers ask for.

        Parameters
        ----------
        tau : float, optional
            In bits (base-2 logits). By default every key survives; with `epsilon` the smallest tau, so that only
            the bound decides; with `target` `formats.TAU_START`, from where the controller finds its own.
        epsilon : float, optional
            Largest share of a row's softmax that may be lost. Rounded down to the next ``1 / (2**e + 1)``.
        target : float, optional
            Share of the streamed keys that should survive.

        Raises
        ------
        InputError
            If a number is outside the range of its format.
        """
        unit = 1 << formats.FRACTION_BITS
        largest = (formats.TAU_KEEP_ALL - 1) / unit
        units = formats.TAU_KEEP_ALL
        if tau is not None:
            if not (math.isfinite(tau) and formats.TAU_MIN / unit <= tau <= largest):
                raise InputError(f"tau must be from {formats.TAU_MIN / unit} to {largest} bits, not {tau}")
            units = round(tau * unit)
        elif target is not None:
            units = formats.TAU_START
        elif epsilon is not None:
            units = formats.TAU_MIN
        shift = 0
        if epsilon is not None:
            least = 1 / ((1 << formats.EPSILON_SHIFT_MAX) + 1)
            if not (math.isfinite(epsilon) and least <= epsilon < 1):
                raise InputError(f"epsilon must be from {least:.2g} to below 1, not {epsilon}")
            shift = next(e for e in range(1, formats.EPSILON_SHIFT_MAX + 1) if 1 / ((1 << e) + 1) <= epsilon)
        share = 0
        if target is not None:
            share = round(target * (1 << formats.TARGET_BITS)) if math.isfinite(target) else 0
            if not 0 < share < 1 << formats.TARGET_BITS:
                raise InputError(f"target must be above 0 and below 1, not {target}")
        return cls(units, shift, share)

    @property
    def keeps_all(self) -> bool:
        """Whether no key that some row may attend to is ever dropped."""
        return self.tau == formats.TAU_KEEP_ALL and not self.target

    @property
    def largest_loss(self) -> float:
        """Largest share of a row's softmax that may be dropped; 1 if nothing bounds it."""
        return 1 / ((1 << self.epsilon_shift) + 1) if self.epsilon_shift else 1.0

    def check(self, config: CoreConfig) -> None:
        """Raise InputError if `config` lacks what this threshold needs."""
        if self.epsilon_shift and not config.rows_per_budget:
            raise InputError("this configuration has no error bound: rows_per_budget is 0")
        if self.target and not config.target_control:
            raise InputError("this configuration can't follow a target: target_control is 0")

    def after(self, survivors: int, keys: int) -> Threshold:
        """Return the threshold of the block after one that kept `survivors` of `keys` streamed keys.

        Without a target that is this threshold. With one, the error of the share moves tau, by `formats.GAIN_BITS`, as
        an integer and within `formats.TAU_MIN` to `formats.TAU_MAX_CONTROLLED`.

        Parameters
        ----------
        survivors, keys : int
            Of the block that has ended, 0 to `keys`. A block of no keys has no error.
        """
        if not self.target:
            return self
        error = (survivors << formats.TARGET_BITS) - self.target * keys
        # Dividing by the next power of two from `keys` is a shift; the gain is a part of it.
        step = error >> ((keys - 1).bit_length() + formats.TARGET_BITS - formats.GAIN_BITS)
        return replace(self, tau=min(max(self.tau - step, formats.TAU_MIN), formats.TAU_MAX_CONTROLLED))
