"""Backbones that go on learning masked words of the competition's texts, once for all runs."""

from __future__ import annotations

import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from foldstack.errors import InputError
from foldstack.nets.backbone import load_backbone
from foldstack.nets.vocabulary import trimmed
from foldstack.nets.word_head import WordHead, load_word_head, new_word_head, with_word_head
from foldstack.rows import Rows
from foldstack.stages import pretrain as pretrain_stage
from foldstack.store import RunKey, Store
from foldstack.techniques import Pretraining, TrainingSettings
from foldstack.text.masking import IGNORE_INDEX, Masked, mask_tokens
from foldstack.text.tokens import Tokens, tokenise
from foldstack.training.masked_words import CRITERION, MaskedWords, examples_of, settings_of
from makers import loop_learner, tiny_rows
from test_presets import checkpoint
from test_resume import end, start
from tiny import add_preset, foldstack, make_workspace, refuses

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")
FROZEN = {"freeze_backbone": True, "epochs": 1}


def tokens_of(backbone: Path, rows: Rows, prefix: str = "") -> tuple[Tokens, AutoTokenizer]:
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    return tokenise(rows, tokenizer, max_length=16, prefix=prefix), tokenizer


# Which words are asked


def test_of_the_asked_tokens_most_become_the_mask_some_stay_and_some_become_others(backbone):
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=3000))
    masked = mask_tokens(tokens, tokenizer, "", 0.2, seed=0, epoch=0)
    before, after, labels = tokens.flat, masked.tokens.flat, masked.labels.flat
    asked, special = labels != IGNORE_INDEX, np.isin(before, tokenizer.all_special_ids)
    assert not (asked & special).any()
    assert np.array_equal(labels[asked], before[asked])
    assert np.array_equal(after[~asked], before[~asked])
    assert asked[~special].mean() == pytest.approx(0.2, abs=0.01)
    became_mask = after[asked] == tokenizer.mask_token_id
    assert became_mask.mean() == pytest.approx(0.8, abs=0.02)
    other = after[asked][~became_mask]
    stayed = other == before[asked][~became_mask]
    # A tenth stay as they are, and a tenth become any token, which may be the same by chance.
    assert stayed.sum() / asked.sum() == pytest.approx(0.1, abs=0.02)
    assert set(other) <= set(before[~special])


def test_the_words_are_drawn_from_seed_and_epoch(backbone):
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=21))

    def labels(seed: int, epoch: int) -> list[int]:
        return mask_tokens(tokens, tokenizer, "", 0.5, seed, epoch).labels.flat.tolist()

    assert labels(0, 0) == labels(0, 0)
    assert labels(0, 0) != labels(0, 1) != labels(1, 0) != labels(0, 0)


def test_the_prefix_is_never_asked(backbone):
    """It stands before each text, so that there is nothing to learn of it."""
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=21), prefix="good film ")
    masked = mask_tokens(tokens, tokenizer, "good film ", 0.99, 0, 0)
    starts = masked.labels.offsets[:-1]
    for place in (0, 1, 2):  # [CLS], good, film
        assert (masked.labels.flat[starts + place] == IGNORE_INDEX).all()
    assert (masked.labels.flat[starts + 3] != IGNORE_INDEX).mean() > 0.9


def test_labels_are_padded_as_the_tokens_are(backbone):
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=21))
    masked = mask_tokens(tokens, tokenizer, "", 0.5, 0, 0)
    batch = masked.batch(np.arange(4))
    assert batch["labels"].shape == batch["input_ids"].shape
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORE_INDEX).all()
    assert masked.predicted.tolist() == [
        (masked.labels.flat[a:b] != IGNORE_INDEX).sum()
        for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]


def test_a_tokenizer_without_a_mask_is_refused(backbone):
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=21))
    tokenizer.mask_token = None
    with pytest.raises(InputError) as e:
        mask_tokens(tokens, tokenizer, "", 0.2, 0, 0)
    assert str(e.value) == (
        "pretrain masks words, but this backbone's tokenizer has no mask token: leave it out"
    )


# What is learned of them


def masked_batch(backbone: Path) -> tuple[Masked, dict[str, torch.Tensor]]:
    tokens, tokenizer = tokens_of(backbone, tiny_rows(n=21))
    masked = mask_tokens(tokens, tokenizer, "", 0.5, 0, 0)
    return masked, masked.batch(np.arange(6))


