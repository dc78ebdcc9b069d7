"""Zero-shot: cosine of a text's vector and of those of the labels' texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import cosine

from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, make_learner
from foldstack.learners.vectors import VectorsLearner
from foldstack.techniques import VectorsSettings
from makers import make_rows, make_task, tiny_rows
from tiny import foldstack, make_workspace, refuses, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

BOTH = {"y0": "a good film", "other": "a bad film"}
THREE = {"y0": "bad plot", "y1": "dull song", "y2": "good film"}


def made(backbone: Path, kind: str = "binary", labels: dict | None = None, **settings: object):
    classifier = {"name": "label_texts"} | settings.pop("classifier", {})
    classifier |= {} if labels is None else {"labels": labels}
    given = {"backbone": str(backbone), "precision": "fp32", "classifier": classifier}
    checked = VectorsSettings(learner="vectors", **given | settings)
    checked.check_kind(Kind(kind))
    return make_learner(checked, LearnerContext(make_task(kind), 0))


def fitted(backbone: Path, kind: str = "binary", labels: dict | None = None, **settings: object):
    learner = made(backbone, kind, labels, **settings)
    learner.fit(tiny_rows(kind), None, Path())
    return learner


def cosines(learner: VectorsLearner, texts: list[str], labels: list[str]) -> np.ndarray:
    vectors = [learner.source.vectors([text])[0] for text in [*texts, *labels]]
    n = len(texts)
    return np.array([[1 - cosine(a, b) for b in vectors[n:]] for a in vectors[:n]])


@pytest.mark.parametrize("normalise", [True, False])
def test_logits_are_cosines_times_the_scale(backbone, normalise):
    rows = tiny_rows("multiclass", 6)
    texts = [text for (text,) in rows.texts]
    for scale in (20.0, 5.0):
        options = {"classifier": {"scale": scale}, "normalise": normalise}
        learner = fitted(backbone, "multiclass", THREE, **options)
        slow = scale * cosines(learner, texts, list(THREE.values()))
        np.testing.assert_allclose(learner.predict(rows), slow, atol=1e-4)


def test_of_two_labels_the_difference_counts(backbone):
    """The positive one is that which has an output, wherever it is listed."""
    rows = tiny_rows(n=6)
    learner = fitted(backbone, labels=BOTH)
    found = cosines(learner, [text for (text,) in rows.texts], list(BOTH.values()))
    np.testing.assert_allclose(
        learner.predict(rows)[:, 0], 20 * (found[:, 0] - found[:, 1]), atol=1e-4
    )
    other = fitted(backbone, labels=dict(reversed(BOTH.items())))
    assert other.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_a_label_without_a_text_has_its_name(backbone):
    rows = tiny_rows("multiclass", 6)
    named = fitted(backbone, "multiclass", {"y1": "dull song"})
    assert named.model.texts == ["y0", "dull song", "y2"]
    whole = fitted(backbone, "multiclass", {"y0": "y0", "y1": "dull song", "y2": "y2"})
    assert named.predict(rows).tobytes() == whole.predict(rows).tobytes()


def test_rows_teach_nothing(backbone):
    rows = tiny_rows("multiclass", 6)
    one, two = (made(backbone, "multiclass", THREE) for _ in range(2))
    one.fit(rows, None, Path())
    two.fit(make_rows(["a"], np.eye(3)[:1]), None, Path())
    assert one.predict(rows).tobytes() == two.predict(rows).tobytes()


def test_a_stored_one_predicts_the_same(backbone, tmp_path):
    learner, rows = fitted(backbone, "multiclass", THREE), tiny_rows("multiclass")
    learner.save(tmp_path / "model")
    again = made(backbone, "multiclass", THREE)
    again.load(tmp_path / "model")
    assert again.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_it_goes_from_folds_to_a_blend(backbone, tmp_path):
    root = make_workspace(tmp_path / "w", models=["zero"], runtime={"threads": 1})
    classifier = {"name": "label_texts", "labels": {0: "a bad film", 1: "a good film"}}
    preset = {"learner": "vectors", "backbone": str(backbone), "classifier": classifier}
    write(root / "presets/zero.yaml", yaml.safe_dump(preset))
    assert foldstack(root, "folds") == foldstack(root, "train") == foldstack(root, "blend") == 0


# Refusals


@pytest.mark.parametrize(
    "kind, labels, settings, sentence",
    [
        ("binary", None, {}, "classifier label_texts requires a text for both labels of a binary"),
        (
            "multilabel",
            None,
            {},
            "classifier label_texts chooses one label per row, but this compet",
        ),
        (
            "regression",
            None,
            {},
            "classifier label_texts predicts labels, but this competition is a",
        ),
        (
            "binary",
            {"y0": " ", "other": "x"},
            {},
            "classifier.labels gives 'y0' an empty text: write one, or leave the label out, so that",
        ),
        ("binary", BOTH, {"text_features": True}, "which have no text_features: leave it out"),
        ("binary", BOTH, {"keywords": "k.txt"}, "which have no keywords: leave it out"),
    ],
)
def test_what_it_cannot_use(backbone, kind, labels, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(backbone, kind, labels, **settings)


@pytest.mark.parametrize(
    "kind, labels, wrong, known",
    [
        ("multiclass", {"y4": "x"}, "y4", "'y0', 'y1', 'y2'"),
        ("binary", {"good": "x", "bad": "y"}, "good", "'other', 'y0'"),
        ("binary", {"y0": "x", "bad": "y"}, "bad", "'other', 'y0'"),
        ("binary", {"bad": "x", "other": "y"}, "bad", "'other', 'y0'"),
    ],
)
def test_a_label_that_is_none(backbone, kind, labels, wrong, known):
    """Bug guarded: of a binary competition any one name was taken for the negative label."""
    with pytest.raises(InputError) as refused:
        made(backbone, kind, labels)
    assert str(refused.value) == (
        f"classifier.labels names '{wrong}', which is no label of the competition, whose labels are "
        f"{known}"
    )


def test_a_label_is_named_once(tmp_path, capsys):
    """As every setting. Bug guarded: of 0 and "0" the last text was taken without a word."""
    root = make_workspace(tmp_path / "w")
    labels = '{0: a bad film, 1: a good film, "0": a dull film}'
    text = f"preset: minilm-vectors\nclassifier: {{name: label_texts, labels: {labels}}}\n"
    path = write(root / "presets/z.yaml", text)
    refuses(
        root,
        ["train", "--model", "z", "--fold", "0"],
        f"{path}, line 2 is not valid YAML: '0' is given twice in a mapping: keep one",
        capsys,
    )


def test_pairs_have_no_label_text(backbone):
    rows = make_rows([("a good", "film")] * 4)
    with pytest.raises(InputError, match="classifier label_texts compares one text per row, but"):
        made(backbone, labels=BOTH).fit(rows, None, Path())
