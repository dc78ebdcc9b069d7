"""Blending with an honest score: whatever is fitted or chosen is scored on held-out folds.

For each fold j, every candidate is fitted, and the winner chosen, on the other folds, and then
scored on j; that choice uses predictions for each fold i by fits without both i and j. This is
nested cross-validation: Varma & Simon 2006, "Bias in error estimation when using cross-validation
for model selection". The winner is the simplest candidate within one standard error of the best:
Breiman et al. 1984.

If labels are submitted, the family of the winner's decision rule is chosen at the same place, after
the winner. The simplest family is no safe choice: .5 is far off for F1 or Matthews' coefficient, and
on few rows a standard error hides that. So each metric has its own family
(`decide.reference_family`), and another one replaces it only if it is better by more than one
standard error of the paired difference.

What nesting cannot undo: an out-of-fold prediction outside fold j comes from a run that saw j's
labels. Runs that leave out pairs of folds would be free of that; `optimism.py` corrects the score for
it instead, and `submitted.py` estimates the score of the mean over runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from foldstack.ensemble.candidates import (
    NO_OPTIONS,
    BlendOptions,
    Single,
    list_candidates,
)
from foldstack.ensemble.decide import Rule, default_rule
from foldstack.ensemble.estimate import Difference, Estimate, estimate, paired_difference
from foldstack.ensemble.members import Fitted, Inputs, Members
from foldstack.ensemble.nesting import (
    CandidateReport,
    FoldPredictions,
    Nesting,
    RuleReport,
)
from foldstack.ensemble.optimism import SharedTraining
from foldstack.ensemble.submitted import averaging_gain, draw_targets, shifted
from foldstack.errors import InputError
from foldstack.metrics import Metric


@dataclass(frozen=True)
class BlendResult:
    """The winner fitted on all out-of-fold rows, and its estimates.

    Attributes:
        winner: the candidate's name.
        parameters: what was fitted, JSON-able.
        rule: from probabilities to labels, or None if probabilities are submitted.
        nested: the headline: the score of fitting and choosing, pooled over all rows, of single runs.
        correction: of that score, for shared training rows.
        of_runs: what single runs would submit for some test rows; None if they are not known.
        final_of_runs: the winner by single runs, see `Nesting.final_of_runs`.
        in_sample: the winner's score on the rows it was fitted on; optimistic.
        candidates: one report per candidate, in the order listed.
        winners_by_fold: per fold, the winner chosen without it.
        nested_predictions: (n, outputs), each fold by the winner chosen and fitted without it; decided
            to 0/1 if labels are submitted.
        oof: (n, outputs), the same before the decision. If rank means won only some of the folds, ranks
            within each fold, so that pooled scales are comparable.
        test: (t, outputs) predictions of the winner, before the decision.
        test_decisions: (t, outputs) of 0/1, or None if probabilities are submitted.
        fitted: the winner itself, for `save`.
        family: of the winner's rule, or None if probabilities are submitted.
        families_by_fold: per fold, the family chosen without it; empty if `family` is None.
        rules: one report per family that was tried, the simplest first; empty if `family` is None.
        gain: how much better the nested decisions are than those of the default rule (.5, the most
            probable class) on the same nested predictions; None if probabilities are submitted.
        calibrated: names and predictions (n, outputs) of a candidate and of the same one calibrated,
            each fold by a fit without it: the winner, else the calibrated candidate with the best
            nested score. None if no calibrated candidate took part.
    """

    winner: str
    parameters: dict
    rule: Rule | None
    nested: Estimate
    correction: SharedTraining
    of_runs: FoldPredictions | None
    final_of_runs: tuple[np.ndarray, np.ndarray] | None
    in_sample: float
    candidates: list[CandidateReport]
    winners_by_fold: dict[int, str]
    nested_predictions: np.ndarray
    oof: np.ndarray
    test: np.ndarray
    test_decisions: np.ndarray | None
    fitted: Fitted
    family: str | None
    families_by_fold: dict[int, str]
    rules: list[RuleReport]
    gain: Difference | None
    calibrated: dict[str, np.ndarray] | None

    def predicting(self, inputs: Inputs) -> BlendResult:
        """Return the same result for other inputs of the test rows."""
        test = self.fitted.predict(inputs)
        decisions = None if self.rule is None else self.rule.apply(test)
        return replace(self, test=test, test_decisions=decisions)


def count_fits(n_folds: int, n_candidates: int) -> int:
    """Return the number of fits of `blend`: on all rows, all but one fold, all but two folds.

    With two folds nothing remains without both, so each fold is halved instead.
    """
    pairs = n_folds * (n_folds - 1) // 2 if n_folds > 2 else 4
    return n_candidates * (pairs + n_folds + 1)


def blend(
    members: Members,
    metric: Metric,
    *,
    wants_labels: bool,
    options: BlendOptions = NO_OPTIONS,
    progress: Callable[[], None] | None = None,
) -> BlendResult:
    """Fit every candidate, choose one, and score the whole procedure by nesting.

    Args:
        members: the models' predictions.
        metric: scores candidates and chooses among them.
        wants_labels: labels are submitted, so a decision rule is fitted and scored, too. If
            probabilities are submitted to a metric of labels, they are scored at .5, or by the most
            probable class.
        options: methods (single models always take part), families of decision rules, and all else
            that `settings.BlendSettings` describes.
        progress: called after each fit, `count_fits` times.

    Returns:
        The winner and its estimates.

    Raises:
        InputError: a method, a rule or a calibration is unknown or does not fit the kind, or labels
            are submitted to a metric of something else.
        ValueError: there are fewer than two folds.
    """
    metric = for_submission(metric, members, wants_labels)
    features = members.features is not None
    candidates = list_candidates(
        members.names,
        metric,
        options.methods,
        kind=members.kind,
        features=features,
        options=options,
        calibration=options.calibration,
    )
    seed = options.seed
    nesting = Nesting(members, metric, candidates, seed, progress, options.rules)
    choices = nesting.choose_by_fold()
    of_runs = nesting.of_runs(choices)
    correction = nesting.correction(choices, of_runs)
    oof, nested_predictions = nesting.pool(choices, of_runs)
    final = nesting.choose(nesting.folds)
    fit = nesting.fit(final.winner, nesting.everything)
    rule = fit.rule(final.family)
    test = fit.fitted.predict(members.test_inputs)
    folds = np.unique(members.folds).tolist()
    decided = metric.wants == "labels"
    return BlendResult(
        winner=candidates[final.winner].name,
        parameters=fit.fitted.parameters,
        rule=rule,
        nested=_estimate(nesting, nested_predictions, correction),
        correction=correction,
        of_runs=of_runs,
        final_of_runs=nesting.final_of_runs(final),
        in_sample=nesting.in_sample(final.winner, [final.family])[0],
        candidates=nesting.report(final),
        winners_by_fold=dict(
            zip(folds, (candidates[choice.winner].name for choice in choices), strict=True)
        ),
        nested_predictions=nested_predictions,
        oof=oof,
        test=test,
        test_decisions=None if rule is None else rule.apply(test),
        fitted=fit.fitted,
        family=final.family,
        families_by_fold=dict(zip(folds, (c.family for c in choices), strict=True))
        if decided
        else {},
        rules=nesting.report_rules(final) if decided else [],
        gain=_gain(members, metric, nested_predictions, oof, seed) if decided else None,
        calibrated=nesting.before_and_after(final),
    )


def submission_estimate(
    members: Members, metric: Metric, result: BlendResult, *, wants_labels: bool, seed: int
) -> Estimate | None:
    """Return the estimate of the submitted mean over runs; None if single runs are not known.

    Args:
        members: the models' predictions.
        metric: of the competition.
        result: the blend of these members.
        wants_labels: labels are submitted, see `blend`.
        seed: of the drawn labels.

    Returns:
        The nested estimate, moved by the expected gain of the mean; see `submitted.py`.
    """
    if result.final_of_runs is None or metric.reads:  # columns of test rows are not known
        return None
    metric = for_submission(metric, members, wants_labels)
    of_mean = result.test if result.test_decisions is None else result.test_decisions
    oof, of_runs = result.final_of_runs
    drawn = draw_targets(members.kind, oof, members.targets, of_runs, seed)
    if metric.levels is not None:
        nearest = default_rule(members.kind, 1, metric.levels)
        drawn = np.stack([nearest.apply(targets) for targets in drawn])
    if result.rule is not None:
        of_runs = np.stack([result.rule.apply(run) for run in of_runs])
    gain = averaging_gain(metric, of_runs, of_mean[members.runs.rows], drawn)
    return shifted(result.nested, gain, metric.sign, metric.bounds)


def _gain(
    members: Members, metric: Metric, decided: np.ndarray, oof: np.ndarray, seed: int
) -> Difference:
    """Return the gain of the decisions over the default rule's on the same predictions."""
    plain = default_rule(members.kind, oof.shape[1], metric.levels).apply(oof)
    return paired_difference(metric, members.targets, [decided], [plain], members.groups, seed)


