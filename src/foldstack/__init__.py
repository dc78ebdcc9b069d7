"""foldstack: from three CSV files to a text-classification submission one can believe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldstack.api import Project
    from foldstack.stages.predictor import Predictor

__version__ = "0.1.0"


def open(workspace: str | Path = ".", sets: Sequence[str] = ()) -> Project:
    """Return a workspace whose stages are methods: `foldstack.open("w").scores()`.

    Args:
        sets: settings over competition.yaml and the presets, each as `folds.count=10`.

    Raises:
        foldstack.errors.InputError: the folder holds no competition.yaml, or a wrong one.
    """
    from foldstack.api import Project  # imported here, so that help and version are quick

    return Project(workspace, sets)


def load(
    workspace: str | Path = ".",
    *,
    model: str | None = None,
    blend: str = "blend",
    int8: bool = False,
) -> Predictor:
    """Return a workspace's blend, or one model, ready to predict new texts.

    `foldstack.load("w").predict(["a fine film"])` gives `.labels` and `.probabilities`.

    Args:
        int8: transformers in int8; what that costs is measured and logged first.

    Raises:
        foldstack.errors.InputError: there is no such blend or model.
    """
    from foldstack.stages.predictor import (
        Predictor,  # imported here, so that help and version are quick
    )
    from foldstack.workspace import Workspace

    ws = Workspace.open(Path(workspace), [])
    if model:
        return Predictor.of_model(ws, model, int8=int8)
    return Predictor.of_blend(ws, blend, int8=int8)
