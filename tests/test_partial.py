"""Partial work: models with runs of one fold, or of different folds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score, roc_auc_score

from foldstack.files import read_json
from foldstack.store import Folds, RunKey, Store, read_parquet, write_parquet
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from tiny import (
    foldstack,
    make_workspace,
    refuses,
    seal,
    turn_labels,
    write,
    write_competition,
)

NOISY = {f"r{i}" for i in (1, 4, 10, 17, 22, 31, 40, 43, 50, 58)}  # labels that no text explains
MODELS = {
    "words": "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n",
    "chars": "learner: tfidf\nword_ngrams: [0, 0]\nmin_count: 1\n",
}


def prepare(root: Path, **settings: object) -> Path:
    """60 rows in four folds, two models, none trained."""
    settings = {"models": list(MODELS), "folds": {"count": 4}, "runtime": {"threads": 1}} | settings
    make_workspace(root, n=60, **settings)
    turn_labels(root, NOISY)
    for name, preset in MODELS.items():
        write(root / f"presets/{name}.yaml", preset)
    assert foldstack(root, "folds") == 0
    return root


def train(root: Path, model: str, folds: str, *args: str) -> None:
    for fold in folds:
        assert foldstack(root, "train", "--model", model, "--fold", fold, *args) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`words` has folds 0, 1, 3, `chars` folds 1, 2, 3."""
    root = prepare(tmp_path_factory.mktemp("partial") / "w")
    train(root, "words", "013")
    train(root, "chars", "123")
    return root


@pytest.fixture
def partial(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "w"))


def said(root: Path, capsys: pytest.CaptureFixture, *args: str) -> list[str]:
    """The lines that the command prints."""
    capsys.readouterr()
    assert foldstack(root, *args) == 0
    return capsys.readouterr().out.splitlines()


def table(lines: list[str], first: str) -> list[list[str]]:
    """The cells of a table's rows, by the first word of its header."""
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    rows = lines[start + 2 :]
    return [line.split() for line in rows[: rows.index("") if "" in rows else len(rows)]]


