"""Every shipped preset: its settings are sound, and its architecture trains, on tiny random weights.

The checkpoints are written as the hubs hold them: by a pre-training class, with its head, and with
the tokenizer's files that the real ones have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from foldstack import config
from foldstack.backbones import locate
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, Task
from foldstack.learners.transformer import TransformerLearner
from foldstack.metrics import get
from foldstack.nets import backbone as nets
from foldstack.nets.backbone import empty_backbone, load_backbone
from foldstack.nets.classifier import takes_types
from foldstack.settings import CompetitionSettings
from foldstack.techniques import TransformerSettings
from foldstack.text.tokens import tokenise
from makers import make_rows, make_task
from test_training_stages import watch_stages
from tiny import BAD, GOOD, PLACES, make_backbone, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
WORDS = [*GOOD, *BAD, *PLACES, *LETTERS, *"今天气好质量很差", "非常", "今天"]


def bert_files(folder: Path) -> int:
    """vocab.txt alone, as old checkpoints have it; returns the size of the vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"##{c}" for c in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return len(words)


def byte_level(specials: list[str]) -> Tokenizer:
    vocab = {w: i for i, w in enumerate(specials + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def roberta_files(folder: Path) -> int:
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    transformers.RobertaTokenizer(vocab=tokenizer.get_vocab(), merges=[]).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def modernbert_files(folder: Path) -> int:
    tokenizer = byte_level(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        unk_token="[UNK]",
    ).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def unigram_files(tokenizer: type, specials: list[str]) -> Callable[[Path], int]:
    """tokenizer.json of a SentencePiece vocabulary."""

    def save(folder: Path) -> int:
        pieces = [(s, 0.0) for s in specials]
        pieces += [(w, -2.0) for w in ["▁", *WORDS]] + [(f"▁{w}", -1.0) for w in WORDS]
        tokenizer(vocab=pieces).save_pretrained(folder)
        return len(tokenizer(vocab=pieces))

    return save


def deberta_files(folder: Path) -> int:
    """spm.model alone: these repositories have no tokenizer.json, so it is converted."""
    sentencepiece = pytest.importorskip("sentencepiece")
    with (folder / "spm.model").open("wb") as f:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(WORDS)] * 3 + WORDS),
            model_writer=f,
            vocab_size=80,
            hard_vocab_limit=False,
            pad_id=0,
            pad_piece="[PAD]",
            bos_id=1,
            bos_piece="[CLS]",
            eos_id=2,
            eos_piece="[SEP]",
            unk_id=3,
            unk_piece="[UNK]",
            minloglevel=2,
        )
    return 128


def mpnet_files(folder: Path) -> int:
    words = ["<s>", "<pad>", "</s>", "[UNK]", *WORDS, *(f"##{c}" for c in LETTERS), "<mask>"]
    vocab = {w: i for i, w in enumerate(words)}
    transformers.MPNetTokenizer(vocab=vocab).save_pretrained(folder)
    return len(words)


def qwen_files(folder: Path) -> int:
    """Bytes, and a token that ends a document, which Qwen's own tokenizer appends to no text."""
    vocab = byte_level(["<|endoftext|>"]).get_vocab()
    transformers.Qwen2Tokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    return len(vocab)


