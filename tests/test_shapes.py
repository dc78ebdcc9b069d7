"""Competitions of other shapes: regression, joined labels, numbered rows, features, external rows."""

from pathlib import Path

import numpy as np
import pytest

import foldstack as package
from foldstack.competition import Competition
from foldstack.ensemble import METHODS, BlendOptions, load_fitted
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.metrics import get
from foldstack.stages.blend import make_blend
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey, Store
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from tiny import foldstack, go_through, make_workspace, refuses, sentences, write, write_competition

REGRESSION = {"kind": "regression", "metric": "rmse"}


def load(root: Path, train: str, test: str, sample: str, **settings) -> Competition:
    write(root / "input/train.csv", train)
    write(root / "input/test.csv", test)
    write(root / "input/sample_submission.csv", sample)
    write_competition(root, **settings)
    return Competition.load(root)


# Regression


def test_regression_targets_are_the_numbers_themselves(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,a,b\n1,x,0.5,-2\n2,y,1e3,7\n",
        "id,text\nt,z\n",
        "id,b,a\nt,0,0\n",
        target=["a", "b"],
        **REGRESSION,
    )
    assert competition.train.targets.tolist() == [[0.5, -2], [1000, 7]]
    assert competition.outputs == ("a", "b")
    filled = competition.submission.fill(np.array(["t"], object), np.array([[0.123456789, 2e9]]))
    assert filled.to_numpy().tolist() == [["t", "2e+09", "0.12345679"]]


def test_one_regression_target_fills_a_column_of_any_name(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,price\n1,x,0.5\n2,y,3\n",
        "id,text\nt,z\n",
        "id,prediction\nt,0\n",
        target="price",
        **REGRESSION,
    )
    assert not competition.submission.wants_labels
    filled = competition.submission.fill(np.array(["t"], object), np.array([[-1.5]]))
    assert filled["prediction"].tolist() == ["-1.5"]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("many", "row 2: column 'label' holds 'many': kind regression requires a number"),
        ("", "row 2 has no label: column 'label' holds nothing there: set `unlabelled: drop`"),
        ("nan", "row 2 has no label: column 'label' holds 'nan' there"),
        ("inf", "row 2 has no label: column 'label' holds 'inf' there"),
    ],
    ids=["word", "empty", "nan", "inf"],
)
def test_a_regression_target_that_is_no_number_is_refused(
    tmp_path: Path, value: str, wrong: str
) -> None:
    competition = load(
        tmp_path,
        f"id,text,label\n1,x,0.5\n2,y,{value}\n",
        "id,text\nt,z\n",
        "id,label\nt,0\n",
        **REGRESSION,
    )
    with pytest.raises(InputError, match=wrong):
        _ = competition.train


# Labels joined in one column

JOINED = {"kind": "multilabel", "metric": "f1_micro", "separator": "|"}
JOINED_TRAIN = "id,text,label\n1,x,b|a\n2,y,\n3,z, c |a\n"


