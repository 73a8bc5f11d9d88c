"""The model that reads digits: its images, its training with each attention and with a target, files and commands."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from golden.collector import Collector
from golden.config import preset
from golden.errors import InputError
from golden.experiments import digits
from golden.experiments.__main__ import main
from golden.experiments.digits import DigitsPlan, DigitsShape
from golden.job_record import JobRecord
from golden.sparsity_target import SparsityTarget, SparsityTargetedAttention
from golden.tensors import load_attention
from golden.threshold import Threshold
from golden.torch_functional import torch_attention
from golden.variants import AttentionKind

TINY = DigitsShape(layers=2, width=16, heads=2, inner=32, patch=2)


@pytest.fixture(scope="module", autouse=True)
def torch():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install lean-attention[models]")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def test_a_fifth_of_each_digit_is_held_out():
    to_train, held_out = digits.read_digits()
    assert len(to_train.labels) + len(held_out.labels) == 1797
    assert to_train.images.shape[1:] == (8, 8)
    assert (to_train.images.min(), to_train.images.max()) == (0, 1)
    assert to_train.images.mean() == pytest.approx(digits.MEAN, abs=0.005)
    assert to_train.images.std() == pytest.approx(digits.SPREAD, abs=0.005)
    shares = np.bincount(held_out.labels) / (np.bincount(held_out.labels) + np.bincount(to_train.labels))
    assert np.all(np.abs(shares - 0.2) < 0.01)


def test_images_move_by_up_to_a_pixel_and_keep_their_sense():
    image = np.zeros((500, 8, 8), dtype=np.float32)
    image[:, 3, 4] = 1
    moved = digits.shifted(image, np.random.default_rng(0))
    places = {(int(row), int(column)) for _, row, column in np.argwhere(moved)}
    assert places == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}
    edge = digits.shifted(np.ones((50, 8, 8), dtype=np.float32), np.random.default_rng(0))
    assert {int(part.sum()) for part in edge} == {64, 56, 49}


def test_tokens_are_patches_in_reading_order(torch):
    model = digits.build_model(TINY)
    with torch.no_grad():
        model.positions.zero_()
    image = torch.full((1, 8, 8), digits.MEAN)
    image[0, 2, 5] += digits.SPREAD
    seen = []
    model.layers[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model(image)
    moved = (seen[0][0] - model.embedding.bias).detach()
    # Row 2 and column 5 are in the second row of patches, the third of its four: there the second pixel.
    assert torch.allclose(moved[6], model.embedding.weight[:, 1], atol=1e-6)
    assert torch.equal(moved.abs().amax(dim=1) > 1e-6, torch.arange(16) == 6)


def test_the_same_seed_gives_the_same_model(torch):
    to_train, held_out = digits.read_digits()
    few = digits.Digits(to_train.images[:96], to_train.labels[:96])
    found = []
    for seed in (1, 1, 2):
        model = digits.build_model(TINY, seed)
        digits.train(model, few, DigitsPlan(epochs=1, seed=seed))
        found.append(digits.predictions(model, held_out))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", AttentionKind)
def test_each_attention_learns_and_runs_on_the_core(torch, kind, tmp_path):
    to_train, held_out = digits.read_digits()
    model = digits.build_model(replace(TINY, attention=kind))
    lines: list[str] = []
    digits.train(model, to_train, DigitsPlan(epochs=8, rate=1e-2), lines.append)
    assert lines[-1].startswith("epoch 8 of 8, loss ")
    exact = digits.predictions(model, held_out)
    accuracy, _ = digits.accuracy_and_loss(exact, held_out)
    assert accuracy > 0.6
    digits.save_model(tmp_path / "x.npz", model)
    loaded = digits.load_model(tmp_path / "x.npz")
    assert loaded.shape == replace(TINY, attention=kind)
    assert np.array_equal(digits.predictions(loaded, held_out), exact)
    few = digits.Digits(held_out.images[:40], held_out.labels[:40])
    collector = Collector()
    loaded.set_attention(partial(torch_attention, config=preset("small"), collector=collector))
    measured = digits.predictions(loaded, few)
    assert np.abs(measured - exact[:40]).max() < 0.3
    assert digits.accuracy_and_loss(measured, few)[1] == pytest.approx(
        digits.accuracy_and_loss(exact[:40], few)[1], abs=0.02
    )
    # 2 layers, 2 heads, 16 keys to each of 2 blocks.
    assert collector.total.streamed == 40 * 2 * 2 * 16 * 2


def test_a_target_leaves_fewer_keys_on_the_core(torch):
    to_train, held_out = digits.read_digits()
    few = digits.Digits(held_out.images[:40], held_out.labels[:40])
    config = preset("small")
    kept, losses = [], []
    for share in (None, 0.3):
        sparsity = None
        if share is not None:
            sparsity = SparsityTargetedAttention(SparsityTarget(share, tau=3, rows=8, weight=5))
        model = digits.build_model(TINY)
        digits.train(model, to_train, DigitsPlan(epochs=6, rate=1e-2), sparsity=sparsity)
        losses.append(digits.accuracy_and_loss(digits.predictions(model, held_out), held_out)[1])
        collector = Collector()
        options = {"config": config, "threshold": Threshold.of(tau=3), "collector": collector}
        model.set_attention(partial(torch_attention, **options))
        digits.predictions(model, few)
        kept.append(collector.total.survivor_share)
    assert kept[1] < 0.7 * kept[0]
    assert losses[1] < 0.8 * np.log(10), "that of a guess is the logarithm"


def test_accuracy_and_loss_by_hand():
    found = np.log(np.array([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]]))
    shown = digits.Digits(np.zeros((2, 8, 8)), np.array([0, 1]))
    accuracy, loss = digits.accuracy_and_loss(found, shown)
    assert accuracy == 0.5
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)


def test_the_commands_train_measure_record_and_capture(tmp_path, capsys):
    weights, records, captured = tmp_path / "x.npz", tmp_path / "records", tmp_path / "layer.npz"
    options = ["--epochs", "1", "--patch", "4", "--attention", "efficient", "--survive", "0.5", "--tau", "2"]
    assert main(["train-digits", "-o", str(weights), *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("held-out accuracy ")
    arguments = ["--images", "7", "--tau", "2", "--record", str(records), "--preset", "small"]
    assert main(["evaluate-digits", "--weights", str(weights), *arguments]) == 0
    header, _, exact, dense, row = capsys.readouterr().out.splitlines()
    assert header.startswith("7 held-out images")
    assert [line.split("  ")[0] for line in (exact, dense, row)] == ["float32", "all", "tau 2"]
    record = JobRecord.load(records / "tau-2.npz")
    # 7 images, 4 layers, 2 heads, 4 queries: a job each.
    assert len(record.rows) == 7 * 4 * 2
    assert f"{record.survivor_share:.1%}" in row
    assert main(["capture-digits", "--weights", str(weights), "--layer", "3", "-o", str(captured)]) == 0
    tensors = load_attention(captured)
    assert tensors.q.shape == tensors.k.shape == tensors.v.shape == (2, 4, 32)
    # Keys and values of Efficient Attention are the same bytes.
    assert np.array_equal(tensors.k, tensors.v)
    capsys.readouterr()
    assert main(["capture-digits", "--weights", str(weights), "--layer", "4", "-o", str(captured)]) == 2
    assert capsys.readouterr().err == "error: layer must be below 4, not 4\n"


def test_files_and_shapes_that_are_none_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", q=np.ones(1))
    assert main(["evaluate-digits", "--weights", str(tmp_path / "x.npz")]) == 2
    assert "holds no digits model: it has no training" in capsys.readouterr().err
    digits.save_model(tmp_path / "y.npz", digits.build_model(TINY))
    arrays = dict(np.load(tmp_path / "y.npz"))
    arrays["shape"] = np.array('{"width": 15}')
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(InputError, match="holds no digits model: its shape is not that of one"):
        digits.load_model(tmp_path / "y.npz")
    for change, message in (
        ({"heads": 3}, "heads must divide the width 16"),
        ({"patch": 3}, "patch the 8 pixels of a side, not 2 and 3"),
        ({"layers": 0}, "layers of a model must be a whole number from 1 on, not 0"),
        ({"attention": "x"}, "the attention of a model must be one of standard, optimised, efficient, super, not 'x'"),
    ):
        with pytest.raises(InputError, match=message):
            replace(TINY, **change)
