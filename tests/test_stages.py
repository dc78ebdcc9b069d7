"""The stages one after another: what each reads, what it writes, and what it must never touch."""

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from scipy.stats import rankdata
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from foldstack.cli import main, parser, run
from foldstack.competition import Competition
from foldstack.files import read_json, write_json
from foldstack.stages import jobs, launch
from foldstack.stages.oof import read_model
from foldstack.store import RunKey, Store, read_parquet, write_parquet
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from tiny import (
    files,
    foldstack,
    go_through,
    make_kind,
    make_workspace,
    refuses,
    seal,
    train_folds,
    write,
    write_competition,
)


class InThisProcess:
    """Stands for subprocess.Popen: a run's command line carried out here, seconds sooner."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        assert command[:3] == [sys.executable, "-m", "foldstack"]
        self.arguments = command[3:]

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        run(parser().parse_args(self.arguments))
        return 0


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run at a time, as on a machine of one core."""
    monkeypatch.setattr(jobs, "cpu_cores", lambda: 1)
    monkeypatch.setattr(launch, "subprocess", SimpleNamespace(Popen=InThisProcess))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go_through(make_workspace(tmp_path_factory.mktemp("trained") / "w"), "folds", "train")


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A workspace with folds and three tfidf runs."""
    return shutil.copytree(trained, tmp_path / "w")


def raw_of(root: Path, run: str, name: str, model: str = "tfidf", seed: int = 0) -> np.ndarray:
    return read_parquet(root / f"oof/{model}/seed{seed}/{run}/{name}.parquet")[1].raw


def submitted(root: Path, name: str = "blend") -> pd.DataFrame:
    return read_table(root / f"submissions/{name}.csv", "utf-8")


# The whole way, for every kind


def private_score(root: Path, metric: str) -> float:
    """The submission's score by scikit-learn."""
    ours = submitted(root).set_index("id")
    gold = read_table(root / "input/private/solution.csv", "utf-8").set_index("id").loc[ours.index]
    if metric == "log_loss":
        values = ours.astype(float).to_numpy()
        values = values / values.sum(axis=1, keepdims=True)  # 8 digits add up to 1 only nearly
        return log_loss(gold["label"], values, labels=sorted(ours.columns))
    if metric == "f1":
        return f1_score(gold["label"], ours["label"], pos_label="good")
    if metric == "f1_macro" and list(gold) == ["label"]:
        return f1_score(gold["label"], ours["label"], average="macro")
    if metric == "f1_macro":
        return f1_score(gold.astype(int), ours[gold.columns].astype(int), average="macro")
    if list(gold) == ["label"]:
        return roc_auc_score(gold["label"] == "good", ours["label"].astype(float))
    return roc_auc_score(gold.astype(int), ours[gold.columns].astype(float), average="macro")


WAYS = {
    "binary": ("binary", "roc_auc", ["label"], "probabilities"),
    "binary labels": ("binary", "f1", ["label"], "labels"),
    "classes": ("multiclass", "f1_macro", ["label"], "labels"),
    "class columns": ("multiclass", "log_loss", ["bad", "good", "other"], "probabilities"),
    "several labels": ("multilabel", "roc_auc", ["r", "p", "q"], "probabilities"),
    "several decided labels": ("multilabel", "f1_macro", ["p", "q", "r"], "labels"),
}


