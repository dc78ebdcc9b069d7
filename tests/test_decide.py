"""Decision rules equal brute force where they are called exact, and never lose to their start."""

import json
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from scipy.special import expit, softmax

from foldstack.ensemble import ProbabilityMean, Rule, fit_rule
from foldstack.ensemble.classes import (
    OF_CLASSES,
    best_weight,
    class_weights,
    expected_class,
    kappa_cut_points,
)
from foldstack.ensemble.decide import default_rule, families, is_fitted, may_miss_best
from foldstack.ensemble.nesting import Nesting
from foldstack.ensemble.row_thresholds import (
    OF_ROWS,
    SEARCHED,
    Pairs,
    ascend_rows,
    common_row_threshold,
    row_thresholds,
)
from foldstack.ensemble.thresholds import (
    COLUMNS,
    RATIOS,
    average_counts,
    best_threshold,
    counted_thresholds,
    counts_at,
    own_share,
    rate_thresholds,
    shrink,
    threshold_grid,
)
from foldstack.kinds import Kind
from foldstack.metrics import AVERAGED, FROM_COUNTS, get
from makers import make_members


def labels(seed, n=30, count=3, steps=0):
    """Targets and probabilities (n, count); with steps many probabilities are equal."""
    rng = np.random.default_rng(seed)
    probabilities = rng.random((n, count)) ** 2
    if steps:
        probabilities = (probabilities * steps).round() / steps
    return (rng.random((n, count)) < probabilities).astype(float), probabilities


def classes(seed, n=40, count=4, skill=1.5):
    """One-hot targets, unevenly spread over the classes, and probabilities (n, count)."""
    rng = np.random.default_rng(seed)
    given = rng.integers(count, size=n) * rng.integers(2, size=n)
    targets = np.eye(count)[given]
    return targets, softmax(skill * targets + rng.normal(size=(n, count)), axis=1)


def cuts(column):
    """A threshold for each decision there is about a label."""
    values = np.unique(column)
    return [-1.0, *((values[1:] + values[:-1]) / 2), 2.0]


def decide(probabilities, thresholds):
    return (probabilities >= np.array(thresholds)).astype(float)


# --- one threshold ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FROM_COUNTS)
def test_a_threshold_is_exact_for_every_metric_of_counts(name, dtype):
    """Guards the target's bit beside the probability's: ties, 0 and 1 are where it would show."""
    metric = get(name, "binary")
    for seed in range(20):
        targets, probabilities = labels(seed, 12, 1, steps=5)
        probabilities = probabilities.astype(dtype)
        threshold = best_threshold(name, targets.astype(np.uint8), probabilities)
        found = metric.score(targets, decide(probabilities, [threshold]))
        scores = [metric.score(targets, decide(probabilities, [t])) for t in cuts(probabilities)]
        np.testing.assert_allclose(found, np.nanmax(scores), rtol=0, atol=1e-12)


def test_float32_and_float64_give_the_same_threshold():
    """Guards midpoints taken in float32, which fall on one of two neighbours."""
    targets, probabilities = labels(0, 200, 1)
    single = probabilities.astype(np.float32)
    wanted = best_threshold("f1", targets, single.astype(float))
    assert best_threshold("f1", targets, single) == wanted


def test_probabilities_out_of_range_are_refused():
    """Guards bits that do not order as the numbers do: a negative one would rank highest."""
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="probabilities must be numbers between 0 and 1"):
            best_threshold("f1", np.array([0, 1]), np.array([0.5, wrong]))


def test_the_expected_rate_is_matched_without_targets():
    """Each label is decided as often as its probabilities sum to, as near as ties allow."""
    _, probabilities = labels(0, 50)
    decided = decide(probabilities, rate_thresholds(probabilities)).sum(axis=0)
    np.testing.assert_array_equal(decided, probabilities.sum(axis=0).round())
    tied = np.array([[0.2], [0.4], [0.4], [0.4]])  # Of sum 1.4: none, three or four.
    assert rate_thresholds(tied) == pytest.approx([0.7])
    rule = fit_rule(get("f1", "binary"), "binary", 0 * tied, tied, family="rate")
    assert rule == Rule("binary", tuple(rate_thresholds(tied)))


