"""What the linear presets are worth against the settings of before, on the data sets of corpora.py.

    python tests/bench/linear_defaults.py [--out scratch/linear] [--sets a,b] [--rows 500] [--jobs 1]

Fits each variant once for each data set and number of rows, with one thread, scores it on the data set's
test rows by the default decision rule, appends a line to OUT/linear.jsonl and prints the table; what is
there already is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
from corpora import corpora

from foldstack.config import SHIPPED, read_preset, validate
from foldstack.learners import LearnerContext, make_learner
from foldstack.links import row_losses
from foldstack.progress import Progress
from foldstack.techniques import TfidfSettings

OUT = Path("scratch/linear")
SIZES = (500, 2_000, 8_000)
# `before`: the class's defaults, which were the preset's.
VARIANTS = {
    "before": {"learner": "tfidf"},
    "tfidf": read_preset(SHIPPED / "tfidf.yaml", Path(".")),
    "naive-bayes": read_preset(SHIPPED / "naive-bayes.yaml", Path(".")),
}


def fit(name: str, rows: int, variant: str) -> dict:
    """Return a cell: its score, mean loss of a row, CPU seconds of fitting, and chosen settings."""
    corpus = corpora()[name]()
    settings = validate(TfidfSettings, VARIANTS[variant], variant)
    learner = make_learner(settings, LearnerContext(corpus.task))
    begin = time.process_time()
    facts = learner.fit(corpus.first(rows), None, Path("unused"))
    seconds = time.process_time() - begin
    logits = learner.predict(corpus.test)
    return {
        "set": name,
        "rows": rows,
        "variant": variant,
        "learned": len(corpus.first(rows)),
        "score": corpus.task.score(corpus.test.targets, logits),
        "loss": float(row_losses(logits, corpus.test.targets, corpus.task.link).mean()),
        "seconds": round(seconds, 2),
        "auto": facts.get("auto", {}),
    }


def found(path: Path) -> list[dict]:
    """Return the finished cells; a half-written last line is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def cells(names: list[str], sizes: list[int]) -> list[tuple[str, int, str]]:
    """Return (set, rows, variant) of sets with nearly as many rows; naive_bayes requires labels."""
    read = {name: corpora()[name]() for name in names}
    return [
        (name, rows, variant)
        for rows in sizes
        for name, corpus in read.items()
        for variant in VARIANTS
        if len(corpus.train) >= 0.8 * rows
        if corpus.task.kind.has_labels or not VARIANTS[variant].get("naive_bayes")
    ]


def table(made: list[dict]) -> str:
    """Return scores, losses and CPU seconds of each data set and number of rows, and their means."""
    frame = pd.DataFrame(made).pivot_table(
        index=["rows", "set"], columns="variant", values=["score", "loss", "seconds"], sort=False
    )
    frame = frame.reindex(columns=[(v, n) for v in ("score", "loss", "seconds") for n in VARIANTS])
    lines = [
        f"{'rows':>5}  {'set':<20}  {'score: ' + ', '.join(VARIANTS):<28}  {'loss':<26}  seconds"
    ]
    means = [
        ((rows, "mean"), part.mean()) for rows, part in frame.groupby(level="rows", sort=False)
    ]
    for (rows, name), row in [*frame.iterrows(), *means]:
        score, loss, seconds = (
            "  ".join("    - " if pd.isna(x) else f"{x:{form}}" for x in row[value])
            for value, form in (("score", "6.3f"), ("loss", "7.3f"), ("seconds", "6.1f"))
        )
        lines.append(f"{rows:>5}  {name:<20}  {score:<28}  {loss:<26}  {seconds}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--sets", default=",".join(corpora()))
    parser.add_argument("--rows", default=",".join(map(str, SIZES)))
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    names = args.sets.split(",")
    if unknown := [name for name in names if name not in corpora()]:
        sys.exit(f"unknown or absent data sets: {', '.join(unknown)}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "linear.jsonl"
    done = {(f["set"], f["rows"], f["variant"]) for f in found(path)}
    todo = [
        cell for cell in cells(names, [int(n) for n in args.rows.split(",")]) if cell not in done
    ]
    with (
        ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool,
        path.open("a", encoding="utf-8") as file,
        Progress("linear", len(todo), "cells") as progress,
    ):
        for made in as_completed([pool.submit(fit, *cell) for cell in todo]):
            file.write(json.dumps(made.result(), ensure_ascii=False) + "\n")
            file.flush()
            progress.add(1)
    print(table(found(path)))


if __name__ == "__main__":
    main()
