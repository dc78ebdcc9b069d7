"""Blends: what each method computes, that its search finds the best, and its settings' effects."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.special import expit

from foldstack.ensemble import (
    METHODS,
    OF_RANKS,
    BlendOptions,
    Greedy,
    PowerMean,
    ProbabilityMean,
    Simplex,
    WeightsPerLabel,
    blend,
    list_candidates,
    load_fitted,
)
from foldstack.ensemble.search import Search
from foldstack.ensemble.search_objective import Column, SearchObjective, average_precision, roc_auc
from foldstack.files import read_json
from foldstack.metrics import FROM_COUNTS, from_counts, get
from foldstack.settings import BlendMethod
from makers import everything
from makers import make_members as members_of
from tiny import foldstack, go_through, make_workspace, train_folds, turn_labels

KINDS = [
    ("binary", 1, "roc_auc"),
    ("binary", 1, "f1"),
    ("binary", 1, "log_loss"),
    ("multiclass", 3, "log_loss"),
    ("multiclass", 3, "f1_macro"),
    ("multiclass", 3, "roc_auc_ovr"),
    ("multilabel", 3, "f1_macro"),
    ("multilabel", 3, "f1_micro"),
    ("multilabel", 3, "roc_auc"),
    ("multilabel", 3, "log_loss"),
    ("regression", 2, "rmse"),
]

# In three folds of 40 rows.
make_members = partial(members_of, n=120, folds=3)


def objective_of(members, metric):
    """In sample, by the slow road: classes are the most probable, thresholds all tried."""
    name, _, average = metric.name.rpartition("_")

    def score(values):
        if metric.wants != "labels":
            return metric.signed(members.targets, values)
        if members.kind == "multiclass":
            return metric.signed(members.targets, np.eye(values.shape[1])[values.argmax(axis=1)])
        if members.kind == "binary":
            return best_threshold(metric.name, members.targets, values)
        if average == "micro":
            return best_threshold(name, members.targets.ravel(), values.ravel())
        columns = zip(members.targets.T, values.T, strict=True)
        return np.mean([best_threshold(name, *column) for column in columns])

    return score


def best_threshold(name, targets, values):
    thresholds = [*np.unique(values), 2.0]
    return max(from_counts(name, *confusion(targets, values >= t))[0] for t in thresholds)


def confusion(targets, decisions):
    t, d = targets > 0, decisions
    return [np.array([float(x.sum())]) for x in (t & d, ~t & d, t & ~d, ~t & ~d)]


def weights_of(fitted):
    return np.array(list(fitted.parameters["weights"].values()))


# --- the objective ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 10, 10**9])
def test_auc_is_that_of_the_metric_to_the_last_bit(levels):
    """Guards ties: half a win each, also among several positives at one value, and at 0 and -0."""
    metric = get("roc_auc", "binary")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, levels, 50) / levels
        values[:5] = -0.0
        targets = (rng.random(50) < 0.3).astype(float)
        expected = metric.score(targets[:, None], values[:, None])
        assert roc_auc(Column(targets).cuts(values)) == expected


def test_average_precision_is_that_of_the_metric():
    metric = get("average_precision", "binary")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values, targets = rng.integers(0, 8, 40) / 8, (rng.random(40) < 0.3).astype(float)
        expected = metric.score(targets[:, None], values[:, None])
        assert average_precision(Column(targets).cuts(values)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", FROM_COUNTS)
def test_the_best_cut_is_among_those_below_a_positive(name):
    """Guards the cuts left out: of all thresholds, none is better than those that are tried."""
    metric = get(name, "binary")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values, targets = rng.integers(0, 9, 20) / 8, (rng.random(20) < 0.4).astype(float)
        found = SearchObjective.of(metric, "binary", targets[:, None])(values[None])
        assert found == pytest.approx(best_threshold(name, targets, values), abs=1e-12)


@pytest.mark.parametrize("kind,outputs,name", KINDS)
def test_the_objective_is_the_metric_with_the_best_decision(kind, outputs, name):
    members, metric = make_members([0.7], kind, outputs), get(name, kind)
    values = members.probabilities[:, 0]
    if kind == "multilabel":
        members.targets[:, 2] = 0  # A label without positives.
    expected = objective_of(members, metric)(values)
    found = SearchObjective.of(metric, kind, members.targets)(np.ascontiguousarray(values.T))
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_objective_without_both_classes_is_worse_than_any():
    """Guards nan, which no comparison is true of."""
    objective = SearchObjective.of(get("roc_auc", "binary"), "binary", np.zeros((3, 1)))
    assert objective(np.array([[0.1, 0.2, 0.3]])) == -np.inf


# --- means ------------------------------------------------------------------------------------


def test_geometric_and_power_means():
    """Of .2 and .8: sqrt(.16), and the root of the mean square."""
    members = make_members([1.0, 1.0])
    members.probabilities[:] = np.array([0.2, 0.8])[:, None]
    for candidate, expected in (
        (PowerMean("geometric_mean", 0.0), 0.4),
        (PowerMean("power_mean", 2.0), np.sqrt((0.04 + 0.64) / 2)),
        (PowerMean("power_mean", 1.0), 0.5),
    ):
        fitted = candidate.fit(members, everything(members), get("roc_auc", "binary"), 0)
        np.testing.assert_allclose(fitted.predict(members.inputs), expected)


@pytest.mark.filterwarnings("error")
def test_means_of_classes_sum_to_one_even_where_all_are_zero():
    """Guards a row in which the models are certain of different classes: 0/0."""
    members = make_members([1.0, 1.0], "multiclass", 3)
    members.probabilities[0] = [[1, 0, 0], [0, 1, 0]]
    fitted = PowerMean("geometric_mean", 0.0).fit(members, everything(members), None, 0)
    np.testing.assert_allclose(fitted.crossfit.sum(axis=1), 1)
    np.testing.assert_allclose(fitted.crossfit[0], 1 / 3)
    raw = np.sqrt(members.probabilities.prod(axis=1))[1:]
    np.testing.assert_allclose(fitted.crossfit[1:], raw / raw.sum(axis=1, keepdims=True))


# --- greedy selection -------------------------------------------------------------------------


def slow_greedy(members, metric, models, steps=20):
    """Caruana et al. 2004 by loops: how often each model is taken."""
    score, counts, best = objective_of(members, metric), [0] * len(members.names), -np.inf
    for _ in range(steps + 1):
        found = None
        for model in models:
            trial = [c + (k == model) for k, c in enumerate(counts)]
            mean = np.average(members.probabilities, axis=1, weights=trial)
            reached = score(mean)
            better = found is None or reached > found[0] + 1e-12
            tied = found is not None and abs(reached - found[0]) <= 1e-12
            if better or (tied and counts[model] and not counts[found[1]]):
                found = (reached, model)
        counts[found[1]] += 1
        if found[0] > best + 1e-12:
            best, kept, waited = found[0], list(counts), 0
        else:
            waited += 1
        if waited == 5:
            break
    return np.array(kept)


@pytest.mark.parametrize(
    "kind,outputs,name",
    [
        ("binary", 1, "roc_auc"),
        ("binary", 1, "f1"),
        ("multilabel", 3, "f1_macro"),
        ("multilabel", 3, "average_precision"),
        ("multiclass", 3, "log_loss"),
        ("regression", 2, "rmse"),
    ],
)
def test_greedy_equals_a_slow_reference(kind, outputs, name):
    for seed in range(5):
        members = make_members([0.8, 0.6, 0.4, 0.0], kind, outputs, n=40, seed=seed)
        metric = get(name, kind)
        counts = slow_greedy(members, metric, range(4))
        fitted = Greedy().fit(members, everything(members), metric, 0)
        np.testing.assert_allclose(weights_of(fitted), counts / counts.sum())


def test_a_model_joins_where_only_a_small_share_of_it_helps():
    """Guards a selection that ends where the best model and another, half and half, are no better."""
    members, metric = make_members([1.2, 0.3], n=2000), get("roc_auc", "binary")
    half = ProbabilityMean().fit(members, everything(members), metric, 0).predict(members.inputs)
    best = metric.score(members.targets, members.probabilities[:, 0])
    assert metric.score(members.targets, half) < best
    fitted = Greedy().fit(members, everything(members), metric, 0)
    assert 0 < weights_of(fitted)[1] < 0.5
    assert metric.score(members.targets, fitted.predict(members.inputs)) > best


def test_bags_are_averaged():
    """Guards bags drawn alike, and shares averaged by their size instead of one bag, one vote."""
    members, metric = make_members([0.8, 0.7, 0.6, 0.5] * 2), get("roc_auc", "binary")
    greedy = Greedy(BlendOptions(bags=3))
    bags = greedy._bags(8, seed=1)
    assert [len(set(bag.tolist())) for bag in bags] == [4, 4, 4]
    assert len({tuple(bag) for bag in bags}) > 1
    counts = [slow_greedy(members, metric, bag) for bag in bags]
    expected = np.mean([count / count.sum() for count in counts], axis=0)
    fitted = greedy.fit(members, everything(members), metric, 1)
    np.testing.assert_allclose(weights_of(fitted), expected)


def test_a_bagged_blend_no_better_than_the_best_model_gives_way_to_it():
    """Guards bags without the one good model, which would dilute it for nothing."""
    members, metric = make_members([3.0] + [0.0] * 9, n=300), get("roc_auc", "binary")
    weights = weights_of(Greedy().fit(members, everything(members), metric, 0))
    assert weights.tolist() == [1.0] + [0.0] * 9


def test_few_models_are_not_bagged():
    assert [bag.tolist() for bag in Greedy(BlendOptions(bags=9))._bags(3, 0)] == [[0, 1, 2]]


# --- weights on the simplex -------------------------------------------------------------------


@pytest.mark.parametrize("kind,outputs,name", KINDS)
@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_simplex_weights_are_feasible_and_never_worse_than_their_starts(
    kind, outputs, name, negative
):
    metric, options = get(name, kind), BlendOptions(negative=negative)
    for seed in range(2):
        members = make_members([0.8, 0.6, 0.5, 0.1], kind, outputs, n=60, seed=seed)
        fitted = Simplex(options).fit(members, everything(members), metric, 0)
        weights = weights_of(fitted)
        assert weights.sum() == pytest.approx(1)
        assert weights.min() >= -negative - 1e-9
        objective = SearchObjective.of(metric, kind, members.targets)
        score = lambda values, o=objective: o(np.ascontiguousarray(values.T))  # noqa: E731
        starts = [score(p) for p in (*members.probabilities.swapaxes(0, 1),)]
        reached = score(fitted.crossfit)
        assert reached >= max(*starts, score(members.probabilities.mean(axis=1))) - 1e-9


def test_simplex_finds_the_optimum_of_the_log_loss():
    """Convex there, so that a fine grid over three models is the truth."""
    members, metric = make_members([1.0, 0.8, 0.0], n=150), get("log_loss", "binary")
    weights = weights_of(Simplex().fit(members, everything(members), metric, 0))
    best = max(
        metric.signed(members.targets, np.average(members.probabilities, axis=1, weights=w))
        for a in range(101)
        for b in range(101 - a)
        for w in [(a, b, 100 - a - b)]
    )
    found = metric.signed(
        members.targets, np.average(members.probabilities, axis=1, weights=weights)
    )
    assert found >= best - 1e-5


@pytest.mark.parametrize("name", ["roc_auc", "f1"])
def test_simplex_reaches_what_a_fine_hill_climb_reaches(name):
    """Guards small steps on few rows, where the metric is jagged and the heights lie apart."""
    metric = get(name, "binary")
    for seed in range(6):
        members = make_members([0.8, 0.7, 0.6, 0.5], n=60, seed=seed)
        columns = list(members.probabilities.swapaxes(0, 1))
        fitted = Simplex().fit(members, everything(members), metric, 0)
        objective = SearchObjective.of(metric, "binary", members.targets)
        score = lambda values, o=objective: o(np.ascontiguousarray(values.T))  # noqa: E731
        assert score(fitted.crossfit) >= slow_climb(columns, score) - 1e-9


def slow_climb(columns, score):
    """The first of equals, of models in the order of their scores and of shares ascending."""
    columns = sorted(columns, key=score, reverse=True)
    current = columns.pop(0)
    while columns:
        trials = [
            (score((1 - w) * current + w * column), k, w)
            for k, column in enumerate(columns)
            for w in np.arange(0.01, 0.51, 0.01)
        ]
        best, k, w = max(trials, key=lambda trial: trial[0])
        if best <= score(current):
            break
        current = (1 - w) * current + w * columns.pop(k)
    return score(current)


def test_negative_weights_subtract_what_models_err_in_alike():
    """A model of nothing but the other's error is worth a weight below 0, as far as allowed."""
    members, metric = make_members([1.0, 0.0], n=400), get("roc_auc", "binary")
    error = np.random.default_rng(1).normal(size=(400, 1))
    members.probabilities[:, 0] = expit(2 * members.targets - 1 + 2 * error)
    members.probabilities[:, 1] = expit(error)
    bare, bound = (
        Simplex(BlendOptions(negative=negative)).fit(members, everything(members), metric, 0)
        for negative in (0.0, 0.1)
    )
    assert weights_of(bare).tolist() == [1.0, 0.0]
    assert weights_of(bound) == pytest.approx([1.1, -0.1])
    assert (
        metric.score(members.targets, bound.crossfit)
        > metric.score(members.targets, bare.crossfit)
    )  # fmt: skip
    assert bound.crossfit.min() >= 0 and bound.crossfit.max() <= 1


