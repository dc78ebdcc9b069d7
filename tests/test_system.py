"""Errors of the machine: each is one sentence and exit code 2, and loses nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from foldstack import system
from foldstack.config import digest
from foldstack.ensemble.boosting import Boosters
from foldstack.errors import InputError, Interrupted
from foldstack.files import placing, publish, together, write_text
from foldstack.interrupt import ANSWER, SIGNALS, Stop
from foldstack.progress import Progress
from foldstack.stages.run import Run
from foldstack.store import RunKey, Store
from foldstack.training import checkpoint, frozen
from tiny import files, foldstack, go_through, make_workspace, process, refuses

AGAIN = "and run the same command again"
FULL = f"the disk is full: free some space {AGAIN}"
MEMORY = (
    "out of memory: close other programs, run fewer --jobs, or lower "
    "training.micro_batch_size or training.max_length"
)
GPU = (
    "out of GPU memory: lower training.micro_batch_size or training.max_length, or "
    "close other programs that use the GPU"
)


def error_of(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


# The sentences


@pytest.mark.parametrize(
    "number, what",
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, f"the disk quota is used up: free some space {AGAIN}"),
        (errno.EROFS, "the disk is read-only: take a folder that can be written to"),
        (
            errno.EACCES,
            "permission is denied: change its owner or permissions, or take another folder",
        ),
        (
            errno.EPERM,
            "permission is denied: change its owner or permissions, or take another folder",
        ),
        (errno.ENAMETOOLONG, "the name is too long for this disk: take a shorter one"),
        (
            errno.EISDIR,
            "a folder is where a file is expected: move it away, or take another name",
        ),
        (errno.EMFILE, "too many files are open: raise the limit that `ulimit -n` shows"),
        (errno.ENOMEM, MEMORY),
        (
            errno.EIO,
            "the device reports an input/output error: check it, or take another one",
        ),
        (
            errno.EFBIG,
            "the file is too large for this disk or for the limit that `ulimit -f` shows: raise the "
            "limit, or take another disk",
        ),
    ],
)
def test_each_kind_has_its_sentence(number, what):
    assert system.sentence(error_of(number, "a/b")) == f"a/b: {what}"


@pytest.mark.parametrize(
    "error, what",
    [
        (MemoryError(), MEMORY),
        (np._core._exceptions._ArrayMemoryError((1 << 50,), np.dtype(float)), MEMORY),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"
            ),
            MEMORY,
        ),
        (ImportError("x.so: failed to map segment from shared object"), MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), GPU),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), GPU),
        (
            RuntimeError("can't start new thread"),
            "no more processes or threads can be started: raise the limit that `ulimit -u` shows, or "
            "run fewer --jobs",
        ),
        (SafetensorError("Error: I/O error: No space left on device (os error 28)"), FULL),
        (Exception("No space left on device (os error 28)"), FULL),  # as tokenizers raise it
        (OSError("100 requested and 8 written"), FULL),  # as NumPy does
    ],
)
def test_libraries_have_other_words(error, what):
    assert system.sentence(error) == what


def test_a_copied_folder_names_the_place_and_not_the_source(tmp_path, monkeypatch):
    """shutil.copytree collects its errors as text."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("x")
    monkeypatch.setattr(shutil, "copy2", raising(error_of(errno.ENOSPC)))
    with pytest.raises(shutil.Error) as e:
        shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy2)
    assert system.sentence(e.value) == f"{tmp_path}/b/x: {FULL}"


def test_what_a_library_wraps_is_found():
    try:
        raise ImportError("cannot") from error_of(errno.ENOSPC, "a")
    except ImportError as e:
        assert system.sentence(e) == f"a: {FULL}"


