"""Records of comparisons between models."""

from __future__ import annotations

import math

from pydantic import Field

from foldstack.records.base import Table, Undefined, Value


class ComparedModel(Value):
    """One model of a comparison.

    Attributes:
        score: the mean over seeds of the score pooled over the rows.
        better_by: the mean over seeds of the improvement over the baseline, positive for lower losses.
        low, high: the 95 % interval of `better_by`.
        standard_error: the standard error of `better_by`.
        row_error: the part of it that is due to rows, as they are scored and as they are shared by the
            training of several folds; undefined in records of older versions.
        seed_error: the part of it that is due to seeds; undefined for a single seed.
        degrees_of_freedom: of the t quantile that makes `standard_error` the interval; undefined if
            seeds add nothing to it, and the interval is 1.96 standard errors either way.
        seeds_paired: whether equal seeds share noise in both models; if not, `by_seed` pairs seeds
            that have nothing in common, and each model's variance over seeds counts.
        by_seed: `better_by` of each seed, in the order of `Comparison.seeds`.
        time: the ratio of the training times; undefined if the machines differ.
    """

    model: str
    score: Undefined
    better_by: Undefined
    low: Undefined
    high: Undefined
    standard_error: Undefined
    row_error: Undefined = math.nan
    seed_error: Undefined
    degrees_of_freedom: Undefined = math.nan
    seeds_paired: bool = False
    by_seed: list[Undefined]
    time: Undefined


class Comparison(Table):
    """oof/_comparisons/BASELINE-vs-OTHERS.json: paired differences of models from a baseline.

    Attributes:
        score: the baseline's score, defined as in `ComparedModel`.
        folds: the folds that were held out and scored, of `folds_in_all`.
        scored_rows: the number of rows that the scores are pooled over.
        interval_over: what the intervals include: rows, and seeds if there are several; empty in
            records of older versions.
        hashes: those of the folds, the training rows and their overlay, as in a run's identity.
        runs: per model the digest of each run's held-out predictions.
        optimistic: per model why its score may be too good.
        undefined: what of the metric no fold defines, see `defined.scored_by`.
    """

    baseline: str
    metric: str
    score: Undefined
    seeds: list[int]
    folds: list[int]
    folds_in_all: int
    scored_rows: int
    interval_over: list[str] = Field(default_factory=list)
    rows: list[ComparedModel]
    hashes: dict[str, str | None]
    runs: dict[str, dict[str, str]]
    optimistic: dict[str, list[str]]
    undefined: list[str] = Field(default_factory=list)
