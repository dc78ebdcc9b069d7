"""Threads per run, runs at once, and the time left: how the runs of a competition share a machine."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from foldstack import cgroups, cores, progress
from foldstack.cores import threads_per_run
from foldstack.files import read_json
from foldstack.records import RunRecord, write_record
from foldstack.stages import jobs, launch, predictor
from foldstack.stages.fitted import threads_of, threads_to_predict
from foldstack.stages.jobs import Jobs, time_left
from foldstack.stages.run import Run
from foldstack.store import RunKey, Store
from foldstack.techniques import TransformerSettings
from foldstack.workspace import Workspace
from tiny import (
    add_preset,
    files,
    foldstack,
    go_through,
    make_workspace,
    refuses,
    run_of,
    write,
    write_competition,
)

BERT = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "vocab_size": 30_522,
}


SEEN = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
MINILM = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}
LONG = {"batch_size": 16, "max_length": 256}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Give the machine these cores, this free memory in MB, and GPUs or none."""

    def make(cores_: int = 2, free: int = 100_000, gpu: bool | int = False) -> None:
        monkeypatch.setattr(jobs, "cpu_cores", lambda: cores_)
        monkeypatch.setattr(cores, "cpu_cores", lambda: cores_)
        monkeypatch.setattr(jobs, "available_memory_mb", lambda: free)
        monkeypatch.setattr(jobs, "has_gpu", lambda: bool(gpu))
        monkeypatch.setattr(jobs, "visible_gpus", lambda: [str(i) for i in range(gpu)])

    make()
    return make


def made(root: Path, **changed: object) -> Path:
    """A workspace with folds, whose folds.json has these changes."""
    assert foldstack(make_workspace(root), "folds") == 0
    path = root / "folds/folds.json"
    record = {k: v for k, v in (read_json(path) | changed).items() if v is not None}
    write_record(path, record)
    return root


def runs_of(root: Path, name: str = "tfidf", folds: int = 3) -> tuple[Workspace, list[Run]]:
    return run_of(root, name)[0], [run_of(root, name, fold)[1] for fold in range(folds)]


def took(root: Path, fold: int, seconds: float, peak_memory_mb: int) -> RunRecord:
    """Let the finished run that leaves this fold out have taken so long and so much."""
    store, key = Store(root), RunKey("tfidf", 0, (fold,))
    update = {"seconds": seconds, "peak_memory_mb": peak_memory_mb}
    record = store.read_run(key).model_copy(update=update)
    write_record(store.run_dir(key) / "run.json", record.to_json())
    return record


# Threads per run


@pytest.mark.parametrize(
    ("cores_", "runs", "threads"),
    [(1, 10, 1), (2, 10, 1), (2, 1, 2), (8, 3, 2), (8, 5, 1), (8, 8, 1), (16, 1, 16), (64, 20, 3)],
)
def test_a_run_has_more_threads_only_if_there_are_more_cores_than_runs(cores_, runs, threads):
    """Two one-thread runs at once take less time than two two-thread runs one after the other."""
    assert threads_per_run(cores_, runs) == threads


@pytest.mark.parametrize(
    ("of_machine", "sets", "threads", "line"),
    [
        ({}, [], 1, "2 cores, 6 runs: 1 thread per run; 2 at once"),
        ({"cores_": 1}, [], 1, "1 core, 6 runs: 1 thread per run; 1 at once"),
        ({"cores_": 20}, [], 3, "20 cores, 6 runs: 3 threads per run; 6 at once"),
        (
            {"cores_": 8, "gpu": True},
            [],
            8,
            "8 cores and a GPU, 6 runs: 8 threads per run; 1 at once",
        ),
        (
            {"cores_": 8},
            ["--set", "runtime.threads=4"],
            1,
            "8 cores, 6 runs: 4 threads per run (runtime.threads); 2 at once",
        ),
    ],
)
def test_folds_keep_the_threads_of_their_runs(
    tmp_path, machine, capsys, of_machine, sets, threads, line
):
    """Folds of three, two seeds: the number does not change with what is left to do."""
    machine(**of_machine)
    root = make_workspace(tmp_path / "w", seeds=[0, 1])
    assert foldstack(root, *sets, "folds") == 0
    assert f"folds: {line}\n" in capsys.readouterr().out
    assert Store(root).read_folds_record().threads == threads


