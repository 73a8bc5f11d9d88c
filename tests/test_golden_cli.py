"""``python -m golden``: what it prints, and what it says to bad input."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import golden
from golden.__main__ import main
from golden.config import CoreConfig
from golden.fast import attend
from golden.tensors import load_attention
from golden.threshold import Threshold

ROOT = Path(golden.__file__).parent.parent
MINILM = str(Path(golden.__file__).parent / "data" / "minilm_l3_128.npz")


def write(path: Path, **arrays: object) -> str:
    random = np.random.default_rng(0)
    shapes = {"q": (2, 12, 8), "k": (1, 12, 8), "v": (1, 12, 8)}
    np.savez(path, **({name: random.normal(0, 1, shape) for name, shape in shapes.items()} | arrays))
    return str(path)


def rows(text: str) -> dict[str, list[float]]:
    """Return the numbers of a table by the label that its lines begin with."""
    found = {}
    for line in text.splitlines():
        label, *cells = re.split(r" {2,}", line)
        if cells and all(re.fullmatch(r"-?[\d.]+(e[-+]\d+)?%?|inf", cell) for cell in cells):
            found[label] = [float(cell.rstrip("%")) for cell in cells]
    return found


def test_attend_prints_a_row_per_threshold(capsys):
    assert main(["attend", MINILM, "--tau", "4", "12"]) == 0
    table = rows(capsys.readouterr().out)
    assert list(table) == ["all", "tau 4", "tau 12"]
    snr, error, survivors, saturated, dropped, bound = zip(*table.values(), strict=True)
    assert snr[0] >= 48 > snr[1]
    assert survivors[0] == 100 > survivors[2] > survivors[1] > 0
    assert saturated == (0, 0, 0)
    assert dropped[0] == bound[0] == 0 < dropped[2] < dropped[1]
    assert error[1] < bound[1]


def test_attend_has_a_row_for_every_kind_of_threshold(capsys):
    assert main(["attend", MINILM]) == 0
    assert list(rows(capsys.readouterr().out)) == ["all", "tau 4", "tau 6", "tau 8", "tau 10", "tau 12"]
    arguments = ["--epsilon", "0.01", "0.2", "--target", "0.6", "--tau", "5", "--rows", "1", "--rows-per-scaler", "1"]
    assert main(["attend", MINILM, *arguments]) == 0
    table = rows(capsys.readouterr().out)
    assert list(table) == ["all", "tau 5", "epsilon 0.01", "epsilon 0.2", "target 0.6"]
    attention = load_attention(MINILM).quantise()
    for label, threshold in (
        ("tau 5", Threshold.of(5)),
        ("epsilon 0.01", Threshold.of(epsilon=0.01)),
        ("target 0.6", Threshold.of(target=0.6)),
    ):
        result = attend(attention, CoreConfig(rows=1, rows_per_scaler=1), threshold=threshold)
        assert table[label][2] == pytest.approx(100 * result.survivor_share.mean(), abs=0.051)
        assert table[label][4] == pytest.approx(100 * result.dropped_share.max(), abs=0.051)
    assert table["epsilon 0.01"][4] <= 1
    assert 1 < table["epsilon 0.2"][4] <= 20
    assert table["target 0.6"][2] == pytest.approx(60, abs=5)


def test_attend_takes_the_mask_of_the_file_unless_told_otherwise(tmp_path, capsys):
    outputs = {}
    files = {"none": write(tmp_path / "none.npz"), "causal": write(tmp_path / "causal.npz", causal=True)}
    for name, options in {
        "none": [files["none"]],
        "file": [files["causal"]],
        "option": [files["none"], "--causal"],
        "lifted": [files["causal"], "--no-causal"],
        "window": [files["none"], "--window", "2"],
        "window of a causal file": [files["causal"], "--window", "2"],
    }.items():
        assert main(["attend", *options, "--preset", "tiny"]) == 0
        outputs[name] = capsys.readouterr().out
    assert outputs["file"] == outputs["option"] != outputs["none"]
    assert outputs["lifted"] == outputs["none"]
    assert outputs["window"] == outputs["window of a causal file"] not in (outputs["none"], outputs["file"])


def test_attend_can_subtract_the_mean_key(tmp_path, capsys):
    path = write(tmp_path / "x.npz", k=np.random.default_rng(1).normal(9, 1, (1, 12, 8)))
    assert main(["attend", path]) == 0
    kept = capsys.readouterr().out
    assert main(["attend", path, "--subtract-key-mean"]) == 0
    assert capsys.readouterr().out != kept


def test_info_prints_shapes_metadata_and_both_quantisers(tmp_path, capsys):
    path = write(tmp_path / "x.npz", window=3, model="some model", k=np.random.default_rng(1).normal(9, 1, (1, 12, 8)))
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^q +float64 2 x 12 x 8$", out, re.MULTILINE)
    assert re.search(r"^mask +window of 3 keys$", out, re.MULTILINE)
    assert re.search(r"^model +some model$", out, re.MULTILINE)
    table = rows(out)
    assert 20 < table["kept"][0] < table["subtracted"][0] < 60


def test_info_of_int8_prints_scales_and_no_snr(capsys):
    assert main(["info", MINILM]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^k +int8 12 x 128 x 32, scale 0\.\d+ to 0\.\d+$", out, re.MULTILINE)
    assert re.search(r"^model +all-MiniLM-L6-v2$", out, re.MULTILINE)
    assert "SNR" not in out


def ones(heads: int, dim: int) -> np.ndarray:
    return np.ones((heads, 12, dim))


@pytest.mark.parametrize(
    ("command", "options", "arrays", "sentence"),
    [
        ("info", [], {"k": np.array(["x"])}, "k must be float16"),
        ("attend", [], {"q": np.ones((12, 8))}, "q must have three axes"),
        ("attend", [], {"v": np.full((1, 12, 8), np.nan)}, "v holds values that are not finite"),
        ("attend", [], {"q": np.array([None])}, "array q of {file} holds Python objects or is damaged"),
        (
            "info",
            [],
            {"k": ones(3, 8), "v": ones(3, 8)},
            "the heads of q must be a multiple of those of k, not 2 and 3",
        ),
        ("attend", [], {"q": ones(2, 80), "k": ones(1, 80)}, "head_dim is 80; this configuration holds at most 64"),
        ("attend", ["--tau", "0.5"], {}, "tau must be from 1.0 to"),
        ("attend", ["--preset", "huge"], {}, "there is no preset 'huge'; presets are tiny, small, default, wide"),
        ("attend", ["--lanes", "12"], {}, "lanes must be a power of two from 4 to 64, not 12"),
        ("attend", ["--tau", "nan"], {}, "tau must be from 1.0 to"),
        ("attend", ["--epsilon", "0.1", "1"], {}, "epsilon must be from"),
        ("attend", ["--target", "1"], {}, "target must be above 0 and below 1, not 1.0"),
        ("attend", ["--block-mask", "none.npz"], {}, "none.npz can't be read"),
        ("attend", ["--subtract-key-mean"], {"k": ones(1, 8).astype(np.int8)}, "k is int8 already"),
        ("attend", ["--window", "70000"], {}, "window is 70000; this configuration holds at most 65536"),
    ],
)
def test_bad_tensors_are_one_sentence_and_exit_code_2(command, options, arrays, sentence, tmp_path, capsys):
    file = write(tmp_path / "x.npz", **arrays)
    assert main([command, file, *options]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error)
    assert sentence.format(file=file) in error


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "missing.txt can't be read: No such file or directory"), (b"\xff\xfe", "text.txt is not a text in UTF-8")],
)
def test_a_bad_text_is_one_sentence_and_exit_code_2(content, sentence, tmp_path, capsys):
    text = tmp_path / ("missing.txt" if content is None else "text.txt")
    if content is not None:
        text.write_bytes(content)
    output = tmp_path / "x.npz"
    assert main(["capture", "--model", "x", "--text", str(text), "--layer", "0", "-o", str(output)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/{sentence}\n"
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["solve"],
        ["info"],
        ["attend", MINILM, "--tau", "four"],
        ["attend", MINILM, "--window", "0"],
        ["capture", "--model", "x", "--text", "y", "--layer", "-1", "-o", "z"],
        ["capture", "--model", "x", "--text", "y", "--layer", "1.5", "-o", "z"],
        ["capture", "--model", "x", "--text", "y", "--layer", "0", "--tokens", "0", "-o", "z"],
    ],
)
def test_bad_options_are_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert re.search(r"^python -m golden.*: error: .+$", capsys.readouterr().err, re.MULTILINE)


@pytest.fixture
def no_models(monkeypatch):
    """Let PyTorch and transformers be missing."""
    real_import = builtins.__import__

    def no_torch(name, *arguments, **options):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)


@pytest.mark.usefixtures("no_models")
def test_without_torch_bench_says_what_to_install(capsys):
    assert main(["bench"]) == 2
    assert capsys.readouterr() == ("", "error: this needs PyTorch: pip install lean-attention[models]\n")


@pytest.mark.usefixtures("no_models")
def test_without_torch_capture_says_what_to_install(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("a text")
    options = ["--model", str(tmp_path), "--text", str(tmp_path / "text.txt"), "--layer", "0", "-o", "x.npz"]
    assert main(["capture", *options]) == 2
    message = "error: this needs PyTorch and transformers: pip install lean-attention[models]\n"
    assert capsys.readouterr().err == message


def test_the_module_runs_without_a_traceback(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "golden", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    good = run("info", MINILM)
    assert (good.returncode, good.stderr) == (0, "")
    bad = run("info", str(tmp_path / "missing.npz"))
    assert bad.returncode == 2
    assert bad.stderr == f"error: {tmp_path / 'missing.npz'} can't be read: No such file or directory\n"
