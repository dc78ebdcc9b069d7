"""A blend as a folder that predicts where there is no network, no workspace and no foldstack."""

from __future__ import annotations

import fcntl
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foldstack.bundle import weights
from foldstack.bundle.infer import Bundle, Inference, infer, main, order
from foldstack.bundle.manifest import BundledRun
from foldstack.bundle.shipped import ShippedCompetition
from foldstack.bundle.vendored import IMAGE, closure
from foldstack.ensemble.nesting import Nesting
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.stages.bundle import _too_slow
from tiny import (
    add_preset,
    files,
    foldstack,
    go_through,
    make_kind,
    make_workspace,
    refuses,
    sentences,
    write,
    write_competition,
)

FP32 = {"precision": "fp32"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A blend of a linear model and a tiny transformer, submitted and bundled."""
    root = make_workspace(tmp_path_factory.mktemp("bundle") / "w", n=30)
    add_preset(root, backbone, training=FP32)
    write_competition(root, models=["tfidf", "tiny"], blend={"methods": ["mean"]})
    go_through(root)
    assert foldstack(root, "bundle") == 0
    return root


def many(folder: Path, rows: int) -> Path:
    """A folder as a competition mounts it, with this number of test rows."""
    texts = [text for text, _ in sentences(rows)]
    table = pd.DataFrame({"id": [f"n{i}" for i in range(rows)], "text": texts})
    folder.mkdir(parents=True)
    table.to_csv(folder / "test.csv", index=False)
    write(folder / "sample_submission.csv", "id,label\nn0,0\n")
    return folder


def predict(root: Path, folder: Path, work: Path, *options: str) -> pd.DataFrame:
    """What the bundle writes for a folder, in this process."""
    out = work / "submission.csv"
    given = [f"--input={folder}", f"--out={out}", f"--work={work / 'partial'}", *options]
    infer(root / "bundle/blend", given, time.monotonic())
    return pd.read_csv(out, dtype={"id": str})


# --- where a competition runs -------------------------------------------------------------------


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has nothing but torch, transformers and the like."""
    place = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    packages = place / "packages"
    packages.mkdir()
    for each in closure(IMAGE).values():
        for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(each.locate_file(top)))
    (site,) = (place / "venv/lib").glob("python*/site-packages")
    (site / "image.pth").write_text(f"{packages}\n")
    return place / "venv/bin/python"


def without_network() -> list[str]:
    command = ["unshare", "-rnm"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*command, "true"], capture_output=True).returncode
    ):
        pytest.skip("unshare -n is not allowed here")
    return command


@pytest.mark.parametrize("rows", [pytest.param(3, marks=pytest.mark.slow), 5_000])
def test_an_image_without_network_predicts_what_submit_writes(
    root: Path, image: Path, tmp_path: Path, rows: int
) -> None:
    """Input and bundle are mounted read-only; the rows are predicted by `rerun`, too."""
    folder, work = many(tmp_path / "input", rows), tmp_path / "work"
    work.mkdir()
    bundle = root / "bundle/blend"
    mount = "; ".join(
        f"mount --bind {place} {place} && mount -o remount,bind,ro {place}"
        for place in (folder, bundle)
    )
    script = f"{mount}; cd {work} && exec {image} {bundle}/infer.py --input {folder}"
    done = subprocess.run(
        [*without_network(), "sh", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"infer: {rows:,} rows of {folder}/test.csv, about ")
    assert lines[-1] == "infer: 6 of 6 runs, submission.csv holds tfidf (3 runs), tiny (3 runs)"
    found = pd.read_csv(work / "submission.csv")
    assert foldstack(root, "rerun", "--test", str(folder / "test.csv")) == 0
    wanted = pd.read_csv(root / "submissions/blend-test.csv")
    assert found["id"].tolist() == wanted["id"].tolist()
    np.testing.assert_allclose(found["label"], wanted["label"], atol=1e-5)


def test_the_notebook_runs_the_script(root: Path) -> None:
    notebook = json.loads((root / "bundle/blend/infer.ipynb").read_text())
    (cell,) = notebook["cells"]
    compile("".join(cell["source"]), "infer.ipynb", "exec")
    with zipfile.ZipFile(root / "bundle/blend.zip") as packed:
        assert {"infer.py", "infer.ipynb", "bundle.json"} <= set(packed.namelist())


def test_a_workspace_may_be_named_relative_to_where_one_is(
    finished: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """As `make bundle` names it: here. The script is tried in another folder."""
    other = Path(shutil.copytree(finished, tmp_path / "w", ignore=shutil.ignore_patterns("bundle")))
    monkeypatch.chdir(other)
    assert foldstack(Path("."), "bundle") == 0
    assert "bundle: bundle/blend/, " in capsys.readouterr().out


# --- time -----------------------------------------------------------------------------------------


def test_a_valid_file_exists_from_the_first_run_on(root: Path, tmp_path: Path, monkeypatch) -> None:
    """After the first run its model alone, after the first of each model the blend."""
    folder = many(tmp_path / "input", 4)
    held: list[str] = []
    plain = Inference.write

    def write_and_look(self: Inference, done: Sequence[BundledRun]) -> str:
        used = plain(self, done)
        assert pd.read_csv(self.out)["label"].between(0, 1).all()
        held.append(used)
        return used

    monkeypatch.setattr(Inference, "write", write_and_look)
    predict(root, folder, tmp_path)
    assert held[0] == "tfidf (1 run)" and held[-1] == "tfidf (3 runs), tiny (3 runs)"
    assert "tfidf (1 run), tiny (1 run)" in held[:3]


def test_runs_that_would_end_too_late_are_left_out(root: Path, tmp_path: Path, capsys) -> None:
    folder = many(tmp_path / "input", 4)
    bundle = Bundle.open(root / "bundle/blend")
    slow = [
        run.model_copy(update={"load_seconds": 3600.0}) if run.model == "tiny" else run
        for run in bundle.record.runs
    ]
    record = bundle.record.model_copy(update={"runs": slow})
    competition = ShippedCompetition.of(bundle.root, record, folder)
    made = Inference(
        Bundle(bundle.root, record),
        competition,
        folder / "test.csv",
        tmp_path / "partial",
        tmp_path / "submission.csv",
        threads=1,
        deadline=time.monotonic() + 300,
    )
    assert [run.model for run in made.run()] == ["tfidf"] * 3
    assert "infer: tiny seed 0 fold0 is left out: it takes about " in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "submission.csv")) == 4


