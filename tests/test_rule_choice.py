"""The family of decision rules is chosen inside the other folds, and its gain told honestly."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import expit

from foldstack.ensemble import (
    BlendOptions,
    blend,
    fit_rule,
    list_candidates,
    single_estimate,
    single_predictions,
)
from foldstack.ensemble.decide import FAMILIES, choose_families, families, reference_family
from foldstack.ensemble.nesting import Nesting
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.metrics import get
from foldstack.settings import BlendSettings
from makers import make_members
from tiny import foldstack, go_through, make_workspace, turn_labels


def planted(kind="binary", n=400, seed=0, outputs=1, low=0.0, signal=1.5):
    """One model whose probabilities are true, or too small by `low` of logits."""
    members = make_members([0.0], kind, outputs, n=n, seed=seed)
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.0, signal, members.probabilities.shape)
    targets = (rng.random(members.targets.shape) < expit(z[:, 0])).astype(float)
    return replace(members, targets=targets, probabilities=expit(z - low))


def told(**options) -> BlendOptions:
    """Options without calibration."""
    return BlendOptions(calibration="none", **options)


def labels(members, name, **options):
    metric = get(name, members.kind)
    return blend(members, metric, wants_labels=True, options=told(methods=(), **options))


# --- which families -----------------------------------------------------------------------------


def test_families_depend_on_the_kind_and_on_the_metric():
    assert families("binary") == ("default", "rate", "fitted")
    assert families("multiclass", get("f1_macro", "multiclass")) == ("default", "fitted")
    assert families("multiclass", get("accuracy", "multiclass")) == ("default",)
    costs = get("cost", "binary", costs=((0.0, 1.0), (5.0, 0.0)))
    assert families("binary", costs) == ("default", "least_cost", "fitted")
    every = {"least_cost", *(family for of_kind in FAMILIES.values() for family in of_kind)}
    assert set(BlendSettings().rules) == every


def test_rules_restrict_the_families_and_unknown_ones_are_refused():
    f1 = get("f1", "binary")
    assert choose_families(["top_k", "fitted", "default"], f1, "binary") == ("default", "fitted")
    assert choose_families(["fitted"], get("accuracy", "multiclass"), "multiclass") == ("default",)
    with pytest.raises(InputError, match="rule 'fited' is not known: did you mean 'fitted'"):
        choose_families(["fited"], f1, "binary")
    with pytest.raises(InputError, match="none of the decision rules top_k is for kind binary"):
        choose_families(["top_k"], f1, "binary")


def test_each_metric_has_a_family_of_its_own():
    """.5 is the best for the accuracy of calibrated probabilities, and for little else."""
    every = families("binary")
    assert reference_family(get("f1", "binary"), "binary", every) == "fitted"
    assert reference_family(get("accuracy", "binary"), "binary", every) == "default"
    assert reference_family(get("f1", "binary"), "binary", ("default", "rate")) == "rate"


# --- the choice ---------------------------------------------------------------------------------


def test_fitted_alone_is_what_fit_rule_says():
    members, metric = planted(), get("f1", "binary")
    result = labels(members, "f1", rules=["fitted"])
    p = members.probabilities[:, 0]
    assert result.rule == fit_rule(metric, "binary", members.targets, p)
    for fold in range(4):
        out = members.folds == fold
        rule = fit_rule(metric, "binary", members.targets[~out], p[~out])
        np.testing.assert_array_equal(result.nested_predictions[out], rule.apply(p[out]))
    assert [report.family for report in result.rules] == ["fitted"]
    assert set(result.families_by_fold.values()) == {"fitted"}


def test_no_label_of_a_fold_reaches_the_choice_of_its_rule():
    for seed in range(3):
        members = planted(n=200, seed=seed)
        held_out = members.folds == 1
        before = labels(members, "f1")
        targets = members.targets.copy()
        targets[held_out] = 1 - targets[held_out]
        after = labels(replace(members, targets=targets), "f1")
        assert before.families_by_fold[1] == after.families_by_fold[1]
        np.testing.assert_array_equal(
            before.nested_predictions[held_out], after.nested_predictions[held_out]
        )


def test_accuracy_keeps_a_half_unless_another_rule_is_clearly_better():
    """A fitted threshold wins where probabilities are far off; else it would follow noise."""
    metric, kept = get("accuracy", "binary"), []
    for seed in range(10):
        members = planted(n=400, seed=seed)
        candidates = list_candidates(members.names, metric)
        nesting = Nesting(members, metric, candidates, 0, None)
        kept.append(nesting.choose(nesting.folds).family == "default")
    assert sum(kept) >= 7
    moved = labels(planted(n=400, low=2.5), "accuracy")
    assert moved.family == "fitted" and moved.gain.low > 0


def test_a_family_is_left_for_one_that_is_better_by_more_than_a_standard_error():
    """Rows that all have a label, of probabilities below any threshold: at least one is due."""
    rng = np.random.default_rng(0)
    members = make_members([0.0], "multilabel", 6, n=300)
    given = rng.integers(6, size=300)
    targets = np.eye(6)[given]
    z = rng.normal(-2, 1, (300, 1, 6)) + 1.5 * targets[:, None]
    result = labels(replace(members, targets=targets, probabilities=expit(z)), "f1_samples")
    reports = {report.family: report for report in result.rules}
    assert list(reports) == list(families("multilabel"))
    best = max(result.rules, key=lambda report: report.nested)
    assert result.family == best.family == "top_k" and result.rule.top_k == 1
    assert best.gain > best.standard_error > 0
    assert reports["fitted"].gain == reports["fitted"].standard_error == 0
    restricted = labels(
        replace(members, targets=targets, probabilities=expit(z)), "f1_samples", rules=["fitted"]
    )
    assert result.nested.score > restricted.nested.score


def test_the_table_of_rules_is_nested_and_in_sample():
    members, metric = planted(n=200), get("f1", "binary")
    result, p = labels(members, "f1"), members.probabilities[:, 0]
    for report in result.rules:
        decided = np.empty_like(members.targets)
        for fold in range(4):
            out = members.folds == fold
            rule = fit_rule(metric, "binary", members.targets[~out], p[~out], family=report.family)
            decided[out] = rule.apply(p[out])
        rule = fit_rule(metric, "binary", members.targets, p, family=report.family)
        assert report.nested == metric.score(members.targets, decided)
        assert report.in_sample == metric.score(members.targets, rule.apply(p))
    json.dumps([asdict(report) for report in result.rules])


def test_a_single_model_is_scored_with_the_rule_that_is_chosen_for_it():
    members = planted(n=200)
    metric, result = get("accuracy", "binary"), labels(members, "accuracy")
    nested, in_sample = single_estimate(members, 0, metric, True, seed=0)
    assert (nested, in_sample) == (result.nested, result.in_sample)
    _, predictions = single_predictions(members, 0, metric, True, seed=0)
    np.testing.assert_array_equal(predictions, result.nested_predictions)
    fitted, _ = single_estimate(members, 0, metric, True, 0, ["fitted"])
    assert fitted != nested


def test_nothing_is_decided_where_probabilities_are_submitted():
    result = blend(planted(), get("f1", "binary"), wants_labels=False, options=told(methods=()))
    assert (result.family, result.families_by_fold, result.rules) == (None, {}, [])
    assert result.rule is result.gain is None


# --- the gain over .5 ---------------------------------------------------------------------------


def test_the_gain_over_a_half_is_that_of_the_nested_decisions():
    members, metric = planted(n=300), get("f1", "binary")
    result = labels(members, "f1")
    plain = metric.score(members.targets, (members.probabilities[:, 0] >= 0.5).astype(float))
    assert result.gain.difference == pytest.approx(result.nested.score - plain)
    assert result.gain.low < result.gain.difference < result.gain.high


@pytest.mark.parametrize(
    "name,rules", [("accuracy", ["fitted"]), ("matthews", BlendSettings().rules)]
)
def test_of_noise_nothing_is_gained_but_in_sample(name, rules):
    """Targets independent of the predictions, half of them positive: no threshold is better."""
    metric, nested, in_sample = get(name, "binary"), [], []
    for seed in range(12):
        members = make_members([0.0], n=200, seed=seed)
        rng = np.random.default_rng(100 + seed)
        members.targets[:] = rng.random((200, 1)) < 0.5
        result = labels(members, name, rules=rules)
        plain = (members.probabilities[:, 0] >= 0.5).astype(float)
        nested.append(result.gain.difference)
        in_sample.append(result.in_sample - metric.score(members.targets, plain))
    error = np.std(nested, ddof=1) / np.sqrt(len(nested))
    assert abs(np.mean(nested)) < max(3 * error, 0.01)
    assert np.mean(in_sample) > np.mean(nested) + 0.02


# --- a weak and a strong model ------------------------------------------------------------------


@pytest.mark.parametrize("name,decided", [("roc_auc", False), ("f1", True)])
def test_one_weak_and_one_strong_model_are_never_worse_than_the_strong_one(name, decided):
    """Over many draws, on rows that neither choice nor fit has seen."""
    metric, differences = get(name, "binary"), []
    for seed in range(50):
        whole = make_members([1.2, 0.3], n=2400, folds=3, seed=seed)
        members, fresh = _first(whole, 400), whole.targets[400:]
        candidates = list_candidates(members.names, metric, ("mean", "greedy"))
        nesting = Nesting(members, metric, candidates, 0, None)
        chosen = nesting.choose(nesting.folds)
        fit = nesting.fit(chosen.winner, nesting.everything)
        blended = fit.fitted.predict(whole.inputs)[400:]
        strong = whole.probabilities[:, 0]
        if decided:
            rule = fit_rule(metric, "binary", members.targets, strong[:400])
            blended, strong = fit.rule(chosen.family).apply(blended), rule.apply(strong)
        differences.append(metric.score(fresh, blended) - metric.score(fresh, strong[400:]))
    error = np.std(differences, ddof=1) / np.sqrt(len(differences))
    assert np.mean(differences) > -2 * error - 1e-12
    assert min(differences) > -0.03


def _first(members, count):
    parts = ("probabilities", "ranks", "targets", "folds", "groups")
    return replace(members, **{part: getattr(members, part)[:count] for part in parts})


# --- in a workspace -----------------------------------------------------------------------------


def test_a_blend_tells_its_rules(tmp_path, capsys):
    root = make_workspace(tmp_path, n=48, metric="f1", submission="labels")
    turn_labels(root, {f"r{i}" for i in range(0, 48, 6)})
    go_through(root, "folds", "train")
    capsys.readouterr()
    go_through(root, "blend")
    info = read_json(root / "oof/_blends/blend/blend.json")["rules"]
    assert [report["family"] for report in info["tried"]] == ["default", "rate", "fitted"]
    assert set(info["families_by_fold"]) == {"0", "1", "2"}
    assert set(info["gain_over_default"]) == {"difference", "low", "high", "standard_error"}
    told = capsys.readouterr().out
    assert "decision rule" in told and "better than fitted" in told
    assert "blend: gain over thresholds of .5 " in told and ", nested" in told
    assert foldstack(root, "--set", "blend.rules=default", "blend") == 0
    stored = read_json(root / "oof/_blends/blend/blend.json")
    assert stored["rule"]["thresholds"] == [0.5]
    assert stored["rules"]["gain_over_default"]["difference"] == 0
    assert "decision rule" not in capsys.readouterr().out
