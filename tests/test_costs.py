"""Costs of decisions: the setting, the metric, and the decision of least expected cost."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, softmax
from sklearn.metrics import hamming_loss

from foldstack.competition import Competition
from foldstack.costs import cost_table, read_costs
from foldstack.ensemble import Rule, fit_rule
from foldstack.ensemble.least_cost import fitted_thresholds, least_cost_thresholds
from foldstack.ensemble.search_objective import SearchObjective
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.metrics import get
from tiny import add_preset, foldstack, go_through, make_workspace, refuses, write

BINARY = ((0.0, 1.0), (4.0, 0.0))  # A miss costs four false alarms.
CLASSES = ((0.0, 1.0, 2.0), (5.0, 0.0, 1.0), (9.0, 1.0, 0.5))
LABELS = ((1.0, 1.0), (1.0, 3.0))


def column(*values):
    return np.array(values, float)[:, None]


def one_hot(*classes):
    return np.eye(3)[list(classes)]


def drawn(kind, outputs, n=2000, seed=0):
    """Calibrated probabilities (n, outputs), and targets drawn from them."""
    rng = np.random.default_rng(seed)
    if kind == "multiclass":
        probabilities = softmax(2 * rng.normal(size=(n, outputs)), axis=1)
        return np.array([rng.multinomial(1, p) for p in probabilities]) * 1.0, probabilities
    probabilities = expit(2 * rng.normal(size=(n, outputs)) - 1)
    return (rng.random((n, outputs)) < probabilities) * 1.0, probabilities


# --- the metric -------------------------------------------------------------------------------


def test_the_mean_cost_by_hand():
    """Guards truth and decision taken for each other, and weights left out."""
    binary = get("cost", "binary", costs=BINARY)
    targets, decisions = column(0, 0, 1, 1), column(0, 1, 0, 1)
    assert binary.score(targets, decisions) == (0 + 1 + 4 + 0) / 4
    assert binary.score(targets, decisions, np.array([1, 1, 0, 2])) == 1 / 4
    assert binary.signed(targets, decisions) == -5 / 4

    multiclass = get("cost", "multiclass", costs=CLASSES)
    assert multiclass.score(one_hot(0, 1, 2, 2), one_hot(2, 0, 0, 2)) == (2 + 5 + 9 + 0.5) / 4

    multilabel = get("cost", "multilabel", costs=LABELS)
    targets, decisions = np.array([[0, 1], [1, 0.0]]), np.array([[1, 0], [1, 1.0]])
    assert multilabel.score(targets, decisions) == (1 + 3 + 0 + 1) / 4


def test_without_numbers_of_ones_own_the_cost_is_the_rate_of_mistakes():
    targets, decisions = one_hot(0, 1, 2, 2), one_hot(0, 2, 2, 1)
    costs = cost_table({"a": {"a": 0}}, "multiclass", "abc", "")
    cost, accuracy = get("cost", "multiclass", costs=costs), get("accuracy", "multiclass")
    assert cost.score(targets, decisions) == 1 - accuracy.score(targets, decisions)
    costs = cost_table({"false_positive": 1}, "multilabel", "abc", "")
    found = get("cost", "multilabel", costs=costs).score(targets, decisions)
    assert found == pytest.approx(hamming_loss(targets, decisions))


@pytest.mark.parametrize(
    "kind,costs,bounds",
    [("binary", BINARY, (0, 4)), ("multiclass", CLASSES, (0, 9)), ("multilabel", LABELS, (0, 2))],
)
def test_the_bounds_are_the_least_and_the_most_that_decisions_can_cost(kind, costs, bounds):
    metric = get("cost", kind, costs=costs)
    assert metric.bounds == bounds and not metric.greater_is_better and metric.wants == "labels"


def test_the_metric_is_not_had_without_costs():
    with pytest.raises(InputError) as error:
        get("cost", "binary")
    assert str(error.value) == (
        "metric 'cost' requires `costs` in competition.yaml, and to be `metric` or in "
        "`report_metrics` there"
    )
    with pytest.raises(InputError, match=r"^metric 'cost' does not fit kind 'regression'"):
        get("cost", "regression", costs=BINARY)


# --- the setting ------------------------------------------------------------------------------


def test_costs_are_written_by_truth_and_decision():
    assert cost_table({"yes": {"no": 4}}, "binary", ["no", "yes"], "") == BINARY
    assert cost_table({"false_negative": 4}, "binary", ["no", "yes"], "") == BINARY
    given = {"a": {"c": 2}, "b": {"a": 5}, "c": {"a": 9, "c": 0.5}}
    assert cost_table(given, "multiclass", "abc", "") == CLASSES


def test_a_label_may_have_costs_of_its_own():
    """Whatever the order in which they are written."""
    given = {"b": {"false_negative": 3}, "false_negative": 1}
    assert cost_table(given, "multilabel", "ab", "") == LABELS


@pytest.mark.parametrize(
    "kind,given,sentence",
    [
        (
            "multiclass",
            {"spma": {"ham": 1}},
            "`costs` name 'spma', which is none of the labels: did you mean 'spam'?",
        ),
        (
            "multiclass",
            {"spam": {"hma": 1}},
            "`costs` name 'hma', which is none of the labels: did you mean 'ham'?",
        ),
        (
            "multiclass",
            {"spam": 3.0},
            "`costs` give 'spam' the number 3: write what each decision costs where it is the "
            "truth, `spam: {DECISION: 3}`",
        ),
        (
            "binary",
            {"spam": {"spam": 2.0}},
            "`costs`: where the truth is 'spam', 'ham' costs 1, less than the right decision, "
            "which costs 2: raise the former or lower the latter",
        ),
        (
            "binary",
            {"spam": {"ham": 0}, "ham": {"spam": 0}},
            "by `costs` no mistake costs more than the right decision: raise one",
        ),
        (
            "multilabel",
            {"false_postive": 1.0},
            "`costs` name 'false_postive', which is neither false_positive nor false_negative: "
            "did you mean 'false_positive'?",
        ),
        (
            "multilabel",
            {"spam": {"ham": 1}},
            "`costs` name 'ham', which is neither false_positive nor false_negative: known: "
            "false_negative, false_positive",
        ),
        (
            "multilabel",
            {"spma": {"false_positive": 1}},
            "`costs` name 'spma', which is none of the labels: did you mean 'spam'?",
        ),
        (
            "multilabel",
            {"false_positive": 0.0, "false_negative": 0.0},
            "all `costs` are 0: give a mistake a cost",
        ),
    ],
)
def test_costs_that_cannot_be_are_refused(kind, given, sentence):
    with pytest.raises(InputError) as error:
        cost_table(given, kind, ["ham", "spam"], "competition.yaml")
    assert str(error.value) == f"competition.yaml: {sentence}"


def test_costs_may_stand_in_a_table(tmp_path):
    """Empty cells are as what is not written: 1 for a mistake, 0 for the right decision."""
    path = write(tmp_path / "costs.csv", "truth,a,b,c\na,,,2\nb,5,,\nc,9,,0.5\n")
    assert cost_table(read_costs(path, "utf-8"), "multiclass", "abc", "") == CLASSES
    path = write(tmp_path / "labels.csv", "label,false_negative\nb,3\n")
    assert cost_table(read_costs(path, "utf-8"), "multilabel", "ab", "") == LABELS


@pytest.mark.parametrize(
    "text,sentence",
    [
        ("truth,a\na,0\nb,x\n", "row 2, column 'a': a cost is a number of 0 or more, not 'x'"),
        ("truth,a\na,0\na,1\n", "row 2 repeats 'a': one row each is expected"),
    ],
)
def test_a_table_that_holds_no_costs_is_refused(tmp_path, text, sentence):
    path = write(tmp_path / "costs.csv", text)
    with pytest.raises(InputError) as error:
        read_costs(path, "utf-8")
    assert str(error.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    "settings,sentence",
    [
        (
            {"metric": "cost"},
            "metric cost requires `costs`, what each decision costs for each truth: write `costs: "
            "{no: {yes: 1}, yes: {no: 5}}`",
        ),
        (
            {"metric": "cost", "kind": "multilabel"},
            "metric cost requires `costs`, what each decision costs for each truth: write `costs: "
            "{false_positive: 1, false_negative: 5}`",
        ),
        (
            {"costs": {"1": {"0": 4}}},
            "`costs` change nothing unless they are scored: set `metric: cost`, or remove them",
        ),
        (
            {"metric": "cost", "costs": {"1": {"0": "-4"}}},
            "setting 'costs' is {'1': {'0': '-4'}}: a cost is a number of 0 or more, not '-4'",
        ),
        (
            {"metric": "cost", "costs": ["1"]},
            "setting 'costs' is ['1']: write `TRUTH: {DECISION: cost}`, or the name of a file in "
            "input/",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, capsys, settings, sentence):
    root = make_workspace(tmp_path / "w", **settings)
    refuses(root, ["folds"], f"{root}/competition.yaml: {sentence}", capsys)


def test_init_leaves_costs_to_the_user(workspace, capsys):
    (workspace / "competition.yaml").unlink()
    refuses(
        workspace,
        ["init", "--metric", "cost"],
        "METRIC=cost: what decisions cost cannot be guessed: leave METRIC out, and then set "
        '`metric: cost` and `costs: {"0": {"1": 1}, "1": {"0": 5}}` in competition.yaml, with your '
        "own numbers",
        capsys,
    )


# --- the decision of least expected cost ------------------------------------------------------


def expected_costs(probabilities, costs):
    """(n, decisions), by loops."""
    truths = range(len(costs))
    return np.array(
        [[sum(p[t] * costs[t][d] for t in truths) for d in truths] for p in probabilities]
    )


@pytest.mark.parametrize("costs", [BINARY, ((0.0, 3.0), (2.0, 0.0)), ((0.5, 3.0), (2.0, 1.0))])
def test_of_two_classes_it_is_elkans_threshold(costs):
    """Equation 2 of the paper, and what it comes from: the lesser of two expected costs."""
    (c00, c10), (c01, c11) = costs  # In the paper the first index is the decision.
    threshold = (c10 - c00) / (c10 - c00 + c01 - c11)
    assert least_cost_thresholds(Kind.BINARY, costs).tolist() == [threshold]
    targets, probabilities = drawn("binary", 1)
    metric = get("cost", "binary", costs=costs)
    rule = fit_rule(metric, "binary", targets, probabilities, family="least_cost")
    both = np.hstack([1 - probabilities, probabilities])
    cheapest = expected_costs(both, costs).argmin(axis=1)
    np.testing.assert_array_equal(rule.apply(probabilities)[:, 0], cheapest)


def test_of_labels_it_is_a_threshold_each():
    """Where a label's mistakes cost nothing its threshold stays at .5."""
    costs = ((1.0, 1.0), (1.0, 4.0), (0.0, 2.0), (0.0, 0.0))
    assert least_cost_thresholds(Kind.MULTILABEL, costs).tolist() == [0.5, 0.2, 0.0, 0.5]


