"""The fits of every candidate on sets of folds, and the choices made from them; see `nested.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.model_selection import GroupKFold

from foldstack.ensemble.alignment import align
from foldstack.ensemble.blends import Single
from foldstack.ensemble.calibrated import Calibrated
from foldstack.ensemble.choice import ScoreComparison, compare
from foldstack.ensemble.decide import (
    Rule,
    choose_families,
    default_rule,
    fit_rule,
    reference_family,
)
from foldstack.ensemble.members import Candidate, Fitted, Inputs, Members
from foldstack.ensemble.optimism import (
    SharedTraining,
    effective_weights,
    leads,
    shared_variance,
    variance_ratio,
)
from foldstack.errors import InputError
from foldstack.links import within_run_ranks
from foldstack.metrics import Metric

FoldSet = frozenset[int]


@dataclass(frozen=True)
class CandidateReport:
    """One candidate in the final choice, among all folds.

    Attributes:
        nested: its score, pooled over all rows, each fold predicted by a fit (and decided by a rule)
            without it.
        in_sample: its score on the rows it was fitted on; optimistic.
        difference_to_best: how much worse its nested score is than the best one's, >= 0.
        standard_error: of that paired difference; 0 for the best itself.
    """

    name: str
    complexity: float
    nested: float
    in_sample: float
    difference_to_best: float
    standard_error: float


@dataclass(frozen=True)
class RuleReport:
    """One family of decision rules for the winner in the final choice, among all folds.

    Attributes:
        family: of `decide.families`.
        nested: the winner's score with it, pooled over all rows, each fold by a fit and a rule without
            it.
        in_sample: the score on the rows that both were fitted on; optimistic.
        gain: how much better its nested score is than that of the metric's own family
            (`decide.reference_family`), which another must beat by more than its standard error.
        standard_error: of the paired gain; 0 for that family itself.
    """

    family: str
    nested: float
    in_sample: float
    gain: float
    standard_error: float


@dataclass(frozen=True)
class Fit:
    """A fitted candidate, and the rules fitted on its crossfit, each on first use."""

    fitted: Fitted
    fit_rule: Callable[[str], Rule]
    _rules: dict[str | None, Rule | None] = field(default_factory=lambda: {None: None})

    def rule(self, family: str | None) -> Rule | None:
        """Return the rule of a family; None for None, if probabilities are submitted."""
        if family not in self._rules:
            self._rules[family] = self.fit_rule(family)
        return self._rules[family]


@dataclass(frozen=True)
class Choice:
    """A winner (an index), the family of its rule, and the comparisons behind the choice.

    family: None if probabilities are submitted. rules: None if there was only one family.
    """

    winner: int
    family: str | None
    candidates: ScoreComparison
    rules: ScoreComparison | None


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of each fold's blend for the rows of `Members.runs`, by the runs of that fold.

    raw, decided: (folds, rows, outputs) before and after the decision.
    """

    raw: np.ndarray
    decided: np.ndarray