# --- a threshold a label ----------------------------------------------------------------------


@pytest.mark.parametrize("name", RATIOS)
def test_micro_thresholds_equal_brute_force_over_all_labels_together(name):
    """Dinkelbach's iteration against every combination of cuts of 6 rows and 3 labels."""
    metric = get(f"{name}_micro", "multilabel")
    for seed in range(25):
        targets, probabilities = labels(seed, 6, steps=8 if seed % 2 else 0)
        thresholds = counted_thresholds(name, "micro", targets, probabilities, shrinkage=0)
        every = product(*(cuts(column) for column in probabilities.T))
        best = max(metric.score(targets, decide(probabilities, each)) for each in every)
        found = metric.score(targets, decide(probabilities, thresholds))
        assert found == pytest.approx(best, abs=1e-12)


def test_of_equally_good_micro_thresholds_those_nearest_half_are_taken():
    """Guards corners of the hull alone: what lies between two of them may be as good."""
    metric, ties = get("f1_micro", "multilabel"), 0
    for seed in range(60):
        targets, probabilities = labels(seed, 6, 2, steps=10)
        found = counted_thresholds("f1", "micro", targets, probabilities, shrinkage=0)
        own = [
            [0, *((v[1:] + v[:-1]) / 2), (v[-1] + 1) / 2]
            for v in (np.unique(np.append(0, p)) for p in probabilities.T)
        ]
        own = [[min(p) / 2, *t[1:]] for p, t in zip(probabilities.T, own, strict=True)]
        every = list(product(*own))
        scores = [metric.score(targets, decide(probabilities, each)) for each in every]
        if max(scores) == min(scores):
            continue
        best = [t for t, s in zip(every, scores, strict=True) if s >= max(scores) - 1e-12]
        ties += len(best) > 1
        assert (
            np.abs(found - 0.5).sum() <= min(np.abs(np.array(t) - 0.5).sum() for t in best) + 1e-9
        )
    assert ties > 5


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_many_labels_are_gone_through_in_blocks_without_mixing_them_up(average):
    targets, probabilities = labels(0, 40, 2 * COLUMNS + 3, steps=20)
    found = counted_thresholds("f1", average, targets, probabilities, shrinkage=0)
    pairs = zip(targets.T, probabilities.T, strict=True)
    assert found.tolist() == [best_threshold("f1", *pair) for pair in pairs]


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("name", AVERAGED)
def test_scores_by_labels_counts_are_the_metrics(name, average):
    """Guards a second definition of the averages, and rows at a float32 threshold."""
    targets, probabilities = labels(1, steps=9)
    probabilities = probabilities.astype(np.float32)
    thresholds = probabilities[:3].diagonal().astype(float)
    counts = counts_at(thresholds, targets, probabilities)
    decided = decide(probabilities, thresholds)
    wanted = get(f"{name}_{average}", "multilabel").score(targets, decided)
    assert average_counts(name, average, counts) == pytest.approx(wanted, abs=1e-12)


# --- shrinking --------------------------------------------------------------------------------


def test_a_label_without_data_takes_the_common_threshold():
    share = own_share(np.array([0, 5, 1_000_000]), 5.0)
    np.testing.assert_allclose(share, [0, 0.5, 1], atol=1e-5)
    found = shrink(np.array([0.02, 0.02, 0.02]), 0.5, share)
    np.testing.assert_allclose(found, [0.5, 1 / 8, 0.02], rtol=1e-4)  # odds 1/49: root 1/7


def test_without_shrinkage_thresholds_keep_every_digit():
    """Guards a detour by logits, after which rows between neighbouring floats change sides."""
    thresholds = np.array([0.0, np.nextafter(0.3, 1), np.nextafter(1, 2)])
    share = own_share(np.array([0, 3, 9]), 0)
    np.testing.assert_array_equal(shrink(thresholds, 0.5, share), thresholds)


