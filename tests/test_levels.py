"""Quadratic kappa of a regression: numbers are predicted, cut points between the levels are fitted."""

import json
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from foldstack.competition import Competition
from foldstack.ensemble import Rule, fit_rule
from foldstack.ensemble.classes import kappa_level_cuts
from foldstack.ensemble.decide import default_rule
from foldstack.errors import InputError
from foldstack.files import read_table
from foldstack.metrics import get
from foldstack.records.decisions import RuleRecord
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace
from tiny import foldstack, go_through, make_workspace, sentences, write, write_competition

KAPPA = get("quadratic_kappa", "regression")


def graded(seed: int, levels: list[float], n: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Values of these levels, and predictions that are drawn towards their mean, (n, 1) each."""
    rng = np.random.default_rng(seed)
    given = rng.choice(levels, size=(n, 1))
    return given, 0.5 * given + rng.normal(scale=0.4 * np.ptp(levels), size=(n, 1))


def make_graded(root: Path, **settings: object) -> Path:
    """A workspace of 60 training rows with grades 1 to 4, and a sample of whole numbers."""
    make_workspace(root, n=60)
    rows = [
        f"r{i},{text},{1 + y * 2 + (i % 5 == 0)}\n" for i, (text, y) in enumerate(sentences(60))
    ]
    write(root / "input/train.csv", "id,text,label\n" + "".join(rows))
    write_competition(root, kind="regression", metric="qwk", **settings)
    return root


@pytest.mark.parametrize("levels", [[1, 2, 3, 4, 5, 6], [0, 1], [-1, 0, 1]])
def test_it_is_the_kappa_of_scikit_learn(levels: list[int]):
    rng = np.random.default_rng(0)
    given, decided = rng.choice(levels, (2, 50, 1))
    weights = rng.integers(3, size=50)
    wanted = sk.cohen_kappa_score(
        given[:, 0], decided[:, 0], labels=levels, weights="quadratic", sample_weight=weights
    )
    assert KAPPA.score(given, decided, weights) == pytest.approx(wanted, abs=1e-12)


def test_it_is_that_of_classes_if_levels_are_the_classes():
    rng = np.random.default_rng(1)
    given, decided = rng.integers(4, size=(2, 50))
    of_classes = get("quadratic_kappa", "multiclass").score(np.eye(4)[given], np.eye(4)[decided])
    assert KAPPA.score(given[:, None], decided[:, None]) == pytest.approx(of_classes, abs=1e-12)


def test_distances_are_those_between_the_values():
    """By its definition, the squared distances of all pairs of a given and a decided value."""
    given, decided = np.array([0.0, 0.5, 4.0, 4.0]), np.array([0.5, 0.5, 4.0, 0.0])
    observed = ((given - decided) ** 2).mean()
    by_chance = ((given[:, None] - decided) ** 2).mean()
    found = KAPPA.score(given[:, None], decided[:, None])
    assert found == pytest.approx(1 - observed / by_chance)


@pytest.mark.parametrize("value", [0.1, 3.0, 1e6])
def test_it_is_undefined_for_one_level(value: float):
    given = np.full((7, 1), value)
    assert np.isnan(KAPPA.score(given, given + 1))
    several = np.append(given, [[value + 1]], axis=0)
    assert np.isnan(KAPPA.score(several, several, np.append(np.full(7, 0.3), 0)))


@pytest.mark.parametrize("levels", [[1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 4.0], [-3.0, 1.0]])
@pytest.mark.parametrize("seed", range(8))
def test_cut_points_equal_brute_force_over_all_ordered_ones(seed: int, levels: list[float]):
    given, predicted = graded(seed, levels)
    if seed % 2:
        predicted = predicted.round()
    if np.ptp(given) == 0:
        pytest.skip("one level")
    points = [*np.unique(predicted), 99.0]
    best = max(
        KAPPA.score(
            given, Rule("regression", None, cut_points=cuts, levels=tuple(levels)).apply(predicted)
        )
        for cuts in combinations_with_replacement(points, len(levels) - 1)
    )
    found = kappa_level_cuts(given[:, 0], predicted[:, 0], np.array(levels), shrinkage=0)
    assert (np.diff(found) >= 0).all()
    rule = Rule("regression", None, cut_points=tuple(found), levels=tuple(levels))
    assert KAPPA.score(given, rule.apply(predicted)) == pytest.approx(best, abs=1e-12)


def test_fitted_cut_points_beat_the_nearest_level_for_predictions_near_the_mean():
    given, predicted = graded(0, [1, 2, 3, 4], n=2000)
    rule = fit_rule(KAPPA, "regression", given, predicted)
    nearest = default_rule("regression", 1, (1, 2, 3, 4))
    found, least = (KAPPA.score(given, each.apply(predicted)) for each in (rule, nearest))
    assert found > least + 0.05
    assert rule.levels == (1, 2, 3, 4)
    assert fit_rule(KAPPA, "regression", given, given) == nearest


def test_the_rule_without_fitting_takes_the_nearest_level():
    values = np.array([[-9.0], [1.4], [1.6], [2.9], [3.0], [8.0]])
    nearest = default_rule("regression", 1, (1.0, 2.0, 4.0))
    assert nearest.apply(values)[:, 0].tolist() == [1, 1, 2, 2, 4, 4]
    assert default_rule("regression", 1).apply(values)[:, 0].tolist() == [-9, 1, 2, 3, 3, 8]


def test_a_rule_is_the_same_after_it_was_stored():
    rule = Rule("regression", None, cut_points=(1.5, 2.25), levels=(1.0, 2.0, 4.0))
    stored = json.dumps(RuleRecord(**rule.to_json()).to_json())
    assert Rule.from_json(json.loads(stored)) == rule
    with pytest.raises(ValueError, match="requires levels and cut points"):
        RuleRecord(kind="regression", thresholds=None, cut_points=[1.0])


@pytest.mark.parametrize(
    "cells,levels,wanted",
    [
        (["0", "0"], [1.0, 4.0], ["1", "4"]),
        (["0.0", "3.0"], [1.0, 4.0], ["1.0", "4.0"]),
        (["0.5", "0"], [1.0, 4.0], ["1", "4"]),
        (["0", "0"], [1.5, 4.0], ["1.5", "4"]),
    ],
)
def test_levels_are_written_as_the_sample_writes_whole_numbers(
    tmp_path: Path, cells, levels, wanted
):
    root = make_graded(tmp_path)
    sample = "".join(f"t{i},{cells[i % 2]}\n" for i in range(6))
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    assert Competition.load(root).submission.level_texts(np.array(levels)) == wanted


def test_a_target_of_many_values_is_refused(tmp_path: Path):
    root = make_graded(tmp_path)
    rows = "".join(f"r{i},text {i},{i / 7:.3f}\n" for i in range(60))
    write(root / "input/train.csv", "id,text,label\n" + rows)
    with pytest.raises(InputError) as refused:
        _ = Competition.load(root).metric
    assert str(refused.value) == (
        f"{root}/input/train.csv: column 'label' holds 60 different values, but metric "
        "'quadratic_kappa' decides among 2 to 100 whole numbers, or 20 of any kind: choose rmse"
    )


def test_several_targets_are_refused(tmp_path: Path):
    root = make_graded(tmp_path, target=["label", "id"])
    with pytest.raises(InputError) as refused:
        _ = Competition.load(root).metric
    assert str(refused.value) == (
        "competition.yaml: metric 'quadratic_kappa' of kind regression is of one target, got 2: "
        "'label', 'id'"
    )


def test_from_folds_to_the_private_score(tmp_path: Path, capsys: pytest.CaptureFixture):
    root = make_graded(tmp_path / "w", models=["tfidf", {"second": {"preset": "tfidf", "C": 9}}])
    stages = ("folds", "train", "blend", "submit", "score", "report", "views", "scores")
    go_through(root, *stages)
    said = capsys.readouterr().out
    assert "gain over the nearest level" in said
    assert "6 rows of labels from" in said
    submitted = read_table(root / "submissions/blend.csv", "utf-8")["label"]
    solution = read_table(root / "input/private/solution.csv", "utf-8")["label"]
    assert set(submitted) <= {"1", "2", "3", "4"}
    record = json.loads((root / "oof/_blends/blend/blend.json").read_text())
    assert record["rule"]["levels"] == [1, 2, 3, 4]
    wanted = KAPPA.score(*(x.to_numpy(float)[:, None] for x in (solution, submitted)))
    private = json.loads((root / "submissions/blend.json").read_text())
    assert private["holds"] == "labels"
    assert f"{wanted:.4f}" in said


def test_new_texts_get_levels_and_numbers(tmp_path: Path):
    """The rule that the blend fitted decides for new texts as it does in the submission."""
    root = go_through(make_graded(tmp_path / "w"), "folds", "train", "blend", "submit")
    test = read_table(root / "input/test.csv", "utf-8")
    found = Predictor.of_blend(Workspace.open(root, [])).predict(list(test["text"]))
    assert found.labels == list(read_table(root / "submissions/blend.csv", "utf-8")["label"])
    assert list(found.probabilities.columns) == ["label"]
    assert not set(found.probabilities["label"]) <= {1, 2, 3, 4}


def test_two_models_are_compared_by_their_decisions(tmp_path: Path, capsys: pytest.CaptureFixture):
    second = {"second": {"preset": "tfidf", "C": 0.1}}
    root = make_graded(tmp_path / "w", models=["tfidf", second], blend={"rules": ["fitted"]})
    go_through(root, "folds", "train")
    assert foldstack(root, "compare", "--a", "tfidf", "--b", "second") == 0
    assert "quadratic_kappa" in capsys.readouterr().out