def test_the_hash_of_folds_knows_no_threads(tmp_path, machine):
    hashes = []
    for count in (2, 64):
        machine(count)
        root = make_workspace(tmp_path / str(count))
        assert foldstack(root, "folds") == 0
        hashes.append(Store(root).read_folds_record().hash)
    assert len(set(hashes)) == 1


def test_a_run_takes_the_threads_of_its_folds(tmp_path, machine):
    """Folds made before they kept a number have runs with all cores, as then."""
    machine(2)
    root = made(tmp_path / "w", threads=5)
    assert foldstack(root, "train", "--fold", "0") == 0
    assert Store(root).read_run(RunKey("tfidf", 0, (0,))).machine["threads"] == 5
    assert threads_of(Workspace.open(root, ["runtime.threads=7"])) == 7
    assert threads_of(Workspace.open(root, []), processes=2) == 1
    assert threads_of(Workspace.open(made(tmp_path / "old", threads=None), [])) == 2


def test_predictions_take_all_cores(tmp_path, machine, monkeypatch):
    """They do not depend on the number of threads, and no other run waits for a core."""
    machine(2)
    root = go_through(made(tmp_path / "w", threads=1), "train")
    given, load = [], predictor.load_learner
    monkeypatch.setattr(
        predictor,
        "load_learner",
        lambda ws, key, threads: given.append(threads) or load(ws, key, 1),
    )
    assert foldstack(root, "predict", "--model", "tfidf", "--text", "a good film") == 0
    assert given == [2, 2, 2]
    assert threads_to_predict(Workspace.open(root, ["runtime.threads=7"])) == 7
    assert threads_to_predict(Workspace(make_workspace(tmp_path / "without folds"))) == 2


# Runs at once


@pytest.mark.parametrize(
    ("of_machine", "folds", "given", "processes", "at_once"),
    [
        ({}, 3, 0, 1, 2),
        ({"cores_": 8}, 3, 0, 1, 3),
        ({"cores_": 8}, 3, 2, 1, 2),
        ({"cores_": 8}, 3, 0, 2, 1),
        ({"cores_": 8, "free": 10_000}, 3, 0, 1, 3),
        ({"cores_": 8, "free": 1}, 3, 0, 1, 1),
        ({"cores_": 8, "free": 1}, 3, 3, 1, 3),
        ({"cores_": 8, "gpu": True}, 3, 0, 1, 3),  # a linear model does not use it
    ],
)
def test_as_many_runs_at_once_as_cores_and_memory_allow(
    tmp_path, machine, of_machine, folds, given, processes, at_once
):
    """A number that is given stays, and several processes per run take one run at a time."""
    root = made(tmp_path / "w", threads=1)
    machine(**of_machine)
    assert Jobs(*runs_of(root, folds=folds), given, processes).at_once() == at_once


def test_one_run_at_a_time_feeds_a_gpu(tmp_path, machine, backbone):
    root = made(tmp_path / "w", threads=1)
    add_preset(root, backbone)
    assert Jobs(*runs_of(root, "tiny"), 0, 1).at_once() == 2
    machine(gpu=True)
    assert Jobs(*runs_of(root, "tiny"), 0, 1).at_once() == 1


