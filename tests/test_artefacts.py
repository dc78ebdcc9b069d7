"""Damaged artefacts: one sentence that names what makes them again, and never other numbers."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from campaigns.artefacts import DAMAGES, arguments, damage, end_of, made, make_finished
from foldstack.files import read_json
from foldstack.records import RunRecord as Form
from foldstack.records import digests_of, read_mapping, write_record
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from tiny import files, foldstack, refuses

KEY = RunKey("tfidf", 0, (1,))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_finished(tmp_path_factory.mktemp("finished") / "w")


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """Two linear models on every fold, one on all rows, a stack of them and submissions."""
    return shutil.copytree(finished, tmp_path / "w")


RUN = "oof/tfidf/seed0/fold1"
# What reads each artefact, and what makes it again.
READ_BY = {
    f"{RUN}/run.json": "blend",
    f"{RUN}/heldout.parquet": "blend",
    f"{RUN}/test.parquet": "submit --model tfidf",
    f"{RUN}/model/model.json": "predict --file FILE",
    f"{RUN}/model/model.safetensors": "predict --file FILE",
    "oof/_blends/blend/blend.json": "submit",
    "oof/_blends/blend/test.parquet": "submit",
    "oof/_blends/blend/nested.parquet": "views",
    "oof/_blends/blend/labels.txt": "report",
    "oof/_blends/blend/model/stack0-0.txt": "predict --file FILE",
    "folds/folds.json": "train --fold 1",
    "folds/folds.csv": "train --fold 1",
    "submissions/blend.json": "score",
}
AGAIN = {
    RUN: "run `make train MODEL=tfidf FOLD=1 SEED=0 FORCE=1`",
    "oof/_blends/blend": "run `make blend NAME=blend` again",
    "folds": "run `make folds FORCE=1`",
    "submissions": "remove it and blend.csv, then run `make submit` again",
}


@pytest.mark.parametrize("kind", ["a bit turned", "cut short", "JSON of another form"])
@pytest.mark.parametrize("name", READ_BY)
def test_a_damaged_artefact_is_named_with_what_makes_it_again(
    root: Path, capsys, name: str, kind: str
) -> None:
    assert name in made(root)
    assert damage(root, name, kind)
    before = files(root)
    capsys.readouterr()
    assert foldstack(root, *arguments(root, READ_BY[name])) == 2
    told = capsys.readouterr().err
    assert told.startswith("foldstack: ") and told.count("\n") == 1 and Path(name).name in told
    again = next(command for place, command in AGAIN.items() if name.startswith(place))
    assert again in told
    assert files(root) == before


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (f"{RUN}/run.json", ["train --model tfidf --fold 1 --force", "blend"]),
        (f"{RUN}/model/model.safetensors", ["train --model tfidf --fold 1 --force"]),
        ("oof/_blends/blend/blend.json", ["blend", "submit"]),
        ("folds/folds.json", ["folds --force"]),
    ],
)
def test_what_the_sentence_names_does_make_it_again(root: Path, name: str, commands) -> None:
    def made_by_stages() -> dict[str, bytes]:
        """All but seconds and peak memory, which stand in run.json, and what `views` shows."""
        shown = ("run.json", "views.csv")
        return {k: v for k, v in files(root).items() if not k.endswith(shown)}

    before = made_by_stages()
    damage(root, name, "JSON of another form")
    for command in commands:
        assert foldstack(root, *arguments(root, command)) == 0
    assert made_by_stages() == before


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_model_whose_weights_changed_does_not_predict(root: Path, name: str, capsys) -> None:
    """All signs turned: a valid file of the same size, which gave other numbers with exit code 0."""
    model = root / RUN / "model"
    if name == "model.json":
        path = model / name
        path.write_text(path.read_text().replace("plot", "plat", 1))
    else:
        tensors = load_file(model / name)
        save_file(tensors | {"coef": -tensors["coef"]}, model / name)
    capsys.readouterr()
    for command in ("predict --file FILE", "predict --text good --model tfidf"):
        refuses(
            root,
            arguments(root, command),
            f"{RUN}/model/{name} is damaged (its digest does not match): run `make train MODEL=tfidf "
            "FOLD=1 SEED=0 FORCE=1`",
            capsys,
        )


def test_a_damaged_run_of_one_model_does_not_stop_the_training_of_another(root: Path) -> None:
    damage(root, f"{RUN}/run.json", "emptied")
    assert foldstack(root, "train", "--model", "other", "--fold", "0", "--force") == 0


def test_every_change_of_a_record_is_noticed(tmp_path: Path) -> None:
    """Also one that leaves it valid: a score that was made better by hand."""
    run = {
        "seed": 0,
        "left_out": [1],
        "identity": {"settings": {"learner": "tfidf"}, "folds": "a", "train": "b", "overlay": None},
        "metric": "f1",
        "score": 0.5,
        "predictions": {},
        "optimistic": [],
        "seconds": 1.0,
        "peak_memory_mb": 1,
        "machine": {},
        "versions": {},
    }
    path = tmp_path / "run.json"
    write_record(path, run)
    assert read_mapping(path, Form, "run.json", "") == run
    text = path.read_text()
    for old, new in (("0.5", "0.9"), ('"a"', '"c"'), ('"optimistic": []', '"optimistic": ["x"]')):
        path.write_text(text.replace(old, new))
        with pytest.raises(Exception, match="its digest does not match"):
            read_mapping(path, Form, "run.json", "again")
    # One of a version before digests were kept is checked for its form.
    path.write_text(json.dumps(run))
    assert read_mapping(path, Form, "run.json", "") == run
    path.write_text(json.dumps(run | {"left_out": "fold1"}))
    with pytest.raises(Exception, match="left_out: input should be a valid list"):
        read_mapping(path, Form, "run.json", "again")


def test_a_workspace_from_before_digests_were_kept_goes_on(root: Path) -> None:
    for path in [*root.glob("oof/*/*/*/run.json"), root / "oof/_blends/blend/blend.json"]:
        record = {k: v for k, v in read_json(path).items() if k not in ("files", "digest")}
        path.write_text(json.dumps(record))
    path = root / "submissions/blend.json"
    old = {"sha256", "replaces", "digest"}
    path.write_text(json.dumps({k: v for k, v in read_json(path).items() if k not in old}))
    before = (root / "submissions/blend.csv").read_bytes()
    for command in ("train", "scores", "score", "predict --file FILE", "submit", "blend", "submit"):
        assert foldstack(root, *arguments(root, command)) == 0
    assert (root / "submissions/blend.csv").read_bytes() == before


def test_a_submission_changed_by_hand_is_scored_and_said(root: Path, capsys) -> None:
    path = root / "submissions/blend.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line.split(",")[0] + ",0.5" for line in lines[1:])]))
    capsys.readouterr()
    assert foldstack(root, "score") == 0
    said = "blend: CHANGED since `submit` wrote it, so the nested score is not this file's"
    assert said in capsys.readouterr().out


def test_folds_changed_by_hand_are_refused(root: Path, capsys) -> None:
    path = root / "folds/folds.csv"
    header, first, *rest = path.read_text().splitlines()
    id_, fold = first.split(",")
    path.write_text("\n".join([header, f"{id_},{(int(fold) + 1) % 3}", *rest]) + "\n")
    ws = Workspace.open(root, [])
    hash_ = read_json(root / "folds/folds.json")["hash"]
    train = ws.competition.train
    table = dict(line.split(",") for line in path.read_text().splitlines()[1:])
    found = Store.folds_hash(train.ids, np.array([int(table[i]) for i in train.ids]))
    refuses(
        root,
        ["train"],
        f"folds/folds.csv is not as `make folds` wrote it (hash {found}, folds.json says {hash_}): run "
        "`make folds FORCE=1`, or give your own folds by `folds.file`",
        capsys,
    )


def test_a_new_test_file_leaves_the_model_and_what_rests_on_it(root: Path) -> None:
    """Its predictions and their digests change together; the model is the same file."""
    store, key = Store(root), RunKey("tfidf", 0, (0,))
    content, model = (
        store.model_content(key, store.read_run(key)),
        digests_of(store.run_dir(key) / "model"),
    )
    test = root / "input/test.csv"
    test.write_text(test.read_text().replace("a ", "one "))
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "0") == 0
    assert store.model_content(key, store.read_run(key)) == content
    assert digests_of(store.run_dir(key) / "model") == model
    assert store.stored_predictions(key, "test") is not None
    assert store.rows_hash(key, "test") == Workspace.open(root, []).competition.test.hash()


def blend_once(root: str, start: object) -> None:
    start.wait()
    raise SystemExit(foldstack(Path(root), "blend"))


def test_two_blends_at_once(root: Path) -> None:
    """Seven of nine pairs died of a FileNotFoundError."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    both = [context.Process(target=blend_once, args=(str(root), start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert foldstack(root, "submit") == 0
    left = [p.name for p in (root / "oof/_blends").iterdir() if p.suffix != ".lock"]
    assert left == ["blend"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_no_damage_gives_a_traceback(finished: Path, tmp_path: Path, kind: str) -> None:
    """The whole campaign is `python tests/campaigns/artefacts.py`."""
    for number, name in enumerate(made(finished)):
        root = shutil.copytree(finished, tmp_path / str(number))
        damage(root, name, kind)
        for command in ("train --fold 1", "blend", "submit", "scores", "predict --file FILE"):
            assert end_of(root, command) in ("ok", "sentence"), (name, command)
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("source", "place"),
    [("seed0/fold0", "seed0/fold1"), ("seed0/fold0", "seed0/full"), ("seed0", "seed1")],
)
def test_a_run_at_anothers_place_is_refused(root: Path, source: str, place: str, capsys) -> None:
    """It has learned the labels that the other leaves out, or is no second seed."""
    runs = root / "oof/tfidf"
    shutil.rmtree(runs / place, ignore_errors=True)
    shutil.copytree(runs / source, runs / place)
    capsys.readouterr()
    for command in ("blend", "scores", "submit --model tfidf --fold full"):
        assert foldstack(root, *command.split()) == 2
        told = capsys.readouterr().err
        assert "run.json is damaged (it is the record of tfidf seed 0 f" in told


