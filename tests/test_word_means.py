"""Vectors of texts as means of their words' vectors, under classical models."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from foldstack.errors import InputError
from foldstack.learners import LearnerContext
from foldstack.learners.vectors import VectorsLearner
from foldstack.rows import Rows
from foldstack.stages.run import identity_of
from foldstack.techniques import VectorClassifier, VectorsSettings
from makers import OUTPUTS, make_rows, make_task, tiny_rows, unlabelled
from tiny import foldstack, make_workspace, refuses, run_of, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

FILE = "good 1 0\nbad -1 0\nfilm 0 2\nnever 9 9\n"
ROWS = make_rows(["good film", "bad film film", "good good plot"])


def learner(
    source: dict, folder: Path | None = None, kind: str = "binary", **settings: object
) -> VectorsLearner:
    """Return a learner of this source; folder: of input files. Rare words count."""
    given = {"words": {"min_count": 1}} | source
    checked = VectorsSettings(learner="vectors", source=given, **{"normalise": False} | settings)
    checked.check_kind(make_task(kind).kind)
    paths = {setting: folder / name for setting, name in checked.input_files.items()}
    return VectorsLearner(checked, LearnerContext(make_task(kind), 0, 1, files=paths))


def of_file(folder: Path, text: str = FILE, **source: object) -> VectorsLearner:
    write(folder / "words.vec", text)
    vectors = {"vectors": {"file": "words.vec"}}
    return learner({"name": "word_mean"} | vectors | source, folder)


def fitted(made: VectorsLearner, rows: Rows = ROWS) -> VectorsLearner:
    made.fit(rows, None, Path())
    return made


# Of a file


def test_the_mean_is_that_of_the_words_that_have_a_vector(tmp_path, capsys):
    """`plot` has none, and counts no more than if it were not there."""
    made = fitted(of_file(tmp_path, weighting="mean"))
    found = made._vectors(unlabelled(["good film", "film film bad", "good plot", "plot", "never"]))
    assert found.tolist() == [
        [0.5, 1], [np.float32(-1 / 3), np.float32(4 / 3)], [1, 0], [0, 0], [0, 0]
    ]  # fmt: skip
    assert "3 of 4 words have a vector\n" in capsys.readouterr().out


def test_tfidf_weights_are_scikit_learn_s(tmp_path):
    made = fitted(of_file(tmp_path))
    plain = TfidfVectorizer(norm=None).fit([t for (t,) in ROWS.texts])
    new = "film good good"
    weights = dict(
        zip(plain.get_feature_names_out(), plain.transform([new]).toarray()[0], strict=True)
    )
    good, film = weights["good"], weights["film"]
    expected = [good / (good + film), 2 * film / (good + film)]
    np.testing.assert_allclose(made._vectors(unlabelled([new]))[0], expected, rtol=1e-6)
    assert good / 2 == film  # of as many texts


def test_a_text_alone_has_the_vector_that_it_has_beside_others(tmp_path):
    texts = [" ".join(f"w{i * k % 17}" for k in range(1, 2 + i % 9)) for i in range(60)]
    numbers = np.random.default_rng(0).normal(size=(17, 20))
    lines = "".join(f"w{i} {' '.join(map(str, v))}\n" for i, v in enumerate(numbers))
    rows = make_rows(texts)
    made = fitted(of_file(tmp_path, lines), rows)
    alone = [made._vectors(rows.take(np.array([i]))) for i in range(60)]
    assert np.concatenate(alone).tobytes() == made._vectors(rows).tobytes()


def test_segments_have_a_vector_each(tmp_path):
    made = fitted(of_file(tmp_path), make_rows([("good", "film"), ("bad", "film")]))
    found = made._vectors(unlabelled([("good", "bad")]))
    assert found.tolist() == [[1, 0, -1, 0, 2, 0, -1, 0]]  # u, v, |u - v|, u v


def test_settings_of_words_apply(tmp_path):
    made = fitted(of_file(tmp_path, words={"min_count": 2}))
    assert made.source.vocabulary == ["film", "good"]
    chinese = make_rows(["今天质量好", "质量很差"])
    made = fitted(of_file(tmp_path, "今天 1\n质量 2\n天 3\n"), chinese)
    assert sorted(made.source.vocabulary) == ["今天", "质量"]
    one = {"unit": "characters", "min_count": 1}
    made = fitted(of_file(tmp_path, "今天 1\n质量 2\n天 3\n", words=one), chinese)
    assert made.source.vocabulary == ["天"]


@pytest.mark.parametrize("classifier", sorted(set(VectorClassifier.registered) - {"label_texts"}))
def test_every_classifier_learns_them(tmp_path, classifier):
    numbers = "great 2 1\n" + FILE
    texts = ["a good film", "a bad film", "great film", "bad bad"] * 10
    rows = make_rows(texts, ["bad" not in text for text in texts])
    write(tmp_path / "words.vec", numbers)
    source = {"name": "word_mean", "vectors": {"file": "words.vec"}}
    made = fitted(learner(source, tmp_path, classifier=classifier), rows)
    assert ((made.predict(rows)[:, 0] > 0) == rows.targets[:, 0]).all()


def test_rules_for_words_apply(tmp_path):
    write(tmp_path / "stop.txt", "film\n")
    made = fitted(of_file(tmp_path, words={"min_count": 1, "stop_words": {"file": "stop.txt"}}))
    assert list(made.settings.input_files) == [
        "source.words.stop_words.file",
        "source.vectors.file",
    ]
    assert sorted(made.source.vocabulary) == ["bad", "good"]
    assert made._vectors(unlabelled(["film good"])).tolist() == [[1, 0]]


def test_a_fitted_model_comes_back_without_its_files(tmp_path):
    write(tmp_path / "stop.txt", "plot\n")
    words = {"min_count": 1, "stop_words": {"file": "stop.txt"}}
    made = fitted(of_file(tmp_path, words=words))
    made.save(tmp_path / "model")
    assert {p.suffix for p in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    (tmp_path / "words.vec").unlink()
    (tmp_path / "stop.txt").unlink()
    source = {"name": "word_mean", "words": words, "vectors": {"file": "words.vec"}}
    loaded = learner(source, tmp_path)
    loaded.load(tmp_path / "model")
    assert loaded.predict(ROWS).tobytes() == made.predict(ROWS).tobytes()


@pytest.mark.skipif(
    importlib.util.find_spec("gensim") is None,
    reason="gensim is not installed: pip install 'foldstack[vectors]'",
)
@pytest.mark.parametrize("train", ["skipgram", "cbow", "fasttext"])
def test_vectors_are_trained(train):
    made = fitted(
        learner({"name": "word_mean", "vectors": {"train": train}, "size": 7}), tiny_rows()
    )
    assert made._vectors(tiny_rows()).shape == (32, 7)
    again = fitted(
        learner({"name": "word_mean", "vectors": {"train": train}, "size": 7}), tiny_rows()
    )
    assert again.predict(tiny_rows()).tobytes() == made.predict(tiny_rows()).tobytes()


# Of linear SVMs


def svm(kind: str = "binary", **source: object) -> VectorsLearner:
    return learner({"name": "svm_words"} | source, kind=kind)


def test_a_word_s_vector_is_its_weights():
    rows = tiny_rows("multiclass", 60)
    made = fitted(svm("multiclass", C=0.5), rows)
    plain = TfidfVectorizer(token_pattern=r"\w+", vocabulary=made.source.vocabulary)
    x = plain.fit_transform([t for (t,) in rows.texts])
    for k, target in enumerate(rows.targets.T):
        model = LinearSVC(C=0.5, random_state=0).fit(x, target, sample_weight=rows.weights)
        np.testing.assert_allclose(made.source.word_vectors[:, k], model.coef_[0], atol=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in OUTPUTS if kind != "regression"])
def test_one_number_per_output(kind, tmp_path):
    rows = tiny_rows(kind, 60)
    made = fitted(svm(kind), rows)
    assert made._vectors(rows).shape == (60, OUTPUTS[kind])
    made.save(tmp_path)
    loaded = svm(kind)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == made.predict(rows).tobytes()


def random_labels(n: int = 200) -> Rows:
    """Return rows whose words say nothing of their labels, each of a word of its own too."""
    rng = np.random.default_rng(0)
    texts = [" ".join([f"own{i}", *(f"w{k}" for k in rng.integers(0, 40, 6))]) for i in range(n)]
    return make_rows(texts, rng.integers(0, 2, n))


def test_training_rows_have_vectors_that_do_not_know_their_labels():
    """Bug guarded: words of one text repeat its label, so that the model above trusts them."""
    rows = random_labels()
    source = svm().source
    learned = source.fit([t for (t,) in rows.texts], rows)
    known = source.vectors([t for (t,) in rows.texts])
    labels = rows.targets[:, 0]
    assert np.corrcoef(known[:, 0], labels)[0, 1] > 0.9
    assert abs(np.corrcoef(learned[:, 0], labels)[0, 1]) < 0.2
    p = expit(fitted(svm(), rows).predict(rows)[:, 0])
    assert p.min() > 0.3
    assert p.max() < 0.8


def test_copies_of_a_text_share_an_inner_fold():
    """Else a copy's label would say what that of the row is."""
    twice = random_labels().take(np.repeat(np.arange(200), 2))
    learned = svm().source.fit([t for (t,) in twice.texts], twice)
    assert np.corrcoef(learned[:, 0], twice.targets[:, 0])[0, 1] < 0.2


