"""The Python API: a workspace's stages as methods that return records and data frames.

    project = foldstack.open("toxic")
    project.folds()
    project.train("tfidf")
    project.scores()
    project.compare("tfidf", "minilm").frame

Results are not printed, lines during long work are; a notebook displays tables as tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from foldstack.records import (
    BlendRecord,
    Comparison,
    DriftResult,
    FoldsResult,
    ReportRecord,
    Submitted,
    TrainedRecord,
    ViewsRecord,
)
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.stages.predictor import Prediction

# Text as on the command line, or Python values: `0`, `[0, 1]`, `"0,2-4"`, `"full"`.
Chosen = str | int | Iterable[str | int] | None


def as_text(chosen: Chosen) -> str | None:
    """Return a choice of models, folds or seeds in the syntax of the command line."""
    if chosen is None or isinstance(chosen, str):
        return chosen
    return str(chosen) if isinstance(chosen, int) else ",".join(map(str, chosen))


class Project:
    """A workspace whose methods run the stages of the same name and raise their InputError.

    Settings and input are read once: open the workspace again after changing them.
    """

    def __init__(self, workspace: str | Path, sets: Sequence[str] = ()):
        """sets: settings that override competition.yaml and presets, such as `folds.count=10`."""
        self.workspace = Workspace.open(Path(workspace), list(sets))
        _ = self.workspace.competition  # fail here if it is not a workspace

    def __repr__(self) -> str:
        return f"Project({str(self.workspace.root)!r})"

    def folds(self, *, force: bool = False) -> FoldsResult:
        """Make the folds, unless they exist."""
        from foldstack.stages.folds import make_folds

        return make_folds(self.workspace, force=force)

    def drift(self, *, force: bool = False) -> DriftResult:
        """Compare the test file with the training file."""
        from foldstack.stages.drift import drift

        return drift(self.workspace, force=force)

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
        """Train runs that are not finished; several runs each in a process of its own.

        Args:
            model: presets; None for those that competition.yaml lists.
            fold: the fold that each run leaves out, `"2-4"` for two at once, `"full"` for none; None
                for every fold.
            seed: seeds; None for those of competition.yaml.
            name: store the runs under this name, as a variant.
            force: train finished runs again.
            jobs: the number of runs at once.

        Returns:
            The names of the runs that were trained, and of those that were finished.

        Raises:
            InputError: a run cannot be trained.
            ChildFailed: the process of a run failed.
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
        """Compare models with a baseline on the same folds and seeds; train missing runs.

        Args:
            baseline: a model.
            others: the models to compare with it.
            fold: two or more folds; None for all.
            seed: seeds; None for those of competition.yaml.
            jobs: the number of runs to train at once.

        Returns:
            The comparison, one row per model of `others`, which is stored in the workspace.

        Raises:
            InputError: the models cannot be compared, or a run cannot be trained.
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
        """Return the stored comparisons."""
        return self.workspace.store.comparisons()

    def blend(self, model: Chosen = None, *, name: str | None = None) -> BlendRecord:
        """Blend models, by default all that have runs, and store the blend under a name."""
        from foldstack.stages.blend import blend

        return blend(self.workspace, model=as_text(model), name=name)

    def views(
        self, *, model: str | None = None, name: str | None = None, tail: int = 10
    ) -> ViewsRecord:
        """Score a blend, or a single model, on parts of the out-of-fold rows.

        Args:
            model: score this model instead of a blend.
            name: the blend; None for `blend`.
            tail: labels with fewer rows form the tail.
        """
        from foldstack.stages.views import views

        return views(self.workspace, model=model, name=name, tail=tail)

    def report(self, *, model: Chosen = None, name: str | None = None) -> ReportRecord:
        """Return the scores of each label on out-of-fold rows, for a blend or for models."""
        from foldstack.stages.blend import report

        return report(self.workspace, model=as_text(model), name=name)

    def submit(
        self, model: str | None = None, *, fold: str | None = None, name: str | None = None
    ) -> Submitted:
        """Write submissions/NAME.csv from a blend or a model; with `fold="full"` from its full runs."""
        from foldstack.stages.submit import submit

        return submit(self.workspace, model=model, fold=fold, name=name)

    def predict(
        self, texts: list, *, model: str | None = None, blend: str = "blend", int8: bool = False
    ) -> Prediction:
        """Predict new texts; to predict repeatedly, keep the result of `foldstack.load`.

        Args:
            texts: n texts, or n tuples with one text per text column.
            model: predict with this model instead of the blend.
            blend: the blend.
            int8: predict with transformers in int8, after measuring the loss of score.

        Returns:
            The n labels and the probabilities (n, labels).

        Raises:
            InputError: there is no such model or blend, or a run or feature column is missing.
        """
        from foldstack.stages.predictor import Predictor

        if model:
            return Predictor.of_model(self.workspace, model, int8=int8).predict(texts)
        return Predictor.of_blend(self.workspace, blend, int8=int8).predict(texts)