@pytest.mark.parametrize(("kind", "metric", "columns", "holds"), WAYS.values(), ids=WAYS.keys())
def test_the_whole_way(
    tmp_path: Path, kind: str, metric: str, columns: list[str], holds: str, capsys
) -> None:
    """From three files to a scored submission in the sample's form, for every kind of target."""
    root = go_through(make_kind(tmp_path / "w", kind, metric, columns))
    capsys.readouterr()
    table = submitted(root)
    assert list(table.columns) == ["id", *columns]
    assert list(table["id"]) == ["t5", "t4", "t3", "t2", "t1", "t0"]
    info = read_json(root / "submissions/blend.json")
    assert (info["holds"], info["rows"], info["kind"]) == (holds, 6, kind)
    assert foldstack(root, "score") == 0
    shown = capsys.readouterr().out.splitlines()[-1].split()
    assert shown[0] == "blend"
    assert float(shown[-1]) == pytest.approx(private_score(root, metric), abs=5e-5)
    assert float(shown[-2]) == pytest.approx(info["in_sample"], abs=5e-5)
    assert foldstack(root, "scores") == 0
    said = capsys.readouterr().out
    assert [line.split()[:3] for line in said.splitlines()[2:5]] == [
        ["tfidf", "0", f"fold{f}"] for f in range(3)
    ]
    assert f"{info['nested']['score']:.4f} [" in said


# The private solution

_watched: list[str] | None = None


def _watch(event: str, args: tuple) -> None:
    if _watched is not None and event in ("open", "os.listdir", "os.scandir", "shutil.copyfile"):
        _watched.append(str(args[0]))


sys.addaudithook(_watch)  # Python has no way to remove it: it is asleep unless a test listens


@contextmanager
def opened() -> Iterator[list[str]]:
    """The paths that Python opens or lists inside."""
    global _watched
    _watched = paths = []
    try:
        yield paths
    finally:
        _watched = None


def test_no_stage_but_score_reads_the_private_solution(workspace: Path) -> None:
    """Labels of the test rows may reach neither training nor the choice of a blend."""
    stages = [["folds"], ["train"], ["train", "--fold", "full"], ["blend"], ["submit"]]
    stages += [["submit", "--model", "tfidf", "--fold", "full"], ["scores"], ["--debug", "folds"]]
    with opened() as paths:
        for stage in stages:
            assert foldstack(workspace, *stage) == 0
    assert any(path.endswith("input/train.csv") for path in paths)
    assert not [path for path in paths if "private" in path]
    with opened() as paths:
        assert foldstack(workspace, "score") == 0
    assert [path for path in paths if "private" in path]  # else the test would see nothing


def test_without_a_private_solution_all_but_the_score_is_the_same(tmp_path: Path) -> None:
    made = []
    for name in ("with", "without"):
        root = make_workspace(tmp_path / name)
        if name == "without":
            shutil.rmtree(root / "input/private")
        made.append(files(go_through(root) / "submissions"))
    assert made[0] == made[1]


# Runs


def test_a_run_that_leaves_nothing_out(runs: Path, capsys) -> None:
    """FOLD=full learns from every row; its submission says whose the estimate is."""
    assert foldstack(runs, "train", "--fold", "full") == 0
    place = runs / "oof/tfidf/seed0/full"
    run = read_json(place / "run.json")
    assert (run["left_out"], run["rows"], run["score"]) == ([], 24, None)
    assert sorted(p.name for p in place.glob("*.parquet")) == ["test.parquet"]
    assert foldstack(runs, "submit", "--model", "tfidf", "--fold", "full", "--name", "all") == 0
    wanted = expit(raw_of(runs, "full", "test").astype(float))[:, 0]
    np.testing.assert_allclose(submitted(runs, "all")["label"].astype(float), wanted, rtol=1e-7)
    info = read_json(runs / "submissions/all.json")
    assert list(info["members"]["tfidf"]) == ["seed0/full"]
    assert info["test_mean"] == ""
    note = "the estimate is of the fold runs; these predictions come from one run on all rows"
    assert info["note"] == note
    assert f"submit: {note}\n" in capsys.readouterr().out