def test_shrunk_thresholds_hold_better_on_new_rows():
    """Rare labels, whose own best threshold is mostly chance."""
    metric, gains = get("f1_macro", "multilabel"), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        logits = 2 * rng.normal(size=(4200, 12)) - np.linspace(1, 5, 12)
        targets, probabilities = (rng.random(logits.shape) < expit(logits)) * 1.0, expit(logits)
        fitted = [
            fit_rule(metric, "multilabel", targets[:200], probabilities[:200], **keywords)
            for keywords in ({}, {"shrinkage": 0})
        ]
        shrunk, own = (metric.score(targets[200:], r.apply(probabilities[200:])) for r in fitted)
        gains.append(shrunk - own)
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))


# --- averages over rows -----------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_ROWS)
def test_no_single_label_can_improve_what_coordinate_ascent_has_found(name):
    """The local optimum that is promised: each step exact, and none of them downwards."""
    metric = get(name, "multilabel")
    for seed in range(5):
        targets, probabilities = labels(seed, steps=12 if seed % 2 else 0)
        start = np.full(3, 0.5)
        found, total = ascend_rows(name, targets, probabilities, start)
        score = metric.score(targets, decide(probabilities, found))
        assert score == pytest.approx(total / len(targets))
        assert score >= metric.score(targets, decide(probabilities, start)) - 1e-12
        for k, column in enumerate(probabilities.T):
            for cut in cuts(column):
                other = np.where(np.arange(3) == k, cut, found)
                assert metric.score(targets, decide(probabilities, other)) <= score + 1e-12


@pytest.mark.parametrize("name", OF_ROWS)
def test_the_common_threshold_for_rows_is_the_best_of_the_grid(name):
    """Guards gains summed over the wrong side of a threshold, and ties within a row."""
    metric = get(name, "multilabel")
    for seed in range(5):
        targets, probabilities = labels(seed, steps=7)
        grid = threshold_grid(probabilities)
        scores = [metric.score(targets, decide(probabilities, t)) for t in grid]
        found = common_row_threshold(name, targets, probabilities)
        reached = metric.score(targets, decide(probabilities, found))
        assert reached == pytest.approx(max(scores), abs=1e-12)


def test_thresholds_for_rows_start_from_the_common_one():
    """A threshold a label gives at least what one for all does, before they are shrunk."""
    metric = get("f1_samples", "multilabel")
    targets, probabilities = labels(0, 60)
    probabilities = probabilities ** np.array([0.5, 1, 3])
    common = common_row_threshold("f1_samples", targets, probabilities)
    found = row_thresholds("f1_samples", targets, probabilities, shrinkage=0)
    one, own = (metric.score(targets, decide(probabilities, t)) for t in (common, found))
    assert own > one


@pytest.mark.parametrize("name", OF_ROWS)
def test_thresholds_for_rows_equal_brute_force_on_few_rows(name):
    """Coordinate ascent alone is up to .4 behind every combination of cuts of 3 labels."""
    metric = get(name, "multilabel")
    for seed in range(15):
        targets, probabilities = labels(seed, 4 + seed % 5, steps=10 if seed % 2 else 0)
        found = row_thresholds(name, targets, probabilities, shrinkage=0)
        every = product(*(cuts(column) for column in probabilities.T))
        best = max(metric.score(targets, decide(probabilities, each)) for each in every)
        assert metric.score(targets, decide(probabilities, found)) > best - 0.01


def test_a_pair_of_thresholds_moves_where_neither_alone_improves():
    """Both labels of the only row are wrong, and one of them being right is no exact match."""
    targets, probabilities = np.ones((1, 2)), np.full((1, 2), 0.2)
    stuck, right = ascend_rows("exact_match", targets, probabilities, np.full(2, 0.5))
    assert (stuck.tolist(), right) == ([0.5, 0.5], 0.0)
    found, right = Pairs("exact_match", targets, probabilities).climb(stuck)
    assert (found.tolist(), right) == ([0.1, 0.1], 1.0)


