"""Made-up competitions whose truth is known: which estimates have a bias, and which intervals cover?

    python tests/bench/simulations.py [--draws 400] [--only WORDS] [--jobs 2]

Each draw is a competition of its own: documents, labels, members, folds. `estimate less truth` is its
mean over draws, larger is better; `in errors` the 95 % interval of that bias in stated standard errors.
A kind holds if that lies within a quarter of a standard error and 92 to 97.5 % of intervals cover.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

from simulated import Draw, blends, drift, summarise

from foldstack.progress import Progress, table

KINDS = {**blends.KINDS, **drift.KINDS}
HEADER = [
    "kind",
    "estimate of",
    "draws",
    "truth",
    "estimate less truth",
    "in errors",
    "covers",
    "holds",
]


def draw(kind: str, seed: int) -> dict[str, Draw]:
    return KINDS[kind](seed)


def line(kind: str, what: str, draws: list[Draw]) -> list[str]:
    found = summarise(draws)
    low, high = found.relative_bias
    return [
        kind,
        what,
        f"{found.draws}",
        f"{found.truth:.4f}",
        f"{found.bias:+.4f} ± {found.bias_error:.4f}",
        f"{low:+.2f} to {high:+.2f}",
        f"{found.covered:.1%}",
        "yes" if found.holds else "NO",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    kinds = [kind for kind in KINDS if a.only in kind]
    rows = []
    total = a.draws * len(kinds)
    with ProcessPoolExecutor(a.jobs) as pool, Progress("simulating", total, "draws") as progress:
        for kind in kinds:
            by_name: dict[str, list[Draw]] = {}
            for of_draw in pool.map(partial(draw, kind), range(a.draws), chunksize=10):
                for what, each in of_draw.items():
                    by_name.setdefault(what, []).append(each)
                progress.add(1)
            rows += [line(kind, what, draws) for what, draws in by_name.items()]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
