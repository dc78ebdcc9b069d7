"""Files that `init` finds: forms of files, archives, samples and second files, each said."""

import json
import zipfile
from pathlib import Path

import pytest

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.stages.init import init
from foldstack.views.console import show
from tiny import files, go_through, sentences, write

ROWS = [(f"r{i}", text, "yes" if label else "no") for i, (text, label) in enumerate(sentences(18))]
TRAIN = [("id", "text", "label"), *ROWS[:12]]
TEST = [("id", "text"), *(row[:2] for row in ROWS[12:])]
SAMPLE = [("id", "label"), *((row[0], "0.5") for row in ROWS[12:])]


def lines(rows: list[tuple], sign: str = ",") -> str:
    return "".join(sign.join(row) + "\n" for row in rows)


def given(root: Path, train: list = TRAIN, test: list = TEST, sample: list = SAMPLE) -> Path:
    """A workspace with these files in input/; an empty one is left out."""
    for name, rows in (("train", train), ("test", test), ("sample_submission", sample)):
        if rows:
            write(root / f"input/{name}.csv", lines(rows))
    return root


def said(root: Path, capsys: pytest.CaptureFixture, **arguments: object) -> list[str]:
    show(init(root, **arguments))
    return capsys.readouterr().out.replace(str(root), "ROOT").splitlines()


def texts(root: Path) -> list[str]:
    return [text for (text,) in Competition.load(root).train.texts]


EXPECTED = [row[1] for row in TRAIN[1:]]


# Delimiters and headers


def test_one_delimiter_of_all_files_is_found(tmp_path: Path, capsys) -> None:
    root = tmp_path / "w"
    for name, rows in (("train", TRAIN), ("test", TEST), ("sample_submission", SAMPLE)):
        write(root / f"input/{name}.csv", lines(rows, ";"))
    assert (
        "init: delimiter: ; (each line of 'train.csv', 'test.csv', 'sample_submission.csv' has equally "
        "many)" in said(root, capsys)
    )
    assert texts(root) == EXPECTED


def test_delimiters_that_differ_are_written_by_file(tmp_path: Path, capsys) -> None:
    root = given(tmp_path / "w")
    write(root / "input/train.csv", lines(TRAIN, "\t"))
    assert (
        "init: delimiter: {train.csv: \"\\t\"} (each line of 'train.csv' has equally many)"
        in said(root, capsys)
    )
    assert texts(root) == EXPECTED


def test_files_without_a_header_are_recognised(tmp_path: Path, capsys) -> None:
    """The ids are found by their values, the target by the sample."""
    root = given(tmp_path / "w", TRAIN[1:], TEST[1:])
    out = said(root, capsys)
    assert (
        "init: header: {train.csv: false, test.csv: false} (the first line of 'train.csv', 'test.csv' "
        "looks like data: its columns are c1, c2, …, unless `columns` names them)" in out
    )
    assert (
        "init: columns: {test.csv: {c1: id}, train.csv: {c1: id, c3: label}} (column 'c1' of test holds "
        "the sample's 'id')" in out
    )
    assert texts(root) == EXPECTED
    assert Competition.load(root).settings.target == ("label",)


def test_classes_that_are_numbers_are_a_header(tmp_path: Path) -> None:
    """The sample's columns 0 and 1 are no row of data."""
    train = [("id", "text", "label"), *((i, t, "01"[y == "yes"]) for i, t, y in ROWS[:12])]
    sample = [("id", "0", "1"), *((row[0], "0.5", "0.5") for row in ROWS[12:])]
    root = given(tmp_path / "w", train, TEST, sample)
    init(root)
    assert Competition.load(root).settings.header is True


def test_labels_before_the_text_of_a_line(tmp_path: Path, capsys) -> None:
    root = given(tmp_path / "w", [], [])
    labels = [("a|b" if i % 3 == 0 else "ab"[i % 2], text) for i, (_, text, _) in enumerate(ROWS)]
    write(root / "input/train.txt", lines([(y, t) for y, t in labels[:12]], " "))
    write(root / "input/test.csv", lines([("id", "c2"), *(row[:2] for row in ROWS[12:])]))
    sample = [("id", "labels"), *((row[0], "a") for row in ROWS[12:])]
    write(root / "input/sample_submission.csv", lines(sample))
    out = said(root, capsys)
    assert (
        "init: delimiter: {train.txt: first_space} (each line of 'train.txt' is labels, a space, the "
        "text)" in out
    )
    competition = Competition.load(root)
    assert competition.labels == ("a", "b") and competition.kind == "multilabel"
    assert texts(root) == EXPECTED


