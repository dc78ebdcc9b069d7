"""Stacks: their folds, what each kind learns, what a planted leak gains, and their settings' effects."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from foldstack import load
from foldstack.ensemble import (
    STACKS,
    BlendOptions,
    Stack,
    blend,
    boosting,
    list_candidates,
    load_fitted,
    stack_network,
)
from foldstack.ensemble.boosting import Boosters
from foldstack.ensemble.linear import PENALTIES, LinearLevel, loss
from foldstack.ensemble.stack_network import _forward, _train
from foldstack.ensemble.tables import LevelReader, Sample, Scaling, directions, of_output, pairs
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.metrics import get
from foldstack.stages.predictor import Predictor
from foldstack.text.features import NAMES
from foldstack.workspace import Workspace
from makers import everything, repeated
from makers import make_members as members_of
from tiny import foldstack, go_through, make_workspace, train_folds, write

SHAPES = [("binary", 1), ("multiclass", 3), ("multilabel", 2), ("multilabel", 9), ("regression", 2)]
AUC = get("roc_auc", "binary")

# Targets of a regression are far from their centred predictions: a stack has an intercept to learn.
make_members = partial(members_of, location=50, scale=10)


def sample_of(members, **reading):
    reader = LevelReader(members.kind, categorical=members.categorical, **reading)
    return Sample.of(members, everything(members), reader, seed=0)


def stored(fitted, folder: Path) -> list:
    """All bytes of a fitted stack."""
    folder.mkdir()
    return [fitted.parameters, {p.name: p.read_bytes() for p in fitted.save(folder)}]


# --- folds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_the_folds_are_the_first_levels(name):
    """One model a fold, trained on the others; crossfit by it, anything new by the mean."""
    members = make_members([1.0, 0.5])
    fitted = Stack(name).fit(members, everything(members), AUC, seed=0)
    assert len(fitted.models) == 4
    for fold, model in enumerate(fitted.models):
        out = members.folds == fold
        alone = STACKS[name].train(Sample.of(members, np.flatnonzero(~out), fitted.reader, seed=0))
        expected = alone.predict(members.inputs.take(out))
        np.testing.assert_array_equal(model.predict(members.inputs.take(out)), expected)
        np.testing.assert_array_equal(fitted.crossfit[out], expected)
    each = [model.predict(members.test_inputs) for model in fitted.models]
    np.testing.assert_allclose(fitted.predict(members.test_inputs), np.mean(each, axis=0))


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("kind,outputs", SHAPES)
def test_a_folds_labels_change_nothing_that_was_fitted_without_it(name, kind, outputs, tmp_path):
    """Byte for byte: neither a fit on the other folds, nor the model that leaves the fold out, which
    also shows that rounds, epochs and penalties are not chosen on the fold that is predicted.
    """
    members = make_members([1.0, 0.5], kind, outputs, folds=3)
    fold, rows = members.folds == 1, np.flatnonzero(members.folds != 1)
    targets = members.targets.copy()
    targets[fold] = np.random.default_rng(1).permutation(targets[fold])
    after = replace(members, targets=targets)
    without = [
        stored(Stack(name).fit(each, rows, None, seed=0), tmp_path / f"without{k}")
        for k, each in enumerate((members, after))
    ]
    assert without[0] == without[1]
    full = [Stack(name).fit(each, everything(each), None, seed=0) for each in (members, after)]
    for k, changes in ((1, False), (2, True)):  # and the labels do matter elsewhere
        by = [fitted.models[k].predict(members.inputs) for fitted in full]
        assert np.array_equal(*by) != changes


def test_rows_of_one_fold_are_split_by_group():
    """As in the halves of two folds; copies of a row stay on one side, or noise would be known."""
    members = make_members([0.0, 0.0], n=60, folds=1)
    copies = repeated(members, 4)
    fitted = Stack().fit(copies, np.arange(240), AUC, seed=0)
    assert len(fitted.models) == 5
    assert AUC.score(copies.targets, fitted.crossfit) < 0.6


def test_what_is_held_back_are_whole_groups():
    members = make_members([1.0], n=100)
    sample = sample_of(replace(members, groups=np.arange(100) // 4))
    learned, judged = sample.hold_back()
    assert len(learned) == 80
    assert not set(sample.groups[learned]) & set(sample.groups[judged])


def told(*methods: str) -> BlendOptions:
    """Options of these methods alone."""
    return BlendOptions(methods=methods, calibration="none")


def test_the_fits_of_a_nesting_share_their_models(monkeypatch):
    """Five folds: 5 models leave one fold out, 10 leave out two, 10 three; trained apart: 55."""
    trained = []
    train = LinearLevel.train
    monkeypatch.setattr(LinearLevel, "train", lambda sample: trained.append(1) or train(sample))
    members = make_members([1.0, 0.5], n=100, folds=5)
    blend(members, AUC, wants_labels=False, options=told("stack_linear"))
    assert len(trained) == 25


def test_a_stack_does_not_mistake_other_members_for_those_it_knows():
    members = make_members([1.0, 0.5])
    stack, turned = Stack("stack_linear"), replace(members, targets=1 - members.targets)
    first = stack.fit(members, everything(members), AUC, seed=0).crossfit
    second = stack.fit(turned, everything(members), AUC, seed=0).crossfit
    np.testing.assert_allclose(second, 1 - first, atol=1e-6)


@pytest.mark.parametrize("name", STACKS)
def test_rows_that_teach_nothing_give_their_mean(name, tmp_path):
    """Of one group nothing can be held back; of one target nothing is to be learned."""
    members = make_members([1.0, 0.5], n=40)
    for changed in (
        replace(members, groups=np.zeros(40, int)),
        replace(members, targets=np.ones((40, 1))),
    ):
        fitted = Stack(name).fit(changed, everything(members), AUC, seed=0)
        again = load_fitted(name, fitted.parameters, members.names, "binary", 1, tmp_path)
        expected = np.full((10, 1), changed.targets.mean())
        np.testing.assert_allclose(again.predict(members.test_inputs), expected)


# --- a planted leak -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_a_planted_leak_shines_in_sample_and_gains_nothing_nested(name):
    """A column that names the row's author, whose rows share a label and a fold: known in sample, and
    never met elsewhere. Both models are noise.
    """
    rng = np.random.default_rng(0)
    author = np.repeat(np.arange(40), 10)
    members = make_members([0.0, 0.0], n=400, features=author[:, None].astype(float))
    members = replace(
        members,
        targets=rng.permutation(np.arange(40) % 2)[author][:, None].astype(float),
        folds=author % 4,
        groups=author,
        categorical=(0,),
    )
    result = blend(members, AUC, wants_labels=False, options=told(name))
    report = next(each for each in result.candidates if each.name == name)
    assert report.in_sample > 0.85
    assert report.nested < 0.55
    assert result.nested.score < 0.57


# --- LightGBM -------------------------------------------------------------------------------------


def test_boosters_stop_early_on_noise_and_go_on_where_there_is_something(monkeypatch):
    noise = Boosters.train(sample_of(make_members([0.0, 0.0], n=400)))
    signal = Boosters.train(sample_of(make_members([1.5, 1.0], n=400)))
    assert noise.parameters["rounds"][0] < 15 < signal.parameters["rounds"][0] < 500


def test_a_label_learns_from_what_is_said_of_another():
    """The first model's second output tells the first label, as `threat` tells `toxic`."""
    members = make_members([1.0, 0.0], "multilabel", 2, n=400)
    members.targets[:, 0] = members.targets[:, 1]
    members.probabilities[:, :, 0] = 0.5
    for name in ("stack", "stack_linear"):
        fitted = Stack(name).fit(members, everything(members), None, seed=0)
        assert AUC.score(members.targets[:, :1], fitted.crossfit[:, :1]) > 0.75


