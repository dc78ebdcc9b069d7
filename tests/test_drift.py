"""How the test file differs from training: found, named, weighted; without labels, ids or order."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from foldstack import drift
from foldstack.drift import adversary
from foldstack.drift.adversary import balanced, clipped, importance_weights
from foldstack.drift.both_files import independent_groups
from foldstack.drift.drift_table import repeatable, repeats, table_of
from foldstack.ensemble import estimate
from foldstack.ensemble.on_test import estimate_on_test
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.folds import refuse_giant_group, test_like_folds
from foldstack.kinds import Kind
from foldstack.metrics import get
from foldstack.records import DriftRecord, SharedRecord
from foldstack.rows import Rows, connected_groups
from foldstack.settings import FoldSettings
from foldstack.stages.learned import rows_of
from foldstack.store import parquet_meta, read_parquet
from foldstack.techniques import LearnerSettings
from foldstack.views.console.show_drift import say_shared
from foldstack.workspace import Workspace
from makers import make_rows, unlabelled
from tiny import (
    PLACES,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    run_of,
    turn_labels,
    write,
    write_competition,
)

test_like_folds.__test__ = False  # a function of folds.py, no test


def documents(n: int, share: float, seed: int) -> list[str]:
    """n texts of six common words; of this share the word covid and four words more."""
    rng = np.random.default_rng(seed)
    words = [" ".join(rng.choice(PLACES, 6)) for _ in range(n)]
    marked = rng.random(n) < share
    return [
        f"{text} covid {' '.join(rng.choice(PLACES, 4))}" if m else text
        for text, m in zip(words, marked, strict=True)
    ]


def compared(train: float, test: float, n: int = 400, **options: object) -> drift.Drift:
    files = drift.Files.of(
        unlabelled(documents(n, train, 1)), unlabelled(documents(n // 2, test, 2))
    )
    return drift.compare(files, **{"rows": 50_000, "clip": 0.99, "seed": 0} | options)


def auc_of(found: drift.Drift) -> float:
    metric = get("roc_auc", "binary")
    return metric.score(found.is_test[:, None].astype(float), expit(found.values)[:, None])


def shifted_workspace(
    root: Path, train: float = 0.1, test: float = 0.7, **settings: object
) -> Path:
    """240 training and 120 test rows; the label is that of a common word, turned in a fifth."""
    make_workspace(root, **settings)
    rng = np.random.default_rng(0)
    gold, new = documents(240, train, 1), documents(120, test, 2)
    labels = [int(("joke" in t) ^ (rng.random() < 0.2)) for t in gold]
    lines = [f"r{i},{t},{y}" for i, (t, y) in enumerate(zip(gold, labels, strict=True))]
    write(root / "input/train.csv", "\n".join(["id,text,label", *lines]) + "\n")
    sample = "".join(f"t{i},0\n" for i in range(120))
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    write_test(root, new)
    return root


def write_test(root: Path, texts: list[str]) -> None:
    lines = "".join(f"t{i},{text}\n" for i, text in enumerate(texts))
    write(root / "input/test.csv", "id,text\n" + lines)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_through(shifted_workspace(tmp_path_factory.mktemp("shifted")))


# --- the model --------------------------------------------------------------------------------


def test_files_of_one_distribution_look_alike() -> None:
    found = compared(0.3, 0.3)
    assert auc_of(found) < drift.CLAIMED


def test_a_word_gives_the_test_file_away() -> None:
    found = compared(0.1, 0.7)
    assert auc_of(found) > 0.75
    texts = [reason.text for reason in found.reasons]
    files = [documents(200, 0.7, 2), documents(400, 0.1, 1)]
    test, train = (np.mean(["covid" in text for text in texts]) for texts in files)
    assert f"word 'covid' in {test:.1%} of the test and {train:.1%} of the training texts" in texts
    assert not any(
        "characters 'co" in text for text in texts
    )  # n-grams of a word that is listed are not


def test_longer_texts_are_said_in_words() -> None:
    rng = np.random.default_rng(0)

    def texts(n: int, words: int) -> list[str]:
        return [" ".join(rng.choice(PLACES, words + rng.integers(3))) for _ in range(n)]

    files = drift.Files.of(unlabelled(texts(300, 8)), unlabelled(texts(200, 14)))
    found = drift.compare(files, rows=50_000, clip=0.99, seed=0)
    assert found.reasons[0].text == "test texts are longer: median 15 against 9 words"


def test_feature_columns_give_it_away() -> None:
    """A number that is larger, a value that is more frequent, cells that are empty."""
    rng = np.random.default_rng(0)

    def rows(n: int, year: float, source: float, empty: float) -> Rows:
        numbers = rng.normal(year, 1, n)
        numbers[rng.random(n) < empty] = np.nan
        codes = (rng.random(n) < source).astype(float)
        texts = [f"{' '.join(rng.choice(PLACES, 6))} {i}" for i in range(n)]
        return unlabelled(texts, features=np.column_stack([numbers, codes]))

    files = drift.Files.of(
        rows(300, 2017, 0.2, 0.0),
        rows(200, 2020, 0.8, 0.3),
        numeric=("year",),
        categorical=("source",),
        categories=(("news", "tweets"),),
    )
    texts = [r.text for r in drift.compare(files, rows=50_000, clip=0.99, seed=0).reasons]
    for beginning in (
        "column 'year': mean 20",
        "column 'source' is '",
        "column 'year' is empty in ",
    ):
        assert any(text.startswith(beginning) for text in texts), texts


def test_ids_are_not_read() -> None:
    a, b = unlabelled(documents(300, 0.1, 1)), unlabelled(documents(200, 0.6, 2))
    ids = replace(b, ids=np.array([f"test-{i}" for i in range(200)], dtype=object))
    one, other = (
        drift.compare(drift.Files.of(a, x), rows=999, clip=0.99, seed=0) for x in (b, ids)
    )
    assert np.array_equal(one.p, other.p)


def test_no_column_depends_on_the_file_or_the_order_of_a_row() -> None:
    """Guards counts within one file, which tell the files apart even if rows are dealt at random."""
    texts = documents(120, 0.5, 1)
    order = np.random.default_rng(0).permutation(120)
    forward = drift.Files.of(unlabelled(texts[:80]), unlabelled(texts[80:]))
    mixed = [texts[i] for i in order]
    other = drift.Files.of(unlabelled(mixed[:30]), unlabelled(mixed[30:]))
    x, columns = table_of(forward)
    y, same = table_of(other)
    assert columns == same
    np.testing.assert_allclose(x.toarray()[order], y.toarray(), atol=1e-9)


def test_repeats_are_counted_over_both_files() -> None:
    """Sentences of either side are one pool; the mean over both sides; empty ones do not repeat."""
    files = drift.Files.of(
        unlabelled([("a", "b"), ("c", "a")]), unlabelled([("A ", ""), ("", "d")])
    )
    found = {name: repeats(units).tolist() for name, units in repeatable(files).items()}
    assert found == {"pair": [0, 0, 0, 0], "sentence": [1, 1, 1, 0]}


def test_rows_that_share_a_text_or_a_group_are_on_one_side() -> None:
    files = drift.Files.of(
        unlabelled(["a", "b", "c"]),
        unlabelled(["A", "d", "e"]),
        keys=["x", "y", "z", "u", "y", "v"],
    )
    assert independent_groups(files, 2).tolist() == [0, 1, 2, 0, 1, 3]


def test_test_rows_without_a_group_column_are_groups_of_their_own() -> None:
    files = drift.Files.of(unlabelled(["a", "b"]), unlabelled(["c", "d"]), train_keys=["0", "0"])
    assert independent_groups(files, 2).tolist() == [0, 0, 1, 2]


def test_pairs_are_joined_by_sentences_unless_one_component_fills_a_fold() -> None:
    apart = [(f"a{i}", f"b{i}") for i in range(8)]
    files = drift.Files.of(unlabelled([("a0", "x"), *apart]), unlabelled([("y", "b1")]))
    assert independent_groups(files, 5).tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 1]
    assert len(np.unique(independent_groups(files, 6))) == 10


def test_part_of_many_rows_is_compared_and_every_row_predicted() -> None:
    found = compared(0.1, 0.7, rows=250)
    assert len(found.is_test) <= 250 and len(found.p) == len(found.weights) == 400
    assert np.array_equal(found.p, compared(0.1, 0.7, rows=250).p)
    marked = np.array(["covid" in text for text in documents(400, 0.1, 1)])
    assert found.p[marked].min() > np.median(found.p[~marked])


# --- weights ----------------------------------------------------------------------------------


def test_weights_are_odds_times_train_rows_per_test_row() -> None:
    weights = importance_weights(np.array([0.25, 0.5, 0.75]), 0.25)
    assert weights == pytest.approx([1, 3, 9])
    assert clipped(weights, 0.5) == pytest.approx([3 / 7, 9 / 7, 9 / 7])
    assert drift.effective_rows(np.array([1.0, 1, 2])) == pytest.approx(16 / 6)


def test_balanced_weights_have_the_means_of_the_test_rows() -> None:
    """Two kinds of rows, half and half in training, three to one in test: 1.5 to .5, but for slack."""
    values = np.array([-1, -1, 1, 1, 1, 1, 1, -1.0])[:, None]
    is_test = np.repeat([False, True], 4)
    weights = balanced(np.ones(4), values, is_test)
    assert weights == pytest.approx([0.5, 0.5, 1.5, 1.5], abs=0.02)
    assert weights.mean() == pytest.approx(1)


def test_weights_move_training_towards_test() -> None:
    found = compared(0.2, 0.6, n=800)
    marked = np.array(["covid" in text for text in documents(800, 0.2, 1)])
    assert np.average(marked, weights=found.weights) == pytest.approx(0.6, abs=0.08)


# --- the stage --------------------------------------------------------------------------------


def test_drift_is_said_once_and_kept(shifted: Path, capsys: pytest.CaptureFixture) -> None:
    before = (shifted / "folds/drift.json").read_bytes(), (shifted / "folds/drift.csv").read_bytes()
    assert foldstack(shifted, "drift") == 0
    said = capsys.readouterr().out
    done, found, *_ = said.splitlines()
    assert done == "drift: nothing to do, folds/drift.csv is of these files"
    assert found.startswith("drift: the test file DIFFERS from the training file: ")
    assert "drift: word 'covid' in " in said
    assert foldstack(shifted, "drift", "--force") == 0
    assert before == tuple(
        (shifted / f"folds/drift.{form}").read_bytes() for form in ("json", "csv")
    )
    rows = pd.read_csv(shifted / "folds/drift.csv")
    assert rows["p"].is_monotonic_decreasing and sorted(rows["id"]) == sorted(
        f"r{i}" for i in range(240)
    )
    assert rows["weight"].mean() == pytest.approx(1, abs=1e-6)


def test_labels_change_nothing(tmp_path: Path) -> None:
    root = shifted_workspace(tmp_path)
    kept = []
    for ids in ({"r0"}, {f"r{i}" for i in range(1, 240)}):
        assert foldstack(root, "drift", "--force") == 0
        kept.append([(root / f"folds/drift.{form}").read_bytes() for form in ("json", "csv")])
        turn_labels(root, ids)
    assert kept[0] == kept[1]


def test_another_test_file_is_compared_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = shifted_workspace(tmp_path)
    assert foldstack(root, "drift") == 0
    first = read_json(root / "folds/drift.json")
    write_test(root, documents(120, 0.1, 3))
    capsys.readouterr()
    assert foldstack(root, "drift") == 0
    assert capsys.readouterr().out.startswith("drift: the test file looks like the training file: ")
    second = read_json(root / "folds/drift.json")
    assert first["claimed"] and not second["claimed"]
    assert first["train"] == second["train"] and first["test"] != second["test"]


def test_a_changed_list_of_rows_is_made_again(shifted: Path) -> None:
    path = shifted / "folds/drift.csv"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"r0,", b"r9,"))
    assert foldstack(shifted, "drift") == 0
    assert path.read_bytes() == before


def test_few_rows_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = go_through(make_workspace(tmp_path), "folds")
    assert not (root / "folds/drift.json").exists()
    capsys.readouterr()
    sentence = (
        "drift compares files of 100 rows and more, but the training file has 24 and the test file 6: "
        "too few to show a difference"
    )
    refuses(root, ["drift"], sentence, capsys)


def test_the_check_can_be_turned_off(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = shifted_workspace(tmp_path, drift={"check": False})
    go_through(root, "folds")
    assert not (root / "folds/drift.json").exists()
    assert "test file" not in capsys.readouterr().out


def test_many_rows_are_left_to_make_drift(tmp_path: Path) -> None:
    root = shifted_workspace(tmp_path, drift={"rows": 200})
    go_through(root, "folds")
    assert not (root / "folds/drift.json").exists()
    assert foldstack(root, "drift") == 0
    assert read_json(root / "folds/drift.json")["compared"] <= 200


@pytest.mark.parametrize("setting", [{"clip": 0.6}, {"seed": 1}])
def test_clip_and_seed_give_other_weights(tmp_path: Path, setting: dict) -> None:
    root = shifted_workspace(tmp_path)
    assert foldstack(root, "drift") == 0
    plain = pd.read_csv(root / "folds/drift.csv").set_index("id").sort_index()
    write_competition(root, drift=setting)  # what is stored is of other settings
    assert foldstack(root, "drift") == 0
    other = pd.read_csv(root / "folds/drift.csv").set_index("id").sort_index()
    assert plain["p"].equals(other["p"]) == ("clip" in setting)
    assert not plain["weight"].equals(other["weight"])
    if "clip" in setting:
        assert other["weight"].max() < plain["weight"].max()
        assert (other["weight"] == other["weight"].max()).mean() == pytest.approx(0.4, abs=0.02)


def test_a_pool_is_compared_with_the_test_file(tmp_path: Path, capsys) -> None:
    """One is of such texts as the test file's, one of others."""
    root = shifted_workspace(tmp_path, pool=["pool.csv"])
    for share, differs in ((0.7, False), (0.0, True)):
        write(root / "input/pool.csv", "text\n" + "\n".join(documents(300, share, 5)) + "\n")
        assert foldstack(root, "drift") == 0
        said = capsys.readouterr().out
        found = re.search(r"from the 300 pool rows with AUC (\S+) \[(\S+),", said)
        assert (float(found[2]) > 0.5) == differs, said


