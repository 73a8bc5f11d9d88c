"""A small causal language model of bytes, trained on the source of Python's standard library.

It shows what a change of attention costs a decoder: its loss on source files that it was not trained on. The network is
transformers' `LlamaForCausalLM` (rotary positions, grouped queries) with the 256 bytes as its vocabulary, so any
attention that transformers knows by name can run it. The corpus is on every machine that runs this. PyTorch and
transformers are imported where a model is made, and only there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from golden.errors import InputError
from golden.files import make_folder, read_npz, write_npz

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "byte_lm.npz"
"""The weights that come with the project; golden/data/README.md says how they were made."""

START = 0
"""The byte before each file of the corpus. Python source has no byte 0."""

HELD_OUT_OF_16 = 1
"""How many sixteenths of the files no training sees."""

_LEFT_OUT_FOLDERS = {"test", "tests", "idle_test"}
_LEFT_OUT_PACKAGES = {"encodings", "pydoc_data"}
"""Written by programs: tables of characters, and the language reference as one file of half the held-out bytes."""

_SHAPE, _TRAINING = "shape", "training"
"""Names in a weights file beside those of the parameters."""


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


@dataclass(frozen=True, eq=False)
class Corpus:
    """Source files as two streams of bytes, `START` before each file.

    Parameters
    ----------
    train, held_out : numpy.ndarray
        uint8.
    """

    train: np.ndarray
    held_out: np.ndarray

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes to train on."""
        return hashlib.sha256(self.train.tobytes()).hexdigest()


def is_held_out(name: str) -> bool:
    """Whether the file of that name is for measuring, not for training.

    The name decides, not the content: a file that a later Python has changed stays on its side, so weights trained with
    one version of Python have not seen what another version measures them on.

    Parameters
    ----------
    name : str
        Path below the folder of the standard library, with ``/``.
    """
    return hashlib.sha256(name.encode()).digest()[0] % 16 < HELD_OUT_OF_16


