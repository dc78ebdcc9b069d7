"""Views of a score: which rows and labels they take, what they are compared with, what is undefined."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from foldstack.ensemble import bootstrap, estimate
from foldstack.ensemble.slices import (
    Scored,
    all_rows,
    column_slices,
    duplicates_once,
    head_and_tail,
    label_slices,
    length_slices,
    score_slices,
)
from foldstack.files import read_json
from foldstack.kinds import Kind
from foldstack.metrics import get
from foldstack.progress import table
from tiny import foldstack, go_through, make_workspace, refuses, turn_labels, write

# Nine rows of class a, five of b, three of c, one of d; a third is taken for the next class.
GIVEN = np.repeat(np.arange(4), [9, 5, 3, 1])
DECIDED = np.where(np.arange(18) % 3, GIVEN, (GIVEN + 1) % 4)


def scored(metric, kind, targets, predictions, groups=None, labels="abcd", **costs):
    groups = np.arange(len(targets)) if groups is None else groups
    return Scored(get(metric, kind, **costs), Kind(kind), labels, targets, predictions, groups)


def classes(metric, given=GIVEN, decided=DECIDED, **costs):
    return scored(metric, "multiclass", np.eye(4)[given], np.eye(4)[decided], **costs)


def binary(metric="accuracy", n=400, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, 1)) < 0.5) * 1.0
    values = 1 / (1 + np.exp(-(skill * targets - skill / 2 + rng.normal(size=(n, 1)))))
    predictions = (values > 0.5) * 1.0 if get(metric, "binary").wants == "labels" else values
    return scored(metric, "binary", targets, predictions, labels=("no", "yes"))


def by_name(scored, views, **keywords):
    return {each.view: each for each in score_slices(scored, views, seed=0, **keywords)}


# --- all rows, duplicates ---------------------------------------------------------------------


def test_all_rows_have_the_blends_own_interval():
    """The same resamples as the headline's, so that the table says nothing else than it."""
    of = binary("roc_auc")
    (found,) = score_slices(of, [all_rows(400)], seed=3)
    wanted = estimate(of.metric, of.targets, of.predictions, of.groups, seed=3)
    assert (found.score, found.low, found.high) == (wanted.score, wanted.low, wanted.high)
    assert np.isnan(found.better_by) and not found.differs and not found.why


def test_duplicates_count_once():
    """Three texts: one right, one right in one copy of two, one wrong in all of three."""
    targets = np.array([[0, 0, 1, 1, 1, 1.0]]).T
    decisions = np.array([[0, 0, 0, 0, 0, 0.0]]).T
    groups = np.array([7, 5, 5, 2, 2, 2])
    of = scored("accuracy", "binary", targets, decisions, groups)
    (found,) = score_slices(of, [duplicates_once(groups)], seed=0)
    assert (found.rows, found.score) == (3, pytest.approx((1 + 1 / 2 + 0) / 3))
    assert found.better_by == pytest.approx(1 / 2 - 2 / 6)


def test_duplicates_once_is_the_mean_over_samples_of_one_row_a_group():
    of = binary(n=30)
    groups = np.random.default_rng(0).integers(8, size=30)
    (found,) = score_slices(of, [duplicates_once(groups)], seed=0)
    right, rng = (of.targets == of.predictions)[:, 0], np.random.default_rng(1)
    samples = [
        np.mean([right[rng.choice(np.flatnonzero(groups == g))] for g in np.unique(groups)])
        for _ in range(1000)
    ]
    assert found.score == pytest.approx(np.mean(samples), abs=0.02)


# --- head and tail ----------------------------------------------------------------------------


def test_the_head_holds_half_of_the_rows_and_the_tail_is_rare():
    found = head_and_tail(np.array([5, 30, 9, 40, 0, 16]), fewest=10)
    assert {name: labels.tolist() for name, labels in found.items()} == {
        "head": [1, 3],  # 40 of 100 are not half of them, 70 are.
        "tail": [0, 2, 4],
        "without head and tail": [5],
    }
    found = head_and_tail(np.array([2, 2, 1]), fewest=10)
    assert found["head"].tolist() == [0, 1]  # Though they are rare.