def test_clean_removes_what_drift_has_made(tmp_path: Path) -> None:
    root = go_through(shifted_workspace(tmp_path), "folds")
    assert foldstack(root, "clean", "folds") == 0
    assert list((root / "folds").iterdir()) == []


# --- the weighted score -----------------------------------------------------------------------


def test_a_part_of_the_correction_counts_as_a_standard_error() -> None:
    """Three rows of four are right, three quarters of the weight are on the wrong one."""
    metric, targets = get("accuracy", "binary"), np.ones((4, 1))
    scored = (metric, targets, np.array([[1, 1, 1, 0.0]]).T, np.arange(4))
    weights = np.array([1, 1, 1, 9.0])
    found = estimate_on_test(*scored, weights, seed=0)
    plain = estimate(*scored, seed=0, weights=weights)
    assert found.score == plain.score == 0.25
    missing = 0.15 * (0.75 - 0.25)
    assert found.standard_error == pytest.approx(np.hypot(plain.standard_error, missing))


def test_blends_and_submissions_have_the_score_weighted_to_the_test_file(shifted: Path) -> None:
    ws = Workspace.open(shifted, [])
    record = ws.store.read_blend("blend")
    _, nested, _ = read_parquet(shifted / "oof/_blends/blend/nested.parquet")
    weights = pd.read_csv(shifted / "folds/drift.csv").set_index("id")["weight"]
    train = ws.competition.train
    weights = weights.loc[train.ids].to_numpy()
    wanted = estimate_on_test(
        ws.competition.metric,
        train.targets,
        nested.raw.astype(float),
        train.groups,
        weights,
        seed=0,
        **({} if record.correction is None else record.correction.to_json()),
    )
    assert record.drift.nested.score == pytest.approx(wanted.score, abs=1e-6)
    assert record.drift.nested.standard_error == pytest.approx(wanted.standard_error, abs=1e-6)
    assert record.drift.effective_rows == pytest.approx(drift.effective_rows(weights))
    assert ws.store.submissions()["blend"].drift == record.drift


