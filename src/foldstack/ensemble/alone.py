"""A single model, for which nothing is chosen: its decisions by fold, and its result if it has one fold.

A fold's predictions come from a run that did not learn from it, so their score is honest. With one
fold nothing can be nested: a decision rule that is fitted on the fold's labels is scored on the same
rows, and that score is optimistic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foldstack.ensemble.candidates import list_candidates
from foldstack.ensemble.decide import choose_families, fit_rule, reference_family
from foldstack.ensemble.estimate import estimate
from foldstack.ensemble.members import Members
from foldstack.ensemble.nested import BlendResult, for_submission
from foldstack.ensemble.nesting import CandidateReport
from foldstack.ensemble.optimism import SharedTraining
from foldstack.metrics import Metric


def one_fold(
    members: Members,
    metric: Metric,
    *,
    wants_labels: bool,
    seed: int,
    rules: Sequence[str] | None = None,
) -> BlendResult:
    """Return the only model as it is, decided by the metric's own family of rules.

    Args:
        members: the predictions of one model, whose rows are of one fold.
        metric: scores them.
        wants_labels: labels are submitted, see `nested.blend`.
        seed: of the bootstrap.
        rules: families of decision rules; None for all.

    Returns:
        The model with the score of its fold, which is optimistic if `reads_labels(family)`.

    Raises:
        InputError: see `nested.blend`.
    """
    metric = for_submission(metric, members, wants_labels)
    (single,) = list_candidates(members.names, metric, (), kind=members.kind)
    fitted = single.fit(members, np.arange(len(members.targets)), metric, seed)
    oof = fitted.predict(members.inputs)
    family, rule = _own_family(metric, members, rules), None
    if family is not None:
        rule = fit_rule(metric, members.kind, members.targets, oof, family=family)
    decided = oof if rule is None else rule.apply(oof)
    score = metric.score(members.targets, decided)
    test, fold = fitted.predict(members.test_inputs), int(members.folds[0])
    return BlendResult(
        winner=single.name,
        parameters=fitted.parameters,
        rule=rule,
        nested=estimate(
            metric,
            members.targets,
            decided,
            members.groups,
            seed=seed,
            seed_variance=members.seed_variance,
        ),
        correction=SharedTraining(),
        of_runs=None,
        final_of_runs=None,
        in_sample=score,
        candidates=[CandidateReport(single.name, single.complexity, score, score, 0.0, 0.0)],
        winners_by_fold={fold: single.name},
        nested_predictions=decided,
        oof=oof,
        test=test,
        test_decisions=None if rule is None else rule.apply(test),
        fitted=fitted,
        family=family,
        families_by_fold={} if family is None else {fold: family},
        rules=[],
        gain=None,
        calibrated=None,
    )


def decide_by_fold(
    members: Members, metric: Metric, *, wants_labels: bool, rules: Sequence[str] | None = None
) -> tuple[Metric, np.ndarray, str | None]:
    """Return the only model's predictions as they are scored, decided by the metric's own family.

    Args:
        members: the predictions of one model.
        metric: scores them.
        wants_labels: labels are submitted, see `nested.blend`.
        rules: families of decision rules; None for all.

    Returns:
        The metric that scores what is submitted; (n, outputs), each fold by a rule fitted on the other
        folds, if there are any; the family of the rules, None if probabilities are submitted.

    Raises:
        InputError: see `nested.blend`.
    """
    metric = for_submission(metric, members, wants_labels)
    oof, targets = members.probabilities[:, 0].astype(float), members.targets
    family = _own_family(metric, members, rules)
    if family is None:
        return metric, oof, None
    folds, decided = np.unique(members.folds), np.empty_like(oof)
    for fold in folds:
        own = members.folds == fold
        known = own if len(folds) == 1 else ~own
        part = metric.take(np.flatnonzero(known))
        rule = fit_rule(part, members.kind, targets[known], oof[known], family=family)
        decided[own] = rule.apply(oof[own])
    return metric, decided, family


def _own_family(metric: Metric, members: Members, rules: Sequence[str] | None) -> str | None:
    """Return the family of rules that requires no choice; None if probabilities are scored."""
    if metric.wants != "labels":
        return None
    return reference_family(metric, members.kind, choose_families(rules, metric, members.kind))
