"""Networks from scratch beside linear models: scores, seconds, sizes; and speed beside rivals.

    python tests/bench/networks.py scores [--sets custrev,mpqa] [--rows 3000] [--presets textcnn,dan]
    python tests/bench/networks.py folds [--sets custrev,mpqa,movie-reviews] [--presets textcnn]
    python tests/bench/networks.py speed [--rounds 3]
    python tests/bench/networks.py gain --workspace DIR [--presets textcnn,fasttext]

`scores` fits each preset once on each data set and scores the test rows. `folds` repeats the
published protocol: accuracy in cross-validation over 10 folds of all rows. `speed` takes turns with
fastText's own library (one thread, the same epochs, the same words), and with a plain loop of the
same network in bf16 whose batches have texts of similar length. `gain` adds each preset to the
models of a workspace (as `defaults.py blend` leaves it), trains its folds, and compares the blend
with and without it, nested and paired. Each fit has one thread. Seconds
are of CPU, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from corpora import Corpus, corpora, with_copies
from defaults import run_stage
from torch.nn import functional as F

from foldstack.config import SHIPPED, listed_models, merge, read_preset, validate
from foldstack.ensemble import paired_difference
from foldstack.files import size_of
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.learners.network import NetworkLearner
from foldstack.progress import say, table
from foldstack.rows import Rows
from foldstack.stages.blend import read_stored
from foldstack.stages.oof import read_model
from foldstack.stages.patterned import OutOfFold
from foldstack.stages.shared import folds_of
from foldstack.techniques import LearnerSettings
from foldstack.text.batches import epoch_batches
from foldstack.workspace import Workspace

LINEAR = ("tfidf", "naive-bayes")
NETWORKS = ("fasttext", "dan", "textcnn", "textrnn", "rcnn", "dpcnn", "charcnn", "han")
FOLDS = 10


def learner_of(
    preset: str,
    corpus: Corpus,
    seed: int = 0,
    start: Path | None = None,
    unlabelled: Rows | None = None,
    **changes: object,
) -> Learner:
    """Return the learner of a shipped preset, with changes.

    start: folder of a fitted model to begin from. unlabelled: rows for consistency training.
    """
    data = merge(read_preset(SHIPPED / f"{preset}.yaml", Path(".")), changes)
    settings = validate(LearnerSettings.registered[data["learner"]], data, preset)
    context = LearnerContext(corpus.task, seed, threads=1, start=start, unlabelled=unlabelled)
    return make_learner(settings, context)


def fitted(learner: Learner, train: Rows) -> float:
    """Fit on these rows; return the CPU seconds."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        learner.fit(train, None, Path(folder))
    return time.process_time() - begin


def megabytes(learner: Learner) -> float:
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder) / "model")
        return size_of(Path(folder)) / 1e6


