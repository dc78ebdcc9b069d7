"""The mean over a model's runs, of stored predictions or of predictions of new texts.

The runs of a seed are aligned by their test predictions (see `ensemble.alignment`) and averaged, then
the seeds are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.ensemble.alignment import KINDS, align
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


def alignment(kind: Kind, tests: Sequence[np.ndarray], wanted: bool) -> list[Callable]:
    """Return per run of a seed a map that aligns its probabilities; the identity if not wanted."""
    return align(tests) if wanted and kind in KINDS else [np.asarray] * len(tests)


@dataclass(frozen=True)
class RunMean:
    """The aligned mean over the runs of a model.

    Attributes:
        tests: per run its (t, outputs) probabilities of the test rows.
        maps: per run the function that aligns its probabilities with those of its seed.
    """

    tests: OfRuns
    maps: dict[RunKey, Callable[[np.ndarray], np.ndarray]]

    @classmethod
    def of(cls, kind: Kind, tests: OfRuns, *, aligned: bool) -> RunMean:
        maps: dict[RunKey, Callable] = {}
        for seed in dict.fromkeys(key.seed for key in tests):
            together = [key for key in tests if key.seed == seed]
            found = alignment(kind, [tests[key] for key in together], aligned)
            maps |= dict(zip(together, found, strict=True))
        return cls(tests, maps)

    def mean(self, values: OfRuns) -> np.ndarray:
        """Return the (n, outputs) mean of the runs' aligned probabilities."""
        return over_runs({key: self.maps[key](each) for key, each in values.items()})

    def mean_ranks(self, values: OfRuns) -> np.ndarray:
        """Return the (n, outputs) mean rank, in (0, 1), of values among each run's test rows."""
        return over_runs({key: _ranks_among(self.tests[key], each) for key, each in values.items()})


def _ranks_among(test: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the (n, outputs) ranks of values among the (t, outputs) test predictions."""
    columns = [
        (np.searchsorted(known, v, "left") + np.searchsorted(known, v, "right")) / 2
        for known, v in zip(np.sort(test, axis=0).T, values.T, strict=True)
    ]
    return (np.column_stack(columns) + 0.5) / (len(test) + 1)
