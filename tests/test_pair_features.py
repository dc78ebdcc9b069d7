"""How alike two texts are: each column against a plain reference, and what learns of them."""

from __future__ import annotations

import importlib.util
import json
from itertools import combinations
from math import log
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.learners.pair_columns import PairColumns
from foldstack.learners.tfidf import TfidfLearner
from foldstack.rows import normalise
from foldstack.stages.features import stack_features
from foldstack.techniques import TfidfSettings
from foldstack.text.features import feature_names
from foldstack.text.pair_features import (
    EDITS,
    EXCHANGED,
    OVERLAPS,
    WEIGHED,
    WordWeights,
    edits,
    overlap_names,
    overlaps,
)
from makers import make_rows, make_task
from test_vectors import make_vectors
from tiny import go_through, make_workspace, refuses, write

PAIRS = [("A good film", "a film, good film"), ("bad plot", "dull"), ("", "x")]

with_rapidfuzz = pytest.mark.skipif(
    importlib.util.find_spec("rapidfuzz") is None,
    reason="rapidfuzz is not installed: pip install 'foldstack[pairs]'",
)


def columns(names: tuple[str, ...], found: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, found.T, strict=True))


def test_overlaps_of_three_pairs() -> None:
    """By hand: words of the other text, strings of three characters, ratios of lengths."""
    found = columns(OVERLAPS, overlaps(PAIRS))
    np.testing.assert_allclose(found["first_in_second"], [1, 0, 0])
    np.testing.assert_allclose(found["second_in_first"], [1, 0, 0])
    a, b = (
        {text[i : i + 3] for i in range(len(text) - 2)}
        for text in ("a good film", "a film, good film")
    )
    np.testing.assert_allclose(found["shared_characters"], [len(a & b) / len(a | b), 0, 0])
    np.testing.assert_allclose(found["contained_characters"], [len(a & b) / len(a), 0, 0])
    np.testing.assert_allclose(found["longer"], [log(12 / 18), log(9 / 5), log(1 / 2)])
    np.testing.assert_allclose(found["characters_apart"], np.abs(found["longer"]))
    np.testing.assert_allclose(found["words_apart"], [log(5 / 4), log(3 / 2), log(2)])


def test_exchanging_the_texts_exchanges_the_columns_that_have_a_direction() -> None:
    weights = WordWeights.of(PAIRS)
    turned = [(b, a) for a, b in PAIRS]
    one, other = (
        columns(OVERLAPS + WEIGHED, np.hstack([overlaps(texts), weights.apply(texts)]))
        for texts in (PAIRS, turned)
    )
    back = EXCHANGED | {b: a for a, b in EXCHANGED.items()}
    for name, values in one.items():
        sign = -1 if name == "longer" else 1
        np.testing.assert_allclose(values, sign * other[back.get(name, name)], err_msg=name)


def bm25(query: list[str], text: list[str], texts: list[list[str]]) -> float:
    """Return the score of a text by Lucene's formula, k1 = 1.5 and b = .75, word by word."""
    mean, score = np.mean([len(t) for t in texts]), 0.0
    for word in query:
        documents = sum(word in t for t in texts)
        idf = log(1 + (len(texts) - documents + 0.5) / (documents + 0.5))
        count = text.count(word)
        score += (
            idf * count / (count + 1.5 * (0.25 + 0.75 * len(text) / mean)) if documents else 0.0
        )
    return score


def test_weighed_words_are_bm25_and_the_cosine_of_tfidf() -> None:
    """Fitted on the different texts of training pairs; a new word counts in the length alone."""
    weights = WordWeights.of([*PAIRS, PAIRS[1]])
    texts = [text for pair in PAIRS for text in pair]
    new = [*PAIRS, ("good new film", "film film dull")]
    found = columns(WEIGHED, weights.apply(new))
    words = [text.lower().replace(",", "").split() for text in texts]
    cut = [[text.lower().replace(",", "").split() for text in pair] for pair in new]
    np.testing.assert_allclose(found["bm25"], [bm25(a, b, words) for a, b in cut])
    np.testing.assert_allclose(found["bm25_back"], [bm25(b, a, words) for a, b in cut])
    tfidf = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True).fit(texts)
    u, v = (tfidf.transform(side) for side in zip(*new, strict=True))
    cosine = np.asarray(u.multiply(v).sum(axis=1)).ravel()
    np.testing.assert_allclose(found["cosine"], cosine)


