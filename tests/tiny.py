"""Tiny competitions and a tiny random backbone, so that a test shows all that it depends on."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import yaml

from foldstack.cli import main
from foldstack.files import read_json
from foldstack.records import digests_of, write_record
from foldstack.store import NO_ARTEFACTS, RunKey
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.stages.run import Run

GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "poor", "awful", "dull"]
PLACES = ["film", "plot", "cast", "song", "end", "start", "scene", "joke"]

# A BERT of two layers, where only its form counts.
TINY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 40,
}

FORK_SERVER = multiprocessing.get_context("forkserver")


def sentences(n: int) -> list[tuple[str, int]]:
    """n different sentences, every other one favourable, of several lengths."""
    out = []
    for i in range(n):
        word = (GOOD if i % 2 else BAD)[(i // 2) % 4]
        tail = " ".join(PLACES[(i + j) % 8] for j in range(1 + i % 5))
        out.append((f"a {word} {PLACES[i % 8]} {tail} n{i}", i % 2))
    return out


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_competition(root: Path, **settings: object) -> None:
    """competition.yaml of a binary competition, with these settings over it."""
    base = {
        "name": "tiny",
        "kind": "binary",
        "metric": "roc_auc",
        "target": ["label"],
        "models": ["tfidf"],
        "folds": {"count": 3},
    }
    write(root / "competition.yaml", yaml.safe_dump(base | settings, allow_unicode=True))


def make_workspace(root: Path, n: int = 24, **settings: object) -> Path:
    """A binary competition of n training and 6 test rows."""
    rows = sentences(n + 6)
    train = "".join(f"r{i},{text},{label}\n" for i, (text, label) in enumerate(rows[:n]))
    test = "".join(f"t{i},{text}\n" for i, (text, _) in enumerate(rows[n:]))
    sample = "".join(f"t{i},0\n" for i in range(6))
    solution = "".join(f"t{i},{label}\n" for i, (_, label) in enumerate(rows[n:]))
    write(root / "input/train.csv", "id,text,label\n" + train)
    write(root / "input/test.csv", "id,text\n" + test)
    write(root / "input/sample_submission.csv", "id,label\n" + sample)
    write(root / "input/private/solution.csv", "id,label\n" + solution)
    write_competition(root, **settings)
    return root


def make_kind(root: Path, kind: str, metric: str, columns: list[str]) -> Path:
    """24 training and 6 test rows; the sample has the test ids backwards and these columns."""
    rows = sentences(30)
    place = np.arange(30) % 3 == 0
    names = {"binary": ["bad", "good"], "multiclass": ["bad", "good", "other"]}
    labels = [
        {
            "binary": [names["binary"][y]],
            "multiclass": [names["multiclass"][2 if place[i] else y]],
            "multilabel": [str(y), str(int(place[i])), str(1 - y)],
        }[kind]
        for i, (_, y) in enumerate(rows)
    ]
    texts = [text + (" other" if place[i] else "") for i, (text, _) in enumerate(rows)]
    target = ["p", "q", "r"] if kind == "multilabel" else ["label"]
    ids = [f"r{i}" for i in range(24)] + [f"t{i}" for i in range(6)]

    def table(header: list[str], lines: list[list[str]]) -> str:
        return "".join(",".join(line) + "\n" for line in [header, *lines])

    gold = [[i, t, *y] for i, t, y in zip(ids, texts, labels, strict=True)]
    write(root / "input/train.csv", table(["id", "text", *target], gold[:24]))
    write(root / "input/test.csv", table(["id", "text"], [g[:2] for g in gold[24:]]))
    solution = [[g[0], *g[2:]] for g in gold[24:]]
    write(root / "input/private/solution.csv", table(["id", *target], solution))
    sample = [[i, *["0"] * len(columns)] for i in reversed(ids[24:])]
    write(root / "input/sample_submission.csv", table(["id", *columns], sample))
    write_competition(root, kind=kind, metric=metric, target=target)
    return root


def turn_labels(root: Path, ids: set[str]) -> None:
    """Give these training rows the other label."""
    train = root / "input/train.csv"
    lines = train.read_text().splitlines()
    turned = [
        f"{line[:-1]}{1 - int(line[-1])}" if line.split(",")[0] in ids else line for line in lines
    ]
    assert sum(a != b for a, b in zip(lines, turned, strict=True)) == len(ids) > 0
    train.write_text("\n".join(turned) + "\n")


def make_backbone(folder: Path, **config: object) -> Path:
    """A random BERT (two layers) over the words of `sentences`, saved as a checkpoint."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", *GOOD, *BAD, *PLACES]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            hidden_size=16,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            **{"num_hidden_layers": 2, "vocab_size": len(words)} | config,
        )
    ).save_pretrained(folder)
    return folder


def add_preset(
    root: Path, backbone: Path, name: str = "tiny", training: dict | None = None, **settings: object
) -> None:
    """presets/NAME.yaml: a transformer on this backbone, two epochs of batches of 8."""
    training = {"epochs": 2, "batch_size": 8, "lr": 0.001, "max_length": 16} | (training or {})
    preset = {"learner": "transformer", "backbone": str(backbone), "checkpoint_seconds": 0}
    write(root / f"presets/{name}.yaml", yaml.safe_dump(preset | settings | {"training": training}))


def foldstack(root: Path, *args: str) -> int:
    """The command line in this process; returns its exit code."""
    return main(["--workspace", str(root), *args])


def process(root: Path, *args: str, **options: object) -> subprocess.Popen:
    """The command line in a process of its own."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-m", "foldstack", "--workspace", str(root), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def refuses(root: Path, args: list[str], sentence: str, capsys: pytest.CaptureFixture) -> None:
    """The command ends with code 2, this very sentence and nothing else on standard error."""
    assert foldstack(root, *args) == 2
    assert capsys.readouterr().err == f"foldstack: {sentence}\n"


def seal(folder: Path) -> None:
    """Give a run or a blend, changed by hand, the digests of what is in its folder now."""
    path = next(p for p in (folder / "run.json", folder / "blend.json") if p.exists())
    files = digests_of(folder, [*NO_ARTEFACTS, "blend.json"])
    write_record(path, read_json(path) | {"files": files})


def train_folds(root: Path, *args: str, folds: int = 3) -> None:
    """Every fold in this process: `train` alone starts a process, seconds long, for each."""
    ws = Workspace(root)
    models = [[]] if "--model" in args or not ws.listed else [["--model", m] for m in ws.listed]
    seeds = [[]] if "--seed" in args else [["--seed", str(s)] for s in ws.choose_seeds(None)]
    for fold, model, seed in product(range(folds), models, seeds):
        assert foldstack(root, "train", "--fold", str(fold), *model, *seed, *args) == 0


def go_through(root: Path, *stages: str, folds: int = 3) -> Path:
    """The stages up to a submission, or those named."""
    for stage in stages or ("folds", "train", "blend", "submit"):
        if stage == "train":
            train_folds(root, folds=folds)
        else:
            assert foldstack(root, stage) == 0
    return root


def run_of(root: Path, name: str = "tiny", fold: int = 0, seed: int = 0) -> tuple[Workspace, Run]:
    """The workspace as it is now, and this model's run that leaves the fold out."""
    from foldstack.stages.run import Run

    ws = Workspace.open(root, [])
    folds = ws.store.read_folds(ws.competition.train)
    return ws, Run(RunKey(name, seed, (fold,)), ws.model_settings(name), folds)


def files(root: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes, but for locks."""
    paths = (p for p in sorted(root.rglob("*")) if p.is_file() and p.suffix != ".lock")
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}
