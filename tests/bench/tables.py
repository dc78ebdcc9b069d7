"""What techniques bring: trained and compared on the same folds, one table at a time.

    python tests/bench/tables.py TABLE --workspace DIR [--rows N] [--seeds 0,1] [--folds 0,1] [--jobs 2]

TABLE: training, heads, long, sampling, augmentation, augmentation-few. It makes an empty DIR a
competition of N training rows (0: all; each table has its own number, so that it takes an hour or two)
with a preset for each line, trains what is not there yet and prints `make compare`. It goes on where it
was stopped. So many runs at once as --jobs says share the processor's cores.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from foldstack.cli import main as foldstack
from foldstack.config import merge
from foldstack.cores import cpu_threads

# Of the five topics of bbc, by name; of all rows the rarest then has a fifteenth of the most frequent's.
TAIL = (1, 0.5, 0.25, 0.125, 0.083)
FOLDS = range(5)


@dataclass(frozen=True)
class Table:
    """Presets to be compared, each laid over `base` over minilm-quick.

    tail: the share kept of each class.
    """

    dataset: str
    rows: int
    others: dict[str, dict]
    base: dict = field(default_factory=dict)
    tail: tuple[float, ...] = ()
    before: tuple[tuple[str, str], ...] = ()  # models and their runs that others go by


def adversary(name: str, **settings: float) -> dict:
    return {"training": {"adversary": {"name": name} | settings}}


# One epoch, so AWP begins with the first update. minilm-quick has no dropout inside its backbone, and
# R-Drop wants some.
TRAINING = {
    "soft-f1": {"training": {"loss": {"name": "soft_f1", "share": 0.5}}},
    "focal": {"training": {"loss": "focal"}},
    "fgm": adversary("fgm"),
    "awp": adversary("awp", start=0),
    "freelb": adversary("freelb"),
    "ema": {"training": {"averaging": "ema"}},
    "layer-decay": {"training": {"layer_decay": 0.9}},
    "rdrop": {"training": {"rdrop": 1.0}, "backbone_dropout": 0.1},
}
POOLED = ["cls", "max", "mean_max", "concat", "layers", "gem", "attention", "cls_attention"]
HEADS = [*POOLED, "labels", "lstm", "gru", "cnn"]
LONG = {
    "tail": {"long": "tail"},
    "head-tail": {"long": "head_tail"},
    "random": {"long": "random"},
    "windows": {"long": {"name": "windows", "most": 4}},
    "keywords": {"long": "keywords"},
    "keywords-segment": {"long": {"name": "keywords", "segment": "true"}},
}
SAMPLING = {
    "balanced": {"training": {"sampling": {"name": "power", "exponent": 0}}},
    "square-root": {"training": {"sampling": "power"}},
    "oversample": {"training": {"sampling": "oversample"}},
    "undersample": {"training": {"sampling": "undersample"}},
    "hard": {"training": {"sampling": {"name": "hard", "model": "tfidf"}}},
    "class-weights": {"training": {"loss": {"name": "cross_entropy", "class_weights": "inverse"}}},
    "logit-adjusted": {"training": {"loss": "logit_adjusted"}},
    "frozen": {"training": {"freeze_backbone": "true", "head_lr": 1e-2}},
    "frozen-smote": {"training": {"freeze_backbone": "true", "head_lr": 1e-2, "sampling": "smote"}},
}
WORDS = {"augment": ["swap_words", "delete_words", "keyboard", "insert_punctuation"]}
AUGMENTATION = {
    "online": WORDS,
    "copies": WORDS | {"augment_copies": 1},
    "copies-washed": WORDS | {"augment_copies": 1, "augment_washed_by": "tfidf"},
    "mix-up": {"training": {"mixup": 0.2}},
    "mask-spans": {"training": {"mask_spans": {}}},
}
PAIRS = ",".join(f"{i}-{j}" for i in FOLDS for j in FOLDS if i < j)

TABLES = {
    "training": Table("movie-reviews", 2000, TRAINING),
    "heads": Table("movie-reviews", 800, {head: {"head": head} for head in HEADS}),
    "long": Table("bbc", 300, LONG, base={"training": {"max_length": 32, "epochs": 2}}),
    "sampling": Table(
        "bbc",
        400,
        SAMPLING,
        base={"training": {"max_length": 32, "epochs": 2}},
        tail=TAIL,
        before=(("tfidf", "all"),),
    ),
    "augmentation": Table("movie-reviews", 2000, AUGMENTATION, before=(("tfidf", PAIRS),)),
    "augmentation-few": Table(
        "movie-reviews",
        200,
        AUGMENTATION,
        base={"training": {"epochs": 4}},
        before=(("tfidf", PAIRS),),
    ),
}


def make_workspace(root: Path, dataset: str, rows: int, tail: tuple[float, ...] = ()) -> None:
    """The data set's first so many training rows, and ten test rows; nothing if it is there."""
    if (root / "folds/folds.csv").exists():
        return
    foldstack(["--workspace", str(root), "data", "--dataset", dataset])
    for name, count in (("train", rows or None), ("test", 10), ("sample_submission", 10)):
        path = root / f"input/{name}.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if tail and name == "train":
            table = _cut_classes(table, tail)
        table.head(count).to_csv(path, index=False)
    foldstack(["--workspace", str(root), "folds"])


def _cut_classes(table: pd.DataFrame, shares: tuple[float, ...]) -> pd.DataFrame:
    """The first rows of each class, the classes by name."""
    place = table.groupby("label").cumcount()
    size = table["label"].map(table["label"].value_counts())
    share = table["label"].map(dict(zip(sorted(set(table["label"])), shares, strict=True)))
    return table[place < np.ceil(share * size)]


def write_presets(root: Path, table: Table) -> None:
    """`base`, and each of the others over it."""
    for name, settings in {"base": {}, **table.others}.items():
        path = root / f"presets/{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"preset": "minilm-quick"} | merge(table.base, settings)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--folds", default="all")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    table, root = TABLES[args.table], args.workspace
    make_workspace(root, table.dataset, table.rows if args.rows is None else args.rows, table.tail)
    write_presets(root, table)
    threads = cpu_threads(0) // args.jobs
    common = ["--workspace", str(root), "--set", f"runtime.threads={threads}"]
    often = ["--seed", args.seeds, "--jobs", str(args.jobs)]
    for model, folds in table.before:
        foldstack([*common, "train", "--model", model, "--fold", folds, *often])
    others = ",".join(table.others)
    sides = ["--a", "base", "--b", others, "--fold", args.folds]
    sys.exit(foldstack([*common, "compare", *sides, *often]))


if __name__ == "__main__":
    main()
