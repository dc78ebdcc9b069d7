"""Code competitions: a test file of three rows, and another one when the submission is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.ensemble.blends import Single
from foldstack.ensemble.candidates import METHODS
from foldstack.ensemble.decide import families
from foldstack.metrics import get
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace
from tiny import foldstack, go_through, make_workspace, refuses, write, write_competition


def hidden_test(root: Path, rows: int = 3) -> None:
    """The test file and the sample of a code competition, as they are when it is scored."""
    texts = "".join(f"h{i},{word} here\n" for i, word in enumerate(["good", "bad", "fine"][:rows]))
    write(root / "input/test.csv", "id,text\n" + texts)
    sample = "".join(f"h{i},0\n" for i in range(rows))
    write(root / "input/sample_submission.csv", "id,label\n" + sample)


@pytest.mark.parametrize("metric", ["roc_auc", "f1"])
def test_a_new_test_file_is_submitted_by_the_stored_models(
    tmp_path: Path, capsys, metric: str
) -> None:
    root = go_through(make_workspace(tmp_path, metric=metric))
    hidden_test(root)
    capsys.readouterr()
    assert foldstack(root, "submit") == 0
    assert (
        "submit: the test file is another than the blend was made for: its stored models predicted it"
        in capsys.readouterr().out
    )
    submitted = pd.read_csv(root / "submissions/blend.csv", dtype=str)
    assert submitted["id"].tolist() == ["h0", "h1", "h2"]
    out = root / "form.csv"
    args = ["--file", str(root / "input/test.csv"), "--form", "submission", "--out", str(out)]
    assert foldstack(root, "predict", *args) == 0
    assert out.read_bytes() == (root / "submissions/blend.csv").read_bytes()


def test_rerun_writes_the_submission_of_another_file(finished: Path, capsys) -> None:
    """Rows of the competition's own test file get what `submit` gave them, in any order and number."""
    root = finished
    lines = (root / "input/test.csv").read_text().splitlines()
    new = write(root / "hidden v2.csv", "\n".join([lines[0], *lines[:3:-1]]) + "\n")
    capsys.readouterr()
    assert foldstack(root, "rerun", "--test", str(new)) == 0
    assert capsys.readouterr().out.startswith(
        "submit: submissions/blend-hidden-v2.csv, 3 rows of probabilities from single:tfidf"
    )
    both = (pd.read_csv(root / f"submissions/{name}.csv") for name in ("blend-hidden-v2", "blend"))
    found, submitted = (table.set_index("id")["label"] for table in both)
    pd.testing.assert_series_equal(found, submitted[found.index], rtol=1e-6)


def test_score_passes_over_the_rows_of_another_file(finished: Path, capsys) -> None:
    """No solution is known of them, and the scores of the others stay."""
    new = write(finished / "others.csv", "id,text\na,good\nb,bad\n")
    capsys.readouterr()
    assert foldstack(finished, "score") == 0
    wanted = capsys.readouterr().out
    assert foldstack(finished, "rerun", "--test", str(new)) == 0
    capsys.readouterr()
    assert foldstack(finished, "score") == 0
    assert capsys.readouterr().out == wanted


def test_what_rerun_cannot_submit(finished: Path, capsys) -> None:
    refuses(
        finished,
        ["rerun"],
        "TEST= is not a file: give the path of the test file to predict",
        capsys,
    )
    new = write(finished / "new.csv", "id,text\na,good\nb,bad\na,fine\n")
    sentence = f"{new}: row 3 repeats 'id' 'a': every row needs an id of its own"
    refuses(finished, ["rerun", "--test", str(new)], sentence, capsys)
    predict = ["predict", "--file", str(new)]
    refuses(finished, [*predict, "--form", "submission"], sentence, capsys)
    assert foldstack(finished, *predict) == 0  # no submission: ids may repeat
    new = write(finished / "new.csv", "id,words\na,good\n")
    assert foldstack(finished, "rerun", "--test", str(new)) == 2
    assert "column 'text' is missing" in capsys.readouterr().err
    new = write(finished / "new.csv", "number,text\n1,good\n")
    assert foldstack(finished, "rerun", "--test", str(new)) == 2
    assert "column 'id' is missing" in capsys.readouterr().err
    assert not (finished / "submissions/blend-new.csv").exists()


def test_few_test_rows_and_probabilities_have_no_rates(tmp_path: Path, capsys) -> None:
    go_through(make_workspace(tmp_path, metric="f1"))
    assert "OOF / test" not in capsys.readouterr().out


def test_forms_of_predictions_that_do_not_exist(finished: Path, capsys) -> None:
    refuses(
        finished,
        ["predict", "--file", str(finished / "input/test.csv"), "--form", "json"],
        "FORM=json is not known: give FORM=submission, or leave it out",
        capsys,
    )
    refuses(
        finished,
        ["predict", "--text", "x", "--form", "submission"],
        "FORM= is for the predictions of a FILE=: leave it out with TEXT=",
        capsys,
    )


