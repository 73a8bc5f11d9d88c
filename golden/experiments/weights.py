"""Weights of trained models in .npz files: float16, compressed, with the shape of the model and notes on its training.

PyTorch is imported where weights are put into a model, and only there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError
from golden.files import read_npz, write_npz

if TYPE_CHECKING:
    import torch

_SHAPE, _TRAINING = "shape", "training"
"""Names in a file beside those of the parameters."""


def round_weights(model: torch.nn.Module) -> None:
    """Round the weights of a model to float16, in which they are kept, so that a file of them loses nothing."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())


def save_weights(path: Path, model: torch.nn.Module, shape: dict[str, Any], training: dict[str, Any]) -> None:
    """Write the weights of a model.

    Parameters
    ----------
    path : pathlib.Path
        The .npz file.
    model : torch.nn.Module
        The model, whose weights `round_weights` has rounded.
    shape, training : dict
        What it takes to build the model, and what is to be known about its training; anything JSON can hold.

    Raises
    ------
    InputError
        If a weight is not finite in float16, or the file can't be written.
    """
    arrays = {name: weight.detach().numpy().astype(np.float16) for name, weight in model.named_parameters()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"weights {name} are not finite in float16, so the model can't be kept")
    notes = {_SHAPE: json.dumps(shape), _TRAINING: json.dumps(training)}
    write_npz(path, arrays | {name: np.array(note) for name, note in notes.items()})


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a model as a file holds them.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kind : str
        What kind of model it is for, to name it in messages.
    shape, training : dict
        What `save_weights` was given.
    arrays : dict of str to numpy.ndarray
        The weights by name.
    """

    path: Path
    kind: str
    shape: dict[str, Any]
    training: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path, kind: str) -> Weights:
        """Read a file.

        Raises
        ------
        InputError
            If it can't be read, or holds no shape and training.
        """
        arrays = read_npz(path, f"the weights of a {kind}")
        notes = {}
        for name in (_TRAINING, _SHAPE):
            try:
                notes[name] = json.loads(str(arrays.pop(name)))
            except (KeyError, ValueError):
                notes[name] = None
            if not isinstance(notes[name], dict):
                raise InputError(f"{path} holds no {kind}: it has no {name}")
        return cls(path, kind, notes[_SHAPE], notes[_TRAINING], arrays)

    def put_into(self, model: torch.nn.Module) -> None:
        """Copy the weights into a model of their shape, and make it ready to be used.

        Raises
        ------
        InputError
            If weights are missing, too many or of another shape.
        """
        import torch

        weights = dict(model.named_parameters())
        if set(weights) != set(self.arrays):
            name = min(set(weights) ^ set(self.arrays))
            what = "not among the model's" if name in self.arrays else "missing"
            raise InputError(f"{self.path} holds no {self.kind}: weights {name} are {what}")
        for name, weight in weights.items():
            array, expected = self.arrays[name], tuple(weight.shape)
            if array.dtype.kind != "f" or array.shape != expected:
                raise InputError(f"weights {name} of {self.path} must be floats of shape {expected}, not {array.shape}")
            with torch.no_grad():
                weight.copy_(torch.from_numpy(array.astype(np.float32)))
        model.eval()
