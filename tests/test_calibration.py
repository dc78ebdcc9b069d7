"""Calibration: each method finds what was planted, and does what its paper says."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, softmax
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from foldstack.ensemble import (
    BlendOptions,
    ProbabilityMean,
    blend,
    list_candidates,
    load_fitted,
    reliability,
)
from foldstack.ensemble.calibrated import APART, Calibrated, CalibratedMean
from foldstack.ensemble.calibration import (
    METHODS,
    Calibration,
    calibrate,
    matching_temperature,
    temper,
)
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.metrics import get
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace
from makers import make_members
from tiny import foldstack, go_through, make_workspace, turn_labels

EVERY = [(kind, method) for kind, methods in METHODS.items() for method in methods]


def column(n=4000, seed=0, change=lambda z: z):
    """Targets drawn by probabilities expit(z), and expit(change(z)) as what a model says; (n, 1)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.5, 1.5, (n, 1))
    return (rng.random((n, 1)) < expit(z)).astype(float), expit(change(z))


def classes(n=4000, seed=0, change=lambda z: z):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, 4)) + np.array([1, 0.5, 0, -0.5])
    given = (softmax(z, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return np.eye(4)[np.minimum(given, 3)], softmax(change(z), axis=1)


# --- each method finds what was planted ---------------------------------------------------------


def test_temperature_finds_a_known_one():
    targets, said = column(change=lambda z: 2.5 * z)
    assert calibrate("temperature", "binary", said, targets).maps[0] == pytest.approx(
        [2.5], rel=0.1
    )
    targets, said = classes(change=lambda z: 2.5 * z)
    assert calibrate("temperature", "multiclass", said, targets).maps[0] == pytest.approx(
        [2.5], rel=0.1
    )


def test_platt_finds_a_known_slope_and_intercept():
    """The truth is .5 z + 1 of what the model says."""
    targets, said = column(change=lambda z: (z - 1) / 0.5)
    found = calibrate("platt", "binary", said, targets)
    assert found.maps[0] == pytest.approx([0.5, 1.0], abs=0.1)


def test_platt_smooths_its_targets():
    """Platt 1999: (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that no separation is certain."""
    targets = np.repeat([0.0, 1.0], [30, 20])[:, None]
    (found,) = calibrate("platt", "binary", np.where(targets > 0, 0.9, 0.1), targets).maps
    z = logit(0.9)
    assert expit(found[0] * z + found[1]) == pytest.approx(21 / 22, abs=1e-6)
    assert expit(-found[0] * z + found[1]) == pytest.approx(1 / 32, abs=1e-6)


def test_beta_finds_known_parameters_and_its_identity():
    """Kull et al. 2017: a = b = 1 and c = 0 change nothing."""
    p = np.linspace(0.01, 0.99, 50)[:, None]
    identity = Calibration("beta", "binary", ((1.0, 1.0, 0.0),))
    np.testing.assert_allclose(identity.apply(p), p, atol=1e-12)
    rng = np.random.default_rng(0)
    said = rng.random((20_000, 1))
    truth = Calibration("beta", "binary", ((0.5, 2.0, 0.3),)).apply(said)
    targets = (rng.random(truth.shape) < truth).astype(float)
    assert calibrate("beta", "binary", said, targets).maps[0] == pytest.approx(
        [0.5, 2.0, 0.3], abs=0.12
    )


def test_beta_is_logistic_regression_where_its_bounds_do_not_bind():
    targets, said = column(n=500)
    (found,) = calibrate("beta", "binary", said, targets).maps
    features = np.hstack([np.log(said), -np.log1p(-said)])
    expected = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(features, targets[:, 0])
    assert found == pytest.approx([*expected.coef_[0], *expected.intercept_], rel=1e-3)


def test_beta_never_turns_the_order_round():
    targets, said = column(n=500)
    (found,) = calibrate("beta", "binary", 1 - said, targets).maps
    assert found[0] == found[1] == 0


def test_isotonic_is_that_of_scikit_learn():
    """But for 0 and 1, which so many rows cannot show: one of them costs 36 of log loss."""
    targets, said = column(n=1000)
    found = calibrate("isotonic", "binary", said, targets).apply(said)[:, 0]
    expected = IsotonicRegression(out_of_bounds="clip").fit_transform(said[:, 0], targets[:, 0])
    np.testing.assert_allclose(found, np.clip(expected, 1 / 1002, 1001 / 1002), atol=1e-9)


def test_vector_scaling_finds_known_weights_and_biases():
    weights, biases = np.array([0.5, 1, 1.5, 2]), np.array([0.4, 0.2, -0.2, -0.4])
    rng = np.random.default_rng(1)
    said = softmax(rng.normal(0, 1.5, (20_000, 4)), axis=1)
    truth = softmax(np.log(said) * weights + biases, axis=1)
    given = (truth.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    found = np.array(calibrate("vector", "multiclass", said, np.eye(4)[given]).maps)
    np.testing.assert_allclose(found[:, 0], weights, atol=0.12)
    np.testing.assert_allclose(found[:, 1] - found[:, 1].mean(), biases, atol=0.12)


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("kind,draw", [("binary", column), ("multiclass", classes)])
def test_nothing_near_the_optimum_is_better(method, kind, draw):
    """The slope of the log loss is 0 there, by differences."""
    if kind == "binary" and method == "vector":
        method = "beta"
    targets, said = draw(n=300, change=lambda z: 1.7 * z)
    found = calibrate(method, kind, said, targets)
    metric, maps = get("log_loss", kind), found.maps
    for k, each in enumerate(maps):
        for i in range(len(each)):
            losses = []
            for step in (-1e-4, 1e-4):
                moved = tuple(v + step * (i == j) for j, v in enumerate(each))
                shifted = replace(found, maps=(*maps[:k], moved, *maps[k + 1 :]))
                losses.append(metric.score(targets, shifted.apply(said)))
            assert abs(losses[1] - losses[0]) / 2e-4 < 1e-5


@pytest.mark.parametrize("kind,method", EVERY)
def test_each_method_mends_what_is_too_sure_on_fresh_rows(kind, method):
    draw = classes if kind == "multiclass" else column
    (targets, said), (fresh, said_there) = (
        draw(n=3000, seed=seed, change=lambda z: 3 * z) for seed in (1, 2)
    )
    if kind == "multilabel":
        targets, said, fresh, said_there = (
            np.tile(x, 2) for x in (targets, said, fresh, said_there)
        )
    found = calibrate(method, kind, said, targets)
    after = found.apply(said_there)
    metric = get("log_loss", kind)
    assert metric.score(fresh, after) < metric.score(fresh, said_there) - 0.1
    before_error, after_error = (
        reliability.calibration_error(kind, fresh, p, "quantile") for p in (said_there, after)
    )
    assert after_error < before_error / 2
    if kind == "multiclass":
        np.testing.assert_allclose(after.sum(axis=1), 1)


@pytest.mark.parametrize("kind,method", EVERY)
def test_calibrations_survive_json(kind, method):
    targets, said = (classes if kind == "multiclass" else column)(n=500, change=lambda z: 2 * z)
    found = calibrate(method, kind, said, targets)
    again = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    np.testing.assert_array_equal(again.apply(said), found.apply(said))


# --- little data --------------------------------------------------------------------------------


def test_a_rare_label_shares_a_map_with_all_labels():
    (first, said), (second, said_there) = (
        column(n=500, seed=s, change=lambda z: 2 * z) for s in (0, 1)
    )
    second = second * (np.arange(500) < 10)[:, None]
    assert second.sum() < 10
    both, told = np.hstack([first, second]), np.hstack([said, said_there])
    found = calibrate("temperature", "multilabel", told, both)
    (alone,) = calibrate("temperature", "binary", said, first).maps
    (pooled,) = calibrate("temperature", "binary", told.reshape(-1, 1), both.reshape(-1, 1)).maps
    assert found.maps == (alone, pooled)


def test_rare_classes_share_a_weight_and_a_bias():
    targets, said = classes(n=300)
    given = targets.argmax(axis=1)
    keep = (given < 2) | (np.cumsum(given >= 2) <= 8)
    found = calibrate("vector", "multiclass", said[keep], targets[keep]).maps
    assert found[2] == found[3] != found[1] != found[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind,method", EVERY)
def test_too_few_rows_leave_probabilities_as_they_are(kind, method):
    for targets in (np.zeros((8, 3)), np.ones((8, 3)), np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]):
        if kind == "binary":
            targets = targets[:, :1]
        if kind == "multiclass":
            targets = np.eye(3)[targets.argmax(axis=1)]
        p = np.full(targets.shape, 0.3)
        np.testing.assert_array_equal(calibrate(method, kind, p, targets).apply(p), p)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind,method", EVERY)
def test_certain_and_separable_predictions_stay_finite(kind, method):
    targets = np.eye(2)[np.arange(600) % 2]
    targets = targets[:, :1] if kind == "binary" else targets
    for p in (targets, 1 - targets, np.full(targets.shape, 0.5)):
        values = calibrate(method, kind, p, targets).apply(p)
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()


# --- how reliable -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_bins_are_those_of_scikit_learn(strategy):
    targets, said = column(n=500)
    said = said.round(2)  # with ties
    rows, confidence, rate = reliability.bins(said[:, 0], targets[:, 0], strategy)
    expected_rate, expected = calibration_curve(
        targets[:, 0], said[:, 0], n_bins=reliability.BINS, strategy=strategy
    )
    np.testing.assert_allclose(confidence, expected)
    np.testing.assert_allclose(rate, expected_rate)
    assert rows.sum() == 500


def test_scores_of_reliability_by_hand():
    """Of .8 that comes true in half of the rows: an error of .3, and .04 or .64 of Brier score."""
    targets, said = np.array([[1.0], [0.0]] * 10), np.full((20, 1), 0.8)
    found = reliability.scores(Kind.BINARY, targets, said)
    assert found["ece"] == pytest.approx(0.3) and found["ece_width"] == pytest.approx(0.3)
    assert found["brier"] == pytest.approx((0.04 + 0.64) / 2)
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.2)) / 2)
    classes_found = reliability.scores(
        Kind.MULTICLASS, np.hstack([targets, 1 - targets]), np.hstack([said, 1 - said])
    )
    assert classes_found["ece"] == pytest.approx(0.3)
    assert classes_found["brier"] == pytest.approx(0.04 + 0.64)


