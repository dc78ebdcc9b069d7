"""Attribution by leaving words out: by hand for a linear model, and as captum has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foldstack.learners import LearnerContext
from foldstack.learners.tfidf import TfidfLearner
from foldstack.rows import Rows
from foldstack.techniques import TfidfSettings
from foldstack.text.augment.split import split_words
from foldstack.text.occlusion import cut_pieces, occlude
from makers import make_task, tiny_rows, unlabelled

WEIGHTS = {"good": 2.0, "not": -1.5, "bad": -3.0, "好": 1.0, "😀": 5.0}


def linear(rows: Rows, source: np.ndarray) -> np.ndarray:
    """A score with a weight per word: what is left out is missing from the sum."""
    texts = [[split_words(part).words for part in text] for text in rows.texts]
    return np.array([sum(WEIGHTS.get(w, 0.0) for own in each for w in own) for each in texts])


def effects(text: str) -> list[tuple[str, float | None]]:
    (found,) = occlude(unlabelled([text]), linear)
    return found.parts(0)


def test_a_word_has_the_effect_of_its_weight() -> None:
    assert effects("not a good film.") == [
        ("not", -1.5),
        (" ", None),
        ("a", 0.0),
        (" ", None),
        ("good", 2.0),
        (" ", None),
        ("film", 0.0),
        (".", None),
    ]


@pytest.mark.parametrize(
    "text", ["很好，好！", "  a  b ", "سيء good", "😀", "", "don't be bad 😀 !"]
)
def test_the_parts_are_the_text(text: str) -> None:
    assert "".join(part for part, _ in effects(text)) == text


def test_letters_of_scripts_without_spaces_are_words() -> None:
    assert dict(effects("很好"))["好"] == 1.0


def test_long_texts_lose_neighbouring_words_together() -> None:
    """Ten words in four pieces of up to three: each piece has the sum of its words' weights."""
    rows = unlabelled(["good not a b c d e f bad good"])
    (found,) = occlude(rows, linear, most=4)
    assert [(piece.first, piece.end) for piece in found.pieces] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert found.effects.tolist() == [0.5, 0.0, -3.0, 2.0]
    assert "".join(part for part, _ in found.parts(0)) == rows.texts[0][0]


def test_each_segment_of_a_pair_has_its_own_words() -> None:
    (found,) = occlude(unlabelled([("good", "bad film")]), linear)
    assert found.parts(0) == [("good", 2.0)]
    assert found.parts(1) == [("bad", -3.0), (" ", None), ("film", 0.0)]


def test_rows_are_scored_in_one_call() -> None:
    calls = []

    def score(rows: Rows, source: np.ndarray) -> np.ndarray:
        calls.append(source.tolist())
        return np.zeros(len(rows))

    found = occlude(unlabelled(["a b", "", "c"]), score)
    assert calls == [[0, 0, 0, 1, 2, 2]] and [len(each.pieces) for each in found] == [2, 0, 1]


def test_effects_are_those_of_captums_feature_ablation(tmp_path: Path) -> None:
    """A feature is whether a word is there; its ablation takes the word out of the text."""
    captum = pytest.importorskip("captum.attr")
    import torch

    train = tiny_rows("binary")
    learner = TfidfLearner(TfidfSettings(learner="tfidf"), LearnerContext(make_task()))
    learner.fit(train, None, tmp_path)
    rows = train.take(np.arange(3))

    def score(changed: Rows, source: np.ndarray) -> np.ndarray:
        return learner.predict(changed)[:, 0]

    for number, found in enumerate(occlude(rows, score)):
        words = split_words(rows.texts[number][0])

        def forward(there: torch.Tensor, words=words) -> torch.Tensor:
            texts = [words.kept(np.flatnonzero(mask).tolist()) for mask in there.numpy()]
            return torch.tensor(learner.predict(unlabelled(texts))[:, 0])

        expected = captum.FeatureAblation(forward).attribute(torch.ones(1, len(words)))
        np.testing.assert_allclose(found.effects, expected[0].numpy(), atol=1e-5)
        assert np.abs(found.effects).max() > 0.01
    assert cut_pieces([split_words("a b c")], 40)[1] == (0, 1, 2)
