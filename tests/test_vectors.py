"""Classical models on the vectors of a frozen backbone, each compared with a slow reference."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from scipy.optimize import nnls
from scipy.special import expit, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import NMF, LatentDirichletAllocation, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from transformers import AutoModel, AutoTokenizer

from foldstack.errors import InputError
from foldstack.files import read_json, share
from foldstack.kinds import Kind
from foldstack.learners import LearnerContext, linear_fits, neighbours
from foldstack.learners.vectors import VectorsLearner, side_by_side
from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.stages.forecast import forecast
from foldstack.techniques import VectorClassifier, VectorsSettings
from foldstack.text.cache import TokenCache
from foldstack.text.shards import digests_of
from foldstack.training import frozen
from foldstack.workspace import Workspace
from makers import OUTPUTS, make_rows, make_task, tiny_rows, unlabelled
from test_presets import checkpoint
from tiny import files, foldstack, go_through, make_workspace, refuses, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

TEXTS = ["a good film", "a bad plot and a poor cast", "", "dull", "a lovely song lovely film start"]
# Each with settings with which it learns something from the tiny rows.
CLASSIFIERS = {
    "logistic": {},
    "ridge": {},
    "svm": {},
    "neighbours": {"k": 5},
    "lightgbm": {"rounds": 10, "min_leaf_rows": 2},
}


def make_vectors(
    backbone: Path,
    kind: str = "binary",
    cache: TokenCache | None = None,
    seed: int = 0,
    **settings: object,
) -> VectorsLearner:
    """Return a learner in fp32 on one thread."""
    checked = VectorsSettings(
        learner="vectors",
        backbone=str(backbone),
        **{"precision": "fp32", "max_length": 16} | settings,
    )
    checked.check_kind(Kind(kind))
    given = None if cache is None else lambda: cache
    return VectorsLearner(checked, LearnerContext(make_task(kind), seed, 1, cache=given))


def of(name: str, **settings: object) -> dict:
    """Return the setting of a classifier, small enough for the tiny rows."""
    return {"classifier": {"name": name} | CLASSIFIERS[name] | settings}


def fitted(backbone: Path, rows: Rows, kind: str = "binary", **settings: object) -> VectorsLearner:
    learner = make_vectors(backbone, kind, **settings)
    learner.fit(rows, None, Path())
    return learner


def probabilities(learner: VectorsLearner, rows: Rows) -> np.ndarray:
    return to_probabilities(learner.predict(rows), learner.link)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each call that runs the frozen backbone."""
    calls, fill = [], frozen.fill

    def watched(net, tokens, flat, autocast):
        calls.append(len(flat))
        return fill(net, tokens, flat, autocast)

    monkeypatch.setattr(frozen, "fill", watched)
    return calls


# Vectors

POOLINGS = {
    "cls": lambda states: states[0],
    "last": lambda states: states[-1],
    "mean": lambda states: states.mean(axis=0),
    "max": lambda states: states.max(axis=0),
    "mean_max": lambda states: np.concatenate([states.mean(axis=0), states.max(axis=0)]),
}


def alone(backbone: Path, text: str, prefix: str = "", length: int = 16) -> np.ndarray:
    """Return the last hidden states of a text that is read by itself, without padding."""
    tokenizer, model = (kind.from_pretrained(backbone) for kind in (AutoTokenizer, AutoModel))
    given = tokenizer(prefix + text, return_tensors="pt", truncation=True, max_length=length)
    with torch.no_grad():
        return model.eval()(**given)[0][0].numpy()


@pytest.mark.parametrize("head", POOLINGS)
def test_a_vector_is_that_of_the_text_by_itself(backbone, head):
    """Other texts of the batch, and the padding beside them, change nothing."""
    learner = fitted(backbone, make_rows(TEXTS), head=head, normalise=False)
    expected = [POOLINGS[head](alone(backbone, text)) for text in TEXTS]
    np.testing.assert_allclose(learner._vectors(unlabelled(TEXTS)), expected, atol=1e-6)


def test_prefix_length_and_norm(backbone, capsys):
    settings = {"prefix": "good ", "max_length": 5}
    learner = fitted(backbone, make_rows(TEXTS), **settings)
    expected = [alone(backbone, text, "good ", 5).mean(axis=0) for text in TEXTS]
    expected = [vector / np.linalg.norm(vector) for vector in expected]
    np.testing.assert_allclose(learner._vectors(unlabelled(TEXTS)), expected, atol=1e-6)
    assert "3 of 5 texts are cut at max_length 5\n" in capsys.readouterr().out


def test_windows_are_averaged(backbone):
    """Two windows of four words; a text that fits has one."""
    texts = ["a good film a bad plot a song", "dull"]
    settings = {"long": {"name": "windows", "overlap": 0}, "max_length": 6, "normalise": False}
    learner = fitted(backbone, make_rows(texts), **settings)
    halves = [alone(backbone, t).mean(axis=0) for t in ("a good film a", "bad plot a song")]
    expected = [np.mean(halves, axis=0), alone(backbone, "dull").mean(axis=0)]
    np.testing.assert_allclose(learner._vectors(unlabelled(texts)), expected, atol=1e-6)
    assert learner._vectors(unlabelled(["", "dull"])).shape == (2, 16)