def test_quotes_of_a_tsv_that_do_not_close_are_said(tmp_path: Path, capsys) -> None:
    """100 rows with two lone quotes were read as fewer, the labels between within a text."""
    root = given(tmp_path / "w", [])
    rows = [(i, f'"{text}' if i in ("r2", "r7") else text, label) for i, text, label in ROWS[:12]]
    write(root / "input/train.tsv", lines([TRAIN[0], *rows], "\t"))
    assert (
        "init: quoting: none ('train.tsv' has a field that opens with a quote and does not close it on "
        "its line: quotes are text)" in said(root, capsys)
    )
    assert texts(root) == [row[1] for row in rows]


def test_rows_and_lines_are_said_where_they_differ(tmp_path: Path, capsys) -> None:
    train = [TRAIN[0], ("r0", '"a\nb c d"', "no"), *TRAIN[2:5], ("r4", '"e,no\nr5,f"', "no")]
    root = given(tmp_path / "w", [*train, *TRAIN[7:]])
    expected = [
        "train.csv: 11 rows were read from 13 lines, since cells have line breaks",
        "warning: train.csv, line 7: a cell of column 'text' holds what looks like 1 row of the file: "
        "fix its quotes, or set `quoting: none`",
    ]
    out = said(root, capsys)
    assert [f"init: {expected[0]}", expected[1]] == [line for line in out if "train.csv" in line][
        :2
    ]
    go_through(root, "folds")
    out = capsys.readouterr().out.splitlines()
    assert [f"folds: {expected[0]}", expected[1]] == out[:2]


# Columns


def test_an_unnamed_index_may_hold_the_ids(tmp_path: Path, capsys) -> None:
    test = [("", "text"), *TEST[1:]]
    root = given(tmp_path / "w", [("", "text", "label"), *TRAIN[1:]], test)
    assert (
        'init: columns: {test.csv: {"": id}, train.csv: {"": id}} (column \'\' of test holds '
        "the sample's 'id')" in said(root, capsys)
    )
    assert Competition.load(root).test.ids.tolist() == [row[0] for row in ROWS[12:]]


def test_names_that_differ_in_case_are_said(tmp_path: Path, capsys) -> None:
    root = given(tmp_path / "w", [("ID", "Text", "label"), *TRAIN[1:]], [("Id", "text"), *TEST[1:]])
    out = said(root, capsys)
    assert "init: column 'Id' of test.csv is read as 'id'" in out
    assert "init: column 'ID' of train.csv is read as 'id'" in out
    assert "init: column 'Text' of train.csv is read as 'text'" in out
    assert texts(root) == EXPECTED


def test_columns_that_the_sample_repeats_are_said(tmp_path: Path, capsys) -> None:
    sample = [("id", "text", "label"), *((*row[:2], "0.5") for row in ROWS[12:])]
    root = given(tmp_path / "w", TRAIN, TEST, sample)
    assert "init: the sample repeats 'text' of the test file: copied as they are" in said(
        root, capsys
    )


# A sample that is not there


SAMPLES = {
    "binary": (["no", "yes"], {}, "id,label\nr12,0.5\n"),
    "a class each": (["a", "b", "c"], {}, "id,a,b,c\nr12,0.33333333,0.33333333,0.33333333\n"),
    "labels": (["a", "b", "c"], {"metric": "accuracy"}, "id,label\nr12,a\n"),
    "numbers": (["0.1", "0.2", "0.7"], {}, "id,label\nr12,0\n"),
}


@pytest.mark.parametrize(("labels", "given_", "begin"), SAMPLES.values(), ids=SAMPLES.keys())
def test_a_sample_is_made(
    tmp_path: Path, labels: list[str], given_: dict, begin: str, capsys
) -> None:
    rows = [(i, text, labels[n % len(labels)]) for n, (i, text, _) in enumerate(ROWS[:12])]
    root = given(tmp_path / "w", [TRAIN[0], *rows], TEST, [])
    columns = ", ".join(f"'{c}'" for c in begin.splitlines()[0].split(","))
    assert (
        f"init: there is no sample submission: one is made from the ids of test, columns {columns}"
        in said(root, capsys, overrides=given_)
    )
    assert (root / "input/made_sample.csv").read_text().startswith(begin)


