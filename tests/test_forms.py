"""Forms of delimited files: delimiters, quotes, files without a header, named columns."""

from pathlib import Path

import pytest

from foldstack.errors import InputError
from foldstack.tables import read, read_table
from foldstack.tables.chunks import Embedded
from foldstack.tables.form import TableForm
from tiny import make_workspace, refuses, write


def cells(path: Path, **form: object) -> dict[str, list[str]]:
    return read_table(path, TableForm(**form)).to_dict("list")


def test_a_json_file_holds_an_array_or_lines(tmp_path: Path) -> None:
    array = write(tmp_path / "array.json", '[\n{"id": 1, "text": "a"},\n{"id": 2}]')
    lines = write(tmp_path / "lines.json", '{"id": 1, "text": "a"}\n{"id": 2}\n')
    assert cells(array) == cells(lines) == {"id": ["1", "2"], "text": ["a", ""]}


@pytest.mark.parametrize(("name", "sign"), [("x.csv", ";"), ("x.csv", "\t"), ("x.txt", "|")])
def test_the_delimiter_comes_before_the_suffix(tmp_path: Path, name: str, sign: str) -> None:
    path = write(tmp_path / name, f"id{sign}text\n1{sign}a, b\n")
    assert cells(path, delimiter=sign) == {"id": ["1"], "text": ["a, b"]}


def test_a_row_with_another_number_of_fields_names_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "1;a\n2;b;c\n")
    with pytest.raises(InputError) as reason:
        cells(path, delimiter=";", header=False)
    assert str(reason.value) == (
        f"{path}, line 2 has 3 fields, the first line 2: fix the semicolons or quotes there"
    )


def test_columns_without_a_header_are_numbered_or_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", '1,"a\nb"\n2,c\n')
    assert cells(path, header=False) == {"c1": ["1", "2"], "c2": ["a\nb", "c"]}
    named = cells(path, header=False, columns={"c1": "id", "c2": "text"})
    assert named == {"id": ["1", "2"], "text": ["a\nb", "c"]}


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ",id\n0,r1\n")
    with pytest.raises(InputError) as reason:
        cells(path, columns={"": "id"})
    assert str(reason.value) == (
        f"{path}: `columns` of competition.yaml gives two columns the name 'id': give each a name of "
        "its own"
    )


def test_labels_stand_before_the_text_of_their_line(tmp_path: Path) -> None:
    """A text may hold any sign, quotes and tabs too."""
    path = write(tmp_path / "x.txt", 'joy|love so "happy\tnow\n\nfear no\n')
    assert cells(path, delimiter="first_space", header=False) == {
        "c1": ["joy|love", "fear"],
        "c2": ['so "happy\tnow', "no"],
    }


def test_a_line_without_a_space_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", "joy so happy\nfear\n")
    with pytest.raises(InputError) as reason:
        cells(path, delimiter="first_space", header=False)
    assert str(reason.value) == (
        f"{path}, line 2 has no space, at which `delimiter: first_space` splits it: write labels, a "
        "space, the text"
    )


# Quotes

TSV = {
    "closed on its line": ('1\t"a, b"\t0\n', ["a, b"]),
    "a doubled quote": ('1\t"say ""no"""\t0\n', ['say "no"']),
    "a tab within quotes": ('1\t"a"\t0\n2\t"b\tc"\t1\n', ["a", "b\tc"]),
    "a line break within quotes": ('1\t"a\nb"\t0\n2\tc\t1\n', ["a\nb", "c"]),
    "a lone quote": ('1\t"a\t0\n2\tb\t1\n', ['"a', "b"]),
    "two lone quotes": ('1\t"a\t0\n2\tb\t1\n3\t"c\t0\n', ['"a', "b", '"c']),
    "a quoted word at the begin": ('1\t"good" film\t0\n', ['"good" film']),
}


@pytest.mark.parametrize(("rows", "texts"), TSV.values(), ids=TSV.keys())
def test_quotes_of_a_tsv_are_text_unless_they_close_on_their_line(
    tmp_path: Path, rows: str, texts: list[str]
) -> None:
    path = write(tmp_path / "x.tsv", "id\ttext\tlabel\n" + rows)
    assert cells(path)["text"] == texts


def test_the_setting_overrules_how_quotes_are_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", 'id\ttext\n1\t"a"\n2\t"b\n3\tc"\n')
    assert cells(path)["text"] == ['"a"', '"b', 'c"']
    assert cells(path, quoting="csv")["text"] == ["a", "b\n3\tc"]
    path = write(tmp_path / "x.csv", 'id,text\n1,"a"\n')
    assert cells(path, quoting="none")["text"] == ['"a"']


SWALLOWED = {
    "tabs": ('1\t"a\t0\n2\tb\t1\n3\t"\t0\n', {"delimiter": "\t"}, Embedded(2, "text", 2)),
    "commas": ('1,"a,0\n2,b,1\n3,c",0\n', {}, Embedded(2, "text", 2)),
    "prose with commas": ('1,"so, well\nbye, bye, Al\nyes, you",0\n', {}, None),
    "an address": ('1,"to, 3\n12, Hill Road, 7\n4, x",0\n2,b,1\n', {}, None),
    "line breaks alone": ('1,"a\nb",0\n', {}, None),
}


@pytest.mark.parametrize(("rows", "form", "found"), SWALLOWED.values(), ids=SWALLOWED.keys())
def test_a_cell_that_holds_rows_is_named(
    tmp_path: Path, rows: str, form: dict, found: Embedded | None
) -> None:
    header = form.get("delimiter", ",").join(["id", "text", "label"]) + "\n"
    path = write(tmp_path / "x.csv", header + rows)
    assert read(path, TableForm(quoting="csv", **form)).embedded == ((found,) if found else ())


def test_lines_are_counted_beside_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'id,text\n1,"a\nb"\n\n2,c\n')
    assert (len(read(path, "utf-8").table), read(path, "utf-8").lines) == (2, 4)
    assert read(write(tmp_path / "y.csv", "1,a\n2,b\n"), TableForm(header=False)).lines == 2


def test_a_form_of_a_file_that_is_not_read_is_refused(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path, header={"typo.csv": False})
    refuses(
        root,
        ["folds"],
        "competition.yaml: `header` names 'typo.csv', which is none of the competition's files: did you "
        "mean 'test.csv'?",
        capsys,
    )