def test_of_many_classes_it_equals_brute_force():
    rng = np.random.default_rng(0)
    metric = get("cost", "multiclass", costs=CLASSES)
    targets, probabilities = drawn("multiclass", 3, n=300)
    rule = fit_rule(metric, "multiclass", targets, probabilities, family="least_cost")
    cheapest = expected_costs(probabilities, CLASSES).argmin(axis=1)
    np.testing.assert_array_equal(rule.apply(probabilities).argmax(axis=1), cheapest)
    assert (cheapest != probabilities.argmax(axis=1)).mean() > 0.1
    # One row alone is decided as among others.
    some = rng.permutation(300)[:20]
    alone = [rule.apply(probabilities[[i]])[0] for i in some]
    np.testing.assert_array_equal(rule.apply(probabilities)[some], alone)
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "kind,costs", [("binary", BINARY), ("multiclass", CLASSES), ("multilabel", LABELS)]
)
def test_on_calibrated_probabilities_it_is_cheaper_than_the_default_and_than_what_is_fitted(
    kind, costs
):
    """Of new rows."""
    metric, outputs = get("cost", kind, costs=costs), 1 if kind == "binary" else len(costs)
    found = []
    for seed in range(20):
        rows, new = drawn(kind, outputs, 300, seed), drawn(kind, outputs, 4000, seed + 100)
        by_price = ("least_cost", *(() if kind == "multiclass" else ("fitted",)), "default")
        rules = [fit_rule(metric, kind, *rows, family=family) for family in by_price]
        found.append([metric.score(new[0], rule.apply(new[1])) for rule in rules])
    means = np.mean(found, axis=0)
    assert means.tolist() == sorted(means)