def qwen_embedding_files(folder: Path) -> int:
    """The same, but tokenizer.json has it appended to each text, as that of Qwen3 Embedding."""
    size = qwen_files(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>",
        pair="$A <|endoftext|> $B <|endoftext|>",
        special_tokens=[("<|endoftext|>", 0)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return size


def gemma_files(add_eos_token: bool = False) -> Callable[[Path], int]:
    """Whole words, else bytes; <bos> before each text, as tokenizer_config.json says, or <eos> too."""

    def save(folder: Path) -> int:
        vocab = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *WORDS]
        vocab += [f"<0x{i:02X}>" for i in range(256)]
        made = transformers.GemmaTokenizer(
            vocab={w: i for i, w in enumerate(vocab)},
            add_bos_token=True,
            add_eos_token=add_eos_token,
        )
        made.save_pretrained(folder)
        return len(vocab)

    return save


def eurobert_files(folder: Path) -> int:
    """Llama 3's: a token before each text and one after it, which pads too."""
    tokenizer = byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A <|end_of_text|>",
        special_tokens=[("<|begin_of_text|>", 0), ("<|end_of_text|>", 1)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|end_of_text|>",
        mask_token="<|mask|>",
    ).save_pretrained(folder)
    return tokenizer.get_vocab_size()


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
KIN = TINY | {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}
DEBERTA = TINY | {
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
ERNIE = TINY | {"type_vocab_size": 4, "use_task_id": True, "task_type_vocab_size": 3}
XLM_ROBERTA = (
    "XLMRobertaForMaskedLM",
    KIN,
    unigram_files(transformers.XLMRobertaTokenizer, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]),
)
ROBERTA = ("RobertaForMaskedLM", KIN, roberta_files)
DEBERTA_V3 = ("DebertaV2ForMaskedLM", DEBERTA, deberta_files)
MODERNBERT = (
    "ModernBertForMaskedLM",
    TINY
    | {"local_attention": 8, "global_attn_every_n_layers": 2}
    | {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
    },
    modernbert_files,
)
BERT = ("BertForPreTraining", TINY, bert_files)
GROUPED = TINY | {"num_key_value_heads": 1, "head_dim": 8}
# A layer that sees four tokens, one that sees all: the texts of these tests are longer.
WINDOWED = GROUPED | {
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
QWEN3 = ("Qwen3ForCausalLM", GROUPED | {"tie_word_embeddings": True}, qwen_files)
GEMMA2 = ("Gemma2ForCausalLM", WINDOWED, gemma_files())
MMBERT = (*MODERNBERT[:2], gemma_files(add_eos_token=True))
PICTURES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
ARCHITECTURES: dict[str, tuple[str, dict, Callable[[Path], int]]] = {
    "roberta": ROBERTA,
    "roberta-large": ROBERTA,
    "deberta-v3-small": DEBERTA_V3,
    "deberta-v3-base": DEBERTA_V3,
    "deberta-v3-large": DEBERTA_V3,
    "modernbert-base": MODERNBERT,
    "modernbert-large": MODERNBERT,
    "electra": ("ElectraForPreTraining", TINY | {"embedding_size": 16}, bert_files),
    "mpnet": ("MPNetForMaskedLM", KIN, mpnet_files),
    "albert": (
        "AlbertForPreTraining",
        TINY | {"embedding_size": 8, "pad_token_id": 0},
        unigram_files(transformers.AlbertTokenizer, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]),
    ),
    "xlnet": (
        "XLNetLMHeadModel",
        {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "pad_token_id": 5},
        unigram_files(
            transformers.XLNetTokenizer,
            ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
        ),
    ),
    "longformer": ("LongformerForMaskedLM", KIN | {"attention_window": [4, 4]}, roberta_files),
    "xlm-roberta": XLM_ROBERTA,
    "multilingual-e5": XLM_ROBERTA,
    "multilingual-e5-small": ("BertForPreTraining", TINY, XLM_ROBERTA[2]),
    "bert": BERT,
    "macbert": BERT,
    "roberta-wwm-zh": BERT,
    "ernie-zh": ("ErnieForPreTraining", ERNIE, bert_files),
    "roformer-zh": ("RoFormerForMaskedLM", TINY | {"embedding_size": 16}, bert_files),
    "deberta-v3-xsmall": DEBERTA_V3,
    "mdeberta-v3-base": DEBERTA_V3,
    "ettin-17m": MODERNBERT,
    "ettin-32m": MODERNBERT,
    "ettin-68m": MODERNBERT,
    "ettin-150m": MODERNBERT,
    "ettin-400m": MODERNBERT,
    "mmbert-small": MMBERT,
    "mmbert-base": MMBERT,
    "gte-base": ("ModernBertModel", *MODERNBERT[1:]),
    "bge-base": ("BertModel", *BERT[1:]),
    "eurobert-210m": (
        "EuroBertForMaskedLM",
        TINY | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1, "mask_token_id": 2},
        eurobert_files,
    ),
    "qwen3-0.6b": QWEN3,
    "qwen3-1.7b": QWEN3,
    "qwen3-4b": QWEN3,
    "qwen3-8b": (QWEN3[0], GROUPED | {"tie_word_embeddings": False}, qwen_files),
    "qwen3-embedding-0.6b": ("Qwen3Model", GROUPED, qwen_embedding_files),
    "gemma-2-2b": GEMMA2,
    "gemma-2-9b": GEMMA2,
    "gemma-3-1b": ("Gemma3ForCausalLM", WINDOWED, gemma_files()),
    "gemma-3-4b": (
        "Gemma3ForConditionalGeneration",
        {"text_config": WINDOWED, "vision_config": PICTURES},
        gemma_files(),
    ),
    "embeddinggemma-300m": (
        "Gemma3TextModel",
        WINDOWED | {"use_bidirectional_attention": True},
        gemma_files(add_eos_token=True),
    ),
}
DECODERS = {name for name in ARCHITECTURES if name.startswith(("qwen3", "gemma"))}
NETWORKS = ("textcnn", "textrnn", "rcnn", "dan", "dpcnn", "charcnn", "fasttext", "han")
# What stays as it is: XLNet's vector for masked tokens, RoFormer's sinusoids.
UNUSED = {"xlnet": {"mask_emb"}, "roformer-zh": {"encoder.embed_positions.weight"}}


