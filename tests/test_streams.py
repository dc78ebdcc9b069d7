"""Files that are read, predicted and written in parts give what they give in one piece."""

import gzip
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack import tables
from foldstack.ensemble import METHODS, BlendOptions
from foldstack.errors import InputError, Interrupted
from foldstack.files import csv_text, writing
from foldstack.metrics import get
from foldstack.rows import Rows
from foldstack.stages import new_rows
from foldstack.stages.blend import make_blend
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.tables import TableStream, read_table
from foldstack.workspace import Workspace
from tiny import files as files_of
from tiny import (
    foldstack,
    go_through,
    make_workspace,
    refuses,
    sentences,
    write,
    write_competition,
)

CSV = 'id,text\n007,NA\nb,"two\nlines"\n\nc,"a ""word"""\nd,\ne,last\n'
JSON = '{"id": 1}\n{"id": 2, "text": "x"}\n\n{"more": [1, 2]}\n{}\n{"text": "y", "id": true}\n'


def table_file(folder: Path, kind: str) -> Path:
    if kind == ".parquet":
        table = pd.DataFrame({"id": [1, 2, 3, 4, 5], "text": ["a", None, "c", "", "é"]})
        table.to_parquet(folder / "t.parquet", row_group_size=2)
        return folder / "t.parquet"
    text = {".csv": CSV, ".tsv": CSV.replace(",", "\t"), ".jsonl": JSON, ".csv.gz": CSV}[kind]
    path = write(folder / f"t{kind}", text)
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_parts_are_the_table(tmp_path: Path, kind: str, most: int) -> None:
    """Every part has all columns of the file, also those that its own JSON lines do not name."""
    path = table_file(tmp_path, kind)
    whole, stream = read_table(path, "utf-8"), TableStream.of(path, "utf-8")
    starts, parts = zip(*stream.parts(most), strict=True)
    assert stream.rows == len(whole) == 5 and stream.columns == tuple(whole.columns)
    assert starts == tuple(range(0, 5, most))
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_a_table_does_not_depend_on_how_many_rows_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = table_file(tmp_path, kind)
    whole = read_table(path, "utf-8")
    monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
    pd.testing.assert_frame_equal(read_table(path, "utf-8"), whole)


def test_a_row_of_a_later_part_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"text": [["a"], ["b"], ["c|d"]]}).to_parquet(path, row_group_size=1)
    with pytest.raises(InputError, match=r"row 3: column 'text' holds a list with 'c\|d'"):
        TableStream.of(path, "utf-8")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a header but no rows"):
        TableStream.of(write(tmp_path / "t.csv", "id,text\n"), "utf-8")


def test_a_text_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "out.csv", "old")
    with pytest.raises(ZeroDivisionError), writing(path) as f:
        f.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with writing(path, "utf-16") as f:
        f.write("a\n")
        f.write("é\n")
    assert path.read_bytes() == "a\né\n".encode("utf-16")  # with one byte order mark


def test_parts_of_csv_follow_each_other() -> None:
    table = pd.DataFrame({"id": ["1", "2"], "a": ["x", "y\r"]})
    assert csv_text(table[:1]) + csv_text(table[1:], header=False) == 'id,a\n1,x\n"2","y\r"\n'


# Prediction


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models' runs, and patterns over them."""
    root = make_workspace(
        tmp_path_factory.mktemp("w") / "w",
        models=["tfidf", {"words": {"preset": "tfidf", "char_ngrams": [0, 0]}}],
        patterns="patterns.yaml",
    )
    write(
        root / "patterns.yaml",
        "mode: before\nrules:\n  - {pattern: lovely, label: '1', confidence: 0.9}\n"
        "nearest: {below: 0.8, similarity: 0.4, confidence: 0.9}\n",
    )
    go_through(root, "folds")
    for model in ("tfidf", "words"):
        for fold in range(3):
            assert foldstack(root, "train", "--model", model, "--fold", str(fold)) == 0
    return root


def new_file(root: Path) -> Path:
    lines = "".join(f"new-{i},{text}\n" for i, (text, _) in enumerate(sentences(11)))
    return write(root / "new.csv", "id,text\n" + lines)


