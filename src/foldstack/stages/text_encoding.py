"""Encoding of texts as vectors: by a frozen backbone, or by the fitted model of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldstack import config
from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.meaning import PRESET
from foldstack.records import IndexRecord, RunRecord
from foldstack.stages.fitted import load_learner, threads_to_predict
from foldstack.store import RunKey
from foldstack.techniques import LearnerSettings
from foldstack.text.cosine import unit
from foldstack.text.vector_cache import TextNetwork, VectorCache, vectors_of
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class Encoding:
    """A network from texts to vectors, and the model that it is of.

    run: None of a frozen backbone.
    """

    model: str
    run: RunKey | None
    network: TextNetwork

    @property
    def run_name(self) -> str | None:
        return None if self.run is None else f"seed{self.run.seed}/{self.run.run}"

    def vectors(self, texts: list[str], cache: VectorCache | None = None) -> np.ndarray:
        """Return (n, size) unit vectors of n texts."""
        if cache is None:
            return unit(vectors_of(self.network, texts))
        return unit(cache.read(texts, self.network))


def encoding_of(ws: Workspace, model: str | None, fold: str | None, seed: str | None) -> Encoding:
    """Return the encoding of a model.

    Args:
        ws: the workspace.
        model: one whose settings have `text_vectors`; None for `PRESET`.
        fold, seed: of its run; None for full, and the competition's first seed.

    Raises:
        InputError: the model has no vector of a text, its run is missing, or its backbone is.
    """
    model = ws.choose_model(model or PRESET, "index")
    settings = _settings(ws, model)
    if settings.text_vectors is None:
        raise InputError(
            f"model '{model}' gives a text no vector: take {PRESET}, another model of learner vectors "
            "with source backbone, or one of learner biencoder"
        )
    if settings.text_vectors == "backbone":
        if fold or seed:
            raise InputError(
                f"the vectors of '{model}' are those of its backbone, whatever the run: leave FOLD and "
                "SEED out"
            )
        return _of_backbone(ws, model, settings)
    return _of_run(ws, _key(ws, model, fold, seed))


def stored_encoding(ws: Workspace, record: IndexRecord) -> Encoding:
    """Return the encoding that an index was made by, as it is today."""
    if record.run is None:
        return encoding_of(ws, record.model, None, None)
    return _of_run(ws, RunKey.of_name(record.model, record.run))


def _settings(ws: Workspace, model: str) -> LearnerSettings:
    """Return a model's settings; of a variant (NAME=) those of its runs."""
    if ws.has_preset(model):
        return ws.model_settings(model)
    record = ws.store.read_run(ws.store.run_keys(model)[0])
    return config.stored_settings(record.identity.settings)


def _key(ws: Workspace, model: str, fold: str | None, seed: str | None) -> RunKey:
    seeds = ws.choose_seeds(seed) if seed else [ws.competition.settings.seeds[0]]
    runs = [()]
    if fold not in (None, "", "full"):
        runs = ws.choose_runs(fold, ws.store.read_folds(ws.competition.train))
    if len(runs) * len(seeds) > 1:
        raise InputError("an index has the vectors of one run: name one FOLD and one SEED")
    return RunKey(model, seeds[0], runs[0])


def _of_backbone(ws: Workspace, model: str, settings: LearnerSettings) -> Encoding:
    settings.check_backbone()
    context = LearnerContext(ws.competition.task, threads=threads_to_predict(ws))
    return Encoding(model, None, make_learner(settings, context).text_network(None))


def _of_run(ws: Workspace, key: RunKey) -> Encoding:
    record = ws.store.read_run(key)
    if record is None:
        raise InputError(
            f"{key} is not trained: run `{ws.store.train_command(key.model)} "
            f"FOLD={key.run.removeprefix('fold')} SEED={key.seed}`, or name a run that is (FOLD=, SEED=)"
        )
    if config.stored_settings(record.identity.settings).repeated != 1:
        raise InputError(
            f"{key} is the mean of several fits (`repeats`), each with vectors of its own: take a model "
            "with repeats 1"
        )
    learner = load_learner(ws, key, threads_to_predict(ws))
    return Encoding(key.model, key, learner.text_network(_fitted(record)))


def _fitted(record: RunRecord) -> str:
    """Return the digest of a run's settings and files."""
    return config.digest([record.identity.to_json(), record.files])
