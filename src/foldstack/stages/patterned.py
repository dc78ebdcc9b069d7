"""A blend or a model with the competition's patterns over it, on out-of-fold and on new rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from foldstack import ensemble
from foldstack.ensemble import Difference, default_rule
from foldstack.errors import InputError
from foldstack.metrics import Metric
from foldstack.patterns import Applied, Line, Neighbours, Patterns, audit, labels_of
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.stages.blend import Blend, blend_command, interval, positive_rates, reweighted
from foldstack.store import read_parquet
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class OutOfFold:
    """A blend's nested predictions of the scored rows, (n, outputs) each, and what is said of it.

    decisions: of 0/1 where labels are submitted, else None. info: as blend.json has it.
    """

    probabilities: np.ndarray
    decisions: np.ndarray | None
    info: dict

    @classmethod
    def of_blend(cls, ws: Workspace, name: str, info: dict) -> OutOfFold:
        """Raises InputError where the blend was made before decisions were kept."""
        decisions = None
        if info["rule"] is not None:
            nested = ws.store.blend_file(name, info, "nested.parquet")
            if nested is None:
                raise InputError(
                    f"blend '{name}' kept no out-of-fold decisions, which patterns are judged "
                    f"beside: run {blend_command(name)} again"
                )
            decisions = read_parquet(nested)[1].raw.astype(float)
        oof = read_parquet(ws.store.blend_file(name, info, "oof.parquet"))[1].raw
        return cls(oof.astype(float), decisions, info)

    @classmethod
    def of_made(cls, made: Blend) -> OutOfFold:
        result = made.result
        decisions = None if result.rule is None else result.nested_predictions
        return cls(result.oof, decisions, made.info)


@dataclass(frozen=True)
class Judged:
    """Patterns over out-of-fold rows.

    Cached texts are passed over: each row that one decides is itself where the text stands in training.

    before, after: (n, outputs) as they are scored, decisions where labels are submitted.
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
        """How much better the predictions are for what this line decides, paired, in an interval."""
        only = self.applied.only(line.units)
        after = only.probabilities if self.decisions is None else only.decide(self.decisions)
        return ensemble.paired_difference(
            self.metric, self.rows.targets, [after], [self.before], self.rows.groups, self.seed
        )


def require_probabilities(info: dict, source: str) -> None:
    """InputError where ranks were averaged, which say nothing of confidence."""
    found = ensemble.OF_RANKS.intersection([info["winner"], *info["winners_by_fold"].values()])
    if found:
        raise InputError(
            f"{source} has means of ranks ({', '.join(sorted(found))}), which say nothing of "
            "confidence, but patterns want probabilities: run "
            '`make blend SET="blend.methods=[mean,greedy,stack]"`'
        )


def judge(ws: Workspace, oof: OutOfFold) -> Judged:
    """The competition's patterns over nested out-of-fold predictions.

    The nearest text of a row in fold k is one that runs which leave k out learned from, and never one
    of the row's own duplicate group, so that no label of fold k decides there.
    """
    competition, patterns = ws.competition, ws.patterns
    folds = ws.store.read_folds(competition.train)
    train, scored = competition.train, folds.scored
    rows, fold = train.take(scored), folds.fold[scored]

    def look_up(asked: np.ndarray) -> np.ndarray:
        found = np.full(asked.shape, -1)
        for k in np.unique(fold[asked.any(axis=1)]):
            held, learned = np.flatnonzero(fold == k), folds.learned((int(k),))
            learned = learned[~np.isin(train.groups[learned], rows.groups[held])]
            near = neighbours(ws, train.take(learned))
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
        dataclasses.replace(competition.metric, scorer=competition.task.score_probabilities),
        rows,
        oof.decisions,
        before=oof.probabilities if oof.decisions is None else oof.decisions,
        after=applied.probabilities if oof.decisions is None else applied.decide(oof.decisions),
        seed=competition.settings.blend.seed,
    )


def neighbours(ws: Workspace, learned: Rows) -> Neighbours:
    """Training rows, to be asked for the nearest text of new ones."""
    nearest = ws.patterns.nearest
    values = labels_of(learned.targets, ws.competition.kind)
    return Neighbours(learned.texts, values, nearest.similarity)


