"""Stage: a local page that predicts typed texts and uploaded files."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from foldstack import config
from foldstack.errors import InputError
from foldstack.records import AppDescription, EstimateRecord, InputField, ServedApp
from foldstack.stages.blend import read_stored
from foldstack.stages.explained import Explainer
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class App:
    """The page's description, and what predicts for it."""

    description: AppDescription
    explainer: Explainer


def app(
    ws: Workspace,
    *,
    model: str | None = None,
    name: str | None = None,
    port: int | None = None,
) -> ServedApp:
    """Serve the page on 127.0.0.1 until Ctrl-C.

    Args:
        ws: the workspace.
        model: predict with this model instead of the blend `name`.
        name: the blend; None for `blend`.
        port: None for the first free one from 7860.

    Returns:
        How much was predicted.

    Raises:
        InputError: Gradio is not installed, a model or a run is missing, or the port is in use.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError(
            "app requires the package gradio, which is not installed: pip install 'foldstack[app]'"
        )
    made = prepare(ws, model=model, name=name)
    made.explainer.explain(
        ws.competition.test.take([0])
    )  # a missing run is refused before the page
    made.explainer.texts = 0
    from foldstack.views.app import serve

    serve(made.description, made.explainer, port)
    return ServedApp(texts=made.explainer.texts, files=made.explainer.files)


def prepare(ws: Workspace, *, model: str | None = None, name: str | None = None) -> App:
    """Return what the page needs; the runs are loaded when they are first needed.

    Raises InputError if the blend or the model is missing, or both are named.
    """
    if model and name:
        raise InputError("app takes MODEL= or the blend's NAME=, not both")
    nested = None
    if model:
        model = ws.choose_model(model, "app")
        predictor, source, name = Predictor.of_model(ws, model), f"model '{model}'", model
    else:
        name = config.check_name(name or "blend", "name")
        predictor, source = Predictor.of_blend(ws, name), f"blend '{name}'"
        nested = read_stored(ws, name).nested
        name = "blend" if name == "blend" else f"blend {name}"
    return App(_describe(predictor, source, nested), Explainer(predictor, name))


def _describe(predictor: Predictor, source: str, nested: EstimateRecord | None) -> AppDescription:
    ws = predictor.ws
    return AppDescription(
        competition=ws.competition.settings.name,
        kind=str(ws.competition.kind),
        metric=ws.competition.metric.name,
        values=ws.competition.kind.is_values,
        source=source,
        nested=nested,
        winner=predictor.winner,
        runs={name: len(keys) for name, keys in predictor.members.items()},
        ranks=predictor.of_ranks,
        rules=0 if ws.patterns is None else len(ws.patterns.rules),
        fields=_fields(predictor),
        stale=predictor.stale,
        optimistic=predictor.optimistic,
    )


def _fields(predictor: Predictor) -> list[InputField]:
    """Return the columns to type in: texts, and features if a model reads them."""
    competition = predictor.ws.competition
    fields = [InputField(name=name, what="text") for name in competition.settings.text]
    if predictor.uses_features:
        numeric = competition.settings.numeric
        fields += [
            InputField(name=name, what="number" if name in numeric else "category")
            for name in competition.feature_names
        ]
    return fields
