"""No stage writes over, or removes, a file that is the user's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from foldstack.competition import Competition
from foldstack.store import RunKey, Store
from foldstack.tables import read_table
from foldstack.workspace import Workspace
from tiny import (
    files,
    foldstack,
    make_workspace,
    refuses,
    sentences,
    write,
    write_competition,
)

MORE = "text,label\n" + "".join(f"{text} more,{label}\n" for text, label in sentences(230))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A workspace with folds, three tfidf runs, a blend and a submission."""
    return shutil.copytree(finished, tmp_path / "w")


# DEBUG=1


@pytest.mark.parametrize("absolute", [True, False])
def test_debug_leaves_external_files_as_they_are(tmp_path: Path, absolute: bool) -> None:
    """They are cut to 200 rows under other names, wherever the settings say that they lie."""
    root = tmp_path / "w"
    more = write(tmp_path / "more.csv", MORE)
    inside = write(root / "input/more.csv", MORE)
    named = str(more) if absolute else "../../more.csv"
    make_workspace(root, external=[named, "more.csv"])
    assert foldstack(root, "--debug", "folds") == 0
    assert more.read_text() == inside.read_text() == MORE
    debug = Workspace.open(root, [], debug=True).competition
    written = [source.file for source in debug.settings.external]
    assert written == ["external-0.csv", "external-1.csv"]
    assert [source.called for source in debug.settings.external] == [named, "more.csv"]
    assert [len(read_table(debug.input_path(n), "utf-8")) for n in written] == [
        200,
        200,
    ]


def test_debug_takes_external_files_of_this_call(tmp_path: Path) -> None:
    more = write(tmp_path / "more.csv", MORE)
    root = make_workspace(tmp_path / "w")
    debug = Workspace.open(root, [f"external=[{more}]"], debug=True).competition
    assert len(debug.external) == 200


@pytest.mark.parametrize("place", ["elsewhere/costs.csv", "w/costs.csv", "w/input/costs.csv"])
def test_debug_leaves_costs_and_patterns_as_they_are(tmp_path: Path, place: str) -> None:
    costs = write(tmp_path / place, "truth,0,1\n0,0,1\n1,7,0\n")
    cached = write(costs.with_name("cached.csv"), "text,label\na good film,1\n")
    rules = write(costs.with_name("rules.yaml"), f"rules: [{{texts: {cached}}}]")
    named = "costs.csv" if place.startswith("w/input") else str(costs)
    root = make_workspace(
        tmp_path / "w", metric="cost", costs=named, patterns=str(rules), submission="labels"
    )
    before = files(tmp_path)
    assert foldstack(root, "--debug", "folds") == 0
    after = {k: v for k, v in files(tmp_path).items() if not k.startswith("w/debug/")}
    assert after == before
    debug = Workspace.open(root, [], debug=True)
    assert debug.competition.costs == Competition.load(root).costs
    assert len(debug.patterns.rules) == 1


def test_debug_files_have_names_that_no_setting_chooses(tmp_path: Path) -> None:
    """A file of rules' texts that is called like a cut file does not take its place."""
    root = make_workspace(tmp_path / "w", patterns="patterns.yaml")
    whole = (root / "input/train.csv").read_text()
    write(root / "patterns.yaml", "rules: [{texts: train.csv}]")
    write(root / "input/train.csv", whole + "".join(f"n{i},text {i},1\n" for i in range(300)))
    debug = Workspace.open(root, [], debug=True)
    assert len(debug.competition.train) == 200
    assert debug.patterns.rules[0].name.startswith("rule 1: 324 texts")