def test_metrics_of_rows_take_the_rows_of_these_classes():
    found = by_name(classes("accuracy"), label_slices(classes("accuracy"), fewest=4))
    assert list(found) == [
        "head: 1 of 4 classes",
        "tail: 2 of 4 classes",
        "without head and tail: 1 of 4 classes",
    ]
    for view, held in zip(found.values(), ([0], [2, 3], [1]), strict=True):
        rows = np.isin(GIVEN, held)
        assert view.rows == rows.sum()
        assert view.score == pytest.approx(accuracy_score(GIVEN[rows], DECIDED[rows]))
        rest = accuracy_score(GIVEN[~rows], DECIDED[~rows])
        assert view.better_by == pytest.approx(view.score - rest)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_averages_over_classes_are_those_of_these_classes_over_all_rows(average):
    """Guards false positives lost, and other classes counted, where rows alone were taken."""
    of = classes(f"f1_{average}")
    for view, held in zip(
        score_slices(of, label_slices(of, fewest=4), seed=0), ([0], [2, 3], [1]), strict=True
    ):
        wanted = f1_score(GIVEN, DECIDED, labels=held, average=average)
        assert view.score == pytest.approx(wanted)
        assert view.rows == np.isin(GIVEN, held).sum()
        rest = f1_score(GIVEN, DECIDED, labels=np.setdiff1d(range(4), held), average=average)
        assert view.better_by == pytest.approx(wanted - rest)


def test_balanced_accuracy_of_classes():
    of = classes("balanced_accuracy")
    _, tail, middle = score_slices(of, label_slices(of, fewest=4), seed=0)
    assert tail.score == recall_score(GIVEN, DECIDED, labels=[2, 3], average="macro")
    assert np.isnan(middle.score)
    assert middle.why == "balanced_accuracy is not defined there"


def test_labels_are_taken_by_their_columns():
    """The costs of a label go with it."""
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 4)) < [0.95, 0.4, 0.3, 0.1]) * 1.0
    values = rng.random((60, 4))
    counts = targets.sum(axis=0)
    of = scored("roc_auc", "multilabel", targets, values)
    views = label_slices(of, fewest=int(counts[3]) + 1)
    assert [view.part.columns.tolist() for view in views] == [[0], [3], [1, 2]]
    _, tail, middle = score_slices(of, views, seed=0)
    assert tail.score == pytest.approx(roc_auc_score(targets[:, 3], values[:, 3]))
    assert middle.score == pytest.approx(roc_auc_score(targets[:, 1:3], values[:, 1:3]))
    assert tail.rows == counts[3]
    decided = (values > 0.5) * 1.0
    costs = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 7.0))
    of = scored("cost", "multilabel", targets, decided, costs=costs)
    tail = score_slices(of, label_slices(of, fewest=int(counts[3]) + 1), seed=0)[1]
    false_alarms = ((1 - targets) * decided)[:, 3].mean()
    misses = (targets * (1 - decided))[:, 3].mean()
    assert tail.score == pytest.approx(2 * false_alarms + 7 * misses)
    assert tail.low < tail.score < tail.high  # Guards an interval cut at what all labels can cost.


def test_two_classes_have_neither_head_nor_tail():
    assert label_slices(binary(), fewest=10) == []


def test_a_view_without_rows_is_undefined():
    of = classes("accuracy", GIVEN[:14], DECIDED[:14])
    _, _, middle = score_slices(of, label_slices(of, fewest=6), seed=0)
    assert (middle.rows, middle.why) == (0, "it has no rows")
    assert np.isnan([middle.score, middle.low, middle.better_by]).all()


# --- lengths, columns -------------------------------------------------------------------------


