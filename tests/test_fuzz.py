"""Readers and settings under any input: a value or one sentence, and what is written reads back.

hypothesis makes the inputs and shrinks one that fails. The fast profile takes some seconds; the slow
one (`pytest -m slow tests/test_fuzz.py`) tries many times as many.
"""

import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from foldstack import config
from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import csv_text
from foldstack.folds import given_folds
from foldstack.store import Store
from foldstack.tables import READERS, TableStream, read_table
from foldstack.tables.form import TableForm
from foldstack.techniques import LearnerSettings
from makers import make_rows
from tiny import make_workspace, write

FAST, SLOW = 80, 2000
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)  # no data base: a run leaves nothing behind


def profiles(test):
    """The same property as a fast and as a slow test; each takes a folder of its own."""

    def of(examples: int):
        return settings(
            max_examples=examples,
            deadline=None,  # no test measures time
            database=None,
            phases=PHASES,
            derandomize=examples == FAST,  # the fast suite says the same to everybody
            suppress_health_check=list(HealthCheck),
        )

    @pytest.mark.parametrize("examples", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
    def both(examples: int, tmp_path: Path) -> None:
        of(examples)(given(data=st.data())(lambda data: test(data, tmp_path)))()

    both.__name__, both.__doc__ = test.__name__, test.__doc__
    return both


def value_or_sentence(call) -> object:
    """What the call returns, None where it refuses; anything else that it raises fails the test."""
    try:
        return call()
    except InputError as e:
        assert str(e) and "\n" not in str(e), f"not one sentence: {e}"
        return None


# Tables

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
ODD = ["", "id", '"', "\t", ",", "\r", "\n", "\0", "NA", "007", "{", "[", "9" * 5000, "\ufeff", "é"]
TABLE_LINES = st.lists(st.lists(st.sampled_from(ODD) | TEXTS, max_size=4), max_size=5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ODD_JSON = [
    '{"id": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"id": ' + "9" * 5000 + "}",
    '{"id": "\\ud800"}',
]
ENCODINGS = [
    "utf-8",
    "cp1252",
    "gb18030",
    "utf-16",
    "utf-7",
    "ascii",
    "idna",
    "no-such",
    "a\0b",
    "",
]


@st.composite
def contents(draw, suffix: str) -> bytes:
    """Bytes that are nearly a table of this kind, or any at all, with a few of them changed."""
    kind = draw(st.sampled_from(["any", "near", "near", "near"]))
    if kind == "any":
        return draw(st.binary(max_size=60))
    if suffix == ".parquet":
        data = draw(parquet())
    elif suffix in (".csv", ".tsv", ".txt"):
        sign = "," if suffix == ".csv" else "\t"
        data = "\n".join(map(sign.join, draw(TABLE_LINES))).encode()
    else:
        lines = JSON_VALUES.map(json.dumps) | st.sampled_from(ODD_JSON)
        data = "\n".join(draw(st.lists(lines, max_size=4))).encode()
    return draw(damaged(data))


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """The bytes, now and then cut off or with one of them changed."""
    what = draw(st.sampled_from(["whole", "whole", "cut", "changed"]))
    if not data or what == "whole":
        return data
    at = draw(st.integers(0, len(data) - 1))
    if what == "cut":
        return data[:at]
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


ARROW = {
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.date64(): st.integers(-(2**40), 2**40).map(lambda day: day * 86_400_000),
    pa.timestamp("ns"): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("s", "Europe/Nowhere"): st.integers(-(2**40), 2**40),
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    pa.duration("ns"): st.integers(-(2**63), 2**63 - 1),
    pa.string(): TEXTS,
    pa.binary(): st.binary(max_size=4),
    pa.float32(): st.floats(width=32),
    pa.list_(pa.int64()): st.lists(st.integers(-5, 5), max_size=2),
    pa.struct([("a", pa.int8())]): st.fixed_dictionaries({"a": st.integers(0, 5)}),
}


@st.composite
def parquet(draw) -> bytes:
    """A file of ids and a column of one of Arrow's kinds, also of values that Python has not."""
    kind = draw(st.sampled_from(list(ARROW)))
    values = draw(st.lists(st.none() | ARROW[kind], max_size=3))
    if pa.types.is_temporal(kind):
        column = pa.array(values, pa.int32() if kind == pa.date32() else pa.int64()).cast(kind)
    else:
        column = pa.array(values, kind)
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(map(str, range(len(values)))), "x": column}), sink)
    return sink.getvalue()


def packed(data: bytes, name: str, packing: str) -> bytes:
    if packing == ".gz":
        return gzip.compress(data)
    if packing == ".zip":
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        return sink.getvalue()
    return data


@profiles
def test_any_bytes_are_a_table_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    suffix = data.draw(st.sampled_from(list(READERS)))
    packing = data.draw(st.sampled_from(["", "", ".gz", ".zip"]))
    encoding = data.draw(st.sampled_from([*ENCODINGS, "utf-8", "utf-8", "utf-8"]))
    path = tmp_path / f"x{suffix}{packing}"
    whole = packed(data.draw(contents(suffix)), f"x{suffix}", packing)
    path.write_bytes(data.draw(damaged(whole)) if packing else whole)
    table = value_or_sentence(lambda: read_table(path, encoding))
    stream = value_or_sentence(lambda: TableStream.of(path, encoding))
    assert (table is None) == (stream is None)
    if table is not None:
        assert [*table.columns] == [*stream.columns] and len(table) == stream.rows
        assert all(
            type(cell) is str and cell.encode() is not None for cell in table.to_numpy().flat
        )