def test_a_superfluous_weight_is_given_up():
    """Guards a thousandth for a model that changes nothing: ties go to the simpler blend."""
    members, metric = make_members([1.0, 0.8, 0.0]), get("f1", "binary")
    members.probabilities[:, 0] = members.probabilities[:, 0].round(2)
    objective = SearchObjective.of(metric, "binary", members.targets)
    search = Search(
        np.ascontiguousarray(members.probabilities.transpose(2, 1, 0)), objective, "binary"
    )
    small = np.array([[1 - 2e-9], [1e-9], [1e-9]])
    search.predictions[:, 1:] = 0.5  # Neither changes the order.
    found = search._prune(small, search.score_weights(small))
    assert found.tolist() == [[1.0], [0.0], [0.0]]


def test_one_class_alone_leaves_the_first_model():
    """Guards nan and a crash in folds of a single class: there is nothing to choose by."""
    members, metric = make_members([1.0, 0.5]), get("roc_auc", "binary")
    members.targets[:] = 0
    for candidate in (Greedy(), Simplex()):
        weights = weights_of(candidate.fit(members, everything(members), metric, 0))
        assert weights.tolist() == [1.0, 0.0]


# --- weights per label ------------------------------------------------------------------------


@pytest.mark.parametrize("kind,name", [("multilabel", "roc_auc"), ("multilabel", "f1_macro"),
                                       ("multilabel", "f1_micro"), ("multilabel", "log_loss"),
                                       ("multiclass", "log_loss")])  # fmt: skip
