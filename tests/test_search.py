"""Search by vectors: the index, exact nearest rows, what makes it stale, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from foldstack.files import read_json
from foldstack.store import Store
from foldstack.text import cosine
from foldstack.text.cosine import (
    TooManyPairs,
    nearest,
    of_segments,
    pairs_between,
    pairs_within,
    unit,
)
from foldstack.training import frozen
from foldstack.workspace import Workspace
from tiny import files, foldstack, make_workspace, refuses, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


# Cosines


def vectors(n: int, seed: int = 0, size: int = 5) -> np.ndarray:
    """n random unit vectors; every third one stands there twice."""
    found = np.random.default_rng(seed).normal(size=(n, size))
    found[::3] = found[min(1, n - 1)]
    return unit(found)


def in_full(queries: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.array([[float(q.astype(float) @ k.astype(float)) for k in known] for q in queries])


@pytest.mark.parametrize("block", [1, 3, 7, 4096])
def test_the_nearest_are_those_of_all_cosines_sorted(monkeypatch, block):
    """Whatever the blocks; equal vectors come in their order, across blocks too."""
    monkeypatch.setattr(cosine, "BLOCK", block)
    queries, known = vectors(4, seed=1), vectors(20)
    found = nearest(queries, known, 9)
    wanted = np.argsort(-np.round(in_full(queries, known), 12), axis=1, kind="stable")[:, :9]
    assert found.places.tolist() == wanted.tolist()
    assert found.cosines == pytest.approx(np.take_along_axis(in_full(queries, known), wanted, 1))
    assert nearest(queries, known, 50).places.shape == (4, 20)
    assert nearest(queries[:0], known, 2).places.shape == (0, 2)


@pytest.mark.parametrize("block", [1, 3, 4096])
def test_pairs_are_those_of_all_cosines(monkeypatch, block):
    monkeypatch.setattr(cosine, "BLOCK", block)
    a, b = vectors(12), vectors(7, seed=1)
    pairs, cosines = pairs_within(a, 0.5)
    full = in_full(a, a)
    assert sorted(map(tuple, pairs)) == [
        (i, j) for i in range(12) for j in range(i + 1, 12) if full[i, j] >= 0.5
    ]
    assert cosines == pytest.approx(full[tuple(pairs.T)])
    between, _ = pairs_between(a, b, 0.5)
    assert sorted(map(tuple, between)) == list(map(tuple, np.argwhere(in_full(a, b) >= 0.5)))
    assert pairs_within(a[:0], 0.5)[0].shape == (0, 2)


def test_a_pair_at_the_threshold_is_one_and_one_below_is_none():
    """Float32 alone would decide by its rounding errors."""
    a = np.array([[0.6, 0.8], [1, 0]], dtype=np.float32)
    at = float(a[0].astype(float) @ a[1].astype(float))
    assert len(pairs_within(a, at)[0]) == 1
    assert len(pairs_within(a, np.nextafter(at, 1))[0]) == 0


def test_too_many_pairs_end_the_search(monkeypatch):
    monkeypatch.setattr(cosine, "MOST_PAIRS", 5)
    assert len(pairs_within(np.ones((3, 1), np.float32), 0.5)[0]) == 3
    with pytest.raises(TooManyPairs):
        pairs_within(np.ones((4, 1), np.float32), 0.5)


def test_rows_of_several_segments_have_the_mean_of_their_cosines():
    first, second = vectors(6), vectors(6, seed=1)
    both = of_segments([first, second])
    mean = (in_full(first, first) + in_full(second, second)) / 2
    assert in_full(both, both) == pytest.approx(mean, abs=1e-6)
    alone = of_segments([first, 0 * second])  # whose second segment is empty
    assert in_full(alone, alone) == pytest.approx(in_full(first, first), abs=1e-6)


# In a workspace


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    """Rows of all four sources, and a tiny random backbone in the embedded one's place."""
    root = make_workspace(tmp_path / "w", pool=["pool.csv"], external=["more.csv"])
    write(root / "input/pool.csv", 'text\na good film\n" "\na dull joke\n')
    write(root / "input/more.csv", "text,label\na good film,1\nA good  film,1\n")
    return with_backbone(root, backbone)


def with_backbone(root: Path, backbone: Path, **settings: object) -> Path:
    preset = {
        "learner": "vectors",
        "backbone": str(backbone),
        "precision": "fp32",
        "max_length": 16,
    }
    write(root / "presets/minilm-vectors.yaml", yaml.safe_dump(preset | settings))
    return root


