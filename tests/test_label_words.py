"""Label words: a classifier's first weights are those by which a language model scores the words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext
from foldstack.learners.label_words import first_tokens, words_of
from foldstack.learners.transformer import TransformerLearner
from foldstack.techniques import TransformerSettings
from foldstack.techniques.text_template import Template
from makers import interrupted_after, make_learner, make_rows, make_task
from test_bundle import predict as by_bundle
from test_decoders import decoder, tokenizer_of
from tiny import add_preset, foldstack, go_through, make_backbone, make_workspace, train_folds

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

TEXTS = ["a good film", "bad", "a dull plot of a poor cast", ""]
LABELS = {"binary": ("0", "1"), "multiclass": ("y0", "y1", "y2")}
WORDS = {
    "binary": {"0": "bad", "1": "good"},
    "multiclass": {"y0": "bad", "y1": "fine", "y2": "good"},
}
TEMPLATE = "Review: {text}\nIs it {labels}? Answer:"


def scored(place: Path, kind: str = "binary", **settings: object) -> TransformerLearner:
    """A learner that scores the words of a kind's labels, without training by default."""
    settings = {"template": TEMPLATE, "label_words": WORDS[kind], "head": "last"} | settings
    training = {"epochs": 0, "max_length": 60} | settings.pop("training", {})
    made = make_learner(place, kind, training=training, **settings).settings
    task = replace(make_task(kind), labels=LABELS[kind])
    return TransformerLearner(made, LearnerContext(task))


def fitted(learner: TransformerLearner, folder: Path, n: int = 4) -> TransformerLearner:
    folder.mkdir(parents=True, exist_ok=True)
    kind = learner.task.kind
    targets = np.eye(3)[np.arange(n) % 3] if kind is Kind.MULTICLASS else None
    learner.fit(make_rows((TEXTS * n)[:n], targets), None, folder)
    return learner


@torch.no_grad()
def of_language_model(place: Path, text: str, words: list[str]) -> np.ndarray:
    """The logits of the words after the text, each by its first token, as the library has them."""
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    logits = model(ids).logits[0, -1]
    return np.array([logits[tokenizer(word)["input_ids"][0]].item() for word in words])


FORMS = {
    "qwen3": {"tie_word_embeddings": True},
    "llama": {"tie_word_embeddings": False},
    "phi": {"num_key_value_heads": 2},  # whose head has biases
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 4.0},
    "gpt_neox": {"tie_word_embeddings": False},  # whose head has another name
    "gemma3_text": {},
}


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("form", FORMS)
def test_the_untrained_model_scores_words_as_the_language_model_does(tmp_path, form, kind):
    place = decoder(tmp_path / form, form, whole=True, **FORMS[form])
    if form == "phi":
        weights = load_file(place / "model.safetensors")
        weights["lm_head.bias"] = torch.linspace(-1, 1, len(weights["lm_head.bias"]))
        save_file(weights, place / "model.safetensors", {"format": "pt"})
    learner = fitted(scored(place, kind), tmp_path / "run")
    words = list(WORDS[kind].values())
    whole = TEMPLATE.replace("{labels}", ", ".join(words))
    logits = np.array(
        [
            of_language_model(place, whole.replace("{text}", text), [f" {w}" for w in words])
            for text in TEXTS[:3]
        ]
    )
    wanted = logits[:, 1:] - logits[:, :1] if kind == "binary" else logits
    np.testing.assert_allclose(learner.predict(make_rows(TEXTS[:3])), wanted, rtol=1e-3, atol=1e-4)


