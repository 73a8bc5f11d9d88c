"""A small vision transformer for the 8 x 8 images of handwritten digits. Importing this module imports PyTorch."""

from __future__ import annotations

import torch
from torch import nn

from golden.experiments.digits import MEAN, SIDE, SPREAD, DigitsShape
from golden.torch_modules import AttentionFunction, ProjectedAttention


class EncoderLayer(nn.Module):
    """Attention and a feed-forward part, each behind a normalisation and beside a shortcut.

    Parameters
    ----------
    shape : DigitsShape
        Of the model.
    """

    def __init__(self, shape: DigitsShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = ProjectedAttention(shape.attention, shape.width, shape.heads, length=shape.tokens)
        self.feed_norm = nn.LayerNorm(shape.width)
        self.feed = nn.Sequential(nn.Linear(shape.width, shape.inner), nn.GELU(), nn.Linear(shape.inner, shape.width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens after the layer: shape (batch, tokens, width), as they came."""
        x = x + self.attention(self.attention_norm(x))
        output: torch.Tensor = x + self.feed(self.feed_norm(x))
        return output


class DigitsTransformer(nn.Module):
    """Patches of an image with learnt positions, encoder layers, and a linear map of the mean token to ten digits.

    Positions are added to the tokens and not turned into queries and keys, so that Efficient Attention has the same
    rows for keys and values.

    Parameters
    ----------
    shape : DigitsShape
        Its size.
    """

    def __init__(self, shape: DigitsShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Linear(shape.patch**2, shape.width)
        self.positions = nn.Parameter(torch.randn(shape.tokens, shape.width))
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 10)

    def set_attention(self, attend: AttentionFunction) -> None:
        """Have every layer attend by `attend`."""
        for layer in self.layers:
            layer.attention.attend = attend

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of ten digits, shape (batch, 10), for images of shape (batch, 8, 8)."""
        patch = self.shape.patch
        across = ((images - MEAN) / SPREAD).unflatten(1, (SIDE // patch, patch)).unflatten(3, (SIDE // patch, patch))
        x = self.embedding(across.transpose(2, 3).flatten(3).flatten(1, 2)) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: torch.Tensor = self.head(self.norm(x).mean(dim=1))
        return logits
