"""Records of comparisons between models."""

from __future__ import annotations

from foldstack.records.base import Table, Undefined, Value


class ComparedModel(Value):
    """One model of a comparison.

    Attributes:
        score: the mean over seeds of the score pooled over the rows.
        better_by: the mean over seeds of how much better it is than the baseline, for losses too.
        low, high: the 95 % interval of `better_by`; standard_error: of which seed_error is the part
            that the seeds make, undefined for a single one.
        by_seed: the differences of the seeds, in the order of `Comparison.seeds`.
        time: the ratio of the training times; undefined if the machines differ.
    """

    model: str
    score: float
    better_by: float
    low: float
    high: float
    standard_error: float
    seed_error: Undefined
    by_seed: list[float]
    time: Undefined


class Comparison(Table):
    """oof/_comparisons/BASELINE-vs-OTHERS.json: how much better models are than a baseline.

    Attributes:
        score: the baseline's, as that of a `ComparedModel`.
        folds: those that were held out and scored, of `folds_in_all`.
        scored_rows: the number of rows that the scores are pooled over.
        hashes: of the folds, the training rows and their overlay, as in a run's identity.
        runs: of each model the digest of each run's held-out predictions.
        optimistic: of each model why its score may be too good.
    """

    baseline: str
    metric: str
    score: float
    seeds: list[int]
    folds: list[int]
    folds_in_all: int
    scored_rows: int
    rows: list[ComparedModel]
    hashes: dict[str, str | None]
    runs: dict[str, dict[str, str]]
    optimistic: dict[str, list[str]]