def scores(names: list[str], presets: list[str], rows: int, out: Path) -> None:
    """Print the table; finished fits are read from `out`, to which new ones are added."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    found = {tuple(f[k] for k in ("set", "preset", "rows")): f for f in map(json.loads, lines)}
    for name in names:
        corpus = corpora()[name]()
        for preset in presets:
            if (name, preset, rows) in found:
                continue
            made = _score(corpus, preset, rows)
            found[name, preset, rows] = made
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(made) + "\n")
    shown = [name.removeprefix("tweeteval-") for name in names]
    for value, title in (("score", "score"), ("seconds", "CPU s to fit"), ("mb", "MB")):
        body = [
            [preset, *(f"{found[n, preset, rows][value]:.3g}" for n in names)] for preset in presets
        ]
        print(table([f"{title}, {rows:,} rows", *shown], body), "\n")
    body = [
        [preset, *(f"{found[n, preset, rows]['per_second']:,.0f}" for n in names)]
        for preset in presets
    ]
    print(table(["rows predicted a second", *shown], body))


def _score(corpus: Corpus, preset: str, rows: int) -> dict:
    learner, train = learner_of(preset, corpus), corpus.first(rows)
    seconds = fitted(learner, train)
    begin = time.process_time()
    logits = learner.predict(corpus.test)
    predicting = time.process_time() - begin
    return {
        "set": corpus.name,
        "preset": preset,
        "rows": rows,
        "score": corpus.task.score(corpus.test.targets, logits),
        "seconds": round(seconds, 2),
        "mb": round(megabytes(learner), 2),
        "per_second": round(len(logits) / max(predicting, 1e-9)),
    }


def folds(names: list[str], presets: list[str]) -> None:
    """Print the accuracy of each preset in a cross-validation of all rows, copies included."""
    body = []
    for name in names:
        corpus = with_copies(name)
        whole = corpus.train
        fold = np.random.default_rng(0).permutation(len(whole)) % FOLDS
        for preset in presets:
            right, begin = [], time.process_time()
            for k in range(FOLDS):
                learner = learner_of(preset, corpus, seed=k)
                fitted(learner, whole.take(np.flatnonzero(fold != k)))
                held = whole.take(np.flatnonzero(fold == k))
                right.append((learner.predict(held) > 0)[:, 0] == (held.targets[:, 0] > 0.5))
                say(f"{name} {preset} fold {k}: {right[-1].mean():.4f}")
            accuracy = np.concatenate(right).mean()
            seconds = (time.process_time() - begin) / FOLDS
            body.append([name, preset, f"{len(whole):,}", f"{accuracy:.4f}", f"{seconds:.1f}"])
    print(table(["data set", "preset", "rows", "accuracy of 10 folds", "CPU s a fold"], body))


# Blends


def gain(root: Path, presets: list[str]) -> None:
    """Print what each preset adds to the blend of a workspace's listed models."""
    listed = [name for name, _ in listed_models(Workspace.open(root, []).competition.settings)]
    base = [name for name in listed if name not in presets]
    run_stage(root, "set", "--set", f"models=[{', '.join([*base, *presets])}]")
    run_stage(root, "train")
    run_stage(root, "blend", "--model", ",".join(base), "--name", "base")
    body = []
    for preset in presets:
        name = f"with-{preset}"
        run_stage(root, "blend", "--model", ",".join([*base, preset]), "--name", name)
        body.append([f"{', '.join(base)} and {preset}", *_paired(root, name)])
    names = ["all"] if len(presets) > 1 else []
    for name in names:
        run_stage(root, "blend", "--model", ",".join([*base, *presets]), "--name", name)
        body.append(["all of them", *_paired(root, name)])
    print(table(["blend of", "nested", "without", "gain [95 %]", "chose"], body))
    print(agreement(root, [*base, *presets]))


def agreement(root: Path, models: list[str]) -> str:
    """Return the correlation of the out-of-fold predictions of every two models, as a table."""
    ws = Workspace.open(root, [])
    folds = ws.store.read_folds(ws.competition.train)
    values = np.array([read_model(ws, model, folds).oof.ravel() for model in models])
    body = [
        [m, *(f"{c:.2f}" for c in row)] for m, row in zip(models, np.corrcoef(values), strict=True)
    ]
    return table(["correlation", *models], body)


def _paired(root: Path, name: str) -> list[str]:
    """Return the nested score of a blend and of the base, and their paired difference."""
    ws = Workspace.open(root, [])
    records = [read_stored(ws, each) for each in (name, "base")]
    found = [
        OutOfFold.of_blend(ws, each, r) for each, r in zip((name, "base"), records, strict=True)
    ]
    folds = folds_of(ws, records[0])
    rows, task = ws.competition.scored_rows(folds.scored), ws.competition.task
    made = [f.probabilities if f.decisions is None else f.decisions for f in found]
    metric = replace(task.metric, scorer=task.score_probabilities, reads=())
    groups = (rows.targets, [made[0]], [made[1]], rows.groups, 0)
    d = paired_difference(metric, *groups)
    scores = [f"{r.nested.score:.4f}" for r in records]
    return [*scores, f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]", records[0].winner]


# Speed


