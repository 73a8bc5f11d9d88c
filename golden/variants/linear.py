"""Linear maps as variants take them, and the check of the arrays that go into one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.errors import InputError


def checked(name: str, array: np.ndarray, *shape: int | None) -> np.ndarray:
    """Return an array as float64.

    Parameters
    ----------
    name : str
        What it is called in a message.
    array : numpy.ndarray
        Floats or whole numbers.
    *shape : int or None
        What its shape must be; None stands for any size from 1 on.

    Raises
    ------
    InputError
        If it has another shape, or holds anything but finite numbers.
    """
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(
        size >= 1 and wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} must have shape ({wanted}), not {array.shape}")
    if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
        raise InputError(f"{name} must hold finite numbers")
    return array.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Linear:
    """The map ``x @ weight + bias``.

    Parameters
    ----------
    weight : numpy.ndarray
        Shape (inputs, outputs), the transpose of what `torch.nn.Linear` keeps.
    bias : numpy.ndarray, optional
        Shape (outputs,); none by default.

    Raises
    ------
    InputError
        If shapes do not agree or a number is not finite.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", checked("a weight", self.weight, None, None))
        if self.bias is not None:
            object.__setattr__(self, "bias", checked("a bias", self.bias, self.outputs))

    @property
    def inputs(self) -> int:
        """Elements of a row that it takes."""
        return len(self.weight)

    @property
    def outputs(self) -> int:
        """Elements of a row that it gives."""
        return int(self.weight.shape[1])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the map of every row of `x`: float64, shape (rows, outputs); `x` has shape (rows, inputs)."""
        mapped: np.ndarray = checked("the input of a linear map", x, None, self.inputs) @ self.weight
        if self.bias is not None:
            mapped += self.bias
        return mapped
