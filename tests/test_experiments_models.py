"""``python -m golden.experiments models``: what the files of trained models say, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden.experiments.__main__ import main


def write(path: Path, shape: dict, training: dict, **arrays: np.ndarray) -> str:
    np.savez(path, shape=json.dumps(shape), training=json.dumps(training), **arrays)
    return str(path)


def test_models_are_listed_with_weights_length_results_and_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    attention, other = np.zeros((8, 16), np.float16), np.zeros(1000, np.float16)
    first = {"plan": {"steps": 60}, "held_out_loss": 0.96061}
    further = {"plan": {"steps": 30}, "start": first, "held_out_loss": 1.5}
    targets = ({"share": 0.3, "tau": 6.0, "rows": 16}, {"share": 0.1, "tau": 2.0, "rows": 2})
    further["sparsity"] = list(targets)
    digits = {"plan": {"epochs": 9}, "held_out_accuracy": 0.975, "held_out_loss": 0.08}
    files = [
        write(tmp_path / "old.npz", {"layers": 1}, first, **{"layers.0.self_attn.q.weight": attention, "head": other}),
        write(tmp_path / "new.npz", {"attention": "super"}, further, **{"layers.0.self_attn.q.weight": attention}),
        write(tmp_path / "digits.npz", {"attention": "efficient"}, digits, **{"layers.0.attention.q": attention}),
    ]
    assert main(["models", *files]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "model attention weights of attention steps or epochs loss accuracy target"
    assert [" ".join(row.split()) for row in rows] == [
        "old standard 1,128 128 60 0.9606 - -",
        "new super 128 128 60 + 30 1.5000 - 0.3 at tau 6, 16 rows; 0.1 at tau 2, 2 rows",
        "digits efficient 128 128 9 0.0800 0.9750 -",
    ]


def test_a_file_that_holds_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.savez(tmp_path / "x.npz", q=np.zeros(3))
    assert main(["models", str(tmp_path / "x.npz")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'x.npz'} holds no trained model: it has no training\n"
