"""The mean over a model's runs, of stored predictions or of predictions of new texts.

The runs of a seed are averaged, then the seeds. Every run predicts every new row, so their mean needs no
alignment; out-of-fold predictions, which are pooled over runs, do (see `ensemble.alignment`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.ensemble.alignment import KINDS, align_held_out
from foldstack.kinds import Kind
from foldstack.learners import Learner
from foldstack.links import to_probabilities
from foldstack.metrics import Metric
from foldstack.records import RunRecord
from foldstack.rows import Rows
from foldstack.store import RunKey
from foldstack.workspace import Workspace

OfRuns = dict[RunKey, np.ndarray]  # each run's (n, outputs) probabilities of the same n rows


# Two sources


def stored_probabilities(
    ws: Workspace,
    keys: Iterable[RunKey],
    name: str,
    rows: Rows | None = None,
    records: Mapping[RunKey, RunRecord] | None = None,
) -> OfRuns:
    """Return each run's stored probabilities.

    Args:
        ws: the workspace.
        keys: the runs.
        name: the set of rows: `heldout` or `test`.
        rows: the n rows of the predictions; None to skip that check.
        records: records of the runs, where known.

    Returns:
        Per run (n, outputs).

    Raises:
        InputError: predictions are missing, damaged, for other rows, or not finite.
    """
    found, records = {}, records or {}
    for key in keys:
        if rows is None:
            predictions = ws.store.stored_predictions(key, name)
        else:
            predictions = ws.store.read_predictions(key, name, rows, records.get(key))
        found[key] = to_probabilities(predictions.raw, predictions.link)
    return found


def live_probabilities(learners: Iterable[tuple[RunKey, Learner]], rows: Rows) -> OfRuns:
    """Return the probabilities that each run's learner predicts for the rows."""
    return {key: to_probabilities(learner.predict(rows), learner.link) for key, learner in learners}


# One mean


def over_runs(values: OfRuns) -> np.ndarray:
    """Return (n, outputs): the mean over the runs of each seed, then over the seeds."""
    by_seed: dict[int, list[np.ndarray]] = {}
    for key, each in values.items():
        by_seed.setdefault(key.seed, []).append(each)
    return np.mean([np.mean(of_seed, axis=0) for of_seed in by_seed.values()], axis=0)


def is_aligned(metric: Metric, wanted: bool) -> bool:
    """Return whether runs are aligned: a metric of probabilities has no need of equal scales."""
    return wanted and metric.wants != "probability"


def alignment(kind: Kind, held: Sequence[np.ndarray], wanted: bool) -> list[Callable]:
    """Return per run of a seed a map that aligns its probabilities; the identity if not wanted.

    held: per run its (h, outputs) probabilities of the rows that it held out.
    """
    return align_held_out(held) if wanted and kind in KINDS else [np.asarray] * len(held)


@dataclass(frozen=True)
class RunScales:
    """The scales of a model's runs, by the rows that each held out.

    No prediction depends on the rows that are predicted beside it, nor on the test file.

    Attributes:
        held: per run its (h, outputs) probabilities of the rows that it held out.
    """

    held: OfRuns

    @classmethod
    def read(cls, ws: Workspace, keys: Iterable[RunKey]) -> RunScales:
        """Read the runs' held-out predictions, of whatever rows they are."""
        return cls(stored_probabilities(ws, keys, "heldout"))

    def maps(self, kind: Kind, *, wanted: bool) -> dict[RunKey, Callable]:
        """Return per run the function that aligns its probabilities with those of its seed."""
        maps: dict[RunKey, Callable] = {}
        for seed in dict.fromkeys(key.seed for key in self.held):
            together = [key for key in self.held if key.seed == seed]
            found = alignment(kind, [self.held[key] for key in together], wanted)
            maps |= dict(zip(together, found, strict=True))
        return maps

    def ranks(self, key: RunKey, values: np.ndarray) -> np.ndarray:
        """Return the (n, outputs) ranks, in (0, 1), of a run's values among its held-out ones."""
        held = self.held[key]
        columns = [
            (np.searchsorted(known, v, "left") + np.searchsorted(known, v, "right")) / 2
            for known, v in zip(np.sort(held, axis=0).T, values.T, strict=True)
        ]
        return (np.column_stack(columns) + 0.5) / (len(held) + 1)

    def mean_ranks(self, values: OfRuns) -> np.ndarray:
        """Return the (n, outputs) mean over runs of `ranks`."""
        return over_runs({key: self.ranks(key, each) for key, each in values.items()})