def single_estimate(
    members: Members,
    model_index: int,
    metric: Metric,
    wants_labels: bool,
    seed: int,
    rules: Sequence[str] | None = None,
) -> tuple[Estimate, float]:
    """Return one model's score with the rule chosen and fitted on the other folds, and in sample.

    Args:
        members: the models' predictions.
        model_index: the model's position in `members.names`.
        metric: scores it.
        wants_labels: labels are submitted, see `blend`.
        seed: of the bootstrap.
        rules: families of decision rules; None for all.

    Returns:
        The nested estimate and the in-sample score.

    Raises:
        InputError: labels are submitted to a metric of something else, or none of the rules fits the
            kind.
    """
    nesting = _single(members, model_index, metric, wants_labels, seed, rules)
    choices = nesting.choose_by_fold()
    _, predictions = nesting.pool(choices)
    (in_sample,) = nesting.in_sample(0, [nesting.choose(nesting.folds).family])
    correction = nesting.correction(choices, nesting.of_runs(choices))
    return _estimate(nesting, predictions, correction), in_sample


def single_predictions(
    members: Members,
    model_index: int,
    metric: Metric,
    wants_labels: bool,
    seed: int,
    rules: Sequence[str] | None = None,
) -> tuple[Metric, np.ndarray]:
    """Return one model's scored predictions, and the metric that scores them.

    Args:
        members: the models' predictions.
        model_index: the model's position in `members.names`.
        metric: scores them.
        wants_labels: labels are submitted, see `blend`.
        seed: of the halves of two folds.
        rules: families of decision rules; None for all.

    Returns:
        The metric, and (n, outputs): if labels are submitted decisions, by rules chosen and fitted on
        the other folds.
    """
    nesting = _single(members, model_index, metric, wants_labels, seed, rules)
    return nesting.metric, nesting.pool(nesting.choose_by_fold())[1]


