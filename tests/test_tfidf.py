"""The linear learner: what it stores is what it is, and it learns from nothing but its rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge

from foldstack.kinds import Kind
from foldstack.learners import LearnerContext
from foldstack.learners.regressions import log_count_ratios
from foldstack.learners.tfidf import TfidfLearner
from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.techniques import TfidfSettings
from makers import make_rows, make_task
from tiny import files, foldstack, sentences


def linear_learner(kind: str = "binary", outputs: int = 1, **settings: object) -> TfidfLearner:
    settings = TfidfSettings(learner="tfidf", **settings)
    return TfidfLearner(settings, LearnerContext(make_task(kind, outputs)))


def fitted(rows: Rows, kind: str = "binary", **settings: object) -> TfidfLearner:
    learner = linear_learner(kind, rows.targets.shape[1], **settings)
    learner.fit(rows, None, Path("unused"))
    return learner


def sentence_rows(kind: str = "binary", n: int = 24) -> Rows:
    """Sentences of weight 1; of several outputs, one follows the words and one the row's number."""
    texts, labels = zip(*sentences(n), strict=True)
    labels = np.array(labels)
    targets = {
        "binary": labels,
        "multiclass": np.eye(3)[labels + (np.arange(n) % 4 == 3)],
        "multilabel": np.column_stack([labels, np.arange(n) % 3 == 0, 1 - labels]),
        "regression": np.column_stack([3.0 * labels + 100, np.arange(n) % 5 - 7.5]),
    }
    return make_rows(list(texts), targets[kind])


KINDS = ["binary", "multiclass", "multilabel"]


@pytest.mark.parametrize("kind", [*KINDS, "regression"])
@pytest.mark.parametrize("settings", [{}, {"word_ngrams": (0, 0)}, {"char_ngrams": (0, 0)}])
def test_what_is_loaded_predicts_the_same_bits(tmp_path: Path, kind: str, settings: dict) -> None:
    """A new test file is predicted by the stored model: it must be the one that was scored."""
    rows = sentence_rows(kind)
    learner = fitted(rows, kind, **settings)
    learner.save(tmp_path / "model")
    loaded = linear_learner(kind, rows.targets.shape[1], **settings)
    loaded.load(tmp_path / "model")
    new = make_rows(["a lovely film n5", "a dull ÉTUDE, n7", "", "unknown"], np.zeros(4))
    raw = learner.predict(new)
    assert raw.dtype == np.float32 and raw.shape == (4, rows.targets.shape[1])
    assert loaded.predict(new).tobytes() == raw.tobytes()