class Nesting:
    """The memoised fits of every candidate on sets of folds, and predictions pooled from them.

    Rows are addressed by units: the folds, or with two folds the halves of each, so that a single
    fold still has something to leave out. A part is a set of units.
    """

    def __init__(
        self,
        members: Members,
        metric: Metric,
        candidates: list[Candidate],
        seed: int,
        progress: Callable[[], None] | None,
        rules: Sequence[str] | None = None,
    ):
        self.members, self.metric, self.candidates = members, metric, candidates
        self.seed, self.progress = seed, progress
        self.families: tuple[str | None, ...] = (None,)
        self.reference: str | None = None
        if metric.wants == "labels":
            self.families = choose_families(rules, metric, members.kind)
            self.reference = reference_family(metric, members.kind, self.families)
        names, fold = np.unique(members.folds, return_inverse=True)
        if len(names) < 2:
            raise ValueError("blending needs at least two folds")
        halves = _halves(members, fold, seed) if len(names) == 2 else np.zeros(len(fold), int)
        self.units = fold * 2 + halves
        self.folds = [
            frozenset(np.unique(self.units[fold == k]).tolist()) for k in range(len(names))
        ]
        self.everything: FoldSet = frozenset().union(*self.folds)
        self._fits: dict[tuple[int, FoldSet], Fit] = {}

    def others(self, fold: FoldSet) -> list[FoldSet]:
        """Return the parts to choose on without this fold: the other folds, or one fold's halves."""
        others = [other for other in self.folds if other != fold]
        return others if len(others) > 1 else [frozenset([unit]) for unit in others[0]]

    def rows(self, part: FoldSet) -> np.ndarray:
        return np.flatnonzero(np.isin(self.units, list(part)))

    def fit(self, candidate: int, part: FoldSet) -> Fit:
        """Return the candidate (an index) fitted on the rows of the part, with its rules."""
        key = (candidate, part)
        if key not in self._fits:
            rows = self.rows(part)
            fitted = self._fit_candidate(self.candidates[candidate], part, rows)
            self._fits[key] = Fit(fitted, lambda family: self._rule(fitted, rows, family))
            if self.progress:
                self.progress()
        return self._fits[key]

    def _fit_candidate(self, candidate: Candidate, part: FoldSet, rows: np.ndarray) -> Fitted:
        if isinstance(candidate, Calibrated) and candidate.base in self.candidates:
            base = self.fit(self.candidates.index(candidate.base), part)
            return candidate.calibrate(base.fitted, self.members, rows, self.seed)
        return candidate.fit(self.members, rows, self.metric, self.seed)

    def _rule(self, fitted: Fitted, rows: np.ndarray, family: str) -> Rule:
        kind, targets = self.members.kind, self.members.targets[rows]
        if family == "default":  # Avoids the costly crossfit.
            return default_rule(kind, targets.shape[1], self.metric.levels)
        return fit_rule(self.metric.take(rows), kind, targets, fitted.crossfit, family=family)

    def predict(
        self, fit: Fit, rows: np.ndarray, family: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (rows, outputs) before and after the decision, the same without a rule."""
        return _predict(fit, self.members.inputs.take(rows), family)

    def of_runs(self, choices: Sequence[Choice]) -> FoldPredictions | None:
        """Return each fold's choice, applied to test rows by the runs of that fold alone."""
        if self.members.runs is None:
            return None
        both = [
            _predict(
                self.fit(choice.winner, self.everything - fold),
                self.members.run_inputs(position),
                choice.family,
            )
            for position, (choice, fold) in enumerate(zip(choices, self.folds, strict=True))
        ]
        return FoldPredictions(*(np.stack(each) for each in zip(*both, strict=True)))

    def final_of_runs(self, choice: Choice) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the final choice's predictions by single runs, before the decision.

        Returns:
            (n, outputs) out-of-fold, and (folds, rows, outputs) for the rows of `Members.runs`.
        """
        if self.members.runs is None:
            return None
        fitted = self.fit(choice.winner, self.everything).fitted
        inputs = map(self.members.run_inputs, range(len(self.folds)))
        return self.left_out(choice.winner, self.folds), np.stack([*map(fitted.predict, inputs)])

    def correction(
        self, choices: Sequence[Choice], of_runs: FoldPredictions | None
    ) -> SharedTraining:
        """Return the correction of the nested score.

        There is none if single runs are not known, or if no two learn from each other's rows.
        """
        if of_runs is None or not self.members.runs.share_labels:
            return SharedTraining()
        blended = np.stack([within_run_ranks(raw) for raw in of_runs.raw])
        return SharedTraining(self._optimism(choices, blended), variance_ratio(blended))

    def _optimism(self, choices: Sequence[Choice], blended: np.ndarray) -> float:
        """Return how far the nested score is expected to be above truth; 0 for one model.

        blended: (folds, rows, outputs) ranks of each fold's choice by the runs of that fold.
        """
        singles = [k for k, each in enumerate(self.candidates) if isinstance(each, Single)]
        if len(singles) < 2:
            return 0.0
        ranks = self.members.runs.ranks
        shared = shared_variance(ranks, between_models=True)
        total = 0.0
        for position, (choice, fold) in enumerate(zip(choices, self.folds, strict=True)):
            found, own = choice.candidates, np.ix_(singles, singles)
            lead = leads(found.signed[singles], found.covariance[own], shared, len(self.folds))
            weights = effective_weights(ranks[position], blended[position])
            total += len(self.rows(fold)) * float(weights @ lead)
        return total / len(self.units)

    def left_out(self, candidate: int, parts: list[FoldSet]) -> np.ndarray:
        """Return predictions over the rows of all parts, each part by the fit on the others."""
        union = frozenset().union(*parts)
        predictions = np.empty(self.members.targets.shape)
        for part in parts:
            rows, fit = self.rows(part), self.fit(candidate, union - part)
            predictions[rows] = fit.fitted.predict(self.members.inputs.take(rows))
        return predictions[self.rows(union)]

    def decided(
        self, candidate: int, parts: list[FoldSet], left_out: np.ndarray, family: str | None
    ) -> np.ndarray:
        """Return the decisions for the predictions of `left_out`, by the rules of the same fits.

        Args:
            candidate: its index.
            parts: sets of units.
            left_out: (rows of all parts, outputs).
            family: of rules; None decides nothing.

        Returns:
            An array of the shape of `left_out`.
        """
        if family is None:
            return left_out
        union = frozenset().union(*parts)
        units, decisions = self.units[self.rows(union)], np.empty_like(left_out)
        for part in parts:
            own = np.isin(units, list(part))
            decisions[own] = self.fit(candidate, union - part).rule(family).apply(left_out[own])
        return decisions

    def choose_by_fold(self) -> list[Choice]:
        """Return, per fold, what is chosen without it."""
        return [self.choose(self.others(fold)) for fold in self.folds]

    def choose(self, parts: list[FoldSet]) -> Choice:
        """Choose, from these parts only, a candidate and the family of its rule.

        The candidate is the simplest within one standard error of the best: of equal complexity the
        first listed, of single models the best.
        """
        left_out = [self.left_out(c, parts) for c in range(len(self.candidates))]
        found = self._compare(
            parts, [self.decided(c, parts, p, self.reference) for c, p in enumerate(left_out)]
        )
        within = found.worse_by <= found.errors
        within[found.signed.argmax()] = True
        winner = min(np.flatnonzero(within), key=lambda c: self._simplicity(c, found.signed))
        rules = self._compare_rules(int(winner), parts, left_out[winner])
        family = self.reference
        if rules is not None:
            better = rules.better(self.families.index(self.reference))  # of equals the simplest
            if better is not None:
                family = self.families[better]
        return Choice(int(winner), family, found, rules)

    def _compare(
        self, parts: list[FoldSet], predictions: list[np.ndarray], reference: int | None = None
    ) -> ScoreComparison:
        rows = self.rows(frozenset().union(*parts))
        targets, groups = self.members.targets[rows], self.members.groups[rows]
        return compare(
            self.metric.take(rows),
            targets,
            predictions,
            groups,
            seed=self.seed,
            reference=reference,
        )

    def _compare_rules(
        self, winner: int, parts: list[FoldSet], left_out: np.ndarray
    ) -> ScoreComparison | None:
        """Compare the families of rules with the metric's own; return None if it is the only one."""
        if len(self.families) == 1:
            return None
        predictions = [self.decided(winner, parts, left_out, family) for family in self.families]
        return self._compare(parts, predictions, self.families.index(self.reference))

    def _simplicity(self, candidate: int, signed: np.ndarray) -> tuple:
        complexity = self.candidates[candidate].complexity
        return (complexity, -signed[candidate] if complexity == 0 else 0.0, candidate)

    def pool(
        self, choices: Sequence[Choice], of_runs: FoldPredictions | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (n, outputs) before and after the decision, each fold by its choice.

        The winner of a fold is fitted on the other folds and decides by its family of rules. If
        different winners are pooled for a ranking metric, their scales are made equal: by the
        distributions that they have on test rows, or by ranks within the fold if those are few.
        """
        raw = np.empty(self.members.targets.shape)
        decided = np.empty_like(raw)
        for choice, fold in zip(choices, self.folds, strict=True):
            rows = self.rows(fold)
            fit = self.fit(choice.winner, self.everything - fold)
            raw[rows], decided[rows] = self.predict(fit, rows, choice.family)
        if self.metric.wants != "ranking" or len({choice.winner for choice in choices}) == 1:
            return raw, decided
        maps = [within_run_ranks] * len(self.folds)
        if of_runs is not None and not self.members.kind.is_values:
            maps = align(of_runs.raw, within_run_ranks)
        for fold, comparable in zip(self.folds, maps, strict=True):
            rows = self.rows(fold)
            raw[rows] = comparable(raw[rows])
        return raw, raw

    def in_sample(self, candidate: int, families: Sequence[str | None]) -> list[float]:
        """Return the candidate's scores on all rows, which it was fitted on, with a rule of each family;
        optimistic.
        """
        fit = self.fit(candidate, self.everything)
        raw, rules = fit.fitted.predict(self.members.inputs), map(fit.rule, families)
        decisions = (raw if rule is None else rule.apply(raw) for rule in rules)
        return [self.metric.score(self.members.targets, decided) for decided in decisions]

    def report(self, choice: Choice) -> list[CandidateReport]:
        found = choice.candidates
        return [
            CandidateReport(
                candidate.name,
                candidate.complexity,
                float(found.scores[k]),
                *self.in_sample(k, [self.reference]),
                float(found.worse_by[k]),
                float(found.errors[k]),
            )
            for k, candidate in enumerate(self.candidates)
        ]

    def report_rules(self, choice: Choice) -> list[RuleReport]:
        found = choice.rules
        if found is None:
            scores, gains, errors = choice.candidates.scores[[choice.winner]], [0.0], [0.0]
        else:
            scores, gains, errors = found.scores, -found.worse_by, found.errors
        in_sample = self.in_sample(choice.winner, self.families)
        return [
            RuleReport(family, float(score), own, *map(float, of))
            for family, own, score, *of in zip(
                self.families, in_sample, scores, gains, errors, strict=True
            )
        ]

    def before_and_after(self, choice: Choice) -> dict[str, np.ndarray] | None:
        """Return names and nested predictions of a candidate and of the same one calibrated."""
        calibrated = [k for k, c in enumerate(self.candidates) if isinstance(c, Calibrated)]
        if not calibrated:
            return None
        if choice.winner in calibrated:
            after = choice.winner
        else:
            after = max(calibrated, key=lambda k: choice.candidates.signed[k])
        before = self.candidates.index(self.candidates[after].base)
        return {self.candidates[k].name: self.left_out(k, self.folds) for k in (before, after)}


def _predict(fit: Fit, inputs: Inputs, family: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions (rows, outputs) before and after the decision."""
    raw = fit.fitted.predict(inputs)
    rule = fit.rule(family)
    return raw, raw if rule is None else rule.apply(raw)


def _halves(members: Members, fold: np.ndarray, seed: int) -> np.ndarray:
    """Return 0 or 1 per row (n,): each fold halved by group.

    Raises InputError if a fold holds one group only.
    """
    halves = np.zeros(len(fold), int)
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        if len(np.unique(members.groups[rows])) < 2:
            raise InputError(
                f"fold {k} holds a single row or group of rows, which the nested estimate has to halve: "
                "set folds.count to less"
            )
        splitter = GroupKFold(2, shuffle=True, random_state=seed)
        _, second = next(splitter.split(rows, groups=members.groups[rows]))
        halves[rows[second]] = 1
    return halves
