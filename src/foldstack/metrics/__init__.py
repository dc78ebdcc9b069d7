"""Metrics by scikit-learn's scorer names, over arrays of one shape for every kind of target.

Targets and predictions are always (n, outputs): one 0/1 column for binary, one-hot rows for
multiclass, one 0/1 column per label for multilabel, numbers for regression. The definitions are
scikit-learn's, with zero_division=0; unlike there, an undefined score (a ranking of one class only)
is nan without a warning, since it is common in bootstraps. They are implemented here, and tested
against scikit-learn, for two reasons: bootstraps score thousands of times, and the threshold search
needs metrics of decisions for all thresholds at once, by the definition that scores them afterwards.

A user's own metric is a function in the workspace's metrics.py, named `metrics.py:NAME`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from foldstack.costs import Costs
from foldstack.errors import InputError, nearest
from foldstack.kinds import Kind
from foldstack.metrics.confusion import AVERAGED, FROM_COUNTS, Counted, cost_metric, from_counts
from foldstack.metrics.metric import Metric, OfSums
from foldstack.metrics.names import ALIASES, canonical, definition, listed, names_for
from foldstack.metrics.own import own_metric
from foldstack.metrics.table import METRICS
from foldstack.metrics.trial import defined_columns, try_on

__all__ = [
    "AVERAGED",
    "FROM_COUNTS",
    "METRICS",
    "Counted",
    "Metric",
    "OfSums",
    "canonical",
    "defined_columns",
    "from_counts",
    "get",
    "listed",
    "try_on",
]


def get(name: str, kind: Kind, root: Path | None = None, costs: Costs | None = None) -> Metric:
    """Return the metric `name` for targets of `kind`.

    `metrics.py:NAME` is the function NAME in the file metrics.py of the workspace `root`. Here,
    and nowhere else, code of the user is executed, since the user has named it. The function is

        def NAME(targets, predictions) -> float

    or has a third parameter `weights`, (n,) numbers of 0 or more. Further parameters without a default
    are columns of the rows by their names, see `Metric.given`. Its arrays are copies, (n,) if
    there is one output, else (n, outputs), with targets and decisions as everywhere in this module.
    Without `weights` it gets each row as often as its weight, so that bootstraps work. It returns
    nan if a score is undefined on these rows. Two attributes may describe it: `NAME.wants`, as in
    `Metric` (default: 'value' for regression, otherwise 'probability'), and
    `NAME.greater_is_better = False`.

    Args:
        name: a name of `METRICS`, or one that others use for it (`names.ALIASES`), map_at_K,
            top_K_accuracy, or metrics.py:NAME.
        kind: 'binary', 'multiclass', 'multilabel' or 'regression'.
        root: the workspace, for metrics.py:NAME only.
        costs: of decisions, for `cost` only; see `foldstack.costs.cost_table`.

    Returns:
        The metric.

    Raises:
        InputError: the name is unknown, or the metric is not defined for this kind; it is `cost`
            without costs; metrics.py is missing or does not import, or the function is missing or
            not as above.
        ValueError: metrics.py:NAME without a root.
    """
    kind = Kind(kind)
    if ".py" in name or ":" in name:
        return own_metric(name, kind, root)
    given, name = name, canonical(name, kind)
    of = definition(name)
    if of is None:
        own = [*names_for(kind)]
        if not difflib.get_close_matches(name, own):  # then perhaps what others call one
            own += [alias for alias, of in ALIASES.items() if {*of} & {*own}]
        raise InputError(f"metric '{name}' is not known: {nearest(name, own)}")
    if kind not in of.scorers:
        meant = "" if given == name else f" ('{name}')"
        raise InputError(
            f"metric '{given}'{meant} does not fit kind '{kind}' (it is for {', '.join(of.scorers)}): "
            f"choose one of {', '.join(names_for(kind))}"
        )
    kinds = frozenset(of.scorers)
    if name == "cost":
        return cost_metric(kind, kinds, costs)
    scorer = of.scorers[kind]
    return Metric(name, kinds, of.wants, of.greater_is_better, of.bounds, scorer, top=of.top)