def test_a_run_that_leaves_two_folds_out(runs: Path) -> None:
    """For second levels that must know neither; a blend of first levels passes it over."""
    assert foldstack(runs, "blend") == 0
    before = read_json(runs / "oof/_blends/blend/blend.json")
    assert foldstack(runs, "train", "--fold", "2-0") == 0
    folds = Store(runs).read_folds(Competition.load(runs).train).fold
    ids, _, _ = read_parquet(runs / "oof/tfidf/seed0/fold0-2/heldout.parquet")
    assert list(ids) == [f"r{i}" for i in np.flatnonzero(folds != 1)]
    run = read_json(runs / "oof/tfidf/seed0/fold0-2/run.json")
    assert (run["left_out"], run["rows"]) == ([0, 2], 8)
    assert foldstack(runs, "blend") == 0
    assert read_json(runs / "oof/_blends/blend/blend.json") == before


def test_train_alone_trains_every_model_seed_and_fold(workspace: Path, capsys) -> None:
    """And a second time says that there is nothing to do."""
    models = ["tfidf", {"words": {"preset": "tfidf", "char_ngrams": [0, 0], "C": 0.5}}]
    write_competition(workspace, models=models, seeds=[3, 0], folds={"count": 2})
    go_through(workspace, "folds")
    assert foldstack(workspace, "train") == 0
    wanted = [RunKey(m, s, (f,)) for m in ("tfidf", "words") for s in (0, 3) for f in (0, 1)]
    assert list(Store(workspace).runs()) == wanted
    capsys.readouterr()
    before = files(workspace)
    assert foldstack(workspace, "train") == 0
    assert capsys.readouterr().out == (
        "train: nothing to do, 8 finished: tfidf seed 3 fold0, tfidf seed 3 fold1, tfidf seed 0 "
        "fold0 …\n"
    )
    assert files(workspace) == before
    settings = [run.identity.settings for run in Store(workspace).runs().values()]
    assert [(s["char_ngrams"], s["C"]) for s in settings] == [("auto", "auto")] * 4 + [
        ([0, 0], 0.5)
    ] * 4


def test_a_variant_stands_beside_the_model_and_is_blended(runs: Path) -> None:
    """NAME= keeps what SET= makes of a preset; neither may write over the other."""
    before = files(runs / "oof/tfidf")
    assert foldstack(runs, "train", "--model", "tfidf", "--name", "weak", "--set", "C=0.01") == 0
    assert files(runs / "oof/tfidf") == before
    run = read_json(runs / "oof/weak/seed0/fold1/run.json")
    assert (run["model"], run["identity"]["settings"]["C"]) == ("weak", 0.01)
    assert (raw_of(runs, "fold1", "test", "weak") != raw_of(runs, "fold1", "test")).all()
    assert foldstack(runs, "blend") == 0
    info = read_json(runs / "oof/_blends/blend/blend.json")
    assert list(info["members"]) == ["tfidf", "weak"]
    single = {"single:tfidf", "single:weak"}
    assert single | {"mean", "rank_mean", "greedy", "rank_greedy", "stack", "calibrated_mean"} == {
        c["name"] for c in info["candidates"]
    }
    assert foldstack(runs, "blend", "--model", "weak", "--name", "alone") == 0
    alone = read_json(runs / "oof/_blends/alone/blend.json")
    assert list(alone["members"]) == ["weak"]
    assert foldstack(runs, "submit", "--name", "alone") == 0
    assert foldstack(runs, "submit", "--model", "weak") == 0
    alone, weak = (submitted(runs, name)["label"].astype(float) for name in ("alone", "weak"))
    np.testing.assert_allclose(alone, weak, rtol=1e-6)  # a blend is stored in float32


# A new test file


def change_test(root: Path) -> None:
    path = root / "input/test.csv"
    path.write_text(path.read_text().replace("t0,a bad", "t0,a lovely"))


