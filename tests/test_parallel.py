"""Two processes that train one run together: the update of one process, no row lost or doubled.

They meet over gloo on the CPU, as `train --processes 2` and torchrun start them, but forked from a
server that has torch imported already.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file

from foldstack import parallel
from foldstack.cli import main
from foldstack.errors import InputError
from foldstack.rows import PSEUDO
from foldstack.store import RunKey, Store
from foldstack.techniques import (
    Consistency,
    Distillation,
    Head,
    JointDistillation,
    LoraSettings,
    PseudoLabels,
)
from foldstack.text.batches import micro_batches
from foldstack.training import loop
from makers import loop_learner, tiny_rows
from test_resume import signal_self
from tiny import FORK_SERVER, add_preset, foldstack, make_workspace, process, refuses

TRAIN = ("train", "--model", "tiny", "--fold", "0")
KEY = RunKey("tiny", 0, (0,))

pytestmark = pytest.mark.usefixtures("fork_server", "cpu_settings_restored")


def run_together(work: list[tuple]) -> list[int]:
    """A process for each (function, arguments), called with its environment too; their exit codes."""
    group = [
        FORK_SERVER.Process(target=function, args=(*args, environment))
        for (function, args), environment in zip(
            work, parallel.environments(len(work), threads=1), strict=True
        )
    ]
    for each in group:
        each.start()
    for each in group:
        each.join(300)
        each.kill()
    return [each.exitcode for each in group]


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
    "pairs of rows": {"loss": {"name": "pairwise_auc", "share": 0.7}},
    "two passes": {"rdrop": 1.0, "backbone_dropout": 1e-12},  # else it is refused
    "worst weights": {"adversary": {"name": "fgm", "epsilon": 0.5}},
    "worst matrices": {"adversary": {"name": "awp", "lr": 0.1, "epsilon": 0.5, "start": 1}},
    "worst words": {"adversary": {"name": "freelb", "init": 0.0, "steps": 2}},
    "averaged": {"averaging": {"name": "ema", "decay": 0.5}},
    "best epoch": {"select": "fold", "epochs": 3, "averaging": {"name": "ema", "decay": 0.5}},
    "soup": {"select": "fold", "epochs": 3, "averaging": {"name": "soup"}},
    "sampled": {"sampling": {"name": "power", "exponent": 0.0}},
    "adafactor": {"optimizer": "adafactor"},
    "adagrad": {"optimizer": "adagrad"},
    "head alone": {"freeze_backbone": True, "head_lr": 0.05},
    "pooling alone": {"freeze_backbone": True, "head_lr": 0.01, "head": "attention"},
    "unlabelled rows": {"consistency": {"ratio": 2}},
    "fewer of them than parts": {"consistency": {"ratio": 0.4}, "micro_batch_size": 2},
    "mixed with pseudo-labels": {"ratio": 2.0},
    "softened teachers": {"distil": {"teachers": "a", "temperature": 3.0}},
    "teachers beside a loss of the batch": {
        "distil": {"teachers": "a", "temperature": 3.0},
        "loss": {"name": "soft_f1", "share": 0.7},
    },
    "hidden states": {"over": {"start_from": "a", "keep_every": 2, "match_hidden": 1.0}},
    "adapters": {"over": {"lora": LoraSettings(dropout=0), "quantize": "nf4"}},
    "worst words beside adapters": {
        "over": {"lora": LoraSettings(r=2, kind="dora", dropout=0)},
        "adversary": {"name": "fgm", "epsilon": 0.5},
    },
    "teacher beside it": {"over": {"keep_every": 2, "joint": JointDistillation()}},
}


def fitted(backbone: str, folder: Path, name: str, sharding: str = "none") -> dict[str, np.ndarray]:
    """Weights after training by this case's settings, and predictions of more rows than a batch."""
    folder.mkdir(exist_ok=True)
    settings = {"epochs": 2, "backbone_dropout": 0.0, "head": "mean"} | CASES[name]
    head = TypeAdapter(Head).validate_python({"name": settings.pop("head")})
    distil = TypeAdapter(Distillation | None).validate_python(settings.pop("distil", None))
    over = {"head": head, "distil": distil, "sharding": sharding} | settings.pop("over", {})
    beside, ratio = settings.pop("consistency", None), settings.pop("ratio", None)
    if beside is not None:
        over["consistency"] = Consistency(**beside, confidence=0, augment=["delete_words"])
    if ratio is not None:
        over["pseudo_labels"] = PseudoLabels(teachers=["a"], ratio=ratio)
    learner = loop_learner(backbone, **settings)
    learner.settings = learner.settings.model_copy(update=over)
    learner.unlabelled = None if beside is None else tiny_rows(n=13)
    rows = tiny_rows(n=21)
    if ratio is not None:
        rows = replace(rows, origin=np.where(np.arange(21) % 3 == 0, "gold", PSEUDO))
    if distil is not None:  # every third row has no teacher
        taught = np.where(np.arange(21) % 3 > 0, 0.8 - 0.6 * rows.targets[:, 0], np.nan)
        rows = replace(rows, taught=taught[:, None])
    select = rows.take(np.arange(9)) if "select" in settings else None
    learner.fit(rows, select, folder)
    # The gradient of a bias of the keys, which softmax does not see, is a rounding error, and
    # Adafactor's step as large as any.
    weights = {k: v.numpy() for k, v in learner.model.state_dict().items() if "key.bias" not in k}
    return weights | {f"{n} rows": learner.predict(tiny_rows(n=n)) for n in (3, 131)}


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


