"""A small causal language model of bytes, trained on the source of Python's standard library.

It shows what a change of attention costs a decoder: its loss on source files that it was not trained on. The network is
transformers' `LlamaForCausalLM` (rotary positions, grouped queries) with the 256 bytes as its vocabulary, so any
attention that transformers knows by name can run it. Its text is that of `golden.experiments.library_source`. PyTorch
and transformers are imported where a model is made, and only there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError
from golden.experiments.library_source import START
from golden.experiments.weights import Weights, round_weights, save_weights
from golden.files import make_folder
from golden.variants import AttentionKind

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from golden.sparsity_target import SparsityTargetedAttention

SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "byte_lm.npz"
"""The weights that come with the project; golden/data/README.md says how they were made."""

_KIND = "byte language model"


def libraries() -> tuple[Any, Any]:
    """Return the modules torch and transformers.

    Raises
    ------
    InputError
        If one of them is missing.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        message = "the byte language model needs PyTorch and transformers: pip install lean-attention[models]"
        raise InputError(message) from error
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


@dataclass(frozen=True)
class ModelShape:
    """Size of a model.

    Parameters
    ----------
    layers, hidden, intermediate : int
        Layers, their width, and the width inside their feed-forward part.
    query_heads, kv_heads, head_dim : int
        Query heads, key and value heads, and the dimension of each. `kv_heads` divides `query_heads`.
    context : int
        The most bytes that the model reads at once.
    attention : AttentionKind
        Which projections the attention has. Without some of them the heads are slices of the width, so that
        ``query_heads * head_dim`` must be `hidden`, and `kv_heads` as many as `query_heads`.

    Raises
    ------
    InputError
        If there is no such model.
    """

    layers: int = 5
    hidden: int = 192
    intermediate: int = 512
    query_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 512
    attention: AttentionKind = AttentionKind.STANDARD

    def __post_init__(self) -> None:
        if self.attention not in set(AttentionKind):
            kinds = ", ".join(AttentionKind)
            raise InputError(f"the attention of a model must be one of {kinds}, not {self.attention!r}")
        object.__setattr__(self, "attention", AttentionKind(self.attention))
        for name, value in asdict(self).items():
            if name == "attention":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} of a model must be a whole number from 1 on, not {value!r}")
        if self.query_heads % self.kv_heads:
            raise InputError(f"kv_heads must divide query_heads ({self.query_heads}), not be {self.kv_heads}")
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for rotary positions, not {self.head_dim}")
        sliced = self.kv_heads == self.query_heads and self.query_heads * self.head_dim == self.hidden
        if self.attention != AttentionKind.STANDARD and not sliced:
            raise InputError(
                f"with {self.attention} attention the heads are slices of the width: query_heads and kv_heads must be "
                f"equal and, times head_dim, the hidden {self.hidden}"
            )