def test_a_new_test_file_asks_for_predictions_only(runs: Path, capsys) -> None:
    """Training again for hours because a row of the test file changed would be waste."""
    before, raw = files(runs / "oof"), raw_of(runs, "fold1", "test")
    change_test(runs)
    capsys.readouterr()
    assert foldstack(runs, "train") == 0
    said = capsys.readouterr().out
    assert said.count("the test file is new, the model is not: predicted its 6 rows\n") == 3
    after = files(runs / "oof")
    changed = {name for name in after if after[name] != before[name]}
    assert after.keys() == before.keys()
    assert changed == {
        f"tfidf/seed0/fold{f}/{n}" for f in range(3) for n in ("test.parquet", "run.json")
    }
    new = raw_of(runs, "fold1", "test")
    assert new[0] > raw[0]
    assert new[1:].tolist() == raw[1:].tolist()
    run = read_json(runs / "oof/tfidf/seed0/fold1/run.json")
    assert run["predictions"]["test"] == Store(runs).content(RunKey("tfidf", 0, (1,)), "test")
    go_through(runs, "blend", "submit")


def test_without_its_model_a_run_cannot_predict_a_new_test_file(workspace: Path, capsys) -> None:
    """store.keep_models=false saves the disk, at this price."""
    write_competition(workspace, store={"keep_models": False})
    go_through(workspace, "folds", "train", "blend")
    run = workspace / "oof/tfidf/seed0/fold0"
    assert sorted(p.name for p in run.iterdir()) == ["heldout.parquet", "run.json", "test.parquet"]
    change_test(workspace)
    before = files(workspace)
    refuses(
        workspace,
        ["train", "--fold", "0"],
        "tfidf seed 0 fold0: the test file is new and the fitted model was not kept "
        "(store.keep_models=false): train it again with --force (FORCE=1)",
        capsys,
    )
    assert files(workspace) == before
    train_folds(workspace, "--force")
    assert foldstack(workspace, "blend") == 0


# From runs to a submission


def fake_runs(root: Path, seeds: tuple[int, ...], outputs: int = 1) -> dict[tuple, np.ndarray]:
    """Replace the predictions of every run by random ones; {(seed, fold): raw test outputs}."""
    competition = Competition.load(root)
    folds = Store(root).read_folds(competition.train)
    rng = np.random.default_rng(0)
    test = {}
    for seed in seeds:
        for fold in range(3):
            held = competition.train.take(folds.held_out((fold,)))
            for name, rows in (("heldout", held), ("test", competition.test)):
                raw = rng.normal(size=(len(rows), outputs)).astype(np.float32)
                place = root / f"oof/tfidf/seed{seed}/fold{fold}/{name}.parquet"
                write_parquet(place, rows, raw, competition.link, competition.outputs)
                seal(place.parent)
                if name == "test":
                    test[seed, fold] = raw.astype(float)
    return test


def test_test_predictions_are_the_mean_over_folds_and_seeds(workspace: Path) -> None:
    """Of probabilities, not of raw outputs, whose mean would be sharper."""
    write_competition(workspace, seeds=[0, 1])
    go_through(workspace, "folds")
    assert foldstack(workspace, "train") == 0
    raw = fake_runs(workspace, (0, 1))
    go_through(workspace, "blend", "submit")
    wanted = np.mean([expit(r) for r in raw.values()], axis=0)[:, 0]
    ours = submitted(workspace)["label"].astype(float)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    assert np.abs(wanted - expit(np.mean(list(raw.values()), axis=0))[:, 0]).max() > 0.01
    info = read_json(workspace / "submissions/blend.json")
    assert info["test_mean"] == "of probabilities over folds and seeds"
    assert len(info["members"]["tfidf"]) == 6