def test_joined_labels_become_a_column_each(tmp_path: Path) -> None:
    """An empty cell holds no label; blanks around a label do not make it another one."""
    competition = load(tmp_path, JOINED_TRAIN, "id,text\nt,z\n", "id,label\nt,\n", **JOINED)
    assert competition.labels == ("a", "b", "c")
    assert competition.train.targets.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_joined_labels_are_submitted_joined_and_read_back(tmp_path: Path) -> None:
    test, sample = "id,text\ns,z\nt,z\nu,z\n", "id,tags\nu,\nt,\ns,\n"
    competition = load(tmp_path, JOINED_TRAIN, test, sample, **JOINED)
    decisions = np.array([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    filled = competition.submission.fill(competition.test.ids, decisions)
    assert filled.to_numpy().tolist() == [["u", "b"], ["t", ""], ["s", "a|c"]]
    back = competition.submission.read(Path("s.csv"), filled)
    assert back.tolist() == decisions[::-1].tolist()


def test_joined_labels_may_be_submitted_as_a_column_each(tmp_path: Path) -> None:
    settings = JOINED | {"metric": "roc_auc"}
    competition = load(tmp_path, JOINED_TRAIN, "id,text\nt,z\n", "id,c,a,b\nt,0,0,0\n", **settings)
    assert not competition.submission.wants_labels
    filled = competition.submission.fill(competition.test.ids, np.array([[0.25, 0.5, 0.75]]))
    assert filled.to_numpy().tolist() == [["t", "0.75", "0.25", "0.5"]]


def test_probabilities_do_not_fit_one_joined_column(tmp_path: Path) -> None:
    settings = JOINED | {"metric": "roc_auc"}
    competition = load(tmp_path, JOINED_TRAIN, "id,text\nt,z\n", "id,label\nt,\n", **settings)
    with pytest.raises(InputError, match="probabilities of 3 labels do not fit the one column"):
        _ = competition.submission.wants_labels


# Training rows without ids


def test_training_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "text,label\nx,0\ny,1\n",
        "id,text\nt,z\n",
        "id,label\nt,0\n",
        train_has_id=False,
    )
    assert list(competition.train.ids) == ["train-1", "train-2"]


def test_an_id_column_that_is_said_to_be_missing_is_refused(tmp_path: Path, capsys) -> None:
    """Numbering rows that have ids would lose them without a word."""
    root = make_workspace(tmp_path / "w", train_has_id=False)
    sentence = (
        f"{root}/input/train.csv: column 'id' is there, but competition.yaml says "
        "`train_has_id: false`: remove that line"
    )
    refuses(root, ["folds"], sentence, capsys)


# Feature columns

FEATURES = {"numeric": ["n"], "categorical": ["c"]}
WITH_FEATURES = "id,text,label,n,c\n1,x,0,1.5,red\n2,y,1,,\n3,z,1,-2,blue\n"


def test_features_are_numbers_and_codes_of_categories(tmp_path: Path) -> None:
    """Categories are numbered over train and test, whose columns hold no labels; empty is unknown."""
    competition = load(
        tmp_path, WITH_FEATURES, "id,text,n,c\nt,z,3,green\n", "id,label\nt,0\n", **FEATURES
    )
    np.testing.assert_array_equal(competition.train.features, [[1.5, 2], [np.nan, np.nan], [-2, 0]])
    np.testing.assert_array_equal(competition.test.features, [[3, 1]])


def test_features_are_no_part_of_what_a_text_model_learns_from(tmp_path: Path) -> None:
    """Another feature column asks for another blend, not for other runs."""
    test, sample = "id,text,n,c\nt,z,3,green\n", "id,label\nt,0\n"
    before = load(tmp_path, WITH_FEATURES, test, sample, **FEATURES).train
    after = load(tmp_path, WITH_FEATURES.replace("-2", "7"), test, sample, **FEATURES).train
    assert before.hash() == after.hash()
    assert before.features_hash() != after.features_hash()


def test_a_word_in_a_numeric_column_is_refused(tmp_path: Path) -> None:
    train = WITH_FEATURES.replace("-2", "few")
    competition = load(tmp_path, train, "id,text,n,c\nt,z,3,green\n", "id,label\nt,0\n", **FEATURES)
    sentence = "row 3: numeric column 'n' holds 'few': a number or nothing is expected"
    with pytest.raises(InputError, match=sentence):
        _ = competition.train


def feature_workspace(root: Path) -> Path:
    """Texts say nothing, the category says all."""
    rows = [(f"same words {i}", i % 2) for i in range(120)]
    train = "".join(f"r{i},{t},{y},{'ab'[y]}\n" for i, (t, y) in enumerate(rows[:90]))
    test = "".join(f"t{i},{t},{'ab'[y]}\n" for i, (t, y) in enumerate(rows[90:]))
    solution = "".join(f"t{i},{y}\n" for i, (_, y) in enumerate(rows[90:]))
    write(root / "input/train.csv", "id,text,label,kind\n" + train)
    write(root / "input/test.csv", "id,text,kind\n" + test)
    write(root / "input/sample_submission.csv", "id,label\n" + solution.replace(",1", ",0"))
    write(root / "input/private/solution.csv", "id,label\n" + solution)
    write_competition(root, categorical=["kind"])
    return root


def test_a_stack_reads_the_feature_columns(tmp_path: Path) -> None:
    """Even of a single model; the model alone cannot know."""
    root = go_through(feature_workspace(tmp_path / "w"))
    info = Store(root).read_blend("blend")
    assert info.winner == "stack"
    assert info.nested.score > 0.99
    assert info.models["tfidf"].nested.score < 0.7


def test_other_features_make_a_stored_blend_stale(tmp_path: Path, capsys) -> None:
    root = go_through(feature_workspace(tmp_path / "w"))
    path = root / "input/test.csv"
    write(path, path.read_text().replace("same words 90,a", "same words 90,b"))
    capsys.readouterr()
    sentence = "blend 'blend' was made with other feature columns: run `make blend` again"
    refuses(root, ["submit"], sentence, capsys)


# Rows from elsewhere


def test_external_rows_are_learned_from_and_never_scored(tmp_path: Path, capsys) -> None:
    """A copy of a held-out text would carry its label into the training: it stays out of that run."""
    root = make_workspace(tmp_path / "w", n=24, external=["more.csv"])
    copied = sentences(1)[0][0].upper()
    write(root / "input/more.csv", f"text,label\nnew words,1\n{copied},0\n")
    assert foldstack(root, "folds") == 0
    competition = Competition.load(root)
    assert list(competition.external.ids) == ["more.csv:1", "more.csv:2"]
    assert competition.external.groups[1] == competition.train.groups[0]
    fold_of_first = int(read_table(root / "folds/folds.csv", "utf-8")["fold"][0])
    capsys.readouterr()
    for fold in range(3):
        assert foldstack(root, "train", "--fold", str(fold)) == 0
        run = Store(root).read_run(RunKey("tfidf", 0, (fold,)))
        assert run.rows == 16 + (1 if fold == fold_of_first else 2)
        assert len(Store(root).read_run(RunKey("tfidf", 0, (fold,))).predictions) == 2
    assert "1 external rows to learn from, 1 left out as copies" in capsys.readouterr().out


def test_external_rows_are_part_of_the_overlay(tmp_path: Path) -> None:
    """Other external rows ask for other training; folds and what is scored stay as they are."""
    root = make_workspace(tmp_path / "w")
    plain = Competition.load(root)
    write(root / "input/more.csv", "text,label\nnew words,1\n")
    write_competition(root, external=["more.csv"])
    extended = Competition.load(root)
    assert plain.overlay_hash is None
    assert extended.overlay_hash is not None
    assert plain.train.hash() == extended.train.hash()


def test_external_rows_want_the_labels_of_the_competition(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w", external=["more.csv"], labels=["0", "1"])
    write(root / "input/more.csv", "text,label\nnew words,2\n")
    sentence = (
        f"{root}/input/more.csv: row 1: column 'label' holds '2', which is none of the labels '0', "
        "'1': fix the row or `labels` in competition.yaml"
    )
    refuses(root, ["folds"], sentence, capsys)


# New texts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folds, runs of two linear models, a blend."""
    root = make_workspace(
        tmp_path_factory.mktemp("predict") / "w",
        metric="f1",
        models=["tfidf", {"words": {"preset": "tfidf", "char_ngrams": [0, 0]}}],
    )
    return go_through(root)


def test_the_test_files_texts_are_predicted_as_the_submission_says(finished: Path) -> None:
    """The stored models, blend and threshold give what the stages gave."""
    table = read_table(finished / "input/test.csv", "utf-8")
    prediction = package.load(finished).predict(table["text"].tolist())
    submitted = read_table(finished / "submissions/blend.csv", "utf-8")
    assert prediction.labels == submitted["label"].tolist()
    assert list(prediction.probabilities.columns) == ["0", "1"]
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("method", ["mean", "greedy", "stack"])
def test_every_kind_of_blend_predicts_new_texts_as_it_did_test(finished: Path, method: str) -> None:
    """A stack is read back from its text files."""
    ws = Workspace.open(finished, [])
    made = make_blend(ws, ["tfidf", "words"], quiet=True)
    fitted = METHODS[method](BlendOptions()).fit(
        made.members, np.arange(24), get("f1", "binary"), 0
    )
    folder = finished / f"stored-{method}"
    folder.mkdir()
    fitted.save(folder)
    stored = load_fitted(method, fitted.parameters, ["tfidf", "words"], "binary", 1, folder)
    keys = {m: [RunKey(m, 0, (f,)) for f in range(3)] for m in ("tfidf", "words")}
    temperatures = made.record.temperatures
    predictor = Predictor(ws, keys, method, stored, None, temperatures)
    prediction = predictor.predict_rows(ws.competition.test)
    wanted = fitted.predict(made.members.test_inputs)[:, 0]
    np.testing.assert_allclose(prediction.probabilities["1"], wanted, rtol=1e-5)


def test_a_rank_mean_places_new_texts_among_the_rows_that_a_run_held_out(finished: Path) -> None:
    """One text has no rank of its own; between 0 and 1, in the order of the run's probabilities."""
    ws = Workspace.open(finished, [])
    key = RunKey("tfidf", 0, (0,))
    ranks = load_fitted("rank_mean", {"weights": {"tfidf": 1.0}}, ["tfidf"], "binary", 1, finished)
    predictor = Predictor(ws, {"tfidf": [key]}, "rank_mean", ranks, None)
    values = predictor.predict_rows(ws.competition.test).probabilities["1"].to_numpy()
    raw = ws.store.read_predictions(key, "test", ws.competition.test).raw[:, 0]
    held = ws.store.stored_predictions(key, "heldout").raw[:, 0]
    below = [(held < value).sum() + (held == value).sum() / 2 for value in raw]
    np.testing.assert_allclose(values, (np.array(below) + 0.5) / (len(held) + 1))


def test_predict_writes_a_file_with_the_ids_of_the_new_rows(finished: Path, capsys) -> None:
    new = write(finished / "new.csv", "text,id\na good film,n1\na bad film,n2\n")
    capsys.readouterr()
    assert foldstack(finished, "predict", "--file", str(new)) == 0
    table = read_table(finished / "predictions/new.csv", "utf-8")
    assert table["id"].tolist() == ["n1", "n2"]
    assert table.columns.tolist() == ["id", "predicted", "0", "1"]
    assert "predictions/new.csv, 2 rows by " in capsys.readouterr().out
    other = finished / "elsewhere.csv"
    arguments = ["--file", str(new), "--model", "words", "--out", str(other)]
    assert foldstack(finished, "predict", *arguments) == 0
    assert len(read_table(other, "utf-8")) == 2


def test_rows_without_ids_are_numbered_when_predicted(finished: Path) -> None:
    new = write(finished / "nameless.csv", "text\na good film\na bad film\n")
    assert foldstack(finished, "predict", "--file", str(new)) == 0
    table = read_table(finished / "predictions/nameless.csv", "utf-8")
    assert table["id"].tolist() == ["1", "2"]


def test_predict_shows_one_text(finished: Path, capsys) -> None:
    capsys.readouterr()
    assert foldstack(finished, "predict", "--text", "a good film", "--model", "tfidf") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] in ("predict: 0", "predict: 1")
    assert [line.split()[0] for line in out[-2:]] == ["0", "1"]


WRONG = {
    "neither": (["predict"], 'predict takes either FILE=new.csv or TEXT="…" (--file, --text)'),
    "no file": (
        ["predict", "--file", "no.csv"],
        "FILE=no.csv is not a file: give the path of one",
    ),
    "no blend": (
        ["predict", "--text", "x", "--name", "other"],
        "oof/_blends/other does not exist: run `make blend NAME=other` first, or name a MODEL",
    ),
    "two models": (
        ["predict", "--text", "x", "--model", "tfidf,words"],
        "predict takes one MODEL, not 2: blend them with `make blend MODEL=tfidf,words` first",
    ),
    "model and blend": (
        ["predict", "--text", "x", "--model", "tfidf", "--name", "blend"],
        "predict takes MODEL= or the blend's NAME=, not both",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_predict_refuses(finished: Path, arguments: list[str], sentence: str, capsys) -> None:
    refuses(finished, arguments, sentence, capsys)


def test_predict_refuses_a_file_without_the_text_column(finished: Path, capsys) -> None:
    new = write(finished / "other.csv", "review\na good film\n")
    sentence = f"{new}: column 'text' is missing (known: review): fix the file or competition.yaml"
    refuses(finished, ["predict", "--file", str(new)], sentence, capsys)


def test_a_model_that_was_not_kept_is_named(tmp_path: Path, capsys) -> None:
    root = go_through(make_workspace(tmp_path / "w", store={"keep_models": False}))
    sentence = (
        "tfidf seed 0 fold0 has no fitted model in oof/ (removed, or trained with "
        "store.keep_models=false): train it again with --force (FORCE=1)"
    )
    capsys.readouterr()
    refuses(root, ["predict", "--text", "x"], sentence, capsys)


def test_a_blend_of_runs_that_changed_since_is_refused(tmp_path: Path, capsys) -> None:
    root = go_through(make_workspace(tmp_path / "w"))
    assert foldstack(root, "train", "--fold", "1", "--force", "--set", "C=9") == 0
    capsys.readouterr()
    sentence = (
        "blend 'blend' was made from other runs of 'tfidf' than exist now: run `make blend` again"
    )
    refuses(root, ["predict", "--text", "x"], sentence, capsys)


def test_regression_goes_the_whole_way(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", n=60, kind="regression", metric="rmse")
    path = root / "input/train.csv"
    rows = [line.rsplit(",", 1) for line in path.read_text().splitlines()[1:]]
    write(path, "id,text,label\n" + "".join(f"{a},{float(b) * 100 - 20:.1f}\n" for a, b in rows))
    go_through(root)
    info = read_json(root / "submissions/blend.json")
    assert info["holds"] == "values"
    assert info["nested"]["score"] < 50  # the spread of the targets
    values = read_table(root / "submissions/blend.csv", "utf-8")["label"].astype(float)
    assert values.min() < 10 and values.max() > 50
    prediction = package.load(root).predict(["a lovely film"])
    assert prediction.labels is None
    assert prediction.probabilities.columns.tolist() == ["label"]