def test_a_python_without_a_required_package_is_told_what_to_install():
    """`make folds PY=python` on an image without psutil ended in a traceback."""
    what = (
        "this Python lacks the package psutil: run `python -m pip install --editable .` with it in "
        "foldstack's folder, which keeps a torch that it has, or leave PY out"
    )
    assert system.sentence(ModuleNotFoundError("no", name="psutil._common")) == what


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("no", name="foldstack.lost"),
        error_of(errno.ENOENT, "a"),  # a file that we forgot to make
        error_of(errno.EACCES),  # of no file
        error_of(errno.ENOTEMPTY, "a"),
        error_of(errno.EEXIST, os.curdir),  # a folder that is there already
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("No space left on device (os error 28)"),
        InputError("the text says: out of memory (os error 28)"),
    ],
)
def test_errors_of_ours_are_none_of_these(error):
    assert system.sentence(error) is None


def test_an_internal_error_keeps_its_traceback(workspace, monkeypatch):
    missing = error_of(errno.ENOENT, "forgotten")
    monkeypatch.setattr("foldstack.stages.folds.make_folds", raising(missing))
    with pytest.raises(FileNotFoundError):
        foldstack(workspace, "folds")


# Writing


def raising(error: BaseException):
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def full_after(count: int):
    """os.fsync of a disk that is full after so many files."""
    calls = itertools.count()

    def fsync(number: int) -> None:
        if next(calls) >= count:
            raise error_of(errno.ENOSPC)

    return fsync


def make_older(root: Path, command: str) -> None:
    """Give the files that the command will write other contents than it writes today, or none."""
    places = {"folds": "folds/*.*", "submit": "submissions/*.*", "score": "submissions/private/*"}
    for path in root.glob(places.get(command, "nothing")):
        if command == "submit":  # which leaves a file that it did not write
            path.unlink()
        else:
            path.write_text("label,precision,recall,older")  # known by its header


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A workspace in which each stage has been; tests copy it."""
    root = make_workspace(tmp_path_factory.mktemp("finished") / "w", metric="f1")
    go_through(root)
    assert foldstack(root, "score") == 0
    return root


@pytest.fixture
def done(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "w")
    return tmp_path / "w"


def raw_files(root: Path) -> str:
    """What the recipe `duee` is made from."""
    for name in ("train.txt", "test.txt"):
        write_text(root / "raw" / name, "good|long a film\nbad a plot\n" * 30)
    return str(root / "raw")


COMMANDS = {
    "data": (["data", "--force"], "input/train.csv"),
    "recipe": (["recipe", "--force", "--name", "duee"], "input/train.csv"),
    "init": (["init", "--force"], "competition.yaml"),
    "folds": (["folds", "--force"], "folds/folds.json"),
    "train": (
        ["train", "--force", "--fold", "0"],
        "oof/tfidf/seed0/.fold0.partial/identity.json",
    ),
    "blend": (["blend"], "oof/_blends/.blend.partial/oof.parquet"),
    "submit": (["submit"], "submissions/blend.json"),
    "predict": (
        ["predict", "--file", "{root}/input/test.csv"],
        "predictions/.records/{record}.json",
    ),
    "views": (["views"], "oof/_blends/blend/views.csv"),
    "score": (["score"], "submissions/private/blend.csv"),
    "debug": (["--debug", "folds"], "debug/.made-by-debug"),
}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_full_disk(done, monkeypatch, capsys, command):
    """One sentence, and every file has its bytes; nothing is left of those that could not be written."""
    args, name = COMMANDS[command]
    args = [a.format(root=done) for a in args]
    name = name.format(record=digest("predictions/test.csv"))
    if command == "recipe":
        args += ["--source", raw_files(done), "--backbone", str(done / "input")]
        monkeypatch.setattr("foldstack.stages.recipe._backbone", lambda given: "backbone: x\n")
    before = files(done)
    monkeypatch.setattr(os, "fsync", raising(error_of(errno.ENOSPC)))
    capsys.readouterr()
    refuses(done, args, f"{done / name}: {FULL}", capsys)
    assert files(done) == before


@pytest.mark.parametrize("command, files_before", [("folds", 1), ("submit", 1), ("data", 3)])
def test_files_that_belong_together_change_together(
    done, monkeypatch, capsys, command, files_before
):
    """The disk is full after some of them; new folds beside the report of old ones would mislead."""
    make_older(done, command)
    before = files(done)
    monkeypatch.setattr(os, "fsync", full_after(files_before))
    assert foldstack(done, command, *["--force"][: command != "submit"]) == 2
    assert FULL in capsys.readouterr().err
    assert files(done) == before


@pytest.mark.parametrize("command", ["folds", "train", "blend", "submit", "score"])
def test_each_write_of_a_command_may_be_the_one_that_fails(done, monkeypatch, capsys, command):
    """An unfinished run alone stays, for the same command to resume."""
    options = {"folds": ["--force"], "train": ["--force", "--fold", "0"]}.get(command, [])
    make_older(done, command)

    def finished_files() -> dict[str, bytes]:
        return {k: v for k, v in files(done).items() if ".partial/" not in k or "_blends" in k}

    before, code, succeed = finished_files(), 2, -1
    while code:
        succeed += 1
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_after(succeed))
            code = foldstack(done, command, *options)
        error = capsys.readouterr().err
        if code:
            assert (code, error.count("\n"), error.endswith(f": {FULL}\n")) == (2, 1, True)
            assert finished_files() == before
    assert error == ""
    assert succeed >= 2  # the last time nothing has failed
    assert not [name for name in files(done) if "tmp" in name or ".partial" in name]


def test_the_text_of_trees_is_written_by_us(tmp_path, monkeypatch):
    """LightGBM's own writer leaves half a file on a full disk, and does not say why."""
    booster = lgb.train(
        {"verbose": -1, "min_data_in_leaf": 1}, lgb.Dataset(np.eye(8), [0, 1] * 4), 2
    )
    boosters = SimpleNamespace(models=[booster, 0.5])
    booster.save_model(tmp_path / "its.txt")
    assert Boosters.save(boosters, tmp_path, "ours") == [tmp_path / "ours-0.txt"]
    assert (tmp_path / "ours-0.txt").read_bytes() == (tmp_path / "its.txt").read_bytes()
    monkeypatch.setattr(os, "fsync", raising(error_of(errno.ENOSPC)))
    with pytest.raises(OSError) as e:
        Boosters.save(boosters, tmp_path, "new")
    assert system.sentence(e.value) == f"{tmp_path}/new-0.txt: {FULL}"


