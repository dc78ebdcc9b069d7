"""What each epoch's weights score on the held-out fold, and whose scores a stored run reports.

    python tests/bench/epochs.py --workspace DIR MODEL [OTHER ...]

MODEL was trained with `select: fold`, so run.json has the metric after each epoch; OTHER, `f1-stage`
say, are models that began from its best epoch. All columns are scores of the same rows: `chosen` less
`last` is what choosing an epoch on the held-out fold brings, OTHER less `chosen` what OTHER adds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from foldstack.progress import say, table
from foldstack.store import RunKey
from foldstack.workspace import Workspace


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--workspace", type=Path, default=Path("."))
    args = parser.parse_args(argv)
    store = Workspace.open(args.workspace, []).store
    model, *others = args.models
    lines, numbers = [], []
    for key, run in store.runs().items():
        if key.model != model or "epoch_metric" not in run.facts:
            continue
        after, best = run.facts["epoch_metric"], run.facts["best_epoch"]
        found = [store.read_run(RunKey(other, key.seed, key.left_out)) for other in others]
        numbers.append([after[-1], after[best - 1], *(r.score if r else np.nan for r in found)])
        lines.append([key.run, " ".join(shown(after)), str(best), *shown(numbers[-1])])
    lines.append(["mean", "", "", *shown(np.mean(numbers, axis=0))])
    say(table(["run", "after each epoch", "best", "last", "chosen", *others], lines))


def shown(scores: list[float] | np.ndarray) -> list[str]:
    return [f"{score:.4f}" for score in scores]


if __name__ == "__main__":
    main()