def test_rows_without_weight_teach_nothing():
    rows = tiny_rows("binary", 40)
    weights = np.where(np.arange(40) % 4 == 0, 0.0, 1.0)
    turned = np.where(weights[:, None] == 0, 1 - rows.targets, rows.targets)
    texts = [t for (t,) in rows.texts]
    a, b = (fitted(svm(), make_rows(texts, y, weights)) for y in (rows.targets, turned))
    assert a.predict(rows).tobytes() == b.predict(rows).tobytes()


def test_rows_of_one_group_have_no_inner_folds(capsys):
    rows = make_rows(["good", "bad", "good", "bad"], groups=[0, 0, 0, 0])
    fitted(svm(), rows)
    assert (
        "vectors: the rows are of one group: their vectors are from SVMs that know them\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change",
    [{"C": 0.01}, {"folds": 2}, {"weighting": "mean"}, {"words": {"min_count": 8}}],
)
def test_each_setting_has_an_effect(change):
    rows = random_labels(80)
    a, b = (fitted(svm(**settings), rows).predict(rows) for settings in ({}, change))
    assert (a != b).any()


# Bad input


def test_what_is_refused(tmp_path):
    def refused(source: dict, **settings: object) -> str:
        with pytest.raises(ValidationError) as error:
            VectorsSettings(learner="vectors", source=source, **settings)
        return error.value.errors()[0]["msg"]

    assert refused({"name": "svm_words"}) == (
        "Value error, source svm_words has one number per class, whose size counts: set normalise to "
        "false"
    )
    assert refused({"name": "word_mean", "vectors": {"file": "a.vec", "mode": "static"}}) == (
        "Value error, vectors.mode says what a network does with word vectors, but source word_mean "
        "trains no network: leave it out"
    )
    assert refused({"name": "word_mean", "vectors": {}}).startswith(
        "Value error, word vectors come from a `file` or are trained (`train`): give one"
    )
    with pytest.raises(ValueError, match=r"^source svm_words has a number per class, but this"):
        learner({"name": "svm_words"}, kind="regression", classifier="ridge")
    for name, vectors in (("svm_words", {}), ("word_mean", {"vectors": {"file": "words.vec"}})):
        source = {"name": name, "words": {"min_count": 2}} | vectors
        with pytest.raises(InputError) as error:
            fitted(learner(source, tmp_path), make_rows(["a", "b"]))
        assert str(error.value) == (
            f"source {name}: none of the words of the 2 training texts occurs in 2 of them: set a "
            "smaller source.words.min_count, or take source backbone"
        )
    with pytest.raises(InputError) as error:
        fitted(of_file(tmp_path, "other 1 2\n"))
    assert str(error.value) == (
        f"source.vectors.file: {tmp_path / 'words.vec'} has none of the 4 words of the training "
        "texts: take vectors of their language, as UTF-8"
    )


