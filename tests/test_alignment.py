"""Runs of a model made comparable without labels: by common rows, or by those that each holds out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from foldstack import metrics
from foldstack.ensemble.alignment import align, align_held_out
from foldstack.stages.means import alignment, is_aligned
from foldstack.stages.oof import read_model
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey, write_parquet
from foldstack.workspace import Workspace
from tiny import go_through, make_workspace, seal, sentences

T = 400


def logits(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2)) * [1, 2]


def test_runs_that_differ_by_sharpness_and_bias_become_one():
    """One of three says the same, twice as surely and one more; the mean of the quantiles is between."""
    z = logits(T)
    tests = [expit(z), expit(2 * z + 1), expit(z)]
    low, high = np.quantile(z, [0.02, 0.98], axis=0)
    inside = (z > low) & (z < high)
    for aligned, test in zip(align(tests), tests, strict=True):
        found = logit(aligned(test))
        np.testing.assert_allclose(found[inside], (4 * z + 1)[inside] / 3, atol=1e-6)


def test_rows_that_no_run_was_aligned_by_are_mapped_alike_and_in_order():
    """Beyond the outermost quantile they move by as much as it does."""
    z = logits(T)
    first, second = align([expit(z), expit(z + 1)])
    new = np.linspace(-15, 15, 301)[:, None] * np.ones(2)
    np.testing.assert_allclose(logit(first(expit(new))), new + 0.5, atol=1e-3)
    np.testing.assert_allclose(second(expit(new + 1)), first(expit(new)), atol=1e-3)
    uneven = align([expit(z), expit(z**3)])[1](expit(new))
    assert (np.diff(uneven, axis=0) >= 0).all()


def test_certain_predictions_stay_finite():
    p = np.concatenate([np.zeros((200, 1)), np.ones((200, 1))])
    for aligned in align([p, 1 - p, np.full((400, 1), 0.5)]):
        assert np.isfinite(aligned(np.array([[0.0], [0.3], [1.0]]))).all()


def test_nearly_certain_predictions_stay_in_order():
    """Soft F1 leaves outputs of -60, whose probabilities float64 tells apart."""
    z = np.linspace(-60, 30, T)[:, None]
    tests = [expit(z), expit(z / 2)]
    for aligned, test in zip(align(tests), tests, strict=True):
        assert (np.diff(aligned(test), axis=0) > 0).all()


def test_too_few_rows_tell_nothing():
    z = logits(99)
    given = expit(z)
    assert all(aligned(given) is given for aligned in align([given, expit(z + 1)]))


def test_runs_of_unequal_skill_keep_unequal_spreads():
    """A calibrated run spreads by its skill: equal distributions would let noise speak as loudly."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 1))
    noise = [0.5, 0.5, 3.0]
    runs = [expit((z + s * rng.normal(size=z.shape)) / (1 + s**2)) for s in noise]
    spreads = [logit(m(run)).std() for m, run in zip(align(runs), runs, strict=True)]
    assert spreads[2] < 0.5 * spreads[0] and spreads[1] == pytest.approx(spreads[0], rel=0.05)


def test_a_collapsed_run_becomes_a_constant_and_harms_no_mean():
    """One of five runs is constant but for rounding: stretched to the others' spread it is noise."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(T * 5, 1))
    labels = rng.random(len(z)) < expit(2 * z[:, 0])
    runs = [expit(2 * z + rng.normal(size=z.shape)) for _ in range(4)]
    runs.append(0.3 + 1e-6 * rng.normal(size=z.shape))
    aligned = [m(run) for m, run in zip(align(runs), runs, strict=True)]
    assert logit(aligned[4]).std() < 0.1 * logit(aligned[0]).std()
    plain, found = (roc_auc_score(labels, np.mean(each, axis=0)) for each in (runs, aligned))
    assert found == pytest.approx(plain, abs=5e-4)


def test_rows_held_out_show_how_runs_differ_as_common_rows_do():
    """Each run's own rows, drawn alike: run 1 predicts twice the log odds plus one."""
    z = [logits(4000, seed) for seed in range(3)]
    held = [expit(z[0]), expit(2 * z[1] + 1), expit(z[2])]
    new = logits(200, seed=9)
    for aligned, run in zip(align_held_out(held), (new, 2 * new + 1, new), strict=True):
        np.testing.assert_allclose(logit(aligned(expit(run))), (4 * new + 1) / 3, atol=0.35)


