"""The map of a head: what is drawn where, what its title says, and its command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

import golden
from golden.__main__ import main
from golden.attended import Attended
from golden.block_mask import BlockMask, save_block_masks
from golden.config import CoreConfig
from golden.errors import InputError
from golden.fast import attend
from golden.layer import run_layer
from golden.map_plot import COLOURS, LABELS, MOST_PAIRS, Fate, fates, head_map, head_weights, save_map
from golden.masks import Mask
from golden.plan import Blocks
from golden.quantise import QuantisedAttention, quantise
from golden.reference import quantised_attention
from golden.tensors import load_attention
from golden.threshold import Threshold

MINILM = Path(golden.__file__).parent / "data" / "minilm_l3_128.npz"
ROOT = Path(golden.__file__).parent.parent
CONFIG = CoreConfig(rows=4)
CAUSAL = Mask.of(causal=True)


def layer(queries: int = 24, keys: int = 30) -> QuantisedAttention:
    random = np.random.default_rng(2)
    return quantise(*(random.normal(0, 2, shape) for shape in ((4, queries, 8), (2, keys, 8), (2, keys, 8))))


def block_mask() -> BlockMask:
    allowed = np.random.default_rng(5).random((2, 4, 4)) < 0.5
    allowed[:, :, 0] = True
    return BlockMask(allowed, 8, 8)


class Case:
    """A layer that was run with everything a map shows: grouped heads, a mask, a block mask, a threshold."""

    def __init__(
        self,
        mask: Mask = CAUSAL,
        static: BlockMask | None = None,
        threshold: Threshold | None = None,
        attention: QuantisedAttention | None = None,
        config: CoreConfig = CONFIG,
    ):
        self.attention = attention or layer()
        self.mask = mask
        self.blocks = Blocks.of(self.attention, config, mask, static)
        self.threshold = threshold or Threshold()
        self.attended: Attended = attend(self.attention, config, mask, self.threshold, static, keep=True)
        self.jobs = run_layer(self.attention, config, mask, self.threshold, static)

    def map(self, head: int):
        return head_map(self.attended, head, self.mask, self.blocks, "some.npz")

    def expected(self, head: int) -> np.ndarray:
        """Return each pair's fate from the jobs of the plain loop."""
        allowed = self.mask.allowed(self.attention.positions, self.attention.indices)
        fate = np.where(allowed, Fate.NOT_STREAMED, Fate.BARRED)
        for planned, result in zip(self.jobs.plan, self.jobs.results, strict=True):
            for of, query in zip(planned.query_head, planned.query_index, strict=True):
                for key, kept in zip(planned.job.indices, result.survivors, strict=True):
                    if of == head and allowed[query, key]:
                        fate[query, key] = Fate.KEPT if kept else Fate.DROPPED
        return fate


