"""The record of a bundle."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from foldstack.records import BlendRecord
from foldstack.records.base import Record, Value
from foldstack.store.keys import RunKey

FILE = "bundle.json"


class BundledRun(Value):
    """One run of a bundle.

    Attributes:
        model, name: of the run, as `minilm` and `seed0/fold2`.
        folder: of its fitted model, within the bundle.
        settings: of its learner.
        files: digests of the files in the folder; none in bundles of the first version.
        load_seconds, row_seconds: measured where the bundle was made: to load it, and per row.
    """

    model: str
    name: str
    folder: str
    settings: dict[str, Any]
    files: dict[str, str] = Field(default_factory=dict)
    load_seconds: float = 0.0
    row_seconds: float = 0.0

    @property
    def key(self) -> RunKey:
        return RunKey.of_name(self.model, self.name)

    def seconds(self, rows: int) -> float:
        """Return the forecast of its time for a number of rows."""
        return self.load_seconds + rows * self.row_seconds


class SampleRecord(Value):
    """The sample submission's form.

    Attributes:
        columns: all columns.
        rows: rows that differ in more than the id, which show the spelling of labels.
        repeated: columns that are copied from the test file.
    """

    columns: list[str]
    rows: list[list[str]]
    repeated: list[str]


class BundleRecord(Record):
    """bundle.json: what a blend predicts with, apart from its files.

    Attributes:
        name: of the blend.
        blend: its record.
        competition: the settings that reading rows and writing a submission need.
        labels: as `Competition.labels`.
        categories: per categorical column its values.
        costs: of decisions, for the metric cost.
        sample: the form of a submission.
        weights: `fp32`, `fp16` or `int8`, how the weights of transformers are stored.
        threads: that the times were measured with.
        start_seconds: to import the libraries.
        peak_mb: the largest memory of the process when the bundle was made and tried.
        minutes: the time after which no run begins that would not end in time; None for no limit.
        runs: in the order in which they predict.
        files: digests of the files beside those of runs: stacks, scales, patterns, metrics.py; none in
            bundles of the first version.
        digest: of the files, which partial predictions belong to.
    """

    name: str
    blend: BlendRecord
    competition: dict[str, Any]
    labels: list[str]
    categories: dict[str, list[str]]
    costs: list[list[float]] | None = None
    sample: SampleRecord
    weights: str
    threads: int
    start_seconds: float = 0.0
    peak_mb: int = 0
    minutes: float | None = None
    runs: list[BundledRun]
    files: dict[str, str] = Field(default_factory=dict)
    digest: str = ""

    def seconds(self, rows: int) -> float:
        """Return the forecast of the time for a number of rows, on the machine that made it."""
        return self.start_seconds + sum(run.seconds(rows) for run in self.runs)
