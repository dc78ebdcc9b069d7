"""The score of an epoch on the rows to select by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foldstack import metrics
from foldstack.errors import InputError
from foldstack.learners import Task
from foldstack.rows import Rows
from foldstack.techniques import LoopSettings
from foldstack.training.loop import EpochScore


def epoch_score(task: Task, settings: LoopSettings, select: Rows, logits: np.ndarray) -> EpochScore:
    """Return the score of (n, outputs) logits on the rows to select by, for `loop.train`.

    Args:
        task: the competition's, with its metric.
        settings: `select_by` names another metric to select by.
        select: the n rows.
        logits: values for regression.

    Returns:
        The score that selects (larger is better), and the competition's metric.

    Raises:
        InputError: the metric is undefined on these rows.
    """
    task = task.of(select)
    score = of_competition = task.score(select.targets, logits)
    if settings.select_by:
        task = replace(task, metric=metrics.get(settings.select_by, task.kind))
        score = task.score(select.targets, logits)
    if np.isnan(score):
        raise InputError(
            f"{task.metric.name} is undefined on the {len(select):,} rows that "
            f"training.select={settings.select} chooses the epoch by: "
            "use select=last, or a metric that is defined there"
        )
    return EpochScore(task.metric.sign * score, of_competition)