def test_it_resumes_from_finished_chunks_but_not_for_another_file(
    root: Path, tmp_path: Path, monkeypatch
) -> None:
    loaded: list[str] = []
    plain = Bundle.load
    monkeypatch.setattr(
        Bundle, "load", lambda self, run, *args: loaded.append(run.name) or plain(self, run, *args)
    )
    first = many(tmp_path / "a", 4)
    wanted = predict(root, first, tmp_path)
    assert len(loaded) == 6
    pd.testing.assert_frame_equal(predict(root, first, tmp_path), wanted)
    assert len(loaded) == 6
    predict(root, many(tmp_path / "b", 5), tmp_path)
    assert len(loaded) == 12


def test_a_partial_prediction_that_is_damaged_is_made_again(
    root: Path, tmp_path: Path, capsys
) -> None:
    """A machine that lost power leaves files with wrong bytes, whose times are right."""
    folder, partial = many(tmp_path / "input", 4), tmp_path / "partial"
    wanted = predict(root, folder, tmp_path)
    file = next(partial.glob("0-tfidf-*.npy"))
    for damage in (
        file.read_bytes()[:-1],
        b"",
        pickle.dumps(0),
        array_bytes(np.zeros((5, 1))),
        array_bytes(np.full((4, 1), np.nan)),
    ):
        file.write_bytes(damage)
        capsys.readouterr()
        pd.testing.assert_frame_equal(predict(root, folder, tmp_path), wanted)
        assert f"infer: {file} is damaged: predicting its rows again\n" in capsys.readouterr().out
    (partial / "about.json").write_bytes(b"\xff{")
    pd.testing.assert_frame_equal(predict(root, folder, tmp_path), wanted)
    assert "damaged" not in capsys.readouterr().out


def array_bytes(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, values)
    return written.getvalue()


def test_an_error_of_the_machine_is_a_sentence(root: Path, tmp_path: Path, capsys) -> None:
    work = write(tmp_path / "work", "a file")
    given = [f"--input={many(tmp_path / 'input', 3)}", f"--work={work}"]
    assert main(root / "bundle/blend", given, time.monotonic()) == 2
    assert capsys.readouterr().err == (
        f"infer: {work}: a file is where a folder is expected: move it away, or take another folder\n"
    )