def test_two_outputs_of_a_binary_competition_are_the_two_words(tmp_path):
    place = decoder(tmp_path / "qwen", whole=True)
    one, two = (
        fitted(scored(place, binary_link=link), tmp_path / link).predict(make_rows(TEXTS))
        for link in ("sigmoid", "softmax")
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_training_begins_from_the_words_and_is_stored(tmp_path):
    """A bundle's model has its head; the language model's is not read again."""
    place, rows = decoder(tmp_path / "qwen", whole=True), make_rows(TEXTS)
    untrained = fitted(scored(place), tmp_path / "zero").predict(rows)
    learner = fitted(scored(place, training={"epochs": 1, "lr": 1e-3}), tmp_path / "one", 16)
    tuned = learner.predict(rows)
    assert abs(tuned - untrained).max() > 1e-4
    learner.save(tmp_path / "model")
    loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == tuned.tobytes()


@pytest.mark.parametrize("settings", [{"lora": {"r": 2}}, {"lora": {"r": 2}, "quantize": "int8"}])
def test_adapters_begin_from_the_words(tmp_path, settings):
    """The head is trained beside them, and stored with them."""
    place, rows = decoder(tmp_path / "qwen", whole=True), make_rows(TEXTS)
    untrained = fitted(scored(place), tmp_path / "zero").predict(rows)
    learner = scored(place, training={"epochs": 1, "lr": 1e-6}, **settings)
    tuned = fitted(learner, tmp_path / "one", 16).predict(rows)
    np.testing.assert_allclose(tuned, untrained, atol=0.05 if "quantize" in settings else 1e-3)
    learner.save(tmp_path / "model")
    loaded = TransformerLearner(learner.settings, LearnerContext(learner.task))
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == tuned.tobytes()


def test_an_interrupted_run_ends_with_the_same_predictions(tmp_path):
    place = decoder(tmp_path / "qwen", whole=True)
    options = {"training": {"epochs": 2, "lr": 1e-3}, "checkpoint_seconds": 0}
    whole = fitted(scored(place, **options), tmp_path / "whole", 16)

    with interrupted_after(3):
        fitted(scored(place, **options), tmp_path / "part", 16)
    again = fitted(scored(place, **options), tmp_path / "part", 16)
    rows = make_rows(TEXTS)
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_nothing_is_trained_in_no_epochs(tmp_path):
    """The facts are those of a run without an update, and a second run has the same bytes."""
    place = decoder(tmp_path / "qwen", whole=True)
    learner = scored(place)
    (tmp_path / "a").mkdir()
    facts = learner.fit(make_rows(TEXTS), None, tmp_path / "a")
    assert (facts["updates"], facts["losses"]) == (0, [])
    again = fitted(scored(place), tmp_path / "b", 2)  # other rows change nothing
    assert again.predict(make_rows(TEXTS)).tobytes() == learner.predict(make_rows(TEXTS)).tobytes()


def test_auto_is_the_names_of_the_labels(tmp_path):
    learner = scored(decoder(tmp_path / "qwen", whole=True), label_words="auto")
    learner.task = replace(learner.task, labels=("no", "yes"))
    fitted(learner, tmp_path / "run")
    named = scored(tmp_path / "qwen", label_words={"0": "no", "1": "yes"})
    fitted(named, tmp_path / "named")
    rows = make_rows(TEXTS)
    assert learner.predict(rows).tobytes() == named.predict(rows).tobytes()


def test_auto_settings_read_the_last_token_and_begin_without_priors(tmp_path):
    learner = scored(decoder(tmp_path / "qwen", whole=True), head="auto", head_bias="auto")
    fitted(learner, tmp_path / "run")
    chosen = {name: choice["value"] for name, choice in learner.chosen.items()}
    assert chosen == {"head": "last", "head_bias": "zero"}
    assert learner.model.head.bias.tolist() == [0.0]


@pytest.mark.parametrize(
    "end, follows",
    [("Answer:", " "), ("Answer: ", " "), ("Answer", " "), ("\n", ""), ("(", ""), ("<sys>", "")],
)
def test_a_word_follows_a_template_with_a_space_or_without(end, follows):
    """Spaces at the end are the word's: with one of its own, byte-level BPE would have another token."""
    template, spaces = Template.parse("{text}" + end, ("text",)).continued()
    assert spaces == follows
    assert template.literals[-1] == end.rstrip(" ")


# From files to a submission


def test_zero_shot_goes_through_every_stage(tmp_path):
    """New texts are predicted, too."""
    root = make_workspace(tmp_path / "w", n=12, labels=["0", "1"], models=["tiny"])
    place = decoder(tmp_path / "qwen", whole=True)
    add_preset(
        root, place, head="last", template=TEMPLATE, label_words=WORDS["binary"],
        training={"epochs": 0, "max_length": 60, "precision": "fp32"},
    )  # fmt: skip
    go_through(root, "folds")
    train_folds(root)
    go_through(root, "blend", "submit")
    assert foldstack(root, "bundle") == 0
    submitted = pd.read_csv(root / "submissions/blend.csv")
    bundled = by_bundle(root, root / "input", tmp_path)
    np.testing.assert_allclose(bundled.iloc[:, 1:], submitted.iloc[:, 1:], atol=1e-5)
    run = read_json(root / "oof/tiny/seed0/fold0/run.json")
    assert run["updates"] == 0
    assert foldstack(root, "predict", "--model", "tiny", "--text", "a good film") == 0


# Refusals


def test_words_with_the_same_first_token_are_refused(tmp_path):
    tokenizer = tokenizer_of()
    with pytest.raises(InputError) as e:
        first_tokens(["good film", "good plot"], " ", tokenizer)
    assert str(e.value) == (
        "label_words: 'good film' and 'good plot' begin with the same token, ' good', by which they are "
        "scored: take other words"
    )
    with pytest.raises(InputError, match="label_words: the word '' has no token: take another"):
        first_tokens(["good", ""], "", tokenizer)


def test_a_word_for_what_is_no_label_is_refused():
    assert words_of({"0": "bad"}, ("0", "1")) == ("bad", "1")
    with pytest.raises(InputError) as e:
        words_of({"goood": "yes"}, ("bad", "good"))
    assert str(e.value) == (
        "label_words names 'goood', which is no label of the competition: did you mean 'good'?"
    )


def test_a_backbone_without_the_head_is_refused(tmp_path):
    """Of a decoder whose head is not tied, the checkpoint of the backbone alone lacks it."""
    place = decoder(tmp_path / "llama", "llama", tie_word_embeddings=False)
    with pytest.raises(InputError) as e:
        fitted(scored(place), tmp_path / "run")
    assert str(e.value) == (
        f"label_words are scored by the language model's head, and the checkpoint '{place}' has no "
        "'lm_head.weight' in safetensors: take one with its head, or leave label_words out"
    )
    encoder = make_backbone(tmp_path / "distil")
    with pytest.raises(InputError, match="a backbone of type 't5' is none: take a decoder"):
        from types import SimpleNamespace

        from transformers import T5Config

        from foldstack.nets.label_rows import label_rows

        label_rows(SimpleNamespace(config=T5Config()), str(encoder), [1])


def test_a_tokenizer_that_ends_a_text_is_refused(tmp_path):
    place = decoder(tmp_path / "qwen", whole=True)
    tokenizer_of(last="<eos>", pad_token="<pad>").save_pretrained(place)
    with pytest.raises(InputError) as e:
        fitted(scored(place), tmp_path / "run")
    assert str(e.value) == (
        "label_words follow the template, after which this tokenizer puts '<eos>': leave them out"
    )


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"template": None},
            "label_words follow a template that asks for one of them: set template",
        ),
        (
            {"head": "mean"},
            "label_words follow the last token, and head mean reads another vector: set `head: last`",
        ),
        (
            {"join_features": True},
            "label_words give the head its first weights, of the last token's vector alone, which "
            "join_features changes: set one of them only",
        ),
        ({"start_from": "other"}, "which start_from changes: set one of them only"),
        ({"head_bias": "prior"}, "first weights and biases: leave head_bias prior out"),
        (
            {"training": {"epochs": 0, "select": "inner"}},
            "training.select inner chooses among epochs, and training.epochs 0 has none: leave it out",
        ),
        ({"stages": [{"epochs": 0}]}, "a stage of 0 epochs trains nothing: leave it out"),
        (
            {"label_words": None},
            "training.epochs 0 trains nothing, and a new head is random: set 1 or more, or label_words",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_go_with_label_words_is_refused(settings, sentence):
    given = {
        "template": "{text}: ",
        "label_words": "auto",
        "head": "last",
        "training": {"epochs": 0},
    }
    with pytest.raises(ValueError) as e:
        TransformerSettings(learner="transformer", backbone="b", **given | settings)
    assert sentence in str(e.value)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_are_scored_against_each_other(kind):
    settings = TransformerSettings(
        learner="transformer", backbone="b", head="last", template="{text}", label_words="auto"
    )
    with pytest.raises(ValueError) as e:
        settings.check_kind(Kind(kind))
    assert str(e.value) == (
        f"label_words are scored against each other, but this competition is {kind}: leave them out"
    )