def test_together_is_all_or_nothing_and_blocks_may_be_nested(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyError), together():
        with together():
            write_text(tmp_path / "a", "new")
        assert (tmp_path / "a").read_text() == "old"
        raise KeyError
    assert files(tmp_path) == {"a": b"old"}
    with together():
        write_text(tmp_path / "a", "new")
        write_text(tmp_path / "a", "newer")
        write_text(tmp_path / "b", "b")
    assert files(tmp_path) == {"a": b"newer", "b": b"b"}
    write_text(tmp_path / "a", "newest")  # the block is over
    assert files(tmp_path) == {"a": b"newest", "b": b"b"}


def test_a_library_that_writes_by_itself(tmp_path):
    """What it says instead of an OSError becomes one, with the file's own name."""
    with pytest.raises(OSError) as e, placing(tmp_path / "a") as beside:
        beside.write_bytes(b"half")
        raise SafetensorError("Error: I/O error: No space left on device (os error 28)")
    assert (e.value.errno, e.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    assert not files(tmp_path)


@pytest.mark.parametrize("error", [KeyError("a"), InputError("no"), MemoryError()])
def test_other_errors_of_a_writer_stay_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as e, placing(tmp_path / "a"):
        raise error
    assert e.value is error


@pytest.mark.parametrize(
    "name, make, what",
    [
        ("folds/folds.csv", Path.mkdir, "a folder is where a file is expected: move it away, or"),
        ("debug", Path.touch, "a file is where a folder is expected: move it away, or"),
        ("debug", lambda p: p.symlink_to("nowhere"), "a file is where a folder is expected: move"),
    ],
)
def test_a_folder_for_a_file_and_a_file_for_a_folder(workspace, capsys, name, make, what):
    (workspace / name).parent.mkdir(exist_ok=True)
    make(workspace / name)
    assert foldstack(workspace, *["--debug"][: name == "debug"], "folds", "--force") == 2
    assert capsys.readouterr().err.startswith(f"foldstack: {workspace / name}: {what}")


def test_a_name_that_is_too_long(workspace, capsys):
    """The temporary name beside it is longer still, and nobody's concern."""
    with pytest.raises(OSError) as e:
        publish(workspace / ("x" * 250), b"")
    what = "the name is too long for this disk: take a shorter one"
    assert system.sentence(e.value) == f"{workspace / ('x' * 250)}: {what}"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_limit_on_file_sizes_in_a_real_process(done):
    """The kernel refuses the write itself: nothing here is simulated."""
    before = files(done)
    limit = (100, 100)
    child = process(
        done, "submit", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    _, error = child.communicate(timeout=60)
    assert child.returncode == 2
    assert error == (
        f"foldstack: {done}/submissions/blend.json: the file is too large for this disk or for the "
        "limit that `ulimit -f` shows: raise the limit, or take another disk\n"
    )
    assert files(done) == before


# Memory


@pytest.mark.parametrize(
    "error, what", [(MemoryError(), MEMORY), (torch.OutOfMemoryError("CUDA out of memory"), GPU)]
)
def test_too_little_memory(workspace, monkeypatch, capsys, error, what):
    monkeypatch.setattr("foldstack.stages.folds.make_folds", raising(error))
    refuses(workspace, ["folds"], what, capsys)


def test_a_run_that_the_system_kills_is_explained(workspace, monkeypatch, capfd):
    """Out of memory, a process has no time to say so itself: its parent does."""
    assert foldstack(workspace, "folds") == 0
    monkeypatch.setattr("foldstack.stages.launch._exit_code", lambda group: -signal.SIGKILL)
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    assert foldstack(workspace, "train", "--fold", "0,1", "--jobs", "1") == 137
    assert capfd.readouterr().err == (
        "foldstack: tfidf seed 0 fold0: its process was killed (SIGKILL), as the system does if "
        "memory runs out: close other programs, run fewer --jobs, or lower "
        "training.micro_batch_size or training.max_length\n"
    )


def test_after_an_error_of_the_parent_no_more_runs_are_begun(workspace, monkeypatch, capsys):
    """The first of three is still running while no process can be started for the second."""
    assert foldstack(workspace, "folds") == 0
    started, third = [], threading.Event()

    def child(self: object, run: Run, added: dict[str, str]) -> int:
        started.append(run.key.run)
        if run.key.run == "fold0":
            third.wait(0.3)
        elif run.key.run == "fold1":
            raise error_of(errno.EAGAIN)
        else:
            third.set()
        return 0

    monkeypatch.setattr("foldstack.stages.launch._Launch._train", child)
    sentence = (
        "no more processes or threads can be started: raise the limit that `ulimit -u` shows, or run "
        "fewer --jobs"
    )
    capsys.readouterr()
    refuses(workspace, ["train", "--jobs", "2"], sentence, capsys)
    assert sorted(started) == ["fold0", "fold1"]


# What was made before


def test_a_checkpoint_that_cannot_be_written_leaves_the_ones_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"w": torch.zeros(2)}, {})
    before = files(tmp_path)
    full = SafetensorError("Error: I/O error: No space left on device (os error 28)")

    def half(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise full

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(OSError) as e:
        checkpoint.save(tmp_path, 2, {"w": torch.zeros(2)}, {})
    assert system.sentence(e.value) == f"{tmp_path}/step-00000002: {FULL}"
    assert files(tmp_path) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, number):
    """It was removed, and the run began anew, because too many files were open."""
    checkpoint.save(tmp_path, 1, {"w": torch.zeros(2)}, {})
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "file_sha256", raising(error_of(number, "state")))
        with pytest.raises(OSError):
            checkpoint.load_last(tmp_path)
    assert files(tmp_path) == before
    assert checkpoint.load_last(tmp_path)[1]["step"] == 1


