"""Values that are the first elements of their keys: from floats and files to jobs, and which bits they give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import golden
from golden.commands.info import print_tensors
from golden.config import PRESETS, CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.job import Job, ScoreScale
from golden.layer import run_layer
from golden.masks import Mask
from golden.plan import plan_jobs
from golden.quantise import QuantisedAttention, quantise
from golden.reference import float_attention, quantised_attention, snr_db
from golden.tensors import AttentionTensors, load_attention, save_attention
from golden.threshold import Threshold

TINY = PRESETS["tiny"]
MINILM = Path(golden.__file__).parent / "data" / "minilm_l3_128.npz"
SHARED = replace(TINY, shared_values=1)


def latents(queries: int = 5, keys: int = 30, head_dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return queries of six heads, and the keys of two, on which they attend unevenly."""
    rng = np.random.default_rng(4)
    return rng.normal(0, 2, (6, queries, head_dim)), rng.normal(0, 2, (2, keys, head_dim))


def layer(value_dim: int | None = 9) -> QuantisedAttention:
    return quantise(*latents(), None, value_dim=value_dim)


@pytest.mark.parametrize("value_dim", [None, 1, 9, 12])
def test_shared_values_are_elements_of_the_quantised_keys_under_their_scale(value_dim: int | None):
    q, k = latents()
    attention = layer(value_dim)
    assert attention.shared
    assert attention.value_dim == (value_dim or 12)
    assert np.array_equal(attention.value, attention.key[:, :, :value_dim])
    assert np.array_equal(attention.value_scale, attention.key_scale)
    own = quantise(q, k, k[:, :, :value_dim])
    assert not own.shared
    assert np.array_equal(own.key, attention.key)
    # A scale of their own fits values no worse, and where the largest element is among them it is the same.
    assert np.all(own.value_scale <= attention.value_scale)
    exact = float_attention(q, k, k[:, :, :value_dim])
    assert snr_db(exact, quantised_attention(attention)) > 30


@pytest.mark.parametrize("threshold", [Threshold(), Threshold.of(4), Threshold.of(epsilon=0.02)], ids=str)
def test_sharing_changes_no_bit(threshold: Threshold):
    attention = layer()
    unshared = replace(attention, shared=False)
    runs = [run_layer(attention, SHARED, Mask.of(causal=True), threshold)]
    runs += [
        run_layer(like, core, Mask.of(causal=True), threshold) for like, core in ((attention, TINY), (unshared, SHARED))
    ]
    assert [
        [planned.job.shared for planned in run.plan] == [shared] * len(run.plan)
        for run, shared in zip(runs, (True, False, False), strict=True)
    ] == [True] * 3
    for run in runs[1:]:
        assert runs[0].attended.differences(run.attended) == []
    fast = attend(attention, SHARED, Mask.of(causal=True), threshold, keep=True)
    assert runs[0].attended.differences(fast) == []


def test_a_part_of_a_layer_is_shared_like_the_whole():
    assert layer().first(4).shared


def test_attention_over_a_batch_takes_no_values():
    q, k = (np.stack([tensor, -tensor]) for tensor in latents())
    attended = golden.attention(q, k, None, value_dim=9, key_lengths=[30, 11], query_lengths=[5, 3])
    assert attended.output.shape == (2, 6, 5, 9)
    for n, (queries, keys) in enumerate(((5, 30), (3, 11))):
        one = quantise(q[n, :, :queries], k[n, :, :keys], None, value_dim=9)
        exact = quantised_attention(one)
        assert snr_db(exact, attended.output[n, :, :queries]) > 40
        assert attended.sequences[n].attention.shared
    whole = golden.attention(q[0], k[0], None)
    assert whole.output.shape == (6, 5, 12)
    assert np.array_equal(whole.output[:, :, :9], golden.attention(q[0], k[0], None, value_dim=9).output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_dim": 13}, "value_dim must be from 1 to the 12 elements of a key, not 13"),
        ({"value_dim": 0}, "value_dim must be from 1 to the 12 elements of a key, not 0"),
        (
            {"v": np.ones((2, 30, 3)), "value_dim": 3},
            "value_dim says how much of k the values are, so it can't be given",
        ),
        ({"v_scale": 1.0}, "a scale was given for v, but the values are part of k and have its scale"),
        ({"subtract_key_mean": True}, "the mean over keys can't be subtracted from keys that are values too"),
        ({"k": np.ones((2, 30))}, "k must have three axes"),
    ],
)
def test_what_shared_values_can_not_be_is_named(change: dict, message: str):
    q, k = latents()
    with pytest.raises(InputError, match=f"^{message}"):
        quantise(**({"q": q, "k": k, "v": None} | change))