def test_lengths_are_cut_at_quartiles():
    lengths = np.array([1, 2, 3, 4, 5, 6, 7, 1000])
    views = length_slices(lengths)
    assert [view.name for view in views] == [
        "length 1 to 2",
        "length 3 to 4",
        "length 5 to 6",
        "length 7 to 1,000",
    ]
    assert [lengths[view.part.rows].tolist() for view in views] == [
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 1000],
    ]
    assert [view.other.rows.tolist() for view in views[:1]] == [[2, 3, 4, 5, 6, 7]]


def test_lengths_that_tie_are_not_parted():
    assert [view.name for view in length_slices(np.array([3, 3, 3, 3, 9]))] == [
        "length 3 to 3",
        "length 4 to 9",
    ]
    assert length_slices(np.full(5, 3)) == []


def test_the_ten_largest_values_of_a_column_and_the_others():
    values = np.array([f"v{k:02}" for k in range(13) for _ in range(20 - k)] + [""] * 30, object)
    views = column_slices("source", values)
    assert [view.name for view in views[:2]] == ["source = (empty)", "source = v00"]
    assert [view.rows for view in views] == [30, 20, 19, 18, 17, 16, 15, 14, 13, 12, 38]
    assert views[-1].name == "source: 4 others"
    assert column_slices("source", np.full(5, "x", object)) == []


# --- what differs -----------------------------------------------------------------------------


def test_a_slice_that_is_worse_is_marked_and_chance_is_not():
    of, place = binary(n=600), np.repeat(["a", "b"], 300).astype(object)
    of.predictions[:60] = 1 - of.targets[:60]
    views = column_slices("place", place)
    chance = column_slices("place", place[::3])
    found = by_name(of, views)
    assert found["place = a"].differs and found["place = b"].differs
    assert found["place = a"].better_by == -found["place = b"].better_by < 0
    marked = sum(
        found.differs
        for seed in range(20)
        for found in score_slices(binary(n=200, seed=seed), chance, seed=0, resamples=60)[:1]
    )
    assert marked <= 3


def test_the_sign_of_losses_is_turned():
    of, place = binary("log_loss", n=600), np.repeat(["a", "b"], 300).astype(object)
    of.predictions[:300] = 0.5
    found = by_name(of, column_slices("place", place))
    assert found["place = a"].score > found["place = b"].score
    assert found["place = a"].better_by < 0 and found["place = a"].differs


def test_the_more_is_compared_the_more_must_a_view_differ():
    """Bonferroni's correction: alone it is beyond chance, among many it is not."""
    of, place = binary(n=600, seed=1), np.repeat(["a", "b"], [100, 500]).astype(object)
    of.predictions[:14] = 1 - of.targets[:14]
    view = column_slices("place", place)[1]
    (alone,) = score_slices(of, [view], seed=0)
    ratio = abs(alone.better_by) / alone.standard_error
    assert 1.96 < ratio < 3 and alone.differs
    among = score_slices(of, [view] * 30, seed=0)
    assert not any(each.differs for each in among)


def test_the_difference_is_that_of_the_same_resamples():
    """Guards a rest drawn by itself, whose groups may be the slice's own."""
    of, groups = binary(n=80), np.repeat(np.arange(20), 4)
    inside = np.arange(80) % 2 == 0
    of = Scored(of.metric, "binary", of.labels, of.targets, of.predictions, groups)
    view = column_slices("even", inside)[1]
    (found,) = score_slices(of, [view], seed=5)
    a, b = (
        bootstrap(of.metric, of.targets, [of.predictions], groups, seed=5, weights=which * 1.0)
        for which in (inside, ~inside)
    )
    assert found.standard_error == pytest.approx(np.std(a - b, ddof=1))