def test_where_probabilities_are_off_a_threshold_is_fitted():
    """Their odds are a quarter of the true ones, so the threshold of .2 belongs at 1/17."""
    metric = get("cost", "binary", costs=BINARY)
    targets, probabilities = drawn("binary", 1, n=5000)
    off = expit(logit(probabilities) - np.log(4))
    (threshold,) = fit_rule(metric, "binary", targets, off).thresholds
    assert threshold == pytest.approx(1 / 17, abs=0.02)
    labels = get("cost", "multilabel", costs=((1.0, 4.0),))
    rule = fit_rule(labels, "multilabel", targets, off, shrinkage=0)
    assert rule.thresholds == (threshold,)


def test_the_fitted_threshold_equals_brute_force():
    """Of equals it is the one of least expected cost, where that is among them."""
    for seed in range(30):
        targets, probabilities = drawn("binary", 1, 12, seed)
        if seed % 2:
            probabilities = (probabilities * 5).round() / 5
        (found,) = fitted_thresholds(Kind.BINARY, BINARY, targets, probabilities, 0)
        metric = get("cost", "binary", costs=BINARY)
        every = [-1.0, *np.unique(probabilities), 2.0]
        costs = [metric.score(targets, (probabilities >= t) * 1.0) for t in every]
        cost = metric.score(targets, (probabilities >= found) * 1.0)
        assert cost == min(costs)
        if metric.score(targets, (probabilities >= 0.2) * 1.0) == cost:
            assert found == 0.2