def test_the_weighted_score_is_printed(shifted: Path, capsys: pytest.CaptureFixture) -> None:
    assert foldstack(shifted, "submit") == 0
    found = Workspace.open(shifted, []).store.read_blend("blend").drift
    n, auc = found.nested, found.auc
    assert (
        "blend: the test file DIFFERS from the training file (AUC "
        f"{auc.score:.4f} [{auc.low:.4f}, {auc.high:.4f}]): weighted to the test file the nested "
        f"roc_auc is {n.score:.4f} [{n.low:.4f}, {n.high:.4f}], from 240 rows that count as "
        f"{found.effective_rows:.0f}\n"
    ) in capsys.readouterr().out


def test_a_metric_without_row_weights_is_named_as_the_reason(tmp_path: Path, capsys) -> None:
    """The line read as if there were too few rows."""
    root = shifted_workspace(tmp_path / "w", metric="metrics.py:own")
    write(
        root / "metrics.py", "def own(targets, predictions):\n    return float(predictions.mean())"
    )
    go_through(root, "folds", "train", "blend")
    said = capsys.readouterr().out
    assert ": no weighted metrics.py:own can be given (metrics.py:own takes no row weights)" in said
    assert Workspace.open(root, []).store.read_blend("blend").drift.nested is None


def test_alike_files_get_no_weighted_score(tmp_path: Path) -> None:
    root = go_through(shifted_workspace(tmp_path, test=0.1), "folds", "train", "blend")
    assert Workspace.open(root, []).store.read_blend("blend").drift is None