def speed(rounds: int) -> None:
    """Print rows a second of ours and of the rival's, in turns."""
    body = []
    corpus = corpora()["tweeteval-emotion"]()
    for preset, rival in (
        ("fasttext", fasttext_library),
        ("textcnn", plain_loop),
        ("textrnn", plain_loop),
    ):
        ours, theirs, scored = [], [], []
        for _ in range(rounds):
            learner = learner_of(preset, corpus)
            ours.append(fitted(learner, corpus.train))
            seconds, logits = rival(preset, corpus)
            theirs.append(seconds)
            each = (learner.predict(corpus.test), logits)
            scored = [corpus.task.score(corpus.test.targets, x) for x in each]
        epochs = learner_of(preset, corpus).settings.training.epochs
        rows = epochs * len(corpus.train)
        mine, other = float(np.median(ours)), float(np.median(theirs))
        body.append(
            [
                preset,
                rival.__name__,
                f"{rows / mine:,.0f}",
                f"{rows / other:,.0f}",
                f"{other / mine:.2f}",
                *(f"{score:.4f}" for score in scored),
            ]
        )
    head = ["preset", "rival", "rows/s", "rival", "ratio", "score", "rival"]
    print(table(head, body))


def fasttext_library(preset: str, corpus: Corpus) -> tuple[float, np.ndarray]:
    """Return CPU seconds of a fit by fastText itself (fasttext-numpy2), and test logits.

    Its rate is the best of .1, .5 and 1 on these data; words, their least count, bigrams, size and
    epochs are those of the preset.
    """
    import fasttext

    learner = learner_of(preset, corpus)
    settings = learner.settings
    learner.prepare(corpus.first(500))
    words = learner.encoder.tokenizer.backend_tokenizer

    def line(text: tuple[str, ...]) -> str:
        normal = words.normalizer.normalize_str(" ".join(text))
        return " ".join(word for word, _ in words.pre_tokenizer.pre_tokenize_str(normal))

    labels = corpus.train.targets.argmax(axis=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        begin = time.process_time()
        pairs = zip(labels, corpus.train.texts, strict=True)
        file.write_text("".join(f"__label__{y} {line(text)}\n" for y, text in pairs))
        model = fasttext.train_supervised(
            str(file),
            lr=0.5,
            dim=settings.size,
            epoch=settings.training.epochs,
            wordNgrams=settings.ngrams,
            minCount=settings.words.min_count,
            thread=1,
            verbose=0,
        )
        seconds = time.process_time() - begin
    logits = np.full((len(corpus.test), len(corpus.task.outputs)), -20.0)
    for i, text in enumerate(corpus.test.texts):
        for label, p in zip(*model.predict(line(text), k=-1), strict=True):
            logits[i, int(label.removeprefix("__label__"))] = math.log(max(p, 1e-9))
    return seconds, logits


def plain_loop(preset: str, corpus: Corpus) -> tuple[float, np.ndarray]:
    """Return CPU seconds of the same network in a loop that one writes, in bf16, and test logits.

    Batches hold texts of similar length; AdamW, linear decay, gradients clipped to a norm of 1.
    """
    learner = learner_of(preset, corpus)
    assert isinstance(learner, NetworkLearner)
    s = learner.settings.training
    begin = time.process_time()
    examples = learner.prepare(corpus.train)
    model, tokens = learner.model.train(), examples.tokens
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
    total = s.epochs * math.ceil(len(corpus.train) / s.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    for epoch in range(s.epochs):
        for rows in epoch_batches(tokens.lengths, s.batch_size, 0, epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(**tokens.batch(rows))
            loss = F.cross_entropy(logits.float(), examples.targets[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - begin
    return seconds, _logits(model.eval(), learner, corpus.test)


@torch.no_grad()
def _logits(model: Callable, learner: NetworkLearner, rows: Rows) -> np.ndarray:
    tokens = learner.encoder.tokens(rows)
    parts = np.array_split(np.arange(len(rows)), max(len(rows) // 64, 1))
    return np.concatenate([model(**tokens.batch(part)).float().numpy() for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scores", "folds", "speed", "gain"])
    parser.add_argument("--sets", default="custrev,mpqa,movie-reviews,tweeteval-irony")
    parser.add_argument("--presets", default="")
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/found/networks.jsonl"))
    args = parser.parse_args()
    presets = args.presets.split(",") if args.presets else []
    if args.what == "scores":
        scores(args.sets.split(","), presets or [*LINEAR, *NETWORKS], args.rows, args.out)
    elif args.what == "folds":
        folds(args.sets.split(","), presets or ["textcnn"])
    elif args.what == "gain":
        gain(args.workspace, presets or ["fasttext", "textcnn", "textrnn"])
    else:
        speed(args.rounds)


if __name__ == "__main__":
    main()