def test_class_probabilities_are_averaged_after_the_softmax(tmp_path: Path) -> None:
    columns = ["other", "bad", "good"]
    root = make_kind(tmp_path / "w", "multiclass", "log_loss", columns)
    go_through(root, "folds", "train")
    raw = fake_runs(root, (0,), outputs=3)
    assert foldstack(root, "--set", "blend.calibration=none", "blend") == 0
    go_through(root, "submit")
    wanted = np.mean([softmax(r, axis=1) for r in raw.values()], axis=0)[::-1]  # the sample's order
    ours = submitted(root)[["bad", "good", "other"]].astype(float)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_out_of_fold_predictions_are_those_of_the_run_that_left_the_row_out(runs: Path) -> None:
    """And ranks are those among the rows that a run held out, so that runs are comparable."""
    fake_runs(runs, (0,))
    ws = Workspace.open(runs, [])
    folds = ws.store.read_folds(ws.competition.train)
    model = read_model(ws, "tfidf", folds)
    for fold in range(3):
        held, raw = folds.fold == fold, raw_of(runs, f"fold{fold}", "heldout")
        np.testing.assert_array_equal(model.oof[held], expit(raw.astype(float)))
        ranks = rankdata(raw, axis=0) / (len(raw) + 1)
        np.testing.assert_allclose(model.oof_ranks[held], ranks, rtol=1e-12)
    ranks = []
    for fold in range(3):
        known, new = (raw_of(runs, f"fold{fold}", what) for what in ("heldout", "test"))
        ranks.append(((known < new.T).sum(axis=0) + 0.5) / (len(known) + 1))
    np.testing.assert_allclose(model.test_ranks[:, 0], np.mean(ranks, axis=0))


def test_a_submission_says_what_it_was_made_from(runs: Path) -> None:
    go_through(runs, "blend", "submit")
    info = read_json(runs / "submissions/blend.json")
    store, competition = Store(runs), Competition.load(runs)
    assert info["hashes"] == {
        "folds": store.read_folds(competition.train).hash,
        "train": competition.train.hash(),
        "overlay": None,
        "test": competition.test.hash(),
        "features": [None, None],
    }
    assert info["members"] == {
        "tfidf": {
            f"seed0/fold{f}": store.content(RunKey("tfidf", 0, (f,)), "heldout")
            + store.content(RunKey("tfidf", 0, (f,)), "test")
            for f in range(3)
        }
    }
    assert info["metric"] == "roc_auc"
    assert info["scores_are"] == "pooled over all rows"
    assert info["optimistic"] == []
    assert info["nested"]["low"] <= info["nested"]["score"] <= info["nested"]["high"]
    blend = store.read_blend("blend").to_json()
    blend.pop("files")  # which are in the blend's folder
    assert blend.items() <= info.items()


def test_a_run_says_what_it_was_made_from(runs: Path) -> None:
    run = read_json(runs / "oof/tfidf/seed0/fold2/run.json")
    competition = Competition.load(runs)
    assert run["identity"] == {
        "settings": {
            "external_files": "all",
            "pseudo_labels": None,
            "distil": None,
            "learner": "tfidf",
            "pair_features": "none",
            "word_ngrams": "auto",
            "char_ngrams": "auto",
            "words": "auto",
            "min_count": 2,
            "max_share": 1.0,
            "sublinear": True,
            "max_features": 200000,
            "C": "auto",
            "naive_bayes": False,
            "segments": "auto",
            "row_weights": "file",
            **dict.fromkeys(
                ("keywords", "stop_words", "stem", "parts", "dictionary", "pseudo_labels", "distil")
            ),
        },
        "folds": Store(runs).read_folds(competition.train).hash,
        "train": competition.train.hash(),
        "overlay": None,
    }
    held = [
        f"r{i}" for i in range(24) if i in Store(runs).read_folds(competition.train).held_out((2,))
    ]
    ids, predictions, meta = read_parquet(runs / "oof/tfidf/seed0/fold2/heldout.parquet")
    assert list(ids) == held
    assert predictions.raw.dtype == np.float32 and predictions.link == "sigmoid"
    gold = [int(i[1:]) % 2 for i in ids]
    assert run["score"] == pytest.approx(roc_auc_score(gold, predictions.raw[:, 0]))
    assert run["predictions"]["heldout"] == meta["content"]
    assert run["machine"]["threads"] >= 1
    assert {"python", "numpy", "scikit-learn", "torch"} <= run["versions"].keys()
    assert run["seconds"] >= 0 and run["peak_memory_mb"] > 0