def test_few_groups_are_never_said_to_differ():
    """Guards one author, always drawn whole, whose score seems certain."""
    of, values = binary(n=60), np.repeat(["a", "b"], [9, 51]).astype(object)
    of.predictions[:9] = 1 - of.targets[:9]
    few = by_name(of, column_slices("author", values))["author = a"]
    assert few.score == 0 and few.better_by < -0.5 and not few.differs
    one = np.where(values == "a", 0, np.arange(60))
    of = Scored(of.metric, of.kind, of.labels, of.targets, of.predictions, one)
    found = by_name(of, column_slices("author", values))["author = a"]
    assert found.score == 0 and np.isnan([found.low, found.high, found.better_by]).all()
    apart = by_name(of, column_slices("author", values, np.arange(60)))["author = a"]
    assert dataclasses.astuple(apart) == pytest.approx(dataclasses.astuple(few), nan_ok=True)


def test_a_view_without_one_error_has_no_interval_and_no_star():
    """Fifty rows that are all right vary in no resample, which does not make their score certain."""
    of, values = binary(n=400), np.repeat(["a", "b"], [50, 350]).astype(object)
    of.predictions[:50] = of.targets[:50]
    found = by_name(of, column_slices("author", values))["author = a"]
    assert found.score == 1 and found.better_by > 0 and not found.differs
    assert np.isnan([found.low, found.high]).all()


# --- what is undefined ------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_view_of_one_class_is_undefined_and_says_why():
    of = binary("roc_auc", n=40)
    values = np.where(of.targets[:, 0] > 0, "up", "down").astype(object)
    for each, label in zip(
        score_slices(of, sorted(column_slices("x", values), key=lambda view: view.name), seed=0),
        ("no", "yes"),
        strict=True,
    ):
        assert np.isnan([each.score, each.low, each.better_by]).all() and not each.differs
        assert each.why == f"all of its rows are '{label}'"
    rest_of_one_class = np.where(of.targets[:, 0] + np.arange(40) % 2 > 0, "mixed", "down")
    mixed = by_name(of, column_slices("x", rest_of_one_class.astype(object)))["x = mixed"]
    assert mixed.low < mixed.score < mixed.high and np.isnan(mixed.better_by)


def test_a_constant_target_is_undefined_for_correlations():
    values = np.random.default_rng(0).normal(size=(20, 1))
    targets = np.where(np.arange(20)[:, None] < 10, 3.0, values)
    of = scored("pearson", "regression", targets, values, labels=("stars",))
    half = np.repeat(["a", "b"], 10).astype(object)
    found = by_name(of, column_slices("half", half))
    assert found["half = a"].why == "the target is the same in all of its rows"
    assert found["half = b"].score == pytest.approx(1)


# --- the stage --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blended(tmp_path_factory):
    """The labels of four rows are turned; rows have authors and sources."""
    root = make_workspace(
        tmp_path_factory.mktemp("views") / "w", n=48, group="author", categorical=["source"]
    )
    turn_labels(root, {"r1", "r2", "r3", "r4"})
    for name in ("train", "test"):
        path = root / f"input/{name}.csv"
        table = pd.read_csv(path, dtype=str)
        table["author"] = [f"author{i // 4}" for i in range(len(table))]
        table["source"] = [("web", "print")[i % 3 == 0] for i in range(len(table))]
        if name == "train":
            table.loc[47, "text"] = table.loc[44, "text"]
        table.to_csv(path, index=False)
    return go_through(root, "folds", "train", "blend")