@dataclass(frozen=True)
class TrainingPlan:
    """How a model is trained.

    The first two thirds of the steps read windows of half the context, twice as many of them: that is faster, and most
    of what there is to learn is near. The rate rises linearly during the warmup and falls to zero with the cosine.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    seed : int
        Of the first weights and of the windows that each step reads.
    bytes_a_step : int
        Bytes that a step reads, at least one window.
    rate, warmup : float, int
        Largest learning rate, and the steps until it is reached.
    weight_decay, beta1, beta2, clip : float
        Of AdamW; the decay of weights with two axes only, so not of a causal Super Attention's W_A. `clip` bounds the
        norm of the gradient.

    Raises
    ------
    InputError
        If the rate is not above 0.
    """

    steps: int = 6000
    seed: int = 0
    bytes_a_step: int = 1024
    rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise InputError(f"the rate of a training must be above 0, not {self.rate}")

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(self.steps - self.warmup, 1)))

    def windows_at(self, step: int, stream: np.ndarray, context: int) -> np.ndarray:
        """Return what `step` reads: it depends on the seed and the step, and on nothing that was before."""
        length = context if step >= self.steps * 2 // 3 else max(context // 2, 2)
        if length > len(stream):
            raise InputError(f"a window of {length} bytes is longer than the {len(stream)} bytes to train on")
        random = np.random.default_rng((self.seed, step))
        starts = random.integers(len(stream) - length + 1, size=max(self.bytes_a_step // length, 1))
        windows: np.ndarray = stream[starts[:, None] + np.arange(length)]
        return windows


def build_model(shape: ModelShape, seed: int = 0, attention: str = "sdpa") -> LlamaForCausalLM:
    """Return an untrained model in float32.

    Parameters
    ----------
    shape : ModelShape
        Its size.
    seed : int
        Of its weights.
    attention : str
        Name of the attention, as transformers knows it.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing.
    """
    torch, transformers = libraries()
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=START,
        eos_token_id=None,
        use_cache=False,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: LlamaForCausalLM = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if shape.attention != AttentionKind.STANDARD:
        _leave_out_projections(model, shape)
    model.config.projections = str(shape.attention)
    return model


def _leave_out_projections(model: LlamaForCausalLM, shape: ModelShape) -> None:
    """Take the projections that `shape.attention` does not have out of every layer; rotary positions stay."""
    import torch

    from golden.torch_modules import projections

    for layer in model.model.layers:
        modules = projections(shape.attention, shape.hidden, length=shape.context, causal=True, bias=False)
        for name, module in modules.items():
            if not isinstance(module, torch.nn.Linear):
                setattr(layer.self_attn, name, module)


def shape_of(model: LlamaForCausalLM) -> ModelShape:
    """Return the size of `model`."""
    config = model.config
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        context=config.max_position_embeddings,
        attention=AttentionKind(config.projections),
    )


@dataclass
class _Progress:
    """Lines on how far a training is, every so many steps."""

    steps: int
    first: int
    report: Callable[[str], None]
    every: int = 100
    started: float = field(default_factory=time.monotonic)

    def __call__(self, step: int, losses: list[float], survivors: str) -> None:
        done = step + 1
        if done % self.every and done != self.steps:
            return
        recent = losses[-self.every :]
        seconds = time.monotonic() - self.started
        left = seconds / (done - self.first) * (self.steps - done)
        self.report(
            f"step {done} of {self.steps}, loss {np.mean(recent):.4f} over the last {len(recent)} steps, {survivors}"
            f"{seconds / 60:.1f} min, {left / 60:.1f} min left"
        )


def _save_checkpoint(path: Path, settings: str, step: int, model: LlamaForCausalLM, optimiser: Any) -> None:
    import torch

    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    content = {"settings": settings, "step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
    try:
        torch.save(content, partial)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _load_checkpoint(path: Path, settings: str, model: LlamaForCausalLM, optimiser: Any) -> int:
    """Put model and optimiser where the checkpoint left them and return the steps done, 0 if there is none."""
    import torch

    if not path.exists():
        return 0
    try:
        content = torch.load(path, weights_only=True)
        theirs, step, weights, state = (content[name] for name in ("settings", "step", "model", "optimiser"))
    except Exception as error:  # Of a damaged file, torch raises whatever its parts do.
        raise InputError(f"{path} is not a checkpoint of a training; remove it to start anew") from error
    if theirs != settings:
        raise InputError(f"{path} is of a training with other settings; repeat those, or remove it to start anew")
    model.load_state_dict(weights)
    optimiser.load_state_dict(state)
    return int(step)


def train(
    model: LlamaForCausalLM,
    stream: np.ndarray,
    plan: TrainingPlan,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
    checkpoint_every: int = 250,
    sparsity: SparsityTargetedAttention | None = None,
    start: str = "",
) -> np.ndarray:
    """Train `model` in place and round its weights to float16, in which they are kept.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        As `build_model` returns it.
    stream : numpy.ndarray
        uint8, the bytes to train on.
    plan : TrainingPlan
        How.
    checkpoint : pathlib.Path, optional
        Where to note the state. If a training with the same plan was interrupted there, it is continued, and ends as
        if it had not been. It is left for the caller to remove once the model is kept.
    report : callable
        What to do with a line on the progress.
    checkpoint_every : int
        Steps between two checkpoints.
    sparsity : SparsityTargetedAttention, optional
        The attention that the model runs, if its penalty is to be part of what is trained.
    start : str
        What the model's first weights are, if not those of the plan's seed, say a digest of them. A checkpoint is
        continued only from the same.

    Returns
    -------
    numpy.ndarray
        Loss of each step taken here, in nats a byte, before its update.

    Raises
    ------
    InputError
        If `checkpoint` is of another training or can't be written, or `stream` is shorter than a window.
    """
    torch, _ = libraries()
    context = shape_of(model).context
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=plan.rate, betas=(plan.beta1, plan.beta2))
    digest = hashlib.sha256(stream.tobytes()).hexdigest()
    targets = [] if sparsity is None else [asdict(target) for target in sparsity.targets]
    made_of = {"plan": asdict(plan), "shape": asdict(shape_of(model)), "corpus": digest}
    settings = json.dumps(made_of | {"sparsity": targets, "start": start})
    first = 0 if checkpoint is None else _load_checkpoint(checkpoint, settings, model, optimiser)
    if first:
        report(f"continuing after step {first}")
    progress = _Progress(plan.steps, first, report)
    losses: list[float] = []
    model.train()
    for step in range(first, plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(step)
        if sparsity is not None:
            sparsity.step = step
        batch = torch.from_numpy(plan.windows_at(step, stream, context).astype(np.int64))
        loss = model(input_ids=batch, labels=batch).loss
        losses.append(loss.item())
        if sparsity is not None:
            loss = loss + sparsity.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, plan.clip)
        optimiser.step()
        optimiser.zero_grad()
        progress(step, losses, "" if sparsity is None else f"{sparsity.describe()}, ")
        if checkpoint is not None and (step + 1) % checkpoint_every == 0:
            _save_checkpoint(checkpoint, settings, step + 1, model, optimiser)
    round_weights(model)
    model.eval()
    return np.array(losses)


def held_out_loss(model: LlamaForCausalLM, windows: np.ndarray, batch: int = 4) -> float:
    """Return the mean loss of `model` in nats a byte.

    Parameters
    ----------
    model : transformers.LlamaForCausalLM
        The model, with whatever attention it has.
    windows : numpy.ndarray
        uint8, shape (windows, bytes). Each is read on its own, and all its bytes but the first are predicted.
    batch : int
        Windows that are read at once.
    """
    torch, _ = libraries()
    total = 0.0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(windows), batch):
            part = torch.from_numpy(windows[start : start + batch].astype(np.int64))
            logits = model(input_ids=part).logits[:, :-1].double()
            targets = part[:, 1:]
            total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
    return total / windows[:, 1:].size