def test_few_other_outputs_are_told_each_and_many_by_mean_and_maximum():
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    features = np.arange(5.0)[:, None]
    means = values.mean(axis=1)
    expected = np.column_stack([values[:, :, 1], means[:, 0], means[:, 2], features])
    np.testing.assert_allclose(of_output(values, features, 1), expected)
    values = np.random.default_rng(0).normal(size=(5, 2, 9))
    others = np.delete(values.mean(axis=1), 4, axis=1)
    expected = np.column_stack([values[:, :, 4], others.mean(axis=1), others.max(axis=1)])
    np.testing.assert_allclose(of_output(values, None, 4), expected)


def test_many_labels_share_one_booster_over_pairs_of_row_and_label(tmp_path):
    """What it predicts of a pair is what LightGBM says of that line of the long table."""
    members = make_members([1.0, 0.5], "multilabel", 9, n=80)
    sample = sample_of(members)
    boosters = Boosters.train(sample)
    (path,) = boosters.save(tmp_path, "stack0")
    assert (boosters.layout, path.name) == ("pairs", "stack0-0.txt")
    table = pairs(sample.values, None)
    assert table.shape == (80 * 9, 2 + 2 + 1)
    np.testing.assert_array_equal(table[:9, -1], np.arange(9))
    line = of_output(sample.values, None, 7)[3]
    np.testing.assert_allclose(table[3 * 9 + 7], [*line, 7], rtol=1e-6)
    found = boosters.predict(members.inputs)
    expected = lgb.Booster(model_file=path).predict(table)
    np.testing.assert_allclose(found, expected.reshape(80, 9))


