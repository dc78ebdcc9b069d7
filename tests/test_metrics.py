"""Metrics agree with scikit-learn, and say nan where it would warn or raise."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from foldstack.errors import InputError
from foldstack.metrics import from_counts, get

KINDS = {"binary": 1, "multiclass": 4, "multilabel": 3}


@pytest.fixture(autouse=True)
def no_warnings():
    """Bootstraps would repeat a warning hundreds of times."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def data(kind, seed=0, n=60):
    """Targets, probabilities with many ties, decisions and weights (0 to 2) of n rows."""
    rng = np.random.default_rng(seed)
    outputs = KINDS[kind]
    probabilities = rng.integers(1, 8, (n, outputs)) / 8
    weights = rng.integers(0, 3, n).astype(float)
    if kind == "multiclass":
        targets = np.eye(outputs)[rng.integers(outputs, size=n)]
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return targets, probabilities, np.eye(outputs)[probabilities.argmax(axis=1)], weights
    targets = (rng.random((n, outputs)) < 0.4).astype(float)
    return targets, probabilities, (probabilities >= 0.6).astype(float), weights


def plain(kind, array):
    """Class indices or a single column, as scikit-learn takes them."""
    return {"binary": array[:, 0], "multiclass": array.argmax(axis=1), "multilabel": array}[kind]


def f1(average):
    return lambda t, p, w: sk.f1_score(t, p, average=average, sample_weight=w, zero_division=0)


DECIDED = {
    ("accuracy", "binary"): sk.accuracy_score,
    ("accuracy", "multiclass"): sk.accuracy_score,
    ("accuracy", "multilabel"): sk.accuracy_score,
    ("balanced_accuracy", "binary"): sk.balanced_accuracy_score,
    ("balanced_accuracy", "multiclass"): sk.balanced_accuracy_score,
    ("matthews", "binary"): sk.matthews_corrcoef,
    ("matthews", "multiclass"): sk.matthews_corrcoef,
    ("f1", "binary"): f1("binary"),
    ("f1_macro", "binary"): f1("macro"),
    ("f1_macro", "multiclass"): f1("macro"),
    ("f1_macro", "multilabel"): f1("macro"),
    ("f1_micro", "multiclass"): f1("micro"),
    ("f1_micro", "multilabel"): f1("micro"),
    ("f1_weighted", "multiclass"): f1("weighted"),
    ("f1_weighted", "multilabel"): f1("weighted"),
    ("f1_samples", "multilabel"): f1("samples"),
}


@pytest.mark.parametrize("name,kind", DECIDED)
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_decisions_equal_scikit_learn(name, kind, weighted):
    """Guards a confusion count taken from the wrong cell, and weights left out of one cell."""
    targets, _, decisions, weights = data(kind)
    weights = weights if weighted else None
    reference = DECIDED[name, kind]
    if reference.__module__.startswith("sklearn"):
        wanted = reference(plain(kind, targets), plain(kind, decisions), sample_weight=weights)
    else:
        wanted = reference(plain(kind, targets), plain(kind, decisions), weights)
    metric = get(name, kind)
    assert metric.wants == "labels" and metric.greater_is_better
    assert metric.score(targets, decisions, weights) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_rankings_equal_scikit_learn_with_ties_and_weights(seed, weighted):
    """Guards a sort that counts a tied pair as won or lost instead of half."""
    targets, probabilities, _, weights = data("binary", seed)
    assert len(np.unique(probabilities)) < 8
    weights = weights if weighted else None
    for name, reference in {
        "roc_auc": sk.roc_auc_score,
        "average_precision": sk.average_precision_score,
    }.items():
        wanted = reference(targets[:, 0], probabilities[:, 0], sample_weight=weights)
        score = get(name, "binary").score(targets, probabilities, weights)
        assert score == pytest.approx(wanted, abs=1e-12)


def test_rankings_of_several_columns_are_means_over_columns():
    targets, probabilities, _, weights = data("multilabel")
    for name, reference in {
        "roc_auc": sk.roc_auc_score,
        "average_precision": sk.average_precision_score,
    }.items():
        wanted = reference(targets, probabilities, average="macro", sample_weight=weights)
        score = get(name, "multilabel").score(targets, probabilities, weights)
        assert score == pytest.approx(wanted)
    targets, probabilities, _, _ = data("multiclass")
    wanted = sk.roc_auc_score(targets.argmax(axis=1), probabilities, multi_class="ovr")
    assert get("roc_auc_ovr", "multiclass").score(targets, probabilities) == pytest.approx(wanted)


