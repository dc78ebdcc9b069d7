"""Stage: what the workspace holds, and what comes next."""

from __future__ import annotations

from collections import Counter

from foldstack.errors import InputError
from foldstack.records import CompetitionSummary
from foldstack.stages.dependencies import Doubts
from foldstack.workspace import Workspace


def summary(ws: Workspace) -> CompetitionSummary:
    """Return the competition as it is understood, what was made, and the next command."""
    competition, store = ws.competition, ws.store
    s, runs = competition.settings, store.runs()
    trained = Counter(key.model for key in runs)
    doubts = Doubts.of(ws)
    stale = Counter(key.model for key, run in runs.items() if doubts.of_run(run)[0])
    try:
        folds = store.read_folds(competition.train).count if store.has_folds() else None
    except InputError:
        folds = None
    return CompetitionSummary(
        name=s.name,
        kind=str(s.kind),
        metric=s.metric,
        submits=competition.submission.holds,
        labels=list(competition.labels),
        train_rows=len(competition.train),
        test_rows=len(competition.test),
        unlabelled=competition.unlabelled_rows,
        columns={
            "id": [s.id],
            "text": list(s.text),
            "target": list(s.target),
            "group": [s.group] if s.group else [],
            "weight": [s.weight] if s.weight else [],
            "features": list(competition.feature_names),
        },
        folds=folds,
        models=ws.listed,
        runs=trained,
        stale=stale,
        blends=list(store.blends()),
        submissions=list(store.submissions()),
        metric_confirmed=s.metric_confirmed,
        folds_remark=ws.folds_remark,
        next=_next(ws, folds, trained, stale),
    )


def _next(ws: Workspace, folds: int | None, trained: dict[str, int], stale: dict[str, int]) -> str:
    if folds is None:
        return "make folds"
    if again := [name for name in ws.listed if name in stale]:
        return f"make train MODEL={','.join(again)} FORCE=1"
    if any(name not in trained for name in ws.listed):
        return "make train"
    if not ws.store.blends():
        return "make blend submit"
    return "make submit" if not ws.store.submissions() else "make scores"