def apply_to_new(
    ws: Workspace, rows: Rows, probabilities: np.ndarray, known: Neighbours | None = None
) -> Applied:
    """The patterns, cached texts included, over rows that no run learned from.

    known: of all training rows, to be made here where it is not given.
    """

    def look_up(asked: np.ndarray) -> np.ndarray:
        if not asked.any():
            return np.full(asked.shape, -1)
        return (known or neighbours(ws, ws.competition.train)).look_up(rows.texts, asked)

    return ws.patterns.apply(rows.texts, probabilities, look_up)


def describe(ws: Workspace, oof: OutOfFold, judged: Judged) -> dict:
    """The blend's description with the patterns over it: estimate, rates, what makes it optimistic.

    `in_sample` and `candidates` stay the blend's own.
    """
    competition, info, patterns = ws.competition, oof.info, judged.patterns
    nested = ensemble.estimate(
        judged.metric,
        judged.rows.targets,
        judged.after,
        judged.rows.groups,
        seed=judged.seed,
        seed_variance=info["seed_variance"],
    )
    total = judged.effect(judged.lines[-1])
    by = judged.applied.by
    written = int(((by >= 0) & (by < len(patterns.rules))).any(axis=1).sum())
    optimistic = list(info["optimistic"])
    if written:
        optimistic.append(
            f"{patterns.file}: its patterns decide {written:,} of the scored rows, whose labels their "
            "writer may have seen"
        )
    folds = ws.store.read_folds(competition.train)
    return info | {
        "nested": dataclasses.asdict(nested),
        "optimistic": optimistic,
        "repeated_texts": reweighted(ws, folds, judged.after),
        "patterns": {
            "file": patterns.file,
            "hash": patterns.hash,
            "mode": patterns.mode,
            "cached": [n for n, r in zip(patterns.names, patterns.rules, strict=False) if r.cached],
            "nested_without": info["nested"],
            "better_by": {
                "difference": total.difference,
                "low": total.low,
                "high": total.high,
            },
            "lines": [line.to_json() for line in judged.lines],
        },
    }


def rates(ws: Workspace, oof: OutOfFold, judged: Judged, test: np.ndarray) -> dict[str, dict]:
    """Of positives with the patterns: out-of-fold, and test decisions (t, outputs)."""
    plain = default_rule(ws.competition.kind, len(ws.competition.outputs))
    after = judged.after if oof.decisions is not None else plain.apply(judged.after)
    return positive_rates(ws.competition.outputs, after, test)


def decided_by(patterns: Patterns, applied: Applied) -> dict[str, int]:
    """How many rows each rule, and the nearest text, decides; those that decide none are left out."""
    rows = {name: int((applied.by == k).any(axis=1).sum()) for k, name in enumerate(patterns.names)}
    return {name: count for name, count in rows.items() if count}


def deciders(patterns: Patterns, applied: Applied) -> list[str]:
    """(n,) for each row who decided; of several labels whoever decided any, in the list's order."""
    names = np.array([*patterns.names, "model"], dtype=object)
    # -1, the model, sorts last as the names do.
    return ["|".join(names[sorted(set(row), key=lambda k: k % len(names))]) for row in applied.by]


def say_patterns(stage: str, found: dict, test_rows: int) -> None:
    """Estimate without and with the patterns, and what they decide of the test rows."""
    shown = ", ".join(f"{name} {count:,}" for name, count in found["test"].items()) or "none"
    better = found["better_by"]
    say(
        f"{stage}: {found['file']} ({found['mode']}) decides of the {test_rows:,} test rows: {shown}; "
        f"nested without it {interval(found['nested_without'])}, better by "
        f"{better['difference']:+.4f} [{better['low']:+.4f}, {better['high']:+.4f}] with it"
    )
    cached = sum(found["test"].get(name, 0) for name in found["cached"])
    if cached:
        say(
            f"{stage}: the estimate passes cached texts over, which decide {cached:,} of the test rows"
        )
