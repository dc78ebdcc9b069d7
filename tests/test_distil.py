"""`distil`: from a blend to one small student; no run sees a label of the fold that it leaves out."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner, stored_mb
from foldstack.records import Correction, DifferenceRecord, Distilled, DistilledSide, EstimateRecord
from foldstack.stages import distil as stage
from foldstack.stages.blend import members_of
from foldstack.stages.compare import _variance_ratio
from foldstack.stages.learned import rows_of
from foldstack.stages.one_run import train_one
from foldstack.stages.oof import read_model
from foldstack.stages.predictor import Predictor
from foldstack.stages.student_plan import Plan
from foldstack.stages.student_preset import StudentPreset
from foldstack.stages.students import Limits, candidates, choose
from foldstack.store import RunKey, Store
from foldstack.views.console import show
from foldstack.workspace import Workspace
from tiny import (
    add_preset,
    files,
    foldstack,
    make_kind,
    make_workspace,
    process,
    refuses,
    run_of,
    turn_labels,
    write,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

LINEAR = "preset: tfidf\nmin_count: 1\nchar_ngrams: [0, 0]\nword_ngrams: [1, 1]\nC: 10\n"
BAYES = LINEAR + "naive_bayes: true\n"
RUNS = {f"fold{k}" for k in range(3)} | {"full"}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are trained one after the other here: starting a process takes longer than a tiny run."""

    def train_each(ws, todo, jobs, *, force, processes=1):
        for run in todo:
            train_one(ws, run, force=force)

    monkeypatch.setattr("foldstack.stages.train.train_each", train_each)


@pytest.fixture
def root(tmp_path: Path, in_this_process: None) -> Path:
    """30 rows in three folds and a blend of two linear models."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear", "bayes"])
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/bayes.yaml", BAYES)
    blended(root)
    return root


def blended(root: Path) -> Path:
    for command in ("folds", "train", "blend"):
        assert foldstack(root, command) == 0
    return root


def runs_of(root: Path, model: str) -> set[str]:
    return {key.run for key in Store(root).run_keys(model)}


def preset(root: Path, name: str = "student") -> list[str]:
    """The lines of a preset, without comments."""
    lines = (root / f"presets/{name}.yaml").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


# The whole of it


def test_a_blend_becomes_one_student(root, capsys):
    """Its members teach with equal weights, whatever weights the blend has fitted."""
    assert foldstack(root, "distil") == 0
    assert preset(root) == [
        "preset: tfidf",
        "pseudo_labels: {teachers: [linear, bayes], texts: [test]}",
        "distil: {teachers: [linear, bayes], share: 0.5}",
    ]
    assert runs_of(root, "student") == RUNS
    pairs = {"fold0-1", "fold0-2", "fold1-2"}
    assert runs_of(root, "linear") == runs_of(root, "bayes") == RUNS | pairs
    said = capsys.readouterr().out
    assert (
        "distil: student is tfidf, 0.0" in said
        and "distil: 12 runs to train, 4 of bayes, 4 of linear, 4 of student: about 0:" in said
        and "distil: presets/student.yaml is tfidf\n" in said
        and "distil: taught by linear, bayes, which count equally: weights that a blend has fitted have "
        "seen every label\n"
        in said
        and 'distil: now `make predict MODEL=student FOLD=full TEXT="…"`; its score is that of its fold '
        "runs\n"
        in said
    )
    assert foldstack(root, "predict", "--model", "student", "--fold", "full", "--text", "a b") == 0


def test_the_pool_is_learned_if_there_is_one(tmp_path, in_this_process):
    root = make_workspace(tmp_path / "w", n=30, models=["linear", "bayes"], pool=["more.csv"])
    write(root / "input/more.csv", "text\na good unheard thing\na bad unheard thing\n")
    write(root / "presets/linear.yaml", LINEAR)
    write(root / "presets/bayes.yaml", BAYES)
    blended(root)
    made = stage.distil(Workspace.open(root, []))
    assert made.measured[-1].mb == pytest.approx(made.student.mb, rel=0.01)
    assert "texts: [test, pool]" in preset(root)[1]
    train, *_ = rows_of(*run_of(root, "student"))
    assert (train.origin == "pseudo").sum() == 6 + 2


@pytest.mark.parametrize(
    "kind, metric, columns",
    [
        ("multiclass", "f1_macro", ["label"]),
        ("multilabel", "f1_micro", ["p", "q", "r"]),
        ("binary", "f1", ["label"]),
    ],
)
def test_kinds(tmp_path, in_this_process, kind, metric, columns):
    """With a decision rule the student's score is nested: the rule is fitted on the other folds."""
    root = blended(make_kind(tmp_path / "w", kind, metric, columns))
    assert foldstack(root, "distil") == 0
    assert runs_of(root, "student") == RUNS
    assert foldstack(root, "predict", "--model", "student", "--fold", "full", "--text", "a b") == 0


