"""Forecasts of training time, from the first steps of each model on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from foldstack.competition import Competition
from foldstack.config import listed_models, load_model
from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.progress import duration, say
from foldstack.records import ModelForecast
from foldstack.stages.jobs import shares

MOST_ROWS = 1_000  # that are measured on, drawn at random
DRAW_SEED = 0


def forecasts(competition: Competition, root: Path) -> Iterator[ModelForecast]:
    """Yield the forecast of each listed model's runs, of all folds and seeds.

    Args:
        competition: whose files are there.
        root: the workspace's folder, for its own presets.
    """
    for model, _ in listed_models(competition.settings):
        say(f"init: measuring the first steps of {model} (QUICK=1 leaves that out)")
        yield forecast(competition, root, model)


def forecast(competition: Competition, root: Path, model: str) -> ModelForecast:
    """Return the forecast of one model's runs; without seconds, but with the reason, if none is made.

    The runs of all models share the machine as `folds` and `train` share it.
    """
    settings = load_model(model, root, competition.settings, {})
    rows, folds = competition.train, competition.settings.folds
    seeds = len(set(competition.settings.seeds))
    runs = folds.count * folds.repeats * seeds
    shared = shares(competition.settings, runs * len(competition.settings.models))
    context = LearnerContext(
        competition.task,
        DRAW_SEED,
        shared.given or shared.threads,
        files=competition.files_of(settings),
        texts=lambda: competition.all_texts,
    )
    learner = make_learner(settings, context)
    measure = getattr(learner, "measure", None)
    if measure is None:
        return ModelForecast(model=model, runs=runs, reason="its learner measures no steps")
    drawn = np.random.default_rng(DRAW_SEED).permutation(len(rows))[:MOST_ROWS]
    learned = len(rows) * (folds.count - 1) // folds.count
    begin = time.monotonic()
    try:
        settings.check_inputs(dict(context.files))
        measured = measure(rows.take(np.sort(drawn)), learned)
    except InputError as e:
        return ModelForecast(model=model, runs=runs, reason=str(e).split(": ")[0])
    start = max(time.monotonic() - begin - measured.seconds, 0)  # loading and setting up
    predicted = len(rows) // folds.count + len(competition.test)
    of_run = start + measured.fit_seconds + predicted * measured.row_seconds
    once = (len(rows) + len(competition.test)) * measured.once_row_seconds
    once += len(rows) * seeds * measured.seed_row_seconds
    return ModelForecast(
        model=model,
        runs=runs,
        seconds=once + of_run * runs / min(shared.at_once, runs),
        learned_per_second=measured.learned_per_second,
        predicted_per_second=1 / measured.row_seconds,
        precision=getattr(learner, "precision", None),
        work=measured.work,
    )


def forecast_note(made: ModelForecast) -> str:
    """Return a forecast as a comment on a model in competition.yaml."""
    if made.seconds is None:
        return f"time not known: {made.reason}"
    work = f", {made.work}" if made.work else ""
    return f"about {duration(made.seconds)} for {made.runs} runs{work}, on the machine of `init`"