def test_runs_share_out_the_gpus(tmp_path, machine, backbone, monkeypatch):
    """Each process sees one of them, the least used; a linear model counts none."""
    root = made(tmp_path / "w", threads=1)
    add_preset(root, backbone)
    machine(gpu=2)
    ws, todo = runs_of(root, "tiny")
    assert Jobs(*runs_of(root), 0, 1).at_once() == 2  # by cores
    assert Jobs(ws, todo, 0, 2).at_once() == 1
    shared = Jobs(ws, todo, 0, 1)
    assert shared.plan() == ["train: 3 runs, 2 at once on 2 GPUs with 1 thread each"]
    monkeypatch.setattr(launch, "_command", lambda ws, run, force: [sys.executable, "-c", SEEN])
    monkeypatch.setattr(launch, "say", lambda line: seen.append(line))
    monkeypatch.setattr(shared, "end", lambda run, record: shared._since.pop(run.key))
    monkeypatch.setattr(shared, "progress", lambda: "")
    seen: list[str] = []
    launch.train_each(ws, todo, shared, force=False)
    found = {line[: line.index(" | ")]: line[-1] for line in seen if " | " in line}
    assert sorted(found) == [str(run.key) for run in todo]
    assert {found[str(run.key)] for run in todo[:2]} == {"0", "1"}


