"""Sparsity-targeted attention: training so that a wanted share of keys survives the core's threshold.

To the loss of a task is added ``weight * (share - target)**2``, where `share` is a soft count of the keys that survive,
over those streamed. It follows the core's rule, so that what is trained is what is dropped (docs/arithmetic.md, "A job,
key by key"):

1. Logits are base 2 and rounded to the core's unit, ``x = scale * log2(e) * q . k``.
2. The maximum is the running one of the core, ``m_ij``: the largest ceiling of x over the keys up to j. It is not the
   final one, because a key is judged when it streams by. So what draws the weight had better come early, and a model
   can learn that.
3. A key's distance from a block of rows is the least ``m_ij - x_ij`` of the block's rows that may attend to it. Blocks
   are those of `golden.plan.Blocks`: consecutive queries, of each all the query heads of a group.
4. A key survives if its distance is at most tau. Softly it counts ``sigmoid((tau + half a unit - distance) /
   temperature)``, which becomes the hard count as the temperature goes to 0.

Rounding and ceiling have the gradient of the identity, the maximum that of its largest element. The least distance is
that of the row which holds the key: it is what must move for the key to be dropped.

What differs from the core: tensors are not quantised to int8, logits do not saturate, and there is no error bound; the
count is of a fixed tau. PyTorch is imported when an attention is computed, and only then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from golden import formats
from golden.errors import InputError
from golden.hugging_face import check_options, register_attention, runs_causal

if TYPE_CHECKING:
    import torch

_UNIT = 1 / (1 << formats.FRACTION_BITS)

SCOPES = ("layer", "model")
"""Whether every layer is to reach the target, or all of them together."""


@dataclass(frozen=True)
class SparsityTarget:
    """What is to survive, by which rule, and how much it weighs.

    Parameters
    ----------
    share : float
        Share of the streamed keys that should survive, above 0 and below 1.
    tau : float
        The threshold in bits, as `golden.threshold.Threshold.of` takes it.
    rows : int
        Rows of a block of the core, 1 to 64. In decode a block is one query of each head of a group: 1 row, or as many
        as there are query heads for one of keys and values.
    temperature : float
        Width of the soft threshold in bits, above 0.
    weight : float
        Of the squared deviation, beside the task's loss; 0 or more.
    scope : str
        One of `SCOPES`.
    drop : bool
        Whether dropped keys also have no weight in training, as on the core.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    share: float
    tau: float = 6.0
    rows: int = 16
    temperature: float = 1.0
    weight: float = 1.0
    scope: str = "layer"
    drop: bool = False

    def __post_init__(self) -> None:
        least, most = formats.TAU_MIN * _UNIT, (formats.TAU_KEEP_ALL - 1) * _UNIT
        for name, holds, allowed in (
            ("share", 0 < self.share < 1, "above 0 and below 1"),
            ("tau", least <= self.tau <= most, f"from {least} to {most} bits"),
            ("rows", 1 <= self.rows <= 64, "from 1 to 64"),
            ("temperature", 0 < self.temperature < math.inf, "above 0"),
            ("weight", 0 <= self.weight < math.inf, "0 or more"),
            ("scope", self.scope in SCOPES, " or ".join(SCOPES)),
        ):
            if not holds:
                raise InputError(f"{name} of a sparsity target must be {allowed}, not {getattr(self, name)}")


class Survivors(NamedTuple):
    """What blocks of rows do with their keys.

    Parameters
    ----------
    distance : torch.Tensor
        Least distance of each key from each block in bits, shape (batch, kv_heads, blocks, keys); infinite where no row
        may attend to the key.
    kept : torch.Tensor
        bool, likewise: whether the key survives.
    soft : torch.Tensor
        Its soft count, from 0 to 1, likewise.
    streamed : int
        Keys streamed to all blocks.
    """

    distance: torch.Tensor
    kept: torch.Tensor
    soft: torch.Tensor
    streamed: int