def test_several_models_are_submitted_as_their_blend(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    write_competition(root, models=["tfidf", {"other": {"preset": "tfidf", "C": 2.0}}])
    go_through(root, "folds", "train")
    assert foldstack(root, "blend", "--model", "tfidf,other") == 0
    assert foldstack(root, "submit", "--model", "other,tfidf") == 0
    assert foldstack(root, "blend", "--model", "tfidf") == 0
    capsys.readouterr()
    refuses(
        root,
        ["submit", "--model", "other,tfidf"],
        "MODEL=other,tfidf are not the models of blend 'blend', tfidf: run `make blend submit "
        "MODEL=other,tfidf`, or name one model",
        capsys,
    )


def test_a_sample_of_another_format_is_said(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path, files={"sample": "sample_submission.tsv"})
    text = (root / "input/sample_submission.csv").read_text()
    write(root / "input/sample_submission.tsv", text.replace(",", "\t"))
    go_through(root)
    assert (
        "submit: the sample is TSV, and submissions/blend.csv is CSV: convert it if the competition "
        "asks for the sample's format" in capsys.readouterr().out
    )


def test_a_new_test_file_does_not_hide_other_labels(tmp_path: Path, capsys) -> None:
    root = go_through(make_workspace(tmp_path))
    hidden_test(root)
    text = (root / "input/train.csv").read_text().splitlines()
    text[1] = text[1][:-1] + str(1 - int(text[1][-1]))
    write(root / "input/train.csv", "\n".join(text) + "\n")
    capsys.readouterr()
    assert foldstack(root, "submit") == 2
    said = capsys.readouterr().err
    assert "blend 'blend' was made with other train" in said
    assert said.endswith("run `make blend` again\n")


def test_the_form_has_the_columns_and_the_delimiter_of_the_sample(tmp_path: Path) -> None:
    root = make_workspace(tmp_path, delimiter=";")
    for name in ("train", "test", "sample_submission"):
        path = root / f"input/{name}.csv"
        lines = path.read_text().splitlines()
        more = "" if name == "train" else ";use"
        rows = [line.replace(",", ";") + (";x" if more else "") for line in lines[1:]]
        write(path, "\n".join([lines[0].replace(",", ";") + more, *rows]) + "\n")
    go_through(root)
    out = root / "form.csv"
    args = ["--file", str(root / "input/test.csv"), "--form", "submission", "--out", str(out)]
    assert foldstack(root, "predict", *args) == 0
    assert out.read_text().splitlines()[0] == "id;label;use"
    both = (pd.read_csv(path, sep=";") for path in (out, root / "submissions/blend.csv"))
    pd.testing.assert_frame_equal(*both, rtol=1e-6)


# --- a prediction does not depend on the rows beside it -----------------------------------------

TWO = ["tfidf", {"other": {"preset": "tfidf", "C": 0.1}}]
MANY = [f"{word} film number {i}" for i in range(100) for word in ("good", "bad", "awful", "fine")]


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition whose public test file has three rows, with the runs of two models."""
    root = make_workspace(tmp_path_factory.mktemp("code"), n=60, models=TWO)
    hidden_test(root)
    return go_through(root, "folds", "train")


def same_alone_and_among_many(ws: Workspace) -> Predictor:
    predictor = Predictor.of_blend(ws)
    many = predictor.outcome(predictor.rows_of(MANY))
    few = predictor.outcome(predictor.rows_of(MANY[:3]))
    np.testing.assert_allclose(few.values, many.values[:3], rtol=1e-6)
    np.testing.assert_array_equal(few.decisions, many.decisions[:3])
    return predictor


@pytest.mark.parametrize("method", [m for m in METHODS if m != "weights_per_label"])
def test_every_blend_predicts_a_row_alike_in_any_file(two_models, method, monkeypatch) -> None:
    monkeypatch.setattr(Single, "complexity", 99)  # so that a single model is not preferred
    sets = [f"blend.methods=[{method}]", "blend.calibration=none"]
    assert foldstack(two_models, "blend", *(f"--set={each}" for each in sets)) == 0
    assert same_alone_and_among_many(Workspace.open(two_models, sets)).winner == method


@pytest.mark.parametrize("rule", families("binary", get("f1", "binary")))
def test_every_rule_decides_a_row_alike_in_any_file(two_models, rule) -> None:
    write_competition(two_models, models=TWO, metric="f1")
    sets = [f"blend.rules=[{rule}]", "blend.calibration=platt"]
    assert foldstack(two_models, "blend", *(f"--set={each}" for each in sets)) == 0
    assert same_alone_and_among_many(Workspace.open(two_models, sets)).rule is not None


def test_the_size_of_the_public_test_file_changes_no_prediction(two_models) -> None:
    """Three rows, or four hundred when the models are trained and blended."""
    write_competition(two_models, models=TWO)
    assert foldstack(two_models, "blend") == 0
    small = Predictor.of_blend(Workspace.open(two_models, [])).predict(MANY).probabilities
    rows = "".join(f"m{i},{text}\n" for i, text in enumerate(MANY))
    write(two_models / "input/test.csv", "id,text\n" + rows)
    sample = "".join(f"m{i},0\n" for i in range(len(MANY)))
    write(two_models / "input/sample_submission.csv", "id,label\n" + sample)
    go_through(two_models, "train", "blend", "submit")
    large = Predictor.of_blend(Workspace.open(two_models, [])).predict(MANY).probabilities
    pd.testing.assert_frame_equal(small, large, rtol=1e-6)
    submitted = pd.read_csv(two_models / "submissions/blend.csv")["label"]
    np.testing.assert_allclose(submitted, small["1"], rtol=1e-6)