# --- as candidates ------------------------------------------------------------------------------


def sharpened(members, by):
    """Each model's logits multiplied by its number."""
    z = logit(members.probabilities) * np.array(by)[None, :, None]
    return replace(members, probabilities=expit(z), test_probabilities=expit(z[:10]))


def names(kind="binary", metric="log_loss", methods=("mean", "rank_mean", "greedy", "stack"),
          models=("a", "b"), calibration="auto"):  # fmt: skip
    candidates = list_candidates(
        models, get(metric, kind), methods, kind=kind, calibration=calibration
    )
    return [c.name for c in candidates if "+" in c.name or c.name == "calibrated_mean"]


def test_what_is_calibrated_when():
    every = METHODS["binary"]
    expected = [f"{base}+{method}" for base in ("mean", "greedy") for method in every]
    assert names() == ["calibrated_mean", *expected]
    assert names(metric="roc_auc") == names(metric="f1") == ["calibrated_mean"]
    assert names(calibration="none") == names(kind="regression", metric="rmse") == []
    assert names(models=["a"], calibration=["platt"]) == ["single:a+platt"]
    assert names(metric="roc_auc", calibration=["platt"]) == [
        "calibrated_mean", "mean+platt", "greedy+platt",
    ]  # fmt: skip
    with pytest.raises(
        InputError, match="calibration 'vector' is not for kind binary: known: beta"
    ):
        names(calibration=["vector"])


