"""Scores that no fold defines are not shown as scores, and what is undefined never wins."""

import json
from pathlib import Path

import numpy as np
import pytest

from foldstack.defined import defined_by_fold
from foldstack.ensemble import BlendOptions, Members, blend, estimate, fit_rule
from foldstack.ensemble.choice import compare
from foldstack.metrics import METRICS, defined_columns, get
from foldstack.records import EstimateRecord
from foldstack.store import Folds
from foldstack.views.console.text import say_undefined
from makers import draw_targets, make_members
from tiny import foldstack, go_through, make_kind, write, write_competition

WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven"]
OWN = """
from scipy.stats import spearmanr
def mine(targets, predictions):
    return float(spearmanr(targets, predictions)[0])
mine.wants = "ranking"
"""


def grouped(root: Path, kind: str) -> Path:
    """30 rows in ten groups; all rows with the last label stand in group 0."""
    rng, columns = np.random.default_rng(0), ["label"] if kind == "binary" else ["a", "b"]
    lines = []
    for i in range(30):
        text, group = " ".join(rng.choice(WORDS, 6)), i % 10
        labels = [int(group == 0)] if kind == "binary" else [rng.integers(2), int(group == 0)]
        lines.append(f"{i},{text} {i},{group},{','.join(map(str, labels))}\n")
    write(root / "input/train.csv", f"id,text,site,{','.join(columns)}\n" + "".join(lines))
    write(root / "input/test.csv", "id,text,site\nt0,red one,0\nt1,blue two,1\n")
    sample = "".join(f"t{i}{',0' * len(columns)}\n" for i in range(2))
    write(root / "input/sample_submission.csv", f"id,{','.join(columns)}\n{sample}")
    write_competition(root, kind=kind, target=columns, group="site")
    return root


# --- what folds define ------------------------------------------------------------------------


@pytest.mark.parametrize("name,kind", [(n, k) for n, of in METRICS.items() for k in of.scorers])
def test_where_a_metric_is_defined_is_where_it_has_a_score(name, kind):
    """For several rows, for rows of one class, and label by label for means over labels."""
    if name == "cost":
        return
    metric, outputs = get(name, kind), 1 if kind == "binary" else 3
    some = draw_targets(np.random.default_rng(0), kind, (12, outputs), 0.0, 1.0)
    some = np.abs(some) if name == "rmsle" else some
    for targets in (some, np.repeat(some[:1], 3, axis=0)):
        defined = defined_columns(metric, targets)
        predictions = some[: len(targets)].astype(float)
        parts = [slice(k, k + 1) for k in range(outputs)] if len(defined) > 1 else [slice(None)]
        scores = [metric.score(targets[:, part], predictions[:, part]) for part in parts]
        assert defined.tolist() == np.isfinite(scores).tolist()