def test_a_run_that_predicts_a_constant_is_mapped_to_a_constant():
    """By quantiles alone it would be mapped to the other runs' largest predictions."""
    z = logits(300)[:, :1]
    *_, constant = align_held_out([expit(z), expit(z + 1), np.full((300, 1), 0.3)])
    found = logit(constant(np.full((5, 1), 0.3)))
    own = [
        np.quantile(run, (np.arange(30) + 0.5) / 30).mean()
        for run in (z, z + 1, logit(0.3) + 0 * z)
    ]
    np.testing.assert_allclose(found, np.mean(own), atol=1e-6)


def test_the_smallest_fold_decides_whether_there_are_enough_rows():
    given = [expit(logits(n)) for n in (400, 99, 400)]
    assert all(aligned(given[0]) is given[0] for aligned in align_held_out(given))


def test_a_metric_of_probabilities_needs_no_alignment():
    for name, aligned in (("log_loss", False), ("roc_auc", True), ("f1", True)):
        assert is_aligned(metrics.get(name, "binary"), wanted=True) == aligned
        assert not is_aligned(metrics.get(name, "binary"), wanted=False)


# --- in a competition -------------------------------------------------------------------------


def shift_runs(root: Path, by: list[float]) -> None:
    """As if each fold's run were so much surer of the positive class, in all that it predicts."""
    ws = Workspace.open(root, [])
    folds, train, test = (
        ws.store.read_folds(ws.competition.train),
        ws.competition.train,
        ws.competition.test,
    )
    for fold, shift in enumerate(by):
        key = RunKey("tfidf", 0, (fold,))
        for what, rows in (("heldout", train.take(folds.held_out((fold,)))), ("test", test)):
            found = ws.store.read_predictions(key, what, rows)
            path = ws.store.run_dir(key) / f"{what}.parquet"
            write_parquet(path, rows, found.raw + shift, found.link, ["label"])
            seal(path.parent)


def pooled(root: Path, *sets: str) -> float:
    """The AUC of all out-of-fold predictions together."""
    ws = Workspace.open(root, list(sets))
    model = read_model(ws, "tfidf", ws.store.read_folds(ws.competition.train))
    return roc_auc_score(ws.competition.train.targets, model.oof)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """330 training rows, of which every fifth has the wrong label, and 5 test rows."""
    return competition(tmp_path / "w")


def competition(root: Path, **settings: object) -> Path:
    root = make_workspace(root, n=330, **settings)
    train = pd.DataFrame(sentences(330), columns=["text", "label"])
    train["label"] = np.where(train.index % 5, train["label"], 1 - train["label"])
    train.insert(0, "id", [f"r{i}" for i in train.index])
    train["writer"] = train.index % 12
    train.to_csv(root / "input/train.csv", index=False)
    test = pd.DataFrame({"id": list("abcde"), "text": [text for text, _ in sentences(5)]})
    test["writer"] = 12
    test.to_csv(root / "input/test.csv", index=False)
    test[["id"]].assign(label=0).to_csv(root / "input/sample_submission.csv", index=False)
    return go_through(root, "folds", "train")


def test_pooled_scores_lose_nothing_to_runs_that_are_surer_than_others(root):
    """Without alignment they do, though no order within a run has changed."""
    before = pooled(root)
    shift_runs(root, [-3, 0, 3])
    assert pooled(root) == pytest.approx(before, abs=0.01)
    assert pooled(root, "blend.align_runs=false") < before - 0.1


def test_folds_of_whole_groups_are_not_aligned(tmp_path):
    """Their predictions differ as the groups do, which no map may take away."""
    root = competition(tmp_path / "w", group="writer")
    assert pooled(root) == pooled(root, "blend.align_runs=false")


def test_no_prediction_depends_on_the_test_file(root):
    """Other test rows, and as few as two, change neither out-of-fold nor new predictions."""
    new = ["good film", "bad film", "fine"]
    made = []
    for rows in (5, 2):
        for name in ("test", "sample_submission"):
            path = root / f"input/{name}.csv"
            pd.read_csv(path).head(rows).to_csv(path, index=False)
        go_through(root, "train", "blend")
        ws = Workspace.open(root, [])
        oof = read_model(ws, "tfidf", ws.store.read_folds(ws.competition.train)).oof
        made.append((oof, Predictor.of_blend(ws).predict(new).probabilities["1"]))
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("kind", "changed"), [("binary", True), ("multiclass", False), ("regression", False)]
)
def test_only_what_is_compared_across_rows_is_aligned(kind, changed):
    """Of several classes the largest of a row wins, whatever other rows have."""
    held = [expit(logits(T)), expit(logits(T) + 1)]
    first, _ = alignment(kind, held, wanted=True)
    assert (first(held[0]) is not held[0]) == changed
    first, _ = alignment(kind, held, wanted=False)
    assert first(held[0]) is held[0]
