"""Training and prediction of a minilm fold beside transformers' Trainer, alternated in one run.

    python tests/bench/trainer.py --workspace DIR [--rows 1600] [--epochs 1] [--rounds 3]

The same rows, epochs, batch size and rate for both; Trainer with its defaults and dynamic padding.
DIR is a workspace with folds, as `make data folds` leaves it. `--rows 0` takes the whole fold.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from foldstack.cores import cpu_threads
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import load_backbone, locate
from foldstack.progress import table
from foldstack.rows import Rows
from foldstack.training.precision import machine
from foldstack.workspace import Workspace

SEED = 0


def ours(ws: Workspace, settings, train: Rows, held: Rows) -> tuple[float, float, np.ndarray]:
    """(training seconds, prediction seconds, raw outputs)."""
    learner = TransformerLearner(settings, ws.competition.task, SEED, cpu_threads(0))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        learner.fit(train, None, Path(folder))
        middle = time.monotonic()
    raw = learner.predict(held)
    return middle - begin, time.monotonic() - middle, raw[:, 0]


def rival(ws: Workspace, settings, train: Rows, held: Rows) -> tuple[float, float, np.ndarray]:
    """The same through AutoModelForSequenceClassification and Trainer."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    begin = time.monotonic()
    place, s = locate(settings.backbone), settings.training
    tokenizer = AutoTokenizer.from_pretrained(place)

    def tokens(rows: Rows) -> list[dict]:
        encoded = tokenizer([t[0] for t in rows.texts], truncation=True, max_length=s.max_length)
        labels = rows.targets[:, 0].astype(int).tolist()
        return [
            {"input_ids": i, "attention_mask": m, "labels": y}
            for i, m, y in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        ]

    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=2)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, num_train_epochs=s.epochs, learning_rate=s.lr, seed=SEED,
            per_device_train_batch_size=s.batch_size, per_device_eval_batch_size=64,
            warmup_steps=s.warmup, weight_decay=s.weight_decay, save_strategy="no",
            report_to=[], disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), tokens(train))
        trainer.train()
        middle = time.monotonic()
        logits = trainer.predict(tokens(held)).predictions
    return middle - begin, time.monotonic() - middle, logits[:, 1] - logits[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("."))
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    # The preset leaves out the dropout inside the backbone; Trainer has it, so here both have.
    ws = Workspace.open(args.workspace, [f"training.epochs={args.epochs}", "backbone_dropout=null"])
    settings = ws.model_settings("minilm")
    load_backbone(locate(settings.backbone, settings.sha256))  # the files warm for both
    folds, rows = ws.store.read_folds(ws.competition.train), ws.competition.train
    train, held = rows.take(folds.learned((0,))), rows.take(folds.held_out((0,)))
    if args.rows:
        train, held = train.take(np.arange(args.rows)), held.take(np.arange(args.rows // 4))
    print(f"{len(train):,} rows x {args.epochs} epochs, {len(held):,} predicted; "
          f"torch {torch.__version__}, {machine(cpu_threads(0))}")  # fmt: skip
    seconds: dict[str, list[tuple[float, float]]] = {"foldstack": [], "Trainer": []}
    auc = {}
    for _ in range(args.rounds):
        for name, run in (("foldstack", ours), ("Trainer", rival)):
            fit, predict, raw = run(ws, settings, train, held)
            seconds[name].append((fit, predict))
            auc[name] = roc_auc_score(held.targets[:, 0], raw)
    median = {name: np.median(times, axis=0) for name, times in seconds.items()}
    work = np.array([len(train) * args.epochs, len(held)])
    print(table(
        ["", "training rows/s", "prediction rows/s", "fold, seconds", "AUC"],
        [[name, f"{(work / t)[0]:.1f}", f"{(work / t)[1]:.1f}", f"{t.sum():.0f}", f"{auc[name]:.4f}"]
         for name, t in median.items()],
    ))  # fmt: skip
    ratio = median["Trainer"] / median["foldstack"]
    total = median["Trainer"].sum() / median["foldstack"].sum()
    print(
        f"training vs Trainer {ratio[0]:.2f}x, prediction {ratio[1]:.2f}x, finished fold {total:.2f}x"
    )


if __name__ == "__main__":
    main()