def test_pairs_tell_labels_apart_and_serve_rare_ones():
    """Nine labels with base rates from a twentieth to a half, one model of a little skill."""
    rng = np.random.default_rng(0)
    members = make_members([1.0], "multilabel", 9, n=600)
    rates = np.linspace(0.05, 0.5, 9)
    targets = (rng.random((600, 9)) < rates).astype(float)
    logits = 2 * targets - 1 + rng.normal(size=(600, 9))
    members = replace(members, targets=targets, probabilities=expit(logits)[:, None])
    fitted = Stack().fit(members, everything(members), None, seed=0)
    np.testing.assert_allclose(fitted.crossfit.mean(axis=0), targets.mean(axis=0), atol=0.04)
    rare = log_loss(targets[:, 0], fitted.crossfit[:, 0])
    assert rare < log_loss(targets[:, 0], expit(logits[:, 0]))
    assert rare < log_loss(targets[:, 0], np.full(600, targets[:, 0].mean()))


def test_long_tables_are_trained_on_a_sample_and_predicted_in_parts(monkeypatch):
    """Guards a table as many times as large as there are labels."""
    members = make_members([1.0, 0.5], "multilabel", 9, n=100)
    whole = Boosters.train(sample_of(members))
    predicted, rows = whole.predict(members.inputs), []
    monkeypatch.setattr(boosting, "MOST_PAIRS", 9 * 30)
    np.testing.assert_array_equal(whole.predict(members.inputs), predicted)
    seen = lambda values, features: rows.append(len(values)) or pairs(values, features)  # noqa: E731
    monkeypatch.setattr(boosting, "pairs", seen)
    Boosters.train(sample_of(members))
    assert rows == [30 + 20]  # of 80 to learn from, of 20 to stop by


@pytest.mark.parametrize("kind, outputs", [("binary", 1), ("multiclass", 3), ("multilabel", 20)])
def test_several_threads_predict_what_one_does(kind, outputs, monkeypatch):
    members = make_members([1.0, 0.5], kind, outputs)
    boosters = Boosters.train(sample_of(members))
    monkeypatch.setattr(boosting.cores, "cpu_threads", lambda wanted: 2)
    found, used = [], []
    predict = lgb.Booster.predict
    monkeypatch.setattr(
        lgb.Booster, "predict", lambda *a, **k: used.append(k["num_threads"]) or predict(*a, **k)
    )
    for many in (1, 10**9):
        monkeypatch.setattr(boosting, "MANY_ROWS", many)
        found.append(boosters.predict(members.inputs))
    np.testing.assert_array_equal(*found)
    assert set(used) == {1, 2}


def test_many_classes_are_pairs_too_and_sum_to_one():
    members = make_members([2.0, 1.0], "multiclass", 10, n=300)
    fitted = Stack().fit(members, everything(members), None, seed=0)
    assert fitted.models[0].layout == "pairs"
    np.testing.assert_allclose(fitted.crossfit.sum(axis=1), 1)
    accuracy = np.mean(fitted.crossfit.argmax(axis=1) == members.targets.argmax(axis=1))
    assert accuracy > 0.5


@pytest.mark.parametrize("kind,outputs", [*SHAPES, ("multiclass", 9)])
def test_a_monotone_stack_never_falls_where_a_prediction_rises(kind, outputs):
    """Model 0 is wrong more often than right, which a free stack learns and a monotone one may not."""
    members = make_members([-1.0, 0.7], kind, outputs, n=300)
    output = outputs - 1

    def falls(monotone):
        options = BlendOptions(stack_monotone=monotone)
        fitted = Stack("stack", options).fit(members, everything(members), None, seed=0)
        spread = np.ptp(members.probabilities)
        steps = members.probabilities.min() + np.linspace(0, 1, 30) * spread
        worst = 0.0
        for row in range(20):
            inputs = members.inputs.take(np.full(30, row))
            inputs.probabilities[:, 0, output] = steps
            worst = max(worst, -np.diff(fitted.predict(inputs)[:, output]).min())
        return worst

    assert falls(monotone=False) > 1e-3
    assert falls(monotone=True) <= 1e-12


