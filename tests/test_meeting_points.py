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
from foldstack.files import read_json, read_table
from foldstack.rows import Rows
from foldstack.stages.learned import Run, rows_of
from foldstack.stages.oof import read_model
from foldstack.store import RunKey, Store, read_parquet, write_parquet
from foldstack.workspace import Workspace
from tiny import (
    add_preset,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    sentences,
    train_folds,
    turn_labels,
    write,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def submitted(root: Path, name: str = "blend") -> pd.Series:
    return read_table(root / f"submissions/{name}.csv", "utf-8")["label"]


# From the blend's rule to new texts


@pytest.fixture(scope="module")
def certain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some rows have the wrong label, so that recall asks for a threshold far below .5."""
    root = make_workspace(
        tmp_path_factory.mktemp("certain") / "w", metric="recall", blend={"rules": ["fitted"]}
    )
    turn_labels(root, {f"r{i}" for i in range(0, 24, 5)})
    labels = "".join(f"t{i},{i % 2}\n" for i in range(6))
    write(root / "input/sample_submission.csv", "id,label\n" + labels)
    go_through(root)
    assert foldstack(root, "submit", "--model", "tfidf") == 0
    return root


@pytest.mark.parametrize("of", [{"blend": "blend"}, {"model": "tfidf"}], ids=str)
def test_new_texts_are_decided_by_the_stored_rule(certain: Path, of: dict[str, str]) -> None:
    """As the test rows are, and not at .5."""
    predicted = package.load(certain, **of).predict(read_table(certain / "input/test.csv", "utf-8"))
    (name,) = of.values()
    assert predicted.labels == submitted(certain, name).tolist()
    at_half = (predicted.probabilities["1"] >= 0.5).astype(int).astype(str)
    assert predicted.labels != at_half.tolist()


# From the rows that choose the epoch to the external ones


def inner_rows(root: Path, n: int = 60) -> tuple[Rows, Rows, Rows]:
    """What a run of `select: inner` learns from, holds out and chooses by.

    The external rows are copies of all training rows, with their labels.
    """
    make_workspace(root, n=n, external=["more.csv"])
    copies = "".join(f"{text.upper()},{label}\n" for text, label in sentences(n))
    write(root / "input/more.csv", "text,label\n" + copies)
    add_preset(root, root / "no-backbone", training={"select": "inner"})
    assert foldstack(root, "folds") == 0
    ws = Workspace.open(root, [])
    folds = ws.store.read_folds(ws.competition.train)
    train, held, select, _ = rows_of(
        ws, Run(RunKey("tiny", 0, (0,)), ws.model_settings("tiny"), folds)
    )
    return train, held, select


def test_external_copies_of_the_rows_that_choose_the_epoch_are_not_learned_from(
    tmp_path: Path,
) -> None:
    """Else the epoch that remembers most would be chosen."""
    train, held, select = inner_rows(tmp_path / "w")
    assert (len(held), len(select)) == (20, 4)
    external = train.groups[train.origin == "external"]
    assert len(external) == 60 - 20 - 4
    assert not np.isin(external, np.concatenate([held.groups, select.groups])).any()


# From runs to a submission


def replace_predictions(root: Path, key: RunKey, name: str, rows: Rows, raw: np.ndarray) -> None:
    competition = Competition.load(root)
    place = Store(root).run_dir(key) / f"{name}.parquet"
    write_parquet(place, rows, raw, competition.link, competition.outputs)


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


def test_a_blend_made_for_another_test_file_is_not_submitted(workspace: Path, capsys) -> None:
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
    sentence = "blend 'blend' was made for another test file: run `make blend` again"
    refuses(workspace, ["submit"], sentence, capsys)
    assert not (workspace / "submissions/blend.csv").exists()


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


def stored(root: Path, path: str) -> np.ndarray:
    return read_parquet(root / f"oof/{path}.parquet")[1].raw


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