def test_a_calibrated_candidate_is_just_above_its_base():
    candidates = list_candidates(
        ["a", "b"], get("log_loss", "binary"), ["mean", "greedy"], calibration="auto"
    )
    order = [c.name for c in sorted(candidates, key=lambda c: c.complexity)][2:]
    assert order[0] == "mean" and order[6] == "greedy" and order[7] == "greedy+temperature"


@pytest.mark.parametrize("sure", [1.0, 4.0])
def test_calibration_wins_where_it_should_and_only_there(sure):
    """Targets drawn by the model's own probabilities, which are then told too surely, or not."""
    members = make_members([0.0], n=400)
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, members.probabilities.shape)
    members.targets[:] = rng.random(members.targets.shape) < expit(z[:, 0])
    members = replace(members, probabilities=expit(sure * z))
    result = blend(members, get("log_loss", "binary"), wants_labels=False, options=BlendOptions())
    assert result.winner == ("single:model0" if sure == 1 else "single:model0+temperature")
    (_, before), (name, after) = result.calibrated.items()
    assert name.startswith("single:model0+")
    if sure == 4:
        errors = [
            reliability.calibration_error(Kind.BINARY, members.targets, p, "quantile")
            for p in (before, after)
        ]
        assert errors[1] < errors[0] / 2
        np.testing.assert_array_equal(after, result.oof)