def _single(
    members: Members,
    model_index: int,
    metric: Metric,
    wants_labels: bool,
    seed: int,
    rules: Sequence[str] | None,
) -> Nesting:
    single = Single(members.names[model_index], model_index)
    metric = for_submission(metric, members, wants_labels)
    return Nesting(members, metric, [single], seed, None, rules)


def for_submission(metric: Metric, members: Members, wants_labels: bool) -> Metric:
    """Return the metric that scores what is submitted.

    A metric of labels over submitted probabilities becomes a metric of probabilities, which
    decides by the default rule itself.
    """
    metric = metric.over(members.scored)
    if members.cells is not None:
        metric = metric.given(members.cells)
    if wants_labels and metric.wants != "labels":
        raise InputError(
            f"metric '{metric.name}' requires a {metric.wants}, but labels are submitted: "
            "choose a metric of labels such as accuracy"
        )
    if wants_labels or metric.wants != "labels":
        return metric
    decide = default_rule(members.kind, members.targets.shape[1], metric.levels).apply
    return metric.of_decisions(decide)


def _estimate(nesting: Nesting, predictions: np.ndarray, correction: SharedTraining) -> Estimate:
    """Return the corrected score of pooled predictions (n, outputs)."""
    members = nesting.members
    return estimate(
        nesting.metric,
        members.targets,
        predictions,
        members.groups,
        seed=nesting.seed,
        seed_variance=members.seed_variance,
        **asdict(correction),
    )