def predicted(root: Path, out: str, *args: str) -> bytes:
    command = ["predict", "--file", str(root / "new.csv"), "--out", str(root / out), *args]
    assert foldstack(root, *command) == 0
    return (root / out).read_bytes()


def of(method: str):
    """A predictor of both models by this method, whatever a blend would choose."""

    def of_blend(cls: type[Predictor], ws: Workspace, name: str, *, int8: bool) -> Predictor:
        made = make_blend(ws, ["tfidf", "words"], quiet=True)
        metric, rows = get("roc_auc", "binary"), np.arange(24)
        fitted = METHODS[method](BlendOptions()).fit(made.members, rows, metric, 0)
        keys = {m: [RunKey(m, 0, (f,)) for f in range(3)] for m in ("tfidf", "words")}
        return cls(ws, keys, method, fitted, None)

    return classmethod(of_blend)


@pytest.mark.parametrize("method", ["mean", "rank_mean", "rank_greedy", "stack"])
def test_a_file_is_predicted_in_parts_as_in_one_piece(
    finished: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Ranks too: a new row's rank is the one that it has among the run's test predictions."""
    new_file(finished)
    monkeypatch.setattr(Predictor, "of_blend", of(method))
    arguments = ["--set", "patterns=null"]
    whole = predicted(finished, "whole.csv", *arguments)
    assert whole.count(b"\n") == 12 and b"\nnew-10," in whole
    monkeypatch.setattr(new_rows, "CHUNK", 2)
    assert predicted(finished, "parts.csv", *arguments) == whole


def test_patterns_decide_in_parts_as_in_one_piece(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file(finished)
    whole = predicted(finished, "whole.csv", "--model", "tfidf")
    assert b",rule 1," in whole and b",model," in whole and b",nearest," in whole
    monkeypatch.setattr(new_rows, "CHUNK", 3)
    assert predicted(finished, "parts.csv", "--model", "tfidf") == whole


def test_rows_without_ids_are_numbered_on_from_part_to_part(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(finished / "new.csv", "text\na\nb\nc\nd\ne\n")
    monkeypatch.setattr(new_rows, "CHUNK", 2)
    lines = predicted(finished, "out.csv", "--model", "words").decode().splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", "1", "2", "3", "4", "5"]


def test_an_interrupted_prediction_leaves_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even half of a file beside the place, and what stood there stays."""
    new_file(finished)
    command = ["predict", "--file", str(finished / "new.csv"), "--model", "words"]
    assert foldstack(finished, *command) == 0
    before = files_of(finished / "predictions")
    monkeypatch.setattr(new_rows, "CHUNK", 4)
    real, calls = Predictor.predict_rows, []

    def twice(self: Predictor, rows: Rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise Interrupted(signal.SIGTERM)
        return real(self, rows)

    monkeypatch.setattr(Predictor, "predict_rows", twice)
    assert foldstack(finished, *command) == 143
    assert calls == [4, 4]
    assert "new.csv" in before and files_of(finished / "predictions") == before


def test_a_bad_number_in_the_last_row_is_refused_before_the_first_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    root = tmp_path / "w"
    rows = sentences(12)
    lines = "".join(f"r{i},{text},{i},{label}\n" for i, (text, label) in enumerate(rows))
    write(root / "input/train.csv", "id,text,size,label\n" + lines)
    write(root / "input/test.csv", "id,text,size\nt,a good film,1\n")
    write(root / "input/sample_submission.csv", "id,label\nt,0\n")
    write_competition(root, numeric=["size"])
    go_through(root, "folds", "train")
    new = write(root / "new.csv", "text,size\na,1\nb,\nc,3\nd,many\n")
    monkeypatch.setattr(new_rows, "CHUNK", 2)
    monkeypatch.setattr(Predictor, "predict_rows", None)
    capsys.readouterr()
    sentence = (
        f"{new}: row 4: numeric column 'size' holds 'many': a number or nothing is expected; name the "
        "column in `categorical` if it holds words"
    )
    refuses(root, ["predict", "--file", str(new), "--model", "tfidf"], sentence, capsys)
    assert not list((root / "predictions").glob("*.csv"))