def test_no_label_of_a_fold_reaches_its_calibrated_predictions():
    members, metric = sharpened(make_members([0.6, 0.5]), [4, 1]), get("log_loss", "binary")
    held_out = members.folds == 1
    options = BlendOptions(methods=("mean",), calibration=("platt", "isotonic"))
    arguments = {"wants_labels": False, "options": options}
    before = blend(members, metric, **arguments)
    targets = members.targets.copy()
    targets[held_out] = 1 - targets[held_out]
    after = blend(replace(members, targets=targets), metric, **arguments)
    assert "+" in before.winners_by_fold[1] or before.winners_by_fold[1] == "calibrated_mean"
    np.testing.assert_array_equal(before.oof[held_out], after.oof[held_out])


def test_members_are_calibrated_where_their_sharpness_differs():
    metric, rows = get("roc_auc", "binary"), np.arange(600)
    alike = make_members([1.0, 1.0], n=600)
    fitted = CalibratedMean("temperature").fit(alike, rows, metric, 0)
    assert fitted.parameters == ProbabilityMean().fit(alike, rows, metric, 0).parameters
    unlike = sharpened(alike, [6, 1])
    fitted = CalibratedMean("temperature").fit(unlike, rows, metric, 0)
    found = [each.maps[0][0] for each in fitted.calibrations]
    assert found[0] > APART * found[1]
    plain = unlike.probabilities.mean(axis=1)
    assert metric.score(unlike.targets, fitted.crossfit) > metric.score(unlike.targets, plain)


def test_an_isotonic_map_is_not_scored_by_rules_on_its_own_rows():
    members, rows = make_members([0.0], n=800), np.arange(800)
    base = list_candidates(["a"], get("f1", "binary"))[0]
    fitted = Calibrated(base, "isotonic").fit(members, rows, get("f1", "binary"), 0)
    auc, own = get("roc_auc", "binary"), fitted.predict(members.inputs)
    assert auc.score(members.targets, own) > auc.score(members.targets, fitted.crossfit)


def test_an_isotonic_crossfit_does_not_know_the_labels_of_a_rows_group():
    """The labels of four copies of a text change nothing in what is said of these four."""
    texts = np.repeat(np.arange(200), 4)
    members, metric = make_members([0.5], n=200), get("f1", "binary")
    members = replace(
        members,
        **{k: getattr(members, k)[texts] for k in ("probabilities", "ranks", "targets", "folds")},
        groups=texts,
    )
    turned = members.targets.copy()
    turned[:4] = 1 - turned[:4]
    base = list_candidates(["a"], metric)[0]
    before, after = (
        Calibrated(base, "isotonic")
        .fit(replace(members, targets=t), np.arange(800), metric, 0)
        .crossfit
        for t in (members.targets, turned)
    )
    np.testing.assert_array_equal(before[:4], after[:4])
    assert (before[4:] != after[4:]).any()