def distance(a: list | str, b: list | str) -> int:
    """Return the edit distance by its recurrence."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0])
    )


@with_rapidfuzz
def test_edits_are_edit_distances_of_characters_and_words() -> None:
    pairs = [("Bad plot", "bad plat"), ("a b", "b a"), ("", "")]
    found = columns(EDITS, edits(pairs))
    for name, read in (("equal_characters", str), ("equal_words", str.split)):
        both = [[read(normalise((text,))) for text in pair] for pair in pairs]
        wanted = [1 - distance(a, b) / max(len(a), len(b), 1) for a, b in both]
        np.testing.assert_allclose(found[name], wanted)


def test_every_two_of_three_segments_are_compared() -> None:
    row = ("a film", "a plot", "dull")
    every = [(row[0], row[1]), (row[0], row[2]), (row[1], row[2])]
    np.testing.assert_array_equal(overlaps([row]).reshape(3, -1), overlaps(every))
    weights = WordWeights.of([row])
    np.testing.assert_array_equal(weights.apply([row]).reshape(3, -1), weights.apply(every))
    assert overlap_names(3)[0] == "first+second:first_in_second"
    assert len(overlap_names(3)) == 3 * len(OVERLAPS) and overlap_names(1) == []


@pytest.mark.parametrize("texts", [[("", "")], [("...", "!")]])
def test_texts_without_a_word_have_finite_columns(texts) -> None:
    found = PairColumns.of(make_rows(texts * 4), False).apply(texts)
    assert np.isfinite(found).all() and not found.any()


# The linear model


def alike(n: int, first: int) -> list[tuple[str, str]]:
    """Return n pairs of the same three words, then n of different ones, all new ones."""
    words = [f"w{i}" for i in range(first, first + 6 * n)]
    same = [
        (" ".join(words[i : i + 3]), " ".join(words[i : i + 3][::-1])) for i in range(0, 3 * n, 3)
    ]
    other = [(a, b) for (a, _), (_, b) in zip(same, same[1:] + same[:1], strict=True)]
    return same + other


def linear(rows, **settings) -> TfidfLearner:
    made = TfidfSettings(learner="tfidf", min_count=1, **settings)
    learner = TfidfLearner(made, LearnerContext(make_task()))
    learner.fit(rows, None, Path("unused"))
    return learner


def test_whether_two_texts_are_alike_is_learned_by_the_columns_alone() -> None:
    """The words of a pair say nothing: each stands in as many pairs of one label as of the other."""
    rows, new = make_rows(alike(20, 0), [1] * 20 + [0] * 20), make_rows(alike(20, 1000))
    label = np.repeat([1, 0], 20)
    blind = linear(rows, char_ngrams=(0, 0)).predict(new)[:, 0]
    assert np.ptp(blind) < 1e-9
    found = linear(rows, char_ngrams=(0, 0), pair_features="overlap").predict(new)[:, 0]
    assert ((found > 0) == label).all()


def test_auto_compares_pairs_and_neither_single_texts_nor_triples() -> None:
    for texts, width in (
        ([("a b", "b")] * 4, True),
        ([("a b",)] * 4, False),
        ([("a", "b", "c")] * 4, False),
    ):
        assert (linear(make_rows(texts), pair_features="auto").pairs is not None) == width
    assert linear(make_rows([("a b", "b")] * 4)).pairs is None
    three = linear(make_rows([("a", "b", "c")] * 4), pair_features="overlap")
    assert three.pairs.width == 3 * (1 + len(OVERLAPS) + len(WEIGHED))


def test_a_loaded_model_predicts_the_same_bits_by_what_the_training_rows_say(
    tmp_path: Path,
) -> None:
    """Words are weighed by the training pairs: rows to be predicted change nothing."""
    rows = make_rows(alike(5, 0), [1] * 5 + [0] * 5)
    learner, loaded = linear(rows, pair_features="overlap"), linear(rows, pair_features="overlap")
    loaded.pairs = None
    before = learner.predict(rows)
    learner.predict(make_rows(alike(5, 50)))
    learner.save(tmp_path / "model")
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == before.tobytes()
    stored = json.loads((tmp_path / "model/pair_columns.json").read_text())
    assert set(stored["weights"]["words"]) == {
        w for a, b in rows.texts for w in (a + " " + b).split()
    }


@with_rapidfuzz
def test_edits_are_further_columns_and_in_a_bundle() -> None:
    rows = make_rows(alike(5, 0))
    found = [linear(rows, pair_features=each) for each in ("overlap", "edits")]
    assert found[1].pairs.width - found[0].pairs.width == len(EDITS)
    assert [each.settings.packages for each in found] == [(), ("rapidfuzz",)]


def test_edits_without_rapidfuzz_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    sentence = (
        "pair_features edits requires the package rapidfuzz, which is not installed: pip install "
        "'foldstack[pairs]'"
    )
    with pytest.raises(InputError) as caught:
        TfidfSettings(learner="tfidf", pair_features="edits").check_inputs({})
    assert str(caught.value) == sentence


def pairs_workspace(root: Path, **settings: object) -> Path:
    make_workspace(root, text=["left", "right"], pair=True, **settings)
    rows = alike(12, 0)
    lines = [f"r{i},{a},{b},{int(i < 12)}" for i, (a, b) in enumerate(rows)]
    write(root / "input/train.csv", "\n".join(["id,left,right,label", *lines]) + "\n")
    tests = "".join(f"t{i},{a},{b}\n" for i, (a, b) in enumerate(alike(3, 500)))
    write(root / "input/test.csv", "id,left,right\n" + tests)
    return root


def test_the_shipped_preset_compares_pairs_and_its_runs_say_so(tmp_path: Path) -> None:
    root = go_through(pairs_workspace(tmp_path, models=["tfidf"]), "folds", "train")
    run = json.loads((root / "oof/tfidf/seed0/fold0/run.json").read_text())
    assert run["identity"]["settings"]["pair_features"] == "overlap"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"pair_features": "overlap"},
            "pair_features compares the texts of a row, but this competition has one per row: set "
            "`pair: true` or `segments`, or leave it out",
        ),
        (
            {"pair_features": "overlap", "naive_bayes": True},
            "naive_bayes compares how often each column is not 0, which says nothing of "
            "pair_features: leave one of them out",
        ),
    ],
)
def test_features_without_a_pair_or_counts_are_refused(tmp_path, capsys, given, sentence) -> None:
    root = make_workspace(tmp_path, models=[{"mine": {"preset": "tfidf", **given}}])
    go_through(root, "folds")
    capsys.readouterr()
    source = "tfidf.yaml with competition.yaml's settings for 'mine'"
    refuses(root, ["train", "--fold", "0"], f"{source}: {sentence}", capsys)


def test_stacks_on_text_features_have_the_overlaps_of_pairs() -> None:
    rows = make_rows(PAIRS)
    found = stack_features(rows, text=True)
    names = [*feature_names(2), *overlap_names(2)]
    assert found.shape == (3, len(names)) and len(set(names)) == len(names)
    np.testing.assert_array_equal(found[:, -len(OVERLAPS) :], overlaps(PAIRS))
    single = make_rows([("a b",)])
    assert stack_features(single, text=True).shape == (1, len(feature_names(1)))


# Beside vectors


def of_vectors(backbone: Path, rows, **settings: object):
    learner = make_vectors(backbone, **settings)
    learner.fit(rows, None, Path("unused"))
    return learner


THREE = [
    ("a good film", "a bad plot", "dull"),
    ("", "fine", "a good film"),
    ("dull", "dull", "great cast"),
]


def test_meaning_is_the_cosine_of_every_two_segments_vectors(backbone: Path) -> None:
    """Slow reference: pair by pair; 0 of an empty text, which has no vector."""
    rows = make_rows(THREE * 2)
    for divided in (True, False):
        learner = of_vectors(backbone, rows, pair_features="meaning", normalise=divided)
        found = learner._cosines(learner._vectors(rows), rows)
        assert found.shape == (6, 3) and learner.pairs is None
        for i, row in enumerate(THREE):
            for column, (a, b) in enumerate(combinations(row, 2)):
                u, v = learner.source.vectors([a, b]).astype(float)
                lengths = float(np.linalg.norm(u) * np.linalg.norm(v))
                assert found[i, column] == pytest.approx(
                    u @ v / lengths if lengths else 0, abs=1e-6
                )
        # Standardised, they are the last columns.
        x = learner._joined(learner._vectors(rows), rows)
        np.testing.assert_allclose(x[:, -3:].mean(axis=0), 0, atol=1e-6)


def test_whether_two_texts_mean_the_same_is_learned_by_the_cosine(backbone: Path) -> None:
    rows, new = make_rows(alike(20, 0), [1] * 20 + [0] * 20), make_rows(alike(20, 1000))
    widths = {}
    for given in ("none", "meaning", "overlap"):
        learner = of_vectors(backbone, rows, pair_features=given)
        widths[given] = learner._joined(learner._vectors(new), new).shape[1]
    assert widths["meaning"] == widths["none"] + 1
    assert widths["overlap"] == widths["meaning"] + 1 + len(OVERLAPS) + len(WEIGHED)
    found = learner.predict(new)[:, 0]
    assert (found[:20] > np.median(found)).mean() > 0.9


@pytest.mark.parametrize("given", ["meaning", "overlap"])
def test_a_loaded_model_of_vectors_predicts_the_same_bits(backbone, tmp_path, given) -> None:
    rows = make_rows(alike(5, 0), [1] * 5 + [0] * 5)
    learner, loaded = (of_vectors(backbone, rows, pair_features=given) for _ in "ab")
    loaded.cosines = loaded.pairs = None
    learner.save(tmp_path / "model")
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


def test_a_single_text_has_no_other_to_compare_with(backbone, tmp_path, capsys) -> None:
    given = {"preset": "minilm-vectors", "backbone": str(backbone), "sha256": None}
    root = make_workspace(tmp_path, models=[{"mine": given | {"pair_features": "meaning"}}])
    go_through(root, "folds")
    capsys.readouterr()
    sentence = (
        "minilm-vectors.yaml with competition.yaml's settings for 'mine': pair_features compares the "
        "texts of a row, but this competition has one per row: set `pair: true` or `segments`, or leave "
        "it out"
    )
    refuses(root, ["train", "--fold", "0"], sentence, capsys)


def test_runs_of_vectors_compare_pairs_by_meaning(backbone, tmp_path) -> None:
    given = {"preset": "minilm-vectors", "backbone": str(backbone), "sha256": None}
    models = [{"mine": given | {"pair_features": "overlap"}}]
    go_through(pairs_workspace(tmp_path, models=models))
