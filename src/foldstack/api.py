"""The Python API: a workspace's stages as methods that return records and data frames.

    project = foldstack.open("toxic")
    project.folds()
    project.train("tfidf")
    project.scores()
    project.compare("tfidf", "minilm").frame

What the command line shows of a result is left to the caller; a notebook shows tables as tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from foldstack.records import (
    BlendRecord,
    Comparison,
    FoldsResult,
    ReportRecord,
    Submitted,
    TrainedRecord,
    ViewsRecord,
)
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.stages.predictor import Prediction

# As on the command line, or as Python has them: `0`, `[0, 1]`, `"0,2-4"`, `"full"`.
Chosen = str | int | Iterable[str | int] | None


def as_text(chosen: Chosen) -> str | None:
    """Return a choice of models, folds or seeds as the command line writes it."""
    if chosen is None or isinstance(chosen, str):
        return chosen
    return str(chosen) if isinstance(chosen, int) else ",".join(map(str, chosen))


class Project:
    """One workspace. Each method runs the stage of its name and raises InputError as that does.

    Settings and input are read once: open the workspace again after they have changed.
    """

    def __init__(self, workspace: str | Path, sets: Sequence[str] = ()):
        """sets: settings over competition.yaml and the presets, each as `folds.count=10`."""
        self.workspace = Workspace.open(Path(workspace), list(sets))
        _ = self.workspace.competition  # outside a workspace that is what is wrong

    def __repr__(self) -> str:
        return f"Project({str(self.workspace.root)!r})"

    def folds(self, *, force: bool = False) -> FoldsResult:
        """Make the folds, if they are not there yet."""
        from foldstack.stages.folds import make_folds

        return make_folds(self.workspace, force=force)

    def train(
        self,
        model: Chosen = None,
        *,
        fold: Chosen = None,
        seed: Chosen = None,
        name: str | None = None,
        force: bool = False,
        jobs: int = 1,
    ) -> TrainedRecord:
        """Train runs, each in a process of its own.

        Args:
            model: presets; None for those that competition.yaml lists.
            fold: each fold that a run leaves out, `"2-4"` for two at once, `"full"` for none; None
                for every fold.
            seed: None for those of competition.yaml.
            name: keep the runs under this name, as a variant.
            force: train again what is finished.
            jobs: runs at once.
        """
        from foldstack.stages.train import train

        return train(
            self.workspace,
            model=as_text(model),
            fold=as_text(fold),
            seed=as_text(seed),
            name=name,
            force=force,
            jobs=jobs,
        )

    def scores(self) -> pd.DataFrame:
        """Return one row per finished run."""
        from foldstack.stages.score import scores

        return scores(self.workspace).runs.frame

    def blends(self) -> pd.DataFrame:
        """Return one row per stored blend."""
        from foldstack.stages.score import blend_scores

        return blend_scores(self.workspace).frame

    def compare(
        self, baseline: str, *others: str, fold: Chosen = None, seed: Chosen = None, jobs: int = 1
    ) -> Comparison:
        """Compare models with a baseline, on the same folds and seeds; train what is missing.

        Args:
            fold: two or more folds; None for all.
            seed: None for those of competition.yaml.
            jobs: runs to train at once.

        Returns:
            The comparison, one row per model of `others`; the workspace keeps it.
        """
        from foldstack.stages.compare import compare

        return compare(
            self.workspace,
            a=baseline,
            b=as_text(others),
            fold=as_text(fold),
            seed=as_text(seed),
            jobs=jobs,
        )

    def comparisons(self) -> list[Comparison]:
        """Return the comparisons that the workspace keeps."""
        return self.workspace.store.comparisons()

    def blend(self, model: Chosen = None, *, name: str | None = None) -> BlendRecord:
        """Blend models, all that have runs by default, and keep the blend under a name."""
        from foldstack.stages.blend import blend

        return blend(self.workspace, model=as_text(model), name=name)

    def views(
        self, *, model: str | None = None, name: str | None = None, tail: int = 10
    ) -> ViewsRecord:
        """Score a blend, or one model, on parts of the out-of-fold rows.

        Args:
            name: of the blend, None for the one without a name.
            tail: labels of fewer rows are the tail of the distribution.
        """
        from foldstack.stages.views import views

        return views(self.workspace, model=model, name=name, tail=tail)

    def report(self, *, model: Chosen = None, name: str | None = None) -> ReportRecord:
        """Return how each label does on out-of-fold rows, by a blend or by models."""
        from foldstack.stages.blend import report

        return report(self.workspace, model=as_text(model), name=name)

    def submit(
        self, model: str | None = None, *, fold: str | None = None, name: str | None = None
    ) -> Submitted:
        """Write submissions/NAME.csv from a blend or from one model, `fold="full"` by its full runs."""
        from foldstack.stages.submit import submit

        return submit(self.workspace, model=model, fold=fold, name=name)

    def predict(
        self, texts: list, *, model: str | None = None, blend: str = "blend", int8: bool = False
    ) -> Prediction:
        """Predict new texts; to predict often, keep what `foldstack.load` returns.

        Args:
            texts: n texts, or tuples of as many texts as the competition has text columns.
            model: this model alone instead of the blend.
            int8: transformers in int8; what that costs is measured first.

        Returns:
            The n labels and the probabilities (n, labels).
        """
        from foldstack.stages.predictor import Predictor

        if model:
            return Predictor.of_model(self.workspace, model, int8=int8).predict(texts)
        return Predictor.of_blend(self.workspace, blend, int8=int8).predict(texts)