def test_regression_of_pairs(tmp_path, in_this_process):
    root = make_workspace(
        tmp_path / "w", n=30, kind="regression", metric="rmse", text=["text", "label2"]
    )
    for name in ("train", "test"):
        lines = (root / f"input/{name}.csv").read_text().splitlines()
        paired = [f"{line},a film {i % 3}" for i, line in enumerate(lines[1:])]
        write(root / f"input/{name}.csv", "\n".join([f"{lines[0]},label2", *paired]) + "\n")
    blended(root)
    assert foldstack(root, "distil") == 0
    assert runs_of(root, "student") == RUNS


def test_a_network_is_a_student(root):
    """A limit that only the quickest candidates are within."""
    ws = Workspace.open(root, [])
    each = {c.name: c for c in candidates(ws, ["linear"])}
    assert list(each) == [
        "tfidf",
        "textcnn",
        "fasttext",
        "tfidf of words",
        "fasttext of 10 numbers per word",
    ]
    write(root / "presets/quick.yaml", "preset: fasttext\nsize: 10\ntraining: {epochs: 1}\n")
    with_settings(root, "student", "preset: quick\n")
    assert foldstack(root, "distil") == 0
    assert Store(root).read_run(RunKey("student", 0, ())).identity.settings["learner"] == "network"


def planned(*teachers: str, of_training_rows: tuple | list = ()) -> Plan:
    """These models teach the test file's rows, and some of them training rows."""
    return Plan([*teachers], [*of_training_rows], ["test"], None, None)


def with_settings(root: Path, name: str, settings: str) -> None:
    """Let distil write its preset, and edit that before anything is trained."""
    ws = Workspace.open(root, [])
    teachers = ["linear", "bayes"]
    stage._written(ws, name, "blend", planned(*teachers, of_training_rows=teachers), Limits())
    path = root / f"presets/{name}.yaml"
    write(path, path.read_text().replace("preset: tfidf\n", settings))


def test_half_of_a_transformer_is_a_student(tmp_path, backbone, in_this_process):
    """Only within a limit: without one the student is small and quick."""
    root = make_workspace(tmp_path / "w", n=30, models=["tiny", "linear"])
    add_preset(root, backbone)
    write(root / "presets/linear.yaml", LINEAR)
    blended(root)
    assert foldstack(root, "distil", "--mb", "50") == 0
    assert preset(root)[:3] == ["preset: tiny", "start_from: tiny", "keep_every: 2"]
    assert foldstack(root, "distil", "--name", "other") == 0
    assert preset(root, "other")[0] == "preset: tfidf"


def test_seeds(tmp_path, in_this_process):
    """Those of the blend estimate the student; the one that predicts is of the first of them."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], seeds=[3, 5])
    write(root / "presets/linear.yaml", LINEAR)
    blended(root)
    assert foldstack(root, "distil") == 0
    each = {(key.seed, key.run) for key in Store(root).run_keys("student")}
    assert each == {(s, f"fold{k}") for s in (3, 5) for k in range(3)} | {(3, "full")}
    assert foldstack(root, "distil", "--name", "other", "--seed", "5") == 0
    assert {key.seed for key in Store(root).run_keys("other")} == {5}


def test_members_of_a_stack_on_text_features_teach(root):
    """The blend's own form does not matter: its members teach with equal weights."""
    settings = {"methods": ["stack"], "text_features": True}
    write_competition(root, models=["linear", "bayes"], blend=settings)
    assert foldstack(root, "blend") == 0
    assert Store(root).read_blend("blend").features.text
    assert foldstack(root, "distil") == 0
    assert runs_of(root, "student") == RUNS


# Which student


def test_the_best_candidate_within_the_limits(root, monkeypatch):
    """In the order of preference: what comes after it is not measured."""
    sizes = {"tfidf": (9, 10), "textcnn": (4, 30), "fasttext": (5, 60)}
    measures(monkeypatch, sizes)
    ws = Workspace.open(root, [])
    for limits, name in (
        (Limits(), "tfidf"),
        (Limits(mb=9), "tfidf"),
        (Limits(mb=8.9), "textcnn"),
        (Limits(rate=11), "textcnn"),
        (Limits(mb=8, rate=60), "fasttext"),
    ):
        chosen, measured = choose(ws, planned("linear"), limits)
        assert chosen.name == name == measured[-1].name
        assert [each.name for each in measured] == list(sizes)[: len(measured)]
        assert [each.fits for each in measured] == [False] * (len(measured) - 1) + [True]