def test_a_rise_of_another_class_may_only_lower_a_class():
    assert directions(Kind.MULTICLASS, models=2, outputs=3, width=6) == [1, 1, -1, -1, 0, 0]
    assert directions(Kind.MULTILABEL, models=2, outputs=20, width=5) == [1, 1, 0, 0, 0]
    assert directions(Kind.BINARY, models=2, outputs=1, width=3) == [1, 1, 0]


# --- regression -----------------------------------------------------------------------------------


def test_the_linear_stack_is_the_penalised_logistic_regression():
    """Against a plain minimiser of log losses + penalty / 2 x squares, of standardised logits."""
    members = make_members([1.0, 0.5], n=100)
    (part,) = LinearLevel.train(sample_of(members)).parts
    x = logit(members.probabilities[:, :, 0])
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), members.targets[:, 0]

    def penalised(w):
        z = x @ w[1:] + w[0]
        return np.sum(np.logaddexp(0, z) - y * z) + part.penalty / 2 * np.sum(w[1:] ** 2)

    best = minimize(penalised, np.zeros(3)).x
    np.testing.assert_allclose([*part.intercepts, *part.coefficients[0]], best, atol=1e-3)


def test_the_linear_stack_of_a_regression_is_a_ridge():
    members = make_members([1.0, 0.5], "regression", 1, n=100)
    linear = LinearLevel.train(sample_of(members))
    x = members.probabilities[:, :, 0]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    ridge = Ridge(alpha=linear.parts[0].penalty).fit(x, members.targets[:, 0])
    np.testing.assert_allclose(linear.predict(members.inputs)[:, 0], ridge.predict(x))


def test_noise_is_penalised_more_than_signal():
    penalties = [
        LinearLevel.train(sample_of(make_members(skill, n=300))).parts[0].penalty
        for skill in ([0.0, 0.0], [3.0, 3.0])
    ]
    assert penalties[0] > penalties[1] == PENALTIES[0]


@pytest.mark.parametrize("present", [[0], [0, 2], [0, 1, 2]])
def test_a_class_without_rows_is_never_predicted(present):
    """Guards scikit-learn's columns, which are those of the classes it has seen."""
    members = make_members([2.0, 1.0], "multiclass", 4, n=120)
    kept = np.flatnonzero(members.targets[:, present].any(axis=1))
    sample = Sample.of(members, kept, LevelReader("multiclass"), seed=0)
    found = LinearLevel.train(sample).predict(members.inputs.take(kept))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[:, [k for k in range(4) if k not in present]].max() == 0
    right = found.argmax(axis=1) == sample.targets.argmax(axis=1)
    assert right.mean() > 0.8


def test_unknown_numbers_and_codes_have_columns_of_their_own():
    table = np.array([[1.0, 5.0, 7.0], [3.0, np.nan, 7.0], [np.nan, 7.0, 2.0], [2.0, 6.0, np.nan]])
    scaling = Scaling.of(table, codes=[2])
    found = scaling.apply(np.array([[2.0, np.nan, 9.0], [1e9, 6.0, 7.0]]))
    # Two numbers, an indicator for each, then the codes 7 and 2, the more frequent first.
    np.testing.assert_allclose(found, [[0, 0, 0, 1, 0, 0], [10, 0, 0, 0, 1, 0]])


# --- network --------------------------------------------------------------------------------------


