"""``python -m golden capture``: take the tensors of one attention layer from a model on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.capture import capture
from golden.commands.info import print_tensors
from golden.errors import InputError
from golden.options import Commands, count, natural
from golden.tensors import AttentionTensors, save_attention


def add(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser("capture", help="take the tensors of one attention layer from a model on disk")
    command.add_argument("--model", type=Path, required=True, metavar="DIR", help="a Hugging Face encoder or decoder")
    command.add_argument("--text", type=Path, required=True, metavar="FILE", help="UTF-8 text for the model to read")
    command.add_argument("--layer", type=natural, required=True, metavar="N", help="attention layer, counted from 0")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz file to write")
    command.add_argument("--tokens", type=count, metavar="N", help="cut the text after so many tokens")
    command.add_argument("--int8", action="store_true", help="write int8 and scales rather than float32")
    command.add_argument("--name", help="name of the model to note in the file; the directory's by default")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the model and write what its layer attended with."""
    try:
        text = options.text.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{options.text} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{options.text} is not a text in UTF-8") from error
    tensors = capture(options.model, text, options.layer, options.tokens, options.name)
    if options.int8:
        tensors = AttentionTensors.of(tensors.quantise(), tensors.mask, tensors.metadata)
    save_attention(options.output, tensors)
    print_tensors(tensors)