@pytest.mark.parametrize("link", ["debug", "debug/input"])
def test_a_debug_folder_that_leads_to_files_of_the_user_is_refused(
    workspace, capsys, link: str
) -> None:
    (workspace / link).parent.mkdir(exist_ok=True)
    (workspace / link).symlink_to(workspace if link == "debug" else workspace / "input")
    before = files(workspace)
    what = "debug was not made by DEBUG=1" if link == "debug" else "debug/input is a link"
    capsys.readouterr()
    refuses(
        workspace,
        ["--debug", "folds"],
        f"{workspace}/{what}, so its files may be yours and are not written over: move it away, or "
        "remove it with `make clean-debug`",
        capsys,
    )
    assert files(workspace) == before


def test_a_debug_folder_of_the_user_is_left(workspace: Path, capsys) -> None:
    mine = write(workspace / "debug/input/train.csv", "my own")
    assert foldstack(workspace, "--debug", "folds") == 2
    assert f"{workspace}/debug was not made by DEBUG=1" in capsys.readouterr().err
    assert mine.read_text() == "my own"
    mine.unlink()
    mine.parent.rmdir()
    assert foldstack(workspace, "--debug", "folds") == 0
    assert foldstack(workspace, "--debug", "folds") == 0


def test_a_link_in_the_debug_folder_is_replaced_and_not_followed(workspace: Path) -> None:
    assert foldstack(workspace, "--debug", "folds") == 0
    precious = write(workspace / "precious.yaml", "mine")
    (workspace / "debug/competition.yaml").unlink()
    (workspace / "debug/competition.yaml").symlink_to(precious)
    (workspace / "presets").mkdir()
    (workspace / "presets/gone.yaml").symlink_to(workspace / "nothing")
    assert foldstack(workspace, "--debug", "folds") == 0
    assert precious.read_text() == "mine"


def test_a_named_file_in_the_debug_folder_is_refused(workspace: Path, capsys) -> None:
    assert foldstack(workspace, "--debug", "folds") == 0
    mine = write(workspace / "debug/input/external-0.csv", MORE)
    write_competition(workspace, external=["../debug/input/external-0.csv"])
    capsys.readouterr()
    assert foldstack(workspace, "--debug", "folds") == 2
    assert "lies where DEBUG=1 writes: move it into input/" in capsys.readouterr().err
    assert mine.read_text() == MORE


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_files_may_lie_anywhere(tmp_path: Path, debug: list[str]) -> None:
    """They are read where the settings say, by an absolute path or a relative one, and stay."""
    root = make_workspace(tmp_path / "w")
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        shutil.move(root / "input" / name, tmp_path / name)
    write(tmp_path / "folds.csv", "fold\n" + "0\n1\n" * 12)
    write_competition(
        root,
        files={
            "train": str(tmp_path / "train.csv"),
            "test": "../../test.csv",
            "sample": str(tmp_path / "sample_submission.csv"),
        },
        folds={"file": str(tmp_path / "folds.csv")},
    )
    before = {k: v for k, v in files(tmp_path).items() if not k.startswith("w/")}
    go = [["folds"], ["train", "--fold", "0"], ["train", "--fold", "1"], ["blend"], ["submit"]]
    for command in go:
        assert foldstack(root, *debug, *command) == 0
    assert {k: v for k, v in files(tmp_path).items() if not k.startswith("w/")} == before


