"""Patterns applied to a blend or a model, on out-of-fold and on new rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldstack import ensemble
from foldstack.competition import Competition
from foldstack.defined import scored_by
from foldstack.ensemble import Difference, default_rule
from foldstack.errors import InputError
from foldstack.metrics import Metric
from foldstack.patterns import (
    Applied,
    FittedPatterns,
    Line,
    Neighbours,
    Patterns,
    audit,
    index_by,
    labels_of,
)
from foldstack.records import (
    BlendRecord,
    DifferenceRecord,
    DriftedScore,
    EstimateRecord,
    LineRecord,
    PatternsEffect,
    PositiveRates,
    RepeatedTexts,
)
from foldstack.rows import Rows
from foldstack.stages.blend import Blend, blend_command, positive_rates, reweighted
from foldstack.stages.shared import folds_of
from foldstack.store import Folds, read_parquet
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class OutOfFold:
    """A blend's nested predictions of the scored rows, and its record.

    Attributes:
        probabilities: (n, outputs).
        decisions: (n, outputs) of 0/1 if labels are submitted, otherwise None.
    """

    probabilities: np.ndarray
    decisions: np.ndarray | None
    record: BlendRecord

    @classmethod
    def of_blend(cls, ws: Workspace, name: str, record: BlendRecord) -> OutOfFold:
        """Read a stored blend; raise InputError if it has no decisions, as in older versions."""
        decisions = None
        if record.rule is not None:
            nested = ws.store.blend_file(name, record, "nested.parquet")
            if nested is None:
                raise InputError(
                    f"blend '{name}' has no out-of-fold decisions, which patterns are compared "
                    f"with: run {blend_command(name)} again"
                )
            decisions = read_parquet(nested)[1].raw.astype(float)
        oof = read_parquet(ws.store.blend_file(name, record, "oof.parquet"))[1].raw
        return cls(oof.astype(float), decisions, record)

    @classmethod
    def of_made(cls, made: Blend) -> OutOfFold:
        result = made.result
        decisions = None if result.rule is None else result.nested_predictions
        return cls(result.oof, decisions, made.record)


@dataclass(frozen=True)
class Judged:
    """Patterns applied to out-of-fold rows, without cached texts, since they hold each row's own label.

    Attributes:
        decisions: (n, outputs) without the patterns; None if probabilities are submitted.
        before, after: (n, outputs) as scored without and with the patterns: decisions if labels are
            submitted.
    """

    patterns: Patterns
    applied: Applied
    lines: list[Line]
    metric: Metric
    rows: Rows
    decisions: np.ndarray | None
    before: np.ndarray
    after: np.ndarray
    seed: int

    def effect(self, line: Line) -> Difference:
        """Return the paired difference, with its interval, that this line's decisions make."""
        only = self.applied.only(line.units)
        after = only.probabilities if self.decisions is None else only.decide(self.decisions)
        return ensemble.paired_difference(
            self.metric, self.rows.targets, [after], [self.before], self.rows.groups, self.seed
        )


def require_probabilities(record: BlendRecord, source: str) -> None:
    """Raise InputError if ranks were averaged, since they have no confidence."""
    found = ensemble.OF_RANKS.intersection([record.winner, *record.winners_by_fold.values()])
    if found:
        raise InputError(
            f"{source} has means of ranks ({', '.join(sorted(found))}), which say nothing of "
            "confidence, but patterns require probabilities: run "
            '`make blend SET="blend.methods=[mean,greedy,stack]"`'
        )


def judge(ws: Workspace, oof: OutOfFold) -> Judged:
    """Return the patterns applied to nested out-of-fold predictions.

    The nearest text of a row in fold k is a training row of the runs that leave k out, of another
    duplicate group than the row, so that no label of fold k decides.
    """
    competition, patterns = ws.competition, ws.patterns
    folds = folds_of(ws, oof.record)
    train, scored = competition.train, folds.scored
    rows, fold = competition.scored_rows(scored), folds.fold[scored]

    def look_up(asked: np.ndarray) -> np.ndarray:
        make = index_by(patterns.nearest, lambda: competition.meaning)
        found = np.full(asked.shape, -1)
        for k in np.unique(fold[asked.any(axis=1)]):
            held, learned = np.flatnonzero(fold == k), folds.learned((int(k),))
            learned = learned[~np.isin(competition.tied[learned], rows.groups[held])]
            near = Neighbours(*labelled_texts(ws, train.take(learned)), make)
            found[held] = near.look_up([rows.texts[i] for i in held], asked[held])
        return found

    applied = patterns.apply(rows.texts, oof.probabilities, look_up, cached=False)
    everything = applied.claims
    if any(rule.cached for rule in patterns.rules):
        everything = patterns.claims(rows.texts, applied.by.shape[1])
    plain = default_rule(competition.kind, len(competition.outputs))
    decided = plain.apply(oof.probabilities) if oof.decisions is None else oof.decisions
    return Judged(
        patterns,
        applied,
        audit(patterns, applied, everything, rows.targets, decided),
        _metric_of(competition, folds),
        rows,
        oof.decisions,
        before=oof.probabilities if oof.decisions is None else oof.decisions,
        after=applied.probabilities if oof.decisions is None else applied.decide(oof.decisions),
        seed=competition.settings.blend.seed,
    )


