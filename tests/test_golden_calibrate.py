"""Static masks from data: the averages, the threshold, which blocks stay, and that every query keeps a key."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from golden_cases import SEEDS, masks
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.__main__ import main
from golden.block_mask import BlockMask, load_block_masks
from golden.calibrate import RULES, LayerAverage, average_files
from golden.config import preset
from golden.errors import InputError
from golden.fast import attend
from golden.masks import Mask, query_positions
from golden.reference import float_attention
from golden.tensors import AttentionTensors, save_attention

TINY = preset("tiny").override(max_head_dim=8, max_value_dim=8)
PERCENTILES = st.sampled_from([0, 20, 50, 90, 99, 100])
BLOCKS = st.integers(1, 6)


def tensors_of(
    random: np.random.Generator, queries: int, keys: int, mask: Mask, group: int = 2, layer: int = 0
) -> AttentionTensors:
    """Return one input's tensors, of 2 kv heads."""
    q, k, v = (
        random.normal(0, 2, (heads, length, 4)) for heads, length in ((2 * group, queries), (2, keys), (2, keys))
    )
    return AttentionTensors(q, k, v, mask=mask, metadata={"layer": layer})


@st.composite
def inputs(draw: st.DrawFn) -> list[AttentionTensors]:
    """Draw a layer's inputs of unequal lengths, prefill and decode mixed."""
    random, mask, group = np.random.default_rng(draw(SEEDS)), draw(masks()), draw(st.integers(1, 2))
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    queries = [draw(st.sampled_from([length, length, 1, length + 3])) for length in lengths]
    return [tensors_of(random, *shape, mask, group) for shape in zip(queries, lengths, strict=True)]


def average_of(layer: list[AttentionTensors]) -> LayerAverage:
    average = LayerAverage(len(layer[0].q), len(layer[0].k), layer[0].mask)
    for tensors in layer:
        average.add(tensors)
    return average


def weights_of(tensors: AttentionTensors) -> np.ndarray:
    """Return the exact softmax, by the values of one key each."""
    keys = tensors.k.shape[1]
    one_hot = np.broadcast_to(np.eye(keys), (len(tensors.k), keys, keys))
    return float_attention(tensors.q, tensors.k, one_hot, mask=tensors.mask)


def pairs_of(layer: list[AttentionTensors]) -> dict[tuple[int, int, int], list[float]]:
    """Return the weights of every (query head, position, key) that the mask allows, an element for each input."""
    pairs: dict[tuple[int, int, int], list[float]] = {}
    for tensors in layer:
        queries, keys = tensors.q.shape[1], tensors.k.shape[1]
        positions = query_positions(queries, keys)
        allowed = tensors.mask.allowed(positions, np.arange(keys))
        weights = weights_of(tensors)
        for head, query, key in product(range(len(tensors.q)), range(queries), range(keys)):
            if allowed[query, key]:
                pairs.setdefault((head, int(positions[query]), key), []).append(float(weights[head, query, key]))
    return pairs


@given(inputs())
def test_each_average_is_over_the_inputs_that_have_the_pair(layer):
    average, pairs = average_of(layer), pairs_of(layer)
    assert average.inputs == len(layer)
    expected, count = np.zeros_like(average.total), np.zeros_like(average.count)
    for (head, position, key), weights in pairs.items():
        expected[head, position, key] = np.mean(weights)
        count[position, key] = len(weights)
    assert np.array_equal(average.count, count)
    np.testing.assert_allclose(average.average, expected, rtol=1e-9, atol=1e-15)


@given(inputs(), PERCENTILES)
def test_the_threshold_is_a_percentile_over_all_heads_of_pairs_that_were_seen(layer, percentile):
    pairs = pairs_of(layer)
    if not pairs:
        with pytest.raises(InputError, match="no attention"):
            average_of(layer).threshold(percentile)
        return
    expected = np.percentile([np.mean(weights) for weights in pairs.values()], percentile)
    assert average_of(layer).threshold(percentile) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60)
