"""Decoders as classifiers: what is read of a causal backbone, and from where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from foldstack.errors import InputError
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.direction import is_causal, set_attention
from foldstack.nets.poolings import last_token
from makers import make_learner, make_rows
from tiny import BAD, GOOD, PLACES, TINY

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

KINDS = ("llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt2")
WORDS = ["a", "of", "is", "it", "Text", "Review", "Answer", "yes", "no", *GOOD, *BAD, *PLACES]
ENDS = ["<eos>", "<bos>", "<pad>", "<sys>"]


def tokenizer_of(first: str = "", last: str = "", **options: object) -> PreTrainedTokenizerFast:
    """Byte-level BPE as decoders have it, whose words are one token each, with a space before or not.

    first, last: the special tokens that it puts around a text; Qwen's has none, Gemma's the first.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*ENDS, *alphabet])}
    merges: list[tuple[str, str]] = []
    for word in (f"{space}{word}" for space in ("Ġ", "") for word in WORDS):
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                vocab[word[:end]] = len(vocab)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [(token, vocab[token]) for token in (first, last) if token]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, [first, "$A", last])),
        pair=" ".join(filter(None, [first, "$A", "$B", last])),
        special_tokens=special,
    )
    made = {"eos_token": "<eos>", "additional_special_tokens": ["<sys>"]} | options
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **made)


def config_of(kind: str, **config: object) -> AutoConfig:
    size = len(tokenizer_of())
    if kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    else:
        sizes = TINY | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
    ends = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": None}
    return AutoConfig.for_model(kind, **sizes | ends | {"vocab_size": size} | config)


def decoder(folder: Path, kind: str = "qwen3", whole: bool = False, **config: object) -> Path:
    """A tiny random decoder with Qwen's tokenizer; whole: with its language model head."""
    torch.manual_seed(0)
    model = (AutoModelForCausalLM if whole else AutoModel).from_config(config_of(kind, **config))
    for parameter in model.parameters():  # so that outputs differ
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer_of(pad_token="<eos>").save_pretrained(folder)
    return folder


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return decoder(tmp_path / "qwen")


@torch.no_grad()
def states_of(backbone: nn.Module, ids: list[int], mask: Tensor | None = None) -> Tensor:
    """(t, h): a slow reference, one row without padding; mask: (1, 1, t, t)."""
    return backbone(input_ids=torch.tensor([ids]), attention_mask=mask)[0][0]


# The last token


def test_the_last_token_is_the_last_one_of_the_mask():
    """With padding on the right, on the left, and on both sides."""
    hidden = torch.arange(24.0).reshape(3, 4, 2)
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 1, 1, 0]])
    by_hand = [hidden[0, 1], hidden[1, 3], hidden[2, 2]]
    assert last_token(hidden, mask).tolist() == torch.stack(by_hand).tolist()
    layers = hidden[:, None].repeat(1, 2, 1, 1)
    assert last_token(layers, mask)[:, 1].tolist() == torch.stack(by_hand).tolist()


TEXTS = ["a good film", "bad", "a dull plot of a poor cast", ""]


@pytest.mark.parametrize(
    "form",
    [
        {"pad_token": "<eos>", "padding_side": "left"},
        {"pad_token": "<pad>", "padding_side": "right"},
        {},
        {"first": "<bos>", "bos_token": "<bos>", "pad_token": "<pad>", "padding_side": "left"},
        {"last": "<eos>", "pad_token": "<eos>", "padding_side": "left"},
    ],
    ids=["left", "right", "no pad token", "begin", "end"],
)
def test_last_reads_each_row_as_if_it_were_alone(qwen, form):
    """Whatever side the tokenizer pads on: batches are padded on the right. None is given an end."""
    tokenizer = tokenizer_of(**form)
    tokenizer.save_pretrained(qwen)
    learner = make_learner(qwen, head="last")
    learner.prepare(make_rows(TEXTS))
    tokens = learner.encoder.tokens(make_rows(TEXTS))
    batch = tokens.batch(np.arange(4))
    assert batch["attention_mask"].tolist() == [
        [1] * n + [0] * (tokens.longest - n) for n in tokens.lengths
    ]
    net = learner.model.eval()
    with torch.no_grad():
        logits = net(**batch)
    for text, found in zip(TEXTS, logits, strict=True):
        ids = tokenizer(text)["input_ids"] or [tokenizer.eos_token_id]
        vector = states_of(net.backbone, ids)[-1]
        torch.testing.assert_close(found, net.head(vector).detach(), rtol=1e-4, atol=1e-5)


def test_an_empty_text_is_an_end_token_if_the_tokenizer_adds_none(qwen):
    learner = make_learner(qwen, head="last")
    learner.prepare(make_rows(TEXTS))
    assert learner.encoder.tokens(make_rows([""])).flat.tolist() == [0]
    assert np.isfinite(learner.predict(make_rows(["", ""]))).all()


