"""Where two finished parts meet: what one of them stores is what the other must go by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

import foldstack as package
from foldstack.competition import Competition
from foldstack.ensemble import paired_difference
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.near import by_characters, near_pairs
from foldstack.rows import Rows
from foldstack.stages.blend import make_blend, reweighted
from foldstack.stages.compare import _variance_ratio
from foldstack.stages.learned import rows_of
from foldstack.stages.oof import read_model, read_seed
from foldstack.store import RunKey, Store, read_parquet, write_parquet
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from makers import unlabelled
from tiny import (
    add_preset,
    foldstack,
    go_through,
    make_workspace,
    run_of,
    seal,
    sentences,
    train_folds,
    turn_labels,
    write,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def submitted(root: Path, name: str = "blend") -> pd.Series:
    return read_table(root / f"submissions/{name}.csv", "utf-8")["label"]


def stored(root: Path, path: str) -> np.ndarray:
    return read_parquet(root / f"oof/{path}.parquet")[1].raw


# From the blend's rule to new texts


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some rows have the wrong label, so that recall asks for a threshold far below .5."""
    root = make_workspace(
        tmp_path_factory.mktemp("mislabelled") / "w", metric="recall", blend={"rules": ["fitted"]}
    )
    turn_labels(root, {f"r{i}" for i in range(0, 24, 5)})
    labels = "".join(f"t{i},{i % 2}\n" for i in range(6))
    write(root / "input/sample_submission.csv", "id,label\n" + labels)
    go_through(root)
    assert foldstack(root, "submit", "--model", "tfidf") == 0
    return root


@pytest.mark.parametrize("of", [{"blend": "blend"}, {"model": "tfidf"}], ids=str)
def test_new_texts_are_decided_by_the_stored_rule(mislabelled: Path, of: dict[str, str]) -> None:
    """As the test rows are, and not at .5."""
    predicted = package.load(mislabelled, **of).predict(
        read_table(mislabelled / "input/test.csv", "utf-8")
    )
    (name,) = of.values()
    assert predicted.labels == submitted(mislabelled, name).tolist()
    at_half = (predicted.probabilities["1"] >= 0.5).astype(int).astype(str)
    assert predicted.labels != at_half.tolist()


# From the rows that choose the epoch to the external ones


def inner_rows(root: Path, *seeds: int, n: int = 60) -> list[tuple[Rows, Rows, Rows]]:
    """What the runs of `select: inner` with these seeds learn from, hold out and choose by.

    The external rows are copies of all training rows, with their labels.
    """
    make_workspace(root, n=n, external=["more.csv"])
    copies = "".join(f"{text.upper()},{label}\n" for text, label in sentences(n))
    write(root / "input/more.csv", "text,label\n" + copies)
    add_preset(root, root / "no-backbone", training={"select": "inner"})
    assert foldstack(root, "folds") == 0
    return [rows_of(*run_of(root, seed=seed))[:3] for seed in seeds]


def test_external_copies_of_the_rows_that_choose_the_epoch_are_not_learned_from(
    tmp_path: Path,
) -> None:
    """Else the epoch that remembers most would be chosen."""
    ((train, held, select),) = inner_rows(tmp_path / "w", 0)
    assert (len(held), len(select)) == (20, 4)
    assert [text.isupper() for (text,) in train.texts] == (train.origin == "external").tolist()
    judged = held.concatenated(select)
    copies = [(text.lower(),) for (text,) in train.texts if text.isupper()]
    # Whatever nearly repeats one of those rows is left out with the copies themselves.
    assert len(near_pairs(copies, judged.texts, by_characters(0.8, 0))) == 0
    lower = [t for t, o in zip(train.texts, train.origin, strict=True) if o == "gold"]
    far = [t for t in lower if not len(near_pairs([t], judged.texts, by_characters(0.8, 0)))]
    assert sorted(copies) == sorted(far) and len(far) > 20


def test_each_seed_holds_back_rows_of_its_own_to_choose_the_epoch_by(tmp_path: Path) -> None:
    """Else all seeds would lack the same tenth, and be more alike than they are."""
    (_, held, select), (_, same_held, other) = inner_rows(tmp_path / "w", 0, 1)
    assert held.ids.tolist() == same_held.ids.tolist()
    assert set(select.ids) != set(other.ids)