# --- weights in training ----------------------------------------------------------------------


def test_rows_are_weighted_in_training_and_the_weights_are_part_of_the_run(tmp_path: Path) -> None:
    root = shifted_workspace(
        tmp_path, models=["tfidf", {"weighted": {"preset": "tfidf", "row_weights": "drift"}}]
    )
    go_through(root, "folds")
    assert foldstack(root, "train", "--fold", "0", "--model", "tfidf,weighted") == 0
    ws, run = run_of(root, "weighted")
    train = rows_of(ws, run)[0]
    weights = pd.read_csv(root / "folds/drift.csv").set_index("id")["weight"]
    assert train.weights == pytest.approx(weights.loc[train.ids].to_numpy())
    assert np.ptp(rows_of(*run_of(root, "tfidf"))[0].weights) == 0
    plain, weighted = (
        parquet_meta(root / f"oof/{name}/seed0/fold0/heldout.parquet")["content"]
        for name in ("tfidf", "weighted")
    )
    assert plain != weighted
    identities = [
        read_json(root / f"oof/{m}/seed0/fold0/run.json")["identity"] for m in ("tfidf", "weighted")
    ]
    assert "row_weights" not in identities[0] and len(identities[1]["row_weights"]) == 16


def test_weights_require_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = shifted_workspace(tmp_path, test=0.1)
    go_through(root, "folds")
    auc = read_json(root / "folds/drift.json")["auc"]["score"]
    capsys.readouterr()
    sentence = (
        "competition.yaml: row_weights: drift follows how the test file differs from the training file, "
        f"but no difference was found (AUC {auc:.3f}): leave it out"
    )
    refuses(root, ["--set", "row_weights=drift", "train", "--fold", "0"], sentence, capsys)