def save_model(path: str | os.PathLike[str], model: LlamaForCausalLM, training: dict[str, Any] | None = None) -> None:
    """Write the weights as float16, compressed, with what `load_model` needs to build the network.

    Parameters
    ----------
    path : str or os.PathLike
        The .npz file.
    model : transformers.LlamaForCausalLM
        A model from `build_model`. `train` has rounded its weights to float16, so that nothing is lost.
    training : dict, optional
        What to note about the training; anything JSON can hold.

    Raises
    ------
    InputError
        If a weight is not finite in float16, or the file can't be written.
    """
    save_weights(Path(path), model, asdict(shape_of(model)), training or {})


def read_training(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `save_model` noted about the training."""
    return Weights.read(Path(path), _KIND).training


def load_model(path: str | os.PathLike[str], attention: str = "sdpa") -> LlamaForCausalLM:
    """Return the model of a weights file, in float32 and ready to be used.

    Parameters
    ----------
    path : str or os.PathLike
        A file that `save_model` wrote.
    attention : str
        Name of the attention, as transformers knows it.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing, or the file holds no such model.
    """
    libraries()
    weights = Weights.read(Path(path), _KIND)
    try:
        shape = ModelShape(**weights.shape)
    except (TypeError, InputError) as error:
        raise InputError(f"{path} holds no {_KIND}: its shape is not that of one") from error
    model = build_model(shape, attention=attention)
    weights.put_into(model)
    return model


def byte_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the bytes of a text in UTF-8; it needs no download and adds nothing.

    Parameters
    ----------
    context : int
        The most bytes that the model reads.
    """
    _, transformers = libraries()
    import tokenizers

    # GPT-2's spelling of bytes as characters: printable ones stand for themselves, the rest follow from 256 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    vocabulary = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    fast: PreTrainedTokenizerFast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=context, clean_up_tokenization_spaces=False
    )
    return fast


def export_model(weights: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Write a model as a Hugging Face directory: configuration, weights in float32 and a tokenizer.

    Parameters
    ----------
    weights : str or os.PathLike
        A file that `save_model` wrote.
    folder : str or os.PathLike
        Where to; it is made if need be.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing, `weights` holds no model or one without the standard projections, or
        `folder` can't be written.
    """
    model = load_model(weights)
    if shape_of(model).attention != AttentionKind.STANDARD:
        raise InputError(f"{weights} has {shape_of(model).attention} attention, which no Hugging Face model has")
    folder = Path(folder)
    make_folder(folder)
    try:
        model.save_pretrained(folder)
        byte_tokenizer(shape_of(model).context).save_pretrained(folder)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