def test_a_target_that_no_sample_names_is_asked_for(tmp_path: Path) -> None:
    train = [(*TRAIN[0], "stars"), *((*row, str(i)) for i, row in enumerate(TRAIN[1:]))]
    root = given(tmp_path / "w", train, TEST, [])
    before = files(root)
    with pytest.raises(InputError) as reason:
        init(root)
    assert str(reason.value) == (
        "there is no sample submission, and several columns of train could be the target, 'label', "
        "'stars': name the target with TARGET=, or give SAMPLE="
    )
    assert files(root) == before
    init(root, overrides={"target": "label"})
    assert Competition.load(root).settings.target == ("label",)


# Archives


def archive(path: Path, members: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name, text in members.items():
            made.writestr(name, text)
    return path


ALL = {
    "data/train.csv": lines(TRAIN),
    "data/test.csv": lines(TEST),
    "sample_submission.csv": lines(SAMPLE),
    "data/essays/e1.txt": "an essay",
    "__MACOSX/train.csv": "what macOS adds",
    "about.md": "about",
}


def test_a_zip_of_all_files_is_unpacked(tmp_path: Path, capsys) -> None:
    path = archive(tmp_path / "competition.zip", ALL)
    out = said(tmp_path / "w", capsys, train=path)
    assert out[0] == f"init: copied {path}/train.csv to ROOT/input/train.csv"
    assert texts(tmp_path / "w") == EXPECTED
    assert sorted(p.name for p in (tmp_path / "w/input").iterdir()) == [
        "sample_submission.csv",
        "test.csv",
        "train.csv",
    ]


def test_the_only_zip_in_input_is_unpacked(tmp_path: Path) -> None:
    root = tmp_path / "w"
    archive(root / "input/some-competition.zip", ALL)
    init(root)
    init(root, force=True)
    assert texts(root) == EXPECTED


def test_a_zip_is_named_in_messages(tmp_path: Path) -> None:
    path = archive(tmp_path / "c.zip", ALL | {"data/test.csv": "id,text\nr1,a,b\n"})
    with pytest.raises(InputError) as reason:
        init(tmp_path / "w", train=path)
    assert str(reason.value) == (
        f"{path}/test.csv, line 2 has 3 fields, the header 2: fix the commas or quotes there"
    )
    assert not (tmp_path / "w").exists()


def test_a_name_twice_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "c.zip", ALL | {"old/train.csv": lines(TRAIN)})
    with pytest.raises(InputError) as reason:
        init(tmp_path / "w", train=path)
    assert str(reason.value) == (
        f"{path} holds 'train.csv' in several folders: unpack it, and name the files that are meant "
        "with TRAIN= TEST= SAMPLE="
    )


def test_json_arrays_are_files_of_a_competition(tmp_path: Path) -> None:
    root = given(tmp_path / "w", [])
    rows = [dict(zip(TRAIN[0], row, strict=True)) for row in TRAIN[1:]]
    write(root / "input/train.json", json.dumps(rows))
    init(root)
    assert texts(root) == EXPECTED


# Second files


def with_prompts(root: Path) -> Path:
    """Rows of two prompts, whose texts stand in input/prompts.csv."""
    train = [(*TRAIN[0], "prompt"), *((*row, f"p{i % 2}") for i, row in enumerate(TRAIN[1:]))]
    test = [(*TEST[0], "prompt"), *((*row, f"p{i % 2}") for i, row in enumerate(TEST[1:]))]
    prompts = [("prompt", "text"), ("p0", "Why is it so?"), ("p1", "How did it end then?")]
    write(root / "input/prompts.csv", lines(prompts))
    return given(root, train, test)


def test_a_second_file_is_proposed(tmp_path: Path, capsys) -> None:
    assert (
        "init: prompts.csv has a row for each 'prompt' of train and test: JOIN=prompts.csv joins its "
        "columns" in said(with_prompts(tmp_path / "w"), capsys)
    )


def test_a_second_file_is_joined(tmp_path: Path, capsys) -> None:
    """Its columns get names of their own, where train has them already."""
    root = with_prompts(tmp_path / "w")
    out = said(root, capsys, join="prompts.csv", overrides={"text": "prompts_text,text"})
    assert (
        "init: join: [{file: prompts.csv, \"on\": prompt}] ('prompt' stands in train and test and "
        "differs in each of its rows)" in out
    )
    assert texts(root)[0].startswith("Why is it so? a ")


def test_a_second_file_without_a_shared_key_is_refused(tmp_path: Path) -> None:
    root = with_prompts(tmp_path / "w")
    write(root / "input/prompts.csv", "prompt,text\np0,Why?\n")
    with pytest.raises(InputError) as reason:
        init(root, join="prompts.csv")
    assert str(reason.value) == (
        "JOIN=prompts.csv: no column of it has other values in each row and stands in train and test, "
        "too: give the file with the key, or name its column alike"
    )