def test_weights_require_a_learner_that_takes_them() -> None:
    class Deaf(LearnerSettings):
        """row_weights: as in tfidf."""

        learner: str = "deaf"
        row_weights: str = "file"

        @property
        def weighs_by_drift(self) -> bool:
            return self.row_weights == "drift"

    Deaf().check_traits()
    with pytest.raises(ValueError, match="learner deaf weights no rows"):
        Deaf(row_weights="drift").check_traits()


# --- folds ------------------------------------------------------------------------------------


def test_fold_0_has_the_rows_most_like_test() -> None:
    """Whole groups, by the mean of their rows: .9, .8 and the pair of .5 before .4."""
    likeness = np.array([0.1, 0.9, 0.2, 0.1, 0.9, 0.4, 0.8, 0.3])
    groups = np.array([0, 1, 2, 3, 3, 4, 5, 6])
    settings = FoldSettings(kind="test_like", count=2)
    rows = make_rows(list("abcdefgh"))
    found = test_like_folds(rows, Kind("binary"), settings, groups, likeness)
    assert found.tolist() == [1, 0, 1, 0, 0, 1, 0, 1]
    three = settings.model_copy(update={"count": 3})
    found = test_like_folds(rows, Kind("binary"), three, groups, likeness)
    assert np.flatnonzero(found == 0).tolist() == [1, 6] and set(found) == {0, 1, 2}