def test_the_network_is_scikit_learns():
    """Guards a forward pass of our own that differs from the one that was trained."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    model = MLPClassifier((32,), random_state=0).partial_fit(x, y, classes=range(3))
    weights = dict(
        zip(("first", "second", "first_bias", "second_bias"),
            (*model.coefs_, *model.intercepts_), strict=True)
    )  # fmt: skip
    np.testing.assert_allclose(softmax(_forward(weights, x), axis=1), model.predict_proba(x))


def test_the_networks_weights_are_of_the_best_epoch(monkeypatch):
    """It learns noise by heart; the rows held back say when that begins."""
    losses = []
    monkeypatch.setattr(
        stack_network, "loss", lambda *each: losses.append(loss(*each)) or losses[-1]
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 2, (60, 1)).astype(float)
    held, wanted = rng.normal(size=(40, 5)), rng.integers(0, 2, (40, 1)).astype(float)
    weights, epochs = _train(Kind.BINARY, (x, y), (held, wanted), seed=0)
    assert len(losses) == epochs + stack_network.PATIENCE < stack_network.MOST_EPOCHS
    assert loss(Kind.BINARY, _forward(weights, held), wanted) == losses[epochs - 1]
    assert losses[epochs - 1] < min(losses) + stack_network.TOLERANCE
    assert losses[-1] > losses[epochs - 1]


def test_the_network_learns_what_no_line_can_part():
    """Exclusive or of two models' opinions."""
    members = make_members([0.0, 0.0], n=600, folds=2)
    p = members.probabilities[:, :, 0]
    members = replace(members, targets=((p > 0.5).sum(axis=1) == 1).astype(float)[:, None])
    scores = {
        name: AUC.score(
            members.targets, Stack(name).fit(members, everything(members), AUC, 0).crossfit
        )
        for name in STACKS
    }
    assert scores["stack_mlp"] > 0.9
    assert scores["stack_linear"] < 0.6


@pytest.mark.parametrize("name", STACKS)
def test_a_regressions_values_have_any_unit(name):
    """Targets around 50, and a model that is 100 too high."""
    members = make_members([3.0, 2.0], "regression", 1, n=400)
    members.probabilities[:, 0] = members.probabilities[:, 0] * 10 + 150
    fitted = Stack(name).fit(members, everything(members), None, seed=0)
    assert np.sqrt(np.mean((fitted.crossfit - members.targets) ** 2)) < 5


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("kind,outputs", [*SHAPES, ("multiclass", 9)])
def test_a_stack_repeats_itself_and_is_read_back(name, kind, outputs, tmp_path):
    """With a feature that lacks values and one of categories, monotone or not."""
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(size=150), rng.integers(0, 3, 150)]).astype(float)
    features[::7, 0] = np.nan
    members = make_members([1.0, 0.5], kind, outputs, n=150, features=features)
    members = replace(members, categorical=(1,))
    options = BlendOptions(stack_monotone=outputs > 1, stack_inputs="probabilities")
    fits = [Stack(name, options).fit(members, everything(members), None, 0) for _ in range(2)]
    first, second = (stored(fit, tmp_path / str(k)) for k, fit in enumerate(fits))
    assert first == second
    again = load_fitted(name, first[0], members.names, kind, outputs, tmp_path / "0")
    expected = fits[0].predict(members.inputs)
    assert expected.shape == members.targets.shape
    np.testing.assert_allclose(again.predict(members.inputs), expected, atol=1e-12)
    np.testing.assert_allclose(again.predict(members.inputs.take(slice(7, 8))), expected[7:8])


def test_the_simplest_stack_is_preferred():
    names = [c.name for c in sorted(map(Stack, STACKS), key=lambda c: c.complexity)]
    assert names == ["stack_linear", "stack", "stack_mlp"]
    members = make_members([1.2, 0.8], n=300, folds=3)
    # A bias that no mean can undo, so that one of the stacks wins.
    members = replace(members, probabilities=expit(logit(members.probabilities) * 3 - 4))
    result = blend(members, get("log_loss", "binary"), wants_labels=False, options=told(*names[:2]))
    assert result.winner == "stack_linear"


def test_a_single_model_is_stacked_where_there_are_features():
    names = [c.name for c in list_candidates(["a"], AUC, (*STACKS, "mean"), features=True)]
    assert names == ["single:a", *STACKS]
    assert [c.name for c in list_candidates(["a"], AUC, tuple(STACKS))] == ["single:a"]


# --- settings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Labels that the number of exclamation marks tells and the models, blind to them, do not."""
    models = [{"tfidf": {"C": 4.0}}]
    folder = tmp_path_factory.mktemp("stacks") / "w"
    root = make_workspace(folder, n=60, metric="log_loss", models=models)
    for name, n, start in (("train", 60, 0), ("test", 6, 60)):
        rows = [(f"some words{'!' * (i % 2)} n{i}", i % 2) for i in range(start, start + n)]
        column, head = (",{}", "id,text,label\n") if name == "train" else ("", "id,text\n")
        lines = (f"{name}{i},{text}" + column.format(y) for i, (text, y) in enumerate(rows))
        write(root / f"input/{name}.csv", head + "\n".join(lines) + "\n")
    sample = "id,label\n" + "".join(f"test{i},0\n" for i in range(6))
    write(root / "input/sample_submission.csv", sample)
    go_through(root, "folds", "train")
    train_folds(root, "--name", "weak", "--set", "C=0.01")
    return root