def test_thresholds_for_many_rows_are_at_least_those_of_coordinate_ascent():
    """The search reads a sample of the rows; its result is then climbed from on all of them."""
    targets, probabilities = labels(0, SEARCHED + 200)
    quick, thorough = (
        row_thresholds("exact_match", targets, probabilities, shrinkage=0, thorough=each)
        for each in (False, True)
    )
    metric = get("exact_match", "multilabel")
    least, score = (metric.score(targets, decide(probabilities, t)) for t in (quick, thorough))
    assert score >= least


# --- classes ----------------------------------------------------------------------------------


def score_classes(name, targets, probabilities, weights):
    rule = Rule("multiclass", None, class_weights=tuple(weights))
    return get(name, "multiclass").score(targets, rule.apply(probabilities))


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_class_weight_equals_brute_force(name):
    """Guards counts of the classes that rows leave, of which each has its own."""
    for seed in range(4):
        targets, probabilities = classes(seed, n=20)
        weights = np.random.default_rng(seed).uniform(0.5, 2, 4)
        for k in range(4):
            # Every ratio at which a row changes sides, and a little to both sides of it.
            ratios = (weights * probabilities / probabilities[:, k : k + 1]).ravel()
            grid = np.concatenate((ratios * (1 - 1e-9), ratios * (1 + 1e-9)))
            others = np.tile(weights, (len(grid), 1))
            others[:, k] = grid
            best = max(score_classes(name, targets, probabilities, w) for w in others)
            given = targets.argmax(axis=1)
            weights[k] = best_weight(name, given, probabilities, weights, k)
            found = score_classes(name, targets, probabilities, weights)
            assert found == pytest.approx(best, abs=1e-12)


def test_the_class_weight_nearest_one_is_taken():
    """Both rows right wherever the weight of class 1 lies between .25 and 4: 1, not an end."""
    probabilities = np.array([[0.8, 0.2], [0.2, 0.8]])
    found = best_weight("f1_macro", np.array([0, 1]), probabilities, np.ones(2), 1)
    assert found == pytest.approx(1.0)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_class_weights_never_lose_to_the_most_probable_class(name):
    improved = 0
    for seed in range(10):
        targets, probabilities = classes(seed)
        given = targets.argmax(axis=1)
        weights = class_weights(name, given, probabilities, shrinkage=0)
        found, start = (
            score_classes(name, targets, probabilities, w) for w in (weights, np.ones(4))
        )
        assert found >= start - 1e-12
        improved += found > start
        rule = fit_rule(get(name, "multiclass"), "multiclass", targets, probabilities)
        decided = rule.apply(probabilities)
        assert get(name, "multiclass").score(targets, decided) >= start - 1e-12
    assert improved > 5


def every_decision(probabilities):
    """All decisions (n,) that weights of three classes can give.

    In the plane of the logarithms of two weights over the third, each row has three lines, on which two
    of its classes tie. Around every crossing of two lines lie all areas of equal decisions.
    """
    logs = np.log(probabilities)
    a, b = logs[:, 0] - logs[:, 1], logs[:, 0] - logs[:, 2]
    crossings = [(x, y) for x in a for y in b] + [(x, x + d) for x in a for d in b - a]
    crossings += [(y - d, y) for y in b for d in b - a]
    angles = np.arange(12) * np.pi / 6 + 0.1
    around = 1e-6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = (np.array(crossings)[:, None] + around).reshape(-1, 2)
    weighted = logs[None] + np.pad(points, ((0, 0), (1, 0)))[:, None]
    return np.unique(weighted.argmax(axis=2), axis=0)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_class_weights_equal_brute_force_on_few_rows(name):
    """Coordinate ascent from weights of 1 alone is up to .27 behind."""
    metric = get(name, "multiclass")
    for seed in range(12):
        targets, probabilities = classes(seed, n=6 + seed % 7, count=3, skill=0.5)
        if targets.any(axis=0).sum() == 1:  # Then nothing is fitted.
            continue
        rule = fit_rule(metric, "multiclass", targets, probabilities, shrinkage=0)
        every = (np.eye(3)[decided] for decided in every_decision(probabilities))
        best = max(metric.score(targets, decided) for decided in every)
        assert metric.score(targets, rule.apply(probabilities)) > best - 0.01