def measures(monkeypatch, sizes: dict[str, tuple[float, float]]) -> None:
    """Candidates have these megabytes and rows per second, others a thousand and one."""

    def measured(ws, candidate, rows, limits):
        mb, rate = sizes.get(candidate.name, (1000, 1))
        return stage.MeasuredStudent(
            name=candidate.name, mb=mb, rate=rate, fits=limits.allow(mb, rate), fit_seconds=1.0
        )

    monkeypatch.setattr("foldstack.stages.students._measured", measured)


def test_no_candidate_within_the_limits(root, monkeypatch, capsys):
    measures(monkeypatch, {"tfidf": (9, 10), "textcnn": (4, 30), "fasttext": (5, 60)})
    small = "no student is within MB=3: the smallest, textcnn, has 4 MB on this machine"
    refuses(root, ["distil", "--mb", "3"], small, capsys)
    refuses(
        root,
        ["distil", "--mb", "4", "--rate", "61"],
        "no student is within MB=4 and RATE=61: the smallest, textcnn, has 4 MB and the quickest, "
        "fasttext, predicts 60 rows a second on this machine",
        capsys,
    )
    assert not (root / "presets/student.yaml").exists()


def test_no_candidate_that_can_be_trained(root, monkeypatch, capsys):
    def refused(*_):
        raise InputError("the backbone is missing")

    monkeypatch.setattr("foldstack.stages.students._measured", refused)
    refuses(
        root,
        ["distil"],
        "no candidate for the student can be trained here; the last, fasttext of 10 numbers per word: "
        "the backbone is missing",
        capsys,
    )


@pytest.mark.parametrize("name", ["tfidf", "fasttext", "minilm-vectors"])
def test_the_size_is_that_of_the_stored_model(root, name):
    """Measured by a few steps on all rows, and equal to that of a fitted model."""
    ws = Workspace.open(root, [])
    settings = ws.model_settings(name)
    train, context = ws.competition.train, LearnerContext(ws.competition.task)
    made = make_learner(settings, context).measure(train, 20, sized=True)
    fitted = make_learner(settings, context)
    fitted.fit(train, None, root / "work")
    assert made.mb == pytest.approx(stored_mb(fitted), rel=0.05)
    assert make_learner(settings, context).measure(train, 20).mb is None


# The right score


def test_both_sides_are_nested_and_paired(root):
    made = stage.distil(Workspace.open(root, []))
    blend = Store(root).read_blend("blend")
    assert made.blend.nested == blend.nested and made.blend.runs == 6
    ws = Workspace.open(root, [])
    found = Predictor.of_model(ws, "student", full=True)
    assert found.members == {"student": [RunKey("student", 0, ())]}
    assert made.student.runs == 1
    own = made.student.nested.score - blend.nested.score
    assert made.better_by.difference == pytest.approx(own, abs=1e-6)
    model = Store(root).run_dir(RunKey("student", 0, ())) / "model"
    assert made.student.mb == pytest.approx(sum(len(x) for x in files(model).values()) / 1e6)


def test_the_interval_counts_what_runs_share(root):
    """As `compare` does between two models: a blend of one is that model."""
    assert foldstack(root, "distil") == 0
    rows = "".join(f"t{i},a {'good' if i % 3 else 'bad'} plot n{i}\n" for i in range(60))
    write(root / "input/test.csv", "id,text\n" + rows)
    sample = "".join(f"t{i},0\n" for i in range(60))
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    for command in (
        ["train", "--force"],
        ["train", "--fold", "full,0-1,0-2,1-2", "--force"],
        ["train", "--model", "student", "--fold", "0,1,2", "--force"],
        ["blend", "--model", "linear"],
    ):
        assert foldstack(root, *command) == 0
    ws = Workspace.open(root, [])
    record, folds = Store(root).read_blend("blend"), ws.store.read_folds(ws.competition.train)
    student = members_of(ws, [read_model(ws, "student", folds)], folds)
    found = stage._variance_ratio(ws, student, "blend", record, folds)
    assert found == pytest.approx(_variance_ratio(ws, ("student", "linear"), [0], folds))
    assert 1 < found <= 2


def test_a_corrected_blend_is_compared_as_corrected(root, monkeypatch):
    """Its nested score is lower than that of its predictions, by what choosing has raised it."""
    assert foldstack(root, "distil") == 0
    ws, record = Workspace.open(root, []), Store(root).read_blend("blend")
    plain, less = (
        stage._compared(ws, "student", "blend", record.model_copy(update={"correction": c}))
        for c in (None, Correction(optimism=0.01, variance_ratio=1.0))
    )
    moved = less["better_by"].difference - plain["better_by"].difference
    assert moved == pytest.approx(0.01)
    assert less["better_by"].high - plain["better_by"].high == pytest.approx(0.01)