def test_cls_on_a_causal_backbone_names_last(qwen):
    with pytest.raises(
        InputError, match=r"set `head: last` or `head: mean`, or another that reads"
    ):
        make_learner(qwen, head="cls").prepare(make_rows(TEXTS))


# The direction of attention


def backbone_of(kind: str, **config: object) -> nn.Module:
    torch.manual_seed(0)
    backbone = AutoModel.from_config(config_of(kind, **config)).eval()
    for parameter in backbone.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return backbone


def depends_on_the_second(backbone: nn.Module) -> bool:
    one, other = (states_of(backbone, ids)[0] for ids in ([5, 6, 7], [5, 9, 7]))
    return not torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_token_depends_on_the_second_only_if_attention_is_bidirectional(kind):
    backbone = backbone_of(kind)
    assert is_causal(backbone) and not depends_on_the_second(backbone)
    set_attention(backbone, "bidirectional")
    assert not is_causal(backbone) and depends_on_the_second(backbone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0, 2])
def test_bidirectional_attention_is_that_of_a_full_mask(kind, padding):
    """Against an explicit (b, 1, t, t) mask that is added, with padding on the right."""
    ids = [5, 6, 7, 8, 9, 10]
    real = torch.arange(6) < 6 - padding
    full = torch.zeros(1, 1, 6, 6).masked_fill(~real, -1e9)
    backbone = backbone_of(kind)
    wanted = states_of(backbone, ids, full)
    set_attention(backbone, "bidirectional")
    found = states_of(backbone, ids, real[None].long())
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-5)


def fitted(place: Path, folder: Path, texts: list, **settings: object) -> TransformerLearner:
    folder.mkdir(parents=True, exist_ok=True)
    learner = make_learner(place, **settings)
    learner.fit(make_rows(texts), None, folder)
    return learner


@pytest.mark.parametrize("more", [{}, {"lora": {"r": 2}}], ids=["whole", "adapters"])
def test_a_run_attends_as_its_preset_says(qwen, tmp_path, more):
    """What is stored, too; the mean over tokens is another one then."""
    rows = make_rows(TEXTS[:3])
    found = []
    for attention in ("auto", "bidirectional"):
        learner = fitted(qwen, tmp_path / attention, TEXTS[:3], attention=attention, **more)
        found.append(learner.predict(rows))
        learner.save(tmp_path / attention / "model")
        loaded = make_learner(qwen, attention=attention, **more)
        loaded.load(tmp_path / attention / "model")
        assert loaded.predict(rows).tobytes() == found[-1].tobytes()
    assert abs(found[0] - found[1]).max() > 1e-3


def test_a_decoder_that_attends_in_both_directions_may_be_made_causal():
    """EmbeddingGemma's backbone."""
    backbone = backbone_of("gemma3_text", use_bidirectional_attention=True)
    assert depends_on_the_second(backbone)
    set_attention(backbone, "causal")
    assert is_causal(backbone) and not depends_on_the_second(backbone)


def test_attention_that_a_backbone_has_by_itself_is_refused(qwen, backbone):
    with pytest.raises(InputError) as e:
        make_learner(backbone, attention="bidirectional").prepare(make_rows(TEXTS))
    assert str(e.value) == (
        "attention: bidirectional has no effect, since a backbone of type 'bert' attends so by itself: "
        "leave it out"
    )
    with pytest.raises(
        InputError, match="attention: causal has no effect, since a backbone of type"
    ):
        make_learner(qwen, attention="causal").prepare(make_rows(TEXTS))


def test_attention_that_a_backbone_cannot_have_is_refused(tmp_path):
    made = AutoModel.from_config(
        AutoConfig.for_model(
            "distilbert", dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=40
        )
    )
    with pytest.raises(InputError) as e:
        set_attention(made, "causal")
    assert str(e.value) == (
        "attention: causal is not possible with a backbone of type 'distilbert': leave it out"
    )


# What `auto` chooses


@pytest.mark.parametrize(
    "attention, name", [("auto", "last"), ("bidirectional", "mean")], ids=["causal", "both"]
)
def test_auto_reads_the_last_token_of_a_causal_backbone(qwen, attention, name):
    learner = make_learner(qwen, head="auto", attention=attention)
    learner.prepare(make_rows(TEXTS))
    assert learner.chosen["head"]["value"] == name == learner.settings.head.name


def test_auto_reads_the_mean_of_an_encoder(backbone):
    learner = make_learner(backbone, head="auto")
    learner.prepare(make_rows(TEXTS))
    assert learner.chosen["head"] == {"value": "mean", "why": "otherwise"}
