"""Handwritten digits, read by a small vision transformer: data, training, accuracy and files.

The 1797 images of 8 x 8 pixels come with scikit-learn (its `load_digits`; Alpaydin and Kaynak, Optical Recognition of
Handwritten Digits, UCI, 1998). Every pixel is a token by default, so that a layer attends to 64 keys. scikit-learn and
PyTorch are imported where they are used, and only there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError
from golden.experiments.weights import Weights, round_weights, save_weights
from golden.variants import AttentionKind

if TYPE_CHECKING:
    from golden.experiments.digits_model import DigitsTransformer
    from golden.sparsity_target import SparsityTargetedAttention

SIDE = 8
"""Pixels of a side of an image."""

MEAN, SPREAD = 0.305, 0.376
"""Of a pixel, over all images: the model takes pixels less their mean in units of their standard deviation."""

HELD_OUT = 5
"""One image in so many of each digit is not trained on."""

_KIND = "digits model"


@dataclass(frozen=True)
class DigitsShape:
    """Size of a model.

    Parameters
    ----------
    layers, width, heads, inner : int
        Encoder layers, their width, the heads that it is cut into, and the width of the feed-forward part.
    patch : int
        Pixels of a side of a token: 1, 2, 4 or 8.
    attention : AttentionKind
        Which projections the attention has.

    Raises
    ------
    InputError
        If there is no such model.
    """

    layers: int = 4
    width: int = 64
    heads: int = 2
    inner: int = 128
    patch: int = 1
    attention: AttentionKind = AttentionKind.STANDARD

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "inner", "patch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} of a model must be a whole number from 1 on, not {value!r}")
        if self.width % self.heads or SIDE % self.patch:
            raise InputError(
                f"heads must divide the width {self.width}, and patch the {SIDE} pixels of a side, "
                f"not {self.heads} and {self.patch}"
            )
        if self.attention not in set(AttentionKind):
            kinds = ", ".join(AttentionKind)
            raise InputError(f"the attention of a model must be one of {kinds}, not {self.attention!r}")
        object.__setattr__(self, "attention", AttentionKind(self.attention))

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (SIDE // self.patch) ** 2


@dataclass(frozen=True)
class DigitsPlan:
    """How a model is trained: AdamW, each epoch in a new order with images moved by up to a pixel.

    Parameters
    ----------
    epochs, batch : int
        Passes over the images, and images of a step.
    seed : int
        Of the first weights and of the order.
    rate, weight_decay : float
        Largest learning rate, which falls to zero with the cosine after a tenth of the steps; of the matrices.
    """

    epochs: int = 60
    batch: int = 48
    seed: int = 0
    rate: float = 3e-3
    weight_decay: float = 0.05

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step of so many, counted from 0."""
        warmup = max(steps // 10, 1)
        if step < warmup:
            return self.rate * (step + 1) / warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


@dataclass(frozen=True, eq=False)
class Digits:
    """Images with what they show.

    Parameters
    ----------
    images : numpy.ndarray
        float32, shape (number, 8, 8), 0 to 1.
    labels : numpy.ndarray
        int64, shape (number,), 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


def libraries() -> Any:
    """Return the module torch.

    Raises
    ------
    InputError
        If it or scikit-learn is missing.
    """
    try:
        import sklearn.datasets  # noqa: F401
        import torch
    except ImportError as error:
        raise InputError("digits need PyTorch and scikit-learn: pip install lean-attention[models]") from error
    return torch


def read_digits() -> tuple[Digits, Digits]:
    """Return the images to train on and those held out, every fifth of each digit, in scikit-learn's order.

    Raises
    ------
    InputError
        If PyTorch or scikit-learn is missing.
    """
    libraries()
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = (found.images / 16).astype(np.float32), found.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[::HELD_OUT]] = True
    return Digits(images[~held_out], labels[~held_out]), Digits(images[held_out], labels[held_out])


def build_model(shape: DigitsShape, seed: int = 0) -> DigitsTransformer:
    """Return an untrained model in float32; InputError if PyTorch is missing."""
    torch = libraries()
    from golden.experiments.digits_model import DigitsTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DigitsTransformer(shape)


def shifted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return images moved by up to a pixel in each direction, what comes in being 0."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = random.integers(0, 3, (2, len(images)))
    span = np.arange(SIDE)
    moved: np.ndarray = padded[
        np.arange(len(images))[:, None, None], rows[:, None, None] + span[:, None], columns[:, None, None] + span
    ]
    return moved


def train(
    model: DigitsTransformer,
    digits: Digits,
    plan: DigitsPlan,
    report: Callable[[str], None] = lambda line: None,
    sparsity: SparsityTargetedAttention | None = None,
) -> None:
    """Train `model` in place and round its weights to float16, in which they are kept.

    Parameters
    ----------
    model : DigitsTransformer
        As `build_model` returns it.
    digits : Digits
        What to train on.
    plan : DigitsPlan
        How.
    report : callable
        What to do with a line on the progress, some ten of them.
    sparsity : SparsityTargetedAttention, optional
        The attention to train with, and its penalty beside the cross entropy; PyTorch's own by default.
    """
    torch = libraries()
    if sparsity is not None:
        model.set_attention(sparsity)
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=plan.rate)
    steps_an_epoch = -(-len(digits.labels) // plan.batch)
    steps, step = plan.epochs * steps_an_epoch, 0
    model.train()
    for epoch in range(plan.epochs):
        random = np.random.default_rng((plan.seed, epoch))
        order = random.permutation(len(digits.labels))
        images = torch.from_numpy(shifted(digits.images[order], random))
        labels = torch.from_numpy(digits.labels[order])
        losses = []
        for batch in zip(images.split(plan.batch), labels.split(plan.batch), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = plan.rate_at(step, steps)
            if sparsity is not None:
                sparsity.step = step
            loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
            losses.append(loss.item())
            if sparsity is not None:
                loss = loss + sparsity.penalty()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
        if (epoch + 1) % max(plan.epochs // 10, 1) == 0 or epoch + 1 == plan.epochs:
            kept = "" if sparsity is None else f", {sparsity.describe()}"
            report(f"epoch {epoch + 1} of {plan.epochs}, loss {np.mean(losses):.4f}{kept}")
    round_weights(model)
    model.set_attention(torch.nn.functional.scaled_dot_product_attention)
    model.eval()


def predictions(model: DigitsTransformer, digits: Digits, batch: int = 60) -> np.ndarray:
    """Return the log-probabilities that `model`, with whatever attention it has, gives: float64, shape (number, 10)."""
    torch = libraries()
    model.eval()
    with torch.inference_mode():
        logits = [model(part) for part in torch.from_numpy(digits.images).split(batch)]
        found: np.ndarray = torch.cat(logits).double().log_softmax(dim=1).numpy()
    return found


def accuracy_and_loss(found: np.ndarray, digits: Digits) -> tuple[float, float]:
    """Return the share of images whose largest log-probability is right, and the cross entropy in nats."""
    right = found.argmax(axis=1) == digits.labels
    return float(right.mean()), float(-found[np.arange(len(found)), digits.labels].mean())


def save_model(path: str | os.PathLike[str], model: DigitsTransformer, training: dict[str, Any] | None = None) -> None:
    """Write the weights as float16, compressed, with their shape and notes on the training.

    Raises
    ------
    InputError
        If a weight is not finite in float16, or the file can't be written.
    """
    save_weights(Path(path), model, asdict(model.shape), training or {})


def load_model(path: str | os.PathLike[str]) -> DigitsTransformer:
    """Return the model of a weights file, in float32 and ready to be used.

    Raises
    ------
    InputError
        If PyTorch or scikit-learn is missing, or the file holds no such model.
    """
    libraries()
    weights = Weights.read(Path(path), _KIND)
    try:
        shape = DigitsShape(**weights.shape)
    except (TypeError, InputError) as error:
        raise InputError(f"{path} holds no {_KIND}: its shape is not that of one") from error
    model = build_model(shape)
    weights.put_into(model)
    return model