def found_by(root: Path, capsys: pytest.CaptureFixture, *args: str) -> list[dict]:
    capsys.readouterr()
    assert foldstack(root, "search", *args, "--json") == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_the_index_has_each_different_text_once(root, capsys):
    assert foldstack(root, "index") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "index: 33 different texts of 24 train, 6 test, 3 pool, 2 external rows, vectors of 16 numbers "
        "by minilm-vectors in fp32, in oof/.index"
    )
    made = np.load(root / "oof/.index/vectors.npy")
    assert made.shape == (33, 16) and np.linalg.norm(made, axis=1) == pytest.approx(1)


def test_equal_texts_are_found_in_the_order_of_their_sources(root, capsys):
    """The pool's text is the external one's too, whose other spelling has the same tokens."""
    assert foldstack(root, "index") == 0
    rows = found_by(root, capsys, "--text", "a good film", "--top", "3")
    assert [(row["source"], row["id"], row["label"]) for row in rows] == [
        ("pool", "pool.csv:1", None),
        ("external", "more.csv:1", "1"),
        ("external", "more.csv:2", "1"),
    ]
    assert [row["cosine"] for row in rows] == pytest.approx([1, 1, 1])
    assert found_by(root, capsys, "--text", "a good film", "--top", "2") == rows[:2]


def test_the_rows_are_those_of_a_slow_search(root, capsys):
    """By the backbone that is read text by text."""
    assert foldstack(root, "index") == 0
    rows = found_by(root, capsys, "--text", "a bad plot", "--top", "100")
    assert len(rows) == 24 + 6 + 2 + 2  # the empty text of the pool is not searched
    competition = Workspace.open(root, []).competition
    texts = [text for (text,) in competition.train.texts]
    own = {row["id"]: row["cosine"] for row in rows if row["source"] == "train"}
    wanted = in_full(*(encoded(root, each) for each in (["a bad plot"], texts)))[0]
    assert [own[id_] for id_ in competition.train.ids] == pytest.approx(wanted, abs=1e-5)
    assert [row["cosine"] for row in rows] == sorted((row["cosine"] for row in rows), reverse=True)
    labels = {row["id"]: row["label"] for row in rows}
    assert labels["r0"] == "0" and labels["r1"] == "1" and labels["t0"] is None


def encoded(root: Path, texts: list[str]) -> np.ndarray:
    from foldstack.stages.text_encoding import encoding_of

    encoding = encoding_of(Workspace.open(root, []), None, None, None)
    return np.concatenate([encoding.vectors([text]) for text in texts])


def test_a_table_shows_them(root, capsys):
    assert foldstack(root, "index") == 0
    capsys.readouterr()
    assert foldstack(root, "search", "--text", "a good film", "--top", "2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "search: 33 texts by the vectors of minilm-vectors",
        "cosine  source    id          label  text",
        "------  --------  ----------  -----  -----------",
        "1.0000  pool      pool.csv:1         a good film",
        "1.0000  external  more.csv:1  1      a good film",
    ]


def test_each_text_of_a_file_is_searched(root, capsys):
    assert foldstack(root, "index") == 0
    new = write(root / "new.csv", "id,text\nx,a good film\ny,a bad plot\n")
    rows = found_by(root, capsys, "--file", str(new), "--top", "2")
    assert [row["query"] for row in rows] == ["x", "x", "y", "y"]
    for query, text in (("x", "a good film"), ("y", "a bad plot")):
        alone = found_by(root, capsys, "--text", text, "--top", "2")
        own = [row | {"query": None} for row in rows if row["query"] == query]
        assert [row.pop("cosine") for row in own] == pytest.approx(
            [row.pop("cosine") for row in alone]
        )
        assert own == alone


def test_a_second_call_has_nothing_to_do(root, capsys):
    assert foldstack(root, "index") == 0
    before = files(root / "oof")
    capsys.readouterr()
    assert foldstack(root, "index") == 0
    assert "index: nothing to do" in capsys.readouterr().out
    assert files(root / "oof") == before


def test_a_killed_index_computes_the_rest_only(root, monkeypatch):
    """And ends with the same bytes; vectors are kept in parts."""
    for module in ("foldstack.stages.index", "foldstack.text.vector_cache"):
        monkeypatch.setattr(f"{module}.PART", 10)
    fill, read = frozen.fill, []

    def stopping(net, tokens, flat, autocast):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(len(flat))
        return fill(net, tokens, flat, autocast)

    monkeypatch.setattr(frozen, "fill", stopping)
    with pytest.raises(KeyboardInterrupt):
        raise_interrupt(root)
    assert read == [10, 10] and not (root / "oof/.index/index.json").exists()
    monkeypatch.setattr(frozen, "fill", lambda *given: read.append(len(given[2])) or fill(*given))
    assert foldstack(root, "index") == 0 and read == [10, 10, 10, 3]
    made = files(root / "oof/.index")
    (root / "oof/.index/index.json").unlink()
    assert foldstack(root, "index") == 0 and read == [10, 10, 10, 3]
    assert files(root / "oof/.index") == made


