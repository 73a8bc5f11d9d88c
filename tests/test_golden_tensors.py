"""Reading anybody's tensors, and writing our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.quantise import quantise
from golden.tensors import AttentionTensors, load_attention, save_attention


def tensors(heads: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "q": random.normal(0, 1, (heads, 3, 8)).astype(np.float32),
        "k": random.normal(0, 1, (2, 5, 8)).astype(np.float32),
        "v": random.normal(0, 1, (2, 5, 6)).astype(np.float32),
    }


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **(tensors() | arrays))
    return path


def test_three_arrays_are_enough(tmp_path):
    loaded = load_attention(write(tmp_path / "x.npz"))
    for name, array in tensors().items():
        assert np.array_equal(getattr(loaded, name), array)
        assert getattr(loaded, f"{name}_scale") is None
    assert loaded.softmax_scale is None
    assert loaded.mask == Mask()
    assert loaded.metadata == {}
    assert loaded.is_float
    assert loaded.quantise().group == 2


def test_what_was_saved_is_loaded_again(tmp_path):
    path = tmp_path / "x.npz"
    attention = quantise(**tensors(), softmax_scale=0.3)
    metadata = {"model": "a model", "layer": 3, "share": 0.5, "good": True}
    save_attention(path, AttentionTensors.of(attention, Mask(MaskKind.WINDOW, 7), metadata))
    loaded = load_attention(str(path))
    again = loaded.quantise()
    for name in ("query", "key", "value", "query_scale", "key_scale", "value_scale"):
        assert np.array_equal(getattr(again, name), getattr(attention, name)), name
    assert loaded.softmax_scale == 0.3
    assert loaded.mask == Mask(MaskKind.WINDOW, 7)
    assert loaded.metadata == metadata
    assert not loaded.is_float
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("mask", [Mask(), Mask(MaskKind.CAUSAL), Mask(MaskKind.WINDOW, 1)])
def test_masks_are_saved(tmp_path, mask):
    save_attention(tmp_path / "x.npz", AttentionTensors(**tensors(), mask=mask))
    assert load_attention(tmp_path / "x.npz").mask == mask


def test_the_same_tensors_make_the_same_file(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_attention(tmp_path / name, AttentionTensors(**tensors()))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_arrays_that_nobody_asked_for_do_no_harm(tmp_path):
    extra = {"config": np.array({"a": 1}, dtype=object), "weights": np.ones(3), "note": np.array("hello")}
    assert load_attention(write(tmp_path / "x.npz", **extra)).metadata == {"note": "hello"}


def test_int8_with_a_single_scale(tmp_path):
    arrays = {name: np.rint(20 * array).astype(np.int8) for name, array in tensors().items()}
    path = write(tmp_path / "x.npz", **arrays, q_scale=0.05, k_scale=[0.05, 0.1], v_scale=np.float32(2))
    attention = load_attention(path).quantise()
    assert attention.query_scale.tolist() == [0.05, 0.05]
    assert attention.key_scale.tolist() == [0.05, 0.1]
    assert attention.value_scale.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": np.array([object()], dtype=object)}, "array q of .* holds Python objects or is damaged"),
        ({"q_scale": np.array(["a", "b"])}, "array q_scale of .* must hold numbers, not <U1"),
        ({"softmax_scale": [1.0, 2.0]}, r"array softmax_scale of .* must be one number, not shape \(2,\)"),
        ({"causal": "yes"}, "array causal of .* must hold numbers"),
        ({"window": 2.5}, "array window of .* must be a whole number, not 2.5"),
        ({"window": -1}, "array window of .* must be a whole number, not -1"),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_attention(write(tmp_path / "x.npz", **change))


def test_a_missing_array_is_named_with_what_there_is(tmp_path):
    np.savez(tmp_path / "x.npz", q=np.ones(1), key=np.ones(1))
    with pytest.raises(InputError, match="has no array k; it has q, key"):
        load_attention(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz")
    with pytest.raises(InputError, match="has no array q; it has none"):
        load_attention(tmp_path / "x.npz")


def test_files_that_are_no_npz_are_refused(tmp_path):
    with pytest.raises(InputError, match="can't be read: No such file"):
        load_attention(tmp_path / "missing.npz")
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        load_attention(tmp_path)
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(InputError, match="is a single array"):
        load_attention(tmp_path / "x.npy")
    for content in (b"", b"some text", b"PK\x03\x04 cut off", b"\x80\x04pickled"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"x.npz is not a NumPy .npz file"):
            load_attention(tmp_path / "x.npz")


def test_a_damaged_array_is_named(tmp_path):
    path = write(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    middle = content.index(tensors()["q"].tobytes()) + 50
    content[middle] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"array q of .* is damaged"):
        load_attention(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "x.npz")
    before = path.read_bytes()

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(InputError, match=r"x\.npz can't be written: No space left on device"):
        save_attention(path, AttentionTensors(**tensors()))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]


def test_a_save_into_nowhere_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be written: No such file or directory"):
        save_attention(tmp_path / "nowhere" / "x.npz", AttentionTensors(**tensors()))


def test_metadata_does_not_take_the_place_of_an_option(tmp_path):
    message = r"metadata can't be called q, window, which .*x\.npz has for the attention itself"
    with pytest.raises(InputError, match=message):
        save_attention(tmp_path / "x.npz", AttentionTensors(**tensors(), metadata={"window": 0, "q": 1, "layer": 2}))
    assert not (tmp_path / "x.npz").exists()