# The command


def make(root: Path, backbone: Path, **training: object) -> Path:
    """A workspace of 39 rows in three folds, dropout, a checkpoint after each update."""
    make_workspace(root, n=39, runtime={"threads": 1})
    add_preset(root, backbone, training={"epochs": 2, "precision": "fp32"} | training)
    assert foldstack(root, "folds") == 0
    return root


def _command(
    root: str, args: tuple[str, ...], at: tuple | None, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    log = os.open(f"{root}/log{environment['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if at:
        signal_self(*at)
    raise SystemExit(main(["--workspace", root, *args]))


def together(root: Path, *args: str, at: tuple = (None, None)) -> tuple[list[int], list[str]]:
    """The exit codes of the command in two processes, and what they print; at: see `signal_self`."""
    codes = run_together([(_command, (str(root), args, each)) for each in at])
    return codes, [(root / f"log{i}").read_text() for i in range(2)]


def results(root: Path) -> list[bytes]:
    place = Store(root).run_dir(KEY)
    names = ("heldout.parquet", "test.parquet", "model/classifier.safetensors")
    return [(place / name).read_bytes() for name in names]


def test_two_processes_train_a_run_and_one_writes_it(backbone, tmp_path):
    """A signal that one of them gets before update 4 stops both there, and they go on from there."""
    root = make(tmp_path / "w", backbone)
    codes, logs = together(root, *TRAIN)
    assert codes == [0, 0], logs
    assert "roc_auc" in logs[0]
    assert logs[1] == ""
    whole, run = results(root), Store(root).read_run(KEY)
    assert (run.facts["updates"], run.machine["processes"]) == (8, 2)

    assert foldstack(root, "clean", "oof") == 0
    stop = ("foldstack.training.loop:update", 4, [signal.SIGTERM])
    codes, logs = together(root, *TRAIN, at=(None, stop))
    assert codes == [143, 143], logs
    assert logs[0].endswith("stopped after update 4 of 8: the same command resumes from here\n"), (
        logs
    )
    assert logs[1] == ""
    kept = Store(root).partial_dir(KEY) / "checkpoints"
    assert sorted(p.name for p in kept.iterdir()) == ["step-00000003", "step-00000004"]

    codes, logs = together(root, *TRAIN)
    assert codes == [0, 0], logs
    assert "resuming from the checkpoint after update 4\n" in logs[0]
    assert results(root) == whole

    # One process finds the run that two have made.
    assert foldstack(root, *TRAIN) == 0
    assert results(root) == whole


def test_two_processes_pretrain_a_backbone_together(backbone, tmp_path):
    """As one would, but for the rounding of two halves' gradients."""
    found = []
    for processes in (1, 2):
        root = make(tmp_path / f"w{processes}", backbone)
        options = {"backbone_dropout": 0.0, "pretrain": {"epochs": 1}}
        training = {"freeze_backbone": True, "precision": "fp32", "epochs": 1}
        add_preset(root, backbone, **options, training=training)
        if processes == 1:
            assert foldstack(root, *TRAIN) == 0
        else:
            codes, logs = together(root, *TRAIN)
            assert codes == [0, 0], logs
            assert "pretrained in 2 updates" in logs[0] and logs[1] == ""
        (place,) = (root / "oof/.pretrained").glob("[!.]*")
        found.append(load_file(place / "model.safetensors"))
    one, two = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-5)


def test_what_the_main_process_is_refused_ends_the_other_silently(backbone, tmp_path):
    root = make(tmp_path / "w", backbone)
    with Store(root).lock(KEY):
        codes, logs = together(root, *TRAIN)
    assert codes == [2, 1]
    assert logs == [
        f"foldstack: tiny seed 0 fold0 is being trained by process {os.getpid()}: wait for it, or stop "
        "it first\n",
        "",
    ]


@pytest.mark.slow
def test_the_command_starts_the_processes_itself(backbone, tmp_path):
    """Both folds, one after the other; a signal to the command reaches the processes."""
    root = make(tmp_path / "w", backbone)
    command = ("train", "--model", "tiny", "--fold", "0,1", "--processes", "2")
    with process(root, *command) as started:
        out, err = started.communicate(timeout=900)
    assert (started.returncode, err) == (0, ""), err
    assert out.count("held-out rows") == 2
    assert Store(root).read_run(KEY).machine["processes"] == 2
    two = results(root)
    assert together(root, *TRAIN, "--force")[0] == [0, 0]
    assert results(root) == two

    add_preset(root, backbone, training={"epochs": 2000, "precision": "fp32"})
    with process(root, *command, "--force") as started:
        checkpoints = Store(root).partial_dir(KEY) / "checkpoints"
        while not any(checkpoints.glob("step-*")):  # each is gone when the next is there
            assert started.poll() is None
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=180)
    assert (started.returncode, err) == (130, "")
    assert "the same command resumes from here" in out