def test_a_fold_defines_a_score_by_what_it_holds_out_and_what_it_learns():
    """Of four folds of two rows: both labels in each of two, in one alone, in none."""
    folds = Folds(np.repeat(np.arange(4), 2)[:, None], {}, "")
    targets = np.array(
        [[1, 0, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    ).T
    defined = defined_by_fold(get("roc_auc", "multilabel"), targets.astype(float), folds)
    assert defined.T.tolist() == [[True] * 3 + [False], [False] * 4, [False] * 4]
    assert defined_by_fold(get("f1_macro", "multilabel"), targets, folds).tolist() == 4 * [[True]]


def test_a_label_that_no_fold_defines_leaves_the_mean():
    metric = get("roc_auc", "multilabel")
    targets = np.array([[0, 1], [1, 0], [0, 0], [1, 1]])
    predictions = np.array([[0.1, 0.1], [0.9, 0.9], [0.2, 0.5], [0.8, 0.2]])
    assert metric.score(targets, predictions) == 0.5
    assert metric.over((0,)).score(targets, predictions) == 1.0
    assert metric.over((0,)).of_rows(targets, predictions)(np.ones(4)) == 1.0
    assert np.isnan(metric.over(()).score(targets, predictions))


def test_weights_are_not_searched_for_a_label_that_is_not_scored():
    """The first model knows the only label that counts; the second would win on both."""
    members = make_members([[1.0, 0.0], [0.0, 9.0]], "multilabel", 2)
    options = BlendOptions(methods=("simplex",))
    found = blend(
        Members(**{**vars(members), "scored": (0,)}),
        get("roc_auc", "multilabel"),
        wants_labels=False,
        options=options,
    )
    alone = get("roc_auc", "binary")
    score = alone.score(members.targets[:, :1], found.nested_predictions[:, :1])
    assert found.nested.score == pytest.approx(score)
    assert found.winner == "single:model0"


# --- every stage ------------------------------------------------------------------------------


def test_labels_in_one_group_leave_no_score(tmp_path: Path, capsys) -> None:
    """Pooled, the AUC is .07: each run predicts the rate of the label that it has learned."""
    root = grouped(tmp_path / "w", "binary")
    why = "roc_auc is undefined, since all 3 rows with '1' stand in one group, in fold {}"
    go_through(root, "folds")
    said = capsys.readouterr().out
    fold = said.split("all 3 rows with '1' stand in one group, in fold ")[1][0]
    assert (
        f"warning: all 3 rows with '1' stand in one group, in fold {fold}: its run learns none of "
        "them, and no other is scored on one; a score that requires both is undefined\n"
    ) in said
    go_through(root, "train", "blend")
    said = capsys.readouterr().out
    assert (
        "blend: chose single:tfidf, the first, since no candidate has a score; nested roc_auc "
        "undefined; pooled over all rows\n"
        f"blend: {why.format(fold)}\n"
    ) in said
    assert "submitted, is expected" not in said
    stored = (root / "oof/_blends/blend/blend.json").read_text()
    assert "NaN" not in stored
    nested = json.loads(stored)["nested"]
    assert nested == {"score": None, "low": None, "high": None, "undefined_share": 1.0}
    other = root / f"oof/tfidf/seed0/fold{(int(fold) + 1) % 3}/run.json"
    assert json.loads(other.read_text())["score"] is None
    for stage in ("scores", "report", "submit", "views"):
        assert foldstack(root, stage) == 0
        said = capsys.readouterr().out
        assert f"blend: {why.format(fold)}\n" in said


def test_a_label_in_one_group_leaves_the_mean_over_labels(tmp_path: Path, capsys) -> None:
    root = go_through(grouped(tmp_path / "w", "multilabel"), "folds", "train", "blend")
    said = capsys.readouterr().out
    assert "roc_auc is the mean without 'b', since all 3 rows with 'b' stand in one group" in said
    record = json.loads((root / "oof/_blends/blend/blend.json").read_text())
    assert record["nested"]["score"] > 0.2
    assert [each[:34] for each in record["undefined"]] == ["roc_auc is the mean without 'b', s"]


def test_a_comparison_that_no_fold_defines_says_so(tmp_path: Path, capsys) -> None:
    root = grouped(tmp_path / "w", "binary")
    for name in ("words", "chars"):
        write(root / f"presets/{name}.yaml", "preset: tfidf\n")
    assert foldstack(root, "folds") == 0
    for fold in range(3):
        for model in ("words", "chars"):  # each alone trains in this process
            assert foldstack(root, "train", "--model", model, "--fold", str(fold)) == 0
    capsys.readouterr()
    assert foldstack(root, "compare", "--a", "words", "--b", "chars") == 0
    said = capsys.readouterr().out
    assert "compare: words has roc_auc undefined, pooled over the 3 folds, seed 0\n" in said
    assert "compare: roc_auc is undefined, since all 3 rows with '1' stand in one group" in said
    (stored,) = (root / "oof/_comparisons").glob("*.json")
    assert "NaN" not in stored.read_text()
    assert json.loads(stored.read_text())["score"] is None


def test_resamples_without_a_score_are_said_from_5_percent_on(capsys) -> None:
    for share in (0.05, 0.125):
        of = EstimateRecord(score=0.8, low=0.7, high=0.9, undefined_share=share)
        say_undefined("blend", None, of)
    assert capsys.readouterr().out == (
        "blend: the score is undefined in 12% of the bootstrap's resamples; the interval is of the "
        "others\n"
    )


def test_a_rule_that_a_search_found_is_called_a_local_optimum(tmp_path: Path, capsys) -> None:
    root = make_kind(tmp_path / "w", "multilabel", "jaccard", ["p", "q", "r"])
    write_competition(
        root,
        kind="multilabel",
        metric="jaccard",
        target=["p", "q", "r"],
        submission="labels",
        blend={"rules": ["fitted"]},
    )
    go_through(root, "folds", "train", "blend")
    assert (
        "blend: the rule is found by a search that may miss the best one (a local optimum)\n"
    ) in capsys.readouterr().out


# --- nan is never best ------------------------------------------------------------------------


def own_metric(tmp_path: Path, kind: str = "regression"):
    write(tmp_path / "metrics.py", OWN)
    return get("metrics.py:mine", kind, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("constant", [0, 2])
def test_a_constant_model_without_a_score_does_not_win(tmp_path: Path, constant: int):
    """Guards argmax over scores, which returns the first nan."""
    members = make_members([3.0, 0.3, 0.0], "regression")
    order = np.roll([0, 1, 2], constant + 1)
    values = members.probabilities[:, order]
    values[:, constant], ranks = 0.5, members.ranks[:, order]
    ranks[:, constant] = 0.5
    members = Members(**{**vars(members), "probabilities": values, "ranks": ranks})
    options = BlendOptions(methods=("greedy",))
    found = blend(members, own_metric(tmp_path), wants_labels=False, options=options)
    assert np.isnan(found.candidates[constant].nested)
    assert found.winner == f"single:model{order.tolist().index(0)}"
    assert found.nested.score > 0.8


@pytest.mark.filterwarnings("ignore")
def test_an_undefined_reference_is_beaten_by_any_score(tmp_path: Path):
    targets = np.arange(4.0)[:, None]
    predictions = [np.ones((4, 1)), -targets, targets]
    found = compare(own_metric(tmp_path), targets, predictions, np.arange(4), seed=0, reference=0)
    assert found.signed.tolist() == [-np.inf, -1.0, 1.0]
    assert np.isnan(found.worse_by).all()
    assert (found.better(0), found.better(2)) == (2, None)


def test_a_rule_without_a_score_is_not_taken(tmp_path: Path):
    """Correlation of decisions: undefined while .5 decides the same for all rows."""
    write(tmp_path / "metrics.py", OWN.replace("ranking", "labels"))
    metric = get("metrics.py:mine", "binary", tmp_path)
    targets, probabilities = np.array([[0.0], [0], [1]]), np.array([[0.1], [0.2], [0.3]])
    with np.errstate(all="ignore"), pytest.warns(Warning, match="constant"):
        rule = fit_rule(metric, "binary", targets, probabilities)
    assert rule.apply(probabilities).tolist() == targets.tolist()


def test_resamples_without_a_score_are_counted():
    """One positive of five rows is in no resample with probability (4/5)^5."""
    targets, metric = np.eye(5)[:, :1], get("roc_auc", "binary")
    found = estimate(metric, targets, np.arange(5.0)[:, None] / 5, np.arange(5), seed=0)
    assert found.undefined_share == pytest.approx(0.8**5, abs=0.08)
    assert np.isfinite([found.low, found.high]).all()