# No label of fold k enters a run that leaves k out


def rewrite_train(root: Path, change) -> None:
    """input/train.csv with `change` applied to its list of rows (dicts), folds.csv as it was."""
    path = root / "input/train.csv"
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    change(rows)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.mark.parametrize(("run", "fold"), [("fold0", {0}), ("fold0-2", {0, 2})])
def test_no_label_of_a_left_out_fold_enters_the_run(
    runs: Path, run: str, fold: set[int], tmp_path: Path
) -> None:
    """Turned labels of fold k must leave the run that leaves k out as it was, bit for bit."""
    number = run.removeprefix("fold")
    assert foldstack(runs, "train", "--fold", number, "--force") == 0
    other = shutil.copytree(runs, tmp_path / "other")
    of_row = Store(runs).read_folds(Competition.load(runs).train).fold

    def turn(rows: list[dict]) -> None:
        for row, f in zip(rows, of_row, strict=True):
            if f in fold:
                row["label"] = str(1 - int(row["label"]))

    rewrite_train(other, turn)
    for name in (number, "1"):
        assert foldstack(other, "train", "--fold", name, "--force") == 0
    for name in ("heldout", "test"):
        assert raw_of(other, run, name).tobytes() == raw_of(runs, run, name).tobytes()
        # And the labels do reach a run that learns from that fold: the test can fail.
        assert raw_of(other, "fold1", name).tobytes() != raw_of(runs, "fold1", name).tobytes()
    model = f"oof/tfidf/seed0/{run}/model"
    assert files(other / model) == files(runs / model)


