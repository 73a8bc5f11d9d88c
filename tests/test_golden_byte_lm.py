"""The byte language model: its corpus, its training, its files and its commands."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import golden
from golden.capture import capture
from golden.errors import InputError
from golden.experiments import byte_language_model as byte_lm
from golden.experiments import library_source
from golden.experiments.__main__ import main
from golden.experiments.byte_language_model import ModelShape, TrainingPlan
from golden.masks import Mask, MaskKind
from golden.tensors import load_attention

DATA = Path(golden.__file__).parent / "data"
TINY = ModelShape(layers=2, hidden=32, intermediate=64, query_heads=4, kv_heads=2, head_dim=8, context=32)
TEXT = np.frombuffer(b"def twice(number):\n    return number * 2\n\n" * 40, dtype=np.uint8)

LOSS_BOUND = 1.2
"""Nats a byte that the weights of the project stay below on held-out source; golden/data/README.md has the figure."""


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers", reason="transformers is not installed")
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")


def logits_of(torch, model, text: np.ndarray = TEXT[:32]) -> np.ndarray:
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(text.astype(np.int64))[None]).logits[0].numpy()


def make_library(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    return root


def test_each_file_is_on_one_side_by_its_name_alone(tmp_path):
    # That these two are held out is part of what the weights of the project mean: it must never change.
    assert library_source.is_held_out("enum.py")
    assert library_source.is_held_out("json/tool.py")
    assert not library_source.is_held_out("heapq.py")
    names = ["heapq.py", "enum.py", "ast.py", "json/tool.py"]
    corpus = library_source.read_corpus(make_library(tmp_path, names))
    assert corpus.train.tobytes() == b"\0# ast.py\n\0# heapq.py\n"
    assert corpus.held_out.tobytes() == b"\0# enum.py\n\0# json/tool.py\n"


def test_the_corpus_is_the_same_each_time_and_its_sides_share_no_file():
    first, second = library_source.read_corpus(), library_source.read_corpus()
    assert first.digest == second.digest
    assert np.array_equal(first.held_out, second.held_out)
    train, held_out = (set(side.tobytes().split(b"\0")) - {b""} for side in (first.train, first.held_out))
    assert not train & held_out
    # About a sixteenth, and enough of both to train and to measure on.
    assert len(first.train) > 2_000_000
    assert 0.02 < len(first.held_out) / len(first.train) < 0.15


def test_tests_installed_packages_and_generated_files_are_left_out(tmp_path):
    left_out = [
        "site-packages/torch.py",
        "test/test_ast.py",
        "unittest/test/support.py",
        "idlelib/idle_test/mock_tk.py",
        "encodings/cp865.py",
        "pydoc_data/topics.py",
        "_sysconfigdata__linux.py",
        "sitecustomize.py",
    ]
    make_library(tmp_path, ["unittest/mock.py", "ast.py", *left_out])
    assert [name for name, _ in library_source.library_files(tmp_path)] == ["ast.py", "unittest/mock.py"]


@pytest.mark.parametrize("names", [[], ["heapq.py"], ["enum.py"]])
def test_a_library_without_source_is_refused(names, tmp_path):
    with pytest.raises(InputError, match="holds too little of the source of Python's library to train and measure on"):
        library_source.read_corpus(make_library(tmp_path, names))


def test_windows_cover_the_stream_from_end_to_end():
    stream = np.arange(100, dtype=np.uint8)
    windows = library_source.even_windows(stream, 10, 4)
    assert windows[:, 0].tolist() == [0, 30, 60, 90]
    assert windows[-1].tolist() == list(range(90, 100))
    assert library_source.even_windows(stream, 100, 1).shape == (1, 100)
    with pytest.raises(InputError, match="a window of 101 bytes is longer than the 100 bytes there are"):
        library_source.even_windows(stream, 101, 1)
    with pytest.raises(InputError, match="100 bytes have 91 windows of 10 bytes, not 92"):
        library_source.even_windows(stream, 10, 92)


def test_what_a_step_reads_depends_on_the_seed_and_the_step_only():
    plan = TrainingPlan(steps=30, seed=3, bytes_a_step=64)
    short, long = plan.windows_at(19, TEXT, 32), plan.windows_at(20, TEXT, 32)
    assert (short.shape, long.shape) == ((4, 16), (2, 32))
    assert np.array_equal(short, plan.windows_at(19, TEXT, 32))
    assert not np.array_equal(short, plan.windows_at(18, TEXT, 32))
    assert not np.array_equal(short, replace(plan, seed=4).windows_at(19, TEXT, 32))


def test_the_rate_warms_up_and_falls_to_nothing():
    plan = TrainingPlan(steps=100, rate=1.0, warmup=10)
    rates = [plan.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers of a model must be a whole number from 1 on, not 0"),
        ({"hidden": 1.5}, "hidden of a model must be a whole number from 1 on, not 1.5"),
        ({"kv_heads": 3}, r"kv_heads must divide query_heads \(4\), not be 3"),
        ({"head_dim": 5}, "head_dim must be even for rotary positions, not 5"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_missing_libraries_are_named(missing, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    output = ["-o", str(tmp_path / "x")]
    for arguments in (["train-byte-lm", *output], ["evaluate-byte-lm"], ["export-byte-lm", *output]):
        assert main(arguments) == 2
        error = "error: the byte language model needs PyTorch and transformers: pip install lean-attention[models]\n"
        assert capsys.readouterr().err == error
    assert not list(tmp_path.iterdir())


def test_the_shipped_weights_are_small_and_say_how_they_were_made():
    assert byte_lm.SHIPPED_WEIGHTS.stat().st_size <= 5_000_000
    notes = byte_lm.read_training(byte_lm.SHIPPED_WEIGHTS)
    assert TrainingPlan(**notes["plan"]) == TrainingPlan()
    assert 0 < notes["held_out_loss"] < LOSS_BOUND


def test_the_shipped_weights_predict_held_out_source(torch):
    model = byte_lm.load_model(byte_lm.SHIPPED_WEIGHTS)
    windows = library_source.even_windows(library_source.read_corpus().held_out, byte_lm.shape_of(model).context, 16)
    assert 0.5 < byte_lm.held_out_loss(model, windows) < LOSS_BOUND


def test_the_committed_capture_is_what_its_readme_says(torch, tmp_path):
    byte_lm.export_model(byte_lm.SHIPPED_WEIGHTS, tmp_path)
    text = (DATA / "enum_512.txt").read_text(encoding="utf-8")
    attention = capture(tmp_path, text, 2, 512).quantise()
    committed = load_attention(DATA / "byte_lm_512.npz")
    assert committed.metadata == {"model": "byte-lm", "layer": 2, "tokens": 512}
    assert committed.mask == Mask(MaskKind.CAUSAL)
    for name, tensor in (("query", committed.q), ("key", committed.k), ("value", committed.v)):
        assert np.abs(getattr(attention, name).astype(int) - tensor).max() <= 1, name


def test_training_lowers_the_loss_and_rounds_the_weights(torch):
    model = byte_lm.build_model(TINY, seed=1)
    windows = library_source.even_windows(TEXT, 32, 8)
    before = byte_lm.held_out_loss(model, windows)
    assert before == pytest.approx(np.log(256), rel=0.05)
    losses = byte_lm.train(model, TEXT, TrainingPlan(steps=40, seed=1, bytes_a_step=256, rate=1e-2, warmup=5))
    assert len(losses) == 40
    assert losses[-5:].mean() < 0.6 * losses[:5].mean()
    assert byte_lm.held_out_loss(model, windows) < 0.6 * before
    assert all(torch.equal(weight, weight.half().float()) for weight in model.parameters())


def test_the_held_out_loss_is_the_mean_that_transformers_computes(torch):
    model, windows = byte_lm.build_model(TINY), library_source.even_windows(TEXT, 32, 7)
    text = torch.from_numpy(windows.astype(np.int64))
    with torch.inference_mode():
        expected = float(model(input_ids=text, labels=text).loss)
    for batch in (2, 3, 7):
        assert byte_lm.held_out_loss(model, windows, batch) == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_model(torch):
    state = torch.random.get_rng_state()
    first, second, other = (byte_lm.build_model(TINY, seed) for seed in (1, 1, 2))
    assert np.array_equal(logits_of(torch, first), logits_of(torch, second))
    assert not np.array_equal(logits_of(torch, first), logits_of(torch, other))
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_interrupted_training_ends_as_if_it_had_not_been(torch, tmp_path, monkeypatch):
    plan, checkpoint = TrainingPlan(steps=9, bytes_a_step=64, warmup=2), tmp_path / "x.checkpoint"
    straight = byte_lm.build_model(TINY)
    losses = byte_lm.train(straight, TEXT, plan)

    read = TrainingPlan.windows_at

    def interrupted(plan, step, *arguments):
        if step == 7:
            raise KeyboardInterrupt
        return read(plan, step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingPlan, "windows_at", interrupted)
        with pytest.raises(KeyboardInterrupt):
            byte_lm.train(byte_lm.build_model(TINY), TEXT, plan, checkpoint, checkpoint_every=3)
    lines: list[str] = []
    resumed = byte_lm.build_model(TINY, seed=5)
    again = byte_lm.train(resumed, TEXT, plan, checkpoint, lines.append)
    assert lines[0] == "continuing after step 6"
    assert lines[1].startswith("step 9 of 9, loss ")
    assert np.array_equal(again, losses[6:])
    assert np.array_equal(logits_of(torch, resumed), logits_of(torch, straight))


def test_checkpoints_of_other_trainings_are_refused(torch, tmp_path):
    plan, checkpoint = TrainingPlan(steps=2, bytes_a_step=64), tmp_path / "x.checkpoint"
    byte_lm.train(byte_lm.build_model(TINY), TEXT, plan, checkpoint, checkpoint_every=1)
    for model, stream, other in (
        (byte_lm.build_model(TINY), TEXT, replace(plan, seed=1)),
        (byte_lm.build_model(TINY), TEXT[1:], plan),
        (byte_lm.build_model(replace(TINY, layers=1)), TEXT, plan),
    ):
        with pytest.raises(InputError, match=r"x.checkpoint is of a training with other settings; repeat those"):
            byte_lm.train(model, stream, other, checkpoint)
    with pytest.raises(InputError, match=r"x.checkpoint is of a training with other settings"):
        byte_lm.train(byte_lm.build_model(TINY), TEXT, plan, checkpoint, start="other weights")
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x.checkpoint is not a checkpoint of a training; remove it to start anew"):
        byte_lm.train(byte_lm.build_model(TINY), TEXT, plan, checkpoint)


def test_a_text_shorter_than_a_window_is_refused(torch):
    with pytest.raises(InputError, match="a window of 16 bytes is longer than the 10 bytes to train on"):
        byte_lm.train(byte_lm.build_model(TINY), TEXT[:10], TrainingPlan(steps=2))


def test_a_saved_model_comes_back_the_same_to_the_last_bit(torch, tmp_path):
    model = byte_lm.build_model(TINY)
    byte_lm.train(model, TEXT, TrainingPlan(steps=2, bytes_a_step=64))
    byte_lm.save_model(tmp_path / "x.npz", model, {"steps": 2})
    loaded = byte_lm.load_model(tmp_path / "x.npz")
    assert byte_lm.shape_of(loaded) == TINY
    assert byte_lm.read_training(tmp_path / "x.npz") == {"steps": 2}
    assert np.array_equal(logits_of(torch, loaded), logits_of(torch, model))


def test_any_attention_of_transformers_runs_the_model(torch, tmp_path):
    byte_lm.save_model(tmp_path / "x.npz", byte_lm.build_model(TINY))
    eager, sdpa = (byte_lm.load_model(tmp_path / "x.npz", attention) for attention in ("eager", "sdpa"))
    assert eager.config._attn_implementation == "eager"
    assert np.allclose(logits_of(torch, eager), logits_of(torch, sdpa), atol=1e-4)


def test_weights_beyond_float16_are_not_saved(torch, tmp_path):
    model = byte_lm.build_model(TINY)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    with pytest.raises(InputError, match=r"weights model.norm.weight are not finite in float16"):
        byte_lm.save_model(tmp_path / "x.npz", model)
    assert not list(tmp_path.iterdir())


def test_an_exported_model_is_the_same_and_can_be_captured(torch, tmp_path):
    import transformers

    byte_lm.save_model(tmp_path / "x.npz", byte_lm.build_model(TINY))
    byte_lm.export_model(tmp_path / "x.npz", tmp_path / "model")
    ours = byte_lm.load_model(tmp_path / "x.npz")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    assert np.array_equal(logits_of(torch, ours), logits_of(torch, theirs))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    text = " \t\0 <s> été, 水\r\n\n" + "".join(map(chr, range(256)))
    assert tokenizer(text)["input_ids"] == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text
    tensors = capture(tmp_path / "model", "hällo", 1)
    assert tensors.q.shape == (4, 6, 8)
    assert tensors.k.shape == (2, 6, 8)
    assert tensors.mask == Mask(MaskKind.CAUSAL)


def test_the_commands_train_measure_and_export(torch, tmp_path, capsys):
    weights = tmp_path / "out" / "x.npz"
    assert main(["train-byte-lm", "-o", str(weights), "--steps", "2", "--seed", "3", "--windows", "1"]) == 0
    trained = capsys.readouterr().out.splitlines()
    assert [path.name for path in weights.parent.iterdir()] == ["x.npz"]
    notes = byte_lm.read_training(weights)
    assert (notes["plan"]["steps"], notes["plan"]["seed"], notes["held_out_windows"]) == (2, 3, 1)
    assert main(["evaluate-byte-lm", "--weights", str(weights), "--windows", "1"]) == 0
    measured, then = capsys.readouterr().out.splitlines()
    assert measured == trained[-1]
    assert measured.startswith(f"held-out loss {notes['held_out_loss']:.4f} nats a byte (")
    assert then.startswith(f"after its training {notes['held_out_loss']}, 1 windows, Python 3.")
    assert main(["export-byte-lm", "--weights", str(weights), "-o", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "config.json").is_file()


def saved_with(change) -> object:
    """Return a function that writes a file of weights, changed by `change`."""

    def save(path: Path) -> None:
        byte_lm.save_model(path, byte_lm.build_model(TINY))
        arrays = dict(np.load(path))
        change(arrays)
        np.savez(path, **arrays)

    return save


BAD_WEIGHTS = {
    "missing": (lambda path: None, "{file} can't be read: No such file or directory"),
    "text": (lambda path: path.write_text("no"), "{file} is not a NumPy .npz file"),
    "tensors": (lambda path: np.savez(path, q=np.ones(1)), "{file} holds no byte language model: it has no training"),
    "shape no JSON": (
        saved_with(lambda arrays: arrays.update(shape=np.array("{"))),
        "{file} holds no byte language model: it has no shape",
    ),
    "shape without a size": (
        saved_with(lambda arrays: arrays.update(shape=np.array(json.dumps({"layers": 0})))),
        "{file} holds no byte language model: its shape is not that of one",
    ),
    "shape of something else": (
        saved_with(lambda arrays: arrays.update(shape=np.array(json.dumps({"depth": 2})))),
        "{file} holds no byte language model: its shape is not that of one",
    ),
    "weights left out": (
        saved_with(lambda arrays: arrays.pop("model.norm.weight")),
        "{file} holds no byte language model: weights model.norm.weight are missing",
    ),
    "weights too many": (
        saved_with(lambda arrays: arrays.update(bias=np.ones(1))),
        "{file} holds no byte language model: weights bias are not among the model's",
    ),
    "weights of another size": (
        saved_with(lambda arrays: arrays.update({"model.norm.weight": np.ones(3)})),
        "weights model.norm.weight of {file} must be floats of shape (32,), not (3,)",
    ),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_files_without_the_weights_are_refused(kind, torch, tmp_path, capsys):
    write, message = BAD_WEIGHTS[kind]
    file = tmp_path / "x.npz"
    write(file)
    for arguments in (["evaluate-byte-lm"], ["export-byte-lm", "-o", str(tmp_path / "model")]):
        assert main([*arguments, "--weights", str(file)]) == 2
        assert capsys.readouterr().err == f"error: {message.format(file=file)}\n"


def test_places_that_cannot_be_written_are_known_before_the_training(torch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train-byte-lm", "-o", str(tmp_path / "file" / "x.npz")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'file'} is a file; a folder is needed\n"
    byte_lm.save_model(tmp_path / "x.npz", byte_lm.build_model(TINY))
    assert main(["export-byte-lm", "--weights", str(tmp_path / "x.npz"), "-o", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'file'} is a file; a folder is needed\n"


@pytest.mark.parametrize(
    "options",
    [
        ["train-byte-lm"],
        ["train-byte-lm", "-o", "x", "--steps", "0"],
        ["evaluate-byte-lm", "--threads", "x"],
        ["other"],
    ],
)
def test_wrong_options_end_with_a_usage_line(options, capsys):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    assert "usage: python -m golden.experiments" in capsys.readouterr().err