def test_weights_per_label_find_each_labels_own_model(kind, name):
    """Planted: the first model knows the first label, the second the second, nothing else."""
    members = make_members([[2.0, 0.0], [0.0, 2.0]], kind, 2, n=300)
    metric = get(name, kind)
    fitted = WeightsPerLabel().fit(members, everything(members), metric, 0)
    common = Simplex().fit(members, everything(members), metric, 0)
    weights = weights_of(fitted)
    assert weights.shape == (2, 2)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    if kind == "multilabel":
        assert weights[0, 0] > 0.7 and weights[1, 1] > 0.7
    score = SearchObjective.of(metric, kind, members.targets)
    per_label, shared = (score(np.ascontiguousarray(f.crossfit.T)) for f in (fitted, common))
    assert per_label > shared if kind == "multilabel" else per_label >= shared
    if kind == "multiclass":
        np.testing.assert_allclose(fitted.crossfit.sum(axis=1), 1)


def test_a_label_of_one_class_takes_the_common_weights():
    members = make_members([0.8, 0.6], "multilabel", 3)
    members.targets[:, 2] = 0
    metric, rows = get("roc_auc", "multilabel"), everything(members)
    per_label = weights_of(WeightsPerLabel().fit(members, rows, metric, 0))
    common = weights_of(Simplex().fit(members, rows, metric, 0))
    np.testing.assert_array_equal(per_label[:, 2], common)


