"""Metrics agree with scikit-learn, and say nan where it would warn or raise."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from foldstack.ensemble import Rule, fit_rule
from foldstack.errors import InputError, Interrupted
from foldstack.kinds import Kind
from foldstack.metrics import FROM_COUNTS, METRICS, Metric, from_counts, get, listed, try_on
from foldstack.metrics.names import ALIASES
from tiny import write

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


AVERAGED = {
    "f1": sk.f1_score,
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "jaccard": sk.jaccard_score,
}


def averaged(name, average):
    return lambda t, p, w: AVERAGED[name](t, p, average=average, sample_weight=w, zero_division=0)


def quadratic_kappa(t, p, w):
    # All classes named: of those that occur alone, scikit-learn would count the distances.
    labels = range(KINDS["multiclass"])
    return sk.cohen_kappa_score(t, p, labels=labels, weights="quadratic", sample_weight=w)


DECIDED = {
    ("accuracy", "binary"): sk.accuracy_score,
    ("accuracy", "multiclass"): sk.accuracy_score,
    ("accuracy", "multilabel"): sk.accuracy_score,
    ("balanced_accuracy", "binary"): sk.balanced_accuracy_score,
    ("balanced_accuracy", "multiclass"): sk.balanced_accuracy_score,
    ("matthews", "binary"): sk.matthews_corrcoef,
    ("matthews", "multiclass"): sk.matthews_corrcoef,
    ("exact_match", "multilabel"): sk.accuracy_score,
    ("quadratic_kappa", "multiclass"): quadratic_kappa,
}
for name in AVERAGED:
    DECIDED[name, "binary"] = averaged(name, "binary")
    DECIDED[f"{name}_macro", "binary"] = averaged(name, "macro")
    for average in ("micro", "macro", "weighted"):
        DECIDED[f"{name}_{average}", "multiclass"] = averaged(name, average)
        DECIDED[f"{name}_{average}", "multilabel"] = averaged(name, average)
    DECIDED[f"{name}_samples", "multilabel"] = averaged(name, "samples")


@pytest.mark.parametrize("name,kind", DECIDED)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_metrics_of_decisions_equal_scikit_learn(name, kind, weighted, seed):
    """Guards a confusion count taken from the wrong cell, and weights left out of one cell."""
    targets, _, decisions, weights = data(kind, seed)
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
        ("quadratic_kappa", "multiclass"),
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


@pytest.mark.parametrize("name,kind", [key for key in DECIDED if key[0].split("_")[0] in AVERAGED])
def test_nothing_predicted_is_zero_without_a_warning(name, kind):
    targets, _, _, _ = data(kind)
    score = get(name, kind).score(targets, np.zeros_like(targets))
    # To macro of binary, class 0 is a class, too: all of it is found.
    assert score == 0 if (kind, name[-5:]) != ("binary", "macro") else 0 < score <= 0.5


@pytest.mark.parametrize("name,kind", DECIDED)
def test_rows_without_weight_are_absent(name, kind):
    """Guards a class, or an empty row, that only undrawn rows of a resample hold."""
    targets, _, decisions, weights = data(kind)
    weights[targets[:, -1] == 1] = 0
    drawn = np.repeat(np.arange(len(targets)), weights.astype(int))
    wanted = get(name, kind).score(targets[drawn], decisions[drawn])
    assert get(name, kind).score(targets, decisions, weights) == pytest.approx(wanted, nan_ok=True)
    assert np.isnan(get(name, kind).score(targets, decisions, np.zeros(len(targets))))


def test_jaccard_of_labels_counts_an_empty_row_predicted_empty_as_right():
    """scikit-learn's jaccard_samples, beside it, counts it 0."""
    targets = np.array([[0.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    decisions = np.array([[0.0, 0, 0], [1, 0, 1], [1, 0, 0]])
    assert get("jaccard", "multilabel").score(targets, decisions) == pytest.approx((1 + 1 / 3) / 3)
    samples = get("jaccard_samples", "multilabel")
    assert samples.score(targets, decisions) == pytest.approx(1 / 3 / 3)
    rows = data("multilabel")[0]
    rows[:, 0] = 1  # Without empty rows, the two are one.
    wanted = samples.score(rows, 1 - rows)
    assert get("jaccard", "multilabel").score(rows, 1 - rows) == wanted


def test_kappa_counts_the_distance_over_a_class_that_does_not_occur():
    """Guards scikit-learn's default, by which grades 0 and 3 of 0, 1, 3 are two steps apart."""
    targets, decisions = np.eye(4)[[0, 1, 3, 3]], np.eye(4)[[0, 1, 3, 0]]
    wanted = quadratic_kappa([0, 1, 3, 3], [0, 1, 3, 0], None)
    score = get("quadratic_kappa", "multiclass").score(targets, decisions)
    assert score == pytest.approx(wanted)
    assert score != sk.cohen_kappa_score([0, 1, 3, 3], [0, 1, 3, 0], weights="quadratic")
    assert get("quadratic_kappa", "multiclass").score(targets, targets[[3, 3, 0, 0]]) < 0


def test_f1_macro_leaves_out_absent_classes_but_keeps_absent_labels():
    """As scikit-learn does: a class nobody names is no class of these rows; a label is."""
    targets = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert get("f1_macro", "multiclass").score(targets, targets) == 1
    assert get("f1_macro", "multilabel").score(targets, targets) == pytest.approx(2 / 3)


def test_scores_from_counts_are_elementwise():
    """Guards the threshold search: all thresholds at once must equal one after another."""
    counts = np.random.default_rng(0).integers(0, 5, (4, 50)).astype(float)
    for name in FROM_COUNTS:
        alone = [float(from_counts(name, *column)) for column in counts.T]
        np.testing.assert_array_equal(from_counts(name, *counts), alone)


def test_shapes_that_numpy_would_broadcast_are_refused():
    """Guards the (n,) beside (n, 1) that silently becomes (n, n)."""
    targets, probabilities, _, _ = data("binary")
    with pytest.raises(ValueError, match=r"\(60, 1\) and predictions \(60,\) must both"):
        get("log_loss", "binary").score(targets, probabilities[:, 0])


def test_unknown_and_unfitting_names_are_told_what_would_do():
    with pytest.raises(InputError) as refused:
        get("roc_aux", "binary")
    assert str(refused.value) == "metric 'roc_aux' is not known: did you mean 'roc_auc'?"
    with pytest.raises(InputError) as refused:
        get("f1", "multiclass")
    assert str(refused.value) == (
        "metric 'f1' does not fit kind 'multiclass' (it is for binary): choose one of "
        "roc_auc_ovr, log_loss, accuracy, balanced_accuracy, f1_micro, f1_macro, f1_weighted, "
        "precision_micro, precision_macro, precision_weighted, recall_micro, recall_macro, "
        "recall_weighted, jaccard_micro, jaccard_macro, jaccard_weighted, matthews, "
        "quadratic_kappa, cost, map_at_3, top_3_accuracy"
    )
    with pytest.raises(InputError) as refused:
        get("f1", "regression")
    assert str(refused.value) == (
        "metric 'f1' does not fit kind 'regression' (it is for binary): choose one of "
        "quadratic_kappa, rmse, rmsle, mse, "
        "mae, mcrmse, r2, pearson, spearman"
    )


def test_direction_and_bounds():
    """Guards an interval cut off at 0 or 1, and a blend that looks for the largest error."""
    losses = {"log_loss": "binary"} | dict.fromkeys(["rmse", "rmsle", "mae"], "regression")
    for name, kind in losses.items():
        metric = get(name, kind)
        assert (metric.greater_is_better, metric.bounds) == (False, (0, np.inf))
    signed = {"matthews": "binary", "quadratic_kappa": "multiclass"}
    for name, kind in (signed | dict.fromkeys(["pearson", "spearman"], "regression")).items():
        metric = get(name, kind)
        assert (metric.greater_is_better, metric.bounds) == (True, (-1, 1))
    assert get("r2", "regression").greater_is_better
    assert get("r2", "regression").bounds == (-np.inf, 1)
    unsigned = set(DECIDED) - {("matthews", "binary"), ("matthews", "multiclass")}
    for name, kind in unsigned - {("quadratic_kappa", "multiclass")}:
        assert get(name, kind).greater_is_better and get(name, kind).bounds == (0, 1)


# --- regression -------------------------------------------------------------------------------


def numbers(seed=0, n=60, outputs=3):
    """Targets with ties, predictions that know something of them, and weights (0 to 2)."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 6, (n, outputs)) / 2.0
    predictions = (targets + rng.normal(size=(n, outputs)) * [0.5, 1, 2][:outputs]).round(1)
    return targets, predictions, rng.integers(0, 3, n).astype(float)


def by_column(score):
    """The mean over columns of a score of rows that are repeated as often as they weigh."""

    def mean(targets, predictions, sample_weight):
        drawn = np.repeat(np.arange(len(targets)), sample_weight.astype(int))
        columns = zip(targets[drawn].T, predictions[drawn].T, strict=True)
        return np.mean([score(t, p).statistic for t, p in columns])

    return mean


REGRESSION = {
    "rmse": sk.root_mean_squared_error,
    "mcrmse": sk.root_mean_squared_error,
    "rmsle": lambda t, p, sample_weight: sk.root_mean_squared_log_error(
        t, np.maximum(p, 0), sample_weight=sample_weight
    ),
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "pearson": by_column(stats.pearsonr),
    "spearman": by_column(stats.spearmanr),
}


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_numbers_equal_scikit_learn_and_scipy(name, outputs, weighted):
    """Guards a pooled error where columns are averaged, and weighted ranks that split ties."""
    targets, predictions, weights = numbers(outputs=outputs)
    weights = weights if weighted else np.ones(len(targets))
    wanted = REGRESSION[name](targets, predictions, sample_weight=weights)
    score = get(name, "regression").score
    assert score(targets, predictions, weights) == pytest.approx(wanted, abs=1e-12)
    assert score(targets, predictions.astype(np.float32), weights) == pytest.approx(wanted, 1e-6)


@pytest.mark.parametrize("name", ["r2", "pearson", "spearman"])
def test_a_constant_target_is_left_out_and_alone_is_nan(name):
    """0.1, whose mean over 60 rows is another number: guards a division by its rounding."""
    targets, predictions, weights = numbers()
    metric = get(name, "regression")
    without = metric.score(targets[:, 1:], predictions[:, 1:], weights)
    targets[:, 0] = 0.1
    assert metric.score(targets, predictions, weights) == without
    assert np.isnan(metric.score(targets[:, :1], predictions[:, :1]))
    # The same by weights: the only other value is in a row that is not drawn.
    targets[0, 0], weights[0] = 7, 0
    assert np.isnan(metric.score(targets[:, :1], predictions[:, :1], weights))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_counts_zero_and_is_not_left_out(name):
    """Guards a mean over columns that rises where a model gives one column up."""
    targets, predictions, _ = numbers(outputs=2)
    metric = get(name, "regression")
    alone = metric.score(targets[:, :1], predictions[:, :1])
    predictions[:, 1] = 0.1
    assert metric.score(targets, predictions) == pytest.approx(alone / 2)


def test_only_spearman_is_a_matter_of_order():
    """Guards means of ranks, which blend where the metric wants a ranking, from pearson."""
    for name in REGRESSION:
        assert get(name, "regression").wants == ("ranking" if name == "spearman" else "value")


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given,kind,name",
    [
        ("auc", "binary", "roc_auc"),
        ("auc", "multilabel", "roc_auc"),
        ("AUC", "multiclass", "roc_auc_ovr"),
        ("qwk", "multiclass", "quadratic_kappa"),
        ("f1score", "binary", "f1"),
        ("F1-macro", "multiclass", "f1_macro"),
        ("logloss", "binary", "log_loss"),
        ("ap", "binary", "average_precision"),
        ("acc", "multiclass", "accuracy"),
        ("mse", "regression", "mse"),
        ("MAP@3", "multiclass", "map_at_3"),
        ("top5", "multiclass", "top_5_accuracy"),
        ("roc_auc", "binary", "roc_auc"),
    ],
)
def test_a_metric_is_found_by_what_others_call_it(given, kind, name):
    assert get(given, kind).name == name


@pytest.mark.parametrize("alias,names", ALIASES.items(), ids=ALIASES)
def test_every_other_name_is_plain_and_of_a_metric(alias, names):
    """Guards an alias that is never looked up, and one that hides a metric."""
    assert alias == "".join(c for c in alias if c.isalnum()).lower()
    assert alias not in METRICS
    assert set(names) <= set(METRICS)


def test_a_name_that_others_use_is_refused_with_the_one_here():
    with pytest.raises(InputError) as refused:
        get("qwk", "multilabel")
    assert str(refused.value).startswith(
        "metric 'qwk' ('quadratic_kappa') does not fit kind 'multilabel' (it is for multiclass"
    )


def test_the_metrics_of_a_kind_are_listed_shortly():
    assert listed(Kind.REGRESSION, 90) == [
        "metrics of kind regression: quadratic_kappa, rmse, rmsle, mse, mae, mcrmse, r2, pearson,",
        "spearman",
    ]
    (*_, last) = lines = listed(Kind.MULTICLASS, 60)
    assert max(map(len, lines)) <= 60
    assert last == "cost, map_at_3, top_3_accuracy"
    assert "f1_weighted (likewise precision, recall, jaccard)" in " ".join(lines)


# --- metrics of the user's own ----------------------------------------------------------------


def own(root, source, kind="binary", name="metrics.py:own") -> Metric:
    write(root / "metrics.py", source)
    return get(name, kind, root=root)


def test_an_own_metric_gets_one_column_flat_and_several_as_they_are(tmp_path):
    source = "def own(targets, predictions):\n    return targets.ndim + predictions.shape[-1] / 10"
    column, columns = np.zeros((4, 1)), np.zeros((4, 3))
    assert own(tmp_path, source).score(column, column) == 1.4
    assert own(tmp_path, source, "multilabel").score(columns, columns) == 2.3
    assert own(tmp_path, source, "regression").score(column, column) == 1.4


def test_an_own_metric_is_described_by_attributes(tmp_path):
    plain = "def own(targets, predictions):\n    return 0.25\n"
    metric = own(tmp_path, plain)
    assert (metric.name, metric.kinds) == ("metrics.py:own", {"binary"})
    assert (metric.wants, metric.greater_is_better) == ("probability", True)
    assert metric.bounds == (-np.inf, np.inf)
    assert own(tmp_path, plain, "regression").wants == "value"
    loss = own(tmp_path, plain + "own.wants = 'labels'\nown.greater_is_better = False\n")
    assert (loss.wants, loss.greater_is_better) == ("labels", False)
    assert loss.signed(np.zeros((2, 1)), np.zeros((2, 1))) == -0.25


def test_an_edit_within_a_second_is_seen_and_nothing_is_left_beside(tmp_path):
    """Guards Python's cache, which knows a file by its size and the second of its change."""
    rows = np.zeros((2, 1))
    for value in (1, 2):
        metric = own(tmp_path, f"def own(targets, predictions):\n    return {value}")
        assert metric.score(rows, rows) == value
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.py"]


def test_an_own_metric_may_be_written_with_whatever_python_has(tmp_path):
    """Guards dataclasses, which look up the module, and imported functions of other names."""
    source = (
        "from dataclasses import dataclass\n"
        "from sklearn.metrics import brier_score_loss as own\n"
        "@dataclass\nclass Setting:\n    power: 'float' = 2\n"
    )
    targets, probabilities, _, weights = data("binary")
    wanted = sk.brier_score_loss(targets[:, 0], probabilities[:, 0], sample_weight=weights)
    score = own(tmp_path, source).score(targets, probabilities, weights)
    assert score == pytest.approx(wanted)


def test_an_own_metric_without_weights_gets_rows_as_often_as_they_weigh(tmp_path):
    source = "def own(targets, predictions):\n    return float((targets == predictions).mean())"
    targets, _, decisions, weights = data("binary")
    metric = own(tmp_path, source)
    wanted = sk.accuracy_score(targets, decisions, sample_weight=weights)
    assert metric.score(targets, decisions, weights) == pytest.approx(wanted)
    with pytest.raises(InputError) as refused:
        metric.score(targets, decisions, weights / 2)
    assert str(refused.value) == (
        f"{tmp_path}/metrics.py: own takes no row weights, and these are not whole numbers, for "
        "which rows are repeated: give it a third parameter `weights`"
    )


def test_an_own_metric_with_weights_gets_them(tmp_path):
    source = (
        "def own(targets, predictions, weights):\n"
        "    return weights @ (targets == predictions) / weights.sum()"
    )
    targets, _, decisions, weights = data("binary")
    wanted = sk.accuracy_score(targets, decisions, sample_weight=weights / 2)
    score = own(tmp_path, source).score(targets, decisions, weights / 2)
    assert score == pytest.approx(wanted)


@pytest.mark.parametrize("parameters", ["targets, predictions", "targets, predictions, weights"])
def test_an_own_metric_writes_into_copies(tmp_path, parameters):
    """Guards out-of-fold predictions from a function that clips them in place."""
    metric = own(tmp_path, f"def own({parameters}):\n    predictions[:] = 9\n    return 1.0")
    targets, predictions = np.zeros((3, 1)), np.zeros((3, 1))
    metric.score(targets, predictions, np.ones(3))
    assert not predictions.any()


def test_an_undefined_own_metric_is_nan_and_not_refused(tmp_path):
    rows = np.zeros((2, 1))
    source = "def own(targets, predictions):\n    return float('nan')"
    assert np.isnan(own(tmp_path, source).score(rows, rows))


GOOD = "def own(targets, predictions):\n    return 1.0\n"
TAKES = (
    "function 'own' must take (targets, predictions), and may take `weights` and columns of the "
    "training file by their names"
)
REFUSED = {
    "name": ("def owl(t, p):\n    return 1", "there is no function 'own': did you mean 'owl'?"),
    "nothing": (
        "own = 1\nfrom os.path import join as owns",
        "there is no function 'own': write `def own(targets, predictions)`",
    ),
    "syntax": (
        "def own(targets, predictions)\n    return 1",
        "the file does not import (SyntaxError: expected ':' (metrics.py, line 1)): fix it",
    ),
    "import": (
        "import nowhere_at_all\n" + GOOD,
        "the file does not import (ModuleNotFoundError: No module named 'nowhere_at_all'): fix it",
    ),
    "exit": ("raise SystemExit(3)", "the file does not import (SystemExit: 3): fix it"),
    "one parameter": ("def own(targets):\n    return 1", TAKES),
    "no names": ("def own(targets, predictions, extra, /):\n    return 1", TAKES),
    "written in C": ("own = max", TAKES),
    "wants": (
        GOOD + "own.wants = 'label'",
        "own.wants is 'label': for kind binary it is one of probability, ranking, labels",
    ),
    "wants values": (
        GOOD + "own.wants = 'value'",
        "own.wants is 'value': for kind binary it is one of probability, ranking, labels",
    ),
    "direction": (
        GOOD + "own.greater_is_better = 'no'",
        "own.greater_is_better is 'no': it is True or False",
    ),
    "attribute": (
        GOOD + "own.greater_is_beter = False",
        "own.greater_is_beter is not an attribute of a metric: did you mean 'greater_is_better'?",
    ),
}


@pytest.mark.parametrize("source,sentence", REFUSED.values(), ids=REFUSED)
def test_a_metrics_file_that_will_not_do_is_told_why(tmp_path, source, sentence):
    with pytest.raises(InputError) as refused:
        own(tmp_path, source)
    assert str(refused.value) == f"{tmp_path}/metrics.py: {sentence}"


def test_an_own_regression_metric_does_not_want_labels(tmp_path):
    with pytest.raises(InputError) as refused:
        own(tmp_path, GOOD + "own.wants = 'labels'", "regression")
    assert str(refused.value) == (
        f"{tmp_path}/metrics.py: own.wants is 'labels': for kind regression it is one of value, "
        "ranking"
    )


def test_a_missing_metrics_file_is_named(tmp_path):
    with pytest.raises(InputError) as refused:
        get("metrics.py:own", "binary", root=tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/metrics.py: the file is missing: metric 'metrics.py:own' expects it to hold "
        "`def own(targets, predictions)`"
    )


@pytest.mark.parametrize(
    "name", ["scores.py:own", "../metrics.py:own", "metrics.py", "metrics.py:", "metrics.py:a b"]
)
def test_nothing_but_metrics_py_is_executed(tmp_path, name):
    """Guards a competition.yaml from elsewhere that names a file outside the workspace."""
    with pytest.raises(InputError) as refused:
        get(name, "binary", root=tmp_path)
    assert str(refused.value) == (
        f"metric '{name}' is not of the form metrics.py:NAME, where NAME is a function in the "
        "workspace's metrics.py"
    )


@pytest.mark.parametrize("value,kind", [("None", "NoneType"), ("'0.5'", "str"), ("[1.0]", "list")])
def test_an_own_metric_returns_a_number(tmp_path, value, kind):
    metric, rows = own(tmp_path, f"def own(t, p):\n    return {value}"), np.zeros((2, 1))
    with pytest.raises(InputError) as refused:
        metric.score(rows, rows)
    assert str(refused.value) == (
        f"{tmp_path}/metrics.py: own returned a value of type {kind}: a metric returns a number"
    )


FAILS = {
    "raises": ("raise KeyError('x')", "own failed (KeyError: 'x', line 2): fix it"),
    "exits": ("raise SystemExit(3)", "own failed (SystemExit: 3, line 2): fix it"),
    "number too large": ("return 10**400", "own returned a number too large for a score"),
}


@pytest.mark.parametrize("weighted", ["", ", weights"])
@pytest.mark.parametrize("line,sentence", FAILS.values(), ids=FAILS)
def test_an_own_metric_that_fails_is_named_with_its_line(tmp_path, line, sentence, weighted):
    """SystemExit ended the process without a word."""
    metric, rows = own(tmp_path, f"def own(t, p{weighted}):\n    {line}"), np.zeros((2, 1))
    with pytest.raises(InputError) as refused:
        metric.score(rows, rows)
    assert str(refused.value) == f"{tmp_path}/metrics.py: {sentence}"


def test_an_interruption_within_an_own_metric_is_none_of_its_failures(tmp_path):
    source = "from foldstack.errors import Interrupted\ndef own(t, p):\n    raise Interrupted(2)"
    rows = np.zeros((2, 1))
    with pytest.raises(Interrupted):
        own(tmp_path, source).score(rows, rows)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_an_own_metric_without_a_score_is_refused_before_training(tmp_path, kind, value):
    """After hours of training there would be nothing to choose by."""
    metric = own(tmp_path, f"def own(t, p):\n    return float('{value}')", kind)
    with pytest.raises(InputError) as refused:
        try_on(metric, np.eye(3), tmp_path / "metrics.py")
    assert str(refused.value) == (
        f"{tmp_path}/metrics.py: own gives {value} for predictions that are nearly right for all 3 "
        "training rows: a metric is a finite number there"
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_an_own_log_loss_is_tried_without_certain_predictions(tmp_path, kind):
    """0 log 0 is nan, and no fault of such a metric."""
    source = (
        "import numpy as np\n"
        "def own(t, p):\n    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()"
    )
    try_on(own(tmp_path, source, kind), np.eye(3), tmp_path / "metrics.py")


# --- thresholds for them ----------------------------------------------------------------------


def best_cut(metric, targets, probabilities):
    """The best score over every cut between distinct values, below and above them all."""
    values = np.unique(probabilities)
    cuts = [-1.0, *((values[1:] + values[:-1]) / 2), 2.0]
    scores = [metric.score(targets, (probabilities >= cut).astype(float)) for cut in cuts]
    return np.nanmax(scores)


@pytest.mark.parametrize("name", FROM_COUNTS)
def test_binary_thresholds_are_exact_for_every_metric_of_counts(name):
    metric = get(name, "binary")
    for seed in range(10):
        targets, probabilities, _, _ = data("binary", seed, n=25)
        rule = fit_rule(metric, "binary", targets, probabilities)
        found = metric.score(targets, rule.apply(probabilities))
        assert found == best_cut(metric, targets, probabilities)


@pytest.mark.parametrize("one", AVERAGED)
def test_multilabel_thresholds_are_exact_label_by_label(one):
    """Guards a common threshold where each label could have its own."""
    targets, probabilities, _, _ = data("multilabel", n=30)
    binary = get(one, "binary")
    for average in ("macro", "weighted"):
        metric = get(f"{one}_{average}", "multilabel")
        rule = fit_rule(metric, "multilabel", targets, probabilities, shrinkage=0)
        decisions = rule.apply(probabilities)
        for k in range(3):
            column = slice(k, k + 1)
            wanted = best_cut(binary, targets[:, column], probabilities[:, column])
            assert binary.score(targets[:, column], decisions[:, column]) == wanted
    micro = get(f"{one}_micro", "multilabel")
    rule = fit_rule(micro, "multilabel", targets, probabilities, shrinkage=0)
    found = micro.score(targets, rule.apply(probabilities))
    assert found >= best_cut(micro, targets, probabilities)


@pytest.mark.parametrize("name", ["jaccard", "exact_match"])
def test_metrics_of_rows_never_fall_below_half(name):
    targets, probabilities, _, _ = data("multilabel", n=30)
    metric = get(name, "multilabel")
    rule = fit_rule(metric, "multilabel", targets, probabilities)
    found = metric.score(targets, rule.apply(probabilities))
    assert found >= metric.score(targets, Rule("multilabel", (0.5,) * 3).apply(probabilities))


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_an_own_loss_of_labels_is_made_small(tmp_path, kind):
    """Guards the grid from the largest loss, and from counts that an own metric has not."""
    source = (
        "def own(targets, predictions):\n"
        "    missed, false = targets > predictions, targets < predictions\n"
        "    return float(4 * missed.mean() + false.mean())\n"
        "own.wants = 'labels'\nown.greater_is_better = False\n"
    )
    metric = own(tmp_path, source, kind)
    targets, probabilities, _, _ = data(kind, n=30)
    rule = fit_rule(metric, kind, targets, probabilities)
    losses = [
        metric.score(targets, (probabilities >= cut).astype(float))
        for cut in (*np.unique(probabilities), 0.5)
    ]
    assert metric.score(targets, rule.apply(probabilities)) == min(losses) < max(losses)


# Many weights


@pytest.mark.parametrize(
    "name", ["roc_auc", "average_precision", "log_loss", "f1_macro", "accuracy"]
)
def test_rows_prepared_once_score_as_they_do_alone(name):
    """Bootstraps: the same bits, also where a resample has one class only, or no row at all."""
    rng = np.random.default_rng(0)
    metric = get(name, "multilabel" if name != "accuracy" else "binary")
    outputs = 1 if name == "accuracy" else 3
    targets = (rng.random((40, outputs)) < 0.4).astype(float)
    predictions = rng.random((40, outputs)).round(1)
    if metric.wants == "labels":
        predictions = predictions.round()
    score = metric.of_rows(targets, predictions)
    draws = [rng.integers(3, size=40).astype(float) for _ in range(20)]
    draws += [np.zeros(40), targets[:, 0], np.ones(40)]
    for weights in draws:
        np.testing.assert_equal(score(weights), metric.score(targets, predictions, weights))
