"""The competition as a bundle knows it: settings, labels and the form of a submission, but no rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack import metrics
from foldstack.bundle.manifest import BundleRecord, SampleRecord
from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.settings import CompetitionSettings
from foldstack.submission import Submission

SHOWN = 1000  # different rows of the sample
# What reading rows and writing a submission do not need.
DROPPED = (
    "models",
    "external",
    "edits",
    "patterns",
    "pool",
    "blend",
    "report_metrics",
    "runtime",
    "store",
)


@dataclass(frozen=True)
class ShippedCompetition(Competition):
    """A competition without its training rows.

    Attributes:
        record: of the bundle.
        inputs: the folder with the test file, and with files that are joined.
    """

    record: BundleRecord
    inputs: Path

    @classmethod
    def of(cls, root: Path, record: BundleRecord, inputs: Path) -> ShippedCompetition:
        """root: the bundle's folder, for metrics.py."""
        settings = CompetitionSettings.model_validate(record.competition)
        return cls(root, settings, record, inputs)

    def input_path(self, name: str) -> Path:
        return self.inputs / name

    @cached_property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.record.labels)

    @cached_property
    def _categories(self) -> dict[str, pd.Index]:
        return {name: pd.Index(c, dtype=object) for name, c in self.record.categories.items()}

    @cached_property
    def metric(self) -> metrics.Metric:
        costs = self.record.costs
        if costs is not None:
            costs = tuple(tuple(row) for row in costs)
        found = metrics.get(self.settings.metric, self.kind, root=self.root, costs=costs)
        rule = self.record.blend.rule
        return found if rule is None or rule.levels is None else replace(found, levels=rule.levels)

    @cached_property
    def submission(self) -> Submission:
        sample = self.record.sample
        table = pd.DataFrame(sample.rows, columns=sample.columns, dtype=object)
        nothing = np.empty(0, object)
        return Submission(
            self.inputs / self.settings.files.sample,
            table,
            self.settings,
            self.labels,
            self.metric,
            nothing,
            tuple(sample.repeated),
        )


def settings_of(competition: Competition) -> dict[str, Any]:
    """Return the settings that a bundle needs, as JSON."""
    settings = competition.settings.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in settings.items() if name not in DROPPED}


def sample_of(competition: Competition) -> SampleRecord:
    """Return the form of the sample submission."""
    submission, id_column = competition.submission, competition.settings.id
    others = [c for c in submission.table.columns if c != id_column]
    shown = submission.table.drop_duplicates(others).head(SHOWN)
    return SampleRecord(
        columns=list(submission.table.columns),
        rows=shown.astype(str).to_numpy().tolist(),
        repeated=list(submission.repeated),
    )


def input_folder(record: BundleRecord, test: Path) -> Path:
    """Return the folder in which the settings name files: that above `data` for data/test.csv."""
    named = Path(CompetitionSettings.model_validate(record.competition).files.test)
    depth = len(named.parts)
    inside = not named.is_absolute() and test.parts[-depth:] == named.parts
    return test.parents[depth - 1] if inside else test.parent


def find_test(record: BundleRecord, places: list[Path]) -> Path:
    """Return the competition's test file in one of these folders or below them.

    Of several, the one in the folder that also has the sample is taken.

    Raises InputError if there is none, or if several remain.
    """
    files = CompetitionSettings.model_validate(record.competition).files
    found = sorted({p for place in places for p in place.rglob(Path(files.test).name)})
    beside = [p for p in found if (p.parent / Path(files.sample).name).exists()]
    chosen = beside or found
    if len(chosen) == 1:
        return chosen[0]
    remedy = "name the folder of the competition's files with --input"
    if not chosen:
        raise InputError(f"{files.test} is nowhere in {', '.join(map(str, places))}: {remedy}")
    raise InputError(f"{files.test} is both {chosen[0]} and {chosen[1]}: {remedy}")