def test_a_layer_that_shares_has_the_values_of_its_keys():
    attention = layer()
    for change in ({"value": attention.value + np.int8(1)}, {"value_scale": attention.value_scale * 2}):
        with pytest.raises(InputError, match="shared values must be the first elements of the keys, under their scale"):
            replace(attention, **change)


def job(**changes: object) -> Job:
    key = np.arange(24, dtype=np.int8).reshape(3, 8)
    fields = {
        "query": key[:2],
        "positions": np.arange(2),
        "key": key,
        "indices": np.arange(3),
        "value": key[:, :5],
        "scale": ScoreScale(1, 8),
        "shared": True,
    }
    return Job(**(fields | changes))


def test_a_job_that_shares_has_the_values_of_its_keys_and_a_core_for_it():
    job().check(SHARED)
    with pytest.raises(
        InputError, match="this configuration has no shared_values: a job's values must come on their own"
    ):
        job().check(TINY)
    for value in (job().value[::-1], np.zeros((3, 9), dtype=np.int8)):
        with pytest.raises(InputError, match="a job can only share values that are the first elements of its keys"):
            job(value=value)


def test_the_option_is_one_or_nothing():
    assert CoreConfig().shared_values == 0
    assert PRESETS["latent"].shared_values == 1
    for value in (2, -1):
        with pytest.raises(InputError, match=f"shared_values must be 0 or 1, not {value}"):
            CoreConfig(shared_values=value)


def test_a_file_without_values_says_how_much_of_the_keys_they_are(tmp_path, capsys):
    q, k = latents()
    path = tmp_path / "x.npz"
    np.savez(path, q=q, k=k, value_dim=9)
    tensors = load_attention(path)
    assert (tensors.v, tensors.value_dim, tensors.metadata) == (None, 9, {})
    assert tensors.is_float
    assert np.array_equal(tensors.values, k[:, :, :9])
    assert np.array_equal(tensors.quantise().value, layer().value)
    print_tensors(tensors)
    assert "v             the first 9 elements of k\n" in capsys.readouterr().out
    save_attention(path, AttentionTensors.of(layer(), Mask(), {}))
    again = load_attention(path).quantise()
    assert again.shared
    assert np.array_equal(again.value, layer().value)
    np.savez(path, q=q, k=k)
    with pytest.raises(InputError, match="has no array v; it has q, k"):
        load_attention(path)
    np.savez(path, q=q, k=k, value_dim=2.5)
    with pytest.raises(InputError, match=r"array value_dim of .* must be a whole number, not 2.5"):
        load_attention(path)


def test_info_compares_only_the_quantiser_that_there_is(tmp_path, capsys):
    from golden.__main__ import main

    q, k = latents()
    np.savez(tmp_path / "x.npz", q=q, k=k, value_dim=9)
    assert main(["info", str(tmp_path / "x.npz")]) == 0
    out = capsys.readouterr().out
    assert "kept" in out
    assert "subtracted" not in out


def test_jobs_of_a_real_layer_share_where_the_core_can():
    tensors = load_attention(MINILM)
    attention = quantise(tensors.q, tensors.k, None, k_scale=tensors.k_scale, q_scale=tensors.q_scale)
    assert all(planned.job.shared for planned in plan_jobs(attention, SHARED))
    assert not any(planned.job.shared for planned in plan_jobs(attention, TINY))