def test_a_validation_split_like_test(tmp_path: Path) -> None:
    root = go_through(shifted_workspace(tmp_path, folds={"kind": "test_like", "count": 4}), "folds")
    rows = pd.read_csv(root / "folds/drift.csv")
    fold = pd.read_csv(root / "folds/folds.csv").set_index("id")["fold"]
    assert fold.loc[rows["id"][:60]].unique().tolist() == [0] and (fold == 0).sum() == 60
    assert sorted(fold.unique()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kind": "test_like", "repeats": 2},
            "competition.yaml: folds.repeats would hold out the same rows in fold 0 of each split of "
            "kind test_like: leave it out",
        ),
        (
            {"kind": "test_like", "file": "own.csv"},
            "competition.yaml: folds.file gives the folds and folds.kind: test_like would make others: "
            "leave one of them out",
        ),
        (
            {"kind": "test_like"},
            "drift compares files of 100 rows and more, but the training file has 24 and the test file "
            "6: too few to show a difference",
        ),
    ],
)
def test_splits_like_test_are_refused(
    tmp_path: Path, settings: dict, sentence: str, capsys: pytest.CaptureFixture
) -> None:
    refuses(make_workspace(tmp_path, folds=settings), ["folds"], sentence, capsys)


def test_pairs_that_share_a_sentence_are_connected() -> None:
    """Over both sides and transitively; an empty sentence joins nothing."""
    pairs = [("a", "b"), ("c", "d"), ("B ", "e"), ("f", ""), ("E", "g"), ("", "h")]
    assert connected_groups(pairs).tolist() == [0, 1, 0, 2, 0, 3]


def pairs_workspace(root: Path, pairs: list[tuple[str, str]], **settings: object) -> Path:
    make_workspace(root, text=["left", "right"], pair=True, **settings)
    lines = [f"r{i},{a},{b},{i % 2}" for i, (a, b) in enumerate(pairs)]
    write(root / "input/train.csv", "\n".join(["id,left,right,label", *lines]) + "\n")
    tests = "".join(f"t{i},test {i},other {i}\n" for i in range(6))
    write(root / "input/test.csv", "id,left,right\n" + tests)
    return root


def test_connected_pairs_share_a_fold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pairs = [(f"left {i // 2}", f"right {i}") for i in range(24)]
    root = go_through(pairs_workspace(tmp_path, pairs), "folds")
    loose = pd.read_csv(root / "folds/folds.csv")["fold"].to_numpy().reshape(-1, 2)
    share = np.mean(loose[:, 0] != loose[:, 1])
    assert share > 0
    said = capsys.readouterr().out
    assert (
        f"warning: {share:.1%} of the training pairs share a sentence with other folds, but 0.0% of the "
        "test pairs share one with the training file: the estimate is too high if a known sentence "
        "helps; set folds.connected: true to keep pairs that share one in one fold\n"
    ) in said
    assert foldstack(root, "--set", "folds.connected=true", "folds", "--force") == 0
    together = pd.read_csv(root / "folds/folds.csv")["fold"].to_numpy().reshape(-1, 2)
    assert (together[:, 0] == together[:, 1]).all()
    assert "warning: " not in capsys.readouterr().out


def test_one_giant_component_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pairs = [("hub" if i < 16 else f"left {i}", f"right {i}") for i in range(24)]
    root = pairs_workspace(tmp_path, pairs, folds={"count": 3, "connected": True})
    sentence = (
        "folds.connected: 16 of the 24 training pairs are connected by sentences that they share, too "
        "many to be one of 3 folds: set folds.connected: false, or choose fewer folds"
    )
    refuses(root, ["folds"], sentence, capsys)
    refuse_giant_group(np.repeat([0, 1], [12, 12]), 3)
    giant = np.r_[np.zeros(9, int), np.arange(1, 12)]
    with pytest.raises(InputError, match="9 of the 20 training pairs are connected by sentences"):
        refuse_giant_group(giant, 5)
    with pytest.raises(InputError, match="9 of the 20 training rows are connected by segments"):
        refuse_giant_group(giant, 5, segments=3)