# --- all methods ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind,outputs,name", KINDS)
def test_every_method_is_read_back_from_json(kind, outputs, name, tmp_path):
    """Guards a stored blend that predicts otherwise than the one that was scored."""
    members, metric = make_members([0.8, 0.6, 0.1], kind, outputs), get(name, kind)
    members = replace(members, ranks=np.full_like(members.ranks, 0.5))
    options = BlendOptions(negative=0.2, power=3.0)
    rows = everything(members)
    candidates = list_candidates(members.names, metric, tuple(METHODS), kind=kind, options=options)
    for candidate in candidates:
        fitted = candidate.fit(members, rows, metric, 0)
        fitted.save(tmp_path)
        parameters = json.loads(json.dumps(fitted.parameters))
        again = load_fitted(candidate.name, parameters, members.names, kind, outputs, tmp_path)
        expected = fitted.predict(members.inputs)
        assert expected.shape == members.targets.shape
        np.testing.assert_allclose(again.predict(members.inputs), expected, atol=1e-12)


def test_methods_are_offered_where_they_are_defined():
    names = lambda metric, kind: {  # noqa: E731
        c.name for c in list_candidates(["a", "b"], get(metric, kind), tuple(METHODS), kind=kind)
    }
    every = set(METHODS) | {"single:a", "single:b"}
    assert names("roc_auc", "multilabel") == every
    assert names("roc_auc", "binary") == every - {"weights_per_label"}
    assert names("f1_macro", "multiclass") == every - OF_RANKS
    assert names("rmse", "regression") == every - {
        *OF_RANKS, "weights_per_label", "geometric_mean", "power_mean",
    }  # fmt: skip