def checkpoint(preset: str, folder: Path, name: str = "", **config: object) -> Path:
    """The preset's architecture with random weights and a tokenizer over the test's words.

    name: of another class of the library's than what public checkpoints of the preset hold.
    """
    usual, sizes, tokenizer_files = ARCHITECTURES[preset]
    folder.mkdir()
    words = {"vocab_size": tokenizer_files(folder)}
    kind = getattr(transformers, name or usual)
    if "text_config" in sizes:
        sizes = sizes | {"text_config": sizes["text_config"] | words}
    else:
        sizes = sizes | words
    torch.manual_seed(0)
    kind(kind.config_class(**sizes | config)).save_pretrained(folder)
    return folder


def settings_of(preset: str) -> config.TransformerSettings:
    competition = CompetitionSettings(name="t", kind="binary", metric="roc_auc", target=("label",))
    return config.load_model(preset, Path("nowhere"), competition, {})


def preset_learner(
    preset: str, backbone: Path, precision: str = "fp32", lora: bool = False
) -> TransformerLearner:
    """A run of the preset; without `lora` all weights of a decoder are trained."""
    over = {"backbone": str(backbone), "training": {"epochs": 1, "precision": precision}}
    if preset in DECODERS | {"embeddinggemma-300m"} and not lora:
        over["lora"] = None
    shipped = config.read_preset(config.SHIPPED / f"{preset}.yaml", Path("nowhere"))
    settings = TransformerSettings.model_validate(config.merge(shipped, over))
    return TransformerLearner(settings, LearnerContext(make_task()))


TEXTS = [
    "a good film",
    "a bad plot n1",
    "lovely cast and a great song that nobody should miss",
    "dull",
    "今天天气非常好",
    "质量很差",
    "fine joke scene start end",
    "poor",
]
SHORT, LONG = TEXTS[0], " ".join(TEXTS)


@pytest.mark.parametrize("preset", ARCHITECTURES)
def test_a_preset_trains_and_comes_back(preset, tmp_path):
    """One update on its architecture; stored and loaded; padding changes no row's prediction."""
    backbone = checkpoint(preset, tmp_path / "backbone")
    learner = preset_learner(preset, backbone)
    learner.prepare(make_rows(TEXTS))
    before = {k: v.clone() for k, v in learner.model.backbone.named_parameters()}
    (tmp_path / "run").mkdir()
    assert learner.fit(make_rows(TEXTS), None, tmp_path / "run")["updates"] == 1
    still = {k for k, v in learner.model.backbone.named_parameters() if torch.equal(v, before[k])}
    assert still == UNUSED.get(preset, set())

    rows = make_rows([SHORT, LONG])
    both = learner.predict(rows)
    assert np.isfinite(both).all()
    # Beside a text that is many times longer, and alone.
    np.testing.assert_allclose(learner.predict(make_rows([SHORT])), both[:1], atol=1e-5)

    learner.save(tmp_path / "model")
    loaded = preset_learner(preset, tmp_path / "nowhere")
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == both.tobytes()
    pairs = make_rows([(SHORT, LONG), (LONG, SHORT)])
    assert loaded.predict(pairs).tobytes() == learner.predict(pairs).tobytes()


