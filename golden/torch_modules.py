"""Standard, Optimised, Efficient and Super Attention as PyTorch modules to train with (arXiv 2403.01643).

The equations are those of `golden.variants`, whose functions give the same numbers for the same weights. The softmax
attention itself is a function that a module holds in `attend`, called as PyTorch's own: so one that counts survivors
takes its place in training (`golden.sparsity_target`), and the core's arithmetic in evaluation
(`golden.torch_attention`), without a change of the module.

Importing this module imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from golden.errors import InputError
from golden.variants import AttentionKind

AttentionFunction = Callable[..., torch.Tensor]
"""Of query, key and value, (batch, heads, length, dimension), and the keyword ``is_causal``."""


class TokenMixing(nn.Module):
    """The product of W_A with tokens, from the left, by which Super Attention makes values.

    Begins as the identity. A causal W_A is lower triangular, and only its triangle is kept: row after row, so that the
    first rows are the W_A of a shorter input.

    Parameters
    ----------
    length : int
        The most tokens of an input.
    causal : bool
        Whether a token may only take from those before it.
    """

    def __init__(self, length: int, causal: bool) -> None:
        super().__init__()
        self.length = length
        self.causal = causal
        identity = torch.eye(length)
        self.weight = nn.Parameter(identity[tuple(torch.tril_indices(length, length))] if causal else identity)

    def matrix(self, length: int) -> torch.Tensor:
        """Return W_A for so many tokens, shape (length, length).

        Raises
        ------
        InputError
            If these are more than the module is for.
        """
        if length > self.length:
            raise InputError(f"the mixing matrix is for at most {self.length} keys, not {length}")
        if not self.causal:
            return self.weight[:length, :length]
        rows, columns = torch.tril_indices(length, length)
        return self.weight.new_zeros(length, length).index_put((rows, columns), self.weight[: len(rows)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mixed tokens of `x`, shape (..., length, dimension)."""
        return self.matrix(x.shape[-2]) @ x


def projections(
    kind: AttentionKind, dimension: int, *, length: int | None = None, causal: bool = False, bias: bool = True
) -> dict[str, nn.Module]:
    """Return what makes query, key, value and output in an attention, by the names that transformers has for them.

    Parameters
    ----------
    kind : AttentionKind
        Which of them there are; where there is none, the identity.
    dimension : int
        Of the model.
    length : int, optional
        The most tokens of an input; only Super Attention needs it.
    causal : bool
        Whether the attention is.
    bias : bool
        Whether the projections have a bias.

    Returns
    -------
    dict of str to torch.nn.Module
        ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj``.

    Raises
    ------
    InputError
        If Super Attention is given no length.
    """

    def linear() -> nn.Module:
        return nn.Linear(dimension, dimension, bias=bias)

    value: nn.Module = linear() if kind.projects_values else nn.Identity()
    if kind.mixes_tokens:
        if length is None:
            raise InputError("Super Attention needs the length of its longest input")
        value = TokenMixing(length, causal)
    key = linear() if kind.projects_keys else nn.Identity()
    return {"q_proj": linear(), "k_proj": key, "v_proj": value, "o_proj": linear()}


class ProjectedAttention(nn.Module):
    """Multi-head attention of any `AttentionKind`.

    Parameters
    ----------
    kind : AttentionKind
        Which projections there are.
    dimension : int
        Of the model.
    heads : int
        Query heads, and as many key and value heads; a divisor of `dimension`.
    causal : bool
        Whether a token attends only to those before it and to itself.
    length : int, optional
        The most tokens of an input; only Super Attention needs it.
    bias : bool
        Whether the projections have a bias.

    Attributes
    ----------
    attend : callable
        The softmax attention, an `AttentionFunction`: `torch.nn.functional.scaled_dot_product_attention` by default.

    Raises
    ------
    InputError
        If `heads` does not divide `dimension`, or Super Attention is given no length.
    """

    def __init__(
        self,
        kind: AttentionKind,
        dimension: int,
        heads: int,
        *,
        causal: bool = False,
        length: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or dimension % heads:
            raise InputError(f"the dimension {dimension} can't be cut into {heads} heads")
        self.kind = kind
        self.heads = heads
        self.causal = causal
        self.attend: AttentionFunction = nn.functional.scaled_dot_product_attention
        for name, module in projections(kind, dimension, length=length, causal=causal, bias=bias).items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        """Return the attention of a batch.

        Parameters
        ----------
        x : torch.Tensor
            Shape (batch, queries, dimension).
        memory : torch.Tensor, optional
            What is attended to, shape (batch, keys, dimension); `x` by default.

        Returns
        -------
        torch.Tensor
            Shape (batch, queries, dimension).

        Raises
        ------
        InputError
            If a causal attention is given a memory of another length than `x`: PyTorch counts its queries from the
            first key on, the core up to the last.
        """
        memory = x if memory is None else memory
        if self.causal and memory.shape[1] != x.shape[1]:
            raise InputError(f"causal attention needs as many keys as queries, not {memory.shape[1]} and {x.shape[1]}")
        made = self.q_proj(x), self.k_proj(memory), self.v_proj(memory)
        heads = (tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in made)
        attended = self.attend(*heads, is_causal=self.causal)
        output: torch.Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return output