@pytest.mark.slow
def test_accelerate_may_start_the_processes(backbone, tmp_path):
    """By torchrun, that is: with --cpu instead of --multi_gpu it starts one process, or asks for MPI."""
    root = make(tmp_path / "w", backbone)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, *launch, "-m", "foldstack", "--workspace", str(root), *TRAIN]
    subprocess.run(command, check=True, timeout=900)
    launched = results(root)
    assert Store(root).read_run(KEY).machine["processes"] == 2
    assert together(root, *TRAIN, "--force")[0] == [0, 0]
    assert results(root) == launched


# Refusals


def test_what_several_processes_cannot_do_is_refused(workspace, backbone, capsys, monkeypatch):
    assert foldstack(workspace, "folds") == 0
    add_preset(workspace, backbone)
    capsys.readouterr()
    refuses(
        workspace,
        ["train", "--model", "tfidf", "--fold", "0", "--processes", "2"],
        "tfidf seed 0 fold0: learner tfidf computes in one process: leave --processes (PROCESSES=) out, "
        "or name a transformer with --model (MODEL=)",
        capsys,
    )
    refuses(
        workspace,
        ["train", "--model", "tiny", "--jobs", "2", "--processes", "2"],
        "--jobs does several runs at once and --processes shares out one: give one of them",
        capsys,
    )
    for key, value in parallel.environments(2, threads=1)[0].items():
        monkeypatch.setenv(key, value)
    refuses(
        workspace,
        ["train", "--model", "tiny"],
        "3 runs are to be trained, but a launcher has started 2 processes for one run: name one run, or "
        "use --processes instead of the launcher",
        capsys,
    )
    refuses(
        workspace,
        ["train", "--model", "tiny", "--fold", "0", "--processes", "2"],
        "--processes is given, but a launcher has started 2 processes for one run: name one run, or use "
        "--processes instead of the launcher",
        capsys,
    )
    refuses(
        workspace,
        ["scores"],
        "`scores` runs in one process: start it without a launcher",
        capsys,
    )


def test_rows_of_several_processes_are_not_compared(backbone):
    learner = loop_learner(backbone, contrastive={})
    examples = learner.prepare(tiny_rows(n=21))
    with pytest.raises(InputError) as e:
        two = SimpleNamespace(num_processes=2)
        loop.prepare(learner.model, examples, learner.settings.training, two)
    assert str(e.value) == (
        "training.contrastive compares the rows of a whole update, which 2 processes would split: train "
        "it in one process"
    )


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for key, value in parallel.environments(2, threads=1)[0].items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError) as e:
        parallel.join()
    assert str(e.value) == "2 processes require one GPU each and this machine has 1: start 1"


# Chance


def test_processes_draw_other_numbers_and_the_main_one_those_of_one_process():
    seeds = {loop._step_seed(0, step, process) for step in range(3) for process in range(3)}
    assert len(seeds) == 9
    assert loop._step_seed(5, 7, 0) == loop._step_seed(5, 7)


def test_a_weight_that_takes_no_part_is_not_awaited(backbone):
    """DDP would wait for its gradient for ever; an optimiser leaves one without a gradient alone."""
    learner = loop_learner(backbone)
    examples = learner.prepare(tiny_rows(n=21))
    learner.model.idle = torch.nn.Parameter(torch.ones(1))
    loop._freeze_unused(learner.model, examples)
    assert [k for k, p in learner.model.named_parameters() if not p.requires_grad] == ["idle"]