def blended(root: Path, *settings: str) -> dict:
    sets = [part for setting in settings for part in ("--set", f"blend.{setting}")]
    assert foldstack(root, *sets, "blend") == 0
    return read_json(root / "oof/_blends/blend/blend.json")


def in_sample(info: dict, name: str) -> float:
    return next(c["in_sample"] for c in info["candidates"] if c["name"] == name)


@pytest.mark.parametrize("name", ["stack_linear", "stack_mlp"])
def test_stacks_read_logits_or_probabilities(name):
    """Trees, for which the order of values is all, hardly tell these apart."""
    members = make_members([1.0, 0.5], n=100)
    p = members.probabilities
    for scale, same in (("logits", expit), ("probabilities", lambda x: x)):
        reader = LevelReader("binary", scale)
        np.testing.assert_allclose(same(reader.values(members.inputs)), p)
    fits = [
        Stack(name, BlendOptions(stack_inputs=scale)).fit(members, everything(members), AUC, 0)
        for scale in ("logits", "probabilities")
    ]
    assert not np.allclose(fits[0].crossfit, fits[1].crossfit, atol=1e-3)


def test_stack_inputs_reach_the_stacks(workspace):
    plain = blended(workspace, "methods=[stack_linear]")
    other = blended(workspace, "methods=[stack_linear]", "stack_inputs=probabilities")
    assert in_sample(plain, "stack_linear") != in_sample(other, "stack_linear")


def test_monotone_is_told_to_lightgbm(workspace, monkeypatch):
    told, train = [], lgb.train
    monkeypatch.setattr(
        lgb, "train", lambda given, *a, **k: told.append(given) or train(given, *a, **k)
    )
    blended(workspace, "methods=[stack]")
    assert not any("monotone_constraints" in given for given in told)
    told.clear()
    blended(workspace, "methods=[stack]", "stack_monotone=true")
    assert all(given["monotone_constraints"] == [1, 1] for given in told)


def test_text_features_help_and_new_texts_are_predicted_with_them(workspace, capsys):
    """The test file's texts, given as new ones, get what the submission says."""
    plain = blended(workspace, "methods=[stack_linear]")
    assert plain["features"]["text"] == []
    info = blended(workspace, "methods=[stack_linear]", "text_features=true")
    assert info["winner"] == "stack_linear"
    assert info["nested"]["score"] < 0.5 * plain["nested"]["score"]
    assert info["features"]["text"] == [f"text:{name}" for name in NAMES]
    assert foldstack(workspace, "submit") == 0
    submitted = (workspace / "submissions/blend.csv").read_text().splitlines()[1:]
    wanted = [float(line.split(",")[1]) for line in submitted]
    texts = [f"some words{'!' * (i % 2)} n{i}" for i in range(60, 66)]
    found = load(workspace).predict(texts).probabilities["1"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_stack_on_other_features_is_refused(workspace, monkeypatch):
    """As after an update of the package that counts something else."""
    blended(workspace, "methods=[stack_linear]", "text_features=true")
    monkeypatch.setattr("foldstack.stages.features.feature_names", lambda pair: ("text:other",))
    sentence = "blend 'blend' is a stack on other features .*: run `make blend` again"
    with pytest.raises(InputError, match=sentence):
        Predictor.of_blend(Workspace.open(workspace, []))


@pytest.mark.parametrize(
    ("blend", "sentence"),
    [
        (
            {"methods": ["mean"], "text_features": True},
            "`text_features` is what stacks read, but `methods` lists none: add stack_linear, stack or "
            "stack_mlp, or leave it out",
        ),
        (
            {"methods": ["stack_linear"], "stack_monotone": True},
            "`stack_monotone` is of the LightGBM stack, but `methods` lists no stack: add it, or leave "
            "this out",
        ),
    ],
)
def test_a_setting_of_stacks_wants_a_stack(tmp_path, blend, sentence, capsys):
    root = make_workspace(tmp_path / "w", blend=blend)
    capsys.readouterr()
    assert foldstack(root, "folds") == 2
    assert sentence in capsys.readouterr().err