def _metric_of(competition: Competition, folds: Folds) -> Metric:
    """Return the metric of probabilities, or of decisions, over what the folds define."""
    found = scored_by(competition, folds)
    task = dataclasses.replace(competition.task, metric=competition.metric.take(folds.scored))
    metric = dataclasses.replace(task.metric, scorer=task.score_probabilities, reads=())
    return metric.over(found.columns)


def fitted_patterns(ws: Workspace) -> FittedPatterns:
    """Return the patterns with all training rows, for rows that no run learned from."""
    competition = ws.competition
    return FittedPatterns(
        ws.patterns,
        lambda: labelled_texts(ws, competition.train),
        lambda: competition.meaning,
    )


def labelled_texts(ws: Workspace, learned: Rows) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Return texts and (n, units) values of training rows."""
    return learned.texts, labels_of(learned.targets, ws.competition.kind)


@dataclass(frozen=True)
class Described:
    """The fields of a blend's record that patterns change.

    submitted: None, since the estimate of the mean over runs is that of predictions without patterns.
    """

    nested: EstimateRecord
    optimistic: list[str]
    repeated_texts: RepeatedTexts | None
    drift: DriftedScore | None
    patterns: PatternsEffect
    submitted: None = None

    def changes(self) -> dict[str, Any]:
        """Return the changed fields of the record, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def describe(ws: Workspace, oof: OutOfFold, judged: Judged, applied: Applied) -> Described:
    """Return the estimate with the patterns, why it is optimistic, and their effect.

    Args:
        ws: the workspace.
        oof, judged: the out-of-fold rows without and with the patterns.
        applied: the patterns applied to the test rows.
    """
    record = oof.record
    folds = folds_of(ws, record)
    return Described(
        nested=nested_estimate(oof, judged),
        optimistic=[*record.optimistic, *_seen_by_writer(judged)],
        repeated_texts=reweighted(ws, folds, judged.after),
        drift=_without_weighted(record.drift, judged.patterns),
        patterns=_effect(judged, record.nested, applied),
    )


def _without_weighted(drift: DriftedScore | None, patterns: Patterns) -> DriftedScore | None:
    """Return the drift without its weighted score, which is that of predictions without patterns."""
    if drift is None:
        return None
    return drift.model_copy(
        update={"nested": None, "why": f"not with the rules of {patterns.file}"}
    )


def nested_estimate(oof: OutOfFold, judged: Judged) -> EstimateRecord:
    """Return the nested estimate with the patterns."""
    correction = oof.record.correction
    found = ensemble.estimate(
        judged.metric,
        judged.rows.targets,
        judged.after,
        judged.rows.groups,
        seed=judged.seed,
        seed_variance=oof.record.seed_variance,
        **({} if correction is None else correction.to_json()),
    )
    return EstimateRecord.from_dataclass(found)


def _seen_by_writer(judged: Judged) -> list[str]:
    """Return why rules make the estimate optimistic, if they decide any scored row."""
    by, patterns = judged.applied.by, judged.patterns
    written = int(((by >= 0) & (by < len(patterns.rules))).any(axis=1).sum())
    if not written:
        return []
    return [
        f"{patterns.file}: its patterns decide {written:,} of the scored rows, whose labels their "
        "writer may have seen"
    ]


def _effect(judged: Judged, without: EstimateRecord, applied: Applied) -> PatternsEffect:
    patterns = judged.patterns
    return PatternsEffect(
        file=patterns.file,
        hash=patterns.hash,
        mode=patterns.mode,
        cached=[n for n, r in zip(patterns.names, patterns.rules, strict=False) if r.cached],
        nested_without=without,
        better_by=interval_of(judged.effect(judged.lines[-1])),
        lines=[LineRecord(**line.to_json()) for line in judged.lines],
        test=patterns.decided_by(applied),
    )


def interval_of(d: Difference) -> DifferenceRecord:
    return DifferenceRecord(difference=d.difference, low=d.low, high=d.high)


def rates(
    ws: Workspace, oof: OutOfFold, judged: Judged, test: np.ndarray
) -> dict[str, PositiveRates]:
    """Return the rates of predicted positives with the patterns.

    Args:
        ws: the workspace.
        oof, judged: the out-of-fold rows without and with the patterns.
        test: (t, outputs) decisions of 0/1 with the patterns.
    """
    plain = default_rule(ws.competition.kind, len(ws.competition.outputs))
    after = judged.after if oof.decisions is not None else plain.apply(judged.after)
    return positive_rates(ws.competition.outputs, after, test)