def test_connected_requires_pairs_and_dedupe(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = make_workspace(tmp_path, folds={"connected": True})
    assert foldstack(root, "folds") == 2
    assert (
        "`folds.connected` joins pairs that share a sentence: set `pair: true` or leave it out"
    ) in capsys.readouterr().err
    pairs = [(f"left {i}", f"right {i}") for i in range(24)]
    root = pairs_workspace(tmp_path, pairs, folds={"connected": True, "dedupe": False})
    sentence = (
        "competition.yaml: folds.connected requires dedupe: pairs that share a sentence cannot share a "
        "fold if equal pairs may cross; set folds.dedupe: true or folds.connected: false"
    )
    refuses(root, ["folds"], sentence, capsys)


def test_sharing_counts_rows_with_a_value_on_the_other_side() -> None:
    """Against brute force: sentences of either side, and groups."""
    rng = np.random.default_rng(0)
    pairs = [tuple(f"s{i}" for i in rng.integers(60, size=2)) for _ in range(50)]
    train, test, folds = pairs[:35], pairs[35:], rng.integers(3, size=35)
    keys = [f"g{i}" for i in rng.integers(30, size=50)]
    files = drift.Files.of(unlabelled(train), unlabelled(test), keys=keys)
    found = drift.sharing(files, folds)
    held = [
        any(set(a) & set(b) for b, g in zip(train, folds, strict=True) if g != f)
        for a, f in zip(train, folds, strict=True)
    ]
    known = [any(set(a) & set(b) for b in train) for a in test]
    groups = [
        any(a == b for b, g in zip(keys[:35], folds, strict=True) if g != f)
        for a, f in zip(keys[:35], folds, strict=True)
    ]
    assert [(s.what, s.held_out, s.test) for s in found] == [
        ("sentence", np.mean(held), np.mean(known)),
        ("group", np.mean(groups), np.mean([key in keys[:35] for key in keys[35:]])),
    ]


def test_groups_that_test_shares_and_folds_do_not(capsys: pytest.CaptureFixture) -> None:
    say_shared(SharedRecord(what="group", held_out=0.0, test=0.9, differs=True), connected=False)
    assert capsys.readouterr().out == (
        "warning: 0.0% of the training rows share a group with other folds, but 90.0% of the test rows "
        "share one with the training file: the estimate is too low if a known group helps; without "
        "`group` in competition.yaml folds share groups, too\n"
    )
    say_shared(SharedRecord(what="group", held_out=0.5, test=0.55, differs=False), connected=False)
    assert capsys.readouterr().out == ""


def test_records_without_drift_are_read(shifted: Path) -> None:
    """Blends of earlier versions have no drift."""
    record = read_json(shifted / "oof/_blends/blend/blend.json")
    record.pop("drift")
    from foldstack.records import BlendRecord

    assert BlendRecord.model_validate(record).drift is None
    assert DriftRecord.model_validate(read_json(shifted / "folds/drift.json")).claimed


def test_files_of_one_group_each_are_not_compared(tmp_path: Path, capsys) -> None:
    """Rows of one text stay together, so that no model can learn from both files."""
    root = make_workspace(tmp_path / "w", n=120)
    write(
        root / "input/train.csv",
        "id,text,label\n" + "".join(f"r{i},word n{i},{i % 2}\n" for i in range(120)),
    )
    write(root / "input/test.csv", "id,text\n" + "".join(f"t{i},the same\n" for i in range(120)))
    write(
        root / "input/sample_submission.csv",
        "id,label\n" + "".join(f"t{i},0\n" for i in range(120)),
    )
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    refuses(
        root,
        ["drift"],
        "the test file cannot be compared with the training file: rows that share a text or a group "
        "stay together, and too few such groups are left for 5 folds of both files",
        capsys,
    )


def test_a_group_larger_than_the_part_that_is_read_is_passed_over() -> None:
    groups = np.repeat([0, 1, 2, 3], [50, 4, 3, 2])
    assert set(groups[adversary._draw(groups, 9, seed=0)]) == {1, 2, 3}
    assert len(adversary._draw(groups[:50], 9, seed=0)) == 0