def test_other_ids_in_a_file_elsewhere_are_named_with_its_path(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w", files={"test": str(tmp_path / "test.csv")})
    write(tmp_path / "test.csv", "id,text\nx,a film\n")
    capsys.readouterr()
    refuses(
        root,
        ["folds"],
        f"{root / 'input/sample_submission.csv'}: ids differ from {tmp_path / 'test.csv'}: 't0' and 5 "
        f"more are missing in {tmp_path / 'test.csv'}",
        capsys,
    )


# predict


def predict(root: Path, file: Path, out: Path | None = None) -> int:
    more = ["--out", str(out)] if out else []
    return foldstack(root, "predict", "--model", "tfidf", "--file", str(file), *more)


def test_predict_writes_over_its_own_file(root: Path, tmp_path: Path) -> None:
    new, out = write(tmp_path / "new.csv", "text\na good film\n"), tmp_path / "out.csv"
    assert predict(root, new, out) == 0
    first = out.read_bytes()
    write(new, "text\na bad film\n")
    assert predict(root, new, out) == 0
    assert out.read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.csv", "out.csv", "w"]


def test_predict_leaves_what_it_did_not_write(root: Path, tmp_path: Path, capsys) -> None:
    """Neither the training file, nor the file it reads, nor its own after the user has changed it."""
    new = write(tmp_path / "new.csv", "text\na good film\n")
    changed = tmp_path / "changed.csv"
    assert predict(root, new, changed) == 0
    write(changed, changed.read_text() + "mine,1\n")
    for out in (root / "input/train.csv", new, changed):
        before = out.read_bytes()
        capsys.readouterr()
        assert predict(root, new, out) == 2
        sentence = (
            f"foldstack: {out} is there already and `predict` did not write it so: move it away, or "
            "name a new file with OUT=\n"
        )
        assert capsys.readouterr().err == sentence
        assert out.read_bytes() == before


def test_predict_leaves_its_own_file_that_settings_name(root: Path, tmp_path: Path, capsys) -> None:
    new = write(tmp_path / "new.csv", "text\na good film\n")
    assert predict(root, new) == 0
    write_competition(root, external=["../predictions/new.csv"])
    before = (root / "predictions/new.csv").read_bytes()
    capsys.readouterr()
    assert predict(root, new) == 2
    assert capsys.readouterr().err == (
        "foldstack: predictions/new.csv is the file that `external ('../predictions/new.csv')` of "
        "competition.yaml names and would be written over: copy it into input/, or write to another "
        "file\n"
    )
    assert (root / "predictions/new.csv").read_bytes() == before


@pytest.mark.parametrize("kind", ["device", "folder", "link", "dangling"])
def test_predict_writes_into_files_only(root: Path, tmp_path: Path, capsys, kind: str) -> None:
    new, out = write(tmp_path / "new.csv", "text\na good film\n"), tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "device":
        out = Path("/dev/null")
    else:
        out.symlink_to(new if kind == "link" else tmp_path / "nothing")
    assert predict(root, new, out) == 2
    assert capsys.readouterr().err == (
        f"foldstack: OUT={out} is a link, a folder or a device: name a new file, ending in .csv\n"
    )
    assert Path("/dev/null").is_char_device() and new.read_text() == "text\na good film\n"


def test_files_whose_names_differ_behind_a_dot_have_predictions_of_their_own(
    root: Path, tmp_path: Path
) -> None:
    for name in ("a.2024.csv", "a.2025.csv"):
        assert predict(root, write(tmp_path / name, "text\na good film\n")) == 0
    assert sorted(p.name for p in (root / "predictions").glob("*.csv")) == [
        "a.2024.csv",
        "a.2025.csv",
    ]


def test_two_files_of_one_name_do_not_share_the_default_place(
    root: Path, tmp_path: Path, capsys
) -> None:
    one, other = (write(tmp_path / d / "new.csv", "text\na good film\n") for d in "ab")
    assert predict(root, one) == 0
    before, place = files(root), root / "predictions/new.csv"
    assert predict(root, other) == 2
    assert capsys.readouterr().err == (
        f"foldstack: {place} has the predictions of {one}: name another file for those of {other} with "
        "OUT=\n"
    )
    assert files(root) == before
    assert predict(root, other, place) == 0


def test_one_text_needs_no_file(root: Path, capsys) -> None:
    args = ["predict", "--text", "a good film", "--out", "out.csv"]
    sentence = "OUT= is for the predictions of a FILE=: leave it out with TEXT="
    refuses(root, args, sentence, capsys)


def test_predict_works_where_the_workspace_cannot_be_written_to(
    root: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, out = write(tmp_path / "new.csv", "text\na good film\n"), tmp_path / "out.csv"

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("foldstack.predictions.PredictionFiles.announce", refused)
    assert predict(root, new, out) == 0
    assert out.exists()
    assert (
        f"warning: {root} cannot be written to (Permission denied), so it keeps no record that "
        f"these texts got their labels from it: keep {out} out of `external`"
    ) in capsys.readouterr().out


# submit, clean, data, recipe


def test_submit_leaves_what_it_did_not_write(root: Path, capsys) -> None:
    mine = write(root / "submissions/mine.csv", "id,label\nt0,1\n")
    before = files(root / "submissions")
    capsys.readouterr()
    refuses(
        root,
        ["submit", "--name", "mine", "--model", "tfidf"],
        "submissions/mine.csv is there already and `submit` did not write it so: move it away, or name "
        "another submission with NAME=",
        capsys,
    )
    path = root / "submissions/blend.csv"
    path.write_text(path.read_text().replace("t0,", "t0,1"))  # changed by hand
    edited = path.read_bytes()
    refuses(
        root,
        ["submit"],
        "submissions/blend.csv is there already and `submit` did not write it so: move it away, or name "
        "another submission with NAME=",
        capsys,
    )
    assert path.read_bytes() == edited and mine.read_text() == "id,label\nt0,1\n"
    path.write_bytes(before["blend.csv"])
    assert foldstack(root, "submit") == 0


def test_a_submission_that_settings_name_is_neither_written_over_nor_removed(
    root: Path, capsys
) -> None:
    """For instance predictions of the test file as pseudo-labels."""
    write_competition(root, external=["../submissions/tfidf.csv"])
    kept = write(root / "submissions/tfidf.csv", "id,text,label\nx,a good film,1\n")
    capsys.readouterr()
    refuses(
        root,
        ["clean", "submissions"],
        f"{root / 'input/../submissions/tfidf.csv'} is named by `external ('../submissions/tfidf.csv')` "
        "of competition.yaml and would be removed: move it into input/, or take that setting out",
        capsys,
    )
    assert kept.exists()


def test_data_leaves_files_of_the_user_that_lie_there_already(tmp_path: Path, capsys) -> None:
    """A newcomer's own competition in input/, which has no competition.yaml yet."""
    train = write(tmp_path / "input/train.csv", "id,text,label\n1,a,0\n")
    refuses(
        tmp_path,
        ["data", "--dataset", "bbc"],
        f"{train} is there already and is another file: move it away, take another WORKSPACE, or add "
        "--force (FORCE=1) to write over it",
        capsys,
    )
    assert files(tmp_path) == {"input/train.csv": b"id,text,label\n1,a,0\n"}


def test_data_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """The files that it had written itself are not the user's."""
    assert foldstack(tmp_path, "data", "--dataset", "bbc") == 0
    whole = files(tmp_path)
    (tmp_path / "competition.yaml").unlink()
    (tmp_path / "input/test.csv").unlink()
    assert foldstack(tmp_path, "data", "--dataset", "bbc") == 0
    assert files(tmp_path) == whole


def test_a_recipe_leaves_presets_of_the_user(tmp_path: Path, capsys) -> None:
    preset = write(tmp_path / "w/presets/backbone.yaml", "learner: tfidf\n")
    source = tmp_path / "raw"
    lines = "".join(f"{i % 2}\ttext number {i}\n\n" for i in range(40))
    write(source / "train.txt", lines)
    write(source / "test.txt", "".join(f"new text {i}\n\n" for i in range(5)))
    args = ["recipe", "--name", "recommended-comments", "--source", str(source)]
    code = foldstack(tmp_path / "w", *args, "--backbone", "minilm")
    assert code == 2 and f"{preset} is there already" in capsys.readouterr().err
    assert files(tmp_path / "w") == {"presets/backbone.yaml": b"learner: tfidf\n"}


# Names


@pytest.mark.parametrize("command", ["report", "views", "predict", "submit", "blend", "patterns"])
def test_a_name_leads_nowhere_else(root: Path, command: str, capsys) -> None:
    write(root / "patterns.yaml", "rules: [{text: a good film, label: '1'}]")
    write_competition(root, patterns="patterns.yaml")
    args = ["--text", "a"] if command == "predict" else []
    capsys.readouterr()
    refuses(
        root,
        [command, "--name", "../../input", *args],
        "name '../../input' cannot be a folder's name: use letters, digits, '.', '-' and '_', "
        "beginning with a letter or digit",
        capsys,
    )


def test_clean_leaves_what_no_stage_has_made(root: Path, capsys) -> None:
    """Notes of the user, a submission of hers, and one of ours that she has changed."""
    mine = [
        write(root / "submissions/notes.txt", "mine"),
        write(root / "submissions/mine.csv", "id,label\n"),
        write(root / "folds/notes.txt", "mine"),
        write(root / "oof/notes.txt", "mine"),
        write(root / "oof/experiments/log.txt", "mine"),
    ]
    edited = root / "submissions/blend.csv"
    edited.write_text(edited.read_text().replace("t0,", "t0,1"))
    capsys.readouterr()
    assert foldstack(root, "clean", "all") == 0
    assert all(path.exists() for path in [*mine, edited, edited.with_suffix(".json")])
    left = {k for k in files(root) if k.split("/")[0] in ("folds", "oof", "submissions")}
    assert left == {
        *(str(path.relative_to(root)) for path in mine),
        "submissions/blend.csv",
        "submissions/blend.json",
    }
    said = capsys.readouterr().out
    assert "clean: oof/experiments stays: no stage wrote it, or it changed since\n" in said


def test_clean_leaves_the_users_files_beside_those_of_stages(root: Path, capsys) -> None:
    """In the folders that stages share with her, however they are named."""
    for command in ("views --model tfidf", "compare --a tfidf --b plain"):
        if command.startswith("compare"):
            shutil.copytree(root / "oof/tfidf", root / "oof/plain")
        assert foldstack(root, *command.split()) == 0
    mine = [
        "oof/_comparisons/mine.json",
        "oof/_mine/notes.txt",
        "oof/_notes.txt",
        "oof/.mine/notes.txt",
        "oof/_blends/mine/notes.txt",
        "oof/_patterns/mine.json",
        "oof/plain/notes.txt",
        "oof/plain/views.csv",
        "oof/tfidf/seed0/fold0 copy/run.json",
        "submissions/private/notes.txt",
        "folds/report.csv",
    ]
    (root / "folds/folds.json").unlink()  # which says what `folds` wrote
    for name in mine:
        write(root / name, "{}")
    capsys.readouterr()
    assert foldstack(root, "clean", "all") == 0
    left = {k for k in files(root) if k.split("/")[0] in ("folds", "oof", "submissions")}
    assert left == {*mine, "folds/folds.csv"}
    stays = "stays: no stage wrote it, or it changed since"
    assert capsys.readouterr().out.splitlines() == [
        f"clean: folds/folds.csv {stays}",
        f"clean: folds/report.csv {stays}",
        "clean: folds/ was empty",
        *(
            f"clean: oof/{name} {stays}"
            for name in (
                ".mine",
                "_blends/mine",
                "_comparisons/mine.json",
                "_mine",
                "_notes.txt",
                "_patterns",
                "plain/notes.txt",
                "plain/views.csv",
                "tfidf/seed0/fold0 copy",
            )
        ),
        "clean: oof/ emptied",
        f"clean: submissions/private {stays}",
        "clean: submissions/ emptied",
        "clean: debug/ was empty",
    ]


@pytest.mark.parametrize(
    "command, place, said",
    [
        ("compare --a tfidf --b plain", "oof/_comparisons/tfidf-vs-plain.json", "compare"),
        ("patterns", "oof/_patterns/blend.json", "patterns"),
        ("patterns", "oof/_patterns/blend.txt", "patterns"),
        ("views --model tfidf", "oof/tfidf/views.csv", "views"),
    ],
)
def test_a_file_of_the_user_is_not_written_over(
    root: Path, command: str, place: str, said: str, capsys
) -> None:
    shutil.copytree(root / "oof/tfidf", root / "oof/plain")
    write(root / "patterns.yaml", "rules: [{text: a good film, label: '1'}]")
    write_competition(root, patterns="patterns.yaml")
    assert foldstack(root, *command.split()) == 0  # a file of its own is written over
    assert foldstack(root, *command.split()) == 0
    for name in (place, str(Path(place).with_suffix(".json"))):
        (root / name).unlink(missing_ok=True)
    write(root / place, "mine")
    before = files(root)
    capsys.readouterr()
    sentence = f"{place} is there already and `{said}` did not write it so: move it away"
    refuses(root, command.split(), sentence, capsys)
    assert files(root) == before


def test_scores_per_label_leave_a_file_of_the_user(root: Path, capsys) -> None:
    write_competition(root, metric="f1", submission="labels")
    solution = "id,label\n" + "".join(f"{id_},1\n" for id_ in Competition.load(root).test.ids)
    write(root / "input/private/solution.csv", solution)
    assert foldstack(root, "blend") == 0
    (root / "submissions/blend.csv").unlink()
    assert foldstack(root, "submit") == 0
    assert foldstack(root, "score") == 0
    write(root / "submissions/private/blend.csv", "mine")
    capsys.readouterr()
    refuses(
        root,
        ["score"],
        "submissions/private/blend.csv is there already and `score` did not write it so: move it away",
        capsys,
    )


def test_a_report_of_the_user_in_folds_is_left(workspace: Path, capsys) -> None:
    write(workspace / "folds/report.csv", "mine")
    refuses(
        workspace,
        ["folds"],
        "folds/report.csv is there already and `make folds` did not write it: move it away, or add "
        "--force (FORCE=1) to write over it",
        capsys,
    )


def test_clean_waits_for_no_run_that_is_being_trained(root: Path, capsys) -> None:
    before = files(root)
    capsys.readouterr()
    with Store(root).lock(RunKey("tfidf", 0, (1,))):
        assert foldstack(root, "clean", "oof") == 2
    assert "tfidf seed 0 fold1 is being trained by process" in capsys.readouterr().err
    assert files(root) == before


def test_clean_tmp_leaves_hidden_files_of_the_user(root: Path) -> None:
    mine = [
        write(root / "input/.notes.tmp", "mine"),
        write(root / ".todo.2024.tmp/a", "mine").parent,
        write(root / "input/.draft.txt.tmp", "mine"),
    ]
    for path in mine:
        os.utime(path, (0, 0))
    assert foldstack(root, "clean", "tmp") == 0
    assert all(path.exists() for path in mine)


def test_a_record_of_the_user_beside_a_submission_is_left(root: Path, capsys) -> None:
    mine = write(root / "submissions/notes.json", '{"mine": 1}')
    capsys.readouterr()
    refuses(
        root,
        ["submit", "--model", "tfidf", "--name", "notes"],
        "submissions/notes.json is there already and `submit` did not write it: move it away, or name "
        "another submission with NAME=",
        capsys,
    )
    assert mine.read_text() == '{"mine": 1}'


def test_folds_of_the_user_are_left(tmp_path: Path, capsys) -> None:
    root = make_workspace(tmp_path / "w")
    mine = write(
        root / "folds/folds.csv", "id,fold\n" + "".join(f"r{i},{i % 2}\n" for i in range(24))
    )
    before = mine.read_bytes()
    refuses(
        root,
        ["folds"],
        "folds/folds.csv is there already and `make folds` did not write it: name it by `folds.file` "
        "from input/, or add --force (FORCE=1) to write over it",
        capsys,
    )
    assert mine.read_bytes() == before