@pytest.mark.parametrize(
    ("named", "count", "gpus"),
    [("", 2, ["0", "1"]), ("3, 5", 2, ["3", "5"]), ("GPU-8932f937", 1, ["GPU-8932f937"])],
)
def test_gpus_are_those_that_this_process_sees(monkeypatch, named, count, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(cores, "has_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert cores.visible_gpus() == gpus


def test_runs_that_are_finished_say_what_memory_another_takes(tmp_path, machine):
    """A network that is not on this machine may take 6,000 MB more than its rows until one has ended."""
    root = go_through(made(tmp_path / "w", threads=1), "train")
    add_preset(root, "nobody/no-such-model")
    took(root, 0, 1.0, 6000)
    machine(free=11_999)
    assert Jobs(*runs_of(root), 0, 1).plan() == [
        "train: 3 runs, 1 at once with 1 thread each: 11,999 MB of memory are free, and one may take "
        "6,000 MB"
    ]
    machine(free=12_000)
    assert Jobs(*runs_of(root), 0, 1).plan() == ["train: 3 runs, 2 at once with 1 thread each"]
    ws, (tiny, *_) = runs_of(root, "tiny")
    mixed = Jobs(ws, [*runs_of(root)[1], tiny], 0, 1)
    assert mixed.at_once() == 2
    mixed.begin(run_of(root, "tfidf", 0)[1])
    assert mixed.may_begin(run_of(root, "tfidf", 1)[1])
    assert not mixed.may_begin(tiny)


@pytest.mark.parametrize(
    ("config", "training", "mb"),
    [
        # 12 · (4 · 768² + 2 · 768 · 3072) weights of 16 bytes, 30,522 · 768 of 8; 16 · 256 tokens, each
        # 12 · (92 · 768 + 14 · 12 · 256) bytes
        ({}, LONG, 6_802),
        ({}, LONG | {"micro_batch_size": 4}, 2_806),
        ({"pos_att_type": "p2c|c2p", "position_buckets": 256}, LONG, 10_834),
        (MINILM, LONG, 2_087),
        (MINILM, {"batch_size": "auto", "max_length": "auto"}, 2_087),
        ({"hidden_size": None}, {}, None),
        ({"hidden_size": "many"}, {}, None),
        ([], {}, None),
    ],
)
def test_the_config_of_a_backbone_says_what_memory_a_first_run_takes(
    tmp_path, config, training, mb
):
    """MiniLM takes less than BERT, and DeBERTa, which scores relative positions, more."""
    if isinstance(config, dict):
        config = BERT | config
    write(tmp_path / "backbone/config.json", json.dumps(config))
    data = {"learner": "transformer", "backbone": str(tmp_path / "backbone"), "training": training}
    assert TransformerSettings.model_validate(data).fit_mb(1_000) == mb


def test_a_first_run_of_a_network_takes_its_libraries_too(tmp_path, machine, monkeypatch):
    """This process's 300 MB, 400 of libraries and those of its fit."""
    root = made(tmp_path / "w", threads=1)
    write(tmp_path / "backbone/config.json", json.dumps(BERT))
    add_preset(root, tmp_path / "backbone")
    info = SimpleNamespace(rss=300 << 20)
    monkeypatch.setattr(jobs.psutil.Process, "memory_info", lambda process: info)
    ws, runs = runs_of(root, "tiny")
    of_fit = runs[0].settings.fit_mb(24)
    for free, at_once in ((2 * (700 + of_fit), 2), (2 * (700 + of_fit) - 1, 1)):
        machine(free=free)
        assert Jobs(ws, runs, 0, 1).at_once() == at_once


def test_more_threads_than_cores_are_said(tmp_path, machine):
    root = made(tmp_path / "w", threads=8)
    assert Jobs(*runs_of(root), 0, 1).plan() == [
        "train: 3 runs, 1 at once with 8 threads each",
        "train: folds/folds.json gives each run 8 threads, more than the 2 cores here, and a run's last "
        "bits depend on them: `make folds FORCE=1` chooses again",
    ]
    assert Jobs(*runs_of(root), 2, 1).plan()[1] == (
        "train: 2 runs of 8 threads each share 2 cores and may take longer than one after the other; "
        "runtime.threads=1 makes them smaller"
    )


# Limits of a container


GROUPS = {
    "version 2": (
        "0::/pod/it\n",
        {
            "memory.max": "max",
            "pod/memory.max": "3000",
            "pod/memory.current": "2000",
            "pod/memory.stat": "anon 1\ninactive_file 500\n",
            "cpu.max": "max 100000",
            "pod/it/cpu.max": "150000 100000",
        },
    ),
    "version 1": (
        "4:memory:/on/the/host\n1:cpu,cpuacct:/on/the/host\n",
        {
            "memory/memory.limit_in_bytes": "3000",
            "memory/memory.usage_in_bytes": "2000",
            "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 500\n",
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
            "cpu/on/cpu.cfs_quota_us": "-1",
            "cpu/on/cpu.cfs_period_us": "100000",
        },
    ),
}


@pytest.mark.parametrize("version", GROUPS)
def test_the_limits_of_a_container_are_heeded(tmp_path, monkeypatch, version):
    """Its host may have 64 cores."""
    own, files = GROUPS[version]
    for path, text in files.items():
        write(tmp_path / "groups" / path, text)
    monkeypatch.setattr(cgroups, "OWN", write(tmp_path / "own", own))
    monkeypatch.setattr(cgroups, "GROUPS", tmp_path / "groups")
    assert list(cgroups.cpu_quotas()) == [1.5]
    assert list(cgroups.memory_left()) == [1500]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert cores.cpu_cores() == 2
    assert cores.available_memory_mb() == 0
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "no such file")
    assert cores.cpu_cores() == 64
    assert cores.available_memory_mb() > 0


# The time left


@pytest.mark.parametrize(
    ("seconds", "at_once", "left"),
    [([], 2, 0), ([10, 10, 10], 1, 30), ([10, 10, 10], 2, 20), ([-5, 60, 10, 10], 2, 60)],
)
def test_the_time_left_is_that_of_the_runs_in_their_order(seconds, at_once, left):
    """A run that takes longer than others did is about to end."""
    assert time_left(seconds, at_once) == left


def test_finished_runs_say_how_long_the_others_take(tmp_path, machine, monkeypatch, backbone):
    """Runs of this call count with their start; a model of which none is finished is named."""
    root = go_through(made(tmp_path / "w", threads=1), "train")
    add_preset(root, backbone)
    for fold in range(3):
        took(root, fold, 30.0, 100)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ws, todo = runs_of(root)
    tiny = run_of(root, "tiny")[1]
    shared = Jobs(ws, [*todo, tiny], 0, 1)
    unknown = "not counting tiny"
    assert shared.progress() == f"train: 0 of 4 runs, about 1:00 left, {unknown}"
    shared.begin(todo[0])
    now += 10
    assert shared.progress() == f"train: 0 of 4 runs, about 0:50 left, {unknown}"
    now += 90
    shared.end(todo[0], took(root, 0, 30.0, 100))
    assert shared.progress() == f"train: 1 of 4 runs, about 1:40 left, {unknown}"
    shared.begin(tiny)
    now += 5
    shared.end(tiny, took(root, 0, 20.0, 100))
    assert shared.progress() == "train: 2 of 4 runs, about 1:40 left"
    for run in todo[1:]:
        shared.begin(run)
        now += 60
        shared.end(run, took(root, 0, 30.0, 100))
    assert shared.progress() == "train: 4 of 4 runs in 3:45"


def test_runs_of_other_settings_or_threads_say_nothing(tmp_path, machine):
    root = go_through(made(tmp_path / "w", threads=1), "train")
    todo = runs_of(root)[1]
    for sets in (["runtime.threads=2"], ["C=2.5"]):
        ws = Workspace.open(root, sets)
        other = [Run(run.key, ws.model_settings("tfidf"), run.folds) for run in todo]
        assert Jobs(ws, other, 0, 1).progress() == (
            "train: 0 of 3 runs, the time left is not known yet"
        )


def test_train_says_how_it_shares_the_machine_and_what_is_left(tmp_path, capsys):
    """Each line names its run once, whoever's output it stands among."""
    root = made(tmp_path / "w", threads=1)
    capsys.readouterr()
    assert foldstack(root, "train", "--jobs", "2") == 0
    said = capsys.readouterr().out
    lines = re.sub(r"\d+:\d\d", "M:SS", said).splitlines()
    assert lines[0] == "train: 3 runs, 2 at once with 1 thread each"
    of_train = [line for line in lines[1:] if line.startswith("train: ")]
    assert of_train == [
        *(f"train: {done} of 3 runs, about M:SS left" for done in (1, 2)),
        "train: 3 of 3 runs in M:SS",
    ]
    for fold in range(3):
        assert f"tfidf seed 0 fold{fold}: 16 rows to learn from, 8 held out" in lines


def test_a_run_alone_has_no_such_line(tmp_path, capsys):
    root = made(tmp_path / "w", threads=1)
    assert foldstack(root, "train", "--fold", "0") == 0
    assert "train: " not in capsys.readouterr().out


# Failures


def test_a_missing_backbone_is_found_before_any_run_begins(tmp_path, capsys):
    """Of every model that is to be trained, also of the last one; nothing is written."""
    root = made(tmp_path / "w", threads=1)
    add_preset(root, "./nowhere")
    write_competition(root, models=["tfidf", "tiny"])
    before = files(root)
    capsys.readouterr()
    refuses(root, ["train"], "backbone './nowhere': there is no folder nowhere", capsys)
    assert files(root) == before
    assert foldstack(root, "train", "--model", "tfidf", "--fold", "0") == 0  # not asked for


def test_a_backbone_is_needed_by_runs_to_train_alone(tmp_path, capsys, backbone):
    """Finished runs have a copy, and so have pretrained backbones."""
    root = made(tmp_path / "w", threads=1)
    place = Path(shutil.copytree(backbone, tmp_path / "backbone"))
    pretrain = {"epochs": 1, "batch_size": 8}
    add_preset(root, place)
    add_preset(root, place, "pretrained", pretrain=pretrain)
    for model in ("tiny", "pretrained"):
        assert foldstack(root, "train", "--model", model, "--fold", "0") == 0
    shutil.rmtree(place)
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    assert foldstack(root, "train", "--model", "pretrained", "--fold", "1") == 0
    capsys.readouterr()
    sentence = f"backbone '{place}': there is no folder {place}"
    refuses(root, ["train", "--model", "tiny", "--fold", "0", "--force"], sentence, capsys)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_time_left_stands_below_the_runs(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    with progress.StatusLine(True) as status:
        assert status.shown
        status.show("train: 1 of 3 runs, about 0:20 left")
    assert "\rtrain: 1 of 3 runs, about 0:20 left" in shown.getvalue()
    assert not progress.StatusLine(False).shown
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not progress.StatusLine(True).shown
