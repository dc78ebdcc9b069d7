"""C: auto is chosen inside a run's own rows, by the loss that is documented."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from foldstack.kinds import Kind
from foldstack.learners import penalty
from foldstack.learners.penalty import GRID, choose_penalty, inner_folds, square_root
from foldstack.learners.regressions import LinearModel
from foldstack.metrics import get
from foldstack.rows import Rows
from makers import make_rows, make_task
from test_tfidf import fitted, linear_learner, sentence_rows


def noisy(n: int = 90, kind: str = "binary", share: float = 0.3) -> Rows:
    """Texts of a word of the label, wrong in a share of the rows, and of words without meaning."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, n)
    shown = np.where(rng.random(n) < share, 1 - label, label)
    texts = [f"w{i} {'good' if s else 'bad'} n{rng.integers(20)}" for i, s in enumerate(shown)]
    other = rng.integers(0, 3, n)
    targets = {
        "binary": label,
        "multiclass": np.eye(3)[np.where(other == 2, 2, label)],
        "multilabel": np.column_stack([label, other == 0, other == 1]),
        "regression": label + 0.1 * rng.standard_normal(n),
    }
    return make_rows(texts, targets[kind], weights=rng.random(n) + 0.5)


def chosen(rows: Rows, kind: str = "binary", **settings: object) -> dict:
    learner = linear_learner(kind, rows.targets.shape[1], C="auto", **settings)
    return learner.fit(rows, None, Path("unused"))["auto"]["C"]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_the_losses_are_those_of_a_slow_cross_validation(kind: str) -> None:
    """Fitted fold by fold on the n-grams themselves, by scikit-learn."""
    rows = noisy(kind=kind)
    learner = fitted(rows, kind)
    x = learner._features([(text,) for text in rows.joined_texts()])
    sample, folds = inner_folds(rows)
    assert sorted(sample) == list(range(90))
    x, rows = x[sample], rows.take(sample)
    y, w = rows.targets, rows.weights
    losses = []
    for c in GRID:
        each = np.zeros(90)
        for fold in range(3):
            a, b = folds != fold, folds == fold
            if kind == "regression":
                values = Ridge(1 / (2 * c)).fit(x[a], y[a], w[a]).predict(x[b])
                each[b] = (values.reshape(b.sum(), -1) - y[b])[:, 0] ** 2
                continue
            if kind == "multiclass":
                p = LogisticRegression(C=c).fit(x[a], y[a].argmax(axis=1), w[a]).predict_proba(x[b])
                each[b] = -(y[b] * np.log(p)).sum(axis=1)
                continue
            for k in range(y.shape[1]):
                p = LogisticRegression(C=c).fit(x[a], y[a, k], w[a]).predict_proba(x[b])[:, 1]
                cross = -(y[b, k] * np.log(p) + (1 - y[b, k]) * np.log(1 - p))
                each[b] += cross / y.shape[1]
        losses.append(np.average(each, weights=w))
    model = LinearModel(Kind(kind), 1.0)
    found = choose_penalty(model, make_task(kind, y.shape[1]), x, rows, folds)
    name = "squared error" if kind == "regression" else "log loss"
    assert f"the best {name} of 3 inner folds of 90 rows (C 4: " in found.why
    shown = [float(each) for each in re.findall(r": ([.\d]+)", found.why)]
    np.testing.assert_allclose(shown, losses, rtol=5e-3)  # L-BFGS stops a little earlier
    assert found.value == GRID[np.flatnonzero(losses <= 1.01 * np.min(losses))[0]]


def test_it_is_loose_for_clear_labels_and_strong_for_noisy_ones() -> None:
    assert chosen(noisy(share=0))["value"] == 64
    assert chosen(noisy(share=0.4))["value"] == 4