def held_out(root: Path, model: str, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """The targets of a fold, and the model's probabilities for it."""
    ws = Workspace.open(root, [])
    rows = ws.competition.train
    held = rows.take(ws.store.read_folds(rows).held_out((fold,)))
    raw = ws.store.read_predictions(RunKey(model, 0, (fold,)), "heldout", held).raw
    return held.targets[:, 0], expit(raw.astype(float))[:, 0]


def pooled(root: Path, model: str, folds: tuple[int, ...]) -> float:
    """The AUC of some folds together; six test rows are too few to align the runs by."""
    targets, values = (
        np.concatenate(a) for a in zip(*(held_out(root, model, f) for f in folds), strict=True)
    )
    return roc_auc_score(targets, values)


# One fold


def test_one_trained_fold_of_a_model_can_be_submitted(tmp_path: Path, capsys) -> None:
    """The estimate is that fold's score, and says that it is of one fold."""
    root = prepare(tmp_path / "w")
    lines = said(root, capsys, "train", "--model", "words", "--fold", "0")
    auc = pooled(root, "words", (0,))
    cells = ["words", "1", "of", "4", "folds", f"{auc:.4f}", f"{auc:.4f}", "–"]
    assert table(lines, "model ") == [cells]
    lines = said(root, capsys, "blend", "--model", "words")
    blend = read_json(root / "oof/_blends/blend/blend.json")
    low, high = blend["nested"]["low"], blend["nested"]["high"]
    estimate = f"roc_auc {auc:.4f} [{low:.4f}, {high:.4f}]"
    assert lines[0] == (
        "blend: single:words as it is, since one fold leaves nothing to choose by; "
        f"{estimate}; pooled over the 15 rows of fold 0 of 4"
    )
    assert blend["folds"] == {"numbers": [0], "of": 4, "rows": 15}
    assert blend["optimistic"] == []
    lines = said(root, capsys, "submit", "--model", "words")
    assert lines[0] == (
        "submit: submissions/words.csv, 6 rows of probabilities from single:words (fold 0 of 4), "
        f"{estimate}; test predictions are means of probabilities over folds and seeds"
    )
    assert foldstack(root, "submit") == 0
    for name in ("blend", "words"):
        ours = read_table(root / f"submissions/{name}.csv", "utf-8")["label"].astype(float)
        raw = read_parquet(root / "oof/words/seed0/fold0/test.parquet")[1].raw
        np.testing.assert_allclose(ours, expit(raw.astype(float))[:, 0], rtol=1e-6)


def test_a_rule_fitted_on_the_only_fold_is_marked_everywhere(tmp_path: Path, capsys) -> None:
    root = prepare(tmp_path / "w", metric="f1")
    reason = "its decision rule is fitted on fold 0, the only one trained, and scored on it"
    lines = said(root, capsys, "train", "--model", "words", "--fold", "0")
    assert table(lines[:-1], "model ")[0][-1] == "optimistic"
    assert lines[-1] == f"words: OPTIMISTIC, {reason}"
    lines = said(root, capsys, "submit", "--model", "words")
    record = read_json(root / "submissions/words.json")
    assert record["optimistic"] == [reason]
    assert "] (OPTIMISTIC); test predictions" in lines[0]
    assert lines[1] == f"words: OPTIMISTIC, {reason}"
    targets, values = held_out(root, "words", 0)
    (threshold,) = record["rule"]["thresholds"]
    assert record["nested"]["score"] == pytest.approx(f1_score(targets, values >= threshold))
    assert record["nested"]["score"] >= f1_score(targets, values >= 0.5)
    lines = said(root, capsys, "score")
    assert lines[-1] == f"words: OPTIMISTIC, {reason}"
    assert "single:words, fold 0 of 4" in lines[-2] and "] optimistic!" in lines[-2]
    assert f"words: OPTIMISTIC, {reason}" in said(root, capsys, "scores")


def test_a_rule_that_fits_nothing_leaves_the_score_of_one_fold_honest(tmp_path: Path) -> None:
    root = prepare(tmp_path / "w", metric="accuracy")
    train(root, "words", "0")
    assert foldstack(root, "submit", "--model", "words") == 0
    record = read_json(root / "submissions/words.json")
    targets, values = held_out(root, "words", 0)
    assert record["nested"]["score"] == pytest.approx(np.mean(targets == (values >= 0.5)))
    assert record["optimistic"] == []


# Several models


def test_no_blend_is_chosen_from_one_fold(tmp_path: Path, capsys) -> None:
    root = prepare(tmp_path / "w")
    train(root, "words", "0")
    sentence = "model 'chars' has no runs: run `make train MODEL=chars`, or leave it out: "
    refuses(root, ["blend"], sentence + "`make blend MODEL=words`", capsys)
    train(root, "chars", "0")
    refuses(
        root,
        ["blend"],
        "the models share only fold 0 (words: fold 0; chars: fold 0), but a blend is chosen on two "
        "folds or more: run `make train MODEL=words,chars FOLD=1,2,3`, or take one model: `make blend "
        "MODEL=words`",
        capsys,
    )
    train(root, "chars", "1", "--name", "late")
    refuses(
        root,
        ["blend", "--name", "x", "--model", "words,late"],
        "the models share no fold (words: fold 0; late: fold 1), but a blend is chosen on two folds "
        "or more: run `make train MODEL=words FOLD=1` and `make train MODEL=chars NAME=late FOLD=0`, "
        "or take one model: `make blend NAME=x MODEL=words`",
        capsys,
    )


def test_models_are_blended_on_the_folds_that_they_share(partial: Path, capsys) -> None:
    lines = said(partial, capsys, "blend")
    record = read_json(partial / "oof/_blends/blend/blend.json")
    assert record["folds"] == {"numbers": [1, 3], "of": 4, "rows": 30}
    assert {model: list(runs) for model, runs in record["members"].items()} == {
        name: ["seed0/fold1", "seed0/fold3"] for name in MODELS
    }
    of = {c["name"]: c["nested"] for c in record["candidates"]}
    for name in MODELS:
        assert of[f"single:{name}"] == pytest.approx(pooled(partial, name, (1, 3)))
    assert any(line.endswith("; pooled over the 30 rows of folds 1,3 of 4") for line in lines)
    assert f"{record['winner']} (folds 1,3 of 4), nested" in said(partial, capsys, "submit")[0]
    made_of = f"{record['winner']}, folds 1,3 of 4"
    assert made_of in said(partial, capsys, "score")[-1]
    assert made_of in said(partial, capsys, "scores")[-1]
    assert "pooled over folds 1,3 of 4 (" in said(partial, capsys, "views")[0]
    assert said(partial, capsys, "report")[0].startswith(
        "blend: out-of-fold rows of folds 1,3 of 4"
    )


def test_the_test_prediction_is_the_mean_of_the_runs_used(partial: Path) -> None:
    assert foldstack(partial, "--set", "blend.methods=[mean]", "blend") == 0
    record = read_json(partial / "oof/_blends/blend/blend.json")
    model = record["winner"].removeprefix("single:")
    raw = [read_parquet(partial / f"oof/{model}/seed0/fold{f}/test.parquet")[1].raw for f in (1, 3)]
    ours = read_parquet(partial / "oof/_blends/blend/test.parquet")[1].raw
    np.testing.assert_allclose(ours, np.mean(expit(np.array(raw, float)), axis=0), rtol=1e-6)


def test_folds_trained_later_ask_for_a_new_blend(partial: Path, capsys) -> None:
    assert foldstack(partial, "blend") == 0
    train(partial, "chars", "0")
    capsys.readouterr()
    refuses(
        partial,
        ["submit"],
        "blend 'blend' was made of folds 1,3, but its models have runs of folds 0,1,3 now: run `make "
        "blend` again",
        capsys,
    )
    assert foldstack(partial, "blend") == 0
    assert foldstack(partial, "submit") == 0


def test_a_blend_of_all_folds_says_nothing_of_folds(partial: Path) -> None:
    train(partial, "words", "2")
    assert foldstack(partial, "blend", "--model", "words") == 0
    assert "folds" not in read_json(partial / "oof/_blends/blend/blend.json")


# Labels of a fold that is not used


def fake_runs(root: Path) -> None:
    """Give the runs the same random predictions, whatever they have learned."""
    ws, rng = Workspace.open(root, []), np.random.default_rng(0)
    competition = ws.competition
    folds = ws.store.read_folds(competition.train)
    for key in ws.store.runs():
        held = competition.train.take(folds.held_out(key.left_out))
        for name, rows in (("heldout", held), ("test", competition.test)):
            raw = rng.normal(size=(len(rows), 1)).astype(np.float32)
            path = ws.store.run_dir(key) / f"{name}.parquet"
            write_parquet(path, rows, raw, "sigmoid", competition.outputs)
        seal(ws.store.run_dir(key))


def turned(root: Path, fold: int | None) -> dict[str, object]:
    """What a blend of folds 1 and 3 says and submits, with the labels of a fold turned."""
    prepare(root, metric="f1", blend={"match_sharpness": True})
    if fold is not None:
        rows = Workspace.open(root, []).competition.train
        held = Store(root).read_folds(rows).held_out((fold,))
        given = (root / "folds/folds.csv").read_text()
        turn_labels(root, set(rows.ids[held]))
        write(root / "input/folds.csv", given)
        write_competition(
            root,
            metric="f1",
            models=list(MODELS),
            folds={"file": "folds.csv"},
            blend={"match_sharpness": True},
            runtime={"threads": 1},
        )
        assert foldstack(root, "folds", "--force") == 0
    train(root, "words", "013")
    train(root, "chars", "123")
    fake_runs(root)
    assert foldstack(root, "blend") == 0
    assert foldstack(root, "submit") == 0
    record = read_json(root / "oof/_blends/blend/blend.json")
    found = {name: record[name] for name in ("nested", "in_sample", "rule", "candidates", "rules")}
    return found | {"submitted": (root / "submissions/blend.csv").read_text()}


def test_labels_of_a_fold_that_is_not_used_change_nothing(tmp_path: Path) -> None:
    """Neither those of a fold that no model has, nor of one that only one of them has."""
    as_given = turned(tmp_path / "given", None)
    assert turned(tmp_path / "fold2", 2) == as_given
    assert turned(tmp_path / "fold0", 0) == as_given
    assert turned(tmp_path / "fold1", 1) != as_given


# Pooled scores


def test_scores_pool_the_folds_of_each_model(partial: Path, capsys) -> None:
    by_fold = [roc_auc_score(*held_out(partial, "words", fold)) for fold in (0, 1, 3)]
    wanted = [
        f"{score:.4f}"
        for score in (
            pooled(partial, "words", (0, 1, 3)),
            np.mean(by_fold),
            np.std(by_fold, ddof=1),
        )
    ]
    chars, words = table(said(partial, capsys, "scores")[8:], "model ")
    assert words == ["words", "3", "of", "4", "folds", *wanted]
    assert chars[:5] == ["chars", "3", "of", "4", "folds"]
    train(partial, "words", "2")
    _, words = table(said(partial, capsys, "scores")[9:], "model ")
    assert words[:3] == ["words", "4", "folds"]


def test_pooled_labels_are_decided_without_their_fold(tmp_path: Path, capsys) -> None:
    root = prepare(tmp_path / "w", metric="f1")
    train(root, "words", "0123")
    alone = ("--set", "blend.calibration=[none]", "blend", "--model", "words")
    assert foldstack(root, *alone) == 0
    decided = read_parquet(root / "oof/_blends/blend/nested.parquet")[1].raw
    targets = Workspace.open(root, []).competition.train.targets
    rows = table(said(root, capsys, "scores")[6:], "model ")
    assert rows[0][3] == f"{f1_score(targets, decided):.4f}"


def test_runs_that_cannot_be_pooled_are_told_why(partial: Path, capsys) -> None:
    """Some runs were trained again with other settings: their predictions are of two models."""
    with_other = ("--set", "C=1", "train", "--model", "words", "--fold", "0", "--force")
    lines = said(partial, capsys, *with_other)
    assert table(lines[:-1], "model ")[0][-3:] == ["–", "–", "–"]
    assert lines[-1] == (
        "words: no pooled score, words seed 0 fold0 and words seed 0 fold1 were made with different "
        "settings (C 1.0 → 4.0): train one of them again with --force (FORCE=1)"
    )


def test_a_second_seed_that_is_not_complete_asks_for_the_rest(partial: Path, capsys) -> None:
    train(partial, "words", "0", "--seed", "1")
    refuses(
        partial,
        ["blend", "--model", "words"],
        "model 'words' has no run for fold1 of seed 1 (2 missing in all): run `make train MODEL=words "
        "FOLD=1,3 SEED=1`, or leave this model out",
        capsys,
    )


# Comparisons


def test_a_variant_is_compared_on_the_folds_that_it_has(partial: Path, capsys) -> None:
    """It cannot be trained by its name; the others are trained where they lack a fold."""
    train(partial, "chars", "01", "--name", "kept")
    lines = said(partial, capsys, "compare", "--a", "chars", "--b", "kept")
    auc = pooled(partial, "chars", (0, 1))
    first = next(line for line in lines if line.startswith("compare:"))
    assert f"chars has roc_auc {auc:.4f}, pooled over folds 0, 1 of 4 (30 rows), seed 0" in first
    train(partial, "chars", "3", "--name", "other")
    capsys.readouterr()
    refuses(
        partial,
        ["compare", "--a", "kept", "--b", "other"],
        "the models share no fold (kept: folds 0,1; other: fold 3), but models are compared on two "
        "folds or more: run `make train MODEL=chars NAME=kept FOLD=3` and `make train MODEL=chars "
        "NAME=other FOLD=0,1`",
        capsys,
    )


# Folds in memory


def test_chosen_folds_of_time_order_learn_from_earlier_rows_only() -> None:
    """Rows of folds that are not chosen were once taken for rows before the first."""
    splits = np.array([[-1], [0], [1], [2]])
    some = Folds(splits, {}, "", groups=np.arange(4)).only([0, 1])
    assert some.learned((0,)).tolist() == [0]
    assert some.scored.tolist() == [1, 2]
    assert (some.numbers, some.count) == ([0, 1], 3)


def test_of_repeated_splits_those_that_are_complete_are_pooled(tmp_path: Path, capsys) -> None:
    """A row is predicted once in each split; half of a second split would count some rows double."""
    root = prepare(tmp_path / "w", folds={"count": 2, "repeats": 2}, models=["words"])
    train(root, "words", "013")
    assert foldstack(root, "blend") == 0
    record = read_json(root / "oof/_blends/blend/blend.json")
    assert record["folds"] == {"numbers": [0, 1], "of": 4, "rows": 60}
    train(root, "words", "2")
    assert foldstack(root, "blend") == 0
    assert "folds" not in read_json(root / "oof/_blends/blend/blend.json")


def test_a_fold_with_other_settings_is_refused_before_it_trains(tmp_path: Path, capsys):
    """Runs of unlike settings cannot be blended: hours of training would be lost."""
    root = make_workspace(tmp_path / "w")
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--fold", "0", "--name", "words", "--set", "min_count=1") == 0
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tfidf", "--fold", "1", "--name", "words", "--set", "min_count=2"],
        "words seed 0 fold1 would have other settings than words seed 0 fold0 (min_count 1 → 2), so "
        "that they could not serve together: give the same SET=, another NAME=, or --force (FORCE=1)",
        capsys,
    )
    assert not (root / "oof/words/seed0/fold1").exists()
