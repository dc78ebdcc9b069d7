"""foldstack: from three CSV files to a text-classification submission one can believe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foldstack.stages.predictor import Predictor

__version__ = "0.1.0"


def load(
    workspace: str | Path = ".",
    *,
    model: str | None = None,
    blend: str = "blend",
    int8: bool = False,
) -> Predictor:
    """What a workspace has learned: its blend, or one model, ready to predict new texts.

    `foldstack.load("w").predict(["a fine film"])` gives `.labels` and `.probabilities`.

    int8: transformers in int8; what that costs is measured and said first.

    Raises foldstack.errors.InputError where there is no such blend or model.
    """
    from foldstack.stages.predictor import (
        Predictor,  # imported here, so that help and version are quick
    )
    from foldstack.workspace import Workspace

    ws = Workspace.open(Path(workspace), [])
    if model:
        return Predictor.of_model(ws, model, int8=int8)
    return Predictor.of_blend(ws, blend, int8=int8)