# Runs in a workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_workspace(tmp_path / "w", models=["m"], folds={"count": 3, "kind": "kfold"})
    source = {"name": "word_mean", "vectors": {"file": "words.vec"}}
    preset = {"learner": "vectors", "source": source}
    write(root / "presets/m.yaml", yaml.safe_dump(preset))
    return root


def test_the_file_is_part_of_a_run_s_identity(root, capsys):
    path = write(root / "input/words.vec", FILE)
    assert foldstack(root, "folds") == 0 and foldstack(root, "train", "--fold", "0") == 0
    ws, run = run_of(root, "m")
    (old,) = ws.store.read_run(run.key).identity.named_files.values()
    write(path, FILE.replace("2", "3"))
    ws, run = run_of(root, "m")
    new = identity_of(ws, run).named_files["source.vectors.file"]
    sentence = (
        f"m seed 0 fold0 is finished with other settings or data (named_files.source.vectors.file {old} "
        f"→ {new}): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it"
    )
    capsys.readouterr()
    refuses(root, ["train", "--fold", "0"], sentence, capsys)


def test_a_wrong_file_is_refused_before_training(root, capsys):
    assert foldstack(root, "folds") == 0
    path = root / "input/words.vec"
    missing = f"source.vectors.file: there is no file {path}: put it there, or name another"
    refuses(root, ["train", "--fold", "0"], missing, capsys)
    write(path, "good 1 2\nbad 1 x\n")
    wrong = f"{path}, line 2: 'x' is not a number: fix it"
    refuses(root, ["train", "--fold", "0"], wrong, capsys)
    assert not (root / "oof/m").exists()