def test_predictions_that_cannot_be_read_now_are_not_damaged(done, monkeypatch, capsys):
    """The advice to train them again would be wrong."""
    path = done / "oof/tfidf/seed0/fold0/test.parquet"
    monkeypatch.setattr("pyarrow.parquet.read_schema", raising(error_of(errno.EACCES, str(path))))
    what = "permission is denied: change its owner or permissions, or take another folder"
    refuses(done, ["blend"], f"{path}: {what}", capsys)


def test_an_unfinished_run_that_cannot_be_read_now_is_not_begun_anew(
    workspace, monkeypatch, capsys
):
    assert foldstack(workspace, "folds") == 0
    partial = Store(workspace).partial_dir(RunKey("tfidf", 0, (0,)))
    write_text(partial / "identity.json", "{}")
    write_text(partial / "checkpoints/step-00000001/state.json", "{}")
    unreadable = error_of(errno.EMFILE, str(partial / "identity.json"))
    monkeypatch.setattr("foldstack.store.run_files.read_record", raising(unreadable))
    before = files(partial)
    what = "too many files are open: raise the limit that `ulimit -n` shows"
    capsys.readouterr()
    refuses(workspace, ["train", "--fold", "0"], f"{partial}/identity.json: {what}", capsys)
    assert files(partial) == before