def library_files(root: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the source files of the standard library, in the order of their names.

    Tests, packages installed beside the library and what programs wrote (`encodings`, `pydoc_data`) are left out.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder of a standard library; by default that of the Python that runs.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(_sources(root), key=lambda path: path.relative_to(root).as_posix()):
        yield path.relative_to(root).as_posix(), path


def _sources(root: Path) -> Iterator[Path]:
    for top in root.glob("*"):
        name = top.name.removesuffix(".py")
        if name not in sys.stdlib_module_names or name in _LEFT_OUT_PACKAGES:
            continue
        if top.suffix == ".py":
            yield top
        else:
            for path in top.rglob("*.py"):
                if not _LEFT_OUT_FOLDERS.intersection(path.relative_to(root).parts):
                    yield path


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the source of the standard library.

    Parameters
    ----------
    root : pathlib.Path, optional
        Folder of a standard library; by default that of the Python that runs.

    Raises
    ------
    InputError
        If there are no source files to train on or none to measure on, or one can't be read.
    """
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    for name, path in library_files(root):
        try:
            sides[is_held_out(name)].append(bytes([START]) + path.read_bytes())
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from error
    if not all(sides):
        folder = root or sysconfig.get_path("stdlib")
        raise InputError(f"{folder} holds too little of the source of Python's library to train and measure on")
    train, held_out = (np.frombuffer(b"".join(side), dtype=np.uint8) for side in sides)
    return Corpus(train, held_out)


def even_windows(stream: np.ndarray, length: int, number: int) -> np.ndarray:
    """Return windows of `stream` at even distances, the first at its start, shape (number, length).

    Raises
    ------
    InputError
        If the stream is shorter than a window.
    """
    if length > len(stream):
        raise InputError(f"a window of {length} bytes is longer than the {len(stream)} bytes there are")
    starts = np.arange(number) * (len(stream) - length) // max(number - 1, 1)
    windows: np.ndarray = stream[starts[:, None] + np.arange(length)]
    return windows


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

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} of a model must be a whole number from 1 on, not {value!r}")
        if self.query_heads % self.kv_heads:
            raise InputError(f"kv_heads must divide query_heads ({self.query_heads}), not be {self.kv_heads}")
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for rotary positions, not {self.head_dim}")


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
        Of AdamW; of the matrices only. `clip` bounds the norm of the gradient.
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
    return model


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
    )


@dataclass
class _Progress:
    """Lines on how far a training is, every so many steps."""

    steps: int
    first: int
    report: Callable[[str], None]
    every: int = 100
    started: float = field(default_factory=time.monotonic)

    def __call__(self, step: int, losses: list[float]) -> None:
        done = step + 1
        if done % self.every and done != self.steps:
            return
        recent = losses[-self.every :]
        seconds = time.monotonic() - self.started
        left = seconds / (done - self.first) * (self.steps - done)
        self.report(
            f"step {done} of {self.steps}, loss {np.mean(recent):.4f} over the last {len(recent)} steps, "
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
    settings = json.dumps({"plan": asdict(plan), "shape": asdict(shape_of(model)), "corpus": digest})
    first = 0 if checkpoint is None else _load_checkpoint(checkpoint, settings, model, optimiser)
    if first:
        report(f"continuing after step {first}")
    progress = _Progress(plan.steps, first, report)
    losses: list[float] = []
    model.train()
    for step in range(first, plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(step)
        batch = torch.from_numpy(plan.windows_at(step, stream, context).astype(np.int64))
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, plan.clip)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        progress(step, losses)
        if checkpoint is not None and (step + 1) % checkpoint_every == 0:
            _save_checkpoint(checkpoint, settings, step + 1, model, optimiser)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(weight.half())
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
    arrays = {name: weight.detach().numpy().astype(np.float16) for name, weight in model.named_parameters()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"weights {name} are not finite in float16, so the model can't be kept")
    notes = {_SHAPE: json.dumps(asdict(shape_of(model))), _TRAINING: json.dumps(training or {})}
    write_npz(Path(path), arrays | {name: np.array(note) for name, note in notes.items()})


def _note(path: Path, arrays: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Take the note of that name out of `arrays`."""
    try:
        note = json.loads(str(arrays.pop(name)))
    except (KeyError, ValueError):
        note = None
    if not isinstance(note, dict):
        raise InputError(f"{path} holds no byte language model: it has no {name}")
    return note


def read_training(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `save_model` noted about the training."""
    return _note(Path(path), read_npz(Path(path), "the weights of a byte language model"), _TRAINING)


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
    torch, _ = libraries()
    path = Path(path)
    arrays = read_npz(path, "the weights of a byte language model")
    _note(path, arrays, _TRAINING)
    sizes = _note(path, arrays, _SHAPE)
    try:
        shape = ModelShape(**sizes)
    except (TypeError, InputError) as error:
        raise InputError(f"{path} holds no byte language model: its shape is not that of one") from error
    model = build_model(shape, attention=attention)
    weights = dict(model.named_parameters())
    if set(weights) != set(arrays):
        name = min(set(weights) ^ set(arrays))
        what = "not among the model's" if name in arrays else "missing"
        raise InputError(f"{path} holds no byte language model: weights {name} are {what}")
    for name, weight in weights.items():
        array, expected = arrays[name], tuple(weight.shape)
        if array.dtype.kind != "f" or array.shape != expected:
            raise InputError(f"weights {name} of {path} must be floats of shape {expected}, not {array.shape}")
        with torch.no_grad():
            weight.copy_(torch.from_numpy(array.astype(np.float32)))
    model.eval()
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
        If PyTorch or transformers is missing, `weights` holds no model, or `folder` can't be written.
    """
    model = load_model(weights)
    folder = Path(folder)
    make_folder(folder)
    try:
        model.save_pretrained(folder)
        byte_tokenizer(shape_of(model).context).save_pretrained(folder)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
