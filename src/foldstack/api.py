"""The Python API: a workspace's stages as methods that return records and data frames.

    project = foldstack.open("toxic")
    project.folds()
    project.train("tfidf")
    project.scores()
    project.compare("tfidf", "minilm").frame

Results are not printed, lines during long work are; a notebook displays tables as tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from foldstack.arguments import (
    Chosen,
    above_zero,
    as_text,
    folder,
    one_name,
    settings,
    switch,
    whole_number,
)
from foldstack.errors import InputError
from foldstack.records import (
    BlendRecord,
    BundleResult,
    Comparison,
    Distilled,
    DriftResult,
    FoldsResult,
    ReportRecord,
    Submitted,
    TrainedRecord,
    ViewsRecord,
    WrittenPage,
)
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.stages.predictor import Prediction, Predictor


class Project:
    """A workspace whose methods run the stages of the same name and raise their InputError.

    Settings and input are read once: open the workspace again after changing them.
    """

    def __init__(self, workspace: str | Path, sets: str | Sequence[str] = ()):
        """sets: settings that override competition.yaml and presets, such as `folds.count=10`."""
        self.workspace = Workspace.open(folder(workspace, "workspace"), settings(sets))
        _ = self.workspace.competition  # fail here if it is not a workspace

    def __repr__(self) -> str:
        return f"Project({str(self.workspace.root)!r})"

    def folds(self, *, force: bool = False) -> FoldsResult:
        """Make the folds, unless they exist."""
        from foldstack.stages.folds import make_folds

        return make_folds(self.workspace, force=switch(force, "force"))

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
        jobs: int = 0,
    ) -> TrainedRecord:
        """Train runs that are not finished; several runs each in a process of its own.

        Args:
            model: presets; None for those that competition.yaml lists.
            fold: the fold that each run leaves out, `"2-4"` for two at once, `"full"` for none; None
                for every fold.
            seed: seeds; None for those of competition.yaml.
            name: store the runs under this name, as a variant.
            force: train finished runs again.
            jobs: the number of runs at once; 0 for as many as cores and memory allow.

        Returns:
            The names of the runs that were trained, and of those that were finished.

        Raises:
            InputError: a run cannot be trained.
            ChildFailed: the process of a run failed.
        """
        from foldstack.stages.train import train

        return train(
            self.workspace,
            model=as_text(model, "model"),
            fold=as_text(fold, "fold"),
            seed=as_text(seed, "seed"),
            name=one_name(name, "name"),
            force=switch(force, "force"),
            jobs=whole_number(jobs, "jobs", least=0),
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
        self, baseline: str, *others: str, fold: Chosen = None, seed: Chosen = None, jobs: int = 0
    ) -> Comparison:
        """Compare models with a baseline on the same folds and seeds; train missing runs.

        Args:
            baseline: a model.
            others: the models to compare with it.
            fold: two or more folds; None for all.
            seed: seeds; None for those of competition.yaml.
            jobs: the number of runs to train at once; 0 for as many as cores and memory allow.

        Returns:
            The comparison, one row per model of `others`, which is stored in the workspace.

        Raises:
            InputError: the models cannot be compared, or a run cannot be trained.
        """
        from foldstack.stages.compare import compare

        return compare(
            self.workspace,
            a=one_name(baseline, "baseline"),
            b=as_text(others, "others") if others else None,
            fold=as_text(fold, "fold"),
            seed=as_text(seed, "seed"),
            jobs=whole_number(jobs, "jobs", least=0),
        )

    def distil(
        self,
        name: str | None = None,
        *,
        blend: str | None = None,
        mb: float | None = None,
        rate: float | None = None,
        seed: Chosen = None,
        force: bool = False,
        jobs: int = 0,
    ) -> Distilled:
        """Train one small student of a blend, taught by its members.

        Args:
            name: the student; None for `student`.
            blend: whose members teach; None for `blend`.
            mb: most megabytes of its stored model; None for no limit.
            rate: least rows per second that it predicts on this machine; None for no limit.
            seed: seeds, of those that its teachers have; None for all of them.
            force: write its preset and train it again.
            jobs: the number of runs at once; 0 for as many as cores and memory allow.

        Returns:
            Score, size and speed of the student and of the blend.

        Raises:
            InputError: the blend cannot teach, no student is within the limits, or the name is taken.
            ChildFailed: the process of a run failed.
        """
        from foldstack.stages.distil import distil

        return distil(
            self.workspace,
            name=one_name(name, "name"),
            blend=one_name(blend, "blend"),
            mb=above_zero(mb, "mb"),
            rate=above_zero(rate, "rate"),
            seed=as_text(seed, "seed"),
            jobs=whole_number(jobs, "jobs", least=0),
            force=switch(force, "force"),
        )

    def comparisons(self) -> list[Comparison]:
        """Return the stored comparisons."""
        return self.workspace.store.comparisons()

    def blend(self, model: Chosen = None, *, name: str | None = None) -> BlendRecord:
        """Blend models, by default all that have runs, and store the blend under a name."""
        from foldstack.stages.blend import blend

        return blend(self.workspace, model=as_text(model, "model"), name=one_name(name, "name"))

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

        return views(
            self.workspace,
            model=one_name(model, "model"),
            name=one_name(name, "name"),
            tail=whole_number(tail, "tail"),
        )

    def report(self, *, model: Chosen = None, name: str | None = None) -> ReportRecord:
        """Return the scores of each label on out-of-fold rows, for a blend or for models."""
        from foldstack.stages.blend import report

        return report(self.workspace, model=as_text(model, "model"), name=one_name(name, "name"))

    def submit(
        self, model: str | None = None, *, fold: str | None = None, name: str | None = None
    ) -> Submitted:
        """Write submissions/NAME.csv from a blend or a model; with `fold="full"` from its full runs."""
        from foldstack.stages.submit import submit

        return submit(
            self.workspace,
            model=one_name(model, "model"),
            fold=one_name(fold, "fold"),
            name=one_name(name, "name"),
        )

    def rerun(self, test: str | Path, *, name: str | None = None, int8: bool = False) -> Submitted:
        """Write the submission for another test file by a stored blend."""
        from foldstack.stages.rerun import rerun

        return rerun(
            self.workspace, test=str(test), name=one_name(name, "name"), int8=switch(int8, "int8")
        )

    def bundle(self, *, name: str | None = None, weights: str = "fp32") -> BundleResult:
        """Write a stored blend as a folder that predicts without network and workspace."""
        from foldstack.stages.bundle import bundle

        return bundle(self.workspace, name=one_name(name, "name"), weights=weights)

    def page(self, *, name: str | None = None) -> WrittenPage:
        """Write submissions/NAME.html, a page on a blend, its models and the data."""
        from foldstack.stages.page import page

        return page(self.workspace, name=one_name(name, "name"))

    def predict(
        self,
        texts: list,
        *,
        model: str | None = None,
        blend: str | None = None,
        int8: bool = False,
    ) -> Prediction:
        """Predict new texts; to predict repeatedly, keep the result of `foldstack.load`.

        Args:
            texts: n texts, or n tuples with one text per text column.
            model: predict with this model instead of the blend.
            blend: the blend; None for `blend`.
            int8: predict with transformers in int8, after measuring the loss of score.

        Returns:
            The n labels and the probabilities (n, labels).

        Raises:
            InputError: there is no such model or blend, or a run or feature column is missing.
        """
        return predictor(self.workspace, model=model, blend=blend, int8=int8).predict(texts)


def predictor(ws: Workspace, *, model: str | None, blend: str | None, int8: bool) -> Predictor:
    """Return a model or a blend, ready to predict; see `foldstack.load`."""
    from foldstack.stages.predictor import Predictor

    int8 = switch(int8, "int8")
    if model and blend:
        raise InputError("predict takes a model or a blend, not both")
    if model:
        return Predictor.of_model(ws, one_name(model, "model"), int8=int8)
    return Predictor.of_blend(ws, one_name(blend, "blend") or "blend", int8=int8)
