"""foldstack: text-classification competitions, from three CSV files to a submission and its estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldstack.api import Project
    from foldstack.stages.predictor import Predictor

__version__ = "0.1.0"


def open(workspace: str | Path = ".", sets: str | Sequence[str] = ()) -> Project:
    """Return a workspace whose methods are the stages: `foldstack.open("w").scores()`.

    Args:
        workspace: the folder.
        sets: settings that override competition.yaml and presets, such as `folds.count=10`.

    Raises:
        foldstack.errors.InputError: competition.yaml is missing or invalid.
    """
    from foldstack.api import Project  # a slow import, which help and version do without

    return Project(workspace, sets)


def load(
    workspace: str | Path = ".",
    *,
    model: str | None = None,
    blend: str | None = None,
    int8: bool = False,
) -> Predictor:
    """Return a workspace's blend, or one model, ready to predict new texts.

    `foldstack.load("w").predict(["a fine film"])` gives `.labels` and `.probabilities`.

    Args:
        workspace: the folder.
        model: load this model instead of the blend.
        blend: the blend; None for `blend`.
        int8: predict with transformers in int8, after measuring and logging the loss of score.

    Returns:
        A predictor that loads fitted models when they are first needed.

    Raises:
        foldstack.errors.InputError: there is no such blend or model.
    """
    from foldstack.api import Project, predictor  # a slow import, which help does without

    return predictor(Project(workspace).workspace, model=model, blend=blend, int8=int8)
