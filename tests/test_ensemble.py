"""Blending: thresholds are exact, scores are honest, ties go to what is simpler."""

import json
from dataclasses import replace
from itertools import combinations_with_replacement

import lightgbm as lgb
import numpy as np
import pytest

from foldstack.ensemble import (
    OF_RANKS,
    BlendOptions,
    Greedy,
    ProbabilityMean,
    RankMean,
    Rule,
    Stack,
    blend,
    bootstrap,
    count_fits,
    default_rule,
    estimate,
    fit_rule,
    list_candidates,
    paired_difference,
    single_estimate,
    single_predictions,
)
from foldstack.ensemble.nesting import Nesting
from foldstack.errors import InputError
from foldstack.links import within_run_ranks
from foldstack.metrics import METRICS, OfSums, get
from foldstack.stages.blend import _nested_decisions
from makers import make_members, repeated

# --- bootstrap --------------------------------------------------------------------------------


def test_the_bootstrap_is_paired():
    """Guards resamples drawn anew for each entry, which hide small differences in noise."""
    members = make_members([1.0])
    p = members.probabilities[:, 0]
    scores = bootstrap(get("roc_auc", "binary"), members.targets, [p, p**2], members.groups, seed=0)
    assert scores.shape == (200, 2)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], rtol=1e-12)
    assert scores[:, 0].std() > 0