def by_hand(net: MaskedWords, batch: dict[str, torch.Tensor], words: list[int]) -> torch.Tensor:
    """Σ of the asked tokens' cross-entropies, one after the other, over these words."""
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    states, labels = net.backbone(**inputs)[0], batch["labels"]
    embedding = net.backbone.get_input_embeddings().weight[: len(words)]
    total = torch.zeros(())
    for row, column in (labels != IGNORE_INDEX).nonzero().tolist():
        vector = net.vectors(states[row, column])
        scores = torch.stack([vector @ word for word in embedding]) + net.bias
        total = total + torch.logsumexp(scores, 0) - scores[words.index(labels[row, column])]
    return total


@pytest.mark.parametrize("part", [False, True])
def test_the_loss_is_the_mean_over_the_asked_tokens(backbone, part):
    """And its gradient; over the whole vocabulary, or over what the texts have of it."""
    masked, batch = masked_batch(backbone)
    model, _ = load_backbone(str(backbone), dropout=0.0)
    size = model.config.vocab_size
    words = [0, 1, 2, 3, 4, *sorted(set(masked.labels.flat) - {IGNORE_INDEX})][: size // 2 + 4]
    batch["labels"][~torch.isin(batch["labels"], torch.tensor(words))] = IGNORE_INDEX
    batch["input_ids"][~torch.isin(batch["input_ids"], torch.tensor(words))] = 4
    ids = np.array(words) if part else np.arange(size)
    head = new_word_head(model)
    with trimmed(model, ids):
        net = MaskedWords(model, head).eval()
        torch.nn.init.normal_(net.bias)
        raw, again = net(**batch)
        assert torch.equal(raw, again) and raw.shape == (6, 1)
        counts = (batch["labels"] != IGNORE_INDEX).sum(dim=1).float()
        loss = CRITERION(raw, torch.zeros(6, 1), counts, counts.sum())
        expected = by_hand(net, batch, ids.tolist()) / counts.sum()
        torch.testing.assert_close(loss, expected)
        weights = [net.bias, net.vectors[0].weight, model.get_input_embeddings().weight]
        pairs = (torch.autograd.grad(x, weights, retain_graph=True) for x in (loss, expected))
        for found, wanted in zip(*pairs, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_the_head_begins_as_the_identity_under_gelu_and_norm(backbone):
    model, _ = load_backbone(str(backbone))
    head, x = new_word_head(model), torch.randn(2, 16)
    torch.testing.assert_close(head.vectors(x), F.layer_norm(F.gelu(x), (16,)))


# Checkpoints of whole models for masked words, by presets of their architectures.
WITH_HEAD = {
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "electra": "ElectraForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "mpnet": "MPNetForMaskedLM",
    "modernbert-base": "ModernBertForMaskedLM",
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "roformer-zh": "RoFormerForMaskedLM",
    "deberta-v3-base": "DebertaV2ForMaskedLM",
    "ernie-zh": "ErnieForMaskedLM",
    "longformer": "LongformerForMaskedLM",
}


def whole_model(preset: str, folder: Path, **config: object) -> PreTrainedModel:
    """A checkpoint with a head for masked words; biases that a new one does not have."""
    name = WITH_HEAD[preset]
    checkpoint(preset, folder, name, **config)
    whole = getattr(transformers, name).from_pretrained(folder).eval()
    if whole.get_output_embeddings().bias is not None:
        torch.nn.init.normal_(whole.get_output_embeddings().bias)
    whole.save_pretrained(folder)
    return whole


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("preset", WITH_HEAD)
def test_a_checkpoints_own_head_tells_words_as_the_librarys_model_does(preset, part, tmp_path):
    whole = whole_model(preset, tmp_path / "b")
    model, tokenizer = load_backbone(str(tmp_path / "b"), dropout=0.0)
    head = load_word_head(str(tmp_path / "b"), model)
    rows = replace(tiny_rows(n=4), texts=[("a good film",), ("a bad plot",), ("dull",), ("good",)])
    tokens = tokenise(rows, tokenizer, max_length=16)
    batch = mask_tokens(tokens, tokenizer, "", 0.6, 0, 0).batch(np.arange(4))
    words = np.unique(tokens.flat) if part else np.arange(model.config.vocab_size)
    words = np.unique([*words, tokenizer.mask_token_id, tokens.pad_id])
    batch["input_ids"][~torch.isin(batch["input_ids"], torch.tensor(words))] = int(words[-1])
    asked, inputs = (
        batch["labels"] != IGNORE_INDEX,
        {k: v for k, v in batch.items() if k != "labels"},
    )
    wanted = torch.from_numpy(np.searchsorted(words, batch["labels"][asked].numpy()))
    with torch.no_grad():
        expected = F.cross_entropy(whole(**inputs).logits[asked][:, words], wanted)
    counts = asked.sum(dim=1).float()
    with trimmed(model, words):
        net = MaskedWords(model, head).eval()
        loss = CRITERION(net(**batch)[0], torch.zeros(4, 1), counts, counts.sum())
        loss.backward()  # several processes would wait for ever for a weight that has no part in it
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    own = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    assert len(own) >= 3 and all(p.grad is not None for p in own)


def test_the_checkpoints_own_head_is_taken_where_it_has_one(tmp_path, capsys):
    whole_model("bert", tmp_path / "b")
    pretrain(tmp_path / "b", tmp_path)
    assert (
        "predicting masked tokens with the checkpoint's own MLM head\n" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "without", ["cls.predictions.transform.dense.weight", "cls.predictions.bias"]
)
def test_half_a_head_is_none(tmp_path, without):
    whole_model("bert", tmp_path / "b")
    place = tmp_path / "b/model.safetensors"
    weights = load_file(place)
    del weights[without]
    save_file(weights, place, {"format": "pt"})
    model, _ = load_backbone(str(tmp_path / "b"))
    assert load_word_head(str(tmp_path / "b"), model) is None


def test_an_architecture_without_masked_words_has_no_head(tmp_path):
    model, _ = load_backbone(str(checkpoint("xlnet", tmp_path / "b")))
    assert load_word_head(str(tmp_path / "b"), model) is None


def test_an_architecture_that_names_no_words_has_no_head(tmp_path, monkeypatch):
    """Perceiver's: the library's method gives None where there is no such layer."""
    whole_model("bert", tmp_path / "b")
    monkeypatch.setattr(transformers.BertForMaskedLM, "get_output_embeddings", lambda self: None)
    model, _ = load_backbone(str(tmp_path / "b"))
    assert load_word_head(str(tmp_path / "b"), model) is None


def test_words_told_by_other_weights_than_the_embeddings_are_learned_by_a_new_head(tmp_path):
    whole_model("bert", tmp_path / "b", tie_word_embeddings=False)
    model, _ = load_backbone(str(tmp_path / "b"))
    assert load_word_head(str(tmp_path / "b"), model) is None


def test_a_row_without_an_asked_token_counts_nothing(backbone):
    masked, batch = masked_batch(backbone)
    batch["labels"][0] = IGNORE_INDEX
    model, _ = load_backbone(str(backbone), dropout=0.0)
    net = MaskedWords(model, new_word_head(model)).eval()
    assert net(**batch)[0][0] == 0
    labels = masked.labels.flat.copy()
    labels[: masked.labels.offsets[1]] = IGNORE_INDEX
    examples = examples_of(Masked(masked.tokens, replace(masked.labels, flat=labels)))
    assert examples.weights[0] == 0 and (examples.weights[1:] > 0).any()


def pretrain(backbone: Path, folder: Path, rows: Rows | None = None, **options: object) -> dict:
    """Of a tiny learner: facts, and the weights that it saves."""
    learner = loop_learner(backbone)
    pretraining = Pretraining(**{"epochs": 1, "lr": 1e-3, "batch_size": 8} | options)
    learner.settings = learner.settings.model_copy(update={"pretrain": pretraining})
    (folder / "run").mkdir(parents=True)
    facts = learner.pretrain(rows or tiny_rows(n=21), folder / "run", folder / "to")
    return facts | {"weights": load_file(folder / "to/model.safetensors")}


def test_it_learns_what_stands_beside_what(tmp_path):
    """`film` after `good`, `plot` after `bad`: a mask's vector comes to say which of them it hides."""
    from tiny import make_backbone

    backbone = make_backbone(tmp_path / "b", hidden_dropout_prob=0.0)
    texts = [("good film",), ("bad plot",)] * 32
    rows = tiny_rows(n=64)
    rows = replace(rows, texts=texts)

    @torch.no_grad()
    def apart(place: Path) -> float:
        model, _ = load_backbone(str(place))
        tokens, tokenizer = tokens_of(place, rows)
        flat = np.array(tokens.flat)
        films = flat == tokenizer.convert_tokens_to_ids("film")
        plots = flat == tokenizer.convert_tokens_to_ids("plot")
        flat[films | plots] = tokenizer.mask_token_id
        states = model.eval()(**replace(tokens, flat=flat).batch(np.arange(2)))[0]
        return float((states[0, 2] - states[1, 2]).norm())

    before = apart(backbone)
    pretrain(backbone, tmp_path / "p", rows, epochs=30, lr=5e-3, share=0.5)
    assert apart(tmp_path / "p/to") > 3 * before


def backbone_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The backbone's weights of a stored BERT for masked words, by their names in a backbone."""
    inside = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
    assert all(
        k.startswith("cls.predictions.") for k in set(weights) - {f"bert.{k}" for k in inside}
    )
    return inside


def test_what_is_saved_is_a_backbone_as_a_hub_has_it(backbone, tmp_path):
    facts = pretrain(backbone, tmp_path)
    assert facts["updates"] == 3
    place = tmp_path / "to"
    model, _ = load_backbone(str(place))
    assert type(model) is type(AutoModel.from_pretrained(place))
    before = load_file(backbone / "model.safetensors")
    learned = backbone_of(facts["weights"])
    moved = {k for k, v in learned.items() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if not k.startswith("pooler.")}
    assert AutoTokenizer.from_pretrained(place).mask_token == "[MASK]"


# What is stored of the head


@torch.no_grad()
def logits_of(model: torch.nn.Module, head: WordHead) -> torch.Tensor:
    """(8, words) by the head as pretraining has it, of the last ids."""
    words = model.get_input_embeddings().weight
    states = model.eval()(input_ids=torch.arange(len(words))[None, -8:])[0][0]
    return head.vectors.eval()(states) @ words.T + head.bias


def trained(model: torch.nn.Module, head: WordHead) -> WordHead:
    """The head with other weights than it begins with."""
    for parameter in head.vectors.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return head._replace(bias=torch.randn(len(model.get_input_embeddings().weight)))


@pytest.mark.parametrize("own", [False, True], ids=["new", "own"])
@pytest.mark.parametrize("preset", WITH_HEAD)
def test_the_stored_head_has_the_logits_that_it_had_before(preset, own, tmp_path):
    """Loaded by the library alone; a new head of ModernBERT, whose own has no biases, is not stored."""
    torch.manual_seed(0)
    whole_model(preset, tmp_path / "b")
    model, tokenizer = load_backbone(str(tmp_path / "b"), dropout=0.0)
    head = load_word_head(str(tmp_path / "b"), model) if own else new_word_head(model)
    head = trained(model, head)
    before, state = logits_of(model, head), torch.get_rng_state()
    whole = with_word_head(model, head, of_texts=not own)
    assert torch.equal(torch.get_rng_state(), state)
    if preset == "modernbert-base" and not own:
        assert whole is None
        return
    whole.save_pretrained(tmp_path / "to")
    tokenizer.save_pretrained(tmp_path / "to")
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.words_of_texts == (not own)
    with torch.no_grad():
        after = loaded.eval()(input_ids=torch.arange(before.shape[1])[None, -8:]).logits[0]
    torch.testing.assert_close(after, before, atol=2e-5 if own else 1e-2, rtol=1e-5)
    weights = load_backbone(str(tmp_path / "to"))[0].state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight)


def test_an_architecture_without_masked_words_is_stored_without_a_head(tmp_path):
    model, _ = load_backbone(str(checkpoint("xlnet", tmp_path / "b")))
    assert with_word_head(model, new_word_head(model), of_texts=False) is None


def test_words_that_no_text_has_keep_their_bias(backbone):
    model, _ = load_backbone(str(backbone))
    head = new_word_head(model)._replace(bias=torch.arange(float(model.config.vocab_size)))
    with trimmed(model, np.array([0, 2, 5])):
        net = MaskedWords(model, head)
        net.bias.data += 100
    expected = head.bias.clone()
    expected[[0, 2, 5]] += 100
    assert torch.equal(net.head.bias, expected)


CHANGES = {"epochs": 2, "lr": 1e-4, "batch_size": 4, "share": 0.5, "seed": 1}


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_what_is_learned(backbone, tmp_path, name):
    usual = pretrain(backbone, tmp_path / "usual")
    again = pretrain(backbone, tmp_path / "again")
    other = pretrain(backbone, tmp_path / "other", **{name: CHANGES[name]})
    key = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(usual["weights"][key], again["weights"][key])
    assert not torch.equal(usual["weights"][key], other["weights"][key])
    assert set(CHANGES) == set(Pretraining.model_fields)


def test_length_precision_and_memory_are_those_of_the_training(backbone):
    training = TrainingSettings(precision="fp32", micro_batch_size=4, epochs=7)
    found = settings_of(Pretraining(epochs=2, lr=1e-3, batch_size=6), training)
    assert (found.precision, found.micro_batch_size) == ("fp32", 4)
    assert (found.epochs, found.lr, found.batch_size) == (2, 1e-3, 6)
    learner = loop_learner(backbone, max_length=5)
    learner.prepare(tiny_rows())
    assert learner.encoder.fit_texts(tiny_rows()).lengths.max() == 5


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1}, {"epochs": 0}, {"lr": 0}])
def test_settings_out_of_range(options):
    with pytest.raises(ValidationError):
        Pretraining(**options)


