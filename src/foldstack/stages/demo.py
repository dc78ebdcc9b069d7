"""The demo: every stage on the embedded reviews, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.records import DemoForecast, DemoResult, DemoScores
from foldstack.stages import blend as blend_stage
from foldstack.stages import data, folds, score, submit, train
from foldstack.stages.fitted import threads_to_predict, token_cache
from foldstack.workspace import Workspace

DATASET = "movie-reviews"
LIMIT_SECONDS = 15 * 60
SHORT_FOLDS, SHORT_TRAINING = 3, {"epochs": 1}


def demo(root: Path, sets: list[str]) -> Iterator[Any]:
    """Run all stages and yield their results; a second call resumes."""
    begin, ws = time.monotonic(), Workspace.open(root, sets)
    if not (ws.root / "competition.yaml").exists():
        yield data.make_data(ws, DATASET)
        forecast = _forecast(ws)
        yield forecast
        if forecast.short_folds:
            yield data.make_data(
                ws,
                DATASET,
                force=True,
                folds=SHORT_FOLDS,
                model_settings={"minilm": {"training": SHORT_TRAINING}},
            )
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
    """Forecast the time for all runs of minilm from a few updates and predictions."""
    settings = ws.model_settings("minilm")
    rows, test = ws.competition.train, ws.competition.test
    count = ws.competition.settings.folds.count
    context = LearnerContext(ws.competition.task, 0, threads_to_predict(ws), cache=token_cache(ws))
    learner = make_learner(settings, context)
    per_row, per_predicted = learner.measure(rows)
    learned = len(rows) * (count - 1) * settings.training.epochs
    predicted = len(rows) + len(test) * count
    seconds = learned * per_row + predicted * per_predicted
    return DemoForecast(
        learned_per_second=1 / per_row,
        predicted_per_second=1 / per_predicted,
        precision=learner.precision,
        folds=count,
        seconds=seconds,
        limit=LIMIT_SECONDS,
        short_folds=SHORT_FOLDS if seconds > LIMIT_SECONDS else None,
    )