@pytest.mark.parametrize("kind,outputs", [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_calibrated_candidates_are_read_back_from_json(kind, outputs, tmp_path):
    members, metric = make_members([0.8, 0.4], kind, outputs, n=400), get("log_loss", kind)
    if kind != "multiclass":
        members = sharpened(members, [5, 1])
    candidates = list_candidates(
        members.names, metric, ["mean", "geometric_mean"], kind=kind, calibration=METHODS[kind]
    )
    for candidate in candidates[4:]:
        fitted = candidate.fit(members, np.arange(400), metric, 0)
        parameters = json.loads(json.dumps(fitted.parameters))
        again = load_fitted(candidate.name, parameters, members.names, kind, outputs, tmp_path)
        np.testing.assert_array_equal(again.predict(members.inputs), fitted.predict(members.inputs))


# --- sharpness of means -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.BINARY, Kind.MULTICLASS, Kind.MULTILABEL])
def test_a_mean_gets_the_entropy_of_its_parts(kind):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (5, 300, 1 if kind == "binary" else 3))
    parts = softmax(z, axis=2) if kind == "multiclass" else expit(z)
    mean = parts.mean(axis=0)
    found = matching_temperature(kind, mean, parts)
    matched = temper(kind, mean, found)
    whole = [np.stack([p, 1 - p]) if kind != "multiclass" else p[None] for p in (matched, *parts)]
    entropies = [-(p * np.log(p)).sum() for p in whole]
    assert found < 1 and entropies[0] == pytest.approx(np.mean(entropies[1:]), rel=1e-9)
    assert matching_temperature(kind, parts[0], parts[:1]) == 1
    if kind == "multiclass":
        np.testing.assert_allclose(matched.sum(axis=1), 1)


def test_a_threshold_of_single_runs_fits_the_matched_mean_better():
    """Trap: means are flatter than what the threshold was fitted on. Over draws of fresh rows."""
    from foldstack.ensemble import fit_rule

    metric, rng, gains = get("f1", "binary"), np.random.default_rng(0), []
    for _ in range(10):
        logits = rng.normal(-2, 2, 6000)
        targets = (rng.random(6000) < expit(logits)).astype(float)[:, None]
        runs = expit(2 * (logits[:, None] + rng.normal(0, 1.5, (6000, 5))))
        rule = fit_rule(metric, "binary", targets[:1000], runs[:1000, :1])
        parts = [run[1000:, None] for run in runs.T]
        mean = np.mean(parts, axis=0)
        matched = temper(Kind.BINARY, mean, matching_temperature(Kind.BINARY, mean, parts))
        score = [metric.score(targets[1000:], rule.apply(p)) for p in (mean, matched)]
        gains.append(score[1] - score[0])
    assert np.mean(gains) > 0.005
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / np.sqrt(len(gains))


# --- settings -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = make_workspace(tmp_path_factory.mktemp("calibration"), n=72, metric="recall")
    turn_labels(root, {f"r{i}" for i in range(0, 72, 7)})
    (root / "input/sample_submission.csv").write_text("id,label\n" + "t0,0\nt1,1\n" + "".join(
        f"t{i},0\n" for i in range(2, 6)))  # fmt: skip
    return go_through(root, "folds", "train")


def info_of(root, *settings):
    sets = [part for s in settings for part in ("--set", s)]
    assert foldstack(root, *sets, "blend") == 0
    return read_json(root / "oof/_blends/blend/blend.json")


LABELS = "submission=labels"


def test_the_mean_over_runs_is_sharpened_where_a_rule_was_fitted(workspace):
    """And new texts get the same temperature, whatever stands beside them."""
    rules = ("blend.rules=[fitted]", LABELS)
    plain = info_of(workspace, "blend.match_sharpness=false", *rules)
    assert plain["sharpness"] == {} and plain["rule"]["thresholds"] != [0.5]
    place = workspace / "oof/_blends/blend/test.parquet"
    raw = pd.read_parquet(place)
    info = info_of(workspace, *rules)
    temperature = info["sharpness"]["tfidf"]
    assert temperature < 1 and info["rule"] == plain["rule"] and info["nested"] == plain["nested"]
    matched = pd.read_parquet(place)["output:1"].to_numpy()
    np.testing.assert_allclose(matched, expit(logit(raw["output:1"]) / temperature), atol=1e-6)
    texts = pd.read_csv(workspace / "input/test.csv")[["text"]]
    new = Predictor.of_blend(Workspace(workspace)).predict(texts[:2])
    np.testing.assert_allclose(new.probabilities["1"], matched[:2], atol=1e-6)
    assert info_of(workspace, "blend.rules=[default]", LABELS)["sharpness"] == {}


def test_calibration_is_reported_before_and_after(workspace, capsys):
    info = info_of(
        workspace, "metric=log_loss", "submission=probabilities", "blend.calibration=platt"
    )
    assert [c["name"] for c in info["candidates"]] == ["single:tfidf", "single:tfidf+platt"]
    before, after = info["calibration"]
    assert (before["candidate"], after["candidate"]) == ("single:tfidf", "single:tfidf+platt")
    assert before["log_loss"] == pytest.approx(info["candidates"][0]["nested"])
    assert after["log_loss"] == pytest.approx(info["candidates"][1]["nested"])
    table = pd.read_csv(workspace / "oof/_blends/blend/reliability.csv")
    assert list(table) == ["candidate", "output", "rows", "probability", "rate"]
    assert table.groupby("candidate")["rows"].sum().tolist() == [72, 72]
    assert "reliability of single:tfidf+platt, nested: log loss" in capsys.readouterr().out
    assert info_of(workspace, "blend.calibration=none")["calibration"] is None


@pytest.mark.parametrize(
    "setting,sentence",
    [
        ("rules=[fited]", "setting 'blend.rules.0' is 'fited': did you mean 'fitted'?"),
        ("rules=top_k", "none of the decision rules top_k is for kind binary: choose among default, "
         "rate, fitted"),
        ("calibration=temprature",
         "setting 'blend.calibration.0' is 'temprature': did you mean 'temperature'?"),
        ("calibration=[auto, platt]", "setting 'blend' is"),
        ("calibration=vector", "calibration 'vector' is not for kind binary: known: beta, isotonic, "
         "platt, temperature"),
    ],
)  # fmt: skip
def test_wrong_names_are_refused(workspace, capsys, setting, sentence):
    assert foldstack(workspace, "--set", LABELS, "--set", f"blend.{setting}", "blend") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
