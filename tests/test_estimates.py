"""Scores and intervals: the groups that they resample, and what they say where nothing varies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from foldstack import metrics
from foldstack.ensemble import estimate
from foldstack.ensemble.estimate import Estimate
from foldstack.ensemble.nesting import _halves
from foldstack.ensemble.optimism import effective_weights, leads, shared_variance, variance_ratio
from foldstack.ensemble.submitted import averaging_gain, draw_targets, shifted
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.store import read_parquet
from foldstack.workspace import Workspace
from tiny import PLACES, go_through, make_workspace, write, write_competition

TEXTS, COPIES = 12, 8


def near_duplicates(root: Path) -> Path:
    """Twelve long texts, each eight times but for its last letter, with one label per text."""
    rng = np.random.default_rng(0)
    lines, test = ["id,text,label"], ["id,text"]
    for i in range(TEXTS):
        word = "good" if (i % 2) ^ (i % 5 == 0) else "bad"
        text = f"{word} " + " ".join(f"{w}{i}" for w in rng.choice(PLACES, 14))
        lines += [f"r{i}-{j},{text} {'stuvwxyz'[j]},{i % 2}" for j in range(COPIES)]
    test += [f"t{i},good {PLACES[i]}" for i in range(4)]
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    write(root / "input/test.csv", "\n".join(test) + "\n")
    write(
        root / "input/sample_submission.csv", "id,label\n" + "".join(f"t{i},0\n" for i in range(4))
    )
    write_competition(root, folds={"count": 3, "near": 0.8}, runtime={"threads": 1})
    return root


def test_near_duplicates_are_one_group_in_intervals_and_inner_splits(tmp_path: Path):
    """Copies that share a fold are not independent: resampled one by one, the error is too small."""
    root = near_duplicates(tmp_path)
    go_through(root, "folds", "train", "blend")
    ws = Workspace(root)
    folds = ws.store.read_folds(ws.competition.train)
    rows = ws.competition.scored_rows(folds.scored)
    by_text = np.unique([id_.split("-")[0] for id_ in rows.ids], return_inverse=True)[1]
    assert len(np.unique(rows.groups)) == TEXTS
    assert len(set(zip(rows.groups, by_text, strict=True))) == TEXTS
    stored = read_parquet(root / "oof/_blends/blend/oof.parquet")[1].raw.astype(float)
    metric = metrics.get("roc_auc", "binary")
    by_groups = estimate(metric, rows.targets, stored, by_text, seed=0)
    by_rows = estimate(metric, rows.targets, stored, np.arange(len(rows)), seed=0)
    nested = ws.store.read_blend("blend").nested
    assert by_groups.standard_error > 1.5 * by_rows.standard_error
    assert nested.standard_error > 1.5 * by_rows.standard_error


# --- runs that share training rows ------------------------------------------------------------

FOLDS, MODELS = 5, 20


def test_a_fold_accounts_for_its_part_of_predictions_that_are_sums_of_such_parts():
    """Each run adds up what the folds that it learned contribute: the jackknife finds its share."""
    parts = np.random.default_rng(0).normal(size=(FOLDS, 100_000, 1, 1))
    runs = parts.sum(axis=0) - parts
    assert shared_variance(runs) == pytest.approx(1 / (FOLDS - 1), rel=0.02)
    signal = np.random.default_rng(1).normal(size=(1, 100_000, 1, 1)) * 4
    assert shared_variance(runs + signal) == pytest.approx(1 / (FOLDS - 1 + 16), rel=0.02)
    assert variance_ratio(runs[:, :, 0]) == pytest.approx(2, rel=0.02)
    assert shared_variance(np.repeat(signal, FOLDS, axis=0)) == pytest.approx(0)


def symmetric_scores(rng: np.random.Generator) -> np.ndarray:
    """(models, folds): labels that are noise give each pair of folds a term that both scores have."""
    pairs = rng.normal(size=(MODELS, FOLDS, FOLDS))
    pairs = np.triu(pairs, 1)
    return (pairs + pairs.swapaxes(1, 2)).sum(axis=2)


def test_the_lead_of_a_model_chosen_elsewhere_is_found():
    """Of twenty equal models the best on four folds: its mean on the fifth, whose truth is 0."""
    rng, found, truth = np.random.default_rng(0), [], []
    for _ in range(2000):
        scores = symmetric_scores(rng)
        others = scores[:, 1:].mean(axis=1)
        best = others.argmax()
        # The bootstrap sees the variance of a fold's score, 4, as that of rows: of four folds 1.
        lead = leads(others, np.eye(MODELS), 1 / (FOLDS - 1), FOLDS)
        found.append(lead[best])
        truth.append(scores[best, 0])
    assert np.mean(truth) > 0.4
    assert np.mean(found) == pytest.approx(np.mean(truth), rel=0.15)


def test_models_that_truly_differ_lead_by_skill():
    noise = np.eye(MODELS) * 0.01
    lead = leads(np.linspace(0, 10, MODELS), noise, 0.25, FOLDS)
    assert np.abs(lead).max() < 0.02
    assert (leads(np.array([0.9]), np.eye(1), 0.25, FOLDS) == 0).all()
    assert (leads(np.array([0.9, np.nan]), np.eye(2), 0.25, FOLDS) == 0).all()


def test_effective_weights_are_those_of_the_blend():
    models = np.random.default_rng(0).normal(size=(500, 3, 2))
    blended = np.einsum("nmo,m->no", models, [0.2, 0.8, 0.0])
    np.testing.assert_allclose(effective_weights(models, blended), [0.2, 0.8, 0.0], atol=1e-9)
    np.testing.assert_allclose(effective_weights(models, 0 * blended), np.full(3, 1 / 3))


@pytest.mark.parametrize("kind", ["kfold", "time"])
def test_runs_in_time_order_learn_nothing_of_each_others_rows(tmp_path: Path, kind: str):
    """An earlier run never saw a later label, so their scores have no products of labels in common."""
    time = {"time": "day"} if kind == "time" else {}
    root = make_workspace(tmp_path, 60, folds={"count": 4, "kind": kind}, **time)
    lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{day}" for day, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join([f"{lines[0]},day", *dated]) + "\n")
    test = [f"t{i},{word} here {i}" for i, word in enumerate(["good", "bad", "fine"] * 20)]
    write(root / "input/test.csv", "\n".join(["id,text", *test]) + "\n")
    sample = [f"t{i},0" for i in range(len(test))]
    write(root / "input/sample_submission.csv", "\n".join(["id,label", *sample]) + "\n")
    go_through(root, "folds", "train", "blend", folds=4)
    correction = Workspace(root).store.read_blend("blend").correction
    assert (correction is None) == (kind == "time")


def test_optimism_and_shared_rows_move_and_widen_the_interval():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 1)) < 0.5).astype(float)
    p = expit(y + rng.normal(size=y.shape))
    metric, groups = metrics.get("log_loss", "binary"), np.arange(200)
    plain = estimate(metric, y, p, groups, seed=0)
    wider = estimate(metric, y, p, groups, seed=0, variance_ratio=2.0)
    assert wider.standard_error == pytest.approx(plain.standard_error * 2**0.5)
    moved = estimate(metric, y, p, groups, seed=0, optimism=0.02)
    assert moved.score == pytest.approx(plain.score + 0.02)  # a loss: larger is worse
    assert moved.standard_error == pytest.approx(np.hypot(plain.standard_error, 0.01))


# --- the mean over runs -----------------------------------------------------------------------


def test_the_gain_in_squared_error_is_the_variance_between_runs():
    """Krogh and Vedelsby 1995: for any targets, exactly."""
    rng = np.random.default_rng(0)
    runs = rng.random(size=(5, 40, 1))
    drawn = (rng.random(size=(3, 40, 1)) < 0.5).astype(float)
    squared = replace(
        metrics.get("rmse", "regression"), scorer=lambda y, p, w: ((y - p) ** 2).mean()
    )
    gain = averaging_gain(squared, runs, runs.mean(axis=0), drawn)
    assert gain == pytest.approx(runs.var(axis=0).mean())


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_the_gain_of_the_mean_is_found_without_labels_of_the_test_rows(name: str):
    """Five runs with noise of their own; the labels of 20,000 test rows are the truth."""
    rng = np.random.default_rng(1)
    metric, kind = metrics.get(name, "binary"), Kind.BINARY
    z = rng.normal(size=(24_000, 1))
    y = (rng.random(z.shape) < expit(2 * z - 1)).astype(float)
    runs = np.stack([expit(1.2 * z - 1 + rng.normal(size=z.shape)) for _ in range(5)])
    held, test = slice(4_000), slice(4_000, None)
    of_runs, of_mean = runs[:, test], runs[:, test].mean(axis=0)
    drawn = draw_targets(kind, runs[0, held], y[held], of_runs, seed=0)
    truth = averaging_gain(metric, of_runs, of_mean, y[None, test])
    assert truth > 0.02
    assert averaging_gain(metric, of_runs, of_mean, drawn) == pytest.approx(truth, rel=0.1)
    assert drawn.mean() == pytest.approx(y.mean(), abs=0.01)


def test_out_of_fold_scores_below_chance_promise_no_loss():
    """A calibration that falls by chance would draw labels that the mean predicts worst."""
    rng = np.random.default_rng(0)
    oof = rng.random((400, 1))
    y = (rng.random(oof.shape) < 0.7 - 0.4 * oof).astype(float)
    of_runs = np.clip(0.5 + rng.normal(size=(5, 4000, 1)) / 10, 0.01, 0.99)
    drawn = draw_targets(Kind.BINARY, oof, y, of_runs, seed=0)
    gain = averaging_gain(metrics.get("roc_auc", "binary"), of_runs, of_runs.mean(axis=0), drawn)
    assert gain == pytest.approx(0, abs=0.005)


def test_drawn_classes_are_one_hot_and_values_scatter_as_the_residuals_do():
    rng = np.random.default_rng(0)
    oof, y = np.full((90, 3), 1 / 3), np.eye(3)[np.arange(90) % 3]
    drawn = draw_targets(Kind.MULTICLASS, oof, y, np.full((5, 600, 3), 1 / 3), seed=0)
    assert (drawn.sum(axis=2) == 1).all()
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), 1 / 3, atol=0.02)
    truth = rng.normal(size=(500, 1))
    values = truth + rng.normal(size=truth.shape) * 0.5
    of_runs = np.repeat(rng.normal(size=(1, 500, 1)), 5, axis=0)  # runs that agree gain nothing
    drawn = draw_targets(Kind.REGRESSION, truth, values, of_runs, seed=0)
    assert (drawn - of_runs[0]).std() == pytest.approx(0.5, rel=0.1)


def test_the_submissions_estimate_is_moved_and_half_of_the_gain_is_its_error():
    nested = Estimate(0.5, 0.4, 0.6, 0.03)
    found = shifted(nested, 0.08, -1, (0.0, 1.0))
    assert found.score == pytest.approx(0.42) and found.standard_error == pytest.approx(0.05)


def test_a_fold_of_one_group_cannot_be_halved():
    """Bug guarded: two training rows in two folds ended a blend with a traceback of scikit-learn's."""
    with pytest.raises(
        InputError, match=r"^fold 1 holds a single row or group of rows, which the "
    ):
        _halves(SimpleNamespace(groups=np.array([0, 1, 2, 2])), np.array([0, 0, 1, 1]), 0)
