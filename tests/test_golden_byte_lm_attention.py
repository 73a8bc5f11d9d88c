"""The byte language model with each attention and with a target for its survivors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from golden.config import preset
from golden.errors import InputError
from golden.experiments import byte_language_model as byte_lm
from golden.experiments.__main__ import main
from golden.experiments.byte_language_model import ModelShape, TrainingPlan
from golden.fast import attend
from golden.job_record import JobLog, JobRecord
from golden.masks import Mask, MaskKind
from golden.sparsity_target import SparsityTarget, SparsityTargetedAttention, register_sparsity_target
from golden.tensors import load_attention
from golden.threshold import Threshold
from golden.torch_functional import register_torch_attention
from golden.variants import AttentionKind

TINY = ModelShape(layers=2, hidden=32, intermediate=64, query_heads=4, kv_heads=4, head_dim=8, context=32)
TEXT = np.frombuffer(b"def twice(number):\n    return number * 2\n\n" * 40, dtype=np.uint8)
WINDOWS = TEXT[: 4 * 32].reshape(4, 32)
NAME = "lean_attention_test"


@pytest.fixture(scope="module", autouse=True)
def torch():
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def weights_of(model) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_each_attention_has_the_weights_that_its_projections_have():
    counts = {kind: weights_of(byte_lm.build_model(replace(TINY, attention=kind))) for kind in AttentionKind}
    square, mixing = 2 * 32**2, 2 * 32 * 33 // 2
    standard = counts[AttentionKind.STANDARD]
    assert counts == {
        AttentionKind.STANDARD: standard,
        AttentionKind.OPTIMISED: standard - square,
        AttentionKind.EFFICIENT: standard - 2 * square,
        AttentionKind.SUPER: standard - 2 * square + mixing,
    }


@pytest.mark.parametrize("kind", [kind for kind in AttentionKind if kind != AttentionKind.STANDARD])
def test_what_is_left_out_is_the_identity_in_the_standard_model(torch, kind):
    lean = byte_lm.build_model(replace(TINY, attention=kind))
    standard = byte_lm.build_model(TINY)
    # Super attention's mixing of tokens takes the place of the projection of values.
    shared = {name: weights for name, weights in lean.state_dict().items() if "v_proj" not in name}
    standard.load_state_dict(shared, strict=False)
    with torch.no_grad():
        for layer in standard.model.layers:
            layer.self_attn.v_proj.weight.copy_(torch.eye(32))
            if not kind.projects_keys:
                layer.self_attn.k_proj.weight.copy_(torch.eye(32))
    assert byte_lm.held_out_loss(lean, WINDOWS) == pytest.approx(byte_lm.held_out_loss(standard, WINDOWS), rel=1e-6)


@pytest.mark.parametrize("kind", AttentionKind)
def test_each_attention_is_trained_saved_loaded_and_run_on_the_core(kind, tmp_path):
    model = byte_lm.build_model(replace(TINY, attention=kind), seed=1)
    before = byte_lm.held_out_loss(model, WINDOWS)
    byte_lm.train(model, TEXT, TrainingPlan(steps=25, bytes_a_step=128, rate=1e-2, warmup=5))
    after = byte_lm.held_out_loss(model, WINDOWS)
    assert after < 0.7 * before
    byte_lm.save_model(tmp_path / "x.npz", model)
    register_torch_attention(name=NAME)
    loaded = byte_lm.load_model(tmp_path / "x.npz", NAME)
    assert byte_lm.shape_of(loaded) == replace(TINY, attention=kind)
    assert byte_lm.held_out_loss(loaded, WINDOWS) == pytest.approx(after, rel=0.02)
    if kind != AttentionKind.STANDARD:
        with pytest.raises(InputError, match=f"has {kind} attention, which no Hugging Face model has"):
            byte_lm.export_model(tmp_path / "x.npz", tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "linear"}, "the attention of a model must be one of standard, optimised, efficient, super, not"),
        ({"attention": "super", "kv_heads": 2}, "with super attention the heads are slices of the width"),
        ({"attention": "efficient", "head_dim": 16}, "with efficient attention the heads are slices of the width"),
    ],
)
def test_shapes_that_an_attention_can_not_have_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_a_target_leaves_fewer_keys_on_the_core(torch):
    """The same training with and without a target, and what then survives at the same tau."""
    config = preset("small")
    shares = {}
    for share in (None, 0.25):
        sparsity = None
        name = "sdpa"
        if share is not None:
            sparsity = SparsityTargetedAttention(SparsityTarget(share, tau=3, rows=8, weight=20))
            name = "sparsity_targeted_test"
            register_sparsity_target(sparsity, name)
        model = byte_lm.build_model(TINY, seed=1, attention=name)
        byte_lm.train(model, TEXT, TrainingPlan(steps=60, bytes_a_step=128, rate=1e-2, warmup=5), sparsity=sparsity)
        collector = register_torch_attention(config=config, threshold=Threshold.of(tau=3), name=NAME)
        model.set_attn_implementation(NAME)
        byte_lm.held_out_loss(model, WINDOWS)
        shares[share] = collector.total.survivor_share
    assert shares[0.25] < 0.7 * shares[None]
    assert sparsity is not None
    assert sparsity.reached == [pytest.approx(shares[0.25], abs=0.1)]


def test_a_log_takes_the_jobs_of_all_layers(torch):
    config, threshold = preset("small"), Threshold.of(tau=2)
    model = byte_lm.build_model(TINY, attention=NAME)
    log = JobLog(config)
    collector = register_torch_attention(config=config, threshold=threshold, name=NAME, log=log)
    model.set_attn_implementation(NAME)
    byte_lm.held_out_loss(model, WINDOWS[:2])
    record = log.record()
    # 2 windows, 2 layers, 4 heads, 4 blocks of 8 rows.
    assert len(record.rows) == 2 * 2 * 4 * 4
    assert record.head[-1] == 15
    assert record.keys[:4].tolist() == [8, 16, 24, 32]
    assert (record.keys.sum(), record.survivors.sum()) == (collector.total.streamed, collector.total.survivors)
    register_torch_attention(config=preset("tiny"), name=NAME, log=log)
    with pytest.raises(InputError, match="a log of jobs must be for the core that they run on"):
        byte_lm.held_out_loss(model, WINDOWS[:1])


def test_a_checkpoint_of_another_target_is_refused(tmp_path):
    sparsity = SparsityTargetedAttention(SparsityTarget(0.5, tau=3, rows=8))
    register_sparsity_target(sparsity, NAME)
    plan, path = TrainingPlan(steps=2, bytes_a_step=64), tmp_path / "x.checkpoint"
    model = byte_lm.build_model(TINY, attention=NAME)
    byte_lm.train(model, TEXT, plan, path, checkpoint_every=1, sparsity=sparsity)
    sparsity.targets = (replace(sparsity.target, share=0.4),)
    with pytest.raises(InputError, match=r"x.checkpoint is of a training with other settings"):
        byte_lm.train(model, TEXT, plan, path, sparsity=sparsity)


def test_the_commands_train_with_a_target_record_jobs_and_capture_a_layer(tmp_path, capsys):
    first, second = tmp_path / "super.npz", tmp_path / "more.npz"
    options = ["--steps", "2", "--windows", "1", "--survive", "0.4", "0.3", "--rows", "16", "2", "--tau", "3"]
    assert main(["train-byte-lm", "-o", str(first), "--attention", "super", *options]) == 0
    assert re.search(r"\d% and [\d.]+% of the keys survive", capsys.readouterr().out)
    assert main(["train-byte-lm", "-o", str(second), "--start", str(first), "--rate", "1e-4", *options]) == 0
    notes = byte_lm.read_training(second)
    assert [(each["share"], each["tau"], each["rows"]) for each in notes["sparsity"]] == [(0.4, 3, 16), (0.3, 3, 2)]
    assert notes["sparsity"] == notes["start"]["sparsity"]
    assert (notes["start"]["file"], notes["plan"]["rate"]) == ("super.npz", 1e-4)
    capsys.readouterr()

    folder = tmp_path / "records"
    arguments = ["evaluate-byte-lm", "--weights", str(second), "--windows", "1", "--tau", "3", "--record", str(folder)]
    assert main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    record = JobRecord.load(folder / "tau-3.npz")
    assert record.notes["threshold"] == "tau 3"
    assert f"{record.survivor_share:.1%}" in table[-1]
    assert f"{record.notes['loss']:.4f}" in table[-1]
    assert JobRecord.load(folder / "all.npz").survivor_share == 1

    captured = tmp_path / "x.npz"
    arguments = ["capture-byte-lm", "--weights", str(second), "--layer", "1", "--windows", "1", "-o", str(captured)]
    assert main(arguments) == 0
    tensors = load_attention(captured)
    assert tensors.metadata == {"model": "more", "layer": 1, "tokens": 512, "held_out_window": 0}
    assert tensors.mask == Mask(MaskKind.CAUSAL)
    attended = attend(tensors.quantise(), record.config, tensors.mask, Threshold.of(tau=3))
    # The layer's share of the record: 3 heads of 32 blocks, after those of layer 0. Before layer 1 the captured run
    # attends in float32, so an int8 here and there differs.
    layer = slice(*(int(record.keys[: 96 * n].sum()) for n in (1, 2)))
    assert attended.survivors.sum() == pytest.approx(record.survivors[layer].sum(), rel=0.01)
    assert main([*arguments, "--layer", "9"]) == 2
    assert "the model has 5 layers, so layer must be below that, not 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--survive", "1.5"], "share of a sparsity target must be above 0 and below 1, not 1.5"),
        (["--survive", "0.5", "--rows", "100"], "rows of a sparsity target must be from 1 to 64, not 100"),
        (["--rate", "0"], "the rate of a training must be above 0, not 0.0"),
    ],
)
def test_wrong_numbers_for_a_training_are_known_before_it(options, message, tmp_path, capsys):
    assert main(["train-byte-lm", "-o", str(tmp_path / "x.npz"), *options]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_values_that_fit_no_target_are_named(tmp_path, capsys):
    options = ["--survive", "0.4", "0.3", "0.2", "--tau", "3", "4"]
    assert main(["train-byte-lm", "-o", str(tmp_path / "x.npz"), *options]) == 2
    assert capsys.readouterr().err == "error: --tau needs one value, or one for each of the 3 shares, not 2\n"