@given(inputs(), st.sampled_from([20, 50, 90]), BLOCKS, BLOCKS)
def test_blocks_stay_by_their_rule(rule, layer, percentile, query_block, key_block):
    average, pairs = average_of(layer), pairs_of(layer)
    if not pairs:
        return
    cut = average.prune(percentile, query_block, key_block, rule)
    blocks: dict[tuple[int, int, int], list[float]] = {}
    for (head, position, key), weights in pairs.items():
        blocks.setdefault((head, position // query_block, key // key_block), []).append(float(np.mean(weights)))
    group = len(layer[0].q) // len(layer[0].k)
    allowed = layer[0].mask.allowed(*(np.arange(size) for size in average.count.shape))
    added, possible = np.zeros(cut.block_mask.allowed.shape[:2], dtype=int), 0
    for kv_head, block, column in np.ndindex(cut.block_mask.allowed.shape):
        rows, columns = (slice(n * size, (n + 1) * size) for n, size in ((block, query_block), (column, key_block)))
        members = [blocks.get((kv_head * group + n, block, column), []) for n in range(group)]
        value = max((np.mean(of) if rule == "mean" else max(of)) for of in members) if all(members) else None
        stays = bool(cut.block_mask.allowed[kv_head, block, column])
        possible += bool(allowed[rows, columns].any())
        if value is None:
            assert stays == allowed[rows, columns].any(), "what the mask allows and no input had stays"
        elif value > cut.threshold * (1 + 1e-9):
            assert stays
        elif value < cut.threshold * (1 - 1e-9):
            added[kv_head, block] += stays
    assert np.all((added > 0).sum() <= cut.rescued)
    assert cut.density == pytest.approx(cut.block_mask.allowed.sum() / possible)


@given(inputs(), PERCENTILES, BLOCKS, BLOCKS, st.sampled_from(RULES))
def test_every_query_keeps_a_key_in_every_input_of_the_calibration(layer, percentile, query_block, key_block, rule):
    average = average_of(layer)
    if not average.count.any():
        return
    cut = average.prune(percentile, query_block, key_block, rule)
    for tensors in layer:
        positions = query_positions(tensors.q.shape[1], tensors.k.shape[1])
        indices = np.arange(tensors.k.shape[1])
        allowed = tensors.mask.allowed(positions, indices)
        for kv_head in cut.block_mask.allowed:
            left = allowed & kv_head[positions // query_block][:, indices // key_block]
            assert np.array_equal(left.any(axis=1), allowed.any(axis=1))
        if allowed.any(axis=1).all():
            result = attend(tensors.quantise(), TINY, tensors.mask, block_mask=cut.block_mask)
            assert not result.empty.any()


def test_a_query_without_a_key_gets_the_strongest_block():
    """Each of 8 queries looks at one key; at the highest percentile only the strongest pair would stay."""
    target = np.array([5, 5, 2, 2, 2, 2, 6, 6])
    strength = np.linspace(5, 9, 8)[:, None]
    tensors = AttentionTensors(np.eye(8)[target][None] * strength, np.eye(8)[None], np.ones((1, 8, 8)), softmax_scale=1)
    cut = average_of([tensors]).prune(100, 2, 2)
    assert cut.rescued == 4
    assert [np.flatnonzero(row).tolist() for row in cut.block_mask.allowed[0]] == [[2], [1], [1], [3]]
    half = average_of([tensors]).prune(85, 2, 2)
    assert (half.rescued, half.block_mask.allowed[0].argmax(axis=1).tolist()) == (0, [2, 1, 1, 3])


def test_a_rescued_query_is_served_in_the_shortest_input_that_has_it():
    def looking_at_the_last(length: int) -> AttentionTensors:
        query = np.tile(np.eye(8)[length - 1] * 9, (length, 1))
        return AttentionTensors(query[None], np.eye(8)[None, :length], np.ones((1, length, 8)), softmax_scale=1)

    alone = average_of([looking_at_the_last(8)]).prune(100, 4, 2).block_mask.allowed[0]
    assert alone.tolist() == [[False, False, False, True]] * 2
    both = average_of([looking_at_the_last(8), looking_at_the_last(4)]).prune(100, 4, 2).block_mask.allowed[0]
    assert both.tolist() == [[False, True, False, False], [False, False, False, True]]


def test_an_input_in_which_a_query_sees_nothing_asks_for_nothing():
    """Of 4 queries over 1 key in a window of 1 the last 3 see no key; over 4 keys they do."""
    random, mask = np.random.default_rng(0), Mask.of(window=1)
    layer = [tensors_of(random, 4, 4, mask), tensors_of(random, 4, 1, mask)]
    cut = average_of(layer).prune(100, 1, 1)
    assert np.array_equal(cut.block_mask.allowed, np.stack([np.eye(4, dtype=bool)] * 2))
    assert cut.rescued == 2 * 4


def test_causal_queries_before_the_first_kept_key_are_served():
    """Only the end of a long block of queries looks at itself, so that its first queries would see nothing."""
    query = np.zeros((1, 8, 8))
    query[0, [4, 5, 6, 7], [4, 5, 6, 7]] = 30
    query[0, :4, 0] = 1
    tensors = AttentionTensors(query, np.eye(8)[None], np.ones((1, 8, 8)), softmax_scale=1, mask=Mask.of(causal=True))
    cut = average_of([tensors]).prune(75, 8, 4)
    assert (cut.rescued, cut.block_mask.allowed.tolist()) == (1, [[[True, True]]])


@given(inputs(), SEEDS, BLOCKS, BLOCKS)
def test_the_mass_kept_is_the_mean_over_inputs(layer, seed, query_block, key_block):
    average = average_of(layer)
    positions, keys = average.count.shape
    shape = (2, -(-positions // query_block), -(-keys // key_block) + 1)
    block_mask = BlockMask(np.random.default_rng(seed).random(shape) < 0.5, query_block, key_block)
    expected: dict[tuple[int, int], list[float]] = {}
    for tensors in layer:
        weights = weights_of(tensors)
        group = len(tensors.q) // 2
        for n, position in enumerate(query_positions(tensors.q.shape[1], tensors.k.shape[1])):
            stays = block_mask.allowed[:, position // query_block, np.arange(tensors.k.shape[1]) // key_block]
            for head in range(len(tensors.q)):
                if weights[head, n].any():
                    kept = float(weights[head, n, stays[head // group]].sum())
                    expected.setdefault((head, int(position)), []).append(kept)
    found = average.kept_mass(block_mask)
    assert np.isfinite(found).sum() == len(expected)
    for place, kept in expected.items():
        assert found[place] == pytest.approx(np.mean(kept), abs=1e-12)


def test_int8_tensors_count_as_what_they_stand_for():
    tensors = tensors_of(np.random.default_rng(0), 6, 6, Mask())
    quantised = AttentionTensors.of(tensors.quantise(), tensors.mask, tensors.metadata)
    near, exact = average_of([quantised]).average, average_of([tensors]).average
    assert 0 < np.abs(near - exact).max() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: layer.prune(101), "percentile must be from 0 to 100, not 101"),
        (lambda layer: layer.prune(float("nan")), "percentile must be from 0 to 100, not nan"),
        (lambda layer: layer.prune(50, 0), "blocks must have at least 1 position, not 0 x 16"),
        (lambda layer: layer.prune(50, rule="most"), "rule must be mean or any, not most"),
        (lambda layer: LayerAverage(1, 1, Mask()).prune(50), "no attention to calibrate on"),
        (lambda layer: layer.kept_mass(BlockMask(np.ones((2, 1, 9), dtype=bool), 4, 4)), "ends before query position"),
        (lambda layer: layer.kept_mass(BlockMask(np.ones((1, 9, 9), dtype=bool), 4, 4)), "for 1 kv heads"),
        (
            lambda layer: layer.add(tensors_of(np.random.default_rng(0), 3, 3, Mask.of(window=3))),
            "must agree: mask window of 3 keys after none",
        ),
        (
            lambda layer: layer.add(tensors_of(np.random.default_rng(0), 3, 3, Mask(), group=1)),
            "must agree: query heads 2 after 4",
        ),
    ],
)
def test_bad_values_are_refused(change, message):
    layer = average_of([tensors_of(np.random.default_rng(0), 6, 6, Mask())])
    with pytest.raises(InputError, match=message):
        change(layer)


@pytest.fixture
def files(tmp_path):
    """Return the files of inputs of two layers, of unequal lengths."""
    random = np.random.default_rng(3)
    paths = []
    for layer, length in ((4, 40), (1, 33), (4, 24)):
        paths.append(tmp_path / f"{layer}_{length}.npz")
        save_attention(paths[-1], tensors_of(random, length, length, Mask(), layer=layer))
    return paths


def test_files_of_several_layers_are_averaged_by_layer(files):
    layers = average_files(files)
    assert [(number, layer.inputs, layer.count.shape) for number, layer in layers.items()] == [
        (1, 1, (33, 33)),
        (4, 2, (40, 40)),
    ]
    assert set(np.unique(layers[4].count[:24, :24])) == {2}
    assert average_files(files[:1], Mask.of(causal=True))[4].count[0].sum() == 1


def calibrate(*arguments: object) -> int:
    return main(["calibrate", *map(str, arguments)])


def test_the_command_prints_and_writes_what_was_measured(files, tmp_path, capsys):
    output = tmp_path / "masks.npz"
    options = ["--percentile", 85, "--query-block", 8, "--key-block", 4, "-o", output]
    assert calibrate(*files, *options, "--held-out", files[2]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "layer inputs longest threshold blocks rescued mass worst held out worst"
    layers, masks_of = average_files(files), load_block_masks(output)
    assert list(masks_of) == [1, 4]
    for line, (number, layer) in zip(lines[2:], layers.items(), strict=True):
        cut = layer.prune(85, 8, 4)
        assert np.array_equal(masks_of[number].allowed, cut.block_mask.allowed)
        kept = layer.kept_mass(cut.block_mask)
        cells = [*map(str, (number, layer.inputs, max(layer.count.shape))), f"{cut.threshold:.2e}"]
        cells += [f"{cut.density:.1%}", str(cut.rescued), f"{kept.mean():.2%}", f"{kept.min():.2%}"]
        held_out = average_files(files[2:])[4].kept_mass(cut.block_mask) if number == 4 else None
        cells += ["-", "-"] if held_out is None else [f"{held_out.mean():.2%}", f"{held_out.min():.2%}"]
        assert line.split() == cells
    assert calibrate(*files, *options, "--rule", "any") == 0
    assert np.all(load_block_masks(output)[4].allowed >= masks_of[4].allowed)
    assert load_block_masks(output)[4].density > masks_of[4].density


def test_attend_takes_the_mask_of_its_layer(files, tmp_path, capsys):
    output = tmp_path / "masks.npz"
    assert calibrate(*files, "--percentile", 85, "-o", output, "--key-block", 4) == 0
    capsys.readouterr()
    assert main(["attend", str(files[0]), "--tau", "9", "--block-mask", str(output)]) == 0
    pruned = capsys.readouterr().out
    share = float(re.search(r"streams ([\d.]+)% of the keys", pruned)[1])
    tensors = tensors_of(np.random.default_rng(3), 40, 40, Mask(), layer=4)
    result = attend(tensors.quantise(), preset("default"), block_mask=load_block_masks(output)[4])
    assert share == pytest.approx(100 * result.streamed.sum() / (2 * 5 * 40), abs=0.05)
    assert 0 < share < 100
    assert main(["attend", str(files[0]), "--tau", "9"]) == 0
    assert "block mask" not in (whole := capsys.readouterr().out)
    assert pruned.splitlines()[-1] != whole.splitlines()[-1]

    single, nameless = tmp_path / "single.npz", tmp_path / "nameless.npz"
    assert calibrate(*files[::2], "--percentile", 85, "-o", single, "--key-block", 4) == 0
    save_attention(nameless, AttentionTensors(tensors.q, tensors.k, tensors.v))
    capsys.readouterr()
    assert main(["attend", str(nameless), "--tau", "9", "--block-mask", str(single)]) == 0
    assert capsys.readouterr().out == pruned


def test_bad_input_is_one_sentence_and_exit_code_2(files, tmp_path, capsys):
    random, output = np.random.default_rng(0), tmp_path / "masks.npz"
    nameless, other, longer, seven = (tmp_path / f"{name}.npz" for name in ("nameless", "other", "longer", "seven"))
    save_attention(nameless, AttentionTensors(*(np.ones((1, 3, 4)),) * 3, metadata={"layer": "third"}))
    save_attention(other, tensors_of(random, 9, 9, Mask.of(causal=True), layer=4))
    save_attention(longer, tensors_of(random, 60, 60, Mask(), layer=4))
    save_attention(seven, tensors_of(random, 9, 9, Mask(), layer=7))
    good = ["--percentile", 50, "-o", output]
    assert calibrate(*files, *good) == 0
    for command, sentence in (
        (["calibrate", nameless, *good], f"{nameless} does not say which layer it is from"),
        (["calibrate", *files, other, *good], f"{other}, layer 4: the inputs of a layer must agree: mask causal after"),
        (["calibrate", tmp_path / "none.npz", *good], "none.npz can't be read"),
        (["calibrate", *files, "--percentile", 101, "-o", output], "percentile must be from 0 to 100, not 101"),
        (["calibrate", *files, *good, "--held-out", longer], "the block mask ends before query position 48"),
        (["calibrate", *files, *good, "--held-out", seven], "--held-out has layer 7, which no file calibrates"),
        (["calibrate", *files, "--percentile", 50, "-o", files[0] / "x"], "is a file; a folder is needed"),
        (["attend", longer, "--block-mask", output], "the block mask ends before query position 48"),
        (["attend", seven, "--block-mask", output], "has masks of layer 1, 4, not of 7"),
        (["attend", nameless, "--block-mask", output], "and the tensors do not say theirs"),
        (["attend", files[0], "--block-mask", files[0]], "holds no block mask"),
    ):
        capsys.readouterr()
        assert main([*map(str, command)]) == 2, sentence
        error = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", error)
        assert sentence in error