@profiles
def test_what_is_written_reads_back(data: st.DataObject, tmp_path: Path) -> None:
    named = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
    names = data.draw(st.lists(named, min_size=2, max_size=3, unique=True))  # Arrow's end at NUL
    rows = data.draw(st.lists(st.tuples(*[TEXTS] * len(names)), min_size=1, max_size=4))
    table = pd.DataFrame(rows, columns=names, dtype=object)
    for suffix in READERS:
        path = tmp_path / f"x{suffix}"
        if suffix == ".parquet":
            table.to_parquet(path)
        elif suffix in (".json", ".jsonl", ".ndjson"):
            lines = map(json.dumps, table.to_dict("records"))
            path.write_text("\n".join(lines), encoding="utf-8", newline="")
        elif suffix == ".csv":
            path.write_bytes(csv_text(table).encode())
        else:
            quoted = table.to_csv(index=False, sep="\t", lineterminator="\n", quoting=1)
            path.write_bytes(quoted.encode())
        # Without it, a tab beside a line break in a quoted cell may look like two rows with lone quotes.
        back = read_table(path, TableForm(quoting="csv"))
        assert back.to_dict("list") == table.to_dict("list"), suffix


# Settings

FIELDS = sorted(
    {name for kind in LearnerSettings.registered.values() for name in kind.model_fields}
    | set(config.CompetitionSettings.model_fields)
)
VALUES = [
    *("", "null", "true", "-1", "0", "3", "1e400", "nan", "9" * 5000, "label", "text", "tfidf"),
    *("multilabel", "regression", "multiclass", "cost", "../x", "/x", "n" * 300, "a.b", "{text}"),
    *(
        '"\\ud800"',
        '"\\0"',
        '"\\U00110000"',
        "&a [*a]",
        "*a",
        "!!python/name:os.system",
        "? [",
        "%",
    ),
]
SCALARS = st.sampled_from(VALUES) | st.sampled_from(VALUES) | TEXTS
FLOW = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
        | st.dictionaries(st.sampled_from(FIELDS) | SCALARS, inner, max_size=3).map(
            lambda v: "{" + ", ".join(f"{k}: {x}" for k, x in v.items()) + "}"
        )
    ),
    max_leaves=6,
)
LINES = st.lists(st.tuples(st.sampled_from(FIELDS), FLOW), max_size=4).map(
    lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs)
)
NECESSARY = "name: t\nkind: binary\nmetric: roc_auc\ntarget: label\nmodels: [tfidf]\n"


@st.composite
def yaml_bytes(draw) -> bytes:
    if draw(st.booleans()):
        return draw(st.binary(max_size=40)) if draw(st.booleans()) else draw(TEXTS).encode()
    lines = draw(LINES)
    keys = {line.split(":")[0] for line in lines.splitlines()}
    kept = [line for line in NECESSARY.splitlines() if line.split(":")[0] not in keys]
    return ("\n".join(kept) + "\n" + lines).encode()


def workspace(folder: Path) -> Path:
    """A workspace of a few rows, made once in this folder."""
    root = folder / "w"
    return root if root.exists() else make_workspace(root)


@profiles
def test_any_yaml_is_a_competition_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    root = workspace(tmp_path)
    (root / "competition.yaml").write_bytes(data.draw(yaml_bytes()))
    competition = value_or_sentence(lambda: Competition.load(root))
    if competition is not None:
        value_or_sentence(competition.check)


@profiles
def test_any_yaml_is_a_preset_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    root = workspace(tmp_path)
    learner = data.draw(st.sampled_from(["tfidf", "transformer"]))
    text = f"learner: {learner}\nbackbone: x\n".encode() + data.draw(LINES).encode()
    path = root / "presets" / "own.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.draw(st.just(text) | yaml_bytes()))
    competition = Competition.load(root).settings
    value_or_sentence(lambda: config.load_model("own", root, competition, {}))


@profiles
def test_any_set_list_is_settings_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    keys = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3).map(".".join) | TEXTS
    pairs = st.tuples(keys, FLOW).map("=".join) | st.text(max_size=5)  # surrogates, too
    sets = data.draw(st.lists(pairs, max_size=3))
    root = workspace(tmp_path)

    def load() -> None:
        overrides = config.parse_overrides(sets)
        config.check_overrides(overrides)
        of_competition, of_models = config.split_overrides(overrides)
        competition = Competition.load(root, of_competition).settings
        for learner in ("tfidf", "minilm"):
            kind = {"minilm": "transformer"}.get(learner, learner)
            own = config.relevant(of_models, kind)
            value_or_sentence(lambda o=own, m=learner: config.load_model(m, root, competition, o))

    value_or_sentence(load)


# Folds

CELLS = st.sampled_from(["0", "1", "2", "-1", "1.0", "99999999", "1e300", "nan", "", "x"])
IDS = np.array(["a", "b", "c", "d"], dtype=object)
ROWS = make_rows(list(IDS), ids=IDS)


@profiles
def test_any_folds_csv_is_folds_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    columns = data.draw(
        st.sampled_from(["id,fold", "id,fold,group", "id,fold,fold_1", "fold", "a"])
    )
    ids = data.draw(st.permutations(list(IDS)))
    width = columns.count(",")
    lines = [[i, *data.draw(st.tuples(*[CELLS] * max(width, 1)))] for i in ids]
    text = columns + "\n" + "".join(",".join(line) + "\n" for line in lines)
    write(tmp_path / "folds/folds.csv", data.draw(st.just(text) | TEXTS))
    folds = value_or_sentence(lambda: Store(tmp_path).read_folds(ROWS))
    if folds is not None:
        assert folds.count <= len(IDS) * folds.splits.shape[1]
        assert all(len(folds.held_out((fold,))) for fold in range(folds.count))
    path = tmp_path / "folds/folds.csv"
    value_or_sentence(lambda: given_folds(read_table(path, "utf-8"), path, IDS, "id"))