def _straight_through(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return `value` with the gradient of `x`."""
    return x + (value - x).detach()


def survivors(logits: torch.Tensor, causal: bool, group: int, target: SparsityTarget) -> Survivors:
    """Apply the core's rule to logits.

    Parameters
    ----------
    logits : torch.Tensor
        Base 2, shape (batch, query_heads, queries, keys).
    causal : bool
        Query i attends to keys 0 to i.
    group : int
        Query heads that share a key and value head.
    target : SparsityTarget
        Threshold, rows and temperature.
    """
    import torch

    batch, heads, queries, keys = logits.shape
    rounded = _straight_through(logits, torch.floor(logits / _UNIT + 0.5) * _UNIT)
    ceiling = _straight_through(rounded, torch.ceil(rounded))
    # Keys that a row may not attend to come after all that it may, so its maximum over those is not touched.
    distance = ceiling.cummax(dim=-1).values - rounded
    position = torch.arange(queries, device=logits.device)
    if causal:
        barred = torch.arange(keys, device=logits.device) > position[:, None]
        distance = distance.masked_fill(barred, math.inf)
    by_row = distance.unflatten(1, (heads // group, group)).transpose(2, 3).flatten(2, 3)
    rows, count = target.rows, queries * group
    blocks = -(-count // rows)
    by_row = torch.nn.functional.pad(by_row, (0, 0, 0, blocks * rows - count), value=math.inf)
    nearest = by_row.unflatten(2, (blocks, rows)).amin(dim=3)
    seen = keys * blocks
    if causal:
        last = (torch.arange(1, blocks + 1) * rows).clamp(max=count) - 1
        seen = int((position[last // group] + 1).clamp(max=keys).sum())
    soft = torch.sigmoid((target.tau + _UNIT / 2 - nearest) / target.temperature)
    return Survivors(nearest, nearest <= target.tau, soft, batch * (heads // group) * seen)


class SparsityTargetedAttention:
    """An attention function with gradients that counts what would survive on the core.

    It is called as `torch.nn.functional.scaled_dot_product_attention`, by `golden.torch_modules.ProjectedAttention`
    say, and each call of it is a layer. `penalty` is for the loss of the pass that has just been made.

    Parameters
    ----------
    *targets : SparsityTarget
        What is to survive. Of several, for prefill and decode say, the steps of a training have one in turn.

    Attributes
    ----------
    step : int
        Number of the training's step, from 0 on, for the training to set.
    shares : list of torch.Tensor
        Soft share of the surviving keys in each call since the last `penalty`.
    reached : list of float
        For each target the soft share in all the calls that its last `penalty` was of.

    Raises
    ------
    InputError
        If there is no target.
    """

    def __init__(self, *targets: SparsityTarget) -> None:
        if not targets:
            raise InputError("sparsity-targeted attention needs a target")
        self.targets = targets
        self.step = 0
        self.shares: list[torch.Tensor] = []
        self.reached = [1.0] * len(targets)
        self._streamed: list[int] = []

    @property
    def _turn(self) -> int:
        return self.step % len(self.targets)

    @property
    def target(self) -> SparsityTarget:
        """The target whose turn it is."""
        return self.targets[self._turn]

    def describe(self) -> str:
        """Return what share of the keys survives by each target, in words."""
        return f"{' and '.join(f'{share:.1%}' for share in self.reached)} of the keys survive"

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """Return attention, and note what would survive.

        Parameters
        ----------
        query : torch.Tensor
            Shape (batch, heads, queries, head_dim).
        key, value : torch.Tensor
            Shapes (batch, kv_heads, keys, head_dim) and (batch, kv_heads, keys, value_dim).
        attn_mask, dropout_p
            Must be None and 0.
        is_causal : bool
            Query i attends to keys 0 to i.
        scale : float, optional
            Factor from ``q . k`` to the exponent of e; ``1 / sqrt(head_dim)`` by default.
        enable_gqa : bool
            Allow fewer key and value heads than query heads.

        Returns
        -------
        torch.Tensor
            Shape (batch, heads, queries, value_dim).

        Raises
        ------
        InputError
            If there is a mask by pairs or dropout, or the heads do not fit.
        """
        import torch

        if attn_mask is not None or dropout_p:
            raise InputError("sparsity-targeted attention has a causal mask or none, and no dropout")
        heads, kv_heads = query.shape[1], key.shape[1]
        if heads % kv_heads or (heads != kv_heads and not enable_gqa):
            raise InputError(f"{heads} query heads can't share {kv_heads} key and value heads")
        group = heads // kv_heads
        if group > 1:
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        logits = (factor * query) @ key.transpose(-2, -1)
        found = survivors(logits * math.log2(math.e), is_causal, group, self.target)
        self.shares.append(found.soft.sum() / found.streamed)
        self._streamed.append(found.streamed)
        if is_causal:
            barred = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
            logits = logits.masked_fill(barred, -math.inf)
        if self.target.drop:
            dropped = ~found.kept.repeat_interleave(self.target.rows, dim=2)[:, :, : query.shape[2] * group]
            by_head = dropped.unflatten(2, (query.shape[2], group)).transpose(2, 3).flatten(1, 2)
            logits = logits.masked_fill(by_head, -math.inf)
        output: torch.Tensor = torch.softmax(logits, dim=-1) @ value
        return output

    def penalty(self) -> torch.Tensor:
        """Return the weighted deviation from the target over the calls since the last time, and forget them.

        Raises
        ------
        InputError
            If there was no call.
        """
        import torch

        if not self.shares:
            raise InputError("no attention was computed, so there is nothing to penalise")
        shares = torch.stack(self.shares)
        streamed = shares.new_tensor(self._streamed)
        self.shares, self._streamed = [], []
        together = (shares * streamed).sum(dim=0, keepdim=True) / streamed.sum()
        self.reached[self._turn] = together.item()
        if self.target.scope == "model":
            shares = together
        return self.target.weight * ((shares - self.target.share) ** 2).mean()


def register_sparsity_target(attention: SparsityTargetedAttention, name: str) -> None:
    """Make `attention` an attention implementation of Hugging Face models, to train them with.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing. A model raises it when it runs if its attention is not the core's.
    """

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        check_options(options)
        causal = attention_mask is None and query.shape[-2] > 1 and runs_causal(module, options)
        output = attention(query, key, value, attention_mask, dropout, causal, scaling, enable_gqa=True)
        return output.transpose(1, 2).contiguous(), None

    register_attention(name, attend)
