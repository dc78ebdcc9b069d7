"""A run that is killed, at any moment and however often, ends with the bytes of one that was not.

Most processes here are forked from a server that has torch imported already, and kill themselves
at an exact call, so that a test names the moment it is about.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foldstack.cli import main
from foldstack.errors import Interrupted
from foldstack.files import read_json
from foldstack.interrupt import SAME_SECONDS, Stop
from foldstack.records import write_record
from foldstack.store import RunKey, Store
from foldstack.tidy import unfinished
from foldstack.training import checkpoint, loop
from tiny import FORK_SERVER, add_preset, foldstack, make_workspace, refuses, write_competition

PER_EPOCH, EPOCHS = 5, 3  # 40 rows to learn from, 8 an update
TRAIN = ("train", "--model", "tiny", "--fold", "0")
KEY = RunKey("tiny", 0, (0,))
NAME = "tiny seed 0 fold0"
UPDATE = "foldstack.training.loop:update"

pytestmark = pytest.mark.usefixtures("fork_server", "cpu_settings_restored")


def make(root: Path, backbone: Path, checkpoint_seconds: float = 0, **training: object) -> Path:
    """A workspace of 60 rows in three folds, its preset `tiny` with dropout."""
    make_workspace(root, n=60, runtime={"threads": 1})
    training = {"epochs": EPOCHS, "precision": "fp32"} | training
    add_preset(root, backbone, training=training, checkpoint_seconds=checkpoint_seconds)
    assert foldstack(root, "folds") == 0
    return root


def bytes_of(root: Path, key: RunKey = KEY) -> dict[str, bytes]:
    """The predictions, the fitted weights, the loss curve and the epochs' scores."""
    place = Store(root).run_dir(key)
    names = ("heldout.parquet", "test.parquet", "model/classifier.safetensors")
    facts = read_json(place / "run.json")
    curve = json.dumps([facts["losses"], facts.get("epoch_scores"), facts.get("stages", [])])
    curve = re.sub(r'"training_seconds": [\d.]+', "", curve)
    return {name: (place / name).read_bytes() for name in names} | {"curve": curve.encode()}


def finish(root: Path, *options: str) -> None:
    assert foldstack(root, *TRAIN, *options) == 0


@pytest.fixture(scope="module")
def reference(backbone, tmp_path_factory) -> dict[str, bytes]:
    """What the run ends with that nothing disturbs; it writes no checkpoint."""
    root = make(tmp_path_factory.mktemp("reference") / "w", backbone, checkpoint_seconds=1000)
    finish(root)
    return bytes_of(root)


@pytest.fixture
def root(backbone, tmp_path) -> Path:
    return make(tmp_path / "w", backbone)


# Processes


