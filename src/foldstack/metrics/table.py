"""The table of metrics by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foldstack.metrics import confusion, rankings, values
from foldstack.metrics.metric import Scorer, mean_of_rows


@dataclass(frozen=True)
class Definition:
    """A line of the table of metrics: the attributes of `Metric`, and a scorer per kind."""

    wants: str
    scorers: dict[str, Scorer]
    bounds: tuple[float, float] = (0.0, 1.0)
    greater_is_better: bool = True
    top: int | None = None


def _averages(name: str) -> dict[str, Definition]:
    """Return the definitions of a metric of one class or label, by scikit-learn's averages."""
    one = confusion.AVERAGED[name]
    macro = {
        "binary": confusion.binary(f"{name}_macro"),
        "multiclass": confusion.macro_classes(one),
        "multilabel": confusion.macro_labels(one),
    }
    return {
        name: Definition("labels", {"binary": confusion.binary(name)}),
        f"{name}_micro": Definition(
            "labels", dict.fromkeys(("multiclass", "multilabel"), confusion.micro(one))
        ),
        f"{name}_macro": Definition("labels", macro),
        f"{name}_weighted": Definition(
            "labels", dict.fromkeys(("multiclass", "multilabel"), confusion.weighted(one))
        ),
        f"{name}_samples": Definition("labels", {"multilabel": confusion.samples(one)}),
    }


_POSITIVE, _SIGNED = (0.0, np.inf), (-1.0, 1.0)
METRICS: dict[str, Definition] = {
    "roc_auc": Definition(
        "ranking", dict.fromkeys(("binary", "multilabel"), rankings.macro(rankings.roc_auc_column))
    ),
    "roc_auc_ovr": Definition("ranking", {"multiclass": rankings.macro(rankings.roc_auc_column)}),
    "average_precision": Definition(
        "ranking",
        dict.fromkeys(("binary", "multilabel"), rankings.macro(rankings.average_precision_column)),
    ),
    "log_loss": Definition(
        "probability",
        {
            "binary": mean_of_rows(rankings.log_loss_columns),
            "multiclass": mean_of_rows(rankings.log_loss_classes),
            "multilabel": mean_of_rows(rankings.log_loss_columns),
        },
        _POSITIVE,
        greater_is_better=False,
    ),
    "accuracy": Definition(
        "labels",
        {
            "binary": confusion.binary("accuracy"),
            "multiclass": mean_of_rows(confusion.rows_right),
            "multilabel": mean_of_rows(confusion.rows_right),
        },
    ),
    "exact_match": Definition("labels", {"multilabel": mean_of_rows(confusion.rows_right)}),
    "balanced_accuracy": Definition(
        "labels",
        {
            "binary": confusion.binary("balanced_accuracy"),
            "multiclass": confusion.of_counts(confusion.balanced_accuracy),
        },
    ),
    **_averages("f1"),
    **_averages("precision"),
    **_averages("recall"),
    **_averages("jaccard"),
    # For labels plain `jaccard` is the mean over rows; an empty row counts as right.
    "jaccard": Definition(
        "labels",
        {"binary": confusion.binary("jaccard"), "multilabel": mean_of_rows(confusion.jaccard_rows)},
    ),
    "matthews": Definition(
        "labels",
        {"binary": confusion.binary("matthews"), "multiclass": confusion.matthews},
        _SIGNED,
    ),
    "quadratic_kappa": Definition(
        "labels",
        {"multiclass": confusion.quadratic_kappa, "regression": values.quadratic_kappa},
        _SIGNED,
    ),
    "cost": Definition(
        "labels",
        dict.fromkeys(("binary", "multiclass", "multilabel"), confusion.without_costs),
        _POSITIVE,
        greater_is_better=False,
    ),
    "rmse": Definition("value", {"regression": values.rmse}, _POSITIVE, greater_is_better=False),
    "rmsle": Definition("value", {"regression": values.rmsle}, _POSITIVE, greater_is_better=False),
    "mse": Definition("value", {"regression": values.mse}, _POSITIVE, greater_is_better=False),
    "mae": Definition("value", {"regression": values.mae}, _POSITIVE, greater_is_better=False),
    # The usual name of rmse for several columns: scikit-learn's is the mean over them, too.
    "mcrmse": Definition("value", {"regression": values.rmse}, _POSITIVE, greater_is_better=False),
    "r2": Definition(
        "value", {"regression": values.mean_of_varying(values.r2_column)}, (-np.inf, 1.0)
    ),
    "pearson": Definition(
        "value", {"regression": values.mean_of_varying(values.pearson_column)}, _SIGNED
    ),
    "spearman": Definition(
        "ranking", {"regression": values.mean_of_varying(values.spearman_column)}, _SIGNED
    ),
}


def _of_top(scorer: Callable[[int], Scorer]) -> Callable[[int], Definition]:
    return lambda top: Definition("probability", {"multiclass": scorer(top)}, top=top)


# Metrics named with a number, by a pattern that holds it: the labels that are submitted per row.
OF_TOP: dict[str, Callable[[int], Definition]] = {
    r"map_at_([1-9]\d*)": _of_top(rankings.mean_reciprocal_rank),
    r"top_([1-9]\d*)_accuracy": _of_top(rankings.top_accuracy),
}