def test_the_settings_know_every_method():
    assert get_args(BlendMethod) == tuple(METHODS)


@pytest.mark.parametrize("name", ["greedy", "simplex", "weights_per_label"])
def test_fits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    """Guards sums and choices in the order in which threads happen to end; also of a sample."""
    monkeypatch.setattr("foldstack.ensemble.blends.SAMPLE", 50)
    monkeypatch.setattr("foldstack.ensemble.search.WORTH_THREADS", 0)
    skill = [0.8, 0.7, 0.6, 0.5] * 2 if name == "greedy" else [0.8, 0.6]
    members = make_members(skill, "multilabel", 2)
    metric, rows = get("roc_auc", "multilabel"), everything(members)
    fits = [
        METHODS[name](BlendOptions(threads=threads)).fit(members, rows, metric, seed)
        for threads, seed in ((1, 0), (4, 0), (4, 1))
    ]
    assert fits[0].parameters == fits[1].parameters
    if name == "greedy":  # The seed draws other bags.
        assert fits[0].parameters != fits[2].parameters


def test_the_nested_score_of_weights_per_label_is_not_the_optimistic_one():
    """Noise only: weights and choice made on the other folds gain nothing there."""
    members = make_members([0.0] * 3, "multilabel", 2, n=60)
    result = blend(
        members, get("roc_auc", "multilabel"), wants_labels=False,
        options=BlendOptions(methods=("simplex", "weights_per_label"), calibration="none"),
    )  # fmt: skip
    report = next(c for c in result.candidates if c.name == "weights_per_label")
    assert report.in_sample > report.nested + 0.05
    assert result.nested.score < 0.55


# --- settings ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_models(tmp_path_factory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("blends"), metric="log_loss")
    turn_labels(root, {"r0", "r5", "r9", "r14", "r20"})
    go_through(root, "folds", "train")
    train_folds(root, "--name", "weak", "--set", "C=0.01")
    return root


METHODS_SHOWN = "[mean, geometric_mean, power_mean, simplex]"


def in_sample(root: Path, *settings: str) -> dict[str, float]:
    sets = [
        part
        for s in (f"methods={METHODS_SHOWN}", "calibration=none", *settings)
        for part in ("--set", f"blend.{s}")
    ]
    assert foldstack(root, *sets, "blend") == 0
    candidates = read_json(root / "oof/_blends/blend/blend.json")["candidates"]
    return {c["name"]: c["in_sample"] for c in candidates if not c["name"].startswith("single")}


def test_the_settings_of_a_blend_reach_its_methods(two_models):
    """Guards a setting that is read and forgotten, and a method listed while another is fitted."""
    plain, other = in_sample(two_models), in_sample(two_models, "negative=0.5", "power=5")
    assert len(set(plain.values())) == 4
    changed = {name for name in plain if plain[name] != other[name]}
    assert changed == {"power_mean", "simplex"}


def test_bags_and_threads_reach_the_methods(two_models, monkeypatch):
    """Bags take eight models to be seen at work, threads a stopwatch."""
    given = []
    monkeypatch.setattr("foldstack.ensemble.blend", lambda *_, options, **__: given.append(options))
    with pytest.raises(AttributeError):  # There is no result to describe.
        foldstack(two_models, "--set", "blend.bags=3", "--set", "runtime.threads=1", "blend")
    assert given == [BlendOptions(bags=3, threads=1)]


def test_mean_is_still_the_mean():
    members = make_members([1.0, 0.5])
    fitted = ProbabilityMean().fit(members, everything(members), None, 0)
    np.testing.assert_array_equal(fitted.predict(members.inputs), fitted.crossfit)
    np.testing.assert_allclose(fitted.crossfit, members.probabilities.mean(axis=1))
