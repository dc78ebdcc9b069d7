"""Blending with an honest score: whatever is fitted or chosen is scored where it was not.

For each fold j, every candidate is fitted, and the winner chosen, inside the other folds, and
then scored on j; the choice in there rests on predictions for each fold i by fits that left
out both i and j. This is nested cross-validation: Varma & Simon 2006, "Bias in error
estimation when using cross-validation for model selection". Among candidates within one
standard error of the best the simplest wins: Breiman et al. 1984.

What it cannot undo: an out-of-fold prediction outside fold j comes from a run that saw j's
labels. A second level free of that too needs runs that leave out pairs of folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata
from sklearn.model_selection import GroupKFold

from foldstack.ensemble.candidates import (
    DEFAULT_METHODS,
    NO_OPTIONS,
    BlendOptions,
    Single,
    list_candidates,
)
from foldstack.ensemble.decide import Rule, default_rule, fit_rule, is_fitted
from foldstack.ensemble.estimate import Estimate, bootstrap, estimate, spread
from foldstack.ensemble.members import Candidate, Fitted, Members
from foldstack.errors import InputError
from foldstack.metrics import Metric

CHOICE_RESAMPLES = 100


@dataclass(frozen=True)
class CandidateReport:
    """One candidate, as the final choice among all folds saw it.

    Attributes:
        nested: its score, pooled over all rows, each fold predicted by a fit (and decided by
            a rule) that left it out.
        in_sample: its score on the rows it was fitted on; optimistic.
        difference_to_best: how much worse its nested score is than the best one's, >= 0.
        standard_error: of that difference, paired; 0 for the best itself.
    """

    name: str
    complexity: int
    nested: float
    in_sample: float
    difference_to_best: float
    standard_error: float


@dataclass(frozen=True)
class BlendResult:
    """The winner fitted on all out-of-fold rows, and what to expect of it.

    Attributes:
        winner: the candidate's name.
        parameters: what was fitted, JSON-able.
        rule: from probabilities to labels, or None where probabilities are submitted.
        nested: the headline: the score of fitting and choosing alike, pooled over all rows.
        in_sample: the winner's score on the rows it was fitted on; optimistic.
        candidates: a report for each candidate, in the order listed.
        winners_by_fold: for each fold, what was chosen without it.
        nested_predictions: (n, outputs), each fold by the winner chosen and fitted without
            it; decided to 0/1 where labels are submitted.
        oof: (n, outputs), the same before the decision. Where rank means won some folds and
            others won the rest, ranks within each fold, so that pooling compares like scales.
        test: (t, outputs) predictions of the winner, before the decision.
        test_decisions: (t, outputs) of 0/1, or None where probabilities are submitted.
        fitted: the winner itself, for `save`.
    """

    winner: str
    parameters: dict
    rule: Rule | None
    nested: Estimate
    in_sample: float
    candidates: list[CandidateReport]
    winners_by_fold: dict[int, str]
    nested_predictions: np.ndarray
    oof: np.ndarray
    test: np.ndarray
    test_decisions: np.ndarray | None
    fitted: Fitted


def count_fits(n_folds: int, n_candidates: int) -> int:
    """How many fits `blend` makes: all rows, all but one fold, all but two folds.

    With two folds nothing is left without both, so each fold is halved instead.
    """
    pairs = n_folds * (n_folds - 1) // 2 if n_folds > 2 else 4
    return n_candidates * (pairs + n_folds + 1)


def blend(
    members: Members,
    metric: Metric,
    *,
    wants_labels: bool,
    seed: int = 0,
    methods: Sequence[str] = DEFAULT_METHODS,
    options: BlendOptions = NO_OPTIONS,
    progress: Callable[[], None] | None = None,
) -> BlendResult:
    """Fits every candidate, chooses one, and scores the whole procedure by nesting.

    Args:
        metric: chooses among candidates and is what the scores are of.
        wants_labels: labels are submitted, so a decision rule is fitted and scored along.
            Where probabilities are submitted to a metric of labels, they are scored at .5, or
            by the most probable class.
        methods: of `METHODS`; single models always take part.
        options: what the methods may be told.
        progress: called after each fit; `count_fits` says how many there will be.

    Raises:
        InputError: a method is unknown, or labels are submitted to a metric of something else.
        ValueError: there are fewer than two folds.
    """
    metric = _for_submission(metric, members, wants_labels)
    features = members.features is not None
    candidates = list_candidates(
        members.names, metric, methods, kind=members.kind, features=features, options=options
    )
    nesting = _Nesting(members, metric, candidates, seed, progress)
    choices = [nesting.choose(nesting.others(fold)) for fold in nesting.folds]
    oof, nested_predictions = nesting.pool([choice.winner for choice in choices])
    final = nesting.choose(nesting.folds)
    fit = nesting.fit(final.winner, nesting.everything)
    test = fit.fitted.predict(members.test_inputs)
    return BlendResult(
        winner=candidates[final.winner].name,
        parameters=fit.fitted.parameters,
        rule=fit.rule,
        nested=_estimate(members, metric, nested_predictions, seed),
        in_sample=nesting.in_sample(final.winner),
        candidates=nesting.report(final),
        winners_by_fold={
            int(fold): candidates[choice.winner].name
            for fold, choice in zip(np.unique(members.folds), choices, strict=True)
        },
        nested_predictions=nested_predictions,
        oof=oof,
        test=test,
        test_decisions=None if fit.rule is None else fit.rule.apply(test),
        fitted=fit.fitted,
    )


def single_estimate(
    members: Members, model_index: int, metric: Metric, wants_labels: bool, seed: int
) -> tuple[Estimate, float]:
    """One model alone: its score with the rule fitted on the other folds, and in sample.

    Raises:
        InputError: labels are submitted to a metric that wants something else.
    """
    nesting = _single(members, model_index, metric, wants_labels, seed)
    predictions = _pooled(nesting)
    return _estimate(members, nesting.metric, predictions, seed), nesting.in_sample(0)


def single_predictions(
    members: Members, model_index: int, metric: Metric, wants_labels: bool, seed: int
) -> tuple[Metric, np.ndarray]:
    """One model's (n, outputs) as they are scored, and by which metric.

    Where labels are submitted they are decisions, by rules fitted on the other folds.
    """
    nesting = _single(members, model_index, metric, wants_labels, seed)
    return nesting.metric, _pooled(nesting)


def _single(
    members: Members, model_index: int, metric: Metric, wants_labels: bool, seed: int
) -> _Nesting:
    single = Single(members.names[model_index], model_index)
    return _Nesting(members, _for_submission(metric, members, wants_labels), [single], seed, None)


def _pooled(nesting: _Nesting) -> np.ndarray:
    return nesting.pool([0] * len(nesting.folds))[1]


def _for_submission(metric: Metric, members: Members, wants_labels: bool) -> Metric:
    """The metric as the submission meets it: one that wants labels gets them fitted or not.

    A metric of labels over submitted probabilities becomes a metric of probabilities, which
    decides by the default rule itself.
    """
    if wants_labels and metric.wants != "labels":
        raise InputError(
            f"metric '{metric.name}' wants a {metric.wants}, but labels are submitted: "
            "choose a metric of labels such as accuracy"
        )
    if wants_labels or metric.wants != "labels":
        return metric
    decide = default_rule(members.kind, members.targets.shape[1]).apply
    return replace(
        metric, wants="probability", scorer=lambda t, p, w: metric.scorer(t, decide(p), w)
    )


def _estimate(members: Members, metric: Metric, predictions: np.ndarray, seed: int) -> Estimate:
    return estimate(
        metric,
        members.targets,
        predictions,
        members.groups,
        seed=seed,
        seed_variance=members.seed_variance,
    )


Part = frozenset[int]


@dataclass(frozen=True)
class _Fit:
    """A fitted candidate and the rule fitted on its crossfit, None where none is wanted."""

    fitted: Fitted
    rule: Rule | None


@dataclass(frozen=True)
class _Choice:
    """A winner (an index) and every candidate's paired difference to the best (candidates,)."""

    winner: int
    scores: np.ndarray
    differences: np.ndarray
    errors: np.ndarray


