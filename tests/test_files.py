"""Files: every format comes in as the same text, and what is damaged is named with its line."""

import gzip
import json
import zipfile
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldstack.encoding import likely_encoding
from foldstack.errors import InputError
from foldstack.tables import read_table
from tiny import write

ROWS = {
    "id": ["007", "NA", " x "],
    "text": ['say "no",\nthen go', "", "a\tb"],
    "label": ["1.0", "True", "漢字"],
}


def table(path: Path, encoding: str = "utf-8") -> dict[str, list[str]]:
    return read_table(path, encoding).to_dict("list")


def refused(path: Path, encoding: str = "utf-8", *, decides: bool = True) -> str:
    """The sentence, with the path left out."""
    with pytest.raises(InputError) as reason:
        read_table(path, encoding, decides=decides)
    return str(reason.value).replace(str(path), "FILE")


def save(path: Path, rows: dict = ROWS) -> Path:
    """The rows in the format of the path's suffix."""
    frame = pd.DataFrame(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix in (".json", ".jsonl", ".ndjson"):
        lines = path.suffix != ".json"
        frame.to_json(path, orient="records", lines=lines, force_ascii=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix in (".tsv", ".txt") else ",")
    return path


FORMATS = ["csv", "tsv", "txt", "json", "jsonl", "ndjson", "parquet", "CSV"]


@pytest.mark.parametrize("packing", ["", ".gz", ".zip"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_text(tmp_path: Path, suffix: str, packing: str) -> None:
    """Nothing is guessed: NA is no gap, 007 no number, and line breaks stay in their cell."""
    plain = save(tmp_path / f"train.{suffix}")
    path = tmp_path / f"train.{suffix}{packing}"
    if packing == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif packing == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, f"folder/{plain.name}")
            archive.writestr("__MACOSX/folder/._train.csv", "what macOS adds")
    assert table(path) == ROWS


def test_values_of_json_become_text_as_python_writes_them(tmp_path: Path) -> None:
    lines = [
        {"a": 3, "b": 1.0, "c": True, "d": None, "e": ["x", "y z"]},
        {"a": "3", "b": 1e-7, "c": False, "d": float("nan"), "e": []},
        {"f": "late", "a": 10**20},
    ]
    path = write(tmp_path / "x.jsonl", "\n\n".join(map(json.dumps, lines)) + "\n")
    assert table(path) == {
        "a": ["3", "3", "100000000000000000000"],
        "b": ["1.0", "1e-07", ""],
        "c": ["True", "False", ""],
        "d": ["", "", ""],
        "e": ["x|y z", "", ""],
        "f": ["", "", "late"],
    }


def test_a_line_separator_within_a_json_text_ends_no_line(tmp_path: Path) -> None:
    """str.splitlines would break the line at U+2028."""
    path = write(tmp_path / "x.jsonl", '{"a": "one\u2028two"}\r\n{"a": "three"}')
    assert table(path) == {"a": ["one\u2028two", "three"]}


def test_values_of_parquet_become_text_as_python_writes_them(tmp_path: Path) -> None:
    """A float32 0.1 must not come in as 0.10000000149011612."""
    columns = {
        "int": pa.array([3, None, 7]),
        "float": pa.array([1.0, None, 0.1]),
        "float32": pa.array([1.0, None, 0.1], pa.float32()),
        "bool": pa.array([True, None, False]),
        "list": pa.array([["x", "y"], None, []]),
        "category": pa.array(["a", None, "a"]).dictionary_encode(),
        "time": pa.array([datetime(2026, 3, 31, 12), None, None], pa.timestamp("ns")),
        "nothing": pa.nulls(3),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert table(tmp_path / "x.parquet") == {
        "int": ["3", "", "7"],
        "float": ["1.0", "", "0.1"],
        "float32": ["1.0", "", "0.1"],
        "bool": ["True", "", "False"],
        "list": ["x|y", "", ""],
        "category": ["a", "", "a"],
        "time": ["2026-03-31 12:00:00", "", ""],
        "nothing": ["", "", ""],
    }


BROKEN = {
    "unknown suffix": (
        "x.xlsx",
        "a\n1\n",
        "FILE has an unknown file type: .csv, .tsv, .txt, .json, .jsonl, .ndjson, .parquet are read, "
        "each also as .gz or .zip",
    ),
    "tsv, too many fields": (
        "x.tsv",
        "a\tb\n1\t2\t3\n",
        "FILE, line 2 has 3 fields, the header 2: fix the tabs or quotes there",
    ),
    "tsv, open quote": (
        "x.tsv",
        'a\tb\n1\t"2\n3\n',
        "FILE: the row that begins in line 2 is not TSV (unexpected end of data): fix its quotes",
    ),
    "json, damaged line": (
        "x.jsonl",
        '{"a": 1}\n{"a": \n',
        "FILE, line 2 is not JSON (Expecting value, column 1): write one object per line",
    ),
    "json, a list": (
        "x.jsonl",
        '[{"a": 1}, {"a": 2}]\n',
        'FILE, line 1 is JSON but not an object: write {"column": value, …}; an array of objects is '
        "read from a file named .json",
    ),
    "json, the first line of an array": (
        "x.jsonl",
        '[{"a": 1},\n{"a": 2}]\n',
        "FILE, line 1 is not JSON (Expecting value, column 1): an array of objects is read from a file "
        "named .json",
    ),
    "json array, a number": (
        "x.json",
        '[{"a": 1}, 2]',
        'FILE, row 2 is JSON but not an object: write {"column": value, …}',
    ),
    "json array, cut off": (
        "x.json",
        '[{"a": 1},\n{"a":',
        "FILE is not JSON (Expecting value, line 2): write an array of objects",
    ),
    "json, an object within": (
        "x.jsonl",
        '{"a": {"b": 1}}\n',
        "FILE, line 1: column 'a' holds an object: only text, numbers, booleans and lists of them "
        "are read",
    ),
    "json, a bar in a list": (
        "x.jsonl",
        '{"a": []}\n{"a": ["x|y"]}\n',
        "FILE, line 2: column 'a' holds a list with 'x|y': its parts are joined by '|' and must be "
        "text without it",
    ),
    "json, half a letter": (
        "x.jsonl",
        '{"a": "\\ud83d"}\n',
        "FILE, line 1 contains a lone surrogate (\\ud…): remove it",
    ),
    "json, nothing": ("x.jsonl", "\n", "FILE is empty: one JSON object per line is required"),
    "parquet that is none": (
        "x.parquet",
        "a,b\n1,2\n3,4\n",
        "FILE is not Parquet (Parquet magic bytes not found in footer. Either the file is corrupted "
        "or this is not a parquet file): fetch it again",
    ),
    "gz that is none": (
        "x.csv.gz",
        "a\n1\n",
        "FILE cannot be read (Not a gzipped file (b'a\\n')): fetch or pack it again",
    ),
    "zip that is none": (
        "x.zip",
        "a\n1\n",
        "FILE cannot be read (File is not a zip file): fetch or pack it again",
    ),
}


@pytest.mark.parametrize(("name", "content", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    assert refused(write(tmp_path / name, content)) == sentence


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-9])
    assert refused(path) == (
        "FILE cannot be read (Compressed file ended before the end-of-stream marker was reached): "
        "fetch or pack it again"
    )
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.csv", "a,b\n1,2\n")
    path.write_bytes(path.read_bytes().replace(b"1,2\n", b"1,3\n"))
    assert (
        refused(path) == "FILE cannot be read (Bad CRC-32 for file 'x.csv'): fetch or pack it again"
    )


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (["a.csv", "b.csv"], "FILE holds 'a.csv', 'b.csv': pack exactly one data file into it"),
        ([], "FILE holds no file: pack exactly one data file into it"),
        (
            ["a.xlsx"],
            "FILE (in it 'a.xlsx') has an unknown file type: .csv, .tsv, .txt, .json, .jsonl, .ndjson, "
            ".parquet are read, each also as .gz or .zip",
        ),
    ],
)
def test_a_zip_holds_exactly_one_data_file(tmp_path: Path, members: list, sentence: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for member in members:
            archive.writestr(member, "a\n1\n")
    assert refused(tmp_path / "x.zip") == sentence


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    """What some unpacking tools make of train.csv.zip."""
    (tmp_path / "train.csv").mkdir()
    assert refused(tmp_path / "train.csv") == "FILE is a folder: put the file itself there"


# Encodings

LANGUAGES = {
    "cp1252": "El niño comió piñas y bebió café",
    "gb18030": "这部电影非常好看",
    "shift_jis": "この映画はとても面白かったです",
    "euc-kr": "이 영화는 정말 재미있었다",
    "big5": "這部電影非常好看",
    "cp1251": "Этот фильм очень хороший",
    "utf-16": "any text at all",
    "utf-8": "any text at all, ä",
}


@pytest.mark.parametrize(("encoding", "text"), LANGUAGES.items(), ids=LANGUAGES.keys())
def test_a_guess_of_the_encoding(encoding: str, text: str) -> None:
    """One line among ASCII ones is enough, since only such lines are judged."""
    data = ("id,text\n" + "1,plain\n" * 999 + f"2,{text}\n").encode(encoding)
    assert likely_encoding(data) == encoding


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_wrong_encoding_names_the_line_and_a_guess(tmp_path: Path, packing: str) -> None:
    data = "a,b\n1,plain\n2,这部电影非常好看\n".encode("gb18030")
    path = tmp_path / f"x.csv{packing}"
    path.write_bytes(gzip.compress(data) if packing else data)
    assert refused(path) == (
        "FILE, line 3 is not utf-8, it looks like gb18030: write `encoding: gb18030` into "
        "competition.yaml"
    )
    assert table(path, "gb18030") == {"a": ["1", "2"], "b": ["plain", "这部电影非常好看"]}


def test_utf8_read_with_another_encoding_is_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a\n漢字かな\n")
    assert refused(path, "ascii") == (
        "FILE, line 2 is not ascii, it looks like utf-8: write `encoding: utf-8` into competition.yaml"
    )


def test_a_guess_must_read_the_whole_file(tmp_path: Path) -> None:
    """0x81 is nothing in cp1252: Latin-1, which reads anything, comes last."""
    path = tmp_path / "x.csv"
    path.write_bytes("a\ncafé\n".encode("cp1252") * 500 + b"\x81\n")
    assert "it looks like cp1252" not in refused(path)


def test_what_is_no_text_gets_no_guess(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"PK\x03\x04\x00\xff\x00")  # an archive under a wrong name
    assert refused(path) == (
        "FILE, line 1 is not utf-8: name the file's encoding in competition.yaml, for instance "
        "`encoding: cp1252` or `encoding: gb18030`"
    )


def test_another_file_is_saved_in_the_encoding_of_the_training_file(tmp_path: Path) -> None:
    """`encoding` is of all the competition's files: what fits new rows to predict would garble train."""
    path = tmp_path / "new.csv"
    path.write_bytes("text\ncafé\n".encode("cp1252"))
    assert refused(path, decides=False) == (
        "FILE, line 2 is not utf-8, it looks like cp1252: save it as utf-8"
    )


@pytest.mark.parametrize("encoding", ["a\0b", "no-such", "hex", "utf-7", "unicode_escape", "idna"])
def test_what_is_no_encoding_of_files_is_refused(tmp_path: Path, encoding: str) -> None:
    """UTF-7 and Python's escapes decode to halves of surrogate pairs, which nothing can write again."""
    path = write(tmp_path / "x.csv", "a\n+2AA-\\ud800\n")
    shown = encoding.replace("\0", "\\x00")
    assert refused(path, encoding) == (
        f"encoding '{shown}' is not known: write `encoding: utf-8` or another of Python's codecs into "
        "competition.yaml"
    )


# What Python cannot hold, and what a small file may not expand to

JSON = {
    "nested 3,000 deep": (
        "[" * 3000 + "]" * 3000,
        "line 2 nests its values too deeply: only text, numbers, booleans and lists of them are read",
    ),
    "nested a little": ("[[1]]", "line 2: column 'a' holds a list with [1]: its parts are joined"),
    "a number of 5,000 digits": (
        "9" * 5000,
        "line 2 holds a number of more than 4,300 digits: write it as text, in quotes",
    ),
}


@pytest.mark.parametrize(("value", "sentence"), JSON.values(), ids=JSON.keys())
def test_json_that_python_cannot_hold_names_the_line(
    tmp_path: Path, value: str, sentence: str
) -> None:
    path = write(tmp_path / "x.jsonl", f'{{"a": 1}}\n{{"a": {value}}}\n')
    assert refused(path).startswith(f"FILE, {sentence}")


OUT_OF_RANGE = "a date or time out of Python's range, the years 1 to 9999: write it as text"
ARROW = {
    "date32": (pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()), OUT_OF_RANGE),
    "date64": (pa.array([0, 86_400_000 * 10**7]).cast(pa.date64()), OUT_OF_RANGE),
    "timestamp": (pa.array([0, 2**60]).cast(pa.timestamp("ms")), OUT_OF_RANGE),
    "time zone": (
        pa.array([None, 0]).cast(pa.timestamp("s", "Europe/Nowhere")),
        "a value that Python cannot hold: write it as text",
    ),
    "text": (
        pa.Array.from_buffers(
            pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers(), null_count=0
        ),
        "bytes that are not UTF-8: write the file again from its source",
    ),
}


@pytest.mark.parametrize(("column", "what"), ARROW.values(), ids=ARROW.keys())
def test_parquet_that_python_cannot_hold_names_the_row(
    tmp_path: Path, column: pa.Array, what: str
) -> None:
    """Bytes that are not UTF-8 were said to be so by the encoding of the whole file, which has none."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": column}), path)
    assert refused(path) == f"FILE, row 2: column 'a' holds {what}"


@pytest.mark.parametrize("packing", ["deflated", "bzip2", "gz"])
def test_a_small_file_that_expands_without_end_is_refused(tmp_path: Path, packing: str) -> None:
    """A line of 20 MB of zeros in 20 KB; 3 GB in 3 MB would fill the memory alike."""
    data = b"a\n" + b"0" * (20 << 20)
    path = tmp_path / ("x.csv.gz" if packing == "gz" else "x.csv.zip")
    if packing == "gz":
        path.write_bytes(gzip.compress(data))
    else:
        method = zipfile.ZIP_BZIP2 if packing == "bzip2" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.csv", data)
    assert refused(path) == (
        "FILE expands to over 250 times its size, which no table does: unpack it yourself if it is one"
    )


def test_text_that_packs_well_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 MB of rows with equal texts and a hundred zeros each, packed fifty times smaller."""
    monkeypatch.setattr("foldstack.tables.packed.FREE_BYTES", 1 << 20)
    header = ",".join(["id", "text", *(f"c{i}" for i in range(100))])
    rows = [f"{i},the same words again and again{',0' * 100}" for i in range(8_000)]
    data = "\n".join([header, *rows]).encode()
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(data))
    assert len(data) > 50 * path.stat().st_size
    assert len(read_table(path, "utf-8")) == 8_000


def test_parquet_that_claims_more_rows_than_it_has_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    column = pa.array(["a"]).dictionary_encode().take(pa.array([0] * 2_000_000))
    pq.write_table(pa.table({"a": column}), path)
    size = path.stat().st_size
    assert refused(path) == (
        f"FILE claims 2,000,000 rows in {size:,} bytes, which no table of texts has: fetch it again"
    )


def test_json_lines_of_other_columns_each_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n objects of one key each, all different, are a table of n times n cells."""
    monkeypatch.setattr("foldstack.tables.json_lines.FREE_CELLS", 10_000)
    path = write(tmp_path / "x.jsonl", "".join(f'{{"c{i}": 1}}\n' for i in range(300)))
    assert refused(path) == (
        "FILE: its objects name different columns, so the table has 10,201 cells, nearly all "
        "empty: give the rows the same columns"
    )


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not `fetch or pack it again`, which changes nothing; root may read all, so that open() refuses."""
    path = write(tmp_path / "x.csv", "a\n1\n")

    def denied(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refused(path) == (
        "FILE cannot be read (Permission denied): give this user the right to read it"
    )