# In `train`


def make(root: Path, backbone: Path, **settings: object) -> Path:
    make_workspace(root, n=30, runtime={"threads": 1})
    settings = {"training": FROZEN, "pretrain": {"epochs": 2}} | settings
    add_preset(root, backbone, **settings)
    assert foldstack(root, "folds") == 0
    return root


def train(root: Path, fold: int, model: str = "tiny") -> None:
    assert foldstack(root, "train", "--model", model, "--fold", str(fold)) == 0


def kept(root: Path) -> list[Path]:
    return [p for p in (root / "oof/.pretrained").iterdir() if not p.name.startswith(".")]


def weights(root: Path, fold: int, model: str = "tiny") -> dict[str, torch.Tensor]:
    place = Store(root).run_dir(RunKey(model, 0, (fold,)))
    return load_file(place / "model/classifier.safetensors")


def test_it_is_done_once_and_all_runs_begin_from_it(backbone, tmp_path, capsys):
    root = make(tmp_path / "w", backbone)
    train(root, 0)
    said = capsys.readouterr().out
    assert "pretraining on 36 texts without labels, kept for other runs\n" in said
    assert "predicting masked tokens with a newly initialised MLM head\n" in said
    assert "pretrained in 4 updates, 0:0" in said
    train(root, 1)
    assert "pretrain" not in capsys.readouterr().out
    (place,) = kept(root)
    learned = backbone_of(load_file(place / "model.safetensors"))
    before = load_file(backbone / "model.safetensors")
    for fold in (0, 1):
        own = weights(root, fold)
        assert Store(root).read_run(RunKey("tiny", 0, (fold,))).pretrained == place.name
        names = [k for k in own if k.startswith("backbone.")]
        assert names and all(
            torch.equal(own[k], learned[k.removeprefix("backbone.")]) for k in names
        )
    assert not torch.equal(
        learned["embeddings.LayerNorm.weight"], before["embeddings.LayerNorm.weight"]
    )
    assert list((root / "oof/.pretrained").glob(".*.partial")) == []