def test_an_index_killed_between_its_files_is_made_again(root, monkeypatch, capsys):
    """The new vectors stand beside the record of another test file's."""
    test = root / "input/test.csv"
    today = test.read_text()
    assert foldstack(root, "index") == 0
    wanted = files(root / "oof/.index")
    write(test, today.replace("film", "song"))
    assert foldstack(root, "index") == 0
    write(test, today)

    def stopping(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("foldstack.store.index_files.write_record", stopping)
        raise_interrupt(root)
    capsys.readouterr()
    sentence = "the index is stale, since the test rows have changed: run `make index` again"
    refuses(root, ["search", "--text", "a good film"], sentence, capsys)
    assert foldstack(root, "index") == 0 and files(root / "oof/.index") == wanted
    assert foldstack(root, "search", "--text", "a good film") == 0


def raise_interrupt(root: Path) -> None:
    from foldstack.stages.index import make_index

    make_index(Workspace.open(root, []))


def test_clean_removes_it(root):
    assert foldstack(root, "index") == foldstack(root, "clean", "oof") == 0
    assert not (root / "oof/.index").exists()


# Stale and bad


def test_without_an_index(root, capsys):
    sentence = "there is no index of vectors yet: run `make index` first"
    refuses(root, ["search", "--text", "a good film"], sentence, capsys)


@pytest.mark.parametrize("source", ["train", "test", "pool", "external"])
def test_an_index_of_other_rows_is_stale(root, capsys, source):
    assert foldstack(root, "index") == 0
    name = {"pool": "pool.csv", "external": "more.csv"}.get(source, f"{source}.csv")
    path = root / "input" / name
    path.write_text(path.read_text().replace("film", "song"))
    capsys.readouterr()
    refuses(
        root,
        ["search", "--text", "a good film"],
        f"the index is stale, since the {source} rows have changed: run `make index` again",
        capsys,
    )
    assert foldstack(root, "index") == foldstack(root, "search", "--text", "a good film") == 0


def test_another_label_makes_no_index_stale(root, capsys):
    assert foldstack(root, "index") == 0
    turn_labels(root, {"r1"})
    rows = found_by(root, capsys, "--text", "a good film", "--top", "100")
    assert {row["id"]: row["label"] for row in rows}["r1"] == "0"


def test_an_index_of_another_model_is_stale(root, backbone, capsys):
    assert foldstack(root, "index") == 0
    with_backbone(root, backbone, head="max")
    capsys.readouterr()
    refuses(
        root,
        ["search", "--text", "a good film"],
        "the index is stale, since model 'minilm-vectors' has changed: run `make index` again",
        capsys,
    )


def test_a_damaged_index_is_refused(root, capsys):
    assert foldstack(root, "index") == 0
    Store(root).index_vectors_path.write_bytes(b"x")
    capsys.readouterr()
    refuses(
        root,
        ["search", "--text", "a good film"],
        "oof/.index/vectors.npy is damaged (it is not as its record says): run `make index "
        "MODEL=minilm-vectors` again",
        capsys,
    )
    assert foldstack(root, "index") == foldstack(root, "search", "--text", "a good film") == 0


@pytest.mark.parametrize(
    "args, sentence",
    [
        ([], 'search takes either TEXT="…" or FILE=new.csv (--text, --file)'),
        (["--text", " "], "the text is empty: write what to look for"),
        (["--file", "no.csv"], "FILE=no.csv is not a file: give the path of one"),
    ],
)
def test_what_is_no_search(root, capsys, args, sentence):
    assert foldstack(root, "index") == 0
    capsys.readouterr()
    refuses(root, ["search", *args], sentence, capsys)


def test_no_rows_are_no_search(root, capsys):
    sentence = "--top (TOP=): '0' is not a whole number of 1 or more"
    refuses(root, ["search", "--text", "a", "--top", "0"], sentence, capsys)


def test_an_empty_text_in_a_file_is_refused(root, capsys):
    assert foldstack(root, "index") == 0
    new = write(root / "new.csv", 'id,text\nx,a good film\ny," "\n')
    capsys.readouterr()
    sentence = f"{new}: row 'y' has an empty text: remove it"
    refuses(root, ["search", "--file", str(new)], sentence, capsys)


@pytest.mark.parametrize(
    "args, sentence",
    [
        (
            ["--model", "tfidf"],
            "model 'tfidf' gives a text no vector: take minilm-vectors, another model of learner "
            "vectors with source backbone, or one of learner biencoder",
        ),
        (
            ["--fold", "0"],
            "the vectors of 'minilm-vectors' are those of its backbone, whatever the run: leave FOLD "
            "and SEED out",
        ),
    ],
)
def test_a_model_without_vectors(root, capsys, args, sentence):
    refuses(root, ["index", *args], sentence, capsys)


def test_a_missing_package_is_named(root, capsys):
    with_backbone(root, Path("package:no_such_package/model"))
    sentence = (
        "backbone 'package:no_such_package/model': the package no_such_package is not installed: "
        "pip install no-such-package"
    )
    refuses(root, ["index"], sentence, capsys)


# A bi-encoder


@pytest.fixture
def pairs(backbone, tmp_path) -> Path:
    """24 pairs in three folds and a bi-encoder, `pairs`."""
    root = make_workspace(
        tmp_path / "w", text=["one", "two"], pair=True, models=["pairs"], runtime={"threads": 1}
    )
    for name in ("train", "test"):
        header, *lines = (root / f"input/{name}.csv").read_text().splitlines()
        header = header.replace("text", "one,two")
        cells = [line.split(",", 2) for line in lines]
        rows = [",".join([i, text, "so " + text, *label]) for i, text, *label in cells]
        write(root / f"input/{name}.csv", "\n".join([header, *rows]) + "\n")
    training = {"epochs": 1, "batch_size": 8, "max_length": 16, "precision": "fp32"}
    preset = {"learner": "biencoder", "backbone": str(backbone), "training": training}
    write(root / "presets/pairs.yaml", yaml.safe_dump(preset))
    assert foldstack(root, "folds") == 0
    return root


def test_the_vectors_of_a_run_are_those_that_it_compares(pairs, capsys):
    """The cosine of a pair's two sentences is the bi-encoder's own."""
    from foldstack.stages.fitted import load_learner
    from foldstack.store import RunKey
    from foldstack.text.pairs import PairTokens

    assert foldstack(pairs, "train", "--model", "pairs", "--fold", "0") == 0
    assert foldstack(pairs, "index", "--model", "pairs", "--fold", "0") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "index: 60 different texts of 24 train, 6 test rows, vectors of 16 numbers by pairs "
        "seed0/fold0 in fp32, in oof/.index"
    )
    ws = Workspace.open(pairs, [])
    learner = load_learner(ws, RunKey("pairs", 0, (0,)), 1)
    tokens: PairTokens = learner.encoder.tokens(ws.competition.train)
    own = learner._scores(learner.model, tokens, "")[:, 0]
    for row in (0, 5):
        first, second = ws.competition.train.texts[row]
        found = found_by(pairs, capsys, "--text", first, "--top", "100")
        assert (found[0]["id"], found[0]["segment"]) == (f"r{row}", 1)
        (other,) = [each for each in found if each["text"] == second]
        assert other["segment"] == 2
        assert other["cosine"] == pytest.approx(own[row], abs=1e-5)