def test_a_full_run_predicts_with_the_rule_of_the_fold_runs(tmp_path, in_this_process):
    root = blended(make_kind(tmp_path / "w", "binary", "f1", ["label"]))
    assert foldstack(root, "train", "--fold", "full") == 0
    ws = Workspace.open(root, [])
    full, folds = (Predictor.of_model(ws, "tfidf", full=f) for f in (True, False))
    assert full.rule.to_json() == folds.rule.to_json() and full.temperatures == {}
    p = full.predict(["a good film"]).probabilities.to_numpy()
    alone = full.learner(RunKey("tfidf", 0, ())).predict(full.rows_of(["a good film"]))
    np.testing.assert_allclose(p[0, 1], 1 / (1 + np.exp(-alone[0, 0])), rtol=1e-6)
    assert assert_other(p, folds.predict(["a good film"]).probabilities.to_numpy())


def assert_other(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() > 1e-6)


def test_one_full_run_is_no_mean(root, capsys):
    """Neither its predictions nor their estimate, which the mean over fold runs would raise."""
    assert foldstack(root, "distil") == 0
    capsys.readouterr()
    assert foldstack(root, "submit", "--model", "student", "--fold", "full") == 0
    said = capsys.readouterr().out
    assert "mean" not in said and "; nested)" in said
    assert (
        "the estimate is of the fold runs; these predictions come from one run on all rows" in said
    )
    file = str(root / "input/test.csv")
    assert foldstack(root, "predict", "--model", "student", "--fold", "full", "--file", file) == 0
    assert "of student (1 run)\n" in capsys.readouterr().out


# No label of the held-out fold teaches


def bytes_of(root: Path, fold: int) -> list[bytes]:
    rows, *_ = rows_of(*run_of(root, "student", fold))
    return [rows.targets.tobytes(), rows.weights.tobytes(), repr(rows.texts).encode()]


@pytest.mark.parametrize("fold", [0, 2])
def test_turned_labels_of_the_held_out_fold_change_nothing(root, fold):
    """Bug guarded: weights of teachers that the blend has fitted, or members that it left out."""
    assert foldstack(root, "distil") == 0
    before, teachers = bytes_of(root, fold), ("linear", "bayes")
    ws, run = run_of(root, "student", fold)
    turn_labels(root, set(ws.competition.train.ids[run.folds.held_out((fold,))]))
    for name in teachers:
        for run_name in runs_of(root, name):
            options = ("--model", name, "--fold", run_name.removeprefix("fold"), "--force")
            assert foldstack(root, "train", *options) == 0
    assert foldstack(root, "blend", "--model", ",".join(teachers)) == 0
    assert foldstack(root, "distil", "--name", "again") == 0
    assert preset(root, "again") == preset(root)
    assert bytes_of(root, fold) == before


# Again, killed, edited


def test_a_second_call_trains_nothing(root, capsys):
    assert foldstack(root, "distil") == 0
    before = files(root / "oof/student") | files(root / "presets")
    capsys.readouterr()
    assert foldstack(root, "distil") == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "distil: nothing is left to train, so that no speed is measured\n"
        "distil: presets/student.yaml stands as it was written\n"
    )
    assert "rows/s" not in said and "% of its MB\n" in said
    assert files(root / "oof/student") | files(root / "presets") == before


def test_it_resumes_where_it_stopped(root, monkeypatch):
    """The candidate stays, even if another one would be chosen by now."""
    measures(monkeypatch, {"tfidf of words": (1, 10)})
    calls = []

    def stops(ws, todo, jobs, *, force, processes=1):
        for run in todo:
            calls.append(run.key)
            if len(calls) == 5:
                raise KeyboardInterrupt
            train_one(ws, run, force=force)

    with monkeypatch.context() as patch:
        patch.setattr("foldstack.stages.train.train_each", stops)
        assert foldstack(root, "distil", "--mb", "2") == 128 + signal.SIGINT
    kept, done = preset(root), files(root / "oof")
    measures(monkeypatch, {"textcnn": (1, 10)})
    assert foldstack(root, "distil", "--mb", "2") == 0
    assert preset(root) == kept
    runs = {k: v for k, v in done.items() if "/fold" in k and not k.startswith("_")}
    after = files(root / "oof")
    assert runs and {k: after[k] for k in runs} == runs


def test_a_killed_one_goes_on(tmp_path):
    """By kill -9 in the middle, in processes of their own."""
    root = make_workspace(tmp_path / "w", n=30, models=["linear"])
    write(root / "presets/linear.yaml", LINEAR)
    blended(root)
    running = process(root, "distil", "--jobs", "1", start_new_session=True)
    while not list((root / "oof").glob("*/seed0/fold0-1/run.json")):
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert foldstack(root, "distil", "--jobs", "1") == 0
    assert runs_of(root, "student") == RUNS


