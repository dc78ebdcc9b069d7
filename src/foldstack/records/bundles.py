"""The record of what `bundle` made."""

from __future__ import annotations

from foldstack.records.base import Record
from foldstack.records.estimates import EstimateRecord


class BundleResult(Record):
    """A bundle as it was made and tried.

    Attributes:
        name: the blend.
        folder, packed: its paths within the workspace.
        mb, packed_mb: their sizes.
        weights: the form of the transformers' weights.
        runs: number of runs.
        rows: that `minutes` are the forecast for.
        minutes, peak_mb, threads: forecast of the time, largest memory when it was tried, and with how
            many threads.
        tried: number of test rows that it was tried on.
        largest_difference: between its probabilities and those of `submit` on these rows.
        other_decisions: number of these rows that it decides otherwise.
        dropped: models that the time limit did not allow.
        metric, nested: the estimate of the blend.
    """

    name: str
    folder: str
    packed: str
    mb: float
    packed_mb: float
    weights: str
    runs: int
    rows: int
    minutes: float
    peak_mb: int
    threads: int
    tried: int
    largest_difference: float
    other_decisions: int
    dropped: list[str]
    metric: str
    nested: EstimateRecord