def test_thresholds_of_labels_are_shrunk_to_those_of_least_expected_cost():
    targets, probabilities = column(1, 1, 0, 0), column(0.9, 0.8, 0.7, 0.1)
    costs = ((1.0, 1.0),)
    own = fitted_thresholds(Kind.MULTILABEL, costs, targets, probabilities, 0)
    np.testing.assert_allclose(own, 0.75)
    # Two rows on the rarer side beside a shrinkage of 2: half way between the odds 3 and 1.
    shrunk = fitted_thresholds(Kind.MULTILABEL, costs, targets, probabilities, 2)
    np.testing.assert_allclose(shrunk, np.sqrt(3) / (1 + np.sqrt(3)))


def test_blends_are_fitted_for_the_decision_that_is_taken():
    """Guards weights found for the most probable class where another one is decided."""
    targets, probabilities = drawn("multiclass", 3, n=200)
    metric = get("cost", "multiclass", costs=CLASSES)
    rule = fit_rule(metric, "multiclass", targets, probabilities, family="least_cost")
    found = SearchObjective.of(metric, "multiclass", targets)(np.ascontiguousarray(probabilities.T))
    assert found == metric.signed(targets, rule.apply(probabilities))
    assert found > metric.signed(targets, np.eye(3)[probabilities.argmax(axis=1)])


# --- the whole way ----------------------------------------------------------------------------


def test_a_competition_by_costs(tmp_path, capsys):
    """A false alarm costs nothing, so that everything is called positive."""
    root = make_workspace(tmp_path / "w", metric="cost", costs={"0": {"1": 0}})
    assert Competition.load(root).costs == ((0.0, 0.0), (1.0, 0.0))
    go_through(root)
    info = read_json(root / "oof/_blends/blend/blend.json")
    assert info["rule"] == {"kind": "binary", "thresholds": [0.0]}
    assert info["nested"]["score"] == 0 and info["nested"]["high"] == 0
    submitted = pd.read_csv(root / "submissions/blend.csv")
    assert submitted["label"].tolist() == [1] * 6
    capsys.readouterr()
    assert foldstack(root, "score") == 0
    assert "nested CV cost [95 % interval]" in capsys.readouterr().out
    for stage in (["submit"], ["predict", "--text", "fine"], ["views"]):
        refuses(
            root,
            [*stage, "--set", "costs={'0': {'1': 3}}"],
            "blend 'blend' was made for other costs than competition.yaml has now: run `make blend` "
            "again",
            capsys,
        )
        refuses(
            root,
            [*stage, "--set", "metric=accuracy", "--set", "costs=none"],
            "blend 'blend' was made for metric cost, not accuracy: run `make blend` again",
            capsys,
        )


def test_costs_in_a_table_may_be_reported_beside_the_metric_and_in_debug(tmp_path, capsys):
    settings = {"metric": "accuracy", "report_metrics": ["cost"], "costs": "costs.csv"}
    root = make_workspace(tmp_path / "w", **settings)
    refuses(
        root,
        ["folds"],
        f"{root}/input/costs.csv does not exist: put the competition's file there",
        capsys,
    )
    write(root / "input/costs.csv", "truth,0,1\n1,7,\n")
    go_through(root)
    capsys.readouterr()
    assert foldstack(root, "score") == 0
    assert "private cost" in capsys.readouterr().out
    assert foldstack(root, "--debug", "folds") == 0
    assert Competition.load(root / "debug").costs == ((0.0, 1.0), (7.0, 0.0))


def test_an_epoch_is_not_selected_by_costs_that_are_not_the_metric(workspace, backbone, capsys):
    add_preset(workspace, backbone, training={"select": "inner", "select_by": "cost"})
    refuses(
        workspace,
        ["train", "--model", "tiny"],
        "tiny.yaml: training.select_by: metric 'cost' requires `costs` in "
        "competition.yaml, and to be `metric` or in `report_metrics` there",
        capsys,
    )