def test_an_edited_preset_is_trained_as_it_is(root, capsys):
    with_settings(root, "student", LINEAR)
    capsys.readouterr()
    assert foldstack(root, "distil") == 0
    said = capsys.readouterr().out
    assert "distil: presets/student.yaml was edited and is trained as it is\n" in said
    assert preset(root)[1] == "min_count: 1"
    edited = StudentPreset.read(root / "presets/student.yaml")
    assert edited == StudentPreset("make distil", True, ["linear", "bayes"])
    refuses(
        root,
        ["distil", "--mb", "3"],
        "presets/student.yaml, by `make distil`, was edited since: give another NAME=, or FORCE=1 to "
        "write over it",
        capsys,
    )
    assert foldstack(root, "distil", "--force") == 0
    assert preset(root)[:2] == [
        "preset: tfidf",
        "pseudo_labels: {teachers: [linear, bayes], texts: [test]}",
    ]


def test_a_comment_is_no_edit(root):
    with_settings(root, "student", "preset: tfidf  # the linear one\n")
    assert not StudentPreset.read(root / "presets/student.yaml").edited


def test_another_request_replaces_a_preset_without_runs(root, monkeypatch):
    measures(monkeypatch, {"textcnn": (1, 10), "tfidf": (3, 10)})
    ws = Workspace.open(root, [])
    for limits, name in ((Limits(), "tfidf"), (Limits(mb=2), "textcnn")):
        plan = planned("linear")
        request = stage._request("student", "blend", limits)
        assert stage._found(ws, "student", request, plan, False) is None
        stage._written(ws, "student", "blend", plan, limits)
        assert preset(root)[0] == f"preset: {name}"
    assert StudentPreset.read(root / "presets/student.yaml").request == "make distil MB=2"


# What is refused


def test_what_is_asked_for_wrongly(root, capsys):
    for options, sentence in (
        (["--name", "tfidf"], "NAME=tfidf is a shipped preset: give the student another name"),
        (
            ["--blend", "mine"],
            "blend 'mine' does not exist: run `make blend NAME=mine` first",
        ),
        (
            ["--debug"],
            "distil writes a preset, and DEBUG=1 copies those that are there: leave DEBUG out",
        ),
        (["--name", "all"], "NAME=all means every model: give the student another name"),
        (
            ["--seed", "1"],
            "a student has seeds of its teachers, and the members of blend 'blend' share seed 0: leave "
            "SEED= out, or train all with seed 1 and run `make blend` again",
        ),
        (
            ["--set", "C=1"],
            "distil: 'C' is a model's setting: write it into presets/student.yaml once that is there, "
            "and run `make distil` again",
        ),
        (
            ["--set", "store.keep_models=false"],
            "distil requires fitted models, but store.keep_models is false: set it to true",
        ),
        (
            ["--name", "linear"],
            "blend 'blend' contains the student 'linear' itself: run `make blend MODEL=bayes` first, or "
            "give another NAME=",
        ),
    ):
        refuses(root, ["distil", *options], sentence, capsys)
    for option in ("--mb", "--rate"):
        for value in ("0", "-3", "x", "nan"):
            sentence = f"{option} ({option[2:].upper()}=): '{value}' is not a number above 0"
            refuses(root, ["distil", f"{option}={value}"], sentence, capsys)
    assert not (root / "presets/student.yaml").exists()


def test_no_blend_yet(workspace, capsys):
    assert foldstack(workspace, "folds") == 0
    capsys.readouterr()
    refuses(workspace, ["distil"], "blend 'blend' does not exist: run `make blend` first", capsys)


def test_a_stale_blend(root, capsys):
    """Its runs are fresh, but one was trained again with other rows between: one command repairs it."""
    lines = (root / "input/train.csv").read_text()
    turn_labels(root, {"r0"})
    assert foldstack(root, "train", "--model", "bayes", "--fold", "1", "--force") == 0
    write(root / "input/train.csv", lines)
    assert foldstack(root, "train", "--model", "linear,bayes", "--force") == 0
    turn_labels(root, {"r0"})
    capsys.readouterr()
    assert foldstack(root, "distil") == 2
    assert capsys.readouterr().err.endswith(
        "run `make train MODEL=linear,bayes FOLD=0,1,2 SEED=0 FORCE=1 && make blend MODEL=linear,bayes "
        "&& make distil`\n"
    )


def test_every_stale_teacher_is_named_at_once(root, monkeypatch, capsys):
    """Before candidates are measured, with the one command that repairs all of it."""
    assert foldstack(root, "distil") == 0
    turn_labels(root, {"r0"})
    monkeypatch.setattr("foldstack.stages.students._measured", None)
    capsys.readouterr()
    assert foldstack(root, "distil", "--force") == 2
    said = capsys.readouterr().err
    runs = "FOLD=0,1,2,0-1,0-2,1-2,full SEED=0 FORCE=1"
    assert said.startswith(
        "foldstack: 14 runs cannot teach today (linear seed 0 fold0, fold1, fold2, "
    )
    assert "the first of them was made with other training rows (hash " in said
    again = "make blend MODEL=linear,bayes && make distil FORCE=1"
    assert said.endswith(f": run `make train MODEL=linear,bayes {runs} && {again}`\n")


