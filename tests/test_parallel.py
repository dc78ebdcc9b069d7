"""Two processes that train one run together: the update of one process, no row lost or doubled.

They meet over gloo on the CPU, as `train --processes 2` and torchrun start them, but forked from a
server that has torch imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from foldstack import parallel
from foldstack.cli import main
from foldstack.store import RunKey, Store
from foldstack.techniques import Head
from foldstack.text.batches import micro_batches
from foldstack.workspace import Workspace
from test_loop import make_learner, make_rows
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


def run_together(work: list[tuple]) -> list[int]:
    """A process for each (function, arguments), called with its environment too; their exit codes."""
    group = [
        CONTEXT.Process(target=function, args=(*args, environment))
        for (function, args), environment in zip(
            work, parallel.environments(len(work), threads=1), strict=True
        )
    ]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
        process.kill()
    return [process.exitcode for process in group]


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


# What is learned and predicted

# Beside the defaults: no dropout, 2 epochs of 21 rows in updates of 8, the last of 5.
CASES: dict[str, dict] = {
    "plain": {},
    "a single row last": {"batch_size": 5, "clip": 0.1},
    "fewer rows than processes": {"batch_size": 1, "epochs": 1, "weight_decay": 0.5},
    "micro-batches": {"micro_batch_size": 2, "loss": {"name": "focal"}},
    "class weights": {"loss": {"name": "cross_entropy", "class_weights": "inverse"}},
    "loss of the batch": {"loss": {"name": "soft_f1", "share": 0.7}},
    "gradient densities": {"loss": {"name": "ghm", "bins": 3}},
    "two passes": {"rdrop": 1.0, "backbone_dropout": 1e-12},  # else it is refused
    "worst weights": {"adversary": {"name": "fgm", "epsilon": 0.5}},
    "worst matrices": {"adversary": {"name": "awp", "start": 0}},
    "worst words": {"adversary": {"name": "freelb", "init": 0.0, "steps": 2}},
    "averaged": {"averaging": {"name": "ema", "decay": 0.5}},
    "best epoch": {"select": "fold", "epochs": 3},
    "soup": {"select": "fold", "epochs": 3, "averaging": {"name": "soup"}},
    "sampled": {"sampling": {"name": "power", "exponent": 0.0}},
    "adafactor": {"optimizer": "adafactor"},
    "head alone": {"freeze_backbone": True, "head_lr": 0.05},
    "pooling alone": {"freeze_backbone": True, "head_lr": 0.05, "head": "attention"},
}


def fitted(backbone: str, folder: Path, name: str) -> dict[str, np.ndarray]:
    """Weights after training by this case's settings, and predictions of more rows than a batch."""
    folder.mkdir(exist_ok=True)
    settings = {"epochs": 2, "backbone_dropout": 0.0, "head": "mean"} | CASES[name]
    head = TypeAdapter(Head).validate_python({"name": settings.pop("head")})
    learner = make_learner(backbone, **settings)
    learner.settings = learner.settings.model_copy(update={"head": head})
    rows = make_rows()
    select = rows.take(np.arange(9)) if "select" in settings else None
    learner.fit(rows, select, folder)
    weights = {k: v.numpy() for k, v in learner.model.state_dict().items()}
    return weights | {f"{n} rows": learner.predict(make_rows(n)) for n in (3, 131)}


def _fit_all(backbone: str, folder: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    rank, out = environment["RANK"], Path(folder)
    for i, name in enumerate(CASES):
        np.savez(out / f"{i}-{rank}.npz", **fitted(backbone, out / str(i), name))


@pytest.fixture(scope="module")
def pairs(backbone, tmp_path_factory) -> dict[str, list[dict[str, np.ndarray]]]:
    """Of each case what the first and what the second of two processes ends with."""
    out = tmp_path_factory.mktemp("pairs")
    codes = run_together([(_fit_all, (str(backbone), str(out)))] * 2)
    assert codes == [0, 0]
    return {
        name: [dict(np.load(out / f"{i}-{rank}.npz")) for rank in range(2)]
        for i, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_result_of_one(backbone, pairs, tmp_path, name):
    one = fitted(str(backbone), tmp_path / "one", name)
    first, second = pairs[name]
    assert far_apart(first, second) == 0
    assert far_apart(first, one) < 1e-5