def test_a_label_of_one_class_is_skipped():
    """Guards a rare label that a resample misses from turning the whole mean into nan."""
    targets, probabilities, _, _ = data("multilabel")
    metric = get("roc_auc", "multilabel")
    without = metric.score(targets[:, 1:], probabilities[:, 1:])
    targets[:, 0] = 0
    assert metric.score(targets, probabilities) == without


@pytest.mark.parametrize("kind", KINDS)
def test_log_loss_equals_scikit_learn_and_is_clipped(kind):
    targets, probabilities, _, weights = data(kind)
    metric = get("log_loss", kind)
    assert not metric.greater_is_better
    if kind == "multiclass":
        wanted = sk.log_loss(targets.argmax(axis=1), probabilities, sample_weight=weights)
    else:
        columns = zip(targets.T, probabilities.T, strict=True)
        wanted = np.mean([sk.log_loss(t, p, sample_weight=weights) for t, p in columns])
    assert metric.score(targets, probabilities, weights) == pytest.approx(wanted)
    assert metric.signed(targets, probabilities, weights) == pytest.approx(-wanted)
    # Certain and wrong, everywhere; float32 has no number between 1 - 1e-16 and 1.
    assert np.isfinite(metric.score(targets, (1 - targets).astype(np.float32)))


@pytest.mark.parametrize(
    "name,kind",
    [
        ("roc_auc", "binary"),
        ("roc_auc", "multilabel"),
        ("roc_auc_ovr", "multiclass"),
        ("average_precision", "binary"),
        ("average_precision", "multilabel"),
        ("balanced_accuracy", "binary"),
        ("balanced_accuracy", "multiclass"),
        ("matthews", "binary"),
        ("matthews", "multiclass"),
    ],
)
def test_one_class_only_is_nan_without_a_warning(name, kind):
    """Guards the bootstrap from an exception, or from a score that counts as 0."""
    targets, probabilities, decisions, _ = data(kind)
    predictions = decisions if get(name, kind).wants == "labels" else probabilities
    same = np.repeat(targets[:1], len(targets), axis=0)
    assert np.isnan(get(name, kind).score(same, predictions))
    # The same by weights: the rows of the other classes are not drawn.
    weights = (targets == targets[0]).all(axis=1).astype(float)
    assert np.isnan(get(name, kind).score(targets, predictions, weights))


@pytest.mark.parametrize("name,kind", [key for key in DECIDED if key[0].startswith("f1")])
def test_nothing_predicted_is_zero_without_a_warning(name, kind):
    targets, _, _, _ = data(kind)
    score = get(name, kind).score(targets, np.zeros_like(targets))
    assert score == 0 if name != "f1_macro" or kind != "binary" else 0 < score < 0.5


def test_f1_macro_leaves_out_absent_classes_but_keeps_absent_labels():
    """As scikit-learn does: a class nobody names is no class of these rows; a label is."""
    targets = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert get("f1_macro", "multiclass").score(targets, targets) == 1
    assert get("f1_macro", "multilabel").score(targets, targets) == pytest.approx(2 / 3)


def test_scores_from_counts_are_elementwise():
    """Guards the threshold search: all thresholds at once must equal one after another."""
    counts = np.random.default_rng(0).integers(0, 5, (4, 50)).astype(float)
    for name in ("f1", "f1_macro", "accuracy", "balanced_accuracy", "matthews"):
        alone = [float(from_counts(name, *column)) for column in counts.T]
        np.testing.assert_array_equal(from_counts(name, *counts), alone)


def test_shapes_that_numpy_would_broadcast_are_refused():
    """Guards the (n,) beside (n, 1) that silently becomes (n, n)."""
    targets, probabilities, _, _ = data("binary")
    with pytest.raises(ValueError, match=r"\(60, 1\) and predictions \(60,\) must both"):
        get("log_loss", "binary").score(targets, probabilities[:, 0])


def test_unknown_and_unfitting_names_are_told_what_would_do():
    with pytest.raises(InputError) as refused:
        get("rocauc", "binary")
    assert str(refused.value) == "metric 'rocauc' is not known: did you mean 'roc_auc'?"
    with pytest.raises(InputError) as refused:
        get("f1", "multiclass")
    assert str(refused.value) == (
        "metric 'f1' does not fit kind 'multiclass' (it is for binary): choose one of "
        "roc_auc_ovr, log_loss, accuracy, balanced_accuracy, f1_micro, f1_macro, f1_weighted, "
        "matthews"
    )
