"""Few rows: pairs of one class or of two, a backbone tuned on them, a classifier on its vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners.biencoder import BiEncoderLearner
from foldstack.learners.setfit import PAIRS, SetfitLearner
from foldstack.learners.vectors import normalised
from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.store import RunKey, Store
from foldstack.techniques import SetfitSettings
from foldstack.text.pairs import Sentenced, contrastive_pairs
from foldstack.training import loop
from makers import make_rows, make_task, tiny_rows
from tiny import foldstack, make_workspace, refuses, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def made(backbone: Path, kind: str = "binary", seed: int = 0, **settings: object) -> SetfitLearner:
    training = {"epochs": 1, "batch_size": 8, "lr": 2e-3, "precision": "fp32", "max_length": 16}
    training |= settings.pop("training", {})
    given = {"backbone": str(backbone), "training": training, "iterations": 2}
    checked = SetfitSettings(learner="setfit", **given | settings)
    checked.check_kind(Kind(kind))
    checked.check_traits()
    return make_learner(checked, LearnerContext(make_task(kind), seed))


def hard(rows: Rows) -> np.ndarray:
    """The class of each row."""
    return rows.targets.argmax(axis=1) if rows.targets.shape[1] > 1 else rows.targets[:, 0]


# Pairs


def test_each_row_has_a_pair_of_its_class_and_one_of_another():
    """Of three rows the last is alone in its class."""
    found = zip(*contrastive_pairs(np.array([4, 4, 7]), 1, seed=0), strict=True)
    pairs = {(int(a), int(b), bool(same)) for a, b, same in found}
    assert {p for p in pairs if p[2]} == {(0, 1, True), (1, 0, True)}
    assert {p for p in pairs if not p[2]} - {(2, 0, False), (2, 1, False)} == {
        (0, 2, False),
        (1, 2, False),
    }
    assert len(pairs) == 5


def test_pairs_are_drawn_evenly_from_all_other_rows():
    classes = np.array([0, 1, 2, 1, 0, 1, 1])
    first, second, same = contrastive_pairs(classes, 3000, seed=1)
    assert (same == (classes[first] == classes[second])).all() and (first != second).all()
    for row in range(7):
        for alike in (True, False):
            drawn = second[(first == row) & (same == alike)]
            others = np.flatnonzero((classes == classes[row]) == alike)
            others = others[others != row]
            shares = np.bincount(drawn, minlength=7)[others] / max(len(drawn), 1)
            assert len(drawn) == (3000 if len(others) else 0)
            np.testing.assert_allclose(shares, 1 / max(len(others), 1), atol=0.04)


def test_pairs_depend_on_the_seed_alone():
    classes = np.arange(20) % 3
    one, same, other = (contrastive_pairs(classes, 2, seed)[1].tolist() for seed in (0, 0, 1))
    assert one == same != other


def test_a_pair_has_the_product_of_its_weights_and_no_row_without(backbone):
    rows = make_rows(["a good", "a fine", "a bad", "a poor"], [1, 1, 0, 0], [2, 3, 5, 0])
    pairs = made(backbone).pairs(rows)
    of_text = dict(zip(("a good", "a fine", "a bad"), (2, 3, 5), strict=True))
    assert pairs.weights.tolist() == [of_text[a] * of_text[b] for a, b in pairs.texts]
    assert all(t == ({a, b} == {"a good", "a fine"}) for (a, b), t in zip(
        pairs.texts, pairs.targets[:, 0], strict=True))  # fmt: skip


# The learner


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_it_is_a_bi_encoder_on_pairs_and_a_regression_on_vectors(backbone, tmp_path, kind):
    """A slow one: the pairs go to a bi-encoder, and each text by itself to scikit-learn."""
    learner, rows = made(backbone, kind), tiny_rows(kind)
    learner.fit(rows, None, tmp_path / "fast")
    body = BiEncoderLearner(learner.settings, LearnerContext(PAIRS, 0))
    body.fit(learner.pairs(rows), None, tmp_path / "slow")
    own = learner.body.model.state_dict()
    assert all(torch.equal(own[name], w) for name, w in body.model.state_dict().items())
    vectors = []
    for i in range(len(rows)):
        one = Sentenced.of([rows.texts[i] * 2])
        inputs = body.encoder.of_sentences(one).batch(np.array([0]))
        with torch.no_grad():
            vector = body.model.eval().vectors(**inputs)[0].double().numpy()
        vectors.append(vector / np.linalg.norm(vector))
    slow = LogisticRegression(C=1.0, max_iter=1000)
    slow.fit(vectors, hard(rows), rows.weights)
    p = slow.predict_proba(vectors)
    found = to_probabilities(learner.predict(rows), learner.link)
    np.testing.assert_allclose(found, p[:, 1:] if kind == "binary" else p, atol=1e-3)


@pytest.mark.parametrize("loss", ["cosine_mse", "cosent", "contrastive", "multiple_negatives"])
def test_tuning_brings_texts_of_a_class_together(backbone, tmp_path, loss):
    rows = tiny_rows(n=16)
    learner = made(backbone, pair_loss=loss, iterations=10, training={"epochs": 3})
    learner.fit(rows, None, tmp_path)
    x = learner._vectors(rows)
    cosines, y = x @ x.T, hard(rows)
    same = y[:, None] == y
    assert cosines[same].mean() > cosines[~same].mean() + 0.3
    assert ((learner.predict(rows)[:, 0] > 0) == y).all()


def test_settings_have_an_effect(backbone, tmp_path):
    rows, found = tiny_rows(), set()
    changes = ({}, {"iterations": 3}, {"classifier": {"name": "logistic", "C": 0.1}},
               {"classifier": "neighbours"}, {"pair_loss": "cosent"})  # fmt: skip
    for number, change in enumerate(changes):
        learner = made(backbone, **change)
        learner.fit(rows, None, tmp_path / str(number))
        found.add(learner.predict(rows).tobytes())
    assert len(found) == len(changes)


@pytest.mark.parametrize("classifier", ["logistic", "neighbours"])
def test_a_stored_learner_predicts_the_same(backbone, tmp_path, classifier):
    learner, rows = made(backbone, "multiclass", classifier=classifier), tiny_rows("multiclass")
    learner.fit(rows, None, tmp_path / "run")
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    again = made(backbone, "multiclass", classifier=classifier)
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_an_interrupted_run_ends_with_the_same_predictions(backbone, tmp_path, monkeypatch):
    rows = tiny_rows()
    whole = made(backbone, checkpoint_seconds=0)
    whole.fit(rows, None, tmp_path / "whole")
    part, taken, update = made(backbone, checkpoint_seconds=0), [], loop.update

    def stopping(*args: object, **options: object) -> Tensor:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(1)
        return update(*args, **options)

    monkeypatch.setattr(loop, "update", stopping)
    with pytest.raises(KeyboardInterrupt):
        part.fit(rows, None, tmp_path / "part")
    monkeypatch.setattr(loop, "update", update)
    again = made(backbone, checkpoint_seconds=0)
    again.fit(rows, None, tmp_path / "part")
    assert again.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_tuned_vectors_are_searched(backbone, tmp_path):
    learner, rows = made(backbone), tiny_rows(n=8)
    learner.fit(rows, None, tmp_path)
    assert learner.settings.text_vectors == "run"
    network = learner.text_network("fitted")
    found = np.empty((8, network.size), np.float32)
    network.fill([text for (text,) in rows.texts], found)
    np.testing.assert_allclose(normalised(found), learner._vectors(rows), atol=1e-6)


def test_a_run_is_forecast(backbone):
    found = made(backbone).measure(tiny_rows(), 100)
    assert found.fit_seconds > 0 and found.work == "1 epoch"


# In a workspace


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    root = make_workspace(tmp_path / "w", models=["few"], runtime={"threads": 1})
    training = {"epochs": 1, "batch_size": 8, "max_length": 16}
    preset = {"learner": "setfit", "backbone": str(backbone), "training": training}
    write(root / "presets/few.yaml", yaml.safe_dump(preset | {"iterations": 2}))
    assert foldstack(root, "folds") == 0
    return root


def test_it_goes_from_folds_to_a_submission(root):
    assert foldstack(root, "train", "--model", "few") == 0
    assert foldstack(root, "blend") == foldstack(root, "submit") == 0


def test_labels_of_the_held_out_fold_change_nothing(root):
    def weights() -> dict[str, Tensor]:
        place = Store(root).run_dir(RunKey("few", 0, (0,))) / "model"
        return load_file(place / "classifier.safetensors") | load_file(
            place / "head/fitted.safetensors"
        )

    assert foldstack(root, "train", "--model", "few", "--fold", "0") == 0
    before = weights()
    ws, run = run_of(root, "few")
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    assert foldstack(root, "train", "--model", "few", "--fold", "0", "--force") == 0
    after = weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Refusals


def test_pairs_have_no_pairs(backbone, tmp_path):
    rows = make_rows([("a good", "film")] * 4)
    sentence = (
        "learner setfit pairs texts of different rows, but `text` in competition.yaml names 2"
    )
    with pytest.raises(InputError, match=sentence):
        made(backbone).fit(rows, None, tmp_path)


def test_one_class_has_no_pairs(backbone, tmp_path):
    rows = tiny_rows()
    with pytest.raises(InputError, match="but all training rows of this run have one class"):
        made(backbone).fit(replace(rows, targets=0 * rows.targets), None, tmp_path)


@pytest.mark.parametrize(
    "kind, settings, sentence",
    [
        (
            "multilabel",
            {},
            "learner setfit pairs texts of one class, but this competition is multil",
        ),
        (
            "regression",
            {},
            "learner setfit pairs texts of one class, but this competition is regres",
        ),
        (
            "binary",
            {"pair_loss": "softmax"},
            "pair_loss softmax trains a linear layer over two vec",
        ),
        (
            "binary",
            {"classifier": "label_texts"},
            "classifier label_texts learns nothing from rows",
        ),
        (
            "binary",
            {"training": {"select": "inner"}},
            "learner setfit has no epochs to choose among",
        ),
        (
            "binary",
            {"start_from": "minilm"},
            "learner setfit starts from no other model: leave the",
        ),
    ],
)
def test_what_it_cannot_use(backbone, kind, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(backbone, kind, **settings)


def test_a_wrong_loss_is_refused_before_a_run(root, capsys):
    preset = root / "presets/few.yaml"
    write(preset, preset.read_text() + "pair_loss: softmax\n")
    sentence = (
        "few.yaml: pair_loss softmax trains a linear layer over two vectors, and learner "
        "setfit predicts from one: take another"
    )
    refuses(root, ["train", "--model", "few", "--fold", "0"], sentence, capsys)
