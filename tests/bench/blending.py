"""How long one fit of a blend takes, and what it reaches in sample beside hillclimbers.

    python tests/bench/blending.py [--auc-models 50 --auc-rows 200000]
        [--f1-models 30 --f1-rows 50000 --f1-labels 28] [--methods greedy simplex]
        [--climb-models 8 --climb-rows 20000]

Predictions are generated: a signal, an error that all models share and one of each model's own. The
PyPI package hillclimbers searches positive weights of its precision .01, each model once; the simplex
holds all its blends, and is searched on the same matrix. Where the package is not installed a line
says so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings

import numpy as np
from scipy.special import expit

from foldstack.ensemble import METHODS, BlendOptions, Members
from foldstack.ensemble.search_objective import SearchObjective
from foldstack.metrics import get
from foldstack.progress import table

SEED = 0


def make_members(rows: int, models: int, labels: int, positives: float) -> Members:
    """Out-of-fold probabilities of models that differ in skill and in how much they share."""
    rng = np.random.default_rng(SEED)
    targets = (rng.random((rows, labels)) < positives).astype(float)
    shared = rng.normal(size=(rows, labels))
    skill = rng.uniform(0.8, 1.6, models)
    p = np.empty((rows, models, labels))
    for model in range(models):
        own = rng.normal(size=(rows, labels))
        p[:, model] = expit(skill[model] * (targets * 2 - 1) + shared + own - 1)
    kind = "binary" if labels == 1 else "multilabel"
    names = [f"m{model}" for model in range(models)]
    none = np.zeros((1, models, labels))
    order = np.arange(rows)
    # No method timed here reads ranks.
    return Members(names, p, p, none, none, targets, order % 5, order, kind)


def fit(members: Members, metric: str, method: str) -> list[str]:
    """A line of the table: what, wall and processor seconds, in-sample objective, models used."""
    of = get(metric, members.kind)
    rows = np.arange(len(members.targets))
    wall, processor = time.perf_counter(), time.process_time()
    fitted = METHODS[method](BlendOptions()).fit(members, rows, of, SEED)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    score = SearchObjective.of(of, members.kind, members.targets)(
        np.ascontiguousarray(fitted.crossfit.T)
    )
    used = int((np.array(list(fitted.parameters["weights"].values())) != 0).sum())
    n, models, labels = members.probabilities.shape
    what = f"{models} x {n:,}" + (f" x {labels}" if labels > 1 else "")
    return [method, metric, what, f"{wall:.1f}", f"{processor:.1f}", f"{score:.6f}", str(used)]


HEADER = [
    "method",
    "metric",
    "models x rows",
    "seconds",
    "CPU seconds",
    "in-sample",
    "weights used",
]


def timings(arguments: argparse.Namespace) -> None:
    lines = []
    if arguments.auc_models:
        members = make_members(arguments.auc_rows, arguments.auc_models, 1, 0.1)
        lines += [fit(members, "roc_auc", method) for method in arguments.methods]
    if arguments.f1_models:
        members = make_members(arguments.f1_rows, arguments.f1_models, arguments.f1_labels, 0.05)
        lines += [fit(members, "f1_macro", method) for method in arguments.methods]
    if lines:
        print(table(HEADER, lines), flush=True)


def beside_hillclimbers(rows: int, models: int) -> tuple[float, float] | None:
    """Both on one matrix, for AUC: (our seconds, theirs), None where the package is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its source has escapes that Python warns of
            import hillclimbers
    except ImportError:
        print("hillclimbers is not installed: skipped the comparison (pip install '.[bench]')")
        return None
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    members = make_members(rows, models, 1, 0.1)
    oof = pd.DataFrame(members.probabilities[:, :, 0], columns=members.names)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        _, theirs = hillclimbers.climb_hill(
            train=pd.DataFrame({"target": members.targets[:, 0]}),
            oof_pred_df=oof,
            test_pred_df=oof[:1],
            target="target",
            objective="maximize",
            eval_metric=hillclimbers.partial(roc_auc_score),
            precision=0.01,
            plot_hill=False,
            return_oof_preds=True,
        )
    seconds = time.perf_counter() - started
    score = get("roc_auc", "binary").score(members.targets, theirs[:, None])
    ours = fit(members, "roc_auc", "simplex")
    line = ["hillclimbers", "roc_auc", ours[2], f"{seconds:.1f}", "", f"{score:.6f}", ""]
    print(table(HEADER, [ours, line]))
    gap = float(ours[5]) - score
    print(f"simplex less hillclimbers in sample: {gap:+.6f} ({'ok' if gap >= -1e-6 else 'WORSE'})")
    return float(ours[3]), seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--auc-models", type=int, default=50, help="0: skipped")
    parser.add_argument("--auc-rows", type=int, default=200_000)
    parser.add_argument("--f1-models", type=int, default=30, help="0: skipped")
    parser.add_argument("--f1-rows", type=int, default=50_000)
    parser.add_argument("--f1-labels", type=int, default=28)
    parser.add_argument("--methods", nargs="+", default=["greedy", "simplex"], choices=METHODS)
    parser.add_argument("--climb-models", type=int, default=8, help="0: skipped")
    parser.add_argument("--climb-rows", type=int, default=20_000)
    chosen = parser.parse_args()
    timings(chosen)
    if chosen.climb_models:
        beside_hillclimbers(chosen.climb_rows, chosen.climb_models)
