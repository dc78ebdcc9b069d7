"""What a kill leaves behind: nothing that gives another result, and nothing that stays for good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from foldstack.store import RunKey, Store, run_predictions
from tiny import files, foldstack, write

KEY = RunKey("tfidf", 0, (1,))
NOBODY = 2**22 + 1  # no process has this number


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours handles it."""


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A workspace with folds, three tfidf runs, a blend and a submission."""
    return shutil.copytree(finished, tmp_path / "w")


def litter(root: Path) -> list[Path]:
    """What kills may leave in a finished run and beside it."""
    place = Store(root).run_dir(KEY)
    return [
        write(place / "checkpoints/step-00000001/state.safetensors", "gigabytes"),
        write(place / "identity.json", "{}"),
        write(place / f".run.json.{NOBODY}.tmp", "{"),
        write(place.with_name(".fold1.old") / "run.json", "{}"),
        write(place.with_name(".fold1.next") / "run.json", "{}"),
    ]


@pytest.mark.parametrize("command", ["train --fold 1", "blend", "scores"])
def test_a_finished_run_is_tidied_when_it_is_next_looked_at(root: Path, command: str) -> None:
    before = files(Store(root).run_dir(KEY).parent)
    left = litter(root)
    assert foldstack(root, *command.split()) == 0
    assert not any(path.exists() for path in left)
    assert files(Store(root).run_dir(KEY).parent) == before


def test_a_run_that_is_being_trained_is_not_tidied(root: Path) -> None:
    left = litter(root)
    with Store(root).lock(KEY):
        assert foldstack(root, "scores") == 0
        assert all(path.exists() for path in left)


def test_clean_tmp_removes_what_nobody_writes_any_more(root: Path, capsys) -> None:
    before = files(root)
    blends = root / "oof/_blends"
    left = [
        *litter(root),
        write(root / f".competition.yaml.{NOBODY}.tmp", "x"),
        write(root / f"submissions/.blend.csv.{NOBODY}.tmp", "x"),
        write(root / f"predictions/.records/.a.json.{NOBODY}.tmp", "x"),
        write(blends / ".blend.partial/oof.parquet", "x"),
        write(blends / ".blend.old/blend.json", "x"),
        write(root / "oof/.tokens/.part-abc/ids.npy", "x").parent,
    ]
    for path in left:
        os.utime(path, (0, 0))
    kept = [
        write(root / f"submissions/.now.csv.{os.getpid()}.tmp", "of this process"),
        write(root / f"submissions/.fresh.csv.{NOBODY}.tmp", "perhaps of another machine"),
        write(root / "oof/tfidf/seed0/.fold0.partial/checkpoints/step", "x" * 2**20),
    ]
    os.utime(kept[0], (0, 0))
    assert foldstack(root, "clean", "tmp") == 0
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    for path in kept:
        path.unlink()
    shutil.rmtree(root / "oof/tfidf/seed0/.fold0.partial")
    assert files(root) == before
    out = capsys.readouterr().out
    assert "clean: 0.0 MB of temporary files and old checkpoints removed\n" in out
    assert (
        "clean: oof/tfidf/seed0/.fold0.partial (1.0 MB) is unfinished and stays: `make train` resumes "
        "it, and `rm -r` drops it\n"
    ) in out


@pytest.mark.parametrize("at", ["write_parquet", "write_record", "rename 1", "rename 2"])
def test_a_kill_while_a_new_test_file_is_predicted(
    root: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The run is as it was, or as it will be: its record never has another file's digest."""
    test = root / "input/test.csv"
    test.write_text(test.read_text().replace("a ", "one "))
    reference = shutil.copytree(root, root.parent / "reference")
    assert foldstack(reference, "train", "--fold", "1") == 0

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if at in ("write_parquet", "write_record"):
            patch.setattr(run_predictions, at, killed)
        else:
            real, calls = Path.rename, []

            def rename(self: Path, target: Path) -> Path:
                if self.parent.name == "seed0":
                    calls.append(target)
                    if len(calls) == int(at[-1]):
                        raise Killed
                return real(self, target)

            patch.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            foldstack(root, "train", "--fold", "1")
    assert foldstack(root, "train", "--fold", "1") == 0

    def run(of: Path) -> dict[str, bytes]:
        return files(Store(of).run_dir(KEY).parent)

    assert run(root) == run(reference)


@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_while_a_blend_is_put_in_place(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The old blend is still there, or is put back when it is next asked for."""
    before = files(root / "submissions")
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == number:
            raise Killed
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(Killed):
            foldstack(root, "blend")
    assert foldstack(root, "submit") == 0
    assert files(root / "submissions") == before
    assert foldstack(root, "blend") == 0
    assert sorted(p.name for p in (root / "oof/_blends").iterdir()) == [".blend.lock", "blend"]


def test_a_kill_between_a_submissions_two_files_is_seen(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The record is there first and knows both files; the next `submit` goes through."""
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "full") == 0
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.suffix == ".csv":
            raise Killed
        return real(self, target)

    other = ["submit", "--model", "tfidf", "--fold", "full", "--name", "blend"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            foldstack(root, *other)
    capsys.readouterr()
    assert foldstack(root, "score") == 0
    assert "blend: CHANGED since `submit` wrote it" in capsys.readouterr().out
    assert foldstack(root, *other) == 0
    assert foldstack(root, "score") == 0
    assert "CHANGED" not in capsys.readouterr().out


def test_a_submissions_record_does_not_tell_what_the_submission_replaced(root: Path) -> None:
    """Else a killed `submit` that is given again, and finds its file in place, writes another one."""
    one = ["submit", "--model", "tfidf", "--name", "blend"]
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "full") == 0
    assert foldstack(root, *one) == 0
    alone = files(root / "submissions")
    assert foldstack(root, *one, "--fold", "full") == 0
    assert files(root / "submissions")["blend.csv"] != alone["blend.csv"]
    assert foldstack(root, *one) == 0
    assert files(root / "submissions") == alone