def test_the_outputs_of_a_frozen_backbone_ask_for_their_room_first(tmp_path, monkeypatch):
    """Pages of a mapped file that find no room later would kill the process by SIGBUS."""
    monkeypatch.setattr(os, "posix_fallocate", raising(error_of(errno.ENOSPC)))
    with pytest.raises(OSError) as e:
        frozen._open(tmp_path / "outputs.npy", (4, 2))
    assert e.value.errno == errno.ENOSPC


# Standard output and standard error


class Failing(io.TextIOBase):
    """A stream that cannot be written."""

    def __init__(self, number: int):
        self.number = number

    def write(self, text: str) -> None:
        raise error_of(self.number)

    def flush(self) -> None:
        raise error_of(self.number)


def test_an_output_that_is_full(workspace, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Failing(errno.ENOSPC))
        assert foldstack(workspace, "folds") == 2
    assert capsys.readouterr().err == f"foldstack: standard output: {FULL}\n"


def test_a_reader_that_has_gone(workspace, monkeypatch, capsys):
    """`foldstack scores | head -1` ends as other programs do, without a word."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Failing(errno.EPIPE))
        assert foldstack(workspace, "folds") == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_an_error_that_cannot_be_shown_keeps_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Failing(errno.ENOSPC))
    assert foldstack(tmp_path, "folds") == 2


def test_progress_that_cannot_be_shown_stops_no_work(monkeypatch):
    """A terminal that is gone takes no more lines; the update that is being made comes first."""
    monkeypatch.setattr("foldstack.progress.PLAIN_SECONDS", 0)
    with Progress("training", 1, "updates", stream=Failing(errno.EIO)) as progress:
        progress.add()
    assert progress.done == 1


STREAMS = {
    "full": ("{} > /dev/full", 2, f"foldstack: standard output: {FULL}\n"),
    "full, help": ("{} --help > /dev/full", 0, ""),  # argparse ignores it
    "all closed": ("{} <&- >&- 2>&-", 0, ""),
    "unread": ("set -o pipefail; {} | true", 141, ""),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("case", list(STREAMS))
def test_streams_of_a_real_process(done, case):
    """The interpreter itself, which flushes at its end, has nothing to add."""
    shell, code, error = STREAMS[case]
    command = f"'{sys.executable}' -m foldstack --workspace '{done}' scores"
    if case == "unread":  # the reader is gone before the first line
        command = f"(sleep 0.2; exec {command})"
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    shell = ["bash", "-c", shell.format(command)]
    child = subprocess.run(shell, stderr=subprocess.PIPE, text=True, timeout=60, env=buffered)
    assert (child.returncode, child.stderr) == (code, error)


# Signals


@pytest.fixture
def handlers_restored():
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_an_answer_does_not_wait_for_a_long_call(monkeypatch, handlers_restored):
    """A backward pass of a large model takes seconds, and no handler runs before it ends."""
    happened = []

    class Recording(Stop):
        def _on_signal(self, signum: int, frame: object) -> None:
            happened.append("handler")
            super()._on_signal(signum, frame)

    monkeypatch.setattr("foldstack.interrupt._say", happened.append)
    stop = Recording()
    stop.install()
    sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted), stop.deferred():
        threading.Timer(0.01, sender.start).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # looks for no signal
        assert stop.should_stop()
    assert happened == [ANSWER, "handler"]


def test_a_signal_is_answered_once(handlers_restored, capfd):
    """The second one, or the echo that a parent passes on, has nothing to add."""
    stop = Stop()
    stop.install()
    with pytest.raises(Interrupted), stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == f"{ANSWER}\n"


def test_a_signal_is_not_lost_where_python_ignores_errors(handlers_restored, monkeypatch, capfd):
    """It may come in a `__del__` or in a callback of the import system, which drop what is raised."""

    class Removed:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    stop = Stop()
    stop.install()
    removed = [Removed()]
    with pytest.raises(Interrupted):
        removed.clear()
        time.sleep(10)  # until the signal comes again
    assert capfd.readouterr().err == ""


def test_a_process_that_ignores_sighup_goes_on_doing_so(handlers_restored):
    """`nohup foldstack train` outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Stop().install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = Stop()
    stop.install()
    assert signal.getsignal(signal.SIGHUP) == stop._on_signal