@pytest.mark.parametrize("preset", sorted(DECODERS | {"embeddinggemma-300m"}))
def test_a_decoder_trains_adapters_alone(preset, tmp_path):
    """In all seven linear layers of both kinds of layers; its own weights are read where they were."""
    pytest.importorskip("peft")
    backbone = checkpoint(preset, tmp_path / "backbone")
    learner = preset_learner(preset, backbone, lora=True)
    (tmp_path / "run").mkdir()
    learner.fit(make_rows(TEXTS), None, tmp_path / "run")
    learner.save(tmp_path / "model")
    stored = load_file(tmp_path / "model/classifier.safetensors")
    adapters = {k: v for k, v in stored.items() if "lora_B" in k}
    assert len(adapters) == 2 * 7 and all(v.abs().max() > 0 for v in adapters.values())
    assert len(stored) == 2 * len(adapters) + len(["head.weight", "head.bias"])

    loaded = preset_learner(preset, backbone, lora=True)
    loaded.load(tmp_path / "model")
    rows = make_rows([SHORT, LONG])
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_every_shipped_preset_is_sound():
    """A preset with a typing error would be found by the first user who tries it."""
    names = {p.stem for p in config.SHIPPED.glob("*.yaml")}
    assert names == {
        *ARCHITECTURES, *STAGED, *NETWORKS, *ON_VECTORS, "minilm", "minilm-biencoder",
        "minilm-quick", "minilm-setfit", "minilm-zero-shot", "naive-bayes", "tfidf", "transformer",
        "decoder", "smollm2-135m",
    }  # fmt: skip
    assert {p.stem for p in config.EARLIER.glob("*.yaml")} <= names
    for name in sorted(ARCHITECTURES):
        settings = settings_of(name)
        assert settings.learner == "transformer"
        assert settings.backbone.count("/") == 1 and settings.sha256 is None
        first = (config.SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
        assert first.startswith("# ") and " M parameters, " in first
    for name in NETWORKS:
        assert settings_of(name).learner == "network"
        assert (config.SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    for name in DECODERS:
        settings = settings_of(name)
        assert (settings.head.name, settings.training.lr) == ("last", 2e-4)
        assert (settings.lora.r, settings.lora.alpha) == (16, 32)
    assert settings_of("embeddinggemma-300m").head.name == "mean"
    assert settings_of("multilingual-e5").prefix == "query: "
    assert settings_of("multilingual-e5-small").prefix == "query: "


ON_VECTORS = {
    "minilm-vectors": "logistic",
    "minilm-neighbours": "neighbours",
    "minilm-lightgbm": "lightgbm",
}


@pytest.mark.parametrize("preset", ON_VECTORS)
def test_a_preset_on_frozen_vectors(preset):
    """They share the backbone, and so its vectors."""
    settings, minilm = settings_of(preset), settings_of("minilm")
    assert settings.learner == "vectors" and settings.classifier.name == ON_VECTORS[preset]
    assert (settings.backbone, settings.sha256) == (minilm.backbone, minilm.sha256)


# Stages: what each of minilm's variants moves, stage by stage

HEAD, ALL = {7}, {0, 1, 2, 3, 4, 5, 6, 7}
STAGED = {
    "minilm-f1": [ALL, HEAD],
    "minilm-steps": [HEAD, ALL, ALL],
    "minilm-unfreeze": [HEAD, {5, 6, 7}, ALL],
    "minilm-auxiliary": [ALL, ALL],
}


@pytest.mark.parametrize("preset", STAGED)
def test_the_stages_of_a_preset(preset, tmp_path, monkeypatch):
    """By the depth of the weights that change: 0 the embeddings, 1 to 6 the layers, 7 the head."""
    competition = CompetitionSettings(
        name="t", kind="binary", metric="f1", target=("label",), auxiliary=("stars",)
    )
    backbone = make_backbone(tmp_path / "backbone", num_hidden_layers=6)
    over = {"backbone": str(backbone), "sha256": "", "training": {"precision": "fp32"}}
    settings = config.load_model(preset, Path("nowhere"), competition, over)
    task = Task(Kind.BINARY, "sigmoid", ("label",), get("f1", "binary"))
    learner = TransformerLearner(settings, LearnerContext(task))
    moved = watch_stages(learner, monkeypatch)
    (tmp_path / "run").mkdir()
    rows = replace(make_rows(TEXTS), auxiliary=np.arange(8.0)[:, None])
    learner.fit(rows, None, tmp_path / "run")
    assert [set(each.values()) for each in moved] == STAGED[preset]


def loaded(workspace: Path, name: str) -> TransformerSettings:
    competition = CompetitionSettings(name="t", kind="binary", metric="roc_auc", target=("label",))
    return config.load_model(name, workspace, competition, {})


def test_a_preset_over_another(tmp_path):
    """Mapping by mapping; in a workspace, a preset of the same name is the shipped one."""
    write(tmp_path / "presets/long.yaml", "preset: minilm\ntraining: {max_length: 256}\n")
    write(tmp_path / "presets/longer.yaml", "preset: long\ntraining: {max_length: 512}\n")
    write(tmp_path / "presets/minilm.yaml", "preset: minilm\ntraining: {epochs: 3}\n")
    shipped, own = settings_of("minilm"), loaded(tmp_path, "minilm")
    assert (own.training.epochs, own.training.lr) == (3, shipped.training.lr)
    assert own.sha256 == shipped.sha256
    longer = loaded(tmp_path, "longer")
    assert (longer.training.max_length, longer.training.epochs) == (512, 3)


@pytest.mark.parametrize(
    "files, sentence",
    [
        (
            {"a": "preset: minilmm\n"},
            "{root}/presets/a.yaml: preset 'minilmm' is not known: did you mean 'minilm'?",
        ),
        (
            {"a": "preset: b\n", "b": "preset: a\n"},
            "{root}/presets/b.yaml: preset 'a' leads back to this one: name another",
        ),
        (
            {"berta": "preset: berta\n"},
            "{root}/presets/berta.yaml: preset 'berta' is not known: did you mean 'bert'?",
        ),
    ],
)
def test_a_preset_over_none(tmp_path, files, sentence):
    for name, text in files.items():
        write(tmp_path / f"presets/{name}.yaml", text)
    with pytest.raises(InputError) as refusal:
        loaded(tmp_path, next(iter(files)))
    assert str(refusal.value) == sentence.format(root=tmp_path)


# From the hub


def cached(preset: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> str:
    """The preset's checkpoint in a hub cache, its weights in half precision and no safetensors."""
    name = settings_of(preset).backbone
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "snapshots").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("0" * 40)
    folder = checkpoint(preset, place / "snapshots" / ("0" * 40))
    weights = {k: v.half() for k, v in load_file(folder / "model.safetensors").items()}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return name


@pytest.mark.parametrize("preset", ["bert", "deberta-v3-base", "roformer-zh"])
def test_a_hub_name_is_found_in_the_cache(preset, tmp_path, monkeypatch):
    """microsoft/deberta-v3-base is in half precision, pickled, and its vocabulary is spm.model."""
    name = cached(preset, monkeypatch, tmp_path)
    model, tokenizer = load_backbone(locate(name))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert len(tokenizer("a good film")["input_ids"]) > 4


@pytest.mark.parametrize("preset", ["bert", "electra", "mpnet", "longformer", "deberta-v3-base"])
def test_checkpoints_of_old_load(preset, tmp_path):
    """They number positions in a buffer, and some call a norm's weight and bias gamma and beta."""
    place = checkpoint(preset, tmp_path / "b")
    weights = load_file(place / "model.safetensors")
    new = {k: v.clone() for k, v in load_backbone(str(place))[0].named_parameters()}
    prefix = next(iter(weights)).split(".")[0]
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for name in [k for k in weights if k.endswith(tuple(old)) and preset == "bert"]:
        stem, norm, part = name.rsplit(".", 2)
        weights[f"{stem}.{old[f'{norm}.{part}']}"] = weights.pop(name)
    weights[f"{prefix}.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    model, _ = load_backbone(str(place))
    assert all(torch.equal(v, new[k]) for k, v in model.named_parameters())


@pytest.mark.parametrize(
    ("says", "packages"),
    [
        ("You need to install rjieba to use RoFormerTokenizer.", "rjieba"),
        ("`tiktoken` is required to read a `tiktoken` file.", "sentencepiece protobuf"),
    ],
)
def test_a_package_that_a_tokenizer_wants_is_named(says, packages, tmp_path, monkeypatch):
    """Without sentencepiece the library asks for tiktoken, which would not help."""
    place = checkpoint("bert", tmp_path / "b")

    def fail(*args: object, **options: object) -> None:
        raise ImportError(says)

    monkeypatch.setattr(nets.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(InputError) as e:
        load_backbone(str(place))
    assert str(e.value) == (
        f"backbone '{place}': its tokenizer requires a package that is not installed: "
        f"pip install {packages}"
    )


# Tokenizers


ODD = [
    "a ﬁne film",
    "ｇｏｏｄ  film ",
    "film…",
    " good\tfilm\n\nbad ",
    "",
    " ",
    "x² 今天\u3000天气",
]


def test_deberta_tokenises_as_sentencepiece_does(tmp_path):
    """The library's conversion drops NFKC: full-width letters, ligatures and `…` become unknown."""
    sentencepiece = pytest.importorskip("sentencepiece")
    place = checkpoint("deberta-v3-base", tmp_path / "b")
    model, tokenizer = load_backbone(str(place))
    model.config.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    _, again = empty_backbone(tmp_path / "saved")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(place / "spm.model"))
    for text in ODD:
        for ours in (tokenizer, again):
            assert ours(text, add_special_tokens=False)["input_ids"] == reference.encode(text)


def test_roformer_sees_words(tmp_path):
    """From vocab.txt, the library looks words up in the name of that file."""
    model, tokenizer = load_backbone(str(checkpoint("roformer-zh", tmp_path / "b")))
    assert tokenizer.tokenize("今天气质非常好") == ["今天", "气", "质", "非常", "好"]
    model.config.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert empty_backbone(tmp_path / "saved")[1].tokenize("非常好") == ["非常", "好"]


def test_relative_positions_have_no_end(tmp_path, capsys):
    """DeBERTa v3 and XLNet take texts longer than their config's number says; others are cut."""
    text = "film " * 300
    for preset, length in {"deberta-v3-base": 256, "xlnet": 256, "bert": 64}.items():
        learner = preset_learner(preset, checkpoint(preset, tmp_path / preset))
        learner.prepare(make_rows(TEXTS))
        assert learner.encoder.max_length == length
        assert learner.encoder.tokens(make_rows([text])).lengths.tolist() == [length]
        assert np.isfinite(learner.predict(make_rows([text]))).all()
    said = capsys.readouterr().out
    assert said == ("training.max_length 256 is more than the backbone's 64 positions: using 64\n")


# RoFormer v2


def roformer_v2(folder: Path) -> Path:
    """What junnyu/roformer_v2_chinese_char_* are: no biases, norms without weights, relu."""
    place = checkpoint("roformer-zh", folder)
    weights = load_file(place / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "LayerNorm" not in k and not k.endswith(".bias")}
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    settings = (place / "config.json").read_text().rstrip().removesuffix("}")
    v2 = settings.rstrip() + ', "norm_type": "rms_norm", "use_bias": false}'
    (place / "config.json").write_text(v2)
    return place


def test_roformer_v2_is_refused(tmp_path):
    place = roformer_v2(tmp_path / "b")
    with pytest.raises(InputError) as e:
        load_backbone(str(place))
    assert str(e.value) == (
        f"backbone '{place}': weight 'embeddings.LayerNorm.bias' is missing in its checkpoint "
        "(22 in all): take another checkpoint"
    )


def test_what_the_library_alone_makes_of_roformer_v2(tmp_path):
    """Every matrix is taken, `use_bias` and `norm_type` are not: it computes something else."""
    place = roformer_v2(tmp_path / "b")
    model, info = transformers.RoFormerModel.from_pretrained(place, output_loading_info=True)
    assert {k.rsplit(".", 1)[1] for k in info["missing_keys"]} == {"bias", "weight"}
    assert all("LayerNorm" in k for k in info["missing_keys"] if k.endswith(".weight"))
    matrices = {k for k, v in model.named_parameters() if v.ndim == 2}
    assert not matrices & info["missing_keys"]
    assert isinstance(model.embeddings.LayerNorm, torch.nn.LayerNorm)
    assert model.encoder.layer[0].attention.self.query.bias is not None


def test_roformers_sinusoids_may_be_missing(tmp_path):
    """They are computed, not learned."""
    place = checkpoint("roformer-zh", tmp_path / "b")
    weights = load_file(place / "model.safetensors")
    stored = weights.pop("roformer.encoder.embed_positions.weight")
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    model, _ = load_backbone(str(place))
    assert torch.equal(model.encoder.embed_positions.weight, stored)


# Sentence pairs


def tokens_of(preset: str, tmp_path: Path, *texts: object, max_length: int = 32, prefix: str = ""):
    """(token strings, types or None) of each text or pair, by the preset's own tokenizer."""
    model, tokenizer = load_backbone(str(checkpoint(preset, tmp_path / preset)))
    tokens = tokenise(
        make_rows(texts),
        tokenizer,
        max_length=max_length,
        prefix=prefix,
        types=takes_types(model),
    )
    batch = tokens.batch(np.arange(len(texts)))
    words = [
        tokenizer.convert_ids_to_tokens(ids[mask == 1])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    return words, batch["token_type_ids"].tolist() if "token_type_ids" in batch else None


def test_bert_tells_the_texts_of_a_pair_apart(tmp_path):
    words, types = tokens_of("bert", tmp_path, ("good film", "bad plot"), ("good", ""))
    assert words == [
        ["[CLS]", "good", "film", "[SEP]", "bad", "plot", "[SEP]"],
        ["[CLS]", "good", "[SEP]", "[SEP]"],
    ]
    assert types == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0]]


def test_roberta_parts_a_pair_by_separators_alone(tmp_path):
    """It has one token type: a second would be out of range."""
    words, types = tokens_of("roberta", tmp_path, ("ab", "c"))
    assert words == [["<s>", "a", "b", "</s>", "</s>", "c", "</s>"]]
    assert types is None


TYPED = {
    "bert",
    "macbert",
    "roberta-wwm-zh",
    "electra",
    "albert",
    "xlnet",
    "ernie-zh",
    "roformer-zh",
}


@pytest.mark.parametrize(
    "preset", ["electra", "mpnet", "albert", "xlnet", "longformer", "ernie-zh"]
)
def test_types_are_kept_where_the_backbone_has_them(preset, tmp_path):
    """ALBERT's tokenizer does not name them among its model's inputs, but it was trained with them."""
    _, types = tokens_of(preset, tmp_path, ("good film", "bad plot"))
    assert (types is not None) == (preset in TYPED)
    if types:
        assert {0, 1} <= set(types[0])


def test_single_texts_go_without_types_but_for_xlnet(tmp_path):
    """All zero is what BERT takes for granted; XLNet's last token has a type of its own."""
    assert tokens_of("bert", tmp_path, "good film", "bad")[1] is None
    words, types = tokens_of("xlnet", tmp_path, "good film", "bad")
    assert words[1] == ["▁bad", "<sep>", "<cls>"]
    assert types == [[0, 0, 0, 2], [0, 0, 2, 0]]


def test_the_longer_text_of_a_pair_is_cut_and_the_prefix_is_the_firsts(tmp_path):
    pair = ("good " * 3, "bad " * 20)
    words, types = tokens_of("bert", tmp_path, pair, max_length=12, prefix="fine ")
    assert words == [["[CLS]", "fine", *["good"] * 3, "[SEP]", *["bad"] * 5, "[SEP]"]]
    assert types == [[0] * 6 + [1] * 6]


def test_types_change_what_bert_says_of_a_pair(tmp_path):
    """A pair is not one text: with the same tokens and no types the output is another."""
    learner = preset_learner("bert", checkpoint("bert", tmp_path / "b"))
    rows = make_rows([("good film", "bad plot"), ("bad plot", "good film")])
    learner.prepare(rows)
    batch = learner.encoder.tokens(rows).batch(np.arange(2))
    with torch.no_grad():
        net = learner.model.eval()
        assert torch.equal(net(**batch), torch.from_numpy(learner.predict(rows)))
        without = net(batch["input_ids"], batch["attention_mask"])
    assert not torch.allclose(without, net(**batch), atol=1e-6)