class _Nesting:
    """The memoised fits of every candidate on sets of folds, and what is pooled from them.

    Rows are addressed by units: the folds, or with two folds the halves of each, so that
    inside a single fold there is still something to leave out. A part is a set of units.
    """

    def __init__(
        self,
        members: Members,
        metric: Metric,
        candidates: list[Candidate],
        seed: int,
        progress: Callable[[], None] | None,
    ):
        self.members, self.metric, self.candidates = members, metric, candidates
        self.seed, self.progress = seed, progress
        names, fold = np.unique(members.folds, return_inverse=True)
        if len(names) < 2:
            raise ValueError("blending needs at least two folds")
        halves = _halves(members, fold, seed) if len(names) == 2 else np.zeros(len(fold), int)
        self.units = fold * 2 + halves
        self.folds = [
            frozenset(np.unique(self.units[fold == k]).tolist()) for k in range(len(names))
        ]
        self.everything: Part = frozenset().union(*self.folds)
        self._fits: dict[tuple[int, Part], _Fit] = {}

    def others(self, fold: Part) -> list[Part]:
        """The parts to choose on without this fold: the other folds, or one fold's halves."""
        others = [other for other in self.folds if other != fold]
        return others if len(others) > 1 else [frozenset([unit]) for unit in others[0]]

    def rows(self, part: Part) -> np.ndarray:
        return np.flatnonzero(np.isin(self.units, list(part)))

    def fit(self, candidate: int, part: Part) -> _Fit:
        """The candidate (an index) fitted, with its rule, on the rows of the part."""
        key = (candidate, part)
        if key not in self._fits:
            rows = self.rows(part)
            fitted = self.candidates[candidate].fit(self.members, rows, self.metric, self.seed)
            self._fits[key] = _Fit(fitted, self._rule(fitted, rows))
            if self.progress:
                self.progress()
        return self._fits[key]

    def _rule(self, fitted: Fitted, rows: np.ndarray) -> Rule | None:
        kind, targets = self.members.kind, self.members.targets[rows]
        if self.metric.wants != "labels":
            return None
        if not is_fitted(self.metric, kind):  # So the costly crossfit is not asked for.
            return default_rule(kind, targets.shape[1])
        return fit_rule(self.metric, kind, targets, fitted.crossfit)

    def predict(self, fit: _Fit, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (rows, outputs) before and after the decision, alike without one."""
        raw = fit.fitted.predict(self.members.inputs.take(rows))
        return raw, raw if fit.rule is None else fit.rule.apply(raw)

    def left_out(self, candidate: int, parts: list[Part]) -> np.ndarray:
        """Predictions over the rows of all parts, each part by the fit on the others."""
        union = frozenset().union(*parts)
        predictions = np.empty(self.members.targets.shape)
        for part in parts:
            rows = self.rows(part)
            predictions[rows] = self.predict(self.fit(candidate, union - part), rows)[1]
        return predictions[self.rows(union)]

    def choose(self, parts: list[Part]) -> _Choice:
        """The simplest candidate within one standard error of the best, from these parts only.

        Of the same complexity the one listed first is taken, of single models the best.
        """
        rows = self.rows(frozenset().union(*parts))
        targets, groups = self.members.targets[rows], self.members.groups[rows]
        predictions = [self.left_out(c, parts) for c in range(len(self.candidates))]
        scores = np.array([self.metric.score(targets, each) for each in predictions])
        resampled = bootstrap(
            self.metric, targets, predictions, groups, seed=self.seed, resamples=CHOICE_RESAMPLES
        )
        signed = self.metric.sign * scores
        # Where the metric is undefined it is so for all, having one class; then the first.
        best = int(signed.argmax())
        differences = signed[best] - signed
        errors = spread(resampled[:, [best]] - resampled)
        within = differences <= errors
        within[best] = True
        winner = min(np.flatnonzero(within), key=lambda c: self._simplicity(c, signed))
        return _Choice(int(winner), scores, differences, errors)

    def _simplicity(self, candidate: int, signed: np.ndarray) -> tuple:
        complexity = self.candidates[candidate].complexity
        return (complexity, -signed[candidate] if complexity == 0 else 0.0, candidate)

    def pool(self, winners: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (n, outputs) before and after the decision, for each fold by its winner
        fitted on the other folds.
        """
        raw = np.empty(self.members.targets.shape)
        decided = np.empty_like(raw)
        fits = [
            self.fit(winner, self.everything - fold)
            for winner, fold in zip(winners, self.folds, strict=True)
        ]
        for fit, fold in zip(fits, self.folds, strict=True):
            rows = self.rows(fold)
            raw[rows], decided[rows] = self.predict(fit, rows)
        if len({fit.fitted.scale for fit in fits}) > 1:
            # Ranks and probabilities pooled as they are would be ordered by fold. Rank means
            # exist for rankings only, where nothing is decided.
            for fold in self.folds:
                rows = self.rows(fold)
                raw[rows] = rankdata(raw[rows], axis=0) / len(rows)
            return raw, raw
        return raw, decided

    def in_sample(self, candidate: int) -> float:
        """The candidate's score on the rows it was fitted on, all of them; optimistic."""
        everything = self.rows(self.everything)
        predictions = self.predict(self.fit(candidate, self.everything), everything)[1]
        return self.metric.score(self.members.targets, predictions)

    def report(self, choice: _Choice) -> list[CandidateReport]:
        return [
            CandidateReport(
                candidate.name,
                candidate.complexity,
                float(choice.scores[k]),
                self.in_sample(k),
                float(choice.differences[k]),
                float(choice.errors[k]),
            )
            for k, candidate in enumerate(self.candidates)
        ]


def _halves(members: Members, fold: np.ndarray, seed: int) -> np.ndarray:
    """0 or 1 for each row (n,): each fold halved by group."""
    halves = np.zeros(len(fold), int)
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        splitter = GroupKFold(2, shuffle=True, random_state=seed)
        _, second = next(splitter.split(rows, groups=members.groups[rows]))
        halves[rows[second]] = 1
    return halves
