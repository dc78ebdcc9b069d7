"""The metric: what the target and the sample suggest, and what it may be instead."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from foldstack import metrics
from foldstack.competition_file import flow
from foldstack.costs import example
from foldstack.errors import InputError
from foldstack.guess.contents import distinct, is_numeric, sample_has_decimals
from foldstack.guess.given import GivenTables, Guess
from foldstack.guess.target_kind import is_own_metric
from foldstack.kinds import Kind
from foldstack.labels import FALSE, TRUE, labels_per_cell, value_of

RARE = 0.2
EVEN = 0.435  # the share of the rarer of two labels from which on accuracy is the usual metric
UNEVEN = 20  # times as many rows of a class as of another, from which on it is not
GRADES = range(4, 11)  # the number of levels of grades: 1 to 6, say
SEVERAL_RATINGS = 6  # targets of 0 to 1
SKEWED = 1.0  # the skewness of non-negative numbers from which on relative errors may count


USUAL = {
    Kind.BINARY: ("roc_auc", "log_loss", "f1", "accuracy"),
    Kind.MULTICLASS: ("log_loss", "accuracy", "f1_macro", "quadratic_kappa"),
    Kind.MULTILABEL: ("roc_auc", "log_loss", "f1_macro", "f1_micro"),
    Kind.REGRESSION: ("rmse", "mae", "spearman", "pearson"),
}


@dataclass(frozen=True)
class MetricChoice:
    """A metric, why, and those that files of this form have as well; certain without any."""

    metric: str
    why: str
    instead: tuple[str, ...] = ()


def guess_metric(tables: GivenTables, found: Guess) -> None:
    """Set the metric; propose to confirm it if the files fit others too."""
    if "metric" in tables.given:
        return _set_given(found, tables.given["metric"])
    choice = {
        Kind.BINARY: _binary,
        Kind.MULTICLASS: _multiclass,
        Kind.MULTILABEL: _multilabel,
        Kind.REGRESSION: _regression,
    }[found.kind](tables, found)
    if tables.made_sample:
        others = tuple(name for name in USUAL[found.kind] if name != choice.metric)
        why = "there is no sample that would show what is scored"
        choice = MetricChoice(choice.metric, why, others)
    found.set("metric", choice.metric, f"{choice.why}; METRIC= overrides")
    if choice.instead:
        found.settings["metric_confirmed"] = False
        found.propose(
            "metric",
            choice.metric,
            f"{choice.metric} is a guess, {_or(choice.instead)} would fit as well; the competition's "
            f"page says which: give {tables.again(metric='NAME')}; METRIC={choice.metric} confirms it",
        )


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _set_given(found: Guess, name: str) -> None:
    kind = found.kind
    if name == "cost" and kind.has_labels:
        raise InputError(
            "METRIC=cost: what decisions cost cannot be guessed: leave METRIC out, and then set "
            f"`metric: cost` and `costs: {_costs(found)}` in competition.yaml, with your "
            "own numbers"
        )
    if not is_own_metric(name):  # a workspace's own is looked up there
        name = metrics.get(name, kind).name
    found.set("metric", name, "given by METRIC=")


def _costs(found: Guess) -> str:
    """Return an example of costs with the labels found."""
    if found.kind.several_labels_per_row:
        return example(Kind.MULTILABEL)
    settings = found.settings
    first, *_, last = settings.get("labels", settings["target"])
    return flow({first: {last: 1}, last: {first: 5}})


def _binary(tables: GivenTables, found: Guess) -> MetricChoice:
    settings = found.settings
    if len(tables.sample_columns) > 1:
        return MetricChoice("log_loss", "the sample has a column of probabilities for each class")
    placeholders = distinct(tables.sample[tables.sample_columns[0]])
    labels = settings.get("labels", ())
    if not _are_labels(placeholders, labels):
        why = "the sample holds no labels of train, so probabilities"
        zeros = {value_of(value) for value in placeholders} == {0.0}
        return MetricChoice("roc_auc", why, ("log_loss", *(("f1", "accuracy") if zeros else ())))
    share = _share(tables.train[settings["target"][0]], labels[1])
    if len(placeholders) == 1 and set(labels) <= TRUE | FALSE:
        return _binary_of_placeholder(next(iter(placeholders)), labels, share)
    if share < RARE:
        why = f"the sample holds labels, and '{labels[1]}' is rare ({share:.1%})"
        return MetricChoice("f1", why, ("accuracy",))
    why = f"the sample holds labels, and '{labels[1]}' is not rare ({share:.1%})"
    return MetricChoice("accuracy", why, ("f1",))


def _share(column: pd.Series, label: str) -> float:
    counts = column.value_counts(normalize=True)
    return sum(share for value, share in counts.items() if value_of(value) == value_of(label))


def _are_labels(placeholders: set[str], labels: tuple[str, ...]) -> bool:
    """Return whether the sample holds labels; 0 is one for 0.0, but 0.0 a probability beside 0."""
    if placeholders <= set(labels):
        return True
    known = {value_of(label) for label in labels}
    return all("." not in v and value_of(v) in known for v in placeholders)


def _binary_of_placeholder(value: str, labels: tuple[str, str], share: float) -> MetricChoice:
    """Return the metric if one of 0 and 1 fills the sample."""
    why = f"the sample holds '{value}' throughout"
    if value_of(value) == value_of(labels[1]):
        return MetricChoice("log_loss", f"{why}, no usual label", ("roc_auc", "accuracy", "f1"))
    even = f"'{labels[1]}' has {share:.1%} of the rows"
    if EVEN <= share <= 1 - EVEN:
        return MetricChoice("accuracy", f"{why}, and {even}", ("f1", "roc_auc", "log_loss"))
    return MetricChoice("f1", f"{why}, and {even}", ("accuracy", "roc_auc", "log_loss"))


def _multiclass(tables: GivenTables, found: Guess) -> MetricChoice:
    settings = found.settings
    if len(tables.sample_columns) > 1:
        return MetricChoice("log_loss", "the sample has a column of probabilities for each class")
    column = tables.train[settings["target"][0]]
    top = labels_per_cell(tables.sample[tables.sample_columns[0]], settings.get("labels", ()))
    if top > 1:
        why = f"a cell of the sample holds {top} labels joined by spaces"
        return MetricChoice(f"map_at_{top}", why, (f"top_{top}_accuracy",))
    counts = column.value_counts()
    if _grades(counts):
        first, *_, last = sorted(counts.index, key=float)
        why = f"whole numbers from {first} to {last}, those between the most frequent: grades"
        return MetricChoice("quadratic_kappa", why, ("accuracy", "f1_macro"))
    low, high = f"{counts.min():,}", f"{counts.max():,}"
    sizes = f"classes of {low} rows each" if low == high else f"classes of {low} to {high} rows"
    if counts.max() > UNEVEN * counts.min():
        return MetricChoice("f1_macro", f"the sample holds labels, {sizes}", ("accuracy",))
    return MetricChoice("accuracy", f"the sample holds labels, {sizes}", ("f1_macro",))


def _grades(counts: pd.Series) -> bool:
    """Return whether labels are 1, 2, 3 … whose frequencies rise to one level and fall from it."""
    if not is_numeric(counts.index) or len(counts) not in GRADES:
        return False
    ordered = sorted((float(label), count) for label, count in counts.items())
    if [level for level, _ in ordered] != list(range(1, len(ordered) + 1)):
        return False
    rows = [count for _, count in ordered]
    peak = rows.index(max(rows))
    one_peak = rows[: peak + 1] == sorted(rows[: peak + 1]) and rows[peak:] == sorted(
        rows[peak:], reverse=True
    )
    return one_peak and max(rows) > 2 * min(rows)


def _multilabel(tables: GivenTables, found: Guess) -> MetricChoice:
    settings = found.settings
    if sample_has_decimals(tables):
        why = "the sample holds numbers with decimals, so probabilities"
        return MetricChoice("roc_auc", why, ("log_loss", "average_precision"))
    if "separator" in settings:
        why = "the sample holds labels, and train joins them in one column"
        return MetricChoice("f1_micro", why, ("f1_macro", "f1_samples"))
    return MetricChoice(
        "f1_macro", "the sample holds 0 and 1 for each label", ("f1_micro", "roc_auc")
    )


def _regression(tables: GivenTables, found: Guess) -> MetricChoice:
    settings, target = found.settings, found.settings["target"]
    numbers = tables.train[list(target)].apply(pd.to_numeric, errors="coerce")
    of_0_to_1 = numbers.min().min() >= 0 and numbers.max().max() <= 1
    if len(target) >= SEVERAL_RATINGS and of_0_to_1:
        return MetricChoice(
            "spearman", f"{len(target)} targets of 0 to 1, whose order counts", ("mcrmse",)
        )
    if len(target) > 1:
        why = "the mean over several targets of the root mean squared error"
        return MetricChoice("mcrmse", why, ("mae", "spearman"))
    if found.symmetric or (of_0_to_1 and ("pair" in settings or "segments" in settings)):
        return MetricChoice("pearson", "how alike two texts are", ("spearman", "rmse"))
    if of_0_to_1 and sample_has_decimals(tables):
        return MetricChoice("rmse", "the usual one for numbers", ("roc_auc", "log_loss", "mae"))
    if numbers.min().min() >= 0 and numbers.skew().iloc[0] > SKEWED:
        why = "the usual one for numbers"
        return MetricChoice("rmse", why, ("rmsle", "mae", "spearman", "pearson"))
    return MetricChoice("rmse", "the usual one for numbers", ("mae", "spearman", "pearson"))
