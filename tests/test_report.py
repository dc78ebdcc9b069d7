"""Reports are scikit-learn's lines, with names of the user's and a mean of what is defined."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from foldstack.report import format_report, label_report, read_report, target_report


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def data(kind, n=80):
    """Targets and decisions of n rows; the last class or label is never decided."""
    rng = np.random.default_rng(0)
    if kind == "multiclass":
        return np.eye(3)[rng.integers(3, size=n)], np.eye(3)[rng.integers(2, size=n)]
    targets, decisions = (rng.random((2, n, 1 if kind == "binary" else 3)) < 0.4).astype(float)
    decisions[:, 2:] = 0
    return targets, decisions


def plain(kind, array):
    """Class indices or a single column, as scikit-learn takes them."""
    return {"binary": array[:, 0], "multiclass": array.argmax(axis=1), "multilabel": array}[kind]


NAMES = {"binary": ["no", "yes"], "multiclass": ["x", "y", "z"], "multilabel": ["p", "q", "r"]}


@pytest.mark.parametrize("kind", NAMES)
def test_the_report_is_scikit_learns(kind):
    targets, decisions = data(kind)
    arguments = {"target_names": NAMES[kind], "zero_division": 0}
    given = plain(kind, targets), plain(kind, decisions)
    wanted = sk.classification_report(*given, output_dict=True, **arguments)
    report = label_report(targets, decisions, NAMES[kind], kind)
    assert list(report.columns) == ["precision", "recall", "f1", "support"]
    assert list(report.index) == list(wanted)
    accuracy = wanted.pop("accuracy", None)
    if accuracy is not None:
        assert report.loc["accuracy", "f1"] == accuracy
        assert np.isnan(report.loc["accuracy", ["precision", "recall"]].astype(float)).all()
    for name, line in wanted.items():
        assert list(report.loc[name]) == list(line.values())
    # As text: the same words in the same places, but for the name of F1 and the rule.
    text = sk.classification_report(*given, digits=4, **arguments)
    lines = [line.split() for line in text.replace("f1-score", "f1").splitlines() if line]
    header, rule, *rows = format_report(report).splitlines()
    assert header.split() == ["label", *lines[0]] and set(rule) == {"-", " "}
    assert [row.split() for row in rows] == lines[1:]


def test_the_text_is_aligned_and_names_may_be_those_of_averages():
    """Guards a class called 'accuracy', whose line an average of that name would replace."""
    targets = np.eye(2)[[0, 0, 1, 1]]
    report = label_report(targets, np.eye(2)[[0, 0, 1, 0]], ["accuracy", "two words"], "multiclass")
    assert format_report(report) == (
        "label         precision  recall      f1  support\n"
        "------------  ---------  ------  ------  -------\n"
        "accuracy         0.6667  1.0000  0.8000        2\n"
        "two words        1.0000  0.5000  0.6667        2\n"
        "accuracy                         0.7500        4\n"
        "macro avg        0.8333  0.7500  0.7333        4\n"
        "weighted avg     0.8333  0.7500  0.7333        4"
    )


def test_the_kind_says_what_one_label_a_row_means():
    """Guards one label a row by chance from being read as classes, and the other way round."""
    targets, decisions = data("multiclass")
    classes = label_report(targets, decisions, NAMES["multiclass"], "multiclass")
    labels = label_report(targets, decisions, NAMES["multiclass"], "multilabel")
    assert list(classes.index[3:]) == ["accuracy", "macro avg", "weighted avg"]
    assert list(labels.index[3:]) == ["micro avg", "macro avg", "weighted avg", "samples avg"]
    pd.testing.assert_frame_equal(classes[:3], labels[:3])


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_a_class_that_does_not_occur_has_its_line(kind):
    """Guards scikit-learn's refusal where fewer classes occur than have names."""
    targets = np.zeros((3, 1)) if kind == "binary" else np.eye(3)[[0, 0, 0]]
    report = label_report(targets, targets, NAMES[kind], kind)
    assert list(report.loc[NAMES[kind][-1]]) == [0, 0, 0, 0]
    assert report.loc["accuracy", "f1"] == 1


def test_a_single_label_is_no_binary_target():
    """Guards a line for the absence of the only label."""
    targets = np.array([[1.0], [0], [1]])
    report = label_report(targets, np.ones((3, 1)), ["p"], "multilabel")
    assert list(report.index) == ["p", "micro avg", "macro avg", "weighted avg"]
    assert list(report.loc["p"]) == pytest.approx([2 / 3, 1, 0.8, 2])


def test_the_report_of_targets_has_a_line_each_and_their_mean():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(50, 2))
    predictions = targets + rng.normal(size=(50, 2))
    report = target_report(targets, predictions, ["price", "age"])
    assert list(report.index) == ["price", "age", "mean"]
    t, p = targets[:, 1], predictions[:, 1]
    wanted = {
        "rmse": sk.root_mean_squared_error(t, p),
        "mae": sk.mean_absolute_error(t, p),
        "r2": sk.r2_score(t, p),
        "pearson": stats.pearsonr(t, p).statistic,
        "spearman": stats.spearmanr(t, p).statistic,
    }
    assert list(report.columns) == list(wanted)
    np.testing.assert_allclose(report.loc["age"], list(wanted.values()))
    np.testing.assert_allclose(report.loc["mean"], report[:2].mean())


def test_what_is_undefined_is_blank_and_not_in_the_mean():
    targets = np.array([[1.0, 5], [2, 5], [3, 5]])
    report = target_report(targets, targets, ["varies", "constant"])
    assert format_report(report) == (
        "target      rmse     mae      r2  pearson  spearman\n"
        "--------  ------  ------  ------  -------  --------\n"
        "varies    0.0000  0.0000  1.0000   1.0000    1.0000\n"
        "constant  0.0000  0.0000\n"
        "mean      0.0000  0.0000  1.0000   1.0000    1.0000"
    )


def test_a_stored_report_is_read_as_it_was_made(tmp_path):
    """A label NA is text, and an empty cell is an undefined score."""
    made = label_report(np.eye(2), np.eye(2)[[0, 0]], ["NA", "7"], "multiclass")
    made.to_csv(tmp_path / "labels.csv")
    pd.testing.assert_frame_equal(read_report(tmp_path / "labels.csv"), made, check_exact=True)
