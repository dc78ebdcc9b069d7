"""Blending, stacking and decision rules over out-of-fold predictions, honestly scored."""

from foldstack.ensemble.alone import decide_by_fold, one_fold
from foldstack.ensemble.blends import (
    OF_RANKS,
    BlendOptions,
    Greedy,
    PowerMean,
    ProbabilityMean,
    RankMean,
    Simplex,
    Single,
    WeightsPerLabel,
)
from foldstack.ensemble.candidates import (
    METHODS,
    list_candidates,
    load_fitted,
)
from foldstack.ensemble.decide import Rule, default_rule, fit_rule, reads_labels
from foldstack.ensemble.estimate import (
    Difference,
    Estimate,
    bootstrap,
    estimate,
    paired_difference,
)
from foldstack.ensemble.members import Candidate, Fitted, Inputs, Members, RunTests
from foldstack.ensemble.nested import (
    BlendResult,
    CandidateReport,
    RuleReport,
    blend,
    count_fits,
    single_estimate,
    single_predictions,
    submission_estimate,
)
from foldstack.ensemble.stacks import STACKS, Stack

__all__ = [
    "METHODS",
    "OF_RANKS",
    "STACKS",
    "BlendOptions",
    "BlendResult",
    "Candidate",
    "CandidateReport",
    "Difference",
    "Estimate",
    "Fitted",
    "Greedy",
    "Inputs",
    "Members",
    "PowerMean",
    "ProbabilityMean",
    "RankMean",
    "Rule",
    "RuleReport",
    "RunTests",
    "Simplex",
    "Single",
    "Stack",
    "WeightsPerLabel",
    "blend",
    "bootstrap",
    "count_fits",
    "decide_by_fold",
    "default_rule",
    "estimate",
    "fit_rule",
    "list_candidates",
    "load_fitted",
    "one_fold",
    "paired_difference",
    "reads_labels",
    "single_estimate",
    "single_predictions",
    "submission_estimate",
]