@pytest.mark.parametrize("kind,outputs", [("binary", 1), ("multiclass", 3), ("multilabel", 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_bootstrap_of_sums_equals_one_that_scores_the_rows_of_every_resample(
    kind, outputs, weighted
):
    """Five groups, so that some resamples lack a class; row weights of 0 among others."""
    members = make_members([0.5], kind, outputs, n=24)
    groups = np.arange(24) % 5
    weights = np.arange(24) % 3 / 3 if weighted else None
    tried = 0
    for name in METRICS:
        if name == "cost" or kind not in METRICS[name].scorers:
            continue
        metric = get(name, kind)
        if not isinstance(metric.scorer, OfSums):
            continue
        p = members.probabilities[:, 0]
        p = p if metric.wants == "probability" else default_rule(kind, outputs).apply(p)
        by_rows = replace(metric, scorer=lambda *rows, of=metric.scorer: of(*rows))
        drawn = [
            bootstrap(m, members.targets, [p], groups, seed=0, weights=weights)
            for m in (metric, by_rows)
        ]
        np.testing.assert_allclose(*drawn, rtol=1e-12, atol=1e-15)
        tried += 1
    assert tried >= 12


@pytest.mark.parametrize("name", ["f1", "roc_auc"])
def test_resamples_drawn_a_few_at_once_are_those_drawn_together(name, monkeypatch):
    members = make_members([0.5], n=24)
    found = []
    for drawn in (24 * 200, 24 * 7):
        monkeypatch.setitem(bootstrap.__globals__, "DRAWN", drawn)
        metric = get(name, "binary")
        p = members.probabilities[:, 0].round() if name == "f1" else members.probabilities[:, 0]
        found.append(bootstrap(metric, members.targets, [p], np.arange(24), seed=0))
    np.testing.assert_array_equal(*found)


def test_a_resample_without_any_weight_has_no_score():
    targets, groups = np.ones((4, 1)), np.arange(4)
    weights = np.array([0, 0, 0, 1.0])
    for name in ("f1", "log_loss"):
        scores = bootstrap(get(name, "binary"), targets, [targets], groups, seed=0, weights=weights)
        assert np.isnan(scores).any() and np.isfinite(scores).any()


def test_copies_of_rows_in_one_group_do_not_narrow_the_interval():
    """Guards a bootstrap over rows, for which a training set repeated is twice the evidence."""
    members = make_members([1.0])
    metric, p, groups = get("roc_auc", "binary"), members.probabilities[:, 0], members.groups
    once = estimate(metric, members.targets, p, groups, seed=0)
    targets, twice_p = np.tile(members.targets, (2, 1)), np.tile(p, (2, 1))
    grouped = estimate(metric, targets, twice_p, np.tile(groups, 2), seed=0)
    rows = estimate(metric, targets, twice_p, np.arange(len(targets)), seed=0)
    assert grouped.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    assert rows.standard_error < 0.85 * once.standard_error
    assert once.low < once.score < once.high


def test_an_interval_covers_as_often_as_it_says():
    """Guards a bootstrap of the wrong size; 95 % of the intervals should hold the truth."""
    rng, metric, covered = np.random.default_rng(0), get("accuracy", "binary"), 0
    for seed in range(100):
        targets = (rng.random((100, 1)) < 0.7).astype(float)
        found = estimate(metric, targets, np.ones((100, 1)), np.arange(100), seed=seed)
        covered += found.low <= 0.7 <= found.high
    assert 87 <= covered <= 100


def test_the_variance_over_seeds_widens_the_interval():
    members = make_members([1.0])
    arguments = (get("roc_auc", "binary"), members.targets, members.probabilities[:, 0])
    bare = estimate(*arguments, members.groups, seed=0)
    wide = estimate(*arguments, members.groups, seed=0, seed_variance=0.01)
    assert wide.standard_error == pytest.approx(np.hypot(bare.standard_error, 0.1))
    assert wide.low == pytest.approx(wide.score - 1.96 * wide.standard_error)
    assert wide.high == 1.0  # and not beyond what the metric can take


def test_the_interval_of_a_blend_and_of_a_model_alone_knows_of_seeds():
    members, metric = make_members([1.0, 0.5]), get("roc_auc", "binary")
    over_seeds = replace(members, seed_variance=0.01)
    bare, wide = (blend(m, metric, wants_labels=False).nested for m in (members, over_seeds))
    assert wide.standard_error == pytest.approx(np.hypot(bare.standard_error, 0.1))
    bare, wide = (single_estimate(m, 1, metric, False, 0)[0] for m in (members, over_seeds))
    assert wide.standard_error == pytest.approx(np.hypot(bare.standard_error, 0.1))


def test_undefined_resamples_are_ignored():
    """Guards an interval of nan where a few resamples hold one class only."""
    targets = np.array([[1.0]] + [[0.0]] * 7)
    p = np.linspace(0.9, 0.1, 8)[:, None] + np.array([[0, 0.3] + [0] * 6]).T
    scores = bootstrap(get("roc_auc", "binary"), targets, [p], np.arange(8), seed=0)
    assert np.isnan(scores).any()
    assert np.isfinite(estimate(get("roc_auc", "binary"), targets, p, np.arange(8), seed=0).low)


def test_a_difference_is_positive_where_the_first_is_better():
    """Guards the sign for losses, where smaller is better."""
    members = make_members([2.0, 0.2])
    good, bad = members.probabilities[:, 0], members.probabilities[:, 1]
    for name in ("roc_auc", "log_loss"):
        arguments = (get(name, "binary"), members.targets)
        found = paired_difference(*arguments, [good], [bad], members.groups, 0)
        assert found.low > 0 and np.isnan(found.seed_error)
        turned = paired_difference(*arguments, [bad], [good], members.groups, 0)
        assert turned.difference == -found.difference


def test_a_difference_over_seeds_adds_the_variance_of_their_mean():
    """Guards an interval that knows of rows only: two seeds that disagree widen it."""
    members = make_members([2.0, 1.0, 0.5])
    best, middle, worst = members.probabilities.transpose(1, 0, 2)
    metric = get("roc_auc", "binary")
    one = paired_difference(metric, members.targets, [best], [middle], members.groups, 0)
    two = paired_difference(
        metric, members.targets, [best, best], [middle, worst], members.groups, 0
    )
    other = paired_difference(metric, members.targets, [best], [worst], members.groups, 0)
    np.testing.assert_allclose(two.by_seed, [one.difference, other.difference])
    assert two.difference == pytest.approx(two.by_seed.mean())
    assert two.seed_error == pytest.approx(abs(two.by_seed[0] - two.by_seed[1]) / 2)
    assert two.standard_error == pytest.approx(np.hypot(two.row_error, two.seed_error))
    same = paired_difference(
        metric, members.targets, [best, best], [middle, middle], members.groups, 0
    )
    assert same.seed_error == 0
    assert same.standard_error == pytest.approx(one.standard_error)


def test_both_sides_of_a_difference_are_scored_on_the_same_resamples():
    """What orders the rows alike is no better on any of them; other resamples would hide that."""
    members = make_members([1.0, 0.5])
    a, b = members.probabilities.transpose(1, 0, 2)
    metric = get("roc_auc", "binary")
    found = paired_difference(metric, members.targets, [a, b], [a**2, b**2], members.groups, seed=0)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert metric.score(members.targets, a) != metric.score(members.targets, b)


# --- decision rules ---------------------------------------------------------------------------


def brute_force(metric, targets, probabilities):
    """The best score over every cut between distinct values, below and above them all."""
    values = np.unique(probabilities)
    cuts = [-1.0, *((values[1:] + values[:-1]) / 2), 2.0]
    scores = [metric.score(targets, (probabilities >= cut).astype(float)) for cut in cuts]
    return max(scores)


@pytest.mark.parametrize("name", ["f1", "f1_macro", "accuracy", "balanced_accuracy", "matthews"])
def test_binary_thresholds_are_exact(name):
    """Guards cumulative counts off by one, and ties split by a threshold inside them."""
    metric = get(name, "binary")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        probabilities = rng.integers(0, 9, (25, 1)) / 8
        targets = (rng.random((25, 1)) < probabilities).astype(float)
        rule = fit_rule(metric, "binary", targets, probabilities)
        found = metric.score(targets, rule.apply(probabilities))
        assert found == brute_force(metric, targets, probabilities)


def test_thresholds_lie_midway_and_the_best_nearest_half_is_taken():
    """Guards the first or last of equally good thresholds, which changes most with new rows."""
    metric = get("accuracy", "binary")
    targets = np.array([[0.0], [1.0], [0.0], [1.0]])
    probabilities = np.array([[0.1], [0.3], [0.6], [0.8]])
    # Cuts at .2 and at .7 each get three of four right; mirrored, those at .8 and at .3.
    rule = fit_rule(metric, "binary", targets, probabilities)
    mirrored = fit_rule(metric, "binary", 1 - targets, 1 - probabilities)
    assert rule.thresholds == pytest.approx((0.7,))
    assert mirrored.thresholds == pytest.approx((0.3,))


@pytest.mark.parametrize("low", [0.3, 0.5, np.nextafter(1, 0)])
def test_neighbouring_floats_are_still_told_apart(low):
    """Guards the midpoint of two neighbouring floats, which rounds to one of them."""
    probabilities = np.array([[low], [np.nextafter(low, 1)]])
    targets = np.array([[0.0], [1.0]])
    rule = fit_rule(get("accuracy", "binary"), "binary", targets, probabilities)
    np.testing.assert_array_equal(rule.apply(probabilities), targets)


def test_a_certain_negative_can_be_refused():
    """Guards p >= 1 as the highest threshold: it still calls a probability of 1 positive."""
    targets, probabilities = np.zeros((3, 1)), np.array([[0.2], [1.0], [1.0]])
    rule = fit_rule(get("accuracy", "binary"), "binary", targets, probabilities)
    assert rule.apply(probabilities).sum() == 0


def test_float32_probabilities_fall_on_the_side_they_were_fitted_on():
    """Guards numpy's rounding of a bare float threshold to float32."""
    values = np.float32(0.3) * np.ones(2, np.float32)
    values[1] = np.nextafter(values[0], np.float32(1))
    targets = np.array([[0.0], [1.0]])
    rule = fit_rule(get("accuracy", "binary"), "binary", targets, values[:, None])
    np.testing.assert_array_equal(rule.apply(values[:, None]), targets)


@pytest.mark.parametrize("name", ["f1_macro", "f1_weighted"])
def test_multilabel_thresholds_are_exact_for_each_label(name):
    members = make_members([0.7], "multilabel", 3, n=40)
    members.targets[:, 2] = 0
    targets, probabilities = members.targets, members.probabilities[:, 0].round(1)
    rule = fit_rule(get(name, "multilabel"), "multilabel", targets, probabilities, shrinkage=0)
    decisions, binary = rule.apply(probabilities), get("f1", "binary")
    for k in (0, 1):
        column = slice(k, k + 1)
        wanted = brute_force(binary, targets[:, column], probabilities[:, column])
        assert binary.score(targets[:, column], decisions[:, column]) == wanted
    assert rule.thresholds[2] == 0.5  # No positives: nothing to learn.


@pytest.mark.parametrize("name", ["f1_samples", "accuracy"])
def test_thresholds_for_rows_beat_half(name):
    members = make_members([0.7], "multilabel", 3, n=40)
    metric, probabilities = get(name, "multilabel"), members.probabilities[:, 0] / 3
    rule = fit_rule(metric, "multilabel", members.targets, probabilities)
    half = metric.score(members.targets, Rule("multilabel", (0.5,) * 3).apply(probabilities))
    assert metric.score(members.targets, rule.apply(probabilities)) > half


def test_rules_survive_json():
    """Guards a threshold written with fewer digits than it has."""
    for rule in (Rule("multilabel", (1 / 3, 0.5)), Rule("multiclass", None)):
        assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule
    decided = Rule("multiclass", None).apply(np.array([[0.2, 0.5, 0.3]]))
    np.testing.assert_array_equal(decided, [[0, 1, 0]])


# --- candidates -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log_loss", "f1"])
def test_greedy_equals_brute_force_where_two_models_complement_each_other(name):
    """Every multiset of up to four of three models; guards weights that are not the shares."""
    members = make_members([0.8, 0.8, 0.1], n=60, seed=3)
    metric, rows = get(name, "binary"), np.arange(60)

    def score(p):
        if metric.wants == "labels":
            p = fit_rule(metric, "binary", members.targets, p).apply(p)
        return metric.signed(members.targets, p)

    fitted = Greedy().fit(members, rows, metric, seed=0)
    subsets = [s for k in range(1, 5) for s in combinations_with_replacement(range(3), k)]
    best = max(score(members.probabilities[:, list(s)].mean(axis=1)) for s in subsets)
    assert score(fitted.crossfit) >= best - 1e-12
    assert sum(fitted.parameters["weights"].values()) == pytest.approx(1)


def test_greedy_keeps_to_one_model_where_another_adds_nothing():
    """Guards ties: a copy of the best model must not share its weight."""
    members = make_members([1.0, 1.0])
    members.probabilities[:, 1] = members.probabilities[:, 0]
    fitted = Greedy().fit(members, np.arange(200), get("roc_auc", "binary"), seed=0)
    assert fitted.parameters == {"weights": {"model0": 1.0, "model1": 0.0}}


def test_greedy_gives_a_further_share_to_a_model_it_already_uses():
    """Guards ties that spread one model's weight over its copies, and steps that gain nothing.

    Three shares to one is the best here, so the fifth step must be the last.
    """
    members, rows = make_members([1.0, 0.8, 0.0], seed=1), np.arange(200)
    members.probabilities[:, 2] = members.probabilities[:, 0]
    weights = Greedy().fit(members, rows, get("log_loss", "binary"), 0).parameters["weights"]
    assert weights == {"model0": 0.75, "model1": 0.25, "model2": 0.0}


def test_a_greedy_mean_of_ranks_hears_a_model_that_is_never_sure():
    """Two models of equal skill, the second all but indifferent: its probabilities hardly count."""
    members, metric, rows = make_members([1.0, 1.0]), get("roc_auc", "binary"), np.arange(200)
    members.probabilities[:, 1] = 0.5 + (members.probabilities[:, 1] - 0.5) / 1000
    fits = [Greedy(scale=scale).fit(members, rows, metric, 0) for scale in ("probability", "rank")]
    scores = [metric.score(members.targets, fit.predict(members.inputs)) for fit in fits]
    assert scores[1] > scores[0] + 0.02
    assert min(fits[1].parameters["weights"].values()) > 0.3
    of_ranks = Greedy().fit(replace(members, probabilities=members.ranks), rows, metric, 0)
    assert fits[1].parameters == of_ranks.parameters
    np.testing.assert_array_equal(fits[1].crossfit, of_ranks.crossfit)


def test_what_one_fold_has_as_ranks_is_nowhere_decided_at_a_half():
    """Guards a rate of positives told of ranks, of which half are above .5 whatever is predicted."""
    members, metric = make_members([1.0, 0.8]), get("roc_auc", "binary")
    result = blend(members, metric, wants_labels=False)
    winners = dict.fromkeys(result.winners_by_fold, "single:model0") | {2: "rank_greedy"}
    mixed = replace(
        result, winner="single:model0", winners_by_fold=winners, oof=members.ranks[:, 0]
    )
    decided = _nested_decisions(members, mixed)
    np.testing.assert_array_equal(decided, members.probabilities.mean(axis=1) > 0.5)
    assert (decided != (members.ranks[:, 0] > 0.5)).any()


def test_rank_means_are_for_rankings_only():
    """Guards a log-loss or a threshold on ranks, which are no probabilities."""
    names = lambda metric: [c.name for c in list_candidates(["a", "b"], metric)]  # noqa: E731
    assert names(get("roc_auc", "binary")) == [
        "single:a", "single:b", "mean", "rank_mean", "greedy", "rank_greedy", "stack",
    ]  # fmt: skip
    assert not OF_RANKS.intersection(names(get("log_loss", "binary")) + names(get("f1", "binary")))
    assert [c.name for c in list_candidates(["a"], get("roc_auc", "binary"))] == ["single:a"]
    with pytest.raises(InputError, match=r"'stak' is not known: did you mean 'stack'\?"):
        list_candidates(["a", "b"], get("roc_auc", "binary"), ["stak"])


def test_means_of_probabilities_and_ranks():
    members, metric, rows = make_members([1.0, 0.5]), get("roc_auc", "binary"), np.arange(50)
    for candidate, source in (
        (ProbabilityMean(), members.probabilities),
        (RankMean(), members.ranks),
    ):
        fitted = candidate.fit(members, rows, metric, seed=0)
        predictions = fitted.predict(members.inputs)
        np.testing.assert_allclose(predictions, source.mean(axis=1))


@pytest.mark.parametrize("kind,outputs", [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_a_stack_is_stored_as_text_and_repeats_itself(kind, outputs, tmp_path):
    members = make_members([1.0, 0.5], kind, outputs)
    if kind == "multilabel":
        members.targets[:, 1] = 1
    fitted = Stack().fit(members, np.arange(150), None, seed=0)
    again = Stack().fit(members, np.arange(150), None, seed=0)
    predictions = fitted.predict(members.inputs)
    assert predictions.shape == members.targets.shape
    np.testing.assert_array_equal(predictions, again.predict(members.inputs))
    # One a fold; their mean predicts. The text is LightGBM's own.
    paths = [path for path in fitted.save(tmp_path) if path.stem.endswith("-0")]
    assert [path.name for path in paths] == [f"stack{m}-0.txt" for m in range(4)]
    first = members.probabilities
    if kind == "multilabel":  # the first label's predictions, then what is said of the other
        others = np.log(first / (1 - first))[:, :, 1].mean(axis=1, keepdims=True)
        first = first[:, :, :1]
    logits = np.log(first / (1 - first)).reshape(200, -1)
    table = np.hstack([logits, others]) if kind == "multilabel" else logits
    stored = [lgb.Booster(model_file=path).predict(table).reshape(200, -1) for path in paths]
    np.testing.assert_allclose(np.mean(stored, axis=0), predictions[:, : stored[0].shape[1]])
    if kind == "multilabel":  # A label with a single class is a constant, without a file.
        assert (predictions[:, 1] == 1).all()
        models = json.loads(json.dumps(fitted.parameters))["models"]
        assert [model["constants"] for model in models] == [{"1": 1.0}] * 4


def test_the_crossfit_of_a_stack_does_not_know_its_rows():
    """Guards a threshold fitted on predictions sharper than any new row will get."""
    members, metric = make_members([0.0, 0.0], n=300), get("roc_auc", "binary")
    fitted = Stack().fit(members, np.arange(300), metric, seed=0)
    plain = fitted.predict(members.inputs)
    assert metric.score(members.targets, plain) > 0.65
    assert metric.score(members.targets, fitted.crossfit) < 0.57


def test_the_crossfit_keeps_groups_together():
    """Guards a copy of the row in the other splits: noise would be predicted from its copy."""
    members = make_members([0.0, 0.0], n=100)
    copies = repeated(members, 4)
    fitted = Stack().fit(copies, np.arange(400), get("roc_auc", "binary"), seed=0)
    assert get("roc_auc", "binary").score(copies.targets, fitted.crossfit) < 0.65


def test_members_refuse_shapes_and_values_that_do_not_fit():
    members = make_members([1.0, 1.0])
    with pytest.raises(ValueError, match=r"ranks \(200, 1, 1\) should be \(200, 2, 1\)"):
        replace(members, ranks=members.ranks[:, :1])
    with pytest.raises(ValueError, match="probabilities must be numbers between 0 and 1"):
        replace(members, probabilities=members.probabilities * np.nan)


# --- nesting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 4])
@pytest.mark.parametrize("name,labels", [("roc_auc", False), ("f1", True)])
def test_no_label_of_a_fold_reaches_its_nested_predictions(name, labels, folds):
    """The promise of the package: fold j's labels are neither fitted nor chosen on for j."""
    members = make_members([0.6, 0.5], n=120, folds=folds)
    metric, held_out = get(name, "binary"), members.folds == 1
    before = blend(members, metric, wants_labels=labels)
    targets = members.targets.copy()
    targets[held_out] = 1 - targets[held_out]
    after = blend(replace(members, targets=targets), metric, wants_labels=labels)
    assert before.winners_by_fold[1] == after.winners_by_fold[1]
    for part in ("oof", "nested_predictions"):
        pooled = (getattr(each, part)[held_out] for each in (before, after))
        # If the other folds' winners differ now, the fold is pooled by its ranks: the order is the same.
        np.testing.assert_array_equal(*(within_run_ranks(values) for values in pooled))
    # And the labels do matter elsewhere, or this test could not fail.
    assert before.nested != after.nested


def test_a_single_model_gets_its_rule_from_the_other_folds():
    """Guards a table row whose threshold was fitted on the rows it is scored on."""
    members, metric = make_members([0.6], n=120), get("f1", "binary")
    nested, in_sample = single_estimate(members, 0, metric, True, seed=0, rules=["fitted"])
    p, decided = members.probabilities[:, 0], np.empty_like(members.targets)
    for fold in range(4):
        out = members.folds == fold
        rule = fit_rule(metric, "binary", members.targets[~out], p[~out])
        decided[out] = rule.apply(p[out])
    assert nested.score == metric.score(members.targets, decided)
    rule = fit_rule(metric, "binary", members.targets, p)
    assert in_sample == metric.score(members.targets, rule.apply(p)) >= nested.score


def test_a_model_alone_is_scored_by_its_own_predictions():
    """Guards a table in which every model has the first one's score."""
    members, metric = make_members([2.0, 0.5]), get("roc_auc", "binary")
    for k, own in enumerate(members.probabilities.transpose(1, 0, 2)):
        nested, in_sample = single_estimate(members, k, metric, False, seed=0)
        assert nested.score == in_sample == metric.score(members.targets, own)
        scored_by, predictions = single_predictions(members, k, metric, False, seed=0)
        assert scored_by is metric
        np.testing.assert_array_equal(predictions, own)


def test_noise_scores_like_noise_when_nested_and_better_in_sample():
    """Guards every road by which fitting and choosing could flatter the headline."""
    found = [
        blend(make_members([0.0] * 4, n=150, folds=3, seed=seed), get("roc_auc", "binary"),
              wants_labels=False,
              options=BlendOptions(methods=("greedy", "stack"), calibration="none"))
        for seed in range(8)
    ]  # fmt: skip
    nested = np.array([each.nested.score for each in found])
    stacks = [report for each in found for report in each.candidates if report.name == "stack"]
    assert abs(nested.mean() - 0.5) < 0.04
    assert np.mean([each.in_sample for each in found]) > nested.mean() + 0.02
    assert np.mean([report.in_sample for report in stacks]) > 0.65
    assert abs(np.mean([report.nested for report in stacks]) - 0.5) < 0.05


def test_a_weak_model_does_not_spoil_a_strong_one():
    """Guards a blend that averages whatever it is given."""
    members, metric = make_members([1.5, 0.0], n=400), get("roc_auc", "binary")
    result = blend(members, metric, wants_labels=False)
    strong = metric.score(members.targets, members.probabilities[:, 0])
    assert result.nested.score > strong - 0.01
    assert result.winner == "single:model0"


def test_two_complementary_models_are_blended_and_simply():
    """Guards a choice by complexity alone: single models are simpler, but clearly worse."""
    members, metric = make_members([1.0, 1.0], n=400), get("roc_auc", "binary")
    result = blend(members, metric, wants_labels=False)
    assert result.winner in ("mean", "rank_mean")
    reports = {report.name: report for report in result.candidates}
    assert reports["single:model0"].difference_to_best > reports["single:model0"].standard_error
    assert min(report.difference_to_best for report in result.candidates) == 0
    source = "test_ranks" if result.winner == "rank_mean" else "test_probabilities"
    np.testing.assert_allclose(result.test, getattr(members, source).mean(axis=1))


def test_the_simplest_within_one_standard_error_wins():
    """Guards a choice of the best by a hair, which is a choice by luck."""
    best_lost = 0
    for seed in range(4):
        members, metric = make_members([0.7, 0.5], n=150, folds=3, seed=seed), get("f1", "binary")
        result = blend(members, metric, wants_labels=True)
        within = [c for c in result.candidates if c.difference_to_best <= c.standard_error]
        simplest = min(report.complexity for report in within)
        wanted = [report for report in within if report.complexity == simplest]
        best_single = max(wanted, key=lambda report: report.nested)
        assert result.winner == (wanted[0] if simplest else best_single).name
        best_lost += next(c for c in within if c.difference_to_best == 0).name != result.winner
    assert best_lost > 0  # Or the seeds above would show nothing.


def test_of_single_models_the_better_wins_though_listed_later():
    """Guards listed order between single models: no one of them is the simpler."""
    members, metric = make_members([0.8, 0.8], seed=3), get("roc_auc", "binary")
    result = blend(
        members, metric, wants_labels=False, options=BlendOptions(methods=(), calibration="none")
    )
    first, second = result.candidates
    assert 0 < first.difference_to_best < first.standard_error
    assert result.winner == second.name == "single:model1"


@pytest.mark.parametrize(
    "kind,outputs,name,labels",
    [
        ("binary", 1, "f1", True),
        ("binary", 1, "f1", False),
        ("multiclass", 3, "f1_macro", True),
        ("multiclass", 3, "log_loss", False),
        ("multilabel", 2, "f1_macro", True),
        ("multilabel", 2, "roc_auc", False),
    ],
)
@pytest.mark.parametrize("folds", [2, 3])
def test_every_kind_runs_with_few_folds(kind, outputs, name, labels, folds):
    members, calls = make_members([1.0, 0.7], kind, outputs, n=90, folds=folds), []
    metric = get(name, kind)
    result = blend(members, metric, wants_labels=labels, progress=lambda: calls.append(1))
    assert len(calls) == count_fits(folds, len(result.candidates))
    assert result.oof.shape == result.nested_predictions.shape == members.targets.shape
    assert result.test.shape == members.test_probabilities[:, 0].shape
    assert set(result.winners_by_fold) == set(range(folds))
    assert result.nested.low <= result.nested.score <= result.nested.high
    json.dumps(result.parameters)
    if labels:
        assert set(np.unique(result.nested_predictions)) <= {0, 1}
        assert result.nested.score == metric.score(members.targets, result.nested_predictions)
        np.testing.assert_array_equal(result.test_decisions, result.rule.apply(result.test))
    else:
        assert result.rule is None and result.test_decisions is None
        np.testing.assert_array_equal(result.nested_predictions, result.oof)


def test_probabilities_submitted_to_a_metric_of_labels_are_scored_at_half():
    """Guards a fitted threshold in the estimate of a file that carries none."""
    members, metric = make_members([1.0], n=100), get("f1", "binary")
    result = blend(members, metric, wants_labels=False)
    decided = (members.probabilities[:, 0] >= 0.5).astype(float)
    assert result.nested.score == metric.score(members.targets, decided)
    with pytest.raises(InputError, match="'roc_auc' requires a ranking, but labels are submitted"):
        blend(members, get("roc_auc", "binary"), wants_labels=True)


def test_ranks_and_probabilities_are_not_pooled_as_they_are():
    """Guards an AUC over folds of unlike scales: it would order rows by their fold."""
    members, metric = make_members([1.0, 1.0], n=200), get("roc_auc", "binary")
    # Probabilities far below the ranks, which leaves the order within folds as it was.
    members = replace(members, probabilities=members.probabilities / 100)
    nesting = Nesting(members, metric, [ProbabilityMean(), RankMean()], 0, None)
    choices = [replace(nesting.choose(nesting.folds), winner=k) for k in (0, 1)]
    mixed, _ = nesting.pool([choices[k] for k in (0, 1, 0, 1)])
    alike, _ = nesting.pool([choices[1]] * 4)
    difference = metric.score(members.targets, alike) - metric.score(members.targets, mixed)
    assert abs(difference) < 0.02
    unmixed, _ = nesting.pool([choices[0]] * 4)
    np.testing.assert_allclose(unmixed, members.probabilities.mean(axis=1))


@pytest.mark.parametrize("folds", [2, 3])
def test_what_a_blend_leaves_out_together_never_cuts_a_group(folds):
    """With two folds the halves of each are chosen on: a copy in the other half would be known."""
    members = make_members([1.0], n=120)
    groups = np.arange(120) // 4
    members = replace(members, folds=groups % folds, groups=groups)
    units = Nesting(members, get("roc_auc", "binary"), [ProbabilityMean()], 0, None).units
    assert len(np.unique(units)) == (4 if folds == 2 else 3)
    assert (np.ptp(units.reshape(-1, 4), axis=1) == 0).all()


@pytest.mark.filterwarnings("error")
def test_folds_of_a_single_class_are_survived():
    """Guards fits and choices where the metric is undefined without one of the folds."""
    members = make_members([1.0, 0.5], n=60, folds=3)
    members.targets[:, 0] = members.folds == 1
    result = blend(members, get("roc_auc", "binary"), wants_labels=False)
    assert np.isfinite(result.nested.score)
    assert result.winners_by_fold[1] == "single:model0"  # Nothing to choose by: the first.


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="at least two folds"):
        blend(make_members([1.0], folds=1), get("roc_auc", "binary"), wants_labels=False)
