"""A single model with runs of one fold: nothing is chosen, and nothing can be nested.

The fold's predictions come from a run that did not learn from it, so their score is honest. A decision
rule that is fitted on the fold's labels is scored on the same rows: that score is optimistic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foldstack.ensemble.candidates import list_candidates
from foldstack.ensemble.decide import (
    Rule,
    choose_families,
    default_rule,
    fit_rule,
    reference_family,
)
from foldstack.ensemble.estimate import estimate
from foldstack.ensemble.members import Members
from foldstack.ensemble.nested import BlendResult, for_submission
from foldstack.ensemble.nesting import CandidateReport
from foldstack.metrics import Metric

WITHOUT_LABELS = ("default", "least_cost", "rate")  # families of rules that no label is fitted to


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
        The model with the score of its fold, which is optimistic if `is_fitted(family)`.

    Raises:
        InputError: see `nested.blend`.
    """
    metric = for_submission(metric, members, wants_labels)
    (single,) = list_candidates(members.names, metric, (), kind=members.kind)
    fitted = single.fit(members, np.arange(len(members.targets)), metric, seed)
    oof = fitted.predict(members.inputs)
    family, rule = _decide(members, metric, oof, rules)
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
        optimism=0.0,
        of_runs=None,
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


def is_fitted(family: str | None) -> bool:
    """Return whether rules of the family (None: no rule) are fitted to labels."""
    return family is not None and family not in WITHOUT_LABELS


def _decide(
    members: Members, metric: Metric, oof: np.ndarray, rules: Sequence[str] | None
) -> tuple[str | None, Rule | None]:
    """Return the family that needs no choice, and its rule for these rows; None, None without labels."""
    if metric.wants != "labels":
        return None, None
    kind = members.kind
    family = reference_family(metric, kind, choose_families(rules, metric, kind))
    if family == "default":
        return family, default_rule(kind, oof.shape[1])
    return family, fit_rule(metric, kind, members.targets, oof, family=family)