def test_the_table_of_a_blend(blended, capsys):
    assert foldstack(blended, "views") == 0
    out = capsys.readouterr().out
    path = blended / "oof/_blends/blend/views.csv"
    table = pd.read_csv(path).set_index("view")
    assert out.startswith(
        "blend: roc_auc of nested out-of-fold predictions, pooled (oof/_blends/blend/views.csv); "
    )
    nested = read_json(blended / "oof/_blends/blend/blend.json")["nested"]
    assert table.loc["all rows", ["score", "low", "high"]].tolist() == pytest.approx(
        [nested["score"], nested["low"], nested["high"]], abs=1e-6
    )
    assert table["rows"].to_dict().items() >= {"all rows": 48, "duplicates once": 47}.items()
    sources = table.loc[["source = web", "source = print"], "rows"]
    assert sources.tolist() == [32, 16]
    authors = table.index[table.index.str.startswith("author")]
    assert len(authors) == 11 and authors[-1] == "author: 2 others"
    lengths = table["rows"][table.index.str.startswith("length")]
    assert len(lengths) == 4 and lengths.sum() == 48
    assert f"{nested['score']:.4f} [" in out
    before = path.read_bytes()
    assert foldstack(blended, "views") == 0
    assert path.read_bytes() == before


def test_the_table_of_one_model(blended, capsys):
    assert foldstack(blended, "views") == 0
    assert foldstack(blended, "views", "--model", "tfidf") == 0
    assert "tfidf: roc_auc of nested" in capsys.readouterr().out
    one, blend = (
        pd.read_csv(blended / f"oof/{name}/views.csv") for name in ("tfidf", "_blends/blend")
    )
    pd.testing.assert_frame_equal(one, blend, atol=1e-6)  # The blend chose its only model.


def test_what_views_refuses(blended, tmp_path, capsys):
    refuses(
        blended,
        ["views", "--name", "other"],
        "oof/_blends/other does not exist: run `make blend NAME=other` first, or name a MODEL",
        capsys,
    )
    refuses(
        blended,
        ["views", "--model", "tfidf,minilm"],
        "views takes one MODEL, not 2: blend them with `make blend MODEL=tfidf,minilm` first",
        capsys,
    )
    refuses(
        blended,
        ["views", "--set", "metric=log_loss"],
        "blend 'blend' was made for metric roc_auc, not log_loss: run `make blend` again",
        capsys,
    )


def test_decisions_are_the_nested_ones_and_the_tail_is_a_setting(tmp_path, capsys):
    """Three classes, of which the rarest is the tail only where TAIL says so."""
    root = make_workspace(tmp_path / "w", n=48, kind="multiclass", metric="f1_macro")
    path = root / "input/train.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[[5, 11, 17, 23, 29, 35], "label"] = "2"
    table.to_csv(path, index=False)
    go_through(root, "folds", "train", "blend")
    found = {}
    for tail in ("7", "5"):
        assert foldstack(root, "views", "--tail", tail) == 0
        found[tail] = pd.read_csv(root / "oof/_blends/blend/views.csv").set_index("view")
    assert found["7"].loc["tail: 1 of 3 classes", "rows"] == 6
    assert np.isnan(found["5"].loc["tail: 0 of 3 classes", "score"])
    assert "tail: 0 of 3 classes: undefined, since it has no rows" in capsys.readouterr().out
    nested = read_json(root / "oof/_blends/blend/blend.json")["nested"]["score"]
    assert found["7"].loc["all rows", "score"] == pytest.approx(nested)


def test_a_metric_of_ones_own_says_what_it_cannot(tmp_path, capsys):
    """Without weights it has whole rows, which a share of a duplicate is not."""
    root = make_workspace(tmp_path / "w", metric="metrics.py:hits")
    write(
        root / "metrics.py",
        "def hits(targets, predictions):\n    return float((targets == (predictions > 0.5)).mean())\n",
    )
    rows = (root / "input/train.csv").read_text().splitlines()
    rows[24] = "r23," + rows[21].split(",", 1)[1]
    write(root / "input/train.csv", "\n".join(rows) + "\n")
    go_through(root, "folds", "train", "blend")
    assert foldstack(root, "views") == 0
    assert "duplicates once: undefined, since" in capsys.readouterr().out


def test_no_line_of_a_table_ends_in_blanks() -> None:
    """Nor the rule below a column without a name and without cells."""
    assert table(["model", "f1", ""], [["tfidf", "0.5", ""]]) == (
        "model   f1\n-----  ---\ntfidf  0.5"
    )