def test_a_setting_that_is_newer_than_a_run_has_its_default_there(runs: Path, capsys) -> None:
    path = Store(runs).run_dir(RunKey("tfidf", 0, (1,))) / "run.json"
    run = read_json(path)
    del run["identity"]["settings"]["min_count"]
    write_json(path, run)
    seal(path.parent)
    before = read_json(path)
    capsys.readouterr()
    assert foldstack(runs, "train") == 0
    assert foldstack(runs, "blend") == 0
    assert read_json(path) == before  # nothing was trained
    refuses(
        runs,
        ["train", "--fold", "1", "--set", "min_count=1"],
        "tfidf seed 0 fold1 is finished with other settings or data (min_count 2 → 1): add --force "
        "(FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )


def test_weights_change_the_training_and_nothing_else(runs: Path, tmp_path: Path, capsys) -> None:
    """Weighted rows are still predicted and scored as they were given; fold k's weights too."""
    other = shutil.copytree(runs, tmp_path / "other")
    write_competition(other, weight="w")
    folds = Store(runs).read_folds(Competition.load(runs).train).fold

    def weigh(rows: list[dict]) -> None:
        for row, fold in zip(rows, folds, strict=True):
            row["w"] = "5" if fold == 0 and int(row["id"][1:]) % 4 == 1 else "1"

    rewrite_train(other, weigh)
    plain, weighted = Competition.load(runs).train, Competition.load(other).train
    assert plain.hash() == weighted.hash()
    overlay = weighted.overlay_hash()
    refuses(
        other,
        ["train", "--fold", "1"],
        "tfidf seed 0 fold1 is finished with other settings or data (overlay None → "
        f"{overlay}): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )
    refuses(
        other,
        ["blend"],
        "tfidf seed 0 fold0 was made with other external rows or weights (hash None) than today's "
        f"(hash {overlay}): train it again with --force (FORCE=1)",
        capsys,
    )
    train_folds(other, "--force")
    assert raw_of(other, "fold0", "test").tobytes() == raw_of(runs, "fold0", "test").tobytes()
    assert raw_of(other, "fold1", "test").tobytes() != raw_of(runs, "fold1", "test").tobytes()
    ids, predictions, meta = read_parquet(other / "oof/tfidf/seed0/fold1/heldout.parquet")
    held = plain.take(np.flatnonzero(folds == 1))
    assert (list(ids), meta["rows"]) == (list(held.ids), held.hash())
    score = read_json(other / "oof/tfidf/seed0/fold1/run.json")["score"]
    assert score == pytest.approx(roc_auc_score(held.targets[:, 0], predictions.raw[:, 0]))
    assert foldstack(other, "blend") == 0


# Settings


@pytest.mark.parametrize(
    "setting", ["folds.kind=kfold", "folds.seed=1", "folds.count=4", "folds.dedupe=false"]
)
def test_each_setting_of_the_folds_has_an_effect(workspace: Path, setting: str) -> None:
    def repeat(rows: list[dict]) -> None:
        for i in range(12):
            rows[i]["text"] = rows[i % 2]["text"]

    rewrite_train(workspace, repeat)
    assert foldstack(workspace, "folds") == 0
    before = read_json(workspace / "folds/folds.json")
    assert foldstack(workspace, "--set", setting, "folds") == 0
    after = read_json(workspace / "folds/folds.json")
    assert after["hash"] != before["hash"]
    key, value = setting.removeprefix("folds.").split("=")
    assert str(after["settings"][key]).lower() == value


@pytest.mark.parametrize(
    "setting",
    ["word_ngrams=[1,1]", "char_ngrams=[0,0]", "min_count=3", "max_features=20", "C=0.5"],
)
def test_each_setting_of_tfidf_has_an_effect(runs: Path, setting: str) -> None:
    before = raw_of(runs, "fold0", "test")
    assert foldstack(runs, "--set", setting, "train", "--fold", "0", "--force") == 0
    assert (raw_of(runs, "fold0", "test") != before).any()


def test_blend_methods_are_those_listed(runs: Path) -> None:
    assert foldstack(runs, "train", "--name", "weak", "--set", "C=0.01") == 0
    methods = "blend.methods=[mean, rank_mean]"
    assert foldstack(runs, "--set", methods, "--set", "blend.calibration=none", "blend") == 0
    info = read_json(runs / "oof/_blends/blend/blend.json")
    names = [c["name"] for c in info["candidates"]]
    assert sorted(names) == ["mean", "rank_mean", "single:tfidf", "single:weak"]
    assert info["settings"]["methods"] == ["mean", "rank_mean"]


def test_blend_seed_draws_another_bootstrap(runs: Path) -> None:
    errors = []
    for seed in (0, 0, 1):
        assert foldstack(runs, "--set", f"blend.seed={seed}", "blend") == 0
        info = read_json(runs / "oof/_blends/blend/blend.json")
        errors.append(info["nested"]["standard_error"])
    assert errors[0] == errors[1] != errors[2]


def test_threads_are_set_and_recorded(workspace: Path) -> None:
    write_competition(workspace, runtime={"threads": 1})
    go_through(workspace, "folds")
    assert foldstack(workspace, "train", "--fold", "0") == 0
    run = read_json(workspace / "oof/tfidf/seed0/fold0/run.json")
    assert run["machine"]["threads"] == 1


def test_a_workspace_may_be_called_like_an_option(tmp_path: Path, monkeypatch, capsys) -> None:
    """The processes of its runs took `--workspace -w` for two options."""
    make_workspace(tmp_path / "-w")
    monkeypatch.chdir(tmp_path)
    for command in (["folds"], ["train"]):
        assert main(["--workspace=-w", *command]) == 0


# DEBUG


def test_debug_works_on_a_small_copy(tmp_path: Path) -> None:
    """200 rows with every class among them, in a folder of its own; nothing else is touched."""
    root = make_workspace(tmp_path / "w", n=400, kind="multiclass", metric="accuracy", models=[])
    write(root / "presets/own.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\n")

    def label(rows: list[dict]) -> None:
        rows[77]["label"] = rows[78]["label"] = "rare"
        rows[79]["text"] = 'two\r\nlines, "quoted" and\rNA'
        rows[78]["text"] = "NA"

    rewrite_train(root, label)
    before = files(root)
    assert foldstack(root, "--debug", "folds") == 0
    for fold in range(2):  # folds.count=2
        assert foldstack(root, "--debug", "train", "--model", "own", "--fold", str(fold)) == 0
    for command in ("blend", "submit", "score"):
        assert foldstack(root, "--debug", command) == 0
    after = files(root)
    assert {k: v for k, v in after.items() if not k.startswith("debug/")} == before
    whole, small = Competition.load(root).train, Competition.load(root / "debug").train
    assert len(small) == 200
    assert small.ids.tolist() == [i for i in whole.ids if i in set(small.ids)]
    texts = dict(zip(whole.ids, whole.texts, strict=True))
    assert all(texts[i] == t for i, t in zip(small.ids, small.texts, strict=True))
    assert {"r77", "r78"} <= set(small.ids)
    assert submitted(root / "debug")["id"].tolist() == [f"t{i}" for i in range(6)]
    assert not (root / "debug/input/private").exists()


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", 'say "a, b"', " a ", "\u2028"])
def test_a_copied_text_is_the_same_text(tmp_path: Path, text: str) -> None:
    """The debug copy goes through our own CSV writer: it must quote what a reader would break."""
    root = make_workspace(tmp_path / "w")
    path = root / "input/train.csv"
    quoted = text.replace('"', '""')
    path.write_bytes(path.read_bytes() + f'new,"{quoted}",1\n'.encode())
    assert foldstack(root, "--debug", "folds") == 0
    small = Competition.load(root / "debug").train
    assert (small.ids[-1], small.texts[-1]) == ("new", (text,))


# Cleaning

MADE = ["folds", "oof", "submissions", "debug"]


@pytest.mark.parametrize("what", [*MADE, "all"])
def test_clean_removes_what_it_names(runs: Path, what: str, capsys) -> None:
    """input/, competition.yaml and presets/ are never touched."""
    for name in MADE:
        write(runs / name / ".gitkeep", "")
    go_through(runs, "blend", "submit")
    write(runs / "presets/own.yaml", "learner: tfidf\n")
    assert foldstack(runs, "--debug", "folds") == 0
    before = files(runs)
    capsys.readouterr()
    assert foldstack(runs, "clean", what) == 0
    gone = MADE if what == "all" else [what]
    wanted = {
        name: data
        for name, data in before.items()
        if name.split("/")[0] not in gone or (name.count("/") == 1 and name.endswith(".gitkeep"))
    }
    assert files(runs) == wanted
    assert capsys.readouterr().out == "".join(f"clean: {name}/ emptied\n" for name in gone)
    assert foldstack(runs, "clean", what) == 0
    assert capsys.readouterr().out == "".join(f"clean: {name}/ was empty\n" for name in gone)


# make

ROOT = Path(__file__).parents[1]


def make(*args: str) -> list[str]:
    """What `make -n` would run, by the stage's name and its options."""
    command = ["make", "-n", "PY=python", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [line.split("-m foldstack")[1].strip() for line in lines if "-m foldstack" in line]


needs_make = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / "Makefile").exists(), reason="make is not here"
)


@needs_make
@pytest.mark.parametrize("jobs", ["-j1", "-j4"])
def test_stages_wait_for_those_before_them_whatever_their_order(jobs: str) -> None:
    """`make -j4 submit blend` ran the submission beside the blend that it was to be made from."""
    stages = [line.split()[0] for line in make(jobs, "submit", "blend", "train", "folds")]
    assert stages == ["folds", "train", "blend", "submit"]
    assert [line.split()[0] for line in make(jobs, "score", "all")] == [*stages, "score", "page"]
    assert make(jobs, "blend") == ["blend"]