def test_no_more_tokens_than_positions(backbone, capsys):
    learner = make_vectors(backbone, max_length=100)
    learner.fit(make_rows(["good " * 50, "a bad plot"]), None, Path())
    assert "max_length 100 is more than the backbone's 32 positions: using 32\n" in (
        capsys.readouterr().out
    )


def test_segments_and_what_lies_between_them(backbone):
    pairs = [("a good film", "dull"), ("a bad plot", "a good film")]
    learner = fitted(backbone, make_rows(pairs))
    single = fitted(backbone, make_rows(TEXTS))._vectors
    u, v = (single(unlabelled([pair[k] for pair in pairs])) for k in (0, 1))
    expected = np.concatenate([u, v, abs(u - v), u * v], axis=1)
    np.testing.assert_allclose(learner._vectors(unlabelled(pairs)), expected, atol=1e-6)


def test_three_segments_have_three_pairs():
    three = np.arange(12.0).reshape(2, 3, 2)
    assert side_by_side(three).shape == (2, 3 * 2 + 3 * 2 * 2)
    assert side_by_side(three)[0].tolist() == [
        *range(6), 2, 2, 0, 3, 4, 4, 0, 5, 2, 2, 8, 15,
    ]  # fmt: skip


def test_bf16_vectors_are_others(backbone):
    rows = make_rows(TEXTS)
    exact, coarse = (fitted(backbone, rows, precision=p) for p in ("fp32", "bf16"))
    a, b = exact._vectors(rows), coarse._vectors(rows)
    assert exact.source.backbone.key != coarse.source.backbone.key
    np.testing.assert_allclose(a, b, atol=0.05)
    assert (a != b).any()


# The cache


def test_every_text_is_computed_once(backbone, tmp_path, read, capsys):
    """By the first run, with the test texts; no fold, seed, model or prediction computes any."""
    train, test = make_rows(TEXTS[:3]), unlabelled([*TEXTS[2:], "dull"])
    before = capsys.readouterr()

    def cache() -> TokenCache:
        return TokenCache(tmp_path / "tokens", (train, test), tmp_path / "vectors")

    first = make_vectors(backbone, cache=cache())
    first.fit(train.take(np.array([0, 1])), None, Path())
    assert read == [5]
    assert "5 vectors computed in 0:00 (" in capsys.readouterr().out, before
    second = make_vectors(backbone, cache=cache(), seed=1, **of("neighbours"))
    second.fit(train.take(np.array([1, 2])), None, Path())
    second.predict(test)
    assert read == [5]
    assert "computed" not in capsys.readouterr().out
    assert second._vectors(test).tobytes() == first._vectors(test).tobytes()
    first.predict(unlabelled(["a new text", *TEXTS]))
    assert read == [5, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"head": "max"},
        {"long": "tail"},
        {"prefix": "good "},
        {"max_length": 8},
        {"precision": "bf16"},
    ],
)
def test_other_vectors_have_another_key(backbone, tmp_path, read, other):
    rows, cache = make_rows(TEXTS), TokenCache(tmp_path, (), tmp_path / "vectors")
    for settings in ({}, other, {"normalise": False}, of("svm")):
        make_vectors(backbone, cache=cache, **settings).fit(rows, None, Path())
    assert read == [5, 5]


def test_another_backbone_has_another_key(backbone, tmp_path):
    from transformers import BertModel

    model = BertModel.from_pretrained(backbone)
    with torch.no_grad():
        model.encoder.layer[1].output.dense.bias[0] += 1
    AutoTokenizer.from_pretrained(backbone).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    a, b = (fitted(place, make_rows(TEXTS)).source.backbone.key for place in (backbone, tmp_path))
    assert a != b


def test_vectors_lie_in_shards(backbone, tmp_path, read, monkeypatch):
    """A killed run loses the shard that it was computing."""
    monkeypatch.setattr("foldstack.text.vector_cache.PART", 2)
    rows, cache = make_rows(TEXTS), TokenCache(tmp_path, (), tmp_path / "vectors")
    learner = make_vectors(backbone, cache=cache)
    learner.fit(rows, None, Path())
    assert read == [2, 2, 1]
    plain = fitted(backbone, rows)._vectors(rows)
    np.testing.assert_allclose(learner._vectors(rows), plain, atol=1e-6)
    digests = [np.load(path) for path in sorted((tmp_path / "vectors").rglob("digests.npy"))]
    assert sorted(np.concatenate(digests)) == sorted(digests_of(TEXTS))