@pytest.mark.parametrize("name,kind,may", [
    ("f1_macro", "binary", False), ("f1_micro", "multilabel", False),
    ("exact_match", "multilabel", True), ("jaccard", "multilabel", True),
    ("balanced_accuracy", "multiclass", True), ("quadratic_kappa", "multiclass", False),
    ("accuracy", "multiclass", False),  # Nothing is fitted.
])  # fmt: skip
def test_which_rules_may_miss_the_best(name, kind, may):
    assert may_miss_best(get(name, kind), Kind(kind)) is may


def test_class_weights_undo_a_bias_of_the_probabilities():
    """What they are for: a class whose probabilities are all too low."""
    targets, probabilities = classes(0, n=2000, skill=2.0)
    biased = probabilities * np.array([1, 1, 1, 0.2])
    biased /= biased.sum(axis=1, keepdims=True)
    weights = class_weights("balanced_accuracy", targets.argmax(axis=1), biased)
    plain = class_weights("balanced_accuracy", targets.argmax(axis=1), probabilities)
    assert weights[3] / weights[1] == pytest.approx(5 * plain[3] / plain[1], rel=0.5)


def test_cut_points_equal_brute_force_over_all_ordered_ones():
    """Quadratic kappa by Dinkelbach's iteration, of 8 rows and 4 classes."""
    metric = get("quadratic_kappa", "multiclass")
    for seed in range(25):
        targets, probabilities = classes(seed, n=8)
        if targets.any(axis=0).sum() == 1:
            continue
        if seed % 2:
            probabilities = probabilities.round(1)
        points = [*np.unique(expected_class(probabilities)), 9.0]
        rules = [
            Rule("multiclass", None, cut_points=each)
            for each in combinations_with_replacement(points, 3)
        ]
        best = max(metric.score(targets, rule.apply(probabilities)) for rule in rules)
        found = kappa_cut_points(targets.argmax(axis=1), probabilities, shrinkage=0)
        assert (np.diff(found) >= 0).all()
        rule = Rule("multiclass", None, cut_points=tuple(found))
        assert metric.score(targets, rule.apply(probabilities)) == pytest.approx(best, abs=1e-12)


def test_cut_points_are_taken_for_quadratic_kappa_only_where_they_win():
    metric = get("quadratic_kappa", "multiclass")
    targets, probabilities = classes(0, n=300)
    rule = fit_rule(metric, "multiclass", targets, probabilities)
    found, start = (
        metric.score(targets, each.apply(probabilities))
        for each in (rule, default_rule("multiclass", 4))
    )
    assert len(rule.cut_points) == 3 and found > start
    assert fit_rule(metric, "multiclass", targets, targets) == default_rule("multiclass", 4)


# --- rules ------------------------------------------------------------------------------------


def test_a_row_without_any_label_gets_the_most_probable_one():
    probabilities = np.array([[0.1, 0.4, 0.4], [0.6, 0.2, 0.7]])
    rule = Rule("multilabel", (0.5,) * 3, at_least_one=True)
    np.testing.assert_array_equal(rule.apply(probabilities), [[0, 1, 0], [1, 0, 1]])


def test_the_k_most_probable_labels_are_taken():
    probabilities = np.array([[0.1, 0.4, 0.4], [0.6, 0.2, 0.7]])
    rule = Rule("multilabel", None, top_k=2)
    np.testing.assert_array_equal(rule.apply(probabilities), [[0, 1, 1], [1, 0, 1]])
    targets = np.array([[0.0, 1, 1], [1, 0, 1]])
    metric = get("f1_samples", "multilabel")
    assert fit_rule(metric, "multilabel", targets, probabilities / 4, family="top_k") == rule