CASES = {
    "causal": Case(threshold=Threshold.of(2)),
    "window": Case(Mask.of(window=9), threshold=Threshold.of(epsilon=0.2)),
    "static": Case(static=block_mask(), threshold=Threshold.of(2)),
    "cross": Case(Mask(), threshold=Threshold.of(target=0.4), attention=layer(40, 30)),
    "decode": Case(threshold=Threshold.of(3), attention=layer(1, 30)),
    "all": Case(Mask()),
    # Query heads that share keys are in different blocks of rows here and there.
    "odd": Case(threshold=Threshold.of(2), config=CoreConfig(rows=3, rows_per_scaler=1)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("head", [0, 3])
def test_the_fates_are_those_of_the_jobs(name, head):
    case = CASES[name]
    assert np.array_equal(fates(case.attended, head, case.mask, case.blocks), case.expected(head))


def test_the_cases_have_every_fate():
    fate = CASES["static"].expected(0)
    assert set(np.unique(fate)) == set(Fate)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_the_exact_softmax(name):
    case = CASES[name]
    keys = case.attention.keys
    for head in range(4):
        weights = head_weights(case.attended, head, case.mask)
        assert weights.shape == (case.attention.queries, keys)
        assert np.allclose(
            weights.sum(axis=1), case.mask.allowed(case.attention.positions, np.arange(keys)).any(axis=1)
        )
        value = case.attention.value[head // 2] * case.attention.value_scale[head // 2]
        assert np.allclose(weights @ value, quantised_attention(case.attention, case.mask)[head])


@pytest.mark.parametrize("name", CASES)
def test_the_pictures_hold_weights_fates_and_counts_by_key(name):
    case, head = CASES[name], 3
    figure = case.map(head)
    left, right, below_left, below_right, bar = figure.axes
    fate, weights = case.expected(head), head_weights(case.attended, head, case.mask)

    drawn = left.images[0].get_array()
    assert np.array_equal(drawn.filled(0), weights)
    assert np.array_equal(np.ma.getmaskarray(drawn), fate == Fate.BARRED)
    colours = np.array([to_rgb(COLOURS[kind]) for kind in Fate])
    assert np.array_equal(right.images[0].get_array(), colours[fate])
    positions = case.attention.positions
    for axes in (left, right):
        assert tuple(axes.images[0].get_extent()) == (-0.5, 29.5, positions[-1] + 0.5, positions[0] - 0.5)
        assert axes.get_ylabel() == "query position (tokens)"
        assert axes.get_ylim() == (positions[-1] + 0.5, positions[0] - 0.5), "the first query is at the top"
    for axes in (below_left, below_right):
        assert axes.get_xlabel() == "key index (tokens)"
        assert axes.get_xlim() == (-0.5, 29.5)

    faintest, most = left.images[0].norm.vmin, left.images[0].norm.vmax
    assert most == 1
    assert np.log2(faintest).is_integer()
    FigureCanvasAgg(figure).draw()
    ticks = [text.get_text() for text in bar.get_yticklabels() if text.get_text()]
    assert len(ticks) > 2
    assert all(re.fullmatch(r"\$2\^\{-?\d+\}\$", tick) for tick in ticks)
    assert [2.0 ** int(tick[4:-2]) for tick in ticks] == pytest.approx(bar.get_yticks())
    assert "softmax" in bar.get_ylabel()

    allowed = np.maximum((fate != Fate.BARRED).sum(axis=0), 1)
    means, edges, _ = below_left.patches[0].get_data()
    assert np.allclose(means, np.maximum(weights.sum(axis=0) / allowed, faintest))
    assert np.array_equal(edges, np.arange(31) - 0.5)
    assert (below_left.get_yscale(), below_left.get_ylabel()) == ("log", "mean weight\nof the key")

    jobs = [
        (planned, result)
        for planned, result in zip(case.jobs.plan, case.jobs.results, strict=True)
        if planned.kv_head == 1
    ]
    streamed, kept = np.zeros(30), np.zeros(30)
    for planned, result in jobs:
        streamed[planned.job.indices] += 1
        kept[planned.job.indices] += result.survivors
    for patch, expected in zip(below_right.patches, (streamed, kept), strict=True):
        assert np.array_equal(patch.get_data().values, expected)
        assert np.array_equal(patch.get_data().edges, edges)
    assert below_right.get_ylabel() == "blocks that\nkeep the key"

    legend = {text.get_text() for text in right.get_legend().get_texts()}
    assert legend == {LABELS[kind] for kind in Fate if (fate == kind).any()}


def titles(figure) -> tuple[str, str]:
    return figure.texts[0].get_text(), figure.texts[1].get_text()


def test_the_title_tells_survivors_threshold_and_certified_loss():
    case = CASES["causal"]
    title, subtitle = titles(case.map(2))
    share, loss = case.attended.survivor_share[1], case.attended.dropped_share[2].max()
    assert title == f"Head 2: {share:.1%} of the keys survive at tau 2, certified loss at most {loss:.2%}"
    weights = head_weights(case.attended, 2, CAUSAL)
    lost = np.where(case.expected(2) == Fate.DROPPED, weights, 0).sum(axis=1)
    assert lost.max() < loss
    assert subtitle.startswith(
        "some.npz: queries 24, keys 30; blocks of 4 rows decide together, which 2 query heads share"
    )
    assert subtitle.endswith(
        f"\nweight lost in truth to the threshold {lost.mean():.2%} ({lost.max():.2%} in the worst query)"
    )


def test_the_title_of_every_kind_of_threshold():
    assert titles(CASES["all"].map(0)) == (
        "Head 0: nothing is dropped",
        "some.npz: queries 24, keys 30; blocks of 4 rows decide together, which 2 query heads share",
    )
    assert re.search(r"survive at epsilon 0\.2, certified loss at most \d", titles(CASES["window"].map(0))[0])
    title, subtitle = titles(CASES["cross"].map(0))
    assert "survive at a target of 40%, certified" in title
    taus = CASES["cross"].attended.tau[0] / 64
    assert taus.min() < taus.max()
    ends = f"tau went from {taus[0]:.3g} to {taus[-1]:.3g}, within {taus.min():.3g} to {taus.max():.3g}"
    assert ends in subtitle
    both = Case(threshold=Threshold.of(3, 0.01))
    assert " survive at tau 3 and epsilon 0.0078, " in titles(both.map(0))[0]
    title, subtitle = titles(CASES["static"].map(0))
    static = CASES["static"].attended.streamed[0].sum() / CASES["causal"].attended.streamed[0].sum()
    survive = CASES["static"].attended.survivor_share[0]
    assert title.startswith(f"Head 0: the block mask streams {static:.1%}, {survive:.1%} of that survive at tau 2, ")
    assert re.search(r"lost in truth to the block mask [\d.]+% \(.*\), to the threshold [\d.]+% \(", subtitle)


def test_all_that_is_written_lies_inside_the_picture_and_apart():
    """On a real layer with everything that can make a text long."""
    attention = load_attention(MINILM).quantise()
    static = BlockMask(np.eye(8, dtype=bool)[None].repeat(12, axis=0), 16, 16)
    for case in (Case(static=static, threshold=Threshold.of(10.125, 0.01, 0.5), attention=attention), CASES["decode"]):
        figure = case.map(3)
        FigureCanvasAgg(figure).draw()
        texts = [*figure.texts]
        for axes in figure.axes:
            texts += [axes._left_title, axes.xaxis.label, axes.yaxis.label]
            texts += axes.get_legend().get_texts() if axes.get_legend() else []
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                texts += [label for tick in ticks for label in (tick.label1, tick.label2)]
        shown = [text for text in texts if text.get_visible() and text.get_text()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
        assert len(boxes) > 30
        for text, box in boxes:
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width, text  # noqa: PT018
            assert box.y0 >= 0 and box.y1 <= figure.bbox.height, text  # noqa: PT018
        for n, (text, box) in enumerate(boxes):
            for other, other_box in boxes[n + 1 :]:
                assert not box.overlaps(other_box), (text, other)


def test_impossible_maps_are_refused(monkeypatch):
    case = CASES["causal"]
    for head in (-1, 4):
        with pytest.raises(InputError, match=f"head must be from 0 to 3, not {head}"):
            case.map(head)
    unknown = attend(case.attention, CONFIG, CAUSAL)
    with pytest.raises(InputError, match="keep=True"):
        head_map(unknown, 0, CAUSAL, case.blocks, "x")
    assert MOST_PAIRS >= 4096**2
    monkeypatch.setattr("golden.map_plot.MOST_PAIRS", 719)
    with pytest.raises(InputError, match="at most 719 pairs of query and key, not 24 x 30"):
        case.map(0)


def test_pictures_are_of_the_kind_asked_for_and_repeat(tmp_path):
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        first, second = tmp_path / "new" / f"a.{kind}", tmp_path / f"b.{kind.upper()}"
        for path in (first, second):
            save_map(CASES["static"].map(1), path)
        assert first.read_bytes().startswith(start)
        assert first.read_bytes() == second.read_bytes()


def test_the_command_draws_what_it_was_asked_for(tmp_path, capsys, monkeypatch):
    drawn = []

    def spy(*arguments):
        drawn.append(head_map(*arguments))
        return drawn[-1]

    monkeypatch.setattr("golden.map_plot.head_map", spy)
    static = tmp_path / "masks.npz"
    save_block_masks(static, {3: BlockMask(np.tril(np.ones((12, 8, 8), dtype=bool)), 16, 16)})
    for options, title in (
        (["--tau", 5], " survive at tau 5, "),
        (["--epsilon", 0.1], " survive at epsilon 0.059, "),
        (["--target", 0.5], " survive at a target of 50%, "),
        (["--window", 20, "--block-mask", static], "Head 4: the block mask streams 100.0%, nothing is dropped"),
        (["--block-mask", static], "Head 4: the block mask streams 56.2%, nothing is dropped"),
    ):
        path = tmp_path / "map.png"
        assert main(["map", str(MINILM), "--head", "4", *map(str, options), "-o", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert title in titles(drawn[-1])[0]
        assert path.stat().st_size > 10_000
        path.unlink()
    causal = main(["map", str(MINILM), "--head", "4", "--causal", "--rows", "2", "-o", str(tmp_path / "x.svg")])
    assert causal == 0
    assert "blocks of 2 rows" in titles(drawn[-1])[1]
    fate = fates(
        attend(load_attention(MINILM).quantise(), CoreConfig(rows=2), CAUSAL, keep=True),
        4,
        CAUSAL,
        Blocks.of(load_attention(MINILM).quantise(), CoreConfig(rows=2), CAUSAL),
    )
    colours = np.array([to_rgb(COLOURS[kind]) for kind in Fate])
    assert np.array_equal(drawn[-1].axes[1].images[0].get_array(), colours[fate])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--head", 12, "-o", "x.png"], "--head must be from 0 to 11, not 12"),
        (["--head", 0, "-o", "x.gif"], "a map is written as .png or .svg, not x.gif"),
        (["--head", 0, "-o", MINILM / "x.png"], "is a file; a folder is needed"),
        (["--head", 0, "--tau", 0, "-o", "x.png"], "tau must be from 1.0 to"),
        (["--head", 0, "--block-mask", "none.npz", "-o", "x.png"], "none.npz can't be read"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(options, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["map", str(MINILM), *map(str, options)]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error)
    assert sentence in error
    assert not list(tmp_path.iterdir())


def test_golden_does_not_import_matplotlib():
    code = "import golden, golden.__main__, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