def test_a_damaged_shard_is_computed_again(backbone, tmp_path, capsys):
    rows, vectors = make_rows(TEXTS), tmp_path / "vectors"
    make_vectors(backbone, cache=TokenCache(tmp_path, (), vectors)).fit(rows, None, Path())
    before = files(vectors)
    (path,) = vectors.rglob("vectors.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    make_vectors(backbone, cache=TokenCache(tmp_path, (), vectors)).fit(rows, None, Path())
    said = capsys.readouterr().out
    assert said.startswith(f"{path.parent} is damaged: computing its vectors again\n5 vectors ")
    assert files(vectors) == before


def test_a_folder_of_somebody_else_stays(backbone, tmp_path, capsys):
    """Bug guarded: it was removed as a damaged shard."""
    rows, vectors = make_rows(TEXTS), tmp_path / "vectors"
    make_vectors(backbone, cache=TokenCache(tmp_path, (), vectors)).fit(rows, None, Path())
    (network,) = vectors.iterdir()
    mine = write(network / "mine/thesis.txt", "mine")
    make_vectors(backbone, cache=TokenCache(tmp_path, (), vectors)).fit(rows, None, Path())
    assert mine.read_text() == "mine"
    assert "damaged" not in capsys.readouterr().out


def test_a_vector_that_is_not_finite_is_refused_and_not_kept(backbone, tmp_path):
    """Bug guarded: LightGBM learned from it, and others ended in a traceback of scikit-learn."""
    broken = Path(shutil.copytree(backbone, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][6] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    word = AutoTokenizer.from_pretrained(broken).convert_ids_to_tokens(6)
    place = tmp_path / "vectors"
    learner = make_vectors(broken, cache=TokenCache(tmp_path / "tokens", vectors=place))
    rows = make_rows(["a a", f"a {word}", word, "a"])
    with pytest.raises(InputError) as error:
        learner.fit(rows, None, tmp_path)
    assert str(error.value) == (
        f"backbone '{broken}' computes 2 of 4 vectors that are not finite in fp32, such as that of "
        f"'a {word}': take another backbone"
    )
    assert not list(place.rglob("vectors.npy"))


def test_a_folder_that_cannot_be_written_is_gone_without(backbone, tmp_path, capsys):
    write(tmp_path / "vectors", "no folder")
    learner = make_vectors(backbone, cache=TokenCache(tmp_path, (), tmp_path / "vectors"))
    learner.fit(make_rows(TEXTS), None, Path())
    sentence = f"computing vectors without the cache in {tmp_path / 'vectors'}: Not a directory\n"
    assert capsys.readouterr().out.startswith(sentence)


# Vectors from words

SOURCES = {"tfidf_svd": {"components": 5}, "nmf": {"components": 3}, "lda": {"components": 3}}


def words(name: str, kind: str = "binary", seed: int = 0, **settings: object) -> VectorsLearner:
    """Return a learner on vectors from words, without a backbone."""
    source = {"name": name} | SOURCES[name] | settings.pop("source", {})
    checked = VectorsSettings(learner="vectors", source=source, **settings)
    return VectorsLearner(checked, LearnerContext(make_task(kind), seed, 1))


def tfidf_of(rows: Rows) -> np.ndarray:
    plain = TfidfVectorizer(min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return plain.fit_transform([t for (t,) in rows.texts])


def test_svd_is_scikit_learn_s():
    rows = tiny_rows()
    learner = words("tfidf_svd", normalise=False)
    learner.fit(rows, None, Path())
    plain = TruncatedSVD(5, random_state=0).fit_transform(tfidf_of(rows))
    np.testing.assert_allclose(learner._vectors(rows), plain, atol=1e-5)


def test_topics_are_the_least_squares_of_each_text_alone():
    rows = tiny_rows()
    learner = words("nmf", normalise=False)
    learner.fit(rows, None, Path())
    x = tfidf_of(rows)
    topics = NMF(3, init="nndsvda", random_state=0, max_iter=400).fit(x).components_
    found = learner._vectors(rows)
    for row, vector in zip(x.toarray(), found, strict=True):
        np.testing.assert_allclose(vector, nnls(topics.T, row)[0], atol=1e-4)


def test_lda_is_scikit_learn_s():
    rows = tiny_rows()
    learner = words("lda", normalise=False)
    learner.fit(rows, None, Path())
    plain = CountVectorizer(min_df=2, token_pattern=r"(?u)\b\w+\b")
    x = plain.fit_transform([t for (t,) in rows.texts]).astype(float)
    model = LatentDirichletAllocation(3, random_state=0, max_iter=30).fit(x)
    np.testing.assert_array_equal(learner._vectors(rows), model.transform(x).astype(np.float32))
    assert learner._vectors(unlabelled(["unknown"])).tolist() == [[np.float32(1 / 3)] * 3]


@pytest.mark.parametrize("name", ["nmf", "lda"])
def test_a_text_alone_has_the_topics_that_it_has_beside_others(name):
    """Bug guarded: 0 was 1e-17 beside others, and LightGBM splits between the two."""
    texts = [" ".join(f"w{i * k % 17}" for k in range(1, 2 + i % 9)) for i in range(60)]
    learner, rows = words(name, normalise=False, source={"components": 10}), make_rows(texts)
    learner.fit(rows, None, Path())
    alone = [learner._vectors(rows.take(np.array([i]))) for i in range(60)]
    assert np.concatenate(alone).tobytes() == learner._vectors(rows).tobytes()


def test_a_single_word_is_the_only_component():
    """Bug guarded: scikit-learn takes no matrix of one column."""
    for name in ("tfidf_svd", "nmf"):
        learner = words(name, source={"min_count": 1})
        learner.fit(make_rows(["a", "a", "a a", ""]), None, Path())
        assert learner._vectors(unlabelled(["a", "a a", "b"])).tolist() == [[1], [1], [0]]


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("name", SOURCES)
def test_words_are_learned_and_come_back(name, kind, tmp_path):
    rows, classifier = tiny_rows(kind), {"classifier": {"name": "ridge"}}
    learner = words(name, kind, **classifier)
    facts = learner.fit(rows, None, tmp_path)
    assert facts["features"] == SOURCES[name]["components"] and "precision" not in facts
    learner.save(tmp_path)
    loaded = words(name, kind, **classifier)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()
    assert np.isfinite(loaded.predict(unlabelled(["", "未知"] * 3))).all()


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("change", [{"components": 2}, {"min_count": 8}, {"max_features": 6}])
def test_each_setting_of_a_source_has_an_effect(name, change):
    rows, found = tiny_rows(), []
    for settings in ({}, change):
        learner = words(name, source=settings)
        learner.fit(rows, None, Path())
        found.append(learner.predict(rows))
    assert (found[0] != found[1]).any()


def test_chinese_words_are_cut():
    learner = words("tfidf_svd", source={"min_count": 1})
    learner.fit(make_rows(["今天天气很好", "质量很差", "今天质量好"]), None, Path())
    assert {"今天", "质量"} <= set(learner.source.tfidf.vocabulary_)


def test_words_that_are_too_rare(tmp_path):
    with pytest.raises(InputError) as error:
        words("nmf").fit(make_rows(["a", "b"]), None, tmp_path)
    assert str(error.value) == (
        "source nmf: no word occurs in 2 of the 2 training texts: set a smaller source.min_count, or "
        "take source backbone"
    )


# Classifiers, each against what it stands for


def test_logistic_is_scikit_learn_s(backbone):
    rows = tiny_rows("multiclass")
    learner = fitted(backbone, rows, "multiclass", **of("logistic", C=2.0))
    x = learner._vectors(rows).astype(np.float64)
    plain = LogisticRegression(C=2.0, max_iter=1000)
    plain.fit(x, rows.targets.argmax(axis=1), sample_weight=rows.weights)
    np.testing.assert_allclose(
        probabilities(learner, rows)[:, plain.classes_], plain.predict_proba(x), atol=1e-5
    )


def test_ridge_of_values_is_scikit_learn_s(backbone):
    rows = tiny_rows("regression")
    learner = fitted(backbone, rows, "regression", **of("ridge", C=2.0))
    x = learner._vectors(rows).astype(np.float64)
    plain = Ridge(alpha=1 / 4).fit(x, rows.targets, sample_weight=rows.weights)
    np.testing.assert_allclose(learner.predict(rows), plain.predict(x), atol=1e-2)


def test_svm_is_scikit_learn_s_calibrated(backbone):
    rows = tiny_rows("binary")
    learner = fitted(backbone, rows, **of("svm", C=2.0))
    x, y = learner._vectors(rows).astype(np.float64), rows.targets[:, 0].astype(int)
    plain = CalibratedClassifierCV(
        LinearSVC(C=2.0, random_state=0),
        cv=list(linear_fits._splits(y, rows.groups)),
        ensemble=False,
    ).fit(x, y, sample_weight=rows.weights)
    np.testing.assert_allclose(
        probabilities(learner, rows)[:, 0], plain.predict_proba(x)[:, 1], atol=1e-4
    )


def test_svm_of_classes_is_scikit_learn_s_calibrated(backbone):
    """One against all others, each calibrated, then normalised to a sum of one."""
    rows = tiny_rows("multiclass", 60)
    learner = fitted(backbone, rows, "multiclass", **of("svm"))
    x = learner._vectors(rows).astype(np.float64)
    found = probabilities(learner, rows)
    each = []
    for target in rows.targets.T.astype(int):
        splits = list(linear_fits._splits(target, rows.groups))
        one = CalibratedClassifierCV(LinearSVC(random_state=0), cv=splits, ensemble=False)
        each.append(one.fit(x, target, sample_weight=rows.weights).predict_proba(x)[:, 1])
    each = np.stack(each, axis=1)
    np.testing.assert_allclose(found, each / each.sum(axis=1, keepdims=True), atol=1e-4)


def test_copies_of_a_text_stand_in_one_inner_fold():
    y, groups = np.arange(40) % 2, np.arange(40) // 4
    for train, held in linear_fits._splits(y, groups):
        assert not set(groups[train]) & set(groups[held])


def test_groups_share_an_inner_fold(backbone, monkeypatch):
    """Of a soft target both rows, and the copies of a text."""
    seen, splits = [], linear_fits._splits

    def watched(y, groups):
        seen.append(groups)
        return splits(y, groups)

    monkeypatch.setattr(linear_fits, "_splits", watched)
    rows = make_rows(TEXTS * 2, np.tile([0.3, 0.6, 0, 1, 0.5], 2), groups=np.tile(range(5), 2))
    fitted(backbone, rows, **of("svm"))
    assert sorted(seen[0].tolist()) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]


def test_margins_of_too_few_rows_are_not_calibrated(backbone, capsys):
    rows = make_rows(TEXTS, [1, 0, 0, 0, 0])
    learner = fitted(backbone, rows, **of("svm"))
    assert "vectors: 'y0' has rows in too few groups for inner folds: its margins are not " in (
        capsys.readouterr().out
    )
    plain = LinearSVC(random_state=0).fit(learner._vectors(rows), rows.targets[:, 0])
    margins = plain.decision_function(learner._vectors(rows))
    np.testing.assert_allclose(learner.predict(rows)[:, 0], margins, atol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_neighbours_are_those_of_brute_force(backbone, kind):
    rows, new = tiny_rows(kind), unlabelled(["a good film", "a bad song cast", "dull"])
    of_labels = {} if kind == "regression" else {"prior": 0.5}
    learner = fitted(backbone, rows, kind, **of("neighbours", k=4, **of_labels))
    x, z = learner._vectors(rows), learner._vectors(new)
    shares = np.average(rows.targets, axis=0, weights=rows.weights)
    expected = []
    for vector in z:
        distance = np.array([1 - vector @ row for row in x])  # of length one
        near = np.argsort(distance)[:4]
        votes = rows.weights[near] / distance[near]
        total, prior = sum(votes), 0.5 * votes.mean()
        mean = sum(v * t for v, t in zip(votes, rows.targets[near], strict=True))
        labels = (mean + prior * shares) / (total + prior)
        expected.append(mean / total if kind == "regression" else labels)
    np.testing.assert_allclose(probabilities(learner, new), expected, rtol=1e-3)


def test_equally_near_copies_share_the_places_that_are_left():
    """Bug guarded: of more copies than k, the first ones of the file decided."""
    texts, labels = ["near"] + ["copy"] * 6, np.array([1, 1, 0, 0, 0, 0, 0])
    x, query = np.array([[1.0, 0.0]] + [[1.0, 1.0]] * 6), np.array([[1.0, 0.2]])
    settings = VectorClassifier.parse({"name": "neighbours", "k": 3, "prior": 0})
    for order in (np.arange(7), np.array([6, 5, 0, 4, 3, 2, 1])):
        made = neighbours.NeighboursFit(settings, make_task(), 0, 1)
        made.fit(x[order], make_rows(texts, labels[order]))
        near, copy = 1 / (1 - query @ x[:2].T / np.linalg.norm(query) / [1, 2**0.5])[0]
        expected = (near + 2 * copy / 6) / (near + 2 * copy)  # two places for six copies
        np.testing.assert_allclose(expit(made.predict(query)), [[expected]], rtol=1e-4)


def test_the_same_text_outvotes_the_others_with_finite_logits(backbone):
    rows = make_rows(TEXTS, [1, 1, 0, 1, 1])
    logits = fitted(backbone, rows, **of("neighbours", prior=0)).predict(unlabelled(TEXTS))
    assert ((logits[:, 0] > 0) == [1, 1, 0, 1, 1]).all() and np.isfinite(logits).all()


def test_distances_are_computed_in_parts(backbone, monkeypatch):
    """40,000 rows took 1.4 GB to look 4,000 up among, now 0.1 GB and half the time."""
    limits, plain = [], neighbours.pairwise_distances_chunked

    def watched(*args, working_memory, **options):
        limits.append(working_memory)
        return plain(*args, working_memory=working_memory, **options)

    monkeypatch.setattr(neighbours, "pairwise_distances_chunked", watched)
    fitted(backbone, tiny_rows(), **of("neighbours")).predict(tiny_rows())
    assert limits == [128]


def test_lightgbm_is_the_library_s(backbone):
    rows = tiny_rows("binary")
    learner = fitted(backbone, rows, **of("lightgbm", features=1.0))
    x = learner._vectors(rows).astype(np.float64)
    settings = {
        "objective": "binary", "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 1,
        "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    data = lgb.Dataset(x, rows.targets[:, 0], weight=rows.weights)
    plain = lgb.train(settings, data, 10)
    np.testing.assert_allclose(probabilities(learner, rows)[:, 0], plain.predict(x), atol=1e-3)


# What holds for all


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_kind_is_learned_and_comes_back(backbone, tmp_path, name, kind):
    """Loaded, it predicts the same bytes; nothing is a pickle."""
    if kind == "regression" and not VectorClassifier.registered[name].for_values:
        with pytest.raises(ValueError, match=f"^classifier {name} predicts labels"):
            make_vectors(backbone, kind, **of(name))
        return
    rows = tiny_rows(kind)
    learner = fitted(backbone, rows, kind, **of(name))
    found = learner.predict(rows)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    assert found.shape == (32, OUTPUTS[kind])
    constant = np.average(rows.targets, axis=0, weights=rows.weights)
    errors = [((p - rows.targets) ** 2).mean() for p in (probabilities(learner, rows), constant)]
    assert errors[0] < errors[1]
    learner.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
    loaded = make_vectors(tmp_path / "nowhere", kind, **of(name))
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == found.tobytes()
    assert loaded.predict(rows.take(np.zeros(0, int))).shape == (0, OUTPUTS[kind])


@pytest.mark.parametrize("name, settings", [("logistic", {"C": 2.0}), ("neighbours", {"prior": 0})])
def test_a_weight_is_a_number_of_copies(backbone, name, settings):
    few = tiny_rows("binary", 16)
    weighted = make_rows([t for (t,) in few.texts], few.targets, np.tile([2, 1, 1, 0], 4))
    copied = weighted.take(np.repeat(np.arange(16), weighted.weights.astype(int)))
    copied = make_rows([t for (t,) in copied.texts], copied.targets, groups=copied.groups)
    # All rows are neighbours: 12 with weights, 16 copies.
    a, b = (
        fitted(backbone, rows, **of(name, **settings | ({"k": 16} if name == "neighbours" else {})))
        for rows in (weighted, copied)
    )
    np.testing.assert_allclose(probabilities(a, few), probabilities(b, few), atol=1e-3)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_weights_count(backbone, name, kind):
    """Rows of weight 0 teach nothing, and labels of heavy rows become more likely."""
    rows = tiny_rows(kind, 48)
    texts = [t for (t,) in rows.texts]
    weights = np.where(np.arange(48) % 4 == 0, 0.0, 1.0)
    turned = np.where(weights[:, None] == 0, np.roll(rows.targets, 1, axis=1), rows.targets)
    same = [
        fitted(backbone, make_rows(texts, targets, weights), kind, **of(name)).predict(rows)
        for targets in (rows.targets, turned)
    ]
    np.testing.assert_array_equal(*same)
    heavy = make_rows(texts, rows.targets, np.where(rows.targets[:, 2] == 1, 5.0, 1.0))
    light = make_rows(texts, rows.targets)
    a, b = (probabilities(fitted(backbone, r, kind, **of(name)), rows) for r in (heavy, light))
    assert a[:, 2].mean() > b[:, 2].mean()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_soft_target_is_learned_softly(backbone, name):
    texts = [f"a {word} film" for word in ("good", "bad")] * 30
    hard = make_rows(texts, np.array([1.0, 0.0] * 30))
    soft = make_rows(texts, np.array([0.7, 0.3] * 30))
    settings = of(name, k=10, prior=0) if name == "neighbours" else of(name)
    a, b = (probabilities(fitted(backbone, rows, **settings), hard)[:2, 0] for rows in (hard, soft))
    assert a[0] > b[0] > 0.5 > b[1] > a[1]
    np.testing.assert_allclose(b, [0.7, 0.3], atol=0.15)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_that_never_vary(backbone, name):
    constant = make_rows(TEXTS, np.stack([np.ones(5), np.zeros(5), [1, 0, 1, 0, 1]], axis=1))
    p = probabilities(fitted(backbone, constant, "multilabel", **of(name)), constant)
    assert (p[:, 0] > 0.8).all() and (p[:, 1] < 0.2).all()
    one_class = make_rows(TEXTS, np.eye(3)[[1] * 5])
    found = fitted(backbone, one_class, "multiclass", **of(name)).predict(one_class)
    assert (softmax(found, axis=1).argmax(axis=1) == 1).all() and np.isfinite(found).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_chinese_texts(tmp_path, name):
    texts = ["今天天气非常好", "质量很差", "很好", "差"] * 5
    rows = make_rows(texts, [1, 0] * 10)
    learner = fitted(checkpoint("bert", tmp_path / "b"), rows, **of(name))
    assert ((learner.predict(rows)[:, 0] > 0) == rows.targets[:, 0]).all()


# Settings and their effects

EFFECTS = {
    "logistic": {"C": 0.5},
    "ridge": {"C": 0.5},
    "svm": {"C": 0.1},
    "neighbours": {"k": 2, "prior": 5.0},
    "lightgbm": {
        "rounds": 3, "learning_rate": 0.5, "leaves": 2, "min_leaf_rows": 1, "features": 0.2,
    },
}  # fmt: skip
CHANGES = [(name, key, value) for name, own in EFFECTS.items() for key, value in own.items()]


@pytest.mark.parametrize("name, key, value", CHANGES)
def test_each_setting_of_a_classifier_has_an_effect(backbone, name, key, value):
    rows = tiny_rows("binary", 48)
    assert set(EFFECTS[name]) == set(VectorClassifier.registered[name].model_fields) - {"name"}
    before, after = (
        fitted(backbone, rows, **of(name, **change)).predict(rows) for change in ({}, {key: value})
    )
    assert (before != after).any()


@pytest.mark.parametrize(
    "change",
    [
        {"head": "max"}, {"prefix": "good "}, {"max_length": 4}, {"normalise": False},
        {"precision": "bf16"}, {"special_tokens": "tokens"}, of("svm"),
    ],
)  # fmt: skip
def test_each_setting_has_an_effect(backbone, change):
    rows = tiny_rows("binary")
    rows = make_rows([f"{t} [MASK]" for (t,) in rows.texts], rows.targets)
    before, after = (fitted(backbone, rows, **s).predict(rows) for s in ({}, change))
    assert (before != after).any()


def test_the_penalty_is_chosen_by_inner_folds(backbone):
    facts = make_vectors(backbone).fit(tiny_rows("binary", 80), None, Path())
    choice = facts["auto"]["classifier.C"]
    assert choice["value"] in linear_fits.GRID
    assert choice["why"].startswith(
        "the strongest penalty within 1 % of the best log loss of 3 inner folds of 80 rows (C 0.016: "
    )
    assert facts["features"] == 16 and facts["precision"] == "fp32"


def test_feature_columns_stand_beside_the_vector(backbone, tmp_path):
    """A label that the texts do not tell is learned from a column."""
    column = np.arange(40)[:, None] // 2 % 2.0
    rows = make_rows(["a good film"] * 40, column[:, 0], features=column)
    learner = fitted(backbone, rows, join_features=True)
    assert ((learner.predict(rows)[:, 0] > 0) == column[:, 0]).all()
    learner.save(tmp_path)
    loaded = make_vectors(tmp_path, join_features=True)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()
    without = fitted(backbone, rows).predict(rows)
    assert np.ptp(without) == 0


def test_text_features_stand_beside_the_vector(backbone, tmp_path):
    """Exclamation marks are unknown words to the backbone, and a column of their own."""
    rows = make_rows(["good [UNK]", "good !"] * 20)
    settings = {"text_features": True, "special_tokens": "tokens"}
    assert np.ptp(fitted(backbone, rows, **settings | {"text_features": False}).predict(rows)) == 0
    learner = fitted(backbone, rows, **settings)
    assert ((learner.predict(rows)[:, 0] > 0) == rows.targets[:, 0]).all()
    learner.save(tmp_path)
    loaded = make_vectors(tmp_path, **settings)
    loaded.load(tmp_path)
    assert loaded.predict(rows).tobytes() == learner.predict(rows).tobytes()


# Bad input


def test_what_is_refused():
    def refused(**settings: object) -> str:
        with pytest.raises(ValidationError) as error:
            VectorsSettings(**{"learner": "vectors", "backbone": "b"} | settings)
        return error.value.errors()[0]["msg"]

    assert refused(source="nmf") == (
        "Value error, source nmf reads no backbone: leave backbone out"
    )
    assert refused(backbone=None) == (
        "Value error, source backbone requires a backbone: set `backbone` to a hub name, a folder or "
        "package:NAME/FOLDER"
    )
    assert refused(long="random") == (
        "Value error, long random depends on the epoch or on other texts, but a vector is computed once "
        "for all runs: take one of head, tail, head_tail, windows, terms"
    )
    assert refused(head="attention") == (
        "Value error, head attention has weights to learn, but learner vectors trains no network: take "
        "one of mean, max, mean_max, last, cls, concat"
    )
    assert refused(**of("lightgbm", leaves=1)) == "Input should be greater than or equal to 2"
    assert "'logistic', 'ridge', 'svm', 'neighbours', 'lightgbm'" in refused(classifier="forest")


def test_values_are_refused_where_labels_are_predicted(tmp_path, backbone, capsys):
    root = make_workspace(tmp_path, kind="regression", metric="rmse", models=["v"])
    add_vectors(root, backbone, classifier="svm")
    refuses(
        root,
        ["train"],
        "v.yaml: classifier svm predicts labels, but this competition is a regression: take "
        "one of ridge, neighbours, lightgbm",
        capsys,
    )


def test_a_prior_of_labels_is_refused_for_values(tmp_path, backbone, capsys):
    root = make_workspace(tmp_path, kind="regression", metric="rmse", models=["v"])
    add_vectors(root, backbone, **of("neighbours", prior=2))
    refuses(
        root,
        ["train"],
        "v.yaml: classifier.prior keeps probabilities of labels from 0 and changes nothing in values: "
        "leave it out",
        capsys,
    )


def test_a_causal_backbone_has_no_first_token(backbone, tmp_path):
    from transformers import GPT2Config, GPT2Model

    AutoTokenizer.from_pretrained(backbone).save_pretrained(tmp_path)
    GPT2Model(GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=50)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="head 'cls' reads the first token"):
        fitted(tmp_path, make_rows(TEXTS), head="cls")
    last = fitted(tmp_path, make_rows(TEXTS), head="last", normalise=False)
    expected = [alone(tmp_path, text)[-1] for text in TEXTS]
    np.testing.assert_allclose(last._vectors(unlabelled(TEXTS)), expected, atol=1e-5)


# Runs in a workspace


def add_vectors(root: Path, backbone: Path, name: str = "v", **settings: object) -> None:
    preset = {"learner": "vectors", "backbone": str(backbone), "precision": "fp32"} | settings
    write(root / f"presets/{name}.yaml", yaml.safe_dump(preset))


@pytest.fixture
def root(tmp_path: Path, backbone: Path) -> Path:
    workspace = make_workspace(tmp_path / "w", models=["v"], folds={"count": 3, "kind": "kfold"})
    add_vectors(workspace, backbone)
    assert foldstack(workspace, "folds") == 0
    return workspace


def model_of(root: Path) -> dict[str, bytes]:
    return files(root / "oof/v/seed0/fold0/model")


def test_turned_labels_of_the_fold_change_nothing(root):
    assert foldstack(root, "train", "--fold", "0") == 0
    before = model_of(root)
    ws, run = run_of(root, "v")
    held = run.folds.held_out((0,))
    turn_labels(root, set(ws.competition.train.ids[held][:6]))
    assert foldstack(root, "folds", "--force") == 0
    assert run_of(root, "v")[1].folds.held_out((0,)).tolist() == held.tolist()
    assert foldstack(root, "train", "--fold", "0", "--force") == 0
    assert model_of(root) == before


def test_the_same_command_gives_the_same_bytes(root, tmp_path, backbone, read):
    """Whether the vectors are computed, as in the other workspace, or found, as in fold 1."""
    other = make_workspace(tmp_path / "o", models=["v"], folds={"count": 3, "kind": "kfold"})
    add_vectors(other, backbone)
    assert foldstack(other, "folds") == 0
    assert foldstack(root, "train", "--fold", "1") == 0
    for place in (root, other):
        assert foldstack(place, "train", "--fold", "0") == 0
    assert read == [30, 30]
    a, b = (files(place / "oof/v/seed0/fold0") for place in (root, other))
    assert [name for name in a if name != "run.json" and a[name] != b[name]] == []
    assert a.keys() == b.keys()


def test_a_run_of_every_stage(root, read, capsys):
    go_through(root, "train", "blend", "submit")
    assert read == [30]
    assert read_json(root / "oof/v/seed0/fold0/run.json")["features"] == 16
    assert foldstack(root, "predict", "--text", "a good film") == 0
    assert foldstack(root, "clean", "oof") == 0
    assert list((root / "oof").iterdir()) == []


def test_vectors_count_once_in_a_forecast(root):
    ws = Workspace.open(root, [])
    made = forecast(ws.competition, ws.root, "v")
    assert made.runs == 3 and made.seconds > 0 and made.learned_per_second > 0
    assert made.precision == "fp32"


def test_expit_of_logits_is_the_probability(backbone):
    rows = tiny_rows()
    learner = fitted(backbone, rows)
    np.testing.assert_array_equal(
        probabilities(learner, rows), expit(learner.predict(rows).astype(np.float64))
    )


# Weights on disk


def test_runs_share_the_backbone_s_weights(root):
    """Bug guarded: each run stored 90 MB of its own."""
    for fold in "01":
        assert foldstack(root, "train", "--fold", fold) == 0
    weights = sorted(root.glob("oof/v/seed0/fold*/model/classifier.safetensors"))
    (shared,) = root.glob("oof/.vectors/backbones/*.safetensors")
    assert len(weights) == 2 and all(path.samefile(shared) for path in weights)
    shutil.rmtree(root / "oof/.vectors")
    ws, run = run_of(root, "v")
    assert ws.store.model_dir(run.key, ws.store.read_run(run.key)) == weights[0].parent


def test_an_equal_file_is_shared_and_an_unused_one_removed(tmp_path):
    a, b, folder = (
        write(tmp_path / "a.bin", "same"),
        write(tmp_path / "b.bin", "same"),
        tmp_path / "s",
    )
    share(a, folder)
    share(b, folder)
    assert a.samefile(b) and a.stat().st_nlink == 3
    a.unlink()
    b.unlink()
    other = write(tmp_path / "c.bin", "other")
    share(other, folder)
    (left,) = folder.glob("*.bin")
    assert left.samefile(other) and left.read_text() == "other"


def test_a_damaged_shared_file_is_replaced(tmp_path):
    a, folder = write(tmp_path / "a.bin", "same"), tmp_path / "s"
    share(a, folder)
    (shared,) = folder.glob("*.bin")
    a.unlink()
    shared.write_text("damaged")
    b = write(tmp_path / "b.bin", "same")
    share(b, folder)
    assert shared.samefile(b) and b.read_text() == "same"


def test_without_hard_links_a_file_stays(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    a = write(tmp_path / "a.bin", "same")
    share(a, tmp_path / "s")
    assert a.read_text() == "same" and [p.name for p in (tmp_path / "s").iterdir()] == [".lock"]