def test_a_run_trained_again_makes_it_stale(pairs, capsys):
    for command in (["train", "--model", "pairs", "--fold", "0"], ["index", "--model", "pairs"]):
        foldstack(pairs, *command)
    assert capsys.readouterr().err == (
        "foldstack: pairs seed 0 full is not trained: run `make train MODEL=pairs FOLD=full SEED=0`, or "
        "name a run that is (FOLD=, SEED=)\n"
    )
    assert foldstack(pairs, "index", "--model", "pairs", "--fold", "0") == 0
    again = ["--set", "training.epochs=2", "train", "--model", "pairs", "--fold", "0", "--force"]
    assert foldstack(pairs, *again) == 0
    capsys.readouterr()
    refuses(
        pairs,
        ["search", "--text", "a good film"],
        "the index is stale, since model 'pairs' has changed: run `make index MODEL=pairs FOLD=0 "
        "SEED=0` again",
        capsys,
    )


def test_several_runs_have_no_index(pairs, capsys):
    sentence = "an index has the vectors of one run: name one FOLD and one SEED"
    refuses(pairs, ["index", "--model", "pairs", "--fold", "0,1"], sentence, capsys)


def test_a_mean_of_fits_has_no_vector(pairs, capsys):
    preset = yaml.safe_load((pairs / "presets/pairs.yaml").read_text())
    write(pairs / "presets/pairs.yaml", yaml.safe_dump(preset | {"repeats": 2}))
    assert foldstack(pairs, "train", "--model", "pairs", "--fold", "0") == 0
    capsys.readouterr()
    refuses(
        pairs,
        ["index", "--model", "pairs", "--fold", "0"],
        "pairs seed 0 fold0 is the mean of several fits (`repeats`), each with vectors of its own: take "
        "a model with repeats 1",
        capsys,
    )


def test_the_record_says_what_it_is_of(root):
    assert foldstack(root, "index") == 0
    record = read_json(root / "oof/.index/index.json")
    assert record["rows"] == {"train": 24, "test": 6, "pool": 3, "external": 2}
    assert set(record) == {
        "version", "model", "run", "content", "precision", "texts", "size", "rows", "hashes",
        "sha256", "digest",
    }  # fmt: skip