def signal_self(at: str, call: int, signals: list[int]) -> None:
    """Send this process the signals when the function `module:name` is called for the n-th time."""
    module, _, path = at.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    real, calls = getattr(owner, name), 0

    def counting(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            for signum in signals:
                os.kill(os.getpid(), signum)
        return real(*args, **kwargs)

    setattr(owner, name, counting)


def forked(root: str, args: tuple[str, ...], at: tuple | None) -> None:
    log = os.open(f"{root}/log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if at:
        signal_self(*at)
    raise SystemExit(main(["--workspace", root, *args]))


def start(root: Path, *args: str, at: tuple | None = None) -> multiprocessing.Process:
    """The command line in a process of its own, its output in root/log."""
    process = FORK_SERVER.Process(target=forked, args=(str(root), args or TRAIN, at))
    process.start()
    return process


def end(process: multiprocessing.Process) -> int:
    process.join(60)
    assert process.exitcode is not None, "the process did not end"
    return process.exitcode


def wait_for(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit, f"waited 5 minutes for {what}"
        time.sleep(0.005)


def steps(root: Path, key: RunKey = KEY) -> list[int]:
    """The updates after which there are checkpoints."""
    folder = Store(root).partial_dir(key) / "checkpoints"
    return sorted(int(p.name.removeprefix("step-")) for p in folder.glob("step-*"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie that nobody has waited for is dead all the same
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


# kill -9


@pytest.mark.parametrize(
    "at, call, resumed",
    [
        (UPDATE, 3, 2),  # in the first epoch
        (UPDATE, PER_EPOCH + 1, PER_EPOCH),  # before the first update of the second
        (UPDATE, PER_EPOCH + 4, PER_EPOCH + 3),
        pytest.param(
            "foldstack.training.checkpoint:save_file", 7, 6, marks=pytest.mark.slow
        ),  # no weights yet
        ("foldstack.training.checkpoint:write_json", 7, 6),  # weights, but no state
        pytest.param(
            "foldstack.store.run_predictions:write_parquet", 1, 15, marks=pytest.mark.slow
        ),  # trained, not predicted
        ("foldstack.store.run_predictions:write_parquet", 2, 15),  # one file of two
        pytest.param(
            "foldstack.records.base:write_json", 2, 15, marks=pytest.mark.slow
        ),  # predicted
        ("foldstack.store:Store.finish", 1, 15),  # all but its name
    ],
)
def test_killed_at(root, reference, capsys, at, call, resumed):
    """Trap 6: a resumed run that replays or skips a batch, or starts its schedule again."""
    assert end(start(root, at=(at, call, [signal.SIGKILL]))) == -signal.SIGKILL
    assert Store(root).read_run(KEY) is None
    finish(root)
    assert bytes_of(root) == reference
    note = f"resuming from the checkpoint after update {resumed}\n"
    assert note in capsys.readouterr().out
    assert not (Store(root).run_dir(KEY) / "checkpoints").exists()
    assert not Store(root).partial_dir(KEY).exists()


def test_killed_again_and_again_at_any_moment(root, reference):
    """From outside, wherever the process happens to be; each time it gets a little further."""
    for step in (2, 7, 11):
        process = start(root)
        wait_for(lambda s=step: max(steps(root), default=0) >= s, f"checkpoint {step}")
        process.kill()
        assert end(process) == -signal.SIGKILL
    assert max(steps(root)) < PER_EPOCH * EPOCHS
    finish(root)
    assert bytes_of(root) == reference


@pytest.mark.parametrize(
    "at, call",
    [
        (UPDATE, 2 * PER_EPOCH + 2),  # after two evaluations
        ("foldstack.training.checkpoint:save_weights", 1),  # evaluated, its weights not yet kept
    ],
)
def test_killed_between_evaluations(backbone, tmp_path, at, call):
    """The epochs' scores and the best weights come back, else another epoch might win."""
    whole = make(tmp_path / "whole", backbone, 1000, select="inner")
    finish(whole)
    root = make(tmp_path / "killed", backbone, select="inner")
    assert end(start(root, at=(at, call, [signal.SIGKILL]))) == -signal.SIGKILL
    finish(root)
    assert bytes_of(root) == bytes_of(whole)
    a, b = (Store(r).read_run(KEY) for r in (root, whole))
    assert len(a.facts["epoch_scores"]) == EPOCHS
    for fact in ("epoch_scores", "best_epoch"):
        assert a.facts[fact] == b.facts[fact]


EVERYTHING = {
    "fgm": {
        "loss": {"name": "soft_f1", "share": 0.5},
        "rdrop": 0.5,
        "contrastive": {"weight": 0.1},
        "adversary": "fgm",
        "layer_decay": 0.9,
        "head_lr": 2e-3,
        "reinit_layers": 1,
        "averaging": {"name": "ema", "decay": 0.9},
        "schedule": {"name": "plateau", "patience": 1},
        "select": "inner",
        "patience": 2,
    },
    "awp": {
        "loss": "ghm",
        "adversary": {"name": "awp", "start": 1},
        "averaging": {"name": "swa", "start": 0},
        "optimizer": "adafactor",
        "schedule": "step",
        "freeze_layers": 1,
    },
    "freelb": {
        "loss": {"name": "focal", "class_weights": "effective"},
        "adversary": "freelb",
        "micro_batch_size": 3,
        "averaging": "soup",
        "schedule": "cosine",
        "select": "inner",
    },
    "vat": {"adversary": "vat", "freeze_embeddings": True, "averaging": "ema", "rdrop": 1},
    "pgd": {"loss": "asymmetric", "adversary": "pgd", "optimizer": "adafactor", "averaging": "ema"},
}


@pytest.mark.parametrize("techniques", list(EVERYTHING))
@pytest.mark.parametrize(
    "call", [PER_EPOCH + 1, pytest.param(2 * PER_EPOCH + 3, marks=pytest.mark.slow)]
)
def test_killed_with_everything_switched_on(backbone, tmp_path, techniques, call):
    """Whatever a technique keeps beside the weights, averages and scores included, comes back."""
    options = EVERYTHING[techniques]
    whole = make(tmp_path / "whole", backbone, 1000, **options)
    finish(whole)
    root = make(tmp_path / "killed", backbone, **options)
    assert end(start(root, at=(UPDATE, call, [signal.SIGKILL]))) == -signal.SIGKILL
    finish(root)
    assert bytes_of(root) == bytes_of(whole)


STAGES = [
    {"auxiliary": 1, "sampling": "power", "epochs": 1},
    {"auxiliary": 0.3, "mixup": 0.4, "mask_spans": {}, "adversary": "fgm", "epochs": 1},
    {"freeze_backbone": True, "loss": "soft_f1", "epochs": 3, "averaging": "ema", "dropout": 0},
]


def make_staged(root: Path, backbone: Path, checkpoint_seconds: float = 0) -> Path:
    """make's workspace, whose training rows have a column more, and a preset of three stages."""
    make(root, backbone)
    train = root / "input/train.csv"
    header, *lines = train.read_text().splitlines()
    rows = [f"{header},stars", *(f"{line},{i % 3}" for i, line in enumerate(lines))]
    train.write_text("\n".join(rows) + "\n")
    write_competition(root, auxiliary=["stars"], runtime={"threads": 1})
    options = {"checkpoint_seconds": checkpoint_seconds, "stages": STAGES, "head": "attention"}
    add_preset(root, backbone, training={"precision": "fp32"}, **options)
    return root


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(3, marks=pytest.mark.slow),
        PER_EPOCH + 1,
        pytest.param(PER_EPOCH + 4, marks=pytest.mark.slow),
        2 * PER_EPOCH + 2,
    ],
)
def test_killed_in_each_stage(backbone, tmp_path, call):
    """In the first, at the beginning of the second, within it, and in the one with a frozen backbone."""
    whole = make_staged(tmp_path / "whole", backbone, 1000)
    finish(whole)
    root = make_staged(tmp_path / "killed", backbone)
    assert end(start(root, at=(UPDATE, call, [signal.SIGKILL]))) == -signal.SIGKILL
    finish(root)
    assert bytes_of(root) == bytes_of(whole)


def test_resumed_between_two_looks_at_the_loss(backbone, tmp_path, monkeypatch):
    """Every 20 updates; a run that went on at the 21st had no loss to show, and crashed."""
    root = make(tmp_path / "w", backbone, epochs=5)
    crash(root, monkeypatch, 23)
    assert steps(root) == [21, 22]
    finish(root)


# SIGTERM, SIGHUP and Ctrl-C


@pytest.mark.parametrize(
    "signals, code",
    [
        ([signal.SIGTERM], 143),
        ([signal.SIGINT], 130),
        ([signal.SIGHUP], 129),
        ([signal.SIGTERM] * 2, 143),  # as `timeout` sends it: to the process and to its group
    ],
)
def test_a_signal_saves_and_stops(backbone, tmp_path, reference, signals, code):
    """There is no other checkpoint than the one that the signal asks for."""
    root = make(tmp_path / "w", backbone, checkpoint_seconds=1000)
    assert end(start(root, at=(UPDATE, 7, signals))) == code
    assert steps(root) == [7]
    said = "stopped after update 7 of 15: the same command resumes from here\n"
    log = (root / "log").read_text()
    assert log.endswith(said) and "Traceback" not in log
    assert log.count("stopping after this update\n") == 1
    finish(root)
    assert bytes_of(root) == reference


def on_terminal(root: str, terminal: str, at: tuple) -> None:
    """As `forked`, in a session of its own on this terminal."""
    os.setsid()
    opened = os.open(terminal, os.O_RDWR)  # and so it controls the session
    for number in (0, 1, 2):
        os.dup2(opened, number)
    signal_self(*at)
    raise SystemExit(main(["--workspace", root, *TRAIN]))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_terminal_that_is_closed(backbone, tmp_path, reference):
    """It sends SIGHUP and takes no more output; the checkpoint is written all the same."""
    root = make(tmp_path / "w", backbone, checkpoint_seconds=1000)
    ours, theirs = os.openpty()
    at = (UPDATE, 7, [signal.SIGSTOP])  # until the terminal goes, which sends SIGCONT too
    process = FORK_SERVER.Process(target=on_terminal, args=(str(root), os.ttyname(theirs), at))
    process.start()
    state = Path(f"/proc/{process.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "update 7")
    os.close(theirs)
    os.close(ours)
    assert end(process) == 129
    assert steps(root) == [7]
    finish(root)
    assert bytes_of(root) == reference


def test_a_signal_before_the_training_stops_at_once(root):
    """Nothing is lost there, so nothing is waited for."""
    place = "foldstack.learners.transformer:load_backbone"
    assert end(start(root, at=(place, 1, [signal.SIGTERM]))) == 143
    assert steps(root) == []
    assert (root / "log").read_text() == (
        f"{NAME}: 40 rows to learn from, 20 held out\n{NAME}: stopped: the same command resumes it\n"
    )


def test_a_second_signal_stops_at_once_but_an_echo_does_not(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("foldstack.interrupt.time.monotonic", lambda: now[0])
    stop = Stop()
    with pytest.raises(Interrupted) as e, stop.deferred():
        stop._on_signal(signal.SIGINT, None)
        now[0] += SAME_SECONDS / 2
        stop._on_signal(signal.SIGTERM, None)  # the echo
        assert stop.should_stop()
        now[0] += 2 * SAME_SECONDS
        stop._on_signal(signal.SIGINT, None)
        pytest.fail("the second signal was waited for")
    assert e.value.signum == signal.SIGINT


def test_a_signal_during_the_last_evaluation_is_not_lost():
    """No update follows that could look for it."""
    stop = Stop()
    with pytest.raises(Interrupted), stop.deferred():
        stop._on_signal(signal.SIGTERM, None)


# Checkpoints that are damaged


def crash(root: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> Path:
    """Stop the run before this update, in this process; its checkpoints' folder."""
    real, calls = loop.update, 0

    def failing(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise RuntimeError("crash")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", failing)
        with pytest.raises(RuntimeError, match="crash"):
            foldstack(root, *TRAIN)
    return Store(root).partial_dir(KEY) / "checkpoints"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def another_step(path: Path) -> None:
    """Still valid JSON, but it would skip a batch."""
    path.write_text(path.read_text().replace('"step": 7', '"step": 8'))


@pytest.mark.parametrize(
    "name, damage, reason",
    [
        ("state.safetensors", truncate, "its checksum does not match"),
        ("state.safetensors", flip, "its checksum does not match"),
        ("state.safetensors", Path.unlink, "FileNotFoundError: "),
        ("state.json", truncate, "JSONDecodeError: "),
        ("state.json", another_step, "its checksum does not match"),
        ("state.json", Path.unlink, "FileNotFoundError: "),
    ],
)
def test_a_damaged_checkpoint(root, reference, monkeypatch, capsys, name, damage, reason):
    """It is named and the one before it used."""
    folder = crash(root, monkeypatch, 8)
    assert steps(root) == [6, 7]
    before = (folder / "step-00000007" / name).read_bytes()
    damage(folder / "step-00000007" / name)
    damaged = folder / "step-00000007" / name
    assert not damaged.exists() or damaged.read_bytes() != before
    finish(root)
    out = capsys.readouterr().out
    assert f"checkpoint step-00000007 is damaged ({reason}" in out
    assert "): resuming from the one before it\n" in out
    assert "resuming from the checkpoint after update 6\n" in out
    assert bytes_of(root) == reference


def test_all_checkpoints_damaged(root, reference, monkeypatch, capsys):
    folder = crash(root, monkeypatch, 8)
    for path in folder.glob("step-*/state.safetensors"):
        flip(path)
    finish(root)
    lines = capsys.readouterr().out.splitlines()
    damaged = "is damaged (its checksum does not match)"
    assert f"checkpoint step-00000007 {damaged}: resuming from the one before it" in lines
    assert f"checkpoint step-00000006 {damaged}: none is left, starting over" in lines
    assert bytes_of(root) == reference


def test_checkpoints_hold_no_pickle_and_only_two_are_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"w": torch.full((2,), step)}, {"scores": []})
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert names == [
        f"step-0000000{n}/state.{kind}" for n in (2, 3) for kind in ("json", "safetensors")
    ]
    tensors, state = checkpoint.load_last(tmp_path)
    assert (tensors["w"].tolist(), state["step"]) == ([3, 3], 3)


# Two processes, one run


def test_the_second_process_says_who_has_the_run(root, reference, capsys):
    """Trap 15. The first is held still; once it is dead, its lock is free at once."""
    first = start(root)
    wait_for(lambda: steps(root), "a checkpoint")
    os.kill(first.pid, signal.SIGSTOP)
    capsys.readouterr()
    sentence = f"{NAME} is being trained by process {first.pid}: wait for it, or stop it first"
    refuses(root, list(TRAIN), sentence, capsys)
    first.kill()
    end(first)
    assert Store(root)._beside(KEY, "lock").read_text() == str(first.pid)
    finish(root)
    assert bytes_of(root) == reference


# Several runs


@pytest.fixture(scope="module")
def two_folds(backbone, tmp_path_factory) -> dict[int, dict[str, bytes]]:
    """Folds 0 and 1, one after the other, 40 updates each."""
    root = make(tmp_path_factory.mktemp("folds") / "w", backbone, 1000, epochs=8)
    for fold in (0, 1):
        assert foldstack(root, "train", "--model", "tiny", "--fold", str(fold)) == 0
    return {fold: bytes_of(root, RunKey("tiny", 0, (fold,))) for fold in (0, 1)}


@pytest.mark.parametrize(
    "signum, code, jobs",
    [
        (signal.SIGTERM, 143, "1"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, "2", marks=pytest.mark.slow),
    ],
)
def test_killing_the_parent_stops_its_runs(backbone, tmp_path, two_folds, signum, code, jobs):
    """An orphan that trains on would meet the next `train` at its lock.

    SIGTERM passes on to the runs; kill -9 they notice themselves. These are real processes of
    `train`, each of which takes seconds to import torch.
    """
    root = make(tmp_path / "w", backbone, epochs=8)
    store, keys = Store(root), [RunKey("tiny", 0, (fold,)) for fold in (0, 1)]
    parent = start(root, "train", "--model", "tiny", "--fold", "0,1", "--jobs", jobs)
    wait_for(lambda: any(steps(root, key) for key in keys), "an update")
    locks = [store._beside(key, "lock") for key in keys[: int(jobs)]]
    wait_for(lambda: all(lock.exists() and lock.read_text() for lock in locks), "every run")
    runs = [int(lock.read_text()) for lock in locks]
    os.kill(parent.pid, signum)
    assert end(parent) == code
    wait_for(lambda: not any(map(alive, runs)), "the runs to stop")
    assert not all(map(store.read_run, keys))
    assert any(steps(root, key) or store.read_run(key) for key in keys)

    for fold, key in enumerate(keys):
        assert foldstack(root, "train", "--model", "tiny", "--fold", str(fold)) == 0
        assert bytes_of(root, key) == two_folds[fold]


@pytest.mark.slow
def test_runs_beside_each_other_keep_their_threads(root):
    """Half the cores for each of two would change their bytes; the folds keep their number."""
    record = Store(root).read_folds_record().model_copy(update={"threads": 3})
    write_record(Store(root).folds_record_path, record.to_json())
    for name, folds in (("alone", "0"), ("alone", "1"), ("beside", "0,1")):
        args = ("--model", "tiny", "--name", name, "--fold", folds, "--jobs", "2")
        assert foldstack(root, "train", *args, "--set", "runtime.threads=0") == 0
    for fold in (0, 1):
        alone, beside = (RunKey(name, 0, (fold,)) for name in ("alone", "beside"))
        assert Store(root).read_run(beside).machine["threads"] == 3
        assert bytes_of(root, alone) == bytes_of(root, beside)


def test_a_run_of_several_may_have_no_use_for_a_setting(root, monkeypatch, capsys):
    """`make train SET=training.epochs=1` with tfidf among the models: the whole asked for it."""
    command = ["train", "--model", "tfidf", "--fold", "0", "--set", "training.epochs=1"]
    sentence = (
        "--set: setting 'training' changes nothing in tfidf: leave it out or name another MODEL"
    )
    capsys.readouterr()
    refuses(root, command, sentence, capsys)
    monkeypatch.setenv("FOLDSTACK_PARENT", str(os.getppid()))
    assert foldstack(root, *command) == 0


# Other settings


def test_an_unfinished_run_of_other_settings_is_put_aside(root, reference, monkeypatch, capsys):
    """A SET= that was forgotten once does not cost the hours before it."""
    crash(root, monkeypatch, 8)
    finish(root, "--set", "training.lr=0.002")
    out = capsys.readouterr().out
    assert (
        f"{NAME}: an unfinished run was made with other settings or data "
        "(training.lr 0.001 → 0.002): starting over; the same command as then resumes it\n"
    ) in out
    assert "resuming from the checkpoint" not in out
    assert Store(root).read_run(KEY).identity.settings["training"]["lr"] == 0.002
    finish(root, "--force")
    assert "resuming from the checkpoint after update 7\n" in capsys.readouterr().out
    assert bytes_of(root) == reference
    assert not unfinished(Store(root))


def test_an_unfinished_run_of_another_fold_is_not_resumed(root, reference, monkeypatch, capsys):
    """It has learned labels that this one must not know."""
    crash(root, monkeypatch, 8)
    partial = Store(root).partial_dir(KEY)
    other = Store(root).partial_dir(RunKey(KEY.model, KEY.seed, (1,)))
    partial.rename(other)
    assert foldstack(root, "train", "--model", KEY.model, "--fold", "1") == 0
    out = capsys.readouterr().out
    assert "fold1: the unfinished run is damaged, or another one: starting over\n" in out
    assert "resuming from the checkpoint" not in out


def test_how_often_to_save_is_no_other_setting(root, reference, monkeypatch, capsys):
    crash(root, monkeypatch, 8)
    finish(root, "--set", "checkpoint_seconds=30")
    assert "resuming from the checkpoint after update 7\n" in capsys.readouterr().out
    assert bytes_of(root) == reference


def test_other_threads_are_said(root, monkeypatch, capsys):
    """The run goes on, but nobody is left to wonder at its last bits."""
    crash(root, monkeypatch, 8)
    identity = Store(root).partial_dir(KEY) / "identity.json"
    write_record(identity, json.loads(identity.read_text().replace('"threads": 1', '"threads": 2')))
    finish(root)
    out = capsys.readouterr().out
    assert (
        f"{NAME}: machine.threads 2 → 1 since it was interrupted: the last bits may differ from "
        "those of an uninterrupted run\n"
    ) in out
    assert "resuming from the checkpoint after update 7\n" in out


# After the end


@pytest.fixture(scope="module")
def done(backbone, tmp_path_factory) -> Path:
    """A finished run; tests leave it as it was."""
    root = make(tmp_path_factory.mktemp("done") / "w", backbone, checkpoint_seconds=1000)
    finish(root)
    return root


def test_training_again_does_nothing_and_says_so(done, capsys):
    place = Store(done).run_dir(KEY)
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    capsys.readouterr()
    finish(done)
    assert capsys.readouterr().out == f"train: nothing to do, 1 finished: {NAME}\n"
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


def test_training_again_with_other_settings_names_them(done, capsys):
    refuses(
        done,
        [*TRAIN, "--set", "training.epochs=4", "--set", "dropout=0.2"],
        f"{NAME} is finished with other settings or data (dropout 0.1 → 0.2; training.epochs 3 → 4): "
        "add --force (FORCE=1) to train it again, or NAME= to keep a variant beside it",
        capsys,
    )


def test_a_run_killed_between_its_two_renames_comes_back(done, capsys):
    """`--force` moves the old run aside, then the new one into its place: in between there is none."""
    store, before = Store(done), bytes_of(done)
    store.run_dir(KEY).rename(store._beside(KEY, "old"))
    capsys.readouterr()
    finish(done)
    assert capsys.readouterr().out == f"train: nothing to do, 1 finished: {NAME}\n"
    assert bytes_of(done) == before
    assert not store._beside(KEY, "old").exists()


def test_what_the_bytes_depend_on_is_recorded(done):
    run = read_json(Store(done).run_dir(KEY) / "run.json")
    assert run["machine"]["threads"] == 1
    assert run["machine"]["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert run["versions"]["torch"] == importlib.metadata.version("torch")