@pytest.mark.parametrize(
    "option, sentence",
    [
        ("--threads=-3", "'-3' is not 0, for all cores, or a number of threads"),
        ("--threads=two", "'two' is not 0, for all cores, or a number of threads"),
        ("--minutes=0", "'0' is not a number above 0"),
        ("--minutes=nan", "'nan' is not a number above 0"),
        ("--minutes=an hour", "'an hour' is not a number above 0"),
    ],
)
def test_options_that_make_no_sense(capsys, option: str, sentence: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(Path("nowhere"), [option], time.monotonic())
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument {option.split('=')[0]}: {sentence}\n")


def test_the_order_of_runs() -> None:
    """The quickest first, then one of each model, the most valuable first."""

    def run(model: str, fold: int, seconds: float) -> BundledRun:
        name = f"seed0/fold{fold}"
        return BundledRun(model=model, name=name, folder="", settings={}, row_seconds=seconds)

    runs = [run(m, f, s) for m, s in (("big", 3.0), ("tfidf", 0.1), ("small", 1.0)) for f in (0, 1)]
    found = order(runs, {"big": 0.6, "tfidf": 0.1, "small": 0.3})
    assert [(each.model, each.name[-1]) for each in found] == [
        ("tfidf", "0"), ("big", "0"), ("small", "0"), ("big", "1"), ("small", "1"), ("tfidf", "1"),
    ]  # fmt: skip
    value = {"big": 0.6, "tfidf": 0.1, "small": 0.3}
    assert _too_slow(value, runs, limit=630, rows=100) == ["tfidf", "small"]
    assert _too_slow(value, runs, limit=820, rows=100) == []
    sentence = (
        "big alone takes about 10.0 minutes for 100 rows, which TIME_LIMIT=1 does not allow: "
    )
    with pytest.raises(InputError, match=sentence):
        _too_slow(value, runs, limit=60, rows=100)


def test_a_time_limit_drops_models_and_says_the_score_of_the_others(
    root: Path, monkeypatch, capsys
) -> None:
    times = {"tfidf": (0.1, 0.001), "tiny": (1.0, 1.0)}
    monkeypatch.setattr("foldstack.stages.bundle.times_of", lambda ws, key, rows: times[key.model])
    args = ["bundle", "--time-limit", "1", "--rows", "100"]
    assert foldstack(root, *args) == 0
    said = capsys.readouterr().out
    assert (
        "bundle: without tiny, which the time limit does not allow, the nested roc_auc is " in said
    )
    assert "; stored as blend 'blend-short'" in said
    assert Bundle.open(root / "bundle/blend-short").record.minutes == 1


def test_the_first_run_predicts_whatever_the_time(root: Path, tmp_path: Path, capsys) -> None:
    """Without it there would be no submission at all."""
    found = predict(root, many(tmp_path / "input", 4), tmp_path, "--minutes=0.0001")
    assert found["id"].tolist() == ["n0", "n1", "n2", "n3"]
    said = capsys.readouterr().out
    assert "infer: 1 of 6 runs, submission.csv holds tfidf (1 run)" in said
    assert said.count("is left out: it takes about ") == 5


def test_a_work_folder_with_other_files_is_left_as_it_is(root: Path, tmp_path: Path) -> None:
    mine = write(tmp_path / "partial/thesis.txt", "mine")
    sentence = f"{mine} is no partial prediction: name a new or an empty folder with --work"
    with pytest.raises(InputError, match=re.escape(sentence)):
        predict(root, many(tmp_path / "input", 4), tmp_path)
    assert files(tmp_path / "partial") == {"thesis.txt": b"mine"}


def test_two_at_once_in_one_work_folder_wait_for_each_other(
    root: Path, tmp_path: Path, monkeypatch
) -> None:
    held: list[bool] = []

    def look(self: Inference, done: Sequence[BundledRun]) -> str:
        with (self.work / ".lock").open("a") as f, pytest.raises(BlockingIOError):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.append(True)
        return plain(self, done)

    plain = Inference.write
    monkeypatch.setattr(Inference, "write", look)
    predict(root, many(tmp_path / "input", 4), tmp_path)
    assert len(held) == 6


# --- smaller weights ------------------------------------------------------------------------------


def test_int8_weights_are_within_half_a_step_of_each_row() -> None:
    torch.manual_seed(0)
    given = {"w": torch.randn(4, 8), "b": torch.randn(4), "n": torch.arange(3)}
    packed = weights._quantised(given)
    found = weights.restored(packed)
    step = given["w"].abs().amax(dim=1, keepdim=True) / 127
    assert packed["w"].dtype == torch.int8 and found.keys() == given.keys()
    assert ((found["w"] - given["w"]).abs() <= step / 2 + 1e-7).all()
    assert torch.equal(found["b"], given["b"]) and torch.equal(found["n"], given["n"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_smaller_weights_take_less_and_say_what_they_change(
    root: Path, tmp_path: Path, form: str, capsys
) -> None:
    def size(of: Path) -> int:
        return sum(p.stat().st_size for p in (of / "bundle/blend/models").rglob("classifier*"))

    other = Path(shutil.copytree(root, tmp_path / "w"))
    capsys.readouterr()
    assert foldstack(other, "bundle", "--weights", form) == 0
    said = capsys.readouterr().out
    assert size(other) < 0.75 * size(root) and f"weights in {form}" in said
    different = float(said.split("differ from the submission's by at most ")[1].split(",")[0])
    assert 1e-8 < different < 0.05


# --- every kind -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "metric", "columns", "method"),
    [
        ("binary", "f1", ["label"], "stack"),
        pytest.param(
            "multiclass",
            "log_loss",
            ["other", "bad", "good"],
            "geometric_mean",
            marks=pytest.mark.slow,
        ),
        pytest.param("binary", "roc_auc", ["label"], "rank_mean", marks=pytest.mark.slow),
        pytest.param("multiclass", "accuracy", ["label"], "stack_linear", marks=pytest.mark.slow),
        pytest.param(
            "multilabel", "f1_macro", ["p", "q", "r"], "weights_per_label", marks=pytest.mark.slow
        ),
    ],
)
def test_kinds_and_blends(tmp_path: Path, monkeypatch, kind, metric, columns, method) -> None:
    plain = Nesting.choose
    last = lambda self, parts: replace(plain(self, parts), winner=len(self.candidates) - 1)  # noqa: E731
    monkeypatch.setattr(Nesting, "choose", last)  # the method, which is listed last
    root = make_kind(tmp_path / "w", kind, metric, columns)
    target = ["p", "q", "r"] if kind == "multilabel" else ["label"]
    two = ["tfidf", {"other": {"preset": "tfidf", "C": 2.0}}]
    settings = {"methods": [method], "calibration": "none"}
    write_competition(root, kind=kind, metric=metric, target=target, models=two, blend=settings)
    go_through(root)
    assert foldstack(root, "bundle") == 0
    assert Bundle.open(root / "bundle/blend").record.blend.winner == method
    found = predict(root, root / "input", tmp_path).set_index("id")
    wanted = pd.read_csv(root / "submissions/blend.csv", dtype={"id": str}).set_index("id")
    pd.testing.assert_frame_equal(found.loc[wanted.index], wanted, atol=1e-5)


def test_files_that_are_no_plain_csv(tmp_path: Path) -> None:
    """In a folder below, GBK, tabs, no header, packed, with texts of a second file beside `data`."""
    root = make_workspace(tmp_path / "w", n=30)
    table = pd.read_csv(root / "input/test.csv", dtype=str)
    test, keys = root / "input/data/test.tsv.gz", [f"k{i}" for i in range(6)]
    test.parent.mkdir()
    (root / "input/test.csv").unlink()
    table.assign(key=keys)[["id", "key"]].to_csv(test, sep="\t", header=False, index=False)
    train = pd.read_csv(root / "input/train.csv", dtype=str)
    train = train.assign(key=[f"r{i}" for i in range(30)])
    both = pd.DataFrame({"key": [*train.key, *keys], "text": [*train.text, *table.text]})
    both.assign(text=both.text + " 好").to_csv(
        root / "input/texts.csv", index=False, encoding="gbk"
    )
    train.drop(columns="text").to_csv(root / "input/train.csv", index=False)
    write_competition(
        root,
        files={"test": "data/test.tsv.gz"},
        encoding="gbk",
        header={"data/test.tsv.gz": False},
        columns={"data/test.tsv.gz": {"c1": "id", "c2": "key"}},
        join=[{"file": "texts.csv", "on": "key"}],
    )
    go_through(root)
    assert foldstack(root, "bundle") == 0
    found = predict(root, root / "input", tmp_path).set_index("id")
    wanted = pd.read_csv(root / "submissions/blend.csv", dtype={"id": str}).set_index("id")
    pd.testing.assert_frame_equal(found, wanted.loc[found.index], atol=1e-5)


def test_patterns_decide_as_in_submit(tmp_path: Path, capsys) -> None:
    """A rule, a text of a file in input/ that no competition mounts, and the nearest training text."""
    root = make_workspace(tmp_path / "w", n=30)
    write(root / "input/known.csv", "id,text,label\nk,a truly odd one,1\n")
    write(
        root / "patterns.yaml",
        "nearest: {below: 0.99, similarity: 0.9, confidence: 0.99}\n"
        "rules: [{pattern: bad, label: '0'}, {texts: known.csv}]",
    )
    write_competition(root, patterns="patterns.yaml")
    go_through(root)
    assert foldstack(root, "bundle") == 0
    assert ", 0 are decided otherwise" in capsys.readouterr().out
    train = pd.read_csv(root / "input/train.csv", dtype=str)
    texts = ["a bad one", "a truly odd one", *train.text]
    new = pd.DataFrame({"id": [f"n{i}" for i in range(len(texts))], "text": texts})
    for folder in ("input", "mounted"):
        (tmp_path / folder).mkdir()
        new.to_csv(tmp_path / folder / "test.csv", index=False)
    found = predict(root, tmp_path / "mounted", tmp_path)
    assert found.label[:2].round(2).tolist() == [0.05, 0.95]
    assert foldstack(root, "rerun", "--test", str(tmp_path / "input/test.csv")) == 0
    wanted = pd.read_csv(root / "submissions/blend-test.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(found, wanted, atol=1e-5)
    record = read_json(root / "submissions/blend-test.json")
    assert record["note"].endswith("; the estimate is that of the blend without patterns.yaml")


# --- bad input ------------------------------------------------------------------------------------


def test_what_cannot_be_bundled(finished: Path, capsys) -> None:
    sentence = "WEIGHTS=fp8 is not known: choose among fp32, fp16, int8"
    refuses(finished, ["bundle", "--weights", "fp8"], sentence, capsys)
    sentence = (
        "oof/_blends/other does not exist: run `make blend NAME=other` first, or name a MODEL"
    )
    refuses(finished, ["bundle", "--name", "other"], sentence, capsys)
    shutil.rmtree(finished / "bundle", ignore_errors=True)  # of another test
    write(finished / "bundle/blend/notes.txt", "mine")
    sentence = "bundle/blend is there already and `bundle` did not write it: move it away"
    refuses(finished, ["bundle"], sentence, capsys)
    assert (finished / "bundle/blend/notes.txt").read_text() == "mine"
    shutil.rmtree(finished / "bundle/blend")
    write(finished / "bundle/blend.zip", "mine")
    sentence = "bundle/blend.zip is there already and `bundle` did not write it: move it away"
    refuses(finished, ["bundle"], sentence, capsys)


def test_a_test_file_that_is_not_there_or_twice(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    remedy = "name the folder of the competition's files with --input"
    with pytest.raises(InputError, match=f"test.csv is nowhere in .*/empty: {remedy}"):
        predict(root, tmp_path / "empty", tmp_path)
    for name in ("a", "b"):
        many(tmp_path / "both" / name, 3)
    with pytest.raises(
        InputError, match=f"test.csv is both .*/a/test.csv and .*/b/test.csv: {remedy}"
    ):
        predict(root, tmp_path / "both", tmp_path)


@pytest.mark.parametrize("what", ["damaged", "missing"])
def test_a_file_that_is_not_as_it_was_written(root: Path, tmp_path: Path, what: str) -> None:
    """One bit of a weight would change predictions, and nothing would say so."""
    other = Path(shutil.copytree(root, tmp_path / "w"))
    (file,) = (other / "bundle/blend/models/tiny-seed0-fold1").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()
    if what == "damaged":
        file.write_bytes(data)
    sentence = f"models/tiny-seed0-fold1/{file.name} of the bundle is {what}: copy it again"
    with pytest.raises(InputError, match=re.escape(sentence)):
        predict(other, many(tmp_path / "input", 3), tmp_path)
    assert not (tmp_path / "partial").exists()  # nothing was predicted before


def test_a_bundle_without_its_record(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^bundle\.json of the bundle is missing: copy it again$"):
        Bundle.open(tmp_path)


def test_a_shared_file_that_is_not_as_it_was_written(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", n=30)
    write(root / "patterns.yaml", "rules: [{pattern: bad, label: '0'}]")
    write_competition(root, patterns="patterns.yaml")
    go_through(root)
    assert foldstack(root, "bundle") == 0
    file = root / "bundle/blend/patterns.json"
    write(file, file.read_text(encoding="utf-8").replace("bad", "good"))
    with pytest.raises(InputError, match=r"patterns\.json of the bundle is damaged: copy it again"):
        predict(root, root / "input", tmp_path)


def test_ids_that_repeat(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "input/test.csv", "id,text\na,good\nb,bad\na,so\n")
    with pytest.raises(InputError, match=r"test\.csv: row 3 repeats 'id' 'a'"):
        predict(root, tmp_path / "input", tmp_path)
    assert not (tmp_path / "submission.csv").exists()


def test_a_test_file_without_ids(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "input/test.csv", "text\ngood\n")
    with pytest.raises(InputError, match="column 'id' is missing"):
        predict(root, tmp_path / "input", tmp_path)
