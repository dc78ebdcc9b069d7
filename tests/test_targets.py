"""Target columns: rows without a label, spellings of labels, a column per class, thresholds, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.labels import alike, different, spelled
from foldstack.stages.pretrain import _texts
from foldstack.targets import missing_values
from foldstack.workspace import Workspace
from test_competition import load
from tiny import foldstack, go_through, make_workspace, refuses, write, write_competition

SENTENCE = (
    "set `unlabelled: drop` in competition.yaml (UNLABELLED=drop for `make init`) to leave them out, "
    "`pool` to keep their texts for pretraining, or `class` if that is a label"
)


# --- rows without a label ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (["pos", "neg", ""], {""}),
        (["pos", "neg", "nan"], {"nan"}),
        (["True", "False", "None"], {"None"}),
        (["0", "1", "-1"], {"-1"}),
        (["0.0", "1.0", "-1.0", "inf"], {"-1.0", "inf"}),
        (["-1", "1"], {"-1"}),
        (["-2", "-1", "0"], set()),  # a scale
        (["0.5", "-1"], set()),
        (["favor", "against", "none"], set()),  # a class of stances
        (["NA", "EU"], set()),
    ],
)
def test_what_says_that_there_is_no_label(values: list[str], missing: set[str]) -> None:
    assert missing_values(values) == missing


def test_minus_one_is_a_quantity() -> None:
    assert missing_values(["0", "1", "-1", "nan"], numbers=True) == {"nan"}


def unlabelled(root: Path, mark: str, **settings: object) -> Path:
    """24 rows, of which r3 and r7 have this label."""
    make_workspace(root, **settings)
    lines = (root / "input/train.csv").read_text().splitlines()
    lines[4], lines[8] = (f"{lines[i].rpartition(',')[0]},{mark}" for i in (4, 8))
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("mark", ["", "nan", "None", "inf", "-1"])
def test_rows_without_a_label_are_refused(tmp_path: Path, mark: str, capsys) -> None:
    root = unlabelled(tmp_path, mark)
    held = f"'{mark}'" if mark else "nothing"
    refuses(
        root,
        ["folds"],
        f"{root}/input/train.csv: rows 4, 8 have no label: column 'label' holds {held} there: "
        + SENTENCE,
        capsys,
    )


def test_dropped_rows_stand_in_no_fold(tmp_path: Path, capsys) -> None:
    root = unlabelled(tmp_path, "-1", unlabelled="drop")
    go_through(root)
    said = capsys.readouterr().out
    assert (
        "folds: 2 rows have no label and stand in no fold (`unlabelled` in competition.yaml)"
        in said
    )
    rows = Competition.load(root).train
    assert len(rows) == 22 and not {"r3", "r7"} & set(rows.ids)
    assert {"r3", "r7"} & set(pd.read_csv(root / "folds/folds.csv")["id"]) == set()


def test_rows_are_named_by_their_number_in_the_file(tmp_path: Path, capsys) -> None:
    root = unlabelled(tmp_path, "nan", unlabelled="drop", labels=["0", "1"])
    text = (root / "input/train.csv").read_text().splitlines()
    text[11] = text[11].rpartition(",")[0] + ",7"
    write(root / "input/train.csv", "\n".join(text) + "\n")
    sentence = (
        "row 11: column 'label' holds '7', which is none of the labels '0', '1': fix the row or"
    )
    refuses(
        root, ["folds"], f"{root}/input/train.csv: {sentence} `labels` in competition.yaml", capsys
    )


def test_pooled_texts_are_read_by_pretraining_alone(tmp_path: Path) -> None:
    texts = {}
    for how in ("drop", "pool"):
        ws = Workspace(unlabelled(tmp_path / how, "nan", unlabelled=how))
        texts[how] = _texts(ws).texts
        assert len(ws.competition.train) == 22
    assert len(texts["pool"]) == len(texts["drop"]) + 2


def test_what_is_written_there_may_be_a_class(tmp_path: Path) -> None:
    root = unlabelled(tmp_path, "None", unlabelled="class", kind="multiclass", metric="accuracy")
    assert Competition.load(root).labels == ("0", "1", "None")


def test_listed_labels_are_labels(tmp_path: Path) -> None:
    """A competition.yaml that names -1 needs no other setting."""
    labels = ["-1", "0", "1"]
    root = unlabelled(tmp_path, "-1", labels=labels, kind="multiclass", metric="accuracy")
    assert len(Competition.load(root).train) == 24


def test_rows_of_the_solution_without_a_label_are_not_scored(tmp_path: Path, capsys) -> None:
    root = go_through(make_workspace(tmp_path, unlabelled="drop"))
    capsys.readouterr()
    assert foldstack(root, "score") == 0
    path = root / "input/private/solution.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].rpartition(",")[0] + ",-1"
    write(path, "\n".join(lines) + "\n")
    assert foldstack(root, "score") == 0


def test_external_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    root = make_workspace(tmp_path, unlabelled="drop", external=["more.csv"])
    write(root / "input/more.csv", "text,label\nfine words,1\nother words,nan\nbad words,0\n")
    rows = Competition.load(root).external
    assert rows.ids.tolist() == ["more.csv:1", "more.csv:3"]


# --- spellings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["1", "1.0", "0"], ("0", "1")),
        (["1.0", "0.0"], ("0.0", "1.0")),
        (["True", "true", "False"], ("True", "False")),
        (["007", "7"], ("7", "007")),  # codes
        (["b", "a", "10", "9"], ("9", "10", "a", "b")),
    ],
)
def test_two_spellings_of_a_number_are_one_label(
    values: list[str], labels: tuple[str, ...]
) -> None:
    assert set(different(values)) == set(labels)


def test_spellings_of_a_number_have_one_target(tmp_path: Path) -> None:
    competition = load(
        tmp_path, "id,text,label\na,x,1\nb,y,1.0\nc,z,0\n", "id,text\nt,z\n", "id,label\nt,0\n"
    )
    assert competition.labels == ("0", "1")
    assert competition.train.targets.ravel().tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "sample", "out"),
    [
        (("0.0", "1.0"), {"0"}, ("0", "1")),
        (("1", "2"), {"1.0"}, ("1.0", "2.0")),
        (("0", "1"), {"False"}, ("False", "True")),
        (("0", "1"), {"TRUE"}, ("FALSE", "TRUE")),
        (("False", "True"), {"0"}, ("0", "1")),
        (("0", "1"), {"0.5"}, ("0", "1")),  # a placeholder
        (("0", "1"), {"1"}, ("0", "1")),
        (("neg", "pos"), {"0"}, ("neg", "pos")),
        (("0.5", "1.5"), {"0"}, ("0.5", "1.5")),
    ],
)
def test_labels_are_submitted_in_the_samples_spelling(
    labels: tuple[str, ...], sample: set[str], out: tuple[str, ...]
) -> None:
    assert spelled(labels, sample) == out


def test_a_submission_is_written_as_the_sample_and_read_back(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path, metric="accuracy")
    for path in ("input/train.csv", "input/private/solution.csv"):
        text = (root / path).read_text()
        write(root / path, text.replace(",0\n", ",0.0\n").replace(",1\n", ",1.0\n"))
    write_competition(root, metric="accuracy")
    go_through(root)
    said = capsys.readouterr().out
    assert (
        "warning: submitted in the spelling of sample_submission.csv: '0' for '0.0', '1' for '1.0'"
        in said
    )
    assert set(pd.read_csv(root / "submissions/blend.csv", dtype=str)["label"]) <= {"0", "1"}
    assert foldstack(root, "score") == 0


def test_labels_that_differ_in_case_or_blanks_are_named(tmp_path: Path, capsys) -> None:
    assert alike(["Pos", "pos ", "neg"]) == [("Pos", "pos ")]
    root = make_workspace(tmp_path, kind="multiclass", metric="accuracy")
    text = (root / "input/train.csv").read_text()
    write(root / "input/train.csv", text.replace(",1\n", ",pos\n", 4).replace(",1\n", ",Pos\n"))
    assert foldstack(root, "folds") == 0
    assert (
        "warning: labels 'Pos' and 'pos' differ in case or white space alone, and are different "
        "classes: fix the file if they are one" in capsys.readouterr().out
    )


def test_a_value_of_the_sample_that_is_no_label_is_named(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,label\na,x,pos\nb,y,neg\n",
        "id,text\ns,z\nt,z\n",
        "id,label\ns,Positive\nt,neg\n",
        metric="accuracy",
    )
    assert competition.label_remarks == [
        "sample_submission.csv holds 'Positive', which is no label of the training file ('neg', "
        "'pos'): look whether the spelling is right"
    ]


def test_columns_of_classes_may_be_written_in_another_case(tmp_path: Path) -> None:
    """The submission has the sample's columns, the run learns train's classes."""
    competition = load(
        tmp_path,
        "id,text,label\na,x,Sport\nb,y,Art \nc,z,war\n",
        "id,text\ns,z\nt,z\n",
        "id,sport,war,art\ns,0,0,0\nt,0,0,0\n",
        kind="multiclass",
        metric="log_loss",
    )
    assert competition.label_remarks == [
        "submitted in the spelling of sample_submission.csv: 'art' for 'Art ', 'sport' for 'Sport'"
    ]
    values = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])  # of 'Art ', 'Sport', 'war'
    filled = competition.submission.fill(competition.test.ids, values)
    assert filled.to_csv(index=False) == "id,sport,war,art\ns,0.25,0.25,0.5\nt,0.75,0.125,0.125\n"
    assert (competition.submission.read(tmp_path / "s.csv", filled) == values).all()


def test_labels_are_submitted_in_the_case_of_the_sample(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,label\na,x,Pos\nb,y,Neg\n",
        "id,text\ns,z\nt,z\n",
        "id,label\ns,pos\nt,neg\n",
        metric="accuracy",
    )
    filled = competition.submission.fill(competition.test.ids, np.array([[1.0], [0.0]]))
    assert filled.to_csv(index=False) == "id,label\ns,pos\nt,neg\n"
    assert competition.submission.read(tmp_path / "s.csv", filled).tolist() == [[1.0], [0.0]]


def test_several_labels_in_a_cell_of_the_sample_name_the_metric(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,label\na,x,pos\nb,y,neg\nc,z,odd\n",
        "id,text\ns,z\nt,z\n",
        "id,label\ns,pos odd\nt,neg pos\n",
        kind="multiclass",
        metric="accuracy",
    )
    assert competition.label_remarks == [
        "sample_submission.csv holds 2 labels in a cell, joined by spaces, and accuracy submits one: "
        "METRIC=map_at_2 submits 2"
    ]


def test_a_mark_for_no_label_is_left_out_if_asked(tmp_path: Path) -> None:
    def labels_of(rows: str, **settings: object) -> tuple[list[str], tuple[str, ...]]:
        competition = load(
            tmp_path,
            f"id,text,label\n{rows}",
            "id,text\ns,z\nt,z\n",
            "id,label\ns,yes\nt,no\n",
            kind="multiclass",
            metric="accuracy",
            **settings,
        )
        return list(competition.train.ids), competition.labels

    rows = "a,x,yes\nb,y,no\nc,z,-\nd,w,maybe\n"
    assert labels_of(rows) == (["a", "b", "c", "d"], ("-", "maybe", "no", "yes"))
    assert labels_of(rows, unlabelled="drop") == (["a", "b", "d"], ("maybe", "no", "yes"))
    assert labels_of(rows, unlabelled="drop", labels=["-", "maybe", "no", "yes"])[0] == list("abcd")


def test_a_negative_target_has_no_logarithm(tmp_path: Path) -> None:
    competition = load(
        tmp_path,
        "id,text,label\na,x,2.5\nb,y,-1\n",
        "id,text\ns,z\n",
        "id,label\ns,0.0\n",
        kind="regression",
        metric="rmsle",
    )
    with pytest.raises(InputError) as refused:
        _ = competition.metric
    assert str(refused.value) == (
        f"{tmp_path}/input/train.csv: id 'b': column 'label' is below 0, and metric 'rmsle' requires "
        "numbers of 0 or more: choose rmse"
    )


@pytest.mark.parametrize("value", ["1e39", "-3.5e38"])
def test_a_target_beyond_single_precision_is_refused(tmp_path: Path, value: str) -> None:
    """Bug guarded: networks trained to their end, and told `rmse inf`."""
    competition = load(
        tmp_path,
        f"id,text,label\na,x,3.4e38\nb,y,{value}\n",
        "id,text\ns,z\n",
        "id,label\ns,0.0\n",
        kind="regression",
        metric="rmse",
    )
    with pytest.raises(InputError) as refused:
        _ = competition.train
    assert str(refused.value) == (
        f"{tmp_path}/input/train.csv: row 2: column 'label' holds '{value}': kind regression requires "
        "numbers from -3.4e38 to 3.4e38"
    )


# --- a column per class, shares, thresholds ---------------------------------------------------

CLASSES = {"kind": "multiclass", "metric": "log_loss", "target": ["a", "b", "tie"]}


def of_classes(root: Path, shares: bool = False) -> Path:
    """24 rows whose class stands in three columns."""
    make_workspace(root)
    lines = (root / "input/train.csv").read_text().splitlines()[1:]
    rows = [line.rpartition(",") for line in lines]
    hot = [["0.9,0.1,0", "0,0.8,0.2"] if shares else ["1,0,0", "0,1,0"]][0]
    ties = "0.25,0.25,0.5" if shares else "0,0,1"
    body = [f"{r},{ties if i % 5 == 0 else hot[int(y)]}" for i, (r, _, y) in enumerate(rows)]
    write(root / "input/train.csv", "\n".join(["id,text,a,b,tie", *body]) + "\n")
    sample = "".join(f"t{i},0.3,0.3,0.4\n" for i in range(6))
    write(root / "input/sample_submission.csv", "id,a,b,tie\n" + sample)
    write_competition(root, **CLASSES)
    return root


@pytest.mark.parametrize("shares", [False, True])
def test_columns_of_classes_sum_to_one_in_the_submission(tmp_path: Path, shares: bool) -> None:
    root = go_through(of_classes(tmp_path, shares), "folds", "train", "blend", "submit")
    competition = Competition.load(root)
    assert competition.labels == ("a", "b", "tie")
    assert competition.train.targets[0].tolist() == ([0.25, 0.25, 0.5] if shares else [0, 0, 1])
    submitted = pd.read_csv(root / "submissions/blend.csv")
    assert np.allclose(submitted[["a", "b", "tie"]].sum(axis=1), 1, atol=1e-6)


def test_a_row_of_two_classes_is_refused(tmp_path: Path) -> None:
    root = of_classes(tmp_path)
    text = (root / "input/train.csv").read_text()
    write(root / "input/train.csv", text.replace("0,0,1\n", "1,0,1\n", 1))
    with pytest.raises(InputError) as e:
        _ = Competition.load(root).train
    assert str(e.value).endswith(
        "row 1 holds 1, 0, 1 in 'a', 'b', 'tie', and kind multiclass requires exactly one 1 in each "
        "row: fix the row, or set `kind: multilabel`"
    )


def test_shares_are_for_log_loss(tmp_path: Path) -> None:
    root = of_classes(tmp_path, shares=True)
    write_competition(root, **CLASSES | {"metric": "roc_auc_ovr"})
    with pytest.raises(InputError, match="hold shares of classes, which metric roc_auc_ovr"):
        _ = Competition.load(root).train


def test_numbers_become_labels_by_a_threshold(tmp_path: Path) -> None:
    files = ("id,text,label\na,x,0.2\nb,y,0.5\nc,z,1\n", "id,text\nt,z\n", "id,label\nt,0.0\n")
    for threshold, targets in ((0.5, [0, 1, 1]), (0.6, [0, 0, 1])):
        competition = load(tmp_path / str(threshold), *files, threshold=threshold)
        assert competition.labels == ("0", "1")
        assert competition.train.targets.ravel().tolist() == targets


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kind": "regression", "metric": "rmse", "threshold": 0.5},
            "`threshold` is for kind binary",
        ),
        ({"threshold": 0.5, "labels": ["0", "1"]}, "with a `threshold` the labels are 0 and 1"),
        (CLASSES | {"labels": ["a", "b", "tie"]}, "with a target column per class `labels` are"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, settings: dict, sentence: str) -> None:
    write_competition(tmp_path, **settings)
    with pytest.raises(InputError, match=sentence):
        Competition.load(tmp_path)


# --- groups -----------------------------------------------------------------------------------


def grouped(root: Path, group: list[str]) -> Path:
    """24 rows with these groups, in turn."""
    make_workspace(root, group="g", folds={"count": 3})
    lines = (root / "input/train.csv").read_text().splitlines()
    body = [f"{line},{group[i % len(group)]}" for i, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join([lines[0] + ",g", *body]) + "\n")
    return root


def test_fewer_groups_than_folds(tmp_path: Path, capsys) -> None:
    root = grouped(tmp_path, ["x", "y"])
    refuses(
        root,
        ["folds"],
        f"{root}/input/train.csv: group column 'g' holds 2 different values, and rows of one share a "
        "fold, which is too few for 3 folds: set `folds.count` to 2 or fewer, or leave `group` out",
        capsys,
    )


def test_one_group(tmp_path: Path, capsys) -> None:
    root = grouped(tmp_path, ["x"])
    refuses(
        root,
        ["folds"],
        f"{root}/input/train.csv: group column 'g' holds one value, so that all rows would share a "
        "fold: leave `group` out of competition.yaml",
        capsys,
    )


def test_rows_without_a_group_are_not_tied(tmp_path: Path, capsys) -> None:
    root = grouped(tmp_path, ["x", "y", "z", ""])
    assert foldstack(root, "folds") == 0
    competition = Competition.load(root)
    sizes = np.bincount(competition.fold_groups)
    assert sorted(sizes.tolist()) == [1] * 6 + [6] * 3
    assert (
        "warning: 6 rows have an empty 'g' (group): each is a group of its own; if they belong "
        "together, fill the cells" in capsys.readouterr().out
    )


def test_a_group_that_fills_a_fold_is_named(tmp_path: Path, capsys) -> None:
    root = grouped(tmp_path, ["x"] * 8 + ["y", "z", "u", "v"])
    assert foldstack(root, "folds") == 0
    assert (
        "warning: group 'x' of column 'g' has 16 of the 24 rows and stands in one fold: its run "
        "learns from the few others, and the score rests on it; split the group, or leave `group` "
        "out if rows of it are independent" in capsys.readouterr().out
    )


# --- what gives the target away, and what follows dropped rows ----------------------------------


def test_a_feature_column_that_is_the_target_is_refused(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    for name in ("train", "test"):
        lines = (root / f"input/{name}.csv").read_text().splitlines()
        body = [f"{line},{line[-1] if name == 'train' else ''}" for line in lines[1:]]
        write(root / f"input/{name}.csv", "\n".join([lines[0] + ",meta", *body]) + "\n")
    write_competition(root, numeric=["meta"])
    refuses(
        root,
        ["folds"],
        f"{root}/input/train.csv: feature column 'meta' equals the target 'label' in every row, and "
        "would give it away: leave it out of `numeric`",
        capsys,
    )


def test_a_feature_that_test_rows_lack_is_named(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path)
    for name in ("train", "test"):
        lines = (root / f"input/{name}.csv").read_text().splitlines()
        body = [f"{line},{i if name == 'train' else ''}" for i, line in enumerate(lines[1:])]
        write(root / f"input/{name}.csv", "\n".join([lines[0] + ",meta", *body]) + "\n")
    write_competition(root, numeric=["meta"])
    assert foldstack(root, "folds") == 0
    assert (
        "warning: feature column 'meta' is empty in every test row: what a model learns of it is of no "
        "use there, and its score is too good; leave it out of competition.yaml"
        in capsys.readouterr().out
    )


def test_given_folds_may_hold_rows_without_a_label(tmp_path: Path) -> None:
    root = unlabelled(tmp_path, "nan", unlabelled="drop", folds={"file": "f.csv"})
    rows = "".join(f"r{i},{i % 2}\n" for i in range(24))
    write(root / "input/f.csv", "id,fold\n" + rows)
    assert foldstack(root, "folds") == 0


def test_a_pool_is_part_of_what_runs_were_made_with(tmp_path: Path) -> None:
    of = {
        how: Competition.load(unlabelled(tmp_path / how, "nan", unlabelled=how)).overlay_hash
        for how in ("drop", "pool")
    }
    assert of["drop"] is None and of["pool"] is not None


def test_a_row_of_several_targets_is_left_out_whole(tmp_path: Path) -> None:
    train = "id,text,p,q\na,x,0,1\nb,y,-1,1\nc,z,1,0\nd,u,0,-1\n"
    competition = load(
        tmp_path, train, kind="multilabel", metric="f1_macro", target=["p", "q"], labels=[]
    )
    with pytest.raises(InputError) as e:
        _ = competition.train
    assert "row 2 has no label: column 'p' holds '-1' there" in str(e.value)
    assert str(e.value).endswith(
        "to leave whole rows out (2 with the other columns), or `pool` to keep their texts for "
        "pretraining"
    )