def test_other_texts_or_settings_are_another_backbone(backbone, tmp_path, capsys):
    """Without the test file's texts, test rows would be less known than those held out."""
    root = make(tmp_path / "w", backbone)
    train(root, 0)
    add_preset(root, backbone, "more", pretrain={"epochs": 3}, training=FROZEN)
    train(root, 0, "more")
    add_preset(root, backbone, "rate", pretrain={"epochs": 2}, training=FROZEN | {"lr": 0.5})
    train(root, 0, "rate")
    assert len(kept(root)) == 2  # the rate is of what follows
    training = FROZEN | {"precision": "fp32"}
    add_preset(root, backbone, "exact", pretrain={"epochs": 2}, training=training)
    train(root, 0, "exact")
    assert len(kept(root)) == 3
    test = root / "input/test.csv"
    test.write_text(test.read_text().replace("film", "song"))
    capsys.readouterr()
    train(root, 0)
    assert "the test file is new, the model is not" in capsys.readouterr().out
    refuses(
        root,
        ["train", "--model", "tiny", "--fold", "1"],
        "tiny seed 0 fold1 would begin with a backbone that was pretrained on other texts than that of "
        "tiny seed 0 fold0, so that they could not serve together: give another NAME=, or --force "
        "(FORCE=1)",
        capsys,
    )
    assert foldstack(root, "train", "--model", "tiny", "--fold", "1", "--force") == 0
    assert len(kept(root)) == 4
    capsys.readouterr()
    refuses(
        root,
        ["blend", "--model", "tiny"],
        "tiny seed 0 fold0 and tiny seed 0 fold1 began with backbones that were pretrained on different "
        "texts: train the older one again with --force (FORCE=1)",
        capsys,
    )