def test_the_command_repairs_it(tmp_path, in_this_process, capsys):
    """Other folds, and a run whose fitted model was removed."""
    root = linear_alone(tmp_path, "linear")
    assert foldstack(root, "distil") == 0
    shutil.rmtree(Store(root).run_dir(RunKey("linear", 0, ())) / "model")
    assert foldstack(root, "folds", "--set", "folds.count=4", "--force") == 0
    follow(root, capsys, "--set", "folds.count=4")
    assert foldstack(root, "distil", "--set", "folds.count=4") == 0
    assert {"fold3", "fold0-3"} <= runs_of(root, "linear") and "fold3" in runs_of(root, "student")


def linear_alone(tmp_path: Path, *models: str, presets: dict | None = None, **settings) -> Path:
    """30 rows in three folds, linear models or those of these presets, trained and blended."""
    root = make_workspace(tmp_path / "w", n=30, models=[*models], **settings)
    for name in models:
        write(root / f"presets/{name}.yaml", (presets or {}).get(name, LINEAR))
    return blended(root)


def follow(root: Path, capsys, *options: str) -> None:
    """Run the commands that a refusal of `make distil` names."""
    capsys.readouterr()
    assert foldstack(root, "distil", *options) == 2
    commands = capsys.readouterr().err.split("run `")[1].split("`")[0]
    for command in commands.split(" && "):
        _, name, *given = command.replace("FORCE=1", "FORCE").split()
        pairs = (each.partition("=") for each in given)
        values = [f"--{option.lower()}{is_}{value}" for option, is_, value in pairs]
        assert foldstack(root, name, *values, *options) == 0


def test_an_edited_student_is_not_written_over_by_the_repair(root, capsys):
    with_settings(root, "student", LINEAR)
    assert foldstack(root, "distil") == 0
    turn_labels(root, {"r0"})
    capsys.readouterr()
    assert foldstack(root, "distil") == 2
    said = capsys.readouterr().err
    assert "MODEL=student FOLD=0,1,2,full SEED=0 FORCE=1 && make blend" in said
    assert said.endswith(" && make distil`\n")


# Members that cannot teach, or teach otherwise than their preset says


def test_a_distilled_member_of_three_folds_teaches_no_training_rows(
    tmp_path, in_this_process, capsys
):
    """Its runs that leave two folds out need teachers that leave three out."""
    pupil = LINEAR + "distil: {teachers: linear}\n"
    root = linear_alone(tmp_path, "linear", "pupil", presets={"pupil": pupil})
    capsys.readouterr()
    assert foldstack(root, "distil") == 0
    assert preset(root)[1:] == [
        "pseudo_labels: {teachers: [linear, pupil], texts: [test]}",
        "distil: {teachers: [linear], share: 0.5}",
    ]
    note = (
        "pupil teaches no training rows: pupil seed 0 fold0-1: distil is by runs that leave 3 folds "
        "out, which are all: set folds.count to more (with DEBUG=1 by SET=folds.count=), or leave "
        "distil out"
    )
    assert f"distil: {note}\n" in capsys.readouterr().out
    assert f"# {note}.\n" in (root / "presets/student.yaml").read_text()
    assert foldstack(root, "blend", "--model", "pupil") == 0
    assert foldstack(root, "distil", "--name", "other") == 0
    assert preset(root, "other")[1:] == ["pseudo_labels: {teachers: [pupil], texts: [test]}"]
    why = "no member has the runs that leave two folds out"
    assert f"distil: it learns pseudo-labels alone, since {why}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "own",
    ["distil: {teachers: linear}", "pseudo_labels: {teachers: linear, fitted: [calibration]}"],
)
def test_a_distilled_member_of_four_folds_teaches_all(tmp_path, in_this_process, own):
    presets = {"pupil": f"{LINEAR}{own}\n"}
    root = linear_alone(tmp_path, "linear", "pupil", presets=presets, folds={"count": 4})
    assert foldstack(root, "distil") == 0
    assert preset(root)[2] == "distil: {teachers: [linear, pupil], share: 0.5}"
    assert {"fold0-1-2", "fold1-2-3"} <= runs_of(root, "linear")


def test_a_member_without_a_run_on_all_rows_does_not_teach(tmp_path, in_this_process, capsys):
    quick = "preset: fasttext\nsize: 10\nngrams: 1\ntraining: {epochs: 1, select: fold}\n"
    root = linear_alone(tmp_path, "linear", "quick", presets={"quick": quick})
    capsys.readouterr()
    assert foldstack(root, "distil") == 0
    assert "distil: quick does not teach: quick seed 0 full: training.select=fold chooses" in (
        capsys.readouterr().out
    )
    assert preset(root)[1] == "pseudo_labels: {teachers: [linear], texts: [test]}"
    assert foldstack(root, "blend", "--model", "quick") == 0
    capsys.readouterr()
    assert foldstack(root, "distil", "--name", "other") == 2
    assert capsys.readouterr().err.startswith(
        "foldstack: no member of blend 'blend' can teach: quick does not teach: quick seed 0 full"
    )