def test_the_chosen_value_is_the_penalty_of_the_fit() -> None:
    rows = noisy(share=0)
    loose = fitted(rows, C=64)
    np.testing.assert_array_equal(fitted(rows, C="auto").coef, loose.coef)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_naive_bayes_has_a_penalty_of_its_own(kind: str) -> None:
    """Ratios come from the other inner folds: the held-out labels do not choose their features."""
    rows = noisy(kind=kind)
    assert chosen(rows, kind, naive_bayes=True)["value"] in GRID
    assert chosen(rows, kind, naive_bayes=True) != chosen(rows, kind)


def test_naive_bayes_ratios_do_not_know_the_held_out_labels() -> None:
    """Words of no meaning would look as if they told the label, and the loosest C would be chosen."""
    rng = np.random.default_rng(0)
    texts = [f"{' '.join(f'n{k}' for k in rng.integers(0, 40, 6))}" for _ in range(120)]
    rows = make_rows(texts, rng.integers(0, 2, 120))
    assert chosen(rows, naive_bayes=True)["value"] == 4


def test_duplicates_share_an_inner_fold() -> None:
    rows = make_rows([f"text {i // 3}" for i in range(30)], np.arange(30) % 2)
    grouped = Rows(**{**vars(rows), "groups": np.arange(30) // 3})
    sample, folds = inner_folds(grouped)
    assert all(len(set(folds[sample // 3 == group])) == 1 for group in range(10))
    assert set(folds) == {0, 1, 2}


def test_few_rows_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded in rows, in characters, and by classes; rows without weight do not count."""
    rows = make_rows([f"text {i:03}" for i in range(200)], np.arange(200) % 2, [0] * 20 + [1] * 180)
    monkeypatch.setattr(penalty, "MOST_ROWS", 100)
    assert len(inner_folds(rows)[0]) == 100 and inner_folds(rows)[0].min() >= 20
    classes = make_rows(rows.texts, np.eye(40)[np.arange(200) % 40])
    assert len(inner_folds(classes)[0]) == 50
    monkeypatch.setattr(penalty, "MOST_CHARACTERS", 8 * 30)
    assert len(inner_folds(rows)[0]) == 30


@pytest.mark.parametrize(
    "rows",
    [
        make_rows(["a film", "a plot"], [0, 1]),
        make_rows(["a film"] * 9, [1] * 9),
    ],
    ids=["two rows", "one label"],
)
def test_what_cannot_be_compared_has_the_default(rows: Rows) -> None:
    learner = linear_learner(C="auto")
    facts = learner.fit(rows, None, Path("unused"))
    reasons = {"value": 4.0, "why": "too few rows for inner folds"}
    assert facts["auto"]["C"] == reasons
    assert learner.model.C == 4.0


def test_no_text_is_short_enough_to_compare(monkeypatch) -> None:
    monkeypatch.setattr(penalty, "MOST_CHARACTERS", 3)
    assert chosen(noisy()) == {"value": 4.0, "why": "too few rows for inner folds"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_that_overflow_are_not_compared() -> None:
    rows = noisy(kind="regression")
    found = chosen(replace(rows, targets=rows.targets * 1e200), "regression")
    assert found == {"value": 4.0, "why": "the squared error of inner folds is not finite"}


def test_a_metric_of_order_is_compared_itself() -> None:
    """Spearman of shrunken values is another one than their squared error asks for."""
    rows = noisy(kind="regression")
    learner = linear_learner("regression", 1, C="auto")
    learner.task = replace(learner.task, metric=get("spearman", Kind.REGRESSION))
    facts = learner.fit(rows, None, Path("unused"))
    assert "the best spearman of 3 inner folds" in facts["auto"]["C"]["why"]


def test_square_features_have_the_same_inner_products() -> None:
    rows = sentence_rows()
    x = fitted(rows)._features([(text,) for text in rows.joined_texts()])
    z = square_root(x)
    assert z.shape == (24, 24)
    np.testing.assert_allclose(z @ z.T, (x @ x.T).toarray(), atol=1e-6)