def test_a_file_that_cannot_be_opened_now_is_not_damaged(workspace, monkeypatch, capsys):
    """Too many files are open: to fetch the file again would not help."""
    unreadable = error_of(errno.EMFILE, "train.csv")
    monkeypatch.setattr("foldstack.tables.packed._open", raising(unreadable))
    capsys.readouterr()
    assert foldstack(workspace, "folds") == 2
    assert "too many files are open" in capsys.readouterr().err


def test_a_disk_that_is_full_while_a_backbone_is_fetched_is_named(monkeypatch):
    """It was called neither in the cache nor reachable on the hub."""
    from foldstack.nets import backbone

    full = error_of(errno.ENOSPC, "model.safetensors")
    monkeypatch.setattr(backbone, "_load", raising(full))
    with pytest.raises(OSError) as e:
        backbone.from_pretrained(backbone.AutoConfig, "somebody/model", False)
    assert system.sentence(e.value) == f"model.safetensors: {FULL}"


def test_an_error_that_a_signal_leads_to_is_no_traceback(workspace, monkeypatch, capsys):
    """A library that is left half-way, as tqdm while it takes its lock, may fail in its `finally`."""

    def left_half_way(*_: object, **__: object) -> None:
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            _ = None.release

    monkeypatch.setattr("foldstack.stages.folds.make_folds", left_half_way)
    assert foldstack(workspace, "folds") == 143
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_signals_are_handled_is_no_traceback(workspace, monkeypatch, capsys):
    """The command line is still being read."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foldstack.cli.parser", interrupted)
    assert foldstack(workspace, "folds") == 130
    assert capsys.readouterr().err == ""
