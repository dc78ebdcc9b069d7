"""The metric."""

from __future__ import annotations

from foldstack import metrics
from foldstack.competition import FALSE, TRUE
from foldstack.competition_file import flow
from foldstack.costs import example
from foldstack.errors import InputError
from foldstack.guess.contents import distinct, is_numeric, sample_has_decimals
from foldstack.guess.given import GivenTables, Guess
from foldstack.guess.target_kind import is_own_metric
from foldstack.kinds import Kind

RARE = 0.2


def guess_metric(tables: GivenTables, found: Guess) -> None:
    kind = found.kind
    if "metric" in tables.given:
        name = tables.given["metric"]
        if name == "cost" and kind.has_labels:
            raise InputError(
                "METRIC=cost: what decisions cost cannot be guessed: leave METRIC out, and then set "
                f"`metric: cost` and `costs: {_costs(found)}` in competition.yaml, with your "
                "own numbers"
            )
        if not is_own_metric(name):  # a workspace's own is looked up there
            metrics.get(name, kind)
        return found.set("metric", name, "given by METRIC=")
    name, why = {
        Kind.BINARY: _binary_metric,
        Kind.MULTICLASS: _multiclass_metric,
        Kind.MULTILABEL: _multilabel_metric,
        Kind.REGRESSION: _regression_metric,
    }[kind](tables, found.settings)
    found.set("metric", name, f"{why}; METRIC= overrides")


def _costs(found: Guess) -> str:
    """Return an example of costs with the labels found."""
    if found.kind.several_labels_per_row:
        return example(Kind.MULTILABEL)
    first, *_, last = found.settings["labels"]
    return flow({first: {last: 1}, last: {first: 5}})


def _binary_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(tables.sample_columns) > 1:
        return "log_loss", "the sample has a column of probabilities for each class"
    placeholders = distinct(tables.sample[tables.sample_columns[0]])
    labels, target = settings["labels"], tables.train[settings["target"][0]]
    if not placeholders <= set(labels):
        return "roc_auc", "the sample holds no labels of train, so probabilities"
    if len(placeholders) == 1 and set(labels) <= TRUE | FALSE and is_numeric(labels):
        return "roc_auc", (
            f"the sample holds '{next(iter(placeholders))}' throughout, which does not distinguish "
            "labels from probabilities"
        )
    share = (target == labels[1]).mean()
    if share < RARE:
        return "f1", f"the sample holds labels, and '{labels[1]}' is rare ({share:.1%})"
    return "accuracy", f"the sample holds labels, and '{labels[1]}' is not rare ({share:.1%})"


def _multiclass_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(tables.sample_columns) > 1:
        return "log_loss", "the sample has a column of probabilities for each class"
    counts = tables.train[settings["target"][0]].value_counts()
    sizes = f"from {counts.min():,} to {counts.max():,} rows"
    if counts.max() <= 3 * counts.min():
        return "accuracy", f"the sample holds labels, and the classes are balanced ({sizes})"
    return "f1_macro", f"the sample holds labels, and the classes are not balanced ({sizes})"


def _multilabel_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if sample_has_decimals(tables):
        return "roc_auc", "the sample holds numbers with decimals, so probabilities"
    if "separator" in settings:
        return "f1_micro", "the sample holds labels, and train joins them in one column"
    return "f1_macro", "the sample holds 0 and 1 for each label"


def _regression_metric(tables: GivenTables, settings: dict) -> tuple[str, str]:
    if len(settings["target"]) > 1:
        return "mcrmse", "the mean over several targets of the root mean squared error"
    return "rmse", "the usual one for numbers"
