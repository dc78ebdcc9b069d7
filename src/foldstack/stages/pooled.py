"""Out-of-fold scores of single models, pooled over their trained folds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from foldstack import ensemble
from foldstack.defined import scored_by
from foldstack.ensemble import Members
from foldstack.errors import InputError, first_of
from foldstack.metrics import Metric
from foldstack.records import ModelScore, ModelScores
from foldstack.stages.blend import members_of, rule_reasons
from foldstack.stages.oof import read_model
from foldstack.stages.shared import shared_folds, trained_folds
from foldstack.store import Folds
from foldstack.workspace import Workspace


def model_scores(ws: Workspace, names: Iterable[str]) -> ModelScores:
    """Return the scores of those models that have runs of single folds.

    Labels are decided by the metric's own family of rules, fitted on the other folds. A model whose
    runs cannot be pooled, because they are stale for instance, has the reason instead.
    """
    decides = ws.competition.metric.wants == "labels"
    scores = ModelScores(decides=decides, metric=ws.competition.metric.name, rows=[])
    try:
        folds = ws.store.read_folds(ws.competition.train)
    except InputError:  # with which every run is marked
        return scores
    trained = [name for name in names if trained_folds(ws, name, folds)]
    return scores.model_copy(update={"rows": [_score(ws, name, folds) for name in trained]})


def _score(ws: Workspace, name: str, folds: Folds) -> ModelScore:
    own = shared_folds(ws, [name], folds)
    found = {
        "model": name,
        "folds": len(own.numbers),
        "of": folds.count,
        "optimistic": [],
        "why": "",
    }
    competition = ws.competition
    try:
        model = read_model(ws, name, own)
        members = members_of(ws, [model], own)
        metric, decided, family = ensemble.decide_by_fold(
            members,
            competition.metric,
            wants_labels=competition.submission.wants_labels,
            rules=competition.settings.blend.rules,
        )
        reasons = [*model.optimistic, *rule_reasons(family, own.numbers)]
        found |= _pool(metric, members, decided) | {"optimistic": reasons}
        if np.isnan(found["score"]):
            found["why"] = first_of(scored_by(competition, own).undefined)
    except InputError as e:
        found |= dict.fromkeys(("score", "mean", "spread"), math.nan) | {"why": str(e)}
    return ModelScore(**found)


def _pool(metric: Metric, members: Members, decided: np.ndarray) -> dict[str, float]:
    """Return the score of all rows, and the mean and standard deviation of those of single folds."""
    rows = [np.flatnonzero(members.folds == fold) for fold in np.unique(members.folds)]
    by_fold = [metric.take(own).score(members.targets[own], decided[own]) for own in rows]
    return {
        "score": metric.score(members.targets, decided),
        "mean": float(np.mean(by_fold)),
        "spread": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else math.nan,
    }