# From copies of a text to what is said of them


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 60 training rows ten repeat another's text, and two of the six test rows do.

    Some labels are wrong, so that no model is perfect.
    """
    root = make_workspace(tmp_path_factory.mktemp("copies") / "w", n=60, models=["words", "chars"])
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\n")
    write(root / "presets/chars.yaml", "learner: tfidf\nword_ngrams: [0, 0]\nC: 0.1\n")
    turn_labels(root, {f"r{i}" for i in range(0, 60, 7)})
    lines = (root / "input/train.csv").read_text().splitlines()
    texts = [line.split(",")[1].upper() for line in lines[1:11]]
    for i, text in enumerate(texts, 51):
        lines[i] = f"r{i - 1},{text},{lines[i][-1]}"
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    path = root / "input/test.csv"
    rest = path.read_text().splitlines()[3:]
    path.write_text("\n".join(["id,text", f"t0,{texts[0]}", f"t1,{texts[1]}", *rest]) + "\n")
    assert foldstack(root, "folds") == 0
    for model in ("words", "chars"):
        train_folds(root, "--model", model)
    return go_through(root, "blend")


def test_a_blend_reads_what_the_runs_have_said_and_which_rows_are_copies(copies: Path) -> None:
    ws = Workspace.open(copies, [])
    train, folds = ws.competition.train, ws.store.read_folds(ws.competition.train)
    members = make_blend(ws, ["words", "chars"], methods=("mean",), quiet=True).members
    for k, name in enumerate(members.names):
        model = read_model(ws, name, folds)
        np.testing.assert_array_equal(members.probabilities[:, k], model.oof)
        np.testing.assert_array_equal(members.ranks[:, k], model.oof_ranks)
        np.testing.assert_array_equal(members.test_probabilities[:, k], model.test)
        np.testing.assert_array_equal(members.test_ranks[:, k], model.test_ranks)
    assert members.folds.tolist() == folds.fold.tolist()
    assert members.groups.tolist() == train.groups.tolist()
    assert len(set(members.groups)) == 50


def test_compare_draws_copies_together(copies: Path, capsys) -> None:
    """Its interval is that over 50 different texts, not over 60 rows."""
    ws = Workspace.open(copies, [])
    train, folds = ws.competition.train, ws.store.read_folds(ws.competition.train)
    words, chars = (read_seed(ws, name, 0, folds)[0] for name in ("words", "chars"))
    metric = ws.competition.metric
    ratio = _variance_ratio(ws, ("chars", "words"), [0], folds)
    shown = []
    for groups in (train.groups, np.arange(60)):
        found = paired_difference(metric, train.targets, [chars], [words], groups, 0, ratio)
        shown.append(f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
    assert shown[0] != shown[1]
    capsys.readouterr()
    assert foldstack(copies, "compare", "--a", "words", "--b", "chars") == 0
    assert f" {shown[0]} " in capsys.readouterr().out


def test_the_estimate_for_repeated_texts_weighs_them_as_the_test_set_has_them(copies: Path) -> None:
    """A third of the test rows stand in training, as do both rows of ten texts: a third of 60, too.

    So these weigh as much as the others; where a sixth does, half as much and a quarter more.
    """
    ws = Workspace.open(copies, [])
    train, folds = ws.competition.train, ws.store.read_folds(ws.competition.train)
    nested = stored(copies, "_blends/blend/nested")
    repeated = np.bincount(train.groups)[train.groups] > 1
    assert repeated.sum() == 20
    plain = roc_auc_score(train.targets, nested)
    assert reweighted(ws, folds, nested).to_json() == {
        "test_share": 1 / 3,
        "train_share": 1 / 3,
        "score": pytest.approx(plain),
    }
    path = copies / "input/test.csv"
    before = path.read_text()
    path.write_text(before.replace("\nt1,", "\nt1,unheard-of "))
    score = reweighted(Workspace.open(copies, []), folds, nested).score
    path.write_text(before)
    weights = np.where(repeated, 0.5, 1.25)
    assert score == pytest.approx(roc_auc_score(train.targets, nested, sample_weight=weights))
    assert abs(score - plain) > 1e-3


# From runs to a submission


def replace_predictions(root: Path, key: RunKey, name: str, rows: Rows, raw: np.ndarray) -> None:
    competition = Competition.load(root)
    place = Store(root).run_dir(key) / f"{name}.parquet"
    write_parquet(place, rows, raw, competition.link, competition.outputs)
    seal(place.parent)


def test_full_runs_of_several_seeds_are_averaged_after_the_link(workspace: Path) -> None:
    """The mean of logits would be sharper than that of probabilities."""
    go_through(workspace, "folds", "train")
    rng, test = np.random.default_rng(0), Competition.load(workspace).test
    made = []
    for seed in (0, 1):
        assert foldstack(workspace, "train", "--fold", "full", "--seed", str(seed)) == 0
        made.append(rng.normal(0, 3, (6, 1)))
        replace_predictions(workspace, RunKey("tfidf", seed, ()), "test", test, made[-1])
    assert foldstack(workspace, "submit", "--model", "tfidf", "--fold", "full") == 0
    ours = submitted(workspace, "tfidf").astype(float)
    np.testing.assert_allclose(ours, np.mean(expit(made), axis=0)[:, 0], rtol=1e-6)
    assert np.abs(ours - expit(np.mean(made, axis=0))[:, 0]).max() > 0.01


def test_the_seed_variance_is_that_of_the_mean_over_seeds(workspace: Path) -> None:
    """Two seeds halve it: the blend reads their mean, not one of them."""
    go_through(workspace, "folds")
    ws = Workspace.open(workspace, [])
    train, folds = ws.competition.train, ws.store.read_folds(ws.competition.train)
    rng, scores = np.random.default_rng(0), []
    for seed in (0, 1):
        train_folds(workspace, "--seed", str(seed))
        raw = rng.normal(size=(24, 1)).astype(np.float32)
        for fold in range(3):
            held = folds.held_out((fold,))
            key = RunKey("tfidf", seed, (fold,))
            replace_predictions(workspace, key, "heldout", train.take(held), raw[held])
        scores.append(roc_auc_score(train.targets, raw))
    model = read_model(ws, "tfidf", folds)
    assert scores[0] != scores[1]
    assert model.seed_variance == pytest.approx(np.var(scores, ddof=1) / 2)


def test_a_blend_made_for_another_test_file_predicts_again(workspace: Path, capsys) -> None:
    """The same texts under other ids have the same predictions: what tells are the hashed rows."""
    go_through(workspace, "folds", "train", "blend")
    for name in ("test", "sample_submission"):
        path = workspace / f"input/{name}.csv"
        path.write_text(path.read_text().replace("\nt", "\nu"))
    before = read_json(workspace / "oof/_blends/blend/blend.json")["members"]
    train_folds(workspace)
    ws = Workspace.open(workspace, [])
    assert ws.competition.test.ids.tolist() == [f"u{i}" for i in range(6)]
    model = read_model(ws, "tfidf", ws.store.read_folds(ws.competition.train))
    assert model.runs == before["tfidf"]
    capsys.readouterr()
    assert foldstack(workspace, "submit") == 0
    assert "its stored models predicted it" in capsys.readouterr().out
    submitted = (workspace / "submissions/blend.csv").read_text()
    assert [line[:2] for line in submitted.splitlines()[1:]] == [f"u{i}" for i in range(6)]


def test_a_submission_is_scored_by_id_whatever_the_order_of_the_solution(
    workspace: Path, capsys
) -> None:
    go_through(workspace)
    capsys.readouterr()
    assert foldstack(workspace, "score") == 0
    before = capsys.readouterr().out
    path = workspace / "input/private/solution.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[::2], *rows[1::2]]) + "\n")
    assert foldstack(workspace, "score") == 0
    assert capsys.readouterr().out == before
    assert before.endswith(" 1.0000\n")  # of other rows' labels it would not be


def test_folds_are_given_by_id_whatever_the_order_of_their_file(workspace: Path) -> None:
    go_through(workspace, "folds")
    rows = Competition.load(workspace).train
    before = Store(workspace).read_folds(rows)
    path = workspace / "folds/folds.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[5:], *lines[:5]]) + "\n")
    after = Store(workspace).read_folds(rows)
    assert after.fold.tolist() == before.fold.tolist()
    assert after.hash == before.hash
    assert before.fold.tolist() != np.roll(before.fold, -10).tolist()


def test_a_prediction_of_which_one_output_is_not_finite_is_not_blended(tmp_path: Path) -> None:
    """Guards a look at rows that are not finite throughout."""
    store, key = Store(tmp_path), RunKey("prices", 0, (1,))
    rows = unlabelled(["a", "b", "c"])
    raw = np.array([[0, 1], [2, np.nan], [4, 5]])
    write_parquet(store.run_dir(key) / "test.parquet", rows, raw, "identity", ("low", "high"))
    with pytest.raises(InputError) as e:
        store.read_predictions(key, "test", rows)
    assert str(e.value) == (
        "oof/prices/seed0/fold1/test.parquet: row 2 (id 'r1') holds a prediction that is not finite: "
        "train prices seed 0 fold1 again with --force, or leave the model out"
    )


def test_taken_rows_keep_all_that_is_theirs_in_any_order() -> None:
    number = np.arange(3)
    arrays = ("weights", "groups", "targets", "features", "auxiliary", "difficulty")
    rows = Rows(
        ids=number.astype(str).astype(object),
        texts=[(str(i),) for i in number],
        origin=number.astype(str),
        **dict.fromkeys(arrays, number),
    )
    taken = rows.take(np.array([2, 0, 0, 1]))
    assert taken.texts == [("2",), ("0",), ("0",), ("1",)]
    for name in ("ids", "origin", *arrays):
        values = getattr(taken, name)
        assert values.astype(int).ravel().tolist() == [2, 0, 0, 1], name


# From a regression's targets to its predictions of new texts


def regression(root: Path, backbone: Path, unit: float, shift: float) -> Path:
    """0 and 1 times a unit plus a shift, learned by a transformer and by a linear model."""
    make_workspace(
        root,
        n=48,
        kind="regression",
        metric="rmse",
        models=["tiny", "tfidf"],
        folds={"count": 2},
        blend={"methods": ["mean"]},
        runtime={"threads": 1},
    )
    path = root / "input/train.csv"
    lines = [line.rsplit(",", 1) for line in path.read_text().splitlines()[1:]]
    rows = "".join(f"{rest},{unit * float(label) + shift}\n" for rest, label in lines)
    path.write_text("id,text,label\n" + rows)
    training = {"epochs": 6, "batch_size": 4, "lr": 0.01, "precision": "fp32"}
    add_preset(root, backbone, training=training, dropout=0, backbone_dropout=0)
    assert foldstack(root, "folds") == 0
    for model in ("tiny", "tfidf"):
        train_folds(root, "--model", model, folds=2)
    return go_through(root, "blend", "submit")


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> tuple[Path, Path]:
    """Targets of 5,000 and 5,800, and the same 100 times as large, less 7,000."""
    place = tmp_path_factory.mktemp("prices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return (
            regression(place / "one", backbone, 800, 5000),
            regression(place / "other", backbone, 80_000, 493_000),
        )


EVERYWHERE = [
    *(f"{m}/seed0/fold1/{name}" for m in ("tiny", "tfidf") for name in ("heldout", "test")),
    *(f"_blends/blend/{name}" for name in ("oof", "nested", "test")),
]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_a_regressions_predictions_are_in_the_units_of_its_targets(
    prices: tuple[Path, Path], path: str
) -> None:
    """Other units of the targets are other units of everything predicted, and no other change."""
    one, other = (stored(root, path) for root in prices)
    np.testing.assert_allclose(other, 100 * one - 7000, rtol=1e-3)
    assert one.min() > 4600 and one.max() < 6200  # and not around 0, or 1,000 off
    assert np.std(one) > 100  # and not the mean of the targets


def test_a_regression_is_scored_submitted_and_predicted_in_the_units_of_its_targets(
    prices: tuple[Path, Path],
) -> None:
    for root, unit in zip(prices, (1, 100), strict=True):
        info = read_json(root / "submissions/blend.json")
        assert 0 < info["nested"]["score"] < 360 * unit  # the deviation of the targets is 400
        for name in ("tiny", "tfidf"):
            score = read_json(root / f"oof/{name}/seed0/fold1/run.json")["score"]
            assert 0 < score < 360 * unit
        values = submitted(root).astype(float)
        np.testing.assert_allclose(values, stored(root, "_blends/blend/test")[:, 0], rtol=1e-6)
        texts = read_table(root / "input/test.csv", "utf-8")
        predicted = package.load(root).predict(texts).probabilities["label"]
        np.testing.assert_allclose(predicted, values, rtol=1e-5)