def test_runs_that_a_member_starts_from_are_trained_first(tmp_path, backbone, in_this_process):
    """`train` of a pupil trains its teachers, but not what these start from."""
    root = make_workspace(tmp_path / "w", n=30, models=["tiny", "later"])
    add_preset(root, backbone)
    add_preset(root, backbone, "later", start_from="tiny")
    blended(root)
    assert foldstack(root, "blend", "--model", "later") == 0
    assert foldstack(root, "distil") == 0
    assert runs_of(root, "tiny") == RUNS | {"fold0-1", "fold0-2", "fold1-2"}


def test_a_preset_that_was_changed_since_the_blend_is_refused(root, monkeypatch, capsys):
    """Its runs that are missing would be of another model; FORCE=1 does not allow it."""
    write(root / "presets/bayes.yaml", BAYES.replace("C: 10", "C: 1"))
    with monkeypatch.context() as patch:
        patch.setattr("foldstack.stages.students._measured", None)
        for options in ([], ["--force"]):
            refuses(
                root,
                ["distil", *options],
                "bayes seed 0 fold0-1 would be made with other settings than bayes seed 0 fold0 (C "
                "10.0 → 1.0), so that they could not teach together: set presets/bayes.yaml back, or "
                "run `make train MODEL=bayes FOLD=0,1,2 SEED=0 FORCE=1 && make blend "
                "MODEL=linear,bayes && make distil`",
                capsys,
            )
    follow(root, capsys)
    assert foldstack(root, "distil") == 0


def test_a_member_whose_preset_was_removed(root, capsys):
    (root / "presets/bayes.yaml").unlink()
    write_competition(root, models=["linear"])
    refuses(
        root,
        ["distil"],
        "blend 'blend' contains 'bayes', a variant that has no preset, so that the runs which teach "
        "cannot be trained: write presets/bayes.yaml, or run `make blend MODEL=linear` first",
        capsys,
    )


@pytest.mark.parametrize(
    "chosen, files",
    [
        (["none", "[a.csv]"], "[a.csv]"),
        (["[b.csv]", "[a.csv]"], "[a.csv, b.csv]"),
        (["none", "none"], "[]"),
        (["none", "all"], "all"),
    ],
)
def test_it_learns_the_external_files_of_its_teachers(tmp_path, in_this_process, chosen, files):
    """Bug guarded: all of them, though no member has learned any."""
    root = make_workspace(
        tmp_path / "w", n=30, models=["linear", "bayes"], external=["a.csv", "b.csv", "c.csv"]
    )
    for name in "abc":
        write(root / f"input/{name}.csv", f"text,label\na good {name},1\na bad {name},0\n")
    for name, own in zip(("linear", "bayes"), chosen, strict=True):
        write(root / f"presets/{name}.yaml", f"{LINEAR}external_files: {own}\n")
    blended(root)
    assert foldstack(root, "distil") == 0
    assert f"external_files: {files}" in preset(root)
    train, *_ = rows_of(*run_of(root, "student"))
    learned = {id_.split(":")[0] for id_ in train.ids if ".csv:" in id_}
    all_of_them = {"a.csv", "b.csv", "c.csv"}
    assert learned == (all_of_them if files == "all" else {f for f in all_of_them if f in files})


def test_a_preset_of_the_user(root, capsys):
    write(root / "presets/student.yaml", LINEAR)
    refuses(
        root,
        ["distil"],
        "presets/student.yaml is not by `make distil`: give another NAME=, or FORCE=1 to write over it",
        capsys,
    )
    assert (root / "presets/student.yaml").read_text() == LINEAR


def test_a_blend_with_the_student_or_its_pupils(root, capsys):
    assert foldstack(root, "distil") == 0
    assert foldstack(root, "blend") == 0  # of all runs that are there
    capsys.readouterr()
    refuses(
        root,
        ["distil"],
        "blend 'blend' contains the student 'student' itself: run `make blend MODEL=linear,bayes` "
        "first, or give another NAME=",
        capsys,
    )
    write(root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: student}\n")
    assert foldstack(root, "train", "--model", "pupil") == 0
    assert foldstack(root, "blend", "--model", "linear,pupil") == 0
    capsys.readouterr()
    refuses(
        root,
        ["distil"],
        "blend 'blend' contains 'pupil', which 'student' teaches: run `make blend MODEL=linear` first, "
        "or give another NAME=",
        capsys,
    )


