"""The demo: the whole way on the embedded reviews, cut to what this machine can do in time."""

from __future__ import annotations

import time
from pathlib import Path

from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.progress import duration, say
from foldstack.stages import blend as blend_stage
from foldstack.stages import data, folds, score, submit, train
from foldstack.stages.fitted import threads_of, token_cache
from foldstack.workspace import Workspace

DATASET = "movie-reviews"
LIMIT_SECONDS = 15 * 60
SHORT_FOLDS, SHORT_TRAINING = 3, {"epochs": 1}


def demo(root: Path, sets: list[str]) -> None:
    """Data, folds, training, blend, submissions and their scores, in one go; resumable."""
    begin, ws = time.monotonic(), Workspace.open(root, sets)
    if not (ws.root / "competition.yaml").exists():
        data.make_data(ws, DATASET)
        if _forecast(ws) > LIMIT_SECONDS:
            say(
                f"demo: that is more than {LIMIT_SECONDS // 60} minutes: taking {SHORT_FOLDS} folds and "
                "one epoch instead; competition.yaml says so, change it there"
            )
            data.make_data(
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
    folds.make_folds(ws)
    train.train(ws)
    blend_stage.blend(ws)
    for model in ws.listed:
        submit.submit(ws, model=model)
    submit.submit(ws)
    say("")
    score.score(ws)
    say(
        f"\ndemo: done in {duration(time.monotonic() - begin)}; the workspace is {ws.root.resolve()}, "
        "`make help` shows what to try next"
    )


def _forecast(ws: Workspace) -> float:
    """Seconds for all runs of minilm, from a few updates and predictions on this machine."""
    settings = ws.model_settings("minilm")
    rows, test = ws.competition.train, ws.competition.test
    count = ws.competition.settings.folds.count
    context = LearnerContext(ws.competition.task, 0, threads_of(ws), cache=token_cache(ws))
    learner = make_learner(settings, context)
    per_row, per_predicted = learner.measure(rows)
    learned = len(rows) * (count - 1) * settings.training.epochs
    predicted = len(rows) + len(test) * count
    seconds = learned * per_row + predicted * per_predicted
    say(
        f"demo: minilm takes {1 / per_row:.0f} rows/s in training ({learner.precision}) and "
        f"{1 / per_predicted:.0f} in prediction here: {count} folds want about {duration(seconds)}"
    )
    return seconds
