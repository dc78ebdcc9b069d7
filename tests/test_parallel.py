"""Two processes that train one run together: the update of one process, no row lost or doubled.

They meet over gloo on the CPU, as `train --processes 2` and torchrun start them, but forked from a
server that has torch imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foldstack import parallel
from foldstack.cli import main
from foldstack.store import RunKey, Store
from foldstack.text.batches import micro_batches
from foldstack.workspace import Workspace
from test_resume import signal_self
from tiny import add_preset, foldstack, make_workspace, refuses

CONTEXT = multiprocessing.get_context("forkserver")
TRAIN = ("train", "--model", "tiny", "--fold", "0")
KEY = RunKey("tiny", 0, (0,))


@pytest.fixture(autouse=True, scope="module")
def server():
    """Import torch once for all forked processes; leave this one's threads as they were."""
    CONTEXT.set_forkserver_preload(
        [
            "foldstack.learners.transformer",
            "foldstack.stages.train",
            "pyarrow.parquet",
            "torch.distributed",
            "transformers.models.bert.modeling_bert",
        ]
    )
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


def make(root: Path, backbone: Path, n: int = 39, **training: object) -> Path:
    """A workspace of n rows in three folds; without dropout, updates of 7 rows and a shorter last."""
    make_workspace(root, n=n, runtime={"threads": 1})
    defaults = {"epochs": 2, "batch_size": 7, "precision": "fp32", "clip": 0.5}
    settings = {"dropout": 0.0, "backbone_dropout": 0.0}
    settings |= {k: training.pop(k) for k in ("dropout", "head", "cache_gb", "stages") if k in training}
    add_preset(root, backbone, training=defaults | training, **settings)
    assert foldstack(root, "folds") == 0
    return root


def forked(root: str, args: tuple[str, ...], environment: dict[str, str], at: tuple | None) -> None:
    os.environ.update(environment)
    log = os.open(f"{root}/log{environment['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if at:
        signal_self(*at)
    raise SystemExit(main(["--workspace", root, *args]))


def together(
    root: Path, *args: str, at: tuple | None = None, of: int = 2, stopped: tuple[int, ...] = ()
) -> list[int]:
    """The command line in two processes; their exit codes. at: see `signal_self`; stopped: in which."""
    group = [
        CONTEXT.Process(
            target=forked, args=(str(root), args or TRAIN, environment, at if i in stopped else None)
        )
        for i, environment in enumerate(parallel.environments(of, threads=1))
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(60)
    codes = [process.exitcode for process in group]
    for process in group:
        process.kill()
    return codes


def results(root: Path) -> dict[str, np.ndarray]:
    """All weights and predictions of the finished run."""
    store = Store(root)
    competition = Workspace.open(root, []).competition
    held = competition.train.take(store.read_folds(competition.train).held_out((0,)))
    rows = {"heldout": held, "test": competition.test}
    found = {name: store.read_predictions(KEY, name, r).raw for name, r in rows.items()}
    weights = load_file(store.run_dir(KEY) / "model/classifier.safetensors")
    return found | {k: v.numpy() for k, v in weights.items()}


def logs(root: Path) -> list[str]:
    return [(root / f"log{i}").read_text() for i in range(2)]


def far_apart(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)


# The rows of an update


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [0, 1, 2, 5])
@pytest.mark.parametrize("n", [1, 2, 7, 13])
def test_processes_divide_the_rows_of_an_update(n, size, processes):
    """Each row once; all processes with as many parts, since each part is a meeting of all."""
    rows = np.random.default_rng(0).permutation(20)[:n]
    parts = [micro_batches(rows, size, processes, i) for i in range(processes)]
    assert len({len(own) for own in parts}) == 1
    everything = [part for own in parts for part in own]
    assert sorted(np.concatenate(everything)) == sorted(rows)
    assert max(map(len, everything)) - min(map(len, everything)) <= 1
    if size:
        assert max(map(len, everything)) <= size


# One run


@pytest.mark.parametrize(
    "training",
    [
        {"batch_size": 5},  # 26 rows: the last update has a single one, which is one process's
        {"micro_batch_size": 2, "loss": "focal"},
        {"loss": "soft_f1", "averaging": {"name": "ema", "decay": 0.5}},
        {"adversary": {"name": "fgm", "epsilon": 0.5}, "select": "fold"},
        {"freeze_backbone": True, "head": "attention", "lr": 0.05},
    ],
    ids=str,
)
def test_two_processes_have_the_result_of_one(backbone, tmp_path, training):
    root = make(tmp_path / "w", backbone, **training)
    assert foldstack(root, *TRAIN) == 0
    one, alone = results(root), Store(root).read_run(KEY)
    assert together(root, *TRAIN, "--force") == [0, 0], logs(root)
    two, run = results(root), Store(root).read_run(KEY)
    assert far_apart(one, two) < 1e-5
    assert run["updates"] == alone["updates"]
    assert run["score"] == pytest.approx(alone["score"])
    assert run["identity"] == alone["identity"]
    assert (alone["machine"]["processes"], run["machine"]["processes"]) == (1, 2)
    assert "held-out rows" in logs(root)[0]
    assert logs(root)[1] == ""