def test_a_blend_with_a_variant(root, capsys):
    assert foldstack(root, "train", "--model", "linear", "--name", "own", "--set", "C=1") == 0
    assert foldstack(root, "blend", "--model", "linear,own") == 0
    capsys.readouterr()
    refuses(
        root,
        ["distil"],
        "blend 'blend' contains 'own', a variant that has no preset, so that the runs which teach "
        "cannot be trained: write presets/own.yaml, or run `make blend MODEL=linear` first",
        capsys,
    )


def test_runs_of_another_request(root, capsys):
    assert foldstack(root, "distil") == 0
    capsys.readouterr()
    refuses(
        root,
        ["distil", "--mb", "3"],
        "'student' has runs already, by `make distil` of linear, bayes: give another NAME=, or FORCE=1 "
        "to train it again",
        capsys,
    )


def test_a_model_listed_with_settings(root):
    with pytest.raises(InputError, match="lists this model with settings of its own"):
        ws = Workspace.open(root, ["models=[{student: {preset: tfidf}}]"])
        stage._check_name(ws, "student")


def test_predicting_with_full_runs(root, capsys):
    full = ["predict", "--text", "a", "--fold"]
    for options, sentence in (
        (
            [*full, "1", "--model", "linear"],
            "predict takes FOLD=full or none, not '1': a prediction is the mean over all trained folds, "
            "or the full runs'",
        ),
        ([*full, "full"], "FOLD=full predicts with one model's full runs: add MODEL="),
        (
            [*full, "full", "--model", "linear"],
            "model 'linear' has no full run: run `make train MODEL=linear FOLD=full`",
        ),
    ):
        refuses(root, options, sentence, capsys)


# Folds without runs that leave two out


def test_in_time_order_it_learns_pseudo_labels_alone(tmp_path, in_this_process, capsys):
    root = make_workspace(
        tmp_path / "w", n=30, models=["linear"], time="day", folds={"count": 3, "kind": "time"}
    )
    lines = (root / "input/train.csv").read_text().splitlines()
    dated = [f"{line},{i}" for i, line in enumerate(lines[1:])]
    write(root / "input/train.csv", "\n".join(["id,text,label,day", *dated]) + "\n")
    write(root / "presets/linear.yaml", LINEAR)
    for command in (["folds"], ["train", "--fold", "1,2"], ["blend"]):
        assert foldstack(root, *command) == 0
    assert foldstack(root, "distil") == 0
    assert preset(root) == [
        "preset: tfidf",
        "pseudo_labels: {teachers: [linear], texts: [test]}",
    ]
    assert (
        "distil: it learns pseudo-labels alone, since folds in time order have no runs that leave two "
        "of them out\n" in capsys.readouterr().out
    )


def test_of_two_folds_it_learns_pseudo_labels_alone(tmp_path, in_this_process):
    root = make_workspace(tmp_path / "w", n=30, models=["linear"], folds={"count": 2})
    write(root / "presets/linear.yaml", LINEAR)
    blended(root)
    assert foldstack(root, "distil") == 0
    assert len(preset(root)) == 2


# The view

ESTIMATE = EstimateRecord(score=0.8, low=0.7, high=0.9, standard_error=0.05)


def test_what_is_shown(capsys):
    student = DistilledSide(
        name="student", runs=1, mb=2.0, rate=4000.0, nested=ESTIMATE, optimistic=[]
    )
    blend = DistilledSide(
        name="blend", runs=10, mb=80.0, rate=100.0, nested=ESTIMATE, optimistic=["for a reason"]
    )
    show(
        Distilled(
            preset="presets/student.yaml",
            state="written",
            chosen="tfidf",
            without_limit=False,
            teachers=["a", "b"],
            mb=1.0,
            rate=5000.0,
            trained=3,
            metric="f1",
            student=student,
            blend=blend,
            better_by=DifferenceRecord(difference=-0.01, low=-0.03, high=0.01),
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "distil: presets/student.yaml is tfidf",
        "distil: taught by a, b, which count equally: weights that a blend has fitted have seen every "
        "label",
        "                           nested f1  runs  MB  rows/s",
        "-----------  -----------------------  ----  --  ------",
        "student      0.8000 [0.7000, 0.9000]     1   2   4,000",
        "blend blend  0.8000 [0.7000, 0.9000]    10  80     100",
        "distil: student beside blend 'blend': -0.0100 [-0.0300, +0.0100], with 2.5 % of "
        "its MB and 40 times its rows a second",
        "blend: OPTIMISTIC, for a reason",
        "distil: student has more than MB=1: FORCE=1 chooses again",
        "distil: student predicts fewer rows a second than RATE=5000 now: FORCE=1 chooses again",
        'distil: now `make predict MODEL=student FOLD=full TEXT="…"`; its score is that of its fold '
        "runs",
    ]