@pytest.mark.parametrize(
    "rule",
    [
        Rule("multilabel", (1 / 3, 0.5)),
        Rule("multilabel", (1 / 3, 0.5), at_least_one=True),
        Rule("multilabel", None, top_k=2),
        Rule("multiclass", None),
        Rule("multiclass", None, class_weights=(1 / 3, 2.0)),
        Rule("multiclass", None, cut_points=(0.1, 1 / 3)),
    ],
)
def test_rules_of_every_sort_survive_json(rule):
    """Guards a part forgotten in the file, and digits lost."""
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_rules_stored_before_still_load():
    """Guards keys that blends of earlier versions have not written; theirs are written as ever."""
    stored = {"kind": "multilabel", "thresholds": [0.25, 0.5]}
    rule = Rule.from_json(stored)
    assert rule == Rule("multilabel", (0.25, 0.5)) and rule.to_json() == stored


EVERY = [
    *(("binary", name) for name in FROM_COUNTS),
    *(("multilabel", name) for name in OF_ROWS),
    *(("multilabel", f"{one}_{how}") for one in AVERAGED for how in ("macro", "weighted", "micro")),
    *(("multiclass", name) for name in (*OF_CLASSES, "quadratic_kappa", "accuracy", "matthews")),
]


@pytest.mark.parametrize("kind,name", EVERY)
def test_a_rule_never_scores_below_the_default_one_on_its_rows(kind, name):
    """In all families but `rate`, which does not look at the score; float32 like float64."""
    metric = get(name, kind)
    for seed in range(3):
        if kind == "multiclass":
            targets, probabilities = classes(seed)
        else:
            targets, probabilities = labels(seed, count=1 if kind == "binary" else 3)
        probabilities = (probabilities / 2).astype(np.float32)
        least = metric.score(targets, default_rule(kind, targets.shape[1]).apply(probabilities))
        for family in set(families(kind)) - {"rate"}:
            rule = fit_rule(metric, kind, targets, probabilities, family=family)
            assert metric.score(targets, rule.apply(probabilities)) >= least - 1e-12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind,name", EVERY)
def test_where_there_is_nothing_to_learn_a_rule_comes_out_all_the_same(kind, name):
    """No positives, all positives, constant probabilities of 0, .3 and 1, a single row."""
    outputs = 1 if kind == "binary" else 3
    for n in (1, 5):
        every = [np.zeros((n, outputs)), np.ones((n, outputs))]
        if kind == "multiclass":
            every = [np.tile(np.eye(3)[0], (n, 1)), np.eye(3)[np.arange(n) % 3]]
        for targets, value in product(every, (0.0, 0.3, 1.0)):
            probabilities = np.full((n, outputs), value)
            for family in families(kind):
                rule = fit_rule(get(name, kind), kind, targets, probabilities, family=family)
                numbers = (rule.thresholds, rule.class_weights, rule.cut_points)
                assert all(np.isfinite(each).all() for each in numbers if each is not None)
                assert set(np.unique(rule.apply(probabilities))) <= {0.0, 1.0}


# --- in a blend -------------------------------------------------------------------------------


class Told:
    """A fitted candidate whose crossfit must not, or may, be asked for."""

    def __init__(self, crossfit=None):
        self._crossfit = crossfit

    @property
    def crossfit(self):
        assert self._crossfit is not None, "the crossfit was asked for"
        return self._crossfit


def test_a_blend_fits_class_weights_on_the_crossfit_where_they_count():
    """Guards the most probable class for macro-F1, and five fits too many for accuracy."""
    members = make_members([1.0], "multiclass", 3, n=90)
    skewed = members.probabilities[:, 0] * np.array([1, 1, 0.2])
    rows = np.arange(90)
    macro = Nesting(members, get("f1_macro", "multiclass"), [ProbabilityMean()], 0, None)
    assert macro._rule(Told(skewed), rows, macro.reference).class_weights is not None
    accuracy = Nesting(members, get("accuracy", "multiclass"), [ProbabilityMean()], 0, None)
    assert accuracy._rule(Told(), rows, accuracy.reference) == default_rule("multiclass", 3)
    assert not is_fitted(get("accuracy", "multiclass"), Kind.MULTICLASS)