def test_a_blend_at_anothers_place_is_refused(root: Path, capsys) -> None:
    shutil.copytree(root / "oof/_blends/blend", root / "oof/_blends/other")
    capsys.readouterr()
    refuses(
        root,
        ["submit", "--name", "other"],
        "oof/_blends/other/blend.json is damaged (it is the record of blend 'blend'): run `make blend "
        "NAME=other` again",
        capsys,
    )


def test_a_run_without_its_held_out_predictions_is_not_done(root: Path, capsys) -> None:
    (root / RUN / "heldout.parquet").unlink()
    capsys.readouterr()
    refuses(
        root,
        ["train", "--model", "tfidf"],
        f"{RUN}/heldout.parquet is damaged (it is missing): run `make train MODEL=tfidf FOLD=1 SEED=0 "
        "FORCE=1`",
        capsys,
    )


def test_folders_that_no_stage_would_call_so_are_left_alone(root: Path) -> None:
    """`cp -r oof/tfidf oof/.backup` stopped every later command."""
    for copy in (".backup", "tfidf copy"):
        shutil.copytree(root / "oof/tfidf", root / "oof" / copy)
    shutil.copytree(root / "oof/_blends/blend", root / "oof/_blends/my blend")
    shutil.copy(root / "submissions/blend.json", root / "submissions/my sub.json")
    shutil.copy(root / "submissions/blend.csv", root / "submissions/my sub.csv")
    for command in ("blend", "submit", "scores", "score"):
        assert foldstack(root, command) == 0