def test_the_stored_model_is_no_pickle(tmp_path: Path) -> None:
    """Loading a pickle runs whatever its author put there."""
    fitted(sentence_rows()).save(tmp_path)
    stored = files(tmp_path)
    assert sorted(stored) == ["model.json", "model.safetensors"]
    described = json.loads(stored["model.json"])
    assert described["link"] == "sigmoid"
    assert stored["model.safetensors"][8:9] == b"{"  # safetensors: a length, then JSON


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_follow_the_labels(kind: str) -> None:
    """On what it has learned, each row's own label stands above the other."""
    rows = sentence_rows(kind)
    learner = fitted(rows, kind, C=1000, min_count=1)
    probabilities = to_probabilities(learner.predict(rows), learner.link)
    assert ((probabilities > 0.5) == (rows.targets == 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_soft_targets_equal_repeated_weighted_rows(kind: str) -> None:
    """A target of .3 is three tenths of a positive row and seven tenths of a negative one."""
    rows = sentence_rows(kind, 12)
    weights = np.linspace(0.5, 2, 12)
    if kind == "multiclass":
        soft = rows.targets * 0.7 + 0.1
        choices, shares = [np.eye(3)[[c] * 12] for c in range(3)], soft.T
    else:
        soft = np.full(rows.targets.shape, 0.3)
        soft[rows.targets == 1] = 0.8
        soft = np.repeat(soft[:, :1], soft.shape[1], axis=1)  # so that rows can be repeated whole
        choices = [np.zeros_like(soft), np.ones_like(soft)]
        shares = [1 - soft[:, 0], soft[:, 0]]
    texts = rows.texts * len(choices)
    repeated = make_rows(
        texts, np.vstack(choices), weights=np.concatenate([weights * share for share in shares])
    )
    # Repeated texts have other counts and so another idf: both learn from the same features.
    one = linear_learner(kind, soft.shape[1], min_count=1)
    one.fit(make_rows(rows.texts, soft, weights=weights), None, Path("unused"))
    other = linear_learner(kind, soft.shape[1], min_count=1)
    other._new_vectorizers = lambda: [Fitted(v) for v in one.vectorizers]
    other.fit(repeated, None, Path("unused"))
    np.testing.assert_allclose(other.coef, one.coef, rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(other.predict(rows), one.predict(rows), atol=5e-3)


class Fitted:
    """A vectorizer that is fitted already and stays as it is."""

    def __init__(self, vectorizer) -> None:
        self.vectorizer = vectorizer
        self.analyzer = vectorizer.analyzer

    def fit(self, texts: list[str]):
        return self.vectorizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_equals_the_row_twice(kind: str) -> None:
    rows = sentence_rows(kind, 12)
    weighted = make_rows(rows.texts, rows.targets, weights=[2] + [1] * 11)
    twice = rows.take(np.r_[0, np.arange(12)])
    one = fitted(weighted, kind, min_count=1)
    other = linear_learner(kind, rows.targets.shape[1])
    other._new_vectorizers = lambda: [Fitted(v) for v in one.vectorizers]
    other.fit(twice, None, Path("unused"))
    np.testing.assert_allclose(other.predict(rows), one.predict(rows), atol=5e-3)
    assert np.abs(one.predict(rows) - fitted(rows, kind, min_count=1).predict(rows)).max() > 1e-2


def test_a_weight_of_nothing_equals_a_row_left_out() -> None:
    rows = sentence_rows(n=12)
    weighted = make_rows(rows.texts, rows.targets, weights=[0] + [1] * 11)
    one = fitted(weighted, min_count=1)
    other = linear_learner()
    other._new_vectorizers = lambda: [Fitted(v) for v in one.vectorizers]
    other.fit(rows.take(np.arange(1, 12)), None, Path("unused"))
    np.testing.assert_allclose(other.predict(rows), one.predict(rows), atol=5e-3)


# Labels that some fold lacks


@pytest.mark.parametrize("present", [[0, 2], [0, 1, 3]])
def test_a_class_that_training_lacks_is_predicted_as_rare(present: list[int]) -> None:
    """A rare class may stand in one fold alone; columns must not move up into its place."""
    texts, _ = zip(*sentences(24), strict=True)
    classes = np.array(present)[np.arange(24) % len(present)]
    rows = make_rows(list(texts), np.eye(4)[classes])
    learner = fitted(rows, "multiclass", min_count=1, C=1000)
    probabilities = to_probabilities(learner.predict(rows), "softmax")
    assert np.isfinite(probabilities).all()
    assert (probabilities.argmax(axis=1) == classes).all()
    missing = [c for c in range(4) if c not in present]
    assert (probabilities[:, missing] < 0.2).all()


def test_two_classes_of_three_equal_a_binary_regression() -> None:
    """scikit-learn keeps one row of coefficients for two classes: both halves must add up to it."""
    binary = sentence_rows()
    classes = np.eye(3)[np.where(binary.targets[:, 0] == 1, 2, 0)]
    learner = fitted(make_rows(binary.texts, classes), "multiclass")
    raw = learner.predict(binary)
    np.testing.assert_allclose(
        raw[:, 2] - raw[:, 0], fitted(binary).predict(binary)[:, 0], atol=1e-5
    )


def test_only_one_class_in_training_is_predicted_for_all() -> None:
    rows = make_rows(["a good film", "a fine plot"], np.eye(3)[[1, 1]])
    probabilities = to_probabilities(fitted(rows, "multiclass").predict(rows), "softmax")
    np.testing.assert_allclose(probabilities, np.tile([0.5, 2.5, 0.5], (2, 1)) / 3.5, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_without_both_values_gets_its_smoothed_odds(value: int) -> None:
    """Certainty from absence would cost a log loss of infinity on one row."""
    labels = np.column_stack([np.arange(8) % 2, np.full(8, value)])
    texts, _ = zip(*sentences(8), strict=True)
    rows = make_rows(list(texts), labels)
    probabilities = to_probabilities(fitted(rows, "multilabel").predict(rows), "sigmoid")
    np.testing.assert_allclose(probabilities[:, 1], (8.5 if value else 0.5) / 9, rtol=1e-6)
    assert len(set(probabilities[:, 0])) > 1


def test_many_classes_are_solved_in_less_memory(monkeypatch, capsys) -> None:
    """SAG finds the optimum of L-BFGS (Schmidt, Le Roux and Bach 2017)."""
    rng = np.random.default_rng(0)
    x = csr_matrix(rng.random((90, 12)) * (rng.random((90, 12)) < 0.4))
    y, weights = np.arange(90) % 3, rng.random(90) + 0.5
    learner = linear_learner("multiclass", 3)
    exact = learner.model.solve(x, y, weights)
    monkeypatch.setattr("foldstack.learners.regressions.MANY_COEFFICIENTS", 20)
    found = learner.model.solve(x, y, weights)
    assert found.coef_ == pytest.approx(exact.coef_, abs=0.01)
    assert capsys.readouterr().out == (
        "tfidf: 3 classes with 12 features are solved by SAG, in about 0 MB; a larger min_count or a "
        "smaller max_features needs less\n"
    )


@pytest.mark.parametrize("texts", [["", "", "", ""], ["a", "b", "c", "d"]])
def test_texts_without_a_common_ngram_get_the_share_of_positives(texts: list[str]) -> None:
    """Nothing to learn from is no crash, and can be stored too."""
    rows = make_rows(texts, [0, 1, 1, 1])
    learner = fitted(rows)
    probabilities = to_probabilities(learner.predict(rows), "sigmoid")
    np.testing.assert_allclose(probabilities, np.full((4, 1), 3.5 / 5), rtol=1e-6)


def test_a_model_without_ngrams_can_be_stored(tmp_path: Path) -> None:
    rows = make_rows(["", ""], [0, 1])
    learner = fitted(rows)
    learner.save(tmp_path)
    loaded = linear_learner()
    loaded.load(tmp_path)
    assert loaded.predict(rows).tolist() == learner.predict(rows).tolist()


# Regression


def signal(n: int = 60, weights=None) -> Rows:
    """Two targets, each linear in whether a word is there."""
    rng = np.random.default_rng(0)
    good, bad = rng.integers(0, 4, (2, n))
    texts = [
        f"w{i} " + "good " * g + "bad " * b for i, (g, b) in enumerate(zip(good, bad, strict=True))
    ]
    return make_rows(
        texts, np.column_stack([10 + 2 * (good > 0), -5.0 * (bad > 0)]), weights=weights
    )


def test_regression_is_a_ridge_on_the_same_features() -> None:
    """Rows count by their weight, and C is the classifier's: a penalty of 1/(2C)."""
    rows = signal(weights=np.linspace(0.2, 2, 60))
    learner = fitted(rows, "regression", C=2.0)
    reference = Ridge(alpha=0.25, solver="cholesky").fit(
        learner._features(rows.texts).toarray(), rows.targets, sample_weight=rows.weights
    )
    np.testing.assert_allclose(learner.coef, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(learner.intercept, reference.intercept_, atol=1e-4)
    assert learner.predict(rows).shape == (60, 2)


def test_regression_recovers_a_linear_signal() -> None:
    rows = signal(200)
    learner = fitted(rows.take(np.arange(150)), "regression")
    held = rows.take(np.arange(150, 200))
    error = np.sqrt(((learner.predict(held) - held.targets) ** 2).mean(axis=0))
    assert (error < 0.4 * held.targets.std(axis=0)).all()


def test_regression_follows_the_units_of_its_targets() -> None:
    rows = signal()
    thousand = make_rows(rows.texts, rows.targets * 1000)
    one, other = fitted(rows, "regression"), fitted(thousand, "regression")
    np.testing.assert_allclose(other.predict(rows), 1000 * one.predict(rows), rtol=1e-4, atol=1)


def test_regression_without_ngrams_predicts_the_weighted_mean(tmp_path: Path) -> None:
    rows = make_rows(["", "", ""], [[1.0, 5], [2, 5], [4, 5]], weights=[1, 1, 2])
    learner = fitted(rows, "regression")
    assert learner.predict(rows).tolist() == [[2.75, 5.0]] * 3
    learner.save(tmp_path)
    loaded = linear_learner("regression", 2)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tolist() == learner.predict(rows).tolist()


def test_c_loosens_the_ridge() -> None:
    norms = [np.linalg.norm(fitted(signal(), "regression", C=c).coef) for c in (0.1, 1, 10)]
    assert norms[0] < norms[1] < norms[2]


# Where the words come from


def test_words_of_every_text_column_are_learned() -> None:
    learner = fitted(make_rows([("one", "two"), ("one", "two")], [0, 1]), char_ngrams=(0, 0))
    assert set(learner.vectorizers[0].vocabulary_) == {"one", "two", "one two"}


def test_one_letter_words_and_unspaced_scripts_are_seen() -> None:
    """scikit-learn's default pattern drops `a` and `5`, and takes a Chinese sentence as a word."""
    learner = fitted(make_rows(["a 5 质量很好", "a 5 质量差"], [1, 0]))
    words, chars = (set(v.vocabulary_) for v in learner.vectorizers)
    assert {"a", "5"} <= words
    assert "质量" in chars


def test_the_vocabulary_has_no_word_of_the_held_out_rows(workspace: Path) -> None:
    """A vocabulary or idf over all rows lets held-out texts into the training of their fold."""
    assert foldstack(workspace, "folds") == 0
    lines = (workspace / "folds/folds.csv").read_text().splitlines()[1:]
    held = [id_.removeprefix("r") for id_, fold in (x.split(",") for x in lines) if fold == "0"]
    others = [id_.removeprefix("r") for id_, fold in (x.split(",") for x in lines) if fold != "0"]
    settings = ["--set", "min_count=1", "--set", "char_ngrams=[0,0]"]
    assert foldstack(workspace, *settings, "train", "--fold", "0") == 0
    stored = json.loads((workspace / "oof/tfidf/seed0/fold0/model/model.json").read_text())
    words = set(stored["vectorizers"][0]["vocabulary"])
    assert len(held) == 8
    assert not words & {f"n{i}" for i in held}  # every row has a word of its own
    assert words >= {f"n{i}" for i in others}


# Settings


def sizes(**settings: object) -> list[int]:
    return [len(v.vocabulary_) for v in fitted(sentence_rows(), **settings).vectorizers]


def test_settings_choose_the_ngrams() -> None:
    default = sizes()
    assert len(default) == 2
    assert sizes(word_ngrams=(1, 1))[0] < default[0]
    assert sizes(char_ngrams=(2, 3))[1] < default[1]
    assert sizes(word_ngrams=(0, 0)) == default[1:]
    assert sizes(char_ngrams=(0, 0)) == default[:1]
    assert all(np.array(sizes(min_count=1)) > default)
    assert sizes(max_features=7) == [7, 7]


def test_counts_are_sublinear_unless_switched_off(tmp_path: Path) -> None:
    """What is loaded counts as it learned."""
    rows = make_rows(["good good good film", "bad film"] * 4, [1, 0] * 4)
    learner = fitted(rows, sublinear=False)
    learner.save(tmp_path)
    loaded = linear_learner(sublinear=False)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()
    assert not np.allclose(learner.predict(rows), fitted(rows).predict(rows), atol=1e-3)


def test_ngrams_of_too_many_texts_are_left_out(capsys: pytest.CaptureFixture) -> None:
    """`film` occurs in all texts, `good` in half of them."""
    rows = make_rows(["good film", "bad film"] * 4, [1, 0] * 4)
    learner = fitted(rows, max_share=0.5, char_ngrams=(0, 0))
    assert learner.vectorizers[0].vocabulary_ == ["bad", "bad film", "good", "good film"]
    fitted(rows, max_share=0.25, char_ngrams=(0, 0))
    assert capsys.readouterr().out == (
        "no word n-gram occurs in 2 texts and no more than 25% of them: left out\n"
    )


# Words and n-grams by script


@pytest.mark.parametrize(
    ("texts", "words", "characters"),
    [
        (["今天天气很好", "手机不好"], "rjieba", (1, 4)),
        (["今日はいい天気です", "携帯電話はよくない"], "unicode", (2, 5)),
        (["a good film", "a bad film"], "unicode", (2, 5)),
        (["good film " * 100, "bad film " * 120], "unicode", (1, 4)),
    ],
    ids=["Chinese", "Japanese", "Latin", "long"],
)
def test_auto_chooses_by_script_and_length(texts: list[str], words: str, characters: tuple) -> None:
    auto = {"words": "auto", "word_ngrams": "auto", "char_ngrams": "auto"}
    learner = linear_learner(**auto)
    facts = learner.fit(make_rows(texts * 2, [0, 1] * 2), None, Path("unused"))["auto"]
    chosen = {name: fact["value"] for name, fact in facts.items()}
    assert chosen == {"words": words, "word_ngrams": (1, 2), "char_ngrams": characters}
    assert [v.words for v in learner.vectorizers] == [words, "unicode"]
    assert [v.ngram_range for v in learner.vectorizers] == [(1, 2), characters]


def test_a_named_value_overrules_auto() -> None:
    rows = make_rows(["今天天气很好", "手机不好"] * 2, [0, 1] * 2)
    learner = linear_learner(words="unicode", char_ngrams="auto")
    facts = learner.fit(rows, None, Path("unused"))
    assert facts["auto"] == {
        "char_ngrams": {"value": (1, 4), "why": "most letters are Chinese, 5 characters per text"}
    }
    assert learner.vectorizers[0].vocabulary_ == ["今天天气很好", "手机不好"]
    assert "auto" not in linear_learner().fit(rows, None, Path("unused"))


def test_what_is_loaded_cuts_words_as_it_learned(tmp_path: Path) -> None:
    """The texts of a new file are not asked for their script."""
    rows = make_rows(["今天天气很好", "手机不好"] * 2, [0, 1] * 2)
    learner = fitted(rows, words="auto", char_ngrams=(0, 0))
    learner.save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["vectorizers"][0]["words"] == "rjieba"
    loaded = linear_learner(words="auto", char_ngrams=(0, 0))
    loaded.load(tmp_path)
    new = make_rows(["a Latin text with 天气很好"], [0])
    assert loaded.predict(new).tobytes() == learner.predict(new).tobytes()


def test_c_loosens_the_regression() -> None:
    norms = [np.linalg.norm(fitted(sentence_rows(), C=c).coef) for c in (0.1, 1, 10)]
    assert norms[0] < norms[1] < norms[2]


# Log-count ratios


def test_a_log_count_ratio_is_of_shares_of_rows_that_have_the_feature() -> None:
    """By hand: rows `a b` and `a` of class 1, `b c` of class 0 with a weight of 3."""
    x = csr_matrix([[0.5, 0.5, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    ratios = log_count_ratios(x, np.array([1, 1, 0]), np.array([1.0, 1.0, 3.0]))
    p, q = np.array([3, 2, 1]) / 6, np.array([1, 4, 4]) / 9
    np.testing.assert_allclose(ratios, np.log(p / q))


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_naive_bayes_is_a_regression_on_features_times_their_ratios(kind: str) -> None:
    """Each label's own; what is stored are coefficients of the features as they are."""
    rows = sentence_rows(kind)
    learner = fitted(rows, kind, naive_bayes=True)
    x = learner._features(rows.texts)
    found = learner.predict(rows)
    for k, target in enumerate(rows.targets.T):
        ratios = log_count_ratios(x, target, rows.weights)
        scaled = x.toarray() * ratios
        model = LogisticRegression(C=4, max_iter=300).fit(scaled, target)
        np.testing.assert_allclose(found[:, k], model.decision_function(scaled), atol=1e-3)
    assert not np.allclose(found, fitted(rows, kind).predict(rows), atol=0.05)


def test_ratios_count_soft_targets_in_parts() -> None:
    """A target of .25 with weight 4 is a positive row and three negative ones."""
    texts = ["good film", "bad plot", "a film"]
    soft = make_rows(texts, [1.0, 0.0, 0.25], weights=[1.0, 1.0, 4.0])
    hard = make_rows([*texts, "a film"], [1, 0, 1, 0], weights=[1.0, 1.0, 1.0, 3.0])
    one = fitted(soft, naive_bayes=True, min_count=1)
    other = linear_learner(naive_bayes=True, min_count=1)
    other._new_vectorizers = lambda: [Fitted(v) for v in one.vectorizers]
    other.fit(hard, None, Path("unused"))
    np.testing.assert_allclose(other.predict(hard)[:3], one.predict(soft), atol=1e-3)


def test_naive_bayes_compares_each_class_with_all_others() -> None:
    """One regression per class, whose probabilities are normalised to a sum of one."""
    rows = sentence_rows("multiclass")
    learner = fitted(rows, "multiclass", naive_bayes=True)
    x = learner._features(rows.texts)
    found = to_probabilities(learner.predict(rows), "softmax")
    each = []
    for target in rows.targets.T:
        scaled = x.toarray() * log_count_ratios(x, target, rows.weights)
        model = LogisticRegression(C=4, max_iter=300).fit(scaled, target)
        each.append(model.predict_proba(scaled)[:, 1])
    wanted = np.column_stack(each)
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-3)


def test_naive_bayes_knows_classes_that_training_lacks(tmp_path: Path) -> None:
    rows = make_rows(["good film", "a film", "bad film"] * 4, np.eye(3)[[0, 1, 0] * 4])
    learner = fitted(rows, "multiclass", naive_bayes=True)
    probabilities = to_probabilities(learner.predict(rows), "softmax")
    assert np.isfinite(probabilities).all() and (probabilities[:, 2] < 0.1).all()
    empty = make_rows(["", ""], np.eye(3)[[1, 1]])
    none = fitted(empty, "multiclass", naive_bayes=True)
    none.save(tmp_path)
    loaded = linear_learner("multiclass", 3, naive_bayes=True)
    loaded.load(tmp_path)
    assert loaded.predict(empty).tolist() == none.predict(empty).tolist()


def test_ratios_require_labels() -> None:
    with pytest.raises(ValueError) as e:
        TfidfSettings(learner="tfidf", naive_bayes=True).check_kind(Kind.REGRESSION)
    assert str(e.value) == (
        "naive_bayes compares rows with a label and those without, but this competition is a "
        "regression: leave it out"
    )