def test_a_long_text_is_read_to_its_end(backbone):
    """In windows of the training's length; what no run of a short length would see is learned from."""
    learner = loop_learner(backbone)
    encoder = learner._encoder(*load_backbone(str(backbone)))
    encoder.max_length = 4  # two words beside [CLS] and [SEP]
    rows = replace(tiny_rows(n=3), texts=[("good film a plot fine",), ("bad plot",), ("dull",)])
    tokens, words = encoder.fit_texts(rows), encoder.tokenizer.convert_ids_to_tokens
    windows = [words(tokens.flat[a:b]) for a, b in pairwise(tokens.offsets)]
    assert [" ".join(w[1:-1]) for w in windows] == [
        "good film",
        "film a",
        "plot fine",
        "bad plot",
        "dull",
    ]


def test_of_a_pair_what_finds_room_is_read(backbone):
    learner = loop_learner(backbone)
    encoder = learner._encoder(*load_backbone(str(backbone)))
    encoder.max_length = 4  # the tiny tokenizer puts no special tokens around a pair
    rows = replace(tiny_rows(n=1), texts=[("good film a plot", "bad plot")])
    words = encoder.tokenizer.convert_ids_to_tokens(encoder.fit_texts(rows).flat)
    assert words == ["good", "film", "bad", "plot"]


def test_a_run_that_starts_from_another_has_its_backbone(backbone, tmp_path, capsys):
    root = make(tmp_path / "w", backbone, pretrain=None)
    train(root, 0)
    add_preset(root, backbone, "after", start_from="tiny", pretrain={}, training=FROZEN)
    train(root, 0, "after")
    assert "pretraining" not in capsys.readouterr().out
    assert not (root / "oof/.pretrained").exists()


def test_a_kept_backbone_is_read_without_its_lock(backbone, tmp_path, monkeypatch):
    """Bug guarded: a read-only `oof/.pretrained` was refused, since the lock is written there."""

    def refuse(path: Path, waiting: str = "") -> None:
        raise PermissionError(13, "Permission denied", str(path))

    root = make(tmp_path / "w", backbone)
    train(root, 0)
    monkeypatch.setattr(pretrain_stage, "locked", refuse)
    train(root, 1)
    (kept(root)[0] / "model.safetensors").write_bytes(b"")
    assert foldstack(root, "train", "--model", "tiny", "--fold", "2") == 2


def test_killed_and_gone_on_with(backbone, tmp_path, capsys):
    """The same backbone, to the last bit, and the folds after it."""
    whole = make(tmp_path / "whole", backbone)
    train(whole, 0)
    root = make(tmp_path / "w", backbone, checkpoint_seconds=0)
    at = ("foldstack.training.loop:update", 3, [signal.SIGKILL])
    run = ("train", "--model", "tiny", "--fold", "0")
    assert end(start(root, *run, at=at)) == -signal.SIGKILL
    assert kept(root) == []
    capsys.readouterr()
    train(root, 0)
    assert "resuming from the checkpoint after update 2\n" in capsys.readouterr().out
    (a,), (b,) = kept(whole), kept(root)
    assert a.name == b.name
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_runs_at_once_wait_for_one_backbone(backbone, tmp_path, capfd):
    root = make(tmp_path / "w", backbone)
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0,1", "--jobs", "2") == 0
    said = "".join(capfd.readouterr())
    assert said.count("pretraining on 36 texts") == 1 and said.count("roc_auc") >= 2
    assert len(kept(root)) == 1
